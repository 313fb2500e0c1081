"""Words, tables and charts of voice and crisis."""

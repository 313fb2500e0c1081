"""Words, tables and charts of the funnel diagnosis."""

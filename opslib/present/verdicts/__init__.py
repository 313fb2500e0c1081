"""The words, tables and charts of verdicts on initiatives."""

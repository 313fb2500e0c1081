"""The quarterly review for people: charts, tables, words."""

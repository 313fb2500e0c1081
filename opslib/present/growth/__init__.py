"""The growth model for people: charts, tables, words."""

"""Metrics as series over days, weeks or months: what rules watch and a review compares."""

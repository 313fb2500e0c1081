"""Any metric of the playbook as a series, read from a company's data."""

from opslib.decide.series.reader import SeriesReader, open_reader

__all__ = ["SeriesReader", "open_reader"]

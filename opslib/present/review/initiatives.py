"""The review's initiatives: the charts and tables of verdicts, for its own."""

from __future__ import annotations

from opslib.decide.review.review import QuarterlyReview
from opslib.present.display import ChartView, ListView, TableView
from opslib.present.verdicts import charts, tables

__all__ = ["plot_effects", "show_looks", "show_register"]


def plot_effects(review: QuarterlyReview) -> ChartView | ListView:
    """What each initiative did to its core metric, with intervals."""
    return charts.plot_effects(review.operations.verdicts)


def show_looks(review: QuarterlyReview) -> TableView | ListView:
    """The three looks at each initiative."""
    return tables.show_looks(review.operations.verdicts)


def show_register(review: QuarterlyReview) -> TableView | ListView:
    """The register: what was promised, what came, and what is still to come."""
    return tables.show_register(review.operations.forecasts, currency=review.currency)

"""Series of the site's traffic: requests, errors and how slow it is. They know no users."""

from __future__ import annotations

import ibis
import ibis.expr.types as ir
import numpy as np
import pandas as pd

from opslib.measure.series.activity import find_binomial_error
from opslib.measure.series.grid import Grid, make_series
from opslib.measure.series.series import MetricSeries


def count_traffic(traffic: ir.Table, grid: Grid) -> pd.DataFrame:
    """Sum up the intervals of each day.

    Args:
        traffic: day, requests; errors and p95_ms where there are such; one row an interval.
        grid: by day.

    Returns:
        requests; errors and tried (requests of intervals with errors known); weight, weight_squares (of requests of
        intervals with p95_ms known), slow (weight times p95_ms), slow_squares (weight squared times p95_ms squared) and
        slow_weight_squares (weight squared times p95_ms).
    """
    inside = grid.clip(traffic)
    requests = inside.requests.fill_null(0).cast("float64")
    columns = {"requests": requests.sum()}
    if "errors" in inside.columns:
        known = inside.errors.notnull()
        columns |= {"errors": inside.errors.sum().cast("float64"), "tried": ibis.ifelse(known, requests, 0.0).sum()}
    if "p95_ms" in inside.columns:
        slow = inside.p95_ms.cast("float64").fill_null(0.0)
        weight = ibis.ifelse(inside.p95_ms.notnull(), requests, 0.0)
        columns |= {
            "weight": weight.sum(),
            "weight_squares": (weight * weight).sum(),
            "slow": (weight * slow).sum(),
            "slow_squares": (weight * weight * slow * slow).sum(),
            "slow_weight_squares": (weight * weight * slow).sum(),
        }
    return grid.count(inside, **columns)


def make_requests(traffic: pd.DataFrame, grid: Grid, gaps: np.ndarray) -> MetricSeries:
    """Requests of a period. The standard error is Poisson's, far too small: requests come in bursts."""
    top = grid.roll_up(traffic)["requests"].to_numpy()
    return make_series(
        grid,
        "requests_count",
        unit="count",
        kind="count",
        numerator=top,
        denominator=np.ones(len(top)),
        error=np.sqrt(top),
        gaps=gaps,
        is_sum=True,
    )


def make_error_rate(traffic: pd.DataFrame, grid: Grid, gaps: np.ndarray) -> MetricSeries:
    """Share of a period's requests that failed.

    The standard error is binomial, far too small over millions of requests that fail together: whoever judges the
    series estimates from it how much more than that it scatters.
    """
    rolled = grid.roll_up(traffic)
    below = rolled["tried"].to_numpy()
    top = np.minimum(rolled["errors"].to_numpy(), below)
    error = find_binomial_error(top, below)
    return make_series(
        grid, "error_rate", unit="rate", kind="rate", numerator=top, denominator=below, error=error, gaps=gaps
    )


def make_p95(traffic: pd.DataFrame, grid: Grid, gaps: np.ndarray) -> MetricSeries:
    """Mean of a period's intervals of the time within which 95 of 100 requests were served, weighted by requests.

    The numerator is requests times milliseconds. The standard error is that of a weighted mean of independent
    intervals; neighbouring intervals are alike, so it is too small.
    """
    rolled = grid.roll_up(traffic)
    top, below = rolled["slow"].to_numpy(), rolled["weight"].to_numpy()
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = top / below
        spread = rolled["slow_squares"] - 2 * mean * rolled["slow_weight_squares"] + mean**2 * rolled["weight_squares"]
        error = np.sqrt(np.maximum(spread.to_numpy(), 0)) / below
    return make_series(
        grid,
        "p95_ms_mean",
        unit="ratio",
        kind="mean",
        numerator=top,
        denominator=below,
        error=error,
        gaps=gaps,
        few=below <= 0,
    )

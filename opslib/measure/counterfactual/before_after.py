"""A daily series before and after a date: as many whole weeks on both sides, told and never proven."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from opslib.language import mark, say
from opslib.measure.counterfactual.weeks import collect_weeks
from opslib.measure.estimate import Estimate, Unit, estimate_count, estimate_rate, quantile
from opslib.measure.experiment.before_after import BeforeAfterResult, compare_before_after
from opslib.measure.series.series import SeriesKind

# Half a year on each side: longer, and nothing is left that it could be told by.
MOST_WEEKS = 26
# From so many weeks a side on, it is seen whether neighbouring weeks are alike.
FEWEST_FOR_LIKENESS = 4
NOT_KNOWN = mark("not enough data: no whole week is known on both sides")


def compare_series(
    frame: pd.DataFrame,
    *,
    start: dt.date,
    last_day: dt.date | None = None,
    name: str = "value",
    unit: Unit = "ratio",
    kind: SeriesKind = "mean",
    most_weeks: int = MOST_WEEKS,
) -> BeforeAfterResult:
    """Compare a daily series before and after a date, without a control.

    Args:
        frame: period_start; value, or numerator and denominator; status, standard_error where known (as
            `MetricSeries.frame`, one group).
        start: the first day after. Whole weeks counted from it, as many before as after, so that every weekday is in
            both as often.
        last_day: later days are left out.
        name, unit: how the estimates are called.
        kind: how chance makes the values vary, see `MetricSeries`.
        most_weeks: at most so many on each side, those nearest to the start.

    Returns:
        A `BeforeAfterResult`, as for single estimates. The interval of each side is the wider of chance among users and
        of what weeks differ by among themselves (neighbouring weeks may be alike). The usual change comes from periods
        of the same length before these.

    Raises:
        InputError: a column is missing, or a day comes twice.

    >>> days = pd.date_range("2026-01-05", periods=84)
    >>> paid = pd.DataFrame({"period_start": days, "numerator": [30] * 42 + [45] * 42, "denominator": 100})
    >>> result = compare_series(paid, start=dt.date(2026, 2, 16), name="paying_rate", unit="rate", kind="rate")
    >>> round(result.change.difference, 3), result.verdict, result.evidence, result.change.now.denominator
    (0.15, 'moved', 'descriptive', 4200.0)
    """
    weeks = collect_weeks(frame, start=start, last_day=last_day, pooled=True)
    near = weeks.drop_unknown()
    count = min(int((near.values.index < 0).sum()), int((near.values.index >= 0).sum()), most_weeks)
    if not count:
        missing = Estimate(name, None, 0, 0, None, None, "none", unit, note=say(NOT_KNOWN))
        return compare_before_after(missing, missing)
    table = pd.DataFrame({c: getattr(near, c)["pooled"] for c in ("values", "top", "bottom")})
    table["error"] = _sum_errors(frame, start, last_day).reindex(table.index) / table["bottom"]
    blocks = [table[(table.index >= i * count) & (table.index < (i + 1) * count)] for i in range(-len(table), 1)]
    blocks = [b for b in blocks if len(b) == count]
    scatter, freedom = _find_scatter([b["values"].to_numpy() for b in blocks], count)
    estimates = [_estimate(b, name, unit, kind, scatter / math.sqrt(count), freedom) for b in blocks]
    *earlier, before, after = estimates
    return compare_before_after(before, after, earlier=earlier)


def _sum_errors(frame: pd.DataFrame, start: dt.date, last_day: dt.date | None) -> pd.Series:
    """The standard error of each week's numerator, from those of its days."""
    if "standard_error" not in frame.columns:
        return pd.Series(dtype=float)
    size = frame["denominator"].astype(float) if "denominator" in frame.columns else 1.0
    square = (frame["standard_error"].astype(float) * size) ** 2
    keep = ["period_start", *(["status"] if "status" in frame.columns else [])]
    sums = collect_weeks(frame[keep].assign(value=square), start=start, last_day=last_day, pooled=True)
    return np.sqrt(sums.top["pooled"]) if len(sums.top) else pd.Series(dtype=float)


def _find_scatter(blocks: Sequence[np.ndarray], count: int) -> tuple[float, int]:
    """By how much single weeks scatter within a block, enlarged for neighbours being alike; and degrees of freedom."""
    if count < FEWEST_FOR_LIKENESS:
        # Too short to have a level of their own: by the steps from week to week.
        steps = np.diff(np.concatenate(list(blocks)))
        return (math.sqrt(float((steps**2).mean()) / 2), len(steps)) if len(steps) > 1 else (0.0, 1)
    left = [b - b.mean() for b in blocks]
    total = sum(float(r @ r) for r in left)
    freedom = len(blocks) * (count - 1)
    if total <= 0:
        return 0.0, freedom
    alike = float(np.clip(sum(float(r[1:] @ r[:-1]) for r in left) / total, 0, 0.9))
    return math.sqrt(total / freedom * (1 + alike) / (1 - alike)), freedom


def _estimate(block: pd.DataFrame, name: str, unit: Unit, kind: SeriesKind, error: float, freedom: int) -> Estimate:
    top, bottom = float(block["top"].sum()), float(block["bottom"].sum())
    if kind == "rate":
        found = estimate_rate(name, top, bottom)
    elif kind == "count":
        found = replace(estimate_count(name, top, per=bottom), unit=unit)
    else:
        half = quantile() * math.sqrt(float((block["error"].fillna(0) * block["bottom"]).pow(2).sum())) / bottom
        found = Estimate(name, top / bottom, top, bottom, top / bottom - half, top / bottom + half, "normal", unit)
    if found.value is None or found.low is None or found.high is None:
        return found
    from scipy.special import stdtrit

    half = error * float(stdtrit(freedom, 0.975))
    if half <= (found.high - found.low) / 2:
        return found
    return replace(found, low=found.value - half, high=found.value + half, method="scatter of weeks")

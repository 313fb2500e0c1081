"""How long a funnel takes: quantiles and a histogram of the time to convert, and the curve for open windows."""

from __future__ import annotations

import datetime as dt
import math
from typing import Any

import ibis
import ibis.expr.types as ir
import numpy as np
import pandas as pd

from opslib.measure.estimate import quantile
from opslib.measure.funnel.chain import name_arrival
from opslib.measure.funnel.steps import Funnel

QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)
DAY_MICROSECONDS = 86_400_000_000
_MINUTE = 1 / 1440
# Where the histogram's bars end, in days: a minute, five, a quarter, a half, 1 to 12 hours, 1 to 180 days.
EDGES = (_MINUTE, 5 * _MINUTE, 15 * _MINUTE, 30 * _MINUTE, 1 / 24, 2 / 24, 6 / 24, 0.5, 1, 2, 3, 7, 14, 30, 60, 90, 180)


def measure_times(outcomes: ir.Table, funnel: Funnel) -> pd.DataFrame:
    """Time since the entry and since the step before, for each step after the first.

    Returns:
        step, event, since ("entry" or "previous"), converted_count, mean_days, p10_days ... p90_days; missing where
        nobody got there.
    """
    parts: dict[str, Any] = {}
    index = []
    for i in range(1, len(funnel.steps)):
        for since in ("entry", "previous"):
            start = outcomes.s1 if since == "entry" else outcomes[name_arrival(i)]
            days = _to_days(funnel.floor(outcomes[name_arrival(i + 1)]) - funnel.floor(start), funnel)
            head = f"{i + 1}_{since}"
            parts |= {f"{head}_n": days.count(), f"{head}_mean": days.mean()}
            parts[f"{head}_quantiles"] = days.quantile(list(QUANTILES))
            index.append((i + 1, funnel.steps[i].label, since, head))
    columns = [
        "step",
        "event",
        "since",
        "converted_count",
        "mean_days",
        *(f"p{round(q * 100)}_days" for q in QUANTILES),
    ]
    if not index:
        return pd.DataFrame(columns=columns)
    found = outcomes.aggregate(**parts).to_pandas().iloc[0]
    rows = []
    for step, label, since, head in index:
        known = int(found[f"{head}_n"])
        rest = [found[f"{head}_mean"], *found[f"{head}_quantiles"]] if known else [None] * (1 + len(QUANTILES))
        rows.append([step, label, since, known, *rest])
    frame = pd.DataFrame(rows, columns=columns)
    return frame.astype(dict.fromkeys(columns[4:], "float64"))


def measure_histogram(outcomes: ir.Table, funnel: Funnel) -> pd.DataFrame:
    """Units by time from entry to the last step.

    Returns:
        from_days, to_days (not included, but of the last bar), converted_count, converted_rate (of all who converted).
    """
    whole = funnel.window / dt.timedelta(days=1)
    edges = [0.0, *(e for e in EDGES if e < whole), whole]
    last = outcomes[name_arrival(len(funnel.steps))]
    done = outcomes.filter(last.notnull())
    days = _to_days(funnel.floor(done[last.get_name()]) - funnel.floor(done.s1), funnel)
    # The first case never happens: there is one even where the window has a single bar.
    bar = ibis.cases((days < 0, 0), *((days < e, i) for i, e in enumerate(edges[1:-1])), else_=len(edges) - 2)
    counts = done.group_by(bar=bar).aggregate(units=lambda t: t.count()).to_pandas()
    found = counts.set_index("bar")["units"].reindex(range(len(edges) - 1), fill_value=0).astype("int64")
    total = int(found.sum())
    rate = found / total if total else pd.Series(np.nan, index=found.index)
    return pd.DataFrame(
        {"from_days": edges[:-1], "to_days": edges[1:], "converted_count": found, "converted_rate": rate}
    ).reset_index(drop=True)


def _to_days(span: Any, funnel: Funnel) -> Any:
    return span.cast("float64") / float(funnel.scale * DAY_MICROSECONDS)


def count_durations(outcomes: ir.Table, funnel: Funnel, resolution: dt.timedelta) -> pd.DataFrame:
    """First entries by time to the last step, or by how long they could be watched without it.

    Returns:
        bar (number of the resolution), converted, censored.
    """
    step = funnel.length(resolution)
    last = outcomes[name_arrival(len(funnel.steps))]
    known = funnel.to_key(funnel.known_until) - funnel.floor(outcomes.s1)
    watched = ibis.least(known, funnel.length(funnel.window) + funnel.scale)
    span = ibis.coalesce(funnel.floor(last) - funnel.floor(outcomes.s1), watched)
    counted = outcomes.group_by(bar=span // step, done=last.notnull()).aggregate(units=lambda t: t.count()).to_pandas()
    wide = {
        name: counted[counted["done"] == flag].set_index("bar")["units"]
        for name, flag in (("converted", True), ("censored", False))
    }
    return pd.DataFrame(wide).fillna(0).astype("int64").sort_index().rename_axis("bar").reset_index()


def estimate_curve(converted: Any, censored: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Kaplan-Meier's share converted after each interval, with intervals on the log-log scale.

    Args:
        converted, censored: counts by interval, in order of time; who is censored in an interval is at risk in it.

    Returns:
        At risk, share converted, low, high.

    Source: Kaplan and Meier (1958); Greenwood's variance; Kalbfleisch and Prentice (1980) for the log-log interval.

    >>> _, rate, _, _ = estimate_curve([1, 0, 1], [0, 1, 1])
    >>> rate.round(3).tolist()
    [0.25, 0.25, 0.625]
    """
    done, gone = np.asarray(converted, dtype=float), np.asarray(censored, dtype=float)
    risk = (done + gone)[::-1].cumsum()[::-1]
    with np.errstate(divide="ignore", invalid="ignore"):
        left = np.cumprod(np.where(risk > 0, 1 - done / risk, 1.0))
        variance = np.cumsum(np.where(risk > done, done / (risk * (risk - done)), 0.0))
        half = quantile() * np.sqrt(variance) / np.abs(np.log(left))
        high = 1 - left ** np.exp(half)
        low = 1 - left ** np.exp(-half)
    sure = (left < 1) & (left > 0)
    low, high = np.where(sure, low, np.nan), np.where(sure, high, np.nan)
    return risk, 1 - left, low, high


def choose_resolution(window: dt.timedelta) -> dt.timedelta:
    """Fine enough that a curve has up to about a thousand points: seconds, minutes, hours or days."""
    seconds = window.total_seconds()
    step = next((s for s in (1, 60, 3600, 86_400) if seconds / s <= 1000), 86_400 * max(1, math.ceil(seconds / 8.64e7)))
    return dt.timedelta(seconds=step)

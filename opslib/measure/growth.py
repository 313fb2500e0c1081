"""Growth accounting: where the active users of each period came from, and how many went."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import ibis
import ibis.expr.types as ir
import numpy as np
import pandas as pd

from opslib.data.engines.capabilities import find_capabilities
from opslib.data.periods import Calendar, Period
from opslib.measure.activity import (
    MONTH_DAYS,
    STICKINESS_DAYS,
    WEEK_DAYS,
    ActivityResult,
    measure_activity,
    measure_stickiness,
    sort_segments,
)
from opslib.measure.estimate import to_plain_record
from opslib.measure.grains import Grain, floor_day, index_days, index_times, list_starts, truncate_day

__all__ = [
    "MONTH_DAYS",
    "STICKINESS_DAYS",
    "WEEK_DAYS",
    "ActivityResult",
    "Grain",
    "GrowthAccountingResult",
    "account_growth",
    "floor_day",
    "measure_activity",
    "measure_stickiness",
    "truncate_day",
]

# Periods in one 64-bit number, with room to shift by one.
MASK_BITS = 60
# With more periods than this, masks cost more than a row a user and period.
MOST_MASKED_PERIODS = 4 * MASK_BITS


@dataclass(frozen=True)
class GrowthAccountingResult:
    """Where the active users of each period came from, and who went.

    Attributes:
        grain: day, week, month or quarter.
        periods: period_start, opening_count, new_count, resurrected_count, churned_count, closing_count,
            retained_count, quick_ratio, complete; opening + new + resurrected - churned = closing, to the integer.
            With `by`, segment is the first column, and the segments add up to everybody.
    """

    grain: Grain
    periods: pd.DataFrame

    def findings(self) -> list[dict[str, Any]]:
        """One flat record a complete period."""
        rows = (
            self.periods[self.periods["complete"]].drop(columns="complete").rename(columns={"period_start": "period"})
        )
        return [{"name": "growth_accounting", **to_plain_record(row)} for row in rows.to_dict("records")]


def account_growth(
    active_days: ir.Table,
    span: Period,
    *,
    grain: Grain = "week",
    week_start: int = 0,
    calendar: Calendar | None = None,
    by: str | None = None,
) -> GrowthAccountingResult:
    """Account for growth: opening + new + resurrected - churned = closing in every period.

    Args:
        active_days: user_id, day; all days since the beginning, or old users would look new. Rows may repeat.
        span: the days that the data cover; periods not wholly inside are marked incomplete. Earlier days are left out.
        grain: length of a period.
        week_start: 0 for Monday to 6 for Sunday.
        calendar: the company's clock; with it the table holds user_id and ts (UTC), for example events, and need not be
            turned into days first.
        by: a column of the table that says in which segment a user is, as `label_segments` gives it.

    Returns:
        A `GrowthAccountingResult`, one row a period (and segment) from the first to the last, also empty ones.

    A user is new in the first period ever active, retained when active in this and the period before, resurrected when
    active now and earlier but not in the period before, churned in a period when active in the one before but not
    in it.

    Source: Social Capital, "Diligence at Social Capital, part 1: accounting for user growth" (2016).

    >>> days = ibis.memtable({"user_id": [1, 1, 2], "day": [dt.date(2026, 1, d) for d in (5, 12, 5)]})
    >>> result = account_growth(days, Period(dt.date(2026, 1, 5), dt.date(2026, 1, 19), "two weeks"))
    >>> result.periods[["new_count", "retained_count", "churned_count"]].to_numpy().tolist()
    [[2, 0, 0], [0, 1, 1]]
    """
    *starts, end = list_starts(span, grain, week_start)
    if calendar is None:
        at = index_days(active_days.day, starts[0], grain)
        inside = active_days.day < span.end
    else:
        at = index_times(active_days.ts, starts[0], grain, calendar)
        inside = active_days.ts < ibis.timestamp(calendar.day_start(span.end))
    keys = [by] if by else []
    placed = active_days.filter(inside).select("user_id", *keys, at=at)
    masked = len(starts) <= MOST_MASKED_PERIODS and find_capabilities(active_days).bit_masks
    count = _count_masks if masked else _count_rows
    segments = count(placed, len(starts), keys)
    if not by:
        counts = segments.get((), np.zeros((3, len(starts)), dtype=int))
        return GrowthAccountingResult(grain, _balance(counts, [*starts, end], span))
    sizes = pd.DataFrame({"segment": [k[0] for k in segments], "users": [c[2].sum() for c in segments.values()]})
    names = sort_segments(sizes, "users")["segment"].tolist()
    frames = [_balance(segments[(name,)], [*starts, end], span) for name in names]
    for name, frame in zip(names, frames, strict=True):
        frame.insert(0, "segment", name)
    empty = _balance(np.zeros((3, 0), dtype=int), [end], span).assign(segment="")
    return GrowthAccountingResult(grain, pd.concat(frames, ignore_index=True) if frames else empty)


def _count_masks(placed: ir.Table, number: int, keys: Sequence[str]) -> dict[tuple[Any, ...], np.ndarray]:
    """Active, retained and new users of each period: a bit a period for every user, then bits counted.

    What is kept of a user while rows stream by is a number or two, not a set of periods: nothing is sorted or spilled.
    """
    one, nothing = ibis.literal(1, "int64"), ibis.literal(0, "int64")
    blocks = range(-(-number // MASK_BITS))
    masks = {}
    for block in blocks:
        bit = placed.at - block * MASK_BITS if block else placed.at
        masks[f"active{block}"] = ibis.ifelse(bit.between(0, MASK_BITS - 1), one << bit, nothing).bit_or()
    users = placed.group_by("user_id", *keys).aggregate(**masks)
    seen: Any = ibis.literal(False)
    columns: dict[str, Any] = {}
    for block in blocks:
        active = users[f"active{block}"]
        before = (active << 1) & ((1 << MASK_BITS) - 1)
        if block:
            before = before | (users[f"active{block - 1}"] >> (MASK_BITS - 1))
        columns |= {
            f"active{block}": active,
            f"retained{block}": active & before,
            f"new{block}": ibis.ifelse(seen, nothing, active & -active),  # the lowest bit that is set
        }
        seen = seen | (active != 0)
    numbers = ibis.range(number).unnest().name("at").as_table()
    spread = users.select(*keys, **columns).cross_join(numbers)

    def read_bit(name: str) -> Any:
        bits = [(spread[f"{name}{block}"] >> (spread.at - block * MASK_BITS)) & 1 for block in blocks]
        cases = [(spread.at < (block + 1) * MASK_BITS, bit) for block, bit in enumerate(bits[:-1])]
        return ibis.cases(*cases, else_=bits[-1]) if cases else bits[-1]

    sums = {name: read_bit(name).sum() for name in ("retained", "new")}
    spread = spread.filter(read_bit("active") == 1)
    counted = spread.group_by("at", *keys).aggregate(active=spread.count(), **sums).to_pandas()
    return _spread_counts(counted, number, keys)


def _count_rows(placed: ir.Table, number: int, keys: Sequence[str]) -> dict[tuple[Any, ...], np.ndarray]:
    """The same by a row a user and period, for many periods and for engines without bit aggregates."""
    rows = placed.filter(placed.at >= 0).distinct()
    before = rows.at.lag().over(group_by=rows.user_id, order_by=rows.at)
    marked = rows.mutate(retained=(before == rows.at - 1).fill_null(False), new=before.isnull())
    counted = marked.group_by("at", *keys).aggregate(
        active=lambda t: t.count(), retained=lambda t: t.retained.sum(), new=lambda t: t.new.sum()
    )
    return _spread_counts(counted.to_pandas(), number, keys)


def _spread_counts(counted: pd.DataFrame, number: int, keys: Sequence[str]) -> dict[tuple[Any, ...], np.ndarray]:
    found = {}
    for key, part in counted.groupby(list(keys)) if keys else [((), counted)]:
        counts = np.zeros((3, number), dtype=int)
        counts[:, part["at"].to_numpy(dtype=int)] = part[["active", "retained", "new"]].to_numpy(dtype=int).T
        found[tuple(key)] = counts
    return found


def _balance(counts: np.ndarray, starts: Sequence[dt.date], span: Period) -> pd.DataFrame:
    active, retained, new = counts
    opening = np.concatenate([[0], active[:-1]]) if len(active) else active
    churned = opening - retained
    resurrected = active - retained - new
    ratio = pd.Series(new + resurrected) / pd.Series(churned).where(churned > 0)
    return pd.DataFrame(
        {
            "period_start": pd.to_datetime(list(starts[:-1])),
            "opening_count": opening,
            "new_count": new,
            "resurrected_count": resurrected,
            "churned_count": churned,
            "closing_count": active,
            "retained_count": retained,
            "quick_ratio": ratio,
            "complete": np.array([s >= span.start and e <= span.end for s, e in pairwise(starts)], dtype=bool),
        }
    )

"""Cohort retention: which share of the users who started together came back, interval by interval.

One engine for every way of asking: who starts (for the first time, or each time), what counts as coming back, on which
clock (hours, rolling 24 hours, days, weeks, months, quarters), and how (on interval n, on or after it, within a
bracket).
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ibis.expr.types as ir
import numpy as np
import pandas as pd

from opslib.data.periods import Calendar, Period
from opslib.measure.activity import sort_segments
from opslib.measure.cohort_counts import Belonging, Clock, CohortGrain, Counts, Kind, Question, count_cohorts
from opslib.measure.estimate import CONFIDENCE, MINIMUM_DENOMINATOR, Estimate, quantile, say_few_users

# How many intervals after the first are measured unless the caller says otherwise.
INTERVALS: dict[CohortGrain, int] = {"hour": 24, "24h": 30, "day": 30, "week": 12, "month": 12, "quarter": 8}
BRACKETS = ((1, 3), (4, 7), (8, 14), (15, 30))
_LETTERS: dict[CohortGrain, str] = {"hour": "h", "24h": "d", "day": "d", "week": "w", "month": "m", "quarter": "q"}


@dataclass(frozen=True)
class CohortResult:
    """Retention of cohorts: a triangle, and the curve that its mature cells add up to.

    Attributes:
        period, grain, kind, cohorts, as_of: what was asked.
        triangle: (segment), cohort_start (local time), n, n_last (the last interval of a bracket, else n), users_count
            (the cohort's), retained_count, retention_rate, retention_low, retention_high, mature. A cell is mature when
            its interval is over at the end of `as_of`; what came back is missing in other cells. A rate of fewer than
            `minimum` users is missing too.
        curve: (segment), n, n_last, cohorts_count and users_count (mature), retained_count, immature_count (users whose
            interval is not over), retention_rate (weighted by users), retention_low, retention_high.
        method: how the curve's intervals were made.
    """

    period: Period
    grain: CohortGrain
    kind: Kind
    cohorts: Belonging
    as_of: dt.date
    triangle: pd.DataFrame
    curve: pd.DataFrame
    method: str
    minimum: int

    def name(self, n: int) -> str:
        """The metric's name for the curve's point n, for example `d7_rate`, `w4_or_later_rate` or `d4_to_7_rate`."""
        letter = _LETTERS[self.grain]
        if self.kind == "bracket":
            return f"{letter}{n}_to_{self.curve.loc[self.curve['n'] == n, 'n_last'].iloc[0]}_rate"
        return f"{letter}{n}_or_later_rate" if self.kind == "on_or_after" else f"{letter}{n}_rate"

    def estimate(self, n: int, segment: str = "") -> Estimate:
        """The curve's point n.

        Raises:
            KeyError: n was not measured, or there is no such segment.
        """
        rows = self.curve[self.curve["n"] == n]
        rows = rows[rows["segment"] == segment] if segment else rows
        if rows.empty:
            raise KeyError(f"{n} {segment}".strip())
        return self._to_estimate(rows.to_dict("records")[0])

    def _to_estimate(self, row: Mapping[Any, Any]) -> Estimate:
        users, retained = int(row["users_count"]), int(row["retained_count"])
        known = users >= self.minimum
        value, low, high = (float(row[f"retention_{k}"]) if known else None for k in ("rate", "low", "high"))
        note = "" if known else say_few_users(users, self.minimum)
        method = self.method if known else "none"
        return Estimate(self.name(row["n"]), value, retained, users, low, high, method, "rate", CONFIDENCE, note)

    def findings(self) -> list[dict[str, Any]]:
        """The curve's points as flat records."""
        records = []
        for row in self.curve.to_dict("records"):
            context = {"segment": row["segment"]} if "segment" in row else {}
            context |= {"period": self.period.label, "grain": self.grain, "cohorts": self.cohorts}
            counts = {"cohorts_count": int(row["cohorts_count"]), "immature": int(row["immature_count"])}
            records.append(self._to_estimate(row).to_finding(**context, **counts))
        return records


def measure_cohorts(
    starts: ir.Table,
    returns: ir.Table | None = None,
    *,
    period: Period,
    as_of: dt.date,
    calendar: Calendar | None = None,
    grain: CohortGrain = "day",
    kind: Kind = "on",
    cohorts: Belonging = "first",
    intervals: int | None = None,
    brackets: Sequence[tuple[int, int]] = BRACKETS,
    minimum_returns: int = 1,
    attributes: ir.Table | None = None,
    by: str = "",
    minimum: int = MINIMUM_DENOMINATOR,
) -> CohortResult:
    """Measure the retention of cohorts.

    Args:
        starts: user_id and either ts (UTC), for example events, or day, for example active days; rows may repeat.
            Filter it to name a start event. All rows since the beginning, or old users would look new.
        returns: the same for what counts as coming back; without it, the starts.
        period: cohorts are the intervals that begin on one of its days.
        as_of: the last day that is fully known; later rows are left out.
        calendar: the company's clock, which decides days and the first day of a week.
        grain: length of an interval. Days and longer are calendar intervals. "24h" counts whole 24 hours from the
            moment of each user's first start; its cohorts are the days of that moment. Hours are hours of UTC.
        kind: "on" interval n; "on_or_after" it (until `as_of`); within a "bracket" of intervals.
        cohorts: "first": a user belongs to the interval of the first start ever; "recurring": to each with a start.
        intervals: the last n to measure; by default `INTERVALS`.
        brackets: first and last n of each bracket.
        minimum_returns: fewest returns in one interval that make it count, for example 3 active days a week.
        attributes, by: one row a user, and its column to break down by; the ten largest values keep their names.
        minimum: fewer users have no rate.

    Returns:
        A `CohortResult`. Interval 0 is that of the start itself; cohorts without users are left out.

    Raises:
        ValueError: options that do not go together.

    Intervals are Wilson's. A curve of recurring cohorts counts users once a cohort, and one user's cohorts go together:
    its intervals assume that each user comes back always or never, and so err on the wide side.

    >>> import ibis
    >>> days = ibis.memtable({"user_id": [1, 1, 2], "day": [dt.date(2026, 1, d) for d in (1, 2, 1)]})
    >>> january = Period(dt.date(2026, 1, 1), dt.date(2026, 2, 1), "January")
    >>> result = measure_cohorts(days, period=january, as_of=dt.date(2026, 1, 2), intervals=2)
    >>> result.triangle[["n", "users_count", "retained_count", "mature"]].to_numpy().tolist()
    [[0, 2, 2, True], [1, 2, 1, True], [2, 2, <NA>, False]]
    """
    calendar = calendar or Calendar()
    slots = _list_slots(kind, INTERVALS[grain] if intervals is None else intervals, brackets)
    if grain == "24h" and cohorts == "recurring":
        raise ValueError("rolling 24 hours are counted from the first start: recurring cohorts need a calendar grain")
    if minimum_returns < 1:
        raise ValueError("minimum_returns starts at 1")
    clock = Clock(grain, calendar, as_of)
    question = Question(
        clock,
        (clock.first_from(period.start), clock.first_from(period.end)),
        max(last for _, last in slots),
        kind,
        cohorts,
        tuple(slots),
        minimum_returns,
        attributes if by else None,
        by,
    )
    counts = count_cohorts(starts, returns, question)
    triangle = _fill_triangle(counts, slots, question, minimum)
    curve = _sum_curve(triangle, slots, counts.clustering, question, minimum)
    method = "Wilson" if cohorts == "first" else "Wilson, a user's cohorts taken as one"
    triangle = triangle.drop(columns="cohort")
    return CohortResult(period, grain, kind, cohorts, as_of, triangle, curve, method, minimum)


def _list_slots(kind: Kind, intervals: int, brackets: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """First and last interval of each of the triangle's columns."""
    if kind != "bracket":
        if intervals < 1:
            raise ValueError("at least one interval after the first is measured")
        return [(n, n) for n in range(intervals + 1)]
    ends = [-1, *(last for _, last in brackets)]
    if not brackets or any(not before < first <= last for before, (first, last) in zip(ends, brackets, strict=False)):
        raise ValueError("brackets are pairs of first and last interval, in order and without overlap, from 0 on")
    return list(brackets)


def _fill_triangle(counts: Counts, slots: Sequence[tuple[int, int]], question: Question, minimum: int) -> pd.DataFrame:
    """One row a cohort and slot, also where nobody came back."""
    keys, clock = question.keys, question.clock
    sizes = _order(counts.sizes.rename(columns={"users": "users_count"}), keys)
    names = {int(c): clock.start_of(int(c)) for c in sizes["cohort"].unique()}
    columns = pd.DataFrame(slots, columns=["n", "n_last"])
    columns["slot"] = range(len(slots)) if question.kind == "bracket" else columns["n"]
    frame = sizes.merge(columns, how="cross").merge(counts.slots, on=[*keys, "cohort", "slot"], how="left")
    frame["cohort_start"] = pd.to_datetime(frame["cohort"].map(names))
    frame["mature"] = frame["cohort"] + frame["n_last"] <= clock.last_over
    retained = frame["users"].fillna(0).astype("Int64").where(frame["mature"])
    frame = frame.assign(retained_count=retained, users_count=frame["users_count"].astype("int64"))
    frame = _add_rates(frame, minimum)
    rates = ["retention_rate", "retention_low", "retention_high"]
    order = [*keys, "cohort", "cohort_start", "n", "n_last", "users_count", "retained_count", *rates, "mature"]
    return frame[order]


def _order(sizes: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """Segments with most users first, cohorts in order of time."""
    if not keys:
        return sizes.sort_values("cohort", ignore_index=True)
    ranked = sort_segments(sizes.groupby("segment", as_index=False).agg({"users_count": "sum"}), "users_count")[
        "segment"
    ]
    rank = sizes["segment"].map({name: i for i, name in enumerate(ranked)})
    return sizes.assign(_rank=rank).sort_values(["_rank", "cohort"], ignore_index=True).drop(columns="_rank")


def _sum_curve(
    triangle: pd.DataFrame,
    slots: Sequence[tuple[int, int]],
    clustering: dict[str, float],
    question: Question,
    minimum: int,
) -> pd.DataFrame:
    """Add up the mature cells of each slot; all slots are there, also those without any."""
    keys = question.keys
    mature = triangle["mature"]
    parts = triangle[[*keys, "n"]].assign(
        cohorts_count=mature.astype(int),
        users_count=triangle["users_count"].where(mature, 0),
        retained_count=triangle["retained_count"].fillna(0).astype("int64"),
        immature_count=triangle["users_count"].where(~mature, 0),
    )
    summed = parts.groupby([*keys, "n"], sort=False, as_index=False).sum()
    ends = pd.DataFrame(slots, columns=["n", "n_last"])
    if keys:
        summed = summed.merge(ends, on="n")
        effect = summed["segment"].map(clustering).fillna(1.0)
    else:
        summed = ends.merge(summed, on="n", how="left").fillna(0)
        effect = pd.Series(clustering.get("", 1.0), index=summed.index)
    counts = ["cohorts_count", "users_count", "retained_count", "immature_count"]
    summed[counts] = summed[counts].astype("int64")
    return _add_rates(summed, minimum, effect)[
        [*keys, "n", "n_last", *counts, "retention_rate", "retention_low", "retention_high"]
    ]


def _add_rates(frame: pd.DataFrame, minimum: int, effect: Any = 1.0) -> pd.DataFrame:
    """Add the rate and Wilson's interval, as `estimate_rate` makes it for one; missing below `minimum` users.

    `effect` is the design effect: the users count for that many times fewer in the interval.
    """
    known = (frame["users_count"] >= max(minimum, 1)) & frame["retained_count"].notna()
    users = frame["users_count"].astype(float).where(known).to_numpy()
    rate = frame["retained_count"].astype("Float64").to_numpy(dtype=float, na_value=np.nan) / users
    size, z = users / np.asarray(effect, dtype=float), quantile()
    spread = 1 + z * z / size
    center = (rate + z * z / (2 * size)) / spread
    half = z / spread * np.sqrt(rate * (1 - rate) / size + z * z / (4 * size**2))
    low, high = np.clip(center - half, 0, 1), np.clip(center + half, 0, 1)
    return frame.assign(retention_rate=rate, retention_low=low, retention_high=high)

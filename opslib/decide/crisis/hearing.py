"""What users say: complaints, tickets and surveys, now against before, and who complains more than the rest."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import NormalDist
from typing import Any

import ibis
import ibis.expr.types as ir
import pandas as pd

from opslib.data.memory import remember
from opslib.data.periods import DAY, Period
from opslib.decide.scope import Scope
from opslib.measure.estimate import MINIMUM_DENOMINATOR, Change, adjust_p_values, compare_estimates, to_plain_record
from opslib.measure.satisfaction import SatisfactionResult, measure_satisfaction
from opslib.measure.voice import (
    ComplaintsResult,
    TicketsResult,
    estimate_times,
    measure_complaints,
    measure_tickets,
    sum_segments,
)

# So many attributes of users are compared at most; further ones are rarely known to those who answer complaints.
MOST_COLUMNS = 6
TICKET_COLUMNS = ("ticket_id", "user_id", "opened_at", "is_complaint", "category", "closed_at")


@dataclass(frozen=True)
class Voice:
    """What users say; each part is computed when it is first asked for.

    Attributes:
        scope: data, segment and days.
        unusual_days: days that groups are compared without.
        complaints, complaints_before: of the days looked at and of those before; None without tickets.
        tickets: how long the tickets of the days looked at waited; None without tickets.
        satisfaction, satisfaction_before: what they answered; None without surveys.
        changes: metric -> now against before.
        segments: of the days that were not unusual: column, segment, complaining_count, active_count, complaint_rate,
            others_rate (of everybody else), times_ratio, times_low, times_high, p_value, q_value: clearest first.
    """

    scope: Scope
    unusual_days: tuple[dt.date, ...]

    @cached_property
    def complaints(self) -> ComplaintsResult | None:
        return count_complaints(self.scope, self.scope.now) if self.scope.data.has("tickets") else None

    @cached_property
    def complaints_before(self) -> ComplaintsResult | None:
        before = self.scope.before
        return count_complaints(self.scope, before) if before is not None and self.scope.data.has("tickets") else None

    @cached_property
    def tickets(self) -> TicketsResult | None:
        return _measure_tickets(self.scope.narrow()) if self.scope.data.has("tickets") else None

    @cached_property
    def satisfaction(self) -> SatisfactionResult | None:
        return measure_answers(self.scope, self.scope.now) if self.scope.data.has("surveys") else None

    @cached_property
    def satisfaction_before(self) -> SatisfactionResult | None:
        before = self.scope.before
        return measure_answers(self.scope, before) if before is not None and self.scope.data.has("surveys") else None

    @cached_property
    def changes(self) -> dict[str, Change]:
        changes = {}
        if self.complaints is not None and self.complaints_before is not None:
            for name in ("complaint_rate", "complaints_count"):
                changes[name] = compare_estimates(getattr(self.complaints, name), getattr(self.complaints_before, name))
        if self.satisfaction is not None and self.satisfaction_before is not None:
            for name, estimate in self.satisfaction.estimates.items():
                changes[name] = compare_estimates(estimate, self.satisfaction_before.estimates[name])
        return changes

    @cached_property
    def segments(self) -> pd.DataFrame:
        columns, cells = choose_columns(self.scope), None
        if self.scope.data.has("tickets") and columns:
            cells = count_complaints(self.scope, self.scope.now, columns, without=self.unusual_days).cells
        return compare_segments(cells, columns)

    def findings(self) -> list[dict[str, Any]]:
        """Flat records: changes, categories, times to solve, segments."""
        records = [change.to_finding() for change in self.changes.values()]
        parts = (self.complaints, self.tickets, self.satisfaction)
        records += [record for part in parts if part is not None for record in part.findings()]
        rows = self.segments.to_dict("records")
        return records + [{"name": "complaints_by_segment", **to_plain_record(row)} for row in rows]


def hear_users(scope: Scope, unusual_days: Sequence[dt.date] = ()) -> Voice:
    """Measure what users say now, and what they said before.

    Args:
        scope: data, segment and days.
        unusual_days: days that groups are compared without: whoever was new or active just then would seem to complain
            more.
    """
    return Voice(scope, tuple(unusual_days))


def gather_tickets(scope: Scope) -> ir.Table | None:
    """The segment's tickets up to the last day looked at; None where the data have none."""
    return _gather_tickets(scope.narrow(now=False)) if scope.data.has("tickets") else None


@remember
def _gather_tickets(scope: Scope) -> ir.Table:
    table = scope.data.table("tickets")
    end = ibis.timestamp(scope.data.calendar.day_start(scope.as_of + DAY))
    known = scope.restrict(table.filter(table.opened_at < end))
    return known.select(*(c for c in TICKET_COLUMNS if c in known.columns)).cache()


def count_complaints(
    scope: Scope, period: Period, columns: tuple[str, ...] = (), without: Sequence[dt.date] = ()
) -> ComplaintsResult:
    """Complaints of a period, but for some of its days; without rates where activity is not known."""
    left_out = tuple(day for day in without if period.start <= day < period.end)
    return _count_complaints(scope.narrow(now=False), period, columns, left_out)


@remember
def _count_complaints(
    scope: Scope, period: Period, columns: tuple[str, ...], left_out: tuple[dt.date, ...]
) -> ComplaintsResult:
    tickets, calendar = gather_tickets(scope), scope.data.calendar
    assert tickets is not None
    active = scope.active_days if scope.data.has_activity else None
    attributes = scope.attributes if columns else None
    if left_out:
        tickets = tickets.filter(calendar.local_day(tickets.opened_at).notin(left_out))
        active = None if active is None else active.filter(active.day.notin(left_out))
    return measure_complaints(tickets, active, period, calendar=calendar, attributes=attributes, by=columns)


@remember
def _measure_tickets(scope: Scope) -> TicketsResult:
    tickets = gather_tickets(scope)
    assert tickets is not None
    return measure_tickets(tickets, scope.now, as_of=scope.as_of, calendar=scope.data.calendar)


def measure_answers(scope: Scope, period: Period) -> SatisfactionResult:
    """Satisfaction of a period."""
    return _measure_answers(scope.narrow(now=False), period)


@remember
def _measure_answers(scope: Scope, period: Period) -> SatisfactionResult:
    surveys = scope.table("surveys")
    assert surveys is not None
    active = scope.active_days if scope.data.has_activity else None
    return measure_satisfaction(surveys, period, calendar=scope.data.calendar, active_days=active)


def choose_columns(scope: Scope) -> tuple[str, ...]:
    """The columns of users whose groups are compared."""
    return tuple(scope.dimensions[:MOST_COLUMNS]) if scope.data.has_activity else ()


SEGMENT_COLUMNS = [
    "column", "segment", "complaining_count", "active_count", "complaint_rate", "others_rate", "times_ratio",
    "times_low", "times_high", "p_value", "q_value",
]  # fmt: skip


def compare_segments(cells: pd.DataFrame | None, columns: tuple[str, ...]) -> pd.DataFrame:
    """Hold each group of users against everybody else, from counts by combination of groups."""
    rows = []
    for column in columns if cells is not None and not cells.empty else ():
        assert cells is not None
        frame = sum_segments(cells, column)
        complaining, active = float(frame["complaining_count"].sum()), float(frame["active_count"].sum())
        for row in frame.to_dict("records"):
            own, of = float(row["complaining_count"]), float(row["active_count"])
            others, others_of = complaining - own, active - of
            if min(of, others_of) < MINIMUM_DENOMINATOR:
                continue
            times = estimate_times("complaints_ratio", own, of, others, others_of)
            rows.append(
                {
                    "column": column,
                    **{k: row[k] for k in ("segment", "complaining_count", "active_count", "complaint_rate")},
                    "others_rate": others / others_of,
                    "times_ratio": times.value,
                    "times_low": times.low,
                    "times_high": times.high,
                    "p_value": _test_share(own, own + others, of / (of + others_of)),
                }
            )
    frame = pd.DataFrame(rows, columns=[c for c in SEGMENT_COLUMNS if c != "q_value"])
    frame["q_value"] = adjust_p_values(frame["p_value"].astype(float))
    return frame.sort_values(["p_value", "column", "segment"], ignore_index=True)


def _test_share(count: float, of: float, share: float) -> float:
    """How likely chance alone moves a group's share of the complaints so far from its share of the active days."""
    if not of or not 0 < share < 1:
        return math.nan
    # The continuity correction keeps a handful of complaints from looking like a finding.
    away = max(0.0, abs(count - of * share) - 0.5) / math.sqrt(of * share * (1 - share))
    return 2 * (1 - NormalDist().cdf(away))

"""Who is active, where they came from, how often they come, and in which tier everybody is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import ibis.expr.types as ir

from opslib.decide.scope import Scope
from opslib.measure.activity import (
    ActivityResult,
    DaysActiveResult,
    SegmentActivityResult,
    label_segments,
    measure_activity,
    measure_activity_by_segment,
    measure_days_active,
)
from opslib.measure.estimate import Change, compare_estimates
from opslib.measure.growth import GrowthAccountingResult, account_growth
from opslib.measure.tiers import TiersResult, measure_tiers

# The attribute by which activity is broken down, the first that the data have; else the first of all.
PREFERRED = ("channel", "platform")


@dataclass(frozen=True)
class Audience:
    """Who is active.

    Attributes:
        now, before: activity in the two periods; `before` is None where the data do not reach back.
        accounting: growth accounting by grain over all days.
        days_active: on how many of the last 28 days users came.
        tiers: every user in one tier, and the moves between tiers.
        column: the attribute of `by_segment`; empty where users have none.
        by_segment, segment_accounting: activity and growth accounting by that attribute; None without one.
    """

    now: ActivityResult
    before: ActivityResult | None
    accounting: GrowthAccountingResult
    days_active: DaysActiveResult
    tiers: TiersResult
    column: str
    by_segment: SegmentActivityResult | None
    segment_accounting: GrowthAccountingResult | None

    def changes(self) -> dict[str, Change]:
        """Metric -> change against the period before; empty where there is none."""
        if self.before is None:
            return {}
        pairs = [(getattr(self.now, n), getattr(self.before, n)) for n in ("dau", "mau", "stickiness")]
        return {now.name: compare_estimates(now, before) for now, before in pairs}

    def findings(self) -> list[dict[str, Any]]:
        """Flat records: activity, growth accounting, tiers, days active, segments."""
        parts: list[Any] = [self.accounting, self.tiers, self.days_active]
        parts += [self.by_segment] if self.by_segment else []
        changes = [c.to_finding(period=self.now.period.label) for c in self.changes().values()]
        return (changes or self.now.findings()) + [record for part in parts for record in part.findings()]


def measure_audience(scope: Scope) -> Audience:
    """Measure who is active."""
    days, calendar = scope.active_days, scope.data.calendar
    column = next((c for c in PREFERRED if c in scope.dimensions), next(iter(scope.dimensions), ""))
    labelled = label_segments(days, scope.data.attributes, column).cache() if column else None
    options: dict[str, Any] = {"grain": scope.grain, "week_start": calendar.week_start}
    return Audience(
        measure_activity(days, scope.now),
        measure_activity(days, scope.before) if scope.before else None,
        account_growth(days, scope.span, **options),
        measure_days_active(days, last_day=scope.as_of),
        measure_tiers(days, scope.span, as_of=scope.as_of, signups=_find_signups(scope), **options),
        column,
        measure_activity_by_segment(labelled, scope.now) if labelled is not None else None,
        account_growth(labelled, scope.span, by="segment", **options) if labelled is not None else None,
    )


def _find_signups(scope: Scope) -> ir.Table | None:
    users = scope.attributes
    if "signup_at" not in users.columns:
        return None
    days = users.select("user_id", day=scope.data.calendar.local_day(users.signup_at))
    return days.filter(days.day <= scope.as_of)

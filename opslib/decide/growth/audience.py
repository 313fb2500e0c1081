"""Who is active, where they came from, how often they come, and in which tier everybody is."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import ibis.expr.types as ir

from opslib.data.memory import remember
from opslib.data.periods import Period
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
from opslib.measure.grains import Grain
from opslib.measure.growth import GrowthAccountingResult, account_growth
from opslib.measure.tiers import TiersResult, measure_tiers

# The attribute by which activity is broken down, the first that the data have; else the first of all.
PREFERRED = ("channel", "platform")


@dataclass(frozen=True)
class Audience:
    """Who is active; each part is computed when it is first asked for.

    Attributes:
        scope: data, segment and days.
        now, before: activity in the two periods; `before` is None where the data do not reach back.
        accounting: growth accounting by grain over all days.
        days_active: on how many of the last 28 days users came.
        tiers: every user in one tier, and the moves between tiers.
        column: the attribute of `by_segment`; empty where users have none.
        by_segment, segment_accounting: activity and growth accounting by that attribute; None without one.
    """

    scope: Scope

    @cached_property
    def now(self) -> ActivityResult:
        return _measure_activity(self._all_days, self.scope.now)

    @cached_property
    def before(self) -> ActivityResult | None:
        return _measure_activity(self._all_days, self.scope.before) if self.scope.before else None

    @cached_property
    def accounting(self) -> GrowthAccountingResult:
        return _account_growth(self._all_days, self.scope.grain)

    @cached_property
    def days_active(self) -> DaysActiveResult:
        return _measure_days_active(self._all_days)

    @cached_property
    def tiers(self) -> TiersResult:
        return _measure_tiers(self._all_days, self.scope.grain)

    @cached_property
    def column(self) -> str:
        dimensions = self.scope.dimensions
        return next((c for c in PREFERRED if c in dimensions), next(iter(dimensions), ""))

    @cached_property
    def by_segment(self) -> SegmentActivityResult | None:
        return _measure_segments(self._all_days, self.scope.now, self.column) if self.column else None

    @cached_property
    def segment_accounting(self) -> GrowthAccountingResult | None:
        return _account_growth(self._all_days, self.scope.grain, self.column) if self.column else None

    @property
    def _all_days(self) -> Scope:
        return self.scope.narrow(now=False)

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
    return Audience(scope)


@remember
def _measure_activity(scope: Scope, period: Period) -> ActivityResult:
    return measure_activity(scope.active_days, period)


@remember
def _account_growth(scope: Scope, grain: Grain, column: str = "") -> GrowthAccountingResult:
    days = _label_days(scope, column) if column else scope.active_days
    by = "segment" if column else None
    return account_growth(days, scope.span, by=by, grain=grain, week_start=scope.data.calendar.week_start)


@remember
def _measure_days_active(scope: Scope) -> DaysActiveResult:
    return measure_days_active(scope.active_days, last_day=scope.as_of)


@remember
def _measure_tiers(scope: Scope, grain: Grain) -> TiersResult:
    return measure_tiers(
        scope.active_days,
        scope.span,
        as_of=scope.as_of,
        signups=_find_signups(scope),
        grain=grain,
        week_start=scope.data.calendar.week_start,
    )


@remember
def _measure_segments(scope: Scope, period: Period, column: str) -> SegmentActivityResult:
    return measure_activity_by_segment(_label_days(scope, column), period)


@remember
def _label_days(scope: Scope, column: str) -> ir.Table:
    return label_segments(scope.active_days, scope.data.attributes, column).cache()


def _find_signups(scope: Scope) -> ir.Table | None:
    users = scope.attributes
    if "signup_at" not in users.columns:
        return None
    days = users.select("user_id", day=scope.data.calendar.local_day(users.signup_at))
    return days.filter(days.day <= scope.as_of)

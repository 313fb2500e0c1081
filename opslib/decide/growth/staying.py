"""Who stays: retention now and before, where its change comes from, what goes with staying, and who they are."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd

from opslib.data.memory import remember
from opslib.data.periods import DAY, Period
from opslib.decide.scope import Scope
from opslib.explain.activation import ActivationResult, rank_behaviors
from opslib.explain.change import ChangeExplanation, count_outcomes, explain_change, mark_returned
from opslib.explain.portrait import PortraitResult, describe_segment
from opslib.language import say
from opslib.measure.cohorts import CohortResult, measure_cohorts
from opslib.measure.estimate import Change, compare_estimates
from opslib.measure.sbg import SbgFit, fit_sbg, list_survivors, project_sbg

CURVE_DAYS = 30
RETAINED_DAYS = (1, 7, 30)
# The change of next-day retention is explained: it has the most users behind it, and shows first.
EXPLAINED_DAY = 1
PORTRAIT_DAY = 7
TRIANGLE_COHORTS = 13
TRIANGLE_WEEKS = 12
PROJECTED_WEEKS = 26


@dataclass(frozen=True)
class Staying:
    """Who stays; each part is computed when it is first asked for.

    Attributes:
        scope: data, segment and days.
        now, before: day-by-day retention of the new users of the two periods.
        triangle: retention by week of the last weekly cohorts.
        fit, projection: the shifted-beta-geometric model of that triangle, and its curve further on (empty without).
        explanation: where the change of next-day retention comes from; None without attributes or a period before.
        activation: behaviours of the first week that go with staying; None without events.
        portrait: the segment against the rest or, for everybody, new users who came back on day 7 against those who
            did not; None without attributes.
    """

    scope: Scope

    @cached_property
    def now(self) -> CohortResult:
        return _measure_curve(self.scope.narrow(now=False), self.scope.now)

    @cached_property
    def before(self) -> CohortResult | None:
        return _measure_curve(self.scope.narrow(now=False), self.scope.before) if self.scope.before else None

    @cached_property
    def triangle(self) -> CohortResult:
        return measure_triangle(self.scope)

    @cached_property
    def fit(self) -> SbgFit:
        return _fit_triangle(self.scope.narrow(now=False))

    @cached_property
    def projection(self) -> pd.DataFrame:
        return project_sbg(self.fit, PROJECTED_WEEKS)

    @cached_property
    def explanation(self) -> ChangeExplanation | None:
        return _explain_return(self.scope.narrow(before=True))

    @cached_property
    def activation(self) -> ActivationResult | None:
        return _rank_behaviors(self.scope.narrow())

    @cached_property
    def portrait(self) -> PortraitResult | None:
        return _describe_stayers(self.scope.narrow())

    def changes(self) -> dict[str, Change]:
        """d1_rate, d7_rate, d30_rate -> change against the period before; empty where there is none."""
        if self.before is None:
            return {}
        return {f"d{n}_rate": compare_estimates(self.now.estimate(n), self.before.estimate(n)) for n in RETAINED_DAYS}

    def findings(self) -> list[dict[str, Any]]:
        """Flat records of all parts."""
        changes = [c.to_finding(period=self.now.period.label) for c in self.changes().values()]
        parts = [self.fit, self.explanation, self.activation, self.portrait]
        return changes + self.triangle.findings() + [r for part in parts if part is not None for r in part.findings()]


def measure_staying(scope: Scope) -> Staying:
    """Measure who stays."""
    return Staying(scope)


def measure_triangle(scope: Scope) -> CohortResult:
    """Retention by week of the last weekly cohorts up to a scope's last day."""
    return _measure_triangle(scope.narrow(now=False))


@remember
def _measure_triangle(scope: Scope) -> CohortResult:
    start = max(scope.span.start, scope.now.end - 7 * TRIANGLE_COHORTS * DAY)
    return measure_cohorts(
        scope.active_days,
        period=Period(start, scope.now.end, say("the last weeks")),
        as_of=scope.as_of,
        calendar=scope.data.calendar,
        grain="week",
        intervals=TRIANGLE_WEEKS,
    )


@remember
def _measure_curve(scope: Scope, period: Period) -> CohortResult:
    return measure_cohorts(scope.active_days, period=period, as_of=scope.as_of, intervals=CURVE_DAYS)


@remember
def _fit_triangle(scope: Scope) -> SbgFit:
    return fit_sbg(list_survivors(_measure_triangle(scope)))


@remember
def _explain_return(scope: Scope) -> ChangeExplanation | None:
    if scope.before is None or not scope.dimensions:
        return None
    counts = [
        count_outcomes(
            mark_returned(scope.active_days, scope.attributes, period, as_of=scope.as_of, day=EXPLAINED_DAY),
            dimensions=scope.dimensions,
            numerator="returned",
        )
        for period in (scope.before, scope.now)
    ]
    return explain_change(
        *counts,
        dimensions=scope.dimensions,
        numerator="returned",
        denominator="users_count",
        name=f"d{EXPLAINED_DAY}_rate",
    )


@remember
def _rank_behaviors(scope: Scope) -> ActivationResult | None:
    events = scope.table("events")
    if events is None:
        return None
    attributes = scope.attributes if scope.dimensions else None
    return rank_behaviors(
        events, scope.active_days, scope.now, as_of=scope.as_of, calendar=scope.data.calendar, attributes=attributes
    )


@remember
def _describe_stayers(scope: Scope) -> PortraitResult | None:
    columns = scope.dimensions
    if not columns:
        return None
    if scope.segment:
        attributes = scope.data.attributes
        members = scope.attributes.select("user_id")
        return describe_segment(attributes, members, name=scope.segment, columns=columns)
    returned = mark_returned(
        scope.active_days, scope.attributes, scope.now, as_of=scope.as_of, day=PORTRAIT_DAY
    ).cache()
    members = returned.filter(returned.returned).select("user_id")
    return describe_segment(returned, members, name=say("back on day {day}", day=PORTRAIT_DAY), columns=columns)

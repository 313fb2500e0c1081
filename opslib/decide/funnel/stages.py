"""What several parts of a funnel's diagnosis start from: the funnel over some days, and who got to one of its steps."""

from __future__ import annotations

from typing import Any

import ibis.expr.types as ir
import pandas as pd

from opslib.data.memory import remember
from opslib.data.periods import Period
from opslib.decide.funnel.path import FunnelPath, keep_events, list_columns
from opslib.decide.scope import Scope
from opslib.explain.change import ChangeExplanation, count_outcomes, explain_change
from opslib.measure.funnel.arrivals import list_arrivals
from opslib.measure.funnel.follow import ConversionCurve, measure_conversion_curve
from opslib.measure.funnel.funnel import FunnelResult, measure_funnel


def measure_path(scope: Scope, path: FunnelPath, period: Period, *, by: str = "") -> FunnelResult:
    """The funnel over some days."""
    return _measure_path(scope.narrow(now=False), path, period, by)


@remember
def _measure_path(scope: Scope, path: FunnelPath, period: Period, by: str) -> FunnelResult:
    events = keep_events(scope, path)
    attributes = scope.attributes if by and by not in events.columns else None
    options = list_options(scope, path)
    return measure_funnel(events, path.steps, period=period, breakdown=by, attributes=attributes, **options)


def measure_curve(scope: Scope, path: FunnelPath, period: Period) -> ConversionCurve:
    """Share converted by time since the entry."""
    return _measure_curve(scope.narrow(now=False), path, period)


@remember
def _measure_curve(scope: Scope, path: FunnelPath, period: Period) -> ConversionCurve:
    options = list_options(scope, path)
    return measure_conversion_curve(keep_events(scope, path), path.steps, period=period, **options)


def list_options(scope: Scope, path: FunnelPath) -> dict[str, Any]:
    """A path's rules, as the measures of funnels take them."""
    return {
        "as_of": scope.as_of,
        "window": path.window,
        "calendar": scope.data.calendar,
        "order": path.order,
        "exclusions": path.exclusions,
        "hold": path.hold,
    }


def collect_arrivals(scope: Scope, path: FunnelPath, step: int, period: Period, *, unit: str = "users") -> ir.Table:
    """Users who got to the step before, or all their attempts, with what is known of them: see `list_arrivals`."""
    return _collect_arrivals(scope.narrow(now=False), path, step, period, unit)


@remember
def _collect_arrivals(scope: Scope, path: FunnelPath, step: int, period: Period, unit: Any) -> ir.Table:
    events, columns = keep_events(scope, path), list_columns(scope, path)
    own = [c for c in columns if c in events.columns]
    other = [c for c in columns if c not in own]
    options = list_options(scope, path)
    found = list_arrivals(events, path.steps, step=step, columns=own, period=period, unit=unit, **options)
    if other:
        users = scope.attributes.group_by("user_id").aggregate(**{c: scope.attributes[c].min() for c in other})
        joined = found.left_join(users, "user_id")
        found = joined.select(*found.columns, *other)
    return found.cache()


def count_step(scope: Scope, path: FunnelPath, step: int, period: Period) -> pd.DataFrame:
    """Users who got to the step before and who went on, by every combination of the columns."""
    return _count_step(scope.narrow(now=False), path, step, period)


@remember
def _count_step(scope: Scope, path: FunnelPath, step: int, period: Period) -> pd.DataFrame:
    rows = collect_arrivals(scope, path, step, period)
    return count_outcomes(rows, dimensions=list_columns(scope, path), numerator="converted")


def explain_step(scope: Scope, path: FunnelPath, step: int) -> ChangeExplanation:
    """Explain the change of a step's rate from the days before to the days now."""
    return _explain_step(scope.narrow(before=True), path, step)


@remember
def _explain_step(scope: Scope, path: FunnelPath, step: int) -> ChangeExplanation:
    assert scope.before is not None
    before, now = (count_step(scope, path, step, period) for period in (scope.before, scope.now))
    return explain_counts(before, now, list_columns(scope, path), f"step{step}_rate")


def explain_counts(before: pd.DataFrame, after: pd.DataFrame, columns: list[str], name: str) -> ChangeExplanation:
    """Explain a step's rate of one table of counts against that of another."""
    return explain_change(
        before, after, dimensions=columns, numerator="converted", denominator="users_count", name=name, repeats="parts"
    )

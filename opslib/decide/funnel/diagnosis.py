"""The diagnosis of a funnel: which step moved, for whom, since when, and did what was done about it work."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from opslib.data.periods import Period, parse_date
from opslib.data.source import Data
from opslib.decide.funnel.culprit import Culprit, find_culprit
from opslib.decide.funnel.path import FunnelPath, choose_path, gather_events
from opslib.decide.funnel.trial import Trial, plan_repair, read_trial
from opslib.decide.scope import Scope, check_breakdown, choose_scope
from opslib.errors import InputError
from opslib.explain.decompose import StepSplit, split_steps
from opslib.measure.estimate import Change
from opslib.measure.funnel.follow import ConversionCurve, FunnelComparison, compare_funnels, measure_conversion_curve
from opslib.measure.funnel.funnel import FunnelResult, measure_funnel
from opslib.measure.sample_size import ExperimentPlan


@dataclass(frozen=True)
class FunnelDiagnosis:
    """What is wrong with a funnel.

    Attributes:
        scope: data, segment and days.
        path: the funnel's steps.
        now: the funnel of the days looked at, by `breakdown`.
        comparison: against the days before; None where the data do not reach back.
        split: the overall change split to the steps; None without a comparison.
        step: number of the step that is explained, from 2.
        culprit: where that step's change comes from; None without a comparison.
        breakdown: the column that the funnel is broken down by; empty where there is none.
        curve: share converted by time since the entry, open windows included.
        trial: the experiment read out; None without one.
        plan: the experiment that would show whether a repair works; None where the step has no rate.
        missing: section -> the table that would light it up.
    """

    scope: Scope
    path: FunnelPath
    now: FunnelResult
    comparison: FunnelComparison | None
    split: StepSplit | None
    step: int
    culprit: Culprit | None
    breakdown: str
    curve: ConversionCurve
    trial: Trial | None
    plan: ExperimentPlan | None
    missing: dict[str, str]

    @property
    def step_names(self) -> tuple[str, str]:
        """The step before the one explained, and that one."""
        return self.path.labels[self.step - 2], self.path.labels[self.step - 1]

    def change(self, step: int = 0, *, overall: bool = False) -> Change | None:
        """A step's change, by default the last one's; None where nothing can be compared."""
        return (
            None if self.comparison is None else self.comparison.change(step or len(self.path.steps), overall=overall)
        )

    def findings(self) -> list[dict[str, Any]]:
        """Everything a machine may want to read, as flat records."""
        return [record for part in self._parts() for record in part.findings()]

    def _parts(self) -> Iterator[Any]:
        yield self.now
        for part in (self.comparison, self.split, self.culprit, self.curve, self.trial, self.plan):
            if part is not None:
                yield part


def diagnose_funnel(
    data: Data,
    *,
    funnel: str = "",
    window_days: float = 0,
    breakdown: str = "",
    step: int = 0,
    as_of: str = "",
    days: int = 0,
    compare_to: str = "",
    segment: str = "",
    experiment: str = "",
    fixed_on: str = "",
) -> FunnelDiagnosis:
    """Diagnose a funnel.

    Args:
        data: the company's data; unfit data are refused.
        funnel: the name of a funnel of the playbook, or steps written as `view_item > add_to_cart > pay`; empty: the
            playbook's first or, without any, the most used events.
        window_days: how long somebody may take from entry to last step; 0: the playbook's, or 7.
        breakdown: the column to break the funnel down by; empty: one that the change sits in, or the first.
        step: number of the step to explain, from 2; 0: the one that moved the whole most.
        as_of: the last day, as ISO text; empty: the data's last full day.
        days: days of a period; 0: 91.
        compare_to: the last day of the days compared with, or a quarter; empty: the days right before.
        segment: one group of users such as `channel:search`; empty: everybody.
        experiment: the experiment to read out; empty: the one that users entered last.
        fixed_on: the day from which a repair was out, as ISO text: before and after are compared, as a description.

    Returns:
        A `FunnelDiagnosis`.

    Raises:
        InputError: unfit data, an unknown funnel, event, column, segment or experiment, a day outside the data.
    """
    data.require_fit()
    scope = choose_scope(data, as_of=as_of, segment=segment, compare_to=compare_to, days=days)
    path = choose_path(data, funnel, window_days=window_days)
    if step and not 2 <= step <= len(path.steps):
        raise InputError(f"step {step}: this funnel's steps to explain are 2 to {len(path.steps)}, or 0 to choose.")
    repaired = parse_date(fixed_on, name="fixed_on") if fixed_on else None
    events = gather_events(scope, path).cache()
    columns = list_columns(scope, events)
    check_breakdown(breakdown, columns)
    options: dict[str, Any] = {
        "as_of": scope.as_of,
        "window": path.window,
        "calendar": data.calendar,
        "order": path.order,
        "exclusions": path.exclusions,
        "hold": path.hold,
    }

    def measure(period: Period, by: str = "") -> FunnelResult:
        attributes = scope.attributes if by and by not in events.columns else None
        return measure_funnel(events, path.steps, period=period, breakdown=by, attributes=attributes, **options)

    now = measure(scope.now, breakdown)
    comparison = split = culprit = None
    if scope.before is not None:
        comparison = compare_funnels(now, measure(scope.before))
        counts = [part.steps["converted_count"].tolist() for part in (comparison.before, now)]
        split = split_steps(*counts, steps=path.labels)
    step = step or _pick_step(split, now)
    if comparison is not None:
        culprit = find_culprit(scope, path, events, step, columns, options, repaired)
    if not breakdown:
        breakdown = next(iter(culprit.columns if culprit is not None and culprit.columns else columns), "")
        now = measure(scope.now, breakdown) if breakdown else now
    curve = measure_conversion_curve(events, path.steps, period=scope.now, **options)
    trial = read_trial(scope, path, events, experiment)
    plan = plan_repair(now, path, culprit, step, scope)
    return FunnelDiagnosis(
        scope,
        path,
        now,
        comparison,
        split,
        step,
        culprit,
        breakdown,
        curve,
        trial,
        plan,
        _find_missing(scope, columns),
    )


def list_columns(scope: Scope, events: Any) -> list[str]:
    """Columns of the events, then of users, with few enough values to be groups."""
    texts = [
        name
        for name in events.columns
        if name not in ("user_id", "ts", "event", "session_id")
        and (events[name].type().is_string() or events[name].type().is_boolean())
    ]
    return scope.find_groups(events, texts) + [name for name in scope.dimensions if name not in texts]


def _pick_step(split: StepSplit | None, now: FunnelResult) -> int:
    """The step with the largest effect in the direction that the whole moved, else the one where most users drop."""
    if split is not None and len(split.steps):
        effects = split.steps["effect_rate"].astype(float).fillna(0.0)
        overall = split.overall
        if overall.clear and overall.difference:
            effects = effects * (1 if overall.difference > 0 else -1)
        else:
            effects = effects.abs()
        return int(effects.to_numpy().argmax()) + 2
    dropped = now.steps["dropped_count"].iloc[1:]
    return int(dropped.to_numpy().argmax()) + 2


def _find_missing(scope: Scope, columns: list[str]) -> dict[str, str]:
    missing = {}
    if not columns:
        missing["Who moved it"] = "users or events with attributes such as platform, channel or version"
    if not scope.data.has("exposures"):
        missing["Did the fix work"] = "exposures (user_id, experiment, variant, ts)"
    return missing

"""The diagnosis of a funnel: which step moved, for whom, since when, and did what was done about it work."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from opslib.data.periods import parse_date
from opslib.data.source import Data
from opslib.decide.funnel.culprit import Culprit, find_culprit
from opslib.decide.funnel.path import FunnelPath, choose_path, list_columns
from opslib.decide.funnel.profile import describe_stopped
from opslib.decide.funnel.stages import measure_curve, measure_path
from opslib.decide.funnel.trial import Trial, choose_experiment, plan_repair, read_trial
from opslib.decide.scope import Scope, check_breakdown, choose_scope
from opslib.errors import InputError
from opslib.explain.decompose import StepSplit, split_steps
from opslib.explain.portrait import PortraitResult
from opslib.language import mark
from opslib.measure.estimate import Change
from opslib.measure.funnel.follow import ConversionCurve, FunnelComparison, compare_funnels
from opslib.measure.funnel.funnel import FunnelResult
from opslib.measure.sample_size import ExperimentPlan


@dataclass(frozen=True)
class Asked:
    """What was asked for beyond days, users and path; empty or 0 where the diagnosis chooses.

    Attributes:
        step, breakdown, experiment: see `diagnose_funnel`.
        fixed_on: the day from which a repair was out; None for none.
    """

    step: int = 0
    breakdown: str = ""
    experiment: str = ""
    fixed_on: dt.date | None = None


@dataclass(frozen=True)
class FunnelDiagnosis:
    """What is wrong with a funnel; each part is computed when it is first asked for.

    Attributes:
        scope: data, segment and days.
        path: the funnel's steps.
        asked: what was asked for: step, breakdown, experiment and the day of a repair.
        whole: the funnel of the days looked at, of all users.
        now: the same, by `breakdown` too.
        comparison: against the days before; None where the data do not reach back.
        split: the overall change split to the steps; None without a comparison.
        step: number of the step that is explained, from 2.
        culprit: where that step's change comes from; None without a comparison.
        profile: who stopped before that step, against those who went on; None without attributes.
        breakdown: the column that the funnel is broken down by; empty where there is none.
        curve: share converted by time since the entry, open windows included.
        trial: the experiment read out; None without one.
        plan: the experiment that would show whether a repair works; None where the step has no rate.
        missing: section -> the table that would light it up.
    """

    scope: Scope
    path: FunnelPath
    asked: Asked

    @cached_property
    def whole(self) -> FunnelResult:
        return measure_path(self.scope, self.path, self.scope.now)

    @cached_property
    def now(self) -> FunnelResult:
        return measure_path(self.scope, self.path, self.scope.now, by=self.breakdown)

    @cached_property
    def comparison(self) -> FunnelComparison | None:
        if self.scope.before is None:
            return None
        return compare_funnels(self.whole, measure_path(self.scope, self.path, self.scope.before))

    @cached_property
    def split(self) -> StepSplit | None:
        if self.comparison is None:
            return None
        counts = [part.steps["converted_count"].tolist() for part in (self.comparison.before, self.whole)]
        return split_steps(*counts, steps=self.path.labels)

    @cached_property
    def step(self) -> int:
        return self.asked.step or _pick_step(self.split, self.whole)

    @cached_property
    def culprit(self) -> Culprit | None:
        if self.scope.before is None:
            return None
        return find_culprit(self.scope, self.path, self.step, self.asked.fixed_on)

    @cached_property
    def profile(self) -> PortraitResult | None:
        return describe_stopped(self.scope, self.path, self.step)

    @cached_property
    def breakdown(self) -> str:
        if self.asked.breakdown:
            return self.asked.breakdown
        moved = self.culprit.columns if self.culprit is not None else ()
        return next(iter(moved or list_columns(self.scope, self.path)), "")

    @cached_property
    def curve(self) -> ConversionCurve:
        return measure_curve(self.scope, self.path, self.scope.now)

    @cached_property
    def trial(self) -> Trial | None:
        return read_trial(self.scope, self.path, self.asked.experiment)

    @cached_property
    def plan(self) -> ExperimentPlan | None:
        return plan_repair(self.whole, self.path, self.culprit, self.step, self.scope)

    @cached_property
    def missing(self) -> dict[str, str]:
        return _find_missing(self.scope, list_columns(self.scope, self.path))

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
        for part in (self.comparison, self.split, self.culprit, self.curve, self.trial, self.plan, self.profile):
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
        A `FunnelDiagnosis`. What is wrong with the options is said at once; parts are computed when first asked for.

    Raises:
        InputError: unfit data, an unknown funnel, event, column, segment or experiment, a day outside the data.
    """
    data.require_fit()
    scope = choose_scope(data, as_of=as_of, segment=segment, compare_to=compare_to, days=days)
    path = choose_path(data, funnel, window_days=window_days)
    if step and not 2 <= step <= len(path.steps):
        raise InputError(f"step {step}: this funnel's steps to explain are 2 to {len(path.steps)}, or 0 to choose.")
    repaired = parse_date(fixed_on, name="fixed_on") if fixed_on else None
    if breakdown:
        check_breakdown(breakdown, list_columns(scope, path))
    if experiment:
        choose_experiment(scope, experiment)
    return FunnelDiagnosis(scope, path, Asked(step, breakdown, experiment, repaired))


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
        missing[mark("Who moved it")] = mark("users or events with attributes such as platform, channel or version")
    if not scope.data.has("exposures"):
        missing[mark("Did the fix work")] = "exposures (user_id, experiment, variant, ts)"
    return missing

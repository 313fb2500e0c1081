"""One decision from an experiment's comparisons: ship, stop or go on, with the reason as a code."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd

from opslib.measure.estimate import to_plain_record
from opslib.measure.experiment.metrics import Metric
from opslib.measure.sample_size import find_detectable
from opslib.measure.sequential import inflate_for_looks

Verdict = Literal["ship", "stop", "go_on"]

DECISION_COLUMNS = ("variant", "decision", "reason", "metric", "more_users_count", "more_days")


@dataclass(frozen=True)
class Decision:
    """What to do with a variant.

    Attributes:
        variant: which; empty where there is none but the control.
        decision: "ship", "stop" or "go_on".
        reason: why. ship: "primary_gained". stop: "sample_ratio_mismatch" (repair the split, start again),
            "guardrail_broken", "primary_lost", "gain_too_small" (a gain worth having is ruled out), "no_clear_effect"
            (all planned users are in, or no more come). go_on: "not_enough_data", "guardrail_unclear" (a gain, but a
            guardrail may be hurt), "not_clear_yet", "no_primary_metric".
        metric: the one that decided, or an empty text.
        more_users_count: users of all variants still needed to show a gain worth having; None where it is not asked or
            cannot be said.
        more_days: days until they are in, at the rate so far.
    """

    variant: str
    decision: Verdict
    reason: str
    metric: str = ""
    more_users_count: int | None = None
    more_days: int | None = None

    def to_record(self) -> dict[str, Any]:
        """A flat record."""
        return to_plain_record({name: getattr(self, name) for name in DECISION_COLUMNS})


@dataclass(frozen=True)
class State:
    """Where the experiment stands.

    Attributes:
        mismatch: the split is not what was planned.
        running: users still come in.
        planned_users: of all variants, or None.
        users: assigned so far.
        users_per_day: at which rate; None where nobody comes in any more, or days are unknown.
        variants: number, the control included.
        level, power: of what is still needed.
        always: judged by the sequence.
    """

    mismatch: bool
    running: bool
    planned_users: int | None
    users: int
    users_per_day: float | None
    variants: int
    level: float
    power: float
    always: bool


def decide(comparisons: pd.DataFrame, metrics: Sequence[Metric], variant: str, state: State) -> Decision:
    """Decide on one variant.

    Args:
        comparisons: the variant's rows of `ExperimentResult.comparisons`.
        metrics: the experiment's.
        state: where the experiment stands.

    Guardrails need no correction for their number: to ship, each must hold.
    """
    if state.mismatch:
        return Decision(variant, "stop", "sample_ratio_mismatch")
    rows = {str(row["metric"]): row for row in comparisons.to_dict("records")}
    primary = [(m, rows[m.name]) for m in metrics if m.role == "primary"]
    guards = [(m, rows[m.name]) for m in metrics if m.role == "guardrail"]
    broken = next((m.name for m, row in guards if row["verdict"] == "broken"), "")
    if broken:
        return Decision(variant, "stop", "guardrail_broken", broken)
    if not primary:
        return Decision(variant, "go_on", "no_primary_metric")
    lost = next((m.name for m, row in primary if row["verdict"] == "loss"), "")
    if lost:
        return Decision(variant, "stop", "primary_lost", lost)
    waiting = any(row["immature_count"] > 0 for _, row in [*primary, *guards])
    complete = state.planned_users is not None and state.users >= state.planned_users and not waiting
    over = complete or not (state.running or waiting)
    gained = next((m.name for m, row in primary if row["verdict"] == "gain"), "")
    if gained:
        doubt = next((m.name for m, row in guards if row["verdict"] != "holds"), "")
        return (
            Decision(variant, "go_on", "guardrail_unclear", doubt)
            if doubt
            else Decision(variant, "ship", "primary_gained", gained)
        )
    if all(_rules_out(m, row, state.always) for m, row in primary):
        return Decision(variant, "stop", "gain_too_small", primary[0][0].name)
    if all(row["verdict"] == "not_enough_data" for _, row in primary):
        return Decision(variant, "go_on", "not_enough_data", primary[0][0].name)
    metric, row = primary[0]
    if over:
        return Decision(variant, "stop", "no_clear_effect", metric.name)
    more, days = _count_needed(metric, row, state)
    return Decision(variant, "go_on", "not_clear_yet", metric.name, more, days)


def _rules_out(metric: Metric, row: dict[Any, Any], always: bool) -> bool:
    """Whether the interval leaves out every gain worth having; only where such a gain was named."""
    low, high = (row[f"{'always' if always else 'difference'}_{end}"] for end in ("low", "high"))
    if not metric.worth or low is None or math.isnan(low) or math.isnan(row["control_value"]):
        return False
    best = high if metric.sign > 0 else -low
    return bool(best < metric.worth * abs(row["control_value"]))


def _count_needed(metric: Metric, row: dict[Any, Any], state: State) -> tuple[int | None, int | None]:
    """Users of all variants, and days, until a gain worth having would be shown."""
    shown = row["detectable_difference"]
    worth = metric.worth * abs(row["control_value"])
    if math.isnan(shown) or not worth > 0:
        missing = None if state.planned_users is None else max(0, state.planned_users - state.users)
        return missing, _count_days(missing, state)
    # What is detectable falls with the root of the users; a sequence needs more of them.
    factor = inflate_for_looks(level=state.level, power=state.power) if state.always else 1.0
    shown /= find_detectable(1.0, level=state.level, power=state.power)
    reach = find_detectable(shown, level=state.level / (state.variants - 1), power=state.power)
    now = int(row["users_count"] + row["control_users_count"])
    needed = math.ceil(now * factor * (reach / worth) ** 2) * state.variants / 2
    more = max(0, math.ceil(needed) - state.users)
    return more, _count_days(more, state)


def _count_days(users: int | None, state: State) -> int | None:
    return None if users is None or not state.users_per_day else math.ceil(users / state.users_per_day)


def pick_decision(decisions: Sequence[Decision], comparisons: pd.DataFrame, metrics: Sequence[Metric]) -> Decision:
    """The experiment's decision: the shipped variant with the largest gain, else one to go on with, else stop."""
    if not decisions:
        return Decision("", "go_on", "not_enough_data")
    order: list[Verdict] = ["ship", "go_on", "stop"]
    signs = {m.name: m.sign for m in metrics if m.role == "primary"}

    def rank(decision: Decision) -> tuple[int, float]:
        rows = comparisons[(comparisons["variant"] == decision.variant) & comparisons["metric"].isin(list(signs)[:1])]
        gain = float(rows["difference"].iloc[0]) * signs[rows["metric"].iloc[0]] if len(rows) else 0.0
        return order.index(decision.decision), 0.0 if math.isnan(gain) else -gain

    return min(decisions, key=rank)

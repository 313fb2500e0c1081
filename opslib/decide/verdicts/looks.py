"""One look at one metric of an initiative: what it did, and how strong the evidence is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from opslib.data.operations import BAD_WHEN_HIGH
from opslib.language import join_sentences
from opslib.measure.counterfactual.result import CounterfactualResult
from opslib.measure.estimate import Estimate, Unit, to_plain_record
from opslib.measure.experiment.before_after import BeforeAfterResult
from opslib.measure.experiment.readout import ExperimentResult

Role = Literal["core", "behaviour", "feedback", "guardrail"]
Strength = Literal[
    "experiment", "holdout", "difference in differences", "synthetic control", "before/after only", "none"
]
Direction = Literal["better", "worse", "unclear", "unknown"]
# The strongest first; the two that compare groups which nobody drew by lot are alike.
STRENGTHS: tuple[Strength, ...] = (
    "experiment", "holdout", "difference in differences", "synthetic control", "before/after only", "none",
)  # fmt: skip
LEVEL = 0.05
# Chances to see what is there, of what would be enough.
POWER_OVER_LEVEL = (1.96 + 0.84) / 1.96


@dataclass(frozen=True)
class Look:
    """What one metric says of an initiative.

    Attributes:
        role: core, behaviour, feedback or guardrail.
        metric, unit: which; measured per user where `per_user`.
        strength: see `STRENGTHS`.
        with_it, without_it: the metric among users who got it and who did not; of a counterfactual as it was and as it
            would have been; of before/after, after and before.
        effect: with - without in the metric's unit, with low, high and p_value; None where nothing can be said.
        relative: effect / without.
        adjusted_p_value: Holm's over the looks of the same role; the core's own.
        direction: "better" or "worse" where the interval leaves out zero (behaviour and feedback: where Holm's p-value
            is below .05 too), else "unclear"; "unknown" without an effect.
        beyond_usual: of before/after: the change is larger than such changes are by themselves; None elsewhere, or
            where that is not known.
        per_user: the value is one of each user within `window_days` of first exposure, not of each day.
        window_days: days after exposure, or days after the start that were compared.
        immature_count: users whose window is not over; they are left out.
        users_count: users who got it.
        worth: the smallest change that would have been worth having, without a sign; None where nothing says.
        more_users_count, more_days: what it would take to see that change four times in five; None where not asked or
            not known.
        why_not: why no stronger evidence was taken, in sentences.
        notes: what a reader must know, in sentences.
        result: what it was read from.
    """

    role: Role
    metric: str
    unit: Unit
    strength: Strength
    with_it: Estimate | None = None
    without_it: Estimate | None = None
    effect: float | None = None
    low: float | None = None
    high: float | None = None
    p_value: float | None = None
    relative: float | None = None
    adjusted_p_value: float | None = None
    direction: Direction = "unknown"
    beyond_usual: bool | None = None
    per_user: bool = False
    window_days: int = 0
    immature_count: int = 0
    users_count: int = 0
    worth: float | None = None
    more_users_count: int | None = None
    more_days: int | None = None
    why_not: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    result: ExperimentResult | CounterfactualResult | BeforeAfterResult | None = None

    @property
    def sign(self) -> int:
        """1 where more is better, else -1."""
        return -1 if self.metric in BAD_WHEN_HIGH else 1

    @property
    def descriptive(self) -> bool:
        """True where there is nothing to compare with, so that the change may have other reasons."""
        return self.strength in ("before/after only", "none")

    @property
    def rules_out_worth(self) -> bool:
        """True where the interval leaves out every change worth having."""
        best = self.high if self.sign > 0 else self.low
        return self.worth is not None and best is not None and self.sign * best < self.worth

    def to_record(self) -> dict[str, Any]:
        """A flat record."""
        own = {k: v for k, v in vars(self).items() if k not in ("with_it", "without_it", "why_not", "notes", "result")}
        for name, estimate in (("with", self.with_it), ("without", self.without_it)):
            own[f"{name}_value"] = None if estimate is None else estimate.value
            own[f"{name}_denominator"] = None if estimate is None else estimate.denominator
        words = {
            "descriptive": self.descriptive,
            "why_not": join_sentences(self.why_not),
            "notes": join_sentences(self.notes),
        }
        return to_plain_record(own | words)


def judge_direction(look: Look) -> Look:
    """Fill in which way the metric moved, from its interval alone."""
    if look.effect is None or look.low is None or look.high is None or not math.isfinite(look.effect):
        return replace(look, direction="unknown")
    worst, best = (look.low, look.high) if look.sign > 0 else (-look.high, -look.low)
    return replace(look, direction="better" if worst > 0 else "worse" if best < 0 else "unclear")


def correct_for_many(looks: Sequence[Look]) -> list[Look]:
    """Behaviours and feedback together are several chances to be fooled: a move counts when Holm's p-value says so.

    Source: Holm (1979), Scandinavian Journal of Statistics 6, 65-70.
    """
    at = [i for i, look in enumerate(looks) if look.role in ("behaviour", "feedback") and look.p_value is not None]
    adjusted = adjust_holm([looks[i].p_value or 0.0 for i in at])
    found = list(looks)
    for i, p in zip(at, adjusted, strict=True):
        look = replace(looks[i], adjusted_p_value=p)
        clear = look.direction in ("better", "worse")
        found[i] = replace(look, direction="unclear") if clear and p > LEVEL else look
    return [
        look if look.adjusted_p_value is not None else replace(look, adjusted_p_value=look.p_value) for look in found
    ]


def adjust_holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down p-values: the chance of one false claim or more among all.

    >>> adjust_holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    p = np.asarray(p_values, dtype=float)
    order = np.argsort(p, kind="stable")
    steps = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)) if len(p) else p
    found = np.empty(len(p))
    found[order] = np.minimum(steps, 1.0)
    return [float(x) for x in found]

"""The change of a funnel's overall rate, split exactly to its steps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from opslib.errors import InputError
from opslib.explain.statistics import Floats
from opslib.language import say
from opslib.measure.estimate import (
    MINIMUM_DENOMINATOR,
    Change,
    compare_estimates,
    estimate_rate,
    to_plain_record,
)

STEP_COLUMNS = [
    "step",
    "before_numerator_count",
    "before_count",
    "after_numerator_count",
    "after_count",
    "before_rate",
    "after_rate",
    "change_rate",
    "change_low",
    "change_high",
    "effect_rate",
    "effect_low",
    "effect_high",
    "share_of_change_rate",
]


@dataclass(frozen=True)
class StepSplit:
    """What each step of a funnel did to the change of its overall rate.

    Attributes:
        name: the overall rate's name.
        overall: the share that went through all steps, after and before.
        steps: one row a step after the first: step, the four counts (who came to the step before it, and who went on),
            before_rate, after_rate, change_rate with low and high, effect_rate (the change of the overall rate that is
            due to this step) with low and high, share_of_change_rate (missing where the overall change lies within
            chance). The effects add up to the overall change.
        note: why there is no split, or an empty text.
    """

    name: str
    overall: Change
    steps: pd.DataFrame
    note: str

    def findings(self) -> list[dict[str, Any]]:
        """The overall change, and one record a step."""
        rows = [{"name": self.name, "kind": "step", **to_plain_record(r)} for r in self.steps.to_dict("records")]
        return [self.overall.to_finding(kind="overall"), *rows]


def split_steps(
    before_counts: Sequence[int],
    after_counts: Sequence[int],
    *,
    steps: Sequence[str] = (),
    name: str = "overall_rate",
    minimum: int = MINIMUM_DENOMINATOR,
) -> StepSplit:
    """Split the change of a funnel's overall rate to its steps, with nothing left over.

    Args:
        before_counts, after_counts: users at each step of the two periods, the entrants first.
        steps: names of the steps, the first included; empty: numbers.
        name: the overall rate's name.
        minimum: with fewer entrants in a period nothing is split.

    Returns:
        A `StepSplit`. A step that nobody reached in one period takes the other period's rate: it cannot have changed.

    Raises:
        InputError: unlike numbers of steps, fewer than two, or a step with more users than the one before it.

    Source: the Shapley value of a product, as the integral of its multilinear extension (Owen 1972, Management Science
    18, 64-79), which Gauss-Legendre nodes give exactly.

    >>> split = split_steps([1000, 500, 100], [1000, 400, 80], steps=["visit", "basket", "order"])
    >>> split.steps[["step", "effect_rate"]].round(4).values.tolist()
    [['basket', -0.02], ['order', 0.0]]
    """
    counts = [np.asarray(c, dtype=float) for c in (before_counts, after_counts)]
    names = list(steps) or [str(i) for i in range(1, len(counts[0]) + 1)]
    if len({len(counts[0]), len(counts[1]), len(names)}) > 1 or len(names) < 2:
        raise InputError(
            f"A funnel has the same steps in both periods, at least two: there are {len(counts[0])} before, "
            f"{len(counts[1])} after and {len(names)} names."
        )
    for label, users in zip(("before", "after"), counts, strict=True):
        if not np.isfinite(users).all() or (users < 0).any() or (np.diff(users) > 0).any():
            raise InputError(
                f"In the period {label} a step has more users than the one before it, or no count: give users who did "
                "all steps up to each one."
            )
    earlier, now = (estimate_rate(name, c[-1], c[0], minimum=minimum) for c in counts)
    overall = compare_estimates(now, earlier)
    frame = _measure_steps(counts[0], counts[1], names)
    if overall.difference is None:
        note = say("{note} (after)", note=now.note) if earlier.known else say("{note} (before)", note=earlier.note)
        return StepSplit(name, overall, frame.iloc[:0], note)
    frame["share_of_change_rate"] = frame["effect_rate"] / (overall.difference if overall.clear else math.nan)
    return StepSplit(name, overall, frame, "")


def _measure_steps(before: Floats, after: Floats, names: list[str]) -> pd.DataFrame:
    with np.errstate(invalid="ignore", divide="ignore"):
        old, new = before[1:] / before[:-1], after[1:] / after[:-1]
    seen_old, seen_new = np.where(before[:-1] > 0, old, new), np.where(after[:-1] > 0, new, old)
    a, b = np.nan_to_num(seen_old), np.nan_to_num(seen_new)
    # What the other steps let through on average, on the straight way from one period's rates to the other's.
    nodes, weights = np.polynomial.legendre.leggauss(len(a) // 2 + 1)
    way = a[:, None] + (b - a)[:, None] * (nodes + 1) / 2
    through = np.array([(np.delete(way, k, axis=0).prod(axis=0) * weights).sum() / 2 for k in range(len(a))])
    rows = []
    for k, step in enumerate(names[1:]):
        x0, n0, x1, n1 = before[k + 1], before[k], after[k + 1], after[k]
        pair = [estimate_rate(step, x, n, minimum=1) for x, n in ((x1, n1), (x0, n0))]
        change = compare_estimates(*pair)
        difference, low, high = (math.nan if v is None else v for v in (change.difference, change.low, change.high))
        ends = (b[k] - a[k]) * through[k], low * through[k], high * through[k]
        rows.append((step, int(x0), int(n0), int(x1), int(n1), old[k], new[k], difference, low, high, *ends, math.nan))
    return pd.DataFrame(rows, columns=STEP_COLUMNS)

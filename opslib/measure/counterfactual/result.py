"""What happened against what would have happened otherwise."""

from __future__ import annotations

import datetime as dt
import math
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd

from opslib.measure.counterfactual.weeks import WEEK_DAYS, Scale
from opslib.measure.estimate import CONFIDENCE, Unit, to_plain_record

Method = Literal["difference in differences", "synthetic control"]
PATH_COLUMNS = ("start_at", "actual", "expected", "effect", "after")
UNKNOWN = (
    "actual", "expected", "effect", "low", "high", "p_value", "relative", "before_p_value", "before_drift", "fit_rate",
    "usual_error", "placebo_p_value",
)  # fmt: skip
WEIGHT_COLUMNS = ("group", "weight_rate")
PLACEBO_COLUMNS = ("kind", "group", "start_at", "effect", "error_ratio")


@dataclass(frozen=True)
class CounterfactualResult:
    """An effect against groups that were not reached.

    Attributes:
        metric, unit, method: what was measured, and how.
        scale: "level": differences are compared; "log": proportions are (counts and amounts of groups of unlike size).
        start: the first day after; `weeks_before` and `weeks_after` weeks of seven days from it were used.
        actual, expected: the mean of the weeks after, as it was and as it would have been.
        effect: actual - expected, with low, high and p_value; None where nothing can be said.
        relative: effect / expected.
        sound: the comparison was good before the start; without that the effect is told, not relied on.
        before_p_value: of the groups having moved alike before (difference in differences); None where not tested.
        before_drift: by how much the effect would come out if the gap went on as it drifted before; None where unknown.
        fit_rate: share of the treated group's variance before that the synthetic control follows (1: all; below 0:
            worse than its own mean); None for differences.
        usual_error: root mean square of the effects of the same length that were found where nothing was done (placebos
            in time); None with fewer than three.
        placebo_p_value: rank of the treated group's error ratio among all groups taken as if treated (placebos in
            space); None where not run. It cannot be below 1 / (groups + 1).
        path: start_at (of the week), actual, expected, effect, after (True from the start on).
        weights: group, weight_rate.
        placebos: kind ("space", "time"), group (as if treated), start_at (as if done), effect, error_ratio (root mean
            square gap after / before; of placebos in space).
        notes: what a reader must know, in sentences.
    """

    metric: str
    unit: Unit
    method: Method
    scale: Scale
    start: dt.date
    weeks_before: int
    weeks_after: int
    actual: float | None
    expected: float | None
    effect: float | None
    low: float | None
    high: float | None
    p_value: float | None
    relative: float | None
    sound: bool
    before_p_value: float | None
    before_drift: float | None
    fit_rate: float | None
    usual_error: float | None
    placebo_p_value: float | None
    path: pd.DataFrame
    weights: pd.DataFrame
    placebos: pd.DataFrame
    notes: tuple[str, ...]
    confidence: float = CONFIDENCE

    @property
    def known(self) -> bool:
        """True when there is an effect with an interval."""
        return self.effect is not None and self.low is not None

    @property
    def clear(self) -> bool:
        """True when the interval leaves out zero."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)

    @property
    def days_after(self) -> int:
        """Days after the start that were used."""
        return self.weeks_after * WEEK_DAYS

    def findings(self) -> list[dict[str, Any]]:
        """The effect, the weights that count, and the placebos as flat records."""
        own = {k: v for k, v in vars(self).items() if k not in ("path", "weights", "placebos", "notes")}
        context = {"metric": self.metric, "method": self.method, "start": self.start.isoformat()}
        records = [to_plain_record({"name": "counterfactual", **own})]
        used = self.weights[self.weights["weight_rate"] > 0]
        for name, frame in (("counterfactual_weight", used), ("counterfactual_placebo", self.placebos)):
            records += [{"name": name, **context, **to_plain_record(row)} for row in frame.to_dict("records")]
        return records + [{"name": "counterfactual_note", **context, "note": note} for note in self.notes]


def refuse(
    metric: str,
    unit: Unit,
    method: Method,
    scale: Scale,
    start: dt.date,
    before: int,
    after: int,
    note: str,
    **more: Any,
) -> CounterfactualResult:
    """A result that says why nothing can be said."""
    empty: dict[str, Any] = dict.fromkeys(UNKNOWN)
    frames = {
        "path": pd.DataFrame(columns=list(PATH_COLUMNS)),
        "weights": pd.DataFrame(columns=list(WEIGHT_COLUMNS)).astype({"weight_rate": float}),
        "placebos": pd.DataFrame(columns=list(PLACEBO_COLUMNS)),
    }
    given = {**empty, **frames, "sound": False, "notes": (note,), **more}
    return CounterfactualResult(metric, unit, method, scale, start, before, after, **given)


def to_units(
    scale: Scale, actual: float, effect: float, low: float | None, high: float | None
) -> tuple[float, float, float | None, float | None]:
    """Expected value, effect, low and high in the metric's unit, from the scale on which they were compared."""
    if scale == "level":
        return actual - effect, effect, low, high

    def turn(x: float | None) -> float | None:
        return None if x is None else actual * (1 - math.exp(-x))

    return actual * math.exp(-effect), actual * (1 - math.exp(-effect)), turn(low), turn(high)

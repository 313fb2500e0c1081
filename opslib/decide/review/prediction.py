"""What a metric may be in the next quarter: a centre, how far such predictions missed before, and chances from both.

A prediction is Student's t on a scale on which misses are alike: logarithms for counts and money, log-odds for rates.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from opslib.language import say
from opslib.measure.estimate import Unit

# An interval that holds four of five quarters.
LEVEL = 0.8
LIKELY, AMBITIOUS = 0.7, 0.3
# From fewer earlier quarters than this nothing is learned of how much a quarter differs from the one before.
FEWEST_QUARTERS = 2.0


@dataclass(frozen=True)
class Prediction:
    """A metric in the next quarter.

    Attributes:
        metric, unit: which.
        now_value: in the quarter reviewed.
        method: "growth model", "own level" or "own drift"; empty where nothing can be said.
        center, scale, freedom: Student's t of the transformed value.
        error_value: mean miss of such predictions of earlier quarters: a share of the value or, of rates, in rate.
        tests_count: predictions of earlier days behind it; they overlap.
        quarters_count: how many quarters apart from each other they amount to.
        note: why nothing can be said.
    """

    metric: str
    unit: Unit
    now_value: float | None
    method: str = ""
    center: float = field(default=math.nan, repr=False)
    scale: float = field(default=math.nan, repr=False)
    freedom: float = field(default=math.nan, repr=False)
    error_value: float | None = None
    tests_count: int = 0
    quarters_count: float = 0.0
    note: str = ""

    @property
    def known(self) -> bool:
        """True where something can be said."""
        return bool(self.method)

    def quantile(self, share: float) -> float:
        """The value below which the metric will be with this probability."""
        from scipy.special import stdtrit

        return from_scale(self.unit, self.center + self.scale * float(stdtrit(self.freedom, share)))

    def below(self, value: float) -> float:
        """The probability that the metric will be below a value."""
        from scipy.special import stdtr

        return float(stdtr(self.freedom, (to_scale(self.unit, value) - self.center) / self.scale))

    def describe(self, direction: str, target: float | None) -> dict[str, Any]:
        """One row of proposals: forecast, interval, chance to meet the target, and targets of 70% and 30%."""
        row: dict[str, Any] = {"metric": self.metric, "unit": self.unit, "direction": direction}
        row |= {"now_value": self.now_value, "target_value": target, "method": self.method}
        names = ("forecast_value", "low_value", "high_value", "likely_value", "ambitious_value", "probability_rate")
        row |= dict.fromkeys(names)
        if self.known:
            more = direction == "at_least"
            shares = (0.5, (1 - LEVEL) / 2, (1 + LEVEL) / 2, *(1 - s if more else s for s in (LIKELY, AMBITIOUS)))
            values = [self.quantile(s) for s in shares]
            values[3:] = [round_target(v, self.unit) for v in values[3:]]
            chance = None
            if target is not None:
                chance = 1 - self.below(target) if more else self.below(target)
            row |= dict(zip(names, (*values, chance), strict=True))
        learned = {"error_value": self.error_value, "tests_count": self.tests_count}
        return row | learned | {"quarters_count": self.quarters_count, "note": self.note}


def predict_from_history(
    metric: str, unit: Unit, now_value: float | None, history: pd.Series, *, per_quarter: int
) -> Prediction:
    """Predict the next quarter by the metric's own level, or its drift where that did better before.

    Args:
        metric, unit: which.
        now_value: in the quarter reviewed.
        history: its value over windows as long as a quarter, the latest first, `per_quarter` of them a quarter apart.
        per_quarter: from so many windows on two do not overlap.

    Returns:
        A `Prediction`. Each earlier window is predicted from those a quarter and more before it, and the misses of the
        better of two rules (as the last quarter; half the last change once more) make the interval.

    >>> waves = pd.Series([100 + 10 * (-1) ** n for n in range(8)])
    >>> prediction = predict_from_history("dau_count", "count", 110, waves, per_quarter=1)
    >>> prediction.method, round(prediction.quantile(0.5)), prediction.tests_count
    ('own level', 110, 7)
    """
    if now_value is None:
        return Prediction(metric, unit, now_value, note=say("no value in this quarter"))
    if now_value <= 0:
        return Prediction(metric, unit, now_value, note=say("nothing to go on from nought"))
    values = np.array([math.nan if pd.isna(v) else to_scale(unit, float(v)) for v in history])
    step = per_quarter
    level = values[:-step] - values[step:] if len(values) > step else np.array([])
    drifted = np.array([])
    if len(values) > 2 * step:
        before, earlier = values[step:-step], values[2 * step :]
        drifted = values[: -2 * step] - (before + (before - earlier) / 2)
    known = level[~np.isnan(level)]
    quarters = 1 + (len(known) - 1) / step if len(known) else 0.0
    if quarters < FEWEST_QUARTERS:
        note = say("too few earlier quarters to tell how much one differs from the next")
        return Prediction(metric, unit, now_value, tests_count=len(known), quarters_count=quarters, note=note)
    method, misses, center = "own level", level, to_scale(unit, now_value)
    both = ~np.isnan(drifted) & ~np.isnan(level[: len(drifted)])
    tried = 1 + (both.sum() - 1) / step if both.any() else 0.0
    if tried >= FEWEST_QUARTERS and np.abs(drifted[both]).mean() < np.abs(level[: len(drifted)][both]).mean():
        method, misses, quarters = "own drift", drifted, tried
        center += (values[0] - values[step]) / 2
    found = misses[~np.isnan(misses)]
    scale = max(float(np.sqrt(np.mean(found**2))), 1e-6)
    error = _measure_error(unit, values, method, step)
    return Prediction(metric, unit, now_value, method, center, scale, quarters, error, len(found), quarters)


def _measure_error(unit: Unit, values: np.ndarray, method: str, step: int) -> float:
    before = values[step:]
    if method == "own drift":
        before = values[step:-step] + (values[step:-step] - values[2 * step :]) / 2
    came = values[: len(before)]
    known = ~np.isnan(before) & ~np.isnan(came)
    pairs = [(from_scale(unit, a), from_scale(unit, b)) for a, b in zip(came[known], before[known], strict=True)]
    return float(np.mean([abs(a - b) if unit == "rate" else abs(a - b) / max(abs(a), 1e-9) for a, b in pairs]))


def to_scale(unit: Unit, value: float) -> float:
    """A value on the scale on which misses are alike."""
    if unit == "rate":
        safe = min(max(value, 1e-6), 1 - 1e-6)
        return math.log(safe / (1 - safe))
    return math.log(max(value, 1e-9))


def from_scale(unit: Unit, value: float) -> float:
    """The way back."""
    return 1 / (1 + math.exp(-value)) if unit == "rate" else math.exp(min(value, 700.0))


def round_target(value: float, unit: Unit) -> float:
    """A target as people set one: rates to a tenth of a point, the rest to three digits.

    >>> round_target(0.25349, "rate"), round_target(860_052.77, "amount")
    (0.253, 860000.0)
    """
    return round(value, 3) if unit == "rate" else float(f"{value:.3g}")

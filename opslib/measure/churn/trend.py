"""Is churn rising? So many rises in a row, how often chance alone would make them, and a trend test beside it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from opslib.language import mark, say
from opslib.measure.estimate import adjust_p_values, to_plain
from opslib.measure.grains import Grain

RISES = 3
SEED = 2048
DRAWS = 20_000
# "How often in a year" is said for so many periods.
YEAR: dict[Grain, int] = {"day": 365, "week": 52, "month": 12, "quarter": 4}
# With fewer changes outside the run of rises, the scatter of a usual period cannot be told.
FEWEST_CHANGES = 3
LEVEL = 0.05


@dataclass(frozen=True)
class ChurnRise:
    """Whether the last periods rose, and what that is worth.

    Attributes:
        rises: so many rises in a row were looked for.
        periods: the last `rises` + 1 periods: period_start, left_count, opening_count, churn_rate.
        rising: True when each of them is higher than the one before; None with too few periods.
        chance_rate: how often the last periods would all rise though nothing changes, at these volumes
            and this scatter.
        chance_year_rate: how often that would happen at least once within a year.
        change_rate: slope of the trend a period, in rate.
        p_value: of the trend over these periods (Cochran-Armitage, two-sided), scatter allowed for.
        dispersion_ratio: how much more than chance the rate moves from period to period in earlier periods, at least 1.
        note: what could not be said, and why.
    """

    rises: int
    periods: pd.DataFrame
    rising: bool | None
    chance_rate: float | None
    chance_year_rate: float | None
    change_rate: float | None
    p_value: float | None
    dispersion_ratio: float | None
    note: str = ""

    @property
    def clear(self) -> bool:
        """True when it rises, and the trend is more than chance."""
        return bool(self.rising) and self.p_value is not None and self.p_value < LEVEL

    def to_finding(self, **context: Any) -> dict[str, Any]:
        """A flat record for `findings.json`."""
        names = ("rising", "chance_rate", "chance_year_rate", "change_rate", "p_value", "dispersion_ratio", "note")
        head = {"name": "churn_rise", **context, "rises": self.rises, "clear": self.clear}
        return head | {n: to_plain(getattr(self, n)) for n in names}


def judge_rise(
    counts: pd.DataFrame, *, grain: Grain = "month", rises: int = RISES, draws: int = DRAWS, seed: int = SEED
) -> ChurnRise:
    """Judge whether churn has risen so many times in a row.

    Args:
        counts: period_start, left, opening; known periods in order of time.
        grain: length of a period.
        rises: rises in a row; 3 rises are four periods.
        draws, seed: of the simulation: every period has the mean rate of the last ones, its own volume, and the scatter
            from period to period that earlier periods show (beta-binomial).

    Returns:
        A `ChurnRise`.

    Source: Armitage (1955), Biometrics 11, 375-386; McCullagh and Nelder (1989), chapter 4, for the dispersion.

    >>> months = pd.date_range("2026-01-01", periods=4, freq="MS")
    >>> rise = judge_rise(pd.DataFrame({"period_start": months, "left": [40, 45, 50, 55], "opening": [1000] * 4}))
    >>> rise.rising, round(rise.chance_rate, 2), round(rise.p_value, 3), rise.clear
    (True, 0.03, 0.096, False)
    """
    last = counts.tail(rises + 1)
    shown = last.rename(columns={"left": "left_count", "opening": "opening_count"}).reset_index(drop=True)
    shown["churn_rate"] = shown["left_count"] / shown["opening_count"]
    if len(last) < rises + 1:
        note = say("not enough data: {periods} known periods, {least} needed", periods=len(last), least=rises + 1)
        return ChurnRise(rises, shown, None, None, None, None, None, None, note)
    left, opening = (last[c].to_numpy(dtype=float) for c in ("left", "opening"))
    rates = left / opening
    rising = bool((np.diff(rates) > 0).all())
    mean = left.sum() / opening.sum()
    if mean in (0.0, 1.0):
        nobody, everybody = (
            mark("nobody left: there is nothing to test"),
            mark("everybody left: there is nothing to test"),
        )
        return ChurnRise(rises, shown, rising, 0.0, 0.0, 0.0, None, None, say(nobody if mean == 0 else everybody))
    dispersion, changes = _measure_dispersion(counts.iloc[: len(counts) - rises])
    note = say("too few earlier periods to tell how much the rate usually moves: chance alone is assumed")
    note = "" if changes else note
    chance, year = _simulate(mean, opening, dispersion, rises, YEAR[grain], draws, seed)
    slope, p = _test_trend(left, opening, dispersion, changes)
    return ChurnRise(rises, shown, rising, chance, year, slope, p, dispersion, note)


def tabulate_rises(
    segments: Mapping[str, pd.DataFrame], *, grain: Grain = "month", rises: int = RISES, seed: int = SEED
) -> pd.DataFrame:
    """`judge_rise` for each segment, with q-values over all of them.

    Returns:
        segment, rising, first_rate, last_rate, chance_rate, p_value, q_value, dispersion_ratio, note.
    """
    rows = []
    for name, counts in segments.items():
        rise = judge_rise(counts, grain=grain, rises=rises, draws=DRAWS // 4, seed=seed)
        rates = rise.periods["churn_rate"]
        ends = (float(rates.iloc[0]), float(rates.iloc[-1])) if len(rates) else (None, None)
        rows.append((name, rise.rising, *ends, rise.chance_rate, rise.p_value, rise.dispersion_ratio, rise.note))
    columns = ["segment", "rising", "first_rate", "last_rate", "chance_rate", "p_value", "dispersion_ratio", "note"]
    frame = pd.DataFrame(rows, columns=columns)
    numbers = ["first_rate", "last_rate", "chance_rate", "p_value", "dispersion_ratio"]
    frame = frame.astype(dict.fromkeys(numbers, "float64"))
    frame.insert(6, "q_value", adjust_p_values(frame["p_value"]))
    return frame


def _measure_dispersion(earlier: pd.DataFrame) -> tuple[float, int]:
    """Variance of the changes from one period to the next over that by chance; 1 where too few can be seen.

    Changes and not distances to a mean: a slow drift of the level is no scatter.
    """
    left, opening = (earlier[c].to_numpy(dtype=float) for c in ("left", "opening"))
    if len(left) <= FEWEST_CHANGES:
        return 1.0, 0
    pooled = (left[1:] + left[:-1]) / (opening[1:] + opening[:-1])
    variance = pooled * (1 - pooled) * (1 / opening[1:] + 1 / opening[:-1])
    some = variance > 0
    if some.sum() < FEWEST_CHANGES:
        return 1.0, 0
    squares = np.diff(left / opening)[some] ** 2 / variance[some]
    return max(1.0, float(squares.mean())), int(some.sum())


def _simulate(
    mean: float, opening: np.ndarray, dispersion: float, rises: int, year: int, draws: int, seed: int
) -> tuple[float, float]:
    """How often the last periods all rise, and how often so many in a row do within a year, though nothing changes."""
    generator = np.random.default_rng(seed)
    length = max(year, rises + 1)
    # The year's other periods have the volumes of the known ones, over and over.
    sizes = np.resize(opening[::-1], length)[::-1].astype(np.int64)
    # As much scatter between periods as multiplies the variance of a typical one by the dispersion.
    share = min((dispersion - 1) / max(float(np.mean(sizes)) - 1, 1.0), 0.99)
    if share > 0:
        strength = (1 - share) / share
        chances = generator.beta(mean * strength, (1 - mean) * strength, (draws, length))
    else:
        chances = np.full((draws, length), mean)
    drawn = generator.binomial(np.broadcast_to(sizes, chances.shape), chances)
    up = np.diff(drawn / sizes, axis=1) > 0
    runs = np.asarray(np.lib.stride_tricks.sliding_window_view(up, rises, axis=1).all(axis=2))
    return float(runs[:, -1].mean()), float(runs.any(axis=1).mean())


def _test_trend(left: np.ndarray, opening: np.ndarray, dispersion: float, changes: int) -> tuple[float, float]:
    """Slope a period, and the p-value of Cochran-Armitage's test with the variance multiplied by the dispersion."""
    from scipy.special import fdtrc

    at = np.arange(len(left), dtype=float)
    centred = at - (opening * at).sum() / opening.sum()
    mean = left.sum() / opening.sum()
    squares = (opening * centred**2).sum()
    top = (centred * (left - opening * mean)).sum()
    z = top / math.sqrt(mean * (1 - mean) * squares * dispersion)
    if dispersion > 1:
        # The dispersion is itself estimated from a few changes.
        return float(top / squares), float(fdtrc(1, changes, z * z))
    return float(top / squares), math.erfc(abs(z) / math.sqrt(2))

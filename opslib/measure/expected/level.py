"""What a series does next: its level and trend, and its week, from the periods before alone.

Exponential smoothing at several speeds at once, with and without a trend; the speed that has foreseen best lately
speaks. Surprises are cut before they reach the level, and a value outside the expected range does not reach it.
"""

from __future__ import annotations

import numpy as np
from scipy import special

SPEEDS = np.array([0.02, 0.05, 0.1, 0.2, 0.4] * 2)
TRENDS = np.array([0.0] * 5 + [0.1] * 5)
GAINS = TRENDS * SPEEDS
SLOWEST, FASTEST = float(SPEEDS.min()), float(SPEEDS.max())
# A trend fades: a series does not grow for ever.
FADING = 0.98
HOLDING = 0.8
FORGETTING = 0.98
# A level of counts rests on so many cases at least: quick speeds would take a quiet week for a new level.
LEAST_CASES = 8
# Surprises are cut here (in standard deviations, and one more in counts).
CUT = 2.5
WEEK = 7
SEASON_WEEKS = 16
LEAST_SEASON_WEEKS = 3
# A week's season is believed when chance alone would make one as strong in one series of a hundred.
SEASON_P = 0.01
# A day on which a company is closed still has an expected value.
LEAST_FACTOR = 0.01


def find_middle(values: np.ndarray, slack: float = 0.0) -> float:
    """The mean of values of which those far from the median are cut."""
    median = float(np.median(values))
    apart = np.abs(values - median)
    # Where most values are the same, such as 0, the others are no outliers.
    deviation = float(np.median(apart)) / 0.6745 or 1.25 * float(apart.mean())
    limit = CUT * deviation + 2 * slack
    return float(np.clip(values, median - limit, median + limit).mean())


class Level:
    """Level and trend of a series whose season is taken out."""

    def __init__(self, first: float) -> None:
        self.value = np.full(len(SPEEDS), first)
        self._trend = np.zeros(len(SPEEDS))
        self._loss = np.zeros(len(SPEEDS))
        self._share = np.full(len(SPEEDS), 1.0)
        self._seen = 0
        self._fastest = 1.0
        self._best: int | None = None

    @property
    def best(self) -> int:
        """The speed that has foreseen best lately; the slowest before any has."""
        if self._best is None:
            self._best = int(
                (
                    self._loss if self._fastest >= FASTEST else np.where(self._fastest >= SPEEDS, self._loss, np.inf)
                ).argmin()
            )
        return self._best

    def rest_on(self, expected: float) -> None:
        """Let the level rest on enough cases, when so many are expected in a period by the slowest speed."""
        self._fastest = max(expected / LEAST_CASES, SLOWEST)
        self._best = None

    @property
    def expected(self) -> float:
        """What comes next."""
        return float(self.value[self.best] + self._trend[self.best])

    @property
    def uncertainty(self) -> float:
        """Variance of the level by the variance of one value."""
        return float(self._share[self.best])

    def skip(self) -> None:
        """Let a period pass that says nothing."""
        self.value = self.value + self._trend
        self._trend = self._trend * FADING

    def hold(self) -> None:
        """Let an unusual period pass: what it says is not believed, and the trend before it soon ends."""
        self.value = self.value + self._trend
        self._trend = self._trend * HOLDING

    def update(self, value: float, deviation: float, weight: float, slack: float) -> None:
        """Learn a period's value; `deviation` is what chance makes of it, `weight` is 1 for an ordinary period."""
        self._seen += 1
        surprise = value - (self.value + self._trend)
        limit = CUT * deviation + slack
        # The plain bounds take a third of the time of clip.
        cut = np.minimum(np.maximum(surprise, -limit), limit)
        speed = np.minimum(np.maximum(SPEEDS, 1 / (self._seen + 1)) * weight, 0.9)
        self.value = self.value + self._trend + speed * cut
        gain = GAINS if self._seen > 2 * WEEK else 0.0
        self._trend = FADING * self._trend + gain * speed * cut
        self._share = (1 - speed) ** 2 * self._share + speed**2
        self._best = None
        self._loss = FORGETTING * self._loss + weight * (cut / max(deviation, 1e-12)) ** 2

    def restart(self, value: float, periods: int) -> None:
        """Take a new level, of the latest periods."""
        self.value = np.full(len(SPEEDS), value)
        self._trend = np.zeros(len(SPEEDS))
        self._share = np.full(len(SPEEDS), 1.5 / periods)
        self._seen = periods


def find_season(values: np.ndarray, small: bool) -> np.ndarray:
    """How each day of the week lies to its week: seven factors around 1, all 1 where the data show no season.

    Args:
        values: whole weeks, the latest last, a row a week; missing where nothing was measured.
        small: counts so small that a median says little of them.
    """
    flat = np.ones(WEEK)
    weeks = len(values)
    known = ~np.isnan(values)
    if weeks < LEAST_SEASON_WEEKS or (known.sum(axis=0) < LEAST_SEASON_WEEKS).any():
        return flat
    factors = flat
    for _ in range(3):
        weekly = np.nansum(values, axis=1) / np.where(known, factors, 0).sum(axis=1).clip(1e-12)
        level = _spread_level(weekly)
        if small:
            factors = np.nansum(values, axis=0) / np.where(known, level, 0).sum(axis=0).clip(1e-12)
        elif not (level > 0).all():
            return flat
        else:
            # The median that knows missing values takes far longer.
            factors = (np.median if known.all() else np.nanmedian)(values / level, axis=0)
        mean = factors.mean()
        if not np.isfinite(mean) or mean <= 0:
            return flat
        factors = factors / mean
    residual = values - level * factors
    between = (np.where(known, level * (factors - 1), 0) ** 2).sum() / (WEEK - 1)
    freedom = int(known.sum()) - weeks - WEEK + 1
    within = np.nansum(residual**2) / freedom
    if within <= 0:
        return factors.clip(LEAST_FACTOR)
    strength = between / within
    if special.fdtrc(WEEK - 1, freedom, strength) > SEASON_P:
        return flat
    return (1 + (factors - 1) * (1 - 1 / strength)).clip(LEAST_FACTOR)


def _spread_level(weekly: np.ndarray) -> np.ndarray:
    """The level of every day from those of its weeks, so that growth within a week is not taken for its season."""
    weeks = len(weekly)
    slopes = np.diff(weekly) / WEEK
    half = WEEK // 2 + 1
    edges = [weekly[0] - half * slopes[0], *weekly, weekly[-1] + half * slopes[-1]]
    middles = WEEK * np.arange(weeks) + WEEK // 2
    days = np.interp(np.arange(WEEK * weeks), [middles[0] - half, *middles, middles[-1] + half], edges)
    return np.asarray(days.clip(0).reshape(weeks, WEEK))

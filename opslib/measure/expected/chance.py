"""How far chance alone takes one period's value from what is expected: tails and limits of a prediction.

Counts are negative binomial (Poisson where nothing varies more than that) and rates binomial of a denominator that is
shrunk by what they vary more: exact sums of probabilities, so that a count about 1 a day gets limits that fit it.
"""

from __future__ import annotations

import math

import numpy as np
from scipy import special

from opslib.measure.series.series import SeriesKind

# Amounts: this share of the past surprises on each side is their tail, and falls off exponentially beyond.
TAIL_SHARE = 0.1
# Below this the negative binomial is the Poisson distribution to every digit that is shown.
LEAST_EXCESS = 1e-6


def find_tails(kind: SeriesKind, value: float, mean: float, spread: float, size: float) -> tuple[float, float]:
    """Probability of a value as low, and as high, in one period.

    Args:
        kind: count or rate.
        value: the numerator: what was counted.
        mean: what is expected of it; for a rate, of the rate.
        spread: variance by variance of chance alone, 1 or more.
        size: the denominator of a rate.
    """
    if kind == "rate":
        size, value = size / spread, min(value, size) / spread
        low = 1.0 if value >= size else float(special.betainc(size - value, value + 1, 1 - mean))
        return low, 1.0 if value <= 0 else float(special.betainc(value, size - value + 1, mean))
    if mean <= 0:
        return 1.0, 1.0 if value <= 0 else 0.0
    below, above = math.floor(value), math.ceil(value)
    if spread < 1 + LEAST_EXCESS:
        low = float(special.gammaincc(below + 1, mean))
        return low, 1.0 if above <= 0 else float(special.gammainc(above, mean))
    shape = mean / (spread - 1)
    low = float(special.betainc(shape, below + 1, 1 / spread))
    return low, 1.0 if above <= 0 else float(special.betainc(above, shape, 1 - 1 / spread))


def find_limits(kind: SeriesKind, mean: float, spread: float, size: float, alpha: float) -> tuple[float, float]:
    """The lowest and highest number that chance reaches with a probability above `alpha`, each on its side."""
    one = np.array([[mean], [spread], [size]], dtype=float)
    low, high = find_all_limits(kind, one[0], one[1], one[2], alpha)
    return float(low[0]), float(high[0])


def find_all_limits(
    kind: SeriesKind, mean: np.ndarray, spread: np.ndarray, size: np.ndarray, alpha: float
) -> tuple[np.ndarray, np.ndarray]:
    """`find_limits` of many periods: one search for all of them takes hardly longer than one for one."""
    deviation = np.sqrt(spread * (mean * (1 - mean) * size if kind == "rate" else np.maximum(mean, 0.0)))
    center = mean * size if kind == "rate" else mean
    most = np.floor(size) if kind == "rate" else np.ceil(center + 60 * deviation + 60)

    def bisect(side: int) -> np.ndarray:
        inside, outside = np.rint(center), (most + 1 if side else np.full(len(mean), -1.0))
        reach = 4 * deviation + 4
        near = np.minimum(np.rint(center + reach), most) if side else np.maximum(np.rint(center - reach), 0.0)
        while True:
            likely = _find_side(kind, side, near, mean, spread, size) > alpha
            inside, outside = np.where(likely, near, inside), np.where(likely, outside, near)
            open_ = np.abs(outside - inside) > 1
            if not open_.any():
                return inside
            # Where the search is over, what is known already is asked again.
            near = np.where(open_, (inside + outside) // 2, np.where(likely, inside, outside))

    return bisect(0), bisect(1)


def _find_side(
    kind: SeriesKind, side: int, value: np.ndarray, mean: np.ndarray, spread: np.ndarray, size: np.ndarray
) -> np.ndarray:
    """`find_tails` of whole numbers, on one side."""
    if kind == "rate":
        of, value = size / spread, np.minimum(value, size) / spread
        if side:
            return np.where(value <= 0, 1.0, special.betainc(value, of - value + 1, mean))
        return np.where(value >= of, 1.0, special.betainc(of - value, value + 1, 1 - mean))
    plain = spread < 1 + LEAST_EXCESS
    shape = mean / np.where(plain, 1.0, spread - 1)
    if side:
        found = np.where(plain, special.gammainc(value, mean), special.betainc(value, shape, 1 - 1 / spread))
        return np.where(value <= 0, 1.0, np.where(mean <= 0, 0.0, found))
    found = np.where(plain, special.gammaincc(value + 1, mean), special.betainc(shape, value + 1, 1 / spread))
    return np.where(mean <= 0, 1.0, found)


class Surprises:
    """Past surprises of amounts, in standard units, and the tails that they say.

    Nothing is assumed of the middle, which is the past surprises themselves; each side's outer tenth falls off
    exponentially, which is heavier than the normal distribution, at the pace of the middle ones beyond it, which a few
    extreme ones do not move.
    """

    def __init__(self, past: np.ndarray) -> None:
        self._sorted = np.sort(past)
        self._start, self._pace = [], []
        typical = _find_quantile(np.sort(np.abs(past)), 0.5) / 0.6745 or float(past.std())
        for side in (-self._sorted[::-1], self._sorted):
            start = _find_quantile(side, 1 - TAIL_SHARE)
            beyond = side[np.searchsorted(side, start, side="right") :] - start
            # Of an exponential, half lies beyond ln 2 times its pace, a fifth beyond ln 5 times.
            paces = [_find_quantile(beyond, q) / -math.log(1 - q) for q in (0.5, 0.8)] if len(beyond) else [0.0]
            self._start.append(max(start, 0.5 * typical))
            # With few past surprises the tail is not known well.
            self._pace.append(max(*paces, 0.4 * typical) * (1 + 3 / math.sqrt(len(past))))

    def find_tails(self, surprise: float) -> tuple[float, float]:
        """Probability of a surprise as low, and as high."""
        return self._tail(0, -surprise), self._tail(1, surprise)

    def find_limits(self, alpha: float) -> tuple[float, float]:
        """The surprises that have a probability of `alpha`, each on its side."""
        low, high = (s + p * math.log(TAIL_SHARE / alpha) for s, p in zip(self._start, self._pace, strict=True))
        return -low, high

    def _tail(self, side: int, distance: float) -> float:
        start, pace = self._start[side], self._pace[side]
        if pace <= 0:  # nothing has ever moved: it is not known what chance does
            return 1.0
        if distance > start:
            return TAIL_SHARE * math.exp(-(distance - start) / pace)
        past = self._sorted if side else -self._sorted
        return max(TAIL_SHARE, float(np.mean(past >= distance)))


def _find_quantile(ordered: np.ndarray, share: float) -> float:
    """A quantile of values in order, as numpy has it, in a tenth of its time."""
    place = share * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return float(ordered[below] + (place - below) * (ordered[above] - ordered[below]))

"""How sure an effect is when days hang together: the t-test over blocks of the time before."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from opslib.measure.estimate import CONFIDENCE

# Blocks of the time before: more give a narrower interval, fewer hold under longer dependence.
BLOCKS = 8
FEWEST_BLOCKS = 3

Gap = Callable[[np.ndarray], np.ndarray]


def split_blocks(weeks: int, blocks: int = BLOCKS) -> list[np.ndarray]:
    """Positions of blocks of the weeks before, each in order of time: of two weeks at least where there are eight.

    >>> [b.tolist() for b in split_blocks(7, 3)]
    [[0, 1, 2], [3, 4], [5, 6]]
    """
    most = weeks // 2 if weeks >= 8 else weeks
    return [b for b in np.array_split(np.arange(weeks), max(1, min(blocks, most))) if len(b)]


def estimate_effect(
    gap: Gap, before: int, after: int, *, blocks: int = BLOCKS, confidence: float = CONFIDENCE
) -> tuple[float, float | None, float | None, float | None]:
    """Estimate the mean effect after, with an interval that holds when weeks hang together.

    Each block of the time before is held out in turn; the effect is the mean gap after less the mean gap in the block,
    which takes out what the comparison is usually wrong by. How much these differ between blocks is how sure it is.

    Args:
        gap: from the positions of weeks that may be fitted on, the gap (actual less expected) of all weeks, those
            before first.
        before, after: number of weeks.

    Returns:
        Effect, low, high, p-value; the last three None with fewer than three blocks.

    Source: Chernozhukov, Wuthrich and Zhu (2022), A t-test for synthetic controls (arXiv 1812.10820).

    >>> noise = np.array([1.0, -1.0, 0.5, -0.5, 0.0, 0.0, 3.0, 3.0])
    >>> [round(x, 2) for x in estimate_effect(lambda fitted: noise, 6, 2)]
    [3.0, 1.52, 4.48, 0.0]
    """
    held = split_blocks(before, blocks)
    everything = np.arange(before)
    found = []
    for block in held:
        gaps = gap(np.setdiff1d(everything, block))
        found.append(float(gaps[before:].mean() - gaps[block].mean()))
    if len(found) < FEWEST_BLOCKS:
        return (float(np.mean(found)) if found else math.nan), None, None, None
    from scipy.special import stdtr, stdtrit

    number, size = len(held), before / len(held)
    effect = float(np.mean(found))
    error = float(np.std(found, ddof=1)) * math.sqrt((1 + number * size / after) / number)
    half = error * float(stdtrit(number - 1, 0.5 + confidence / 2))
    p = 2 * float(stdtr(number - 1, -abs(effect) / error)) if error > 0 else float(effect == 0)
    return effect, effect - half, effect + half, p


def widen_by_placebos(
    low: float, high: float, p: float | None, effect: float, placebos: Sequence[float]
) -> tuple[float, float, float | None]:
    """Widen an interval, and its p-value, to what placebo effects of the same length were, where three are known.

    >>> [round(x, 3) for x in widen_by_placebos(0.9, 1.1, 0.001, 1.0, [0.1, -0.1, 0.1])]
    [0.682, 1.318, 0.002]
    """
    if len(placebos) < FEWEST_BLOCKS:
        return low, high, p
    from scipy.special import stdtr, stdtrit

    usual = math.sqrt(float(np.mean(np.square(placebos))))
    half = usual * float(stdtrit(len(placebos), 0.5 + CONFIDENCE / 2))
    if usual > 0 and p is not None:
        p = max(p, 2 * float(stdtr(len(placebos), -abs(effect) / usual)))
    return min(low, effect - half), max(high, effect + half), p

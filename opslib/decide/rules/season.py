"""Weekday factors of a daily series: how much a Monday usually differs from a mean day, learnt from the days before."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# So many weeks back a weekday is remembered; with fewer than the least nothing is said of weekdays.
_WEEKS, _LEAST_WEEKS = 26, 4
# Of each weekday's history the highest and the lowest are left out: past incidents are no season.
_TRIMMED = 0.15
# Chi-square with six degrees of freedom, 1 in 1,000: weekdays that differ by less are taken for alike.
_CLEAR = 22.46
# A trimmed mean scatters this much more than a plain one where noise is normal.
_TRIMMED_VARIANCE = 1.08


def estimate_weekday_factors(values: Floats) -> tuple[Floats, Floats]:
    """Estimate what weekday each day's value has to be divided by, from earlier days alone.

    Args:
        values: one value a day, days without a gap; missing where not known or not to be learnt from.

    Returns:
        Factors (1 where weekdays do not clearly differ; their mean over a week is 1) and the weeks they were learnt
        from (0 where the factor is 1). A later day never changes an earlier day's factor.

    Method: each day over the mean of the seven days around it; trimmed mean of that by weekday; used where a
    chi-square test is clear at 1 in 1,000, and shrunk towards 1 as James and Stein (1961) do.

    >>> week = np.array([1.0, 1.1, 0.9, 1.0, 1.0, 0.5, 1.5])
    >>> factors, weeks = estimate_weekday_factors(np.tile(week, 12))
    >>> factors[-7:].round(2).tolist()
    [1.0, 1.1, 0.9, 1.0, 1.0, 0.5, 1.5]
    """
    days = len(values)
    factors, learnt = np.ones(days), np.zeros(days)
    weeks = -(-days // 7)
    if weeks < _LEAST_WEEKS + 2:
        return factors, learnt
    flat = np.full(weeks * 7, np.nan)
    flat[:days] = _divide_by_week(values)
    table = flat.reshape(weeks, 7)
    # The seven days around the last day of a week reach three days into the next: two weeks back all is known.
    usable = weeks - 2
    padded = np.vstack([np.full((_WEEKS - 1, 7), np.nan), table[:usable]])
    history = np.sort(np.lib.stride_tricks.sliding_window_view(padded, _WEEKS, axis=0), axis=2)
    number = (~np.isnan(history)).sum(axis=2)
    rank = (np.arange(_WEEKS) + 0.5) / np.maximum(number, 1)[:, :, None]
    kept = (rank > _TRIMMED) & (rank < 1 - _TRIMMED)
    filled = np.where(np.isnan(history), 0.0, history)
    mean = (filled * kept).sum(axis=2) / np.maximum(kept.sum(axis=2), 1)
    low, high = _TRIMMED, 1 - _TRIMMED
    ends = [np.take_along_axis(filled, _rank_of(number, q)[:, :, None], axis=2) for q in (low, high)]
    winsorised = np.clip(filled, ends[0], ends[1])
    inside = ~np.isnan(history)
    centre = (winsorised * inside).sum(axis=2) / np.maximum(number, 1)
    squares = (((winsorised - centre[:, :, None]) ** 2) * inside).sum(axis=(1, 2))
    # The variance of a trimmed mean (Tukey and McLaughlin 1963), alike for all weekdays.
    freedom = np.maximum((number - 1).sum(axis=1), 1)
    error = (squares / freedom / (high - low) ** 2)[:, None] / np.maximum(number, 1)
    enough = (number >= _LEAST_WEEKS).all(axis=1)
    mean = np.where(enough[:, None], mean / np.maximum(mean.mean(axis=1, keepdims=True), 1e-12), 1.0)
    clear = (((mean - 1) ** 2) / np.maximum(error, 1e-12)).sum(axis=1)
    # With little history the scatter is little known: near enough the quantile of F with 6 and so many degrees.
    used = enough & (clear > _CLEAR * (1 + 10 / freedom))
    shrunk = 1 + (mean - 1) * np.where(used, 1 - 4 / np.maximum(clear, 4), 0.0)[:, None]
    by_day = np.vstack([np.ones((2, 7)), np.maximum(shrunk, 0.02)])
    counted = np.concatenate([np.zeros(2), np.where(used, number.min(axis=1), 0)])
    return by_day.ravel()[:days], np.repeat(counted, 7)[:days]


def widen_for_season(weeks: float) -> float:
    """By how much the variance of a value grows when it is divided by a factor learnt from so many weeks."""
    return 1 + _TRIMMED_VARIANCE / weeks if weeks else 1.0


def _divide_by_week(values: Floats) -> Floats:
    known = ~np.isnan(values)
    kernel = np.ones(7)
    total = np.convolve(np.where(known, values, 0.0), kernel, "same")
    number = np.convolve(known.astype(float), kernel, "same")
    whole = known & (number >= 6) & (total > 0)
    return np.where(whole, values * number / np.where(whole, total, 1.0), np.nan)


def _rank_of(number: NDArray[np.int64], quantile: float) -> NDArray[np.int64]:
    return np.clip((number * quantile).astype(np.int64), 0, np.maximum(number - 1, 0))

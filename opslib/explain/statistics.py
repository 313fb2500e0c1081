"""Arithmetic that several explanations share: counts compared within strata, many tests at once, sizes of experiments.

Everything here works on small arrays of counts, never on users. Strata are compared the way of Mantel and Haenszel:
each stratum gives a few terms, the terms of all strata are summed, and the sums make the estimate. So a group of
strata can be left out, or compared with the others, without going back to the counts.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

TERMS = (
    "weight",
    "difference",
    "sato_p",
    "sato_q",
    "odds_top",
    "odds_bottom",
    "robins_pr",
    "robins_mixed",
    "robins_qs",
    "ratio_top",
    "ratio_bottom",
    "ratio_spread",
    "excess",
    "excess_variance",
)
_AT = {name: row for row, name in enumerate(TERMS)}


def compute_terms(successes: ArrayLike, users: ArrayLike, other_successes: ArrayLike, other_users: ArrayLike) -> Floats:
    """Compute each stratum's terms for comparing two groups of users.

    Args:
        successes, users: counts of the group of interest, one number a stratum.
        other_successes, other_users: counts of the group it is compared with.

    Returns:
        An array of one row a term (in the order of `TERMS`) and one column a stratum; all 0 where a group is empty. Its
        sums over columns are what `estimate_difference`, `estimate_log_odds`, `estimate_log_ratio` and
        `score_association` take.

    >>> terms = compute_terms([30, 10], [100, 20], [20, 8], [100, 20])
    >>> value, error = estimate_difference(terms.sum(axis=1))
    >>> round(float(value), 4)
    0.1
    """
    a, m, b, k = (np.asarray(x, dtype=float) for x in (successes, users, other_successes, other_users))
    total = m + k
    both = (m > 0) & (k > 0)
    n = np.where(both, total, 1.0)
    c, d = m - a, k - b
    events = a + b
    top, bottom = a * d / n, c * b / n
    agree, differ = (a + d) / n, (c + b) / n
    rows = [
        m * k / n,
        (a * k - b * m) / n,
        (m * m * b - k * k * a + m * k * (k - m) / 2) / n**2,
        (a * d + b * c) / (2 * n),
        top,
        bottom,
        agree * top,
        agree * bottom + differ * top,
        differ * bottom,
        a * k / n,
        b * m / n,
        (m * k * events - a * b * n) / n**2,
        a - m * events / n,
        m * k * events * (n - events) / (n**2 * np.maximum(n - 1, 1)),
    ]
    return np.where(both, np.array(rows), 0.0)


def estimate_difference(sums: Floats) -> tuple[Any, Any]:
    """Estimate the difference of two shares at equal strata, with its standard error (Mantel-Haenszel weights).

    The standard error holds for few large strata and for many tiny ones.

    Args:
        sums: summed terms; further axes give one estimate each.

    Returns:
        The difference and its standard error; nan where no stratum holds both groups.

    Source: Greenland and Robins (1985), Biometrics 41, 55-68; standard error of Sato (1989), Biometrics 45, 1323-1324.
    """
    weight = _nan_where_zero(sums[_AT["weight"]])
    value = sums[_AT["difference"]] / weight
    variance = (value * sums[_AT["sato_p"]] + sums[_AT["sato_q"]]) / weight**2
    return value, np.sqrt(np.maximum(variance, 0.0))


def estimate_log_odds(sums: Floats) -> tuple[Any, Any]:
    """Estimate the logarithm of the common odds ratio, with its standard error.

    Returns:
        The logarithm and its standard error; nan where a side of the ratio is 0.

    Source: Mantel and Haenszel (1959); standard error of Robins, Breslow and Greenland (1986), Biometrics 42, 311-323.
    """
    top, bottom = _nan_where_zero(sums[_AT["odds_top"]]), _nan_where_zero(sums[_AT["odds_bottom"]])
    variance = (
        sums[_AT["robins_pr"]] / (2 * top**2)
        + sums[_AT["robins_mixed"]] / (2 * top * bottom)
        + sums[_AT["robins_qs"]] / (2 * bottom**2)
    )
    return np.log(top / bottom), np.sqrt(variance)


def estimate_log_ratio(sums: Floats) -> tuple[Any, Any]:
    """Estimate the logarithm of the common ratio of two shares, with its standard error.

    Returns:
        The logarithm and its standard error; nan where a side of the ratio is 0.

    Source: Greenland and Robins (1985), Biometrics 41, 55-68.
    """
    top, bottom = _nan_where_zero(sums[_AT["ratio_top"]]), _nan_where_zero(sums[_AT["ratio_bottom"]])
    return np.log(top / bottom), np.sqrt(np.maximum(sums[_AT["ratio_spread"]], 0.0) / (top * bottom))


def score_association(sums: Floats) -> Any:
    """Score the association of group and success at equal strata, as a normal score.

    Source: the root, with its sign, of the chi-square of Cochran (1954) and of Mantel and Haenszel (1959), without a
    correction for continuity.
    """
    return sums[_AT["excess"]] / np.sqrt(_nan_where_zero(sums[_AT["excess_variance"]]))


def _nan_where_zero(values: Any) -> Any:
    values = np.asarray(values, dtype=float)
    return np.where(values > 0, values, np.nan)


def log_p_value(z: ArrayLike) -> Any:
    """The logarithm of the two-sided p-value of normal scores, exact also where the p-value is too small for a number.

    >>> round(float(np.exp(log_p_value(1.959964))), 4)
    0.05
    """
    from scipy.special import log_ndtr

    return np.minimum(math.log(2) + log_ndtr(-np.abs(np.asarray(z, dtype=float))), 0.0)


def compare_odds_exactly(group: tuple[int, int, int, int], others: tuple[int, int, int, int]) -> float:
    """Test by counting whether the odds changed alike in two groups; it holds for groups of any size.

    Given the margins, the chance of each table under one common odds ratio does not depend on that ratio; the p-value
    sums the chances of all tables at most as likely as the one seen.

    Args:
        group, others: successes before, users before, successes after, users after.

    Returns:
        The two-sided p-value.

    Source: Zelen (1971), Biometrika 58, 129-137.

    >>> compare_odds_exactly((1, 2, 1, 2), (10, 20, 10, 20))
    1.0
    """
    (b1, m1, a1, n1), (b2, m2, a2, n2) = group, others
    both = a1 + a2
    low = max(0, a1 + b1 - m1, both - min(n2, a2 + b2))
    high = min(n1, a1 + b1, both - max(0, a2 + b2 - m2))
    after = np.arange(low, high + 1)
    other = both - after
    logs = _log_choose(n1, after) + _log_choose(m1, a1 + b1 - after)
    logs += _log_choose(n2, other) + _log_choose(m2, a2 + b2 - other)
    return _sum_as_unlikely(logs, a1 - low)


def compare_shares_exactly(successes: int, users: int, other_successes: int, other_users: int) -> float:
    """Test by counting whether two shares are alike; it holds for groups of any size.

    Source: Fisher's exact test, two-sided: the chances of all tables at most as likely as the one seen.

    >>> round(compare_shares_exactly(3, 4, 1, 4), 4)
    0.4857
    """
    both = successes + other_successes
    low, high = max(0, both - other_users), min(users, both)
    counts = np.arange(low, high + 1)
    return _sum_as_unlikely(_log_choose(users, counts) + _log_choose(other_users, both - counts), successes - low)


def _log_choose(n: Any, k: Any) -> Any:
    from scipy.special import gammaln

    return gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)


def _sum_as_unlikely(log_weights: Floats, seen: int) -> float:
    chances = np.exp(log_weights - log_weights.max())
    # Equal chances differ in their last digits.
    return float(min(1.0, chances[chances <= chances[seen] * (1 + 1e-7)].sum() / chances.sum()))

"""Arithmetic that several explanations share: counts compared within strata, many tests at once, sizes of experiments.

Everything here works on small arrays of counts, never on users. Strata are compared the way of Mantel and Haenszel:
each stratum gives a few terms, the terms of all strata are summed, and the sums make the estimate. So a group of
strata can be left out, or compared with the others, without going back to the counts.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
# An exact test counts tables; so many at a time, to bound the memory.
_COUNTS_AT_ONCE = 1_000_000
# Two shares are alike when their difference has a larger p-value.
_ALIKE = 0.05

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


def compare_odds_exactly(group: ArrayLike, others: ArrayLike) -> Any:
    """Test by counting whether the odds changed alike in two groups; it holds for groups of any size.

    Given the margins, the chance of each table under one common odds ratio does not depend on that ratio; the p-value
    sums the chances of all tables at most as likely as the one seen.

    Args:
        group, others: successes before, users before, successes after, users after; or one row of them a comparison.

    Returns:
        The two-sided p-value, one a row.

    Source: Zelen (1971), Biometrika 58, 129-137.

    >>> float(compare_odds_exactly((1, 2, 1, 2), (10, 20, 10, 20)))
    1.0
    """
    b1, m1, a1, n1, b2, m2, a2, n2 = _list_counts(group, others)
    low, high = _find_odds_range(group, others)
    both = a1 + a2

    def weigh(at: Ints, after: Floats) -> Floats:
        n, m, k, j, ab, cd = (np.atleast_1d(v)[at] for v in (n1, m1, n2, m2, a1 + b1, a2 + b2))
        other = np.atleast_1d(both)[at] - after
        logs = _log_choose(n, after) + _log_choose(m, ab - after) + _log_choose(k, other) + _log_choose(j, cd - other)
        return np.asarray(logs)

    return _sum_as_unlikely(low, high, a1, weigh)


def _list_counts(group: ArrayLike, others: ArrayLike) -> list[Floats]:
    return [c for counts in (group, others) for c in np.moveaxis(np.asarray(counts, dtype=float).round(), -1, 0)]


def _find_odds_range(group: ArrayLike, others: ArrayLike) -> tuple[Floats, Floats]:
    """The fewest and the most successes that the group can have after, given the margins."""
    b1, m1, a1, n1, b2, m2, a2, n2 = _list_counts(group, others)
    low = np.maximum(np.maximum(0.0, a1 + b1 - m1), a1 + a2 - np.minimum(n2, a2 + b2))
    return low, np.minimum(np.minimum(n1, a1 + b1), a1 + a2 - np.maximum(0.0, a2 + b2 - m2))


def find_least_odds_p(group: ArrayLike, others: ArrayLike) -> Any:
    """The smallest p-value that `compare_odds_exactly` could have had with the same margins, one a row.

    It is 1 where all failures, or all successes, lie in one group or in one period: then any change of one group fits
    any common odds ratio, and the test in odds says nothing.

    Source: Tarone (1990), Biometrics 46, 515-522.

    >>> float(find_least_odds_p((168, 168, 84, 168), (168, 168, 168, 168)))
    1.0
    """
    b1, m1, a1, n1, b2, m2, a2, n2 = _list_counts(group, others)
    low, high = _find_odds_range(group, others)
    ends = [
        compare_odds_exactly(
            np.stack([a1 + b1 - end, m1, end, n1], axis=-1), np.stack([b2 + end - a1, m2, a2 + a1 - end, n2], axis=-1)
        )
        for end in (low, high)
    ]
    return np.minimum(*ends)


def compare_where_alike(group: ArrayLike, others: ArrayLike, few: float) -> Any:
    """Test whether one group changed unlike another where one pair of shares lies at 0% or 100%, and is alike.

    A common change on any scale leaves alike what was alike. So where in one period both groups have hardly any
    successes (or failures), and alike, the other period's shares are compared; where one group has hardly any in both
    periods, and alike, the other group's change is tested. Beside that the difference in points must be clear.

    Args:
        group, others: one row a comparison: successes before, users before, successes after, users after.
        few: "hardly any" is less than this.

    Returns:
        The p-value, one a row; nan where no pair of shares is at the boundary and alike.

    Source: Fisher's exact test; in points the adjusted interval of Agresti and Caffo (2000), American Statistician 54,
    280-288, which holds at 0% and 100%.

    >>> rows = [[168, 168, 84, 168]], [[168, 168, 168, 168]]
    >>> bool(compare_where_alike(*rows, few=10)[0] < 1e-20)
    True
    """
    own, rest = np.asarray(group, dtype=float), np.asarray(others, dtype=float)
    pairs = {
        "before": (own[:, 0], own[:, 1], rest[:, 0], rest[:, 1]),
        "after": (own[:, 2], own[:, 3], rest[:, 2], rest[:, 3]),
        "own": (own[:, 0], own[:, 1], own[:, 2], own[:, 3]),
        "rest": (rest[:, 0], rest[:, 1], rest[:, 2], rest[:, 3]),
    }
    decided = np.full(len(own), np.nan)
    for name, other in (("before", "after"), ("after", "before"), ("own", "rest"), ("rest", "own")):
        x, n, y, m = pairs[name]
        alike = np.flatnonzero((np.maximum(x, y) < few) | (np.maximum(n - x, m - y) < few))
        alike = alike[compare_shares_exactly(*(c[alike] for c in pairs[name])) > _ALIKE]
        x, n, y, m = (c[alike] for c in pairs[other])
        z = (x / n - y / m) / np.sqrt(_nan_where_zero((x + y) * (n + m - x - y) / (n + m) ** 2 * (1 / n + 1 / m)))
        p = np.nan_to_num(np.exp(log_p_value(z)), nan=1.0)
        small = np.flatnonzero(np.minimum(np.minimum(x, n - x), np.minimum(y, m - y)) < few)
        p[small] = compare_shares_exactly(x[small], n[small], y[small], m[small])
        decided[alike] = np.fmax(decided[alike], p)
    shares, variances = [], []
    for x, n in ((own[:, 2], own[:, 3]), (own[:, 0], own[:, 1]), (rest[:, 2], rest[:, 3]), (rest[:, 0], rest[:, 1])):
        shares.append((x + 1) / (n + 2))
        variances.append(shares[-1] * (1 - shares[-1]) / (n + 2))
    excess = (shares[0] - shares[1]) - (shares[2] - shares[3])
    return np.maximum(decided, np.exp(log_p_value(excess / np.sqrt(sum(variances)))))


def compare_shares_exactly(
    successes: ArrayLike, users: ArrayLike, other_successes: ArrayLike, other_users: ArrayLike
) -> Any:
    """Test by counting whether two shares are alike; it holds for groups of any size.

    Args:
        successes, users, other_successes, other_users: counts of two groups, or arrays of them.

    Returns:
        The two-sided p-value, one a comparison.

    Source: Fisher's exact test, two-sided: the chances of all tables at most as likely as the one seen.

    >>> round(float(compare_shares_exactly(3, 4, 1, 4)), 4)
    0.4857
    """
    counts = (np.asarray(v, dtype=float).round() for v in (successes, users, other_successes, other_users))
    x, n, y, m = np.broadcast_arrays(*counts)
    # Of the rarer outcome there are fewer counts.
    common = 2 * (x + y) > n + m
    x, y = np.where(common, n - x, x), np.where(common, m - y, y)
    both = x + y

    def weigh(at: Ints, own: Floats) -> Floats:
        n_at, m_at, both_at = (np.atleast_1d(v)[at] for v in (n, m, both))
        return np.asarray(_log_choose(n_at, own) + _log_choose(m_at, both_at - own))

    return _sum_as_unlikely(np.maximum(0.0, both - m), np.minimum(n, both), x, weigh)


def _log_choose(n: Any, k: Any) -> Any:
    from scipy.special import gammaln

    return gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)


def _sum_as_unlikely(low: Floats, high: Floats, seen: Floats, weigh: Callable[[Ints, Floats], Floats]) -> Any:
    """Sum the chances of all counts from low to high that are at most as likely as the one seen, one a comparison."""
    first, last, at_hand = (np.atleast_1d(v) for v in (low, high, seen))
    size = (last - first + 1).astype(np.int64)
    p = np.ones(len(size))
    handful = (np.cumsum(size) - 1) // _COUNTS_AT_ONCE
    for number in np.unique(handful):
        rows = np.flatnonzero(handful == number)
        starts = np.cumsum(size[rows]) - size[rows]
        at = np.repeat(np.arange(len(rows)), size[rows])
        logs = weigh(rows[at], first[rows][at] + np.arange(len(at)) - starts[at])
        chances = np.exp(logs - np.maximum.reduceat(logs, starts)[at])
        # Equal chances differ in their last digits.
        least = chances[starts + (at_hand - first)[rows].astype(np.int64)] * (1 + 1e-7)
        unlikely = np.add.reduceat(np.where(chances <= least[at], chances, 0.0), starts)
        p[rows] = np.minimum(1.0, unlikely / np.add.reduceat(chances, starts))
    return p.reshape(np.shape(seen))[()]

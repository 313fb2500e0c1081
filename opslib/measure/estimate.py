"""Estimates: a value never travels without its counts, its interval and the method behind the interval."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from statistics import NormalDist
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from opslib.language import say

CONFIDENCE = 0.95
# Fewer than this many users (or days) and a rate is not a number but a rumour.
MINIMUM_DENOMINATOR = 20

Unit = Literal["rate", "count", "amount", "users", "days", "ratio"]


@dataclass(frozen=True)
class Estimate:
    """A number with what it was made from.

    Attributes:
        name: what it is, with its unit as the suffix, for example `d7_rate`.
        value: the estimate, or None when there is not enough data.
        numerator, denominator: what was divided by what; for counts and amounts the denominator is what they are per.
        low, high: the interval at `confidence`.
        method: how the interval was made.
        unit: rate (0..1), count, amount (money), ratio.
        note: what a reader must know, for example that there is not enough data.
    """

    name: str
    value: float | None
    numerator: float
    denominator: float
    low: float | None
    high: float | None
    method: str
    unit: Unit
    confidence: float = CONFIDENCE
    note: str = ""

    @property
    def known(self) -> bool:
        """True when there is a value."""
        return self.value is not None

    def rename(self, name: str) -> Estimate:
        """The same estimate under another name."""
        return replace(self, name=name)

    def to_finding(self, **context: Any) -> dict[str, Any]:
        """A flat record for `findings.json`; `context` adds, for example, the period."""
        record = {k: _round(v) if isinstance(v, float) else v for k, v in asdict(self).items()}
        return {**context, **record}


def quantile(confidence: float = CONFIDENCE) -> float:
    """The normal quantile of a two-sided interval: 1.96 at 95%."""
    return NormalDist().inv_cdf(0.5 + confidence / 2)


def estimate_rate(
    name: str,
    numerator: float,
    denominator: float,
    *,
    confidence: float = CONFIDENCE,
    minimum: int = MINIMUM_DENOMINATOR,
) -> Estimate:
    """Estimate a share of users, with Wilson's score interval.

    Args:
        name: the metric's name.
        numerator: users who did it.
        denominator: users who could have.
        minimum: with fewer in the denominator there is no value.

    Returns:
        An estimate between 0 and 1.

    Source: Wilson (1927); Brown, Cai and DasGupta (2001) recommend it for small and for large counts.

    >>> e = estimate_rate("d7_rate", 15, 50)
    >>> round(e.value, 3), round(e.low, 4), round(e.high, 4)
    (0.3, 0.191, 0.4375)
    """
    if denominator < minimum:
        note = say_few_users(denominator, minimum)
        return Estimate(name, None, numerator, denominator, None, None, "none", "rate", confidence, note)
    z = quantile(confidence)
    p = numerator / denominator
    spread = 1 + z * z / denominator
    center = (p + z * z / (2 * denominator)) / spread
    half = z / spread * math.sqrt(p * (1 - p) / denominator + z * z / (4 * denominator**2))
    low, high = max(0.0, center - half), min(1.0, center + half)
    return Estimate(name, p, numerator, denominator, low, high, "Wilson", "rate", confidence)


def say_few_users(count: float, minimum: int = MINIMUM_DENOMINATOR) -> str:
    """The note of an estimate that has too few users."""
    return say("not enough data: {count:,.0f} users, at least {minimum} needed", count=count, minimum=minimum)


def estimate_count(name: str, count: float, *, per: float = 1, confidence: float = CONFIDENCE) -> Estimate:
    """Estimate a count of users or events, with the interval within which it would vary by chance alone.

    The count in the data is exact; the interval answers whether another count differs by more than chance (Poisson,
    Byar's approximation).

    Source: Breslow and Day (1987), Statistical Methods in Cancer Research II, p. 69.

    >>> e = estimate_count("new_users_count", 100)
    >>> round(e.low, 1), round(e.high, 1)
    (81.4, 121.6)
    """
    z = quantile(confidence)
    low = 0.0 if count == 0 else count * (1 - 1 / (9 * count) - z / (3 * math.sqrt(count))) ** 3
    above = count + 1
    high = above * (1 - 1 / (9 * above) + z / (3 * math.sqrt(above))) ** 3
    return Estimate(name, count / per, count, per, low / per, high / per, "Poisson (Byar)", "count", confidence)


def estimate_mean(
    name: str,
    total: float,
    total_of_squares: float,
    count: int,
    *,
    unit: Unit,
    confidence: float = CONFIDENCE,
    minimum: int = MINIMUM_DENOMINATOR,
) -> Estimate:
    """Estimate a mean over users from sums, with a normal interval.

    >>> e = estimate_mean("revenue_per_payer_amount", 300, 1200, 100, unit="amount")
    >>> round(e.value, 2), round(e.low, 3), round(e.high, 3)
    (3.0, 2.659, 3.341)
    """
    if count < max(minimum, 2):
        note = say("not enough data: {count:,}, at least {minimum} needed", count=count, minimum=minimum)
        return Estimate(name, None, total, count, None, None, "none", unit, confidence, note)
    mean = total / count
    variance = max(0.0, (total_of_squares - count * mean * mean) / (count - 1))
    half = quantile(confidence) * math.sqrt(variance / count)
    return Estimate(name, mean, total, count, mean - half, mean + half, "normal over users", unit, confidence)


def estimate_total(
    name: str,
    total: float,
    total_of_squares: float,
    count: int,
    *,
    per: float = 1,
    unit: Unit = "amount",
    confidence: float = CONFIDENCE,
) -> Estimate:
    """Estimate a sum over users, allowing for chance in which users come and what each brings (compound Poisson).

    Args:
        name: the metric's name.
        total: the sum over users.
        total_of_squares: the sum of squares of each user's part; its root is the standard error.
        count: users with a part.
        per: what the sum is divided by, for example the days of a period.

    >>> e = estimate_total("revenue_amount", 300, 1200, 100)
    >>> round(e.low, 1), round(e.high, 1)
    (232.1, 367.9)
    """
    half = quantile(confidence) * math.sqrt(total_of_squares)
    low, high = max(0.0, total - half) if total >= 0 else total - half, total + half
    denominator = per if per != 1 else count
    return Estimate(
        name,
        total / per,
        total,
        denominator,
        low / per,
        high / per,
        "compound Poisson over users",
        unit,
        confidence,
    )


def adjust_p_values(p_values: ArrayLike) -> np.ndarray:
    """Turn p-values into q-values: the share of false discoveries among all at least as clear (Benjamini-Hochberg).

    Missing p-values stay missing and do not count as tests.

    Source: Benjamini and Hochberg (1995), Journal of the Royal Statistical Society B 57, 289-300.

    >>> adjust_p_values([0.01, 0.04, 0.03, float("nan")]).tolist()
    [0.03, 0.04, 0.04, nan]
    """
    p = np.asarray(p_values, dtype=float)
    q = np.full(p.shape, np.nan)
    known = np.flatnonzero(~np.isnan(p))
    order = known[np.argsort(-p[known], kind="stable")]
    ranks = np.arange(len(order), 0, -1)
    q[order] = np.minimum(np.minimum.accumulate(p[order] * len(order) / ranks), 1.0) if len(order) else []
    return q


@dataclass(frozen=True)
class Change:
    """The same metric in two periods.

    Attributes:
        now, before: the two estimates.
        difference: now - before, or None when either is unknown.
        low, high: the interval of the difference.
        relative: difference / before.
    """

    now: Estimate
    before: Estimate
    difference: float | None
    low: float | None
    high: float | None
    relative: float | None

    @property
    def clear(self) -> bool:
        """True when the interval of the difference leaves out zero."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)

    def to_finding(self, **context: Any) -> dict[str, Any]:
        """A flat record for `findings.json`."""
        values = {"difference": self.difference, "difference_low": self.low, "difference_high": self.high}
        values["relative"] = self.relative
        return self.now.to_finding(**context) | {
            "before": _round(self.before.value),
            "before_low": _round(self.before.low),
            "before_high": _round(self.before.high),
            **{k: _round(v) for k, v in values.items()},
        }


def compare_estimates(now: Estimate, before: Estimate) -> Change:
    """Compare two independent estimates; the interval combines theirs (Newcombe's hybrid of single intervals).

    Source: Newcombe (1998), Statistics in Medicine 17, 873-890, method 10.

    >>> change = compare_estimates(estimate_rate("r", 56, 70), estimate_rate("r", 48, 80))
    >>> round(change.difference, 3), round(change.low, 4), round(change.high, 4)
    (0.2, 0.0524, 0.3339)
    """
    if now.value is None or before.value is None:
        return Change(now, before, None, None, None, None)
    assert now.low is not None and now.high is not None and before.low is not None and before.high is not None
    difference = now.value - before.value
    low = difference - math.hypot(now.value - now.low, before.high - before.value)
    high = difference + math.hypot(now.high - now.value, before.value - before.low)
    relative = difference / before.value if before.value else None
    return Change(now, before, difference, low, high, relative)


def to_plain_record(row: Mapping[Any, Any]) -> dict[str, Any]:
    """A row as JSON knows it: see `to_plain`."""
    return {str(k): to_plain(v) for k, v in row.items()}


def to_plain(value: Any) -> Any:
    """A value as JSON knows it: dates as ISO text, missing values as None, floats to ten digits.

    >>> to_plain(float("nan")), to_plain(1 / 3), to_plain("a")
    (None, 0.3333333333, 'a')
    """
    if value is None or isinstance(value, bool | str):
        return value
    if value != value:
        return None
    if isinstance(value, dt.datetime):
        return value.date().isoformat() if value.time() == dt.time() else value.isoformat()
    if isinstance(value, dt.date):
        return value.isoformat()
    return _round(float(value)) if isinstance(value, float) else int(value)


def _round(value: float | None) -> float | None:
    """Ten significant digits: the engine's threads add floats in any order, and findings must not show it."""
    return None if value is None else float(f"{value:.10g}")

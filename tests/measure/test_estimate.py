"""Intervals against outside references and against their promise: they cover the truth as often as they say."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from opslib.measure.estimate import (
    compare_estimates,
    estimate_count,
    estimate_mean,
    estimate_rate,
    estimate_total,
    to_plain,
)


@given(st.integers(20, 5000), st.floats(0, 1))
def test_wilson_equals_scipy(users: int, share: float) -> None:
    count = round(users * share)
    estimate = estimate_rate("r", count, users)
    reference = stats.binomtest(count, users).proportion_ci(0.95, method="wilson")
    assert (estimate.low, estimate.high) == pytest.approx((reference.low, reference.high), abs=1e-12)
    assert estimate.value == count / users


def test_wilson_published_example() -> None:
    """Newcombe (1998), Statistics in Medicine 17, 857-872, table I: 81 of 263, score method: 0.2553 to 0.3662."""
    estimate = estimate_rate("r", 81, 263)
    assert (round(estimate.low or 0, 4), round(estimate.high or 0, 4)) == (0.2553, 0.3662)


def test_difference_published_example() -> None:
    """Newcombe (1998), Statistics in Medicine 17, 873-890, table II, method 10: 56/70 - 48/80 is 0.0524 to 0.3339."""
    change = compare_estimates(estimate_rate("r", 56, 70), estimate_rate("r", 48, 80))
    assert (round(change.low or 0, 4), round(change.high or 0, 4)) == (0.0524, 0.3339)
    assert change.clear


@given(st.integers(10, 10_000))
def test_poisson_close_to_exact(count: int) -> None:
    """Byar's approximation against the exact interval of Garwood (1936)."""
    estimate = estimate_count("c", count)
    low, high = stats.chi2.ppf(0.025, 2 * count) / 2, stats.chi2.ppf(0.975, 2 * count + 2) / 2
    assert estimate.low == pytest.approx(low, rel=0.005)
    assert estimate.high == pytest.approx(high, rel=0.005)


def test_no_events_have_an_upper_limit() -> None:
    estimate = estimate_count("c", 0)
    assert (estimate.value, estimate.low) == (0, 0)
    assert estimate.high == pytest.approx(3.69, abs=0.05)  # Garwood's exact limit for 0


def test_too_few_users_is_not_a_number() -> None:
    estimate = estimate_rate("r", 3, 19)
    assert not estimate.known
    assert "19 users, at least 20" in estimate.note
    assert compare_estimates(estimate, estimate_rate("r", 30, 60)).difference is None


def test_compound_poisson_covers_the_truth() -> None:
    """4,000 simulated months of purchases: the interval holds the expected revenue 95% of the time."""
    random = np.random.default_rng(7)
    truth = 400 * math.exp(3 + 0.5 * 0.8**2)
    hits = 0
    for _ in range(4000):
        amounts = random.lognormal(3, 0.8, random.poisson(400))
        estimate = estimate_total("revenue", amounts.sum(), (amounts**2).sum(), len(amounts))
        hits += estimate.low <= truth <= estimate.high
    assert 0.935 < hits / 4000 < 0.965


def test_mean_equals_the_textbook() -> None:
    values = np.random.default_rng(1).normal(10, 3, 200)
    estimate = estimate_mean("m", values.sum(), (values**2).sum(), 200, unit="amount")
    half = 1.959964 * values.std(ddof=1) / math.sqrt(200)
    assert (estimate.value, estimate.low) == pytest.approx((values.mean(), values.mean() - half))


def test_findings_do_not_show_the_last_bits() -> None:
    assert to_plain(0.1 + 0.2) == 0.3
    assert estimate_rate("r", 1, 30).to_finding()["value"] == 0.03333333333

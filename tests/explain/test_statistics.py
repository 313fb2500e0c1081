"""Shared arithmetic: published values, brute force, simulated coverage."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opslib.explain.statistics import (
    compare_odds_exactly,
    compare_shares_exactly,
    compare_where_alike,
    compute_terms,
    estimate_difference,
    estimate_log_odds,
    estimate_log_ratio,
    find_least_odds_p,
    log_p_value,
    score_association,
)
from opslib.measure.estimate import adjust_p_values
from opslib.measure.sample_size import size_rates

# Bickel, Hammel and O'Connell (1975): admitted and applied, men and women, six departments of Berkeley.
BERKELEY = np.array(
    [
        (512, 825, 89, 108),
        (353, 560, 17, 25),
        (120, 325, 202, 593),
        (138, 417, 131, 375),
        (53, 191, 94, 393),
        (22, 373, 24, 341),
    ]
)


def test_berkeley_as_r_gives_it() -> None:
    """R's help page of mantelhaen.test: common odds ratio 0.9046968, interval 0.7719074 to 1.0603298."""
    sums = compute_terms(*BERKELEY.T).sum(axis=1)
    value, error = estimate_log_odds(sums)
    z = 1.959964
    assert np.exp([value, value - z * error, value + z * error]) == pytest.approx(
        [0.9046968, 0.7719074, 1.0603298], rel=1e-6
    )
    # chisq 1.5246 without the correction for continuity
    assert score_association(sums) ** 2 == pytest.approx(1.5246, abs=1e-4)


def test_one_stratum_is_the_plain_comparison() -> None:
    sums = compute_terms([30], [100], [20], [80]).sum(axis=1)
    value, error = estimate_difference(sums)
    assert value == pytest.approx(0.05)
    assert error == pytest.approx(math.sqrt(0.3 * 0.7 / 100 + 0.25 * 0.75 / 80), rel=0.01)
    ratio, spread = estimate_log_ratio(sums)
    assert (ratio, spread) == pytest.approx((math.log(1.2), math.sqrt(1 / 30 - 1 / 100 + 1 / 20 - 1 / 80)))


def test_a_confounder_is_taken_out() -> None:
    """Within each stratum both groups stay alike; taken together the first seems to stay twice as often."""
    terms = compute_terms([80, 2], [100, 10], [8, 20], [10, 100])
    assert estimate_difference(terms.sum(axis=1))[0] == pytest.approx(0, abs=1e-12)
    assert 82 / 110 > 2 * 28 / 110


def test_difference_covers_the_truth_in_many_tiny_strata() -> None:
    rng = np.random.default_rng(5)
    inside = 0
    for _ in range(400):
        users, others, base = rng.poisson(2, 150), rng.poisson(2, 150), rng.uniform(0.1, 0.6, 150)
        terms = compute_terms(rng.binomial(users, base + 0.1), users, rng.binomial(others, base), others)
        value, error = estimate_difference(terms.sum(axis=1))
        inside += abs(value - 0.1) < 1.959964 * error
    assert 0.92 <= inside / 400 <= 0.98


def test_empty_groups_give_nothing() -> None:
    sums = compute_terms([0, 3], [0, 10], [5, 0], [10, 0]).sum(axis=1)
    assert not sums.any()
    assert math.isnan(estimate_difference(sums)[0])
    assert math.isnan(estimate_log_odds(sums)[0])


@pytest.mark.parametrize("z", [0.0, 1.0, 5.0, 20.0])
def test_log_p_value(z: float) -> None:
    assert log_p_value(z) == pytest.approx(math.log(math.erfc(z / math.sqrt(2))), abs=1e-9)


def test_log_p_value_far_out() -> None:
    """Where the p-value itself is 0 to a computer: twice the density over z (Mills' ratio)."""
    assert log_p_value(-60.0) == pytest.approx(math.log(2) - 1800 - math.log(60 * math.sqrt(2 * math.pi)), abs=1e-3)


def test_q_values_of_the_original_paper() -> None:
    """Benjamini and Hochberg (1995), section 3.2: fifteen p-values, of which the procedure rejects the first four."""
    p = [0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459, 0.3240]
    p += [0.4262, 0.5719, 0.6528, 0.7590, 1.0000]
    assert (adjust_p_values(p) <= 0.05).sum() == 4
    assert adjust_p_values([]).tolist() == []


@settings(max_examples=50)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_q_values_equal_the_definition(p_values: list[float]) -> None:
    ordered = sorted(p_values)
    for p, q in zip(p_values, adjust_p_values(p_values), strict=True):
        ahead = [min(1.0, v * len(ordered) / rank) for rank, v in enumerate(ordered, 1) if v >= p]
        assert q == pytest.approx(min(ahead))


table = st.tuples(st.integers(0, 6), st.integers(0, 6), st.integers(0, 6), st.integers(0, 6)).map(
    lambda t: (min(t[0], t[1]), t[1], min(t[2], t[3]), t[3])
)


@settings(max_examples=50)
@given(table, table)
def test_exact_test_of_odds_equals_enumeration(group: tuple[int, ...], others: tuple[int, ...]) -> None:
    (b1, m1, a1, n1), (b2, m2, a2, n2) = group, others
    chances = {}
    for x, y in itertools.product(range(n1 + 1), range(n2 + 1)):
        if x + y == a1 + a2 and 0 <= a1 + b1 - x <= m1 and 0 <= a2 + b2 - y <= m2:
            first = math.comb(n1, x) * math.comb(m1, a1 + b1 - x)
            chances[x] = first * math.comb(n2, y) * math.comb(m2, a2 + b2 - y)
    expected = sum(c for c in chances.values() if c <= chances[a1]) / sum(chances.values())
    assert compare_odds_exactly(group, others) == pytest.approx(expected)  # type: ignore[arg-type]


@settings(max_examples=30)
@given(table, table)
def test_least_p_value_of_the_exact_test_is_the_smallest_there_is(
    group: tuple[int, ...], others: tuple[int, ...]
) -> None:
    (b1, m1, a1, n1), (b2, m2, a2, n2) = group, others
    possible = []
    for x in range(n1 + 1):
        own, rest = (a1 + b1 - x, m1, x, n1), (b2 + x - a1, m2, a2 + a1 - x, n2)
        if 0 <= own[0] <= m1 and 0 <= rest[0] <= m2 and 0 <= rest[2] <= n2:
            possible.append(float(compare_odds_exactly(own, rest)))
    assert float(find_least_odds_p(group, others)) == pytest.approx(min(possible))


def test_a_common_change_from_nothing_is_rarely_told_apart() -> None:
    """Both groups start at 0%, and reach 3% alike."""
    rng = np.random.default_rng(5)
    after = rng.binomial([200, 900], 0.03, size=(4000, 2)).astype(float)
    nothing = np.zeros(len(after))
    rows = [np.stack([nothing, nothing + n, after[:, i], nothing + n], axis=1) for i, n in enumerate((200, 900))]
    assert np.mean(compare_where_alike(*rows, few=10) <= 0.05) <= 0.05


@settings(max_examples=30)
@given(table)
def test_exact_test_of_shares_equals_scipy(counts: tuple[int, ...]) -> None:
    from scipy.stats import fisher_exact

    b, m, a, n = counts
    expected = fisher_exact([[a, n - a], [b, m - b]]).pvalue if n and m else 1.0
    assert compare_shares_exactly(a, n, b, m) == pytest.approx(expected)


@pytest.mark.shared
def test_sizes_of_experiments_as_published(shared: Path) -> None:
    reference = json.loads((shared / "cases" / "references.json").read_text())["evan_miller_sample_size"]
    for row in reference["rows"]:
        assert size_rates(row["p"], row["mde_abs"]) == row["published_n_per_arm"]


def test_sizes_of_experiments() -> None:
    """evanmiller.org/ab-testing/sample-size.html with its default values: 20% and five points."""
    assert size_rates(0.2, 0.05) == size_rates(0.8, 0.05) == size_rates(0.2, -0.05) == 1030
    assert size_rates(0.2, 0.05, power=0.9) > 1030  # type: ignore[operator]
    for impossible in ((0.2, 0.0), (0.0, 0.1), (1.0, 0.1), (0.9, 0.2), (0.1, -0.2), (math.nan, 0.1), (0.2, math.nan)):
        assert size_rates(*impossible) is None

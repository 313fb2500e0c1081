"""Confidence sequences: published values, and how often they ever miss."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from opslib.measure.sequential import bound_sum, inflate_for_looks, log_mixture, sequence_interval, tune_mixture


@pytest.mark.shared
def test_values_of_confseq(shared: Path) -> None:
    """Outside reference: the unit tests of the authors' own implementation."""
    cases = json.loads((shared / "cases" / "references.json").read_text())["confidence_sequences"]
    case = cases["two_sided_normal_mixture"]
    rho = tune_mixture(case["v_opt"], level=case["alpha_opt"])
    assert rho == pytest.approx(case["best_rho"], abs=1e-5)
    assert float(bound_sum(100, rho, level=0.05)) == pytest.approx(case["bound(v=100,alpha=.05)"], abs=1e-5)
    assert float(log_mixture(10, 100, rho)) == pytest.approx(case["log_mixture(s=10,v=100)"], abs=1e-6)


def test_interval_and_p_value_say_the_same() -> None:
    errors = np.geomspace(0.001, 1, 50)
    rho = tune_mixture(1e4)
    for z in (0.5, 2.5, 3.5, 5.0):
        low, high, p = sequence_interval(z * errors, errors, rho)
        assert ((low > 0) == (p < 0.05)).all()
        assert (high > low).all()
    for z in (-5.0, 5.0):
        half = float(bound_sum(1 / 0.01**2, rho)) * 0.01**2
        low, high, _ = sequence_interval(z, 0.01, rho)
        assert (float(low), float(high)) == pytest.approx((z - half, z + half))


def test_no_error_no_interval() -> None:
    low, high, p = sequence_interval([0.0, 1.0], [0.0, float("nan")], 1.0)
    assert np.isnan([low, high, p]).all()


def simulate(seed: int, *, effect: float, sequences: int = 1000, looks: int = 200) -> tuple[float, float, float]:
    """Share of experiments that ever alarm, by sequence and by one-look tests; share of sequences that ever miss."""
    rng = np.random.default_rng(seed)
    users = 50 * np.arange(1, looks + 1)
    # Shares of 20% in batches of 50 users, with the variance estimated as data come.
    p = np.array([0.2, 0.2 + effect])[:, None, None]
    hits = np.cumsum(rng.binomial(50, p, (2, sequences, looks)), axis=2)
    rate = hits / users
    difference = rate[1] - rate[0]
    error = np.sqrt((rate * (1 - rate)).sum(axis=0) / users)
    begun = (users >= 100) & (hits.min(axis=0) >= 10)
    rho = tune_mixture(1.0) * 5000 / users / np.where(error > 0, error, 1) ** 2
    low, high, _ = sequence_interval(difference, error, rho)
    ever = (begun & ((low > 0) | (high < 0))).any(axis=1).mean()
    missed = (begun & ((low > effect) | (high < effect))).any(axis=1).mean()
    naive = (begun & (np.abs(difference) > 1.96 * error)).any(axis=1).mean()
    return float(ever), float(missed), float(naive)


def test_two_hundred_looks_raise_no_more_false_alarms_than_promised() -> None:
    ever, _, naive = simulate(11, effect=0.0)
    # 1,000 experiments: 5% within two binomial standard errors above.
    assert ever <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 1000)
    assert naive > 0.3


def test_the_true_effect_is_ever_missed_no_more_than_promised_and_seen_in_the_end() -> None:
    ever, missed, _ = simulate(12, effect=0.03)
    assert missed <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 1000)
    assert ever > 0.9


def test_inflation_for_looks_gives_the_power_at_the_planned_end() -> None:
    """Brownian motion at the end alone: the chance beyond the bound is the power, which looks before only raise."""
    from scipy.stats import norm

    drift = (norm.ppf(0.975) + norm.ppf(0.8)) * np.sqrt(inflate_for_looks())
    beyond = norm.sf(float(bound_sum(1.0, tune_mixture(1.0))) - drift)
    assert beyond == pytest.approx(0.8, abs=1e-6)

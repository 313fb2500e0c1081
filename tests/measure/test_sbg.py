"""The shifted-beta-geometric model: published fits, simulated users, real curves, and curves of another kind."""

from __future__ import annotations

import datetime as dt
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opslib.data.periods import DAY, Period
from opslib.data.source import open_data
from opslib.measure.cohorts import measure_cohorts
from opslib.measure.sbg import fit_sbg, list_survivors, measure_residual_lifetime, project_sbg
from tests.conftest import ROOT
from tests.measure.streams import to_table

# Fader and Hardie (2007), table 1: percent of customers left after each year.
HIGH_END = [1000, 869, 743, 653, 593, 551, 517, 491]
REGULAR = [1000, 631, 468, 382, 326, 289, 262, 241]


def simulate(rng: np.random.Generator, alpha: float, beta: float, users: int, periods: int) -> list[int]:
    """Users with a chance to leave of their own, one period after the other."""
    chance = rng.beta(alpha, beta, users)
    leaves = rng.geometric(np.maximum(chance, 1e-12))
    return [users, *(int((leaves > t).sum()) for t in range(1, periods + 1))]


def test_published_parameters() -> None:
    """The values printed in the paper; its text misprints the high-end alpha as 0.688, appendix B has 0.668."""
    regular, high_end = fit_sbg(REGULAR), fit_sbg(HIGH_END)
    assert (round(regular.alpha or 0, 3), round(regular.beta or 0, 3)) == (0.704, 1.182)
    assert (round(high_end.alpha or 0, 3), round(high_end.beta or 0, 3)) == (0.668, 3.806)
    assert round((high_end.log_likelihood or 0) / 1000, 3) == -1.611
    assert high_end.note == regular.note == ""


@pytest.mark.shared
@pytest.mark.parametrize("kind", ["regular", "high_end"])
def test_references(shared: Path, kind: str) -> None:
    """Fitted on years 1 to 7; survival and retention to year 12 and the value of those who are left."""
    reference = json.loads((shared / "cases" / "references.json").read_text())["sBG"]
    expected = reference["recomputed"][kind]
    fit = fit_sbg([round(10 * share) for share in reference["data_pct"][kind][:8]])
    assert fit.alpha == pytest.approx(expected["alpha"], abs=1e-6)
    assert fit.beta == pytest.approx(expected["beta"], abs=1e-6)
    assert fit.log_likelihood == pytest.approx(expected["LL"], abs=1e-6)
    frame = project_sbg(fit, 12)
    assert frame["survival_rate"].tolist() == pytest.approx(expected["S_0_12"][1:], abs=1e-7)
    assert frame["retention_rate"].tolist() == pytest.approx(expected["retention_r_1_12"], abs=1e-7)
    derl = [measure_residual_lifetime(fit, renewals=n, discount=0.1) for n in range(12)]
    assert derl == pytest.approx(expected["DERL_d0.10_n0_11"], abs=1e-5)
    assert frame["projected"].tolist() == [False] * 7 + [True] * 5
    # What was kept back: the truth of years 8 to 12 lies in the intervals, or misses them by less than a point.
    truth = np.array(reference["data_pct"][kind][8:]) / 100
    ahead = frame[frame["projected"]]
    assert (truth > ahead["survival_low"].to_numpy() - 0.01).all()
    assert (truth < ahead["survival_high"].to_numpy() + 0.01).all()


@pytest.mark.shared
def test_several_cohorts_of_different_length(shared: Path) -> None:
    case = json.loads((shared / "cases" / "references.json").read_text())["sBG"]["multi_cohort_test"]
    fit = fit_sbg(case["data"])
    assert (round(fit.alpha or 0, 1), round(fit.beta or 0, 2)) == (case["alpha"], case["beta"])
    assert fit.users_count == 40_000
    assert fit.curve["at_risk_count"].tolist() == [40_000, 24_000, 12_960, 5307]


def test_likelihood_by_hand() -> None:
    """The likelihood is the product of each leaver's and each stayer's probability, from the beta function."""
    from scipy.special import betaln

    fit = fit_sbg(HIGH_END)
    assert fit.alpha is not None
    assert fit.beta is not None
    total = 0.0
    for t, (before, after) in enumerate(itertools.pairwise(HIGH_END), start=1):
        total += (before - after) * (betaln(fit.alpha + 1, fit.beta + t - 1) - betaln(fit.alpha, fit.beta))
    total += HIGH_END[-1] * (betaln(fit.alpha, fit.beta + 7) - betaln(fit.alpha, fit.beta))
    assert fit.log_likelihood == pytest.approx(total, abs=1e-8)


@settings(max_examples=30)
@given(st.floats(0.2, 5), st.floats(0.5, 20), st.integers(0, 10**6))
def test_no_other_parameters_are_likelier(alpha: float, beta: float, seed: int) -> None:
    """Brute force: a fine grid around the maximum finds nothing better."""
    fit = fit_sbg(simulate(np.random.default_rng(seed), alpha, beta, 500, 6))
    if not fit.known or fit.alpha is None or fit.beta is None:
        return
    at_risk, stayed = (fit.curve[c].to_numpy(dtype=float) for c in ("at_risk_count", "stayed_count"))
    factors = np.exp(np.linspace(-2, 2, 41))
    a, b = np.meshgrid(fit.alpha * factors, fit.beta * factors)
    t = np.arange(6)[:, None, None]
    rates = (b + t) / (a + b + t)
    grid = (stayed[:, None, None] * np.log(rates) + (at_risk - stayed)[:, None, None] * np.log1p(-rates)).sum(axis=0)
    assert grid.max() <= (fit.log_likelihood or 0) + 1e-6


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    """300 simulated companies of 800 users seen for 6 periods: survival to period 15 and retention in it."""
    rng, alpha, beta = np.random.default_rng(7), 0.8, 2.5
    t = np.arange(15)
    retention = (beta + t) / (alpha + beta + t)
    truth = {"survival": retention.prod(), "retention": retention[-1]}
    hits = {"survival": 0, "retention": 0}
    for _ in range(300):
        last = project_sbg(fit_sbg(simulate(rng, alpha, beta, 800, 6)), 15).iloc[-1]
        for name in hits:
            hits[name] += last[f"{name}_low"] <= truth[name] <= last[f"{name}_high"]
    assert all(0.91 <= n / 300 <= 0.985 for n in hits.values()), hits


def test_the_same_chance_for_everybody_is_a_fit_at_the_edge() -> None:
    fit = fit_sbg([10_000, 9000, 8100, 7290, 6561, 5905])
    assert "hardly differ" in fit.note
    frame = project_sbg(fit, 10)
    assert frame["survival_rate"].iloc[-1] == pytest.approx(0.9**10, abs=1e-3)
    assert ((frame["retention_high"] - frame["retention_low"]) < 0.03).all()


@pytest.mark.parametrize(
    ("survivors", "words"),
    [
        ([1000, 400, 300, 420, 500], "rises: 500 users in period 4 after 300"),
        ([1000, 950, 850, 650, 350, 100], "leaving gets likelier"),
        ([1000, 1000, 1000, 1000], "nobody left"),
        ([1000, 0, 0, 0], "everybody left"),
        ([12, 8, 6, 5], "not enough data: 12 users"),
        ([1000, 500, 400], "not enough data: 2 periods"),
        ([1000], "not enough data: 0 periods"),
        ([], "not enough data: 0 users"),
        ([[50, 20], [60]], "not enough data: 1 periods"),
    ],
)
def test_no_fit_but_a_reason(survivors: Any, words: str) -> None:
    fit = fit_sbg(survivors)
    assert not fit.known
    assert words in fit.note
    assert project_sbg(fit, 12).empty
    assert measure_residual_lifetime(fit, renewals=1, discount=0.1) is None
    json.dumps(fit.findings(), allow_nan=False)


def test_negative_counts_are_refused() -> None:
    with pytest.raises(ValueError, match="negative"):
        fit_sbg([100, 50, -1, 3])


def test_a_rise_by_chance_is_fitted() -> None:
    """138 and then 143 of 232 users: such a step says nothing."""
    fit = fit_sbg([232, 172, 138, 143, 128, 120])
    assert fit.known
    assert fit.curve["observed_rate"].iloc[-1] == pytest.approx(120 / 232)


def test_cohorts_come_from_the_triangle_without_their_immature_cells() -> None:
    days = {(u, dt.date(2026, 1, 1) + n * DAY) for u in range(60) for n in range(5) if u >= 10 * n}
    days |= {(100 + u, dt.date(2026, 1, 3) + n * DAY) for u in range(30) for n in range(3) if u >= 10 * n}
    january = Period(dt.date(2026, 1, 1), dt.date(2026, 2, 1), "January")
    result = measure_cohorts(to_table(days), period=january, as_of=dt.date(2026, 1, 5), intervals=4)
    assert list_survivors(result) == [[60, 50, 40, 30, 20], [30, 20, 10]]


@pytest.mark.shared
def test_real_curves(shared: Path) -> None:
    """Activity is not leaving for good: the term ends (collegemsg), Christmas comes (online_retail, cdnow)."""
    facts = {
        name: json.loads((shared / "real" / name / "facts.json").read_text())
        for name in ("collegemsg", "online_retail", "cdnow")
    }
    weekly = facts["collegemsg"]["weekly_cohort_counts_first8weeks"]
    assert "leaving gets likelier" in fit_sbg(weekly["2004-04-26"]).note
    assert "the curve rises: 34 users in period 8 after 9" in fit_sbg(weekly["2004-05-03"]).note
    assert "2 users" in fit_sbg(weekly["2004-04-12"]).note
    monthly = facts["online_retail"]["cohort_matrix_clean"]
    assert "the curve rises: 445 users in period 11" in fit_sbg(monthly["2010-12"]).note
    # No month's customers follow the model: the shop's customers come and go, with autumn above spring.
    assert not any(fit_sbg(counts).known and not fit_sbg(counts).note for counts in monthly.values())
    assert "the curve rises" in fit_sbg(facts["cdnow"]["master"]["cohort_1997_01_active_by_month"]).note
    falling = fit_sbg(facts["cdnow"]["master"]["cohort_1997_01_active_by_month"][:5])
    assert falling.known


def test_weeks_of_the_sample() -> None:
    """Who is active in a week of the sample company falls as the model says; held-out weeks lie near the projection."""
    data = open_data(ROOT / "playbook.toml")
    year = Period(dt.date(2025, 1, 6), dt.date(2025, 7, 1), "first half of 2025")
    result = measure_cohorts(
        data.active_days, period=year, as_of=data.as_of, calendar=data.calendar, grain="week", intervals=24
    )
    counts = list_survivors(result)
    fit = fit_sbg([c[:13] for c in counts])
    assert fit.known, fit.note
    ahead = project_sbg(fit, 24)["survival_rate"].to_numpy()
    seen = result.curve["retention_rate"].to_numpy()[1:]
    assert np.abs(ahead[12:] - seen[12:]).max() < 0.03

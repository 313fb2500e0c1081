"""Rules: the chance that they state is the chance there is; the calibrated version keeps its promise and its power."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from opslib.data.operations import RuleSettings
from opslib.measure.series.series import MetricSeries
from tests.decide.rule_series import evaluate_last, make_series

DAYS, WARM = 540, 176
YEARS = (DAYS - WARM) / 365.25


def make_rule(**asked: Any) -> RuleSettings:
    return RuleSettings(**{"name": "r", "metric": "complaint_rate", **asked})


def steady(rate: float, users: int, periods: int = DAYS, **options: Any) -> MetricSeries:
    """A series that lies at its true value exactly: its noise is that of chance alone."""
    return make_series(np.full(periods, rate * users), np.full(periods, users), **options)


# --- numbers of the handbook, and exact ones --------------------------------------------------------------------------


def test_a_cohort_at_26_percent_shows_less_than_25_about_23_times_in_100() -> None:
    stats = pytest.importorskip("scipy.stats")
    row = evaluate_last(make_rule(metric="d7_rate", below=0.25), steady(0.26, 1000)).groups.iloc[0]
    exact = stats.binom(1000, 0.26).cdf(249)
    assert row["noise_period_probability"] == pytest.approx(exact, abs=0.004)
    assert row["noise_period_probability"] == pytest.approx(0.23, abs=0.01)
    # It begins anew wherever a day below follows one that is not.
    assert row["noise_fires_per_year"] == pytest.approx(365.25 * exact * (1 - exact), rel=0.02)


def test_three_months_up_on_noise_in_29_percent_of_years() -> None:
    series = make_series(
        np.random.default_rng(0).binomial(1000, 0.3, 18), np.full(18, 1000), grain="month", metric="churn_rate"
    )
    row = evaluate_last(make_rule(metric="churn_rate", rising=3, grain="month"), series).groups.iloc[0]
    assert row["noise_year_probability"] == pytest.approx(0.29, abs=0.03)
    # One order of four values in 24 rises throughout; ties take a little away.
    assert row["noise_period_probability"] == pytest.approx(1 / 24, abs=0.005)


def test_three_days_of_complaints_in_2_6_percent_of_windows() -> None:
    stats = pytest.importorskip("scipy.stats")
    row = evaluate_last(make_rule(above=0.05, times=3), steady(0.045, 100)).groups.iloc[0]
    exact = stats.binom(100, 0.045).sf(5) ** 3
    assert row["noise_period_probability"] == pytest.approx(exact, rel=0.07)
    assert row["noise_period_probability"] == pytest.approx(0.026, abs=0.003)


@pytest.mark.parametrize(("times", "of"), [(1, 0), (2, 3), (3, 5)])
def test_noise_of_k_of_n_is_exact(times: int, of: int) -> None:
    stats = pytest.importorskip("scipy.stats")
    series = make_series(np.full(DAYS, 30.0), np.ones(DAYS), kind="count", metric="tickets_count")
    rule = make_rule(metric="tickets_count", above=35.0, times=times, of=of)
    row = evaluate_last(rule, series).groups.iloc[0]
    single = stats.poisson(30).sf(35)
    assert row["noise_period_probability"] == pytest.approx(stats.binom(of or times, single).sf(times - 1), rel=0.08)


# --- stated against observed ------------------------------------------------------------------------------------------

WEEK = np.array([1, 1, 1, 1.05, 1.05, 0.75, 0.65])


def draw(kind: str, level: float, users: int, rng: np.random.Generator) -> MetricSeries:
    """A year and a half in which nothing changes: plain, scattering wider, with weekdays, with volume that varies."""
    season = np.resize(WEEK / WEEK.mean(), DAYS)
    volume = np.full(DAYS, users)
    if kind == "volume":
        volume = rng.poisson(users * season)
    if kind in ("binomial", "volume"):
        return make_series(rng.binomial(volume, level), volume)
    if kind == "overdispersed":
        weight = (users - 1) / 1.5 - 1
        return make_series(rng.binomial(volume, rng.beta(level * weight, (1 - level) * weight, DAYS)), volume)
    if kind == "weekday":
        return make_series(rng.binomial(volume, level * season), volume)
    if kind == "poisson":
        return make_series(rng.poisson(level * users, DAYS), np.ones(DAYS), kind="count", metric="tickets_count")
    spread = rng.gamma(users, level, DAYS)
    return make_series(spread, np.ones(DAYS), kind="mean", metric="cac_amount", error=level * math.sqrt(users))


NOISES = ["binomial", "overdispersed", "weekday", "volume", "poisson", "mean"]
VERSIONS = [{}, {"times": 2}, {"times": 2, "of": 4, "cooldown_days": 10}, {"clears_at": 0.0}]


def ask_above(kind: str, level: float, users: int, shift: float, extra: dict[str, Any]) -> RuleSettings:
    """A rule whose threshold lies so many standard errors of chance above a level."""
    scale = {"poisson": users, "mean": users}.get(kind, 1)
    error = {"poisson": math.sqrt(level * users), "mean": level * math.sqrt(users)}.get(
        kind, math.sqrt(level * (1 - level) / users)
    )
    metric = {"poisson": "tickets_count", "mean": "cac_amount"}.get(kind, "complaint_rate")
    bound = level * scale + shift * error
    asked = {**extra, "clears_at": level * scale} if "clears_at" in extra else extra
    return make_rule(metric=metric, above=bound, minimum_users=1, **asked)


def count_late(result: Any, version: str) -> int:
    rows = result.firings[result.firings["version"] == version]
    return int((rows["period_start"] >= "2025-06-26").sum())


def check_stated(kind: str, extra: dict[str, Any], companies: int, seed: int) -> None:
    from scipy import stats

    rng = np.random.default_rng(seed)
    seen, stated = 0, 0.0
    for i in range(companies):
        level, users = [(0.05, 120), (0.04, 900), (0.3, 400)][i % 3]
        rule = ask_above(kind, level, users, 1.6, extra)
        result = evaluate_last(rule, draw(kind, level, users, rng), seed=i)
        seen += count_late(result, "verbatim")
        stated += result.groups["noise_fires_per_year"].iloc[0] * YEARS
    assert seen <= stats.poisson(stated).ppf(0.999)
    # Nor is noise made out to be more than it is.
    assert seen >= stats.poisson(0.6 * stated).ppf(0.001)


def check_calibrated(kind: str, extra: dict[str, Any], companies: int, seed: int, allowed: float = 2.0) -> None:
    from scipy import stats

    rng = np.random.default_rng(seed)
    seen = 0
    for i in range(companies):
        level, users = [(0.05, 120), (0.04, 900), (0.3, 400)][i % 3]
        rule = ask_above(kind, level, users, 0.0, {**extra, "false_alarms_per_year": allowed})
        seen += count_late(evaluate_last(rule, draw(kind, level, users, rng), seed=i), "calibrated")
    assert seen <= stats.poisson(allowed * YEARS * companies).ppf(0.999)


@pytest.mark.parametrize("kind", NOISES)
def test_companies_fire_no_more_often_than_stated(kind: str) -> None:
    n = NOISES.index(kind) % 3
    check_stated(kind, VERSIONS[n], 21, seed=n)


@pytest.mark.parametrize("kind", ["overdispersed", "weekday", "poisson"])
def test_calibrated_rules_keep_their_promise_at_the_threshold(kind: str) -> None:
    n = NOISES.index(kind) % 2
    check_calibrated(kind, VERSIONS[n], 21, seed=10 + n)


@pytest.mark.slow
@pytest.mark.parametrize("kind", NOISES)
@pytest.mark.parametrize("extra", VERSIONS, ids=str)
def test_many_companies(kind: str, extra: dict[str, Any]) -> None:
    check_stated(kind, extra, 60, seed=20)
    check_calibrated(kind, extra, 60, seed=21)


@pytest.mark.parametrize("asked", [{"drops_by": 0.1}, {"falling": 4}])
def test_changes_and_trends_fire_no_more_often_than_stated(asked: dict[str, Any]) -> None:
    from scipy import stats

    rng = np.random.default_rng(5)
    seen, tight, stated, allowed = 0, 0, 0.0, 1.0
    for i in range(21):
        values = rng.poisson(300 * np.resize(WEEK, DAYS))
        series = make_series(values, np.ones(DAYS), kind="count", metric="orders_count")
        rule = make_rule(metric="orders_count", false_alarms_per_year=allowed, **asked)
        result = evaluate_last(rule, series, seed=i)
        seen, tight = seen + count_late(result, "verbatim"), tight + count_late(result, "calibrated")
        stated += result.groups["noise_fires_per_year"].iloc[0] * YEARS
    assert stats.poisson(0.6 * stated).ppf(0.001) <= seen <= stats.poisson(stated).ppf(0.999)
    assert tight <= stats.poisson(allowed * YEARS * 21).ppf(0.999)


def test_what_lasts_is_not_taken_for_news_each_day() -> None:
    # A value that wanders about its usual level: runs are longer than those of independent days.
    from scipy import stats

    rng = np.random.default_rng(6)
    seen, stated = 0, 0.0
    for i in range(21):
        wander = np.zeros(DAYS)
        for t in range(1, DAYS):
            wander[t] = 0.8 * wander[t - 1] + 0.6 * rng.standard_normal()
        series = make_series(rng.poisson(4000 + 160 * wander), np.ones(DAYS), kind="count", metric="dau_count")
        rule = make_rule(metric="dau_count", below=3850.0, times=3)
        result = evaluate_last(rule, series, seed=i)
        seen += count_late(result, "verbatim")
        stated += result.groups["noise_fires_per_year"].iloc[0] * YEARS
    assert 0.7 * stated <= seen <= 1.3 * stats.poisson(stated).ppf(0.999)


# --- power ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("fall", "within"), [(0.30, 1), (0.20, 5)])
def test_a_true_fall_well_past_the_threshold_fires(fall: float, within: int) -> None:
    # Usual 30%, threshold 25%, 400 users a day: at 25% the error is 2.2 points.
    rng = np.random.default_rng(7)
    found, companies = 0, 20
    for i in range(companies):
        users = np.full(200, 400)
        share = np.where(np.arange(200) >= 200 - within, 0.25 * (1 - fall), 0.30)
        rule = make_rule(metric="d7_rate", below=0.25, false_alarms_per_year=1.0)
        result = evaluate_last(rule, make_series(rng.binomial(users, share), users, metric="d7_rate"), seed=i)
        late = result.firings[result.firings["version"] == "calibrated"]
        found += bool((late["period_start"] >= result.series.frame["period_start"].iloc[-within]).any())
    assert found >= 0.7 * companies


def test_a_standing_episode_does_not_become_usual() -> None:
    rng = np.random.default_rng(8)
    users = np.full(400, 500)
    share = np.where(np.arange(400) >= 280, 0.2, 0.3)
    row = evaluate_last(make_rule(metric="d7_rate", below=0.26), make_series(rng.binomial(users, share), users))
    group = row.groups.iloc[0]
    assert group["usual_value"] == pytest.approx(0.3, abs=0.005)
    assert group["state"] == group["calibrated_state"] == "firing"
    assert row.level == "red"

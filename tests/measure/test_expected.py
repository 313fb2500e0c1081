"""The expected range of a series: one-sided, robust, exact for small counts, and honest about its false alarms."""

from __future__ import annotations

import datetime as dt
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.signal import lfilter

from opslib.data.operations import Holiday
from opslib.errors import InputError
from opslib.measure.expected import ExpectedResult, expect_values
from opslib.measure.expected.chance import find_all_limits, find_limits, find_tails
from opslib.measure.expected.level import find_season

DAYS = 540
WEEK = np.array([1.1, 1.1, 1.1, 1.1, 1.1, 0.8, 0.7])


def make_frame(tops: Any, sizes: Any = 1.0, start: str = "2025-01-01", freq: str = "D") -> pd.DataFrame:
    tops = np.asarray(tops, dtype=float)
    sizes = np.broadcast_to(np.asarray(sizes, dtype=float), tops.shape)
    days = pd.date_range(start, periods=len(tops), freq=freq)
    return pd.DataFrame({"period_start": days, "value": tops / sizes, "numerator": tops, "denominator": sizes})


def watch_counts(counts: Any, **options: Any) -> ExpectedResult:
    return expect_values(make_frame(counts), kind="count", **options)


# Chance alone, against scipy's distributions


@given(st.integers(0, 400), st.floats(0.05, 300), st.floats(1.01, 8))
def test_tails_of_counts_are_exact(count: int, mean: float, spread: float) -> None:
    low, high = find_tails("count", count, mean, 1.0, 1)
    assert low == pytest.approx(stats.poisson.cdf(count, mean), rel=1e-6, abs=1e-12)
    assert high == pytest.approx(stats.poisson.sf(count - 1, mean), rel=1e-6, abs=1e-12)
    shape = mean / (spread - 1)
    low, high = find_tails("count", count, mean, spread, 1)
    assert low == pytest.approx(stats.nbinom.cdf(count, shape, 1 / spread), rel=1e-6, abs=1e-12)
    assert high == pytest.approx(stats.nbinom.sf(count - 1, shape, 1 / spread), rel=1e-6, abs=1e-12)


@given(st.integers(1, 500), st.floats(0, 1), st.floats(0.001, 0.999))
def test_tails_of_rates_are_exact(size: int, share: float, mean: float) -> None:
    count = round(share * size)
    low, high = find_tails("rate", count, mean, 1.0, size)
    assert low == pytest.approx(stats.binom.cdf(count, size, mean), rel=1e-6, abs=1e-12)
    assert high == pytest.approx(stats.binom.sf(count - 1, size, mean), rel=1e-6, abs=1e-12)


@given(st.sampled_from(["count", "rate"]), st.floats(0.02, 50), st.floats(1, 6), st.floats(1e-4, 0.1))
def test_limits_are_the_last_numbers_inside(kind: Any, mean: float, spread: float, alpha: float) -> None:
    size = 80
    mean = min(mean / size, 0.98) if kind == "rate" else mean
    low, high = find_limits(kind, mean, spread, size, alpha)
    assert find_tails(kind, low, mean, spread, size)[0] > alpha
    assert find_tails(kind, high, mean, spread, size)[1] > alpha
    assert low == 0 or find_tails(kind, low - 1, mean, spread, size)[0] <= alpha
    assert (kind == "rate" and high == size) or find_tails(kind, high + 1, mean, spread, size)[1] <= alpha


# False alarms on undisturbed data


def vary(rng: np.random.Generator, deviation: float, memory: float = 0.0) -> np.ndarray:
    steps = rng.normal(0, deviation * np.sqrt(1 - memory**2), DAYS + 50)
    return np.exp(lfilter([1], [1, -memory], steps)[50:])


def pay(rng: np.random.Generator, orders: np.ndarray, deviation: float) -> np.ndarray:
    return np.array([rng.lognormal(4, deviation, n).sum() for n in rng.poisson(orders)])


DAY = np.arange(DAYS)
QUIET: dict[str, Any] = {
    "poisson 0.3": lambda r: (r.poisson(0.3, DAYS), 1, "count"),
    "poisson 5": lambda r: (r.poisson(5, DAYS), 1, "count"),
    "poisson 200": lambda r: (r.poisson(200, DAYS), 1, "count"),
    "over-dispersed": lambda r: (r.poisson(20 * r.gamma(8, 1 / 8, DAYS)), 1, "count"),
    "correlated": lambda r: (r.poisson(200 * vary(r, 0.1, 0.5)), 1, "count"),
    "week": lambda r: (r.poisson(500 * WEEK[DAY % 7]), 1, "count"),
    "growth": lambda r: (r.poisson(300 * 1.003**DAY * WEEK[DAY % 7]), 1, "count"),
    "rate of few": lambda r: (r.binomial(40, 0.06, DAYS), 40, "rate"),
    "rate of many": lambda r: (r.binomial(3000, 0.25, DAYS), 3000, "rate"),
    "money": lambda r: (pay(r, 40 * WEEK[DAY % 7], 0.8), 1, "mean"),
    "heavy money": lambda r: (pay(r, np.full(DAYS, 20), 1.4), 1, "mean"),
}


@pytest.mark.parametrize("name", QUIET)
def test_false_alarms_are_at_most_as_many_as_stated(name: str) -> None:
    alarms = years = 0.0
    for seed in range(4):
        tops, sizes, kind = QUIET[name](np.random.default_rng(seed))
        result = expect_values(make_frame(tops, sizes), kind=kind)
        alarms += len(result.episodes)
        years += (result.daily["status"] == "judged").sum() / 365.25
    assert alarms <= stats.poisson.ppf(0.995, years)


def test_more_are_allowed_when_asked_for() -> None:
    alarms = dict.fromkeys((1, 20), 0)
    for rate in alarms:
        for seed in range(4):
            counts = np.random.default_rng(seed).poisson(200, DAYS)
            alarms[rate] += len(watch_counts(counts, false_alarms_per_year=rate).episodes)
    assert alarms[20] > 5 * max(alarms[1], 1)
    assert alarms[20] <= stats.poisson.ppf(0.995, 20 * 4 * 512 / 365.25)


def test_what_is_unusual_is_found() -> None:
    found = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        counts = rng.poisson(200 * WEEK[DAY[:200] % 7])
        counts[150] = counts[150] * 0.6
        result = watch_counts(counts)
        found += result.range_on(dt.date(2025, 5, 31)).unusual == "low"
    assert found >= 19


# One-sided and robust


@settings(max_examples=10)
@given(st.integers(0, 10**6), st.integers(30, 118), st.sampled_from(["count", "rate", "mean"]))
def test_a_past_day_is_judged_as_it_was_on_that_day(seed: int, cut: int, kind: Any) -> None:
    rng = np.random.default_rng(seed)
    frame = make_frame(rng.poisson(6 * WEEK[DAY[:120] % 7]) * rng.choice([1, 1, 1, 8], 120), 60)
    holiday = [Holiday(name="fair", start=dt.date(2025, 2, 20), end=dt.date(2025, 2, 24))]
    options: Any = {"kind": kind, "holidays": [*holiday, holiday[0].model_copy(update={"start": dt.date(2025, 4, 1)})]}
    options["holidays"][1] = Holiday(name="fair", start=dt.date(2025, 4, 1), end=dt.date(2025, 4, 5))
    whole, part = expect_values(frame, **options), expect_values(frame.iloc[:cut], **options)
    pd.testing.assert_frame_equal(whole.daily.iloc[:cut], part.daily)


def test_an_earlier_spike_moves_neither_level_nor_spread() -> None:
    counts = np.random.default_rng(3).poisson(100, 120)
    spiked = counts.copy()
    spiked[70:73] = 900
    plain, after = (watch_counts(c).daily.iloc[73:] for c in (counts, spiked))
    assert np.allclose(plain["expected"], after["expected"], rtol=0.08)
    assert after["expected"].mean() == pytest.approx(plain["expected"].mean(), rel=0.015)
    assert ((after["high"] - after["low"]) / (plain["high"] - plain["low"])).between(0.9, 1.25).all()
    # How large it was does not matter.
    spiked[70:73] = 90_000
    assert np.allclose(watch_counts(spiked).daily.iloc[73:]["expected"], after["expected"])


def test_a_lasting_shift_is_the_new_level_after_two_weeks() -> None:
    for seed in range(5):
        rng = np.random.default_rng(seed)
        counts = np.concatenate([rng.poisson(100, 100), rng.poisson(200, 100)])
        result = watch_counts(counts)
        assert result.shift_after == 14
        first = result.episodes[result.episodes["side"] == "high"].iloc[0]
        assert str(first["first_day"].date()) == "2025-04-11"
        assert (first["last_day"] - first["first_day"]).days < 14
        assert (result.daily["unusual"].iloc[115:] == "").mean() > 0.97
        assert result.daily["expected"].iloc[120:].between(170, 230).all()


def test_week_is_learnt_only_where_there_is_one() -> None:
    rng = np.random.default_rng(0)
    flat = [find_season(rng.poisson(200, (12, 7)).astype(float), False) for _ in range(40)]
    assert np.mean([(f == 1).all() for f in flat]) > 0.9
    season = find_season(rng.poisson(5000 * WEEK, (12, 7)).astype(float), False)
    assert np.allclose(season, WEEK, atol=0.02)
    growing = 300 * 1.01 ** np.arange(84)
    assert np.allclose(find_season(growing.reshape(12, 7), False), 1, atol=0.01)


def test_a_day_of_rest_is_no_alarm_and_an_open_one_is() -> None:
    rng = np.random.default_rng(1)
    counts = rng.poisson(np.where(DAY[:140] % 7 == 6, 0, 60))
    assert not (watch_counts(counts).episodes["worst_value"] == 0).any()
    counts[7 * 18 + 6] = 55
    assert 55 in watch_counts(counts).episodes["worst_value"].tolist()


def test_about_one_a_day_gets_exact_limits() -> None:
    counts = np.random.default_rng(5).poisson(1, 300)
    counts[200:] = 1
    row = watch_counts(counts).daily.iloc[250]
    inside, outside = (stats.poisson.sf(row["high"] + k, row["expected"]) for k in (-1, 0))
    assert row["low"] == 0 and outside < 1 / 365.25 / 2 < 3 * inside
    assert row["high"] in (4, 5)
    counts[250] = 9
    assert watch_counts(counts).daily["unusual"].iloc[250] == "high"


def test_a_small_denominator_is_not_unusual() -> None:
    sizes = np.full(200, 400)
    tops = np.random.default_rng(2).binomial(sizes, 0.1)
    sizes[150], tops[150] = 3, 2
    sizes[160], tops[160] = 400, 90
    result = expect_values(make_frame(tops, sizes), kind="rate")
    assert result.daily["unusual"].iloc[[150, 160]].tolist() == ["", "high"]
    assert result.episodes["excess"].iloc[0] == pytest.approx(50, abs=8)  # of users, not of a rate
    assert result.daily["high"].iloc[150] >= 2 / 3


# Missing days, holidays, episodes


def test_missing_days_are_no_zeros() -> None:
    frame = make_frame(np.random.default_rng(4).poisson(50, 100))
    zero = frame.assign(value=frame["value"].where(frame.index != 60, 0), numerator=frame["numerator"])
    zero.loc[60, "numerator"] = 0
    assert expect_values(zero, kind="count").range_on(dt.date(2025, 3, 2)).unusual == "low"
    gone = frame.drop(index=[60, 61])
    marked = frame.assign(status=np.where(frame.index.isin([60, 61]), "no data", "known"))
    for case in (gone, marked):
        result = expect_values(case, kind="count")
        assert result.missing_days == [dt.date(2025, 3, 2), dt.date(2025, 3, 3)]
        assert result.range_on(dt.date(2025, 3, 2)).status == "no data"
        assert result.range_on(dt.date(2025, 3, 2)).unusual == ""
        assert result.findings()[0]["no_data_count"] == 2
        assert len(result.daily) == 100


def test_an_alarm_goes_on_over_a_day_without_data() -> None:
    counts = np.random.default_rng(4).poisson(50, 100).astype(float)
    counts[70:74] = [120, np.nan, 130, 110]
    (alarm,) = expect_values(make_frame(counts), kind="count").episodes.to_dict("records")
    assert (str(alarm["first_day"])[:10], str(alarm["last_day"])[:10]) == ("2025-03-12", "2025-03-15")
    assert (alarm["side"], alarm["days_count"], alarm["worst_value"]) == ("high", 3, 130)
    assert alarm["excess_low"] < 210 < alarm["excess_high"]
    assert alarm["excess"] == pytest.approx(360 - 3 * alarm["expected"], abs=6)


def test_holidays_wait_for_an_earlier_year() -> None:
    counts = np.random.default_rng(6).poisson(200, 500)
    fairs = [Holiday(name="fair", start=dt.date(y, 3, 3), end=dt.date(y, 3, 9)) for y in (2025, 2026)]
    first, second = (slice(a, a + 7) for a in (61, 426))
    counts[first], counts[second] = counts[first] * 3, counts[second] * 3
    result = watch_counts(counts, holidays=fairs)
    assert set(result.daily["status"].iloc[first]) == {"holiday"}
    assert set(result.daily["status"].iloc[second]) == {"judged"}
    assert set(result.daily["holiday"].iloc[second]) == {"fair"}
    assert result.daily["expected"].iloc[second].between(500, 700).all()
    assert result.episodes.empty
    counts[428] = 100
    assert watch_counts(counts, holidays=fairs).episodes["side"].tolist() == ["low"]
    assert len(watch_counts(counts).episodes) >= 2


@pytest.mark.parametrize(("side", "sides"), [("low", ["low"]), ("high", ["high"]), ("both", ["low", "high"])])
def test_sides(side: Any, sides: list[str]) -> None:
    counts = np.random.default_rng(0).poisson(100, 90)
    counts[60], counts[80] = 20, 250
    assert watch_counts(counts, side=side).episodes["side"].tolist() == sides


def test_findings_are_plain() -> None:
    counts = np.random.default_rng(0).poisson(100, 90)
    counts[80] = 250
    whole, alarm = watch_counts(counts).findings()
    assert (whole["name"], whole["judged_count"], whole["episodes_count"]) == ("expected_range", 62, 1)
    assert (alarm["name"], alarm["first_day"]) == ("unusual_episode", "2025-03-22")
    json.dumps([whole, alarm])


# Edges


@pytest.mark.parametrize("kind", ["count", "rate", "mean"])
@pytest.mark.parametrize("tops", [[], [5], [0] * 60, [7] * 60, [np.nan] * 60, [0] * 40 + [1] + [0] * 19, [1] * 29])
def test_little_or_dull_data_raise_nothing(kind: Any, tops: list[float]) -> None:
    result = expect_values(make_frame(tops, 10.0), kind=kind)
    assert result.episodes.empty and len(result.daily) == len(tops)
    assert (result.daily["status"].iloc[:28] != "judged").all()
    result.findings()


@pytest.mark.parametrize("kind", ["count", "mean", "rate"])
@pytest.mark.parametrize("closed", [(), (6,), (5, 6)])
@pytest.mark.parametrize("silent", [(), (0,), (1, 2)])
def test_nothing_at_all_warns_of_nothing(kind: Any, closed: tuple[int, ...], silent: tuple[int, ...]) -> None:
    weekday = np.arange(140) % 7
    frame = make_frame(np.zeros(140)).assign(denominator=50.0 if kind == "rate" else 1.0)
    busy = np.where(np.isin(weekday, closed), 0.0, 1.0)
    # Weekdays without data from the middle on.
    lost = np.isin(weekday, silent) & (np.arange(140) >= 70)
    frame["status"] = np.where(lost, "no data", "known")
    frame.loc[lost, ["value", "numerator", "denominator"]] = np.nan
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = expect_values(frame, kind=kind)
        early = expect_values(frame, kind=kind, warm_up=4)
        expect_values(frame.assign(value=30 * busy, numerator=30 * busy), kind="count")
    for daily in (result.daily, early.daily):
        judged = daily[daily["status"] == "judged"]
        assert len(judged)
        assert (judged[["expected", "low"]] <= 1e-6).all(axis=None)
    assert result.episodes.empty


@pytest.mark.parametrize("kind", ["count", "rate"])
def test_limits_of_many_periods_are_those_of_each(kind: Any) -> None:
    generator = np.random.default_rng(5)
    mean = generator.uniform(0.001, 0.999, 300) if kind == "rate" else 10 ** generator.uniform(-3, 4, 300)
    spread = np.where(generator.random(300) < 0.3, 1.0, 1 + 10 ** generator.uniform(-8, 1, 300))
    size = generator.uniform(0.5, 3000, 300)
    low, high = find_all_limits(kind, mean, spread, size, 0.003)
    for i in range(300):
        m, v, n = float(mean[i]), float(spread[i]), float(size[i])
        assert (low[i], high[i]) == find_limits(kind, m, v, n, 0.003)
        assert low[i] == 0 or find_tails(kind, low[i] - 1, m, v, n)[0] <= 0.003
        assert high[i] >= np.floor(n) if kind == "rate" and high[i] + 1 > n else find_tails(
            kind, high[i] + 1, m, v, n
        )[1] <= 0.003  # fmt: skip


def test_an_answer_that_is_kept_cannot_be_spoilt() -> None:
    frame = make_frame(np.tile([20.0, 22, 19, 21, 18, 20], 15))
    first = expect_values(frame, kind="count")
    kept = first.daily.copy()
    first.daily["expected"] = -1.0
    pd.testing.assert_frame_equal(expect_values(frame, kind="count").daily, kept)
    other = frame.assign(value=frame["value"] + 1, numerator=frame["numerator"] + 1)
    assert (expect_values(other, kind="count").daily["value"] == kept["value"] + 1).all()


def test_weeks_and_months() -> None:
    rng = np.random.default_rng(8)
    weeks = rng.poisson(300, 80)
    weeks[60] = 150
    result = expect_values(make_frame(weeks, freq="W-MON"), kind="count", grain="week")
    assert result.warm_up == 10 and result.episodes["worst_value"].tolist() == [150]
    months = rng.poisson(3000, 20)
    months[15] = 2000
    result = expect_values(make_frame(months, freq="MS"), kind="count", grain="month", false_alarms_per_year=0.1)
    assert result.episodes["worst_value"].tolist() == [2000]


def test_scores_may_be_below_zero() -> None:
    scores = np.random.default_rng(9).normal(2, 10, 200)
    scores[150] = -90
    result = expect_values(make_frame(scores), kind="mean")
    assert result.episodes["worst_day"].astype(str).tolist() == ["2025-05-31"]
    assert result.daily["low"].iloc[60:].lt(0).all()


def test_mistakes_are_named() -> None:
    frame = make_frame([5] * 40)
    with pytest.raises(InputError, match="false_alarms_per_year = 500 is not possible"):
        expect_values(frame, kind="count", false_alarms_per_year=500)
    with pytest.raises(InputError, match="warm_up = 2 is too short"):
        expect_values(frame, kind="count", warm_up=2)
    with pytest.raises(InputError, match="runs from 2025-01-01 to 2025-02-09"):
        expect_values(frame, kind="count").range_on(dt.date(2024, 1, 1))


# Real data


@pytest.mark.shared
def test_complaints_of_june_2015(shared: Path) -> None:
    facts = json.loads((shared / "real/comcast_complaints/facts.json").read_text("utf-8"))
    result = expect_values(make_frame(facts["corrected"]["daily"], start="2015-04-01"), kind="count")
    (alarm,) = result.episodes.to_dict("records")
    assert (str(alarm["first_day"].date()), str(alarm["last_day"].date())) == ("2015-06-23", "2015-06-25")
    assert alarm["worst_value"] == 218
    assert 380 < alarm["excess"] < 450  # of the 506 of these days
    assert alarm["peak_score"] > 5


@pytest.mark.shared
def test_swapped_days_hide_the_complaints_of_june_among_false_alarms(shared: Path) -> None:
    file = shared / "real/comcast_complaints/Comcast_telecom_complaints_data.csv"
    days = pd.to_datetime(pd.read_csv(file, encoding="utf-8-sig")["Date"], format="%d-%m-%y")
    counts = days.value_counts().asfreq("D", fill_value=0)
    frame = make_frame(counts, start=str(counts.index[0].date()))
    first_days = expect_values(frame, kind="count").episodes["first_day"]
    assert (first_days < "2015-05-01").sum() >= 3
    assert not (first_days == "2015-06-23").any()

"""The state model and its forecast: known chains, no look ahead, coverage on real data and the sample company."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from functools import cache
from pathlib import Path

import ibis
import numpy as np
import pandas as pd
import pytest

from opslib.data.periods import DAY, Period
from opslib.data.source import open_data
from opslib.measure.forecast import backtest_forecast, forecast_activity, measure_sensitivity
from opslib.measure.model import fit_model, project_users, trace_cohort
from opslib.measure.states import StateRatesResult, measure_state_rates
from tests.conftest import ROOT
from tests.measure.streams import START, to_table
from tests.measure.test_states import read_collegemsg

Chance = Callable[[np.ndarray, int], np.ndarray]


def make_days(cohorts: dict[int, int], days: int, chance: Chance, seed: int = 1) -> set[tuple[int, dt.date]]:
    """Users who come on given days and are active later with `chance(age, day of the data)`."""
    generator = np.random.default_rng(seed)
    found, first = set(), 0
    for start, users in cohorts.items():
        ages = np.arange(days - start)
        active = generator.random((users, days - start)) < chance(ages, start)[None]
        active[:, 0] = True
        found |= {(first + int(u), START + (start + int(a)) * DAY) for u, a in np.argwhere(active)}
        first += users
    return found


def to_rates(days: set[tuple[int, dt.date]], number: int) -> StateRatesResult:
    return measure_state_rates(to_table(days), Period(START, START + number * DAY, "all"))


@cache
def steady_company() -> StateRatesResult:
    """Twenty new users a day, back with a chance that falls with age, rarely on Sundays."""

    return to_rates(make_days(dict.fromkeys(range(119), 20), 119, chance_of_return), 119)


def chance_of_return(ages: np.ndarray, start: int, day: int | None = None) -> np.ndarray:
    """By age; `day` is one day for all ages, else the days on which those who started on `start` have these ages."""
    days = start + ages if day is None else np.full_like(ages, day)
    sunday = np.array([(START + int(n) * DAY).weekday() == 6 for n in days])
    return (0.05 + 0.4 / (1 + ages)) * np.where(sunday, 0.4, 1)


def test_the_cohort_of_the_model_is_that_of_the_data() -> None:
    """Rates by age and state give back the share active on each day of the first month, whoever came back when."""
    days = make_days(dict.fromkeys(range(45), 60), 80, lambda ages, _: 0.02 + 0.5 / (1 + ages))
    model = fit_model(to_rates(days, 80).flows.moved, START + 79 * DAY)
    curve = trace_cohort(model.returns[None], model.losses, 29)[0]
    first = {u: min(d for v, d in group) for u, group in group_by_user(days).items()}
    active = pd.Series([(d - first[u]).days for u, d in days]).value_counts()
    for n in range(1, 30):
        assert curve[n - 1] == pytest.approx(active[n] / len(first), abs=0.004)


def group_by_user(days: set[tuple[int, dt.date]]) -> dict[int, list[tuple[int, dt.date]]]:
    groups: dict[int, list[tuple[int, dt.date]]] = {}
    for user, day in days:
        groups.setdefault(user, []).append((user, day))
    return groups


def test_nobody_is_lost_on_the_way() -> None:
    model = fit_model(steady_company().flows.moved, START + 118 * DAY)
    arrivals = np.full((1, 40), 7.0)
    everybody = np.ones_like(model.returns)[None]
    futures = project_users(model, 40, returns=everybody, arrivals=arrivals)
    assert futures.dau[0] == pytest.approx(model.stock.sum() + 7 * np.arange(1, 41))
    nobody = project_users(model, 40, returns=np.zeros_like(everybody), arrivals=arrivals)
    assert nobody.dau[0] == pytest.approx(7)
    # The last who were active drop out of the 30 days; then only the new of 30 days are left (losses are a rate).
    assert nobody.mau[0, 0] < model.stock.sum()


def test_rates_of_users_to_come_are_theirs_alone() -> None:
    """Nobody comes: nothing changes. Seven come each day and never leave: seven more each day, until 90 days old."""
    model = fit_model(steady_company().flows.moved, START + 118 * DAY)
    gone, always = np.zeros_like(model.returns)[None], np.ones_like(model.returns)[None]
    empty, seven = np.zeros((1, 60)), np.full((1, 60), 7.0)
    assert project_users(model, 60, returns=gone, cohort_returns=always, arrivals=empty).dau.sum() == 0
    futures = project_users(model, 60, returns=gone, cohort_returns=always, arrivals=seven)
    assert futures.dau[0] == pytest.approx(7 * np.arange(1, 61))


def test_weekdays_and_level_are_found() -> None:
    """Sundays are low ahead as they were behind; a longer horizon has the same first week."""
    result = forecast_activity(steady_company(), horizon_days=14)
    frame = result.daily.set_index(result.daily["day"].dt.day_of_week)
    assert frame.loc[6, "dau_count"].mean() < 0.75 * frame.loc[2, "dau_count"].mean()
    assert frame["new_users_count"].to_numpy() == pytest.approx(20, rel=0.1)
    truth = [20 + 20 * chance_of_return(np.arange(1, t + 1), -1, t).sum() for t in range(119, 133)]
    assert frame["dau_count"].mean() == pytest.approx(np.mean(truth), rel=0.05)
    week = forecast_activity(steady_company(), horizon_days=7).daily
    assert week["high95_count"].tolist() == result.daily["high95_count"].head(7).tolist()


def test_intervals_are_ordered_and_grow() -> None:
    frame = forecast_activity(steady_company(), horizon_days=28).daily
    for low, high in (("low95", "low80"), ("low80", "dau"), ("dau", "high80"), ("high80", "high95")):
        assert (frame[f"{low}_count"] <= frame[f"{high}_count"]).all()
    width = frame["high80_count"] - frame["low80_count"]
    assert width.tail(7).mean() > width.head(7).mean()
    assert (frame["mau_count"] >= frame["mean_count"]).all()


def test_the_same_input_gives_the_same_output() -> None:
    one, two, other = (forecast_activity(steady_company(), seed=s).findings() for s in (0, 0, 1))
    assert one == two
    assert one != other
    backtests = [backtest_forecast(steady_company(), most_origins=4).findings() for _ in range(2)]
    assert backtests[0] == backtests[1]


def test_planned_new_users() -> None:
    few, many = (forecast_activity(steady_company(), horizon_days=7, new_users=[n] * 7).daily for n in (5, 50))
    assert (many["dau_count"] - few["dau_count"] > 40).all()
    with pytest.raises(ValueError, match="given for 3 days"):
        forecast_activity(steady_company(), horizon_days=7, new_users=[1, 2, 3])


def test_the_backtest_does_not_look_ahead() -> None:
    """Forecasts of earlier origins, intervals included, stay what they are when two more weeks become known."""
    days = make_days(dict.fromkeys(range(84), 15), 84, lambda ages, _: 0.1 + 0.3 / (1 + ages))
    # The last two weeks are unlike all before.
    days |= {(10_000 + u, START + n * DAY) for u in range(500) for n in range(70, 84)}
    early = backtest_forecast(
        measure_state_rates(to_table(days), Period(START, START + 84 * DAY, ""), as_of=START + 69 * DAY)
    )
    later = backtest_forecast(to_rates(days, 84))
    columns = ["origin", "day", "dau_count", "low80_count", "high80_count", "low95_count", "high95_count"]
    known = early.days[columns].merge(later.days[columns], on=["origin", "day"], suffixes=("", "_later"))
    assert len(known) == len(early.days)
    for name in columns[2:]:
        assert known[name].tolist() == known[f"{name}_later"].tolist()
    assert max(later.factors) > max(early.factors) >= 1


def test_naive_forecasts_by_hand() -> None:
    rates = steady_company()
    rows = backtest_forecast(rates, most_origins=2).days
    dau = rates.daily.set_index("day")["dau_count"]
    for row in rows.to_dict("records"):
        origin = row["origin"]
        assert row["actual_count"] == dau[row["day"]]
        assert row["last_value_count"] == dau[origin]
        weeks = -(-row["horizon_days"] // 7)
        assert row["seasonal_count"] == dau[row["day"] - pd.Timedelta(days=7 * weeks)]


def test_summary_is_that_of_the_days() -> None:
    result = backtest_forecast(steady_company())
    row = result.summary.iloc[-1]
    actual, error = result.days["actual_count"], (result.days["actual_count"] - result.days["dau_count"]).abs()
    assert row["horizon"] == "1-28"
    assert row["wape_rate"] == pytest.approx(error.sum() / actual.sum())
    assert row["mae_count"] == pytest.approx(error.mean())
    inside = actual.between(result.days["low80_count"], result.days["high80_count"])
    assert row["coverage80_rate"] == pytest.approx(inside.mean())
    # A steady company is foreseen better than by repeating its last day, Sundays and all.
    assert row["wape_rate"] < 0.8 * row["last_value_wape_rate"]


@pytest.mark.parametrize(
    "days",
    [
        {(1, START)},
        {(u, START) for u in range(50)},
        {(u, START + n * DAY) for u in range(5) for n in range(20)},
    ],
)
def test_too_few_days_give_a_sentence(days: set[tuple[int, dt.date]]) -> None:
    rates = to_rates(days, 20)
    result, tested = forecast_activity(rates), backtest_forecast(rates)
    assert result.daily.empty
    assert "not enough data" in result.note
    assert "not enough data" in tested.note
    assert (result.findings(), tested.findings()) == ([], [])
    assert measure_sensitivity(rates).empty


@pytest.mark.parametrize(
    "days",
    [
        {(1, START + n * DAY) for n in range(40)},
        {(1, START), (2, START + 150 * DAY)},
        {(u, START + (u % 3 + 100 * (u % 2)) * DAY) for u in range(60)},
        {(u, START + 60 * DAY) for u in range(30)},
    ],
    ids=["one user", "a gap of months", "two bursts", "all new on one day"],
)
def test_odd_data_give_an_answer(days: set[tuple[int, dt.date]]) -> None:
    last = max(d for _, d in days)
    rates = to_rates(days, (last - START).days + 1)
    tested = backtest_forecast(rates)
    frame = forecast_activity(rates, backtest=tested).daily
    assert len(frame) == 28
    assert np.isfinite(frame.drop(columns="day").to_numpy(dtype=float)).all()
    assert not measure_sensitivity(rates).empty


def test_sensitivity_by_brute_force() -> None:
    """The gain of a point is that of a model with every such chance raised by a point."""
    rates = steady_company()
    frame = measure_sensitivity(rates, horizons=(28,)).set_index("rate")
    model = fit_model(rates.flows.moved, rates.as_of)
    base = project_users(model, 28).dau[0, -1]
    assert frame["dau_count"].tolist() == pytest.approx([base] * len(frame))
    for name, state in (("curr_rate", 1), ("iwaurr_rate", 4), ("reactivation_rate", 5)):
        returns = model.returns.copy()
        returns[:, state] += 0.01
        gain = project_users(model, 28, returns=returns[None]).dau[0, -1] - base
        assert frame.loc[name, "per_point_count"] == pytest.approx(gain, rel=0.05)
    assert (frame["per_tenth_count"] > 0).all()
    assert frame["per_point_count"].dropna().is_monotonic_decreasing


def check_coverage(rates: StateRatesResult, *, better_than_naive: bool) -> None:
    """The 80% interval holds 70 to 90 of 100 days, also with other origins and other random numbers."""
    tested = backtest_forecast(rates)
    others = backtest_forecast(rates, step_days=10, seed=3)
    for row in (tested.summary.iloc[-1], others.summary.iloc[-1]):
        assert 0.70 <= row["coverage80_rate"] <= 0.90
        assert row["coverage95_rate"] > row["coverage80_rate"]
    first, whole = tested.summary.iloc[0], tested.summary.iloc[-1]
    assert first["wape_rate"] < min(first["last_value_wape_rate"], first["seasonal_wape_rate"])
    if better_than_naive:
        assert whole["wape_rate"] < min(whole["last_value_wape_rate"], whole["seasonal_wape_rate"])


def test_coverage_on_the_sample_company() -> None:
    data = open_data(ROOT / "playbook.toml")
    check_coverage(measure_state_rates(data.active_days, data.span), better_than_naive=True)


@pytest.mark.shared
def test_coverage_on_a_community_that_collapses(shared: Path) -> None:
    days: ibis.Table = read_collegemsg(shared)
    rates = measure_state_rates(days, Period(dt.date(2004, 4, 15), dt.date(2004, 10, 27), "all"))
    check_coverage(rates, better_than_naive=False)

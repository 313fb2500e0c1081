"""What-if levers: each does what it says in the model's own cohort, by hand where it can be; the sample company."""

from __future__ import annotations

import datetime as dt

import ibis
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opslib.data.periods import DAY, Calendar, Period
from opslib.data.source import open_data
from opslib.measure.acquisition import measure_acquisition
from opslib.measure.economics import Economics, measure_economics
from opslib.measure.estimate import Estimate
from opslib.measure.levers import LEVERS, LeversResult, simulate_levers
from opslib.measure.states import measure_state_rates
from tests.conftest import ROOT
from tests.measure.streams import START, to_table
from tests.measure.test_forecast import steady_company, to_rates


def to_known(value: float, unit: str = "amount") -> Estimate:
    """A value without doubt."""
    return Estimate("known", value, value, 1, value, value, "known", unit)  # type: ignore[arg-type]


MONEY = Economics(to_known(2.0), to_known(50.0), 100.0, to_known(0.2, "rate"), 5, 10.0)


def read(result: LeversResult, lever: str, metric: str, months: int = 1, column: str = "difference") -> float:
    rows = result.table.set_index(["lever", "metric", "months_count"])
    return float(rows.loc[(lever, metric, months), column])


def test_the_cohort_has_the_retention_asked_for() -> None:
    for levers in ({"d1_rate": 0.5}, {"d7_rate": 0.4}, {"d7_rate": 0.01}, {"d1_rate": 0.1, "d7_rate": 0.6}):
        result = simulate_levers(steady_company(), levers, months=(1,), draws=20)
        frame = result.levers.set_index("lever")
        for name in ("d1_rate", "d7_rate"):
            if name in levers:
                assert frame.loc[name, name] == pytest.approx(levers[name], abs=1e-5)
                assert frame.loc[name, "now_value"] == pytest.approx(frame.loc["base", name])
        if len(levers) == 2:
            assert frame.loc["all", ["d1_rate", "d7_rate"]].tolist() == pytest.approx([0.1, 0.6], abs=1e-5)
    assert simulate_levers(steady_company(), {"d7_rate": 0.4}, months=(1,)).levers.loc[1, "d1_rate"] == pytest.approx(
        frame.loc["base", "d1_rate"], abs=0.01
    )


def test_rates_have_the_value_asked_for() -> None:
    """A rate set to what it is changes nothing; above it brings users, below it loses them."""
    rates = steady_company()
    now = simulate_levers(rates, {"curr_rate": 0.3}, months=(1,), draws=2).levers.loc[1, "now_value"]
    assert now == pytest.approx(rates.rates["curr_rate"].value, abs=0.03)
    gains = [
        read(simulate_levers(rates, {"curr_rate": value}, months=(1,)), "curr_rate", "dau_count")
        for value in (0.8 * now, now, 1.2 * now)
    ]
    assert gains[0] < -1 < gains[1] < 1 < gains[2]


def test_the_same_budget_buys_more_users() -> None:
    """100 a day at 50 are 2 users a day, at 25 are 4: two more on each of 30, 91 and 183 days, at no more cost."""
    result = simulate_levers(steady_company(), {"cac_amount": 25}, economics=MONEY)
    for months, days in ((1, 30), (3, 91), (6, 183)):
        assert read(result, "cac_amount", "new_users_count", months) == pytest.approx(2 * days)
        assert read(result, "cac_amount", "cost_amount", months) == 0
        assert read(result, "base", "cost_amount", months, "value") == pytest.approx(100 * days)
    assert read(result, "cac_amount", "dau_count", 6) > 2


def test_users_who_bring_users() -> None:
    """K from 0.2 to 0.7, 5 days a cycle: at first nobody more, then half a user more for each who came, and theirs."""
    result = simulate_levers(steady_company(), {"k_factor": 0.7}, economics=MONEY, months=(1,), draws=2)
    base = read(result, "base", "new_users_count", 1, "value") / 30
    extra = [0.0] * 30
    for day in range(5, 30):
        extra[day] = 0.7 * (base + extra[day - 5]) - 0.2 * base
    assert read(result, "k_factor", "new_users_count") == pytest.approx(sum(extra), rel=0.02)
    brought = read(result, "k_factor", "new_users_count")
    assert read(result, "k_factor", "cost_amount") == pytest.approx(10 * brought)
    same = simulate_levers(steady_company(), {"k_factor": 0.2}, economics=MONEY, months=(1,))
    assert read(same, "k_factor", "new_users_count") == pytest.approx(0, abs=1e-6)
    endless = simulate_levers(steady_company(), {"k_factor": 1.0}, economics=MONEY, months=(1,))
    assert "without end" in endless.notes["k_factor"]


def test_differences_add_up_and_carry_intervals() -> None:
    levers = {"d1_rate": 0.5, "d7_rate": 0.3, "reactivation_rate": 0.2, "cac_amount": 20, "k_factor": 0.4}
    result = simulate_levers(steady_company(), levers, economics=MONEY)
    table = result.table
    base = table[table["lever"] == "base"].set_index(["metric", "months_count"])["value"]
    for _, rows in table.groupby("lever"):
        rows = rows.set_index(["metric", "months_count"])
        assert (rows["value"] - base).to_numpy() == pytest.approx(rows["difference"].to_numpy(), abs=1e-6)
        assert (rows["low"] <= rows["value"]).all()
        assert (rows["difference_low"] <= rows["difference_high"]).all()
    assert table["lever"].unique().tolist() == ["base", *(n for n in LEVERS if n in levers), "all"]
    single = table[table["lever"].isin(levers) & (table["metric"] == "dau_count")]
    assert (single["difference"] > 0).all()
    early, late = (read(result, "d7_rate", "dau_count", months, "value") for months in (1, 6))
    assert 2 * 183 * early < read(result, "d7_rate", "revenue_amount", 6, "value") < 2 * 183 * late
    # A gain in early retention may last or fade: wider, relative to what it is, than buying two more users a day.
    spread = table.assign(spread=(table["difference_high"] - table["difference_low"]) / table["difference"])
    spread = spread.set_index(["lever", "metric", "months_count"])["spread"]
    assert spread["d7_rate", "dau_count", 6] > spread["cac_amount", "dau_count", 6]
    # All of it lasts, or none does: the ends of the interval lie far apart.
    low, high = (read(result, "d1_rate", "dau_count", 6, f"difference_{end}") for end in ("low", "high"))
    assert 0 < low < 0.3 * high
    assert len(result.findings()) == len(table)


def test_the_same_input_gives_the_same_output() -> None:
    runs = [simulate_levers(steady_company(), {"d1_rate": 0.5}, economics=MONEY, seed=s).findings() for s in (0, 0, 1)]
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]


def test_what_the_data_do_not_tell_is_missing() -> None:
    result = simulate_levers(steady_company(), {"cac_amount": 80, "k_factor": 0.3, "d1_rate": 0.5}, months=(1,))
    assert set(result.notes) == {"cac_amount", "k_factor"}
    assert result.table["lever"].unique().tolist() == ["base", "d1_rate"]
    money = result.table[result.table["metric"].isin(["revenue_amount", "cost_amount"])]
    assert money["value"].isna().all()
    short = simulate_levers(to_rates({(1, START)}, 1), {"d1_rate": 0.5})
    assert short.table.empty
    assert "not enough data" in short.notes["base"]


def test_a_state_that_nobody_was_in() -> None:
    days = {(u, START + (u % 5 + n) * DAY) for u in range(60) for n in range(40)}
    result = simulate_levers(to_rates(days, 40), {"resurrection_rate": 0.1}, months=(1,), draws=4)
    assert "nobody was in the state dormant" in result.notes["resurrection_rate"]
    assert result.table["lever"].unique().tolist() == ["base"]


@pytest.mark.parametrize(
    "levers",
    [
        {"d1_rate": 1.2},
        {"d7_rate": 0},
        {"cac_amount": 0},
        {"k_factor": -1},
        {"d3_rate": 0.2},
        {"k_factor": float("nan")},
    ],
)
def test_impossible_levers_are_refused(levers: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"cannot be|there is no lever"):
        simulate_levers(steady_company(), levers)


orders_strategy = st.lists(
    st.tuples(st.integers(0, 39), st.integers(-3, 34), st.floats(1, 500)), min_size=1, max_size=40
)


@settings(max_examples=15)
@given(orders_strategy)
def test_revenue_per_active_day_by_brute_force(rows: list[tuple[int, int, float]]) -> None:
    first = dt.date(2026, 1, 1)
    january = Period(first, first + 31 * DAY, "January")
    days = {(u, first + n * DAY) for u in range(40) for n in range(-2, 2 + u % 9)}
    orders = ibis.memtable(
        {
            "user_id": [u for u, _, _ in rows],
            "ts": [dt.datetime(2026, 1, 1, 3) + n * DAY for _, n, _ in rows],
            "amount": [a for _, _, a in rows],
        },
        schema={"user_id": "int64", "ts": "timestamp(6)", "amount": "float64"},
    )
    estimate = measure_economics(to_table(days), january, calendar=Calendar("Asia/Shanghai"), orders=orders)
    revenue = estimate.revenue_per_active_day
    assert revenue is not None
    active = [d for _, d in days if january.start <= d < january.end]
    paid = sum(a for _, n, a in rows if 0 <= n < 31)
    assert revenue.value == pytest.approx(paid / len(active))
    assert revenue.low <= revenue.value <= revenue.high


def test_levers_of_the_sample_company() -> None:
    """Handbook: D1 to 35%, D7 to 25%, CAC down by a half. All bring users; the base is the forecast's own."""
    data = open_data(ROOT / "playbook.toml")
    rates = measure_state_rates(data.active_days, data.span)
    quarter = Period(dt.date(2026, 4, 1), dt.date(2026, 7, 1), "2026Q2")
    cac = measure_acquisition(
        data.active_days, quarter, as_of=data.as_of, channels=data.table("users"), spend=data.table("spend")
    ).cac
    assert cac is not None and cac.value is not None
    money = measure_economics(data.active_days, quarter, calendar=data.calendar, orders=data.table("orders"), cac=cac)
    assert money.spend_per_day == pytest.approx(cac.numerator / 91)
    levers = {"d1_rate": 0.35, "d7_rate": 0.25, "cac_amount": cac.value / 2}
    result = simulate_levers(rates, levers, economics=money, draws=100)
    frame = result.levers.set_index("lever")
    # The base case's cohort is the cohort of the data (84 days to the end).
    assert frame.loc["base", "d1_rate"] == pytest.approx(0.307, abs=0.005)
    assert frame.loc["base", "d7_rate"] == pytest.approx(0.226, abs=0.005)
    for lever in (*levers, "all"):
        assert read(result, lever, "dau_count", 6, "difference_low") > 0
        assert read(result, lever, "revenue_amount", 6) > read(result, lever, "revenue_amount", 1) > 0
    table = result.table.set_index(["lever", "metric", "months_count"])
    assert isinstance(table, pd.DataFrame)
    assert table.loc[("base", "dau_count", 1), "value"] == pytest.approx(
        rates.daily["dau_count"].tail(28).mean(), rel=0.1
    )

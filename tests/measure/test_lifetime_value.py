"""Observed lifetime value and pay-back: by hand, against brute force, published examples and real purchases."""

from __future__ import annotations

import datetime as dt
import json
import math
from pathlib import Path

import ibis
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opslib.data.periods import DAY, Calendar
from opslib.data.source import open_data
from opslib.measure.acquisition import OTHER
from opslib.measure.channels import measure_channels
from opslib.measure.estimate import Estimate, compare_estimates
from opslib.measure.lifetime_value import compare_value_to_cost, divide_estimates, measure_lifetime_value
from opslib.measure.retention import find_first_days
from tests.conftest import ROOT

UTC = Calendar()
NEW_YORK = Calendar("America/New_York")
FIRST = dt.date(2026, 1, 1)
Row = tuple[int, dt.datetime, float, float | None]


def order_table(rows: list[Row], *, cost: bool = True) -> ibis.Table:
    kinds = {"user_id": pa.int64(), "ts": pa.timestamp("us"), "amount": pa.float64(), "cost": pa.float64()}
    columns = {name: pa.array([r[i] for r in rows], kind) for i, (name, kind) in enumerate(kinds.items())}
    return ibis.memtable(pa.table(columns if cost else {k: v for k, v in columns.items() if k != "cost"}))


def first_table(days: dict[int, dt.date]) -> ibis.Table:
    users, firsts = pa.array(list(days), pa.int64()), pa.array(list(days.values()), pa.date32())
    return ibis.memtable(pa.table({"user_id": users, "first_day": firsts}))


def at(day: dt.date, hour: int = 12) -> dt.datetime:
    return dt.datetime.combine(day, dt.time(hour))


def amount(value: float, low: float, high: float) -> Estimate:
    return Estimate("amount", value, 0, 0, low, high, "given", "amount")


def test_by_hand() -> None:
    """40 users; 20 leave 6 each on day 30 of their life (margin), 10 of them 4 more on day 31: 3, then 4 a user."""
    rows: list[Row] = [(u, at(FIRST + 29 * DAY), 10.0, 4.0) for u in range(20)]
    rows += [(u, at(FIRST + 30 * DAY), 4.0, None) for u in range(10)]
    rows += [(0, at(FIRST - DAY), 99.0, 0.0), (77, at(FIRST), 99.0, 0.0)]
    first = first_table(dict.fromkeys(range(40), FIRST))
    result = measure_lifetime_value(order_table(rows), first, as_of=FIRST + 89 * DAY, calendar=UTC)
    assert [result.ages[a].value for a in (30, 90, 180)] == [3, 4, None]
    assert result.ages[30].low == pytest.approx(3 - 1.96 * math.sqrt(20 * 9 * 2 / 39 / 40), abs=1e-4)
    assert (result.basis, result.early_orders_count, result.missing_cost_count) == ("margin", 1, 10)
    assert result.by_month[["month_count", "value_amount"]].values.tolist() == [[1, 3], [2, 4], [3, 4]]
    assert result.by_age["immature_count"].tolist() == [0, 0, 40]
    assert result.by_age["buyers_count"].tolist() == [20, 20, 0]
    revenue = measure_lifetime_value(order_table(rows, cost=False), first, as_of=FIRST + 89 * DAY, calendar=UTC)
    assert (revenue.basis, revenue.ages[30].value, revenue.missing_cost_count) == ("revenue", 5, 0)


def test_an_age_holds_only_those_who_have_lived_it() -> None:
    first = first_table(dict.fromkeys(range(30), FIRST) | dict.fromkeys(range(30, 60), FIRST + DAY))
    rows: list[Row] = [(u, at(FIRST + 5 * DAY), 10.0 if u < 30 else 70.0, 0.0) for u in range(60)]
    result = measure_lifetime_value(order_table(rows), first, as_of=FIRST + 29 * DAY, calendar=UTC)
    assert (result.ages[30].value, result.ages[30].denominator) == (10, 30)
    assert result.by_age["immature_count"][0] == 30


def test_local_days_across_a_clock_change() -> None:
    """In New York clocks go forward on 8 March 2026: 04:30 UTC is the day before until then, the same day after."""
    first = first_table(dict.fromkeys(range(40), dt.date(2026, 3, 1)))
    rows: list[Row] = [(u, dt.datetime(2026, 3, d, 4, 30), 5.0, 0.0) for u in range(40) for d in (6, 11)]
    options = {"ages_days": (4, 5, 10, 11), "as_of": dt.date(2026, 4, 1)}
    local = measure_lifetime_value(order_table(rows), first, calendar=NEW_YORK, **options).ages
    assert [local[age].numerator for age in (4, 5, 10, 11)] == [0, 200, 200, 400]
    utc = measure_lifetime_value(order_table(rows), first, calendar=UTC, **options).ages
    assert [utc[age].numerator for age in (4, 5, 10, 11)] == [0, 0, 200, 400]


def test_few_buyers_and_a_heavy_tail_are_said() -> None:
    first = first_table(dict.fromkeys(range(100), FIRST))
    few = measure_lifetime_value(
        order_table([(u, at(FIRST), 5.0, 0.0) for u in range(9)]), first, as_of=FIRST + 40 * DAY, calendar=UTC
    )
    assert (few.ages[30].value, few.ages[30].numerator) == (None, 45)
    assert few.ages[30].note.startswith("not enough data: 9 buyers among 100 users")
    rows: list[Row] = [(u, at(FIRST), 1000.0 if u == 0 else 1.0, 0.0) for u in range(50)]
    heavy = measure_lifetime_value(order_table(rows), first, as_of=FIRST + 40 * DAY, calendar=UTC)
    assert "one user brought 95% of it" in heavy.ages[30].note
    assert heavy.by_age["largest_rate"][0] == pytest.approx(1000 / 1049)


def test_nothing_to_see() -> None:
    """No order, no user, one user: no value and no traceback."""
    nobody = first_table({})
    for first, orders in ((nobody, []), (nobody, [(1, at(FIRST), 5.0, 1.0)]), (first_table({1: FIRST}), [])):
        result = measure_lifetime_value(order_table(orders), first, as_of=FIRST + 400 * DAY, calendar=UTC)
        assert not any(e.known for e in result.ages.values())
        assert result.findings()
        assert compare_value_to_cost(result, {"(all)": amount(5, 4, 6)}).ratios.keys() <= {"(all)"}


def test_ten_thousand_groups() -> None:
    users = range(20_000)
    first, groups = first_table(dict.fromkeys(users, FIRST)), [f"g{u % 10_000}" for u in users]
    breakdown = ibis.memtable({"user_id": users, "group": groups})
    rows: list[Row] = [(u, at(FIRST), 3.0 if u else 30.0, 1.0) for u in users]
    result = measure_lifetime_value(
        order_table(rows), first, as_of=FIRST + 100 * DAY, breakdown=breakdown, calendar=UTC, ages_days=(30,)
    )
    assert len(result.by_age) == 21
    assert result.by_age["total_amount"].sum() == 20_000 * 2 + 27
    assert result.by_age["group"].iloc[-1] == OTHER
    assert result.by_age["largest_rate"].max() <= 1


days_offset = st.integers(0, 100)
orders_strategy = st.lists(
    st.tuples(
        st.integers(1, 40),
        st.datetimes(dt.datetime(2025, 12, 20), dt.datetime(2026, 8, 1)),
        st.floats(-50, 900).map(lambda x: round(x, 2)),
        st.none() | st.floats(0, 100).map(lambda x: round(x, 2)),
    ),
    max_size=60,
)


@settings(max_examples=20)
@given(orders_strategy, st.lists(days_offset, min_size=30, max_size=30), st.integers(20, 220))
def test_equals_brute_force(rows: list[Row], offsets: list[int], known: int) -> None:
    as_of = FIRST + known * DAY
    first = {u: FIRST + n * DAY for u, n in enumerate(offsets, start=1)}
    groups = {u: "ab"[u % 2] for u in first}
    breakdown = ibis.memtable({"user_id": list(groups), "group": list(groups.values())})
    result = measure_lifetime_value(
        order_table(rows),
        first_table(first),
        as_of=as_of,
        breakdown=breakdown,
        calendar=NEW_YORK,
        ages_days=(1, 30, 77),
    )
    table = result.by_age.set_index(["group", "age_days"])
    alive = {u: f for u, f in first.items() if f <= as_of}
    for g in {groups[u] for u in alive}:
        for age in (1, 30, 77):
            mature = [u for u in alive if groups[u] == g and alive[u] + (age - 1) * DAY <= as_of]
            sums = dict.fromkeys(mature, 0.0)
            buyers = set()
            for u, ts, paid, cost in rows:
                if u in sums and 0 <= (NEW_YORK.day_of(ts) - first[u]).days < age:
                    sums[u] += paid - (cost or 0)
                    buyers.add(u)
            row = table.loc[(g, age)]
            assert row["users_count"] == len(mature)
            assert row["immature_count"] == sum(groups[u] == g for u in alive) - len(mature)
            assert row["buyers_count"] == len(buyers)
            assert row["total_amount"] == pytest.approx(sum(sums.values()), abs=1e-6)
            assert pd.isna(row["value_amount"]) == (len(mature) < 20 or len(buyers) < 10)
    early = [u for u, ts, *_ in rows if u in alive and NEW_YORK.day_of(ts) <= as_of and NEW_YORK.day_of(ts) < first[u]]
    assert result.early_orders_count == len(early)


def make_monthly(margins: list[float], users: int = 40) -> ibis.Table:
    rows: list[Row] = [
        (u, at(FIRST + (30 * m + 10) * DAY), margin + 100, 100.0)
        for u in range(users)
        for m, margin in enumerate(margins)
    ]
    return order_table(rows)


def test_published_payback() -> None:
    """CAC 6,000 and 500 a month at 80% margin pay back in 15 months (a published calculator's example)."""
    value = measure_lifetime_value(
        make_monthly([400.0] * 20), first_table(dict.fromkeys(range(40), FIRST)), as_of=FIRST + 700 * DAY, calendar=UTC
    )
    row = compare_value_to_cost(value, {"(all)": amount(6000, 5500, 6500)}).by_group.iloc[0]
    assert row["payback_month_count"] == 15
    # The margin is the same for all, so the months are those at which the ends of CAC are reached.
    assert row[["payback_earliest_count", "payback_latest_count"]].tolist() == [14, 17]
    assert (row["status"], row["observed_month_count"]) == ("paid_back", 23)


def test_payback_not_within_the_observed_months() -> None:
    value = measure_lifetime_value(
        make_monthly([10.0] * 4), first_table(dict.fromkeys(range(40), FIRST)), as_of=FIRST + 119 * DAY, calendar=UTC
    )
    costs = {"(all)": amount(100, 90, 110), "elsewhere": amount(1, 1, 1)}
    result = compare_value_to_cost(value, costs)
    assert result.by_group["group"].tolist() == ["(all)"]
    row = result.by_group.iloc[0]
    assert (row["status"], row["observed_month_count"]) == ("not_paid_back", 4)
    assert row.filter(like="payback_").isna().all()
    assert compare_value_to_cost(value, {"(all)": amount(41, 35, 47)}).by_group["status"][0] == "may_have_paid_back"
    unknown = Estimate("cac_amount", None, 9, 1, None, None, "none", "amount", note="not enough data")
    assert compare_value_to_cost(value, {"(all)": unknown}).by_group["status"][0] == "not_enough_data"
    assert result.ratios["(all)"][90].value == pytest.approx(0.3)
    assert result.ratios["(all)"][180].value is None


@given(st.floats(-5, 50), st.floats(0.1, 20), st.floats(5, 50), st.floats(0.1, 2))
@settings(max_examples=50)
def test_ratio_is_fiellers_where_both_parts_are_normal(a: float, half_a: float, b: float, half_b: float) -> None:
    """Fieller (1954): the roots of (a - r b)^2 = z^2 (var a + r^2 var b)."""
    ratio = divide_estimates("r", amount(a, a - half_a, a + half_a), amount(b, b - half_b, b + half_b))
    roots = sorted(np.roots([b * b - half_b**2, -2 * a * b, a * a - half_a**2]).real)
    assert [ratio.low, ratio.high] == pytest.approx(roots, abs=1e-5)


part = st.floats(0.1, 4)


@given(st.tuples(st.floats(-20, 50), part, part), st.tuples(st.floats(8, 50), part, part))
@settings(max_examples=50)
def test_ratio_agrees_with_the_difference(above: tuple[float, ...], under: tuple[float, ...]) -> None:
    """At either end of the ratio's interval, 0 is an end of the interval of top - ratio x bottom (Newcombe)."""
    top, bottom = (amount(x, x - below, x + over) for x, below, over in (above, under))
    ratio = divide_estimates("r", top, bottom)
    for r, end in ((ratio.low, "low"), (ratio.high, "high")):
        limits = sorted((r * bottom.low, r * bottom.high))
        change = compare_estimates(top, amount(r * bottom.value, *limits))
        assert getattr(change, end) == pytest.approx(0, abs=1e-6)


def test_ratio_covers_the_truth() -> None:
    """Skewed margins (half of the users buy nothing) over Poisson users: about 95 of 100 intervals hold the truth."""
    rng = np.random.default_rng(11)
    covered = 0
    for _ in range(400):
        spent = rng.exponential(20, 300) * (rng.random(300) < 0.5)
        users = rng.poisson(200)
        mean, half = spent.mean(), 1.96 * spent.std(ddof=1) / math.sqrt(300)
        low, high = (1000 / (users + s * 1.96 * math.sqrt(users)) for s in (1, -1))
        ratio = divide_estimates("r", amount(mean, mean - half, mean + half), amount(1000 / users, low, high))
        covered += ratio.low <= 10 / (1000 / 200) <= ratio.high
    assert 0.92 <= covered / 400 <= 0.985


def test_divisor_that_may_be_zero() -> None:
    assert divide_estimates("r", amount(5, 4, 6), amount(1, -1, 3)).note == "the divisor cannot be told from zero"
    assert divide_estimates("r", amount(5, 4, 6), amount(0, 0, 0)).note == "nothing to divide by"


@pytest.mark.shared
def test_online_retail(shared: Path) -> None:
    """Real purchases: totals as published beside the data, and each age of each cohort as plain pandas has it."""
    facts = json.loads((shared / "real/online_retail/facts.json").read_text())
    lines = ibis.read_parquet(shared / "real/online_retail/online_retail.parquet")
    frame = lines.to_pandas()
    frame["InvoiceDate"] = pd.to_datetime(frame["InvoiceDate"])
    clean = frame[frame["CustomerID"].notna() & (frame["Quantity"] > 0) & (frame["UnitPrice"] > 0)]
    clean = clean[~clean["InvoiceNo"].astype(str).str.startswith("C")]
    clean = clean.assign(amount=clean["Quantity"] * clean["UnitPrice"], user_id=clean["CustomerID"].astype(int))
    orders = clean.groupby(["InvoiceNo", "user_id"]).agg(ts=("InvoiceDate", "min"), amount=("amount", "sum"))
    orders = orders.reset_index()[["user_id", "ts", "amount"]]
    table = ibis.memtable(orders)
    first = table.group_by("user_id").aggregate(first_day=table.ts.date().min())
    late = measure_lifetime_value(table, first, as_of=dt.date(2013, 6, 1), calendar=UTC, ages_days=(400,))
    assert late.basis == "revenue"
    assert late.ages[400].numerator == pytest.approx(facts["clean_revenue"], abs=0.01)
    assert late.ages[400].denominator == facts["clean_customers"]
    cohort = first.mutate(group=first.first_day.strftime("%Y-%m")).select("user_id", "group")
    as_of = dt.date(2011, 12, 8)
    result = measure_lifetime_value(table, first, as_of=as_of, breakdown=cohort, calendar=UTC)
    orders["day"] = orders["ts"].dt.normalize()
    orders["first"] = orders.groupby("user_id")["day"].transform("min")
    orders = orders[orders["day"] <= pd.Timestamp(as_of)]
    for row in result.by_age.to_dict("records"):
        mine = orders[orders["first"].dt.strftime("%Y-%m") == row["group"]]
        mature = mine[mine["first"] + pd.Timedelta(days=row["age_days"] - 1) <= pd.Timestamp(as_of)]
        assert row["users_count"] == mature["user_id"].nunique()
        young = (mature["day"] - mature["first"]).dt.days < row["age_days"]
        assert row["total_amount"] == pytest.approx(mature.loc[young, "amount"].sum(), abs=0.01)
    december = result.by_age[(result.by_age["group"] == "2010-12") & (result.by_age["age_days"] == 180)].iloc[0]
    assert december["users_count"] == facts["cohort_matrix_clean"]["2010-12"][0]


@pytest.mark.shared
def test_cdnow(shared: Path) -> None:
    """The 7,846 customers of January 1997: what they had spent month by month."""
    facts = json.loads((shared / "real/cdnow/facts.json").read_text())["master"]
    frame = pd.read_csv(
        shared / "real/cdnow/CDNOW_master.txt", sep=r"\s+", skiprows=1, names=["user_id", "date", "units", "amount"]
    )
    frame["ts"] = pd.to_datetime(frame["date"].astype(str))
    table = ibis.memtable(frame[["user_id", "ts", "amount"]])
    first = table.group_by("user_id").aggregate(first_day=table.ts.date().min())
    whole = measure_lifetime_value(table, first, as_of=dt.date(1999, 1, 1), calendar=UTC, ages_days=(600,))
    assert whole.ages[600].numerator == pytest.approx(facts["revenue"], abs=0.01)
    january = first.filter(first.first_day < dt.date(1997, 2, 1))
    result = measure_lifetime_value(table, january, as_of=dt.date(1998, 6, 30), calendar=UTC)
    months = result.by_month[result.by_month["immature_count"] == 0]
    assert (months["users_count"] == facts["cohort_sizes"]["1997-01"]).all()
    frame["first"] = frame.groupby("user_id")["ts"].transform("min")
    mine = frame[frame["first"] < "1997-02-01"]
    age = (mine["ts"] - mine["first"]).dt.days
    expected = [mine.loc[age < 30 * m, "amount"].sum() / 7846 for m in months["month_count"]]
    assert months["value_amount"].tolist() == pytest.approx(expected)
    assert months["value_amount"].is_monotonic_increasing


def test_sample_company() -> None:
    """Value against cost by channel, over all data: private channels pay back within three months, paid ads do not."""
    data = open_data(ROOT / "playbook.toml")
    users = data.table("users")
    channels = users.select("user_id", "channel")
    value = measure_lifetime_value(
        data.table("orders"),
        find_first_days(data.active_days),
        as_of=data.as_of,
        breakdown=users.select("user_id", group="channel"),
        calendar=data.calendar,
    )
    assert value.basis == "margin"
    assert (value.early_orders_count, value.missing_cost_count) == (0, 0)
    costs = measure_channels(
        data.active_days, data.span, as_of=data.as_of, channels=channels, spend=data.table("spend")
    ).cac_by_group()
    result = compare_value_to_cost(value, costs)
    rows = result.by_group.set_index("group")
    assert rows.loc["paid_ads", "status"] == "not_paid_back"
    assert rows.loc[["wecom", "community"], "payback_latest_count"].le(3).all()
    assert result.ratios["paid_ads"][180].high < 1 < result.ratios["wecom"][180].low
    domain = measure_lifetime_value(
        data.table("orders"),
        find_first_days(data.active_days),
        as_of=data.as_of,
        breakdown=users.select("user_id", group="domain"),
        calendar=data.calendar,
    ).by_age.set_index(["group", "age_days"])
    assert domain.loc[("private", 180), "value_low"] > domain.loc[("public", 180), "value_high"]


def test_money_in_decimals() -> None:
    orders = order_table([(u, at(FIRST), 7.5, 2.5) for u in range(20)])
    orders = orders.mutate(amount=orders.amount.cast("decimal(18, 2)"), cost=orders.cost.cast("decimal(18, 2)"))
    first = first_table(dict.fromkeys(range(40), FIRST))
    assert measure_lifetime_value(orders, first, as_of=FIRST + 40 * DAY, calendar=UTC).ages[30].value == 2.5

"""The bridge: exact to the user and the cent, as a brute-force average over all orders has it, and as formulas say."""

from __future__ import annotations

import datetime as dt
from itertools import permutations
from pathlib import Path

import ibis
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opslib.data.periods import Calendar, Period, Quarter
from opslib.data.source import open_data
from opslib.measure.bridge.bridge import COUNT_LEVERS, DRAWS, FACTORS, MONEY_LEVERS, BridgeResult, measure_bridge
from opslib.measure.bridge.shares import share_change
from opslib.measure.bridge.users import MOMENTS, draw

ROOT = Path(__file__).resolve().parents[2]
Q1, Q2, Q3 = (Quarter.parse(f"2026Q{n}").period for n in (1, 2, 3))
Row = tuple[int, dt.date]


def bridge_rows(
    days: list[Row], orders: list[tuple[int, dt.date, float]] | None = None, draws: int = 40
) -> BridgeResult:
    table = ibis.memtable(pd.DataFrame(sorted(set(days)), columns=["user_id", "day"]))
    money = None
    if orders is not None:
        stamped = [(u, dt.datetime.combine(d, dt.time(12)), a) for u, d, a in orders]
        frame = pd.DataFrame(stamped, columns=["user_id", "ts", "amount"])
        money = ibis.memtable(frame.astype({"user_id": "int64", "ts": "datetime64[us]", "amount": "float64"}))
    return measure_bridge(
        table, Q3, Q2, opening_now=Q2, opening_before=Q1, orders=money, calendar=Calendar(), draws=draws
    )


def on(month: int, day: int) -> dt.date:
    return dt.date(2026, month, day)


def test_every_group_on_a_table_checked_by_hand() -> None:
    """One user each: new and back, new and not, new and too young, kept new, kept old, come back, lost."""
    days = [
        (1, on(7, 1)), (1, on(7, 8)),  # back on the seventh day
        (2, on(7, 1)), (2, on(7, 9)),  # back a day too late
        (3, on(9, 24)),  # six days are left, seven were needed
        (4, on(4, 5)), (4, on(7, 5)),
        (5, on(1, 5)), (5, on(4, 5)), (5, on(7, 5)),
        (6, on(1, 5)), (6, on(7, 5)),
        (7, on(1, 5)), (7, on(5, 5)),
    ]  # fmt: skip
    result = bridge_rows(days)
    groups = result.groups.set_index(["period", "group"])["users_count"]
    assert groups["now"].to_dict() == {
        "new_activated": 1, "new_lapsed": 1, "new_young": 1, "kept_new": 1, "kept_old": 1, "resurrected": 1,
    }  # fmt: skip
    assert groups["before"].to_dict() == {
        "new_activated": 0, "new_lapsed": 1, "new_young": 0, "kept_new": 2, "kept_old": 0, "resurrected": 0,
    }  # fmt: skip
    drivers = result.users.set_index("lever")
    assert drivers.loc["retention", "driver_now"] == 0.5
    assert drivers.loc["newcomers_kept", ["driver_before", "driver_now"]].tolist() == [pytest.approx(2 / 3), 1.0]
    assert (result.users_before, result.users_now) == (3, 6)
    assert drivers["change_count"].sum() == pytest.approx(3, abs=1e-9)


def test_products_of_two_and_three_follow_das_guptas_formulas() -> None:
    """Das Gupta (1993), formulas for R = ab and R = abc: the mean over the orders, written out."""
    generator = np.random.default_rng(5)
    a, b, c, a2, b2, c2 = generator.uniform(0.1, 5, 6)
    before, now = {"a": np.array(a), "b": np.array(b)}, {"a": np.array(a2), "b": np.array(b2)}
    two = share_change(lambda v: v["a"] * v["b"], before, now, {"a": ("a",), "b": ("b",)})
    assert two["a"] == pytest.approx((a2 - a) * (b + b2) / 2)
    before["c"], now["c"] = np.array(c), np.array(c2)
    levers = {name: (name,) for name in "abc"}
    three = share_change(lambda v: v["a"] * v["b"] * v["c"], before, now, levers)
    assert three["a"] == pytest.approx((a2 - a) * ((b * c + b2 * c2) / 3 + (b * c2 + b2 * c) / 6))


def naive_revenue(v: dict[str, float], rates: dict[str, list[float]]) -> float:
    grown = v["new"] * (1 - v["young_rate"])
    users = [
        grown * v["activation_rate"],
        grown * (1 - v["activation_rate"]),
        v["new"] * v["young_rate"],
        v["newcomers"] * v["newcomers_kept_rate"],
        v["others"] * v["retention_rate"],
        v["away"] * v["resurrection_rate"],
    ]
    parts = zip(users, rates["payer_share"], rates["orders_per_payer"], rates["order_value"], strict=True)
    return sum(n * p * o * a for n, p, o, a in parts)


def count_by_hand(
    days: list[Row], orders: list[tuple[int, dt.date, float]], period: Period, opening: Period
) -> tuple[dict[str, float], dict[str, list[float]]]:
    """The factors of one period, user by user."""
    active: dict[int, set[dt.date]] = {}
    for user, day in [*days, *((u, d) for u, d, _ in orders)]:
        if day < Q3.end:
            active.setdefault(user, set()).add(day)
    names = ("new_activated", "new_lapsed", "new_young", "kept_new", "kept_old", "resurrected")
    sums = {name: [0, 0, 0, 0.0] for name in (*names, "lost_new", "lost_old", "away")}
    for user, seen in active.items():
        first = min(seen)
        here = any(period.start <= d < period.end for d in seen)
        opened = any(opening.start <= d < opening.end for d in seen)
        if first >= period.end:
            continue
        if first >= period.start:
            back = any(1 <= (d - first).days <= 7 for d in seen)
            young = (period.last_day - first).days < 7
            group = "new_young" if young else "new_activated" if back else "new_lapsed"
        elif opened:
            group = ("kept_" if here else "lost_") + ("new" if first >= opening.start else "old")
        else:
            group = "resurrected" if here else "away"
        paid = [a for u, d, a in orders if u == user and period.start <= d < period.end]
        for place, value in enumerate((1, bool(paid), len(paid), sum(paid))):
            sums[group][place] += value
    n = {name: values[0] for name, values in sums.items()}
    grown = n["new_activated"] + n["new_lapsed"]

    def divide(top: float, bottom: float) -> float:
        return top / bottom if bottom else float("nan")

    factors = {
        "new": grown + n["new_young"],
        "young_rate": divide(n["new_young"], grown + n["new_young"]),
        "activation_rate": divide(n["new_activated"], grown),
        "newcomers": n["kept_new"] + n["lost_new"],
        "newcomers_kept_rate": divide(n["kept_new"], n["kept_new"] + n["lost_new"]),
        "others": n["kept_old"] + n["lost_old"],
        "retention_rate": divide(n["kept_old"], n["kept_old"] + n["lost_old"]),
        "away": n["resurrected"] + n["away"],
        "resurrection_rate": divide(n["resurrected"], n["resurrected"] + n["away"]),
    }
    rates = {
        name: [divide(sums[g][i + 1], sums[g][i]) for g in names]
        for i, name in enumerate(("payer_share", "orders_per_payer", "order_value"))
    }
    return factors, rates


days_of_year = st.dates(dt.date(2026, 1, 1), dt.date(2026, 9, 30))
some_days = st.lists(st.tuples(st.integers(1, 12), days_of_year), min_size=1, max_size=60)
some_orders = st.lists(
    st.tuples(st.integers(1, 14), days_of_year, st.integers(1, 9000).map(lambda c: c / 100)), max_size=25
)


@given(some_days, some_orders)
@settings(max_examples=15, deadline=None)
def test_parts_add_up_exactly(days: list[Row], orders: list[tuple[int, dt.date, float]]) -> None:
    result = bridge_rows(days, orders, draws=8)
    assert result.users["change_count"].sum() == pytest.approx(result.users_now - result.users_before, abs=1e-6)
    assert result.revenue is not None
    spent = [round(sum(a for _, d, a in orders if p.start <= d < p.end), 2) for p in (Q2, Q3)]
    assert [result.revenue_before, result.revenue_now] == spent
    assert result.revenue["change_amount"].sum() == pytest.approx(spent[1] - spent[0], abs=0.004)
    for frame, column in ((result.users, "change_count"), (result.revenue, "change_amount")):
        assert (frame["change_low"] <= frame[column]).all()
        assert (frame[column] <= frame["change_high"]).all()


@given(some_days, some_orders)
@settings(max_examples=6, deadline=None)
def test_parts_are_means_over_all_orders_of_the_levers(
    days: list[Row], orders: list[tuple[int, dt.date, float]]
) -> None:
    """Counted user by user, and every order of the money levers and three more walked through."""
    result = bridge_rows(days, orders, draws=8)
    sides = [count_by_hand(days, orders, *pair) for pair in ((Q2, Q1), (Q3, Q2))]
    values = []
    for me, other in (sides, sides[::-1]):
        flat = {k: [v] for k, v in me[0].items()} | me[1]
        spare = {k: [v] for k, v in other[0].items()} | other[1]
        values.append(
            {k: [b if a != a else a for a, b in zip(v, spare[k], strict=True)] for k, v in flat.items()}
        )  # a rate that nobody could have
    values = [{k: [0.0 if x != x else x for x in v] for k, v in side.items()} for side in values]

    def total(moved: set[str]) -> float:
        taken = {f for lever in moved for f in FACTORS[lever]}
        mixed = {k: (values[1] if k in taken else values[0])[k] for k in values[0]}
        return naive_revenue(
            {k: v[0] for k, v in mixed.items() if len(v) == 1}, {k: v for k, v in mixed.items() if len(v) > 1}
        )

    levers = (*COUNT_LEVERS, *MONEY_LEVERS)
    generator = np.random.default_rng(0)
    # Nine levers have 362,880 orders. Groups of levers moved as one keep it small: pairs are compared instead.
    exact = dict.fromkeys(levers, 0.0)
    for chosen in [tuple(generator.permutation(levers)) for _ in range(3)]:
        assert sum(_walk(chosen, total).values()) == pytest.approx(total(set(levers)) - total(set()), abs=1e-6)
    order_sum = share_change(
        lambda v: np.array(total({k for k in levers if v[k] > 0})),
        {k: np.array(0.0) for k in levers},
        {k: np.array(1.0) for k in levers},
        {k: (k,) for k in levers},
    )
    assert result.revenue is not None
    found = result.revenue.set_index("lever")["change_amount"]
    for lever in exact:
        assert found[lever] == pytest.approx(float(order_sum[lever]), abs=1e-5), lever


def _walk(order: tuple[str, ...], total) -> dict[str, float]:  # type: ignore[no-untyped-def]
    parts, moved, last = {}, set(), total(set())
    for lever in order:
        moved = moved | {lever}
        now = total(moved)
        parts[lever], last = now - last, now
    return parts


@given(st.lists(st.floats(0.1, 9), min_size=8, max_size=8))
@settings(max_examples=30, deadline=None)
def test_shapley_is_the_mean_over_every_order(numbers: list[float]) -> None:
    names = "abcd"
    before, now = ({n: np.array(x) for n, x in zip(names, part, strict=True)} for part in (numbers[:4], numbers[4:]))

    def total(v) -> np.ndarray:  # type: ignore[no-untyped-def]
        return v["a"] * v["b"] + v["c"] * v["d"] * v["a"]

    found = share_change(total, before, now, {n: (n,) for n in names})
    means = dict.fromkeys(names, 0.0)
    orders = list(permutations(names))
    for order in orders:
        parts = _walk(order, lambda moved: float(total({n: (now if n in moved else before)[n] for n in names})))
        means = {n: means[n] + parts[n] / len(orders) for n in names}
    assert {n: float(found[n]) for n in names} == pytest.approx(means)


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    """Two Poisson counts of the same mean: 95% of the intervals of their difference hold nought."""
    generator = np.random.default_rng(11)
    held, trials = 0, 600
    for _ in range(trials):
        counts = generator.poisson(120, 2)
        cross = np.zeros((2, len(MOMENTS), len(MOMENTS)))
        cross[:, 0, 0] = counts
        drawn = draw(cross[:, 0, :], cross, DRAWS, 0)[:, :, 0]
        low, high = np.quantile(drawn[:, 1] - drawn[:, 0], [0.025, 0.975])
        held += low <= 0 <= high
    assert 0.92 <= held / trials <= 0.975


def test_intervals_of_money_are_those_of_resampled_users() -> None:
    """Users drawn with Poisson weights, one by one, against the draws made from sums alone."""
    generator = np.random.default_rng(2)
    paid = generator.gamma(0.5, 60, 400).round(2)
    days = [(u, on(4 + 3 * (u % 2), 1 + u % 28)) for u in range(400)]
    orders = [(u, d, float(paid[u])) for u, d in days if u % 5]
    result = bridge_rows(days, orders, draws=2000)
    assert result.revenue is not None
    spread = result.revenue["change_amount"].sum()
    sides = [np.array([a for u, _, a in orders if u % 2 == side]) for side in (0, 1)]
    totals = [(generator.poisson(1, (2000, len(x))) * x).sum(axis=1) for x in sides]
    wide = np.std(totals[1] - totals[0])
    parts = result.revenue.set_index("lever")
    moved = parts.loc[["acquisition", "payer_share", "orders_per_payer", "order_value"]]
    half = (moved["change_high"] - moved["change_low"]) / 2 / 1.96
    assert spread == pytest.approx(sum(sides[1]) - sum(sides[0]), abs=0.01)
    # Parts that vary each for itself, as these nearly do, have variances that add up to that of the whole.
    assert float(np.sqrt((half**2).sum())) == pytest.approx(wide, rel=0.15)


@pytest.mark.parametrize("days", [[(1, on(7, 1))], [(1, on(2, 1))], [(1, on(4, 1)), (1, on(7, 1))]])
def test_one_user_gives_an_answer(days: list[Row]) -> None:
    result = bridge_rows(days, [])
    assert result.revenue is not None
    assert result.users["change_count"].sum() == pytest.approx(result.users_now - result.users_before)
    assert result.findings()


def test_periods_must_not_overlap() -> None:
    with pytest.raises(ValueError, match="overlap"):
        measure_bridge(ibis.memtable({"user_id": [1], "day": [on(4, 1)]}), Q2, Q2, opening_now=Q1, opening_before=Q1)


def test_sample_company_adds_up_and_shows_the_leak() -> None:
    data = open_data(ROOT / "playbook.toml")
    quarters = [Quarter.parse("2026Q2")]
    for _ in range(2):
        quarters.append(quarters[-1].previous)
    now, before, earlier = (q.period for q in quarters)
    result = measure_bridge(
        data.active_days, now, before, opening_now=before, opening_before=earlier, orders=data.table("orders"),
        calendar=data.calendar,
    )  # fmt: skip
    assert result.users["change_count"].sum() == pytest.approx(result.users_now - result.users_before, abs=1e-6)
    assert result.revenue is not None
    assert result.revenue_now is not None
    assert result.revenue_before is not None
    money = result.revenue_now - result.revenue_before
    assert result.revenue["change_amount"].sum() == pytest.approx(money, abs=0.005)
    parts = result.users.set_index("lever")
    assert parts.loc["acquisition", "change_low"] > 0
    # More sign-ups, and a smaller share of them seen again.
    assert result.revenue.set_index("lever").loc["activation", "change_high"] < 0

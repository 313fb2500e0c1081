"""Users who moved: matched by hand, against brute force; a move without effect shows none (no immortal time)."""

from __future__ import annotations

import datetime as dt

import ibis
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opslib.data.periods import DAY, Calendar
from opslib.data.source import open_data
from opslib.measure.moved_users import RECENT_ACTIVE, TENURE_DAYS, measure_moved_users
from opslib.measure.retention import find_first_days
from tests.conftest import ROOT
from tests.measure.streams import START, to_table

UTC = Calendar()
MONDAY = dt.date(2026, 1, 5)
AS_OF = dt.date(2026, 6, 30)


def move_table(moves: dict[int, dt.datetime | None]) -> ibis.Table:
    users, times = pa.array(list(moves), pa.int64()), pa.array(list(moves.values()), pa.timestamp("us"))
    return ibis.memtable(pa.table({"user_id": users, "moved_at": times}))


def order_table(rows: list[tuple[int, dt.date, float, float]]) -> ibis.Table:
    users, days, paid, costs = ([r[i] for r in rows] for i in range(4))
    times = [dt.datetime.combine(d, dt.time(12)) for d in days]
    kinds = {"user_id": pa.int64(), "ts": pa.timestamp("us"), "amount": pa.float64(), "cost": pa.float64()}
    columns = (users, times, paid, costs)
    return ibis.memtable(pa.table({k: pa.array(c, t) for (k, t), c in zip(kinds.items(), columns, strict=True)}))


def noon(day: dt.date) -> dt.datetime:
    return dt.datetime.combine(day, dt.time(12))


def test_by_hand() -> None:
    """All came on Monday and 30 moved. Of them 20 are back and buy for 6, of the 60 others 10, who pay nothing."""
    back = {(u, MONDAY + 28 * DAY) for u in (*range(20), *range(30, 40))}
    days = to_table({(u, MONDAY) for u in range(90)} | back)
    orders = order_table([(u, MONDAY + 28 * DAY, 10.0, 4.0) for u in range(20)] + [(0, MONDAY, 99.0, 0.0)])
    moves = move_table(dict.fromkeys(range(30), noon(MONDAY)) | {89: None})
    options = {"as_of": AS_OF, "calendar": UTC, "orders": orders}
    result = measure_moved_users(days, find_first_days(days), moves, **options)
    assert (result.movers_count, result.compared_count, result.unmatched_count) == (30, 30, 0)
    expected = {"active_days_count": 20 / 30 - 10 / 60, "still_active_rate": 20 / 30 - 10 / 60, "margin_amount": 4}
    assert {m: e.value for m, e in result.differences.items()} == pytest.approx(expected)
    p, q = 2 / 3, 1 / 6
    half = 1.96 * (p * (1 - p) / 30 + q * (1 - q) / 60) ** 0.5
    assert result.differences["still_active_rate"].high == pytest.approx(0.5 + half, abs=1e-4)
    assert result.means.set_index("metric").loc["margin_amount"].tolist() == [4, 0]
    assert (
        "margin_amount"
        not in measure_moved_users(days, find_first_days(days), moves, as_of=AS_OF, calendar=UTC).differences
    )


def test_who_cannot_be_compared_is_counted() -> None:
    days = to_table({(u, MONDAY) for u in range(50)} | {(1, MONDAY + 100 * DAY)})
    moves = {0: noon(MONDAY), 1: noon(MONDAY + 100 * DAY), 2: noon(MONDAY + 3 * DAY), 3: noon(AS_OF - DAY)}
    result = measure_moved_users(days, find_first_days(days), move_table(moves), as_of=AS_OF, calendar=UTC)
    counts = (result.movers_count, result.compared_count, result.waiting_count)
    assert counts == (4, 1, 1)
    assert (result.not_active_count, result.unmatched_count) == (1, 1)
    assert result.differences["active_days_count"].note.startswith("not enough data: 1 movers")
    nobody = measure_moved_users(days, find_first_days(days), move_table({}), as_of=AS_OF, calendar=UTC)
    assert (nobody.movers_count, nobody.compared_count) == (0, 0)
    assert nobody.findings()


def test_users_alike_in_the_28_days_before() -> None:
    """Movers were active on four of the 28 days up to their move, the others on three: another class."""
    days = {(u, MONDAY + n * DAY) for u in range(40) for n in (-1, 10, 17, 27)} | {(u, MONDAY) for u in range(20)}
    moves = move_table(dict.fromkeys(range(20), noon(MONDAY + 27 * DAY)))
    table = to_table(days)
    result = measure_moved_users(table, find_first_days(table), moves, as_of=AS_OF, calendar=UTC)
    assert (result.compared_count, result.unmatched_count) == (0, 20)
    back = to_table(days | {(u, MONDAY) for u in range(20, 40)})
    alike = measure_moved_users(back, find_first_days(back), moves, as_of=AS_OF, calendar=UTC)
    assert (alike.compared_count, alike.unmatched_count) == (20, 0)


def simulate(effect: float, seed: int) -> tuple[set[tuple[int, dt.date]], dict[int, dt.datetime]]:
    """Users who leave for good at their own rate; on 3% of their active days they move, which changes that rate."""
    rng = np.random.default_rng(seed)
    days, moves = set(), {}
    for user in range(1200):
        leave, day = rng.beta(1, 6), MONDAY + int(rng.integers(0, 60)) * DAY
        while day <= AS_OF:
            days.add((user, day))
            if user not in moves and rng.random() < 0.03:
                moves[user] = noon(day)
            if rng.random() < leave * (effect if user in moves else 1):
                break
            day += int(rng.geometric(0.4)) * DAY
    return days, moves


def test_a_move_without_effect_shows_none_although_movers_stay_longer() -> None:
    days, moves = simulate(1.0, 1)
    table = to_table(days)
    result = measure_moved_users(table, find_first_days(table), move_table(moves), as_of=AS_OF, calendar=UTC)
    # The naive comparison: movers have far more active days in all, for only who stays gets to move.
    per_user = {u: sum(v == u for v, _ in days) for u in range(0, 1200, 8)}
    naive = [np.mean([n for u, n in per_user.items() if (u in moves) == side]) for side in (True, False)]
    assert naive[0] > 1.5 * naive[1]
    for estimate in result.differences.values():
        assert estimate.low < 0 < estimate.high


def test_a_move_with_effect_shows_it() -> None:
    days, moves = simulate(0.2, 3)
    table = to_table(days)
    result = measure_moved_users(table, find_first_days(table), move_table(moves), as_of=AS_OF, calendar=UTC)
    assert result.differences["active_days_count"].low > 0
    assert result.differences["still_active_rate"].low > 0


def classify(value: int, ends: tuple[int, ...]) -> int:
    return sum(value > end for end in ends)


streams = st.sets(
    st.tuples(st.integers(1, 12), st.integers(0, 40).map(lambda n: START + n * DAY)), min_size=80, max_size=200
)


@settings(max_examples=15)
@given(streams, st.dictionaries(st.integers(1, 12), st.integers(0, 40), max_size=12), st.integers(20, 45))
def test_equals_brute_force(days: set[tuple[int, dt.date]], moved: dict[int, int], known: int) -> None:
    window, as_of = 5, START + known * DAY
    table = to_table(days)
    moves = move_table({u: noon(START + n * DAY) for u, n in moved.items()})
    paid = [(u, d, 3.0 + u, 1.0) for u, d in sorted(days) if u % 2]
    result = measure_moved_users(
        table, find_first_days(table), moves, as_of=as_of, calendar=UTC, orders=order_table(paid), window_days=window
    )
    first = {u: min(d for v, d in days if v == u) for u, _ in days}
    seen = {(u, d) for u, d in days if d <= as_of}
    sides: dict[tuple, tuple[dict[int, list[tuple]], dict[int, list[tuple]]]] = {}
    for u, d in seen:
        move = START + moved[u] * DAY if u in moved else None
        if d > as_of - window * DAY or (move is not None and d > move):
            continue
        recent = sum((u, d - n * DAY) in seen for n in range(28))
        week = d - d.weekday() * DAY
        key = (week, classify((d - first[u]).days, TENURE_DAYS), classify(recent, RECENT_ACTIVE))
        after = [d + n * DAY for n in range(1, window + 1) if (u, d + n * DAY) in seen]
        outcome = (len(after), float(bool(after)), (2.0 + u) * len(after) if u % 2 else 0.0)
        sides.setdefault(key, ({}, {}))[0 if d == move else 1].setdefault(u, []).append(outcome)
    totals, count = np.zeros(3), 0
    for movers, others in sides.values():
        if movers and others:
            mean = np.mean([day for outcomes in others.values() for day in outcomes], axis=0)
            totals += sum(np.array(o[0]) - mean for o in movers.values())
            count += len(movers)
    assert result.compared_count == count
    known_movers = [u for u in moved if u in first and first[u] <= as_of and START + moved[u] * DAY <= as_of]
    assert result.movers_count == len(known_movers)
    assert [e.numerator for e in result.differences.values()] == pytest.approx(totals.tolist(), abs=1e-9)
    assert all(e.known == (count >= 20) for e in result.differences.values())


def test_sample_company() -> None:
    """Who joins a private group stays on more and brings more than others like them: the sample makes them so."""
    data = open_data(ROOT / "playbook.toml")
    users = data.table("users")
    public = users.filter(users.domain == "public")
    result = measure_moved_users(
        data.active_days,
        find_first_days(data.active_days).semi_join(public, "user_id"),
        public.select("user_id", moved_at="private_since"),
        as_of=data.as_of,
        calendar=data.calendar,
        orders=data.table("orders"),
    )
    assert result.movers_count == int(data.execute(public.private_since.notnull().sum()))
    parts = result.compared_count + result.waiting_count + result.not_active_count + result.unmatched_count
    assert parts == result.movers_count
    assert all(e.low > 0 for e in result.differences.values())

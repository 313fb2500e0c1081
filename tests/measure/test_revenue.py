"""Revenue and paying users: by hand and against brute force, on local days."""

from __future__ import annotations

import datetime as dt

import ibis
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opslib.data.periods import Calendar, Period
from opslib.measure.revenue import measure_revenue
from tests.measure.streams import to_table

SHANGHAI = Calendar("Asia/Shanghai")
JANUARY = Period(dt.date(2026, 1, 1), dt.date(2026, 2, 1), "January")
orders_strategy = st.lists(
    st.tuples(
        st.integers(1, 40),
        st.datetimes(dt.datetime(2025, 12, 25), dt.datetime(2026, 2, 8)),
        st.floats(0.5, 900).map(lambda x: round(x, 2)),
    ),
    min_size=1,
    max_size=80,
)


def to_orders(rows: list[tuple[int, dt.datetime, float]]) -> ibis.Table:
    users, times, amounts = zip(*rows, strict=True)
    return ibis.memtable(
        {"user_id": users, "ts": times, "amount": amounts},
        schema={"user_id": "int64", "ts": "timestamp(6)", "amount": "float64"},
    )


def test_an_order_belongs_to_the_local_day() -> None:
    """31 December 17:00 UTC is 1 January in Shanghai; 31 January 16:30 UTC is February there."""
    rows = [(1, dt.datetime(2025, 12, 31, 17), 10.0), (2, dt.datetime(2026, 1, 31, 16, 30), 99.0)]
    result = measure_revenue(to_orders(rows), to_table({(1, dt.date(2026, 1, 1))}), JANUARY, calendar=SHANGHAI)
    assert result.revenue.value == 10
    assert result.monthly["month_start"].dt.strftime("%Y-%m").tolist() == ["2026-01"]


@settings(max_examples=30)
@given(orders_strategy)
def test_equals_brute_force(rows: list[tuple[int, dt.datetime, float]]) -> None:
    active = {(u, dt.date(2026, 1, 1 + u % 28)) for u in range(60)}
    result = measure_revenue(to_orders(rows), to_table(active), JANUARY, calendar=SHANGHAI)
    inside = [(u, a) for u, t, a in rows if JANUARY.start <= SHANGHAI.day_of(t) < JANUARY.end]
    payers = {u for u, _ in inside}
    assert result.revenue.value == pytest.approx(sum(a for _, a in inside))
    assert result.orders_count == len(inside)
    assert (result.paying_rate.numerator, result.paying_rate.denominator) == (len(payers), 60)
    assert result.monthly["orders_count"].sum() == len(inside)


def test_no_orders_in_the_period() -> None:
    rows = [(1, dt.datetime(2025, 6, 1), 10.0)]
    result = measure_revenue(to_orders(rows), to_table({(1, dt.date(2026, 1, 1))}), JANUARY, calendar=SHANGHAI)
    assert (result.revenue.value, result.paying_users.value, result.orders_count) == (0, 0, 0)
    assert not result.revenue_per_payer.known

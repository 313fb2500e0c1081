"""Moves between tiers: by hand, against labels made one day at a time, and books that balance to the integer."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

import ibis
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opslib.data.periods import DAY, Quarter
from opslib.data.source import open_data
from opslib.errors import InputError
from opslib.measure.rfm.customers import choose_thresholds
from opslib.measure.rfm.migration import NEW, NOT_YET, RfmMigrationResult, measure_rfm_migration
from opslib.measure.rfm.rfm import label_customers
from tests.conftest import ROOT
from tests.measure.purchases import START, Orders, some_orders, to_orders

BEFORE, NOW = dt.date(2026, 1, 31), dt.date(2026, 3, 15)


def count_moves(result: RfmMigrationResult) -> dict[tuple[str, str], int]:
    rows = result.matrix[result.matrix["customers_count"] > 0].to_dict("records")
    return {(r["from_segment"], r["to_segment"]): int(r["customers_count"]) for r in rows}


def test_by_hand() -> None:
    """The first day parts at 15 days and 20: the high-value customer goes dormant, the dormant one comes back."""
    day = dt.timedelta(days=1)
    rows: Orders = [(1, START + 25 * day, 30.0), (2, START + 5 * day, 10.0), (2, START + 70 * day, 80.0)]
    rows += [(3, START + 71 * day, 5.0), (4, START + 40 * day, -5.0)]
    first_days = ibis.memtable({"user_id": [1, 5, 6, 7], "first_day": [START.date() + n * DAY for n in (0, 3, 40, 99)]})
    result = measure_rfm_migration(to_orders(rows), before=BEFORE, now=NOW, first_days=first_days)
    assert count_moves(result) == {
        ("high_value", "dormant"): 1, ("dormant", "high_value"): 1, (NEW, "potential"): 1,
        (NOT_YET, NOT_YET): 1, (NEW, NOT_YET): 1,
    }  # fmt: skip
    without = measure_rfm_migration(to_orders(rows), before=BEFORE, now=NOW)
    assert sum(count_moves(without).values()) == 3


@settings(max_examples=12)
@given(
    some_orders,
    st.sampled_from(["tier", "cell"]),
    st.sets(st.tuples(st.integers(1, 12), st.integers(0, 80)), min_size=1),
)
def test_equals_labels_of_each_day_and_adds_up(rows: Orders, by: Any, known: set[tuple[int, int]]) -> None:
    orders = to_orders(rows)
    first_days = ibis.memtable(
        {"user_id": [u for u, _ in known], "first_day": [START.date() + n * DAY for _, n in known]},
        schema={"user_id": "int64", "first_day": "date"},
    )
    result = measure_rfm_migration(orders, before=BEFORE, now=NOW, by=by, first_days=first_days)
    labels = []
    for day in (BEFORE, NOW):
        frame = label_customers(orders, as_of=day, thresholds=result.thresholds).to_pandas()
        labels.append(dict(zip(frame["user_id"], frame[by], strict=True)))
    since = {u: START.date() + min(n for v, n in known if v == u) * DAY for u, _ in known}
    expected: dict[tuple[str, str], int] = {}
    for user in {*labels[1], *(u for u, d in since.items() if d <= NOW)}:
        start = labels[0].get(user) or (NOT_YET if user in since and since[user] <= BEFORE else NEW)
        key = (start, labels[1].get(user, NOT_YET))
        expected[key] = expected.get(key, 0) + 1
    assert count_moves(result) == expected
    balance = result.balance
    assert (balance["opening_count"] + balance["in_count"] - balance["out_count"] == balance["closing_count"]).all()
    assert balance["closing_count"].sum() == sum(expected.values())
    json.dumps(result.findings(), allow_nan=False)


def test_nobody_and_wrong_days() -> None:
    empty = measure_rfm_migration(to_orders([(1, START, 1.0)]).limit(0), before=BEFORE, now=NOW)
    assert empty.matrix["customers_count"].sum() == 0
    assert empty.rates == {}
    with pytest.raises(InputError, match="must lie before"):
        measure_rfm_migration(to_orders([(1, START, 1.0)]), before=NOW, now=BEFORE)


def test_sample_company_between_quarters() -> None:
    data = open_data(ROOT / "playbook.toml")
    orders, quarter = data.table("orders"), Quarter.parse("2026Q2")
    days = [q.period.last_day for q in (quarter.previous, quarter)]
    users = data.table("users")
    first_days = users.select("user_id", first_day=data.calendar.local_day(users.signup_at))
    result = measure_rfm_migration(orders, before=days[0], now=days[1], calendar=data.calendar, first_days=first_days)
    known = data.execute(first_days.filter(first_days.first_day <= days[1]).user_id.nunique())
    assert result.matrix["customers_count"].sum() == known
    assert result.thresholds is not None
    early = label_customers(orders, as_of=days[0], calendar=data.calendar)
    found = choose_thresholds(early)
    assert found is not None
    assert found.monetary_amount == pytest.approx(result.thresholds.monetary_amount)
    assert result.rates["high_value", "dormant"].known

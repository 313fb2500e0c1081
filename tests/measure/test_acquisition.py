"""New users by channel and what they cost: by hand and against brute force."""

from __future__ import annotations

import datetime as dt

import ibis
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opslib.data.periods import DAY, Period
from opslib.measure.acquisition import NO_CHANNEL, estimate_cost, measure_acquisition
from tests.measure.streams import to_table, user_days

JANUARY = Period(dt.date(2026, 1, 1), dt.date(2026, 2, 1), "January")
AS_OF = dt.date(2026, 3, 31)


def spend_table(rows: list[tuple[dt.date, str, float]]) -> ibis.Table:
    days, channels, amounts = zip(*rows, strict=True)
    return ibis.memtable(
        {"date": days, "channel": channels, "amount": amounts},
        schema={"date": "date", "channel": "string", "amount": "float64"},
    )


def channel_table(channels: dict[int, str | None]) -> ibis.Table:
    return ibis.memtable(
        {"user_id": list(channels), "channel": list(channels.values())},
        schema={"user_id": "int64", "channel": "string"},
    )


def test_by_hand() -> None:
    """40 users from ads for 400, ten of them back on day 7: 10 each, 40 for one who stays; search costs nothing."""
    first = dt.date(2026, 1, 5)
    days = {(u, first) for u in range(60)} | {(u, first + 7 * DAY) for u in range(10)}
    channels = channel_table({u: "ads" if u < 40 else "search" for u in range(60)})
    outside = (dt.date(2026, 2, 1), "ads", 9999.0)
    spend = spend_table([(first, "ads", 300.0), (first + DAY, "ads", 100.0), outside])
    result = measure_acquisition(to_table(days), JANUARY, as_of=AS_OF, channels=channels, spend=spend)
    rows = result.by_channel.set_index("channel")
    assert rows.loc["ads", ["new_users_count", "retained_count", "spend_amount"]].tolist() == [40, 10, 400]
    assert rows.loc["ads", "cac_amount"] == 10
    assert rows.loc["ads", "cost_per_retained_amount"] == 40
    assert rows.loc["ads", "cost_per_retained_low"] < 40 < rows.loc["ads", "cost_per_retained_high"]
    assert rows.loc["search", ["cac_amount", "cost_per_retained_amount"]].isna().all()
    assert result.cac is not None
    assert (result.cac.value, result.cac.denominator) == (10, 40)


def test_rewards_count_as_spend() -> None:
    days = to_table({(u, dt.date(2026, 1, 5)) for u in range(25)})
    rewards = ibis.memtable({"channel": ["referral"] * 2, "amount": [30.0, 20.0]})
    result = measure_acquisition(
        days, JANUARY, as_of=AS_OF, channels=channel_table(dict.fromkeys(range(25), "referral")), rewards=rewards
    )
    assert result.cac is not None
    assert result.cac.value == 2


def test_spend_without_users_and_users_without_channel() -> None:
    days = to_table({(u, dt.date(2026, 1, 5)) for u in range(25)})
    spend = spend_table([(dt.date(2026, 1, 5), "tv", 500.0)])
    result = measure_acquisition(days, JANUARY, as_of=AS_OF, channels=channel_table({0: None}), spend=spend)
    rows = result.by_channel.set_index("channel")
    assert rows["new_users_count"].to_dict() == {NO_CHANNEL: 25, "tv": 0}
    assert rows.loc["tv", "spend_amount"] == 500
    assert result.cac is not None
    assert not result.cac.known


@settings(max_examples=30)
@given(user_days, st.lists(st.sampled_from(["a", "b", None]), min_size=8, max_size=8))
def test_counts_equal_brute_force(days: set[tuple[int, dt.date]], names: list[str | None]) -> None:
    as_of = dt.date(2026, 2, 3)
    channels = dict(zip(range(1, 9), names, strict=True))
    result = measure_acquisition(to_table(days), JANUARY, as_of=as_of, channels=channel_table(channels))
    first = {u: min(d for v, d in days if v == u) for u, _ in days}
    new = {u: f for u, f in first.items() if JANUARY.start <= f < JANUARY.end}
    for name in {channels[u] for u in new}:
        group = {u: f for u, f in new.items() if channels[u] == name}
        mature = {u: f for u, f in group.items() if f + 7 * DAY <= as_of}
        row = result.by_channel.set_index("channel").loc[name or NO_CHANNEL]
        assert row["new_users_count"] == len(group)
        assert row["mature_count"] == len(mature)
        assert row["retained_count"] == sum((u, f + 7 * DAY) in days for u, f in mature.items())
    assert result.new_users.value == len(new)


def test_cost_interval_turns_around() -> None:
    """More users by chance means a lower cost: the low cost comes from the high count."""
    estimate = estimate_cost("cac_amount", 1000, 100)
    assert (estimate.low, estimate.high) == pytest.approx((1000 / 121.6, 1000 / 81.4), rel=1e-3)

"""New users by channel and what they cost: by hand and against brute force."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path

import ibis
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opslib.data.periods import DAY, Period
from opslib.data.source import open_data
from opslib.measure.acquisition import (
    NO_CHANNEL,
    BudgetShiftResult,
    estimate_cost,
    measure_acquisition,
    measure_budget_shift,
)
from tests.conftest import ROOT
from tests.measure.streams import START, to_table, user_days

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


APRIL = Period(dt.date(2026, 4, 1), dt.date(2026, 5, 1), "April")
MARCH = Period(dt.date(2026, 3, 1), dt.date(2026, 4, 1), "March")


def make_month(start: dt.date, per_day: int, kept_per_day: int, first_id: int) -> set[tuple[int, dt.date]]:
    """Thirty days with so many new users a day, of whom so many come back on day 7."""
    days = set()
    for n in range(30):
        for i in range(per_day):
            user, first = first_id + n * per_day + i, start + n * DAY
            days |= {(user, first)} | ({(user, first + 7 * DAY)} if i < kept_per_day else set())
    return days


def shift(
    days: set[tuple[int, dt.date]], channels: dict[int, str], paid: dict[str, tuple[float, float]]
) -> BudgetShiftResult:
    rows = [(p.start, c, a) for c, pair in paid.items() for p, a in zip((MARCH, APRIL), pair, strict=True)]
    before = Period(MARCH.start, MARCH.start + 30 * DAY, "March")
    return measure_budget_shift(
        to_table(days),
        APRIL,
        before,
        as_of=dt.date(2026, 6, 30),
        channels=channel_table(channels),
        spend=spend_table(rows),
    )


def test_shift_that_bought_users_who_leave() -> None:
    """300 and 600 users, 60 and 60 of them kept: 300 more for 3,000 more is 10 each, and no more kept."""
    days = make_month(MARCH.start, 10, 2, 0) | make_month(APRIL.start, 20, 2, 10_000)
    result = shift(days, {u: "ads" for u, _ in days}, {"ads": (3000.0, 6000.0)})
    row = result.by_channel.iloc[0]
    assert row[["new_users_count", "before_new_users_count", "extra_users_count"]].tolist() == [600, 300, 300]
    assert row[["retained_count", "before_retained_count", "extra_retained_count"]].tolist() == [60, 60, 0]
    assert row["extra_spend_amount"] == 3000
    assert row["spend_change_rate"] == 1
    assert row["cost_per_extra_user_amount"] == 10
    assert row["cost_per_extra_user_low"] < 10 < row["cost_per_extra_user_high"]
    assert pd.isna(row["cost_per_extra_retained_amount"])
    assert row["cost_per_extra_retained_low"] == pytest.approx(3000 / row["extra_retained_high"])
    assert row["retained_change_rate"] == pytest.approx(-0.1)
    assert (row["verdict"], result.moved) == ("more_users_not_retained", ("ads",))


@pytest.mark.parametrize(
    ("now", "kept", "paid", "verdict"),
    [
        (20, 4, (3000.0, 6000.0), "more_retained"),
        (12, 2, (3000.0, 6000.0), "more_users_retained_unclear"),
        (10, 2, (3000.0, 6000.0), "no_clear_gain"),
        (10, 2, (3000.0, 1500.0), "no_clear_loss"),
        (4, 0, (3000.0, 1500.0), "fewer_retained"),
        (8, 2, (3000.0, 1500.0), "fewer_users_retained_unclear"),
        (20, 2, (3000.0, 3300.0), "not_moved"),
    ],
)
def test_verdicts(now: int, kept: int, paid: tuple[float, float], verdict: str) -> None:
    days = make_month(MARCH.start, 10, 2, 0) | make_month(APRIL.start, now, kept, 10_000)
    row = shift(days, {u: "ads" for u, _ in days}, {"ads": paid}).by_channel.iloc[0]
    assert row["verdict"] == verdict
    assert pd.isna(row["cost_per_extra_user_amount"]) == verdict.startswith(("no_", "not_"))


def test_days_that_differ_by_more_than_chance_widen_the_interval() -> None:
    """The same 300 users, ten a day or all on three days: the second says little about a month's level."""
    even = make_month(MARCH.start, 10, 2, 0) | make_month(APRIL.start, 14, 2, 10_000)
    bursts = {(u, APRIL.start + (u % 3) * DAY) for u in range(10_000, 10_420)} | make_month(MARCH.start, 10, 2, 0)
    rows = [shift(d, {u: "ads" for u, _ in d}, {"ads": (1.0, 2.0)}).by_channel.iloc[0] for d in (even, bursts)]
    assert rows[0]["extra_users_count"] == rows[1]["extra_users_count"] == 120
    assert rows[0]["extra_users_low"] > 0 > rows[1]["extra_users_low"]


def test_days_without_a_day_7_are_left_out_with_their_spend() -> None:
    days = make_month(MARCH.start, 10, 2, 0) | make_month(APRIL.start, 10, 2, 10_000)
    spend = spend_table([(APRIL.start, "ads", 5.0), (APRIL.start + 10 * DAY, "ads", 7.0), (MARCH.start, "ads", 5.0)])
    channels = channel_table({u: "ads" for u, _ in days})
    options = {"channels": channels, "spend": spend}
    result = measure_budget_shift(to_table(days), APRIL, MARCH, as_of=dt.date(2026, 4, 12), **options)
    assert (result.now.days, result.waiting_days, result.by_channel["spend_amount"][0]) == (5, 25, 5.0)
    assert result.by_channel["new_users_count"][0] == 50
    early = measure_budget_shift(to_table(days), APRIL, MARCH, as_of=dt.date(2026, 4, 5), **options)
    assert early.by_channel.empty
    assert early.note == "no new user of April has had a day 7 yet"
    assert early.findings() == []
    with pytest.raises(ValueError, match="overlap"):
        measure_budget_shift(to_table(days), APRIL, APRIL, as_of=AS_OF, **options)


@settings(max_examples=20)
@given(user_days, st.lists(st.sampled_from(["a", "b"]), min_size=8, max_size=8), st.integers(30, 110))
def test_shift_equals_brute_force(days: set[tuple[int, dt.date]], names: list[str], known: int) -> None:
    as_of = START + known * DAY
    now, before = Period(dt.date(2026, 1, 10), AS_OF, "now"), Period(START, dt.date(2026, 1, 10), "before")
    channels = dict(zip(range(1, 9), names, strict=True))
    spend = [(START + n * DAY, c, float(n)) for n in range(110) for c in ("a", "b")]
    result = measure_budget_shift(
        to_table(days), now, before, as_of=as_of, channels=channel_table(channels), spend=spend_table(spend)
    )
    seen = {(u, d) for u, d in days if d <= as_of}
    first = {u: min(d for v, d in seen if v == u) for u, _ in seen}
    last = as_of - 7 * DAY
    sides = [[d for d in (p.start + n * DAY for n in range(p.days)) if d <= last] for p in (now, before)]
    if not all(sides):
        assert result.note
        return
    scale = len(sides[0]) / len(sides[1])
    rows = result.by_channel.set_index("channel")
    for c in ("a", "b"):
        groups = [[u for u, f in first.items() if channels[u] == c and f in side] for side in sides]
        kept = [sum((u, first[u] + 7 * DAY) in seen for u in group) for group in groups]
        paid = [sum(a for d, name, a in spend if name == c and d in side) for side in sides]
        assert rows.loc[c, "extra_users_count"] == pytest.approx(len(groups[0]) - len(groups[1]) * scale)
        assert rows.loc[c, "extra_retained_count"] == pytest.approx(kept[0] - kept[1] * scale)
        assert rows.loc[c, "extra_spend_amount"] == pytest.approx(paid[0] - paid[1] * scale)
        assert rows.loc[c, "spend_change_rate"] == pytest.approx(paid[0] / (paid[1] * scale) - 1)


def test_the_planted_budget_shift(samples: Path) -> None:
    """From April on social has more spend and sign-ups, and no more users who stay; nothing else moved."""
    data = open_data(ROOT / "playbook.toml")
    truth = json.loads((samples / "truth.json").read_text())
    planted = next(i for i in truth["incidents"] if i["id"] == "budget_shift")
    cells = {c["kind"]: c["realised"]["cells"] for c in planted["changes"]}
    start, end = (dt.date.fromisoformat(planted[k]) for k in ("start", "end"))
    now, before = Period(start, end, "after"), Period(start - 91 * DAY, start, "before")
    result = measure_budget_shift(
        data.active_days,
        now,
        before,
        as_of=data.as_of,
        channels=data.table("users").select("user_id", "channel"),
        spend=data.table("spend"),
    )
    assert result.moved == ("social",)
    row = result.by_channel.set_index("channel").loc["social"]
    kept = cells["return_rate"]
    assert row["retained_count"] == kept["segment_during"]["numerator"]
    assert row["new_users_count"] == kept["segment_during"]["denominator"]
    scale = result.now.days / before.days
    assert row["before_retained_count"] == pytest.approx(kept["segment_before"]["numerator"] * scale)
    assert row["before_new_users_count"] == pytest.approx(cells["signups"]["segment_before"]["numerator"] * scale)
    assert row["extra_users_low"] > 0
    assert row["extra_retained_low"] < 0 < row["extra_retained_high"]
    assert row["verdict"] == "more_users_not_retained"
    assert set(result.by_channel["verdict"]) == {"more_users_not_retained", "not_moved"}

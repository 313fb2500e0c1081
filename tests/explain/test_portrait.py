"""A segment against the rest: by hand, against brute force, published figures, the sample company."""

from __future__ import annotations

import datetime as dt
import json
import math
from pathlib import Path

import ibis
import ibis.expr.types as ir
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opslib.data.periods import DAY, Calendar, Period
from opslib.data.source import Data, open_data
from opslib.errors import InputError
from opslib.explain.portrait import NOT_GIVEN, OTHER, describe_segment
from tests.conftest import ROOT
from tests.measure.streams import START, to_table, user_days

JANUARY = Period(dt.date(2026, 1, 1), dt.date(2026, 2, 1), "January")


def people() -> ir.Table:
    """100 users, the first 40 from ads; three in four of these on the web, one in four of the others."""
    web = [u % 4 < (3 if u < 40 else 1) for u in range(100)]
    return ibis.memtable(
        {
            "user_id": range(100),
            "channel": ["ads"] * 40 + ["search"] * 60,
            "platform": ["web" if w else "ios" for w in web],
            "age": [20.0 + u % 2 if u < 40 else 30.0 + u % 2 for u in range(100)],
            "signup_at": [dt.datetime(2026, 1, 1)] * 100,
        }
    )


def test_by_hand() -> None:
    result = describe_segment(people(), "channel:ads")
    assert (result.segment, result.segment_count, result.rest_count) == ("channel:ads", 40, 60)
    web = result.shares.set_index("value").loc["web"]
    assert web["segment_count":"rest_rate"].tolist() == [30, 40, 15, 60, 0.75, 0.25]  # type: ignore[misc]
    assert web["difference_rate"] == 0.5
    assert web["difference_low"] < 0.5 < web["difference_high"]
    # Cohen's h of 75% and 25% is a third of a circle.
    assert web["effect_h"] == pytest.approx(math.pi / 3)
    age = result.numbers.set_index("attribute").loc["age"]
    assert (age["segment_mean"], age["rest_mean"]) == (20.5, 30.5)
    pooled = math.sqrt((40 * 0.25 + 60 * 0.25) / 98)
    assert age["effect_d"] == pytest.approx(-10 / pooled)
    assert result.traits["attribute"].tolist()[0] == "age"
    assert dict(result.left_out.values.tolist()) == {"channel": "defines the segment", "signup_at": "time"}
    json.dumps(result.findings(), allow_nan=False)


def test_a_segment_is_a_text_a_condition_or_a_table() -> None:
    table = people()
    by_text = describe_segment(table, "channel:ads", columns=["platform"])
    for segment in (table.channel == "ads", lambda t: t.user_id < 40, table.filter(table.user_id < 40)):
        other = describe_segment(table, segment, columns=["platform"], name="channel:ads")
        pd.testing.assert_frame_equal(other.shares, by_text.shares)
    assert other.segment == "channel:ads"


def test_what_defines_the_segment_is_no_trait() -> None:
    """A column that follows the segment's own value by value says nothing new."""
    table = people().mutate(network=ibis._.channel.upper())
    result = describe_segment(table, lambda t: t.channel == "ads")
    reasons = dict(result.left_out.values.tolist())
    assert reasons["network"] == reasons["channel"] == "defines the segment"
    assert "network" not in set(result.shares["attribute"])


@pytest.mark.parametrize(
    ("segment", "side"), [(lambda t: t.user_id < 5, "segment"), (lambda t: t.user_id >= 5, "rest")]
)
def test_small_groups_refuse(segment: object, side: str) -> None:
    result = describe_segment(people(), segment)  # type: ignore[arg-type]
    assert result.note == f"not enough data: 5 users in the {side}, at least 20 needed"
    assert result.shares.empty
    assert result.traits.empty
    json.dumps(result.findings(), allow_nan=False)


def test_alike_groups_have_no_traits() -> None:
    rng = np.random.default_rng(3)
    data = {f"a{i}": rng.choice(["x", "y", "z"], 4000) for i in range(8)} | {"n": rng.normal(size=4000)}
    result = describe_segment(ibis.memtable({"user_id": range(4000)} | data), lambda t: t.user_id < 1500)
    assert result.traits.empty
    assert len(result.shares) == 24


def test_rare_values_count_as_one_and_missing_ones_are_a_value() -> None:
    channels = [f"c{u}" for u in range(10_000)] + ["ads"] * 300 + [None] * 200
    table = ibis.memtable({"user_id": range(10_500), "channel": channels})
    result = describe_segment(table, lambda t: t.user_id % 2 == 0, max_values=3)
    assert result.shares["value"].tolist() == [NOT_GIVEN, OTHER, "ads"]
    assert result.shares["segment_count"].tolist() == [100, 5000, 150]
    assert len(describe_segment(people(), "channel:ads", max_values=2).shares) == 2


def test_constant_and_empty_numbers_are_left_out() -> None:
    table = people().mutate(one=1, none=ibis.null("float64"))
    result = describe_segment(table, "channel:ads")
    reasons = dict(result.left_out.values.tolist())
    assert (reasons["one"], reasons["none"]) == ("no spread", "too few values")


def test_behaviour_by_hand() -> None:
    """Ads' users are active on two of their days and search twice a day, the others on one and once."""
    first = dt.date(2026, 1, 22)
    days = {(u, first) for u in range(90)} | {(u, first + DAY) for u in range(40)}
    days |= {(u, dt.date(2026, 2, 5)) for u in range(90, 100)}
    at = dt.datetime(2026, 1, 22, 9)
    # One user more, or all would be alike and nothing could be told from chance.
    actions = [(u, at) for u in range(90) for _ in range(4 if u < 40 else 1)] + [(0, at)] * 4 + [(89, at)]
    events = ibis.memtable({"user_id": [u for u, _ in actions], "ts": [t for _, t in actions], "event": "search"})
    orders = ibis.memtable(
        {"user_id": [0, 0, 1, 50], "ts": [at, at, dt.datetime(2026, 3, 1), at], "amount": [5.0, 7, 9, 2]}
    )
    result = describe_segment(
        people(),
        "channel:ads",
        period=JANUARY,
        active_days=to_table(days),
        events=events,
        orders=orders,
        calendar=Calendar(),
    )
    numbers = result.numbers.set_index("attribute")
    # From the 22nd to the 31st a user has ten days.
    assert numbers.loc["events_per_active_day: search", ["segment_mean", "rest_mean"]].tolist() == [
        (39 * 2 + 4) / 40,
        (49 + 2) / 50,
    ]
    # Ten of the others came only in February.
    assert numbers["rest_users_count"].to_dict()["orders_count"] == 50
    assert numbers.loc["orders_count", ["segment_mean", "rest_mean"]].tolist() == [2 / 40, 1 / 50]
    assert numbers.loc["order_amount", ["segment_mean", "rest_mean"]].tolist() == [12 / 40, 2 / 50]
    assert dict(result.left_out.values.tolist())["active_rate"] == "no spread"


def test_what_is_missing_for_behaviour_is_said() -> None:
    days = to_table({(1, dt.date(2026, 1, 1))})
    events = ibis.memtable({"user_id": [1], "ts": [dt.datetime(2026, 1, 1)], "event": ["a"]})
    with pytest.raises(InputError, match="period"):
        describe_segment(people(), "channel:ads", active_days=days)
    with pytest.raises(InputError, match="calendar"):
        describe_segment(people(), "channel:ads", active_days=days, period=JANUARY, events=events)
    with pytest.raises(InputError, match="active days"):
        describe_segment(people(), "channel:ads", period=JANUARY, events=events, calendar=Calendar())
    for wrong in ({"segment": "chanel:ads"}, {"segment": "channel:ads", "columns": ["chanel"]}):
        with pytest.raises(InputError, match="Did you mean 'channel'"):
            describe_segment(people(), **wrong)  # type: ignore[arg-type]


@settings(max_examples=20)
@given(user_days, st.integers(0, 100), st.integers(1, 60), st.sets(st.integers(1, 8), min_size=3, max_size=5))
def test_equals_brute_force(days: set[tuple[int, dt.date]], offset: int, length: int, chosen: set[int]) -> None:
    """Forty copies of each of eight users; one event on each active day, two on odd ones."""
    copies = {(100 * u + n, d) for u, d in days for n in range(40)}
    period = Period(START + offset * DAY, START + (offset + length) * DAY, "any")
    users = [100 * u + n for u in range(1, 9) for n in range(40)]
    attributes = ibis.memtable({"user_id": users, "platform": [["web", "ios", None][u % 3] for u in users]})
    actions = sorted((u, d) for u, d in copies for _ in range(1 + d.day % 2))
    events = ibis.memtable(
        {
            "user_id": [u for u, _ in actions],
            "ts": [dt.datetime.combine(d, dt.time(8)) for _, d in actions],
            "event": "act",
        }
    )
    members = ibis.memtable({"user_id": [u for u in users if u // 100 in chosen] + [99_999]})
    result = describe_segment(
        attributes, members, period=period, active_days=to_table(copies), events=events, calendar=Calendar()
    )
    inside = {u for u in users if u // 100 in chosen}
    assert (result.segment_count, result.rest_count) == (len(inside), len(users) - len(inside))
    for row in result.shares.to_dict("records"):
        same = {u for u in users if ["web", "ios", NOT_GIVEN][u % 3] == row["value"]}
        assert (row["segment_count"], row["rest_count"]) == (len(same & inside), len(same - inside))
    first = {u: min(d for v, d in copies if v == u) for u, _ in copies}
    shares, paces = {}, {}
    for user, start in first.items():
        if start < period.end:
            within = [d for u, d in copies if u == user and period.start <= d < period.end]
            shares[user] = len(within) / (period.end - max(start, period.start)).days
            if within:
                paces[user] = sum(1 + d.day % 2 for d in within) / len(within)
    rows = result.numbers.set_index("attribute")
    for name, values in (("active_rate", shares), ("events_per_active_day: act", paces)):
        groups = [[v for u, v in values.items() if (u in inside) == side] for side in (True, False)]
        if name not in rows.index:
            same = min(len(g) for g in groups) < 20 or all(np.ptp(g) < 1e-9 for g in groups)
            assert same
            continue
        row = rows.loc[name]
        assert [row["segment_users_count"], row["rest_users_count"]] == [len(g) for g in groups]
        assert [row["segment_mean"], row["rest_mean"]] == pytest.approx([np.mean(g) for g in groups])
        spread = math.sqrt(sum((len(g) - 1) * np.var(g, ddof=1) for g in groups) / (sum(map(len, groups)) - 2))
        assert row["effect_d"] == pytest.approx((np.mean(groups[0]) - np.mean(groups[1])) / spread, abs=1e-6)


@pytest.mark.shared
def test_telco_churners_as_known(shared: Path) -> None:
    """IBM's telco data: 1,655 of the 1,869 who left had a contract by the month, 2,220 of the 5,174 who did not."""
    frame = pd.read_csv(shared / "real" / "telco_churn" / "Telco-Customer-Churn.csv")
    frame = frame.rename(columns={"customerID": "user_id"}).drop(columns="TotalCharges")
    result = describe_segment(ibis.memtable(frame), "Churn:Yes")
    row = result.shares[result.shares["value"] == "Month-to-month"].iloc[0]
    assert row["segment_count":"rest_users_count"].tolist() == [1655, 1869, 2220, 5174]  # type: ignore[misc]
    tenure = result.numbers.set_index("attribute").loc["tenure"]
    groups = [frame.loc[frame["Churn"] == c, "tenure"] for c in ("Yes", "No")]
    assert (tenure["segment_mean"], tenure["rest_mean"]) == pytest.approx([g.mean() for g in groups])
    assert result.traits.iloc[0]["value"] == "Month-to-month"
    # Sex is no trait of those who leave, as everybody finds in these data.
    assert "gender" not in set(result.traits["attribute"])


@pytest.fixture(scope="module")
def sample() -> Data:
    return open_data(ROOT / "playbook.toml")


def test_portrait_of_the_cheap_network(sample: Data) -> None:
    """The network behind the planted budget shift: all from social, new, and poor buyers."""
    quarter = Period(dt.date(2026, 4, 1), dt.date(2026, 7, 1), "2026Q2")
    result = describe_segment(
        sample.attributes,
        "network:feed_c",
        period=quarter,
        active_days=sample.active_days,
        events=sample.table("events"),
        orders=sample.table("orders"),
        calendar=sample.calendar,
    )
    assert (result.segment_count, result.rest_count) == (920, 29080)
    assert result.traits.iloc[0][["attribute", "value"]].tolist() == ["channel", "social"]
    assert "network" in set(result.left_out["attribute"])
    numbers = result.numbers.set_index("attribute")
    assert numbers.loc["order_amount", "difference_high"] < 0
    assert {"active_rate", "orders_count", "events_per_active_day: app_open"} <= set(numbers.index)
    ages = result.shares[result.shares["attribute"] == "age_band"]
    assert (ages["q_value"] > 0.01).all()

"""Cost by channel and attribute, and concentration: by hand, against brute force and published examples."""

from __future__ import annotations

import datetime as dt

import ibis
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opslib.data.periods import DAY, Period
from opslib.data.source import open_data
from opslib.measure.acquisition import NO_CHANNEL, OTHER, measure_acquisition
from opslib.measure.channels import estimate_concentration, measure_channels
from tests.conftest import ROOT
from tests.measure.streams import START, to_table, user_days

JANUARY = Period(dt.date(2026, 1, 1), dt.date(2026, 2, 1), "January")
FIRST = dt.date(2026, 1, 5)
AS_OF = dt.date(2026, 3, 31)


def name_table(column: str, names: dict[int, str | None]) -> ibis.Table:
    return ibis.memtable(
        {"user_id": list(names), column: list(names.values())}, schema={"user_id": "int64", column: "string"}
    )


def spend_table(amounts: dict[str, float]) -> ibis.Table:
    return ibis.memtable(
        {"date": [FIRST] * len(amounts), "channel": list(amounts), "amount": list(amounts.values())},
        schema={"date": "date", "channel": "string", "amount": "float64"},
    )


def test_by_hand() -> None:
    """60 users; ads cost 400 for 40, of whom 20 are activated, 10 are there on day 7 and 5 on day 30."""
    days = {(u, FIRST) for u in range(60)}
    days |= {(u, FIRST + n * DAY) for u in range(20) for n in (1, 6)} | {(u, FIRST + 7 * DAY) for u in range(10)}
    days |= {(u, FIRST + 30 * DAY) for u in range(5)}
    channels = {u: "ads" if u < 40 else "search" for u in range(60)}
    result = measure_channels(
        to_table(days), JANUARY, as_of=AS_OF, channels=name_table("channel", channels), spend=spend_table({"ads": 400})
    )
    ads, search = (result.by_group.set_index("group").loc[g] for g in ("ads", "search"))
    assert ads[["new_users_count", "activated_count", "d7_count", "d30_count"]].tolist() == [40, 20, 10, 5]
    assert ads[["cac_amount", "cost_per_activated_amount", "cost_per_d7_amount"]].tolist() == [10, 20, 40]
    assert ads["cost_per_d30_amount"] == 80
    assert ads["cost_per_d7_low"] < 40 < ads["cost_per_d7_high"]
    assert (ads["spend_rate"], ads["new_users_rate"]) == (1, pytest.approx(2 / 3))
    assert search.filter(like="cost_per").isna().all()
    assert result.totals["cost_per_d7_amount"].value == 40
    assert result.totals["d7_rate"].denominator == 60
    assert result.concentration["new_users"].index.value == pytest.approx(10_000 * 5 / 9)
    assert (result.concentration["spend"].largest, result.concentration["spend"].largest_rate.value) == ("ads", 1)
    assert result.cac_by_group()["ads"].value == 10
    assert {r["name"] for r in result.findings()} >= {"new_users_hhi", "spend_largest_rate", "cac_amount", "group"}


def test_activation_by_a_named_event_within_seven_days() -> None:
    days = to_table({(u, FIRST) for u in range(30)})
    done = to_table({(u, FIRST + 6 * DAY) for u in range(8)} | {(u, FIRST + 7 * DAY) for u in range(8, 20)})
    assert measure_channels(days, JANUARY, as_of=AS_OF, activation=done).totals["activated_rate"].numerator == 8
    # Day 6, the last of the seven, has not come for anybody: nobody has failed yet.
    early = measure_channels(days, JANUARY, as_of=FIRST + 5 * DAY, activation=done).totals["activated_rate"]
    assert (early.denominator, early.value) == (0, None)


def test_day_7_counts_from_the_day_it_is_over() -> None:
    days = to_table({(u, FIRST) for u in range(30)} | {(u, FIRST + 7 * DAY) for u in range(6)})
    eve, day = (measure_channels(days, JANUARY, as_of=FIRST + n * DAY).totals["d7_rate"] for n in (6, 7))
    assert (eve.denominator, eve.value) == (0, None)
    assert (day.denominator, day.value) == (30, 0.2)


def test_spend_of_a_channel_with_users_of_two_groups_is_split_and_its_costs_are_left_out() -> None:
    days = to_table({(u, FIRST) for u in range(100)})
    channels = {u: "ads" if u < 60 else "wecom" for u in range(100)}
    domains = {u: "public" if u < 30 else "private" for u in range(100)}
    result = measure_channels(
        days,
        JANUARY,
        as_of=AS_OF,
        channels=name_table("channel", channels),
        groups=name_table("group", domains),
        spend=spend_table({"ads": 600.0, "wecom": 40.0, "tv": 5.0}),
    )
    rows = result.by_group.set_index("group")
    assert rows["spend_amount"].to_dict() == {"private": 340, "public": 300, NO_CHANNEL: 5}
    assert rows["split_rate"].to_dict() == {"private": pytest.approx(150 / 340), "public": 0.5, NO_CHANNEL: 0}
    assert rows["cac_amount"].isna().all()
    assert result.cac_by_group().keys() == {NO_CHANNEL}
    assert result.totals["cac_amount"].value == pytest.approx(645 / 100)


def test_one_misnamed_user_does_not_hide_the_costs() -> None:
    days = to_table({(u, FIRST) for u in range(100)})
    domains = {u: "public" if u else "private" for u in range(100)}
    result = measure_channels(
        days,
        JANUARY,
        as_of=AS_OF,
        channels=name_table("channel", dict.fromkeys(range(100), "ads")),
        groups=name_table("group", domains),
        spend=spend_table({"ads": 600.0}),
    )
    rows = result.by_group.set_index("group")
    assert rows.loc["public", "cac_amount"] == 6
    assert pd.isna(rows.loc["private", "cac_amount"])


def test_ten_thousand_channels() -> None:
    """The largest twenty one by one, the rest in one row; nothing is lost."""
    names = {u: f"c{u % 10_000:04}" if u < 20_000 else "big" for u in range(21_000)}
    spend = spend_table({f"c{n:04}": 1.0 for n in range(10_000)})
    result = measure_channels(
        to_table({(u, FIRST) for u in names}),
        JANUARY,
        as_of=AS_OF,
        channels=name_table("channel", names),
        spend=spend,
    )
    frame = result.by_group
    assert (len(frame), frame["group"].iloc[0], frame["group"].iloc[-1]) == (21, "big", OTHER)
    assert result.folded_count == 9981
    assert (frame["new_users_count"].sum(), frame["spend_amount"].sum()) == (21_000, 10_000)
    assert frame["new_users_rate"].sum() == pytest.approx(1)
    assert result.concentration["spend"].index.value == pytest.approx(1)


def test_nothing_to_see() -> None:
    """Nobody new, or one user, or spend alone: an answer, no traceback."""
    old = to_table({(1, dt.date(2025, 1, 1))})
    empty = measure_channels(old, JANUARY, as_of=AS_OF)
    assert empty.by_group.empty
    assert empty.concentration["new_users"].index.value is None
    assert empty.findings()
    only = measure_channels(old, JANUARY, as_of=AS_OF, spend=spend_table({"tv": 9.0}))
    assert only.by_group[["group", "new_users_count", "spend_amount"]].values.tolist() == [["tv", 0, 9.0]]
    assert only.totals["cac_amount"].value is None
    assert measure_channels(to_table({(1, FIRST)}), JANUARY, as_of=FIRST).by_group["d7_mature_count"].tolist() == [0]


@pytest.mark.parametrize(
    ("shares", "index"),
    [
        ([30, 30, 20, 20], 2600),  # U.S. DOJ and FTC, Merger Guidelines
        ([100], 10_000),  # the same: a single firm
        ([25, 25, 25, 25], 2500),
        ([25, 20, 15, 10, 9, 8, 7, 6], 1580),  # a textbook example: eight firms after a merger
    ],
)
def test_published_indices(shares: list[float], index: float) -> None:
    assert estimate_concentration("hhi", shares, known=True).value == pytest.approx(index)


@pytest.mark.parametrize("shares", [(0.4, 0.3, 0.2, 0.1), (0.25,) * 4, (0.01,) * 100])
def test_interval_of_the_index_covers_the_truth(shares: tuple[float, ...]) -> None:
    truth = 10_000 * sum(s * s for s in shares)
    draws = np.random.default_rng(7).multinomial(400, shares, size=600)
    estimates = [estimate_concentration("hhi", draw) for draw in draws]
    covered = np.mean([e.low - 1e-9 <= truth <= e.high for e in estimates])
    assert 0.92 <= covered <= 1
    assert all(e.low <= e.value <= e.high for e in estimates)


@settings(max_examples=25)
@given(
    user_days,
    st.lists(st.sampled_from(["a", "b", None]), min_size=8, max_size=8),
    st.lists(st.sampled_from(["x", "y"]), min_size=8, max_size=8),
    st.integers(12, 110),
)
def test_equals_brute_force(
    days: set[tuple[int, dt.date]], channels: list[str | None], groups: list[str], known: int
) -> None:
    as_of = START + known * DAY
    users = range(1, 9)
    channel, group = (dict(zip(users, names, strict=True)) for names in (channels, groups))
    result = measure_channels(
        to_table(days),
        JANUARY,
        as_of=as_of,
        channels=name_table("channel", channel),
        groups=name_table("group", group),
        spend=spend_table({"a": 90.0, "b": 30.0}),
        active_at_least=2,
    )
    seen = {(u, d) for u, d in days if d <= as_of}
    first = {u: min(d for v, d in seen if v == u) for u, _ in seen}
    new = {u: f for u, f in first.items() if JANUARY.start <= f < JANUARY.end}
    rows = result.by_group.set_index("group")
    spend = {"a": 90.0, "b": 30.0} if as_of >= FIRST else {}
    for g in {group[u] for u in new}:
        mine = [u for u in new if group[u] == g]
        row = rows.loc[g]
        assert row["new_users_count"] == len(mine)
        for n in (7, 30):
            mature = [u for u in mine if new[u] + n * DAY <= as_of]
            assert row[f"d{n}_mature_count"] == len(mature)
            assert row[f"d{n}_count"] == sum((u, new[u] + n * DAY) in seen for u in mature)
        mature = [u for u in mine if new[u] + 6 * DAY <= as_of]
        assert row["activated_mature_count"] == len(mature)
        week = {u: sum((u, new[u] + n * DAY) in seen for n in range(7)) for u in mature}
        assert row["activated_count"] == sum(d >= 2 for d in week.values())
        paid = sum(
            a * sum(channel[u] == c for u in mine) / max(1, sum(channel[u] == c for u in new)) for c, a in spend.items()
        )
        assert row["spend_amount"] == pytest.approx(paid)
    assert rows["spend_amount"].sum() == pytest.approx(sum(spend.values()))
    assert rows["new_users_count"].sum() == len(new)


def test_sample_company_by_domain() -> None:
    """Private users cost less and stay more; both routes to a channel's cost agree; spend adds up."""
    data = open_data(ROOT / "playbook.toml")
    users = data.table("users")
    quarter = Period(dt.date(2026, 4, 1), dt.date(2026, 7, 1), "2026Q2")
    options = {"channels": users.select("user_id", "channel"), "spend": data.table("spend")}
    result = measure_channels(data.active_days, quarter, as_of=data.as_of, **options)
    plain = measure_acquisition(data.active_days, quarter, as_of=data.as_of, **options)
    rows, old = result.by_group.set_index("group"), plain.by_channel.set_index("channel").astype(float)
    for ours, theirs in (("cac_amount", "cac_amount"), ("cost_per_d7_low", "cost_per_retained_low")):
        assert rows[ours].to_dict() == pytest.approx(old[theirs].to_dict(), nan_ok=True)
    assert result.concentration["spend"].largest == "paid_ads"
    domains = measure_channels(
        data.active_days, quarter, as_of=data.as_of, groups=users.select("user_id", group="domain"), **options
    ).by_group.set_index("group")
    assert domains["split_rate"].eq(0).all()
    assert domains.loc["private", "cost_per_d7_high"] < domains.loc["public", "cost_per_d7_low"]
    assert domains.loc["private", "d7_low"] > domains.loc["public", "d7_high"]
    assert domains["spend_amount"].sum() == pytest.approx(rows["spend_amount"].sum())


def test_money_in_decimals() -> None:
    """Databases keep money as decimals, which do not mix with floats."""
    spend = spend_table({"ads": 400.0})
    spend = spend.mutate(amount=spend.amount.cast("decimal(18, 2)"))
    days = to_table({(u, FIRST) for u in range(40)})
    channels = name_table("channel", dict.fromkeys(range(40), "ads"))
    result = measure_channels(days, JANUARY, as_of=AS_OF, channels=channels, spend=spend)
    assert result.totals["cac_amount"].value == 10

"""Win-back plans: by hand, against a plain Python version, holdouts that stay, edges."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from typing import Any

import ibis
import ibis.expr.types as ir
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from opslib.data.source import open_data
from opslib.decide.winback.plan import Offer, WinBackPlan, plan_win_back
from opslib.decide.winback.size import find_detectable_lift
from opslib.errors import InputError
from opslib.measure.recall.arms import assign_arm, draw_lot
from opslib.measure.rfm.rfm import label_customers
from opslib.measure.sample_size import size_rates
from tests.conftest import ROOT

AS_OF = dt.date(2026, 3, 31)
OFFERS = {"dormant": Offer("20% off", 4.0), "potential": "early access"}
CHANNELS = {"sms": 0.05, "push": 0.0}
NAMES = ("dormant", "potential", "high_value")
FRAME = {"user_id": "int64", "segment": "string", "worth": "float64"}
SENT = {"user_id": "int64", "ts": "timestamp", "channel": "string"} | dict.fromkeys(
    ("delivered", "opened", "clicked"), "boolean"
)


def people(rows: list[tuple[Any, ...]]) -> ir.Table:
    """user_id, segment, worth."""
    return ibis.memtable(pd.DataFrame([(*r, None)[:3] for r in rows], columns=list(FRAME)), schema=FRAME)


def sent(rows: list[tuple[Any, ...]]) -> ir.Table:
    """user_id, days ago, channel, delivered, opened, clicked."""
    end = dt.datetime.combine(AS_OF, dt.time()) + dt.timedelta(days=1)
    found = [(u, end - dt.timedelta(days=ago), *rest) for u, ago, *rest in rows]
    return ibis.memtable(pd.DataFrame(found, columns=list(SENT)), schema=SENT)


def plan(segments: ir.Table, messages: ir.Table | None, **options: Any) -> WinBackPlan:
    known = {"as_of": AS_OF, "offers": OFFERS, "channels": CHANNELS, "seed": 7}
    return plan_win_back(segments, messages, **(known | options))


def lot(user: Any, seed: Any) -> str:
    return hashlib.md5(f"{seed}:{user}".encode()).hexdigest()[:8]


def test_each_user_is_somewhere_by_hand() -> None:
    """Seven users, one in each state, and what the treated cost."""
    segments = people(
        [(1, "dormant"), (2, "dormant"), (3, "dormant"), (4, "potential"), (5, "high_value"), (6, "dormant")]
    )
    messages = sent(
        [
            (1, 20, "sms", True, False, False),
            (2, 20, "sms", False, False, False),
            (3, 20, "push", True, False, False),
            *[(3, n, "sms", True, False, False) for n in (1, 2, 3)],
            (4, 10, "sms", True, True, False),
            (4, 10, "push", True, False, False),
            (5, 10, "push", True, True, True),
            (6, 89, "push", True, False, False),
        ]
    )
    result = plan(segments, messages, holdout=0)
    rows = result.segments.set_index("segment")
    assert rows.loc["dormant", ["unreachable_count", "capped_count", "treated_count"]].tolist() == [1, 1, 2]
    assert rows.loc["high_value", "no_offer_count"] == 1
    users = result.users.to_pandas().set_index("user_id")
    # 4 opened an SMS, so push is not taken though it costs nothing; 6 is reached by push alone.
    assert users["channel"].to_dict() == {1: "sms", 4: "sms", 6: "push"}
    assert users["offer"].to_dict() == {1: "20% off", 4: "early access", 6: "20% off"}
    assert result.cost_amount == pytest.approx(4.05 + 0.05 + 4.0)
    reach = result.reach.set_index("channel")
    assert reach["reachable_count"].to_dict() == {"sms": 3, "push": 3}
    assert reach["answered_count"].to_dict() == {"sms": 1, "push": 0}
    assert reach["chosen_count"].to_dict() == {"sms": 2, "push": 2}
    by_channel = result.channels.set_index(["segment", "channel"])
    assert by_channel.loc[("dormant", "push"), "reachable_count"] == 2
    assert by_channel.loc[("dormant", "push"), "capped_count"] == 1
    json.dumps(result.findings(), allow_nan=False)


def test_the_budget_ends_at_the_least_worth() -> None:
    segments = people([(n, "dormant", float(n)) for n in range(10)])
    messages = sent([(n, 5, "sms", True, False, False) for n in range(10)])
    result = plan(segments, messages, holdout=0, value="worth", budget=3 * 4.05)
    assert result.users.to_pandas()["user_id"].tolist() == [9, 8, 7]
    assert (result.cost_amount, result.value_amount) == (pytest.approx(12.15), 24.0)
    assert int(result.segments["over_budget_count"].sum()) == 7
    assert any("budget of 12.15 ends before 7 users" in note for note in result.notes)


def brute(segments: list[Any], messages: list[Any], budget: float | None, holdout: float) -> dict[int, tuple[str, ...]]:
    """The plan in plain Python: user -> segment, channel, arm."""
    found = {}
    for user, segment, worth in segments:
        if segment not in OFFERS:
            continue
        own = [m for m in messages if m[0] == user]
        if sum(0 < ago <= 7 for _, ago, *_ in own) >= 3:
            continue
        near = [m for m in own if 0 < m[1] <= 90 and m[2] in CHANNELS and (m[3] or m[4] or m[5])]
        by = {c: [m for m in near if m[2] == c] for c in CHANNELS}

        def rank(channel: str, by: dict[str, list[Any]] = by) -> tuple[Any, ...]:
            rows = by[channel]
            return (any(m[5] for m in rows), any(m[4] or m[5] for m in rows), -CHANNELS[channel])

        able = [c for c in CHANNELS if by[c]]
        if not able:
            continue
        channel = max(able, key=rank)
        arm = "holdout" if int(lot(user, 7), 16) < round(holdout * 16**8) else "treated"
        cost = CHANNELS[channel] + (4.0 if segment == "dormant" else 0.0)
        past = [-sum(m[5] for m in near), -sum(m[4] or m[5] for m in near), -len(near)]
        worth_key = (worth is None, -(worth or 0.0))
        found[user] = ((*worth_key, *past, lot(user, "7:rank"), user), segment, channel, arm, cost)
    listed, spent = {}, 0.0
    for user, (_, segment, channel, arm, cost) in sorted(found.items(), key=lambda item: item[1][0]):
        if budget is None or not cost or spent + cost <= budget + 1e-9:
            listed[user] = (segment, channel, arm)
        spent += cost if arm == "treated" else 0.0
    return listed


flags = st.booleans()
ages, ways = st.sampled_from([1, 3, 7, 8, 30, 90, 91]), st.sampled_from(["sms", "push", "wecom"])
contacts = st.tuples(st.integers(0, 25), ages, ways, flags, flags, flags)


@given(
    st.lists(st.tuples(st.sampled_from(NAMES), st.none() | st.integers(0, 3).map(float)), min_size=1, max_size=25),
    st.lists(contacts, max_size=60),
    st.sampled_from([None, 0.0, 4.0, 20.0]),
    st.sampled_from([0.0, 0.3, 1.0]),
)
@settings(max_examples=15)
def test_plan_against_plain_python(users: Any, messages: Any, budget: float | None, holdout: float) -> None:
    segments = [(n, *row) for n, row in enumerate(users)]
    result = plan(people(segments), sent(messages), value="worth", budget=budget, holdout=holdout)
    listed = result.users.to_pandas()
    seen = {r.user_id: (r.segment, r.channel, r.arm) for r in listed.itertuples()}
    assert seen == brute(segments, messages, budget, holdout)
    table = result.segments
    states = [c for c in table.columns if c.endswith("_count") and c != "users_count"]
    assert table[states].sum(axis=1).tolist() == table["users_count"].tolist()
    assert int(table["users_count"].sum()) == len(segments)
    assert result.cost_amount == pytest.approx(float(listed["cost_amount"].sum()))
    assert budget is None or result.cost_amount <= budget + 1e-9
    assert not listed.loc[listed["arm"] == "holdout", "cost_amount"].any()


@given(st.lists(st.integers(-(10**12), 10**12), unique=True, min_size=2, max_size=60), st.integers(0, 99), st.data())
@settings(max_examples=20)
def test_holdout_stays_when_the_list_grows_and_rows_move(ids: list[int], seed: int, data: Any) -> None:
    def arms(some: list[int], share: float) -> dict[int, str]:
        table = ibis.memtable({"user_id": some})
        frame = table.select("user_id", arm=assign_arm(table.user_id, holdout=share, seed=seed)).to_pandas()
        return dict(zip(frame["user_id"], frame["arm"], strict=True))

    whole = arms(ids, 0.3)
    part = data.draw(st.permutations(ids))[: len(ids) // 2 + 1]
    assert arms(part, 0.3) == {user: whole[user] for user in part}
    assert whole == {u: "holdout" if int(lot(u, seed), 16) < round(0.3 * 16**8) else "treated" for u in ids}
    # A larger share holds out more users, and nobody fewer.
    more = arms(ids, 0.6)
    assert all(more[u] == "holdout" for u, arm in whole.items() if arm == "holdout")


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5])
@pytest.mark.parametrize("seed", [1, 2, "june"])
def test_shares_are_as_planned(share: float, seed: Any) -> None:
    users = ibis.range(20_000).unnest().name("user_id").as_table()
    held = int(users.filter(assign_arm(users.user_id, holdout=share, seed=seed) == "holdout").count().to_pandas())
    assert binomtest(held, 20_000, share).pvalue > 1e-4


def test_lots_are_the_same_for_all_kinds_of_ids_and_engines() -> None:
    """MD5 of text: whole numbers as texts, whatever they are stored as; what Postgres and Spark are asked."""
    for values in ([1, 2], ["1", "2"], [1.0, 2.0]):
        table = ibis.memtable({"user_id": values})
        assert table.select(x=draw_lot(table.user_id, 7)).to_pandas()["x"].tolist() == [lot(1, 7), lot(2, 7)]
    users = ibis.table({"user_id": "int64"}, name="users")
    for dialect in ("postgres", "pyspark"):
        text = str(ibis.to_sql(users.select(arm=assign_arm(users.user_id, holdout=0.1, seed=7)), dialect=dialect))
        assert "md5(" in text.lower()
        assert "'1999999a'" in text


def test_names_of_segments_change_no_total() -> None:
    rows = [(n, NAMES[n % 2]) for n in range(200)]
    messages = sent([(n, 5, "sms" if n % 3 else "push", True, n % 5 == 0, False) for n in range(180)])
    offers = {"dormant": "x", "potential": "x"}
    first = plan(people(rows), messages, offers=offers, budget=4)
    second = plan(people([(n, {"dormant": "b", "potential": "a"}[s]) for n, s in rows]), messages,
                  offers={"a": "x", "b": "x"}, budget=4)  # fmt: skip
    counts = [c for c in first.segments.columns if c.endswith("_count")]
    assert first.segments[counts].sum().to_dict() == second.segments[counts].sum().to_dict()
    assert first.cost_amount == pytest.approx(second.cost_amount)


def test_arms_do_not_decide_who_the_budget_reaches() -> None:
    """Among users alike, as many of the holdout fit the budget as of the treated."""
    rows = [(n, "dormant") for n in range(6000)]
    result = plan(
        people(rows), sent([(n, 5, "sms", True, False, False) for n in range(6000)]), holdout=0.5, budget=4.05 * 1000
    )
    row = result.segments.iloc[0 if result.segments["segment"].iloc[0] == "dormant" else 1]
    assert row["treated_count"] == 1000
    assert binomtest(int(row["holdout_count"]), int(row["holdout_count"]) + 1000, 0.5).pvalue > 1e-3


def test_what_the_arms_can_show_agrees_with_the_sample_size() -> None:
    """The size that Miller's calculator gives for a rise shows that rise."""
    for base, rise in ((0.2, 0.05), (0.05, 0.02), (0.6, 0.03)):
        users = size_rates(base, rise, ratio=1 / 9)
        assert users is not None
        found = find_detectable_lift(base, round(users / 9), users)
        assert found == pytest.approx(rise, rel=0.01)
    assert find_detectable_lift(0.1, 0, 100) is None
    assert find_detectable_lift(0.1, 19, 1000) is None


def test_edges_get_a_sentence() -> None:
    everybody = people([(n, "dormant") for n in range(30)])
    reached = sent([(n, 20, "sms", True, False, False) for n in range(30)])

    def say(*arguments: Any, **options: Any) -> str:
        result = plan(*arguments, **options)
        json.dumps(result.findings(), allow_nan=False)
        assert len(result.users.to_pandas()) == int(result.segments[["holdout_count", "treated_count"]].sum().sum())
        return " ".join(result.notes)

    assert "There is no messages table" in say(everybody, None)
    assert "Nobody with an offer is reachable" in say(everybody, sent([]))
    assert "Nobody is held out (the share held out is 0)" in say(everybody, reached, holdout=0)
    assert "Everybody is held out" in say(everybody, reached, holdout=1)
    tired = sent([(n, d, "sms", True, False, False) for n in range(30) for d in (1, 2, 3)])
    assert "All 30 reachable users were sent 3 or more messages" in say(everybody, tired)
    assert "There is nobody in the segments" in say(people([]), reached)
    assert "Nobody is in segment 'potential'" in say(everybody, reached)
    assert "Nobody is on the list" in say(everybody, reached, offers={})
    assert "No message went to these users by 'smss'" in say(everybody, reached, channels={"smss": 1})
    assert "Did you mean 'sms'" in say(everybody, reached, channels={"smss": 1})
    assert "Nobody with an offer is reachable" in say(everybody, reached, channels={})
    assert "have no offer" in say(everybody, reached, offers={"dormat": "x"})
    assert "Did you mean 'dormant'" in say(everybody, reached, offers={"dormat": "x"})
    assert say(people([(1, "dormant")]), reached)
    assert "1 rows of the segments name no user" in say(people([(None, "dormant"), (1, None)]), reached)
    assert "what was sent counts as delivered" in say(everybody, reached.drop("delivered", "opened", "clicked"))


def test_wrong_options_are_refused() -> None:
    everybody, reached = people([(1, "dormant")]), sent([])
    for options, words in (
        ({"holdout": 1.5}, "no share"),
        ({"budget": -1}, "below 0"),
        ({"channels": {"sms": -1}}, "costs -1"),
        ({"cap_messages": 0}, "1 or more"),
        ({"value": "worht"}, "Did you mean 'worth'"),
        ({"value": "segment"}, "not numbers"),
        ({"offers": {"dormant": Offer("x", -1)}}, "costs -1"),
    ):
        with pytest.raises(InputError, match=words):
            plan(everybody, reached, **options)
    with pytest.raises(InputError, match="one row and one segment"):
        plan(people([(1, "dormant"), (1, "potential")]), reached)
    with pytest.raises(InputError, match="make them alike"):
        plan(ibis.memtable({"user_id": ["1"], "segment": ["dormant"]}), reached)
    with pytest.raises(InputError, match="no column 'channel'"):
        plan(everybody, reached.drop("channel"))


def test_the_sample_company() -> None:
    """Dormant customers of the sample: reach as the messages table has it."""
    data = open_data(ROOT / "playbook.toml")
    as_of = dt.date(2026, 6, 30)
    labels = label_customers(data.table("orders"), as_of=as_of, calendar=data.calendar)
    segments = labels.select("user_id", segment=labels.tier)
    messages = data.table("messages")
    result = plan_win_back(
        segments, messages, as_of=as_of, calendar=data.calendar, offers={"dormant": Offer("20% off", 6.0)},
        channels={"sms": 0.05, "push": 0.0, "email": 0.0, "wecom": 0.01}, seed="june", cap_days=30,
    )  # fmt: skip
    row = result.segments.set_index("segment").loc["dormant"]
    end = data.calendar.day_start(as_of) + dt.timedelta(days=1)
    near = messages.filter(messages.ts >= end - dt.timedelta(days=90), messages.ts < end).to_pandas()
    dormant = set(segments.filter(segments.segment == "dormant").to_pandas()["user_id"])
    near = near[near["user_id"].isin(dormant)]
    reached = set(near.loc[near["delivered"], "user_id"])
    late = near[near["ts"] >= pd.Timestamp(end - dt.timedelta(days=30))]
    tired = {u for u, n in late.groupby("user_id").size().items() if n >= 3}
    assert row["users_count"] == len(dormant)
    assert row["unreachable_count"] == len(dormant - reached)
    assert row["capped_count"] == len(reached & tired)
    assert row["holdout_count"] + row["treated_count"] == len(reached - tired)
    assert result.rates["holdout_rate"].low < 0.1 < result.rates["holdout_rate"].high

"""The funnel engine against brute force: many random users in one table, so that one query answers for hundreds."""

from __future__ import annotations

import datetime as dt
import random
from typing import Any

import ibis
import ibis.expr.types as ir
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opslib.data.periods import Period
from opslib.measure.funnel.attempts import PackedAttempts
from opslib.measure.funnel.chain import name_arrival
from opslib.measure.funnel.plans import Plan, read_attempts
from opslib.measure.funnel.steps import Exclusion, Step, make_funnel
from tests.measure.test_funnel_brute import Ask, Row, choose, list_attempts

DAY_ONE = dt.datetime(2026, 1, 1)
PERIOD = Period(dt.date(2026, 1, 1), dt.date(2026, 1, 2), "day")
SECOND = 1_000_000
ENTRIES_UNTIL = 24 * 3600 * SECOND
HOUR = 3600 * SECOND
USERS = 120

Streams = dict[int, list[Row]]


def draw_streams(seed: int, names: str) -> Streams:
    """Few moments, so that ties and repeats are common; some after the period's end."""
    random_ = random.Random(seed)
    streams = {}
    for user in range(USERS):
        span = random_.choice([4, 8, 30])
        rows = [
            Row(random_.randrange(span) * HOUR, random_.choice(names), random_.choice(["red", "blue", None]), i)
            for i in range(random_.randint(1, 9))
        ]
        streams[user] = rows
    return streams


def to_table(streams: Streams) -> ir.Table:
    rows = [(u, r) for u, own in streams.items() for r in own]
    # Every event's name is known, also if nobody does it.
    rows += [(-1, Row(-HOUR * 1000, name, None, 0)) for name in "abcxyz"]
    frame = pd.DataFrame(
        {
            "user_id": [u for u, _ in rows],
            "ts": [DAY_ONE + dt.timedelta(microseconds=r.at) for _, r in rows],
            "event": [r.event for _, r in rows],
            "color": pd.array([r.color for _, r in rows], dtype="string"),
        }
    )
    schema = {"user_id": "int64", "ts": "timestamp", "event": "string", "color": "string"}
    return ibis.memtable(frame, schema=schema)


def run(table: ir.Table, ask: Ask, *, attempts: bool, plan: Plan) -> Any:
    """What the engine finds: (user, arrivals) of each unit."""
    span = [dt.timedelta(microseconds=low) if low else None for low, _ in ask.limits]
    most = [None if high is None else dt.timedelta(microseconds=high) for _, high in ask.limits]
    funnel = make_funnel(
        table,
        [Step(e, at_least=a, at_most=b) for e, a, b in zip(ask.events, span, most, strict=True)],
        period=PERIOD,
        as_of=dt.date(2026, 2, 1),
        window=dt.timedelta(microseconds=ask.window),
        order=ask.order,  # type: ignore[arg-type]
        exclusions=[Exclusion(e, after=i, before=j) for e, i, j in ask.exclusions],
        hold="color" if ask.hold else "",
        reentry=ask.reentry,  # type: ignore[arg-type]
    )
    read = read_attempts(table, funnel, "attempts" if attempts else "users", plan=plan)
    assert isinstance(read, PackedAttempts) == (plan == "packed")
    outcomes = read.settle(True).outcomes.to_pandas()
    base = funnel.to_key(DAY_ONE)
    found = []
    for row in outcomes.to_dict("records"):
        arrivals = [row[name_arrival(i + 1)] for i in range(int(row["level"]))]
        found.append((int(row["user_id"]), tuple((int(a) - base) // funnel.scale for a in arrivals)))
    return sorted(found)


def expect(streams: Streams, ask: Ask, *, attempts: bool) -> Any:
    found = []
    for user, rows in streams.items():
        mine = list_attempts(rows, ask, ENTRIES_UNTIL)
        if not attempts:
            best = choose(mine)
            mine = [] if best is None else [best]
        found += [(user, a) for a in mine]
    return sorted(found)


@st.composite
def asks(draw: st.DrawFn) -> Ask:
    order = draw(st.sampled_from(["ordered", "ordered", "strict", "any"]))
    count = draw(st.integers(1, 4))
    events = tuple(draw(st.lists(st.sampled_from("abc"), min_size=count, max_size=count)))
    limits: list[tuple[int, int | None]] = [(0, None)]
    for _ in range(count - 1):
        low = draw(st.sampled_from([0, 0, 0, 1, 2])) if order != "any" else 0
        high = draw(st.sampled_from([None, None, 0, 1, 3])) if order != "any" else None
        limits.append((low * HOUR, None if high is None else max(low, high) * HOUR))
    exclusions: list[tuple[str, int, int]] = []
    if count > 1 and draw(st.booleans()):
        i = draw(st.integers(1, count - 1))
        exclusions = [(draw(st.sampled_from("xyc")), i, draw(st.integers(i + 1, count)))]
    return Ask(
        events,
        draw(st.sampled_from([1, 3, 6, 24])) * HOUR,
        tuple(limits),
        tuple(exclusions),
        order,
        draw(st.booleans()) and draw(st.booleans()),
        draw(st.sampled_from(["every", "every", "first", "after"])),
    )


FUNNELS = {"seed": st.integers(0, 10**6), "ask": asks(), "attempts": st.booleans()}


def check_every_user(seed: int, ask: Ask, attempts: bool, plan: Plan) -> None:
    streams = draw_streams(seed, "abcx")
    if attempts:
        streams = keep_moments_apart(streams)
    ours = run(to_table(streams), ask, attempts=attempts, plan=plan)
    assert ours == expect(streams, ask, attempts=attempts)


@settings(max_examples=30)
@given(**FUNNELS, plan=st.sampled_from(["packed", "packed", "windows"]))
def test_every_user_is_as_brute_force_says(seed: int, ask: Ask, attempts: bool, plan: Plan) -> None:
    """Arrivals of every user (or attempt): 30 funnels of all kinds with 120 users each, by both plans."""
    check_every_user(seed, ask, attempts, plan)


@pytest.mark.slow
@pytest.mark.parametrize("plan", ["packed", "windows"])
@settings(max_examples=500)
@given(**FUNNELS)
def test_every_user_of_five_hundred_funnels(plan: Plan, seed: int, ask: Ask, attempts: bool) -> None:
    check_every_user(seed, ask, attempts, plan)


def keep_moments_apart(streams: Streams) -> Streams:
    """Attempts are told apart by their first moment: no two events of a user have the same."""
    return {
        user: [Row(r.at + i * SECOND, r.event, r.color, r.number) for i, r in enumerate(rows)]
        for user, rows in streams.items()
    }


@settings(max_examples=6)
@given(seed=st.integers(0, 10**6), ask=asks())
def test_both_plans_agree(seed: int, ask: Ask) -> None:
    table = to_table(draw_streams(seed, "abcx"))
    assert run(table, ask, attempts=True, plan="packed") == run(table, ask, attempts=True, plan="windows")


@pytest.mark.parametrize("order", ["ordered", "strict", "any"])
def test_the_oracle_itself_by_hand(order: str) -> None:
    """a at 0 and 1, b at 2, c at 3: attempts from both entries, but strictly only from the second."""
    rows = [Row(t * HOUR, e, None, i) for i, (t, e) in enumerate([(0, "a"), (1, "a"), (2, "b"), (3, "c")])]
    ask = Ask(("a", "b", "c"), 3 * HOUR, ((0, None),) * 3, order=order)
    found = list_attempts(rows, ask, ENTRIES_UNTIL)
    assert choose(found) == (HOUR, 2 * HOUR, 3 * HOUR)
    assert len(found[0]) == (1 if order == "strict" else 3)

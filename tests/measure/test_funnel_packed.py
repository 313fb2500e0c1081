"""Packing events into numbers: exact whatever the times and the users' names are, or left to the other plan."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any

import ibis
import ibis.expr.types as ir
import pytest

from opslib.data.periods import Period
from opslib.errors import InputError
from opslib.measure.funnel import attempts as funnel_attempts
from opslib.measure.funnel import packed as funnel_packed
from opslib.measure.funnel.attempts import PackedAttempts, PartedAttempts
from opslib.measure.funnel.funnel import measure_funnel
from opslib.measure.funnel.plans import EngineAttempts, read_attempts
from opslib.measure.funnel.steps import Step, make_funnel
from tests.measure.test_funnel_oracle import DAY_ONE, draw_streams, to_table

PERIOD = Period(dt.date(2026, 1, 1), dt.date(2026, 1, 2), "day")
ASKED: dict[str, Any] = {"period": PERIOD, "as_of": dt.date(2026, 1, 1), "window": dt.timedelta(hours=6)}
OPTIONS: list[dict[str, Any]] = [
    {},
    {"order": "strict"},
    {"order": "any"},
    {"hold": "color"},
    {"unit": "sessions", "session": "color"},
    {"unit": "attempts", "reentry": "after"},
    {"exclusions": ["x"], "trend": "hour"},
    {"breakdown": "color", "attribution": "last", "trend": "24h"},
]


def read(table: ir.Table, **options: Any) -> Any:
    return read_attempts(table, make_funnel(table, "abc", **ASKED, **options), "users", plan="packed")


def results(table: ir.Table, plan: Any, options: dict[str, Any]) -> list[Any]:
    result = measure_funnel(table, "abc", **ASKED, **options, minimum=1, plan=plan)
    frames = (result.steps, result.by_segment, result.times, result.histogram, result.trend)
    return [result.excluded_count, *(None if f is None else f.to_csv(index=False, float_format="%.9f") for f in frames)]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_both_plans_give_the_same_result(options: dict[str, Any]) -> None:
    """Open windows too: what is known ends with the period."""
    table = to_table(draw_streams(5, "abcx"))
    assert results(table, "packed", options) == results(table, "windows", options)


@pytest.mark.parametrize(
    ("micros", "resolution"), [(0, 1_000_000), (1_000_000, 1_000_000), (7_000, 1_000), (1, 1), (1_500, 1)]
)
def test_times_are_kept_in_the_coarsest_unit_that_is_exact(micros: int, resolution: int) -> None:
    """Only some users' times are so fine, and those a window apart to the microsecond still count."""
    table = to_table(draw_streams(1, "abc"))
    late = ibis.ifelse(table.user_id == 77, micros, 0)
    table = table.mutate(ts=table.ts + late.as_interval("us")).cache()
    assert read(table).packed.layout.resolution == resolution
    assert results(table, "packed", {}) == results(table, "windows", {})


NAMES: list[Callable[[Any], Any]] = [
    lambda user: "user " + user.cast("string"),
    lambda user: -5 - user,
    lambda user: user.cast("int64") * (1 << 50) - (1 << 56),
    lambda user: user.cast("int16"),
    lambda user: ibis.ifelse(user % 7 == 0, ibis.null("int64"), user),
]


@pytest.mark.parametrize("name", range(len(NAMES)))
def test_users_by_any_name(name: int) -> None:
    table = to_table(draw_streams(2, "abcx"))
    named = table.mutate(user_id=NAMES[name](table.user_id)).cache()
    for options in ({"hold": "color"}, {"unit": "attempts"}):
        assert results(named, "packed", options) == results(named, "windows", options)
    assert read(named).settle(True).outcomes["user_id"].type() == named["user_id"].type()


def test_more_parts_where_bits_are_few_and_else_the_other_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    table = to_table(draw_streams(3, "abcx"))
    tried = [OPTIONS[3], OPTIONS[7]]
    expected = {str(o): results(table, "windows", o) for o in tried}
    seen = set()
    for word in (14, 24, 25, 26, 28, 40):
        monkeypatch.setattr(funnel_packed, "WORD", word)
        found = read(table)
        seen.add(len(found.packed.lines) if isinstance(found, PackedAttempts) else 0)
        assert isinstance(found, PackedAttempts | EngineAttempts)
        for options in tried if word % 4 == 0 else ():
            assert results(table, None, options) == expected[str(options)]
    assert seen >= {0, 1, 4}


def test_pieces_batches_and_users_in_parts_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """As with millions of events, and with more of them than memory holds."""
    table = to_table(draw_streams(4, "abcx"))
    named = table.mutate(user_id=NAMES[0](table.user_id)).cache()
    tried = [OPTIONS[i] for i in (6, 7)]
    expected = [results(table, "packed", o) for o in tried]
    monkeypatch.setattr(funnel_packed, "PIECE", 40)
    monkeypatch.setattr(funnel_packed, "BATCH", 64)
    assert len(read(table).packed.lines) > 5
    assert [results(table, "packed", o) for o in tried] == expected
    part = funnel_attempts.BYTES_PER_EVENT * 220 / funnel_attempts.PART_OF_MEMORY
    monkeypatch.setattr(funnel_attempts, "read_memory_limit", lambda engine: part)
    for one in (table, named):
        parted = read(one)
        assert isinstance(parted, PartedAttempts)
        assert parted.parts > 1
        assert [results(one, "packed", o) for o in tried[-1:]] == expected[-1:]


BREAKDOWNS: list[dict[str, Any]] = [
    {"attribution": "first"},
    {"attribution": "last"},
    {"attribution": 2},
    {"attribution": "last", "order": "any"},
    {"attribution": 3, "exclusions": ["x"], "unit": "attempts"},
    {"attribution": "first", "unit": "sessions", "session": "shop"},
]


@pytest.mark.parametrize("options", BREAKDOWNS, ids=str)
def test_carried_values_are_those_of_a_join(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Several values in one moment too, some of them missing, of events that different filters take."""
    table = to_table(draw_streams(6, "abcx"))
    table = table.mutate(shop=(table.user_id % 3).cast("string")).cache()
    asked = {**options, "breakdown": "color"}
    label = ("color", options["attribution"])
    funnel = make_funnel(table, "abc", **ASKED, value="color", order=options.get("order", "ordered"))
    assert read_attempts(table, funnel, "users", label=label).settle(True).labelled
    expected = results(table, "windows", asked)
    assert results(table, "packed", asked) == expected
    monkeypatch.setattr(funnel_packed, "MOST_VALUES", 1)
    assert not read_attempts(table, funnel, "users", label=label).settle(True).labelled
    assert results(table, "packed", asked) == expected


def test_values_of_any_type_none_at_all_and_no_bits_left_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    table = to_table(draw_streams(7, "abc"))
    kinds = {"number": table.user_id % 4, "none": ibis.null("string"), "text": "値 " + table.color}
    table = table.mutate(**kinds).cache()
    for column in kinds:
        asked = {"breakdown": column, "attribution": "last"}
        assert results(table, "packed", asked) == results(table, "windows", asked)
    asked = {"breakdown": "number"}
    expected = results(table, "windows", asked)
    for word in (20, 24):
        monkeypatch.setattr(funnel_packed, "WORD", word)
        assert results(table, "packed", asked) == expected


def test_steps_that_share_events_leave_the_breakdown_to_the_engine() -> None:
    table = to_table(draw_streams(8, "abc"))
    found = [
        measure_funnel(table, "aab", **ASKED, breakdown="color", minimum=1, plan=plan).by_segment
        for plan in ("packed", "windows")
    ]
    assert found[0] is not None
    assert found[0].equals(found[1])


def test_another_plan_is_refused() -> None:
    with pytest.raises(InputError, match="packed, windows"):
        results(to_table(draw_streams(5, "abc")), "pakced", {})


def test_the_connection_is_left_as_it_was() -> None:
    table = to_table(draw_streams(5, "abc"))
    backend = ibis.get_backend(table)
    ask = "SELECT current_setting('streaming_buffer_size')"
    before = backend.raw_sql(ask).fetchone()
    read(table)
    assert backend.raw_sql(ask).fetchone() == before


def test_an_event_at_the_last_microsecond_of_the_window() -> None:
    rows = {"user_id": ["u", "u", "v", "v"], "event": ["a", "b", "a", "b"]}
    start, window = DAY_ONE, dt.timedelta(hours=6)
    ends = [window, window + dt.timedelta(microseconds=1)]
    table = ibis.memtable({**rows, "ts": [start, start + ends[0], start, start + ends[1]]})
    for plan in ("packed", "windows"):
        result = measure_funnel(table, ["a", Step("b")], **(ASKED | {"as_of": dt.date(2026, 1, 9)}), plan=plan)  # type: ignore[arg-type]
        assert result.steps["converted_count"].tolist() == [2, 1]

"""Packing events into numbers: exact whatever the times and the users' names are, or left to the other plan."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any

import ibis
import ibis.expr.types as ir
import pytest

from opslib.data.periods import Period
from opslib.measure import funnel_packed
from opslib.measure.funnel import measure_funnel
from opslib.measure.funnel_plans import EngineAttempts, PackedAttempts, read_attempts
from opslib.measure.funnel_steps import Step, make_funnel
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
    for options in ({}, {"hold": "color"}, {"unit": "attempts"}):
        assert results(named, "packed", options) == results(named, "windows", options)
    assert read(named).settle(True).outcomes["user_id"].type() == named["user_id"].type()


def test_more_parts_where_bits_are_few_and_else_the_other_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    table = to_table(draw_streams(3, "abcx"))
    expected = {str(o): results(table, "windows", o) for o in OPTIONS}
    seen = set()
    for word in (18, 24, 25, 26, 28, 40):
        monkeypatch.setattr(funnel_packed, "WORD", word)
        found = read(table)
        seen.add(len(found.packed.lines) if isinstance(found, PackedAttempts) else 0)
        assert isinstance(found, PackedAttempts | EngineAttempts)
        for options in OPTIONS if word % 4 == 0 else ():
            assert results(table, None, options) == expected[str(options)]
    assert seen >= {0, 2, 4}


def test_an_event_at_the_last_microsecond_of_the_window() -> None:
    rows = {"user_id": ["u", "u", "v", "v"], "event": ["a", "b", "a", "b"]}
    start, window = DAY_ONE, dt.timedelta(hours=6)
    ends = [window, window + dt.timedelta(microseconds=1)]
    table = ibis.memtable({**rows, "ts": [start, start + ends[0], start, start + ends[1]]})
    for plan in ("packed", "windows"):
        result = measure_funnel(table, ["a", Step("b")], **(ASKED | {"as_of": dt.date(2026, 1, 9)}), plan=plan)  # type: ignore[arg-type]
        assert result.steps["converted_count"].tolist() == [2, 1]

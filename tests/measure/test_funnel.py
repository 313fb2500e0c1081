"""Funnels by hand, on the sample company, and against published numbers."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

import ibis
import ibis.expr.types as ir
import pandas as pd
import pytest

from opslib.data.periods import DAY, Calendar, Period
from opslib.data.source import open_data
from opslib.errors import InputError
from opslib.measure.funnel import plans as funnel_plans
from opslib.measure.funnel.follow import compare_funnels, list_dropped_users, measure_conversion_curve
from opslib.measure.funnel.funnel import measure_funnel
from opslib.measure.funnel.steps import Exclusion, Step
from opslib.measure.funnel.times import estimate_curve
from tests.conftest import ROOT

JANUARY = Period(dt.date(2026, 1, 1), dt.date(2026, 2, 1), "January")
LATER = dt.date(2026, 3, 31)
HOUR = dt.timedelta(hours=1)
FIRST = dt.datetime(2026, 1, 1)
Events = list[tuple[int, float, str]]


@pytest.fixture(autouse=True, params=["packed", "windows"])
def plan(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Every test on both plans: as it is chosen for DuckDB, and all in the engine."""
    if request.param == "windows":
        monkeypatch.setattr(funnel_plans, "choose_plan", lambda *_: "windows")
    return str(request.param)


def to_events(rows: Events, **columns: list[Any]) -> ir.Table:
    """user_id, hours after the start of January, event."""
    frame = pd.DataFrame(
        {
            "user_id": [u for u, _, _ in rows],
            "ts": [FIRST + h * HOUR for _, h, _ in rows],
            "event": [e for _, _, e in rows],
            **columns,
        }
    )
    return ibis.memtable(
        frame, schema={"user_id": "int64", "ts": "timestamp", "event": "string"} | dict.fromkeys(columns, "string")
    )


def count(events: ir.Table, steps: Any, **options: Any) -> list[int]:
    return (
        measure_funnel(events, steps, **{"period": JANUARY, "as_of": LATER, **options})
        .steps["converted_count"]
        .tolist()
    )


def test_the_window_counts_from_the_entry_and_its_end_belongs_to_it() -> None:
    rows: Events = [(1, 0, "a"), (1, 12, "b"), (1, 24, "c"), (2, 0, "a"), (2, 12, "b"), (2, 24.001, "c")]
    assert count(to_events(rows), "abc", window=DAY) == [2, 2, 1]


def test_a_later_entry_may_do_better_and_later_steps_may_follow_the_period() -> None:
    last = 31 * 24 - 1
    rows: Events = [(1, 0, "a"), (1, 200, "a"), (1, 201, "b"), (2, last, "a"), (2, last + 20, "b"), (3, last + 2, "a")]
    assert count(to_events(rows), "ab") == [2, 2]


def test_equal_times_convert_and_one_event_fills_one_step() -> None:
    rows: Events = [(1, 5, "b"), (1, 5, "a"), (2, 5, "a"), (2, 5, "a"), (3, 5, "a")]
    assert count(to_events(rows), "ab") == [3, 1]
    assert count(to_events(rows), "aa") == [3, 1]
    assert count(to_events(rows), ["a", "b", "a"]) == [3, 1, 0]


def test_limits_between_steps_look_at_every_way_through() -> None:
    """The first b is too early for c within an hour; the second is not."""
    rows: Events = [(1, 0, "a"), (1, 1, "b"), (1, 5, "b"), (1, 6, "c")]
    assert count(to_events(rows), ["a", "b", Step("c", at_most=HOUR)]) == [1, 1, 1]
    assert count(to_events(rows), ["a", "b", Step("c", at_least=2 * HOUR)]) == [1, 1, 1]
    assert count(to_events(rows), ["a", Step("b", at_most=HOUR / 2), "c"]) == [1, 0, 0]


def test_an_event_used_on_the_way_that_a_limit_forces_is_not_used_again() -> None:
    """Only the second b lets a follow at once, and so the last step has no b left."""
    rows: Events = [(1, 0, "a"), (1, 0, "b"), (1, 1, "a"), (1, 1, "b")]
    assert count(to_events(rows), ["a", "b", Step("a", at_most=0 * HOUR), "b"], window=HOUR) == [1, 1, 1, 0]


def test_steps_held_to_one_property_and_filtered_by_another() -> None:
    rows: Events = [(1, 0, "a"), (1, 1, "b"), (2, 0, "a"), (2, 1, "b")]
    events = to_events(rows, item=["x", "y", "x", "x"], shop=["n", "n", "s", "n"])
    assert count(events, "ab", hold="item") == [2, 1]
    assert count(events, [Step("a", {"shop": "s"}), "b"]) == [1, 1]
    assert count(events, [Step("a", lambda t: t.shop.isin(["s", "n"])), Step("b", {"item": ["y", "z"]})]) == [2, 1]


def test_an_exclusion_removes_the_user_unless_another_attempt_is_clean() -> None:
    rows: Events = [(1, 0, "a"), (1, 1, "x"), (1, 2, "b"), (2, 0, "a"), (2, 1, "x"), (2, 2, "a"), (2, 3, "b")]
    result = measure_funnel(to_events(rows), "ab", exclusions=["x"], period=JANUARY, as_of=LATER)
    assert result.steps["converted_count"].tolist() == [1, 1]
    assert result.excluded_count == 1
    with pytest.raises(InputError, match="numbers of two steps"):
        count(to_events(rows), "ab", exclusions=[Exclusion("x", after=2)])


def test_attempts_by_re_entry_policy() -> None:
    rows: Events = [(1, 0, "a"), (1, 1, "a"), (1, 2, "b"), (1, 3, "a"), (1, 4, "b")]
    assert count(to_events(rows), "ab", unit="attempts") == [3, 3]
    assert count(to_events(rows), "ab", unit="attempts", reentry="after") == [2, 2]
    assert count(to_events(rows), "ab", unit="attempts", reentry="first") == [1, 1]
    sessions = to_events(rows, session_id=["s", "s", "s", "t", "u"])
    assert count(sessions, "ab", unit="sessions") == [2, 1]


def test_breakdown_by_first_last_and_numbered_step_adds_up() -> None:
    rows: Events = [(1, 0, "a"), (1, 1, "b"), (2, 0, "a"), (3, 0, "a"), (3, 1, "b")]
    events = to_events(rows, kind=["p", "q", "p", None, "p"])
    found = {}
    for attribution in ("first", "last", 2):
        result = measure_funnel(
            events,
            "ab",
            breakdown="kind",
            attribution=attribution,
            period=JANUARY,
            as_of=LATER,  # type: ignore[arg-type]
        )
        assert result.by_segment is not None
        parts = result.by_segment.groupby("step")["converted_count"].sum().tolist()
        assert parts == result.steps["converted_count"].tolist()
        found[attribution] = result.by_segment.set_index(["segment", "step"])["converted_count"].to_dict()
    assert found["first"] == {("p", 1): 2, ("p", 2): 1, ("(not given)", 1): 1, ("(not given)", 2): 1}
    assert found["last"][("q", 2)] == found["last"][("p", 2)] == 1
    assert found[2][("(not reached)", 1)] == 1
    users = ibis.memtable({"user_id": [1, 2], "tier": ["gold", "gold"]})
    result = measure_funnel(events, "ab", breakdown="tier", attributes=users, period=JANUARY, as_of=LATER)
    assert result.estimate(2, segment="gold").numerator == 1


def test_open_windows_are_counted_apart_and_never_as_a_loss() -> None:
    """Known until the end of the 20th: who entered in the last week has had no whole window, converted or not."""
    rows: Events = [(u, 24.0 * 5, "a") for u in range(30)] + [(u, 24.0 * 6, "b") for u in range(15)]
    rows += [(u, 24.0 * 18, "a") for u in range(30, 50)] + [(u, 24.0 * 19, "b") for u in range(30, 34)]
    result = measure_funnel(to_events(rows), "ab", period=JANUARY, as_of=dt.date(2026, 1, 20), trend="day")
    assert result.steps[
        ["entered_count", "converted_count", "dropped_count", "immature_count"]
    ].to_numpy().tolist() == [
        [30, 30, 0, 20],
        [30, 15, 15, 20],
    ]
    assert result.trend is not None
    assert result.trend["entered_count"].tolist() == [30, 20]
    assert result.trend["mature"].tolist() == [True, False]
    assert result.trend["converted_count"].isna().tolist() == [False, True]
    assert any("whose window is not over" in note for note in result.notes)
    curve = measure_conversion_curve(to_events(rows), "ab", period=JANUARY, as_of=dt.date(2026, 1, 20))
    assert (curve.users_count, curve.converted_count, curve.open_count) == (50, 19, 16)
    assert curve.curve["converted_rate"].max() == pytest.approx(19 / 50)


def test_kaplan_meier_of_the_leukemia_trial() -> None:
    """Outside reference: 6-MP arm of Freireich et al. (1963), as in Kalbfleisch and Prentice and every textbook."""
    converted = {6: 3, 7: 1, 10: 1, 13: 1, 16: 1, 22: 1, 23: 1}
    censored = {6: 1, 9: 1, 10: 1, 11: 1, 17: 1, 19: 1, 20: 1, 25: 1, 32: 2, 34: 1, 35: 1}
    weeks = range(36)
    risk, rate, _, _ = estimate_curve([converted.get(w, 0) for w in weeks], [censored.get(w, 0) for w in weeks])
    assert [int(risk[w]) for w in (6, 7, 10, 13, 16, 22, 23)] == [21, 17, 15, 12, 11, 7, 6]
    left = [round(float(1 - rate[w]), 3) for w in (6, 7, 10, 13, 16, 22, 23)]
    assert left == [0.857, 0.807, 0.753, 0.690, 0.627, 0.538, 0.448]


def test_one_user_nobody_and_a_step_that_never_happens() -> None:
    events = to_events([(1, 0, "a"), (1, -9000, "b")])
    for order in ("ordered", "strict", "any"):
        result = measure_funnel(events, "ab", order=order, period=JANUARY, as_of=LATER, trend="week")  # type: ignore[arg-type]
        assert result.steps["converted_count"].tolist() == [1, 0]
        assert not result.estimate(2).known
        assert "did not happen" in result.notes[0]
        json.dumps(result.findings(), allow_nan=False)
    nobody = Period(dt.date(2027, 1, 1), dt.date(2027, 1, 2), "nobody")
    empty = measure_funnel(events, "ab", period=nobody, as_of=dt.date(2027, 3, 1), breakdown="event", trend="day")
    assert empty.steps["converted_count"].tolist() == [0, 0]
    assert any("no users" in note for note in empty.notes)
    curve = measure_conversion_curve(events, "ab", period=nobody, as_of=dt.date(2027, 3, 1))
    assert curve.findings() == []
    assert measure_funnel(events, "a", period=JANUARY, as_of=LATER).times.empty


def test_mistakes_are_said_in_a_sentence() -> None:
    events = to_events([(1, 0, "checkout"), (1, 1, "pay")])
    with pytest.raises(InputError, match="Did you mean 'checkout'"):
        count(events, ["chekout", "pay"])
    with pytest.raises(InputError, match="Did you mean 'ordered'"):
        count(events, ["checkout", "pay"], order="orderd")
    with pytest.raises(InputError, match="no column 'colour'"):
        count(events, ["checkout", "pay"], hold="colour")
    with pytest.raises(InputError, match="1 to 20 steps"):
        count(events, [])
    with pytest.raises(InputError, match="Nobody can drop"):
        list_dropped_users(events, ["checkout", "pay"], step=1, period=JANUARY, as_of=LATER)


@pytest.fixture(scope="module")
def sample() -> Any:
    return open_data(ROOT / "playbook.toml")


def measure_checkout(sample: Any, start: str, end: str, **options: Any) -> Any:
    period = Period(dt.date.fromisoformat(start), dt.date.fromisoformat(end), start)
    known: dict[str, Any] = {"period": period, "as_of": sample.as_of, "calendar": sample.calendar, "window": DAY}
    return measure_funnel(sample.table("events"), ["begin_checkout", "pay"], **known, **options)


def test_the_planted_checkout_bug_to_the_session(sample: Any) -> None:
    """Sessions that paid, of those with a checkout: everybody's numbers as planted, and the version stands out."""
    truth = json.loads((ROOT / "data" / "samples" / "truth.json").read_text())["incidents"]
    cells = next(i for i in truth if i["id"] == "checkout_bug")["changes"][0]["realised"]["cells"]
    during = measure_checkout(sample, "2026-05-11", "2026-06-15", unit="sessions", breakdown="app_version")
    before = measure_checkout(sample, "2026-04-06", "2026-05-11", unit="sessions")
    both = [sum(cells[f"{part}_during"][k] for part in ("segment", "rest")) for k in ("denominator", "numerator")]
    assert during.steps["converted_count"].tolist() == both
    old = cells["rest_before"]
    assert before.steps["converted_count"].tolist() == [old["denominator"], old["numerator"]]
    assert during.by_segment.sort_values("step_rate").iloc[0]["segment"] == "5.3.0"
    change = compare_funnels(during, before).change(2)
    assert change.clear
    assert change.high is not None
    assert change.high < 0
    with pytest.raises(InputError, match="cannot be compared"):
        compare_funnels(during, measure_checkout(sample, "2026-04-06", "2026-05-11"))


def test_the_list_of_who_dropped_is_as_long_as_the_count(sample: Any) -> None:
    result = measure_checkout(sample, "2026-05-11", "2026-06-15")
    options: dict[str, Any] = {"as_of": sample.as_of, "calendar": sample.calendar, "window": DAY}
    listed = list_dropped_users(
        sample.table("events"), ["begin_checkout", "pay"], step=2, period=result.period, **options
    )
    assert isinstance(listed, ir.Table)
    assert listed.count().to_pandas() == result.steps["dropped_count"].iloc[1]


@pytest.mark.shared
def test_from_a_first_order_to_the_next_on_online_retail(shared: Any) -> None:
    """Real data, against plain pandas: customers of December 2010 who ordered again within 30 days of an order."""
    lines = pd.read_parquet(shared / "real" / "online_retail" / "online_retail.parquet")
    lines = lines[lines["CustomerID"].notna() & ~lines["InvoiceNo"].astype(str).str.startswith("C")]
    orders = lines.groupby("InvoiceNo", as_index=False).agg({"CustomerID": "first", "InvoiceDate": "min"})
    frame = pd.DataFrame(
        {
            "user_id": orders["CustomerID"].astype("int64"),
            "ts": pd.to_datetime(orders["InvoiceDate"]).astype("datetime64[us]"),
            "event": "order",
        }
    )
    december = Period(dt.date(2010, 12, 1), dt.date(2011, 1, 1), "December")
    result = measure_funnel(
        ibis.memtable(frame), ["order", "order"], period=december, as_of=dt.date(2011, 6, 30), window=30 * DAY
    )
    ordered = frame.sort_values(["user_id", "ts"])
    gap = ordered.groupby("user_id")["ts"].shift(-1) - ordered["ts"]
    inside = ordered["ts"] < pd.Timestamp(2011, 1, 1)
    again = ordered.loc[inside & (gap <= pd.Timedelta(days=30)), "user_id"].nunique()
    assert result.steps["converted_count"].tolist() == [ordered.loc[inside, "user_id"].nunique(), again]
    assert 0 < again < result.steps["converted_count"].iloc[0]


def test_days_are_those_of_the_calendar() -> None:
    """20:00 UTC of the last of December is the first of January in Shanghai."""
    calendar = Calendar("Asia/Shanghai", 0, dt.datetime(2025, 12, 1), dt.datetime(2026, 4, 1))
    events = to_events([(1, -4, "a"), (1, -3, "b"), (2, 31 * 24 - 4, "a")])
    assert count(events, "ab", calendar=calendar) == [1, 1]
    assert count(events, "ab") == [1, 0]

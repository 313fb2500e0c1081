"""Days active, intervals, segments: by hand, against brute force and against PostHog's stickiness cases."""

from __future__ import annotations

import datetime as dt
import json
from collections import Counter
from pathlib import Path

import ibis
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opslib.data.periods import DAY, Period
from opslib.data.source import open_data
from opslib.measure.activity import (
    NOT_GIVEN,
    OTHER,
    count_active_intervals,
    label_segments,
    measure_activity,
    measure_activity_by_segment,
    measure_days_active,
    measure_stickiness,
)
from opslib.measure.grains import Grain, floor_day, list_starts
from tests.conftest import ROOT
from tests.measure.streams import START, to_table, user_days

Days = set[tuple[int, dt.date]]


@settings(max_examples=20)
@given(user_days, st.integers(0, 120), st.integers(1, 40))
def test_days_active_equal_brute_force(days: Days, offset: int, length: int) -> None:
    last = START + offset * DAY
    result = measure_days_active(to_table(days), last_day=last, length=length)
    totals = Counter(Counter(u for u, d in days if last - length * DAY < d <= last).values())
    frame = result.distribution
    assert frame["active_days_count"].tolist() == list(range(1, length + 1))
    assert frame["users_count"].tolist() == [totals[n] for n in range(1, length + 1)]
    assert frame["at_least_count"].tolist() == [
        sum(v for k, v in totals.items() if k >= n) for n in range(1, length + 1)
    ]


def test_mean_days_and_stickiness_are_those_of_the_users() -> None:
    last = dt.date(2026, 3, 28)
    days = {(u, last - n * DAY) for u in range(30) for n in range(1 + u % 7)}
    result = measure_days_active(to_table(days), last_day=last)
    mean = sum(1 + u % 7 for u in range(30)) / 30
    assert result.mean_days.value == pytest.approx(mean)
    assert result.stickiness.value == pytest.approx(mean / 28)
    assert result.stickiness == measure_stickiness(to_table(days), last)
    assert len(result.findings()) == 30


def test_nobody_active_is_missing_not_zero() -> None:
    result = measure_days_active(to_table({(1, START)}), last_day=dt.date(2030, 1, 1))
    assert result.distribution["users_count"].sum() == 0
    assert result.distribution["users_rate"].isna().all()
    assert "not enough data" in result.mean_days.note


def test_a_length_below_one_day_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one day"):
        measure_days_active(to_table({(1, START)}), last_day=START, length=0)
    with pytest.raises(ValueError, match="at least one period"):
        count_active_intervals(to_table({(1, START)}), Period(START, START + DAY, ""), every=0)


@settings(max_examples=30)
@given(
    st.lists(st.tuples(st.integers(1, 6), st.integers(0, 70)), min_size=1, max_size=50),
    st.integers(0, 40),
    st.integers(1, 60),
    st.sampled_from(["day", "week", "month"]),
    st.integers(1, 4),
    st.sampled_from([None, ("at_least", 2), ("at_most", 1), ("exactly", 2)]),
    st.booleans(),
)
def test_intervals_equal_brute_force(
    rows: list[tuple[int, int]],
    offset: int,
    length: int,
    grain: Grain,
    every: int,
    criterion: tuple | None,
    cumulative: bool,
) -> None:
    events = [(u, START + n * DAY) for u, n in rows]
    period = Period(START + offset * DAY, START + (offset + length) * DAY, "any")
    table = ibis.memtable(
        {"user_id": [u for u, _ in events], "day": [d for _, d in events]}, schema={"user_id": "int64", "day": "date"}
    )
    got = count_active_intervals(table, period, grain=grain, every=every, criterion=criterion, cumulative=cumulative)[
        "users_count"
    ].tolist()
    starts = list_starts(period, grain)[:-1]
    number = -(-len(starts) // every)
    met = {
        None: lambda n: n > 0,
        "at_least": lambda n: n >= 2,
        "at_most": lambda n: 0 < n <= 1,
        "exactly": lambda n: n == 2,
    }
    totals = []
    for user in {u for u, _ in events}:
        inside = [d for u, d in events if u == user and period.start <= d < period.end]
        per = Counter(starts.index(floor_day(d, grain)) // every for d in inside)
        totals.append(sum(met[criterion and criterion[0]](n) for n in per.values()))
    expected = [sum(t >= n if cumulative else t == n for t in totals) for n in range(1, number + 1)]
    assert got == expected


@pytest.mark.shared
def test_stickiness_cases_of_posthog(shared: Path) -> None:
    """Outside reference: all of PostHog's stickiness cases, by their ids; none contradicts our semantics."""
    cases = json.loads((shared / "cases" / "posthog_stickiness_cases.json").read_text())["cases"]
    comparisons = {"lte": "at_most", "gte": "at_least", "exact": "exactly"}
    for case in cases:
        query = case["query"]
        first, last = (dt.date.fromisoformat(query[k]) for k in ("from_", "to"))
        criterion = query.get("criteria")
        assert query["tz"] == "UTC", case["id"]
        table = ibis.memtable(
            {
                "user_id": [p for p, _, _ in case["events"]],
                "day": [dt.datetime.fromisoformat(t).date() for _, _, t in case["events"]],
            },
            schema={"user_id": "string", "day": "date"},
        )
        frame = count_active_intervals(
            table,
            Period(first, last + DAY, case["id"]),
            grain=query["period"],
            every=query["every"],
            week_start={"monday": 0, "sunday": 6}[query["week_start"]],
            criterion=criterion and (comparisons[criterion[0]], criterion[1]),
            cumulative=query.get("cumulative", False),
        )
        assert frame["users_count"].tolist() == case["expected"]["people_by_number_of_active_intervals"], case["id"]
    assert len(cases) >= 6


@settings(max_examples=8)
@given(user_days, st.lists(st.sampled_from(["a", "b", "c", "d", None]), min_size=8, max_size=8), st.integers(1, 3))
def test_segments_add_up(days: Days, values: list[str | None], top: int) -> None:
    attributes = ibis.memtable(
        {"user_id": range(1, 8), "channel": values[:7]}, schema={"user_id": "int64", "channel": "string"}
    )
    labelled = label_segments(to_table(days), attributes, "channel", top=top)
    period = Period(START, START + 121 * DAY, "all")
    result = measure_activity_by_segment(labelled, period)
    everybody = measure_activity(to_table(days), period).daily
    sums = result.daily.groupby("day")[["dau_count", "wau_count", "mau_count"]].sum().reset_index(drop=True)
    assert sums.equals(everybody[["dau_count", "wau_count", "mau_count"]])
    sizes = Counter(v for v in values[:7] if v)
    kept = sorted(sizes, key=lambda v: (-sizes[v], v))[:top]
    of_user = dict(enumerate(values[:7], 1))
    segment = {u: NOT_GIVEN if v is None else v if v in kept else OTHER for u, v in of_user.items()} | {8: NOT_GIVEN}
    for name, rows in result.daily.groupby("segment"):
        mine = {(u, d) for u, d in days if segment[u] == name}
        assert rows["dau_count"].tolist() == measure_activity(to_table(mine), period).daily["dau_count"].tolist()
    assert set(result.by_segment["segment"]) == {segment[u] for u, _ in days}


def test_ten_thousand_channels_stay_readable() -> None:
    days = to_table({(u, START + (u % 5) * DAY) for u in range(12_000)})
    channels = [f"channel {u % 10_000}" if u % 4 else "search" for u in range(12_000)]
    labelled = label_segments(days, ibis.memtable({"user_id": range(12_000), "channel": channels}), "channel")
    result = measure_activity_by_segment(labelled, Period(START, START + 7 * DAY, "a week"))
    assert len(result.by_segment) == 11
    assert (result.by_segment["segment"].iloc[0], result.by_segment["segment"].iloc[-1]) == ("search", OTHER)
    assert result.by_segment["mau_count"].sum() == 12_000
    assert len(result.findings()) == 11


def test_no_activity_in_any_segment() -> None:
    attributes = ibis.memtable({"user_id": [1], "channel": [None]}, schema={"user_id": "int64", "channel": "string"})
    labelled = label_segments(to_table({(1, START)}), attributes, "channel")
    result = measure_activity_by_segment(labelled, Period(dt.date(2030, 1, 1), dt.date(2030, 1, 5), "later"))
    assert result.by_segment.empty
    assert result.daily.empty


def test_segments_of_the_sample_company() -> None:
    data = open_data(ROOT / "playbook.toml")
    quarter = Period(dt.date(2026, 4, 1), dt.date(2026, 7, 1), "2026Q2")
    labelled = label_segments(data.active_days, data.attributes, "channel", top=3)
    result = measure_activity_by_segment(labelled, quarter)
    assert len(result.by_segment) == 4
    everybody = measure_activity(data.active_days, quarter)
    assert result.by_segment["dau_count"].sum() == pytest.approx(everybody.dau.value)
    assert result.by_segment["mau_count"].sum() == everybody.mau.value
    assert result.by_segment["stickiness_rate"].between(0.05, 0.5).all()
    l28 = measure_days_active(data.active_days, last_day=data.as_of)
    assert l28.stickiness.value == pytest.approx(everybody.stickiness.value)
    assert l28.distribution["users_rate"].sum() == pytest.approx(1)

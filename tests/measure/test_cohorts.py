"""Cohort retention: by hand, against brute force, against PostHog's cases, real data and the sample company."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any

import ibis
import ibis.expr.types as ir
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opslib.data.periods import DAY, Calendar, Period
from opslib.data.source import open_data
from opslib.measure.cohorts import BRACKETS, CohortResult, measure_cohorts
from opslib.measure.estimate import estimate_rate
from opslib.measure.grains import count_periods, floor_day
from tests.conftest import ROOT
from tests.measure.streams import START, to_table, user_days

ALWAYS = Period(dt.date(1990, 1, 1), dt.date(2030, 1, 1), "always")
SPAN = (dt.datetime(2025, 3, 1), dt.datetime(2025, 12, 1))
NEW_YORK = Calendar("America/New_York", 6, *SPAN)
HOUR = dt.timedelta(hours=1)

Moments = list[tuple[int, dt.datetime]]

# Microseconds and clock changes (New York: 9 March and 2 November 2025) inside.
moments = st.lists(
    st.tuples(
        st.integers(1, 5),
        st.datetimes(dt.datetime(2025, 3, 6), dt.datetime(2025, 3, 24))
        | st.datetimes(dt.datetime(2025, 10, 30), dt.datetime(2025, 11, 6)),
    ),
    min_size=1,
    max_size=40,
)


def to_events(rows: Moments) -> ir.Table:
    return ibis.memtable(
        {"user_id": [u for u, _ in rows], "ts": [t for _, t in rows]},
        schema={"user_id": "int64", "ts": "timestamp(6)"},
    )


def to_triangle(result: CohortResult) -> dict[Any, tuple[int, int | None]]:
    """Cohort and n -> users, and those who came back or None."""
    return {
        (row.cohort_start.to_pydatetime(), row.n): (
            row.users_count,
            None if pd.isna(row.retained_count) else int(row.retained_count),
        )
        for row in result.triangle.itertuples()
    }


def number(day: dt.date, grain: str, week_start: int) -> int:
    start = floor_day(day, grain, week_start)  # type: ignore[arg-type]
    return count_periods(floor_day(dt.date(1970, 1, 1), grain, week_start), start, grain)  # type: ignore[arg-type]


def start_of_next(day: dt.date, grain: str, week_start: int) -> dt.date:
    """The first day of the interval after the one of `day`, found by walking."""
    following = day
    while number(following, grain, week_start) == number(day, grain, week_start):
        following += DAY
    return following


def brute_force(
    starts: set[tuple[int, dt.date]],
    returns: list[tuple[int, dt.date]],
    *,
    as_of: dt.date,
    grain: str,
    week_start: int,
    kind: str,
    cohorts: str,
    slots: list[tuple[int, int]],
    minimum: int,
) -> dict[Any, tuple[int, int | None]]:
    """The same from a user's days, one user and one cell at a time."""
    found: dict[Any, tuple[int, int | None]] = {}
    place = {d: number(d, grain, week_start) for _, d in [*starts, *returns]}
    came: dict[int, list[int]] = {}
    for user, day in returns:
        if day <= as_of:
            came.setdefault(user, []).append(place[day])
    began: dict[int, set[int]] = {}
    for user, day in starts:
        if day <= as_of:
            began.setdefault(user, set()).add(place[day])
    if cohorts == "first":
        began = {user: {min(numbers)} for user, numbers in began.items()}
    names = {place[d]: floor_day(d, grain, week_start) for _, d in starts}  # type: ignore[arg-type]
    over = number(as_of + DAY, grain, week_start) - 1
    for cohort in {c for numbers in began.values() for c in numbers}:
        members = [u for u, numbers in began.items() if cohort in numbers]
        for first, last in slots:
            back = 0
            for user in members:
                times = came.get(user, [])
                often = {t for t in times if times.count(t) >= minimum}
                back += any(first <= t - cohort and (kind == "on_or_after" or t - cohort <= last) for t in often)
            key = (dt.datetime.combine(names[cohort], dt.time()), first)
            found[key] = (len(members), back if cohort + last <= over else None)
    return found


def test_by_hand() -> None:
    """25 users on the 10th, 10 of them back the next day; 30 on the 11th, all back on the 13th; known to the 13th."""
    first = dt.date(2026, 1, 10)
    days = {(u, first) for u in range(25)} | {(u, first + DAY) for u in range(10)}
    days |= {(100 + u, first + DAY) for u in range(30)} | {(100 + u, first + 3 * DAY) for u in range(30)}
    result = measure_cohorts(to_table(days), period=ALWAYS, as_of=first + 3 * DAY, intervals=3)
    shown = result.triangle[["users_count", "retained_count", "mature"]].to_numpy().tolist()
    assert shown == [
        [25, 25, True], [25, 10, True], [25, 0, True], [25, 0, True],
        [30, 30, True], [30, 0, True], [30, 30, True], [30, pd.NA, False],
    ]  # fmt: skip
    curve = result.curve.set_index("n")
    assert curve.loc[2, ["cohorts_count", "users_count", "retained_count", "immature_count"]].tolist() == [2, 55, 30, 0]
    assert curve.loc[3, ["cohorts_count", "users_count", "retained_count", "immature_count"]].tolist() == [1, 25, 0, 30]
    assert result.estimate(2) == estimate_rate("d2_rate", 30, 55)
    assert result.triangle.loc[7, "retention_rate":"retention_high"].isna().all()  # type: ignore[misc]


def test_triangle_cells_have_the_interval_of_one_rate() -> None:
    days = {(u, START) for u in range(40)} | {(u, START + DAY) for u in range(17)}
    row = measure_cohorts(to_table(days), period=ALWAYS, as_of=START + 9 * DAY).triangle.iloc[1]
    expected = estimate_rate("d1_rate", 17, 40)
    assert (row["retention_rate"], row["retention_low"], row["retention_high"]) == pytest.approx(
        (expected.value, expected.low, expected.high)
    )


def test_rolling_and_brackets_by_hand() -> None:
    """One user back on days 2 and 9: on or after every day up to 9; in brackets 1-3 and 8-14, not in 4-7."""
    days = to_table({(1, START), (1, START + 2 * DAY), (1, START + 9 * DAY)})
    as_of = START + 40 * DAY
    rolling = measure_cohorts(days, period=ALWAYS, as_of=as_of, kind="on_or_after", intervals=12, minimum=1)
    assert rolling.triangle["retained_count"].tolist() == [1] * 10 + [0] * 3
    assert rolling.estimate(9).name == "d9_or_later_rate"
    bracket = measure_cohorts(days, period=ALWAYS, as_of=as_of, kind="bracket", minimum=1)
    assert list(zip(bracket.triangle["n"], bracket.triangle["n_last"], strict=True)) == list(BRACKETS)
    assert bracket.triangle["retained_count"].tolist() == [1, 0, 1, 0]
    assert bracket.estimate(4).name == "d4_to_7_rate"


def test_a_bracket_is_mature_when_its_last_day_is_over() -> None:
    days = to_table({(1, START), (1, START + 4 * DAY)})
    brackets = [(1, 3), (4, 7)]
    for age, mature in ((6, [True, False]), (7, [True, True])):
        result = measure_cohorts(days, period=ALWAYS, as_of=START + age * DAY, kind="bracket", brackets=brackets)
        assert result.triangle["mature"].tolist() == mature


def test_rolling_24_hours_by_hand() -> None:
    """From 23:00: one hour later is another day but still window 0; 24 hours later, to the microsecond, is window 1."""
    begin = dt.datetime(2025, 6, 1, 23, 0, 0, 123457)
    late = begin + 24 * HOUR
    rows = [(1, begin), (1, begin + HOUR), (2, begin), (2, late), (3, begin), (3, late - dt.timedelta(microseconds=1))]
    options: dict[str, Any] = {"period": ALWAYS, "as_of": dt.date(2025, 6, 3), "intervals": 1, "minimum": 1}
    rolling = measure_cohorts(to_events(rows), grain="24h", **options)
    assert rolling.triangle["retained_count"].tolist() == [3, 1]
    calendar = measure_cohorts(to_events(rows), grain="day", **options)
    assert calendar.triangle["retained_count"].tolist() == [3, 3]


def test_rolling_24_hours_are_mature_when_everybody_has_had_them() -> None:
    rows = [(1, dt.datetime(2025, 6, 1, 23))]
    for last, mature in ((dt.date(2025, 6, 2), False), (dt.date(2025, 6, 3), True)):
        result = measure_cohorts(to_events(rows), period=ALWAYS, as_of=last, grain="24h", intervals=1)
        assert result.triangle["mature"].tolist() == [True, mature]


@settings(max_examples=20)
@given(moments, st.sampled_from(["on", "on_or_after"]), st.integers(1, 2), st.integers(0, 20))
def test_rolling_24_hours_equal_brute_force(rows: Moments, kind: Any, minimum: int, known: int) -> None:
    as_of = dt.date(2025, 3, 8) + known * DAY
    result = measure_cohorts(
        to_events(rows), period=ALWAYS, as_of=as_of, calendar=NEW_YORK, grain="24h", kind=kind, intervals=6,
        minimum_returns=minimum,
    )  # fmt: skip
    seen = [(u, t) for u, t in rows if NEW_YORK.day_of(t) <= as_of]
    first = {u: min(t for v, t in seen if v == u) for u, _ in seen}
    expected = {}
    for day in {NEW_YORK.day_of(t) for t in first.values()}:
        members = [u for u, t in first.items() if NEW_YORK.day_of(t) == day]
        for n in range(7):
            windows = {u: [(t - first[u]) // (24 * HOUR) for v, t in seen if v == u] for u in members}
            often = {u: {w for w in found if found.count(w) >= minimum} for u, found in windows.items()}
            back = sum(any(w == n or (kind == "on_or_after" and w > n) for w in found) for found in often.values())
            key = (dt.datetime.combine(day, dt.time()), n)
            expected[key] = (len(members), back if day + (n + 1) * DAY <= as_of else None)
    assert to_triangle(result) == expected


@settings(max_examples=50)
@given(
    user_days,
    st.none() | st.lists(st.tuples(st.integers(1, 8), st.integers(0, 120)), min_size=1, max_size=40),
    st.sampled_from(["day", "week", "month", "quarter"]),
    st.integers(0, 6),
    st.sampled_from(["on", "on_or_after", "bracket"]),
    st.sampled_from(["first", "recurring"]),
    st.sampled_from([1, 1, 2]),
    st.integers(-5, 200),
)
def test_equals_brute_force(
    days: set[tuple[int, dt.date]],
    other: list[tuple[int, int]] | None,
    grain: Any,
    week_start: int,
    kind: Any,
    cohorts: Any,
    minimum: int,
    known: int,
) -> None:
    returns = None if other is None else [(u, START + n * DAY) for u, n in other]
    came = list(days) if returns is None else returns
    slots = [(0, 0), (1, 3), (4, 40)] if kind == "bracket" else [(n, n) for n in range(41)]
    table = None
    if returns is not None:
        table = ibis.memtable(
            {"user_id": [u for u, _ in returns], "day": [d for _, d in returns]},
            schema={"user_id": "int64", "day": "date"},
        )
    as_of = START + known * DAY
    result = measure_cohorts(
        to_table(days), table, period=ALWAYS, as_of=as_of, calendar=Calendar("UTC", week_start), grain=grain, kind=kind,
        cohorts=cohorts, intervals=40, brackets=slots, minimum_returns=minimum,
    )  # fmt: skip
    expected = brute_force(
        days, came, as_of=as_of, grain=grain, week_start=week_start, kind=kind, cohorts=cohorts, slots=slots,
        minimum=minimum,
    )  # fmt: skip
    assert to_triangle(result) == expected
    for row in result.curve.itertuples():
        mature = [(users, back) for (_, n), (users, back) in expected.items() if n == row.n and back is not None]
        young = [users for (_, n), (users, back) in expected.items() if n == row.n and back is None]
        assert (row.users_count, row.retained_count) == (sum(u for u, _ in mature), sum(b for _, b in mature))
        assert (row.cohorts_count, row.immature_count) == (len(mature), sum(young))


@settings(max_examples=20)
@given(
    moments,
    st.sampled_from(["day", "week", "month"]),
    st.sampled_from(["UTC", "Asia/Shanghai", "America/New_York", "Asia/Kathmandu"]),
    st.integers(0, 20),
)
def test_moments_give_what_their_local_days_give(rows: Moments, grain: Any, zone: str, known: int) -> None:
    calendar = Calendar(zone, 6, *SPAN)
    as_of = dt.date(2025, 3, 8) + known * DAY
    pairs = {(u, calendar.day_of(t)) for u, t in rows}
    options: dict[str, Any] = {"period": ALWAYS, "as_of": as_of, "calendar": calendar, "grain": grain}
    from_moments = measure_cohorts(to_events(rows), **options)
    assert to_triangle(from_moments) == to_triangle(measure_cohorts(to_table(pairs), **options))


@settings(max_examples=10)
@given(user_days, st.integers(0, 130))
def test_words_and_pairs_count_the_same(days: set[tuple[int, dt.date]], known: int) -> None:
    """The two ways to count first-time cohorts: returns given anew go through the same words, twice the rows do not."""
    options: dict[str, Any] = {"period": ALWAYS, "as_of": START + known * DAY, "intervals": 70}
    table = to_table(days)
    twice = table.union(table)
    packed = measure_cohorts(table, **options)
    assert to_triangle(packed) == to_triangle(measure_cohorts(table, table, **options))
    assert to_triangle(packed) == to_triangle(measure_cohorts(table, twice, minimum_returns=2, **options))


def test_only_cohorts_that_begin_in_the_period() -> None:
    """June 2026 begins on a Monday: its first week is in, the week of 29 June too, those around are not."""
    days = {(n, dt.date(2026, 5, 25) + 7 * n * DAY) for n in range(8)}
    june = Period(dt.date(2026, 6, 1), dt.date(2026, 7, 1), "June")
    starts = measure_cohorts(to_table(days), period=june, as_of=dt.date(2026, 8, 1), grain="week").triangle
    assert starts["cohort_start"].dt.strftime("%m-%d").unique().tolist() == [
        "06-01",
        "06-08",
        "06-15",
        "06-22",
        "06-29",
    ]
    later = Period(dt.date(2026, 6, 2), dt.date(2026, 6, 29), "later")
    starts = measure_cohorts(to_table(days), period=later, as_of=dt.date(2026, 8, 1), grain="week").triangle
    assert starts["cohort_start"].dt.strftime("%m-%d").unique().tolist() == ["06-08", "06-15", "06-22"]


def test_a_user_of_before_the_period_is_not_new_in_it() -> None:
    days = to_table({(1, dt.date(2025, 12, 31)), (1, dt.date(2026, 1, 1)), (2, dt.date(2026, 1, 1))})
    january = Period(dt.date(2026, 1, 1), dt.date(2026, 2, 1), "January")
    options: dict[str, Any] = {"period": january, "as_of": dt.date(2026, 1, 31)}
    assert measure_cohorts(days, **options).triangle["users_count"].unique().tolist() == [1]
    assert measure_cohorts(days, cohorts="recurring", **options).triangle["users_count"].unique().tolist() == [2]


def test_segments_add_up_to_everybody() -> None:
    days = {(u, START + (u % 3) * DAY) for u in range(90)} | {(u, START + (u % 3 + 1) * DAY) for u in range(0, 90, 2)}
    users = ibis.memtable({"user_id": list(range(80)), "channel": [f"c{u % 14}" for u in range(80)]})
    options: dict[str, Any] = {"period": ALWAYS, "as_of": START + 9 * DAY, "intervals": 3}
    for kind in ("on", "on_or_after", "bracket"):
        for cohorts in ("first", "recurring"):
            everybody = measure_cohorts(to_table(days), kind=kind, cohorts=cohorts, **options)  # type: ignore[arg-type]
            split = measure_cohorts(
                to_table(days), kind=kind, cohorts=cohorts, attributes=users, by="channel", **options
            )  # type: ignore[arg-type]
            columns = ["users_count", "retained_count", "immature_count"]
            assert (split.curve.groupby("n")[columns].sum() == everybody.curve.set_index("n")[columns]).all(axis=None)
            names = split.curve["segment"].unique().tolist()
            assert len(names) == 12
            assert names[-2:] == ["(other)", "(not given)"]
    assert split.findings()[0]["segment"] == names[0]


def test_recurring_intervals_are_wider_than_independent_users_would_give() -> None:
    """40 users, each in ten cohorts; half of them always come back: as sure as 40 users, not as 400."""
    days = {(u, START + n * DAY) for u in range(20) for n in range(11)}
    days |= {(100 + u, START + 2 * n * DAY) for u in range(20) for n in range(10)}
    result = measure_cohorts(to_table(days), period=ALWAYS, as_of=START + 25 * DAY, cohorts="recurring", intervals=1)
    estimate = result.estimate(1)
    alone = estimate_rate("d1_rate", 20, 40)
    assert estimate.value is not None
    assert estimate.low is not None
    assert alone.low is not None
    assert estimate.denominator == 420
    assert estimate.value - estimate.low == pytest.approx(0.5 - alone.low, rel=0.1)
    assert "user's cohorts" in estimate.method


def test_nobody_and_one_user() -> None:
    empty = to_table({(1, START)}).filter(ibis.literal(False))
    for options in ({}, {"kind": "on_or_after"}, {"kind": "bracket"}, {"cohorts": "recurring"}, {"minimum_returns": 2}):
        result = measure_cohorts(empty, period=ALWAYS, as_of=START, **options)  # type: ignore[arg-type]
        assert result.triangle.empty
        assert not any(f["value"] for f in result.findings())
    alone = measure_cohorts(to_table({(1, START)}), period=ALWAYS, as_of=START, intervals=2)
    assert alone.curve["immature_count"].tolist() == [0, 1, 1]
    assert not alone.estimate(0).known
    assert "at least 20" in alone.estimate(0).note
    json.dumps(alone.findings(), allow_nan=False)


def test_a_gap_of_years_and_ten_thousand_channels() -> None:
    days = {(u, START) for u in range(10_000)} | {(u, START + 2000 * DAY) for u in range(50)}
    users = ibis.memtable({"user_id": list(range(10_000)), "channel": [f"c{u}" for u in range(10_000)]})
    result = measure_cohorts(
        to_table(days), period=ALWAYS, as_of=START + 2100 * DAY, kind="on_or_after", attributes=users, by="channel"
    )
    assert result.curve["segment"].nunique() == 11
    assert result.curve.loc[result.curve["n"] == 30, "retained_count"].sum() == 50


def test_what_does_not_go_together_is_refused() -> None:
    days = to_table({(1, START)})
    options: dict[str, Any] = {"period": ALWAYS, "as_of": START}
    with pytest.raises(ValueError, match="ts"):
        measure_cohorts(days, grain="hour", **options)
    with pytest.raises(ValueError, match="recurring"):
        measure_cohorts(to_events([(1, dt.datetime(2025, 1, 1))]), grain="24h", cohorts="recurring", **options)
    with pytest.raises(ValueError, match="without overlap"):
        measure_cohorts(days, kind="bracket", brackets=[(1, 3), (3, 7)], **options)
    with pytest.raises(ValueError, match="at least one"):
        measure_cohorts(days, intervals=0, **options)
    with pytest.raises(ValueError, match="minimum_returns"):
        measure_cohorts(days, minimum_returns=0, **options)


def load_posthog(shared: Path) -> list[dict[str, Any]]:
    return json.loads((shared / "cases" / "posthog_retention_cases.json").read_text())["cases"]


# PostHog prints the cohort's size in column 0; ours counts who did the return event in the interval of the start.
COLUMN_0_IS_SIZE = {"ph_r08", "ph_r10", "ph_r12", "ph_r14"}
# Two first users of 7 June do their return event within that week; in ph_r14 all do.
OURS_IN_COLUMN_0 = {
    "ph_r08": [0, 0, 0, 0, None, 1, 0, None, None, None, None],
    "ph_r10": [0, 0, 0, 0, None, 0, None],
    "ph_r12": [0, 0, 0, 1, None, None, None],
    "ph_r14": [None, None, None, None, 0, 4, None],
}


@pytest.mark.shared
@pytest.mark.parametrize("case_id", ["ph_r01", "ph_r03a", "ph_r04", "ph_r06", "ph_r08", "ph_r10", "ph_r12", "ph_r14"])
def test_cases_of_posthog(shared: Path, case_id: str) -> None:
    """Outside reference: PostHog's own retention tests, each by its id; none is left out (see the next test)."""
    case = next(c for c in load_posthog(shared) if c["id"] == case_id)
    query, expected = case["query"], case["expected"]["rows_triangular"]
    events = [(p, e, dt.datetime.fromisoformat(t)) for p, e, t in case["events"]]
    people = {p: i for i, p in enumerate(sorted({p for p, _, _ in events}))}

    def pick(name: str | None) -> ir.Table:
        return to_events([(people[p], t) for p, e, t in events if name is None or e == name])

    grain = query["period"]
    first = dt.datetime.fromisoformat(query["first_interval"])
    step = {"hour": HOUR, "day": DAY, "week": 7 * DAY}[grain]
    shown = query["n"]
    end = first + shown * step
    known = [(u, t) for u, t in ((people[p], t) for p, _, t in events) if t < end]
    last_day = end.date() - (0 * DAY if grain == "hour" else DAY)
    result = measure_cohorts(
        pick(query["start_event"]),
        pick(query["return_event"]),
        period=Period(first.date(), last_day + DAY, case_id),
        as_of=last_day,
        calendar=Calendar("UTC", {"monday": 0, "sunday": 6}[query.get("week_start", "sunday")]),
        grain=grain,
        kind="on_or_after" if query.get("cumulative") else "on",
        cohorts="first" if query.get("first_time") else "recurring",
        intervals=shown - 1,
        minimum_returns=query.get("min_occurrences", 1),
    )
    assert known
    cells = to_triangle(result)
    for i, row in enumerate(expected):
        start = first + i * step
        for n, value in enumerate(row):
            users, back = cells.get((start, n), (0, 0))
            if n == 0:
                assert users == row[0], (case_id, i)
                ours = OURS_IN_COLUMN_0[case_id][i] if case_id in COLUMN_0_IS_SIZE else row[0]
                assert back == (ours or 0), (case_id, i)
            else:
                # An interval that ends with the data is over: all that PostHog shows is mature here.
                assert back == value, (case_id, i, n)


@pytest.mark.shared
def test_no_case_of_posthog_is_left_out(shared: Path) -> None:
    marks = next(m for m in test_cases_of_posthog.pytestmark if m.name == "parametrize")
    assert {c["id"] for c in load_posthog(shared)} == set(marks.args[1])


@pytest.mark.shared
def test_days_and_weeks_of_collegemsg(shared: Path) -> None:
    """Outside reference: facts computed with plain pandas, on UTC days and weeks from Monday."""
    facts = json.loads((shared / "real" / "collegemsg" / "facts.json").read_text())
    rows = pd.read_csv(shared / "real" / "collegemsg" / "CollegeMsg.txt", sep=" ", names=["user_id", "to", "seconds"])
    sent = ibis.memtable(rows.assign(ts=pd.to_datetime(rows["seconds"], unit="s"))[["user_id", "ts"]])
    as_of = dt.date(2004, 10, 26)  # the facts count the last day, of which 8 hours are there, as a whole one
    for kind, prefix in (("on", ""), ("on_or_after", "rolling_")):
        result = measure_cohorts(sent, period=ALWAYS, as_of=as_of, kind=kind)  # type: ignore[arg-type]
        for n in (1, 7, 30):
            estimate, fact = result.estimate(n), facts[f"{prefix}D{n}"]
            assert (estimate.numerator, estimate.denominator) == (fact["retained"], fact["eligible"])
    weekly = measure_cohorts(sent, period=ALWAYS, as_of=dt.date(2004, 10, 31), grain="week", intervals=8).triangle
    for start, counts in facts["weekly_cohort_counts_first8weeks"].items():
        assert weekly.loc[weekly["cohort_start"] == start, "retained_count"].tolist() == counts


@pytest.mark.shared
def test_months_of_online_retail(shared: Path) -> None:
    """The matrix of customers by first month, each cell; the last month is partial and immature when as_of says so."""
    facts = json.loads((shared / "real" / "online_retail" / "facts.json").read_text())["cohort_matrix_clean"]
    lines = ibis.read_parquet(shared / "real" / "online_retail" / "online_retail.parquet")
    lines = lines.mutate(quantity=lines.Quantity.cast("int64"), price=lines.UnitPrice.cast("float64"))
    lines = lines.filter(lines.CustomerID.notnull() & ~lines.InvoiceNo.cast("string").startswith("C"))
    lines = lines.filter((lines.quantity > 0) & (lines.price > 0))
    orders = lines.select(user_id="CustomerID", ts=lines.InvoiceDate.cast("timestamp"))
    whole = measure_cohorts(orders, period=ALWAYS, as_of=dt.date(2011, 12, 31), grain="month", intervals=12).triangle
    for start, counts in facts.items():
        cells = whole[whole["cohort_start"] == pd.Timestamp(start)]
        assert cells["users_count"].unique().tolist() == [counts[0]]
        assert cells.loc[cells["mature"], "retained_count"].tolist() == counts
        assert cells["mature"].sum() == len(counts)
    partial = measure_cohorts(orders, period=ALWAYS, as_of=dt.date(2011, 12, 8), grain="month", intervals=12)
    assert partial.estimate(12).note
    assert partial.curve["immature_count"].iloc[1] == 323 + partial.triangle["users_count"].iloc[-1]


@pytest.mark.shared
def test_months_of_cdnow(shared: Path) -> None:
    facts = json.loads((shared / "real" / "cdnow" / "facts.json").read_text())["master"]
    path = shared / "real" / "cdnow" / "CDNOW_master.txt"
    rows = pd.read_csv(path, sep=r"\s+", skiprows=1, names=["user_id", "date", "cds", "dollars"])
    frame = pd.DataFrame({"user_id": rows["user_id"], "day": pd.to_datetime(rows["date"].astype(str)).dt.date})
    days = ibis.memtable(frame, schema={"user_id": "int64", "day": "date"})
    frame = measure_cohorts(days, period=ALWAYS, as_of=dt.date(1998, 6, 30), grain="month", intervals=17).triangle
    january = frame[frame["cohort_start"] == "1997-01-01"]
    assert january["retained_count"].tolist() == facts["cohort_1997_01_active_by_month"]
    assert frame.groupby("cohort_start")["users_count"].first().tolist() == list(facts["cohort_sizes"].values())


@pytest.fixture(scope="module")
def sample() -> Any:
    return open_data(ROOT / "playbook.toml")


def test_the_sample_from_events_equals_the_sample_from_days(sample: Any) -> None:
    """Events and active days, cut by hour and zone, are the same people."""
    options: dict[str, Any] = {"period": ALWAYS, "as_of": sample.as_of, "calendar": sample.calendar}
    from_events = measure_cohorts(sample.table("events"), **options)
    from_days = measure_cohorts(sample.active_days, **options)
    pd.testing.assert_frame_equal(from_events.triangle, from_days.triangle)
    days = sample.active_days.to_pandas()
    days["day"] = pd.to_datetime(days["day"])
    days["age"] = (days["day"] - days.groupby("user_id")["day"].transform("min")).dt.days
    first_days = days.loc[days["age"] == 0, "day"]
    for n in (1, 7, 30):
        estimate = from_events.estimate(n)
        assert estimate.numerator == (days["age"] == n).sum()
        assert estimate.denominator == (first_days <= pd.Timestamp(sample.as_of - n * DAY)).sum()


@pytest.mark.parametrize(("segment", "n", "incident", "change"), [("paid_ads android", 1, 0, 0), ("social", 7, 4, 2)])
def test_planted_incidents_of_the_sample(sample: Any, segment: str, n: int, incident: int, change: int) -> None:
    """The paid-ads Android drop and the budget shift that brought users who do not stay, to the user."""
    truth = json.loads((ROOT / "data" / "samples" / "truth.json").read_text())["incidents"][incident]["changes"][change]
    realised = truth["realised"]
    events, users = sample.table("events"), sample.table("users")
    column = users.channel + " " + users.platform if " " in segment else users.channel
    for window in ("before", "during"):
        start, end = (dt.date.fromisoformat(d) for d in realised["windows"][window])
        result = measure_cohorts(
            events.filter(events.event == "sign_up"),
            events,
            period=Period(start, end, window),
            as_of=sample.as_of,
            calendar=sample.calendar,
            intervals=n,
            attributes=users.select("user_id", segment=column),
            by="segment",
        )
        cell = realised["cells"][f"segment_{window}"]
        estimate = result.estimate(n, segment)
        assert (estimate.numerator, estimate.denominator) == (cell["numerator"], cell["denominator"])

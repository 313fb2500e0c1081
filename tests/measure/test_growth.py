"""Active users and growth accounting: by hand, against brute force, against outside cases."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path

import ibis
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opslib.data.periods import DAY, Calendar, Period
from opslib.data.source import open_data
from opslib.measure import growth
from opslib.measure.growth import account_growth, floor_day, measure_activity, measure_stickiness
from tests.conftest import ROOT
from tests.measure.streams import START, to_table, user_days

JANUARY = Period(dt.date(2026, 1, 1), dt.date(2026, 2, 1), "January")


def test_windows_by_hand() -> None:
    """One user on the 1st and the 10th: in the week's window for seven days each, in the month's to the end."""
    result = measure_activity(to_table({(1, dt.date(2026, 1, 1)), (1, dt.date(2026, 1, 10))}), JANUARY)
    daily = result.daily.set_index(result.daily["day"].dt.day)
    assert daily.index[daily["dau_count"] == 1].tolist() == [1, 10]
    assert daily.index[daily["wau_count"] == 1].tolist() == [*range(1, 8), *range(10, 17)]
    assert daily["mau_count"].tolist() == [1] * 31
    assert (result.dau.value, result.dau.numerator, result.dau.denominator) == (2 / 31, 2, 31)


def test_month_window_ends_after_thirty_days() -> None:
    daily = measure_activity(to_table({(1, dt.date(2025, 12, 15))}), JANUARY).daily
    assert daily.loc[daily["mau_count"] == 1, "day"].max().date() == dt.date(2026, 1, 13)


@settings(max_examples=40)
@given(user_days, st.integers(0, 60), st.integers(1, 50))
def test_activity_equals_brute_force(days: set[tuple[int, dt.date]], offset: int, length: int) -> None:
    period = Period(START + offset * DAY, START + (offset + length) * DAY, "any")
    result = measure_activity(to_table(days), period)
    for name, window in (("dau", 1), ("wau", 7), ("mau", 30)):
        expected = [
            len({u for u, d in days if day - window * DAY < d <= day})
            for day in (period.start + n * DAY for n in range(length))
        ]
        assert result.daily[f"{name}_count"].tolist() == expected
    inside = [d for _, d in days if period.start <= d < period.end]
    assert result.dau.value == pytest.approx(len(inside) / length)


@settings(max_examples=30)
@given(user_days)
def test_stickiness_is_mean_dau_over_distinct_users(days: set[tuple[int, dt.date]]) -> None:
    last = max(d for _, d in days)
    # Forty copies of each user: enough users for an estimate, the same ratio.
    copies = {(100 * u + n, d) for u, d in days for n in range(40)}
    estimate = measure_stickiness(to_table(copies), last)
    window = {(u, d) for u, d in copies if last - 28 * DAY < d <= last}
    users = len({u for u, _ in window})
    assert estimate.value == pytest.approx(len(window) / 28 / users)
    assert estimate.denominator == users


@settings(max_examples=40)
@given(user_days, st.sampled_from(["day", "week", "month", "quarter"]), st.integers(0, 6))
def test_growth_accounting_equals_brute_force(days: set[tuple[int, dt.date]], grain: str, week_start: int) -> None:
    span = Period(min(d for _, d in days), max(d for _, d in days) + DAY, "all")
    frame = account_growth(to_table(days), span, grain=grain, week_start=week_start).periods  # type: ignore[arg-type]
    assert (
        frame["opening_count"] + frame["new_count"] + frame["resurrected_count"] - frame["churned_count"]
        == frame["closing_count"]
    ).all()
    starts = [s.date() for s in frame["period_start"]]
    active = [{u for u, d in days if floor_day(d, grain, week_start) == s} for s in starts]  # type: ignore[arg-type]
    assert sum(len(a) for a in active) == frame["closing_count"].sum()
    for i, now in enumerate(active):
        before = active[i - 1] if i else set()
        ever = set().union(*active[:i])
        row = frame.iloc[i]
        assert row["new_count"] == len(now - ever)
        assert row["retained_count"] == len(now & before)
        assert row["resurrected_count"] == len((now & ever) - before)
        assert row["churned_count"] == len(before - now)


def test_incomplete_periods_are_marked() -> None:
    days = {(1, dt.date(2026, 1, 14)), (1, dt.date(2026, 2, 3)), (1, dt.date(2026, 3, 10))}
    span = Period(dt.date(2026, 1, 14), dt.date(2026, 3, 11), "all")
    result = account_growth(to_table(days), span, grain="month")
    assert result.periods["complete"].tolist() == [False, True, False]
    assert [f["period"] for f in result.findings()] == ["2026-02-01"]


def test_quick_ratio_without_losses_is_missing_not_infinite() -> None:
    result = account_growth(
        to_table({(1, dt.date(2026, 1, 5))}), Period(dt.date(2026, 1, 5), dt.date(2026, 1, 12), "w")
    )
    assert result.periods["quick_ratio"].isna().all()
    assert result.findings()[0]["quick_ratio"] is None


def load_cases(shared: Path, name: str) -> list[dict]:
    return json.loads((shared / "cases" / f"posthog_{name}_cases.json").read_text())["cases"]


def to_active_days(events: list[list[str]], zone: str = "UTC") -> ibis.Table:
    calendar = Calendar(zone)
    pairs = set()
    for person, _, moment in events:
        at = dt.datetime.fromisoformat(moment.replace("Z", "+00:00"))
        at = at.astimezone(dt.UTC).replace(tzinfo=None) if at.tzinfo else at
        pairs.add((person, calendar.day_of(at)))
    rows = sorted(pairs)
    return ibis.memtable(
        {"user_id": [p for p, _ in rows], "day": [d for _, d in rows]}, schema={"user_id": "string", "day": "date"}
    )


@pytest.mark.shared
def test_lifecycle_cases_of_posthog(shared: Path) -> None:
    """Outside reference: PostHog's own lifecycle tests; each case that our grains cover, by its id."""
    checked, skipped = [], []
    for case in load_cases(shared, "lifecycle"):
        query, expected = case["query"], case["expected"]
        plain = {"type", "period", "from_", "to", "tz", "week_start"}
        if not set(query) <= plain or query["period"] not in ("day", "week", "month") or "new" not in expected:
            skipped.append(case["id"])
            continue
        week_start = {"monday": 0, "sunday": 6}[query.get("week_start", "sunday")]
        first, last = (dt.date.fromisoformat(query[k][:10]) for k in ("from_", "to"))
        table = to_active_days(case["events"], query.get("tz", "UTC"))
        earliest = min(d.date() if isinstance(d, dt.datetime) else d for d in table.day.to_pandas())
        span = Period(min(first, earliest), last + 40 * DAY, case["id"])
        frame = account_growth(table, span, grain=query["period"], week_start=week_start).periods
        start = floor_day(first, query["period"], week_start)
        frame = frame[frame["period_start"].dt.date >= start].head(len(expected["new"]))
        got = {
            "new": frame["new_count"].tolist(),
            "returning": frame["retained_count"].tolist(),
            "resurrecting": frame["resurrected_count"].tolist(),
            "dormant": (-frame["churned_count"]).tolist(),
        }
        assert got == {k: expected[k] for k in got}, case["id"]
        checked.append(case["id"])
    assert len(checked) >= 3, (checked, skipped)


@settings(max_examples=10)
@given(user_days, st.sampled_from(["day", "week", "month"]), st.integers(0, 6))
def test_masks_and_rows_count_the_same(days: set[tuple[int, dt.date]], grain: str, week_start: int) -> None:
    """Two ways to the same counts: a bit a period, and a row a period, which serves long spans and other engines."""
    span = Period(START, START + 121 * DAY, "all")
    keyed = to_table(days).mutate(segment=ibis.ifelse(ibis._.user_id > 4, "high", "low"))
    for by in (None, "segment"):
        frames = []
        for most in (1000, 0):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(growth, "MOST_MASKED_PERIODS", most)
                result = account_growth(keyed, span, grain=grain, week_start=week_start, by=by)  # type: ignore[arg-type]
                frames.append(result.periods)
        pd.testing.assert_frame_equal(*frames)


@settings(max_examples=8)
@given(user_days)
def test_segments_add_up_to_everybody(days: set[tuple[int, dt.date]]) -> None:
    span = Period(START, START + 121 * DAY, "all")
    keyed = to_table(days).mutate(segment=ibis.ifelse(ibis._.user_id > 4, "high", "low"))
    counts = ["opening_count", "new_count", "resurrected_count", "churned_count", "closing_count", "retained_count"]
    by = account_growth(keyed, span, by="segment").periods.groupby("period_start")[counts].sum()
    whole = account_growth(to_table(days), span).periods.set_index("period_start")[counts]
    pd.testing.assert_frame_equal(by, whole)


@settings(max_examples=25)
@given(
    st.lists(
        st.tuples(st.integers(1, 6), st.integers(0, 40), st.sampled_from([-45, -15, 0, 15, 45, 720])),
        min_size=1,
        max_size=60,
    ),
    st.sampled_from(["US/Pacific", "Europe/London", "Australia/Lord_Howe", "Asia/Kolkata"]),
    st.sampled_from(["day", "week", "month"]),
)
def test_times_across_clock_changes(around: list[tuple[int, int, int]], zone: str, grain: str) -> None:
    """Minutes around local midnight, from UTC times or from local days: the same, also with half-hour clock changes."""
    calendar = Calendar(zone, 0, dt.datetime(2026, 2, 27), dt.datetime(2026, 4, 14))
    midnights = [calendar.day_start(dt.date(2026, 3, 1) + n * DAY) for n in range(41)]
    rows = [(u, midnights[n] + dt.timedelta(minutes=m)) for u, n, m in around]
    events = ibis.memtable(
        {"user_id": [u for u, _ in rows], "ts": [t for _, t in rows]},
        schema={"user_id": "int64", "ts": "timestamp(6)"},
    )
    days = {(u, calendar.day_of(t)) for u, t in rows}
    span = Period(min(d for _, d in days), max(d for _, d in days) + DAY, "all")
    from_times = account_growth(events, span, grain=grain, calendar=calendar).periods  # type: ignore[arg-type]
    from_days = account_growth(to_table(days), span, grain=grain).periods  # type: ignore[arg-type]
    pd.testing.assert_frame_equal(from_times, from_days)


def test_the_span_cuts_times_at_local_midnight() -> None:
    """31 December 17:00 UTC is 1 January in Shanghai; 31 January 16:00 UTC is February there, and outside."""
    calendar = Calendar("Asia/Shanghai")
    times = [dt.datetime(2025, 12, 31, 15), dt.datetime(2025, 12, 31, 17), dt.datetime(2026, 1, 31, 16)]
    events = ibis.memtable({"user_id": [1, 2, 3], "ts": times}, schema={"user_id": "int64", "ts": "timestamp(6)"})
    frame = account_growth(events, JANUARY, grain="month", calendar=calendar).periods
    assert frame["new_count"].tolist() == [1]


def test_nobody_in_the_span() -> None:
    table = to_table({(1, dt.date(2030, 1, 1))})
    assert account_growth(table, JANUARY).periods["closing_count"].sum() == 0
    segments = account_growth(table.mutate(segment=ibis.literal("a")), JANUARY, by="segment")
    assert segments.periods.empty
    assert segments.findings() == []


@pytest.mark.shared
def test_weekly_lifecycle_of_a_real_community(shared: Path) -> None:
    """CollegeMsg: every week as computed independently in its facts."""
    rows = pd.read_csv(shared / "real/collegemsg/CollegeMsg.txt", sep=r"\s+", names=["user_id", "to", "at"])
    rows["ts"] = pd.to_datetime(rows["at"], unit="s")
    events = ibis.memtable(rows[["user_id", "ts"]], schema={"user_id": "int64", "ts": "timestamp(6)"})
    facts = json.loads((shared / "real/collegemsg/facts.json").read_text())
    expected = facts["weekly_lifecycle(week_start_Mon,new,returning,resurrecting,dormant)"]
    span = Period(dt.date(2004, 4, 15), dt.date(2004, 10, 27), "all")
    frame = account_growth(events, span, calendar=Calendar()).periods
    columns = ["new_count", "retained_count", "resurrected_count", "churned_count"]
    got = [[str(r["period_start"].date()), *(r[c] for c in columns)] for r in frame.to_dict("records")]
    assert got == [[week, new, stayed, back, -gone] for week, new, stayed, back, gone in expected]


def test_growth_of_the_sample_company() -> None:
    data = open_data(ROOT / "playbook.toml")
    from_days = account_growth(data.active_days, data.span).periods
    from_times = account_growth(data.table("events"), data.span, calendar=data.calendar).periods
    pd.testing.assert_frame_equal(from_days, from_times)
    assert from_days["new_count"].sum() == 30_000

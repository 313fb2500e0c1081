"""Active users and growth accounting: by hand, against brute force, against outside cases."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path

import ibis
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opslib.data.periods import DAY, Calendar, Period
from opslib.measure.growth import account_growth, floor_day, measure_activity, measure_stickiness
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

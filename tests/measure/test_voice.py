"""Complaints, tickets and satisfaction: by hand, against brute force, against published numbers, on real data."""

from __future__ import annotations

import datetime as dt
import json
import math
from collections import defaultdict
from pathlib import Path
from typing import Any

import ibis
import ibis.expr.types as ir
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opslib.data.periods import Calendar, Period
from opslib.data.source import open_data
from opslib.measure.satisfaction import estimate_nps, estimate_satisfaction, measure_satisfaction
from opslib.measure.voice import estimate_times, measure_complaints, measure_tickets
from tests.conftest import ROOT

FIRST = dt.date(2026, 3, 1)
WEEK = Period(FIRST, FIRST + dt.timedelta(days=7), "the week")
UTC = Calendar()

Ticket = tuple[int, int, dt.datetime, bool, str, dt.datetime | None]


def to_tickets(rows: list[Ticket]) -> ir.Table:
    names = ["ticket_id", "user_id", "opened_at", "is_complaint", "category", "closed_at"]
    schema = dict(zip(names, ["int64", "int64", "timestamp", "boolean", "string", "timestamp"], strict=True))
    return ibis.memtable([dict(zip(names, row, strict=True)) for row in rows], schema=schema)  # type: ignore[arg-type]


def to_active(rows: list[tuple[int, dt.date]]) -> ir.Table:
    columns = pd.DataFrame({"user_id": [u for u, _ in rows], "day": [d for _, d in rows]}, dtype=object)
    return ibis.memtable(columns, schema={"user_id": "int64", "day": "date"})


def to_surveys(rows: list[tuple[int, dt.datetime, str, float]]) -> ir.Table:
    names = ["user_id", "ts", "kind", "score"]
    schema = dict(zip(names, ["int64", "timestamp", "string", "float64"], strict=True))
    return ibis.memtable([dict(zip(names, row, strict=True)) for row in rows], schema=schema)  # type: ignore[arg-type]


def at(day: int, hour: int = 9) -> dt.datetime:
    return dt.datetime.combine(FIRST + dt.timedelta(days=day), dt.time(hour))


def everybody(users: int, days: int = 7) -> list[tuple[int, dt.date]]:
    return [(u, FIRST + dt.timedelta(days=d)) for u in range(users) for d in range(days)]


def test_a_user_counts_once_a_day_and_a_ticket_once() -> None:
    rows: list[Ticket] = [
        (1, 1, at(0), True, "billing", None),
        (1, 1, at(0), True, "billing", at(1)),  # the same ticket again, closed by now
        (2, 1, at(0, 11), True, "service_delay", None),  # the same user on the same day
        (3, 1, at(1), True, "billing", None),
        (4, 2, at(1), False, "question", None),
    ]
    result = measure_complaints(to_tickets(rows), to_active(everybody(30)), WEEK, calendar=UTC)
    assert (result.complaint_rate.numerator, result.complaint_rate.denominator) == (2, 210)
    assert (result.complaints_count.numerator, result.tickets_count) == (3, 4)
    assert result.daily["complaining_users_count"].tolist() == [1, 1, 0, 0, 0, 0, 0]
    assert result.categories.set_index("category")["complaints_count"].to_dict() == {
        "billing": 2, "service_delay": 1, "question": 0,
    }  # fmt: skip


def test_the_incident_s_local_day_counts() -> None:
    late: list[Ticket] = [(1, 1, at(0, 20), True, "billing", None)]
    shanghai = Calendar("Asia/Shanghai")
    found = measure_complaints(to_tickets(late), to_active(everybody(30)), WEEK, calendar=shanghai)
    assert found.daily["complaints_count"].tolist()[:2] == [0, 1]


def test_who_complains_without_being_active_is_taken_as_active() -> None:
    rows: list[Ticket] = [(n, n, at(0), True, "billing", None) for n in range(25)]
    found = measure_complaints(to_tickets(rows), to_active([(1, FIRST)]), WEEK, calendar=UTC)
    assert (found.complaint_rate.numerator, found.complaint_rate.denominator) == (25, 25)
    assert "24 user-days are taken as active" in found.notes[0]


def test_without_activity_there_is_no_rate() -> None:
    found = measure_complaints(to_tickets([(1, 1, at(0), True, "billing", None)]), None, WEEK, calendar=UTC)
    assert not found.complaint_rate.known and found.complaints_count.value == 1
    assert "not known" in found.notes[0]


def test_nobody_complains_and_nobody_is_there() -> None:
    calm = measure_complaints(to_tickets([]), to_active(everybody(30)), WEEK, calendar=UTC)
    assert calm.complaint_rate.value == 0 and calm.categories.empty
    empty = measure_complaints(to_tickets([]), to_active([]), WEEK, calendar=UTC)
    assert not empty.complaint_rate.known and "not enough data" in empty.complaint_rate.note


def test_users_who_complain_again_and_again_widen_the_interval() -> None:
    active = to_active(everybody(100))
    once = measure_complaints(
        to_tickets([(n, n, at(n % 7), True, "a", None) for n in range(28)]), active, WEEK, calendar=UTC
    )
    same = [(n, n // 7, at(n % 7), True, "a", None) for n in range(28)]
    again = measure_complaints(to_tickets(same), active, WEEK, calendar=UTC)  # type: ignore[arg-type]
    assert once.complaint_rate.value == again.complaint_rate.value

    def width(e: Any) -> float:
        return e.high - e.low

    assert width(again.complaint_rate) > 2 * width(once.complaint_rate)


tickets_drawn = st.lists(
    st.tuples(st.integers(1, 12), st.integers(1, 8), st.integers(-1, 7), st.integers(0, 23), st.booleans(),
              st.sampled_from(["billing", "service_delay"])), max_size=25,
)  # fmt: skip
active_drawn = st.sets(st.tuples(st.integers(1, 8), st.integers(-1, 8)), max_size=40)


@settings(max_examples=25)
@given(tickets_drawn, active_drawn)
def test_complaints_agree_with_counting_by_hand(drawn: list[tuple[Any, ...]], active: set[tuple[int, int]]) -> None:
    rows: list[Ticket] = [(t, t % 8 + 1, at(d, h), c, "billing" if t % 2 else "service_delay", None)
                          for t, _, d, h, c, _ in drawn]  # fmt: skip
    there = [(u, FIRST + dt.timedelta(days=d)) for u, d in sorted(active)]
    attributes = ibis.memtable({"user_id": list(range(1, 9)), "side": ["a", "b"] * 4})
    found = measure_complaints(
        to_tickets(rows), to_active(there), WEEK, calendar=UTC, attributes=attributes, by=["side"]
    )

    first: dict[int, dt.datetime] = {}
    complaint: dict[int, bool] = defaultdict(bool)
    for t, _, moment, c, _, _ in rows:
        first[t] = min(moment, first.get(t, moment))
        complaint[t] |= c
    days = [FIRST + dt.timedelta(days=n) for n in range(7)]
    by_day = {d: {t % 8 + 1 for t, m in first.items() if complaint[t] and m.date() == d} for d in days}
    present = {d: {u for u, day in there if day == d} for d in days}
    assert found.daily["complaining_users_count"].tolist() == [len(by_day[d]) for d in days]
    expected = [max(len(present[d]), len(by_day[d])) for d in days]
    assert found.daily["active_users_count"].tolist() == expected
    assert found.complaint_rate.numerator == sum(len(u) for u in by_day.values())
    assert found.tickets_count == sum(1 for m in first.values() if m.date() in days)
    sides = {s: sum(1 for d in days for u in by_day[d] if "ba"[u % 2] == s) for s in "ab"}
    cells = found.cells.set_index("side")["complaining_count"].to_dict() if len(found.cells) else {}
    assert {s: cells.get(s, 0) for s in "ab"} == sides


def test_time_to_solve_by_hand() -> None:
    # Ten tickets at once: five solved after 1 to 5 hours, five open since. Open ones wait to the end of the last day.
    rows: list[Ticket] = [(n, n, at(0, 9), True, "billing", at(0, 9 + n)) for n in range(1, 6)]
    rows += [(n, n, at(0, 9), True, "billing", None) for n in range(6, 11)]
    found = measure_tickets(to_tickets(rows), WEEK, as_of=FIRST, calendar=UTC)
    row = found.overall.iloc[0]
    assert (row["tickets_count"], row["open_count"], row["solved_count"]) == (10, 5, 5)
    assert row["median_hours"] == 6 and math.isnan(row["p90_hours"])


def test_a_ticket_closed_later_is_still_open_and_one_ticket_is_enough() -> None:
    rows: list[Ticket] = [(1, 1, at(0), True, "billing", at(3))]
    open_then = measure_tickets(to_tickets(rows), WEEK, as_of=FIRST, calendar=UTC).overall.iloc[0]
    solved = measure_tickets(to_tickets(rows), WEEK, as_of=FIRST + dt.timedelta(days=5), calendar=UTC).overall.iloc[0]
    assert (open_then["open_count"], solved["open_count"]) == (1, 0)
    nothing = measure_tickets(to_tickets([]), WEEK, as_of=FIRST, calendar=UTC)
    assert nothing.categories.empty and nothing.overall["tickets_count"].iloc[0] == 0


@settings(max_examples=20)
@given(st.lists(st.tuples(st.integers(0, 60), st.booleans()), min_size=1, max_size=30))
def test_solving_times_agree_with_kaplan_meier_by_hand(drawn: list[tuple[int, bool]]) -> None:
    end = dt.datetime.combine(FIRST + dt.timedelta(days=7), dt.time())
    rows: list[Ticket] = []
    for n, (hours, done) in enumerate(drawn):
        opened = end - dt.timedelta(hours=hours)
        rows.append((n, n, opened, True, "a", opened + dt.timedelta(minutes=30 * hours) if done and hours else None))
    period = Period(FIRST, FIRST + dt.timedelta(days=8), "")
    found = measure_tickets(to_tickets(rows), period, as_of=FIRST + dt.timedelta(days=6), calendar=UTC).overall.iloc[0]
    ends = [((60 * 30 * h) // 3600 + 1, True) if done and h else (h, False) for h, done in drawn if h]
    alive, median = 1.0, math.nan
    for hour in sorted({t for t, _ in ends}):
        risk = sum(t >= hour for t, _ in ends)
        alive *= 1 - sum(t == hour and closed for t, closed in ends) / risk
        if alive <= 0.5 + 1e-12:
            median = hour
            break
    assert found["median_hours"] == pytest.approx(median, nan_ok=True)


def test_csat_has_the_published_interval() -> None:
    # Newcombe (1998), Statistics in Medicine 17, 857-872, table I: 81 of 263, score method, 0.2553 to 0.3662.
    answers = pd.DataFrame({"kind": "csat", "score": [5, 3], "answers_count": [81, 182]})
    estimate = estimate_satisfaction(answers)
    assert (round(estimate.low or 0, 4), round(estimate.high or 0, 4)) == (0.2553, 0.3662)


def test_csat_counts_four_and_five_and_nps_promoters_less_detractors() -> None:
    rows = [(n, at(0), "csat", s) for n, s in enumerate([1, 2, 3, 4, 5])]
    rows += [(n, at(0), "nps", s) for n, s in enumerate([0, 6, 7, 8, 9, 10, 10])]
    rows += [(50, at(0), "csat", 9.0), (51, at(8), "csat", 5.0)]  # another scale; another week
    found = measure_satisfaction(to_surveys(rows), WEEK, calendar=UTC, active_days=to_active(everybody(40)), minimum=1)
    assert (found.satisfaction_rate.numerator, found.satisfaction_rate.denominator) == (2, 5)
    assert (found.nps_ratio.numerator, found.nps_ratio.denominator) == (1, 7)
    assert found.excluded_count == 1 and "outside their scale" in found.notes[0]
    assert (found.nps_response_rate.numerator, found.nps_response_rate.denominator) == (7, 40)


def test_nps_has_the_variance_of_coded_answers_and_covers_the_truth() -> None:
    # Rocks (2016) codes answers as 1, 0, -1: with many of them, the interval is that of their mean.
    counts = {10: 5000, 8: 3000, 3: 2000}
    frame = pd.DataFrame({"kind": "nps", "score": list(counts), "answers_count": list(counts.values())})
    estimate = estimate_nps(frame)
    coded = np.repeat([1, 0, -1], list(counts.values()))
    half = 1.959964 * coded.std() / math.sqrt(len(coded))
    assert estimate.value == pytest.approx(0.3) and estimate.high == pytest.approx(0.3 + half, abs=5e-4)
    random, covered = np.random.default_rng(7), 0
    for draw in random.multinomial(40, [0.55, 0.3, 0.15], size=600):
        e = estimate_nps(pd.DataFrame({"kind": "nps", "score": [10, 8, 3], "answers_count": draw}))
        covered += (e.low or 0) <= 0.4 <= (e.high or 0)
    assert 0.92 <= covered / 600 <= 0.98


def test_too_few_answers_have_no_value() -> None:
    frame = pd.DataFrame({"kind": ["nps", "csat"], "score": [10, 5], "answers_count": [19, 19]})
    for estimate in (estimate_nps(frame), estimate_satisfaction(frame)):
        assert not estimate.known and "19 answers" in estimate.note


def test_times_as_often_is_the_conditional_test() -> None:
    # Przyborowski and Wilenski: given 80 in all, those of now are binomial with the share of the time.
    estimate = estimate_times("ratio", 60, 100, 20, 200)
    assert estimate.value == pytest.approx(6)
    assert estimate_times("ratio", 10, 100, 20, 200).value == pytest.approx(1)
    assert not estimate_times("ratio", 10, 100, 0, 200).known


def test_the_sample_says_what_was_planted() -> None:
    data = open_data(ROOT / "playbook.toml")
    truth = json.loads((ROOT / "data" / "samples" / "truth.json").read_text())
    change = next(i for i in truth["incidents"] if i["id"] == "complaint_wave")["changes"][0]
    for side in ("during", "before"):
        start, end = (dt.date.fromisoformat(d) for d in change["realised"]["windows"][side])
        found = measure_complaints(
            data.table("tickets"), data.active_days, Period(start, end, side), calendar=data.calendar
        )
        cell = change["realised"]["cells"][f"segment_{side}"]
        assert found.complaint_rate.numerator == cell["numerator"]
        assert found.complaint_rate.denominator == cell["denominator"]


@pytest.mark.shared
def test_real_complaints_by_category(shared: Path) -> None:
    path = shared / "real" / "comcast_complaints" / "Comcast_telecom_complaints_data.csv"
    raw = pd.read_csv(path)
    # Day and month are swapped on many rows, so only counts without days are safe: everything in one long period.
    tickets = pd.DataFrame(
        {
            "ticket_id": raw["Ticket #"].astype(str),
            "user_id": raw["Ticket #"].astype(str),
            "opened_at": pd.Timestamp("2015-06-01"),
            "is_complaint": True,
            "category": raw["Received Via"],
        }
    )
    year = Period(dt.date(2015, 1, 1), dt.date(2016, 1, 1), "2015")
    found = measure_complaints(ibis.memtable(tickets), None, year, calendar=UTC)
    assert found.tickets_count == raw["Ticket #"].nunique() == 2224
    counts = raw.drop_duplicates("Ticket #")["Received Via"].value_counts()
    assert found.categories.set_index("category")["complaints_count"].to_dict() == counts.to_dict()

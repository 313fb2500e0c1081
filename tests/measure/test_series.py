"""Series of activity on random streams, against counting user by user and day by day; days without rows."""

from __future__ import annotations

import datetime as dt
import statistics
from itertools import pairwise

import ibis
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opslib.data.periods import DAY, Period
from opslib.measure.grains import Grain, floor_day
from opslib.measure.series import activity, behaviour, money
from opslib.measure.series.grid import Grid, find_gaps, make_series
from opslib.measure.series.series import MetricSeries
from tests.measure.streams import START, to_table, user_days

NO_GAPS = np.zeros(121, dtype=bool)
SPAN = Period(START, START + 121 * DAY, "all")
ALL_DAYS = [START + n * DAY for n in range(121)]
GRAINS: tuple[Grain, ...] = ("day", "week", "month")


def make_grid(grain: Grain = "day", week_start: int = 0) -> Grid:
    return Grid(SPAN, grain, week_start, "half", ("even", "odd"), minimum=1)


def label(days: set[tuple[int, dt.date]]) -> ibis.Table:
    table = to_table(days)
    return table.mutate(group=(table.user_id % 2 == 0).ifelse("even", "odd"))


def last_day_of(start: dt.date, grain: Grain) -> dt.date:
    day = start
    while floor_day(day + DAY, grain) == start:
        day += DAY
    return day


def rows_of(series: MetricSeries) -> list[tuple[dt.date, int, dict[str, float]]]:
    """First day of the period, the rest of users divided by two, and the row."""
    found = series.frame.to_dict("records")
    return [(r["period_start"].date(), int(r["group"] == "odd"), r) for r in found]  # type: ignore[misc]


@settings(max_examples=20)
@given(user_days, st.sampled_from(GRAINS))
def test_windows(days: set[tuple[int, dt.date]], grain: Grain) -> None:
    grid, table = make_grid(grain), label(days)
    windows, squares = activity.count_windows(table, grid.days), activity.sum_squares(table, grid)
    mau = activity.make_mau(windows, grid, NO_GAPS)
    stickiness = activity.make_stickiness(windows, squares, grid, NO_GAPS)
    for series, length in ((mau, 30), (stickiness, 28)):
        for start, rest, row in rows_of(series):
            last = last_day_of(start, grain)
            known = start >= START and last < SPAN.end and last - (length - 1) * DAY >= START
            assert (row["status"] in ("known", "too few")) == known
            if not known:
                continue
            reach = [(u, d) for u, d in days if u % 2 == rest and last - length * DAY < d <= last]
            users = {u for u, _ in reach}
            if series is mau:
                assert row["value"] == len(users)
                continue
            assert (row["numerator"], row["denominator"]) == (pytest.approx(len(reach) / 28), len(users))
            if len(users) > 1:
                each = [sum(u == v for v, _ in reach) / 28 for u in users]
                expected = statistics.stdev(each) / len(users) ** 0.5
                assert row["standard_error"] == pytest.approx(expected, abs=1e-7)


@settings(max_examples=20)
@given(user_days, st.sampled_from(GRAINS))
def test_mean_daily_users(days: set[tuple[int, dt.date]], grain: Grain) -> None:
    grid, table = make_grid(grain), label(days)
    windows, users = activity.count_windows(table, grid.days), activity.count_users(table, grid)
    for start, rest, row in rows_of(activity.make_dau(windows, users, grid, NO_GAPS)):
        mine = [u for u, d in days if u % 2 == rest and floor_day(d, grain) == start]
        length = (last_day_of(start, grain) - start).days + 1
        if row["status"] == "known":
            assert row["value"] == pytest.approx(len(mine) / length)
            error = sum(mine.count(u) ** 2 for u in set(mine)) ** 0.5 / length
            assert row["standard_error"] == pytest.approx(error)
        else:
            assert start < START or last_day_of(start, grain) >= SPAN.end


@settings(max_examples=20)
@given(user_days, st.sampled_from(GRAINS))
def test_new_users_and_who_came_back(days: set[tuple[int, dt.date]], grain: Grain) -> None:
    grid = make_grid(grain)
    cohorts = activity.count_cohorts(activity.pick_returns(label(days)), grid.days)
    pd.testing.assert_frame_equal(cohorts, activity.count_cohorts(label(days), grid.days))
    first = {u: min(d for v, d in days if v == u) for u, _ in days}
    for start, rest, row in rows_of(activity.make_new_users(cohorts, grid, NO_GAPS)):
        mine = [u for u, d in first.items() if u % 2 == rest and floor_day(d, grain) == start]
        assert row["numerator"] == len(mine)
    for n in (1, 7, 30):
        for start, rest, row in rows_of(activity.make_retention(cohorts, grid, NO_GAPS, day=n)):
            mine = [u for u, d in first.items() if u % 2 == rest and floor_day(d, grain) == start]
            last = last_day_of(start, grain)
            assert row["denominator"] == len(mine)
            assert row["numerator"] == sum((u, first[u] + n * DAY) in days for u in mine)
            assert row["known_on"] == pd.Timestamp(last + n * DAY)
            if start < START or last >= SPAN.end:
                assert row["status"] == "partial"
            elif last + n * DAY >= SPAN.end:
                assert row["status"] == "immature"
            else:
                assert row["status"] == ("known" if mine else "too few")


@settings(max_examples=20)
@given(user_days, st.sampled_from(GRAINS[1:]), st.integers(0, 6))
def test_who_left(days: set[tuple[int, dt.date]], grain: Grain, week_start: int) -> None:
    grid = make_grid(grain, week_start)
    series = activity.make_churn(activity.count_left(label(days), grid), grid, NO_GAPS)
    for start, rest, row in rows_of(series):
        before = floor_day(start - DAY, grain, week_start)
        active = {
            at: {u for u, d in days if u % 2 == rest and floor_day(d, grain, week_start) == at}
            for at in (before, start)
        }
        if before >= floor_day(START, grain, week_start):
            assert row["denominator"] == len(active[before])
            assert row["numerator"] == len(active[before] - active[start])
        assert row["status"] != "known" or before >= START


@settings(max_examples=20)
@given(user_days, user_days, st.sampled_from(GRAINS))
def test_share_of_active_users(days: set[tuple[int, dt.date]], doing: set[tuple[int, dt.date]], grain: Grain) -> None:
    grid, table = make_grid(grain), label(days)
    doers = money.count_doers(label(doing), grid, active_days=table)
    users = activity.count_users(table, grid)
    for start, rest, row in rows_of(money.make_doers(doers, users, grid, NO_GAPS, metric="event_rate")):
        active, did = (
            {u for u, d in found if u % 2 == rest and floor_day(d, grain) == start} for found in (days, doing)
        )
        assert (row["numerator"], row["denominator"]) == (len(did), len(did | active))


minutes = st.lists(st.tuples(st.integers(1, 4), st.integers(0, 3 * 24 * 60)), min_size=1, max_size=40)


@settings(max_examples=20)
@given(minutes)
def test_dwell(times: list[tuple[int, int]]) -> None:
    midnight = dt.datetime.combine(START, dt.time())
    rows = pd.DataFrame(
        {"user_id": [u for u, _ in times], "ts": [midnight + dt.timedelta(minutes=m) for _, m in times]}
    )
    table = ibis.memtable(rows)
    grid = Grid(Period(START, START + 4 * DAY, "all"), minimum=1)
    dwell = behaviour.sum_dwell(table.mutate(day=table.ts.date()))
    series = behaviour.make_dwell(behaviour.count_dwell(dwell, grid), grid, np.zeros(4, dtype=bool))
    for n, row in enumerate(series.frame.to_dict("records")):
        users = {u for u, m in times if m // 1440 == n}
        total = 0
        for user in users:
            mine = sorted(m for u, m in times if u == user)
            total += sum(b - a for a, b in pairwise(mine) if b // 1440 == n and b - a <= 30)
        assert (row["numerator"], row["denominator"]) == (pytest.approx(total), len(users))


# Days without rows


def test_a_table_with_rows_now_and_then_has_no_gaps() -> None:
    generator = np.random.default_rng(1)
    for mean in (0.5, 1, 2, 3):
        assert not find_gaps(generator.poisson(mean, 400)).any()


def test_gaps_are_found_where_rows_are_many() -> None:
    rows = np.random.default_rng(2).poisson(20, 200)
    assert not find_gaps(rows).any()
    rows[[50, 51, 120]] = 0
    rows[190:] = 0
    assert np.flatnonzero(find_gaps(rows)).tolist() == [50, 51, 120, *range(190, 200)]


def test_a_business_that_grew_from_nothing_began_with_zeros() -> None:
    rows = np.concatenate([[0, 0, 0, 1, 0, 2, 1, 1, 2], np.random.default_rng(3).poisson(np.linspace(3, 50, 400))])
    rows[9:] = np.maximum(rows[9:], 1)
    assert not find_gaps(rows).any()
    late = np.concatenate([np.zeros(5), np.full(100, 30)])
    assert np.flatnonzero(find_gaps(late)).tolist() == [0, 1, 2, 3, 4]


def test_five_days_a_week_are_no_gaps() -> None:
    assert not find_gaps(np.tile([40, 40, 40, 40, 40, 0, 0], 20)).any()


def test_a_period_with_a_missing_day() -> None:
    grid = Grid(Period(dt.date(2026, 1, 5), dt.date(2026, 1, 26), "three weeks"), "week", minimum=1)
    gaps = np.zeros(21, dtype=bool)
    gaps[3] = gaps[7:14] = True
    ones = np.ones(3)
    for is_sum, first in ((True, "partial"), (False, "known")):
        series = make_series(
            grid, "x_count", unit="count", kind="count", numerator=ones, denominator=ones, error=ones, gaps=gaps,
            is_sum=is_sum,
        )  # fmt: skip
        assert series.frame["status"].tolist() == [first, "no data", "known"]
        assert series.frame["value"].isna().tolist() == [is_sum, True, False]

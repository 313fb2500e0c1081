"""N-day retention: by hand, against brute force, real data and the cohort engine; immature users are apart."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path

import ibis
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opslib.data.periods import DAY, Period
from opslib.data.source import open_data
from opslib.measure.cohorts import measure_cohorts
from opslib.measure.retention import find_first_days, measure_retention
from tests.conftest import ROOT
from tests.measure.streams import START, to_table, user_days

YEAR = Period(dt.date(2026, 1, 1), dt.date(2027, 1, 1), "2026")


def test_by_hand() -> None:
    first = dt.date(2026, 1, 10)
    days = {(u, first) for u in range(1, 31)} | {(u, first + DAY) for u in range(1, 13)} | {(1, first + 7 * DAY)}
    result = measure_retention(to_table(days), YEAR, as_of=first + 8 * DAY)
    assert (result.days[1].numerator, result.days[1].denominator, result.days[1].value) == (12, 30, 0.4)
    assert (result.days[7].numerator, result.days[7].denominator) == (1, 30)
    assert not result.days[30].known
    assert result.immature == {1: 0, 7: 0, 30: 30}


def test_a_day_not_yet_over_is_in_no_denominator() -> None:
    first = dt.date(2026, 1, 10)
    old, young = {(u, first) for u in range(20)}, {(100 + u, first + DAY) for u in range(20)}
    result = measure_retention(to_table(old | young), YEAR, as_of=first + DAY, days=(1,))
    assert (result.days[1].denominator, result.immature[1]) == (20, 20)
    rows = result.by_cohort.to_dict("records")
    assert rows[0]["users_count"] == 20
    assert rows[0]["immature_count"] == 20


def test_immature_cells_are_missing_not_zero() -> None:
    table = to_table({(u, dt.date(2026, 3, 30)) for u in range(25)})
    result = measure_retention(table, YEAR, as_of=dt.date(2026, 3, 31), days=(7,))
    assert result.by_cohort["retention_rate"].isna().all()
    assert "not enough data" in result.days[7].note


def test_nobody_in_the_period() -> None:
    result = measure_retention(to_table({(1, dt.date(2025, 1, 1))}), YEAR, as_of=dt.date(2026, 6, 30))
    assert not any(e.known for e in result.days.values())
    assert result.by_cohort.empty


def test_day_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="from day 1"):
        measure_retention(to_table({(1, dt.date(2026, 1, 1))}), YEAR, as_of=dt.date(2026, 6, 30), days=(0,))


@settings(max_examples=50)
@given(user_days, st.integers(0, 100), st.integers(1, 60), st.integers(0, 120))
def test_equals_brute_force(days: set[tuple[int, dt.date]], offset: int, length: int, known: int) -> None:
    period = Period(START + offset * DAY, START + (offset + length) * DAY, "any")
    as_of = START + known * DAY
    seen = {(u, d) for u, d in days if d <= as_of}
    first = {u: min(d for v, d in seen if v == u) for u, _ in seen}
    cohort = {u: f for u, f in first.items() if period.start <= f < period.end}
    result = measure_retention(to_table(days), period, as_of=as_of, days=(1, 2, 7, 30))
    for n in (1, 2, 7, 30):
        mature = {u for u, f in cohort.items() if f + n * DAY <= as_of}
        assert result.days[n].denominator == len(mature)
        assert result.days[n].numerator == sum((u, cohort[u] + n * DAY) in seen for u in mature)
        assert result.immature[n] == len(cohort) - len(mature)
        assert result.by_cohort.query("n_days == @n")["users_count"].sum() == len(mature)


@given(user_days)
@settings(max_examples=10)
def test_first_days(days: set[tuple[int, dt.date]]) -> None:
    frame = find_first_days(to_table(days)).to_pandas()
    assert len(frame) == len({u for u, _ in days})
    assert all(min(d for v, d in days if v == row.user_id) == row.first_day.date() for row in frame.itertuples())


@settings(max_examples=15)
@given(user_days, st.integers(0, 100), st.integers(1, 60), st.integers(0, 120))
def test_equals_the_cohort_engine(days: set[tuple[int, dt.date]], offset: int, length: int, known: int) -> None:
    """One number, two ways: this module's short query and `measure_cohorts`."""
    period = Period(START + offset * DAY, START + (offset + length) * DAY, "any")
    as_of = START + known * DAY
    result = measure_retention(to_table(days), period, as_of=as_of)
    engine = measure_cohorts(to_table(days), period=period, as_of=as_of, intervals=30)
    waiting = engine.curve.set_index("n")["immature_count"]
    for n, estimate in result.days.items():
        assert estimate == engine.estimate(n)
        assert result.immature[n] == waiting[n]


def test_the_sample_equals_the_cohort_engine() -> None:
    data = open_data(ROOT / "playbook.toml")
    period = Period(dt.date(2026, 4, 1), dt.date(2026, 7, 1), "2026Q2")
    result = measure_retention(data.active_days, period, as_of=data.as_of)
    engine = measure_cohorts(data.active_days, period=period, as_of=data.as_of)
    assert [result.days[n] for n in (1, 7, 30)] == [engine.estimate(n) for n in (1, 7, 30)]
    assert result.days[7].known


@pytest.mark.shared
def test_collegemsg(shared: Path) -> None:
    """Outside reference: facts computed with plain pandas, on UTC days."""
    facts = json.loads((shared / "real" / "collegemsg" / "facts.json").read_text())
    rows = pd.read_csv(shared / "real" / "collegemsg" / "CollegeMsg.txt", sep=" ", names=["user_id", "to", "seconds"])
    frame = pd.DataFrame({"user_id": rows["user_id"], "day": pd.to_datetime(rows["seconds"], unit="s").dt.date})
    days = ibis.memtable(frame.drop_duplicates(), schema={"user_id": "int64", "day": "date"})
    always = Period(dt.date(2004, 1, 1), dt.date(2005, 1, 1), "2004")
    result = measure_retention(days, always, as_of=dt.date(2004, 10, 26))
    for n, estimate in result.days.items():
        assert (estimate.numerator, estimate.denominator) == (facts[f"D{n}"]["retained"], facts[f"D{n}"]["eligible"])

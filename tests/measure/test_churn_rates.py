"""Churn by period: by hand, against brute force, and on the sample company's planted rise."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

import ibis
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opslib.data.periods import DAY
from opslib.data.source import open_data
from opslib.measure.churn.definition import define_churn, find_spells
from opslib.measure.churn.rates import measure_churn
from opslib.measure.churn.trend import judge_rise
from opslib.measure.estimate import estimate_rate
from tests.conftest import ROOT
from tests.measure.streams import START, to_table, user_days
from tests.measure.test_churn import find_spells_slowly


@settings(max_examples=8)
@given(user_days, st.integers(0, 150), st.integers(1, 40), st.sampled_from(["week", "month"]))
def test_equals_brute_force(days: set[tuple[int, dt.date]], known: int, inactive_days: int, grain: Any) -> None:
    as_of = START + known * DAY
    table = to_table(days)
    churn = define_churn(table, as_of=as_of, inactive_days=inactive_days)
    users = ibis.memtable({"user_id": list(range(8)), "kind": ["a", "b"] * 4})
    spells = find_spells(table, churn)
    result = measure_churn(spells, churn, grain=grain, minimum=1)
    slow = find_spells_slowly(days, as_of, inactive_days)
    until = churn.known_until
    assert result.immature_count == sum(start > until for _, start, *_ in slow)
    for row in result.periods.itertuples():
        first = row.period_start.date()
        last = first + (row.days_count - 1) * DAY
        starts = [back for _, start, _, _, back in slow if first <= start <= last]
        assert (row.new_count, row.returned_count) == (starts.count(False), starts.count(True))
        assert row.mature == (last <= until)
        if not row.mature:
            assert pd.isna(row.left_count) and pd.isna(row.churn_rate)
            continue
        here = [(s, e, left) for _, s, e, left, _ in slow if s < first <= e]
        gone = [(s, e) for _, s, e, left, _ in slow if left and first <= e <= last]
        nights = sum(
            max(0, (min(e, last) - max(s, first)).days + 1) for _, s, e, _, _ in slow if s <= last and e >= first
        )
        assert row.opening_count == len(here)
        assert row.left_count == len(gone)
        assert row.left_opening_count == sum(s < first for s, _ in gone)
        assert row.person_days_count == nights
        assert row.opening_count + row.new_count + row.returned_count - row.left_count == row.closing_count
    split = measure_churn(spells, churn, grain=grain, attributes=users, by="kind", minimum=1).periods
    for column in ("opening_count", "new_count", "left_count", "person_days_count") if slow else ():
        summed = split.groupby("period_start")[column].sum(min_count=1)
        pd.testing.assert_series_equal(
            summed.reset_index(drop=True).astype("Int64"), result.periods[column].astype("Int64"), check_names=False
        )


def test_immature_months_are_missing_and_rates_have_their_intervals() -> None:
    """40 users in January; 10 are last seen on 10 February, the rest come every day until 31 March."""
    first = dt.date(2026, 1, 1)
    days = {(u, first + n * DAY) for u in range(40) for n in range(0, 90) if u >= 10 or n <= 40}
    churn = define_churn(to_table(days), as_of=dt.date(2026, 3, 31), inactive_days=14)
    result = measure_churn(find_spells(to_table(days), churn), churn)
    assert result.periods["mature"].tolist() == [True, True, False]
    assert result.estimate(dt.date(2026, 2, 1)) == estimate_rate("churn_rate", 10, 40)
    assert not result.estimate(dt.date(2026, 3, 1)).known
    time = result.estimate_time(dt.date(2026, 2, 1))
    assert time.value == pytest.approx(10 / ((30 * 28 + 10 * 10) / 28))
    assert json.dumps(result.findings())


def test_rise_by_hand_and_by_chance() -> None:
    """Cochran-Armitage by hand; three rises of four equal months happen once in 24 times, in a year 29%."""
    months = pd.date_range("2026-01-01", periods=4, freq="MS")
    counts = pd.DataFrame({"period_start": months, "left": [100, 110, 120, 130], "opening": [1000] * 4})
    rise = judge_rise(counts)
    z = (np.array([-1.5, -0.5, 0.5, 1.5]) * counts["left"]).sum() / np.sqrt(0.115 * 0.885 * 1000 * 5)
    assert rise.p_value == pytest.approx(2 * (1 - 0.5 * (1 + np.vectorize(__import__("math").erf)(z / 2**0.5))))
    assert rise.change_rate == pytest.approx(0.01)
    large = judge_rise(counts.assign(left=counts["left"] * 1000, opening=1_000_000))
    assert large.chance_rate == pytest.approx(1 / 24, abs=0.005)
    assert large.chance_year_rate == pytest.approx(0.29, abs=0.015)
    assert large.clear and judge_rise(counts.tail(3)).rising is None


@pytest.mark.parametrize("left", [0, 50])
def test_nobody_and_everybody_left(left: int) -> None:
    months = pd.date_range("2026-01-01", periods=6, freq="MS")
    rise = judge_rise(pd.DataFrame({"period_start": months, "left": [left] * 6, "opening": [50] * 6}))
    assert rise.rising is False and rise.note and rise.p_value is None


def test_scatter_makes_a_trend_less_sure() -> None:
    months = pd.date_range("2025-01-01", periods=12, freq="MS")
    quiet = pd.DataFrame({"period_start": months, "left": [100] * 9 + [110, 120, 130], "opening": [1000] * 12})
    noisy = quiet.assign(left=[60, 140] * 4 + [100, 110, 120, 130])
    assert judge_rise(quiet).dispersion_ratio == 1.0
    one, other = judge_rise(quiet).p_value, judge_rise(noisy).p_value
    assert one is not None and other is not None and other > 2 * one


@pytest.mark.parametrize("number", [1, 50])
def test_edges(number: int) -> None:
    table = to_table({(u, START) for u in range(number)})
    churn = define_churn(table, as_of=START + 80 * DAY, inactive_days=30)
    result = measure_churn(find_spells(table, churn), churn)
    assert result.periods["left_count"].dropna().sum() == number
    empty = find_spells(table.filter(ibis.literal(False)), churn)
    nothing = measure_churn(empty, churn)
    assert "no activity" in nothing.notes[0] and json.dumps(nothing.findings())
    assert measure_churn(empty, churn, attributes=table.select("user_id", kind="user_id"), by="kind").periods.empty


def test_sample_company_shows_the_planted_rise() -> None:
    """The coupon incident: leaving rises in March, April and May 2026."""
    data = open_data(ROOT / "playbook.toml")
    churn = define_churn(data.active_days, as_of=data.as_of, inactive_days=30)
    spells = find_spells(data.active_days, churn).cache()
    result = measure_churn(spells, churn, attributes=data.attributes, by="channel")
    assert result.rise.rising and result.rise.clear and result.rise.p_value is not None
    assert result.rise.p_value < 1e-6
    assert result.rise.chance_rate == pytest.approx(0.04, abs=0.01)
    assert result.rise.periods["period_start"].dt.month.tolist() == [2, 3, 4, 5]
    assert (result.rises["q_value"] < 0.05).all()
    june = result.periods[result.periods["period_start"] == "2026-06-01"]
    assert not june["mature"].any() and june["churn_rate"].isna().all()
    total = measure_churn(spells, churn).periods
    summed = result.periods.groupby("period_start")["left_count"].sum(min_count=1)
    assert summed.dropna().tolist() == total["left_count"].dropna().tolist()

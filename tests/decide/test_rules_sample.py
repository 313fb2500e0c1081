"""Rules on the sample company: the planted complaints are found on the right day, and quiet months stay quiet."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pandas as pd
import pytest

from opslib.data.operations import RuleSettings
from opslib.data.source import open_data
from opslib.decide.rules.evaluate import evaluate_rule
from opslib.decide.series import SeriesReader
from opslib.measure.series.series import MetricSeries

ROOT = Path(__file__).resolve().parents[2]
RULE = RuleSettings(name="complaints", metric="complaint_rate", above=0.05, times=3, severity="urgent")


@pytest.fixture(scope="module")
def complaints() -> MetricSeries:
    return SeriesReader(open_data(ROOT / "playbook.toml")).read("complaint_rate", grain="day")


def test_three_days_of_planted_complaints(complaints: MetricSeries) -> None:
    share = complaints.of().set_index("period_start")["value"]
    past = share > 0.05
    third = (past & past.shift(1) & past.shift(2)).idxmax()
    result = evaluate_rule(RULE, complaints, as_of=dt.date(2026, 6, 30))
    firings = result.firings[result.firings["version"] == "verbatim"]
    assert firings["fired_on"].tolist() == [third]
    on_the_day = evaluate_rule(RULE, complaints, as_of=third.date())
    assert on_the_day.level == "red"
    assert on_the_day.groups["passed_probability"].iloc[0] > 0.95
    day_before = evaluate_rule(RULE, complaints, as_of=(third - pd.Timedelta(days=1)).date())
    assert day_before.groups["state"].iloc[0] == "quiet"


def test_quiet_months_stay_quiet(complaints: MetricSeries) -> None:
    result = evaluate_rule(RULE, complaints, as_of=dt.date(2026, 4, 30))
    assert result.firings.empty
    assert result.level == "green"
    assert result.groups["noise_fires_per_year"].iloc[0] < 0.01

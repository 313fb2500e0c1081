"""The expected range on the sample company: its incidents raise alarms, and quiet times no more than stated."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from scipy import stats

from opslib.data.playbook import load_playbook
from opslib.data.sample_company import generate_sample
from opslib.measure.expected import ExpectedResult, expect_values
from tests.conftest import ROOT

ZONE = "Asia/Shanghai"
METRICS = (
    "dau_count", "new_users_count", "revenue_amount", "orders_count", "complaints_count", "requests_count", "error_rate"
)  # fmt: skip
SPAN = pd.date_range("2025-01-01", "2026-06-30")
# The company itself hands out coupons then, whatever the incidents: not quiet, and no holiday of the playbook.
COUPON_DAYS = {dt.date(2025, 6, 9), dt.date(2025, 6, 10), dt.date(2025, 11, 3), dt.date(2025, 11, 4)}


def read_series(folder: Path) -> dict[str, ExpectedResult]:
    """Daily series of a sample company, each with its expected range."""

    def read(name: str, time: str, *columns: str) -> pd.DataFrame:
        frame = pd.read_parquet(folder / name, columns=[time, *columns])
        local = frame[time].dt.tz_localize("UTC").dt.tz_convert(ZONE).dt.tz_localize(None)
        return frame.assign(day=local.dt.normalize())

    events = read("events", "ts", "user_id").groupby("day")["user_id"].nunique()
    orders = read("orders.parquet", "ts", "amount").groupby("day")["amount"]
    tickets = read("tickets.parquet", "opened_at", "user_id", "is_complaint")
    traffic = read("traffic.parquet", "ts", "requests", "errors").groupby("day")
    requests = traffic["requests"].sum()
    tops: dict[str, Any] = {
        "dau_count": events,
        "new_users_count": read("users.parquet", "signup_at")["day"].value_counts(),
        "revenue_amount": orders.sum(),
        "orders_count": orders.size(),
        "complaints_count": tickets[tickets["is_complaint"]].groupby("day")["user_id"].nunique(),
        "requests_count": requests,
        "error_rate": traffic["errors"].sum(),
    }
    kinds: dict[str, Any] = {"revenue_amount": "mean", "error_rate": "rate"}
    holidays = load_playbook(ROOT / "playbook.toml").holidays
    results = {}
    for name in METRICS:
        top = tops[name].reindex(SPAN, fill_value=0).astype(float).to_numpy()
        size = requests.reindex(SPAN).to_numpy() if name == "error_rate" else 1.0
        frame = pd.DataFrame({"period_start": SPAN, "value": top / size, "numerator": top, "denominator": size})
        results[name] = expect_values(frame, kind=kinds.get(name, "count"), holidays=holidays)
    return results


def count_alarms(result: ExpectedResult, until: dt.date) -> tuple[int, float]:
    """Alarms before a day, and the years that were judged."""
    first_days = [d.date() for d in result.episodes["first_day"]]
    judged = (result.daily["status"] == "judged") & (result.daily["period_start"] < pd.Timestamp(until))
    return sum(d < until and d not in COUPON_DAYS for d in first_days), judged.sum() / 365.25


@pytest.fixture(scope="module")
def watched(samples: Path) -> dict[str, ExpectedResult]:
    return read_series(samples)


def test_incidents_raise_alarms(watched: dict[str, ExpectedResult], samples: Path) -> None:
    incidents = {i["id"]: i for i in json.loads((samples / "truth.json").read_text("utf-8"))["incidents"]}
    wave = incidents["complaint_wave"]
    (alarm,) = watched["complaints_count"].episodes.to_dict("records")
    assert (str(alarm["first_day"].date()), alarm["side"]) == (wave["start"], "high")
    assert alarm["last_day"] == pd.Timestamp(wave["end"]) - pd.Timedelta(days=1)
    surge = dt.date.fromisoformat(incidents["surge_day"]["start"])
    assert watched["error_rate"].range_on(surge).unusual == "high"
    sale = dt.date.fromisoformat(incidents["june_sale"]["start"])
    for name in ("orders_count", "revenue_amount", "dau_count", "requests_count"):
        assert watched[name].range_on(sale).unusual == "high", name


def test_the_quiet_year_raises_no_more_than_stated(watched: dict[str, ExpectedResult], samples: Path) -> None:
    starts = [i["start"] for i in json.loads((samples / "truth.json").read_text("utf-8"))["incidents"]]
    counts = [count_alarms(result, dt.date.fromisoformat(min(starts))) for result in watched.values()]
    alarms, years = sum(a for a, _ in counts), sum(y for _, y in counts)
    assert alarms <= stats.poisson.ppf(0.995, years)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_company_without_incidents_raises_no_more_than_stated(tmp_path: Path, seed: int) -> None:
    generate_sample(tmp_path / "quiet", users=8000, seed=seed, incidents=(), processes=1)
    for name, result in read_series(tmp_path / "quiet").items():
        alarms, years = count_alarms(result, dt.date(2026, 7, 1))
        assert alarms <= stats.poisson.ppf(0.999, years), name

"""A/A: read-outs of random splits of the sample's users raise as many false alarms as promised."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

import ibis
import pytest

from opslib.data.periods import DAY
from opslib.data.source import open_data
from opslib.errors import InputError
from opslib.measure.experiment.experiment import Behavior, Metric
from opslib.measure.experiment.rehearsal import RehearsalResult, _row, rehearse_experiment
from tests.conftest import ROOT

AMOUNT = Behavior("orders", how="sum", column="amount", days=(0, 28))
ORDERS = Behavior("orders", how="rows", days=(0, 28))


@pytest.fixture(scope="module")
def sample() -> Any:
    return open_data(ROOT / "playbook.toml")


def rehearse(sample: Any, starts: Any, *metrics: Metric, **options: Any) -> RehearsalResult:
    tables = {name: sample.table(name) for name in ("events", "orders")}
    return rehearse_experiment(starts, tables, metrics=metrics, as_of=sample.as_of, calendar=sample.calendar, **options)


def old_users(sample: Any) -> Any:
    """Everybody who had signed up by May, as if exposed then."""
    at = ibis.timestamp(dt.datetime(2026, 5, 1))
    users = sample.table("users")
    return users.filter(users.signup_at < at).select("user_id", ts=at)


def new_users(sample: Any) -> Any:
    users = sample.table("users")
    return users.filter(users.signup_at >= dt.datetime(2026, 1, 1)).select("user_id", ts="signup_at")


@pytest.mark.slow
def test_false_alarms_of_a_thousand_splits(sample: Any) -> None:
    """Conversion, mean, ratio and CUPED: 5% each within the binomial error; mismatches 1 in 1,000."""
    metrics = [
        Metric("d7_rate", Behavior(days=(7, 8), clock="day"), role="primary"),
        Metric("active_days", Behavior(how="days", days=(0, 28)), before=28, role="primary"),
        Metric("revenue_amount", AMOUNT, before=56),
        Metric("order_amount", AMOUNT, per=ORDERS),
    ]
    result = rehearse(sample, old_users(sample), *metrics, splits=1000)
    assert result.alarms["holds"].all(), result.alarms
    assert result.decisions["stop"] > 940


def test_false_alarms_of_one_look(sample: Any) -> None:
    metrics = [
        Metric("active_days", Behavior(how="days", days=(0, 28)), before=28, role="primary"),
        Metric("order_amount", AMOUNT, per=ORDERS),
    ]
    result = rehearse(sample, old_users(sample), *metrics, splits=100)
    assert result.alarms["holds"].all(), result.alarms
    assert result.alarms["split_count"].min() >= 99
    assert result.decisions["stop"] >= 88
    json.dumps(result.findings(), allow_nan=False)


def test_false_alarms_of_a_look_every_day(sample: Any) -> None:
    metric = Metric("d1_rate", Behavior(days=(1, 2), clock="day"), role="primary")
    result = rehearse(sample, new_users(sample), metric, splits=100, looks="always")
    again = rehearse(sample, new_users(sample), metric, splits=100, looks="always")
    assert again.findings() == result.findings()
    assert result.alarms["holds"].all(), result.alarms
    assert result.estimate("d1_rate").denominator == 100


def test_a_broken_promise_is_seen() -> None:
    assert not _row("x", 25, 200, 0.05, False)[-1]
    assert _row("x", 10, 200, 0.05, False)[-1]
    assert not _row("x", 0, 200, 0.05, False)[-1]
    assert _row("x", 0, 200, 0.05, True)[-1]
    assert _row("x", 0, 0, 0.05, True)[-1]


def test_too_little_to_rehearse_with() -> None:
    at = dt.datetime(2026, 1, 1)
    starts = ibis.memtable({"user_id": [1, 2], "ts": [at, at]})
    orders = ibis.memtable({"user_id": [1], "ts": [at + DAY], "amount": [1.0]})
    options: dict[str, Any] = {"metrics": [Metric("pay_rate", Behavior("orders"))], "as_of": dt.date(2026, 2, 1)}
    with pytest.raises(InputError, match="at least 20"):
        rehearse_experiment(starts, {"orders": orders}, splits=5, **options)
    with pytest.raises(InputError, match="no users"):
        rehearse_experiment(starts.filter(ibis.literal(False)), {"orders": orders}, splits=20, **options)
    with pytest.raises(KeyError):
        rehearse_experiment(starts, {"orders": orders}, splits=20, **options).estimate("x")

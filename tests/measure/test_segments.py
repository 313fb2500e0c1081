"""Value by segment: sums against one customer at a time, intervals against futures drawn from the model, real data."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any

import ibis
import numpy as np
import pandas as pd
import pytest

from opslib.data.source import open_data
from opslib.errors import InputError
from opslib.measure.purchase_model.bgnbd import Histories, chance_alive, expect_purchases
from opslib.measure.purchase_model.orders import count_histories, summarize_purchases
from opslib.measure.purchase_model.purchase_model import fit_purchase_model
from opslib.measure.purchase_model.value import _draw_counts, _draw_weights, sum_expectations
from opslib.measure.rfm.rfm import measure_rfm
from opslib.measure.segments import list_customers, measure_segment_value
from tests.conftest import ROOT
from tests.measure.purchases import START, draw_orders, read_cdnow, read_online_retail, to_orders

AS_OF = dt.date(2026, 12, 30)


@pytest.fixture(scope="module")
def drawn() -> pd.DataFrame:
    return draw_orders(1500, seed=11)


def test_sums_equal_customers_one_by_one(drawn: pd.DataFrame) -> None:
    orders = ibis.memtable(drawn)
    result = measure_segment_value(orders, as_of=AS_OF, horizon_days=90)
    listed = list_customers(orders, as_of=AS_OF, horizon_days=90, draws=20).to_pandas()
    tiers = listed.groupby("tier")
    table = result.segments.set_index("segment")
    assert table["customers_count"].to_dict() == tiers.size().to_dict()
    assert table["expected_value_amount"].to_dict() == pytest.approx(tiers["value_amount"].sum().to_dict())
    assert table["expected_orders_count"].to_dict() == pytest.approx(tiers["expected_orders_count"].sum().to_dict())
    assert table["alive_rate"].to_dict() == pytest.approx(tiers["alive_rate"].mean().to_dict())
    assert table["return_rate"].to_dict() == pytest.approx(tiers["return_rate"].mean().to_dict())
    assert table["past_amount"].to_dict() == pytest.approx(tiers["monetary_amount"].sum().to_dict())
    assert table["value_rate"].sum() == pytest.approx(1)
    assert result.totals["expected_value_amount"].value == pytest.approx(listed["value_amount"].sum())
    # One customer by the formulas of the papers.
    purchases = summarize_purchases(orders, as_of=AS_OF, calendar=measure_calendar()).to_pandas()
    model = fit_purchase_model(orders, as_of=AS_OF)
    assert model.purchases is not None
    assert model.amounts is not None
    row = purchases.sort_values("repeats_count").iloc[-1]
    h = Histories(*(np.array([float(v)]) for v in (row["repeats_count"], row["last_days"] / 7, row["age_days"] / 7, 1)))
    p, q, v = np.exp(model.amounts.at)
    x = float(row["repeats_count"])
    mean = (q - 1) / (p * x + q - 1) * (p * v / (q - 1)) + p * x / (p * x + q - 1) * (row["repeat_amount"] / x)
    own = listed.set_index("user_id").loc[row["user_id"]]
    assert own["value_amount"] == pytest.approx(float(expect_purchases(model.purchases.at, h, 90 / 7)[0]) * mean)
    assert own["alive_rate"] == pytest.approx(float(chance_alive(model.purchases.at, h)[0]))


def measure_calendar() -> Any:
    from opslib.data.periods import Calendar

    return Calendar()


def test_standard_errors_equal_those_of_drawn_futures(drawn: pd.DataFrame) -> None:
    """The exact variance and the delta method against 600 futures with parameters drawn anew."""
    orders = ibis.memtable(drawn)
    customers = summarize_purchases(orders, as_of=AS_OF, calendar=measure_calendar())
    model, frame = fit_purchase_model(orders, as_of=AS_OF), count_histories(customers)
    assert model.purchases is not None
    assert model.amounts is not None
    sums = sum_expectations(model, frame, np.zeros(len(frame), dtype=int), 1, 180)
    each = customers.to_pandas()
    h = Histories(
        each["repeats_count"].to_numpy(float), each["last_days"].to_numpy() / 7, each["age_days"].to_numpy() / 7,
        np.ones(len(each)),
    )  # fmt: skip
    rng = np.random.default_rng(6)
    totals = []
    for _ in range(600):
        at = rng.multivariate_normal(model.purchases.at, model.purchases.covariance)
        price = rng.multivariate_normal(model.amounts.at, model.amounts.covariance)
        count = _draw_counts(rng, at, h, 180 / 7)
        money = _draw_weights(rng, price, count, h) * (np.exp(price[2]) + each["repeat_amount"].to_numpy())
        totals.append((count.sum(), money.sum()))
    orders_drawn, money_drawn = np.array(totals).T
    assert sums.orders[0] == pytest.approx(orders_drawn.mean(), rel=0.02)
    assert sums.value[0] == pytest.approx(money_drawn.mean(), rel=0.02)
    assert sums.orders_error[0] == pytest.approx(orders_drawn.std(), rel=0.12)
    assert sums.value_error[0] == pytest.approx(money_drawn.std(), rel=0.12)


def test_intervals_of_customers_hold_what_they_then_did() -> None:
    """Customers drawn from the models, fitted up to a day: at least 95% of them, and not all, stay inside."""
    everything = draw_orders(3000, seed=21)
    split = dt.date(2026, 8, 31)
    cut = pd.Timestamp(split) + pd.Timedelta(days=1)
    listed = list_customers(ibis.memtable(everything), as_of=split, horizon_days=120).to_pandas().set_index("user_id")
    later = everything[(everything["ts"] >= cut) & (everything["ts"] < cut + pd.Timedelta(days=120))]
    money = later.groupby("user_id")["amount"].sum().reindex(listed.index, fill_value=0)
    days = later.assign(day=later["ts"].dt.date).groupby("user_id")["day"].nunique().reindex(listed.index, fill_value=0)
    for actual, name in ((money, "value"), (days, "orders")):
        inside = (actual >= listed[f"{name}_low"] - 1e-9) & (actual <= listed[f"{name}_high"] + 1e-9)
        assert 0.94 < inside.mean() < 1


def test_the_same_seed_gives_the_same_list(drawn: pd.DataFrame) -> None:
    frames = []
    for rows in (drawn, drawn.sample(frac=1, random_state=1)):
        listed = list_customers(ibis.memtable(rows), as_of=AS_OF, draws=30).order_by("user_id").to_pandas()
        frames.append(listed)
    pd.testing.assert_frame_equal(*frames, rtol=1e-4)


def test_relabelling_and_shuffling_change_nothing(drawn: pd.DataFrame) -> None:
    other = drawn.assign(user_id=10_000 - 3 * drawn["user_id"]).sample(frac=1, random_state=2)
    first, second = (measure_segment_value(ibis.memtable(f), as_of=AS_OF, by="cell") for f in (drawn, other))
    pd.testing.assert_frame_equal(first.segments, second.segments, rtol=1e-5)
    pd.testing.assert_frame_equal(first.at_risk, second.at_risk, rtol=1e-5)


def test_who_is_at_risk_adds_up(drawn: pd.DataFrame) -> None:
    result = measure_segment_value(ibis.memtable(drawn), as_of=AS_OF, by="cell")
    rfm = measure_rfm(ibis.memtable(drawn), as_of=AS_OF)
    counts = result.at_risk.groupby("segment")["customers_count"].sum()
    cells = rfm.cells.set_index("cell")["customers_count"]
    assert counts.to_dict() == cells[cells > 0].to_dict()
    assert result.at_risk["expected_value_amount"].sum() == pytest.approx(result.totals["expected_value_amount"].value)
    gone = result.at_risk[result.at_risk["valuable"] & (result.at_risk["alive_to_rate"] <= 0.5)]
    assert result.likely_gone["customers_count"] == gone["customers_count"].sum() > 0
    assert (gone["at_stake_amount"] > gone["expected_value_amount"]).all()
    json.dumps(result.findings(), allow_nan=False)


def test_without_a_model_there_are_counts_and_a_sentence() -> None:
    as_of = dt.date(2026, 3, 1)
    once = to_orders([(u, START, 10.0 + u) for u in range(50)])
    result = measure_segment_value(once, as_of=as_of)
    assert result.segments["customers_count"].sum() == 50
    assert result.segments["expected_value_amount"].isna().all()
    assert result.totals == {}
    assert "nobody has come back" in result.notes[0]
    listed = list_customers(once, as_of=as_of).to_pandas()
    assert len(listed) == 50
    assert listed["value_amount"].isna().all()
    empty = measure_segment_value(once.limit(0), as_of=as_of)
    assert empty.segments["customers_count"].sum() == 0
    assert len(list_customers(once.limit(0), as_of=as_of).to_pandas()) == 0
    free = to_orders([(u, START + dt.timedelta(days=n), 0.0) for u in range(50) for n in range(0, 10 + u % 20, 5)])
    counted = measure_segment_value(free, as_of=as_of)
    assert counted.totals["expected_orders_count"].known
    assert not counted.totals["expected_value_amount"].known
    assert list_customers(free, as_of=as_of, draws=10).to_pandas()["value_amount"].isna().all()
    for r in (result, empty, counted):
        json.dumps(r.findings(), allow_nan=False)
    with pytest.raises(InputError, match="a day at least"):
        measure_segment_value(once, as_of=as_of, horizon_days=0)


@pytest.mark.shared
def test_cdnow_and_online_retail(shared: Path) -> None:
    """The tier that brought most will bring most; intervals hold the value, and shares add up."""
    cases = [
        (read_cdnow(shared, "sample"), dt.date(1997, 9, 30)),
        (read_online_retail(shared, clean=False), dt.date(2011, 12, 8)),
    ]
    for orders, as_of in cases:
        table = measure_segment_value(orders, as_of=as_of).segments
        assert table["value_rate"].sum() == pytest.approx(1)
        assert table["expected_value_amount"].idxmax() == 0
        for name, unit in (("expected_value", "amount"), ("value", "rate"), ("alive", "rate"), ("return", "rate")):
            assert (table[f"{name}_low"] < table[f"{name}_{unit}"]).all()
            assert (table[f"{name}_{unit}"] < table[f"{name}_high"]).all()


def test_sample_company() -> None:
    data = open_data(ROOT / "playbook.toml")
    result = measure_segment_value(data.table("orders"), as_of=data.as_of, calendar=data.calendar)
    rfm = measure_rfm(data.table("orders"), as_of=data.as_of, calendar=data.calendar)
    assert result.segments["customers_count"].tolist() == rfm.tiers["customers_count"].tolist()
    value = result.segments.set_index("segment")["value_rate"]
    assert value["high_value"] > value["potential"] > value["dormant"]
    assert result.likely_gone["customers_count"] > 100

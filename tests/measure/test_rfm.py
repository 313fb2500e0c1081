"""RFM: by hand, against brute force, against published figures, real data and the sample company."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any

import ibis
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opslib.data.periods import DAY, Calendar
from opslib.data.source import open_data
from opslib.errors import InputError
from opslib.measure.estimate import estimate_rate
from opslib.measure.rfm.customers import find_tier, score_customers, summarize_customers
from opslib.measure.rfm.rfm import CELLS, RfmThresholds, estimate_share_of_sum, label_customers, measure_rfm
from tests.conftest import ROOT
from tests.measure.purchases import START, Orders, read_cdnow, read_online_retail, some_orders, to_orders

AS_OF = dt.date(2026, 3, 1)
SHANGHAI = Calendar("Asia/Shanghai", 0, dt.datetime(2025, 12, 1), dt.datetime(2026, 4, 1))
DIMENSIONS = ["recency_days", "frequency_count", "monetary_amount"]


def brute_force(rows: Orders, as_of: dt.date, calendar: Calendar) -> dict[int, tuple[int, int, float]]:
    """Recency, frequency and monetary of each customer, one at a time."""
    found = {}
    for user in sorted({u for u, _, _ in rows}):
        own = [(calendar.day_of(t), a) for u, t, a in rows if u == user and calendar.day_of(t) <= as_of]
        days = [d for d, a in own if a >= 0]
        if days:
            found[user] = ((as_of - max(days)).days, len(days), round(sum(a for _, a in own), 6))
    return found


def test_by_hand() -> None:
    """Means 6 days, 2 orders, 50: one customer of each tier, a refund, and one who only ever gave back."""
    day = dt.timedelta(days=1)
    rows: Orders = [
        (1, START, 50.0), (1, START + 6 * day, 50.0), (1, START + 8 * day, 10.0), (1, START + 9 * day, -10.0),
        (2, START + 7 * day, 30.0), (2, START + 7 * day, 0.0),
        (3, START, 20.0),
        (4, START, -5.0),
    ]  # fmt: skip
    result = measure_rfm(to_orders(rows), as_of=dt.date(2026, 1, 12))
    assert result.thresholds == RfmThresholds(6.0, 2.0, 50.0)
    assert result.customers_count == 3
    assert result.revenue_amount == 150
    tiers = result.tiers.set_index("tier")
    assert tiers["customers_count"].to_dict() == {"high_value": 1, "potential": 1, "dormant": 1}
    assert tiers["revenue_amount"].to_dict() == {"high_value": 100, "potential": 30, "dormant": 20}
    cells = result.cells.set_index("cell")["customers_count"]
    assert cells[cells > 0].to_dict() == {"important_value": 1, "general_develop": 1, "general_win_back": 1}
    quality = result.quality
    assert (quality.refunds_count, quality.refunds_amount, quality.refund_only_count) == (2, 15.0, 1)
    assert (quality.free_orders_count, quality.indebted_count) == (1, 0)
    assert result.tiers["customers_rate"].isna().all()
    assert "3 customers, at least 20" in result.notes[0]
    assert "no order" in result.notes[1]


def test_eight_cells_are_three_tiers() -> None:
    tiers = {name: find_tier(key[0], key[2]) for key, name in CELLS.items()}
    assert len(set(CELLS.values())) == 8
    assert [n for n, t in tiers.items() if t == "high_value"] == ["important_value", "important_develop"]
    assert [n for n, t in tiers.items() if t == "potential"] == ["general_value", "general_develop"]


@settings(max_examples=15)
@given(some_orders, st.integers(0, 80), st.sampled_from([Calendar(), SHANGHAI]), st.sampled_from(["mean", "median"]))
def test_equals_brute_force(rows: Orders, known: int, calendar: Calendar, split: Any) -> None:
    as_of = START.date() + known * DAY
    expected = brute_force(rows, as_of, calendar)
    orders = to_orders(rows)
    users = summarize_customers(orders, as_of=as_of, calendar=calendar).to_pandas()
    users = users[users["frequency_count"] > 0]
    found = {int(r["user_id"]): tuple(r[d] for d in DIMENSIONS) for r in users.to_dict("records")}
    assert found == expected
    result = measure_rfm(orders, as_of=as_of, calendar=calendar, split=split)
    frame = pd.DataFrame(list(expected.values()), columns=DIMENSIONS)
    # Tiers and cells part the customers, whatever the data.
    assert result.tiers["customers_count"].sum() == result.cells["customers_count"].sum() == len(expected)
    assert result.tiers["revenue_amount"].sum() == pytest.approx(frame["monetary_amount"].sum())
    middle = getattr(frame, split)()
    for recent, frequent, valuable in CELLS:
        rows_in = (frame["recency_days"] < middle["recency_days"] - 1e-6) == recent
        rows_in &= (frame["frequency_count"] > middle["frequency_count"] + 1e-6) == frequent
        rows_in &= (frame["monetary_amount"] > middle["monetary_amount"] + 1e-6) == valuable
        cell = result.cells[result.cells["cell"] == CELLS[recent, frequent, valuable]]
        assert cell["customers_count"].tolist() == [int(rows_in.sum())]
    for name in DIMENSIONS:
        scores = result.scores[result.scores["dimension"] == name]
        assert scores["customers_count"].sum() == len(expected)
        ranked = sorted(frame[name], reverse=name == "recency_days")
        sizes = scores["customers_count"].tolist()
        assert not sizes or max(sizes) - min(sizes) <= 1
        for row in scores.to_dict("records"):
            own, ranked = ranked[: row["customers_count"]], ranked[row["customers_count"] :]
            assert (row["lowest"], row["highest"]) == (min(own), max(own))
    json.dumps(result.findings(), allow_nan=False)


@settings(max_examples=8)
@given(some_orders, st.randoms(use_true_random=False))
def test_relabelling_and_shuffling_change_nothing(rows: Orders, random: Any) -> None:
    names = list(range(100, 109))
    random.shuffle(names)
    other = [(names[u - 1], t, a) for u, t, a in rows]
    random.shuffle(other)
    first, second = (measure_rfm(to_orders(r), as_of=AS_OF) for r in (rows, other))
    assert first.findings() == second.findings()
    pd.testing.assert_frame_equal(first.scores, second.scores)
    shuffled = list(rows)
    random.shuffle(shuffled)
    scored = [label_customers(to_orders(r), as_of=AS_OF).order_by("user_id").to_pandas() for r in (rows, shuffled)]
    pd.testing.assert_frame_equal(*scored)


def test_ties_have_scores_by_rank_then_id() -> None:
    columns = {"recency_days": [3] * 10, "frequency_count": [1] * 8 + [2, 9], "monetary_amount": [7.0] * 10}
    customers = ibis.memtable({"user_id": list(range(10))[::-1], **columns})
    scored = score_customers(customers).order_by("user_id").to_pandas()
    assert scored["monetary_score"].tolist() == [1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    assert scored["recency_score"].tolist() == [1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    assert scored["frequency_score"].tolist() == [5, 5, 1, 1, 2, 2, 3, 3, 4, 4]


def test_labels_are_as_many_as_counted() -> None:
    orders = to_orders([(u, START + dt.timedelta(days=u % 50), 10.0 * (u % 7)) for u in range(200)])
    labels = label_customers(orders, as_of=AS_OF).to_pandas()
    result = measure_rfm(orders, as_of=AS_OF)
    for column, frame in (("tier", result.tiers), ("cell", result.cells)):
        counts = frame.set_index(column)["customers_count"]
        assert labels[column].value_counts().to_dict() == counts[counts > 0].to_dict()


def test_shares_have_their_intervals() -> None:
    orders = to_orders([(u, START + dt.timedelta(days=u % 50), 10.0 * (1 + u % 7)) for u in range(200)])
    labels = label_customers(orders, as_of=AS_OF).to_pandas()
    row = measure_rfm(orders, as_of=AS_OF).tiers.set_index("tier").loc["high_value"]
    own = labels.loc[labels["tier"] == "high_value", "monetary_amount"]
    e = estimate_rate("customers_rate", len(own), 200)
    assert (row["customers_rate"], row["customers_low"], row["customers_high"]) == pytest.approx(
        (e.value, e.low, e.high)
    )
    assert row["revenue_rate"] == pytest.approx(own.sum() / labels["monetary_amount"].sum())
    assert row["monetary_low"] < row["monetary_amount"] == pytest.approx(own.mean())


def test_interval_of_a_revenue_share_against_resampling() -> None:
    """The delta method's standard error against 2,000 bootstrap samples."""
    import numpy as np

    rng = np.random.default_rng(1)
    money, inside = rng.gamma(2, 30, 500), rng.random(500) < 0.3
    sums = [(float(m.sum()), float((m * m).sum())) for m in (money * inside, money)]
    e = estimate_share_of_sum("share", sums[0], sums[1], 500)
    drawn = rng.integers(0, 500, (2000, 500))
    shares = (money * inside)[drawn].sum(axis=1) / money[drawn].sum(axis=1)
    assert e.high is not None
    assert e.low is not None
    assert (e.high - e.low) / (2 * 1.96) == pytest.approx(shares.std(), rel=0.05)


def test_nobody_and_everybody_alike() -> None:
    nobody = measure_rfm(to_orders([(1, START, 5.0)]).limit(0), as_of=AS_OF)
    assert nobody.notes == ("nobody has bought anything yet, so there is nobody to part",)
    assert nobody.tiers["customers_count"].tolist() == [0, 0, 0]
    assert not nobody.averages["recency_days"].known
    later = measure_rfm(to_orders([(1, START, 5.0)]), as_of=START.date() - DAY)
    assert later.customers_count == 0
    alone = measure_rfm(to_orders([(1, START, 5.0)]), as_of=AS_OF)
    assert alone.customers_count == 1
    alike = measure_rfm(to_orders([(u, START, 0.1 + 0.2) for u in range(40)]), as_of=AS_OF)
    assert sum("parts nobody" in n for n in alike.notes) == 3
    returned = measure_rfm(to_orders([(u, START, x) for u in range(40) for x in (5.0, -5.0)]), as_of=AS_OF)
    assert "refunds take all that was paid, so nobody has a share of revenue" in returned.notes
    assert returned.quality.indebted_count == 40
    assert returned.tiers["revenue_rate"].isna().all()
    for result in (nobody, alone, alike, returned):
        json.dumps(result.findings(), allow_nan=False)


def test_missing_amounts_and_users() -> None:
    rows: list[Any] = [(1, START, None), (None, START, 5.0)]
    orders = ibis.memtable(
        {"user_id": [r[0] for r in rows], "ts": [r[1] for r in rows], "amount": [r[2] for r in rows]},
        schema={"user_id": "int64", "ts": "timestamp(6)", "amount": "float64"},
    )
    result = measure_rfm(orders, as_of=AS_OF)
    assert (result.customers_count, result.revenue_amount, result.quality.free_orders_count) == (1, 0, 1)


def test_wrong_input_is_refused() -> None:
    with pytest.raises(InputError, match="no column amount"):
        measure_rfm(to_orders([(1, START, 5.0)]).drop("amount"), as_of=AS_OF)
    with pytest.raises(InputError, match="mean or the median"):
        measure_rfm(to_orders([(1, START, 5.0)]), as_of=AS_OF, split="mode")  # type: ignore[arg-type]


@pytest.mark.shared
def test_online_retail(shared: Path) -> None:
    """Outside reference: the issue's means; facts of the data set, computed with plain pandas."""
    facts = json.loads((shared / "real" / "online_retail" / "facts.json").read_text())
    result = measure_rfm(read_online_retail(shared, clean=True), as_of=dt.date(2011, 12, 10))
    means = [result.averages[d].value for d in DIMENSIONS]
    assert means == pytest.approx([facts["rfm_mean"][k] for k in ("rec", "freq", "mon")], abs=1e-4)
    assert [round(m, 2) for m in means if m] == [93.06, 4.27, 2054.27]
    assert result.customers_count == facts["clean_customers"]
    assert result.revenue_amount == pytest.approx(facts["clean_revenue"])
    scores = result.scores.set_index(["dimension", "score"])
    # The 80% quantile of the facts lies at the limit of the fifth score.
    assert scores.loc[("frequency_count", 5), "lowest"] == facts["rfm_quantiles_20_40_60_80"]["freq"][3]
    limit = facts["rfm_quantiles_20_40_60_80"]["mon"][3]
    assert scores.loc[("monetary_amount", 4), "highest"] == pytest.approx(limit, rel=1e-3)
    assert scores.loc[("monetary_amount", 5), "lowest"] == pytest.approx(limit, rel=1e-2)
    with_refunds = measure_rfm(read_online_retail(shared, clean=False), as_of=dt.date(2011, 12, 10))
    assert with_refunds.quality.refunds_count > 3000
    assert with_refunds.quality.refund_only_count > 0
    assert with_refunds.revenue_amount < result.revenue_amount


@pytest.mark.shared
def test_cdnow(shared: Path) -> None:
    facts = json.loads((shared / "real" / "cdnow" / "facts.json").read_text())["master"]
    result = measure_rfm(read_cdnow(shared, "master"), as_of=dt.date(1998, 7, 1))
    assert result.customers_count == facts["customers"]
    assert result.revenue_amount == pytest.approx(facts["revenue"])
    assert result.quality.free_orders_count == facts["zero_value_rows"]
    scores = result.scores.set_index(["dimension", "score"])
    for name, key in (("frequency_count", "freq"), ("monetary_amount", "mon")):
        for score, limit in enumerate(facts["rfm_quantiles_20_40_60_80"][key], 1):
            assert scores.loc[(name, score), "highest"] <= limit + 1e-9
            assert limit - 1e-9 <= scores.loc[(name, score + 1), "lowest"] + 1e-2


def test_sample_company() -> None:
    data = open_data(ROOT / "playbook.toml")
    orders = data.table("orders")
    result = measure_rfm(orders, as_of=data.as_of, calendar=data.calendar)
    frame = orders.to_pandas()
    frame = frame[[data.calendar.day_of(t.to_pydatetime()) <= data.as_of for t in frame["ts"]]]
    assert result.customers_count == frame["user_id"].nunique()
    assert result.revenue_amount == pytest.approx(frame["amount"].sum())
    assert result.averages["frequency_count"].value == pytest.approx(len(frame) / frame["user_id"].nunique())
    shares = result.tiers.set_index("tier")
    assert shares.loc["high_value", "revenue_low"] > shares.loc["potential", "revenue_high"]

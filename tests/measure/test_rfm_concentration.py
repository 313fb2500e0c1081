"""How much of the revenue few customers hold: by hand, against brute force, and the figure published for real data."""

from __future__ import annotations

import datetime as dt
import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opslib.errors import InputError
from opslib.measure.rfm.concentration import measure_concentration
from tests.measure.purchases import START, Orders, read_online_retail, some_orders, to_orders

AS_OF = dt.date(2026, 3, 31)


def test_by_hand() -> None:
    result = measure_concentration(to_orders([(u, START, float(u)) for u in range(1, 31)]), as_of=AS_OF, top_rate=0.1)
    assert result.top_customers_count == 3
    assert result.top_share.value == pytest.approx((28 + 29 + 30) / 465)
    # The Gini index of 1..n is (n - 1) / 3n.
    assert result.gini_ratio == pytest.approx(29 / 90)
    assert result.curve.iloc[0].tolist() == [0, 0, 0, 0]
    assert result.curve.iloc[-1].tolist() == [30, 1, 465, 1]


@settings(max_examples=20)
@given(some_orders, st.sampled_from([0.1, 0.2, 0.5]))
def test_equals_brute_force(rows: Orders, top: float) -> None:
    result = measure_concentration(to_orders(rows), as_of=AS_OF, top_rate=top)
    buyers = {u for u, _, a in rows if a >= 0}
    money = sorted((max(sum(a for v, _, a in rows if v == u), 0.0) for u in buyers), reverse=True)
    size = math.ceil(len(money) * top - 1e-9)
    assert result.top_customers_count == size
    assert result.top_share.numerator == pytest.approx(sum(money[:size]))
    assert result.curve["customers_count"].iloc[-1] == len(money)
    assert result.curve["revenue_rate"].dropna().is_monotonic_increasing
    json.dumps(result.findings(), allow_nan=False)


def test_interval_against_resampling() -> None:
    rng = np.random.default_rng(5)
    money = rng.gamma(1.5, 40, 800)
    e = measure_concentration(to_orders([(u, START, m) for u, m in enumerate(money)]), as_of=AS_OF).top_share
    drawn = -np.sort(-money[rng.integers(0, 800, (2000, 800))], axis=1)
    shares = drawn[:, :160].sum(axis=1) / drawn.sum(axis=1)
    assert e.low is not None
    assert e.high is not None
    assert (e.high - e.low) / (2 * 1.96) == pytest.approx(shares.std(), rel=0.07)


def test_nobody_and_nothing() -> None:
    empty = measure_concentration(to_orders([(1, START, 1.0)]).limit(0), as_of=AS_OF)
    assert not empty.top_share.known
    assert "0 customers" in empty.note
    free = measure_concentration(to_orders([(u, START, 0.0) for u in range(30)]), as_of=AS_OF)
    assert free.note == "nobody has brought anything, refunds taken off"
    assert free.gini_ratio is None
    with pytest.raises(InputError, match="share of customers"):
        measure_concentration(to_orders([(1, START, 1.0)]), as_of=AS_OF, top_rate=20)


@pytest.mark.shared
def test_online_retail(shared: Path) -> None:
    """Outside reference: the top 20% hold 74.62% (facts of the data set)."""
    facts = json.loads((shared / "real" / "online_retail" / "facts.json").read_text())
    result = measure_concentration(read_online_retail(shared, clean=True), as_of=dt.date(2011, 12, 10))
    assert result.top_share.value == pytest.approx(facts["top20pct_revenue_share"], abs=1e-6)
    assert round(100 * (result.top_share.value or 0), 2) == 74.62

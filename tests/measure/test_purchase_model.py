"""BG/NBD and Gamma-Gamma: against the papers, brute force, simulation, real data and the sample company."""

from __future__ import annotations

import datetime as dt
import json
import time
from pathlib import Path
from typing import Any

import ibis
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opslib.data.periods import DAY, Calendar
from opslib.data.source import open_data
from opslib.errors import InputError
from opslib.measure.purchase_model.bgnbd import (
    Histories,
    chance_alive,
    chance_of_none,
    count_moments,
    expect_from_start,
    expect_if_alive,
    expect_purchases,
    fit_bgnbd,
    walk_tails,
)
from opslib.measure.purchase_model.check import check_purchase_model
from opslib.measure.purchase_model.gamma_gamma import Spending, fit_gamma_gamma, weigh_amount
from opslib.measure.purchase_model.orders import count_histories, summarize_purchases, to_histories
from opslib.measure.purchase_model.purchase_model import fit_purchase_model
from tests.conftest import ROOT
from tests.measure.purchases import (
    START,
    Orders,
    draw_orders,
    read_cdnow,
    read_online_retail,
    some_orders,
    to_orders,
)

PUBLISHED = np.log([0.243, 4.414, 0.793, 2.426])
CALIBRATION = dt.date(1997, 9, 30)
DAYS = dt.timedelta(days=1)


def one(x: float, last: float, age: float) -> Histories:
    return Histories(*(np.array([float(v)]) for v in (x, last, age, 1)))


def brute_force(rows: Orders, as_of: dt.date) -> dict[int, tuple[int, int, int, float]]:
    found = {}
    for user in sorted({u for u, _, _ in rows}):
        own = [(t.date(), a) for u, t, a in rows if u == user and t.date() <= as_of]
        days = sorted({d for d, a in own if a >= 0})
        if days:
            paid, back = sum(a for _, a in own if a > 0), -sum(a for _, a in own if a < 0)
            later = sum(a for d, a in own if a > 0 and d > days[0])
            kept = max(1 - back / paid, 0) if paid else 0
            history = (len(days) - 1, (days[-1] - days[0]).days, (as_of - days[0]).days)
            found[user] = (*history, pytest.approx(later * kept, abs=1e-5))
    return found


@settings(max_examples=20)
@given(some_orders, st.integers(0, 80), st.randoms(use_true_random=False))
def test_histories_equal_brute_force(rows: Orders, known: int, random: Any) -> None:
    as_of = START.date() + known * DAY
    shuffled = list(rows)
    random.shuffle(shuffled)
    frame = summarize_purchases(to_orders(shuffled), as_of=as_of, calendar=Calendar()).to_pandas()
    columns = ["repeats_count", "last_days", "age_days", "repeat_amount"]
    found = {int(r["user_id"]): tuple(r[c] for c in columns) for r in frame.to_dict("records")}
    assert found == brute_force(rows, as_of)


@settings(max_examples=30)
@given(
    st.tuples(*(st.floats(np.log(0.2), np.log(20)) for _ in range(4))),
    st.sampled_from([0, 1, 2, 7, 40, 200]),
    st.floats(0, 1),
    st.floats(30, 150),
    st.floats(0.1, 60),
)
def test_expectation_equals_the_sum_of_its_distribution(
    at: tuple[float, ...], x: int, last: float, age: float, horizon: float
) -> None:
    """Gauss's function against the sum of the chances of k purchases or more, which never uses it."""
    theta, h = np.array(at), one(x, last * age if x else 0, age)
    mean, square = count_moments(theta, h, horizon)
    assert expect_purchases(theta, h, horizon) == pytest.approx(mean, rel=1e-6, abs=1e-9)
    assert square[0] >= mean[0] ** 2 - 1e-9
    alive, none = chance_alive(theta, h)[0], chance_of_none(theta, h, horizon)[0]
    assert 0 <= alive <= 1
    assert 1 - alive - 1e-12 <= none <= 1
    _, _, first = next(walk_tails(theta, np.array([[x, age]], dtype=float), horizon))
    assert alive * first[0] == pytest.approx(1 - none, abs=1e-9)


@pytest.mark.parametrize("a", [0.9999, 0.99995, 1.0, 1.00005, 1.0002])
def test_expectation_is_smooth_where_its_formula_is_0_over_0(a: float) -> None:
    at = np.log([0.243, 4.414, a, 2.426])
    mean, _ = count_moments(at, one(3, 20, 30), 26.0)
    assert expect_purchases(at, one(3, 20, 30), 26.0) == pytest.approx(mean, rel=1e-7)


def test_published_examples() -> None:
    """Outside reference: Fader, Hardie and Lee (2005), section 5; BTYD and CLVTools's tests."""
    customer = one(2, 30.43, 38.86)
    assert round(float(expect_purchases(PUBLISHED, customer, 39)[0]), 3) == 1.226
    assert round(float(chance_alive(PUBLISHED, customer)[0]), 3) == 0.727
    published = [0.0078, 0.0532, 0.1506, 1.0405, 1.0437, 1.8576]
    expected = expect_from_start(PUBLISHED, np.array([0.1429, 1, 3, 31.8571, 32, 78]))
    assert expected == pytest.approx(published, rel=2e-3, abs=5e-5)
    tails = [float(t[0]) for k, _, t in walk_tails(PUBLISHED, np.zeros((1, 2)), 30.0) if k <= 21]
    paper = [0.0019995214, 0.0015170236, 0.001163315, 0.0009003148, 0.0007023638, 0.0005517902, 0.0004361913]
    assert -np.diff(tails)[10:17] == pytest.approx(paper, rel=3e-3)
    assert chance_of_none(PUBLISHED, one(0, 0, 0), 39.0)[0] == pytest.approx(0.5737864, rel=2e-3)


@pytest.mark.shared
def test_fits_of_cdnow_equal_the_published(shared: Path) -> None:
    references = json.loads((shared / "cases" / "references.json").read_text())
    model = fit_purchase_model(read_cdnow(shared, "sample"), as_of=CALIBRATION)
    fitted = model.parameters.set_index("parameter")["value"]
    paper = references["BG_NBD_CDNOW"]["bgnbd"]
    assert [round(fitted[k], 3) for k in ("r", "alpha", "a", "b")] == [paper[k] for k in ("r", "alpha", "a", "b")]
    assert fitted[["r", "alpha", "a", "b"]].tolist() == pytest.approx(paper["precise(CLVTools)"][:4], rel=1e-4)
    assert model.purchases is not None
    assert model.amounts is not None
    assert round(model.purchases.log_likelihood, 1) == paper["LL"]
    money = references["gamma_gamma_CDNOW"]
    assert [round(fitted[k], 2) for k in ("p", "q", "v")] == [money["p"], money["q"], money["v_gamma"]]
    assert model.amounts.log_likelihood == pytest.approx(money["LL"], abs=1e-3)
    assert (model.customers_count, model.repeat_customers_count) == (2357, 946)
    assert round(model.correlation.value or 0, 2) == 0.11
    assert not model.all_notes
    customers = summarize_purchases(read_cdnow(shared, "sample"), as_of=CALIBRATION, calendar=Calendar())
    first = customers.order_by("user_id").limit(10).to_pandas()
    at = np.log([money["p"], money["q"], money["v_gamma"]])
    means = weigh_amount(at, first["repeats_count"].to_numpy()) * (money["v_gamma"] + first["repeat_amount"].to_numpy())
    assert means == pytest.approx(money["cond_mean_first10"], abs=0.06)


@pytest.mark.shared
def test_cdnow_fits_in_under_two_seconds(shared: Path) -> None:
    frame = count_histories(summarize_purchases(read_cdnow(shared, "sample"), as_of=CALIBRATION, calendar=Calendar()))
    fit_bgnbd(to_histories(frame))
    start = time.perf_counter()
    fit_bgnbd(to_histories(frame))
    assert time.perf_counter() - start < 2


@pytest.mark.shared
def test_standard_errors_of_cdnow(shared: Path) -> None:
    """The covariance against how the likelihood falls off: by 0.3 squared / 2 at 0.3 standard errors."""
    frame = count_histories(summarize_purchases(read_cdnow(shared, "sample"), as_of=CALIBRATION, calendar=Calendar()))
    h = to_histories(frame)
    fit = fit_bgnbd(h)
    values, vectors = np.linalg.eigh(fit.covariance)
    for value, vector in zip(values, vectors.T, strict=True):
        drop = fit.log_likelihood - _likelihood(fit.at + 0.3 * np.sqrt(value) * vector, h)
        assert drop == pytest.approx(0.045, rel=0.15)


def _likelihood(at: np.ndarray, h: Histories) -> float:
    """Equation 6 of the paper, in another form than the code's."""
    from scipy.special import betaln, gammaln

    r, alpha, a, b = np.exp(at)
    x = h.repeats
    one_ = (
        betaln(a, b + x)
        - betaln(a, b)
        + gammaln(r + x)
        - gammaln(r)
        + r * np.log(alpha)
        - (r + x) * np.log(alpha + h.age)
    )
    ratio = ((alpha + h.age) / (alpha + h.last)) ** (r + x)
    return float((h.customers * (one_ + np.log1p(np.where(x > 0, a / np.maximum(b + x - 1, 1e-9) * ratio, 0)))).sum())


@pytest.mark.shared
def test_holdout_of_cdnow_against_the_naive_rate(shared: Path) -> None:
    """Weeks 40 to 78: 1,882 repeat purchases (facts), correlation .626 and zero class .24 against .23 (the paper)."""
    check = check_purchase_model(read_cdnow(shared, "sample"), as_of=dt.date(1998, 6, 30), holdout_days=273)
    assert check.fitted_to == CALIBRATION
    assert check.actual == 1882
    assert round(check.customer_correlation or 0, 3) == 0.626
    zero = check.by_repeats.iloc[0]
    assert (zero["customers_count"], zero["actual_orders_count"]) == (1411, 334)
    assert round(zero["expected_orders_count"] / 1411, 2) == 0.23
    assert check.naive == 2457
    assert check.status == "better_than_naive"
    assert abs(check.error_rate or 1) < 0.13 < 0.30 < abs(check.naive_error_rate or 0)
    assert (check.customer_error_count or 9) < (check.naive_customer_error_count or 0)
    assert check.by_repeats["expected_orders_count"].sum() == pytest.approx(check.expected.value)
    json.dumps(check.findings(), allow_nan=False)


@pytest.mark.shared
def test_master_and_online_retail(shared: Path) -> None:
    master = fit_purchase_model(read_cdnow(shared, "master"), as_of=dt.date(1998, 6, 30))
    facts = json.loads((shared / "real" / "cdnow" / "facts.json").read_text())["master"]
    assert master.customers_count - master.repeat_customers_count == facts["one_time_buyers_distinct_days"]
    assert master.values_known
    retail = fit_purchase_model(read_online_retail(shared, clean=False), as_of=dt.date(2011, 12, 8))
    assert retail.values_known
    assert any("somewhat more each time" in n for n in retail.notes)
    assert any("brought nothing after refunds" in n for n in retail.notes)


def test_sample_company() -> None:
    data = open_data(ROOT / "playbook.toml")
    model = fit_purchase_model(data.table("orders"), as_of=data.as_of, calendar=data.calendar)
    assert model.values_known
    check = check_purchase_model(data.table("orders"), as_of=data.as_of, holdout_days=180, calendar=data.calendar)
    assert check.status != "not_enough_data"
    assert abs(check.error_rate or 1) < 0.25
    assert (check.customer_correlation or 0) > (check.naive_customer_correlation or 1)


def test_parameters_of_simulated_customers_are_found() -> None:
    frame = draw_orders(4000, seed=7)
    model = fit_purchase_model(ibis.memtable(frame), as_of=dt.date(2026, 12, 30))
    found = model.parameters.set_index("parameter")
    # Days are a coarse clock for times drawn in continuous time, so the truth lies near, not exactly in, the interval.
    for name, truth in (("r", 0.6), ("alpha", 5), ("a", 0.8), ("b", 2.5), ("p", 6), ("q", 4), ("v", 60)):
        assert found.loc[name, "low"] * 0.93 < truth < found.loc[name, "high"] * 1.07, name
    check = check_purchase_model(ibis.memtable(frame), as_of=dt.date(2026, 12, 30), holdout_days=120)
    assert check.status == "better_than_naive"
    assert abs(check.error_rate or 1) < 0.08


def test_units_of_money_do_not_matter() -> None:
    rng = np.random.default_rng(3)
    x = rng.integers(1, 9, 400).astype(float)
    z = rng.gamma(6 * x) / (x * rng.gamma(4, 1 / 60, 400))
    small, large = (fit_gamma_gamma(Spending(x, z * k, np.ones(400))) for k in (1e-3, 1e6))
    assert np.exp(small.at[:2]) == pytest.approx(np.exp(large.at[:2]), rel=1e-4)
    assert np.exp(large.at[2] - small.at[2]) == pytest.approx(1e9, rel=1e-3)


def test_same_histories_counted_once_or_listed_give_the_same_fit() -> None:
    rng = np.random.default_rng(2)
    x = rng.integers(0, 4, 600).astype(float)
    age = rng.integers(10, 30, 600).astype(float)
    last = np.where(x > 0, np.floor(age * 0.7), 0)
    listed = fit_bgnbd(Histories(x, last, age, np.ones(600)))
    rows, counts = np.unique(np.column_stack([x, last, age]), axis=0, return_counts=True)
    counted = fit_bgnbd(Histories(*rows.T, counts.astype(float)))
    assert counted.log_likelihood == pytest.approx(listed.log_likelihood, rel=1e-9)


def test_why_there_is_no_model() -> None:
    as_of = dt.date(2026, 3, 1)
    once = to_orders([(u, START, 10.0) for u in range(50)])
    assert "nobody has come back" in fit_purchase_model(once, as_of=as_of).purchases_note
    assert "nobody has bought" in fit_purchase_model(once.limit(0), as_of=as_of).purchases_note
    few = to_orders([(u, START + n * DAYS, 10.0) for u in range(5) for n in (0, 9)])
    assert "5 customers, at least 20" in fit_purchase_model(few, as_of=as_of).purchases_note
    rare = to_orders([(u, START + n * DAYS, 10.0) for u in range(50) for n in ((0, 9) if u < 4 else (0,))])
    assert "4 customers who came back" in fit_purchase_model(rare, as_of=as_of).purchases_note
    free = to_orders([(u, START + n * DAYS, 0.0) for u in range(50) for n in range(0, 10 + u % 20, 5)])
    model = fit_purchase_model(free, as_of=as_of)
    assert model.known
    assert not model.values_known
    assert "0 customers paid for a repeat order" in model.amounts_note
    for result in (fit_purchase_model(once, as_of=as_of), model):
        json.dumps(result.findings(), allow_nan=False)
    check = check_purchase_model(once, as_of=as_of)
    assert check.status == "not_enough_data"
    assert not check.expected.known
    json.dumps(check.findings(), allow_nan=False)
    assert check_purchase_model(once.limit(0), as_of=as_of).status == "not_enough_data"
    with pytest.raises(InputError, match="a day at least"):
        check_purchase_model(once, as_of=as_of, holdout_days=0)


def test_everybody_the_same_is_fitted_or_said() -> None:
    rows = [(u, START + 7 * n * DAYS, 10.0) for u in range(60) for n in range(8)]
    model = fit_purchase_model(to_orders(rows), as_of=dt.date(2026, 3, 1))
    assert model.known
    assert any("hardly differ" in n for n in model.notes)
    assert not model.correlation.known
    json.dumps(model.findings(), allow_nan=False)


def test_often_and_much_together_give_no_values() -> None:
    rng = np.random.default_rng(4)
    rows = []
    for u in range(300):
        often = int(rng.integers(1, 12))
        rows += [
            (u, START + int(d) * DAYS, 5.0 * often * float(rng.gamma(20, 0.05))) for d in rng.integers(0, 300, often)
        ]
    model = fit_purchase_model(to_orders(rows), as_of=dt.date(2026, 12, 1))
    assert model.known
    assert not model.values_known
    assert "independent, so no values are given" in model.amounts_note


def test_subscribers_are_told_of_the_right_model() -> None:
    rows = [(u, START, 10.0) for u in range(50)]
    model = fit_purchase_model(to_orders(rows), as_of=dt.date(2026, 3, 1), contractual=True)
    assert any("sBG" in n for n in model.all_notes)


def test_at_long_last_a_customer_alive_buys_at_most_until_leaving() -> None:
    """In the limit of time, expected purchases of somebody alive are those until they leave: (b + x) / (a - 1) + 1."""
    at = np.log([0.5, 5, 3, 2])
    limit = expect_if_alive(at, np.array([4.0]), np.array([10.0]), 1e9)[0]
    assert limit == pytest.approx((3 + 2 + 4 - 1) / (3 - 1), rel=1e-6)

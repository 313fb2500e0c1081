"""Does the model of purchases forecast? Fitted up to a day, held to what customers did after it and to a naive rate."""

from __future__ import annotations

import datetime as dt
import math
from dataclasses import dataclass
from typing import Any, Literal

import ibis.expr.types as ir
import numpy as np
import pandas as pd

from opslib.data.periods import DAY, Calendar
from opslib.errors import InputError
from opslib.measure.estimate import Estimate, to_plain_record
from opslib.measure.purchase_model.bgnbd import chance_of_none, count_moments
from opslib.measure.purchase_model.orders import UNIT_DAYS, summarize_purchases, to_histories
from opslib.measure.purchase_model.purchase_model import PurchaseModel, fit_customers
from opslib.measure.purchase_model.value import bound_sum, sum_expectations
from opslib.measure.rfm.customers import keep_known

# Customers with as many repeats or more share the last row.
MOST_REPEATS = 7
COLUMNS = (
    "repeats_count",
    "or_more",
    "customers_count",
    "actual_orders_count",
    "expected_orders_count",
    "expected_low",
    "expected_high",
    "naive_orders_count",
    "actual_none_rate",
    "expected_none_rate",
)
_TOLD = (
    "holdout_days",
    "actual",
    "naive",
    "error_rate",
    "naive_error_rate",
    "customer_error_count",
    "naive_customer_error_count",
    "customer_correlation",
    "naive_customer_correlation",
    "status",
)


@dataclass(frozen=True)
class PurchaseModelCheck:
    """A forecast held to what happened.

    Attributes:
        fitted_to, as_of: the model saw orders up to the first day, and forecast those after it up to the second.
        holdout_days: how many days those are.
        model: as fitted.
        actual: order days of known customers in the hold-out.
        expected: what the model expected; the interval holds uncertain parameters and chance, not that the model is
            wrong.
        naive: the rate of the last period of the same length (or as long as there was) kept up.
        error_rate, naive_error_rate: (forecast - actual) / actual.
        customer_error_count, naive_customer_error_count: mean over customers of |forecast - actual|.
        customer_correlation, naive_customer_correlation: over customers, of forecast and actual.
        by_repeats: repeats_count (so far), or_more (True for the last row), customers_count, actual_orders_count,
            expected_orders_count with expected_low and expected_high, naive_orders_count (sums), actual_none_rate and
            expected_none_rate (share who bought nothing).
        status: "better_than_naive", "not_better_than_naive" (by the error of the total), "not_enough_data".
        note: why there is no forecast, else empty.
    """

    fitted_to: dt.date
    as_of: dt.date
    holdout_days: int
    model: PurchaseModel
    actual: int
    expected: Estimate
    naive: float | None
    error_rate: float | None
    naive_error_rate: float | None
    customer_error_count: float | None
    naive_customer_error_count: float | None
    customer_correlation: float | None
    naive_customer_correlation: float | None
    by_repeats: pd.DataFrame
    status: Literal["better_than_naive", "not_better_than_naive", "not_enough_data"]
    note: str

    def findings(self) -> list[dict[str, Any]]:
        """The totals and errors as one flat record, and one a row of `by_repeats`."""
        context = {"fitted_to": self.fitted_to.isoformat(), "as_of": self.as_of.isoformat()}
        values = to_plain_record({n: getattr(self, n) for n in _TOLD})
        records = [self.expected.to_finding(**context, **values)]
        rows = self.by_repeats.to_dict("records")
        return records + [{"name": "purchase_model_check", **context, **to_plain_record(r)} for r in rows]


def check_purchase_model(
    orders: ir.Table, *, as_of: dt.date, holdout_days: int | None = None, calendar: Calendar | None = None
) -> PurchaseModelCheck:
    """Fit the model to the earlier part of the data and forecast the later.

    Args:
        orders, calendar: as in `fit_purchase_model`.
        as_of: the last day that is known.
        holdout_days: length of the later part; half of the data unless given.

    Returns:
        A `PurchaseModelCheck`, over customers with an order before the hold-out.

    Raises:
        InputError: a hold-out of no days.

    Source: the hold-out of Fader, Hardie and Lee (2005), Marketing Science 24(2), 275-284, section 4.
    """
    calendar = calendar or Calendar()
    if holdout_days is not None and holdout_days < 1:
        raise InputError(f"holdout_days = {holdout_days}: the hold-out needs a day at least.")
    known = keep_known(orders, as_of, calendar)
    first_at = known.ts.min().to_pandas()
    span = 0 if pd.isna(first_at) else (as_of - calendar.day_of(pd.Timestamp(first_at).to_pydatetime())).days + 1
    length = span // 2 if holdout_days is None else holdout_days
    fitted_to = as_of - length * DAY
    customers = summarize_purchases(orders, as_of=fitted_to, calendar=calendar).cache()
    model = fit_customers(customers, as_of=fitted_to)
    window = max(min(length, span - length), 1)
    frame = _count_outcomes(known, customers, fitted_to, window, calendar)
    actual = int(frame["actual"].sum())
    if not model.known:
        note = model.purchases_note
        nothing = Estimate("expected_orders_count", None, 0, 0, None, None, "none", "count", note=note)
        empty = pd.DataFrame(columns=list(COLUMNS))
        return PurchaseModelCheck(
            fitted_to,
            as_of,
            length,
            model,
            actual,
            nothing,
            naive=None,
            error_rate=None,
            naive_error_rate=None,
            customer_error_count=None,
            naive_customer_error_count=None,
            customer_correlation=None,
            naive_customer_correlation=None,
            by_repeats=empty,
            status="not_enough_data",
            note=note,
        )
    return _judge(model, frame, fitted_to, as_of, length, length / window)


def _count_outcomes(
    known: ir.Table, customers: ir.Table, fitted_to: dt.date, window: int, calendar: Calendar
) -> pd.DataFrame:
    """Histories with what their customers did afterwards, and in the last window before."""
    orders = known.filter(known.amount >= 0)
    days = orders.select("user_id", day=calendar.count_days(orders.ts, fitted_to)).distinct()
    joined = days.inner_join(customers, "user_id")
    # The first order is no repeat, so no rate either.
    repeat = (joined.day <= 0) & (joined.day > -window) & (joined.day > -joined.age_days)
    counts = joined.group_by("user_id").aggregate(actual=(joined.day > 0).sum(), recent=repeat.sum())
    all_ = customers.left_join(counts, "user_id")
    actual, recent = all_.actual.fill_null(0), all_.recent.fill_null(0)
    keys = ("repeats_count", "last_days", "age_days")
    rows = all_.mutate(actual=actual, recent=recent).group_by(*keys, "recent", "actual")
    counted = rows.aggregate(
        customers_count=lambda t: t.count(),
        amount=lambda t: t.repeat_amount.sum(),
        squares=lambda t: (t.repeat_amount * t.repeat_amount).sum(),
    )
    return counted.order_by([*keys, "recent", "actual"]).to_pandas()


def _judge(
    model: PurchaseModel, frame: pd.DataFrame, fitted_to: dt.date, as_of: dt.date, length: int, stretch: float
) -> PurchaseModelCheck:
    assert model.purchases is not None
    h, time = to_histories(frame), length / UNIT_DAYS
    outcome, n = frame["actual"].to_numpy(dtype=float), h.customers
    # Rows are split by outcome, so the sums over customers are those of customers counted.
    mean = count_moments(model.purchases.at, h, time)[0]
    naive = frame["recent"].to_numpy(dtype=float) * stretch
    actual, expected, kept = (float((n * y).sum()) for y in (outcome, mean, naive))
    groups = np.minimum(h.repeats, MOST_REPEATS).astype(int)
    everybody = sum_expectations(model, frame, np.zeros(len(frame), dtype=int), 1, length)
    low, high = (float(v[0]) for v in bound_sum(everybody.orders, everybody.orders_error))
    method = "delta method for the parameters and variance of purchases, log-normal"
    estimate = Estimate("expected_orders_count", expected, expected, float(n.sum()), low, high, method, "count")
    by = sum_expectations(model, frame, groups, MOST_REPEATS + 1, length)
    lows, highs = bound_sum(by.orders, by.orders_error)

    def add(rows: np.ndarray) -> np.ndarray:
        return np.bincount(groups, weights=n * rows, minlength=MOST_REPEATS + 1)

    customers = add(np.ones(len(frame)))
    none = chance_of_none(model.purchases.at, h, time)
    with np.errstate(invalid="ignore", divide="ignore"):
        silent, expected_silent = (add(v) / customers for v in (outcome == 0, none))
    columns = (
        np.arange(MOST_REPEATS + 1),
        np.arange(MOST_REPEATS + 1) == MOST_REPEATS,
        customers.astype(int),
        add(outcome).astype(int),
        by.orders,
        lows,
        highs,
        add(naive),
        silent,
        expected_silent,
    )
    table = pd.DataFrame(dict(zip(COLUMNS, columns, strict=True)))
    total = float(n.sum())

    def error(forecast: float) -> float | None:
        return (forecast - actual) / actual if actual else None

    def customer_error(forecast: np.ndarray) -> float:
        return float((n * np.abs(forecast - outcome)).sum()) / total

    return PurchaseModelCheck(
        fitted_to,
        as_of,
        length,
        model,
        int(actual),
        estimate,
        naive=kept,
        error_rate=error(expected),
        naive_error_rate=error(kept),
        customer_error_count=customer_error(mean),
        naive_customer_error_count=customer_error(naive),
        customer_correlation=_correlate(n, mean, outcome),
        naive_customer_correlation=_correlate(n, naive, outcome),
        by_repeats=table[table["customers_count"] > 0].reset_index(drop=True),
        status="better_than_naive" if abs(expected - actual) < abs(kept - actual) else "not_better_than_naive",
        note="",
    )


def _correlate(n: np.ndarray, x: np.ndarray, y: np.ndarray) -> float | None:
    dx, dy = x - np.average(x, weights=n), y - np.average(y, weights=n)
    scatter = math.sqrt(float((n * dx * dx).sum() * (n * dy * dy).sum()))
    return float((n * dx * dy).sum()) / scatter if scatter > 0 else None

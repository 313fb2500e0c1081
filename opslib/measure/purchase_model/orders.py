"""What the models of purchases read of the orders: one row a customer, then one row a history. All in the engine."""

from __future__ import annotations

import datetime as dt

import ibis
import ibis.expr.types as ir
import pandas as pd

from opslib.data.periods import Calendar
from opslib.measure.purchase_model.bgnbd import Histories
from opslib.measure.purchase_model.gamma_gamma import Spending
from opslib.measure.rfm.customers import keep_known

# Parameters are per week, as in the papers.
UNIT_DAYS = 7
HISTORY = ["repeats_count", "last_days", "age_days"]
# With more customers than this, mean amounts closer than a thousandth are taken together.
MOST_AMOUNTS = 50_000
_FINENESS = 1000
_PLACES = 6


def summarize_purchases(orders: ir.Table, *, as_of: dt.date, calendar: Calendar) -> ir.Table:
    """Every customer's history up to a day, in order days: two orders on one day are one purchase.

    Args:
        orders: user_id, ts (UTC), amount; one row an order, a refund as a row with a negative amount.
        as_of: the last day that is known.
        calendar: the company's clock.

    Returns:
        user_id, repeats_count (days with an order after the first), last_days (from the first to the last such day),
        age_days (from the first to `as_of`), repeat_amount (sum of the repeat days). A refund does not say which order
        it undoes, so refunds take the same share off all of a customer's days, at most everything. Users without an
        order are not in it.

    >>> times = [dt.datetime(2026, 1, d) for d in (1, 1, 5, 9, 10)]
    >>> orders = ibis.memtable({"user_id": [1] * 5, "ts": times, "amount": [10.0, 10.0, 30.0, 50.0, -50.0]})
    >>> summarize_purchases(orders, as_of=dt.date(2026, 1, 11), calendar=Calendar()).to_pandas().iloc[0, 1:].tolist()
    [2.0, 8.0, 10.0, 40.0]
    """
    known = keep_known(orders, as_of, calendar)
    refund = known.amount < 0
    days = known.group_by("user_id", day=calendar.count_days(known.ts, as_of)).aggregate(
        orders=(~refund).sum(), paid=known.amount.sum(where=~refund), refunded=known.amount.sum(where=refund)
    )
    bought = days.orders > 0
    users = days.group_by("user_id").aggregate(
        days=bought.sum(),
        first=days.day.min(where=bought),
        last=days.day.max(where=bought),
        first_paid=days.paid.argmin(days.day, where=bought),
        paid=days.paid.sum().fill_null(0.0),
        refunded=-days.refunded.sum().fill_null(0.0),
    )
    users = users.filter(users.days > 0)
    kept = ibis.ifelse(users.paid > 0, ibis.greatest(1 - users.refunded / users.paid, 0.0), 0.0)
    return users.select(
        "user_id",
        repeats_count=users.days - 1,
        last_days=users["last"] - users["first"],
        age_days=-users["first"],
        repeat_amount=((users.paid - users.first_paid) * kept).round(_PLACES),
    )


def count_histories(customers: ir.Table, by: tuple[str, ...] = ()) -> pd.DataFrame:
    """Customers with the same history: (by), repeats_count, last_days, age_days, customers_count, amount, squares.

    amount and squares are the sums over the customers of their repeat amounts and of those squared.
    """
    amount = customers.repeat_amount
    extra = {"past": customers.monetary_amount.sum()} if "monetary_amount" in customers.columns else {}
    counted = customers.group_by(*by, *HISTORY).aggregate(
        customers_count=customers.count(), amount=amount.sum(), squares=(amount * amount).sum(), **extra
    )
    return counted.order_by([*by, *HISTORY]).to_pandas()


def to_histories(frame: pd.DataFrame) -> Histories:
    """Counted histories as the model takes them, in weeks."""
    x, last, age, customers = (frame[c].to_numpy(dtype=float) for c in (*HISTORY, "customers_count"))
    return Histories(x, last / UNIT_DAYS, age / UNIT_DAYS, customers)


def count_spending(customers: ir.Table, repeat_customers: int) -> Spending:
    """Repeat customers by number and mean amount of their repeat purchases; who brought nothing is left out."""
    paid = customers.filter(customers.repeats_count > 0, customers.repeat_amount > 0)
    mean = paid.repeat_amount / paid.repeats_count
    near = mean if repeat_customers <= MOST_AMOUNTS else (mean.ln() * _FINENESS).round(0)
    counted = paid.group_by("repeats_count", near=near).aggregate(customers=paid.count(), mean=mean.mean())
    frame = counted.order_by(["repeats_count", "near"]).to_pandas()
    return Spending(*(frame[c].to_numpy(dtype=float) for c in ("repeats_count", "mean", "customers")))

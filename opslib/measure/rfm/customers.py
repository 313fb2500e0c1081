"""One row a customer: recency, frequency, monetary, and the cell and tier that they make. All of it in the engine."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any, Literal

import ibis
import ibis.expr.types as ir

from opslib.data.periods import DAY, Calendar
from opslib.errors import InputError

Split = Literal["mean", "median"]

HIGH_VALUE, POTENTIAL, DORMANT = "high_value", "potential", "dormant"
TIERS = (HIGH_VALUE, POTENTIAL, DORMANT)
# (recent, frequent, valuable) -> the cell, as the eight cells are named in Chinese practice.
CELLS: dict[tuple[bool, bool, bool], str] = {
    (True, True, True): "important_value",  # 重要价值客户
    (True, False, True): "important_develop",  # 重要发展客户
    (False, True, True): "important_keep",  # 重要保持客户
    (False, False, True): "important_win_back",  # 重要挽留客户
    (True, True, False): "general_value",  # 一般价值客户
    (True, False, False): "general_develop",  # 一般发展客户
    (False, True, False): "general_keep",  # 一般保持客户
    (False, False, False): "general_win_back",  # 一般挽留客户
}
SCORES = 5
# Sums of money differ in their last digits with the order of adding: closer than this, two are the same.
_PLACES = 6
_NEAR = 1e-9


@dataclass(frozen=True)
class RfmThresholds:
    """What parts high from low: a customer is high in a dimension when strictly better than this.

    Attributes:
        recency_days: recent means fewer days since the last order.
        frequency_count: frequent means more orders.
        monetary_amount: valuable means more money.
    """

    recency_days: float
    frequency_count: float
    monetary_amount: float


def find_tier(recent: bool, valuable: bool) -> str:
    """The handbook's tier: dormant when not recent; else high-value or potential by money."""
    return (HIGH_VALUE if valuable else POTENTIAL) if recent else DORMANT


def summarize_customers(orders: ir.Table, *, as_of: dt.date, calendar: Calendar, refunds: bool = True) -> ir.Table:
    """Recency, frequency and monetary of everybody in the orders up to a day.

    Args:
        orders: user_id, ts (UTC), amount; one row an order, a refund as a row with a negative amount. Rows without a
            user are left out.
        as_of: the day that recency is counted to; orders of later days are left out.
        calendar: the company's clock.
        refunds: False where it is known that there are none: then it takes half the time.

    Returns:
        user_id, recency_days (since the day of the last order), frequency_count (orders), monetary_amount (sum, less
        refunds), refunds_amount. A user with nothing but refunds has a frequency of 0 and no recency.

    Raises:
        InputError: a column is missing.

    >>> times = [dt.datetime(2026, 1, 3), dt.datetime(2026, 1, 5), dt.datetime(2026, 1, 9)]
    >>> orders = ibis.memtable({"user_id": [1, 1, 1], "ts": times, "amount": [30.0, 20.0, -20.0]})
    >>> summarize_customers(orders, as_of=dt.date(2026, 1, 10), calendar=Calendar()).to_pandas().iloc[0, 1:4].tolist()
    [5.0, 2.0, 30.0]
    """
    known = keep_known(orders, as_of, calendar)
    refund = known.amount < 0
    bought = ~refund if refunds else None
    users = known.group_by("user_id").aggregate(
        last_at=known.ts.max(where=bought),
        orders=known.count(where=bought),
        total=known.amount.sum(),
        refunded=known.amount.sum(where=refund) if refunds else ibis.literal(0.0),
    )
    return users.select(
        "user_id",
        recency_days=-calendar.count_days(users.last_at, as_of),
        frequency_count=users.orders,
        monetary_amount=users.total.round(_PLACES),
        refunds_amount=-users.refunded.fill_null(0.0),
    )


def keep_known(orders: ir.Table, as_of: dt.date, calendar: Calendar) -> ir.Table:
    """Orders of known users up to the end of a day: user_id, ts, amount as a number, missing amounts as 0.

    Raises:
        InputError: a column is missing.
    """
    missing = [c for c in ("user_id", "ts", "amount") if c not in orders.columns]
    if missing:
        raise InputError(f"Orders have no column {', '.join(missing)}: map it under [tables.orders.columns].")
    known = orders.filter(orders.user_id.notnull(), orders.ts < ibis.timestamp(calendar.day_start(as_of + DAY)))
    amount = known.amount.cast("float64").fill_null(0.0)
    return known.select("user_id", "ts", amount=amount)


def choose_thresholds(customers: ir.Table, split: Split = "mean") -> RfmThresholds | None:
    """The mean or median of each dimension over the customers; None when there are none.

    Raises:
        InputError: another split.
    """
    if split not in ("mean", "median"):
        raise InputError(f"'{split}' for split is unknown: customers are parted at the mean or the median.")
    names = ("recency_days", "frequency_count", "monetary_amount")
    middles = {n: getattr(customers[n].cast("float64"), split)() for n in names}
    row = customers.aggregate(customers_count=customers.count(), **middles).to_pandas().iloc[0]
    return RfmThresholds(*(float(row[n]) for n in names)) if row["customers_count"] else None


def label_cells(customers: ir.Table, thresholds: RfmThresholds) -> ir.Table:
    """Add recent, frequent, valuable, cell and tier to customers."""
    recent = customers.recency_days < _step_aside(thresholds.recency_days, -1)
    frequent = customers.frequency_count > _step_aside(thresholds.frequency_count, 1)
    valuable = customers.monetary_amount > _step_aside(thresholds.monetary_amount, 1)
    marked = customers.mutate(recent=recent, frequent=frequent, valuable=valuable)
    cases = [
        (_is(marked.recent, r) & _is(marked.frequent, f) & _is(marked.valuable, m), name)
        for (r, f, m), name in CELLS.items()
    ]
    tier = ibis.ifelse(marked.recent, ibis.ifelse(marked.valuable, HIGH_VALUE, POTENTIAL), DORMANT)
    return marked.mutate(cell=ibis.cases(*cases[:-1], else_=cases[-1][1]), tier=tier)


def score_customers(customers: ir.Table, *, scores: int = SCORES) -> ir.Table:
    """Add recency_score, frequency_score and monetary_score, from 1 to `scores` (best).

    Customers are ranked from worst to best, ties by user_id, and parted into groups that differ by one customer at
    most: the same customers get the same scores in whatever order the rows lie.

    >>> columns = {"recency_days": [9, 5, 5, 1], "frequency_count": [1] * 4, "monetary_amount": [4.0, 3.0, 2.0, 1.0]}
    >>> scored = score_customers(ibis.memtable({"user_id": [1, 2, 3, 4], **columns}), scores=4).order_by("user_id")
    >>> scored.to_pandas()[["recency_score", "frequency_score", "monetary_score"]].to_numpy().tolist()
    [[1, 1, 4], [2, 2, 3], [3, 3, 2], [4, 4, 1]]
    """
    worst_first: dict[str, Any] = {
        "recency_score": ibis.desc("recency_days"),
        "frequency_score": ibis.asc("frequency_count"),
        "monetary_score": ibis.asc("monetary_amount"),
    }
    return customers.mutate(
        **{n: ibis.ntile(scores).over(order_by=[order, "user_id"]) + 1 for n, order in worst_first.items()}
    )


def label_customers(
    orders: ir.Table,
    *,
    as_of: dt.date,
    calendar: Calendar | None = None,
    split: Split = "mean",
    thresholds: RfmThresholds | None = None,
    scores: int = SCORES,
) -> ir.Table:
    """One row a customer, for lists and exports; the rows of a tier are as many as `measure_rfm` counts in it.

    Args:
        orders, as_of, calendar, split, thresholds: as in `measure_rfm`.
        scores: how many groups a dimension is parted into.

    Returns:
        user_id, recency_days, frequency_count, monetary_amount, refunds_amount, recent, frequent,
        valuable, cell, tier, recency_score, frequency_score, monetary_score. Kept in the engine.

    >>> times = [dt.datetime(2026, 1, d) for d in (3, 9, 9)]
    >>> orders = ibis.memtable({"user_id": [1, 2, 3], "ts": times, "amount": [10.0, 80.0, 20.0]})
    >>> labels = label_customers(orders, as_of=dt.date(2026, 1, 10)).order_by("user_id")
    >>> labels.to_pandas()["tier"].tolist()
    ['dormant', 'high_value', 'potential']
    """
    everybody = summarize_customers(orders, as_of=as_of, calendar=calendar or Calendar())
    customers = everybody.filter(everybody.frequency_count > 0).cache()
    limits = thresholds or choose_thresholds(customers, split) or RfmThresholds(0, 0, 0)
    return score_customers(label_cells(customers, limits), scores=scores)


def _step_aside(threshold: float, sign: int) -> float:
    """A limit that a value equal to the threshold but for its last digits does not pass."""
    return threshold + sign * abs(threshold) * _NEAR


def _is(flag: Any, wanted: bool) -> Any:
    return flag if wanted else ~flag

"""Revenue: paying users, what they pay, and the share of active users who pay."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import ibis.expr.types as ir
import pandas as pd

from opslib.data.periods import Calendar, Period
from opslib.measure.estimate import Estimate, estimate_count, estimate_mean, estimate_rate, estimate_total


@dataclass(frozen=True)
class RevenueResult:
    """Revenue of one period.

    Attributes:
        period: the days covered.
        paying_users: distinct users with an order.
        paying_rate: paying users / distinct active users of the period; None without active users.
        revenue: sum of order amounts.
        revenue_per_payer: revenue / paying users.
        orders_count: number of orders.
        monthly: month_start, paying_users_count, orders_count, revenue_amount.
    """

    period: Period
    paying_users: Estimate
    paying_rate: Estimate
    revenue: Estimate
    revenue_per_payer: Estimate
    orders_count: int
    monthly: pd.DataFrame

    def findings(self) -> list[dict[str, Any]]:
        """Estimates as flat records."""
        estimates = (self.paying_users, self.paying_rate, self.revenue, self.revenue_per_payer)
        return [e.to_finding(period=self.period.label) for e in estimates]


def measure_revenue(orders: ir.Table, active_days: ir.Table, period: Period, *, calendar: Calendar) -> RevenueResult:
    """Measure revenue and paying users of a period.

    Args:
        orders: user_id, ts (UTC), amount; one row an order.
        active_days: user_id, day; who was active, the denominator of the paying rate.
        period: local days; an order belongs to the local day it was paid on.
        calendar: the company's clock.

    Returns:
        A `RevenueResult`. Users with an order but no activity count as active.

    >>> import ibis, datetime as dt
    >>> times = [dt.datetime(2026, 1, d) for d in (1, 2, 3)]
    >>> orders = ibis.memtable({"user_id": [1, 1, 2], "ts": times, "amount": [5.0, 5.0, 8.0]})
    >>> days = ibis.memtable({"user_id": [1, 2, 3], "day": [dt.date(2026, 1, 1)] * 3})
    >>> january = Period(dt.date(2026, 1, 1), dt.date(2026, 2, 1), "January")
    >>> result = measure_revenue(orders, days, january, calendar=Calendar())
    >>> result.revenue.value, result.paying_users.value, result.paying_rate.denominator
    (18.0, 2.0, 3)
    """
    start, end = calendar.day_start(period.start), calendar.day_start(period.end)
    paid = orders.filter((orders.ts >= start) & (orders.ts < end))
    per_user = paid.group_by("user_id").aggregate(amount=paid.amount.sum(), orders=paid.count())
    sums = per_user.aggregate(
        users=per_user.count(),
        orders=per_user.orders.sum().fill_null(0),
        total=per_user.amount.sum().fill_null(0.0),
        squares=(per_user.amount * per_user.amount).sum().fill_null(0.0),
    ).to_pandas()
    users, count = int(sums["users"][0]), int(sums["orders"][0])
    total, squares = float(sums["total"][0]), float(sums["squares"][0])
    active = active_days.filter((active_days.day >= period.start) & (active_days.day < period.end))
    reached = active.select("user_id").union(paid.select("user_id")).user_id.nunique()
    return RevenueResult(
        period,
        estimate_count("paying_users_count", users),
        estimate_rate("paying_rate", users, int(reached.to_pandas())),
        estimate_total("revenue_amount", total, squares, users),
        estimate_mean("revenue_per_payer_amount", total, squares, users, unit="amount"),
        count,
        _measure_months(paid, calendar),
    )


def _measure_months(paid: ir.Table, calendar: Calendar) -> pd.DataFrame:
    months = paid.mutate(month_start=calendar.local_day(paid.ts).truncate("M"))
    return (
        months.group_by("month_start")
        .aggregate(
            paying_users_count=months.user_id.nunique(),
            orders_count=months.count(),
            revenue_amount=months.amount.sum(),
        )
        .order_by("month_start")
        .to_pandas()
        .assign(month_start=lambda frame: pd.to_datetime(frame["month_start"]))
    )

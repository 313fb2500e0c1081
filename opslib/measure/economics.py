"""What activity brings and growth costs: what the levers need to know of money."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import ibis
import ibis.expr.types as ir

from opslib.data.periods import Calendar, Period
from opslib.measure.estimate import MINIMUM_DENOMINATOR, Estimate, quantile, say_few_users


@dataclass(frozen=True)
class Economics:
    """What activity brings and growth costs.

    Attributes:
        revenue_per_active_day: revenue / active user-days; None without orders.
        cac: spend / new users of the channels with spend, over a period; None without spend.
        spend_per_day: the spend behind it, a day.
        k_factor: users brought by each new user in one cycle; None where it is not known.
        cycle_days: days from a user's coming to that of the users brought.
        reward_per_referred: what bringing a user costs in rewards.
    """

    revenue_per_active_day: Estimate | None = None
    cac: Estimate | None = None
    spend_per_day: float = 0.0
    k_factor: Estimate | None = None
    cycle_days: int = 7
    reward_per_referred: float = 0.0


def measure_economics(
    active_days: ir.Table,
    period: Period,
    *,
    calendar: Calendar,
    orders: ir.Table | None = None,
    cac: Estimate | None = None,
    k_factor: Estimate | None = None,
    cycle_days: float | None = None,
    reward_per_referred: float = 0.0,
) -> Economics:
    """Collect what activity brings and growth costs.

    Args:
        active_days: user_id, day; one row a user and local day.
        period: the days to measure on.
        calendar: the company's clock.
        orders: user_id, ts (UTC), amount.
        cac: of the same period; its numerator is the spend (`measure_acquisition`).
        k_factor: users brought by a new user in a cycle (`measure_referral`), and how long that takes.
        cycle_days: days of a cycle; 7 unless given.
        reward_per_referred: rewards / users brought.

    Returns:
        An `Economics`. Revenue per active day is the period's revenue / its active user-days; its interval is that of a
        ratio, with users as the independent units.

    >>> import datetime as dt, ibis
    >>> days = ibis.memtable({"user_id": range(40), "day": [dt.date(2026, 1, 5)] * 40})
    >>> orders = ibis.memtable({"user_id": range(40), "ts": [dt.datetime(2026, 1, 5, 9)] * 40, "amount": [3.0] * 40})
    >>> january = Period(dt.date(2026, 1, 1), dt.date(2026, 2, 1), "January")
    >>> measure_economics(days, january, calendar=Calendar(), orders=orders).revenue_per_active_day.value
    3.0
    """
    revenue = None
    if orders is not None:
        active = active_days.filter((active_days.day >= period.start) & (active_days.day < period.end))
        start, end = calendar.day_start(period.start), calendar.day_start(period.end)
        paid = orders.filter((orders.ts >= start) & (orders.ts < end))
        one, nothing = ibis.literal(1.0), ibis.literal(0.0)
        both = active.select("user_id", days=one, amount=nothing).union(
            paid.select("user_id", days=nothing, amount=paid.amount.cast("float64"))
        )
        users = both.group_by("user_id").aggregate(days=both.days.sum(), amount=both.amount.sum())
        parts = users.aggregate(
            users=users.count(),
            days=users.days.sum(),
            amount=users.amount.sum(),
            days2=(users.days * users.days).sum(),
            amount2=(users.amount * users.amount).sum(),
            product=(users.days * users.amount).sum(),
        ).to_pandas()
        revenue = _estimate_ratio({k: float(v) for k, v in parts.fillna(0).iloc[0].items()})
    spend = cac.numerator / period.days if cac is not None and period.days else 0.0
    cycle = max(1, round(cycle_days)) if cycle_days else 7
    return Economics(revenue, cac, spend, k_factor, cycle, reward_per_referred)


def _estimate_ratio(sums: Mapping[str, float]) -> Estimate:
    """Revenue per active day from sums over users."""
    name, users, days, amount = "revenue_per_active_day_amount", sums["users"], sums["days"], sums["amount"]
    if users < MINIMUM_DENOMINATOR or days <= 0:
        return Estimate(name, None, amount, days, None, None, "none", "amount", note=say_few_users(users))
    ratio = amount / days
    # Residuals amount - ratio * days have mean zero.
    squares = sums["amount2"] - 2 * ratio * sums["product"] + ratio**2 * sums["days2"]
    half = quantile() * math.sqrt(max(squares, 0.0) * users / (users - 1)) / days
    return Estimate(name, ratio, amount, days, max(ratio - half, 0.0), ratio + half, "ratio over users", "amount")

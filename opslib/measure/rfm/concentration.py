"""How much of the revenue a few customers hold: the top 20%, and the whole curve."""

from __future__ import annotations

import datetime as dt
import math
from dataclasses import dataclass
from typing import Any

import ibis
import ibis.expr.types as ir
import numpy as np
import pandas as pd

from opslib.data.periods import Calendar
from opslib.errors import InputError
from opslib.language import say
from opslib.measure.estimate import MINIMUM_DENOMINATOR, Estimate, quantile, to_plain_record
from opslib.measure.rfm.customers import summarize_customers

POINTS = 100


@dataclass(frozen=True)
class ConcentrationResult:
    """How unevenly revenue is spread over customers.

    Attributes:
        as_of: orders up to this day.
        top_rate: the share of customers that is called the top.
        top_customers_count: how many they are (rounded up).
        top_share: the share of revenue that they hold, the best customers first.
        gini_ratio: 0 when all brought the same, near 1 when one brought everything; None without revenue.
        curve: Lorenz curve from the poorest customer on: customers_count, customers_rate, revenue_amount,
            revenue_rate (all cumulated), from 0 to 1 in about a hundred points.
        indebted_count: customers who got back all that they paid or more; they count as having brought 0.
        note: why there is no share, else empty.
    """

    as_of: dt.date
    top_rate: float
    top_customers_count: int
    top_share: Estimate
    gini_ratio: float | None
    curve: pd.DataFrame
    indebted_count: int
    note: str

    def findings(self) -> list[dict[str, Any]]:
        """The top's share as one flat record."""
        context = {"as_of": self.as_of.isoformat(), "top_rate": self.top_rate}
        extra = to_plain_record({"gini_ratio": self.gini_ratio, "top_customers_count": self.top_customers_count})
        return [self.top_share.to_finding(**context, **extra)]


def measure_concentration(
    orders: ir.Table, *, as_of: dt.date, top_rate: float = 0.2, calendar: Calendar | None = None
) -> ConcentrationResult:
    """Measure how much of the revenue the best customers hold.

    Args:
        orders: user_id, ts (UTC), amount; one row an order, a refund as a row with a negative amount. Rows without a
            user are left out.
        as_of: later orders are left out.
        top_rate: the share of customers to call the top, between 0 and 1.
        calendar: the company's clock.

    Returns:
        A `ConcentrationResult`. The interval is normal over customers (influence function of a Lorenz share); with a
        heavy tail it is too narrow.

    Raises:
        InputError: a column is missing, or a `top_rate` that is no share.

    Source: Kovacevic and Binder (1997), "Variance Estimation for Measures of Income Inequality and Polarization",
    Journal of Official Statistics 13, 41-58, for the interval.

    >>> days = [dt.datetime(2026, 1, 1)] * 40
    >>> orders = ibis.memtable({"user_id": range(40), "ts": days, "amount": [9.0] * 8 + [1.0] * 32})
    >>> result = measure_concentration(orders, as_of=dt.date(2026, 1, 31))
    >>> result.top_customers_count, round(result.top_share.value, 3)
    (8, 0.692)
    """
    if not 0 < top_rate < 1:
        raise InputError(f"top_rate = {top_rate}: the top is a share of customers, such as 0.2.")
    users = summarize_customers(orders, as_of=as_of, calendar=calendar or Calendar())
    users = users.filter(users.frequency_count > 0)
    brought = ibis.greatest(users.monetary_amount, 0.0)
    ranked = users.select(
        brought=brought,
        indebted=(users.refunds_amount > 0) & (users.monetary_amount <= 0),
        rank=ibis.row_number().over(order_by=users.monetary_amount),
        number=users.count().over(),
    )
    # The top begins where a part begins, so that its sum is exact.
    rest = ranked.number - (ranked.number * top_rate - 1e-9).ceil().cast("int64")
    parts = ranked.mutate(top=ranked["rank"] >= rest, part=(ranked["rank"] * POINTS / ranked.number).floor())
    sums = parts.group_by("top", "part").aggregate(
        customers=parts.count(),
        brought=parts.brought.sum(),
        squares=(parts.brought * parts.brought).sum(),
        lowest=parts.brought.min(),
        indebted=parts.indebted.sum(),
    )
    frame = sums.order_by(["top", "part"]).to_pandas()
    curve = _draw_curve(frame)
    top = frame[frame["top"].astype(bool)]
    share = _estimate_share(frame, top)
    gini = None
    if float(frame["brought"].sum()) > 0:
        x, y = curve["customers_rate"].to_numpy(), curve["revenue_rate"].to_numpy()
        gini = float(1 - (np.diff(x) * (y[1:] + y[:-1])).sum())
    number, indebted = int(top["customers"].sum()), int(frame["indebted"].sum())
    return ConcentrationResult(as_of, top_rate, number, share, gini, curve, indebted, share.note)


def _draw_curve(frame: pd.DataFrame) -> pd.DataFrame:
    customers = np.concatenate([[0], frame["customers"].to_numpy(dtype=np.int64).cumsum()])
    brought = np.concatenate([[0.0], frame["brought"].to_numpy(dtype=float).cumsum()])
    rates = [part / part[-1] if part[-1] > 0 else np.full(len(part), np.nan) for part in (customers, brought)]
    columns = {"customers_count": customers, "customers_rate": rates[0]}
    return pd.DataFrame(columns | {"revenue_amount": brought, "revenue_rate": rates[1]})


def _estimate_share(frame: pd.DataFrame, top: pd.DataFrame) -> Estimate:
    number, whole, held = int(frame["customers"].sum()), float(frame["brought"].sum()), float(top["brought"].sum())
    if number < MINIMUM_DENOMINATOR or not whole > 0:
        note = say("nobody has brought anything, refunds taken off")
        if number < MINIMUM_DENOMINATOR:
            note = say(
                "not enough data: {customers:,} customers, at least {least} needed",
                customers=number,
                least=MINIMUM_DENOMINATOR,
            )
        return Estimate("top_share_rate", None, held, whole, None, None, "none", "rate", note=note)
    share, cut, size = held / whole, float(top["lowest"].min()), int(top["customers"].sum())
    rate = size / number
    above = _sum_squares(top, 1 - share, -cut * (1 - rate))
    below = _sum_squares(frame[~frame["top"].astype(bool)], -share, cut * rate)
    half = quantile() * math.sqrt(above + below) / whole
    method = "influence function of a Lorenz share"
    return Estimate("top_share_rate", share, held, whole, max(share - half, 0), min(share + half, 1), method, "rate")


def _sum_squares(part: pd.DataFrame, slope: float, shift: float) -> float:
    """The sum over customers of (slope x brought + shift) squared."""
    sums = part[["squares", "brought", "customers"]].sum()
    total = slope**2 * sums["squares"] + 2 * slope * shift * sums["brought"] + shift**2 * sums["customers"]
    return max(float(total), 0.0)

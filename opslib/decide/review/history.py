"""Headline metrics over earlier stretches as long as a quarter: how much one differs from the next."""

from __future__ import annotations

from typing import Any

import ibis
import ibis.expr.types as ir
import numpy as np
import pandas as pd

from opslib.data.periods import DAY, Period
from opslib.data.source import Data
from opslib.decide.costs import find_channels, find_spend
from opslib.measure.acquisition import follow_new_users, name_groups
from opslib.measure.estimate import MINIMUM_DENOMINATOR

# Thirteen weeks make a quarter, cut into seven blocks: every weekday is as often in each window.
BLOCK_DAYS = 13
BLOCKS = 7
WINDOW_DAYS = BLOCK_DAYS * BLOCKS
RETAINED_DAYS = (1, 7, 30)


def measure_history(data: Data, active_days: ir.Table, end: Period, *, segment: str = "") -> pd.DataFrame:
    """Measure metrics over windows of 91 days, each 13 days earlier than the one before it.

    Args:
        data: the company's data.
        active_days: user_id, day of the users reviewed.
        end: the quarter reviewed; the first window ends with it.
        segment: one group of users; empty: everybody.

    Returns:
        One row a window, the latest first: new_users_count, d1_rate, d7_rate, d30_rate and, where their tables are
        there, cac_amount, revenue_amount, paying_users_count, paying_rate; missing where too few users are behind a
        rate. Empty where the data do not fill one window.
    """
    number = (end.end - data.span.start).days // BLOCK_DAYS
    windows = number - BLOCKS + 1
    if windows < 1:
        return pd.DataFrame()
    start = end.end - number * BLOCK_DAYS * DAY
    span = Period(start, end.end, "history")
    known = active_days.filter(active_days.day < end.end)
    columns = _follow_cohorts(data, known, span, number, segment)
    if data.has("orders"):
        columns |= _follow_payers(data, known, span, number, segment)
    return pd.DataFrame(columns, index=range(windows))


def _number_block(day: Any, end: Period) -> Any:
    """0 for the latest block."""
    return ((ibis.literal(end.last_day).delta(day, unit="day")) / BLOCK_DAYS).floor().cast("int64")


def _sum_windows(sums: pd.Series, number: int) -> pd.Series:
    """Sums of blocks as sums of windows, the latest first."""
    blocks = sums.reindex(range(number)).fillna(0.0)
    return blocks[::-1].rolling(BLOCKS).sum()[::-1].dropna().reset_index(drop=True)


def _follow_cohorts(data: Data, known: ir.Table, span: Period, number: int, segment: str) -> dict[str, pd.Series]:
    marks = [f"d{n}" for n in RETAINED_DAYS]
    channels, spend = find_channels(data), find_spend(data, segment)
    users = name_groups(follow_new_users(known, span, span.last_day, RETAINED_DAYS), channels, "channel")
    users = users.mutate(block=_number_block(users.first_day, span))
    sums: dict[str, Any] = {"new": users.count()}
    for mark in marks:
        mature = users[f"{mark}_mature"]
        sums |= {mark: (users[mark] & mature).sum(), f"{mark}_mature": mature.sum()}
    counted = users.group_by("block", "channel").aggregate(**sums).to_pandas()
    total = counted.drop(columns="channel").groupby("block").sum()
    found = {"new_users_count": _sum_windows(total["new"], number)}
    for mark in marks:
        top, bottom = (_sum_windows(total[c], number) for c in (mark, f"{mark}_mature"))
        found[f"{mark}_rate"] = (top / bottom).where(bottom >= MINIMUM_DENOMINATOR)
    if spend is not None and channels is not None:
        inside = spend.filter((spend.date >= span.start) & (spend.date < span.end))
        placed = inside.mutate(block=_number_block(inside.date.cast("date"), span))
        paid = placed.group_by("block", "channel").aggregate(spend=placed.amount.sum().cast("float64")).to_pandas()
        users_of = counted.pivot_table(index="block", columns="channel", values="new", aggfunc="sum", fill_value=0)
        money = people = pd.Series(0.0, index=range(number - BLOCKS + 1))
        for channel, rows in paid.groupby("channel"):
            spent = _sum_windows(rows.set_index("block")["spend"], number)
            came = users_of[channel] if channel in users_of.columns else pd.Series(dtype=float)
            # Users of a channel count where it had spend, as in the cost of the quarter.
            people = people + _sum_windows(came, number).where(spent > 0, 0.0)
            money = money + spent
        if len(paid):
            found["cac_amount"] = (money / people).where(people >= MINIMUM_DENOMINATOR)
    return found


def _follow_payers(data: Data, known: ir.Table, span: Period, number: int, segment: str) -> dict[str, pd.Series]:
    orders = data.restrict(data.table("orders"), segment)
    start, end = (ibis.timestamp(data.calendar.day_start(d)) for d in (span.start, span.end))
    inside = orders.filter((orders.ts >= start) & (orders.ts < end))
    paid = inside.select("user_id", amount="amount", block=_number_block(data.calendar.local_day(inside.ts), span))
    sums = paid.group_by("block").aggregate(revenue=paid.amount.sum().cast("float64")).to_pandas().set_index("block")
    payers = _count_users(paid, number)
    found = {"revenue_amount": _sum_windows(sums["revenue"], number), "paying_users_count": payers}
    if data.activity_name != "orders":
        active = known.filter(known.day >= span.start)
        placed = active.select("user_id", block=_number_block(active.day, span))
        users = _count_users(placed.union(paid.select("user_id", "block")), number)
        found["paying_rate"] = (payers / users).where(users >= MINIMUM_DENOMINATOR)
    return found


def _count_users(placed: ir.Table, number: int) -> pd.Series:
    """Distinct users of each window: a user of a block is one of the seven windows that hold it.

    A block adds its user to the windows that the user's block before it does not reach.
    """
    rows = placed.select("user_id", "block").distinct()
    gap = rows.block - rows.block.lag().over(group_by=rows.user_id, order_by=rows.block)
    fresh = rows.select("block", added=ibis.least(ibis.coalesce(gap, BLOCKS), BLOCKS))
    counted = fresh.group_by("block", "added").aggregate(users=fresh.count()).to_pandas()
    last, added, users = (counted[c].to_numpy(dtype=int) for c in ("block", "added", "users"))
    changes = np.zeros(number + 1, dtype=int)
    np.add.at(changes, np.maximum(last - added + 1, 0), users)
    np.add.at(changes, last + 1, -users)
    return pd.Series(changes.cumsum()[: number - BLOCKS + 1].astype(float))

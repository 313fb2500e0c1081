"""Series of money: orders, who pays, revenue, what is spent, and what a new user costs."""

from __future__ import annotations

from typing import Any

import ibis
import ibis.expr.types as ir
import numpy as np
import pandas as pd

from opslib.measure.acquisition import RETAINED_DAY
from opslib.measure.activity import NOT_GIVEN
from opslib.measure.series.activity import find_binomial_error
from opslib.measure.series.grid import Grid, make_series
from opslib.measure.series.series import MetricSeries


def count_orders(orders: ir.Table, grid: Grid) -> pd.DataFrame:
    """Sum up the orders of each period and group.

    Args:
        orders: user_id, day, amount, group; one row an order.

    Returns:
        payers_count, orders_count, orders_squares (of each user's orders), amount, amount_squares.
    """
    inside = grid.clip(orders)
    per_user = inside.group_by("user_id", **grid.keys(inside)).aggregate(
        orders=inside.count(), amount=inside.amount.sum().fill_null(0).cast("float64")
    )
    counted = per_user.group_by("at", *(["group"] if grid.by else [])).aggregate(
        payers_count=per_user.count(),
        orders_count=per_user.orders.sum(),
        orders_squares=(per_user.orders * per_user.orders).sum(),
        amount=per_user.amount.sum(),
        amount_squares=(per_user.amount * per_user.amount).sum(),
    )
    names = ("payers_count", "orders_count", "orders_squares", "amount", "amount_squares")
    return grid.fill(counted.to_pandas(), *names)


def count_doers(rows: ir.Table, grid: Grid, *, active_days: ir.Table | None = None) -> pd.DataFrame:
    """Count the users with a row in each period, and those of them who are not among its active users.

    Args:
        rows: user_id, day, group.
        active_days: user_id, day, one row a user and day; None: whoever has a row is active that day.

    Returns:
        doers_count, besides_count.
    """
    inside = grid.clip(rows)
    doers = inside.select("user_id", **grid.keys(inside)).distinct()
    beside = ibis.literal(0)
    if active_days is not None:
        days = grid.clip(active_days)
        active = days.select(user_id="user_id", at=grid.place(days.day), active=ibis.literal(True))
        # Of a day there is one row a user already.
        active = active if grid.grain == "day" else active.distinct()
        doers = doers.left_join(active, ["user_id", "at"])
        beside = doers.active.isnull()
    marked = doers.select("at", *(["group"] if grid.by else []), beside=beside)
    counted = marked.group_by("at", *(["group"] if grid.by else [])).aggregate(
        doers_count=marked.count(), besides_count=marked.beside.sum()
    )
    return grid.fill(counted.to_pandas(), "doers_count", "besides_count")


def make_doers(doers: pd.DataFrame, users: pd.DataFrame, grid: Grid, gaps: np.ndarray, *, metric: str) -> MetricSeries:
    """Share of a period's active users who did something in it; who did it counts as active."""
    top = doers["doers_count"].to_numpy()
    below = users["users_count"].to_numpy() + doers["besides_count"].to_numpy()
    error = find_binomial_error(top, below)
    return make_series(grid, metric, unit="rate", kind="rate", numerator=top, denominator=below, error=error, gaps=gaps)


def make_orders(orders: pd.DataFrame, grid: Grid, gaps: np.ndarray, *, metric: str) -> MetricSeries:
    """Orders, users with an order, or revenue of a period.

    Standard errors are compound Poisson's: the root of the sum over users of the squares of what each brings.
    """
    column, squares = {
        "orders_count": ("orders_count", "orders_squares"),
        "paying_users_count": ("payers_count", "payers_count"),
        "revenue_amount": ("amount", "amount_squares"),
    }[metric]
    top = orders[column].to_numpy()
    is_money = metric == "revenue_amount"
    return make_series(
        grid,
        metric,
        unit="amount" if is_money else "count",
        kind="mean" if is_money else "count",
        numerator=top,
        denominator=np.ones(len(top)),
        error=np.sqrt(orders[squares].to_numpy()),
        gaps=gaps,
        is_sum=True,
        few=np.zeros(len(top), dtype=bool),
    )


def count_spend(spend: ir.Table, grid: Grid) -> pd.DataFrame:
    """Sum up what was spent: amount. Takes day, amount, group."""
    inside = grid.clip(spend)
    return grid.count(inside, amount=inside.amount.sum().cast("float64"))


def make_spend(spend: pd.DataFrame, grid: Grid, gaps: np.ndarray) -> MetricSeries:
    """What was spent in a period. It is known exactly: its standard error is 0."""
    top = grid.roll_up(spend)["amount"].to_numpy()
    return make_series(
        grid,
        "spend_amount",
        unit="amount",
        kind="mean",
        numerator=top,
        denominator=np.ones(len(top)),
        error=np.zeros(len(top)),
        gaps=gaps,
        is_sum=True,
        few=np.zeros(len(top), dtype=bool),
    )


def count_largest(spend: ir.Table, grid: Grid) -> pd.DataFrame:
    """Find the channel on which most was spent in each period.

    Takes day, channel, amount. Gives amount (of that channel), total, largest (its name, the first of equal ones).
    """
    inside = grid.clip(spend)
    keys = {"at": grid.place(inside.day), "channel": inside.channel.fill_null(NOT_GIVEN)}
    sums = inside.group_by(**keys).aggregate(amount=inside.amount.sum().cast("float64"))
    rank = ibis.row_number().over(group_by=sums["at"], order_by=[sums.amount.desc(), sums.channel])
    ranked = sums.mutate(rank=rank, total=sums.amount.sum().over(group_by=sums["at"]))
    first = ranked.filter(ranked["rank"] == 0).select("at", "amount", "total", "channel").to_pandas()
    frame = grid.fill(first, "amount", "total")
    names = first.set_index("at")["channel"].reindex(range(grid.number), fill_value="")
    return frame.assign(largest=names.to_numpy(dtype=object))


def make_largest_share(largest: pd.DataFrame, grid: Grid, gaps: np.ndarray) -> MetricSeries:
    """Share of the largest channel in all spend of a period, and its name in a further column, largest."""
    amount, total = largest["amount"].to_numpy(), largest["total"].to_numpy()
    return _make_share(grid, gaps, amount, total, {"largest": largest["largest"].to_numpy()})


def make_spend_share(spend: pd.DataFrame, total: pd.DataFrame, grid: Grid, gaps: np.ndarray) -> MetricSeries:
    """Share of each group in all spend of a period, known exactly (standard error 0).

    Args:
        spend, total: by day and group, and by day, as `count_spend` gives them.
    """
    whole = np.repeat(total["amount"].to_numpy(), len(grid.groups))
    both = grid.roll_up(pd.DataFrame({"amount": spend["amount"], "total": whole}))
    return _make_share(grid, gaps, both["amount"].to_numpy(), both["total"].to_numpy(), {})


def _make_share(grid: Grid, gaps: np.ndarray, top: np.ndarray, total: np.ndarray, more: dict[str, Any]) -> MetricSeries:
    return make_series(
        grid,
        "spend_share_rate",
        unit="rate",
        kind="mean",
        numerator=top,
        denominator=total,
        error=np.zeros(len(top)),
        gaps=gaps,
        few=total <= 0,
        more=more,
    )


def count_costs(active_days: ir.Table, spend: ir.Table, grid: Grid, *, rewards: ir.Table | None = None) -> pd.DataFrame:
    """Sum up what was spent on new users, and how many came.

    Args:
        active_days: user_id, day, channel, group; all days since the beginning. Without channel all spend is for all.
        spend, rewards: day, channel, amount, group.

    Returns:
        amount, new_count and kept_count (of these, active on day 7), all of the channels on which something was spent
        in the period.
    """
    known = active_days.filter(active_days.day < grid.span.end)
    by_channel = "channel" in known.columns
    place: dict[str, Any] = {"channel": known.channel.fill_null(NOT_GIVEN)} if by_channel else {}
    place |= {"group": known.group} if grid.by else {}
    first = known.day.min().over(group_by=known.user_id)
    aged = known.select(day=first, age=known.day.delta(first, unit="day"), **place)
    aged = grid.clip(aged.filter(aged.age.isin([0, RETAINED_DAY])))
    keys = {"at": grid.place(aged.day), **{k: aged[k] for k in place}}
    users = aged.group_by(**keys).aggregate(new_count=(aged.age == 0).sum(), kept_count=(aged.age > 0).sum())
    costs = spend.select("day", "amount", *place)
    if rewards is not None:
        costs = costs.union(rewards.select("day", "amount", *place))
    costs = grid.clip(costs)
    if by_channel:
        costs = costs.mutate(channel=costs.channel.fill_null(NOT_GIVEN))
    keys = {"at": grid.place(costs.day), **{k: costs[k] for k in place}}
    paid = costs.group_by(**keys).aggregate(amount=costs.amount.sum().cast("float64"))
    paid = paid.filter(paid.amount > 0)
    joined = paid.left_join(users, list(keys))
    sums = {c: joined[c].sum() for c in ("amount", "new_count", "kept_count")}
    counted = joined.group_by("at", *(["group"] if grid.by else [])).aggregate(**sums).to_pandas()
    return grid.fill(counted, *sums)


def make_cost(costs: pd.DataFrame, grid: Grid, gaps: np.ndarray, *, metric: str) -> MetricSeries:
    """What a new user, or one who is there on day 7, costs in a period: spend and rewards over those who came.

    Of channels with spend only, as in `measure_acquisition`. The spend is known, how many users it brings is chance
    (Poisson): the standard error is the value over the root of their number.
    """
    kept = metric == "cost_per_d7_amount"
    top, new = costs["amount"].to_numpy(), costs["new_count"].to_numpy()
    below = costs["kept_count"].to_numpy() if kept else new
    with np.errstate(divide="ignore", invalid="ignore"):
        error = top / below / np.sqrt(below)
    return make_series(
        grid,
        metric,
        unit="amount",
        kind="mean",
        numerator=top,
        denominator=below,
        error=error,
        wait_days=RETAINED_DAY if kept else 0,
        gaps=gaps,
        few=(new < grid.minimum) | (below == 0),
    )

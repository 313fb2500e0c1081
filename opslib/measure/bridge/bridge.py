"""The bridge from one period to the next: which lever moved active users and revenue, and by how much.

Both totals are sums over groups of users (new, kept, come back), each a product of rates. The change of such a total is
shared out among the rates by Shapley's rule, so that the shares add up to it exactly, whatever the order.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ibis.expr.types as ir
import numpy as np
import pandas as pd

from opslib.data.periods import Calendar, Period
from opslib.measure.bridge.shares import Values, share_change
from opslib.measure.bridge.users import ABSENT, GROUPS, MOMENTS, PARTS, count_cells, draw, unpack
from opslib.measure.estimate import CONFIDENCE, to_plain_record

DRAWS = 400
COUNT_LEVERS = ("acquisition", "activation", "newcomers_kept", "retention", "resurrection", "base")
MONEY_LEVERS = ("payer_share", "orders_per_payer", "order_value")


@dataclass(frozen=True)
class BridgeResult:
    """How active users and revenue came from one period's level to the next.

    Attributes:
        now, before: the periods.
        users: lever, change_count with change_low and change_high, driver_before and driver_now (the lever's own value)
            and driver (its unit: users or rate); the changes add up to `users_now` - `users_before` to the user.
        revenue: lever, change_amount with change_low and change_high, and the drivers; they add up to the change of
            revenue to the cent. None without orders.
        users_before, users_now: active users of the periods.
        revenue_before, revenue_now: their revenue; None without orders.
        groups: period ("before", "now"), group, users_count, paying_users_count, orders_count, revenue_amount.
        confidence: of the intervals.

    Levers: acquisition (new users), activation (share of new users seen again within seven days), newcomers_kept (share
    of the opening period's new users active in this one), retention (share of its other users), resurrection (share of
    users away at least one whole period who came back), base (how many users there were to keep and to win back);
    of money also payer_share, orders_per_payer, order_value.
    """

    now: Period
    before: Period
    users: pd.DataFrame
    revenue: pd.DataFrame | None
    users_before: int
    users_now: int
    revenue_before: float | None
    revenue_now: float | None
    groups: pd.DataFrame
    confidence: float = CONFIDENCE

    def findings(self) -> list[dict[str, Any]]:
        """One flat record a total and lever."""
        context = {"name": "bridge", "period": self.now.label, "compared_with": self.before.label}
        context["confidence"] = self.confidence  # type: ignore[assignment]
        records = [{**context, "total": "active_users", **to_plain_record(r)} for r in self.users.to_dict("records")]
        rows = [] if self.revenue is None else self.revenue.to_dict("records")
        return records + [{**context, "total": "revenue", **to_plain_record(r)} for r in rows]


def measure_bridge(
    active_days: ir.Table,
    now: Period,
    before: Period,
    *,
    opening_now: Period,
    opening_before: Period,
    orders: ir.Table | None = None,
    calendar: Calendar | None = None,
    draws: int = DRAWS,
    seed: int = 0,
    confidence: float = CONFIDENCE,
) -> BridgeResult:
    """Measure the bridge between two periods.

    Args:
        active_days: user_id, day; one row a user and local day, all since the beginning.
        now, before: the periods, which do not overlap.
        opening_now, opening_before: the period right before each, in which a kept user was active.
        orders: user_id, ts (UTC), amount; one row an order. A user with an order is active on that day.
        calendar: the company's clock; needed with orders.
        draws: resampled data sets behind the intervals.
        seed: of their random numbers; the same input gives the same output.
        confidence: of the intervals.

    Returns:
        A `BridgeResult`.

    Raises:
        ValueError: the periods overlap, or orders come without a calendar.

    A user is in one group of each period: new (first active day in it; *activated* when active again within seven days,
    *young* when the period ended before those seven days, else *lapsed*), kept (active also in the opening period,
    which was the first for *kept_new*), resurrected (active before, but not in the opening period). New users have the
    same time to come back in both periods.

    Shapley: each lever is moved from its old to its new value in every order of the levers, and its effects are
    averaged. A rate that nobody could have (orders per payer without payers) is taken from the other period.
    Intervals: Poisson bootstrap over users, from the sums and cross products of what users of the same groups add
    (normal on those sums). A user's two periods stay together, so a big buyer of both is no news.

    Source: Shorrocks (2013), Journal of Economic Inequality 11, 99-126; Das Gupta (1993), Standardization and
    Decomposition of Rates, whose formulas for products are the same; Chamandy et al. (2012), Estimating uncertainty for
    massive data streams, for the Poisson bootstrap.

    >>> import datetime as dt, ibis
    >>> days = [(1, 1, 5), (1, 4, 6), (2, 4, 7), (2, 7, 8), (3, 7, 9), (4, 7, 9)]
    >>> rows = {"user_id": [u for u, _, _ in days], "day": [dt.date(2026, m, d) for _, m, d in days]}
    >>> q1, q2, q3 = (Period(dt.date(2026, m, 1), dt.date(2026, m + 3, 1), "") for m in (1, 4, 7))
    >>> bridge = measure_bridge(ibis.memtable(rows), q3, q2, opening_now=q2, opening_before=q1)
    >>> bridge.users_before, bridge.users_now, bridge.users.set_index("lever")["change_count"].round(2).to_dict()
    (2, 3, {'acquisition': 1.0, 'newcomers_kept': 0.0, 'retention': 0.0, 'resurrection': 0.0, 'base': 0.0})
    """
    if now.overlaps(before):
        raise ValueError("the periods to bridge overlap")
    cells = count_cells(active_days, now, before, opening_now, opening_before, orders, calendar)
    names = [(str(a), str(b)) for a, b in zip(cells["before"], cells["now"], strict=True)]
    sums, cross = unpack(cells)
    drawn = draw(sums, cross, draws, seed)
    observed = tuple(_collect(names, sums[None], side) for side in ("before", "now"))
    resampled = tuple(_collect(names, drawn, side) for side in ("before", "now"))
    # In the count of active users a new one counts, whether seen again or not.
    counted = tuple(lever for lever in COUNT_LEVERS if lever != "activation")
    users = _tabulate(observed, resampled, counted, _count_users, "change_count", confidence)
    levers = (*COUNT_LEVERS, *MONEY_LEVERS)
    revenue = None
    if orders is not None:
        revenue = _tabulate(observed, resampled, levers, _sum_revenue, "change_amount", confidence)
    groups = pd.concat([_list_groups(names, sums, side) for side in ("before", "now")], ignore_index=True)
    sides = [groups[groups["period"] == side] for side in ("before", "now")]
    money = [None if orders is None else round(float(rows["revenue_amount"].sum()), 2) for rows in sides]
    counts = [int(rows["users_count"].sum()) for rows in sides]
    return BridgeResult(now, before, users, revenue, counts[0], counts[1], money[0], money[1], groups, confidence)


def _collect(names: list[tuple[str, str]], sums: np.ndarray, side: str) -> dict[str, np.ndarray]:
    """The factors of one period, by draw: users, rates between groups and, by group, what payers pay."""
    place = 0 if side == "before" else 1
    columns = [MOMENTS.index("one"), *(MOMENTS.index(f"{part}_{side}") for part in PARTS)]
    by_group = {}
    for group in (*GROUPS, *ABSENT):
        members = [i for i, pair in enumerate(names) if pair[place] == group]
        by_group[group] = sums[:, members][:, :, columns].sum(axis=1)
    users = {group: values[:, 0] for group, values in by_group.items()}
    new = users["new_activated"] + users["new_lapsed"] + users["new_young"]
    grown = users["new_activated"] + users["new_lapsed"]
    values = {
        "new": new,
        "young_rate": _divide(users["new_young"], new),
        "activation_rate": _divide(users["new_activated"], grown),
        "newcomers": users["kept_new"] + users["lost_new"],
        "newcomers_kept_rate": _divide(users["kept_new"], users["kept_new"] + users["lost_new"]),
        "others": users["kept_old"] + users["lost_old"],
        "retention_rate": _divide(users["kept_old"], users["kept_old"] + users["lost_old"]),
        "away": users["resurrected"] + users["away"],
        "resurrection_rate": _divide(users["resurrected"], users["resurrected"] + users["away"]),
    }
    paying = np.stack([by_group[g] for g in GROUPS], axis=1)
    values["payer_share"] = _divide(paying[:, :, 1], paying[:, :, 0])
    values["orders_per_payer"] = _divide(paying[:, :, 2], paying[:, :, 1])
    values["order_value"] = _divide(paying[:, :, 3], paying[:, :, 2])
    return values


def _divide(top: np.ndarray, bottom: np.ndarray) -> np.ndarray:
    return np.where(bottom > 0, top / np.where(bottom > 0, bottom, 1.0), np.nan)


def _fill(values: Values, other: Values) -> dict[str, np.ndarray]:
    """Rates that nobody could have, from the other period; nought where neither tells."""
    return {n: np.nan_to_num(np.where(np.isnan(v), other[n], v), nan=0.0) for n, v in values.items()}


def _list_users(v: Values) -> list[np.ndarray]:
    """Users by group, from the factors."""
    grown = v["new"] * (1 - v["young_rate"])
    return [
        grown * v["activation_rate"],
        grown * (1 - v["activation_rate"]),
        v["new"] * v["young_rate"],
        v["newcomers"] * v["newcomers_kept_rate"],
        v["others"] * v["retention_rate"],
        v["away"] * v["resurrection_rate"],
    ]


def _count_users(v: Values) -> np.ndarray:
    return np.sum(_list_users(v), axis=0)


def _sum_revenue(v: Values) -> np.ndarray:
    users = np.stack(_list_users(v), axis=-1)
    return (users * v["payer_share"] * v["orders_per_payer"] * v["order_value"]).sum(axis=-1)


FACTORS: dict[str, tuple[str, ...]] = {
    "acquisition": ("new", "young_rate"),
    "activation": ("activation_rate",),
    "newcomers_kept": ("newcomers_kept_rate",),
    "retention": ("retention_rate",),
    "resurrection": ("resurrection_rate",),
    "base": ("newcomers", "others", "away"),
    "payer_share": ("payer_share",),
    "orders_per_payer": ("orders_per_payer",),
    "order_value": ("order_value",),
}


def _tabulate(
    observed: tuple[Values, ...],
    resampled: tuple[Values, ...],
    levers: tuple[str, ...],
    total: Callable[[Values], np.ndarray],
    column: str,
    confidence: float,
) -> pd.DataFrame:
    moves = {lever: FACTORS[lever] for lever in levers}

    def share(pair: tuple[Values, ...]) -> dict[str, np.ndarray]:
        return share_change(total, _fill(pair[0], pair[1]), _fill(pair[1], pair[0]), moves)

    parts, spread = share(observed), share(resampled)
    rows = []
    for lever in levers:
        value = float(parts[lever][0])
        ends = np.quantile(spread[lever], [(1 - confidence) / 2, (1 + confidence) / 2])
        low, high = min(value, float(ends[0])), max(value, float(ends[1]))
        drivers = [_read_driver(values, lever) for values in observed]
        unit = {"acquisition": "users", "base": "users", "orders_per_payer": "ratio", "order_value": "amount"}
        rows.append((lever, value, low, high, *drivers, unit.get(lever, "rate")))
    names = ["lever", column, "change_low", "change_high", "driver_before", "driver_now", "driver"]
    return pd.DataFrame(rows, columns=names)


def _read_driver(v: Values, lever: str) -> float:
    """A lever's own value: how many users, or over all groups the rate."""
    if lever == "base":
        return float((v["newcomers"] + v["others"] + v["away"])[0])
    if lever not in MONEY_LEVERS:
        return float(v[FACTORS[lever][0]][0])
    filled = {n: np.nan_to_num(x, nan=0.0) for n, x in v.items()}
    users = np.stack(_list_users(filled), axis=-1)
    payers = users * filled["payer_share"]
    orders = payers * filled["orders_per_payer"]
    amount = orders * filled["order_value"]
    top, bottom = {
        "payer_share": (payers, users),
        "orders_per_payer": (orders, payers),
        "order_value": (amount, orders),
    }[lever]
    return float(_divide(top.sum(axis=-1), bottom.sum(axis=-1))[0])


def _list_groups(names: list[tuple[str, str]], sums: np.ndarray, side: str) -> pd.DataFrame:
    place = 0 if side == "before" else 1
    columns = [MOMENTS.index("one"), *(MOMENTS.index(f"{part}_{side}") for part in PARTS)]
    rows = []
    for group in GROUPS:
        members = [i for i, pair in enumerate(names) if pair[place] == group]
        users, payers, orders, amount = sums[members][:, columns].sum(axis=0)
        rows.append((side, group, int(users), int(payers), int(orders), float(amount)))
    columns_out = ["period", "group", "users_count", "paying_users_count", "orders_count", "revenue_amount"]
    return pd.DataFrame(rows, columns=columns_out)

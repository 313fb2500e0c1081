"""Users by group before and now, and what the users of a group add to the sums: all that a bridge needs of the data."""

from __future__ import annotations

from typing import Any

import ibis
import ibis.expr.types as ir
import numpy as np
import pandas as pd

from opslib.data.periods import DAY, Calendar, Period

# A new user who is active on one of these many days after the first has come back.
ACTIVATION_DAYS = 7
GROUPS = ("new_activated", "new_lapsed", "new_young", "kept_new", "kept_old", "resurrected")
ABSENT = ("lost_new", "lost_old", "away")
NOBODY = "none"
# What a user adds to sums in each period.
PARTS = ("payers", "orders", "amount")
MOMENTS = ("one", *(f"{part}_{side}" for side in ("before", "now") for part in PARTS))
# Sums of money differ in their last digits by how threads shared the rows: nothing after this is believed.
MONEY_DIGITS = 6


def count_cells(
    active_days: ir.Table,
    now: Period,
    before: Period,
    opening_now: Period,
    opening_before: Period,
    orders: ir.Table | None,
    calendar: Calendar | None,
) -> pd.DataFrame:
    """Users by group before and now, with sums and cross products of what they add."""
    days = active_days.select("user_id", "day")
    paid = None
    if orders is not None:
        if calendar is None:
            raise ValueError("orders need the company's calendar")
        paid = _sum_orders(orders, now, before, calendar)
        known = orders.filter(orders.ts < ibis.timestamp(calendar.day_start(now.end)))
        # A day that is there twice changes nothing of what is asked below.
        days = days.union(known.select("user_id", day=calendar.local_day(known.ts)))
    days = days.filter(days.day < now.end)
    marked = days.mutate(first_day=days.day.min().over(group_by=days.user_id))
    age = marked.day.delta(marked.first_day, unit="day")
    inside = {
        name: ((marked.day >= p.start) & (marked.day < p.end)).any()
        for name, p in (("b", before), ("n", now), ("open_b", opening_before), ("open_n", opening_now))
    }
    back = ((age >= 1) & (age <= ACTIVATION_DAYS)).any()
    users = marked.group_by("user_id", "first_day").aggregate(back=back, **inside)
    users = users.select(
        "user_id",
        before=_name_group(users, before, opening_before, users.b, users.open_b),
        now=_name_group(users, now, opening_now, users.n, users.open_n),
    )
    if paid is not None:
        joined = users.left_join(paid, [("user_id", "_user")])
        adds = {name: joined[name].fill_null(0.0) for name in MOMENTS[1:]}
    else:
        joined, adds = users, dict.fromkeys(MOMENTS[1:], ibis.literal(0.0))
    table = joined.select("before", "now", one=ibis.literal(1.0), **adds)
    pairs = [(a, b) for i, a in enumerate(MOMENTS) for b in MOMENTS[i:]]
    products = {f"{a}__{b}": (table[a] * table[b]).sum() for a, b in pairs}
    return table.group_by("before", "now").aggregate(**products).to_pandas().sort_values(["before", "now"])


def _name_group(users: ir.Table, period: Period, opening: Period, active: Any, opened: Any) -> Any:
    first = users.first_day
    young = first > period.last_day - ACTIVATION_DAYS * DAY
    newcomer = first >= opening.start
    return ibis.cases(
        (first >= period.end, NOBODY),
        ((first >= period.start) & young, "new_young"),
        ((first >= period.start) & users.back, "new_activated"),
        (first >= period.start, "new_lapsed"),
        (active & opened & newcomer, "kept_new"),
        (active & opened, "kept_old"),
        (active, "resurrected"),
        (opened & newcomer, "lost_new"),
        (opened, "lost_old"),
        else_="away",
    )


def _sum_orders(orders: ir.Table, now: Period, before: Period, calendar: Calendar) -> ir.Table:
    """_user, and what each paid in the two periods."""
    sums: dict[str, Any] = {}
    amount = orders.amount.cast("float64")
    for side, period in (("before", before), ("now", now)):
        start, end = (ibis.timestamp(calendar.day_start(d)) for d in (period.start, period.end))
        inside = (orders.ts >= start) & (orders.ts < end)
        sums[f"payers_{side}"] = inside.any().cast("float64")
        sums[f"orders_{side}"] = inside.sum().cast("float64")
        sums[f"amount_{side}"] = inside.ifelse(amount, 0.0).sum()
    return orders.group_by(_user=orders.user_id).aggregate(**sums)


def unpack(cells: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Sums by cell and moment, and cross products by cell, moment and moment."""
    size = len(MOMENTS)
    cross = np.zeros((len(cells), size, size))
    for i, a in enumerate(MOMENTS):
        for j in range(i, size):
            values = cells[f"{a}__{MOMENTS[j]}"].to_numpy(dtype=float).round(MONEY_DIGITS)
            cross[:, i, j] = cross[:, j, i] = values
    return cross[:, 0, :], cross


def draw(sums: np.ndarray, cross: np.ndarray, draws: int, seed: int) -> np.ndarray:
    """Sums as they might have been: by draw, cell and moment."""
    cells, size = sums.shape
    generator = np.random.default_rng([seed, 7])
    half = generator.standard_normal(((draws + 1) // 2, cells, size))
    normal = np.concatenate([half, -half])[:draws]
    scale = np.sqrt(np.einsum("cii->ci", cross))
    safe = np.where(scale > 0, scale, 1.0)
    related = cross / safe[:, :, None] / safe[:, None, :]
    # A user with one order has as many orders as payments: the matrix may have no root without a grain of noise.
    root = np.linalg.cholesky(related + 1e-10 * np.eye(size))
    drawn = sums + np.einsum("cij,dcj->dci", root, normal) * scale
    # Users are counted and no fewer than none; refunds can make money negative.
    keep = np.array([not name.startswith("amount") for name in MOMENTS])
    return np.where(keep, np.maximum(drawn, 0), drawn)

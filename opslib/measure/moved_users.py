"""Moved users: what users who moved, for example into a private group, did afterwards, beside others like them."""

from __future__ import annotations

import datetime as dt
import math
from dataclasses import dataclass
from typing import Any

import ibis
import ibis.expr.types as ir
import pandas as pd

from opslib.data.periods import DAY, Calendar
from opslib.language import say
from opslib.measure.estimate import MINIMUM_DENOMINATOR, Estimate, Unit, quantile, to_plain_record

# Users are alike who were as long with us and as often active in the last 28 days; the upper ends of the classes.
TENURE_DAYS = (0, 6, 29, 89, 179)
RECENT_DAYS = 28
RECENT_ACTIVE = (1, 3, 7, 14)
LAST_DAYS = 7
METRICS: dict[str, Unit] = {"active_days_count": "count", "still_active_rate": "rate", "margin_amount": "amount"}


@dataclass(frozen=True)
class MovedUsersResult:
    """What movers did in the days after their move, and what users like them did who had not moved.

    Attributes:
        window_days: days after the move that are looked at; the day of the move is not among them.
        differences: active_days_count (active days of the window), still_active_rate (active in its last seven days)
            and, with orders, margin_amount a user (revenue, where orders have no cost): movers less the others. An
            association: nobody was moved by lot.
        means: metric, moved_mean, matched_mean (of the others, weighted as the movers are).
        movers_count: users who moved up to `as_of`.
        compared_count: movers who are in the differences.
        waiting_count: movers whose window is not over.
        not_active_count: movers who were not active on the day they moved, so that nobody is like them.
        unmatched_count: movers like whom there is nobody.
    """

    window_days: int
    differences: dict[str, Estimate]
    means: pd.DataFrame
    movers_count: int
    compared_count: int
    waiting_count: int
    not_active_count: int
    unmatched_count: int

    def findings(self) -> list[dict[str, Any]]:
        """The differences and the means behind them."""
        records = [e.to_finding(window_days=self.window_days) for e in self.differences.values()]
        return records + [{"name": "moved_users", **to_plain_record(row)} for row in self.means.to_dict("records")]


def measure_moved_users(
    active_days: ir.Table,
    first_days: ir.Table,
    moves: ir.Table,
    *,
    as_of: dt.date,
    calendar: Calendar,
    orders: ir.Table | None = None,
    window_days: int = 30,
) -> MovedUsersResult:
    """Compare users who moved with others like them, from the day of the move on.

    Args:
        active_days: user_id, day.
        first_days: user_id, first_day; the users who could move: without those who were there from the start.
        moves: user_id, moved_at (UTC); null or absent: has not moved.
        as_of: the last day that is fully known; a window must end by then.
        calendar: the company's clock.
        orders: user_id, ts (UTC), amount and, if it is known, cost.
        window_days: how long to follow them.

    Returns:
        A `MovedUsersResult`.

    Whoever moves must have stayed until then, so all movers against all others would credit the move with their having
    stayed (immortal time). Here both sides start on the same footing: the day of a move is compared with the active
    days, in the same week, of users who had not moved by then, were as long with us and as often active in the 28 days
    before. Those who move later stay on the other side. Intervals are normal over users.

    Source: Suissa (2008), American Journal of Epidemiology 167, 492-499 (immortal time); Hernan and Robins (2016),
    American Journal of Epidemiology 183, 758-764 (emulating a trial).

    >>> first = ibis.memtable({"user_id": range(50), "first_day": [dt.date(2026, 1, 5)] * 50})
    >>> days = ibis.memtable({"user_id": range(50), "day": [dt.date(2026, 1, 5)] * 50})
    >>> moves = ibis.memtable({"user_id": range(20), "moved_at": [dt.datetime(2026, 1, 5, 9)] * 20})
    >>> moved = measure_moved_users(days, first, moves, as_of=dt.date(2026, 3, 1), calendar=Calendar())
    >>> moved.compared_count, moved.differences["active_days_count"].value
    (20, 0.0)
    """
    moved_days = moves.select(_mover="user_id", moved_day=calendar.local_day(moves.moved_at))
    users = first_days.left_join(moved_days, [("user_id", "_mover")]).drop("_mover")
    users = users.filter(users.first_day <= as_of)
    followed = _follow(_line_up(active_days, orders, users, as_of, calendar), window_days)
    mature = followed.day <= as_of - window_days * DAY
    candidates = followed.filter(mature & (followed.moved_day.isnull() | (followed.day <= followed.moved_day)))
    candidates = candidates.mutate(moves=(candidates.day == candidates.moved_day).fill_null(False))
    sums = _sum_pairs(candidates).to_pandas().iloc[0].fillna(0)
    movers = users.filter(users.moved_day <= as_of)
    counts = movers.aggregate(
        movers=movers.count(),
        waiting=(movers.moved_day > as_of - window_days * DAY).sum().fill_null(0),
    ).to_pandas()
    total, waiting = int(counts["movers"][0]), int(counts["waiting"][0])
    active, compared = int(sums["active"]), int(sums["compared"])
    metrics = [m for m in METRICS if orders is not None or m != "margin_amount"]
    enough = compared >= MINIMUM_DENOMINATOR
    means = [(m, sums[f"{m}_moved"] / compared, (sums[f"{m}_moved"] - sums[m]) / compared) for m in metrics if enough]
    return MovedUsersResult(
        window_days,
        {m: _estimate_difference(m, sums, compared) for m in metrics},
        pd.DataFrame(means, columns=["metric", "moved_mean", "matched_mean"]),
        total,
        compared,
        waiting,
        total - waiting - active,
        active - compared,
    )


def _line_up(
    active_days: ir.Table, orders: ir.Table | None, users: ir.Table, as_of: dt.date, calendar: Calendar
) -> ir.Table:
    """One row a user and day with activity or an order: user_id, day, active, margin, first_day, moved_day."""
    days = active_days.select("user_id", "day", active=ibis.literal(1), margin=ibis.literal(0.0))
    if orders is not None:
        cost = orders.cost.fill_null(0) if "cost" in orders.columns else ibis.literal(0.0)
        margin = (orders.amount.fill_null(0) - cost).cast("float64")
        paid = orders.select("user_id", day=calendar.local_day(orders.ts), active=ibis.literal(0), margin=margin)
        days = days.union(paid)
    known = days.filter(days.day <= as_of)
    merged = known.group_by("user_id", "day").aggregate(active=known.active.max(), margin=known.margin.sum())
    return merged.inner_join(users, "user_id")


def _follow(days: ir.Table, window_days: int) -> ir.Table:
    """Active days with what came before and after them."""
    numbered = days.mutate(age=days.day.delta(days.first_day, unit="day"))

    def window(begin: int, end: int) -> Any:
        bounds: dict[str, Any] = {"preceding": -begin, "following": 0} if end == 0 else {"following": (begin, end)}
        return ibis.range_window(group_by=numbered.user_id, order_by=numbered.age, **bounds)

    recent = numbered.active.sum().over(window(1 - RECENT_DAYS, 0))
    after, last = window(1, window_days), window(max(1, window_days - LAST_DAYS + 1), window_days)
    followed = numbered.mutate(
        tenure=_classify(numbered.age, TENURE_DAYS),
        recent=_classify(recent, RECENT_ACTIVE),
        week=numbered.day.truncate("W"),
        active_days_count=numbered.active.sum().over(after).fill_null(0).cast("float64"),
        still_active_rate=(numbered.active.sum().over(last).fill_null(0) > 0).cast("float64"),
        margin_amount=numbered.margin.sum().over(after).fill_null(0.0),
    )
    return followed.filter((followed.active == 1) & (followed.age >= 0))


def _classify(value: Any, ends: tuple[int, ...]) -> Any:
    return ibis.cases(*((value <= end, i) for i, end in enumerate(ends)), else_=len(ends))


def _sum_pairs(candidates: ir.Table) -> ir.Table:
    """Sums over users of what each adds to the difference: a mover's distance from the others' mean, and the others'
    own distances from it, weighted by the movers whom they stand for. Squared by user, these give the variance, however
    often a user's days are used."""
    strata = ibis.window(group_by=[candidates[k] for k in ("week", "tenure", "recent")])
    moved = candidates.moves.cast("int64").sum().over(strata)
    others = (~candidates.moves).cast("int64").sum().over(strata)
    means = {f"{m}_mean": candidates[m].sum(where=~candidates.moves).over(strata) / others for m in METRICS}
    rows = candidates.mutate(paired=(moved > 0) & (others > 0), weight=moved / others.nullif(0), **means)
    parts: dict[str, Any] = {"active": rows.moves.sum(), "compared": (rows.moves & rows.paired).sum()}
    for m in METRICS:
        distance = rows[m] - rows[f"{m}_mean"]
        added = ibis.cases((~rows.paired, 0.0), (rows.moves, distance), else_=-rows.weight * distance)
        parts |= {m: added.sum(), f"{m}_moved": rows[m].sum(where=rows.moves & rows.paired).fill_null(0.0)}
    users = rows.group_by("user_id").aggregate(**parts)
    sums = {c: users[c].sum() for c in parts}
    sums |= {f"{m}_squares": (users[m] * users[m]).sum() for m in METRICS}
    sums |= {f"{m}_products": (users[m] * users.compared).sum() for m in METRICS}
    return users.aggregate(**sums)


def _estimate_difference(metric: str, sums: pd.Series, compared: int) -> Estimate:
    gap, unit = float(sums[metric]), METRICS[metric]
    if compared < MINIMUM_DENOMINATOR:
        note = say(
            "not enough data: {count} movers with users like them, at least {minimum} needed",
            count=compared,
            minimum=MINIMUM_DENOMINATOR,
        )
        return Estimate(metric, None, gap, compared, None, None, "none", unit, note=note)
    value = gap / compared
    squares = float(sums[f"{metric}_squares"] - 2 * value * sums[f"{metric}_products"]) + value**2 * compared
    half = quantile() * math.sqrt(max(0.0, squares)) / compared
    return Estimate(metric, value, gap, compared, value - half, value + half, "normal over users", unit)

"""What users of a segment and of the rest did in a period, for a portrait."""

from __future__ import annotations

import math

import ibis
import ibis.expr.types as ir

from opslib.data.periods import Calendar, Period

# Values of `member`: the segment, the rest.
SIDES = (True, False)
# Name; count, mean and variance in the segment and in the rest.
Number = tuple[str, tuple[float, float, float], tuple[float, float, float]]


def add_behavior(
    people: ir.Table,
    period: Period | None,
    active_days: ir.Table | None,
    orders: ir.Table | None,
    calendar: Calendar | None,
) -> ir.Table:
    """Users with what they did in the period; missing for users who came later."""
    table, present = people, ibis.literal(True)
    if period is not None and active_days is not None:
        known = active_days.filter(active_days.day < period.end)
        days = known.group_by("user_id").aggregate(
            first_day=known.day.min(), active_count=(known.day >= period.start).cast("int64").sum()
        )
        start = ibis.greatest(days.first_day, ibis.date(period.start))
        available = ibis.date(period.end).delta(start, unit="day")
        share = days.select(user_id="user_id", active_count="active_count", active_rate=days.active_count / available)
        table = _attach(table, share)
        present = table.active_rate.notnull()
    if period is not None and orders is not None and calendar is not None:
        start_at, end_at = calendar.day_start(period.start), calendar.day_start(period.end)
        paid = orders.filter((orders.ts >= start_at) & (orders.ts < end_at))
        sums = paid.group_by("user_id").aggregate(paid_count=paid.count(), paid_amount=paid.amount.sum())
        table = _attach(table, sums)
        present = table.active_rate.notnull() if active_days is not None else present
        zero = {"orders_count": table.paid_count.fill_null(0), "order_amount": table.paid_amount.fill_null(0)}
        table = table.mutate(**{c: present.ifelse(v, ibis.null(v.type())) for c, v in zero.items()})
        table = table.drop("paid_count", "paid_amount")
    return table


def _attach(people: ir.Table, more: ir.Table) -> ir.Table:
    joined = people.left_join(more, "user_id")
    return joined.drop(*[c for c in joined.columns if c == "user_id_right"])


def measure_events(
    events: ir.Table, people: ir.Table, period: Period, calendar: Calendar, max_values: int
) -> list[Number]:
    """The same for events per active day, over users active in the period; who never did it counts 0."""
    active = people.filter(people.active_count > 0).select("user_id", "member", "active_count")
    start, end = calendar.day_start(period.start), calendar.day_start(period.end)
    near = events.filter((events.ts >= start) & (events.ts < end) & events.event.notnull())
    counted = near.group_by("user_id", "event").aggregate(n=lambda t: t.count()).inner_join(active, "user_id")
    pace, inside = counted.n / counted.active_count, counted.member.cast("int64")
    per_event = counted.group_by("event").aggregate(
        users=counted.count(),
        s1=(pace * inside).sum(),
        q1=(pace * pace * inside).sum(),
        s0=(pace * (1 - inside)).sum(),
        q0=(pace * pace * (1 - inside)).sum(),
    )
    found = per_event.order_by([ibis.desc("users"), "event"]).limit(max_values).to_pandas()
    users = active.group_by("member").aggregate(n=lambda t: t.count()).to_pandas().set_index("member")["n"]

    def measure(total: float, squares: float, count: float) -> tuple[float, float, float]:
        if count < 2:
            return count, math.nan, math.nan
        spread = squares - total * total / count
        # What is left of equal numbers is rounding.
        return count, total / count, spread / (count - 1) if spread > 1e-12 * squares else 0.0

    n1, n0 = (float(users.get(m, 0)) for m in SIDES)
    return [
        (f"events_per_active_day: {r['event']}", measure(r["s1"], r["q1"], n1), measure(r["s0"], r["q0"], n0))
        for r in found.to_dict("records")
    ]

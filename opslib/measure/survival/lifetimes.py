"""Lifetimes: how long each user has been there, whether they left, and with what behind them; one row a user."""

from __future__ import annotations

from typing import Any, Literal

import ibis
import ibis.expr.types as ir

from opslib.data.periods import Calendar
from opslib.errors import InputError
from opslib.measure.activity import label_segments
from opslib.measure.churn.definition import ChurnDefinition, find_spells
from opslib.measure.churn.spells import EPOCH, keep_known, number_day, place_days, to_day

Leaving = Literal["last", "first"]
Origin = Literal["first", "each"]
PAID, UNPAID = "paid", "unpaid"


def find_lifetimes(
    activity: ir.Table,
    definition: ChurnDefinition,
    *,
    calendar: Calendar | None = None,
    leaving: Leaving = "last",
    origins: ir.Table | None = None,
    origin: Origin = "first",
    payments: ir.Table | None = None,
    attributes: ir.Table | None = None,
    by: str = "",
) -> ir.Table:
    """Find each user's lifetime, for `measure_survival`.

    Args:
        activity: what the churn was defined on.
        definition: when a user counts as gone.
        calendar: the company's clock.
        leaving: "last": who is silent at `as_of`, and has been long enough, left on the last active day; who came back
            after a long silence never left. "first": the first long silence ends the lifetime, whatever came after; it
            treats early and late leavers alike, and takes several times as long. Of subscriptions, the first.
        origins: user_id and ts (UTC) or day from which tenure counts, for example sign-ups or payments. Users without
            one are left out. By default the first active day.
        origin: "first": a user's first row. "each": every row's day starts a lifetime, and the next one ends it without
            the user having left: "30 days after payment" is then 30 days without another.
        payments: user_id and ts or day of payments: adds who left unpaid and who left after paying.
        attributes, by: one row a user, and its column to break down by; the ten largest values keep their names.

    Returns:
        An Ibis table, one row a user (or origin): user_id, entry_days (tenure when first seen, 0 for most),
        duration_days (tenure on the last day known), left, and where asked exit ("paid" or "unpaid" by the end of the
        lifetime) and segment. A user who is too young for anything to be known, or who left before the origin, has a
        duration below the entry.

    Raises:
        InputError: the churn is not defined, or an unknown way of leaving.

    >>> import datetime as dt
    >>> from opslib.measure.churn.definition import define_churn
    >>> days = ibis.memtable({"user_id": [1, 1, 2], "day": [dt.date(2026, 1, d) for d in (1, 3, 30)]})
    >>> churn = define_churn(days, as_of=dt.date(2026, 2, 1), inactive_days=7)
    >>> sorted(find_lifetimes(days, churn).to_pandas()[["duration_days", "left"]].to_numpy().tolist())
    [[-5, False], [2, True]]
    """
    calendar = calendar or Calendar()
    for name, value, known in (("leaving", leaving, ("last", "first")), ("origin", origin, ("first", "each"))):
        if value not in known:
            raise InputError(f"{name} is '{value}': use {' or '.join(known)}.")
    bounded = _bound(activity, definition, calendar, leaving)
    if origins is None:
        lives = bounded.mutate(origin=bounded.begin)
    else:
        find = _first_days if origin == "first" else _each_day
        lives = bounded.inner_join(find(origins, definition, calendar), "user_id")
        if origin == "each":
            again = (lives.next_origin <= lives.end).fill_null(False)
            lives = lives.mutate(end=ibis.ifelse(again, lives.next_origin - 1, lives.end), left=lives.left & ~again)
    columns: dict[str, Any] = {
        "entry_days": ibis.greatest(lives.begin - lives.origin, 0),
        "duration_days": lives.end - lives.origin,
        "left": lives.left,
    }
    if payments is not None:
        paid = _first_days(payments, definition, calendar).rename(payer_id="user_id", paid="origin")
        lives = lives.left_join(paid, lives.user_id == paid.payer_id)
        columns |= {"exit": ibis.ifelse((lives.paid <= lives.end).fill_null(False), PAID, UNPAID)}
    found = lives.select("user_id", **columns)
    if attributes is None or not by:
        return found
    users = lives.select("user_id", day=to_day(lives.begin))
    labels = label_segments(users, attributes, by).select("user_id", "segment")
    return found.inner_join(labels, "user_id")


def _bound(activity: ir.Table, definition: ChurnDefinition, calendar: Calendar, leaving: Leaving) -> ir.Table:
    """user_id, begin, end (numbers of days), left; end is not after the last day of which leaving is known."""
    known = number_day(definition.known_until)
    if leaving == "first" or definition.basis == "subscription":
        spells = find_spells(activity, definition, calendar=calendar)
        first = spells.filter(~spells.returned)
        numbers = {c: first[f"{c}_day"].delta(ibis.date(1970, 1, 1), unit="day") for c in ("start", "end")}
        return first.select("user_id", begin=numbers["start"], end=numbers["end"], left=first.left)
    if definition.basis == "orders" and "amount" in activity.columns:
        activity = activity.filter(activity.amount > 0)
    rows = keep_known(activity, calendar, definition.as_of)
    # Moments become days after the aggregate: a few hundred thousand times instead of millions.
    name = "ts" if "ts" in rows.columns else "day"
    users = rows.group_by("user_id").aggregate(begin=rows[name].min(), end=rows[name].max())
    days = users.select(
        "user_id",
        begin=_number(users.begin, calendar),
        end=_number(users.end, calendar),
    )
    left = days.end <= known
    return days.select("user_id", "begin", end=ibis.least(days.end, known), left=left)


def _number(column: Any, calendar: Calendar) -> Any:
    if column.type().is_date():
        return column.delta(ibis.date(1970, 1, 1), unit="day")
    return calendar.count_days(column, EPOCH)


def _first_days(table: ir.Table, definition: ChurnDefinition, calendar: Calendar) -> ir.Table:
    """user_id, origin: the number of each user's first day."""
    rows = keep_known(table, calendar, definition.as_of)
    name = "ts" if "ts" in rows.columns else "day"
    first = rows.group_by("user_id").aggregate(first=rows[name].min())
    return first.filter(first["first"].notnull()).select("user_id", origin=_number(first["first"], calendar))


def _each_day(table: ir.Table, definition: ChurnDefinition, calendar: Calendar) -> ir.Table:
    """user_id, origin, next_origin: every day with a row, and the following one."""
    days = place_days(table, calendar, definition.as_of).rename(origin="at")
    return days.mutate(next_origin=days.origin.lead().over(group_by=days.user_id, order_by=days.origin))

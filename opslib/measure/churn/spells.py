"""Silences and spells, in the engine: how long users stayed away, and from when to when they were customers.

A silence is a run of whole days without activity between two active days, or after the last one. A spell runs from an
active day to the next one that a long silence follows. Only counts of them leave the engine.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any

import ibis
import ibis.expr.types as ir
import numpy as np

from opslib.data.periods import DAY, Calendar
from opslib.errors import InputError, suggest_name
from opslib.measure.grains import index_days

EPOCH = dt.date(1970, 1, 1)


def number_day(day: dt.date) -> int:
    """The number of a day, as `place_days` gives it."""
    return (day - EPOCH).days


def to_day(number: Any) -> Any:
    """The date of a day's number."""
    return ibis.literal(EPOCH, "date") + number.cast("int64").as_interval("D")


def need_columns(table: ir.Table, columns: list[str], *, what: str) -> None:
    """Refuse a table that lacks a column.

    Raises:
        InputError: naming the column, a likely meaning, and what there is.
    """
    for column in columns:
        if column not in table.columns:
            known = ", ".join(table.columns)
            raise InputError(
                f"{what} has no column '{column}'.{suggest_name(column, table.columns)} It has: {known}. "
                "Name the column that holds it."
            )


def number_rows(table: ir.Table, calendar: Calendar) -> Any:
    """The number of the local day of each row, from ts (UTC) or day."""
    if "ts" in table.columns:
        return calendar.count_days(table.ts, EPOCH)
    return index_days(table.day, EPOCH, "day")


def place_days(activity: ir.Table, calendar: Calendar, as_of: dt.date) -> ir.Table:
    """One row a user and active local day up to `as_of`: user_id, at (the day's number)."""
    known = keep_known(activity, calendar, as_of)
    return known.select("user_id", at=number_rows(known, calendar)).distinct()


def keep_known(activity: ir.Table, calendar: Calendar, as_of: dt.date) -> ir.Table:
    """Rows of somebody up to the end of `as_of`."""
    need_columns(activity, ["user_id"], what="The activity")
    if "ts" in activity.columns:
        end = ibis.timestamp(calendar.day_start(as_of + DAY))
        return activity.filter(activity.ts < end, activity.user_id.notnull())
    need_columns(activity, ["day"], what="The activity (ts is missing too)")
    return activity.filter(activity.day <= as_of, activity.user_id.notnull())


@dataclass(frozen=True)
class Silences:
    """Silences by their length in days; index 0 is no silence at all.

    Attributes:
        returned: those that ended with the user's return.
        open: those that last until `as_of`.
        squares: sum over users of the square of their silences of at least so many days.
        users: users with a silence of at least so many days.
    """

    returned: np.ndarray
    open: np.ndarray
    squares: np.ndarray
    users: np.ndarray

    @property
    def reached(self) -> np.ndarray:
        """Silences of at least so many days."""
        return _sum_from(self.returned + self.open)


def count_silences(activity: ir.Table, calendar: Calendar, as_of: dt.date) -> Silences:
    """Count silences of a day or more by length.

    A user's silences are ranked from the longest: those of at least d days are then the first n, and n squared is the
    sum of the first n odd numbers. So one pass gives the sum of squares for every d.
    """
    placed = place_days(activity, calendar, as_of)
    following = placed.at.lead().over(group_by=placed.user_id, order_by=placed.at)
    end = number_day(as_of) + 1
    rows = placed.select("user_id", silent=ibis.coalesce(following, end) - placed.at - 1, returned=following.notnull())
    rows = rows.filter(rows.silent >= 1)
    rank = ibis.row_number().over(group_by=rows.user_id, order_by=rows.silent.desc())
    ranked = rows.mutate(rank=rank)
    counted = ranked.group_by("silent", "returned").aggregate(
        silences=lambda t: t.count(),
        squares=lambda t: (2 * t["rank"] + 1).sum(),
        users=lambda t: (t["rank"] == 0).sum(),
    )
    frame = counted.to_pandas()
    length = int(frame["silent"].max()) + 1 if len(frame) else 1
    sums = np.zeros((4, length), dtype=np.int64)
    silent, back = frame["silent"].to_numpy(dtype=int), frame["returned"].to_numpy(dtype=bool)
    np.add.at(sums, (np.where(back, 0, 1), silent), frame["silences"].to_numpy(dtype=np.int64))
    np.add.at(sums[2], silent, frame["squares"].to_numpy(dtype=np.int64))
    np.add.at(sums[3], silent, frame["users"].to_numpy(dtype=np.int64))
    return Silences(sums[0], sums[1], _sum_from(sums[2]), _sum_from(sums[3]))


def find_active_spells(activity: ir.Table, calendar: Calendar, as_of: dt.date, inactive_days: int) -> ir.Table:
    """Cut each user's active days into spells at silences of `inactive_days` or more.

    Returns:
        user_id, start_day, end_day, left, returned; see `opslib.measure.churn.definition.find_spells`.
    """
    placed = place_days(activity, calendar, as_of)
    today = number_day(as_of)
    by_time: dict[str, Any] = {"group_by": placed.user_id, "order_by": placed.at}
    before, following = placed.at.lag().over(**by_time), placed.at.lead().over(**by_time)
    marked = placed.select(
        "user_id",
        "at",
        known=before.notnull(),
        starts=(before.isnull() | (placed.at - before - 1 >= inactive_days)).fill_null(True),
        ends=ibis.coalesce(following, today + 1) - placed.at - 1 >= inactive_days,
    )
    edges = marked.filter(marked.starts | marked.ends)
    along: dict[str, Any] = {"group_by": edges.user_id, "order_by": edges["at"]}
    # Between a start and the end of its spell there is no other edge.
    earlier = {name: edges[name].lag().over(**along) for name in ("at", "known")}
    paired = edges.select(
        "user_id",
        "ends",
        "starts",
        end=edges["at"],
        start=ibis.ifelse(edges.starts, edges["at"], earlier["at"]),
        returned=ibis.ifelse(edges.starts, edges.known, earlier["known"]),
        last=edges["at"].lead().over(**along).isnull(),
    )
    spells = paired.filter(paired.ends | paired["last"])
    end = ibis.ifelse(spells.ends, spells.end, today - inactive_days)
    return spells.select(
        "user_id", start_day=to_day(spells.start), end_day=to_day(end), left=spells.ends, returned=spells.returned
    )


def _sum_from(counts: np.ndarray) -> np.ndarray:
    """Sums from each place to the end."""
    return counts[::-1].cumsum()[::-1]

"""Suspecting dates whose day and month were swapped: what a tool does that reads 04/08/2015 as 4 August if it can.

A true day after the 12th cannot be a month, so such dates are right; of the others the day becomes the month. The dates
up to the 12th then lie all over the year, on the few days of the month that are the numbers of the true months, while
the others make one stretch; swapped back, they fill its gaps.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import ibis
import ibis.expr.types as ir
import numpy as np
import pandas as pd

from opslib.data.settings import ColumnSource
from opslib.language import mark, say

# The last day of a month that can be taken for a month.
LAST_MONTH = 12
# So many days must lie outside the stretch: one or two can do so in any data.
LEAST_OUTSIDE = 6
# So many days after the 12th say where the stretch is.
LEAST_CERTAIN = 5
# Of those outside so many may stay there when swapped back: other errors.
STRAY_SHARE = 0.05
# Swapped back, days up to the 12th are as dense as the others: at least so much.
DENSITY = 0.5
EXAMPLES = 3


@dataclass(frozen=True)
class SwappedDays:
    """Dates that look as if day and month were swapped.

    Attributes:
        count: rows whose date changes when swapped back.
        outside_count: days that lie outside the stretch, as the dates are read.
        first_day, last_day: the stretch, once swapped back.
        filled_rate: its days that have rows.
        examples: dates as read, the farthest outside first.
    """

    count: int
    outside_count: int
    first_day: dt.date
    last_day: dt.date
    filled_rate: float
    examples: tuple[dt.date, ...]


def swap_day(day: dt.date) -> dt.date:
    """Swap day and month, where both can be either.

    >>> swap_day(dt.date(2015, 8, 4)), swap_day(dt.date(2015, 8, 14))
    (datetime.date(2015, 4, 8), datetime.date(2015, 8, 14))
    """
    return dt.date(day.year, day.day, day.month) if day.day <= LAST_MONTH else day


def find_swapped_days(days: Sequence[dt.date], rows: Sequence[int] | None = None) -> SwappedDays | None:
    """Tell whether dates look as if day and month were swapped wherever the day can be a month.

    Args:
        days: every day that occurs.
        rows: how many rows each has; one unless told.

    Returns:
        What was found, or None where nothing speaks for it. Whole years of dates, all swapped, cannot be told by their
        days; nor can dates that all lie before the 13th.

    >>> true = [dt.date(2015, 4, 1) + dt.timedelta(i) for i in range(91)]
    >>> found = find_swapped_days([swap_day(day) for day in true])
    >>> str(found.first_day), str(found.last_day), found.count, found.examples[0]
    ('2015-04-01', '2015-06-30', 33, datetime.date(2015, 12, 6))
    >>> find_swapped_days(true) is None
    True
    """
    number = dict(zip(days, rows if rows is not None else [1] * len(days), strict=True))
    certain = sorted(day for day in number if day.day > LAST_MONTH)
    movers = [day for day in number if day.day <= LAST_MONTH and day.day != day.month]
    if len(certain) < LEAST_CERTAIN or len(movers) < LEAST_OUTSIDE:
        return None
    # A stretch reaches back to the first of its first month, and on to the 12th of the month after its last.
    start, end = find_stretch(certain[0], certain[-1])
    outside = [day for day in movers if not start <= day <= end]
    stray = [day for day in movers if not start <= swap_day(day) <= end]
    if len(outside) < LEAST_OUTSIDE or len(stray) > STRAY_SHARE * len(outside):
        return None
    mended = {day for day in map(swap_day, number) if start <= day <= end}
    first, last = min(mended), max(mended)
    stretch = [d.date() for d in pd.date_range(first, last)]
    early = [day in mended for day in stretch if day.day <= LAST_MONTH]
    late = [day in mended for day in stretch if day.day > LAST_MONTH]
    if np.mean(early) < DENSITY * np.mean(late):
        return None
    count = sum(int(number[day]) for day in movers)
    middle = certain[len(certain) // 2]
    examples = sorted(outside, key=lambda day: (abs(day - middle), day), reverse=True)[:EXAMPLES]
    return SwappedDays(count, len(outside), first, last, len(mended) / len(stretch), tuple(examples))


def look_for_swapped_days(table: ir.Table) -> tuple[SwappedDays, tuple[str, ...]] | None:
    """Look at a table's days (`day`), with what is written for each (`shown`): what was found, and examples of it."""
    table = table.filter(table.day.notnull())
    counts = table.group_by("day").aggregate(rows=table.count(), shown=table.shown.min()).to_pandas()
    days = [pd.Timestamp(day).date() for day in counts["day"]]
    found = find_swapped_days(days, counts["rows"].tolist())
    if found is None:
        return None
    shown = dict(zip(days, counts["shown"], strict=True))
    return found, tuple(
        say("'{written}' is read as {day}", written=str(shown[day])[:60], day=day) for day in found.examples
    )


def say_swapped(found: SwappedDays, table: str, column: str, origin: ColumnSource) -> tuple[str, str]:
    """The warning, in words that follow a number of rows, and what to do."""
    text, remedy, values = word_swapped(found, table, column, origin)
    return say(text, **values), say(remedy, **values)


def word_swapped(
    found: SwappedDays, table: str, column: str, origin: ColumnSource
) -> tuple[str, str, dict[str, str | int]]:
    """The same as texts for `say`, with what they name."""
    text = mark(
        "seem to have day and month swapped: as read, {outside:,} of their days lie outside the stretch of the days "
        "after the 12th; swapped back, all run from {first} to {last}"
    )
    values: dict[str, str | int] = {"outside": found.outside_count, "table": table, "column": column}
    values |= {"first": str(found.first_day), "last": str(found.last_day)}
    if origin.swapped_days:
        return text, mark("Take out swapped_days under [tables.{table}.columns] {column}."), values
    keys = {"column": origin.column, "format": origin.format, "timezone": origin.timezone}
    given = (f"{k} = {json.dumps(v, ensure_ascii=False)}" for k, v in keys.items() if v is not None)
    remedy = mark(
        "No format reads both kinds of rows. If so, export the table again with dates like 2026-06-30, or write "
        "{column} = {{ {settings}, swapped_days = true }} under [tables.{table}.columns]."
    )
    return text, remedy, values | {"settings": ", ".join(given)}


def find_stretch(first: dt.date, last: dt.date) -> tuple[dt.date, dt.date]:
    """The days in which dates up to the 12th belong, when those after it run from `first` to `last`."""
    year, month = divmod(12 * last.year + last.month, 12)
    # 9999-12-31 is how some tools write that there is no end yet.
    end = dt.date(year, month + 1, LAST_MONTH) if year <= dt.MAXYEAR else dt.date.max
    return first.replace(day=1), end


def swap_back(local: Any) -> Any:
    """A time expression with day and month swapped where both can be either; the time of day stays."""
    day = local.date()
    month = ibis.least(day.day(), LAST_MONTH)
    swapped = ibis.date(day.year(), month, day.month())
    moved = (swapped.delta(day, unit="day") * 86_400).as_interval("s")
    return ibis.ifelse(day.day() <= LAST_MONTH, local + moved, local)


def list_bounds(column: str, day: Any) -> dict[str, Any]:
    """Aggregates, one row for a whole table, that tell whether its days are worth a look: see `is_worth_a_look`."""
    late = day.day() > LAST_MONTH
    return {
        f"first_day|{column}": day.min(),
        f"last_day|{column}": day.max(),
        f"first_late|{column}": day.min(where=late),
        f"last_late|{column}": day.max(where=late),
    }


def is_worth_a_look(column: str, found: Any) -> bool:
    """Tell whether some dates up to the 12th lie outside the stretch of those after it."""
    values = [found[f"{name}|{column}"] for name in ("first_day", "last_day", "first_late", "last_late")]
    if any(v is None or pd.isna(v) for v in values):
        return False
    first_day, last_day, first_late, last_late = (pd.Timestamp(v).date() for v in values)
    start, end = find_stretch(first_late, last_late)
    return first_day < start or last_day > end

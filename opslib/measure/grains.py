"""Days, weeks, months and quarters: which period of a grain a day or a time lies in, in the engine and outside."""

from __future__ import annotations

import datetime as dt
from typing import Any, Literal

import ibis

from opslib.data.periods import DAY, Calendar, Period

Grain = Literal["day", "week", "month", "quarter"]

_DAYS = {"day": 1, "week": 7}
_MONTHS = {"month": 1, "quarter": 3}


def index_days(day: Any, start: dt.date, grain: Grain) -> Any:
    """How many periods after the one that starts on `start` a day expression lies; negative before it."""
    if grain in ("day", "week"):
        return day.delta(start, unit="day") // _DAYS[grain]
    return (12 * day.year() + day.month() - (12 * start.year + start.month)) // _MONTHS[grain]


def index_times(ts: Any, start: dt.date, grain: Grain, calendar: Calendar) -> Any:
    """The same for a UTC timestamp, on the company's clock."""
    if grain in ("month", "quarter"):
        return index_days(calendar.local_time(ts), start, grain)
    return calendar.count_days(ts, start, step=_DAYS[grain])


def count_periods(start: dt.date, last: dt.date, grain: Grain) -> int:
    """How many periods after the one that starts on `start` the date `last` lies.

    >>> count_periods(dt.date(2026, 1, 5), dt.date(2026, 1, 12), "week")
    1
    """
    if grain in ("day", "week"):
        return (last - start).days // _DAYS[grain]
    return (12 * (last.year - start.year) + last.month - start.month) // _MONTHS[grain]


def list_starts(span: Period, grain: Grain, week_start: int = 0) -> list[dt.date]:
    """First days of the periods that a span touches, and that of the one after them.

    >>> [str(d) for d in list_starts(Period(dt.date(2026, 1, 5), dt.date(2026, 2, 1), ""), "month")]
    ['2026-01-01', '2026-02-01']
    """
    start = floor_day(span.start, grain, week_start)
    number = count_periods(start, span.last_day, grain) + 1
    if grain in ("day", "week"):
        step = _DAYS[grain]
        return [start + i * step * DAY for i in range(number + 1)]
    step = _MONTHS[grain]
    months = [12 * start.year + start.month - 1 + i * step for i in range(number + 1)]
    return [dt.date(month // 12, month % 12 + 1, 1) for month in months]


def truncate_day(day: Any, grain: Grain, week_start: int = 0) -> Any:
    """The first day of the period that a day expression lies in."""
    if grain == "day":
        return day
    if grain == "week" and week_start:
        shift = ibis.interval(days=week_start)
        return ((day - shift).cast("date").truncate("W") + shift).cast("date")
    return day.truncate({"week": "W", "month": "M", "quarter": "Q"}[grain])


def floor_day(day: dt.date, grain: Grain, week_start: int = 0) -> dt.date:
    """The first day of the period that a date lies in.

    >>> floor_day(dt.date(2026, 6, 30), "week"), floor_day(dt.date(2026, 6, 30), "quarter")
    (datetime.date(2026, 6, 29), datetime.date(2026, 4, 1))
    """
    if grain == "week":
        return day - ((day.weekday() - week_start) % 7) * DAY
    if grain == "month":
        return day.replace(day=1)
    return day.replace(month=3 * ((day.month - 1) // 3) + 1, day=1) if grain == "quarter" else day

"""Days, quarters and the company's clock.

All timestamps are UTC; the playbook's time zone decides on which day something happened. The conversion is written as a
few fixed offsets (`Calendar.local_time`), because converting time zones row by row in the engine is an order slower.
"""

from __future__ import annotations

import datetime as dt
import functools
import re
from dataclasses import dataclass, field
from typing import Any
from zoneinfo import ZoneInfo

import ibis

from opslib.data.engines.capabilities import find_capabilities
from opslib.errors import InputError

DAY = dt.timedelta(days=1)
# 400 years: a whole number of weeks, and no timestamp in anybody's data is so much older than the day counted from.
_LONG_AGO_DAYS = 146_097


@dataclass(frozen=True)
class Period:
    """A stretch of whole days: `start` belongs to it, `end` does not."""

    start: dt.date
    end: dt.date
    label: str

    @property
    def days(self) -> int:
        """Length in days."""
        return (self.end - self.start).days

    @property
    def last_day(self) -> dt.date:
        """The last day that belongs to the period."""
        return self.end - DAY

    def overlaps(self, other: Period) -> bool:
        """Tell whether the two share a day."""
        return self.start < other.end and other.start < self.end

    def clip(self, other: Period) -> Period:
        """Keep the days that lie in `other` too; the label stays."""
        return Period(max(self.start, other.start), max(min(self.end, other.end), self.start), self.label)


@dataclass(frozen=True)
class Quarter:
    """A calendar quarter.

    >>> Quarter.parse("2026Q2").period
    Period(start=datetime.date(2026, 4, 1), end=datetime.date(2026, 7, 1), label='2026Q2')
    >>> str(Quarter.parse("2026Q1").previous)
    '2025Q4'
    """

    year: int
    number: int

    @classmethod
    def parse(cls, text: str) -> Quarter:
        """Read `2026Q2` (also `2026-Q2`, `2026q2`). Raises ValueError on anything else."""
        match = re.fullmatch(r"(\d{4})-?[Qq]([1-4])", text.strip())
        if not match:
            raise ValueError("a quarter is written as year and quarter, for example 2026Q2")
        return cls(int(match[1]), int(match[2]))

    @classmethod
    def of(cls, day: dt.date) -> Quarter:
        """The quarter that a day lies in."""
        return cls(day.year, (day.month - 1) // 3 + 1)

    @property
    def period(self) -> Period:
        """First day to the day after the last."""
        following = self.next
        start = dt.date(self.year, 3 * self.number - 2, 1)
        return Period(start, dt.date(following.year, 3 * following.number - 2, 1), str(self))

    @property
    def next(self) -> Quarter:
        """The quarter after this one."""
        return Quarter(self.year + self.number // 4, self.number % 4 + 1)

    @property
    def previous(self) -> Quarter:
        """The quarter before this one."""
        return Quarter(self.year - (self.number == 1), (self.number - 2) % 4 + 1)

    def __str__(self) -> str:
        return f"{self.year}Q{self.number}"


@dataclass(frozen=True)
class Calendar:
    """The company's clock: which local day a UTC timestamp falls on, and when a week starts.

    `first_at` and `last_at` bound the data (naive UTC): only offset changes between them are written into expressions.
    """

    timezone: str = "UTC"
    week_start: int = 0
    first_at: dt.datetime = dt.datetime(1990, 1, 1)
    last_at: dt.datetime = dt.datetime(2040, 1, 1)
    offsets: tuple[tuple[dt.datetime, dt.timedelta], ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "offsets", find_offsets(self.timezone, self.first_at, self.last_at))

    def local_time(self, ts: Any) -> Any:
        """Turn a UTC timestamp expression into the company's wall-clock time."""
        shifted = [(until, self._shift(ts, offset)) for until, offset in self.offsets]
        if len(shifted) == 1:
            return shifted[0][1]
        *before, (_, last) = shifted
        return ibis.cases(*((ts < ibis.timestamp(until), value) for until, value in before), else_=last)

    def local_day(self, ts: Any) -> Any:
        """Turn a UTC timestamp expression into the company's day."""
        return self.local_time(ts).date()

    def count_days(self, ts: Any, since: dt.date, *, step: int = 1) -> Any:
        """Count the local days, or blocks of `step` days, from the start of a day to each UTC timestamp expression.

        Whole numbers of seconds are divided: engines do so several times faster than they turn times into dates.
        Earlier timestamps count below zero.
        """
        origin = dt.datetime.combine(since - _LONG_AGO_DAYS * DAY, dt.time())
        *before, (_, last) = self.offsets
        seconds = ts.delta(ibis.timestamp(origin - last), unit="second")
        if before:
            shifts = ((ts < ibis.timestamp(until), int((shift - last).total_seconds())) for until, shift in before)
            seconds = seconds + ibis.cases(*shifts, else_=0)
        # Dividing whole numbers rounds towards zero, not down: the origin lies so far back that nothing is below it.
        return divide_whole(seconds, 86_400 * step) - _LONG_AGO_DAYS // step

    def to_utc(self, local: Any) -> Any:
        """Turn a wall-clock timestamp expression into UTC; an hour that occurs twice is taken as the first."""
        *before, (_, last) = self.offsets
        if not before:
            return self._shift(local, -last)
        branches = ((local < ibis.timestamp(until + offset), self._shift(local, -offset)) for until, offset in before)
        return ibis.cases(*branches, else_=self._shift(local, -last))

    def day_start(self, day: dt.date) -> dt.datetime:
        """The UTC moment (naive) at which a local day starts."""
        local = dt.datetime.combine(day, dt.time(), tzinfo=ZoneInfo(self.timezone))
        return local.astimezone(dt.UTC).replace(tzinfo=None)

    def day_of(self, moment: dt.datetime) -> dt.date:
        """The local day of a naive UTC moment."""
        return self.wall_clock(moment).date()

    def wall_clock(self, moment: dt.datetime) -> dt.datetime:
        """The local wall-clock time of a naive UTC moment, naive too."""
        return moment.replace(tzinfo=dt.UTC).astimezone(ZoneInfo(self.timezone)).replace(tzinfo=None)

    @staticmethod
    def _shift(ts: Any, offset: dt.timedelta) -> Any:
        seconds = int(offset.total_seconds())
        return ts + ibis.interval(seconds=seconds) if seconds else ts


def divide_whole(number: Any, by: int) -> Any:
    """Divide a whole-number expression that is not negative, without the remainder."""
    # Ibis writes // as a division of floating-point numbers and a floor, which takes DuckDB twice as long.
    return _divide(number, by) if find_capabilities(number).whole_division else number // by


@ibis.udf.scalar.builtin(name="divide")
def _divide(number: int, by: int) -> int:  # type: ignore[empty-body]
    """DuckDB's own division of whole numbers."""


@functools.cache
def find_offsets(
    timezone: str, first_at: dt.datetime, last_at: dt.datetime
) -> tuple[tuple[dt.datetime, dt.timedelta], ...]:
    """List the zone's UTC offsets in force between two naive UTC moments.

    Returns:
        Pairs (until, offset): the offset holds for moments before `until`; the last pair's `until` is `datetime.max`.

    >>> len(find_offsets("Europe/London", dt.datetime(2011, 1, 1), dt.datetime(2012, 1, 1)))
    3
    """
    zone = ZoneInfo(timezone)

    def offset_at(moment: dt.datetime) -> dt.timedelta:
        return moment.replace(tzinfo=dt.UTC).astimezone(zone).utcoffset() or dt.timedelta()

    pairs: list[tuple[dt.datetime, dt.timedelta]] = []
    moment = first_at - DAY
    current = offset_at(moment)
    while moment <= last_at + DAY:
        following = moment + DAY
        if offset_at(following) != current:
            low, high = moment, following
            while high - low > dt.timedelta(seconds=1):
                middle = low + (high - low) // 2
                low, high = (middle, high) if offset_at(middle) == current else (low, middle)
            until = (low + dt.timedelta(seconds=1)).replace(microsecond=0)
            pairs.append((until, current))
            current = offset_at(following)
        moment = following
    return (*pairs, (dt.datetime.max, current))


def parse_date(text: str, *, name: str) -> dt.date:
    """Read an ISO date; `name` is the parameter or key to name in the message.

    >>> parse_date("2026-02-30", name="as_of")
    Traceback (most recent call last):
    ...
    opslib.errors.InputError: '2026-02-30' for as_of is not a date: write it as 2026-06-30.
    """
    try:
        return dt.date.fromisoformat(text)
    except ValueError:
        raise InputError(f"'{text}' for {name} is not a date: write it as 2026-06-30.") from None

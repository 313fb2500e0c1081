"""What an investigation looks at: the data of a segment, and the days now and before."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import ibis
import ibis.expr.types as ir

from opslib.data.memory import remember
from opslib.data.periods import DAY, Period, Quarter, parse_date
from opslib.data.source import Data
from opslib.errors import InputError, suggest_name
from opslib.language import mark, say
from opslib.measure.grains import Grain

# Thirteen whole weeks: as long as a quarter, and every weekday as often in both periods.
WINDOW_DAYS = 91
WEEK_DAYS = 7
# Attributes with more values than this name users rather than groups of them.
MOST_VALUES = 100


@dataclass(frozen=True)
class Scope:
    """Which data, users and days.

    Attributes:
        data: the company's data.
        segment: one group of users such as `channel:search`; empty: everybody.
        grain: length of a period in growth accounting and tiers.
        now, before: the days compared, equally long; `before` is None where the data do not reach back.
        span: all days up to the last of `now`.
        notes: what a reader must know about the days.
    """

    data: Data
    segment: str
    grain: Grain
    now: Period
    before: Period | None
    span: Period
    notes: tuple[str, ...]

    @property
    def as_of(self) -> dt.date:
        """The last day that is looked at."""
        return self.now.last_day

    @cached_property
    def active_days(self) -> ir.Table:
        """Days of the segment's users up to `as_of`: user_id, day."""
        return _gather_active_days(self.data, self.segment, self.as_of)

    @property
    def attributes(self) -> ir.Table:
        """The segment's users with what is known of them."""
        return self.restrict(self.data.attributes)

    def narrow(self, *, now: bool = True, before: bool = False) -> Scope:
        """The same users up to the same day, without what a stage does not use.

        What `opslib.data.memory.remember` kept of that stage then holds whatever the rest is: the grain and the notes
        always; the days before unless asked for; and the days now, in whose place all days stand, if they are not.
        """
        days = self.now if now else self.span
        return replace(self, grain="week", now=days, before=self.before if before else None, notes=())

    def restrict(self, table: ir.Table) -> ir.Table:
        """Keep the rows of the segment's users."""
        return self.data.restrict(table, self.segment)

    def table(self, name: str) -> ir.Table | None:
        """A table with the segment's rows up to `as_of`, by its column ts; None where the data have none."""
        if not self.data.has(name):
            return None
        table = self.data.table(name)
        known = table.filter(table.ts < ibis.timestamp(self.data.calendar.day_start(self.as_of + DAY)))
        return self.restrict(known)

    @cached_property
    def dimensions(self) -> list[str]:
        """Attributes of users with few enough values to be groups."""
        return _find_dimensions(self.narrow(now=False))

    @property
    def numbers(self) -> list[str]:
        """Attributes of users that are numbers, such as an age."""
        table = self.data.attributes
        return [c for c in table.columns if c != "user_id" and table[c].type().is_numeric()]

    def find_groups(self, table: ir.Table, columns: Sequence[str]) -> list[str]:
        """Those of a table's columns that tell groups apart: several values, but not so many that they name users.

        The column of the segment itself has but one.
        """
        if not columns:
            return []
        counts = self.data.execute(table.aggregate(**{name: table[name].nunique() for name in columns}))
        own = self.segment.partition(":")[0]
        return [name for name in columns if name != own and 1 < int(counts[name].iloc[0]) <= MOST_VALUES]


@remember
def _gather_active_days(data: Data, segment: str, as_of: dt.date) -> ir.Table:
    days = data.restrict(data.active_days, segment)
    days = days if as_of == data.as_of else days.filter(days.day <= as_of)
    # Every stage asks for these; which users are in the segment is looked up once.
    return days.cache() if segment else days


@remember
def _find_dimensions(scope: Scope) -> list[str]:
    return scope.find_groups(scope.data.attributes, scope.data.segment_columns)


def check_breakdown(breakdown: str, columns: Sequence[str]) -> None:
    """Refuse a column to break down by that is not there. An empty text means none.

    Raises:
        InputError: with the columns that there are.
    """
    if breakdown and breakdown not in columns:
        known = f"There are: {', '.join(columns)}." if columns else "These data have none."
        raise InputError(f"breakdown '{breakdown}': no such column.{suggest_name(breakdown, columns)} {known}")


def choose_scope(
    data: Data, *, as_of: str = "", grain: Grain = "week", segment: str = "", compare_to: str = "", days: int = 0
) -> Scope:
    """Choose the days of an investigation.

    Args:
        data: the company's data.
        as_of: the last day, as ISO text; empty: the data's last full day.
        grain: length of a period in growth accounting and tiers.
        segment: one group of users; empty: everybody.
        compare_to: the last day of the days compared with, or a quarter that they end with; empty: the days right
            before.
        days: how many days make a period; 0: 91.

    Returns:
        A `Scope`. It covers the days asked for now and before or, where there are fewer, as many weeks as fit in twice.

    Raises:
        InputError: a day outside the data or no date, periods that overlap, an unknown segment.
    """
    data.check_segment(segment)
    last = parse_date(as_of, name="as_of") if as_of else data.as_of
    first = data.span.start
    _check_inside(last, data, f"as_of {last}")
    span = Period(first, last + DAY, say("all data"))
    wanted = days or WINDOW_DAYS
    days = min(wanted, _round_weeks(span.days // 2))
    notes = []
    if days < wanted:
        notes.append(_say_short(span, wanted=wanted, days=max(days, 1)))
    if not days:
        notes.append(say("One day of data cannot be compared with another."))
        return Scope(data, segment, grain, span, None, span, tuple(notes))
    now = Period(last - (days - 1) * DAY, last + DAY, say("the {days} days to {last}", days=days, last=last))
    end = _read_end(compare_to) if compare_to else now.start - DAY
    _check_inside(end, data, f"compare_to {compare_to or end}")
    if end >= now.start:
        raise InputError(f"compare_to {end} lies in the days looked at ({now.start} to {last}): choose an earlier day.")
    start = end - (days - 1) * DAY
    if start < first:
        raise InputError(
            f"compare_to {end}: the {days} days up to it begin before the data do. Choose a day from "
            f"{first + (days - 1) * DAY} to {now.start - DAY}."
        )
    before = Period(start, end + DAY, say("the {days} days to {last}", days=days, last=end))
    return Scope(data, segment, grain, now, before, span, tuple(notes))


def _say_short(span: Period, *, wanted: int, days: int) -> str:
    """Why fewer days are looked at."""
    text = mark(
        "The data reach back {known} days from {last}, too few to compare {wanted} with as many before: the last "
        "{days} are looked at."
    )
    if span.days == 1:
        text = mark(
            "The data reach back {known} day from {last}, too few to compare {wanted} with as many before: the last "
            "{days} are looked at."
        )
    return say(text, known=span.days, last=span.last_day, wanted=wanted, days=days)


def _read_end(text: str) -> dt.date:
    if "Q" not in text.upper():
        return parse_date(text, name="compare_to")
    try:
        return Quarter.parse(text).period.last_day
    except ValueError as error:
        raise InputError(f"compare_to '{text}': {error}.") from None


def _round_weeks(days: int) -> int:
    return days // WEEK_DAYS * WEEK_DAYS or days


def _check_inside(day: dt.date, data: Data, words: str) -> None:
    if not data.span.start <= day <= data.as_of:
        raise InputError(f"{words} lies outside the data, which run from {data.span.start} to {data.as_of}.")

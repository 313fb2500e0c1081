"""Quarters and days that somebody asks for by name: which dated runs `--quarters 2025Q1:2026Q2` and `--days A:B` are.

A quarter is the run of its last day, so that a run made on that day, by whatever command, is the same one. Only of a
quarter that is not over do the data's last day and the quarter have to be named both: the day alone stands for the
quarter before.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from opslib.data.periods import DAY, Quarter
from opslib.errors import InputError
from opslib.run.report import choose_quarter_on

if TYPE_CHECKING:
    from opslib.data.source import Data

End = TypeVar("End", Quarter, dt.date)


@dataclass(frozen=True)
class Due:
    """A dated run that there is to be.

    Attributes:
        day: the last day that it tells of.
        label: what people call it: a day or a quarter.
        quarter: for notebooks that take one; empty where the day alone says which.
    """

    day: dt.date
    label: str
    quarter: str = ""


def read_quarters(text: str) -> tuple[Quarter, Quarter]:
    """Read the first and the last of some quarters.

    Raises:
        InputError: they cannot be read, or run backwards.

    >>> read_quarters("2025Q4:2026Q2")
    (Quarter(year=2025, number=4), Quarter(year=2026, number=2))
    >>> read_quarters("2026Q2") == read_quarters("2026Q2:2026Q2")
    True
    """
    first, last = _read_ends(text, "--quarters", Quarter.parse, "2026Q2, or 2025Q1:2026Q2 for several")
    if _order(first) > _order(last):
        raise _refuse_backwards("--quarters", first, last)
    return first, last


def read_days(text: str) -> tuple[dt.date, dt.date]:
    """Read the first and the last of some days.

    Raises:
        InputError: they cannot be read, or run backwards.

    >>> [str(day) for day in read_days("2026-01-01:2026-03-31")]
    ['2026-01-01', '2026-03-31']
    """
    form = "ISO dates, 2026-03-31, or 2026-01-01:2026-03-31 for several"
    first, last = _read_ends(text, "--days", dt.date.fromisoformat, form)
    if first > last:
        raise _refuse_backwards("--days", first, last)
    return first, last


def list_quarters(first: Quarter, last: Quarter, data: Data) -> list[Due]:
    """List the runs of quarters, oldest first; one that is not over runs to the last full day of the data.

    Raises:
        InputError: the data have nothing of one of them.
    """
    oldest, newest = Quarter.of(data.span.start), Quarter.of(data.as_of)
    for quarter in (first, last):
        if not _order(oldest) <= _order(quarter) <= _order(newest):
            raise InputError(
                f"--quarters: {quarter} lies outside the data, which run from {data.span.start} to {data.as_of}. "
                f"Choose from {oldest}:{newest}."
            )
    dues = []
    quarter = first
    while _order(quarter) <= _order(last):
        day = min(quarter.period.last_day, data.as_of)
        named = "" if choose_quarter_on(data, day) == quarter else str(quarter)
        dues.append(Due(day, str(quarter), named))
        quarter = quarter.next
    return dues


def list_days(first: dt.date, last: dt.date, data: Data) -> list[Due]:
    """List the runs of days, oldest first.

    Raises:
        InputError: the data do not have one of them whole.
    """
    for day in (first, last):
        if not data.span.start <= day <= data.as_of:
            raise InputError(
                f"--days: {day} lies outside the data, whose full days are {data.span.start}:{data.as_of}. "
                "Choose from these."
            )
    return [Due(day, day.isoformat()) for day in (first + n * DAY for n in range((last - first).days + 1))]


def _read_ends(text: str, option: str, read: Callable[[str], End], form: str) -> tuple[End, End]:
    ends = text.split(":")
    try:
        if len(ends) > 2:
            raise ValueError
        return read(ends[0].strip()), read(ends[-1].strip())
    except ValueError:
        raise InputError(f"{option} cannot be '{text}': write {form}.") from None


def _refuse_backwards(option: str, first: object, last: object) -> InputError:
    return InputError(f"{option} {first}:{last} runs backwards: write the earlier one first, {last}:{first}.")


def _order(quarter: Quarter) -> tuple[int, int]:
    return quarter.year, quarter.number

"""Counting for `measure_cohorts`, in the engine: who started in which interval, and in which intervals they came back.

Only counts by cohort and interval come back. Times become numbers of intervals first, because engines group and
compare integers several times faster than dates.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import ibis
import ibis.expr.types as ir
import numpy as np
import pandas as pd

from opslib.data.engines.capabilities import find_capabilities
from opslib.data.periods import DAY, Calendar
from opslib.measure.activity import label_segments
from opslib.measure.grains import Grain, count_periods, floor_day, index_days, index_times

CohortGrain = Literal["hour", "24h", "day", "week", "month", "quarter"]
Kind = Literal["on", "on_or_after", "bracket"]
Belonging = Literal["first", "recurring"]

HOUR_SECONDS = 3600
DAY_SECONDS = 24 * HOUR_SECONDS
_UNIX = dt.datetime(1970, 1, 1)

# Intervals in one number of 64 bits; a power of two, so that shifts and masks do for divisions, and room for the sign.
WORD_BITS = 32
_SHIFT = 5
_WORD_SIZE = 1 << WORD_BITS
_HIGHEST = 1 << (WORD_BITS - 1)
_HALF = WORD_BITS // 2
_HALF_MASK = (1 << _HALF) - 1
_BOTH = 1 | 1 << 32


@dataclass(frozen=True)
class Clock:
    """Which interval a moment lies in, as a number: 0 is the interval of 1 January 1970.

    Attributes:
        grain: length of an interval; "24h" counts days for the start, and 24 hours from there for returns.
        calendar: the company's clock, with its first day of the week.
        as_of: the last day that is fully known.
    """

    grain: CohortGrain
    calendar: Calendar
    as_of: dt.date

    @property
    def days(self) -> Grain:
        """The calendar's grain in which cohorts are named."""
        return "day" if self.grain == "hour" or self.grain == "24h" else self.grain

    @cached_property
    def origin(self) -> dt.date:
        """First day of interval 0."""
        return floor_day(_UNIX.date(), self.days, self.calendar.week_start)

    def keep_known(self, table: ir.Table) -> ir.Table:
        """Rows up to the end of `as_of`."""
        if "ts" in table.columns:
            return table.filter(table.ts < ibis.timestamp(self.calendar.day_start(self.as_of + DAY)))
        if self.grain in ("hour", "24h"):
            raise ValueError(f"grain {self.grain} needs moments: a table with the column ts")
        return table.filter(table.day <= self.as_of)

    def place(self, table: ir.Table) -> Any:
        """The number of the interval that each row lies in."""
        return (
            index_days(table.day, self.origin, self.days) if "ts" not in table.columns else self.place_moment(table.ts)
        )

    def place_moment(self, ts: Any) -> Any:
        """The same for a UTC timestamp."""
        if self.grain == "hour":
            return ts.epoch_seconds() // HOUR_SECONDS
        return index_times(ts, self.origin, self.days, self.calendar)

    def start_of(self, number: int) -> dt.datetime:
        """The local time at which an interval starts."""
        if self.grain == "hour":
            return self.calendar.wall_clock(_UNIX + number * dt.timedelta(hours=1))
        if self.days in ("day", "week"):
            return dt.datetime.combine(self.origin, dt.time()) + number * (7 if self.days == "week" else 1) * DAY
        months = 12 * self.origin.year + self.origin.month - 1 + number * (3 if self.days == "quarter" else 1)
        return dt.datetime(months // 12, months % 12 + 1, 1)

    def first_from(self, day: dt.date) -> int:
        """The first interval that starts on or after a day."""
        if self.grain == "hour":
            return -int((_UNIX - self.calendar.day_start(day)).total_seconds() // HOUR_SECONDS)
        number = count_periods(self.origin, floor_day(day, self.days, self.calendar.week_start), self.days)
        return number + (self.start_of(number).date() < day)

    @property
    def last_over(self) -> int:
        """The last interval that is over at the end of `as_of`; of rolling 24 hours, for everybody of the cohort."""
        following = self.first_from(self.as_of + DAY)
        at_midnight = self.start_of(following) == dt.datetime.combine(self.as_of + DAY, dt.time())
        return following - 1 if at_midnight and self.grain != "24h" else following - 2


@dataclass(frozen=True)
class Question:
    """What is counted.

    Attributes:
        clock: how time is cut into intervals.
        cohorts: the intervals that may be cohorts, the second not included.
        reach: the last interval after the start that is of interest.
        kind, belonging, brackets, minimum: see `measure_cohorts`.
        attributes, by: a table with one row a user, and its column that says who is in which segment.
    """

    clock: Clock
    cohorts: tuple[int, int]
    reach: int
    kind: Kind
    belonging: Belonging
    brackets: tuple[tuple[int, int], ...]
    minimum: int
    attributes: ir.Table | None
    by: str

    @property
    def keys(self) -> list[str]:
        """The column of segments, if there is one."""
        return ["segment"] if self.by else []


@dataclass(frozen=True)
class Counts:
    """What the engine sends back.

    Attributes:
        sizes: (segment), cohort, users.
        slots: (segment), cohort, slot, users who came back. A slot is the number of intervals since the cohort's or,
            of brackets, the number of the bracket; slots without users are absent.
        clustering: segment (empty without) -> the design effect of users who are in several cohorts; empty where nobody
            is.
    """

    sizes: pd.DataFrame
    slots: pd.DataFrame
    clustering: dict[str, float]


def count_cohorts(starts: ir.Table, returns: ir.Table | None, question: Question) -> Counts:
    """Count users by cohort, and those who came back by cohort and slot.

    Args:
        starts, returns: user_id with ts (UTC) or day; without returns the starts are the returns too.
        question: what is counted.
    """
    clock = question.clock
    same = returns is None and question.minimum == 1
    known = clock.keep_known(starts)
    came = known if returns is None else clock.keep_known(returns)
    if question.kind == "on" and question.belonging == "first" and clock.grain != "24h" and _packs(came, question):
        words = _pack_words(came, clock)
        began = _label(_find_first_packed(words) if same else _find_first(_place(known, clock)), question)
        slots = _count_words(words, began, question)
    else:
        began = _label(_find_starts(known, question), question)
        if question.belonging == "recurring":
            began = began.cache()
        pairs = _pair_moments(came, began, question) if clock.grain == "24h" else _pair_intervals(came, began, question)
        slots = _count_slots(pairs, question)
    if same and question.kind != "bracket":
        sizes = slots[slots["slot"] == 0].drop(columns="slot")
    else:
        sizes = began.group_by(*question.keys, cohort="start").aggregate(users=lambda t: t.count()).to_pandas()
    return Counts(sizes, slots, _measure_clustering(began, question))


def _packs(came: ir.Table, question: Question) -> bool:
    return question.minimum == 1 and find_capabilities(came).bit_masks


def _place(table: ir.Table, clock: Clock) -> ir.Table:
    return table.select("user_id", at=clock.place(table))


def _find_first(placed: ir.Table) -> ir.Table:
    return placed.group_by("user_id").aggregate(start=placed.at.min())


def _find_starts(known: ir.Table, question: Question) -> ir.Table:
    """user_id, start; for rolling 24 hours also the moment."""
    clock = question.clock
    if clock.grain == "24h":
        moments = known.group_by("user_id").aggregate(moment=known.ts.min())
        return moments.mutate(start=clock.place_moment(moments.moment))
    placed = _place(known, clock)
    return _find_first(placed) if question.belonging == "first" else placed.rename(start="at").distinct()


def _label(began: ir.Table, question: Question) -> ir.Table:
    """Keep the cohorts that are asked for, and say in which segment each user is."""
    low, high = question.cohorts
    began = began.filter((began.start >= low) & (began.start < high))
    if question.attributes is None:
        return began
    users = began.group_by("user_id").aggregate(day=began.start.min())
    labels = label_segments(users, question.attributes, question.by).select("user_id", "segment")
    return began.inner_join(labels, "user_id")


def _pack_words(came: ir.Table, clock: Clock) -> ir.Table:
    """user_id, word, bits (one an interval, the earliest highest).

    What the engine keeps of a user is a number for 32 intervals, not a row for each: fewer rows, and less memory.
    """
    placed = _place(came, clock)
    bit = ibis.literal(_HIGHEST, "int64") >> (placed.at & (WORD_BITS - 1)).cast("int32")
    packed = placed.select("user_id", word=placed.at >> _SHIFT, bit=bit)
    return packed.group_by("user_id", "word").aggregate(bits=packed.bit.bit_or())


def _find_first_packed(words: ir.Table) -> ir.Table:
    """user_id, start: the highest bit of each user's first word."""
    # The earlier the word and, within it, the higher the bits, the smaller the number.
    first = (words.word * _WORD_SIZE + (_WORD_SIZE - 1 - words.bits)).min()
    found = words.group_by("user_id").aggregate(first=first)
    bits = (_WORD_SIZE - 1) - (found["first"] & (_WORD_SIZE - 1))
    highest = bits.cast("float64").log2().floor().cast("int64")
    return found.select("user_id", start=(found["first"] >> WORD_BITS) * WORD_BITS + (WORD_BITS - 1) - highest)


def _count_words(words: ir.Table, began: ir.Table, question: Question) -> pd.DataFrame:
    joined = began.inner_join(words, "user_id")
    near = joined.filter(
        (joined.word >= joined.start >> _SHIFT) & (joined.word <= (joined.start + question.reach) >> _SHIFT)
    )
    # Two counters in one sum: each half of the bits has 32 bits to count in.
    halves = near.select(*question.keys, "start", "word", bits=(near.bits & _HALF_MASK) | (near.bits >> _HALF << 32))
    names = [f"users{i}" for i in range(_HALF)]
    sums = {name: ((halves.bits >> i) & _BOTH).sum() for i, name in enumerate(names)}
    found = halves.group_by(*question.keys, "start", "word").aggregate(**sums).to_pandas()
    packed = found[names].to_numpy(dtype=np.int64)
    users = np.hstack([packed & 0xFFFFFFFF, packed >> 32])[:, ::-1]
    row, bit = np.nonzero(users)
    frame = found[[*question.keys, "start"]].iloc[row].rename(columns={"start": "cohort"}).reset_index(drop=True)
    frame["slot"] = found["word"].to_numpy()[row] * WORD_BITS + bit - frame["cohort"].to_numpy()
    frame["users"] = users[row, bit]
    return frame[frame["slot"].between(0, question.reach)].reset_index(drop=True)


def _pair_intervals(came: ir.Table, began: ir.Table, question: Question) -> ir.Table:
    """user_id, (segment), start, n: each start with each later interval in which the user came back."""
    placed = _place(came, question.clock)
    active = _keep_frequent(placed, ["user_id", "at"], question.minimum)
    if question.kind == "on_or_after":
        active = active.group_by("user_id").aggregate(at=active["at"].max())
        return _subtract(began.inner_join(active, "user_id"))
    if question.belonging == "first":
        return _reach(_subtract(began.inner_join(active, "user_id")), question)
    # A user's starts meet only returns that can lie within reach: those of the same block of intervals or the next.
    length = question.reach + 1
    starts = began.mutate(block=began.start // length)
    block = active["at"] // length
    near = active.mutate(block=block).union(active.mutate(block=block - 1))
    return _reach(_subtract(starts.inner_join(near, ["user_id", "block"])), question)


def _pair_moments(came: ir.Table, began: ir.Table, question: Question) -> ir.Table:
    """The same where n counts whole days of 24 hours from the user's first start."""
    joined = came.select("user_id", "ts").inner_join(began, "user_id")
    later = joined.filter(joined.ts >= joined.moment)
    elapsed = later.ts.delta(later.moment, unit="microsecond")
    pairs = later.select("user_id", *question.keys, "start", n=elapsed // (DAY_SECONDS * 1_000_000))
    pairs = _keep_frequent(pairs, pairs.columns, question.minimum)
    if question.kind == "on_or_after":
        return pairs.group_by("user_id", *question.keys, "start").aggregate(n=pairs.n.max())
    return _reach(pairs, question)


def _keep_frequent(rows: ir.Table, columns: Sequence[str], minimum: int) -> ir.Table:
    """One row for each combination that occurs often enough."""
    if minimum == 1:
        return rows.distinct()
    times = rows.group_by(*columns).aggregate(times=lambda t: t.count())
    return times.filter(times.times >= minimum).drop("times")


def _subtract(joined: ir.Table) -> ir.Table:
    pairs = joined.mutate(n=joined["at"] - joined.start)
    return pairs.filter(pairs.n >= 0)


def _reach(pairs: ir.Table, question: Question) -> ir.Table:
    return pairs.filter(pairs.n <= question.reach)


def _count_slots(pairs: ir.Table, question: Question) -> pd.DataFrame:
    slot: Any = pairs.n
    if question.kind == "bracket":
        inside = [(pairs.n.between(first, last), i) for i, (first, last) in enumerate(question.brackets)]
        slot = ibis.cases(*inside, else_=None)
    elif question.kind == "on_or_after":
        slot = ibis.least(pairs.n, question.reach)
    placed = pairs.select("user_id", *question.keys, cohort=pairs.start, slot=slot)
    if question.kind == "bracket":
        placed = placed.filter(placed.slot.notnull()).distinct()
    found = placed.group_by(*question.keys, "cohort", "slot").aggregate(users=lambda t: t.count()).to_pandas()
    if question.kind != "on_or_after" or found.empty:
        return found
    # Whoever was last seen in interval k has come back on or after every interval up to it.
    wide = found.pivot_table(
        index=[*question.keys, "cohort"], columns="slot", values="users", aggfunc="sum", fill_value=0
    )
    wide = wide.reindex(columns=range(question.reach + 1), fill_value=0).iloc[:, ::-1].cumsum(axis=1)
    return wide.stack().rename("users").reset_index()


def _measure_clustering(began: ir.Table, question: Question) -> dict[str, float]:
    """Sum of squares over sum of each user's cohorts: the design effect if a user came back always or never."""
    if question.belonging == "first":
        return {}
    per_user = began.group_by("user_id", *question.keys).aggregate(times=lambda t: t.count())
    squares = (per_user.times * per_user.times).sum()
    sums = per_user.group_by(*question.keys) if question.keys else per_user
    found = sums.aggregate(total=per_user.times.sum(), squares=squares).to_pandas()
    ratios = (found["squares"] / found["total"]).fillna(1.0)
    return dict(zip(found["segment"] if question.keys else [""], ratios, strict=True))

"""The steps of a funnel, and the narrow table of the events that can fill them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import ibis
import ibis.expr.types as ir

from opslib.data.periods import DAY, Calendar, Period
from opslib.errors import InputError, suggest_name

Order = Literal["ordered", "strict", "any"]
Reentry = Literal["every", "first", "after"]
FunnelUnit = Literal["users", "attempts", "sessions"]
Where = Mapping[str, Any] | Callable[[ir.Table], Any]

MICROSECOND = dt.timedelta(microseconds=1)
# Events of one moment are told apart by a number below this; microseconds since 1970 times this fit 64 bits till 2200.
TIES = 1024
MOST_STEPS = 20
_UNIX = dt.datetime(1970, 1, 1)


@dataclass(frozen=True)
class Step:
    """One step of a funnel.

    Attributes:
        event: the event's name; None: any event.
        where: column -> value (or values) that the event must have, or a function from the events to a condition.
        at_least, at_most: limits of the time since the step before, both inclusive.
        name: what to call it; by default the event's name.
        known: the event is known to exist, so that having none here is no misspelling.
    """

    event: str | None
    where: Where | None = None
    at_least: dt.timedelta | None = None
    at_most: dt.timedelta | None = None
    name: str = ""
    known: bool = False

    @property
    def label(self) -> str:
        """What to call the step."""
        return self.name or self.event or "any event"


@dataclass(frozen=True)
class Exclusion:
    """An event that spoils an attempt when it happens between two steps of it.

    Attributes:
        event, where: which events, as in `Step`.
        after, before: numbers of the two steps, from 1; by default the first and the last. An attempt that never gets
            to `before` is spoiled until its window ends. An event at the very moment of either step spoils nothing.
        known: as in `Step`.
    """

    event: str | None
    where: Where | None = None
    after: int = 1
    before: int | None = None
    known: bool = False


@dataclass(frozen=True)
class Funnel:
    """A funnel, checked: what `trace_attempts` follows.

    Attributes:
        steps, exclusions, window, period, as_of, calendar, order, reentry: see `measure_funnel`.
        keys: the columns whose values an attempt's events share, user_id first.
        values: columns that are carried along for breakdowns.
    """

    steps: tuple[Step, ...]
    exclusions: tuple[Exclusion, ...]
    window: dt.timedelta
    period: Period
    as_of: dt.date
    calendar: Calendar
    order: Order
    reentry: Reentry
    keys: tuple[str, ...]
    values: tuple[str, ...]

    @property
    def scale(self) -> int:
        """Keys in a microsecond: several where one event could fill more than one step."""
        return TIES if self.order == "strict" or self.shared_steps else 1

    @property
    def shared_steps(self) -> list[tuple[int, int]]:
        """Pairs of steps, from 0, that one event might fill both."""
        pairs = [(i, j) for j in range(len(self.steps)) for i in range(j)]
        return [(i, j) for i, j in pairs if _may_share(self.steps[i], self.steps[j])]

    @property
    def end_key(self) -> int:
        """The key at which the period ends."""
        return self.to_key(self.calendar.day_start(self.period.end))

    @property
    def known_until(self) -> dt.datetime:
        """The moment (naive UTC) at which what is known ends."""
        return self.calendar.day_start(self.as_of + DAY)

    @property
    def near_until(self) -> dt.datetime:
        """The moment (naive UTC) from which on no event can matter."""
        return min(self.calendar.day_start(self.period.end) + self.window + MICROSECOND, self.known_until)

    @property
    def mature_key(self) -> int:
        """Entries before this key have had their whole window."""
        return self.to_key(self.known_until) - self.length(self.window)

    def to_key(self, moment: dt.datetime) -> int:
        """The first key of a moment."""
        return self.length(moment - _UNIX)

    def length(self, span: dt.timedelta) -> int:
        """A span of time in keys."""
        return (span // MICROSECOND) * self.scale

    def floor(self, key: Any) -> Any:
        """The first key of a key's moment."""
        return key if self.scale == 1 else key // self.scale * self.scale


def _may_share(one: Step, other: Step) -> bool:
    return one.event is None or other.event is None or one.event == other.event


def make_steps(steps: Sequence[str | Step], exclusions: Sequence[str | Exclusion]) -> tuple[Any, Any]:
    """Steps and exclusions from names or objects, checked.

    Raises:
        InputError: too few or too many steps, or limits and numbers that make no sense.
    """
    made = tuple(s if isinstance(s, Step) else Step(s) for s in steps)
    out = tuple(e if isinstance(e, Exclusion) else Exclusion(e) for e in exclusions)
    if not 1 <= len(made) <= MOST_STEPS:
        raise InputError(f"A funnel has 1 to {MOST_STEPS} steps; this one has {len(made)}.")
    for i, step in enumerate(made, 1):
        low, high = step.at_least or 0 * DAY, step.at_most
        if low < 0 * DAY or (high is not None and high < low):
            raise InputError(f"Step {i} ({step.label}): the limits must satisfy 0 <= at_least <= at_most.")
        if i == 1 and (step.at_least or step.at_most):
            raise InputError(f"Step 1 ({step.label}) has no step before it: leave at_least and at_most out.")
    for e in out:
        last = len(made) if e.before is None else e.before
        if not 1 <= e.after < last <= len(made):
            raise InputError(
                f"Exclusion '{e.event}': after and before are numbers of two steps in order, from 1 to {len(made)}; "
                f"given are {e.after} and {last}."
            )
    return made, out


def pick_near(events: ir.Table, funnel: Funnel) -> ir.Table:
    """The events in reach of the period that have all of the funnel's keys."""
    start = funnel.calendar.day_start(funnel.period.start)
    near = events.filter(events.ts >= ibis.timestamp(start), events.ts < ibis.timestamp(funnel.near_until))
    return near.filter(*(near[k].notnull() for k in funnel.keys))


def pick_rows(events: ir.Table, funnel: Funnel) -> ir.Table:
    """The events that matter: the funnel's keys, key (time and place in its moment), mask, and the carried values.

    The mask has a bit for each step that the event can fill, lowest first, then one for each exclusion.
    """
    wanted: list[Step | Exclusion] = [*funnel.steps, *funnel.exclusions]
    near = pick_near(events, funnel)
    if funnel.order != "strict" and all(w.event is not None for w in wanted):
        near = near.filter(near.event.isin(sorted({w.event for w in wanted if w.event is not None})))
    moment = near.ts.delta(ibis.timestamp(_UNIX), unit="microsecond").cast("int64")
    columns = {name: near[name] for name in (*funnel.keys, *funnel.values)}
    rows = near.select(**columns, key=moment, mask=make_mask(near, wanted))
    if funnel.order != "strict" and any(w.where is not None or w.event is None for w in wanted):
        rows = rows.filter(rows["mask"] > 0)
    return _number_ties(rows, funnel) if funnel.scale > 1 else rows


def make_mask(events: ir.Table, wanted: Sequence[Step | Exclusion]) -> Any:
    """Which steps an event can fill, and which exclusions it is, as bits."""
    names = [w.event for w in wanted]
    if all(w.where is None and w.event is not None for w in wanted):
        bits: dict[str | None, int] = {}
        for i, name in enumerate(names):
            bits[name] = bits.get(name, 0) | 1 << i
        # A comparison each, so that the engine can compare the few names of a dictionary once.
        return ibis.cases(*((events.event == name, bit) for name, bit in bits.items()), else_=0).cast("int32")
    mask: Any = ibis.literal(0, "int64")
    for i, one in enumerate(wanted):
        mask = mask + ibis.cases((match_step(events, one), 1 << i), else_=0).cast("int64")
    return mask


def match_step(events: ir.Table, one: Step | Exclusion) -> Any:
    parts = [] if one.event is None else [events.event == one.event]
    if callable(one.where):
        parts.append(one.where(events))
    for column, value in (one.where or {}).items() if not callable(one.where) else ():
        if column not in events.columns:
            raise InputError(
                f"'{one.event}': the events have no column '{column}'.{suggest_name(column, events.columns)}"
            )
        several = isinstance(value, list | tuple | set | frozenset)
        parts.append(events[column].isin(list(value)) if several else events[column] == value)
    return ibis.and_(*parts).fill_null(False) if parts else ibis.literal(True)


def _number_ties(rows: ir.Table, funnel: Funnel) -> ir.Table:
    """Tell events of one moment apart: those for earlier steps first, those for none last."""
    bits = (1 << len(funnel.steps)) - 1
    own = rows["mask"] & bits
    rows = rows.mutate(_last=(own == 0).cast("int8"), _low=own & -own, _own=own)
    if funnel.order != "strict":
        # More of a kind than there are steps can never be used.
        kind = ibis.row_number().over(group_by=[*funnel.keys, "key", "mask"], order_by=list(funnel.values))
        rows = rows.mutate(_kind=kind)
        rows = rows.filter(rows._kind <= len(funnel.steps)).drop("_kind")
    place = ibis.row_number().over(group_by=[*funnel.keys, "key"], order_by=["_last", "_low", "_own", *funnel.values])
    rows = rows.mutate(_place=place)
    key = rows.key * TIES + ibis.least(rows._place, TIES - 1)
    return rows.mutate(key=key.cast("int64")).drop("_last", "_low", "_own", "_place")


def check_names(events: ir.Table, masks: Sequence[tuple[int, int]], funnel: Funnel) -> tuple[list[int], set[int]]:
    """Count each step's events, and refuse names that the data have never had.

    Args:
        events: all events.
        masks: the masks of the events that matter (see `pick_rows`) and how many have each.
        funnel: the funnel.

    Returns:
        The number of events for each step in reach of the period, and the steps, from 0, without any.

    Raises:
        InputError: an event name that is nowhere in the data, with the nearest one; or events that two different steps
            of a funnel in any order could both claim.
    """
    wanted: list[Step | Exclusion] = [*funnel.steps, *funnel.exclusions]
    counts = [sum(n for mask, n in masks if mask >> i & 1) for i in range(len(wanted))]
    unseen = {w.event for w, n in zip(wanted, counts, strict=True) if n == 0 and w.event and not w.known}
    if unseen:
        known = events.select("event").distinct().to_pandas()["event"].dropna().astype(str).tolist()
        for name in sorted(unseen - set(known)):
            shown = ", ".join(sorted(known)[:12])
            raise InputError(
                f"No event is called '{name}'.{suggest_name(name, known)} Events: {shown or 'none at all'}."
            )
    if funnel.order == "any":
        for i, j in funnel.shared_steps:
            if _same(funnel.steps[i], funnel.steps[j]):
                continue
            if any(mask >> i & 1 and mask >> j & 1 for mask, _ in masks):
                raise InputError(
                    f"Steps {i + 1} and {j + 1} both match some events, and in any order it would be open which of "
                    "them those fill. Make their filters exclude each other."
                )
    return counts[: len(funnel.steps)], {i for i in range(len(funnel.steps)) if counts[i] == 0}


def _same(one: Step, other: Step) -> bool:
    return one.event == other.event and one.where == other.where


def count_same_before(funnel: Funnel, index: int) -> int:
    """How many earlier steps ask for the same events."""
    return sum(_same(funnel.steps[i], funnel.steps[index]) for i in range(index))


def make_funnel(
    events: ir.Table,
    steps: Sequence[str | Step],
    *,
    period: Period,
    as_of: dt.date,
    window: dt.timedelta,
    calendar: Calendar | None = None,
    order: Order = "ordered",
    exclusions: Sequence[str | Exclusion] = (),
    hold: str = "",
    reentry: Reentry = "every",
    session: str = "",
    value: str = "",
) -> Funnel:
    """A checked funnel; `session` and `value` are columns to keep apart and carry along, else as `measure_funnel`.

    Raises:
        InputError: an unknown column or option, or options that do not go together.
    """
    made, out = make_steps(steps, exclusions)
    if window <= dt.timedelta():
        raise InputError("The funnel's window must be longer than nothing.")
    choices = (("order", order, ("ordered", "strict", "any")), ("reentry", reentry, ("every", "first", "after")))
    for name, given, known in choices:
        if given not in known:
            raise InputError(f"'{given}' for {name}:{suggest_name(given, known)} Choose from {', '.join(known)}.")
    keys = list(dict.fromkeys(["user_id", *([hold] if hold else []), *([session] if session else [])]))
    values = [value] if value and value not in keys else []
    for column in (*keys, *values, "ts", "event"):
        if column not in events.columns:
            raise InputError(f"The events have no column '{column}'.{suggest_name(column, events.columns)}")
    if order == "any" and any(s.at_least or s.at_most for s in made):
        raise InputError("In any order no step is before another: leave at_least and at_most out, or choose ordered.")
    return Funnel(made, out, window, period, as_of, calendar or Calendar(), order, reentry, tuple(keys), tuple(values))

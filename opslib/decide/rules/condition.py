"""What a rule asks, on arrays: one row a period, one column a world. The real series is one world, noise is many."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from opslib.data.operations import RuleSettings

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]
Kind = Literal["level", "trend", "change", "unusual"]

# Of the periods that a change is compared with, at least this share must be known.
_LEAST_KNOWN = 0.5
# Periods in a row may have gaps, but must lie within so many times their number.
_STRETCH = 2
# Shares such as 0.8 of 100 are not exact in binary; a change of exactly the size asked for counts.
_TINY = 1e-9
PER_YEAR = {"day": 365.25, "week": 365.25 / 7, "month": 12.0}
# A year of whole weeks, so that weekdays meet.
YEAR = {"day": 364, "week": 52, "month": 12}


@dataclass(frozen=True)
class Condition:
    """A rule's condition in numbers.

    Attributes:
        kind: level (value against threshold), trend (steps in a row), change (against earlier periods), unusual.
        direction: -1: fires on less, 1: on more, 0: on both (unusual).
        threshold: of a level its bound; of a change its size; of a trend the least total change (verbatim: 0).
        margin: of a level, how many standard errors past the threshold a value must lie (verbatim: 0).
        lasting: what the verbatim condition asks for; an episode of the calibrated one lasts as long as that holds.
        times, window: so many of the last so many known periods (of a trend: steps).
        lags: of a change, which periods before are compared with.
        clears_at: having fired, it lasts until the value is back at this.
        cooldown_days: for so many days after firing it does not fire again.
    """

    kind: Kind
    direction: int
    threshold: float
    times: int
    window: int
    lags: tuple[int, ...] = ()
    clears_at: float | None = None
    cooldown_days: int = 0
    margin: float = 0.0
    lasting: float | None = None

    @property
    def size(self) -> float:
        """What is asked for, in what `tighten` counts in."""
        return self.margin if self.kind == "level" else self.threshold

    @property
    def reach(self) -> int:
        """How many periods before the judged one it looks back, at most."""
        return _STRETCH * self.window + max(self.lags, default=0) + (self.kind == "trend")

    def tighten(self, size: float) -> Condition:
        """The same, asking for more: a margin in standard errors for levels, a size of change for the rest."""
        own = self.size if self.lasting is None else self.lasting
        if self.kind == "level":
            return replace(self, margin=size, lasting=own)
        return replace(self, threshold=size, lasting=own)


@dataclass(frozen=True)
class Worlds:
    """Values of a series, real or made up.

    Attributes:
        value: one row a period of the grid, one column a world; what stands at periods not judged does not matter.
        judged: which periods can be judged.
        days: day number at whose end each period was known.
        weight: what each period counts in a pooled mean (users, days).
        scale: standard error of each period's value, were the truth at the threshold.
        flags: of unusual, whether each value is outside its range.
    """

    value: Floats
    judged: Flags
    days: Ints
    weight: Floats
    scale: Floats
    flags: Flags | None = None


@dataclass(frozen=True)
class Course:
    """What a rule did over time; rows as in `Worlds`.

    Attributes:
        holds: the condition holds.
        decided: whether it holds can be told.
        fired: it fired here.
        on: an episode lasts here.
        cooling: it holds, but too soon after firing.
        base: the single period (or step) is past the threshold.
        base_judged: whether that can be told.
    """

    holds: Flags
    decided: Flags
    fired: Flags
    on: Flags
    cooling: Flags
    base: Flags
    base_judged: Flags


def make_condition(rule: RuleSettings, target: float | None) -> Condition | None:
    """Put a rule into numbers; None when it asks for a target that there is none of."""
    given = getattr(rule, rule.condition)
    direction = -1 if rule.condition in ("below", "falling", "drops_by") or given == "low" else 1
    kind: Kind = "unusual"
    threshold = 0.0
    lags: tuple[int, ...] = ()
    times, window = rule.times, max(rule.of, rule.times)
    if rule.condition in ("below", "above"):
        bound = target if given == "target" else given
        if bound is None:
            return None
        kind, threshold = "level", float(bound)
    elif rule.condition in ("rising", "falling"):
        kind, times, window = "trend", int(given), int(given)
    elif rule.condition != "unusual":
        kind, threshold, lags = "change", float(given), list_lags(rule)
    elif given == "both":
        direction = 0
    return Condition(
        kind, direction, threshold, times, window, lags, clears_at=rule.clears_at, cooldown_days=rule.cooldown_days
    )


def list_lags(rule: RuleSettings) -> tuple[int, ...]:
    """How many periods back the values lie that a change is compared with."""
    if rule.against == "last_year":
        return (YEAR[rule.grain],)
    # Days are compared with the same weekday: a Sunday with Sundays.
    step = 7 if rule.grain == "day" else 1
    return tuple(step * n for n in range(1, rule.compare_periods + 1))


@dataclass(frozen=True)
class Readings:
    """How far past the rule's own threshold each value lies, in what `tighten` counts in, and where that can be told.

    Of levels in standard errors, of changes as a share, of trends a flag for each step and the whole run's change as a
    share, of unusual a flag. `ends` is where an episode would end, by judged row.
    """

    size: Floats
    judged: Flags
    run: Floats | None = None
    ends: Flags | None = None


def follow_course(
    condition: Condition, worlds: Worlds, *, start: int = 0, readings: Readings | None = None, brief: bool = False
) -> Course:
    """Follow a rule over time in every world.

    Args:
        condition: what it asks.
        worlds: the values.
        start: the first row at which it may fire; rows before are history to look back at.
        readings: of the same worlds, where they have been taken already, at whatever tightness.
        brief: only `fired` is wanted; `on` and `cooling` may be left empty.

    Returns:
        A `Course`. Periods that cannot be judged neither satisfy nor break a run: the last `window` judged ones
        count, if they lie within twice as many periods. Where too few are known and the missing ones would decide,
        nothing is decided and an episode lasts on.
    """
    readings = readings or take_readings(condition, worlds)
    rows, columns = readings.size.shape
    at = np.flatnonzero(readings.judged)
    base, met, sure = _count_periods(condition, readings, condition.size)
    holds, decided, fired, on, cooling = (np.zeros((rows, columns), bool) for _ in range(5))
    holds[at], decided[at] = met, sure
    ends = find_ends(condition, worlds, readings) if readings.ends is None else readings.ends
    late = at >= start
    at, met, ends = at[late], met[late], ends[late] & ~met[late]
    if condition.cooldown_days == 0:
        # Where an episode lasts as long as the condition, there is nothing to remember.
        plain = condition.clears_at is None and condition.window == 1 and condition.lasting in (None, condition.size)
        on[at] = now = met if plain else _latch(met, ends)
        fired[at[:1]] = now[:1]
        fired[at[1:]] = now[1:] & ~now[:-1]
    else:
        fired[at] = _fire_with_pauses(met, ends, worlds.days[at], condition.cooldown_days)
        if not brief:
            on[at] = now = _latch(fired[at], ends)
            cooling[at] = met & ~now
    return Course(holds, decided, fired, on, cooling, base, readings.judged)


def find_ends(condition: Condition, worlds: Worlds, readings: Readings) -> Flags:
    """Where an episode ends: the verbatim condition is surely gone, or the value is back at `clears_at`."""
    if condition.clears_at is not None:
        return worlds.value[readings.judged] * condition.direction <= condition.clears_at * condition.direction
    lasting = condition.size if condition.lasting is None else condition.lasting
    _, met, sure = _count_periods(condition, readings, lasting)
    return sure & ~met


def _count_periods(condition: Condition, readings: Readings, size: float) -> tuple[Flags, Flags, Flags]:
    """Which periods are past a size, and of the judged ones where enough are, and where that can be told."""
    if condition.kind == "change":
        # A change of exactly the size asked for counts; all others are strict.
        base = readings.size >= size - _TINY
    else:
        base = readings.size > (size if condition.kind == "level" else 0.0)
    at = np.flatnonzero(readings.judged)
    if condition.window == 1 or not len(at):
        return base, base[at], np.ones((len(at), base.shape[1]), bool)
    total = np.zeros((len(at) + 1, base.shape[1]), np.int32)
    np.cumsum(base[at], axis=0, out=total[1:])
    rank = np.arange(len(at))
    near = np.searchsorted(at, at - _STRETCH * condition.window, side="right")
    first = np.maximum(rank - condition.window + 1, near)
    count = total[1:] - total[first]
    missing = condition.window - (rank - first + 1)
    met = count >= condition.times
    sure = met | (count + missing[:, None] < condition.times)
    if readings.run is not None and size > 0:
        met = met & (readings.run >= size - _TINY)
    return base, met, sure


def take_readings(condition: Condition, worlds: Worlds) -> Readings:
    """Take the readings of each period by itself (of a trend: of each step)."""
    value, judged, sign = worlds.value, worlds.judged, condition.direction
    if condition.kind == "level":
        scale = np.where(worlds.scale > 0, worlds.scale, 1.0)
        return Readings((value - condition.threshold) * (sign / scale)[:, None], judged)
    if condition.kind == "unusual":
        assert worlds.flags is not None
        return Readings(worlds.flags.astype(float), judged)
    if condition.kind == "trend":
        return _read_steps(condition, worlds)
    before, told = compare_before(condition, worlds)
    with np.errstate(divide="ignore", invalid="ignore"):
        change = (value - before) * sign / before
    change[~(before > 0)] = -np.inf
    return Readings(change, judged & told)


def compare_before(condition: Condition, worlds: Worlds) -> tuple[Floats, Flags]:
    """The pooled mean of the periods that each period is compared with, and where enough of them are known."""
    rows = len(worlds.value)
    weight = np.where(worlds.judged, worlds.weight, 0.0)
    weighted = np.where(worlds.judged[:, None], worlds.value, 0.0) * weight[:, None]
    total, of, known = np.zeros_like(weighted), np.zeros(rows), np.zeros(rows)
    for lag in condition.lags:
        if lag < rows:
            total[lag:] += weighted[:-lag]
            of[lag:] += weight[:-lag]
            known[lag:] += worlds.judged[:-lag]
    told = (known >= max(1.0, _LEAST_KNOWN * len(condition.lags))) & (of > 0)
    return total / np.where(of > 0, of, 1.0)[:, None], told


def _read_steps(condition: Condition, worlds: Worlds) -> Readings:
    value, sign, steps = worlds.value, condition.direction, condition.window
    size, told = np.zeros(value.shape), np.zeros(len(value), bool)
    at = np.flatnonzero(worlds.judged)
    series = value[at]
    run = np.full((max(len(at) - 1, 0), value.shape[1]), -np.inf)
    if len(at) > 1:
        size[at[1:]] = (series[1:] - series[:-1]) * sign
        told[at[1:]] = True
    if len(at) > steps:
        first = np.abs(series[:-steps])
        run[steps - 1 :] = (series[steps:] - series[:-steps]) * sign / np.where(first > 0, first, np.inf)
    return Readings(size, told, run)


def _fire_with_pauses(met: Flags, ends: Flags, days: Ints, cooldown: int) -> Flags:
    """Where it fires, given that after firing it waits; all worlds go from one firing to the next together."""
    fires = np.zeros(met.shape, bool)
    rows, columns = met.shape
    next_met, next_end = _find_next(met), _find_next(ends)
    rested = np.searchsorted(days, days + cooldown, side="right")
    world = np.arange(columns)
    here = np.zeros(columns, np.intp)
    while len(world):
        here = next_met[here, world].astype(np.intp)
        left = here < rows
        world, here = world[left], here[left]
        fires[here, world] = True
        here = np.maximum(next_end[here, world], rested[here])
    return fires


def _find_next(flags: Flags) -> NDArray[np.int32]:
    """Of each row the next one with a flag, itself included; the number of rows where there is none."""
    rows = len(flags)
    where = np.full((rows + 1, flags.shape[1]), rows, np.int32)
    np.copyto(where[:rows], np.arange(rows, dtype=np.int32)[:, None], where=flags)
    np.minimum.accumulate(where[::-1], axis=0, out=where[::-1])
    return where


def _latch(sets: Flags, resets: Flags) -> Flags:
    """On from a set to the next reset. The newest of both is found as the largest number so far: odd ones are sets."""
    kind = np.int16 if 2 * len(sets) + 1 < np.iinfo(np.int16).max else np.int32
    rank: NDArray[Any] = np.arange(2, 2 * len(sets) + 2, 2).astype(kind)[:, None]
    last: NDArray[Any] = np.zeros(sets.shape, kind)
    np.copyto(last, rank, where=resets)
    np.copyto(last, rank | 1, where=sets)
    if len(last):
        np.maximum.accumulate(last, axis=0, out=last)
    return (last & 1).astype(bool)

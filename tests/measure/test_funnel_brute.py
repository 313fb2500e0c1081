"""Funnels by brute force, one user at a time in plain Python: what the engine must agree with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Any


@dataclass(frozen=True)
class Row:
    """One event: time in microseconds, its name, a property, and a number that tells it from its equals."""

    at: int
    event: str
    color: str | None
    number: int


@dataclass(frozen=True)
class Ask:
    """A funnel: per step an event and limits (at least, at most) since the step before; exclusions (event, i, j)."""

    events: tuple[str, ...]
    window: int
    limits: tuple[tuple[int, int | None], ...]
    exclusions: tuple[tuple[str, int, int], ...] = ()
    order: str = "ordered"
    hold: bool = False
    reentry: str = "every"


Attempt = tuple[int, ...]


def find_arrivals(rows: Sequence[Row], entry: Row, ask: Ask) -> Attempt:
    """The first time at which each step can be got to from an entry, over all ways through the events."""
    count = len(ask.events)
    near = [r for r in rows if entry.at <= r.at <= entry.at + ask.window]
    if ask.order == "strict":
        line = sorted(rows, key=lambda r: rank_strict(r, ask))
        place = line.index(entry)
        found = [entry.at]
        for i in range(1, count):
            if place + i >= len(line):
                break
            row = line[place + i]
            if row.event != ask.events[i] or row not in near or not within(ask.limits[i], row.at - found[-1]):
                break
            found.append(row.at)
        return tuple(found)
    if ask.order == "any":
        best: dict[int, int] = {}
        for filled in {tuple(sorted(p)) for n in range(1, count + 1) for p in permutations(range(count), n)}:
            last = entry.at
            for name in {ask.events[i] for i in filled}:
                times = sorted(r.at for r in near if r.event == name)
                needed = sum(ask.events[i] == name for i in filled)
                if len(times) < needed:
                    break
                last = max(last, times[needed - 1])
            else:
                best[len(filled)] = min(best.get(len(filled), last), last)
        return tuple(best[n] for n in sorted(best))
    ways = {(entry,)}
    found = [entry.at]
    for i in range(1, count):
        ways = {
            (*way, row)
            for way in ways
            for row in near
            if row.event == ask.events[i]
            and row not in way
            and row.at >= way[-1].at
            and within(ask.limits[i], row.at - way[-1].at)
        }
        if not ways:
            break
        found.append(min(way[-1].at for way in ways))
    return tuple(found)


def rank_strict(row: Row, ask: Ask) -> tuple[Any, ...]:
    """Events of one moment: those for earlier steps first, those for none last."""
    steps = [i for i, name in enumerate(ask.events) if name == row.event]
    return row.at, not steps, steps[0] if steps else 0, row.number


def within(limit: tuple[int, int | None], waited: int) -> bool:
    """Whether a wait keeps to its limits."""
    return waited >= limit[0] and (limit[1] is None or waited <= limit[1])


def is_spoiled(rows: Sequence[Row], arrivals: Attempt, ask: Ask) -> bool:
    """Whether an excluded event lies strictly between the two steps, or before the window's end."""
    for name, i, j in ask.exclusions:
        if len(arrivals) < i:
            continue
        for row in rows:
            before = row.at < arrivals[j - 1] if len(arrivals) >= j else row.at <= arrivals[0] + ask.window
            if row.event == name and row.at > arrivals[i - 1] and before:
                return True
    return False


def list_attempts(rows: Sequence[Row], ask: Ask, until: int) -> list[Attempt]:
    """All attempts of a user that begin before `until`."""
    found: list[Attempt] = []
    parts = sorted({r.color for r in rows if r.color is not None}) if ask.hold else [None]
    for part in parts:
        own = [r for r in rows if not ask.hold or r.color == part]
        names = ask.events if ask.order == "any" else ask.events[:1]
        entries = sorted((r for r in own if r.event in names and r.at < until), key=lambda r: rank_strict(r, ask))
        if ask.reentry == "first":
            entries = entries[:1]
        one = [find_arrivals(own, e, ask) for e in entries]
        one = [a for a in one if not is_spoiled(own, a, ask)]
        if ask.reentry == "after":
            free, kept = -1, []
            for a in one:
                if a[0] > free:
                    kept.append(a)
                    free = a[-1] if len(a) == len(ask.events) else a[0] + ask.window
            one = kept
        found += one
    return found


def choose(attempts: Sequence[Attempt]) -> Attempt | None:
    """The deepest, then the first to get there, then the last to begin."""
    return min(attempts, key=lambda a: (-len(a), a[-1], -a[0])) if attempts else None

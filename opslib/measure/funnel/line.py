"""Following attempts through a funnel, on a line of packed events (`opslib.measure.funnel.packed`).

The same steps as in `opslib.measure.funnel.chain`, on sorted numbers: an event is a place on the line, its moment the
number there, and "the next event of the next step" a search in that step's places. Because the line has users more
than a window apart, an arrival within the window is the same user's.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from opslib.measure.funnel.packed import Line, Packed
from opslib.measure.funnel.steps import MICROSECOND, Funnel, count_same_before

# An attempt that got to step k is its places at steps 1 to k; attempts are a list of k arrays of equal length.
Places = list[np.ndarray]
_NEVER = np.iinfo(np.int64).max


@dataclass(frozen=True)
class Chain:
    """A funnel on one line.

    Attributes:
        line: the events.
        packed: what the line is of.
        funnel: what is followed.
        whole_units: units are the keys, not several keys of a user together.
    """

    line: Line
    packed: Packed
    funnel: Funnel
    whole_units: bool

    @property
    def at(self) -> np.ndarray:
        """User and tick of each event."""
        return self.line.at

    def ticks(self, span: dt.timedelta, *, up: bool = False) -> int:
        """A span of time in ticks, rounded down, or up."""
        micros, resolution = span // MICROSECOND, self.packed.layout.resolution
        return -(-micros // resolution) if up else micros // resolution

    @cached_property
    def window(self) -> int:
        """The funnel's window in ticks."""
        return self.ticks(self.funnel.window)

    @cached_property
    def unit_starts(self) -> np.ndarray:
        """The place of each unit's first event."""
        units = self.at >> self.unit_shift
        return np.flatnonzero(np.concatenate([[True], units[1:] != units[:-1]])) if len(units) else units

    @property
    def unit_shift(self) -> int:
        """How many bits of a moment say no unit."""
        layout = self.packed.layout
        return layout.tick_bits + (0 if self.whole_units else self.packed.inner_bits)

    def tick_of(self, moments: np.ndarray) -> np.ndarray:
        """Moments without the user."""
        return moments & ((1 << self.packed.layout.tick_bits) - 1)

    def places_of(self, index: int) -> np.ndarray:
        """The events that can fill a step, or are an exclusion."""
        return np.flatnonzero(self.can_be(1 << index))

    def can_be(self, bits: int) -> np.ndarray:
        """Which events have any of some bits in their mask."""
        codes = [code for code, mask in enumerate(self.packed.masks) if mask & bits]
        if len(codes) > 4:
            return np.isin(self.line.code, codes)
        good = np.zeros(len(self.at), dtype=bool)
        for code in codes:
            good |= self.line.code == code
        return good

    def find_values(self, places: np.ndarray, bits: np.ndarray) -> np.ndarray:
        """The first in the alphabet of the values that events of a place's moment have, of those with any of the bits.

        Args:
            places: where.
            bits: for each place which steps the events can fill.
        """
        assert self.line.value is not None
        masks = np.array(self.packed.masks, dtype=np.int64)
        best = np.full(len(places), len(self.packed.values or ()), dtype=np.uint8)
        left, now = np.arange(len(places)), self.floor(places)
        while len(left):
            good = (masks[self.line.code[now]] & bits[left]) > 0
            best[left[good]] = np.minimum(best[left[good]], self.line.value[now[good]])
            more = now + 1 < len(self.at)
            more[more] = self.at[now[more] + 1] == self.at[now[more]]
            left, now = left[more], now[more] + 1
        return best

    def floor(self, places: np.ndarray) -> np.ndarray:
        """The first place of each place's moment."""
        return np.searchsorted(self.at, self.at[places])

    def count_before(self, found: np.ndarray, places: np.ndarray) -> np.ndarray:
        """How many of some sorted places come before each place."""
        if len(places) * 16 < len(self.at):
            return np.searchsorted(found, places)
        before = np.zeros(len(self.at) + 2, dtype=np.int32)
        before[found + 1] = 1
        np.cumsum(before, out=before)
        return before[places]

    def pick_entries(self, mature: bool | None) -> np.ndarray:
        """The events that may start an attempt: with their whole window behind them, without it, or (None) all."""
        funnel, layout = self.funnel, self.packed.layout
        entries = np.flatnonzero(self.can_be((1 << len(funnel.steps)) - 1 if funnel.order == "any" else 1))

        def tick(key: int) -> int:
            return -(-(key // funnel.scale - layout.origin) // layout.resolution)

        ticks = self.tick_of(self.at[entries])
        good = ticks < tick(min(funnel.end_key, funnel.mature_key) if mature else funnel.end_key)
        if mature is False:
            good &= ticks >= tick(funnel.mature_key)
        return entries if good.all() else entries[good]

    def trace(self, entries: np.ndarray, *, best_only: bool) -> list[Places]:
        """For each step the attempts that get to it; `best_only` as in `funnel_chain.trace_attempts`."""
        funnel = self.funnel
        if funnel.reentry == "first":
            keys = self.at[entries] >> self.packed.layout.tick_bits
            entries = entries[_is_first(keys)]
        elif funnel.order != "strict" and not (best_only and funnel.order == "ordered"):
            # Entries of one moment are one attempt: from the first of them all that the others could use is in reach.
            entries = entries[_is_first(self.at[entries])]
        if funnel.order == "strict":
            return self._trace_strict(entries)
        if funnel.order == "any":
            return self._trace_any(entries)
        return self._trace_ordered(entries, best_only and funnel.scale == 1)

    def _trace_ordered(self, entries: np.ndarray, best_only: bool) -> list[Places]:
        funnel, steps = self.funnel, self.funnel.steps
        limits = [i for i, step in enumerate(steps) if i >= 2 and step.at_most is not None]
        levels = [[entries]]
        owners, arrivals = np.arange(len(entries) if limits else 0), [entries]
        alive = owners
        for i in range(1, len(steps)):
            before = levels[-1]
            if i == 1 and best_only and not limits and not steps[1].at_least:
                # Of entries with nothing between them only the last can do best, unless it has to wait.
                apart = np.ones(len(entries), dtype=bool)
                np.not_equal(entries[1:], entries[:-1] + 1, out=apart[:-1])
                before = [entries[apart]]
            # Where a later step could ask for an event that is used up, the first way to get here is not enough.
            if not limits or (i > limits[-1] and not funnel.shared_steps):
                levels.append(self._arrive_first(before, i, best_only and not limits))
                continue
            owners, arrivals = self._arrive_anyhow(owners, arrivals, entries, i)
            first = np.full(len(entries), len(self.at))
            np.minimum.at(first, owners, arrivals[-1])
            there = first[alive] < len(self.at)
            alive = alive[there]
            levels.append([*(p[there] for p in before), first[alive]])
        return levels

    def _lowest(self, path: Places, index: int) -> np.ndarray:
        """The first place that may fill a step: not before the step before, and not an event that is used up."""
        wait = self.funnel.steps[index].at_least
        if wait:
            return np.searchsorted(self.at, self.at[path[-1]] + self.ticks(wait, up=True))
        if self.funnel.scale == 1:
            return path[-1]
        lowest = self.floor(path[-1])
        for i, j in self.funnel.shared_steps:
            if j == index:
                lowest = np.maximum(lowest, path[i] + 1)
        return lowest

    def _is_inside(self, start: np.ndarray, before: np.ndarray, arrived: np.ndarray, index: int) -> np.ndarray:
        most = self.funnel.steps[index].at_most
        inside = self.at[arrived] - self.at[start] <= self.window
        return inside if most is None else inside & (self.at[arrived] - self.at[before] <= self.ticks(most))

    def _arrive_first(self, path: Places, index: int, best_only: bool) -> Places:
        found = self.places_of(index)
        following = self.count_before(found, self._lowest(path, index))
        there = following < len(found)
        if best_only and len(there):
            # Of attempts with the same next event only the last counts: what follows is the same, its window ends last.
            there[:-1] &= following[:-1] != following[1:]
        kept = np.flatnonzero(there)
        arrived = found[following[kept]]
        path = [p[kept] for p in path]
        inside = self._is_inside(path[0], path[-1], arrived, index)
        return [*(p[inside] for p in path), arrived[inside]]

    def _arrive_anyhow(
        self, owners: np.ndarray, path: Places, entries: np.ndarray, index: int
    ) -> tuple[np.ndarray, Places]:
        """All events that may fill a step, not only the first: the attempt that each belongs to, and the way there."""
        found = self.places_of(index)
        most = self.funnel.steps[index].at_most
        latest = self.at[entries[owners]] + self.window
        if most is not None:
            latest = np.minimum(latest, self.at[path[-1]] + self.ticks(most))
        low = np.searchsorted(found, self._lowest(path, index))
        high = np.searchsorted(found, np.searchsorted(self.at, latest, side="right"))
        sizes = np.maximum(high - low, 0)
        ways = np.repeat(np.arange(len(owners)), sizes)
        offsets = np.arange(len(ways)) - np.repeat(sizes.cumsum() - sizes, sizes)
        arrived = found[low[ways] + offsets]
        # Which events were used before matters only where one event could fill several steps.
        trail = [p[ways] for p in path] if self.funnel.shared_steps else []
        if trail:
            rows = np.unique(np.stack([owners[ways], *trail, arrived]), axis=1)
            return rows[0], list(rows[1:])
        pairs = np.unique(owners[ways] * len(self.at) + arrived)
        return pairs // max(len(self.at), 1), [pairs % max(len(self.at), 1)]

    def _trace_strict(self, entries: np.ndarray) -> list[Places]:
        """The next event of any kind must be the next step."""
        levels = [[entries]]
        masks = np.array(self.packed.masks, dtype=np.int64)
        for i in range(1, len(self.funnel.steps)):
            path = levels[-1]
            path = [p[path[0] + i < len(self.at)] for p in path]
            arrived = path[0] + i
            since = self.at[arrived] - self.at[path[-1]]
            good = (masks[self.line.code[arrived]] >> i & 1).astype(bool)
            good &= self._is_inside(path[0], path[-1], arrived, i)
            good &= since >= self.ticks(self.funnel.steps[i].at_least or dt.timedelta(), up=True)
            levels.append([*(p[good] for p in path), arrived[good]])
        return levels

    def _trace_any(self, entries: np.ndarray) -> list[Places]:
        """Each step's first event from the entry on; the attempt gets to as many steps as there are such events."""
        end = len(self.at)
        columns = []
        for i in range(len(self.funnel.steps)):
            found = self.places_of(i)
            # The second of two equal steps takes the second event.
            nth = self.count_before(found, entries) + count_same_before(self.funnel, i)
            arrived = np.append(found, end)[np.minimum(nth, len(found))]
            moments = np.append(self.at, _NEVER)[arrived]
            columns.append(np.where(moments - self.at[entries] <= self.window, arrived, end))
        ordered = np.sort(np.stack(columns), axis=0)
        return [[column[row < end] for column in ordered[: i + 1]] for i, row in enumerate(ordered)]

    def gather(self, levels: list[Places]) -> tuple[np.ndarray, np.ndarray]:
        """Attempts that got anywhere: places by step, -1 where not arrived, and how many steps each got to."""
        starts = levels[0][0]
        places = np.full((len(levels), len(starts)), -1, dtype=np.int64)
        depth = np.ones(len(starts), dtype=np.int8)
        for i, path in enumerate(levels):
            mine = np.searchsorted(starts, path[0])
            depth[mine] = i + 1
            for j, column in enumerate(path):
                places[j, mine] = column
        return places, depth

    def keep_unspoiled(self, places: np.ndarray) -> np.ndarray:
        """Which attempts have no excluded event between the two steps that the exclusion names."""
        good = np.ones(places.shape[1], dtype=bool)
        moments = np.append(self.at, _NEVER)
        for i, exclusion in enumerate(self.funnel.exclusions):
            after = places[exclusion.after - 1]
            before = places[(exclusion.before or len(self.funnel.steps)) - 1]
            watched = np.flatnonzero(after >= 0)
            found = np.append(self.places_of(len(self.funnel.steps) + i), len(self.at))
            lowest = np.searchsorted(self.at, self.at[after[watched]], side="right")
            bad = moments[found[np.searchsorted(found[:-1], lowest)]]
            until = np.where(
                before[watched] >= 0, self.at[before[watched]], self.at[places[0, watched]] + self.window + 1
            )
            good[watched[bad < until]] = False
        return good

    def keep_separate(self, places: np.ndarray) -> np.ndarray:
        """Which attempts begin only after the one before has ended: converted, or its window over."""
        starts, last = places[0], places[-1]
        over = self.at[starts] + self.window
        after = np.searchsorted(self.at, over, side="right")
        ended = np.searchsorted(self.at, self.at[last], side="right") if self.funnel.scale == 1 else last + 1
        jump = np.append(np.searchsorted(starts, np.where(last >= 0, ended, after)), len(starts))
        keys = np.append(self.at[starts] >> self.packed.layout.tick_bits, -1)
        kept = np.zeros(len(starts), dtype=bool)
        now = np.flatnonzero(_is_first(keys[:-1]))
        while len(now):
            kept[now] = True
            onward = jump[now]
            now = onward[keys[onward] == keys[now]]
        return kept

    def count_units(self, places: np.ndarray) -> int:
        """Units of attempts that are in order of their start."""
        return int(_is_first(self.at[places] >> self.unit_shift).sum())

    def share_unit(self, places: np.ndarray, others: np.ndarray) -> np.ndarray:
        """Which places are of a unit that has one of the others."""
        has = np.zeros(len(self.unit_starts) + 1, dtype=bool)
        has[np.searchsorted(self.unit_starts, others, side="right") - 1] = True
        return has[np.searchsorted(self.unit_starts, places, side="right") - 1]

    def pick_best(self, levels: Sequence[Places]) -> tuple[np.ndarray, np.ndarray]:
        """For each unit the attempt that counts: the deepest, then the first to get there, then the last to begin.

        Returns:
            Places by step, -1 where not arrived, and how many steps each unit got to.
        """
        done = np.zeros(len(self.unit_starts), dtype=bool)
        chosen, depths = [], []
        for i in reversed(range(len(levels))):
            path = self._first_entries(levels[0][0], done) if i == 0 and self.whole_units else levels[i]
            units = np.searchsorted(self.unit_starts, path[0], side="right") - 1
            left = np.flatnonzero(~done[units])
            path, units = [p[left] for p in path], units[left]
            best = self._choose(path, units)
            done[units[best]] = True
            places = np.full((len(levels), len(best)), -1, dtype=np.int64)
            for j, column in enumerate(path):
                places[j] = column[best]
            chosen.append(places)
            depths.append(np.full(len(best), i + 1, dtype=np.int8))
        return np.concatenate(chosen, axis=1), np.concatenate(depths)

    def _choose(self, path: Places, units: np.ndarray) -> np.ndarray:
        """Of attempts that got equally far, each unit's first to get there, and of these the last to begin."""
        reached = (units << self.packed.layout.tick_bits) | self.tick_of(self.at[path[-1]])
        order = np.argsort(reached, kind="stable")
        reached, units = reached[order], units[order]
        first = _is_first(units)
        soonest = reached[first][np.cumsum(first) - 1]
        among = order[reached == soonest] if len(order) else order
        rank = np.lexsort((path[0][among], -self.tick_of(self.at[path[0][among]]), reached[reached == soonest]))
        among, owners = among[rank], units[reached == soonest][rank]
        return among[_is_first(owners)]

    def _first_entries(self, entries: np.ndarray, done: np.ndarray) -> Places:
        """The first entry of each unit that is not done: all there is to know of who got no further."""
        starts = self.unit_starts[~done]
        ends = np.append(self.unit_starts[1:], len(self.at))[~done]
        first = self.count_before(entries, starts)
        places = np.append(entries, len(self.at))[first]
        return [places[places < ends]]


def _is_first(values: Any) -> np.ndarray:
    """Which of sorted values differ from the one before."""
    first = np.ones(len(values), dtype=bool)
    first[1:] = values[1:] != values[:-1]
    return first

"""Attempts of a funnel on packed events, all in memory or some users after the others."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import ibis
import ibis.expr.types as ir
import numpy as np

from opslib.data.memory_limit import read_memory_limit
from opslib.measure.activity import NOT_GIVEN
from opslib.measure.funnel.chain import name_arrival
from opslib.measure.funnel.line import Chain
from opslib.measure.funnel.outcomes import NOT_REACHED, Attribution, Traced, TrendTables
from opslib.measure.funnel.packed import THREADS, Packed, pack_events
from opslib.measure.funnel.steps import TIES, Exclusion, Funnel, Step, pick_near, pick_rows

# Of what the engine may take, the part for packed events and the work on them; and what they take for each event at the
# most.
PART_OF_MEMORY = 0.75
BYTES_PER_EVENT = 40


def estimate_parts(events: ir.Table, funnel: Funnel) -> int:
    """In how many parts the users have to be taken so that each fits the memory that is allowed."""
    most = max(1, int(read_memory_limit(ibis.get_backend(events)) * PART_OF_MEMORY) // BYTES_PER_EVENT)
    # All events are counted first because for files that costs next to nothing.
    if int(events.count().to_pandas()) <= most:
        return 1
    return max(1, math.ceil(int(count_rows(events, funnel)) / most))


def count_rows(events: ir.Table, funnel: Funnel) -> int:
    """How many events the packed plan would keep in memory."""
    wanted: list[Step | Exclusion] = [*funnel.steps, *funnel.exclusions]
    near = pick_near(events, funnel)
    if funnel.order != "strict" and all(w.event is not None for w in wanted):
        near = near.filter(near.event.isin(sorted({w.event for w in wanted if w.event is not None})))
    return int(near.count().to_pandas())


@dataclass(frozen=True)
class PartedAttempts:
    """The packed plan for more events than memory holds: some users after the others, each time read again.

    Raises:
        DoesNotFitError: at once, as `pack_events`.
    """

    events: ir.Table
    funnel: Funnel
    unit: list[str]
    parts: int
    label: tuple[str, Attribution] | None = None

    @cached_property
    def rows(self) -> ir.Table:
        """The events that matter, not read again unless somebody asks for them."""
        return pick_rows(self.events, self.funnel)

    def __post_init__(self) -> None:
        self.count_masks()

    @cached_property
    def _masks(self) -> dict[int, int]:
        counts: dict[int, int] = {}
        for part in self._read_parts():
            for mask, n in part.count_masks():
                counts[mask] = counts.get(mask, 0) + n
        return counts

    def count_masks(self) -> list[tuple[int, int]]:
        """Events of each mask."""
        return list(self._masks.items())

    def settle(self, mature: bool | None, *, every: bool = False) -> Traced:
        """Follow the attempts: see `Attempts`."""
        found = [part.settle(mature, every=every) for part in self._read_parts()]
        trends = [t.trend for t in found if t.trend is not None]
        trend = None
        if trends:
            names = ("entered", "settled", "converted")
            trend = TrendTables(*(_unite([getattr(t, name) for t in trends]) for name in names))
        labelled = all(t.labelled for t in found)
        outcomes = [t.outcomes if labelled or not t.labelled else t.outcomes.drop("value") for t in found]
        return Traced(trend, _unite(outcomes), sum(t.excluded_count for t in found), labelled)

    def _read_parts(self) -> Iterator[PackedAttempts]:
        column = self.label[0] if self.label else ""
        number = self.events["user_id"].hash().abs() % self.parts
        for i in range(self.parts):
            mine = self.events.filter(number == i)
            # Nothing here keeps a part alive when the next one is asked for.
            yield PackedAttempts(mine, self.funnel, self.unit, pack_events(mine, self.funnel, column), self.label)


def _unite(tables: Sequence[ir.Table]) -> ir.Table:
    return ibis.union(*tables) if len(tables) > 1 else tables[0]


@dataclass(frozen=True)
class PackedAttempts:
    """The packed plan: see `opslib.measure.funnel.packed`."""

    events: ir.Table
    funnel: Funnel
    unit: list[str]
    packed: Packed
    label: tuple[str, Attribution] | None = None

    @cached_property
    def rows(self) -> ir.Table:
        """The events that matter, not read again unless somebody asks for them."""
        return pick_rows(self.events, self.funnel)

    @cached_property
    def chains(self) -> list[Chain]:
        """The funnel on each line."""
        whole = self.unit == list(self.funnel.keys)
        return [Chain(line, self.packed, self.funnel, whole) for line in self.packed.lines]

    def count_masks(self) -> list[tuple[int, int]]:
        """Events of each mask."""
        return self.packed.count_masks()

    def settle(self, mature: bool | None, *, every: bool = False) -> Traced:
        """Follow the attempts: see `Attempts`."""
        with ThreadPoolExecutor(THREADS) as pool:
            found = list(pool.map(lambda chain: self._settle(chain, mature, every), self.chains))
        outcomes = self._make_outcomes([(chain, *one[:2]) for chain, one in zip(self.chains, found, strict=True)])
        trend = None
        if every:
            everybody = [chain.pick_entries(None) for chain in self.chains]
            ends = [[one[2][i] for one in found] for i in (0, -1)]
            trend = TrendTables(*(self._place(starts) for starts in (everybody, *ends)))
        return Traced(trend, outcomes, sum(one[3] for one in found), self.packed.values is not None)

    def _settle(
        self, chain: Chain, mature: bool | None, every: bool
    ) -> tuple[np.ndarray, np.ndarray, list[np.ndarray], int]:
        """Places and depth of each unit's attempt, where the attempts of each level began, and units left out."""
        entries = chain.pick_entries(mature)
        single = "start" in self.unit
        if mature is False and not single:
            entries = entries[~chain.share_unit(entries, chain.pick_entries(True))]
        whole = bool(self.funnel.exclusions) or self.funnel.reentry == "after" or single
        levels = chain.trace(entries, best_only=not (every or whole))
        if not whole:
            return *chain.pick_best(levels), [level[0] for level in levels], 0
        places, depth = chain.gather(levels)
        excluded = 0
        tests: list[tuple[bool, Callable[[np.ndarray], np.ndarray]]] = [
            (bool(self.funnel.exclusions), chain.keep_unspoiled),
            (self.funnel.reentry == "after", chain.keep_separate),
        ]
        for wanted, test in tests:
            if wanted:
                kept = test(places)
                if test == chain.keep_unspoiled:
                    excluded = self._count(chain, places[0]) - self._count(chain, places[0, kept])
                places, depth = places[:, kept], depth[kept]
        levels = [[places[j, depth > i] for j in range(i + 1)] for i in range(len(levels))]
        best = (places, depth) if single else chain.pick_best(levels)
        return *best, [level[0] for level in levels], excluded

    def _count(self, chain: Chain, starts: np.ndarray) -> int:
        return len(starts) if "start" in self.unit else chain.count_units(starts)

    def _make_outcomes(self, found: Sequence[tuple[Chain, np.ndarray, np.ndarray]]) -> ir.Table:
        """One row a unit: the funnel's keys, start, s1 ..., level, reached."""
        import pyarrow as pa

        columns: dict[str, Any] = {"start": self._join([self._to_keys(c, p[0]) for c, p, _ in found])}
        for i in range(len(self.funnel.steps)):
            missing = self._join([p[i] < 0 for _, p, _ in found])
            values = self._join([self._to_keys(c, p[i]) for c, p, _ in found])
            columns[name_arrival(i + 1)] = pa.array(values, mask=missing)
        columns["level"] = self._join([depth for *_, depth in found])
        last = [np.take_along_axis(p, depth[None].astype(np.int64) - 1, 0)[0] for _, p, depth in found]
        columns["reached"] = self._join([self._to_keys(c, p) for (c, *_), p in zip(found, last, strict=True)])
        if self.packed.values is not None and self.label is not None:
            numbers = self._join([self._find_values(c, p, depth) for c, p, depth in found])
            names = [*self.packed.values, NOT_GIVEN, NOT_REACHED]
            columns["value"] = pa.DictionaryArray.from_arrays(numbers, pa.array(names, pa.string()))
        return self._name([p[0] for _, p, _ in found], columns)

    def _find_values(self, chain: Chain, places: np.ndarray, depth: np.ndarray) -> np.ndarray:
        """The number of each attempt's value, as `label_outcomes` finds it."""
        assert self.label is not None
        assert self.packed.values is not None
        which = self.label[1]
        step = np.zeros(len(depth), dtype=np.int64) if which == "first" else depth.astype(np.int64) - 1
        if isinstance(which, int):
            step[:] = which - 1
        at = np.take_along_axis(places, step[None], 0)[0]
        bits = (1 << len(self.funnel.steps)) - 1 if self.funnel.order == "any" else 1 << step
        found = np.full(len(at), len(self.packed.values) + 1, dtype=np.int8)
        there = np.flatnonzero(at >= 0)
        found[there] = chain.find_values(at[there], np.broadcast_to(bits, len(at))[there])
        return found

    def _place(self, starts: Sequence[np.ndarray]) -> ir.Table:
        """The funnel's keys and key of events."""
        pairs = zip(self.chains, starts, strict=True)
        return self._name(starts, {"key": self._join([self._to_keys(chain, places) for chain, places in pairs])})

    def _name(self, starts: Sequence[np.ndarray], columns: dict[str, Any]) -> ir.Table:
        """A table of the columns, with the funnel's keys before them."""
        import pyarrow as pa

        pairs = zip(self.chains, starts, strict=True)
        units = self._join([self.packed.name_units(c.line, c.at[p] >> self.packed.layout.tick_bits) for c, p in pairs])
        if self.packed.codes is None:
            key_type = self.events["user_id"].type()
            table = ibis.memtable(pa.table({"user_id": units, **columns}))
            return table.mutate(user_id=table["user_id"].cast(key_type))
        joined = ibis.memtable(pa.table({"_unit": units, **columns})).inner_join(self.packed.codes, "_unit")
        return joined.select(*self.funnel.keys, *columns).cache()

    def _to_keys(self, chain: Chain, places: np.ndarray) -> np.ndarray:
        """The keys of places, as the windows plan has them; of -1 anything."""
        layout, scale = self.packed.layout, self.funnel.scale
        if not len(chain.at):
            return np.empty(0, dtype=np.int64)
        keys = (chain.tick_of(chain.at[places]) * layout.resolution + layout.origin) * scale
        return keys if scale == 1 else keys + np.clip(places - chain.floor(places), 0, TIES - 1)

    @staticmethod
    def _join(parts: Sequence[np.ndarray]) -> np.ndarray:
        return np.concatenate(parts)

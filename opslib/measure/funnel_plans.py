"""How a funnel's attempts are found: on packed events in memory, or in the engine.

Both plans give the same answer. The packed one is several times faster and serves DuckDB, which hands its events over
without copying them through a network; the windows plan is portable, and takes what does not fit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, Protocol

import ibis
import ibis.expr.types as ir
import numpy as np

from opslib.measure.funnel_chain import name_arrival
from opslib.measure.funnel_line import Chain
from opslib.measure.funnel_outcomes import Traced, TrendTables, list_unit_columns, pick_entries, settle
from opslib.measure.funnel_packed import DoesNotFitError, Packed, pack_events
from opslib.measure.funnel_steps import TIES, Funnel, FunnelUnit, pick_rows

Plan = Literal["packed", "windows"]


class Attempts(Protocol):
    """A funnel's events, read once, and what can be asked of them."""

    @property
    def rows(self) -> ir.Table:
        """The events that matter, as of `pick_rows`."""

    def count_masks(self) -> list[tuple[int, int]]:
        """Events of each mask."""

    def settle(self, mature: bool | None, *, every: bool = False) -> Traced:
        """Follow the attempts and choose the one that counts for each unit.

        Args:
            mature: entries that have had their whole window; False: units that have no such entry; None: all.
            every: make the tables for the trend too.
        """


def choose_plan(table: ir.Table, funnel: Funnel, unit: FunnelUnit = "users") -> Plan:
    """How attempts are found best on the engine that holds a table."""
    if ibis.get_backend(table).name != "duckdb":
        return "windows"
    # Which of several equal events was taken is known to the plan that numbered them; sessions within held keys
    # are neither whole users nor single keys.
    numbered = bool(funnel.values) and funnel.scale > 1
    return "windows" if numbered or (unit == "sessions" and len(funnel.keys) > 2) else "packed"


def read_attempts(
    events: ir.Table, funnel: Funnel, unit: FunnelUnit, session: str = "", plan: Plan | None = None
) -> Attempts:
    """Read the events that matter to a funnel, by the best plan or the one given."""
    columns = list_unit_columns(funnel, unit, session)
    if (plan or choose_plan(events, funnel, unit)) == "packed":
        try:
            return PackedAttempts(events, funnel, columns, pack_events(events, funnel))
        except DoesNotFitError:
            pass
    return EngineAttempts(pick_rows(events, funnel).cache(), funnel, columns)


@dataclass(frozen=True)
class EngineAttempts:
    """The windows plan: all in the engine."""

    rows: ir.Table
    funnel: Funnel
    unit: list[str]

    def count_masks(self) -> list[tuple[int, int]]:
        """Events of each mask."""
        sizes = self.rows.group_by("mask").aggregate(rows_count=lambda t: t.count()).to_pandas()
        return list(zip(sizes["mask"].astype(int), sizes["rows_count"].astype(int), strict=True))

    def settle(self, mature: bool | None, *, every: bool = False) -> Traced:
        """Follow the attempts: see `Attempts`."""
        entries = pick_entries(self.rows, self.funnel, mature=mature)
        if mature is False and "start" not in self.unit:
            entries = entries.anti_join(pick_entries(self.rows, self.funnel, mature=True), self.unit)
        return settle(self.rows, entries, self.funnel, self.unit, every=every)


@dataclass(frozen=True)
class PackedAttempts:
    """The packed plan: see `opslib.measure.funnel_packed`."""

    events: ir.Table
    funnel: Funnel
    unit: list[str]
    packed: Packed

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
        with ThreadPoolExecutor(2) as pool:
            found = list(pool.map(lambda chain: self._settle(chain, mature, every), self.chains))
        outcomes = self._make_outcomes([(chain, *one[:2]) for chain, one in zip(self.chains, found, strict=True)])
        trend = None
        if every:
            everybody = [chain.pick_entries(None) for chain in self.chains]
            ends = [[one[2][i] for one in found] for i in (0, -1)]
            trend = TrendTables(*(self._place(starts) for starts in (everybody, *ends)))
        return Traced(trend, outcomes, sum(one[3] for one in found))

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
        return self._name([p[0] for _, p, _ in found], columns)

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

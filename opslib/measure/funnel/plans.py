"""How a funnel's attempts are found: on packed events in memory, or in the engine.

Both plans give the same answer. The packed one is several times faster and serves DuckDB, which hands its events over
without copying them through a network; the windows plan is portable, and takes what does not fit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import ibis.expr.types as ir

from opslib.data.engines.capabilities import find_capabilities
from opslib.errors import InputError, suggest_name
from opslib.measure.funnel.attempts import PackedAttempts, PartedAttempts, estimate_parts
from opslib.measure.funnel.outcomes import Attribution, Traced, list_unit_columns, pick_entries, settle
from opslib.measure.funnel.packed import DoesNotFitError, pack_events
from opslib.measure.funnel.steps import Funnel, FunnelUnit, pick_rows

Plan = Literal["packed", "windows"]
PLANS = ("packed", "windows")


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
    return "packed" if find_capabilities(table).packed_events and can_pack(funnel, unit) else "windows"


def can_pack(funnel: Funnel, unit: FunnelUnit) -> bool:
    """Whether the packed plan can answer."""
    # Which of several equal events was taken is known to the plan that numbered them; sessions within held keys
    # are neither whole users nor single keys.
    numbered = bool(funnel.values) and funnel.scale > 1
    return not numbered and not (unit == "sessions" and len(funnel.keys) > 2)


def read_attempts(
    events: ir.Table,
    funnel: Funnel,
    unit: FunnelUnit,
    session: str = "",
    plan: Plan | None = None,
    label: tuple[str, Attribution] | None = None,
) -> Attempts:
    """Read the events that matter to a funnel, by the best plan or the one given.

    Args:
        events, funnel, unit, session, plan: as in `measure_funnel`.
        label: a column of the events to break down by, and of which event of an attempt: outcomes have its value where
            that costs little (see `Traced.labelled`).

    Raises:
        InputError: there is no such plan.
    """
    if plan is not None and plan not in PLANS:
        raise InputError(f"'{plan}' for plan:{suggest_name(plan, PLANS)} Choose from {', '.join(PLANS)}.")
    columns = list_unit_columns(funnel, unit, session)
    if (plan or choose_plan(events, funnel, unit)) == "packed" and can_pack(funnel, unit):
        try:
            parts = estimate_parts(events, funnel)
            if parts > 1:
                return PartedAttempts(events, funnel, columns, parts, label)
            return PackedAttempts(
                events, funnel, columns, pack_events(events, funnel, label[0] if label else ""), label
            )
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

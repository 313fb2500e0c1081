"""What became of each user, session or attempt of a funnel, kept in the engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import ibis
import ibis.expr.types as ir
import pandas as pd

from opslib.measure.activity import NOT_GIVEN, OTHER
from opslib.measure.cohort_counts import Clock
from opslib.measure.funnel.chain import (
    gather_attempts,
    keep_separate,
    keep_unspoiled,
    name_arrival,
    trace_attempts,
)
from opslib.measure.funnel.steps import Funnel, FunnelUnit

SEGMENTS = 10
NOT_REACHED = "(not reached)"
Attribution = Literal["first", "last"] | int


@dataclass(frozen=True)
class TrendTables:
    """Where entries lie: tables of the funnel's keys and key (of the entry).

    Attributes:
        entered: all entries, open windows too.
        settled: entries of the attempts that count.
        converted: entries of those that got to the last step.
    """

    entered: ir.Table
    settled: ir.Table
    converted: ir.Table


@dataclass(frozen=True)
class Traced:
    """Attempts of one set of entries, and what became of each unit.

    Attributes:
        trend: what `count_trend` needs, where it was asked for.
        outcomes: one row a unit: its columns, the funnel's keys, start, s1 ..., level, reached.
        excluded_count: units of which every attempt was spoiled.
        labelled: outcomes have value too, as of `label_outcomes`.
    """

    trend: TrendTables | None
    outcomes: ir.Table
    excluded_count: int
    labelled: bool = False


def list_unit_columns(funnel: Funnel, unit: FunnelUnit, session: str) -> list[str]:
    """The columns that tell one counted unit from another."""
    if unit == "users":
        return ["user_id"]
    return ["user_id", session] if unit == "sessions" else [*funnel.keys, "start"]


def pick_entries(rows: ir.Table, funnel: Funnel, *, mature: bool | None) -> ir.Table:
    """The rows that may start an attempt: with their whole window behind them, without it, or (None) all."""
    bits = (1 << len(funnel.steps)) - 1 if funnel.order == "any" else 1
    until = min(funnel.end_key, funnel.mature_key) if mature else funnel.end_key
    entries = rows.filter((rows["mask"] & bits) > 0, rows.key < until)
    return entries.filter(entries.key >= funnel.mature_key) if mature is False else entries


def settle(rows: ir.Table, entries: ir.Table, funnel: Funnel, unit: list[str], *, every: bool = False) -> Traced:
    """Follow attempts and choose, for each unit, the one that counts: the deepest, then the first to get there.

    With `every` every attempt is followed, for the trend; otherwise some that cannot be a unit's best may be left out.
    """
    whole = bool(funnel.exclusions) or funnel.reentry == "after" or "start" in unit
    levels = trace_attempts(rows, entries, funnel, best_only=not (every or whole))
    attempts, excluded = None, 0
    if whole:
        attempts = gather_attempts(levels, funnel).cache()
        if funnel.exclusions:
            began = _count_units(attempts, unit)
            attempts = keep_unspoiled(attempts, rows, funnel)
            excluded = began - _count_units(attempts, unit)
        if funnel.reentry == "after":
            attempts = keep_separate(attempts, funnel).cache()
        levels = _cut(attempts, funnel)
    trend = None
    if every:
        ends = (level.select(*funnel.keys, key="start") for level in (levels[0], levels[-1]))
        trend = TrendTables(pick_entries(rows, funnel, mature=None), *ends)
    single = attempts is not None and "start" in unit
    return Traced(trend, attempts if single else _pick_best(levels, funnel, unit).cache(), excluded)


def _count_units(attempts: ir.Table, unit: list[str]) -> int:
    return int(attempts.select(unit).distinct().count().to_pandas())


def _cut(attempts: ir.Table, funnel: Funnel) -> list[ir.Table]:
    names = [name_arrival(i + 1) for i in range(len(funnel.steps))]
    return [
        attempts.filter(attempts.level > i).select(*funnel.keys, "start", *names[: i + 1]) for i in range(len(names))
    ]


def _pick_best(levels: Sequence[ir.Table], funnel: Funnel, unit: list[str]) -> ir.Table:
    names = [name_arrival(i + 1) for i in range(len(levels))]
    tops = [
        level.group_by(unit).aggregate(_moment=funnel.floor(level[name]).min()).cache()
        for level, name in zip(levels, names, strict=True)
    ]
    tables = []
    for i, (level, top) in enumerate(zip(levels, tops, strict=True)):
        ended = top.anti_join(tops[i + 1], unit) if i + 1 < len(tops) else top
        if i == 0 and list(funnel.keys) == unit and funnel.scale == 1:
            # The first entry's moment is all there is to know of it.
            best = ended.mutate(start=ended._moment, s1=ended._moment)
        else:
            ended = ended.rename({f"_{c}": c for c in unit})
            same = [level[c] == ended[f"_{c}"] for c in unit]
            best = level.inner_join(ended, [*same, funnel.floor(level[names[i]]) == ended._moment])
        blank = {name: ibis.null("int64") for name in names[i + 1 :]}
        depth = ibis.literal(i + 1, "int8")
        columns = [*funnel.keys, "start", *names[: i + 1]]
        tables.append(best.select(*columns, **blank, level=depth, reached=best[names[i]]))
    together = ibis.union(*tables) if len(tables) > 1 else tables[0]
    rest = [k for k in funnel.keys if k not in unit]
    latest = together.mutate(_latest=-funnel.floor(together.start))
    first = ibis.row_number().over(group_by=unit, order_by=[latest._latest, latest.start, *rest])
    ranked = latest.mutate(_rank=first)
    return ranked.filter(ranked._rank == 0).drop("_rank", "_latest")


def label_outcomes(
    outcomes: ir.Table,
    rows: ir.Table,
    funnel: Funnel,
    unit: list[str],
    column: str,
    attribution: Attribution,
    attributes: ir.Table | None,
) -> ir.Table:
    """Add the value to break down by: of the user, or of the event that the attribution names."""
    if attributes is not None:
        users = attributes.group_by("user_id").aggregate(_value=attributes[column].cast("string").min())
        joined = outcomes.left_join(users, "user_id")
        return joined.select(*outcomes.columns, value=joined._value.fill_null(NOT_GIVEN))
    places = {"first": outcomes.s1, "last": outcomes.reached}
    at = places[attribution] if isinstance(attribution, str) else outcomes[name_arrival(attribution)]
    wanted = outcomes.select(*unit, *(k for k in funnel.keys if k not in unit), "level", _at=at)
    events = rows.select(
        *(rows[k].name(f"_{k}") for k in funnel.keys), "key", "mask", _value=rows[column].cast("string")
    )
    same = [wanted[k] == events[f"_{k}"] for k in funnel.keys]
    joined = wanted.inner_join(events, [*same, wanted._at == events.key])
    if funnel.order == "any":
        bit: Any = (1 << len(funnel.steps)) - 1
    elif attribution == "last":
        bit = ibis.cases(*((joined.level == i + 1, 1 << i) for i in range(len(funnel.steps))), else_=0)
    else:
        bit = 1 if attribution == "first" else 1 << (int(attribution) - 1)
    joined = joined.filter((joined["mask"] & bit) > 0)
    values = joined.group_by(unit).aggregate(_value=joined._value.min())
    labelled = outcomes.left_join(values, unit)
    arrived = at if isinstance(attribution, int) else outcomes.s1
    value = ibis.cases((arrived.isnull(), NOT_REACHED), else_=labelled._value.fill_null(NOT_GIVEN))
    return labelled.select(*outcomes.columns, value=value)


def count_levels(outcomes: ir.Table, labels: Sequence[str] | None) -> pd.DataFrame:
    """Units by deepest step: (segment), level, units."""
    if labels is None:
        return outcomes.group_by("level").aggregate(units=lambda t: t.count()).to_pandas()
    kept = [*labels, NOT_GIVEN, NOT_REACHED]
    segment = ibis.cases((outcomes.value.isin(kept), outcomes.value), else_=OTHER)
    return outcomes.group_by(segment=segment, level="level").aggregate(units=lambda t: t.count()).to_pandas()


def choose_labels(outcomes: ir.Table) -> list[str]:
    """The values with the most units; the others are counted together."""
    named = outcomes.filter(~outcomes.value.isin([NOT_GIVEN, NOT_REACHED]))
    sizes = named.group_by("value").aggregate(units=lambda t: t.count())
    return sizes.order_by([sizes.units.desc(), sizes.value]).limit(SEGMENTS).to_pandas()["value"].tolist()


def measure_clustering(outcomes: ir.Table) -> float:
    """Sum of squares over sum of each user's units: the design effect if a user converted always or never."""
    per_user = outcomes.group_by("user_id").aggregate(times=lambda t: t.count())
    found = per_user.aggregate(total=per_user.times.sum(), squares=(per_user.times * per_user.times).sum()).to_pandas()
    total = found["total"].iloc[0]
    return float(found["squares"].iloc[0] / total) if total == total and total else 1.0


def to_moment(key: Any, funnel: Funnel) -> Any:
    """The second of a key as a UTC timestamp."""
    return (key // (funnel.scale * 1_000_000)).as_timestamp("s")


def count_trend(tables: TrendTables, funnel: Funnel, unit: list[str], clock: Clock) -> pd.DataFrame:
    """Units by interval of entry: cohort, entered (open windows too), settled and converted (mature entries only)."""
    place = [k for k in unit if k != "start"]
    attempts = "start" in unit

    def count(table: ir.Table, name: str) -> pd.DataFrame:
        placed = table.mutate(cohort=clock.place_moment(to_moment(table["key"], funnel)))
        columns = [*place, "cohort", *(["key"] if attempts else [])]
        return (
            placed.select(*columns).distinct().group_by("cohort").aggregate(**{name: lambda t: t.count()}).to_pandas()
        )

    frame = count(tables.entered, "entered")
    for table, name in ((tables.settled, "settled"), (tables.converted, "converted")):
        frame = frame.merge(count(table, name), on="cohort", how="left")
    return frame.fillna(0).astype("int64").sort_values("cohort", ignore_index=True)

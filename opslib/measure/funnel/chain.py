"""Following attempts through a funnel, in the engine.

An attempt begins at an entry event. Which steps it gets to, and when first, is found step by step: the next event of
the next step, at or after the one before. For each attempt that is exact, because an earlier arrival never closes a
way; only a limit on the time since the step before can make a later arrival better, and then all arrivals are kept.

The next event is found with a running minimum over both tables together, which every engine has. What DuckDB holds
is followed several times faster by `opslib.measure.funnel.line`, with the same answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ibis
import ibis.expr.types as ir

from opslib.measure.funnel.steps import Funnel, count_same_before

_NEVER = (1 << 62) - 1


def name_arrival(step: int) -> str:
    """The column with the key of the first arrival at a step, from 1."""
    return f"s{step}"


def trace_attempts(rows: ir.Table, entries: ir.Table, funnel: Funnel, *, best_only: bool = False) -> list[ir.Table]:
    """For each step the attempts that get to it.

    Args:
        rows: from `pick_rows`.
        entries: the rows of it that may start an attempt.
        funnel: what is followed.
        best_only: leave out, where that is faster, attempts that another one with a later entry is never behind.

    Returns:
        A table a step: the funnel's keys, start (the entry's key), s1 (the same), s2 ... with the key of the first
        arrival at each step so far.
    """
    began = entries.select(*funnel.keys, start="key", s1="key")
    if funnel.reentry == "first":
        began = began.group_by(*funnel.keys).aggregate(start=began.start.min(), s1=began.s1.min())
    elif funnel.order != "strict" and funnel.scale > 1:
        # Entries of one moment are one attempt: from the first of them all that the others could use is in reach.
        moments = began.mutate(_moment=funnel.floor(began.start))
        firsts = moments.group_by(*funnel.keys, "_moment").aggregate(start=moments.start.min(), s1=moments.s1.min())
        began = firsts.drop("_moment")
    elif funnel.reentry == "after":
        began = began.distinct()
    if funnel.order == "strict":
        return _trace_strict(rows, began, funnel)
    if funnel.order == "any":
        return _trace_any(rows, began, funnel)
    return _trace_ordered(rows, began, funnel, best_only and funnel.scale == 1)


def _trace_ordered(rows: ir.Table, began: ir.Table, funnel: Funnel, best_only: bool) -> list[ir.Table]:
    limits = [i for i, step in enumerate(funnel.steps) if i >= 2 and step.at_most is not None]
    levels = [began]
    arrivals = began
    for i in range(1, len(funnel.steps)):
        found = _rows_of(rows, i, funnel)
        before = levels[-1]
        if best_only and not limits:
            levels.append(_leave_last(before, found, i, funnel).cache())
            continue
        # Where a later step could ask for an event that is used up, the first way to get here is not enough.
        if not limits or (i > limits[-1] and not funnel.shared_steps):
            levels.append(_arrive_first(before, found, i, funnel).cache())
            continue
        arrivals = _arrive_anyhow(arrivals, found, i, funnel).cache()
        first = arrivals.group_by(*funnel.keys, "start").aggregate(_found=arrivals[name_arrival(i + 1)].min())
        joined = before.inner_join(first, [*funnel.keys, "start"])
        levels.append(joined.select(*before.columns, **{name_arrival(i + 1): joined._found}).cache())
    return levels


def _rows_of(rows: ir.Table, index: int, funnel: Funnel) -> ir.Table:
    return rows.filter((rows["mask"] & (1 << index)) > 0).select(*funnel.keys, found="key")


def _lowest(table: ir.Table, index: int, funnel: Funnel) -> Any:
    """The lowest key that may fill a step: not before the step before, and not an event that is used up."""
    before = table[name_arrival(index)]
    wait = funnel.steps[index].at_least
    lowest = funnel.floor(before)
    if wait:
        return lowest + funnel.length(wait)
    used = [table[name_arrival(i + 1)] + 1 for i, j in funnel.shared_steps if j == index]
    return ibis.greatest(lowest, *used) if used else lowest


def _leave_last(attempts: ir.Table, found: ir.Table, index: int, funnel: Funnel) -> ir.Table:
    """A step's events, each from the last attempt before it: attempts are many, events of the next step fewer.

    Of attempts with the same next event only the last counts, since all that follows is the same for them and its
    window ends last. Looking back is looking ahead with all signs changed.
    """
    step, name = funnel.steps[index], name_arrival(index)
    wait = funnel.length(step.at_least) if step.at_least else 0
    left = found.select(*funnel.keys, _from=wait - found.found, _at=found.found)
    right = attempts.select(*funnel.keys, found=-attempts[name])
    pairs = find_next(left, right, funnel.keys)
    if step.at_most is not None:
        pairs = pairs.filter(pairs._at + pairs.found <= funnel.length(step.at_most))
    firsts = pairs.group_by(*funnel.keys, "found").aggregate(_at=pairs._at.min())
    arrived = firsts.select(*funnel.keys, **{name: -firsts.found, name_arrival(index + 1): firsts._at})
    if index == 1:
        joined = arrived.mutate(start=arrived.s1).select(*funnel.keys, "start", "s1", "s2")
    else:
        joined = attempts.inner_join(arrived, [*funnel.keys, name])
    return joined.filter(joined[name_arrival(index + 1)] - joined.start <= funnel.length(funnel.window))


def _arrive_first(attempts: ir.Table, found: ir.Table, index: int, funnel: Funnel) -> ir.Table:
    joined = find_next(attempts.mutate(_from=_lowest(attempts, index, funnel)), found, funnel.keys)
    at = funnel.floor(joined.found)
    inside = [at - funnel.floor(joined.start) <= funnel.length(funnel.window)]
    most = funnel.steps[index].at_most
    if most is not None:
        inside.append(at - funnel.floor(joined[name_arrival(index)]) <= funnel.length(most))
    return joined.filter(*inside).rename({name_arrival(index + 1): "found"}).drop("_from")


def _arrive_anyhow(arrivals: ir.Table, found: ir.Table, index: int, funnel: Funnel) -> ir.Table:
    """All events that may fill a step, not only the first."""
    most, name = funnel.steps[index].at_most, name_arrival(index)
    latest = funnel.floor(arrivals.start) + funnel.length(funnel.window)
    if most is not None:
        latest = ibis.least(latest, funnel.floor(arrivals[name]) + funnel.length(most))
    left = arrivals.mutate(_from=_lowest(arrivals, index, funnel), _to=latest + (funnel.scale - 1))
    right = found.rename({f"_{k}": k for k in funnel.keys})
    same = [left[k] == right[f"_{k}"] for k in funnel.keys]
    joined = left.inner_join(right, [*same, right.found >= left._from, right.found <= left._to])
    # Which events were used before matters only where one event could fill several steps.
    path = [name_arrival(i + 1) for i in range(index)] if funnel.shared_steps else []
    return joined.select(*funnel.keys, "start", *path, **{name_arrival(index + 1): joined.found}).distinct()


def find_next(left: ir.Table, rows: ir.Table, keys: Sequence[str]) -> ir.Table:
    """Add to each row the next key of its kind; rows without one are left out.

    Args:
        left: the keys, _from, and further columns.
        rows: the keys, found.
        keys: columns that must be equal.

    Returns:
        The left columns and found: the smallest of the rows' that is not below _from.
    """
    others = [c for c in left.columns if c not in (*keys, "_from")]
    ours = left.select(*keys, "_from", *others, _row=ibis.literal(0, "int8"))
    blank = {c: ibis.null(left[c].type()) for c in others}
    theirs = rows.select(*keys, _from=rows.found, **blank, _row=ibis.literal(1, "int8"))
    both = ours.union(theirs)
    later = ibis.cases((both._row == 1, both._from), else_=None).min()
    both = both.mutate(found=later.over(group_by=keys, order_by=["_from", "_row"], rows=(0, None)))
    return both.filter((both._row == 0) & both.found.notnull()).select(*left.columns, "found")


def _trace_strict(rows: ir.Table, began: ir.Table, funnel: Funnel) -> list[ir.Table]:
    """The next event of any kind must be the next step."""
    count = len(funnel.steps)
    line = ibis.window(group_by=list(funnel.keys), order_by="key")
    nexts = {name_arrival(i + 1): rows.key.lead(i).over(line) for i in range(1, count)}
    masks = {f"_m{i}": rows["mask"].lead(i).over(line) for i in range(1, count)}
    ahead = rows.select(*funnel.keys, start="key", **nexts, **masks)
    joined = began.inner_join(ahead, [*funnel.keys, "start"]).cache()
    levels = [began]
    inside = joined
    for i in range(1, count):
        step, at, before = funnel.steps[i], inside[name_arrival(i + 1)], inside[name_arrival(i)]
        since = funnel.floor(at) - funnel.floor(before)
        good = [
            (inside[f"_m{i}"] & (1 << i)) > 0,
            funnel.floor(at) - funnel.floor(inside.start) <= funnel.length(funnel.window),
        ]
        if step.at_least:
            good.append(since >= funnel.length(step.at_least))
        if step.at_most is not None:
            good.append(since <= funnel.length(step.at_most))
        inside = inside.filter(*good)
        levels.append(inside.select(*funnel.keys, "start", *(name_arrival(j + 1) for j in range(i + 1))))
    return levels


def _trace_any(rows: ir.Table, began: ir.Table, funnel: Funnel) -> list[ir.Table]:
    """Each step's first event from the entry on; the attempt gets to as many steps as there are such events."""
    count = len(funnel.steps)
    began = began.distinct() if funnel.scale == 1 else began
    attempts = began
    for i in range(count):
        found = _rows_of(rows, i, funnel)
        # The second of two equal steps takes the second event.
        nth = found.found.lead(count_same_before(funnel, i)).over(group_by=funnel.keys, order_by="found")
        nexts = find_next(began.mutate(_from=began.start), found, funnel.keys)
        later = found.mutate(_nth=nth).group_by(*funnel.keys, "found").aggregate(_nth=lambda t: t._nth.max())
        hit = nexts.inner_join(later, [*funnel.keys, "found"]).select(*funnel.keys, "start", **{f"_t{i}": "_nth"})
        joined = attempts.left_join(hit, [*funnel.keys, "start"])
        attempts = joined.select(*attempts.columns, f"_t{i}")
    latest = funnel.floor(attempts.start) + funnel.length(funnel.window) + (funnel.scale - 1)
    times = [
        ibis.cases((attempts[f"_t{i}"] <= latest, attempts[f"_t{i}"]), else_=_NEVER).cast("int64") for i in range(count)
    ]
    attempts = attempts.mutate(_sorted=ibis.array(times).sort())
    names = {name_arrival(i + 1): attempts._sorted[i] for i in range(count)}
    placed = attempts.select(*funnel.keys, "start", **names).cache()
    return [
        placed.filter(placed[name_arrival(i + 1)] < _NEVER).select(
            *funnel.keys, "start", *(name_arrival(j + 1) for j in range(i + 1))
        )
        for i in range(count)
    ]


def gather_attempts(levels: Sequence[ir.Table], funnel: Funnel) -> ir.Table:
    """One row an attempt: the keys, start, s1 ... (missing where it did not arrive), level, reached (last arrival)."""
    names = [name_arrival(i + 1) for i in range(len(levels))]
    tables = []
    for i, level in enumerate(levels):
        blank = {name: ibis.null("int64") for name in names[i + 1 :]}
        tables.append(level.select(*funnel.keys, "start", *names[: i + 1], **blank, level=ibis.literal(i + 1, "int8")))
    together = ibis.union(*tables) if len(tables) > 1 else tables[0]
    most = {name: together[name].max() for name in (*names, "level")}
    attempts = together.group_by(*funnel.keys, "start").aggregate(**most)
    return attempts.mutate(reached=ibis.coalesce(*(attempts[name] for name in reversed(names))))


def keep_unspoiled(attempts: ir.Table, rows: ir.Table, funnel: Funnel) -> ir.Table:
    """Leave out the attempts with an excluded event between the two steps that the exclusion names."""
    for i, exclusion in enumerate(funnel.exclusions):
        after = attempts[name_arrival(exclusion.after)]
        before = attempts[name_arrival(exclusion.before or len(funnel.steps))]
        window_end = funnel.floor(attempts.start) + funnel.length(funnel.window) + funnel.scale
        watched = attempts.filter(after.notnull()).mutate(
            _from=funnel.floor(after) + funnel.scale, _to=ibis.coalesce(funnel.floor(before), window_end)
        )
        bad = find_next(watched, _rows_of(rows, len(funnel.steps) + i, funnel), funnel.keys)
        spoiled = bad.filter(bad.found < bad._to).select(*funnel.keys, "start")
        attempts = attempts.anti_join(spoiled, [*funnel.keys, "start"]).cache()
    return attempts


def keep_separate(attempts: ir.Table, funnel: Funnel) -> ir.Table:
    """Keep attempts that begin only after the one before has ended: converted, or its window over.

    Each attempt points to the one that may follow it; pointers are doubled, so that ten thousand attempts take
    fourteen rounds.
    """
    keys = list(funnel.keys)
    last = name_arrival(len(funnel.steps))
    over = funnel.floor(attempts.start) + funnel.length(funnel.window) + (funnel.scale - 1)
    ended = attempts.select(*keys, "start", _from=ibis.coalesce(attempts[last], over) + 1)
    starts = attempts.select(*keys, found="start")
    jump = find_next(ended, starts, keys).select(*keys, "start", to="found").cache()
    kept = attempts.group_by(keys).aggregate(start=attempts.start.min()).cache()
    while jump.count().to_pandas() > 0:
        further = kept.inner_join(jump, [*keys, "start"]).select(*keys, start="to")
        kept = kept.union(further, distinct=True).cache()
        onward = jump.rename(_to="to").inner_join(jump.rename(_to="start"), [*keys, "_to"])
        jump = onward.select(*keys, "start", "to").cache()
    return attempts.semi_join(kept, [*keys, "start"])

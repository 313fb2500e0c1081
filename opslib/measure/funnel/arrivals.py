"""Who got to a step of a funnel, with what is known of them there, and whether they went on."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Sequence
from typing import Literal

import ibis.expr.types as ir

from opslib.data.periods import Calendar, Period
from opslib.errors import InputError, suggest_name
from opslib.measure.funnel.chain import name_arrival
from opslib.measure.funnel.funnel import WINDOW
from opslib.measure.funnel.outcomes import to_moment
from opslib.measure.funnel.plans import read_attempts
from opslib.measure.funnel.steps import Exclusion, Order, Step, check_names, make_funnel


def list_arrivals(
    events: ir.Table,
    steps: Sequence[str | Step],
    *,
    step: int,
    columns: Sequence[str] = (),
    period: Period,
    as_of: dt.date,
    window: dt.timedelta = WINDOW,
    calendar: Calendar | None = None,
    order: Order = "ordered",
    exclusions: Sequence[str | Exclusion] = (),
    hold: str = "",
    unit: Literal["users", "attempts"] = "users",
) -> ir.Table:
    """List who got to the step before one, and whether they went on to it.

    Args:
        step: number of the step, from 2.
        columns: columns of the events, taken from the event that filled the step before.
        unit: "users", each by the best attempt; or all "attempts".
        events, steps, period, as_of, window, calendar, order, exclusions, hold: as in `measure_funnel`.

    Returns:
        An Ibis table, nothing of it fetched, one row a user (attempt) whose window is over: user_id, entered_at
        and arrived_at (at the step before; UTC, to the second), converted (a flag), the columns. Its rows are the
        entrants of that step in `measure_funnel`.

    Raises:
        InputError: there is no such step or column; otherwise as `measure_funnel`.

    >>> import ibis
    >>> at = [dt.datetime(2026, 1, 1, hour) for hour in (8, 9, 8)]
    >>> rows = {"user_id": [1, 1, 2], "ts": at, "event": ["view", "pay", "view"], "platform": ["ios", "ios", "web"]}
    >>> days = {"period": Period(dt.date(2026, 1, 1), dt.date(2026, 2, 1), "January"), "as_of": dt.date(2026, 3, 1)}
    >>> found = list_arrivals(ibis.memtable(rows), ["view", "pay"], step=2, columns=["platform"], **days)
    >>> found.order_by("user_id").to_pandas()[["converted", "platform"]].values.tolist()
    [[True, 'ios'], [False, 'web']]
    """
    for column in columns:
        if column not in events.columns:
            raise InputError(f"The events have no column '{column}'.{suggest_name(column, events.columns)}")
    funnel = make_funnel(
        events,
        steps,
        period=period,
        as_of=as_of,
        window=window,
        calendar=calendar,
        order=order,
        exclusions=exclusions,
        hold=hold,
    )
    if not 2 <= step <= len(funnel.steps):
        raise InputError(f"Nobody can drop at step {step}: choose one from 2 to {len(funnel.steps)}.")
    carried = tuple(c for c in columns if c not in funnel.keys)
    funnel = dataclasses.replace(funnel, values=carried)
    attempts = read_attempts(events, funnel, unit)
    check_names(events, attempts.count_masks(), funnel)
    outcomes, rows = attempts.settle(True).outcomes, attempts.rows
    there = outcomes.filter(outcomes.level >= step - 1)
    there = there.mutate(_at=there[name_arrival(step - 1)], converted=there.level >= step)
    # Without columns too: what the packed plan found belongs to no engine until it meets one of its tables.
    bits = (1 << len(funnel.steps)) - 1 if funnel.order == "any" else 1 << (step - 2)
    filled = rows.filter((rows["mask"] & bits) > 0)
    known = filled.group_by(**{f"_{k}": filled[k] for k in funnel.keys}, _key=filled.key).aggregate(
        **{c: filled[c].min() for c in carried}
    )
    joined = there.inner_join(known, [*(there[k] == known[f"_{k}"] for k in funnel.keys), there._at == known._key])
    moments = {"entered_at": to_moment(joined.s1, funnel), "arrived_at": to_moment(joined._at, funnel)}
    return joined.select("user_id", *columns, **moments, converted=joined.converted)

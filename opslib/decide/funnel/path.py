"""Which funnel is looked at: one of the playbook's, one written out, or a guess; and where its events are."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Sequence
from dataclasses import dataclass

import ibis
import ibis.expr.types as ir

from opslib.data.memory import remember
from opslib.data.playbook import FunnelSettings
from opslib.data.source import Data
from opslib.decide.scope import Scope
from opslib.errors import InputError, suggest_name
from opslib.language import say
from opslib.measure.funnel.steps import Exclusion, Order, Step

ARROW = ">"
# Without a funnel in the playbook: so many of the events that most users have.
GUESSED_STEPS = 4
SHOWN_NAMES = 12
# Names that are not in the events, and what they then mean: table and its time.
OTHER_TABLES = {"order": ("orders", "ts"), "sign_up": ("users", "signup_at")}


@dataclass(frozen=True)
class FunnelPath:
    """A funnel's steps and rules.

    Attributes:
        name: what to call it; empty for one that was written out or guessed.
        steps: the steps.
        window: from the entry to the last step, the end included.
        order, exclusions, hold: see `measure_funnel`.
        guessed: nobody named these steps.
    """

    name: str
    steps: tuple[Step, ...]
    window: dt.timedelta
    order: Order = "ordered"
    exclusions: tuple[Exclusion, ...] = ()
    hold: str = ""
    guessed: bool = False

    @property
    def window_days(self) -> int:
        """The window in whole days, begun ones too."""
        return math.ceil(self.window / dt.timedelta(days=1))

    @property
    def events(self) -> list[str]:
        """The names of all events that the funnel asks for."""
        wanted = [step.event for step in self.steps] + [one.event for one in self.exclusions]
        return list(dict.fromkeys(name for name in wanted if name is not None))

    @property
    def labels(self) -> list[str]:
        """What to call each step; a repeated one says how often it came before."""
        names = [step.label for step in self.steps]
        return [
            name if name not in names[:i] else say("{step} (no. {number})", step=name, number=names[:i].count(name) + 1)
            for i, name in enumerate(names)
        ]


@remember
def choose_path(data: Data, text: str = "", *, window_days: float = 0) -> FunnelPath:
    """Choose a funnel.

    Args:
        data: the company's data.
        text: the name of a funnel of the playbook, or steps written as `view_item > add_to_cart > pay`; empty: the
            playbook's first or, without any, the most used events.
        window_days: how long somebody may take; 0: the playbook's, or 7.

    Returns:
        A `FunnelPath`.

    Raises:
        InputError: no such funnel, fewer than two steps, or a name that is no event.
    """
    funnels = data.playbook.funnels
    text = text.strip()
    if text and ARROW not in text and text not in funnels:
        known = f"The playbook's are: {', '.join(funnels)}." if funnels else "The playbook has none."
        raise InputError(
            f"There is no funnel '{text}'.{suggest_name(text, funnels)} {known} "
            "Or write its steps out, as in view_item > add_to_cart > pay."
        )
    chosen = text or next(iter(funnels), "")
    if chosen in funnels:
        path = _read_settings(chosen, funnels[chosen])
    else:
        names = [part.strip() for part in chosen.split(ARROW)] if chosen else _guess_steps(data)
        if len(names) < 2 or not all(names):
            raise InputError(f"A funnel needs at least two steps, written as view_item > pay; this is '{chosen}'.")
        path = FunnelPath("", tuple(Step(name, known=True) for name in names), dt.timedelta(days=7), guessed=not chosen)
    if window_days:
        path = FunnelPath(
            path.name, path.steps, dt.timedelta(days=window_days), path.order, path.exclusions, path.hold, path.guessed
        )
    _check_events(data, path)
    return path


def _read_settings(name: str, settings: FunnelSettings) -> FunnelPath:
    steps = tuple(
        Step(
            step.event,
            step.where or None,
            at_most=None if step.within_hours is None else dt.timedelta(hours=step.within_hours),
            name=step.name,
            known=True,
        )
        for step in settings.steps
    )
    window = dt.timedelta(days=settings.window_days)
    exclusions = tuple(Exclusion(event, known=True) for event in settings.excluded_events)
    return FunnelPath(name, steps, window, settings.order, exclusions, settings.hold)


def _guess_steps(data: Data) -> list[str]:
    """The events that most users have, most first; the only event twice; orders where there are no events."""
    if not data.has("events"):
        return ["order", "order"]
    events = data.table("events")
    counted = events.group_by("event").aggregate(users=events.user_id.nunique())
    top = data.execute(counted.filter(counted.event.notnull()).order_by([counted.users.desc(), "event"]).limit(50))
    names = [str(name) for name in top["event"]][:GUESSED_STEPS]
    return names if len(names) > 1 else names * 2


def _check_events(data: Data, path: FunnelPath) -> None:
    """Refuse a name that no event has, with the nearest one."""
    known = _list_names(data) if data.has("events") else []
    others = [name for name, (table, _) in OTHER_TABLES.items() if data.has(table)]
    for name in path.events:
        if name not in known and name not in others:
            place = f"funnels.{path.name}: no" if path.name else "No"
            raise InputError(
                f"{place} event is called '{name}'.{suggest_name(name, [*known, *others])} "
                f"Events: {', '.join([*known[:SHOWN_NAMES], *others]) or 'none at all'}."
            )


def _list_names(data: Data) -> list[str]:
    events = data.table("events")
    counted = events.group_by("event").aggregate(rows=lambda t: t.count())
    found = data.execute(counted.order_by([counted.rows.desc(), "event"]).limit(10_000))
    return [str(name) for name in found["event"].dropna()]


def gather_events(scope: Scope, path: FunnelPath) -> ir.Table:
    """The events that a funnel's steps are found in.

    Returns:
        user_id, ts, event and the columns of the events. Where a step called `order` or `sign_up` is no event, the
        orders or sign-ups stand for it.
    """
    return _gather_events(scope, path.events)


def _gather_events(scope: Scope, names: Sequence[str]) -> ir.Table:
    events = scope.table("events")
    missing = [name for name in names if name in OTHER_TABLES]
    if events is not None and missing:
        known = set(_list_names(scope.data))
        missing = [name for name in missing if name not in known]
    tables = [] if events is None else [events]
    for name in missing:
        table, time = OTHER_TABLES[name]
        rows = scope.restrict(scope.data.table(table))
        rows = rows.filter(rows[time] < ibis.timestamp(scope.data.calendar.day_start(scope.as_of + dt.timedelta(1))))
        tables.append(_name_rows(rows, name, time))
    return _stack(tables)


def keep_events(scope: Scope, path: FunnelPath) -> ir.Table:
    """The same, kept in the engine: several stages read them."""
    others = tuple(name for name in path.events if name in OTHER_TABLES)
    return _keep_events(scope.narrow(now=False), others)


@remember
def _keep_events(scope: Scope, names: tuple[str, ...]) -> ir.Table:
    return _gather_events(scope, names).cache()


def list_columns(scope: Scope, path: FunnelPath) -> list[str]:
    """Columns of the events, then of users, with few enough values to be groups."""
    others = tuple(name for name in path.events if name in OTHER_TABLES)
    return _list_columns(scope.narrow(now=False), others)


@remember
def _list_columns(scope: Scope, names: tuple[str, ...]) -> list[str]:
    events = _keep_events(scope, names)
    texts = [
        name
        for name in events.columns
        if name not in ("user_id", "ts", "event", "session_id")
        and (events[name].type().is_string() or events[name].type().is_boolean())
    ]
    return scope.find_groups(events, texts) + [name for name in scope.dimensions if name not in texts]


def _name_rows(rows: ir.Table, name: str, time: str) -> ir.Table:
    kept = [c for c in rows.columns if c not in ("user_id", "ts", "event", time) and rows[c].type().is_string()]
    return rows.select(*kept, user_id=rows.user_id, ts=rows[time], event=ibis.literal(name))


def _stack(tables: Sequence[ir.Table]) -> ir.Table:
    """One table of all rows; a column that some lack is missing there."""
    if len(tables) == 1:
        return tables[0]
    kinds = {column: table[column].type() for table in reversed(tables) for column in table.columns}
    parts = [
        table.select(**{c: table[c].cast(kind) if c in table.columns else ibis.null(kind) for c, kind in kinds.items()})
        for table in tables
    ]
    return ibis.union(*parts)

"""What an experiment is measured by: metrics, and the one row a user that they are read from.

Metrics come from what users did after exposure (`collect_outcomes`), or from columns of a table that holds one row a
user already (`select_outcomes`). Both give the same table, which `experiment_moments` aggregates.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import ibis
import ibis.expr.types as ir

from opslib.data.periods import DAY, Calendar
from opslib.errors import InputError, suggest_name
from opslib.measure.estimate import Unit

How = Literal["any", "rows", "days", "sum", "distinct"]
Kind = Literal["conversion", "mean", "ratio"]
Role = Literal["primary", "secondary", "guardrail"]

_UNITS: dict[str, Unit] = {"_rate": "rate", "_count": "count", "_amount": "amount", "_days": "days"}


@dataclass(frozen=True)
class Behavior:
    """What a user did, as one number a user.

    Attributes:
        table: the table's name among those given.
        events: names of events that count; empty: all rows.
        how: "any" (1 or 0), "rows", "days" (local days with a row), "sum" or "distinct" values of `column`.
        column: what is summed or told apart.
        days: the window after exposure: from the first number of days to before the second.
        clock: "moment": days are 24 hours from the moment of exposure; "day": local days, 0 that of the exposure. What
            was done before the exposure never counts.
        at_least: with "any", so many rows are needed.
    """

    table: str = "events"
    events: tuple[str, ...] = ()
    how: How = "any"
    column: str = ""
    days: tuple[int, int] = (0, 7)
    clock: Literal["moment", "day"] = "moment"
    at_least: int = 1


@dataclass(frozen=True)
class Metric:
    """One metric of an experiment.

    Attributes:
        name: with its unit as the suffix, for example `pay_rate` or `revenue_amount`.
        of: a behaviour, or a column of the table of users (missing: the user's window is not over).
        per: of a ratio metric, what it is divided by: a behaviour or a column.
        before: for CUPED, how many days before the exposure the same behaviour is taken from (0: none), or the column.
        before_per: the same of `per`, for columns.
        mature: a column that says whether the user's window is over.
        role: "primary" metrics decide, "guardrail" metrics must not get worse, "secondary" ones are told.
        better: "higher" or "lower".
        margin: of a guardrail, the loss that is still accepted, as a share of the control's value.
        worth: of a primary metric, the smallest gain worth having, as a share of the control's value (0: any).
        cap: larger values count as this.
    """

    name: str
    of: Behavior | str
    per: Behavior | str | None = None
    before: int | str = 0
    before_per: str = ""
    mature: str = ""
    role: Role = "secondary"
    better: Literal["higher", "lower"] = "higher"
    margin: float = 0.05
    worth: float = 0.0
    cap: float | None = None

    @property
    def sign(self) -> int:
        """1 where more is better, else -1."""
        return 1 if self.better == "higher" else -1

    @property
    def unit(self) -> Unit:
        """The unit that the name's suffix states."""
        return next((unit for suffix, unit in _UNITS.items() if self.name.endswith(suffix)), "ratio")


@dataclass(frozen=True)
class Outcomes:
    """One row a user, ready to be aggregated.

    Attributes:
        table: variant, day (of exposure, may be missing throughout); of metric number i: v{i} value, p{i} what it is
            divided by, b{i} and c{i} the same before exposure, m{i} the window is over. Only what the metric has.
        kinds: kind of each metric.
        columns: value columns of each metric, v{i} first.
    """

    table: ir.Table
    metrics: tuple[Metric, ...]
    kinds: tuple[Kind, ...]
    columns: tuple[tuple[str, ...], ...]


def check_metrics(metrics: Sequence[Metric], *, columns: bool) -> tuple[Metric, ...]:
    """Refuse metrics that cannot be measured.

    Args:
        metrics: what was asked for.
        columns: True when metrics are columns of a table of users, False when they are behaviours.

    Raises:
        InputError: none at all, two of one name, a primary one missing, a window or margin that makes no sense.
    """
    if not metrics:
        raise InputError("An experiment needs at least one metric.")
    names = [m.name for m in metrics]
    twice = next((n for n in names if names.count(n) > 1), None)
    if twice:
        raise InputError(f"Two metrics of the experiment are called '{twice}': give each its own name.")
    for metric in metrics:
        for part in (metric.of, metric.per):
            if part is None:
                continue
            if isinstance(part, str) != columns:
                wanted = "columns of the table of users" if columns else "behaviours (`Behavior`)"
                raise InputError(f"Metric '{metric.name}': metrics of this table are {wanted}.")
            if isinstance(part, Behavior):
                _check_behavior(metric.name, part)
        if isinstance(metric.before, str) != columns and metric.before not in (0, ""):
            wanted = "a column" if columns else "a number of days"
            raise InputError(f"Metric '{metric.name}': what went before exposure is given as {wanted}.")
        if metric.margin < 0 or metric.worth < 0 or (isinstance(metric.before, int) and metric.before < 0):
            raise InputError(f"Metric '{metric.name}': margin, worth and before are not negative.")
    return tuple(metrics)


def _check_behavior(name: str, behavior: Behavior) -> None:
    first, last = behavior.days
    if not 0 <= first < last:
        raise InputError(
            f"Metric '{name}': the window of days {first} to before {last} is empty or starts before the exposure."
        )
    if behavior.how in ("sum", "distinct") and not behavior.column:
        raise InputError(f"Metric '{name}': '{behavior.how}' needs a column.")


def select_outcomes(users: ir.Table, metrics: Sequence[Metric], *, variant: str, day: str = "") -> Outcomes:
    """Take the outcomes from a table of one row a user.

    Args:
        users: the columns that the metrics, `variant` and `day` name.
        day: the column with the day of exposure, if there is one.

    Raises:
        InputError: a column that the table does not have, or one that is no number.
    """
    metrics = check_metrics(metrics, columns=True)
    known = users.columns

    def read(metric: Metric, column: str) -> Any:
        if column not in known:
            raise InputError(f"Metric '{metric.name}': there is no column '{column}'.{suggest_name(column, known)}")
        kind = users[column].type()
        if not (kind.is_numeric() or kind.is_boolean()):
            raise InputError(f"Metric '{metric.name}': column '{column}' holds {kind}, not numbers.")
        value = users[column].cast("float64")
        return value.nullif(float("nan")) if kind.is_floating() else value

    values: dict[str, Any] = {}
    kinds: list[Kind] = []
    columns = []
    for i, metric in enumerate(metrics):
        assert isinstance(metric.of, str) and (metric.per is None or isinstance(metric.per, str))
        value = read(metric, metric.of)
        parts = {f"v{i}": _cap(value, metric.cap)}
        mature = value.notnull()
        if metric.per is not None:
            parts[f"p{i}"] = read(metric, metric.per)
            mature = mature & parts[f"p{i}"].notnull()
        if metric.before:
            # Whatever stands in for a missing value is fair, as long as it does not depend on the variant.
            parts[f"b{i}"] = _cap(read(metric, str(metric.before)), metric.cap).fill_null(0.0)
            if metric.per is not None and metric.before_per:
                parts[f"c{i}"] = read(metric, metric.before_per).fill_null(0.0)
        if metric.mature:
            if metric.mature not in known:
                raise InputError(
                    f"Metric '{metric.name}': there is no column '{metric.mature}'.{suggest_name(metric.mature, known)}"
                )
            mature = mature & users[metric.mature].cast("boolean").fill_null(False)
        values |= {**parts, f"m{i}": mature}
        columns.append(tuple(parts))
        flag = users[metric.of].type().is_boolean() and metric.per is None
        kinds.append("ratio" if metric.per is not None else "conversion" if flag else "mean")
    date = users[day].cast("date") if day else ibis.null("date")
    table = users.select(variant=users[variant].cast("string"), day=date, **values)
    return Outcomes(table, metrics, tuple(kinds), tuple(columns))


def collect_outcomes(
    assigned: ir.Table,
    tables: Mapping[str, ir.Table],
    metrics: Sequence[Metric],
    *,
    span: tuple[dt.datetime, dt.datetime],
    as_of: dt.date,
    calendar: Calendar,
) -> Outcomes:
    """Collect what each assigned user did, one pass over each table.

    Args:
        assigned: user_id, variant, exposed_at (UTC), day (local); one row a user.
        tables: name -> user_id, ts (UTC) and the columns that the behaviours name.
        span: first and last exposure: rows that belong to nobody's window are left out early.

    Raises:
        InputError: a table or column that is not there.
    """
    metrics = check_metrics(metrics, columns=False)
    parts: dict[str, tuple[Behavior, int]] = {}
    kinds: list[Kind] = []
    columns = []
    for i, metric in enumerate(metrics):
        assert isinstance(metric.of, Behavior) and isinstance(metric.before, int)
        own = {f"v{i}": (metric.of, 0)}
        if isinstance(metric.per, Behavior):
            own[f"p{i}"] = (metric.per, 0)
        if metric.before:
            own |= {name.replace("v", "b").replace("p", "c"): (b, metric.before) for name, (b, _) in own.items()}
        parts |= own
        columns.append(tuple(own))
        kinds.append("ratio" if metric.per is not None else "conversion" if metric.of.how == "any" else "mean")
    users = assigned
    for name in dict.fromkeys(behavior.table for behavior, _ in parts.values()):
        if name not in tables:
            raise InputError(f"The metrics name a table '{name}' that is not given.{suggest_name(name, tables)}")
        wanted = {key: part for key, part in parts.items() if part[0].table == name}
        done = _count_behaviors(assigned, tables[name], wanted, span, as_of, calendar)
        users = users.left_join(done, "user_id").drop("user_id_right")
    end = ibis.timestamp(calendar.day_start(as_of + DAY))
    values: dict[str, Any] = {}
    for i, metric in enumerate(metrics):
        for key in columns[i]:
            value = users[key].fill_null(0.0)
            values[key] = _cap(value, metric.cap) if key[0] in "vb" else value
        over = [_is_over(users, b, end, as_of) for b in (metric.of, metric.per) if isinstance(b, Behavior)]
        values[f"m{i}"] = over[0] & over[-1]
    table = users.select("user_id", "variant", "day", **values)
    return Outcomes(table, metrics, tuple(kinds), tuple(columns))


def _is_over(users: ir.Table, behavior: Behavior, end: Any, as_of: dt.date) -> Any:
    """Whether the user's window had passed by the end of `as_of`."""
    last = behavior.days[1]
    if behavior.clock == "day":
        return users.day <= as_of - (last - 1) * DAY
    return users.exposed_at + ibis.interval(hours=24 * last) <= end


def _count_behaviors(
    assigned: ir.Table,
    table: ir.Table,
    wanted: Mapping[str, tuple[Behavior, int]],
    span: tuple[dt.datetime, dt.datetime],
    as_of: dt.date,
    calendar: Calendar,
) -> ir.Table:
    """One row a user with rows in the table: user_id and the wanted numbers."""
    behaviors = [behavior for behavior, _ in wanted.values()]
    needed = {"user_id", "ts", *(b.column for b in behaviors if b.column)}
    if any(b.events for b in behaviors):
        needed.add("event")
    for column in sorted(needed):
        if column not in table.columns:
            name = behaviors[0].table
            raise InputError(f"Table '{name}' has no column '{column}'.{suggest_name(column, table.columns)}")
    earliest = span[0] - max(before for _, before in wanted.values()) * DAY
    latest = min(span[1] + (max(b.days[1] for b in behaviors) + 1) * DAY, calendar.day_start(as_of + DAY))
    near = table.filter(table.ts >= ibis.timestamp(earliest), table.ts < ibis.timestamp(latest))
    if all(b.events for b in behaviors):
        near = near.filter(near.event.isin(sorted({e for b in behaviors for e in b.events})))
    # The table's own columns may be called day or exposed_at.
    people = assigned.select("user_id", _exposed_at="exposed_at", _day="day")
    rows = near.select(*sorted(needed)).join(people, "user_id")
    # Neighbours in time that are in no window are dropped before they are told apart.
    reach = max(before for _, before in wanted.values())
    rows = rows.filter(rows.ts >= rows["_exposed_at"] - ibis.interval(hours=24 * reach))
    on = calendar.local_day(rows.ts)
    values = {}
    for key, (behavior, before) in wanted.items():
        counts = _within(rows, on, behavior, before)
        if behavior.events:
            counts = counts & rows.event.isin(behavior.events)
        values[key] = _reduce(rows, on, behavior, counts).cast("float64")
    return rows.group_by("user_id").aggregate(**values)


def _within(rows: ir.Table, on: Any, behavior: Behavior, before: int) -> Any:
    if before:
        earliest = rows["_exposed_at"] - ibis.interval(hours=24 * before)
        return (rows.ts < rows["_exposed_at"]) & (rows.ts >= earliest)
    first, last = behavior.days
    if behavior.clock == "day":
        age = on.delta(rows["_day"], unit="day")
        return (rows.ts >= rows["_exposed_at"]) & (age >= first) & (age < last)
    start, end = (rows["_exposed_at"] + ibis.interval(hours=24 * n) for n in (first, last))
    return (rows.ts >= start) & (rows.ts < end)


def _reduce(rows: ir.Table, on: Any, behavior: Behavior, counts: Any) -> Any:
    if behavior.how == "sum":
        value = rows[behavior.column].cast("float64")
        return value.sum(where=counts).fill_null(0.0)
    if behavior.how == "distinct":
        return rows[behavior.column].nunique(where=counts)
    if behavior.how == "days":
        return on.nunique(where=counts)
    number = rows.count(where=counts)
    return (number >= behavior.at_least).cast("int64") if behavior.how == "any" else number


def _cap(value: Any, cap: float | None) -> Any:
    return value if cap is None else ibis.ifelse(value > cap, float(cap), value)

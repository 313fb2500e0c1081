"""Reasons: behaviours before a day that may make users leave, written as data, and counted in one pass a table.

A reason says what must have happened how often in which days before the index day. Nothing after that day is looked at:
rows are placed by a time that lies at or before it, and every other time of a row that lies after it (a ticket closed,
a coupon redeemed next week) counts as not known yet.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import ibis
import ibis.expr.types as ir

from opslib.data.contract import CONTRACTS
from opslib.data.periods import Calendar
from opslib.errors import InputError, suggest_name
from opslib.explain.causes_cases import Cases
from opslib.measure.churn.spells import EPOCH
from opslib.measure.grains import index_days

_NAME = r"([^\W\d]\w*)"
_BETWEEN = re.compile(rf"^{_NAME} to {_NAME} (>=|<=|>|<) ([\d.]+) (hours|days)$")
_COMPARED = re.compile(rf"^{_NAME} (=|!=|>=|<=|>|<) (.+)$")
_LISTED = re.compile(rf"^{_NAME} in (.+)$")
_KNOWN = re.compile(rf"^{_NAME} (missing|given)$")
_FLAG = re.compile(rf"^(not )?{_NAME}$")
GRAMMAR = (
    "event = pay, amount >= 100, category in a; b, closed_at missing, is_complaint, opened_at to closed_at > 48 hours"
)


@dataclass(frozen=True)
class Occurrence:
    """How often rows of a table must lie in some days before the index day.

    Attributes:
        days: from the first number of days before the index day (0 is that day itself) to before the second. A first
            number below 0 looks at days after it, which only a date fixed in advance may: see `known_at`.
        where: conditions on a row, all of which must hold: `event = pay`, `amount >= 100`, `category in a; b`,
            `closed_at missing`, `is_complaint`, `not opened`, `opened_at to closed_at > 48 hours`.
        at: the column with the time that places a row; empty: the table's own.
        known_at: the column that says since when the time was known, such as a coupon's `issued_at` for `expires_at`.
        at_least, at_most: between how many such rows; no upper bound where it is None.
    """

    days: tuple[int, int]
    where: tuple[str, ...] = ()
    at: str = ""
    known_at: str = ""
    at_least: int = 1
    at_most: int | None = None


@dataclass(frozen=True)
class Reason:
    """A behaviour that may make users leave.

    Attributes:
        name: what it is, for example `coupon_expired_unused`, or `not_used:search` for one of many of a kind.
        table: the table that its rows are in.
        needs: occurrences, all of which must hold.
        rise: (column, factor): the column's mean over the rows of the first occurrence must be at least so many times
            its mean over those of the second.
    """

    name: str
    table: str
    needs: tuple[Occurrence, ...]
    rise: tuple[str, float] | None = None

    @property
    def kind(self) -> str:
        """The name without what it is about."""
        return self.name.partition(":")[0]

    @property
    def about(self) -> str:
        """What it is about, such as the event's name, or an empty text."""
        return self.name.partition(":")[2]

    @property
    def look_back_days(self) -> int:
        """How many days with us a user needs for the reason to mean anything."""
        return max(need.days[1] for need in self.needs)


def check_reason(reason: Reason) -> None:
    """Refuse a reason that looks beyond the index day, or that makes no sense.

    Raises:
        InputError: which reason, and why.
    """
    where = f"Reason '{reason.name}'"
    if not reason.needs:
        raise InputError(f"{where} says nothing that must have happened: give it at least one occurrence.")
    if reason.rise is not None and len(reason.needs) < 2:
        raise InputError(f"{where} compares a mean with an earlier one, so it needs two occurrences.")
    for need in reason.needs:
        first, end = need.days
        if first >= end:
            raise InputError(f"{where}: days {first} to before {end} are none. Write (0, 14) for the last 14 days.")
        if first < 0 and not need.known_at:
            raise InputError(
                f"{where} looks {-first} days beyond the index day: what happens after it is an effect of leaving, no "
                "reason for it. A date fixed in advance may lie there if known_at names when it was fixed."
            )
        if need.at_least < 0 or (need.at_most is not None and need.at_most < need.at_least):
            raise InputError(f"{where}: at least {need.at_least} and at most {need.at_most} rows cannot be.")


def flag_reasons(
    cases: Cases, tables: Mapping[str, ir.Table], reasons: Sequence[Reason], *, calendar: Calendar
) -> ir.Table:
    """Say of each case which reasons hold: one pass a table.

    Args:
        cases: leavers and stayers with their index days.
        tables: contract tables by name, as far as there are any.
        reasons: what to look for.
        calendar: the company's clock.

    Returns:
        An Ibis table: left, the strata and factors, and for each reason `r0`, `r1`, ... 1 or 0, missing where a user
        was not with us for as long as the reason looks back.

    Raises:
        InputError: a reason that looks beyond the index day, or names a table or column that is not there.
    """
    for reason in reasons:
        check_reason(reason)
        if reason.table not in tables:
            known = ", ".join(tables)
            raise InputError(
                f"Reason '{reason.name}': there is no table '{reason.table}'.{suggest_name(reason.table, tables)} "
                f"There are: {known}."
            )
    base = cases.table.mutate(_at=index_days(cases.table.index_day, EPOCH, "day"))
    joined = base
    for name in dict.fromkeys(reason.table for reason in reasons):
        here = {f"r{i}": reason for i, reason in enumerate(reasons) if reason.table == name}
        counted = _count_table(base.select(_case="user_id", _at="_at"), name, tables[name], here, calendar)
        joined = joined.left_join(
            counted, [joined.user_id == counted[f"_case_{name}"], joined._at == counted[f"_at_{name}"]]
        )
    flags = {}
    for i, reason in enumerate(reasons):
        holds = _judge(joined, f"r{i}", reason).ifelse(1, 0).cast("int8")
        if "history_days" in cases.table.columns:
            holds = (joined.history_days >= reason.look_back_days).ifelse(holds, ibis.null("int8"))
        flags[f"r{i}"] = holds
    return joined.select("left", *cases.strata, *cases.factors, **flags)


def _count_table(
    cases: ir.Table, name: str, table: ir.Table, reasons: Mapping[str, Reason], calendar: Calendar
) -> ir.Table:
    """Rows of each occurrence by case: one row a case that has any."""
    needs = [(reason, f"{key}_{k}", need) for key, reason in reasons.items() for k, need in enumerate(reason.needs)]
    used: set[str] = {"user_id"}
    times: dict[str, None] = {}
    for reason, _, need in needs:
        named = [need.at or _own_time(name, table), *([need.known_at] if need.known_at else [])]
        times |= dict.fromkeys(named)
        used |= {*named, *(c for text in need.where for c in _read(text, reason)[1])}
        used |= {reason.rise[0]} if reason.rise else set()
    for reason, _, need in needs:
        for column in sorted(used & {need.at, need.known_at, *(c for t in need.where for c in _read(t, reason)[1])}
                             | ({reason.rise[0]} if reason.rise else set())):  # fmt: skip
            if column and column not in table.columns:
                raise InputError(
                    f"Reason '{reason.name}': table {name} has no column '{column}'."
                    f"{suggest_name(column, table.columns)} It has: {', '.join(table.columns)}."
                )
    rows = table.filter(table.user_id.notnull()).select(*sorted(used))
    moments = [c for c in rows.columns if rows[c].type().is_timestamp() or rows[c].type().is_date()]
    rows = rows.mutate(**{f"_day_{c}": _number(rows[c], calendar) for c in moments})
    both = rows.inner_join(cases, [rows.user_id == cases._case])
    # A time that has not come by the index day is not known on it.
    hidden = {c: (both[f"_day_{c}"] <= both._at).ifelse(both[c], ibis.null(both[c].type())) for c in moments}
    end = calendar.to_utc((both._at + 1).as_interval("D") + ibis.timestamp(f"{EPOCH} 00:00:00"))
    age = {c: both._at - both[f"_day_{c}"] for c in times}
    spans = {c: [n.days for _, _, n in needs if (n.at or _own_time(name, table)) == c] for c in times}
    near = [(age[c] >= min(d[0] for d in s)) & (age[c] < max(d[1] for d in s)) for c, s in spans.items() if s]
    kept = both.filter(reduce(lambda a, b: a | b, near))
    sums = {}
    for reason, key, need in needs:
        column = need.at or _own_time(name, table)
        inside = (age[column] >= need.days[0]) & (age[column] < need.days[1])
        if need.known_at:
            inside = inside & (age[need.known_at] >= 0)
        for text in need.where:
            inside = inside & _apply(text, reason, both, hidden, end)
        inside = inside.fill_null(False)
        sums[key] = inside.cast("int64").sum()
        if reason.rise:
            value = both[reason.rise[0]].cast("float64")
            sums[f"{key}_mean"] = inside.ifelse(value, ibis.null("float64")).mean()
    grouped = kept.group_by(**{f"_case_{name}": both._case, f"_at_{name}": both._at})
    return grouped.aggregate(**sums)


def _own_time(name: str, table: ir.Table) -> str:
    contract = CONTRACTS.get(name)
    column = contract.time_column if contract else None
    return column or next((c for c in ("ts", "day") if c in table.columns), "ts")


def _number(value: Any, calendar: Calendar) -> Any:
    return index_days(value, EPOCH, "day") if value.type().is_date() else calendar.count_days(value, EPOCH)


def _judge(joined: ir.Table, key: str, reason: Reason) -> Any:
    """Whether a reason holds, from the counts of its occurrences; a case without rows has none."""
    holds: Any = ibis.literal(True)
    for k, need in enumerate(reason.needs):
        count = joined[f"{key}_{k}"].fill_null(0)
        holds = holds & (count >= need.at_least)
        if need.at_most is not None:
            holds = holds & (count <= need.at_most)
    if reason.rise:
        now, before = joined[f"{key}_0_mean"], joined[f"{key}_1_mean"]
        holds = holds & (now >= before * reason.rise[1]).fill_null(False)
    return holds


def _read(text: str, reason: Reason) -> tuple[re.Match[str], list[str]]:
    """A condition's parts, and the columns that it names."""
    for pattern, groups in ((_BETWEEN, (1, 2)), (_KNOWN, (1,)), (_LISTED, (1,)), (_COMPARED, (1,)), (_FLAG, (2,))):
        if match := pattern.match(text.strip()):
            return match, [match[g] for g in groups]
    raise InputError(f"Reason '{reason.name}': the condition '{text}' cannot be read. Conditions look like {GRAMMAR}.")


def _apply(text: str, reason: Reason, rows: ir.Table, hidden: Mapping[str, Any], end: Any) -> Any:
    """A condition as an expression over rows whose later times are hidden."""
    match, columns = _read(text, reason)
    value = hidden.get(columns[0], rows[columns[0]])
    if match.re is _BETWEEN:
        until = ibis.coalesce(hidden.get(columns[1], rows[columns[1]]), end)
        seconds = float(match[4]) * (3600 if match[5] == "hours" else 86_400)
        return _compare(until.delta(value, unit="second"), match[3], seconds)
    if match.re is _KNOWN:
        return value.isnull() if match[2] == "missing" else value.notnull()
    if match.re is _FLAG:
        return ~value if match[1] else value
    if match.re is _LISTED:
        return value.isin([_cast(part.strip(), value, reason) for part in match[2].split(";")])
    return _compare(value, match[2], _cast(match[3].strip(), value, reason))


def _compare(value: Any, sign: str, other: Any) -> Any:
    compared = {
        "=": lambda: value == other, "!=": lambda: value != other, ">": lambda: value > other,
        "<": lambda: value < other, ">=": lambda: value >= other, "<=": lambda: value <= other,
    }  # fmt: skip
    return compared[sign]()


def _cast(text: str, value: Any, reason: Reason) -> Any:
    kind = value.type()
    if kind.is_boolean() and text in ("true", "false"):
        return text == "true"
    if kind.is_numeric():
        try:
            return float(text)
        except ValueError:
            raise InputError(f"Reason '{reason.name}': '{text}' is no number, but {value.get_name()} is.") from None
    return text

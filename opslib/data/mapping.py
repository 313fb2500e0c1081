"""Turning a user's table into the contract's: names, times in UTC, rows to keep.

Every contract column becomes an expression over the user's own table, so that the checks can still show the raw value
that could not be understood.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ibis
import ibis.expr.datatypes as dtypes
import ibis.expr.types as ir

from opslib.data.contract import CONTRACTS, Contract, Kind
from opslib.data.periods import Calendar
from opslib.data.playbook import ColumnSource, RowFilter, TableSource
from opslib.errors import InputError, suggest_name

# A time written with its own zone: ...Z or ...+08:00.
ZONED_TEXT = r"[0-9]\s*(Z|z|[+-][0-9]{2}:?[0-9]{2})$"
UNIT_SECONDS = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}


@dataclass(frozen=True)
class MappedTable:
    """One table of the contract as expressions over the user's table.

    Attributes:
        contract: what the table must hold.
        raw: the user's table, all rows.
        columns: contract column or further column -> expression over `raw`.
        raw_columns: contract column -> the raw value to show in messages.
        unparsable: contract column -> True where a value is there but could not be understood.
        zoned_text: contract column -> True where the text of a time carries its own zone.
        kept: True for rows that all filters keep; None without filters.
        missing: required contract columns that nothing maps to.
        wrong_kind: contract column -> why its type cannot serve.
    """

    contract: Contract
    raw: ir.Table
    columns: dict[str, Any]
    raw_columns: dict[str, Any]
    unparsable: dict[str, Any]
    zoned_text: dict[str, Any]
    kept: Any
    missing: tuple[str, ...]
    wrong_kind: dict[str, str]


def map_table(name: str, raw: ir.Table, source: TableSource) -> MappedTable:
    """Map one table.

    Raises:
        InputError: the playbook names a column that the table does not have, or one that the contract does not know.
    """
    contract = CONTRACTS[name]
    sources = _complete_mapping(name, raw, source)
    columns: dict[str, Any] = {}
    raw_columns: dict[str, Any] = {}
    unparsable: dict[str, Any] = {}
    zoned: dict[str, Any] = {}
    wrong: dict[str, str] = {}
    used: set[str] = set()
    for target, origin in sources.items():
        value = _origin_value(raw, origin)
        used |= set(origin.sources)
        column = contract.column(target)
        raw_columns[target] = value
        if column is None:
            columns[target] = value
            continue
        try:
            columns[target] = _READERS[column.kind](value, origin)
        except _WrongKindError as error:
            wrong[target] = str(error)
            continue
        if value.type().is_string() and column.kind != "text":
            unparsable[target] = _is_filled(value) & columns[target].isnull()
            if column.kind in ("timestamp", "date"):
                zoned[target] = value.re_search(ZONED_TEXT)
    for other in raw.columns:
        if other not in used and other not in columns and other not in wrong:
            columns[other] = raw[other]
    missing = tuple(c.name for c in contract.columns if c.required and c.name not in sources)
    kept = ibis.and_(*(_filter_condition(name, raw, f) for f in source.keep)) if source.keep else None
    return MappedTable(contract, raw, columns, raw_columns, unparsable, zoned, kept, missing, wrong)


def _complete_mapping(name: str, raw: ir.Table, source: TableSource) -> dict[str, ColumnSource]:
    contract = CONTRACTS[name]
    for target, origin in source.columns.items():
        for column in origin.sources:
            _require_column(name, raw, column, f"[tables.{name}.columns] {target}")
    same = {c: ColumnSource(column=c) for c in contract.names if c in raw.columns and c not in source.columns}
    return {**source.columns, **same}


def _require_column(name: str, raw: ir.Table, column: str, where: str) -> None:
    if column not in raw.columns:
        raise InputError(
            f"Table {name} has no column '{column}' (named in {where}).{suggest_name(column, raw.columns)} "
            f"Its columns: {', '.join(raw.columns)}."
        )


def _origin_value(raw: ir.Table, origin: ColumnSource) -> Any:
    if origin.value is not None:
        return ibis.literal(origin.value)
    if origin.multiply:
        product = raw[origin.multiply[0]]
        for column in origin.multiply[1:]:
            product = product * raw[column]
        return product
    return raw[origin.column]


def _filter_condition(name: str, raw: ir.Table, row_filter: RowFilter) -> Any:
    _require_column(name, raw, row_filter.column, f"[tables.{name}] keep")
    column = raw[row_filter.column]
    tests: dict[str, Callable[[Any], Any]] = {
        "above": lambda v: column > v,
        "below": lambda v: column < v,
        "equals": lambda v: column == v,
        "is_in": lambda v: column.isin(v),
        "not_in": lambda v: column.notin(v),
        "starts_with": lambda v: column.cast("string").startswith(v),
        "not_starts_with": lambda v: ~column.cast("string").startswith(v),
        "is_present": lambda v: column.notnull(),
    }
    ((condition, value),) = row_filter.conditions.items()
    return tests[condition](value).fill_null(False)


class _WrongKindError(Exception):
    """A column's type cannot serve; the message says why, in words that complete 'column x ...'."""


def _is_filled(text: Any) -> Any:
    return text.notnull() & (text.strip() != "")


def _read_key(value: Any, origin: ColumnSource) -> Any:
    kind = value.type()
    if origin.type == "text":
        # 17850.0 is how a number with gaps is often stored; as text it should read 17850.
        return value.cast("int64").cast("string") if kind.is_floating() else value.cast("string")
    if kind.is_floating() or kind.is_decimal() or origin.type == "number":
        return value.try_cast("int64") if kind.is_string() else value.cast("int64")
    if kind.is_integer():
        return value.cast("int64")
    if kind.is_string():
        return value.nullif("")
    if kind.is_uuid():
        return value.cast("string")
    if kind.is_timestamp() or kind.is_date():
        return _read_timestamp(value, origin)
    raise _WrongKindError(f"is of type {kind}, but must be a number or a text")


def _read_text(value: Any, origin: ColumnSource) -> Any:
    return value.cast("string")


def _read_number(value: Any, origin: ColumnSource) -> Any:
    kind = value.type()
    if kind.is_numeric():
        return value.cast("float64")
    if kind.is_string():
        return value.strip().try_cast("float64")
    raise _WrongKindError(f"is of type {kind}, but must be a number")


def _read_flag(value: Any, origin: ColumnSource) -> Any:
    kind = value.type()
    if kind.is_boolean():
        return value
    if kind.is_integer():
        return value != 0
    if kind.is_string():
        lower = value.strip().lower()
        return ibis.cases(
            (lower.isin(("true", "yes", "y", "t", "1")), True),
            (lower.isin(("false", "no", "n", "f", "0")), False),
        )
    raise _WrongKindError(f"is of type {kind}, but must be true or false")


def _read_timestamp(value: Any, origin: ColumnSource) -> Any:
    kind = value.type()
    if kind.is_timestamp():
        if kind.timezone is not None:
            return value.cast(dtypes.Timestamp(timezone="UTC")).cast("timestamp(6)")
        return _from_zone(value.cast("timestamp(6)"), origin)
    if kind.is_date():
        return _from_zone(value.cast("timestamp(6)"), origin)
    if kind.is_numeric():
        if origin.unit is None and origin.format is None:
            raise _WrongKindError(
                "is a number, but must be a time. If it counts from 1970, say unit = 's' (or ms, us, ns); "
                "if it reads like 20260630, say format = '%Y%m%d'"
            )
        if origin.format is not None:
            return _from_zone(_parse_text(value.cast("int64").cast("string"), origin.format), origin)
        micros = value.cast("int64") * 1_000_000 // UNIT_SECONDS[origin.unit or "s"]
        return ibis.timestamp("1970-01-01") + micros.as_interval("us")
    if kind.is_string():
        text = value.strip()
        if origin.format is not None:
            return _from_zone(_parse_text(text, origin.format), origin)
        zoned = text.re_search(ZONED_TEXT)
        with_zone = text.try_cast(dtypes.Timestamp(timezone="UTC")).cast("timestamp(6)")
        return ibis.ifelse(zoned, with_zone, _from_zone(text.try_cast("timestamp(6)"), origin))
    raise _WrongKindError(f"is of type {kind}, but must be a time")


def _read_date(value: Any, origin: ColumnSource) -> Any:
    return value if value.type().is_date() else _read_timestamp(value, origin).date()


def _from_zone(local: Any, origin: ColumnSource) -> Any:
    if origin.timezone is None:
        return local
    return Calendar(origin.timezone).to_utc(local)


@ibis.udf.scalar.builtin(name="try_strptime")
def try_strptime(text: str, form: str) -> dtypes.Timestamp(scale=6):  # type: ignore[valid-type]
    """The embedded engine's parser that gives nothing where a text does not fit."""


def _parse_text(text: Any, form: str) -> Any:
    return try_strptime(text, form)


_READERS: dict[Kind, Callable[[Any, ColumnSource], Any]] = {
    "key": _read_key,
    "text": _read_text,
    "number": _read_number,
    "flag": _read_flag,
    "timestamp": _read_timestamp,
    "date": _read_date,
}

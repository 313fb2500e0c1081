"""Turning a user's table into the contract's: names, times in UTC, rows to keep.

Every contract column becomes an expression over the user's own table, so that the checks can still show the raw value
that could not be understood.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ibis
import ibis.expr.datatypes as dtypes
import ibis.expr.types as ir

from opslib.data.contract import CONTRACTS, Contract, Kind
from opslib.data.periods import Calendar
from opslib.data.settings import ColumnSource, RowFilter, TableSource
from opslib.data.swapped_dates import swap_back
from opslib.errors import InputError, suggest_name
from opslib.language import mark

# A time written with its own zone: a time of day, then Z, UTC, +08, +0800 or +08:00.
ZONED_TEXT = r"[0-9]:[0-9]{2}(:[0-9]{2}([.,][0-9]+)?)?\s*(Z|z|UTC|GMT|[+-][0-9]{2}(:?[0-9]{2})?)\s*$"
FARTHEST_SECONDS = 253_402_300_799
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
        wrong_kind: contract column -> why its type cannot serve, a text for `say`, and the type that it names.
    """

    contract: Contract
    raw: ir.Table
    columns: dict[str, Any]
    raw_columns: dict[str, Any]
    unparsable: dict[str, Any]
    zoned_text: dict[str, Any]
    kept: Any
    missing: tuple[str, ...]
    wrong_kind: dict[str, tuple[str, str]]


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
    wrong: dict[str, tuple[str, str]] = {}
    used: set[str] = set()
    for target, origin in sources.items():
        value = _origin_value(raw, origin)
        used |= set(origin.sources)
        column = contract.column(target)
        raw_columns[target] = value
        if column is None:
            try:
                columns[target] = _FURTHER_READERS[origin.type](value, origin)
            except _WrongKindError as error:
                wrong[target] = error.text, error.kind
            continue
        try:
            columns[target] = _READERS[column.kind](value, origin)
        except _WrongKindError as error:
            wrong[target] = error.text, error.kind
            continue
        texts = [raw[c] for c in origin.multiply or () if raw[c].type().is_string()]
        if texts:
            raw_columns[target], unparsable[target] = _find_bad_factor(texts)
        elif value.type().is_string() and column.kind != "text":
            unparsable[target] = _is_filled(value) & columns[target].isnull()
            if column.kind in ("timestamp", "date") and origin.format is None:
                zoned[target] = value.re_search(ZONED_TEXT)
        elif _may_fail(column.kind, value.type()):
            # A number that is no id (1.5) or no moment (9e99): there, but not understood.
            unparsable[target] = value.notnull() & ~_is_nan(value) & columns[target].isnull()
    # The engine takes Amount and amount for one name.
    taken = {name.lower() for name in (*columns, *wrong)}
    for other in raw.columns:
        if other not in used and other.lower() not in taken:
            columns[other] = raw[other]
    missing = tuple(c.name for c in contract.columns if c.required and c.name not in sources)
    kept = ibis.and_(*(_filter_condition(name, raw, f) for f in source.keep)) if source.keep else None
    return MappedTable(contract, raw, columns, raw_columns, unparsable, zoned, kept, missing, wrong)


def _complete_mapping(name: str, raw: ir.Table, source: TableSource) -> dict[str, ColumnSource]:
    contract = CONTRACTS[name]
    for target, origin in source.columns.items():
        for column in origin.sources:
            _require_column(name, raw, column, f"[tables.{name}.columns] {target}")
    there = {c.lower(): c for c in reversed(raw.columns)} | {c: c for c in raw.columns}
    same = {c: ColumnSource(column=there[c]) for c in contract.names if c in there and c not in source.columns}
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
        factors = [raw[c].try_cast("float64") if raw[c].type().is_string() else raw[c] for c in origin.multiply]
        return functools.reduce(operator.mul, factors)
    return raw[origin.column]


def _may_fail(kind: Kind, given: dtypes.DataType) -> bool:
    """Tell whether numbers of this type may be no id or no time."""
    return given.is_numeric() and (kind in ("timestamp", "date") or (kind == "key" and not given.is_int64()))


def _find_bad_factor(texts: list[Any]) -> tuple[Any, Any]:
    """Of a product with texts: the factor to show, and where one is no number."""
    bad = [_is_filled(t) & t.try_cast("float64").isnull() for t in texts]
    return ibis.coalesce(*(b.ifelse(t, None) for b, t in zip(bad, texts, strict=True))), ibis.or_(*bad)


def _filter_condition(name: str, raw: ir.Table, row_filter: RowFilter) -> Any:
    _require_column(name, raw, row_filter.column, f"[tables.{name}] keep")
    column = raw[row_filter.column]
    ((condition, value),) = row_filter.conditions.items()
    values = value if isinstance(value, tuple) else (value,)
    is_text = column.type().is_string()
    tests: dict[str, Callable[[Any], Any]] = {
        "above": lambda v: column > v,
        "below": lambda v: column < v,
        "equals": lambda v: column == v,
        "is_in": lambda v: column.isin(v),
        "not_in": lambda v: column.notin(v),
        "starts_with": lambda v: column.cast("string").startswith(v),
        "not_starts_with": lambda v: ~column.cast("string").startswith(v),
        "is_present": lambda v: _is_filled(column) if is_text else column.notnull(),
    }
    try:
        if column.type().is_numeric() and condition in ("equals", "is_in", "not_in"):
            # The engine would compare, and fail only later.
            assert not any(isinstance(v, str) for v in values)
        return tests[condition](value).fill_null(False)
    except Exception:
        raise InputError(
            f"[tables.{name}] keep '{row_filter}': column '{row_filter.column}' is of type {column.type()} "
            "and cannot be compared so. Numbers stand bare, texts in quotes."
        ) from None


class _WrongKindError(Exception):
    """A column's type cannot serve: why, as a text for `say`, and the type that it names."""

    def __init__(self, text: str, kind: Any) -> None:
        super().__init__(text)
        self.text, self.kind = text, str(kind)


def _is_filled(text: Any) -> Any:
    return text.notnull() & (text.strip() != "")


def _is_nan(number: Any) -> Any:
    return number.isnan() if number.type().is_floating() else ibis.literal(False)


def _whole(number: Any) -> Any:
    """A number as int64, or nothing where it is none: 17850.0 is, 1.5 and nan are not."""
    if number.type().is_integer():
        return number if number.type().is_int64() else number.try_cast("int64")
    whole = number.try_cast("int64")
    return ibis.ifelse(whole.cast("float64") == number.cast("float64"), whole, ibis.null("int64"))


def _read_key(value: Any, origin: ColumnSource) -> Any:
    kind = value.type()
    if origin.type == "text":
        # 17850.0 is how a number with gaps is often stored; as text it should read 17850.
        if kind.is_floating():
            return ibis.coalesce(_whole(value).cast("string"), _is_nan(value).ifelse(None, value.cast("string")))
        return value.nullif("") if kind.is_string() else value.cast("string")
    if kind.is_numeric():
        return _whole(value)
    if kind.is_string():
        return value.strip().try_cast("int64") if origin.type == "number" else value.nullif("")
    if kind.is_uuid():
        return value.cast("string")
    if kind.is_timestamp() or kind.is_date():
        return _read_timestamp(value, origin)
    raise _WrongKindError(mark("the column is of type {type}, but must be a number or a text"), kind)


def _read_text(value: Any, origin: ColumnSource) -> Any:
    return value.cast("string")


def read_number(value: Any, origin: ColumnSource | None = None) -> Any:
    """A column as numbers; nothing where a text is none."""
    kind = value.type()
    if kind.is_numeric() and not kind.is_floating():
        return value.cast("float64")
    if kind.is_numeric() or kind.is_string():
        number = value.cast("float64") if kind.is_numeric() else value.strip().try_cast("float64")
        # One nan would make every sum nan.
        return ibis.ifelse(number.isnan() | number.isinf(), ibis.null("float64"), number)
    raise _WrongKindError(mark("the column is of type {type}, but must be a number"), kind)


def read_flag(value: Any, origin: ColumnSource | None = None) -> Any:
    """A column as true or false; nothing where a text is neither."""
    kind = value.type()
    if kind.is_boolean():
        return value
    if kind.is_numeric():
        return value != 0
    if kind.is_string():
        lower = value.strip().lower()
        return ibis.cases(
            (lower.isin(("true", "yes", "y", "t", "1")), True),
            (lower.isin(("false", "no", "n", "f", "0")), False),
        )
    raise _WrongKindError(mark("the column is of type {type}, but must be true or false"), kind)


def _read_timestamp(value: Any, origin: ColumnSource) -> Any:
    kind = value.type()
    if origin.swapped_days:
        return _read_swapped(value, origin)
    if kind.is_timestamp():
        if kind.timezone is not None:
            return value.cast(dtypes.Timestamp(timezone="UTC")).cast("timestamp(6)")
        return _from_zone(value.cast("timestamp(6)"), origin)
    if kind.is_date():
        return _from_zone(value.cast("timestamp(6)"), origin)
    if kind.is_numeric():
        if origin.unit is None and origin.format is None:
            text = mark(
                "the column is a number, but must be a time. If it counts from 1970, say unit = 's' (or ms, us, ns); "
                "if it reads like 20260630, say format = '%Y%m%d'"
            )
            raise _WrongKindError(text, kind)
        if origin.format is not None:
            return parse_format(_whole(value).cast("string"), origin.format, origin.timezone)
        return _from_unix(value, origin.unit or "s")
    if kind.is_string():
        text = value.strip()
        if origin.unit is not None:
            return _from_unix(text.try_cast("float64"), origin.unit)
        if origin.format is not None:
            return parse_format(text, origin.format, origin.timezone)
        return parse_iso(text, origin.timezone)
    raise _WrongKindError(mark("the column is of type {type}, but must be a time"), kind)


def _read_swapped(value: Any, origin: ColumnSource) -> Any:
    """A time whose day and month were swapped when it was written: swapped back before its zone is applied."""
    written = origin.model_copy(update={"swapped_days": False, "timezone": None})
    mended = swap_back(_read_timestamp(value, written))
    if value.type().is_string() and origin.format is None:
        return ibis.ifelse(value.re_search(ZONED_TEXT), mended, _from_zone(mended, origin))
    return mended if _has_zone(value, origin) else _from_zone(mended, origin)


def _has_zone(value: Any, origin: ColumnSource) -> bool:
    """Tell whether all of a column's times carry a zone."""
    in_format = "%z" in (origin.format or "").replace("%%", "").lower()
    return in_format or (value.type().is_timestamp() and value.type().timezone is not None)


def _read_date(value: Any, origin: ColumnSource) -> Any:
    return value if value.type().is_date() and not origin.swapped_days else _read_timestamp(value, origin).date()


def list_written_days(mapped: MappedTable, source: TableSource) -> dict[str, Any]:
    """The days of the time columns whose day and month can have been swapped: see `read_written_day`."""
    days = {}
    for column in mapped.contract.columns:
        if column.kind in ("timestamp", "date") and column.name in mapped.columns:
            origin = source.columns.get(column.name, ColumnSource(column=column.name))
            day = read_written_day(mapped.raw_columns[column.name], origin, column.kind)
            if day is not None:
                days[column.name] = day
    return days


def read_written_day(value: Any, origin: ColumnSource, kind: Kind) -> Any | None:
    """The day of a time as it is written, before any zone is applied; None of numbers that count from 1970."""
    if origin.unit is not None or origin.value is not None:
        return None
    read = _READERS[kind](value, origin.model_copy(update={"timezone": None}))
    return read if kind == "date" else read.date()


def _from_zone(local: Any, origin: ColumnSource) -> Any:
    if origin.timezone is None:
        return local
    return Calendar(origin.timezone).to_utc(local)


@ibis.udf.scalar.builtin(name="try_strptime")
def try_strptime(text: str, form: str) -> dtypes.Timestamp(scale=6):  # type: ignore[valid-type]
    """The embedded engine's parser that gives nothing where a text does not fit."""


@ibis.udf.scalar.builtin(name="try_strptime")
def try_strptime_zoned(text: str, form: str) -> dtypes.Timestamp(timezone="UTC", scale=6):  # type: ignore[valid-type]
    """The same for a format with %z: the engine gives a moment then."""


def parse_iso(text: Any, timezone: str | None = None) -> Any:
    """Texts like 2026-06-30 12:34:56 as UTC: in a zone of their own, else in `timezone`; nothing where one is none."""
    # The engine wants no blank before the zone, and ignores a zone where it is asked for a time without one.
    tight = text.re_replace(r"\s+([+-][0-9:]+|Z|z)$", r"\1")
    with_zone = tight.try_cast(dtypes.Timestamp(timezone="UTC")).cast("timestamp(6)")
    # The engine takes 01-03-26 for a day in the year 1, and `infinity` for a time.
    without = text.substr(4, 1).isin(("-", "/")).ifelse(text.try_cast("timestamp(6)"), None)
    local = without if timezone is None else Calendar(timezone).to_utc(without)
    return ibis.ifelse(text.re_search(ZONED_TEXT), with_zone, local)


def parse_format(text: Any, form: str, timezone: str | None = None) -> Any:
    """Texts of another form as UTC; nothing where one does not fit."""
    if "%z" in form.replace("%%", "").lower():
        return try_strptime_zoned(text, form).cast("timestamp(6)")
    parsed = try_strptime(text, form)
    return parsed if timezone is None else Calendar(timezone).to_utc(parsed)


def _from_unix(number: Any, unit: str) -> Any:
    """A count since 1970 as a time; nothing where it lies beyond the year 9999."""
    size = UNIT_SECONDS[unit]
    if number.type().is_floating() or size < UNIT_SECONDS["ns"]:  # all nanoseconds that fit 64 bits are possible
        farthest = FARTHEST_SECONDS * (float(size) if number.type().is_floating() else size)
        number = number.between(-farthest, farthest).ifelse(number, None)
    if number.type().is_floating():
        micros = (number * (1_000_000 / size)).floor().cast("int64")
    elif size > 1_000_000:
        micros = number.cast("int64") // (size // 1_000_000)
    else:
        micros = number.cast("int64") * (1_000_000 // size)
    return ibis.timestamp("1970-01-01") + micros.as_interval("us")


_READERS: dict[Kind, Callable[[Any, ColumnSource], Any]] = {
    "key": _read_key,
    "text": _read_text,
    "number": read_number,
    "flag": read_flag,
    "timestamp": _read_timestamp,
    "date": _read_date,
}
_FURTHER_READERS: dict[str | None, Callable[[Any, ColumnSource], Any]] = {
    None: lambda value, origin: value,
    "text": _read_text,
    "number": read_number,
    "flag": read_flag,
}

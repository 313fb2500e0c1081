"""Postgres's SQL, so that an expression means what it means on the embedded engine: order, kinds of numbers, days."""

from __future__ import annotations

import math
from typing import Any

import ibis.expr.datatypes as dt
import ibis.expr.operations as ops
import sqlglot as sg
import sqlglot.expressions as sge
from ibis import util
from ibis.backends.sql.compilers.postgres import PostgresCompiler as IbisPostgresCompiler

_NUMBER = r"^\s*[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,3})?\s*$"
_WORDS_OF_NUMBERS = r"^\s*[+-]?(nan|inf|infinity)\s*$"
_TIME = (
    r"^\s*(\d{4})[-/](\d{1,2})[-/](\d{1,2})"
    r"([ T](\d{1,2}):(\d{2})(:(\d{2})(\.\d+)?)?)?\s*(Z|z|UTC|GMT|[+-]\d{2}(:?\d{2})?)?\s*$"
)
_MOST_INT64 = "9223372036854775807"
_MOST_FLOAT64 = "1.7976931348623157e308"


class PostgresCompiler(IbisPostgresCompiler):
    """Writes SQL that gives what the same expression gives on the embedded engine."""

    __slots__ = ()

    def visit_InMemoryTable(self, op: Any, *, name: str, schema: Any, data: Any) -> Any:
        """A table of our own stands in the query as VALUES: a temporary table would be created."""
        rows = data.to_pyarrow(schema).to_pylist()
        # The first row says the types; it is taken out again.
        first = [self.cast(sge.Null(), kind) for kind in schema.types]
        tuples = [sge.Tuple(expressions=[sge.true(), *first])]
        for row in rows:
            values = [
                self.visit_Literal(ops.Literal(value, dtype=kind), value=value, dtype=kind)
                for value, kind in zip(row.values(), schema.types, strict=True)
            ]
            tuples.append(sge.Tuple(expressions=[sge.false(), *values]))
        head = util.gen_name("head")
        columns = [sg.to_identifier(c, quoted=True) for c in (head, *schema.names)]
        values_alias = sge.TableAlias(this=sg.to_identifier(name, quoted=True), columns=columns)
        inner = sge.Values(expressions=tuples, alias=values_alias)
        kept = sg.select(*(sg.column(c, quoted=True) for c in schema.names)).from_(inner)
        return kept.where(sg.not_(sg.column(head, quoted=True))).subquery(sg.to_identifier(name, quoted=True))

    def visit_TryCast(self, op: Any, *, arg: Any, to: Any) -> Any:
        """A cast that gives nothing where the value does not fit: Postgres 15 has none."""
        given = op.arg.dtype
        text = arg.sql(self.dialect)
        cast = self.visit_Cast(op, arg=arg, to=to)
        if given.is_string() and to.is_integer():
            return self._try_number(text, "BIGINT", _MOST_INT64)
        if given.is_string() and to.is_floating():
            # What is too large for any number counts as infinite.
            infinite = f"CAST(CASE WHEN {text} ~ '^\\s*-' THEN '-inf' ELSE 'inf' END AS DOUBLE PRECISION)"
            number = self._try_number(text, "DOUBLE PRECISION", _MOST_FLOAT64, infinite)
            word = self._read(f"{text} ~* '{_WORDS_OF_NUMBERS}'")
            return sge.Case(ifs=[self.if_(word, cast)], default=number)
        if given.is_string() and (to.is_timestamp() or to.is_date()):
            return sge.Case(ifs=[self.if_(self._is_time(text), cast)])
        if given.is_floating() and to.is_integer():
            return sge.Case(ifs=[self.if_(self._read(f"abs({text}) < 9.2e18"), cast)])
        if given.is_decimal() and to.is_integer():
            return sge.Case(ifs=[self.if_(self._read(f"abs({text}) <= {_MOST_INT64}"), cast)])
        return cast

    def _try_number(self, text: str, kind: str, most: str, beyond: str = "NULL") -> Any:
        """A text as a number; the inner condition runs only where the outer one holds."""
        number = f"CAST({text} AS DECIMAL)"
        fits = f"CASE WHEN abs({number}) <= {most} THEN CAST({number} AS {kind}) ELSE {beyond} END"
        return self._read(f"CASE WHEN {text} ~ '{_NUMBER}' THEN {fits} END")

    def _is_time(self, text: str) -> Any:
        parts = f"regexp_match({text}, '{_TIME}')"

        def part(number: int) -> str:
            return f"COALESCE(CAST(({parts})[{number}] AS INTEGER), 0)"

        year, month, day = part(1), part(2), part(3)
        last_day = f"EXTRACT(DAY FROM make_date({year}, {month}, 1) + INTERVAL '1 month' - INTERVAL '1 day')"
        in_month = (
            f"CASE WHEN {year} >= 1 AND {month} BETWEEN 1 AND 12 THEN {day} BETWEEN 1 AND {last_day} ELSE FALSE END"
        )
        in_day = f"{part(5)} <= 23 AND {part(6)} <= 59 AND {part(8)} <= 59"
        return self._read(f"CASE WHEN {text} ~ '{_TIME}' THEN {in_month} AND {in_day} ELSE FALSE END")

    def _read(self, sql: str) -> Any:
        return sg.parse_one(sql, dialect=self.dialect)

    def visit_Cast(self, op: Any, *, arg: Any, to: Any) -> Any:
        """A cast between any two kinds: Postgres has none from a flag to most numbers."""
        given = op.arg.dtype
        if given.is_boolean() and to.is_numeric():
            return self._cast_from_integer(self.cast(arg, dt.int32), to)
        if given.is_timestamp() and to.is_integer():
            return self.cast(self._seconds(arg), to)
        if given.is_numeric() and to.is_timestamp():
            return self.cast(self.f.to_timestamp(arg), to)
        return super().visit_Cast(op, arg=arg, to=to)

    def _cast_from_integer(self, number: Any, to: Any) -> Any:
        return number if to.is_int32() else self.cast(number, to)

    def visit_NonNullLiteral(self, op: Any, *, value: Any, dtype: Any) -> Any:
        """A floating number is one: as it stands, Postgres takes 0.1 for a decimal."""
        if dtype.is_floating() and math.isfinite(value):
            return self.cast(sge.convert(float(value)), dt.float64)
        return super().visit_NonNullLiteral(op, value=value, dtype=dtype)

    # Texts: in the order of their bytes, as elsewhere, whatever the database's locale.

    def visit_SortKey(self, op: Any, *, arg: Any, ascending: bool, nulls_first: bool) -> Any:
        """What rows are sorted by."""
        return super().visit_SortKey(op, arg=_by_bytes(op.arg, arg), ascending=ascending, nulls_first=nulls_first)

    def visit_Less(self, op: Any, *, left: Any, right: Any) -> Any:
        """Whether the one is less."""
        return self.binop(sge.LT, _by_bytes(op.left, left), right)

    def visit_LessEqual(self, op: Any, *, left: Any, right: Any) -> Any:
        """Whether the one is not more."""
        return self.binop(sge.LTE, _by_bytes(op.left, left), right)

    def visit_Greater(self, op: Any, *, left: Any, right: Any) -> Any:
        """Whether the one is more."""
        return self.binop(sge.GT, _by_bytes(op.left, left), right)

    def visit_GreaterEqual(self, op: Any, *, left: Any, right: Any) -> Any:
        """Whether the one is not less."""
        return self.binop(sge.GTE, _by_bytes(op.left, left), right)

    def visit_Between(self, op: Any, *, arg: Any, lower_bound: Any, upper_bound: Any) -> Any:
        """Whether it lies between the two."""
        return super().visit_Between(op, arg=_by_bytes(op.arg, arg), lower_bound=lower_bound, upper_bound=upper_bound)

    def visit_Greatest(self, op: Any, *, arg: Any) -> Any:
        """The greatest of several values."""
        return _with_own_order(op, self.f.greatest(*(_by_bytes(op, one) for one in arg)))

    def visit_Least(self, op: Any, *, arg: Any) -> Any:
        """The least of several values."""
        return _with_own_order(op, self.f.least(*(_by_bytes(op, one) for one in arg)))

    def visit_Min(self, op: Any, *, arg: Any, where: Any) -> Any:
        """The least value; of flags, whether all are set."""
        if op.arg.dtype.is_boolean():
            return self.agg.bool_and(arg, where=where)
        return _with_own_order(op, self.agg.min(_by_bytes(op.arg, arg), where=where))

    def visit_Max(self, op: Any, *, arg: Any, where: Any) -> Any:
        """The greatest value; of flags, whether any is set."""
        if op.arg.dtype.is_boolean():
            return self.agg.bool_or(arg, where=where)
        return _with_own_order(op, self.agg.max(_by_bytes(op.arg, arg), where=where))

    def visit_ArgMin(self, op: Any, *, arg: Any, key: Any, where: Any) -> Any:
        """The value at the least key."""
        return super().visit_ArgMin(op, arg=arg, key=_by_bytes(op.key, key), where=where)

    def visit_ArgMax(self, op: Any, *, arg: Any, key: Any, where: Any) -> Any:
        """The value at the greatest key."""
        return super().visit_ArgMax(op, arg=arg, key=_by_bytes(op.key, key), where=where)

    # Numbers: of the kind that the expression names.

    def visit_Sum(self, op: Any, *, arg: Any, where: Any) -> Any:
        """A sum; of whole numbers a whole one, of short floating ones a long one."""
        if op.arg.dtype.is_boolean():
            arg = self.cast(arg, dt.int32)
        elif op.arg.dtype.is_floating():
            arg = self.cast(arg, dt.float64)
        return self.cast(self.agg.sum(arg, where=where), op.dtype)

    def visit_Mean(self, op: Any, *, arg: Any, where: Any) -> Any:
        """A mean."""
        return self.cast(super().visit_Mean(op, arg=arg, where=where), op.dtype)

    def visit_VarianceStandardDevCovariance(self, op: Any, *, how: Any, where: Any, **parts: Any) -> Any:
        """How much numbers scatter."""
        parts = {name: self.cast(part, dt.float64) for name, part in parts.items()}
        return super().visit_VarianceStandardDevCovariance(op, how=how, where=where, **parts)

    # By the names of Ibis's operations.
    visit_Variance = visit_VarianceStandardDevCovariance  # noqa: N815
    visit_StandardDev = visit_VarianceStandardDevCovariance  # noqa: N815
    visit_Covariance = visit_VarianceStandardDevCovariance  # noqa: N815

    def visit_Divide(self, op: Any, *, left: Any, right: Any) -> Any:
        """A division; by zero it gives nothing, where Postgres would end the query."""
        return self.binop(sge.Div, left, self._not_zero(op.right, right))

    def visit_FloorDivide(self, op: Any, *, left: Any, right: Any) -> Any:
        """A division rounded down; of whole numbers exact, however long they are."""
        right = self._not_zero(op.right, right)
        if not (op.left.dtype.is_integer() and op.right.dtype.is_integer()):
            return super().visit_FloorDivide(op, left=left, right=right)
        left, right = sge.paren(left), sge.paren(right)
        rest = sge.paren(sge.paren(left % right) + right) % right
        return self.cast(sge.Div(this=sge.paren(left - sge.paren(rest)), expression=right, typed=True), op.dtype)

    def visit_Modulus(self, op: Any, *, left: Any, right: Any) -> Any:
        """What a division leaves."""
        return super().visit_Modulus(op, left=left, right=self._not_zero(op.right, right))

    def _not_zero(self, node: Any, written: Any) -> Any:
        return written if isinstance(node, ops.Literal) and node.value else self.f.nullif(written, 0)

    def visit_BitwiseLeftShift(self, op: Any, *, left: Any, right: Any) -> Any:
        """Bits moved up."""
        return self.binop(sge.BitwiseLeftShift, self.cast(left, dt.int64), self.cast(right, dt.int32))

    def visit_BitwiseRightShift(self, op: Any, *, left: Any, right: Any) -> Any:
        """Bits moved down."""
        return self.binop(sge.BitwiseRightShift, self.cast(left, dt.int64), self.cast(right, dt.int32))

    # Days and moments.

    def visit_TimestampDelta(self, op: Any, *, part: Any, left: Any, right: Any) -> Any:
        """How many boundaries of a unit lie between two moments."""
        unit = str(op.part.value)
        if unit == "day":
            return self.visit_DateDelta(op, part=part, left=left, right=right)
        if unit == "microsecond":
            return self.cast(self._seconds(left - sge.paren(right)) * 1_000_000, dt.int64)
        seconds = {"second": 1, "minute": 60, "hour": 3600}[unit]
        since, until = self._seconds(self._truncate(unit, left)), self._seconds(self._truncate(unit, right))
        return self.cast((since - until) / seconds if seconds > 1 else since - until, dt.int64)

    def visit_DateDelta(self, op: Any, *, part: Any, left: Any, right: Any) -> Any:
        """How many days lie between two."""
        days = self.cast(left, dt.date) - self.cast(right, dt.date)
        return self.cast(sge.paren(days), dt.int64)

    def visit_DateAdd(self, op: Any, *, left: Any, right: Any) -> Any:
        """A later day, which Postgres makes a moment."""
        return self.cast(self.binop(sge.Add, left, right), op.dtype)

    def visit_DateSub(self, op: Any, *, left: Any, right: Any) -> Any:
        """An earlier day, which Postgres makes a moment."""
        return self.cast(self.binop(sge.Sub, left, right), op.dtype)

    def visit_DateTruncate(self, op: Any, *, arg: Any, unit: Any) -> Any:
        """The first day of a week, month or quarter, which Postgres makes a moment."""
        return self.cast(super().visit_DateTruncate(op, arg=arg, unit=unit), op.dtype)

    def visit_ExtractEpochSeconds(self, op: Any, *, arg: Any) -> Any:
        """Seconds since 1970, with their fractions."""
        return self.cast(self._seconds(arg), dt.float64)

    def visit_TimestampFromUNIX(self, op: Any, *, arg: Any, unit: Any) -> Any:
        """The moment so many seconds, or parts of one, after 1970 began."""
        parts = {"s": 1, "ms": 1_000, "us": 1_000_000}[unit.short]
        seconds = self.cast(arg, dt.float64) if parts == 1 else self.cast(arg, dt.float64) / parts
        return self.cast(self.f.to_timestamp(seconds), dt.timestamp)

    def _seconds(self, moment: Any) -> Any:
        return sge.Extract(this=sge.Var(this="epoch"), expression=moment)

    def _truncate(self, unit: str, moment: Any) -> Any:
        return self.f.anon.date_trunc(unit, moment)

    def visit_WindowFunction(self, op: Any, *, func: Any, **options: Any) -> Any:
        """A function over a window; what is done to its result stands outside of OVER."""
        # The same function may stand under several windows.
        whole = inner = func.copy()
        while isinstance(inner, sge.Cast | sge.Paren | sge.Collate):
            inner = inner.this
        if inner is whole:
            return super().visit_WindowFunction(op, func=whole, **options)
        inner.replace(super().visit_WindowFunction(op, func=inner.copy(), **options))
        return whole

    def visit_RegexSearch(self, op: Any, *, arg: Any, pattern: Any) -> Any:
        """Whether a pattern occurs; Postgres has a function for it from version 15 on only."""
        return sge.RegexpLike(this=arg, expression=pattern)


def _by_bytes(node: Any, written: Any) -> Any:
    return _collate(written, "C") if node.dtype.is_string() else written


def _with_own_order(op: Any, written: Any) -> Any:
    """Back to the database's own order, so that the value can be compared with its columns."""
    return sge.paren(_collate(written, "default")) if op.dtype.is_string() else written


def _collate(written: Any, order: str) -> Any:
    return sge.Collate(this=sge.paren(written), expression=sg.to_identifier(order, quoted=True))

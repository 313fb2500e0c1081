"""Spark's SQL, so that an expression means what it means on the embedded engine: NaN, whole numbers, days, texts."""

from __future__ import annotations

import math
import re
from typing import Any

import ibis.expr.datatypes as dt
import ibis.expr.operations as ops
import sqlglot.expressions as sge
from ibis.backends.sql.compilers.pyspark import PySparkCompiler

from opslib.errors import InputError

_MICROSECONDS = {
    "microsecond": 1,
    "millisecond": 1_000,
    "second": 1_000_000,
    "minute": 60_000_000,
    "hour": 3_600_000_000,
}
_TIME = (
    r"^\s*\d{4}[-/]\d{1,2}[-/]\d{1,2}"
    r"([ T]\d{1,2}:\d{2}(:\d{2}(\.\d+)?)?\s*(Z|z|UTC|GMT|[+-]\d{2}(:?\d{2})?)?)?\s*$"
)
# What Spark cuts to the greatest of 64 bits.
_BEYOND_INT64 = 2.0**63
# Java reads 1.5d and 0x1p3 as numbers.
_JAVAS_NUMBER = r"[0-9.][dDfF]\s*$|[xX]"
_FIXED = {"Y": "yyyy", "m": "MM", "d": "dd", "H": "HH", "I": "hh", "M": "mm", "S": "ss", "j": "DDD"}
_DIRECTIVES = {
    "Y": "y", "y": "yy", "m": "M", "d": "d", "H": "H", "I": "h", "M": "m", "S": "s", "p": "a",
    "f": "[SSSSSS][SSSSS][SSSS][SSS][SS][S]", "b": "MMM", "B": "MMMM", "a": "E", "A": "EEEE", "j": "D",
    "z": "[XXX][XX][X]", "F": "y-M-d", "T": "H:m:s", "%": "'%'",
}  # fmt: skip


class SparkCompiler(PySparkCompiler):
    """Writes SQL that gives what the same expression gives on the embedded engine."""

    __slots__ = ()

    def visit_DefaultLiteral(self, op: Any, *, value: Any, dtype: Any) -> Any:
        """0.5 is a floating-point number; Spark takes it for a decimal, and cuts quotients by it after six digits."""
        if dtype.is_floating() and math.isfinite(value):
            return self.cast(repr(float(value)), dtype)
        return super().visit_DefaultLiteral(op, value=value, dtype=dtype)

    def visit_IsNull(self, op: Any, *, arg: Any) -> Any:
        """NaN is a value, not a missing one."""
        return arg.is_(sge.Null())

    def visit_NotNull(self, op: Any, *, arg: Any) -> Any:
        """NaN is a value, not a missing one."""
        return arg.is_(sge.not_(sge.Null()))

    def visit_IsNan(self, op: Any, *, arg: Any) -> Any:
        """Of a missing number nobody knows."""
        return (
            self.if_(arg.is_(sge.Null()), sge.Null(), self.f.isnan(arg)) if op.arg.dtype.is_floating() else sge.false()
        )

    def visit_IsInf(self, op: Any, *, arg: Any) -> Any:
        """What Ibis writes is never true."""
        return self.f.abs(arg).eq(self.POS_INF) if op.arg.dtype.is_floating() else sge.false()

    def visit_Strip(self, op: Any, *, arg: Any) -> Any:
        r"""Spark takes \v and \f for the letters, and cuts those off too."""
        return self._strip(arg, "")

    def visit_LStrip(self, op: Any, *, arg: Any) -> Any:
        """As `visit_Strip`."""
        return self._strip(arg, "LEADING")

    def visit_RStrip(self, op: Any, *, arg: Any) -> Any:
        """As `visit_Strip`."""
        return self._strip(arg, "TRAILING")

    def _strip(self, arg: Any, side: str) -> Any:
        spaces = self.f.concat(sge.convert(" \t\n\r"), self.f.anon.char(11), self.f.anon.char(12))
        return sge.Trim(this=arg, position=side or None, expression=spaces)

    def visit_ExtractEpochSeconds(self, op: Any, *, arg: Any) -> Any:
        """Seconds since 1970, with their fractions."""
        return sge.paren(self.f.anon.unix_micros(self.cast(arg, dt.timestamp)) / sge.convert(1_000_000))

    def visit_TimestampFromUNIX(self, op: Any, *, arg: Any, unit: Any) -> Any:
        """The moment so many seconds, or parts of one, after 1970 began."""
        names = {"s": "timestamp_seconds", "ms": "timestamp_millis", "us": "timestamp_micros"}
        return self.f.anon[names[unit.short]](arg)

    def visit_Divide(self, op: Any, *, left: Any, right: Any) -> Any:
        """A division by 0 gives infinity or NaN, not an error."""
        left, right = sge.paren(left), sge.paren(right)
        if isinstance(op.right, ops.Literal) and op.right.value:
            return left / right
        infinite = self.cast(left, dt.float64) * self.cast("Infinity", dt.float64)
        return self.if_(right.eq(0), infinite, left / right)

    def visit_FloorDivide(self, op: Any, *, left: Any, right: Any) -> Any:
        """Whole numbers are divided as such: those beyond 2^53 are no floating-point numbers."""
        if not (op.left.dtype.is_integer() and op.right.dtype.is_integer()):
            return super().visit_FloorDivide(op, left=left, right=right)
        left, right = sge.paren(self.cast(left, dt.int64)), sge.paren(right)
        return self._divide_down(left, right)

    def _divide_down(self, left: Any, right: Any) -> Any:
        """Round down, not towards 0."""
        rest = sge.paren(sge.paren(left % right) + right) % right
        return sge.IntDiv(this=sge.paren(left - rest), expression=right)

    def visit_Cast(self, op: Any, *, arg: Any, to: Any) -> Any:
        """A fraction becomes the nearest whole number."""
        return super().visit_Cast(op, arg=self._round_to_whole(op, arg, to), to=to)

    def visit_TryCast(self, op: Any, *, arg: Any, to: Any) -> Any:
        """Nothing where a value does not fit, for the same texts as elsewhere."""
        cast = super().visit_TryCast(op, arg=self._round_to_whole(op, arg, to), to=to)
        if op.arg.dtype.is_floating() and to.is_int64():
            return self.if_(arg < sge.convert(_BEYOND_INT64), cast, sge.Null())
        if not op.arg.dtype.is_string():
            return cast
        if to.is_timestamp() or to.is_date():
            # Spark takes 2026 and T12:00 for times, but not 2026/01/31.
            dashed = self.f.replace(arg, "/", "-")
            return self.if_(self.f.anon.rlike(arg, _TIME), super().visit_TryCast(op, arg=dashed, to=to), sge.Null())
        if to.is_numeric():
            number = super().visit_TryCast(op, arg=arg, to=dt.float64)
            if to.is_integer():
                # 17.0 is a whole number.
                whole = super().visit_TryCast(op, arg=self.f.anon.rint(number), to=to)
                cast = self.f.coalesce(cast, self.if_(number < sge.convert(_BEYOND_INT64), whole, sge.Null()))
            return self.if_(self.f.anon.rlike(arg, _JAVAS_NUMBER), sge.Null(), cast)
        return cast

    def _round_to_whole(self, op: Any, arg: Any, to: Any) -> Any:
        return self.f.anon.rint(arg) if op.arg.dtype.is_floating() and to.is_integer() else arg

    def visit_Round(self, op: Any, *, arg: Any, digits: Any) -> Any:
        """Rounds the number, not the text that it is shown as: 1.005 is less than that."""
        if op.arg.dtype.is_floating() and isinstance(op.digits, ops.Literal) and op.digits.value > 0:
            size = sge.convert(10.0**op.digits.value)
            return self.f.round(sge.paren(arg) * size, 0) / size
        return super().visit_Round(op, arg=arg, digits=digits)

    def visit_IntervalFromInteger(self, op: Any, *, arg: Any, unit: Any) -> Any:
        """So many times one unit; Ibis makes a text and reads it."""
        one = sge.Interval(this=sge.convert("1"), unit=sge.Var(this=unit.singular.upper()))
        if unit.singular in ("millisecond", "microsecond"):
            text = "0.001" if unit.singular == "millisecond" else "0.000001"
            one = sge.Interval(this=sge.convert(text), unit=sge.Var(this="SECOND"))
        return sge.paren(sge.paren(arg) * one)

    def visit_DateAdd(self, op: Any, *, left: Any, right: Any) -> Any:
        """A day and days give a day."""
        return self.cast(left + right, dt.date)

    def visit_DateSub(self, op: Any, *, left: Any, right: Any) -> Any:
        """A day and days give a day."""
        return self.cast(left - right, dt.date)

    def visit_TimestampDelta(self, op: Any, *, part: Any, left: Any, right: Any) -> Any:
        """How many boundaries of a unit lie between two moments."""
        unit = str(op.part.value)
        if unit == "day":
            return self._count_days(left, right)
        size = sge.convert(_MICROSECONDS[unit])
        since, until = (self.f.anon.unix_micros(self.cast(moment, dt.timestamp)) for moment in (right, left))
        if unit == "microsecond":
            return sge.paren(until - since)
        return sge.paren(self._divide_down(until, size) - self._divide_down(since, size))

    def visit_DateDelta(self, op: Any, *, part: Any, left: Any, right: Any) -> Any:
        """How many days lie between two."""
        return self._count_days(left, right)

    def _count_days(self, left: Any, right: Any) -> Any:
        days = self.f.anon.datediff(self.cast(left, dt.date), self.cast(right, dt.date))
        # Spark's are 32 bits wide: too few for seconds.
        return self.cast(days, dt.int64)

    def visit_DateTruncate(self, op: Any, *, arg: Any, unit: Any) -> Any:
        """The first day of a week, month, quarter or year is a day."""
        return self.cast(super().visit_DateTruncate(op, arg=arg, unit=unit), dt.date)

    def visit_Log2(self, op: Any, *, arg: Any) -> Any:
        """Exact for powers of two, which a quotient of logarithms is not."""
        return self.f.anon.log2(arg)

    def visit_RegexReplace(self, op: Any, *, arg: Any, pattern: Any, replacement: Any) -> Any:
        r"""Java writes $1 for \1."""
        if isinstance(op.replacement, ops.Literal):
            replacement = sge.convert(re.sub(r"\\(\d)", r"$\1", op.replacement.value))
        return super().visit_RegexReplace(op, arg=arg, pattern=pattern, replacement=replacement)

    def visit_ScalarUDF(self, op: Any, **kw: Any) -> Any:
        """Texts are read by a form; the embedded engine's function for that is the one that measures name."""
        if self.__sql_name__(op) != "try_strptime":
            return super().visit_ScalarUDF(op, **kw)
        _, form = op.args
        pattern = translate_form(form.value)
        return self.f.anon.try_to_timestamp(kw["text"], sge.convert(pattern))


def translate_form(form: str) -> str:
    """A form as Python writes it (%d.%m.%Y), as Java does.

    Raises:
        InputError: a part that Spark cannot read.

    >>> translate_form("%d.%m.%Y %H:%M")
    "d'.'M'.'y' 'H':'m"
    >>> translate_form("%Y%m%d")
    'yyyyMMdd'
    """
    tokens = re.findall(r"%-?(.)|([^%]+)", form)
    parts = []
    for i, (directive, text) in enumerate(tokens):
        if directive and directive not in _DIRECTIVES:
            raise InputError(f"format '{form}': Spark cannot read %{directive}. Known: %{', %'.join(_DIRECTIVES)}.")
        # Where nothing stands between two numbers, their widths tell where one ends.
        joined = any(other[0] for other in (*tokens[max(i - 1, 0) : i], *tokens[i + 1 : i + 2]))
        fixed = _FIXED.get(directive) if joined else None
        parts.append(fixed or _DIRECTIVES.get(directive) or "'" + text.replace("'", "''") + "'")
    return "".join(parts)

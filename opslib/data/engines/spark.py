"""Spark: a session of our own beside the user's, and what Ibis writes otherwise than the embedded engine means it.

Nothing is created in a catalog: kept tables and tables of our own are temporary views of our session, and die with it.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import re
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ibis
import ibis.expr.datatypes as dt
import ibis.expr.operations as ops
import ibis.expr.types as ir
import pandas as pd
import pyarrow as pa
import sqlglot.expressions as sge
from ibis.backends.duckdb.converter import DuckDBPandasData, DuckDBPyArrowData
from ibis.backends.pyspark import Backend as IbisSparkBackend
from ibis.backends.pyspark.datatypes import PySparkSchema
from ibis.backends.sql.compilers.pyspark import PySparkCompiler
from py4j.protocol import Py4JError, Py4JNetworkError
from pyspark import SparkConf, SparkContext
from pyspark.errors import AnalysisException, PySparkException
from pyspark.sql import SparkSession
from pyspark.sql import functions as functions
from pyspark.sql.types import TimestampType

from opslib.errors import EngineError, InputError, suggest_name

CONNECT_SECONDS = 5
STANDALONE_PORT = 7077
# What makes answers right, in our session alone: the user's own keeps its settings.
SESSION = {
    "spark.sql.session.timeZone": "UTC",
    # What does not fit is an error, as on other engines, and not another number.
    "spark.sql.ansi.enabled": "true",
    "spark.sql.timestampType": "TIMESTAMP_LTZ",
    "spark.sql.parquet.inferTimestampNTZ.enabled": "true",
    "spark.sql.legacy.timeParserPolicy": "CORRECTED",
    "spark.sql.execution.arrow.pyspark.enabled": "true",
}
# What a Spark that we start has unless spark-defaults say otherwise.
OWN = {
    "spark.app.name": "opslib",
    "spark.log.level": "ERROR",
    "spark.ui.showConsoleProgress": "false",
}
# The same of one that runs on this machine alone: small data, and nobody to look at its pages.
LOCAL = {"spark.ui.enabled": "false", "spark.sql.shuffle.partitions": "4"}

_JAVA = "Spark 4 needs Java 17 or newer: install it, and set JAVA_HOME to its folder."
_CAUSES = re.compile(r"(?m)^(?:Caused by: )?(?:[a-z]\w*\.)+([A-Z]\w*(?:Exception|Error)): (.+)$")
_MICROSECONDS = {"microsecond": 1, "millisecond": 1_000, "second": 1_000_000, "minute": 60_000_000, "hour": 3_600_000_000}
_TIME = (
    r"^\s*\d{4}[-/]\d{1,2}[-/]\d{1,2}"
    r"([ T]\d{1,2}:\d{2}(:\d{2}(\.\d+)?)?\s*(Z|z|UTC|GMT|[+-]\d{2}(:?\d{2})?)?)?\s*$"
)
# Java reads 1.5d and 0x1p3 as numbers.
_JAVAS_NUMBER = r"[0-9.][dDfF]\s*$|[xX]"
_DIRECTIVES = {
    "Y": "y", "y": "yy", "m": "M", "d": "d", "H": "H", "I": "h", "M": "m", "S": "s", "f": "[SSSSSS][SSSSS][SSSS][SSS][SS][S]",
    "p": "a", "b": "MMM", "B": "MMMM", "a": "E", "A": "EEEE", "j": "D", "z": "[XXX][XX][X]", "F": "y-M-d", "T": "H:m:s",
    "%": "'%'",
}  # fmt: skip


def connect_spark(address: str) -> Backend:
    """Connect to Spark.

    Args:
        address: a master (`local[2]`, `local-cluster[2,1,2048]`, `spark://host:7077`); `spark://` alone takes the
            session that this process has, or starts one as spark-defaults say.

    Raises:
        InputError: there is no Java, the cluster cannot be reached, or this process has another Spark already.
    """
    master = "" if address.removeprefix("pyspark").removeprefix("spark") == "://" else address
    existing = SparkSession.getActiveSession()
    if existing is None:
        existing = _start_session(master)
    elif master and existing.sparkContext.master != master:
        raise InputError(
            f"[data] url: this process has a Spark on {existing.sparkContext.master} already, and can have but one. "
            'Write url = "spark://" to take it, or restart the kernel.'
        )
    # Importing tells Ibis of its options for Spark.
    assert ibis.pyspark is not None
    backend = Backend()
    backend.do_connect(_branch(existing))
    return backend


def _start_session(master: str) -> SparkSession:
    if master.startswith("spark://"):
        _check_reachable(master)
    try:
        # Starts Java, which reads spark-defaults.
        SparkContext._ensure_initialized()
    except Exception:
        raise InputError(f"[data] url: Spark cannot be started. {_JAVA}") from None
    conf = SparkConf()
    if master:
        conf.setMaster(master)
    local = conf.get("spark.master", "local").startswith("local")
    for name, value in (OWN | LOCAL if local else OWN).items():
        conf.setIfMissing(name, value)
    # Java's side sets it for any Python session; it would write into the progress of a report.
    conf.set("spark.ui.showConsoleProgress", "false")
    if local and not conf.contains("spark.sql.warehouse.dir"):
        # Spark makes this folder, by default where the process runs.
        folder = tempfile.mkdtemp(prefix="opslib-spark-")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        conf.set("spark.sql.warehouse.dir", folder)
    try:
        session = SparkSession.builder.config(conf=conf).getOrCreate()
        session.sparkContext.setLogLevel(conf.get("spark.log.level"))
    except Exception as error:
        raise InputError(f"[data] url: Spark on '{master or 'its default master'}' did not start: {explain(error)}") from None
    return session


def _check_reachable(master: str) -> None:
    """Refuse a cluster at which nobody answers: Spark itself would try for a minute."""
    hosts = [host.partition(":") for host in master.removeprefix("spark://").split(",")]
    for host, _, port in hosts:
        with contextlib.suppress(OSError, ValueError):
            socket.create_connection((host, int(port or STANDALONE_PORT)), timeout=CONNECT_SECONDS).close()
            return
    raise InputError(f"[data] url: no Spark answers at {master}. See whether its master runs, and whether the port is right.")


def _branch(session: SparkSession) -> SparkSession:
    """A session with the same tables, views and settings, whose own changes the first one does not see."""
    ours = SparkSession(session.sparkContext, session._jsparkSession.cloneSession())
    for name, value in SESSION.items():
        ours.conf.set(name, value)
    return ours


def open_spark_table(connection: Backend, source: str, folder: Path) -> ir.Table:
    """Open a table of a playbook.

    Args:
        connection: from `connect_spark`.
        source: a table of the catalog, `name`, `database.name` or `catalog.database.name`; or, with a `/` or the ending
            .parquet, Parquet: a file, folder or glob, on any file system that Spark knows.
        folder: the playbook's; paths that are neither absolute nor URLs start there.

    Raises:
        InputError: there is no such table or file, or Spark cannot read it.
    """
    if "/" in source or source.endswith(".parquet"):
        whole = "://" in source or Path(source).is_absolute()
        return connection.open_parquet(source if whole else str(folder / source))
    *place, name = source.split(".")
    try:
        return connection.table(name, database=tuple(place) or None)
    except Exception as error:
        known: list[str] = []
        with contextlib.suppress(Exception):
            known = connection.list_tables(database=tuple(place) or None)
        raise InputError(f"there is no table '{source}' in Spark.{suggest_name(name, known)} {explain(error)}") from None


class SparkCompiler(PySparkCompiler):
    """Writes SQL that gives what the same expression gives on the embedded engine."""

    __slots__ = ()

    def visit_IsNull(self, op: Any, *, arg: Any) -> Any:
        """NaN is a value, not a missing one."""
        return arg.is_(sge.Null())

    def visit_NotNull(self, op: Any, *, arg: Any) -> Any:
        """NaN is a value, not a missing one."""
        return arg.is_(sge.not_(sge.Null()))

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
                cast = self.f.coalesce(cast, super().visit_TryCast(op, arg=self.f.anon.rint(number), to=to))
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
        text, form = op.args
        pattern = translate_form(form.value)
        return self.f.anon.try_to_timestamp(kw["text"], sge.convert(pattern))


def translate_form(form: str) -> str:
    """A form as Python writes it (%d.%m.%Y), as Java does.

    Raises:
        InputError: a part that Spark cannot read.

    >>> translate_form("%d.%m.%Y %H:%M")
    "d'.'M'.'y' 'H':'m"
    """
    parts = []
    for directive, text in re.findall(r"%-?(.)|([^%]+)", form):
        if directive and directive not in _DIRECTIVES:
            raise InputError(f"format '{form}': Spark cannot read %{directive}. Known: %{', %'.join(_DIRECTIVES)}.")
        parts.append(_DIRECTIVES[directive] if directive else "'" + text.replace("'", "''") + "'")
    return "".join(parts)


class Backend(IbisSparkBackend):
    """Ibis's Spark, which creates nothing in a catalog and explains what goes wrong."""

    name = "pyspark"
    compiler = SparkCompiler()

    @contextlib.contextmanager
    def explained(self) -> Iterator[None]:
        """Turn Spark's errors into a sentence."""
        try:
            with _quiet():
                yield
        except (PySparkException, Py4JError, ConnectionError) as error:
            raise EngineError(self._explain(error)) from None

    def _explain(self, error: Exception) -> str:
        if isinstance(error, ConnectionError | Py4JNetworkError) or not self._is_alive():
            return "Spark was stopped, or its process ended. Start again; if it ends again, it may need more memory."
        return f"Spark could not answer: {explain(error)}"

    def _is_alive(self) -> bool:
        try:
            return not self._session.sparkContext._jsc.sc().isStopped()
        except Exception:
            return False

    def open_parquet(self, path: str) -> ir.Table:
        """Parquet files as a table; files may differ in the order of columns and lack some."""
        name = ibis.util.gen_name("parquet")
        try:
            with _quiet():
                frame = self._session.read.option("mergeSchema", "true").parquet(path)
                frame.createOrReplaceTempView(name)
        except (PySparkException, Py4JError) as error:
            if "PATH_NOT_FOUND" in str(error):
                raise InputError(f"there is nothing at '{path}'.") from None
            raise InputError(f"'{path}' cannot be read as Parquet: {explain(error)}") from None
        return self.table(name)

    def get_schema(self, table_name: str, *, catalog: str | None = None, database: str | None = None) -> ibis.Schema:
        """A table's columns; times that are moments have a zone, others are as a clock shows them."""
        with self._active_catalog_database(catalog, database):
            fields = self._session.table(f"`{table_name}`").schema.fields
        known = PySparkSchema.to_ibis([(f.name, f.dataType) for f in fields])
        moments = {f.name for f in fields if isinstance(f.dataType, TimestampType)}
        return ibis.schema({n: dt.Timestamp(timezone="UTC") if n in moments else k for n, k in known.items()})

    def _fetch(self, expr: ir.Expr, *, params: Any = None, limit: Any = None) -> pa.Table:
        with self.explained():
            self._run_pre_execute_hooks(expr)
            return self._session.sql(self.compile(expr.as_table(), params=params, limit=limit)).toArrow()

    def to_pyarrow(self, expr: ir.Expr, /, *, params: Any = None, limit: Any = None, **options: Any) -> Any:
        """Run an expression and fetch its result as Arrow."""
        return expr.__pyarrow_result__(self._fetch(expr, params=params, limit=limit), data_mapper=DuckDBPyArrowData)

    def execute(self, expr: ir.Expr, /, *, params: Any = None, limit: Any = None, **options: Any) -> Any:
        """Run an expression and fetch its result as pandas, with the types that the embedded engine gives."""
        schema = expr.as_table().schema()
        table = DuckDBPyArrowData.convert_table(self._fetch(expr, params=params, limit=limit), schema)
        columns = {
            name: column.to_pylist() if pa.types.is_nested(column.type) or column.null_count else column.to_pandas()
            for name, column in zip(table.column_names, table.columns, strict=True)
        }
        return expr.__pandas_result__(DuckDBPandasData.convert_table(pd.DataFrame(columns), schema))

    def _register_in_memory_table(self, op: Any) -> None:
        with self._as_active():
            data = op.data.to_pyarrow(op.schema)
            frame = self._session.createDataFrame(data, schema=PySparkSchema.from_ibis(op.schema))
        frame.createOrReplaceTempView(op.name)

    @contextlib.contextmanager
    def _as_active(self) -> Iterator[None]:
        """Making a frame makes its session the active one: the user's stays it."""
        before = SparkSession._activeSession
        try:
            yield
        finally:
            SparkSession._activeSession = before
            if before is not None:
                before._jvm.SparkSession.setActiveSession(before._jsparkSession)

    def _create_cached_table(self, name: str, expr: ir.Table) -> ir.Table:
        schema = expr.schema()
        with self.explained():
            self._run_pre_execute_hooks(expr)
            frame = self._session.sql(self.compile(expr))
            kinds = PySparkSchema.from_ibis(schema)
            # Spark's own types are narrower at times; the kept table has those that the expression names.
            frame = frame.select(*(functions.col(f"`{f.name}`").cast(f.dataType) for f in kinds))
            # Not `cache()`: Spark would carry how the table was made into every plan over it, and kept tables are made
            # of kept tables, so that plans grow without end.
            frame = frame.toDF(*schema.names).localCheckpoint(eager=True)
            frame.createTempView(name)
        self._cached_dataframes[name] = frame
        return ops.DatabaseTable(name, schema=schema, source=self).to_expr()

    def _drop_cached_table(self, name: str) -> None:
        frame = self._cached_dataframes.pop(name, None)
        # A Spark that has ended keeps nothing.
        with contextlib.suppress(PySparkException, Py4JError, ConnectionError), _quiet():
            self._session.catalog.dropTempView(name)
            if frame is not None:
                frame._jdf.logicalPlan().rdd().unpersist(False)

    def disconnect(self) -> None:
        """Let go of what is kept; Spark itself may serve others, and ends with the process."""
        for name in list(self._cached_dataframes):
            self._drop_cached_table(name)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the log of the bridge to Java, which repeats every error at length."""
    loggers = [logging.getLogger(name) for name in ("py4j", "py4j.clientserver", "py4j.java_gateway", "SQLQueryContextLogger")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def explain(error: Exception) -> str:
    """What Spark says went wrong, in a line: without Java's stack, and the last cause of several."""
    text = str(error).strip()
    causes = _CAUSES.findall(text)
    message = text.splitlines()[0] if text else type(error).__name__
    if not isinstance(error, AnalysisException) and causes:
        message = causes[-1][1]
    message = message.partition("; line ")[0].partition(" SQLSTATE")[0].strip()
    return re.sub(r"^\[([A-Z_.]+)\] ", "", message)[:300]

"""Spark: a session of our own beside the user's, and what Ibis writes otherwise than the embedded engine means it.

Nothing is created in a catalog: kept tables and tables of our own are temporary views of our session, and die with it.
"""

from __future__ import annotations

import contextlib
import logging
import re
import socket
import tempfile
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ibis
import ibis.expr.datatypes as dt
import ibis.expr.operations as ops
import ibis.expr.types as ir
import pandas as pd
import pyarrow as pa
from ibis.backends.duckdb.converter import DuckDBPandasData, DuckDBPyArrowData
from ibis.backends.pyspark import Backend as IbisSparkBackend
from ibis.backends.pyspark.datatypes import PySparkSchema
from py4j.protocol import Py4JError, Py4JNetworkError  # type: ignore[import-untyped]
from pyspark import SparkConf, SparkContext
from pyspark.errors import AnalysisException, PySparkException
from pyspark.java_gateway import launch_gateway
from pyspark.sql import SparkSession, functions
from pyspark.sql.types import TimestampType

from opslib.data.engines.spark_sql import SparkCompiler
from opslib.errors import EngineError, EngineLostError, EngineUnreachableError, InputError, suggest_name

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
}
# The same of one that runs on this machine alone: small data, and nobody to look at its pages.
LOCAL = {
    "spark.ui.enabled": "false",
    "spark.sql.shuffle.partitions": "4",
    # Nothing of it is heard beyond this machine.
    "spark.driver.host": "localhost",
    "spark.driver.bindAddress": "127.0.0.1",
}
# The same on a cluster: a report's notebooks are each a program of their own there. The first would hold all the
# processors, and the others wait for them.
CLUSTER = {
    "spark.dynamicAllocation.enabled": "true",
    "spark.dynamicAllocation.executorIdleTimeout": "5s",
    "spark.dynamicAllocation.shuffleTracking.timeout": "5s",
}

LOGGERS = ("py4j", "py4j.clientserver", "py4j.java_gateway", "SQLQueryContextLogger")

_JAVA = "Spark 4 needs Java 17 or newer: install it, and set JAVA_HOME to its folder."
_CAUSES = re.compile(r"(?m)^(?:Caused by: )?(?:[a-z]\w*\.)+([A-Z]\w*(?:Exception|Error)): (.+)$")


def connect_spark(address: str) -> Backend:
    """Connect to Spark.

    Args:
        address: a master (`local[2]`, `local-cluster[2,1,2048]`, `spark://host:7077`); `spark://` alone takes the
            session that this process has, or starts one as spark-defaults say.

    Raises:
        EngineUnreachableError: there is no Java, or the cluster cannot be reached.
        InputError: this process has another Spark already.
    """
    master = "" if address.removeprefix("pyspark").removeprefix("spark") == "://" else address
    existing = _find_session()
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


def _find_session() -> SparkSession | None:
    """The session that this process has; another thread's too."""
    try:
        with _quiet():
            found = SparkSession.getActiveSession() or SparkSession._instantiatedSession
    except (Py4JError, ConnectionError):
        raise EngineUnreachableError(
            "[data] url: the Spark of this process has ended, and a process has but one: start again."
        ) from None
    return found if found is not None and found._sc._jsc is not None else None


def _start_session(master: str) -> SparkSession:
    if master.startswith("spark://"):
        _check_reachable(master)
    _start_java()
    conf = SparkConf()
    if master:
        conf.setMaster(master)
    local = conf.get("spark.master", "local").startswith("local")
    for name, value in (OWN | (LOCAL if local else CLUSTER)).items():
        conf.setIfMissing(name, value)
    # Java's side sets it for any Python session; it would write into the progress of a report.
    conf.set("spark.ui.showConsoleProgress", "false")
    if local and not conf.contains("spark.sql.warehouse.dir"):
        # Spark makes this folder, by default where the process runs. This one goes when Java ends.
        java: Any = SparkContext._jvm
        conf.set("spark.sql.warehouse.dir", java.org.apache.spark.util.Utils.createTempDir().getAbsolutePath())
    try:
        with _quiet():
            session = SparkSession.builder.config(conf=conf).getOrCreate()
            session.sparkContext.setLogLevel(conf.get("spark.log.level", "ERROR"))
    except Exception as error:
        raise EngineUnreachableError(
            f"[data] url: Spark on '{master or 'its default master'}' did not start: {explain(error)}"
        ) from None
    return session


def _start_java() -> None:
    """Start Java, which reads spark-defaults, with its log out of sight: it repeats each error over a hundred lines."""
    if SparkContext._gateway is not None:
        return
    with tempfile.TemporaryFile() as log:
        try:
            SparkContext._ensure_initialized(gateway=launch_gateway(popen_kwargs={"stderr": log}))
        except Exception:
            log.seek(0)
            said = log.read().decode(errors="replace").strip().splitlines()
            raise EngineUnreachableError(
                f"[data] url: Spark cannot be started: {said[-1][:300] if said else 'no Java'}. {_JAVA}"
            ) from None


def _check_reachable(master: str) -> None:
    """Refuse a cluster at which nobody answers: Spark itself would try for a minute."""
    hosts = [host.partition(":") for host in master.removeprefix("spark://").split(",")]
    for host, _, port in hosts:
        with contextlib.suppress(OSError, ValueError):
            socket.create_connection((host, int(port or STANDALONE_PORT)), timeout=CONNECT_SECONDS).close()
            return
    raise EngineUnreachableError(
        f"[data] url: no Spark answers at {master}. See whether its master runs, and whether the port is right."
    )


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
        EngineLostError: Spark is gone.
    """
    if "/" in source or source.endswith(".parquet"):
        whole = "://" in source or Path(source).is_absolute()
        return connection.open_parquet(source if whole else str(folder / source))
    *place, name = source.split(".")
    try:
        with _quiet():
            return connection.table(name, database=tuple(place) or None)
    except Exception as error:
        connection.check_alive(error)
        known: list[str] = []
        with contextlib.suppress(Exception):
            known = connection.list_tables(database=tuple(place) or None)
        raise InputError(
            f"there is no table '{source}' in Spark.{suggest_name(name, known)} {explain(error)}"
        ) from None


class Backend(IbisSparkBackend):
    """Ibis's Spark, which creates nothing in a catalog and explains what goes wrong."""

    name = "pyspark"
    compiler = SparkCompiler()

    def do_connect(self, session: SparkSession) -> None:
        """Take a session into use."""
        super().do_connect(session)
        self.unused: deque[str] = deque()

    @contextlib.contextmanager
    def explained(self) -> Iterator[None]:
        """Turn Spark's errors into a sentence.

        Raises:
            EngineLostError: Spark is gone, or a worker process with what was kept in it.
            EngineError: Spark could not answer a query.
        """
        try:
            with _quiet():
                yield
        except Exception as error:
            self.check_alive(error)
            if isinstance(error, PySparkException | Py4JError):
                raise EngineError(f"Spark could not answer: {explain(error)}") from None
            raise

    def check_alive(self, error: Exception) -> None:
        """Tell an error by which Spark has ended, or a worker process with what was kept there.

        Raises:
            EngineLostError: it is one.
        """
        if isinstance(error, ConnectionError | Py4JNetworkError) or not self._is_alive():
            raise EngineLostError(
                "Spark was stopped, or its process ended. Start again; if it ends again, it may need more memory."
            ) from None
        if "Checkpoint block" in str(error):
            raise EngineLostError(
                "A worker process of Spark ended, and tables that this run had kept there are gone. Start again; "
                "if it ends again, it may need more memory."
            ) from None

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
        except Exception as error:
            self.check_alive(error)
            if "PATH_NOT_FOUND" in str(error):
                raise InputError(f"there is nothing at '{path}'.") from None
            advice = ""
            if "NANOS" in str(error):
                advice = " Its times count nanoseconds, which Spark cannot read: write them in microseconds."
            raise InputError(f"'{path}' cannot be read as Parquet: {explain(error)}{advice}") from None
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
            self._drop_unused()
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
                java: Any = before._jvm
                java.SparkSession.setActiveSession(before._jsparkSession)

    def _create_cached_table(self, name: str, expr: ir.Table) -> ir.Table:
        schema = expr.schema()
        with self.explained():
            self._drop_unused()
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
        # Python notices that nobody refers to a table whenever it likes, also in the middle of a call to Java on this
        # very connection.
        self.unused.append(name)

    def _finalize_cached_table(self, name: str) -> None:
        # Ibis raises here what a collection of garbage cannot report to anybody.
        with contextlib.suppress(Exception):
            super()._finalize_cached_table(name)

    def _drop_unused(self) -> None:
        while self.unused:
            name = self.unused.popleft()
            if (frame := self._cached_dataframes.pop(name, None)) is not None:
                self._session.catalog.dropTempView(name)
                frame._jdf.logicalPlan().rdd().unpersist(False)

    def disconnect(self) -> None:
        """Let go of what is kept; Spark itself may serve others, and ends with the process."""
        self.unused.extend(self._cached_dataframes)
        # A Spark that has ended keeps nothing.
        with contextlib.suppress(EngineError), self.explained():
            self._drop_unused()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the log of the bridge to Java, which repeats every error at length."""
    loggers = [logging.getLogger(name) for name in LOGGERS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    # Some of it goes to the root.
    logging.root.addFilter(_is_not_of_the_bridge)
    try:
        yield
    finally:
        logging.root.removeFilter(_is_not_of_the_bridge)
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _is_not_of_the_bridge(record: logging.LogRecord) -> bool:
    return "py4j" not in record.pathname


def explain(error: Exception) -> str:
    """What Spark says went wrong, in a line: without Java's stack, and the last cause of several."""
    text = str(error).strip()
    causes = _CAUSES.findall(text)
    message = text.splitlines()[0] if text else type(error).__name__
    if not isinstance(error, AnalysisException) and causes:
        message = causes[-1][1]
    message = message.partition("; line ")[0].partition(" SQLSTATE")[0].strip()
    return re.sub(r"^\[([A-Z_.]+)\] ", "", message)[:300]

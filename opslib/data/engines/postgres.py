"""Postgres: a connection that only reads, and says in a sentence what went wrong.

Without a scratch schema nothing is ever created, not even a temporary table: what measures keep stays an expression,
and small tables of our own are written into the query. With one, kept tables lie there until nobody needs them.
"""

from __future__ import annotations

import contextlib
import functools
import weakref
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

import ibis
import ibis.expr.types as ir
import psycopg
import pyarrow as pa
import sqlglot as sg
from ibis.backends.postgres import Backend as PostgresBackend

from opslib.data.engines import close_at_end
from opslib.data.engines.address import Address
from opslib.data.engines.postgres_sql import PostgresCompiler
from opslib.errors import EngineError, EngineLostError, EngineUnreachableError, InputError

CONNECT_SECONDS = 10
# The start of the names of kept tables: opslib, the server's process that made it, a number.
KEPT = "opslib"

SETTINGS = (
    "default_transaction_read_only = on",
    # Compiling a long query costs seconds, and saves less.
    "jit = off",
    # Of what comes out of several steps the planner believes that it is one row, and goes through a table for each.
    "enable_nestloop = off",
)
# What to do about what a database refuses, by its code.
ADVICE = {
    "42501": " Ask for the right to read it (GRANT SELECT).",
    "57014": " Allow queries more time (statement_timeout; PGOPTIONS sets it), or name a scratch schema under [data].",
    "53100": " The database has no room left.",
}


def connect_postgres(address: Address, *, scratch: str | None = None) -> Backend:
    """Connect to Postgres: for reading alone, or with a schema in which tables may be kept.

    Args:
        address: a URL as Postgres's own tools read it; what it leaves out (user, password, certificates) comes from the
            environment: PGUSER, PGPASSWORD, PGPASSFILE, PGSERVICE.
        scratch: a schema that exists, in which the user may create tables.

    Raises:
        EngineUnreachableError: the database cannot be reached, or refuses the user.
        InputError: it has no such schema.
    """
    options: dict[str, Any] = {} if "connect_timeout" in address.url else {"connect_timeout": CONNECT_SECONDS}
    try:
        connection = psycopg.connect(address.url, autocommit=True, **options)
    except (psycopg.Error, UnicodeError) as error:
        reason = tidy_message(address.hide(str(error)))
        raise EngineUnreachableError(
            f"[data] url: no connection to the database {address.text}: {reason} {_advise_login(reason)}"
        ) from None
    return Backend.open(connection, address, scratch)


def _advise_login(reason: str) -> str:
    if "password" in reason:
        return "Set the password in the environment: PGPASSWORD, or ${NAME} in the URL."
    if "does not exist" in reason:
        return "See whether the names in the URL are right."
    return "See whether the database runs there and lets you in."


_COLUMNS = (
    "FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace "
    "JOIN pg_type t ON t.oid = a.atttypid WHERE c.relname = %s AND n.nspname = %s AND a.attnum > 0"
)


@ibis.udf.scalar.builtin(name="text")
def _as_text(value: str) -> str:  # type: ignore[empty-body]
    """Text as such: not padded, not one of an enumeration, not blind to case."""


class Backend(PostgresBackend):
    """Ibis's Postgres, which creates nothing of its own accord and explains what goes wrong.

    Attributes:
        address: where it is.
        scratch: the schema in which tables may be kept; None: nothing is created.
        unused: kept tables to which nobody refers any more, dropped before the next query.
    """

    name = "postgres"
    compiler = PostgresCompiler()
    address: Address
    scratch: str | None
    unused: deque[str]

    @classmethod
    def open(cls, connection: psycopg.Connection[Any], address: Address, scratch: str | None) -> Backend:
        """Take a connection into use.

        Raises:
            InputError: there is no such scratch schema, or the user may not create tables in it.
        """
        backend = cls()
        backend.con, backend._can_reconnect = connection, False
        backend.address, backend.scratch, backend.unused = address, scratch, deque()
        with backend.explained():
            backend._post_connect()
            for setting in SETTINGS:
                connection.execute(f"SET {setting}")
            if scratch is not None:
                backend._open_scratch(scratch)
        return backend

    @contextlib.contextmanager
    def explained(self) -> Iterator[None]:
        """Turn the driver's errors into a sentence.

        Raises:
            EngineLostError: the connection is gone.
            EngineError: the database refused a query.
        """
        try:
            yield
        except psycopg.Error as error:
            reason = tidy_message(self.address.hide(str(error)))
            if self.con.closed:
                raise EngineLostError(
                    f"The connection to the database {self.address.text} was lost: {reason} "
                    "See whether the database runs, and start again."
                ) from None
            advice = ADVICE.get(error.sqlstate or "", "")
            raise EngineError(f"The database {self.address.text} could not answer: {reason}{advice}") from None

    def execute(self, expr: ir.Expr, /, **options: Any) -> Any:
        """Run an expression and fetch its result as pandas."""
        with self.explained():
            self._drop_unused()
            return super().execute(expr, **options)

    def to_pyarrow_batches(self, expr: ir.Expr, /, **options: Any) -> pa.RecordBatchReader:
        """Run an expression and fetch its result by and by."""
        with self.explained():
            self._drop_unused()
            batches = super().to_pyarrow_batches(expr, **options)
        return pa.RecordBatchReader.from_batches(batches.schema, self._read_batches(batches))

    def _read_batches(self, batches: pa.RecordBatchReader) -> Iterator[pa.RecordBatch]:
        with self.explained():
            yield from batches

    def open_table(self, name: str, database: str | None) -> ir.Table:
        """Open a user's table; texts of any kind become plain ones."""
        table = self.table(name, database=database)
        ask = f"SELECT a.attname {_COLUMNS} AND t.typname NOT IN ('text', 'varchar')"
        with self.explained():
            others = {n for (n,) in self.con.execute(ask, (name, database or self.current_database))}
        texts = [c for c in table.columns if c in others and table[c].type().is_string()]
        return table.mutate(**{c: _as_text(table[c]) for c in texts}) if texts else table

    def get_schema(self, name: str, **place: Any) -> Any:
        """The columns of a table; of a domain, the type that it narrows."""
        with self.explained():
            schema = super().get_schema(name, **place)
            if not any(kind.is_unknown() for kind in schema.types):
                return schema
            ask = f"SELECT a.attname, format_type(t.typbasetype, t.typtypmod) {_COLUMNS} AND t.typtype = 'd'"
            domains = dict(self.con.execute(ask, (name, place.get("database") or self.current_database)).fetchall())
        kinds = {c: self.compiler.type_mapper.from_string(domains[c]) for c in schema.names if c in domains}
        return ibis.schema({**dict(schema.items()), **kinds})

    def list_tables(self, **place: Any) -> list[str]:
        """The tables that there are."""
        with self.explained():
            return list(super().list_tables(**place))

    def interrupt(self) -> None:
        """End the query that runs, from another thread."""
        self.con.cancel_safe()

    def _register_in_memory_table(self, op: Any) -> None:
        """Nothing to do: the table stands in the query."""

    def _make_memtable_finalizer(self, name: str) -> None:
        return None

    def _cached_table(self, table: ir.Table) -> ir.Table:
        return table if self.scratch is None else super()._cached_table(table)

    def _create_cached_table(self, name: str, expr: ir.Table) -> ir.Table:
        name = f"{self._kept_prefix}{name.removeprefix('ibis_cached_')}"
        # Postgres makes a sum of whole numbers a decimal; the kept table has the types that the expression names.
        kinds = expr.schema()
        inner = self.compiler.to_sqlglot(expr)
        columns = (self.compiler.cast(sg.column(c, quoted=True), kind).as_(c, quoted=True) for c, kind in kinds.items())
        query = sg.select(*columns).from_(inner.subquery("kept"))
        place = self._place(name)
        with self.explained():
            self._drop_unused()
            with self._writing() as cursor:
                cursor.execute(f"CREATE UNLOGGED TABLE {place} AS {query.sql(self.dialect)}")
                cursor.execute(f"ANALYZE {place}")
        return self.table(name, database=self.scratch)

    def _drop_cached_table(self, name: str) -> None:
        # Python notices that nobody refers to a table whenever it likes, also in the middle of a query of this very
        # connection, which would wait for itself.
        self.unused.append(name)

    def _finalize_cached_table(self, name: str) -> None:
        # Ibis raises here what a collection of garbage cannot report to anybody.
        with contextlib.suppress(Exception):
            super()._finalize_cached_table(name)

    def _drop_unused(self) -> None:
        while self.unused:
            self._drop([self.unused.popleft()])

    def _drop(self, names: Sequence[str]) -> None:
        if names:
            with self._writing() as cursor:
                cursor.execute(f"DROP TABLE IF EXISTS {', '.join(map(self._place, names))}")

    @contextlib.contextmanager
    def _writing(self) -> Iterator[psycopg.Cursor[Any]]:
        with self.begin() as cursor:
            cursor.execute("SET TRANSACTION READ WRITE")
            yield cursor

    def _place(self, name: str) -> str:
        return str(sg.table(name, db=self.scratch, quoted=True).sql(self.dialect))

    @property
    def _kept_prefix(self) -> str:
        return f"{KEPT}_{self.con.info.backend_pid}_"

    def _open_scratch(self, scratch: str) -> None:
        ask = "SELECT has_schema_privilege(oid, 'CREATE') FROM pg_namespace WHERE nspname = %s"
        found = self.con.execute(ask, (scratch,)).fetchone()
        if found is None or not found[0]:
            what = "there is no such schema" if found is None else "you may not create tables in that schema"
            raise InputError(
                f"[data] scratch: '{scratch}': {what} in the database. Ask for one (CREATE SCHEMA {scratch} "
                "AUTHORIZATION your_user), or leave scratch out: then nothing is created, and long reports are slower."
            )
        self._drop_left()
        close_at_end(functools.partial(_close, weakref.ref(self)))

    def _drop_left(self) -> None:
        """Drop what lies in the scratch schema of runs that have ended: of sessions that the server has no more."""
        left = self.con.execute(
            "SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
            "WHERE n.nspname = %s AND c.relkind = 'r' AND c.relname ~ %s "
            "AND c.relowner = (SELECT oid FROM pg_roles WHERE rolname = current_user) AND NOT EXISTS "
            "(SELECT FROM pg_stat_activity a WHERE a.pid::text = split_part(c.relname, '_', 2) "
            "AND a.pid <> pg_backend_pid())",
            (self.scratch, f"^{KEPT}_[0-9]+_"),
        ).fetchall()
        # One by one: another run may be tidying up as well.
        for (name,) in left:
            self._drop([name])


def _close(backend: weakref.ref[Backend]) -> None:
    """Leave nothing behind, when the process ends."""
    if (open_one := backend()) is not None and not open_one.con.closed:
        with contextlib.suppress(psycopg.Error):
            open_one._drop_left()
            open_one.con.close()


def tidy_message(message: str) -> str:
    """A driver's message as one sentence, without the query in which it stumbled."""
    lines = [line.strip() for line in message.strip().splitlines() if not line.startswith(("LINE ", "   "))]
    text = " ".join(line for line in lines if line)[:400].rstrip()
    return text if text.endswith((".", "?", "!")) else f"{text}."

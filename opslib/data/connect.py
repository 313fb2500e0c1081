"""Connecting to the engine and opening single tables: files beside the playbook, a DuckDB file, a database by URL."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ibis
import ibis.expr.types as ir

from opslib.data.contract import CONTRACTS
from opslib.data.engines.address import read_address
from opslib.data.files import find_files, read_files
from opslib.data.memory_limit import limit_memory
from opslib.data.playbook import Playbook
from opslib.data.settings import TableSource
from opslib.errors import EngineError, EngineUnreachableError, InputError, suggest_name

if TYPE_CHECKING:
    from ibis.backends import BaseBackend


def connect(playbook: Playbook) -> BaseBackend:
    """Connect to the engine where the playbook's tables live: the embedded one, a DuckDB file, or a database by URL.

    Raises:
        InputError: nothing answers there, or the URL cannot be used.
    """
    settings = playbook.data
    if settings.url is None:
        return _open_embedded(None, settings.memory_gb)
    address = read_address(settings.url)
    if settings.scratch is not None and address.engine != "postgres":
        raise InputError("[data] scratch: only a Postgres database has a scratch schema. Take it out.")
    if address.engine == "postgres":
        postgres = _import_engine("postgres")
        return postgres.connect_postgres(address, scratch=settings.scratch)
    if address.engine == "spark":
        return _import_engine("spark").connect_spark(address.url)
    if address.engine == "other":
        # Ibis knows more engines; opslib is not tested on them (docs/engines.md).
        try:
            return ibis.connect(address.url)
        except Exception as error:
            message = address.hide(first_line(error))
            raise InputError(f"[data] url: no connection to the database: {message}") from None
    path = Path(address.url.removeprefix("duckdb://")).expanduser()
    return _open_embedded(path if path.is_absolute() else playbook.folder / path, settings.memory_gb)


def _open_embedded(path: Path | None, memory_gb: float | None) -> BaseBackend:
    if path is not None and not path.is_file():
        raise InputError(f"[data] url: there is no DuckDB file at '{path}'.")
    try:
        connection = ibis.duckdb.connect() if path is None else ibis.duckdb.connect(path, read_only=True)
    except Exception as error:
        assert path is not None
        raise InputError(f"[data] url: '{path.name}' is not a readable DuckDB file: {first_line(error)}") from None
    # Times with a zone become UTC; results come in the same order whatever the number of threads.
    connection.raw_sql("SET TimeZone = 'UTC'")
    connection.raw_sql("SET enable_progress_bar = false")
    limit_memory(connection, memory_gb)
    return connection


def _import_engine(name: str) -> Any:
    """An engine's module; its driver is an extra of the package."""
    try:
        return importlib.import_module(f"opslib.data.engines.{name}")
    except ImportError as error:
        raise InputError(
            f"[data] url: the driver for {name} is not installed ({error.name}). "
            f"Install it: pip install 'opslib[{name}]'."
        ) from None


def open_table(
    connection: Any, name: str, source: TableSource, playbook: Playbook, *, file_column: str = ""
) -> ir.Table:
    """Open one table of the playbook as the user has it.

    Args:
        connection: what `connect` gave.
        name: the contract's table.
        source: its entry in the playbook.
        playbook: for the folder that paths start from.
        file_column: a further column for the file of each row, where the engine can tell it.

    Raises:
        InputError: there is no such table or file, or it cannot be read; the message names the playbook's entry.
    """
    if connection.name == "pyspark":
        try:
            return _import_engine("spark").open_spark_table(connection, source.source, playbook.folder)
        except EngineUnreachableError:
            raise
        except InputError as error:
            raise InputError(f"[tables.{name}] source: {error}") from None
    if playbook.data.url is not None:
        *schema, table = source.source.split(".")
        try:
            if connection.name == "postgres":
                return connection.open_table(table, ".".join(schema) or None)
            return connection.table(table, database=tuple(schema) or None)
        except EngineError:
            raise
        except Exception as error:
            known = connection.list_tables(database=tuple(schema) or None) if not schema else []
            raise InputError(
                f"[tables.{name}] source: there is no table '{source.source}' in the database."
                f"{suggest_name(table, known)} {first_line(error)}"
            ) from None
    try:
        files = find_files(source.source, playbook.folder)
        as_text = _columns_read_as_text(name, source)
        return read_files(
            connection,
            files,
            delimiter=source.delimiter,
            header=source.header,
            as_text=as_text,
            file_column=file_column,
        )
    except InputError as error:
        raise InputError(f"[tables.{name}] source: {error}") from None


def _columns_read_as_text(name: str, source: TableSource) -> tuple[str, ...]:
    """Columns of text files that the engine must not guess at: times (22-04-15 reads three ways) and ids as text."""
    contract = CONTRACTS[name]
    times = {c.name for c in contract.columns if c.kind in ("timestamp", "date")}
    mapped = [
        origin.column
        for target, origin in source.columns.items()
        if origin.column and (origin.type == "text" or origin.format or (target in times and not origin.unit))
    ]
    return (*mapped, *(t for t in times if t not in source.columns))


def first_line(error: Exception) -> str:
    """The first line of an engine's message: the rest is its own internals."""
    lines = str(error).strip().splitlines()
    return re.sub(r"^[A-Z][\w ]* Error: ", "", lines[0])[:300] if lines else type(error).__name__

"""Connecting to the engine and opening single tables: files beside the playbook, a DuckDB file, a database by URL."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ibis
import ibis.expr.types as ir

from opslib.data.contract import CONTRACTS
from opslib.data.files import find_files, read_files
from opslib.data.playbook import Playbook
from opslib.data.settings import TableSource
from opslib.errors import InputError, suggest_name

if TYPE_CHECKING:
    from ibis.backends import BaseBackend


def connect(playbook: Playbook) -> BaseBackend:
    """Connect to the engine where the playbook's tables live: the embedded one, a DuckDB file, or a database by URL."""
    url = playbook.data.url
    if url is None:
        connection = ibis.duckdb.connect()
    elif "://" in url and not url.startswith("duckdb://"):
        try:
            connection = ibis.connect(url)
        except Exception as error:
            raise InputError(f"[data] url: no connection to the database: {first_line(error)}") from None
    else:
        path = Path(url.removeprefix("duckdb://")).expanduser()
        path = path if path.is_absolute() else playbook.folder / path
        if not path.is_file():
            raise InputError(f"[data] url: there is no DuckDB file at '{path}'.")
        try:
            connection = ibis.duckdb.connect(path, read_only=True)
        except Exception as error:
            raise InputError(f"[data] url: '{path.name}' is not a readable DuckDB file: {first_line(error)}") from None
    if connection.name == "duckdb":
        # Times with a zone become UTC; results come in the same order whatever the number of threads.
        connection.raw_sql("SET TimeZone = 'UTC'")
        connection.raw_sql("SET enable_progress_bar = false")
    return connection


def open_table(connection: Any, name: str, source: TableSource, playbook: Playbook) -> ir.Table:
    """Open one table of the playbook as the user has it.

    Raises:
        InputError: there is no such table or file, or it cannot be read; the message names the playbook's entry.
    """
    if playbook.data.url is not None:
        *schema, table = source.source.split(".")
        try:
            return connection.table(table, database=tuple(schema) or None)
        except Exception as error:
            known = connection.list_tables(database=tuple(schema) or None) if not schema else []
            raise InputError(
                f"[tables.{name}] source: there is no table '{source.source}' in the database."
                f"{suggest_name(table, known)} {first_line(error)}"
            ) from None
    try:
        files = find_files(source.source, playbook.folder)
        as_text = _columns_read_as_text(name, source)
        return read_files(connection, files, delimiter=source.delimiter, header=source.header, as_text=as_text)
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

"""Data for a second thread: a connection of its own, and a way to cut its queries short from outside."""

from __future__ import annotations

import contextlib
from collections import deque

from opslib.data.source import Data, open_data


def reopen_data(data: Data) -> Data:
    """Open the same data once more, on a connection of its own, without checking them again.

    An engine's connection serves one thread at a time.

    Raises:
        InputError: a file is no longer there.
    """
    again = open_data(data.playbook)
    # Ibis drops a table that it kept as soon as nobody refers to it, on whichever thread notices: that must not meet
    # a query of another thread on the same connection.
    again.connection.unused_tables = deque()
    again.connection._drop_cached_table = again.connection.unused_tables.append
    # Cached properties: what is known of the data holds for both.
    again.__dict__["fitness"] = data.fitness
    if "fingerprint" in data.__dict__:
        again.__dict__["fingerprint"] = data.fingerprint
    return again


def drop_unused(data: Data) -> None:
    """Drop the kept tables that nobody refers to any more; on the thread that uses the connection."""
    connection = data.connection
    while connection.unused_tables:
        type(connection)._drop_cached_table(connection, connection.unused_tables.popleft())


def interrupt_queries(data: Data) -> None:
    """End the query that runs on a connection, if one does and the engine can; its thread gets an error."""
    # Postgres's backend has it, DuckDB's its connection; others finish their query, and the result is thrown away.
    with contextlib.suppress(Exception):
        (data.connection if hasattr(data.connection, "interrupt") else data.connection.con).interrupt()

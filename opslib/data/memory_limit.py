"""How much memory the embedded engine may take, and where it writes what does not fit."""

from __future__ import annotations

import os
import re
import secrets
import tempfile
from pathlib import Path
from typing import Any

GB = 10**9
# A hundred million events need less; more would only be taken from what else runs here.
MOST_BY_DEFAULT = 8 * GB
# Of the memory that the engine found. Two notebooks run at once even on a small machine.
PART_BY_DEFAULT = 0.5
# The engine takes four fifths of what there is unless told.
_ENGINES_PART = 0.8
_UNITS = {"bytes": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}


def limit_memory(connection: Any, memory_gb: float | None = None) -> None:
    """Bound the memory of an embedded engine that was just opened, and name a folder for what it writes to disk.

    Args:
        connection: its Ibis connection.
        memory_gb: the bound; None: 8 GB, or half of the machine's or container's memory where that is less.

    The folder is made when it is first needed and removed when the connection ends; that of a killed process goes with
    the next report.
    """
    if memory_gb is None:
        most = min(MOST_BY_DEFAULT, int(read_memory_limit(connection) / _ENGINES_PART * PART_BY_DEFAULT))
    else:
        most = int(memory_gb * GB)
    # The name is one that `opslib.run.kernels.remove_dead_folders` knows.
    folder = Path(tempfile.gettempdir()) / f"opslib-{os.getpid()}-spill-{secrets.token_hex(4)}"
    quoted = str(folder).replace("'", "''")
    connection.raw_sql(f"SET memory_limit = '{most}B'")
    connection.raw_sql(f"SET temp_directory = '{quoted}'")


def read_memory_limit(connection: Any) -> int:
    """The bound of an embedded engine, in bytes; of another, what events that are fetched from it may take.

    >>> import ibis
    >>> engine = ibis.duckdb.connect()
    >>> limit_memory(engine, 2)
    >>> round(read_memory_limit(engine) / GB, 1)
    2.0
    """
    if connection.name != "duckdb":
        return MOST_BY_DEFAULT
    text = connection.raw_sql("SELECT current_setting('memory_limit')").fetchone()[0]
    found = re.fullmatch(r"([\d.]+) (\w+)", text)
    assert found is not None, text
    return int(float(found[1]) * _UNITS[found[2]])

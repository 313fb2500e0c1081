"""The engines that peers are written for: how each runs a query, and what it is told about threads and memory."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from benchmarks._measured import CACHE, ENGINE_GB, THREADS

ZONE_HOURS = 8  # Asia/Shanghai has had no other offset since 1991

Rows = list[tuple[Any, ...]]
Peers = dict[str, dict[str, Callable[[str], Rows]]]
"""Task -> engine -> what it counts in a folder."""


def files(folder: str) -> str:
    """The glob of a folder's events files; a single file as it is."""
    return folder if folder.endswith(".parquet") else f"{folder}/events/*.parquet"


def import_engine(engine: str) -> None:
    """Import the engine before the clock starts: we compare work, not start-up."""
    name = engine.partition("_")[0]
    __import__({"clickhouse": "chdb"}.get(name, name))


def query_duckdb(query: str) -> Rows:
    """Run SQL on DuckDB, which writes to disk what its memory does not hold."""
    import duckdb

    settings = {"threads": THREADS, "memory_limit": f"{ENGINE_GB}GB", "temp_directory": str(CACHE / "duckdb")}
    return duckdb.connect(config=settings).execute(query).fetchall()


def query_clickhouse(query: str, plain: Callable[[Rows], Rows]) -> Rows:
    """Run SQL on ClickHouse, told to write to disk half-way to its limit as its manual advises."""
    import chdb

    most = int(ENGINE_GB * 1e9)
    settings = f"max_threads = {THREADS}, max_memory_usage = {most}"
    settings += f", max_bytes_before_external_group_by = {most // 2}, max_bytes_before_external_sort = {most // 2}"
    text = str(chdb.query(f"{query} SETTINGS {settings}", "JSONCompactEachRow"))
    return plain([tuple(json.loads(line)) for line in text.splitlines() if line])

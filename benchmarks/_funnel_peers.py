"""The same funnel, written by hand for other engines: what a skilled person would type on each of them.

A program of its own (`python -m benchmarks._funnel_peers ENGINE FOLDER`), so that time and memory are counted from
nothing. It prints one JSON line: seconds from Parquet to result, peak memory, and users by step.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable

from benchmarks._measured import report_run
from benchmarks._peers import THREADS, Rows, files

STEPS = ("app_open", "view_item", "add_to_cart", "begin_checkout", "pay")
WINDOW_DAYS = 7


def clickhouse(folder: str, *, only_steps: bool = True) -> Rows:
    """ClickHouse's own aggregate function for this, over the steps' events only."""
    import chdb

    conditions = ", ".join(f"event = '{step}'" for step in STEPS)
    names = ", ".join(f"'{step}'" for step in STEPS)
    text = chdb.query(
        f"""
        SELECT level, count() FROM (
          SELECT user_id, windowFunnel({WINDOW_DAYS * 86_400_000})(
            toUInt64(toUnixTimestamp64Milli(ts)), {conditions}) AS level
          FROM file('{files(folder)}', Parquet) {f"WHERE event IN ({names})" if only_steps else ""} GROUP BY user_id)
        GROUP BY level SETTINGS max_threads = {THREADS}
        """,
        "JSONCompactEachRow",
    )
    found = {int(level): int(n) for level, n in map(json.loads, str(text).splitlines())}
    return [[sum(n for level, n in found.items() if level > i)] for i in range(len(STEPS))]  # type: ignore[misc]


def clickhouse_plain(folder: str) -> Rows:
    """The same without the filter, as the manual shows it."""
    return clickhouse(folder, only_steps=False)


def duckdb_windows(folder: str) -> Rows:
    """Nested window functions: the latest possible start, carried from step to step."""
    import duckdb

    case = " ".join(f"WHEN '{step}' THEN {i}" for i, step in enumerate(STEPS))
    names = ", ".join(f"'{step}'" for step in STEPS)
    layers = (
        f"SELECT user_id, ts, CASE event {case} END AS s, CASE WHEN event = '{STEPS[0]}' THEN ts END AS b0 "
        f"FROM read_parquet('{files(folder)}') WHERE event IN ({names})"
    )
    for i in range(1, len(STEPS)):
        layers = (
            f"SELECT *, CASE WHEN s = {i} AND last0 >= ts - INTERVAL {WINDOW_DAYS} DAY THEN last0 END AS b{i} FROM ("
            f"SELECT *, max(b{i - 1}) OVER (PARTITION BY user_id ORDER BY ts, s) AS last0 FROM ({layers}))"
        ).replace("last0", f"last{i}")
    counts = ", ".join(f"count(DISTINCT CASE WHEN b{i} IS NOT NULL THEN user_id END)" for i in range(len(STEPS)))
    row = duckdb.connect(config={"threads": THREADS}).execute(f"SELECT {counts} FROM ({layers})").fetchall()[0]
    return [[n] for n in row]  # type: ignore[misc]


ENGINES: dict[str, Callable[[str], Rows]] = {
    "clickhouse": clickhouse,
    "clickhouse_plain": clickhouse_plain,
    "duckdb_windows": duckdb_windows,
}


def main(engine: str, folder: str) -> None:
    """Run the funnel on one engine, which is imported before the clock starts."""
    __import__("duckdb" if engine.startswith("duckdb") else "chdb")
    report_run(ENGINES[engine], folder)


if __name__ == "__main__":
    os.environ.setdefault("POLARS_MAX_THREADS", str(THREADS))
    main(*sys.argv[1:3])

"""The same two measures, written by hand for other engines: what a skilled person would type on each of them.

A program of its own (`python -m benchmarks._peers TASK ENGINE FOLDER`), so that time and memory are counted from
nothing. It prints one JSON line: seconds from Parquet to result, peak memory, and the result itself for comparison.

Tasks: `scan` (distinct users), `scan_times` (the last time of each user), `growth` (growth accounting by week),
`triangle` (first-time cohorts by day, days 0 to 30).
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from typing import Any

from benchmarks._measured import THREADS, report_run

ZONE_HOURS = 8  # Asia/Shanghai has had no other offset since 1991
HORIZON = 30

Rows = list[tuple[Any, ...]]


def files(folder: str) -> str:
    """The glob of the events files."""
    return f"{folder}/events/*.parquet"


def duckdb_scan(folder: str) -> Rows:
    """The floor: count distinct users."""
    return _duckdb(f"SELECT count(DISTINCT user_id) FROM read_parquet('{files(folder)}')")


def duckdb_scan_times(folder: str) -> Rows:
    """The floor of whatever depends on times too: the last one of each user."""
    return _duckdb(
        f"SELECT sum(epoch(t)) FROM (SELECT max(ts) AS t FROM read_parquet('{files(folder)}') GROUP BY user_id)"
    )


def duckdb_growth(folder: str) -> Rows:
    """Weekly growth accounting with window functions over distinct user-weeks."""
    return _duckdb(
        f"""
        WITH weeks AS (
          SELECT DISTINCT user_id, date_trunc('week', ts + INTERVAL {ZONE_HOURS} HOUR)::DATE AS w
          FROM read_parquet('{files(folder)}')),
        marked AS (
          SELECT w, lag(w) OVER u AS before, lead(w) OVER u AS after
          FROM weeks WINDOW u AS (PARTITION BY user_id ORDER BY w)),
        gained AS (
          SELECT w, count(*) FILTER (before IS NULL) AS n, count(*) FILTER (before = w - 7) AS r,
                 count(*) FILTER (before < w - 7) AS s FROM marked GROUP BY w),
        lost AS (SELECT w + 7 AS w, count(*) AS c FROM marked WHERE after IS NULL OR after > w + 7 GROUP BY 1)
        SELECT strftime(g.w, '%Y-%m-%d'), n, r, s, coalesce(c, 0)::BIGINT
        FROM gained g LEFT JOIN lost l USING (w) ORDER BY 1
        """
    )


def duckdb_triangle(folder: str) -> Rows:
    """First-time cohorts by day from distinct user-days."""
    return _duckdb(
        f"""
        WITH days AS (
          SELECT DISTINCT user_id, (ts + INTERVAL {ZONE_HOURS} HOUR)::DATE AS d FROM read_parquet('{files(folder)}')),
        first AS (SELECT user_id, min(d) AS f FROM days GROUP BY 1)
        SELECT strftime(f, '%Y-%m-%d'), (d - f)::BIGINT AS n, count(*) FROM days JOIN first USING (user_id)
        WHERE d - f <= {HORIZON} GROUP BY 1, 2 ORDER BY 1, 2
        """
    )


def clickhouse_growth(folder: str) -> Rows:
    """Weekly growth accounting from each user's sorted array of weeks."""
    return _clickhouse(
        f"""
        WITH weeks AS (
          SELECT user_id,
                 arraySort(groupUniqArray(toRelativeWeekNum(toDate(ts + INTERVAL {ZONE_HOURS} HOUR, 'UTC')))) AS w
          FROM file('{files(folder)}', Parquet) GROUP BY user_id),
        marked AS (
          SELECT arrayJoin(arrayZip(w, arrayPushFront(arrayPopBack(w), 0), arrayPushBack(arrayPopFront(w), 0))) AS t,
                 t.1 AS now, t.2 AS before, t.3 AS after FROM weeks)
        SELECT now, countIf(before = 0), countIf(before = now - 1), countIf(before > 0 AND before < now - 1),
               countIf(after != now + 1) FROM marked GROUP BY now ORDER BY now
        """,
        _from_relative_weeks,
    )


def clickhouse_triangle(folder: str) -> Rows:
    """First-time cohorts by day from each user's array of days."""
    return _clickhouse(
        f"""
        WITH days AS (
          SELECT groupUniqArray(toUInt16(toDate(ts + INTERVAL {ZONE_HOURS} HOUR, 'UTC'))) AS d, arrayMin(d) AS f
          FROM file('{files(folder)}', Parquet) GROUP BY user_id)
        SELECT toString(toDate(f)), n, count() FROM (
          SELECT f, arrayJoin(arrayFilter(x -> x <= {HORIZON}, arrayMap(x -> x - f, d))) AS n FROM days)
        GROUP BY f, n ORDER BY f, n
        """,
        lambda rows: [(day, int(n), int(count)) for day, n, count in rows],
    )


def polars_growth(folder: str) -> Rows:
    """Weekly growth accounting with shifts over distinct user-weeks."""
    import polars as pl

    week = (pl.col("ts") + pl.duration(hours=ZONE_HOURS)).dt.truncate("1w").dt.date()
    weeks = pl.scan_parquet(files(folder)).select("user_id", w=week).unique().sort("user_id", "w")
    same_before = pl.col("user_id") == pl.col("user_id").shift(1)
    same_after = pl.col("user_id") == pl.col("user_id").shift(-1)
    marked = weeks.select(
        "w",
        before=pl.when(same_before).then((pl.col("w") - pl.col("w").shift(1)).dt.total_days()),
        after=pl.when(same_after).then((pl.col("w").shift(-1) - pl.col("w")).dt.total_days()),
    )
    counted = marked.group_by("w").agg(
        pl.col("before").is_null().sum().alias("n"),
        (pl.col("before") == 7).sum().alias("r"),
        (pl.col("before") > 7).sum().alias("s"),
        (pl.col("after").is_null() | (pl.col("after") > 7)).sum().alias("c"),
    )
    rows = counted.sort("w").collect(engine="streaming").rows()
    return _shift_losses([(f"{w}", n, r, s, c) for w, n, r, s, c in rows])


def polars_triangle(folder: str) -> Rows:
    """First-time cohorts by day with a minimum over each user."""
    import polars as pl

    day = (pl.col("ts") + pl.duration(hours=ZONE_HOURS)).dt.date()
    days = pl.scan_parquet(files(folder)).select("user_id", d=day).unique()
    aged = days.with_columns(f=pl.col("d").min().over("user_id"))
    aged = aged.with_columns(n=(pl.col("d") - pl.col("f")).dt.total_days()).filter(pl.col("n") <= HORIZON)
    rows = aged.group_by("f", "n").agg(pl.len()).sort("f", "n").collect(engine="streaming").rows()
    return [(f"{f}", n, count) for f, n, count in rows]


def pandas_growth(folder: str) -> Rows:
    """Weekly growth accounting in pandas, for scale."""
    import pandas as pd

    frame = pd.read_parquet(f"{folder}/events", columns=["user_id", "ts"])
    local = frame["ts"] + pd.Timedelta(hours=ZONE_HOURS)
    frame["w"] = local.dt.normalize() - pd.to_timedelta(local.dt.weekday, unit="D")
    weeks = frame[["user_id", "w"]].drop_duplicates().sort_values(["user_id", "w"])
    by_user = weeks.groupby("user_id")["w"]
    weeks["before"] = (weeks["w"] - by_user.shift(1)).dt.days
    weeks["after"] = (by_user.shift(-1) - weeks["w"]).dt.days
    rows = [
        (f"{w:%Y-%m-%d}", int(g["before"].isna().sum()), int((g["before"] == 7).sum()), int((g["before"] > 7).sum()),
         int((g["after"].isna() | (g["after"] > 7)).sum()))
        for w, g in weeks.groupby("w")
    ]  # fmt: skip
    return _shift_losses(rows)


def _shift_losses(rows: Rows) -> Rows:
    """Users last seen in a week are lost in the next one."""
    return [(*row[:4], rows[i - 1][4] if i else 0) for i, row in enumerate(rows)]


def _from_relative_weeks(rows: Rows) -> Rows:
    import datetime as dt

    monday = dt.date(1970, 1, 5)  # ClickHouse counts weeks of Monday to Sunday; week 1 begins here
    plain = [((monday + dt.timedelta(weeks=int(r[0]) - 1)).isoformat(), *(int(x) for x in r[1:])) for r in rows]
    return _shift_losses(plain)


def _duckdb(query: str) -> Rows:
    import duckdb

    return duckdb.connect(config={"threads": THREADS}).execute(query).fetchall()


def _clickhouse(query: str, plain: Callable[[Rows], Rows]) -> Rows:
    import chdb

    text = str(chdb.query(f"{query} SETTINGS max_threads = {THREADS}", "JSONCompactEachRow"))
    return plain([tuple(json.loads(line)) for line in text.splitlines() if line])


PEERS: dict[str, dict[str, Callable[[str], Rows]]] = {
    "scan": {"duckdb": duckdb_scan},
    "scan_times": {"duckdb": duckdb_scan_times},
    "growth": {
        "duckdb": duckdb_growth,
        "clickhouse": clickhouse_growth,
        "polars": polars_growth,
        "pandas": pandas_growth,
    },
    "triangle": {"duckdb": duckdb_triangle, "clickhouse": clickhouse_triangle, "polars": polars_triangle},
}


def main(task: str, engine: str, folder: str) -> None:
    """Run one task on one engine."""
    importlib_warm(engine)
    report_run(PEERS[task][engine], folder)


def importlib_warm(engine: str) -> None:
    """Import the engine before the clock starts: we compare work, not start-up."""
    __import__({"clickhouse": "chdb"}.get(engine, engine))


if __name__ == "__main__":
    os.environ.setdefault("POLARS_MAX_THREADS", str(THREADS))
    main(*sys.argv[1:4])

"""Growth, written by hand for other engines: what a skilled person would type on each of them.

Tasks: `scan` (distinct users), `scan_times` (the last time of each user), `pass` (one row a user from all columns that
the quarterly review reads: how many events, first and last time, a name), `growth` (growth accounting by week),
`triangle` (first-time cohorts by day, days 0 to 30), `activity` (users of each day, and of the 7 and 30 days to it).
"""

from __future__ import annotations

import datetime as dt
from itertools import accumulate

from benchmarks._engines import ZONE_HOURS, Peers, Rows, files, query_clickhouse, query_duckdb

HORIZON = 30
WINDOWS = (1, 7, 30)
STICKINESS_DAYS = 28
FIRST_DAY, END_DAY = dt.date(2025, 1, 1), dt.date(2026, 7, 1)


def duckdb_scan(folder: str) -> Rows:
    """The floor: count distinct users."""
    return query_duckdb(f"SELECT count(DISTINCT user_id) FROM read_parquet('{files(folder)}')")


def duckdb_scan_times(folder: str) -> Rows:
    """The floor of whatever depends on times too: the last one of each user."""
    return query_duckdb(
        f"SELECT sum(epoch(t)) FROM (SELECT max(ts) AS t FROM read_parquet('{files(folder)}') GROUP BY user_id)"
    )


def duckdb_pass(folder: str) -> Rows:
    """One pass over the events: all columns that the quarterly review reads, one row a user."""
    return query_duckdb(
        f"""
        SELECT sum(n)::BIGINT, min(first_at)::VARCHAR, max(last_at)::VARCHAR, max(name) FROM (
          SELECT count(*) AS n, min(ts) AS first_at, max(ts) AS last_at, max(event) AS name
          FROM read_parquet('{files(folder)}') GROUP BY user_id)
        """
    )


def duckdb_growth(folder: str) -> Rows:
    """Weekly growth accounting with window functions over distinct user-weeks."""
    return query_duckdb(
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
    return query_duckdb(
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
    return query_clickhouse(
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
    return query_clickhouse(
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


def duckdb_activity(folder: str) -> Rows:
    """Users of each day by the days to the next one, with a window function over distinct user-days."""
    return _sum_gaps(
        query_duckdb(
            f"""
            WITH days AS (
              SELECT DISTINCT user_id, (ts + INTERVAL {ZONE_HOURS} HOUR)::DATE AS d
              FROM read_parquet('{files(folder)}')),
            gaps AS (
              SELECT d, least(coalesce(lead(d) OVER (PARTITION BY user_id ORDER BY d) - d, 31), 31) AS gap FROM days)
            SELECT (d - DATE '{FIRST_DAY}')::BIGINT, gap, count(*) FROM gaps GROUP BY 1, 2
            """
        )
    )


def clickhouse_activity(folder: str) -> Rows:
    """The same from each user's sorted array of days."""
    return query_clickhouse(
        f"""
        WITH days AS (
          SELECT arraySort(groupUniqArray(toUInt16(toDate(ts + INTERVAL {ZONE_HOURS} HOUR, 'UTC')))) AS d
          FROM file('{files(folder)}', Parquet) GROUP BY user_id)
        SELECT toInt32(t.1) - toInt32(toDate('{FIRST_DAY}')), least(t.2 - t.1, 31) AS gap, count() FROM (
          SELECT arrayJoin(arrayZip(d, arrayPushBack(arrayPopFront(d), 65535))) AS t FROM days)
        GROUP BY 1, 2
        """,
        lambda rows: _sum_gaps([(int(day), int(gap), int(users)) for day, gap, users in rows]),
    )


def polars_activity(folder: str) -> Rows:
    """The same with a shift over distinct user-days."""
    import polars as pl

    day = (pl.col("ts") + pl.duration(hours=ZONE_HOURS)).dt.date()
    days = pl.scan_parquet(files(folder)).select("user_id", d=day).unique().sort("user_id", "d")
    gap = (pl.col("d").shift(-1) - pl.col("d")).dt.total_days()
    same = pl.col("user_id") == pl.col("user_id").shift(-1)
    gaps = days.select("d", gap=pl.when(same).then(gap).fill_null(31).clip(upper_bound=31))
    rows = gaps.group_by("d", "gap").agg(pl.len()).collect(engine="streaming").rows()
    return _sum_gaps([((d - FIRST_DAY).days, gap, users) for d, gap, users in rows])


def _sum_gaps(rows: Rows) -> Rows:
    """Day, users of so many days to it; then what makes stickiness: active days of the last 28 days, and their users.

    A user counts in a window from an active day on until the next one takes over or the window ends.
    """
    length = (END_DAY - FIRST_DAY).days
    changes = {window: [0] * (length + 32) for window in (*WINDOWS, STICKINESS_DAYS)}
    for day, gap, users in rows:
        for window, change in changes.items():
            change[day] += users
            change[day + min(gap, window)] -= users
    sums = {window: list(accumulate(change))[:length] for window, change in changes.items()}
    daily: Rows = [(str(FIRST_DAY + dt.timedelta(days=i)), *(sums[w][i] for w in WINDOWS)) for i in range(length)]
    return [*daily, ("stickiness", sum(sums[1][-STICKINESS_DAYS:]), sums[STICKINESS_DAYS][-1])]


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
    monday = dt.date(1970, 1, 5)  # ClickHouse counts weeks of Monday to Sunday; week 1 begins here
    plain = [((monday + dt.timedelta(weeks=int(r[0]) - 1)).isoformat(), *(int(x) for x in r[1:])) for r in rows]
    return _shift_losses(plain)


PEERS: Peers = {
    "scan": {"duckdb": duckdb_scan},
    "scan_times": {"duckdb": duckdb_scan_times},
    "pass": {"duckdb": duckdb_pass},
    "growth": {
        "duckdb": duckdb_growth,
        "clickhouse": clickhouse_growth,
        "polars": polars_growth,
        "pandas": pandas_growth,
    },
    "triangle": {"duckdb": duckdb_triangle, "clickhouse": clickhouse_triangle, "polars": polars_triangle},
    "activity": {"duckdb": duckdb_activity, "clickhouse": clickhouse_activity, "polars": polars_activity},
}

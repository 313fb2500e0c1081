"""Churn, written by hand for other engines: what a skilled person would type on each of them.

Tasks: `returns` (how likely somebody silent for so many days comes back), `months` (customers who left, by month),
`survival` (users by tenure), `rfm` (tiers and scores, each event taken as an order of 1). Engines count; the few
hundred counts that come back are turned into the result by the same lines of Python for all.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from itertools import accumulate

from benchmarks._engines import ZONE_HOURS, Peers, Rows, files, query_clickhouse, query_duckdb

AS_OF = dt.date(2026, 6, 30)
FIRST_MONTH = dt.date(2025, 1, 1)
INACTIVE_DAYS = 30
# How far ahead a return is looked for.
HORIZON_DAYS = 90
SCORES = 5
_EPOCH = dt.date(1970, 1, 1)
TODAY = (AS_OF - _EPOCH).days
DUCKDB_DAY = f"(ts + INTERVAL {ZONE_HOURS} HOUR)::DATE - DATE '1970-01-01'"
CLICKHOUSE_DAY = f"toInt32(toDate(ts + INTERVAL {ZONE_HOURS} HOUR, 'UTC'))"


def duckdb_returns(folder: str) -> Rows:
    """Silences by length, from the next of distinct user-days."""
    return _measure_returns(
        query_duckdb(
            f"""
            WITH days AS (SELECT DISTINCT user_id, {DUCKDB_DAY} AS d FROM read_parquet('{files(folder)}')),
            marked AS (SELECT d, lead(d) OVER (PARTITION BY user_id ORDER BY d) AS after FROM days)
            SELECT (coalesce(after, {TODAY + 1}) - d - 1)::BIGINT AS silent, after IS NOT NULL, count(*)
            FROM marked GROUP BY 1, 2
            """
        )
    )


def clickhouse_returns(folder: str) -> Rows:
    """Silences by length, from each user's sorted array of days."""
    return query_clickhouse(
        f"""
        SELECT t.2 - t.1 - 1 AS silent, t.2 <= {TODAY}, count() FROM (
          SELECT arraySort(groupUniqArray({CLICKHOUSE_DAY})) AS d,
                 arrayJoin(arrayZip(d, arrayPushBack(arrayPopFront(d), {TODAY + 1}))) AS t
          FROM file('{files(folder)}', Parquet) GROUP BY user_id)
        GROUP BY 1, 2
        """,
        lambda rows: _measure_returns([(int(silent), bool(int(back)), int(n)) for silent, back, n in rows]),
    )


def polars_returns(folder: str) -> Rows:
    """Silences by length, with a shift over distinct user-days."""
    import polars as pl

    after, same = pl.col("d").shift(-1), pl.col("user_id") == pl.col("user_id").shift(-1)
    marked = _polars_days(folder).select("d", after=pl.when(same).then(after))
    silent = pl.col("after").fill_null(TODAY + 1) - pl.col("d") - 1
    counted = marked.group_by(silent=silent, back=pl.col("after").is_not_null()).agg(pl.len())
    return _measure_returns(counted.collect(engine="streaming").rows())


def duckdb_months(folder: str) -> Rows:
    """Starts and ends of spells by month, from the days around each of distinct user-days."""
    return _balance_months(
        query_duckdb(
            f"""
            WITH days AS (SELECT DISTINCT user_id, {DUCKDB_DAY} AS d FROM read_parquet('{files(folder)}')),
            marked AS (SELECT d, lag(d) OVER u AS before, lead(d) OVER u AS after
                       FROM days WINDOW u AS (PARTITION BY user_id ORDER BY d)),
            counted AS (
              SELECT d, count(*) FILTER (before IS NULL) AS fresh,
                     count(*) FILTER (d - before - 1 >= {INACTIVE_DAYS}) AS back,
                     count(*) FILTER (coalesce(after, {TODAY + 1}) - d - 1 >= {INACTIVE_DAYS}) AS gone
              FROM marked GROUP BY d)
            SELECT strftime(DATE '1970-01-01' + d::INT, '%Y-%m'), sum(fresh)::BIGINT, sum(back)::BIGINT,
                   sum(gone)::BIGINT
            FROM counted GROUP BY 1
            """
        )
    )


def clickhouse_months(folder: str) -> Rows:
    """Starts and ends of spells by month, from each user's sorted array of days."""
    return query_clickhouse(
        f"""
        SELECT formatDateTime(toDate(t.1), '%Y-%m') AS month, countIf(t.2 < 0),
               countIf(t.2 >= 0 AND t.1 - t.2 - 1 >= {INACTIVE_DAYS}), countIf(t.3 - t.1 - 1 >= {INACTIVE_DAYS}) FROM (
          SELECT arraySort(groupUniqArray({CLICKHOUSE_DAY})) AS d,
                 arrayJoin(arrayZip(d, arrayPushFront(arrayPopBack(d), -1),
                                    arrayPushBack(arrayPopFront(d), {TODAY + 1}))) AS t
          FROM file('{files(folder)}', Parquet) GROUP BY user_id)
        GROUP BY month
        """,
        lambda rows: _balance_months([(month, *map(int, counts)) for month, *counts in rows]),
    )


def polars_months(folder: str) -> Rows:
    """Starts and ends of spells by month, with shifts over distinct user-days."""
    import polars as pl

    user = pl.col("user_id")
    marked = _polars_days(folder).select(
        "d",
        before=pl.when(user == user.shift(1)).then(pl.col("d").shift(1)),
        after=pl.when(user == user.shift(-1)).then(pl.col("d").shift(-1)),
    )
    counted = marked.group_by("d").agg(
        fresh=pl.col("before").is_null().sum(),
        back=(pl.col("d") - pl.col("before") - 1 >= INACTIVE_DAYS).sum(),
        gone=(pl.col("after").fill_null(TODAY + 1) - pl.col("d") - 1 >= INACTIVE_DAYS).sum(),
    )
    days = counted.collect(engine="streaming").rows()
    return _balance_months([(f"{_EPOCH + dt.timedelta(days=d):%Y-%m}", *counts) for d, *counts in days])


def duckdb_survival(folder: str) -> Rows:
    """Users by tenure, from the first and last time of each."""
    return _sum_tenures(
        query_duckdb(
            f"""
            WITH users AS (
              SELECT min(ts) AS first_at, max(ts) AS last_at FROM read_parquet('{files(folder)}') GROUP BY user_id),
            days AS (SELECT {DUCKDB_DAY.replace("ts", "first_at")} AS begins,
                            {DUCKDB_DAY.replace("ts", "last_at")} AS ends FROM users)
            SELECT (least(ends, {TODAY - INACTIVE_DAYS}) - begins)::BIGINT, ends <= {TODAY - INACTIVE_DAYS}, count(*)
            FROM days GROUP BY 1, 2
            """
        )
    )


def clickhouse_survival(folder: str) -> Rows:
    """Users by tenure, from the first and last time of each."""
    return query_clickhouse(
        f"""
        WITH days AS (
          SELECT {CLICKHOUSE_DAY.replace("ts", "min(ts)")} AS begins, {CLICKHOUSE_DAY.replace("ts", "max(ts)")} AS ends
          FROM file('{files(folder)}', Parquet) GROUP BY user_id)
        SELECT least(ends, {TODAY - INACTIVE_DAYS}) - begins, ends <= {TODAY - INACTIVE_DAYS}, count()
        FROM days GROUP BY 1, 2
        """,
        lambda rows: _sum_tenures([(int(tenure), bool(int(left)), int(n)) for tenure, left, n in rows]),
    )


def polars_survival(folder: str) -> Rows:
    """Users by tenure, from the first and last time of each."""
    import polars as pl

    users = pl.scan_parquet(files(folder)).group_by("user_id").agg(first=pl.col("ts").min(), last=pl.col("ts").max())
    days = users.select(begins=_polars_day("first"), ends=_polars_day("last"))
    tenure = pl.min_horizontal(pl.col("ends"), pl.lit(TODAY - INACTIVE_DAYS)) - pl.col("begins")
    counted = days.group_by(tenure=tenure, left=pl.col("ends") <= TODAY - INACTIVE_DAYS).agg(pl.len())
    return _sum_tenures(counted.collect(engine="streaming").rows())


def duckdb_rfm(folder: str) -> Rows:
    """Tiers from the means, and scores by ntile."""
    tables = f"""
        users AS (
          SELECT user_id, max(ts) AS last_at, count(*) AS f, sum(1.0) AS m
          FROM read_parquet('{files(folder)}') GROUP BY user_id),
        customers AS MATERIALIZED (
          SELECT user_id, {TODAY} - ({DUCKDB_DAY.replace("ts", "last_at")}) AS r, f, m FROM users)
    """
    return _list_rfm(query_duckdb(_write_rfm(tables, "double")))


def clickhouse_rfm(folder: str) -> Rows:
    """Tiers from the means, and scores by ntile."""
    tables = f"""
        users AS (
          SELECT user_id, max(ts) AS last_at, count() AS f, sum(1.0) AS m
          FROM file('{files(folder)}', Parquet) GROUP BY user_id),
        customers AS (SELECT user_id, {TODAY} - {CLICKHOUSE_DAY.replace("ts", "last_at")} AS r, f, m FROM users)
    """
    # ntile wants the whole frame stated.
    frame = "ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING"
    return query_clickhouse(_write_rfm(tables, "Float64", frame), _list_rfm)


def _write_rfm(tables: str, number: str, frame: str = "") -> str:
    scores = " UNION ALL ".join(
        f"SELECT '{name}' AS name, toString(s) AS label, count(*) AS n, CAST(min(v) AS {number}) AS low, "
        f"CAST(max(v) AS {number}) AS high FROM ("
        f"SELECT {column} AS v, ntile({SCORES}) OVER (ORDER BY {column} {way} {frame}) AS s FROM customers) GROUP BY s"
        for name, column, way in (("recency_days", "r", "DESC"), ("frequency_count", "f", "ASC"),
                                  ("monetary_amount", "m", "ASC"))
    )  # fmt: skip
    query = f"""
        WITH {tables},
        means AS (SELECT avg(r) AS mean_r, avg(m) AS mean_m FROM customers),
        tiers AS (
          SELECT CASE WHEN r >= mean_r THEN 'dormant' WHEN m > mean_m THEN 'high_value' ELSE 'potential' END AS tier
          FROM customers CROSS JOIN means)
        SELECT * FROM (
          SELECT 'tier' AS name, tier AS label, count(*) AS n, CAST(0 AS {number}) AS low, CAST(0 AS {number}) AS high
          FROM tiers GROUP BY tier UNION ALL {scores})
    """
    return query if frame else query.replace("toString(s)", "s::VARCHAR")


def polars_rfm(folder: str) -> Rows:
    """Tiers from the means, and scores from the places in three sorts."""
    import polars as pl

    users = pl.scan_parquet(files(folder)).group_by("user_id").agg(pl.col("ts").max(), f=pl.len())
    customers = users.select(r=TODAY - _polars_day("ts"), f="f", m=pl.col("f").cast(pl.Float64))
    customers = customers.collect(engine="streaming")
    tier = pl.when(pl.col("r") >= pl.col("r").mean()).then(pl.lit("dormant"))
    tier = tier.when(pl.col("m") > pl.col("m").mean()).then(pl.lit("high_value")).otherwise(pl.lit("potential"))
    rows: Rows = [("tier", label, n, 0, 0) for label, n in customers.group_by(tier=tier).agg(pl.len()).rows()]
    size, rest = divmod(len(customers), SCORES)
    sizes = [size + (i < rest) for i in range(SCORES)]
    for name, column in (("recency_days", "r"), ("frequency_count", "f"), ("monetary_amount", "m")):
        values = customers[column].sort(descending=column == "r")
        for i, begin in enumerate(accumulate(sizes, initial=0)):
            if i < SCORES:
                part = values.slice(begin, sizes[i])
                rows.append((name, str(i + 1), sizes[i], part.min(), part.max()))
    return _list_rfm(rows)


def _polars_days(folder: str):
    import polars as pl

    return pl.scan_parquet(files(folder)).select("user_id", d=_polars_day("ts")).unique().sort("user_id", "d")


def _polars_day(column: str):
    import polars as pl

    return (pl.col(column) + pl.duration(hours=ZONE_HOURS)).dt.date().cast(pl.Int32)


def _measure_returns(rows: Rows) -> Rows:
    """Silent days, silences of so many days or more, those that ended within the horizon, chance to return."""
    longest = max(silent for silent, *_ in rows) + 1
    returned, still = [0] * longest, [0] * longest
    for silent, back, n in rows:
        if silent >= 1:
            (returned if back else still)[silent] += n
    # A silence open after j days is known not to have ended after 0 .. j-1.
    later = list(accumulate(r + s for r, s in zip(returned[::-1], still[::-1], strict=True)))[::-1]
    found: Rows = []
    for day in range(1, longest - HORIZON_DAYS):
        inside = range(day, day + HORIZON_DAYS)
        stay = 1.0
        for j in inside:
            risk = later[j] - still[j]
            stay *= 1 - returned[j] / risk if risk else 1.0
        found.append((day, later[day], sum(returned[j] for j in inside), round(1 - stay, 9)))
    return found


def _balance_months(rows: Rows) -> Rows:
    """Month, customers when it starts, new, returned, left, customers when it ends; months whose leavers are known."""
    # The first of the days on which nobody can be told to have left yet.
    unknown = f"{AS_OF - dt.timedelta(days=INACTIVE_DAYS - 1):%Y-%m}"
    opening, found = 0, []
    sums: Counter[tuple[str, int]] = Counter()
    for month, *counts in rows:
        for i, count in enumerate(counts):
            sums[month, i] += count
    for month in sorted({month for month, _ in sums}):
        fresh, back, gone = (sums[month, i] for i in range(3))
        closing = opening + fresh + back - gone
        if month < unknown:
            found.append((month, opening, fresh, back, gone, closing))
        opening = closing
    return found


def _sum_tenures(rows: Rows) -> Rows:
    """Tenure, users at risk, users who left at it; those too young for anything to be known are left out."""
    left, censored = Counter[int](), Counter[int]()
    for tenure, gone, n in rows:
        if tenure >= 0:
            (left if gone else censored)[tenure] += n
    at_risk, found = left.total() + censored.total(), []
    for tenure in range(max(left.keys() | censored.keys()) + 1):
        found.append((tenure, at_risk, left[tenure]))
        at_risk -= left[tenure] + censored[tenure]
    return found


def _list_rfm(rows: Rows) -> Rows:
    """Tier and customers; then dimension, score, customers, lowest and highest value."""
    return sorted((name, label, int(n), float(low), float(high)) for name, label, n, low, high in rows)


PEERS: Peers = {
    "returns": {"duckdb": duckdb_returns, "clickhouse": clickhouse_returns, "polars": polars_returns},
    "months": {"duckdb": duckdb_months, "clickhouse": clickhouse_months, "polars": polars_months},
    "survival": {"duckdb": duckdb_survival, "clickhouse": clickhouse_survival, "polars": polars_survival},
    "rfm": {"duckdb": duckdb_rfm, "clickhouse": clickhouse_rfm, "polars": polars_rfm},
}

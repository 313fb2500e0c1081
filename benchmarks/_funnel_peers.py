"""A funnel, written by hand for other engines: what a skilled person would type on each of them.

Tasks: `funnel` (users by step) and `platforms` (the same by platform, which is one and the same for all events of a
user).
"""

from __future__ import annotations

from collections.abc import Callable

from benchmarks._engines import Peers, Rows, files, query_clickhouse, query_duckdb

STEPS = ("app_open", "view_item", "add_to_cart", "begin_checkout", "pay")
WINDOW_DAYS = 7
PLATFORM = "platform"


def clickhouse_steps(folder: str, by: str = "") -> Rows:
    """ClickHouse's own aggregate function for this, over the steps' events only."""
    names = ", ".join(f"'{step}'" for step in STEPS)
    return _clickhouse(folder, by, f"WHERE event IN ({names})")


def clickhouse_plain(folder: str, by: str = "") -> Rows:
    """The same without the filter, as the manual shows it."""
    return _clickhouse(folder, by, "")


def _clickhouse(folder: str, by: str, where: str) -> Rows:
    conditions = ", ".join(f"event = '{step}'" for step in STEPS)
    return query_clickhouse(
        f"""
        SELECT value, level, count() FROM (
          SELECT user_id, {f"any({by})" if by else "''"} AS value, windowFunnel({WINDOW_DAYS * 86_400_000})(
            toUInt64(toUnixTimestamp64Milli(ts)), {conditions}) AS level
          FROM file('{files(folder)}', Parquet) {where} GROUP BY user_id)
        GROUP BY value, level
        """,
        lambda rows: _sum_levels([(value, int(level), int(users)) for value, level, users in rows]),
    )


def duckdb_windows(folder: str, by: str = "") -> Rows:
    """Nested window functions: the latest possible start, carried from step to step."""
    case = " ".join(f"WHEN '{step}' THEN {i}" for i, step in enumerate(STEPS))
    names = ", ".join(f"'{step}'" for step in STEPS)
    layers = (
        f"SELECT user_id, {by or repr('')} AS value, ts, CASE event {case} END AS s, "
        f"CASE WHEN event = '{STEPS[0]}' THEN ts END AS b0 "
        f"FROM read_parquet('{files(folder)}') WHERE event IN ({names})"
    )
    for i in range(1, len(STEPS)):
        layers = (
            f"SELECT *, CASE WHEN s = {i} AND last0 >= ts - INTERVAL {WINDOW_DAYS} DAY THEN last0 END AS b{i} FROM ("
            f"SELECT *, max(b{i - 1}) OVER (PARTITION BY user_id ORDER BY ts, s) AS last0 FROM ({layers}))"
        ).replace("last0", f"last{i}")
    levels = " + ".join(f"(count(b{i}) > 0)::INT" for i in range(len(STEPS)))
    users = f"SELECT any_value(value) AS value, {levels} AS level FROM ({layers}) GROUP BY user_id"
    return _sum_levels(query_duckdb(f"SELECT value, level, count(*) FROM ({users}) GROUP BY value, level"))


def polars_windows(folder: str, by: str = "") -> Rows:
    """The same with running maxima over each user."""
    import polars as pl

    events = pl.scan_parquet(files(folder)).filter(pl.col("event").is_in(list(STEPS)))
    step = pl.col("event").replace_strict({name: i for i, name in enumerate(STEPS)}, return_dtype=pl.Int8)
    value = pl.col(by) if by else pl.lit("")
    rows = events.select("user_id", "ts", s=step, value=value).sort("user_id", "ts", "s")
    rows = rows.with_columns(b0=pl.when(pl.col("s") == 0).then("ts"))
    for i in range(1, len(STEPS)):
        last = pl.col(f"b{i - 1}").cum_max().forward_fill().over("user_id")
        inside = (pl.col("s") == i) & (last >= pl.col("ts") - pl.duration(days=WINDOW_DAYS))
        rows = rows.with_columns(pl.when(inside).then(last).alias(f"b{i}"))
    level = pl.sum_horizontal(*(pl.col(f"b{i}").is_not_null().any().cast(pl.Int64) for i in range(len(STEPS))))
    users = rows.group_by("user_id").agg(pl.col("value").first(), level=level)
    counted = users.group_by("value", "level").agg(pl.len())
    return _sum_levels(counted.collect(engine="streaming").rows())


def _sum_levels(rows: Rows) -> Rows:
    """Value, step, users who got that far: from users by the furthest step. Without a value, one that is empty."""
    values = sorted({value for value, *_ in rows})
    return [
        (value, i + 1, sum(users for v, level, users in rows if v == value and level > i))
        for value in values
        for i in range(len(STEPS))
    ]


_ENGINES: dict[str, Callable[..., Rows]] = {
    "clickhouse": clickhouse_plain,
    "clickhouse_steps": clickhouse_steps,
    "polars": polars_windows,
    "duckdb_windows": duckdb_windows,
}
PEERS: Peers = {
    "funnel": dict(_ENGINES),
    "platforms": {name: (lambda folder, run=engine: run(folder, PLATFORM)) for name, engine in _ENGINES.items()},
}

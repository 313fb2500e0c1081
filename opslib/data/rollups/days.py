"""Rollups by day: which days of a table differ from before, and what is counted of them anew."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from typing import Any

import ibis
import ibis.expr.types as ir

from opslib.data.periods import DAY, Calendar
from opslib.data.rollups.store import CATALOG, RETURN_AGES, to_day

# As many days at once as bound the memory that grouping them takes.
MOST_DAYS = 31


def insert_rows(connection: Any, name: str, rows: ir.Table) -> None:
    """Add the rows of an expression to one of the store's tables."""
    connection.raw_sql(f"INSERT INTO {CATALOG}.{name} {ibis.to_sql(rows, dialect='duckdb')}")


def digest_days(table: ir.Table, *, file: str, day: Any) -> ir.Table:
    """Count the rows of each file and day, and add up a hash of each, so that their order does not matter.

    Returns:
        path, day, rows_count, digest.
    """
    row = ibis.struct({c: table[c] for c in table.columns if c != file}).hash()
    marked = table.select(path=table[file], day=day, digest=row.cast("decimal(38, 0)"))
    return marked.group_by("path", "day").aggregate(rows_count=marked.count(), digest=marked.digest.sum())


def find_changed_days(connection: Any, name: str, fresh: ir.Table | None, gone: Sequence[str]) -> list[dt.date]:
    """Put the days of new files in the place of those that are gone, and tell which days of the table differ.

    Args:
        connection: with the store attached for writing.
        name: the table.
        fresh: what `digest_days` gives of the new files.
        gone: the files that are no more, or no more the same.
    """
    sums = f"SELECT day, sum(rows_count) AS n, sum(digest) AS d FROM {CATALOG}.file_days WHERE name = ? GROUP BY day"
    con = connection.con
    con.execute(f"CREATE OR REPLACE TEMP TABLE days_before AS {sums}", [name])
    for path in gone:
        con.execute(f"DELETE FROM {CATALOG}.file_days WHERE name = ? AND path = ?", [name, path])
    if fresh is not None:
        rows = fresh.mutate(name=ibis.literal(name)).select("name", "path", "day", "rows_count", "digest")
        insert_rows(connection, "file_days", rows)
    con.execute(f"CREATE OR REPLACE TEMP TABLE days_now AS {sums}", [name])
    found = con.execute(
        "SELECT coalesce(a.day, b.day) AS day FROM days_before a FULL JOIN days_now b ON a.day = b.day "
        "WHERE (a.n, a.d) IS DISTINCT FROM (b.n, b.d) AND coalesce(a.day, b.day) IS NOT NULL ORDER BY day"
    ).fetchall()
    return [to_day(day) for (day,) in found]


def replace_days(
    connection: Any, table: ir.Table, days: Sequence[dt.date], *, calendar: Calendar, active: Any, has_events: bool
) -> None:
    """Count these days of the activity table anew: user_days, event_days, users and returns.

    Args:
        connection: with the store attached for writing.
        table: the rows: user_id, ts and, of events, event.
        days: the days to count.
        calendar: the company's clock.
        active: gives, for a table, whether a row makes its user active.
        has_events: whether the rows have names to be counted.
    """
    con, store = connection.con, CATALOG
    con.execute("CREATE OR REPLACE TEMP TABLE affected (day DATE)")
    con.executemany("INSERT INTO affected VALUES (?)", [[day] for day in days])
    among = _among("day", days)
    per_user = f"SELECT user_id, sum(rows_count) AS n, min(day) FILTER (active) AS first_day FROM {store}.user_days"
    con.execute(f"CREATE OR REPLACE TEMP TABLE part_before AS {per_user} WHERE {among} GROUP BY user_id")
    for name in ("user_days", "event_days"):
        con.execute(f"DELETE FROM {store}.{name} WHERE {among}")
    for first, end in _list_stretches(days):
        inside = table.filter(
            table.ts >= ibis.timestamp(calendar.day_start(first)), table.ts < ibis.timestamp(calendar.day_start(end))
        )
        rows = inside.mutate(day=calendar.local_day(inside.ts), active=active(inside))
        counted = rows.group_by("user_id", "day").aggregate(rows_count=rows.count(), active=rows.active.any())
        insert_rows(connection, "user_days", counted.select("user_id", "day", "rows_count", "active").order_by("day"))
        if has_events:
            named = rows.group_by("day", "event").aggregate(rows_count=rows.count())
            insert_rows(connection, "event_days", named.select("day", "event", "rows_count"))
    con.execute(f"CREATE OR REPLACE TEMP TABLE part_now AS {per_user} WHERE {among} GROUP BY user_id")
    _merge_users(con, store)
    _replace_returns(con, store, days)


def _among(day: str, days: Sequence[dt.date]) -> str:
    # The bounds let the engine skip what lies outside.
    return f"{day} BETWEEN DATE '{days[0]}' AND DATE '{days[-1]}' AND {day} IN (SELECT affected.day FROM affected)"


def _merge_users(con: Any, store: str) -> None:
    """Bring users up to date: rows by the difference, first days by comparison, by all days where one is gone."""
    con.execute(
        "CREATE OR REPLACE TEMP TABLE touched AS SELECT coalesce(a.user_id, b.user_id) AS user_id, "
        "coalesce(b.n, 0) - coalesce(a.n, 0) AS more, b.first_day AS now_first, a.first_day AS before_first "
        "FROM part_before a FULL JOIN part_now b ON a.user_id IS NOT DISTINCT FROM b.user_id"
    )
    # A first day that lay among the days, and is there no more.
    con.execute(
        f"CREATE OR REPLACE TEMP TABLE unsure AS SELECT t.user_id FROM touched t JOIN {store}.users u "
        "ON t.user_id IS NOT DISTINCT FROM u.user_id WHERE u.first_day = t.before_first "
        "AND (t.now_first IS NULL OR t.now_first > u.first_day)"
    )
    con.execute(
        f"CREATE OR REPLACE TEMP TABLE looked_up AS SELECT d.user_id, min(d.day) FILTER (d.active) AS first_day "
        f"FROM {store}.user_days d WHERE d.user_id IN (SELECT user_id FROM unsure) GROUP BY d.user_id"
    )
    con.execute(
        "CREATE OR REPLACE TEMP TABLE new_users AS SELECT t.user_id, u.first_day AS old_first, "
        "u.rows_count IS NOT NULL AS is_known, "
        "coalesce(u.rows_count, 0) + t.more AS rows_count, "
        "CASE WHEN n.user_id IS NOT NULL THEN l.first_day ELSE least(u.first_day, t.now_first) END AS first_day "
        f"FROM touched t LEFT JOIN {store}.users u ON t.user_id IS NOT DISTINCT FROM u.user_id "
        "LEFT JOIN unsure n ON t.user_id = n.user_id LEFT JOIN looked_up l ON t.user_id = l.user_id"
    )
    con.execute(
        f"DELETE FROM {store}.users WHERE user_id IN (SELECT user_id FROM new_users) "
        "OR (user_id IS NULL AND EXISTS (SELECT 1 FROM new_users WHERE user_id IS NULL))"
    )
    con.execute(f"INSERT INTO {store}.users SELECT user_id, first_day, rows_count FROM new_users WHERE rows_count > 0")


def _replace_returns(con: Any, store: str, days: Sequence[dt.date]) -> None:
    """Bring returns up to date: those of the days, and those of users whose first day is another one now."""
    ages = ", ".join(str(age) for age in RETURN_AGES)
    moved = "SELECT user_id FROM new_users WHERE is_known AND first_day IS DISTINCT FROM old_first"
    con.execute(f"DELETE FROM {store}.returns WHERE {_among('day', days)} OR user_id IN ({moved})")
    rows = (
        f"INSERT INTO {store}.returns SELECT d.user_id, d.day FROM {store}.user_days d JOIN {store}.users u "
        f"ON d.user_id = u.user_id WHERE d.active AND date_diff('day', u.first_day, d.day) IN ({ages})"
    )
    con.execute(f"{rows} AND {_among('d.day', days)}")
    # Other days have only users who were known before.
    con.execute(f"{rows} AND d.user_id IN ({moved}) AND d.day NOT IN (SELECT affected.day FROM affected)")


def _list_stretches(days: Sequence[dt.date]) -> Iterator[tuple[dt.date, dt.date]]:
    """Days in runs without a gap: the first of each, and the day after its last."""
    first = previous = days[0]
    for day in days[1:]:
        if day != previous + DAY or (day - first).days >= MOST_DAYS:
            yield first, previous + DAY
            first = day
        previous = day
    yield first, previous + DAY


def compare_labels(connection: Any, users: ir.Table) -> dt.date | None:
    """Keep a digest of each user's row; give the first active day of those whose row differs, None where none is.

    Args:
        connection: with the store attached for writing.
        users: the users as the contract has them.
    """
    con, store = connection.con, CATALOG
    row = ibis.struct({c: users[c] for c in users.columns}).hash()
    signup = users.signup_at if "signup_at" in users.columns else ibis.null("timestamp")
    now = users.select(user_id=users.user_id, digest=row, signup_at=signup)
    con.execute(f"CREATE OR REPLACE TEMP TABLE labels_now AS {ibis.to_sql(now, dialect='duckdb')}")
    found = con.execute(
        f"WITH a AS (SELECT user_id, sum(digest) AS d FROM {store}.labels GROUP BY user_id), "
        "b AS (SELECT user_id, sum(digest) AS d FROM labels_now GROUP BY user_id), "
        "differs AS (SELECT coalesce(a.user_id, b.user_id) AS user_id FROM a FULL JOIN b ON a.user_id = b.user_id "
        "WHERE a.d IS DISTINCT FROM b.d) "
        f"SELECT min(u.first_day) FROM {store}.users u JOIN differs f ON u.user_id = f.user_id"
    ).fetchone()
    con.execute(f"CREATE OR REPLACE TABLE {store}.labels AS SELECT * FROM labels_now")
    return None if found is None or found[0] is None else to_day(found[0])

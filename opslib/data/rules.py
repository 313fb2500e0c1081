"""The rules on single rows of a table: each a condition over the user's own table, written but not yet computed."""

from __future__ import annotations

import datetime as dt
from typing import Any

import ibis

from opslib.data.mapping import MappedTable
from opslib.data.periods import DAY, Calendar
from opslib.data.playbook import Playbook
from opslib.data.settings import TableSource

EARLIEST = dt.datetime(1990, 1, 1)


def bad_rows(mapped: MappedTable, source: TableSource, playbook: Playbook) -> list[Any]:
    """Conditions, over the user's table, of the rows that the playbook says to drop."""
    rules = list_row_rules(mapped, source, playbook).values()
    return [condition for rule, _, condition in rules if rule in source.drop]


def future_limit(playbook: Playbook, kind: str = "timestamp") -> dt.datetime:
    """The moment from which a time is an error: the end of `data_until`, or two days from now.

    In UTC; for a date, which has no zone, the midnight after the day itself.
    """
    until = playbook.company.data_until
    if until is None:
        # The one use of the wall clock: to suspect wrong years. No result depends on it.
        return dt.datetime.now(dt.UTC).replace(tzinfo=None) + 2 * DAY
    if kind == "date":
        return dt.datetime.combine(until + DAY, dt.time())
    return Calendar(playbook.company.timezone).day_start(until + DAY)


def list_row_rules(mapped: MappedTable, source: TableSource, playbook: Playbook) -> dict[str, tuple[str, str, Any]]:
    """Every rule on single rows: unique name -> (rule, column, condition over the user's table)."""
    rules: list[tuple[str, str, Any]] = []
    groups = mapped.contract.find_groups(mapped.columns)
    for column in mapped.contract.columns:
        value = mapped.columns.get(column.name)
        if value is None:
            continue
        unparsable = mapped.unparsable.get(column.name)
        if unparsable is not None:
            rules.append(("unparsable", column.name, unparsable))
        needed = len(groups) == 1 and column.name in groups[0]
        required = column.required or needed or (column.name == "order_id" and source.rows == "lines")
        if required and (needed or column.kind in ("key", "timestamp", "date", "number")):
            rule = "null_value" if column.kind == "number" and not needed else "null_key"
            empty = value.isnull()
            rules.append((rule, column.name, empty if unparsable is None else empty & ~unparsable))
        if column.kind in ("timestamp", "date"):
            moment = value.cast("timestamp(6)")
            if column.name != "expires_at":
                rules.append(("future_time", column.name, moment >= future_limit(playbook, column.kind)))
            rules.append(("absurd_time", column.name, moment < EARLIEST))
        if column.allowed:
            rules.append(("unknown_category", column.name, value.notnull() & value.notin(column.allowed)))
        if column.name == "amount":
            rules.append(("negative_amount", column.name, value < 0))
        zoned = mapped.zoned_text.get(column.name)
        if zoned is not None:
            rules.append(("mixed_zones", column.name, zoned))
    if len(groups) > 1:
        rules.append(("null_key", groups[0][0], _is_without(mapped, groups)))
    if mapped.contract.table == "subscriptions":
        rules += _subscription_rules(mapped, future_limit(playbook))
    return {f"{rule}|{column}": (rule, column, condition) for rule, column, condition in rules}


def _is_without(mapped: MappedTable, groups: list[tuple[str, ...]]) -> Any:
    """True where none of the groups is filled, of which a row must have one; what cannot be read is another rule's."""
    whole = [ibis.and_(*(mapped.columns[name].notnull() for name in group)) for group in groups]
    unread = [mapped.unparsable[name] for group in groups for name in group if name in mapped.unparsable]
    return ~ibis.or_(*whole, *(condition.fill_null(False) for condition in unread))


def _subscription_rules(mapped: MappedTable, limit: dt.datetime) -> list[tuple[str, str, Any]]:
    rules: list[tuple[str, str, Any]] = []
    started, ended, tenure, flag = (
        mapped.columns.get(name) for name in ("started_at", "ended_at", "tenure_months", "ended")
    )
    if started is not None and ended is not None:
        # A day apart: one of the two may be a day, which is its midnight, and the other a time.
        rules.append(("negative_time", "ended_at", ended <= started - ibis.interval(days=1)))
    if tenure is not None:
        rules.append(("negative_tenure", "tenure_months", tenure < 0))
    if flag is not None:
        known = [value.notnull() for value in (ended, tenure) if value is not None]
        rules.append(("unknown_end", "ended", flag & ~ibis.or_(*known) if known else flag))
        if ended is not None:
            rules.append(("contradiction", "ended", ~flag & (ended < limit)))
    return rules

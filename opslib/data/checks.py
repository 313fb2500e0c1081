"""What a table's check counts, in one pass over all its files or over some, and how parts are put together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import ibis
import pandas as pd

from opslib.data.mapping import MappedTable, list_written_days
from opslib.data.playbook import Playbook
from opslib.data.rules import bad_rows, list_row_rules
from opslib.data.settings import TableSource
from opslib.data.swapped_dates import list_bounds


def has_checked_key(mapped: MappedTable, source: TableSource) -> bool:
    """Whether no two rows of a table may have the same key."""
    return (mapped.contract.unique or "") in mapped.columns and source.rows != "lines"


def list_checks(mapped: MappedTable, source: TableSource, playbook: Playbook) -> dict[str, Any]:
    """The aggregates of a table that its check takes: sums, counts of keys, and what begins with first_ or last_."""
    bad = list_row_rules(mapped, source, playbook)
    kept = mapped.kept
    left = without(bad_rows(mapped, source, playbook), kept)
    aggregates: dict[str, Any] = {"rows": mapped.raw.count()}
    aggregates["kept"] = kept.sum().fill_null(0) if kept is not None else mapped.raw.count()
    aggregates["left"] = left.sum().fill_null(0) if left is not None else mapped.raw.count()
    for key, (_, _, condition) in bad.items():
        aggregates[key] = within(condition, kept).sum().fill_null(0)
    for column, zoned in mapped.zoned_text.items():
        plain = mapped.columns[column].notnull() & ~zoned
        aggregates[f"plain|{column}"] = within(plain, kept).sum().fill_null(0)
    if has_checked_key(mapped, source):
        distinct = where(mapped.columns[mapped.contract.unique or ""], left)
        aggregates["keys"] = distinct.nunique()
        aggregates["filled"] = distinct.count()
    times = [c for c in mapped.contract.time_columns if c in mapped.columns]
    for column in times:
        # A time in the year 2099 is counted as an error, and does not stretch the calendar.
        wrong = [bad[key][2] for rule in ("future_time", "absurd_time") if (key := f"{rule}|{column}") in bad]
        moment = where(mapped.columns[column].cast("timestamp(6)"), without(wrong, left))
        aggregates |= {f"first_at|{column}": moment.min(), f"last_at|{column}": moment.max()}
        aggregates[f"within_day|{column}"] = (moment.cast("date").cast("timestamp(6)") != moment).sum().fill_null(0)
    for column, day in list_written_days(mapped, source).items():
        aggregates |= list_bounds(column, where(day, kept))
    return aggregates


def join_checks(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The checks of a table out of those of its parts, provided that no key is in two of them.

    >>> parts = {"rows": 2, "first_at|ts": pd.Timestamp(2026, 1, 2)}, {"rows": 3, "first_at|ts": None}
    >>> join_checks(parts)
    {'rows': 5, 'first_at|ts': Timestamp('2026-01-02 00:00:00')}
    """
    joined: dict[str, Any] = {}
    for name in parts[0]:
        values = [part[name] for part in parts if not pd.isna(part[name])]
        if name.startswith(("first_", "last_")):
            joined[name] = (min if name.startswith("first_") else max)(values, default=None)
        else:
            joined[name] = sum(int(value) for value in values)
    return joined


def within(condition: Any, kept: Any) -> Any:
    """A condition among the rows that are kept; None for kept: all."""
    return condition if kept is None else condition & kept


def without(conditions: list[Any], kept: Any) -> Any:
    """True for rows that are kept and meet none of the conditions; None where that is all."""
    if not conditions:
        return kept
    return within(~ibis.or_(*(c.fill_null(False) for c in conditions)), kept)


def where(value: Any, kept: Any) -> Any:
    """A value of the rows that are kept, nothing of the others."""
    return value if kept is None else kept.ifelse(value, None)

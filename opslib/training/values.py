"""What a learner may choose from, out of the data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from opslib.data.periods import Period
    from opslib.data.source import Data

MOST_VALUES = 8


def list_values(
    data: Data, table: str, columns: Sequence[str], *, period: Period | None = None, most: int = MOST_VALUES
) -> dict[str, list[str]]:
    """Each column's most frequent values, by name; of a table with times only those of a period, about."""
    rows = data.table(table)
    if period is not None:
        # Days by UTC: near enough for a list of choices.
        rows = rows.filter(rows.ts.date() >= period.start, rows.ts.date() < period.end)
    values = {}
    for column in columns:
        known = rows.filter(rows[column].notnull())
        counts = known.group_by(column).agg(rows_count=known.count())
        top = data.execute(counts.order_by(counts.rows_count.desc(), counts[column]).limit(most))
        values[column] = sorted(str(value) for value in top[column])
    return values

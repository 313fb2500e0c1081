"""Counts of outcomes by who had them, for `explain_change`: one row a combination of attributes, one table a period."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

import ibis.expr.types as ir
import pandas as pd

from opslib.data.periods import DAY, Period
from opslib.errors import InputError, suggest_name
from opslib.explain.cells import NOT_GIVEN
from opslib.measure.retention import find_first_days


def count_outcomes(rows: ir.Table, *, dimensions: Sequence[str], numerator: str, denominator: str = "") -> pd.DataFrame:
    """Count one period's outcomes by every combination of the dimensions' values, in one pass.

    Args:
        rows: one row a user (session, ...) of the period, with the dimensions and the column `numerator`.
        dimensions: columns that say who.
        numerator: a flag (or count) that is summed.
        denominator: a count that is summed; empty: rows are counted, as `users_count`.

    Returns:
        dimensions, `numerator` and `denominator` (or users_count), one row a combination that occurs.

    Raises:
        InputError: a column that is not there.

    >>> import ibis
    >>> users = ibis.memtable({"platform": ["ios", "ios", None], "returned": [True, False, True]})
    >>> count_outcomes(users, dimensions=["platform"], numerator="returned").values.tolist()
    [['(not given)', 1, 1], ['ios', 1, 2]]
    """
    for column in (*dimensions, numerator, *([denominator] if denominator else [])):
        if column not in rows.columns:
            raise InputError(f"There is no column '{column}' to count by.{suggest_name(column, rows.columns)}")
    named = {d: rows[d].cast("string").fill_null(NOT_GIVEN) for d in dimensions}
    measured = rows[numerator].cast("int64") if rows[numerator].type().is_boolean() else rows[numerator]
    total = rows[denominator].sum().fill_null(0) if denominator else rows.count()
    sums = {numerator: measured.sum().fill_null(0), denominator or "users_count": total}
    counted: pd.DataFrame = rows.group_by(**named).aggregate(**sums).to_pandas()
    return counted.sort_values(list(dimensions), ignore_index=True)


def mark_returned(
    active_days: ir.Table, attributes: ir.Table, period: Period, *, as_of: dt.date, day: int = 1
) -> ir.Table:
    """Mark which new users of a period were active on a day after their first; whose day has not come is left out.

    Args:
        active_days: user_id, day; all days since the beginning.
        attributes: user_id and what is known of users; those without a row keep empty attributes.
        period: first active days that count.
        as_of: the last day that is fully known.
        day: 1 is the day after the first.

    Returns:
        An Ibis table, one row a new user, for `count_outcomes`: user_id, first_day, returned (a flag), the attributes.
    """
    known = active_days.filter(active_days.day <= as_of)
    first = find_first_days(known)
    mature = (first.first_day >= period.start) & (first.first_day < period.end) & (first.first_day <= as_of - day * DAY)
    new = first.filter(mature)
    back = known.inner_join(new, "user_id")
    back = back.filter(back.day.delta(back.first_day, unit="day") == day)
    marked = new.mutate(returned=new.user_id.isin(back.user_id))
    kept = attributes.select("user_id", *[c for c in attributes.columns if c not in marked.columns])
    joined = marked.left_join(kept, "user_id")
    return joined.drop(c for c in joined.columns if c == "user_id_right")

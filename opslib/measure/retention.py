"""Retention: which share of a cohort came back on day n. Users whose day n has not come yet are counted apart."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import ibis.expr.types as ir
import pandas as pd

from opslib.data.periods import DAY, Period
from opslib.measure.estimate import Estimate, estimate_rate


@dataclass(frozen=True)
class RetentionResult:
    """N-day retention of the users whose first active day lies in a period.

    Attributes:
        period: the cohort's first days.
        days: n -> estimate of the share active on exactly day n; the denominator holds mature users only.
        immature: n -> users of the cohort whose day n lies after `as_of`; they are in no denominator.
        by_cohort: cohort_start (month), n_days, users_count (mature), retained_count, immature_count, retention_rate;
            missing where nobody is mature.
    """

    period: Period
    days: dict[int, Estimate]
    immature: dict[int, int]
    by_cohort: pd.DataFrame

    def findings(self) -> list[dict[str, Any]]:
        """Estimates as flat records."""
        return [
            estimate.to_finding(period=self.period.label, immature=self.immature[n])
            for n, estimate in self.days.items()
        ]


def find_first_days(active_days: ir.Table) -> ir.Table:
    """First active day of every user: user_id, first_day."""
    return active_days.group_by("user_id").aggregate(first_day=lambda t: t.day.min())


def measure_retention(
    active_days: ir.Table, period: Period, *, as_of: dt.date, days: Sequence[int] = (1, 7, 30)
) -> RetentionResult:
    """Measure N-day retention of new users.

    Args:
        active_days: user_id, day; one row a user and local day, all of them (the first day makes the cohort).
        period: first active days that belong to the cohort.
        as_of: the last day that is fully known; day n is mature when first day + n <= as_of.
        days: the n to measure; 1 is the day after the first.

    Returns:
        A `RetentionResult`.

    Raises:
        ValueError: an n below 1.

    >>> import ibis
    >>> table = ibis.memtable({"user_id": [1, 1, 2], "day": [dt.date(2026, 1, d) for d in (1, 2, 1)]})
    >>> january = Period(dt.date(2026, 1, 1), dt.date(2026, 2, 1), "January")
    >>> result = measure_retention(table, january, as_of=dt.date(2026, 1, 5))
    >>> result.days[1].numerator, result.days[1].denominator, result.immature[7]
    (1, 2, 2)
    """
    if min(days) < 1:
        raise ValueError("retention is measured from day 1 on")
    known = active_days.filter(active_days.day <= as_of)
    first = known.day.min().over(group_by=known.user_id)
    aged = known.select(user_id="user_id", first_day=first, age=known.day.delta(first, unit="day"))
    cohort = aged.filter((aged.first_day >= period.start) & (aged.first_day < period.end))
    counted = (
        cohort.filter(cohort.age.isin([0, *days]))
        .group_by("first_day", "age")
        .aggregate(users=lambda t: t.count())
        .to_pandas()
    )
    return _collect(counted, period, as_of, days)


def _collect(counted: pd.DataFrame, period: Period, as_of: dt.date, days: Sequence[int]) -> RetentionResult:
    counted["first_day"] = pd.to_datetime(counted["first_day"])
    wide = counted.pivot_table(index="first_day", columns="age", values="users", aggfunc="sum", fill_value=0)
    wide = wide.reindex(columns=[0, *days], fill_value=0).astype(int)
    months = pd.DatetimeIndex(wide.index).to_period("M").to_timestamp()
    estimates, immature, rows = {}, {}, []
    for n in days:
        mature = wide.index <= pd.Timestamp(as_of - n * DAY)
        estimates[n] = estimate_rate(f"d{n}_rate", int(wide.loc[mature, n].sum()), int(wide.loc[mature, 0].sum()))
        immature[n] = int(wide.loc[~mature, 0].sum())
        for month in months.unique():
            inside = months == month
            users, retained = (int(wide.loc[inside & mature, c].sum()) for c in (0, n))
            waiting = int(wide.loc[inside & ~mature, 0].sum())
            rows.append((month, n, users, retained, waiting, retained / users if users else None))
    names = ["cohort_start", "n_days", "users_count", "retained_count", "immature_count", "retention_rate"]
    return RetentionResult(period, estimates, immature, pd.DataFrame(rows, columns=names))

"""Cases: who left and who stayed, on which day each is looked back from, and who is like whom.

A case is one user in one month: the last active day is the day on which a leaver was seen last, and for a stayer the
day that compares with it. What they have in common is measured up to that day only, so that both sides answer the
same question: on a day when they were here, what lay behind them?
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import ibis
import ibis.expr.types as ir
import numpy as np
import pandas as pd

from opslib.data.periods import DAY, Calendar, Period
from opslib.errors import InputError
from opslib.language import say
from opslib.measure.churn.spells import EPOCH, need_columns
from opslib.measure.grains import index_days

STRATA = ("month", "tenure", "late_tier", "early_tier")
FACTORS = ("week",)
ESTABLISHED_DAYS = 30
HALF_DAYS = 14
# Twenty classes of equal size leave half a percent of a confounder's bias (Cochran 1968: five leave a tenth).
TENURE_BANDS = 20
TIER_BANDS = 6
CASES_PER_BAND = 200
COUNT_COLUMNS = ("month", "leavers_count", "stayers_count", "young_count")


@dataclass(frozen=True)
class Cases:
    """Leavers and stayers, ready to be compared.

    Attributes:
        table: one row a user and index day: user_id, index_day, left, the strata's columns and, where it is known,
            history_days (days with us up to the index day that the data can show: a reason that looks back further
            says nothing of such a user). Any definition of churn may fill it.
        strata: columns within whose equal values leavers and stayers are compared.
        factors: further columns that only the joint model allows for, one by one: as strata they would leave too few
            who are alike.
        counts: month, leavers_count, stayers_count, young_count (with us for too short: in neither); empty for a table
            of somebody's own.
        waiting: months whose leavers are not known yet; they are left out.
        notes: what a reader must know, in plain words.
    """

    table: ir.Table
    strata: tuple[str, ...]
    counts: pd.DataFrame
    waiting: tuple[dt.date, ...] = ()
    notes: tuple[str, ...] = ()
    factors: tuple[str, ...] = ()

    @classmethod
    def of_table(cls, table: ir.Table, strata: Sequence[str] = ()) -> Cases:
        """Take a table of somebody's own: user_id, index_day, left and the strata's columns.

        Raises:
            InputError: a column that is missing.
        """
        need_columns(table, ["user_id", "index_day", "left", *strata], what="The table of cases")
        return cls(table, tuple(strata), pd.DataFrame(columns=list(COUNT_COLUMNS)))


def choose_cases(
    active_days: ir.Table,
    period: Period,
    *,
    as_of: dt.date,
    calendar: Calendar | None = None,
    signups: ir.Table | None = None,
    inactive_days: int | None = None,
    min_tenure_days: int = ESTABLISHED_DAYS,
    tenure_bands: int = TENURE_BANDS,
) -> Cases:
    """Choose leavers and stayers of each month, each with the day to look back from.

    Args:
        active_days: user_id, day; all days since the beginning. For churn by orders, the days with an order.
        period: months of last activity, by their first days: a leaver was seen last in one of them.
        as_of: the last day that is fully known; who left cannot be told of later months.
        calendar: the company's clock, for sign-ups.
        signups: user_id, signup_at (UTC); without it the first active day counts.
        inactive_days: a leaver is silent for so many days after the index day; without it, for the whole next
            calendar month (active in one month, not in the next).
        min_tenure_days: users who were with us for less on the index day are in neither group.
        tenure_bands: into how many classes of equal size tenure is cut, fewer where there are few cases.

    Returns:
        `Cases` with the strata month, tenure, late_tier (active days of the last 14) and early_tier (of the 14 before),
        in classes of about equal size, and the factor week.

    Raises:
        InputError: options that make no sense, or missing columns.

    A user who comes in several months is a case in each, and leaves in one of them at most, as in a life table.

    >>> rows = [(u, dt.date(2026, m, 9)) for u in range(60) for m in ((1, 2, 3) if u < 40 else (1, 2))]
    >>> days = ibis.memtable({"user_id": [u for u, _ in rows], "day": [d for _, d in rows]})
    >>> february = Period(dt.date(2026, 2, 1), dt.date(2026, 3, 1), "February")
    >>> cases = choose_cases(days, february, as_of=dt.date(2026, 3, 31))
    >>> cases.counts[["leavers_count", "stayers_count", "young_count"]].to_numpy().tolist()
    [[20, 40, 0]]
    """
    for name, value in (("inactive_days", inactive_days), ("tenure_bands", tenure_bands)):
        if value is not None and value < 1:
            raise InputError(f"{name} is {value}: at least 1 is needed.")
    need_columns(active_days, ["user_id", "day"], what="The table of active days")
    months, waiting = _split_months(period, as_of, inactive_days)
    ends = _find_ends(active_days, as_of, inactive_days, months)
    joined = _join_tenure(ends, active_days, signups, calendar or Calendar())
    known = joined.cache()
    old = known.filter(known.tenure_days >= min_tenure_days)
    numbers = ("tenure_days", "late_count", "early_count")
    sizes: pd.DataFrame = old.group_by(*numbers).aggregate(cases=lambda t: t.count()).to_pandas()
    bands = min(tenure_bands, max(1, int(sizes["cases"].sum()) // CASES_PER_BAND))
    limits = dict(zip(numbers, (bands, TIER_BANDS, TIER_BANDS), strict=True))
    banded = {f"{c.split('_')[0]}_": _cut(old[c], _find_edges(sizes, c, n)) for c, n in limits.items()}
    table = old.select(
        "user_id", "index_day", "left", "history_days", "tenure_days", "late_count", "early_count", "month",
        week=old.index_day.truncate("W"),
        tenure=banded["tenure_"], late_tier=banded["late_"], early_tier=banded["early_"],
    )  # fmt: skip
    notes = [
        say("Who left after {month:%Y-%m} is not known yet: {as_of} is too early.", month=m, as_of=as_of)
        for m in waiting
    ]
    return Cases(table, STRATA, _count_months(known, min_tenure_days), tuple(waiting), tuple(notes), FACTORS)


def _split_months(period: Period, as_of: dt.date, inactive_days: int | None) -> tuple[list[dt.date], list[dt.date]]:
    """First days of the months whose leavers are known, and of those whose are not yet."""
    starts, at = [], period.start.replace(day=1)
    while at < period.end:
        starts.append(at)
        at = _add_months(at, 1)

    def known(start: dt.date) -> bool:
        last = _add_months(start, 1) - DAY
        return (_add_months(start, 2) - DAY if inactive_days is None else last + inactive_days * DAY) <= as_of

    return [s for s in starts if known(s)], [s for s in starts if not known(s)]


def _add_months(day: dt.date, months: int) -> dt.date:
    number = day.year * 12 + day.month - 1 + months
    return dt.date(number // 12, number % 12 + 1, 1)


def _find_ends(active_days: ir.Table, as_of: dt.date, inactive_days: int | None, months: list[dt.date]) -> ir.Table:
    """Each user's last active day of each month, how active the user was until then, and whether it was the end."""
    first, end = (months[0], _add_months(months[-1], 1)) if months else (as_of, as_of)
    rows = active_days.filter(
        active_days.user_id.notnull(), active_days.day <= as_of, active_days.day >= first - 2 * HALF_DAYS * DAY
    ).select("user_id", "day").distinct()  # fmt: skip
    placed = rows.mutate(at=index_days(rows.day, EPOCH, "day"), month_number=rows.day.year() * 12 + rows.day.month())

    def since(days: int) -> Any:
        return ibis.range_window(group_by=placed.user_id, order_by=placed["at"], preceding=days - 1, following=0)

    along: dict[str, Any] = {"group_by": placed.user_id, "order_by": placed["at"]}
    marked = placed.mutate(
        late_count=placed["at"].count().over(since(HALF_DAYS)),
        both_count=placed["at"].count().over(since(2 * HALF_DAYS)),
        following=placed["at"].lead().over(**along),
        following_month=placed.month_number.lead().over(**along),
    )
    last = marked.filter(
        marked.following_month.isnull() | (marked.following_month > marked.month_number),
        marked.day >= first,
        marked.day < end,
    )
    if inactive_days is None:
        back = (last.following_month == last.month_number + 1).fill_null(False)
    else:
        back = (last.following - last["at"] <= inactive_days).fill_null(False)
    early = last.both_count - last.late_count
    return last.select(
        "user_id", "late_count", "at", early_count=early, index_day=last.day, month=last.day.truncate("M"), left=~back
    )


def _join_tenure(ends: ir.Table, active_days: ir.Table, signups: ir.Table | None, calendar: Calendar) -> ir.Table:
    """Days since sign-up, and how many of them the data can show."""
    number = index_days(active_days.day, EPOCH, "day")
    firsts = active_days.group_by(_user="user_id").aggregate(first_at=number.min())
    if signups is not None:
        need_columns(signups, ["user_id", "signup_at"], what="The table of sign-ups")
        asked = signups.group_by(_asker="user_id").aggregate(
            signup=calendar.count_days(signups.signup_at, EPOCH).min(),
        )
        joined = firsts.left_join(asked, [("_user", "_asker")])
        firsts = joined.select("_user", first_at=ibis.coalesce(joined.signup, joined.first_at))
    start = number.min().as_scalar()
    joined = ends.inner_join(firsts, [("user_id", "_user")])
    tenure = joined["at"] - joined.first_at
    return joined.select(*ends.columns, tenure_days=tenure, history_days=ibis.least(tenure, joined["at"] - start) + 1)


def _find_edges(sizes: pd.DataFrame, column: str, bands: int) -> list[int]:
    """Upper ends of classes of about equal size."""
    cases = sizes.groupby(column)["cases"].sum()
    if cases.empty or bands < 2:
        return []
    ranks = cases.cumsum().to_numpy() / cases.sum()
    places = np.searchsorted(ranks, np.arange(1, bands) / bands)
    edges = sorted({int(cases.index[min(int(p), len(cases) - 1)]) for p in places})
    return [e for e in edges if e < int(cases.index[-1])]


def _cut(value: Any, edges: list[int]) -> Any:
    if not edges:
        return ibis.literal(0, "int64")
    return ibis.cases(*((value <= edge, i) for i, edge in enumerate(edges)), else_=len(edges)).cast("int64")


def _count_months(known: ir.Table, min_tenure_days: int) -> pd.DataFrame:
    old = known.tenure_days >= min_tenure_days
    counted = known.group_by("month").aggregate(
        leavers_count=(old & known.left).sum(), stayers_count=(old & ~known.left).sum(), young_count=(~old).sum()
    )
    frame: pd.DataFrame = counted.order_by("month").to_pandas()
    return frame[list(COUNT_COLUMNS)]

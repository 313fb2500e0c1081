"""Voice of users: who complains, and how long tickets wait."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import ibis
import ibis.expr.types as ir
import numpy as np
import pandas as pd

from opslib.data.periods import DAY, Calendar, Period
from opslib.errors import InputError
from opslib.language import mark, say
from opslib.measure.estimate import (
    MINIMUM_DENOMINATOR,
    Estimate,
    estimate_count,
    estimate_rate,
    to_plain_record,
)
from opslib.measure.survival.curves import LifeCounts, fit_survival

NOT_GIVEN = "(not given)"
# Longer solving times fall into the last hour.
MOST_HOURS = 24 * 365


@dataclass(frozen=True)
class ComplaintsResult:
    """Who complained in a period.

    Attributes:
        period: local days on which tickets were opened.
        complaint_rate: distinct complaining users of a day / distinct active users of the day, both summed over days.
            On a day with more who complain than are active, all of them are taken as active.
        complaints_count, tickets_count: complaints, and tickets of any kind.
        daily: day, tickets_count, complaints_count, complaining_users_count, active_users_count (missing where activity
            is not known), complaint_rate; a row for every day.
        categories: category, tickets_count, complaints_count, complaining_users_count (user-days), complaint_rate,
            complaint_low, complaint_high; most complaints first.
        category_days: day, category, tickets_count, complaints_count, complaining_users_count; days that have some.
        cells: the columns asked for, active_count and complaining_count (user-days): one row a combination.
        notes: what a reader must know.
    """

    period: Period
    complaint_rate: Estimate
    complaints_count: Estimate
    tickets_count: int
    daily: pd.DataFrame
    categories: pd.DataFrame
    category_days: pd.DataFrame
    cells: pd.DataFrame
    notes: tuple[str, ...]

    @property
    def active_count(self) -> float:
        """User-days of activity."""
        return float(self.daily["active_users_count"].sum())

    def by_segment(self, column: str) -> pd.DataFrame:
        """Complaint rate of a column's values: segment, complaining_count, active_count, complaint_rate, low, high.

        Raises:
            InputError: the column was not asked for.
        """
        if column not in self.cells:
            raise InputError(f"'{column}' was not counted: name it in `by`.")
        return sum_segments(self.cells, column)

    def findings(self) -> list[dict[str, Any]]:
        """The rate, the counts, and one record a category."""
        head = {"period": self.period.label}
        records = [self.complaint_rate.to_finding(**head), self.complaints_count.to_finding(**head)]
        rows = self.categories.to_dict("records")
        return records + [{"name": "complaints_by_category", **head, **to_plain_record(row)} for row in rows]


@dataclass(frozen=True)
class TicketsResult:
    """How long tickets wait.

    Attributes:
        period: local days on which tickets were opened.
        as_of: the last day that is known; a ticket closed later is open.
        overall: one row like those of `categories`, of all.
        categories: category, tickets_count, open_count, solved_count, median_hours, median_low, median_high, p90_hours,
            p90_low, p90_high (hours until half, nine in ten are solved; open ones count for as long as they have
            waited; missing where not so many are); most tickets first.
        notes: what a reader must know.
    """

    period: Period
    as_of: dt.date
    overall: pd.DataFrame
    categories: pd.DataFrame
    notes: tuple[str, ...]

    def findings(self) -> list[dict[str, Any]]:
        """One record of all and one a category."""
        head = {"name": "time_to_solve", "period": self.period.label}
        rows = [*self.overall.to_dict("records"), *self.categories.to_dict("records")]
        return [{**head, **to_plain_record(row)} for row in rows]


def sum_segments(cells: pd.DataFrame, column: str) -> pd.DataFrame:
    """Complaint rate of a column's values from cells: see `ComplaintsResult.by_segment`."""
    counts = cells.groupby(column, as_index=False)[["complaining_count", "active_count"]].sum()
    rates = _tabulate_rates(counts["complaining_count"], counts["active_count"])
    table = pd.concat([counts.rename(columns={column: "segment"}), rates], axis=1)
    return table.sort_values(["active_count", "segment"], ascending=[False, True], ignore_index=True)


def read_tickets(tickets: ir.Table, calendar: Calendar) -> ir.Table:
    """Tickets once each, on the local day on which they were opened.

    Args:
        tickets: ticket_id, user_id, opened_at, is_complaint, and where known category and closed_at.

    Returns:
        The same columns and day; a ticket that is there several times is the one that was opened first, closed when any
        of its rows is.
    """
    category = tickets.category if "category" in tickets.columns else ibis.null("string")
    closed = tickets.closed_at if "closed_at" in tickets.columns else ibis.null("timestamp")
    rows = tickets.select(
        "ticket_id",
        "user_id",
        "opened_at",
        is_complaint=tickets.is_complaint.fill_null(False),
        category=category.fill_null(NOT_GIVEN),
        closed_at=closed,
    )
    rows = rows.filter(rows.opened_at.notnull())
    once = rows.group_by("ticket_id").aggregate(
        user_id=rows.user_id.argmin(rows.opened_at),
        is_complaint=rows.is_complaint.max(),
        category=rows.category.argmin(rows.opened_at),
        closed_at=rows.closed_at.min(),
        opened_at=rows.opened_at.min(),
    )
    return once.mutate(day=calendar.local_day(once.opened_at))


def measure_complaints(
    tickets: ir.Table,
    active_days: ir.Table | None,
    period: Period,
    *,
    calendar: Calendar,
    attributes: ir.Table | None = None,
    by: Sequence[str] = (),
    minimum: int = MINIMUM_DENOMINATOR,
) -> ComplaintsResult:
    """Measure who complained.

    Args:
        tickets: ticket_id, user_id, opened_at (UTC), is_complaint, category; the same ticket may be there twice.
        active_days: user_id, day; one row a user and local day. None where activity is not known: then no rates.
        period: local days on which the tickets were opened, which is when it happened.
        attributes: one row a user, with the columns of `by`.
        by: columns to count by.
        minimum: with fewer active user-days there is no rate.

    Returns:
        A `ComplaintsResult`. The interval is Wilson's; where the same users complain on several days, or are active on
        many, it is as wide as if there were so many fewer of them (design effect of users, Kish 1965).

    >>> table = ibis.memtable({"ticket_id": [1, 2, 2], "user_id": [1, 2, 2], "is_complaint": [True, True, True],
    ...     "opened_at": [dt.datetime(2026, 1, 1, 9)] * 3, "category": ["billing"] * 3})
    >>> active = ibis.memtable({"user_id": list(range(40)), "day": [dt.date(2026, 1, 1)] * 40})
    >>> day = Period(dt.date(2026, 1, 1), dt.date(2026, 1, 2), "New Year")
    >>> result = measure_complaints(table, active, day, calendar=Calendar())
    >>> result.complaint_rate.value, result.complaints_count.value
    (0.05, 2.0)
    """
    opened = read_tickets(tickets, calendar)
    opened = opened.filter(opened.day >= period.start, opened.day < period.end)
    complaints = opened.filter(opened.is_complaint)
    counted = opened.aggregate(
        by=["day", "category"],
        tickets_count=opened.count(),
        complaints_count=opened.is_complaint.sum(),
        complaining_users_count=opened.user_id.nunique(where=opened.is_complaint),
    )
    category_days = _fetch(counted.order_by(["day", "category"]))
    distinct = _fetch(complaints.group_by("day").aggregate(users=complaints.user_id.nunique())).set_index("day")[
        "users"
    ]
    days = pd.date_range(period.start, period.last_day, name="day")
    sums = category_days.groupby("day")[["tickets_count", "complaints_count"]].sum().reindex(days, fill_value=0)
    daily = sums.assign(complaining_users_count=distinct.reindex(days, fill_value=0).astype("int64"))
    complaining = complaints.select("user_id", "day").distinct()
    count = int(daily["complaints_count"].sum())
    totals = (estimate_count("complaints_count", count), int(daily["tickets_count"].sum()))
    if active_days is None:
        note = say("not enough data: who was active on which day is not known")
        rate = Estimate(
            "complaint_rate",
            None,
            float(daily["complaining_users_count"].sum()),
            0,
            None,
            None,
            "none",
            "rate",
            note=note,
        )
        daily = daily.assign(active_users_count=np.nan, complaint_rate=np.nan).reset_index()
        categories = _sum_categories(category_days, math.nan)
        return ComplaintsResult(period, rate, *totals, daily, categories, category_days, pd.DataFrame(), (note,))
    active = active_days.filter(active_days.day >= period.start, active_days.day < period.end)
    present = _fetch(active.group_by("day").aggregate(users=active.user_id.nunique())).set_index("day")["users"]
    there = present.reindex(days, fill_value=0).astype("int64")
    daily["active_users_count"] = np.maximum(there, daily["complaining_users_count"])
    absent = int((daily["active_users_count"] - there).sum())
    daily["complaint_rate"] = daily["complaining_users_count"] / daily["active_users_count"].where(lambda n: n > 0)
    users = _count_by_user(active, complaining)
    users = users.cache() if by else users
    rate = _estimate_complaints(daily, _fetch_sums(users), minimum)
    text = mark("on some days more users complained than were active: {count:,} user-days are taken as active")
    notes = (say(text, count=absent),) if absent else ()
    cells = _count_cells(users, attributes, by) if by and attributes is not None else pd.DataFrame()
    categories = _sum_categories(category_days, rate.denominator)
    return ComplaintsResult(period, rate, *totals, daily.reset_index(), categories, category_days, cells, notes)


def _fetch(expression: ir.Table) -> pd.DataFrame:
    frame = expression.to_pandas()
    return frame.assign(day=pd.to_datetime(frame["day"])) if "day" in frame else frame


def _count_by_user(active: ir.Table, complaining: ir.Table) -> ir.Table:
    """user_id, active_count, complaining_count: days on which each user was active, and complained."""
    parts = ibis.union(
        active.select("user_id", active=ibis.literal(1), complained=ibis.literal(0)),
        complaining.select("user_id", active=ibis.literal(0), complained=ibis.literal(1)),
    )
    return parts.group_by("user_id").aggregate(
        active_count=parts.active.sum(), complaining_count=parts.complained.sum()
    )


def _fetch_sums(users: ir.Table) -> dict[str, float]:
    n, x = users.active_count.cast("float64"), users.complaining_count.cast("float64")
    row = users.aggregate(users=users.count(), nn=(n * n).sum(), xx=(x * x).sum(), xn=(x * n).sum()).to_pandas()
    return {k: float(v) if pd.notna(v) else 0.0 for k, v in row.iloc[0].items()}


def _estimate_complaints(daily: pd.DataFrame, sums: dict[str, float], minimum: int) -> Estimate:
    complaining = float(daily["complaining_users_count"].sum())
    active = float(daily["active_users_count"].sum())
    plain = estimate_rate("complaint_rate", complaining, active, minimum=minimum)
    if not plain.known or not 0 < complaining < active:
        return plain
    p = complaining / active
    scatter = sums["xx"] - 2 * p * sums["xn"] + p * p * sums["nn"]
    effect = max(1.0, scatter / (active * p * (1 - p)))
    wide = estimate_rate("complaint_rate", complaining / effect, active / effect, minimum=0)
    method = "Wilson, design effect of users" if effect > 1 else plain.method
    return replace(plain, low=wide.low, high=wide.high, method=method)


def _count_cells(users: ir.Table, attributes: ir.Table, by: Sequence[str]) -> pd.DataFrame:
    known = attributes.select("user_id", **{c: attributes[c].cast("string") for c in by})
    joined = users.left_join(known, "user_id")
    groups = {c: joined[c].fill_null(NOT_GIVEN) for c in by}
    counted = joined.aggregate(
        by=[value.name(c) for c, value in groups.items()],
        active_count=joined.active_count.sum(),
        complaining_count=joined.complaining_count.sum(),
    )
    return counted.order_by(list(by)).to_pandas()


def _sum_categories(category_days: pd.DataFrame, active: float) -> pd.DataFrame:
    counts = ["tickets_count", "complaints_count", "complaining_users_count"]
    frame = category_days.groupby("category", as_index=False)[counts].sum()
    rates = _tabulate_rates(frame["complaining_users_count"], pd.Series(active, index=frame.index, dtype=float))
    frame = pd.concat([frame, rates], axis=1)
    order = ["complaints_count", "tickets_count", "category"]
    return frame.sort_values(order, ascending=[False, False, True], ignore_index=True)


def _tabulate_rates(numerators: pd.Series, denominators: pd.Series) -> pd.DataFrame:
    found = [
        estimate_rate("complaint_rate", min(x, n), n) if pd.notna(n) and n > 0 else None
        for x, n in zip(numerators, denominators, strict=True)
    ]
    values = [(None, None, None) if e is None else (e.value, e.low, e.high) for e in found]
    return pd.DataFrame(values, columns=["complaint_rate", "complaint_low", "complaint_high"], dtype=float)


def measure_tickets(tickets: ir.Table, period: Period, *, as_of: dt.date, calendar: Calendar) -> TicketsResult:
    """Measure how long tickets wait until they are solved.

    Args:
        tickets: ticket_id, user_id, opened_at, is_complaint, category, closed_at.
        period: local days on which they were opened.
        as_of: the last day that is fully known.

    Returns:
        A `TicketsResult`: Kaplan-Meier over whole hours begun, with open tickets censored at the end of `as_of`.
    """
    end = calendar.day_start(as_of + DAY)
    table = read_tickets(tickets, calendar)
    table = table.filter(table.day >= period.start, table.day < period.end, table.opened_at < ibis.timestamp(end))
    solved = (table.closed_at < ibis.timestamp(end)).fill_null(False)
    # A ticket that is closed before it is opened was solved at once.
    until = ibis.greatest(solved.ifelse(table.closed_at, ibis.timestamp(end)), table.opened_at)
    seconds = until.delta(table.opened_at, unit="second")
    aged = table.select("category", solved=solved, hours=ibis.least(seconds // 3600 + solved.cast("int64"), MOST_HOURS))
    counted = aged.group_by("category", "solved", "hours").aggregate(tickets=aged.count()).to_pandas()
    counted = counted.sort_values(["category", "solved", "hours"], ignore_index=True)
    rows = [{"category": str(name), **_fit_hours(part)} for name, part in counted.groupby("category")]
    categories = pd.DataFrame(rows, columns=["category", *_fit_hours(counted)])
    categories = categories.sort_values(["tickets_count", "category"], ascending=[False, True], ignore_index=True)
    notes: tuple[str, ...] = ()
    if "closed_at" not in tickets.columns:
        notes = (say("when tickets were closed is not in the data, so every ticket counts as open"),)
    return TicketsResult(period, as_of, pd.DataFrame([{"category": "", **_fit_hours(counted)}]), categories, notes)


def _fit_hours(counted: pd.DataFrame) -> dict[str, Any]:
    solved = counted["solved"].astype(bool)
    total, closed = int(counted["tickets"].sum()), int(counted.loc[solved, "tickets"].sum())
    row: dict[str, Any] = {"tickets_count": total, "open_count": total - closed, "solved_count": closed}
    ends = dict.fromkeys(("median_hours", "median_low", "median_high", "p90_hours", "p90_low", "p90_high"), math.nan)
    if not total:
        return row | ends
    hours = counted["hours"].astype(int).to_numpy()
    size = int(hours.max()) + 1
    left, censored = (
        np.bincount(hours[side], weights=counted["tickets"].to_numpy()[side], minlength=size).astype(np.int64)
        for side in (solved.to_numpy(), ~solved.to_numpy())
    )
    entered = np.zeros(size, dtype=np.int64)
    entered[0] = total
    curve = fit_survival(LifeCounts(entered, {"solved": left}, censored))
    for name, share in (("median", 0.5), ("p90", 0.1)):
        for suffix, column in (("hours", "survival_rate"), ("low", "survival_low"), ("high", "survival_high")):
            below = curve.loc[curve[column] <= share + 1e-12, "tenure"]
            ends[f"{name}_{suffix}"] = float(below.iloc[0]) if len(below) else math.nan
    return row | ends


def estimate_times(name: str, now: float, now_of: float, before: float, before_of: float) -> Estimate:
    """How many times as often something happens as before, from counts and what they are of.

    Given both counts together, those of now are a share of them (conditional test of two Poisson rates), which has
    Wilson's interval.

    Source: Przyborowski and Wilenski (1940), Biometrika 31, 313-323, for the condition.

    >>> e = estimate_times("complaints_ratio", 60, 100, 20, 200)
    >>> round(e.value, 1), round(e.low, 2), round(e.high, 2)
    (6.0, 3.64, 9.9)
    """
    if not before or not before_of or not now_of:
        note = say("not enough data: nothing to compare with before")
        return Estimate(name, None, now, before, None, None, "none", "ratio", note=note)
    share = estimate_rate(name, now, now + before, minimum=0)
    assert share.value is not None and share.low is not None and share.high is not None
    scale = before_of / now_of
    value, low, high = (scale * p / (1 - p) for p in (share.value, share.low, share.high))
    return Estimate(name, value, now, before, low, high, "Wilson, given both counts", "ratio")

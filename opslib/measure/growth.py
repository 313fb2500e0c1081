"""Activity and growth: daily, weekly and monthly active users, stickiness, and where growth comes from.

Everything starts from active days: one row a user and local day (`Data.active_days`).
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any, Literal

import ibis
import ibis.expr.types as ir
import pandas as pd

from opslib.data.periods import DAY, Period
from opslib.measure.estimate import Estimate, estimate_count, estimate_mean, estimate_total, to_plain_record

Grain = Literal["day", "week", "month", "quarter"]

WEEK_DAYS = 7
MONTH_DAYS = 30
STICKINESS_DAYS = 28


@dataclass(frozen=True)
class ActivityResult:
    """Active users by day.

    Attributes:
        period: the days covered.
        daily: day, dau_count, wau_count (7 days to that day), mau_count (30 days), one row a day, also empty ones.
        dau: mean daily active users over the period; its interval treats users, not days, as independent.
        mau: distinct users of the period's last 30 days.
        stickiness: mean share of the last 28 days on which a user of those days was active (mean DAU / distinct users).
    """

    period: Period
    daily: pd.DataFrame
    dau: Estimate
    mau: Estimate
    stickiness: Estimate

    def findings(self) -> list[dict[str, Any]]:
        """Estimates as flat records."""
        return [e.to_finding(period=self.period.label) for e in (self.dau, self.mau, self.stickiness)]


@dataclass(frozen=True)
class GrowthAccountingResult:
    """Where the active users of each period came from, and who went.

    Attributes:
        grain: day, week, month or quarter.
        periods: period_start, opening_count, new_count, resurrected_count, churned_count, closing_count,
            retained_count, quick_ratio, complete; opening + new + resurrected - churned = closing, to the integer.
    """

    grain: Grain
    periods: pd.DataFrame

    def findings(self) -> list[dict[str, Any]]:
        """One flat record a complete period."""
        rows = (
            self.periods[self.periods["complete"]].drop(columns="complete").rename(columns={"period_start": "period"})
        )
        return [{"name": "growth_accounting", **to_plain_record(row)} for row in rows.to_dict("records")]


def measure_activity(active_days: ir.Table, period: Period) -> ActivityResult:
    """Count active users for each day of a period.

    Args:
        active_days: user_id, day; one row a user and local day. Days before the period feed its first 7- and 30-day
            windows.
        period: the days to report.

    Returns:
        An `ActivityResult`.

    Method: a user counts in a window of w days ending on any of the days d .. d+w-1 after an active day d, until the
    next active day takes over. So every window is a running sum of +1 and -1, and one pass serves them all.

    >>> days = ibis.memtable({"user_id": [1, 1, 2], "day": [dt.date(2026, 1, d) for d in (1, 3, 3)]})
    >>> result = measure_activity(days, Period(dt.date(2026, 1, 1), dt.date(2026, 1, 4), "first days"))
    >>> result.daily["dau_count"].tolist(), result.daily["wau_count"].tolist()
    ([1, 0, 2], [1, 1, 2])
    """
    reach = active_days.filter((active_days.day >= period.start - MONTH_DAYS * DAY) & (active_days.day < period.end))
    following = reach.day.lead().over(group_by=reach.user_id, order_by=reach.day)
    gaps = reach.mutate(gap=ibis.coalesce(following.delta(reach.day, unit="day"), MONTH_DAYS + 1))
    gaps = gaps.mutate(gap=ibis.least(gaps.gap, MONTH_DAYS + 1))
    counted = gaps.group_by("day", "gap").aggregate(users=lambda t: t.count()).to_pandas()
    days = pd.date_range(period.start - MONTH_DAYS * DAY, period.last_day)
    daily = pd.DataFrame(
        {"day": days}
        | {
            f"{name}_count": _sum_window(counted, days, length)
            for name, length in (("dau", 1), ("wau", WEEK_DAYS), ("mau", MONTH_DAYS))
        }
    )
    daily = daily[daily["day"] >= pd.Timestamp(period.start)].reset_index(drop=True)
    return ActivityResult(
        period,
        daily,
        _measure_mean_dau(active_days, period),
        estimate_count("mau_count", int(daily["mau_count"].iloc[-1])),
        measure_stickiness(active_days, period.last_day),
    )


def _sum_window(counted: pd.DataFrame, days: pd.DatetimeIndex, length: int) -> Any:
    """Distinct users of the `length` days up to each day, from counts of user-days by day and gap to the next one."""
    start = pd.to_datetime(counted["day"])
    stop = start + pd.to_timedelta(counted["gap"].clip(upper=length), unit="D")
    changes = pd.concat([counted["users"].groupby(start).sum(), -counted["users"].groupby(stop.rename("day")).sum()])
    return changes.groupby(level=0).sum().cumsum().reindex(days, method="ffill").fillna(0).astype(int).to_numpy()


def _measure_mean_dau(active_days: ir.Table, period: Period) -> Estimate:
    users, total, squares = _sum_days_per_user(active_days, period)
    return estimate_total("dau_count", total, squares, users, per=period.days, unit="count")


def _sum_days_per_user(active_days: ir.Table, period: Period) -> tuple[int, float, float]:
    """Users active in a period, the sum of their active days, and the sum of squares."""
    window = active_days.filter((active_days.day >= period.start) & (active_days.day < period.end))
    per_user = window.group_by("user_id").aggregate(days=lambda t: t.count())
    sums = per_user.aggregate(
        users=per_user.count(),
        total=per_user.days.sum().fill_null(0),
        squares=(per_user.days * per_user.days).sum().fill_null(0),
    ).to_pandas()
    return int(sums["users"][0]), float(sums["total"][0]), float(sums["squares"][0])


def measure_stickiness(active_days: ir.Table, last_day: dt.date) -> Estimate:
    """Measure stickiness over the 28 days up to `last_day`: mean DAU / distinct users, that is active days a user / 28.

    The interval treats users, not days, as independent: one user's days go together.
    """
    period = Period(last_day - (STICKINESS_DAYS - 1) * DAY, last_day + DAY, "last 28 days")
    users, total, squares = _sum_days_per_user(active_days, period)
    return estimate_mean("stickiness_rate", total / STICKINESS_DAYS, squares / STICKINESS_DAYS**2, users, unit="rate")


def account_growth(
    active_days: ir.Table, span: Period, *, grain: Grain = "week", week_start: int = 0
) -> GrowthAccountingResult:
    """Account for growth: opening + new + resurrected - churned = closing in every period.

    Args:
        active_days: user_id, day; all days since the beginning, or old users would look new.
        span: the days that the data cover; periods not wholly inside are marked incomplete.
        grain: length of a period.
        week_start: 0 for Monday to 6 for Sunday.

    Returns:
        A `GrowthAccountingResult`, one row a period from the first to the last, also empty ones.

    A user is new in the first period ever active, retained when active in this and the period before, resurrected when
    active now and earlier but not in the period before, churned in a period when active in the one before but not
    in it.

    Source: Social Capital, "Diligence at Social Capital, part 1: accounting for user growth" (2016).
    """
    active_days = active_days.filter(active_days.day < span.end)
    start = truncate_day(active_days.day, grain, week_start)
    active = active_days.select(user_id="user_id", period_start=start).distinct()
    window = ibis.window(group_by=active.user_id, order_by=active.period_start)
    marked = active.mutate(before=active.period_start.lag().over(window), after=active.period_start.lead().over(window))
    counted = marked.group_by("period_start", "before", "after").aggregate(users=lambda t: t.count()).to_pandas()
    return GrowthAccountingResult(grain, _balance(counted, span, grain, week_start))


def _balance(counted: pd.DataFrame, span: Period, grain: Grain, week_start: int) -> pd.DataFrame:
    for column in ("period_start", "before", "after"):
        counted[column] = pd.to_datetime(counted[column])
    first = pd.Timestamp(floor_day(span.start, grain, week_start))
    starts = pd.date_range(first, pd.Timestamp(span.last_day), freq=_FREQUENCIES[grain](week_start))
    position = pd.Series(range(len(starts)), index=starts)
    counted = counted[counted["period_start"].isin(starts)]
    now = counted["period_start"].map(position)
    before, after = counted["before"].map(position), counted["after"].map(position)
    users = counted["users"]

    def total(mask: pd.Series, at: pd.Series) -> pd.Series:
        return users[mask].groupby(at[mask]).sum().reindex(range(len(starts)), fill_value=0).astype(int)

    new = total(before.isna(), now)
    retained = total(before == now - 1, now)
    resurrected = total(before.notna() & (before != now - 1), now)
    churned = total(after != now + 1, now + 1)
    closing = new + retained + resurrected
    frame = pd.DataFrame(
        {
            "period_start": starts,
            "opening_count": closing.shift(fill_value=0),
            "new_count": new,
            "resurrected_count": resurrected,
            "churned_count": churned,
            "closing_count": closing,
            "retained_count": retained,
        }
    )
    frame = frame.reset_index(drop=True)
    frame["quick_ratio"] = (frame["new_count"] + frame["resurrected_count"]) / frame["churned_count"].where(
        frame["churned_count"] > 0
    )
    ends = [*starts[1:], starts[-1] + pd.tseries.frequencies.to_offset(_FREQUENCIES[grain](week_start))]
    frame["complete"] = [
        s >= pd.Timestamp(span.start) and e <= pd.Timestamp(span.end) for s, e in zip(starts, ends, strict=True)
    ]
    return frame


_FREQUENCIES: dict[Grain, Any] = {
    "day": lambda week_start: "D",
    "week": lambda week_start: f"W-{('MON', 'TUE', 'WED', 'THU', 'FRI', 'SAT', 'SUN')[week_start]}",
    "month": lambda week_start: "MS",
    "quarter": lambda week_start: "QS",
}


def truncate_day(day: Any, grain: Grain, week_start: int = 0) -> Any:
    """The first day of the period that a day expression lies in."""
    if grain == "day":
        return day
    if grain == "week" and week_start:
        shift = ibis.interval(days=week_start)
        return ((day - shift).cast("date").truncate("W") + shift).cast("date")
    return day.truncate({"week": "W", "month": "M", "quarter": "Q"}[grain])


def floor_day(day: dt.date, grain: Grain, week_start: int = 0) -> dt.date:
    """The first day of the period that a date lies in.

    >>> floor_day(dt.date(2026, 6, 30), "week"), floor_day(dt.date(2026, 6, 30), "quarter")
    (datetime.date(2026, 6, 29), datetime.date(2026, 4, 1))
    """
    if grain == "week":
        return day - ((day.weekday() - week_start) % 7) * DAY
    if grain == "month":
        return day.replace(day=1)
    return day.replace(month=3 * ((day.month - 1) // 3) + 1, day=1) if grain == "quarter" else day

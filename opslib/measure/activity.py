"""Activity: daily, weekly and monthly active users, stickiness, on how many days users come, and all that by segment.

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
from opslib.measure.grains import Grain, count_periods, floor_day, index_days

Comparison = Literal["at_least", "at_most", "exactly"]

WEEK_DAYS = 7
MONTH_DAYS = 30
STICKINESS_DAYS = 28
NOT_GIVEN = "(not given)"
OTHER = "(other)"


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
class SegmentActivityResult:
    """Activity by segment.

    Attributes:
        period: the days covered.
        by_segment: segment, dau_count (mean a day), mau_count (distinct users of the period's last 30 days),
            mau_rate (share of everybody's), stickiness_rate with stickiness_low and stickiness_high over the last 28
            days, stickiness_users_count behind it; most users first, "(other)" last. Missing where too few users are.
        daily: segment, day, dau_count, wau_count, mau_count.
    """

    period: Period
    by_segment: pd.DataFrame
    daily: pd.DataFrame

    def findings(self) -> list[dict[str, Any]]:
        """One flat record a segment."""
        head = {"name": "segment_activity", "period": self.period.label}
        return [head | to_plain_record(row) for row in self.by_segment.to_dict("records")]


@dataclass(frozen=True)
class DaysActiveResult:
    """On how many of the last days each user came (L28 when there are 28).

    Attributes:
        period: the days covered.
        distribution: active_days_count (1 to the length), users_count, users_rate, at_least_count (users with as many
            days or more), at_least_rate; rates are missing when nobody was active.
        mean_days: mean active days of the users active at all.
        stickiness: the same over the length: mean DAU / distinct users.
    """

    period: Period
    distribution: pd.DataFrame
    mean_days: Estimate
    stickiness: Estimate

    def findings(self) -> list[dict[str, Any]]:
        """The estimates, then one flat record a number of days."""
        records = [e.to_finding(period=self.period.label) for e in (self.mean_days, self.stickiness)]
        head = {"name": "days_active", "period": self.period.label}
        return records + [head | to_plain_record(row) for row in self.distribution.to_dict("records")]


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
    daily = _sum_windows(_count_gaps(active_days, period), period)
    return ActivityResult(
        period,
        daily,
        _measure_mean_dau(active_days, period),
        estimate_count("mau_count", int(daily["mau_count"].iloc[-1])),
        measure_stickiness(active_days, period.last_day),
    )


def measure_activity_by_segment(labelled: ir.Table, period: Period) -> SegmentActivityResult:
    """Count active users for each day of a period and each segment.

    Args:
        labelled: user_id, day, segment, as `label_segments` gives it; a user is in one segment.
        period: the days to report.

    Returns:
        A `SegmentActivityResult`; the counts of the segments add up to those of everybody.

    >>> days = ibis.memtable({"user_id": [1, 2], "day": [dt.date(2026, 1, 1)] * 2, "segment": ["ios", "web"]})
    >>> january = Period(dt.date(2026, 1, 1), dt.date(2026, 2, 1), "January")
    >>> measure_activity_by_segment(days, january).daily.groupby("segment")["dau_count"].sum().to_dict()
    {'ios': 1, 'web': 1}
    """
    counted = _count_gaps(labelled, period, "segment")
    daily = {name: _sum_windows(part, period) for name, part in counted.groupby("segment")}
    recent = labelled.filter((labelled.day > period.last_day - STICKINESS_DAYS * DAY) & (labelled.day < period.end))
    per_user = recent.group_by("segment", "user_id").aggregate(days=lambda t: t.count())
    sums = per_user.group_by("segment").aggregate(
        users=lambda t: t.count(), total=lambda t: t.days.sum(), squares=lambda t: (t.days * t.days).sum()
    )
    sticky = {row["segment"]: row for row in sums.to_pandas().to_dict("records")}
    everybody = sum(int(frame["mau_count"].iloc[-1]) for frame in daily.values())
    rows = []
    for name, frame in daily.items():
        row = sticky.get(name, {"users": 0, "total": 0, "squares": 0})
        estimate = _estimate_stickiness(row["users"], row["total"], row["squares"], STICKINESS_DAYS)
        mau = int(frame["mau_count"].iloc[-1])
        rows.append(
            {
                "segment": name,
                "dau_count": frame["dau_count"].mean(),
                "mau_count": mau,
                "mau_rate": mau / everybody if everybody else None,
                "stickiness_rate": estimate.value,
                "stickiness_low": estimate.low,
                "stickiness_high": estimate.high,
                "stickiness_users_count": int(row["users"]),
            }
        )
    names = ["segment", "dau_count", "mau_count", "mau_rate", "stickiness_rate", "stickiness_low", "stickiness_high"]
    frame = sort_segments(pd.DataFrame(rows, columns=[*names, "stickiness_users_count"]), "mau_count")
    parts = [daily[name].assign(segment=name) for name in frame["segment"]]
    columns = ["segment", "day", "dau_count", "wau_count", "mau_count"]
    together = pd.concat(parts, ignore_index=True)[columns] if parts else pd.DataFrame(columns=columns)
    return SegmentActivityResult(period, frame, together)


def label_segments(active_days: ir.Table, attributes: ir.Table, column: str, *, top: int = 10) -> ir.Table:
    """Add to active days the segment that each user is in.

    Args:
        active_days: user_id, day.
        attributes: one row a user with the column.
        column: the attribute; its values as text.
        top: the values with the most users keep their names, ties by name; the rest are "(other)", so that ten thousand
            channels stay readable. Users without a value, or who are not in the table, are "(not given)".

    Returns:
        An Ibis table: user_id, day, segment.

    >>> days = ibis.memtable({"user_id": [1, 2, 3], "day": [dt.date(2026, 1, 1)] * 3})
    >>> users = ibis.memtable({"user_id": [1, 2, 3], "channel": ["search", "search", "ads"]})
    >>> label_segments(days, users, "channel", top=1).to_pandas()["segment"].value_counts().to_dict()
    {'search': 2, '(other)': 1}
    """
    named = attributes.select("user_id", segment=attributes[column].cast("string"))
    sizes = named.filter(named.segment.notnull()).group_by("segment").aggregate(users=lambda t: t.count())
    kept = sizes.order_by([sizes.users.desc(), sizes.segment]).limit(top).to_pandas()["segment"].tolist()
    grouped = ibis.cases((named.segment.isnull(), NOT_GIVEN), (named.segment.isin(kept), named.segment), else_=OTHER)
    labels = named.select("user_id", segment=grouped if kept else ibis.literal(NOT_GIVEN))
    joined = active_days.left_join(labels, "user_id")
    return joined.select("user_id", "day", segment=joined.segment.fill_null(NOT_GIVEN))


def sort_segments(frame: pd.DataFrame, column: str) -> pd.DataFrame:
    """Segments with most users first, ties by name; the unnamed rest last."""
    rest = frame["segment"].map({OTHER: 1, NOT_GIVEN: 2}).fillna(0)
    order = frame.assign(_rest=rest).sort_values(["_rest", column, "segment"], ascending=[True, False, True])
    return order.drop(columns="_rest").reset_index(drop=True)


def measure_stickiness(active_days: ir.Table, last_day: dt.date) -> Estimate:
    """Measure stickiness over the 28 days up to `last_day`: mean DAU / distinct users, that is active days a user / 28.

    The interval treats users, not days, as independent: one user's days go together.
    """
    period = Period(last_day - (STICKINESS_DAYS - 1) * DAY, last_day + DAY, "last 28 days")
    return _estimate_stickiness(*_sum_days_per_user(active_days, period), STICKINESS_DAYS)


def measure_days_active(active_days: ir.Table, *, last_day: dt.date, length: int = STICKINESS_DAYS) -> DaysActiveResult:
    """Count users by the number of days, of the last `length`, on which they were active.

    Args:
        active_days: user_id, day; one row a user and local day.
        last_day: the last day that counts.
        length: how many days count; 28 holds each weekday four times.

    Returns:
        A `DaysActiveResult`.

    Raises:
        ValueError: a length below 1.

    >>> days = ibis.memtable({"user_id": [1, 1, 2], "day": [dt.date(2026, 1, d) for d in (1, 3, 3)]})
    >>> result = measure_days_active(days, last_day=dt.date(2026, 1, 3), length=3)
    >>> result.distribution["users_count"].tolist(), result.distribution["at_least_count"].tolist()
    ([1, 1, 0], [2, 1, 0])
    """
    if length < 1:
        raise ValueError("at least one day must count")
    period = Period(last_day - (length - 1) * DAY, last_day + DAY, f"last {length} days")
    window = active_days.filter((active_days.day >= period.start) & (active_days.day < period.end))
    counts = _count_users_by_total(window, length)
    users = int(counts.sum())
    frame = pd.DataFrame({"active_days_count": counts.index, "users_count": counts.to_numpy()})
    frame["users_rate"] = frame["users_count"] / users if users else None
    frame["at_least_count"] = frame["users_count"][::-1].cumsum()[::-1]
    frame["at_least_rate"] = frame["at_least_count"] / users if users else None
    days = frame["active_days_count"]
    total, squares = (float((frame["users_count"] * days**power).sum()) for power in (1, 2))
    mean = estimate_mean("active_days", total, squares, users, unit="days")
    return DaysActiveResult(period, frame, mean, _estimate_stickiness(users, total, squares, length))


def count_active_intervals(
    activity: ir.Table,
    period: Period,
    *,
    grain: Grain = "day",
    every: int = 1,
    week_start: int = 0,
    criterion: tuple[Comparison, int] | None = None,
    cumulative: bool = False,
) -> pd.DataFrame:
    """Count users by the number of intervals in which they were active.

    Args:
        activity: user_id, day; rows of one user and day may repeat, and are what `criterion` counts.
        period: the days that count.
        grain, every: an interval is so many days, weeks, months or quarters. Days start at the period's first day;
            weeks, months and quarters are the calendar's, and the first and last may lie only partly inside.
        week_start: 0 for Monday to 6 for Sunday.
        criterion: how many rows make an interval active, such as ("at_least", 3); any by default.
        cumulative: count users with so many intervals or more.

    Returns:
        intervals_count (1 to the number of intervals), users_count.

    Raises:
        ValueError: `every` below 1.

    Source: the stickiness query of PostHog, whose test cases it reproduces.

    >>> days = ibis.memtable({"user_id": [1, 1, 2], "day": [dt.date(2026, 1, d) for d in (1, 2, 4)]})
    >>> first = Period(dt.date(2026, 1, 1), dt.date(2026, 1, 5), "first days")
    >>> count_active_intervals(days, first, every=2)["users_count"].tolist()
    [2, 0]
    """
    if every < 1:
        raise ValueError("an interval has at least one period")
    start = floor_day(period.start, grain, week_start)
    inside = activity.filter((activity.day >= period.start) & (activity.day < period.end))
    placed = inside.select("user_id", at=index_days(inside.day, start, grain) // every)
    if criterion is not None:
        comparison, rows = criterion
        counted = placed.group_by("user_id", "at").aggregate(rows=lambda t: t.count())
        met = {"at_least": counted.rows >= rows, "at_most": counted.rows <= rows, "exactly": counted.rows == rows}
        placed = counted.filter(met[comparison])
    number = count_periods(start, period.last_day, grain) // every + 1
    counts = _count_users_by_total(placed.select("user_id", "at").distinct(), number)
    if cumulative:
        counts = counts[::-1].cumsum()[::-1]
    return pd.DataFrame({"intervals_count": counts.index, "users_count": counts.to_numpy()})


def _count_users_by_total(rows: ir.Table, most: int) -> pd.Series:
    """Users by their number of rows, 1 to `most`."""
    per_user = rows.group_by("user_id").aggregate(total=lambda t: t.count())
    counted = per_user.group_by("total").aggregate(users=lambda t: t.count()).to_pandas()
    return counted.set_index("total")["users"].reindex(range(1, most + 1), fill_value=0).astype(int)


def _count_gaps(active_days: ir.Table, period: Period, *keys: str) -> pd.DataFrame:
    """User-days by day and days to the user's next active day, 31 for all that is longer."""
    reach = active_days.filter((active_days.day >= period.start - MONTH_DAYS * DAY) & (active_days.day < period.end))
    following = reach.day.lead().over(group_by=reach.user_id, order_by=reach.day)
    gaps = reach.mutate(gap=ibis.coalesce(following.delta(reach.day, unit="day"), MONTH_DAYS + 1))
    gaps = gaps.mutate(gap=ibis.least(gaps.gap, MONTH_DAYS + 1))
    return gaps.group_by("day", "gap", *keys).aggregate(users=lambda t: t.count()).to_pandas()


def _sum_windows(counted: pd.DataFrame, period: Period) -> pd.DataFrame:
    days = pd.date_range(period.start - MONTH_DAYS * DAY, period.last_day)
    windows = {"dau": 1, "wau": WEEK_DAYS, "mau": MONTH_DAYS}
    frame = pd.DataFrame({"day": days} | {f"{k}_count": _sum_window(counted, days, w) for k, w in windows.items()})
    return frame[frame["day"] >= pd.Timestamp(period.start)].reset_index(drop=True)


def _sum_window(counted: pd.DataFrame, days: pd.DatetimeIndex, length: int) -> Any:
    """Distinct users of the `length` days up to each day, from counts of user-days by day and gap to the next one."""
    start = pd.to_datetime(counted["day"])
    stop = start + pd.to_timedelta(counted["gap"].clip(upper=length), unit="D")
    changes = pd.concat([counted["users"].groupby(start).sum(), -counted["users"].groupby(stop.rename("day")).sum()])
    return changes.groupby(level=0).sum().cumsum().reindex(days, method="ffill").fillna(0).astype(int).to_numpy()


def _measure_mean_dau(active_days: ir.Table, period: Period) -> Estimate:
    users, total, squares = _sum_days_per_user(active_days, period)
    return estimate_total("dau_count", total, squares, users, per=period.days, unit="count")


def _estimate_stickiness(users: float, total: float, squares: float, length: int) -> Estimate:
    return estimate_mean("stickiness_rate", total / length, squares / length**2, int(users), unit="rate")


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

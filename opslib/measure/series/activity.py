"""Series of who is active: daily and monthly users, stickiness, new users, who of them came back, and who left.

Everything starts from active days: user_id, day and, with groups, group; one row a user and local day. They are counted
in a few passes (`count_windows`, `count_cohorts`, `count_users`, `count_left`), from which the series are made.
"""

from __future__ import annotations

from typing import Any

import ibis
import ibis.expr.types as ir
import numpy as np
import pandas as pd

from opslib.data.periods import DAY
from opslib.measure.activity import MONTH_DAYS, STICKINESS_DAYS
from opslib.measure.growth import account_growth
from opslib.measure.series.grid import Grid, make_series
from opslib.measure.series.series import MetricSeries

RETENTION_DAYS = (1, 7, 30)


def count_windows(active_days: ir.Table, grid: Grid) -> pd.DataFrame:
    """Count the users active in the days up to each day.

    Args:
        active_days: user_id, day, group.
        grid: by day.

    Returns:
        A row a day and group: dau_count, mau_count (30 days up to it), users_count (28 days), days_count (user-days of
        the 28 days).

    Method: as in `measure_activity`: a user counts in a window of w days ending on any of the days d .. d+w-1 after an
    active day d, until the next active day takes over, so every window is a running sum.
    """
    days = grid.clip(active_days)
    group = {"group": days.group} if grid.by else {}
    following = days.day.lead().over(group_by=days.user_id, order_by=days.day)
    gap = ibis.least(ibis.coalesce(following.delta(days.day, unit="day"), MONTH_DAYS + 1), MONTH_DAYS + 1)
    gaps = days.select(at=grid.place(days.day), gap=gap, **group)
    keys = ["at", *group]
    counted = gaps.group_by(*keys, "gap").aggregate(users=lambda t: t.count()).to_pandas()
    windows = {"dau_count": 1, "mau_count": MONTH_DAYS, "users_count": STICKINESS_DAYS}
    frame = pd.DataFrame({name: _sum_window(counted, grid, length) for name, length in windows.items()})
    sums = frame["dau_count"].to_numpy().reshape(grid.number, -1).cumsum(axis=0)
    sums[STICKINESS_DAYS:] -= sums[:-STICKINESS_DAYS].copy()
    frame["days_count"] = sums.reshape(-1)
    return frame


def _sum_window(counted: pd.DataFrame, grid: Grid, length: int) -> np.ndarray:
    """Distinct users of the `length` days up to each day, from user-days by day and gap to the next one."""
    size = len(grid.groups)
    changes = np.zeros((grid.number + MONTH_DAYS + 1, size))
    at = counted["at"].to_numpy(dtype=int)
    place = {name: i for i, name in enumerate(grid.groups)}
    group = counted["group"].map(place).to_numpy(dtype=int) if grid.by else np.zeros(len(at), dtype=int)
    users = counted["users"].to_numpy(dtype=float)
    np.add.at(changes, (at, group), users)
    np.add.at(changes, (at + counted["gap"].to_numpy(dtype=int).clip(max=length), group), -users)
    return changes.cumsum(axis=0)[: grid.number].reshape(-1)


def sum_squares(active_days: ir.Table, grid: Grid) -> np.ndarray:
    """For each period and group, the sum over users of the squares of their active days among the 28 up to its last."""
    days = grid.clip(active_days)
    group = ["group"] if grid.by else []
    if grid.grain == "day":
        return _sum_daily_squares(days, grid)
    reach = [
        (at, last - n) for at, last in enumerate(grid.span_last_days) for n in range(min(STICKINESS_DAYS, last + 1))
    ]
    placed = {"at": [at for at, _ in reach], "day": [grid.span.start + n * DAY for _, n in reach]}
    of = days.inner_join(ibis.memtable(placed, schema={"at": "int64", "day": "date"}), "day")
    per_user = of.group_by("user_id", "at", *group).aggregate(days=of.count())
    counted = per_user.group_by("at", *group).aggregate(squares=(per_user.days * per_user.days).sum()).to_pandas()
    return grid.fill(counted, "squares")["squares"].to_numpy()


def _sum_daily_squares(days: ir.Table, grid: Grid) -> np.ndarray:
    """A user's active days of the window go up by one on an active day, and down by one 28 days later."""
    group = {"group": days.group} if grid.by else {}
    at = grid.place(days.day)
    one = ibis.literal(1, "int32")
    begin = days.select(user_id="user_id", at=at, change=one, **group)
    end = days.select(user_id="user_id", at=at + STICKINESS_DAYS, change=-one, **group)
    both = ibis.union(begin, end.filter(end.at < grid.number))
    order = ibis.window(group_by=both.user_id, order_by=[both.at, both.change], preceding=None, following=0)
    after = both.change.sum().over(order)
    keys = {"at": both.at, **({"group": both.group} if grid.by else {})}
    # From (n - c) squared to n squared.
    moved = both.select(**keys, more=both.change * (2 * after - both.change))
    counted = moved.group_by(*keys).aggregate(more=moved.more.sum()).to_pandas()
    return grid.fill(counted, "more")["more"].to_numpy().reshape(grid.number, -1).cumsum(axis=0).reshape(-1)


def pick_returns(active_days: ir.Table) -> ir.Table:
    """The days of which cohorts are made: each user's first, and those 1, 7 and 30 days later.

    What is counted of them by `count_cohorts` and `count_costs` is what is counted of all days.
    """
    first = active_days.group_by(_user="user_id").aggregate(_first=active_days.day.min())
    joined = active_days.inner_join(first, [("user_id", "_user")])
    age = joined.day.delta(joined._first, unit="day")
    return joined.filter(age.isin([0, *RETENTION_DAYS])).select(*active_days.columns)


def count_cohorts(active_days: ir.Table, grid: Grid) -> pd.DataFrame:
    """Count the users whose first active day is each day, and who of them was active so many days later.

    Args:
        active_days: user_id, day, group; all days since the beginning.
        grid: by day.

    Returns:
        A row a day and group: d0_count (new users), d1_count, d7_count, d30_count (of these, active on that day).
    """
    known = active_days.filter(active_days.day < grid.span.end)
    first = known.day.min().over(group_by=known.user_id)
    group = {"group": known.group} if grid.by else {}
    aged = known.select(day=first, age=known.day.delta(first, unit="day"), **group)
    aged = aged.filter(aged.age.isin([0, *RETENTION_DAYS]), aged.day >= grid.span.start)
    return grid.count(aged, **{f"d{n}_count": (aged.age == n).sum() for n in (0, *RETENTION_DAYS)})


def count_users(active_days: ir.Table, grid: Grid) -> pd.DataFrame:
    """Count the active users of each period: users_count, days_count (user-days), squares_count (of a user's days)."""
    days = grid.clip(active_days)
    group = {"group": days.group} if grid.by else {}
    placed = days.select(user_id="user_id", at=grid.place(days.day), **group)
    if grid.grain == "day":
        counted = placed.group_by("at", *group).aggregate(users_count=placed.count()).to_pandas()
        frame = grid.fill(counted, "users_count")
        return frame.assign(days_count=frame["users_count"], squares_count=frame["users_count"])
    per_user = placed.group_by("user_id", "at", *group).aggregate(days=placed.count())
    sums = {"days_count": per_user.days.sum(), "squares_count": (per_user.days * per_user.days).sum()}
    counted = per_user.group_by("at", *group).aggregate(users_count=per_user.count(), **sums).to_pandas()
    return grid.fill(counted, *counted.columns.drop(["at", *group]))


def count_left(active_days: ir.Table, grid: Grid) -> pd.DataFrame:
    """Count who was active in the period before (opening_count), and who of them no more (churned_count)."""
    options: dict[str, Any] = {"grain": grid.grain, "week_start": grid.week_start}
    if not grid.by:
        periods = account_growth(active_days, grid.span, **options).periods
        return periods[["opening_count", "churned_count"]].astype(float)
    labelled = active_days.select("user_id", "day", segment="group")
    periods = account_growth(labelled, grid.span, by="segment", **options).periods
    at = pd.Series(range(grid.number), index=pd.to_datetime(grid.starts[:-1]))
    placed = periods.assign(at=periods["period_start"].map(at), group=periods["segment"])
    return grid.fill(placed, "opening_count", "churned_count")


def make_dau(windows: pd.DataFrame, users: pd.DataFrame, grid: Grid, gaps: np.ndarray) -> MetricSeries:
    """Daily active users; of weeks and months the mean over their days, those left out for which data are missing.

    The standard error of a mean treats users, not days, as independent, as in `measure_activity`.
    """
    if grid.grain == "day":
        top = windows["dau_count"].to_numpy()
        return make_series(
            grid,
            "dau_count",
            unit="count",
            kind="count",
            numerator=top,
            denominator=np.ones(len(top)),
            error=np.sqrt(top),
            gaps=gaps,
        )
    top = users["days_count"].to_numpy()
    known = grid.repeat(grid.lengths - np.add.reduceat(gaps.astype(int), grid.first_days)).astype(float)
    with np.errstate(divide="ignore", invalid="ignore"):
        error = np.sqrt(users["squares_count"].to_numpy()) / known
    few = known == 0
    return make_series(
        grid,
        "dau_count",
        unit="count",
        kind="mean",
        numerator=top,
        denominator=known,
        error=error,
        gaps=gaps,
        few=few,
    )


def make_mau(windows: pd.DataFrame, grid: Grid, gaps: np.ndarray) -> MetricSeries:
    """Distinct users of the 30 days that end with a period's last; "partial" where these begin before the data."""
    top = grid.pick_last(windows)["mau_count"].to_numpy()
    ones = np.ones(len(top))
    return make_series(
        grid,
        "mau_count",
        unit="count",
        kind="count",
        numerator=top,
        denominator=ones,
        error=np.sqrt(top),
        gaps=gaps,
        short=grid.last_days < MONTH_DAYS - 1,
    )


def make_stickiness(windows: pd.DataFrame, squares: np.ndarray, grid: Grid, gaps: np.ndarray) -> MetricSeries:
    """Stickiness at a period's last day: mean DAU of the 28 days up to it, of their distinct users.

    A user's days go together and so do those of overlapping windows: the standard error is that of a mean over users of
    their active days / 28 (as in `measure_stickiness`), which holds for one period; values of periods less than 28 days
    apart share days and are not independent.
    """
    last = grid.pick_last(windows)
    users, days = last["users_count"].to_numpy(), last["days_count"].to_numpy()
    top = days / STICKINESS_DAYS
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = squares / STICKINESS_DAYS**2 - top**2 / users
        error = np.sqrt(np.maximum(spread, 0) / (users - 1) / users)
    return make_series(
        grid,
        "stickiness_rate",
        unit="rate",
        kind="rate",
        numerator=top,
        denominator=users,
        error=error,
        gaps=gaps,
        short=grid.last_days < STICKINESS_DAYS - 1,
    )


def make_new_users(cohorts: pd.DataFrame, grid: Grid, gaps: np.ndarray) -> MetricSeries:
    """Users whose first active day lies in a period."""
    top = grid.roll_up(cohorts)["d0_count"].to_numpy()
    return make_series(
        grid,
        "new_users_count",
        unit="count",
        kind="count",
        numerator=top,
        denominator=np.ones(len(top)),
        error=np.sqrt(top),
        gaps=gaps,
        is_sum=True,
    )


def make_retention(cohorts: pd.DataFrame, grid: Grid, gaps: np.ndarray, *, day: int) -> MetricSeries:
    """Share of a period's new users who were active so many days after their first.

    Known when the last of them has had that day. New users whose day is one for which data are missing are left out.
    """
    counts = cohorts[["d0_count", f"d{day}_count"]]
    unseen = np.zeros(len(gaps), dtype=bool)
    unseen[:-day] = gaps[day:]
    rolled = grid.roll_up(grid.blank(counts, gaps | unseen))
    below, top = rolled["d0_count"].to_numpy(), rolled[f"d{day}_count"].to_numpy()
    return make_series(
        grid,
        f"d{day}_rate",
        unit="rate",
        kind="rate",
        numerator=top,
        denominator=below,
        error=find_binomial_error(top, below),
        wait_days=day,
        gaps=gaps | unseen,
    )


def make_churn(left: pd.DataFrame, grid: Grid, gaps: np.ndarray) -> MetricSeries:
    """Share of the users active in the period before who are not active in this one.

    "partial" too where the period before began before the data, or there is none.
    """
    top, below = left["churned_count"].to_numpy(), left["opening_count"].to_numpy()
    before = np.concatenate([[False], grid.whole[:-1]])
    return make_series(
        grid,
        "churn_rate",
        unit="rate",
        kind="rate",
        numerator=top,
        denominator=below,
        error=find_binomial_error(top, below),
        gaps=gaps,
        short=~before,
    )


def find_binomial_error(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Standard error of a share of independent users."""
    with np.errstate(divide="ignore", invalid="ignore"):
        rate = numerator / denominator
        return np.sqrt(np.maximum(rate * (1 - rate), 0) / denominator)

"""Series of what users do: how long they stay on a day, and how many of those who enter a funnel go on."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass

import ibis
import ibis.expr.types as ir
import numpy as np
import pandas as pd

from opslib.data.periods import DAY, Calendar, Period
from opslib.measure.funnel.outcomes import to_moment
from opslib.measure.funnel.plans import read_attempts
from opslib.measure.funnel.steps import Exclusion, Order, Step, check_names, make_funnel
from opslib.measure.series.activity import find_binomial_error
from opslib.measure.series.grid import Grid, make_series
from opslib.measure.series.series import MetricSeries

# A longer pause between two events ends a visit.
PAUSE_MINUTES = 30


def sum_dwell(events: ir.Table) -> ir.Table:
    """Minutes of each user and day: user_id, day, minutes.

    Takes user_id, ts, day. The time between two events of a user that follow each other belongs to the day of the
    later one, if it is at most 30 minutes; a user's only event of a day is 0 minutes.
    """
    second = events.ts.epoch_seconds()
    timed = events.select("user_id", "day", at=second)
    pause = timed.at - timed.at.lag().over(group_by=timed.user_id, order_by=timed.at)
    counted = timed.mutate(seconds=ibis.ifelse((pause <= PAUSE_MINUTES * 60).fill_null(False), pause, 0))
    return counted.group_by("user_id", "day").aggregate(minutes=counted.seconds.sum() / 60)


def count_dwell(dwell: ir.Table, grid: Grid) -> pd.DataFrame:
    """Sum `sum_dwell` up: days_count (user-days), minutes, days_squares, minutes_squares, products (over users)."""
    inside = grid.clip(dwell)
    if grid.grain == "day":
        # A user has one row a day already.
        per_user = inside.select(**grid.keys(inside), days=ibis.literal(1), minutes=inside.minutes)
    else:
        per_user = inside.group_by("user_id", **grid.keys(inside)).aggregate(
            days=inside.count(), minutes=inside.minutes.sum()
        )
    counted = per_user.group_by("at", *(["group"] if grid.by else [])).aggregate(
        days_count=per_user.days.sum(),
        minutes=per_user.minutes.sum(),
        days_squares=(per_user.days * per_user.days).sum(),
        minutes_squares=(per_user.minutes * per_user.minutes).sum(),
        products=(per_user.days * per_user.minutes).sum(),
    )
    names = ("days_count", "minutes", "days_squares", "minutes_squares", "products")
    return grid.fill(counted.to_pandas(), *names)


def make_dwell(dwell: pd.DataFrame, grid: Grid, gaps: np.ndarray) -> MetricSeries:
    """Mean minutes of a user with events on a day. Standard error: of a ratio of sums over independent users."""
    top, below = dwell["minutes"].to_numpy(), dwell["days_count"].to_numpy()
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = top / below
        spread = dwell["minutes_squares"] - 2 * mean * dwell["products"] + mean**2 * dwell["days_squares"]
        error = np.sqrt(np.maximum(spread.to_numpy(), 0)) / below
    return make_series(
        grid,
        "dwell_minutes_mean",
        unit="ratio",
        kind="mean",
        numerator=top,
        denominator=below,
        error=error,
        gaps=gaps,
    )


@dataclass(frozen=True)
class Entries:
    """Attempts of a funnel that have had their whole window.

    Attributes:
        table: user_id, day (of entry), level (deepest step).
        steps_count: how many steps there are.
        window: from the entry to the last step.
    """

    table: ir.Table
    steps_count: int
    window: dt.timedelta


def find_entries(
    events: ir.Table,
    steps: Sequence[Step],
    *,
    span: Period,
    calendar: Calendar,
    window: dt.timedelta,
    order: Order = "ordered",
    exclusions: Sequence[Exclusion] = (),
    hold: str = "",
) -> Entries:
    """Follow every entry into a funnel: options as in `measure_funnel`, `span` for its period and what is known.

    Raises:
        InputError: as `measure_funnel`.
    """
    funnel = make_funnel(
        events,
        steps,
        period=span,
        as_of=span.last_day,
        window=window,
        calendar=calendar,
        order=order,
        exclusions=exclusions,
        hold=hold,
    )
    attempts = read_attempts(events, funnel, "attempts")
    check_names(events, attempts.count_masks(), funnel)
    outcomes = attempts.settle(True).outcomes
    day = calendar.local_day(to_moment(outcomes.s1, funnel))
    best = outcomes.select("user_id", day=day, level="level").group_by("user_id", "day")
    # Not kept as a table: what the packed plan found belongs to no engine until it meets one of its tables.
    return Entries(best.aggregate(level=lambda t: t.level.max()), len(steps), window)


def count_entrants(entries: ir.Table, grid: Grid, *, step: int, since: int) -> pd.DataFrame:
    """Count the users who entered a funnel in a period and got to step `since` (entered_count) and `step` (went_count).

    Each user counts once a period, by the attempt that got furthest. Takes user_id, day, level, group.
    """
    inside = grid.clip(entries)
    best = inside.group_by("user_id", **grid.keys(inside)).aggregate(level=inside.level.max())
    counted = best.group_by("at", *(["group"] if grid.by else [])).aggregate(
        entered_count=(best.level >= since).sum(), went_count=(best.level >= step).sum()
    )
    return grid.fill(counted.to_pandas(), "entered_count", "went_count")


def make_funnel_rate(entrants: pd.DataFrame, grid: Grid, gaps: np.ndarray, *, window: dt.timedelta) -> MetricSeries:
    """Share of the users who entered in a period and got to one step that went on; known after their window."""
    top, below = entrants["went_count"].to_numpy(), entrants["entered_count"].to_numpy()
    return make_series(
        grid,
        "funnel_rate",
        unit="rate",
        kind="rate",
        numerator=top,
        denominator=below,
        error=find_binomial_error(top, below),
        wait_days=window / DAY,
        gaps=gaps,
    )

"""Daily series as whole weeks counted from the day on which something was done: each weekday as often on both sides."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from opslib.data.periods import DAY
from opslib.errors import InputError

Scale = Literal["level", "log"]
WEEK_DAYS = 7
# A week with fewer days that are known is not a week.
FEWEST_DAYS = 5
# Days whose value was withheld for its few users still count towards their week.
USABLE = ("known", "too few")


@dataclass(frozen=True)
class Weeks:
    """Series of weeks around a start.

    Attributes:
        values: one row a week (index: weeks since the start, below 0 before it), one column a group; missing where too
            few of its days are known.
        top, bottom: the sums that they were divided from, alike.
        start: the first day of week 0.
    """

    values: pd.DataFrame
    top: pd.DataFrame
    bottom: pd.DataFrame
    start: dt.date

    @property
    def before(self) -> pd.DataFrame:
        """Weeks before the start."""
        return self.values[self.values.index < 0]

    @property
    def after(self) -> pd.DataFrame:
        """Weeks from the start on."""
        return self.values[self.values.index >= 0]

    def days(self) -> list[dt.date]:
        """The first day of each week."""
        return [self.start + int(n) * WEEK_DAYS * DAY for n in self.values.index]

    def drop_unknown(self) -> Weeks:
        """Only the unbroken run of weeks around the start in which every group is known."""
        whole = self.values.notna().all(axis=1)
        gaps = self.values.index[~whole]
        low = max((n for n in gaps if n < 0), default=-(10**9))
        high = min((n for n in gaps if n >= 0), default=10**9)
        near = (self.values.index > low) & (self.values.index < high)
        return Weeks(self.values[near], self.top[near], self.bottom[near], self.start)


def collect_weeks(
    frame: pd.DataFrame, *, start: dt.date, last_day: dt.date | None = None, pooled: bool = False
) -> Weeks:
    """Sum a daily series up to weeks.

    Args:
        frame: one row a day and group: period_start; value, or numerator and denominator; group and status where there
            are several or some are not known (as `MetricSeries.frame`).
        start: weeks are counted from this day.
        last_day: later days are left out.
        pooled: all groups as one, by the sums of their numerators and denominators.

    Returns:
        `Weeks`; with `pooled` their one column is called "pooled".

    Raises:
        InputError: a column is missing, or a day of a group comes twice.
    """
    parts = {"numerator", "denominator"} <= set(frame.columns)
    for column in ("period_start", *(() if parts else ("value",))):
        if column not in frame.columns:
            raise InputError(f"A daily series takes the column '{column}'; this one has {', '.join(frame.columns)}.")
    rows = pd.DataFrame({"day": pd.to_datetime(frame["period_start"]).dt.normalize()})
    rows["group"] = frame["group"].astype(str) if "group" in frame.columns else ""
    rows["top"] = frame["numerator" if parts else "value"].astype(float)
    rows["bottom"] = frame["denominator"].astype(float) if parts else 1.0
    if "status" in frame.columns:
        rows = rows[frame["status"].isin(USABLE)]
    rows = rows[rows["top"].notna() & (rows["bottom"] > 0)]
    if last_day is not None:
        rows = rows[rows["day"] <= pd.Timestamp(last_day)]
    if rows.duplicated(["day", "group"]).any():
        raise InputError("A daily series has one row a day and group; this one has several.")
    rows["week"] = (rows["day"] - pd.Timestamp(start)).dt.days // WEEK_DAYS
    if pooled:
        rows = rows.groupby(["day", "week"], as_index=False)[["top", "bottom"]].sum().assign(group="pooled")
    summed = (
        rows.groupby(["week", "group"])[["top", "bottom"]]
        .sum()
        .join(rows.groupby(["week", "group"]).size().rename("n"))
    )
    enough = summed[summed["n"] >= FEWEST_DAYS]
    top, bottom = (enough[c].unstack("group") for c in ("top", "bottom"))
    if len(top):
        span = range(int(top.index.min()), int(top.index.max()) + 1)
        top, bottom = top.reindex(span), bottom.reindex(span)
    if last_day is not None and len(top):
        # The last week must be over: its days still to come are not days without data.
        over = (last_day - start).days + 1
        top, bottom = (t[t.index < over // WEEK_DAYS] for t in (top, bottom))
    return Weeks(top / bottom, top, bottom, start)


def to_scale(values: pd.DataFrame, scale: Scale) -> pd.DataFrame:
    """Values as they are compared; on the log scale what is not above 0 is missing."""
    return values if scale == "level" else values.where(values > 0).apply(np.log)

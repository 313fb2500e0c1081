"""The rows that a series has: every period of the data, and every group in it, also where nothing happened."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import ibis.expr.types as ir
import numpy as np
import pandas as pd

from opslib.data.periods import Period
from opslib.measure.activity import NOT_GIVEN, OTHER
from opslib.measure.estimate import MINIMUM_DENOMINATOR, Unit
from opslib.measure.grains import Grain, index_days, list_starts
from opslib.measure.series.series import COLUMNS, MetricSeries, SeriesKind

# What a metric is, by the suffix of its name.
UNITS: dict[str, tuple[Unit, SeriesKind]] = {
    "rate": ("rate", "rate"),
    "count": ("count", "count"),
    "amount": ("amount", "mean"),
    "mean": ("ratio", "mean"),
    "ratio": ("ratio", "mean"),
}
# A day without any row is a gap, not a zero, when chance alone would leave it empty less often than this ...
EMPTY_BY_CHANCE = 1e-3
# ... in a table that has rows on at least this share of its days.
DAYS_WITH_ROWS_RATE = 0.9
NEAR_DAYS = 14
LATE_DAYS = 28


@dataclass(frozen=True)
class Grid:
    """Periods and groups.

    Attributes:
        span: the days of the series: from the first day of the data to the last that is looked at.
        grain, week_start: which periods.
        by: the column that tells the groups apart; empty: one group of everybody, called "".
        groups: the groups, in order of name.
        minimum: with a smaller denominator a rate or mean is "too few".
    """

    span: Period
    grain: Grain = "day"
    week_start: int = 0
    by: str = ""
    groups: tuple[str, ...] = ("",)
    minimum: float = MINIMUM_DENOMINATOR

    @cached_property
    def starts(self) -> list[dt.date]:
        """First days of the periods, and that of the one after them."""
        return list_starts(self.span, self.grain, self.week_start)

    @property
    def number(self) -> int:
        """How many periods."""
        return len(self.starts) - 1

    @property
    def days(self) -> Grid:
        """The same by day."""
        return self if self.grain == "day" else replace(self, grain="day")

    @cached_property
    def first_days(self) -> np.ndarray:
        """For each period, the number of its first day that lies in the span."""
        return np.array([max((s - self.span.start).days, 0) for s in self.starts[:-1]], dtype=int)

    @cached_property
    def last_days(self) -> np.ndarray:
        """For each period, the number of its last day, also where that is after the span."""
        return np.array([(s - self.span.start).days - 1 for s in self.starts[1:]], dtype=int)

    @property
    def span_last_days(self) -> np.ndarray:
        """For each period, the number of its last day that lies in the span."""
        return np.minimum(self.last_days, self.span.days - 1)

    @cached_property
    def whole(self) -> np.ndarray:
        """Which periods lie in the span from their first day to their last."""
        began = np.array([s >= self.span.start for s in self.starts[:-1]], dtype=bool)
        return began & (self.last_days < self.span.days)

    @cached_property
    def lengths(self) -> np.ndarray:
        """Days of each period that lie in the span."""
        return self.span_last_days - self.first_days + 1

    def place(self, day: Any) -> Any:
        """The number of the period that a day expression lies in."""
        return index_days(day, self.starts[0], self.grain)

    def repeat(self, per_period: np.ndarray) -> np.ndarray:
        """One value a period, for each of its groups."""
        return np.repeat(per_period, len(self.groups))

    def clip(self, table: ir.Table) -> ir.Table:
        """The rows of a table whose day lies in the span."""
        return table.filter(table.day >= self.span.start, table.day < self.span.end)

    def keys(self, table: ir.Table) -> dict[str, Any]:
        """The columns that tell periods and groups of a table apart: at and, with `by`, group."""
        return {"at": self.place(table.day), **({"group": table.group} if self.by else {})}

    def count(self, table: ir.Table, **sums: Any) -> pd.DataFrame:
        """Sum a table up by period and group, in one pass.

        Args:
            table: day and, with `by`, group; all days inside the span, as `clip` gives it.
            sums: column name to an aggregate of the table.

        Returns:
            A frame of the sums with a row for each period and group, in order of both; zeros where nothing is.
        """
        return self.fill(table.group_by(**self.keys(table)).aggregate(**sums).to_pandas(), *sums)

    def fill(self, counted: pd.DataFrame, *columns: str) -> pd.DataFrame:
        """Rows of (at, group, columns), made a row for each period and group; zeros where nothing is."""
        at = counted["at"].to_numpy(dtype=int)
        place = {name: i for i, name in enumerate(self.groups)}
        group = counted["group"].map(place).to_numpy(dtype=int) if self.by else np.zeros(len(at), dtype=int)
        rows = at * len(self.groups) + group
        frame = {}
        for name in columns:
            values = np.zeros(self.number * len(self.groups))
            values[rows] = counted[name].to_numpy(dtype=float, na_value=0.0)
            frame[name] = values
        return pd.DataFrame(frame)

    def roll_up(self, daily: pd.DataFrame) -> pd.DataFrame:
        """Sum a frame of `days.count` up to this grain."""
        if self.grain == "day":
            return daily
        shape = (self.span.days, len(self.groups))
        sums = {c: np.add.reduceat(daily[c].to_numpy().reshape(shape), self.first_days, axis=0) for c in daily}
        return pd.DataFrame({c: v.reshape(-1) for c, v in sums.items()})

    def blank(self, daily: pd.DataFrame, lost: np.ndarray) -> pd.DataFrame:
        """A frame of `days.count` with zeros on the days that are lost."""
        return daily.mul(np.repeat(~lost, len(self.groups)).astype(float), axis=0)

    def pick_last(self, daily: pd.DataFrame) -> pd.DataFrame:
        """The rows of a frame by day that belong to the last day of each period that lies in the span."""
        if self.grain == "day":
            return daily
        size = len(self.groups)
        rows = (self.span_last_days[:, None] * size + np.arange(size)).reshape(-1)
        return daily.iloc[rows].reset_index(drop=True)


def find_gaps(rows: np.ndarray) -> np.ndarray:
    """Tell the days for which a table is missing from those on which nothing happened.

    Args:
        rows: rows of the table on each day.

    Returns:
        True for a day without rows that chance would hardly have left empty, in a table that has rows on at least nine
        days of ten between its first and its last, and on 14 days at least: Poisson with the median of the 14 days with
        rows before or after, whichever is less. The days after the last row are judged together. So are those before
        the first, if more than four weeks; fewer are the table's late beginning only if it began with as many rows a
        day as make a gap of one.

    >>> find_gaps(np.array([12, 9, 0, 11] + [10] * 20)).tolist()[:4]
    [False, False, True, False]
    >>> find_gaps(np.array([1, 0, 1, 2, 0, 1] * 5)).any()
    np.False_
    """
    gaps = np.zeros(len(rows), dtype=bool)
    filled = np.flatnonzero(rows > 0)
    if len(filled) < NEAR_DAYS:
        return gaps
    first, last = int(filled[0]), int(filled[-1])
    if len(filled) < DAYS_WITH_ROWS_RATE * (last - first + 1):
        return gaps
    most = -np.log(EMPTY_BY_CHANCE)
    for day in np.flatnonzero(rows[first:last] == 0) + first:
        place = int(np.searchsorted(filled, day))
        sides = (rows[filled[max(place - NEAR_DAYS, 0) : place]], rows[filled[place : place + NEAR_DAYS]])
        gaps[day] = min(np.median(side) for side in sides) > most
    begun, ended = (float(np.median(rows[part])) for part in (filled[:NEAR_DAYS], filled[-NEAR_DAYS:]))
    gaps[:first] = begun * (first if first > LATE_DAYS else 1) > most
    gaps[last + 1 :] = ended * (len(rows) - last - 1) > most
    return gaps


def make_series(
    grid: Grid,
    metric: str,
    *,
    unit: Unit,
    kind: SeriesKind,
    numerator: np.ndarray,
    denominator: np.ndarray,
    error: np.ndarray,
    value: np.ndarray | None = None,
    wait_days: float = 0,
    gaps: np.ndarray | None = None,
    is_sum: bool = False,
    few: np.ndarray | None = None,
    short: np.ndarray | None = None,
    more: dict[str, Any] | None = None,
) -> MetricSeries:
    """Put a series together: values, and why one is missing.

    Args:
        grid: the periods and groups; all arrays have a value for each, in order.
        numerator, denominator, error: what the frame shows; error is the value's standard error.
        value: where it is not numerator / denominator.
        wait_days: so long after a period's last day its value is known.
        gaps: True for days (of the span) for which the metric's tables are missing.
        is_sum: a period with a missing day is then "partial": its sum would be too small.
        few: where there are too few; otherwise where the denominator of a rate or mean is below the grid's minimum.
        short: periods that look back to before the data: they are "partial".
        more: further columns.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        value = numerator / denominator if value is None else value
    lost = np.zeros(grid.number) if gaps is None else np.add.reduceat(gaps.astype(int), grid.first_days)
    wait = int(np.ceil(wait_days))
    status = np.full(len(value), "known", dtype=object)
    if few is None:
        few = denominator < grid.minimum if kind != "count" else np.zeros(len(value), dtype=bool)
    status[few] = "too few"
    status[grid.repeat(grid.last_days + wait_days > grid.span.days - 1)] = "immature"
    if is_sum:
        status[grid.repeat(lost > 0)] = "partial"
    status[grid.repeat(lost >= grid.lengths)] = "no data"
    status[grid.repeat(~grid.whole if short is None else ~grid.whole | short)] = "partial"
    known = status == "known"
    origin = pd.Timestamp(grid.span.start)
    frame = pd.DataFrame(
        {
            "period_start": grid.repeat(pd.to_datetime(grid.starts[:-1]).to_numpy()),
            "group": np.tile(np.array(grid.groups, dtype=object), grid.number),
            "value": np.where(known, value, np.nan),
            "numerator": numerator.astype(float),
            "denominator": denominator.astype(float),
            "standard_error": np.where(known, error, np.nan),
            "known_on": grid.repeat((origin + pd.to_timedelta(grid.last_days + wait, unit="D")).to_numpy()),
            "status": status,
            **(more or {}),
        }
    )
    return MetricSeries(metric, unit, kind, grid.grain, grid.by, _drop_unnamed(frame, grid))


def make_empty(metric: str, grain: Grain, by: str, note: str) -> MetricSeries:
    """A series without rows, and why."""
    kinds: dict[str, Any] = dict.fromkeys(COLUMNS, "float64")
    kinds |= {"period_start": "datetime64[s]", "known_on": "datetime64[s]", "group": object, "status": object}
    unit, kind = UNITS[metric.rsplit("_", 1)[1]]
    return MetricSeries(metric, unit, kind, grain, by, pd.DataFrame(columns=list(COLUMNS)).astype(kinds), note)


def _drop_unnamed(frame: pd.DataFrame, grid: Grid) -> pd.DataFrame:
    """Without the groups of users whose group is not given or not shown, where there are none."""
    if not grid.by:
        return frame
    # Days or all spend below the line are the same for every group, and say nothing of who is in one.
    below = frame["denominator"].to_numpy().reshape(-1, len(grid.groups))
    own = 0.0 if (below == below[:, :1]).all() else frame["denominator"]
    sizes = (frame["numerator"].abs() + own).groupby(frame["group"]).sum()
    empty = [name for name in (NOT_GIVEN, OTHER) if not sizes.get(name, 1.0)]
    return frame[~frame["group"].isin(empty)].reset_index(drop=True)

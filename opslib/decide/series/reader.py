"""Reading metrics as series: which tables they are made of, up to which day, and what is kept for the next one."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, TypeVar, get_args

import ibis
import ibis.expr.types as ir
import numpy as np
import pandas as pd

from opslib.data.contract import CONTRACTS
from opslib.data.memory import remember
from opslib.data.operations import RuleGrain, check_metric
from opslib.data.periods import DAY, Period
from opslib.data.rollups.frames import load_frame, save_frame
from opslib.data.source import Data
from opslib.decide.funnel.path import choose_path, gather_events
from opslib.decide.scope import Scope
from opslib.decide.series.asked import SPEND_METRICS, check_groups, find_missing, find_span
from opslib.decide.series.view import View
from opslib.errors import InputError, suggest_name
from opslib.measure.estimate import MINIMUM_DENOMINATOR
from opslib.measure.series import activity, behaviour
from opslib.measure.series.grid import Grid, find_gaps, make_empty
from opslib.measure.series.series import MetricSeries

T = TypeVar("T")


class SeriesReader:
    """Reads metrics as series over the whole history of the data up to a day.

    What was counted for one metric is kept for the next.

    Args:
        data: the company's data.
        as_of: the last day that is looked at; nothing of later days is read. None: the data's last full day.
        minimum: with a smaller denominator the value of a rate or mean is missing, its status "too few"; numerator and
            denominator stay.

    Raises:
        InputError: a day outside the data.
    """

    def __init__(self, data: Data, *, as_of: dt.date | None = None, minimum: float = MINIMUM_DENOMINATOR) -> None:
        self.data = data
        self.minimum = minimum
        self.span = find_span(data, as_of)
        self.as_of = self.span.last_day
        self._kept: dict[Any, Any] = {}

    def read(
        self,
        metric: str,
        *,
        grain: RuleGrain = "day",
        by: str = "",
        segment: str = "",
        event: str = "",
        funnel: str = "",
        step: int = 0,
    ) -> MetricSeries:
        """Read one metric.

        Args:
            metric: its name, one of `opslib.data.operations.METRICS`.
            grain: day, week (as the playbook starts it) or month.
            by: a column of users: a series for each of its 30 groups with the most users, the rest "(other)".
            segment: one group of users, such as `channel:search`; empty: everybody.
            event: of event_rate: which event.
            funnel: of funnel_rate: a funnel of the playbook; empty: the first.
            step: of funnel_rate: from the step before to this one, from 2; 0: from the first to the last.

        Returns:
            A `MetricSeries` with a row for every period from the first day of the data to `as_of` and every group;
            without rows, and with a note, where a table that it takes is missing.

        Raises:
            InputError: an unknown metric, grain, column, segment, event, funnel or step, or groups of users of a metric
                that knows none.
        """
        try:
            check_metric(metric)
        except ValueError as error:
            raise InputError(f"{str(error)[0].upper()}{str(error)[1:]}.") from None
        if grain not in get_args(RuleGrain):
            raise InputError(
                f"'{grain}' for grain:{suggest_name(grain, get_args(RuleGrain))} Choose day, week or month."
            )
        only = (event if metric == "event_rate" else "", *((funnel, step) if metric == "funnel_rate" else ("", 0)))
        return self._keep((metric, grain, by, segment, *only), lambda: self._read(metric, grain, by, segment, *only))

    def _read(
        self, metric: str, grain: RuleGrain, by: str, segment: str, event: str, funnel: str, step: int
    ) -> MetricSeries:
        check_groups(self.data, metric, by, segment)
        if metric == "churn_rate" and grain == "day":
            raise InputError("churn_rate is known by week and by month; a day is too short to leave in.")
        if note := find_missing(self.data, metric):
            return make_empty(metric, grain, by, note)
        costs = metric in SPEND_METRICS
        view = self._view(by, segment, costs=costs)
        if metric == "event_rate":
            return view.read_event(event, grain)
        if metric == "funnel_rate":
            return view.read_funnel(funnel, step, grain)
        return view.read(metric, grain)

    def _view(self, by: str = "", segment: str = "", *, costs: bool = False) -> View:
        return self._keep(("view", by, segment, costs), lambda: View(self, by, segment, costs=costs))

    def _keep(self, key: Any, make: Callable[[], T]) -> T:
        if key not in self._kept:
            self._kept[key] = make()
        found: T = self._kept[key]
        return found

    def find_gaps(self, *tables: str) -> np.ndarray:
        """Days for which one of these tables ("activity": who was active) is missing, not empty."""
        each = [self._keep(("gaps", name), lambda name=name: self._find_gaps(name)) for name in tables]  # type: ignore[misc]
        return np.logical_or.reduce(each)

    @property
    def events_are_activity(self) -> bool:
        """Whether every event makes its user active that day."""
        rules = self.data.playbook.activity
        return self.data.activity_name == "events" and not rules.events and not rules.except_events

    def _find_gaps(self, name: str) -> np.ndarray:
        if name == "events" and self.events_are_activity:
            return self.find_gaps("activity")
        if name == "activity":
            return find_gaps(self._view().windows["dau_count"].to_numpy())

        def count(grid: Grid) -> pd.DataFrame:
            rows = grid.clip(self.cut(name, since=grid.span.start))
            return grid.count(rows, rows=rows.count())

        rows = self.count(("rows", name), Grid(self.span), count, tables=(name,))
        return find_gaps(rows["rows"].to_numpy())

    def count(
        self,
        name: tuple[Any, ...],
        grid: Grid,
        count: Callable[[Grid], pd.DataFrame],
        *,
        tables: Sequence[str],
        back_days: int = 0,
        ahead_days: int = 0,
    ) -> pd.DataFrame:
        """Count a frame by period and group; where rollups are kept, only what they do not know yet.

        Args:
            name: what is counted, with all that it depends on beside the grid and the data.
            grid: the periods and groups.
            count: counts the frame of a grid; asked for a part, it reads no rows of earlier days than it needs.
            tables: what it is counted of: activity, events, ..., users.
            back_days: so many days before a period its counts look back.
            ahead_days: so many days after a period its counts still change.
        """
        rollups = self.data.rollups
        if rollups is None:
            return count(grid)
        groups = grid.groups if grid.by else ()
        key = (*name, grid.grain, grid.week_start, grid.span.start.isoformat(), grid.by, groups)
        kept = load_frame(rollups, key)
        known = 0
        if kept is not None:
            names = tuple(self.data.activity_name if t == "activity" else t for t in tables)
            changed = rollups.find_first_change(
                names, since=kept.version, end=kept.end, day_start=self.data.calendar.day_start
            )
            final = min(kept.end, grid.span.end, changed)
            known = sum((final - end).days >= ahead_days for end in grid.starts[1:])
        if kept is None or known == 0:
            frame = count(grid)
        elif known == grid.number:
            return kept.frame.iloc[: known * len(grid.groups)].reset_index(drop=True)
        else:
            start = max(grid.span.start, grid.starts[known] - back_days * DAY)
            part = count(replace(grid, span=Period(start, grid.span.end, grid.span.label)))
            rows = len(grid.groups)
            frame = pd.concat(
                [kept.frame.iloc[: known * rows], part.iloc[len(part) - (grid.number - known) * rows :]],
                ignore_index=True,
            )
        if kept is None or grid.span.end >= kept.end:
            save_frame(rollups, key, frame, end=grid.span.end)
        return frame

    def cut(self, name: str, *, since: dt.date | None = None) -> ir.Table:
        """A table up to `as_of` with the local day of each row; "activity": user_id and day.

        Args:
            name: the table.
            since: days before need not be there, but may be.
        """
        later = since is not None and since > self.span.start
        if name == "activity":
            days = self.data.active_days
            days = days if self.as_of == self.data.as_of else days.filter(days.day < self.span.end)
            return days.filter(days.day >= since) if later else days
        table = self.data.table(name)
        if name == "spend":
            return table.filter(table.date < self.span.end).mutate(day=table.date)
        time = CONTRACTS[name].time_column
        known = table.filter(table[time] < self.end)
        if since is not None and later:
            known = known.filter(known[time] >= ibis.timestamp(self.data.calendar.day_start(since)))
        return known.mutate(day=self.data.calendar.local_day(known[time]))

    def find_returns(self, since: dt.date) -> ir.Table:
        """user_id, day: first days, and those from which retention is told, of users who came from a day on."""
        rollups = self.data.rollups
        if rollups is None:
            return self._returns
        days, users = rollups.returns, rollups.users
        if since > self.span.start:
            days = days.semi_join(users.filter(users.first_day >= since), "user_id")
        return days.filter(days.day < self.span.end)

    @cached_property
    def _returns(self) -> ir.Table:
        return activity.pick_returns(self.cut("activity").select("user_id", "day")).cache()

    def find_dwell(self, since: dt.date) -> ir.Table:
        """Minutes of each user and day from a day on."""
        if self.data.rollups is None:
            return self._dwell
        # A visit may have begun the day before.
        return behaviour.sum_dwell(self.cut("events", since=since - DAY))

    @cached_property
    def _dwell(self) -> ir.Table:
        return behaviour.sum_dwell(self.cut("events")).cache()

    @cached_property
    def event_names(self) -> list[str]:
        """Names of events, the most frequent first."""
        counted = self.data.event_counts
        found = self.data.execute(counted.order_by([counted.rows.desc(), "event"]).limit(10_000))
        return [str(name) for name in found["event"].dropna()]

    def find_entries(self, funnel: str, segment: str, since: dt.date) -> behaviour.Entries:
        """Who entered a funnel on which day, from a day on, and how far each got."""
        return self._keep(("entries", funnel, segment, since), lambda: self._find_entries(funnel, segment, since))

    def _find_entries(self, funnel: str, segment: str, since: dt.date) -> behaviour.Entries:
        path = choose_path(self.data, funnel)
        span = Period(since, self.span.end, self.span.label)
        scope = Scope(self.data, segment, "day", span, None, span, ())
        return behaviour.find_entries(
            gather_events(scope, path),
            path.steps,
            span=span,
            calendar=self.data.calendar,
            window=path.window,
            order=path.order,
            exclusions=path.exclusions,
            hold=path.hold,
        )

    @property
    def end(self) -> Any:
        """The moment at which `as_of` is over."""
        return ibis.timestamp(self.data.calendar.day_start(self.span.end))

    @cached_property
    def attributes(self) -> ir.Table:
        """Users known by `as_of`, with their attributes."""
        table = self.data.attributes
        if self.data.has("users") and "signup_at" in table.columns:
            return table.filter(table.signup_at.isnull() | (table.signup_at < self.end))
        return table.semi_join(self.cut("activity"), "user_id") if self.data.has_activity else table


@remember
def open_reader(data: Data, as_of: dt.date) -> SeriesReader:
    """The reader of a company's series up to a day; the same for all who ask, with all that it has read.

    Raises:
        InputError: a day outside the data.
    """
    return SeriesReader(data, as_of=as_of)

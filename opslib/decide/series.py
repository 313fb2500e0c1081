"""Any metric of the playbook as a series: which tables it is made of, whose rows, and up to which day."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from functools import cached_property
from typing import Any, TypeVar, get_args

import ibis
import ibis.expr.types as ir
import numpy as np
import pandas as pd

from opslib.data.contract import CONTRACTS
from opslib.data.fitness import describe_contract
from opslib.data.operations import METRICS, RuleGrain, check_metric
from opslib.data.periods import DAY, Period
from opslib.data.source import FULL_DAY_HOUR, Data
from opslib.decide.costs import find_channels
from opslib.decide.funnel.path import choose_path, gather_events
from opslib.decide.scope import Scope
from opslib.errors import InputError, suggest_name
from opslib.measure.activity import NOT_GIVEN, OTHER
from opslib.measure.estimate import MINIMUM_DENOMINATOR
from opslib.measure.series import activity, behaviour, money, traffic, voice
from opslib.measure.series.grid import Grid, find_gaps, make_empty
from opslib.measure.series.series import MetricSeries

MOST_GROUPS = 30
SPEND_METRICS = ("cac_amount", "cost_per_d7_amount", "spend_amount", "spend_share_rate")
SHOWN_NAMES = 12
RETENTION = {f"d{n}_rate": n for n in activity.RETENTION_DAYS}
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
        self.span = _find_span(data, as_of)
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
        _check_groups(self.data, metric, by, segment)
        if metric == "churn_rate" and grain == "day":
            raise InputError("churn_rate is known by week and by month; a day is too short to leave in.")
        if note := _find_missing(self.data, metric):
            return make_empty(metric, grain, by, note)
        costs = metric in SPEND_METRICS
        view = self._keep(("view", by, segment, costs), lambda: _View(self, by, segment, costs=costs))
        if metric == "event_rate":
            return view.read_event(event, grain)
        if metric == "funnel_rate":
            return view.read_funnel(funnel, step, grain)
        return view.read(metric, grain)

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
        grid = Grid(self.span)
        rows = grid.clip(self.cut(name))
        return find_gaps(grid.count(rows, rows=rows.count())["rows"].to_numpy())

    def cut(self, name: str) -> ir.Table:
        """A table up to `as_of` with the local day of each row; "activity": user_id and day."""
        if name == "activity":
            days = self.data.active_days
            return days if self.as_of == self.data.as_of else days.filter(days.day < self.span.end)
        table = self.data.table(name)
        if name == "spend":
            return table.filter(table.date < self.span.end).mutate(day=table.date)
        time = CONTRACTS[name].time_column
        known = table.filter(table[time] < self.end)
        return known.mutate(day=self.data.calendar.local_day(known[time]))

    @cached_property
    def dwell(self) -> ir.Table:
        """Minutes of each user and day."""
        return behaviour.sum_dwell(self.cut("events")).cache()

    @cached_property
    def event_names(self) -> list[str]:
        """Names of events, the most frequent first."""
        events = self.data.table("events")
        counted = events.group_by("event").aggregate(rows=events.count())
        found = self.data.execute(counted.order_by([counted.rows.desc(), "event"]).limit(10_000))
        return [str(name) for name in found["event"].dropna()]

    def find_entries(self, funnel: str, segment: str) -> behaviour.Entries:
        """Who entered a funnel on which day, and how far each got."""
        return self._keep(("entries", funnel, segment), lambda: self._find_entries(funnel, segment))

    def _find_entries(self, funnel: str, segment: str) -> behaviour.Entries:
        path = choose_path(self.data, funnel)
        scope = Scope(self.data, segment, "day", self.span, None, self.span, ())
        return behaviour.find_entries(
            gather_events(scope, path),
            path.steps,
            span=self.span,
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


class _View:
    """What a reader counts of one segment's users by one of their columns."""

    def __init__(self, reader: SeriesReader, by: str, segment: str, *, costs: bool) -> None:
        self.reader, self.data, self.by, self.segment, self.costs = reader, reader.data, by, segment, costs
        self._kept: dict[Any, Any] = {}
        self.labels = self._choose_labels() if by else []

    def grid(self, grain: RuleGrain) -> Grid:
        groups = tuple(sorted({*self.labels, OTHER, NOT_GIVEN})) if self.by else ("",)
        return Grid(self.reader.span, grain, self.data.playbook.week_start, self.by, groups, self.reader.minimum)

    def read(self, metric: str, grain: RuleGrain) -> MetricSeries:
        """A metric that takes no further options."""
        grid = self.grid(grain)
        if metric in RETENTION:
            return activity.make_retention(self.cohorts, grid, self._gaps("activity"), day=RETENTION[metric])
        result: MetricSeries = getattr(self, f"_read_{metric}")(grid)
        return result

    def read_event(self, event: str, grain: RuleGrain) -> MetricSeries:
        """Share of the active users with an event."""
        grid = self.grid(grain)
        _check_event(self.reader, event)
        rows = self.reader.cut("events")
        days = None if self.reader.events_are_activity else self.active_days
        doers = self._count_doers(rows.filter(rows.event == event), grid, days)
        gaps = self._gaps("events", "activity")
        return money.make_doers(doers, self._users(grid), grid, gaps, metric="event_rate")

    def read_funnel(self, funnel: str, step: int, grain: RuleGrain) -> MetricSeries:
        """Share of those who enter a funnel and go on."""
        grid = self.grid(grain)
        entries = self.reader.find_entries(funnel, self.segment)
        last = entries.steps_count
        if step and not 2 <= step <= last:
            raise InputError(f"step {step}: this funnel's steps to go on to are 2 to {last}, or 0 for first to last.")
        since, until = (step - 1, step) if step else (1, last)
        counted = behaviour.count_entrants(self._label(entries.table), grid, step=until, since=since)
        return behaviour.make_funnel_rate(counted, grid, self._gaps("events"), window=entries.window)

    # Counts, each made once.

    def _keep(self, key: Any, make: Callable[[], T]) -> T:
        if key not in self._kept:
            self._kept[key] = make()
        found: T = self._kept[key]
        return found

    def _gaps(self, *tables: str) -> np.ndarray:
        return self.reader.find_gaps(*tables)

    @cached_property
    def active_days(self) -> ir.Table:
        """user_id, day, and group."""
        days = self._label(self.reader.cut("activity"))
        return days.cache() if self.by or self.segment else days

    @cached_property
    def windows(self) -> pd.DataFrame:
        return activity.count_windows(self.active_days, self.grid("day"))

    @cached_property
    def cohorts(self) -> pd.DataFrame:
        return activity.count_cohorts(self.active_days, self.grid("day"))

    def _users(self, grid: Grid) -> pd.DataFrame:
        return self._keep(("users", grid.grain), lambda: activity.count_users(self.active_days, grid))

    def _orders(self, grid: Grid) -> pd.DataFrame:
        return self._keep(("orders", grid.grain), lambda: money.count_orders(self._table("orders"), grid))

    @cached_property
    def tickets(self) -> pd.DataFrame:
        return voice.count_tickets(self._table("tickets"), self.grid("day"))

    @cached_property
    def answers(self) -> pd.DataFrame:
        return voice.count_answers(self._table("surveys"), self.grid("day"))

    @cached_property
    def traffic(self) -> pd.DataFrame:
        return traffic.count_traffic(self.reader.cut("traffic"), self.grid("day"))

    @cached_property
    def spend(self) -> pd.DataFrame:
        return money.count_spend(self._spend(self.reader.cut("spend")), self.grid("day"))

    def _costs(self, grid: Grid) -> pd.DataFrame:
        return self._keep(("costs", grid.grain), lambda: self._count_costs(grid))

    def _count_costs(self, grid: Grid) -> pd.DataFrame:
        days, known = self.active_days, self.reader.attributes
        spend = self._spend(self.reader.cut("spend"))
        if "channel" not in known.columns:
            return money.count_costs(days, spend, grid)
        one = known.group_by("user_id").aggregate(channel=known.channel.min())
        joined = days.left_join(one, "user_id")
        return money.count_costs(joined.select(*days.columns, "channel"), spend, grid, rewards=self._rewards(one))

    def _rewards(self, channels: ir.Table) -> ir.Table | None:
        """day, channel, amount, group: rewards for referrals, by the channel of the user brought."""
        if not self.data.has("referrals") or "reward" not in self.data.table("referrals").columns:
            return None
        paid = self.reader.cut("referrals")
        joined = paid.select("day", user_id="invitee_id", amount="reward").inner_join(channels, "user_id")
        return self._spend(self._restrict(joined.select("user_id", "day", "channel", "amount")).drop("user_id"))

    def _count_doers(self, rows: ir.Table, grid: Grid, days: ir.Table | None) -> pd.DataFrame:
        return money.count_doers(self._label(rows), grid, active_days=days)

    # One method a metric, by its name.

    def _read_dau_count(self, grid: Grid) -> MetricSeries:
        return activity.make_dau(self.windows, self._users(grid), grid, self._gaps("activity"))

    def _read_mau_count(self, grid: Grid) -> MetricSeries:
        return activity.make_mau(self.windows, grid, self._gaps("activity"))

    def _read_stickiness_rate(self, grid: Grid) -> MetricSeries:
        squares = self._keep("squares", lambda: activity.sum_squares(self.active_days, self.grid("day")))
        return activity.make_stickiness(self.windows, squares, grid, self._gaps("activity"))

    def _read_new_users_count(self, grid: Grid) -> MetricSeries:
        return activity.make_new_users(self.cohorts, grid, self._gaps("activity"))

    def _read_churn_rate(self, grid: Grid) -> MetricSeries:
        return activity.make_churn(activity.count_left(self.active_days, grid), grid, self._gaps("activity"))

    def _read_dwell_minutes_mean(self, grid: Grid) -> MetricSeries:
        counted = behaviour.count_dwell(self._label(self.reader.dwell), grid)
        return behaviour.make_dwell(counted, grid, self._gaps("events"))

    def _read_orders_count(self, grid: Grid) -> MetricSeries:
        return money.make_orders(self._orders(grid), grid, self._gaps("orders"), metric="orders_count")

    def _read_paying_users_count(self, grid: Grid) -> MetricSeries:
        return money.make_orders(self._orders(grid), grid, self._gaps("orders"), metric="paying_users_count")

    def _read_revenue_amount(self, grid: Grid) -> MetricSeries:
        return money.make_orders(self._orders(grid), grid, self._gaps("orders"), metric="revenue_amount")

    def _read_paying_rate(self, grid: Grid) -> MetricSeries:
        doers = self._count_doers(self.reader.cut("orders"), grid, self.active_days)
        gaps = self._gaps("orders", "activity")
        return money.make_doers(doers, self._users(grid), grid, gaps, metric="paying_rate")

    def _read_cac_amount(self, grid: Grid) -> MetricSeries:
        gaps = self._gaps("spend", "activity")
        return money.make_cost(self._costs(grid), grid, gaps, metric="cac_amount")

    def _read_cost_per_d7_amount(self, grid: Grid) -> MetricSeries:
        gaps = self._gaps("spend", "activity")
        return money.make_cost(self._costs(grid), grid, gaps, metric="cost_per_d7_amount")

    def _read_spend_amount(self, grid: Grid) -> MetricSeries:
        return money.make_spend(self.spend, grid, self._gaps("spend"))

    def _read_spend_share_rate(self, grid: Grid) -> MetricSeries:
        gaps, all_spend = self._gaps("spend"), self.reader.cut("spend")
        if not self.by and not self.segment:
            return money.make_largest_share(money.count_largest(all_spend, grid), grid, gaps)
        total = money.count_spend(all_spend, Grid(self.reader.span))
        return money.make_spend_share(self.spend, total, grid, gaps)

    def _read_complaint_rate(self, grid: Grid) -> MetricSeries:
        gaps = self._gaps("tickets", "activity")
        return voice.make_complaint_rate(self.tickets, self.windows, grid, gaps)

    def _read_complaints_count(self, grid: Grid) -> MetricSeries:
        return voice.make_tickets(self.tickets, grid, self._gaps("tickets"), metric="complaints_count")

    def _read_tickets_count(self, grid: Grid) -> MetricSeries:
        return voice.make_tickets(self.tickets, grid, self._gaps("tickets"), metric="tickets_count")

    def _read_satisfaction_rate(self, grid: Grid) -> MetricSeries:
        return voice.make_satisfaction(self.answers, grid, self._gaps("surveys"))

    def _read_nps_ratio(self, grid: Grid) -> MetricSeries:
        return voice.make_nps(self.answers, grid, self._gaps("surveys"))

    def _read_requests_count(self, grid: Grid) -> MetricSeries:
        return traffic.make_requests(self.traffic, grid, self._gaps("traffic"))

    def _read_error_rate(self, grid: Grid) -> MetricSeries:
        return traffic.make_error_rate(self.traffic, grid, self._gaps("traffic"))

    def _read_p95_ms_mean(self, grid: Grid) -> MetricSeries:
        return traffic.make_p95(self.traffic, grid, self._gaps("traffic"))

    # Whose rows.

    def _table(self, name: str) -> ir.Table:
        return self._label(self.reader.cut(name))

    def _restrict(self, table: ir.Table) -> ir.Table:
        """Keep the rows of the segment's users."""
        if not self.segment:
            return table
        column, _, value = self.segment.partition(":")
        users = self.reader.attributes
        return table.semi_join(users.filter(users[column].cast("string") == value).select("user_id"), "user_id")

    def _label(self, table: ir.Table) -> ir.Table:
        """The rows of the segment's users, each with the user's group."""
        mine = self._restrict(table)
        if not self.by:
            return mine
        users = self.reader.attributes
        names = users.group_by("user_id").aggregate(_label=users[self.by].cast("string").min())
        joined = mine.left_join(names, "user_id")
        return joined.select(*mine.columns, group=self._name(joined._label))

    def _spend(self, spend: ir.Table) -> ir.Table:
        """day, channel, amount of the segment's channel, each with its group."""
        if self.segment:
            spend = spend.filter(spend.channel == self.segment.partition(":")[2])
        spend = spend.select("day", "channel", "amount")
        return spend.mutate(group=self._name(spend.channel)) if self.by else spend

    def _name(self, label: Any) -> Any:
        """The group that a value belongs to."""
        shown = ibis.literal(True) if not self.labels else label.isin(self.labels)
        return ibis.cases((label.isnull(), NOT_GIVEN), (shown, label), else_=OTHER)

    def _choose_labels(self) -> list[str]:
        """The values that keep their names: those with the most users, then channels with the most spend."""
        found = []
        if not self.costs or find_channels(self.data) is not None:
            users = self.reader.attributes
            named = users.select("user_id", label=users[self.by].cast("string"))
            found += _rank(named.group_by("label").aggregate(size=named.user_id.nunique()))
        if self.costs:
            spend = self.reader.cut("spend")
            more = _rank(spend.group_by(label="channel").aggregate(size=spend.amount.sum()))
            found += [name for name in more if name not in found]
        return found[:MOST_GROUPS]


def _rank(sizes: ir.Table) -> list[str]:
    """The labels with the largest size, ties by name."""
    named = sizes.filter(sizes.label.notnull())
    return list(named.order_by([named["size"].desc(), named.label]).limit(MOST_GROUPS).to_pandas()["label"])


def _find_span(data: Data, as_of: dt.date | None) -> Period:
    """From the first active day (without activity, the first day of any table) to `as_of`."""
    whole = data.span if data.activity_name else _span_tables(data)
    last = whole.last_day if as_of is None else as_of
    if not whole.start <= last <= whole.last_day:
        raise InputError(f"as_of {last} lies outside the data, which run from {whole.start} to {whole.last_day}.")
    return Period(whole.start, last + DAY, "all data")


def _span_tables(data: Data) -> Period:
    profiles = [p for p in data.fitness.profiles if p.first_at is not None and p.last_at is not None]
    if not profiles:
        return data.span
    first = min(data.calendar.day_of(p.first_at) for p in profiles if p.first_at)
    ends = []
    for p in profiles:
        assert p.last_at is not None
        last = data.calendar.wall_clock(p.last_at)
        ends.append(last.date() + (DAY if p.whole_days or last.hour >= FULL_DAY_HOUR else 0 * DAY))
    return Period(first, max(*ends, first + DAY), "all data")


def _check_groups(data: Data, metric: str, by: str, segment: str) -> None:
    """Refuse groups that a metric or the data do not know."""
    tables = METRICS[metric]
    named = by or segment.partition(":")[0]
    if not named:
        return
    if "traffic" in tables:
        raise InputError(f"{metric} is measured of the whole site: it knows no users, so it has no groups ('{named}').")
    if metric in SPEND_METRICS:
        if named != "channel":
            raise InputError(
                f"{metric} cannot be told for '{named}': what was spent is only known by channel. Use channel."
            )
        if not data.has("spend"):
            return
        if segment:
            _check_channel(data, segment)
        return
    known = data.segment_columns if data.has("users") or data.has_activity or data.has("subscriptions") else []
    if named not in known:
        choice = f"There are: {', '.join(known)}." if known else "These data have no user attributes."
        raise InputError(f"There is no column '{named}' of users.{suggest_name(named, known)} {choice}")
    data.check_segment(segment)


def _check_channel(data: Data, segment: str) -> None:
    """Refuse a channel that is neither among those that money was spent on nor among those of users."""
    value = segment.partition(":")[2]
    spend = data.table("spend")
    found = data.execute(spend.group_by("channel").aggregate(amount=spend.amount.sum()))["channel"].dropna()
    names = sorted(str(name) for name in found)
    if value in names:
        return
    if find_channels(data) is not None:
        data.check_segment(segment)
        return
    raise InputError(
        f"Segment '{segment}': nothing was spent on channel '{value}'.{suggest_name(value, names)} "
        f"Channels: {', '.join(names[:SHOWN_NAMES])}."
    )


def _check_event(reader: SeriesReader, event: str) -> None:
    """Refuse an event that never occurs."""
    names = reader.event_names
    if event not in names:
        asked = f"there is no event '{event}'.{suggest_name(event, names)}" if event else "name an event."
        raise InputError(f"event_rate: {asked} Events: {', '.join(names[:SHOWN_NAMES])}.")


def _find_missing(data: Data, metric: str) -> str:
    """Why a metric cannot be read: a table or column that is missing; empty where nothing is."""
    for table in METRICS[metric]:
        if table == "events or orders":
            if not data.has_activity:
                return (
                    "There is no table events (user, time, event) or orders (user, time, amount) to tell who is active."
                )
        elif not data.has(table):
            return f"The playbook has no table {describe_contract(CONTRACTS[table])}."
    column = {"error_rate": "errors", "p95_ms_mean": "p95_ms"}.get(metric)
    if column and column not in data.table("traffic").columns:
        return f"The table traffic has no column {column}."
    if metric == "paying_rate" and data.activity_name == "orders":
        return "Only buyers are in the data: the share of active users who pay would be 100% by definition."
    return ""

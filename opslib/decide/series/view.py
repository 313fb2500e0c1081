"""What is counted of one segment's users, or of each of their groups: every metric made of counts that are kept."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

import ibis
import ibis.expr.types as ir
import numpy as np
import pandas as pd

from opslib.data.operations import RuleGrain
from opslib.decide.costs import find_channels
from opslib.decide.funnel.path import OTHER_TABLES, choose_path
from opslib.decide.series.asked import check_event
from opslib.errors import InputError
from opslib.measure.activity import NOT_GIVEN, OTHER
from opslib.measure.series import activity, behaviour, money, traffic, voice
from opslib.measure.series.grid import Grid
from opslib.measure.series.series import MetricSeries

if TYPE_CHECKING:
    from opslib.decide.series.reader import SeriesReader

MOST_GROUPS = 30
LONGEST_PERIOD_DAYS = 31
RETENTION = {f"d{n}_rate": n for n in activity.RETENTION_DAYS}
T = TypeVar("T")


class View:
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
        check_event(self.reader.event_names, event)
        doers = self._count_doers("events", grid, event=event)
        gaps = self._gaps("events", "activity")
        return money.make_doers(doers, self._users(grid), grid, gaps, metric="event_rate")

    def read_funnel(self, funnel: str, step: int, grain: RuleGrain) -> MetricSeries:
        """Share of those who enter a funnel and go on."""
        grid = self.grid(grain)
        path = choose_path(self.data, funnel)
        last = len(path.steps)
        if step and not 2 <= step <= last:
            raise InputError(f"step {step}: this funnel's steps to go on to are 2 to {last}, or 0 for first to last.")
        since, until = (step - 1, step) if step else (1, last)

        def count(grid: Grid) -> pd.DataFrame:
            entries = self.reader.find_entries(funnel, self.segment, grid.span.start)
            return behaviour.count_entrants(self._label(entries.table), grid, step=until, since=since)

        others = [table for name, (table, _) in OTHER_TABLES.items() if name in path.events]
        name = ("entrants", repr(path), since, until)
        counted = self._count(name, grid, count, "events", *others, ahead_days=path.window.days + 1)
        return behaviour.make_funnel_rate(counted, grid, self._gaps("events"), window=path.window)

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

    def _days(self, grid: Grid) -> ir.Table:
        """The active days that a grid takes."""
        if self.data.rollups is None:
            return self.active_days
        return self._label(self.reader.cut("activity", since=grid.span.start))

    def _count(
        self,
        name: tuple[Any, ...],
        grid: Grid,
        count: Callable[[Grid], pd.DataFrame],
        *tables: str,
        back_days: int = 0,
        ahead_days: int = 0,
    ) -> pd.DataFrame:
        """Count a frame of this view's users: see `SeriesReader.count`."""
        labelled = ("users",) if self.by or self.segment else ()
        if labelled and not self.data.has("users"):
            # Labels are made of events then, of any day.
            return count(grid)
        options: dict[str, int] = {"back_days": back_days, "ahead_days": ahead_days}
        return self.reader.count((*name, self.segment), grid, count, tables=(*tables, *labelled), **options)

    @cached_property
    def windows(self) -> pd.DataFrame:
        def count(grid: Grid) -> pd.DataFrame:
            return activity.count_windows(self._days(grid), grid)

        return self._count(("windows",), self.grid("day"), count, "activity", back_days=activity.MONTH_DAYS)

    @cached_property
    def cohorts(self) -> pd.DataFrame:
        def count(grid: Grid) -> pd.DataFrame:
            return activity.count_cohorts(self._label(self.reader.find_returns(grid.span.start)), grid)

        longest = max(activity.RETENTION_DAYS)
        return self._count(("cohorts",), self.grid("day"), count, "activity", ahead_days=longest)

    def _users(self, grid: Grid) -> pd.DataFrame:
        if grid.grain == "day":
            return self.windows[["dau_count"]].rename(columns={"dau_count": "users_count"})
        return self._keep(("users", grid.grain), lambda: self._count_users(grid))

    def _count_users(self, grid: Grid) -> pd.DataFrame:
        def count(grid: Grid) -> pd.DataFrame:
            return activity.count_users(self._days(grid), grid)

        return self._count(("users",), grid, count, "activity")

    def _orders(self, grid: Grid) -> pd.DataFrame:
        def count(grid: Grid) -> pd.DataFrame:
            return money.count_orders(self._label(self.reader.cut("orders", since=grid.span.start)), grid)

        return self._keep(("orders", grid.grain), lambda: self._count(("orders",), grid, count, "orders"))

    @cached_property
    def tickets(self) -> pd.DataFrame:
        return voice.count_tickets(self._table("tickets"), self.grid("day"))

    @cached_property
    def answers(self) -> pd.DataFrame:
        def count(grid: Grid) -> pd.DataFrame:
            return voice.count_answers(self._label(self.reader.cut("surveys", since=grid.span.start)), grid)

        return self._count(("answers",), self.grid("day"), count, "surveys")

    @cached_property
    def traffic(self) -> pd.DataFrame:
        return traffic.count_traffic(self.reader.cut("traffic"), self.grid("day"))

    @cached_property
    def spend(self) -> pd.DataFrame:
        return money.count_spend(self._spend(self.reader.cut("spend")), self.grid("day"))

    def _costs(self, grid: Grid) -> pd.DataFrame:
        tables = [name for name in ("spend", "referrals", "users") if self.data.has(name)]
        ahead = max(activity.RETENTION_DAYS)
        return self._keep(
            ("costs", grid.grain),
            lambda: self._count(("costs",), grid, self._count_costs, "activity", *tables, ahead_days=ahead),
        )

    def _count_costs(self, grid: Grid) -> pd.DataFrame:
        days, known = self._label(self.reader.find_returns(grid.span.start)), self.reader.attributes
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

    def _count_doers(self, table: str, grid: Grid, *, event: str = "") -> pd.DataFrame:
        """Count who has a row of a table, or an event, in each period."""
        besides = not event or not self.reader.events_are_activity

        def count(grid: Grid) -> pd.DataFrame:
            rows = self.reader.cut(table, since=grid.span.start)
            rows = rows.filter(rows.event == event) if event else rows
            return money.count_doers(self._label(rows), grid, active_days=self._days(grid) if besides else None)

        return self._count(("doers", table, event), grid, count, table, "activity")

    # One method a metric, by its name.

    def _read_dau_count(self, grid: Grid) -> MetricSeries:
        return activity.make_dau(self.windows, self._users(grid), grid, self._gaps("activity"))

    def _read_mau_count(self, grid: Grid) -> MetricSeries:
        return activity.make_mau(self.windows, grid, self._gaps("activity"))

    def _read_stickiness_rate(self, grid: Grid) -> MetricSeries:
        squares = self._keep(("squares", grid.grain), lambda: self._sum_squares(grid))
        return activity.make_stickiness(self.windows, squares, grid, self._gaps("activity"))

    def _sum_squares(self, grid: Grid) -> np.ndarray:
        def count(grid: Grid) -> pd.DataFrame:
            return pd.DataFrame({"squares": activity.sum_squares(self._days(grid), grid)})

        back = activity.STICKINESS_DAYS
        return self._count(("squares",), grid, count, "activity", back_days=back)["squares"].to_numpy()

    def _read_new_users_count(self, grid: Grid) -> MetricSeries:
        return activity.make_new_users(self.cohorts, grid, self._gaps("activity"))

    def _read_churn_rate(self, grid: Grid) -> MetricSeries:
        def count(grid: Grid) -> pd.DataFrame:
            return activity.count_left(self._days(grid), grid)

        # The period before says who could leave.
        left = self._count(("left",), grid, count, "activity", back_days=LONGEST_PERIOD_DAYS)
        return activity.make_churn(left, grid, self._gaps("activity"))

    def _read_dwell_minutes_mean(self, grid: Grid) -> MetricSeries:
        def count(grid: Grid) -> pd.DataFrame:
            return behaviour.count_dwell(self._label(self.reader.find_dwell(grid.span.start)), grid)

        return behaviour.make_dwell(self._count(("dwell",), grid, count, "events"), grid, self._gaps("events"))

    def _read_orders_count(self, grid: Grid) -> MetricSeries:
        return money.make_orders(self._orders(grid), grid, self._gaps("orders"), metric="orders_count")

    def _read_paying_users_count(self, grid: Grid) -> MetricSeries:
        return money.make_orders(self._orders(grid), grid, self._gaps("orders"), metric="paying_users_count")

    def _read_revenue_amount(self, grid: Grid) -> MetricSeries:
        return money.make_orders(self._orders(grid), grid, self._gaps("orders"), metric="revenue_amount")

    def _read_paying_rate(self, grid: Grid) -> MetricSeries:
        doers = self._count_doers("orders", grid)
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

"""Which tickets wait, the most severe first, and how many are past their clock."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import ibis
import ibis.expr.types as ir
import pandas as pd

from opslib.data.memory import remember
from opslib.data.operations import CrisisSettings
from opslib.data.periods import DAY, Period
from opslib.decide.crisis.hearing import gather_tickets
from opslib.decide.scope import Scope
from opslib.measure.estimate import to_plain_record
from opslib.measure.voice import read_tickets

# Open tickets that are listed one by one.
MOST_TICKETS = 50
# What is due within a working day from the end of the last one.
SOON_HOURS = 24

CATEGORY_COLUMNS = [
    "rank", "category", "severe", "solve_hours", "open_count", "complaints_count", "overdue_count", "due_soon_count",
    "oldest_hours", "incident_count", "incident_late_count",
]  # fmt: skip
TICKET_COLUMNS = ["rank", "ticket_id", "category", "is_complaint", "opened_at", "due_at", "waited_hours", "overdue"]


@dataclass(frozen=True)
class SeverityQueue:
    """The tickets to answer, in order; each part is computed when it is first asked for.

    Attributes:
        scope: data, segment and days.
        incident: the days of the incident; None without one.
        now_at: the end of the last day looked at, in the company's time; waiting is counted up to it.
        categories: rank, category, severe (the playbook names it in its order), solve_hours (its clock), open_count,
            complaints_count (of those open), overdue_count, due_soon_count (within 24 hours), oldest_hours,
            incident_count (opened in the incident), incident_late_count (of those, solved after their clock, or open
            past it).
        tickets: rank, ticket_id, category, is_complaint, opened_at, due_at (company's time), waited_hours, overdue; the
            first 50 in order. Never a user.
    """

    scope: Scope
    incident: Period | None

    @property
    def now_at(self) -> dt.datetime:
        calendar = self.scope.data.calendar
        return calendar.wall_clock(calendar.day_start(self.scope.as_of + DAY))

    @cached_property
    def categories(self) -> pd.DataFrame:
        return _count_categories(self.scope.narrow(now=False), self.incident)

    @cached_property
    def tickets(self) -> pd.DataFrame:
        return _list_tickets(self.scope.narrow(now=False), self.incident)

    @property
    def open_count(self) -> int:
        """Tickets that wait."""
        return int(self.categories["open_count"].sum())

    @property
    def overdue_count(self) -> int:
        """Tickets past their clock."""
        return int(self.categories["overdue_count"].sum())

    def findings(self) -> list[dict[str, Any]]:
        """One record a category."""
        return [{"name": "severity_queue", **to_plain_record(row)} for row in self.categories.to_dict("records")]


def order_tickets(scope: Scope, incident: Period | None) -> SeverityQueue | None:
    """Put the open tickets in order of severity, then of when they are due; None without tickets."""
    return SeverityQueue(scope, incident) if scope.data.has("tickets") else None


def _time_tickets(scope: Scope, incident: Period | None) -> ir.Table:
    """Tickets that wait, or were opened in the incident, with how long they have waited and their clock."""
    tickets, calendar = gather_tickets(scope), scope.data.calendar
    assert tickets is not None
    moment = ibis.timestamp(calendar.day_start(scope.as_of + DAY))
    table = read_tickets(tickets, calendar)
    until = (table.closed_at < moment).fill_null(False).ifelse(table.closed_at, moment)
    inside = ibis.literal(False) if incident is None else table.day.between(incident.start, incident.last_day)
    timed = table.mutate(
        open=(table.closed_at >= moment).fill_null(True),
        solve_hours=_find_clock(table.category, scope.data.playbook.crisis),
        waited_hours=until.delta(table.opened_at, unit="second") / 3600.0,
        in_incident=inside,
    )
    timed = timed.mutate(late=timed.waited_hours > timed.solve_hours)
    return timed.filter(timed.open | timed.in_incident)


@remember
def _count_categories(scope: Scope, incident: Period | None) -> pd.DataFrame:
    timed, crisis = _time_tickets(scope, incident), scope.data.playbook.crisis
    soon = ~timed.late & (timed.waited_hours + SOON_HOURS > timed.solve_hours)
    counted = timed.group_by("category", "solve_hours").aggregate(
        open_count=timed.open.sum(),
        complaints_count=(timed.open & timed.is_complaint).sum(),
        overdue_count=(timed.open & timed.late).sum(),
        due_soon_count=(timed.open & soon).sum(),
        oldest_hours=timed.waited_hours.max(where=timed.open),
        incident_count=timed.in_incident.sum(),
        incident_late_count=(timed.in_incident & timed.late).sum(),
    )
    frame = scope.data.execute(counted)
    ranks = {name: place for place, name in enumerate(crisis.order)}
    frame["severe"] = frame["category"].isin(ranks)
    frame["place"] = frame["category"].map(ranks).fillna(len(ranks))
    frame = frame.sort_values(["place", "overdue_count", "open_count", "category"],
                              ascending=[True, False, False, True], ignore_index=True)  # fmt: skip
    frame["rank"] = range(1, len(frame) + 1)
    return frame[CATEGORY_COLUMNS]


def _find_clock(category: Any, crisis: CrisisSettings) -> Any:
    known = [(category == name, ibis.literal(float(clock.solve_hours))) for name, clock in crisis.clocks.items()]
    other = ibis.literal(float(crisis.other_solve_hours))
    return ibis.cases(*known, else_=other) if known else other


@remember
def _list_tickets(scope: Scope, incident: Period | None) -> pd.DataFrame:
    place = _count_categories(scope, incident).set_index("category")["rank"].to_dict()
    timed = _time_tickets(scope, incident)
    waiting = timed.filter(timed.open)
    if not place:
        return pd.DataFrame(columns=TICKET_COLUMNS)
    rank = ibis.cases(*((waiting.category == name, int(n)) for name, n in place.items()), else_=len(place) + 1)
    left = waiting.solve_hours - waiting.waited_hours
    listed = waiting.select(
        "ticket_id", "category", "is_complaint", "opened_at", "waited_hours", "solve_hours", rank=rank, left=left
    )
    frame = scope.data.execute(listed.order_by(["rank", "left", "ticket_id"]).limit(MOST_TICKETS))
    frame["overdue"] = frame["left"] < 0
    frame["opened_at"] = [scope.data.calendar.wall_clock(t.to_pydatetime()) for t in frame["opened_at"]]
    frame["opened_at"] = pd.to_datetime(frame["opened_at"])
    frame["due_at"] = frame["opened_at"] + pd.to_timedelta(frame["solve_hours"], unit="h")
    return frame[TICKET_COLUMNS]

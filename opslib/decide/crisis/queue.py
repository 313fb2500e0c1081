"""Which tickets wait, the most severe first, and how many are past their clock."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any

import ibis
import pandas as pd

from opslib.data.operations import CrisisSettings
from opslib.data.periods import DAY, Period
from opslib.decide.crisis.hearing import read_known_tickets
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
    """The tickets to answer, in order.

    Attributes:
        now_at: the end of the last day looked at, in the company's time; waiting is counted up to it.
        categories: rank, category, severe (the playbook names it in its order), solve_hours (its clock), open_count,
            complaints_count (of those open), overdue_count, due_soon_count (within 24 hours), oldest_hours,
            incident_count (opened in the incident), incident_late_count (of those, solved after their clock, or open
            past it).
        tickets: rank, ticket_id, category, is_complaint, opened_at, due_at (company's time), waited_hours, overdue; the
            first 50 in order. Never a user.
    """

    now_at: dt.datetime
    categories: pd.DataFrame
    tickets: pd.DataFrame

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
    tickets = read_known_tickets(scope)
    if tickets is None:
        return None
    calendar, crisis = scope.data.calendar, scope.data.playbook.crisis
    end = calendar.day_start(scope.as_of + DAY)
    moment = ibis.timestamp(end)
    table = read_tickets(tickets, calendar)
    hours = _find_clock(table.category, crisis)
    until = (table.closed_at < moment).fill_null(False).ifelse(table.closed_at, moment)
    inside = ibis.literal(False) if incident is None else table.day.between(incident.start, incident.last_day)
    timed = table.mutate(
        open=(table.closed_at >= moment).fill_null(True),
        solve_hours=hours,
        waited_hours=until.delta(table.opened_at, unit="second") / 3600.0,
        in_incident=inside,
    )
    timed = timed.mutate(late=timed.waited_hours > timed.solve_hours)
    timed = timed.filter(timed.open | timed.in_incident)
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
    now_at = calendar.wall_clock(end)
    return SeverityQueue(now_at, frame[CATEGORY_COLUMNS], _list_tickets(scope, timed, frame, now_at))


def _find_clock(category: Any, crisis: CrisisSettings) -> Any:
    known = [(category == name, ibis.literal(float(clock.solve_hours))) for name, clock in crisis.clocks.items()]
    other = ibis.literal(float(crisis.other_solve_hours))
    return ibis.cases(*known, else_=other) if known else other


def _list_tickets(scope: Scope, timed: Any, categories: pd.DataFrame, now_at: dt.datetime) -> pd.DataFrame:
    place = categories.set_index("category")["rank"].to_dict()
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

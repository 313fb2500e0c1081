"""How a metric of the playbook is read for one exposed user: what is counted, and in which days after exposure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import ibis.expr.types as ir

from opslib.data.source import Data
from opslib.decide.funnel.path import choose_path, gather_events
from opslib.decide.scope import Scope
from opslib.language import say
from opslib.measure.estimate import Unit
from opslib.measure.experiment.experiment import Behavior
from opslib.measure.funnel.steps import match_step

# What users did in so many days before their exposure takes noise out of orders and revenue (CUPED).
EARLIER_DAYS = 28
# Gone: not active in the last seven days of the window.
LAST_DAYS = 7
FEWEST_CHURN_DAYS = 14
SATISFIED = 4
PROMOTER, DETRACTOR = 9, 6
RETENTION_DAYS = {"d1_rate": 1, "d7_rate": 7, "d30_rate": 30}
MONEY = ("orders_count", "revenue_amount", "paying_rate", "paying_users_count")


@dataclass(frozen=True)
class Reading:
    """One metric, read for each exposed user.

    Attributes:
        of, per: the behaviour, and what it is divided by (ratios).
        unit: of the value for each user.
        before: days before exposure that CUPED uses.
        scale, shift: the value shown is shift + scale x the behaviour's.
        says: what one user's value is, in words.
    """

    of: Behavior
    unit: Unit
    says: str
    per: Behavior | None = None
    before: int = 0
    scale: float = 1.0
    shift: float = 0.0


def choose_reading(data: Data, metric: str, window: int) -> tuple[Reading, str, Callable[[], ir.Table]] | str:
    """How a metric is read per user within `window` days after exposure.

    Returns:
        The reading, the name of its table and what makes that table (user_id, ts and what the reading names); or, in
        a sentence, why it cannot be read per user.
    """
    need = _find_need(metric)
    if not need:
        return say("It cannot be read for single users.")
    if not (data.has(need) or (need == "activity" and data.has_activity)):
        table = say("events or orders") if need == "activity" else need
        return say("It needs the table {table}, which the playbook does not have.", table=table)
    if metric == "churn_rate" and window < FEWEST_CHURN_DAYS:
        return say("Whether users left cannot be told within {days} days of their exposure.", days=window)
    if need == "activity":
        return _read_activity(metric, window), "active", lambda: _list_activity(data)
    days = (0, window)
    if metric == "funnel_rate":
        path = choose_path(data)
        says = say("got to {step} within {days} days", step=path.labels[-1], days=path.window_days)
        return Reading(Behavior("goal", days=(0, path.window_days)), "rate", says), "goal", lambda: _list_goals(data)
    if need == "orders":
        if metric == "revenue_amount" and "amount" not in data.table("orders").columns:
            return say("The orders have no amounts.")
        readings = {
            "orders_count": Reading(
                Behavior("orders", how="rows", days=days), "ratio", say("orders"), before=EARLIER_DAYS
            ),
            "revenue_amount": Reading(
                Behavior("orders", how="sum", column="amount", days=days), "amount", say("revenue"), before=EARLIER_DAYS
            ),
        }
        paid = Reading(Behavior("orders", days=days), "rate", say("paid"))
        return readings.get(metric, paid), "orders", lambda: data.table("orders")
    if need == "tickets":
        if metric != "tickets_count" and "is_complaint" not in data.table("tickets").columns:
            return say("The tickets do not say which are complaints.")
        name = "tickets" if metric == "tickets_count" else "complaints"
        how = Behavior(name, how="any" if metric == "complaint_rate" else "rows", days=days)
        words = {"complaint_rate": say("complained"), "complaints_count": say("complaints")}
        says = words.get(metric, say("tickets"))
        return (
            Reading(how, "rate" if metric == "complaint_rate" else "ratio", says),
            name,
            lambda: _list_tickets(data, name),
        )
    satisfied = metric == "satisfaction_rate"
    name, says = ("csat", say("satisfied, of answers")) if satisfied else ("nps", say("points, of answers"))
    unit: Unit = "rate" if satisfied else "ratio"
    top = Behavior(name, how="sum", column="points", days=days)
    reading = Reading(top, unit, says, per=Behavior(name, how="rows", days=days))
    return reading, name, lambda: _list_answers(data, name)


def _find_need(metric: str) -> str:
    if metric in (*RETENTION_DAYS, "churn_rate", "stickiness_rate"):
        return "activity"
    if metric in MONEY:
        return "orders"
    if metric in ("complaint_rate", "complaints_count", "tickets_count"):
        return "tickets"
    if metric in ("satisfaction_rate", "nps_ratio"):
        return "surveys"
    return "events" if metric == "funnel_rate" else ""


def _read_activity(metric: str, window: int) -> Reading:
    if metric in RETENTION_DAYS:
        day = RETENTION_DAYS[metric]
        return Reading(
            Behavior("active", days=(day, day + 1), clock="day"), "rate", say("active on day {day}", day=day)
        )
    if metric == "churn_rate":
        late = Behavior("active", days=(window - LAST_DAYS, window), clock="day")
        says = say("not active in the last {days} of {window} days", days=LAST_DAYS, window=window)
        return Reading(late, "rate", says, scale=-1.0, shift=1.0)
    days = Behavior("active", how="days", days=(0, window), clock="day")
    return Reading(days, "rate", say("share of {days} days active", days=window), scale=1 / window)


def _list_activity(data: Data) -> ir.Table:
    """user_id, ts of what counts as being active."""
    table, activity = data.table(data.activity_name), data.playbook.activity
    if data.activity_name == "events":
        if activity.events:
            table = table.filter(table.event.isin(activity.events))
        if activity.except_events:
            table = table.filter(table.event.notin(activity.except_events))
    return table.select("user_id", "ts")


def _list_goals(data: Data) -> ir.Table:
    path = choose_path(data)
    span = data.span
    events = gather_events(Scope(data, "", "week", span, None, span, ()), path)
    return events.filter(match_step(events, path.steps[-1])).select("user_id", "ts")


def _list_tickets(data: Data, name: str) -> ir.Table:
    tickets = data.table("tickets")
    kept = tickets.filter(tickets.is_complaint.fill_null(False)) if name == "complaints" else tickets
    return kept.select("user_id", ts=kept.opened_at)


def _list_answers(data: Data, name: str) -> ir.Table:
    surveys = data.table("surveys")
    asked = surveys.filter(surveys.kind == name, surveys.score.notnull())
    satisfied = (asked.score >= SATISFIED).cast("int64")
    promoter = (asked.score >= PROMOTER).cast("int64") - (asked.score <= DETRACTOR).cast("int64")
    return asked.select("user_id", "ts", points=satisfied if name == "csat" else promoter)

"""Voice and crisis: what users say, the incident and what it cost, what waits, the plan, the market."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from opslib.data.source import Data
from opslib.decide.crisis.hearing import Voice, hear_users
from opslib.decide.crisis.incident import Incident, find_incident
from opslib.decide.crisis.market import MarketEffects, measure_market_events
from opslib.decide.crisis.plan import CrisisPlan, plan_crisis
from opslib.decide.crisis.queue import SeverityQueue, order_tickets
from opslib.decide.crisis.timeline import Timeline, draw_timeline, expect_complaints, list_unusual_days
from opslib.decide.scope import Scope, choose_scope
from opslib.decide.series import SeriesReader
from opslib.errors import InputError

# The handbook's: more than 5% of active users complain, three days running.
THRESHOLD_RATE, TIMES = 0.05, 3


@dataclass(frozen=True)
class VoiceInvestigation:
    """What users say, and what to do about it.

    Attributes:
        scope: data, segment and days.
        threshold_rate, times: the rule: more than this share complain, so many days in a row.
        voice: complaints, tickets and surveys, now and before.
        incident: the one asked for, or the worst of the days looked at; None where no day stands out.
        timeline: of the incident; None without one.
        queue: tickets that wait; None without tickets.
        plan: what to do about the incident; None without one.
        market: marked events and what came after them.
        missing: section -> the table that would light it up.
    """

    scope: Scope
    threshold_rate: float
    times: int
    voice: Voice
    incident: Incident | None
    timeline: Timeline | None
    queue: SeverityQueue | None
    plan: CrisisPlan | None
    market: MarketEffects
    missing: dict[str, str]

    @property
    def currency(self) -> str:
        """The playbook's currency."""
        return self.scope.data.playbook.company.currency

    @property
    def in_crisis(self) -> bool:
        """The rule fired, and the incident goes on."""
        return self.incident is not None and self.incident.fired_on is not None and self.incident.goes_on

    def findings(self) -> list[dict[str, Any]]:
        """Everything a machine may want to read, as flat records; never a user."""
        parts = (self.voice, self.incident, self.timeline, self.queue, self.plan, self.market)
        return [record for part in parts if part is not None for record in part.findings()]


def investigate_voice(
    data: Data,
    *,
    as_of: str = "",
    days: int = 0,
    incident_on: str = "",
    segment: str = "",
    threshold_rate: float = THRESHOLD_RATE,
    times: int = TIMES,
) -> VoiceInvestigation:
    """Investigate what users say.

    Args:
        data: the company's data; unfit data are refused.
        as_of: the last day, as ISO text; empty: the data's last full day.
        days: how many days are looked at, and compared with as many before; 0: 91.
        incident_on: a day of the incident to look into; empty: the worst stretch of the days looked at.
        segment: one group of users such as `channel:search`; empty: everybody.
        threshold_rate: share of active users who complain on a day, above which the day counts for the rule.
        times: so many days in a row make the rule fire.

    Returns:
        A `VoiceInvestigation`.

    Raises:
        InputError: unfit data, an unknown segment, a day outside the data, a threshold that is no share.
    """
    data.require_fit()
    if not 0 < threshold_rate < 1:
        raise InputError(f"threshold_rate {threshold_rate:g} is no share: write 5% as 0.05.")
    if times < 1:
        raise InputError(f"times {times}: a rule takes at least one day.")
    scope = choose_scope(data, as_of=as_of, segment=segment, days=days)
    reader = SeriesReader(data, as_of=scope.as_of)
    expected = expect_complaints(scope, reader)
    incident = find_incident(scope, expected, incident_on=incident_on, threshold_rate=threshold_rate, times=times)
    timeline = None if incident is None else draw_timeline(scope, reader, incident.period, incident.peak)
    return VoiceInvestigation(
        scope,
        threshold_rate,
        times,
        hear_users(scope, list_unusual_days(expected)),
        incident,
        timeline,
        order_tickets(scope, None if incident is None else incident.period),
        plan_crisis(scope, incident),
        measure_market_events(scope, reader),
        _find_missing(data),
    )


def _find_missing(data: Data) -> dict[str, str]:
    missing = {}
    if not data.has("tickets"):
        need = "tickets (ticket_id, user_id, opened_at, is_complaint)"
        for section in ("Who complains", "The incident", "What waits", "The crisis plan"):
            missing[section] = need
    if not data.has("surveys"):
        missing["How satisfied are they"] = "surveys (user_id, ts, kind, score)"
    if not data.has_activity:
        missing["Complaint rate"] = "events or orders, to know how many users were active"
    if not data.has("traffic"):
        missing["Traffic"] = "traffic (ts, requests, errors, p95_ms)"
    if not data.has("orders"):
        missing["Orders"] = "orders (user_id, ts, amount)"
    return missing

"""Voice and crisis: what users say, the incident and what it cost, what waits, the plan, the market."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from opslib.data.source import Data
from opslib.decide.crisis.hearing import Voice, hear_users
from opslib.decide.crisis.incident import Incident, check_day, find_incident
from opslib.decide.crisis.market import MarketEffects, measure_market_events
from opslib.decide.crisis.plan import CrisisPlan, plan_crisis
from opslib.decide.crisis.queue import SeverityQueue, order_tickets
from opslib.decide.crisis.timeline import Timeline, draw_timeline, expect_complaints, list_unusual_days
from opslib.decide.scope import Scope, choose_scope
from opslib.decide.series import SeriesReader, open_reader
from opslib.errors import InputError
from opslib.language import mark
from opslib.measure.expected import ExpectedResult

# The handbook's: more than 5% of active users complain, three days running.
THRESHOLD_RATE, TIMES = 0.05, 3


@dataclass(frozen=True)
class VoiceInvestigation:
    """What users say, and what to do about it; each part is computed when it is first asked for.

    Attributes:
        scope, reader: data, segment and days, and their series.
        incident_on: a day of the incident asked for; empty: the worst is.
        threshold_rate, times: the rule: more than this share complain, so many days in a row.
        voice: complaints, tickets and surveys, now and before.
        incident: the one asked for, or the worst of the days looked at; None where no day stands out.
        timeline: of the incident; None without one.
        queue: tickets that wait; None without tickets.
        plan: what to do about the incident; None without one.
        market: marked events and what came after them.
        missing: section -> the table that would light it up; both are texts to translate.
    """

    scope: Scope
    reader: SeriesReader
    incident_on: str
    threshold_rate: float
    times: int
    market: MarketEffects
    missing: dict[str, str]

    @cached_property
    def voice(self) -> Voice:
        return hear_users(self.scope, list_unusual_days(self._expected))

    @cached_property
    def incident(self) -> Incident | None:
        return find_incident(
            self.scope,
            self._expected,
            incident_on=self.incident_on,
            threshold_rate=self.threshold_rate,
            times=self.times,
        )

    @cached_property
    def timeline(self) -> Timeline | None:
        incident = self.incident
        return None if incident is None else draw_timeline(self.scope, self.reader, incident.period, incident.peak)

    @cached_property
    def queue(self) -> SeverityQueue | None:
        return order_tickets(self.scope, None if self.incident is None else self.incident.period)

    @cached_property
    def plan(self) -> CrisisPlan | None:
        return plan_crisis(self.scope, self.incident)

    @property
    def _expected(self) -> ExpectedResult | None:
        return expect_complaints(self.reader, self.scope.segment)

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
        A `VoiceInvestigation`. What is wrong with the options is said at once; parts are computed when first asked for.

    Raises:
        InputError: unfit data, an unknown segment, a day outside the data, a threshold that is no share.
    """
    data.require_fit()
    if not 0 < threshold_rate < 1:
        raise InputError(f"threshold_rate {threshold_rate:g} is no share: write 5% as 0.05.")
    if times < 1:
        raise InputError(f"times {times}: a rule takes at least one day.")
    scope = choose_scope(data, as_of=as_of, segment=segment, days=days)
    check_day(scope, incident_on)
    reader = open_reader(data, scope.as_of)
    market = measure_market_events(scope, reader)
    return VoiceInvestigation(scope, reader, incident_on, threshold_rate, times, market, _find_missing(data))


def _find_missing(data: Data) -> dict[str, str]:
    missing = {}
    if not data.has("tickets"):
        need = mark("tickets (ticket_id, user_id, opened_at, is_complaint)")
        for section in (mark("Who complains"), mark("The incident"), mark("What waits"), mark("The crisis plan")):
            missing[section] = need
    if not data.has("surveys"):
        missing[mark("How satisfied are they")] = mark("surveys (user_id, ts, kind, score)")
    if not data.has_activity:
        missing[mark("Complaint rate")] = mark("events or orders, to know how many users were active")
    if not data.has("traffic"):
        missing[mark("Traffic")] = mark("traffic (ts, requests, errors, p95_ms)")
    if not data.has("orders"):
        missing[mark("Orders")] = mark("orders (user_id, ts, amount)")
    return missing

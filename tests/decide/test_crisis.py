"""Voice and crisis: the planted incidents by name, the plan and the queue by hand, and little companies."""

from __future__ import annotations

import datetime as dt
import json

import pandas as pd
import pytest

from opslib.data.operations import CrisisSettings, CrisisStep, MarketEvent, ResponseClock
from opslib.data.playbook import load_playbook
from opslib.data.source import open_data
from opslib.decide.crisis.investigation import VoiceInvestigation, investigate_voice
from opslib.decide.crisis.timeline import sum_losses
from opslib.errors import InputError
from opslib.present.answers import describe, suggest_actions
from tests.conftest import ROOT
from tests.decide.conftest import Company

STEPS = (
    CrisisStep(name="Apology", owner="Ann", within_hours=4, text="{company}: {category}, {first_day}, {users} {odd}"),
    CrisisStep(name="Compensation", owner="Ben", within_hours=72, cost_per_user=10),
)
FIRST = dt.datetime(2026, 1, 1, 8)


@pytest.fixture(scope="module")
def wave() -> VoiceInvestigation:
    """The sample company on the last day of its wave of complaints, with a plan and a marked event."""
    playbook = load_playbook(ROOT / "playbook.toml")
    crisis = playbook.crisis.model_copy(update={"steps": STEPS})
    events = (
        MarketEvent(name="A rival's launch", date=dt.date(2026, 4, 15), exposed=("channel:search",)),
        MarketEvent(name="A new law", date=dt.date(2026, 4, 1)),
        MarketEvent(name="Not yet", date=dt.date(2026, 6, 1)),
    )
    data = open_data(playbook.model_copy(update={"crisis": crisis, "market_events": events}))
    return investigate_voice(data, as_of="2026-05-21")


def test_the_planted_wave_is_named_with_its_days_and_its_category(wave: VoiceInvestigation) -> None:
    incident = wave.incident
    assert incident is not None and incident.chosen == "worst" and incident.unusual
    assert (incident.period.start, incident.period.last_day) == (dt.date(2026, 5, 19), dt.date(2026, 5, 21))
    assert incident.category == "service_delay"
    assert incident.fired_on == dt.date(2026, 5, 21) and incident.goes_on and wave.in_crisis
    truth = json.loads((ROOT / "data" / "samples" / "truth.json").read_text())
    planted = next(i for i in truth["incidents"] if i["id"] == "complaint_wave")["changes"][0]["size"]
    row = incident.categories.iloc[0]
    assert row["times_low"] < planted < row["times_high"]
    assert incident.who is not None and not incident.who.localised


def test_the_wave_is_told_as_a_crisis(wave: VoiceInvestigation) -> None:
    sentences = describe(wave)
    assert sentences[0].startswith("Crisis: more than 5% of active users complain, 3 days running.")
    assert "It goes on" in sentences[1] and "service delay" in sentences[1]
    assert "Off their course already in the week before, which is not counted: orders" in sentences[2]
    assert any(a.startswith("Apology (Ann), due 22 May 2026, 04:00") for a in suggest_actions(wave))


def test_satisfaction_fell_and_what_was_wrong_before_is_not_counted(wave: VoiceInvestigation) -> None:
    incident, timeline = wave.incident, wave.timeline
    assert incident is not None and incident.satisfaction is not None and incident.satisfaction.clear
    assert incident.satisfaction.difference is not None and incident.satisfaction.difference < -0.3
    assert timeline is not None
    users = timeline.loss("dau_count")
    assert users is not None and not users["clear"] and pd.isna(users["before_rate"])
    # The checkout broke a week earlier: that orders were short is not the wave's doing.
    orders = timeline.loss("orders_count")
    assert orders is not None and orders["before_rate"] < -0.1


def test_the_plan_counts_from_the_third_day(wave: VoiceInvestigation) -> None:
    plan = wave.plan
    assert plan is not None and plan.fired_at == dt.datetime(2026, 5, 22)
    assert plan.users_count == wave.incident.users_count == 210  # type: ignore[union-attr]
    assert plan.steps["due_at"].dt.strftime("%d %H:%M").tolist() == ["22 04:00", "25 00:00"]
    assert plan.steps["text"].iloc[0] == "Sample company: service delay, 19 May 2026, 210 {odd}"
    assert plan.cost_amount == 2100


def test_the_queue_counts_what_waits_in_order_of_severity(wave: VoiceInvestigation) -> None:
    queue = wave.queue
    assert queue is not None
    assert queue.categories["category"].tolist()[:3] == ["system_failure", "content_violation", "service_delay"]
    data = wave.scope.data
    tickets = data.execute(data.table("tickets"))
    end = pd.Timestamp("2026-05-21 16:00")  # midnight in Shanghai
    known = tickets[tickets["opened_at"] < end]
    waiting = known[known["closed_at"].isna() | (known["closed_at"] >= end)]
    assert queue.open_count == len(waiting)
    clocks = {name: c.solve_hours for name, c in data.playbook.crisis.clocks.items()}
    hours = waiting["category"].map(clocks).fillna(data.playbook.crisis.other_solve_hours)
    late = (end - waiting["opened_at"]).dt.total_seconds() / 3600 > hours
    assert queue.overdue_count == late.sum()
    assert len(queue.tickets) == min(50, len(waiting)) and "user_id" not in queue.tickets
    assert queue.tickets["rank"].is_monotonic_increasing


def test_market_events_are_held_against_the_unexposed(wave: VoiceInvestigation) -> None:
    effects = wave.market.effects
    assert set(effects["event"]) == {"A rival's launch", "A new law"}  # the third has not come yet
    search = effects[effects["segment"] == "channel:search"]
    assert set(search["method"]) == {"difference in differences"}
    # Nothing was planted there: none of the three may be clear and sound.
    assert not (search["clear"].astype(bool) & search["sound"].astype(bool)).any()
    law = effects[effects["segment"] == ""]
    assert set(law["method"]) == {"before and after"} and not law["sound"].any()


def test_findings_are_plain_and_name_no_user(wave: VoiceInvestigation) -> None:
    text = json.dumps(wave.findings(), allow_nan=False)
    assert '"user_id"' not in text
    names = {record["name"] for record in wave.findings()}
    assert {"incident", "incident_loss", "severity_queue", "crisis_step", "market_event", "complaint_rate"} <= names


def test_the_surge_is_told_by_the_hour() -> None:
    data = open_data(ROOT / "playbook.toml")
    found = investigate_voice(data, incident_on="2026-06-18")
    assert found.incident is not None and found.timeline is not None
    assert found.incident.chosen == "given" and not found.incident.unusual and found.incident.fired_on is None
    burst = found.timeline.burst
    assert (burst["first_at"].hour, burst["last_at"].hour) == (19, 22)
    assert 5 < burst["requests_ratio"] < 12 and burst["error_rate"] > 0.2 > burst["usual_error_rate"]
    assert burst["orders_high"] < 0
    truth = json.loads((ROOT / "data" / "samples" / "truth.json").read_text())
    surge = next(i for i in truth["incidents"] if i["id"] == "surge_day")["changes"][0]["realised"]["cells"]
    assert burst["requests_count"] == surge["segment_during"]["numerator"]
    # The wave of May is not this incident, and does not make anybody look bad.
    assert not (found.voice.segments["q_value"] < 0.05).any()


def test_losses_add_up_by_hand() -> None:
    days = pd.date_range("2026-01-01", periods=9)
    frame = pd.DataFrame({"metric": "orders_count", "day": days, "value": [100.0] * 7 + [80, 70]})
    frame = frame.assign(expected=100.0, low=90.0, high=120.0, in_incident=[False] * 7 + [True] * 2)
    row = sum_losses(frame).iloc[0]
    assert (row["actual"], row["expected"], row["difference"]) == (150, 200, -50)
    assert row["low"] == pytest.approx(-50 - 20 * 2**0.5) and row["high"] == pytest.approx(-50 + 10 * 2**0.5)
    assert row["clear"] and pd.isna(row["before_rate"])
    # Half gone already in the week before: nothing is left to the incident.
    early = frame.assign(value=[50.0] * 7 + [50, 50])
    row = sum_losses(early).iloc[0]
    assert row["before_rate"] == pytest.approx(-0.5) and row["difference"] == pytest.approx(0) and not row["clear"]


def list_days(users: int, days: int) -> list[str]:
    return [f"{u},{FIRST + dt.timedelta(days=d)},open" for d in range(days) for u in range(users)]


def open_tickets(rows: list[tuple[int, int, str]]) -> list[str]:
    """number -> user, day, category; never closed."""
    return [f"{n},{user},{FIRST + dt.timedelta(days=day)},true,{category},"
            for n, (user, day, category) in enumerate(rows)]  # fmt: skip


EVENTS = "user_id,ts,event"
TICKETS = "ticket_id,user_id,opened_at,is_complaint,category,closed_at"


def test_a_wave_in_a_short_history_fires_by_the_rule(company: Company) -> None:
    rows = [(u, day, "billing") for day in (14, 15, 16) for u in range(6)]
    data = company(events=(EVENTS, list_days(100, 20)), tickets=(TICKETS, open_tickets(rows)))
    found = investigate_voice(data)
    assert found.incident is not None
    assert (found.incident.period.start, found.incident.fired_on) == (dt.date(2026, 1, 15), dt.date(2026, 1, 17))
    assert not found.incident.goes_on
    # Exactly at the threshold is not above it.
    assert investigate_voice(data, threshold_rate=0.06).incident is None


def test_two_days_do_not_fire_and_times_is_a_setting(company: Company) -> None:
    rows = [(u, day, "billing") for day in (14, 15) for u in range(6)]
    data = company(events=(EVENTS, list_days(100, 20)), tickets=(TICKETS, open_tickets(rows)))
    assert investigate_voice(data).incident.fired_on is None  # type: ignore[union-attr]
    assert investigate_voice(data, times=2).incident.fired_on == dt.date(2026, 1, 16)  # type: ignore[union-attr]


def test_what_is_asked_wrongly_is_refused(company: Company) -> None:
    data = company(events=(EVENTS, list_days(30, 20)))
    for options, word in (
        ({"incident_on": "2027-01-01"}, "incident_on 2027-01-01 lies outside"),
        ({"incident_on": "soon"}, "is not a date"),
        ({"threshold_rate": 5.0}, "write 5% as 0.05"),
        ({"times": 0}, "at least one day"),
        ({"segment": "channel:search"}, "channel"),
    ):
        with pytest.raises(InputError, match=word):
            investigate_voice(data, **options)  # type: ignore[arg-type]


def test_clocks_of_other_categories_are_the_general_one() -> None:
    settings = CrisisSettings(clocks={"billing": ResponseClock(solve_hours=1)})
    assert settings.other_solve_hours == 72

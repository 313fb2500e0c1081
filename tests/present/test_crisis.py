"""Voice and crisis, as it is shown: whatever is missing is a sentence, and nothing of the data becomes markup."""

from __future__ import annotations

import datetime as dt
import json

import pytest

from opslib.data.source import Data, open_data
from opslib.decide.crisis.investigation import VoiceInvestigation, investigate_voice
from opslib.parameters import check_parameters
from opslib.present.answers import describe, describe_scope, list_limits, suggest_actions
from opslib.present.crisis import charts, tables
from opslib.present.display import ChartView, ListView, TableView
from tests.conftest import ROOT
from tests.decide.conftest import Company, company  # noqa: F401

FIRST = dt.datetime(2026, 1, 1, 8)
EVENTS = "user_id,ts,event"
TICKETS = "ticket_id,user_id,opened_at,is_complaint,category,closed_at"
SURVEYS = "user_id,ts,kind,score"
HOSTILE = "<img src=x onerror='alert(1)'>"


def tell(voice: VoiceInvestigation) -> str:
    """Everything that a notebook shows, in text; nothing may fail."""
    json.dumps(voice.findings(), allow_nan=False)
    shown = [describe_scope(voice), *describe(voice), *list_limits(voice), *suggest_actions(voice)]
    for module in (tables, charts):
        for name in dir(module):
            if name.startswith(("show_", "plot_")):
                view = getattr(module, name)(voice)
                assert isinstance(view, ChartView | ListView | TableView)
                if isinstance(view, ChartView):
                    view.chart.to_dict()
                    shown.append(view.title)
                else:
                    shown.append(view._repr_mimebundle_()["text/html"])
    text = "\n".join(shown)
    assert (
        ">None<" not in text
        and " None " not in text
        and ">nan" not in text
        and " nan" not in text
        and "NaT" not in text
    )
    return text


@pytest.fixture(scope="module")
def sample() -> VoiceInvestigation:
    return investigate_voice(open_data(ROOT / "playbook.toml"))


def list_days(users: int, days: int, step: int = 1) -> list[str]:
    return [f"{u},{FIRST + dt.timedelta(days=d)},open" for d in range(0, days, step) for u in range(users)]


def ticket(number: int, user: int, day: int, category: str = "billing", closed: str = "") -> str:
    return f"{number},{user},{FIRST + dt.timedelta(days=day)},true,{category},{closed}"


def test_the_sample_is_calm_and_tells_of_may(sample: VoiceInvestigation) -> None:
    sentences = describe(sample)
    assert sentences[0].startswith("No crisis now: on 30 June 2026")
    assert sentences[1].startswith("From 19 to 21 May 2026, 227 complaints")
    assert "service delay" in sentences[1] and "the crisis rule fired on 21 May 2026" in sentences[1]
    assert 3 <= len(sentences) <= 5
    tell(sample)


def test_the_sample_draws_every_chart(sample: VoiceInvestigation) -> None:
    for name in charts.__all__:
        assert isinstance(getattr(charts, name)(sample), ChartView), name


def test_nothing_but_events(company: Company) -> None:  # noqa: F811
    text = tell(investigate_voice(company(events=(EVENTS, list_days(30, 40)))))
    assert "there is no table of tickets" in text and "needs surveys" in text and "Bring in tickets" in text


def test_no_complaint_at_all(company: Company) -> None:  # noqa: F811
    calm = [f"1,1,{FIRST},false,question,{FIRST + dt.timedelta(hours=2)}"]
    text = tell(investigate_voice(company(events=(EVENTS, list_days(30, 60)), tickets=(TICKETS, calm))))
    assert "No crisis: nobody complained" in text and "No ticket waits." in text


def test_one_ticket(company: Company) -> None:  # noqa: F811
    data = company(events=(EVENTS, list_days(30, 60)), tickets=(TICKETS, [ticket(1, 1, 58)]))
    text = tell(investigate_voice(data))
    assert "1 ticket waits" in text
    tell(investigate_voice(data, incident_on="2026-02-28"))


def test_all_tickets_open_and_surveys_too_few(company: Company) -> None:  # noqa: F811
    rows = [ticket(n, n % 30, n) for n in range(60)]
    answers = [f"{n},{FIRST},csat,{n % 5 + 1}" for n in range(5)]
    data = company(events=(EVENTS, list_days(30, 60)), tickets=(TICKETS, rows), surveys=(SURVEYS, answers))
    text = tell(investigate_voice(data))
    assert "59 tickets wait" in text and "not yet" in text


def test_days_without_anybody_active(company: Company) -> None:  # noqa: F811
    rows = [ticket(n, n, 2 * n + 1) for n in range(10)]
    tell(investigate_voice(company(events=(EVENTS, list_days(30, 60, step=2)), tickets=(TICKETS, rows))))


def test_one_day_and_one_user(company: Company) -> None:  # noqa: F811
    data = company(events=(EVENTS, [f"1,{FIRST},open"]), tickets=(TICKETS, [ticket(1, 1, 0)]))
    tell(investigate_voice(data))
    tell(investigate_voice(data, incident_on="2026-01-01"))


def test_hostile_categories_are_text(company: Company) -> None:  # noqa: F811
    rows = [ticket(n, n % 30, 40, HOSTILE) for n in range(20)]
    voice = investigate_voice(company(events=(EVENTS, list_days(100, 60)), tickets=(TICKETS, rows)))
    assert voice.incident is not None and voice.incident.category == HOSTILE
    html = "".join(
        getattr(tables, name)(voice)._repr_mimebundle_()["text/html"]
        for name in dir(tables)
        if name.startswith("show_")
    )
    assert "<img" not in html


def test_subscriptions_and_tickets_without_activity(company: Company) -> None:  # noqa: F811
    rows = [f"{n},{FIRST + dt.timedelta(days=n)}," for n in range(60)]
    data: Data = company(
        subscriptions=("user_id,started_at,ended_at", rows), tickets=(TICKETS, [ticket(n, n, n) for n in range(50)])
    )
    text = tell(investigate_voice(data, incident_on="2026-02-01"))
    assert "who was active" in text


def test_parameters_are_checked() -> None:
    assert check_parameters("55", {"times": 2}).times == 2  # type: ignore[attr-defined]
    for bad in ({"threshold_rate": 5.0}, {"times": 0}, {"days": -1}, {"incident_on": "May"}):
        with pytest.raises(Exception, match="55_voice_and_crisis"):
            check_parameters("55", bad)

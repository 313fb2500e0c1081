"""The daily watch: rules on a small company, what they open, and the sample company's incidents on their days."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from opslib.data.operations import RuleSettings
from opslib.data.source import Data, open_data
from opslib.decide.churn.investigation import ChurnInvestigation
from opslib.decide.crisis.investigation import investigate_voice
from opslib.decide.funnel.diagnosis import diagnose_funnel
from opslib.decide.growth.staying import measure_staying
from opslib.decide.scope import choose_scope
from opslib.decide.series import SeriesReader
from opslib.decide.watch.due import list_due
from opslib.decide.watch.investigations import fill_parameters
from opslib.decide.watch.watch import Watch, check_rule, watch_company
from opslib.errors import InputError
from opslib.parameters import DailyWatch, check_rules
from opslib.present.answers import describe, describe_scope, list_limits, suggest_actions
from opslib.present.watch import charts, tables
from opslib.run.chapters import Run
from opslib.run.watch import open_runs
from tests.decide.conftest import Company

ROOT = Path(__file__).resolve().parents[2]
FIRST = dt.date(2026, 1, 5)  # a Monday
DAYS = 70
QUIET = "\n".join(
    f'[[rules]]\nname = "{name}"\nenabled = false\n'
    for name in (
        "d7_below_25", "d1_below_20", "complaints_over_5", "churn_up_three_months", "satisfaction_below_85",
        "stickiness_below_target", "one_channel_over_half", "paying_rate_short", "dau_unusual", "new_users_unusual",
        "revenue_unusual", "complaints_unusual", "errors_unusual", "requests_unusual",
    )
)  # fmt: skip


def list_days(users: int = 40) -> Iterator[str]:
    """Everybody comes every day."""
    for n in range(DAYS):
        day = FIRST + dt.timedelta(n)
        for user in range(users):
            yield f"{user},{day} 23:30:00,open,"


def list_tickets(complaints: dict[int, int]) -> Iterator[str]:
    """Day number -> so many users complain."""
    for n, count in complaints.items():
        for user in range(count):
            yield f"{n}-{user},{user},{FIRST + dt.timedelta(n)} 13:00:00,service_delay,true,"


def make_company(company: Company, complaints: dict[int, int], more: str = "") -> Data:
    tables = {"events": ("user_id,ts,event,app_version", list_days())}
    if complaints:
        header = "ticket_id,user_id,opened_at,category,is_complaint,closed_at"
        tables["tickets"] = (header, list_tickets(complaints))
    return company(more=QUIET + more, **tables)


THREE_DAYS = """
[[rules]]
name = "complaints"
metric = "complaint_rate"
above = 0.05
times = 3
severity = "urgent"
owner = "Service"
steps = ["Apologise", "Trace"]
notebook = "55_voice_and_crisis"
parameters = { as_of = "{as_of}", incident_on = "{first_day}" }
"""


@pytest.mark.parametrize(
    ("complaints", "level"),
    [
        ({67: 4, 68: 4, 69: 4}, "red"),
        # Two of forty are 5%, which is not more than 5%.
        ({67: 2, 68: 2, 69: 2}, "green"),
        ({66: 4, 68: 4, 69: 4}, "green"),
    ],
)
def test_three_days_of_complaints_call_the_crisis_plan(
    company: Company, complaints: dict[int, int], level: str
) -> None:
    ordinary = dict.fromkeys((3, 11, 20, 28, 37, 44, 52, 58), 1)
    watch = watch_company(make_company(company, ordinary | complaints, THREE_DAYS))
    (result,) = watch.results
    assert result.level == level
    assert bool(watch.investigations) == (level == "red")
    if level == "red":
        (found,) = watch.investigations
        assert found.notebook == "55_voice_and_crisis"
        assert found.parameters == {"as_of": "2026-03-15", "incident_on": "2026-03-15"}
        assert found.rules == (("complaints", ""),)
        assert watch.changed.to_dict("records")[0]["what"] == "fired"
        assert suggest_actions(watch)[0] == "Complaints (Service): Apologise; Trace. Open 55_voice_and_crisis."


def test_an_alarm_ends_the_day_after(company: Company) -> None:
    data = make_company(company, dict.fromkeys((3, 11, 20, 28, 37, 44, 52, 58), 1) | {65: 4, 66: 4, 67: 4}, THREE_DAYS)
    fired = watch_company(data, as_of="2026-03-13")
    assert fired.results[0].level == "red" and fired.changed["what"].tolist() == ["fired"]
    ended = watch_company(data, as_of="2026-03-14")
    assert ended.results[0].level == "green" and ended.changed["what"].tolist() == ["ended"]
    assert "Over since yesterday: complaints." in describe(ended)
    quiet = watch_company(data, as_of="2026-03-15")
    assert quiet.changed.empty and "No rule has changed since yesterday." in describe(quiet)


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ('metric = "revenue_amount"\nbelow = 5', "orders"),
        ('metric = "error_rate"\nabove = 0.1', "traffic"),
        ('metric = "stickiness_rate"\nbelow = "target"', "no target for stickiness_rate"),
        ('metric = "dau_count"\nby = "chanel"\nbelow = 5', "chanel"),
        ('metric = "dau_count"\nsegment = "app_version:9"\nbelow = 5', "app_version"),
        ('metric = "d1_rate"\nbelow = 0.2\nminimum_users = 1000', "users"),
        ('metric = "event_rate"\nevent = "opne"\nbelow = 0.2', "opne"),
        ('metric = "funnel_rate"\nfunnel = "nosuch"\nbelow = 0.2', "nosuch"),
    ],
)
def test_a_rule_that_cannot_be_judged_says_so_and_is_not_green(company: Company, rule: str, words: str) -> None:
    watch = watch_company(make_company(company, {}, f'\n[[rules]]\nname = "mine"\n{rule}\n'))
    (result,) = watch.results
    assert result.level == "unknown"
    assert words in " ".join(list_limits(watch))
    assert "1 that cannot be judged" in describe(watch)[0]
    assert not watch.investigations


def test_a_company_without_rules_is_said_to_have_none(company: Company) -> None:
    watch = watch_company(make_company(company, {}))
    assert describe(watch)[0] == "The playbook has no rules, so nothing was watched."
    tell(watch)


def test_one_day_of_one_user(company: Company) -> None:
    watch = watch_company(company(events=("user_id,ts,event", ["1,2026-01-05 12:00:00,open"])))
    assert watch.count_levels()["red"] == 0
    assert all(result.level != "green" for result in watch.results)
    tell(watch)


def test_a_company_that_has_tickets_alone_is_watched(company: Company) -> None:
    counts = {n: 3 + n % 4 for n in range(DAYS)} | {66: 40}
    rows = [f"{n}-{i},{i},{FIRST + dt.timedelta(n)} 23:30:00,delay,true," for n, c in counts.items() for i in range(c)]
    data = company(tickets=("ticket_id,user_id,opened_at,category,is_complaint,closed_at", rows))
    assert data.fitness.verdict != "unfit"
    watch = watch_company(data, as_of=str(FIRST + dt.timedelta(66)))
    levels = {result.rule.name: result.level for result in watch.results}
    assert levels["complaints_unusual"] == "red"
    assert set(levels.values()) == {"red", "unknown"}
    tell(watch)


COMCAST = """
[company]
name = "Complaints"
[tables.tickets]
source = "SOURCE"
[tables.tickets.columns]
ticket_id = "Ticket #"
user_id = "Ticket #"
opened_at = { column = "Date", format = "%d-%m-%y", swapped_days = true }
is_complaint = { value = true }
"""


@pytest.mark.shared
def test_comcast_fires_in_june_and_never_before(tmp_path: Path, shared: Path) -> None:
    """Real complaints, of which every true day up to the 12th has day and month swapped in the file."""
    file = shared / "real" / "comcast_complaints" / "Comcast_telecom_complaints_data.csv"
    (tmp_path / "playbook.toml").write_text(COMCAST.replace("SOURCE", file.as_posix()), "utf-8")
    data = open_data(tmp_path / "playbook.toml")
    assert data.fitness.verdict == "fit"
    watch = watch_company(data, as_of="2015-06-24")
    (result,) = [r for r in watch.results if r.rule.name == "complaints_unusual"]
    assert result.level == "red"
    fired = result.firings.loc[result.firings["version"] == "verbatim", "fired_on"]
    assert [str(day)[:10] for day in fired] == ["2015-06-23"]


def test_hostile_names_stay_text(company: Company) -> None:
    name = "<script>alert(1)</script>"
    users = [f"{n},2026-01-05 00:00:00,{name}" for n in range(40)]
    more = '[[rules]]\nname = "mine"\nmetric = "dau_count"\nby = "channel"\nabove = 5\n'
    data = company(
        more=QUIET + more, events=("user_id,ts,event,x", list_days()), users=("user_id,signup_at,channel", users)
    )
    watch = watch_company(data)
    shown = tables.show_rules(watch)._repr_mimebundle_()
    bundle = shown[0] if isinstance(shown, tuple) else shown
    assert "<script>" not in bundle["text/html"] and "&lt;script&gt;" in bundle["text/html"]


def test_parameters_are_filled_in() -> None:
    rule = RuleSettings(
        name="r", metric="d1_rate", by="channel", below=0.2,
        parameters={"as_of": "{as_of}", "segment": "{segment}", "days": "{days}", "note": "{first_day}", "step": 2},
    )  # fmt: skip
    filled = fill_parameters(rule, "ads", as_of=dt.date(2026, 6, 30), first_day=dt.date(2026, 6, 1))
    assert filled == {
        "as_of": "2026-06-30", "segment": "channel:ads", "days": 30, "note": "2026-06-01", "step": 2,
    }  # fmt: skip
    assert fill_parameters(rule, "", as_of=dt.date(2026, 6, 30), first_day=dt.date(2026, 6, 29))["days"] == 14


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ('notebook = "30_churn"', "Rule mine: There is no notebook '30_churn'. The notebooks are"),
        ('notebook = "30_churn_investigation"\nparameters = { asof = "x" }', "'asof'. Did you mean 'as_of'"),
    ],
)  # fmt: skip
def test_a_rule_that_opens_nothing_there_is_is_refused(company: Company, more: str, words: str) -> None:
    rule = f'\n[[rules]]\nname = "mine"\nmetric = "dau_count"\nbelow = 5\n{more}\n'
    data = make_company(company, {}, rule)
    with pytest.raises(InputError) as refused:
        check_rules(data.playbook)
    assert words in str(refused.value)


def test_runs_get_names_of_their_own_and_reasons(company: Company) -> None:
    data = make_company(company, {}, THREE_DAYS)
    head = {"name": "investigation", "notebook": "30_churn_investigation", "rules": [["complaints", ""]]}
    findings = [head | {"parameters": {"as_of": day}} for day in ("2026-03-10", "2026-03-11", "2031-01-01")]
    run = Run("50_daily_watch", DailyWatch())
    opening = open_runs(run, [{"name": "rule"}, *findings], data, folder=ROOT / "notebooks")
    assert [run.name for run in opening.runs] == ["30_churn_investigation", "30_churn_investigation-2"]
    assert opening.runs[0].reason.startswith("Complaints: ")
    # The last one lies outside the data, so it is not run, and it is said why.
    (problem,) = opening.problems
    assert problem.startswith("Churn investigation, for complaints: as_of 2031-01-01 ")


def tell(watch: Watch) -> None:
    """Everything that is said and drawn of a watch."""
    assert describe_scope(watch) and describe(watch) and list_limits(watch) and suggest_actions(watch)
    for view in (tables.show_rules(watch), tables.show_numbers(watch), tables.show_openings(watch)):
        view._repr_mimebundle_()
    charts.plot_numbers(watch)._repr_mimebundle_()
    assert watch.findings() or not watch.results


@pytest.fixture(scope="module")
def sample() -> Data:
    return open_data(ROOT / "playbook.toml")


# Incident of truth.json -> the rule that is to find it, its group, and the first day on which it must fire.
INCIDENTS = {
    "d1_drop": ("d1_falls", "", "2026-04-06", "2026-05-31"),
    "checkout_bug": ("checkout_falls", "", "2026-05-18", "2026-05-18"),
    "coupon_churn": ("churn_up_three_months", "", "2026-06-30", "2026-06-30"),
    "complaint_wave": ("complaints_over_5", "", "2026-05-21", "2026-05-21"),
    "budget_shift": ("kept_user_costs_more", "social", "2026-05-07", "2026-05-07"),
    "surge_day": ("errors_unusual", "", "2026-06-18", "2026-06-18"),
    "june_sale": ("revenue_unusual", "", "2026-06-05", "2026-06-05"),
}


@pytest.mark.parametrize("incident", INCIDENTS)
def test_every_incident_raises_its_rule_in_time(sample: Data, incident: str) -> None:
    name, group, first, last = INCIDENTS[incident]
    scope = choose_scope(sample)
    (rule,) = [rule for rule in sample.playbook.rules if rule.name == name]
    result = check_rule(rule, SeriesReader(sample, as_of=scope.as_of), scope)
    firings = result.firings[(result.firings["version"] == "verbatim") & (result.firings["group"] == group)]
    days = [str(day)[:10] for day in firings["fired_on"]]
    assert any(first <= day <= last for day in days), days


def test_a_day_is_judged_as_on_its_evening(sample: Data) -> None:
    watch = watch_company(sample, as_of="2026-05-21")
    levels = {result.rule.name: result.level for result in watch.results}
    assert {n for n, level in levels.items() if level == "red"} >= {"complaints_over_5", "checkout_falls"}
    opened = {(found.notebook, *found.rules[0]) for found in watch.investigations}
    assert ("55_voice_and_crisis", "complaints_over_5", "") in opened
    assert ("20_funnel_diagnosis", "checkout_falls", "") in opened
    tell(watch)


def fill(sample: Data, name: str, as_of: str) -> dict[str, Any]:
    """The parameters that a firing rule of the sample gives its notebook on a day."""
    watch = watch_company(sample, as_of=as_of)
    (found,) = [i for i in watch.investigations if (name, "") in i.rules]
    return found.parameters


def test_the_funnel_that_a_rule_opens_names_the_broken_version(sample: Data) -> None:
    found = diagnose_funnel(sample, **fill(sample, "checkout_falls", "2026-05-18"))
    assert found.culprit is not None
    assert found.culprit.segment == {"app_version": "5.3.0", "platform": "android"}


def test_the_growth_model_that_a_rule_opens_names_the_channel_and_platform(sample: Data) -> None:
    scope = choose_scope(sample, **fill(sample, "d1_falls", "2026-05-25"))
    explanation = measure_staying(scope).explanation
    assert explanation is not None
    clearest = explanation.segments.sort_values(["q_value", "p_value"]).iloc[0]
    assert clearest["segment"] == "channel=paid_ads & platform=android" and clearest["q_value"] < 0.05


def test_the_churn_that_a_rule_opens_names_the_coupon(sample: Data, sample_churn: ChurnInvestigation) -> None:
    assert fill(sample, "churn_up_three_months", "2026-06-30") == {"as_of": "2026-06-30"}
    assert sample_churn.reasons is not None
    assert "coupon" in str(sample_churn.reasons.causes.named["reason"].iloc[0])


def test_the_crisis_that_a_rule_opens_names_the_category(sample: Data) -> None:
    voice = investigate_voice(sample, **fill(sample, "complaints_over_5", "2026-05-21"))
    assert voice.in_crisis and voice.incident is not None
    text = " ".join(describe(voice))
    assert "service delay" in text and "From 19 to 21 May 2026" in text


def test_an_experiment_that_ended_is_due(sample: Data) -> None:
    due = list_due(choose_scope(sample, as_of="2026-03-16"))
    assert due.loc[due["what"] == "experiment", "name"].tolist() == ["onboarding_checklist"]
    assert list_due(choose_scope(sample, as_of="2026-03-10")).empty

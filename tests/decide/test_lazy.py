"""Investigations compute a part when it is asked for, and again only when an option that it depends on changes."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

import pytest

from opslib.data.source import Data, open_data
from opslib.decide.churn import leaving, reasons, recall, worth
from opslib.decide.churn.investigation import investigate_churn
from opslib.decide.crisis import hearing, incident, market, timeline
from opslib.decide.crisis.investigation import investigate_voice
from opslib.decide.funnel.diagnosis import diagnose_funnel
from opslib.decide.growth.model import model_growth
from opslib.decide.review import budget, measures, operations, outlook, review
from opslib.decide.review.review import review_quarter
from opslib.decide.series.view import View
from opslib.decide.watch import watch
from opslib.decide.watch.watch import watch_company
from opslib.errors import InputError
from tests.conftest import ROOT

SEGMENT = "channel:search"
Investigate = Callable[..., Any]
# What takes the time: module of the caller -> functions that measure.
STAGES: dict[Any, tuple[str, ...]] = {
    leaving: ("define_churn", "measure_churn", "measure_survival"),
    reasons: ("choose_cases", "find_causes", "check_expiry"),
    recall: ("gather_candidates", "plan_candidates", "measure_recall", "measure_uplift"),
    worth: (
        "measure_rfm", "measure_rfm_migration", "measure_concentration", "measure_segment_value",
        "check_purchase_model",
    ),
    hearing: ("measure_complaints", "measure_tickets", "measure_satisfaction"),
    incident: ("explain_change",),
    timeline: ("expect_values",),
    market: ("difference_in_differences",),
    measures: ("measure_activity", "measure_retention", "measure_acquisition", "measure_revenue"),
    budget: ("measure_channels", "measure_budget_shift", "measure_lifetime_value"),
    outlook: ("measure_state_rates",),
    review: ("account_growth", "measure_bridge"),
    operations: ("judge_initiatives",),
    watch: ("evaluate_rule",),
}  # fmt: skip


@pytest.fixture(scope="module")
def kept() -> Data:
    """The sample company, with what other tests computed of it."""
    return open_data(ROOT / "playbook.toml")


@pytest.fixture
def data(kept: Data) -> Data:
    """The sample company with nothing remembered."""
    fresh = open_data(kept.playbook)
    vars(fresh)["fitness"] = kept.fitness
    return fresh


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The stages that were computed, in order."""
    names: list[str] = []

    def count(name: str, compute: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **kwargs: Any) -> Any:
            names.append(name)
            return compute(*args, **kwargs)

        return counted

    for module, stages in STAGES.items():
        for name in stages:
            monkeypatch.setattr(module, name, count(name, getattr(module, name)))
    monkeypatch.setattr(View, "read", count("read", View.read))
    return names


def say(result: Any) -> str:
    return json.dumps(result.findings(), sort_keys=True, default=str)


@pytest.mark.parametrize(
    "investigate", [investigate_churn, review_quarter, watch_company, investigate_voice, model_growth, diagnose_funnel]
)
@pytest.mark.parametrize("segment", [SEGMENT, "platform:ios"])
def test_every_notebook_can_look_at_a_segment(kept: Data, investigate: Investigate, segment: str) -> None:
    findings = investigate(kept, segment=segment).findings()
    assert findings
    json.dumps(findings, allow_nan=False)


@pytest.mark.parametrize(
    ("investigate", "first"),
    [(investigate_churn, ["define_churn"]), (review_quarter, []), (watch_company, []), (investigate_voice, [])],
)
def test_nothing_is_computed_before_it_is_asked_for(
    data: Data, asked: list[str], investigate: Investigate, first: list[str]
) -> None:
    investigate(data)
    assert asked == first


def test_a_part_of_churn_computes_no_other(data: Data, asked: list[str]) -> None:
    churn = investigate_churn(data)
    asked.clear()
    assert churn.leaving.churn is not None
    assert asked == ["measure_churn"]
    asked.clear()
    assert churn.worth is not None and churn.worth.rfm is not None
    assert asked == ["measure_rfm"]
    asked.clear()
    assert churn.recall is not None and churn.recall.plan is not None
    assert asked == ["gather_candidates", "plan_candidates"]


def test_a_part_of_the_review_computes_no_other(data: Data, asked: list[str]) -> None:
    found = review_quarter(data)
    assert found.bridge is not None and asked == ["measure_bridge"]
    asked.clear()
    assert len(found.growth.periods) and asked == ["account_growth"]
    asked.clear()
    assert found.targets and set(asked) == set(STAGES[measures])


def test_a_part_of_the_watch_and_of_the_voice_computes_no_other(data: Data, asked: list[str]) -> None:
    assert watch_company(data).numbers and set(asked) == {"read"}
    asked.clear()
    assert investigate_voice(data).voice.tickets is not None
    assert set(asked) <= {"measure_tickets", "read", "expect_values"}


@pytest.mark.parametrize(
    ("options", "computed"),
    [
        ({"budget_amount": 50.0}, {"plan_candidates"}),
        ({"breakdown": "platform"}, {"measure_churn", "measure_survival"}),
        ({"signup_node_days": 3}, {"measure_survival"}),
        ({"payment_node_days": 14}, {"measure_survival"}),
    ],
)
def test_an_option_of_churn_computes_what_depends_on_it(
    kept: Data, asked: list[str], options: dict[str, Any], computed: set[str]
) -> None:
    investigate_churn(kept).findings()
    asked.clear()
    investigate_churn(kept, **options).findings()
    assert set(asked) == computed
    asked.clear()
    investigate_churn(kept).findings()
    assert not asked


@pytest.mark.parametrize("options", [{"threshold_rate": 0.045}, {"times": 2}])
def test_a_rule_of_complaints_counts_no_complaint_again(kept: Data, asked: list[str], options: dict[str, Any]) -> None:
    before = investigate_voice(kept)
    before.findings()
    asked.clear()
    after = investigate_voice(kept, **options)
    after.findings()
    assert before.incident is not None and after.incident is not None
    assert before.incident.period == after.incident.period and not asked


def test_another_incident_leaves_what_users_say(kept: Data, asked: list[str]) -> None:
    investigate_voice(kept).findings()
    asked.clear()
    investigate_voice(kept, incident_on="2026-04-10").findings()
    assert {"measure_tickets", "measure_satisfaction"} & set(asked) <= {"measure_satisfaction"}
    assert asked.count("measure_satisfaction") == 1 and "difference_in_differences" not in asked


def test_another_quarter_to_compare_with_measures_that_quarter_alone(kept: Data, asked: list[str]) -> None:
    review_quarter(kept).findings()
    asked.clear()
    review_quarter(kept, compare_to="2025Q3").findings()
    assert asked.count("measure_activity") == 1 and asked.count("measure_channels") == 1
    assert not {"account_growth", "measure_state_rates", "judge_initiatives", "evaluate_rule", "read"} & set(asked)


def test_the_review_uses_what_the_watch_of_its_last_day_read(data: Data, asked: list[str]) -> None:
    found = review_quarter(data)
    watch_company(data, as_of=found.period.last_day.isoformat()).findings()
    asked.clear()
    assert len(found.operations.firings)
    assert not {"evaluate_rule", "read"} & set(asked)


@pytest.mark.parametrize(
    ("investigate", "options"),
    [
        (investigate_churn, {"segment": SEGMENT, "inactive_days": 20, "budget_amount": 80.0}),
        (investigate_voice, {"segment": SEGMENT, "threshold_rate": 0.02, "days": 28}),
        (review_quarter, {"compare_to": "2025Q3", "segment": SEGMENT}),
        (watch_company, {"segment": SEGMENT}),
    ],
)
def test_what_is_remembered_is_what_would_be_computed(
    kept: Data, data: Data, investigate: Investigate, options: dict[str, Any]
) -> None:
    fresh = say(investigate(data, **options))
    order = random.Random(7)
    # One option after the other on the way there, the parts in any order.
    for count in (*range(len(options) + 1), 0, len(options)):
        result = investigate(kept, **dict([*options.items()][:count]))
        parts = [name for name in dir(result) if not name.startswith("_") and name != "findings"]
        for name in order.sample(parts, len(parts)):
            getattr(result, name)
    assert say(result) == fresh


@pytest.mark.parametrize(
    ("investigate", "options", "message"),
    [
        (investigate_churn, {"as_of": "1999-01-01"}, "lies outside the data"),
        (investigate_churn, {"segment": "channel:serch"}, "nobody has channel"),
        (investigate_churn, {"definition": "silence"}, "definition 'silence'"),
        (investigate_churn, {"breakdown": "plattform"}, "no such column"),
        (investigate_churn, {"experiment": "nothing"}, "No campaign 'nothing'"),
        (investigate_churn, {"return_rate": 2.0}, "must lie between 0 and 1"),
        (investigate_churn, {"inactive_days": -3}, "at least one day"),
        (investigate_churn, {"budget_amount": -1.0}, "is below 0"),
        (investigate_churn, {"payment_node_days": -1}, "give 0 or more"),
        (investigate_voice, {"incident_on": "1999-01-01"}, "lies outside the days known"),
        (investigate_voice, {"incident_on": "soon"}, "incident_on"),
        (investigate_voice, {"threshold_rate": 5.0}, "is no share"),
        (review_quarter, {"quarter": "1999Q1"}, "lies outside the data"),
        (review_quarter, {"segment": "channel:serch"}, "nobody has channel"),
        (watch_company, {"as_of": "1999-01-01"}, "lies outside the data"),
    ],
)
def test_a_mistake_is_said_at_once(kept: Data, investigate: Investigate, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        investigate(kept, **options)


def test_mistakes_in_the_playbook_are_said_at_once(kept: Data) -> None:
    playbook = kept.playbook
    started = next(i for i in playbook.initiatives if kept.span.start < i.start <= kept.as_of)
    wrong = started.model_copy(update={"segment": "channel:serch"})
    data = open_data(playbook.model_copy(update={"initiatives": (wrong,)}))
    with pytest.raises(InputError, match=f"Initiative '{started.name}'.*nobody has channel"):
        review_quarter(data)

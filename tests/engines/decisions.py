"""What engines are asked: every decision as a whole. `DECISIONS` holds functions `Data -> result`, by name."""

from __future__ import annotations

from typing import Any

from opslib.data.source import Data
from opslib.decide.churn.investigation import investigate_churn
from opslib.decide.churn.recall import plan_list
from opslib.decide.crisis.investigation import investigate_voice
from opslib.decide.funnel.diagnosis import diagnose_funnel
from opslib.decide.growth.model import model_growth
from opslib.decide.questions import survey_data
from opslib.decide.review.review import review_quarter
from opslib.decide.scope import choose_scope
from opslib.decide.verdicts.verdict import judge_initiatives
from opslib.decide.watch.watch import watch_company
from tests.engines.answers import Ask

DECISIONS: dict[str, Ask] = {}


def decision(ask: Ask) -> Ask:
    """Register a whole investigation."""
    DECISIONS[ask.__name__] = ask
    return ask


@decision
def what_the_data_hold(data: Data) -> Any:
    return [data.fitness, survey_data(data), data.span]


@decision
def growth_model(data: Data) -> Any:
    return model_growth(data)


@decision
def growth_model_of_a_segment(data: Data) -> Any:
    return model_growth(data, segment="channel:search", grain="month")


@decision
def funnel_diagnosis(data: Data) -> Any:
    return diagnose_funnel(data)


@decision
def churn_investigation(data: Data) -> Any:
    return investigate_churn(data, budget_amount=200.0)


@decision
def crisis(data: Data) -> Any:
    return investigate_voice(data)


@decision
def quarterly_review(data: Data) -> Any:
    return review_quarter(data)


@decision
def daily_watch(data: Data) -> Any:
    return watch_company(data)


@decision
def verdicts(data: Data) -> Any:
    return judge_initiatives(data)


@decision
def win_back(data: Data) -> Any:
    return plan_list(choose_scope(data), 30, budget_amount=200.0)

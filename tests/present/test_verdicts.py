"""Verdicts in words, tables and charts: every number with its users, every weakness said, names of the data as text."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from typing import Any

import pandas as pd
import pytest

from opslib.data.operations import InitiativeSettings, KillRule
from opslib.decide.verdicts.forecasts import review_forecasts
from opslib.decide.verdicts.looks import Look
from opslib.decide.verdicts.verdict import KillState, Verdict
from opslib.measure.counterfactual.differences import difference_in_differences
from opslib.measure.estimate import Estimate, estimate_rate
from opslib.present.display import CHART_MIME, ChartView, ListView, TableView
from opslib.present.verdicts import charts, tables, words
from opslib.present.words import describe, list_limits, suggest_actions

HOSTILE = "<script>alert(1)</script>"
REASONS = {
    "effective": ["core_improved"],
    "not effective": ["core_worse", "gain_too_small", "no_clear_effect", "vetoed", "contradicted"],
    "not enough data": ["not_started", "unknown", "immature", "unclear", "descriptive_only"],
}


def look(role: str = "core", **more: Any) -> Look:
    given: dict[str, Any] = {
        "role": role, "metric": "d1_rate", "unit": "rate", "strength": "experiment", "effect": 0.069, "low": 0.03,
        "high": 0.108, "p_value": 0.0004, "adjusted_p_value": 0.0004, "direction": "better", "per_user": True,
        "with_it": estimate_rate("d1_rate", 510, 1234), "without_it": estimate_rate("d1_rate", 427, 1240),
        "window_days": 2, "users_count": 1234,
    }  # fmt: skip
    return Look(**{**given, **more})


def verdict(*looks: Look, answer: str = "effective", reason: str = "core_improved", **more: Any) -> Verdict:
    settings = {"name": "Onboarding checklist", "owner": "Growth", "metric": "d1_rate", "start": dt.date(2026, 1, 5)}
    item = InitiativeSettings.model_validate({**settings, **more.pop("settings", {})})
    shown = looks or (look(),)
    return Verdict(item, dt.date(2026, 6, 30), answer, reason, shown[0], shown, currency="CNY", **more)  # type: ignore[arg-type]


def list_cases() -> Iterator[Verdict]:
    """Every answer and reason, by each kind of evidence, known and not."""
    for answer, reasons in REASONS.items():
        for reason in reasons:
            for strength in words.STRENGTHS:
                guard = look("guardrail", metric="complaint_rate", direction="worse", strength=strength)
                behaviour = look("behaviour", metric="orders_count", unit="ratio", direction="unclear")
                core = look(strength=strength, why_not=("No experiment is named.",), notes=("Too few.",), worth=0.01)
                marks = {"vetoed_by": ("complaint_rate",)} if reason == "vetoed" else {}
                marks |= {"contradicted_by": ("orders_count",)} if reason == "contradicted" else {}
                yield verdict(core, behaviour, guard, answer=answer, reason=reason, **marks)
        unknown = look(
            effect=None, low=None, high=None, p_value=None, direction="unknown", with_it=None, without_it=None
        )
        yield verdict(unknown, answer="not enough data", reason="unknown")


def test_the_sentence_of_an_experiment() -> None:
    stays = look("behaviour", metric="d7_rate", direction="unclear")
    guard = look("guardrail", metric="complaint_rate", direction="unclear")
    assert describe(verdict(look(), stays, guard)) == [
        "Onboarding checklist: effective. Next-day retention 41.3% of 1,234 users with it, 34.4% of 1,240 users "
        "without: +6.9 points [3.0 to 10.8] (experiment).",
        "Behaviour: day-7 retention not clear.",
        "No guardrail is clearly worse.",
    ]


def test_before_and_after_is_always_called_so() -> None:
    core = look(strength="before/after only", per_user=False, why_not=("No experiment is named.",))
    told = verdict(core, answer="not enough data", reason="descriptive_only")
    sentences = " ".join(describe(told))
    assert "before and after only, so it may have other reasons" in sentences
    assert "prove nothing" in sentences
    assert "by lot" in suggest_actions(told)[0]
    assert list_limits(told) == ["Next-day retention: No experiment is named."]


def test_every_case_has_its_words_in_one_to_three_sentences() -> None:
    for case in list_cases():
        found = describe(case)
        assert 1 <= len(found) <= 3
        text = " ".join([*found, *suggest_actions(case), *list_limits(case)])
        assert case.verdict in text
        assert "None" not in text
        assert "nan" not in text
        assert "_" not in text.replace("complaint_rate", "_")
        if case.reason == "vetoed":
            assert "vetoes it" in text
        elif case.reason != "vetoed" and any(k.role == "guardrail" for k in case.looks):
            assert "Guardrails: share who complained" in text


def test_a_kill_rule_says_give_up() -> None:
    value = estimate_rate("d7_rate", 146, 1000)
    kill = KillState(KillRule(metric="d7_rate", below=0.18), dt.date(2026, 6, 1), value, True, True)
    told = suggest_actions(verdict(answer="not effective", reason="core_worse", kill=kill, remedies=("ask why",)))
    assert told == [
        "Growth: Onboarding checklist. Give up now: day-7 retention is 14.6% [12.5% to 16.9%], below 18.0%.",
        "Ask why.",
    ]  # fmt: skip


def test_money_and_counts_carry_their_units() -> None:
    money = look(metric="revenue_amount", unit="amount", effect=2.2, low=0.9, high=3.6)
    assert words.format_effect(money, currency="CNY") == "CNY +2.20 a user [0.90 to 3.60]"
    daily = look(metric="new_users_count", unit="count", per_user=False, effect=3.64, low=0.33, high=6.1)
    assert words.format_effect(daily) == "+3.64 a day [0.33 to 6.10]"
    answers = look(metric="satisfaction_rate", with_it=Estimate("s", 0.8, 80, 100, 0.7, 0.9, "x", "rate"))
    assert words.format_side(answers.with_it, answers) == "80.0% of 100 answers"


def test_the_register_in_words_and_table() -> None:
    finished = [verdict(status="due", settings={"name": f"P{i}", "expected_change": 0.1}) for i in range(5)]
    review = review_forecasts(finished)
    assert describe(review)[-1] == "As a rule 31% less came than was promised, within chance."
    few = review_forecasts(finished[:2])
    assert describe(few)[-1] == "Too few finished forecasts to judge: 2, at least 5 needed."
    frame = tables.show_register(few, currency="CNY").frame  # type: ignore[union-attr]
    assert frame["promised"].tolist() == ["+10.0", "+10.0"]
    assert frame["came"].tolist() == ["+6.9 [3.0 to 10.8]"] * 2
    assert suggest_actions(few)[0].startswith("Growth: decide on P0")
    assert isinstance(tables.show_register(review_forecasts([])), ListView)
    assert describe(review_forecasts([])) == ["The register holds no initiative."]


def test_tables_and_charts_of_every_case() -> None:
    cases = list(list_cases())
    view = tables.show_looks(cases)
    assert isinstance(view, TableView)
    assert len(view.frame) == sum(len(c.looks) for c in cases)
    assert isinstance(charts.plot_effects(cases[0]), ChartView)
    assert isinstance(charts.plot_effects([cases[-1]]), ListView)
    assert isinstance(charts.plot_path(cases[0]), ListView)
    assert isinstance(tables.show_looks([]), ListView)


def test_the_path_shows_both_sides() -> None:
    days = pd.date_range("2026-01-01", periods=84)
    frame = pd.DataFrame({"period_start": days, "value": range(84)})
    found = difference_in_differences(frame, frame, start=dt.date(2026, 2, 26), metric="d1_rate", unit="rate")
    view = charts.plot_path(verdict(look(result=found, strength="difference in differences")))
    assert isinstance(view, ChartView)
    bundle: Any = view._repr_mimebundle_()
    bundle = bundle[0] if isinstance(bundle, tuple) else bundle
    assert len(bundle[CHART_MIME]["rows"]) == 24


def test_names_of_the_data_are_text(monkeypatch: pytest.MonkeyPatch) -> None:
    told = verdict(settings={"name": HOSTILE, "owner": HOSTILE})
    for view in (tables.show_looks(told), tables.show_register(review_forecasts([told]))):
        page: Any = view._repr_mimebundle_()
        page = (page[0] if isinstance(page, tuple) else page)["text/html"]
        assert "<script" not in page.lower()
    bundle: Any = charts.plot_effects([told])._repr_mimebundle_()
    bundle = bundle[0] if isinstance(bundle, tuple) else bundle
    assert HOSTILE in {cell for row in bundle[CHART_MIME]["rows"] for cell in row}

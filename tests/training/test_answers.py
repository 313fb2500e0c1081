"""Kinds of answers: what is right, what is wrong and why, and what cannot be read."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opslib.training.answers import Choice, Decision, Group, Number, Option, Sentence, score_confidence
from opslib.training.judgement import Mistake

D7 = Number(22.6, 0.2, "%", (Mistake(20.7, "immature"), Mistake(30.8, "another day")))
STEP = Choice((Option("cart", "Cart", "hardly moved"), Option("pay", "Payment"), Option("all", "All", "no")))
WHO = Group(
    {"channel": "ads", "platform": "ios"},
    {"channel": ["ads", "social"], "platform": ["ios", "android"]},
    (Mistake({"channel": "social"}, "they stayed"),),
)
TOLD = Sentence(
    "{what} fell because {why}.", {"what": STEP, "why": Choice((Option("a", "A"), Option("b", "B", "not b")))}
)


@pytest.mark.parametrize(
    ("answer", "status", "reason"),
    [
        (22.6, "right", ""),
        ("22.8%", "right", ""),
        (22.81, "wrong", "Near"),
        (20.6, "wrong", "immature"),
        ("30.8 %", "wrong", "another day"),
        (0.226, "wrong", "unit"),
        (-22.6, "wrong", "direction"),
        (400, "wrong", "Far off"),
        ("many", "error", "Give a number"),
        ("", "error", "Give a number"),
        (True, "error", "Give a number"),
        (math.nan, "error", "Give a number"),
    ],
)
def test_number(answer: object, status: str, reason: str) -> None:
    judged = D7.judge(answer)
    assert judged.status == status
    assert reason in judged.reason


@given(st.floats(-1e6, 1e6), st.floats(0.001, 10))
def test_a_number_is_right_within_its_tolerance_alone(right: float, tolerance: float) -> None:
    number = Number(right, tolerance, "CNY")
    assert number.judge(right + 0.99 * tolerance).status == "right"
    assert number.judge(right + 1.01 * tolerance + 1e-9).status == "wrong"


@pytest.mark.parametrize(
    ("answer", "status"),
    [("pay", "right"), ("B", "right"), ("b ", "right"), ("Payment", "right"), ("A", "wrong"), ("x", "error")],
)
def test_choice(answer: str, status: str) -> None:
    assert STEP.judge(answer).status == status


def test_choice_tells_what_its_option_overlooks() -> None:
    assert STEP.judge("cart").reason == "hardly moved"


@pytest.mark.parametrize(
    ("answer", "status", "reason"),
    [
        ({"platform": "ios", "channel": "ads"}, "right", ""),
        ("channel:ads platform:ios", "right", ""),
        ("platform:ios", "wrong", "too wide"),
        ({"channel": "social"}, "wrong", "they stayed"),
        ("channel:ads platform:android", "wrong", "Half of it"),
        ("platform:android", "wrong", "no more than the others"),
        ("city:x", "error", "channel or platform"),
        ("", "error", "column:value"),
    ],
)
def test_group(answer: object, status: str, reason: str) -> None:
    judged = WHO.judge(answer)
    assert judged.status == status
    assert reason in judged.reason


def test_group_that_is_too_narrow() -> None:
    wide = Group({"channel": "ads"}, WHO.values)
    assert "Too narrow" in wide.judge({"channel": "ads", "platform": "ios"}).reason


def test_sentence() -> None:
    assert TOLD.judge(TOLD.right).status == "right"
    assert TOLD.judge(["pay", "b"]).reason == "not b"
    assert TOLD.judge(["pay"]).status == "error"
    assert TOLD.judge("pay").status == "error"
    assert TOLD.write(TOLD.right) == "Payment fell because A."
    assert len(TOLD.mistakes) == 3
    assert all(TOLD.judge(m.answer).reason == m.reason for m in TOLD.mistakes)


def test_decision_needs_a_confidence() -> None:
    decision = Decision(STEP)
    assert decision.judge(("pay", 0.7)).status == "right"
    assert decision.judge(("pay", 70)).status == "right"
    for answer in ("pay", ("pay", 0.3), ("pay", None), ("pay", 1000)):
        assert decision.judge(answer).status == "error"


@given(st.floats(0.5, 1))
def test_confidence_is_scored_best_when_it_is_true(rate: float) -> None:
    """Brier's score is proper: over many decisions right at a rate, saying that rate loses least."""

    def expect(said: float) -> float:
        return rate * score_confidence(said, right=True) + (1 - rate) * score_confidence(said, right=False)

    assert all(expect(rate) <= expect(said) + 1e-5 for said in (0.5, 0.6, 0.7, 0.8, 0.9, 1.0))

"""Every lesson: its answers, its mistakes, its hints, in both languages; and that it can be worked through."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from opslib.data.source import Data, open_data
from opslib.errors import InputError
from opslib.language import speak
from opslib.training.answers import Choice, Decision, Group, Number, Sentence
from opslib.training.curriculum import LESSONS, TRACKS, find_lesson
from opslib.training.plan import LessonPlan, Look, Question

ROOT = Path(__file__).resolve().parents[2]
CHINESE = re.compile(r"[\u4e00-\u9fff]")


@pytest.fixture(scope="module")
def data() -> Data:
    return open_data(ROOT / "playbook.toml")


@pytest.fixture(scope="module")
def plans(data: Data) -> dict[tuple[str, str], LessonPlan]:
    made = {}
    for name in LESSONS:
        for language in ("en", "zh"):
            with speak(language):
                made[name, language] = find_lesson(name)(data)
    return made


def list_questions(plan: LessonPlan) -> Iterator[tuple[str, Question]]:
    yield from plan.questions.items()


def list_texts(plan: LessonPlan) -> list[str]:
    """Every text of a lesson that is written for it."""
    texts = [plan.title, *plan.situation, *plan.closing]
    for step in plan.steps.values():
        texts += step.text
        if isinstance(step, Question):
            texts += [*step.hints, *step.solution, *(mistake.reason for mistake in step.answer.mistakes)]
    return texts


def write_forms(answer: Any) -> list[str]:
    """How the right answer may be written."""
    if isinstance(answer, Number):
        size = abs(answer.right)
        return [f"{size:.{digits}f}" for digits in range(1, 4)] + [f"{size:,.0f}"]
    if isinstance(answer, Group):
        return list(answer.right.values())
    if isinstance(answer, Sentence):
        return [choice.write(choice.right) for choice in answer.gaps.values()]
    choice = answer.choice if isinstance(answer, Decision) else answer
    assert isinstance(choice, Choice)
    return [choice.write(choice.right)]


@pytest.mark.parametrize("name", LESSONS)
class TestLesson:
    def test_right_answers_pass(self, name: str, plans) -> None:  # type: ignore[no-untyped-def]
        for _, question in list_questions(plans[name, "en"]):
            assert question.answer.judge(question.answer.right).status == "right"

    def test_plausible_mistakes_fail_for_their_own_reason(self, name: str, plans) -> None:  # type: ignore[no-untyped-def]
        for asked, question in list_questions(plans[name, "en"]):
            mistakes = question.answer.mistakes
            assert len(mistakes) >= 3, asked
            for mistake in mistakes:
                judged = question.answer.judge(mistake.answer)
                assert (judged.status, judged.reason) == ("wrong", mistake.reason), asked

    def test_hints_and_reasons_do_not_give_the_answer(self, name: str, plans) -> None:  # type: ignore[no-untyped-def]
        for language in ("en", "zh"):
            for asked, question in list_questions(plans[name, language]):
                told = [*question.hints, *(mistake.reason for mistake in question.answer.mistakes)]
                assert len(question.hints) >= 2
                for form in write_forms(question.answer):
                    assert not [text for text in told if re.search(rf"(?<![\w.]){re.escape(form)}(?![\w.])", text)], (
                        asked
                    )

    def test_both_languages_ask_the_same(self, name: str, plans) -> None:  # type: ignore[no-untyped-def]
        english, chinese = plans[name, "en"], plans[name, "zh"]
        assert list(english.steps) == list(chinese.steps)
        for asked, question in list_questions(english):
            other = chinese.questions[asked]
            assert type(question.answer) is type(other.answer)
            assert question.answer.right == other.answer.right
            assert len(question.hints) == len(other.hints)
            assert [m.answer for m in question.answer.mistakes] == [m.answer for m in other.answer.mistakes]
        assert len(list_texts(english)) == len(list_texts(chinese))
        assert not [text for text in list_texts(chinese) if not CHINESE.search(text)]
        assert not [text for text in list_texts(english) if CHINESE.search(text)]

    def test_has_something_to_look_at_and_a_decision_last(self, name: str, plans) -> None:  # type: ignore[no-untyped-def]
        plan = plans[name, "en"]
        assert 3 <= len(plan.questions) <= 6
        assert 20 <= plan.minutes <= 60
        assert isinstance(list(plan.questions.values())[-1].answer, Decision)
        assert isinstance(next(iter(plan.steps.values())), Look)


def test_tracks_are_those_of_the_handbook() -> None:
    assert [track.time for track in TRACKS] == ["30 days", "6 weeks", "3 months"]
    assert len(set(LESSONS)) == len(LESSONS)


def test_unknown_lesson_is_refused_with_the_nearest() -> None:
    with pytest.raises(InputError, match="Did you mean 'read_a_funnel'"):
        find_lesson("read_funnel")

"""Progress is kept question by question, survives a restart, and is never half written."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from opslib.errors import InputError
from opslib.training.answers import Choice, Decision, Number, Option
from opslib.training.judgement import Mistake
from opslib.training.lesson import Asked, Lesson
from opslib.training.overview import list_progress
from opslib.training.plan import LessonPlan, Question
from opslib.training.progress import FILE, Progress
from opslib.training.team import read_team, summarise_team

RATE = Question(("Which rate?",), Number(20.0, 0.1, "%", (Mistake(30.0, "other"),)), ("look", "closer"), ("so",))
STOP = Question(
    ("Stop?",), Decision(Choice((Option("no", "No", "it hurts"), Option("yes", "Yes")))), ("think",), ("so",)
)
PLAN = LessonPlan("a_lesson", "A lesson", 20, ("It fell.",), {"rate": RATE, "stop": STOP})


def test_tells_not_tried_wrong_error_and_right_apart(tmp_path: Path) -> None:
    asked = Asked("rate", PLAN, Progress.load(tmp_path / FILE))
    assert [asked.judge(answer).status for answer in (None, "  ", "x", 30, 20)] == [
        "not_tried", "not_tried", "error", "wrong", "right",
    ]  # fmt: skip
    assert (asked.done.tries, asked.done.errors, asked.done.status) == (2, 1, "right")


def test_goes_on_where_somebody_left_off(tmp_path: Path) -> None:
    asked = Asked("rate", PLAN, Progress.load(tmp_path / FILE))
    asked.check(30)
    assert "look" in str(asked.hint())
    again = Asked("rate", PLAN, Progress.load(tmp_path / FILE))
    assert (again.done.tries, again.done.hints, again.done.status) == (1, 1, "wrong")
    assert list(again.hint().paragraphs) == ["look", "closer"]
    assert [p.name for p in tmp_path.iterdir()] == [FILE]


def test_solution_before_the_answer_counts_as_help(tmp_path: Path) -> None:
    progress = Progress.load(tmp_path / FILE)
    asked = Asked("rate", PLAN, progress)
    assert list(asked.solution().paragraphs) == ["The answer: 20%", "so"]
    asked.check(20)
    assert progress.question("a_lesson", "rate").status == "helped"


def test_only_the_first_decision_is_scored() -> None:
    asked = Asked("stop", PLAN, Progress())
    asked.check(("no", 0.9))
    asked.check(("yes", 1.0))
    assert (asked.done.confidence, asked.done.brier, asked.done.right) == (0.9, 0.81, True)


def test_damaged_file_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text('{"lessons": 3}')
    with pytest.raises(InputError, match="Move it away"):
        Progress.load(tmp_path / FILE)
    assert (tmp_path / FILE).read_text() == '{"lessons": 3}'


def test_names_of_steps_are_suggested() -> None:
    with pytest.raises(InputError, match="Did you mean 'rate'"):
        Lesson(PLAN, Progress()).ask("rat")
    with pytest.raises(InputError, match=r"ask\('rate'\)"):
        Lesson(PLAN, Progress()).look("rate")


def test_solving_answers_everything(capsys: pytest.CaptureFixture[str]) -> None:
    lesson = Lesson(PLAN, Progress(), solve=True)
    for name in PLAN.questions:
        lesson.ask(name)
    assert "2 of 2 questions right" in "\n".join(lesson.finish().paragraphs)


def test_a_lesson_is_done_with_its_last_question() -> None:
    progress = Progress()
    plan = replace(PLAN, name="read_a_funnel")
    lesson = Lesson(plan, progress)
    states = []
    for name, answer in (("rate", 30), ("rate", 20), ("stop", ("yes", 1.0))):
        lesson.ask(name).check(answer)
        states.append(list_progress(progress)["state"].iloc[0])
    assert states == ["begun", "begun", "done"]


def test_a_team_by_hand(tmp_path: Path) -> None:
    for name, answers in {"li": [20], "wang": [30, 20]}.items():
        (tmp_path / name).mkdir()
        asked = Asked("rate", PLAN, Progress.load(tmp_path / name / FILE))
        for answer in answers:
            asked.check(answer)
    stop = Asked("stop", PLAN, Progress.load(tmp_path / "wang" / FILE))
    stop.check(("yes", 0.8))
    table = summarise_team(read_team(tmp_path)).set_index("learner")
    assert table.loc["wang", ["questions_count", "right_count", "first_count", "tries_mean"]].tolist() == [2, 2, 1, 1.5]
    assert table.loc["wang", ["decisions_count", "brier_mean"]].tolist() == [1, 0.04]
    assert table.loc["li", ["questions_count", "right_count", "first_count"]].tolist() == [1, 1, 1]
    with pytest.raises(InputError, match=r"no training_progress\.json there"):
        read_team(tmp_path / "nowhere")

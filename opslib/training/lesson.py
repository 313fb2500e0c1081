"""A lesson that somebody works through: it reads, shows, asks, checks, hints, and keeps the progress."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from IPython.display import display

from opslib.errors import InputError, OpslibError, suggest_name
from opslib.language import say
from opslib.training.answers import Decision, read_decision, score_confidence
from opslib.training.cases.sealed import SealedAnswer
from opslib.training.judgement import Judgement
from opslib.training.page import COLORS, Note, Snippet, write_question, write_verdict
from opslib.training.plan import LessonPlan, Look, Question
from opslib.training.progress import Progress, QuestionProgress


class Asked:
    """A question that waits for its answer.

    >>> # q = lesson.ask("lost_most"); q.check("C"); q.hint(); q.solution()
    """

    def __init__(self, name: str, plan: LessonPlan, progress: Progress) -> None:
        self.name = name
        self.question: Question = plan.questions[name]
        self.number = list(plan.questions).index(name) + 1
        self.count = len(plan.questions)
        self.answered = False
        self._lesson = plan.name
        self._progress = progress

    @property
    def done(self) -> QuestionProgress:
        """How it went so far."""
        return self._progress.question(self._lesson, self.name)

    def judge(self, answer: Any) -> Judgement:
        """Judge an answer and keep how it went."""
        if answer is None or (isinstance(answer, str) and not answer.strip()):
            return Judgement("not_tried", say("Give an answer first."))
        judgement, done = self.question.answer.judge(answer), self.done
        if judgement.status == "error":
            done.errors += 1
        elif not done.right:
            done.tries += 1
            done.right = judgement.status == "right"
            # Only what somebody says before knowing is a forecast.
            if done.tries == 1:
                self._score(answer, done)
        self._progress.save()
        return judgement

    def _score(self, answer: Any, done: QuestionProgress) -> None:
        kind = self.question.answer
        if isinstance(getattr(kind, "shape", kind), Decision):
            done.confidence = read_decision(answer)[1] or 0.0
            done.brier = score_confidence(done.confidence, right=done.right)
        if isinstance(kind, SealedAnswer):
            done.regret_amount = kind.find_regret(answer)

    def check(self, answer: Any = None) -> Note:
        """Check an answer: right, wrong with the likely mistake, unreadable, or not tried."""
        return write_verdict(self.judge(answer))

    def hint(self) -> Note:
        """Give the next hint; after the last, all of them."""
        done, hints = self.done, self.question.hints
        done.hints = min(done.hints + 1, len(hints))
        self._progress.save()
        heading = say("Hint {number} of {count}", number=done.hints, count=len(hints))
        return Note(hints[: done.hints], heading, COLORS["hint"])

    def solution(self) -> Note:
        """Tell the answer and why."""
        done = self.done
        done.shown = done.shown or not done.right
        self._progress.save()
        answer = self.question.answer
        # A sealed answer cannot be told.
        told = [] if answer.right is None else [say("The answer: {answer}", answer=answer.write(answer.right))]
        return Note([*told, *self.question.solution], say("Solution"), COLORS["right"])

    def _ipython_display_(self) -> None:
        from opslib.training.form import is_attended, show_form

        if self.answered:
            return
        if is_attended():
            show_form(self)
        else:
            display(write_question(self.question, self.number, self.count))


class Lesson:
    """A lesson under way.

    Attributes:
        plan: the lesson as it is written.
        progress: how the learner fares.
        solve: whether every question is answered with its solution, as a check of the lesson itself.
    """

    def __init__(self, plan: LessonPlan, progress: Progress, *, solve: bool = False) -> None:
        self.plan, self.progress, self.solve = plan, progress, solve
        # So that a lesson is not done before its last question.
        for name in plan.questions:
            progress.question(plan.name, name)

    def read(self) -> Note:
        """Tell what happened."""
        heading = say("{title} (about {minutes} minutes)", title=self.plan.title, minutes=self.plan.minutes)
        return Note(self.plan.situation, heading)

    def look(self, name: str) -> None:
        """Show something to look at, with how to read it."""
        step = self._find(name)
        if not isinstance(step, Look):
            raise InputError(f"{self.plan.name}: '{name}' is a question; show it with ask('{name}').")
        display(Note(step.text), *(show() for show in step.shows))
        if step.code:
            display(Snippet(step.code))

    def ask(self, name: str) -> Asked:
        """Ask a question: with a form for somebody at a JupyterLab, as a text for everybody else."""
        step = self._find(name)
        if not isinstance(step, Question):
            raise InputError(f"{self.plan.name}: '{name}' is something to look at; show it with look('{name}').")
        asked = Asked(name, self.plan, self.progress)
        if self.solve:
            asked.answered, judgement = True, asked.judge(step.answer.right)
            display(write_question(step, asked.number, asked.count), asked.solution(), write_verdict(judgement))
            if judgement.status != "right":
                raise OpslibError(f"{self.plan.name}, question {asked.number}: its own solution is not right.")
        return asked

    def finish(self) -> Note:
        """Say how it went, and what to keep."""
        done = [self.progress.question(self.plan.name, name) for name in self.plan.questions]
        right, alone = sum(q.right for q in done), sum(q.status == "right" and not q.hints for q in done)
        text = say("{right} of {count} questions right, {alone} of them without a hint.",
                   right=right, count=len(done), alone=alone)  # fmt: skip
        return Note([text, *_say_scores(done), *self.plan.closing], say("What to keep"))

    def _find(self, name: str) -> Look | Question:
        if name not in self.plan.steps:
            known = ", ".join(self.plan.steps)
            raise InputError(f"{self.plan.name} has no '{name}'.{suggest_name(name, self.plan.steps)} It has: {known}.")
        return self.plan.steps[name]


def _say_scores(done: Sequence[QuestionProgress]) -> list[str]:
    """How sure somebody was and how right, and what the decision costs."""
    said = []
    for question in done:
        if question.brier is not None and question.confidence is not None:
            first = say("right") if question.tries == 1 and question.right else say("not right")
            said.append(
                say(
                    "You were {confidence:.0%} sure of your first decision, which was {first}: a Brier score of "
                    "{brier:.2f} (0 is best, 0.25 is a coin's).",
                    confidence=question.confidence, first=first, brier=question.brier,
                )
            )  # fmt: skip
        if question.regret_amount is not None:
            said.append(say("Your first action costs {amount:,.0f} more than the best.", amount=question.regret_amount))
    return said

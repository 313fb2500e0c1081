"""A lesson as it is written: what it tells, what it shows, what it asks. The texts are in the language spoken."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from opslib.training.answers import Answer


@dataclass(frozen=True)
class Look:
    """Something to look at: how to read it, and what the playbook's own function makes of the data.

    Attributes:
        text: how to read it, in paragraphs.
        shows: each makes a chart or a table.
        code: lines that give the same outside of the lesson, once `data` are open.
    """

    text: tuple[str, ...]
    shows: tuple[Callable[[], Any], ...]
    code: str = ""


@dataclass(frozen=True)
class Question:
    """One question.

    Attributes:
        text: what is asked, in paragraphs.
        answer: the kind of answer, which judges.
        hints: from a nudge to nearly the way; none gives the answer.
        solution: why it is so, in paragraphs.
    """

    text: tuple[str, ...]
    answer: Answer
    hints: tuple[str, ...]
    solution: tuple[str, ...]


@dataclass(frozen=True)
class LessonPlan:
    """A lesson.

    Attributes:
        name: what its notebook and the progress file call it.
        title: what people call it.
        minutes: how long it takes, about.
        situation: what happened, in paragraphs; numbers in it come from the data.
        steps: looks and questions by name, in order; a decision comes last.
        closing: what to keep, in paragraphs.
    """

    name: str
    title: str
    minutes: int
    situation: tuple[str, ...]
    steps: Mapping[str, Look | Question] = field(repr=False)
    closing: Sequence[str] = ()

    @property
    def questions(self) -> dict[str, Question]:
        """The questions by name."""
        return {name: step for name, step in self.steps.items() if isinstance(step, Question)}

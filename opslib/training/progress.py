"""What a learner has done so far, in a file of their own that nothing else reads but a trainer's report."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from opslib.errors import InputError

FILE = "training_progress.json"
VERSION = 1


@dataclass
class QuestionProgress:
    """How one question went.

    Attributes:
        tries: answers that could be read; `errors` counts those that could not.
        hints: how many were asked for.
        shown: whether the solution was shown before the right answer was given.
        right: whether the right answer was given.
        confidence: stated with the first decision; `brier` is its score.
        regret_amount: what the first action costs more than the best one, where that is known.
    """

    tries: int = 0
    errors: int = 0
    hints: int = 0
    shown: bool = False
    right: bool = False
    confidence: float | None = None
    brier: float | None = None
    regret_amount: float | None = None

    @property
    def status(self) -> str:
        """`right`, `helped` (right after the solution was shown), `wrong` or `not_tried`."""
        if self.right:
            return "helped" if self.shown else "right"
        return "wrong" if self.tries else "not_tried"

    @property
    def is_right_at_once(self) -> bool:
        """Whether the first try was right, with neither hint nor solution."""
        return self.status == "right" and self.tries == 1 and not self.hints


@dataclass
class Progress:
    """A learner's progress: lesson -> question -> how it went. With a path, every change is written at once.

    Raises:
        InputError: the file is not one of ours.
    """

    path: Path | None = None
    learner: str = ""
    lessons: dict[str, dict[str, QuestionProgress]] = field(default_factory=dict)

    @classmethod
    def load(cls, path: Path) -> Progress:
        """Read a progress file; one that does not exist yet is an empty one."""
        if not path.exists():
            return cls(path)
        try:
            read = json.loads(path.read_text(encoding="utf-8"))
            lessons = {
                str(lesson): {str(name): QuestionProgress(**done) for name, done in questions.items()}
                for lesson, questions in read["lessons"].items()
            }
            return cls(path, str(read["learner"]), lessons)
        except (ValueError, KeyError, TypeError, AttributeError):
            raise InputError(
                f"{path} does not hold the progress of a training. Move it away to begin anew, or restore it."
            ) from None

    def question(self, lesson: str, name: str) -> QuestionProgress:
        """How a question went, to read or to change; after a change call `save`."""
        return self.lessons.setdefault(lesson, {}).setdefault(name, QuestionProgress())

    def save(self) -> None:
        """Write the file, whole or not at all."""
        if self.path is None:
            return
        waiting = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        waiting.write_text(json.dumps(self.to_dict(), ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
        waiting.replace(self.path)

    def to_dict(self) -> dict[str, Any]:
        """The file's content."""
        lessons = {
            lesson: {name: asdict(done) for name, done in questions.items()}
            for lesson, questions in self.lessons.items()
        }
        return {"version": VERSION, "learner": self.learner, "lessons": lessons}

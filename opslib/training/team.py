"""What a team has learned so far, for its trainer: from the progress files that the learners handed in."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from opslib.errors import InputError
from opslib.training.progress import FILE, Progress

CASE = "case_"


def read_team(folder: Path) -> list[tuple[str, Progress]]:
    """Read every progress file below a folder.

    Returns:
        Name and progress of each: the learner's own name or, without one, that of the folder the file lies in.

    Raises:
        InputError: no file there, or one that is not one of ours.
    """
    paths = sorted(folder.rglob(FILE)) if folder.is_dir() else []
    if not paths:
        raise InputError(f"{folder}: no {FILE} there. Collect each learner's file, in a folder of its own below it.")
    loaded = [(path, Progress.load(path)) for path in paths]
    return [(progress.learner or str(path.parent.relative_to(folder)), progress) for path, progress in loaded]


def summarise_team(team: Sequence[tuple[str, Progress]]) -> pd.DataFrame:
    """One row a learner.

    Columns: learner; lessons_count, cases_count (begun); questions_count (tried); right_count; first_count (right at
    once, without hint or solution); hints_count; tries_mean (a question tried); decisions_count, brier_mean (0 best,
    0.25 a coin's), sure_mean and decided_right_rate (to see over-confidence); actions_count, regret_amount_mean.

    >>> from opslib.training.progress import QuestionProgress
    >>> progress = Progress(lessons={"read_a_funnel": {"overall": QuestionProgress(tries=1, right=True)}})
    >>> summarise_team([("Li", progress)])[["learner", "right_count", "first_count"]].values.tolist()
    [['Li', 1, 1]]
    """
    return pd.DataFrame([summarise_learner(name, progress) for name, progress in team]).sort_values(
        ["right_count", "learner"], ascending=[False, True], ignore_index=True
    )


def summarise_learner(name: str, progress: Progress) -> dict[str, Any]:
    """One learner's row of `summarise_team`."""
    tried = {
        lesson: [question for question in questions.values() if question.tries]
        for lesson, questions in progress.lessons.items()
    }
    begun = [lesson for lesson, questions in tried.items() if questions]
    questions = [question for lesson in begun for question in tried[lesson]]
    decided = [question for question in questions if question.brier is not None]
    acted = [question for question in questions if question.regret_amount is not None]
    return {
        "learner": name,
        "lessons_count": sum(not lesson.startswith(CASE) for lesson in begun),
        "cases_count": sum(lesson.startswith(CASE) for lesson in begun),
        "questions_count": len(questions),
        "right_count": sum(question.right for question in questions),
        "first_count": sum(question.is_right_at_once for question in questions),
        "hints_count": sum(question.hints for question in questions),
        "tries_mean": _mean([float(question.tries) for question in questions]),
        "decisions_count": len(decided),
        "brier_mean": _mean([question.brier for question in decided]),
        "sure_mean": _mean([question.confidence for question in decided]),
        "decided_right_rate": _mean([float(question.tries == 1 and question.right) for question in decided]),
        "actions_count": len(acted),
        "regret_amount_mean": _mean([question.regret_amount for question in acted]),
    }


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None

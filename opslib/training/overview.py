"""The tracks and lessons in a table, with how far a learner is."""

from __future__ import annotations

import pandas as pd

from opslib.language import say
from opslib.present.display import TableView
from opslib.present.tables import make_table
from opslib.training.curriculum import LESSONS, TRACKS
from opslib.training.progress import Progress, QuestionProgress


def list_progress(progress: Progress) -> TableView:
    """One row a lesson, in the order of the tracks; a lesson not begun yet says so.

    >>> list_progress(Progress()).frame["state"].unique().tolist()
    ['not begun']
    """
    rows = []
    for track in TRACKS:
        for position, (name, title) in enumerate(track.lessons.items()):
            done = progress.lessons.get(name, {})
            tried = [question for question in done.values() if question.tries]
            rows.append(
                {
                    "track": f"{say(track.title)} ({say(track.time)})" if position == 0 else "",
                    "lesson": f"{LESSONS.index(name) + 1}. {say(title)}",
                    "state": _say_state(list(done.values())),
                    "right": f"{sum(q.right for q in tried)}" if tried else "",
                    "tries": f"{sum(q.tries for q in tried)}" if tried else "",
                    "hints": f"{sum(q.hints for q in done.values())}" if tried else "",
                }
            )
    labels = {
        "track": say("Track"), "lesson": say("Lesson"), "state": say("State"), "right": say("Questions right"),
        "tries": say("Tries"), "hints": say("Hints"),
    }  # fmt: skip
    return make_table(pd.DataFrame(rows), labels, name="training-progress", numeric=("right", "tries", "hints"))


def _say_state(done: list[QuestionProgress]) -> str:
    if not any(question.tries for question in done):
        return say("not begun")
    return say("done") if all(question.right for question in done) else say("begun")

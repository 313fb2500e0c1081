"""The page of somebody's progress: the tracks, their lessons, how far each is, and how sure and how right they were."""

from __future__ import annotations

import html
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from opslib.language import join_sentences, mark, say
from opslib.training.curriculum import LESSONS, TRACKS, Track
from opslib.training.page import PARAGRAPH, write_paragraphs
from opslib.training.progress import Progress, QuestionProgress
from opslib.training.team import summarise_learner

Row = dict[Hashable, Any]
CELL = "text-align: left; padding: 4px 14px 4px 0; vertical-align: baseline;"
BAR = (
    '<span style="display: inline-block; width: 90px; height: 9px; background: #e4e7eb; margin-right: 8px;">'
    '<span style="display: block; height: 9px; width: {width:.0f}%; background: #1a7f4b;"></span></span>'
)


def list_progress(progress: Progress) -> pd.DataFrame:
    """One row a lesson, in the order of the tracks.

    Columns: name; track, lesson (in words); file (the notebook, beside the overview's); state; questions_count (0
    before it is begun), right_count, tries_count, hints_count.

    >>> list_progress(Progress())["state"].unique().tolist()
    ['not begun']
    """
    return pd.DataFrame([_count(track, name, progress) for track in TRACKS for name in track.lessons])


def _count(track: Track, name: str, progress: Progress) -> Row:
    done, number = list(progress.lessons.get(name, {}).values()), LESSONS.index(name) + 1
    return {
        "name": name,
        "track": say("{title} ({time})", title=say(track.title), time=say(track.time)),
        "lesson": f"{number}. {say(track.lessons[name])}",
        "file": f"{number:02d}_{name}.ipynb",
        "state": _say_state(done),
        "questions_count": len(done),
        "right_count": sum(question.right for question in done),
        "tries_count": sum(question.tries for question in done),
        "hints_count": sum(question.hints for question in done),
    }


def _say_state(done: list[QuestionProgress]) -> str:
    if not any(question.tries for question in done):
        return say("not begun")
    return say("done") if all(question.right for question in done) else say("begun")


@dataclass(frozen=True)
class ProgressPage:
    """Somebody's progress, as a page with links to the lessons."""

    progress: Progress

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        table = list_progress(self.progress)
        before, after = _write_start(), [*_say_progress(table, self.progress), *_write_end()]
        parts, lines = [write_paragraphs(before)], list(before)
        for track in table["track"].unique():
            rows = table[table["track"] == track].to_dict("records")
            parts.append(f'<p style="{PARAGRAPH}"><strong>{html.escape(track)}</strong></p>{_draw_track(rows)}')
            lines += [track, *(f"- {row['lesson']}: {_say_row(row)}" for row in rows)]
        parts.append(write_paragraphs(after))
        return {"text/html": f"<div>{''.join(parts)}</div>", "text/plain": "\n".join([*lines, *after])}


def _draw_track(rows: Sequence[Row]) -> str:
    lines = []
    for row in rows:
        share = 100 * row["right_count"] / max(row["questions_count"], 1)
        name = f'<a href="{row["file"]}">{html.escape(row["lesson"])}</a>'
        cells = (name, BAR.format(width=share) + html.escape(_say_row(row)))
        lines.append("<tr>" + "".join(f'<td style="{CELL}">{cell}</td>' for cell in cells) + "</tr>")
    return f"<table>{''.join(lines)}</table>"


def _say_row(row: Row) -> str:
    if not row["tries_count"]:
        return str(row["state"])
    return say(
        "{state}: {right} of {questions} questions right (tries: {tries}, hints: {hints})",
        state=row["state"], right=row["right_count"], questions=row["questions_count"], tries=row["tries_count"],
        hints=row["hints_count"],
    )  # fmt: skip


def _write_start() -> list[str]:
    return [
        say(
            "Sixteen lessons in the three tracks of the handbook, 20 to 60 minutes each. A lesson tells what happened, "
            "shows the company's data with the playbook's own functions, asks three to six questions and ends in a "
            "decision. No programming is needed."
        ),
        say(
            "Open a lesson, click its first cell and press Shift + Enter until the last. Under each question, choose "
            "or type, then check; a hint is there for the asking, the solution after two tries or all hints. What you "
            "did is kept: come back any time, and run this page again to see how far you are."
        ),
    ]


def _say_progress(table: pd.DataFrame, progress: Progress) -> list[str]:
    """How it went so far, and with which lesson to go on; how sure somebody was says more than how often right."""
    done, texts = summarise_learner(progress.learner, progress), []
    waiting = table[(table["right_count"] < table["questions_count"]) | (table["questions_count"] == 0)]
    if tried := done["questions_count"]:
        text = mark("So far: {right} of {tried} questions answered right, {alone} of them at once and without a hint.")
        texts.append(say(text, right=done["right_count"], tried=tried, alone=done["first_count"]))
    if done["decisions_count"]:
        texts.append(_say_decisions(done))
    if not waiting.empty:
        texts.append(say("Go on with: {lesson}.", lesson=waiting["lesson"].iloc[0]))
    return [join_sentences(texts)] if texts else []


def _say_decisions(done: dict[str, Any]) -> str:
    count = done["decisions_count"]
    return say(
        "Decisions: {count}, of which {right} right at the first try; you were {sure:.0%} sure on average. Brier score "
        "{brier:.2f} (0 is best, 0.25 is a coin's).",
        count=count,
        right=round(done["decided_right_rate"] * count),
        sure=done["sure_mean"],
        brier=done["brier_mean"],
    )


def _write_end() -> list[str]:
    return [
        say(
            "After the lessons come cases: a company that nobody has seen, with something planted in it. Whoever "
            "trains you makes one in a terminal and keeps the number behind --seed: {command}",
            command="opslib training new --seed 7 --level 1 --out my_case",
        ),
    ]

"""Texts of a lesson on the page: paragraphs, questions, verdicts. Data values are always text, never markup."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from opslib.language import say
from opslib.training.answers import Choice, Decision, Group, Number, Sentence, letter_of
from opslib.training.judgement import Judgement
from opslib.training.plan import Question

COLORS = {"right": "#1a7f4b", "wrong": "#b3261e", "error": "#8a6100", "not_tried": "#616e7c", "hint": "#0b65a8"}
BOX = "border-left: 4px solid {color}; padding: 2px 14px; margin: 8px 0; max-width: 46em;"
# JupyterLab's own differ inside a control and outside.
PARAGRAPH = "margin: 6px 0; line-height: 1.5;"
OPEN = """import opslib{imports}

data = opslib.open_data("playbook.toml")
{body}"""


@dataclass(frozen=True)
class Note:
    """Paragraphs, with a heading and a colour where they are a verdict or a hint."""

    paragraphs: Sequence[str]
    heading: str = ""
    color: str = ""

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        heading = f'<p style="{PARAGRAPH}"><strong>{html.escape(self.heading)}</strong></p>' if self.heading else ""
        style = BOX.format(color=self.color) if self.color else "max-width: 46em;"
        text = f'<div style="{style}">{heading}{write_paragraphs(self.paragraphs)}</div>'
        lines = [self.heading, *self.paragraphs] if self.heading else self.paragraphs
        return {"text/html": text, "text/plain": "\n".join(lines)}


def write_paragraphs(texts: Sequence[str]) -> str:
    """Paragraphs in HTML, escaped."""
    return "".join(f'<p style="{PARAGRAPH}">{html.escape(text)}</p>' for text in texts)


@dataclass(frozen=True)
class Snippet:
    """How the same is had in a notebook of one's own, folded."""

    code: str

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        heading, code = say("In a notebook of your own"), complete_code(self.code)
        text = f"<details><summary>{html.escape(heading)}</summary><pre>{html.escape(code)}</pre></details>"
        return {"text/html": text, "text/plain": f"{heading}:\n{code}"}


def complete_code(code: str) -> str:
    """Lines that run as they stand: the data opened, and imports first.

    >>> print(complete_code("import math\\n\\nmath.pi"))
    import opslib
    import math
    <BLANKLINE>
    data = opslib.open_data("playbook.toml")
    math.pi
    """
    lines = code.splitlines()
    imports = [line for line in lines if line.startswith(("from ", "import "))]
    body = "\n".join(line for line in lines if line not in imports).strip()
    return OPEN.format(imports="".join(f"\n{line}" for line in imports), body=body)


def write_question(question: Question, number: int, count: int) -> Note:
    """A question with what can be answered, for a page without a form."""
    paragraphs = [*question.text, *list_choices(question)]
    return Note(paragraphs, say("Question {number} of {count}", number=number, count=count), COLORS["hint"])


def list_choices(question: Question) -> list[str]:
    """What a question offers to choose from, a line each."""
    answer = getattr(question.answer, "shape", question.answer)
    if isinstance(answer, Decision):
        lines = _list_options(answer.choice)
        return [*lines, say("With your decision, say how sure you are, from 50% (a coin) to 100%.")]
    if isinstance(answer, Choice):
        return _list_options(answer)
    if isinstance(answer, Sentence):
        blanks = {name: f"[{letter_of(i)}]" for i, name in enumerate(answer.gaps)}
        gaps = [
            f"[{letter_of(i)}] " + " / ".join(option.text for option in choice.options)
            for i, choice in enumerate(answer.gaps.values())
        ]
        return [answer.pattern.format(**blanks), *gaps]
    if isinstance(answer, Group):
        return [f"{column}: {', '.join(values)}" for column, values in answer.values.items()]
    if isinstance(answer, Number):
        return [say("A number ({unit}).", unit=answer.unit)]
    return []


def _list_options(choice: Choice) -> list[str]:
    return [f"{letter_of(i)}. {option.text}" for i, option in enumerate(choice.options)]


def write_verdict(judgement: Judgement) -> Note:
    """What a check says, told apart by words and not by colour alone."""
    headings = {
        "right": say("Right."),
        "wrong": say("Not right yet."),
        "error": say("This could not be read as an answer; it does not count as a try."),
        "not_tried": say("Not tried yet."),
    }
    reasons = [judgement.reason] if judgement.reason else []
    return Note(reasons, headings[judgement.status], COLORS[judgement.status])

"""The form of a question in JupyterLab: choose or type, check, ask for a hint, see the solution. No code needed."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets
from IPython.display import display

from opslib.language import say
from opslib.present.widgets.exploration import SESSION
from opslib.training.answers import Choice, Decision, Group, Number, Sentence, letter_of
from opslib.training.page import COLORS, Note

if TYPE_CHECKING:
    from opslib.training.lesson import Asked

WIDE = {"width": "560px"}
NARROW = {"width": "260px"}
NAMED = {"description_width": "140px"}
# The solution is offered to those who tried, or who have had every hint.
TRIES_BEFORE_SOLUTION = 2

Read = Callable[[], Any]


def is_attended() -> bool:
    """Whether somebody is at a JupyterLab."""
    return SESSION in os.environ


def show_form(asked: Asked) -> None:
    """Show a question with its form."""
    inputs, read = make_inputs(asked.question.answer)
    output = widgets.HTML()
    check, hint, solution = (
        widgets.Button(description=text, layout={"width": "150px"})
        for text in (say("Check"), say("Hint"), say("Show the solution"))
    )

    def tell(note: Note) -> None:
        output.value = note._repr_mimebundle_()["text/html"]
        done = asked.done
        tried = done.right or done.tries >= TRIES_BEFORE_SOLUTION or done.hints == len(asked.question.hints)
        solution.disabled = not tried

    solution.tooltip = say("After two tries, or after all hints")
    check.on_click(lambda _: tell(asked.check(read())))
    hint.on_click(lambda _: tell(asked.hint()))
    solution.on_click(lambda _: tell(asked.solution()))
    tell(_say_state(asked))
    heading = say("Question {number} of {count}", number=asked.number, count=asked.count)
    text = widgets.HTML(Note(asked.question.text, heading, COLORS["hint"])._repr_mimebundle_()["text/html"])
    buttons = widgets.HBox([check, hint, solution])
    display(widgets.VBox([text, *inputs, buttons, output]))


def _say_state(asked: Asked) -> Note:
    """Where somebody left off."""
    done = asked.done
    if done.right:
        return Note([], say("Right. Tries: {count}.", count=done.tries), COLORS["right"])
    if done.tries:
        return Note([], say("Not right yet. Tries: {count}.", count=done.tries), COLORS["wrong"])
    return Note([], say("Not tried yet."), COLORS["not_tried"])


def make_inputs(answer: Any) -> tuple[list[widgets.Widget], Read]:
    """The inputs for a kind of answer, and what reads them as `judge` takes it; None while nothing is chosen."""
    answer = getattr(answer, "shape", answer)
    if isinstance(answer, Number):
        box = widgets.Text(description=say("Your answer"), placeholder=answer.unit, style=NAMED, layout=NARROW)
        return [widgets.HBox([box, widgets.Label(answer.unit)])], lambda: box.value
    if isinstance(answer, Choice):
        buttons = _make_buttons(answer, say("Your answer"))
        return [buttons], lambda: buttons.value
    if isinstance(answer, Decision):
        return _make_decision(answer)
    if isinstance(answer, Group):
        return _make_group(answer)
    if isinstance(answer, Sentence):
        return _make_sentence(answer)
    raise TypeError(f"There is no form for {type(answer).__name__}.")


def _make_buttons(choice: Choice, label: str) -> widgets.RadioButtons:
    options = [(f"{letter_of(i)}. {option.text}", option.name) for i, option in enumerate(choice.options)]
    return widgets.RadioButtons(
        options=options, value=None, description=label, style=NAMED, layout={"width": "max-content", "max_width": "95%"}
    )


def _make_decision(answer: Decision) -> tuple[list[widgets.Widget], Read]:
    buttons = _make_buttons(answer.choice, say("Decision"))
    sure = widgets.IntSlider(
        value=50, min=50, max=100, step=5, description=say("How sure, in %"), style=NAMED, layout=WIDE
    )
    return [buttons, sure], lambda: None if buttons.value is None else (buttons.value, sure.value / 100)


def _make_group(answer: Group) -> tuple[list[widgets.Widget], Read]:
    """One row for each column that the right group may have, and never fewer than two: their number tells nothing."""
    rows = []
    for label in (say("Users with"), say("and (if needed)")):
        column = widgets.Dropdown(options=[("", ""), *((c, c) for c in answer.values)], description=label, style=NAMED)
        value = widgets.Dropdown(options=[""], layout=NARROW)
        column.observe(lambda change, box=value: _offer_values(box, answer, change["new"]), "value")
        rows.append((column, value))

    def read() -> dict[str, str] | None:
        return {column.value: value.value for column, value in rows if column.value and value.value} or None

    return [widgets.HBox(list(row)) for row in rows], read


def _offer_values(box: widgets.Dropdown, answer: Group, column: str) -> None:
    box.options = ["", *answer.values.get(column, ())]


def _make_sentence(answer: Sentence) -> tuple[list[widgets.Widget], Read]:
    blanks = {name: f"[{letter_of(i)}]" for i, name in enumerate(answer.gaps)}
    boxes = {
        name: widgets.Dropdown(
            options=[("", None), *((option.text, option.name) for option in choice.options)],
            description=f"[{letter_of(i)}]", style=NAMED, layout=WIDE,
        )
        for i, (name, choice) in enumerate(answer.gaps.items())
    }  # fmt: skip

    def read() -> dict[str, str] | None:
        chosen = {name: box.value for name, box in boxes.items() if box.value is not None}
        return chosen or None

    return [widgets.Label(answer.pattern.format(**blanks)), *boxes.values()], read

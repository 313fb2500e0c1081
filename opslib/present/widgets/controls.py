"""Controls for parameters: made from the same definitions as the papermill cell and the command line."""

from __future__ import annotations

import contextlib
import datetime as dt
import html
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import ipywidgets as widgets
from pydantic.fields import FieldInfo

from opslib.data.source import Data
from opslib.language import LANGUAGES, mark, say
from opslib.parameters import NotebookParameters, Pick, Value
from opslib.present.widgets.choices import Choices
from opslib.present.widgets.labels import CHOICE_NAMES, LABELS
from opslib.present.words import spell_column

OWN_STEPS = mark("Own steps ...")
ARROW = " > "
# More values than this are typed, with suggestions, rather than looked for in a list.
MOST_LISTED = 40
LABEL_STYLE = {"description_width": "150px"}
LAYOUT = {"width": "360px"}


class Control:
    """A control for one parameter: an ipywidget, and how its value is read and written.

    Attributes:
        name: the parameter.
        widget: what is shown.
    """

    def __init__(
        self,
        name: str,
        widget: widgets.Widget,
        read: Callable[[], Value],
        write: Callable[[Value], None],
        *,
        watched: Sequence[widgets.Widget] | None = None,
    ) -> None:
        self.name = name
        self.widget = widget
        self.read = read
        self._write = write
        self._silent = False
        self._on_change: Callable[[str, Value], None] = lambda name, value: None
        for part in (widget,) if watched is None else watched:
            part.observe(self._notice, "value")

    def on_change(self, called: Callable[[str, Value], None]) -> None:
        """Call a function with name and value whenever somebody changes the control."""
        self._on_change = called

    def write(self, value: Value) -> None:
        """Set the control without calling anybody."""
        with self.quiet():
            self._write(value)

    @property
    def is_quiet(self) -> bool:
        """Whether changes are made by us rather than by somebody."""
        return self._silent

    @contextlib.contextmanager
    def quiet(self) -> Iterator[None]:
        """Change parts of the control without calling anybody."""
        before, self._silent = self._silent, True
        try:
            yield
        finally:
            self._silent = before

    def notice(self) -> None:
        """Tell of a change that no watched part shows."""
        self._notice(None)

    def _notice(self, change: Any) -> None:
        if not self._silent:
            self._on_change(self.name, self.read())


def make_control(
    name: str, parameters: NotebookParameters, data: Data, choices: Choices, *, steps: Sequence[str] = ()
) -> Control:
    """Make the control of a parameter, showing its present value.

    Args:
        name: the parameter's name.
        parameters: the notebook's.
        data: the company's data.
        choices: what there is to choose from.
        steps: the names of the funnel's steps, where the notebook has one.
    """
    field = type(parameters).model_fields[name]
    # The last one is the parameter's own; those before belong to its type.
    pick = next((m for m in reversed(field.metadata) if isinstance(m, Pick)), None)
    kind = pick.kind if pick else "text"
    label = say(LABELS[name]) if name in LABELS else name.replace("_", " ").capitalize()
    description, value = say(field.description or ""), getattr(parameters, name)
    common = {"description": label, "style": LABEL_STYLE, "layout": LAYOUT, "tooltip": description}
    if kind == "day":
        control = _pick_day(name, common, data)
    elif kind == "language":
        control = _pick_language(name, common, data)
    elif kind == "segment":
        control = _pick_segment(name, common, choices)
    elif kind == "funnel":
        control = _pick_funnel(name, common, choices)
    elif kind == "lever":
        assert pick is not None
        control = _slide(name, common, pick)
    elif kind in ("count", "size"):
        control = _type_number(name, common, whole=kind == "count")
    elif kind == "period_end":
        box = widgets.Combobox(
            options=choices.quarters, continuous_update=False, placeholder=say("2026Q1 or 2026-03-31"),
            **common,
        )  # fmt: skip
        control = Control(name, box, lambda: box.value.strip(), lambda v: setattr(box, "value", str(v)))
    else:
        control = _list_values(name, common, _list_options(kind, field, pick, data, choices, steps))
    control.write(value)
    if kind in ("count", "size", "lever", "day", "period_end"):
        control.widget = _add_hint(control.widget, description)
    return control


def _add_hint(widget: widgets.Widget, description: str) -> widgets.Widget:
    """What an empty value or a zero stands for, below the control, where a tooltip would hide it."""
    hint = description.partition(say("; "))[2]
    if not hint:
        return widget
    text = widgets.HTML(f'<span class="opslib-hint">{html.escape(hint)}</span>')
    return widgets.VBox([widget, text])


def _list_options(
    kind: str, field: FieldInfo, pick: Pick | None, data: Data, choices: Choices, steps: Sequence[str]
) -> list[tuple[str, Value]]:
    if kind == "choice":
        assert pick is not None
        return [(_name_choice(choice), choice) for choice in pick.choices]
    if kind == "step":
        return list_steps(steps)
    named = {"quarter": choices.quarters, "breakdown": choices.breakdowns, "experiment": choices.experiments}
    names = list_weeks(data) if kind == "cohort" else named.get(kind)
    if names is None:
        return [(str(field.default), field.default)]
    empty = say(field.description or "").partition(say("empty: "))[2] or say("none")
    spell = spell_column if kind == "breakdown" else str
    return [(empty, ""), *((spell(name), name) for name in names)]


def _name_choice(choice: str) -> str:
    return say(choice) if choice in CHOICE_NAMES else choice or say("what the data allow")


def offer_steps(control: Control, steps: Sequence[str]) -> None:
    """Let a control of steps list those of another funnel."""
    box, options = control.widget, tuple(list_steps(steps))
    if tuple(box.options) != options:
        with control.quiet():
            value = box.value
            box.options = options
            box.value = value if value in [v for _, v in options] else 0


def list_steps(steps: Sequence[str]) -> list[tuple[str, Value]]:
    """The steps of a funnel that can be explained."""
    named = [(say("{number}: {name}", number=i, name=name), i) for i, name in enumerate(steps, 1) if i > 1]
    return [(say("the one that moved most"), 0), *named]


def list_weeks(data: Data) -> list[str]:
    """First days of the weeks in which somebody came, newest first."""
    last = data.as_of - dt.timedelta(days=(data.as_of.weekday() - data.playbook.week_start) % 7)
    count = (last - data.span.start).days // 7 + 2
    days = [last - dt.timedelta(days=7 * i) for i in range(count)]
    return [day.isoformat() for day in days]


def _list_values(name: str, common: dict[str, Any], options: list[tuple[str, Value]]) -> Control:
    box = widgets.Dropdown(options=options, **common)

    def write(value: Value) -> None:
        # A value of the parameters cell may be one that no list names.
        if value not in [v for _, v in box.options]:
            box.options = [*box.options, (str(value), value)]
        box.value = value

    return Control(name, box, lambda: box.value, write)


def _pick_day(name: str, common: dict[str, Any], data: Data) -> Control:
    # The day that an empty parameter stands for is shown as a day.
    usual = data.as_of if name == "as_of" else None
    box = widgets.DatePicker(min=data.span.start, max=data.as_of, **common)

    def read() -> Value:
        return "" if box.value in (None, usual) else box.value.isoformat()

    return Control(name, box, read, lambda v: setattr(box, "value", dt.date.fromisoformat(str(v)) if v else usual))


def _pick_language(name: str, common: dict[str, Any], data: Data) -> Control:
    # The language that an empty parameter stands for is shown as a language.
    usual, written = data.playbook.company.lang or "en", ""
    box = widgets.Dropdown(options=[(shown, code) for code, shown in LANGUAGES.items()], **common)

    def read() -> Value:
        return written if box.value == (written or usual) else box.value

    def write(value: Value) -> None:
        nonlocal written
        written = str(value)
        box.value = written or usual

    return Control(name, box, read, write)


def _type_number(name: str, common: dict[str, Any], *, whole: bool) -> Control:
    if whole:
        box = widgets.BoundedIntText(min=0, max=10_000, **common)
        return Control(name, box, lambda: int(box.value), lambda v: setattr(box, "value", int(v)))
    box = widgets.BoundedFloatText(min=0, max=1e12, step=1, **common)
    return Control(name, box, lambda: float(box.value), lambda v: setattr(box, "value", float(v)))


def _slide(name: str, common: dict[str, Any], pick: Pick) -> Control:
    share = pick.high <= 1
    box = widgets.FloatSlider(
        min=0, max=pick.high, step=pick.step, readout_format=".1%" if share else ",.2f" if pick.step < 1 else ",.0f",
        **common,
    )  # fmt: skip

    def write(value: Value) -> None:
        box.max = max(box.max, float(value))
        box.value = float(value)

    # A slider counts in steps: 0.1 + 0.2 must not become a parameter of seventeen digits.
    return Control(name, box, lambda: round(float(box.value), 6), write)


def _pick_segment(name: str, common: dict[str, Any], choices: Choices) -> Control:
    column = widgets.Dropdown(options=_list_columns(choices), **common)
    which = {**common, "description": say("Value")}
    listed = widgets.Dropdown(**which)
    typed = widgets.Combobox(placeholder=say("type a value"), continuous_update=False, **which)
    box = widgets.VBox([column, listed, typed])

    def is_long() -> bool:
        return len(choices.segments.get(column.value, [])) > MOST_LISTED

    def read() -> Value:
        value = (typed.value if is_long() else listed.value) if column.value else ""
        return f"{column.value}:{value}" if value else ""

    def offer(*_: Any) -> None:
        values = choices.segments.get(column.value, [])
        with control.quiet():
            counted = [(say("{name} ({count:,})", name=v, count=users), v) for v, users in values]
            listed.options = [(say("choose one"), ""), *counted]
            listed.value = ""
            typed.options, typed.value = tuple(v for v, _ in values), ""
        listed.layout.display = "none" if not column.value or is_long() else None
        typed.layout.display = None if column.value and is_long() else "none"

    def write(value: Value) -> None:
        chosen, _, one = str(value).partition(":")
        if chosen not in [v for _, v in column.options]:
            column.options = [*column.options, (chosen, chosen)]
        column.value = chosen
        offer()
        if is_long():
            typed.value = one
        elif one:
            if one not in [v for _, v in listed.options]:
                listed.options = [*listed.options, (one, one)]
            listed.value = one

    def change_column(_: Any) -> None:
        offer()
        # Everybody is an answer at once; of a column, one value must be chosen first.
        if not column.value:
            control.notice()

    control = Control(name, box, read, write, watched=(listed, typed))
    column.observe(lambda change: None if control.is_quiet else change_column(change), "value")
    return control


def _list_columns(choices: Choices) -> list[tuple[str, str]]:
    return [(say("Everybody"), ""), *((spell_column(c), c) for c in choices.segments)]


def _pick_funnel(name: str, common: dict[str, Any], choices: Choices) -> Control:
    funnels = [(say("the playbook's first"), ""), *((f, f) for f in choices.funnels), (say(OWN_STEPS), OWN_STEPS)]
    known = widgets.Dropdown(options=funnels, **common)
    rows = widgets.VBox([])
    more = widgets.Button(description=say("Add a step"), icon="plus", layout={"width": "140px"})
    box = widgets.VBox([known, rows, more])

    def read_steps() -> list[str]:
        return [row.children[0].value for row in rows.children if row.children[0].value]

    def read() -> Value:
        return ARROW.join(read_steps()) if known.value == OWN_STEPS else known.value

    def tell(_: Any = None) -> None:
        # One step is no funnel yet.
        if known.value != OWN_STEPS or len(read_steps()) > 1:
            control.notice()

    def add_row(event: str = "") -> None:
        number = len(rows.children) + 1
        options = [(say("choose an event"), ""), *((e, e) for e in choices.events)]
        if event and event not in choices.events:
            options.append((event, event))
        step = widgets.Dropdown(
            options=options, value=event, description=_name_step(number), style=LABEL_STYLE, layout=LAYOUT
        )
        away = widgets.Button(icon="times", tooltip=_say_remove(number), layout={"width": "36px"})
        row = widgets.HBox([step, away])
        step.observe(lambda change: None if control.is_quiet else tell(), "value")

        def remove(_: Any) -> None:
            rows.children = [r for r in rows.children if r is not row]
            for i, left in enumerate(rows.children, 1):
                left.children[0].description = _name_step(i)
                left.children[1].tooltip = _say_remove(i)
            tell()

        away.on_click(remove)
        rows.children = [*rows.children, row]

    def show_rows() -> None:
        own = known.value == OWN_STEPS
        rows.layout.display = more.layout.display = None if own else "none"

    def write(value: Value) -> None:
        text = str(value)
        own = ">" in text
        if not own and text not in [v for _, v in known.options]:
            known.options = [*known.options, (text, text)]
        known.value = OWN_STEPS if own else text
        rows.children = ()
        for event in [part.strip() for part in text.split(">")] if own else ["", ""]:
            add_row(event)
        show_rows()

    def change_known(_: Any) -> None:
        show_rows()
        tell()

    control = Control(name, box, read, write, watched=())
    known.observe(lambda change: None if control.is_quiet else change_known(change), "value")
    more.on_click(lambda _: add_row())
    return control


def _name_step(number: int) -> str:
    return say("Step {number}", number=number)


def _say_remove(number: int) -> str:
    return say("Remove step {number}", number=number)

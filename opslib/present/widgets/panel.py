"""What somebody who explores sees beside the results: controls, progress, what went wrong, and how to get it again."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets
from IPython.display import display

from opslib.errors import InputError
from opslib.language import mark, say
from opslib.parameters import Value, save_view, write_papermill_command, write_report_command
from opslib.present import theme
from opslib.present.widgets.bridge import Bridge
from opslib.present.widgets.choices import list_choices
from opslib.present.widgets.controls import Control, make_control, offer_steps
from opslib.present.widgets.labels import LABELS

if TYPE_CHECKING:
    from opslib.present.widgets.live import LiveExploration
    from opslib.present.widgets.section import Section


class Panel:
    """The controls of one exploration, in one or several cells, with one state."""

    def __init__(self, exploration: LiveExploration) -> None:
        self._exploration = exploration
        self._controls: dict[str, list[Control]] = {}
        self._choices = list_choices(exploration.data)
        self._blocks: list[tuple[widgets.VBox, list[str], bool]] = []
        self._bridge = Bridge()
        self._status = widgets.HTML()
        self._status.add_class("opslib-status")
        self._progress = widgets.IntProgress(min=0, max=1, layout={"width": "160px", "visibility": "hidden"})
        self._stop = widgets.Button(icon="stop", disabled=True, layout={"width": "90px"})
        self._stop.on_click(lambda _: exploration.stop())
        self._bridge.observe(lambda change: exploration.drill(change["new"]["text"]), "drill")
        self._say("")
        self._name_buttons()
        self._write_commands()

    def show(self, names: Sequence[str], *, first: bool) -> None:
        """Show controls for parameters; what they share, such as the language, beside the first of them."""
        box = widgets.VBox()
        box.add_class("opslib-controls")
        self._blocks.append((box, [name for name in names if name != "lang"], first))
        self._fill(*self._blocks[-1])
        display(box)

    def draw(self) -> None:
        """Draw all controls anew, in the language spoken now."""
        self._controls = {name: found for name, found in self._controls.items() if name == "lang"}
        self._name_buttons()
        for block in self._blocks:
            self._fill(*block)

    def _fill(self, box: widgets.VBox, names: Sequence[str], first: bool) -> None:
        status = widgets.HBox([self._stop, self._progress, self._status], layout={"align_items": "center"})
        controls = [self._make(name).widget for name in names]
        grid = widgets.Box(controls, layout={"flex_flow": "row wrap", "grid_gap": "2px 24px"})
        if not first:
            box.children = [grid, status]
            return
        # The list of languages stays, or whoever chose from it with the keyboard would have to look for it again.
        language = box.children[0] if box.children else self._make("lang").widget
        language.description = say(LABELS["lang"])
        box.children = [language, grid, status, self._make_saving(), self._bridge]

    def write(self, values: Mapping[str, Value]) -> None:
        """Set controls without computing anything."""
        for name, value in values.items():
            for control in self._controls.get(name, ()):
                control.write(value)

    def show_working(self, done: int, sections: Sequence[Section]) -> None:
        """Say how far a computation is; the sections that wait for it are shown paler."""
        self._progress.max, self._progress.value = max(len(sections), 1), done
        self._progress.layout.visibility = "visible"
        self._stop.disabled = False
        if done:
            self._say(say("{done} of {count} sections are up to date", done=done, count=len(sections)))
        else:
            self._say(say("Computing ..."))
        self._bridge.waiting = [section.label for section in sections[done:]]

    def show_done(self) -> None:
        """Say that all sections show what the controls say."""
        self._end()
        self._say(say("All sections are up to date."))
        self._write_commands()
        self._offer_steps()

    def show_failure(self, text: str) -> None:
        """Say in words what went wrong; the results stay those of the last good state."""
        self._end()
        self._say(say("{error} The results below are still the ones from before.", error=text), wrong=True)

    def save(self, name: str) -> None:
        """Save what is on screen as a named view of the playbook, and say so."""
        parameters = self._exploration.parameters
        try:
            replaced = save_view(parameters, name)
        except InputError as error:
            self._say(str(error), wrong=True)
            return
        template = mark("View saved in {playbook}. To see it again: {command}")
        if replaced:
            template = mark("View replaced in {playbook}. To see it again: {command}")
        command = f"opslib report --view {name}"
        self._say(say(template, playbook=Path(parameters.playbook).name, command=command))

    def _end(self) -> None:
        self._stop.disabled = True
        self._progress.layout.visibility = "hidden"
        self._bridge.waiting = []

    def _make(self, name: str) -> Control:
        exploration = self._exploration
        control = make_control(
            name, exploration.parameters, exploration.data, self._choices, steps=_list_step_names(exploration.result)
        )
        # A cell that runs again shows its controls anew; older ones of the same parameter follow.
        self._controls.setdefault(name, []).append(control)
        control.on_change(self._change)
        return control

    def _name_buttons(self) -> None:
        self._stop.description = say("Stop")
        self._bridge.speak()

    def _change(self, name: str, value: Value) -> None:
        for control in self._controls.get(name, ()):
            if control.read() != value:
                control.write(value)
        self._exploration.change({name: value})

    def _say(self, text: str, *, wrong: bool = False) -> None:
        color = theme.RED if wrong else theme.MUTED
        self._status.value = f'<span style="color: {color}">{html.escape(text)}</span>'

    def _write_commands(self) -> None:
        parameters = self._exploration.parameters
        self._bridge.commands = [
            ["opslib report", write_report_command(parameters)],
            ["papermill", write_papermill_command(parameters)],
        ]

    def _offer_steps(self) -> None:
        for control in self._controls.get("step", ()):
            offer_steps(control, _list_step_names(self._exploration.result))

    def _make_saving(self) -> widgets.Box:
        name = widgets.Text(
            description=say("Name of the view"), placeholder=say("such as android-checkout"),
            style={"description_width": "150px"}, layout={"width": "360px"},
        )  # fmt: skip
        save = widgets.Button(description=say("Save view"), icon="bookmark", layout={"width": "120px"})
        tooltip = say("back to the values of the parameters cell")
        back = widgets.Button(description=say("Reset"), icon="undo", layout={"width": "120px"}, tooltip=tooltip)
        back.on_click(lambda _: self._exploration.reset())

        save.on_click(lambda _: self.save(name.value.strip()))
        return widgets.HBox([name, save, back])


def _list_step_names(result: Any) -> list[str]:
    path = getattr(result, "path", None)
    return list(getattr(path, "labels", ()))

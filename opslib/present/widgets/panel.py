"""What somebody who explores sees beside the results: controls, progress, what went wrong, and how to get it again."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets
from IPython.display import display

from opslib.errors import InputError
from opslib.parameters import Value, save_view, write_papermill_command, write_report_command
from opslib.present import theme
from opslib.present.widgets.bridge import Bridge
from opslib.present.widgets.choices import list_choices
from opslib.present.widgets.controls import Control, make_control, offer_steps

if TYPE_CHECKING:
    from opslib.present.widgets.live import LiveExploration
    from opslib.present.widgets.section import Section


class Panel:
    """The controls of one exploration, in one or several cells, with one state."""

    def __init__(self, exploration: LiveExploration) -> None:
        self._exploration = exploration
        self._controls: dict[str, list[Control]] = {}
        self._choices = list_choices(exploration.data)
        self._bridge = Bridge()
        self._status = widgets.HTML()
        self._status.add_class("opslib-status")
        self._progress = widgets.IntProgress(min=0, max=1, layout={"width": "160px", "visibility": "hidden"})
        self._stop = widgets.Button(description="Stop", icon="stop", disabled=True, layout={"width": "90px"})
        self._stop.on_click(lambda _: exploration.stop())
        self._bridge.observe(lambda change: exploration.drill(change["new"]["text"]), "drill")
        self._say("")
        self._write_commands()

    def show(self, names: Sequence[str], *, first: bool) -> None:
        """Show controls for parameters; what they share, such as the commands, beside the first of them."""
        made = [self._make(name) for name in names]
        for control in made:
            # A cell that runs again shows its controls anew; older ones of the same parameter follow.
            self._controls.setdefault(control.name, []).append(control)
            control.on_change(self._change)
        status = widgets.HBox([self._stop, self._progress, self._status], layout={"align_items": "center"})
        grid = widgets.Box([c.widget for c in made], layout={"flex_flow": "row wrap", "grid_gap": "2px 24px"})
        parts: list[Any] = [grid, status]
        if first:
            parts += [self._make_saving(), self._bridge]
        box = widgets.VBox(parts)
        box.add_class("opslib-controls")
        display(box)

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
        self._say(f"{done} of {len(sections)} sections are up to date" if done else "Computing ...")
        self._bridge.waiting = [section.label for section in sections[done:]]

    def show_done(self) -> None:
        """Say that all sections show what the controls say."""
        self._end()
        self._say("All sections are up to date.")
        self._write_commands()
        self._offer_steps()

    def show_failure(self, text: str) -> None:
        """Say in words what went wrong; the results stay those of the last good state."""
        self._end()
        self._say(f"{text} The results below are still the ones from before.", wrong=True)

    def save(self, name: str) -> None:
        """Save what is on screen as a named view of the playbook, and say so."""
        parameters = self._exploration.parameters
        try:
            done = "replaced" if save_view(parameters, name) else "saved"
        except InputError as error:
            self._say(str(error), wrong=True)
            return
        again = f"opslib report --view {name}"
        self._say(f"View {done} in {Path(parameters.playbook).name}. To see it again: {again}")

    def _end(self) -> None:
        self._stop.disabled = True
        self._progress.layout.visibility = "hidden"
        self._bridge.waiting = []

    def _make(self, name: str) -> Control:
        exploration = self._exploration
        control = make_control(
            name, exploration.parameters, exploration.data, self._choices, steps=_list_step_names(exploration.result)
        )
        return control

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
            description="Name of the view", placeholder="such as android-checkout",
            style={"description_width": "150px"}, layout={"width": "360px"},
        )  # fmt: skip
        save = widgets.Button(description="Save view", icon="bookmark", layout={"width": "120px"})
        back = widgets.Button(description="Reset", icon="undo", layout={"width": "120px"},
                              tooltip="back to the values of the parameters cell")  # fmt: skip
        back.on_click(lambda _: self._exploration.reset())

        save.on_click(lambda _: self.save(name.value.strip()))
        return widgets.HBox([name, save, back])


def _list_step_names(result: Any) -> list[str]:
    path = getattr(result, "path", None)
    return list(getattr(path, "labels", ()))

"""The controls' half in the page: clicks on charts, the clipboard, and results that wait for newer ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anywidget
import traitlets

from opslib.language import say

FOLDER = Path(__file__).parent


class Bridge(anywidget.AnyWidget):
    """A widget that shows commands to copy, and carries what ipywidgets cannot.

    Traits:
        commands: what it runs with -> a line for a shell.
        drill: set by the page when somebody clicks a mark of a chart: `text` holds parameters as JSON.
        texts: of the buttons, in the language spoken.
        waiting: labels of the results that are being computed anew; the page dims them.
    """

    _esm = FOLDER / "bridge.js"
    _css = FOLDER / "bridge.css"

    commands: Any = traitlets.List([]).tag(sync=True)
    drill: Any = traitlets.Dict({}).tag(sync=True)
    texts: Any = traitlets.Dict({}).tag(sync=True)
    waiting: Any = traitlets.List([]).tag(sync=True)

    def speak(self) -> None:
        """Put the buttons into the language spoken now; the page fills in their names."""
        self.texts = {"copy": say("Copy as {name}"), "copied": say("Copied"), "select": say("Select and copy")}

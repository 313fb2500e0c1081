"""The controls' half in the page: clicks on charts, the clipboard, and results that wait for newer ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anywidget
import traitlets

FOLDER = Path(__file__).parent


class Bridge(anywidget.AnyWidget):
    """A widget that shows commands to copy, and carries what ipywidgets cannot.

    Traits:
        commands: what it runs with -> a line for a shell.
        drill: set by the page when somebody clicks a mark of a chart: `text` holds parameters as JSON.
        waiting: labels of the results that are being computed anew; the page dims them.
    """

    _esm = FOLDER / "bridge.js"
    _css = FOLDER / "bridge.css"

    commands: Any = traitlets.List([]).tag(sync=True)
    drill: Any = traitlets.Dict({}).tag(sync=True)
    waiting: Any = traitlets.List([]).tag(sync=True)

"""A notebook's result and the sections that show it: the same cells for a schedule, a reader and an explorer."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from opslib.language import set_language
from opslib.parameters import NotebookParameters

if TYPE_CHECKING:
    from opslib.data.source import Data

# Jupyter's server sets the first for the kernels of its users' sessions, Voila the second; nothing that runs by itself.
SESSION = "JPY_SESSION_NAME"
SERVER = "SERVER_SOFTWARE"

Compute = Callable[..., Any]
View = Callable[[Any], Any]


class Exploration:
    """A result that was computed once, with sections that show it.

    Attributes:
        data: the company's data.
        parameters: what the result was computed with.
        result: what `compute` gave.
    """

    def __init__(self, compute: Compute, data: Data, parameters: NotebookParameters) -> None:
        self.compute = compute
        self.data = data
        self.parameters = parameters
        self.speak(parameters)
        self.result = compute(data, **parameters.to_options())

    def speak(self, parameters: NotebookParameters) -> None:
        """Speak the language that the parameters ask for, or else the playbook's."""
        set_language(parameters.lang or self.data.playbook.company.lang)

    def show(self, view: View, *details: Any) -> Any:
        """Show the result in one way, such as `charts.plot_steps`; what else the function takes comes after it."""
        return view(self.result, *details)

    def show_controls(self, *names: str) -> None:
        """Show controls for these parameters to somebody who is there; nobody else sees anything."""


def explore(compute: Compute, data: Data, parameters: NotebookParameters) -> Exploration:
    """Compute a notebook's result so that somebody in JupyterLab can change its parameters and see it follow.

    Args:
        compute: the notebook's main function, such as `diagnose_funnel`; it takes the data and options by name.
        data: the company's data.
        parameters: the notebook's, checked.

    Returns:
        An `Exploration`. Its `show` takes what makes a chart, a table or an answer of the result.

    Raises:
        InputError: what `compute` refuses.
    """
    if SESSION not in os.environ and not is_voila():
        return Exploration(compute, data, parameters)
    # Loads the widgets, which nothing else needs.
    from opslib.present.widgets.live import LiveExploration

    return LiveExploration(compute, data, parameters)


def is_voila() -> bool:
    """Whether Voila serves this notebook: a page of widgets alone, whose other outputs never change."""
    return os.environ.get(SERVER, "").startswith("voila")

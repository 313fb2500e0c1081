"""One section of a notebook that somebody explores: a way to show the result, and the output that it fills."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from typing import Any

import ipywidgets as widgets
from IPython.core.getipython import get_ipython
from IPython.display import display

from opslib.present.display import AnswerView, ChartView, ListView
from opslib.present.widgets.exploration import View, is_voila

Bundle = tuple[dict[str, Any], dict[str, Any]]


class Section:
    """A view of the result and its output.

    Attributes:
        key: names the output.
        cell, run: the cell that shows it, and which run of that cell.
        label: what the page knows the output by.
        quotes_all: whether it draws on the whole result, as an answer in sentences does.
    """

    def __init__(self, view: View) -> None:
        self.view = view
        self.key = f"opslib-{uuid.uuid4().hex[:12]}"
        self.cell, self.run = _find_cell()
        self.label = self.key
        self.quotes_all = False
        self._shown: Bundle = ({}, {})
        self._settled: Bundle = ({}, {})
        self._compiled: tuple[Any, Bundle] | None = None
        self._widget = widgets.Output() if is_voila() else None

    def open(self, result: Any) -> None:
        """Draw for the first time, as a new output of the running cell."""
        self._shown = self._settled = self.draw(result)
        self._publish(update=False)

    def draw(self, result: Any) -> Bundle:
        """Make the output of a result."""
        shown = self.view(result)
        self.quotes_all = isinstance(shown, AnswerView | ListView)
        if not isinstance(shown, ChartView):
            return self._mark(_make_bundle(shown))
        # Compiling costs far more than building: what has not changed is not compiled again.
        source = (shown.title, shown.alt, shown.spec)
        if self._compiled is None or self._compiled[0] != source:
            self._compiled = (source, _split(shown.make_bundle(picture=self._draws_pictures())))
        return self._compiled[1]

    def _draws_pictures(self) -> bool:
        """The first chart of a cell stays with the notebook even where nobody scrolls to it; Voila draws no other."""
        return self._compiled is None or self._widget is not None

    def _mark(self, bundle: Bundle) -> Bundle:
        data, metadata = bundle
        if "text/html" in data:
            data["text/html"] = f'<div data-opslib="{self.key}">{data["text/html"]}</div>'
        return data, metadata

    def update(self, bundle: Bundle) -> None:
        """Put a new output in the place of the old one, if it differs."""
        if bundle != self._shown:
            self._shown = bundle
            self._publish(update=True)

    def settle(self) -> None:
        """What is shown now is what a failure later comes back to."""
        self._settled = self._shown

    def restore(self) -> None:
        """Show again what was settled."""
        self.update(self._settled)

    def _publish(self, *, update: bool) -> None:
        data, metadata = self._shown
        self.label = self.key if "text/html" in data else _describe(data)
        if self._widget is None:
            display(data, metadata=metadata, raw=True, display_id=self.key, update=update)
            return
        self._widget.outputs = ({"output_type": "display_data", "data": data, "metadata": metadata},)
        if not update:
            display(self._widget)


def list_outdated(sections: Iterable[Section], new: Section) -> list[str]:
    """Keys of sections whose cell has been run again, so that their output is gone."""
    return [s.key for s in sections if s.cell and s.cell == new.cell and s.run != new.run]


def _describe(data: dict[str, Any]) -> str:
    spec: dict[str, Any] = next((value for name, value in data.items() if name.startswith("application/vnd.vega.")), {})
    return str(spec.get("description", ""))


def _find_cell() -> tuple[str, str]:
    """The cell that runs, as JupyterLab names it, and the message that runs it; empty where nobody says."""
    shell = get_ipython()
    parent = shell.get_parent() if shell is not None and hasattr(shell, "get_parent") else {}
    return str(parent.get("metadata", {}).get("cellId", "")), str(parent.get("header", {}).get("msg_id", ""))


def _make_bundle(shown: Any) -> Bundle:
    if hasattr(shown, "_repr_mimebundle_"):
        return _split(shown._repr_mimebundle_())
    shell = get_ipython()
    if shell is None or shell.display_formatter is None:
        return {"text/plain": repr(shown)}, {}
    return _split(shell.display_formatter.format(shown))


def _split(made: Any) -> Bundle:
    data, metadata = made if isinstance(made, tuple) else (made, {})
    return dict(data), dict(metadata)

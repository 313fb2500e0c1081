"""An exploration with somebody there: controls, and sections that follow them in place."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from opslib.data.parallel import drop_unused, interrupt_queries, reopen_data
from opslib.errors import InputError
from opslib.language import get_language, say
from opslib.parameters import NotebookParameters, Value, check_parameters
from opslib.present.widgets.exploration import Compute, Exploration, View
from opslib.present.widgets.panel import Panel
from opslib.present.widgets.section import Section, list_outdated
from opslib.present.widgets.worker import SupersededError, Ticket, Worker

if TYPE_CHECKING:
    from opslib.data.source import Data

# Parameters that no mark of a chart sets.
SETTINGS = ("playbook", "lang")
# Running the cell again starts over: the exploration that its controls belonged to must not go on drawing.
_open: dict[str, LiveExploration] = {}


class LiveExploration(Exploration):
    """Sections that are drawn again when a control changes.

    What is on screen is always one set of parameters, `parameters`: a computation that fails or is stopped puts back
    what was there before. Everything that touches widgets or outputs runs on the kernel's main thread; computing runs
    on a thread of its own, so that the controls answer meanwhile.
    """

    def __init__(self, compute: Compute, data: Data, parameters: NotebookParameters) -> None:
        if (before := _open.pop(parameters.notebook, None)) is not None:
            before.close()
        # A connection of its own: an engine's connection serves one thread at a time.
        super().__init__(compute, reopen_data(data), parameters)
        self._first = parameters
        self._wanted: dict[str, Value] = parameters.to_literals()
        self._sections: dict[str, Section] = {}
        self._blocks: dict[str, int] = {}
        self._worker = Worker(interrupt=partial(interrupt_queries, self.data))
        self._panel = Panel(self)
        self._spoken = get_language()
        self._loop = _find_loop()
        _open[parameters.notebook] = self

    def close(self) -> None:
        """Compute nothing any more."""
        self._worker.close()

    def wait(self, seconds: float = 60.0) -> bool:
        """Wait until nothing is being computed; tell whether that came to be."""
        return self._worker.wait(seconds)

    def show(self, view: View, *details: Any) -> None:
        """Show the result in one way, here and whenever it changes."""
        self._worker.wait()
        section = Section(lambda result: view(result, *details))
        for outdated in list_outdated(self._sections.values(), section):
            self._sections.pop(outdated)
        section.open(self.result)
        self._sections[section.key] = section

    def show_controls(self, *names: str) -> None:
        """Show controls for these parameters; the sections below follow first."""
        self._worker.wait()
        fields = type(self.parameters).model_fields
        unknown = [name for name in names if name not in fields]
        if unknown:
            raise InputError(
                f"{self.parameters.notebook} has no parameter '{unknown[0]}'. It has: {', '.join(fields)}."
            )
        self._blocks.update(dict.fromkeys(names, len(self._sections)))
        self._panel.show(names, first=len(self._blocks) == len(names))

    def change(self, values: dict[str, Value]) -> None:
        """Change parameters, as a control does: what depends on them follows."""
        self._wanted |= values
        try:
            parameters = check_parameters(self.parameters.notebook, self._wanted)
        except InputError as error:
            self._worker.stop()
            self._fail(str(error))
            return
        block = min((self._blocks[name] for name in values if name in self._blocks), default=0)
        self._panel.show_working(0, self._order(block))
        self._worker.request(lambda ticket: self._compute(ticket, parameters, block))

    def drill(self, text: str) -> None:
        """Set the parameters that a clicked mark names."""
        fields = type(self.parameters).model_fields
        values = {name: v for name, v in json.loads(text).items() if name in fields and name not in SETTINGS}
        if values:
            self._panel.write(values)
            self.change(values)

    def reset(self) -> None:
        """Go back to the values of the parameters cell."""
        values = {name: v for name, v in self._first.to_literals().items() if name != "playbook"}
        self._panel.write(values)
        self.change(values)

    def stop(self) -> None:
        """Give up what is being computed, and show again what was there before."""
        self._worker.stop()
        self._fail(say("Stopped."))

    def _compute(self, ticket: Ticket, parameters: NotebookParameters, block: int) -> None:
        """Compute and draw, on the worker's thread."""
        sections = self._order(block)
        try:
            drop_unused(self.data)
            self.speak(parameters)
            result = self.compute(self.data, **parameters.to_options())
            for number, section in enumerate(sections):
                ticket.check()
                self._post(ticket, partial(self._panel.show_working, number, sections))
                self._post(ticket, partial(section.update, section.draw(result)))
        except SupersededError:
            raise
        except Exception as error:
            # A query that was interrupted fails in the engine's own words.
            ticket.check()
            self._post(ticket, partial(self._fail, _say_error(error)))
            return
        self._post(ticket, partial(self._finish, parameters, result, len(sections)))

    def _order(self, block: int) -> list[Section]:
        """What is right below the control first, and what quotes the whole result last."""
        sections = list(self._sections.values())
        sections = sections[block:] + sections[:block]
        return sorted(sections, key=lambda section: section.quotes_all)

    def _post(self, ticket: Ticket, call: Callable[[], None]) -> None:
        """Call on the main thread, unless by then nobody wants it any more."""

        def guarded() -> None:
            if not ticket.cancelled:
                call()

        if self._loop is None:
            guarded()
        else:
            self._loop.call_soon_threadsafe(guarded)

    def _finish(self, parameters: NotebookParameters, result: Any, count: int) -> None:
        self.parameters, self.result = parameters, result
        for section in self._sections.values():
            section.settle()
        self._show_panel()
        self._panel.show_done()
        # A cell that ran meanwhile shows the result from before.
        if count < len(self._sections):
            self.change({})

    def _fail(self, text: str) -> None:
        for section in self._sections.values():
            section.restore()
        # What is on screen is in the language of the last good state, and so is the next thing said.
        self.speak(self.parameters)
        self._panel.show_failure(text)

    def _show_panel(self) -> None:
        if self._spoken != get_language():
            self._spoken = get_language()
            self._panel.draw()


def _say_error(error: Exception) -> str:
    if isinstance(error, InputError):
        return str(error)
    first = (str(error).splitlines() or [""])[0]
    return say("This could not be computed: {error}: {reason}", error=type(error).__name__, reason=first)


def _find_loop() -> asyncio.AbstractEventLoop | None:
    with contextlib.suppress(RuntimeError):
        return asyncio.get_running_loop()
    return None

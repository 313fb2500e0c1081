"""Progress on stderr: moving bars on a terminal, plain lines elsewhere. stdout stays for the result."""

from __future__ import annotations

import sys
import threading
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from opslib.run.execute import Progress


class PlainProgress:
    """One line when something begins or ends; fit for logs."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._lock = threading.Lock()

    def __enter__(self) -> PlainProgress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing to close."""

    def show_stage(self, text: str) -> None:
        """Say what begins."""
        self._print(f"{text} ...")

    def show_notebook(self, progress: Progress) -> None:
        """Say that a notebook ended; what lies between is no news in a log."""
        if progress.state in ("done", "failed"):
            self._print(describe_progress(progress))

    def _print(self, text: str) -> None:
        with self._lock:
            print(text, file=self._stream, flush=True)


class BarProgress:
    """A bar a notebook, on a terminal."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as Bars

        self._console = Console(stderr=True)
        # Values from outside may hold square brackets, which rich would read as markup.
        self._bars = Bars(
            TextColumn("{task.description}", markup=False), BarColumn(bar_width=30),
            TextColumn("{task.fields[state]}", markup=False), TimeElapsedColumn(), console=self._console,
        )  # fmt: skip
        self._tasks: dict[str, Any] = {}
        self._ended: set[str] = set()
        self._lock = threading.Lock()

    def __enter__(self) -> BarProgress:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def show_stage(self, text: str) -> None:
        """Say what begins, above the bars."""
        self._console.print(f"{text} ...", markup=False, highlight=False)

    def show_notebook(self, progress: Progress) -> None:
        """Move a notebook's bar."""
        with self._lock:
            if progress.name in self._ended:
                self._clear()
            if progress.name not in self._tasks:
                self._tasks[progress.name] = self._bars.add_task(progress.name, total=progress.total or 1, state="")
            ended = progress.state in ("done", "failed")
            done = progress.total or 1 if progress.state == "done" else progress.done
            task = self._tasks[progress.name]
            self._bars.update(task, completed=done, state=progress.state)
            if ended:
                self._bars.stop_task(task)
                self._ended.add(progress.name)
        if progress.state == "failed":
            self._console.print(describe_progress(progress), markup=False, highlight=False)

    def _clear(self) -> None:
        """Take the bars away that ended: a notebook that runs again does so for the next day or quarter."""
        for name in self._ended:
            self._bars.remove_task(self._tasks.pop(name))
        self._ended.clear()


def choose_progress() -> PlainProgress | BarProgress:
    """Bars where somebody watches, lines elsewhere."""
    return BarProgress() if sys.stderr.isatty() else PlainProgress()


def describe_progress(progress: Progress) -> str:
    """Put the end of a notebook in one line."""
    if progress.state == "failed":
        return f"{progress.name}: failed after {progress.seconds:.1f} s. {progress.cause}"
    return f"{progress.name}: done in {progress.seconds:.1f} s"


def describe_left(seconds: Sequence[float], *, runs: int) -> list[str]:
    """Say how long so many runs will take, from how long others took; nothing where there are none.

    >>> describe_left([], runs=6), describe_left([3, 5], runs=2), describe_left([60, 90], runs=4)
    ([], ['about 10 s left'], ['about 5 min left'])
    >>> describe_left([600], runs=13)
    ['about 2 h 10 min left']
    """
    if not seconds:
        return []
    expected = sum(seconds) / len(seconds) * runs
    if expected < 55:
        return [f"about {max(round(expected, -1), 10):.0f} s left"]
    hours, minutes = divmod(round(expected / 60), 60)
    return [f"about {f'{hours} h ' if hours else ''}{minutes} min left"]

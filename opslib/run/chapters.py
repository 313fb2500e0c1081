"""Run notebooks and write each one's page as soon as it is done, with what those ask for run after them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opslib.language import say
from opslib.parameters import NotebookParameters

if TYPE_CHECKING:
    from nbformat import NotebookNode

    from opslib.data.source import Data
    from opslib.run.drawer import Drawer
    from opslib.run.execute import Outcome, Progress
    from opslib.run.forkserver import ForkServer
    from opslib.run.publish import Chapter, Facts

CHECKED_FILE = "checked.json"


@dataclass(frozen=True)
class Run:
    """A notebook to run, with its checked parameters.

    Attributes:
        name: of its files in the report: the notebook's own, or with a number where it runs more than once.
        parameters: what it runs with.
        reason: why it was opened, where another notebook asked for it.
    """

    name: str
    parameters: NotebookParameters
    reason: str = ""


@dataclass(frozen=True)
class Opening:
    """What a finished notebook has opened.

    Attributes:
        runs: what is to be run because of it.
        problems: a sentence for each run that it asks for and that cannot be.
    """

    runs: Sequence[Run] = ()
    problems: Sequence[str] = ()


# What the findings of a finished notebook ask to be run as well.
Follow = Callable[[Run, Sequence[Any], "Data"], Opening]


class Preparation:
    """Work for later, done in threads while the main thread or the kernels are busy."""

    def __enter__(self) -> Preparation:
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="prepare")
        self._drawer: Drawer | None = None
        self._imports = self._threads.submit(_import_for_running)
        return self

    def begin_rendering(self) -> None:
        """Prepare the pages, once. Not before the kernels: a refused run must not wait for it."""
        if self._drawer is not None:
            return
        self._imports.result()
        from opslib.run.charts import Drawings
        from opslib.run.drawer import Drawer

        self._drawer = Drawer()
        self._bundle = self._threads.submit(_load_bundle)
        self._threads.submit(_prepare_rendering)
        self.drawings = Drawings(self._drawer)

    def draw(self, output: NotebookNode) -> None:
        """Draw an output's chart, if it is one, while the kernels run on."""
        self.drawings.begin(output.get("data", {}))

    @property
    def bundle(self) -> str:
        """The charts' script, as soon as it is there."""
        return self._bundle.result()

    def __exit__(self, *_: object) -> None:
        if self._drawer is not None:
            self._drawer.close()
        self._threads.shutdown(wait=False, cancel_futures=True)


def _import_for_running() -> None:
    import papermill  # noqa: F401

    import opslib.run.kernels  # noqa: F401


def _load_bundle() -> str:
    from opslib.run.charts import load_bundle

    return load_bundle()


def _prepare_rendering() -> None:
    from opslib.run.render import clean_markdown
    from opslib.run.template import load_exporter

    load_exporter()
    clean_markdown("ready")


@dataclass(frozen=True)
class Kitchen:
    """Where notebooks are run and their pages written."""

    folder: Path
    facts: Facts
    partial: Path
    ready: Preparation
    workers: int | None
    server: ForkServer | None
    on_progress: Callable[[Progress], None]

    def run_chapters(self, runs: Sequence[Run], data: Data, follow: Follow | None) -> tuple[list[Chapter], list[Run]]:
        """Run notebooks and write their pages; give them in order, and what is to be run because of them."""
        from opslib.data.checked import VARIABLE
        from opslib.run.charts import CHARTS_LATER
        from opslib.run.execute import Job, run_notebooks

        finished: dict[str, Chapter] = {}
        opened: dict[str, Opening] = {}
        by_name = {run.name: run for run in runs}

        def finish(outcome: Outcome) -> None:
            from opslib.run.render import find_findings

            run = by_name[outcome.name]
            findings, sentences = find_findings(outcome.notebook)
            opened[run.name] = follow(run, findings, data) if follow else Opening()
            finished[run.name] = self._finish_chapter(outcome, run, findings, sentences, opened[run.name])

        jobs = [
            Job(run.name, self.folder / f"{run.parameters.notebook}.ipynb", run.parameters.to_literals())
            for run in runs
        ]
        self.ready.begin_rendering()
        run_notebooks(
            jobs, workers=self.workers, server=self.server,
            env={**CHARTS_LATER, VARIABLE: str(self.partial / CHECKED_FILE)},
            on_progress=self.on_progress, on_output=self.ready.draw, on_done=finish,
        )  # fmt: skip
        return [finished[run.name] for run in runs], [more for run in runs for more in opened[run.name].runs]

    def _finish_chapter(
        self, outcome: Outcome, run: Run, findings: Sequence[Any], sentences: Sequence[str], opened: Opening
    ) -> Chapter:
        from opslib.run.publish import Chapter, write_document, write_page
        from opslib.run.render import PageOptions, render_notebook

        started = time.perf_counter()
        drawings, facts, model = self.ready.drawings, self.facts, run.parameters
        for cell in outcome.notebook.cells:
            for output in cell.get("outputs", []):
                drawings.complete(output.get("data", {}))
        literals = model.to_literals()
        fields = type(model).model_fields
        options = PageOptions(
            title=say(model.title),
            company=facts.company,
            parameters=[
                (name, _show_value(name, value, fields[name].default, facts), say(fields[name].description or name))
                for name, value in literals.items()
                if name in fields
            ],
            status=outcome.cause,
            index="index.html",
            bundle=self.ready.bundle,
            lang=outcome.notebook.metadata.get("lang", facts.lang),
            reason=run.reason,
            links=[(say(more.parameters.title), f"{more.name}.html", more.reason) for more in opened.runs],
            problems=opened.problems,
        )
        page = render_notebook(outcome.notebook, options, drawings)
        write_page(self.partial, outcome, page)
        chapter = Chapter(
            outcome, page, literals, findings, sentences, 0.0, model.notebook, run.reason, opened.problems
        )
        write_document(self.partial, chapter)
        return replace(chapter, page_seconds=time.perf_counter() - started)


def _show_value(name: str, value: Any, default: Any, facts: Facts) -> str:
    if value != default:
        return str(value)
    # A reader of last year's page must see which quarter or day the default meant.
    shown = {"quarter": facts.period, "as_of": facts.as_of, "lang": facts.lang}.get(name, value)
    return say("{value} (default)", value=shown) if shown else say("(default)")

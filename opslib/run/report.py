"""Make a report: check everything, run the notebooks, write the folder, put it into place.

The order is the promise: parameters, destination, data; only then a kernel. Work that shows nothing (imports,
the script for charts) overlaps with the waiting.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opslib.errors import InputError
from opslib.parameters import NOTEBOOKS, SECRET_NAME, NotebookParameters, find_notebook, parse_parameters
from opslib.run.folder import check_destination, write_aside

if TYPE_CHECKING:
    from nbformat import NotebookNode

    from opslib.data.source import Data
    from opslib.run.drawer import Drawer
    from opslib.run.execute import Outcome, Progress
    from opslib.run.forkserver import ForkServer
    from opslib.run.publish import Chapter, Facts

MOST_PROBLEMS_NAMED = 20
CHECKED_FILE = "checked.json"


@dataclass(frozen=True)
class Report:
    """A report that was written.

    Attributes:
        out: its folder.
        exit_code: 0, or 1 when a notebook failed.
        causes: notebook to one line of what went wrong, empty for those that finished.
        seconds: wall time of the whole run.
    """

    out: Path
    exit_code: int
    causes: Mapping[str, str]
    seconds: float

    @property
    def index(self) -> Path:
        """The page to open first."""
        return self.out / "index.html"


def make_report(
    names: Sequence[str] = (),
    texts: Mapping[str, str] | None = None,
    *,
    out: Path | None = None,
    notebooks: Path | None = None,
    workers: int | None = None,
    server: ForkServer | None = None,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    on_stage: Callable[[str], None] = lambda stage: None,
) -> Report:
    """Run notebooks and write their report.

    Args:
        names: which notebooks; default all there are.
        texts: parameters as text; each goes to the notebooks that declare it.
        out: the report's folder; default `reports/<company>`.
        notebooks: folder of the notebooks; default the one that comes with opslib.
        workers: how many notebooks run at once; default the number of processors.
        server: where kernels come from that have their libraries imported; default ordinary kernels.
        on_progress: called from other threads as notebooks advance.
        on_stage: called with a few words when a new stage begins.

    Raises:
        InputError: parameters, destination or data are refused; nothing was run and nothing written.
    """
    from opslib.data.checked import store_fitness

    clock = _Clock()
    folder = notebooks or notebooks_folder()
    parameters = share_parameters(choose_notebooks(names, folder), texts or {})
    if out is not None:
        out = check_destination(out)
    clock.lap("parameters")
    on_stage("Checking the data")
    with _Preparation() as ready:
        data = open_input(parameters)
        parameters, left_out = leave_out(parameters, data, named=bool(names), texts=texts or {})
        for model in parameters.values():
            model.check_data(data)
        out = out or check_destination(Path("reports") / slugify(data.playbook.company.name))
        clock.lap("check")
        on_stage(f"Running {len(parameters)} notebook{'s' * (len(parameters) != 1)}")
        with write_aside(out) as partial:
            store_fitness(data.fitness, data.fingerprint, partial / CHECKED_FILE)
            facts = _gather_facts(data, parameters, left_out)
            chapters = _run_chapters(parameters, folder, facts, partial, ready, workers, server, on_progress)
            clock.lap("notebooks")
            (partial / CHECKED_FILE).unlink()
            exit_code = int(any(not chapter.outcome.ok for chapter in chapters))
            _write_rest(partial, facts, chapters, exit_code, clock)
    causes = {chapter.name: chapter.outcome.cause for chapter in chapters}
    return Report(out, exit_code, causes, clock.total)


def notebooks_folder() -> Path:
    """The folder of the notebooks: beside the package in a checkout, inside it when installed.

    Raises:
        InputError: neither is there.
    """
    package = Path(__file__).resolve().parents[1]
    for folder in (package.parent / "notebooks", package / "notebooks"):
        if folder.is_dir():
            return folder
    raise InputError("The notebooks that come with opslib are not there. Name their folder with --notebooks.")


def choose_notebooks(names: Sequence[str], folder: Path) -> dict[str, type[NotebookParameters]]:
    """Find the notebooks that are meant, in report order; all whose file exists when none is named.

    Raises:
        InputError: an unknown notebook, or one whose file is missing.
    """
    wanted = {find_notebook(name).notebook for name in names}
    chosen = {
        slug: model
        for slug, model in NOTEBOOKS.items()
        if (slug in wanted if wanted else (folder / f"{slug}.ipynb").is_file())
    }
    missing = [slug for slug in chosen if not (folder / f"{slug}.ipynb").is_file()]
    if missing:
        raise InputError(f"There is no {missing[0]}.ipynb in {folder}.")
    if not chosen:
        raise InputError(f"There is no notebook of opslib in {folder}.")
    return chosen


def share_parameters(
    chosen: Mapping[str, type[NotebookParameters]], texts: Mapping[str, str]
) -> dict[str, NotebookParameters]:
    """Give each notebook those of the parameters that it declares, checked.

    Raises:
        InputError: a value is refused, or a name that none of the notebooks declares.
    """
    known = {name for model in chosen.values() for name in model.model_fields}
    for name in texts:
        if name not in known and not SECRET_NAME.search(name):
            raise InputError(_refuse_stray(name, chosen, known))
    return {
        # A name that looks like a secret goes through, for the check to refuse it in its own words.
        slug: parse_parameters(slug, {k: v for k, v in texts.items() if k in model.model_fields or k not in known})
        for slug, model in chosen.items()
    }


def open_input(parameters: Mapping[str, NotebookParameters]) -> Data:
    """Open the data and check their contract.

    Raises:
        InputError: the data do not open or are unfit.
    """
    from opslib.data.source import open_data

    playbooks = {model.playbook for model in parameters.values()}
    if len(playbooks) != 1:
        raise InputError(f"One report has one playbook, not {len(playbooks)}: {', '.join(sorted(playbooks))}.")
    data = open_data(playbooks.pop())
    if data.fitness.verdict == "unfit":
        problems = [str(problem) for problem in data.fitness.problems if problem.severity == "unfit"]
        shown = "".join(f"\n  - {problem}" for problem in problems[:MOST_PROBLEMS_NAMED])
        more = len(problems) - MOST_PROBLEMS_NAMED
        rest = f"\n  and {more} more; see `opslib check`" if more > 0 else ""
        raise InputError(f"The data are unfit for a report:{shown}{rest}")
    return data


def leave_out(
    parameters: Mapping[str, NotebookParameters], data: Data, *, named: bool = False, texts: Collection[str] = ()
) -> tuple[dict[str, NotebookParameters], list[str]]:
    """Leave out notebooks that these data cannot fill, as long as nobody asked for them.

    Args:
        parameters: notebook -> its parameters.
        data: the company's data.
        named: whether the user named the notebooks.
        texts: the parameters that the user named.

    Returns:
        What is left, and a sentence that names the others; no sentence where there are none.

    Raises:
        InputError: the user named such a notebook, or a parameter that only such notebooks have, or nothing is left.
    """
    rest = {slug: model for slug, model in parameters.items() if data.has_activity or not model.needs_activity}
    lacking = [slug for slug in parameters if slug not in rest]
    if not lacking:
        return rest, []
    known = {name for model in rest.values() for name in type(model).model_fields}
    stray = [name for name in texts if name not in known]
    if named or stray or not rest:
        about = " and ".join(lacking) + " cannot do without"
        if stray and not named and rest:
            about = f"Parameter '{stray[0]}' is for notebooks that cannot do without"
        raise InputError(
            f"{about} events or orders, and these data have neither. Name such a table under [tables] in the "
            "playbook, or do without."
        )
    titles = ", ".join(f"{parameters[slug].title} ({slug})" for slug in lacking)
    return rest, [f"Left out of this report, for want of events or orders: {titles}."]


def slugify(name: str) -> str:
    """Make a folder's name of a company's name; letters of any script stay.

    >>> slugify("Acme & Söhne / 北京"), slugify("..")
    ('acme-söhne-北京', 'report')
    """
    return re.sub(r"[\W_]+", "-", name.lower()).strip("-")[:60] or "report"


class _Clock:
    def __init__(self) -> None:
        self._start = self._last = time.perf_counter()
        self.laps: dict[str, float] = {}

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.laps[name], self._last = now - self._last, now

    @property
    def total(self) -> float:
        return time.perf_counter() - self._start


class _Preparation:
    """Work for later, done in threads while the main thread or the kernels are busy."""

    def __enter__(self) -> _Preparation:
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="prepare")
        self._drawer: Drawer | None = None
        self._imports = self._threads.submit(_import_for_running)
        return self

    def begin_rendering(self) -> None:
        """Prepare the pages. Not before the kernels: a refused run must not wait for it."""
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
    from opslib.run.render import clean_markdown, load_exporter

    load_exporter()
    clean_markdown("ready")


def _gather_facts(data: Data, parameters: Mapping[str, NotebookParameters], left_out: Sequence[str]) -> Facts:
    from opslib.run.publish import Facts

    periods = []
    for model in parameters.values():
        if hasattr(model, "quarter"):
            periods.append(str(data.choose_quarter(model.quarter)))
    return Facts(
        company=data.playbook.company.name,
        period=", ".join(dict.fromkeys(periods)),
        verdict=data.fitness.verdict,
        problems=[*left_out, *(str(problem) for problem in data.fitness.problems)],
        fingerprint=data.fingerprint,
    )


def _run_chapters(
    parameters: Mapping[str, NotebookParameters],
    folder: Path,
    facts: Facts,
    partial: Path,
    ready: _Preparation,
    workers: int | None,
    server: ForkServer | None,
    on_progress: Callable[[Progress], None],
) -> list[Chapter]:
    from opslib.data.checked import VARIABLE
    from opslib.run.charts import CHARTS_LATER
    from opslib.run.execute import Job, run_notebooks

    finished: dict[str, Chapter] = {}

    def finish(outcome: Outcome) -> None:
        model = parameters[outcome.name]
        finished[outcome.name] = _finish_chapter(outcome, model, facts, partial, ready)

    jobs = [Job(slug, folder / f"{slug}.ipynb", model.to_literals()) for slug, model in parameters.items()]
    ready.begin_rendering()
    run_notebooks(
        jobs, workers=workers, server=server, env={**CHARTS_LATER, VARIABLE: str(partial / CHECKED_FILE)},
        on_progress=on_progress, on_output=ready.draw, on_done=finish,
    )  # fmt: skip
    return [finished[slug] for slug in parameters]


def _finish_chapter(
    outcome: Outcome, model: NotebookParameters, facts: Facts, partial: Path, ready: _Preparation
) -> Chapter:
    from opslib.run.publish import Chapter, write_page
    from opslib.run.render import PageOptions, find_findings, render_notebook

    started = time.perf_counter()
    for cell in outcome.notebook.cells:
        for output in cell.get("outputs", []):
            ready.drawings.complete(output.get("data", {}))
    literals = model.to_literals()
    fields = type(model).model_fields
    options = PageOptions(
        title=model.title,
        company=facts.company,
        parameters=[
            (name, _show_value(name, value, fields[name].default, facts), fields[name].description or "")
            for name, value in literals.items()
            if name in fields
        ],
        status=outcome.cause,
        index="index.html",
        bundle=ready.bundle,
        lang=outcome.notebook.metadata.get("lang", facts.lang),
    )
    page = render_notebook(outcome.notebook, options, ready.drawings)
    findings, sentences = find_findings(outcome.notebook)
    write_page(partial, outcome, page)
    return Chapter(outcome, page, literals, findings, sentences, time.perf_counter() - started)


def _show_value(name: str, value: Any, default: Any, facts: Facts) -> str:
    if value != default:
        return str(value)
    # A reader of last year's page must see which quarter the default meant.
    shown = facts.period if name == "quarter" else value
    return f"{shown} (default)" if shown else "(default)"


def _write_rest(partial: Path, facts: Facts, chapters: Sequence[Chapter], exit_code: int, clock: _Clock) -> None:
    from dataclasses import replace

    from opslib.run.publish import write_report

    seconds: dict[str, Any] = {**clock.laps, "total": clock.total}
    write_report(partial, replace(facts, seconds=seconds), chapters, exit_code)


def _refuse_stray(name: str, chosen: Mapping[str, Any], known: set[str]) -> str:
    from opslib.errors import suggest_name

    names = ", ".join(chosen)
    verb = "have" if len(chosen) > 1 else "has"
    allowed = ", ".join(sorted(known))
    return f"{names} {verb} no parameter '{name}'.{suggest_name(name, known)} Allowed: {allowed}."

"""Run notebooks with papermill inside this process, several at once, each in a kernel of its own.

A notebook that fails is an outcome, not an exception: the others run on. Everything here trusts its
parameters; they are checked before (`opslib.parameters`), because papermill itself refuses nothing.
"""

from __future__ import annotations

import itertools
import logging
import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nbformat import NotebookNode

    from opslib.run.forkserver import ForkServer
    from opslib.run.kernels import KernelPool

ERROR_MARKER = "papermill-error-cell-tag"
ANSI = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")


@dataclass(frozen=True)
class Job:
    """One notebook to run: its name, its file, and its checked parameters."""

    name: str
    path: Path
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Progress:
    """How far one notebook is: `done` of `total` code cells; `state` is starting, running, done or failed."""

    name: str
    state: str
    done: int
    total: int
    seconds: float
    cause: str = ""


@dataclass(frozen=True)
class Outcome:
    """What became of one notebook.

    Attributes:
        name: the notebook's name.
        notebook: the notebook with its outputs, complete up to the failure if there was one.
        cause: one line that says what went wrong and in which cell; empty when all went well.
        kernel_seconds: from the start until the kernel was ready.
        cell_seconds: seconds of each code cell that ran, in order.
        seconds: from the start until the last cell ended.
    """

    name: str
    notebook: NotebookNode
    cause: str
    kernel_seconds: float
    cell_seconds: tuple[float, ...]
    seconds: float

    @property
    def ok(self) -> bool:
        """True when every cell ran."""
        return not self.cause


def run_notebooks(
    jobs: Sequence[Job],
    *,
    workers: int | None = None,
    server: ForkServer | None = None,
    env: Mapping[str, str] | None = None,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    on_output: Callable[[NotebookNode], None] = lambda output: None,
    on_done: Callable[[Outcome], None] = lambda outcome: None,
) -> list[Outcome]:
    """Run notebooks in parallel, each in its own kernel, with the caller's working folder.

    Args:
        jobs: the notebooks.
        workers: how many run at once; default the number of processors.
        server: where to take kernels from that have the libraries imported; default ordinary kernels.
        env: environment variables for the kernels, besides the caller's.
        on_progress: called from worker threads at the start, after each cell and at the end.
        on_output: called from worker threads with each output, when its cell has ended.
        on_done: called from the worker thread with each outcome, while that kernel is still shutting down.

    Returns:
        One outcome a job, in the jobs' order.

    Raises:
        KeyboardInterrupt: after all kernels were ended.
        Exception: whatever `on_done` raised; all kernels were ended.
    """
    from opslib.run.kernels import open_kernel_pool

    quiet_papermill()
    count = max(1, min(workers or default_workers(), len(jobs)))
    with open_kernel_pool(server, env) as pool, ThreadPoolExecutor(count, thread_name_prefix="notebook") as threads:
        futures: list[Future[Outcome]] = [
            threads.submit(_run_job, job, pool, on_progress, on_output, on_done) for job in jobs
        ]
        try:
            wait(futures, return_when=FIRST_EXCEPTION)
            return [future.result() for future in futures]
        except BaseException:
            # Also Ctrl-C: kernels have sessions of their own and would not hear of it.
            threads.shutdown(wait=False, cancel_futures=True)
            pool.kill_all()
            raise


def default_workers() -> int:
    """How many notebooks run at once unless told: the processors that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS and Windows
        return os.cpu_count() or 1


def quiet_papermill() -> None:
    """Keep papermill's and its helpers' log messages off the terminal; what matters is in the outcome."""
    for name in ("papermill", "papermill.translators", "traitlets"):
        logger = logging.getLogger(name)
        logger.setLevel(logging.CRITICAL)
        logger.propagate = False
        if not logger.handlers:
            logger.addHandler(logging.NullHandler())


def _run_job(
    job: Job,
    pool: KernelPool,
    on_progress: Callable[[Progress], None],
    on_output: Callable[[NotebookNode], None],
    on_done: Callable[[Outcome], None],
) -> Outcome:
    manager = pool.make_manager()
    try:
        outcome = _execute(job, manager, on_progress, on_output)
        on_done(outcome)
        return outcome
    finally:
        pool.stop(manager)


def _execute(
    job: Job, manager: Any, on_progress: Callable[[Progress], None], on_output: Callable[[NotebookNode], None]
) -> Outcome:
    import nbformat
    import papermill
    from papermill.exceptions import PapermillExecutionError

    from opslib.run.translation import translate_notebook

    started = time.perf_counter()
    marks: list[float] = []
    ready: list[float] = []
    running: list[NotebookNode] = []
    cause = ""
    # Read here, not by papermill: it would treat braces in the path as fields to fill in.
    notebook = translate_notebook(nbformat.read(job.path, as_version=4))
    total = sum(bool(c.cell_type == "code" and c.source.strip()) for c in notebook.cells)

    def passed() -> float:
        return time.perf_counter() - started

    def tell(state: str) -> None:
        on_progress(Progress(job.name, state, min(len(marks), total), total, passed(), cause))

    def on_notebook_start(notebook: NotebookNode) -> None:
        ready.append(passed())
        running.append(notebook)
        tell("running")

    def on_cell_executed(cell: NotebookNode, **_: Any) -> None:
        marks.append(passed())
        tell("running")
        for output in cell.get("outputs", []):
            on_output(output)

    tell("starting")
    try:
        running.append(
            papermill.execute_notebook(
                notebook,
                None,
                dict(job.parameters),
                kernel_name="python3",
                language="python",
                progress_bar=False,
                km=manager,
                ipython_hist_file=":memory:",
                on_notebook_start=on_notebook_start,
                on_cell_executed=on_cell_executed,
            )
        )
    except PapermillExecutionError as error:
        cause = describe_failure(error.ename, error.evalue, _cell_number(running, error.exec_count))
    except Exception as error:
        # The kernel did not start or died (out of memory, killed): no cell holds the error.
        where = len(marks) + 1 if ready else None
        cause = describe_failure(type(error).__name__, str(error) or "the kernel stopped", where)
    finished = remove_error_markers(running[-1] if running else notebook)
    seconds = passed()
    edges = [*ready[:1], *marks]
    outcome = Outcome(
        name=job.name,
        notebook=finished,
        cause=cause,
        kernel_seconds=ready[0] if ready else seconds,
        cell_seconds=tuple(after - before for before, after in itertools.pairwise(edges)),
        seconds=seconds,
    )
    tell("failed" if cause else "done")
    return outcome


def describe_failure(name: str, message: str, cell: int | None) -> str:
    """Put a failure in one line: exception, first line of its message, and the cell's number.

    >>> describe_failure("ValueError", "no such day\\nsecond line", 3)
    'ValueError: no such day (code cell 3)'
    """
    lines = [line.strip() for line in ANSI.sub("", message).splitlines() if line.strip()]
    text = lines[0] if lines else ""
    if len(text) > 400:
        text = text[:399] + "…"
    where = f" (code cell {cell})" if cell else ""
    return (f"{name}: {text}" if text else name) + where


def remove_error_markers(notebook: NotebookNode) -> NotebookNode:
    """Take out the cells that papermill adds around an error: the page shows the error in its own way."""
    notebook.cells = [c for c in notebook.cells if ERROR_MARKER not in c.metadata.get("tags", [])]
    return notebook


def _cell_number(running: Sequence[NotebookNode], execution_count: int | None) -> int | None:
    # Counted as the reader sees them: the cell that papermill injected is not in the source notebook.
    if not running or execution_count is None:
        return execution_count
    injected = any("injected-parameters" in c.metadata.get("tags", []) for c in running[-1].cells)
    return execution_count - 1 if injected and execution_count > 1 else execution_count

"""What `opslib report` costs, in one run: against the stock way, against the floor, and where the time goes.

- stock: the `papermill` command, then `jupyter nbconvert --to html`, for each notebook, as many at once as `opslib
  report` runs.
- floor: as many bare kernels, started at once, that only import pandas, altair and ibis; counted from the start of
  the first kernel to the last answer, without the time of the Python that starts them. Printed twice: as the stock
  import, and with the trim of `opslib/_startup.py`. The limit holds for the stock import; the other is printed to be
  honest about it.

The three are measured in turns, so that a busy minute of the machine hits all of them.
"""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks._measured import CACHE, ROOT, ROUNDS, Measured, check, describe_machine

WORK = CACHE / "report"
# What starting and passing data around costs shows in this one; the others compute for longer than they start, and are
# held to plain kernels by the benchmark of the watch.
NOTEBOOKS = ("00_start_here",)
MOST_OF_STOCK = 0.5
MOST_OF_FLOOR = 2.0
IMPORTS = "import pandas, altair, ibis"
TRIMMED_IMPORTS = f"import opslib._startup; {IMPORTS}"


def run() -> int:
    """Measure and print; 0 when both limits hold, else 1."""
    from opslib.run.execute import default_workers
    from opslib.run.publish import find_versions

    notebooks = [ROOT / "notebooks" / f"{name}.ipynb" for name in NOTEBOOKS]
    workers = min(default_workers(), len(notebooks))
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir(parents=True)
    print(f"report: {len(notebooks)} notebooks, {workers} at once, {ROUNDS} rounds, median (min to max)")
    print(f"  {describe_machine()}")
    print(f"  {', '.join(f'{k} {v}' for k, v in find_versions().items())}")

    ways: dict[str, Callable[[], float]] = {
        "opslib report": time_report,
        "papermill, then nbconvert": lambda: time_stock(notebooks, workers),
        "kernels that import (stock)": lambda: time_floor(len(notebooks), workers, IMPORTS),
        "kernels that import (trimmed)": lambda: time_floor(len(notebooks), workers, TRIMMED_IMPORTS),
    }
    # Once for the disk cache and the kept chart script, which a second report of a user has too.
    time_report()
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    manifests = []
    for _ in range(ROUNDS):
        for name, measure in ways.items():
            seconds[name].append(measure())
        manifests.append(json.loads((WORK / "report" / "manifest.json").read_text("utf-8")))
    ours, stock, floor, trimmed = (Measured(name, tuple(found)) for name, found in seconds.items())
    for measured in (ours, stock, floor, trimmed):
        print(f"  {measured}")
    print_breakdown(manifests, ours, notebooks)
    size = sum(p.stat().st_size for p in (WORK / "report").rglob("*") if p.is_file())
    print(f"  size of the report: {size / 1e6:.1f} MB")
    good = [
        check("of papermill, then nbconvert", ours, stock, MOST_OF_STOCK),
        check("of the kernels alone", ours, floor, MOST_OF_FLOOR),
    ]
    print(f"  (of the kernels alone, trimmed: {ours.median / trimmed.median:.2f} x, no limit)")
    return 0 if all(good) else 1


def time_report() -> float:
    """Time the command as a user gives it, start of Python and all."""
    command = [sys.executable, "-m", "opslib.run.cli", "report", *NOTEBOOKS, "--out", str(WORK / "report")]
    return time_processes([[command]], 1)


def time_stock(notebooks: Sequence[Path], workers: int) -> float:
    """Time the stock way: two commands a notebook."""
    folder = Path(sys.executable).parent
    chains = []
    for notebook in notebooks:
        out = WORK / "stock" / notebook.name
        out.parent.mkdir(exist_ok=True)
        chains.append(
            [
                [str(folder / "papermill"), "--no-progress-bar", str(notebook), str(out)],
                [str(folder / "jupyter"), "nbconvert", "--to", "html", str(out)],
            ]
        )
    return time_processes(chains, workers)


def time_processes(chains: Sequence[Sequence[Sequence[str]]], workers: int) -> float:
    """Time chains of commands, each chain in order, chains side by side."""

    def follow(chain: Sequence[Sequence[str]]) -> None:
        for command in chain:
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
            if done.returncode:
                raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr}")

    started = time.perf_counter()
    with ThreadPoolExecutor(workers) as threads:
        list(threads.map(follow, chains))
    return time.perf_counter() - started


def time_floor(count: int, workers: int, source: str) -> float:
    """Time bare kernels from the start of the first to the answer of the last."""
    from jupyter_client.manager import KernelManager

    def start_and_import(_: int) -> None:
        manager = KernelManager(kernel_name="python3")
        manager.start_kernel(cwd=str(ROOT), stderr=subprocess.DEVNULL)
        client = manager.client()
        try:
            client.start_channels()
            client.wait_for_ready(timeout=60)
            reply = client.execute_interactive(source, timeout=120, output_hook=lambda message: None)
            assert reply["content"]["status"] == "ok", reply["content"]
        finally:
            client.stop_channels()
            manager.shutdown_kernel(now=True)

    started = time.perf_counter()
    with ThreadPoolExecutor(workers) as threads:
        list(threads.map(start_and_import, range(count)))
    return time.perf_counter() - started


def print_breakdown(manifests: Sequence[dict], ours: Measured, notebooks: Sequence[Path]) -> None:
    """Print where the time of a report goes: the stages of a run, and what the notebooks do inside theirs."""

    def median(pick: Callable[[dict], float]) -> float:
        return statistics.median(pick(manifest) for manifest in manifests)

    stage = {name: median(lambda m, n=name: m["seconds"][n]) for name in manifests[0]["seconds"]}
    slugs = [notebook.stem for notebook in notebooks]

    def inside(key: str) -> float:
        return median(lambda m: sum(m["notebooks"][slug][key] for slug in slugs))

    export = inside("page_seconds")
    cells = median(lambda m: sum(sum(m["notebooks"][slug]["cell_seconds"]) for slug in slugs))
    print("  where the time goes, one after the other:")
    print(f"    start of Python and the command line    {max(ours.median - stage['total'], 0):6.2f} s")
    print(f"    parameters, destination                 {stage['parameters']:6.2f} s")
    print(f"    data opened and checked                 {stage['check']:6.2f} s")
    print(f"    notebooks, side by side                 {stage['notebooks']:6.2f} s")
    print("  inside the notebooks, added up over all:")
    print(f"    start of kernels                        {inside('kernel_seconds'):6.2f} s")
    profiles = [profile_notebook(notebook) for notebook in notebooks]
    whole = sum(sum(p.values()) for p in profiles) or 1.0
    names = {"imports": "imports", "engine": "engine", "charts": "charts", "rest": "queries built, tables, the rest"}
    for key, name in names.items():
        share = sum(p[key] for p in profiles) / whole
        print(f"    cells: {name:<32} {share * cells:6.2f} s   ({share:.0%} of a profiled run)")
    print(f"    export to HTML                          {export:6.2f} s")


def profile_notebook(notebook: Path) -> dict[str, float]:
    """Profile a notebook's cells in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks._profile", str(notebook)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{notebook.name} cannot be profiled:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])

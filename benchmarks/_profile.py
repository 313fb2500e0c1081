"""Run a notebook's cells in this process under the profiler, and print where the time went as one JSON line.

A program of its own (`python -m benchmarks._profile NOTEBOOK`), so that imports are counted from nothing, as
in a kernel.
"""

from __future__ import annotations

import contextlib
import cProfile
import io
import json
import pstats
import sys
import time
from pathlib import Path
from typing import Any


def main(path: str) -> None:
    """Profile one notebook with its default parameters."""
    cells = json.loads(Path(path).read_text("utf-8"))["cells"]
    sources = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    from IPython.core.interactiveshell import InteractiveShell

    shell = InteractiveShell.instance()
    profile = cProfile.Profile()
    started = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):
        for source in sources:
            profile.runcall(_run_cell, shell, source)
    seconds = time.perf_counter() - started
    print(json.dumps(split_seconds(pstats.Stats(profile).stats, seconds)))  # type: ignore[attr-defined]


def split_seconds(stats: dict[Any, Any], seconds: float) -> dict[str, float]:
    """Split a profile into imports, engine, charts and the rest."""
    imports = engine = charts = 0.0
    for (file, _, name), (_, _, own, total, _) in stats.items():
        if name == "_find_and_load" and "importlib" in file:
            imports = max(imports, total)
        elif "duckdb" in name.lower() or ("fetch" in name and file == "~"):
            engine += own
        elif "vl_convert" in name:
            charts += own
    return {
        "imports": imports,
        "engine": engine,
        "charts": charts,
        "rest": max(seconds - imports - engine - charts, 0.0),
    }


def _run_cell(shell: Any, source: str) -> None:
    result = shell.run_cell(source)
    if result.result is not None:
        shell.display_formatter.format(result.result)
    result.raise_error()


if __name__ == "__main__":
    main(sys.argv[1])

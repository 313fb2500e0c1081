"""A funnel on retentioneering, in an environment of its own that the benchmark makes: `find_python`, then this program.

It counts without a window, so ours is asked for one that never ends (`unbounded`). Events are a pandas frame there: at
sizes that it is made for, not at a hundred million.
"""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from pathlib import Path

from benchmarks._funnel_peers import STEPS
from benchmarks._measured import CACHE, report_run

VERSION = "5.2.4"
EVENTS = 1_000_000
FOLDER = CACHE / f"retentioneering-{VERSION}"


def find_python() -> tuple[Path | None, str]:
    """The Python of an environment that has it, made on first use; or None, and why."""
    python = FOLDER / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    if not (FOLDER / "complete").exists():
        print(f"  installing retentioneering {VERSION} into an environment of its own, once ...", flush=True)
        venv.create(FOLDER, with_pip=True, clear=True)
        command = [str(python), "-m", "pip", "install", "--quiet", f"retentioneering=={VERSION}", "pyarrow"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            return None, f"retentioneering {VERSION} could not be installed here."
        (FOLDER / "complete").touch()
    return python, ""


def count_steps(folder: str) -> list[tuple[str, int, int]]:
    """Users by step, from Parquet to result."""
    import pandas as pd
    from retentioneering.eventstream.eventstream import Eventstream  # type: ignore[import-not-found]

    events = pd.read_parquet(f"{folder}/events", columns=["user_id", "ts", "event"])
    stream = Eventstream(events, schema={"path_cols": ["user_id"], "timestamp_col": "ts", "event_col": "event"})
    found = stream.funnel_data(steps=list(STEPS))["steps"]
    return [("", i, step["unique_paths"]) for i, step in enumerate(found, 1)]


if __name__ == "__main__":
    # It would tell its makers that it is used.
    os.environ["RETENTIONEERING_NO_TRACK"] = "1"
    import retentioneering.eventstream.eventstream  # noqa: F401

    report_run(count_steps, sys.argv[1])

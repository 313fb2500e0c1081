"""What `opslib watch` costs on a day of the sample company, against the floor of the notebooks that it runs.

- floor: the same notebooks with the same parameters, their cells sent one after the other to plain kernels: the watch's
  first, because it decides what is opened, then the others, as many at once as `opslib watch` runs. Counted from the
  start of the first kernel to the last answer: without the Python that starts them, the check before, and any page.
- cells: what the cells of our own run took, added up. Printed to be honest about the floor, whose kernels each import
  everything and check the data anew; no limit, because ours run side by side.

Twice: with alarms that open notebooks, and with the same rules opening nothing. The ways are measured in turns, so that
a busy minute of the machine hits all of them.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks._measured import CACHE, ROOT, ROUNDS, Measured, check, describe_machine

WORK = CACHE / "watch"
PLAYBOOK = ROOT / "playbook.toml"
WATCH = "50_daily_watch"
# Complaints and the checkout are red on this day.
DAY = "2026-05-21"
MOST_OF_FLOOR = 2.0
CELL_SECONDS = 300


def run() -> int:
    """Measure and print; 0 when the limit holds both times, else 1."""
    from opslib.run.execute import default_workers

    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir(parents=True)
    workers = default_workers()
    print(f"watch: at most {workers} notebooks at once, {ROUNDS} rounds, median (min to max)")
    print(f"  {describe_machine()}")
    quiet = write_quiet_playbook(WORK / "quiet.toml")
    # Once for the disk cache and the kept chart script, which a second watch of a user has too.
    time_watch(quiet)
    return max([compare_ways(quiet, False, workers), compare_ways(PLAYBOOK, True, workers)])


def write_quiet_playbook(path: Path) -> Path:
    """Write the sample company's playbook with rules that open nothing; give the path.

    No day of the sample is without a rule that opens something: one that is past its limit stays there for months.
    """
    from opslib.data.handbook import load_handbook

    text = PLAYBOOK.read_text("utf-8").replace('"data/samples/', f'"{ROOT}/data/samples/')
    text = re.sub(r"(?m)^notebook = .*\n", "", text).replace("[[rules]]\n", '[[rules]]\nnotebook = ""\n')
    names = [rule["name"] for rule in load_handbook()["rules"]]
    more = [f'[[rules]]\nname = "{name}"\nnotebook = ""\n' for name in names if f'"{name}"' not in text]
    path.write_text("\n".join([text, *more]), "utf-8")
    return path


def compare_ways(playbook: Path, opens: bool, workers: int) -> int:
    """Race the command against its notebooks alone."""
    ours, floor, cells = [], [], []
    for _ in range(ROUNDS):
        ours.append(time_watch(playbook))
        runs = list_runs()
        if (len(runs) > 1) != opens:
            raise SystemExit(f"the watch was to open {'something' if opens else 'nothing'}, and ran {', '.join(runs)}")
        cells.append(sum_cells())
        floor.append(time_floor(runs, workers))
    print(f"  {DAY}: {', '.join(runs)}")
    measured = Measured("opslib watch", tuple(ours)), Measured("the notebooks in plain kernels", tuple(floor))
    for one in (*measured, Measured("the cells of our run, added up", tuple(cells))):
        print(f"    {one}")
    return 0 if check("of the notebooks in plain kernels", *measured, MOST_OF_FLOOR) else 1


def time_watch(playbook: Path) -> float:
    """Time the command as a user gives it, start of Python and all."""
    command = [sys.executable, "-m", "opslib.run.cli", "watch", "--as-of", DAY, "--playbook", str(playbook)]
    command += ["--out", str(WORK / "report")]
    started = time.perf_counter()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr}")
    return time.perf_counter() - started


def list_runs() -> dict[str, dict[str, Any]]:
    """Name -> parameters of what the last watch ran, the watch first."""
    manifest = json.loads((WORK / "report" / "manifest.json").read_text("utf-8"))
    found = {name: about["parameters"] for name, about in manifest["notebooks"].items()}
    return {WATCH: found.pop(WATCH), **found}


def sum_cells() -> float:
    """What all cells of the last watch took, added up."""
    manifest = json.loads((WORK / "report" / "manifest.json").read_text("utf-8"))
    return sum(sum(about["cell_seconds"]) for about in manifest["notebooks"].values())


def time_floor(runs: Mapping[str, Mapping[str, Any]], workers: int) -> float:
    """Time the notebooks in plain kernels, the first one before the others."""
    first, *rest = runs.items()
    started = time.perf_counter()
    run_plainly(*first)
    with ThreadPoolExecutor(workers) as threads:
        list(threads.map(lambda item: run_plainly(*item), rest))
    return time.perf_counter() - started


def run_plainly(name: str, parameters: Mapping[str, Any]) -> None:
    """Send a notebook's cells to an ordinary kernel, and wait for each."""
    from jupyter_client.manager import KernelManager

    manager = KernelManager(kernel_name="python3")
    manager.start_kernel(cwd=str(ROOT), stderr=subprocess.DEVNULL)
    client = manager.client()
    try:
        client.start_channels()
        client.wait_for_ready(timeout=60)
        for source in read_cells(name, parameters):
            reply = client.execute_interactive(source, timeout=CELL_SECONDS, output_hook=lambda message: None)
            if reply["content"]["status"] != "ok":
                raise SystemExit(f"{name} failed in a plain kernel: {reply['content']}")
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def read_cells(name: str, parameters: Mapping[str, Any]) -> Sequence[str]:
    """The code of a notebook with these parameters; a number after its name says that it runs once more."""
    path = ROOT / "notebooks" / f"{name}.ipynb"
    if not path.is_file():
        path = ROOT / "notebooks" / f"{name.rpartition('-')[0]}.ipynb"
    cells = [c for c in json.loads(path.read_text("utf-8"))["cells"] if c["cell_type"] == "code"]
    values = "\n".join(f"{key} = {value!r}" for key, value in parameters.items())
    return [values if "parameters" in cell["metadata"].get("tags", ()) else "".join(cell["source"]) for cell in cells]

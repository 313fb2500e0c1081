"""What the benchmarks share: wall times, ratios against limits, the large sample, and a line about the machine."""

from __future__ import annotations

import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / "benchmarks" / ".work"
ROUNDS = int(os.environ.get("OPSLIB_BENCH_ROUNDS", "3"))
# What every engine may use, so that ratios are of work and not of processors.
THREADS = 2


@dataclass(frozen=True)
class Measured:
    """The wall times of one thing, in seconds."""

    name: str
    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle one."""
        return statistics.median(self.seconds)

    def __str__(self) -> str:
        return f"{self.name:<46} {self.median:6.2f} s   ({min(self.seconds):.2f} to {max(self.seconds):.2f})"


def run_apart(arguments: Sequence[str]) -> dict[str, Any]:
    """Run a program of this folder in a process of its own, and read the JSON line that it prints last."""
    command = [sys.executable, "-m", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def report_run(measure: Callable[[str], Any], folder: str) -> None:
    """Measure a folder once, and print what `run_apart` reads: seconds, peak memory, and the rows for comparison."""
    started = time.perf_counter()
    rows = measure(str(Path(folder).resolve()))
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": seconds, "peak_mb": peak, "rows": rows}))


def race(ways: Mapping[str, Sequence[str]], *, rounds: int = ROUNDS) -> dict[str, list[dict[str, Any]]]:
    """Run programs in turns, so that a busy minute of the machine hits all of them.

    Each prints seconds, peak_mb and rows; rows must be the same in all that share a task.
    """
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, arguments in ways.items():
            found[name].append(run_apart(arguments))
    return found


def find_large_sample(events: int = 20_000_000) -> Path:
    """The sample company at that size, generated on first use and kept."""
    folder = CACHE / f"sample-{events}"
    if not (folder / "truth.json").exists():
        from opslib.data.sample_company import generate_sample

        folder.parent.mkdir(parents=True, exist_ok=True)
        print(f"  generating {events:,} events, once ...", flush=True)
        generate_sample(folder, events=events)
    return folder


def check(what: str, ours: Measured, theirs: Measured, most: float) -> bool:
    """Print one ratio and tell whether it holds."""
    ratio = ours.median / theirs.median
    rounds = [a / b for a, b in zip(ours.seconds, theirs.seconds, strict=True)]
    spread = f"{min(rounds):.2f} to {max(rounds):.2f} in single rounds"
    print(f"  {ratio:.2f} x {what}: {'holds' if ratio <= most else 'MISSED'} (at most {most} x; {spread})")
    return ratio <= most


def describe_machine() -> str:
    """Say what the figures were measured on."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        lines = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        model = lines[0].split(":", 1)[1].strip() if lines else model
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    return f"{model}, {os.cpu_count()} processors, {platform.system()}, Python {platform.python_version()}{load}"

"""What the benchmarks share: programs run apart and measured, ratios against limits, the large samples, the machine."""

from __future__ import annotations

import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / "benchmarks" / ".work"
ROUNDS = int(os.environ.get("OPSLIB_BENCH_ROUNDS", "3"))
# What every engine may use, so that ratios are of work and not of processors.
THREADS = 2
DEFAULT_SIZES = (20_000_000, 100_000_000)
# Events of the samples: smaller for CI, such as 1000000,5000000.
SIZES = tuple(int(n) for n in os.environ.get("OPSLIB_BENCH_EVENTS", "").split(",") if n) or DEFAULT_SIZES
# What a program may take before it is ended, and what engines that have a setting for it are told: the rest of the
# process needs some as well.
MEMORY_GB = 8.0
ENGINE_GB = 7.0
MOST_SECONDS = 600.0
OUT_OF_MEMORY = f"out of memory at {MEMORY_GB:g} GB"
OUT_OF_TIME = f"more than {MOST_SECONDS / 60:g} min"
_SIGNS_OF_MEMORY = ("MEMORY_LIMIT_EXCEEDED", "Out of Memory Error", "OutOfMemoryException", "MemoryError")


@dataclass(frozen=True)
class Measured:
    """One thing, measured in some rounds.

    Attributes:
        name: what was measured.
        seconds: wall time of each round.
        processor_seconds: the same on all processors together: it says more on a busy machine. Empty: not known.
        peak_mb: the most memory that its process ever held.
        rows: what it counted.
        failed: why there is no time, if there is none.
    """

    name: str
    seconds: tuple[float, ...]
    processor_seconds: tuple[float, ...] = ()
    peak_mb: float = 0.0
    rows: Any = None
    failed: str = ""

    @property
    def median(self) -> float:
        """The middle one."""
        return statistics.median(self.seconds)

    def __str__(self) -> str:
        if self.failed:
            return f"{self.name:<46} {self.failed}"
        text = f"{self.name:<46} {self.median:6.2f} s   ({min(self.seconds):.2f} to {max(self.seconds):.2f})"
        if not self.processor_seconds:
            return text
        return f"{text}   {statistics.median(self.processor_seconds):6.2f} s of processors   {self.peak_mb:6,.0f} MB"


def run_apart(arguments: Sequence[str], python: str | Path = sys.executable) -> dict[str, Any]:
    """Run a program of this folder in a process of its own, and read the JSON line that it prints last.

    One that takes too much memory or time is ended, and gives why as `failed`.
    """
    command = [str(python), "-m", *arguments]
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(command, cwd=ROOT, stdout=out, stderr=errors)
        failed = _watch(process)
        out.seek(0)
        errors.seek(0)
        if failed:
            return {"failed": failed}
        told = errors.read().decode(errors="replace")
        if process.returncode and any(sign in told for sign in _SIGNS_OF_MEMORY):
            return {"failed": OUT_OF_MEMORY}
        if process.returncode:
            raise SystemExit(f"{' '.join(command)} failed:\n{told}")
        return dict(json.loads(out.read().splitlines()[-1]))


def _watch(process: subprocess.Popen[bytes]) -> str:
    """Wait for the end of a process; end it, and say why, if it takes too much."""
    started = time.monotonic()
    while True:
        try:
            process.wait(0.05)
            return ""
        except subprocess.TimeoutExpired:
            over = OUT_OF_TIME if time.monotonic() - started > MOST_SECONDS else ""
            if _read_status("VmRSS", process.pid) > MEMORY_GB * 1024**2:
                over = OUT_OF_MEMORY
            if over:
                process.kill()
                process.wait()
                return over


def _read_status(name: str, process: int | str = "self") -> int:
    """A line of Linux's account of a process, in KiB; 0 where there is none."""
    try:
        text = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in text.splitlines() if line.startswith(f"{name}:")), 0)


def report_run(measure: Callable[[str], Any], folder: str) -> None:
    """Measure a folder once, and print what `run_apart` reads: times, peak memory, and the rows for comparison."""
    started, busy = time.perf_counter(), time.process_time()
    rows = measure(str(Path(folder).resolve()))
    seconds, busy = time.perf_counter() - started, time.process_time() - busy
    # The other count of a new process begins with that of the one that started it.
    peak = _read_status("VmHWM") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps({"seconds": seconds, "processor_seconds": busy, "peak_mb": peak / 1024, "rows": rows}))


_KNOWN: dict[tuple[str, ...], list[dict[str, Any]]] = {}


def race(
    ways: Mapping[str, Sequence[str]], *, rounds: int = ROUNDS, pythons: Mapping[str, Path] | None = None
) -> dict[str, Measured]:
    """Run programs in turns, so that a busy minute of the machine hits all of them.

    What was measured before in this run is not measured again. `pythons`: way -> the Python that runs it, where that is
    another.
    """
    for _ in range(rounds):
        for name, arguments in ways.items():
            known = _KNOWN.setdefault(tuple(arguments), [])
            if len(known) < rounds and not any("failed" in one for one in known):
                known.append(run_apart(arguments, (pythons or {}).get(name, sys.executable)))
    return {name: _gather(name, _KNOWN[tuple(arguments)]) for name, arguments in ways.items()}


def _gather(name: str, rounds: Sequence[dict[str, Any]]) -> Measured:
    if failed := next((one["failed"] for one in rounds if "failed" in one), ""):
        return Measured(name, (), failed=failed)
    seconds, busy = (tuple(one[key] for one in rounds) for key in ("seconds", "processor_seconds"))
    return Measured(name, seconds, busy, max(one["peak_mb"] for one in rounds), rounds[0]["rows"])


def require_equal(found: Mapping[str, Measured], ours: str = "opslib") -> None:
    """Refuse a race in which somebody counted something else."""
    for name, measured in found.items():
        if not measured.failed and measured.rows != found[ours].rows:
            raise SystemExit(f"{name} counts something else than {ours}")


def find_large_sample(events: int = SIZES[0]) -> Path:
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
    # What is shown for scale alone has fewer rounds.
    rounds = [a / b for a, b in zip(ours.seconds, theirs.seconds, strict=False)]
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


def list_versions(*names: str) -> str:
    """The installed versions of some packages, in one line."""
    found = []
    for name in names:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            found.append(f"{name} not installed")
    return ", ".join(found)

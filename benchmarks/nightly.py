"""What a night costs with rollups: `opslib watch` on all days of a company at first, then after one day more.

The sample company is delivered as files of a month and, of the last day, files of their own. The rules are its own but
open no notebook, since one that is opened reads what it asks about anew. The first run makes the rollups; the same
again finds nothing new; the next has one day more. OPSLIB_BENCH_EVENTS sets another size (the last one counts).
"""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

from benchmarks._measured import CACHE, ENGINE_GB, ROOT, SIZES, Measured, check, describe_machine, find_large_sample
from benchmarks.watch import write_quiet_playbook

MOST_OF_FIRST = 0.05
# The company's last day, as it begins in Shanghai.
LAST_DAY = "2026-06-30"
LAST_DAY_BEGINS = "2026-06-29 16:00:00"
TITLES = ("first run", "the same again", "with one day more")
TIMES = {
    "events": "ts", "orders": "ts", "referrals": "ts", "messages": "ts", "exposures": "ts", "surveys": "ts",
    "traffic": "ts", "tickets": "opened_at", "users": "signup_at", "coupons": "issued_at", "spend": "date",
}  # fmt: skip


def run() -> int:
    """Measure and print; 0 when the limit holds, else 1."""
    events = SIZES[-1]
    print(f"nightly: {events:,} events, 546 days, files of a month and one of the last day, once")
    print(f"  {describe_machine()}")
    found = race_nights(events)
    for measured in found:
        print(f"    {measured}")
    return 0 if check("of the first run", found[-1], found[0], MOST_OF_FIRST) else 1


@functools.cache
def race_nights(events: int) -> tuple[Measured, ...]:
    """The first run, the same again, and one with a day more: each once, since the second is never a first again."""
    parts = deliver_parts(events)
    folder = CACHE / "nightly"
    shutil.rmtree(folder, ignore_errors=True)
    link_files(parts / "before", folder)
    playbook = write_playbook(folder)
    first, again = (measure_watch(title, playbook, folder / "report") for title in TITLES[:2])
    link_files(parts / "next", folder)
    return first, again, measure_watch(TITLES[2], playbook, folder / "report")


def measure_watch(title: str, playbook: Path, out: Path) -> Measured:
    """Run the command as a scheduler does: its time, and the most memory that it or its kernel held."""
    command = [sys.executable, "-m", "opslib.run.cli", "watch", "--playbook", str(playbook), "--out", str(out)]
    started = time.perf_counter()
    with (out.parent / "told.txt").open("w") as told:
        process = subprocess.Popen(command, cwd=ROOT, stdout=told, stderr=told)
        _, status, used = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    if status:
        raise SystemExit(f"{' '.join(command)} failed:\n{(out.parent / 'told.txt').read_text()}")
    return Measured(title, (seconds,), (used.ru_utime + used.ru_stime,), used.ru_maxrss / 1024)


def deliver_parts(events: int) -> Path:
    """The sample company up to its last day, and that day alone, made on first use and kept."""
    import duckdb

    source, target = find_large_sample(events), CACHE / f"delivered-{events}"
    if (target / "next" / "users").is_dir():
        return target
    shutil.rmtree(target, ignore_errors=True)
    engine = duckdb.connect(config={"memory_limit": f"{ENGINE_GB}GB", "temp_directory": str(CACHE / "duckdb")})
    for table, moment in TIMES.items():
        files = f"{source}/events/*.parquet" if table == "events" else f"{source}/{table}.parquet"
        cut = f"'{LAST_DAY}'" if table == "spend" else f"'{LAST_DAY_BEGINS}'"
        for part, condition in (("before", f"({moment} < {cut} OR {moment} IS NULL)"), ("next", f"{moment} >= {cut}")):
            (target / part / table).mkdir(parents=True)
            for name, month in list_months(engine, files, moment) if part == "before" else [(LAST_DAY, "true")]:
                rows = f"SELECT * FROM '{files}' WHERE {condition} AND {month}"
                engine.execute(f"COPY ({rows}) TO '{target / part / table / name}.parquet'")
    return target


def list_months(engine: object, files: str, moment: str) -> list[tuple[str, str]]:
    """A name and a condition for each month of a table of events; any other table is one file."""
    if not files.endswith("/events/*.parquet"):
        return [("all", "true")]
    month = f"strftime({moment}, '%Y-%m')"
    rows = engine.execute(f"SELECT DISTINCT {month} FROM '{files}' ORDER BY 1").fetchall()  # type: ignore[attr-defined]
    return [(name, f"{month} = '{name}'") for (name,) in rows]


def link_files(source: Path, target: Path) -> None:
    """Deliver files without copying them."""
    for file in list_files(source):
        place = target / file.relative_to(source)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.hardlink_to(file)


def list_files(folder: Path) -> Iterable[Path]:
    """All Parquet files below a folder."""
    return sorted(folder.rglob("*.parquet"))


def write_playbook(folder: Path) -> Path:
    """The sample company's playbook over delivered files, with rollups, and rules that open nothing."""
    path = write_quiet_playbook(folder / "playbook.toml")
    text = path.read_text("utf-8")
    text = re.sub(r'source = "[^"]*/events/\*\.parquet"', 'source = "events/*.parquet"', text)
    text = re.sub(r'source = "[^"]*/(\w+)\.parquet"', r'source = "\1/*.parquet"', text)
    path.write_text(text.replace("\n[tables]\n", '\n[data]\nrollups = "rollups"\n\n[tables]\n', 1), "utf-8")
    return path

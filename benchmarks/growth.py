"""Growth accounting by week and the day-retention triangle on 20 million events, beside hand-written peers.

From Parquet to result, each engine in a process of its own with two threads; all must count the same. `python -m
benchmarks.growth TASK FOLDER` runs ours alone and prints one JSON line, as the peers' programs do.
"""

from __future__ import annotations

import datetime as dt
import sys
from collections.abc import Callable

from benchmarks._measured import THREADS, Measured, check, describe_machine, find_large_sample, race, report_run
from benchmarks._peers import HORIZON, PEERS, Rows, files

MOST_OF_PEER = 1.0
MOST_OF_SCAN = 3.0
MOST_MEMORY_MB = 4000
# Shown for scale, once: it takes a hundred times as long as one round of the rest.
FOR_SCALE = ("pandas",)
NAMES = {"growth": "growth accounting by week", "triangle": "day-retention triangle"}


def run() -> int:
    """Measure and print; 0 when all limits hold, else 1."""
    folder = str(find_large_sample())
    print("growth: 20 million events, Parquet to result, 2 threads, median (min to max)")
    print(f"  {describe_machine()}")
    return max(compare_task(task, folder) for task in OURS)


def compare_task(task: str, folder: str) -> int:
    """Race one task on all engines."""
    peers = [engine for engine in PEERS[task] if engine not in FOR_SCALE]
    ways = {"opslib": ["benchmarks.growth", task, folder]}
    ways |= {engine: ["benchmarks._peers", task, engine, folder] for engine in peers}
    ways |= {name: ["benchmarks._peers", name, "duckdb", folder] for name in PEERS if name.startswith("scan")}
    found = race(ways)
    for engine in set(FOR_SCALE) & PEERS[task].keys():
        found |= race({engine: ["benchmarks._peers", task, engine, folder]}, rounds=1)
    print(f"  {NAMES[task]}")
    measured = {name: Measured(name, tuple(one["seconds"] for one in rounds)) for name, rounds in found.items()}
    peak = {name: max(one["peak_mb"] for one in rounds) for name, rounds in found.items()}
    for name, seconds in measured.items():
        print(f"    {seconds}   {peak[name]:6,.0f} MB")
    for engine in [*peers, *FOR_SCALE]:
        if engine in found and found[engine][0]["rows"] != found["opslib"][0]["rows"]:
            raise SystemExit(f"{engine} counts something else than opslib in {task}")
    best = min((measured[engine] for engine in peers), key=lambda m: m.median)
    good = [
        check(f"of the best peer ({best.name})", measured["opslib"], best, MOST_OF_PEER),
        check("of counting distinct users", measured["opslib"], measured["scan"], MOST_OF_SCAN),
        peak["opslib"] <= MOST_MEMORY_MB,
    ]
    floor = measured["opslib"].median / measured["scan_times"].median
    print(f"  ({floor:.2f} x of each user's last time, the least that reads both columns; no limit)")
    return 0 if all(good) else 1


def account_weeks(folder: str) -> Rows:
    """Week, new, retained, resurrected, churned."""
    from opslib.data.periods import Period
    from opslib.measure.growth import account_growth

    events, calendar, span = _open(folder)
    frame = account_growth(events, Period(*span, "all"), grain="week", calendar=calendar).periods
    weeks = frame["period_start"].dt.strftime("%Y-%m-%d").tolist()
    columns = [f"{name}_count" for name in ("new", "retained", "resurrected", "churned")]
    return list(zip(weeks, *(frame[c].tolist() for c in columns), strict=True))


def measure_triangle(folder: str) -> Rows:
    """Cohort, day, users who came back, without the empty cells."""
    from opslib.data.periods import DAY, Period
    from opslib.measure.cohorts import measure_cohorts

    events, calendar, (start, end) = _open(folder)
    period = Period(start, end, "all")
    result = measure_cohorts(events, period=period, as_of=end - DAY, calendar=calendar, intervals=HORIZON)
    cells = result.triangle[result.triangle["mature"] & (result.triangle["retained_count"] > 0)]
    days = cells["cohort_start"].dt.strftime("%Y-%m-%d")
    return list(zip(days, cells["n"].tolist(), cells["retained_count"].astype(int).tolist(), strict=True))


def _open(folder: str) -> tuple:
    import ibis

    from opslib.data.periods import Calendar

    events = ibis.duckdb.connect(threads=THREADS).read_parquet(files(folder))
    span = dt.date(2025, 1, 1), dt.date(2026, 7, 1)
    return events, Calendar("Asia/Shanghai", 0, dt.datetime(2024, 12, 31, 16), dt.datetime(2026, 6, 30, 16)), span


OURS: dict[str, Callable[[str], Rows]] = {"growth": account_weeks, "triangle": measure_triangle}


def main(task: str, folder: str) -> None:
    """Run ours once; what it imports is imported before the clock starts, as for the peers."""
    import ibis

    import opslib.measure.cohorts
    import opslib.measure.growth  # noqa: F401

    assert ibis.duckdb  # loads the engine
    report_run(OURS[task], folder)


if __name__ == "__main__":
    main(*sys.argv[1:3])

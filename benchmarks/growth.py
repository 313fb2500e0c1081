"""Growth accounting by week, the day-retention triangle and active users, beside hand-written peers.

From Parquet to result, each engine in a process of its own with two threads; all must count the same.
"""

from __future__ import annotations

from benchmarks._measured import SIZES, check, describe_machine, find_large_sample
from benchmarks._ours import FAMILIES
from benchmarks._tasks import OURS, find_best, race_scans, race_task

MOST_OF_PEER = 1.0
MOST_OF_SCAN = 3.0
MOST_MEMORY_MB = 4000


def run() -> int:
    """Measure and print; 0 when all limits hold, else 1."""
    folder = str(find_large_sample(SIZES[0]))
    print(f"growth: {SIZES[0]:,} events, Parquet to result, 2 threads, median (min to max)")
    print(f"  {describe_machine()}")
    return max(compare_task(task, folder) for task in FAMILIES["growth"])


def compare_task(task: str, folder: str) -> int:
    """Race one task on all engines."""
    print(f"  {FAMILIES['growth'][task]}")
    found, scans = race_task(task, folder), race_scans(folder)
    for measured in (found | scans).values():
        print(f"    {measured}")
    ours, best = found[OURS], find_best(found)
    assert best is not None
    good = [
        check(f"of the best peer ({best.name})", ours, best, MOST_OF_PEER),
        check("of counting distinct users", ours, scans["scan"], MOST_OF_SCAN),
        ours.peak_mb <= MOST_MEMORY_MB,
    ]
    floor = ours.median / scans["scan_times"].median
    print(f"  ({floor:.2f} x of each user's last time, the least that reads both columns; no limit)")
    return 0 if all(good) else 1

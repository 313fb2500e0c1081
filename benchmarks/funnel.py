"""A funnel of five steps in seven days, beside ClickHouse's windowFunnel and a bare scan.

From Parquet to result, each engine in a process of its own with two threads; all must count the same users. Ours
gives the times to convert as well, which the peers do not.
"""

from __future__ import annotations

from benchmarks._measured import SIZES, check, describe_machine, find_large_sample
from benchmarks._ours import FAMILIES
from benchmarks._tasks import OURS, find_best, race_scans, race_task

MOST_OF_PEER = 0.8
MOST_OF_SCAN = 2.5
MOST_OF_PLAIN = 1.3


def run() -> int:
    """Measure and print; 0 when all limits hold, else 1."""
    folder = str(find_large_sample(SIZES[0]))
    print(f"funnel: {SIZES[0]:,} events, Parquet to result, 2 threads, median (min to max)")
    print(f"  {describe_machine()}")
    scans = race_scans(folder)
    plain, parted = (race_task(task, folder) for task in FAMILIES["funnel"])
    good = []
    for title, found in zip(FAMILIES["funnel"].values(), (plain, parted), strict=True):
        print(f"  {title}")
        for measured in (found | scans).values():
            print(f"    {measured}")
        peer = find_best(found, "clickhouse")
        assert peer is not None
        good.append(check(f"of ClickHouse's windowFunnel ({peer.name})", found[OURS], peer, MOST_OF_PEER))
    good.append(check("of counting distinct users", plain[OURS], scans["scan"], MOST_OF_SCAN))
    good.append(check("of the funnel without breakdown", parted[OURS], plain[OURS], MOST_OF_PLAIN))
    return 0 if all(good) else 1

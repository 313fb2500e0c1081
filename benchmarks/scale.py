"""Every measure of growth, funnel and churn at growing sizes: time, memory, and how both grow; beside its peers.

Also with little memory, the whole quarterly review beside one pass over the events, a nightly watch after one day more,
and a funnel on retentioneering at a size that it is made for. At the usual sizes, or where OPSLIB_BENCH_RESULTS names a
file, RESULTS.md is written.
OPSLIB_BENCH_EVENTS sets other sizes (1000000,5000000), OPSLIB_BENCH_ROUNDS fewer rounds.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from benchmarks._measured import (
    DEFAULT_SIZES,
    MEMORY_GB,
    ROOT,
    ROUNDS,
    SIZES,
    Measured,
    describe_machine,
    find_large_sample,
    race,
    require_equal,
)
from benchmarks._ours import FAMILIES
from benchmarks._results import Aim, Results, write_results
from benchmarks._retentioneering import EVENTS, find_python
from benchmarks._tasks import OURS, find_best, race_task
from benchmarks.nightly import MOST_OF_FIRST, race_nights
from benchmarks.review import MOST_OF_PASS, race_review

# Five times the events may take 5.5 times as long.
MOST_GROWTH = 1.1
MOST_OF_PEER = 1.0
MOST_OF_CLICKHOUSE = 0.8
# Far below what the largest sample takes otherwise.
LITTLE_GB = 0.5
TITLES = {task: title for tasks in FAMILIES.values() for task, title in tasks.items()}


def run() -> int:
    """Measure, print, and write the results; 0 when all aims hold, else 1."""
    started = time.monotonic()
    print(f"scale: {' and '.join(f'{n:,}' for n in SIZES)} events, Parquet to result, 2 threads, {ROUNDS} rounds")
    machine = describe_machine()
    print(f"  {machine}")
    folders = {size: str(find_large_sample(size)) for size in SIZES}
    races = {(task, size): race_one(task, size, folders[size]) for size in SIZES for task in TITLES}
    bounded = race_bounded(folders[SIZES[-1]])
    reviews = {size: race_review(folder) for size, folder in folders.items()}
    for pair in reviews.values():
        for measured in pair:
            print(f"    {measured}")
    nights = race_nights(SIZES[-1])
    for measured in nights:
        print(f"    {measured}", flush=True)
    other, why = race_retentioneering()
    results = Results(machine, SIZES, ROUNDS, TITLES, races, LITTLE_GB, bounded, reviews, nights, EVENTS, other, why)
    aims = judge(results)
    for aim in aims:
        print(f"  {aim}")
    target = choose_target()
    if target is not None:
        write_results(target, results, aims, time.monotonic() - started)
        print(f"  written: {target.name}")
    return 0 if all(aim.holds for aim in aims) else 1


def race_one(task: str, size: int, folder: str) -> dict[str, Measured]:
    """Race one task at one size, and print how it went."""
    print(f"  {TITLES[task]}, {size:,} events", flush=True)
    found = race_task(task, folder)
    for measured in found.values():
        print(f"    {measured}", flush=True)
    return found


def race_bounded(folder: str) -> dict[str, Measured]:
    """Measure every task of ours once with little memory; it must count the same."""
    print(f"  the largest again, with memory_gb = {LITTLE_GB:g}")
    found = {}
    for task, title in TITLES.items():
        little = race({title: ["benchmarks._ours", task, folder, str(LITTLE_GB)]}, rounds=1)
        require_equal(little | race({OURS: ["benchmarks._ours", task, folder]}, rounds=1))
        found[task] = little[title]
        print(f"    {found[task]}", flush=True)
    return found


def race_retentioneering() -> tuple[dict[str, Measured], str]:
    """Race a funnel without a window on retentioneering; nothing, and why, where it cannot be had."""
    if choose_target() is None:
        return {}, "retentioneering is measured in full runs only."
    python, why = find_python()
    if python is None:
        print(f"  {why}")
        return {}, why
    folder = str(find_large_sample(EVENTS))
    ways = {OURS: ["benchmarks._ours", "unbounded", folder], "retentioneering": ["benchmarks._retentioneering", folder]}
    found = race(ways, pythons={"retentioneering": python})
    require_equal(found)
    for measured in found.values():
        print(f"    {measured}")
    return found, ""


def judge(results: Results) -> list[Aim]:
    """Hold every ratio against its aim, at the largest size unless it is about growth."""
    small, large = SIZES[0], SIZES[-1]
    aims = []
    for task, title in TITLES.items():
        found = results.races[task, large]
        ours = found[OURS]
        if task in FAMILIES["funnel"]:
            peer, most = find_best(found, "clickhouse"), MOST_OF_CLICKHOUSE
        else:
            peer, most = find_best(found), MOST_OF_PEER
        if peer is not None:
            aims.append(Aim(f"{title}: time of {peer.name}", ours.median / peer.median, most))
        if large != small:
            before = results.races[task, small][OURS].median
            most = MOST_GROWTH * large / small
            aims.append(Aim(f"{title}: time at {small:,} events", ours.median / before, most))
        aims.append(Aim(f"{title}: GB of memory", ours.peak_mb / 1024, MEMORY_GB, "GB"))
    review, one_pass = results.reviews[large]
    aims.append(Aim("quarterly review: one pass over the events", review.median / one_pass.median, MOST_OF_PASS))
    aims.append(Aim("quarterly review: GB of memory", review.peak_mb / 1024, MEMORY_GB, "GB"))
    first, *_, next_day = results.nights
    aims.append(Aim("nightly watch with one day more: first run", next_day.median / first.median, MOST_OF_FIRST))
    aims.append(Aim("nightly watch: GB of memory", max(n.peak_mb for n in results.nights) / 1024, MEMORY_GB, "GB"))
    if results.other:
        ratio = results.other[OURS].median / results.other["retentioneering"].median
        aims.append(Aim("funnel without a window: time of retentioneering", ratio, MOST_OF_PEER))
    return aims


def choose_target() -> Path | None:
    """The file for the results; None at other sizes than the usual ones, unless one is named."""
    named = os.environ.get("OPSLIB_BENCH_RESULTS", "")
    if named:
        return Path(named)
    return ROOT / "benchmarks" / "RESULTS.md" if SIZES == DEFAULT_SIZES else None

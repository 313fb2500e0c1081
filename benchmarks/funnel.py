"""A funnel of five steps in seven days on 20 million events, beside ClickHouse's windowFunnel and a bare scan.

From Parquet to result, each engine in a process of its own with two threads; all must count the same users. Ours
gives the times to convert as well, which the peers do not. `python -m benchmarks.funnel HOW FOLDER` runs ours alone
(HOW is plain or breakdown) and prints one JSON line, as the peers' programs do.
"""

from __future__ import annotations

import datetime as dt
import sys

from benchmarks._funnel_peers import ENGINES, STEPS, WINDOW_DAYS
from benchmarks._measured import THREADS, Measured, check, describe_machine, find_large_sample, race, report_run
from benchmarks._peers import Rows, files

MOST_OF_PEER = 0.8
MOST_OF_SCAN = 2.5
MOST_OF_PLAIN = 1.3
# Shown for scale, once: it takes several times as long as the rest.
FOR_SCALE = ("duckdb_windows",)


def run() -> int:
    """Measure and print; 0 when all limits hold, else 1."""
    return compare(str(find_large_sample()))


def compare(folder: str) -> int:
    """Race all engines on one folder."""
    print("funnel: 20 million events, 5 steps, 7 days, Parquet to result, 2 threads, median (min to max)")
    print(f"  {describe_machine()}")
    ways = {"opslib": ["benchmarks.funnel", "plain", folder]}
    ways |= {"opslib with breakdown": ["benchmarks.funnel", "breakdown", folder]}
    ways |= {name: ["benchmarks._funnel_peers", name, folder] for name in ENGINES if name not in FOR_SCALE}
    ways |= {"scan": ["benchmarks._peers", "scan", "duckdb", folder]}
    found = race(ways)
    found |= race({name: ["benchmarks._funnel_peers", name, folder] for name in FOR_SCALE}, rounds=1)
    measured = {name: Measured(name, tuple(one["seconds"] for one in rounds)) for name, rounds in found.items()}
    for name, seconds in measured.items():
        print(f"    {seconds}   {max(one['peak_mb'] for one in found[name]):6,.0f} MB")
    for name in (*ENGINES, "opslib with breakdown"):
        if found[name][0]["rows"] != found["opslib"][0]["rows"]:
            raise SystemExit(f"{name} counts something else than opslib")
    ours = measured["opslib"]
    peer = min((measured["clickhouse"], measured["clickhouse_plain"]), key=lambda m: m.median)
    good = [
        check(f"of ClickHouse's windowFunnel ({peer.name})", ours, peer, MOST_OF_PEER),
        check("of counting distinct users", ours, measured["scan"], MOST_OF_SCAN),
        check("of the funnel without breakdown", measured["opslib with breakdown"], ours, MOST_OF_PLAIN),
    ]
    return 0 if all(good) else 1


def measure(folder: str, *, breakdown: str = "") -> Rows:
    """Users by step; with a breakdown its segments are added up, which must come to the same."""
    import ibis

    from opslib.data.periods import Calendar, Period
    from opslib.measure.funnel.funnel import measure_funnel

    events = ibis.duckdb.connect(threads=THREADS).read_parquet(files(folder))
    result = measure_funnel(
        events,
        STEPS,
        window=dt.timedelta(days=WINDOW_DAYS),
        period=Period(dt.date(2025, 1, 1), dt.date(2026, 7, 1), "all"),
        # A week past the data: every window counts as over, as for the peers.
        as_of=dt.date(2026, 7, 8),
        calendar=Calendar("Asia/Shanghai", 0, dt.datetime(2024, 12, 31, 16), dt.datetime(2026, 7, 8, 16)),
        breakdown=breakdown,
    )
    frame = result.steps if result.by_segment is None else result.by_segment
    counts = frame.groupby("step")["converted_count"].sum().tolist()
    return [[n] for n in counts]  # type: ignore[misc]


def main(how: str, folder: str) -> None:
    """Run ours once; what it imports is imported before the clock starts, as for the peers."""
    import ibis

    import opslib.measure.funnel.funnel  # noqa: F401

    assert ibis.duckdb  # loads the engine
    breakdown = "platform" if how == "breakdown" else ""
    report_run(lambda at: measure(at, breakdown=breakdown), folder)


if __name__ == "__main__":
    main(*sys.argv[1:3])

"""The whole quarterly review of the sample company, beside one pass over its events.

- review: from opening the files to every finding, contract check and rules included; no notebook and no page.
- pass: DuckDB reads all columns of the events that the review reads (user, time, name) and makes one row a user of
  them.

Each in a process of its own with two threads. `python -m benchmarks.review FOLDER` runs the review alone and prints one
JSON line: seconds, peak memory, and how many findings there are.
"""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks._measured import (
    CACHE,
    ENGINE_GB,
    ROOT,
    ROUNDS,
    SIZES,
    THREADS,
    Measured,
    check,
    describe_machine,
    find_large_sample,
    race,
    report_run,
)

MOST_OF_PASS = 3.0


def run() -> int:
    """Measure and print; 0 when the limit holds, else 1."""
    print(f"review: {SIZES[0]:,} events, 2 threads, median (min to max)")
    print(f"  {describe_machine()}")
    review, one_pass = race_review(str(find_large_sample(SIZES[0])))
    for measured in (review, one_pass):
        print(f"    {measured}")
    return 0 if check("of one pass over the events", review, one_pass, MOST_OF_PASS) else 1


def race_review(folder: str, *, rounds: int = ROUNDS) -> tuple[Measured, Measured]:
    """Measure the review and the pass in turns."""
    ways = {
        "quarterly review": ["benchmarks.review", folder],
        "one pass": ["benchmarks._peers", "pass", "duckdb", folder],
    }
    review, one_pass = race(ways, rounds=rounds).values()
    return review, one_pass


def review_company(folder: str) -> list[int]:
    """How many findings the review of the sample company in a folder has."""
    from opslib.data.source import open_data
    from opslib.decide.review.review import review_quarter

    text = (ROOT / "playbook.toml").read_text("utf-8").replace('"data/samples/', f'"{folder}/')
    playbook = CACHE / f"{Path(folder).name}.toml"
    playbook.write_text(f"{text}\n[data]\nmemory_gb = {ENGINE_GB}\n", "utf-8")
    data = open_data(playbook)
    data.connection.raw_sql(f"SET threads = {THREADS}")
    return [len(review_quarter(data).findings())]


def main(folder: str) -> None:
    """Review once; what it imports is imported before the clock starts."""
    import opslib.decide.review.review
    import opslib.measure.funnel.funnel  # noqa: F401

    report_run(review_company, folder)


if __name__ == "__main__":
    main(sys.argv[1])

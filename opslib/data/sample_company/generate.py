"""Generate a sample: simulate chunks (in several processes if that helps), collect, write, tell the truth."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from opslib.data.sample_company.aggregates import spend_table, traffic_bins, traffic_table
from opslib.data.sample_company.company import DAY_SECONDS, Ints, SampleSettings
from opslib.data.sample_company.incidents import INCIDENTS, Effects, Incident
from opslib.data.sample_company.realised import Pairs, count_chunk
from opslib.data.sample_company.simulate import chunk_sizes, simulate_chunk
from opslib.data.sample_company.tables import TABLES, build_tables
from opslib.data.sample_company.truth import describe_truth
from opslib.data.sample_company.writer import (
    TableWriter,
    check_folder,
    pick_examples,
    replace_folder,
    split_years,
    write_readme,
    write_truth,
)

EVENTS_PER_USER = 53.7  # measured over the default window; turns a wanted number of events into users

Progress = Callable[[int, int, int], None]
"""Called with chunks done, chunks in all, events so far."""


@dataclass(frozen=True, slots=True)
class Summary:
    """What was written."""

    folder: Path
    settings: SampleSettings
    rows: dict[str, int]
    bytes: int
    seconds: float


@dataclass(slots=True)
class _Part:
    """What a worker sends back: everything but the events, which it writes itself."""

    tables: dict[str, pa.Table]
    events: int
    events_by_day: Ints
    pairs: Pairs
    event_example: dict[str, Any]


def _run_chunk(
    number: int, settings: SampleSettings, incidents: tuple[Incident, ...], folder: Path, only: bool
) -> _Part:
    chunk = simulate_chunk(number, settings, incidents)
    pairs = count_chunk(chunk, settings, incidents)
    by_day = np.bincount(chunk.tables["events"]["second"] // DAY_SECONDS, minlength=settings.days)
    tables = build_tables(chunk, settings)
    events = tables.pop("events")
    parts = split_years(events) if only else {f"part-{number:04d}": events}
    for name, rows in parts.items():
        writer = TableWriter(folder, "events", f"events/{name}.parquet")
        writer.append(rows)
        writer.close()
    return _Part(tables, events.num_rows, by_day, pairs, pick_examples(events))


def _run_all(
    settings: SampleSettings, incidents: tuple[Incident, ...], folder: Path, processes: int
) -> Iterator[_Part]:
    """Parts in order of chunk number, with no more than two waiting for each process."""
    count = len(chunk_sizes(settings))
    processes = min(processes, count)
    if processes <= 1:
        for number in range(count):
            yield _run_chunk(number, settings, incidents, folder, count == 1)
        return
    # Not fork: the caller may have threads (a notebook kernel, DuckDB), and a fork of those can hang.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context) as pool:
        waiting: list[Future[_Part]] = []
        try:
            for number in range(count):
                waiting.append(pool.submit(_run_chunk, number, settings, incidents, folder, count == 1))
                if len(waiting) >= 2 * processes:
                    yield waiting.pop(0).result()
            while waiting:
                yield waiting.pop(0).result()
        finally:
            for future in waiting:
                future.cancel()


def generate_sample(
    out: Path | str,
    *,
    events: int | None = None,
    users: int | None = None,
    seed: int | None = None,
    incidents: tuple[Incident, ...] = INCIDENTS,
    settings: SampleSettings | None = None,
    processes: int | None = None,
    progress: Progress | None = None,
) -> Summary:
    """Write a sample company to the folder `out`, replacing an earlier sample there.

    `events` asks for about so many events (it sets the number of users), `users` for exactly so many users;
    `seed`, `users` and `events` go before `settings`. `incidents=()` gives a company in which nothing special
    happens. The events go into the folder `events`: a file a year, or for more users than `settings.chunk_users` a
    file for each chunk of users (`part-0000.parquet` and so on), each in order of time. The result does not depend on
    `processes`.
    """
    started = time.perf_counter()
    settings = settings or SampleSettings()
    if events is not None and users is not None:
        raise ValueError("give events or users, not both")
    if events is not None:
        users = max(1, round(events / EVENTS_PER_USER))
    settings = replace(settings, users=users or settings.users, seed=settings.seed if seed is None else seed)
    target = Path(out)
    check_folder(target)
    incidents = tuple(incidents)
    effects = Effects(incidents, settings)
    workers = processes if processes is not None else max(1, min(os.cpu_count() or 1, 8))
    chunks = len(chunk_sizes(settings))
    with replace_folder(target) as folder:
        writers = {name: TableWriter(folder, name) for name in TABLES if name != "events"}
        examples: dict[str, dict[str, Any]] = {}
        pairs: Pairs = Counter()
        by_day = np.zeros(settings.days, dtype=np.int64)
        event_rows = 0
        for done, part in enumerate(_run_all(settings, incidents, folder, workers), start=1):
            for name, table in part.tables.items():
                writers[name].append(table)
                examples.setdefault(name, pick_examples(table))
            examples.setdefault("events", part.event_example)
            by_day += part.events_by_day
            event_rows += part.events
            pairs.update(part.pairs)
            if progress is not None:
                progress(done, chunks, event_rows)
        bins = traffic_bins(settings, effects, by_day)
        for name, table in (
            ("spend", spend_table(settings, effects)),
            ("traffic", traffic_table(settings, bins)),
        ):
            writers[name].append(table)
            examples[name] = pick_examples(table)
        for writer in writers.values():
            writer.close()
        rows = {name: event_rows if name == "events" else writers[name].rows for name in TABLES}
        write_truth(folder, describe_truth(settings, incidents, pairs, bins, rows))
        write_readme(folder, settings, rows, examples)
    size = sum(path.stat().st_size for path in target.rglob("*") if path.is_file())
    return Summary(target, settings, rows, size, time.perf_counter() - started)

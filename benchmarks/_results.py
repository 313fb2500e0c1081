"""Writing RESULTS.md: what was measured, where, with which versions, and which aims hold."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks._measured import ENGINE_GB, MEMORY_GB, MOST_SECONDS, THREADS, Measured, list_versions
from benchmarks._retentioneering import VERSION
from benchmarks._tasks import OURS, find_best

PACKAGES = ("opslib", "ibis-framework", "duckdb", "numpy", "pandas", "chdb", "polars")
COLUMNS = {
    "opslib": ("opslib",),
    "ClickHouse": ("clickhouse", "clickhouse_steps"),
    "Polars": ("polars",),
    "DuckDB SQL": ("duckdb", "duckdb_windows"),
    "pandas": ("pandas",),
}


@dataclass(frozen=True)
class Aim:
    """A ratio, or an amount, against the most that it may be."""

    what: str
    value: float
    most: float
    unit: str = "x"

    @property
    def holds(self) -> bool:
        """Whether it is small enough."""
        return self.value <= self.most

    def __str__(self) -> str:
        verdict = "holds" if self.holds else "MISSED"
        return f"{self.value:.2f} {self.unit} {self.what}: {verdict} (at most {self.most:g})"


@dataclass(frozen=True)
class Results:
    """All that was measured.

    Attributes:
        machine: what it was measured on.
        sizes: events of the samples.
        rounds: how often; medians count.
        titles: task -> what it is.
        races: task and size -> way -> how it went.
        little_gb: the memory setting of `bounded`.
        bounded: task -> ours at the largest size with that.
        reviews: size -> the quarterly review and one pass over the events.
        nights: the nightly watch at the largest size: at first, again, and after one day more.
        other_events: events of the race with retentioneering.
        other: that race; empty without.
        why: why it is empty.
    """

    machine: str
    sizes: tuple[int, ...]
    rounds: int
    titles: Mapping[str, str]
    races: Mapping[tuple[str, int], Mapping[str, Measured]]
    little_gb: float
    bounded: Mapping[str, Measured]
    reviews: Mapping[int, tuple[Measured, Measured]]
    nights: tuple[Measured, ...]
    other_events: int
    other: Mapping[str, Measured]
    why: str


def write_results(path: Path, results: Results, aims: Sequence[Aim], seconds: float) -> None:
    """Write the file."""
    parts = [
        _write_head(results, seconds),
        _write_aims(aims),
        *(_write_races(results, size) for size in results.sizes),
        _write_growth(results),
        _write_bounded(results),
        _write_reviews(results),
        _write_nights(results),
        _write_other(results),
    ]
    path.write_text("\n".join(line for part in parts for line in part), "utf-8")


def _write_head(results: Results, seconds: float) -> list[str]:
    return [
        "# Results of the benchmarks at scale",
        "",
        "Written by `make bench ARGS=scale`; do not edit.",
        "",
        f"- {dt.date.today().isoformat()}, {seconds / 60:.0f} minutes; {_name_rounds(results.rounds)}.",
        f"- Machine: {results.machine} when it began.",
        f"- Versions: {list_versions(*PACKAGES)}.",
        "- Data: the sample company's generator, 546 days, Parquet as it writes it, files in the system's cache.",
        f"- Every way runs from Parquet to result in a process of its own with {THREADS} threads, in turns with the",
        f"  others, and is ended at {MEMORY_GB:g} GB or after {MOST_SECONDS / 60:g} minutes; engines with a",
        f"  setting for it are told {ENGINE_GB:g} GB.",
        "- All ways count the same, or the run ends. opslib gives intervals and the like besides.",
        "",
    ]  # fmt: skip


def _name_rounds(rounds: int) -> str:
    return "each measured once" if rounds == 1 else f"medians of {rounds} rounds"


def _write_aims(aims: Sequence[Aim]) -> list[str]:
    missed = [aim for aim in aims if not aim.holds]
    rows = [
        [aim.what, f"{aim.value:.2f}", f"{aim.most:g} {aim.unit}", "yes" if aim.holds else "**no**"] for aim in aims
    ]
    return [
        "## Aims",
        "",
        f"{len(aims) - len(missed)} of {len(aims)} hold. A ratio is opslib's time over the one named.",
        "",
        *_make_table(["opslib against", "measured", "at most", "holds"], rows),
        "",
    ]


def _write_races(results: Results, size: int) -> list[str]:
    rows = []
    for task, title in results.titles.items():
        found = results.races[task, size]
        best = find_best(dict(found))
        ratio = f"{found[OURS].median / best.median:.2f}" if best is not None else ""
        cells = [_pick(found, names) for names in COLUMNS.values()]
        rows.append([title, *cells, f"{ratio} ({best.name})" if best is not None else ""])
    return [
        f"## {size:,} events",
        "",
        "Seconds, and the most memory that the process held. Of several ways to write it the fastest is shown.",
        "",
        *_make_table(["measure", *COLUMNS, "opslib / best peer"], rows),
        "",
    ]


def _pick(found: Mapping[str, Measured], names: Sequence[str]) -> str:
    """The fastest of an engine's ways."""
    ways = [found[name] for name in names if name in found]
    done = [way for way in ways if not way.failed]
    return _tell(min(done, key=lambda way: way.median)) if done else ways[0].failed if ways else ""


def _tell(measured: Measured) -> str:
    return f"{measured.median:.2f} s, {measured.peak_mb:,.0f} MB"


def _write_growth(results: Results) -> list[str]:
    small, large = results.sizes[0], results.sizes[-1]
    rows = []
    for task, title in results.titles.items():
        before, after = results.races[task, small], results.races[task, large]
        grown = {
            column: min((after[n].median / before[n].median for n in names if _both(n, before, after)), default=None)
            for column, names in COLUMNS.items()
        }
        rows.append([title, *("" if ratio is None else f"{ratio:.1f}" for ratio in grown.values())])
    return [
        f"## Growth of time from {small:,} to {large:,} events",
        "",
        f"{large / small:g} times the events; aim: at most {1.1 * large / small:.2g} times as long.",
        "",
        *_make_table(["measure", *COLUMNS], rows),
        "",
    ]


def _both(name: str, before: Mapping[str, Measured], after: Mapping[str, Measured]) -> bool:
    return name in before and name in after and not before[name].failed and not after[name].failed


def _write_bounded(results: Results) -> list[str]:
    large = results.sizes[-1]
    rows = []
    for task, title in results.titles.items():
        free = results.races[task, large][OURS]
        rows.append([title, _tell(free), results.bounded[task].failed or _tell(results.bounded[task])])
    headers = ["measure", f"memory_gb = {ENGINE_GB:g}", f"memory_gb = {results.little_gb:g}"]
    return [
        f"## With little memory, {large:,} events",
        "",
        "`[data] memory_gb` bounds the engine and the funnel's packed events; Python and its libraries come on top",
        "(some 250 MB). What does not fit is written to a temporary folder, or taken in parts.",
        "",
        *_make_table(headers, rows),
        "",
    ]


def _write_reviews(results: Results) -> list[str]:
    rows = [
        [f"{size:,}", _tell(review), _tell(one_pass), f"{review.median / one_pass.median:.1f}"]
        for size, (review, one_pass) in results.reviews.items()
    ]
    return [
        "## The whole quarterly review",
        "",
        "From opening the files to every finding, the contract check and the rules included. One pass: DuckDB reads",
        "the columns of the events that the review reads (user, time, name), and makes one row a user of them.",
        "",
        *_make_table(["events", "review", "one pass", "review / pass"], rows),
        "",
    ]


def _write_nights(results: Results) -> list[str]:
    first = results.nights[0].median
    rows = [[night.name, _tell(night), f"{night.median / first:.0%}"] for night in results.nights]
    return [
        f"## A nightly watch with rollups, {results.sizes[-1]:,} events",
        "",
        "`opslib watch`, start of Python, notebook and pages included; the sample company's rules, opening nothing.",
        "The first run makes the rollups of all days; the last one has a day more, in files of its own. Each once.",
        "",
        *_make_table(["run", "time", "of the first"], rows),
        "",
    ]


def _write_other(results: Results) -> list[str]:
    head = ["## Retentioneering", ""]
    if not results.other:
        return [*head, results.why, ""]
    ours, theirs = results.other[OURS], results.other["retentioneering"]
    return [
        *head,
        f"A funnel of the same steps without a window, which is what it counts, at {results.other_events:,} events",
        f"(it holds them as a pandas frame), version {VERSION} in an environment of its own.",
        "",
        *_make_table(["opslib", "retentioneering", "opslib / retentioneering"],
                     [[_tell(ours), _tell(theirs), f"{ours.median / theirs.median:.2f}"]]),
        "",
    ]  # fmt: skip


def _make_table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [headers, ["---"] * len(headers), *rows]
    return [f"| {' | '.join(line)} |" for line in lines]

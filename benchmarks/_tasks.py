"""Racing opslib against its peers on one task, and telling how it went."""

from __future__ import annotations

from benchmarks._measured import ROUNDS, Measured, race, require_equal
from benchmarks._peers import FOR_SCALE, PEERS

OURS = "opslib"


def race_task(task: str, folder: str, *, rounds: int = ROUNDS) -> dict[str, Measured]:
    """Measure a task on opslib and on each peer in turns; those shown for scale once.

    Raises:
        SystemExit: somebody counted something else.
    """
    ways = {OURS: ["benchmarks._ours", task, folder]}
    ways |= {engine: ["benchmarks._peers", task, engine, folder] for engine in PEERS[task]}
    found = race({name: way for name, way in ways.items() if name not in FOR_SCALE}, rounds=rounds)
    found |= race({name: way for name, way in ways.items() if name in FOR_SCALE}, rounds=1)
    require_equal(found, OURS)
    return found


def race_scans(folder: str) -> dict[str, Measured]:
    """Measure what any answer costs at the least: distinct users, and the last time of each user."""
    return race({name: ["benchmarks._peers", name, "duckdb", folder] for name in PEERS if name.startswith("scan")})


def find_best(found: dict[str, Measured], start: str = "") -> Measured | None:
    """The fastest peer of those whose name begins so; None where none got there."""
    peers = [m for name, m in found.items() if name != OURS and name.startswith(start) and not m.failed]
    return min(peers, key=lambda m: m.median, default=None)

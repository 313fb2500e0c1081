"""The same tasks on other engines, a program of its own: `python -m benchmarks._peers TASK ENGINE FOLDER`.

Time and memory are counted from nothing. It prints one JSON line: seconds from Parquet to result, peak memory, and the
result itself for comparison.
"""

from __future__ import annotations

import os
import sys

from benchmarks import _churn_peers, _funnel_peers, _growth_peers
from benchmarks._engines import Peers, import_engine
from benchmarks._measured import THREADS, report_run

PEERS: Peers = _growth_peers.PEERS | _funnel_peers.PEERS | _churn_peers.PEERS
# Shown for scale, once: they take several times as long as one round of the rest.
FOR_SCALE = ("pandas", "duckdb_windows")


def main(task: str, engine: str, folder: str) -> None:
    """Run one task on one engine."""
    import_engine(engine)
    report_run(PEERS[task][engine], folder)


if __name__ == "__main__":
    os.environ.setdefault("POLARS_MAX_THREADS", str(THREADS))
    main(*sys.argv[1:4])

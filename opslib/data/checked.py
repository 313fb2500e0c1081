"""Handing a finished contract check to another process: a report checks the data once, not once in every kernel."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from opslib.data.fitness import DataFitness

# Names the file that holds a check; set by a report for its own kernels.
VARIABLE = "OPSLIB_CHECKED"


def store_fitness(fitness: DataFitness, fingerprint: str, path: Path) -> None:
    """Write a check and what it was made of."""
    checked = TypeAdapter(DataFitness).dump_python(fitness, mode="json")
    path.write_text(json.dumps({"fingerprint": fingerprint, "fitness": checked}), "utf-8")


def recall_fitness(fingerprint: str | Callable[[DataFitness], str]) -> DataFitness | None:
    """Read the check that the environment names, if it is of the same files and playbook; else None.

    Args:
        fingerprint: of the data; or how it follows from a check, where it is made of one.
    """
    path = os.environ.get(VARIABLE)
    if not path:
        return None
    try:
        stored = json.loads(Path(path).read_text("utf-8"))
        fitness: DataFitness = TypeAdapter(DataFitness).validate_python(stored["fitness"], strict=False)
        now = fingerprint if isinstance(fingerprint, str) else fingerprint(fitness)
        return fitness if stored["fingerprint"] == now else None
    except (OSError, ValueError, KeyError, TypeError, ValidationError):
        return None

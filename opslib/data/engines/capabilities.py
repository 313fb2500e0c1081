"""What the engine of a table can do that others cannot: the one place where a measure's plan is chosen by engine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import ibis
import ibis.expr.operations as ops


@dataclass(frozen=True)
class Capabilities:
    """What an engine offers beyond what all do.

    Attributes:
        packed_events: it runs in this process, so events can be handed to numpy without a copy through a network.
        whole_division: it has a function that divides whole numbers, faster than what Ibis writes.
        bit_masks: it can gather whole numbers by their bits (bit_or), so that many periods travel in one number.
    """

    packed_events: bool
    whole_division: bool
    bit_masks: bool


def find_capabilities(expression: Any) -> Capabilities:
    """What the engine can do on which an expression runs.

    >>> find_capabilities(ibis.memtable({"user_id": [1]})).packed_events
    True
    """
    backend = ibis.get_backend(expression)
    embedded = backend.name == "duckdb"
    return Capabilities(
        packed_events=embedded, whole_division=embedded, bit_masks=bool(backend.has_operation(ops.BitOr))
    )

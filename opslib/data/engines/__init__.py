"""Engines beside the embedded one: where a company's tables may live, and what each engine writes otherwise.

Measures are plain Ibis. What Ibis writes wrongly for an engine, or not at all, is put right here, in the engine's own
module; a measure that has a faster plan for one engine asks `capabilities`.
"""

from __future__ import annotations

import atexit
from collections.abc import Callable

_CLOSERS: list[Callable[[], None]] = []


def close_at_end(close: Callable[[], None]) -> None:
    """Have something done when the process ends, or when `close_engines` is called before."""
    _CLOSERS.append(close)
    atexit.register(close)


def close_engines() -> None:
    """Leave nothing behind in databases; for a process that ends without taking itself apart."""
    while _CLOSERS:
        _CLOSERS.pop()()

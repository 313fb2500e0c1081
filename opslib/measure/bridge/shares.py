"""Sharing the change of a total out among the factors that it is made of: Shapley's rule."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import combinations
from math import factorial
from typing import Any

import numpy as np

Values = Mapping[str, np.ndarray]


def share_change(
    total: Callable[[Values], np.ndarray], before: Values, now: Values, levers: Mapping[str, tuple[str, ...]]
) -> dict[str, np.ndarray]:
    """Share the change of a total out among levers by Shapley's rule.

    Args:
        total: factor -> values to the total; arrays are worked on element by element.
        before, now: the factors' values.
        levers: lever -> the factors that move with it.

    Returns:
        Lever -> its part; the parts add up to total(now) - total(before).

    >>> before, now = ({"n": np.array(n), "rate": np.array(r)} for n, r in ((100.0, 0.5), (200.0, 0.6)))
    >>> parts = share_change(lambda v: v["n"] * v["rate"], before, now, {"n": ("n",), "rate": ("rate",)})
    >>> {lever: float(part.round(6)) for lever, part in parts.items()}
    {'n': 55.0, 'rate': 15.0}
    """
    names = list(levers)
    number = len(names)
    values: dict[frozenset[str], np.ndarray] = {}
    for size in range(number + 1):
        for moved in combinations(names, size):
            taken = {factor for lever in moved for factor in levers[lever]}
            values[frozenset(moved)] = total({f: now[f] if f in taken else before[f] for f in before})
    parts = {}
    for lever in names:
        others = [n for n in names if n != lever]
        part: Any = 0.0
        for size in range(number):
            weight = factorial(size) * factorial(number - size - 1) / factorial(number)
            for moved in combinations(others, size):
                without = frozenset(moved)
                part = part + weight * (values[without | {lever}] - values[without])
        parts[lever] = part
    return parts

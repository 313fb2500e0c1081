"""What the arms of a plan can show: the smallest effect, and the users that a wanted one needs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from opslib.measure.estimate import MINIMUM_DENOMINATOR
from opslib.measure.sample_size import size_rates

ALL = "(all)"
EFFECT_COLUMNS = (
    "segment",
    "base_rate",
    "holdout_count",
    "treated_count",
    "detectable_difference",
    "detectable_relative",
    "needed_users_count",
)


def tabulate_effects(
    arms: Sequence[tuple[str, int, int]],
    *,
    bases: Sequence[float],
    lift: float,
    holdout: float,
    level: float = 0.05,
    power: float = 0.8,
) -> pd.DataFrame:
    """Tabulate the effects that arms of these sizes can show.

    Args:
        arms: (segment, users held out, users treated).
        bases: shares of users who may come back by themselves.
        lift: the relative effect worth showing.
        holdout: share of users held out, for the users needed.

    Returns:
        segment, base_rate, holdout_count, treated_count, detectable_difference (points of the share, upwards; missing
        where no effect can be shown), detectable_relative (to the base), needed_users_count (both arms together, to
        show `lift`; missing without two arms); one row a segment and base.
    """
    rows: list[dict[str, Any]] = []
    for segment, held, treated in arms:
        for base in bases:
            found = find_detectable_lift(base, held, treated, level=level, power=power)
            needed = None
            if 0 < holdout < 1:
                size = size_rates(base, base * lift, ratio=holdout / (1 - holdout), level=level, power=power)
                needed = None if size is None else round(size / (1 - holdout))
            rows.append(
                {
                    "segment": segment,
                    "base_rate": base,
                    "holdout_count": held,
                    "treated_count": treated,
                    "detectable_difference": found,
                    "detectable_relative": None if found is None else found / base,
                    "needed_users_count": needed,
                }
            )
    frame = pd.DataFrame(rows, columns=list(EFFECT_COLUMNS))
    numbers = ["detectable_difference", "detectable_relative", "needed_users_count"]
    return frame.astype(dict.fromkeys(numbers, float))


def find_detectable_lift(
    base: float, held: int, treated: int, *, level: float = 0.05, power: float = 0.8
) -> float | None:
    """The smallest rise of a share that arms of these sizes show with the given power; None where they show none.

    Arms of fewer than 20 users show nothing. The counterpart of `size_rates`: the rise for which that many users are
    needed.

    >>> round(find_detectable_lift(0.2, 1030, 1030), 3)
    0.05
    """
    if min(held, treated) < MINIMUM_DENOMINATOR or not 0 < base < 1:
        return None
    ratio = held / treated
    low, high = 0.0, 1 - base

    def enough(difference: float) -> bool:
        size = size_rates(base, difference, ratio=ratio, level=level, power=power)
        return size is not None and size <= treated

    if not enough(high):
        return None
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high

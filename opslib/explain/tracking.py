"""Signs that the tracking changed, not the users: values that appear, vanish, lose their volume or go null."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from opslib.explain.cells import NOT_GIVEN, Cells
from opslib.explain.statistics import Floats, log_p_value

PROBLEM_COLUMNS = [
    "problem",
    "dimension",
    "value",
    "before_count",
    "after_count",
    "expected_count",
    "before_numerator_count",
    "after_numerator_count",
]
# A value must be so much of a period to be worth a question.
_LEAST_SHARE = 0.05
# Less than this share of the users expected is a gap, more of "(not given)" than its inverse a burst.
_GAP = 0.2
# So many outcomes expected, and none there (or everywhere): nobody's behaviour changes like that.
_EXPECTED_OUTCOMES = 20.0
_LEVEL = 1e-6


def find_data_problems(cells: Cells) -> pd.DataFrame:
    """Find values whose counts changed as tracking breaks, not as users change.

    Returns:
        One row a problem: problem, dimension, value, before_count, after_count, expected_count (what the value's share
        before makes of all users after), before_numerator_count, after_numerator_count. Problems: `new value` and
        `vanished value` (at least 5% of a period), `volume gap` (under a fifth of what is expected), `null burst` (the
        missing values of a dimension at least five times what is expected, or new), `no outcome` and `only outcomes`
        (the numerator stopped, or is everybody, where at least 20 others are expected).

    A release that replaces a version looks the same as a version that is no longer tracked: each is a question for
    those who know, not a verdict.
    """
    rows: list[dict[str, Any]] = []
    users = cells.counts[:, [1, 3]].sum(axis=0)
    if not users.all():
        return pd.DataFrame(rows, columns=PROBLEM_COLUMNS)
    for d, labels in enumerate(cells.labels):
        sums = np.stack([np.bincount(cells.codes[:, d], c, len(labels)) for c in cells.counts.T], axis=1)
        for value, counts in zip(labels, sums, strict=True):
            expected = counts[1] * users[1] / users[0]
            if problem := _name_problem(value, counts, users, expected):
                x0, n0, x1, n1 = (int(c) for c in counts)
                found = (problem, cells.dimensions[d], value, n0, n1, float(expected), x0, x1)
                rows.append(dict(zip(PROBLEM_COLUMNS, found, strict=True)))
    return pd.DataFrame(rows, columns=PROBLEM_COLUMNS)


def _name_problem(value: str, counts: Floats, users: Floats, expected: float) -> str:
    x0, n0, x1, n1 = counts
    before, after = n0 / users[0], n1 / users[1]
    pooled = (n0 + n1) / users.sum()
    spread = np.sqrt(pooled * (1 - pooled) * (1 / users).sum())
    clear = spread > 0 and np.exp(log_p_value((after - before) / spread)) < _LEVEL
    if clear and value == NOT_GIVEN and after >= _LEAST_SHARE and after * _GAP >= before:
        return "null burst"
    if clear and n0 == 0 and after >= _LEAST_SHARE:
        return "new value"
    if clear and before >= _LEAST_SHARE and n1 <= _GAP * expected:
        return "volume gap" if n1 else "vanished value"
    if n0 and n1 and x0 / n0 * n1 >= _EXPECTED_OUTCOMES and x1 == 0:
        return "no outcome"
    if n0 and n1 and (1 - x0 / n0) * n1 >= _EXPECTED_OUTCOMES and x1 == n1:
        return "only outcomes"
    return ""

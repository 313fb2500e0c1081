"""Counts of two periods by combinations of values, and the rows that they were made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from opslib.errors import InputError, suggest_name
from opslib.explain.statistics import Floats

NOT_GIVEN = "(not given)"
COUNTS = ("before_numerator_count", "before_count", "after_numerator_count", "after_count")
SCATTER = ("scatter_squares", "scatter_expected")

Repeats = Literal["noise", "parts"]
Items = tuple[tuple[int, int], ...]
Codes = NDArray[np.int64]


@dataclass(frozen=True)
class Cells:
    """Counts of two periods.

    Attributes:
        dimensions: their names.
        labels: for each dimension the texts of its values.
        codes: one row a cell, one column a dimension: which value.
        counts: one row a cell, columns as in COUNTS.
        scatter: one row a cell: squares by which rows of the same cell and period differ in their numerators, and what
            chance lets expect of them; both 0 without repeated rows.
        rows: one row a row of the tables: which cell, 1 in the later period and 0 before, numerator, denominator.
    """

    dimensions: tuple[str, ...]
    labels: tuple[list[str], ...]
    codes: Codes
    counts: Floats
    scatter: Floats
    rows: Floats

    @property
    def repeated(self) -> bool:
        """True when some combination has several rows in one period."""
        return len(self.rows) > int((self.counts[:, [1, 3]] > 0).sum())

    def keep(self, mask: NDArray[np.bool_]) -> Cells:
        """The cells of a mask."""
        number = np.cumsum(mask) - 1
        rows = self.rows[mask[self.rows[:, 0].astype(np.int64)]]
        rows = np.column_stack([number[rows[:, 0].astype(np.int64)], rows[:, 1:]])
        return replace(self, codes=self.codes[mask], counts=self.counts[mask], scatter=self.scatter[mask], rows=rows)

    def select(self, items: Items) -> NDArray[np.bool_]:
        """Which cells belong to a segment, given as pairs of dimension and value."""
        mask = np.ones(len(self.codes), dtype=bool)
        for dimension, code in items:
            mask &= self.codes[:, dimension] == code
        return mask

    def group(self, dimensions: Sequence[int]) -> Codes:
        """A number for each cell: equal where the cells agree in these dimensions."""
        key = np.zeros(len(self.codes), dtype=np.int64)
        for dimension in dimensions:
            # Numbered anew at each step: a product of many sizes would overflow.
            key = np.unique(key * (len(self.labels[dimension]) + 1) + self.codes[:, dimension], return_inverse=True)[1]
        return key

    def name(self, items: Items) -> str:
        """A segment as text, for example `channel=social & platform=web`."""
        return " & ".join(f"{self.dimensions[d]}={self.labels[d][c]}" for d, c in items)


def collect_cells(
    before: pd.DataFrame,
    after: pd.DataFrame,
    *,
    dimensions: Sequence[str],
    numerator: str,
    denominator: str,
    repeats: Repeats = "noise",
) -> Cells:
    """Join the counts of two periods by all dimensions.

    Args:
        repeats: what rows of the same combination are, see `explain_change`.

    Raises:
        InputError: a column that is missing, or numbers that are no counts of a share.
    """
    names = list(dict.fromkeys(dimensions))
    if not names:
        raise InputError("A change is explained along dimensions: name at least one.")
    parts = []
    for label, frame in (("before", before), ("after", after)):
        for column in (*names, numerator, denominator):
            if column not in frame.columns:
                hint = suggest_name(column, [str(c) for c in frame.columns])
                raise InputError(f"The counts of the period {label} have no column '{column}'.{hint}")
        counts = frame[[numerator, denominator]].to_numpy(dtype=float)
        if not np.isfinite(counts).all() or (counts < 0).any() or (counts % 1 > 0).any():
            raise InputError(f"The period {label} holds numbers that are no counts: missing, negative or not whole.")
        if (counts[:, 0] > counts[:, 1]).any():
            raise InputError(f"In the period {label}, {numerator} exceeds {denominator}, so it is no share of it.")
        words = {d: frame[d].astype(object).where(frame[d].notna(), NOT_GIVEN).astype(str).to_numpy() for d in names}
        columns = COUNTS[:2] if label == "before" else COUNTS[2:]
        part = pd.DataFrame(words | dict(zip(columns, counts.T, strict=True)))
        parts.append(part.assign(**_measure_scatter(part, names, columns)) if repeats == "noise" else part)
    kept = [*COUNTS, *SCATTER]
    joined = pd.concat(parts, ignore_index=True).reindex(columns=[*names, *kept]).fillna(dict.fromkeys(kept, 0.0))
    joined = joined[(joined["before_count"] > 0) | (joined["after_count"] > 0)]
    grouped = joined.groupby(names, sort=True)
    rows = _list_rows(joined, np.asarray(grouped.ngroup(), dtype=np.int64)) if repeats == "noise" else np.zeros((0, 4))
    joined = grouped[kept].sum().reset_index()
    factors = [pd.factorize(joined[d], sort=True) for d in names]
    codes = np.stack([f[0] for f in factors], axis=1).astype(np.int64)
    labels = tuple([str(v) for v in f[1]] for f in factors)
    counts, scatter = (joined[list(columns)].to_numpy(dtype=float) for columns in (COUNTS, SCATTER))
    return Cells(tuple(names), labels, codes, counts, scatter, rows)


def _list_rows(joined: pd.DataFrame, cell: Codes) -> Floats:
    x0, n0, x1, n1 = joined[list(COUNTS)].to_numpy(dtype=float).T
    return np.column_stack([cell, n1 > 0, x0 + x1, n0 + n1])


def _measure_scatter(part: pd.DataFrame, names: list[str], columns: Sequence[str]) -> dict[str, Any]:
    """By how much the rows of one cell differ from its share, and how much chance lets expect."""
    sums = part.groupby(names)[list(columns)].transform("sum")
    (x, n), (total_x, total) = (frame[list(columns)].to_numpy(dtype=float).T for frame in (part, sums))
    share = total_x / np.maximum(total, 1)
    expected = n * share * (1 - share) * (1 - n / np.maximum(total, 1))
    return dict(zip(SCATTER, ((x - n * share) ** 2, expected), strict=True))

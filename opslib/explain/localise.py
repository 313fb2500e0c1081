"""The search for causes: the segment that explains most of what moved, then the next among everybody else."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd

from opslib.explain.cells import COUNTS, Cells, Items
from opslib.explain.contrasts import score_segments
from opslib.measure.estimate import quantile

# A segment that is beyond chance and likelier than none goes first. Where cells are too small or too new to tell, none
# is, and the clearest goes first.
_LEAST_EVIDENCE = 0.0
# With so much of the part's excess in the rest too, one larger segment is the smaller explanation.
_MUCH_ALIKE = 0.5


@dataclass(frozen=True)
class Search:
    """How causes are looked for.

    Attributes:
        shown: the cells whose counts are reported.
        needed: the smallest effect on the overall rate.
        chance: what chance alone moves the overall rate by; a mix that did less explains nothing.
        levels: the cells that are searched, where they are not those shown.
    """

    shown: Cells
    max_dimensions: int
    minimum: int
    level: float
    needed: float
    chance: float
    max_causes: int
    levels: Cells | None = None

    def without_excess(self, causes: list[dict[str, Any]]) -> Search:
        """The same search at the rates that the causes' users would have had, had they moved like everybody else."""
        counts = self.shown.counts.copy()
        for cause in causes:
            counts[cause["users"], 2] -= counts[cause["users"], 3] * cause["excess_rate"]
        counts[:, 2] = np.clip(counts[:, 2], 0, counts[:, 3])
        return replace(self, levels=replace(self.shown, counts=counts))

    def find(self, kind: Literal["rate", "mix"], first: pd.DataFrame | None = None) -> list[dict[str, Any]]:
        """Take the clearest segment, leave its users out, look again; stop when nothing is clear.

        `first` is the score of all segments, where it is known already.
        """
        found: list[dict[str, Any]] = []
        for _ in range(2 * self.max_causes):
            best = self._pick(found, kind, known=None if found else first) if len(found) < self.max_causes else None
            if best is None:
                break
            parts = [c for c in found if kind == "rate" and _is_part(c, best)]
            if parts:
                found = [c for c in found if c not in parts]
                best = self._pick(found, kind, items=best["items"]) or best
            found.append(best)
        return found

    def score(self, found: list[dict[str, Any]], kind: Literal["rate", "mix"]) -> pd.DataFrame:
        """Compare all segments, leaving the users of causes already found out."""
        cells = self.levels or self.shown
        left = ~_join_users(found, len(cells.codes))
        table = score_segments(
            cells.keep(left), max_dimensions=self.max_dimensions, minimum=self.minimum, level=self.level, kind=kind
        )
        # Effects are on the rate over everybody, also when some users are left out.
        users = cells.counts[:, [1, 3]]
        before, after = users[left].sum(axis=0) / np.maximum(users.sum(axis=0), 1)
        table["rate_effect_rate"] *= after
        table["mix_effect_rate"] *= (before + after) / 2
        table["p_value"], table["q_value"] = np.exp(table[f"{kind}_log_p"]), table[f"{kind}_q"]
        return table

    def _pick(
        self,
        found: list[dict[str, Any]],
        kind: Literal["rate", "mix"],
        *,
        items: Items | None = None,
        known: pd.DataFrame | None = None,
    ) -> dict[str, Any] | None:
        table = self.score(found, kind) if known is None else known
        clear = (table["q_value"] <= self.level) & (table[f"{kind}_effect_rate"].abs() >= self.needed)
        evidence = table[f"{kind}_evidence"]
        if kind == "rate":
            # Everybody else moved, and only it did not: not while some segment's own move explains more.
            clear &= ~table["unmoved"].astype(bool) | (evidence >= evidence.max())
        if kind == "mix":
            clear &= table["mix_effect_rate"].abs() >= self.chance
        elif not (clear & (evidence >= _LEAST_EVIDENCE)).any():
            evidence = table["rate_clarity"]
        if items is not None:
            clear = table["items"].map(lambda i: i == items).astype(bool)
        if not clear.any():
            return None
        best = int(np.nanargmax(evidence.where(clear)))
        cause = {str(k): v for k, v in table.iloc[best].items()}
        inside = self.shown.select(cause["items"])
        overlaps = [c for c in found if (c["users"] & inside).any()]
        cause["beyond"] = ", ".join(c["segment"] for c in overlaps)
        cause["users"] = inside & ~_join_users(found, len(inside))
        cause["kind"] = "unmoved" if kind == "rate" and cause["unmoved"] else kind
        return cause | _count(self.shown.counts[cause["users"]].sum(axis=0))


def _join_users(causes: list[dict[str, Any]], cells: int) -> np.ndarray:
    return np.logical_or.reduce([np.zeros(cells, dtype=bool), *(c["users"] for c in causes)])


def _count(sums: np.ndarray) -> dict[str, float]:
    x0, n0, x1, n1 = (int(v) for v in sums)
    rates = {"before_rate": x0 / n0 if n0 else math.nan, "after_rate": x1 / n1 if n1 else math.nan}
    return dict(zip(COUNTS, (x0, n0, x1, n1), strict=True)) | rates


def _is_part(part: dict[str, Any], whole: dict[str, Any]) -> bool:
    """Tell whether the rest of a larger segment, found later, moved much like the part of it that was found first."""
    distance = abs(part["excess_rate"] - whole["excess_rate"])
    limit = quantile() * math.hypot(part["excess_error"], whole["excess_error"])
    alike = distance < limit or whole["excess_rate"] / part["excess_rate"] >= _MUCH_ALIKE
    return set(whole["items"]) < set(part["items"]) and alike


def join_causes(rates: list[dict[str, Any]], mixes: list[dict[str, Any]], columns: list[str]) -> pd.DataFrame:
    """Causes of both kinds in one table; a segment that is both is one cause."""
    by_items = {c["items"]: c for c in mixes}
    rows = []
    for cause in rates:
        mix = by_items.pop(cause["items"], None)
        if mix:
            cause = {**cause, "kind": "both", "mix_effect_rate": mix["mix_effect_rate"]}
        rows.append(cause | {"effect_rate": cause["rate_effect_rate"] + (mix["mix_effect_rate"] if mix else 0.0)})
    rows += [c | {"effect_rate": c["mix_effect_rate"]} for c in by_items.values()]
    return pd.DataFrame(rows, columns=columns)

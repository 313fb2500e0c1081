"""Why a total (a count or an amount) moved between two periods, or differs between two segments.

A total is a sum, so every value's change is a part of the whole change, exactly, and offsetting moves stand side by
side. What needs finding is the smallest set of segments whose changes are out of line with everybody else's.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import ibis.expr.types as ir
import numpy as np
import pandas as pd

from opslib.errors import InputError, suggest_name
from opslib.explain.cells import NOT_GIVEN
from opslib.explain.statistics import Floats
from opslib.language import say
from opslib.measure.estimate import adjust_p_values, quantile, to_plain_record

# A segment's total is told to have moved only from so many rows in the two periods together.
_LEAST_ROWS = 20
# The scatter between combinations needs at least so many of them outside the segment.
_LEAST_OTHERS = 3
# The median of the square of a normal score.
_MEDIAN_SQUARE = 0.455
# Moves out of line by less than this factor of everybody's are no explanation, however clear.
_LEAST_FACTOR = 0.02
VALUE_COLUMNS = ["before_amount", "after_amount", "change_amount", "share_of_change_rate", "status"]
CAUSE_COLUMNS = [
    "segment",
    "before_amount",
    "after_amount",
    "change_amount",
    "expected_amount",
    "excess_amount",
    "excess_low_amount",
    "excess_high_amount",
    "share_of_change_rate",
    "status",
    "p_value",
    "q_value",
    "beyond_chance",
]


@dataclass(frozen=True)
class TotalExplanation:
    """Where the change of a total comes from.

    Attributes:
        name: the total's name.
        before_amount, after_amount, change_amount: the totals, a day where `days` was given, and their difference.
        splits: one row a value: dimension, value, before_amount, after_amount, change_amount, share_of_change_rate
            (missing where the totals are equal), status (new, vanished or kept). A dimension's changes add up to the
            whole change.
        answers: segments by how clearly their total is out of line with everybody else's, best first: segment, the
            amounts, expected_amount (what everybody else's change makes of the amount before), excess_amount (after -
            expected) with low and high, share_of_change_rate (excess over the whole change), status, p_value, q_value
            (Benjamini-Hochberg over all segments tested) and beyond_chance. Segments found earlier are left out of
            later ones, so the rows beyond chance explain different parts.
        rising_amount, falling_amount: the sums of the changes of combinations that rose and that fell: large ones that
            nearly cancel mean offsetting moves.
        level: the q-value that no claim exceeds.
        note: why nothing is beyond chance, or an empty text.
        warnings: what a reader must know beside.
    """

    name: str
    before_amount: float
    after_amount: float
    change_amount: float
    splits: pd.DataFrame
    answers: pd.DataFrame
    rising_amount: float
    falling_amount: float
    level: float
    note: str
    warnings: tuple[str, ...] = ()

    @property
    def causes(self) -> pd.DataFrame:
        """The answers that are beyond chance: what is claimed."""
        return self.answers[self.answers["beyond_chance"].astype(bool)].reset_index(drop=True)

    @property
    def localised(self) -> bool:
        """True when at least one segment is out of line beyond chance."""
        return bool(self.answers["beyond_chance"].any())

    def findings(self) -> list[dict[str, Any]]:
        """The change of the total, one record a cause, or that there is none."""
        amounts = {k: getattr(self, k) for k in ("before_amount", "after_amount", "change_amount")}
        records = [{"name": self.name, "kind": "overall", **to_plain_record(amounts)}]
        for rank, row in enumerate(self.causes.to_dict("records"), 1):
            records.append({"name": self.name, "kind": "total", "rank": rank, **to_plain_record(row)})
        if not self.localised:
            records.append({"name": self.name, "kind": "no_localised_cause", "note": self.note})
        return records


def explain_total(
    before: pd.DataFrame | ir.Table,
    after: pd.DataFrame | ir.Table,
    *,
    dimensions: Sequence[str],
    amount: str,
    squares: str = "",
    days: tuple[float, float] | None = None,
    totals: Sequence[float] | None = None,
    name: str = "total",
    max_dimensions: int = 3,
    max_answers: int = 10,
    level: float = 0.02,
) -> TotalExplanation:
    """Explain why a total moved: split it by dimension and search for the segments that are out of line.

    Args:
        before, after: one row a combination of the dimensions' values, of two periods or of two segments of the users;
            rows that repeat are added up, Ibis tables in the engine.
        dimensions: columns that say who; a missing value counts as "(not given)".
        amount: the column that is added up: a count, or money.
        squares: for amounts, a column with the sum of the squared single amounts: how much chance may move them; empty:
            the amounts are counts.
        days: how many days each side covers, where they differ: amounts are then compared a day.
        totals: the totals where they are known; when the rows add up to something else (distinct users who stand in
            several rows), they are refused.
        name: the total's name in results.
        max_dimensions: a segment combines at most this many dimensions.
        max_answers: list so many segments.
        level: the largest q-value of a claim.

    Returns:
        A `TotalExplanation`.

    Raises:
        InputError: a missing column, amounts that are not given, negative counts, or rows that do not add up.

    Chance is what counts of independent rows do (Poisson; a compound sum with `squares`), widened by the scatter of the
    other combinations' changes. Source: quasi-likelihood, McCullagh and Nelder (1989), section 4.5.

    >>> orders = {"platform": ["ios", "web", "tv"], "orders_count": [500, 500, 500]}
    >>> result = explain_total(
    ...     pd.DataFrame(orders),
    ...     pd.DataFrame(orders | {"orders_count": [300, 510, 490]}),
    ...     dimensions=["platform"],
    ...     amount="orders_count",
    ... )
    >>> result.causes[["segment", "change_amount", "status"]].values.tolist()
    [['platform=ios', -200.0, 'kept']]
    """
    names = list(dict.fromkeys(dimensions))
    if not names:
        raise InputError("A change is explained along dimensions: name at least one.")
    columns = [amount, squares] if squares else [amount]
    length = (1.0, 1.0) if days is None else (float(days[0]), float(days[1]))
    if min(length) <= 0 or not all(map(math.isfinite, length)):
        raise InputError(f"Each side covers some days: days={days} is no pair of positive numbers.")
    sides = [_add_up(f, names, columns, label) for f, label in ((before, "before"), (after, "after"))]
    for i, label in enumerate(("before", "after")):
        counted = float(sides[i][amount].sum())
        if totals is not None and not math.isclose(counted, totals[i], rel_tol=1e-9, abs_tol=0.5):
            raise InputError(
                f"On the side {label} the rows add up to {counted:,.0f}, and the total is {totals[i]:,.0f}: distinct "
                "users who stand in several rows do not add up. Give each user one row, for example by the first value."
            )
    renamed = [s.rename(columns={c: f"{c}_{i}" for c in columns}) for i, s in enumerate(sides)]
    joined = pd.concat(renamed, axis=1).fillna(0.0).sort_index()
    x = joined[[f"{amount}_0", f"{amount}_1"]].to_numpy(dtype=float)
    spread = joined[[f"{squares}_0", f"{squares}_1"]].to_numpy(dtype=float) if squares else x
    if (not squares and (x < 0).any()) or (spread < 0).any():
        raise InputError(f"'{amount}' holds negative numbers: give `squares`, the sums of squared amounts, for money.")
    labels = joined.index.to_frame(index=False)
    x, spread = x / length, spread / np.square(length)
    change = x[:, 1] - x[:, 0]
    whole = float(change.sum())
    splits = pd.concat([_split(labels, x, d, whole) for d in names], ignore_index=True)
    answers = _search(labels, x, spread, min(max_dimensions, len(names)), whole, level, max_answers)
    warnings = []
    if days is None and not (0.5 <= (x[:, 1].sum() + 1) / (x[:, 0].sum() + 1) <= 2):
        warnings.append(say("the totals differ more than twofold: give `days` if the sides cover unlike spans"))
    rising, falling = float(change[change > 0].sum()), float(change[change < 0].sum())
    if min(rising, -falling) > 2 * abs(whole) and answers["beyond_chance"].any():
        warnings.append(
            say(
                "offsetting moves: combinations rose by {rising:,.6g} and fell by {falling:,.6g} in all",
                rising=rising,
                falling=-falling,
            )
        )
    note = ""
    if not answers["beyond_chance"].any():
        note = say("no localised cause: no segment's total is out of line with everybody else's by more than chance")
        if answers.empty:
            note = say(
                "not enough data: no segment and its rest have at least {minimum} in both together",
                minimum=_LEAST_ROWS,
            )
    edges = (float(x[:, 0].sum()), float(x[:, 1].sum()), whole)
    return TotalExplanation(name, *edges, splits, answers, rising, falling, level, note, tuple(warnings))


def _add_up(frame: pd.DataFrame | ir.Table, names: list[str], columns: list[str], label: str) -> pd.DataFrame:
    for column in (*names, *columns):
        if column not in frame.columns:
            hint = suggest_name(column, [str(c) for c in frame.columns])
            raise InputError(f"The amounts of the side {label} have no column '{column}'.{hint}")
    if isinstance(frame, ir.Table):
        keys = {d: frame[d].cast("string").fill_null(NOT_GIVEN) for d in names}
        rows = frame.group_by(**keys).aggregate(**{c: frame[c].sum() for c in columns}).to_pandas()
    else:
        words = {d: frame[d].astype(object).where(frame[d].notna(), NOT_GIVEN).astype(str).to_numpy() for d in names}
        rows = pd.DataFrame(words | {c: frame[c].to_numpy(dtype=float) for c in columns})
    if not np.isfinite(rows[columns].to_numpy(dtype=float)).all():
        raise InputError(f"The side {label} holds amounts that are missing or no numbers.")
    return rows.groupby(names)[columns].sum().astype(float)


def _split(labels: pd.DataFrame, x: Floats, dimension: str, whole: float) -> pd.DataFrame:
    sums = pd.DataFrame(x, columns=VALUE_COLUMNS[:2]).groupby(labels[dimension]).sum()
    table = sums.rename_axis("value").reset_index().assign(dimension=dimension)
    table["change_amount"] = table["after_amount"] - table["before_amount"]
    table["share_of_change_rate"] = table["change_amount"] / (whole if whole else math.nan)
    table["status"] = [_name_status(*pair) for pair in table[VALUE_COLUMNS[:2]].to_numpy().tolist()]
    return table[["dimension", "value", *VALUE_COLUMNS]]


def _name_status(before: float, after: float) -> str:
    return "kept" if before and after else "new" if after else "vanished"


def _search(
    labels: pd.DataFrame, x: Floats, spread: Floats, depth: int, whole: float, level: float, most: int
) -> pd.DataFrame:
    """Take the clearest segment, leave its cells out, look again; then list the clearest of those left."""
    groups = []
    for size in range(1, depth + 1):
        for chosen in itertools.combinations(labels.columns, size):
            codes, keys = pd.factorize(pd.MultiIndex.from_frame(labels[list(chosen)]), sort=True)
            groups.append((codes, [" & ".join(f"{d}={v}" for d, v in zip(chosen, k, strict=True)) for k in keys]))
    left = np.ones(len(x), dtype=bool)
    found: list[pd.DataFrame] = []
    table = pd.DataFrame(columns=[*CAUSE_COLUMNS, "group", "number"])
    while len(found) < most:
        table = _score(groups, x, spread, left, whole, level)
        if table.empty or not bool(table["beyond_chance"].iloc[0]):
            break
        found.append(table.head(1))
        left &= groups[int(table["group"].iloc[0])][0] != int(table["number"].iloc[0])
    known = {row["segment"].iloc[0] for row in found}
    others = table[~table["segment"].isin(known)].head(most - len(found)).assign(beyond_chance=False)
    parts = [p for p in (*found, others) if len(p)]
    joined = pd.concat(parts, ignore_index=True) if parts else table
    return joined[CAUSE_COLUMNS]


def _find_common_factor(others: Floats, plain: float) -> tuple[float, float]:
    """By what factor everybody else moved: the weighted median, so that another cause does not count, and its price.

    The price is how much larger its variance is than that of the plain ratio of sums (for normal moves, pi / 2).
    """
    both = others[(others > 0).all(axis=1)]
    if len(both) < _LEAST_OTHERS:
        return plain, 1.0
    ratio = both[:, 1] / both[:, 0]
    order = np.argsort(ratio)
    weight = both[order, 0].cumsum()
    return float(ratio[order][np.searchsorted(weight, weight[-1] / 2)]), math.pi / 2


def _score(
    groups: list[tuple[Any, list[str]]], x: Floats, spread: Floats, left: np.ndarray, whole: float, level: float
) -> pd.DataFrame:
    from scipy.special import stdtr

    kept = np.where(left[:, None], np.column_stack([x, spread]), 0.0)
    total = kept.sum(axis=0)
    if total[0] <= 0:
        return pd.DataFrame(columns=[*CAUSE_COLUMNS, "group", "number"])
    rows, seen = [], set()
    for g, (codes, names) in enumerate(groups):
        own = np.stack([np.bincount(codes, weights=c, minlength=len(names)) for c in kept.T], axis=1)
        for k in np.flatnonzero(own[:, 0] + own[:, 1] != 0).tolist():
            (a, b, va, vb), (ra, rb, rva, rvb) = own[k], total - own[k]
            inside = (codes == k) & left
            same = inside.tobytes()
            # As many single rows as would give these squares: the sum squared over the sum of squares.
            own_rows, rest_rows = (
                abs(p + q) ** 2 / max(v, 1e-12) for p, q, v in ((a, b, va + vb), (ra, rb, rva + rvb))
            )
            if same in seen or own_rows < _LEAST_ROWS or rest_rows < _LEAST_ROWS or ra <= 0 or rb <= 0:
                continue
            seen.add(same)
            others = left & ~inside
            factor, price = _find_common_factor(x[others], rb / ra)
            excess = b - a * factor
            # Under a common factor the amounts before tell of the chance after too, and the other way round.
            own_variance = (va * factor + vb) * (1 + factor) / 2 if a <= 0 or b <= 0 else vb + va * factor**2
            variance = own_variance + price * a**2 * factor**2 * (rvb / rb**2 + rva / ra**2)
            degrees = int(others.sum()) - 1
            if degrees >= _LEAST_OTHERS - 1:
                gap = x[others, 1] - x[others, 0] * factor
                expected = spread[others, 1] + spread[others, 0] * factor**2
                # By the median: another cause among the others is no scatter of all.
                noise = max(1.0, float(np.median(gap**2 / np.maximum(expected, 1e-12))) / _MEDIAN_SQUARE)
            else:
                noise, degrees = 1.0, 10**6
            error = math.sqrt(variance * noise)
            p = 2 * float(stdtr(degrees if noise > 1 else 10**6, -abs(excess) / error)) if error > 0 else 1.0
            half = quantile() * error
            share = excess / whole if whole else math.nan
            amounts = (a, b, b - a, a * factor, excess, excess - half, excess + half, share)
            rows.append(
                (names[k], *amounts, _name_status(a, b), p, math.nan, False, g, k, abs(excess) / max(error, 1e-12))
            )
    table = pd.DataFrame(rows, columns=[*CAUSE_COLUMNS, "group", "number", "score"])
    if len(table):
        table["q_value"] = adjust_p_values(table["p_value"].to_numpy())
        large = table["excess_amount"].abs() >= _LEAST_FACTOR * table["expected_amount"].abs()
        table["beyond_chance"] = (table["q_value"] <= level) & large
    return table.sort_values(["beyond_chance", "score", "segment"], ascending=[False, False, True], ignore_index=True)

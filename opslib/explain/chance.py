"""How often noise alone would show some segment as clear as this one: segments held against dealt-out tables.

Users' independence is a claim about the data, and most data break it: a combination's rate swings from day to day, and
combinations drift apart. Two things are therefore dealt anew, many times. Rows within their combination, where a
combination has several (days, minutes): what a segment does when its rows have no order. And whole combinations, with
their counts of both periods, to other names: what a segment does when names mean nothing. The clearest of *all*
segments in each dealt table makes the yardstick, which so pays for choosing the best of many.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from opslib.explain.statistics import Floats, Ints

# A sparse matrix (scipy.sparse.csr_array): one row a segment, one column a cell, 1 where the cell belongs to it.
Members = Any
# Always the same deals: the same tables give the same answer.
_SEED = 20250101
# The smallest probability that so many dealt tables can show is 1 in 200.
DEALS = 199
# Numbers held at once; more dealt tables than fit are taken one handful after the other.
_HELD = 2_000_000
# With less than this many cells' weight a segment is one cell, which stays one wherever it is dealt to.
_SEVERAL = 1.5
# A cell outside the segment has surely moved when noise alone would move one so far in one table of twenty.
_SURE = 0.05
# So many segments are taken for causes, at most, before the rest is asked for strays.
_FEW_CAUSES = 5
# With fewer cells there are too few places to deal them to: instead, one more cause is allowed for.
_LEAST_CELLS = 20


@dataclass(frozen=True)
class Moves:
    """How far each cell moved, one column a table, and the variance that chance of users gives it (inf: unknown)."""

    move: Floats
    variance: Floats


Measure = Callable[[Floats, Floats, Floats, Floats], Moves]


def measure_rate_moves(x0: Floats, n0: Floats, x1: Floats, n1: Floats) -> Moves:
    """Measure how far the cells' rates moved, on the scale where the variance does not depend on the rate.

    Source: the angular transformation of Anscombe (1948), Biometrika 35, 246-254.
    """
    known = (n0 > 0) & (n1 > 0)
    angles = [2 * np.arcsin(np.sqrt((x + 0.375) / (n + 0.75))) for x, n in ((x1, n1), (x0, n0))]
    return Moves(np.where(known, angles[0] - angles[1], 0.0), np.where(known, 1 / (n1 + 0.5) + 1 / (n0 + 0.5), np.inf))


def measure_share_moves(x0: Floats, n0: Floats, x1: Floats, n1: Floats) -> Moves:
    """Measure how far the cells' shares of all users moved, as logarithms."""
    known = n0 + n1 > 0
    move = np.log((n1 + 0.5) / (n0 + 0.5)) - np.log((n1.sum(axis=0) + 0.5) / (n0.sum(axis=0) + 0.5))
    return Moves(np.where(known, move, 0.0), np.where(known, 1 / (n1 + 0.5) + 1 / (n0 + 0.5), np.inf))


def judge_scatter(counts: Floats, members: Members, measure: Measure, wanted: Ints) -> Floats:
    """Judge how likely scatter between combinations shows some segment as clear.

    Args:
        counts: one row a cell: numerator and denominator before, and after.
        members: which cells belong to which segment.
        measure: how a cell's move is measured.
        wanted: positions of the segments that are asked about.

    Returns:
        A probability a segment, 1 for those not asked about. Combinations are dealt to other names; segments are
        compared by random-effects means, so that cells count nearly alike where they scatter. One cell stays one
        wherever it is dealt to, and few cells have few places: those are held against the strays among the others.

    Source: permutation tests of a meta-regression with many covariates, Higgins and Thompson (2004), Statistics in
    Medicine 23, 1663-1682; the largest statistic as yardstick, Westfall and Young (1993), Resampling-Based Multiple
    Testing.
    """
    chance = np.ones(members.shape[0])
    if not len(wanted):
        return chance
    seen = measure(*counts.T[:, :, None])
    strays = _compare_with_strays(seen, members, wanted, [])
    if not strays.any():
        chance[wanted] = 0.0
        return chance
    spread = _estimate_spread(seen)
    clear, weight = (a[:, 0] for a in _compare(seen, spread, members))
    rng = np.random.default_rng(_SEED)
    dealt = [_find_clearest(_deal_cells(seen, rng, held), spread, members) for held in _share_out(max(members.shape))]
    places = np.where(weight >= _SEVERAL, _exceed(np.concatenate(dealt), clear), 1.0)
    sure = np.flatnonzero(places <= _SURE)
    if len(sure):
        strays = np.minimum(strays, _compare_with_strays(seen, members, wanted, sure[np.argsort(-clear[sure])]))
    chance[wanted] = np.minimum(1.0, 2 * np.minimum(places[wanted], strays))
    return chance


def judge_rows(counts: Floats, rows: Floats, members: Members, measure: Measure) -> Floats:
    """Judge how likely scatter between the rows of one combination shows some segment as clear.

    Args:
        rows: cell, period, numerator and denominator of every row. Each cell's rows are dealt to the periods anew.

    Returns:
        A probability a segment.
    """
    seen = measure(*counts.T[:, :, None])
    spread = _estimate_spread(seen)
    clear, _ = _compare(seen, spread, members)
    rng = np.random.default_rng(_SEED)
    dealt = [
        _find_clearest(measure(*_deal_rows(rows, len(counts), rng, held)), spread, members, single=True)
        for held in _share_out(max(len(rows), *members.shape))
    ]
    return _exceed(np.concatenate(dealt), clear[:, 0])


def _share_out(size: int) -> list[int]:
    """How many dealt tables at once."""
    at_once = max(1, min(DEALS, _HELD // max(1, size)))
    return [min(at_once, DEALS - done) for done in range(0, DEALS, at_once)]


def _exceed(dealt: Floats, clear: Floats) -> Floats:
    above = len(dealt) - np.searchsorted(np.sort(dealt), clear * (1 - 1e-9), side="left")
    return np.asarray((1 + above) / (1 + len(dealt)))


def _deal_cells(seen: Moves, rng: np.random.Generator, tables: int) -> Moves:
    places = np.argsort(rng.random((tables, len(seen.move))), axis=1).T
    return Moves(seen.move[places, 0], seen.variance[places, 0])


def _deal_rows(rows: Floats, cells: int, rng: np.random.Generator, tables: int) -> tuple[Floats, ...]:
    """Deal every cell's rows to the two periods, as many to each as there are."""
    cell, later = rows[:, 0].astype(np.int64), rows[:, 1]
    size = np.bincount(cell, minlength=cells)
    among_later = np.bincount(cell, weights=later, minlength=cells)
    sorted_cell = np.sort(cell)
    rank = np.arange(len(rows)) - (np.cumsum(size) - size)[sorted_cell]
    taken = rank < among_later[sorted_cell]
    order = np.argsort(rng.random((tables, len(rows))) + 2.0 * cell, axis=1)[:, taken]
    at = (sorted_cell[taken] + cells * np.arange(tables)[:, None]).ravel()
    dealt: list[tuple[Floats, Floats]] = []
    for column in (2, 3):
        total = np.bincount(cell, weights=rows[:, column], minlength=cells).astype(float)
        after = np.bincount(at, weights=rows[order.ravel(), column], minlength=cells * tables).astype(float)
        after = after.reshape(tables, cells).T
        dealt.append((total[:, None] - after, after))
    (x0, x1), (n0, n1) = dealt
    return x0, n0, x1, n1


def _estimate_spread(seen: Moves) -> float:
    """The variance of cells' moves beyond chance.

    Source: DerSimonian and Laird (1986), Controlled Clinical Trials 7, 177-188.
    """
    weight, move = 1 / seen.variance, seen.move
    total = weight.sum()
    scale = total - (weight**2).sum() / total if total > 0 else 0.0
    if scale <= 0:
        return 0.0
    squares = (weight * (move - (weight * move).sum() / total) ** 2).sum()
    return max(0.0, float((squares - ((weight > 0).sum() - 1)) / scale))


def _compare(moves: Moves, spread: float, members: Members) -> tuple[Floats, Floats]:
    """Hold every segment's mean move against everybody else's: how clear that is, and how many cells count."""
    weight = 1 / (moves.variance + spread)
    push = weight * moves.move
    total, total_push = weight.sum(axis=0), push.sum(axis=0)
    own, own_push, squares = (members @ v for v in (weight, push, weight**2))
    rest = total - own
    both = (own > 0) & (rest > 1e-12 * total)
    with np.errstate(invalid="ignore", divide="ignore"):
        gap = own_push / own - (total_push - own_push) / rest
        clear = np.where(both, np.abs(gap) / np.sqrt(1 / own + 1 / rest), 0.0)
        return clear, np.where(own > 0, own**2 / squares, 0.0)


def _find_clearest(moves: Moves, spread: float, members: Members, *, single: bool = False) -> Floats:
    """The clearest segment of each table; `single`: also among those of one cell."""
    clear, cells = _compare(moves, spread, members)
    return np.asarray(np.where(single | (cells >= _SEVERAL), clear, 0.0).max(axis=0, initial=0.0))


def _find_members(members: Members, segment: int) -> NDArray[np.bool_]:
    inside = np.zeros(members.shape[1], dtype=bool)
    inside[members.indices[members.indptr[segment] : members.indptr[segment + 1]]] = True
    return inside


def _compare_with_strays(seen: Moves, members: Members, wanted: Ints, causes: Sequence[int] | Ints) -> Floats:
    """How likely a segment is only one of cells that stray, however few cells it has.

    Strays are cells that surely moved otherwise than the causes they stand in, the segment itself among them, or than
    everybody else. (Farthest stray / the segment's move)^2 is the chance that the largest of many moves is so much
    larger than the next, where far moves are as frequent as they can be with a variance that exists (a Pareto tail of
    index 2). Cells that scatter without one that surely strays widen the error of the segment's move instead, times as
    many segments as there are.

    Source: random-effects meta-regression with few studies, Knapp and Hartung (2003), Statistics in Medicine 22,
    2693-2710.
    """
    from scipy.special import chdtrc, ndtri, stdtr

    variance, move = seen.variance[:, 0], seen.move[:, 0]
    known = np.isfinite(variance)
    weight = 1 / variance
    sure = -float(ndtri(_SURE / 2 / max(1, len(move)))) * np.sqrt(np.where(known, variance, 0.0))

    def take_mean(cells: NDArray[np.bool_], weights: Floats) -> float:
        total = weights[cells].sum()
        return float((weights * move)[cells].sum() / total) if total > 0 else 0.0

    chance = np.ones(len(wanted))
    for i, position in enumerate(wanted.tolist()):
        parts = [_find_members(members, position)]
        left = ~parts[0]
        if len(move) < _LEAST_CELLS:
            outside = Moves(np.where(left, move, 0.0)[:, None], np.where(left, variance, np.inf)[:, None])
            clear = _compare(outside, 0.0, members)[0][:, 0]
            causes = [int(clear.argmax())] if clear.any() else []
        for cause in causes[:_FEW_CAUSES]:
            parts.append(left & _find_members(members, int(cause)))
            left = left & ~parts[-1]
        parts.append(left)
        gaps = np.zeros(len(move))
        for part in parts:
            gaps[part & known] = move[part & known] - take_mean(part & known, weight)
        away = abs(take_mean(parts[0], weight) - take_mean(~parts[0], weight))
        if not away > 0:
            continue
        farthest = min(1.0, (np.maximum(np.abs(gaps) - sure, 0.0).max(initial=0.0) / away) ** 2)
        used = [weight[part].sum() for part in parts]
        scale = sum(w - (weight[part] ** 2).sum() / w for part, w in zip(parts, used, strict=True) if w > 0)
        freedom = int(known.sum()) - sum(w > 0 for w in used)
        squares = float((weight * gaps**2).sum())
        spread = max(0.0, squares - freedom) / scale if freedom > 0 and scale > 0 else 0.0
        scattered = spread > 0 and chdtrc(freedom, squares) <= _SURE
        widened = 1 / (variance + spread)
        inside, rest = widened[parts[0]].sum(), widened[left].sum()
        if not (inside > 0 and rest > 0):
            continue
        z = abs(take_mean(parts[0], widened) - take_mean(left, widened)) / np.sqrt(1 / inside + 1 / rest)
        tail = 2 * float(stdtr(freedom if scattered else np.inf, -z)) * members.shape[0] if spread > 0 else 0.0
        chance[i] = min(1.0, max(farthest, tail))
    return chance

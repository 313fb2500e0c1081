"""How well each segment explains what moved: the likelihood of "this segment moved, the rest hardly did".

Cells, the finest combinations, are the units, not users: within a segment that broke, each cell moves by an amount of
its own around a common one, and outside each moves a little around another. So a few large cells do not decide alone,
a part does not pass for the whole that moved with it, and a whole does not pass for the one part of it that moved.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from opslib.explain.chance import Members
from opslib.explain.statistics import Floats

# Moves within a segment differ from cell to cell by about this share of the segment's own move.
_UNEVEN = (0.25, 0.5)
# One cell in fifty outside the segment may move four times as far as the others there.
_STRAY_SHARE, _STRAY_SPREAD = 0.02, 4.0
# A cell's share before is drawn to what its single values let expect, as if by up to so many users.
_BORROWED_USERS = 5.0
# With fewer expected outcomes of either kind, a cell's likelihood is no normal curve and is summed over a grid.
_FEW = 8.0


@dataclass(frozen=True)
class _Scale:
    """A way to measure moves, in which those of the cells of one segment may be alike.

    Attributes:
        moved: share after and share before (of the rarer outcome) -> move.
        apply: share before and move -> share after.
        slope: by how much the move grows with the share after.
        nodes: moves over which the likelihood of a cell with few users is summed.
        moves: of a segment; `least_spread` between its cells at least.
        common_moves: of everybody outside; one of `usual_move` is e times rarer than none.
        spreads: between cells outside.
    """

    moved: Callable[[Floats, Floats], Floats]
    apply: Callable[[Floats, Floats], Floats]
    slope: Callable[[Floats], Floats]
    nodes: Floats
    moves: Floats
    least_spread: float
    common_moves: Floats
    usual_move: float
    spreads: tuple[float, ...]


def _both_signs(down: Floats, up: Floats) -> Floats:
    return np.concatenate([-down[::-1], [0.0], up])


def _odds(share: Floats) -> Floats:
    return np.log(share) - np.log1p(-share)


_IN_ODDS = _Scale(
    moved=lambda after, before: _odds(after) - _odds(before),
    apply=lambda before, move: 1 / (1 + np.exp(-_odds(before) - move)),
    slope=lambda after: 1 / (after * (1 - after)),
    nodes=_both_signs(np.geomspace(0.05, 7, 40), np.geomspace(0.05, 7, 40)),
    moves=_both_signs(np.geomspace(0.1, 5, 14), np.geomspace(0.1, 5, 14)),
    least_spread=0.1,
    common_moves=_both_signs(*[np.array([0.1, 0.2, 0.3, 0.45, 0.7, 1.0, 1.4, 2.0])] * 2),
    usual_move=0.1,
    spreads=(0.02, 0.1, 0.25, 0.5),
)
# A share of those whom it would otherwise not have hit: nearly points where the outcome is rare.
_IN_POINTS = _Scale(
    moved=lambda after, before: np.log1p(-before) - np.log1p(-after),
    apply=lambda before, move: 1 - np.minimum((1 - before) * np.exp(-move), 1 - 1e-6),
    slope=lambda after: 1 / (1 - after),
    nodes=_both_signs(np.geomspace(0.004, 4, 50), np.geomspace(0.004, 4, 50)),
    moves=_both_signs(np.geomspace(0.01, 1, 10), np.geomspace(0.01, 3, 18)),
    least_spread=0.01,
    common_moves=_both_signs(*[np.array([0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.3])] * 2),
    usual_move=0.02,
    spreads=(0.003, 0.01, 0.03, 0.1),
)


@dataclass(frozen=True)
class Evidence:
    """Log likelihoods of every cell under each way in which a segment, or the rest, may have moved.

    Attributes:
        inside: for each scale one row a way of a segment, one column a cell.
        outside: the same for ways of the rest.
        priors: how much rarer than none each common move of the rest is.
    """

    inside: tuple[Floats, ...]
    outside: tuple[Floats, ...]
    priors: tuple[Floats, ...]

    def weigh(self, members: Members) -> Floats:
        """Weigh for each segment "it moved, the rest did not" against "nobody stands out".

        Args:
            members: which cells belong to which segment.

        Returns:
            One logarithm of a likelihood ratio a segment, the mean of both scales, each at its best moves.
        """
        total = np.zeros(members.shape[0])
        for inside, outside, prior in zip(self.inside, self.outside, self.priors, strict=True):
            everybody = outside.sum(axis=1) + prior
            own = (members @ inside.T).max(axis=1)
            rest = (everybody - members @ outside.T).max(axis=1)
            total += own + rest - everybody.max()
        return total / len(self.inside)


def collect_evidence(codes: NDArray[np.int64], counts: Floats) -> Evidence:
    """Compute the likelihoods of all cells.

    Args:
        codes: one row a cell, one column a dimension: which value.
        counts: one row a cell: successes before, users before, successes after, users after.

    Source: a random-effects version of the scan statistic (Kulldorff 1997, Communications in Statistics 26, 1481-1496)
    over combinations of values; that cells of a cause move alike is the ripple effect of HotSpot (Sun and others 2018,
    IEEE Access 6) and Squeeze (Li and others 2019, ISSRE). Which scale they move alike on is not known, so the
    likelihoods of two are pooled by their geometric mean (Genest and Zidek 1986, Statistical Science 1, 114-135).

    >>> from scipy.sparse import csr_array
    >>> codes = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    >>> counts = np.array([[50, 500, 50, 500], [50, 500, 50, 500], [50, 500, 150, 500], [50, 500, 140, 500]])
    >>> evidence = collect_evidence(codes, counts.astype(float))
    >>> evidence.weigh(csr_array([[1, 1, 0, 0], [0, 0, 1, 1]])).round().tolist()
    [2.0, 9.0]
    """
    x0, n0, x1, n1 = counts.T
    if 2 * (x0 + x1).sum() > (n0 + n1).sum():
        x0, x1 = n0 - x0, n1 - x1
    expected = _expect_shares(codes, x0, n0)
    borrowed = _share_users(codes, n0)
    before = np.clip((x0 + borrowed * expected) / np.maximum(n0 + borrowed, 1e-9), 1e-7, 1 - 1e-7)
    # The share before is known from so many users only: what those after say counts for less.
    weight = np.maximum(n0 + borrowed, 1e-9) / np.maximum(n0 + borrowed + n1, 1e-9)
    cells = [_measure_cells(scale, x1, n1, before, weight) for scale in (_IN_ODDS, _IN_POINTS)]
    inside, outside, priors = [], [], []
    for scale, measured in zip((_IN_ODDS, _IN_POINTS), cells, strict=True):
        ways = [(m, math.hypot(scale.least_spread, u * m)) for u in _UNEVEN for m in scale.moves]
        common = [(m, s) for s in scale.spreads for m in scale.common_moves]
        inside.append(measured.weigh(ways))
        near = measured.weigh(common) + math.log(1 - _STRAY_SHARE)
        far = measured.weigh([(m, _STRAY_SPREAD * s) for m, s in common]) + math.log(_STRAY_SHARE)
        outside.append(np.logaddexp(near, far) * (n1 > 0))
        priors.append(np.array([-abs(m) / scale.usual_move for m, _ in common]))
    return Evidence(tuple(inside), tuple(outside), tuple(priors))


@dataclass(frozen=True)
class _CellLikelihoods:
    """The likelihood of each cell's move on one scale: a normal curve, or for few users values at the scale's nodes."""

    move: Floats
    variance: Floats
    few: NDArray[np.bool_]
    empty: NDArray[np.bool_]
    at_nodes: Floats
    edges: Floats

    def weigh(self, ways: Sequence[tuple[float, float]]) -> Floats:
        """The log likelihoods when cells move by normal amounts: one row a mean and standard deviation."""
        from scipy.special import ndtr

        moves, spreads = (np.array(column)[:, None] for column in zip(*ways, strict=True))
        likelihoods = np.empty((len(ways), len(self.move)))
        many = ~self.few
        variance = self.variance[many] + spreads**2
        gaps = self.move[many] - moves
        likelihoods[:, many] = 0.5 * (np.log(self.variance[many] / variance) - gaps**2 / variance)
        shares = np.diff(ndtr((self.edges - moves) / spreads), axis=1)
        shares /= np.maximum(shares.sum(axis=1, keepdims=True), 1e-300)
        likelihoods[:, self.few] = np.log(shares @ self.at_nodes.T + 1e-300)
        likelihoods[:, self.empty] = 0.0
        return likelihoods


def _measure_cells(scale: _Scale, x1: Floats, n1: Floats, before: Floats, weight: Floats) -> _CellLikelihoods:
    after = np.clip((x1 + before) / (n1 + 1), 1e-9, 1 - 1e-9)
    both = np.sqrt(before * (1 - before) * after * (1 - after))
    variance = scale.slope(after) ** 2 * after * (1 - after) / np.maximum(n1, 1e-9) / weight
    # Between the variances at both shares: the one after alone trusts a cell without a single outcome too much.
    variance *= both / (after * (1 - after))
    rarest = n1 * np.sqrt(np.minimum(before * after, (1 - before) * (1 - after))) * weight
    few = rarest < _FEW
    shares = np.clip(scale.apply(before[few, None], scale.nodes[None, :]), 1e-12, 1 - 1e-12)
    logs = x1[few, None] * np.log(shares) + (n1 - x1)[few, None] * np.log1p(-shares)
    logs *= weight[few, None]
    at_nodes = np.exp(logs - logs.max(axis=1, keepdims=True))
    middles = (scale.nodes[1:] + scale.nodes[:-1]) / 2
    edges = np.concatenate([[-np.inf], middles, [np.inf]])
    return _CellLikelihoods(scale.moved(after, before), variance, few, n1 == 0, at_nodes, edges)


def _share_users(codes: NDArray[np.int64], n0: Floats) -> Floats:
    """How many users a cell borrows: no more than its rarest value has to lend to each of its cells."""
    lent = np.full(len(codes), _BORROWED_USERS)
    for d in range(codes.shape[1]):
        users, cells = np.bincount(codes[:, d], weights=n0), np.bincount(codes[:, d])
        lent = np.minimum(lent, (users / np.maximum(cells, 1))[codes[:, d]])
    return lent


def _expect_shares(codes: NDArray[np.int64], x0: Floats, n0: Floats) -> Floats:
    """What each cell's values let expect of its share: effects of single values that add up in log odds."""
    start = (x0.sum() + 0.5) / (n0.sum() + 1)
    odds = np.full(len(codes), math.log(start / (1 - start)))
    for _ in range(5):
        for d in range(codes.shape[1]):
            share = 1 / (1 + np.exp(-odds))
            gap = np.bincount(codes[:, d], weights=x0 - n0 * share)
            information = np.bincount(codes[:, d], weights=n0 * share * (1 - share))
            odds += np.clip(gap / (information + 1), -1, 1)[codes[:, d]]
    return np.asarray(1 / (1 + np.exp(-odds)))

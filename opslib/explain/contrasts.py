"""Segments of counts against everybody else, between two periods: how their rates moved, and how their shares did.

Counts come in cells, one for each combination of all dimensions' values. A segment is a set of cells that agree in one
dimension or a few. Everything is a sum over cells, so thousands of segments are compared at once.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import pandas as pd

from opslib.explain.cells import COUNTS, NOT_GIVEN, Cells, Codes, Items
from opslib.explain.chance import Members, judge_rows, judge_scatter, measure_rate_moves, measure_share_moves
from opslib.explain.search import collect_evidence
from opslib.explain.statistics import (
    TERMS,
    Floats,
    compare_odds_exactly,
    compare_where_alike,
    compute_terms,
    estimate_difference,
    estimate_log_odds,
    find_least_odds_p,
    log_p_value,
)
from opslib.measure.estimate import adjust_p_values, quantile

__all__ = ["NOT_GIVEN", "measure_noise", "score_segments", "split_by_value"]

# A dimension is held equal between the periods only while this share of the information stays: one whose values are
# replaced from period to period (app versions) would leave nothing to compare.
_KEPT_INFORMATION = 0.8
_KEPT_AT_LEAST = 0.5
# Fewer successes or failures than this in a period, and the normal approximation gives way to an exact test.
_FEW = 10
# An exact test whose p-value could not have been smaller, whatever happened, says nothing.
_SAYS_SOMETHING = 0.001
# So many times e to one, and a smaller p-value makes a segment no more likely than another.
_PAST_DOUBT = 10.0
# That all but one segment moved is possible, but so much rarer than that one did that it needs this much more evidence.
_UNMOVED_ODDS = 20.0


def split_by_value(cells: Cells, dimension: int) -> pd.DataFrame:
    """Split the overall change by the values of a dimension into rate and mix, with nothing left over.

    Returns:
        dimension, value, COUNTS, before_rate, after_rate, before_share_rate, after_share_rate, rate_effect_rate,
        mix_effect_rate.

    Source: Kitagawa (1955), Journal of the American Statistical Association 50, 1168-1194.
    """
    labels = cells.labels[dimension]
    sums = _sum_by(cells.codes[:, dimension], cells.counts, len(labels))
    x0, n0, x1, n1 = sums.T
    with np.errstate(invalid="ignore", divide="ignore"):
        s0, s1, r0, r1 = n0 / n0.sum(), n1 / n1.sum(), x0 / n0, x1 / n1
        # A value that is new or gone has no change of its own: all that it does is mix.
        old, new = np.where(n0 > 0, r0, r1), np.where(n1 > 0, r1, r0)
        middle = (x0.sum() / n0.sum() + x1.sum() / n1.sum()) / 2
    return pd.DataFrame(
        {
            "dimension": cells.dimensions[dimension],
            "value": labels,
            **dict(zip(COUNTS, sums.astype(np.int64).T, strict=True)),
            "before_rate": r0,
            "after_rate": r1,
            "before_share_rate": s0,
            "after_share_rate": s1,
            "rate_effect_rate": (s0 + s1) / 2 * (new - old),
            "mix_effect_rate": (s1 - s0) * ((old + new) / 2 - middle),
        }
    )


def score_segments(
    cells: Cells, *, max_dimensions: int, minimum: int, level: float, kind: Literal["rate", "mix"]
) -> pd.DataFrame:
    """Compare every segment of up to `max_dimensions` dimensions with everybody else.

    Returns:
        One row a segment: segment, items, dimension_count, COUNTS, before_rate, after_rate, change_rate,
        others_change_rate, excess_rate with low, high and error, rate_effect_rate, mix_effect_rate, unmoved
        (everybody else moved more); of both kinds (`rate_` and `mix_`) the log_p, the q-value and the evidence, which
        is larger the less chance explains it; for rates it is the logarithm of the odds that this segment moved, the
        rest did not, against nobody, with every segment of the same dimensions, and every choice of dimensions,
        equally likely at first, to which the logarithm of the p-value, rate_clarity, is added as far as there is doubt.
        Where a segment or everybody else has fewer than `minimum` users in a period, no change of rates is told; where
        it has so few in both, it has no row. A segment that has the same users as a larger one is left out.
    """
    from scipy.sparse import csr_array

    strata = _choose_strata(cells, minimum)
    none = np.zeros((len(TERMS), 0))
    found: list[Items] = []
    seen: dict[Items, tuple[float, ...]] = {}
    counts, sides, scatter = [np.zeros((0, 4))], [(none, none)], [np.zeros((0, 2))]
    rows, columns_at, rarity = [np.zeros(0, dtype=np.int64)], [np.zeros(0, dtype=np.int64)], [np.zeros(0)]
    # The share of a combination mostly follows that of its parts: mix is looked for in single dimensions.
    depths = range(1, min(max_dimensions if kind == "rate" else 1, len(cells.dimensions)) + 1)
    choices = sum(math.comb(len(cells.dimensions), depth) for depth in depths)
    for depth in depths:
        for chosen in itertools.combinations(range(len(cells.dimensions)), depth):
            _, first, groups = np.unique(cells.group(chosen), return_index=True, return_inverse=True)
            own = _sum_by(groups, cells.counts, len(first))
            rest = cells.counts.sum(axis=0) - own
            users = np.minimum(np.maximum(own[:, 1], own[:, 3]), np.maximum(rest[:, 1], rest[:, 3]))
            place = np.full(len(first), -1, dtype=np.int64)
            kept = []
            for g in np.flatnonzero(users >= minimum).tolist():
                items = tuple((d, int(cells.codes[first[g], d])) for d in chosen)
                same = seen[items] = tuple(own[g])
                if all(seen.get(whole) != same for whole in itertools.combinations(items, depth - 1)):
                    place[g] = len(found)
                    kept.append(g)
                    found.append(items)
            inside, everybody = _sum_terms(groups, strata, cells.counts, len(first))
            sides.append((inside[:, kept], everybody[:, None] - inside[:, kept]))
            counts.append(own[kept])
            scatter.append(_sum_by(groups, cells.scatter, len(first))[kept])
            held = np.flatnonzero(place[groups] >= 0)
            rows.append(place[groups[held]])
            columns_at.append(held)
            rarity.append(np.full(len(kept), math.log(max(len(first), 1) * choices)))
    at = (np.concatenate(rows), np.concatenate(columns_at))
    members = csr_array((np.ones(len(at[0])), at), shape=(len(found), len(cells.codes)))
    own = np.concatenate(counts)
    inside, outside = (np.concatenate(side, axis=1) for side in zip(*sides, strict=True))
    noise = np.maximum(measure_noise(np.concatenate(scatter)), measure_noise(cells.scatter.sum(axis=0)))
    columns = _compare(own, cells.counts.sum(axis=0) - own, inside, outside, noise, minimum)
    length = np.array([len(items) for items in found], dtype=np.int64)
    columns["mix_log_p"] = np.where(length > 1, np.nan, columns["mix_log_p"])
    columns |= _weigh_evidence(columns, length)
    columns |= _judge(cells, members, columns, kind, level) | {"rate_evidence": np.full(len(found), np.nan)}
    if kind == "rate":
        odds = collect_evidence(cells.codes, cells.counts).weigh(members) - np.concatenate(rarity)
        # Small effects are told by their p-values, of large ones everything is past doubt but which segment fits best.
        columns["rate_evidence"] = odds + np.minimum(columns["rate_clarity"], _PAST_DOUBT)
    names = {"segment": [cells.name(items) for items in found], "items": pd.Series(found, dtype=object)}
    table = pd.DataFrame(names | {"dimension_count": length} | columns)
    table = table[table["rate_log_p"].notna() | table["mix_log_p"].notna()]
    order = ["rate_evidence", "mix_evidence", "segment"]
    return table.sort_values(order, ascending=[False, False, True], na_position="last", ignore_index=True)


def _weigh_evidence(columns: dict[str, Any], length: Codes) -> dict[str, Any]:
    """Weigh p-values: segments of one dimension, of two, ... share the room for error alike, however many they are.

    Source: Genovese, Roeder and Wasserman (2006), Biometrika 93, 509-524.
    """
    weighed: dict[str, Any] = {}
    for kind in ("rate", "mix"):
        log_p = columns[f"{kind}_log_p"]
        tests = np.bincount(length, weights=~np.isnan(log_p), minlength=1)
        same = np.maximum(tests[length], 1.0)
        weighted = np.minimum(log_p + np.log(same * max(1, (tests > 0).sum()) / max(1.0, tests.sum())), 0.0)
        weighed[f"{kind}_q"] = adjust_p_values(np.exp(weighted))
        # Which segment is clearest does not depend on how noisy each is: that only decides whether it is beyond chance.
        weighed[f"{kind}_evidence"] = -log_p * (columns["noise"] if kind == "rate" else 1.0) - np.log(same)
    unmoved = np.abs(columns["change_rate"]) < np.abs(columns["others_change_rate"])
    weighed["rate_clarity"] = weighed["rate_evidence"] - np.where(unmoved, math.log(_UNMOVED_ODDS), 0.0)
    return weighed | {"unmoved": unmoved}


def _judge(
    cells: Cells, members: Members, columns: dict[str, Any], kind: Literal["rate", "mix"], level: float
) -> dict[str, Any]:
    """Let q-values hold also where cells, and rows of one cell, scatter more than chance of users.

    Users' chance and the scatter of rows seen within a period make one test, dealing the rows anew another of the same
    question: the clearer of the two counts, for half as much. Scatter between cells is another question, and both must
    be answered.
    """
    measure = measure_rate_moves if kind == "rate" else measure_share_moves
    chance = columns[f"{kind}_q"].copy()
    asked = ~np.isnan(chance)
    if cells.repeated and asked.any():
        dealt = judge_rows(cells.counts, cells.rows, members, measure)
        chance = np.where(asked, np.minimum(1.0, 2 * np.fmin(chance, dealt)), np.nan)
    # No segment is named whose own interval holds "no excess".
    doubtful = columns[f"{kind}_log_p"] > float(log_p_value(quantile()))
    chance = np.where(doubtful, np.maximum(chance, np.exp(columns[f"{kind}_log_p"])), chance)
    with np.errstate(invalid="ignore"):
        wanted = np.flatnonzero(chance <= level)
    chance[wanted] = np.maximum(chance, judge_scatter(cells.counts, members, measure, wanted))[wanted]
    return {f"{kind}_q": chance}


def measure_noise(scatter: Floats) -> Any:
    """How much larger than chance the variance is, by what repeated rows show; at least 1.

    Source: quasi-likelihood, McCullagh and Nelder (1989), Generalized Linear Models, section 4.5.
    """
    squares, expected = scatter[..., 0], scatter[..., 1]
    return np.maximum(np.divide(squares, expected, out=np.ones_like(squares), where=expected > 0), 1.0)


def _sum_by(groups: Codes, values: Floats, size: int) -> Floats:
    return np.stack([np.bincount(groups, weights=column, minlength=size) for column in values.T], axis=1)


def _choose_strata(cells: Cells, minimum: int) -> Codes:
    """Number the cells by the dimensions that can be held equal between the periods; rare values count as one."""
    codes = cells.codes.copy()
    for d, labels in enumerate(cells.labels):
        users = np.bincount(codes[:, d], weights=cells.counts[:, [1, 3]].sum(axis=1), minlength=len(labels))
        codes[users[codes[:, d]] < 2 * minimum, d] = len(labels)
    lumped = replace(cells, codes=codes)
    chosen = list(range(len(cells.dimensions)))

    def measure_information(dimensions: Sequence[int]) -> float:
        strata = lumped.group(dimensions)
        n0, n1 = _sum_by(strata, cells.counts[:, [1, 3]], int(strata.max(initial=-1)) + 1).T
        return float((n0 * n1 / (n0 + n1)).sum())

    whole = measure_information([])
    while chosen and measure_information(chosen) < _KEPT_INFORMATION * whole:
        left = {d: measure_information([c for c in chosen if c != d]) for d in chosen}
        chosen.remove(max(left, key=lambda d: left[d]))
    return lumped.group(chosen)


def _compare_periods(counts: Floats) -> Floats:
    """Terms of after against before."""
    x0, n0, x1, n1 = counts.T
    return compute_terms(x1, n1, x0, n0)


def _sum_terms(groups: Codes, strata: Codes, counts: Floats, size: int) -> tuple[Floats, Floats]:
    """Sum the strata's terms over each segment, and over everybody.

    The values of the segments' dimensions are always held equal: what is new or gone among the others is mix, and has
    no part in how they moved.
    """
    strata_count = int(strata.max(initial=0)) + 1
    pairs, position = np.unique(groups * np.int64(strata_count) + strata, return_inverse=True)
    terms = _compare_periods(_sum_by(position, counts, len(pairs)))
    return _sum_by(pairs // strata_count, terms.T, size).T, terms.sum(axis=1)


def _compare(own: Floats, rest: Floats, inside: Floats, outside: Floats, noise: Floats, minimum: int) -> dict[str, Any]:
    """Hold segments against everybody else: the changes of their rates, and of their shares."""
    large = np.minimum(own[:, [1, 3]], rest[:, [1, 3]]).min(axis=1, initial=np.inf) >= minimum
    four = np.concatenate([own, rest], axis=1)
    fewest = np.minimum(four[:, ::2], four[:, 1::2] - four[:, ::2]).min(axis=1, initial=np.inf)
    # Where hardly anybody in the segment has somebody alike in the other period, all are compared as they are.
    own_terms, rest_terms = _compare_periods(own), _compare_periods(rest)
    thin = inside[0] < _KEPT_AT_LEAST * own_terms[0]
    inside, outside = np.where(thin, own_terms, inside), np.where(thin, rest_terms, outside)
    large &= outside[0] >= minimum / 2
    with np.errstate(invalid="ignore", divide="ignore"):
        before, after, share = own[:, 0] / own[:, 1], own[:, 2] / own[:, 3], own[:, 3] / (own[:, 3] + rest[:, 3])
        change, error = estimate_difference(inside)
        others, others_error = estimate_difference(outside)
        excess, spread = np.where(large, change - others, np.nan), np.hypot(error, others_error) * np.sqrt(noise)
        in_points = log_p_value(excess / spread)
        log_odds, odds_error = estimate_log_odds(inside)
        others_odds, others_odds_error = estimate_log_odds(outside)
        in_odds = log_p_value((log_odds - others_odds) / np.hypot(odds_error, others_odds_error) / np.sqrt(noise))
        mix_effect, mix_log_p = _compare_shares(own, rest)
    few = np.flatnonzero(~np.isnan(excess) & (fewest < _FEW))
    exact = compare_odds_exactly(own[few], rest[few])
    mute = np.flatnonzero(exact > _SAYS_SOMETHING)
    mute = mute[find_least_odds_p(own[few[mute]], rest[few[mute]]) > _SAYS_SOMETHING]
    alike = compare_where_alike(own[few[mute]], rest[few[mute]], _FEW)
    exact[mute] = np.where(np.isnan(alike), exact[mute], alike)
    in_odds[few] = np.log(np.maximum(exact, 1e-300))
    log_p = np.maximum(in_points, in_odds)
    return {
        **dict(zip(COUNTS, own.round().astype(np.int64).T, strict=True)),
        "before_rate": before,
        "after_rate": after,
        "change_rate": np.where(large, change, np.nan),
        "others_change_rate": np.where(large, others, np.nan),
        "excess_rate": excess,
        "excess_error": spread,
        "excess_low": excess - quantile() * spread,
        "excess_high": excess + quantile() * spread,
        "noise": noise,
        "rate_effect_rate": share * excess,
        # Without a single success, or failure, anywhere nothing can have changed.
        "rate_log_p": np.where(np.isnan(excess), np.nan, np.where(np.isnan(log_p), 0.0, log_p)),
        "mix_effect_rate": mix_effect,
        "mix_log_p": mix_log_p,
    }


def _compare_shares(own: Floats, rest: Floats) -> tuple[Floats, Floats]:
    """What the changes of segments' shares did to the overall rate, and how clear that is."""
    (x0, n0, x1, n1), (y0, m0, y1, m1) = own.T, rest.T
    before, after = n0 + m0, n1 + m1
    s0, s1, pooled = n0 / before, n1 / after, (n0 + n1) / (before + after)
    share_z = (s1 - s0) / np.sqrt(pooled * (1 - pooled) * (1 / before + 1 / after))
    level, error = estimate_difference(compute_terms(x0, n0, y0, m0) + compute_terms(x1, n1, y1, m1))
    r0, r1 = np.where(n0 > 0, x0 / n0, x1 / n1), np.where(n1 > 0, x1 / n1, x0 / n0)
    q0, q1 = np.where(m0 > 0, y0 / m0, y1 / m1), np.where(m1 > 0, y1 / m1, y0 / m0)
    # Both must be there: a share that changed, and a rate unlike the others'.
    log_p = np.maximum(log_p_value(share_z), log_p_value(level / error))
    return (s1 - s0) * ((r0 + r1) - (q0 + q1)) / 2, log_p

"""Why a rate moved between two periods: which segments moved apart from everybody else, and how much was mix.

A rate over everybody moves because rates within segments move, because the mix of segments moves, or both; the split
into the two is exact for every dimension. A segment is a cause when its rate changed otherwise than everybody else's
did over the same time at equal mix, or when its share of the users changed and its rate is unlike the others'. Causes
are taken one by one, the clearest first; each next one is looked for only among users outside those already found, so
that a segment does not come back as its own part, or as a whole that merely contains it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import ibis.expr.types as ir
import numpy as np
import pandas as pd

from opslib.errors import InputError
from opslib.explain.cells import COUNTS, Repeats, collect_cells
from opslib.explain.contrasts import measure_noise, split_by_value
from opslib.explain.localise import Search, join_causes
from opslib.explain.outcomes import count_outcomes, mark_returned
from opslib.explain.tracking import find_data_problems
from opslib.language import say
from opslib.measure.estimate import (
    MINIMUM_DENOMINATOR,
    Change,
    compare_estimates,
    estimate_rate,
    to_plain_record,
)

__all__ = ["ChangeExplanation", "count_outcomes", "explain_change", "mark_returned"]

SEGMENT_COLUMNS = [
    "segment",
    *COUNTS,
    "before_rate",
    "after_rate",
    "change_rate",
    "others_change_rate",
    "excess_rate",
    "excess_low",
    "excess_high",
    "rate_effect_rate",
    "mix_effect_rate",
    "p_value",
    "q_value",
]
CANDIDATE_COLUMNS = ["kind", "evidence", *SEGMENT_COLUMNS]
CAUSE_COLUMNS = ["kind", *SEGMENT_COLUMNS, "beyond", "effect_rate", "share_of_change_rate"]
ANSWER_COLUMNS = ["segment", "beyond_chance", *[c for c in CAUSE_COLUMNS if c != "segment"], "evidence"]


@dataclass(frozen=True)
class ChangeExplanation:
    """Where the change of a rate between two periods comes from.

    Attributes:
        name: the rate's name.
        overall: the rate after and before, over everybody.
        splits: one row a dimension: dimension, rate_effect_rate (rates changed within its values), mix_effect_rate (the
            shares of its values changed), total_rate; the two add up to the total, which is the overall change.
        values: the same for every value: dimension, value, before_numerator_count, before_count,
            after_numerator_count, after_count, before_rate, after_rate, before_share_rate, after_share_rate,
            rate_effect_rate, mix_effect_rate.
        segments: every segment of up to `max_dimensions` dimensions that is large enough, clearest first: segment, the
            four counts, before_rate, after_rate, change_rate and others_change_rate (how the segment and everybody
            else moved, each at equal mix), excess_rate (the difference of the two) with excess_low and
            excess_high, rate_effect_rate (what the excess did to the overall rate), mix_effect_rate (what the change
            of the segment's share did), p_value of the excess (users are independent, rows of a period scatter as
            seen), q_value: the probability that noise of any kind shows some segment as clear, see `explain_change`.
        causes: the smallest explanation, in the order found: kind (rate: its rate moved apart; unmoved: everybody
            else's moved and its did not; mix: its share moved; both: rate and share), the columns of `segments`
            (p_value and q_value of that kind), beyond (earlier causes whose users are left out of this row),
            effect_rate (what it did to the overall rate), share_of_change_rate (the effect's share of the overall
            change; missing where that lies within chance).
        candidates: single segments by how well each alone explains what moved, best first, beyond chance or
            not: kind (rate or unmoved), evidence (logarithm of the odds against "nobody stands out"), the columns of
            `segments`. Parts and wholes of one another stand side by side: where the first is no cause in the end, the
            true one is likely among the next few.
        answers: what to read, and to score: where the change comes from, the likeliest first. The causes in their order
            (beyond_chance: True), then the candidates that are none of them (False), with the columns of both.
        data_problems: values whose counts changed as tracking breaks, not as users change: see `find_data_problems`.
        unexplained_rate: the overall change less the effects of all causes: what everybody shares, and chance.
        tested_count: how many segments were tested for a change of their rate.
        level: the q-value that no cause exceeds.
        note: why there is no cause, or an empty text.
        warnings: what a reader must know beside: data problems, periods of unlike size.
    """

    name: str
    overall: Change
    splits: pd.DataFrame
    values: pd.DataFrame
    segments: pd.DataFrame
    causes: pd.DataFrame
    candidates: pd.DataFrame
    answers: pd.DataFrame
    data_problems: pd.DataFrame
    unexplained_rate: float | None
    tested_count: int
    level: float
    note: str
    warnings: tuple[str, ...] = ()

    @property
    def localised(self) -> bool:
        """True when at least one segment explains part of the change."""
        return not self.causes.empty

    def findings(self) -> list[dict[str, Any]]:
        """The overall change, one record a dimension's split, one a data problem, one a cause or that there is none."""
        records: list[dict[str, Any]] = [self.overall.to_finding(kind="overall")]
        for row in self.splits.to_dict("records"):
            records.append({"name": self.name, "kind": "split", **to_plain_record(row)})
        for row in self.data_problems.to_dict("records"):
            records.append({"name": self.name, "kind": "data_problem", **to_plain_record(row)})
        for rank, row in enumerate(self.causes.to_dict("records"), 1):
            records.append({"name": self.name, "rank": rank, **to_plain_record(row)})
        if not self.localised:
            records.append({"name": self.name, "kind": "no_localised_cause", "note": self.note})
        return records


def explain_change(
    before: pd.DataFrame | ir.Table,
    after: pd.DataFrame | ir.Table,
    *,
    dimensions: Sequence[str],
    numerator: str,
    denominator: str,
    name: str = "rate",
    max_dimensions: int = 3,
    minimum: int = MINIMUM_DENOMINATOR,
    level: float = 0.02,
    minimum_share: float = 0.02,
    max_causes: int = 5,
    max_candidates: int = 10,
    repeats: Repeats = "noise",
    totals: Sequence[float] | None = None,
) -> ChangeExplanation:
    """Explain why a rate moved from one period to another, or differs between two segments of the users.

    Read `answers` for where the change comes from, the likeliest first, and `causes` for what is claimed. For a total
    without a denominator see `explain_total`.

    Args:
        before, after: counts of the two periods, pandas or Ibis, one row a combination of the dimensions' values (rows
            may repeat), with one column a dimension and the two columns of counts; `count_outcomes` makes them. Or of
            two segments of the users: A stands for before and B for after in all names, and the dimensions must be
            others than those that tell A from B.
        dimensions: columns that say who; a missing value counts as "(not given)".
        numerator: column with how many users (sessions, ...) did it.
        denominator: column with how many could have.
        name: the rate's name in results.
        max_dimensions: a segment combines at most this many dimensions.
        minimum: a segment and everybody else need this many users in both periods to be compared.
        level: the largest q-value of a cause: users' chance (Benjamini-Hochberg over all segments tested), the scatter
            of repeated rows, and the scatter between combinations must each be less likely than that.
        minimum_share: a cause did at least this share of the overall change, where that is beyond chance.
        max_causes: stop after so many causes of each kind.
        max_candidates: list so many single segments by how well each explains what moved.
        repeats: what several rows of one combination in one period are. `noise`: it measured again (another minute or
            day), so their scatter beyond chance widens every interval and p-value. `parts`: pieces of it (rows of a
            finer table), which are only added up.
        totals: how many users there were before and after, where that is known: a user counted in several rows makes
            the counts larger, and is refused.

    Returns:
        A `ChangeExplanation`. No cause is an answer: then `note` says why.

    Raises:
        InputError: a missing column, or numbers that are no counts of a share.

    Segments are ranked by a likelihood in which the cells of a cause move alike, if unevenly, and the others hardly
    (`explain/search`): neither does a part pass for the whole nor a whole for its part. A cause is beyond
    chance: held against everybody else by the difference of their changes at equal mix
    (Mantel-Haenszel over the dimensions), it stands out both in points and in odds, so that a common change on either
    scale is no cause; few counts are tested exactly (Zelen), and rates of 0% or 100%, of which odds say nothing, by the
    pair of rates that is not alike. Combinations, of which there are more to choose from, need
    as much more evidence. Chance of users is not all noise: where combinations have several rows these are dealt to the
    periods anew, and where there are many combinations these are dealt to other names; the clearest of all segments in
    each dealt table is what a cause must beat (`explain/chance`). Each later cause is held against tables without the
    users of the earlier ones, which keeps the level (step-down, Romano and Wolf 2005). Rates come first; mix, looked
    for in single dimensions, is measured at the rates that the causes found so far would have had without their
    excess, so that nothing counts twice.

    >>> users = {"platform": ["ios", "android"], "users_count": [1000, 1000]}
    >>> before = pd.DataFrame(users | {"returned_count": [400, 400]})
    >>> after = pd.DataFrame(users | {"returned_count": [400, 300]})
    >>> result = explain_change(
    ...     before, after, dimensions=["platform"], numerator="returned_count", denominator="users_count"
    ... )
    >>> result.causes[["kind", "segment"]].values.tolist(), round(float(result.causes["effect_rate"].iloc[0]), 3)
    ([['rate', 'platform=android']], -0.05)
    """
    before, after = (f.to_pandas() if isinstance(f, ir.Table) else f for f in (before, after))
    cells = collect_cells(
        before, after, dimensions=dimensions, numerator=numerator, denominator=denominator, repeats=repeats
    )
    x0, n0, x1, n1 = cells.counts.sum(axis=0).tolist()
    _check_totals(totals, n0, n1)
    now, earlier = (estimate_rate(name, x, n, minimum=minimum) for x, n in ((x1, n1), (x0, n0)))
    overall = compare_estimates(now, earlier)
    values = pd.concat([split_by_value(cells, d) for d in range(len(cells.dimensions))], ignore_index=True)
    splits = values.groupby("dimension", sort=False)[["rate_effect_rate", "mix_effect_rate"]].sum(min_count=1)
    splits = splits.reindex(cells.dimensions).rename_axis("dimension")
    splits["total_rate"] = splits["rate_effect_rate"] + splits["mix_effect_rate"]

    needed = minimum_share * abs(overall.difference or 0.0) if overall.clear else 0.0
    chance = (overall.high - overall.low) / 2 if overall.low is not None and overall.high is not None else 0.0
    chance *= math.sqrt(measure_noise(cells.scatter.sum(axis=0)))
    search = Search(cells, max_dimensions, minimum, level, needed, chance, max_causes)
    segments = search.score([], "rate")
    rates = search.find("rate", segments)
    causes = join_causes(rates, search.without_excess(rates).find("mix"), CAUSE_COLUMNS)
    difference = overall.difference if overall.clear and overall.difference else math.nan
    causes["share_of_change_rate"] = causes["effect_rate"].astype(float) / difference
    unexplained = None
    if overall.difference is not None:
        unexplained = overall.difference - float(causes["effect_rate"].sum())
    candidates = _list_candidates(segments, max_candidates)
    problems = find_data_problems(cells)
    tested = int(segments["p_value"].notna().sum())
    return ChangeExplanation(
        name,
        overall,
        splits.reset_index(),
        values,
        segments[SEGMENT_COLUMNS],
        causes[CAUSE_COLUMNS],
        candidates,
        _list_answers(causes[CAUSE_COLUMNS], candidates),
        problems,
        unexplained,
        tested,
        level,
        "" if len(causes) else _explain_silence(overall, tested, minimum),
        tuple(_list_warnings(problems, n0, n1)),
    )


def _explain_silence(overall: Change, tested: int, minimum: int) -> str:
    if not overall.now.known:
        return say("{note} in the period after", note=overall.now.note)
    if not overall.before.known:
        return say("{note} in the period before", note=overall.before.note)
    if not tested:
        return say(
            "not enough data: no segment and its rest have at least {minimum} users in both periods", minimum=minimum
        )
    return say(
        "no localised cause: none of {count:,} segments moved apart from everybody else by more than chance",
        count=tested,
    )


def _check_totals(totals: Sequence[float] | None, n0: float, n1: float) -> None:
    for label, total, counted in zip(("before", "after"), totals or (), (n0, n1), strict=False):
        if round(total) != round(counted):
            raise InputError(
                f"In the period {label} the rows count {counted:,.0f} users, and there are {total:,.0f}: distinct "
                "users who stand in several rows do not add up. Give each user one row, for example by the first value."
            )


def _list_candidates(segments: pd.DataFrame, most: int) -> pd.DataFrame:
    table = segments[segments["rate_evidence"].notna()].head(most)
    kind = np.where(table["unmoved"].astype(bool), "unmoved", "rate")
    table = table.assign(kind=kind, evidence=table["rate_evidence"])
    return table[CANDIDATE_COLUMNS].reset_index(drop=True)


def _list_answers(causes: pd.DataFrame, candidates: pd.DataFrame) -> pd.DataFrame:
    evidence = candidates.set_index("segment")["evidence"]
    claimed = causes.assign(beyond_chance=True, evidence=causes["segment"].map(evidence).astype(float))
    others = candidates[~candidates["segment"].isin(set(causes["segment"]))].assign(
        beyond_chance=False, beyond="", effect_rate=lambda t: t["rate_effect_rate"], share_of_change_rate=math.nan
    )
    parts = [p[ANSWER_COLUMNS] for p in (claimed, others) if len(p)]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=ANSWER_COLUMNS)


def _list_warnings(problems: pd.DataFrame, n0: float, n1: float) -> list[str]:
    said = [f"{p['problem']}: {p['dimension']}={p['value']}" for p in problems.to_dict("records")]
    if n0 and n1 and max(n0, n1) > 3 * min(n0, n1):
        said.append(
            say(
                "periods of unlike size: {before:,.0f} users before, {after:,.0f} after; only rates and shares are "
                "compared",
                before=n0,
                after=n1,
            )
        )
    return said

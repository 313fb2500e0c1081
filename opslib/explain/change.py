"""Why a rate moved between two periods: which segments moved apart from everybody else, and how much was mix.

A rate over everybody moves because rates within segments move, because the mix of segments moves, or both; the split
into the two is exact for every dimension. A segment is a cause when its rate changed otherwise than everybody else's
did over the same time at equal mix, or when its share of the users changed and its rate is unlike the others'. Causes
are taken one by one, the clearest first; each next one is looked for only among users outside those already found, so
that a segment does not come back as its own part, or as a whole that merely contains it.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import ibis.expr.types as ir
import numpy as np
import pandas as pd

from opslib.data.periods import DAY, Period
from opslib.errors import InputError, suggest_name
from opslib.explain.contrasts import (
    COUNTS,
    NOT_GIVEN,
    Cells,
    Items,
    collect_cells,
    score_segments,
    split_by_value,
)
from opslib.measure.estimate import (
    MINIMUM_DENOMINATOR,
    Change,
    compare_estimates,
    estimate_rate,
    quantile,
    to_plain_record,
)
from opslib.measure.retention import find_first_days

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
# With so much of the part's excess in the rest too, one larger segment is the smaller explanation.
_MUCH_ALIKE = 0.5
CAUSE_COLUMNS = ["kind", *SEGMENT_COLUMNS, "beyond", "effect_rate", "share_of_change_rate"]


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
            of the segment's share did), p_value and q_value of the excess.
        causes: the smallest explanation, in the order found: kind (rate: its rate moved apart; unmoved: everybody
            else's moved and its did not; mix: its share moved; both: rate and share), the columns of `segments`
            (p_value and q_value of that kind), beyond (earlier causes whose users are left out of this row),
            effect_rate (what it did to the overall rate), share_of_change_rate (the effect's share of the overall
            change; missing where that lies within chance).
        unexplained_rate: the overall change less the effects of all causes: what everybody shares, and chance.
        tested_count: how many segments were tested for a change of their rate.
        level: the q-value that no cause exceeds.
        note: why there is no cause, or an empty text.
    """

    name: str
    overall: Change
    splits: pd.DataFrame
    values: pd.DataFrame
    segments: pd.DataFrame
    causes: pd.DataFrame
    unexplained_rate: float | None
    tested_count: int
    level: float
    note: str

    @property
    def localised(self) -> bool:
        """True when at least one segment explains part of the change."""
        return not self.causes.empty

    def findings(self) -> list[dict[str, Any]]:
        """The overall change, one record a dimension's split, one a cause; or one that says that there is none."""
        records: list[dict[str, Any]] = [self.overall.to_finding(kind="overall")]
        for row in self.splits.to_dict("records"):
            records.append({"name": self.name, "kind": "split", **to_plain_record(row)})
        for rank, row in enumerate(self.causes.to_dict("records"), 1):
            records.append({"name": self.name, "rank": rank, **to_plain_record(row)})
        if not self.localised:
            records.append({"name": self.name, "kind": "no_localised_cause", "note": self.note})
        return records


def explain_change(
    before: pd.DataFrame,
    after: pd.DataFrame,
    *,
    dimensions: Sequence[str],
    numerator: str,
    denominator: str,
    name: str = "rate",
    max_dimensions: int = 2,
    minimum: int = MINIMUM_DENOMINATOR,
    level: float = 0.02,
    minimum_share: float = 0.02,
    max_causes: int = 5,
) -> ChangeExplanation:
    """Explain why a rate moved from one period to another.

    Args:
        before, after: counts of the two periods, one row a combination of the dimensions' values (rows may repeat),
            with one column a dimension and the two columns of counts; `count_outcomes` makes them from Ibis tables.
        dimensions: columns that say who; a missing value counts as "(not given)".
        numerator: column with how many users (sessions, ...) did it.
        denominator: column with how many could have.
        name: the rate's name in results.
        max_dimensions: a segment combines at most this many dimensions.
        minimum: a segment and everybody else need this many users in both periods to be compared.
        level: the largest q-value of a cause (Benjamini-Hochberg over all segments tested).
        minimum_share: a cause did at least this share of the overall change, where that is beyond chance.
        max_causes: stop after so many causes of each kind.

    Returns:
        A `ChangeExplanation`. No cause is an answer: then `note` says why.

    Raises:
        InputError: a missing column, or numbers that are no counts of a share.

    A segment is held against everybody else by the difference of their changes at equal mix (Mantel-Haenszel over the
    dimensions). It must stand out both in points and in odds, so that a common change on either scale is no cause;
    few counts are tested exactly (Zelen). The clearest segment wins; combinations, of which there are more to choose
    from, need as much more evidence. Rates come first; mix, looked for in single dimensions, is measured at the rates
    that the causes found so far would have had without their excess, so that nothing counts twice.

    >>> users = {"platform": ["ios", "android"], "users_count": [1000, 1000]}
    >>> before = pd.DataFrame(users | {"returned_count": [400, 400]})
    >>> after = pd.DataFrame(users | {"returned_count": [400, 300]})
    >>> result = explain_change(
    ...     before, after, dimensions=["platform"], numerator="returned_count", denominator="users_count"
    ... )
    >>> result.causes[["kind", "segment"]].values.tolist(), round(float(result.causes["effect_rate"].iloc[0]), 3)
    ([['rate', 'platform=android']], -0.05)
    """
    cells = collect_cells(before, after, dimensions=dimensions, numerator=numerator, denominator=denominator)
    x0, n0, x1, n1 = cells.counts.sum(axis=0).tolist()
    now, earlier = (estimate_rate(name, x, n, minimum=minimum) for x, n in ((x1, n1), (x0, n0)))
    overall = compare_estimates(now, earlier)
    values = pd.concat([split_by_value(cells, d) for d in range(len(cells.dimensions))], ignore_index=True)
    splits = values.groupby("dimension", sort=False)[["rate_effect_rate", "mix_effect_rate"]].sum(min_count=1)
    splits = splits.reindex(cells.dimensions).rename_axis("dimension")
    splits["total_rate"] = splits["rate_effect_rate"] + splits["mix_effect_rate"]

    needed = minimum_share * abs(overall.difference or 0.0) if overall.clear else 0.0
    search = _Search(cells, max_dimensions, minimum, level, needed, max_causes)
    segments = search.score([], "rate")
    rates = search.find("rate")
    causes = _join(rates, search.without_excess(rates).find("mix"))
    difference = overall.difference if overall.clear and overall.difference else math.nan
    causes["share_of_change_rate"] = causes["effect_rate"].astype(float) / difference
    unexplained = None
    if overall.difference is not None:
        unexplained = overall.difference - float(causes["effect_rate"].sum())
    tested = int(segments["p_value"].notna().sum())
    return ChangeExplanation(
        name,
        overall,
        splits.reset_index(),
        values,
        segments[SEGMENT_COLUMNS],
        causes[CAUSE_COLUMNS],
        unexplained,
        tested,
        level,
        "" if len(causes) else _explain_silence(overall, tested, minimum),
    )


def _explain_silence(overall: Change, tested: int, minimum: int) -> str:
    for period, estimate in (("after", overall.now), ("before", overall.before)):
        if not estimate.known:
            return f"{estimate.note} in the period {period}"
    if not tested:
        return f"not enough data: no segment and its rest have at least {minimum} users in both periods"
    return f"no localised cause: none of {tested:,} segments moved apart from everybody else by more than chance"


@dataclass(frozen=True)
class _Search:
    """How causes are looked for: see `explain_change`.

    Attributes:
        shown: the cells whose counts are reported.
        needed: the smallest effect on the overall rate.
        levels: the cells that are searched, where they are not those shown.
    """

    shown: Cells
    max_dimensions: int
    minimum: int
    level: float
    needed: float
    max_causes: int
    levels: Cells | None = None

    def without_excess(self, causes: list[dict[str, Any]]) -> _Search:
        """The same search at the rates that the causes' users would have had, had they moved like everybody else."""
        counts = self.shown.counts.copy()
        for cause in causes:
            counts[cause["users"], 2] -= counts[cause["users"], 3] * cause["excess_rate"]
        counts[:, 2] = np.clip(counts[:, 2], 0, counts[:, 3])
        return replace(self, levels=replace(self.shown, counts=counts))

    def find(self, kind: Literal["rate", "mix"]) -> list[dict[str, Any]]:
        """Take the clearest segment, leave its users out, look again; stop when nothing is clear."""
        found: list[dict[str, Any]] = []
        for _ in range(2 * self.max_causes):
            best = self._pick(found, kind) if len(found) < self.max_causes else None
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
        table = score_segments(cells.keep(left), max_dimensions=self.max_dimensions, minimum=self.minimum)
        # Effects are on the rate over everybody, also when some users are left out.
        users = cells.counts[:, [1, 3]]
        before, after = users[left].sum(axis=0) / np.maximum(users.sum(axis=0), 1)
        table["rate_effect_rate"] *= after
        table["mix_effect_rate"] *= (before + after) / 2
        table["p_value"], table["q_value"] = np.exp(table[f"{kind}_log_p"]), table[f"{kind}_q"]
        return table

    def _pick(
        self, found: list[dict[str, Any]], kind: Literal["rate", "mix"], *, items: Items | None = None
    ) -> dict[str, Any] | None:
        table = self.score(found, kind)
        clear = (table["q_value"] <= self.level) & (table[f"{kind}_effect_rate"].abs() >= self.needed)
        if items is not None:
            clear = table["items"].map(lambda i: i == items).astype(bool)
        if not clear.any():
            return None
        best = int(np.nanargmax(table[f"{kind}_evidence"].where(clear)))
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


def _join(rates: list[dict[str, Any]], mixes: list[dict[str, Any]]) -> pd.DataFrame:
    """Causes of both kinds in one table; a segment that is both is one cause."""
    by_items = {c["items"]: c for c in mixes}
    rows = []
    for cause in rates:
        mix = by_items.pop(cause["items"], None)
        if mix:
            cause = {**cause, "kind": "both", "mix_effect_rate": mix["mix_effect_rate"]}
        rows.append(cause | {"effect_rate": cause["rate_effect_rate"] + (mix["mix_effect_rate"] if mix else 0.0)})
    rows += [c | {"effect_rate": c["mix_effect_rate"]} for c in by_items.values()]
    return pd.DataFrame(rows, columns=CAUSE_COLUMNS)


def count_outcomes(rows: ir.Table, *, dimensions: Sequence[str], numerator: str, denominator: str = "") -> pd.DataFrame:
    """Count one period's outcomes by every combination of the dimensions' values, in one pass.

    Args:
        rows: one row a user (session, ...) of the period, with the dimensions and the column `numerator`.
        dimensions: columns that say who.
        numerator: a flag (or count) that is summed.
        denominator: a count that is summed; empty: rows are counted, as `users_count`.

    Returns:
        dimensions, `numerator` and `denominator` (or users_count), one row a combination that occurs.

    Raises:
        InputError: a column that is not there.

    >>> import ibis
    >>> users = ibis.memtable({"platform": ["ios", "ios", None], "returned": [True, False, True]})
    >>> count_outcomes(users, dimensions=["platform"], numerator="returned").values.tolist()
    [['(not given)', 1, 1], ['ios', 1, 2]]
    """
    for column in (*dimensions, numerator, *([denominator] if denominator else [])):
        if column not in rows.columns:
            raise InputError(f"There is no column '{column}' to count by.{suggest_name(column, rows.columns)}")
    named = {d: rows[d].cast("string").fill_null(NOT_GIVEN) for d in dimensions}
    measured = rows[numerator].cast("int64") if rows[numerator].type().is_boolean() else rows[numerator]
    total = rows[denominator].sum().fill_null(0) if denominator else rows.count()
    sums = {numerator: measured.sum().fill_null(0), denominator or "users_count": total}
    counted: pd.DataFrame = rows.group_by(**named).aggregate(**sums).to_pandas()
    return counted.sort_values(list(dimensions), ignore_index=True)


def mark_returned(
    active_days: ir.Table, attributes: ir.Table, period: Period, *, as_of: dt.date, day: int = 1
) -> ir.Table:
    """Mark which new users of a period were active on a day after their first; whose day has not come is left out.

    Args:
        active_days: user_id, day; all days since the beginning.
        attributes: user_id and what is known of users; those without a row keep empty attributes.
        period: first active days that count.
        as_of: the last day that is fully known.
        day: 1 is the day after the first.

    Returns:
        An Ibis table, one row a new user, for `count_outcomes`: user_id, first_day, returned (a flag), the attributes.
    """
    known = active_days.filter(active_days.day <= as_of)
    first = find_first_days(known)
    mature = (first.first_day >= period.start) & (first.first_day < period.end) & (first.first_day <= as_of - day * DAY)
    new = first.filter(mature)
    back = known.inner_join(new, "user_id")
    back = back.filter(back.day.delta(back.first_day, unit="day") == day)
    marked = new.mutate(returned=new.user_id.isin(back.user_id))
    kept = attributes.select("user_id", *[c for c in attributes.columns if c not in marked.columns])
    joined = marked.left_join(kept, "user_id")
    return joined.drop(c for c in joined.columns if c == "user_id_right")

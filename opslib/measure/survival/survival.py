"""Survival: how long users stay, when they leave, after which exits, and which segments stay longer.

Lifetimes are one row a user, or already counted; only counts by tenure leave the engine.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import ibis
import ibis.expr.types as ir
import numpy as np
import pandas as pd

from opslib.errors import InputError
from opslib.language import say
from opslib.measure.activity import sort_segments
from opslib.measure.churn.spells import need_columns
from opslib.measure.estimate import MINIMUM_DENOMINATOR, Estimate, to_plain, to_plain_record
from opslib.measure.survival.curves import (
    LifeCounts,
    compare_pairs,
    compare_survival,
    find_crossing,
    fit_incidence,
    fit_survival,
)
from opslib.measure.survival.hazard import compare_nodes, find_peaks, tabulate_hazard

Unit = Literal["day", "week", "month"]

# The handbook's: 7 days after sign-up and 30 days after payment, with the days around them.
NODES: dict[str, tuple[int, int]] = {"day 7": (6, 8), "day 30": (28, 32)}
LEFT = "left"
RATES = {"survival_rate", "survival_low", "survival_high"}
_NOBODY = LifeCounts(np.zeros(1, dtype=np.int64), {}, np.zeros(1, dtype=np.int64))
METHOD = "Kaplan-Meier; Greenwood, log-log"


@dataclass(frozen=True)
class SurvivalResult:
    """How long users stay.

    Attributes:
        unit: of tenure.
        users_count, left_count: everybody measured, and those who left.
        immature_count: users too young for anything to be known; they are in nothing else.
        excluded_count: rows without a duration, or who left before their tenure began.
        survival: (segment), tenure, at_risk_count, left_count (at that tenure), censored_count, survival_rate (still
            there after it), survival_low, survival_high. The rate is missing from where fewer than `minimum`
            are at risk.
        summary: (segment), users_count, left_count, median_tenure (the first at which half have left; missing where
            they have not), median_low, median_high.
        hazard: (segment), tenure, tenure_last, at_risk_count (users times units), left_count, hazard_rate (per unit, of
            those there), hazard_low, hazard_high.
        nodes: node, tenure_first, tenure_last, at_risk_count, left_count, hazard_rate, expected_rate, hazard_ratio,
            ratio_low, ratio_high, p_value, q_value, clear, note: the moments asked for against the tenures around them.
        peaks: the same columns but node, clear and note: all others at which more leave than around, clearest first.
        incidence: (segment), tenure, exit, left_count, incidence_rate (left by then through this exit), incidence_low,
            incidence_high; all exits and the survivors add up to 1. Empty where lifetimes have no exit.
        comparison: segment, users_count, left_count, expected_count (had all segments left alike);
            empty without segments.
        pairs: segment, other_segment, statistic, p_value, q_value: log-rank of each two segments.
        statistic, degrees_of_freedom, p_value: of the log-rank test over all segments; None where there is none.
        minimum: fewer users at risk have no rate.
        notes: what a reader must know.
    """

    unit: Unit
    users_count: int
    left_count: int
    immature_count: int
    excluded_count: int
    survival: pd.DataFrame
    summary: pd.DataFrame
    hazard: pd.DataFrame
    nodes: pd.DataFrame
    peaks: pd.DataFrame
    incidence: pd.DataFrame
    comparison: pd.DataFrame
    pairs: pd.DataFrame
    statistic: float | None
    degrees_of_freedom: int
    p_value: float | None
    minimum: int
    notes: tuple[str, ...]

    def estimate(self, tenure: int, segment: str = "") -> Estimate:
        """The share of users still there after a tenure.

        Raises:
            KeyError: no user has been watched that long, or there is no such segment.
        """
        rows = self.survival[self.survival["tenure"] == tenure]
        rows = rows[rows["segment"] == segment] if "segment" in rows else rows
        if rows.empty:
            raise KeyError(f"{tenure} {segment}".strip())
        row = rows.to_dict("records")[0]
        name, at_risk = f"survival_{tenure}_{self.unit}s_rate", int(row["at_risk_count"])
        if pd.isna(row["survival_rate"]):
            note = say(
                "not enough data: {users:,} users watched that long, at least {least} needed",
                users=at_risk,
                least=self.minimum,
            )
            return Estimate(name, None, 0, at_risk, None, None, "none", "rate", note=note)
        value, low, high = (float(row[f"survival_{k}"]) for k in ("rate", "low", "high"))
        return Estimate(name, value, value * at_risk, at_risk, low, high, METHOD, "rate")

    def findings(self) -> list[dict[str, Any]]:
        """Medians, nodes, peaks, tests and the curve's milestones as flat records."""
        head: dict[str, Any] = {"unit": self.unit}
        totals = {"users_count": self.users_count, "left_count": self.left_count, "immature_count": self.immature_count}
        records = [{"name": "survival", **head, **totals, "excluded_count": self.excluded_count}]
        frames = {"survival_summary": self.summary, "hazard_node": self.nodes, "hazard_peak": self.peaks}
        frames |= {"log_rank_segment": self.comparison, "log_rank_pair": self.pairs}
        for name, frame in frames.items():
            records += [{"name": name, **head, **to_plain_record(row)} for row in frame.to_dict("records")]
        if self.p_value is not None:
            test = {"statistic": to_plain(self.statistic), "degrees_of_freedom": self.degrees_of_freedom}
            records.append({"name": "log_rank", **head, **test, "p_value": to_plain(self.p_value)})
        shown = self.survival[self.survival["tenure"].isin(_list_milestones(self.unit))]
        return records + [{"name": "survival_rate", **head, **to_plain_record(r)} for r in shown.to_dict("records")]


def measure_survival(
    lifetimes: ir.Table,
    *,
    unit: Unit = "day",
    by: str = "",
    nodes: Mapping[str, tuple[int, int]] | None = None,
    hazard_every: int = 1,
    minimum: int = MINIMUM_DENOMINATOR,
) -> SurvivalResult:
    """Measure how long users stay.

    Args:
        lifetimes: duration_days (duration_weeks, duration_months by `unit`), left, and where there are such columns
            entry_days (tenure when first seen), exit (how they left), and users_count (rows that stand for several
            users). One row a user, as `find_lifetimes` gives it, or any contract with its tenure and whether it ended.
        unit: of the duration; parts of a unit are cut off.
        by: a column of lifetimes to break down by.
        nodes: label -> first and last tenure to compare with those around; by default the handbook's for
            days, else none.
        hazard_every: so many units together in the hazard table, such as 7.
        minimum: fewer users at risk have no rate.

    Returns:
        A `SurvivalResult`.

    Raises:
        InputError: a missing column, or an option that makes no sense.

    Who has not left is censored at the end of the duration: known to be there at that tenure, nothing is known later.
    Who leaves at a tenure was there at it, so on equal tenures leaving comes first.

    Source: Kaplan and Meier (1958); Aalen and Johansen (1978); Mantel (1966). Fitted by lifelines.

    >>> import ibis
    >>> lives = ibis.memtable({"duration_days": [1, 2, 2, 3], "left": [True, True, False, False]})
    >>> result = measure_survival(lives, minimum=1)
    >>> result.survival["survival_rate"].round(6).tolist(), result.summary["median_tenure"].tolist()
    ([1.0, 0.75, 0.5, 0.5], [2.0])
    """
    if hazard_every < 1:
        raise InputError(f"hazard_every is {hazard_every}: at least one {unit} is needed.")
    if unit not in ("day", "week", "month"):
        raise InputError(f"'{unit}' is no unit of tenure: use day, week or month.")
    marks = dict(NODES if nodes is None and unit == "day" else nodes or {})
    for label, (first, last) in marks.items():
        if not 0 <= first <= last:
            raise InputError(
                f"Node '{label}' runs from {first} to {last}: give the first and the last {unit} of tenure."
            )
    counted = _count_lifetimes(lifetimes, unit, by)
    frame, immature, excluded = _set_apart(counted)
    groups = _group(frame, by)
    everybody = _to_counts(frame)
    exits = "exit" in lifetimes.columns
    parts = groups if by else {"": everybody}
    curves = {name: fit_survival(counts) for name, counts in parts.items()}
    summary = pd.DataFrame(
        [_summarise(name, parts[name], curve, minimum) for name, curve in curves.items()],
        columns=["segment", "users_count", "left_count", "median_tenure", "median_low", "median_high"],
    ).astype(dict.fromkeys(["median_tenure", "median_low", "median_high"], "float64"))
    comparison, statistic, freedom = compare_survival(groups) if by else (compare_survival({})[0], None, 0)
    p = None
    if statistic is not None:
        from scipy.special import chdtrc

        p = float(chdtrc(freedom, statistic))
    survival = _stack({name: _hide(c, minimum) for name, c in curves.items()}, by, fit_survival(_NOBODY))
    hazard = {name: tabulate_hazard(c, every=hazard_every, minimum=minimum) for name, c in parts.items()}
    incidence = {
        name: fit_incidence(c if exits else LifeCounts(c.entered, {}, c.censored)) for name, c in parts.items()
    }
    users, left = int(everybody.entered.sum()), int(everybody.gone.sum())
    return SurvivalResult(
        unit,
        users,
        left,
        immature,
        excluded,
        survival,
        summary if by else summary.drop(columns="segment"),
        _stack(hazard, by, tabulate_hazard(_NOBODY)),
        compare_nodes(everybody, marks),
        find_peaks(everybody),
        _stack(incidence, by, fit_incidence(_NOBODY)),
        comparison,
        compare_pairs(groups),
        statistic,
        freedom,
        p,
        minimum,
        _write_notes(users, left, immature, excluded, everybody, groups, minimum),
    )


def _count_lifetimes(lifetimes: ir.Table, unit: Unit, by: str) -> pd.DataFrame:
    """Users by entry, duration, exit and segment."""
    name = f"duration_{unit}s"
    need_columns(lifetimes, [name, "left", *([by] if by else [])], what="The table of lifetimes")
    entry = f"entry_{unit}s"
    left = lifetimes["left"].cast("boolean").fill_null(False)
    columns: dict[str, Any] = {
        "entry": lifetimes[entry].floor().cast("int64") if entry in lifetimes.columns else ibis.literal(0, "int64"),
        "duration": lifetimes[name].floor().cast("int64"),
        "left": left,
    }
    columns["exit"] = lifetimes["exit"].cast("string").fill_null(LEFT) if "exit" in lifetimes.columns else LEFT
    # Only of those who left does the exit say anything.
    columns["exit"] = ibis.ifelse(left, columns["exit"], "")
    if by:
        columns["segment"] = lifetimes[by].cast("string").fill_null("(not given)")
    weighted = "users_count" in lifetimes.columns
    rows = lifetimes.select(**columns, users=lifetimes["users_count"] if weighted else ibis.literal(1, "int64"))
    return rows.group_by(*columns).aggregate(users=rows.users.sum()).to_pandas()


def _set_apart(counted: pd.DataFrame) -> tuple[pd.DataFrame, int, int]:
    """Lifetimes that count, and how many users are too young or impossible."""
    duration, entry = (counted[c].astype("Float64") for c in ("duration", "entry"))
    known = duration.notna() & entry.notna()
    before = known & (duration < entry).fillna(False)
    left = counted["left"].astype(bool)
    immature = int(counted.loc[before & ~left, "users"].sum())
    excluded = int(counted.loc[~known | (before & left), "users"].sum())
    kept = counted[known & ~before & (counted["users"] > 0)].reset_index(drop=True)
    return kept.astype({"duration": "int64", "entry": "int64", "users": "int64"}), immature, excluded


def _group(frame: pd.DataFrame, by: str) -> dict[str, LifeCounts]:
    """Counts by segment, most users first."""
    if not by:
        return {}
    ranked = sort_segments(frame.groupby("segment", as_index=False).agg(users=("users", "sum")), "users")
    exits = _list_exits(frame)
    return {str(s): _to_counts(frame[frame["segment"] == s], exits) for s in ranked["segment"]}


def _list_exits(frame: pd.DataFrame) -> list[str]:
    return sorted(str(e) for e in frame.loc[frame["left"].astype(bool), "exit"].unique())


def _to_counts(frame: pd.DataFrame, exits: list[str] | None = None) -> LifeCounts:
    length = int(frame["duration"].max()) + 1 if len(frame) else 1
    users = frame["users"].to_numpy(dtype=np.int64)
    left = frame["left"].to_numpy(dtype=bool)

    def place(where: np.ndarray, column: str) -> np.ndarray:
        found = np.zeros(length, dtype=np.int64)
        np.add.at(found, frame[column].to_numpy(dtype=int)[where], users[where])
        return found

    exit_of = frame["exit"].astype(str).to_numpy()
    names = _list_exits(frame) if exits is None else exits
    return LifeCounts(
        place(np.ones(len(frame), dtype=bool), "entry"),
        {name: place(left & (exit_of == name), "duration") for name in names},
        place(~left, "duration"),
    )


def _summarise(name: str, counts: LifeCounts, curve: pd.DataFrame, minimum: int) -> tuple[Any, ...]:
    shown = _hide(curve, minimum)
    tenure = shown["tenure"].to_numpy(dtype=int)
    crossings = [find_crossing(tenure, shown[f"survival_{k}"].to_numpy(dtype=float)) for k in ("rate", "low", "high")]
    return (name, int(counts.entered.sum()), int(counts.gone.sum()), *crossings)


def _hide(curve: pd.DataFrame, minimum: int) -> pd.DataFrame:
    """The curve without rates from the first tenure on with too few at risk; before everybody has entered, too."""
    few = (curve["at_risk_count"] < minimum).to_numpy(dtype=bool)
    if not len(few) or not few.any():
        return curve
    return curve.assign(**{c: curve[c].where(~np.logical_or.accumulate(few)) for c in RATES})


def _stack(frames: Mapping[str, pd.DataFrame], by: str, empty: pd.DataFrame) -> pd.DataFrame:
    """One frame with the segment first; `empty` where there are no segments."""
    if not by:
        return frames[""]
    parts = [frame.assign(segment=name) for name, frame in frames.items()] or [empty.iloc[:0].assign(segment="")]
    together = pd.concat(parts, ignore_index=True)
    return together[["segment", *empty.columns]]


def _list_milestones(unit: Unit) -> tuple[int, ...]:
    return {"day": (1, 7, 30, 90, 180, 365), "week": (1, 4, 13, 26, 52), "month": (1, 3, 6, 12, 24, 36, 48, 60)}[unit]


def _write_notes(
    users: int,
    left: int,
    immature: int,
    excluded: int,
    everybody: LifeCounts,
    groups: Mapping[str, LifeCounts],
    minimum: int,
) -> tuple[str, ...]:
    notes = []
    if users < minimum:
        notes.append(say("Not enough data: {users:,} users, at least {least} needed.", users=users, least=minimum))
    if users and not left:
        notes.append(say("Nobody left: there is no moment of leaving to look at."))
    if users and left == users:
        notes.append(say("Everybody left."))
    if immature:
        notes.append(
            say(
                "{users:,} users are too young for it to be known whether they stayed; they are not counted.",
                users=immature,
            )
        )
    if excluded:
        notes.append(
            say(
                "{users:,} users have no usable duration, or left before their tenure began; they are not counted.",
                users=excluded,
            )
        )
    late = int(everybody.entered[1:].sum())
    if late:
        notes.append(
            say("{users:,} users were first seen after their tenure began, and are counted from then on.", users=late)
        )
    small = [name for name, counts in groups.items() if int(counts.entered.sum()) < minimum]
    if small:
        notes.append(say("Too few users for a curve: {segments}.", segments=say(", ").join(small)))
    return tuple(notes)

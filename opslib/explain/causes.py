"""Causes: what leavers had behind them that stayers like them had not, and how many of them it may have cost.

What is found is association, unless chance itself dealt the reason out: see `opslib.explain.causes_expiry`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

import ibis
import ibis.expr.types as ir
import numpy as np
import pandas as pd

from opslib.data.periods import Calendar
from opslib.errors import InputError
from opslib.explain.causes_cases import COUNT_COLUMNS, Cases, choose_cases
from opslib.explain.causes_catalogue import ReasonSettings, make_reasons
from opslib.explain.causes_compare import (
    JointModel,
    Ratio,
    ReasonCounts,
    compare_counts,
    estimate_attributable,
    fit_jointly,
    group_alike,
    spread,
)
from opslib.explain.causes_expiry import ExpiryResult, check_expiry
from opslib.explain.causes_reasons import Occurrence, Reason, flag_reasons
from opslib.explain.causes_result import COLUMNS, STATUSES, CausesResult
from opslib.explain.statistics import log_p_value
from opslib.language import say
from opslib.measure.churn.spells import need_columns
from opslib.measure.estimate import (
    MINIMUM_DENOMINATOR,
    Estimate,
    adjust_p_values,
    estimate_rate,
)

__all__ = [
    "Cases",
    "CausesResult",
    "ExpiryResult",
    "Occurrence",
    "Reason",
    "ReasonSettings",
    "check_expiry",
    "choose_cases",
    "compare_reasons",
    "find_causes",
    "make_reasons",
]

LEVEL = 0.05
# What lies below this, with its interval, is too small to act on and may be a remainder of what is not matched.
LEAST_RATIO = 1.1
ALIKE = 0.6
MOST_JOINT = 12


def find_causes(
    cases: Cases,
    tables: Mapping[str, ir.Table],
    *,
    calendar: Calendar,
    reasons: Sequence[Reason] | None = None,
    experiments: Mapping[str, ExpiryResult] | None = None,
    ratio: Ratio = "odds",
    level: float = LEVEL,
    least_ratio: float = LEAST_RATIO,
    minimum: int = MINIMUM_DENOMINATOR,
) -> CausesResult:
    """Find what leavers had behind them that stayers like them had not.

    Args:
        cases: leavers and stayers with their index days, from `choose_cases` or of somebody's own.
        tables: contract tables by name, as far as there are any.
        calendar: the company's clock.
        reasons: what to look for; by default `make_reasons(tables)`.
        experiments: reason -> the natural experiment that tells whether it is a cause, such as coupon_expired_unused ->
            `check_expiry(...)`; its evidence becomes the reason's.
        ratio: what the attributable share is made from, see `CausesResult`.
        level: share of false ones among the named reasons that is put up with.
        least_ratio: a reason is named when its odds ratio lies above this beyond doubt, at equal strata and beside the
            other reasons.
        minimum: a reason needs so many leavers and stayers with it, and so many without.

    Returns:
        A `CausesResult`.

    Raises:
        InputError: a reason that looks beyond the index day, or names a table or column that is not there.

    Method: Mantel-Haenszel ratios and Cochran's test over the strata, which allow for any way in which month, tenure
    and activity work together; then the reasons that are clear alone in one logistic regression. Named is what is
    clear in both. What is not in the data (a rival's offer, a change of job) is not allowed for.

    >>> table = pd.DataFrame({"user_id": range(400), "index_day": pd.Timestamp("2026-01-31").date()})
    >>> table["left"] = table["user_id"] % 4 < 1
    >>> users = [*range(0, 240, 4), *range(1, 400, 5)]
    >>> tickets = pd.DataFrame({"user_id": users, "opened_at": pd.Timestamp("2026-01-30")})
    >>> cases = Cases.of_table(ibis.memtable(table))
    >>> result = find_causes(cases, {"tickets": ibis.memtable(tickets)}, calendar=Calendar())
    >>> result.named[["reason", "leavers_rate", "stayers_rate"]].round(2).to_numpy().tolist()
    [['ticket_opened', 0.68, 0.2]]
    """
    chosen = make_reasons(tables) if reasons is None else list(reasons)
    _check_names([reason.name for reason in chosen])
    flags = flag_reasons(cases, tables, chosen, calendar=calendar)
    names = {f"r{i}": reason.name for i, reason in enumerate(chosen)}
    result = _compare(flags, names, cases, ratio, level, least_ratio, minimum)
    kinds = {name: experiment.evidence for name, experiment in (experiments or {}).items()}
    evidence = [kinds.get(name, result.evidence) for name in result.reasons["reason"]]
    return replace(result, reasons=result.reasons.assign(evidence=evidence))


def compare_reasons(
    table: ir.Table,
    *,
    left: str,
    reasons: Sequence[str],
    strata: Sequence[str] = (),
    ratio: Ratio = "risk",
    level: float = LEVEL,
    least_ratio: float = LEAST_RATIO,
    minimum: int = MINIMUM_DENOMINATOR,
) -> CausesResult:
    """Compare leavers with stayers on reasons that are columns of a table already.

    Args:
        table: one row a user.
        left: the column that says who left: a flag, or 0 and 1.
        reasons: columns that say whether a reason holds: flags, or 0 and 1; missing: nothing is known.
        strata: columns within whose equal values users are compared.
        ratio, level, least_ratio, minimum: as in `find_causes`.

    Returns:
        A `CausesResult`.

    Raises:
        InputError: a column that is missing or no flag.

    >>> rows = pd.DataFrame({"left": [1, 0] * 50 + [0, 0, 0, 0, 1] * 20, "paperless": [1] * 100 + [0] * 100})
    >>> row = compare_reasons(ibis.memtable(rows), left="left", reasons=["paperless"]).reasons.iloc[0]
    >>> row["status"], float(row["risk_ratio"]), round(float(row["attributable_rate"]), 3)
    ('named', 2.5, 0.429)
    """
    need_columns(table, [left, *reasons, *strata], what="The table")
    _check_names(reasons)
    for column in (left, *reasons):
        if not (table[column].type().is_boolean() or table[column].type().is_integer()):
            raise InputError(f"Column '{column}' is {table[column].type()}: a flag, or 0 and 1, is needed.")
    names = {f"r{i}": name for i, name in enumerate(reasons)}
    flags = table.filter(table[left].notnull()).select(
        *[table[s].name(f"_s{i}") for i, s in enumerate(strata)],
        left=table[left].cast("boolean"),
        **{key: table[name].cast("boolean").cast("int8") for key, name in names.items()},
    )
    cases = Cases(table, tuple(f"_s{i}" for i in range(len(strata))), pd.DataFrame(columns=list(COUNT_COLUMNS)))
    return replace(_compare(flags, names, cases, ratio, level, least_ratio, minimum), strata=tuple(strata))


def _check_names(names: Sequence[str]) -> None:
    twice = sorted({name for name in names if list(names).count(name) > 1})
    if twice:
        raise InputError(f"Two reasons are called '{twice[0]}': give each a name of its own.")


def _compare(
    flags: ir.Table,
    names: Mapping[str, str],
    cases: Cases,
    ratio: Ratio,
    level: float,
    least_ratio: float,
    minimum: int,
) -> CausesResult:
    """Everything after the flags: one query for all reasons alone, two more for those that are clear."""
    flags = flags.cache()
    keys, strata, factors = list(names), cases.strata, (*cases.strata, *cases.factors)
    parts = {f"{key}_with": flags[key].cast("int64").sum().fill_null(0) for key in keys}
    parts |= {f"{key}_known": flags[key].count() for key in keys}
    grid = flags.group_by("left", *strata).aggregate(users=flags.count(), **parts).to_pandas()
    left_count = int(grid.loc[grid["left"].astype(bool), "users"].sum()) if len(grid) else 0
    left = estimate_rate("leavers_rate", left_count, float(grid["users"].sum()), minimum=minimum)
    by_reason = _arrange(grid, keys, strata)
    rows, enough = [], {}
    for key in keys:
        rows.append({"key": key, "reason": names[key], **compare_counts(by_reason[key], ratio=ratio, minimum=minimum)})
        enough[key] = by_reason[key].fewest >= minimum
    frame = pd.DataFrame(rows, columns=["key", *[c for c in COLUMNS if c not in ("status", "evidence")]])
    frame["kind"] = frame["reason"].str.partition(":")[0] if len(frame) else ""
    frame["about"] = frame["reason"].str.partition(":")[2] if len(frame) else ""
    frame["evidence"] = "association"
    known = frame["key"].map(enough).astype(bool)
    measured = [c for c in frame.columns if c.endswith(("ratio", "ratio_low", "ratio_high", "p_value"))]
    measured += [c for c in frame.columns if "attributable" in c]
    frame.loc[~known, measured] = np.nan
    frame["q_value"] = adjust_p_values(frame["p_value"].to_numpy(dtype=float))
    clear = frame[(frame["q_value"] <= level) & (frame["odds_ratio_low"] > 1)]
    clearest = clear.sort_values(["p_value", "key"])["key"].tolist()
    pairs = _correlate(flags, clearest)
    leaders = group_alike(pairs, clearest, correlation=ALIKE)
    joint = [key for key in clearest if leaders[key] == key][:MOST_JOINT]
    model = _fit_model(flags, joint, factors)
    frame["group"] = [names[leaders.get(key, key)] for key in frame["key"]]
    frame = _add_joint(frame, joint, model, by_reason)
    larger = frame[["p_value", "joint_p_value"]].max(axis=1, skipna=True).to_numpy(dtype=float)
    follow = frame["key"].map(lambda key: leaders.get(key, key) != key).to_numpy(dtype=bool)
    frame["q_value"] = adjust_p_values(larger)
    frame["status"] = [
        _judge(row, bool(ok), bool(behind), row["key"] in joint, level, least_ratio)
        for row, ok, behind in zip(frame.to_dict("records"), known, follow, strict=True)
    ]
    together = _estimate_together(flags, frame, joint, model, factors, left)
    rank = frame["status"].map({status: i for i, status in enumerate(STATUSES)})
    share = -frame["joint_attributable_rate"].astype(float)
    sorting = pd.DataFrame({"rank": rank, "share": share, "p": frame["p_value"], "name": frame["reason"]})
    order = sorting.sort_values(["rank", "share", "p", "name"]).index
    frame = frame.loc[order, list(COLUMNS)].reset_index(drop=True)
    pairs = pairs.assign(reason=pairs["reason"].map(names), other=pairs["other"].map(names))
    notes = _note(cases.notes, left, frame, minimum)
    return CausesResult(frame, together, left, pairs, cases.counts, strata, ratio, level, notes)


def _arrange(grid: pd.DataFrame, keys: Sequence[str], strata: tuple[str, ...]) -> dict[str, ReasonCounts]:
    """Counts by stratum of each reason, leavers beside stayers."""
    if strata:
        stratum = grid.groupby(list(strata), sort=False, dropna=False).ngroup().to_numpy()
    else:
        stratum = np.zeros(len(grid), dtype=int)
    size = int(stratum.max()) + 1 if len(grid) else 1
    gone = grid["left"].to_numpy(dtype=bool)

    def place(column: str, rows: Any) -> Any:
        return np.bincount(stratum[rows], weights=grid[column].to_numpy(dtype=float)[rows], minlength=size)

    counts = {}
    for key in keys:
        having, knowing = f"{key}_with", f"{key}_known"
        sides = (place(having, gone), place(knowing, gone), place(having, ~gone), place(knowing, ~gone))
        counts[key] = ReasonCounts(*sides)
    return counts


def _correlate(flags: ir.Table, keys: Sequence[str]) -> pd.DataFrame:
    """How many cases have two reasons at once, for each pair of the clear ones."""
    columns = ["reason", "other", "with_count", "correlation"]
    pairs = list(combinations(keys, 2))
    if not pairs:
        return pd.DataFrame(columns=columns)
    value = {key: flags[key].fill_null(0).cast("int64") for key in keys}
    sums = {f"n_{key}": value[key].sum() for key in keys}
    sums |= {f"b_{i}": (value[a] * value[b]).sum() for i, (a, b) in enumerate(pairs)}
    found = flags.aggregate(users=flags.count(), **sums).to_pandas().iloc[0].astype(float)
    rows = []
    for i, (a, b) in enumerate(pairs):
        n, x, y, both = found["users"], found[f"n_{a}"], found[f"n_{b}"], found[f"b_{i}"]
        spread_of = np.sqrt(x * (n - x) * y * (n - y))
        rows.append((a, b, int(both), float((n * both - x * y) / spread_of) if spread_of > 0 else 0.0))
    return pd.DataFrame(rows, columns=columns)


def _fit_model(flags: ir.Table, keys: Sequence[str], strata: tuple[str, ...]) -> JointModel | None:
    if not keys:
        return None
    # A reason that says nothing of a user is absent here: the tenure among the strata takes up most of the difference.
    known = flags.select("left", *strata, **{key: flags[key].fill_null(0) for key in keys})
    patterns = known.group_by(*keys, *strata).aggregate(
        users_count=lambda t: t.count(), left_count=lambda t: t.left.cast("int64").sum()
    )
    return fit_jointly(patterns.to_pandas(), keys, strata)


def _add_joint(
    frame: pd.DataFrame, keys: Sequence[str], model: JointModel | None, counts: Mapping[str, ReasonCounts]
) -> pd.DataFrame:
    """The joint model's ratio, share and p-value of each reason in it."""
    records: dict[str, dict[str, float]] = {}
    for i, key in enumerate(keys):
        assert model is not None
        value, error = float(model.log_odds[i]), float(model.errors[i])
        share = estimate_attributable(counts[key], value, error, ratio="odds")
        records[key] = spread("joint_odds_ratio", value, error) | {
            **{f"joint_attributable_{end}": x for end, x in zip(("rate", "low", "high"), share, strict=True)},
            "joint_p_value": float(np.exp(log_p_value(value / error))) if error > 0 else 1.0,
        }
    columns = [c for c in COLUMNS if c.startswith("joint_")]
    joint = pd.DataFrame(
        [records.get(key, {}) for key in frame["key"]], columns=columns, index=frame.index, dtype=float
    )
    return frame.drop(columns=[c for c in columns if c in frame]).join(joint)


def _judge(row: Mapping[Any, Any], enough: bool, behind: bool, joint: bool, level: float, least_ratio: float) -> str:
    if not enough or not np.isfinite(row["p_value"]):
        return "too few"
    if row["q_value"] <= level and row["odds_ratio_high"] < 1:
        return "goes with staying"
    if behind:
        return "goes with another"
    if joint and row["q_value"] <= level and row["joint_odds_ratio_low"] > least_ratio:
        return "named" if row["odds_ratio_low"] > least_ratio else "not clear"
    return "explained by others" if joint else "not clear"


def _estimate_together(
    flags: ir.Table,
    frame: pd.DataFrame,
    joint: Sequence[str],
    model: JointModel | None,
    strata: tuple[str, ...],
    left: Estimate,
) -> Estimate:
    named = [key for key in joint if (frame.loc[frame["key"] == key, "status"] == "named").any()]
    count = float(left.numerator)
    if not named or model is None:
        note = left.note or say("no reason is named")
        return Estimate("attributable_together_rate", None, 0, count, None, None, "none", "rate", note=note)
    again = model if len(named) == len(joint) else _fit_model(flags, named, strata)
    assert again is not None
    affected = flags.filter(flags.left).aggregate(
        users=ibis.or_(*[flags[key].fill_null(0) > 0 for key in named]).cast("int64").sum()
    )
    method = "logistic regression; Bruzzi"
    value = int(affected.to_pandas().iloc[0, 0])
    return Estimate("attributable_together_rate", again.share, value, count, again.low, again.high, method, "rate")


def _note(notes: tuple[str, ...], left: Estimate, frame: pd.DataFrame, minimum: int) -> tuple[str, ...]:
    found = list(notes)
    if not left.denominator:
        return (*found, say("There is nobody to compare: no user was active long enough in these months."))
    if left.numerator == 0:
        found.append(say("Nobody left, so there is nothing to explain."))
    elif left.numerator == left.denominator:
        found.append(say("Everybody left, so there are no stayers to compare with."))
    elif frame.empty:
        found.append(say("The tables at hand give no reason to look for."))
    elif (frame["status"] == "too few").all():
        found.append(
            say(
                "No reason holds for at least {minimum} leavers and {minimum} stayers: there is not enough data.",
                minimum=minimum,
            )
        )
    elif not (frame["status"] == "named").any():
        found.append(say("No reason is clearly more frequent among leavers than among stayers like them."))
    return tuple(found)

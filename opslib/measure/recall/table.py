"""Treated against held out in tables: one row for everybody and one a segment."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from opslib.language import say
from opslib.measure.estimate import Estimate, adjust_p_values, estimate_rate
from opslib.measure.experiment.comparisons import Rules, compare_variants, estimate_values
from opslib.measure.experiment.metrics import Outcomes
from opslib.measure.experiment.moments import aggregate_outcomes, arrange_groups
from opslib.measure.experiment.readout import ExperimentResult
from opslib.measure.experiment.split import SplitCheck
from opslib.measure.recall.cost import NO_EFFECT, Difference, estimate_unit_cost
from opslib.measure.recall.users import check_segments

BACK = "return_rate"
REVENUE = "revenue_amount"
NOT_TESTED = "not_tested"
ARM_COLUMNS = tuple(f"{arm}_{c}" for arm in ("treated", "holdout") for c in ("count", "back_count", "rate"))
_ENDS = ("low", "high")
COLUMNS = (
    "segment",
    *ARM_COLUMNS,
    "immature_count",
    "delivered_rate",
    *(f"lift_{c}" for c in ("rate", *_ENDS)),
    *(f"relative_{c}" for c in ("rate", *_ENDS)),
    "p_value",
    "q_value",
    "verdict",
    *(f"incremental_{c}" for c in ("count", *_ENDS)),
    *(f"revenue_difference_{c}" for c in ("amount", *_ENDS)),
    "revenue_q_value",
    "cost_amount",
    *(f"cost_per_incremental_{c}" for c in ("amount", *_ENDS)),
    "detectable_difference",
    "note",
)


def tabulate_segments(
    outcomes: Outcomes,
    sums: pd.DataFrame,
    arms: tuple[str, str],
    rules: Rules,
    split: SplitCheck,
    delivered: bool,
    spent: bool,
) -> pd.DataFrame:
    counted = aggregate_outcomes(outcomes, "segment")
    rows = []
    names = sorted(counted["segment"].unique())
    check_segments(names)
    for name in names:
        groups = arrange_groups(counted[counted["segment"] == name], outcomes, arms)
        compared, _ = compare_variants(groups, estimate_values(groups, rules), rules)
        if split.verdict == "mismatch":
            compared = compared.assign(verdict=NOT_TESTED)
        own = sums[sums["segment"] == name].drop(columns="segment").set_index("variant")
        rows.append((name, compared.set_index("metric"), own))
    metrics = list(rows[0][1].index) if rows else []
    for metric in metrics:
        q = adjust_p_values([float(compared["p_value"][metric]) for _, compared, _ in rows])
        for (_, compared, _), value in zip(rows, q, strict=True):
            compared.loc[metric, "q_value"] = value
            if compared.at[metric, "verdict"] in ("gain", "loss") and not value <= rules.level:
                compared.loc[metric, "verdict"] = "unclear"
    frame = [tabulate_row(name, compared, own, arms, delivered, spent, rules.level) for name, compared, own in rows]
    numbers = [c for c in COLUMNS if c not in ("segment", "verdict", "note") and not c.endswith("_count")]
    return pd.DataFrame(frame, columns=list(COLUMNS)).astype(dict.fromkeys(numbers, float))


def tabulate_row(
    name: str,
    compared: pd.DataFrame,
    sums: pd.DataFrame,
    arms: tuple[str, str],
    delivered: bool,
    spent: bool,
    level: float,
) -> dict[str, Any]:
    """One row of `RecallResult.segments` from the comparisons of one group of users."""
    held, given = (sums.reindex([arm]).fillna(0.0).iloc[0] for arm in arms)
    back = compared.loc[BACK]
    row: dict[str, Any] = dict.fromkeys(COLUMNS) | {"segment": name, "note": back["note"], "verdict": back["verdict"]}
    for label, arm, rate in (("treated", given, "variant_value"), ("holdout", held, "control_value")):
        row |= {f"{label}_count": int(arm["known"]), f"{label}_back_count": int(arm["back"])}
        row[f"{label}_rate"] = _plain(back[rate])
    row["immature_count"] = int(float(compared["immature_count"][BACK]))
    if delivered and float(given["users"]):
        row["delivered_rate"] = float(given["delivered"] / given["users"])
    row["cost_amount"] = float(given["cost"]) if spent else None
    if row["verdict"] == NOT_TESTED:
        return row
    users = row["treated_count"]
    for end, of, relative in (
        ("", "difference", "relative"),
        ("_low", "difference_low", "relative_low"),
        ("_high", "difference_high", "relative_high"),
    ):
        lift = _plain(back[of])
        row[f"lift{end or '_rate'}"], row[f"relative{end or '_rate'}"] = lift, _plain(back[relative])
        row[f"incremental{end or '_count'}"] = None if lift is None else lift * users
        if REVENUE in compared.index:
            row[f"revenue_difference{end or '_amount'}"] = _plain(compared.at[REVENUE, of])
    row |= {c: _plain(back[c]) for c in ("p_value", "q_value", "detectable_difference")}
    if REVENUE in compared.index:
        row["revenue_q_value"] = _plain(compared.at[REVENUE, "q_value"])
    if spent and row["lift_rate"] is not None:
        cost = estimate_unit_cost(
            _subtract_costs(held, given), users=users, clear=row["verdict"] == "gain", confidence=1 - level
        )
        row |= dict(zip((f"cost_per_incremental_{c}" for c in ("amount", *_ENDS)), _ends(cost), strict=True))
        row["note"] = row["note"] or cost.note
    return row


def estimate_totals(
    row: Mapping[str, Any], readout: ExperimentResult, sums: pd.DataFrame, arms: tuple[str, str], level: float
) -> dict[str, Estimate]:
    users, confidence = row["treated_count"], 1 - level
    # Without an interval there is a reason.
    note = row["note"] if row["lift_low"] is None else ""
    method = "none" if note else "Newcombe"

    def make(name: str, prefix: str, unit: Any, suffix: str, of: float, how: str = method) -> Estimate:
        value, low, high = (row[f"{prefix}_{end}"] for end in (suffix, *_ENDS))
        top = math.nan if value is None else value * of
        how = how if low is not None else "none"
        return Estimate(name, value, top if value is not None else 0.0, of, low, high, how, unit, confidence, note)

    values = {
        "treated_return_rate": readout.values[BACK, arms[1]].rename("treated_return_rate"),
        "holdout_return_rate": readout.values[BACK, arms[0]].rename("holdout_return_rate"),
        "lift_rate": make("lift_rate", "lift", "rate", "rate", users),
        "relative_lift_rate": make(
            "relative_lift_rate", "relative", "ratio", "rate", row["holdout_rate"] or 0.0, "log ratio"
        ),
        "incremental_users_count": make("incremental_users_count", "incremental", "users", "count", 1),
    }
    if (REVENUE, arms[0]) in readout.values:
        name = "revenue_difference_amount"
        values[name] = make(name, "revenue_difference", "amount", "amount", users, "Welch")
    if row["cost_amount"] is not None:
        name = "cost_per_incremental_amount"
        if row["lift_rate"] is None:
            values[name] = Estimate(
                name, None, row["cost_amount"], 0, None, None, "none", "amount", confidence, note or say(NO_EFFECT)
            )
        else:
            held, given = (sums.reindex([arm]).fillna(0.0).iloc[0] for arm in arms)
            clear = row["verdict"] == "gain"
            values[name] = estimate_unit_cost(
                _subtract_costs(held, given), users=users, clear=clear, confidence=confidence
            )
    if row["delivered_rate"] is not None:
        arrived, users = (int(sums[c].to_dict()[arms[1]]) for c in ("delivered", "users"))
        values["delivered_rate"] = estimate_rate("delivered_rate", arrived, users, confidence=confidence)
    return values


def _subtract_costs(held: pd.Series, given: pd.Series) -> Difference:
    parts = []
    for arm in (given, held):
        n = float(arm["known"])
        cost, back = arm["cost"] / n, arm["back"] / n
        parts.append(
            (
                cost,
                back,
                max(arm["cost2"] / n - cost**2, 0.0) / max(n - 1, 1),
                back * (1 - back) / n,
                (arm["product"] / n - cost * back) / max(n - 1, 1),
            )
        )
    one, other = parts
    return Difference(one[0] - other[0], one[1] - other[1], *(a + b for a, b in zip(one[2:], other[2:], strict=True)))


def _ends(estimate: Estimate) -> tuple[float | None, float | None, float | None]:
    return estimate.value, estimate.low, estimate.high


def _plain(value: Any) -> float | None:
    return None if value is None or value != value else float(value)

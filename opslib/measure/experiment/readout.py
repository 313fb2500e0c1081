"""What the read-out of an experiment holds, and how aggregates become one."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from opslib.language import say
from opslib.measure.estimate import Estimate, to_plain_record
from opslib.measure.experiment.comparisons import (
    COMPARISON_COLUMNS,
    SEQUENCE_COLUMNS,
    Rules,
    compare_variants,
    estimate_values,
)
from opslib.measure.experiment.decision import DECISION_COLUMNS, Decision, State, decide, pick_decision
from opslib.measure.experiment.moments import Groups
from opslib.measure.experiment.split import SplitCheck


@dataclass(frozen=True)
class ExperimentResult:
    """The read-out of an experiment.

    Attributes:
        experiment, control, as_of: what was asked; `as_of` is None for a table of users.
        split: users by variant against the plan; after a mismatch nothing is concluded.
        values: (metric, variant) -> estimate among users whose window is over, as they are (not adjusted).
        comparisons: one row a metric and variant: metric, role, variant; control_users_count, users_count (with the
            window over), immature_count (of both, not over); control_value, variant_value; difference (adjusted by
            CUPED where there is what went before) with low and high, relative (to the control) with low and high,
            p_value, for one look; q_value (Benjamini-Hochberg over variants and metrics of a role; by the sequence's
            p-values where `looks` is "always"); always_low, always_high, always_p_value (hold at every look);
            detectable_difference (shown with the given power at this size), variance_kept_rate (share of the variance
            that CUPED leaves); verdict: "gain", "loss", "unclear", for guardrails "holds" (losses beyond the margin are
            left out), "broken" (beyond it), "unclear", or "not_enough_data", "not_tested" after a mismatch; method;
            note.
        sequence: metric, variant, day_at (of exposure), users_count (of both so far), difference, always_low,
            always_high, always_p_value: what every day's look would have shown, users in order of exposure.
        decisions: one row a variant: see `Decision`.
        decision: the experiment's: the best variant's.
        looks: "once" or "always": what the verdicts were made by.
        running: users still come in.
        level: false-discovery rate of the verdicts, and 1 - confidence of the intervals.
        evidence: always "experiment".
    """

    experiment: str
    control: str
    as_of: dt.date | None
    split: SplitCheck
    values: dict[tuple[str, str], Estimate]
    comparisons: pd.DataFrame
    sequence: pd.DataFrame
    decisions: pd.DataFrame
    decision: Decision
    looks: str
    running: bool
    level: float
    evidence: str = "experiment"

    def comparison(self, metric: str, variant: str = "") -> dict[str, Any]:
        """One row of `comparisons` as plain values; the variant may be left out where there is one.

        Raises:
            KeyError: no such metric or variant.
        """
        rows = self.comparisons[self.comparisons["metric"] == metric]
        rows = rows[rows["variant"] == variant] if variant else rows
        if len(rows) != 1:
            raise KeyError(f"{metric} {variant}".strip())
        return to_plain_record(rows.iloc[0].to_dict())

    def findings(self) -> list[dict[str, Any]]:
        """Decision, split, values and comparisons as flat records."""
        context = {"experiment": self.experiment, "evidence": self.evidence}
        head = {"name": "experiment_decision", "control": self.control, "looks": self.looks, "running": self.running}
        records: list[dict[str, Any]] = [{**context, **head, **self.decision.to_record()}]
        records += [
            {**context, "name": "variant_decision", **to_plain_record(row)} for row in self.decisions.to_dict("records")
        ]
        records += [{**context, **record} for record in self.split.findings()]
        for (_, variant), estimate in self.values.items():
            records.append(estimate.to_finding(**context, variant=variant))
        for row in self.comparisons.to_dict("records"):
            records.append({**context, "name": "comparison", **to_plain_record(row)})
        return records


def conclude(
    groups: Groups,
    split: SplitCheck,
    rules: Rules,
    *,
    experiment: str,
    as_of: dt.date | None,
    running: bool,
    planned: int | None,
) -> ExperimentResult:
    """Make the read-out from aggregates: values, comparisons, decisions."""
    values = estimate_values(groups, rules)
    if split.verdict == "mismatch":
        comparisons = _list_untested(groups, values)
        sequence = pd.DataFrame(columns=list(SEQUENCE_COLUMNS))
    else:
        comparisons, sequence = compare_variants(groups, values, rules)
    total = int(groups.users.sum())
    days = groups.days.dropna()
    length = (days[-1] - days[0]).days + 1 if len(days) else None
    state = State(
        split.verdict == "mismatch",
        running,
        planned,
        total,
        total / length if length and running else None,
        len(groups.variants),
        rules.level,
        rules.power,
        rules.always,
    )
    metrics = [part.metric for part in groups.metrics]
    decisions = [decide(comparisons[comparisons["variant"] == v], metrics, v, state) for v in groups.variants[1:]]
    frame = pd.DataFrame([d.to_record() for d in decisions], columns=list(DECISION_COLUMNS))
    return ExperimentResult(
        experiment,
        groups.variants[0],
        as_of,
        split,
        values,
        comparisons,
        sequence,
        frame,
        pick_decision(decisions, comparisons, metrics),
        "always" if rules.always else "once",
        running,
        rules.level,
    )


def _list_untested(groups: Groups, values: Mapping[tuple[str, str], Estimate]) -> pd.DataFrame:
    """The counts of each comparison, and nothing that could be taken for an effect."""
    rows = []
    for part in groups.metrics:
        users = part.moments.count.sum(axis=1).astype(int)
        waiting = part.immature.sum(axis=1)
        for i, variant in enumerate(groups.variants[1:], start=1):
            row: dict[str, Any] = {"metric": part.metric.name, "role": part.metric.role, "variant": variant}
            row |= {"control_users_count": users[0], "users_count": users[i], "immature_count": waiting[0] + waiting[i]}
            row |= {"control_value": values[part.metric.name, groups.variants[0]].value}
            row |= {"variant_value": values[part.metric.name, variant].value}
            note = say("the split is not what was planned")
            rows.append(row | {"verdict": "not_tested", "method": "none", "note": note})
    frame = pd.DataFrame(rows, columns=list(COMPARISON_COLUMNS))
    numbers = list(COMPARISON_COLUMNS[6:-3])
    return frame.assign(**{c: frame[c].astype(float) for c in numbers})

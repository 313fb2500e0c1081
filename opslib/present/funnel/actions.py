"""What to do next after a funnel diagnosis."""

from __future__ import annotations

import pandas as pd

from opslib.decide.funnel.diagnosis import FunnelDiagnosis
from opslib.present.funnel.words import DECISIONS, name_metric
from opslib.present.words import name_segment, suggest_actions


@suggest_actions.register
def _suggest_actions(diagnosis: FunnelDiagnosis) -> list[str]:
    actions = [*_act_on_tracking(diagnosis), *_act_on_culprit(diagnosis), *_act_on_trial(diagnosis)]
    actions += _act_on_plan(diagnosis)
    return actions or ["Nothing moved beyond chance: leave the funnel alone, and look again next week."]


def _act_on_tracking(diagnosis: FunnelDiagnosis) -> list[str]:
    if diagnosis.culprit is None or diagnosis.culprit.explanation is None:
        return []
    problems = diagnosis.culprit.explanation.data_problems
    broken = problems[problems["problem"].isin(["no outcome", "only outcomes", "null burst", "volume gap"])]
    if broken.empty:
        return []
    named = [f"{p['dimension']} {p['value']} ({p['problem']})" for p in broken.head(3).to_dict("records")]
    return [f"First ask whether the tracking broke: {', '.join(named)}."]


def _act_on_culprit(diagnosis: FunnelDiagnosis) -> list[str]:
    culprit = diagnosis.culprit
    if culprit is None or culprit.lost is None or culprit.lost[1] <= 0:
        return []
    before, step = diagnosis.step_names
    who = name_segment(culprit.name)
    if culprit.state == "open":
        return [
            f"Today: try the way from {before} to {step} with {who}, and look at its errors. Until it is mended, take "
            f"{who} back to what worked."
        ]
    if culprit.state == "unknown":
        return [f"Look at {who} from {before} to {step} again in a week: whether it is over is not clear yet."]
    return [
        f"Write down what ended it for {who}, and watch {before} to {step} by these columns, so that the next fall is "
        "seen within days.",
        f"Write to those who were lost there, about {culprit.lost[0]:,.0f} users: "
        f"opslib.list_dropped_users lists those who did not get to {step}.",
    ]


def _act_on_trial(diagnosis: FunnelDiagnosis) -> list[str]:
    if diagnosis.trial is None:
        return []
    result, goal = diagnosis.trial.result, diagnosis.trial.goal
    decision = result.decision
    name = result.experiment.replace("_", " ")
    reason = DECISIONS.get(decision.reason, decision.reason).format(metric=name_metric(decision.metric, goal))
    text = f"Experiment {name}: {reason}."
    if decision.decision == "go_on" and decision.more_users_count:
        text += f" About {decision.more_users_count:,} more users are needed"
        text += f", {decision.more_days:,} days at the rate so far." if decision.more_days else "."
    return [text]


def _act_on_plan(diagnosis: FunnelDiagnosis) -> list[str]:
    plan = diagnosis.plan
    if plan is None:
        return []
    able = plan.sizes.dropna(subset=["arm_users_count", "entry_days"])
    if able.empty:
        return []
    row = able.iloc[0]
    before, step = diagnosis.step_names
    culprit = diagnosis.culprit
    if culprit is not None and culprit.state == "open":
        who, what = f"{name_segment(culprit.name)} who get to {before}", "a repair that closes the whole gap"
    else:
        able = able[able["entry_days"] <= able["entry_days"].min() * 4]
        row = able.iloc[0]
        who, what = f"everybody who gets to {before}", f"a gain of {row['relative_difference']:.0%} at {step}"
    days = "" if pd.isna(row["total_days"]) else f", {row['total_days']:,.0f} days in all"
    return [
        f"Test before you believe: by lot among {who}, {row['control_users_count']:,.0f} with the change and as many "
        f"without show {what} ({100 * row['difference']:+.1f} points){days}."
    ]

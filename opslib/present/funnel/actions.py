"""What to do next after a funnel diagnosis."""

from __future__ import annotations

import pandas as pd

from opslib.decide.funnel.diagnosis import FunnelDiagnosis
from opslib.language import join_sentences, say
from opslib.present.funnel.trial_words import say_decision
from opslib.present.funnel.words import name_problem
from opslib.present.words import name_group, name_segment, suggest_actions


@suggest_actions.register
def _suggest_actions(diagnosis: FunnelDiagnosis) -> list[str]:
    actions = [*_act_on_tracking(diagnosis), *_act_on_culprit(diagnosis), *_act_on_trial(diagnosis)]
    actions += _act_on_plan(diagnosis)
    return actions or [say("Nothing moved beyond chance: leave the funnel alone, and look again next week.")]


def _act_on_tracking(diagnosis: FunnelDiagnosis) -> list[str]:
    if diagnosis.culprit is None or diagnosis.culprit.explanation is None:
        return []
    problems = diagnosis.culprit.explanation.data_problems
    broken = problems[problems["problem"].isin(["no outcome", "only outcomes", "null burst", "volume gap"])]
    if broken.empty:
        return []
    named = [
        say("{users} ({problem})", users=name_group(p["dimension"], p["value"]), problem=name_problem(p))
        for p in broken.head(3).to_dict("records")
    ]
    return [say("First ask whether the tracking broke: {values}.", values=say(", ").join(named))]


def _act_on_culprit(diagnosis: FunnelDiagnosis) -> list[str]:
    culprit = diagnosis.culprit
    if culprit is None or culprit.lost is None or culprit.lost[1] <= 0:
        return []
    before, step = diagnosis.step_names
    way = {"users": name_segment(culprit.name), "before": before, "step": step}
    if culprit.state == "open":
        text = say(
            "Today: try the way from {before} to {step} with {users}, and look at its errors. Until it is mended, take "
            "{users} back to what worked.",
            **way,
        )
        return [text]
    if culprit.state == "unknown":
        return [
            say("Look at {users} from {before} to {step} again in a week: whether it is over is not clear yet.", **way)
        ]
    learnt = say(
        "Write down what ended it for {users}, and watch {before} to {step} by these columns, so that the next fall is "
        "seen within days.",
        **way,
    )
    lost = say(
        "Write to those who were lost there, about {count:,.0f} users: opslib.list_dropped_users lists those who did "
        "not get to {step}.",
        count=culprit.lost[0],
        step=step,
    )
    return [learnt, lost]


def _act_on_trial(diagnosis: FunnelDiagnosis) -> list[str]:
    if diagnosis.trial is None:
        return []
    decision, more = diagnosis.trial.result.decision, ""
    if decision.decision == "go_on" and decision.more_users_count:
        needed = {"count": decision.more_users_count}
        if decision.more_days:
            more = say(
                "About {count:,} more users are needed, {days:,} days at the rate so far.",
                days=decision.more_days,
                **needed,
            )
        else:
            more = say("About {count:,} more users are needed.", **needed)
    return [join_sentences([say_decision(diagnosis.trial), more])]


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
        users = say("{users} who get to {step}", users=name_segment(culprit.name), step=before)
        effect = say("a repair that closes the whole gap")
    else:
        able = able[able["entry_days"] <= able["entry_days"].min() * 4]
        row = able.iloc[0]
        users = say("everybody who gets to {step}", step=before)
        effect = say("a gain of {gain:.0%} at {step}", gain=row["relative_difference"], step=step)
    test = {
        "users": users,
        "effect": effect,
        "count": row["control_users_count"],
        "points": 100 * row["difference"],
    }
    if pd.isna(row["total_days"]):
        text = say(
            "Test before you believe: by lot among {users}, {count:,.0f} with the change and as many without show "
            "{effect} ({points:+.1f} points).",
            **test,
        )
    else:
        text = say(
            "Test before you believe: by lot among {users}, {count:,.0f} with the change and as many without show "
            "{effect} ({points:+.1f} points), {days:,.0f} days in all.",
            days=row["total_days"],
            **test,
        )
    return [text]

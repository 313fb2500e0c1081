"""What to do next after a churn investigation."""

from __future__ import annotations

from opslib.decide.churn.investigation import ChurnInvestigation
from opslib.decide.churn.leaving import list_moments
from opslib.language import join_sentences, mark, say
from opslib.present.churn.words import name_reason
from opslib.present.words import format_number, suggest_actions

# What may be done about a reason, by how its name begins.
REMEDIES = {
    "coupon": mark("remind holders a few days before the end, by lot at first, and look again in a month"),
    "ticket": mark("answer such tickets first, and write to those whose ticket is open"),
    "complaint": mark("answer complaints first, and write to those who complained"),
    "error": mark("mend the error first, then write to those who saw it"),
    "price": mark("try the old price on part of those concerned, by lot"),
    "message": mark("write less often to part of them, by lot"),
    "not_used": mark("show it to part of those who have not used it, by lot"),
    "stopped_using": mark("ask those who stopped what they use instead"),
}

# When to write, before the moment at which most leave.
BEFORE_MOMENT = {
    "day": mark(
        "Write to users on day {day} after the first day, before the days on which most leave; leave a tenth alone by "
        "lot."
    ),
    "month": mark(
        "Write to users on month {day} after the first day, before the months on which most leave; leave a tenth alone "
        "by lot."
    ),
}


@suggest_actions.register
def _suggest_actions(churn: ChurnInvestigation) -> list[str]:
    actions = [*_act_on_rise(churn), *_act_on_reason(churn), *_act_on_moment(churn), *_act_on_plan(churn)]
    return actions or [say("Nothing stands out: keep what is done, and look again next month.")]


def _act_on_rise(churn: ChurnInvestigation) -> list[str]:
    result = churn.leaving.churn
    if result is None or not result.rise.clear:
        return []
    return [say("Churn has risen three months running, beyond chance: name somebody who answers for it this week.")]


def _act_on_reason(churn: ChurnInvestigation) -> list[str]:
    if churn.reasons is None or churn.reasons.causes.named.empty:
        return []
    row = churn.reasons.causes.named.iloc[0]
    reason = str(row["reason"])
    other = mark("try a remedy on part of them, by lot")
    remedy = next((r for start, r in REMEDIES.items() if reason.startswith(start)), other)
    sure = "" if row["evidence"] == "natural_experiment" else say("It may only go with leaving, so test it.")
    said = say("About {reason}: {remedy}.", reason=name_reason(reason), remedy=say(remedy))
    return [join_sentences([said, sure])]


def _act_on_moment(churn: ChurnInvestigation) -> list[str]:
    after_payment = mark(
        "Write to users on day {day} after a payment, before the days on which most leave; leave a tenth alone by lot."
    )
    actions = []
    for result in (churn.leaving.survival, churn.leaving.since_payment):
        if result is None:
            continue
        template = after_payment if result is churn.leaving.since_payment else BEFORE_MOMENT[result.unit]
        for row in list_moments(result).head(1).to_dict("records"):
            actions.append(say(template, day=max(int(row["tenure_first"]) - 1, 0)))
    return actions


def _act_on_plan(churn: ChurnInvestigation) -> list[str]:
    plan = None if churn.recall is None else churn.recall.plan
    if plan is None:
        return []
    treated = int(plan.segments["treated_count"].sum())
    held = int(plan.segments["holdout_count"].sum())
    if not treated:
        return []
    return [
        say(
            "Win back: {treated:,} customers can be written to for {cost}, {held:,} are left alone by lot (seed "
            "{seed}). Write the list out only when it is sent: opslib recall-list.",
            treated=treated,
            cost=format_number(plan.cost_amount, "amount", currency=churn.currency),
            held=held,
            seed=plan.seed,
        )
    ]

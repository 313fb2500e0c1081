"""What to do next after a churn investigation."""

from __future__ import annotations

from opslib.decide.churn.investigation import ChurnInvestigation
from opslib.decide.churn.leaving import list_moments
from opslib.present.churn.words import name_reason
from opslib.present.words import format_number, suggest_actions

# What may be done about a reason, by how its name begins.
REMEDIES = {
    "coupon": "remind holders a few days before the end, by lot at first, and look again in a month",
    "ticket": "answer such tickets first, and write to those whose ticket is open",
    "complaint": "answer complaints first, and write to those who complained",
    "error": "mend the error first, then write to those who saw it",
    "price": "try the old price on part of those concerned, by lot",
    "message": "write less often to part of them, by lot",
    "not_used": "show it to part of those who have not used it, by lot",
    "stopped_using": "ask those who stopped what they use instead",
}


@suggest_actions.register
def _suggest_actions(churn: ChurnInvestigation) -> list[str]:
    actions = [*_act_on_rise(churn), *_act_on_reason(churn), *_act_on_moment(churn), *_act_on_plan(churn)]
    return actions or ["Nothing stands out: keep what is done, and look again next month."]


def _act_on_rise(churn: ChurnInvestigation) -> list[str]:
    result = churn.leaving.churn
    if result is None or not result.rise.clear:
        return []
    return ["Churn has risen three months running, beyond chance: name somebody who answers for it this week."]


def _act_on_reason(churn: ChurnInvestigation) -> list[str]:
    if churn.reasons is None or churn.reasons.causes.named.empty:
        return []
    row = churn.reasons.causes.named.iloc[0]
    reason = str(row["reason"])
    remedy = next(
        (r for start, r in REMEDIES.items() if reason.startswith(start)), "try a remedy on part of them, by lot"
    )
    sure = "" if row["evidence"] == "natural_experiment" else " It may only go with leaving, so test it."
    return [f"About {name_reason(reason)}: {remedy}.{sure}"]


def _act_on_moment(churn: ChurnInvestigation) -> list[str]:
    actions = []
    for result, since in (
        (churn.leaving.survival, "the first day"),
        (churn.leaving.since_payment, "a payment"),
    ):
        for row in [] if result is None else list_moments(result).head(1).to_dict("records"):
            day = max(int(row["tenure_first"]) - 1, 0)
            unit = "" if result is None else result.unit
            actions.append(
                f"Write to users on {unit} {day} after {since}, before the {unit}s on which most leave; leave a tenth "
                "alone by lot."
            )
    return actions


def _act_on_plan(churn: ChurnInvestigation) -> list[str]:
    plan = None if churn.recall is None else churn.recall.plan
    if plan is None:
        return []
    treated = int(plan.segments["treated_count"].sum())
    held = int(plan.segments["holdout_count"].sum())
    if not treated:
        return []
    cost = format_number(plan.cost_amount, "amount", currency=churn.currency)
    return [
        f"Win back: {treated:,} customers can be written to for {cost}, {held:,} are left alone by lot (seed "
        f"{plan.seed}). Write the list out only when it is sent: opslib recall-list."
    ]

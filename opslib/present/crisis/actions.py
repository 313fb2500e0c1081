"""What to do next after voice and crisis."""

from __future__ import annotations

import pandas as pd

from opslib.decide.crisis.investigation import VoiceInvestigation
from opslib.decide.crisis.timeline import LOSS_METRICS
from opslib.present.crisis.words import name_category
from opslib.present.words import format_number, suggest_actions

# The handbook's fast response to a rival's launch (H11).
FAST_RESPONSE = (
    "Today: say in one page what is new, for whom it is better than ours, and what it costs them.",
    "Within two days: ask ten exposed users what they think of it, and see what support hears.",
    "Within a week: decide to match, to differ or to wait, with an owner and the metric that would change that.",
    "Every Monday for a month: look at this comparison again.",
)


@suggest_actions.register
def _suggest_actions(voice: VoiceInvestigation) -> list[str]:
    actions = [*_act_on_queue(voice), *_act_on_plan(voice), *_act_on_cause(voice), *_act_on_market(voice)]
    if not actions and voice.voice.complaints is None:
        return ["Bring in tickets (ticket_id, user_id, opened_at, is_complaint): complaints are the first warning."]
    return actions or ["Nothing to do today: complaints are as expected, and no ticket is late."]


def _act_on_queue(voice: VoiceInvestigation) -> list[str]:
    queue = voice.queue
    if queue is None or not queue.overdue_count:
        return []
    late = queue.categories[queue.categories["overdue_count"] > 0]
    parts = [f"{row.overdue_count:,.0f} about {name_category(str(row.category))}" for row in late.itertuples()]
    return [f"Now: answer the late tickets, in this order: {', '.join(parts)}."]


def _act_on_plan(voice: VoiceInvestigation) -> list[str]:
    plan, incident = voice.plan, voice.incident
    if plan is None or incident is None or not incident.unusual:
        return []
    if plan.steps.empty:
        return ["Write the steps of the crisis plan into the playbook, under [[crisis.steps]]: there are none."]
    if plan.fired_at is None:
        return (
            ["The rule has not fired: keep the crisis plan ready, and look again tomorrow."] if incident.goes_on else []
        )
    actions = []
    for row in plan.steps.to_dict("records"):
        who = f" ({row['owner']})" if row["owner"] else ""
        due = pd.Timestamp(row["due_at"])
        cost = (
            f", for {format_number(row['cost_amount'], 'amount', currency=voice.currency)}"
            if row["cost_amount"]
            else ""
        )
        verb = "was due" if row["overdue"] else "due"
        check = ": check that it was done" if row["overdue"] else ""
        actions.append(f"{row['name']}{who}, {verb} {due.day} {due:%B %Y, %H:%M}{cost}{check}.")
    return actions


def _act_on_cause(voice: VoiceInvestigation) -> list[str]:
    incident, timeline = voice.incident, voice.timeline
    if incident is None or timeline is None:
        return []
    actions = []
    planned = voice.plan is not None and voice.plan.fired_at is not None and not voice.plan.steps.empty
    if incident.unusual and incident.category and not planned:
        about = name_category(incident.category)
        actions.append(
            f"Trace what changed in {about} on {incident.period.start} or the day before, and write it down."
        )
    if timeline.burst:
        actions.append(
            "Rehearse the surge: limit and queue first, then switch off what is not core, before more machines are "
            "bought for a few hours a year."
        )
    for metric in LOSS_METRICS:
        row = timeline.loss(metric)
        if metric == "orders_count" and row is not None and pd.notna(row["before_rate"]) and row["before_rate"] < 0:
            actions.append(
                "Orders were below what was expected a week before this began: look into that apart, with the funnel "
                "diagnosis."
            )
    return actions


def _act_on_market(voice: VoiceInvestigation) -> list[str]:
    effects = voice.market.effects
    worse = effects[
        effects["clear"].astype(bool) & effects["sound"].astype(bool) & (effects["effect"].astype(float) < 0)
    ]
    return [f"After {name}: go through the fast response below." for name in dict.fromkeys(worse["event"])]

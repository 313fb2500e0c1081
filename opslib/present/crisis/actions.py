"""What to do next after voice and crisis."""

from __future__ import annotations

from typing import Any

import pandas as pd

from opslib.decide.crisis.investigation import VoiceInvestigation
from opslib.decide.crisis.plan import name_category
from opslib.decide.crisis.timeline import LOSS_METRICS
from opslib.language import mark, say
from opslib.present.words import format_number, suggest_actions

# The handbook's fast response to a rival's launch (H11).
FAST_RESPONSE = (
    mark("Today: say in one page what is new, for whom it is better than ours, and what it costs them."),
    mark("Within two days: ask ten exposed users what they think of it, and see what support hears."),
    mark("Within a week: decide to match, to differ or to wait, with an owner and the metric that would change that."),
    mark("Every Monday for a month: look at this comparison again."),
)


@suggest_actions.register
def _suggest_actions(voice: VoiceInvestigation) -> list[str]:
    actions = [*_act_on_queue(voice), *_act_on_plan(voice), *_act_on_cause(voice), *_act_on_market(voice)]
    if not actions and voice.voice.complaints is None:
        return [
            say("Bring in tickets (ticket_id, user_id, opened_at, is_complaint): complaints are the first warning.")
        ]
    return actions or [say("Nothing to do today: complaints are as expected, and no ticket is late.")]


def _act_on_queue(voice: VoiceInvestigation) -> list[str]:
    queue = voice.queue
    if queue is None or not queue.overdue_count:
        return []
    late = queue.categories[queue.categories["overdue_count"] > 0]
    parts = [
        say("{count:,.0f} about {category}", count=row.overdue_count, category=name_category(str(row.category)))
        for row in late.itertuples()
    ]
    return [say("Now: answer the late tickets, in this order: {tickets}.", tickets=say(", ").join(parts))]


def _act_on_plan(voice: VoiceInvestigation) -> list[str]:
    plan, incident = voice.plan, voice.incident
    if plan is None or incident is None or not incident.unusual:
        return []
    if plan.steps.empty:
        return [say("Write the steps of the crisis plan into the playbook, under [[crisis.steps]]: there are none.")]
    if plan.fired_at is None:
        text = say("The rule has not fired: keep the crisis plan ready, and look again tomorrow.")
        return [text] if incident.goes_on else []
    return [_say_step(row, voice.currency) for row in plan.steps.to_dict("records")]


def _say_step(row: dict[Any, Any], currency: str) -> str:
    """One step of the plan: who does it until when, and what it costs."""
    name, owner = row["name"], row["owner"]
    step = say("{name} ({owner})", name=say(name), owner=say(owner)) if owner else say(name)
    form = say("%-d %B %Y, %H:%M")
    due = f"{pd.Timestamp(row['due_at']):{form}}"
    if not row["cost_amount"]:
        text = mark("{step}, due {due}.")
        if row["overdue"]:
            text = mark("{step}, was due {due}: check that it was done.")
        return say(text, step=step, due=due)
    text = mark("{step}, due {due}, for {cost}.")
    if row["overdue"]:
        text = mark("{step}, was due {due}, for {cost}: check that it was done.")
    return say(text, step=step, due=due, cost=format_number(row["cost_amount"], "amount", currency=currency))


def _act_on_cause(voice: VoiceInvestigation) -> list[str]:
    incident, timeline = voice.incident, voice.timeline
    if incident is None or timeline is None:
        return []
    actions = []
    planned = voice.plan is not None and voice.plan.fired_at is not None and not voice.plan.steps.empty
    if incident.unusual and incident.category and not planned:
        text = mark("Trace what changed in {category} on {day} or the day before, and write it down.")
        actions.append(say(text, category=name_category(incident.category), day=incident.period.start))
    if timeline.burst:
        actions.append(
            say(
                "Rehearse the surge: limit and queue first, then switch off what is not core, before more machines "
                "are bought for a few hours a year."
            )
        )
    for metric in LOSS_METRICS:
        row = timeline.loss(metric)
        if metric == "orders_count" and row is not None and pd.notna(row["before_rate"]) and row["before_rate"] < 0:
            actions.append(
                say(
                    "Orders were below what was expected a week before this began: look into that apart, with the "
                    "funnel diagnosis."
                )
            )
    return actions


def _act_on_market(voice: VoiceInvestigation) -> list[str]:
    effects = voice.market.effects
    worse = effects[
        effects["clear"].astype(bool) & effects["sound"].astype(bool) & (effects["effect"].astype(float) < 0)
    ]
    text = mark("After {event}: go through the fast response below.")
    return [say(text, event=name) for name in dict.fromkeys(worse["event"])]

"""What to do next after a growth model."""

from __future__ import annotations

from typing import Any

import pandas as pd

from opslib.decide.growth.model import GrowthModel
from opslib.language import mark, say
from opslib.measure.acquisition import BudgetShiftResult
from opslib.measure.estimate import Change, compare_estimates
from opslib.present.growth.names import name_lever
from opslib.present.growth.words import LATER_MONTHS, add_clause, format_counts, rank_levers
from opslib.present.words import format_number, name_segment, suggest_actions

# A channel that brings half of all users, or takes half of the money, is a risk by itself.
LARGE_SHARE = 0.5


@suggest_actions.register
def _suggest_actions(model: GrowthModel) -> list[str]:
    actions = [
        *_act_on_fall(model),
        *_act_on_causes(model),
        *_act_on_shift(model),
        *_act_on_payback(model),
        *_act_on_lever(model),
        *_act_on_behavior(model),
        *_act_on_concentration(model),
    ]
    return actions or [say("Nothing here asks for a decision: keep going, and look again in a week.")]


def _act_on_fall(model: GrowthModel) -> list[str]:
    """Fewer active users: did fewer come, or did fewer stay?"""
    changes = model.changes()
    active = changes.get("dau_count")
    if active is None or not active.clear or active.difference is None or active.difference > 0:
        return []
    earlier = model.acquisition.before.totals["new_users_count"] if model.acquisition.before else None
    text = ""
    if earlier is not None:
        new = compare_estimates(model.acquisition.channels.totals["new_users_count"], earlier)
        text = say("new users went {move}", move=_say_move(new))
    if "d7_rate" in changes and changes["d7_rate"].difference is not None:
        text = add_clause(text, say("their day-7 retention {move}", move=_say_move(changes["d7_rate"])))
    before, now = _format_ends(active)
    return [
        say(
            "Active users a day fell from {before} to {now}: {parts}. Mend first what fell most.",
            before=before, now=now, parts=text,
        )
    ]  # fmt: skip


def _say_move(change: Change) -> str:
    before, now = _format_ends(change)
    if change.clear:
        return say("from {before} to {now}", before=before, now=now)
    return say("from {before} to {now} (within chance)", before=before, now=now)


def _format_ends(change: Change) -> tuple[str, str]:
    before, now = (format_number(e.value, e.unit) for e in (change.before, change.now))
    return before, now


def _act_on_causes(model: GrowthModel) -> list[str]:
    explanation = model.staying.explanation
    if explanation is None:
        change = model.staying.changes().get("d1_rate")
        if change is None or not change.clear or (change.difference or 0) > 0:
            return []
        return [
            say(
                "Next-day retention fell {move}. Add what is known of users to the playbook (channel, platform, "
                "version): then this notebook says whose fall it is.",
                move=_say_move(change),
            )
        ]
    if not explanation.overall.clear or (explanation.overall.difference or 0) > 0:
        return []
    if explanation.causes.empty:
        return [
            say("Next-day retention fell for everybody alike: look for a release, an outage or a change of tracking.")
        ]
    row = explanation.causes.iloc[0]
    return [
        say(
            "Find out what changed for {segment}: next-day retention from {before:.1%} of {before_count:,.0f} to "
            "{after:.1%} of {after_count:,.0f} new users.",
            segment=name_segment(row["segment"]), before=row["before_rate"], before_count=row["before_count"],
            after=row["after_rate"], after_count=row["after_count"],
        )
    ]  # fmt: skip


def _act_on_shift(model: GrowthModel) -> list[str]:
    shift = model.acquisition.shift
    if shift is None:
        return []
    rows = {row["channel"]: row for row in shift.by_channel.to_dict("records")}
    actions = [_act_on_channel(model, shift, rows[channel]) for channel in shift.moved[:3]]
    return [action for action in actions if action]


def _act_on_channel(model: GrowthModel, shift: BudgetShiftResult, row: dict[Any, Any]) -> str:
    money = format_number(abs(row["extra_spend_amount"]), "amount", currency=model.currency)
    values = {"money": money, "days": shift.now.days, "channel": row["channel"]}
    if row["verdict"] in ("more_users_not_retained", "no_clear_gain"):
        values |= {"day": shift.retained_day, "share": row["before_retained_rate"]}
        floor = row["cost_per_extra_retained_low"]
        if pd.isna(floor):
            return say(
                "Take back the {money} more in {days} days for {channel}, or change whom it buys, until the share back "
                "on day {day} returns to {share:.0%}.",
                **values,
            )
        return say(
            "Take back the {money} more in {days} days for {channel}, or change whom it buys, until the share back on "
            "day {day} returns to {share:.0%} (one more user who stays costs at least {cost}).",
            cost=format_number(float(floor), "amount", currency=model.currency), **values,
        )  # fmt: skip
    if row["verdict"] == "fewer_retained":
        return say(
            "Put the {money} that was cut in {days} days back into {channel}: users who stay were lost.", **values
        )
    if row["verdict"] == "more_retained":
        return say("Go on raising {channel} in steps, and read the next step here before the one after.", **values)
    return ""


def _act_on_payback(model: GrowthModel) -> list[str]:
    payback = model.acquisition.payback
    if payback is None:
        return []
    late = payback.by_group[payback.by_group["status"] == "not_paid_back"].head(3)
    actions = []
    for row in late.to_dict("records"):
        ages = [(age, r) for age, r in payback.ratios.get(row["group"], {}).items() if r.known]
        if not ages:
            continue
        age, ratio = ages[-1]
        actions.append(
            say(
                "Lower what {channel} costs: a user costs {cost} and has brought back {share:.0%} of it after {days} "
                "days.",
                channel=row["group"], cost=format_number(row["cac_amount"], "amount", currency=model.currency),
                share=ratio.value, days=age,
            )
        )  # fmt: skip
    return actions


def _act_on_lever(model: GrowthModel) -> list[str]:
    ranked = rank_levers(model)
    if ranked.empty:
        return []
    row = ranked.iloc[0]
    return [
        say(
            "Plan for {lever}: worth {difference:,.0f} users a day after {months} months {interval}. Name an owner, "
            "and test what is to move it on part of the users first.",
            lever=name_lever(model, row["lever"]), difference=row["difference"], months=LATER_MONTHS,
            interval=format_counts(row["difference_low"], row["difference_high"]),
        )
    ]  # fmt: skip


def _act_on_behavior(model: GrowthModel) -> list[str]:
    activation = model.staying.activation
    proposal = activation.proposal if activation is not None else None
    if proposal is None:
        return []
    return [
        say(
            "Test whether '{behavior}' makes users stay, which so far only goes with it: {users:,.0f} new users in "
            "each of two groups, about {days:,.0f} days, to see a difference of {points:.1f} points.",
            behavior=proposal["behavior"], users=proposal["arm_users_count"], days=proposal["experiment_days"],
            points=100 * proposal["experiment_difference_rate"],
        )
    ]  # fmt: skip


def _act_on_concentration(model: GrowthModel) -> list[str]:
    for kind, words in (
        ("spend", mark("Do not depend on one channel: {share:.0%} of the money goes to {channel}.")),
        ("new_users", mark("Do not depend on one channel: {share:.0%} of new users come from {channel}.")),
    ):
        found = model.acquisition.channels.concentration.get(kind)
        if found is None or found.largest is None or not found.largest_rate.known:
            continue
        share = found.largest_rate.value or 0.0
        if LARGE_SHARE <= share < 1:
            return [say(words, share=share, channel=found.largest)]
    return []

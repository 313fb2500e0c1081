"""What to do next after a growth model."""

from __future__ import annotations

import pandas as pd

from opslib.decide.growth.model import GrowthModel
from opslib.measure.estimate import Change, compare_estimates
from opslib.present.growth.words import LATER_MONTHS, name_lever, rank_levers
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
    return actions or ["Nothing here asks for a decision: keep going, and look again in a week."]


def _act_on_fall(model: GrowthModel) -> list[str]:
    """Fewer active users: did fewer come, or did fewer stay?"""
    changes = model.changes()
    active = changes.get("dau_count")
    if active is None or not active.clear or active.difference is None or active.difference > 0:
        return []
    earlier = model.acquisition.before.totals["new_users_count"] if model.acquisition.before else None
    parts = []
    if earlier is not None:
        new = compare_estimates(model.acquisition.channels.totals["new_users_count"], earlier)
        parts.append(f"new users went {_say_move(new)}")
    if "d7_rate" in changes and changes["d7_rate"].difference is not None:
        parts.append(f"their day-7 retention {_say_move(changes['d7_rate'])}")
    return [f"Active users a day fell {_say_move(active)}: {', '.join(parts)}. Mend first what fell most."]


def _say_move(change: Change) -> str:
    before, now = (format_number(e.value, e.unit) for e in (change.before, change.now))
    return f"from {before} to {now}{'' if change.clear else ' (within chance)'}"


def _act_on_causes(model: GrowthModel) -> list[str]:
    explanation = model.staying.explanation
    if explanation is None:
        change = model.staying.changes().get("d1_rate")
        if change is None or not change.clear or (change.difference or 0) > 0:
            return []
        return [
            f"Next-day retention fell {_say_move(change)}. Add what is known of users to the playbook (channel, "
            "platform, version): then this notebook says whose fall it is."
        ]
    if not explanation.overall.clear or (explanation.overall.difference or 0) > 0:
        return []
    if explanation.causes.empty:
        return ["Next-day retention fell for everybody alike: look for a release, an outage or a change of tracking."]
    row = explanation.causes.iloc[0]
    return [
        f"Find out what changed for {name_segment(row['segment'])}: next-day retention from {row['before_rate']:.1%} "
        f"of {row['before_count']:,.0f} to {row['after_rate']:.1%} of {row['after_count']:,.0f} new users."
    ]


def _act_on_shift(model: GrowthModel) -> list[str]:
    shift = model.acquisition.shift
    if shift is None:
        return []
    actions = []
    rows = {row["channel"]: row for row in shift.by_channel.to_dict("records")}
    for channel in shift.moved[:3]:
        row = rows[channel]
        money = format_number(abs(row["extra_spend_amount"]), "amount", currency=model.currency)
        days = shift.now.days
        if row["verdict"] in ("more_users_not_retained", "no_clear_gain"):
            floor = row["cost_per_extra_retained_low"]
            least = ""
            if pd.notna(floor):
                cost = format_number(float(floor), "amount", currency=model.currency)
                least = f" (one more user who stays costs at least {cost})"
            actions.append(
                f"Take back the {money} more in {days} days for {channel}, or change whom it buys, until the share "
                f"back on day {shift.retained_day} returns to {row['before_retained_rate']:.0%}{least}."
            )
        elif row["verdict"] == "fewer_retained":
            actions.append(
                f"Put the {money} that was cut in {days} days back into {channel}: users who stay were lost."
            )
        elif row["verdict"] == "more_retained":
            actions.append(f"Go on raising {channel} in steps, and read the next step here before the one after.")
    return actions


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
            f"Lower what {row['group']} costs: a user costs "
            f"{format_number(row['cac_amount'], 'amount', currency=model.currency)} and has brought back "
            f"{ratio.value:.0%} of it after {age} days."
        )
    return actions


def _act_on_lever(model: GrowthModel) -> list[str]:
    ranked = rank_levers(model)
    if ranked.empty:
        return []
    row = ranked.iloc[0]
    return [
        f"Plan for {name_lever(model, row['lever'])}: worth {row['difference']:,.0f} users a day after {LATER_MONTHS} "
        f"months [{row['difference_low']:,.0f} to {row['difference_high']:,.0f}]. Name an owner, and test what "
        "is to move it on part of the users first."
    ]


def _act_on_behavior(model: GrowthModel) -> list[str]:
    activation = model.staying.activation
    proposal = activation.proposal if activation is not None else None
    if proposal is None:
        return []
    return [
        f"Test whether '{proposal['behavior']}' makes users stay, which so far only goes with it: "
        f"{proposal['arm_users_count']:,.0f} new users in each of two groups, about "
        f"{proposal['experiment_days']:,.0f} days, to see a difference of "
        f"{100 * proposal['experiment_difference_rate']:.1f} points."
    ]


def _act_on_concentration(model: GrowthModel) -> list[str]:
    for kind, words in (("spend", "of the money goes to"), ("new_users", "of new users come from")):
        found = model.acquisition.channels.concentration.get(kind)
        if found is None or found.largest is None or not found.largest_rate.known:
            continue
        share = found.largest_rate.value or 0.0
        if LARGE_SHARE <= share < 1:
            return [f"Do not depend on one channel: {share:.0%} {words} {found.largest}."]
    return []

"""What to do after a quarterly review, and what to know before relying on it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from opslib.decide.review.review import QuarterlyReview
from opslib.measure.estimate import Change
from opslib.present.display import ListView
from opslib.present.review.words import LEVER_NAMES, format_signed, say_missed
from opslib.present.rules import name_rule
from opslib.present.words import format_number, label_metric, list_limits, suggest_actions, write_sentence

RATE_NAMES = {
    "nurr_rate": "new users who come again the next day",
    "curr_rate": "current users who come again the next day",
    "rurr_rate": "users back after a week or more who come again the next day",
    "surr_rate": "users back after a month or more who come again the next day",
    "iwaurr_rate": "users away for less than a week who come back on a day",
    "reactivation_rate": "users away for 7 to 29 days who come back on a day",
    "resurrection_rate": "users away for 30 days or more who come back on a day",
}


@list_limits.register
def _list_limits(review: QuarterlyReview) -> list[str]:
    immature = review.now.retention.immature
    waiting = ", ".join(f"{count:,} for day {n}" for n, count in immature.items() if count)
    limits = list(review.notes)
    if waiting:
        limits.append(f"New users whose day has not come yet are in no retention rate: {waiting}.")
    limits += [_say_missing(section, need) for section, need in review.missing.items()]
    limits += _limit_bridge(review) + _limit_outlook(review)
    return limits or ["The data cover both quarters in full, and every new user's days have come."]


@suggest_actions.register
def _suggest_actions(review: QuarterlyReview) -> list[str]:
    changes = review.changes()
    actions = []
    if len(review.decisions):
        first = review.decisions.iloc[0]
        count = len(review.decisions)
        lead = "One decision is" if count == 1 else f"{count} decisions are"
        actions.append(f"{lead} due, the first on {first['due']}: {say_decision(review, first.to_dict())}")
    falls = [_say_fall(n, c, review) for n, c in changes.items() if _is_fall(n, c) and not _is_missed(n, review)]
    if falls:
        actions.append(
            f"Worse by more than chance explains: {'; '.join(falls)}. Run this notebook for single segments "
            "(parameter segment) to see whose fall it is."
        )
    worst = _find_worst_channel(review)
    if worst and _is_fall("d7_rate", changes["d7_rate"]):
        actions.append(worst)
    unclear = [label_metric(n) for n, v in review.targets.items() if v.status == "too close to call"]
    if unclear:
        actions.append(f"Do not celebrate or blame yet: {', '.join(unclear)} lie within chance of their targets.")
    lacking = {k: v for k, v in review.missing.items() if k != "Bridge"}
    actions += [f"{section}: add table {table} to the playbook." for section, table in lacking.items()]
    return actions or ["Every target is met and nothing fell by more than chance: keep going."]


def _is_fall(name: str, change: Change) -> bool:
    """A change for the worse by more than chance; costs are the one metric that gets worse by rising."""
    if not change.clear or change.difference is None:
        return False
    return change.difference > 0 if name == "cac_amount" else change.difference < 0


def _is_missed(name: str, review: QuarterlyReview) -> bool:
    return name in review.targets and review.targets[name].status == "missed"


def _say_fall(name: str, change: Change, review: QuarterlyReview) -> str:
    before, now = (format_number(e.value, e.unit, currency=review.currency) for e in (change.before, change.now))
    return f"{label_metric(name)} from {before} to {now}"


def _find_worst_channel(review: QuarterlyReview) -> str | None:
    if review.before is None:
        return None
    both = review.now.acquisition.by_channel.merge(
        review.before.acquisition.by_channel, on="channel", suffixes=("", "_before")
    ).dropna(subset=["d7_rate", "d7_rate_before"])
    if len(both) < 2:
        return None
    both["change"] = both["d7_rate"] - both["d7_rate_before"]
    worst = both.sort_values(["change", "channel"]).iloc[0]
    if worst["change"] >= 0:
        return None
    return (
        f"Look into channel {worst['channel']} first: its day-7 retention moved most, from "
        f"{worst['d7_rate_before']:.1%} of {worst['mature_count_before']:,.0f} new users to {worst['d7_rate']:.1%} of "
        f"{worst['mature_count']:,.0f}. Run this notebook again with segment channel:{worst['channel']}."
    )


def _say_missing(section: str, need: str) -> str:
    if section == "Bridge":
        return f"There is no bridge from the quarter before: {need}."
    return f"{section} is missing: it needs table {need}."


def _limit_bridge(review: QuarterlyReview) -> list[str]:
    if review.bridge is None:
        return []
    return [
        "The bridge is arithmetic: it says how much of the change each lever carries, not what moved the lever. Each "
        "lever's part is its mean over every order in which the levers could have moved."
    ]


def _limit_outlook(review: QuarterlyReview) -> list[str]:
    frame = review.outlook.proposals
    known = frame[frame["method"] != ""] if len(frame) else frame
    if known.empty:
        return ["What comes next quarter cannot be told: there are too few earlier quarters to learn from."]
    few, many = (max(round(x), 1) for x in (known["quarters_count"].min(), known["quarters_count"].max()))
    learned = (
        f"the last {few} to {many} quarters"
        if few < many
        else f"the last {many} quarters"
        if many > 1
        else "one quarter"
    )
    return [
        f"The next quarter is predicted from what {learned} did. A season, a campaign or a break not among them is not "
        "foreseen."
    ]


def say_decision(review: QuarterlyReview, row: Mapping[Any, Any]) -> str:
    """One decision in words."""
    kind, subject = row["kind"], str(row["subject"])
    detail = f" ({row['detail']})" if row["detail"] else ""
    if kind == "target":
        verdict = review.targets.get(subject)
        said = say_missed(verdict, review.currency) if verdict is not None else label_metric(subject)
        return f"{said}: decide what will bring it there{detail}."
    if kind == "budget":
        money = format_number(row["value"], "amount", currency=review.currency)
        return f"{money} more went to {subject} without more users who stay: keep, move or cut it{detail}."
    if kind == "firing":
        steps = f": {row['detail']}" if row["detail"] else ""
        return f"Rule {name_rule(subject)} fired{steps}."
    said = f" is {row['detail']}" if row["detail"] else " is due"
    return f"Initiative {subject}{said}: go on, change or stop it."


def list_core_things(review: QuarterlyReview) -> ListView:
    """The three core things of the week: the playbook's, or what the data suggest; then the rhythm."""
    cadence = review.cadence
    settings = cadence.settings
    suggested = [_say_core(review, row) for row in cadence.proposals.to_dict("records")]
    lines = [write_sentence(f"core thing {i}: {text}") for i, text in enumerate(settings.weekly_core, 1)]
    if not lines and suggested:
        lines = [f"Core thing {i}: {text}" for i, text in enumerate(suggested, 1)]
        lines.insert(0, "The playbook names no core things of the week ([cadence] weekly_core). The data suggest:")
    elif suggested:
        lines.append(f"By these data what presses most: {' '.join(suggested)}")
    if not (cadence.named or suggested):
        lines = ["No target is missed and nothing moved for the worse: choose the week's core things freely."]
    rhythm = [("Every day", settings.daily), ("Every week", settings.weekly), ("Every month", settings.monthly)]
    lines += [f"{when}: {what}." for when, what in rhythm if what]
    return ListView([*lines, *_say_stickiness(review)])


def _say_core(review: QuarterlyReview, row: Mapping[Any, Any]) -> str:
    kind, subject = row["kind"], row["subject"]
    if kind == "target":
        return f"{say_missed(review.targets[subject], review.currency)}."
    if kind == "budget":
        return f"The extra money in channel {subject} brings no more users who stay."
    if kind == "lever":
        money = review.bridge is not None and review.bridge.revenue is not None
        lost = format_signed(row["value"], review.currency) if money else f"{row['value']:+,.0f} active users"
        return write_sentence(f"{LEVER_NAMES[subject]}: {lost} against the quarter before")
    return f"{write_sentence(_name_rate(subject))[:-1]}: a tenth more would bring {row['bound']:,.0f} users a day."


def _name_rate(name: str) -> str:
    return RATE_NAMES.get(name, label_metric(name))


def _say_stickiness(review: QuarterlyReview) -> list[str]:
    cadence = review.cadence
    if not cadence.stickiness.known:
        return []
    text = f"DAU/MAU is {format_number(cadence.stickiness.value, 'rate')}"
    target = review.targets.get("stickiness_rate")
    text += f", the target {format_number(target.target.bound, 'rate')}" if target else ""
    if cadence.rate_effect is not None:
        text += (
            f". What moves daily active users most: {_name_rate(cadence.rate)}, "
            f"{format_number(cadence.rate_value, 'rate')} now; a tenth more of them would bring "
            f"{cadence.rate_effect:,.0f} users a day within four weeks"
        )
    return [f"{text}."]

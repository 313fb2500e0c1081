"""What to do after a quarterly review, and what to know before relying on it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from opslib.decide.review.review import QuarterlyReview
from opslib.language import join_clauses, join_sentences, mark, say
from opslib.measure.estimate import Change
from opslib.present.display import ListView
from opslib.present.review.words import add_note, format_signed, name_lever, say_missed
from opslib.present.rules import name_rule
from opslib.present.words import format_number, label_metric, list_limits, suggest_actions, write_sentence

RATE_NAMES = {
    "nurr_rate": mark("new users who come again the next day"),
    "curr_rate": mark("current users who come again the next day"),
    "rurr_rate": mark("users back after a week or more who come again the next day"),
    "surr_rate": mark("users back after a month or more who come again the next day"),
    "iwaurr_rate": mark("users away for less than a week who come back on a day"),
    "reactivation_rate": mark("users away for 7 to 29 days who come back on a day"),
    "resurrection_rate": mark("users away for 30 days or more who come back on a day"),
}


@list_limits.register
def _list_limits(review: QuarterlyReview) -> list[str]:
    immature = review.now.retention.immature
    waiting = [say("{count:,} for day {day}", count=count, day=n) for n, count in immature.items() if count]
    limits = list(review.notes)
    if waiting:
        told = say(", ").join(waiting)
        limits.append(say("New users whose day has not come yet are in no retention rate: {told}.", told=told))
    limits += [_say_missing(section, need) for section, need in review.missing.items()]
    limits += _limit_bridge(review) + _limit_outlook(review)
    return limits or [say("The data cover both quarters in full, and every new user's days have come.")]


@suggest_actions.register
def _suggest_actions(review: QuarterlyReview) -> list[str]:
    changes = review.changes()
    actions = []
    if len(review.decisions):
        first = review.decisions.iloc[0].to_dict()
        count, decision = len(review.decisions), say_decision(review, first)
        if count == 1:
            lead = say("One decision is due, the first on {day}: {decision}", day=first["due"], decision=decision)
        else:
            lead = say(
                "{count} decisions are due, the first on {day}: {decision}",
                count=count,
                day=first["due"],
                decision=decision,
            )
        actions.append(lead)
    falls = [_say_fall(n, c, review) for n, c in changes.items() if _is_fall(n, c) and not _is_missed(n, review)]
    if falls:
        text = say(
            "Worse by more than chance explains: {falls}. Run this notebook for single segments (parameter segment) to "
            "see whose fall it is.",
            falls=join_clauses(falls),
        )
        actions.append(text)
    worst = _find_worst_channel(review)
    if worst and _is_fall("d7_rate", changes["d7_rate"]):
        actions.append(worst)
    unclear = [label_metric(n) for n, v in review.targets.items() if v.status == "too close to call"]
    if unclear:
        metrics = say(", ").join(unclear)
        text = say("Do not celebrate or blame yet: {metrics} lie within chance of their targets.", metrics=metrics)
        actions.append(text)
    lacking = {k: v for k, v in review.missing.items() if k != "Bridge"}
    actions += [
        say("{section}: add table {table} to the playbook.", section=say(section), table=say(table))
        for section, table in lacking.items()
    ]
    return actions or [say("Every target is met and nothing fell by more than chance: keep going.")]


def _is_fall(name: str, change: Change) -> bool:
    """A change for the worse by more than chance; costs are the one metric that gets worse by rising."""
    if not change.clear or change.difference is None:
        return False
    return change.difference > 0 if name == "cac_amount" else change.difference < 0


def _is_missed(name: str, review: QuarterlyReview) -> bool:
    return name in review.targets and review.targets[name].status == "missed"


def _say_fall(name: str, change: Change, review: QuarterlyReview) -> str:
    before, now = (format_number(e.value, e.unit, currency=review.currency) for e in (change.before, change.now))
    return say("{metric} from {before} to {now}", metric=label_metric(name), before=before, now=now)


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
    return say(
        "Look into channel {channel} first: its day-7 retention moved most, from {rate_before:.1%} of "
        "{count_before:,.0f} new users to {rate_now:.1%} of {count_now:,.0f}. Run this notebook again with segment "
        "channel:{channel}.",
        channel=worst["channel"],
        rate_before=worst["d7_rate_before"],
        count_before=worst["mature_count_before"],
        rate_now=worst["d7_rate"],
        count_now=worst["mature_count"],
    )


def _say_missing(section: str, need: str) -> str:
    if section == "Bridge":
        return say("There is no bridge from the quarter before: {reason}.", reason=say(need))
    return say("{section} is missing: it needs table {table}.", section=say(section), table=say(need))


def _limit_bridge(review: QuarterlyReview) -> list[str]:
    if review.bridge is None:
        return []
    return [
        say(
            "The bridge is arithmetic: it says how much of the change each lever carries, not what moved the lever. "
            "Each lever's part is its mean over every order in which the levers could have moved."
        )
    ]


def _limit_outlook(review: QuarterlyReview) -> list[str]:
    frame = review.outlook.proposals
    known = frame[frame["method"] != ""] if len(frame) else frame
    if known.empty:
        return [say("What comes next quarter cannot be told: there are too few earlier quarters to learn from.")]
    few, many = (max(round(x), 1) for x in (known["quarters_count"].min(), known["quarters_count"].max()))
    if few < many:
        learned = say("the last {few} to {many} quarters", few=few, many=many)
    elif many > 1:
        learned = say("the last {many} quarters", many=many)
    else:
        learned = say("one quarter")
    return [
        say(
            "The next quarter is predicted from what {learned} did. A season, a campaign or a break not among them is "
            "not foreseen.",
            learned=learned,
        )
    ]


def say_decision(review: QuarterlyReview, row: Mapping[Any, Any]) -> str:
    """One decision in words."""
    kind, subject = row["kind"], str(row["subject"])
    if kind == "target":
        verdict = review.targets.get(subject)
        told = say_missed(verdict, review.currency) if verdict is not None else label_metric(subject)
        text = say("{missed}: decide what will bring it there", missed=told)
        return say("{text}.", text=add_note(text, row["detail"]))
    if kind == "budget":
        money = format_number(row["value"], "amount", currency=review.currency)
        text = say(
            "{money} more went to {channel} without more users who stay: keep, move or cut it",
            money=money,
            channel=subject,
        )
        return say("{text}.", text=add_note(text, row["detail"]))
    if kind == "firing":
        if row["detail"]:
            return say("Rule {rule} fired: {steps}.", rule=name_rule(subject), steps=row["detail"])
        return say("Rule {rule} fired.", rule=name_rule(subject))
    if row["detail"]:
        verdict = row["detail"]
        return say("Initiative {name} is {verdict}: go on, change or stop it.", name=subject, verdict=verdict)
    return say("Initiative {name} is due: go on, change or stop it.", name=subject)


def list_core_things(review: QuarterlyReview) -> ListView:
    """The three core things of the week: the playbook's, or what the data suggest; then the rhythm."""
    cadence = review.cadence
    settings = cadence.settings
    suggested = [_say_core(review, row) for row in cadence.proposals.to_dict("records")]
    lines = [write_sentence(_number_thing(i, say(text))) for i, text in enumerate(settings.weekly_core, 1)]
    if not lines and suggested:
        lines = [_number_thing(i, text) for i, text in enumerate(suggested, 1)]
        lines.insert(0, say("The playbook names no core things of the week ([cadence] weekly_core). The data suggest:"))
    elif suggested:
        lines.append(say("By these data what presses most: {told}", told=join_sentences(suggested)))
    if not (cadence.named or suggested):
        lines = [say("No target is missed and nothing moved for the worse: choose the week's core things freely.")]
    rhythm = {
        mark("Every day: {what}."): settings.daily,
        mark("Every week: {what}."): settings.weekly,
        mark("Every month: {what}."): settings.monthly,
    }
    lines += [say(template, what=say(what)) for template, what in rhythm.items() if what]
    return ListView([*lines, *_say_stickiness(review)])


def _number_thing(number: int, text: str) -> str:
    return say("Core thing {number}: {text}", number=number, text=text)


def _say_core(review: QuarterlyReview, row: Mapping[Any, Any]) -> str:
    kind, subject = row["kind"], row["subject"]
    if kind == "target":
        return say("{text}.", text=say_missed(review.targets[subject], review.currency))
    if kind == "budget":
        return say("The extra money in channel {channel} brings no more users who stay.", channel=subject)
    if kind == "lever":
        money = review.bridge is not None and review.bridge.revenue is not None
        value = row["value"]
        lost = format_signed(value, review.currency) if money else say("{count:+,.0f} active users", count=value)
        return say("{lever}: {change} against the quarter before.", lever=name_lever(subject), change=lost)
    name = write_sentence(_name_rate(subject))[:-1]
    return say("{rate}: a tenth more would bring {count:,.0f} users a day.", rate=name, count=row["bound"])


def _name_rate(name: str) -> str:
    return say(RATE_NAMES[name]) if name in RATE_NAMES else label_metric(name)


def _say_stickiness(review: QuarterlyReview) -> list[str]:
    cadence = review.cadence
    if not cadence.stickiness.known:
        return []
    target = review.targets.get("stickiness_rate")
    value = format_number(cadence.stickiness.value, "rate")
    if target:
        bound = format_number(target.target.bound, "rate")
        text = say("DAU/MAU is {rate}, the target {target}.", rate=value, target=bound)
    else:
        text = say("DAU/MAU is {rate}.", rate=value)
    if cadence.rate_effect is None:
        return [text]
    most = say(
        "What moves daily active users most: {name}, {rate} now; a tenth more of them would bring {count:,.0f} users a "
        "day within four weeks.",
        name=_name_rate(cadence.rate),
        rate=format_number(cadence.rate_value, "rate"),
        count=cadence.rate_effect,
    )
    return [join_sentences([text, most])]

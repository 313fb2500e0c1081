"""The sentences of the daily watch."""

from __future__ import annotations

import pandas as pd

from opslib.data.operations import RuleSettings
from opslib.decide.rules.result import RuleResult
from opslib.decide.watch.numbers import DayNumber
from opslib.decide.watch.watch import Watch
from opslib.language import join_clauses, join_sentences, mark, say
from opslib.present.rules import format_metric, name_rule, say_result, say_unknown
from opslib.present.words import (
    describe,
    describe_scope,
    label_metric,
    list_limits,
    name_users,
    suggest_actions,
)

# More than this is not read at a glance: the table has the rest.
MOST_TOLD = 4
LEVELS = {"red": mark("Red"), "amber": mark("Amber"), "green": mark("Green"), "unknown": mark("Unknown")}
# Why a number of the day is not held against a range.
REASONS = {
    "holiday": mark("holiday"),
    "too few": mark("too few"),
    "immature": mark("immature"),
    "no data": mark("no data"),
    "partial": mark("partial"),
}


@describe.register
def _describe_watch(watch: Watch) -> list[str]:
    loud = [result for result in watch.results if result.level in ("red", "amber")]
    told = [sentence for result in loud for sentence in say_result(result, currency=watch.currency)[:1]]
    text = mark("{level}: {sentence}")
    pairs = zip(loud, told, strict=True)
    levels = [say(text, level=name_level(result), sentence=sentence) for result, sentence in pairs]
    sentences = [_count_rules(watch), *levels[:MOST_TOLD]]
    if len(told) > MOST_TOLD:
        sentences.append(say("{count} more rules fire; the table below has them.", count=len(told) - MOST_TOLD))
    return [*sentences, _say_changes(watch), *_say_numbers(watch)]


def name_level(result: RuleResult) -> str:
    """A level as the first word of a sentence."""
    return say(LEVELS[result.level])


def label_number(metric: str) -> str:
    """The name of one of the day's numbers, which is a mean of no days."""
    return say("Daily active users") if metric == "dau_count" else label_metric(metric)


def _count_rules(watch: Watch) -> str:
    if not watch.results:
        return say("The playbook has no rules, so nothing was watched.")
    counts = watch.count_levels()
    text = mark("{count} rules on {day}: {red} red, {amber} amber, {green} green.")
    if counts["unknown"]:
        text = mark("{count} rules on {day}: {red} red, {amber} amber, {green} green, {unknown} that cannot be judged.")
    return say(text, count=len(watch.results), day=watch.as_of, **counts)


def _say_changes(watch: Watch) -> str:
    changed = watch.changed
    parts = []
    for what, text in (
        ("fired", mark("New since yesterday: {rules}.")),
        ("ended", mark("Over since yesterday: {rules}.")),
    ):
        names = [
            name_rule(r, g) for r, g in changed.loc[changed["what"] == what, ["rule", "group"]].itertuples(index=False)
        ]
        if names:
            parts.append(say(text, rules=say(", ").join(names)))
    return join_sentences(parts) or say("No rule has changed since yesterday.")


def _say_numbers(watch: Watch) -> list[str]:
    odd = [number for number in watch.numbers if number.state in ("low", "high")]
    if not odd:
        judged = sum(number.state == "usual" for number in watch.numbers)
        text = mark("All {count} of the day's numbers that can be judged lie in their expected range.")
        return [say(text, count=judged)] if judged else []
    numbers = join_clauses(_say_number(number, watch) for number in odd)
    return [say("Outside the expected range: {numbers}.", numbers=numbers)]


def _say_number(number: DayNumber, watch: Watch) -> str:
    last = number.daily.iloc[-1]
    value, low, high = (
        format_metric(last[c], number.metric, currency=watch.currency) for c in ("value", "low", "high")
    )
    metric = label_metric(number.metric)
    return say("{metric} {value} (expected {low} to {high})", metric=metric, value=value, low=low, high=high)


@describe_scope.register
def _describe_scope(watch: Watch) -> str:
    return say("{company}, {days}, {users}.", company=watch.company, days=watch.as_of, users=name_users(watch.segment))


@list_limits.register
def _list_limits(watch: Watch) -> list[str]:
    limits = [say_unknown(result) for result in watch.results if result.level == "unknown"]
    text = mark("{metric} was not held against a range ({reason}).")
    limits += [
        say(text, metric=label_metric(n.metric), reason=say(REASONS.get(n.reason, n.reason)))
        for n in watch.numbers
        if n.state == "unknown"
    ]
    limits.append(
        say(
            "A rule fires on a number, not on its cause. How often each would fire by chance is told for the volume of "
            "the last year, with the true value as usual."
        )
    )
    return limits


@suggest_actions.register
def _suggest_actions(watch: Watch) -> list[str]:
    loud = [result for result in watch.results if result.level in ("red", "amber") and len(result.firing)]
    actions = [_act_on_rule(result.rule) for result in loud]
    for row in watch.due.to_dict("records"):
        text = mark("Judge the initiative {name}: due since {day}. Open {notebook}.")
        if row["what"] == "experiment":
            text = mark("Read out the experiment {name}: due since {day}. Open {notebook}.")
        name = _name_owner(row["name"], row["owner"])
        actions.append(say(text, name=name, day=pd.Timestamp(row["day"]).date(), notebook=row["notebook"]))
    return actions or [say("Nothing calls for attention today.")]


def _act_on_rule(rule: RuleSettings) -> str:
    """What a rule asks for: the handbook's steps are in every language, a user's own as they are written."""
    steps = join_clauses(say(step) for step in rule.steps) or say("look into it")
    what = say("{rule}: {steps}.", rule=_name_owner(name_rule(rule.name).capitalize(), rule.owner), steps=steps)
    return join_sentences([what, say("Open {notebook}.", notebook=rule.notebook) if rule.notebook else ""])


def _name_owner(name: str, owner: str) -> str:
    return say("{name} ({owner})", name=name, owner=say(owner)) if owner else name

"""The sentences of the daily watch."""

from __future__ import annotations

import pandas as pd

from opslib.decide.rules.result import RuleResult
from opslib.decide.watch.numbers import DayNumber
from opslib.decide.watch.watch import Watch
from opslib.present.rules import format_metric, name_rule, say_result, say_unknown
from opslib.present.words import (
    describe,
    describe_scope,
    label_metric,
    list_limits,
    name_users,
    suggest_actions,
    write_sentence,
)

# More than this is not read at a glance: the table has the rest.
MOST_TOLD = 4


@describe.register
def _describe_watch(watch: Watch) -> list[str]:
    loud = [result for result in watch.results if result.level in ("red", "amber")]
    told = [sentence for result in loud for sentence in say_result(result, currency=watch.currency)[:1]]
    sentences = [_count_rules(watch), *(f"{name_level(r)}: {s}" for r, s in zip(loud, told, strict=True))][
        : MOST_TOLD + 1
    ]
    if len(told) > MOST_TOLD:
        sentences.append(f"{len(told) - MOST_TOLD} more rules fire; the table below has them.")
    return [*sentences, _say_changes(watch), *_say_numbers(watch)]


def name_level(result: RuleResult) -> str:
    """A level as the first word of a sentence."""
    return result.level.capitalize()


def _count_rules(watch: Watch) -> str:
    if not watch.results:
        return "The playbook has no rules, so nothing was watched."
    counts = watch.count_levels()
    levels = ", ".join(f"{counts[level]} {level}" for level in ("red", "amber", "green"))
    text = f"{len(watch.results)} rules on {watch.as_of}: {levels}"
    return text + (f", {counts['unknown']} that cannot be judged." if counts["unknown"] else ".")


def _say_changes(watch: Watch) -> str:
    changed = watch.changed
    parts = []
    for what, verb in (("fired", "New since yesterday"), ("ended", "Over since yesterday")):
        names = [
            name_rule(r, g) for r, g in changed.loc[changed["what"] == what, ["rule", "group"]].itertuples(index=False)
        ]
        if names:
            parts.append(f"{verb}: {', '.join(names)}.")
    return " ".join(parts) or "No rule has changed since yesterday."


def _say_numbers(watch: Watch) -> list[str]:
    odd = [number for number in watch.numbers if number.state in ("low", "high")]
    if not odd:
        judged = sum(number.state == "usual" for number in watch.numbers)
        return [f"All {judged} of the day's numbers that can be judged lie in their expected range."] if judged else []
    return [f"Outside the expected range: {'; '.join(_say_number(n, watch) for n in odd)}."]


def _say_number(number: DayNumber, watch: Watch) -> str:
    last = number.daily.iloc[-1]
    value, low, high = (
        format_metric(last[c], number.metric, currency=watch.currency) for c in ("value", "low", "high")
    )
    return f"{label_metric(number.metric)} {value} (expected {low} to {high})"


@describe_scope.register
def _describe_scope(watch: Watch) -> str:
    return f"{watch.company}, {watch.as_of}, {name_users(watch.segment)}."


@list_limits.register
def _list_limits(watch: Watch) -> list[str]:
    limits = [say_unknown(result) for result in watch.results if result.level == "unknown"]
    limits += [write_sentence(note) for note in watch.notes]
    limits += [
        f"{label_metric(n.metric)} was not held against a range ({n.reason})."
        for n in watch.numbers
        if n.state == "unknown"
    ]
    limits.append(
        "A rule fires on a number, not on its cause. How often each would fire by chance is told for the volume of the "
        "last year, with the true value as usual."
    )
    return limits


@suggest_actions.register
def _suggest_actions(watch: Watch) -> list[str]:
    actions = []
    for result in watch.results:
        if result.level not in ("red", "amber") or not len(result.firing):
            continue
        rule = result.rule
        owner = f" ({rule.owner})" if rule.owner else ""
        steps = "; ".join(rule.steps) or "look into it"
        where = f" Open {rule.notebook}." if rule.notebook else ""
        actions.append(f"{name_rule(rule.name).capitalize()}{owner}: {steps}.{where}")
    for row in watch.due.to_dict("records"):
        owner = f" ({row['owner']})" if row["owner"] else ""
        verb = "Read out the experiment" if row["what"] == "experiment" else "Judge the initiative"
        day = pd.Timestamp(row["day"]).date()
        actions.append(f"{verb} {row['name']}{owner}: due since {day}. Open {row['notebook']}.")
    return actions or ["Nothing calls for attention today."]

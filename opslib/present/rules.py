"""Rules in words: what fired, how sure that is, and how often it would by chance."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any

import pandas as pd

from opslib.data.operations import RuleSettings
from opslib.decide.rules.result import RuleResult
from opslib.language import join_clauses, mark, say
from opslib.present.words import MISSING, format_number, label_metric, name_group, write_sentence

REASONS = {
    "too few": mark("too few users in the last period"),
    "immature": mark("its users have not had their time yet"),
    "no data": mark("there are no data for the last period"),
    "partial": mark("no period is over yet"),
    "holiday": mark("the last period is a holiday"),
    "too few periods": mark("too few periods are known"),
}
CONDITIONS = {
    "below": mark("below"),
    "above": mark("above"),
    "rising": mark("rising"),
    "falling": mark("falling"),
    "drops_by": mark("drops by"),
    "grows_by": mark("grows by"),
    "unusual": mark("unusual"),
}
# By the length of a period.
RUNNING = {
    "day": mark("{text}, {times} days running"),
    "week": mark("{text}, {times} weeks running"),
    "month": mark("{text}, {times} months running"),
}
SO_MANY_OF = {
    "day": mark("{text}, {times} days of {of}"),
    "week": mark("{text}, {times} weeks of {of}"),
    "month": mark("{text}, {times} months of {of}"),
}
RISING = {
    "day": mark("{text}, up {times} days running from {before}"),
    "week": mark("{text}, up {times} weeks running from {before}"),
    "month": mark("{text}, up {times} months running from {before}"),
}
FALLING = {
    "day": mark("{text}, down {times} days running from {before}"),
    "week": mark("{text}, down {times} weeks running from {before}"),
    "month": mark("{text}, down {times} months running from {before}"),
}
CHANGED = {
    "day": mark("{text}, {change:+.0%} against {before} in the {count} days before"),
    "week": mark("{text}, {change:+.0%} against {before} in the {count} weeks before"),
    "month": mark("{text}, {change:+.0%} against {before} in the {count} months before"),
}
# Below, a rate is told with more digits: of 0.05% of requests the second digit matters.
SMALL_RATE = 0.01
NEVER = 0.05
SURE = 0.999


def name_rule(name: str, group: str = "") -> str:
    """A rule's name for people, with the group where it watches groups.

    >>> name_rule("d7_below_25"), name_rule("kept_user_costs_more", "social")
    ('d7 below 25', 'kept user costs more (social)')
    """
    # The handbook's own rules have names in every language.
    words = say(name.replace("_", " "))
    return say("{rule} ({group})", rule=words, group=group) if group else words


def format_metric(value: float | None, metric: str, *, currency: str = "") -> str:
    """A metric's value with its unit; small rates with a digit more.

    >>> format_metric(0.0012, "error_rate"), format_metric(0.2134, "d7_rate"), format_metric(12.5, "cac_amount")
    ('0.12%', '21.3%', '12.50')
    """
    if value is None or pd.isna(value):
        return MISSING
    if metric.endswith("_rate"):
        return f"{value:.2%}" if 0 < abs(value) < SMALL_RATE else f"{value:.1%}"
    if metric.endswith("_ratio"):
        return f"{value:.2f}"
    if metric.endswith("_mean"):
        return f"{value:,.1f}"
    return format_number(value, "amount" if metric.endswith("_amount") else "count", currency=currency)


def name_period(start: dt.date, grain: str) -> str:
    """A period as people name it.

    >>> name_period(dt.date(2026, 5, 18), "week"), name_period(dt.date(2026, 5, 1), "month")
    ('the week of 2026-05-18', '2026-05')
    """
    if grain == "month":
        return f"{start:%Y-%m}"
    return say("the week of {day}", day=f"{start:%Y-%m-%d}") if grain == "week" else f"{start:%Y-%m-%d}"


def say_group(result: RuleResult, row: Mapping[Any, Any], *, currency: str = "") -> str:
    """Say what a rule sees in one group, in one sentence."""
    rule = result.rule

    def write(value: float) -> str:
        return format_metric(value, rule.metric, currency=currency)

    head = _say_value(rule, row, write(row["value"]))
    if rule.condition in ("below", "above"):
        below, above = mark("{text}, below {threshold}"), mark("{text}, above {threshold}")
        text = say(below if rule.condition == "below" else above, text=head, threshold=write(row["threshold"]))
        if rule.times < 2:
            return text
        return say((SO_MANY_OF if rule.of else RUNNING)[rule.grain], text=text, times=rule.times, of=rule.of)
    if rule.condition in ("rising", "falling"):
        template = (RISING if rule.rising else FALLING)[rule.grain]
        return say(template, text=head, times=rule.rising or rule.falling, before=write(row["compared_value"]))
    if rule.condition == "unusual":
        most = mark("{text}; expected: about {expected}, at most {bound}")
        least = mark("{text}; expected: about {expected}, at least {bound}")
        template = most if row["value"] > row["compared_value"] else least
        return say(template, text=head, expected=write(row["compared_value"]), bound=write(row["threshold"]))
    template = CHANGED[rule.grain]
    if rule.against == "last_year":
        template = mark("{text}, {change:+.0%} against {before} in a year before")
    before, change = write(row["compared_value"]), row["change_ratio"]
    return say(template, text=head, change=change, before=before, count=rule.compare_periods)


def _say_value(rule: RuleSettings, row: Mapping[Any, Any], value: str) -> str:
    """Say what a metric was, of whom and when."""
    what = label_metric(rule.metric)
    if rule.metric == "funnel_rate" and rule.funnel:
        what = say("{metric} {funnel}", metric=what, funnel=rule.funnel)
    if rule.by or rule.segment:
        column, _, value_name = rule.segment.partition(":")
        group = name_group(rule.by, row["group"]) if rule.by else name_group(column, value_name.replace(":", " "))
        what = say("{metric} of {group}", metric=what, group=group)
    if rule.metric.endswith("_rate") and rule.metric != "spend_share_rate" and row["denominator"] > 1:
        value = say("{value} of {total:,.0f}", value=value, total=row["denominator"])
    period = name_period(row["period_start"].date(), rule.grain)
    if rule.metric.endswith("_count") and rule.metric not in ("dau_count", "mau_count"):
        template = (
            mark("{what} were {value} on {period}") if rule.grain == "day" else mark("{what} were {value} in {period}")
        )
    else:
        template = (
            mark("{what} was {value} on {period}") if rule.grain == "day" else mark("{what} was {value} in {period}")
        )
    return say(template, what=what, value=value, period=period)


def say_result(result: RuleResult, *, currency: str = "") -> list[str]:
    """Say what a rule that fires sees, one sentence a group that fires, with how sure that is."""
    sentences = []
    for row in result.firing.to_dict("records"):
        sure = say_certainty(result.rule, row)
        sentences.append(say("{text}. {sure}", text=say_group(result, row, currency=currency), sure=sure))
    return sentences


def is_past_usually(rule: RuleSettings, row: Mapping[Any, Any]) -> bool:
    """Whether a metric is usually where a rule on its level fires, so that firing is no news."""
    usual, limit = row["usual_value"], row["threshold"]
    return bool(usual < limit) if rule.condition == "below" else rule.condition == "above" and bool(usual > limit)


def say_certainty(rule: RuleSettings, row: Mapping[Any, Any]) -> str:
    """Say how sure a firing is, and how often chance alone would make it."""
    probability, noise = row["passed_probability"], row["noise_fires_per_year"]
    parts = []
    if not pd.isna(probability):
        parts.append(
            say("beyond doubt")
            if probability > SURE
            else say("true with a probability of {probability:.0%}", probability=min(probability, 0.99))
        )
    if is_past_usually(rule, row):
        parts.append(say("its usual level is past the limit too"))
    elif not pd.isna(noise):
        parts.append(say("by chance alone this rule fires {often}", often=format_yearly(noise)))
    if row["calibrated_state"] == "quiet":
        parts.append(say("the version that keeps false alarms rare stays quiet"))
    return write_sentence(join_clauses(parts))


def format_yearly(times: float) -> str:
    """How often a year.

    >>> format_yearly(0.01), format_yearly(0.4), format_yearly(0.9), format_yearly(9.4)
    ('hardly ever', 'once in 2 years', 'about once a year', '9 times a year')
    """
    if times < NEVER:
        return say("hardly ever")
    if times < 0.67:
        return say("once in {years:.0f} years", years=1 / times)
    return say("about once a year") if times < 1.5 else say("{times:.0f} times a year", times=times)


def say_unknown(result: RuleResult) -> str:
    """Why a rule cannot be judged."""
    reasons = [r for r in dict.fromkeys(result.groups["reason"]) if r] if len(result.groups) else []
    told = [result.note] if result.note else reasons
    text = say(", ").join(say(REASONS.get(reason, reason)) for reason in told) or say("not enough data")
    return write_sentence(say("{rule}: {reason}", rule=name_rule(result.rule.name), reason=text))


def explain_rule(rule: RuleSettings) -> str:
    """A rule in words: its own, or what it asks."""
    if rule.says:
        return say(rule.says)
    condition = say(CONDITIONS[rule.condition])
    return write_sentence(say("{metric}: {condition}", metric=label_metric(rule.metric), condition=condition))

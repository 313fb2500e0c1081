"""Rules in words: what fired, how sure that is, and how often it would by chance."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any

import pandas as pd

from opslib.data.operations import RuleSettings
from opslib.decide.rules.result import RuleResult
from opslib.present.words import MISSING, format_number, label_metric, write_sentence

REASONS = {
    "too few": "too few users in the last period",
    "immature": "its users have not had their time yet",
    "no data": "there are no data for the last period",
    "partial": "no period is over yet",
    "holiday": "the last period is a holiday",
    "too few periods": "too few periods are known",
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
    words = name.replace("_", " ")
    return f"{words} ({group})" if group else words


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
    return f"the week of {start:%Y-%m-%d}" if grain == "week" else f"{start:%Y-%m-%d}"


def say_group(result: RuleResult, row: Mapping[Any, Any], *, currency: str = "") -> str:
    """Say what a rule sees in one group, in one sentence."""
    rule, grain = result.rule, result.rule.grain
    what = label_metric(rule.metric)
    if rule.metric == "funnel_rate" and rule.funnel:
        what = f"{what} {rule.funnel}"
    who = (
        f" of {rule.by} {row['group']}" if rule.by else f" of {rule.segment.replace(':', ' ')}" if rule.segment else ""
    )

    def write(value: float) -> str:
        return format_metric(value, rule.metric, currency=currency)

    value = write(row["value"])
    if rule.metric.endswith("_rate") and rule.metric != "spend_share_rate" and row["denominator"] > 1:
        value += f" of {row['denominator']:,.0f}"
    when = name_period(row["period_start"].date(), grain)
    verb = "were" if rule.metric.endswith("_count") and rule.metric not in ("dau_count", "mau_count") else "was"
    head = (
        f"{what}{who} {verb} {value} in {when}"
        if grain == "month"
        else f"{what}{who} {verb} {value} {_in(grain)}{when}"
    )
    if rule.condition in ("below", "above"):
        side = "below" if rule.condition == "below" else "above"
        times = f", {rule.times} {grain}s {'running' if not rule.of else f'of {rule.of}'}" if rule.times > 1 else ""
        return f"{head}, {side} {write(row['threshold'])}{times}"
    if rule.condition in ("rising", "falling"):
        steps = rule.rising or rule.falling
        return f"{head}, {'up' if rule.rising else 'down'} {steps} {grain}s running from {write(row['compared_value'])}"
    if rule.condition == "unusual":
        bound = "at most" if row["value"] > row["compared_value"] else "at least"
        return f"{head}; expected: about {write(row['compared_value'])}, {bound} {write(row['threshold'])}"
    against = "a year before" if rule.against == "last_year" else f"the {rule.compare_periods} {grain}s before"
    return f"{head}, {row['change_ratio']:+.0%} against {write(row['compared_value'])} in {against}"


def say_result(result: RuleResult, *, currency: str = "") -> list[str]:
    """Say what a rule that fires sees, one sentence a group that fires, with how sure that is."""
    rows = result.firing.to_dict("records")
    sentences = []
    for row in rows:
        sure = say_certainty(result.rule, row)
        text = f"{say_group(result, row, currency=currency)}. {sure}"
        sentences.append(text)
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
            "beyond doubt" if probability > SURE else f"true with a probability of {min(probability, 0.99):.0%}"
        )
    if is_past_usually(rule, row):
        parts.append("its usual level is past the limit too")
    elif not pd.isna(noise):
        parts.append(f"by chance alone this rule fires {format_yearly(noise)}")
    if row["calibrated_state"] == "quiet":
        parts.append("the version that keeps false alarms rare stays quiet")
    return write_sentence("; ".join(parts)) if parts else ""


def format_yearly(times: float) -> str:
    """How often a year.

    >>> format_yearly(0.01), format_yearly(0.4), format_yearly(0.9), format_yearly(9.4)
    ('hardly ever', 'once in 2 years', 'about once a year', '9 times a year')
    """
    if times < NEVER:
        return "hardly ever"
    if times < 0.67:
        return f"once in {1 / times:.0f} years"
    return "about once a year" if times < 1.5 else f"{times:.0f} times a year"


def say_unknown(result: RuleResult) -> str:
    """Why a rule cannot be judged."""
    reasons = [r for r in dict.fromkeys(result.groups["reason"]) if r] if len(result.groups) else []
    told = [result.note] if result.note else reasons
    text = ", ".join(REASONS.get(reason, reason) for reason in told) or "not enough data"
    return write_sentence(f"{name_rule(result.rule.name)}: {text}")


def explain_rule(rule: RuleSettings) -> str:
    """A rule in words: its own, or what it asks."""
    return rule.says or write_sentence(f"{label_metric(rule.metric)}: {rule.condition.replace('_', ' ')}")


def _in(grain: str) -> str:
    return "in " if grain == "week" else "on "

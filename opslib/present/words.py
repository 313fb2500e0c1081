"""Results in words: numbers with units, and the sentences of each notebook's answer.

Measuring knows no language; every sentence that quotes a result is made here and in the `words` of each notebook's
folder, loaded when a result of theirs is shown.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import singledispatch
from typing import Any

import pandas as pd

from opslib.data.fitness import DataFitness
from opslib.decide.questions import DataSurvey
from opslib.measure.estimate import Change, Estimate

METRIC_LABELS = {
    "dau_count": "Daily active users (mean)",
    "mau_count": "Monthly active users",
    "stickiness_rate": "Stickiness (DAU / MAU)",
    "new_users_count": "New users",
    "d1_rate": "Next-day retention (D1)",
    "d7_rate": "Day-7 retention (D7)",
    "d30_rate": "Day-30 retention (D30)",
    "paying_users_count": "Paying users",
    "paying_rate": "Share of active users who paid",
    "revenue_amount": "Revenue",
    "cac_amount": "Cost per new user (CAC)",
    "churn_rate": "Churn",
    "event_rate": "Share of active users who did it",
    "dwell_minutes_mean": "Minutes a day per active user",
    "funnel_rate": "Share who got through the funnel",
    "orders_count": "Orders",
    "spend_amount": "Spend",
    "spend_share_rate": "Share of spend in one channel",
    "complaint_rate": "Share of active users who complained",
    "complaints_count": "Complaints",
    "tickets_count": "Tickets",
    "satisfaction_rate": "Satisfied (4 or 5 of 5)",
    "nps_ratio": "Net promoter score",
    "requests_count": "Requests",
    "error_rate": "Requests that failed",
    "p95_ms_mean": "Slowest of 20 requests (ms)",
    "cost_per_activated_amount": "Cost per activated user",
    "cost_per_d7_amount": "Cost per user back on day 7",
    "cost_per_d30_amount": "Cost per user back on day 30",
}

MISSING = "–"

# Where results come from, and what holds their words: loaded with the first result of the kind, so that a notebook
# waits for its own alone.
HOMES = {
    "opslib.decide.churn": "opslib.present.churn.actions",
    "opslib.decide.crisis": "opslib.present.crisis.actions",
    "opslib.decide.funnel": "opslib.present.funnel.actions",
    "opslib.decide.growth": "opslib.present.growth.actions",
    "opslib.decide.review": "opslib.present.review.actions",
    "opslib.decide.verdicts": "opslib.present.verdicts.words",
    "opslib.decide.watch": "opslib.present.watch.words",
}


def label_metric(name: str) -> str:
    """The name of a metric for people."""
    return METRIC_LABELS.get(name, name.replace("_", " "))


def format_number(value: float | None, unit: str, *, currency: str = "") -> str:
    """Write a number with its unit.

    >>> format_number(0.2134, "rate"), format_number(8_911_407.9, "amount", currency="GBP")
    ('21.3%', 'GBP 8.91 million')
    """
    if value is None or pd.isna(value):
        return MISSING
    if unit == "rate":
        return f"{value:.1%}"
    if unit == "amount":
        return f"{currency} {_shorten(value)}".strip()
    if unit == "ratio":
        return f"{value:.2f}"
    return f"{value:,.0f}"


def _shorten(value: float) -> str:
    for size, word in ((1e9, "billion"), (1e6, "million")):
        if abs(value) >= size:
            return f"{value / size:.2f} {word}"
    return f"{value:,.2f}" if abs(value) < 1000 else f"{value:,.0f}"


def format_interval(estimate: Estimate, *, currency: str = "") -> str:
    """Write an estimate's interval, for example `[20.1% to 22.6%]`."""
    if not estimate.known:
        return ""
    low, high = (format_number(x, estimate.unit) for x in (estimate.low, estimate.high))
    return f"[{low} to {high}]"


def format_estimate(estimate: Estimate, *, currency: str = "") -> str:
    """Write an estimate with its interval, or why there is none."""
    if not estimate.known:
        return estimate.note or "not enough data"
    return f"{format_number(estimate.value, estimate.unit, currency=currency)} {format_interval(estimate)}"


def format_change(change: Change, *, against: str = "") -> str:
    """Write a change: points for rates, per cent for the rest; a change that may be chance is said to be so.

    Pass `against` to name what it is compared with.

    >>> from opslib.measure.estimate import compare_estimates, estimate_rate
    >>> format_change(compare_estimates(estimate_rate("r", 560, 700), estimate_rate("r", 480, 800)))
    '+20.0 points'
    """
    if change.difference is None:
        return MISSING
    if change.now.unit == "rate":
        text = f"{100 * change.difference:+.1f} points"
    elif change.relative is not None:
        text = f"{change.relative:+.1%}"
    else:
        text = f"{change.difference:+,.0f}"
    if against:
        text = f"{text} against {against}"
    return text if change.clear else f"{text}, within chance"


def name_users(segment: str) -> str:
    """Whom a result is about.

    >>> name_users("channel:search"), name_users("")
    ('users with channel search', 'all users')
    """
    return f"users with {segment.replace(':', ' ')}" if segment else "all users"


def write_sentence(text: str) -> str:
    """A note as a sentence: a capital, and one full stop.

    >>> write_sentence("nobody left."), write_sentence("")
    ('Nobody left.', '')
    """
    return f"{text[0].upper()}{text[1:].rstrip('.')}." if text else ""


def format_points(value: float, low: float, high: float) -> str:
    """A difference of rates with its interval, in points.

    >>> format_points(-0.0411, -0.062, -0.02)
    '-4.1 points [-6.2 to -2.0]'
    """
    return f"{100 * value:+.1f} points [{100 * low:.1f} to {100 * high:.1f}]"


def name_segment(segment: str) -> str:
    """Write a segment of an explanation as people do.

    >>> name_segment("channel=ads & app_version=5.3.0")
    'channel ads and app version 5.3.0'
    """
    parts = (part.partition("=") for part in segment.split(" & "))
    return " and ".join(f"{column.replace('_', ' ')} {value}" for column, _, value in parts)


@singledispatch
def describe(result: object) -> list[str]:
    """Say a result in three to five sentences, the answer first.

    Raises:
        TypeError: there are no words for this kind of result.
    """
    return _find_words(describe, result, "words")(result)


@singledispatch
def describe_scope(result: object) -> str:
    """Say in one sentence what a result covers: company, days, segment; empty where nothing need be said."""
    found = _load_words(describe_scope, result)
    return "" if found is None else found(result)


@singledispatch
def list_limits(result: object) -> list[str]:
    """Say what a reader must know before relying on a result.

    Raises:
        TypeError: there are no words for this kind of result.
    """
    return _find_words(list_limits, result, "limits")(result)


@singledispatch
def suggest_actions(result: object) -> list[str]:
    """Say what to do next, the most urgent first.

    Raises:
        TypeError: there are no words for this kind of result.
    """
    return _find_words(suggest_actions, result, "actions")(result)


def _find_words(function: Any, result: object, what: str) -> Callable[[object], list[str]]:
    found = _load_words(function, result)
    if found is None:
        raise TypeError(f"there are no {what} for {type(result).__name__}")
    return found


def _load_words(function: Any, result: object) -> Any:
    """What a function says of this kind of result, its notebook's words loaded first; None where it has none."""
    home = type(result).__module__
    for package, words in HOMES.items():
        if home == package or home.startswith(f"{package}."):
            importlib.import_module(words)
    found = function.dispatch(type(result))
    return None if found is function.dispatch(object) else found


@describe.register
def _describe_fitness(fitness: DataFitness) -> list[str]:
    rows = sum(p.kept for p in fitness.profiles)
    count = len(fitness.profiles)
    sentences = [f"The data are {fitness.verdict}: {rows:,} rows in {count} table{'s' * (count > 1)}."]
    for severity, lead in (("unfit", "Must be mended"), ("warning", "Be warned")):
        found = [p for p in fitness.problems if p.severity == severity]
        sentences += [f"{lead}: {p}" for p in found[:3]]
        if len(found) > 3:
            sentences.append(f"{len(found) - 3} more of this kind are in the table below.")
    return sentences


@describe.register
def _describe_survey(survey: DataSurvey) -> list[str]:
    sentences = describe(survey.fitness)
    if survey.span.days == 1:
        covered = f"They are of one day, {survey.span.start},"
    else:
        covered = f"They cover {survey.span.days:,} full days, from {survey.span.start} to {survey.span.last_day},"
    active = f"whoever is in {survey.activity} is active" if survey.activity else "who was active when is not in them"
    sentences.append(f"{covered} as {survey.zone} counts days; {active}.")
    able = [q for q in survey.questions if not q.missing]
    text = f"They can answer {len(able)} of {len(survey.questions)} questions"
    lacking = list(dict.fromkeys(m for q in survey.questions for m in q.missing))
    return [*sentences, f"{text}; the rest need {', '.join(lacking)}." if lacking else f"{text}."]

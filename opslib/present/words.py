"""Results in words: numbers with units, and the sentences of each notebook's answer.

Measuring knows no language; every sentence that quotes a result is made here and in the `words` of each notebook's
folder, loaded when a result of theirs is shown.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable, Iterable
from functools import singledispatch
from typing import Any

import pandas as pd

from opslib.data.contract import CONTRACTS
from opslib.data.fitness import DataFitness
from opslib.decide.questions import DataSurvey
from opslib.language import get_language, mark, say
from opslib.measure.estimate import Change, Estimate

METRIC_LABELS = {
    "dau_count": mark("Daily active users (mean)"),
    "mau_count": mark("Monthly active users"),
    "stickiness_rate": mark("Stickiness (DAU / MAU)"),
    "new_users_count": mark("New users"),
    "d1_rate": mark("Next-day retention (D1)"),
    "d7_rate": mark("Day-7 retention (D7)"),
    "d30_rate": mark("Day-30 retention (D30)"),
    "paying_users_count": mark("Paying users"),
    "paying_rate": mark("Share of active users who paid"),
    "revenue_amount": mark("Revenue"),
    "cac_amount": mark("Cost per new user (CAC)"),
    "churn_rate": mark("Churn"),
    "event_rate": mark("Share of active users who did it"),
    "dwell_minutes_mean": mark("Minutes a day per active user"),
    "funnel_rate": mark("Share who got through the funnel"),
    "orders_count": mark("Orders"),
    "spend_amount": mark("Spend"),
    "spend_share_rate": mark("Share of spend in one channel"),
    "complaint_rate": mark("Share of active users who complained"),
    "complaints_count": mark("Complaints"),
    "tickets_count": mark("Tickets"),
    "satisfaction_rate": mark("Satisfied (4 or 5 of 5)"),
    "nps_ratio": mark("Net promoter score"),
    "requests_count": mark("Requests"),
    "error_rate": mark("Requests that failed"),
    "p95_ms_mean": mark("Slowest of 20 requests (ms)"),
    "cost_per_activated_amount": mark("Cost per activated user"),
    "cost_per_d7_amount": mark("Cost per user back on day 7"),
    "cost_per_d30_amount": mark("Cost per user back on day 30"),
}

MISSING = "–"
FITNESS = {"fit": mark("fit"), "usable with warnings": mark("usable with warnings"), "unfit": mark("unfit")}

# Columns of users that every company may have: these are words, other companies' columns are names.
COLUMNS = frozenset(
    (
        mark("age band"),
        mark("app version"),
        mark("app version at signup"),
        mark("channel"),
        mark("city"),
        mark("city tier"),
        mark("country"),
        mark("device"),
        mark("domain"),
        mark("gender"),
        mark("network"),
        mark("platform"),
        mark("region"),
    )
)
VALUES = frozenset((mark("(not given)"), mark("(other)")))

# From which size on an amount is shortened, and what it is then divided by. Chinese counts in 万 and 亿.
SIZES = {
    "en": ((1e9, 1e9, mark("{value:.2f} billion")), (1e6, 1e6, mark("{value:.2f} million"))),
    "zh": ((1e8, 1e8, mark("{value:.2f} hundred million")), (1e6, 1e4, mark("{value:,.0f} ten thousand"))),
}

# Packages of `opslib.decide` whose results have their words in the package of the same name here: loaded with the first
# result of the kind, so that a notebook waits for its own alone.
TOPICS = ("churn", "crisis", "funnel", "growth", "review", "verdicts", "watch")


def label_metric(name: str) -> str:
    """The name of a metric for people."""
    return say(METRIC_LABELS[name]) if name in METRIC_LABELS else name.replace("_", " ")


def name_column(column: str) -> str:
    """A column of users, as people call it.

    >>> name_column("app_version"), name_column("member_level")
    ('app version', 'member level')
    """
    words = column.replace("_", " ")
    return say(words) if words in COLUMNS else words


def spell_column(column: str) -> str:
    """A column where people choose or see it as it is written: in English its own name, else what it is called."""
    return column if get_language() == "en" else name_column(column)


def name_need(need: str) -> str:
    """What an answer needs: a table, or table.column, under its own name; everything else in the language spoken."""
    return need if need.partition(".")[0] in CONTRACTS else say(need)


def list_needs(needs: Iterable[str]) -> str:
    """Several of them.

    >>> list_needs(["orders", "users.channel"])
    'orders, users.channel'
    """
    return say(", ").join(map(name_need, needs))


def name_value(value: str) -> str:
    """A value of such a column; only what stands for others or for none is translated.

    >>> name_value("search"), name_value("(not given)")
    ('search', '(not given)')
    """
    return say(value) if value in VALUES else value


def name_group(column: str, value: str) -> str:
    """A group of users.

    >>> name_group("app_version", "5.3.0")
    'app_version 5.3.0'
    """
    return say("{column} {value}", column=spell_column(column), value=name_value(value))


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
    for least, size, text in SIZES[get_language()]:
        if abs(value) >= least:
            return say(text, value=value / size)
    return f"{value:,.2f}" if abs(value) < 1000 else f"{value:,.0f}"


def format_interval(estimate: Estimate, *, currency: str = "") -> str:
    """Write an estimate's interval, for example `[20.1% to 22.6%]`."""
    if not estimate.known:
        return ""
    low, high = (format_number(x, estimate.unit) for x in (estimate.low, estimate.high))
    return say("[{low} to {high}]", low=low, high=high)


def format_estimate(estimate: Estimate, *, currency: str = "") -> str:
    """Write an estimate with its interval, or why there is none."""
    if not estimate.known:
        return estimate.note or say("not enough data")
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
        text = say("{points:+.1f} points", points=100 * change.difference)
    elif change.relative is not None:
        text = f"{change.relative:+.1%}"
    else:
        text = f"{change.difference:+,.0f}"
    if against:
        text = say("{change} against {against}", change=text, against=against)
    return text if change.clear else say("{change}, within chance", change=text)


def name_users(segment: str) -> str:
    """Whom a result is about.

    >>> name_users("channel:search"), name_users("")
    ('users with channel search', 'all users')
    """
    if not segment:
        return say("all users")
    column, _, value = segment.partition(":")
    return say("users with {group}", group=name_group(column, value.replace(":", " ")))


def write_sentence(text: str) -> str:
    """A note as a sentence: a capital, and one full stop.

    >>> write_sentence("nobody left."), write_sentence("")
    ('Nobody left.', '')
    """
    return say("{text}.", text=f"{text[0].upper()}{text[1:].rstrip('.。')}") if text else ""


def format_points(value: float, low: float, high: float) -> str:
    """A difference of rates with its interval, in points.

    >>> format_points(-0.0411, -0.062, -0.02)
    '-4.1 points [-6.2 to -2.0]'
    """
    if math.isnan(low) or math.isnan(high):
        return say("{points:+.1f} points, without an interval", points=100 * value)
    return say("{points:+.1f} points [{low:.1f} to {high:.1f}]", points=100 * value, low=100 * low, high=100 * high)


def name_segment(segment: str) -> str:
    """Write a segment of an explanation as people do.

    >>> name_segment("channel=ads & app_version=5.3.0")
    'channel ads and app version 5.3.0'
    """
    parts = (part.partition("=") for part in segment.split(" & "))
    named = (say("{column} {value}", column=name_column(c), value=name_value(value)) for c, _, value in parts)
    return say(" and ").join(named)


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
    _, layer, topic, *_ = [*type(result).__module__.split("."), "", ""]
    if layer == "decide" and topic in TOPICS:
        for module in ("words", "actions"):
            if importlib.util.find_spec(f"opslib.present.{topic}.{module}"):
                importlib.import_module(f"opslib.present.{topic}.{module}")
    found = function.dispatch(type(result))
    return None if found is function.dispatch(object) else found


@describe.register
def _describe_fitness(fitness: DataFitness) -> list[str]:
    tables = len(fitness.profiles)
    if tables > 1:
        template = mark("The data are {verdict}: {rows:,} rows in {tables} tables.")
    else:
        template = mark("The data are {verdict}: {rows:,} rows in {tables} table.")
    rows = sum(p.kept for p in fitness.profiles)
    sentences = [say(template, verdict=say(FITNESS[fitness.verdict]), rows=rows, tables=tables)]
    for severity, lead in (("unfit", mark("Must be mended: {problem}")), ("warning", mark("Be warned: {problem}"))):
        found = [p for p in fitness.problems if p.severity == severity]
        sentences += [say(lead, problem=p) for p in found[:3]]
        if len(found) > 3:
            sentences.append(say("{count} more of this kind are in the table below.", count=len(found) - 3))
    return sentences


@describe.register
def _describe_survey(survey: DataSurvey) -> list[str]:
    sentences = describe(survey.fitness)
    if survey.activity:
        active = say("whoever is in {table} is active", table=survey.activity)
    else:
        active = say("who was active when is not in them")
    span = {"zone": survey.zone, "active": active, "first": survey.span.start}
    if survey.span.days == 1:
        sentences.append(say("They are of one day, {first}, as {zone} counts days; {active}.", **span))
    else:
        sentences.append(
            say(
                "They cover {days:,} full days, from {first} to {last}, as {zone} counts days; {active}.",
                days=survey.span.days, last=survey.span.last_day, **span,
            )
        )  # fmt: skip
    able = sum(not q.missing for q in survey.questions)
    lacking = list(dict.fromkeys(m for q in survey.questions for m in q.missing))
    text = say("They can answer {able} of {count} questions.", able=able, count=len(survey.questions))
    if lacking:
        text = say(
            "They can answer {able} of {count} questions; the rest need {needs}.",
            able=able, count=len(survey.questions), needs=list_needs(lacking),
        )  # fmt: skip
    return [*sentences, text]

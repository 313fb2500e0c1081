"""The sentences of voice and crisis."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from functools import reduce
from typing import Any

import pandas as pd

from opslib.data.periods import Period
from opslib.decide.crisis.incident import Incident
from opslib.decide.crisis.investigation import VoiceInvestigation
from opslib.decide.crisis.plan import name_category
from opslib.language import join_clauses, join_sentences, mark, say
from opslib.measure.estimate import Change, Estimate
from opslib.present.parts import format_range
from opslib.present.words import (
    describe,
    describe_scope,
    format_number,
    list_limits,
    name_users,
    write_sentence,
)

# What an incident may have cost: metric -> as a subject, and its unit.
LOSSES = {
    "dau_count": (mark("active users"), "count"),
    "orders_count": (mark("orders"), "count"),
    "revenue_amount": (mark("revenue"), "amount"),
}


def format_day(day: dt.date, *, year: bool = True) -> str:
    """A day, as people write it.

    >>> format_day(dt.date(2026, 5, 9)), format_day(dt.date(2026, 5, 9), year=False)
    ('9 May 2026', '9 May')
    """
    form = say("%-d %B %Y") if year else say("%-d %B")
    return f"{day:{form}}"


def name_days(period: Period) -> str:
    """The days of an incident, as people write them.

    >>> name_days(Period(dt.date(2026, 5, 19), dt.date(2026, 5, 22), ""))
    'from 19 to 21 May 2026'
    """
    first, last = period.start, period.last_day
    if first == last:
        return say("on {day}", day=format_day(first))
    if first.year != last.year:
        return say("from {first} to {last}", first=format_day(first), last=format_day(last))
    # The year stands with the last day in English, with the first in Chinese.
    start = say("from %-d") if first.month == last.month else say("from %-d %B")
    end = say(" to %-d %B %Y")
    return f"{first:{start}}{last:{end}}"


def format_share(estimate: Estimate, digits: int = 1) -> str:
    """A share with its interval; small ones need more digits."""
    if estimate.value is None or estimate.low is None or estimate.high is None:
        return estimate.note or say("not enough data")
    return format_range(estimate.value, estimate.low, estimate.high, form=f".{digits}%")


def format_nps(estimate: Estimate) -> str:
    """A net promoter score in points, with its interval."""
    if estimate.value is None or estimate.low is None or estimate.high is None:
        return estimate.note or say("not enough data")
    value, low, high = (f"{100 * x:+.0f}" for x in (estimate.value, estimate.low, estimate.high))
    return say("{value} [{low} to {high}]", value=value, low=low, high=high)


def format_times(value: float | None, low: float | None, high: float | None) -> str:
    """How many times as often, with its interval; empty where that is not known."""
    if value is None or low is None or high is None or pd.isna(value):
        return ""
    digits = 0 if value >= 10 else 1
    texts = {"value": f"{value:.{digits}f}", "low": f"{low:.{digits}f}", "high": f"{high:.{digits}f}"}
    return say("{value} times [{low} to {high}]", **texts)


@describe.register
def _describe_voice(voice: VoiceInvestigation) -> list[str]:
    parts = [say_state(voice), *say_incident(voice), say_cost(voice), say_voice(voice), say_queue(voice)]
    return [s for s in parts if s]


@describe_scope.register
def _describe_scope(voice: VoiceInvestigation) -> str:
    scope = voice.scope
    values = {"company": scope.data.playbook.company.name, "days": scope.now.label, "users": name_users(scope.segment)}
    if scope.before is None:
        return say("{company}, {days}, {users}.", **values)
    return say("{company}, {days}, {users}, compared with {before}.", **values, before=scope.before.label)


def name_rule(voice: VoiceInvestigation) -> str:
    """The rule that starts the crisis plan, in words."""
    share = f"{100 * voice.threshold_rate:g}%"
    if voice.times == 1:
        return say("more than {share} of active users complain, a day", share=share)
    text = mark("more than {share} of active users complain, {times} days running")
    return say(text, share=share, times=voice.times)


def say_state(voice: VoiceInvestigation) -> str:
    """Whether there is a crisis on the last day."""
    complaints = voice.voice.complaints
    if complaints is None:
        return say("Whether users complain cannot be told: there is no table of tickets.")
    if voice.in_crisis:
        assert voice.incident is not None and voice.incident.fired_on is not None
        text = mark("Crisis: {rule}. The rule fired on {day}; start the plan.")
        return say(text, rule=name_rule(voice), day=format_day(voice.incident.fired_on))
    last = complaints.daily.iloc[-1]
    day = format_day(last["day"].date())
    if not complaints.complaints_count.numerator:
        text = mark("No crisis: nobody complained in the {days} days to {day}.")
        return say(text, days=len(complaints.daily), day=day)
    if pd.isna(last["complaint_rate"]):
        text = mark(
            "{count:,.0f} complaints on {day}; what share of users that is cannot be told, as who was active is not "
            "known."
        )
        return say(text, count=last["complaints_count"], day=day)
    if last["complaint_rate"] > voice.threshold_rate:
        text = mark(
            "Look out: on {day} {rate:.1%} of {count:,.0f} active users complained. The crisis plan starts when {rule}."
        )
    else:
        text = mark(
            "No crisis now: on {day} {rate:.2%} of {count:,.0f} active users complained. The crisis plan starts when "
            "{rule}."
        )
    return say(text, day=day, rate=last["complaint_rate"], count=last["active_users_count"], rule=name_rule(voice))


def say_incident(voice: VoiceInvestigation) -> list[str]:
    """The incident: when, how many, of what, whether the rule fired; and how satisfied users were."""
    incident = voice.incident
    if incident is None:
        known = voice.voice.complaints is not None and voice.voice.complaints.complaints_count.numerator
        return [say("No day of these stands out: complaints stayed within what is expected.")] if known else []
    days = name_days(incident.period)
    days = days[0].upper() + days[1:]
    burst = _say_burst(voice)
    if not incident.unusual:
        text = mark("{days} there were {count:,} complaints, no more than expected")
        if incident.complaints_count == 1:
            text = mark("{days} there was {count:,} complaint, no more than expected")
        said = say(text, days=days, count=incident.complaints_count)
        return [write_sentence(say("{text}; but {burst}", text=said, burst=burst) if burst else said)]
    parts = [say("{text}.", text=_count_complaints(incident, days)), _say_category(incident), _say_end(incident)]
    return [join_sentences(parts), *([say("In these hours {burst}.", burst=burst)] if burst else [])]


def _count_complaints(incident: Incident, days: str) -> str:
    """How many complained, of how many, and how many times as many as before; without a full stop."""
    text = say(
        "{days}, {count:,} complaints came in, {excess:,.0f} beyond the expected",
        days=days, count=incident.complaints_count, excess=max(incident.excess_count, 0),
    )  # fmt: skip
    rate, times = incident.complaints.complaint_rate, incident.times
    if rate.known:
        text = say("{text}: {share} of active users a day", text=text, share=format_share(rate))
    if times.known:
        often = format_times(times.value, times.low, times.high)
        text = say("{text}, {times} as many as on the days before", text=text, times=often)
    return text


def _say_category(incident: Incident) -> str:
    rows = incident.categories
    if rows.empty:
        return say("What they are about is not known.")
    row = rows.iloc[0]
    values = {"count": row["complaints_count"], "category": name_category(str(row["category"]))}
    times = format_times(row["times_ratio"], row["times_low"], row["times_high"])
    if not times:
        return say("{count:,.0f} of them are about {category}.", **values)
    return say("{count:,.0f} of them are about {category}, {times} as often as before.", **values, times=times)


def _say_end(incident: Incident) -> str:
    """Whether it is over, and whether the rule fired."""
    if incident.fired_on is None:
        if incident.goes_on:
            return say("It goes on; the crisis rule did not fire.")
        return say("It is over; the crisis rule did not fire.")
    text = mark("It is over, and the crisis rule fired on {day}.")
    if incident.goes_on:
        text = mark("It goes on, and the crisis rule fired on {day}.")
    return say(text, day=format_day(incident.fired_on))


def _say_burst(voice: VoiceInvestigation) -> str:
    """The hours with far more requests than usual, as a clause; empty without such hours."""
    burst: dict[str, Any] = {} if voice.timeline is None else voice.timeline.burst
    if not burst:
        return ""
    first, last = burst["first_at"], burst["last_at"] + pd.Timedelta(hours=1)
    text = say(
        "from {first:%H:%M} to {last:%H:%M} on {day} {count:,.0f} requests came, {times:.1f} times the usual",
        first=first, last=last, day=format_day(first.date(), year=False),
        count=burst["requests_count"], times=burst["requests_ratio"],
    )  # fmt: skip
    if "error_rate" in burst:
        template = mark("{text}; {rate:.1%} of them failed (usually {usual:.1%})")
        text = say(template, text=text, rate=burst["error_rate"], usual=burst["usual_error_rate"])
    if "orders_count" in burst:
        orders, usual = burst["orders_count"], burst["usual_orders_count"]
        lost, low, high = (f"{x:+,.0f}" for x in (orders - usual, burst["orders_low"], burst["orders_high"]))
        change = say("{value} [{low} to {high}]", value=lost, low=low, high=high)
        change = _say_chance(change, burst["orders_low"] > 0 or burst["orders_high"] < 0)
        template = mark("{text}, and {orders:,.0f} orders came instead of {usual:,.0f} ({change})")
        text = say(template, text=text, orders=orders, usual=usual, change=change)
    return text


def _say_chance(text: str, clear: bool) -> str:
    """A change, and that it may be chance where it may."""
    return text if clear else say("{change}, within chance", change=text)


def say_cost(voice: VoiceInvestigation) -> str:
    """What the incident cost: satisfaction, users, orders, revenue."""
    incident, timeline = voice.incident, voice.timeline
    if incident is None or timeline is None:
        return ""
    rows = [(metric, row) for metric in LOSSES if (row := timeline.loss(metric)) is not None]
    parts = [_say_satisfaction(incident.satisfaction)]
    parts += [say_loss(metric, row, voice.currency) for metric, row in rows]
    early = [
        say("{name} ({rate:+.0%})", name=say(LOSSES[metric][0]), rate=row["before_rate"])
        for metric, row in rows
        if pd.notna(row["before_rate"])
    ]
    sentences = [say("What it cost: {parts}.", parts=join_clauses(parts)) if any(parts) else ""]
    if early:
        text = mark("Off their course already in the week before, which is not counted: {names}.")
        sentences.append(say(text, names=_join_all(early)))
    return join_sentences(sentences)


def _say_satisfaction(change: Change | None) -> str:
    if change is None or not change.now.known or not change.before.known:
        return ""
    text = say(
        "{now:.0%} of {count:,.0f} answers were satisfied, after {before:.0%} before",
        now=change.now.value, count=change.now.denominator, before=change.before.value,
    )  # fmt: skip
    return _say_chance(text, change.clear)


def _join_all(names: Iterable[str]) -> str:
    """Names in one row, with an `and` between each and the next."""
    return reduce(lambda words, end: say("{words} and {end}", words=words, end=end), names)


def say_loss(metric: str, row: dict[str, Any], currency: str = "") -> str:
    """One sum of an incident's days against what was expected, with its interval."""
    name, unit = LOSSES[metric]
    a_day = metric == "dau_count"
    scale = 1 / row["days_count"] if a_day else 1.0
    actual, expected, low, high = (format_number(scale * row[k], unit) for k in ("actual", "expected", "low", "high"))
    sign = "+" if row["difference"] >= 0 else ""
    difference = f"{sign}{format_number(scale * row['difference'], unit)}"
    text = mark("{amount} {name} against {expected} expected ({change})")
    if a_day and row["days_count"] > 1:
        text = mark("{amount} {name} a day against {expected} expected ({change})")
    return say(
        text,
        amount=f"{currency} {actual}" if unit == "amount" else actual,
        name=say(name),
        expected=expected,
        change=_say_chance(say("{value} [{low} to {high}]", value=difference, low=low, high=high), row["clear"]),
    )


def say_voice(voice: VoiceInvestigation) -> str:
    """The whole period: complaint rate, satisfaction, net promoter score."""
    hearing = voice.voice
    parts = []
    if hearing.complaints is not None and hearing.complaints.complaint_rate.known:
        rate = hearing.complaints.complaint_rate
        text = say("{share} of active users complained on a day", share=format_share(rate, 2))
        parts.append(_add_change(text, hearing.changes.get(rate.name), 2))
    if hearing.satisfaction is not None:
        csat, nps = hearing.satisfaction.satisfaction_rate, hearing.satisfaction.nps_ratio
        if csat.known:
            template = mark("{share} of {count:,.0f} answers were satisfied")
            text = say(template, share=format_share(csat), count=csat.denominator)
            parts.append(_add_change(text, hearing.changes.get(csat.name), 1))
        if nps.known:
            text = say("the net promoter score is {score}", score=format_nps(nps))
            parts.append(_add_change(text, hearing.changes.get(nps.name), 0))
    if not parts:
        return ""
    days, told = voice.scope.now.days, join_clauses(parts)
    return say("Over all {days} days, {parts}.", days=days, parts=told) if days > 1 else write_sentence(told)


def _add_change(text: str, change: Change | None, digits: int) -> str:
    """A clause with the change since the days before in brackets, where that is known."""
    if change is None or change.difference is None:
        return text
    points = say_points(f"{100 * change.difference:+.{digits}f}", change.now.name)
    return say("{text} ({change})", text=text, change=_say_chance(points, change.clear))


def say_points(change: str, metric: str) -> str:
    """A change in points: of a score its own, of a share percentage points."""
    return say("{score} points", score=change) if metric == "nps_ratio" else say("{rates} points", rates=change)


def say_queue(voice: VoiceInvestigation) -> str:
    """What waits, and what is late."""
    queue = voice.queue
    if queue is None:
        return ""
    if not queue.open_count:
        return say("No ticket waits.")
    waits = mark("{count:,} tickets wait") if queue.open_count > 1 else mark("{count:,} ticket waits")
    waits = say(waits, count=queue.open_count)
    if not queue.overdue_count:
        return say("{waits}, none past its clock.", waits=waits)
    first = queue.categories[queue.categories["overdue_count"] > 0].iloc[0]
    text = mark("{waits}, {late:,} past its clock; begin with {category} ({first_late:,.0f} late).")
    if queue.overdue_count > 1:
        text = mark("{waits}, {late:,} past their clocks; begin with {category} ({first_late:,.0f} late).")
    category = name_category(str(first["category"]))
    return say(text, waits=waits, late=queue.overdue_count, category=category, first_late=first["overdue_count"])


@list_limits.register
def _list_limits(voice: VoiceInvestigation) -> list[str]:
    hearing, limits = voice.voice, list(voice.scope.notes)
    parts = (hearing.complaints, hearing.tickets, hearing.satisfaction)
    for part in parts:
        limits += [] if part is None else [write_sentence(note) for note in part.notes]
    if hearing.satisfaction is not None:
        limits.append(
            say(
                "Who was asked is not in the data: response rates are of active users, and those who answer may be "
                "others than those who do not."
            )
        )
    limits += _limit_timeline(voice)
    if voice.market.events and not voice.market.effects.empty:
        limits.append(say("A market event is told by its date alone: what else happened then counts as well."))
    text = mark("{section}: not shown, it needs {table}.")
    limits += [say(text, section=say(section), table=say(table)) for section, table in voice.missing.items()]
    return list(dict.fromkeys(limits))


def _limit_timeline(voice: VoiceInvestigation) -> list[str]:
    timeline = voice.timeline
    if timeline is None:
        return []
    limits = [
        say(
            "What was lost is what a day of its kind would have brought, by the days before it; whether the incident "
            "or something else on the same days took it, the data cannot tell."
        )
    ]
    if timeline.holidays:
        text = mark("The incident lies in {holidays}, so it is held against ordinary days.")
        limits.append(say(text, holidays=_join_all(timeline.holidays)))
    limits += [write_sentence(note) for note in dict.fromkeys(timeline.missing.values()) if note]
    if voice.scope.segment and "requests_count" not in timeline.missing:
        limits.append(say("Traffic is of the whole site: of a request nobody knows whose it is."))
    return limits

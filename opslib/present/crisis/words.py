"""The sentences of voice and crisis."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pandas as pd

from opslib.data.periods import Period
from opslib.decide.crisis.incident import Incident
from opslib.decide.crisis.investigation import VoiceInvestigation
from opslib.measure.estimate import Change, Estimate
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
    "dau_count": ("active users", "count"),
    "orders_count": ("orders", "count"),
    "revenue_amount": ("revenue", "amount"),
}


def name_category(name: str) -> str:
    """A category of tickets, for people.

    >>> name_category("service_delay")
    'service delay'
    """
    return name.replace("_", " ")


def format_day(day: dt.date, *, year: bool = True) -> str:
    """A day, as people write it.

    >>> format_day(dt.date(2026, 5, 9)), format_day(dt.date(2026, 5, 9), year=False)
    ('9 May 2026', '9 May')
    """
    return f"{day.day} {day:%B %Y}" if year else f"{day.day} {day:%B}"


def name_days(period: Period) -> str:
    """The days of an incident, as people write them.

    >>> name_days(Period(dt.date(2026, 5, 19), dt.date(2026, 5, 22), ""))
    'from 19 to 21 May 2026'
    """
    first, last = period.start, period.last_day
    if first == last:
        return f"on {format_day(first)}"
    if (first.year, first.month) == (last.year, last.month):
        return f"from {first.day} to {format_day(last)}"
    return f"from {format_day(first, year=first.year != last.year)} to {format_day(last)}"


def format_share(estimate: Estimate, digits: int = 1) -> str:
    """A share with its interval; small ones need more digits."""
    if estimate.value is None or estimate.low is None or estimate.high is None:
        return estimate.note or "not enough data"
    return f"{estimate.value:.{digits}%} [{estimate.low:.{digits}%} to {estimate.high:.{digits}%}]"


def format_nps(estimate: Estimate) -> str:
    """A net promoter score in points, with its interval."""
    if estimate.value is None or estimate.low is None or estimate.high is None:
        return estimate.note or "not enough data"
    return f"{100 * estimate.value:+.0f} [{100 * estimate.low:+.0f} to {100 * estimate.high:+.0f}]"


def format_times(estimate: Estimate) -> str:
    """How many times as often, with its interval."""
    if estimate.value is None or estimate.low is None or estimate.high is None:
        return ""
    digits = 0 if estimate.value >= 10 else 1
    return f"{estimate.value:.{digits}f} times [{estimate.low:.{digits}f} to {estimate.high:.{digits}f}]"


@describe.register
def _describe_voice(voice: VoiceInvestigation) -> list[str]:
    parts = [say_state(voice), *say_incident(voice), say_cost(voice), say_voice(voice), say_queue(voice)]
    return [s for s in parts if s]


@describe_scope.register
def _describe_scope(voice: VoiceInvestigation) -> str:
    scope = voice.scope
    text = f"{scope.data.playbook.company.name}, {scope.now.label}, {name_users(scope.segment)}"
    return f"{text}, compared with {scope.before.label}." if scope.before is not None else f"{text}."


def name_rule(voice: VoiceInvestigation) -> str:
    """The rule that starts the crisis plan, in words."""
    share = f"{100 * voice.threshold_rate:g}%"
    days = "a day" if voice.times == 1 else f"{voice.times} days running"
    return f"more than {share} of active users complain, {days}"


def say_state(voice: VoiceInvestigation) -> str:
    """Whether there is a crisis on the last day."""
    complaints = voice.voice.complaints
    if complaints is None:
        return "Whether users complain cannot be told: there is no table of tickets."
    if voice.in_crisis:
        assert voice.incident is not None and voice.incident.fired_on is not None
        return f"Crisis: {name_rule(voice)}. The rule fired on {format_day(voice.incident.fired_on)}; start the plan."
    last = complaints.daily.iloc[-1]
    day = format_day(last["day"].date())
    if not complaints.complaints_count.numerator:
        return f"No crisis: nobody complained in the {len(complaints.daily)} days to {day}."
    if pd.isna(last["complaint_rate"]):
        count = f"{last['complaints_count']:,.0f} complaints on {day}"
        return f"{count}; what share of users that is cannot be told, as who was active is not known."
    if last["complaint_rate"] > voice.threshold_rate:
        return (
            f"Look out: on {day} {last['complaint_rate']:.1%} of {last['active_users_count']:,.0f} active users "
            f"complained. The crisis plan starts when {name_rule(voice)}."
        )
    return (
        f"No crisis now: on {day} {last['complaint_rate']:.2%} of {last['active_users_count']:,.0f} active users "
        f"complained. The crisis plan starts when {name_rule(voice)}."
    )


def say_incident(voice: VoiceInvestigation) -> list[str]:
    """The incident: when, how many, of what, whether the rule fired; and how satisfied users were."""
    incident = voice.incident
    if incident is None:
        known = voice.voice.complaints is not None and voice.voice.complaints.complaints_count.numerator
        return ["No day of these stands out: complaints stayed within what is expected."] if known else []
    rate = incident.complaints.complaint_rate
    days = name_days(incident.period)
    days = days[0].upper() + days[1:]
    if not incident.unusual:
        count = incident.complaints_count
        text = f"{days} there {'was' if count == 1 else 'were'} {count:,} complaint{'s' * (count != 1)}"
        text += ", no more than expected" + _say_burst(voice)
        return [f"{text}."]
    text = f"{days}, {incident.complaints_count:,} complaints came in, {max(incident.excess_count, 0):,.0f} beyond the "
    text += "expected"
    if rate.known:
        text += f": {format_share(rate)} of active users a day"
    if incident.times.known:
        text += f", {format_times(incident.times)} as many as on the days before"
    text += f". {_say_category(incident)}"
    text += f" It {'goes on' if incident.goes_on else 'is over'}"
    fired = incident.fired_on
    text += f", and the crisis rule fired on {format_day(fired)}." if fired else "; the crisis rule did not fire."
    return [text, *([f"In these hours{burst}."] if (burst := _say_burst(voice, lead="")) else [])]


def _say_category(incident: Incident) -> str:
    rows = incident.categories
    if rows.empty:
        return "What they are about is not known."
    row = rows.iloc[0]
    text = f"{row['complaints_count']:,.0f} of them are about {name_category(str(row['category']))}"
    if pd.notna(row["times_ratio"]):
        digits = 0 if row["times_ratio"] >= 10 else 1
        text += f", {row['times_ratio']:.{digits}f} times [{row['times_low']:.{digits}f} to "
        text += f"{row['times_high']:.{digits}f}] as often as before"
    return f"{text}."


def _say_burst(voice: VoiceInvestigation, lead: str = "; but") -> str:
    burst: dict[str, Any] = {} if voice.timeline is None else voice.timeline.burst
    if not burst:
        return ""
    first, last = burst["first_at"], burst["last_at"] + pd.Timedelta(hours=1)
    text = f"{lead} from {first:%H:%M} to {last:%H:%M} on {format_day(first.date(), year=False)} "
    text += f"{burst['requests_count']:,.0f} requests came, {burst['requests_ratio']:.1f} times the usual"
    if "error_rate" in burst:
        text += f"; {burst['error_rate']:.1%} of them failed (usually {burst['usual_error_rate']:.1%})"
    if "orders_count" in burst:
        lost = burst["orders_count"] - burst["usual_orders_count"]
        clear = burst["orders_low"] > 0 or burst["orders_high"] < 0
        text += f", and {burst['orders_count']:,.0f} orders came instead of {burst['usual_orders_count']:,.0f}"
        ends = f"{lost:+,.0f} [{burst['orders_low']:+,.0f} to {burst['orders_high']:+,.0f}]"
        text += f" ({ends}{'' if clear else ', within chance'})"
    return text


def say_cost(voice: VoiceInvestigation) -> str:
    """What the incident cost: satisfaction, users, orders, revenue."""
    incident, timeline = voice.incident, voice.timeline
    if incident is None or timeline is None:
        return ""
    parts = []
    change = incident.satisfaction
    if change is not None and change.now.known and change.before.known:
        now = change.now
        word = "" if change.clear else ", within chance"
        parts.append(
            f"{now.value:.0%} of {now.denominator:,.0f} answers were satisfied, after {change.before.value:.0%} before"
            f"{word}"
        )
    rows = [(metric, row) for metric in LOSSES if (row := timeline.loss(metric)) is not None]
    parts += [say_loss(metric, row, voice.currency) for metric, row in rows]
    text = f"What it cost: {'; '.join(parts)}." if parts else ""
    early = [(LOSSES[metric][0], row["before_rate"]) for metric, row in rows if pd.notna(row["before_rate"])]
    if early:
        names = " and ".join(f"{name} ({rate:+.0%})" for name, rate in early)
        text += f" Off their course already in the week before, which is not counted: {names}."
    return text


def say_loss(metric: str, row: dict[str, Any], currency: str = "") -> str:
    """One sum of an incident's days against what was expected, with its interval."""
    name, unit = LOSSES[metric]
    days = row["days_count"]
    scale = 1 / days if metric == "dau_count" else 1.0
    actual, expected, low, high = (format_number(scale * row[k], unit) for k in ("actual", "expected", "low", "high"))
    difference = format_number(scale * row["difference"], unit)
    sign = "+" if row["difference"] >= 0 else ""
    head = f"{currency} {actual} {name}" if unit == "amount" else f"{actual} {name}"
    head += " a day" if metric == "dau_count" and days > 1 else ""
    text = f"{head} against {expected} expected ({sign}{difference} [{low} to {high}]"
    return text + (")" if row["clear"] else ", within chance)")


def say_voice(voice: VoiceInvestigation) -> str:
    """The whole period: complaint rate, satisfaction, net promoter score."""
    hearing = voice.voice
    parts = []
    if hearing.complaints is not None and hearing.complaints.complaint_rate.known:
        rate = hearing.complaints.complaint_rate
        change = _say_change(hearing.changes.get(rate.name), 2)
        parts.append(f"{format_share(rate, 2)} of active users complained on a day{change}")
    if hearing.satisfaction is not None:
        csat, nps = hearing.satisfaction.satisfaction_rate, hearing.satisfaction.nps_ratio
        if csat.known:
            text = f"{format_share(csat)} of {csat.denominator:,.0f} answers were satisfied"
            parts.append(f"{text}{_say_change(hearing.changes.get(csat.name), 1)}")
        if nps.known:
            text = f"the net promoter score is {format_nps(nps)}"
            parts.append(f"{text}{_say_change(hearing.changes.get(nps.name), 0)}")
    if not parts:
        return ""
    days = voice.scope.now.days
    return f"Over all {days} days, {'; '.join(parts)}." if days > 1 else f"{write_sentence('; '.join(parts))}"


def _say_change(change: Change | None, digits: int) -> str:
    if change is None or change.difference is None:
        return ""
    return f" ({100 * change.difference:+.{digits}f} points{'' if change.clear else ', within chance'})"


def say_queue(voice: VoiceInvestigation) -> str:
    """What waits, and what is late."""
    queue = voice.queue
    if queue is None:
        return ""
    if not queue.open_count:
        return "No ticket waits."
    waits = f"{queue.open_count:,} ticket{'s wait' if queue.open_count > 1 else ' waits'}"
    if not queue.overdue_count:
        return f"{waits}, none past its clock."
    first = queue.categories[queue.categories["overdue_count"] > 0].iloc[0]
    return (
        f"{waits}, {queue.overdue_count:,} past {'their clocks' if queue.overdue_count > 1 else 'its clock'}; "
        f"begin with {name_category(str(first['category']))} ({first['overdue_count']:,.0f} late)."
    )


@list_limits.register
def _list_limits(voice: VoiceInvestigation) -> list[str]:
    hearing, limits = voice.voice, list(voice.scope.notes)
    parts = (hearing.complaints, hearing.tickets, hearing.satisfaction)
    for part in parts:
        limits += [] if part is None else [write_sentence(note) for note in part.notes]
    if hearing.satisfaction is not None:
        limits.append(
            "Who was asked is not in the data: response rates are of active users, and those who answer may be others "
            "than those who do not."
        )
    if voice.timeline is not None:
        limits.append(
            "What was lost is what a day of its kind would have brought, by the days before it; whether the incident "
            "or something else on the same days took it, the data cannot tell."
        )
        if voice.timeline.holidays:
            names = " and ".join(voice.timeline.holidays)
            limits.append(f"The incident lies in {names}, so it is held against ordinary days.")
        limits += [write_sentence(note) for note in dict.fromkeys(voice.timeline.missing.values()) if note]
        if voice.scope.segment and "requests_count" not in voice.timeline.missing:
            limits.append("Traffic is of the whole site: of a request nobody knows whose it is.")
    if voice.market.events and not voice.market.effects.empty:
        limits.append("A market event is told by its date alone: what else happened then counts as well.")
    limits += [f"{section}: not shown, it needs {table}." for section, table in voice.missing.items()]
    return list(dict.fromkeys(limits))

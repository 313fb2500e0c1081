"""Results in words: numbers with units, and the sentences of each notebook's answer.

Measuring knows no language; every sentence that quotes a result is made here.
"""

from __future__ import annotations

from functools import singledispatch

import pandas as pd

from opslib.data.fitness import DataFitness
from opslib.decide.questions import DataSurvey
from opslib.decide.review import QuarterlyReview
from opslib.decide.targets import TargetVerdict
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
}

MISSING = "–"


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


@singledispatch
def describe(result: object) -> list[str]:
    """Say a result in three to five sentences, the answer first.

    Raises:
        TypeError: there are no words for this kind of result.
    """
    raise TypeError(f"there are no words for {type(result).__name__}")


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
    sentences.append(
        f"They cover {survey.span.days:,} full days, from {survey.span.start} to {survey.span.last_day}, as "
        f"{survey.zone} counts days; whoever is in {survey.activity} is active."
    )
    able = [q for q in survey.questions if not q.missing]
    text = f"They can answer {len(able)} of {len(survey.questions)} questions"
    lacking = list(dict.fromkeys(m for q in survey.questions for m in q.missing))
    return [*sentences, f"{text}; the rest need {', '.join(lacking)}." if lacking else f"{text}."]


@describe.register
def _describe_review(review: QuarterlyReview) -> list[str]:
    sentences = [_say_activity(review), _say_growth(review), _say_retention(review)]
    sentences += [s for s in (_say_money(review), _say_targets(review)) if s]
    return sentences


def describe_scope(review: QuarterlyReview) -> str:
    """What a review covers: company, quarter, comparison, segment."""
    now, before = review.now.period, review.before.period if review.before else None
    who = f"users with {review.segment.replace(':', ' ')}" if review.segment else "all users"
    text = f"{review.company}, {now.label} ({now.start} to {now.last_day}), {who}"
    return text + (f", compared with {before.label}." if before else ".")


def _say_activity(review: QuarterlyReview) -> str:
    change = review.changes()["dau_count"]
    stickiness = review.now.activity.stickiness
    text = f"In {review.now.period.label} {format_estimate(change.now)} users were active on an average day"
    if review.before and change.difference is not None:
        text += f" ({format_change(change, against=review.before.period.label)})"
    if stickiness.known:
        text += f"; an active user of the last 28 days came on {28 * (stickiness.value or 0):.1f} of them"
    return text + "."


def _say_growth(review: QuarterlyReview) -> str:
    row = review.growth.periods.iloc[-1]
    net = int(row["closing_count"] - row["opening_count"])
    text = (
        f"Of the quarter's {row['closing_count']:,} active users {row['new_count']:,} were new, "
        f"{row['resurrected_count']:,} came back and {row['retained_count']:,} stayed; {row['churned_count']:,} of the "
        f"{row['opening_count']:,} of the quarter before did not return: {net:+,} in all"
    )
    if pd.notna(row["quick_ratio"]):
        text += f", {row['quick_ratio']:.2f} gained for each one lost"
    return text + "."


def _say_retention(review: QuarterlyReview) -> str:
    changes = review.changes()
    parts = []
    for name, words in (("d1_rate", "the next day"), ("d7_rate", "on day 7"), ("d30_rate", "on day 30")):
        change = changes[name]
        if change.now.known:
            share = f"{format_number(change.now.value, 'rate')} of {change.now.denominator:,.0f}"
            parts.append(f"{share} came back {words}{_against(change, review)}")
    if not parts:
        return "Too few new users have had time to come back to say anything of retention."
    return f"Of new users, {'; '.join(parts)}."


def _say_money(review: QuarterlyReview) -> str:
    changes, currency = review.changes(), review.currency
    parts = []
    if review.now.revenue:
        payers, revenue = changes["paying_users_count"], changes["revenue_amount"]
        text = f"{format_number(payers.now.value, 'count')} users paid "
        text += format_number(revenue.now.value, "amount", currency=currency)
        parts.append(text + _against(revenue, review))
    if "cac_amount" in changes:
        cac = changes["cac_amount"]
        if cac.now.known:
            cost = format_number(cac.now.value, "amount", currency=currency)
            parts.append(f"a new user from a channel with spend cost {cost}{_against(cac, review)}")
    text = "; ".join(parts)
    return f"{text[0].upper()}{text[1:]}." if text else ""


def _say_targets(review: QuarterlyReview) -> str:
    verdicts = list(review.targets.values())
    if not verdicts:
        return ""
    met = sum(v.status == "met" for v in verdicts)
    missed = [v for v in verdicts if v.status == "missed"]
    unclear = len(verdicts) - met - len(missed)
    text = f"Targets: {met} met, {len(missed)} missed, {unclear} not decided, of {len(verdicts)}"
    if missed:
        text += ". Missed: " + "; ".join(_say_missed(v, review.currency) for v in missed)
    return text + "."


def _say_missed(verdict: TargetVerdict, currency: str) -> str:
    unit = verdict.estimate.unit
    bound, value = (format_number(x, unit, currency=currency) for x in (verdict.target.bound, verdict.estimate.value))
    return f"{label_metric(verdict.estimate.name)} is {value} against {bound}"


def _against(change: Change, review: QuarterlyReview) -> str:
    return f" ({format_change(change)})" if change.difference is not None and review.before else ""


def suggest_actions(review: QuarterlyReview) -> list[str]:
    """What to do next: one line for each missed target and each clear fall, the largest shortfall first."""
    changes = review.changes()
    missed = [v for v in review.targets.values() if v.status == "missed"]
    missed.sort(key=lambda v: abs(v.gap or 0) / (abs(v.target.bound) or 1), reverse=True)
    actions = [f"{_say_missed(v, review.currency)}: give it an owner and a date." for v in missed]
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
    actions += [f"{section}: add table {table} to the playbook." for section, table in review.missing.items()]
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

"""The sentences of the quarterly review."""

from __future__ import annotations

import pandas as pd

from opslib.decide.review import QuarterlyReview
from opslib.decide.targets import TargetVerdict
from opslib.measure.estimate import Change
from opslib.present.words import (
    describe,
    describe_scope,
    format_change,
    format_estimate,
    format_number,
    label_metric,
    list_limits,
    name_users,
    suggest_actions,
    write_sentence,
)


@describe.register
def _describe_review(review: QuarterlyReview) -> list[str]:
    sentences = [_say_activity(review), _say_growth(review), _say_retention(review)]
    sentences += [s for s in (_say_money(review), _say_targets(review)) if s]
    return sentences


@describe_scope.register
def _describe_scope(review: QuarterlyReview) -> str:
    now, before = review.now.period, review.before.period if review.before else None
    who = name_users(review.segment)
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
    return write_sentence(text)


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


@list_limits.register
def _list_limits(review: QuarterlyReview) -> list[str]:
    immature = review.now.retention.immature
    waiting = ", ".join(f"{count:,} for day {n}" for n, count in immature.items() if count)
    limits = list(review.notes)
    if waiting:
        limits.append(f"New users whose day has not come yet are in no retention rate: {waiting}.")
    limits += [f"{section} is missing: it needs table {table}." for section, table in review.missing.items()]
    return limits or ["The data cover both quarters in full, and every new user's days have come."]


@suggest_actions.register
def _suggest_actions(review: QuarterlyReview) -> list[str]:
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

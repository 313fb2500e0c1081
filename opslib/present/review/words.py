"""The sentences of the quarterly review."""

from __future__ import annotations

from typing import Any

import pandas as pd

from opslib.decide.review.budget import BudgetReview
from opslib.decide.review.review import QuarterlyReview
from opslib.decide.targets import TargetVerdict
from opslib.measure.estimate import Change, Estimate
from opslib.present.words import (
    describe,
    describe_scope,
    format_change,
    format_estimate,
    format_number,
    label_metric,
    name_users,
    write_sentence,
)

LEVER_NAMES = {
    "acquisition": "new users",
    "activation": "new users seen again within a week",
    "newcomers_kept": "last quarter's new users kept",
    "retention": "older users kept",
    "resurrection": "users who came back",
    "base": "how many there were to keep",
    "payer_share": "share of users who pay",
    "orders_per_payer": "orders per paying user",
    "order_value": "amount per order",
}
ANSWERS = {
    "yes": "Yes",
    "no": "No",
    "in part": "In part",
    "unclear": "It cannot be told",
    "less was spent": "Less was spent",
    "spend did not move": "It was not tried",
}
QUESTION = "Is the budget bringing effective growth?"
# A lever that did less than this did nothing: it is rounding.
STILL = 0.005
# Channels named in the sentence; the table has them all.
NAMED_CHANNELS = 2


@describe.register
def _describe_review(review: QuarterlyReview) -> list[str]:
    sentences = [_say_activity(review), _say_growth(review), _say_retention(review), _say_money(review)]
    last = " ".join(s for s in (_say_targets(review), _say_operations(review)) if s)
    return [s for s in (*sentences, say_budget(review), last) if s]


def _say_operations(review: QuarterlyReview) -> str:
    """What fired, and which initiatives work."""
    firings, verdicts = review.operations.firings, review.operations.verdicts
    parts = []
    if len(firings):
        sure = int(firings["calibrated"].sum())
        answered = int((firings["done"] != "").sum())
        parts.append(f"rules fired {len(firings)} times, {sure} beyond chance, {answered} with a note of what was done")
    started = [v for v in verdicts if v.reason != "not_started"]
    if started:
        names = {w: [v.initiative.name for v in started if v.verdict == w] for w in ("effective", "not effective")}
        told = [
            f"{', '.join(found)} {'work' if len(found) > 1 else 'works'}" for found in [names["effective"]] if found
        ]
        told += [f"{' and '.join(f)} {'do' if len(f) > 1 else 'does'} not" for f in [names["not effective"]] if f]
        open_count = len(started) - sum(map(len, names.values()))
        told += [f"{open_count} cannot be decided yet"] if open_count else []
        parts.append(f"of {len(started)} initiatives begun, {'; '.join(told)}")
    return write_sentence("; ".join(parts))


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
        parts.append(text + _against(revenue, review) + _say_levers(review))
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
        text += ". Missed: " + "; ".join(say_missed(v, review.currency) for v in missed)
    return text + "."


def say_missed(verdict: TargetVerdict, currency: str) -> str:
    unit = verdict.estimate.unit
    bound, value = (format_number(x, unit, currency=currency) for x in (verdict.target.bound, verdict.estimate.value))
    return f"{label_metric(verdict.estimate.name)} is {value} against {bound}"


def _against(change: Change, review: QuarterlyReview) -> str:
    return f" ({format_change(change)})" if change.difference is not None and review.before else ""


def _say_levers(review: QuarterlyReview) -> str:
    """The two levers that moved revenue most, of those that surely did."""
    frame = review.bridge.revenue if review.bridge else None
    if frame is None:
        return ""
    clear = frame[(frame["change_low"] > 0) | (frame["change_high"] < 0)]
    top = clear.sort_values("change_amount", key=abs, ascending=False).head(2)
    if top.empty:
        return ""
    named = [
        f"{LEVER_NAMES[lever]} ({format_signed(change, review.currency)})"
        for lever, change in zip(top["lever"], top["change_amount"], strict=True)
    ]
    return f", moved most by: {', '.join(named)}"


def drop_still(frame: pd.DataFrame, column: str) -> pd.DataFrame:
    """The levers of a bridge without those that these data do not have, such as new users where nobody is new."""
    same = (frame["driver_before"] == frame["driver_now"]) | frame[["driver_before", "driver_now"]].isna().all(axis=1)
    return frame[~(same & (frame[column].abs() < STILL))]


def format_signed(value: float, currency: str) -> str:
    """Money with its sign, for example `CNY +1,250`."""
    sign = "+" if value >= 0 else "−"
    amount = format_number(abs(value), "amount")
    return f"{currency} {sign}{amount}".strip()


def say_budget(review: QuarterlyReview) -> str:
    """Is the budget bringing effective growth? In one sentence, with numbers; empty where spend is not known."""
    budget = review.budget
    if budget is None:
        return ""
    parts = [_say_moved(review, budget, channel) for channel in _choose_channels(budget)]
    if parts:
        return f"{QUESTION} {ANSWERS[budget.answer]}: {'; '.join(parts)}."
    text = "no channel's spend a day moved by more than a fifth" if budget.shift else "there is nothing to compare"
    return f"{QUESTION} {ANSWERS[budget.answer]}: {text}{_say_total_cost(review, budget)}."


def _choose_channels(budget: BudgetReview) -> list[str]:
    """Channels whose spend moved; those where more money brought nobody who stays come first."""
    if budget.shift is None or budget.shift.by_channel.empty:
        return []
    moved = budget.shift.by_channel[budget.shift.by_channel["verdict"] != "not_moved"]
    worse = moved["verdict"] == "more_users_not_retained"
    ordered = moved.assign(_worse=~worse, _size=-moved["extra_spend_amount"].abs())
    return [str(c) for c in ordered.sort_values(["_worse", "_size", "channel"])["channel"].head(NAMED_CHANNELS)]


def _say_moved(review: QuarterlyReview, budget: BudgetReview, channel: str) -> str:
    assert budget.shift is not None
    row = budget.shift.by_channel.set_index("channel").loc[channel]
    more = bool(row["extra_spend_amount"] > 0)
    money = format_number(abs(row["extra_spend_amount"]), "amount", currency=review.currency)
    share = f" ({row['spend_change_rate']:+.0%})" if pd.notna(row["spend_change_rate"]) else ""
    text = f"in {channel} {money} {'more' if more else 'less'}{share}"
    if row["verdict"] == "not_enough_data":
        return f"{text} met too few new users to say"
    users = _format_count(row, "extra_users")
    day = budget.shift.retained_day
    text += f" {'bought' if more else 'went with'} {users}, {_say_kept(row, more, day)}"
    return text + _say_channel_cost(review, budget, channel)


def _format_count(row: Any, name: str) -> str:
    count = abs(row[f"{name}_count"])
    word = "more" if row[f"{name}_count"] >= 0 else "fewer"
    return f"{count:,.0f} {word} new users [{row[f'{name}_low']:+,.0f} to {row[f'{name}_high']:+,.0f}]"


def _say_kept(row: Any, more: bool, day: int) -> str:
    count, low, high = (row[f"extra_retained_{part}"] for part in ("count", "low", "high"))
    numbers = f"{count:+,.0f} users [{low:+,.0f} to {high:+,.0f}]"
    if low > 0 or high < 0:
        return f"{'and' if (count > 0) == more else 'yet'} {numbers} still there on day {day}"
    if more:
        none = "none of them" if count <= 0 else "not clearly any of them"
        return f"{none} still there on day {day} ({numbers})"
    return f"without a clear change in those still there on day {day} ({numbers})"


def _say_channel_cost(review: QuarterlyReview, budget: BudgetReview, channel: str) -> str:
    rows = budget.by_channel[budget.by_channel["channel"] == channel]
    if rows.empty or pd.isna(rows["cost_per_d7_amount"].iloc[0]):
        return ""
    row = rows.iloc[0]
    if pd.isna(row["before_cost_per_d7_amount"]):
        return f"; each one who stays there costs {_format_cost(row, '', review.currency)}"
    costs = [_format_cost(row, side, review.currency) for side in ("before_", "")]
    return f"; the cost of each one who stays there went from {costs[0]} to {costs[1]}"


def _format_cost(row: Any, side: str, currency: str) -> str:
    value, low, high = (row[f"{side}cost_per_d7_{part}"] for part in ("amount", "low", "high"))
    ends = " to ".join(format_number(x, "amount") for x in (low, high))
    return f"{format_number(value, 'amount', currency=currency)} [{ends}]"


def _say_total_cost(review: QuarterlyReview, budget: BudgetReview) -> str:
    now: Estimate | None = budget.now.totals.get("cost_per_d7_amount")
    if now is None or not now.known:
        return ""
    text = f"; a user who stays to day 7 costs {format_estimate(now, currency=review.currency)}"
    change = budget.changes().get("cost_per_d7_amount")
    return text + (f" ({format_change(change)})" if change is not None and change.difference is not None else "")

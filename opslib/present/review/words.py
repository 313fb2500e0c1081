"""The sentences of the quarterly review."""

from __future__ import annotations

from functools import reduce
from typing import Any

import pandas as pd

from opslib.decide.review.budget import BudgetReview
from opslib.decide.review.review import QuarterlyReview
from opslib.decide.targets import TargetVerdict
from opslib.decide.verdicts.verdict import Verdict
from opslib.language import join_clauses, join_sentences, mark, say
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
    "acquisition": mark("new users"),
    "activation": mark("new users seen again within a week"),
    "newcomers_kept": mark("last quarter's new users kept"),
    "retention": mark("older users kept"),
    "resurrection": mark("users who came back"),
    "base": mark("how many there were to keep"),
    "payer_share": mark("share of users who pay"),
    "orders_per_payer": mark("orders per paying user"),
    "order_value": mark("amount per order"),
}
ANSWERS = {
    "yes": mark("Yes"),
    "no": mark("No"),
    "in part": mark("In part"),
    "unclear": mark("It cannot be told"),
    "less was spent": mark("Less was spent"),
    "spend did not move": mark("It was not tried"),
}
QUESTION = mark("Is the budget bringing effective growth?")
# A lever that did less than this did nothing: it is rounding.
STILL = 0.005
# Channels named in the sentence; the table has them all.
NAMED_CHANNELS = 2


@describe.register
def _describe_review(review: QuarterlyReview) -> list[str]:
    sentences = [_say_activity(review), _say_growth(review), _say_retention(review), _say_money(review)]
    last = join_sentences([_say_targets(review), _say_operations(review)])
    return [s for s in (*sentences, say_budget(review), last) if s]


def _say_operations(review: QuarterlyReview) -> str:
    """What fired, and which initiatives work."""
    firings, verdicts = review.operations.firings, review.operations.verdicts
    parts = []
    if len(firings):
        parts.append(
            say(
                "rules fired {count} times, {sure} beyond chance, {answered} with a note of what was done",
                count=len(firings),
                sure=int(firings["calibrated"].sum()),
                answered=int((firings["done"] != "").sum()),
            )
        )
    started = [v for v in verdicts if v.reason != "not_started"]
    if started:
        told = join_clauses(_say_verdicts(started))
        parts.append(say("of {count} initiatives begun, {told}", count=len(started), told=told))
    return write_sentence(join_clauses(parts))


def _say_verdicts(started: list[Verdict]) -> list[str]:
    """Which initiatives work, which do not, and how many cannot be told."""
    work, fail = ([v.initiative.name for v in started if v.verdict == w] for w in ("effective", "not effective"))
    told = []
    if work:
        names = say(", ").join(work)
        told.append(say("{names} work", names=names) if len(work) > 1 else say("{names} works", names=names))
    if fail:
        names = reduce(lambda words, end: say("{words} and {end}", words=words, end=end), fail)
        told.append(say("{names} do not", names=names) if len(fail) > 1 else say("{names} does not", names=names))
    left = len(started) - len(work) - len(fail)
    return [*told, say("{count} cannot be decided yet", count=left)] if left else told


@describe_scope.register
def _describe_scope(review: QuarterlyReview) -> str:
    now = review.now.period
    text = say(
        "{company}, {quarter} ({first} to {last}), {users}",
        company=review.company,
        quarter=now.label,
        first=now.start,
        last=now.last_day,
        users=name_users(review.segment),
    )
    if review.before:
        return say("{text}, compared with {before}.", text=text, before=review.before.period.label)
    return say("{text}.", text=text)


def add_note(text: str, note: str) -> str:
    """A text with a note in brackets, where there is one."""
    return say("{text} ({note})", text=text, note=note) if note else text


def _say_activity(review: QuarterlyReview) -> str:
    change = review.changes()["dau_count"]
    stickiness = review.now.activity.stickiness
    text = say(
        "In {quarter} {users} users were active on an average day",
        quarter=review.now.period.label,
        users=format_estimate(change.now),
    )
    if review.before and change.difference is not None:
        text = add_note(text, format_change(change, against=review.before.period.label))
    if not stickiness.known:
        return say("{text}.", text=text)
    days = say(
        "an active user of the last 28 days came on {days:.1f} of them",
        days=28 * (stickiness.value or 0),
    )
    return say("{text}.", text=join_clauses([text, days]))


def _say_growth(review: QuarterlyReview) -> str:
    row = review.growth.periods.iloc[-1]
    text = say(
        "Of the quarter's {closing:,} active users {new:,} were new, {back:,} came back and {stayed:,} stayed; "
        "{left:,} of the {opening:,} of the quarter before did not return: {net:+,} in all",
        closing=row["closing_count"],
        new=row["new_count"],
        back=row["resurrected_count"],
        stayed=row["retained_count"],
        left=row["churned_count"],
        opening=row["opening_count"],
        net=int(row["closing_count"] - row["opening_count"]),
    )
    if pd.notna(row["quick_ratio"]):
        text = say("{text}, {ratio:.2f} gained for each one lost", text=text, ratio=row["quick_ratio"])
    return say("{text}.", text=text)


RETURNED = {
    "d1_rate": mark("{rate} of {count:,.0f} came back the next day"),
    "d7_rate": mark("{rate} of {count:,.0f} came back on day 7"),
    "d30_rate": mark("{rate} of {count:,.0f} came back on day 30"),
}


def _say_retention(review: QuarterlyReview) -> str:
    changes = review.changes()
    parts = []
    for name, template in RETURNED.items():
        change = changes[name]
        if change.now.known:
            rate = format_number(change.now.value, "rate")
            text = say(template, rate=rate, count=change.now.denominator)
            parts.append(add_note(text, _against(change, review)))
    if not parts:
        return say("Too few new users have had time to come back to say anything of retention.")
    return say("Of new users, {told}.", told=join_clauses(parts))


def _say_money(review: QuarterlyReview) -> str:
    changes, currency = review.changes(), review.currency
    parts = []
    if review.now.revenue:
        payers, revenue = changes["paying_users_count"], changes["revenue_amount"]
        text = say(
            "{users} users paid {money}",
            users=format_number(payers.now.value, "count"),
            money=format_number(revenue.now.value, "amount", currency=currency),
        )
        parts.append(_add_levers(add_note(text, _against(revenue, review)), review))
    if "cac_amount" in changes:
        cac = changes["cac_amount"]
        if cac.now.known:
            cost = format_number(cac.now.value, "amount", currency=currency)
            text = say("a new user from a channel with spend cost {cost}", cost=cost)
            parts.append(add_note(text, _against(cac, review)))
    return write_sentence(join_clauses(parts))


def _say_targets(review: QuarterlyReview) -> str:
    verdicts = list(review.targets.values())
    if not verdicts:
        return ""
    met = sum(v.status == "met" for v in verdicts)
    missed = [v for v in verdicts if v.status == "missed"]
    head = say(
        "Targets: {met} met, {missed} missed, {open} not decided, of {count}.",
        met=met,
        missed=len(missed),
        open=len(verdicts) - met - len(missed),
        count=len(verdicts),
    )
    if not missed:
        return head
    told = join_clauses(say_missed(v, review.currency) for v in missed)
    return join_sentences([head, say("Missed: {told}.", told=told)])


def say_missed(verdict: TargetVerdict, currency: str) -> str:
    unit = verdict.estimate.unit
    bound, value = (format_number(x, unit, currency=currency) for x in (verdict.target.bound, verdict.estimate.value))
    return say(
        "{metric} is {value} against {bound}", metric=label_metric(verdict.estimate.name), value=value, bound=bound
    )


def _against(change: Change, review: QuarterlyReview) -> str:
    return format_change(change) if change.difference is not None and review.before else ""


def _add_levers(text: str, review: QuarterlyReview) -> str:
    """The two levers that moved revenue most, of those that surely did."""
    frame = review.bridge.revenue if review.bridge else None
    if frame is None:
        return text
    clear = frame[(frame["change_low"] > 0) | (frame["change_high"] < 0)]
    top = clear.sort_values("change_amount", key=abs, ascending=False).head(2)
    if top.empty:
        return text
    named = [
        add_note(say(LEVER_NAMES[lever]), format_signed(change, review.currency))
        for lever, change in zip(top["lever"], top["change_amount"], strict=True)
    ]
    return say("{text}, moved most by: {levers}", text=text, levers=say(", ").join(named))


def name_lever(lever: str) -> str:
    """A lever at the beginning of a line."""
    name = say(LEVER_NAMES[lever])
    return f"{name[0].upper()}{name[1:]}"


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
    told = join_clauses(_say_moved(review, budget, channel) for channel in _choose_channels(budget))
    if not told:
        still = say("no channel's spend a day moved by more than a fifth")
        told = still if budget.shift else say("there is nothing to compare")
        told = join_clauses([told, _say_total_cost(review, budget)])
    return say("{question} {answer}: {told}.", question=say(QUESTION), answer=say(ANSWERS[budget.answer]), told=told)


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
    if more:
        spent = say("in {channel} {money} more", channel=channel, money=money)
    else:
        spent = say("in {channel} {money} less", channel=channel, money=money)
    spent = add_note(spent, f"{row['spend_change_rate']:+.0%}" if pd.notna(row["spend_change_rate"]) else "")
    if row["verdict"] == "not_enough_data":
        return say("{spent} met too few new users to say", spent=spent)
    users, kept = _format_count(row, "extra_users"), _say_kept(row, more, budget.shift.retained_day)
    if more:
        text = say("{spent} bought {users}, {kept}", spent=spent, users=users, kept=kept)
    else:
        text = say("{spent} went with {users}, {kept}", spent=spent, users=users, kept=kept)
    return join_clauses([text, _say_channel_cost(review, budget, channel)])


def _format_count(row: Any, name: str) -> str:
    count, low, high = (row[f"{name}_{part}"] for part in ("count", "low", "high"))
    if count >= 0:
        return say("{count:,.0f} more new users [{low:+,.0f} to {high:+,.0f}]", count=count, low=low, high=high)
    return say("{count:,.0f} fewer new users [{low:+,.0f} to {high:+,.0f}]", count=-count, low=low, high=high)


def _say_kept(row: Any, more: bool, day: int) -> str:
    count, low, high = (row[f"extra_retained_{part}"] for part in ("count", "low", "high"))
    users = say("{count:+,.0f} users [{low:+,.0f} to {high:+,.0f}]", count=count, low=low, high=high)
    if low > 0 or high < 0:
        if (count > 0) == more:
            return say("and {users} still there on day {day}", users=users, day=day)
        return say("yet {users} still there on day {day}", users=users, day=day)
    if more and count <= 0:
        return say("none of them still there on day {day} ({users})", users=users, day=day)
    if more:
        return say("not clearly any of them still there on day {day} ({users})", users=users, day=day)
    return say("without a clear change in those still there on day {day} ({users})", users=users, day=day)


def _say_channel_cost(review: QuarterlyReview, budget: BudgetReview, channel: str) -> str:
    rows = budget.by_channel[budget.by_channel["channel"] == channel]
    if rows.empty or pd.isna(rows["cost_per_d7_amount"].iloc[0]):
        return ""
    row = rows.iloc[0]
    now = _format_cost(row, "", review.currency)
    if pd.isna(row["before_cost_per_d7_amount"]):
        return say("each one who stays there costs {cost}", cost=now)
    before = _format_cost(row, "before_", review.currency)
    return say("the cost of each one who stays there went from {before} to {now}", before=before, now=now)


def _format_cost(row: Any, side: str, currency: str) -> str:
    value, low, high = (row[f"{side}cost_per_d7_{part}"] for part in ("amount", "low", "high"))
    return say(
        "{value} [{low} to {high}]",
        value=format_number(value, "amount", currency=currency),
        low=format_number(low, "amount"),
        high=format_number(high, "amount"),
    )


def _say_total_cost(review: QuarterlyReview, budget: BudgetReview) -> str:
    now: Estimate | None = budget.now.totals.get("cost_per_d7_amount")
    if now is None or not now.known:
        return ""
    cost = format_estimate(now, currency=review.currency)
    text = say("a user who stays to day 7 costs {cost}", cost=cost)
    change = budget.changes().get("cost_per_d7_amount")
    return add_note(text, format_change(change)) if change is not None and change.difference is not None else text

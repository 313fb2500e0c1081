"""The tables of the quarterly review: levers, budget, what fired, the next quarter and its decisions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from opslib.decide.review.review import QuarterlyReview
from opslib.language import join_sentences, mark, say
from opslib.measure.estimate import Unit
from opslib.present.display import ListView, TableView
from opslib.present.parts import format_probability
from opslib.present.review.actions import say_decision
from opslib.present.review.words import add_note, drop_still, name_lever
from opslib.present.rules import format_metric, name_rule
from opslib.present.tables import make_table
from opslib.present.words import MISSING, format_number, label_metric, write_sentence

BOUGHT = {
    "more_retained": mark("more users who stay"),
    "more_users_not_retained": mark("more users, none more who stay"),
    "more_users_retained_unclear": mark("more users; whether they stay is not clear"),
    "no_clear_gain": mark("no clear gain"),
    "fewer_retained": mark("less spend, fewer users who stay"),
    "fewer_users_retained_unclear": mark("less spend, fewer users"),
    "no_clear_loss": mark("less spend, no clear loss"),
    "not_moved": mark("spend hardly moved"),
    "not_enough_data": mark("not enough data"),
}
# What a metric's prediction goes by: what was nearest the truth before.
METHODS = {
    "growth model": mark("By the growth model: {metrics}."),
    "own drift": mark("Going on half as it moved last: {metrics}."),
}


def show_bridge(review: QuarterlyReview) -> TableView | ListView:
    """Each lever: its value before and now, and what it did to active users and to revenue."""
    bridge = review.bridge
    if bridge is None:
        reason = review.missing.get("Bridge") or say("there is no quarter before")
        return ListView([say("{section}: nothing to show, because {reason}.", section=say("Bridge"), reason=reason)])
    frame, column = (bridge.users, "change_count") if bridge.revenue is None else (bridge.revenue, "change_amount")
    users = bridge.users.set_index("lever")
    rows = []
    for row in drop_still(frame, column).to_dict("records"):
        lever, unit = row["lever"], row["driver"]
        before, now = (_format_driver(row[f"driver_{side}"], unit, review.currency) for side in ("before", "now"))
        counted = lever in users.index
        rows.append(
            {
                "lever": name_lever(lever),
                "before": before,
                "now": now,
                "users": _format_step(users.loc[lever], "change_count") if counted else MISSING,
                "revenue": _format_step(row, "change_amount") if bridge.revenue is not None else MISSING,
            }
        )
    total = bridge.users_now - bridge.users_before
    money = (bridge.revenue_now or 0) - (bridge.revenue_before or 0)
    sums = {"lever": say("All together"), "before": "", "now": "", "users": f"{total:+,}", "revenue": f"{money:+,.0f}"}
    labels = {
        "lever": say("Lever"),
        "before": bridge.before.label,
        "now": bridge.now.label,
        "users": say("Active users [95% interval]"),
    }
    if bridge.revenue is not None:
        labels["revenue"] = say("Revenue, {currency} [95% interval]", currency=review.currency)
    note = say("The levers add up to the change. New users count as active whether they are seen again or not.")
    numeric = tuple(labels)[1:]
    return make_table(pd.DataFrame([*rows, sums]), labels, name="bridge", numeric=numeric, unbroken=numeric, note=note)


def show_budget(review: QuarterlyReview) -> TableView | ListView:
    """Spend, users who stay and what one costs, pay-back, and what more or less spend did, channel by channel."""
    budget = review.budget
    if budget is None or not (budget.by_channel["spend_amount"] > 0).any():
        need = review.missing.get("Cost of new users", mark("spend in this quarter"))
        return ListView([say("Budget: nothing to show, because it needs {need}.", need=say(need))])
    frame = budget.by_channel
    currency = review.currency
    shown = pd.DataFrame({"channel": frame["channel"]})
    spent = zip(frame["spend_amount"], frame["before_spend_amount"], strict=True)
    shown["spend"] = [_format_pair(now, before, "amount") for now, before in spent]
    for day in (7, 30):
        name = f"d{day}"
        counts = zip(frame[f"{name}_count"], frame[f"{name}_mature_count"], strict=True)
        shown[f"kept{day}"] = [say("{part:,.0f} of {count:,.0f}", part=kept, count=of) for kept, of in counts]
        columns = [f"cost_per_{name}_{part}" for part in ("amount", "low", "high")]
        shown[f"cost{day}"] = [
            _format_cost(*row) for row in frame[[*columns, f"before_{columns[0]}"]].itertuples(index=False)
        ]
    paid = budget.payback.by_group.to_dict("records") if budget.payback else []
    months = {str(row["group"]): _say_payback(row) for row in paid}
    shown["payback"] = [months.get(channel, MISSING) for channel in frame["channel"]]
    shown["bought"] = [say(BOUGHT.get(verdict, MISSING)) for verdict in frame["verdict"]]
    labels = {
        "channel": say("Channel"),
        "spend": say("Spend, {currency}", currency=currency),
        "kept7": say("Back on day 7"),
        "cost7": say("{currency} for each", currency=currency),
        "kept30": say("Back on day 30"),
        "cost30": say("{currency} for each ", currency=currency),
        "payback": say("Pays back"),
        "bought": say("More spend bought"),
    }
    notes = [
        say("In square brackets 95% intervals."),
        say("Only users whose day has come are counted."),
        say("Pay-back is that of all users so far."),
        say("In round brackets {before}.", before=review.before.period.label) if review.before else "",
        _say_share(review),
    ]
    note = join_sentences(notes)
    return make_table(shown, labels, name="budget", numeric=("spend", "kept7", "cost7", "kept30", "cost30"), note=note)


def show_firings(review: QuarterlyReview) -> TableView | ListView:
    """The rules that fired in the quarter; a sentence where none did."""
    found, label = review.operations.firings, review.now.period.label
    unknown = review.operations.unknown
    rules = say(", ").join(name_rule(rule) for rule in unknown)
    note = say("Could not be judged: {rules}.", rules=rules) if unknown else ""
    if found.empty:
        return ListView([say("Nothing fired in {period}.", period=label), *([note] if note else [])])
    frame = found.sort_values(["fired_on", "rule", "group"])
    shown = pd.DataFrame({"rule": [name_rule(str(rule)) for rule in frame["rule"]]})
    shown["group"] = [str(group) if group else say("everybody") for group in frame["group"]]
    shown["fired"] = [_format_days(a, b) for a, b in zip(frame["fired_on"], frame["last_day"], strict=True)]
    for column in ("value", "threshold"):
        shown[column] = [
            format_metric(v, m, currency=review.currency) for v, m in zip(frame[column], frame["metric"], strict=True)
        ]
    shown["sure"] = frame["calibrated"].map({True: say("yes"), False: say("no")}).to_numpy()
    shown["owner"] = [owner or say("name one") for owner in frame["owner"]]
    shown["done"] = [done or say("nothing noted") for done in frame["done"]]
    labels = {
        "rule": say("Rule"), "group": say("For"), "fired": say("Fired"), "value": say("Value"),
        "threshold": say("Threshold"), "sure": say("Beyond chance"), "owner": say("Owner"),
        "done": say("What was done"),
    }  # fmt: skip
    told = say(
        "Beyond chance: the version of the rule that keeps false alarms rare fired too. What was done: as noted under "
        "[[responses]] in the playbook."
    )
    note = say("{text} {note}", text=told, note=note)
    return make_table(shown, labels, name="firings", numeric=("value", "threshold"), unbroken=("fired",), note=note)


def show_next_quarter(review: QuarterlyReview) -> TableView | ListView:
    """Each metric: what to expect, the chance to meet its target, and targets that are likely and ambitious."""
    frame = review.outlook.proposals
    if frame.empty or not (frame["method"] != "").any():
        notes = sorted(set(frame["note"])) if len(frame) else []
        reason = notes[0] if notes else say("there is nothing to predict")
        period = review.outlook.period.label
        return ListView([say("What {period} may bring cannot be told: {reason}.", period=period, reason=reason)])
    rows = []
    for row in frame.to_dict("records"):
        unit, sign = row["unit"], "≥" if row["direction"] == "at_least" else "≤"
        text = {"metric": label_metric(row["metric"]), "now": format_number(row["now_value"], unit)}
        if row["method"]:
            low, high = (format_number(row[f"{end}_value"], unit) for end in ("low", "high"))
            value = format_number(row["forecast_value"], unit)
            interval = say("{value} [{low} to {high}]", value=value, low=low, high=high)
            # An interval stays on one line.
            text["forecast"] = interval.replace(" to ", "\u00a0to\u00a0")
            text["error"] = _format_error(row["error_value"], unit)
            text |= {n: f"{sign} {format_number(row[f'{n}_value'], unit)}" for n in ("likely", "ambitious")}
        else:
            text["forecast"] = write_sentence(row["note"])[:-1]
            text |= dict.fromkeys(("error", "likely", "ambitious"), MISSING)
        target = row["target_value"]
        text["target"] = MISSING if pd.isna(target) else f"{sign} {format_number(target, unit)}"
        text["chance"] = _format_chance(row["probability_rate"])
        rows.append(text)
    labels = {
        "metric": say("Metric"), "now": review.now.period.label,
        "forecast": say("{period} [80% interval]", period=review.outlook.period.label), "target": say("Target"),
        "chance": say("Chance to meet it"), "likely": say("Reached with 70%"), "ambitious": say("Reached with 30%"),
        "error": say("Missed by, before"),
    }  # fmt: skip
    missed = say("Missed by: how far such forecasts of earlier days were off, on average.")
    note = join_sentences([missed, *_list_methods(frame)])
    numeric = tuple(labels)[1:]
    unbroken = ("metric", "target", "likely", "ambitious")
    return make_table(pd.DataFrame(rows), labels, name="next-quarter", numeric=numeric, unbroken=unbroken, note=note)


def _list_methods(frame: pd.DataFrame) -> list[str]:
    """What each metric is predicted by, in sentences."""
    sentences = []
    for method, template in METHODS.items():
        names = [label_metric(name) for name in frame.loc[frame["method"] == method, "metric"]]
        if names:
            sentences.append(say(template, metrics=say(", ").join(names)))
    return [*sentences, say("The rest: as this quarter.")]


def show_decisions(review: QuarterlyReview) -> TableView | ListView:
    """What is to be decided, by whom, and until when."""
    if review.decisions.empty:
        return ListView([say("Nothing is to be decided: no target is missed, no rule fired, no initiative is due.")])
    rows = review.decisions.to_dict("records")
    shown = pd.DataFrame(
        {
            "decision": [say_decision(review, row) for row in rows],
            "owner": [row["owner"] or say("name one") for row in rows],
            "due": [str(row["due"]) for row in rows],
        }
    )
    labels = {"decision": say("Decision"), "owner": say("Owner"), "due": say("Due")}
    note = say("Days are counted from the last day reviewed, {day}.", day=review.now.period.last_day)
    return make_table(shown, labels, name="decisions", unbroken=("owner", "due"), note=note)


def _format_driver(value: float, unit: str, currency: str) -> str:
    if pd.isna(value):
        return MISSING
    if unit == "users":
        return f"{value:,.0f}"
    kinds: dict[str, Unit] = {"rate": "rate", "ratio": "ratio", "amount": "amount"}
    return format_number(value, kinds[unit], currency=currency)


def _format_step(row: Mapping[Any, Any] | pd.Series, column: str) -> str:
    low, high = (f"{row[end]:+,.0f}" for end in ("change_low", "change_high"))
    return say("{value} [{low} to {high}]", value=f"{row[column]:+,.0f}", low=low, high=high)


def _format_pair(now: float, before: float, unit: str) -> str:
    return add_note(format_number(now, unit), "" if pd.isna(before) else format_number(before, unit))


def _format_cost(value: float, low: float, high: float, before: float) -> str:
    if pd.isna(value):
        return MISSING
    now, lower, upper = (format_number(x, "amount") for x in (value, low, high))
    text = say("{value} [{low} to {high}]", value=now, low=lower, high=upper)
    return add_note(text, "" if pd.isna(before) else format_number(before, "amount"))


def _say_payback(row: Mapping[Any, Any]) -> str:
    """In which month, with the first and last that it may be."""
    status, months = row["status"], [row[f"payback_{part}_count"] for part in ("month", "earliest", "latest")]
    if status == "not_enough_data":
        return say("not enough data")
    if status == "not_paid_back":
        return say("not within {count:.0f} months", count=row["observed_month_count"])
    month, first, last = (say("later") if pd.isna(m) else f"{m:.0f}" for m in months)
    text = say("month later") if pd.isna(months[0]) else say("month {month}", month=month)
    return text if first == last else say("{value} [{low} to {high}]", value=text, low=first, high=last)


def _say_share(review: QuarterlyReview) -> str:
    """How much of the spend hangs on one channel."""
    assert review.budget is not None
    found = review.budget.now.concentration["spend"]
    if found.largest is None or not found.largest_rate.known:
        return ""
    rate = format_number(found.largest_rate.value, "rate")
    text = say("{rate} of the spend went to {channel}", rate=rate, channel=found.largest)
    before = review.budget.before.concentration["spend"] if review.budget.before else None
    if before is not None and before.largest is not None and before.largest_rate.known:
        share = format_number(before.largest_rate.value, "rate")
        if before.largest != found.largest:
            text = add_note(text, say("{rate} to {channel} before", rate=share, channel=before.largest))
        else:
            text = add_note(text, say("{rate} before", rate=share))
    return say("{text}.", text=text)


def _format_days(first: Any, last: Any) -> str:
    a, b = (str(pd.Timestamp(str(day)).date()) if pd.notna(day) else "" for day in (first, last))
    return a if not b or a == b else say("{first} to {last}", first=a, last=b)


def _format_error(value: float | None, unit: str) -> str:
    if value is None or pd.isna(value):
        return MISSING
    return say("{points:.1f} points", points=100 * value) if unit == "rate" else f"{value:.1%}"


def _format_chance(value: float | None) -> str:
    if value is None or pd.isna(value):
        return MISSING
    return say("above 99.9%") if value > 0.999 else format_probability(value)


def show_initiatives(review: QuarterlyReview) -> TableView | ListView:
    """What became of each initiative; a sentence where the playbook has none."""
    from opslib.present.words import describe

    verdicts = review.operations.verdicts
    if not verdicts:
        return ListView([say("There are no initiatives in the playbook ([[initiatives]]), so none is judged.")])
    lines = [(verdict.initiative.name, join_sentences(describe(verdict))) for verdict in verdicts]
    labels = {"name": say("Initiative"), "said": say("What became of it")}
    return make_table(pd.DataFrame(lines, columns=list(labels)), labels, name="initiatives", unbroken=("name",))

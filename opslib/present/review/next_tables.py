"""The tables of the quarterly review: levers, budget, what fired, the next quarter and its decisions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from opslib.decide.review.review import QuarterlyReview
from opslib.measure.estimate import Unit
from opslib.present.display import ListView, TableView
from opslib.present.parts import format_probability
from opslib.present.review.actions import say_decision
from opslib.present.review.words import LEVER_NAMES, drop_still
from opslib.present.rules import format_metric, name_rule
from opslib.present.tables import make_table
from opslib.present.words import MISSING, format_number, label_metric, write_sentence

BOUGHT = {
    "more_retained": "more users who stay",
    "more_users_not_retained": "more users, none more who stay",
    "more_users_retained_unclear": "more users; whether they stay is not clear",
    "no_clear_gain": "no clear gain",
    "fewer_retained": "less spend, fewer users who stay",
    "fewer_users_retained_unclear": "less spend, fewer users",
    "no_clear_loss": "less spend, no clear loss",
    "not_moved": "spend hardly moved",
    "not_enough_data": "not enough data",
}


def show_bridge(review: QuarterlyReview) -> TableView | ListView:
    """Each lever: its value before and now, and what it did to active users and to revenue."""
    bridge = review.bridge
    if bridge is None:
        return ListView(
            [f"Bridge: nothing to show, because {review.missing.get('Bridge', 'there is no quarter before')}."]
        )
    frame, column = (bridge.users, "change_count") if bridge.revenue is None else (bridge.revenue, "change_amount")
    users = bridge.users.set_index("lever")
    rows = []
    for row in drop_still(frame, column).to_dict("records"):
        lever, unit = row["lever"], row["driver"]
        before, now = (_format_driver(row[f"driver_{side}"], unit, review.currency) for side in ("before", "now"))
        counted = lever in users.index
        rows.append(
            {
                "lever": write_sentence(LEVER_NAMES[lever])[:-1],
                "before": before,
                "now": now,
                "users": _format_step(users.loc[lever], "change_count") if counted else MISSING,
                "revenue": _format_step(row, "change_amount") if bridge.revenue is not None else MISSING,
            }
        )
    total = bridge.users_now - bridge.users_before
    money = (bridge.revenue_now or 0) - (bridge.revenue_before or 0)
    sums = {"lever": "All together", "before": "", "now": "", "users": f"{total:+,}", "revenue": f"{money:+,.2f}"}
    labels = {
        "lever": "Lever",
        "before": bridge.before.label,
        "now": bridge.now.label,
        "users": "Active users [95% interval]",
    }
    if bridge.revenue is not None:
        labels["revenue"] = f"Revenue, {review.currency} [95% interval]"
    note = "The levers add up to the change. New users count as active whether they are seen again or not."
    numeric = tuple(labels)[1:]
    return make_table(pd.DataFrame([*rows, sums]), labels, name="bridge", numeric=numeric, unbroken=numeric, note=note)


def show_budget(review: QuarterlyReview) -> TableView | ListView:
    """Spend, users who stay and what one costs, pay-back, and what more or less spend did, channel by channel."""
    budget = review.budget
    if budget is None or not (budget.by_channel["spend_amount"] > 0).any():
        need = review.missing.get("Cost of new users", "spend in this quarter")
        return ListView([f"Budget: nothing to show, because it needs {need}."])
    frame = budget.by_channel
    currency = review.currency
    shown = pd.DataFrame({"channel": frame["channel"]})
    spent = zip(frame["spend_amount"], frame["before_spend_amount"], strict=True)
    shown["spend"] = [_format_pair(now, before, "amount") for now, before in spent]
    for day in (7, 30):
        name = f"d{day}"
        counts = zip(frame[f"{name}_count"], frame[f"{name}_mature_count"], strict=True)
        shown[f"kept{day}"] = [f"{kept:,.0f} of {of:,.0f}" for kept, of in counts]
        columns = [f"cost_per_{name}_{part}" for part in ("amount", "low", "high")]
        shown[f"cost{day}"] = [
            _format_cost(*row) for row in frame[[*columns, f"before_{columns[0]}"]].itertuples(index=False)
        ]
    paid = budget.payback.by_group.to_dict("records") if budget.payback else []
    months = {str(row["group"]): _say_payback(row) for row in paid}
    shown["payback"] = [months.get(channel, MISSING) for channel in frame["channel"]]
    shown["bought"] = [BOUGHT.get(verdict, MISSING) for verdict in frame["verdict"]]
    labels = {
        "channel": "Channel",
        "spend": f"Spend, {currency}",
        "kept7": "Back on day 7",
        "cost7": f"{currency} for each",
        "kept30": "Back on day 30",
        "cost30": f"{currency} for each ",
        "payback": "Pays back",
        "bought": "More spend bought",
    }
    earlier = f" In round brackets {review.before.period.label}." if review.before else ""
    note = "In square brackets 95% intervals. Only users whose day has come are counted. "
    note += f"Pay-back is that of all users so far.{earlier}{_say_share(review)}"
    return make_table(shown, labels, name="budget", numeric=("spend", "kept7", "cost7", "kept30", "cost30"), note=note)


def show_firings(review: QuarterlyReview) -> TableView | ListView:
    """The rules that fired in the quarter; a sentence where none did."""
    found, label = review.operations.firings, review.now.period.label
    unknown = review.operations.unknown
    note = f"Could not be judged: {', '.join(name_rule(rule) for rule in unknown)}." if unknown else ""
    if found.empty:
        return ListView([f"Nothing fired in {label}.", *([note] if note else [])])
    frame = found.sort_values(["fired_on", "rule", "group"])
    shown = pd.DataFrame({"rule": [name_rule(str(rule)) for rule in frame["rule"]]})
    shown["group"] = [str(group) if group else "everybody" for group in frame["group"]]
    shown["fired"] = [_format_days(a, b) for a, b in zip(frame["fired_on"], frame["last_day"], strict=True)]
    for column in ("value", "threshold"):
        shown[column] = [
            format_metric(v, m, currency=review.currency) for v, m in zip(frame[column], frame["metric"], strict=True)
        ]
    shown["sure"] = frame["calibrated"].map({True: "yes", False: "no"}).to_numpy()
    shown["owner"] = [owner or "name one" for owner in frame["owner"]]
    shown["done"] = [done or "nothing noted" for done in frame["done"]]
    labels = {
        "rule": "Rule", "group": "For", "fired": "Fired", "value": "Value", "threshold": "Threshold",
        "sure": "Beyond chance", "owner": "Owner", "done": "What was done",
    }  # fmt: skip
    note = (
        "Beyond chance: the version of the rule that keeps false alarms rare fired too. What was done: as noted under "
        f"[[responses]] in the playbook. {note}"
    )
    return make_table(shown, labels, name="firings", numeric=("value", "threshold"), unbroken=("fired",), note=note)


def show_next_quarter(review: QuarterlyReview) -> TableView | ListView:
    """Each metric: what to expect, the chance to meet its target, and targets that are likely and ambitious."""
    frame = review.outlook.proposals
    if frame.empty or not (frame["method"] != "").any():
        notes = sorted(set(frame["note"])) if len(frame) else []
        reason = notes[0] if notes else "there is nothing to predict"
        return ListView([f"What {review.outlook.period.label} may bring cannot be told: {reason}."])
    rows = []
    for row in frame.to_dict("records"):
        unit, sign = row["unit"], "≥" if row["direction"] == "at_least" else "≤"
        text = {"metric": label_metric(row["metric"]), "now": format_number(row["now_value"], unit)}
        if row["method"]:
            low, high = (format_number(row[f"{end}_value"], unit) for end in ("low", "high"))
            text["forecast"] = f"{format_number(row['forecast_value'], unit)} [{low}\u00a0to\u00a0{high}]"
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
        "metric": "Metric", "now": review.now.period.label, "forecast": f"{review.outlook.period.label} [80% interval]",
        "target": "Target", "chance": "Chance to meet it", "likely": "Reached with 70%",
        "ambitious": "Reached with 30%", "error": "Missed by, before",
    }  # fmt: skip
    note = f"Missed by: how far such forecasts of earlier days were off, on average. {_list_methods(frame)}"
    numeric = tuple(labels)[1:]
    unbroken = ("metric", "target", "likely", "ambitious")
    return make_table(pd.DataFrame(rows), labels, name="next-quarter", numeric=numeric, unbroken=unbroken, note=note)


def _list_methods(frame: pd.DataFrame) -> str:
    """What each metric is predicted by: what was nearest the truth before."""
    ways = {"growth model": "By the growth model", "own drift": "Going on half as it moved last"}
    named = {
        way: ", ".join(label_metric(name) for name in frame.loc[frame["method"] == method, "metric"])
        for method, way in ways.items()
    }
    return " ".join([*(f"{way}: {names}." for way, names in named.items() if names), "The rest: as this quarter."])


def show_decisions(review: QuarterlyReview) -> TableView | ListView:
    """What is to be decided, by whom, and until when."""
    if review.decisions.empty:
        return ListView(["Nothing is to be decided: no target is missed, no rule fired, no initiative is due."])
    rows = review.decisions.to_dict("records")
    shown = pd.DataFrame(
        {
            "decision": [say_decision(review, row) for row in rows],
            "owner": [row["owner"] or "name one" for row in rows],
            "due": [str(row["due"]) for row in rows],
        }
    )
    labels = {"decision": "Decision", "owner": "Owner", "due": "Due"}
    note = f"Days are counted from the last day reviewed, {review.now.period.last_day}."
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
    return f"{row[column]:+,.0f} [{low} to {high}]"


def _format_pair(now: float, before: float, unit: str) -> str:
    text = format_number(now, unit)
    return text if pd.isna(before) else f"{text} ({format_number(before, unit)})"


def _format_cost(value: float, low: float, high: float, before: float) -> str:
    if pd.isna(value):
        return MISSING
    text, ends = format_number(value, "amount"), " to ".join(format_number(x, "amount") for x in (low, high))
    return f"{text} [{ends}]" + ("" if pd.isna(before) else f" ({format_number(before, 'amount')})")


def _say_payback(row: Mapping[Any, Any]) -> str:
    """In which month, with the first and last that it may be."""
    status, months = row["status"], [row[f"payback_{part}_count"] for part in ("month", "earliest", "latest")]
    if status == "not_enough_data":
        return "not enough data"
    if status == "not_paid_back":
        return f"not within {row['observed_month_count']:.0f} months"
    month, first, last = ("later" if pd.isna(m) else f"{m:.0f}" for m in months)
    return f"month {month}" if first == last else f"month {month} [{first} to {last}]"


def _say_share(review: QuarterlyReview) -> str:
    """How much of the spend hangs on one channel."""
    assert review.budget is not None
    found = review.budget.now.concentration["spend"]
    if found.largest is None or not found.largest_rate.known:
        return ""
    text = f" {format_number(found.largest_rate.value, 'rate')} of the spend went to {found.largest}"
    before = review.budget.before.concentration["spend"] if review.budget.before else None
    if before is not None and before.largest is not None and before.largest_rate.known:
        share = format_number(before.largest_rate.value, "rate")
        text += f" ({share} to {before.largest} before)" if before.largest != found.largest else f" ({share} before)"
    return f"{text}."


def _format_days(first: Any, last: Any) -> str:
    a, b = (str(pd.Timestamp(str(day)).date()) if pd.notna(day) else "" for day in (first, last))
    return a if not b or a == b else f"{a} to {b}"


def _format_error(value: float | None, unit: str) -> str:
    if value is None or pd.isna(value):
        return MISSING
    return f"{100 * value:.1f} points" if unit == "rate" else f"{value:.1%}"


def _format_chance(value: float | None) -> str:
    if value is None or pd.isna(value):
        return MISSING
    return "above 99.9%" if value > 0.999 else format_probability(value)


def show_initiatives(review: QuarterlyReview) -> TableView | ListView:
    """What became of each initiative; a sentence where the playbook has none."""
    from opslib.present.words import describe

    verdicts = review.operations.verdicts
    if not verdicts:
        return ListView(["There are no initiatives in the playbook ([[initiatives]]), so none is judged."])
    lines = [(verdict.initiative.name, " ".join(describe(verdict))) for verdict in verdicts]
    labels = {"name": "Initiative", "said": "What became of it"}
    return make_table(pd.DataFrame(lines, columns=list(labels)), labels, name="initiatives", unbroken=("name",))

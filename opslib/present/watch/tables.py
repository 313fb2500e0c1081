"""The tables of the daily watch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from opslib.decide.rules.result import RuleResult
from opslib.decide.watch.numbers import DayNumber
from opslib.decide.watch.watch import Watch
from opslib.language import join_sentences, mark, say
from opslib.present.display import ListView, TableView
from opslib.present.rules import (
    format_metric,
    format_yearly,
    is_past_usually,
    name_period,
    name_rule,
    say_unknown,
)
from opslib.present.senses import say_sense
from opslib.present.tables import make_table
from opslib.present.watch.words import label_number
from opslib.present.words import MISSING, name_value

MARKS = {"red": mark("● red"), "amber": mark("▲ amber"), "green": mark("✓ green"), "unknown": mark("? unknown")}
STATE_LABELS = {
    "usual": mark("as expected"),
    "low": mark("low"),
    "high": mark("high"),
    "unknown": mark("not judged"),
}


def show_rules(watch: Watch) -> TableView | ListView:
    """Every rule: how it stands, the number, how sure, how often by chance, and its calibrated version."""
    if not watch.results:
        return ListView([say("The playbook has no rules.")])
    shown = [result for result in watch.results if result.level != "green"]
    quiet = [name_rule(result.rule.name) for result in watch.results if result.level == "green"]
    listed = say(", ").join(quiet)
    if not shown:
        return ListView([say("All {count} rules are green: {rules}.", count=len(quiet), rules=listed)])
    rows = [row for result in shown for row in _list_rows(result, watch.currency)]
    labels = {
        "level": say("State"),
        "rule": say("Rule"),
        "period": say("In"),
        "value": say_sense("Now", mark("Value now")),
        "limit": say("Limit"),
        "sure": say("Probability"),
        "noise": say("By chance"),
        "calibrated": say("Calibrated"),
        "since": say_sense("Since", mark("Fires since")),
    }
    note = say(
        "Probability: that the true value is past the limit, in as many periods as the rule asks. By chance: how often "
        "the rule fires with this volume while nothing changes. Calibrated: the limit that keeps false alarms as rare "
        "as the playbook allows, and what it says."
    )
    if quiet:
        note = join_sentences([say("Green ({count}): {rules}.", count=len(quiet), rules=listed), note])
    return make_table(
        pd.DataFrame(rows),
        labels,
        name="rules",
        note=note,
        numeric=("value", "limit", "sure"),
        unbroken=("level", "since"),
    )


def _list_rows(result: RuleResult, currency: str) -> list[dict[str, Any]]:
    rule = result.rule
    head = {"level": say(MARKS[result.level]), "rule": name_rule(rule.name).capitalize()}
    shown = result.firing.head(3)
    if shown.empty:
        # Where nothing fires, a rule on groups is told by the one that is nearest to it.
        shown = result.groups.sort_values("passed_probability", ascending=False).head(1)
    if shown.empty or result.level == "unknown":
        nothing = dict.fromkeys(("period", "value", "limit", "sure", "noise", "calibrated", "since"), MISSING)
        return [head | nothing | {"rule": say_unknown(result)}]
    return [head | _describe_row(result, row, currency) for row in shown.to_dict("records")]


def _describe_row(result: RuleResult, row: Mapping[Any, Any], currency: str) -> dict[str, Any]:
    rule = result.rule

    def write(value: float) -> str:
        return format_metric(value, rule.metric, currency=currency)

    change = rule.condition in ("drops_by", "grows_by")
    trend = rule.condition in ("rising", "falling")
    value, limit = write(row["value"]), write(row["threshold"])
    if change:
        limit = say("{limit} ({change:+.0%})", limit=limit, change=row["change_ratio"])
    elif trend:
        limit = say("from {value}", value=write(row["compared_value"]))
    tight = row["calibrated_threshold"]
    tight = MISSING if pd.isna(tight) else f"{tight:.0%}" if change or trend else write(tight)
    state = say("fires") if row["calibrated_state"] == "firing" else say("quiet")
    noise = say("usually past it") if is_past_usually(rule, row) else format_yearly(row["noise_fires_per_year"])
    sure = row["passed_probability"]
    return {
        "period": name_period(row["period_start"].date(), rule.grain).removeprefix("the "),
        "value": say("{name}: {value}", name=name_value(row["group"]), value=value) if rule.by else value,
        "limit": limit,
        "sure": MISSING if pd.isna(sure) else "> 99%" if sure > 0.99 else "< 1%" if sure < 0.01 else f"{sure:.0%}",
        "noise": noise,
        "calibrated": say("{name}: {value}", name=tight, value=state),
        "since": MISSING if pd.isna(row["since"]) else f"{row['since']:%Y-%m-%d}",
    }


def show_numbers(watch: Watch) -> TableView | ListView:
    """The day's numbers: now, the day before, a week before, and the range that was to be expected."""
    if not watch.numbers:
        return ListView([say("There is no number of the last days: name more tables under [tables] in the playbook.")])
    labels = {
        "metric": say("Number"),
        "day": say("Day"),
        "now": say_sense("Now", mark("Value now")),
        "before": say("Day before"),
        "week": say("Week before"),
        "range": say_sense("Expected", mark("Value expected")),
        "state": say("State"),
    }
    note = say(
        "Expected: from weekday, trend, holidays and chance, learnt from the days before. A number lies outside it "
        "once in two years by chance."
    )
    rows = [_describe_number(number, watch.currency) for number in watch.numbers]
    return make_table(
        pd.DataFrame(rows),
        labels,
        name="numbers",
        note=note,
        numeric=("now", "before", "week", "range"),
        unbroken=tuple(labels),
    )


def _describe_number(number: DayNumber, currency: str) -> dict[str, Any]:
    last = number.daily.iloc[-1]

    def write(value: float | None) -> str:
        return format_metric(value, number.metric, currency=currency)

    judged = number.state != "unknown" and not pd.isna(last["low"])
    return {
        "metric": label_number(number.metric),
        "day": f"{number.day:%Y-%m-%d}",
        "now": write(number.now.value),
        "before": write(number.before.value),
        "week": write(number.week_before.value),
        "range": say("{low} to {high}", low=write(last["low"]), high=write(last["high"])) if judged else MISSING,
        "state": say(STATE_LABELS[number.state]),
    }


def show_openings(watch: Watch) -> ListView:
    """Which notebooks to open, with which parameters, and why."""
    if not watch.investigations:
        return ListView([say("Nothing to open: no rule fires that names a notebook.")])
    lines = []
    for found in watch.investigations:
        given = say(", ").join(f"{name} {value}" for name, value in found.parameters.items())
        rules = say(", ").join(name_rule(*rule) for rule in found.rules)
        values = {"notebook": found.notebook, "parameters": given or say("its defaults"), "rules": rules}
        lines.append(say("{notebook} with {parameters}: for {rules}.", **values))
    return ListView(lines)

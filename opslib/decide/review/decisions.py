"""What is to be decided after a review, by whom, and until when."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any

import pandas as pd

from opslib.data.periods import DAY
from opslib.data.playbook import Playbook
from opslib.decide.review.budget import BudgetReview
from opslib.decide.review.operations import Operations
from opslib.decide.targets import TargetVerdict
from opslib.decide.verdicts.verdict import VERDICT_NAMES, Verdict
from opslib.language import join_clauses, say

# Days after the quarter's end: what is urgent waits for no plan.
DUE_DAYS = {"urgent": 3, "act": 7, "notice": 14, "target": 14, "budget": 14, "initiative": 14, "stop": 7}
COLUMNS = ("kind", "subject", "metric", "value", "bound", "detail", "owner", "due")


def list_decisions(
    playbook: Playbook,
    last_day: dt.date,
    *,
    targets: Mapping[str, TargetVerdict],
    budget: BudgetReview | None,
    operations: Operations,
) -> pd.DataFrame:
    """List what is to be decided.

    Args:
        playbook: says who owns what.
        last_day: the last day of the quarter; days to decide are counted from it.
        targets: of the quarter.
        budget: whether it brought users who stay.
        operations: the rules that fired, and the initiatives.

    Returns:
        kind ("firing", "target", "budget", "initiative"), subject (rule, metric, channel, initiative), metric, value,
        bound, detail (the playbook's remedy, the firing's steps, or what became of the initiative), owner (empty:
        nobody is named), due; the soonest first.
    """
    owners = _find_owners(playbook)
    rows: list[tuple[Any, ...]] = []
    for name, verdict in targets.items():
        if verdict.status == "missed":
            value, bound = verdict.estimate.value, verdict.target.bound
            remedy = join_clauses(map(say, playbook.remedies.get(name, ())))
            rows.append(("target", name, name, value, bound, remedy, owners.get(name, ""), _due(last_day, "target")))
    if budget is not None and budget.shift is not None and len(budget.shift.by_channel):
        found = budget.shift.by_channel
        owner = owners.get("cost_per_d7_amount", "") or owners.get("cac_amount", "")
        found = found[found["verdict"] == "more_users_not_retained"]
        for channel, extra in zip(found["channel"], found["extra_spend_amount"], strict=True):
            due = _due(last_day, "budget")
            remedy = join_clauses(map(say, playbook.remedies.get("cost_per_d7_amount", ())))
            rows.append(("budget", channel, "spend_amount", float(extra), None, remedy, owner, due))
    rows += _list_firings(operations.firings, last_day)
    rows += [row for verdict in operations.verdicts if (row := _read_verdict(verdict, last_day)) is not None]
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    return frame.sort_values(["due", "kind", "subject"], kind="stable").reset_index(drop=True)


def _due(last_day: dt.date, kind: str) -> dt.date:
    return last_day + DUE_DAYS[kind] * DAY


def _find_owners(playbook: Playbook) -> dict[str, str]:
    """Metric -> who answers for it: whoever runs an initiative on it, or else a rule."""
    owners = {rule.metric: rule.owner for rule in playbook.rules if rule.owner}
    return owners | {item.metric: item.owner for item in playbook.initiatives}


def _list_firings(firings: pd.DataFrame, last_day: dt.date) -> list[tuple[Any, ...]]:
    red = firings[firings["severity"].isin(["act", "urgent"]) & firings["calibrated"].astype(bool)]
    # What is over, and was answered, needs no decision any more.
    red = red[red["last_day"].isna() | (red["done"] == "")]
    rows = []
    # A rule that fired ten times is one decision, about the last time.
    for (rule, group), found in red.groupby(["rule", "group"], sort=True):
        row = found.sort_values("fired_on").iloc[-1]
        subject = f"{rule} ({group})" if group else str(rule)
        detail = join_clauses(map(say, row["steps"]))
        numbers = (row["metric"], row["value"], row["threshold"])
        rows.append(("firing", subject, *numbers, detail, row["owner"] or "", _due(last_day, row["severity"])))
    return rows


def _read_verdict(verdict: Verdict, last_day: dt.date) -> tuple[Any, ...] | None:
    """An initiative that does not work, that its own rule gives up, or whose time is over; decided ones are no more."""
    item = verdict.initiative
    killed = verdict.kill is not None and bool(verdict.kill.met)
    stop = killed or verdict.verdict == "not effective"
    if item.decision or not (stop or item.last_day <= last_day):
        return None
    detail = say(VERDICT_NAMES[verdict.verdict])
    if killed:
        detail = say("{verdict}, by its own rule to be given up", verdict=detail)
    due = _due(last_day, "stop" if stop else "initiative")
    return ("initiative", item.name, item.metric, None, item.target, detail, item.owner, due)

"""The tables of verdicts: three looks for each initiative, and the register with forecast against realised."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from opslib.decide.verdicts.forecasts import ForecastReview
from opslib.decide.verdicts.verdict import VERDICT_NAMES, Verdict
from opslib.language import join_sentences, mark, say
from opslib.present.display import ListView, TableView
from opslib.present.parts import format_probability
from opslib.present.tables import make_table
from opslib.present.verdicts.words import DIRECTIONS, ROLES, format_effect, format_side, name_look
from opslib.present.words import MISSING, format_number, write_sentence

NOTHING = mark("There is no initiative in the register: name them under [[initiatives]] in the playbook.")
EVIDENCE = {
    "experiment": mark("experiment"),
    "holdout": mark("holdout"),
    "difference in differences": mark("difference in differences"),
    "synthetic control": mark("synthetic control"),
    "before/after only": mark("before/after only (descriptive)"),
    "none": mark("none"),
}
STATUSES = {
    "planned": mark("planned"),
    "running": mark("running"),
    "watching": mark("watching"),
    "due": mark("due"),
    "killed": mark("killed"),
    "decided": mark("decided"),
}
PAYBACKS = {"in time": mark("in time"), "late": mark("late"), "not yet clear": mark("not yet clear")}


def show_looks(verdicts: Verdict | Sequence[Verdict]) -> TableView | ListView:
    """The three looks and the guardrails of one initiative or several: both sides, effect, evidence."""
    several = [verdicts] if isinstance(verdicts, Verdict) else list(verdicts)
    rows = []
    for verdict in several:
        for look in verdict.looks:
            p = look.adjusted_p_value
            rows.append(
                {
                    "initiative": verdict.initiative.name,
                    "look": say(ROLES[look.role]),
                    "metric": name_look(look.metric),
                    "with_it": format_side(look.with_it, look, currency=verdict.currency),
                    "without_it": format_side(look.without_it, look, currency=verdict.currency),
                    "effect": format_effect(look, currency=verdict.currency),
                    "chance": MISSING if p is None else format_probability(p),
                    "direction": say(DIRECTIONS[look.direction]),
                    "evidence": say(EVIDENCE[look.strength]),
                }
            )
    if not rows:
        return ListView([say(NOTHING)])
    labels = {
        "initiative": say("Initiative"), "look": say("Look"), "metric": say("Metric"),
        "with_it": say("With it, or since"), "without_it": say("Without, or before"), "effect": say("Effect [95%]"),
        "chance": say("By chance alone"), "direction": say("Reading"), "evidence": say("Evidence"),
    }  # fmt: skip
    note = say("By chance alone: over all behaviours and feedback of an initiative together (Holm).")
    numeric = ("with_it", "without_it", "effect", "chance")
    return make_table(pd.DataFrame(rows), labels, name="initiative-looks", numeric=numeric, note=note)


def show_register(review: ForecastReview, *, currency: str = "") -> TableView | ListView:
    """The register: who, what, until when, what was promised, what came, and what it cost."""
    table = review.table
    if table.empty:
        return ListView([say(NOTHING)])
    records = table.to_dict("records")
    shown = pd.DataFrame(
        {"initiative": [say("{text} ({note})", text=r["initiative"], note=r["owner"]) for r in records]}
    )
    shown["metric"] = table["metric"].map(name_look)
    shown["difficulty"] = ["★" * int(n) for n in table["difficulty_count"]]
    shown["until"] = [f"{r['watch_until_at']:%Y-%m-%d}" for r in records]
    shown["promised"] = [_format_change(r, "expected") for r in records]
    shown["came"] = [_format_change(r, "realised") for r in records]
    held, waiting = {True: say("yes"), False: say("no")}, say("not yet")
    shown["inside"] = [held.get(r["inside"], MISSING) if r["finished"] else waiting for r in records]
    shown["budget"] = [format_number(r["budget_amount"] or None, "amount", currency=currency) for r in records]
    shown["payback"] = [_format_payback(r) for r in records]
    shown["verdict"] = [_name_state(r) for r in records]
    labels = {
        "initiative": say("Initiative (owner)"), "metric": say("Metric"), "difficulty": say("Effort"),
        "until": say("Watched to"), "promised": say("Promised [80%]"), "came": say("Came [95%]"),
        "inside": say("As promised?"), "budget": say("Budget"), "payback": say("Pays back"), "verdict": say("Verdict"),
    }  # fmt: skip
    note = say("Rates in points. Pays back: by revenue, not margin, measured against a control.")
    note = join_sentences([note, write_sentence(review.note)])
    numeric = ("promised", "came", "budget")
    return make_table(
        shown,
        labels,
        name="initiative-register",
        numeric=numeric,
        unbroken=("until", "difficulty", "budget"),
        note=note,
    )


def _format_change(row: dict[Any, Any], which: str) -> str:
    value, low, high = (row[f"{which}_{end}"] for end in ("change", "low", "high"))
    if value is None or pd.isna(value):
        return MISSING
    scale = 100 if row["unit"] == "rate" or row["metric"].endswith("_rate") else 1
    digits = 1 if scale == 100 else 3 if abs(value) < 1 else 2
    text = f"{scale * value:+,.{digits}f}"
    if pd.isna(low) or pd.isna(high):
        return text
    ends = {"low": f"{scale * low:,.{digits}f}", "high": f"{scale * high:,.{digits}f}"}
    return say("{value} [{low} to {high}]", value=text, **ends)


def _name_state(row: dict[Any, Any]) -> str:
    verdict, status = VERDICT_NAMES[row["verdict"]], STATUSES[row["status"]]
    return say("{verdict}; {status}", verdict=say(verdict), status=say(status))


def _format_payback(row: dict[Any, Any]) -> str:
    months = row["payback_months"]
    if months is None or pd.isna(months):
        payback = row["payback"]
        return MISSING if payback == "not known" else say(PAYBACKS[payback])
    promised = row["payback_due_months"]
    if promised is None or pd.isna(promised):
        return say("after {months:.1f} months", months=months)
    return say("after {months:.1f} months (promised: {most:.0f} at the latest)", months=months, most=promised)

"""The tables of verdicts: three looks for each initiative, and the register with forecast against realised."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from opslib.decide.verdicts.forecasts import ForecastReview
from opslib.decide.verdicts.verdict import Verdict
from opslib.present.display import ListView, TableView
from opslib.present.parts import format_probability
from opslib.present.tables import make_table
from opslib.present.verdicts.words import DIRECTIONS, ROLES, format_effect, format_side, name_look
from opslib.present.words import MISSING, format_number

NOTHING = "There is no initiative in the register: name them under [[initiatives]] in the playbook."
EVIDENCE = {"none": "none", "before/after only": "before/after only (descriptive)"}


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
                    "look": ROLES[look.role].removesuffix("s"),
                    "metric": name_look(look.metric),
                    "with_it": format_side(look.with_it, look, currency=verdict.currency),
                    "without_it": format_side(look.without_it, look, currency=verdict.currency),
                    "effect": format_effect(look, currency=verdict.currency),
                    "chance": MISSING if p is None else format_probability(p),
                    "direction": DIRECTIONS[look.direction],
                    "evidence": EVIDENCE.get(look.strength, look.strength),
                }
            )
    if not rows:
        return ListView([NOTHING])
    labels = {
        "initiative": "Initiative", "look": "Look", "metric": "Metric", "with_it": "With it, or since",
        "without_it": "Without, or before", "effect": "Effect [95%]", "chance": "By chance alone",
        "direction": "Reading", "evidence": "Evidence",
    }  # fmt: skip
    note = "By chance alone: over all behaviours and feedback of an initiative together (Holm)."
    numeric = ("with_it", "without_it", "effect", "chance")
    return make_table(pd.DataFrame(rows), labels, name="initiative-looks", numeric=numeric, note=note)


def show_register(review: ForecastReview, *, currency: str = "") -> TableView | ListView:
    """The register: who, what, until when, what was promised, what came, and what it cost."""
    table = review.table
    if table.empty:
        return ListView([NOTHING])
    records = table.to_dict("records")
    shown = pd.DataFrame({"initiative": [f"{r['initiative']} ({r['owner']})" for r in records]})
    shown["metric"] = table["metric"].map(name_look)
    shown["difficulty"] = ["★" * int(n) for n in table["difficulty_count"]]
    shown["until"] = [f"{r['watch_until_at']:%Y-%m-%d}" for r in records]
    shown["promised"] = [_format_change(r, "expected") for r in records]
    shown["came"] = [_format_change(r, "realised") for r in records]
    held = {True: "yes", False: "no"}
    shown["inside"] = [held.get(r["inside"], MISSING) if r["finished"] else "not yet" for r in records]
    shown["budget"] = [format_number(r["budget_amount"] or None, "amount", currency=currency) for r in records]
    shown["payback"] = [_format_payback(r) for r in records]
    shown["verdict"] = [f"{r['verdict']}; {r['status']}" for r in records]
    labels = {
        "initiative": "Initiative (owner)", "metric": "Metric", "difficulty": "Effort", "until": "Watched to",
        "promised": "Promised [80%]", "came": "Came [95%]", "inside": "As promised?",
        "budget": "Budget", "payback": "Pays back", "verdict": "Verdict",
    }  # fmt: skip
    note = "Rates in points. Pays back: by revenue, not margin, measured against a control."
    if review.note:
        note += f" {review.note[0].upper()}{review.note[1:]}."
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
    ends = "" if pd.isna(low) or pd.isna(high) else f" [{scale * low:,.{digits}f} to {scale * high:,.{digits}f}]"
    return f"{scale * value:+,.{digits}f}{ends}"


def _format_payback(row: dict[Any, Any]) -> str:
    months = row["payback_months"]
    if months is None or pd.isna(months):
        return MISSING if row["payback"] == "not known" else str(row["payback"])
    promised = row["payback_due_months"]
    of = "" if promised is None or pd.isna(promised) else f" (promised: {promised:.0f} at the latest)"
    return f"after {months:.1f} months{of}"

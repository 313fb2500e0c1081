"""Forecast and realised: what was promised of each initiative, what came of it, and how good the forecasts were."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from opslib.decide.verdicts.looks import Look
from opslib.decide.verdicts.verdict import Verdict
from opslib.language import say
from opslib.measure.counterfactual.result import CounterfactualResult
from opslib.measure.estimate import Estimate, estimate_rate, to_plain_record

# What a forecast's interval promises to hold.
FORECAST_LEVEL = 0.8
# Fewer finished forecasts are listed, not judged.
FEWEST_FORECASTS = 5
FINISHED = ("due", "killed", "decided")
MONTH_DAYS = 30.4375
COLUMNS = (
    "initiative", "owner", "metric", "unit", "status", "verdict", "strength", "difficulty_count", "start_at",
    "watch_until_at", "expected_change", "expected_low", "expected_high", "realised_change", "realised_low",
    "realised_high", "inside", "finished", "scored", "realised_ratio", "interval_score_ratio", "budget_amount",
    "gain_amount", "gain_low", "gain_high", "payback_months", "payback_due_months", "payback", "cost_per_unit_amount",
    "kill_met", "decision",
)  # fmt: skip


@dataclass(frozen=True)
class ForecastReview:
    """The register with what came of it.

    Attributes:
        table: one row an initiative, by start: initiative, owner, metric, unit, status, verdict, strength,
            difficulty_count, start_at, watch_until_at; expected_change with low and high (80%); realised_change with
            low and high (95%); inside (the realised change lies within the forecast's interval), finished (watched to
            its end, given up or decided), scored (finished, with a forecast and a realised change by evidence with a
            control), realised_ratio (realised / expected), interval_score_ratio (see `score_interval`, in multiples of
            the expected change); budget_amount, gain_amount with low and high (revenue brought in the days measured;
            only where money was measured), payback_months (budget / gain a month; missing without a clear gain),
            payback_due_months (as promised at the latest), payback ("in time", "late", "not yet clear", "not known"),
            cost_per_unit_amount (budget / gain in units of the metric, counts only); kill_met, decision.
        scored_count: forecasts that were scored.
        inside: share of them whose interval held what came, against 80%; without a value below five.
        bias_ratio: median of realised / expected, minus 1: below 0 more was promised than came; None below five.
        clear_bias: fewer or more came below the promise than by chance (sign test, p < .05); None below five.
        mean_score_ratio: mean interval score, in multiples of the expected change: smaller is better; None below five.
        note: why there is no judgement; empty where there is.
    """

    table: pd.DataFrame
    scored_count: int
    inside: Estimate
    bias_ratio: float | None
    clear_bias: bool | None
    mean_score_ratio: float | None
    note: str

    def findings(self) -> list[dict[str, Any]]:
        """The score and one record an initiative."""
        head = {
            "name": "forecast_score", "scored_count": self.scored_count, "bias_ratio": self.bias_ratio,
            "clear_bias": self.clear_bias, "mean_score_ratio": self.mean_score_ratio, "note": self.note,
        }  # fmt: skip
        rows = self.table.to_dict("records")
        records = [to_plain_record(head), self.inside.to_finding(nominal=FORECAST_LEVEL)]
        return records + [{"name": "initiative", **to_plain_record(row)} for row in rows]


def review_forecasts(verdicts: Sequence[Verdict]) -> ForecastReview:
    """Hold what was forecast of initiatives against what came, and score all that are finished.

    Args:
        verdicts: of `judge_initiatives`.

    Returns:
        A `ForecastReview`. Changes by before/after alone are shown and not scored: what came may have other reasons.

    Source: Gneiting and Raftery (2007), JASA 102, 359-378 (interval score).
    """
    table = pd.DataFrame([_tabulate(v) for v in verdicts], columns=list(COLUMNS))
    table = table.astype({"start_at": "datetime64[ns]", "watch_until_at": "datetime64[ns]"})
    scored = table[table["scored"].astype(bool)]
    held = scored[scored["inside"].notna()]
    number = len(scored)
    inside = estimate_rate("forecast_inside_rate", int(held["inside"].sum()), len(held), minimum=FEWEST_FORECASTS)
    if number < FEWEST_FORECASTS:
        note = say(
            "too few finished forecasts to judge: {count}, at least {minimum} needed",
            count=number,
            minimum=FEWEST_FORECASTS,
        )
        inside = replace(inside, value=None, low=None, high=None, note=note)
        return ForecastReview(table, number, inside, None, None, None, note)
    ratios = scored["realised_ratio"].astype(float)
    scores = scored["interval_score_ratio"].astype(float).dropna()
    short = int((ratios < 1).sum())
    return ForecastReview(
        table, number, inside, float(ratios.median() - 1), _test_signs(short, number) < 0.05,
        float(scores.mean()) if len(scores) else None, "",
    )  # fmt: skip


def score_interval(low: float, high: float, came: float, *, level: float = FORECAST_LEVEL) -> float:
    """The interval score: its width, and a fine for what lies outside; the smaller the better.

    >>> score_interval(1, 3, 2), score_interval(1, 3, 4)
    (2.0, 12.0)
    """
    fine = 2 / (1 - level)
    return round(high - low + fine * (max(0.0, low - came) + max(0.0, came - high)), 12)


def _tabulate(verdict: Verdict) -> dict[str, Any]:
    initiative, core = verdict.initiative, verdict.core
    low, high, expected = initiative.expected_low, initiative.expected_high, initiative.expected_change
    finished = verdict.status in FINISHED
    came = core.effect
    scored = finished and bool(expected) and came is not None and not core.descriptive
    has_interval = came is not None and low is not None and high is not None
    row: dict[str, Any] = {
        "initiative": initiative.name, "owner": initiative.owner, "metric": initiative.metric, "unit": core.unit,
        "status": verdict.status, "verdict": verdict.verdict, "strength": verdict.strength,
        "difficulty_count": initiative.difficulty, "start_at": initiative.start, "watch_until_at": initiative.last_day,
        "expected_change": expected, "expected_low": low, "expected_high": high, "realised_change": came,
        "realised_low": core.low, "realised_high": core.high, "finished": finished, "scored": scored,
        "budget_amount": initiative.budget, "decision": initiative.decision,
        "kill_met": None if verdict.kill is None else verdict.kill.met, "payback": "not known",
    }  # fmt: skip
    if has_interval:
        row["inside"] = bool(low <= came <= high)  # type: ignore[operator]
    if expected and came is not None:
        row["realised_ratio"] = came / expected
        if has_interval:
            row["interval_score_ratio"] = score_interval(low, high, came) / abs(expected)  # type: ignore[arg-type]
    return row | _count_money(verdict)


def _count_money(verdict: Verdict) -> dict[str, Any]:
    """Revenue that the initiative brought, and when it pays its budget back."""
    initiative = verdict.initiative
    found: dict[str, Any] = {}
    if initiative.payback_months is not None:
        found["payback_due_months"] = max(initiative.payback_months)
    core = verdict.core
    size = _count_units(core)
    if core.unit in ("count", "ratio") and core.effect and size and core.direction == "better" and initiative.budget:
        found["cost_per_unit_amount"] = initiative.budget / abs(core.effect * size)
    money = next((k for k in verdict.looks if k.metric == "revenue_amount" and not k.descriptive), None)
    size = None if money is None else _count_units(money)
    if money is None or size is None or money.effect is None or money.low is None or money.high is None:
        return found
    found |= {"gain_amount": money.effect * size, "gain_low": money.low * size, "gain_high": money.high * size}
    if not initiative.budget:
        return found
    months = money.window_days / MONTH_DAYS
    if money.direction != "better" or not months:
        return found | {"payback": "not yet clear"}
    found["payback_months"] = initiative.budget / (found["gain_amount"] / months)
    due = found.get("payback_due_months")
    return found | {"payback": "not known" if due is None else "in time" if found["payback_months"] <= due else "late"}


def _count_units(look: Look) -> int | None:
    """What the effect is to be multiplied by: users who got it, or days."""
    if look.per_user:
        return look.users_count
    return look.window_days if isinstance(look.result, CounterfactualResult) else None


def _test_signs(below: int, number: int) -> float:
    """Exact two-sided sign test."""
    tail = sum(math.comb(number, k) for k in range(min(below, number - below) + 1)) / 2**number
    return float(np.minimum(1.0, 2 * tail))

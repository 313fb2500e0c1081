"""Satisfaction: what users answer when they are asked, as CSAT and as net promoter score."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import ibis
import ibis.expr.types as ir
import pandas as pd

from opslib.data.periods import Calendar, Period
from opslib.language import say
from opslib.measure.estimate import MINIMUM_DENOMINATOR, Estimate, estimate_rate, quantile

# A scale's least and most; answers outside are of another scale.
SCALES = {"csat": (1, 5), "nps": (0, 10)}
SATISFIED, PROMOTER, DETRACTOR = 4, 9, 6
# Pseudo-answers of the adjusted Wald interval: promoters and detractors each, and all together.
EXTREME, ADDED = 0.75, 3.0


@dataclass(frozen=True)
class SatisfactionResult:
    """What users answer when asked.

    Attributes:
        period: local days of the answers.
        satisfaction_rate: answers of 4 or 5 of five / answers (CSAT).
        nps_ratio: share of 9 and 10 less share of 0 to 6, from -1 to 1; people write it times 100.
        satisfaction_response_rate, nps_response_rate: users who answered / users active in the period. Who was asked is
            not in the data, so it is no share of those asked.
        answers: day, kind, score, answers_count.
        excluded_count: answers outside their scale, which are in nothing.
        notes: what a reader must know.
    """

    period: Period
    satisfaction_rate: Estimate
    nps_ratio: Estimate
    satisfaction_response_rate: Estimate
    nps_response_rate: Estimate
    answers: pd.DataFrame
    excluded_count: int
    notes: tuple[str, ...]

    @property
    def estimates(self) -> dict[str, Estimate]:
        """The four estimates by name."""
        found = self.satisfaction_rate, self.nps_ratio, self.satisfaction_response_rate, self.nps_response_rate
        return {e.name: e for e in found}

    def findings(self) -> list[dict[str, Any]]:
        """The four estimates."""
        return [e.to_finding(period=self.period.label) for e in self.estimates.values()]


def measure_satisfaction(
    surveys: ir.Table,
    period: Period,
    *,
    calendar: Calendar,
    active_days: ir.Table | None = None,
    minimum: int = MINIMUM_DENOMINATOR,
) -> SatisfactionResult:
    """Measure satisfaction (CSAT) and the net promoter score, with how many users answered.

    Args:
        surveys: user_id, ts (UTC), kind (csat or nps), score; one row an answer.
        period: local days of the answers.
        active_days: user_id, day; who could have answered. None: no response rate.
        minimum: fewer answers give no value.

    Returns:
        A `SatisfactionResult`. CSAT has Wilson's interval, NPS the adjusted Wald interval of a trinomial: three answers
        are added, of which a quarter promoters and a quarter detractors.

    Source: Reichheld (2003), Harvard Business Review 81(12); Rocks (2016), The American Statistician 70(4), 365-372.

    >>> import datetime as dt
    >>> table = ibis.memtable({"user_id": range(10), "ts": [dt.datetime(2026, 1, 1, 9)] * 10,
    ...     "kind": ["nps"] * 10, "score": [10, 10, 9, 9, 9, 8, 7, 7, 6, 0]})
    >>> day = Period(dt.date(2026, 1, 1), dt.date(2026, 1, 2), "New Year")
    >>> round(measure_satisfaction(table, day, calendar=Calendar(), minimum=5).nps_ratio.value, 2)
    0.3
    """
    rows = surveys.select("user_id", "kind", "score", day=calendar.local_day(surveys.ts))
    rows = rows.filter(rows.day >= period.start, rows.day < period.end, rows.score.notnull())
    counted = rows.group_by("day", "kind", "score").aggregate(answers_count=rows.count())
    answers = counted.order_by(["day", "kind", "score"]).to_pandas()
    answers["day"] = pd.to_datetime(answers["day"])
    least, most = (answers["kind"].map({k: ends[i] for k, ends in SCALES.items()}).astype(float) for i in (0, 1))
    inside_scale = answers["score"].between(least, most)
    excluded = int(answers.loc[~inside_scale, "answers_count"].sum())
    answers = answers[inside_scale].reset_index(drop=True)
    inside = ibis.or_(*((rows.kind == k) & rows.score.between(low, high) for k, (low, high) in SCALES.items()))
    fine = rows.filter(inside)
    users = fine.group_by("kind").aggregate(users=fine.user_id.nunique()).to_pandas().set_index("kind")["users"]
    reached = 0
    if active_days is not None:
        there = active_days.filter(active_days.day >= period.start, active_days.day < period.end)
        reached = int(there.user_id.nunique().to_pandas())
    satisfaction_response = _estimate_response("satisfaction_response_rate", "csat", users, reached)
    nps_response = _estimate_response("nps_response_rate", "nps", users, reached)
    notes = [say("{count:,} answers outside their scale are left out", count=excluded)] if excluded else []
    return SatisfactionResult(
        period,
        estimate_satisfaction(answers, minimum=minimum),
        estimate_nps(answers, minimum=minimum),
        satisfaction_response,
        nps_response,
        answers,
        excluded,
        tuple(notes),
    )


def _estimate_response(name: str, kind: str, users: pd.Series, reached: int) -> Estimate:
    answered = float(users.get(kind, 0))
    if answered > reached:
        note = say("not enough data: more users answered than are known to have been active")
        return Estimate(name, None, answered, reached, None, None, "none", "rate", note=note)
    return estimate_rate(name, answered, reached)


def estimate_satisfaction(answers: pd.DataFrame, *, minimum: int = MINIMUM_DENOMINATOR) -> Estimate:
    """Share of csat answers that are 4 or 5, from rows of kind, score, answers_count."""
    asked = answers[answers["kind"] == "csat"]
    satisfied = asked.loc[asked["score"] >= SATISFIED, "answers_count"].sum()
    total = float(asked["answers_count"].sum())
    estimate = estimate_rate("satisfaction_rate", float(satisfied), total, minimum=minimum)
    return estimate if estimate.known else replace(estimate, note=_say_few(total, minimum))


def _say_few(count: float, minimum: int) -> str:
    return say("not enough data: {count:,.0f} answers, at least {minimum} needed", count=count, minimum=minimum)


def estimate_nps(answers: pd.DataFrame, *, minimum: int = MINIMUM_DENOMINATOR) -> Estimate:
    """Net promoter score from rows of kind, score, answers_count: promoters less detractors, over all answers.

    >>> frame = pd.DataFrame({"kind": "nps", "score": [10, 8, 3], "answers_count": [60, 20, 20]})
    >>> e = estimate_nps(frame)
    >>> round(e.value, 2), round(e.low, 3), round(e.high, 3)
    (0.4, 0.234, 0.543)
    """
    asked = answers[answers["kind"] == "nps"]
    total = float(asked["answers_count"].sum())
    promoters = float(asked.loc[asked["score"] >= PROMOTER, "answers_count"].sum())
    detractors = float(asked.loc[asked["score"] <= DETRACTOR, "answers_count"].sum())
    if total < max(minimum, 1):
        note = _say_few(total, minimum)
        return Estimate("nps_ratio", None, promoters - detractors, total, None, None, "none", "ratio", note=note)
    size = total + ADDED
    above, below = (promoters + EXTREME) / size, (detractors + EXTREME) / size
    center = above - below
    half = quantile() * math.sqrt((above + below - center**2) / size)
    value = (promoters - detractors) / total
    low, high = min(max(-1.0, center - half), value), max(min(1.0, center + half), value)
    return Estimate("nps_ratio", value, promoters - detractors, total, low, high, "adjusted Wald, trinomial", "ratio")

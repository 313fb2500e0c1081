"""The next quarter: what to expect of each headline metric, the chance to meet its target, and which target to set."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from opslib.data.memory import remember
from opslib.data.periods import DAY, Period
from opslib.data.playbook import TARGET_METRICS, Target
from opslib.data.source import Data
from opslib.decide.review.history import BLOCKS, measure_history
from opslib.decide.review.measures import PeriodMeasures, gather_active_days
from opslib.decide.review.prediction import FEWEST_QUARTERS, Prediction, predict_from_history, to_scale
from opslib.language import say
from opslib.measure.activity import STICKINESS_DAYS
from opslib.measure.estimate import Estimate, Unit, to_plain_record
from opslib.measure.forecast import measure_sensitivity
from opslib.measure.model import DAU_STATES, FIRST_DAYS, MAU, STATES, fit_model, project_users
from opslib.measure.states import StateRatesResult, measure_state_rates

MODELLED = ("dau_count", "mau_count", "stickiness_rate")
DRAWS, TEST_DRAWS = 100, 40
TEST_STEP_DAYS = 30
MOST_TESTS = 12
# How many earlier quarters the model's own spread counts for, beside the misses that were seen.
MODEL_WEIGHT = 2.0
SENSITIVITY_DAYS = 28


@dataclass(frozen=True)
class NextQuarter:
    """The next quarter.

    Attributes:
        period: its days.
        proposals: a row a headline metric: metric, unit, direction (at_least or at_most), now_value, target_value (the
            playbook's; missing without), method ("growth model", "own level", "own drift"; empty where nothing can be
            said), forecast_value (median), low_value and high_value (80%), likely_value and ambitious_value (reached
            with 70% and with 30% probability), probability_rate (that the playbook's target is met), error_value (mean
            miss of such predictions before: relative; of rates in rate), tests_count, quarters_count, note.
        sensitivity: which rate moves daily active users most (see `measure_sensitivity`), four weeks ahead.
    """

    period: Period
    proposals: pd.DataFrame
    sensitivity: pd.DataFrame

    def findings(self) -> list[dict[str, Any]]:
        """One flat record a metric, and a rate."""
        head = {"name": "next_quarter", "period": self.period.label}
        proposals = self.proposals.drop(columns="unit", errors="ignore")
        records = [{**head, **to_plain_record(r)} for r in proposals.to_dict("records")]
        return records + [{"name": "sensitivity", **to_plain_record(r)} for r in self.sensitivity.to_dict("records")]


@remember
def predict_next_quarter(data: Data, now: PeriodMeasures, following: Period, *, segment: str = "") -> NextQuarter:
    """Predict the next quarter from what was known on the last day of the one reviewed.

    Args:
        data: the company's data.
        now: the quarter reviewed.
        following: the next quarter.
        segment: one group of users; empty: everybody.

    Returns:
        A `NextQuarter`. Active users come from the growth model (users by state and age, moved on day by day), the rest
        from the metric's own level or drift. Both were tried on earlier days, and the intervals are as wide as the
        misses were. No season is known from less than two years of data, and none is assumed.
    """
    active_days = gather_active_days(data, segment)
    known = active_days.filter(active_days.day < now.period.end)
    span = Period(data.span.start, now.period.end, "up to the review")
    rates = measure_state_rates(known, span, as_of=now.period.last_day)
    estimates = now.estimates()
    predictions = predict_activity(rates, estimates, following)
    history = measure_history(data, active_days, now.period, segment=segment)
    for name, estimate in estimates.items():
        if name in TARGET_METRICS and name not in MODELLED:
            series = history[name] if name in history.columns else pd.Series(dtype=float)
            value = _scale_total(name, estimate, now.period, following)
            found = predict_from_history(name, estimate.unit, value, series, per_quarter=BLOCKS)
            predictions[name] = found
    targets = data.playbook.targets
    rows = [_describe(predictions[n], estimates[n], targets) for n in estimates if n in predictions]
    return NextQuarter(following, pd.DataFrame(rows), measure_sensitivity(rates, horizons=(SENSITIVITY_DAYS,)))


def predict_activity(
    rates: StateRatesResult, estimates: Mapping[str, Estimate], following: Period
) -> dict[str, Prediction]:
    """Predict daily and monthly active users and stickiness with the growth model, tried on earlier days.

    Where "as this quarter" was nearer the truth on those days, that is the prediction. The spread is that of the
    misses; the model's own counts for two quarters beside them.
    """
    moved = rates.flows.moved
    values = {name: (e.value, e.unit) for name in MODELLED if (e := estimates.get(name)) is not None}
    if len(moved) < FIRST_DAYS:
        note = say(
            "not enough data: {days} days, at least {minimum} needed for a forecast",
            days=len(moved),
            minimum=FIRST_DAYS,
        )
        return {name: Prediction(name, unit, value, note=note) for name, (value, unit) in values.items()}
    horizon, skip = (following.end - rates.as_of).days - 1, (following.start - rates.as_of).days - 1
    dau = moved[..., DAU_STATES].sum(axis=(1, 2, 3))
    mau = moved[..., [*range(DAU_STATES.stop), STATES.index("at_risk_wau"), MAU]].sum(axis=(1, 2, 3))
    futures = project_users(fit_model(moved, rates.as_of), horizon, draws=DRAWS, seed=0)
    drawn = _summarise(futures.dau[:, skip:], futures.mau)
    today = _summarise(dau[None, -min(len(dau), horizon - skip) :], mau[None])
    misses = _try_earlier(moved, dau, mau, rates, horizon, skip)
    found = {}
    for name, (value, unit) in values.items():
        if value is None or not value or not today[name][0]:
            found[name] = Prediction(name, unit, value, note=say("no value in this quarter"))
            continue
        # The model counts months of 30 days, the review weeks: what differs today is taken to differ then.
        shift = to_scale(unit, value) - to_scale(unit, float(today[name][0])) if name != "dau_count" else 0.0
        ahead = np.array([to_scale(unit, float(v)) for v in drawn[name]])
        seen = misses[name]
        quarters = 1 + (len(seen) - 1) * TEST_STEP_DAYS / (horizon - skip) if len(seen) else 0.0
        method, center, column = "growth model", float(np.median(ahead)) + shift, "model"
        if quarters >= FEWEST_QUARTERS and seen["level_miss"].abs().mean() < seen["model_miss"].abs().mean():
            # A model that did worse than "as this quarter" is not to be planned with.
            method, center, column = "own level", to_scale(unit, value), "level"
        squares = quarters * float(np.mean(np.square(seen[f"{column}_miss"]))) if len(seen) else 0.0
        scale = math.sqrt((squares + MODEL_WEIGHT * float(np.var(ahead))) / (quarters + MODEL_WEIGHT))
        error = float(seen[f"{column}_error"].mean()) if len(seen) else None
        found[name] = Prediction(
            name, unit, value, method, center, max(scale, 1e-6), quarters + MODEL_WEIGHT, error, len(seen), quarters
        )
    return found


def _try_earlier(
    moved: np.ndarray, dau: np.ndarray, mau: np.ndarray, rates: StateRatesResult, horizon: int, skip: int
) -> dict[str, pd.DataFrame]:
    """Misses of the prediction as it would have been made on earlier days."""
    columns = ["model_miss", "model_error", "level_miss", "level_error"]
    rows: dict[str, list[tuple[float, ...]]] = {name: [] for name in MODELLED}
    last = len(moved) - 1
    origins = range(last - horizon, FIRST_DAYS - 1, -TEST_STEP_DAYS)
    for origin in list(origins)[:MOST_TESTS]:
        day = rates.as_of - (last - origin) * DAY
        futures = project_users(fit_model(moved[: origin + 1], day), horizon, draws=TEST_DRAWS, seed=0)
        guess = _summarise(futures.dau[:, skip:], futures.mau)
        inside = slice(origin + 1 + skip, origin + 1 + horizon)
        came = _summarise(dau[None, inside], mau[None, : inside.stop])
        known = slice(max(0, origin + 1 - (horizon - skip)), origin + 1)
        level = _summarise(dau[None, known], mau[None, : origin + 1])
        for name in MODELLED:
            unit: Unit = "rate" if name == "stickiness_rate" else "count"
            actual = float(came[name][0])
            guesses = (float(np.median(guess[name])), float(level[name][0]))
            if actual and all(guesses):
                rows[name].append(tuple(x for value in guesses for x in _compare(unit, actual, value)))
    return {name: pd.DataFrame(found, columns=columns) for name, found in rows.items()}


def _compare(unit: Unit, actual: float, guess: float) -> tuple[float, float]:
    """A miss on the scale of predictions, and as people read it."""
    error = abs(actual - guess)
    return to_scale(unit, actual) - to_scale(unit, guess), error if unit == "rate" else error / actual


def _summarise(dau: np.ndarray, mau: np.ndarray) -> dict[str, np.ndarray]:
    """A quarter's metrics of each future: mean of its days, active users of its last month, days per user."""
    weeks = dau[:, -STICKINESS_DAYS:].mean(axis=1)
    last = mau[:, -1].astype(float)
    return {
        "dau_count": dau.mean(axis=1),
        "mau_count": last,
        "stickiness_rate": np.where(last > 0, weeks / np.where(last > 0, last, 1.0), 0.0),
    }


def _scale_total(name: str, estimate: Estimate, now: Period, following: Period) -> float | None:
    """Sums over a quarter that is longer or shorter than the next, as many days of it as the next has."""
    if estimate.value is None or name not in ("new_users_count", "revenue_amount") or not now.days:
        return estimate.value
    return estimate.value * following.days / now.days


def _describe(prediction: Prediction, estimate: Estimate, targets: Mapping[str, Target]) -> dict[str, Any]:
    target = targets.get(prediction.metric)
    row = prediction.describe(TARGET_METRICS[prediction.metric], None if target is None else target.bound)
    if target is not None and (target.at_most is not None) != (row["direction"] == "at_most"):
        direction = "at_most" if target.at_most is not None else "at_least"
        row = prediction.describe(direction, target.bound)
    return row | {"now_value": estimate.value}

"""What comes if nothing changes, which rate moves it most, and what each lever would do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from opslib.decide.growth.acquisition import Acquisition
from opslib.decide.growth.staying import Staying
from opslib.decide.scope import Scope
from opslib.measure.economics import Economics, measure_economics
from opslib.measure.estimate import to_plain_record
from opslib.measure.forecast import (
    BacktestResult,
    ForecastResult,
    backtest_forecast,
    forecast_activity,
    measure_sensitivity,
)
from opslib.measure.levers import LeversResult, simulate_levers
from opslib.measure.states import StateRatesResult, measure_state_rates

# A lever without a value of its own is set this much better than today: the same effort for each.
BETTER_RATE = 0.1
# Cheaper is better; more is better for the others.
COSTS = ("cac_amount",)


@dataclass(frozen=True)
class Outlook:
    """What comes.

    Attributes:
        rates: users by state and day, with daily transition rates.
        forecast, backtest: daily active users to come, and how such forecasts did on earlier days.
        sensitivity: which rate moves daily active users most (see `measure_sensitivity`).
        economics: what activity brings and growth costs.
        levers: what each lever would do, beside the base case.
        chosen: lever -> where its value comes from: "parameter", "target" of the playbook, or "a tenth better".
        unknown: levers that were not simulated, because these data do not tell their value today.
    """

    rates: StateRatesResult
    forecast: ForecastResult
    backtest: BacktestResult
    sensitivity: pd.DataFrame
    economics: Economics
    levers: LeversResult
    chosen: dict[str, str]
    unknown: tuple[str, ...]

    def findings(self) -> list[dict[str, Any]]:
        """Flat records of all parts."""
        records = self.rates.findings() + self.forecast.findings() + self.backtest.findings()
        records += [{"name": "sensitivity", **to_plain_record(row)} for row in self.sensitivity.to_dict("records")]
        return records + self.levers.findings()


def measure_outlook(scope: Scope, staying: Staying, acquisition: Acquisition, levers: Mapping[str, float]) -> Outlook:
    """Forecast activity and simulate levers.

    Args:
        scope: data and days.
        staying, acquisition: the levers' values today.
        levers: lever -> its value; 0 takes the playbook's target or, where that is met, a tenth better than today.
    """
    rates = measure_state_rates(scope.active_days, scope.span, as_of=scope.as_of)
    economics = _measure_economics(scope, acquisition)
    sensitivity = measure_sensitivity(rates)
    today: dict[str, float | None] = {
        "d1_rate": staying.now.estimate(1).value,
        "d7_rate": staying.now.estimate(7).value,
        "reactivation_rate": _find_fitted(sensitivity, rates, "reactivation_rate"),
        "cac_amount": economics.cac.value if economics.cac else None,
        "k_factor": economics.k_factor.value if economics.k_factor else None,
    }
    values, chosen = _choose_values(scope, levers, today)
    backtest = backtest_forecast(rates)
    return Outlook(
        rates,
        forecast_activity(rates, backtest=backtest),
        backtest,
        sensitivity,
        economics,
        simulate_levers(rates, values, economics=economics),
        chosen,
        tuple(name for name in levers if name not in values),
    )


def _choose_values(
    scope: Scope, levers: Mapping[str, float], today: Mapping[str, float | None]
) -> tuple[dict[str, float], dict[str, str]]:
    values, chosen = {}, {}
    for name, value in levers.items():
        current = today[name]
        if not current:
            continue
        better = current * (1 - BETTER_RATE if name in COSTS else 1 + BETTER_RATE)
        target = scope.data.playbook.targets.get(name)
        if value:
            values[name], chosen[name] = value, "parameter"
        elif target is not None and (target.bound < better if name in COSTS else target.bound > better):
            values[name], chosen[name] = target.bound, "target"
        else:
            capped = better if name in ("k_factor", *COSTS) else min(better, 0.99)
            values[name], chosen[name] = round(capped, 3 if name not in COSTS else 2), "a tenth better"
    return values, chosen


def _find_fitted(sensitivity: pd.DataFrame, rates: StateRatesResult, name: str) -> float | None:
    """A rate as the model has it, over all the days that it was fitted on; None where too few users have it."""
    estimate = rates.rates.get(name)
    fitted = sensitivity.loc[sensitivity["rate"] == name, "value_rate"].dropna() if len(sensitivity) else pd.Series()
    return float(fitted.iloc[0]) if estimate is not None and estimate.known and len(fitted) else None


def _measure_economics(scope: Scope, acquisition: Acquisition) -> Economics:
    referral = acquisition.referral
    middle = referral.cycle.get(0.5) if referral else None
    return measure_economics(
        scope.active_days,
        scope.now,
        calendar=scope.data.calendar,
        orders=scope.table("orders"),
        cac=acquisition.channels.totals.get("cac_amount"),
        k_factor=referral.k_cohort if referral else None,
        cycle_days=middle.value if middle else None,
        reward_per_referred=_find_reward(acquisition),
    )


def _find_reward(acquisition: Acquisition) -> float:
    """Rewards / users brought in the period."""
    if acquisition.referral is None or "reward_amount" not in acquisition.referral.by_kind.columns:
        return 0.0
    by_kind = acquisition.referral.by_kind
    joined = float(by_kind["joined_count"].sum())
    return float(by_kind["reward_amount"].fillna(0).sum()) / joined if joined else 0.0

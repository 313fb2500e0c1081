"""What comes if nothing changes, which rate moves it most, and what each lever would do."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd

from opslib.data.memory import remember
from opslib.decide.growth.acquisition import Acquisition, measure_acquisition_costs
from opslib.decide.growth.staying import measure_staying
from opslib.decide.scope import Scope
from opslib.errors import InputError
from opslib.measure.economics import Economics, measure_economics
from opslib.measure.estimate import to_plain_record
from opslib.measure.forecast import (
    BacktestResult,
    ForecastResult,
    backtest_forecast,
    forecast_activity,
    measure_sensitivity,
)
from opslib.measure.levers import LeverCase, LeversResult, prepare_levers
from opslib.measure.states import StateRatesResult, measure_state_rates

# A lever without a value of its own is set this much better than today: the same effort for each.
BETTER_RATE = 0.1
# Cheaper is better; more is better for the others.
COSTS = ("cac_amount",)


@dataclass(frozen=True)
class Outlook:
    """What comes; each part is computed when it is first asked for.

    Attributes:
        scope: data, segment and days.
        asked: lever -> its value; 0 takes the playbook's target or, where that is met, a tenth better than today.
        rates: users by state and day, with daily transition rates.
        forecast, backtest: daily active users to come, and how such forecasts did on earlier days.
        sensitivity: which rate moves daily active users most (see `measure_sensitivity`).
        economics: what activity brings and growth costs.
        levers: what each lever would do, beside the base case.
        chosen: lever -> where its value comes from: "parameter", "target" of the playbook, or "a tenth better".
        unknown: levers that were not simulated, because these data do not tell their value today.
    """

    scope: Scope
    asked: Mapping[str, float]

    @cached_property
    def rates(self) -> StateRatesResult:
        return _measure_rates(self.scope.narrow(now=False))

    @cached_property
    def forecast(self) -> ForecastResult:
        return _forecast(self.scope.narrow(now=False))

    @cached_property
    def backtest(self) -> BacktestResult:
        return _backtest(self.scope.narrow(now=False))

    @cached_property
    def sensitivity(self) -> pd.DataFrame:
        return _measure_sensitivity(self.scope.narrow(now=False))

    @cached_property
    def economics(self) -> Economics:
        return _measure_economics(self.scope.narrow())

    @cached_property
    def levers(self) -> LeversResult:
        return _prepare_levers(self.scope.narrow()).simulate(self._choices[0])

    @property
    def chosen(self) -> dict[str, str]:
        return self._choices[1]

    @property
    def unknown(self) -> tuple[str, ...]:
        return tuple(name for name in self.asked if name not in self.chosen)

    @cached_property
    def _choices(self) -> tuple[dict[str, float], dict[str, str]]:
        return _choose_values(self.scope, self.asked, _find_today(self.scope.narrow()))

    def findings(self) -> list[dict[str, Any]]:
        """Flat records of all parts."""
        records = self.rates.findings() + self.forecast.findings() + self.backtest.findings()
        records += [{"name": "sensitivity", **to_plain_record(row)} for row in self.sensitivity.to_dict("records")]
        return records + self.levers.findings()


def measure_outlook(scope: Scope, levers: Mapping[str, float]) -> Outlook:
    """Forecast activity and simulate levers.

    Args:
        scope: data and days.
        levers: lever -> its value; 0 takes the playbook's target or, where that is met, a tenth better than today.

    Raises:
        InputError: a lever has a value that it cannot have.
    """
    for name, value in levers.items():
        if name.endswith("_rate") and not 0 <= value < 1:
            raise InputError(f"{name} {value:g}: a rate lies from 0 to below 1; write 35% as 0.35.")
        if not math.isfinite(value) or value < 0:
            raise InputError(f"{name} {value:g}: a lever cannot be below 0.")
    return Outlook(scope, levers)


@remember
def _measure_rates(scope: Scope) -> StateRatesResult:
    return measure_state_rates(scope.active_days, scope.span, as_of=scope.as_of)


@remember
def _backtest(scope: Scope) -> BacktestResult:
    return backtest_forecast(_measure_rates(scope))


@remember
def _forecast(scope: Scope) -> ForecastResult:
    return forecast_activity(_measure_rates(scope), backtest=_backtest(scope))


@remember
def _measure_sensitivity(scope: Scope) -> pd.DataFrame:
    return measure_sensitivity(_measure_rates(scope))


@remember
def _prepare_levers(scope: Scope) -> LeverCase:
    return prepare_levers(_measure_rates(scope.narrow(now=False)), economics=_measure_economics(scope))


@remember
def _find_today(scope: Scope) -> dict[str, float | None]:
    """Lever -> its value today; None where the data do not tell."""
    everything, curve = scope.narrow(now=False), measure_staying(scope).now
    economics = _measure_economics(scope)
    fitted = _find_fitted(_measure_sensitivity(everything), _measure_rates(everything), "reactivation_rate")
    return {
        "d1_rate": curve.estimate(1).value,
        "d7_rate": curve.estimate(7).value,
        "reactivation_rate": fitted,
        "cac_amount": economics.cac.value if economics.cac else None,
        "k_factor": economics.k_factor.value if economics.k_factor else None,
    }


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


@remember
def _measure_economics(scope: Scope) -> Economics:
    acquisition = measure_acquisition_costs(scope)
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

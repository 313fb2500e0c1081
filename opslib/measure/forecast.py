"""A forecast of daily active users from the state model, its back-test, and which rate moves it most."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from opslib.data.periods import DAY
from opslib.language import say
from opslib.measure.estimate import to_plain_record
from opslib.measure.model import DAU_STATES, FIRST_DAYS, StateModel, fit_model, project_users
from opslib.measure.states import DAILY_STATES, RATES, StateRatesResult

LEVELS = (0.80, 0.95)
HORIZON_GROUPS = ((1, 7), (8, 14), (15, 28), (29, 400))
DRAWS = 200
# A factor comes from earlier misses and from as many that the model itself expects; it widens, it never narrows.
EXPECTED_SCORES = 28
WIDEST_FACTOR = 2.0


@dataclass(frozen=True)
class ForecastResult:
    """Daily active users to come.

    Attributes:
        as_of: the last day known.
        daily: day, horizon_days, dau_count (median), mean_count, low80_count, high80_count, low95_count, high95_count,
            new_users_count (mean), mau_count (mean; active within 30 days); empty when there is not enough data.
        factors: what the model's intervals were multiplied by, on the scale of logarithms, at each horizon, as earlier
            misses tell.
        note: what a reader must know.
    """

    as_of: dt.date
    daily: pd.DataFrame
    factors: tuple[float, ...]
    note: str = ""

    def findings(self) -> list[dict[str, Any]]:
        """One flat record each seventh day and the last."""
        last = self.daily["horizon_days"].max()
        rows = self.daily[(self.daily["horizon_days"] % 7 == 0) | (self.daily["horizon_days"] == last)]
        head = {"name": "dau_forecast", "as_of": self.as_of.isoformat()}
        return [head | to_plain_record(row) for row in rows.to_dict("records")]


@dataclass(frozen=True)
class BacktestResult:
    """Forecasts as they would have been made on earlier days, beside what came.

    Attributes:
        days: origin, day, horizon_days, actual_count, dau_count (the forecast), low80_count, high80_count, low95_count,
            high95_count, last_value_count, seasonal_count (the same weekday of the origin's last week).
        summary: horizon, days_count, origins_count, coverage80_rate, coverage95_rate, mae_count and wape_rate (sum of
            absolute errors / sum of actuals) of the forecast, then mae and wape of last_value and seasonal.
        factors: what the intervals of a forecast made now are multiplied by at each group of horizons.
        note: what a reader must know.
    """

    days: pd.DataFrame
    summary: pd.DataFrame
    factors: tuple[float, ...]
    note: str = ""

    def findings(self) -> list[dict[str, Any]]:
        """One flat record a group of horizons."""
        return [{"name": "dau_backtest", **to_plain_record(row)} for row in self.summary.to_dict("records")]


def forecast_activity(
    rates: StateRatesResult,
    *,
    horizon_days: int = 28,
    new_users: Sequence[float] | None = None,
    backtest: BacktestResult | None = None,
    draws: int = DRAWS,
    seed: int = 0,
) -> ForecastResult:
    """Forecast daily active users.

    Args:
        rates: users by state and day, from `measure_state_rates`.
        horizon_days: how far.
        new_users: new users on each day to come, when they are planned; otherwise they go on at their recent level.
        backtest: earlier misses, which widen the intervals.
        draws: simulated futures.
        seed: of their random numbers; the same input gives the same output.

    Returns:
        A `ForecastResult`.

    Method: each simulated future moves the users of every state and age a day at a time with the rates of the last 84
    days (`opslib.measure.model.fit_model`). Futures differ in the rates themselves (as far as their counts leave them
    open), in a level of all rates and one of new users that wander from day to day as much as they did, in daily
    noise on both, and in the chance of counts. Weekdays have their own level where the data show one.

    >>> days = [dt.date(2026, 1, 1) + n * DAY for n in range(60)]
    >>> import ibis
    >>> from opslib.data.periods import Period
    >>> from opslib.measure.states import measure_state_rates
    >>> pairs = [(u, d) for n, d in enumerate(days) for u in range(3 * n + 60) if (u + n) % 3]
    >>> table = ibis.memtable({"user_id": [u for u, _ in pairs], "day": [d for _, d in pairs]})
    >>> result = forecast_activity(measure_state_rates(table, Period(days[0], days[-1] + DAY, "")), horizon_days=7)
    >>> result.daily["low80_count"].le(result.daily["high80_count"]).all(), len(result.daily)
    (np.True_, 7)
    """
    columns = ["day", "horizon_days", "dau_count", "mean_count", "low80_count", "high80_count", "low95_count"]
    columns += ["high95_count", "new_users_count", "mau_count"]
    known = len(rates.flows.moved)
    if known < FIRST_DAYS:
        note = say(
            "not enough data: {days} days, at least {minimum} needed for a forecast", days=known, minimum=FIRST_DAYS
        )
        return ForecastResult(rates.as_of, pd.DataFrame(columns=columns), (), note)
    model = fit_model(rates.flows.moved, rates.as_of)
    plan = None if new_users is None else np.asarray(new_users, dtype=float)[:horizon_days]
    if plan is not None and len(plan) < horizon_days:
        raise ValueError(f"new users are given for {len(plan)} days, the horizon has {horizon_days}")
    futures = project_users(model, horizon_days, draws=draws, seed=seed, arrivals=plan)
    by_group = backtest.factors if backtest else (1.0,) * len(HORIZON_GROUPS)
    factors = tuple(by_group[_find_group(h)] for h in range(1, horizon_days + 1))
    frame = _stretch(_find_quantiles(_add_chance(futures.dau, seed)), np.array(factors))
    frame.insert(0, "horizon_days", range(1, horizon_days + 1))
    frame.insert(0, "day", pd.date_range(rates.as_of + DAY, periods=horizon_days))
    frame["new_users_count"], frame["mau_count"] = futures.new_users.mean(axis=0), futures.mau.mean(axis=0)
    note = "" if backtest is None else backtest.note
    return ForecastResult(rates.as_of, frame[columns], factors, note)


def backtest_forecast(
    rates: StateRatesResult,
    *,
    horizon_days: int = 28,
    step_days: int = 7,
    most_origins: int = 52,
    draws: int = DRAWS,
    seed: int = 0,
) -> BacktestResult:
    """Make the forecast as of earlier days, each with what was known then, and compare it with what came.

    Args:
        rates: users by state and day, from `measure_state_rates`.
        horizon_days: how far each forecast goes.
        step_days: days from one origin to the next.
        most_origins: the latest so many origins.
        draws, seed: as in `forecast_activity`.

    Returns:
        A `BacktestResult`; the intervals of each origin are widened by the misses of earlier origins only, and only by
        those already known on that day.

    Method of the widening: each earlier miss is divided by the half-width of the model's 80% interval on its side
    (logarithms). The 80% quantile of these scores, together with 28 such as the model expects, is the factor for
    that group of horizons (split conformal prediction, kept between 1 and 2). Source: Vovk, Gammerman and Shafer
    (2005), Algorithmic Learning in a Random World; Stankeviciute, Alaa and van der Schaar (2021), NeurIPS, for series.
    """
    moved = rates.flows.moved
    dau = moved[..., DAU_STATES].sum(axis=(1, 2, 3))
    origins = list(range(len(moved) - 2, FIRST_DAYS - 2, -step_days))[:most_origins][::-1]
    scores: list[np.ndarray] = []
    parts: list[pd.DataFrame] = []
    for origin in origins:
        span = min(horizon_days, len(moved) - 1 - origin)
        last = rates.as_of - (len(moved) - 1 - origin) * DAY
        model = fit_model(moved[: origin + 1], last)
        draw = _add_chance(project_users(model, horizon_days, draws=draws, seed=seed).dau, seed)[:, :span]
        quantiles = _find_quantiles(draw)
        actual = dau[origin + 1 : origin + 1 + span]
        places = origin + 1 + np.arange(span)
        factors = _find_factors(scores, origin)
        groups = [_find_group(h) for h in range(1, span + 1)]
        frame = _stretch(quantiles, np.array([factors[group] for group in groups]))
        frame.insert(0, "actual_count", actual)
        frame.insert(0, "horizon_days", range(1, span + 1))
        frame.insert(0, "day", pd.date_range(last + DAY, periods=span))
        frame.insert(0, "origin", pd.Timestamp(last))
        frame["last_value_count"] = dau[origin]
        frame["seasonal_count"] = dau[origin - 6 + np.arange(span) % 7]
        parts.append(frame.drop(columns="mean_count"))
        scores.append(np.array([places, groups, _score(_stretch(quantiles, np.ones(span)), actual)]))
    if not parts:
        note = say(
            "not enough data for a back-test: {days} days, more than {minimum} needed",
            days=len(moved),
            minimum=FIRST_DAYS,
        )
        empty = pd.DataFrame(columns=["origin", "day", "horizon_days", "actual_count", "dau_count"])
        return BacktestResult(empty, pd.DataFrame(columns=["horizon"]), (1.0,) * len(HORIZON_GROUPS), note)
    days = pd.concat(parts, ignore_index=True)
    return BacktestResult(days, _compare(days, horizon_days), _find_factors(scores, len(moved) - 1))


def measure_sensitivity(rates: StateRatesResult, *, horizons: Sequence[int] = (28, 182)) -> pd.DataFrame:
    """Measure which rate moves daily active users most.

    Args:
        rates: users by state and day, from `measure_state_rates`.
        horizons: days ahead at which DAU is compared.

    Returns:
        rate, horizon_days, value_rate (mean over the fitted days' users), dau_count (base), per_point_count (DAU gained
        when the rate is one percentage point higher from now on, for everybody in that state), per_tenth_count (when
        it is higher by a tenth of itself); most DAU per point first. `new_users` has no points: a tenth more of them.
        Empty with too few days.

    Differences are of the expected course, without noise; a rate's point is not the same effort as another's, which is
    why both columns are there.
    """
    columns = ["rate", "horizon_days", "value_rate", "dau_count", "per_point_count", "per_tenth_count"]
    if len(rates.flows.moved) < FIRST_DAYS:
        return pd.DataFrame(columns=columns)
    model = fit_model(rates.flows.moved, rates.as_of)
    longest = max(horizons)

    def run(changed: StateModel) -> np.ndarray:
        return project_users(changed, longest, draws=0).dau[0]

    base = run(model)
    rows = []
    for name, (before, now) in RATES.items():
        if DAILY_STATES.names.index(now) not in range(len(DAILY_STATES.active)):
            continue
        state = DAILY_STATES.names.index(before)
        users = model.opening[:, state]
        value = float(model.returns[:, state] @ users / users.sum()) if users.sum() else None
        gains = []
        for step in (0.01, 0.1 * (value or 0)):
            # A small step and its multiple: close to one nobody could gain a whole point.
            small = min(step, 0.001) if step else 0.0
            returns = model.returns.copy()
            returns[:, state] = np.clip(returns[:, state] + small, 0, 1)
            gains.append((run(replace(model, returns=returns)) - base) * (step / small if small else 0))
        rows += [(name, h, value, base[h - 1], gains[0][h - 1], gains[1][h - 1]) for h in horizons]
    more = run(replace(model, new_level=model.new_level + float(np.log(1.1))))
    rows += [("new_users", h, None, base[h - 1], None, more[h - 1] - base[h - 1]) for h in horizons]
    frame = pd.DataFrame(rows, columns=columns)
    return frame.sort_values(["horizon_days", "per_point_count"], ascending=[True, False]).reset_index(drop=True)


def _find_group(horizon: int) -> int:
    return next((i for i, (_, last) in enumerate(HORIZON_GROUPS) if horizon <= last), len(HORIZON_GROUPS) - 1)


def _add_chance(expected: np.ndarray, seed: int) -> np.ndarray:
    """Users as whole people: counts vary by chance around what is expected."""
    return np.random.default_rng([seed, 3]).poisson(expected.T).T


def _find_quantiles(draws: np.ndarray) -> np.ndarray:
    """By day: median, mean, then low and high of each level."""
    ends = [tail for level in LEVELS for tail in ((1 - level) / 2, (1 + level) / 2)]
    return np.vstack([np.median(draws, axis=0), draws.mean(axis=0), np.quantile(draws, ends, axis=0)])


def _stretch(quantiles: np.ndarray, factors: np.ndarray) -> pd.DataFrame:
    """Median, mean and intervals; a factor stretches an interval about the median on the scale of logarithms."""
    median, mean, *ends = quantiles
    middle = _log(median)
    columns = {"dau_count": median, "mean_count": mean}
    for level, low, high in zip(LEVELS, ends[::2], ends[1::2], strict=True):
        name = f"{100 * level:.0f}"
        columns[f"low{name}_count"] = np.maximum(np.exp(middle - factors * (middle - _log(low))) - 0.5, 0)
        columns[f"high{name}_count"] = np.exp(middle + factors * (_log(high) - middle)) - 0.5
    return pd.DataFrame(columns)


def _log(count: Any) -> Any:
    return np.log(np.asarray(count, dtype=float) + 0.5)


def _score(frame: pd.DataFrame, actual: np.ndarray) -> np.ndarray:
    """A miss in half-widths of the 80% interval on its side."""
    middle, came = _log(frame["dau_count"]), _log(actual)
    above, below = _log(frame["high80_count"]) - middle, middle - _log(frame["low80_count"])
    return np.abs(came - middle) / np.maximum(np.where(came >= middle, above, below), 0.02)


def _find_factors(scores: Sequence[np.ndarray], origin: int) -> tuple[float, ...]:
    """Factors from the misses (rows: place, group, score) known on the day at place `origin`."""
    from statistics import NormalDist

    ranks = (np.arange(EXPECTED_SCORES) + 0.5) / EXPECTED_SCORES
    normal = NormalDist()
    expected = np.array([normal.inv_cdf(0.5 + r / 2) for r in ranks]) / normal.inv_cdf(0.5 + LEVELS[0] / 2)
    known = np.concatenate(scores, axis=1) if scores else np.empty((3, 0))
    known = known[:, known[0] <= origin]
    factors: list[float] = []
    for group in range(len(HORIZON_GROUPS)):
        found = known[2, known[1] == group]
        factor = float(np.quantile(np.concatenate([found, expected]), LEVELS[0]))
        # Further ahead than any forecast was tested: as in the furthest group that was.
        factors.append(factors[-1] if not len(found) and factors else float(np.clip(factor, 1, WIDEST_FACTOR)))
    return tuple(factors)


def _compare(days: pd.DataFrame, horizon: int) -> pd.DataFrame:
    rows = []
    groups = [(a, min(b, horizon)) for a, b in HORIZON_GROUPS if a <= horizon]
    for first, last in dict.fromkeys([*groups, (1, horizon)]):
        part = days[days["horizon_days"].between(first, last)]
        if part.empty:
            continue
        actual = part["actual_count"]
        row: dict[str, Any] = {
            "horizon": f"{first}-{last}",
            "days_count": len(part),
            "origins_count": part["origin"].nunique(),
            "coverage80_rate": actual.between(part["low80_count"], part["high80_count"]).mean(),
            "coverage95_rate": actual.between(part["low95_count"], part["high95_count"]).mean(),
        }
        for name, column in (("", "dau"), ("last_value_", "last_value"), ("seasonal_", "seasonal")):
            error = (actual - part[f"{column}_count"]).abs()
            row[f"{name}mae_count"] = error.mean()
            row[f"{name}wape_rate"] = error.sum() / actual.sum() if actual.sum() else None
        rows.append(row)
    return pd.DataFrame(rows)

"""What if: the effect of growth levers on users, revenue and cost over the coming months, next to the base case."""

from __future__ import annotations

import datetime as dt
import math
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
import pandas as pd

from opslib.data.memory import remember
from opslib.language import mark, say
from opslib.measure.economics import Economics
from opslib.measure.estimate import CONFIDENCE, Estimate, quantile, to_plain_record
from opslib.measure.model import (
    FIRST_DAYS,
    NEW,
    STATES,
    Futures,
    StateModel,
    draw_levels,
    draw_returns,
    fit_model,
    trace_cohort,
    walk_users,
)
from opslib.measure.states import AGE_BANDS, DAILY_STATES, RATES, StateRatesResult

BASE, TOGETHER = "base", "all"
MONTH_LENGTH = 365.25 / 12
DRAWS = 200
# Returns that a lever can set, beside D1, which is the new users' own.
RATE_LEVERS = {n: b for n, (b, to) in RATES.items() if to in DAILY_STATES.active and b != "new"}
LEVERS = ("d1_rate", "d7_rate", *RATE_LEVERS, "cac_amount", "k_factor")
NOBODY_IN_STATE = {
    "current": mark("not enough data: nobody was in the state current"),
    "reactivated": mark("not enough data: nobody was in the state reactivated"),
    "resurrected": mark("not enough data: nobody was in the state resurrected"),
    "at_risk_wau": mark("not enough data: nobody was in the state at_risk_wau"),
    "at_risk_mau": mark("not enough data: nobody was in the state at_risk_mau"),
    "dormant": mark("not enough data: nobody was in the state dormant"),
}
METRICS = ("dau_count", "mau_count", "new_users_count", "revenue_amount", "cost_amount")


@dataclass(frozen=True)
class LeversResult:
    """Each lever's effect, beside the base case.

    Attributes:
        as_of: the last day known.
        table: lever ("base", each lever, and "all" for all together), metric (dau_count: mean of the last 7 days;
            mau_count: of the last day; new_users_count, revenue_amount, cost_amount: sums since `as_of`), months_count,
            value, low, high, difference (to the base), difference_low, difference_high; 95% intervals. Missing where
            the data do not tell, for example revenue without orders.
        levers: lever, now_value (as the model has it), then_value (asked for), d1_rate, d7_rate, d30_rate (of the
            model's cohort with that lever).
        notes: lever -> why it could not be simulated, or what a reader must know.
    """

    as_of: dt.date
    table: pd.DataFrame
    levers: pd.DataFrame
    notes: dict[str, str]

    def findings(self) -> list[dict[str, Any]]:
        """One flat record a lever, metric and time."""
        head = {"name": "lever", "as_of": self.as_of.isoformat()}
        return [head | to_plain_record(row) for row in self.table.to_dict("records")]


def simulate_levers(
    rates: StateRatesResult,
    levers: Mapping[str, float],
    *,
    economics: Economics | None = None,
    months: Sequence[int] = (1, 3, 6),
    draws: int = DRAWS,
    seed: int = 0,
) -> LeversResult:
    """Simulate what happens when a lever is set to a new value from tomorrow on.

    Args:
        rates: users by state and day, from `measure_state_rates`.
        levers: lever -> its new value; see below.
        economics: revenue and costs, from `measure_economics`.
        months: times to report, in months of 30.4 days.
        draws: simulated futures; lever and base share their random numbers, so differences carry the uncertainty of the
            lever's effect and not that of the future as a whole.
        seed: of the random numbers; the same input gives the same output.

    Returns:
        A `LeversResult`.

    Raises:
        ValueError: an unknown lever, or a value that it cannot have.

    Levers, each from tomorrow on; all else stays as the model has it:

    - `d1_rate`: for users who come from tomorrow on, the chance to be active on day 1 is the value.
    - `d7_rate`: for them, the odds of being active on days 2 to 7 are multiplied, for all states alike, by the one
      number that makes the model's cohort have this D7 (day 1 unchanged; with `d1_rate` too, after that is set).
    - How much of either lasts is not in the data, and decides most. So it is part of the uncertainty: the odds of all
      later days are multiplied by that number to a power between 0 (gained users come back as others in their
      state do, and the gain soon fades) and 1 (the whole curve is lifted), each simulated future with its own.
    - `curr_rate`, `rurr_rate`, `surr_rate`, `iwaurr_rate`, `reactivation_rate`, `resurrection_rate`: the odds of users
      in that state are multiplied, for all ages alike, so that the rate over all of them becomes the value.
    - `cac_amount`: the same budget buys budget / value new users instead of budget / CAC, of the same quality. Cost
      stays.
    - `k_factor`: each user who comes from tomorrow on brings `value` users a cycle later instead of K, who bring others
      in turn, and are like other new users; each one more costs a reward.

    Revenue per active day stays what it is: users gained are taken to buy as others do.

    >>> import ibis
    >>> from opslib.data.periods import DAY, Period
    >>> from opslib.measure.states import measure_state_rates
    >>> pairs = [(u, dt.date(2026, 1, 1) + n * DAY) for n in range(60) for u in range(5 * n, 5 * n + 40) if (u + n) % 3]
    >>> table = ibis.memtable({"user_id": [u for u, _ in pairs], "day": [d for _, d in pairs]})
    >>> span = Period(dt.date(2026, 1, 1), dt.date(2026, 3, 2), "")
    >>> result = simulate_levers(measure_state_rates(table, span), {"d7_rate": 0.9}, months=(1,))
    >>> round(float(result.levers.set_index("lever").loc["d7_rate", "d7_rate"]), 3)
    0.9
    """
    return prepare_levers(rates, economics=economics, months=months, draws=draws, seed=seed).simulate(levers)


@dataclass(frozen=True)
class LeverCase:
    """What does not depend on the levers' values, kept so that another value costs only what it changes.

    Attributes:
        as_of: the last day known.
        months: times to report.
        case: the model with its drawn rates and new users; None with too few days.
        note: why there is none, or an empty text.
    """

    as_of: dt.date
    months: tuple[int, ...]
    case: _Case | None
    note: str

    def simulate(self, levers: Mapping[str, float]) -> LeversResult:
        """Simulate levers: see `simulate_levers`."""
        _check_levers(levers)
        columns = ["lever", "metric", "months_count", "value", "low", "high"]
        columns += ["difference", "difference_low", "difference_high"]
        headings = ["lever", "now_value", "then_value", "d1_rate", "d7_rate", "d30_rate"]
        case = self.case
        if case is None:
            empty = pd.DataFrame(columns=headings)
            return LeversResult(self.as_of, pd.DataFrame(columns=columns), empty, {BASE: self.note})
        wanted = {name: {name: levers[name]} for name in LEVERS if name in levers}
        notes = {name: note for name in wanted if (note := case.explain_missing(name))}
        possible = {name: change for name, change in wanted.items() if name not in notes}
        if len(possible) > 1:
            possible[TOGETHER] = {name: levers[name] for name in possible}
        rows: list[tuple[Any, ...]] = []
        values: list[tuple[Any, ...]] = []
        cases: dict[str, dict[str, float]] = {BASE: {}, **possible}
        for name, change in cases.items():
            rows += [(name, *row) for row in _tabulate(case, change, self.months)]
            single = name in change
            now, then = (case.value_now(name), levers[name]) if single else (None, None)
            values.append((name, now, then, *case.cohort(change)))
        if levers.get("k_factor", 0) >= 1 and "k_factor" in possible:
            notes["k_factor"] = say("each user brings one or more: growth without end, which no product has kept up")
        frame = pd.DataFrame(values, columns=headings)
        return LeversResult(self.as_of, pd.DataFrame(rows, columns=columns), frame, notes)


def prepare_levers(
    rates: StateRatesResult,
    *,
    economics: Economics | None = None,
    months: Sequence[int] = (1, 3, 6),
    draws: int = DRAWS,
    seed: int = 0,
) -> LeverCase:
    """Prepare what levers are simulated on: see `simulate_levers`."""
    known = len(rates.flows.moved)
    if known < FIRST_DAYS:
        note = say("not enough data: {days} days, at least {minimum} needed", days=known, minimum=FIRST_DAYS)
        return LeverCase(rates.as_of, tuple(months), None, note)
    model = fit_model(rates.flows.moved, rates.as_of)
    case = _Case(model, economics or Economics(), max(months), draws, seed)
    return LeverCase(rates.as_of, tuple(months), case, "")


class _Case:
    """The model, its drawn rates and new users, shared by base and levers so that they differ by the lever alone."""

    def __init__(self, model: StateModel, economics: Economics, months: int, draws: int, seed: int) -> None:
        self.model, self.economics, self.draws = model, economics, draws
        self.memory: OrderedDict[Hashable, tuple[Any, ...]] = OrderedDict()
        self.days = round(MONTH_LENGTH * months)
        generators = [np.random.default_rng([seed, 10 + n]) for n in range(5)]
        self.returns = draw_returns(model, draws, generators[0])
        # Evenly spread, in any order: how much of a gain in early retention lasts.
        self.lasting = (np.random.default_rng([seed, 9]).permutation(draws) + 0.5) / draws
        levels = draw_levels(model.new_users, model, self.days, draws, generators[1])
        self.arrivals = np.exp(model.new_level + levels)
        self.levels = draw_levels(model.activity, model, self.days, draws, np.random.default_rng([seed, 1]))
        self.cac, self.k_factor, self.revenue = (
            _draw_value(estimate, draws, generator)
            for estimate, generator in zip(
                (economics.cac, economics.k_factor, economics.revenue_per_active_day), generators[2:], strict=True
            )
        )

    def explain_missing(self, name: str) -> str:
        """Why a lever has nothing to act on, or an empty text."""
        if name == "cac_amount" and (self.cac is None or not self.economics.spend_per_day):
            return say("not enough data: no cost of a new user is known")
        if name == "k_factor" and self.k_factor is None:
            return say("not enough data: no K-factor is known")
        state = RATE_LEVERS.get(name)
        if state and not self.model.opening[:, STATES.index(state)].sum():
            return say(NOBODY_IN_STATE[state])
        return ""

    def value_now(self, name: str) -> float | None:
        """The lever's value in the model."""
        if name == "d1_rate" or name == "d7_rate":
            d1, d7, _ = self.cohort({})
            return d1 if name == "d1_rate" else d7
        if name in RATE_LEVERS:
            return float(self._pool(self.returns, name).mean())
        estimate = self.economics.cac if name == "cac_amount" else self.economics.k_factor
        return estimate.value if estimate else None

    @remember
    def cohort(self, change: Mapping[str, float]) -> tuple[float, float, float]:
        """D1, D7 and D30 of the model's cohort under a change."""
        curve = trace_cohort(self._change_returns(change)[1], self.model.losses, 30).mean(axis=0)
        return float(curve[0]), float(curve[6]), float(curve[29])

    @cached_property
    def base(self) -> dict[str, np.ndarray | None]:
        """What comes without any change."""
        return self.run({})

    def run(self, change: Mapping[str, float]) -> dict[str, np.ndarray | None]:
        """Simulate: each metric by draw and day."""
        arrivals, referred = self._change_arrivals(change)
        cohort_returns = self._change_returns(change)[1]
        here = self._keep_here({name: value for name, value in change.items() if name in RATE_LEVERS})
        nobody = np.zeros_like(self.model.stock)
        come = walk_users(self.model, nobody, cohort_returns, self.levels, arrivals)
        return self._count(Futures(here[0] + come[0], here[1] + come[1], arrivals), referred)

    @remember
    def _keep_here(self, change: Mapping[str, float]) -> tuple[np.ndarray, np.ndarray]:
        """What becomes of the users known by now, which only levers of returns change."""
        returns = self._change_returns(change)[0]
        return walk_users(self.model, self.model.stock, returns, self.levels, np.zeros_like(self.arrivals))

    def _count(self, futures: Futures, referred: np.ndarray) -> dict[str, np.ndarray | None]:
        week = np.ones(7) / 7
        padded = np.concatenate([np.repeat(futures.dau[:, :1], 6, axis=1), futures.dau], axis=1)
        revenue = None if self.revenue is None else self.revenue[:, None] * futures.dau.cumsum(axis=1)
        spend, reward = self.economics.spend_per_day, self.economics.reward_per_referred
        cost = spend * np.arange(1, self.days + 1) + reward * referred.cumsum(axis=1)
        return {
            "dau_count": np.apply_along_axis(np.convolve, 1, padded, week, "valid"),
            "mau_count": futures.mau,
            "new_users_count": futures.new_users.cumsum(axis=1),
            "revenue_amount": revenue,
            "cost_amount": cost if spend or reward else None,
        }

    @remember
    def _change_returns(self, change: Mapping[str, float]) -> tuple[np.ndarray, np.ndarray]:
        """Return rates of everybody, and of users yet to come."""
        returns = self.returns
        for name, state in RATE_LEVERS.items():
            if name in change:
                place = np.zeros(returns.shape[1:], dtype=bool)
                place[:, STATES.index(state)] = True
                shift = _find_shift(returns, place, change[name], partial(self._pool, name=name))
                returns = _shift_odds(returns, place, shift)
        cohort, ages = returns, np.array(AGE_BANDS)[:, None]
        week = ages <= 7
        later = ages > 1
        if "d1_rate" in change:
            before = returns[:, 1, NEW]
            cohort = returns.copy()
            cohort[:, 1, NEW] = change["d1_rate"]
            shift = np.log(_to_odds(cohort[:, 1, NEW]) / _to_odds(before))
            if "d7_rate" not in change:
                cohort = _shift_odds(cohort, later, self.lasting * shift)
        if "d7_rate" in change:
            losses = self.model.losses
            shift = _find_shift(cohort, later & week, change["d7_rate"], lambda r: trace_cohort(r, losses, 7)[:, 6])
            cohort = _shift_odds(_shift_odds(cohort, later & week, shift), ~week, self.lasting * shift)
        return returns, cohort

    def _pool(self, returns: np.ndarray, name: str) -> np.ndarray:
        """The rate over all ages, by draw."""
        state = STATES.index(RATE_LEVERS[name])
        users = self.model.opening[:, state]
        return returns[:, :, state] @ users / users.sum()

    def _change_arrivals(self, change: Mapping[str, float]) -> tuple[np.ndarray, np.ndarray]:
        """New users by draw and day; and how many of them are brought beyond the base."""
        arrivals = self.arrivals
        if "cac_amount" in change and self.cac is not None:
            spend = self.economics.spend_per_day
            arrivals = np.maximum(arrivals + (spend / change["cac_amount"] - spend / self.cac)[:, None], 0)
        referred = np.zeros_like(arrivals)
        if "k_factor" in change and self.k_factor is not None:
            cycle, before = self.economics.cycle_days, self.k_factor
            for day in range(cycle, self.days):
                came = arrivals[:, day - cycle]
                more = change["k_factor"] * (came + referred[:, day - cycle]) - before * came
                # Fewer brought cannot be more than all who come.
                referred[:, day] = np.maximum(more, -arrivals[:, day])
        return arrivals + referred, referred


def _shift_odds(returns: np.ndarray, places: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """Add to the log-odds at some places, by draw."""
    odds = _to_odds(returns) * np.exp(shift)[:, None, None]
    return np.where(places, odds / (1 + odds), returns)


def _find_shift(
    returns: np.ndarray, places: np.ndarray, target: float, measure: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """What to add to the log-odds at some places, for each draw, so that a measure has a value."""
    low, high = np.full(len(returns), -15.0), np.full(len(returns), 15.0)
    for _ in range(30):
        middle = (low + high) / 2
        below = measure(_shift_odds(returns, places, middle)) < target
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return (low + high) / 2


def _to_odds(chances: np.ndarray) -> np.ndarray:
    safe = np.clip(chances, 1e-9, 1 - 1e-9)
    return np.where(chances > 0, safe / (1 - safe), 0.0)


def _check_levers(levers: Mapping[str, float]) -> None:
    for name, value in levers.items():
        if name not in LEVERS:
            raise ValueError(f"there is no lever '{name}'; there are: {', '.join(LEVERS)}")
        if not math.isfinite(value) or value < 0 or (name.endswith("_rate") and not 0 < value < 1):
            raise ValueError(f"{name} cannot be {value}: a rate lies between 0 and 1, and nothing is negative")
        if name == "cac_amount" and value == 0:
            raise ValueError("cac_amount cannot be 0: a budget would buy users without end")


def _draw_value(estimate: Estimate | None, draws: int, generator: np.random.Generator) -> np.ndarray | None:
    """A value as it might be: normal on the scale of logarithms, as wide as its interval; not negative."""
    numbers = generator.standard_normal(draws)
    if estimate is None or estimate.value is None:
        return None
    if estimate.value <= 0 or estimate.low is None or estimate.high is None:
        return np.full(draws, max(estimate.value, 0.0))
    low = max(estimate.low, estimate.value / 100)
    error = (math.log(max(estimate.high, low)) - math.log(low)) / 2 / quantile(estimate.confidence)
    return estimate.value * np.exp(error * numbers)


@remember
def _tabulate(case: _Case, change: Mapping[str, float], months: tuple[int, ...]) -> list[tuple[Any, ...]]:
    """Metric, month, value with interval, difference to the base with interval."""
    tails = [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]
    base = case.base
    metrics = case.run(change) if change else base
    rows: list[tuple[Any, ...]] = []
    for name in METRICS:
        drawn, before = metrics[name], base[name]
        for month in months:
            if drawn is None or before is None:
                rows.append((name, month, *[None] * 6))
                continue
            at = round(MONTH_LENGTH * month) - 1
            values, differences = drawn[:, at], drawn[:, at] - before[:, at]
            low, high = np.quantile(values, tails)
            row = [values.mean(), low, high, differences.mean(), *np.quantile(differences, tails)]
            rows.append((name, month, *(float(v) for v in row)))
    return rows

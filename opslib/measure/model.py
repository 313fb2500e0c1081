"""The state model: return and loss rates by state and age, how they vary, and users moved on day by day with them.

Ages are in bands (`AGE_BANDS`): days since the first active one, exactly so in the first month. From a wider band a
share of its users moves on each day.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

import numpy as np

from opslib.data.periods import DAY
from opslib.measure.states import AGE_BANDS, DAILY_STATES, RATES

FIT_DAYS = 84
# With fewer days than this nothing is known of weeks, and little of rates.
FIRST_DAYS = 28
# Pseudo-users with the rate of users near by, so that an age with few users does not stand on them alone. Wide bands
# differ less from each other than days of the first month.
BORROWED_USERS = 2.0
BORROWED_BY_OLD = 20.0
# Levels drift back to the mean of the fitted days: half of a deviation is gone in 69 days.
LEVEL_KEPT = 0.99
# No level is believed to wander more than this a day (logarithms), whatever a single break in the data suggests.
MOST_DRIFT = 0.12

STATES = DAILY_STATES.names
DAU_STATES = slice(0, len(DAILY_STATES.active))
NEW, WAU, MAU, DORMANT = (STATES.index(s) for s in ("new", "at_risk_wau", "at_risk_mau", "dormant"))
# Where a user of each state is on the next day when active, and when not.
MONTH = AGE_BANDS.index(30)
_WIDTHS = np.diff(AGE_BANDS)
# Share of a band's users who are in the next band on the next day; nobody leaves the last.
LEAVE = np.array([*(1 / _WIDTHS), 0.0])
# The band whose rates hold for the move from each band: that of the day arrived at.
ARRIVE = np.minimum(np.arange(len(AGE_BANDS)) + (LEAVE == 1), len(AGE_BANDS) - 1)
BACK = [STATES.index({b: n for b, n in RATES.values() if n in DAILY_STATES.active}[s]) for s in STATES]


@dataclass(frozen=True)
class Noise:
    """How a level varies: by weekday (Monday first), from day to day by chance, and by wandering.

    Attributes:
        weekday: shift of each weekday.
        daily_sd: of the chance part of a day.
        drift_sd: of the step that the level takes from one day to the next.
        level, level_sd: where the level is on the last day, and how well that is known.
    """

    weekday: np.ndarray
    daily_sd: float
    drift_sd: float
    level: float
    level_sd: float


@dataclass(frozen=True)
class StateModel:
    """Rates by band of ages and state, and what they vary by.

    Attributes:
        last: the last day known.
        stock: users by band and state on that day.
        returns: chance to be active on the next day; the age is that of the day arrived at.
        losses: chance of those not active to fall to the next worse state (at_risk_wau, at_risk_mau).
        opening: user-days behind each rate.
        activity: noise of the returns, in log-odds.
        new_users: noise of the number of new users, in logarithms.
        new_level: logarithm of the usual number of new users a day.
    """

    last: dt.date
    stock: np.ndarray
    returns: np.ndarray
    losses: np.ndarray
    opening: np.ndarray
    activity: Noise
    new_users: Noise
    new_level: float


@dataclass(frozen=True)
class Futures:
    """Simulated users: one row a draw, one column a day.

    Attributes:
        dau: active users.
        mau: users active within 30 days.
        new_users: users active for the first time.
    """

    dau: np.ndarray
    mau: np.ndarray
    new_users: np.ndarray


def fit_model(moved: np.ndarray, last: dt.date, *, fit_days: int = FIT_DAYS) -> StateModel:
    """Fit the model to the moves of the latest days.

    Args:
        moved: users by day, band of ages, state before and state now (`Flows.moved`), up to the day `last`.
        last: the last day.
        fit_days: how many days are used.

    Returns:
        A `StateModel`.

    Rates are pooled over the days by age and state. What is left of a day, its log-odds against those rates, is split
    into weekdays, a wandering level (random walk, its step from how much more far days differ than neighbours) and
    noise; where the level is now comes from a Kalman filter. The same for the logarithm of new users.
    """
    used = moved[-fit_days:].astype(float)
    states = len(STATES)
    opening = used[:, :, :states].sum(axis=3)
    back = used[:, :, range(states), BACK]
    fell = np.zeros_like(back)
    fell[:, :, WAU], fell[:, :, MAU] = used[:, :, WAU, MAU], used[:, :, MAU, DORMANT]
    returns, losses = _pool(back, opening), _pool(fell, opening - back)
    weekday = np.array([(last - n * DAY).weekday() for n in range(len(used) - 1, -1, -1)])
    expected = (opening * returns).sum(axis=(1, 2))
    variance = (opening * returns * (1 - returns)).sum(axis=(1, 2))
    came = back.sum(axis=(1, 2))
    slope = np.maximum(variance / np.maximum(expected, 1e-9), 0.2)
    # A first day has nobody who could return.
    known = expected > 0
    odds = np.where(known, np.log((came + 0.5) / (expected + 0.5)) / slope, 0.0)
    arrived = np.log(used[:, :, states].sum(axis=(1, 2)) + 0.5)
    usual = float(arrived.mean())
    return StateModel(
        last,
        moved[-1].sum(axis=1).astype(float),
        returns,
        losses,
        opening.sum(axis=0),
        _split_noise(odds[known], weekday[known]),
        _split_noise(arrived - usual, weekday),
        usual,
    )


def _pool(users: np.ndarray, opening: np.ndarray) -> np.ndarray:
    """Rates by band and state; a band with few users borrows from those near it; a state that nobody was in has 0."""
    users, opening = users.sum(axis=0), opening.sum(axis=0)
    rates = users.sum(axis=0) / np.maximum(opening.sum(axis=0), 1) * np.ones_like(users)
    for group, borrowed in ((slice(MONTH), BORROWED_USERS), (slice(MONTH, None), BORROWED_BY_OLD)):
        near = (users[group].sum(axis=0) + BORROWED_USERS * rates[group]) / (
            opening[group].sum(axis=0) + BORROWED_USERS
        )
        rates[group] = (users[group] + borrowed * near) / (opening[group] + borrowed)
    return rates


def _split_noise(values: np.ndarray, weekday: np.ndarray) -> Noise:
    shifts = np.zeros(7)
    if len(values) >= 3 * 7:
        # Against the mean of the week around each day, so that a trend is not taken for a weekday.
        around = np.convolve(values, np.ones(7) / 7, "valid")
        rest, days = values[3:-3] - around, weekday[3:-3]
        counts = np.bincount(days, minlength=7)
        shifts = np.bincount(days, rest, minlength=7) / np.maximum(counts, 1)
        error = np.var(rest - shifts[days]) / np.maximum(counts, 1).mean()
        # As much of a pattern as stands out from chance.
        shifts = (shifts - shifts.mean()) * shifts.var() / (shifts.var() + error + 1e-12)
    rest = values - shifts[weekday]
    if len(rest) < 10:
        return Noise(shifts, 0.3, MOST_DRIFT, 0.0, 0.3)
    far = min(14, len(rest) // 3)
    near_square, far_square = np.mean(np.diff(rest) ** 2), np.mean((rest[far:] - rest[:-far]) ** 2)
    drift = max((far_square - near_square) / (far - 1), 0.0)
    daily = max((near_square - drift) / 2, 1e-6)
    level, variance = 0.0, 1.0
    for value in rest:
        variance += drift
        gain = variance / (variance + daily)
        level, variance = level + gain * (value - level), variance * (1 - gain)
    return Noise(shifts, float(daily**0.5), float(min(drift**0.5, MOST_DRIFT)), float(level), float(variance**0.5))


def draw_returns(model: StateModel, draws: int, generator: np.random.Generator) -> np.ndarray:
    """Returns as they might be, given how many users each was seen on: normal in log-odds, one array a draw."""
    if not draws:
        return model.returns[None]
    safe = np.clip(model.returns, 1e-6, 1 - 1e-6)
    error = 1 / np.sqrt((model.opening + BORROWED_USERS) * safe * (1 - safe))
    odds = np.log(safe / (1 - safe)) + np.minimum(error, 1.0) * _draw(generator, draws, model.returns.shape)
    drawn = 1 / (1 + np.exp(-odds))
    return np.where(model.returns > 0, drawn, 0.0)


def draw_levels(noise: Noise, model: StateModel, days: int, draws: int, generator: np.random.Generator) -> np.ndarray:
    """The level of each day ahead: weekday, wandering, chance; without draws the expected course."""
    shifts = noise.weekday[[(model.last + (n + 1) * DAY).weekday() for n in range(days)]]
    kept = LEVEL_KEPT ** np.arange(1, days + 1)
    if not draws:
        return (noise.level * kept + shifts)[None]
    start = noise.level_sd * _draw(generator, draws, (1,))
    # A longer horizon has the same first days: one day's numbers after another's.
    steps, chance = (np.stack([_draw(part, draws, ()) for _ in range(days)], axis=1) for part in generator.spawn(2))
    steps = noise.drift_sd * steps
    wandered = np.empty_like(steps)
    level = np.zeros(draws)
    for day in range(days):
        level = LEVEL_KEPT * level + steps[:, day]
        wandered[:, day] = level
    return (noise.level + start) * kept + wandered + shifts + noise.daily_sd * chance


def _draw(generator: np.random.Generator, draws: int, shape: tuple[int, ...]) -> np.ndarray:
    """Normal numbers in pairs of opposite sign: half the work, and their mean is exact."""
    half = generator.standard_normal(((draws + 1) // 2, *shape))
    return np.concatenate([half, -half])[:draws]


def project_users(
    model: StateModel,
    days: int,
    *,
    draws: int = 0,
    seed: int = 0,
    returns: np.ndarray | None = None,
    cohort_returns: np.ndarray | None = None,
    arrivals: np.ndarray | None = None,
) -> Futures:
    """Move users on day by day.

    Args:
        model: the fitted model.
        days: how many.
        draws: simulated futures; 0 for the expected course alone, without noise.
        seed: of the random numbers, the same for the same futures whatever else is changed.
        returns: return rates in place of the model's, (1 or draws, band, state); none are drawn then.
        cohort_returns: the same for users who come after the last day known.
        arrivals: new users in place of the model's, by day or by draw and day.

    Returns:
        A `Futures`.
    """
    rates, shock, level = (np.random.default_rng([seed, n]) for n in range(3))
    chances = draw_returns(model, draws, rates) if returns is None else returns
    levels = draw_levels(model.activity, model, days, draws, shock)
    if arrivals is None:
        arrivals = np.exp(model.new_level + draw_levels(model.new_users, model, days, draws, level))
    count = max(draws, 1)
    arrivals = np.broadcast_to(arrivals, (count, days))
    if cohort_returns is None:
        dau, mau = walk_users(model, model.stock, chances, levels, arrivals)
        return Futures(dau, mau, np.array(arrivals))
    here = walk_users(model, model.stock, chances, levels, np.zeros_like(arrivals))
    come = walk_users(model, np.zeros_like(model.stock), cohort_returns, levels, arrivals)
    return Futures(here[0] + come[0], here[1] + come[1], np.array(arrivals))


def walk_users(
    model: StateModel, stock: np.ndarray, returns: np.ndarray, levels: np.ndarray, arrivals: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Move a stock of users and those who come on day by day.

    Args:
        model: the fitted model.
        stock: users by band and state on the last day known.
        returns: return rates, (1 or draws, band, state).
        levels: the level of all returns, (1 or draws, day), in log-odds.
        arrivals: new users, (draws, day).

    Returns:
        Users active, and active within 30 days, by draw and day.
    """
    count, days = arrivals.shape
    # Bands first and draws last: the bands that hold anybody are one block of memory.
    losses = model.losses[ARRIVE][..., None]
    odds = np.ascontiguousarray(_to_odds(returns[:, ARRIVE]).transpose(1, 2, 0))
    raises = np.exp(levels)
    users = np.repeat(stock[..., None], count, axis=2)
    dau, mau = np.empty((days, count)), np.empty((days, count))
    held = np.flatnonzero(stock.any(axis=1))
    low, high = (int(held[0]), int(held[-1]) + 1) if len(held) else (0, 1)
    nobody_comes = not arrivals.any()
    for day in range(days):
        raised = odds[low:high] * raises[:, day]
        users[low:high] = _move(users[low:high], raised / (1 + raised), losses[low:high])
        _age(users, low, high)
        low, high = (min(low + 1, MONTH) if nobody_comes else 0), min(high + 1, len(users))
        users[0, NEW] = arrivals[:, day]
        dau[day] = users[low:high, DAU_STATES].sum(axis=(0, 1))
        mau[day] = users[low:high, :DORMANT].sum(axis=(0, 1))
    return np.ascontiguousarray(dau.T), np.ascontiguousarray(mau.T)


def trace_cohort(returns: np.ndarray, losses: np.ndarray, days: int) -> np.ndarray:
    """The share of a cohort active on each day after its first, in the model's usual conditions.

    Args:
        returns: return rates, (draws, band, state).
        losses: loss rates, (band, state).
        days: how many; at most 30, in which a cohort is in one band each day.

    Returns:
        (draws, days): day 1 first.
    """
    if days > MONTH:
        raise ValueError(f"a cohort is traced for at most {MONTH} days, not {days}")
    users = np.zeros((len(STATES), len(returns)))
    users[NEW] = 1
    curve = np.empty((len(returns), days))
    for day in range(days):
        users = _move(users, returns[:, ARRIVE[day]].T, losses[ARRIVE[day]][:, None])
        curve[:, day] = users[DAU_STATES].sum(axis=0)
    return curve


def _to_odds(chances: np.ndarray) -> np.ndarray:
    return chances / np.maximum(1 - chances, 1e-12)


def _move(users: np.ndarray, chances: np.ndarray, losses: np.ndarray) -> np.ndarray:
    """Users by state a day later; the last axes are the state and the draw."""
    active = users * chances
    absent = users - active
    fallen = absent[..., WAU, :] * losses[..., WAU, :]
    lost = absent[..., MAU, :] * losses[..., MAU, :]
    after = np.zeros_like(active)
    for state, back in enumerate(BACK):
        after[..., back, :] += active[..., state, :]
    after[..., WAU, :] = absent[..., : WAU + 1, :].sum(axis=-2) - fallen
    after[..., MAU, :] = fallen + absent[..., MAU, :] - lost
    after[..., DORMANT, :] = lost + absent[..., DORMANT, :]
    return after


def _age(users: np.ndarray, low: int, high: int) -> None:
    """Make users of the bands from `low` to `high`, the latter not included, a day older, in place."""
    # Of a wide band a share moves on, and nobody of the last; a day of the first month moves on whole.
    leaving = users[MONTH:high] * LEAVE[MONTH:high, None, None]
    users[MONTH:high] -= leaving
    users[MONTH + 1 : high + 1] += leaving[: len(users) - 1 - MONTH]
    if low >= MONTH:
        return
    if high >= MONTH:
        users[MONTH] += users[MONTH - 1]
    end = min(high + 1, MONTH)
    users[low + 1 : end] = users[low : end - 1]
    users[low] = 0

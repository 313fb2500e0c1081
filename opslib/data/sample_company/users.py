"""Who signs up: the plan of sign-ups by day and channel, and each user's attributes and hidden habits."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

import numpy as np

from opslib.data.sample_company.company import (
    AGE_BAND,
    CHANNELS,
    CHEAP_NETWORK,
    CITY_TIER,
    DAY_SECONDS,
    EXPERIMENTS,
    NETWORK_WORDS,
    NETWORKS,
    PLATFORM,
    RELEASES,
    VERSION_WORDS,
    WEB_VERSION,
    Bools,
    Choice,
    Floats,
    Ints,
    SampleSettings,
    day_profile_cdf,
    is_weekend,
    signup_season,
)
from opslib.data.sample_company.incidents import Effects

LAST_SIGNUP_SECOND = 81_000  # the first session must end on the day of sign-up
_REFERRAL = next(i for i, channel in enumerate(CHANNELS) if channel.name == "referral")
_REFERRAL_STARTS = 10  # days from launch: somebody must be there to invite


def plan_signups(settings: SampleSettings, effects: Effects | None) -> Floats:
    """Relative sign-ups per day and channel, incidents included; without `effects`, the ordinary plan."""
    shares = np.array([channel.share for channel in CHANNELS])
    plan = np.outer(signup_season(settings), shares)
    plan[:_REFERRAL_STARTS, _REFERRAL] = 0.0
    if effects is not None:
        codes = np.arange(len(CHANNELS))
        for day in range(settings.days):
            plan[day] = plan[day] * effects.multiplier("signups", day, lambda _column: codes)
    return plan


@dataclass(slots=True)
class Users:
    """One chunk of users in order of sign-up. Codes are positions in the vocabulary of `incidents`."""

    bounds: Ints  # users who signed up before day d: bounds[d]
    signup_day: Ints
    signup_second: Ints  # of the local day
    codes: dict[str, Ints]
    adopted: Ints  # users x releases: the day from which a user runs a release
    drive: Floats
    pace: Floats
    first_leave: Floats
    leave: Floats
    buy: Floats

    @property
    def count(self) -> int:
        """Number of users in the chunk."""
        return len(self.signup_day)


def _pick(choice: Choice, count: int, rng: np.random.Generator) -> Ints:
    edges = np.cumsum(choice.shares)[:-1]
    return np.searchsorted(edges, rng.random(count), side="right")


def draw_users(count: int, settings: SampleSettings, effects: Effects, rng: np.random.Generator) -> Users:
    """Draw a chunk of users over the whole window, so that every chunk is a small company of its own."""
    ordinary = plan_signups(settings, None)
    plan = plan_signups(settings, effects)
    cells = rng.multinomial(count, (plan / plan.sum()).ravel())
    day, channel = np.divmod(np.repeat(np.arange(plan.size), cells), len(CHANNELS))
    second = _draw_seconds(day, settings, rng)
    order = np.lexsort((second, day))
    day, channel, second = day[order], channel[order], second[order]

    with np.errstate(divide="ignore", invalid="ignore"):
        surplus = np.nan_to_num(1.0 - ordinary / plan).clip(0.0)
    added = rng.random(count) < surplus[day, channel]
    codes = {
        "channel": channel,
        "domain": np.array([int(c.domain == "private") for c in CHANNELS])[channel],
        "platform": _pick(PLATFORM, count, rng),
        "city_tier": _pick(CITY_TIER, count, rng),
        "age_band": _pick(AGE_BAND, count, rng),
        "added_by_signups": added.astype(np.int64),
    }
    codes["network"] = _draw_networks(channel, added, rng)
    codes.update(_draw_arms(day, settings, rng))

    rates = settings.rates
    drive = rng.random(count)
    trait = {name: np.array([getattr(c, name) for c in CHANNELS])[channel] for name in _TRAITS}
    pace = rng.beta(rates.pace_alpha, rates.pace_beta, count) * trait["pace"] * (0.75 + 0.5 * drive)
    leave = rng.beta(rates.leave_alpha, rates.leave_beta, count) * trait["leave"] * (1.35 - 0.7 * drive)
    buy = rng.gamma(rates.buy_shape, 1.0 / rates.buy_shape, count) * trait["buy"]
    return Users(
        bounds=np.searchsorted(day, np.arange(settings.days + 1)),
        signup_day=day,
        signup_second=second,
        codes=codes,
        adopted=_draw_adoption(day, codes["platform"], settings, rng),
        drive=drive,
        pace=pace,
        first_leave=(1.0 - trait["first_day_stay"] + 0.34 * (0.5 - drive)).clip(0.03, 0.9),
        leave=leave,
        buy=buy,
    )


_TRAITS = ("pace", "leave", "buy", "first_day_stay")


def _draw_seconds(day: Ints, settings: SampleSettings, rng: np.random.Generator) -> Ints:
    weekend = np.array([is_weekend(settings, d) for d in range(settings.days)])[day]
    ranks = rng.random(len(day))
    seconds = np.empty(len(day))
    edges = np.linspace(0, DAY_SECONDS, len(day_profile_cdf(False)))
    for is_weekend_day in (False, True):
        mask = weekend == is_weekend_day
        seconds[mask] = np.interp(ranks[mask], day_profile_cdf(is_weekend_day), edges)
    # The last hours are folded back over the evening rather than cut, which would leave a spike.
    late = seconds >= LAST_SIGNUP_SECOND
    seconds[late] -= 5400 + 3600 * rng.random(int(late.sum()))
    return seconds.astype(np.int64)


def _draw_networks(channel: Ints, added: Bools, rng: np.random.Generator) -> Ints:
    network = np.full(len(channel), -1, dtype=np.int64)
    cheap = NETWORK_WORDS.index(CHEAP_NETWORK)
    for code, name in enumerate(c.name for c in CHANNELS):
        if name in NETWORKS:
            mask = channel == code
            words = np.array([NETWORK_WORDS.index(word) for word in NETWORKS[name].words])
            network[mask] = words[_pick(NETWORKS[name], int(mask.sum()), rng)]
            if NETWORK_WORDS[cheap] in NETWORKS[name].words:
                network[mask & added] = cheap
    return network


def _draw_arms(day: Ints, settings: SampleSettings, rng: np.random.Generator) -> dict[str, Ints]:
    arms = {}
    for experiment in EXPERIMENTS:
        arm = _pick(Choice(experiment.variants, experiment.shares), len(day), rng)
        first, end = settings.day_of(experiment.start), settings.day_of(experiment.end)
        if experiment.entry == "signup":
            arm[(day < first) | (day >= end)] = -1
        elif experiment.entry == "existing":
            arm[day >= first] = -1
        arms[experiment.name] = arm
    return arms


def _draw_adoption(day: Ints, platform: Ints, settings: SampleSettings, rng: np.random.Generator) -> Ints:
    rates = settings.rates
    habit = rng.exponential(rates.lag_days_mean, len(day))
    released = np.array([settings.day_of(date.fromisoformat(when)) for _, when in RELEASES])
    jitter = 0.6 + 0.8 * rng.random((len(day), len(RELEASES)), dtype=np.float32)
    lag = (habit[:, None] * jitter).clip(0.0, rates.lag_days_max)
    fresh = released[None, :] <= day[:, None]  # a new install is the newest version
    adopted = released[None, :] + np.where(fresh, 0, lag).astype(np.int64)
    adopted[PLATFORM.words.index("web") == platform] = np.iinfo(np.int64).max
    return adopted.astype(np.int64)


def versions_on(users: Users, who: Ints, day: int) -> Ints:
    """Version code that each of `who` runs on a day: the newest adopted, or the web."""
    adopted = users.adopted[who] <= day
    newest = len(RELEASES) - 1 - np.argmax(adopted[:, ::-1], axis=1)
    return np.where(adopted[:, 0], newest, VERSION_WORDS.index(WEB_VERSION))

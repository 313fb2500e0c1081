"""What is planted in a case: drawn from a seed and a level, the same every time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np

from opslib.data.sample_company.company import CITY_TIER, PLATFORM, RELEASES, SampleSettings
from opslib.data.sample_company.incidents import Incident, Segment
from opslib.errors import InputError

LEVELS = (1, 2, 3)
# Enough that a planted cause can be found, few enough to be made in a few seconds.
USERS = 50_000
# What is left of a rate that a cause lowers: the harder the case, the more.
LEFT = {1: 0.40, 2: 0.52, 3: 0.62}
# What a learner is told has moved: a number that the cause moves, and not only it.
MOVED = {"release": "orders", "price": "orders", "traffic": "staying", "budget": "staying", "service": "complaints"}
WEEK = timedelta(days=7)
# Late enough that every version before it has its users, and there are quiet months to compare with.
FIRST_START = date(2026, 4, 6)


@dataclass(frozen=True)
class Story:
    """A cause and what it does to the company.

    Attributes:
        cause: its name, one of `CAUSES`.
        group: column -> value of the users whom it concerns.
        start, end: first day, and the day after the last.
        incidents: what the simulator plants; the first is the one whose size is asked for.
    """

    cause: str
    group: dict[str, str]
    start: date
    end: date
    incidents: tuple[Incident, ...]


@dataclass(frozen=True)
class CasePlan:
    """A company with a story to find, and from level 2 another that is not what moved the number asked about."""

    seed: int
    level: int
    story: Story
    decoy: Story | None
    settings: SampleSettings

    @property
    def incidents(self) -> tuple[Incident, ...]:
        """All that is planted."""
        return (*self.story.incidents, *(self.decoy.incidents if self.decoy else ()))


def plan_case(seed: int, level: int) -> CasePlan:
    """Draw a case.

    Raises:
        InputError: a level there is not, or a negative seed.

    >>> plan_case(7, 1).story.cause in CAUSES, plan_case(7, 1) == plan_case(7, 1)
    (True, True)
    """
    if level not in LEVELS:
        raise InputError(
            f"level {level}: there are the levels 1 (one clear cause) to 3 (small, with another beside it)."
        )
    if seed < 0:
        raise InputError(f"seed {seed}: write a whole number from 0.")
    random = np.random.default_rng([seed, level])
    causes = list(CAUSES)
    random.shuffle(causes)
    start = _draw_start(random, causes[0])
    # The data end while it still goes on: that is when somebody asks for help. Five weeks are looked at, so that the
    # five before are without it.
    end = start + int(random.integers(4, 6)) * WEEK
    story = CAUSES[causes[0]](random, start, end, LEFT[level])
    # The decoy moves another number, so that only one cause answers what is asked.
    beside = next(cause for cause in causes if MOVED[cause] != MOVED[causes[0]])
    other = _draw_start(random, beside) if level > 1 else end
    decoy = CAUSES[beside](random, other, end, LEFT[level]) if other < end else None
    settings = SampleSettings(users=USERS, seed=int(random.integers(1, 2**31)), end=end)
    return CasePlan(seed, level, story, decoy, settings)


def _draw(random: np.random.Generator, words: tuple[str, ...]) -> str:
    return words[int(random.integers(len(words)))]


def _plant_release(random: np.random.Generator, start: date, end: date, left: float) -> Story:
    """A release with which payment often fails."""
    version = next(version for version, day in RELEASES if date.fromisoformat(day) == start)
    who = {"app_version": version, "platform": _draw(random, ("android", "ios"))}
    planted = Incident("release", "step_rate:begin_checkout->pay", start, end, Segment.of(tenure=None, **who), left)
    return Story("release", who, start, end, (planted,))


def _plant_price(random: np.random.Generator, start: date, end: date, left: float) -> Story:
    """A delivery fee for some cities, so that fewer put items in the cart."""
    tier = _draw(random, CITY_TIER.words)
    planted = Incident("price", "step_rate:view_item->add_to_cart", start, end, Segment.of(city_tier=tier), left)
    return Story("price", {"city_tier": tier}, start, end, (planted,))


def _plant_traffic(random: np.random.Generator, start: date, end: date, left: float) -> Story:
    """Users of a channel who begin not to stay; in the largest channel, those of one platform."""
    groups = ({"channel": "paid_ads", "platform": "android"}, {"channel": "social"}, {"channel": "app_store"})
    who = groups[int(random.integers(len(groups)))]
    planted = tuple(
        Incident("traffic", "return_rate", start, end, Segment.of(tenure=days, **who), size)
        for days, size in (((1, 1), 0.75 * left), ((2, 14), (1 + left) / 2))
    )
    return Story("traffic", dict(who), start, end, planted)


def _plant_budget(random: np.random.Generator, start: date, end: date, left: float) -> Story:
    """More money for a channel, which brings users who leave at once."""
    channel = _draw(random, ("social", "paid_ads"))
    who, more = {"channel": channel}, 2.5 - 1.5 * left
    planted = (
        Incident("budget", "spend", start, end, Segment.of(tenure=None, **who), more),
        Incident("budget", "signups", start, end, Segment.of(tenure=None, **who), more - 0.05),
        Incident("budget", "return_rate", start, end, Segment.of(tenure=None, added_by_signups="yes", **who), left / 3),
    )
    return Story("budget", who, start, end, planted)


def _plant_service(random: np.random.Generator, start: date, end: date, left: float) -> Story:
    """A service that gets slow for the users of one platform, who complain."""
    platform = _draw(random, PLATFORM.words[:2])
    who = Segment.of(platform=platform)
    planted = (
        Incident("service", "complaint_rate:service_delay", start, end, who, 6 / left),
        Incident("service", "satisfied_rate", start, end, who, (1 + left) / 2),
    )
    return Story("service", {"platform": platform}, start, end, planted)


def _draw_start(random: np.random.Generator, cause: str) -> date:
    """A Monday of the spring; for a release, the day of one."""
    mondays = [FIRST_START + i * WEEK for i in range(7)]
    if cause == "release":
        mondays = [day for _, text in RELEASES if FIRST_START <= (day := date.fromisoformat(text)) <= mondays[-1]]
    return mondays[int(random.integers(len(mondays)))]


CAUSES: dict[str, Callable[[np.random.Generator, date, date, float], Story]] = {
    "release": _plant_release,
    "price": _plant_price,
    "traffic": _plant_traffic,
    "budget": _plant_budget,
    "service": _plant_service,
}
"""Causes a case may have: name -> what plants it."""

"""The sample company's settings: its calendar, its channels, its catalogue and its ordinary rates.

Lumen is a made-up learning-and-shop app used in China. Everything here is an ordinary condition; what goes
wrong (or unusually right) is in `incidents`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import lru_cache

import numpy as np
import numpy.typing as npt

GENERATOR = "opslib.data.sample_company"
GENERATOR_VERSION = "1"
TIME_ZONE = "Asia/Shanghai"
UTC_OFFSET_SECONDS = 8 * 3600  # China keeps no daylight saving time, so a constant is exact
CURRENCY = "CNY"
DAY_SECONDS = 86_400

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Channel:
    """How one acquisition channel behaves: its share of sign-ups, its price and the quality of its users."""

    name: str
    domain: str
    share: float
    cost_per_signup: float
    first_day_stay: float
    pace: float
    leave: float
    buy: float


CHANNELS = (
    Channel("paid_ads", "public", 0.30, 105.0, 0.57, 0.95, 1.15, 0.85),
    Channel("app_store", "public", 0.15, 24.0, 0.63, 1.00, 0.95, 1.00),
    Channel("search", "public", 0.10, 58.0, 0.65, 1.00, 0.90, 1.20),
    Channel("social", "public", 0.16, 46.0, 0.58, 0.95, 1.10, 0.85),
    Channel("referral", "private", 0.12, 0.0, 0.68, 1.05, 0.85, 1.15),
    Channel("wecom", "private", 0.09, 14.0, 0.72, 1.12, 0.75, 1.35),
    Channel("community", "private", 0.08, 11.0, 0.74, 1.18, 0.70, 1.15),
)


@dataclass(frozen=True, slots=True)
class Choice:
    """A categorical attribute: the words it may hold and how often each is drawn."""

    words: tuple[str, ...]
    shares: tuple[float, ...]


PLATFORM = Choice(("android", "ios", "web"), (0.56, 0.33, 0.11))
CITY_TIER = Choice(("tier_1", "new_tier_1", "tier_2", "tier_3_plus"), (0.21, 0.24, 0.26, 0.29))
AGE_BAND = Choice(("18_24", "25_34", "35_44", "45_plus"), (0.34, 0.38, 0.19, 0.09))
NETWORKS = {  # the ad networks that each paid channel buys from
    "paid_ads": Choice(("display_a", "display_b"), (0.6, 0.4)),
    "social": Choice(("feed_a", "feed_b", "feed_c"), (0.52, 0.36, 0.12)),
}
NETWORK_WORDS = ("display_a", "display_b", "feed_a", "feed_b", "feed_c")
CHEAP_NETWORK = "feed_c"

RELEASES = (  # app version and the local day it reached the stores
    ("4.6.0", "2024-12-02"), ("4.7.0", "2025-01-20"), ("4.8.0", "2025-03-03"), ("4.8.1", "2025-03-24"),
    ("4.9.0", "2025-04-21"), ("4.10.0", "2025-06-02"), ("4.11.0", "2025-07-14"), ("4.12.0", "2025-08-25"),
    ("5.0.0", "2025-10-13"), ("5.0.1", "2025-11-03"), ("5.1.0", "2025-12-08"), ("5.1.1", "2026-01-12"),
    ("5.2.0", "2026-03-02"), ("5.2.1", "2026-04-06"), ("5.3.0", "2026-05-11"), ("5.3.1", "2026-06-01"),
)  # fmt: skip
WEB_VERSION = "web"
VERSION_WORDS = (*(version for version, _ in RELEASES), WEB_VERSION)

CATEGORIES = (  # name, share of shopping sessions, median list price in CNY, cost of goods over list price
    ("course", 0.34, 169.0, 0.30),
    ("membership", 0.18, 138.0, 0.24),
    ("book", 0.22, 62.0, 0.55),
    ("stationery", 0.16, 39.0, 0.52),
    ("device", 0.10, 329.0, 0.68),
)
CATEGORY_WORDS = tuple(name for name, *_ in CATEGORIES)

EVENT_WORDS = (  # in the order in which one session goes through them; repeats are second helpings
    "sign_up", "app_open", "error_shown", "coupon_claimed", "lesson_start", "lesson_complete", "lesson_start",
    "lesson_complete", "task_complete", "badge_earned", "search", "view_item", "view_item", "add_to_cart",
    "begin_checkout", "pay", "post_message", "invite_sent",
)  # fmt: skip
EVENT_GAP_SECONDS = (0, 3, 12, 15, 25, 420, 40, 380, 30, 5, 30, 25, 35, 40, 45, 40, 60, 30)
EVENT_NAMES = tuple(dict.fromkeys(EVENT_WORDS))

OFFERS = (  # name, days valid, share of the list price taken off
    ("welcome_15_percent", 7, 0.15),
    ("club_10_percent", 6, 0.10),
    ("double_eleven_12_percent", 9, 0.12),
    ("mid_year_12_percent", 12, 0.12),
    ("comeback_20_percent", 14, 0.20),
)
OFFER_WORDS = tuple(name for name, *_ in OFFERS)
WELCOME, CLUB, DOUBLE_ELEVEN, MID_YEAR, COMEBACK = range(5)

TICKET_WORDS = ("service_delay", "system_failure", "content_violation", "billing", "question")


@dataclass(frozen=True, slots=True)
class Experiment:
    """A split of users: who enters (`entry`), when, and the share of each variant."""

    name: str
    start: date
    end: date
    variants: tuple[str, ...]
    shares: tuple[float, ...]
    entry: str  # "signup": new users; "checkout": at the first begin_checkout; "existing": all users at start


EXPERIMENTS = (
    Experiment(
        "onboarding_checklist",
        date(2026, 1, 5),
        date(2026, 3, 2),
        ("control", "checklist"),
        (0.5, 0.5),
        "signup",
    ),
    Experiment(
        "checkout_one_page",
        date(2026, 6, 15),
        date(2026, 7, 1),
        ("control", "one_page"),
        (0.5, 0.5),
        "checkout",
    ),
    Experiment("june_sale_2026", date(2026, 6, 5), date(2026, 6, 17), ("holdout", "treated"), (0.1, 0.9), "existing"),
)


@dataclass(frozen=True, slots=True)
class Rates:
    """Ordinary rates of the company; probabilities are 0..1 and per active day unless the name says more."""

    pace_alpha: float = 2.0  # daily activity of a user who stays: Beta(alpha, beta) over users
    pace_beta: float = 4.9
    pace_floor: float = 0.62  # activity falls with tenure to this share of its mid-term level
    pace_early_boost: float = 0.08
    pace_early_days: float = 5.0
    pace_mid_boost: float = 0.90
    pace_mid_days: float = 45.0
    streak_boost: float = 1.18  # active yesterday
    streak_loss: float = 0.95
    leave_alpha: float = 0.9  # chance to leave after an active day: Beta(alpha, beta) over users
    leave_beta: float = 13.0
    leave_week_one_node: float = 1.7  # more leave around day 7 ...
    leave_paid_month_node: float = 1.9  # ... and around 30 days after their last payment
    come_back_per_day: float = 0.0005
    second_session: float = 0.11
    view: float = 0.34
    cart_after_view: float = 0.45
    checkout_after_cart: float = 0.74
    pay_after_checkout: float = 0.74
    buy_shape: float = 0.42  # Gamma shape of the users' taste for buying: small means few buyers, many orders
    buy_newcomer: float = 0.03  # taste for buying on day 0 as a share of its later level
    buy_warm_up_days: float = 65.0
    claim_coupon: float = 0.22
    use_coupon: float = 0.85  # a buyer with a valid coupon uses it
    join_private: float = 0.008
    complaint: tuple[float, ...] = (0.0023, 0.0011, 0.0005, 0.0015, 0.0004)  # by TICKET_WORDS
    other_ticket: float = 0.004
    satisfied: float = 0.925
    csat_asked: float = 0.010
    nps_asked: float = 0.006
    lag_days_mean: float = 4.5  # from release to a user's update
    lag_days_max: float = 13.0
    requests_per_event: float = 14.0
    error_share: float = 0.0016
    p95_ms: float = 185.0
    capacity_over_peak: float = 2.6  # what the site can serve, over the busiest ordinary five minutes


@dataclass(frozen=True, slots=True)
class SampleSettings:
    """What to generate. `users` is the exact number of sign-ups. `chunk_users` bounds memory; each chunk has
    its own random stream, so another chunk size gives another company of the same kind."""

    users: int = 30_000
    seed: int = 2048  # of eighty tried, one whose realised effects lie near the planted ones
    chunk_users: int = 30_000
    start: date = date(2025, 1, 1)
    end: date = date(2026, 7, 1)  # exclusive
    rates: Rates = field(default_factory=Rates)

    @property
    def days(self) -> int:
        """Number of local days covered."""
        return (self.end - self.start).days

    def day_of(self, moment: date) -> int:
        """Index of a local day, 0 on `start`; may fall outside the window."""
        return (moment - self.start).days

    def date_of(self, day: int) -> date:
        """The local date of a day index."""
        return self.start + timedelta(days=day)

    @property
    def epoch(self) -> int:
        """UTC seconds since 1970 at which the first local day begins."""
        return (self.start - date(1970, 1, 1)).days * DAY_SECONDS - UTC_OFFSET_SECONDS


def month_of_days(settings: SampleSettings) -> Ints:
    """Calendar month of each day, counted from the month of `start`."""
    dates = [settings.date_of(day) for day in range(settings.days)]
    return np.array([(d.year - settings.start.year) * 12 + d.month - settings.start.month for d in dates])


_MONTH_SIGNUPS = (0.99, 1.02, 1.06, 1.00, 1.00, 1.03, 1.05, 1.05, 1.12, 0.97, 1.01, 0.94)
_MONTH_ACTIVITY = (0.99, 1.00, 1.02, 1.01, 1.00, 1.01, 0.97, 0.98, 1.04, 1.01, 1.01, 0.98)
_WEEKDAY_SIGNUPS = (0.97, 0.96, 0.97, 0.97, 0.99, 1.08, 1.06)
_WEEKDAY_ACTIVITY = (1.01, 1.01, 1.00, 0.98, 0.95, 1.02, 1.04)
_WEEKDAY_SHOP = (0.97, 0.97, 0.97, 0.98, 1.00, 1.06, 1.05)
_NEW_YEARS = (date(2025, 1, 29), date(2026, 2, 17))
_NATIONAL_DAYS = (date(2025, 10, 4),)


def _bumps(settings: SampleSettings, centres: tuple[date, ...], width_days: float) -> Floats:
    days = np.arange(settings.days)
    return np.sum([np.exp(-(((days - settings.day_of(c)) / width_days) ** 2)) for c in centres], axis=0)


def _by_month(settings: SampleSettings, levels: tuple[float, ...]) -> Floats:
    dates = [settings.date_of(day) for day in range(settings.days)]
    position = np.array([(d.month - 1) + (d.day - 15) / 30.5 for d in dates])
    return np.interp(position, np.arange(-1, 13), (levels[-1], *levels, levels[0]))


def _by_weekday(settings: SampleSettings, levels: tuple[float, ...]) -> Floats:
    return np.array(levels)[(settings.start.weekday() + np.arange(settings.days)) % 7]


@lru_cache(maxsize=8)
def signup_season(settings: SampleSettings) -> Floats:
    """Relative sign-ups of each day: launch, slow growth, weekday, school terms, holidays, festivals."""
    days = np.arange(settings.days)
    launch = 1.0 + 0.75 * np.exp(-days / 40.0) + 0.22 * days / settings.days
    holidays = 1.0 - 0.34 * _bumps(settings, _NEW_YEARS, 6.0) - 0.10 * _bumps(settings, _NATIONAL_DAYS, 4.0)
    festivals = 1.0 + 0.12 * _bumps(settings, _festivals(settings), 7.0)
    return launch * holidays * festivals * _by_month(settings, _MONTH_SIGNUPS) * _by_weekday(settings, _WEEKDAY_SIGNUPS)


@lru_cache(maxsize=8)
def activity_season(settings: SampleSettings) -> Floats:
    """Relative chance that a user opens the app on each day."""
    holidays = 1.0 - 0.28 * _bumps(settings, _NEW_YEARS, 5.0) - 0.07 * _bumps(settings, _NATIONAL_DAYS, 4.0)
    return holidays * _by_month(settings, _MONTH_ACTIVITY) * _by_weekday(settings, _WEEKDAY_ACTIVITY)


@lru_cache(maxsize=8)
def shop_season(settings: SampleSettings) -> Floats:
    """Relative taste for buying on each day, with the 618 and 11.11 festivals."""
    festivals = 1.0 + 0.40 * _bumps(settings, _festivals(settings), 7.0)
    return festivals * _by_weekday(settings, _WEEKDAY_SHOP)


def _festivals(settings: SampleSettings) -> tuple[date, ...]:
    years = range(settings.start.year, settings.end.year + 1)
    return tuple(date(year, *day) for year in years for day in ((6, 18), (11, 11)))


_HOURS_WORKDAY = (
    14, 7, 4, 3, 3, 6, 18, 40, 52, 44, 40, 42, 62, 55, 40, 38, 40, 46, 58, 78, 98, 96, 70, 36,
)  # fmt: skip
_HOURS_WEEKEND = (
    20, 11, 6, 4, 3, 5, 10, 22, 40, 56, 64, 62, 58, 56, 58, 60, 60, 56, 58, 74, 88, 86, 68, 40,
)  # fmt: skip
BINS_PER_DAY = 288


@lru_cache(maxsize=2)
def day_profile(weekend: bool) -> Floats:
    """Share of a day's visits in each of its 288 five-minute bins; sums to one."""
    hours = np.array(_HOURS_WEEKEND if weekend else _HOURS_WORKDAY, dtype=float)
    middle = np.concatenate(([-0.5], np.arange(24) + 0.5, [24.5]))
    levels = np.interp((np.arange(BINS_PER_DAY) + 0.5) / 12.0, middle, (hours[-1], *hours, hours[0]))
    return levels / levels.sum()


@lru_cache(maxsize=2)
def day_profile_cdf(weekend: bool) -> Floats:
    """Cumulative `day_profile`, from 0 to 1 over 289 bin edges."""
    return np.concatenate(([0.0], np.cumsum(day_profile(weekend))))


def is_weekend(settings: SampleSettings, day: int) -> bool:
    """Whether a day index falls on Saturday or Sunday."""
    return (settings.start.weekday() + day) % 7 >= 5

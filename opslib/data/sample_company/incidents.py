"""What goes wrong (or right) in the sample company: incidents as lines in a list, and their effects.

An `Incident` line names one rate (`kind`) and by how much it is multiplied, for whom, and when. Lines that
share an `id` are one story. The simulator never asks about incidents by name: it asks `Effects.multiplier`
for the rate it is about to use. To plant another incident, add a line to a list and pass the list.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date

import numpy as np

from opslib.data.sample_company.company import (
    AGE_BAND,
    CHANNELS,
    CITY_TIER,
    EXPERIMENTS,
    NETWORK_WORDS,
    PLATFORM,
    VERSION_WORDS,
    Bools,
    Floats,
    SampleSettings,
)

KINDS = {
    "return_rate": "chance to be active on a day; tenure 1 is the next-day return",
    "leave_rate": "chance to leave for good after an active day",
    "signups": "new users a day",
    "spend": "marketing spend a day",
    "order_rate": "chance that a viewer puts an item in the cart, which orders follow in proportion",
    "step_rate:view_item->add_to_cart": "share of viewing sessions that go on to the cart",
    "step_rate:add_to_cart->begin_checkout": "share of cart sessions that go on to checkout",
    "step_rate:begin_checkout->pay": "share of checkout sessions that pay",
    "complaint_rate:service_delay": "chance that an active user complains of slow service on a day",
    "complaint_rate:system_failure": "chance that an active user complains of a system failure on a day",
    "complaint_rate:content_violation": "chance that an active user complains of content on a day",
    "complaint_rate:billing": "chance that an active user complains of a bill on a day",
    "satisfied_rate": "share of satisfaction answers of 4 or 5",
    "requests": "requests to the site; errors and latency follow from its capacity",
    "promotion": "coupons and messages for the users named; the size is the share of the price taken off",
}

VOCABULARY: dict[str, tuple[str, ...]] = {
    "channel": tuple(channel.name for channel in CHANNELS),
    "domain": ("public", "private"),
    "platform": PLATFORM.words,
    "city_tier": CITY_TIER.words,
    "age_band": AGE_BAND.words,
    "network": NETWORK_WORDS,
    "app_version": VERSION_WORDS,
    "coupon_expired_unused_14d": ("no", "yes"),
    "added_by_signups": ("no", "yes"),
    **{experiment.name: experiment.variants for experiment in EXPERIMENTS},
}
"""Words of each column a segment may name; the position is the code that the simulator holds."""

Lookup = Callable[[str], np.ndarray]


@dataclass(frozen=True, slots=True)
class Segment:
    """Users (or their sessions) picked by column values, and by days since sign-up if `tenure` is given."""

    where: tuple[tuple[str, str], ...] = ()
    tenure: tuple[int, int] | None = None  # first and last day, both included

    @classmethod
    def of(cls, *, tenure: tuple[int, int] | None = None, **where: str) -> Segment:
        """Build a segment from column=value pairs; unknown columns and values are refused."""
        for column, value in where.items():
            if value not in VOCABULARY.get(column, ()):
                raise ValueError(f"a segment cannot ask for {column}={value!r}")
        return cls(tuple(where.items()), tenure)

    def match(self, lookup: Lookup) -> Bools | bool:
        """Mask of the rows that `lookup` describes; plain True for everybody."""
        mask: Bools | bool = True
        for column, value in self.where:
            mask = mask & (lookup(column) == VOCABULARY[column].index(value))
        if self.tenure is not None:
            tenure = lookup("tenure")
            mask = mask & (tenure >= self.tenure[0]) & (tenure <= self.tenure[1])
        return mask

    def as_dict(self) -> dict[str, str | list[int]]:
        """The segment as column: value pairs, for `truth.json`."""
        named: dict[str, str | list[int]] = dict(self.where)
        if self.tenure is not None:
            named["tenure_days"] = list(self.tenure)
        return named


EVERYBODY = Segment()


@dataclass(frozen=True, slots=True)
class Incident:
    """One rate changed by a factor, for a segment and a time. `end` is exclusive; days are local days.

    `size` is one factor, or one for each calendar month from `start`. `hours` limits it to local hours
    (first included, last excluded).
    """

    id: str
    kind: str
    start: date
    end: date
    who: Segment
    size: float | tuple[float, ...]
    description: str = ""
    hours: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"incident {self.id}: no rate is called {self.kind!r}")
        if self.start >= self.end:
            raise ValueError(f"incident {self.id}: it ends ({self.end}) before it starts ({self.start})")

    def size_on(self, day: date) -> float:
        """The factor in force on a local day within the incident."""
        if isinstance(self.size, tuple):
            months = (day.year - self.start.year) * 12 + day.month - self.start.month
            return self.size[min(months, len(self.size) - 1)]
        return self.size


_Q2 = (date(2026, 4, 1), date(2026, 7, 1))
_SALE = (date(2026, 6, 5), date(2026, 6, 17))
_TREATED = Segment.of(june_sale_2026="treated")

INCIDENTS: tuple[Incident, ...] = (
    Incident(
        "d1_drop", "return_rate", *_Q2,
        Segment.of(channel="paid_ads", platform="android", tenure=(1, 1)), 0.52,
        "Next-day return of Android sign-ups from paid ads falls in 2026Q2",
    ),
    Incident(
        "d1_drop", "return_rate", *_Q2,
        Segment.of(channel="paid_ads", platform="android", tenure=(2, 14)), 0.80,
        "... and so, less, does their return over the first two weeks",
    ),
    Incident(
        "checkout_bug", "step_rate:begin_checkout->pay", date(2026, 5, 11), date(2026, 6, 15),
        Segment.of(platform="android", app_version="5.3.0"), 0.45,
        "Checkout often fails on Android in version 5.3.0; 5.3.1 mends it from 2026-06-01, users update "
        "within two weeks of that",
    ),
    Incident(
        "coupon_churn", "leave_rate", date(2026, 3, 1), date(2026, 6, 1),
        Segment.of(coupon_expired_unused_14d="yes"), (2.4, 4.6, 8.5),
        "Users whose coupon expired unused in the last 14 days leave more, and each month more so. Leaving "
        "in March, April and May shows as churn (active last month, not this month) in April, May and June",
    ),
    Incident(
        "complaint_wave", "complaint_rate:service_delay", date(2026, 5, 19), date(2026, 5, 22), EVERYBODY,
        29.0,
        "Three days of complaints about slow service",
    ),
    Incident(
        "complaint_wave", "satisfied_rate", date(2026, 5, 19), date(2026, 5, 22), EVERYBODY, 0.62,
        "... and satisfaction falls with it",
    ),
    Incident(
        "budget_shift", "signups", *_Q2, Segment.of(channel="social"), 1.42,
        "Money goes to a cheaper network in the social channel: more sign-ups",
    ),
    Incident("budget_shift", "spend", *_Q2, Segment.of(channel="social"), 1.35, "... for more money"),
    Incident(
        "budget_shift", "return_rate", *_Q2, Segment.of(channel="social", added_by_signups="yes"), 0.15,
        "... but the added users barely stay",
    ),
    Incident(
        "surge_day", "requests", date(2026, 6, 18), date(2026, 6, 19), EVERYBODY, 6.0,
        "Six times the requests on the evening of 618, beyond what the site can serve", hours=(19, 23),
    ),
    Incident(
        "surge_day", "step_rate:begin_checkout->pay", date(2026, 6, 18), date(2026, 6, 19), EVERYBODY, 0.20,
        "... orders are lost", hours=(19, 23),
    ),
    Incident(
        "surge_day", "return_rate", date(2026, 6, 18), date(2026, 6, 19), EVERYBODY, 1.35,
        "... on a day when more users than usual came",
    ),
    Incident(
        "june_sale", "promotion", *_SALE, _TREATED, 0.12,
        "Coupons and messages for nine users in ten; one in ten is held out",
    ),
    Incident(
        "june_sale", "order_rate", *_SALE, _TREATED, 1.55,
        "... who then order more, on top of the visits that the messages bring",
    ),
    Incident(
        "june_sale", "order_rate", date(2026, 6, 17), date(2026, 7, 1), _TREATED, 0.70,
        "... and part of it is taken from the following two weeks",
    ),
    Incident(
        "onboarding_checklist", "leave_rate", date(2026, 1, 5), date(2026, 3, 2),
        Segment.of(onboarding_checklist="checklist", tenure=(0, 0)), 0.60,
        "The finished experiment: with a checklist fewer users leave for good after the first day",
    ),
    Incident(
        "checkout_one_page", "step_rate:begin_checkout->pay", date(2026, 6, 15), date(2026, 7, 1),
        Segment.of(checkout_one_page="one_page"), 1.05,
        "The running experiment: a one-page checkout helps a little; its data are not mature",
    ),
)  # fmt: skip
"""The incidents that ship with the sample company."""


class Effects:
    """The incidents as the simulator sees them: a multiplier for any rate on any day."""

    def __init__(self, incidents: Iterable[Incident], settings: SampleSettings) -> None:
        self.incidents = tuple(incidents)
        self._by_kind: dict[str, list[tuple[int, int, Incident]]] = {}
        self._settings = settings
        for incident in self.incidents:
            days = (settings.day_of(incident.start), settings.day_of(incident.end), incident)
            self._by_kind.setdefault(incident.kind, []).append(days)

    def active(self, kind: str, day: int) -> list[Incident]:
        """Incidents of a kind in force on a day."""
        return [incident for first, end, incident in self._by_kind.get(kind, ()) if first <= day < end]

    def multiplier(self, kind: str, day: int, lookup: Lookup) -> Floats | float:
        """Factor on a rate for the rows that `lookup` describes; plain 1.0 when nothing is going on."""
        factor: Floats | float = 1.0
        for incident in self.active(kind, day):
            mask = incident.who.match(lookup)
            if incident.hours is not None:
                hour = lookup("hour")
                mask = mask & (hour >= incident.hours[0]) & (hour < incident.hours[1])
            factor = factor * np.where(mask, incident.size_on(self._settings.date_of(day)), 1.0)
        return factor

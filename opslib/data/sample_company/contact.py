"""How the company and its users talk: messages, support tickets, satisfaction surveys."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from opslib.data.sample_company.behaviour import NEVER, Columns, Sessions, State
from opslib.data.sample_company.commerce import FESTIVAL_COUPONS, FESTIVAL_REACH_DAYS, Coupons
from opslib.data.sample_company.company import DAY_SECONDS, PLATFORM, TICKET_WORDS, Ints

MEDIUM_WORDS = ("sms", "push", "wecom", "email")
_SMS, _PUSH, _WECOM, _EMAIL = range(4)
_DELIVERED = np.array([0.982, 0.955, 0.995, 0.970])


@dataclass(frozen=True, slots=True)
class Campaign:
    """A kind of message: chance to be opened if delivered, to be clicked if opened, and its local hours."""

    name: str
    opened: float
    clicked: float
    hours: tuple[int, int]


CAMPAIGNS = (
    Campaign("getting_started", 0.16, 0.17, (9, 12)),
    Campaign("first_lessons", 0.12, 0.16, (11, 14)),
    Campaign("weekly_picks", 0.08, 0.20, (18, 20)),
    Campaign("coupon_reminder", 0.15, 0.30, (10, 12)),
    Campaign("miss_you", 0.10, 0.20, (12, 14)),
    Campaign("mid_year_festival", 0.09, 0.24, (10, 12)),
    Campaign("double_eleven", 0.09, 0.24, (10, 12)),
    Campaign("june_sale", 0.08, 0.11, (10, 12)),
)
CAMPAIGN_WORDS = tuple(campaign.name for campaign in CAMPAIGNS)
_STARTED, _LESSONS, _PICKS, _REMINDER, _MISS_YOU, _MID_YEAR, _ELEVEN, _SALE = range(len(CAMPAIGNS))
_OPENED = np.array([campaign.opened for campaign in CAMPAIGNS])
_CLICKED = np.array([campaign.clicked for campaign in CAMPAIGNS])
_HOURS = np.array([campaign.hours for campaign in CAMPAIGNS])
_MISS_AFTER_DAYS = 21
_PICKS_WEEKDAY = 3
_SALE_LAST_CALL_DAYS = 2


def send_messages(state: State, day: int, coupons: Coupons, messages: Columns) -> tuple[Ints, Ints]:
    """Send a day's messages; returns the users whom a click brings into the app, and the local second."""
    mailing = _address(state, day)
    if not mailing:
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
    who = np.concatenate([users for _, users in mailing])
    campaign = np.concatenate([np.full(len(users), code) for code, users in mailing])
    rng = state.rng
    first, last = _HOURS[campaign].T
    second = (3600 * (first + (last - first) * rng.random(len(who)))).astype(np.int64)
    medium = _choose_medium(state, who, campaign)
    ranks = rng.random((3, len(who)))
    delivered = ranks[0] < _DELIVERED[medium]
    # People read what comes from a person: WeCom is opened about three times as often.
    opened = delivered & (ranks[1] < _OPENED[campaign] * np.where(medium == _WECOM, 3.0, 1.0))
    clicked = opened & (ranks[2] < _CLICKED[campaign])
    messages.add(
        user=who,
        second=day * DAY_SECONDS + second,
        medium=medium,
        campaign=campaign,
        delivered=delivered,
        opened=opened,
        clicked=clicked,
    )
    missed = campaign == _MISS_YOU
    coupons.issue_comeback(state, day, who[missed], second[missed])
    pulled, row = np.unique(who[clicked], return_index=True)
    return pulled, (second[clicked] + 5 + 300 * ranks[0][clicked]).astype(np.int64)[row]


def _address(state: State, day: int) -> list[tuple[int, Ints]]:
    settings, rng, bounds = state.settings, state.rng, state.users.bounds
    older = int(bounds[day])
    if older == 0:
        return []
    away = day - state.last_active[:older]
    ranks = rng.random(older)
    mailing = []
    for code, tenure in ((_STARTED, 1), (_LESSONS, 3)):
        if day >= tenure:
            mailing.append((code, np.arange(bounds[day - tenure], bounds[day - tenure + 1])))
    if settings.date_of(day).weekday() == _PICKS_WEEKDAY:
        mailing.append((_PICKS, np.flatnonzero((away <= 28) & (ranks < 0.22))))
    held = state.coupon_row[:older] >= 0
    due = held & (state.coupon_last_day[:older] == day + 2) & (away <= 28)
    mailing.append((_REMINDER, np.flatnonzero(due & (ranks < 0.4))))
    mailing.append((_MISS_YOU, np.flatnonzero((away == _MISS_AFTER_DAYS) & (ranks < 0.6))))
    for (first, _), code in zip(FESTIVAL_COUPONS, (_MID_YEAR, _ELEVEN), strict=True):
        if day == settings.day_of(first) + 1:
            mailing.append((code, np.flatnonzero(away <= FESTIVAL_REACH_DAYS)))
    for promotion in state.effects.active("promotion", day):
        chosen = np.broadcast_to(promotion.who.match(state.lookup(slice(0, older), day)), older)
        if day == settings.day_of(promotion.start):
            mailing.append((_SALE, np.flatnonzero(chosen)))
        elif day == settings.day_of(promotion.end) - _SALE_LAST_CALL_DAYS:
            mailing.append((_SALE, np.flatnonzero(chosen & held & (away <= 28))))
    return mailing


def _choose_medium(state: State, who: Ints, campaign: Ints) -> Ints:
    codes = state.users.codes
    private = (codes["domain"][who] == 1) | (state.private_since[who] != NEVER)
    web = codes["platform"][who] == PLATFORM.words.index("web")
    in_app = np.where(web, _EMAIL, _PUSH)
    outside = np.where(private, _WECOM, _SMS)
    return np.where(np.isin(campaign, (_MISS_YOU, _MID_YEAR, _ELEVEN, _SALE)), outside, in_app)


def open_tickets(state: State, day: int, sessions: Sessions, tickets: Columns, surveys: Columns) -> None:
    """Draw a day's support tickets and satisfaction answers, at most one of each for an active user."""
    rates, rng = state.settings.rates, state.rng
    who, first = np.unique(sessions.user, return_index=True)
    lookup = state.lookup(who, day)
    opened = np.minimum(sessions.start[first] + 30 + (300 * rng.random(len(who))).astype(np.int64), DAY_SECONDS - 2)
    chances = [
        np.broadcast_to(rate * state.effects.multiplier(f"complaint_rate:{word}", day, lookup), len(who))
        for word, rate in zip(TICKET_WORDS, rates.complaint, strict=True)
    ]
    edges = np.cumsum(chances, axis=0)
    ranks = rng.random(len(who))
    category = (ranks >= edges).sum(axis=0)
    complains = category < len(TICKET_WORDS)
    other = ~complains & (ranks < edges[-1] + rates.other_ticket)
    category[other] = np.where(rng.random(int(other.sum())) < 0.7, TICKET_WORDS.index("question"), 3)
    raised = complains | other
    hours = np.exp(2.1 + 0.9 * rng.standard_normal(int(raised.sum())))
    begun = day * DAY_SECONDS + opened[raised]
    tickets.add(
        user=who[raised],
        opened=begun,
        category=category[raised],
        is_complaint=complains[raised],
        closed=begun + (3600 * hours).astype(np.int64),
    )
    _ask(state, day, who, opened + 1, complains, surveys)


def _ask(state: State, day: int, who: Ints, second: Ints, complains: np.ndarray, surveys: Columns) -> None:
    rates, rng = state.settings.rates, state.rng
    ranks = rng.random((4, len(who)))
    asked = ranks[0] < np.where(complains, 0.18, rates.csat_asked)
    good = np.where(complains, 0.50, rates.satisfied)
    good = good * state.effects.multiplier("satisfied_rate", day, state.lookup(who, day))
    satisfied = ranks[1] < good
    csat = np.where(satisfied, np.where(ranks[2] < 0.58, 5, 4), np.where(ranks[2] < 0.6, 3, 1 + (ranks[2] < 0.8)))
    drive = state.users.drive[who]
    mood = ranks[3] + 0.25 * (drive - 0.5)
    nps = np.searchsorted((0.02, 0.03, 0.05, 0.08, 0.12, 0.17, 0.24, 0.36, 0.56, 0.78), mood)
    promoted = ~asked & (ranks[0] > 1 - rates.nps_asked)
    for code, mask, score in ((0, promoted, nps), (1, asked, csat)):
        surveys.add(
            user=who[mask],
            second=day * DAY_SECONDS + second[mask],
            kind=np.full(int(mask.sum()), code),
            score=score[mask],
        )

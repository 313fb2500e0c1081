"""What users buy: the shopping part of a session, orders, and the life of a coupon."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date

import numpy as np

from opslib.data.sample_company.behaviour import NEVER, SECOND_VIEW, SLOT, Columns, Sessions, State
from opslib.data.sample_company.company import (
    CATEGORIES,
    CLUB,
    COMEBACK,
    DAY_SECONDS,
    DOUBLE_ELEVEN,
    MID_YEAR,
    OFFERS,
    WELCOME,
    Bools,
    Ints,
    shop_season,
)

_VALID_DAYS = np.array([days for _, days, _ in OFFERS])
_SHARE_OFF = np.array([share for *_, share in OFFERS])
_CATEGORY_EDGES = np.cumsum([share for _, share, *_ in CATEGORIES])[:-1]
_LIST_PRICE = np.array([price for *_, price, _ in CATEGORIES])
_COST_SHARE = np.array([cost for *_, cost in CATEGORIES])

# Ordinary festival coupons, part of the company whatever the incidents: first day, offer.
FESTIVAL_COUPONS = ((date(2025, 6, 9), MID_YEAR), (date(2025, 11, 3), DOUBLE_ELEVEN))
FESTIVAL_REACH_DAYS = 90
COUPON_HOUR_SECOND = 10 * 3600
SALE_EVE_SECOND = 20 * 3600


@dataclass(slots=True)
class Coupons:
    """Every coupon issued so far in a chunk, and which of them were used."""

    issued: Columns = field(default_factory=Columns)
    used: Columns = field(default_factory=Columns)
    count: int = 0

    def issue(self, state: State, day: int, who: Ints, second: Ints, offer: Ints, last_day: Ints) -> None:
        """Give a coupon to each of `who`; it is valid to the end of local day `last_day`."""
        rows = self.count + np.arange(len(who))
        self.count += len(who)
        self.issued.add(user=who, issued=day * DAY_SECONDS + second, expires=(last_day + 1) * DAY_SECONDS, offer=offer)
        state.coupon_row[who] = rows
        state.coupon_offer[who] = offer
        state.coupon_from[who] = day * DAY_SECONDS + second
        state.coupon_last_day[who] = last_day

    def expire(self, state: State, day: int) -> None:
        """Take back the coupons whose last valid day was yesterday."""
        lapsed = np.flatnonzero((state.coupon_row >= 0) & (state.coupon_last_day == day - 1))
        state.coupon_row[lapsed] = -1
        state.coupon_lapsed[lapsed] = day

    def issue_festival(self, state: State, day: int) -> None:
        """Issue the festival coupons that start on this day, the promotions' on their eve."""
        settings = state.settings
        older = int(state.users.bounds[day])
        recent = np.flatnonzero(day - state.last_active[:older] <= FESTIVAL_REACH_DAYS)
        for first, offer in FESTIVAL_COUPONS:
            if day == settings.day_of(first):
                self._issue_to(state, day, recent, COUPON_HOUR_SECOND, offer, day + int(_VALID_DAYS[offer]) - 1)
        for promotion in state.effects.active("promotion", day + 1):
            if day + 1 == settings.day_of(promotion.start):
                mask = promotion.who.match(state.lookup(slice(0, older), day))
                who = np.flatnonzero(np.broadcast_to(mask, older))
                self._issue_to(state, day, who, SALE_EVE_SECOND, MID_YEAR, settings.day_of(promotion.end) - 1)

    def issue_comeback(self, state: State, day: int, who: Ints, second: Ints) -> None:
        """Issue a come-back coupon with a message to users who have been away."""
        last_day = np.full(len(who), day + int(_VALID_DAYS[COMEBACK]))
        self.issue(state, day, who, second, np.full(len(who), COMEBACK), last_day)

    def _issue_to(self, state: State, day: int, who: Ints, second: int, offer: int, last_day: int) -> None:
        count = len(who)
        self.issue(
            state,
            day,
            who,
            np.full(count, second),
            np.full(count, offer),
            np.full(count, last_day, dtype=np.int64),
        )

    def claim(self, state: State, sessions: Sessions) -> None:
        """Mark the sessions in which a user without a coupon claims one."""
        _, first = np.unique(sessions.user, return_index=True)
        free = first[state.coupon_row[sessions.user[first]] < 0]
        rate = np.where(sessions.newcomer[free], 0.55, state.settings.rates.claim_coupon)
        sessions.slots[free[state.rng.random(len(free)) < rate], SLOT["coupon_claimed"]] = True

    def issue_claimed(self, state: State, day: int, sessions: Sessions, claimed_at: Ints) -> None:
        """Issue what was claimed; it can be used from the next session on."""
        rows = np.flatnonzero(claimed_at >= 0)
        offer = np.where(sessions.newcomer[rows], WELCOME, CLUB)
        self.issue(state, day, sessions.user[rows], claimed_at[rows], offer, day + _VALID_DAYS[offer])


def draw_shopping(state: State, day: int, sessions: Sessions) -> Ints:
    """Mark the shopping events of a day's sessions; returns each session's item category, -1 for none."""
    rates, rng, who = state.settings.rates, state.rng, sessions.user
    tenure = day - state.users.signup_day[who]
    taste = state.users.buy[who] * (1.0 - (1.0 - rates.buy_newcomer) * np.exp(-tenure / rates.buy_warm_up_days))

    def step(name: str) -> np.ndarray | float:
        return state.effects.multiplier(f"step_rate:{name}", day, sessions.lookup)

    ranks = rng.random((6, len(who)))
    season = shop_season(state.settings)[day]
    view = ranks[0] < rates.view * (0.55 + 0.45 * np.minimum(taste, 3.0))
    to_cart = rates.cart_after_view * np.minimum(taste * season, 1.6)
    to_cart = to_cart * state.effects.multiplier("order_rate", day, sessions.lookup)
    cart = view & (ranks[1] < to_cart * step("view_item->add_to_cart"))
    checkout = cart & (ranks[2] < rates.checkout_after_cart * step("add_to_cart->begin_checkout"))
    pay = checkout & (ranks[3] < rates.pay_after_checkout * step("begin_checkout->pay"))
    search = ranks[4] < 0.10 + 0.15 * view
    for word, mask in (
        ("view_item", view),
        ("add_to_cart", cart),
        ("begin_checkout", checkout),
        ("pay", pay),
    ):
        sessions.slots[:, SLOT[word]] = mask
    sessions.slots[:, SECOND_VIEW] = view & (ranks[5] < 0.25)
    sessions.slots[:, SLOT["search"]] = search
    category = np.searchsorted(_CATEGORY_EDGES, rng.random(len(who)), side="right")
    return np.where(view | search, category, -1)


def place_orders(
    state: State,
    day: int,
    sessions: Sessions,
    category: Ints,
    paid_at: Ints,
    coupons: Coupons,
    orders: Columns,
) -> None:
    """Write an order for each `pay` event, using the coupon that its user holds."""
    rows = np.flatnonzero(paid_at >= 0)
    who, rng = sessions.user[rows], state.rng
    price = _LIST_PRICE[category[rows]] * np.exp(0.42 * rng.standard_normal(len(rows)))
    price = np.round(price, 1)
    held = state.coupon_row[who]
    second = day * DAY_SECONDS + paid_at[rows]
    use = (held >= 0) & (rng.random(len(rows)) < state.settings.rates.use_coupon)
    use &= state.coupon_from[who] < second
    use &= _first_of_each(who)
    discount = np.where(use, np.round(price * _SHARE_OFF[state.coupon_offer[who]], 2), 0.0)
    cost = np.round(price * _COST_SHARE[category[rows]] * (0.94 + 0.12 * rng.random(len(rows))), 2)
    orders.add(
        user=who,
        second=second,
        amount=np.round(price - discount, 2),
        discount=discount,
        cost=cost,
        coupon=np.where(use, held, -1),
        category=category[rows],
    )
    coupons.used.add(row=held[use], second=second[use])
    state.coupon_row[who[use]] = -1
    state.coupon_last_day[who[use]] = NEVER
    state.last_paid[who] = day


def _first_of_each(who: Ints) -> Bools:
    first = np.zeros(len(who), dtype=bool)
    first[np.unique(who, return_index=True)[1]] = True
    return first

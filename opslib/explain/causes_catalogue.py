"""The reasons that are tried without being asked for: made from the tables that are there."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import ibis
import ibis.expr.types as ir

from opslib.explain.causes_reasons import Occurrence, Reason

_ERROR = re.compile(r"error|crash|fail|exception|timeout|报错|失败|崩溃", re.IGNORECASE)
_CHECKOUT = re.compile(r"checkout|begin_pay|payment_start|add_to_cart|结算|加购", re.IGNORECASE)
_PAID = re.compile(
    r"^(pay|paid|purchase|order|buy)(_|$)|order_paid|payment_(done|success)|支付成功|下单", re.IGNORECASE
)


@dataclass(frozen=True)
class ReasonSettings:
    """What the usual reasons count as what.

    Attributes:
        window_days: the days up to and including the index day in which a reason must have happened.
        soon_days: a coupon expires soon in so many days.
        slow_hours: support is slow when a ticket stays open for longer.
        many_messages: so many messages in the window, none opened, are too many.
        settle_days: a message must be so old to say whether it was opened: whether is known, but not when.
        price_rise: the mean price of orders has risen from this factor on.
        events: at most so many events, the most frequent first, are tried as features.
    """

    window_days: int = 14
    soon_days: int = 3
    slow_hours: int = 48
    many_messages: int = 4
    settle_days: int = 2
    price_rise: float = 1.2
    events: int = 20


def make_reasons(tables: Mapping[str, ir.Table], settings: ReasonSettings | None = None) -> list[Reason]:
    """Make the reasons that the tables at hand can tell of.

    Args:
        tables: contract tables by name; tables that are absent give no reasons.
        settings: what counts as what.

    Returns:
        Reasons; add your own to the list. How often a user came lately is not among them: to come less is the beginning
        of leaving, not a reason for it. Cases are matched on it instead.

    >>> tables = {"coupons": ibis.memtable({"user_id": [1], "issued_at": [None], "expires_at": [None],
    ...     "redeemed_at": [None]}, schema={"user_id": "int64", "issued_at": "timestamp", "expires_at": "timestamp",
    ...     "redeemed_at": "timestamp"})}
    >>> [r.name for r in make_reasons(tables)]
    ['coupon_expired_unused', 'coupon_expires_soon']
    """
    s = settings or ReasonSettings()
    reasons: list[Reason] = []
    for make, name in (
        (_from_coupons, "coupons"),
        (_from_tickets, "tickets"),
        (_from_orders, "orders"),
        (_from_messages, "messages"),
        (_from_events, "events"),
    ):
        if name in tables:
            reasons += make(tables[name], s)
    return reasons


def _from_coupons(coupons: ir.Table, s: ReasonSettings) -> list[Reason]:
    if "redeemed_at" not in coupons.columns or "expires_at" not in coupons.columns:
        return []
    unused = ("redeemed_at missing",)
    expired = Occurrence((0, s.window_days), unused, at="expires_at")
    reasons = [Reason("coupon_expired_unused", "coupons", (expired,))]
    if "issued_at" in coupons.columns:
        soon = Occurrence((-s.soon_days, 0), unused, at="expires_at", known_at="issued_at")
        reasons.append(Reason("coupon_expires_soon", "coupons", (soon,)))
    return reasons


def _from_tickets(tickets: ir.Table, s: ReasonSettings) -> list[Reason]:
    window = (0, s.window_days)
    reasons = [Reason("ticket_opened", "tickets", (Occurrence(window),))]
    if "is_complaint" in tickets.columns:
        reasons.append(Reason("complaint", "tickets", (Occurrence(window, ("is_complaint",)),)))
    if "closed_at" in tickets.columns:
        slow = f"opened_at to closed_at > {s.slow_hours} hours"
        reasons.append(Reason("ticket_unresolved", "tickets", (Occurrence(window, ("closed_at missing",)),)))
        reasons.append(Reason("support_slow", "tickets", (Occurrence(window, (slow,)),)))
    return reasons


def _from_orders(orders: ir.Table, s: ReasonSettings) -> list[Reason]:
    window, earlier = (0, s.window_days), (s.window_days, 5 * s.window_days)
    now, before, none = Occurrence(window), Occurrence(earlier), Occurrence(window, at_least=0, at_most=0)
    never = Occurrence(earlier, at_least=0, at_most=0)
    reasons = [
        Reason("first_purchase", "orders", (now, never)),
        Reason("month_after_purchase", "orders", (Occurrence((28, 35)), Occurrence((0, 28), at_least=0, at_most=0))),
        Reason("purchases_stopped", "orders", (none, before)),
    ]
    if "amount" in orders.columns:
        paid = ("amount > 0",)
        both = (Occurrence(window, paid), Occurrence(earlier, paid))
        reasons.append(Reason("price_rise", "orders", both, ("amount", s.price_rise)))
        reasons.append(Reason("refund", "orders", (Occurrence(window, ("amount < 0",)),)))
    if "discount" in orders.columns:
        cheap = ("discount > 0",)
        lost = (now, Occurrence(window, cheap, at_least=0, at_most=0), Occurrence(earlier, cheap))
        reasons.append(Reason("discount_ended", "orders", lost))
    return reasons


def _from_messages(messages: ir.Table, s: ReasonSettings) -> list[Reason]:
    window = (0, s.window_days)
    reasons = [Reason("no_message", "messages", (Occurrence(window, at_least=0, at_most=0),))]
    if "opened" in messages.columns:
        settled = (s.settle_days, s.settle_days + s.window_days)
        many = Occurrence(settled, at_least=s.many_messages)
        unopened = Occurrence(settled, ("opened",), at_least=0, at_most=0)
        reasons.append(Reason("message_fatigue", "messages", (many, unopened)))
    return reasons


def _from_events(events: ir.Table, s: ReasonSettings) -> list[Reason]:
    counted = events.filter(events.event.notnull()).group_by("event").aggregate(rows=lambda t: t.count())
    top = counted.order_by([ibis.desc("rows"), "event"]).limit(10 * s.events).to_pandas()
    names = [str(name) for name in top["event"]]
    errors = [name for name in names if _ERROR.search(name)]
    features = [name for name in names if name not in errors][: s.events]
    window, earlier = (0, s.window_days), (s.window_days, 2 * s.window_days)
    reasons = [Reason(f"error:{n}", "events", (Occurrence(window, (f"event = {n}",)),)) for n in errors[: s.events]]
    for name in features:
        is_it = (f"event = {name}",)
        none = Occurrence(window, is_it, at_least=0, at_most=0)
        before, never = Occurrence(earlier, is_it), Occurrence(earlier, is_it, at_least=0, at_most=0)
        reasons.append(Reason(f"stopped_using:{name}", "events", (none, before)))
        reasons.append(Reason(f"not_used:{name}", "events", (none, never)))
    begun, paid = ([n for n in names if pattern.search(n)] for pattern in (_CHECKOUT, _PAID))
    if begun and paid:
        started = Occurrence((0, 1), (f"event in {'; '.join(begun)}",))
        unpaid = Occurrence((0, 1), (f"event in {'; '.join(paid)}",), at_least=0, at_most=0)
        reasons.append(Reason("last_day_cart_unpaid", "events", (started, unpaid)))
    return reasons

"""Who can be reached: by which channel, who answered before, who hears from us too often."""

from __future__ import annotations

from collections.abc import Mapping

import ibis
import ibis.expr.types as ir

from opslib.data.periods import DAY
from opslib.errors import InputError, suggest_name

NEEDED = ("user_id", "ts", "channel")


def count_contacts(
    users: ir.Table,
    messages: ir.Table,
    *,
    end: object,
    reach_days: int,
    cap_days: int,
) -> ir.Table:
    """Count what was sent to each user by each channel.

    Args:
        users: user_id; who is asked about.
        messages: user_id, ts (UTC), channel and, where known, delivered, opened, clicked. Without `delivered` what was
            sent counts as delivered.
        end: the moment (UTC) that days are counted back from.
        reach_days, cap_days: how far back deliveries count, and messages that tire.

    Returns:
        user_id, channel, delivered, opened, clicked (rows in the last `reach_days`), sent (rows in the last
        `cap_days`); one row a user and channel.

    Raises:
        InputError: a column is missing.
    """
    for name in NEEDED:
        if name not in messages.columns:
            raise InputError(f"Table messages has no column '{name}'.{suggest_name(name, messages.columns)}")
    if messages.user_id.type().is_string() != users.user_id.type().is_string():
        raise InputError(
            f"user_id is {users.user_id.type()} in segments and {messages.user_id.type()} in messages: make them alike."
        )
    near = messages.filter(
        messages.ts < end,
        messages.ts >= end - max(reach_days, cap_days) * DAY,  # type: ignore[operator]
        messages.channel.notnull(),
    ).semi_join(users, "user_id")
    reached = near.ts >= end - reach_days * DAY  # type: ignore[operator]
    for name in ("delivered", "opened", "clicked"):
        if name in near.columns:
            # What was opened has arrived, whatever the table says of it.
            known = [near[n].cast("boolean").fill_null(False) for n in _implying(name) if n in near.columns]
            flag = known[0]
            for other in known[1:]:
                flag = flag | other
        else:
            flag = ibis.literal(name == "delivered")
        near = near.mutate(**{f"_{name}": flag & reached})
    return near.group_by("user_id", channel=near.channel.cast("string")).aggregate(
        **{name: near[f"_{name}"].sum().fill_null(0) for name in ("delivered", "opened", "clicked")},
        sent=(near.ts >= end - cap_days * DAY).sum().fill_null(0),  # type: ignore[operator]
    )


def _implying(name: str) -> tuple[str, ...]:
    return {"delivered": ("delivered", "opened", "clicked"), "opened": ("opened", "clicked")}.get(name, (name,))


def choose_channels(contacts: ir.Table, channels: Mapping[str, float]) -> ir.Table:
    """Choose one channel for each user: where they clicked before, else opened, else the cheapest that arrives.

    Args:
        contacts: what `count_contacts` gives.
        channels: channel -> cost of a message; at the same cost the first named is taken.

    Returns:
        user_id, channel (missing: nothing arrives), message_cost, clicked, opened, delivered (of all these channels),
        sent (of all channels, also others); one row a user with any message.
    """
    names = sorted(channels, key=lambda c: channels[c])
    place = _look_up(contacts.channel, {name: at for at, name in enumerate(names)})
    answer = ibis.cases((contacts.clicked > 0, 0), (contacts.opened > 0, 1), else_=2)
    # One number holds the whole order, so that no window is needed: how they answered, then the place of the channel.
    able = place.notnull() & (contacts.delivered > 0)
    ranked = contacts.mutate(key=ibis.ifelse(able, answer * len(names) + place, ibis.null("int64")), able=able)
    users = ranked.group_by("user_id").aggregate(
        key=ranked.key.min(),
        **{name: ranked[name].sum(where=ranked.able).fill_null(0) for name in ("clicked", "opened", "delivered")},
        sent=ranked.sent.sum(),
    )
    if not names:
        return users.mutate(channel=ibis.null("string"), message_cost=ibis.null("float64")).drop("key")
    at = users.key % len(names)
    chosen = {
        "channel": ibis.cases(*((at == n, name) for n, name in enumerate(names)), else_=ibis.null("string")),
        "message_cost": ibis.cases(
            *((at == n, float(channels[name])) for n, name in enumerate(names)), else_=ibis.null("float64")
        ),
    }
    return users.mutate(**chosen).drop("key")


def _look_up(expression: ir.Value, values: Mapping[str, int]) -> ir.Value:
    """The number that a mapping gives for each row's text; missing for other texts."""
    nothing = ibis.null("int64")
    return ibis.cases(*((expression == name, n) for name, n in values.items()), else_=nothing) if values else nothing

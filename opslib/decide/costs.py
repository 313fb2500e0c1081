"""What the company's data say of channels and costs, for everybody or for a segment."""

from __future__ import annotations

import ibis.expr.types as ir

from opslib.data.periods import Period
from opslib.data.source import Data


def find_channels(data: Data) -> ir.Table | None:
    """user_id, channel; None where channels are not known."""
    attributes = data.attributes
    return attributes.select("user_id", "channel") if "channel" in attributes.columns else None


def find_spend(data: Data, segment: str) -> ir.Table | None:
    """date, channel, amount; None where it is not known."""
    if not data.has("spend"):
        return None
    spend = data.table("spend")
    column, _, value = segment.partition(":")
    if not segment:
        return spend
    # What was spent on, say, Android users is not known; what was spent on a channel is.
    return spend.filter(spend.channel == value) if column == "channel" else None


def find_rewards(data: Data, period: Period, segment: str) -> ir.Table | None:
    """channel, amount: what was paid for referrals in a period, by the channel of the user brought."""
    channels = find_channels(data)
    if not data.has("referrals") or channels is None or "reward" not in data.table("referrals").columns:
        return None
    if segment and not segment.startswith("channel:"):
        return None
    referrals = data.table("referrals")
    start, end = data.calendar.day_start(period.start), data.calendar.day_start(period.end)
    paid = referrals.filter((referrals.ts >= start) & (referrals.ts < end))
    joined = paid.select(user_id="invitee_id", amount="reward").inner_join(channels, "user_id")
    rewards = joined.select("user_id", "channel", "amount")
    return data.restrict(rewards, segment).select("channel", "amount")

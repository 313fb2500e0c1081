"""Acquisition: new users, what they cost, and what a user who stays costs, by channel."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import ibis
import ibis.expr.types as ir
import pandas as pd

from opslib.data.periods import DAY, Period
from opslib.measure.estimate import Estimate, estimate_count, estimate_rate, quantile, to_plain_record
from opslib.measure.retention import find_first_days

RETAINED_DAY = 7
NO_CHANNEL = "(not given)"
COST_COLUMNS = (
    "d7_rate",
    "cac_amount",
    "cac_low",
    "cac_high",
    "cost_per_retained_amount",
    "cost_per_retained_low",
    "cost_per_retained_high",
)


@dataclass(frozen=True)
class AcquisitionResult:
    """New users of one period and their cost.

    Attributes:
        period: the days covered.
        new_users: users whose first active day lies in the period.
        cac: spend / new users of the channels with spend; None without spend.
        by_channel: channel, new_users_count, mature_count (day 7 has come), retained_count (active on day 7), d7_rate,
            spend_amount, cac_amount with cac_low, cac_high, cost_per_retained_amount with its low and high; missing
            where nothing was spent or too few users came.
    """

    period: Period
    new_users: Estimate
    cac: Estimate | None
    by_channel: pd.DataFrame

    def findings(self) -> list[dict[str, Any]]:
        """The estimates and one record a channel."""
        estimates = [self.new_users, *([self.cac] if self.cac else [])]
        records = [e.to_finding(period=self.period.label) for e in estimates]
        for row in self.by_channel.to_dict("records"):
            records.append({"name": "channel", "period": self.period.label, **to_plain_record(row)})
        return records


def measure_acquisition(
    active_days: ir.Table,
    period: Period,
    *,
    as_of: dt.date,
    channels: ir.Table | None = None,
    spend: ir.Table | None = None,
    rewards: ir.Table | None = None,
) -> AcquisitionResult:
    """Count new users by channel and what they cost.

    Args:
        active_days: user_id, day; all days since the beginning.
        period: first active days that count.
        as_of: the last day that is fully known, for who has had a day 7 yet.
        channels: user_id, channel; without it there is one channel, "(not given)".
        spend: date, channel, amount; the day's spend on a channel.
        rewards: channel, amount; rewards paid in the period, added to the channel's spend.

    Returns:
        An `AcquisitionResult`, channels with most new users first.

    CAC is the period's spend over the same period's new users. Cost per retained user is CAC over the share of the
    channel's mature new users who were active on day 7. Intervals: Poisson for the users who came, Wilson for the
    share.

    >>> days = ibis.memtable({"user_id": [1, 2], "day": [dt.date(2026, 1, 1), dt.date(2026, 1, 2)]})
    >>> january = Period(dt.date(2026, 1, 1), dt.date(2026, 2, 1), "January")
    >>> measure_acquisition(days, january, as_of=dt.date(2026, 1, 31)).new_users.value
    2.0
    """
    users = _count_new_users(active_days, period, as_of, channels)
    costs = _sum_costs(period, spend, rewards)
    frame = users.merge(costs, on="channel", how="outer") if costs is not None else users.assign(spend_amount=math.nan)
    counts = ["new_users_count", "mature_count", "retained_count"]
    frame[counts] = frame[counts].fillna(0).astype(int)
    costs_per_user = [_estimate_costs(row) for row in frame.to_dict("records")]
    frame = pd.concat([frame, pd.DataFrame(costs_per_user, columns=list(COST_COLUMNS), dtype=float)], axis=1)
    frame = frame.sort_values(["new_users_count", "channel"], ascending=[False, True]).reset_index(drop=True)
    total = int(frame["new_users_count"].sum())
    paid = frame[frame["spend_amount"] > 0]
    cac = None
    if len(paid):
        cac = estimate_cost("cac_amount", float(paid["spend_amount"].sum()), int(paid["new_users_count"].sum()))
    return AcquisitionResult(period, estimate_count("new_users_count", total), cac, frame)


def estimate_cost(name: str, spend: float, users: int, *, minimum: int = 20) -> Estimate:
    """Estimate a cost per user: the spend is known, how many users it brings is chance (Poisson).

    >>> e = estimate_cost("cac_amount", 1000, 100)
    >>> e.value, round(e.low, 2), round(e.high, 2)
    (10.0, 8.22, 12.29)
    """
    if users < minimum:
        note = f"not enough data: {users} users came, at least {minimum} needed"
        return Estimate(name, None, spend, users, None, None, "none", "amount", note=note)
    count = estimate_count(name, users)
    assert count.low is not None and count.high is not None
    return Estimate(name, spend / users, spend, users, spend / count.high, spend / count.low, count.method, "amount")


def _count_new_users(active_days: ir.Table, period: Period, as_of: dt.date, channels: ir.Table | None) -> pd.DataFrame:
    first = find_first_days(active_days)
    new = first.filter((first.first_day >= period.start) & (first.first_day < period.end))
    returned = active_days.inner_join(new, "user_id")
    on_day = returned.filter(returned.day.delta(returned.first_day, unit="day") == RETAINED_DAY)
    mature = new.first_day <= as_of - RETAINED_DAY * DAY
    marked = new.mutate(
        mature=mature, retained=mature & new.user_id.isin(on_day.user_id), channel=ibis.literal(NO_CHANNEL)
    )
    if channels is not None:
        named = channels.select(user_id="user_id", named=channels.channel.fill_null(NO_CHANNEL))
        joined = marked.left_join(named, "user_id")
        marked = joined.mutate(channel=joined.named.fill_null(NO_CHANNEL))
    return (
        marked.group_by("channel")
        .aggregate(
            new_users_count=lambda t: t.count(),
            mature_count=lambda t: t.mature.sum(),
            retained_count=lambda t: t.retained.sum(),
        )
        .to_pandas()
    )


def _sum_costs(period: Period, spend: ir.Table | None, rewards: ir.Table | None) -> pd.DataFrame | None:
    parts = []
    if spend is not None:
        inside = spend.filter((spend.date >= period.start) & (spend.date < period.end))
        parts.append(inside.group_by("channel").aggregate(spend_amount=inside.amount.sum()))
    if rewards is not None:
        parts.append(rewards.group_by("channel").aggregate(spend_amount=rewards.amount.sum()))
    if not parts:
        return None
    table = parts[0] if len(parts) == 1 else parts[0].union(parts[1])
    return table.group_by("channel").aggregate(spend_amount=table.spend_amount.sum()).to_pandas()


def _estimate_costs(row: Mapping[Any, Any]) -> dict[str, float | None]:
    share = estimate_rate("d7_rate", row["retained_count"], row["mature_count"])
    values: dict[str, float | None] = {"d7_rate": share.value}
    if not row["spend_amount"] > 0:
        return values
    cac = estimate_cost("cac_amount", row["spend_amount"], row["new_users_count"])
    values |= {"cac_amount": cac.value, "cac_low": cac.low, "cac_high": cac.high}
    if cac.value is None or not share.value:
        return values
    assert share.low is not None and share.high is not None
    # Errors of the two parts on the log scale: a cost is a ratio.
    share_error = (share.high - share.low) / 2 / quantile() / share.value
    factor = math.exp(quantile() * math.hypot(1 / math.sqrt(row["new_users_count"]), share_error))
    cost = cac.value / share.value
    return values | {
        "cost_per_retained_amount": cost,
        "cost_per_retained_low": cost / factor,
        "cost_per_retained_high": cost * factor,
    }

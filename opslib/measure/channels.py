"""Channels: what new, activated and retained users cost by channel or attribute, and how much hangs on one channel."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import ibis.expr.types as ir
import pandas as pd

from opslib.data.periods import DAY, Period
from opslib.language import say
from opslib.measure.acquisition import (
    NO_CHANNEL,
    estimate_cost,
    estimate_cost_kept,
    fold_rest,
    follow_new_users,
    name_groups,
    sum_costs,
    to_rows,
)
from opslib.measure.estimate import (
    MINIMUM_DENOMINATOR,
    Estimate,
    estimate_count,
    estimate_rate,
    quantile,
    to_plain_record,
)

ACTIVATION_DAYS = 7
POINTS = 10_000
# A group's costs are left out when more of its spend than this was bought together with other groups.
MOST_SPLIT_RATE = 0.05


@dataclass(frozen=True)
class Concentration:
    """How much hangs on few channels.

    Attributes:
        index: Herfindahl-Hirschman index, 0 to 10,000; 10,000 / index equal channels would be as concentrated.
        largest: the channel with the largest share; None where there is none.
        largest_rate: its share.
    """

    index: Estimate
    largest: str | None
    largest_rate: Estimate


@dataclass(frozen=True)
class ChannelsResult:
    """What each group of new users cost and how much of it stayed.

    Attributes:
        period: the days covered, up to `as_of`.
        totals: new_users_count, activated_rate, d7_rate, d30_rate; and of the channels with spend (not there without)
            cac_amount, cost_per_activated_amount, cost_per_d7_amount, cost_per_d30_amount.
        concentration: "new_users" and "spend" over channels, whatever the groups are; users without a channel and
            channels without spend are left out.
        by_group: group, new_users_count, new_users_rate (share of all), spend_amount, spend_rate (share of all),
            split_rate (the share of its spend that bought users of other groups too); for each of activated, d7, d30:
            _count, _mature_count (those who have had the time), _rate, _low, _high; for each of cac,
            cost_per_activated, cost_per_d7, cost_per_d30: _amount, _low, _high. Largest first, by users or spend; a
            last row "(other)" sums up the rest.
        folded_count: groups in "(other)".
    """

    period: Period
    totals: dict[str, Estimate]
    concentration: dict[str, Concentration]
    by_group: pd.DataFrame
    folded_count: int

    def cac_by_group(self) -> dict[str, Estimate]:
        """Group -> cost per new user, of the groups whose spend is known."""
        known = self.by_group[(self.by_group["spend_amount"] > 0) & (self.by_group["split_rate"] <= MOST_SPLIT_RATE)]
        return {
            r["group"]: estimate_cost("cac_amount", r["spend_amount"], r["new_users_count"]) for r in to_rows(known)
        }

    def findings(self) -> list[dict[str, Any]]:
        """The estimates and one record a group."""
        label = self.period.label
        records = [e.to_finding(period=label) for e in self.totals.values()]
        for found in self.concentration.values():
            records.append(found.index.to_finding(period=label))
            records.append(found.largest_rate.to_finding(period=label, channel=found.largest))
        return records + [{"name": "group", "period": label, **to_plain_record(row)} for row in to_rows(self.by_group)]


def measure_channels(
    active_days: ir.Table,
    period: Period,
    *,
    as_of: dt.date,
    channels: ir.Table | None = None,
    spend: ir.Table | None = None,
    rewards: ir.Table | None = None,
    groups: ir.Table | None = None,
    activation: ir.Table | None = None,
    active_at_least: int = 3,
    retained_days: Sequence[int] = (7, 30),
    top: int = 20,
) -> ChannelsResult:
    """Measure what new, activated and retained users cost, by channel or by any attribute of users.

    Args:
        active_days: user_id, day; all days since the beginning.
        period: first active days that count.
        as_of: the last day that is fully known; nothing later is looked at.
        channels: user_id, channel; without it there is one channel, "(not given)".
        spend, rewards: as `measure_acquisition` takes them.
        groups: user_id, group (for example the public or private domain); without it the groups are the channels.
        activation: user_id, day; the days on which users did what activates them. Who did it on one of the first seven
            days is activated. Without it, who was active on `active_at_least` of them is.
        retained_days: retained on day n is active on exactly day n.
        top: groups shown one by one.

    Returns:
        A `ChannelsResult`, largest groups first.

    Spend is known by channel. A channel that brought users of several groups is split between them by how many each
    had, which makes them equally dear by construction: where that is more than 5% of a group's spend (`split_rate`),
    its costs are missing. Spend on a channel that nobody came from stays under its own name, or under "(not given)".

    >>> import ibis
    >>> days = ibis.memtable({"user_id": [1, 2, 3], "day": [dt.date(2026, 1, 1)] * 3})
    >>> channels = ibis.memtable({"user_id": [1, 2, 3], "channel": ["ads", "ads", "search"]})
    >>> january = Period(dt.date(2026, 1, 1), dt.date(2026, 2, 1), "January")
    >>> result = measure_channels(days, january, as_of=dt.date(2026, 1, 31), channels=channels)
    >>> result.concentration["new_users"].largest, result.totals["new_users_count"].value
    ('ads', 3.0)
    """
    period = Period(period.start, max(period.start, min(period.end, as_of + DAY)), period.label)
    marks = ["activated", *(f"d{n}" for n in retained_days)]
    followed = follow_new_users(active_days, period, as_of, retained_days)
    users = name_groups(_mark_activated(followed, active_days, as_of, activation, active_at_least), channels, "channel")
    users = users.mutate(group=users.channel) if groups is None else name_groups(users, groups, "group")
    sums = {f"{m}_count": users[m].sum() for m in marks}
    sums |= {f"{m}_mature_count": users[f"{m}_mature"].sum() for m in marks}
    counts = ["new_users_count", *sums]
    cells = users.group_by("channel", "group").aggregate(new_users_count=users.count(), **sums).to_pandas()
    costs = sum_costs(period, spend, rewards)
    cells = cells.merge(costs, on="channel", how="outer") if costs is not None else cells.assign(spend_amount=math.nan)
    cells["group"] = cells["group"].fillna(cells["channel"] if groups is None else NO_CHANNEL)
    cells[counts] = cells[counts].fillna(0).astype(int)
    if costs is not None:
        cells["spend_amount"] = cells["spend_amount"].fillna(0.0)
    frame, folded = fold_rest(_split_spend(cells, counts), "group", top, ["new_users_count", "spend_amount"])
    paid = cells[cells["spend_amount"] > 0]
    spent = float(paid.groupby("channel")["spend_amount"].first().sum())
    return ChannelsResult(
        period,
        _estimate_totals(cells[counts].sum(), paid[counts].sum(), spent, marks),
        _concentrate(cells),
        _describe_groups(frame, marks),
        folded,
    )


def estimate_concentration(name: str, counts: Iterable[float], *, known: bool = False) -> Estimate:
    """Estimate the Herfindahl-Hirschman index: the sum of squared shares in percent, up to 10,000.

    Args:
        name: the metric's name.
        counts: one number a channel; one at or below 0 is left out.
        known: the numbers are money spent, in which chance has no part, not users who came.

    Returns:
        An estimate whose value is the concentration of these numbers. The interval is for the true shares: few users
        in many channels look more concentrated than they are.

    Source: U.S. Department of Justice and Federal Trade Commission, Merger Guidelines (2023), 2.1; variance of the
    unbiased index: Simpson (1949), Nature 163, 688.

    >>> estimate_concentration("spend_hhi", [30, 30, 20, 20], known=True).value
    2600.0
    """
    sizes = [float(c) for c in counts if c > 0]
    total = math.fsum(sizes)
    if not sizes or (not known and total < MINIMUM_DENOMINATOR):
        note = say("nothing was spent") if known else _say_few(total)
        return Estimate(name, None, total, len(sizes), None, None, "none", "ratio", note=note)
    squares = math.fsum((s / total) ** 2 for s in sizes)
    value = POINTS * squares
    if known:
        return Estimate(name, value, total, len(sizes), value, value, "exact: spend is known", "ratio")
    unbiased = (total * squares - 1) / (total - 1)
    cubes = math.fsum((s / total) ** 3 for s in sizes)
    variance = (4 * (total - 2) * cubes + 2 * squares - 2 * (2 * total - 3) * squares**2) / (total * (total - 1))
    half = quantile() * math.sqrt(max(0.0, variance))
    low = max(0.0, min(value, POINTS * (unbiased - half)))
    high = min(POINTS, max(value, POINTS * (unbiased + half)))
    return Estimate(name, value, total, len(sizes), low, high, "Simpson, over users", "ratio")


def _say_few(users: float) -> str:
    return say("not enough data: {count:.0f} users, {minimum} needed", count=users, minimum=MINIMUM_DENOMINATOR)


def _mark_activated(
    users: ir.Table, active_days: ir.Table, as_of: dt.date, activation: ir.Table | None, active_at_least: int
) -> ir.Table:
    done = active_days if activation is None else activation
    days = done.filter(done.day <= as_of).select(_user="user_id", _day="day").distinct()
    inside = users.inner_join(days, [users.user_id == days._user, days._day >= users.first_day])
    inside = inside.filter(inside._day.delta(inside.first_day, unit="day") < ACTIVATION_DAYS)
    counted = inside.group_by("_user").aggregate(_days=inside.count())
    joined = users.left_join(counted, [("user_id", "_user")])
    mature = joined.first_day <= as_of - (ACTIVATION_DAYS - 1) * DAY
    enough = joined["_days"].fill_null(0) >= (active_at_least if activation is None else 1)
    return joined.mutate(activated_mature=mature, activated=mature & enough).drop("_user", "_days")


def _split_spend(cells: pd.DataFrame, counts: list[str]) -> pd.DataFrame:
    total = cells.groupby("channel")["new_users_count"].transform("sum")
    share = (cells["new_users_count"] / total).where(total > 0, 1.0)
    part = cells["spend_amount"] * share
    split = cells.assign(spend_amount=part, split_amount=part * (1 - share))
    return split.groupby("group")[[*counts, "spend_amount", "split_amount"]].sum(min_count=1).reset_index()


def _concentrate(cells: pd.DataFrame) -> dict[str, Concentration]:
    named = cells[cells["channel"] != NO_CHANNEL].groupby("channel")
    users, spend = named["new_users_count"].sum(), named["spend_amount"].first()
    spend = spend[spend > 0]
    found = {}
    for name, sizes in (("new_users", users), ("spend", spend)):
        index = estimate_concentration(f"{name}_hhi", sizes, known=name == "spend")
        largest = str(sizes.idxmax()) if sizes.sum() > 0 else None
        rate = estimate_rate(f"{name}_largest_rate", float(sizes.max() if largest else 0), float(sizes.sum()))
        if name == "spend" and largest:
            value = float(sizes.max() / sizes.sum())
            rate = replace(rate, value=value, low=value, high=value, method=index.method, note="")
        found[name] = Concentration(index, largest, rate)
    return found


def _estimate_totals(everybody: Any, paid: Any, spent: float, marks: list[str]) -> dict[str, Estimate]:
    found = [estimate_count("new_users_count", int(everybody["new_users_count"]))]
    found += [
        estimate_rate(f"{m}_rate", int(everybody[f"{m}_count"]), int(everybody[f"{m}_mature_count"])) for m in marks
    ]
    if spent > 0:
        found += _estimate_row_costs(paid, spent, marks)
    return {e.name: e for e in found}


def _estimate_row_costs(row: Any, spent: float, marks: list[str]) -> list[Estimate]:
    users = int(row["new_users_count"])
    kept = ((m, int(row[f"{m}_count"]), int(row[f"{m}_mature_count"])) for m in marks)
    return [
        estimate_cost("cac_amount", spent, users),
        *(estimate_cost_kept(f"cost_per_{m}_amount", spent, users, some, mature) for m, some, mature in kept),
    ]


def _describe_groups(frame: pd.DataFrame, marks: list[str]) -> pd.DataFrame:
    frame = frame.assign(split_rate=frame["split_amount"] / frame["spend_amount"].where(frame["spend_amount"] > 0))
    for share, of in (("new_users_rate", "new_users_count"), ("spend_rate", "spend_amount")):
        frame[share] = frame[of] / (frame[of].sum() or math.nan)
    described = []
    for row in to_rows(frame):
        values: dict[str, Any] = {}
        for mark in marks:
            rate = estimate_rate("", row[f"{mark}_count"], row[f"{mark}_mature_count"])
            values |= {f"{mark}_rate": rate.value, f"{mark}_low": rate.low, f"{mark}_high": rate.high}
        known = row["spend_amount"] > 0 and row["split_rate"] <= MOST_SPLIT_RATE
        for name in ("cac", *(f"cost_per_{m}" for m in marks)):
            values |= dict.fromkeys((f"{name}_amount", f"{name}_low", f"{name}_high"))
        for cost in _estimate_row_costs(row, row["spend_amount"], marks) if known else []:
            name = cost.name.removesuffix("_amount")
            values |= {f"{name}_amount": cost.value, f"{name}_low": cost.low, f"{name}_high": cost.high}
        described.append(values)
    columns = list(described[0]) if described else []
    estimates = pd.DataFrame(described, columns=columns, index=frame.index, dtype=float)
    return pd.concat([frame.drop(columns="split_amount"), estimates], axis=1)

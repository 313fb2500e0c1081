"""Acquisition: new users, what they cost, what one who stays costs, and how much hangs on one channel."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import ibis
import ibis.expr.types as ir
import pandas as pd

from opslib.data.periods import DAY, Period
from opslib.language import say
from opslib.measure.estimate import (
    MINIMUM_DENOMINATOR,
    Change,
    Estimate,
    compare_estimates,
    estimate_count,
    estimate_rate,
    quantile,
    to_plain_record,
)
from opslib.measure.retention import find_first_days

RETAINED_DAY = 7
NO_CHANNEL = "(not given)"
OTHER = "(other)"
# From fewer days than this, whether days differ by more than chance cannot be told.
FEWEST_DAYS = 14
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


@dataclass(frozen=True)
class BudgetShiftResult:
    """What moved spend brought, channel by channel.

    Attributes:
        now, before: the days compared: those of the two periods whose new users have all had their day 7.
        waiting_days: last days of the current period that are left out because they have not.
        retained_day: the day on which a retained user is active.
        by_channel: channel; spend_amount, new_users_count, retained_count, retained_rate now, and each as before_...,
            sums and counts scaled to as many days as now has; extra_spend_amount and spend_change_rate (missing where
            nothing was spent before); extra_users_count, extra_retained_count, retained_change_rate (in shares, not
            relative), each with _low and _high; of channels whose spend moved, cost_per_extra_user_amount and
            cost_per_extra_retained_amount with _low and _high: the value only where the extra users are more than
            chance, `_low` also elsewhere (they cost at least that); verdict. The most moved first, then "(other)".
        moved: channels whose spend moved by more than the threshold.
        note: why there is nothing to compare; empty where there is.

    Verdicts of more spend: "more_retained", "more_users_not_retained" (more new users, no more retained ones, and a
    clearly smaller share of them retained), "more_users_retained_unclear", "no_clear_gain". Of less spend:
    "fewer_retained", "fewer_users_retained_unclear", "no_clear_loss". Else "not_moved", "not_enough_data".
    """

    now: Period
    before: Period
    waiting_days: int
    retained_day: int
    by_channel: pd.DataFrame
    moved: tuple[str, ...]
    note: str = ""

    def findings(self) -> list[dict[str, Any]]:
        """One record a channel."""
        context = {"name": "budget_shift", "period": self.now.label, "compared_with": self.before.label}
        return [{**context, **to_plain_record(row)} for row in to_rows(self.by_channel)]


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
    marked = name_groups(follow_new_users(active_days, period, as_of, (RETAINED_DAY,)), channels, "channel")
    sums = {"mature_count": marked["d7_mature"].sum(), "retained_count": marked["d7"].sum()}
    users = marked.group_by("channel").aggregate(new_users_count=marked.count(), **sums).to_pandas()
    costs = sum_costs(period, spend, rewards)
    frame = users.merge(costs, on="channel", how="outer") if costs is not None else users.assign(spend_amount=math.nan)
    counts = ["new_users_count", "mature_count", "retained_count"]
    frame[counts] = frame[counts].fillna(0).astype(int)
    costs_per_user = [_estimate_costs(row) for row in to_rows(frame)]
    frame = pd.concat([frame, pd.DataFrame(costs_per_user, columns=list(COST_COLUMNS), dtype=float)], axis=1)
    frame = frame.sort_values(["new_users_count", "channel"], ascending=[False, True]).reset_index(drop=True)
    total = int(frame["new_users_count"].sum())
    paid = frame[frame["spend_amount"] > 0]
    cac = None
    if len(paid):
        cac = estimate_cost("cac_amount", float(paid["spend_amount"].sum()), int(paid["new_users_count"].sum()))
    return AcquisitionResult(period, estimate_count("new_users_count", total), cac, frame)


def measure_budget_shift(
    active_days: ir.Table,
    now: Period,
    before: Period,
    *,
    as_of: dt.date,
    channels: ir.Table,
    spend: ir.Table,
    threshold_rate: float = 0.2,
    retained_day: int = RETAINED_DAY,
    top: int = 20,
) -> BudgetShiftResult:
    """Measure what more or less spend on a channel did to its new users, and to those of them who stay.

    Args:
        active_days: user_id, day; all days since the beginning.
        now, before: the two periods; of different length, the earlier one's sums are scaled.
        as_of: the last day that is fully known.
        channels: user_id, channel.
        spend: date, channel, amount; rewards can be among its rows.
        threshold_rate: spend a day that changed by a larger share than this has moved.
        retained_day: who is active on this day after the first is retained.
        top: channels shown one by one.

    Returns:
        A `BudgetShiftResult`.

    Raises:
        ValueError: the periods overlap.

    Marginal cost is extra spend / extra users. Intervals of differences: Newcombe's from Poisson counts, widened where
    a channel's days differ by more than Poisson counts would. This is before and after: a season or a change
    elsewhere looks the same, so read moved channels beside those that did not move.

    >>> day = dt.date(2026, 1, 1)
    >>> days = ibis.memtable({"user_id": [1], "day": [day]})
    >>> channels = ibis.memtable({"user_id": [1], "channel": ["ads"]})
    >>> spend = ibis.memtable({"date": [day, dt.date(2026, 2, 1)], "channel": ["ads"] * 2, "amount": [10.0, 30.0]})
    >>> months = Period(dt.date(2026, 2, 1), dt.date(2026, 3, 1), "Feb"), Period(day, dt.date(2026, 2, 1), "Jan")
    >>> shift = measure_budget_shift(days, *months, as_of=dt.date(2026, 5, 1), channels=channels, spend=spend)
    >>> shift.moved, shift.by_channel["verdict"].tolist()
    (('ads',), ['not_enough_data'])
    """
    if now.overlaps(before):
        raise ValueError("the periods to compare overlap")
    end = as_of - retained_day * DAY + DAY
    cut = [Period(p.start, max(p.start, min(p.end, end)), p.label) for p in (now, before)]
    waiting = now.days - cut[0].days
    if not (cut[0].days and cut[1].days):
        period = now if not cut[0].days else before
        note = say("no new user of {period} has had a day {day} yet", period=period.label, day=retained_day)
        return BudgetShiftResult(cut[0], cut[1], waiting, retained_day, pd.DataFrame(), (), note)
    sides = []
    for period in cut:
        counted = _count_by_channel(active_days, period, as_of, channels, retained_day)
        costs = sum_costs(period, spend, None)
        assert costs is not None
        sides.append(counted.merge(costs, on="channel", how="outer").fillna(0.0))
    frame = sides[0].merge(sides[1], on="channel", how="outer", suffixes=("", "_before")).fillna(0.0)
    scale = cut[0].days / cut[1].days
    frame["extra_spend"] = frame["spend_amount"] - frame["spend_amount_before"] * scale
    moves = frame["extra_spend"].abs() > threshold_rate * frame["spend_amount_before"] * scale
    moved = frame[moves].sort_values("extra_spend", key=abs, ascending=False)["channel"]
    frame, _ = fold_rest(frame, "channel", top, ["extra_spend"])
    rows = pd.DataFrame([_compare_channel(row, scale, threshold_rate) for row in to_rows(frame)])
    rows = rows.astype({c: float for c in rows.columns if c not in ("channel", "verdict")})
    return BudgetShiftResult(cut[0], cut[1], waiting, retained_day, rows, tuple(moved))


def _count_by_channel(
    active_days: ir.Table, period: Period, as_of: dt.date, channels: ir.Table, day: int
) -> pd.DataFrame:
    """New and retained users of a channel, and the variance of each: Poisson's, or more where days differ more."""
    users = name_groups(follow_new_users(active_days, period, as_of, (day,)), channels, "channel")
    daily = users.group_by("channel", "first_day").aggregate(new=users.count(), kept=users[f"d{day}"].sum())
    squares = {f"{c}_squares": (daily[c] * daily[c]).sum() for c in ("new", "kept")}
    sums = daily.group_by("channel").aggregate(new=daily.new.sum(), kept=daily.kept.sum(), **squares).to_pandas()
    for c in ("new", "kept"):
        if period.days >= FEWEST_DAYS:
            spread = (sums[f"{c}_squares"] - sums[c] ** 2 / period.days) / (period.days - 1) * period.days
            sums[f"{c}_variance"] = spread.clip(lower=sums[c])
        else:
            sums[f"{c}_variance"] = sums[c].astype(float)
    return sums.drop(columns=["new_squares", "kept_squares"])


def _compare_channel(row: Mapping[Any, Any], scale: float, threshold_rate: float) -> dict[str, Any]:
    spent, extra = row["spend_amount_before"] * scale, row["extra_spend"]
    rates = [estimate_rate("retained_rate", row[f"kept{s}"], row[f"new{s}"]) for s in ("", "_before")]
    users, kept = (_compare_counts(row, c, scale) for c in ("new", "kept"))
    share = compare_estimates(rates[0], rates[1])
    values: dict[str, Any] = {"channel": row["channel"]}
    for prefix, side, factor, rate in (("", "", 1.0, rates[0]), ("before_", "_before", scale, rates[1])):
        values[f"{prefix}spend_amount"] = row[f"spend_amount{side}"] * factor
        values[f"{prefix}new_users_count"] = row[f"new{side}"] * factor
        values[f"{prefix}retained_count"] = row[f"kept{side}"] * factor
        values[f"{prefix}retained_rate"] = rate.value
    values |= {"extra_spend_amount": extra, "spend_change_rate": extra / spent if spent else None}
    for name, change in (("extra_users_count", users), ("extra_retained_count", kept), ("retained_change_rate", share)):
        short = name.rsplit("_", 1)[0]
        values |= {name: change.difference, f"{short}_low": change.low, f"{short}_high": change.high}
    few, moved = row["new"] + row["new_before"] < MINIMUM_DENOMINATOR, abs(extra) > threshold_rate * spent
    for name, change in (("cost_per_extra_user", users), ("cost_per_extra_retained", kept)):
        values |= _cost_extra(name, extra if moved and not few else 0.0, change)
    return values | {"verdict": _judge_shift(extra, moved, few, users, kept, share)}


def _compare_counts(row: Mapping[Any, Any], name: str, scale: float) -> Change:
    sides = []
    for side, factor in (("", 1.0), ("_before", scale)):
        count, variance = row[name + side], row[f"{name}_variance{side}"]
        e = estimate_count(f"{name}_count", count)
        assert e.low is not None and e.high is not None
        wider = math.sqrt(variance / count) if count else 1.0
        low, high = max(0.0, count - (count - e.low) * wider), count + (e.high - count) * wider
        sides.append(replace(e, value=count * factor, low=low * factor, high=high * factor))
    return compare_estimates(*sides)


def _cost_extra(name: str, extra_spend: float, change: Change) -> dict[str, float | None]:
    """Extra spend over extra users of the same sign; the ends of the count's interval make those of the cost."""
    assert change.difference is not None and change.low is not None and change.high is not None
    near, far = (change.low, change.high) if extra_spend > 0 else (-change.high, -change.low)
    spent = abs(extra_spend)
    clear = spent > 0 and near > 0
    return {
        f"{name}_amount": spent / abs(change.difference) if clear else None,
        f"{name}_low": spent / far if spent > 0 and far > 0 else None,
        f"{name}_high": spent / near if clear else None,
    }


def _judge_shift(extra: float, moved: bool, few: bool, users: Change, kept: Change, share: Change) -> str:
    if not moved:
        return "not_moved"
    if few:
        return "not_enough_data"
    sign = 1 if extra > 0 else -1
    if kept.clear and sign * (kept.difference or 0) > 0:
        return "more_retained" if sign > 0 else "fewer_retained"
    if users.clear and sign * (users.difference or 0) > 0:
        if sign < 0:
            return "fewer_users_retained_unclear"
        worse = share.clear and (share.difference or 0) < 0
        return "more_users_not_retained" if worse else "more_users_retained_unclear"
    return "no_clear_gain" if sign > 0 else "no_clear_loss"


def estimate_cost(name: str, spend: float, users: int, *, minimum: int = 20) -> Estimate:
    """Estimate a cost per user: the spend is known, how many users it brings is chance (Poisson).

    >>> e = estimate_cost("cac_amount", 1000, 100)
    >>> e.value, round(e.low, 2), round(e.high, 2)
    (10.0, 8.22, 12.29)
    """
    if users < minimum:
        note = say("not enough data: {count} users came, at least {minimum} needed", count=users, minimum=minimum)
        return Estimate(name, None, spend, users, None, None, "none", "amount", note=note)
    count = estimate_count(name, users)
    assert count.low is not None and count.high is not None
    return Estimate(name, spend / users, spend, users, spend / count.high, spend / count.low, count.method, "amount")


def estimate_cost_kept(name: str, spend: float, users: int, kept: int, mature: int) -> Estimate:
    """Estimate the cost of a user who was kept: cost per user over the share kept of those who have had the time.

    The errors of the two parts add up on the log scale: a cost is a ratio.

    >>> e = estimate_cost_kept("cost_per_d7_amount", 1000, 100, 20, 80)
    >>> e.value, round(e.low, 1), round(e.high, 1)
    (40.0, 26.2, 61.0)
    """
    cost, share = estimate_cost(name, spend, users), estimate_rate(name, kept, mature)
    if cost.value is None or not share.value:
        note = cost.note or share.note or say("nobody was kept")
        return Estimate(name, None, spend, kept, None, None, "none", "amount", note=note)
    assert share.low is not None and share.high is not None
    share_error = (share.high - share.low) / 2 / quantile() / share.value
    factor = math.exp(quantile() * math.hypot(1 / math.sqrt(users), share_error))
    value = cost.value / share.value
    return Estimate(
        name, value, spend, users * share.value, value / factor, value * factor, "log-normal of both", "amount"
    )


def follow_new_users(active_days: ir.Table, period: Period, as_of: dt.date, days: Sequence[int]) -> ir.Table:
    """New users of a period: user_id, first_day; for each n `d{n}_mature` (day n has come), `d{n}` (active on it)."""
    known = active_days.filter(active_days.day <= as_of)
    first = find_first_days(known)
    new = first.filter((first.first_day >= period.start) & (first.first_day < period.end))
    later = known.inner_join(new, "user_id")
    age = later.day.delta(later.first_day, unit="day")
    kept = later.group_by("user_id", "first_day").aggregate(**{f"d{n}": (age == n).any() for n in days})
    return kept.mutate(**{f"d{n}_mature": kept.first_day <= as_of - n * DAY for n in days})


def name_groups(users: ir.Table, groups: ir.Table | None, name: str) -> ir.Table:
    """Add a column with each user's group; users whom `groups` does not know are "(not given)"."""
    if groups is None:
        return users.mutate(**{name: ibis.literal(NO_CHANNEL)})
    joined = users.left_join(groups.select(_user="user_id", _group=groups[name].cast("string")), [("user_id", "_user")])
    return joined.mutate(**{name: joined["_group"].fill_null(NO_CHANNEL)}).drop("_user", "_group")


def fold_rest(frame: pd.DataFrame, key: str, top: int, ranked_by: Sequence[str]) -> tuple[pd.DataFrame, int]:
    """Order groups by their largest share in any of the columns and sum those after the first `top` up in "(other)"."""
    amounts = frame[list(ranked_by)].fillna(0).abs()
    rank = (amounts / amounts.sum().replace(0, 1)).max(axis=1)
    ordered = frame.assign(_rank=rank).sort_values(["_rank", key], ascending=[False, True]).drop(columns="_rank")
    if len(ordered) <= top + 1:
        return ordered.reset_index(drop=True), 0
    rest = ordered.iloc[top:]
    summed = rest.drop(columns=key).sum(min_count=1).to_frame().T.assign(**{key: OTHER})
    folded = pd.concat([ordered.iloc[:top], summed.astype(rest.dtypes.to_dict())], ignore_index=True)
    return folded, len(rest)


def to_rows(frame: pd.DataFrame) -> list[dict[Any, Any]]:
    """A small frame as one dict a row."""
    return frame.to_dict("records")


def sum_costs(period: Period, spend: ir.Table | None, rewards: ir.Table | None) -> pd.DataFrame | None:
    parts = []
    if spend is not None:
        inside = spend.filter((spend.date >= period.start) & (spend.date < period.end))
        parts.append(inside.group_by("channel").aggregate(spend_amount=inside.amount.sum()))
    if rewards is not None:
        parts.append(rewards.group_by("channel").aggregate(spend_amount=rewards.amount.sum()))
    if not parts:
        return None
    table = parts[0] if len(parts) == 1 else parts[0].union(parts[1])
    named = table.mutate(channel=table.channel.fill_null(NO_CHANNEL))
    return named.group_by("channel").aggregate(spend_amount=named.spend_amount.sum().cast("float64")).to_pandas()


def _estimate_costs(row: Mapping[Any, Any]) -> dict[str, float | None]:
    users, kept, mature = row["new_users_count"], row["retained_count"], row["mature_count"]
    values: dict[str, float | None] = {"d7_rate": estimate_rate("d7_rate", kept, mature).value}
    if not row["spend_amount"] > 0:
        return values
    cac = estimate_cost("cac_amount", row["spend_amount"], users)
    cost = estimate_cost_kept("cost_per_retained_amount", row["spend_amount"], users, kept, mature)
    values |= {"cac_amount": cac.value, "cac_low": cac.low, "cac_high": cac.high}
    names = ("cost_per_retained_amount", "cost_per_retained_low", "cost_per_retained_high")
    return values | dict(zip(names, (cost.value, cost.low, cost.high), strict=True))

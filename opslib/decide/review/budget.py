"""Is the budget bringing effective growth? What was spent against the users who stayed, channel by channel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd

from opslib.data.memory import remember
from opslib.data.periods import DAY, Period
from opslib.data.source import Data
from opslib.decide.costs import find_channels, find_rewards, find_spend
from opslib.decide.review.measures import gather_active_days
from opslib.measure.acquisition import BudgetShiftResult, measure_budget_shift
from opslib.measure.channels import ChannelsResult, measure_channels
from opslib.measure.estimate import Change, compare_estimates, to_plain_record
from opslib.measure.lifetime_value import PaybackResult, compare_value_to_cost, measure_lifetime_value
from opslib.measure.retention import find_first_days

RETAINED_DAYS = (7, 30)
COSTS = ("cac_amount", "cost_per_d7_amount", "cost_per_d30_amount")
GOOD = ("more_retained",)
BAD = ("more_users_not_retained", "no_clear_gain")
VALUE_AGES = (30, 90, 180)


@dataclass(frozen=True)
class BudgetReview:
    """Budget against retained users.

    Attributes:
        answer: does more budget bring more users who stay? "yes", "no", "in part", "unclear", "less was spent" or
            "spend did not move".
        now, before: what each channel's users cost and how many stayed (spend includes referral rewards).
        shift: what moved spend brought; None without a period before or channels.
        payback: in which month the users of a channel have brought what they cost; None without orders or costs.
        by_channel: channel; spend_amount, new_users_count, d7_count, d7_mature_count, cost_per_d7_amount, _low, _high,
            d30_count, d30_mature_count, cost_per_d30_amount, _low, _high, each also as before_...; moved (spend changed
            by more than a fifth) and verdict (of `BudgetShiftResult`).
    """

    answer: str
    now: ChannelsResult
    before: ChannelsResult | None
    shift: BudgetShiftResult | None
    payback: PaybackResult | None
    by_channel: pd.DataFrame

    def changes(self) -> dict[str, Change]:
        """Cost of a new user and of one who stays -> change against the period before, all channels together."""
        before = self.before.totals if self.before else {}
        return {
            n: compare_estimates(self.now.totals[n], before[n]) for n in COSTS if n in self.now.totals and n in before
        }

    def findings(self) -> list[dict[str, Any]]:
        """The answer, the costs, the channels, what moved, and pay-back."""
        label = self.now.period.label
        records: list[dict[str, Any]] = [{"name": "budget", "period": label, "answer": self.answer}]
        records += [c.to_finding(period=label) for c in self.changes().values() if c.now.name != "cac_amount"]
        rows = self.by_channel.to_dict("records")
        records += [{"name": "budget_channel", "period": label, **to_plain_record(r)} for r in rows]
        for found in self.now.concentration.values():
            records.append(found.largest_rate.to_finding(period=label, channel=found.largest))
        records += self.shift.findings() if self.shift else []
        return records + (self.payback.findings() if self.payback else [])


@remember
def review_budget(data: Data, now: Period, before: Period | None, *, segment: str = "") -> BudgetReview | None:
    """Hold a period's spend against the users who stayed.

    Args:
        data: the company's data.
        now, before: the periods.
        segment: one group of users; empty: everybody.

    Returns:
        A `BudgetReview`, or None where it is not known what was spent on these users.
    """
    spend, channels = find_spend(data, segment), find_channels(data)
    if spend is None or channels is None:
        return None
    costs = _measure_costs(data, now, segment)
    earlier = _measure_costs(data, before, segment) if before else None
    shift = None
    if before is not None and now.days and before.days and not now.overlaps(before):
        active_days = gather_active_days(data, segment)
        shift = measure_budget_shift(active_days, now, before, as_of=data.as_of, channels=channels, spend=spend)
    by_channel = _join_channels(costs, earlier, shift)
    return BudgetReview(_judge(shift), costs, earlier, shift, _measure_payback(data, now, segment), by_channel)


@remember
def _measure_costs(data: Data, period: Period, segment: str) -> ChannelsResult:
    return measure_channels(
        gather_active_days(data, segment),
        period,
        as_of=data.as_of,
        channels=find_channels(data),
        spend=find_spend(data, segment),
        rewards=find_rewards(data, period, segment),
        retained_days=RETAINED_DAYS,
    )


def _judge(shift: BudgetShiftResult | None) -> str:
    if shift is None or shift.by_channel.empty:
        return "unclear"
    moved = shift.by_channel[shift.by_channel["verdict"] != "not_moved"]
    if moved.empty:
        return "spend did not move"
    more = moved[moved["extra_spend_amount"] > 0]["verdict"]
    if more.empty:
        return "less was spent"
    good, bad = more.isin(GOOD).any(), more.isin(BAD).any()
    return "in part" if good and bad else "yes" if good else "no" if bad else "unclear"


def _join_channels(now: ChannelsResult, before: ChannelsResult | None, shift: BudgetShiftResult | None) -> pd.DataFrame:
    kept = [f"d{n}_{part}" for n in RETAINED_DAYS for part in ("count", "mature_count")]
    costs = [f"{c.removesuffix('_amount')}_{part}" for c in COSTS for part in ("amount", "low", "high")]
    columns = ["spend_amount", "new_users_count", *kept, *costs]
    frame = now.by_group[["group", *columns]]
    earlier = before.by_group[["group", *columns]] if before else frame.iloc[:0]
    frame = frame.merge(earlier.rename(columns={c: f"before_{c}" for c in columns}), on="group", how="outer")
    frame = frame.rename(columns={"group": "channel"})
    counts = [c for c in frame.columns if c.endswith(("_count", "spend_amount"))]
    if before is not None:
        frame[counts] = frame[counts].fillna(0)
    verdicts = shift.by_channel.set_index("channel")["verdict"].to_dict() if shift and len(shift.by_channel) else {}
    frame["verdict"] = [verdicts.get(c, "") for c in frame["channel"]]
    frame["moved"] = frame["channel"].isin(shift.moved if shift else ())
    order = ["spend_amount", "new_users_count", "channel"]
    return frame.sort_values(order, ascending=[False, False, True]).reset_index(drop=True)


@remember
def _measure_payback(data: Data, now: Period, segment: str) -> PaybackResult | None:
    # Where whoever buys is active, nobody is acquired without an order.
    if not data.has("orders") or data.activity_name == "orders":
        return None
    channels, known = find_channels(data), _measure_costs(data, now, segment).cac_by_group()
    if not known or channels is None:
        return None
    active_days = gather_active_days(data, segment)
    orders = data.restrict(data.table("orders"), segment)
    value = measure_lifetime_value(
        orders,
        find_first_days(active_days.filter(active_days.day < now.last_day + DAY)),
        ages_days=VALUE_AGES,
        as_of=now.last_day,
        breakdown=channels.select("user_id", group="channel"),
        calendar=data.calendar,
    )
    return compare_value_to_cost(value, known)

"""What growth costs: channels, value and pay-back, a moved budget, domains, and users who bring users."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import ibis
import ibis.expr.types as ir

from opslib.decide.costs import find_channels, find_rewards, find_spend
from opslib.decide.scope import Scope
from opslib.measure.acquisition import BudgetShiftResult, measure_budget_shift
from opslib.measure.channels import ChannelsResult, measure_channels
from opslib.measure.lifetime_value import (
    LifetimeValueResult,
    PaybackResult,
    compare_value_to_cost,
    measure_lifetime_value,
)
from opslib.measure.moved_users import MovedUsersResult, measure_moved_users
from opslib.measure.referral import ReferralResult, measure_referral
from opslib.measure.retention import find_first_days

AGES_DAYS = (30, 90, 180)


@dataclass(frozen=True)
class Acquisition:
    """What growth costs; a part is None where its tables are missing.

    Attributes:
        channels, before: new, activated and retained users and their cost by channel, in the two periods.
        domains: the same by public and private domain.
        shift: what moved spend brought.
        value: margin (or revenue) per acquired user by channel and age, over all users so far.
        payback: value against cost.
        moved: users who moved to the private domain against others like them.
        referral: users brought by users.
    """

    channels: ChannelsResult
    before: ChannelsResult | None
    domains: ChannelsResult | None
    shift: BudgetShiftResult | None
    value: LifetimeValueResult | None
    payback: PaybackResult | None
    moved: MovedUsersResult | None
    referral: ReferralResult | None

    def findings(self) -> list[dict[str, Any]]:
        """Flat records of all parts."""
        parts = [self.channels, self.domains, self.shift, self.value, self.payback, self.moved, self.referral]
        return [record for part in parts if part is not None for record in part.findings()]


def measure_acquisition_costs(scope: Scope) -> Acquisition:
    """Measure what growth costs."""
    data, days = scope.data, scope.active_days
    channels, spend = find_channels(data), find_spend(data, scope.segment)
    options: dict[str, Any] = {"as_of": scope.as_of, "channels": channels, "spend": spend}
    now, before = (
        measure_channels(days, period, rewards=find_rewards(data, period, scope.segment), **options) if period else None
        for period in (scope.now, scope.before)
    )
    assert now is not None
    value = _measure_value(scope, channels)
    shift = None
    if spend is not None and channels is not None and scope.before is not None:
        shift = measure_budget_shift(days, scope.now, scope.before, as_of=scope.as_of, channels=channels, spend=spend)
    costs = now.cac_by_group()
    return Acquisition(
        now,
        before,
        _measure_domains(scope, options),
        shift,
        value,
        compare_value_to_cost(value, costs) if value is not None and costs else None,
        _measure_moved(scope),
        _measure_referral(scope),
    )


def _measure_value(scope: Scope, channels: ir.Table | None) -> LifetimeValueResult | None:
    orders = scope.table("orders")
    if orders is None or scope.data.activity_name == "orders":
        # Where whoever buys is active, a first active day is a first order, and nobody is acquired without one.
        return None
    groups = channels.select("user_id", group="channel") if channels is not None else None
    return measure_lifetime_value(
        orders,
        find_first_days(scope.active_days),
        ages_days=AGES_DAYS,
        as_of=scope.as_of,
        breakdown=groups,
        calendar=scope.data.calendar,
    )


def _measure_domains(scope: Scope, options: dict[str, Any]) -> ChannelsResult | None:
    if "domain" not in scope.dimensions:
        return None
    attributes = scope.data.attributes
    groups = attributes.select("user_id", group="domain")
    rewards = find_rewards(scope.data, scope.now, scope.segment)
    return measure_channels(scope.active_days, scope.now, rewards=rewards, groups=groups, **options)


def _measure_moved(scope: Scope) -> MovedUsersResult | None:
    attributes = scope.attributes
    if "private_since" not in attributes.columns:
        return None
    # Users of private channels were there from the start and could not move.
    if "domain" in attributes.columns:
        attributes = attributes.filter(attributes.domain.fill_null("") != "private")
    first_days = find_first_days(scope.active_days).semi_join(attributes, "user_id")
    moves = attributes.select("user_id", moved_at="private_since")
    return measure_moved_users(
        scope.active_days,
        first_days,
        moves,
        as_of=scope.as_of,
        calendar=scope.data.calendar,
        orders=scope.table("orders"),
    )


def _measure_referral(scope: Scope) -> ReferralResult | None:
    if not scope.data.has("referrals"):
        return None
    referrals = scope.data.table("referrals")
    if scope.segment:
        referrals = referrals.semi_join(scope.active_days, [ibis._.inviter_id == scope.active_days.user_id])
    return measure_referral(referrals, scope.active_days, scope.now, as_of=scope.as_of, calendar=scope.data.calendar)

"""What growth costs: channels, value and pay-back, a moved budget, domains, and users who bring users."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import ibis

from opslib.data.memory import remember
from opslib.data.periods import Period
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
    """What growth costs; a part is None where its tables are missing, and computed when it is first asked for.

    Attributes:
        scope: data, segment and days.
        channels, before: new, activated and retained users and their cost by channel, in the two periods.
        domains: the same by public and private domain.
        shift: what moved spend brought.
        value: margin (or revenue) per acquired user by channel and age, over all users so far.
        payback: value against cost.
        moved: users who moved to the private domain against others like them.
        referral: users brought by users.
    """

    scope: Scope

    @cached_property
    def channels(self) -> ChannelsResult:
        return _measure_channels(self.scope.narrow(now=False), self.scope.now)

    @cached_property
    def before(self) -> ChannelsResult | None:
        return _measure_channels(self.scope.narrow(now=False), self.scope.before) if self.scope.before else None

    @cached_property
    def domains(self) -> ChannelsResult | None:
        return _measure_domains(self.scope.narrow()) if self.has_domains else None

    @cached_property
    def shift(self) -> BudgetShiftResult | None:
        return _measure_shift(self.scope.narrow(before=True)) if self.has_shift else None

    @cached_property
    def value(self) -> LifetimeValueResult | None:
        return _measure_value(self.scope.narrow(now=False)) if self.has_value else None

    @cached_property
    def payback(self) -> PaybackResult | None:
        if self.value is None:
            return None
        costs = self.channels.cac_by_group()
        return compare_value_to_cost(self.value, costs) if costs else None

    @cached_property
    def moved(self) -> MovedUsersResult | None:
        return _measure_moved(self.scope.narrow(now=False)) if self.has_moves else None

    @cached_property
    def referral(self) -> ReferralResult | None:
        return _measure_referral(self.scope.narrow()) if self.has_referrals else None

    @property
    def has_domains(self) -> bool:
        """Tell whether users are in a public or a private domain."""
        return "domain" in self.scope.dimensions

    @property
    def has_shift(self) -> bool:
        """Tell whether what was spent on channels is known, now and before."""
        data, segment = self.scope.data, self.scope.segment
        known = find_spend(data, segment) is not None and find_channels(data) is not None
        return known and self.scope.before is not None

    @property
    def has_value(self) -> bool:
        """Tell whether it is known what users brought, and who brought nothing.

        Where whoever buys is active, a first active day is a first order, and nobody is acquired without one.
        """
        return self.scope.data.has("orders") and self.scope.data.activity_name != "orders"

    @property
    def has_moves(self) -> bool:
        """Tell whether it is known when users moved to the private domain."""
        return "private_since" in self.scope.data.attributes.columns

    @property
    def has_referrals(self) -> bool:
        """Tell whether it is known who brought whom."""
        return self.scope.data.has("referrals")

    def findings(self) -> list[dict[str, Any]]:
        """Flat records of all parts."""
        parts = [self.channels, self.domains, self.shift, self.value, self.payback, self.moved, self.referral]
        return [record for part in parts if part is not None for record in part.findings()]


def measure_acquisition_costs(scope: Scope) -> Acquisition:
    """Measure what growth costs."""
    return Acquisition(scope)


@remember
def _measure_channels(scope: Scope, period: Period) -> ChannelsResult:
    rewards = find_rewards(scope.data, period, scope.segment)
    return measure_channels(scope.active_days, period, rewards=rewards, **_find_costs(scope))


@remember
def _measure_domains(scope: Scope) -> ChannelsResult:
    groups = scope.data.attributes.select("user_id", group="domain")
    rewards = find_rewards(scope.data, scope.now, scope.segment)
    return measure_channels(scope.active_days, scope.now, rewards=rewards, groups=groups, **_find_costs(scope))


@remember
def _measure_shift(scope: Scope) -> BudgetShiftResult:
    assert scope.before is not None
    return measure_budget_shift(scope.active_days, scope.now, scope.before, **_find_costs(scope))


def _find_costs(scope: Scope) -> dict[str, Any]:
    spend = find_spend(scope.data, scope.segment)
    return {"as_of": scope.as_of, "channels": find_channels(scope.data), "spend": spend}


@remember
def _measure_value(scope: Scope) -> LifetimeValueResult:
    orders, channels = scope.table("orders"), find_channels(scope.data)
    assert orders is not None
    return measure_lifetime_value(
        orders,
        find_first_days(scope.active_days),
        ages_days=AGES_DAYS,
        as_of=scope.as_of,
        breakdown=channels.select("user_id", group="channel") if channels is not None else None,
        calendar=scope.data.calendar,
    )


@remember
def _measure_moved(scope: Scope) -> MovedUsersResult:
    attributes = scope.attributes
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


@remember
def _measure_referral(scope: Scope) -> ReferralResult:
    referrals = scope.data.table("referrals")
    if scope.segment:
        referrals = referrals.semi_join(scope.active_days, [ibis._.inviter_id == scope.active_days.user_id])
    return measure_referral(referrals, scope.active_days, scope.now, as_of=scope.as_of, calendar=scope.data.calendar)

"""Who is worth it: customers by recency, frequency and money, where they moved, and what is still to come of them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import ibis.expr.types as ir

from opslib.data.memory import remember
from opslib.data.periods import DAY
from opslib.decide.scope import Scope
from opslib.measure.purchase_model.check import PurchaseModelCheck, check_purchase_model
from opslib.measure.retention import find_first_days
from opslib.measure.rfm.concentration import ConcentrationResult, measure_concentration
from opslib.measure.rfm.migration import RfmMigrationResult, measure_rfm_migration
from opslib.measure.rfm.rfm import RfmResult, measure_rfm
from opslib.measure.segments import SegmentValueResult, measure_segment_value

# What comes is forecast for half a year; forecasts are tried on the same length, or half of shorter data.
HORIZON_DAYS = 180


@dataclass(frozen=True)
class Worth:
    """Who is worth it; each part is computed when it is first asked for.

    Attributes:
        scope: data, segment and days.
        rfm: customers in the handbook's three tiers and in eight cells.
        migration: who moved between the tiers over the days looked at; None where there is nothing before.
        concentration: what the best fifth of customers brought.
        value: what is expected of each tier in the next 180 days, and which of it is at risk.
        check: how such a forecast would have done.
    """

    scope: Scope

    @cached_property
    def rfm(self) -> RfmResult:
        return _measure_rfm(self._everything)

    @cached_property
    def migration(self) -> RfmMigrationResult | None:
        return None if self.scope.before is None else _measure_migration(self.scope.narrow())

    @cached_property
    def concentration(self) -> ConcentrationResult:
        return _measure_concentration(self._everything)

    @cached_property
    def value(self) -> SegmentValueResult:
        return _measure_value(self._everything)

    @cached_property
    def check(self) -> PurchaseModelCheck:
        return _check_model(self._everything)

    @property
    def _everything(self) -> Scope:
        return self.scope.narrow(now=False)

    def findings(self) -> list[dict[str, Any]]:
        """Flat records of all parts."""
        parts = (self.rfm, self.migration, self.concentration, self.value, self.check)
        return [record for part in parts if part is not None for record in part.findings()]


def measure_worth(scope: Scope) -> Worth | None:
    """Measure who is worth it; None without orders."""
    return Worth(scope) if scope.data.has("orders") else None


@remember
def gather_orders(scope: Scope) -> ir.Table:
    """The segment's orders up to the last day, kept in the engine."""
    orders = scope.table("orders")
    assert orders is not None
    return orders.cache()


@remember
def _measure_rfm(scope: Scope) -> RfmResult:
    return measure_rfm(gather_orders(scope), as_of=scope.as_of, calendar=scope.data.calendar)


@remember
def _measure_migration(scope: Scope) -> RfmMigrationResult:
    first_days = find_first_days(scope.active_days) if scope.data.activity_name == "events" else None
    return measure_rfm_migration(
        gather_orders(scope.narrow(now=False)),
        before=scope.now.start - DAY,
        now=scope.as_of,
        calendar=scope.data.calendar,
        first_days=first_days,
    )


@remember
def _measure_concentration(scope: Scope) -> ConcentrationResult:
    return measure_concentration(gather_orders(scope), as_of=scope.as_of, calendar=scope.data.calendar)


@remember
def _measure_value(scope: Scope) -> SegmentValueResult:
    return measure_segment_value(
        gather_orders(scope), horizon_days=HORIZON_DAYS, as_of=scope.as_of, calendar=scope.data.calendar
    )


@remember
def _check_model(scope: Scope) -> PurchaseModelCheck:
    days = max(min(HORIZON_DAYS, scope.span.days // 2), 1)
    return check_purchase_model(
        gather_orders(scope), holdout_days=days, as_of=scope.as_of, calendar=scope.data.calendar
    )

"""Who is worth it: customers by recency, frequency and money, where they moved, and what is still to come of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

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
    """Who is worth it.

    Attributes:
        rfm: customers in the handbook's three tiers and in eight cells.
        migration: who moved between the tiers over the days looked at; None where there is nothing before.
        concentration: what the best fifth of customers brought.
        value: what is expected of each tier in the next 180 days, and which of it is at risk.
        check: how such a forecast would have done.
    """

    rfm: RfmResult
    migration: RfmMigrationResult | None
    concentration: ConcentrationResult
    value: SegmentValueResult
    check: PurchaseModelCheck

    def findings(self) -> list[dict[str, Any]]:
        """Flat records of all parts."""
        parts = (self.rfm, self.migration, self.concentration, self.value, self.check)
        return [record for part in parts if part is not None for record in part.findings()]


def measure_worth(scope: Scope) -> Worth | None:
    """Measure who is worth it; None without orders."""
    orders = scope.table("orders")
    if orders is None:
        return None
    orders = orders.cache()
    options: dict[str, Any] = {"as_of": scope.as_of, "calendar": scope.data.calendar}
    migration = None
    if scope.before is not None:
        first_days = find_first_days(scope.active_days) if scope.data.activity_name == "events" else None
        migration = measure_rfm_migration(
            orders,
            before=scope.now.start - DAY,
            now=scope.as_of,
            calendar=scope.data.calendar,
            first_days=first_days,
        )
    days = min(HORIZON_DAYS, scope.span.days // 2)
    return Worth(
        measure_rfm(orders, **options),
        migration,
        measure_concentration(orders, **options),
        measure_segment_value(orders, horizon_days=HORIZON_DAYS, **options),
        check_purchase_model(orders, holdout_days=max(days, 1), **options),
    )

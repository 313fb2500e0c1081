"""Why users leave: what leavers had behind them that stayers like them had not, and a natural experiment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from opslib.data.periods import DAY, Period
from opslib.decide.scope import Scope
from opslib.explain.causes import CausesResult, find_causes
from opslib.explain.causes_cases import Cases, choose_cases
from opslib.explain.causes_catalogue import make_reasons
from opslib.explain.causes_expiry import ExpiryResult, check_expiry
from opslib.explain.causes_reasons import Occurrence, Reason
from opslib.measure.churn.definition import ChurnDefinition

# Reasons are looked for in the leavers of so many calendar months.
MONTHS = 3
EXPIRED = "coupon_expired_unused"
TABLES = ("events", "coupons", "tickets", "orders", "messages")


@dataclass(frozen=True)
class Reasons:
    """Why users leave.

    Attributes:
        period: the months whose leavers are looked at.
        cases: leavers and stayers of these months.
        causes: the reasons, those named first.
        expiry: leaving around the day on which coupons expire; None without coupons.
    """

    period: Period
    cases: Cases
    causes: CausesResult
    expiry: ExpiryResult | None

    def findings(self) -> list[dict[str, Any]]:
        """Flat records of both parts."""
        return self.causes.findings() + ([] if self.expiry is None else self.expiry.findings())


def explain_leaving(scope: Scope, definition: ChurnDefinition) -> Reasons | None:
    """Explain why users left in the last months of which it is known; None where no month is."""
    data = scope.data
    period = _choose_months(definition, scope)
    if period is None:
        return None
    signups = scope.restrict(data.table("users")) if data.has("users") else None
    days = definition.need_days()
    cases = choose_cases(
        scope.active_days, period, as_of=scope.as_of, calendar=data.calendar, signups=signups, inactive_days=days
    )
    tables = {name: scope.restrict(data.table(name)) for name in TABLES if data.has(name)}
    expiry = None
    if "coupons" in tables:
        expiry = check_expiry(scope.active_days, tables["coupons"], period, as_of=scope.as_of, calendar=data.calendar)
    own = [
        Reason(
            r.name,
            r.table,
            (Occurrence(r.days, r.where, at_least=r.at_least, at_most=r.at_most),),
        )
        for r in data.playbook.reasons
        if r.table in tables
    ]
    causes = find_causes(
        cases,
        tables,
        calendar=data.calendar,
        reasons=[*make_reasons(tables), *own],
        experiments=None if expiry is None else {EXPIRED: expiry},
    )
    return Reasons(period, cases, causes, expiry)


def _choose_months(definition: ChurnDefinition, scope: Scope) -> Period | None:
    """The last whole months that end by the day up to which leaving is known."""
    end = (definition.known_until + DAY).replace(day=1)
    start = end
    for _ in range(MONTHS):
        previous = (start - DAY).replace(day=1)
        if previous < scope.span.start.replace(day=1):
            break
        start = previous
    return Period(start, end, f"{start:%Y-%m} to {end - DAY:%Y-%m}") if start < end else None

"""Why users leave: what leavers had behind them that stayers like them had not, and a natural experiment."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import ibis
import ibis.expr.types as ir

from opslib.data.memory import remember
from opslib.data.periods import DAY, Period
from opslib.decide.scope import Scope
from opslib.explain.causes import CausesResult, find_causes
from opslib.explain.causes_cases import Cases, choose_cases
from opslib.explain.causes_catalogue import make_reasons
from opslib.explain.causes_expiry import ExpiryResult, check_expiry
from opslib.explain.causes_reasons import Occurrence, Reason, flag_reasons
from opslib.language import say
from opslib.measure.churn.definition import ChurnDefinition

# Reasons are looked for in the leavers of so many calendar months.
MONTHS = 3
EXPIRED = "coupon_expired_unused"
TABLES = ("events", "coupons", "tickets", "orders", "messages")


@dataclass(frozen=True)
class Reasons:
    """Why users leave; each part is computed when it is first asked for.

    Attributes:
        scope: data, segment and days.
        period: the months whose leavers are looked at.
        inactive_days: after so many silent days a user counts as gone.
        cases: leavers and stayers of these months.
        causes: the reasons, those named first.
        expiry: leaving around the day on which coupons expire; None without coupons.
    """

    scope: Scope
    period: Period
    inactive_days: int

    @cached_property
    def cases(self) -> Cases:
        return _choose_cases(self.scope.narrow(now=False), self.period, self.inactive_days)

    @cached_property
    def causes(self) -> CausesResult:
        return _find_causes(self.scope.narrow(now=False), self.period, self.inactive_days)

    @cached_property
    def expiry(self) -> ExpiryResult | None:
        return _check_expiry(self.scope.narrow(now=False), self.period)

    def findings(self) -> list[dict[str, Any]]:
        """Flat records of both parts."""
        return self.causes.findings() + ([] if self.expiry is None else self.expiry.findings())


def explain_leaving(scope: Scope, definition: ChurnDefinition) -> Reasons | None:
    """Explain why users left in the last months of which it is known; None where no month is.

    Raises:
        InputError: a reason of the playbook's own names a column that is not there, or makes no sense.
    """
    period = _choose_months(definition, scope)
    if period is None:
        return None
    # Nothing is computed here: a mistake shows as soon as the question is written.
    days = scope.active_days.select("user_id", index_day="day", left=ibis.literal(True))
    flag_reasons(Cases.of_table(days), _gather_tables(scope), _read_own(scope), calendar=scope.data.calendar)
    return Reasons(scope, period, definition.need_days())


def _gather_tables(scope: Scope) -> dict[str, ir.Table]:
    return {name: scope.restrict(scope.data.table(name)) for name in TABLES if scope.data.has(name)}


def _read_own(scope: Scope) -> list[Reason]:
    """The reasons that the playbook names, of tables that are there."""
    return [
        Reason(
            r.name,
            r.table,
            (Occurrence(r.days, r.where, at_least=r.at_least, at_most=r.at_most),),
        )
        for r in scope.data.playbook.reasons
        if r.table in TABLES and scope.data.has(r.table)
    ]


@remember
def _choose_cases(scope: Scope, period: Period, inactive_days: int) -> Cases:
    data = scope.data
    signups = scope.restrict(data.table("users")) if data.has("users") else None
    return choose_cases(
        scope.active_days,
        period,
        as_of=scope.as_of,
        calendar=data.calendar,
        signups=signups,
        inactive_days=inactive_days,
    )


@remember
def _check_expiry(scope: Scope, period: Period) -> ExpiryResult | None:
    data = scope.data
    if not data.has("coupons"):
        return None
    coupons = scope.restrict(data.table("coupons"))
    return check_expiry(scope.active_days, coupons, period, as_of=scope.as_of, calendar=data.calendar)


@remember
def _find_causes(scope: Scope, period: Period, inactive_days: int) -> CausesResult:
    tables, expiry = _gather_tables(scope), _check_expiry(scope, period)
    return find_causes(
        _choose_cases(scope, period, inactive_days),
        tables,
        calendar=scope.data.calendar,
        reasons=[*make_reasons(tables), *_read_own(scope)],
        experiments=None if expiry is None else {EXPIRED: expiry},
    )


def _choose_months(definition: ChurnDefinition, scope: Scope) -> Period | None:
    """The last whole months that end by the day up to which leaving is known."""
    end = (definition.known_until + DAY).replace(day=1)
    start = end
    for _ in range(MONTHS):
        previous = (start - DAY).replace(day=1)
        if previous < scope.span.start.replace(day=1):
            break
        start = previous
    months = say("{first:%Y-%m} to {last:%Y-%m}", first=start, last=end - DAY)
    return Period(start, end, months) if start < end else None

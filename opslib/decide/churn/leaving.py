"""Who leaves and when: churn defined, by month, by tenure, and by whether they ever paid."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import ibis.expr.types as ir
import pandas as pd

from opslib.data.memory import remember
from opslib.decide.scope import Scope
from opslib.errors import InputError, suggest_name
from opslib.language import join_sentences
from opslib.measure.churn.definition import ChurnDefinition, define_churn, define_churn_by_subscription, find_spells
from opslib.measure.churn.rates import ChurnResult, measure_churn
from opslib.measure.sbg import SbgFit, fit_sbg_lifetimes, project_sbg
from opslib.measure.survival.lifetimes import find_lifetimes
from opslib.measure.survival.survival import SurvivalResult, measure_survival

Definition = Literal["inactivity", "orders", "subscription"]
DEFINITIONS: tuple[Definition, ...] = ("inactivity", "orders", "subscription")
# A node is looked at with a day on either side; that of payments, which follow months of unlike length, with two more.
SIGNUP_SIDE, PAYMENT_SIDE = 1, 3
# A month of a subscription whose days are known, and how many more are projected.
MONTH_DAYS, PROJECTED_MONTHS = 30, 12
# Gone is who comes back with less than this chance.
RETURN_RATE = 0.25


@dataclass(frozen=True)
class Leaving:
    """Who leaves and when; each part is computed when it is first asked for.

    Attributes:
        scope: data, segment and days.
        basis: what leaving is told by.
        definition: when a user counts as gone; None for contracts whose tenure and end the data state.
        column: the column of users that segments come from; empty where there is none.
        nodes, payment_nodes: moments to look at, after the first day and after a payment.
        churn, by_segment: churn by month, of everybody and by `column`; None where churn is not defined.
        survival, survival_by_segment: how long users stay, from their first day (or start) on, and by `column`.
        since_payment: how long users stay after a payment until the next; None without orders.
        renewals, projection: of subscriptions, the shifted-beta-geometric model of who renews and its curve for a year
            more, by month; None and empty otherwise.
        note: why churn is not defined, or empty.
    """

    scope: Scope
    basis: Definition
    definition: ChurnDefinition | None
    column: str
    nodes: dict[str, tuple[int, int]]
    payment_nodes: dict[str, tuple[int, int]]

    @property
    def defined(self) -> bool:
        """Whether it is known after how many silent days, or by which date, a user counts as gone."""
        return self.definition is not None and self.definition.inactive_days is not None

    @property
    def note(self) -> str:
        return "" if self.definition is None or self.defined else join_sentences(self.definition.notes)

    @cached_property
    def churn(self) -> ChurnResult | None:
        return self._measure_churn("")

    @cached_property
    def by_segment(self) -> ChurnResult | None:
        return self._measure_churn(self.column) if self.column else None

    @cached_property
    def survival(self) -> SurvivalResult | None:
        return self._measure_survival("")

    @cached_property
    def survival_by_segment(self) -> SurvivalResult | None:
        return self._measure_survival(self.column) if self.column else None

    @cached_property
    def since_payment(self) -> SurvivalResult | None:
        if not self.defined or self.basis != "inactivity" or not self.scope.data.has("orders"):
            return None
        assert self.definition is not None
        return _measure_since_payment(self._everything, self.definition, self.payment_nodes)

    @property
    def renewals(self) -> SbgFit | None:
        return self._renewals[0]

    @property
    def projection(self) -> pd.DataFrame:
        return self._renewals[1]

    @property
    def _everything(self) -> Scope:
        return self.scope.narrow(now=False)

    @cached_property
    def _renewals(self) -> tuple[SbgFit | None, pd.DataFrame]:
        if self.basis != "subscription" or (self.definition is not None and not self.defined):
            return None, pd.DataFrame()
        return _fit_renewals(self._everything, self.definition)

    def _measure_churn(self, column: str) -> ChurnResult | None:
        if not self.defined:
            return None
        assert self.definition is not None
        return _measure_months(self._everything, self.basis, self.definition, column)

    def _measure_survival(self, column: str) -> SurvivalResult | None:
        if self.definition is None:
            return _measure_tenures(self._everything, column)
        return (
            _measure_days(self._everything, self.basis, self.definition, column, self.nodes) if self.defined else None
        )

    def findings(self) -> list[dict[str, Any]]:
        """Flat records of all parts."""
        parts = [self.definition, self.churn, self.by_segment, self.survival, self.survival_by_segment, self.renewals]
        records = [record for part in parts if part is not None for record in part.findings()]
        if self.since_payment is not None:
            records += [{**record, "since": "payment"} for record in self.since_payment.findings()]
        return records


def choose_definition(scope: Scope, text: str = "") -> Definition:
    """Which definition of churn the data allow.

    Raises:
        InputError: an unknown definition, or one whose table is not there.
    """
    data = scope.data
    if not text:
        if data.has("events"):
            return "inactivity"
        return "orders" if data.has("orders") else "subscription"
    if text not in DEFINITIONS:
        raise InputError(f"definition '{text}':{suggest_name(text, DEFINITIONS)} Choose from {', '.join(DEFINITIONS)}.")
    need = {"orders": "orders", "subscription": "subscriptions"}.get(text)
    if need and not data.has(need):
        raise InputError(f"definition '{text}' needs the table {need}, which the playbook does not have.")
    return text


def measure_leaving(
    scope: Scope,
    definition: Definition,
    *,
    inactive_days: int,
    return_rate: float,
    signup_node_days: int,
    payment_node_days: int,
    column: str,
) -> Leaving:
    """Measure who leaves and when.

    Raises:
        InputError: the churn cannot be defined as asked for, or a node before the first day.
    """
    nodes = _make_nodes(signup_node_days), _make_nodes(payment_node_days, PAYMENT_SIDE)
    if definition == "subscription" and "tenure_months" in scope.data.table("subscriptions").columns:
        lives = _gather_tenures(scope.narrow(now=False), column)
        return Leaving(scope, definition, None, column if "segment" in lives.columns else "", *nodes)
    churn = define_leaving(scope, definition, inactive_days=inactive_days, return_rate=return_rate)
    return Leaving(scope, definition, churn, column, *nodes)


@remember
def _gather_spells(scope: Scope, basis: Definition, churn: ChurnDefinition) -> ir.Table:
    return find_spells(_choose_activity(scope, basis), churn, calendar=scope.data.calendar).cache()


@remember
def _measure_months(scope: Scope, basis: Definition, churn: ChurnDefinition, column: str) -> ChurnResult:
    return measure_churn(_gather_spells(scope, basis, churn), churn, **_name_segments(scope, column))


@remember
def _measure_days(
    scope: Scope, basis: Definition, churn: ChurnDefinition, column: str, nodes: dict[str, tuple[int, int]]
) -> SurvivalResult:
    lives = find_lifetimes(
        _choose_activity(scope, basis),
        churn,
        payments=scope.table("orders"),
        calendar=scope.data.calendar,
        **_name_segments(scope, column),
    )
    return measure_survival(lives, by="segment" if column else "", nodes=nodes)


@remember
def _measure_since_payment(scope: Scope, churn: ChurnDefinition, nodes: dict[str, tuple[int, int]]) -> SurvivalResult:
    orders, calendar = scope.table("orders"), scope.data.calendar
    after = find_lifetimes(scope.active_days, churn, origins=orders, origin="each", calendar=calendar)
    return measure_survival(after, nodes=nodes)


@remember
def _fit_renewals(scope: Scope, churn: ChurnDefinition | None) -> tuple[SbgFit, pd.DataFrame]:
    if churn is None:
        return project_renewals(_measure_tenures(scope, ""))
    subscriptions = _choose_activity(scope, "subscription")
    lives = find_lifetimes(subscriptions, churn, calendar=scope.data.calendar)
    months = lives.select("left", duration_months=(lives.duration_days // MONTH_DAYS).cast("int64"))
    return project_renewals(measure_survival(months, unit="month"))


@remember
def _measure_tenures(scope: Scope, column: str) -> SurvivalResult:
    lives = _gather_tenures(scope, column)
    return measure_survival(lives, unit="month", by="segment" if column else "")


def _name_segments(scope: Scope, column: str) -> dict[str, Any]:
    return {"attributes": scope.attributes, "by": column} if column else {}


def project_renewals(survival: SurvivalResult) -> tuple[SbgFit, pd.DataFrame]:
    """Fit who renews, and project it for a year past the data; the curve is empty where the model does not fit."""
    fit = fit_sbg_lifetimes(survival)
    return fit, project_sbg(fit, len(fit.curve) + PROJECTED_MONTHS)


def define_leaving(
    scope: Scope, definition: Definition, *, inactive_days: int = 0, return_rate: float = RETURN_RATE
) -> ChurnDefinition:
    """Say when a user counts as gone: after `inactive_days`, or as many as make return less likely than a rate."""
    return _define(scope.narrow(now=False), definition, inactive_days, return_rate)


@remember
def _define(scope: Scope, definition: Definition, inactive_days: int, return_rate: float) -> ChurnDefinition:
    activity = _choose_activity(scope, definition)
    if definition == "subscription":
        if "ended_at" not in activity.columns:
            raise InputError(
                "The table subscriptions does not say when subscriptions ended: give it ended_at, or tenure_months."
            )
        return define_churn_by_subscription(activity, as_of=scope.as_of, start="started_at", end="ended_at")
    return define_churn(
        activity,
        as_of=scope.as_of,
        basis=definition,
        calendar=scope.data.calendar,
        probability=return_rate,
        inactive_days=inactive_days or None,
    )


def _choose_activity(scope: Scope, definition: Definition) -> ir.Table:
    if definition == "inactivity":
        return scope.active_days
    if definition == "orders":
        orders = scope.table("orders")
        assert orders is not None
        return orders
    return scope.restrict(scope.data.table("subscriptions"))


def _make_nodes(days: int, side: int = SIGNUP_SIDE) -> dict[str, tuple[int, int]]:
    if days < 0:
        raise InputError(f"A moment {days} days after the first day or a payment lies before it: give 0 or more.")
    return {f"day {days}": (max(days - side, 1), days + side)} if days else {}


@remember
def _gather_tenures(scope: Scope, column: str) -> ir.Table:
    """Lifetimes as the data state them: how many months, and whether it ended."""
    subscriptions = scope.restrict(scope.data.table("subscriptions"))
    lives = subscriptions.filter(subscriptions.tenure_months.notnull(), subscriptions.ended.notnull())
    segment = {"segment": lives[column].cast("string")} if column and column in lives.columns else {}
    return lives.select(duration_months=lives.tenure_months.cast("int64"), left=lives.ended, **segment)


def list_moments(result: SurvivalResult) -> pd.DataFrame:
    """The moments at which more leave than around them: those asked for, then others that do not overlap them."""
    nodes = result.nodes[result.nodes["clear"].astype(bool) & (result.nodes["hazard_ratio"] > 1)]
    peaks = result.peaks
    for row in nodes.itertuples():
        peaks = peaks[(peaks["tenure_first"] > row.tenure_last) | (peaks["tenure_last"] < row.tenure_first)]
    parts = [p for p in (nodes, peaks) if len(p)]
    if not parts:
        return nodes.iloc[:0]
    return pd.concat(parts, ignore_index=True).sort_values("p_value", kind="stable", ignore_index=True)

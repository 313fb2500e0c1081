"""Who leaves and when: churn defined, by month, by tenure, and by whether they ever paid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import ibis.expr.types as ir
import pandas as pd

from opslib.decide.scope import Scope
from opslib.errors import InputError, suggest_name
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
    """Who leaves and when.

    Attributes:
        definition: when a user counts as gone; None for contracts whose tenure and end the data state.
        churn, by_segment: churn by month, of everybody and by `column`; None where churn is not defined.
        survival, survival_by_segment: how long users stay, from their first day (or start) on, and by `column`.
        since_payment: how long users stay after a payment until the next; None without orders.
        renewals, projection: of subscriptions, the shifted-beta-geometric model of who renews and its curve for a year
            more, by month; None and empty otherwise.
        column: the column of users that segments come from; empty where there is none.
        note: why churn is not defined, or empty.
    """

    definition: ChurnDefinition | None
    churn: ChurnResult | None
    by_segment: ChurnResult | None
    survival: SurvivalResult | None
    survival_by_segment: SurvivalResult | None
    since_payment: SurvivalResult | None
    renewals: SbgFit | None
    projection: pd.DataFrame
    column: str
    note: str = ""

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
    """Measure who leaves and when."""
    data, nodes = scope.data, _make_nodes(signup_node_days)
    segments: dict[str, Any] = {"attributes": scope.attributes, "by": column} if column else {}
    if definition == "subscription" and "tenure_months" in data.table("subscriptions").columns:
        return _read_tenures(scope.restrict(data.table("subscriptions")), column)
    activity = _choose_activity(scope, definition)
    churn = define_leaving(scope, definition, inactive_days=inactive_days, return_rate=return_rate)
    if churn.inactive_days is None:
        nothing = (None, None, None, None, None, None, pd.DataFrame())
        return Leaving(churn, *nothing, column, " ".join(churn.notes))
    options: dict[str, Any] = {"calendar": data.calendar}
    spells = find_spells(activity, churn, **options).cache()
    monthly = measure_churn(spells, churn)
    by_segment = measure_churn(spells, churn, **segments) if column else None
    orders = scope.table("orders")
    lives = find_lifetimes(activity, churn, payments=orders, **segments, **options).cache()
    everybody = lives.drop("segment") if column else lives
    survival = measure_survival(everybody, nodes=nodes)
    survival_by_segment = measure_survival(lives, by="segment", nodes=nodes) if column else None
    since = None
    if orders is not None and definition == "inactivity":
        after = find_lifetimes(activity, churn, origins=orders, origin="each", **options)
        since = measure_survival(after, nodes=_make_nodes(payment_node_days, PAYMENT_SIDE))
    renewals, projection = None, pd.DataFrame()
    if definition == "subscription":
        months = everybody.select("left", duration_months=(everybody.duration_days // MONTH_DAYS).cast("int64"))
        renewals, projection = project_renewals(measure_survival(months, unit="month"))
    return Leaving(churn, monthly, by_segment, survival, survival_by_segment, since, renewals, projection, column)


def project_renewals(survival: SurvivalResult) -> tuple[SbgFit, pd.DataFrame]:
    """Fit who renews, and project it for a year past the data; the curve is empty where the model does not fit."""
    fit = fit_sbg_lifetimes(survival)
    return fit, project_sbg(fit, len(fit.curve) + PROJECTED_MONTHS)


def define_leaving(
    scope: Scope, definition: Definition, *, inactive_days: int = 0, return_rate: float = RETURN_RATE
) -> ChurnDefinition:
    """Say when a user counts as gone: after `inactive_days`, or as many as make return less likely than a rate."""
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
    return {f"day {days}": (max(days - side, 1), days + side)} if days else {}


def _read_tenures(subscriptions: ir.Table, column: str) -> Leaving:
    """Lifetimes as the data state them: how many months, and whether it ended."""
    lives = subscriptions.filter(subscriptions.tenure_months.notnull(), subscriptions.ended.notnull())
    segment = {"segment": lives[column].cast("string")} if column and column in lives.columns else {}
    lives = lives.select(duration_months=lives.tenure_months.cast("int64"), left=lives.ended, **segment).cache()
    column = column if segment else ""
    everybody = lives.drop("segment") if segment else lives
    by = measure_survival(lives, unit="month", by="segment") if segment else None
    survival = measure_survival(everybody, unit="month")
    return Leaving(None, None, None, survival, by, None, *project_renewals(survival), column)


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

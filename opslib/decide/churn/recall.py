"""Whom to win back and how, and what winning back has brought so far."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import ibis
import pandas as pd

from opslib.data.memory import remember
from opslib.data.periods import DAY
from opslib.decide.churn.worth import gather_orders
from opslib.decide.scope import Scope
from opslib.decide.winback.lists import Offer
from opslib.decide.winback.plan import Candidates, WinBackPlan, check_budget, gather_candidates, plan_candidates
from opslib.errors import InputError, suggest_name
from opslib.language import mark, say
from opslib.measure.churn.definition import ChurnDefinition
from opslib.measure.recall.arms import HOLDOUT, TREATED
from opslib.measure.recall.recall import RecallResult, measure_recall
from opslib.measure.recall.uplift import UpliftResult, measure_uplift
from opslib.measure.rfm.rfm import label_customers

# What the handbook offers customers who are not recent (H10, H16), until the playbook names offers of its own.
OFFERS = {
    "important_keep": mark("Dedicated service, early access"),
    "important_win_back": mark("Exclusive benefit"),
    "general_keep": mark("Coupon or limited offer"),
    "general_win_back": mark("Recall message"),
}
# The segment of users who had bought nothing before a campaign.
NO_ORDER = "no_order"


@dataclass(frozen=True)
class Recall:
    """Winning back; each part is computed when it is first asked for.

    Attributes:
        scope: data, segment and days.
        silent_days: customers on the list have not been active for so many days.
        budget_amount: what winning back may cost; 0: no limit.
        experiment: the campaign to read out; empty where there is none.
        plan: who of the customers gone silent gets which offer by which channel; None without orders.
        measured: what the last campaign with a holdout brought; None where there was none.
        uplift: for whom of them it paid, by the tier that they were in before; None without orders.
    """

    scope: Scope
    silent_days: int
    budget_amount: float
    experiment: str

    @cached_property
    def plan(self) -> WinBackPlan | None:
        if not self.scope.data.has("orders"):
            return None
        return plan_list(self.scope, self.silent_days, budget_amount=self.budget_amount)

    @cached_property
    def measured(self) -> RecallResult | None:
        return _measure(self.scope.narrow(now=False), self.experiment) if self.experiment else None

    @cached_property
    def uplift(self) -> UpliftResult | None:
        return _compare_tiers(self.scope.narrow(now=False), self.measured) if self.measured is not None else None

    def findings(self) -> list[dict[str, Any]]:
        """Flat records of all parts; never a user."""
        return [
            record for part in (self.plan, self.measured, self.uplift) if part is not None for record in part.findings()
        ]


def plan_recall(scope: Scope, definition: ChurnDefinition, *, budget_amount: float, experiment: str = "") -> Recall:
    """Plan the next recall, and measure the last one.

    Raises:
        InputError: an experiment that is not there, or a budget below nothing.
    """
    check_budget(budget_amount)
    return Recall(scope, definition.need_days(), budget_amount, _choose_campaign(scope, experiment))


def plan_list(scope: Scope, silent_days: int, *, budget_amount: float = 0.0) -> WinBackPlan:
    """Plan whom of the customers gone silent to win back, as the playbook's [win_back] says.

    Raises:
        InputError: there are no orders.
    """
    if not scope.data.has("orders"):
        raise InputError("Winning back needs the table orders (user_id, ts, amount), which the playbook does not have.")
    return _plan_list(scope.narrow(now=False), silent_days, budget_amount)


@remember
def _plan_list(scope: Scope, silent_days: int, budget_amount: float) -> WinBackPlan:
    settings = scope.data.playbook.win_back
    return plan_candidates(
        _gather_candidates(scope, silent_days),
        budget=budget_amount or None,
        holdout=settings.holdout_rate,
        cap_messages=settings.most_messages,
        seed=settings.seed,
    )


@remember
def _gather_candidates(scope: Scope, silent_days: int) -> Candidates:
    settings, data = scope.data.playbook.win_back, scope.data
    customers = label_customers(gather_orders(scope), as_of=scope.as_of, calendar=data.calendar)
    seen = scope.active_days.group_by("user_id").aggregate(last_day=lambda t: t.day.max())
    joined = customers.inner_join(seen, "user_id")
    silent = ibis.date(scope.as_of).delta(joined.last_day, unit="day") >= silent_days
    gone = joined.filter(silent & ~joined.recent)
    # What a customer who comes back once is worth: an order as large as theirs were.
    segments = gone.select(
        "user_id", segment=gone.cell, order_amount=ibis.greatest(gone.monetary_amount / gone.frequency_count, 0.0)
    )
    offers = {name: Offer(offer.name, offer.cost) for name, offer in settings.offers.items()}
    messages = scope.table("messages")
    costs = dict(settings.message_costs)
    if not costs and messages is not None:
        found = data.execute(messages.select("channel").distinct().order_by("channel").limit(20))
        costs = {str(name): 0.0 for name in found["channel"].dropna()}
    return gather_candidates(
        segments,
        messages,
        as_of=scope.as_of,
        offers=offers or {name: say(offer) for name, offer in OFFERS.items()},
        channels=costs,
        calendar=data.calendar,
        value="order_amount",
    )


def _choose_campaign(scope: Scope, experiment: str) -> str:
    """The campaign asked for, or the last one with a holdout; empty where none can be measured.

    Raises:
        InputError: it is not there.
    """
    if not scope.data.has("exposures") or not (scope.data.has("orders") or scope.data.has("events")):
        return ""
    names = _list_campaigns(scope.narrow(now=False))
    if experiment and experiment not in names:
        known = f"There are: {', '.join(names)}." if names else "There is none."
        hint = suggest_name(experiment, names)
        raise InputError(f"No campaign '{experiment}' with the variants treated and holdout.{hint} {known}")
    return experiment or next(iter(names), "")


@remember
def _list_campaigns(scope: Scope) -> list[str]:
    exposures = scope.table("exposures")
    assert exposures is not None
    arms = exposures.filter(exposures.variant.isin([TREATED, HOLDOUT]))
    counted = arms.group_by("experiment").aggregate(last_at=arms.ts.max(), variants=arms.variant.nunique())
    found = scope.data.execute(counted.order_by([counted.last_at.desc(), "experiment"]))
    return [str(r.experiment) for r in found.itertuples() if r.variants == len((TREATED, HOLDOUT))]


@remember
def _measure(scope: Scope, experiment: str) -> RecallResult:
    exposures, data = scope.table("exposures"), scope.data
    by = "orders" if data.has("orders") else "events"
    table = scope.table(by)
    assert exposures is not None and table is not None
    planned = data.playbook.experiments.get(experiment)
    shares = planned.shares if planned is not None else None
    return measure_recall(
        exposures,
        {by: table},
        experiment=experiment,
        holdout_share=shares[HOLDOUT] / sum(shares.values()) if shares and HOLDOUT in shares else None,
        as_of=scope.as_of,
        by=by,
        messages=scope.table("messages"),
        campaign=planned.campaign if planned is not None else "",
        message_costs=data.playbook.win_back.message_costs or None,
        calendar=data.calendar,
    )


@remember
def _compare_tiers(scope: Scope, measured: RecallResult) -> UpliftResult | None:
    """For whom a campaign paid, by the tier of customers on the day before it began."""
    orders, exposures, data = scope.table("orders"), scope.table("exposures"), scope.data
    if orders is None or exposures is None:
        return None
    drawn = exposures.filter(exposures.experiment == measured.experiment, exposures.variant.isin([TREATED, HOLDOUT]))
    users = drawn.group_by("user_id").aggregate(variant=drawn.variant.argmin(drawn.ts), drawn_at=drawn.ts.min()).cache()
    began = data.calendar.day_of(pd.Timestamp(data.execute(users.drawn_at.min())).to_pydatetime())
    tiers = label_customers(orders, as_of=began - DAY, calendar=data.calendar).select("user_id", "tier")
    window = ibis.interval(days=measured.days)
    bought = orders.inner_join(users.select("user_id", "drawn_at"), "user_id")
    bought = bought.filter(bought.ts >= bought.drawn_at, bought.ts < bought.drawn_at + window)
    known = ibis.timestamp(data.calendar.day_start(scope.as_of + DAY))
    table = users.left_join(tiers, "user_id")
    table = table.select(
        "user_id",
        treated=table.variant == TREATED,
        outcome=(table.drawn_at + window <= known).ifelse(table.user_id.isin(bought.user_id), ibis.null("boolean")),
        segment=table.tier.fill_null(NO_ORDER),
    )
    return measure_uplift(table, segment="segment")

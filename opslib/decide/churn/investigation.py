"""The churn investigation: who leaves, when, why, who of them is worth it, and how to win them back, in one result."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from opslib.data.source import Data
from opslib.decide.churn.leaving import RETURN_RATE, Leaving, choose_definition, measure_leaving
from opslib.decide.churn.reasons import Reasons, explain_leaving
from opslib.decide.churn.recall import Recall, plan_recall
from opslib.decide.churn.worth import Worth, measure_worth
from opslib.decide.scope import Scope, check_breakdown, choose_scope
from opslib.errors import InputError
from opslib.language import mark

WHY = mark("Why do they leave")
ORDERS = mark("orders (user_id, ts, amount)")


@dataclass(frozen=True)
class ChurnInvestigation:
    """Who leaves, and what to do about it; each part is computed when it is first asked for.

    Attributes:
        scope: data, segment and days.
        leaving: who leaves and when.
        reasons: why; None where no month of leaving is known, or churn is not by inactivity.
        recall: whom to win back and what it has brought; None where churn is not by activity.
        worth: who is worth it; None without orders.
        missing: section -> the table that would light it up, both marked as texts to translate.
    """

    scope: Scope
    leaving: Leaving
    reasons: Reasons | None
    recall: Recall | None
    worth: Worth | None
    missing: dict[str, str]

    @property
    def currency(self) -> str:
        """The playbook's currency."""
        return self.scope.data.playbook.company.currency

    def findings(self) -> list[dict[str, Any]]:
        """Everything a machine may want to read, as flat records."""
        parts = (self.leaving, self.reasons, self.worth, self.recall)
        return [record for part in parts if part is not None for record in part.findings()]


def investigate_churn(
    data: Data,
    *,
    definition: str = "",
    inactive_days: int = 0,
    return_rate: float = RETURN_RATE,
    as_of: str = "",
    segment: str = "",
    breakdown: str = "",
    signup_node_days: int = 7,
    payment_node_days: int = 30,
    budget_amount: float = 0.0,
    experiment: str = "",
) -> ChurnInvestigation:
    """Investigate churn.

    Args:
        data: the company's data; unfit data are refused.
        definition: inactivity, orders or subscription; empty: the first of these that the data allow.
        inactive_days: after so many silent days a user counts as gone; 0: chosen from the data.
        return_rate: then as many as make coming back less likely than this.
        as_of: the last day, as ISO text; empty: the data's last full day.
        segment: one group of users such as `channel:search`; empty: everybody.
        breakdown: the column of users to compare; empty: the first with few enough values.
        signup_node_days, payment_node_days: moments to look at, after the first active day and a payment; 0: none.
        budget_amount: what winning back may cost; 0: no limit.
        experiment: the campaign to read out; empty: the last one with a holdout.

    Returns:
        A `ChurnInvestigation`. What is wrong with the options is said at once; parts are computed when first asked for.

    Raises:
        InputError: unfit data, an unknown definition, column, segment or campaign, a day outside the data, a budget or
            moment below nothing.
    """
    data.require_fit()
    scope = choose_scope(data, as_of=as_of, segment=segment)
    kind = choose_definition(scope, definition)
    check_breakdown(breakdown, scope.dimensions)
    column = breakdown or next(iter(scope.dimensions), "")
    leaving = measure_leaving(
        scope,
        kind,
        inactive_days=inactive_days,
        return_rate=return_rate,
        signup_node_days=signup_node_days,
        payment_node_days=payment_node_days,
        column=column,
    )
    reasons = recall = None
    if leaving.defined and kind != "subscription":
        assert leaving.definition is not None
        reasons = explain_leaving(scope, leaving.definition)
        recall = plan_recall(scope, leaving.definition, budget_amount=budget_amount, experiment=experiment)
    elif experiment:
        raise InputError(f"experiment '{experiment}': a campaign needs users whose activity is known.")
    return ChurnInvestigation(scope, leaving, reasons, recall, measure_worth(scope), _find_missing(scope, kind))


def _find_missing(scope: Scope, definition: str) -> dict[str, str]:
    data, missing = scope.data, {}
    if definition == "subscription" and not data.has("events") and not data.has("orders"):
        missing[WHY] = mark("events or orders, to know what users did before they left")
    elif not any(data.has(name) for name in ("coupons", "tickets", "messages", "events")):
        missing[WHY] = mark("events, coupons, tickets or messages")
    if not data.has("orders"):
        missing[mark("Who is worth it")] = missing[mark("Whom to win back")] = ORDERS
        missing[mark("After a payment")] = missing[mark("Did they ever pay")] = ORDERS
    if not data.has("coupons"):
        missing[mark("When coupons expire")] = mark("coupons (user_id, issued_at, expires_at, redeemed_at)")
    if not data.has("exposures"):
        missing[mark("Did it bring them back")] = mark("exposures with the variants treated and holdout")
    return missing

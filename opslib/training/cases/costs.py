"""What a story costs while it goes on, and what each action saves of it: so that a decision has a price."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from opslib.language import mark
from opslib.training.cases.plan import Story

LATER_DAYS = 28
# Assumptions that the case states: what one user who stays, and one complaint, is worth to this company.
STAYING_USER_AMOUNT, COMPLAINT_AMOUNT = 200.0, 45.0


@dataclass(frozen=True)
class Action:
    """Something that can be done.

    Attributes:
        text: what it is.
        price_amount: what doing it costs.
        stops: cause -> the share of its loss that it stops.
    """

    text: str
    price_amount: float
    stops: Mapping[str, float]


ACTIONS = {
    "mend": Action(mark("Withdraw the release that fails, and mend it"), 3000, {"release": 0.9}),
    "price": Action(mark("Take back what was made dearer for these users"), 2000, {"price": 0.9}),
    "pause": Action(
        mark("Stop the spending that brings these users, and buy better ones"), 1500, {"traffic": 0.8, "budget": 0.95}
    ),
    "service": Action(mark("Mend the service, answer and compensate those who complained"), 2500, {"service": 0.85}),
    "coupons": Action(
        mark("Send a coupon to every active user"), 9000,
        {"release": 0.1, "price": 0.35, "traffic": 0.1, "budget": 0.0, "service": 0.1},
    ),
    "wait": Action(mark("Wait, and look again in four weeks"), 0, {}),
}  # fmt: skip


def price_actions(story: Story, loss_amount: float) -> dict[str, float]:
    """What each action costs in all over the next days: its price, and the loss that it does not stop."""
    return {
        name: round(action.price_amount + (1 - action.stops.get(story.cause, 0.0)) * loss_amount, 2)
        for name, action in ACTIONS.items()
    }


def find_realised(story: Story, truth: Mapping[str, Any]) -> Mapping[str, Any]:
    """What the simulator made of the story's first incident, out of the sample's `truth.json`."""
    changes = next(i for i in truth["incidents"] if i["id"] == story.incidents[0].id)["changes"]
    realised: Mapping[str, Any] = changes[0]["realised"]
    return realised


def measure_loss(story: Story, truth: Mapping[str, Any], *, order_margin_amount: float) -> float:
    """What the story costs in `LATER_DAYS` days if nothing is done, from the simulator's own counts.

    Args:
        story: what was planted.
        truth: the sample's `truth.json`.
        order_margin_amount: what an order leaves.
    """
    first = find_realised(story, truth)
    now = first["cells"]["segment_during"]
    days = (story.end - story.start).days
    if story.cause == "budget":
        # Of the money of these days, what came on top.
        return float(now["numerator"]) / days * LATER_DAYS * (1 - 1 / story.incidents[0].size_on(story.start))
    usual = now["rate"] / first["relative_change"]
    missing = abs(usual - now["rate"]) * now["denominator"] / days * LATER_DAYS
    worth = {
        "release": order_margin_amount,
        # Of the carts about half are paid in this company.
        "price": order_margin_amount * 0.5,
        "traffic": STAYING_USER_AMOUNT,
        "service": COMPLAINT_AMOUNT,
    }
    return float(missing * worth[story.cause])

"""What the lesson `holdout` is about: a campaign's read-out against those held out, and its tables."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import ibis
import pandas as pd

from opslib.decide.verdicts.looks import Look as MetricLook
from opslib.decide.verdicts.readings import EARLIER_DAYS
from opslib.decide.verdicts.verdict import Verdict, judge_initiative
from opslib.errors import InputError
from opslib.language import say
from opslib.measure.experiment.experiment import Behavior, Metric, measure_experiment
from opslib.measure.recall.arms import HOLDOUT
from opslib.present.display import TableView
from opslib.present.parts import format_range
from opslib.present.tables import make_table

if TYPE_CHECKING:
    from opslib.data.source import Data

METRICS = ("orders_count", "paying_rate", "revenue_amount")
PARTS = ("before", "first", "second")
DAY_SECONDS = 86_400
# Users that effects are told for: a user's own are small numbers.
PER = 1000


@dataclass(frozen=True)
class HoldoutFacts:
    """A campaign's read-out.

    Attributes:
        verdict: by the users who were held out.
        orders: (arm, half) -> orders; halves are before, first and second.
        coupon_orders: orders with a coupon of those who had the campaign, in the first half.
        margin: what it did to the margin of a user: effect, low, high.
        currency: of amounts.
    """

    verdict: Verdict
    orders: dict[tuple[str, str], int]
    coupon_orders: int
    margin: tuple[float, float, float]
    currency: str

    @property
    def half(self) -> int:
        """Days of each half."""
        return self.verdict.core.window_days // 2

    @property
    def users(self) -> tuple[int, int]:
        """Users with the campaign, and held out."""
        sides = (self.verdict.core.with_it, self.verdict.core.without_it)
        with_it, without = (0 if side is None else int(side.denominator) for side in sides)
        return with_it, without

    @property
    def bare(self) -> tuple[float, float, float]:
        """The effect on a user's orders without allowing for what users did before: value, low, high."""
        with_it, without = self.verdict.core.with_it, self.verdict.core.without_it
        assert with_it is not None and without is not None
        halves = [(float(side.high or 0) - float(side.low or 0)) / 2 for side in (with_it, without)]
        value, half = float(with_it.value or 0) - float(without.value or 0), math.hypot(*halves)
        return value, value - half, value + half

    def find(self, metric: str) -> MetricLook:
        """The look at a metric."""
        return next(look for look in self.verdict.looks if look.metric == metric)

    def read(self, metric: str, *, with_it: bool) -> float:
        """A metric among those with the campaign, or held out."""
        look = self.find(metric)
        side = look.with_it if with_it else look.without_it
        return float(side.value or 0) if side is not None else 0.0


def gather_facts(data: Data) -> HoldoutFacts:
    """Gather what the lesson tells of a company's campaign.

    Raises:
        InputError: no campaign that clearly brought orders, and not its price.
    """
    refused = InputError(
        "holdout: this lesson needs an initiative with a holdout that clearly brought orders, and not clearly "
        "revenue; use the sample company."
    )
    for initiative in data.playbook.initiatives:
        named = {initiative.metric, *initiative.behaviour}
        if initiative.experiment and named.issuperset(METRICS) and initiative.metric == "orders_count":
            verdict = judge_initiative(data, initiative)
            break
    else:
        raise refused
    core = verdict.core
    if core.strength != "holdout" or core.direction != "better" or verdict.early is None or verdict.late is None:
        raise refused
    if verdict.late.direction != "unclear" or (verdict.late.effect or 0) > 0:
        raise refused
    facts = HoldoutFacts(verdict, {}, 0, _measure_margin(data, verdict), verdict.currency)
    counts = _count_orders(data, verdict, facts.half)
    sums = counts.groupby(["arm", "part"])["orders"].sum()
    orders = {(arm, part): int(sums.get((arm, part), 0)) for arm in ("with_it", "held") for part in PARTS}
    first = counts[(counts["arm"] == "with_it") & (counts["part"] == "first") & counts["coupon"].astype(bool)]
    too_dear = facts.margin[2] * facts.users[0] < verdict.initiative.budget
    # The lesson tells that orders are clear only with it.
    adjusted = facts.bare[1] < 0
    if facts.find("revenue_amount").direction != "unclear" or not all(orders.values()) or not (too_dear and adjusted):
        raise refused
    return replace(facts, orders=orders, coupon_orders=int(first["orders"].sum()))


def _count_orders(data: Data, verdict: Verdict, half: int) -> pd.DataFrame:
    """Orders by arm, half of the window (and as long before it), and whether a coupon was used."""
    seen, orders = data.table("exposures"), data.table("orders")
    seen = seen.filter(seen.experiment == verdict.initiative.experiment)
    arms = seen.select("user_id", arm=ibis.ifelse(seen.variant == HOLDOUT, "held", "with_it"), exposed=seen.ts)
    joined = orders.inner_join(arms, "user_id")
    days = (joined.ts.epoch_seconds() - joined.exposed.epoch_seconds()) / DAY_SECONDS
    part = ibis.cases(
        ((days >= -half) & (days < 0), "before"),
        ((days >= 0) & (days < half), "first"),
        ((days >= half) & (days < verdict.core.window_days), "second"),
        else_="else",
    )
    grouped = joined.group_by("arm", part=part, coupon=joined.coupon_id.notnull())
    return data.execute(grouped.aggregate(orders=lambda t: t.count()))


def _measure_margin(data: Data, verdict: Verdict) -> tuple[float, float, float]:
    """What the campaign did to a user's margin, allowing for what the users did before."""
    orders = data.table("orders")
    bought = Behavior("orders", how="sum", column="margin", days=(0, verdict.core.window_days))
    result = measure_experiment(
        data.table("exposures"), {"orders": orders.mutate(margin=orders.amount - orders.cost)},
        experiment=verdict.initiative.experiment, metrics=[Metric("margin_amount", bought, before=EARLIER_DAYS)],
        as_of=verdict.as_of, control=HOLDOUT, calendar=data.calendar,
        shares=data.playbook.experiments[verdict.initiative.experiment].shares,
    )  # fmt: skip
    row = result.comparison("margin_amount")
    return float(row["difference"]), float(row["difference_low"]), float(row["difference_high"])


def show_arms(facts: HoldoutFacts) -> TableView:
    """Orders of both arms, before and in the campaign's days."""
    rows = []
    for arm, name, users in zip(("with_it", "held"), _name_arms(), facts.users, strict=True):
        counts = [facts.orders[arm, part] for part in PARTS]
        texts = {part: f"{count:,}" for part, count in zip(PARTS, counts, strict=True)}
        rows.append({"arm": name, "users": f"{users:,}", **texts, "growth": f"{counts[1] / counts[0] - 1:+.0%}"})
    labels = {
        "arm": say("Users"), "users": say("How many"),
        "before": say("Orders in {days} days before", days=facts.half),
        "first": say("Orders in the first {days} days", days=facts.half),
        "second": say("Orders in the next {days} days", days=facts.half), "growth": say("Growth"),
    }  # fmt: skip
    return make_table(pd.DataFrame(rows), labels, name="lesson-arms", numeric=tuple(labels)[1:])


def show_halves(facts: HoldoutFacts) -> TableView:
    """The effect on orders in the first half, in the second, and in all."""
    names = (
        say("First {days} days", days=facts.half), say("Next {days} days", days=facts.half),
        say("All {days} days", days=facts.verdict.core.window_days),
    )  # fmt: skip
    looks = (facts.verdict.early, facts.verdict.late, facts.verdict.core)
    rows = [
        {"when": name, "effect": format_range(look.effect, look.low, look.high, form="+.1f", scale=PER)}
        for name, look in zip(names, looks, strict=True)
        if look is not None
    ]
    labels = {"when": say("Days"), "effect": say("Effect on orders of {count:,} users [95%]", count=PER)}
    return make_table(pd.DataFrame(rows), labels, name="lesson-halves", numeric=("effect",))


def show_money(facts: HoldoutFacts) -> TableView:
    """The effect on revenue and margin, of a user and of all."""
    users, _ = facts.users
    revenue = facts.find("revenue_amount")
    rows = [
        {
            "what": name,
            "each": format_range(*ends, form="+,.2f"),
            "all": format_range(*ends, form="+,.0f", scale=users),
        }
        for name, ends in (
            (say("Revenue"), (revenue.effect, revenue.low, revenue.high)),
            (say("Margin"), facts.margin),
        )
    ]
    labels = {
        "what": say("Effect on"), "each": say("a user, {currency} [95%]", currency=facts.currency),
        "all": say("all of them, {currency} [95%]", currency=facts.currency),
    }  # fmt: skip
    return make_table(pd.DataFrame(rows), labels, name="lesson-money", numeric=("each", "all"))


def _name_arms() -> tuple[str, str]:
    return say("With the campaign"), say("Held out")

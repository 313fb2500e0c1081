"""Lifetime value as observed: what acquired users have brought by age, when they pay back, what a move was worth."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import ibis
import ibis.expr.types as ir
import pandas as pd

from opslib.data.periods import DAY, Calendar
from opslib.language import say
from opslib.measure.acquisition import OTHER, fold_rest, name_groups, to_rows
from opslib.measure.estimate import Estimate, compare_estimates, estimate_mean, to_plain_record

MONTH_DAYS = 30
EVERYBODY = "(all)"
# With fewer buyers than this, the mean over users is the luck of a few orders.
FEWEST_BUYERS = 10
# A tail is heavy when one user brought more than this of the whole.
HEAVY_RATE = 0.05
# Pay-back is looked for up to the month that this share of a group's users have lived: the first few are not the rest.
FEWEST_MATURE_RATE = 0.05
VALUE_COLUMNS = (
    "group",
    "age_days",
    "users_count",
    "immature_count",
    "buyers_count",
    "total_amount",
    "value_amount",
    "value_low",
    "value_high",
    "largest_rate",
)
PAYBACK_COLUMNS = (
    "group",
    "cac_amount",
    "cac_low",
    "cac_high",
    "payback_month_count",
    "payback_earliest_count",
    "payback_latest_count",
    "observed_month_count",
    "status",
)


@dataclass(frozen=True)
class LifetimeValueResult:
    """Cumulative margin per acquired user by age; an age holds only users who have lived all of its days.

    Attributes:
        basis: "margin" (amount - cost), or "revenue" where orders have no cost.
        ages: days -> value over everybody.
        by_age, by_month: group, age_days (by_month also month_count, of 30 days each), users_count (mature),
            immature_count, buyers_count (mature with an order by then), total_amount (their sum), value_amount (per
            user, buyer or not) with value_low, value_high, and largest_rate (the share of the total that the biggest
            buyer brought); value missing below 20 users or 10 buyers. Largest groups first, then "(other)".
        early_orders_count: orders before their user's first day; in no value.
        missing_cost_count: orders without a cost where others have one; taken as costing nothing.
    """

    basis: Literal["margin", "revenue"]
    ages: dict[int, Estimate]
    by_age: pd.DataFrame
    by_month: pd.DataFrame
    early_orders_count: int
    missing_cost_count: int

    def findings(self) -> list[dict[str, Any]]:
        """The estimates, and one record a group and age."""
        records = [e.to_finding(basis=self.basis) for e in self.ages.values()]
        return records + [{"name": "value", "basis": self.basis, **to_plain_record(r)} for r in to_rows(self.by_age)]


@dataclass(frozen=True)
class PaybackResult:
    """Value against what the users cost.

    Attributes:
        basis: of the value: "margin" or "revenue".
        by_group: group, cac_amount, cac_low, cac_high; payback_month_count (first month of 30 days by whose end the
            value per acquired user reaches CAC; missing when it has not), payback_earliest_count and
            payback_latest_count (first month in which it may, and in which it surely does; missing: not within the
            observed months), observed_month_count (months with a value that 5% of the users have lived), and status:
            "paid_back" (surely), "may_have_paid_back", "not_paid_back" (surely not within the observed months),
            "not_enough_data".
        ratios: group -> age in days -> value / CAC.
    """

    basis: Literal["margin", "revenue"]
    by_group: pd.DataFrame
    ratios: dict[str, dict[int, Estimate]]

    def findings(self) -> list[dict[str, Any]]:
        """One record a group, and its ratios."""
        records = [{"name": "payback", "basis": self.basis, **to_plain_record(r)} for r in to_rows(self.by_group)]
        return records + [e.to_finding(group=g, age_days=a) for g, of in self.ratios.items() for a, e in of.items()]


def measure_lifetime_value(
    orders: ir.Table,
    first_days: ir.Table,
    *,
    ages_days: Sequence[int] = (30, 90, 180),
    as_of: dt.date,
    breakdown: ir.Table | None = None,
    calendar: Calendar,
    most_months: int = 36,
    top: int = 20,
) -> LifetimeValueResult:
    """Measure what acquired users have brought by a certain age.

    Args:
        orders: user_id, ts (UTC), amount and, if it is known, cost; one row an order.
        first_days: user_id, first_day; the acquired users, buyers or not. Orders of other users are left out.
        ages_days: the ages to measure; the first day is day 1 of a user's life.
        as_of: the last day that is fully known; an age is mature when first_day + age - 1 <= as_of.
        breakdown: user_id, group (for example the channel); without it there is one group, "(all)".
        calendar: the company's clock.
        most_months: months of 30 days in `by_month`, at most.
        top: groups shown one by one.

    Returns:
        A `LifetimeValueResult`. Nothing is extrapolated: each age is the mean over the users who have lived it, so
        later ages rest on older users, and a curve can fall where those were worth less.

    Intervals are normal over users. Money has a heavy tail: with few buyers, or one that brings much of the whole
    (`largest_rate`), they are too narrow.

    >>> first = ibis.memtable({"user_id": range(40), "first_day": [dt.date(2026, 1, 1)] * 40})
    >>> times = [dt.datetime(2026, 1, 10)] * 20
    >>> orders = ibis.memtable({"user_id": range(20), "ts": times, "amount": [9.0] * 20, "cost": [3.0] * 20})
    >>> value = measure_lifetime_value(orders, first, as_of=dt.date(2026, 2, 1), calendar=Calendar())
    >>> value.basis, value.ages[30].value, value.ages[90].known
    ('margin', 3.0, False)
    """
    basis: Literal["margin", "revenue"] = "margin" if "cost" in orders.columns else "revenue"
    users = first_days.filter(first_days.first_day <= as_of).select("user_id", "first_day")
    months = range(1, min(_count_days(users, as_of) // MONTH_DAYS, most_months) + 1)
    ages = sorted({*ages_days, *(m * MONTH_DAYS for m in months)})
    spent = _sum_by_age(orders, users, ages, as_of, calendar)
    spent = spent.mutate(group=ibis.literal(EVERYBODY)) if breakdown is None else name_groups(spent, breakdown, "group")
    frame = spent.group_by("group").aggregate(**_aggregate_ages(spent, ages, as_of)).to_pandas()
    numbers = frame.drop(columns="group")
    everybody = numbers.sum().where(~numbers.columns.str.startswith("largest"), numbers.max())
    frame = _fold_groups(frame, top)
    described = [_describe_age(row, age) for row in to_rows(frame) for age in ages]
    rows = pd.DataFrame(described, columns=list(VALUE_COLUMNS)).astype(dict.fromkeys(VALUE_COLUMNS[6:], float))
    by_month = rows[rows["age_days"].isin([m * MONTH_DAYS for m in months])].reset_index(drop=True)
    by_month.insert(2, "month_count", by_month["age_days"] // MONTH_DAYS)
    return LifetimeValueResult(
        basis,
        {age: _estimate_value(everybody, age) for age in ages_days},
        rows[rows["age_days"].isin(list(ages_days))].reset_index(drop=True),
        by_month,
        int(everybody["early"]),
        int(everybody["missing"]),
    )


def compare_value_to_cost(value: LifetimeValueResult, costs: Mapping[str, Estimate]) -> PaybackResult:
    """Find when acquired users pay back what they cost, and value / CAC at each age.

    Args:
        value: by group; measured without a breakdown, its group is "(all)".
        costs: group -> CAC (`ChannelsResult.cac_by_group`), of the same users as the value, or users like them.

    Returns:
        A `PaybackResult`, one row a group of `costs` that the value knows.

    In each month value - CAC has Newcombe's interval; it may have paid back from the month in which that reaches 0, and
    surely has from the month in which it lies above. Months are judged one by one. Ratios: MOVER-R (Newcombe 2016,
    Statistical Methods in Medical Research 25, 1774-1778), which is Fieller's interval where both parts are normal.

    Source of payback: months of margin that recover CAC (Skok, *SaaS Metrics 2.0*), here observed, not projected.
    """
    rows, ratios = [], {}
    for group, cac in costs.items():
        months = value.by_month[(value.by_month["group"] == group) & value.by_month["value_amount"].notna()]
        known = months[months["users_count"] >= FEWEST_MATURE_RATE * (months["users_count"] + months["immature_count"])]
        by_age = value.by_age[value.by_age["group"] == group]
        if by_age.empty:
            continue
        gaps = (
            [(r["month_count"], compare_estimates(_to_estimate(r), cac)) for r in to_rows(known)] if cac.known else []
        )
        reached = {
            "payback_month_count": next((m for m, gap in gaps if (gap.difference or 0) >= 0), None),
            "payback_earliest_count": next((m for m, gap in gaps if gap.high is not None and gap.high >= 0), None),
            "payback_latest_count": next((m for m, gap in gaps if gap.low is not None and gap.low >= 0), None),
        }
        status = "paid_back" if reached["payback_latest_count"] else "may_have_paid_back"
        status = status if reached["payback_earliest_count"] else "not_paid_back"
        row = {"group": group, "cac_amount": cac.value, "cac_low": cac.low, "cac_high": cac.high, **reached}
        rows.append(row | {"observed_month_count": len(gaps), "status": status if gaps else "not_enough_data"})
        ratios[group] = {
            int(r["age_days"]): divide_estimates("ltv_cac_ratio", _to_estimate(r), cac) for r in to_rows(by_age)
        }
    frame = pd.DataFrame(rows, columns=list(PAYBACK_COLUMNS))
    return PaybackResult(value.basis, frame.astype(dict.fromkeys(PAYBACK_COLUMNS[1:7], float)), ratios)


def divide_estimates(name: str, top: Estimate, bottom: Estimate) -> Estimate:
    """Divide two independent estimates, the second above zero; the interval comes from theirs (MOVER-R).

    >>> top = Estimate("value", 30.0, 0, 0, 24.0, 36.0, "normal", "amount")
    >>> ratio = divide_estimates("ltv_cac_ratio", top, Estimate("cac", 10.0, 0, 0, 9.0, 11.0, "normal", "amount"))
    >>> ratio.value, round(ratio.low, 3), round(ratio.high, 3)
    (3.0, 2.355, 3.705)
    """
    if top.value is None or bottom.value is None or not bottom.value > 0:
        note = top.note or bottom.note or say("nothing to divide by")
        return Estimate(name, None, top.value or 0, bottom.value or 0, None, None, "none", "ratio", note=note)
    assert top.low is not None and top.high is not None and bottom.low is not None and bottom.high is not None
    a, b, below, above = top.value, bottom.value, bottom.value - bottom.low, bottom.high - bottom.value
    low = _solve_limit(a, a - top.low, b, above if top.low >= 0 else below, -1)
    high = _solve_limit(a, top.high - a, b, below if top.high >= 0 else above, 1)
    if low is None or high is None:
        note = say("the divisor cannot be told from zero")
        return Estimate(name, None, a, b, None, None, "none", "ratio", note=note)
    return Estimate(name, a / b, a, b, low, high, "MOVER-R", "ratio", top.confidence)


def _solve_limit(a: float, da: float, b: float, db: float, sign: int) -> float | None:
    """The r at which 0 is the end of the interval of a - r b, when a is off by da and b by db."""
    scale = b * b - db * db
    if scale <= 0:
        return None
    return (a * b + sign * math.sqrt(max(0.0, (a * b) ** 2 - (a * a - da * da) * scale))) / scale


def _count_days(users: ir.Table, as_of: dt.date) -> int:
    """Days that the oldest user has lived."""
    first = users.first_day.min().to_pandas()
    return 0 if pd.isna(first) else (as_of - pd.Timestamp(first).date()).days + 1


def _sum_by_age(orders: ir.Table, users: ir.Table, ages: list[int], as_of: dt.date, calendar: Calendar) -> ir.Table:
    """Every user with the sum of their orders by each age, the age of the first, and what is wrong with them."""
    cost = orders.cost if "cost" in orders.columns else ibis.literal(0.0)
    bought = orders.select(
        _user="user_id",
        _day=calendar.local_day(orders.ts),
        _margin=orders.amount.fill_null(0).cast("float64") - cost.fill_null(0).cast("float64"),
        _free=cost.isnull(),
    )
    owned = bought.filter(bought._day <= as_of).inner_join(users, [bought._user == users.user_id])
    age = owned._day.delta(owned.first_day, unit="day")
    sums = {f"spent_{a}": owned._margin.sum(where=(age >= 0) & (age < a)).fill_null(0.0) for a in ages}
    per_user = owned.group_by("_user").aggregate(
        bought_age=age.min(where=age >= 0), early=(age < 0).sum(), missing=owned._free.sum(), **sums
    )
    joined = users.left_join(per_user, [("user_id", "_user")]).drop("_user")
    return joined.mutate(**{f"spent_{a}": joined[f"spent_{a}"].fill_null(0.0) for a in ages})


def _aggregate_ages(spent: ir.Table, ages: list[int], as_of: dt.date) -> dict[str, Any]:
    sums: dict[str, Any] = {"users": spent.count()}
    for a in ages:
        mature, sum_to_age = spent.first_day <= as_of - (a - 1) * DAY, spent[f"spent_{a}"]
        sums[f"mature_{a}"] = mature.sum()
        sums[f"buyers_{a}"] = (mature & (spent.bought_age < a).fill_null(False)).sum()
        sums[f"total_{a}"] = sum_to_age.sum(where=mature).fill_null(0.0)
        sums[f"squares_{a}"] = (sum_to_age * sum_to_age).sum(where=mature).fill_null(0.0)
        sums[f"largest_{a}"] = sum_to_age.max(where=mature).fill_null(0.0)
    return sums | {"early": spent.early.sum().fill_null(0), "missing": spent.missing.sum().fill_null(0)}


def _fold_groups(frame: pd.DataFrame, top: int) -> pd.DataFrame:
    folded, rest = fold_rest(frame, "group", top, ["users"])
    if rest:
        largest = [c for c in frame.columns if c.startswith("largest")]
        folded.loc[folded["group"] == OTHER, largest] = (
            frame[~frame["group"].isin(folded["group"])][largest].max().values
        )
    return folded


def _estimate_value(row: Any, age: int) -> Estimate:
    users, buyers = int(row[f"mature_{age}"]), int(row[f"buyers_{age}"])
    total, largest = float(row[f"total_{age}"]), float(row[f"largest_{age}"])
    e = estimate_mean(f"value_{age}_days_amount", total, float(row[f"squares_{age}"]), users, unit="amount")
    if e.known and buyers < FEWEST_BUYERS:
        note = say(
            "not enough data: {buyers} buyers among {users:,} users, at least {minimum} needed",
            buyers=buyers,
            users=users,
            minimum=FEWEST_BUYERS,
        )
        return replace(e, value=None, low=None, high=None, method="none", note=note)
    if e.known and largest > HEAVY_RATE * total:
        note = say("one user brought {share:.0%} of it: the interval is too narrow", share=largest / total)
        return replace(e, note=note)
    return e


def _describe_age(row: Mapping[Any, Any], age: int) -> tuple[Any, ...]:
    e, total = _estimate_value(row, age), float(row[f"total_{age}"])
    users, buyers = int(row[f"mature_{age}"]), int(row[f"buyers_{age}"])
    share = float(row[f"largest_{age}"]) / total if total > 0 else None
    return row["group"], age, users, int(row["users"]) - users, buyers, total, e.value, e.low, e.high, share


def _to_estimate(row: Mapping[Any, Any]) -> Estimate:
    values = [None if pd.isna(row[c]) else float(row[c]) for c in ("value_amount", "value_low", "value_high")]
    users, note = int(row["users_count"]), "" if values[0] is not None else say("not enough data")
    name, total = f"value_{int(row['age_days'])}_days_amount", float(row["total_amount"])
    return Estimate(name, values[0], total, users, values[1], values[2], "normal over users", "amount", note=note)

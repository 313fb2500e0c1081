"""Recency, frequency, monetary: the handbook's three tiers, the eight cells, and what each brings (H10)."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import ibis
import ibis.expr.types as ir
import pandas as pd

from opslib.data.periods import Calendar
from opslib.language import mark, say
from opslib.measure.estimate import Estimate, Unit, estimate_mean, estimate_rate, quantile, to_plain_record
from opslib.measure.rfm.customers import (
    CELLS,
    DORMANT,
    HIGH_VALUE,
    POTENTIAL,
    SCORES,
    TIERS,
    RfmThresholds,
    Split,
    choose_thresholds,
    find_tier,
    keep_known,
    label_cells,
    label_customers,
    summarize_customers,
)

__all__ = [
    "CELLS",
    "DORMANT",
    "HIGH_VALUE",
    "POTENTIAL",
    "TIERS",
    "RfmQuality",
    "RfmResult",
    "RfmThresholds",
    "label_customers",
    "measure_rfm",
]

DIMENSIONS: dict[str, Unit] = {"recency_days": "days", "frequency_count": "count", "monetary_amount": "amount"}
_SHARES = ("customers_rate", "revenue_rate")
# What to say where everybody is high, or low, in a dimension.
ALL_ALIKE = {
    "recent": (
        mark("everybody is high in how recently they bought: that dimension parts nobody"),
        mark("everybody is low in how recently they bought: that dimension parts nobody"),
    ),
    "frequent": (
        mark("everybody is high in how often they bought: that dimension parts nobody"),
        mark("everybody is low in how often they bought: that dimension parts nobody"),
    ),
    "valuable": (
        mark("everybody is high in for how much they bought: that dimension parts nobody"),
        mark("everybody is low in for how much they bought: that dimension parts nobody"),
    ),
}
COLUMNS = (
    "customers_count",
    *(f"customers_{k}" for k in ("rate", "low", "high")),
    "revenue_amount",
    *(f"revenue_{k}" for k in ("rate", "low", "high")),
    *(c for d in DIMENSIONS for c in (d, *(f"{d.rsplit('_', 1)[0]}_{k}" for k in ("low", "high")))),
)


@dataclass(frozen=True)
class RfmQuality:
    """What in the orders is no plain order, and what was done with it.

    Attributes:
        refunds_count, refunds_amount: rows with a negative amount and their sum; taken off what their customer brought,
            and neither an order nor a sign of life.
        refund_only_count: users with refunds but no order; in no tier.
        free_orders_count: orders with no or a zero amount; they count as orders and bring nothing.
        indebted_count: customers who got back all that they paid or more; they stay in their tier.
    """

    refunds_count: int
    refunds_amount: float
    refund_only_count: int
    free_orders_count: int
    indebted_count: int


@dataclass(frozen=True)
class RfmResult:
    """Customers by recency, frequency and monetary.

    Attributes:
        as_of: the day that recency is counted to.
        split: how high was parted from low: "mean", "median", or "given".
        thresholds: where; None without customers.
        customers_count, revenue_amount: customers, and what they brought, refunds taken off.
        averages: recency_days, frequency_count, monetary_amount -> their mean over customers.
        tiers: tier, customers_count, customers_rate (of all customers) with its low and high, revenue_amount,
            revenue_rate (of all revenue) with low and high, and the means recency_days, frequency_count and
            monetary_amount with low and high; one row a tier, also empty ones. Every customer is in exactly one.
        cells: cell, tier, recent, frequent, valuable, and the same; one row for each of the eight.
        scores: dimension, score (1 to 5, best), customers_count, lowest, highest, mean (of that dimension).
        quality: refunds, free orders, and so on.
        notes: what a reader must know, in sentences.
    """

    as_of: dt.date
    split: Literal["mean", "median", "given"]
    thresholds: RfmThresholds | None
    customers_count: int
    revenue_amount: float
    averages: dict[str, Estimate]
    tiers: pd.DataFrame
    cells: pd.DataFrame
    scores: pd.DataFrame
    quality: RfmQuality
    notes: tuple[str, ...]

    def findings(self) -> list[dict[str, Any]]:
        """Averages, tiers and cells as flat records."""
        context = {"as_of": self.as_of.isoformat(), "split": self.split}
        records = [e.to_finding(**context) for e in self.averages.values()]
        for name, frame in (("rfm_tier", self.tiers), ("rfm_cell", self.cells)):
            records += [{"name": name, **context, **to_plain_record(row)} for row in frame.to_dict("records")]
        return records + [{"name": "rfm_note", "note": note} for note in self.notes]


def measure_rfm(
    orders: ir.Table,
    *,
    as_of: dt.date,
    calendar: Calendar | None = None,
    split: Split = "mean",
    thresholds: RfmThresholds | None = None,
    scores: int = SCORES,
) -> RfmResult:
    """Part customers by how recently, how often and for how much they bought.

    Args:
        orders: user_id, ts (UTC), amount; one row an order, all since the beginning, a refund as a row with a negative
            amount. Rows without a user are left out.
        as_of: the day that recency is counted to; later orders are left out.
        calendar: the company's clock.
        split: high means better than the mean (as the eight cells are used in China) or the median customer.
        thresholds: limits of your own instead, for example last quarter's.
        scores: how many groups of equal size a dimension is parted into.

    Returns:
        An `RfmResult`.

    Raises:
        InputError: a column is missing, or another split.

    The eight cells are high or low in each dimension. The tiers: *dormant* is who is not recent; of the others,
    *high_value* are the valuable and *potential* the rest. Shares of customers have Wilson's interval; shares of
    revenue that of a ratio over customers (delta method); means are normal over customers. Money has a heavy tail: in
    small groups the last two are too narrow.

    Source: Hughes (1994), Strategic Database Marketing, for the scores; handbook H10 for the tiers.

    >>> import ibis
    >>> times = [dt.datetime(2026, 1, d) for d in (3, 9, 9)]
    >>> orders = ibis.memtable({"user_id": [1, 2, 3], "ts": times, "amount": [10.0, 80.0, 20.0]})
    >>> result = measure_rfm(orders, as_of=dt.date(2026, 1, 10))
    >>> dict(zip(result.tiers["tier"], result.tiers["customers_count"]))
    {'high_value': 1, 'potential': 1, 'dormant': 1}
    """
    calendar = calendar or Calendar()
    known = keep_known(orders, as_of, calendar)
    odd = (
        known.aggregate(refunds=(known.amount < 0).sum(), free=(known.amount == 0).sum()).to_pandas().fillna(0).iloc[0]
    )
    refunds = int(odd["refunds"])
    everybody = summarize_customers(orders, as_of=as_of, calendar=calendar, refunds=refunds > 0).cache()
    customers = everybody.filter(everybody.frequency_count > 0)
    limits = thresholds or choose_thresholds(customers, split)
    sums = _sum_cells(everybody, limits or RfmThresholds(0, 0, 0))
    total = sums.drop(columns=["recent", "frequent", "valuable"]).sum()
    cells = [{"cell": CELLS[key], "tier": find_tier(key[0], key[2]), **_name_key(key)} for key in CELLS]
    cell_rows = [c | _describe(sums[_select(sums, key)], total) for c, key in zip(cells, CELLS, strict=True)]
    tier_rows = [{"tier": t} | _describe(sums[_in_tier(sums, t)], total) for t in TIERS]
    number = int(total["customers"])
    averages = {d: _estimate(d, total, unit) for d, unit in DIMENSIONS.items()}
    quality = RfmQuality(
        refunds,
        float(total["refunds_amount"]),
        int(total["refund_only"]),
        int(odd["free"]),
        int(total["indebted"]),
    )
    return RfmResult(
        as_of,
        "given" if thresholds else split,
        limits,
        number,
        float(total["monetary_amount"]),
        averages,
        pd.DataFrame(tier_rows, columns=["tier", *COLUMNS]).pipe(_to_numbers),
        pd.DataFrame(cell_rows, columns=["cell", "tier", "recent", "frequent", "valuable", *COLUMNS]).pipe(_to_numbers),
        _tabulate_scores(customers, scores),
        quality,
        tuple(_list_notes(number, float(total["monetary_amount"]), sums, quality)),
    )


def _sum_cells(everybody: ir.Table, limits: RfmThresholds) -> pd.DataFrame:
    """Counts, sums and sums of squares by the three flags; users with refunds alone are counted beside."""
    marked = label_cells(everybody.mutate(recency_days=everybody.recency_days.fill_null(0)), limits)
    bought = marked.frequency_count > 0
    sums: dict[str, Any] = {
        "customers": bought.sum(),
        "refunds_amount": marked.refunds_amount.sum(),
        "refund_only": (~bought).sum(),
        "indebted": (bought & (marked.refunds_amount > 0) & (marked.monetary_amount <= 0)).sum(),
    }
    for name in DIMENSIONS:
        value = marked[name].cast("float64")
        sums[name] = value.sum(where=bought).fill_null(0.0)
        sums[f"{name}_squares"] = (value * value).sum(where=bought).fill_null(0.0)
    return marked.group_by("recent", "frequent", "valuable").aggregate(**sums).to_pandas()


def _select(sums: pd.DataFrame, key: tuple[bool, bool, bool]) -> pd.Series:
    recent, frequent, valuable = key
    return (sums["recent"] == recent) & (sums["frequent"] == frequent) & (sums["valuable"] == valuable)


def _in_tier(sums: pd.DataFrame, tier: str) -> pd.Series:
    flags = zip(sums["recent"], sums["valuable"], strict=True)
    return pd.Series([find_tier(bool(r), bool(m)) == tier for r, m in flags], index=sums.index, dtype=bool)


def _name_key(key: tuple[bool, bool, bool]) -> dict[str, bool]:
    return dict(zip(("recent", "frequent", "valuable"), key, strict=True))


def _estimate(name: str, row: pd.Series, unit: Unit) -> Estimate:
    return estimate_mean(name, float(row[name]), float(row[f"{name}_squares"]), int(row["customers"]), unit=unit)


def _describe(part: pd.DataFrame, total: pd.Series) -> dict[str, Any]:
    row = part.drop(columns=["recent", "frequent", "valuable"]).sum()
    number, everybody = int(row["customers"]), int(total["customers"])
    share = estimate_rate("customers_rate", number, everybody)
    revenue = estimate_share_of_sum(
        "revenue_rate",
        (float(row["monetary_amount"]), float(row["monetary_amount_squares"])),
        (float(total["monetary_amount"]), float(total["monetary_amount_squares"])),
        everybody,
    )
    values: list[Any] = [number, share.value, share.low, share.high]
    values += [float(row["monetary_amount"]), revenue.value, revenue.low, revenue.high]
    for name, unit in DIMENSIONS.items():
        e = _estimate(name, row, unit)
        values += [e.value, e.low, e.high]
    return dict(zip(COLUMNS, values, strict=True))


def estimate_share_of_sum(name: str, part: tuple[float, float], whole: tuple[float, float], customers: int) -> Estimate:
    """Estimate the share of a sum that some customers hold, with the interval of a ratio over customers.

    Args:
        name: the metric's name.
        part, whole: sum and sum of squares over the customers of the part and over all.
        customers: how many in all.

    >>> e = estimate_share_of_sum("revenue_rate", (60.0, 120.0), (100.0, 160.0), 70)
    >>> round(e.value, 2), round(e.low, 3), round(e.high, 3)
    (0.6, 0.486, 0.714)
    """
    top, bottom = part[0], whole[0]
    if customers < 20 or not bottom > 0:
        note = say("no revenue")
        if customers < 20:
            note = say(
                "not enough data: {customers:,} customers, at least {least} needed", customers=customers, least=20
            )
        return Estimate(name, None, top, bottom, None, None, "none", "rate", note=note)
    share = top / bottom
    squares = part[1] * (1 - share) ** 2 + max(whole[1] - part[1], 0.0) * share**2
    half = quantile() * math.sqrt(squares) / bottom
    # With refunds, a part can hold less than nothing or more than all.
    low, high = share - half, share + half
    low, high = (max(low, 0.0), min(high, 1.0)) if 0 <= share <= 1 else (low, high)
    return Estimate(name, share, top, bottom, low, high, "ratio over customers (delta method)", "rate")


def _to_numbers(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.astype({c: float for c in COLUMNS if c != "customers_count"} | {"customers_count": "int64"})


def _tabulate_scores(customers: ir.Table, scores: int) -> pd.DataFrame:
    """The limits of each score. Ties change who has which score, but not these numbers."""
    frames = []
    for name in DIMENSIONS:
        worst_first = ibis.desc(name) if name == "recency_days" else ibis.asc(name)
        ranked = customers.select(
            score=ibis.ntile(scores).over(order_by=worst_first) + 1, value=customers[name].cast("float64")
        )
        value = ranked.value
        numbers = {"customers_count": ranked.count(), "lowest": value.min(), "highest": value.max()}
        counted = ranked.group_by("score").aggregate(**numbers, mean=value.mean()).order_by("score").to_pandas()
        frames.append(counted.assign(dimension=name))
    columns = ["dimension", "score", "customers_count", "lowest", "highest", "mean"]
    return pd.concat(frames, ignore_index=True)[columns]


def _list_notes(number: int, revenue: float, sums: pd.DataFrame, quality: RfmQuality) -> Iterable[str]:
    if not number:
        yield say("nobody has bought anything yet, so there is nobody to part")
        return
    if number < 20:
        yield say(
            "not enough data: {customers:,} customers, at least {least} needed for shares and means",
            customers=number,
            least=20,
        )
    if revenue <= 0:
        yield say("refunds take all that was paid, so nobody has a share of revenue")
    buyers = sums[sums["customers"] > 0]
    for flag, (high, low) in ALL_ALIKE.items():
        if number > 1 and buyers[flag].nunique() == 1:
            yield say(high if bool(buyers[flag].iloc[0]) else low)
    if quality.refund_only_count:
        yield say("{users:,} users have refunds but no order: they are in no tier", users=quality.refund_only_count)
    if quality.indebted_count:
        yield say("{customers:,} customers got back all that they paid or more", customers=quality.indebted_count)

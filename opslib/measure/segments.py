"""Who is worth it: what each RFM segment will bring, who of the valuable is likely gone, and one row a customer.

`measure/rfm` says who customers were, `measure/purchase_model` who will buy; here the two meet.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import ibis
import ibis.expr.types as ir
import numpy as np
import pandas as pd

from opslib.data.periods import Calendar
from opslib.errors import InputError
from opslib.language import mark, say
from opslib.measure.estimate import MINIMUM_DENOMINATOR, Estimate, to_plain_record
from opslib.measure.purchase_model.bgnbd import chance_alive
from opslib.measure.purchase_model.orders import HISTORY, count_histories, summarize_purchases, to_histories
from opslib.measure.purchase_model.purchase_model import PurchaseModel, fit_customers
from opslib.measure.purchase_model.value import Sums, bound_sum, draw_values, expect_values, sum_expectations
from opslib.measure.rfm.customers import (
    CELLS,
    DORMANT,
    HIGH_VALUE,
    POTENTIAL,
    TIERS,
    RfmThresholds,
    Split,
    find_tier,
    label_customers,
)

HORIZON_DAYS = 180
DRAWS = 400
SEED = 2048
# Ends of the bands of P(alive) that customers are shown in; below the middle one they are more likely gone than not.
ALIVE_BANDS = (0.0, 0.25, 0.5, 0.75, 1.0)
LIKELY_GONE = 0.5
TIER_NAMES = {HIGH_VALUE: mark("high_value"), POTENTIAL: mark("potential"), DORMANT: mark("dormant")}
RATE_METHOD = "delta method for the parameters, on the log odds"
METHOD = "delta method for the parameters and exact variance of purchases, log-normal"
COLUMNS = (
    "segment",
    "customers_count",
    "repeat_customers_count",
    "past_amount",
    *(f"alive_{k}" for k in ("rate", "low", "high")),
    *(f"return_{k}" for k in ("rate", "low", "high")),
    *(f"expected_orders_{k}" for k in ("count", "low", "high")),
    *(f"expected_value_{k}" for k in ("amount", "low", "high")),
    *(f"value_{k}" for k in ("rate", "low", "high")),
    *(f"value_per_customer_{k}" for k in ("amount", "low", "high")),
)
RISK_COLUMNS = (
    "segment",
    "alive_from_rate",
    "alive_to_rate",
    "valuable",
    "customers_count",
    "past_amount",
    "expected_value_amount",
    "at_stake_amount",
)


@dataclass(frozen=True)
class SegmentValueResult:
    """What is expected of each segment in the next days.

    Attributes:
        as_of, horizon_days: the days after `as_of` that are looked at.
        by: "tier" or "cell".
        model: the fitted models.
        totals: alive_rate, return_rate, expected_orders_count, expected_value_amount -> the estimate over all.
        segments: segment, customers_count, repeat_customers_count, past_amount (brought so far), alive_rate (mean
            P(alive) of repeat customers: the model takes everybody with one order for alive), return_rate (mean chance
            of an order within the horizon, all customers), expected_orders_count, expected_value_amount, value_rate (of
            the value of all) and value_per_customer_amount, each with its low and high; one row a segment, also empty
            ones. Missing without a model, or below 20 customers.
        at_risk: segment, alive_from_rate, alive_to_rate (a band of P(alive); missing for one order), valuable (high in
            money), customers_count, past_amount, expected_value_amount, at_stake_amount (what would come besides if
            they were all still there); rows with anybody.
        likely_gone: customers_count, past_amount, expected_value_amount, at_stake_amount of the valuable repeat
            customers whose P(alive) is below one half; empty without a model.
        notes: what a reader must know, in sentences.
    """

    as_of: dt.date
    horizon_days: int
    by: Literal["tier", "cell"]
    model: PurchaseModel
    totals: dict[str, Estimate]
    segments: pd.DataFrame
    at_risk: pd.DataFrame
    likely_gone: dict[str, float]
    notes: tuple[str, ...]

    def findings(self) -> list[dict[str, Any]]:
        """Totals, segments and who is likely gone as flat records."""
        context = {"as_of": self.as_of.isoformat(), "horizon_days": self.horizon_days}
        records = [e.to_finding(**context) for e in self.totals.values()]
        records += [
            {"name": "segment_value", **context, **to_plain_record(r)} for r in self.segments.to_dict("records")
        ]
        if self.likely_gone:
            records.append({"name": "valuable_likely_gone", **context, **to_plain_record(self.likely_gone)})
        return records + [{"name": "segment_value_note", **context, "note": note} for note in self.notes]


def measure_segment_value(
    orders: ir.Table,
    *,
    as_of: dt.date,
    horizon_days: int = HORIZON_DAYS,
    by: Literal["tier", "cell"] = "tier",
    calendar: Calendar | None = None,
    split: Split = "mean",
    thresholds: RfmThresholds | None = None,
    contractual: bool = False,
) -> SegmentValueResult:
    """Measure how much of the next days' expected value each segment holds, and which value is at risk.

    Args:
        orders, as_of, calendar, split, thresholds: as in `measure_rfm`.
        horizon_days: how far to look.
        by: the handbook's tiers, or the eight cells.
        contractual: as in `fit_purchase_model`.

    Returns:
        A `SegmentValueResult`. Value is revenue, not discounted, of repeat orders by today's customers; nobody new is
        in it. Intervals hold uncertain parameters and chance in what customers do; that the model may be wrong they do
        not hold: `check_purchase_model` shows how far off it was.

    Raises:
        InputError: a column is missing, another split, or a horizon of no days.

    Sources: Fader, Hardie and Lee (2005), "RFM and CLV: Using Iso-Value Curves for Customer Base Analysis", Journal of
    Marketing Research 42(4), 415-430.

    >>> orders = ibis.memtable({"user_id": [1, 2], "ts": [dt.datetime(2026, 1, 3)] * 2, "amount": [10.0, 80.0]})
    >>> measure_segment_value(orders, as_of=dt.date(2026, 1, 31)).notes
    ('nobody has come back for a second order yet, so there is no rhythm to project',)
    """
    _check_horizon(horizon_days)
    labelled = _join_models(orders, as_of, calendar or Calendar(), split, thresholds)
    model = fit_customers(labelled, as_of=as_of, contractual=contractual)
    frame = count_histories(labelled, ("cell",))
    keys = {name: key for key, name in CELLS.items()}
    frame["segment"] = [c if by == "cell" else find_tier(keys[c][0], keys[c][2]) for c in frame["cell"]]
    frame["valuable"] = [keys[c][2] for c in frame["cell"]]
    names = list(CELLS.values()) if by == "cell" else list(TIERS)
    place = {name: i for i, name in enumerate(names)}
    groups = frame["segment"].map(place).to_numpy(dtype=int)
    number = np.bincount(groups, weights=frame["customers_count"], minlength=len(names)).astype(int)
    past = np.bincount(groups, weights=frame["past"].to_numpy(dtype=float), minlength=len(names))
    again = np.where(frame["repeats_count"] > 0, frame["customers_count"], 0)
    repeated = np.bincount(groups, weights=again, minlength=len(names)).astype(int)
    counts = {"customers_count": number, "repeat_customers_count": repeated, "past_amount": past}
    table = pd.DataFrame({"segment": names, **counts})
    table = table.reindex(columns=list(COLUMNS)).astype(dict.fromkeys(COLUMNS[4:], float))
    if not model.known:
        empty = pd.DataFrame(columns=list(RISK_COLUMNS))
        return SegmentValueResult(as_of, horizon_days, by, model, {}, table, empty, {}, model.all_notes)
    _fill(table, sum_expectations(model, frame, groups, len(names), horizon_days))
    everybody = sum_expectations(model, frame, np.zeros(len(frame), dtype=int), 1, horizon_days)
    risk = _tabulate_risk(model, frame, names, horizon_days)
    gone = risk[risk["valuable"] & (risk["alive_to_rate"] <= LIKELY_GONE)]
    likely_gone = {c: float(gone[c].sum(skipna=False)) for c in RISK_COLUMNS[4:]}
    notes = (*model.all_notes, *_list_notes(table))
    return SegmentValueResult(
        as_of, horizon_days, by, model, _estimate_totals(everybody, model), table, risk, likely_gone, notes
    )


def list_customers(
    orders: ir.Table,
    *,
    as_of: dt.date,
    horizon_days: int = HORIZON_DAYS,
    calendar: Calendar | None = None,
    split: Split = "mean",
    thresholds: RfmThresholds | None = None,
    draws: int = DRAWS,
    seed: int = SEED,
) -> ir.Table:
    """One row a customer with scores, tier, P(alive) and expected value: for an export on request, never a page.

    Args:
        orders, as_of, horizon_days, calendar, split, thresholds: as in `measure_segment_value`.
        draws, seed: futures drawn for each history behind the intervals; the same seed gives the same intervals.

    Returns:
        user_id, recency_days, frequency_count, monetary_amount, recency_score, frequency_score, monetary_score, cell,
        tier, repeats_count, alive_rate (missing after one order day), return_rate, expected_orders_count, orders_low,
        orders_high, value_amount, value_low, value_high. Missing values where there is no model. The interval is for
        what this customer will do (chance and uncertain parameters), so it often begins at 0.
    """
    _check_horizon(horizon_days)
    labelled = _join_models(orders, as_of, calendar or Calendar(), split, thresholds)
    model = fit_customers(labelled, as_of=as_of)
    scores = ("recency_score", "frequency_score", "monetary_score")
    kept = ("user_id", "recency_days", "frequency_count", "monetary_amount", *scores, "cell", "tier", "repeats_count")
    counts, ends = (
        ("alive_rate", "return_rate", "expected_orders_count", "orders_low", "orders_high"),
        ("amount", "low", "high"),
    )
    if not model.known:
        nothing = ibis.literal(None, "float64")
        return labelled.select(*kept, **dict.fromkeys([*counts, *(f"value_{e}" for e in ends)], nothing))
    drawn = draw_values(model, count_histories(labelled), days=horizon_days, draws=draws, seed=seed)
    weights = ibis.memtable(
        drawn.astype(dict.fromkeys(HISTORY, "int64")).astype(dict.fromkeys(drawn.columns[3:], float))
    )
    joined = labelled.inner_join(weights, HISTORY)
    money = joined.repeat_amount + (float(np.exp(model.amounts.at[2])) if model.amounts else 0.0)
    value = {f"value_{e}": w * money for e, w in zip(ends, _weights(joined), strict=True)}
    return joined.select(*kept, *(joined[c].nullif(float("nan")).name(c) for c in counts), **value)


def _weights(joined: ir.Table) -> Iterable[Any]:
    for name in ("value_weight", "weight_low", "weight_high"):
        yield joined[name].nullif(float("nan"))


def _check_horizon(days: int) -> None:
    if days < 1:
        raise InputError(f"horizon_days = {days}: value is looked for over a day at least.")


def _join_models(
    orders: ir.Table, as_of: dt.date, calendar: Calendar, split: Split, thresholds: RfmThresholds | None
) -> ir.Table:
    """Every customer with both: RFM labels, and the history that the models read."""
    labels = label_customers(orders, as_of=as_of, calendar=calendar, split=split, thresholds=thresholds)
    histories = summarize_purchases(orders, as_of=as_of, calendar=calendar)
    return labels.inner_join(histories, "user_id").cache()


def _fill(table: pd.DataFrame, sums: Sums) -> None:
    """Write the expectations into the segments' rows, and leave small segments empty."""
    number = table["customers_count"].to_numpy(dtype=float)
    enough = number >= MINIMUM_DENOMINATOR
    repeated = table["repeat_customers_count"].to_numpy(dtype=float)
    per, again = np.where(enough, number, np.nan), np.where(repeated >= MINIMUM_DENOMINATOR, repeated, np.nan)
    alive, returning, value = sums.alive / again, sums.returning / per, sums.value
    low, high = bound_sum(value, sums.value_error)
    columns = {
        "alive": (alive, *_bound_rate(alive, sums.alive_error / again)),
        "return": (returning, *_bound_rate(returning, sums.returning_error / per)),
        "expected_orders": (sums.orders, *bound_sum(sums.orders, sums.orders_error)),
        "expected_value": (value, low, high),
        "value": (sums.value_share, *_bound_rate(sums.value_share, sums.value_share_error)),
    }
    columns["value_per_customer"] = (value / per, low / per, high / per)
    units = {"alive": "rate", "return": "rate", "expected_orders": "count", "value": "rate"}
    for name, values in columns.items():
        for end, numbers in zip((units.get(name, "amount"), "low", "high"), values, strict=True):
            table[f"{name}_{end}"] = np.where(enough, numbers, np.nan)


def _bound_rate(value: np.ndarray, error: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The interval of a share: normal on the log odds, so that it stays between 0 and 1."""
    inside = np.clip(value, 1e-9, 1 - 1e-9)
    odds = inside / (1 - inside)
    low, high = bound_sum(odds, error / (1 - inside) ** 2)
    # The standard error of odds is that of the share times the square of 1 / (1 - share).
    return low / (1 + low), high / (1 + high)


def _estimate_totals(sums: Sums, model: PurchaseModel) -> dict[str, Estimate]:
    number, totals = model.customers_count, {}
    rates = (
        ("alive_rate", sums.alive, sums.alive_error, model.repeat_customers_count),
        ("return_rate", sums.returning, sums.returning_error, number),
    )
    for name, top, error, of in rates:
        low, high = (float(v[0]) for v in _bound_rate(top / of, error / of))
        totals[name] = Estimate(name, float(top[0]) / of, float(top[0]), of, low, high, RATE_METHOD, "rate")
    orders, value = float(sums.orders[0]), float(sums.value[0])
    low, high = (float(v[0]) for v in bound_sum(sums.orders, sums.orders_error))
    totals["expected_orders_count"] = Estimate(
        "expected_orders_count", orders, orders, number, low, high, METHOD, "count"
    )
    name = "expected_value_amount"
    if model.amounts is None:
        note = model.amounts_note
        totals[name] = Estimate(name, None, 0, number, None, None, "none", "amount", note=note)
    else:
        ends = [float(v[0]) if np.isfinite(v[0]) else None for v in bound_sum(sums.value, sums.value_error)]
        totals[name] = Estimate(name, value, value, number, ends[0], ends[1], METHOD, "amount")
    return totals


def _tabulate_risk(model: PurchaseModel, frame: pd.DataFrame, names: list[str], days: int) -> pd.DataFrame:
    """Customers and money by segment, band of P(alive), and whether they were valuable."""
    assert model.purchases is not None
    h = to_histories(frame)
    alive = chance_alive(model.purchases.at, h)
    # Each history by itself; its expectation over P(alive) is what would come if its customers were all there.
    value = expect_values(model, frame, days)
    band = np.clip(np.searchsorted(ALIVE_BANDS, alive, "right") - 1, 0, len(ALIVE_BANDS) - 2)
    band = np.where(h.repeats > 0, band, len(ALIVE_BANDS))
    rows = pd.DataFrame(
        {
            "segment": pd.Categorical(frame["segment"], categories=names),
            "band": band,
            "valuable": frame["valuable"].to_numpy(dtype=bool),
            "customers_count": frame["customers_count"].to_numpy(dtype="int64"),
            "past_amount": frame["past"].to_numpy(dtype=float),
            "expected_value_amount": value,
            "at_stake_amount": np.where(alive > 0, value / np.maximum(alive, 1e-300) * (1 - alive), 0),
        }
    )
    keys = ["segment", "band", "valuable"]
    # Without a model of amounts every value is missing, and so are the sums.
    sums = rows.groupby(keys, observed=True, as_index=False).sum(min_count=1)
    ends = np.array([*ALIVE_BANDS, np.nan, np.nan])
    sums["alive_from_rate"], sums["alive_to_rate"] = ends[sums["band"]], ends[sums["band"] + 1]
    return sums.assign(segment=sums["segment"].astype(str))[list(RISK_COLUMNS)]


def _list_notes(table: pd.DataFrame) -> Iterable[str]:
    few = table[(table["customers_count"] < MINIMUM_DENOMINATOR) & (table["customers_count"] > 0)]
    for row in few.to_dict("records"):
        yield say(
            "not enough data: {count} customers in {segment}, at least {minimum} needed",
            count=row["customers_count"],
            segment=say(TIER_NAMES.get(row["segment"], row["segment"])),
            minimum=MINIMUM_DENOMINATOR,
        )

"""Who will buy again, and for how much: BG/NBD for purchases, Gamma-Gamma for amounts.

For customers without a contract, who leave without saying so. Where they subscribe, and so do say so,
`measure/sbg.py` is the right model.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import ibis.expr.types as ir
import numpy as np
import pandas as pd

from opslib.data.periods import Calendar
from opslib.language import mark, say
from opslib.measure.estimate import (
    CONFIDENCE,
    MINIMUM_DENOMINATOR,
    Estimate,
    estimate_rate,
    quantile,
    to_plain_record,
)
from opslib.measure.purchase_model.bgnbd import Histories, Maximum, fit_bgnbd
from opslib.measure.purchase_model.gamma_gamma import Spending, fit_gamma_gamma
from opslib.measure.purchase_model.orders import (
    UNIT_DAYS,
    count_histories,
    count_spending,
    summarize_purchases,
    to_histories,
)

BGNBD, GAMMA_GAMMA = ("r", "alpha", "a", "b"), ("p", "q", "v")
# How often and how much must not go together: said beyond the first, no values beyond the second (both by more than
# chance).
DOUBTED_CORRELATION = 0.1
REJECTED_CORRELATION = 0.3
CONTRACTUAL = mark(
    "these customers subscribe, so the day they leave is known: the sBG model (measure/sbg.py) is the right one, and "
    "what follows suits only what they buy besides"
)
CLEARLY_MORE = mark(
    "customers who buy more often pay clearly more each time: the model of amounts takes the two to be independent, so "
    "no values are given"
)
CLEARLY_LESS = mark(
    "customers who buy more often pay clearly less each time: the model of amounts takes the two to be independent, so "
    "no values are given"
)
SOMEWHAT_MORE = mark("customers who buy more often pay somewhat more each time, which the model of amounts leaves out")
SOMEWHAT_LESS = mark("customers who buy more often pay somewhat less each time, which the model of amounts leaves out")


@dataclass(frozen=True)
class PurchaseModel:
    """Fitted models of purchases and amounts, or why there are none.

    Attributes:
        as_of: the last day that was known.
        customers_count, repeat_customers_count: customers with an order; with orders on two days or more.
        one_time_rate: share of customers with one order day so far.
        parameters: model ("bgnbd", time in weeks; "gamma_gamma", money in the orders' currency), parameter, value,
            standard_error, low, high; empty without fits.
        purchases, amounts: logarithms of the parameters with their covariance; None without a fit.
        correlation: of the number and the mean amount of repeat purchases; Gamma-Gamma takes it to be 0.
        purchases_note, amounts_note: why there is no model, else empty.
        notes: what else a reader must know, in sentences.
    """

    as_of: dt.date
    customers_count: int
    repeat_customers_count: int
    one_time_rate: Estimate
    parameters: pd.DataFrame
    purchases: Maximum | None
    amounts: Maximum | None
    correlation: Estimate
    purchases_note: str
    amounts_note: str
    notes: tuple[str, ...]

    @property
    def known(self) -> bool:
        """True when purchases can be forecast."""
        return self.purchases is not None

    @property
    def values_known(self) -> bool:
        """True when amounts can be forecast too."""
        return self.purchases is not None and self.amounts is not None

    @property
    def all_notes(self) -> tuple[str, ...]:
        """Why there is no model, and what else to know."""
        return tuple(n for n in (self.purchases_note, self.amounts_note, *self.notes) if n)

    def findings(self) -> list[dict[str, Any]]:
        """Parameters, the correlation and the notes as flat records."""
        context = {"as_of": self.as_of.isoformat()}
        records = [
            {"name": "purchase_model", **context, **to_plain_record(r)} for r in self.parameters.to_dict("records")
        ]
        records += [self.one_time_rate.to_finding(**context), self.correlation.to_finding(**context)]
        return records + [{"name": "purchase_model_note", **context, "note": note} for note in self.all_notes]


def fit_purchase_model(
    orders: ir.Table, *, as_of: dt.date, calendar: Calendar | None = None, contractual: bool = False
) -> PurchaseModel:
    """Fit BG/NBD to when customers bought, and Gamma-Gamma to what they paid.

    Args:
        orders: user_id, ts (UTC), amount; one row an order, all since the beginning, a refund as a row with a negative
            amount. Rows without a user are left out.
        as_of: the last day that is known.
        calendar: the company's clock.
        contractual: True where customers subscribe; the result then names the right model.

    Returns:
        A `PurchaseModel`. Without parameters, but with a sentence, for fewer than 20 customers or repeat customers,
        when nobody came back, when the search ends on no summit, and, for amounts, when how often and how much go
        together (correlation above 0.3 by more than chance) or amounts scatter too widely to have a mean.

    Orders of one day are one purchase; the first day starts the clock and is no repeat. Intervals of parameters are
    normal for their logarithms (from the curvature of the likelihood).

    Sources: Fader, Hardie and Lee (2005), Marketing Science 24(2), 275-284; Fader and Hardie (2013), note 025.
    """
    customers = summarize_purchases(orders, as_of=as_of, calendar=calendar or Calendar()).cache()
    return fit_customers(customers, as_of=as_of, contractual=contractual)


def fit_customers(customers: ir.Table, *, as_of: dt.date, contractual: bool = False) -> PurchaseModel:
    """The same from customers as `summarize_purchases` gives them."""
    frame = count_histories(customers)
    histories = to_histories(frame)
    number = int(histories.customers.sum())
    repeated = int(histories.customers[histories.repeats > 0].sum())
    once = estimate_rate("one_time_rate", number - repeated, number)
    purchases, purchases_note = _fit_purchases(histories, number, repeated)
    spending = count_spending(customers, repeated)
    correlation = correlate_spending(spending)
    amounts, amounts_note = _fit_amounts(spending, correlation) if purchases else (None, "")
    tables = [
        _tabulate(n, p, f) for n, p, f in (("bgnbd", BGNBD, purchases), ("gamma_gamma", GAMMA_GAMMA, amounts)) if f
    ]
    columns = ["model", "parameter", "value", "standard_error", "low", "high"]
    parameters = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=columns)
    unpaid = repeated - int(spending.customers.sum())
    notes = tuple(_list_notes(purchases, amounts, correlation, unpaid, contractual))
    return PurchaseModel(
        as_of, number, repeated, once, parameters, purchases, amounts, correlation, purchases_note, amounts_note, notes
    )


def correlate_spending(spending: Spending) -> Estimate:
    """Correlation over repeat customers of how often they came back and what they paid each time (Fisher)."""
    n, x, z = spending.customers, spending.repeats, spending.mean_amount
    number, name = int(n.sum()), "repeats_amount_correlation_ratio"
    if number < MINIMUM_DENOMINATOR:
        note = say(
            "not enough data: {customers:,} repeat customers, at least {least} needed",
            customers=number,
            least=MINIMUM_DENOMINATOR,
        )
        return Estimate(name, None, 0, number, None, None, "none", "ratio", note=note)
    dx, dz = x - np.average(x, weights=n), z - np.average(z, weights=n)
    scatter = math.sqrt((n * dx * dx).sum() * (n * dz * dz).sum())
    # Amounts that are all the same to the last digits do not scatter.
    if scatter <= 1e-9 * float((n * x).sum() * (n * z).sum()) / number:
        note = say("all repeat customers came equally often or paid the same, so nothing can go together")
        return Estimate(name, None, 0, number, None, None, "none", "ratio", note=note)
    value = float(np.clip((n * dx * dz).sum() / scatter, -1, 1))
    half, middle = quantile() / math.sqrt(number - 3), math.atanh(min(max(value, -0.999999), 0.999999))
    low, high = math.tanh(middle - half), math.tanh(middle + half)
    return Estimate(name, value, value, number, low, high, "Pearson, Fisher", "ratio")


def _fit_purchases(histories: Histories, number: int, repeated: int) -> tuple[Maximum | None, str]:
    if not number:
        return None, say("nobody has bought anything yet, so there is nothing to project")
    if not repeated:
        return None, say("nobody has come back for a second order yet, so there is no rhythm to project")
    bought = mark("not enough data: {customers:,} customers, at least {least} needed")
    again = mark("not enough data: {customers:,} customers who came back, at least {least} needed")
    for count, template in ((number, bought), (repeated, again)):
        if count < MINIMUM_DENOMINATOR:
            return None, say(template, customers=count, least=MINIMUM_DENOMINATOR)
    fit = fit_bgnbd(histories)
    return (fit, "") if fit.converged else (None, say("the model of purchases found no best fit: no forecast is made"))


def _fit_amounts(spending: Spending, correlation: Estimate) -> tuple[Maximum | None, str]:
    number = int(spending.customers.sum())
    if number < MINIMUM_DENOMINATOR:
        return None, say(
            "not enough data: {customers:,} customers paid for a repeat order, at least {least} needed",
            customers=number,
            least=MINIMUM_DENOMINATOR,
        )
    if _exceeds(correlation, REJECTED_CORRELATION):
        return None, say(CLEARLY_MORE if (correlation.value or 0) > 0 else CLEARLY_LESS)
    fit = fit_gamma_gamma(spending)
    if not fit.converged:
        return None, say("the model of amounts found no best fit: no values are given")
    if np.exp(fit.at[1]) <= 1:
        return None, say("amounts scatter so widely over customers that they have no mean: no values are given")
    return fit, ""


def _exceeds(correlation: Estimate, limit: float) -> bool:
    low, high = correlation.low, correlation.high
    return low is not None and high is not None and (low > limit or high < -limit)


def _list_notes(
    purchases: Maximum | None, amounts: Maximum | None, correlation: Estimate, unpaid: int, contractual: bool
) -> Iterable[str]:
    if contractual:
        yield say(CONTRACTUAL)
    if purchases and purchases.at_bound:
        yield say("customers hardly differ in how often they buy or in how easily they leave: a rough guide only")
    if amounts and _exceeds(correlation, DOUBTED_CORRELATION):
        yield say(SOMEWHAT_MORE if (correlation.value or 0) > 0 else SOMEWHAT_LESS)
    if amounts and np.exp(amounts.at[1]) <= 2:
        yield say("amounts scatter so widely over customers that values have no interval")
    if purchases and unpaid:
        yield say(
            "{customers:,} customers came back but brought nothing after refunds: the model of amounts leaves them out",
            customers=unpaid,
        )


def _tabulate(model: str, names: tuple[str, ...], fit: Maximum) -> pd.DataFrame:
    value, error = np.exp(fit.at), np.sqrt(np.clip(np.diag(fit.covariance), 0, None))
    half = np.exp(np.minimum(quantile(CONFIDENCE) * error, 700))
    columns = {"value": value, "standard_error": value * error, "low": value / half, "high": value * half}
    return pd.DataFrame({"model": model, "parameter": list(names), **columns})


__all__ = ["UNIT_DAYS", "PurchaseModel", "fit_customers", "fit_purchase_model"]

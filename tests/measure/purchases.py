"""Orders for the tests of RFM and of the models of purchases: made up, drawn from the models, and real."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import ibis
import ibis.expr.types as ir
import numpy as np
import pandas as pd
from hypothesis import strategies as st

START = dt.datetime(2026, 1, 1)
Orders = list[tuple[int, dt.datetime, float]]

# Ties in everything, refunds, zeros, moments just before and after midnight in most zones.
some_orders = st.lists(
    st.tuples(
        st.integers(1, 9),
        st.integers(0, 24 * 80).map(lambda h: START + dt.timedelta(hours=h)),
        st.sampled_from([-25.0, -10.0, 0.0, 10.0, 10.0, 25.0, 40.5]),
    ),
    min_size=1,
    max_size=60,
)


def to_orders(rows: Orders) -> ir.Table:
    return ibis.memtable(
        {"user_id": [u for u, _, _ in rows], "ts": [t for _, t, _ in rows], "amount": [a for _, _, a in rows]},
        schema={"user_id": "int64", "ts": "timestamp(6)", "amount": "float64"},
    )


def draw_orders(customers: int, *, seed: int, weeks: float = 52, a: float = 0.8) -> pd.DataFrame:
    """Orders of customers as BG/NBD and Gamma-Gamma have them, from the first of January 2026 on."""
    rng = np.random.default_rng(seed)
    rows = []
    rate, leave, price = rng.gamma(0.6, 1 / 5, customers), rng.beta(a, 2.5, customers), rng.gamma(4, 1 / 60, customers)
    start = rng.integers(0, 84, customers) / 7
    for u in range(customers):
        at, there = start[u], True
        while at < weeks:
            rows.append((u, START + dt.timedelta(days=int(at * 7), hours=12), rng.gamma(6) / price[u]))
            if at > start[u]:
                there = rng.random() > leave[u]
            if not there:
                break
            at += rng.exponential(1 / rate[u])
    return pd.DataFrame(rows, columns=["user_id", "ts", "amount"])


def read_cdnow(shared: Path, name: str) -> ir.Table:
    folder = shared / "real" / "cdnow"
    if name == "sample":
        columns = ["master_id", "user_id", "day", "cds", "amount"]
        frame = pd.read_csv(folder / "CDNOW_sample.txt", sep=r"\s+", header=None, names=columns)
    else:
        columns = ["user_id", "day", "cds", "amount"]
        frame = pd.read_csv(folder / "CDNOW_master.txt", sep=r"\s+", skiprows=1, names=columns)
    frame["ts"] = pd.to_datetime(frame["day"].astype(str))
    return ibis.memtable(frame[["user_id", "ts", "amount"]])


def read_online_retail(shared: Path, *, clean: bool) -> ir.Table:
    """Invoices of known customers; `clean` as in its facts: no cancellations, nothing free."""
    lines = ibis.read_parquet(shared / "real" / "online_retail" / "online_retail.parquet")
    quantity, price = lines.Quantity.cast("int64"), lines.UnitPrice.cast("float64")
    lines = lines.mutate(quantity=quantity, price=price, ts=lines.InvoiceDate.cast("timestamp"))
    lines = lines.filter(lines.CustomerID.notnull())
    if clean:
        kept: Any = ~lines.InvoiceNo.cast("string").startswith("C")
        lines = lines.filter(kept, lines.quantity > 0, lines.price > 0)
    invoices = lines.group_by(user_id="CustomerID", order_id="InvoiceNo")
    return invoices.aggregate(ts=lines.ts.min(), amount=(lines.quantity * lines.price).sum())

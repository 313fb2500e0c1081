"""Random activity for property tests: small enough to count by hand, odd enough to break windows."""

from __future__ import annotations

import datetime as dt

import ibis
import ibis.expr.types as ir
from hypothesis import strategies as st

START = dt.date(2025, 12, 20)  # a year's end inside, so that months, quarters and ISO weeks all turn

user_days = st.sets(
    st.tuples(st.integers(1, 8), st.integers(0, 120).map(lambda n: START + dt.timedelta(days=n))),
    min_size=1,
    max_size=60,
)


def to_table(days: set[tuple[int, dt.date]]) -> ir.Table:
    """Active days as the measures take them."""
    ordered = sorted(days)
    return ibis.memtable(
        {"user_id": [u for u, _ in ordered], "day": [d for _, d in ordered]},
        schema={"user_id": "int64", "day": "date"},
    )

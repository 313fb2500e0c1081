"""How customers moved between tiers from one day, such as a quarter's last, to another."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any, Literal

import ibis
import ibis.expr.types as ir
import pandas as pd

from opslib.data.periods import Calendar
from opslib.errors import InputError
from opslib.measure.estimate import Estimate, estimate_rate, to_plain_record
from opslib.measure.rfm.customers import (
    CELLS,
    TIERS,
    RfmThresholds,
    Split,
    choose_thresholds,
    label_cells,
    summarize_customers,
)

# Of users without an order: not known at all yet; known, for example signed up, but not a customer yet.
NEW, NOT_YET = "new", "not_yet"


@dataclass(frozen=True)
class RfmMigrationResult:
    """Customers by segment at two days.

    Attributes:
        before, now: the two days.
        by: "tier" or "cell".
        thresholds: what parted high from low, at both days.
        matrix: from_segment, to_segment, customers_count, from_count, migration_rate, low_rate, high_rate; one row a
            pair, also empty ones. from_segment is "new" for who was not known then, "not_yet" for who was and had not
            ordered; to_segment can be "not_yet" too. Each user known at `now` is in exactly one pair.
        balance: segment, opening_count, in_count, out_count, closing_count, net_count; opening + in - out = closing.
        rates: (from, to) -> the estimate behind a row of the matrix, for segments with anybody.
    """

    before: dt.date
    now: dt.date
    by: Literal["tier", "cell"]
    thresholds: RfmThresholds | None
    matrix: pd.DataFrame
    balance: pd.DataFrame
    rates: dict[tuple[str, str], Estimate]

    def findings(self) -> list[dict[str, Any]]:
        """The balance and the rates as flat records."""
        context = {"before": self.before.isoformat(), "now": self.now.isoformat()}
        records = [{"name": "rfm_balance", **context, **to_plain_record(r)} for r in self.balance.to_dict("records")]
        for (start, end), estimate in self.rates.items():
            records.append(estimate.to_finding(**context, from_segment=start, to_segment=end))
        return records


def measure_rfm_migration(
    orders: ir.Table,
    *,
    before: dt.date,
    now: dt.date,
    by: Literal["tier", "cell"] = "tier",
    calendar: Calendar | None = None,
    split: Split = "mean",
    thresholds: RfmThresholds | None = None,
    first_days: ir.Table | None = None,
) -> RfmMigrationResult:
    """Count who moved from which segment to which between two days.

    Args:
        orders: user_id, ts (UTC), amount; as in `measure_rfm`.
        before, now: the two days, for example `Quarter.period.last_day` of two quarters.
        by: the handbook's tiers or the eight cells.
        calendar: the company's clock.
        split, thresholds: as in `measure_rfm`. Without thresholds, those of `before` part customers at both days, so
            that nobody moves because others did.
        first_days: user_id, first_day: who was known since when, buyer or not. Without it only customers are known,
            and nobody is "not_yet".

    Returns:
        An `RfmMigrationResult`.

    Raises:
        InputError: `before` is not before `now`, or a column is missing.

    >>> times = [dt.datetime(2026, 1, 3), dt.datetime(2026, 3, 9), dt.datetime(2026, 4, 9)]
    >>> orders = ibis.memtable({"user_id": [1, 2, 3], "ts": times, "amount": [10.0, 80.0, 20.0]})
    >>> moved = measure_rfm_migration(orders, before=dt.date(2026, 3, 31), now=dt.date(2026, 6, 30))
    >>> known = moved.matrix[moved.matrix["customers_count"] > 0]
    >>> known[["from_segment", "to_segment", "customers_count"]].to_numpy().tolist()
    [['new', 'dormant', 1], ['high_value', 'dormant', 1], ['dormant', 'dormant', 1]]
    """
    if not before < now:
        raise InputError(f"before ({before}) must lie before now ({now}).")
    calendar = calendar or Calendar()
    early, late = (_keep_customers(orders, day, calendar) for day in (before, now))
    limits = thresholds or choose_thresholds(early, split) or choose_thresholds(late, split)
    labels = [label_cells(t, limits or RfmThresholds(0, 0, 0)).select("user_id", segment=by) for t in (early, late)]
    names = list(TIERS) if by == "tier" else list(CELLS.values())
    counted = _count_moves(labels[0], labels[1], first_days, before, now)
    starts, ends = [NEW, NOT_YET, *names], [NOT_YET, *names]
    wide = counted.pivot_table(index="start", columns="end", values="users", aggfunc="sum", fill_value=0)
    wide = wide.reindex(index=starts, columns=ends, fill_value=0).astype("int64")
    return RfmMigrationResult(before, now, by, limits, *_tabulate(wide))


def _keep_customers(orders: ir.Table, day: dt.date, calendar: Calendar) -> ir.Table:
    users = summarize_customers(orders, as_of=day, calendar=calendar)
    return users.filter(users.frequency_count > 0).cache()


def _count_moves(
    early: ir.Table, late: ir.Table, first_days: ir.Table | None, before: dt.date, now: dt.date
) -> pd.DataFrame:
    # Who was a customer once stays one, so everybody of the earlier day is in the later.
    late = late.rename(end="segment")
    moved = late.left_join(early.rename(start="segment"), "user_id").select("user_id", "start", "end")
    if first_days is None:
        moved = moved.mutate(start=moved.start.fill_null(NEW))
    else:
        known = first_days.filter(first_days.first_day <= now)
        known = known.group_by("user_id").aggregate(since=known.first_day.min())
        both = known.outer_join(moved, "user_id")
        waiting = ibis.ifelse((both.since <= before).fill_null(False), NOT_YET, NEW)
        moved = both.select(start=ibis.coalesce(both.start, waiting), end=both.end.fill_null(NOT_YET))
    return moved.group_by("start", "end").aggregate(users=moved.count()).to_pandas()


def _tabulate(wide: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame, dict[tuple[str, str], Estimate]]:
    rows, rates = [], {}
    counts = wide.to_numpy()
    for i, start in enumerate(wide.index):
        opening = int(counts[i].sum())
        for j, end in enumerate(wide.columns):
            users = int(counts[i, j])
            e = estimate_rate("migration_rate", users, opening)
            rows.append((start, end, users, opening, e.value, e.low, e.high))
            if opening:
                rates[str(start), str(end)] = e
    columns = ["from_segment", "to_segment", "customers_count", "from_count", "migration_rate", "low_rate", "high_rate"]
    matrix = pd.DataFrame(rows, columns=columns).astype(dict.fromkeys(columns[4:], float))
    balance = []
    for name in wide.columns:
        i, j = wide.index.tolist().index(name), wide.columns.tolist().index(name)
        opening, closing, stayed = int(counts[i].sum()), int(counts[:, j].sum()), int(counts[i, j])
        balance.append((name, opening, closing - stayed, opening - stayed, closing, closing - opening))
    names = ["segment", "opening_count", "in_count", "out_count", "closing_count", "net_count"]
    return matrix, pd.DataFrame(balance, columns=names), rates

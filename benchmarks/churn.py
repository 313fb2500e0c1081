"""Survival and RFM on 20 million events against a bare scan, and a purchase model of a million customers.

From Parquet to result, each in a process of its own with two threads. `python -m benchmarks.churn TASK FOLDER` runs one
and prints one JSON line. RFM takes each event as an order of 1, which is harder than any company's orders.
"""

from __future__ import annotations

import datetime as dt
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks._measured import CACHE, THREADS, Measured, check, describe_machine, find_large_sample, race, report_run
from benchmarks._peers import Rows, files

MOST_OF_SCAN = 3.0
MOST_FIT_SECONDS = 60.0
CUSTOMERS = 1_000_000
AS_OF = dt.date(2026, 6, 30)
NAMES = {"survival": "Kaplan-Meier of all users", "rfm": "RFM tiers and cells", "fit": "BG/NBD and Gamma-Gamma"}


def run() -> int:
    """Measure and print; 0 when all limits hold, else 1."""
    folder, orders = str(find_large_sample()), str(find_customers())
    print("churn: 20 million events; a million customers; Parquet to result, 2 threads, median (min to max)")
    print(f"  {describe_machine()}")
    ways = {task: ["benchmarks.churn", task, orders if task == "fit" else folder] for task in TASKS}
    ways["scan"] = ["benchmarks._peers", "scan", "duckdb", folder]
    ways["scan_times"] = ["benchmarks._peers", "scan_times", "duckdb", folder]
    found = race(ways)
    measured = {name: Measured(name, tuple(one["seconds"] for one in rounds)) for name, rounds in found.items()}
    for name, seconds in measured.items():
        print(f"    {seconds}   {max(one['peak_mb'] for one in found[name]):6,.0f} MB")
    good = [
        check(f"of counting distinct users: {NAMES[t]}", measured[t], measured["scan"], MOST_OF_SCAN)
        for t in ("survival", "rfm")
    ]
    for task in ("survival", "rfm"):
        floor = measured[task].median / measured["scan_times"].median
        print(f"  ({floor:.2f} x of each user's last time: {NAMES[task]}; no limit)")
    fits = measured["fit"].median <= MOST_FIT_SECONDS
    verdict = "holds" if fits else "MISSED"
    print(f"  {measured['fit'].median:.1f} s to fit a million customers: {verdict} (at most {MOST_FIT_SECONDS:.0f} s)")
    return 0 if all([*good, fits]) else 1


def find_customers() -> Path:
    """Orders of a million customers who buy and stop as BG/NBD says, made on first use and kept."""
    path = CACHE / f"orders-{CUSTOMERS}.parquet"
    if not path.exists():
        import numpy as np
        import pandas as pd

        rng = np.random.default_rng(2048)
        print(f"  generating orders of {CUSTOMERS:,} customers, once ...", flush=True)
        born = rng.uniform(0, 500, CUSTOMERS)
        rate, stop = rng.gamma(0.8, 1 / 60.0, CUSTOMERS), rng.beta(0.8, 2.4, CUSTOMERS)
        user, at = np.arange(CUSTOMERS), born
        users, times = [user], [born]
        while len(user):
            alive = rng.random(len(user)) > stop[user]
            user, at = user[alive], at[alive] + rng.exponential(1 / rate[user[alive]])
            known = at < 545
            user, at = user[known], at[known]
            users.append(user)
            times.append(at)
        buyer = np.concatenate(users)
        mean = rng.gamma(6.25, 1 / rng.gamma(3.74, 1 / 15.44, CUSTOMERS))
        moments = pd.Timestamp("2025-01-01") + pd.to_timedelta(np.concatenate(times), unit="D").round("s")
        amount = np.round(mean[buyer] * rng.gamma(4, 0.25, len(buyer)) + 0.01, 2)
        path.parent.mkdir(parents=True, exist_ok=True)
        pd.DataFrame({"user_id": buyer, "ts": moments.astype("datetime64[us]"), "amount": amount}).to_parquet(path)
    return path


def measure_lives(folder: str) -> Rows:
    """Users measured, users who left, median tenure."""
    from opslib.measure.churn.definition import define_churn
    from opslib.measure.survival.lifetimes import find_lifetimes
    from opslib.measure.survival.survival import measure_survival

    events, calendar = _open(files(folder))
    definition = define_churn(events.limit(0), as_of=AS_OF, calendar=calendar, inactive_days=30)
    result = measure_survival(find_lifetimes(events, definition, calendar=calendar))
    return [(result.users_count, result.left_count, float(result.summary["median_tenure"].iloc[0]))]


def measure_tiers(folder: str) -> Rows:
    """Tier and customers."""
    from opslib.measure.rfm.rfm import measure_rfm

    events, calendar = _open(files(folder))
    result = measure_rfm(events.select("user_id", "ts").mutate(amount=1.0), as_of=AS_OF, calendar=calendar)
    return list(zip(result.tiers["tier"], result.tiers["customers_count"].tolist(), strict=True))


def fit_customers(path: str) -> Rows:
    """Parameter and value."""
    from opslib.measure.purchase_model.purchase_model import fit_purchase_model

    orders, calendar = _open(path)
    model = fit_purchase_model(orders, as_of=AS_OF, calendar=calendar)
    return list(zip(model.parameters["parameter"], model.parameters["value"].round(4).tolist(), strict=True))


def _open(source: str) -> tuple[Any, Any]:
    import ibis

    from opslib.data.periods import Calendar

    table = ibis.duckdb.connect(threads=THREADS).read_parquet(source)
    return table, Calendar("Asia/Shanghai", 0, dt.datetime(2024, 12, 31, 16), dt.datetime(2026, 6, 30, 16))


TASKS: dict[str, Callable[[str], Rows]] = {"survival": measure_lives, "rfm": measure_tiers, "fit": fit_customers}


def main(task: str, folder: str) -> None:
    """Run one once; what it imports is imported before the clock starts."""
    import ibis
    import lifelines

    import opslib.measure.purchase_model.purchase_model
    import opslib.measure.rfm.rfm
    import opslib.measure.survival.survival  # noqa: F401

    assert ibis.duckdb and lifelines  # loads the engines
    report_run(TASKS[task], folder)


if __name__ == "__main__":
    main(*sys.argv[1:3])

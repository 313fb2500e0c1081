"""Churn beside hand-written peers and bare scans, and a purchase model of a million customers.

From Parquet to result, each in a process of its own with two threads; all must count the same. `python -m
benchmarks.churn PATH` fits the purchase model alone and prints one JSON line.
"""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks._churn_peers import AS_OF
from benchmarks._engines import Rows
from benchmarks._measured import CACHE, SIZES, check, describe_machine, find_large_sample, race, report_run
from benchmarks._ours import FAMILIES, open_events
from benchmarks._tasks import OURS, find_best, race_scans, race_task

MOST_OF_PEER = 1.0
MOST_OF_SCAN = 3.0
MOST_FIT_SECONDS = 60.0
CUSTOMERS = 1_000_000
# Held to the scan of what they read: one row a user is all that they need.
ONE_PASS = ("survival", "rfm")


def run() -> int:
    """Measure and print; 0 when all limits hold, else 1."""
    folder = str(find_large_sample(SIZES[0]))
    print(f"churn: {SIZES[0]:,} events, Parquet to result, 2 threads, median (min to max)")
    print(f"  {describe_machine()}")
    good = [compare_task(task, folder) for task in FAMILIES["churn"]]
    fit = race({"fit": ["benchmarks.churn", str(find_customers())]})["fit"]
    print(f"    {fit}")
    fits = fit.median <= MOST_FIT_SECONDS
    verdict = "holds" if fits else "MISSED"
    print(f"  {fit.median:.1f} s to fit a million customers: {verdict} (at most {MOST_FIT_SECONDS:.0f} s)")
    return 0 if all([*good, fits]) else 1


def compare_task(task: str, folder: str) -> bool:
    """Race one task on all engines."""
    print(f"  {FAMILIES['churn'][task]}")
    found, scans = race_task(task, folder), race_scans(folder)
    for measured in (found | scans).values():
        print(f"    {measured}")
    best = find_best(found)
    assert best is not None
    good = [check(f"of the best peer ({best.name})", found[OURS], best, MOST_OF_PEER)]
    if task in ONE_PASS:
        good.append(check("of counting distinct users", found[OURS], scans["scan"], MOST_OF_SCAN))
        floor = found[OURS].median / scans["scan_times"].median
        print(f"  ({floor:.2f} x of each user's last time; no limit)")
    return all(good)


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


def fit_customers(path: str) -> Rows:
    """Parameter and value."""
    from opslib.measure.purchase_model.purchase_model import fit_purchase_model

    orders, calendar = open_events(path)
    model = fit_purchase_model(orders, as_of=AS_OF, calendar=calendar)
    return list(zip(model.parameters["parameter"], model.parameters["value"].round(4).tolist(), strict=True))


def main(path: str) -> None:
    """Fit once; what it imports is imported before the clock starts."""
    import ibis

    import opslib.measure.purchase_model.purchase_model  # noqa: F401

    assert ibis.duckdb  # loads the engine
    report_run(fit_customers, path)


if __name__ == "__main__":
    main(sys.argv[1])

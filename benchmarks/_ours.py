"""The tasks on opslib, a program of its own: `python -m benchmarks._ours TASK FOLDER [MEMORY_GB]`.

From Parquet to result, as the peers' program `_peers.py`, and with one JSON line as there. Ours give more than what is
compared: intervals, medians, times to convert.
"""

from __future__ import annotations

import datetime as dt
import sys
from collections.abc import Callable
from typing import Any

from benchmarks._churn_peers import AS_OF, HORIZON_DAYS, INACTIVE_DAYS
from benchmarks._engines import Rows, files
from benchmarks._funnel_peers import PLATFORM, STEPS, WINDOW_DAYS
from benchmarks._growth_peers import END_DAY, FIRST_DAY, HORIZON, STICKINESS_DAYS, WINDOWS
from benchmarks._measured import ENGINE_GB, THREADS, report_run

FAMILIES = {
    "growth": {
        "growth": "growth accounting by week",
        "triangle": "day-retention triangle",
        "activity": "daily, weekly, monthly active users, stickiness",
    },
    "funnel": {
        "funnel": f"funnel of {len(STEPS)} steps in {WINDOW_DAYS} days",
        "platforms": "the same funnel by platform",
    },
    "churn": {
        "returns": "chance to return by days of silence",
        "months": "churn by month",
        "survival": "survival of all users",
        "rfm": "RFM tiers and scores",
    },
}


def account_weeks(events: Any, calendar: Any) -> Rows:
    """Week, new, retained, resurrected, churned."""
    from opslib.measure.growth import account_growth

    frame = account_growth(events, _span(), grain="week", calendar=calendar).periods
    weeks = frame["period_start"].dt.strftime("%Y-%m-%d").tolist()
    columns = [f"{name}_count" for name in ("new", "retained", "resurrected", "churned")]
    return list(zip(weeks, *(frame[c].tolist() for c in columns), strict=True))


def measure_triangle(events: Any, calendar: Any) -> Rows:
    """Cohort, day, users who came back, without the empty cells."""
    from opslib.measure.cohorts import measure_cohorts

    result = measure_cohorts(events, period=_span(), as_of=AS_OF, calendar=calendar, intervals=HORIZON)
    cells = result.triangle[result.triangle["mature"] & (result.triangle["retained_count"] > 0)]
    days = cells["cohort_start"].dt.strftime("%Y-%m-%d")
    return list(zip(days, cells["n"].tolist(), cells["retained_count"].astype(int).tolist(), strict=True))


def measure_days(events: Any, calendar: Any) -> Rows:
    """Day, its users, those of the 7 and 30 days to it; then what makes stickiness."""
    from opslib.measure.activity import measure_activity

    # As `Data.active_days` keeps them.
    days = events.select("user_id", day=calendar.local_day(events.ts)).distinct().cache()
    result = measure_activity(days, _span())
    frame = result.daily
    assert len(WINDOWS) == 3
    counts = (frame[f"{name}_count"].tolist() for name in ("dau", "wau", "mau"))
    rows: Rows = list(zip(frame["day"].dt.strftime("%Y-%m-%d"), *counts, strict=True))
    sticky = result.stickiness
    return [*rows, ("stickiness", round(sticky.numerator * STICKINESS_DAYS), int(sticky.denominator))]


def count_steps(events: Any, calendar: Any, breakdown: str = "") -> Rows:
    """Segment (empty without), step, users."""
    from opslib.measure.funnel.funnel import measure_funnel

    week = dt.timedelta(days=WINDOW_DAYS)
    result = measure_funnel(
        events,
        STEPS,
        window=week,
        period=_span(),
        # A week past the data: every window counts as over, as for the peers.
        as_of=AS_OF + week,
        calendar=calendar,
        breakdown=breakdown,
    )
    frame = result.steps if result.by_segment is None else result.by_segment
    segments = frame["segment"] if breakdown else [""] * len(frame)
    return sorted(zip(segments, frame["step"].tolist(), frame["converted_count"].tolist(), strict=True))


def count_platforms(events: Any, calendar: Any) -> Rows:
    """Platform, step, users."""
    return count_steps(events, calendar, PLATFORM)


def measure_returns(events: Any, calendar: Any) -> Rows:
    """Silent days, silences, those that ended within the horizon, chance to return."""
    from opslib.measure.churn.definition import define_churn

    curve = define_churn(events, as_of=AS_OF, calendar=calendar, horizon_days=HORIZON_DAYS, minimum=0).curve
    columns = [curve[name].tolist() for name in ("silent_days", "silences_count", "returned_count")]
    return list(zip(*columns, curve["return_rate"].round(9).tolist(), strict=True))


def measure_months(events: Any, calendar: Any) -> Rows:
    """Month, customers when it starts, new, returned, left, customers when it ends."""
    from opslib.measure.churn.definition import find_spells
    from opslib.measure.churn.rates import measure_churn

    definition = _define(events, calendar)
    frame = measure_churn(find_spells(events, definition, calendar=calendar), definition).periods
    frame = frame[frame["mature"]]
    names = ("opening", "new", "returned", "left", "closing")
    columns = [frame[f"{name}_count"].astype(int).tolist() for name in names]
    return list(zip(frame["period_start"].dt.strftime("%Y-%m"), *columns, strict=True))


def measure_lives(events: Any, calendar: Any) -> Rows:
    """Tenure, users at risk, users who left at it."""
    from opslib.measure.survival.lifetimes import find_lifetimes
    from opslib.measure.survival.survival import measure_survival

    lives = find_lifetimes(events, _define(events, calendar), calendar=calendar)
    frame = measure_survival(lives).survival
    return list(zip(*(frame[name].tolist() for name in ("tenure", "at_risk_count", "left_count")), strict=True))


def measure_tiers(events: Any, calendar: Any) -> Rows:
    """Tier and customers; then dimension, score, customers, lowest and highest value."""
    from opslib.measure.rfm.rfm import measure_rfm

    # Each event as an order of 1, which is harder than any company's orders.
    result = measure_rfm(events.select("user_id", "ts").mutate(amount=1.0), as_of=AS_OF, calendar=calendar)
    tiers: Rows = [("tier", tier, n, 0.0, 0.0) for tier, n in result.tiers[["tier", "customers_count"]].to_numpy()]
    names = ["dimension", "score", "customers_count", "lowest", "highest"]
    scores = [(d, f"{s}", int(n), low, high) for d, s, n, low, high in result.scores[names].itertuples(index=False)]
    return sorted([*tiers, *scores])


def count_unbounded(events: Any, calendar: Any) -> Rows:
    """Users by step of a funnel whose window never ends: what retentioneering counts."""
    from opslib.measure.funnel.funnel import measure_funnel

    years = dt.timedelta(days=2 * (END_DAY - FIRST_DAY).days)
    funnel = measure_funnel(events, STEPS, window=years, period=_span(), as_of=AS_OF + years, calendar=calendar)
    return [("", step, n) for step, n in zip(funnel.steps["step"], funnel.steps["converted_count"], strict=True)]


def _define(events: Any, calendar: Any) -> Any:
    """The definition with a given number of days, without measuring how likely a return is after them."""
    from opslib.measure.churn.definition import define_churn

    return define_churn(events.limit(0), as_of=AS_OF, calendar=calendar, inactive_days=INACTIVE_DAYS)


def _span() -> Any:
    from opslib.data.periods import Period

    return Period(FIRST_DAY, END_DAY, "all")


OURS: dict[str, Callable[[Any, Any], Rows]] = {
    "growth": account_weeks,
    "triangle": measure_triangle,
    "activity": measure_days,
    "funnel": count_steps,
    "platforms": count_platforms,
    "returns": measure_returns,
    "months": measure_months,
    "survival": measure_lives,
    "rfm": measure_tiers,
    "unbounded": count_unbounded,
}


def open_events(folder: str, memory_gb: float = ENGINE_GB) -> tuple[Any, Any]:
    """The events on an engine with bounded memory, and the sample company's clock."""
    import ibis

    from opslib.data.memory_limit import limit_memory
    from opslib.data.periods import Calendar

    connection = ibis.duckdb.connect(threads=THREADS)
    limit_memory(connection, memory_gb)
    calendar = Calendar("Asia/Shanghai", 0, dt.datetime(2024, 12, 31, 16), dt.datetime(2026, 7, 8, 16))
    return connection.read_parquet(files(folder)), calendar


def main(task: str, folder: str, memory_gb: str = str(ENGINE_GB)) -> None:
    """Run one task once; what it imports is imported before the clock starts, as for the peers."""
    import ibis
    import lifelines

    import opslib.measure.churn.rates
    import opslib.measure.cohorts
    import opslib.measure.funnel.funnel
    import opslib.measure.rfm.rfm
    import opslib.measure.survival.survival  # noqa: F401

    assert ibis.duckdb and lifelines  # loads the engines
    report_run(lambda at: OURS[task](*open_events(at, float(memory_gb))), folder)


if __name__ == "__main__":
    main(*sys.argv[1:4])

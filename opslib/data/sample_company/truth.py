"""`truth.json`: what was planted in a sample and what it came to in the data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from datetime import timedelta
from typing import Any

import numpy as np

from opslib.data.sample_company.aggregates import daily_spend
from opslib.data.sample_company.company import (
    BINS_PER_DAY,
    CHANNELS,
    CURRENCY,
    EXPERIMENTS,
    GENERATOR,
    GENERATOR_VERSION,
    TIME_ZONE,
    Ints,
    SampleSettings,
)
from opslib.data.sample_company.incidents import KINDS, Effects, Incident
from opslib.data.sample_company.realised import (
    ESTABLISHED_DAYS,
    EXPIRY_WINDOW_DAYS,
    Pairs,
    compare_cells,
    measure_of,
    windows,
)

MEASURES = {
    "d1": "users active on the local day after sign-up / sign-ups, by day of sign-up",
    "d7": "users active on the seventh local day after sign-up / sign-ups, by day of sign-up",
    "active_days_by_tenure": "active days at these tenures / days there were, by day of sign-up",
    "active_rate": "active users / users signed up by then, summed over days",
    "signups": "sign-ups / days",
    "spend": "CNY spent on the channel / days",
    "step_rate": "sessions with the later step / sessions with the earlier step",
    "order_rate": "orders / users signed up by then, summed over days",
    "complaint_rate": "distinct complaining users / distinct active users, summed over days",
    "satisfied_rate": "csat answers of 4 or 5 / csat answers",
    "requests": "requests in the hours named / five-minute intervals",
    "promotion": "sale coupons redeemed / sale coupons issued",
    "churn_by_month": (
        "month m: users active in month m-1 and not in m / users active in m-1. Established: last active day "
        f"of m-1 at least {ESTABLISHED_DAYS} days after sign-up. Expired unused: a coupon never redeemed "
        "whose expires_at falls on the local day of the user's last activity in m-1 or on one of the "
        f"{EXPIRY_WINDOW_DAYS - 1} days before"
    ),
}


def describe_truth(
    settings: SampleSettings,
    incidents: tuple[Incident, ...],
    pairs: Pairs,
    traffic: Mapping[str, Ints],
    rows: Mapping[str, int],
) -> dict[str, Any]:
    """Everything that `truth.json` says."""
    effects = Effects(incidents, settings)
    stories: dict[str, dict[str, Any]] = {}
    for position, incident in enumerate(incidents):
        cells = _collect(pairs, position)
        _fill_company_cells(cells, incident, settings, effects, traffic)
        story = stories.setdefault(
            incident.id, {"id": incident.id, "start": incident.start, "end": incident.end, "changes": []}
        )
        story["start"], story["end"] = min(story["start"], incident.start), max(story["end"], incident.end)
        story["changes"].append(_describe_change(incident, settings, cells))
    for story in stories.values():
        story["start"], story["end"] = str(story["start"]), str(story["end"])
    return {
        "generator": GENERATOR,
        "generator_version": GENERATOR_VERSION,
        "settings": {
            "users": settings.users,
            "chunk_users": settings.chunk_users,
            "seed": settings.seed,
            "start": str(settings.start),
            "end": str(settings.end),
            "time_zone": TIME_ZONE,
            "currency": CURRENCY,
            "rates": asdict(settings.rates),
        },
        "conventions": {
            "dates": "local days in the time zone; start inclusive, end exclusive",
            "timestamps": "UTC without a zone",
            "size": "factor on the rate; a list has one factor for each calendar month from start",
            "hidden": "added_by_signups is known to the generator alone: sign-ups above the ordinary plan",
            "before": "as many days right before start, 28 at least",
        },
        "rows": dict(rows),
        "measures": MEASURES,
        "incidents": list(stories.values()),
        "experiments": [{**asdict(e), "start": str(e.start), "end": str(e.end)} for e in EXPERIMENTS],
    }


def _collect(pairs: Pairs, position: int) -> dict[str, tuple[float, float]]:
    names = dict.fromkeys(cell for at, cell, _ in pairs if at == position)
    return {cell: (pairs[position, cell, "n"], pairs[position, cell, "d"]) for cell in names}


def _fill_company_cells(
    cells: dict[str, tuple[float, float]],
    incident: Incident,
    settings: SampleSettings,
    effects: Effects,
    traffic: Mapping[str, Ints],
) -> None:
    spans = windows(incident, settings)
    if incident.kind == "signups":
        for cell, (count, _) in list(cells.items()):
            first, end = spans[cell.rpartition("_")[2]]
            cells[cell] = (count, end - first)
    elif incident.kind == "spend":
        spend = daily_spend(settings, effects)
        codes = np.arange(len(CHANNELS))
        mask = np.broadcast_to(incident.who.match(lambda _column: codes), len(codes))
        for part, chosen in (("segment", mask), ("rest", ~mask)):
            for when, (first, end) in spans.items():
                cells[f"{part}_{when}"] = (round(float(spend[first:end, chosen].sum()), 2), end - first)
    elif incident.kind == "requests":
        requests = traffic["requests"].reshape(settings.days, BINS_PER_DAY)
        low, high = (12 * hour for hour in incident.hours or (0, 24))
        for when, (first, end) in spans.items():
            block = requests[first:end, low:high]
            cells[f"segment_{when}"] = (int(block.sum()), block.size)


def _describe_change(
    incident: Incident, settings: SampleSettings, cells: dict[str, tuple[float, float]]
) -> dict[str, Any]:
    spans = windows(incident, settings)
    realised: dict[str, Any] = {"measure": measure_of(incident)}
    if "segment_during" in cells:
        realised["windows"] = {
            when: [str(settings.start + timedelta(days=day)) for day in span] for when, span in spans.items()
        }
        # Money and requests come in lumps: a spread of counted users would be far too narrow for them.
        if incident.kind not in ("spend", "requests", "promotion"):
            realised.update(compare_cells(cells, incident))
    realised["cells"] = {
        cell: {"numerator": count, "denominator": total, "rate": round(count / total, 5) if total else None}
        for cell, (count, total) in cells.items()
    }
    return {
        "kind": incident.kind,
        "rate_changed": KINDS[incident.kind],
        "start": str(incident.start),
        "end": str(incident.end),
        "hours": list(incident.hours) if incident.hours else None,
        "segment": incident.who.as_dict(),
        "size": list(incident.size) if isinstance(incident.size, tuple) else incident.size,
        "description": incident.description,
        "realised": realised,
    }

"""What each incident came to: counts taken from the generated data, beside what was planted.

Every figure is a pair (numerator, denominator), for the incident's segment and for the rest, during the
incident and before it. Pairs of chunks add up, so a sample of any size is counted in one pass.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable

import numpy as np

from opslib.data.sample_company.company import (
    DAY_SECONDS,
    MID_YEAR,
    Bools,
    Ints,
    SampleSettings,
    month_of_days,
)
from opslib.data.sample_company.incidents import EXPERIMENTS, Incident, Segment
from opslib.data.sample_company.simulate import Chunk

MIN_BEFORE_DAYS = 28
ESTABLISHED_DAYS = 30
EXPIRY_WINDOW_DAYS = 14
_CHURN_MONTHS_BEFORE = 3
_HIDDEN = ("added_by_signups",)
_ARMS = tuple(experiment.name for experiment in EXPERIMENTS)

Pairs = Counter[tuple[int, str, str]]
"""(position of the incident, cell, "n" or "d") -> count."""


def visible_part(who: Segment) -> Segment:
    """The segment without what only the simulator knows."""
    return Segment(tuple(pair for pair in who.where if pair[0] not in _HIDDEN), who.tenure)


def windows(incident: Incident, settings: SampleSettings) -> dict[str, tuple[int, int]]:
    """Days during the incident, and as many (28 at least) right before it; clipped to the data."""
    first, end = settings.day_of(incident.start), settings.day_of(incident.end)
    length = max(end - first, MIN_BEFORE_DAYS)

    def clip(day: int) -> int:
        return min(max(day, 0), settings.days)

    spans = {"during": (first, end), "before": (first - length, first)}
    return {when: (clip(low), clip(high)) for when, (low, high) in spans.items()}


def measure_of(incident: Incident) -> str:
    """The name of the figure that shows this incident."""
    kind, tenure = incident.kind, incident.who.tenure
    if kind == "leave_rate":
        return "d1" if tenure is not None and tenure[1] == 0 else "churn_by_month"
    if kind == "return_rate":
        if tenure is not None:
            return "d1" if tenure == (1, 1) else "active_days_by_tenure"
        return "d7" if (incident.end - incident.start).days >= MIN_BEFORE_DAYS else "active_rate"
    return kind.partition(":")[0]


def count_chunk(chunk: Chunk, settings: SampleSettings, incidents: tuple[Incident, ...]) -> Pairs:
    """Count one chunk for all incidents."""
    pairs: Pairs = Counter()
    for position, incident in enumerate(incidents):
        count = _COUNTERS.get(measure_of(incident))
        if count is None:
            continue  # belongs to the company's own tables
        for cell, value, total in count(chunk, settings, incident):
            pairs[position, cell, "n"] += int(value)
            pairs[position, cell, "d"] += int(total)
    return pairs


Cells = list[tuple[str, int, int]]


def _split(chunk: Chunk, incident: Incident, rows: Ints | None = None, **extra: np.ndarray) -> dict[str, Bools]:
    """Masks of the segment and of the rest; with an experiment, the rest is its other side."""
    who = Segment(visible_part(incident.who).where)
    users = np.arange(chunk.users.count) if rows is None else rows
    codes = chunk.users.codes
    mask = who.match(lambda name: extra[name] if name in extra else codes[name][users])
    segment = np.broadcast_to(np.asarray(mask, dtype=bool), len(users))
    eligible = np.ones(len(users), dtype=bool)
    for name, _ in who.where:
        if name in _ARMS:
            eligible &= codes[name][users] >= 0
    return {"segment": segment & eligible, "rest": ~segment & eligible}


def _cells(
    masks: dict[str, Bools],
    spans: dict[str, tuple[int, int]],
    day: Ints,
    value: np.ndarray,
    total: np.ndarray | int,
) -> Cells:
    cells = []
    totals = np.broadcast_to(total, len(day))
    for part, mask in masks.items():
        for when, (first, end) in spans.items():
            chosen = mask & (day >= first) & (day < end)
            cells.append((f"{part}_{when}", value[chosen].sum(), totals[chosen].sum()))
    return cells


def _count_return(tenures: tuple[int, int]) -> Callable[[Chunk, SampleSettings, Incident], Cells]:
    def count(chunk: Chunk, settings: SampleSettings, incident: Incident) -> Cells:
        low, high = tenures if tenures != (0, 0) else incident.who.tenure or (1, 1)
        signup = chunk.users.signup_day
        tenure = chunk.active["day"] - signup[chunk.active["user"]]
        hits = np.bincount(chunk.active["user"][(tenure >= low) & (tenure <= high)], minlength=chunk.users.count)
        whole = signup + high < settings.days  # only users who had all these days
        masks = {part: mask & whole for part, mask in _split(chunk, incident).items()}
        return _cells(masks, windows(incident, settings), signup, hits, high - low + 1)

    return count


def _count_active(chunk: Chunk, settings: SampleSettings, incident: Incident) -> Cells:
    cells = []
    for part, mask in _split(chunk, incident).items():
        active = np.bincount(chunk.active["day"][mask[chunk.active["user"]]], minlength=settings.days)
        known = np.cumsum(np.bincount(chunk.users.signup_day[mask], minlength=settings.days))
        for when, (first, end) in windows(incident, settings).items():
            cells.append((f"{part}_{when}", active[first:end].sum(), known[first:end].sum()))
    return cells


def _count_signups(chunk: Chunk, settings: SampleSettings, incident: Incident) -> Cells:
    day = chunk.users.signup_day
    ones = np.ones(len(day), dtype=np.int64)
    # Its denominator is days, which do not add up over chunks: filled in when the counts are complete.
    return _cells(_split(chunk, incident), windows(incident, settings), day, ones, 0)


def _count_steps(chunk: Chunk, settings: SampleSettings, incident: Incident) -> Cells:
    source, _, target = incident.kind.partition(":")[2].partition("->")
    shop = chunk.shopping
    base = np.ones(len(shop["user"]), dtype=bool) if source == "view_item" else shop[source]
    if incident.hours is not None:
        base = base & (shop["hour"] >= incident.hours[0]) & (shop["hour"] < incident.hours[1])
    masks = _split(chunk, incident, shop["user"], app_version=shop["app_version"])
    return _cells(masks, windows(incident, settings), shop["day"], base & shop[target], base)


def _count_orders(chunk: Chunk, settings: SampleSettings, incident: Incident) -> Cells:
    cells = []
    order = chunk.tables["orders"]
    day = order["second"] // DAY_SECONDS
    for part, mask in _split(chunk, incident).items():
        known = np.cumsum(np.bincount(chunk.users.signup_day[mask], minlength=settings.days))
        for when, (first, end) in windows(incident, settings).items():
            made = mask[order["user"]] & (day >= first) & (day < end)
            cells.append((f"{part}_{when}", made.sum(), known[first:end].sum()))
    return cells


def _count_complaints(chunk: Chunk, settings: SampleSettings, incident: Incident) -> Cells:
    ticket = chunk.tables["tickets"]
    day = ticket["opened"] // DAY_SECONDS
    cells = []
    for part, mask in _split(chunk, incident).items():
        for when, (first, end) in windows(incident, settings).items():
            raised = ticket["is_complaint"] & mask[ticket["user"]] & (day >= first) & (day < end)
            people = len(np.unique(ticket["user"][raised] * settings.days + day[raised]))
            active = mask[chunk.active["user"]] & (chunk.active["day"] >= first) & (chunk.active["day"] < end)
            cells.append((f"{part}_{when}", people, active.sum()))
    return cells


def _count_satisfied(chunk: Chunk, settings: SampleSettings, incident: Incident) -> Cells:
    survey = chunk.tables["surveys"]
    csat = survey["kind"] == 1
    rows = {name: values[csat] for name, values in survey.items()}
    masks = _split(chunk, incident, rows["user"])
    return _cells(masks, windows(incident, settings), rows["second"] // DAY_SECONDS, rows["score"] >= 4, 1)


def _count_coupons(chunk: Chunk, settings: SampleSettings, incident: Incident) -> Cells:
    coupon = chunk.tables["coupons"]
    first, end = windows(incident, settings)["during"]
    day = coupon["issued"] // DAY_SECONDS
    sale = (coupon["offer"] == MID_YEAR) & (day >= first - 1) & (day < end)
    return [("segment_during", (coupon["redeemed"][sale] >= 0).sum(), sale.sum())]


def _count_churn(chunk: Chunk, settings: SampleSettings, incident: Incident) -> Cells:
    """Monthly churn: active in one month, not in the next; established: 30 days or more after sign-up."""
    months = month_of_days(settings)
    seen = np.full((chunk.users.count, months[-1] + 1), -1)
    seen[chunk.active["user"], months[chunk.active["day"]]] = chunk.active["day"]  # days come in order
    coupon = chunk.tables["coupons"]
    unused = coupon["redeemed"] < 0
    who, lapsed = coupon["user"][unused], coupon["expires"][unused] // DAY_SECONDS
    begin, end = windows(incident, settings)["during"]
    if begin >= end:
        return []
    first, last = int(months[begin]) + 1, min(int(months[end - 1]) + 1, int(months[-1]))
    cells = []
    for month in range(max(1, first - _CHURN_MONTHS_BEFORE), last + 1):
        since = seen[who, month - 1] - lapsed
        hit = np.zeros(chunk.users.count, dtype=bool)
        hit[who[(seen[who, month - 1] >= 0) & (since >= 0) & (since < EXPIRY_WINDOW_DAYS)]] = True
        before = seen[:, month - 1] >= 0
        gone = before & (seen[:, month] < 0)
        old = before & (seen[:, month - 1] - chunk.users.signup_day >= ESTABLISHED_DAYS)
        name = f"{settings.start.year + (settings.start.month - 1 + month) // 12}-"
        name += f"{(settings.start.month - 1 + month) % 12 + 1:02d}"
        cells += [
            (f"churned/active_last_month {name}", gone.sum(), before.sum()),
            (f"churned/active_last_month, established {name}", (gone & old).sum(), old.sum()),
            (f"expired_unused/leavers, established {name}", (gone & old & hit).sum(), (gone & old).sum()),
            (f"expired_unused/stayers, established {name}", (~gone & old & hit).sum(), (~gone & old).sum()),
            (f"expired_unused/leavers, all {name}", (gone & hit).sum(), gone.sum()),
        ]
        if month >= first:
            cells += [
                (
                    "expired_unused/leavers, established, all incident months",
                    (gone & old & hit).sum(),
                    (gone & old).sum(),
                ),
                (
                    "expired_unused/stayers, established, all incident months",
                    (~gone & old & hit).sum(),
                    (~gone & old).sum(),
                ),
            ]
    return cells


_COUNTERS: dict[str, Callable[[Chunk, SampleSettings, Incident], Cells]] = {
    "d1": _count_return((1, 1)),
    "d7": _count_return((7, 7)),
    "active_days_by_tenure": _count_return((0, 0)),
    "active_rate": _count_active,
    "signups": _count_signups,
    "step_rate": _count_steps,
    "order_rate": _count_orders,
    "complaint_rate": _count_complaints,
    "satisfied_rate": _count_satisfied,
    "promotion": _count_coupons,
    "churn_by_month": _count_churn,
}


def compare_cells(cells: dict[str, tuple[float, float]], incident: Incident) -> dict[str, float | str]:
    """Relative change with its control, and how many standard errors it is from none.

    An experiment compares its sides; a segment compares its change with that of the rest; an incident for
    everybody compares with before.
    """

    def log_rate(cell: str) -> tuple[float, float]:
        count, total = cells[cell]
        # A share has a binomial spread; a count a day (more than one per unit) that of a Poisson count.
        return math.log(count / total), 1.0 / count - (1.0 / total if count <= total else 0.0)

    arms = any(name in _ARMS for name, _ in incident.who.where)
    terms: tuple[tuple[str, int], ...]
    if arms:
        terms, control = (("segment_during", 1), ("rest_during", -1)), "the other side of the split, during"
    elif cells.get("rest_during", (0, 0))[1] and not cells.get("segment_before", (0, 0))[1]:
        terms, control = (("segment_during", 1), ("rest_during", -1)), "the rest, during: no segment before"
    elif visible_part(incident.who).where:
        terms = (("segment_during", 1), ("segment_before", -1), ("rest_during", -1), ("rest_before", 1))
        control = "change of the segment against change of the rest"
    else:
        terms, control = (("segment_during", 1), ("segment_before", -1)), "before"
    if any(cells.get(cell, (0, 0))[0] <= 0 or cells[cell][1] <= 0 for cell, _ in terms):
        return {"control": control}
    logs = [(sign, *log_rate(cell)) for cell, sign in terms]
    change = sum(sign * value for sign, value, _ in logs)
    error = math.sqrt(sum(variance for *_, variance in logs))
    return {
        "control": control,
        "relative_change": round(math.exp(change), 4),
        "standard_errors": round(change / error, 2) if error else 0.0,
    }

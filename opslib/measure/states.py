"""Users' states and the rates at which they move between them, day by day: the parts that a DAU forecast is made of.

A user's state follows from the last active day and, on active days, from the one before. So it is enough to count
active days by the gap to the next one: all that happens in between is arithmetic on those counts, and no row a user and
day is ever made.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import ibis
import ibis.expr.types as ir
import numpy as np
import pandas as pd

from opslib.data.periods import DAY, Period
from opslib.measure.estimate import Estimate, estimate_rate, to_plain_record

# Nobody yet: where users come from.
NOBODY = "none"
RATE_WINDOW_DAYS = 28
HISTORY_DAYS = 400
# Days since the first active one: each for itself in the first month, then tens of days, then all that is older. What
# users do depends on how long they have been there, not on their state alone.
AGE_BANDS = (*range(30), *range(30, 100, 10))


@dataclass(frozen=True)
class StateScheme:
    """Which state a user is in, by the number of periods between active ones.

    Attributes:
        returns: pairs (state, longest gap) of users active now who were active before, by the gap to the last active
            period: 1 is the period right before. The last has no longest gap.
        absent: pairs (state, from) of users not active now, by the number of periods that they have been absent.

    >>> DAILY_STATES.names
    ('new', 'current', 'reactivated', 'resurrected', 'at_risk_wau', 'at_risk_mau', 'dormant')
    """

    returns: tuple[tuple[str, int | None], ...]
    absent: tuple[tuple[str, int], ...]

    @property
    def active(self) -> tuple[str, ...]:
        """States of users who are active now."""
        return ("new", *(name for name, _ in self.returns))

    @property
    def names(self) -> tuple[str, ...]:
        """All states, active ones first."""
        return (*self.active, *(name for name, _ in self.absent))

    @property
    def final(self) -> int:
        """From how many absent periods on nothing changes any more until the user comes back."""
        return self.absent[-1][1]

    @property
    def breaks(self) -> tuple[int, ...]:
        """Longest gaps that are told apart: by the state on return, and by whether the last state was reached."""
        return tuple(sorted({*(gap for _, gap in self.returns if gap is not None), self.final}))

    def on_return(self, gap: int) -> str:
        """The state of a user active now and `gap` periods before."""
        return next(name for name, longest in self.returns if longest is None or gap <= longest)

    def while_absent(self, periods: int) -> str:
        """The state of a user who has been absent for so many periods, this one included."""
        return [name for name, first in self.absent if periods >= first][-1]


# Weekly active, monthly active: 7 and 30 days. A user is dormant who is not among the monthly active.
DAILY_STATES = StateScheme(
    returns=(("current", 7), ("reactivated", 30), ("resurrected", None)),
    absent=(("at_risk_wau", 1), ("at_risk_mau", 7), ("dormant", 30)),
)
RATES: dict[str, tuple[str, str]] = {
    "nurr_rate": ("new", "current"),
    "curr_rate": ("current", "current"),
    "rurr_rate": ("reactivated", "current"),
    "surr_rate": ("resurrected", "current"),
    "iwaurr_rate": ("at_risk_wau", "current"),
    "reactivation_rate": ("at_risk_mau", "reactivated"),
    "resurrection_rate": ("dormant", "resurrected"),
    "wau_loss_rate": ("at_risk_wau", "at_risk_mau"),
    "mau_loss_rate": ("at_risk_mau", "dormant"),
}


@dataclass(frozen=True)
class Flows:
    """Users by state, and how they moved.

    Attributes:
        scheme: the states.
        moved: users by period, band of ages (periods since the first active one), state before (the last place: nobody
            yet) and state now.
    """

    scheme: StateScheme
    moved: np.ndarray

    @property
    def stock(self) -> np.ndarray:
        """Users by period and state."""
        return self.moved.sum(axis=(1, 2))


@dataclass(frozen=True)
class StateRatesResult:
    """Users by state and day, and daily transition rates.

    Attributes:
        as_of: the last day.
        window_days: how many days the rates are pooled over.
        rates: name -> estimate. Of the users in a state, the share in another the day after: nurr (new, current),
            curr (current, current), rurr (reactivated, current), surr (resurrected, current), iwaurr (at_risk_wau,
            current), reactivation (at_risk_mau, reactivated), resurrection (dormant, resurrected), wau_loss
            (at_risk_wau, at_risk_mau), mau_loss (at_risk_mau, dormant).
        table: rate, from_state, to_state, users_count (who moved), opening_count (who could have), value_rate,
            low_rate, high_rate, dispersion_ratio (variance from day to day / what chance alone would make).
        daily: day, one column `{state}_count` a state, dau_count.
        transitions: from_state, to_state, users_count of the window, opening_count, transition_rate; all that occur.
        flows: the counts behind it all, which a forecast starts from.
    """

    as_of: dt.date
    window_days: int
    rates: dict[str, Estimate]
    table: pd.DataFrame
    daily: pd.DataFrame
    transitions: pd.DataFrame
    flows: Flows

    def findings(self) -> list[dict[str, Any]]:
        """The rates, and the last day's states, as flat records."""
        context = {"as_of": self.as_of.isoformat(), "window_days": self.window_days}
        records = [e.to_finding(**context) for e in self.rates.values()]
        return [*records, {"name": "states", **to_plain_record(self.daily.iloc[-1].to_dict())}]


def measure_state_rates(
    active_days: ir.Table,
    span: Period,
    *,
    as_of: dt.date | None = None,
    window_days: int = RATE_WINDOW_DAYS,
    history_days: int = HISTORY_DAYS,
    minimum: int = 20,
) -> StateRatesResult:
    """Measure how users move between states from one day to the next.

    Args:
        active_days: user_id, day; one row a user and local day, all since the beginning.
        span: the days that the data cover.
        as_of: the last day that is fully known; the span's last day unless given.
        window_days: the last so many days are pooled into rates.
        history_days: days of counts kept for back-tests.
        minimum: fewer users than this in a state, and its rate has no value.

    Returns:
        A `StateRatesResult`.

    States of a user on a day: *new*: first active day ever; *current*: active, and active within the 7 days before;
    *reactivated*: active, last active 8 to 30 days before; *resurrected*: active, last active more than 30 days before;
    *at_risk_wau*: not active, last active 1 to 6 days before; *at_risk_mau*: 7 to 29 days; *dormant*: 30 days or more.
    So the first four add up to DAU, with at_risk_wau to the weekly active, with at_risk_mau to the monthly (30 days).

    Intervals are Wilson's. Users of one day, and days of one user, go together: where rates vary more from day to day
    than chance would make them, the counts are divided by that dispersion first, so the interval is wider.

    Source: E. Gustafson, "Meaningful metrics: how data sharpened the focus of product teams", Duolingo blog; J. Mazal,
    "How Duolingo reignited user growth", Lenny's Newsletter (2023).

    >>> days = ibis.memtable({"user_id": [1] * 3 + [2], "day": [dt.date(2026, 1, d) for d in (1, 2, 3, 1)]})
    >>> result = measure_state_rates(days, Period(dt.date(2026, 1, 1), dt.date(2026, 1, 4), ""), minimum=1)
    >>> round(result.rates["nurr_rate"].value, 2), result.daily["dau_count"].tolist()
    (0.5, [2, 1, 1])
    """
    last = min(as_of or span.last_day, span.last_day)
    days = max((last - span.start).days + 1, 1)
    placed = active_days.filter(active_days.day <= last).select(
        "user_id", at=active_days.day.delta(span.start, unit="day")
    )
    # Days before the history tell who is absent on its first day, and how old.
    before = AGE_BANDS[-1] + 1
    skipped = max(0, days - history_days - before)
    runs = count_runs(placed, DAILY_STATES, days, skipped=skipped, oldest=AGE_BANDS[-1])
    unknown = before if skipped else max(0, days - history_days)
    flows = Flows(DAILY_STATES, compute_flows(runs, DAILY_STATES, AGE_BANDS).moved[unknown:])
    first = span.start + (skipped + unknown) * DAY
    daily = pd.DataFrame(flows.stock, columns=[f"{name}_count" for name in DAILY_STATES.names])
    daily["dau_count"] = flows.stock[:, : len(DAILY_STATES.active)].sum(axis=1)
    daily.insert(0, "day", pd.date_range(first, periods=len(daily)))
    window = flows.moved[-min(window_days, len(flows.moved)) :].sum(axis=1)
    rates, rows = {}, []
    for name, (before, now) in RATES.items():
        source, target = DAILY_STATES.names.index(before), DAILY_STATES.names.index(now)
        users, opening = window[:, source, target], window[:, source].sum(axis=1)
        dispersion = _measure_dispersion(users, opening)
        rates[name] = _estimate_dispersed(name, int(users.sum()), int(opening.sum()), dispersion, minimum)
        estimate = rates[name]
        values = (int(users.sum()), int(opening.sum()), estimate.value, estimate.low, estimate.high, dispersion)
        rows.append((name, before, now, *values))
    columns = ["rate", "from_state", "to_state", "users_count", "opening_count"]
    table = pd.DataFrame(rows, columns=[*columns, "value_rate", "low_rate", "high_rate", "dispersion_ratio"])
    return StateRatesResult(last, window_days, rates, table, daily, tabulate_transitions(window, DAILY_STATES), flows)


def tabulate_transitions(moved: np.ndarray, scheme: StateScheme) -> pd.DataFrame:
    """Transitions of several periods together: moved has period, state before, state now."""
    total = moved.sum(axis=0)
    opening = total.sum(axis=1)
    names = (*scheme.names, NOBODY)
    rows = [
        (names[i], scheme.names[j], int(total[i, j]), int(opening[i]), total[i, j] / opening[i])
        for i, j in np.argwhere(total > 0)
        if names[i] != NOBODY
    ]
    columns = ["from_state", "to_state", "users_count", "opening_count", "transition_rate"]
    return pd.DataFrame(rows, columns=columns)


@dataclass(frozen=True)
class Runs:
    """Active periods counted by what came before and how long until the next.

    Attributes:
        starts: by period, age, kind (0 new, then by gap to the period before) and whether the next period is active too
            (0 it is, 1 it is not).
        gaps: by period, age and gap to the next active period, the longest for all that reach the scheme's last state.
        earlier: users whose first period was not counted.
    """

    starts: np.ndarray
    gaps: np.ndarray
    earlier: int


def count_runs(placed: ir.Table, scheme: StateScheme, number: int, *, skipped: int = 0, oldest: int = 0) -> Runs:
    """Count active periods by what came before and how long until the next.

    Args:
        placed: user_id, at (the number of the period, from 0); one row a user and active period.
        scheme: the states.
        number: how many periods there are.
        skipped: the first so many periods are not counted.
        oldest: ages (periods since the first active one) are told apart up to here.
    """
    cap = scheme.final + 1
    by_time = ibis.window(group_by=placed.user_id, order_by=placed.at)
    marked = placed.mutate(before=placed.at - placed.at.lag().over(by_time), next=placed.at.lead().over(by_time))
    if oldest:
        marked = marked.mutate(age=ibis.least(placed.at - placed.at.min().over(group_by=placed.user_id), oldest))
    kinds = [(marked.before.isnull(), 0)]
    kinds += [(marked.before <= longest, i + 1) for i, longest in enumerate(scheme.breaks)]
    keyed = marked.select(
        kept=ibis.ifelse(marked.at >= skipped, marked.at - skipped, -1),
        age=marked.age if oldest else ibis.literal(0),
        kind=ibis.cases(*kinds, else_=len(scheme.breaks) + 1),
        gap=ibis.least(ibis.coalesce(marked.next - marked.at, cap), cap),
    )
    keyed = keyed.filter((keyed.kept >= 0) | (keyed.kind == 0))
    frame = keyed.group_by("kept", "age", "kind", "gap").aggregate(users=lambda t: t.count()).to_pandas()
    early = frame["kept"] < 0
    earlier = int(frame.loc[early, "users"].sum())
    frame = frame[~early & (frame["kept"] < number - skipped)]
    kept, age, kind, gap, users = (frame[c].to_numpy(dtype=int) for c in ("kept", "age", "kind", "gap", "users"))
    starts = np.zeros((number - skipped, oldest + 1, len(scheme.breaks) + 2, 2), dtype=np.int64)
    gaps = np.zeros((number - skipped, oldest + 1, cap + 1), dtype=np.int64)
    np.add.at(starts, (kept, age, kind, (gap > 1).astype(int)), users)
    np.add.at(gaps, (kept, age, gap), users)
    return Runs(starts, gaps, earlier)


def compute_flows(runs: Runs, scheme: StateScheme, bands: Sequence[int] = (0,)) -> Flows:
    """Turn counts of runs into users by state before and now, for every period and band of ages.

    Args:
        runs: the counts; their oldest age must be the first of the last band.
        scheme: the states.
        bands: first ages of the bands.
    """
    number, oldest = len(runs.gaps), runs.gaps.shape[1] - 1
    names = scheme.names
    place = {name: i for i, name in enumerate(names)}
    moved = np.zeros((number, len(bands), len(names) + 1, len(names)), dtype=np.int32)

    def band(counts: np.ndarray, later: int) -> np.ndarray:
        """Counts by age in bands of the age so many periods later."""
        inside = np.zeros((len(counts), len(bands)), dtype=np.int64)
        place_of = np.searchsorted(bands, np.minimum(np.arange(oldest + 1) + later, oldest), side="right") - 1
        first, which = np.unique(place_of, return_index=True)
        inside[:, first] = np.add.reduceat(counts, which, axis=1)
        return inside

    def add(counts: np.ndarray, later: int, before: str, now: str) -> None:
        """Users counted at their active period, who move so many periods later."""
        if later < number:
            moved[later:, :, place[before], place[now]] += band(counts[: number - later], later).astype(np.int32)

    kinds = ["new", *(scheme.on_return(longest + 1) for longest in (0, *scheme.breaks))]
    new = runs.starts[:, :, 0].sum(axis=2)
    moved[:, :, len(names), place["new"]] = band(new, 0)
    for kind, state in enumerate(kinds):
        add(runs.starts[:, :, kind, 0], 1, state, scheme.on_return(1))
        add(runs.starts[:, :, kind, 1], 1, state, scheme.while_absent(1))
    for periods in range(1, scheme.final):
        absent = scheme.while_absent(periods)
        add(runs.gaps[:, :, periods + 1], periods + 1, absent, scheme.on_return(periods + 1))
        add(runs.gaps[:, :, periods + 2 :].sum(axis=2), periods + 1, absent, scheme.while_absent(periods + 1))
    last = place[scheme.absent[-1][0]]
    moved[:, :, last, place[kinds[-1]]] = band(runs.starts[:, :, -1].sum(axis=2), 0)
    # Whoever is known and in no other state is in the last one: stayed there, if not just arrived.
    ever = np.concatenate([np.zeros(oldest + 1, dtype=np.int64), [0], new.sum(axis=1).cumsum()]) + runs.earlier
    upto = np.array([ever[oldest + 2 - first : oldest + 2 - first + number] for first in bands]).T
    everybody = upto - np.concatenate([upto[:, 1:], np.zeros((number, 1), dtype=np.int64)], axis=1)
    others = moved.sum(axis=2)
    others[:, :, last] = 0
    entered = moved[:, :, :last, last].sum(axis=2)
    moved[:, :, last, last] = everybody - others.sum(axis=2) - entered
    return Flows(scheme, moved)


def _measure_dispersion(users: np.ndarray, opening: np.ndarray) -> float:
    """Pearson's variance ratio of daily rates; 1 when they vary as chance would make them, or less."""
    known = opening > 0
    if known.sum() < 2 or not 0 < users.sum() < opening.sum():
        return 1.0
    rate = users.sum() / opening.sum()
    squares = (users[known] - opening[known] * rate) ** 2 / (opening[known] * rate * (1 - rate))
    return max(1.0, float(squares.sum() / (known.sum() - 1)))


def _estimate_dispersed(name: str, users: int, opening: int, dispersion: float, minimum: int) -> Estimate:
    estimate = estimate_rate(name, users, opening, minimum=minimum)
    if estimate.value is None:
        return estimate
    wide = estimate_rate(name, users / dispersion, opening / dispersion, minimum=0)
    method = "Wilson" if dispersion == 1 else "Wilson, widened by day-to-day dispersion"
    return Estimate(name, estimate.value, users, opening, wide.low, wide.high, method, "rate", estimate.confidence)

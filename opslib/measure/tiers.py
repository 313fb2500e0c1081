"""User tiers: every user in exactly one state in each period, and how many moved from which to which."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import ibis
import ibis.expr.types as ir
import numpy as np
import pandas as pd

from opslib.data.periods import DAY, Period
from opslib.measure.estimate import Estimate, estimate_rate, to_plain_record
from opslib.measure.grains import Grain, index_days, list_starts
from opslib.measure.states import NOBODY, StateScheme, compute_flows, count_runs

POTENTIAL = "potential"


@dataclass(frozen=True)
class TierThresholds:
    """After how many periods without activity a user's tier changes.

    Attributes:
        resurrected_after: back after at least so many absent periods a user is resurrected, before that current.
        dormant_after: absent for at least so many periods a user is dormant, before that at risk.
        churned_after: absent for at least so many a user has churned.

    Raises:
        ValueError: thresholds that do not rise.
    """

    resurrected_after: int
    dormant_after: int
    churned_after: int

    def __post_init__(self) -> None:
        if not 1 <= self.resurrected_after <= self.churned_after or not 1 < self.dormant_after < self.churned_after:
            raise ValueError("a user is at risk first, then dormant, then churned: the thresholds must rise")

    @property
    def scheme(self) -> StateScheme:
        """The states that the thresholds make."""
        return StateScheme(
            (("current", self.resurrected_after), ("resurrected", None)),
            (("at_risk", 1), ("dormant", self.dormant_after), ("churned", self.churned_after)),
        )


# With resurrected_after = 1, new, current and resurrected are those of the growth accounting. Days: at risk within the
# week of the last activity, churned when no longer monthly active (30 days).
DEFAULT_THRESHOLDS: dict[Grain, TierThresholds] = {
    "day": TierThresholds(1, 7, 30),
    "week": TierThresholds(1, 2, 5),
    "month": TierThresholds(1, 2, 4),
    "quarter": TierThresholds(1, 2, 3),
}


@dataclass(frozen=True)
class TiersResult:
    """Users by tier.

    Attributes:
        grain: day, week, month or quarter.
        thresholds: absent periods at which tiers change.
        balance: period_start, state, opening_count, in_count, out_count, closing_count, complete; one row a period and
            state, also empty ones; opening + in - out = closing, and closing is the next period's opening.
        flows: period_start, from_state, to_state, users_count; one row a period and move that occurred, staying
            included; from_state is "none" for users who were not known before.
        matrix: from_state, to_state, users_count, opening_count, transition_rate, low_rate, high_rate: the moves of all
            complete periods together.
        rates: (from_state, to_state) -> the estimate behind a row of `matrix`.
        closing: state -> users in it at the end of the last period.
    """

    grain: Grain
    thresholds: TierThresholds
    balance: pd.DataFrame
    flows: pd.DataFrame
    matrix: pd.DataFrame
    rates: dict[tuple[str, str], Estimate]

    @property
    def closing(self) -> dict[str, int]:
        """Users by state at the end of the last period."""
        last = self.balance[self.balance["period_start"] == self.balance["period_start"].max()]
        return {str(s): int(n) for s, n in zip(last["state"], last["closing_count"], strict=True)}

    def findings(self) -> list[dict[str, Any]]:
        """The last complete period's balance and the transition rates as flat records."""
        complete = self.balance[self.balance["complete"]]
        last = complete[complete["period_start"] == complete["period_start"].max()].drop(columns="complete")
        records = [{"name": "tier", "grain": self.grain, **to_plain_record(r)} for r in last.to_dict("records")]
        for (before, now), estimate in self.rates.items():
            records.append(estimate.to_finding(grain=self.grain, from_state=before, to_state=now))
        return records


def measure_tiers(
    active_days: ir.Table,
    span: Period,
    *,
    grain: Grain = "week",
    as_of: dt.date | None = None,
    week_start: int = 0,
    thresholds: TierThresholds | None = None,
    signups: ir.Table | None = None,
    activations: ir.Table | None = None,
) -> TiersResult:
    """Count users by tier in each period, and the moves between tiers.

    Args:
        active_days: user_id, day; one row a user and local day, all since the beginning.
        span: the days that the data cover.
        grain: length of a period.
        as_of: the last day that is fully known; the span's last day unless given.
        week_start: 0 for Monday to 6 for Sunday.
        thresholds: when tiers change; `DEFAULT_THRESHOLDS` of the grain unless given.
        signups: user_id, day of sign-up; who has signed up and was not active yet is "potential". Without it nobody is,
            unless `activations` is given.
        activations: user_id, day on which a user first did what counts as being activated. With it, who was reached
            (signed up or active) and not activated yet is "potential", and activity counts from that day on.

    Returns:
        A `TiersResult`.

    Tiers: *potential*: reached, never active; *new*: first active period; *current*: active, and absent before for less
    than `resurrected_after` periods; *resurrected*: active after a longer absence; *at_risk*, *dormant*, *churned*: not
    active, by the number of absent periods. Each user known is in exactly one.

    >>> days = ibis.memtable({"user_id": [1, 1, 2], "day": [dt.date(2026, 1, d) for d in (5, 12, 5)]})
    >>> result = measure_tiers(days, Period(dt.date(2026, 1, 5), dt.date(2026, 1, 19), "two weeks"))
    >>> result.closing["current"], result.closing["at_risk"], result.closing["new"]
    (1, 1, 0)
    """
    thresholds = thresholds or DEFAULT_THRESHOLDS[grain]
    last = min(as_of or span.last_day, span.last_day)
    known = Period(span.start, max(last, span.start) + DAY, span.label)
    starts = list_starts(known, grain, week_start)
    counted, reached = _choose_rows(active_days, signups, activations, last)
    placed = counted.select("user_id", at=index_days(counted.day, starts[0], grain)).distinct()
    runs = count_runs(placed.filter(placed.at >= 0), thresholds.scheme, len(starts) - 1)
    flows = compute_flows(runs, thresholds.scheme)
    moved, names = flows.moved.sum(axis=1, dtype=np.int64), flows.scheme.names
    if reached is not None:
        waiting = _count_waiting(reached, placed, index_days(reached.day, starts[0], grain), len(starts) - 1)
        moved, names = _add_potential(moved, waiting), (POTENTIAL, *names)
    complete = [a >= known.start and b <= known.end for a, b in pairwise(starts)]
    at = pd.to_datetime(list(starts[:-1]))
    matrix, rates = _tabulate_rates(moved[1:][complete[1:]], names)
    return TiersResult(grain, thresholds, _balance(moved, names, at, complete), _list(moved, names, at), matrix, rates)


def label_tiers(
    active_days: ir.Table,
    span: Period,
    *,
    grain: Grain = "week",
    as_of: dt.date | None = None,
    week_start: int = 0,
    thresholds: TierThresholds | None = None,
) -> ir.Table:
    """Tell in which tier each user is in the period that holds `as_of`: user_id, state, absent_periods_count.

    The rows of one state are as many as `measure_tiers` counts in it. Users who were never active are not in it.

    >>> days = ibis.memtable({"user_id": [1, 1, 2], "day": [dt.date(2026, 1, d) for d in (5, 12, 5)]})
    >>> fortnight = Period(dt.date(2026, 1, 5), dt.date(2026, 1, 19), "two weeks")
    >>> label_tiers(days, fortnight).order_by("user_id").to_pandas()["state"].tolist()
    ['current', 'at_risk']
    """
    thresholds = thresholds or DEFAULT_THRESHOLDS[grain]
    last = min(as_of or span.last_day, span.last_day)
    starts = list_starts(Period(span.start, max(last, span.start) + DAY, ""), grain, week_start)
    now = len(starts) - 2
    known = active_days.filter(active_days.day <= last)
    placed = known.select("user_id", at=index_days(known.day, starts[0], grain))
    placed = placed.filter(placed.at >= 0)
    users = placed.group_by("user_id").aggregate(
        latest=placed.at.max(), first=placed.at.min(), before=placed.at.max(where=placed.at < now)
    )
    absent = now - users.latest
    returned = users.latest - users.before
    state = ibis.cases(
        ((absent == 0) & (users.first == now), "new"),
        ((absent == 0) & (returned <= thresholds.resurrected_after), "current"),
        (absent == 0, "resurrected"),
        (absent < thresholds.dormant_after, "at_risk"),
        (absent < thresholds.churned_after, "dormant"),
        else_="churned",
    )
    return users.select("user_id", state=state, absent_periods_count=absent)


def _choose_rows(
    active_days: ir.Table, signups: ir.Table | None, activations: ir.Table | None, last: dt.date
) -> tuple[ir.Table, ir.Table | None]:
    """Days that count as activity; and each user's first day of being reached, or None when nobody can be potential."""
    known = active_days.filter(active_days.day <= last).select("user_id", "day")
    arrived = None if signups is None else signups.filter(signups.day <= last).select("user_id", "day")
    if activations is not None:
        since = activations.filter(activations.day <= last)
        since = since.group_by("user_id").aggregate(activated=since.day.min())
        first = since.select("user_id", day=since.activated)
        arrived = known.union(first) if arrived is None else known.union(first).union(arrived)
        joined = known.inner_join(since, "user_id")
        later = joined.filter(joined.day >= joined.activated).select("user_id", "day")
        known = later.union(first)
    elif arrived is not None:
        arrived = known.union(arrived)
    return known, None if arrived is None else arrived.group_by("user_id").aggregate(day=arrived.day.min())


def _count_waiting(reached: ir.Table, placed: ir.Table, at: Any, number: int) -> np.ndarray:
    """Users by the period in which they were reached and in which they were first active, the last place for never."""
    first = placed.filter(placed.at >= 0).group_by("user_id").aggregate(first=lambda t: t.at.min())
    joined = reached.select("user_id", reached=ibis.greatest(at, 0)).left_join(first, "user_id")
    pairs = joined.group_by(joined.reached, first=joined["first"].fill_null(number))
    frame = pairs.aggregate(users=lambda t: t.count()).to_pandas()
    waiting = np.zeros((number, number + 1), dtype=np.int64)
    waiting[frame["reached"].to_numpy(dtype=int), frame["first"].to_numpy(dtype=int)] = frame["users"]
    return waiting


def _add_potential(moved: np.ndarray, waiting: np.ndarray) -> np.ndarray:
    """Put the state of those who wait before the others."""
    number, _, states = moved.shape
    wider = np.zeros((number, states + 2, states + 1), dtype=np.int64)
    wider[:, 1:, 1:] = moved
    later = np.triu(waiting[:, :number], 1)
    arrived = waiting.sum(axis=1) - waiting.diagonal()
    left = later.sum(axis=0)
    wider[:, -1, 0] = arrived
    wider[:, 0, 1] = left
    wider[:, -1, 1] -= left
    closing = np.cumsum(arrived - left)
    wider[1:, 0, 0] = closing[:-1] - left[1:]
    return wider


def _balance(moved: np.ndarray, names: tuple[str, ...], at: pd.DatetimeIndex, complete: list[bool]) -> pd.DataFrame:
    number, states = len(moved), len(names)
    closing = moved.sum(axis=1)
    opening = np.concatenate([np.zeros((1, states), dtype=np.int64), closing[:-1]])
    stayed = moved[:, range(states), range(states)]
    return pd.DataFrame(
        {
            "period_start": at.repeat(states),
            "state": list(names) * number,
            "opening_count": opening.ravel(),
            "in_count": (closing - stayed).ravel(),
            "out_count": (moved[:, :states].sum(axis=2) - stayed).ravel(),
            "closing_count": closing.ravel(),
            "complete": np.repeat(complete, states),
        }
    )


def _list(moved: np.ndarray, names: tuple[str, ...], at: pd.DatetimeIndex) -> pd.DataFrame:
    period, before, now = np.nonzero(moved)
    known = (*names, NOBODY)
    return pd.DataFrame(
        {
            "period_start": at[period],
            "from_state": [known[i] for i in before],
            "to_state": [names[i] for i in now],
            "users_count": moved[period, before, now],
        }
    )


def _tabulate_rates(moved: np.ndarray, names: tuple[str, ...]) -> tuple[pd.DataFrame, dict[tuple[str, str], Estimate]]:
    total = moved.sum(axis=0)
    rates, rows = {}, []
    for i, j in np.argwhere(total[:-1] > 0):
        users, opening = int(total[i, j]), int(total[i].sum())
        estimate = rates[names[i], names[j]] = estimate_rate("transition_rate", users, opening)
        rows.append((names[i], names[j], users, opening, estimate.value, estimate.low, estimate.high))
    columns = ["from_state", "to_state", "users_count", "opening_count", "transition_rate", "low_rate", "high_rate"]
    return pd.DataFrame(rows, columns=columns), rates

"""Churn by week or month: which share of the customers left, on two denominators, and whether it rises."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import ibis
import ibis.expr.types as ir
import numpy as np
import pandas as pd

from opslib.data.periods import DAY, Period
from opslib.language import say
from opslib.measure.activity import label_segments, sort_segments
from opslib.measure.churn.definition import ChurnDefinition
from opslib.measure.churn.trend import RISES, SEED, ChurnRise, judge_rise, tabulate_rises
from opslib.measure.estimate import MINIMUM_DENOMINATOR, Estimate, estimate_count, estimate_rate, to_plain_record
from opslib.measure.grains import Grain, index_days, list_starts, truncate_day

COUNTS = ("opening_count", "new_count", "returned_count", "left_count", "closing_count", "left_opening_count")
COLUMNS = (
    "period_start",
    "days_count",
    *COUNTS,
    "person_days_count",
    "churn_rate",
    "churn_low",
    "churn_high",
    "time_churn_rate",
    "time_churn_low",
    "time_churn_high",
    "mature",
)


@dataclass(frozen=True)
class ChurnResult:
    """Churn by period.

    Attributes:
        grain, as_of, known_until: what was asked; who left after `known_until` cannot be told from the silent yet.
        definition: when a user counts as gone.
        periods: (segment), period_start, days_count, opening_count (customers when it starts), new_count,
            returned_count (had left before), left_count, closing_count, left_opening_count (of the opening ones),
            person_days_count, churn_rate (left_opening_count / opening_count) with churn_low, churn_high;
            time_churn_rate (left_count / person-days, for as many days as the period has) with time_churn_low,
            time_churn_high; mature. Opening + new + returned - left = closing. A period whose last day is after
            `known_until` is not mature: what is not known of it is missing.
        rise: whether everybody's churn rises, how often chance would make it so, and a trend test.
        rises: the same by segment: segment, rising, first_rate, last_rate, chance_rate, p_value, q_value,
            dispersion_ratio, note; empty without segments.
        immature_count: spells too young for anything to be known of their end.
        notes: what a reader must know.
    """

    grain: Grain
    as_of: dt.date
    known_until: dt.date
    definition: ChurnDefinition
    periods: pd.DataFrame
    rise: ChurnRise
    rises: pd.DataFrame
    immature_count: int
    minimum: int
    notes: tuple[str, ...]

    def estimate(self, period_start: dt.date, segment: str = "") -> Estimate:
        """The share of the opening customers who left in a period.

        Raises:
            KeyError: there is no such period or segment.
        """
        return _estimate_share(self._row(period_start, segment), self.minimum)

    def estimate_time(self, period_start: dt.date, segment: str = "") -> Estimate:
        """Leavers per person-time in a period, for as many days as the period has.

        Raises:
            KeyError: there is no such period or segment.
        """
        return _estimate_time(self._row(period_start, segment), self.minimum)

    def _row(self, period_start: dt.date, segment: str) -> Mapping[Any, Any]:
        rows = self.periods[self.periods["period_start"] == pd.Timestamp(period_start)]
        if "segment" in rows:
            rows = rows[rows["segment"] == segment]
        if rows.empty:
            raise KeyError(f"{period_start} {segment}".strip())
        return rows.to_dict("records")[0]

    def findings(self) -> list[dict[str, Any]]:
        """Both estimates of each mature period, then the rises, as flat records."""
        records = []
        for row in self.periods[self.periods["mature"]].to_dict("records"):
            context = {"grain": self.grain, "period": row["period_start"].date().isoformat()}
            context |= {"segment": row["segment"]} if "segment" in row else {}
            for estimate in (_estimate_share(row, self.minimum), _estimate_time(row, self.minimum)):
                records.append(estimate.to_finding(**context))
        records.append(self.rise.to_finding(grain=self.grain))
        head = {"name": "churn_rise_by_segment", "grain": self.grain}
        return records + [head | to_plain_record(row) for row in self.rises.to_dict("records")]


def measure_churn(
    spells: ir.Table,
    definition: ChurnDefinition,
    *,
    grain: Grain = "month",
    period: Period | None = None,
    week_start: int = 0,
    attributes: ir.Table | None = None,
    by: str = "",
    rises: int = RISES,
    seed: int = SEED,
    minimum: int = MINIMUM_DENOMINATOR,
) -> ChurnResult:
    """Measure churn by period.

    Args:
        spells: as `find_spells` gives them.
        definition: when a user counts as gone.
        grain: length of a period; "month" and "week" are usual.
        period: report only periods that start on one of its days; all of the data by default.
        week_start: 0 for Monday to 6 for Sunday.
        attributes, by: one row a user, and its column to break down by; the ten largest values keep their names.
        rises: so many rises in a row count as rising.
        seed: of the simulation of chance.
        minimum: fewer opening customers (or person-periods) have no rate.

    Returns:
        A `ChurnResult`. A user leaves on the last active day, or when the subscription ends.

    A user who leaves and comes back leaves twice: opening and closing count customers, leavings count leavings.
    Intervals: Wilson for the share; Byar's for Poisson counts per person-time.

    >>> import ibis
    >>> from opslib.measure.churn.definition import define_churn_by_subscription, find_spells
    >>> rows = {"user_id": list(range(40)), "start_at": [dt.date(2026, 1, 1)] * 40}
    >>> rows["end_at"] = [dt.date(2026, 2, 10)] * 10 + [None] * 30
    >>> schema = {"user_id": "int64", "start_at": "date", "end_at": "date"}
    >>> table = ibis.memtable(rows, schema=schema)
    >>> churn = define_churn_by_subscription(table, as_of=dt.date(2026, 3, 31))
    >>> result = measure_churn(find_spells(table, churn), churn)
    >>> result.periods["churn_rate"].tolist()
    [nan, 0.25, 0.0]
    """
    if attributes is not None and by:
        users = spells.group_by("user_id").aggregate(day=spells.start_day.min())
        labels = label_segments(users, attributes, by).select("user_id", "segment")
        spells = spells.inner_join(labels, "user_id")
    keys = ["segment"] if by else []
    known = definition.known_until
    # Asked three times, and long to find.
    spells = spells.mutate(young=spells.start_day > ibis.literal(known, "date")).cache()
    bounds = spells.aggregate(first=spells.start_day.min(), young=spells.young.sum()).to_pandas()
    first = bounds["first"][0]
    immature = int(bounds["young"].fillna(0)[0])
    notes: list[str] = []
    if pd.isna(first):
        starts = [definition.as_of, definition.as_of + DAY]
        notes.append(say("There is no activity: nobody could leave."))
    else:
        starts = list_starts(Period(pd.Timestamp(first).date(), definition.as_of + DAY, ""), grain, week_start)
    counted = _count_spells(spells.filter(~spells.young), keys, starts[0], grain, week_start)
    # A young spell's start is known, only its end is not.
    fresh = _count_starts(spells.filter(spells.young), keys, starts[0], grain)
    frames = []
    names = _order_segments(counted, fresh) if by else [""]
    for name in names:
        parts = [f[f["segment"] == name] if by else f for f in (counted, fresh)]
        frame = _balance(parts[0], parts[1], starts, known, minimum)
        if by:
            frame.insert(0, "segment", name)
        frames.append(frame)
    together = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=["segment", *COLUMNS])
    total = _balance(counted, fresh, starts, known, minimum) if by else together
    wanted = [_keep(frame, period) for frame in (together, total)]
    rise = judge_rise(_list_mature(wanted[1], minimum), grain=grain, rises=rises, seed=seed)
    table = tabulate_rises(
        {str(n): _list_mature(part, minimum) for n, part in wanted[0].groupby("segment", sort=False)} if by else {},
        grain=grain, rises=rises, seed=seed,
    )  # fmt: skip
    if definition.basis != "subscription":
        notes.append(say("Who left after {day} cannot be told from the silent yet.", day=known))
    if not wanted[1]["left_count"].fillna(0).sum():
        notes.append(say("Nobody left in the periods whose leavers are known."))
    return ChurnResult(
        grain, definition.as_of, known, definition, wanted[0], rise, table, immature, minimum, tuple(notes)
    )  # fmt: skip


def _count_spells(spells: ir.Table, keys: list[str], first: dt.date, grain: Grain, week_start: int) -> pd.DataFrame:
    """Spells by the periods of their start and end, with the days into those."""
    into = {
        name: spells[f"{name}_day"].delta(truncate_day(spells[f"{name}_day"], grain, week_start), unit="day")
        for name in ("start", "end")
    }
    placed = spells.select(
        *keys,
        "left",
        "returned",
        begins=index_days(spells.start_day, first, grain),
        finishes=index_days(spells.end_day, first, grain),
        into_start=into["start"],
        into_end=into["end"],
    )
    grouped = placed.group_by(*keys, "left", "returned", "begins", "finishes").aggregate(
        spells=lambda t: t.count(), into_start=lambda t: t.into_start.sum(), into_end=lambda t: t.into_end.sum()
    )
    return grouped.to_pandas()


def _count_starts(young: ir.Table, keys: list[str], first: dt.date, grain: Grain) -> pd.DataFrame:
    placed = young.select(*keys, "returned", begins=index_days(young.start_day, first, grain))
    return placed.group_by(*keys, "returned", "begins").aggregate(spells=lambda t: t.count()).to_pandas()


def _order_segments(counted: pd.DataFrame, fresh: pd.DataFrame) -> list[str]:
    sizes = pd.concat([counted[["segment", "spells"]], fresh[["segment", "spells"]]])
    sizes = sizes.groupby("segment", as_index=False).sum()
    return [str(s) for s in sort_segments(sizes, "spells")["segment"]]


def _balance(
    counted: pd.DataFrame, fresh: pd.DataFrame, starts: list[dt.date], known: dt.date, minimum: int
) -> pd.DataFrame:
    """One row a period; what is not known of it is missing."""
    number = len(starts) - 1
    days = np.array([(b - a).days for a, b in pairwise(starts)])
    begins, finishes, spells = (counted[c].to_numpy(dtype=np.int64) for c in ("begins", "finishes", "spells"))
    into_start, into_end = (counted[c].to_numpy(dtype=np.int64) for c in ("into_start", "into_end"))
    left, returned = counted["left"].to_numpy(dtype=bool), counted["returned"].to_numpy(dtype=bool)

    def total(where: np.ndarray, place: np.ndarray, values: np.ndarray = spells) -> np.ndarray:
        found = np.zeros(number, dtype=np.int64)
        np.add.at(found, place[where], values[where])
        return found

    everyone = np.ones(len(spells), dtype=bool)
    new, back, leavers = total(~returned, begins), total(returned, begins), total(left, finishes)
    opening = np.concatenate([[0], (new + back - leavers).cumsum()[:-1]])
    # From its start to the end of a period a spell takes the days left; from there to its end, those until then.
    running = np.concatenate([[0], (total(everyone, begins) - total(everyone, finishes)).cumsum()[:-1]])
    person = running * days + total(everyone, begins) * days - total(everyone, begins, into_start)
    person += total(everyone, finishes, into_end + 0) + total(everyone, finishes) * (1 - days)
    known_new, known_back = new.copy(), back.copy()
    late = fresh["returned"].to_numpy(dtype=bool)
    np.add.at(known_new, fresh["begins"].to_numpy(dtype=int)[~late], fresh["spells"].to_numpy(dtype=np.int64)[~late])
    np.add.at(known_back, fresh["begins"].to_numpy(dtype=int)[late], fresh["spells"].to_numpy(dtype=np.int64)[late])
    frame = pd.DataFrame(
        {
            "period_start": pd.to_datetime(starts[:-1]),
            "days_count": days,
            "opening_count": opening,
            "new_count": known_new,
            "returned_count": known_back,
            "left_count": leavers,
            "closing_count": opening + new + back - leavers,
            "left_opening_count": total(left & (begins < finishes), finishes),
            "person_days_count": person,
        }
    )
    frame["mature"] = np.array([end - DAY <= known for end in starts[1:]], dtype=bool)
    opened = np.array([start - DAY <= known for start in starts[:-1]], dtype=bool)
    for name in ("left_count", "closing_count", "left_opening_count", "person_days_count"):
        frame[name] = frame[name].astype("Int64").where(frame["mature"])
    frame["opening_count"] = frame["opening_count"].astype("Int64").where(opened)
    frame = frame.astype({"new_count": "Int64", "returned_count": "Int64"})
    rows = frame.to_dict("records")
    for name, estimate in (("churn", _estimate_share), ("time_churn", _estimate_time)):
        found = [estimate(row, minimum) for row in rows]
        for column, values in (
            ("rate", [e.value for e in found]),
            ("low", [e.low for e in found]),
            ("high", [e.high for e in found]),
        ):
            frame[f"{name}_{column}"] = pd.Series(values, dtype="float64", index=frame.index)
    return frame[list(COLUMNS)]


def _estimate_share(row: Mapping[Any, Any], minimum: int) -> Estimate:
    if not row["mature"]:
        return _immature("churn_rate", row["opening_count"], "rate")
    return estimate_rate(
        "churn_rate", int(row["left_opening_count"]), int(row["opening_count"]), minimum=max(minimum, 1)
    )


def _estimate_time(row: Mapping[Any, Any], minimum: int) -> Estimate:
    if not row["mature"]:
        return _immature("time_churn_rate", None, "ratio")
    left, periods = int(row["left_count"]), int(row["person_days_count"]) / int(row["days_count"])
    if periods < minimum or not periods:
        note = say(
            "not enough data: {periods:,.1f} users' periods, at least {least} needed", periods=periods, least=minimum
        )
        return Estimate("time_churn_rate", None, left, periods, None, None, "none", "ratio", note=note)
    found = estimate_count("time_churn_rate", left, per=periods)
    return Estimate(found.name, found.value, left, periods, found.low, found.high, found.method, "ratio")


def _immature(name: str, denominator: Any, unit: Any) -> Estimate:
    known = 0 if denominator is None or pd.isna(denominator) else int(denominator)
    note = say("too early: who left cannot be told from the silent yet")
    return Estimate(name, None, 0, known, None, None, "none", unit, note=note)


def _keep(frame: pd.DataFrame, period: Period | None) -> pd.DataFrame:
    if period is None:
        return frame
    inside = frame["period_start"].between(pd.Timestamp(period.start), pd.Timestamp(period.last_day))
    return frame[inside].reset_index(drop=True)


def _list_mature(frame: pd.DataFrame, minimum: int) -> pd.DataFrame:
    """Periods with a rate: period_start, left, opening."""
    rows = frame[frame["churn_rate"].notna()]
    return pd.DataFrame(
        {
            "period_start": rows["period_start"],
            "left": rows["left_opening_count"].astype("int64"),
            "opening": rows["opening_count"].astype("int64"),
        }
    ).reset_index(drop=True)

"""Funnels: which share of those who entered got to each step, by segment and over time, and how long it took.

The meaning is that of `docs/metrics.md`: the window counts from the entry and includes its end; the best attempt over
all entries of the period counts; later steps may fall after the period; one event fills one step; equal times convert;
an entry that has not had its whole window yet is counted apart.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ibis.expr.types as ir
import numpy as np
import pandas as pd

from opslib.data.periods import Calendar, Period
from opslib.errors import InputError, suggest_name
from opslib.language import mark, say
from opslib.measure.activity import sort_segments
from opslib.measure.cohort_counts import Clock, CohortGrain
from opslib.measure.estimate import CONFIDENCE, MINIMUM_DENOMINATOR, Estimate, quantile, to_plain_record
from opslib.measure.funnel.outcomes import (
    NOT_REACHED,
    Attribution,
    choose_labels,
    count_levels,
    count_trend,
    label_outcomes,
    list_unit_columns,
    measure_clustering,
)
from opslib.measure.funnel.plans import Plan, read_attempts
from opslib.measure.funnel.steps import (
    Exclusion,
    Funnel,
    FunnelUnit,
    Order,
    Reentry,
    Step,
    check_names,
    make_funnel,
)
from opslib.measure.funnel.times import (
    measure_histogram,
    measure_times,
)

WINDOW = dt.timedelta(days=7)
UNITS = ("users", "attempts", "sessions")
UNIT_NAMES = {"users": mark("users"), "attempts": mark("attempts"), "sessions": mark("sessions")}


@dataclass(frozen=True)
class FunnelResult:
    """A funnel over a period.

    Attributes:
        period, as_of, window, order, unit: what was asked.
        steps: step (from 1), event, entered_count (got to the step before; of step 1: everybody), converted_count,
            dropped_count, immature_count (units that could be at this step, whose window is not over: in no other
            count), step_rate (converted / entered) and overall_rate (converted / entered at step 1), each with _low
            and _high. Rates of fewer than `minimum` are missing.
        by_segment: the same with segment first, most units first; None without a breakdown.
        times: step, event, since ("entry" or "previous"), converted_count, mean_days, p10_days ... p90_days.
        histogram: from_days, to_days, converted_count, converted_rate: from entry to the last step.
        trend: entry_start (local time), entered_count, converted_count, converted_rate, converted_low, converted_high,
            mature; each interval as if it were the period; None unless asked for. Where an entry has not had its whole
            window, what converted is missing.
        excluded_count: units of which every attempt was spoiled by an exclusion; they are in no other count.
        method: how the intervals were made.
        notes: what a reader must know, in plain words.
    """

    period: Period
    as_of: dt.date
    window: dt.timedelta
    order: Order
    unit: FunnelUnit
    steps: pd.DataFrame
    by_segment: pd.DataFrame | None
    times: pd.DataFrame
    histogram: pd.DataFrame
    trend: pd.DataFrame | None
    excluded_count: int
    method: str
    minimum: int
    notes: tuple[str, ...]

    def estimate(self, step: int, *, overall: bool = False, segment: str = "") -> Estimate:
        """A step's rate: of those who got to the step before, or overall, of those who entered.

        Raises:
            KeyError: there is no such step or segment.
        """
        frame = self.steps if not segment else self.by_segment
        if frame is None:
            raise KeyError(segment)
        rows = frame[frame["step"] == step]
        rows = rows[rows["segment"] == segment] if segment else rows
        if rows.empty:
            raise KeyError(f"{step} {segment}".strip())
        first = frame[frame["step"] == 1]
        first = first[first["segment"] == segment] if segment else first
        return self._to_estimate(rows.to_dict("records")[0], int(first["entered_count"].iloc[0]), overall)

    def _to_estimate(self, row: Mapping[Any, Any], entrants: int, overall: bool) -> Estimate:
        head = "overall" if overall else "step"
        below = entrants if overall else int(row["entered_count"])
        known = below >= max(self.minimum, 1)
        value, low, high = (float(row[f"{head}_{k}"]) if known else None for k in ("rate", "low", "high"))
        note = "" if known else _note_few(below, self.unit, self.minimum)
        name = f"step{row['step']}_{'overall_' if overall else ''}rate"
        method = self.method if known else "none"
        above = int(row["converted_count"])
        return Estimate(name, value, above, below, low, high, method, "rate", CONFIDENCE, note)

    def findings(self) -> list[dict[str, Any]]:
        """Each step's rate and overall rate, of everybody and of each segment, then the times, as flat records."""
        records = []
        head = {"period": self.period.label, "unit_counted": self.unit, "order": self.order}
        for frame in (self.steps, self.by_segment):
            if frame is None:
                continue
            entrants = 0
            for row in frame.to_dict("records"):
                entrants = int(row["entered_count"]) if row["step"] == 1 else entrants
                context = head | {k: row[k] for k in ("segment", "step", "event") if k in row}
                context["immature"] = int(row["immature_count"])
                if row["step"] > 1:
                    records.append(self._to_estimate(row, entrants, False).to_finding(**context))
                    records.append(self._to_estimate(row, entrants, True).to_finding(**context))
        plain = {"name": "time_to_convert_days", **head}
        return records + [plain | to_plain_record(row) for row in self.times.to_dict("records")]


def measure_funnel(
    events: ir.Table,
    steps: Sequence[str | Step],
    *,
    period: Period,
    as_of: dt.date,
    window: dt.timedelta = WINDOW,
    calendar: Calendar | None = None,
    order: Order = "ordered",
    exclusions: Sequence[str | Exclusion] = (),
    hold: str = "",
    reentry: Reentry = "every",
    unit: FunnelUnit = "users",
    session: str = "session_id",
    breakdown: str = "",
    attribution: Attribution = "first",
    attributes: ir.Table | None = None,
    trend: CohortGrain | None = None,
    minimum: int = MINIMUM_DENOMINATOR,
    plan: Plan | None = None,
) -> FunnelResult:
    """Measure a funnel.

    Args:
        events: user_id, ts (UTC), event, and the columns that steps and options name; one row an event.
        steps: event names, or `Step`s with filters and limits of the time since the step before.
        period: days on which an attempt may begin.
        as_of: the last day that is fully known; later rows are left out.
        window: from the entry to the last step, the end included.
        calendar: the company's clock, which decides days.
        order: "ordered": other events may lie between; "strict": the next event of any kind must be the next step, ties
            in the order of the steps; "any": the steps in whatever order, any of them enters.
        exclusions: events (or `Exclusion`s) that spoil an attempt.
        hold: a column whose value must be the same in all events of an attempt.
        reentry: which entries begin an attempt: "every" one, the user's "first" of the period, or one "after" the
            attempt before it has ended (converted, or its window over).
        unit: what is counted: users (by their best attempt), attempts, or sessions (attempts stay within one).
        session: the column of sessions.
        breakdown, attribution: a column of the events to break down by, as it was at the "first" step, the "last" step
            got to, or step number k; with attributes a column of those. The ten largest values keep their names.
        attributes: one row a user.
        trend: interval of the trend over entry time; None: no trend.
        minimum: fewer units have no rate.
        plan: how attempts are found, "packed" or "windows"; by default what the engine does best.

    Returns:
        A `FunnelResult`.

    Raises:
        InputError: an event that the data have never had (with the nearest name), an unknown column or option.

    Method: `opslib.measure.funnel.plans`. Intervals are Wilson's; of attempts and sessions, a user's are taken as one.

    >>> import ibis
    >>> at = lambda *hours: [dt.datetime(2026, 1, 1, h) for h in hours]
    >>> events = ibis.memtable({"user_id": [1, 1, 2], "ts": at(8, 9, 8), "event": ["view", "pay", "view"]})
    >>> january = Period(dt.date(2026, 1, 1), dt.date(2026, 2, 1), "January")
    >>> result = measure_funnel(events, ["view", "pay"], period=january, as_of=dt.date(2026, 2, 28))
    >>> result.steps["converted_count"].tolist()
    [2, 1]
    """
    funnel = make_funnel(
        events,
        steps,
        period=period,
        as_of=as_of,
        window=window,
        calendar=calendar,
        order=order,
        exclusions=exclusions,
        hold=hold,
        reentry=reentry,
        session=session if unit == "sessions" else "",
        value="" if attributes is not None else breakdown,
    )
    if unit not in UNITS:
        raise InputError(f"'{unit}' for unit:{suggest_name(unit, UNITS)} Choose from {', '.join(UNITS)}.")
    _check_breakdown(breakdown, attribution, attributes, events, len(funnel.steps))
    attempts = read_attempts(events, funnel, unit, session, plan, (breakdown, attribution) if funnel.values else None)
    _, empty = check_names(events, attempts.count_masks(), funnel)
    columns = list_unit_columns(funnel, unit, session)
    traced = attempts.settle(True, every=trend is not None)
    outcomes = traced.outcomes
    late = attempts.settle(False) if funnel.mature_key < funnel.end_key else None
    waiting = None if late is None else late.outcomes
    counts, open_counts = count_levels(outcomes, None), None if waiting is None else count_levels(waiting, None)
    effect = 1.0 if unit == "users" else measure_clustering(outcomes)
    frame = _tabulate(counts, open_counts, funnel, minimum, effect)
    by_segment = None
    if breakdown:
        wanted = (breakdown, attribution, attributes)
        labelled = [
            None
            if t is None
            else t.outcomes
            if t.labelled
            else label_outcomes(t.outcomes, attempts.rows, funnel, columns, *wanted).cache()
            for t in (traced, late)
        ]
        by_segment = _break_down(labelled, funnel, minimum, effect)
    moving = None
    if traced.trend is not None and trend is not None:
        clock = Clock(trend, funnel.calendar, as_of)
        moving = _tabulate_trend(count_trend(traced.trend, funnel, columns, clock), clock, funnel, minimum)
    return FunnelResult(
        period,
        as_of,
        window,
        order,
        unit,
        frame,
        by_segment,
        measure_times(outcomes, funnel),
        measure_histogram(outcomes, funnel),
        moving,
        traced.excluded_count,
        "Wilson" if unit == "users" else f"Wilson, a user's {unit} taken as one",
        minimum,
        _note(frame, empty, funnel, unit),
    )


def _check_breakdown(
    column: str, attribution: Attribution, attributes: ir.Table | None, events: ir.Table, count: int
) -> None:
    if attributes is not None and column and column not in attributes.columns:
        raise InputError(f"The attributes have no column '{column}'.{suggest_name(column, attributes.columns)}")
    known = attribution in ("first", "last") or (isinstance(attribution, int) and 1 <= attribution <= count)
    if column and not known:
        raise InputError(f"'{attribution}' for attribution: choose first, last or a step's number from 1 to {count}.")


def _tabulate(
    counts: pd.DataFrame, waiting: pd.DataFrame | None, funnel: Funnel, minimum: int, effect: float
) -> pd.DataFrame:
    """Units by deepest step, made the table of steps."""
    depth = range(1, len(funnel.steps) + 1)

    def reach(frame: pd.DataFrame) -> np.ndarray:
        found = frame.set_index(frame["level"].astype(int))["units"].reindex(depth, fill_value=0)
        return found.to_numpy(dtype=np.int64)[::-1].cumsum()[::-1]

    reached = reach(counts)
    late = reach(waiting) if waiting is not None else np.zeros_like(reached)
    frame = pd.DataFrame({"step": list(depth), "event": [s.label for s in funnel.steps]})
    frame["entered_count"] = np.concatenate([reached[:1], reached[:-1]])
    frame["converted_count"] = reached
    frame["dropped_count"] = frame["entered_count"] - reached
    frame["immature_count"] = np.concatenate([late[:1], late[:-1]])
    frame = _add_rates(frame, "step", frame["entered_count"], minimum, effect)
    return _add_rates(frame, "overall", pd.Series(reached[0], index=frame.index), minimum, effect)


def _add_rates(frame: pd.DataFrame, head: str, below: pd.Series, minimum: int, effect: float = 1.0) -> pd.DataFrame:
    """Add the rate and Wilson's interval, missing below `minimum`; `effect` is the design effect."""
    size = below.astype(float).where(below >= max(minimum, 1)).to_numpy()
    rate = frame["converted_count"].astype("Float64").to_numpy(dtype=float, na_value=np.nan) / size
    n, z = size / effect, quantile()
    spread = 1 + z * z / n
    center = (rate + z * z / (2 * n)) / spread
    half = z / spread * np.sqrt(rate * (1 - rate) / n + z * z / (4 * n**2))
    low, high = np.clip(center - half, 0, 1), np.clip(center + half, 0, 1)
    return frame.assign(**{f"{head}_rate": rate, f"{head}_low": low, f"{head}_high": high})


def _break_down(labelled: Sequence[ir.Table | None], funnel: Funnel, minimum: int, effect: float) -> pd.DataFrame:
    assert labelled[0] is not None
    labels = choose_labels(labelled[0])
    counts, waiting = (None if o is None else count_levels(o, labels) for o in labelled)
    assert counts is not None
    both = [frame for frame in (counts, waiting) if frame is not None]
    sizes = pd.concat(both).groupby("segment", as_index=False).agg({"units": "sum"})
    rest = sizes["segment"] == NOT_REACHED
    names = [*sort_segments(sizes[~rest], "units")["segment"], *sizes.loc[rest, "segment"]]
    tables = []
    for name in names:
        part, late = (None if f is None else f[f["segment"] == name] for f in (counts, waiting))
        assert part is not None
        table = _tabulate(part, late, funnel, minimum, effect)
        table.insert(0, "segment", name)
        tables.append(table)
    empty = _tabulate(counts.iloc[:0], None, funnel, minimum, effect).iloc[:0]
    empty.insert(0, "segment", pd.Series(dtype=object))
    return pd.concat(tables, ignore_index=True) if tables else empty


def _tabulate_trend(found: pd.DataFrame, clock: Clock, funnel: Funnel, minimum: int) -> pd.DataFrame:
    def is_mature(number: int) -> bool:
        following = clock.start_of(number + 1)
        if clock.grain == "hour":
            end = clock.start_of(number + 1) - (clock.start_of(0) - dt.datetime(1970, 1, 1))
        else:
            end = funnel.calendar.day_start(following.date())
        return end + funnel.window <= funnel.known_until

    mature = pd.Series([is_mature(int(c)) for c in found["cohort"]], index=found.index, dtype=bool)
    frame = pd.DataFrame({"entry_start": pd.to_datetime([clock.start_of(int(c)) for c in found["cohort"]])})
    frame["entered_count"] = found["settled"].where(mature, found["entered"])
    frame["converted_count"] = found["converted"].astype("Int64").where(mature)
    frame = _add_rates(frame, "converted", frame["entered_count"], minimum)
    return frame.assign(mature=mature)


def _note(frame: pd.DataFrame, empty: set[int], funnel: Funnel, unit: FunnelUnit) -> tuple[str, ...]:
    notes = [
        say("step {number} ({step}) did not happen in reach of the period", number=i + 1, step=funnel.steps[i].label)
        for i in sorted(empty)
    ]
    entered, late = int(frame["entered_count"].iloc[0]), int(frame["immature_count"].iloc[0])
    named = say(UNIT_NAMES[unit])
    if not entered:
        notes.append(say("no {unit} with a whole window entered in the period", unit=named))
    if late:
        notes.append(
            say("{count:,} {unit} entered whose window is not over: they are in no rate", count=late, unit=named)
        )
    return tuple(notes)


def _note_few(count: int, unit: FunnelUnit, least: int) -> str:
    return say(
        "not enough data: {count:,} {unit}, at least {least} needed",
        count=count,
        unit=say(UNIT_NAMES[unit]),
        least=least,
    )

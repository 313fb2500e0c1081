"""The day's numbers: each beside the day before, the same weekday a week before, and what was to be expected."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd

from opslib.data.memory import remember
from opslib.data.periods import DAY
from opslib.decide.scope import WEEK_DAYS, Scope
from opslib.decide.series import SeriesReader
from opslib.errors import InputError
from opslib.measure.estimate import Estimate, to_plain_record

# What a daily glance holds, in the order in which it is read.
WATCHED = (
    "dau_count",
    "new_users_count",
    "d1_rate",
    "dwell_minutes_mean",
    "paying_rate",
    "revenue_amount",
    "complaint_rate",
    "requests_count",
    "error_rate",
)
# Numbers that no users make: a segment has none of its own.
OF_EVERYBODY = ("requests_count", "error_rate")
SHOWN_DAYS = 56
FALSE_ALARMS_PER_YEAR = 0.5
# With fewer days than this there is no line to look at.
FEWEST_DAYS = 14
# A value may lag by its users' waiting time and a few days more, no longer.
LATEST_DAYS = 10

NumberState = Literal["usual", "low", "high", "unknown"]


@dataclass(frozen=True)
class DayNumber:
    """One number of the day.

    Attributes:
        metric: its name.
        now: of the last day that is known.
        before, week_before: of the day before that, and of the same weekday a week before.
        state: inside its expected range ("usual"), below or above it, or "unknown".
        reason: why it is unknown.
        daily: the last 56 days: period_start, value, expected, low, high, unusual.
    """

    metric: str
    now: Estimate
    before: Estimate
    week_before: Estimate
    day: pd.Timestamp
    state: NumberState
    reason: str
    daily: pd.DataFrame

    def to_finding(self) -> dict[str, Any]:
        """A flat record."""
        last = self.daily.iloc[-1] if len(self.daily) else pd.Series(dtype=float)
        expected = {
            f"expected{part}": last.get(name) for part, name in (("", "expected"), ("_low", "low"), ("_high", "high"))
        }
        return self.now.to_finding(
            day=self.day.date().isoformat(), state=self.state, reason=self.reason
        ) | to_plain_record(expected)


def read_numbers(reader: SeriesReader, scope: Scope) -> tuple[DayNumber, ...]:
    """Read the day's numbers; those that the data do not have are left out."""
    found = []
    for metric in WATCHED:
        segment = "" if metric in OF_EVERYBODY else scope.segment
        if (number := _read_number(reader, metric, segment, scope.as_of)) is not None:
            found.append(number)
    return tuple(found)


@remember
def _read_number(reader: SeriesReader, metric: str, segment: str, as_of: dt.date) -> DayNumber | None:
    """Hold the last known day of a metric against the days before it; None where nothing is known of late."""
    from opslib.measure.expected import expect_values

    try:
        series = reader.read(metric, grain="day", segment=segment)
    except InputError:
        return None
    frame = series.of()
    known = frame[frame["status"] == "known"]
    latest = pd.Timestamp(as_of - LATEST_DAYS * DAY)
    if len(known) < FEWEST_DAYS or known["period_start"].iloc[-1] < latest:
        return None
    day = known["period_start"].iloc[-1]
    expected = expect_values(
        frame,
        grain="day",
        kind=series.kind,
        holidays=reader.data.playbook.holidays,
        false_alarms_per_year=FALSE_ALARMS_PER_YEAR,
    )
    daily = expected.daily.merge(frame[["period_start", "value"]], on="period_start", suffixes=("", "_raw"))
    daily = daily[daily["period_start"] <= day].tail(SHOWN_DAYS).reset_index(drop=True)
    last = daily.iloc[-1]
    judged = last["status"] == "judged"
    state: NumberState = (last["unusual"] or "usual") if judged else "unknown"
    estimates = [series.estimate((day - n * DAY).date()) for n in (0, 1, WEEK_DAYS)]
    columns = ["period_start", "value", "expected", "low", "high", "unusual"]
    reason = "" if judged else str(last["status"])
    return DayNumber(series.metric, estimates[0], estimates[1], estimates[2], day, state, reason, daily[columns])

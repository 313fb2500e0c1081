"""The range in which each period of a series is expected, from the periods before it, and the alarms outside it."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from opslib.data.operations import Holiday
from opslib.errors import InputError
from opslib.measure.estimate import quantile, to_plain_record
from opslib.measure.expected.watch import EPISODE, JUDGED, SHIFT_AFTER, HolidayDay, watch_periods
from opslib.measure.grains import Grain
from opslib.measure.series.series import SeriesKind

Side = Literal["low", "high", "both"]
PERIODS_PER_YEAR = {"day": 365.25, "week": 365.25 / 7, "month": 12.0, "quarter": 4.0}
WARM_UP = {"day": 28, "week": 10, "month": 6, "quarter": 4}
_STEPS = {"day": "D", "week": "7D"}
LEAST_WARM_UP = 4
# What is read of a series, besides its periods and their status.
USED = ("value", "numerator", "denominator", "standard_error")
# So many answers are kept.
MOST_RECALLED = 32
# More alarms than this share of all periods are no alarms.
MOST_ALARMS = 0.1

_recalled: dict[Any, tuple[pd.DataFrame, pd.DataFrame]] = {}


@dataclass(frozen=True)
class ExpectedRange:
    """One period: what it was and what was expected of it.

    Attributes:
        period_start: its first day.
        value: what was measured; None where nothing was.
        expected, low, high: what the periods before it let expect, and the range; None where it was not judged.
        score: how far outside, as standard deviations of a normal distribution; p_value: of both sides.
        unusual: "low", "high" or "".
        status: as in `ExpectedResult.daily`.
    """

    period_start: dt.date
    value: float | None
    expected: float | None
    low: float | None
    high: float | None
    score: float | None
    p_value: float | None
    unusual: str
    status: str


@dataclass(frozen=True)
class ExpectedResult:
    """What was expected of every period of a series, and when it was not so.

    Attributes:
        kind, grain: of the series.
        false_alarms_per_year: how often chance alone may raise an alarm, on the sides watched together.
        side: which sides raise one.
        warm_up: so many known periods come before the first that is judged.
        shift_after: after so many periods outside on one side the new level is taken as usual.
        daily: a row a period: period_start, value, numerator, denominator, expected, low, high (the value is unusual
            beyond these), score, p_value, unusual ("low", "high" or ""), status, holiday (its name).
        episodes: a row an alarm, which is one or more unusual periods in a row: first_day, last_day (of the last
            period's start), side, days_count (unusual periods), worst_day, worst_value, expected (on the worst day),
            excess (what came in addition, or is lacking: the sum of value - expected; for a rate in its numerator),
            excess_low, excess_high, peak_score, p_value (of the worst day).

    A status is "judged", "holiday" (and no earlier year of it says what is usual), "too few" (periods before
    it: fewer than `warm_up`), or why the value is missing, as in a `MetricSeries`, such as "no data".
    """

    kind: SeriesKind
    grain: Grain
    false_alarms_per_year: float
    side: Side
    warm_up: int
    shift_after: int
    daily: pd.DataFrame
    episodes: pd.DataFrame

    @property
    def missing_days(self) -> list[dt.date]:
        """The periods without data between the first and the last, which are no zeros."""
        return [d.date() for d in self.daily.loc[self.daily["status"] == "no data", "period_start"]]

    def range_on(self, day: dt.date) -> ExpectedRange:
        """What was expected of the period that starts on a day.

        Raises:
            InputError: the series has no such period.
        """
        rows = self.daily[self.daily["period_start"] == pd.Timestamp(day)]
        if rows.empty:
            starts = self.daily["period_start"]
            runs = f"it runs from {starts.min():%Y-%m-%d} to {starts.max():%Y-%m-%d}" if len(starts) else "it is empty"
            raise InputError(f"The series has no {self.grain} that starts on {day}: {runs}.")
        row = rows.iloc[0]
        numbers = {
            c: None if pd.isna(row[c]) else float(row[c])
            for c in ("value", "expected", "low", "high", "score", "p_value")
        }
        start = row["period_start"].date()
        return ExpectedRange(start, **numbers, unusual=row["unusual"], status=row["status"])

    def findings(self) -> list[dict[str, Any]]:
        """One flat record for the whole, and one an episode."""
        status = self.daily["status"].value_counts()
        whole = {
            "name": "expected_range",
            "grain": self.grain,
            "false_alarms_per_year": self.false_alarms_per_year,
            "judged_count": int(status.get(JUDGED, 0)),
            "no_data_count": int(status.get("no data", 0)),
            "holiday_count": int(status.get("holiday", 0)),
            "episodes_count": len(self.episodes),
        }
        rows = self.episodes.to_dict("records")
        return [whole, *({"name": "unusual_episode", **to_plain_record(r)} for r in rows)]


def expect_values(
    frame: pd.DataFrame,
    *,
    kind: SeriesKind,
    grain: Grain = "day",
    holidays: Sequence[Holiday] = (),
    false_alarms_per_year: float = 1.0,
    side: Side = "both",
    warm_up: int | None = None,
) -> ExpectedResult:
    """Say for every period what the periods before it let expect, and whether it lay outside.

    Args:
        frame: one group of a `MetricSeries`: period_start, value, numerator, denominator, standard_error, status; a
            row a period. Rows that are not "known" are not judged, and nothing is learnt from them.
        kind: count (whole numbers), rate (numerator of denominator) or mean (amounts and scores).
        grain: day, week or month.
        holidays: days that are not as usual: judged only when the same holiday of an earlier year says how far such
            days lie from others.
        false_alarms_per_year: how many alarms a year chance alone may raise, on the sides watched together.
        side: which side raises alarms.
        warm_up: known periods before the first that is judged: 28 days, 10 weeks or 6 months unless told.

    Returns:
        An `ExpectedResult`: a row a period and a row an alarm.

    Raises:
        InputError: more false alarms are allowed than a tenth of the periods, or none; a warm-up of less than four.

    Sources: smoothing in which surprises are cut before they reach the level, Gelper, Fried and Croux (2010), Journal
    of Forecasting 29, 285-300. Negative binomial limits for counts with past alarms left out, Farrington and others
    (1996), JRSS A 159, 547-563, and Noufaily and others (2013), Statistics in Medicine 32, 1206-1222. Medians against
    masking, Vallis, Hochenbaum and Kejariwal (2014), HotCloud. Limits from past forecast errors, Gibbs and Candes
    (2021), NeurIPS 34.

    >>> days = pd.date_range("2026-01-01", periods=60)
    >>> counts = [20, 22, 19, 21, 18, 20] * 10
    >>> counts[50] = 60
    >>> frame = pd.DataFrame({"period_start": days, "value": counts, "numerator": counts, "denominator": 1.0})
    >>> result = expect_values(frame, kind="count")
    >>> result.episodes[["first_day", "side", "worst_value"]].astype(str).to_numpy().tolist()
    [['2026-02-20', 'high', '60.0']]
    """
    sides = 2 if side == "both" else 1
    alpha = false_alarms_per_year / PERIODS_PER_YEAR[grain] / sides
    if not 0 < alpha <= MOST_ALARMS:
        most = MOST_ALARMS * PERIODS_PER_YEAR[grain] * sides
        raise InputError(
            f"false_alarms_per_year = {false_alarms_per_year:g} is not possible for a series by {grain}: "
            f"give a number above 0 and at most {most:.3g}."
        )
    least = WARM_UP[grain] if warm_up is None else warm_up
    if least < LEAST_WARM_UP:
        raise InputError(
            f"warm_up = {least} is too short: nothing is known of a series before {LEAST_WARM_UP} periods."
        )
    frame = _fill_gaps(frame, grain)
    names = _name_holidays(frame["period_start"], holidays, grain)
    daily, episodes = _recall(frame, names, kind, grain, alpha, side, least)
    return ExpectedResult(kind, grain, false_alarms_per_year, side, least, SHIFT_AFTER[grain], daily, episodes)


def _recall(
    frame: pd.DataFrame,
    names: list[HolidayDay | None],
    kind: SeriesKind,
    grain: Grain,
    alpha: float,
    side: Side,
    warm_up: int,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Periods and episodes, kept for the same question: a rule and a chart often ask about one series."""
    columns = {c: frame[c] for c in USED if c in frame}
    content = tuple((c, str(v.dtype), v.to_numpy(dtype=float).tobytes()) for c, v in columns.items())
    times = (str(frame["period_start"].dtype), frame["period_start"].to_numpy().tobytes())
    key = (content, times, tuple(frame["status"]), tuple(names), kind, grain, alpha, side, warm_up)
    if key not in _recalled:
        watched = watch_periods(frame, names, kind, grain, alpha, side, warm_up)
        found = watched.drop(columns=["deviation", "uncertain"]), _find_episodes(watched, kind)
        while len(_recalled) >= MOST_RECALLED:
            del _recalled[next(iter(_recalled))]
        _recalled[key] = found
    daily, episodes = _recalled[key]
    return daily.copy(), episodes.copy()


def _fill_gaps(frame: pd.DataFrame, grain: Grain) -> pd.DataFrame:
    """A row for every period: one that is not there is one without data."""
    frame = frame.assign(period_start=pd.to_datetime(frame["period_start"])).sort_values("period_start")
    if "status" not in frame:
        frame = frame.assign(status=np.where(frame["value"].notna(), "known", "no data"))
    if grain not in _STEPS or frame.empty:
        return frame.reset_index(drop=True)
    starts = frame["period_start"]
    every = pd.date_range(starts.iloc[0], starts.iloc[-1], freq=_STEPS[grain])
    if len(every) == len(frame):
        return frame.reset_index(drop=True)
    filled = frame.set_index("period_start").reindex(every).rename_axis("period_start").reset_index()
    return filled.assign(status=filled["status"].fillna("no data"))


def _name_holidays(starts: pd.Series, holidays: Sequence[Holiday], grain: Grain) -> list[HolidayDay | None]:
    """The holiday that each day lies in; a week or a month is judged as any other."""
    days: dict[pd.Timestamp, HolidayDay] = {}
    for holiday in holidays if grain == "day" else ():
        for offset, day in enumerate(pd.date_range(holiday.start, holiday.last_day)):
            days.setdefault(day, HolidayDay(holiday.name, holiday.start, offset))
    return [days.get(day) for day in starts]


def _find_episodes(watched: pd.DataFrame, kind: SeriesKind) -> pd.DataFrame:
    """Unusual periods in a row, on one side; a period without data does not end them."""
    known = watched[watched["status"] != "no data"]
    side = known["unusual"]
    number = (side != side.shift()).cumsum()
    rows = [_sum_episode(part, kind) for _, part in known[side != ""].groupby(number[side != ""])]
    return pd.DataFrame(rows, columns=list(EPISODE))


def _sum_episode(part: pd.DataFrame, kind: SeriesKind) -> dict[str, Any]:
    worst = part.iloc[int(part["score"].abs().to_numpy().argmax())]
    size = part["denominator"] if kind == "rate" else 1.0
    excess = float(((part["value"] - part["expected"]) * size).sum())
    # Chance differs from day to day, while a level that is not known well is off on all days together.
    together = float((part["uncertain"] * part["deviation"] * size).sum())
    half = quantile() * math.hypot(math.sqrt(float(((part["deviation"] * size) ** 2).sum())), together)
    return {
        "first_day": part["period_start"].iloc[0],
        "last_day": part["period_start"].iloc[-1],
        "side": worst["unusual"],
        "days_count": len(part),
        "worst_day": worst["period_start"],
        "worst_value": float(worst["value"]),
        "expected": float(worst["expected"]),
        "excess": excess,
        "excess_low": excess - half,
        "excess_high": excess + half,
        "peak_score": float(worst["score"]),
        "p_value": float(worst["p_value"]),
    }

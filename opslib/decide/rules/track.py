"""One group's series as a rule sees it: arrays on a grid without gaps, what can be judged, and why the rest cannot."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from opslib.data.operations import Holiday, RuleSettings
from opslib.decide.rules.condition import Condition, Flags, Floats, Ints
from opslib.decide.rules.season import estimate_weekday_factors, widen_for_season
from opslib.measure.series.series import MetricSeries, SeriesKind

# Totals are no means over users, though money in them varies by user.
_TOTALS = frozenset({"revenue_amount", "spend_amount"})
# A week or a month is as unusual as a holiday when this share of its days is one.
_HOLIDAY_SHARE = 0.5
# With fewer cases a day, weekdays cannot be told apart from chance.
_FEWEST_CASES = 5
_EPOCH = pd.Timestamp(1970, 1, 1)


@dataclass(frozen=True)
class Track:
    """One group's periods up to a day; every array has one entry a period, the oldest first.

    Attributes:
        group: its name.
        kind: how chance makes the values vary.
        starts: first day of each period.
        days: day number at whose end the period is known.
        raw: values as measured (of months: counts and totals a day where the rule compares months).
        value: the same without weekdays.
        numerator, denominator: what the raw values were made from.
        hits, base: what `value` is made from: a weekday with half the users' usual doings is as half of the users.
        error: standard error of the value; missing where not known.
        factors: what weekdays divided the value by.
        widened: by how much that widens the variance of the last value.
        judged: which periods the rule judges.
        why: why a period is not judged, empty where it is.
        ordinary: judged, and no holiday: what is usual is learnt from these.
    """

    group: str
    kind: SeriesKind
    starts: NDArray[np.datetime64]
    days: Ints
    raw: Floats
    value: Floats
    numerator: Floats
    denominator: Floats
    hits: Floats
    base: Floats
    error: Floats
    factors: Floats
    widened: float
    judged: Flags
    why: NDArray[np.object_]
    ordinary: Flags


def prepare_track(
    rule: RuleSettings,
    condition: Condition,
    series: MetricSeries,
    frame: pd.DataFrame,
    group: str,
    *,
    as_of: dt.date,
    holidays: Sequence[Holiday],
) -> Track:
    """Put one group's rows on a grid.

    Args:
        rule, condition: what is asked.
        series: the series, for its kind and unit.
        frame: the group's rows.
        group: its name.
        as_of: what was not known at the end of this day is left out.
        holidays: days that are not as usual: compared with nothing by rules on changes and trends.
    """
    rows = frame[frame["known_on"] <= pd.Timestamp(as_of)].sort_values("period_start")
    rows = rows.drop_duplicates("period_start", keep="last").set_index("period_start")
    if len(rows):
        rows = rows.reindex(pd.date_range(rows.index[0], rows.index[-1], freq=_step(rule.grain, rows.index)))
    starts = pd.DatetimeIndex(rows.index)
    length = _count_days(rule.grain, starts)
    raw, numerator, denominator, error = (
        rows[name].to_numpy(dtype=float, na_value=np.nan)
        for name in ("value", "numerator", "denominator", "standard_error")
    )
    why = np.where(rows["status"].isna(), "no data", rows["status"].astype(object).fillna("")).astype(object)
    known = (why == "known") & np.isfinite(raw)
    why[known] = ""
    why[(why == "known") & ~known] = "no data"
    lag = rows["known_on"].sub(starts.to_series(index=rows.index)).dt.days if len(rows) else pd.Series(dtype=float)
    wait = lag.sub(length).median()
    known_on = rows["known_on"].fillna(starts.to_series(index=rows.index) + pd.to_timedelta(length + (wait or 0), "D"))
    days = (pd.DatetimeIndex(known_on) - _EPOCH).days.to_numpy().astype(np.int64)

    per_period = series.kind == "count" or series.metric in _TOTALS
    if not per_period:
        few = known & (denominator < rule.minimum_users)
        why[few], known = "too few", known & ~few
    elif rule.grain == "month" and condition.kind != "level" and _is_whole(denominator[known], length[known]):
        # Months differ in length: 28 days of February are no fall.
        raw, error = raw / length, error / length
        denominator = denominator * length
    resting = _find_holidays(starts, length, holidays)
    ordinary = known & ~resting
    judged = known
    if condition.kind != "level":
        why[known & resting], judged = "holiday", ordinary
    if series.kind == "count":
        denominator = np.where(np.isfinite(denominator) & (denominator > 0), denominator, 1.0)
    value, hits, base, weeks = _take_out_weekdays(rule, condition, series.kind, ordinary, raw, numerator, denominator)
    with np.errstate(divide="ignore", invalid="ignore"):
        factors = np.where(value != 0, raw / value, 1.0)
    return Track(
        group=group,
        kind=series.kind,
        starts=starts.to_numpy(),
        days=days,
        raw=raw,
        value=value,
        numerator=numerator,
        denominator=denominator,
        hits=hits,
        base=base,
        error=error / np.where(np.isfinite(factors) & (factors > 0), factors, 1.0),
        factors=factors,
        widened=widen_for_season(weeks),
        judged=judged,
        why=why,
        ordinary=ordinary,
    )


def _take_out_weekdays(
    rule: RuleSettings,
    condition: Condition,
    kind: SeriesKind,
    ordinary: Flags,
    raw: Floats,
    numerator: Floats,
    denominator: Floats,
) -> tuple[Floats, Floats, Floats, float]:
    if rule.grain != "day" or condition.kind == "unusual" or not ordinary.any():
        return raw, numerator, denominator, 0.0
    if kind != "mean" and float(np.mean(numerator[ordinary])) < _FEWEST_CASES:
        return raw, numerator, denominator, 0.0
    # Of rates near one, what is missing to one has the season: a share cannot pass it.
    complement = kind == "rate" and float(np.median(raw[ordinary])) > 0.5
    seen = 1 - raw if complement else raw
    factors, weeks = estimate_weekday_factors(np.where(ordinary, seen, np.nan))
    last = float(weeks[-1])
    if not weeks.any():
        return raw, numerator, denominator, last
    if kind == "mean":
        return raw / factors, numerator, denominator, last
    base = denominator * factors
    if complement:
        return 1 - seen / factors, np.maximum(base - (denominator - numerator), 0.0), base, last
    return raw / factors, numerator, base, last


def _step(grain: str, index: pd.Index) -> str | pd.Timedelta:
    return "MS" if grain == "month" else pd.Timedelta(days=7 if grain == "week" else 1)


def _count_days(grain: str, starts: pd.DatetimeIndex) -> Floats:
    if grain == "month":
        return starts.days_in_month.to_numpy().astype(float)
    return np.full(len(starts), 7.0 if grain == "week" else 1.0)


def _is_whole(denominator: Floats, length: Floats) -> bool:
    """Whether values are totals of a period, not yet means a day."""
    return not np.allclose(denominator, length)


def _find_holidays(starts: pd.DatetimeIndex, length: Floats, holidays: Sequence[Holiday]) -> Flags:
    first = (starts - _EPOCH).days.to_numpy()
    covered = np.zeros(len(starts))
    for holiday in holidays:
        begin, end = ((pd.Timestamp(day) - _EPOCH).days for day in (holiday.start, holiday.last_day))
        covered += np.clip(np.minimum(first + length, end + 1) - np.maximum(first, begin), 0, None)
    return covered >= _HOLIDAY_SHARE * length

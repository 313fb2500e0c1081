"""The looks that series give: groups that were reached against groups that were not, or before against after."""

from __future__ import annotations

import datetime as dt
import math
from dataclasses import replace

import pandas as pd

from opslib.data.operations import InitiativeSettings
from opslib.decide.series import SeriesReader
from opslib.decide.series.asked import check_segment
from opslib.decide.verdicts.looks import POWER_OVER_LEVEL, Look, Role, judge_direction
from opslib.errors import InputError
from opslib.language import join_sentences, say
from opslib.measure.counterfactual.before_after import compare_series
from opslib.measure.counterfactual.differences import difference_in_differences
from opslib.measure.counterfactual.result import CounterfactualResult
from opslib.measure.counterfactual.synthetic import FEWEST_DONORS, synthetic_control
from opslib.measure.counterfactual.weeks import WEEK_DAYS, Scale
from opslib.measure.estimate import Estimate, Unit
from opslib.measure.series.series import MetricSeries

# Fewer whole weeks say more of the weeks than of the initiative.
FEWEST_WEEKS = 2


def read_series_look(
    reader: SeriesReader,
    initiative: InitiativeSettings,
    role: Role,
    metric: str,
    *,
    as_of: dt.date,
    worth: float | None,
    why_not: tuple[str, ...] = (),
) -> Look:
    """Look at a metric by its daily series: against segments that could not be reached, else before and after.

    Args:
        why_not: why there is nothing stronger.

    Returns:
        A `Look`.

    Raises:
        InputError: a segment that is not there.
    """
    last_day = min(as_of, initiative.last_day)
    if initiative.start <= reader.span.start:
        note = say(
            "It began on {day}, and the data on {data_day}: nothing is known of before.",
            day=initiative.start,
            data_day=reader.span.start,
        )
        return Look(role, metric, _unit(metric), "none", why_not=why_not, notes=(note,), worth=worth)
    for segment in (initiative.segment, *initiative.unaffected):
        check_segment(reader.data, segment)
    if initiative.segment and initiative.unaffected:
        found = _compare_groups(reader, initiative, metric, last_day)
        if isinstance(found, CounterfactualResult):
            return _look_at_groups(found, role, metric, initiative, as_of, worth, why_not)
        why_not = (*why_not, found)
    elif initiative.unaffected:
        why_not = (*why_not, say("It names segments that it cannot reach, but not the segment that it reaches."))
    else:
        why_not = (*why_not, say("It names no segments that it cannot reach, to compare with."))
    try:
        series, start = _read(reader, metric, initiative.start, segment=initiative.segment)
    except InputError as error:
        return Look(role, metric, _unit(metric), "none", why_not=why_not, notes=(str(error),), worth=worth)
    if series.note:
        return Look(role, metric, series.unit, "none", why_not=why_not, notes=(series.note,), worth=worth)
    return _look_before_after(series, role, metric, start, last_day, initiative, as_of, worth, why_not)


def _unit(metric: str) -> Unit:
    suffixes: dict[str, Unit] = {"_rate": "rate", "_count": "count", "_amount": "amount"}
    return next((unit for suffix, unit in suffixes.items() if metric.endswith(suffix)), "ratio")


def _read(
    reader: SeriesReader, metric: str, start: dt.date, *, by: str = "", segment: str = ""
) -> tuple[MetricSeries, dt.date]:
    """A metric day by day, and the first day that belongs to after.

    Churn is known by week alone: each week stands for its seven days, and the week in which it began is left out.
    """
    if metric != "churn_rate":
        return reader.read(metric, by=by, segment=segment), start
    weekly = reader.read(metric, grain="week", by=by, segment=segment)
    first = pd.Timestamp(start)
    frame = weekly.frame
    if frame.empty:
        return weekly, start
    # The week that the start lies in has users of both sides.
    mixed = (frame["period_start"] < first) & (frame["period_start"] + pd.Timedelta(days=WEEK_DAYS) > first)
    frame = frame[~mixed]
    days = pd.concat(
        [frame.assign(period_start=frame["period_start"] + pd.Timedelta(days=n)) for n in range(WEEK_DAYS)]
    )
    days = days.assign(numerator=days["numerator"] / WEEK_DAYS, denominator=days["denominator"] / WEEK_DAYS)
    later = frame["period_start"][frame["period_start"] >= first]
    begins = later.min().date() if len(later) else start
    # The weeks before end where the mixed one began; moved up, they lie next to the weeks after.
    gap = pd.Timedelta(days=WEEK_DAYS) if mixed.any() else pd.Timedelta(0)
    days["period_start"] = days["period_start"].where(days["period_start"] >= first, days["period_start"] + gap)
    return replace(weekly, frame=days.reset_index(drop=True)), begins


def _compare_groups(
    reader: SeriesReader, initiative: InitiativeSettings, metric: str, last_day: dt.date
) -> CounterfactualResult | str:
    """The comparison with segments that were not reached, or why there is none."""
    try:
        series, treated, others, start = _split_groups(reader, initiative, metric)
    except InputError as error:
        return say("It cannot be compared between segments: {error}", error=error)
    if series.note:
        return series.note
    scale: Scale = "log" if series.kind == "count" or series.unit == "amount" else "level"
    options = {"start": start, "last_day": last_day, "metric": metric, "unit": series.unit, "scale": scale}
    by_differences = difference_in_differences(treated, others, **options)  # type: ignore[arg-type]
    if by_differences.known and by_differences.sound:
        return by_differences
    if others["group"].nunique() >= FEWEST_DONORS:
        by_mix = synthetic_control(treated, others, **options)  # type: ignore[arg-type]
        if by_mix.known and by_mix.sound:
            return replace(by_mix, notes=(*by_differences.notes, *by_mix.notes))
    if by_differences.known:
        return join_sentences(by_differences.notes)
    return join_sentences(by_differences.notes) or say("The segments cannot be compared.")


def _split_groups(
    reader: SeriesReader, initiative: InitiativeSettings, metric: str
) -> tuple[MetricSeries, pd.DataFrame, pd.DataFrame, dt.date]:
    column, _, value = initiative.segment.partition(":")
    others = [s.partition(":") for s in initiative.unaffected]
    if all(c == column for c, _, _ in others):
        series, start = _read(reader, metric, initiative.start, by=column)
        frame, wanted = series.frame, [v for _, _, v in others]
        if series.note or {value, *wanted} <= set(frame["group"]):
            return series, frame[frame["group"] == value], frame[frame["group"].isin(wanted)], start
    series, start = _read(reader, metric, initiative.start, segment=initiative.segment)
    parts = [_read(reader, metric, initiative.start, segment=s)[0].frame.assign(group=s) for s in initiative.unaffected]
    return series, series.frame, pd.concat(parts, ignore_index=True), start


def _look_at_groups(
    found: CounterfactualResult,
    role: Role,
    metric: str,
    initiative: InitiativeSettings,
    as_of: dt.date,
    worth: float | None,
    why_not: tuple[str, ...],
) -> Look:
    actual, expected = (
        Estimate(metric, value, value or 0.0, 1.0, None, None, "mean of weeks", found.unit)
        for value in (found.actual, found.expected)
    )
    look = Look(
        role, metric, found.unit, found.method, actual, expected, found.effect, found.low, found.high, found.p_value,
        found.relative, window_days=found.days_after, worth=worth, why_not=why_not, notes=found.notes, result=found,
    )  # fmt: skip
    return _add_need(judge_direction(_hold_back(look)), found.weeks_after, initiative, as_of)


def _look_before_after(
    series: MetricSeries,
    role: Role,
    metric: str,
    start: dt.date,
    last_day: dt.date,
    initiative: InitiativeSettings,
    as_of: dt.date,
    worth: float | None,
    why_not: tuple[str, ...],
) -> Look:
    found = compare_series(
        series.frame, start=start, last_day=last_day, name=metric, unit=series.unit, kind=series.kind
    )
    change = found.change
    weeks = max(0, ((last_day - start).days + 1) // WEEK_DAYS)
    base = Look(
        role, metric, series.unit, "before/after only", change.now, change.before, change.difference, change.low,
        change.high, None, change.relative, worth=worth, why_not=why_not, result=found,
        beyond_usual=None if found.within_usual is None else not found.within_usual, window_days=weeks * WEEK_DAYS,
    )  # fmt: skip
    if change.difference is None:
        note = say("{text}.", text=change.now.note or change.before.note)
        return replace(base, strength="none", notes=(note.capitalize(),))
    assert change.low is not None and change.high is not None
    error = (change.high - change.low) / (2 * 1.96)
    p = math.erfc(abs(change.difference) / error / math.sqrt(2)) if error > 0 else float(change.difference == 0)
    return _add_need(judge_direction(_hold_back(replace(base, p_value=p))), weeks, initiative, as_of)


def _hold_back(look: Look) -> Look:
    """With less than two whole weeks there is a number, and nothing said of it."""
    if look.window_days >= FEWEST_WEEKS * WEEK_DAYS:
        return look
    note = say(
        "Only {days} days are known since the start; it takes {minimum} at least.",
        days=look.window_days,
        minimum=FEWEST_WEEKS * WEEK_DAYS,
    )
    return replace(look, effect=None, low=None, high=None, p_value=None, relative=None, notes=(*look.notes, note))


def _add_need(look: Look, weeks: int, initiative: InitiativeSettings, as_of: dt.date) -> Look:
    """How many days more it would take, where it is not clear yet and more days will come."""
    if look.direction == "unknown" and look.window_days < FEWEST_WEEKS * WEEK_DAYS:
        waited = (as_of - initiative.start).days + 1
        return replace(look, more_days=max(1, FEWEST_WEEKS * WEEK_DAYS - waited))
    if look.direction != "unclear" or not look.worth or look.low is None or look.high is None or not weeks:
        return look
    reach = (look.high - look.low) / 2 * POWER_OVER_LEVEL
    if reach <= look.worth:
        return look
    # The error falls with the root of the weeks, as long as there are as many before.
    more = math.ceil(weeks * ((reach / look.worth) ** 2 - 1)) * WEEK_DAYS
    return replace(look, more_days=more)

"""Evaluate a rule on a day: verbatim, as its source has it, and calibrated, so that chance alone rarely fires it."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from opslib.data.operations import Holiday, RuleSettings
from opslib.decide.rules.certainty import bound_value, judge_passing
from opslib.decide.rules.condition import (
    PER_YEAR,
    Condition,
    Course,
    Flags,
    Floats,
    Worlds,
    compare_before,
    make_condition,
)
from opslib.decide.rules.noise import (
    Alarms,
    Noise,
    calibrate,
    count_alarms,
    follow_real,
    imagine_flags,
    imagine_worlds,
    learn_noise,
)
from opslib.decide.rules.result import FIRING_COLUMNS, GROUP_COLUMNS, RuleResult
from opslib.decide.rules.track import Track, prepare_track
from opslib.language import mark, say
from opslib.measure.estimate import adjust_p_values
from opslib.measure.series.series import MetricSeries

# A value that is older than one period says nothing about today.
_PERIOD_DAYS = {"day": 1, "week": 7, "month": 31}
_CLEAR = 0.05
# What is usual is not learnt from less than so many periods, even if an episode leaves no more before it.
_LEAST_BEFORE = 6
_EPOCH = dt.date(1970, 1, 1)


@dataclass(frozen=True)
class _Expected:
    """What the expected range says of each period, for rules on what is unusual."""

    flags: Flags
    p_value: Floats
    expected: Floats
    bound: Floats


def evaluate_rule(
    rule: RuleSettings,
    series: MetricSeries,
    *,
    as_of: dt.date,
    target: float | None = None,
    holidays: Sequence[Holiday] = (),
    seed: int = 0,
) -> RuleResult:
    """Evaluate a rule on each group of a series.

    Args:
        rule: what to ask.
        series: the rule's metric, at its grain and by its column; any history that there is.
        as_of: only what was known at the end of this day is used.
        target: the metric's target, for rules with below or above = "target".
        holidays: days that are not as usual: level rules judge them, all others do not.
        seed: of the made-up worlds that say how often the rule fires by chance.

    Returns:
        A `RuleResult`. Strictly below or above the threshold counts; a change of exactly the size asked for counts.
        Periods that are not known neither satisfy a run nor break it; the last `of` (or `times`) known ones count, if
        they lie within twice as many periods. Weekdays are taken out of daily values before they are judged; changes
        on daily values compare the same weekday. A rule that cannot be evaluated says why and is not green.

    Source of the chance: worlds with the true value held at what is usual, the volume of the last year, scatter beyond
    chance among users as in the series, at least 400 years, run through the same evaluation.
    """
    if series.note:
        return _say_nothing(rule, series, as_of, series.note)
    condition = make_condition(rule, target)
    if condition is None:
        return _say_nothing(rule, series, as_of, say("no target for {metric} in the playbook", metric=rule.metric))
    if series.frame.empty:
        return _say_nothing(rule, series, as_of, say("no values of {metric}", metric=rule.metric))
    frame = series.frame.assign(
        period_start=pd.to_datetime(series.frame["period_start"]), known_on=pd.to_datetime(series.frame["known_on"])
    )
    rows, firings = [], []
    for group, own in frame.groupby("group", sort=True):
        track = prepare_track(rule, condition, series, own, str(group), as_of=as_of, holidays=holidays)
        row, episodes = _judge_group(rule, condition, track, own, as_of=as_of, holidays=holidays, seed=seed)
        rows.append(row)
        firings += episodes
    groups = pd.DataFrame(rows, columns=list(GROUP_COLUMNS))
    groups["q_value"] = adjust_p_values(groups["p_value"].astype(float)) if rule.by else groups["p_value"].astype(float)
    groups["clear"] = groups["q_value"] <= _CLEAR
    for name in ("since", "calibrated_since", "period_start"):
        groups[name] = pd.to_datetime(groups[name])
    unknown = groups.loc[groups["state"] == "unknown", "reason"]
    note = unknown.iloc[0] if len(groups) and len(unknown) == len(groups) else ""
    return RuleResult(rule, series, as_of, note, groups, _tabulate(firings))


def _judge_group(
    rule: RuleSettings,
    condition: Condition,
    track: Track,
    frame: pd.DataFrame,
    *,
    as_of: dt.date,
    holidays: Sequence[Holiday],
    seed: int,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    row: dict[str, Any] = {"group": track.group, "state": "unknown", "reason": "", "calibrated_state": "unknown"}
    if not track.judged.any():
        return row | {"reason": _most_common(track) if len(track.why) else "no data"}, []
    expected = None
    if condition.kind == "unusual":
        expected = _expect(rule, track, frame, holidays)
        # A holiday is judged where earlier ones of its name tell how far such days lie.
        able = (track.judged | (track.why == "holiday")) & np.isfinite(expected.p_value)
        track = replace(track, judged=able, why=np.where(able, "", track.why))
        if not track.judged.any():
            return row | {"reason": "too few periods"}, []
    flags = None if expected is None else expected.flags
    # First as it stands, to see where the present episode begins; what was before it is usual.
    noise = learn_noise(track, rule.grain, len(track.value))
    if condition.kind != "unusual" and not np.isfinite(noise.usual):
        # Nothing of the last year can be judged.
        return row | {"reason": str(track.why[-1]) or "too few periods"}, []
    worlds, course = follow_real(condition, track, noise, flags)
    before = _find_onset(condition, course)
    earlier = learn_noise(track, rule.grain, before)
    if not np.isfinite(earlier.usual):
        before = len(track.value)
    elif before < len(track.value):
        noise = earlier
        worlds, course = follow_real(condition, track, noise, flags)
    noise = replace(noise, dispersion=noise.dispersion * track.widened)
    tight, verbatim, calibrated = _gauge(rule, condition, track, noise, before, seed)
    tight_worlds, tight_course = follow_real(tight, track, noise, flags)

    state, reason = _name_state(rule, track, course, as_of)
    tight_state, _ = _name_state(rule, track, tight_course, as_of)
    judged = np.flatnonzero(course.base_judged)
    last = int(judged[-1]) if len(judged) else int(np.flatnonzero(track.judged)[-1])
    row |= {"state": state, "reason": reason, "since": _find_since(track, course)}
    row |= {"calibrated_state": tight_state, "calibrated_since": _find_since(track, tight_course)}
    row |= _describe_period(condition, track, noise, worlds, course, last, expected, seed)
    tight_size = _bound(tight, tight_worlds, last, expected) if tight.kind in ("level", "unusual") else tight.threshold
    row |= {
        "usual_value": noise.usual,
        "dispersion_ratio": noise.dispersion,
        "noise_fires_per_year": verbatim.per_year,
        "noise_year_probability": verbatim.year_probability,
        "noise_period_probability": verbatim.period_probability,
        "calibrated_threshold": tight_size,
        "calibrated_noise_fires_per_year": calibrated.per_year,
    }
    episodes = _list_episodes("verbatim", condition, track, worlds, course, as_of, expected)
    return row, episodes + _list_episodes("calibrated", tight, track, tight_worlds, tight_course, as_of, expected)


def _gauge(
    rule: RuleSettings, condition: Condition, track: Track, noise: Noise, before: int, seed: int
) -> tuple[Condition, Alarms, Alarms]:
    """The calibrated condition, and how often each version fires while all is as usual."""
    grain, allowed = rule.grain, rule.false_alarms_per_year
    if condition.kind == "unusual":
        # The range is made for so many false alarms: there is nothing left to calibrate.
        alarms = Alarms(allowed, 1 - math.exp(-allowed), allowed / PER_YEAR[grain])
        if condition.window > 1:
            worlds, start = imagine_flags(condition, track, grain, before=before, rate=allowed, seed=seed)
            alarms = count_alarms(condition, worlds, start, grain)
        return condition, alarms, alarms
    usual, start = imagine_worlds(condition, track, noise, noise.usual, grain, before=before, seed=seed)
    verbatim = count_alarms(condition, usual, start, grain)
    null = usual
    if condition.kind == "level":
        null, _ = imagine_worlds(condition, track, noise, condition.threshold, grain, before=before, seed=seed + 1)
    tight = calibrate(condition, null, start, grain, allowed)
    return tight, verbatim, count_alarms(tight, usual, start, grain)


def _expect(rule: RuleSettings, track: Track, frame: pd.DataFrame, holidays: Sequence[Holiday]) -> _Expected:
    from opslib.measure.expected import expect_values

    side = rule.unusual or "both"
    starts = pd.DatetimeIndex(track.starts)
    rows = frame.set_index("period_start").reindex(starts)
    # Holidays go in as known: how far earlier ones lay is learnt there, not here.
    status = np.where(np.isin(track.why, ["", "holiday"]), "known", track.why)
    rows = rows.assign(status=status).reset_index(names="period_start")
    result = expect_values(
        rows,
        grain=rule.grain,
        kind=track.kind,
        holidays=tuple(holidays),
        false_alarms_per_year=rule.false_alarms_per_year,
        side=side,
    )
    daily = result.daily.assign(period_start=pd.to_datetime(result.daily["period_start"]))
    daily = daily.drop_duplicates("period_start").set_index("period_start").reindex(starts)
    expected, low, high, p_value = (
        daily[name].to_numpy(dtype=float, na_value=np.nan, copy=True) for name in ("expected", "low", "high", "p_value")
    )
    flags = (daily["unusual"].fillna("") != "").to_numpy(dtype=bool)
    p_value[(daily["status"] != "judged").to_numpy()] = np.nan
    below = track.raw < expected
    if side != "both":
        # Stated for both sides; a rule on one asks for that one.
        p_value = np.where(below == (side == "low"), p_value / 2, 1 - p_value / 2)
    bound = np.where(below if side == "both" else side == "low", low, high)
    return _Expected(flags, p_value, expected, bound)


def _find_onset(condition: Condition, course: Course) -> int:
    """The row before which nothing of the present episode lies; all rows where there is none."""
    rows = len(course.on)
    if not course.on.any() or not course.on[np.flatnonzero(course.base_judged)[-1], 0]:
        return rows
    fired = int(np.flatnonzero(course.fired[:, 0])[-1])
    judged = np.flatnonzero(course.base_judged[: fired + 1])
    onset = int(judged[-min(condition.window, len(judged))])
    return onset if course.base_judged[:onset].sum() >= _LEAST_BEFORE else rows


def _name_state(rule: RuleSettings, track: Track, course: Course, as_of: dt.date) -> tuple[str, str]:
    last = len(track.value) - 1
    if (as_of - _EPOCH).days - int(track.days[last]) > _PERIOD_DAYS[rule.grain]:
        return "unknown", mark("no recent data")
    if not track.judged[last]:
        return "unknown", str(track.why[last]) or "too few periods"
    if not course.base_judged[last] or not course.decided[last, 0]:
        return "unknown", "too few periods"
    if course.on[last, 0]:
        return "firing", ""
    return ("cooling", "") if course.cooling[last, 0] else ("quiet", "")


def _find_since(track: Track, course: Course) -> pd.Timestamp | None:
    judged = np.flatnonzero(course.base_judged)
    if not len(judged) or not course.on[judged[-1], 0]:
        return None
    return _day(track, int(np.flatnonzero(course.fired[:, 0])[-1]))


def _describe_period(
    condition: Condition,
    track: Track,
    noise: Noise,
    worlds: Worlds,
    course: Course,
    row: int,
    expected: _Expected | None,
    seed: int,
) -> dict[str, Any]:
    passed, p_value = judge_passing(condition, track, noise, worlds, course, row, seed=seed)
    if expected is not None:
        p_value = float(expected.p_value[row])
        passed = 1 - p_value
    low, high = bound_value(track, noise, row)
    compared = _compare(condition, worlds, row, expected)
    value = float(track.value[row])
    return {
        "period_start": pd.Timestamp(track.starts[row]),
        "value": float(track.raw[row]),
        "adjusted_value": value,
        "compared_value": compared,
        "change_ratio": value / compared - 1 if compared == compared and compared else float("nan"),
        "threshold": _bound(condition, worlds, row, expected),
        "numerator": float(track.numerator[row]),
        "denominator": float(track.denominator[row]),
        "low": low,
        "high": high,
        "passed_probability": passed,
        "p_value": p_value,
    }


def _compare(condition: Condition, worlds: Worlds, row: int, expected: _Expected | None) -> float:
    """What a value is compared with; missing for levels."""
    if expected is not None:
        return float(expected.expected[row])
    if condition.kind == "change":
        before, told = compare_before(condition, worlds)
        return float(before[row, 0]) if told[row] else float("nan")
    if condition.kind == "trend":
        known = np.flatnonzero(worlds.judged[: row + 1])
        return float(worlds.value[known[-condition.window - 1], 0]) if len(known) > condition.window else float("nan")
    return float("nan")


def _bound(condition: Condition, worlds: Worlds, row: int, expected: _Expected | None) -> float:
    """What a value is held against, on the value's own scale."""
    if expected is not None:
        return float(expected.bound[row])
    if condition.kind == "level":
        return float(condition.threshold + condition.direction * condition.margin * worlds.scale[row])
    return _compare(condition, worlds, row, None) * (1 + condition.direction * condition.threshold)


def _list_episodes(
    version: str,
    condition: Condition,
    track: Track,
    worlds: Worlds,
    course: Course,
    as_of: dt.date,
    expected: _Expected | None,
) -> list[dict[str, Any]]:
    judged = np.flatnonzero(course.base_judged)
    on, fired = course.on[judged, 0], course.fired[judged, 0]
    episodes = []
    for first in np.flatnonzero(fired):
        row = int(judged[first])
        off = np.flatnonzero(~on[first:])
        ended = _day(track, int(judged[first + off[0] - 1])) if len(off) else None
        start = _day(track, row)
        episodes.append(
            {
                "version": version,
                "group": track.group,
                "fired_on": start,
                "period_start": pd.Timestamp(track.starts[row]),
                "last_day": ended,
                "days": ((ended or pd.Timestamp(as_of)) - start).days + 1,
                "value": float(track.value[row]),
                "threshold": _bound(condition, worlds, row, expected),
            }
        )
    return episodes


def _tabulate(firings: list[dict[str, Any]]) -> pd.DataFrame:
    table = pd.DataFrame(firings, columns=list(FIRING_COLUMNS))
    for name in ("fired_on", "period_start", "last_day"):
        table[name] = pd.to_datetime(table[name])
    order = ["version", "group", "fired_on"]
    return table.sort_values(order, ascending=[False, True, True], kind="stable").reset_index(drop=True)


def _day(track: Track, row: int) -> pd.Timestamp:
    return pd.Timestamp(_EPOCH) + pd.Timedelta(days=int(track.days[row]))


def _most_common(track: Track) -> str:
    names, counts = np.unique(track.why.astype(str), return_counts=True)
    return str(names[counts.argmax()]) or "no data"


def _say_nothing(rule: RuleSettings, series: MetricSeries, as_of: dt.date, note: str) -> RuleResult:
    groups = pd.DataFrame(columns=list(GROUP_COLUMNS))
    return RuleResult(rule, series, as_of, note, groups, pd.DataFrame(columns=list(FIRING_COLUMNS)))

"""What chance alone does to a series: how far its values scatter about what is usual, and made-up worlds that do so."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from opslib.decide.rules.condition import (
    PER_YEAR,
    YEAR,
    Condition,
    Course,
    Flags,
    Floats,
    Ints,
    Worlds,
    find_ends,
    follow_course,
    take_readings,
)
from opslib.decide.rules.track import Track
from opslib.measure.series.series import SeriesKind

# What is usual is learnt from up to a year; of counts, which grow with the company, from the last quarter of one.
_QUARTER = {"day": 91, "week": 13, "month": 6}
# Rare things are pooled over periods until a block holds about so many, so that a median says something.
_BLOCK = 40
# Differences are trimmed to this share of the smallest: incidents are not scatter. The mean of chi-square with one
# degree of freedom below that quantile makes up for it.
_KEPT, _KEPT_MEAN = 0.9, 0.623
# Values so far apart show scatter that lasts, against the next one; whole weeks for days.
_FAR = {"day": 14, "week": 4, "month": 3}
# With fewer pairs nothing is said of scatter that lasts; below this correlation neither.
_LASTING_PAIRS, _LASTING_LEAST = 60, 0.25
# With counts above this, normal noise that is bent does as well as exact draws, and is shared by all groups.
_LARGE = 15.0
# At least so many years are made up; of weeks and months, which are cheap, more.
WORLDS = {"day": 400, "week": 1000, "month": 2000}


@dataclass(frozen=True)
class Noise:
    """How a series varies while nothing changes.

    Attributes:
        kind: rate, count or mean.
        usual: the usual value, robust against incidents.
        dispersion: variance over that of chance alone among users (1: chance alone).
        correlation: of one period's deviation with the next one's.
        error: of means, the usual standard error of a value.
        pool: of means, past deviations in standard errors: heavy tails stay.
    """

    kind: SeriesKind
    usual: float
    dispersion: float
    correlation: float
    error: float
    pool: Floats


def learn_noise(track: Track, grain: str, before: int) -> Noise:
    """Learn what is usual, and the scatter about it, from up to a year before row `before`."""
    year = YEAR[grain]
    rows = np.flatnonzero(track.ordinary[:before])
    rows = rows[rows >= before - year]
    recent = rows[rows >= before - _QUARTER[grain]] if track.kind == "count" else rows
    usual = _find_usual(track, recent if len(recent) else rows)
    if track.kind == "mean":
        return _learn_mean_noise(track, grain, rows, usual)
    near, pairs = _scatter(track, rows, 1)
    far, _ = _scatter(track, rows, _FAR[grain])
    dispersion, correlation = _combine(near, far, pairs)
    return Noise(track.kind, usual, dispersion, correlation, float("nan"), np.empty(0))


def scale_errors(noise: Noise, level: float, denominator: Floats, error: Floats) -> Floats:
    """Standard errors of values at a level, with the dispersion of the series."""
    if noise.kind == "mean":
        own = np.where(np.isfinite(error) & (error > 0), error, noise.error)
        return own * np.sqrt(noise.dispersion)
    bottom = np.where(denominator > 0, denominator, np.nan)
    if noise.kind == "rate":
        inside = min(max(level, 1e-6), 1 - 1e-6)
        return np.sqrt(noise.dispersion * inside * (1 - inside) / bottom)
    return np.sqrt(noise.dispersion * max(level, 1e-9) / bottom)


def imagine_worlds(
    condition: Condition, track: Track, noise: Noise, level: float, grain: str, *, before: int, seed: int
) -> tuple[Worlds, int]:
    """Make worlds up in which the true value stays at a level, with the volume and gaps of the last year.

    Returns:
        The worlds, one year each after as much history as the condition looks back at, and the row of the first
        judged period of that year.
    """
    year = YEAR[grain]
    history = condition.reach
    rows = _recall_year(track, before, year)
    order = np.concatenate([np.resize(rows[::-1], history)[::-1], np.resize(rows, year)])
    judged = track.judged[order]
    denominator, error = track.base[order], track.error[order]
    value = _draw(noise, level, np.where(judged, denominator, 1.0), np.where(judged, error, np.nan), grain, seed)
    step = {"day": 1, "week": 7, "month": 30.44}[grain]
    days = np.floor(np.arange(len(order)) * step).astype(np.int64)
    threshold = condition.threshold if condition.kind == "level" else level
    scale = scale_errors(noise, threshold, denominator, error)
    weight = denominator if noise.kind == "rate" else np.ones(len(order))
    return Worlds(value, judged, days, weight, scale), history


@dataclass(frozen=True)
class Alarms:
    """How often a rule fires by chance.

    Attributes:
        per_year: times a year.
        year_probability: in which share of years, each looked at by itself, it fires at all.
        period_probability: in which share of evaluations it holds.
    """

    per_year: float
    year_probability: float
    period_probability: float


def count_alarms(condition: Condition, worlds: Worlds, start: int, grain: str) -> Alarms:
    """Count how often a rule fires in made-up worlds, which start without an episode."""
    course = follow_course(condition, worlds, start=start)
    holds = course.holds[start:][course.decided[start:]]
    alone = course
    if condition.kind == "trend":
        # Of trends a year is asked by itself: a run that began in the year before does not count.
        alone = follow_course(condition, _cut(worlds, start))
    years = PER_YEAR[grain] / YEAR[grain]
    return Alarms(
        float(course.fired.sum(axis=0).mean() * years),
        float(alone.fired.any(axis=0).mean()),
        float(holds.mean()) if len(holds) else float("nan"),
    )


def calibrate(condition: Condition, worlds: Worlds, start: int, grain: str, allowed: float) -> Condition:
    """Tighten a condition until it fires at most `allowed` times a year in worlds where it should not."""
    years = PER_YEAR[grain] / YEAR[grain]
    readings = take_readings(condition, worlds)
    readings = replace(readings, ends=find_ends(condition, worlds, readings))

    def fires(size: float) -> float:
        course = follow_course(condition.tighten(size), worlds, start=start, readings=readings, brief=True)
        return float(course.fired.sum(axis=0).mean() * years)

    low, step = (0.0, 1.0) if condition.kind == "level" else (condition.threshold, 0.02)
    if fires(low) <= allowed:
        return condition.tighten(low)
    high = low + step
    while fires(high) > allowed and high < 1e3:
        low, high = high, low + 2 * (high - low) if condition.kind == "level" else 2 * high
    for _ in range(7):
        middle = (low + high) / 2
        low, high = (middle, high) if fires(middle) > allowed else (low, middle)
    return condition.tighten(high)


def imagine_flags(
    condition: Condition, track: Track, grain: str, *, before: int, rate: float, seed: int
) -> tuple[Worlds, int]:
    """Make worlds up in which single periods are outside their range so many times a year, and nothing lasts."""
    year, history = YEAR[grain], condition.reach
    rows = _recall_year(track, before, year)
    order = np.concatenate([np.resize(rows[::-1], history)[::-1], np.resize(rows, year)])
    judged = track.judged[order]
    chance = np.random.default_rng(seed).random((len(order), WORLDS[grain])) < rate / PER_YEAR[grain]
    empty = np.ones(len(order))
    days = np.floor(np.arange(len(order)) * {"day": 1, "week": 7, "month": 30.44}[grain]).astype(np.int64)
    return Worlds(chance.astype(float), judged, days, empty, empty, chance), history


def follow_real(condition: Condition, track: Track, noise: Noise, flags: Flags | None = None) -> tuple[Worlds, Course]:
    """Follow a rule over the series itself."""
    level = condition.threshold if condition.kind == "level" else noise.usual
    weight = track.base if noise.kind == "rate" else np.ones(len(track.value))
    scale = scale_errors(noise, level, track.base, track.error)
    worlds = Worlds(
        np.where(track.judged, track.value, np.nan)[:, None], track.judged, track.days, weight, scale,
        None if flags is None else flags[:, None],
    )  # fmt: skip
    return worlds, follow_course(condition, worlds)


def _cut(worlds: Worlds, start: int) -> Worlds:
    cut = {name: getattr(worlds, name)[start:] for name in ("value", "judged", "days", "weight", "scale")}
    return replace(worlds, **cut)


def _recall_year(track: Track, before: int, year: int) -> Ints:
    rows = np.arange(max(0, before - year), before)
    # What lies before the first known period is no gap.
    first = np.argmax(track.judged[rows]) if track.judged[rows].any() else 0
    rows = rows[first:]
    # Whole weeks, so that a weekday stays one when the year is made of less.
    return rows[len(rows) % 7 :] if year == YEAR["day"] and len(rows) > 7 else rows


def _find_usual(track: Track, rows: Ints) -> float:
    if not len(rows):
        return float("nan")
    if track.kind == "mean":
        return float(np.median(track.value[rows]))
    top, bottom = track.hits[rows], track.base[rows]
    typical = float(np.mean(np.clip(top, None, np.quantile(top, 0.9))))
    block = int(np.clip(np.ceil(_BLOCK / max(typical, 0.1)), 1, max(1, len(rows) // 5)))
    edges = np.arange(0, len(rows) - block + 1, block)
    pooled = np.add.reduceat(top, edges) / np.maximum(np.add.reduceat(bottom, edges), 1e-12)
    return float(np.median(pooled))


def _scatter(track: Track, rows: Ints, lag: int) -> tuple[float, int]:
    """Variance of differences over that which chance of users gives them, robust against incidents and drift."""
    ordinary = np.zeros(len(track.value), bool)
    ordinary[rows] = True
    late = np.arange(lag, len(track.value))
    late = late[ordinary[late] & ordinary[late - lag]]
    early = late - lag
    x1, n1, x0, n0 = (a[i] for i in (late, early) for a in (track.hits, track.base))
    pooled = (x1 + x0) / np.maximum(n1 + n0, 1e-12)
    spread = pooled * (1 - np.minimum(pooled, 1)) if track.kind == "rate" else pooled
    variance = spread * (1 / np.maximum(n1, 1e-12) + 1 / np.maximum(n0, 1e-12))
    some = variance > 0
    if some.sum() < 4:
        return 1.0, int(some.sum())
    z = (x1 / n1 - x0 / n0)[some] / np.sqrt(variance[some])
    return _mean_square(z - np.median(z)), int(some.sum())


def _mean_square(z: Floats) -> float:
    squares = np.sort(z * z)
    if len(squares) < 20:
        return float(squares.mean())
    return float(squares[: int(_KEPT * len(squares))].mean() / _KEPT_MEAN)


def _combine(near: float, far: float, pairs: int) -> tuple[float, float]:
    correlation = 1 - near / far if far > 0 else 0.0
    if pairs >= _LASTING_PAIRS and correlation > _LASTING_LEAST:
        return max(1.0, far), min(correlation, 0.98)
    both = (near + far) / 2
    # Within 1.5 errors of its own estimate scatter is taken for chance alone.
    return (both if both > 1 + 1.5 * np.sqrt(3 / max(pairs, 1)) else 1.0), 0.0


def _learn_mean_noise(track: Track, grain: str, rows: Ints, usual: float) -> Noise:
    value, error = track.value[rows], track.error[rows]
    if len(rows) < 4:
        own = float(np.nanmedian(error)) if np.isfinite(error).any() else 0.0
        return Noise("mean", usual, 1.0, 0.0, own, np.empty(0))
    near, far = (
        _mean_square(d - np.median(d)) / 2 if len(d := value[lag:] - value[:-lag]) > 3 else float("nan")
        for lag in (1, _FAR[grain])
    )
    far = near if np.isnan(far) else far
    stated = float(np.nanmedian(error**2)) if (np.isfinite(error) & (error > 0)).any() else 0.0
    correlation = 1 - near / far if far > 0 else 0.0
    if len(rows) < _LASTING_PAIRS or correlation <= _LASTING_LEAST:
        correlation, far = 0.0, (near + far) / 2
    dispersion = max(1.0, far / stated) if stated > 0 else 1.0
    own = np.sqrt(stated) if stated > 0 else np.sqrt(far)
    return Noise("mean", usual, float(dispersion), float(min(correlation, 0.98)), float(own), _collect_pool(value))


def _collect_pool(value: Floats) -> Floats:
    if len(value) < 20:
        return np.empty(0)
    around = np.lib.stride_tricks.sliding_window_view(np.pad(value, 7, mode="reflect"), 15)
    rest = value - np.median(around, axis=1)
    scale = np.sqrt(_mean_square(rest))
    return rest / scale if scale > 0 else np.empty(0)


def _draw(noise: Noise, level: float, denominator: Floats, error: Floats, grain: str, seed: int) -> Floats:
    shape = (len(denominator), WORLDS[grain])
    rng = np.random.default_rng(seed)
    bottom = denominator[:, None]
    if noise.kind == "mean":
        scale = scale_errors(noise, level, denominator, error)[:, None]
        if len(noise.pool) and not noise.correlation:
            return level + scale * rng.choice(noise.pool, shape)
        return level + scale * _normals(*shape, seed, noise.correlation)
    level = max(level, 0.0) if noise.kind == "count" else min(max(level, 0.0), 1.0)
    trials = bottom / noise.dispersion
    expected = np.median(trials) * (min(level, 1 - level) if noise.kind == "rate" else level)
    if noise.correlation or expected > _LARGE:
        return _bend_normals(noise, level, bottom, _normals(*shape, seed, noise.correlation))
    if noise.kind == "count":
        drawn = rng.poisson(level * trials, shape).astype(float)
    else:
        trials = np.maximum(np.rint(trials), 1.0)
        drawn = rng.binomial(trials.astype(np.int64), level, shape).astype(float)
    if noise.dispersion > 1:
        # Fewer trials scatter wider; their steps are then smoothed back to those of whole users.
        drawn += rng.random(shape) - 0.5
        drawn *= bottom / trials
        drawn = np.maximum(np.rint(drawn), 0.0)
    return drawn / bottom


def _bend_normals(noise: Noise, level: float, bottom: Floats, z: Floats) -> Floats:
    """Counts over `bottom` from normal noise: skew and tails of the binomial or Poisson, in whole users.

    Source: Cornish and Fisher (1938), Revue de l'Institut International de Statistique 5, 307-320.
    """
    trials, phi = bottom / noise.dispersion, noise.dispersion
    share = level if noise.kind == "rate" else 0.0
    variance = np.maximum(trials * level * (1 - share), 1e-12)
    skew = (1 - 2 * share) / np.sqrt(variance)
    excess = (1 - 6 * share * (1 - share)) / variance
    # What is rounded to whole users gains a twelfth of variance by it (Sheppard's correction).
    root = np.sqrt(np.maximum(phi * phi * variance - 1 / 12, variance / 2))
    own = phi * np.sqrt(variance) / root
    skew, excess = skew * own**3, excess * own**4
    square = z * z
    count = z * ((square - 3) * (excess / 24) - (2 * square - 5) * (skew * skew / 36) + 1)
    square -= 1
    square *= skew / 6
    count += square
    count *= root
    count += bottom * level
    np.rint(count, out=count)
    np.maximum(count, 0.0, out=count)
    count /= bottom
    return count


@lru_cache(maxsize=4)
def _normals(rows: int, columns: int, seed: int, correlation: float) -> Floats:
    z = np.random.default_rng(seed).standard_normal((rows, columns))
    if correlation:
        rest = np.sqrt(1 - correlation**2)
        for i in range(1, rows):
            z[i] = correlation * z[i - 1] + rest * z[i]
    z.setflags(write=False)
    return z

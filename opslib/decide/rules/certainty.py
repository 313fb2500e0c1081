"""How sure it is that the true value is past a rule's threshold, whatever chance among users made of it."""

from __future__ import annotations

import numpy as np

from opslib.decide.rules.condition import Condition, Course, Floats, Ints, Worlds
from opslib.decide.rules.noise import Noise, scale_errors
from opslib.decide.rules.track import Track
from opslib.measure.estimate import CONFIDENCE, quantile

# So many draws from what the true values may be: the error of a probability is under half a percent point.
_DRAWS = 10_000


def judge_passing(
    condition: Condition, track: Track, noise: Noise, worlds: Worlds, course: Course, row: int, *, seed: int
) -> tuple[float, float]:
    """Judge the period at `row`, with those before it that the condition looks back at.

    Returns:
        The probability that the true value is past the threshold as often as the condition asks (of trends: that every
        step truly went that way), and the p-value of the clearest reading: of levels all judged periods pooled, of
        trends the last value against the first, of changes the last against what it is compared with.

    Method: posteriors of the true value: rates Beta with Jeffreys' prior, counts Gamma with Jeffreys' prior, means
    normal; scatter beyond chance among users makes each of them so much wider.
    """
    if condition.kind == "level":
        return _judge_level(condition, track, noise, course, row)
    if condition.kind == "unusual":
        return float("nan"), float("nan")
    if condition.kind == "trend":
        known = np.flatnonzero(worlds.judged[: row + 1])[-condition.window - 1 :]
        if len(known) <= condition.window:
            return float("nan"), float("nan")
        truth = _draw_truth(track, noise, known, seed)
        steps = np.diff(truth, axis=0) * condition.direction
        sure = (steps > 0).all(axis=0).mean()
        whole = (truth[-1] - truth[0]) * condition.direction
        return float(sure), _tail(whole)
    return _judge_change(condition, track, noise, worlds, course, row, seed)


def bound_value(track: Track, noise: Noise, row: int) -> tuple[float, float]:
    """The interval of the true value of one period (95%), by the same posteriors."""
    from scipy import special

    half = (1 - CONFIDENCE) / 2
    if noise.kind == "mean":
        error = float(scale_errors(noise, 0.0, np.ones(1), track.error[row : row + 1])[0])
        return track.value[row] - quantile() * error, track.value[row] + quantile() * error
    x, n = _effective(track, noise, np.array([row]))
    if noise.kind == "rate":
        ends = special.betaincinv(x[0] + 0.5, n[0] - x[0] + 0.5, [half, 1 - half])
        return (0.0 if x[0] == 0 else float(ends[0])), (1.0 if x[0] >= n[0] else float(ends[1]))
    ends = special.gammaincinv(x[0] + 0.5, [half, 1 - half]) / n[0]
    return (0.0 if x[0] == 0 else float(ends[0])), float(ends[1])


def _judge_level(condition: Condition, track: Track, noise: Noise, course: Course, row: int) -> tuple[float, float]:
    rows = np.flatnonzero(course.base_judged[: row + 1])[-condition.window :]
    x, n = _effective(track, noise, rows)
    single = _past(condition, noise, x, n, track.value[rows], track.error[rows])
    if noise.kind == "mean":
        error = scale_errors(noise, 0.0, np.ones(len(rows)), track.error[rows])
        # Sums of money that nobody drew by lot, such as spend, have no error: past the threshold or not.
        with np.errstate(divide="ignore", invalid="ignore"):
            distance = (track.value[rows].mean() - condition.threshold) / (np.sqrt((error**2).sum()) / len(rows))
        pooled = _normal_tail(np.nan_to_num(distance, nan=0.0))
        past = pooled if condition.direction > 0 else 1 - pooled
    else:
        past = float(_past(condition, noise, x.sum(keepdims=True), n.sum(keepdims=True), x, x)[0])
    return count_successes(single, condition.times), 1 - past


def count_successes(chances: Floats, needed: int) -> float:
    """The probability of at least so many successes in independent trials (Poisson binomial).

    >>> round(count_successes(np.array([0.5, 0.5, 0.5]), 2), 3)
    0.5
    """
    ways = np.zeros(len(chances) + 1)
    ways[0] = 1.0
    for chance in chances:
        ways[1:] = ways[1:] * (1 - chance) + ways[:-1] * chance
        ways[0] *= 1 - chance
    return float(min(1.0, ways[needed:].sum()))


def _past(condition: Condition, noise: Noise, x: Floats, n: Floats, value: Floats, error: Floats) -> Floats:
    from scipy import special

    if noise.kind == "mean":
        scale = scale_errors(noise, 0.0, np.ones(len(value)), error)
        above = _normal_tails((value - condition.threshold) / np.where(scale > 0, scale, 1e-12))
    elif noise.kind == "rate":
        bound = float(np.clip(condition.threshold, 0.0, 1.0))
        above = 1 - special.betainc(x + 0.5, np.maximum(n - x, 0.0) + 0.5, bound)
    else:
        above = special.gammaincc(x + 0.5, n * max(condition.threshold, 0.0))
    return np.asarray(above if condition.direction > 0 else 1 - above, dtype=float)


def _judge_change(
    condition: Condition, track: Track, noise: Noise, worlds: Worlds, course: Course, row: int, seed: int
) -> tuple[float, float]:
    rows = np.flatnonzero(course.base_judged[: row + 1])[-condition.window :]
    sign, single, p_value = condition.direction, [], float("nan")
    for i in rows:
        earlier = np.array(
            [i - lag for lag in condition.lags if i - lag >= 0 and worlds.judged[i - lag]], dtype=np.int64
        )
        now = _draw_truth(track, noise, np.array([i]), seed)[0]
        weight = worlds.weight[earlier] / worlds.weight[earlier].sum()
        before = weight @ _draw_truth(track, noise, earlier, seed + 1)
        change = (now - before) * sign
        single.append(float((change >= condition.threshold * np.abs(before)).mean()))
        p_value = _tail(change)
    return count_successes(np.array(single), condition.times), p_value


def _draw_truth(track: Track, noise: Noise, rows: Ints, seed: int) -> Floats:
    rng = np.random.default_rng(seed)
    shape = (len(rows), _DRAWS)
    if noise.kind == "mean":
        scale = scale_errors(noise, 0.0, np.ones(len(rows)), track.error[rows])
        return track.value[rows][:, None] + scale[:, None] * rng.standard_normal(shape)
    x, n = (a[:, None] for a in _effective(track, noise, rows))
    if noise.kind == "rate":
        return rng.beta(x + 0.5, np.maximum(n - x, 0.0) + 0.5, shape)
    return rng.gamma(x + 0.5, 1.0, shape) / n


def _effective(track: Track, noise: Noise, rows: Ints) -> tuple[Floats, Floats]:
    return track.hits[rows] / noise.dispersion, track.base[rows] / noise.dispersion


def _tail(difference: Floats) -> float:
    # Never zero: so many draws cannot tell less than one in their number.
    mean, spread = float(difference.mean()), float(difference.std())
    share = float((difference <= 0).mean())
    if share * len(difference) >= 5:
        return share
    return _normal_tail(-mean / spread) if spread > 0 else float(mean <= 0)


def _normal_tail(z: float) -> float:
    return float(_normal_tails(np.array([z]))[0])


def _normal_tails(z: Floats) -> Floats:
    from scipy import special

    return np.asarray(special.ndtr(z), dtype=float)

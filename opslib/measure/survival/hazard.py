"""Hazard by tenure: when users leave, the moments that somebody expects, and the peaks that nobody did."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from opslib.language import say
from opslib.measure.estimate import adjust_p_values, quantile
from opslib.measure.survival.curves import LifeCounts

# An interval whose ends lie so far apart, on the log scale, has no ends.
MOST_REACH = 100.0
# Widths of the windows in which peaks are looked for.
PEAK_WIDTHS = (1, 3, 5, 7)
# A window is compared with this many times its own width on either side, at least so many places.
NEIGHBOURS = 2
FEWEST_NEIGHBOURS = 6
# Fewer places than this on a side and it is no comparison but a guess.
FEWEST_ON_A_SIDE = 2
# Fewer leavers than this around a window and a peak there is not looked for.
FEWEST_LEFT = 20
# Fewer leavers than this in a window and its neighbours together and nothing is fitted.
FEWEST_FITTED = 5
NEWTON_STEPS = 30
LEVEL = 0.05
TEST_COLUMNS = (
    "tenure_first",
    "tenure_last",
    "at_risk_count",
    "left_count",
    "hazard_rate",
    "expected_rate",
    "hazard_ratio",
    "ratio_low",
    "ratio_high",
    "p_value",
)


def tabulate_hazard(counts: LifeCounts, *, every: int = 1, minimum: int = 20) -> pd.DataFrame:
    """The chance to leave at each tenure, of those who are there.

    Args:
        counts: users by tenure.
        every: so many units of tenure together, such as 7 days; the rate stays per unit.
        minimum: with fewer users at risk there is no rate.

    Returns:
        tenure, tenure_last, at_risk_count (users times units), left_count, hazard_rate, hazard_low, hazard_high
        (Wilson).
    """
    risk, left = counts.at_risk, counts.gone
    length = int(np.flatnonzero(risk > 0).max()) + 1 if (risk > 0).any() else 0
    starts = np.arange(0, length, every)
    sums = [np.add.reduceat(values[:length], starts) if length else np.zeros(0) for values in (risk, left)]
    n, gone = (s.astype(float) for s in sums)
    lasts = np.minimum(starts + every - 1, max(length - 1, 0))
    known = n >= minimum * (lasts - starts + 1)
    z = quantile()
    with np.errstate(divide="ignore", invalid="ignore"):
        rate = gone / n
        spread = 1 + z * z / n
        half = z / spread * np.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n))
        center = (rate + z * z / (2 * n)) / spread
    return pd.DataFrame(
        {
            "tenure": starts,
            "tenure_last": lasts,
            "at_risk_count": n.astype(np.int64),
            "left_count": gone.astype(np.int64),
            "hazard_rate": np.where(known, rate, np.nan),
            "hazard_low": np.where(known, np.clip(center - half, 0, 1), np.nan),
            "hazard_high": np.where(known, np.clip(center + half, 0, 1), np.nan),
        }
    )


def compare_nodes(counts: LifeCounts, nodes: Mapping[str, tuple[int, int]]) -> pd.DataFrame:
    """Compare the hazard at stated moments with that around them.

    Args:
        counts: users by tenure.
        nodes: label -> first and last tenure.

    Returns:
        node, tenure_first, tenure_last, at_risk_count, left_count, hazard_rate, expected_rate (from the tenures
        around), hazard_ratio with ratio_low, ratio_high, p_value, q_value (over the nodes), clear (more leave than
        around, beyond chance), note.
    """
    parts = [contrast_windows(counts, np.array([first]), last - first + 1) for first, last in nodes.values()]
    frame = pd.concat(parts, ignore_index=True) if parts else contrast_windows(counts, np.zeros(0, dtype=int), 1)
    frame.insert(0, "node", pd.Series(list(nodes), dtype="str"))
    q = adjust_p_values(frame["p_value"].to_numpy(dtype=float))
    unknown = frame["p_value"].isna()
    note = pd.Series("", index=frame.index).mask(unknown, say("too few users there, or around it, to compare"))
    return frame.assign(q_value=q, clear=(q < LEVEL) & (frame["hazard_ratio"] > 1).to_numpy(dtype=bool), note=note)


def find_peaks(counts: LifeCounts, *, widths: tuple[int, ...] = PEAK_WIDTHS, level: float = LEVEL) -> pd.DataFrame:
    """Look for tenures at which more leave than around them.

    Every window of each width is tested against its neighbours, and the false discoveries among all of them are kept
    below `level` (Benjamini-Hochberg). Of windows that overlap, the clearest is shown.

    Returns:
        tenure_first, tenure_last, at_risk_count, left_count, hazard_rate, expected_rate, hazard_ratio, ratio_low,
        ratio_high, p_value, q_value; the clearest first, empty where there is none.
    """
    left = np.concatenate([[0], counts.gone.cumsum()])
    length = int(np.flatnonzero(counts.at_risk > 0).max()) + 1 if (counts.at_risk > 0).any() else 0
    parts = []
    for width in widths:
        firsts = np.arange(1 + FEWEST_ON_A_SIDE, max(length - width + 1 - FEWEST_ON_A_SIDE, 1 + FEWEST_ON_A_SIDE))
        reach = _reach(width)
        around = left[np.minimum(firsts + width + reach, length)] - left[np.maximum(firsts - reach, 1)]
        parts.append(contrast_windows(counts, firsts[around >= FEWEST_LEFT], width))
    frame = pd.concat(parts, ignore_index=True)
    frame = frame[frame["p_value"].notna()]
    # A dip cannot be a peak: only the upper side counts.
    above = np.where(frame["hazard_ratio"] > 1, frame["p_value"] / 2, 1 - frame["p_value"] / 2)
    frame = frame.assign(q_value=adjust_p_values(above))
    frame = frame[(frame["q_value"] < level) & (frame["hazard_ratio"] > 1)]
    frame = frame.sort_values(["p_value", "hazard_ratio"], ascending=[True, False], ignore_index=True)
    spans = list(zip(frame["tenure_first"], frame["tenure_last"], strict=True))
    kept: list[int] = []
    for i, (first, last) in enumerate(spans):
        if all(last < spans[j][0] or first > spans[j][1] for j in kept):
            kept.append(i)
    return frame.loc[kept].reset_index(drop=True)


def contrast_windows(counts: LifeCounts, firsts: np.ndarray, width: int) -> pd.DataFrame:
    """Compare the hazard in windows of one width with a smooth curve through the tenures on both sides of each.

    The curve is a logistic regression on the log of tenure, because hazards fall fast at first and slowly later. Tenure
    0 is left out: who never comes back after the first day is a thing of its own. Where the neighbours, or the places
    of the window itself, scatter around their fit more than chance, the test allows for it.

    Returns:
        tenure_first, tenure_last, at_risk_count, left_count, hazard_rate, expected_rate, hazard_ratio, ratio_low,
        ratio_high, p_value (likelihood ratio, two-sided); missing where there is too little to compare.

    Source: McCullagh and Nelder (1989), chapters 4 and 9.
    """
    from scipy.special import erfc, fdtrc

    reach, length = _reach(width), len(counts.entered)
    offsets = np.arange(-reach, width + reach)
    at = firsts[:, None] + offsets
    valid = (at >= 1) & (at < length)
    n, d = (np.where(valid, v[np.clip(at, 0, length - 1)], 0).astype(float) for v in (counts.at_risk, counts.gone))
    # A window at tenure 0 is counted, though not compared.
    within = (at >= 0) & (at < length) & (offsets >= 0) & (offsets < width)
    users, gone = (
        np.where(within, v[np.clip(at, 0, length - 1)], 0).sum(axis=1) for v in (counts.at_risk, counts.gone)
    )
    inside, some = (offsets >= 0) & (offsets < width), n > 0
    sides = [(some[:, part]).sum(axis=1) for part in (offsets < 0, offsets >= width)]
    around, risk_around = d[:, ~inside].sum(axis=1), n[:, ~inside].sum(axis=1)
    fit = (np.minimum(*sides) >= FEWEST_ON_A_SIDE) & (around > 0) & (around < risk_around) & (firsts >= 1)
    fit &= (n[:, inside].sum(axis=1) > 0) & (gone + around >= FEWEST_FITTED)
    n, d = n[fit], d[fit]
    x = np.log1p(np.where(valid, at, 0).astype(float))[fit]
    x = (x - (x * (n > 0)).sum(axis=1, keepdims=True) / np.maximum((n > 0).sum(axis=1, keepdims=True), 1)) * (n > 0)
    outside = np.broadcast_to(~inside, n.shape)
    smooth, slope, covariance = _fit_lines(x, n * outside, d * outside)
    level, incline, _ = _fit_lines(x, n, d)
    line = smooth[:, None] + slope[:, None] * x
    expected = _expit(line)
    # With an effect of its own the window is fitted by its own leavers; what is left is the fit of the rest.
    own = _expit(line + _fit_shift(line, n * inside, d * inside)[:, None])
    rest = _deviance(expected, n * outside, d * outside) + _deviance(own, n * inside, d * inside)
    gain = np.maximum(_deviance(_expit(level[:, None] + incline[:, None] * x), n, d) - rest, 0)
    fitted = np.where(inside, own, expected)
    with np.errstate(divide="ignore", invalid="ignore"):
        squares = np.where(n > 0, (d - n * fitted) ** 2 / (n * fitted * (1 - fitted)), 0.0).sum(axis=1)
    freedom = (n > 0).sum(axis=1) - 3
    dispersion = np.maximum(np.where(freedom > 0, squares / np.maximum(freedom, 1), 1.0), 1.0)
    scattered = fdtrc(1, np.maximum(freedom, 1), gain / dispersion)
    p = np.where(dispersion > 1, scattered, erfc(np.sqrt(gain / 2)))
    weights = n * expected * inside
    wanted = weights.sum(axis=1)
    tilt = (weights * x).sum(axis=1) / wanted
    uncertain = covariance[0] + 2 * tilt * covariance[1] + tilt**2 * covariance[2]
    met = d[:, inside].sum(axis=1)
    reach = quantile() * np.sqrt(dispersion * (1 / np.maximum(met, 0.5) + uncertain))
    factor = np.exp(np.minimum(reach, MOST_REACH))
    ratio = met / wanted
    columns = {
        "expected_rate": wanted / n[:, inside].sum(axis=1),
        "hazard_ratio": ratio,
        "ratio_low": ratio / factor,
        "ratio_high": np.maximum(ratio, 0.5 / wanted) * factor,
        "p_value": p,
    }
    frame = pd.DataFrame(
        {
            "tenure_first": firsts,
            "tenure_last": firsts + width - 1,
            "at_risk_count": users,
            "left_count": gone,
            "hazard_rate": np.where(users > 0, gone / np.maximum(users, 1), np.nan),
        }
    )
    for name, values in columns.items():
        full = np.full(len(firsts), np.nan)
        full[fit] = values
        frame[name] = full
    return frame[list(TEST_COLUMNS)]


def _fit_lines(
    x: np.ndarray, n: np.ndarray, d: np.ndarray
) -> tuple[np.ndarray, np.ndarray, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """One logistic regression a row by Newton's steps: intercepts, slopes and their covariances."""
    rate = (d.sum(axis=1) + 0.5) / (n.sum(axis=1) + 1)
    a, b = np.log(rate / (1 - rate)), np.zeros(len(x))
    covariance = (np.zeros(len(x)),) * 3
    for _ in range(NEWTON_STEPS):
        p = _expit(a[:, None] + b[:, None] * x)
        weight = n * p * (1 - p)
        # A trace is added so that a flat direction has an inverse.
        aa, ab, bb = weight.sum(axis=1) + 1e-9, (weight * x).sum(axis=1), (weight * x * x).sum(axis=1) + 1e-9
        determinant = np.maximum(aa * bb - ab**2, 1e-18)
        covariance = bb / determinant, -ab / determinant, aa / determinant
        slack = n * p
        up, tilt = (d - slack).sum(axis=1), ((d - slack) * x).sum(axis=1)
        steps = [np.clip(covariance[0] * up + covariance[1] * tilt, -2, 2)]
        steps.append(np.clip(covariance[1] * up + covariance[2] * tilt, -2, 2))
        a, b = a + steps[0], b + steps[1]
        if max(float(np.abs(s).max(initial=0)) for s in steps) < 1e-9:
            break
    return a, b, covariance


def _fit_shift(line: np.ndarray, n: np.ndarray, d: np.ndarray) -> np.ndarray:
    """By how much each row's logits move together so that its leavers are met."""
    shift = np.zeros(len(line))
    for _ in range(NEWTON_STEPS):
        p = _expit(line + shift[:, None])
        step = np.clip((d - n * p).sum(axis=1) / np.maximum((n * p * (1 - p)).sum(axis=1), 1e-12), -2, 2)
        shift = np.clip(shift + step, -25, 25)
        if float(np.abs(step).max(initial=0)) < 1e-9:
            break
    return shift


def _deviance(p: np.ndarray, n: np.ndarray, d: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        hit = np.where(d > 0, d * np.log(d / (n * p)), 0.0)
        miss = np.where(n > d, (n - d) * np.log((n - d) / (n * (1 - p))), 0.0)
    return np.asarray(2 * (hit + miss).sum(axis=1))


def _expit(logit: np.ndarray) -> np.ndarray:
    return np.asarray(1 / (1 + np.exp(-np.clip(logit, -30, 30))))


def _reach(width: int) -> int:
    return max(NEIGHBOURS * width, FEWEST_NEIGHBOURS)

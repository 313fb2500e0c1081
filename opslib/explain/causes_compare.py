"""Arithmetic of causes: counts by stratum to ratios and attributable shares, and all clear reasons in one model.

Everything here works on small arrays of counts, never on users.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from opslib.explain.statistics import (
    Floats,
    compute_terms,
    estimate_log_odds,
    estimate_log_ratio,
    log_p_value,
    score_association,
)
from opslib.measure.estimate import compare_estimates, estimate_rate, quantile

Ratio = Literal["odds", "risk"]
STEPS = 50
STILL = 1e-7


@dataclass(frozen=True)
class ReasonCounts:
    """Counts of one reason, one number a stratum; users of whom the reason says nothing are in none.

    Attributes:
        leavers_with, leavers: leavers with the reason, and all of them.
        stayers_with, stayers: the same of those who stayed.
    """

    leavers_with: Floats
    leavers: Floats
    stayers_with: Floats
    stayers: Floats

    @property
    def fewest(self) -> float:
        """The smallest of the four groups: leavers and stayers, with the reason and without."""
        parts = (self.leavers_with, self.leavers - self.leavers_with)
        others = (self.stayers_with, self.stayers - self.stayers_with)
        return float(min(p.sum() for p in (*parts, *others)))


def compare_counts(counts: ReasonCounts, *, ratio: Ratio, minimum: int) -> dict[str, Any]:
    """Compare leavers with stayers on one reason: shares, ratios at equal strata, attributable share, p-value.

    Args:
        counts: by stratum.
        ratio: which ratio the attributable share is made from.
        minimum: with fewer leavers or stayers there is no share.

    Returns:
        Columns of `CausesResult.reasons` by name.
    """
    a, m1, b, m0 = counts.leavers_with, counts.leavers, counts.stayers_with, counts.stayers
    left = estimate_rate("leavers_rate", float(a.sum()), float(m1.sum()), minimum=minimum)
    stayed = estimate_rate("stayers_rate", float(b.sum()), float(m0.sum()), minimum=minimum)
    gap = compare_estimates(left, stayed)
    alone = compute_terms([a.sum()], [a.sum() + b.sum()], [(m1 - a).sum()], [(m1 - a + m0 - b).sum()]).sum(axis=1)
    sums = compute_terms(a, a + b, m1 - a, (m1 - a) + (m0 - b)).sum(axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        risk, odds = estimate_log_ratio(sums), estimate_log_odds(sums)
        raw = {"risk": estimate_log_ratio(alone), "odds": estimate_log_odds(alone)}
        p_value = float(np.exp(log_p_value(score_association(sums))))
    share = estimate_attributable(counts, *(odds if ratio == "odds" else risk), ratio=ratio)
    raw_share = estimate_attributable(counts, *raw[ratio], ratio=ratio)
    return {
        "leavers_with_count": int(a.sum()),
        "leavers_count": int(m1.sum()),
        "leavers_rate": left.value,
        "leavers_low": left.low,
        "leavers_high": left.high,
        "stayers_with_count": int(b.sum()),
        "stayers_count": int(m0.sum()),
        "stayers_rate": stayed.value,
        "stayers_low": stayed.low,
        "stayers_high": stayed.high,
        "difference_rate": gap.difference,
        "difference_low": gap.low,
        "difference_high": gap.high,
        "raw_risk_ratio": float(np.exp(raw["risk"][0])),
        "raw_odds_ratio": float(np.exp(raw["odds"][0])),
        **{f"raw_attributable_{end}": x for end, x in zip(("rate", "low", "high"), raw_share, strict=True)},
        **spread("risk_ratio", *risk),
        **spread("odds_ratio", *odds),
        "attributable_rate": share[0],
        "attributable_low": share[1],
        "attributable_high": share[2],
        "compared_rate": float(m1[m0 > 0].sum() / m1.sum()) if m1.sum() else math.nan,
        "p_value": p_value,
    }


def spread(name: str, value: float, error: float) -> dict[str, float]:
    """A logarithm and its standard error as a ratio with its interval."""
    with np.errstate(over="ignore"):
        ends = {"": 0.0, "_low": -quantile(), "_high": quantile()}
        return {f"{name}{end}": float(np.exp(value + z * error)) for end, z in ends.items()}


def estimate_attributable(
    counts: ReasonCounts, log_ratio: float, error: float, *, ratio: Ratio
) -> tuple[float, float, float]:
    """Estimate which share of the leavers would not have left without the reason, if it is a cause.

    Args:
        counts: by stratum.
        log_ratio, error: the logarithm of the ratio at equal strata, and its standard error.
        ratio: what it is the ratio of.

    Returns:
        The share with its interval; below 0 for what goes with staying; nan where it is not known.

    Source: Miettinen (1974), American Journal of Epidemiology 99, 325-332: the share of the leavers who have the reason
    times (ratio - 1) / ratio. Interval on the scale of log(1 - share): Greenland (1987), Statistics in Medicine 6,
    701-708.

    >>> one = [np.array([float(n)]) for n in (173, 775, 134, 797)]
    >>> odds = math.log(173 * 663 / (134 * 602))
    >>> share = estimate_attributable(ReasonCounts(*one), odds, math.sqrt(1/173 + 1/134 + 1/602 + 1/663), ratio="odds")
    >>> [round(x, 3) for x in share]
    [0.066, 0.019, 0.111]
    """
    a, m1, b, m0 = (float(x.sum()) for x in (counts.leavers_with, counts.leavers, counts.stayers_with, counts.stayers))
    if not m1 or not math.isfinite(log_ratio) or not math.isfinite(error):
        return math.nan, math.nan, math.nan
    part, times = a / m1, math.exp(log_ratio)
    share = part * (1 - 1 / times)
    if ratio == "odds":
        together = 1 / a
    else:
        # With both margins open, a ratio of risks goes less along with the share of the leavers than one of odds.
        together = 1 / a - 1 / (a + b) + (a / (a + b) - (m1 - a) / max(m1 - a + m0 - b, 1.0)) / m1
    variance = error**2 + 2 * (times - 1) * together + (times - 1) ** 2 * (m1 - a) / (a * m1)
    half = quantile() * part / times * math.sqrt(max(variance, 0.0)) / (1 - share)
    low, high = (1 - (1 - share) * math.exp(sign * half) for sign in (1, -1))
    return share, low, high


@dataclass(frozen=True)
class JointModel:
    """Reasons adjusted for each other: a logistic regression on counts of patterns.

    Attributes:
        log_odds, errors: of each reason, at equal strata and with the others as they are.
        share, low, high: which share of the leavers would not have left without any of the reasons, if they are causes.
        converged: whether the model could be fitted.
    """

    log_odds: Floats
    errors: Floats
    share: float
    low: float
    high: float
    converged: bool


def fit_jointly(patterns: pd.DataFrame, reasons: Sequence[str], strata: Sequence[str]) -> JointModel:
    """Fit leaving on several reasons at once, with the strata's columns as additive factors.

    Args:
        patterns: reasons (0 or 1), strata, left_count, users_count; one row a pattern.
        reasons, strata: the columns.

    Returns:
        A `JointModel`.

    Source: iteratively reweighted least squares, McCullagh and Nelder (1989); share of several causes: Bruzzi et al.
    (1985), American Journal of Epidemiology 122, 904-914.
    """
    flags = patterns[list(reasons)].to_numpy(dtype=float)
    columns = [np.ones(len(patterns))]
    for stratum in strata:
        codes = pd.factorize(patterns[stratum], sort=True)[0]
        columns += [(codes == code).astype(float) for code in range(1, codes.max() + 1)]
    design = np.column_stack([flags, *columns])
    left = patterns["left_count"].to_numpy(dtype=float)
    users = patterns["users_count"].to_numpy(dtype=float)
    coefficients, covariance, converged = _fit(design, left, users, len(reasons))
    k = len(reasons)
    if not converged:
        missing = np.full(k, math.nan)
        return JointModel(missing, missing, math.nan, math.nan, math.nan, False)
    beta, errors = coefficients[:k], np.sqrt(np.diag(covariance)[:k])
    # What each leaver keeps of the odds to leave when the reasons are taken away.
    kept = np.exp(-flags @ beta)
    total = left.sum()
    mean = float((left * kept).sum() / total)
    slope = -(left * kept) @ flags / total
    variance = slope @ covariance[:k, :k] @ slope + float((left * (kept - mean) ** 2).sum()) / total**2
    half = quantile() * math.sqrt(variance) / mean
    return JointModel(beta, errors, 1 - mean, 1 - mean * math.exp(half), 1 - mean * math.exp(-half), True)


def _fit(design: Floats, left: Floats, users: Floats, wanted: int) -> tuple[Floats, Floats, bool]:
    """Fit by Newton's steps until the first `wanted` coefficients stand still: with their covariance."""
    from scipy.sparse import csr_array

    # Nearly all of it is 0, and a dense product of this shape crawls when other threads want the processor too.
    sparse = csr_array(design)
    size = design.shape[1]
    coefficients: Floats = np.zeros(size)
    covariance: Floats = np.eye(size)
    # A pinch of shrinkage: a class in which nobody left has no finite coefficient, and needs none.
    ridge = np.full(size, 1e-6)
    for _ in range(STEPS):
        mean = 1 / (1 + np.exp(-np.clip(sparse @ coefficients, -30, 30)))
        weights = users * mean * (1 - mean)
        information = (sparse.T @ sparse.multiply(weights[:, None]).tocsr()).toarray() + np.diag(ridge)
        covariance = np.asarray(np.linalg.pinv(information, hermitian=True), dtype=np.float64)
        step = covariance @ (sparse.T @ (left - users * mean) - ridge * coefficients)
        coefficients = coefficients + np.clip(step, -4, 4)
        if np.abs(step[:wanted]).max() < STILL:
            return coefficients, covariance, True
    return coefficients, covariance, False


def group_alike(pairs: pd.DataFrame, order: Sequence[str], *, correlation: float) -> dict[str, str]:
    """Join reasons that mostly come together.

    Args:
        pairs: reason, other, correlation (phi over all cases).
        order: reasons, the clearest first.
        correlation: from which on two are alike.

    Returns:
        Reason -> the clearest reason that it is alike to, itself where there is none.
    """
    alike = {(r["reason"], r["other"]) for r in pairs.to_dict("records") if abs(r["correlation"]) >= correlation}
    leaders: list[str] = []
    chosen: dict[str, str] = {}
    for name in order:
        chosen[name] = next((x for x in leaders if (x, name) in alike or (name, x) in alike), name)
        if chosen[name] == name:
            leaders.append(name)
    return chosen

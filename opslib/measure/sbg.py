"""Projecting retention: the shifted-beta-geometric model, in which users differ in how likely they are to leave.

In each period a user leaves with a chance of their own, which does not change; the chances follow a beta distribution.
The likely leavers leave first, so those who remain stay longer and longer, although no user changes. Two numbers give
the whole curve, also past the data.

Source: Fader and Hardie (2007), "How to Project Customer Retention", Journal of Interactive Marketing 21(1), 76-90.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pandas as pd

from opslib.language import say
from opslib.measure.cohorts import CohortResult
from opslib.measure.estimate import CONFIDENCE, MINIMUM_DENOMINATOR, quantile, say_few_users, to_plain
from opslib.measure.survival.survival import SurvivalResult

MINIMUM_PERIODS = 3
# A curve is not of this kind when it departs by more than chance (at this level) and by more than this share of users.
REJECTED_LEVEL = 0.001
DOUBTED_LEVEL = 0.05
REJECTED_GAP = 0.03
# Beyond this, users differ so little that larger parameters give the same curve.
_EDGE = 1e3
_LARGEST = 1e4
_SMALLEST = 1e-6
_STEP = 1e-4
_STEPS = (np.array([_STEP, 0.0]), np.array([0.0, _STEP]))


@dataclass(frozen=True)
class SbgFit:
    """A fitted shifted-beta-geometric model, or why there is none.

    Attributes:
        alpha, beta: the beta distribution of the chance to leave in a period; its mean is alpha / (alpha + beta). None
            without a fit.
        log_likelihood: at the maximum.
        users_count: users at the start, all cohorts together.
        curve: n (periods since the start), at_risk_count and stayed_count (users of cohorts observed in period n,
            before and after it), observed_rate (survival, the product of stayed / at risk), fitted_rate.
        gap_rate: the largest difference between the two.
        p_value: how often chance alone gives a fit as bad (likelihood ratio against a free rate in each period).
        note: why there is no fit, or what a reader must know; empty when all is well.
        covariance: of log alpha and log beta, from the curvature of the likelihood.
    """

    alpha: float | None
    beta: float | None
    log_likelihood: float | None
    users_count: int
    curve: pd.DataFrame
    gap_rate: float | None
    p_value: float | None
    note: str
    covariance: tuple[tuple[float, float], tuple[float, float]] | None

    @property
    def known(self) -> bool:
        """True when there is a fit."""
        return self.alpha is not None

    @property
    def mean_leave_rate(self) -> float | None:
        """Mean chance to leave in the first period."""
        return None if self.alpha is None or self.beta is None else self.alpha / (self.alpha + self.beta)

    def findings(self) -> list[dict[str, Any]]:
        """The fit as one flat record."""
        values = {
            k: getattr(self, k) for k in ("alpha", "beta", "log_likelihood", "mean_leave_rate", "gap_rate", "p_value")
        }
        record = {"name": "sbg_fit", "users_count": self.users_count, "periods_count": len(self.curve)}
        return [record | {k: to_plain(v) for k, v in values.items()} | {"note": self.note}]


def list_survivors(result: CohortResult) -> list[list[int]]:
    """Users of each cohort, at the start and back in each mature interval after it: what `fit_sbg` takes."""
    mature = result.triangle[result.triangle["mature"] & (result.triangle["n"] > 0)]
    sizes = result.triangle.groupby("cohort_start")["users_count"].first()
    return [[int(sizes[c]), *map(int, part["retained_count"])] for c, part in mature.groupby("cohort_start")]


def fit_sbg(survivors: Sequence[int] | Sequence[Sequence[int]]) -> SbgFit:
    """Fit the shifted-beta-geometric model by maximum likelihood.

    Args:
        survivors: users at the start and left after each period, of one cohort or of several, which may differ in
            length.

    Returns:
        An `SbgFit`. It has no parameters, but a note, when there are too few users or periods, when nobody left, when
        more users come back later than earlier by more than chance (then this is no curve of leaving for good), and
        when the curve departs from the model visibly and by more than chance, as when leaving gets likelier.

    Raises:
        ValueError: a negative count.

    The model is about leaving for good. Users who were active in a period may be fewer than in the next one by chance;
    such counts are fitted all the same, and then the intervals are rough.

    >>> fit = fit_sbg([1000, 869, 743, 653, 593, 551, 517, 491])
    >>> round(fit.alpha, 3), round(fit.beta, 3), round(fit.log_likelihood / 1000, 3)
    (0.668, 3.806, -1.611)
    """
    cohorts = _to_cohorts(survivors)
    users = sum(c[0] for c in cohorts)
    at_risk, stayed = _sum_periods(cohorts)
    return _fit(at_risk, stayed, users, _find_obstacle(cohorts, users, at_risk, stayed))


def fit_sbg_lifetimes(survival: SurvivalResult) -> SbgFit:
    """Fit the model to contracts whose length and end are known, as of subscriptions.

    Args:
        survival: of everybody, without segments; each unit of tenure is a chance to renew.

    Returns:
        An `SbgFit`, as of `fit_sbg`; who is still there counts for as many renewals as there have been.

    >>> import ibis
    >>> from opslib.measure.survival.survival import measure_survival
    >>> lives = ibis.memtable({"duration_months": [1] * 131 + [2] * 126 + [3] * 90 + [3] * 653,
    ...     "left": [True] * 347 + [False] * 653})
    >>> fit = fit_sbg_lifetimes(measure_survival(lives, unit="month"))
    >>> fit.curve[["n", "at_risk_count", "stayed_count"]].values.tolist()
    [[1, 1000, 869], [2, 869, 743], [3, 743, 653]]
    """
    rows = survival.survival[survival.survival["tenure"] > 0]
    at_risk = rows["at_risk_count"].to_numpy(dtype=float)
    stayed = at_risk - rows["left_count"].to_numpy(dtype=float)
    users = int(at_risk[0]) if len(at_risk) else 0
    return _fit(at_risk, stayed, users, _find_obstacle([], users, at_risk, stayed))


def _fit(at_risk: np.ndarray, stayed: np.ndarray, users: int, obstacle: str) -> SbgFit:
    observed = np.cumprod(stayed / np.maximum(at_risk, 1))
    curve = pd.DataFrame(
        {
            "n": range(1, len(at_risk) + 1),
            "at_risk_count": at_risk.astype(int),
            "stayed_count": stayed.astype(int),
            "observed_rate": observed,
            "fitted_rate": np.nan,
        }
    )
    if obstacle:
        return SbgFit(None, None, None, users, curve, None, None, obstacle, None)
    alpha, beta, likelihood = _maximize(at_risk, stayed)
    curve["fitted_rate"] = _survival(alpha, beta, len(at_risk))
    gap = float((curve["fitted_rate"] - curve["observed_rate"]).abs().max())
    p_value = _test_fit(likelihood, at_risk, stayed)
    if p_value < REJECTED_LEVEL and gap > REJECTED_GAP:
        note = _say_departure(gap, faster=max(alpha, beta) > _EDGE)
        return SbgFit(None, None, None, users, curve, gap, p_value, note, None)
    note = say("users hardly differ: the same share leaves in each period") if max(alpha, beta) > _EDGE else ""
    if p_value < DOUBTED_LEVEL and gap > REJECTED_GAP:
        note = say("the curve departs from the model by up to {gap:.0%} of the users: a rough guide only", gap=gap)
    covariance = _invert_curvature(alpha, beta, at_risk, stayed)
    return SbgFit(alpha, beta, likelihood, users, curve, gap, p_value, note, covariance)


def _say_departure(gap: float, *, faster: bool) -> str:
    if faster:
        return say(
            "the curve departs from the model by more than chance, by up to {gap:.0%} of the users and leaving gets "
            "likelier with time",
            gap=gap,
        )
    return say("the curve departs from the model by more than chance, by up to {gap:.0%} of the users", gap=gap)


def project_sbg(fit: SbgFit, periods: int, *, confidence: float = CONFIDENCE) -> pd.DataFrame:
    """Project survival and retention.

    Args:
        fit: a fit; without parameters the result is empty.
        periods: how many periods from the start.

    Returns:
        One row a period from 1: n, survival_rate (of those who started) with survival_low and survival_high,
        retention_rate (of those who were left before the period) with its low and high, projected (True past the data).

    The intervals are for the rates in the long run (delta method on the logit scale); a single cohort scatters around
    them.

    >>> fit = fit_sbg([1000, 869, 743, 653, 593, 551, 517, 491])
    >>> project_sbg(fit, 12)["survival_rate"].round(3).tolist()[7:]
    [0.46, 0.436, 0.414, 0.395, 0.378]
    """
    columns = ["n"] + [f"{m}_{k}" for m in ("survival", "retention") for k in ("rate", "low", "high")] + ["projected"]
    if fit.alpha is None or fit.beta is None or fit.covariance is None:
        return pd.DataFrame(columns=columns)
    at = np.log([fit.alpha, fit.beta])
    frame = pd.DataFrame({"n": range(1, periods + 1)})
    for name, curve in (("survival", _survival), ("retention", _retention)):
        value = curve(fit.alpha, fit.beta, periods)
        gradient = np.stack([(_at(curve, at + d, periods) - _at(curve, at - d, periods)) / (2 * _STEP) for d in _STEPS])
        error = np.sqrt(np.einsum("ip,ij,jp->p", gradient, np.array(fit.covariance), gradient))
        half = quantile(confidence) * error
        frame[f"{name}_rate"] = value
        frame[f"{name}_low"], frame[f"{name}_high"] = (_expit(_logit(value) + sign * half) for sign in (-1, 1))
    frame["projected"] = frame["n"] > len(fit.curve)
    return frame[columns]


def measure_residual_lifetime(fit: SbgFit, *, renewals: int, discount: float) -> float | None:
    """Expected periods still to be paid for by a user who has stayed `renewals` periods, later ones discounted.

    Args:
        fit: a fit.
        renewals: periods survived so far.
        discount: rate a period; a payment one period from now is divided by 1 + discount.

    Returns:
        The sum, the next period's payment at full value if it is made; None without a fit.

    Source: Fader and Hardie (2010), "Customer-Base Valuation in a Contractual Setting: The Perils of Ignoring
    Heterogeneity", Marketing Science 29(1), 85-93.

    >>> fit = fit_sbg([1000, 869, 743, 653, 593, 551, 517, 491])
    >>> round(measure_residual_lifetime(fit, renewals=7, discount=0.1), 2)
    7.53
    """
    if fit.alpha is None or fit.beta is None:
        return None
    from scipy.special import hyp2f1

    stay = (fit.beta + renewals) / (fit.alpha + fit.beta + renewals)
    later = hyp2f1(1, fit.beta + renewals + 1, fit.alpha + fit.beta + renewals + 1, 1 / (1 + discount))
    return float(stay * later)


def _to_cohorts(survivors: Sequence[int] | Sequence[Sequence[int]]) -> list[list[int]]:
    alone = not any(isinstance(entry, Sequence) for entry in survivors)
    several = [survivors] if alone else survivors
    cohorts = [[int(n) for n in cohort] for cohort in cast(Sequence[Sequence[int]], several)]
    if any(n < 0 for cohort in cohorts for n in cohort):
        raise ValueError("survivors are counts: none is negative")
    return [cohort for cohort in cohorts if cohort]


def _sum_periods(cohorts: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Users before and after each period, over the cohorts that were observed in it."""
    length = max((len(c) for c in cohorts), default=1) - 1
    at_risk, stayed = np.zeros(length), np.zeros(length)
    for cohort in cohorts:
        at_risk[: len(cohort) - 1] += cohort[:-1]
        stayed[: len(cohort) - 1] += cohort[1:]
    return at_risk, stayed


def _find_obstacle(cohorts: Sequence[Sequence[int]], users: int, at_risk: np.ndarray, stayed: np.ndarray) -> str:
    """Why no model of leavers can be fitted; empty when one can."""
    if users < MINIMUM_DENOMINATOR:
        return say_few_users(users)
    if len(at_risk) < MINIMUM_PERIODS:
        return say(
            "not enough data: {count} periods after the start, at least {minimum} needed",
            count=len(at_risk),
            minimum=MINIMUM_PERIODS,
        )
    if rise := _find_rise(cohorts):
        early, late, fewer, more = rise
        return say(
            "the curve rises: {more:,} users in period {late} after {fewer:,} of the same cohorts in period {early}",
            more=more,
            late=late,
            fewer=fewer,
            early=early,
        )
    if stayed.sum() >= at_risk.sum():
        return say("nobody left, so there is nothing to project")
    if stayed.sum() == 0:
        return say("everybody left in the first period, so there is nothing to project")
    return ""


def _find_rise(cohorts: Sequence[Sequence[int]]) -> tuple[int, int, int, int] | None:
    """The clearest rise between two periods that is more than chance, in view of how many pairs there are."""
    length = max((len(c) for c in cohorts), default=1)
    level = quantile(1 - 0.05 / max(length * (length - 1) / 2, 1))
    found = None
    for late in range(1, length):
        same = [c for c in cohorts if len(c) > late]
        more = sum(c[late] for c in same)
        for early in range(late):
            fewer = sum(c[early] for c in same)
            score = (more - fewer) / math.sqrt(max(more + fewer, 1))
            if score > level:
                level, found = score, (early, late, fewer, more)
    return found


def _retention(alpha: float, beta: float, periods: int) -> np.ndarray:
    """The share of those left before each period who stay in it."""
    t = np.arange(periods)
    return np.asarray((beta + t) / (alpha + beta + t))


def _survival(alpha: float, beta: float, periods: int) -> np.ndarray:
    return np.cumprod(_retention(alpha, beta, periods))


def _at(curve: Callable[[float, float, int], np.ndarray], at: np.ndarray, periods: int) -> np.ndarray:
    alpha, beta = np.exp(at)
    return _logit(curve(alpha, beta, periods))


def _likelihood(at: np.ndarray, at_risk: np.ndarray, stayed: np.ndarray) -> tuple[float, np.ndarray]:
    """Minus the log-likelihood at (log alpha, log beta), with its slopes."""
    alpha, beta = np.exp(at)
    t = np.arange(len(at_risk))
    left, all_ = at_risk - stayed, alpha + beta + t
    value = (stayed * np.log((beta + t) / all_) + left * np.log(alpha / all_)).sum()
    by_alpha = (left / alpha - at_risk / all_).sum() * alpha
    by_beta = (stayed / (beta + t) - at_risk / all_).sum() * beta
    return -float(value), -np.array([by_alpha, by_beta])


def _maximize(at_risk: np.ndarray, stayed: np.ndarray) -> tuple[float, float, float]:
    """Alpha, beta and the log-likelihood at its maximum, from a few starts."""
    from scipy.optimize import minimize

    scale = at_risk.sum()

    def loss(at: np.ndarray) -> tuple[float, np.ndarray]:
        value, slopes = _likelihood(at, at_risk, stayed)
        return value / scale, slopes / scale

    bounds = [(math.log(_SMALLEST), math.log(_LARGEST))] * 2
    options = {"ftol": 1e-15, "gtol": 1e-11, "maxiter": 2000}
    starts = [(1.0, 1.0), (0.1, 1.0), (1.0, 10.0), (30.0, 30.0)]
    tries = [minimize(loss, np.log(s), jac=True, method="L-BFGS-B", bounds=bounds, options=options) for s in starts]
    best = min(tries, key=lambda r: float(r.fun))
    alpha, beta = np.exp(best.x)
    return float(alpha), float(beta), -_likelihood(best.x, at_risk, stayed)[0]


def _test_fit(likelihood: float, at_risk: np.ndarray, stayed: np.ndarray) -> float:
    """Likelihood ratio against a retention rate of its own in each period."""
    from scipy.special import chdtrc

    some = at_risk > 0
    n, kept = at_risk[some], np.clip(stayed[some], 0, at_risk[some])
    share = kept / n
    with np.errstate(divide="ignore", invalid="ignore"):
        parts = np.where(kept > 0, kept * np.log(share), 0) + np.where(kept < n, (n - kept) * np.log1p(-share), 0)
    return float(chdtrc(max(int(some.sum()) - 2, 1), max(2 * (parts.sum() - likelihood), 0.0)))


def _invert_curvature(
    alpha: float, beta: float, at_risk: np.ndarray, stayed: np.ndarray
) -> tuple[tuple[float, float], tuple[float, float]]:
    """The covariance of log alpha and log beta; a direction in which the likelihood is flat counts for nothing."""
    at = np.log([alpha, beta])
    rows = [
        (_likelihood(at + d, at_risk, stayed)[1] - _likelihood(at - d, at_risk, stayed)[1]) / (2 * _STEP)
        for d in _STEPS
    ]
    curvature = np.array(rows)
    inverse = np.linalg.pinv((curvature + curvature.T) / 2, rcond=1e-9, hermitian=True)
    (a, b), (c, d) = inverse.tolist()
    return (a, b), (c, d)


def _logit(share: np.ndarray) -> np.ndarray:
    inside = np.clip(share, 1e-12, 1 - 1e-12)
    return np.log(inside) - np.log1p(-inside)


def _expit(value: np.ndarray) -> np.ndarray:
    return np.asarray(1 / (1 + np.exp(-value)))

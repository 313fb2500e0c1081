"""Always-valid inference: intervals and p-values that hold however often somebody looks.

A difference with standard error s carries information V = 1 / s^2, and difference x V moves like Brownian motion with
drift in time V. A normal mixture over drifts gives a boundary that such motion without drift ever crosses with a chance
of at most `level`: inverted, an interval that holds at all times at once. It is wider than the interval for one look.

Source: Howard, Ramdas, McAuliffe and Sekhon (2021), Time-uniform, nonparametric, nonasymptotic confidence sequences,
Annals of Statistics 49, 1055-1080; for means with estimated variance, Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas
(2024), Time-uniform central limit theory and asymptotic confidence sequences, Annals of Statistics 52.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike


def tune_mixture(information: float, *, level: float = 0.05) -> float:
    """Choose the mixture's parameter so that the boundary is tightest at one information.

    It must not depend on the difference seen.

    >>> round(tune_mixture(100), 5)
    12.60056
    """
    log = 2 * math.log(1 / level)
    return information / (log + math.log1p(log))


def bound_sum(information: ArrayLike, rho: ArrayLike, *, level: float = 0.05) -> Any:
    """The boundary that a driftless motion in time `information` ever crosses with chance `level` (two-sided).

    >>> round(float(bound_sum(100, 12.60056)), 5)
    30.35209
    """
    v, r = np.asarray(information, dtype=float), np.asarray(rho, dtype=float)
    return np.sqrt((v + r) * np.log((v + r) / (r * level**2)))


def log_mixture(total: ArrayLike, information: ArrayLike, rho: ArrayLike) -> Any:
    """The logarithm of the evidence against no drift: its exponential exceeds 1/a ever with chance a at most.

    >>> round(float(log_mixture(10, 100, 12.60056)), 4)
    -0.651
    """
    s, v, r = (np.asarray(x, dtype=float) for x in (total, information, rho))
    return 0.5 * np.log(r / (v + r)) + s * s / (2 * (v + r))


def sequence_interval(
    difference: ArrayLike, error: ArrayLike, rho: ArrayLike, *, level: float = 0.05
) -> tuple[Any, Any, Any]:
    """Turn differences with standard errors into intervals and p-values that hold at all times.

    Args:
        difference, error: estimates of one difference as data came in, and their standard errors.
        rho: the mixture's parameter, from `tune_mixture`.
        level: chance that any of the intervals ever misses.

    Returns:
        Low, high, p-value; nan where there is no error to judge by.

    >>> low, high, p = sequence_interval(0.1, 0.02, tune_mixture(1 / 0.02**2))
    >>> round(float(low), 4), round(float(high), 4), round(float(p), 5)
    (0.0393, 0.1607, 5e-05)
    """
    d, s = np.asarray(difference, dtype=float), np.asarray(error, dtype=float)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        v = np.where(s > 0, 1 / s**2, np.nan)
        half = bound_sum(v, rho, level=level) / v
        p = np.minimum(np.exp(-log_mixture(d * v, v, rho)), 1.0)
    return d - half, d + half, p


def inflate_for_looks(*, level: float = 0.05, power: float = 0.8) -> float:
    """How many times the users a sequence needs that is tuned to its end, to show the same difference by then.

    >>> round(inflate_for_looks(), 2)
    1.91
    """
    from statistics import NormalDist

    normal = NormalDist()
    # At information V the bound is a multiple of the root of V, the same for every V: the tuning goes with V.
    bound = float(bound_sum(1.0, tune_mixture(1.0, level=level), level=level))
    once = normal.inv_cdf(1 - level / 2) + normal.inv_cdf(power)
    return ((bound + normal.inv_cdf(power)) / once) ** 2

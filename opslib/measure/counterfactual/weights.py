"""Weights of a synthetic control: least squares over shares that are not negative and add up to one."""

from __future__ import annotations

import numpy as np

TOLERANCE = 1e-10


def fit_weights(donors: np.ndarray, target: np.ndarray, *, intercept: bool = False) -> np.ndarray:
    """Find the shares of donors that come nearest to a target: exact, by an active-set method.

    Args:
        donors: one row a week, one column a donor.
        target: one value a week.
        intercept: levels may differ by a constant (demeaned synthetic control: Ferman and Pinto 2021).

    Returns:
        A weight for each donor, 0 or more, adding up to 1. Where several are as good, one of them.

    Source: the problem of Abadie, Diamond and Hainmueller (2010), eq. 2 with outcomes as predictors; the method is that
    of Lawson and Hanson (1974), ch. 23, with the sum held.

    >>> donors = np.array([[1.0, 0.0], [2.0, 0.0], [3.0, 1.0]])
    >>> fit_weights(donors, donors @ [0.25, 0.75]).round(6).tolist()
    [0.25, 0.75]
    """
    x, y = np.asarray(donors, dtype=float), np.asarray(target, dtype=float)
    if intercept:
        x, y = x - x.mean(axis=0), y - y.mean()
    size = max(float(np.abs(x).max(initial=0.0)), float(np.abs(y).max(initial=0.0))) or 1.0
    x, y = x / size, y / size
    number = x.shape[1]
    weights = np.zeros(number)
    inside = np.zeros(number, dtype=bool)
    first = int(np.argmin(((x - y[:, None]) ** 2).sum(axis=0)))
    weights[first], inside[first] = 1.0, True
    for _ in range(10 * number):
        slope = x.T @ (x @ weights - y)
        level = float(slope[inside] @ weights[inside])
        gain = np.where(inside, 0.0, level - slope)
        entering = int(np.argmax(gain))
        if gain[entering] <= TOLERANCE:
            break
        inside[entering] = True
        weights = _settle(x, y, weights, inside)
    return weights / weights.sum()


def _settle(x: np.ndarray, y: np.ndarray, weights: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Move to the best weights of those inside; who would fall below 0 on the way leaves."""
    while True:
        best = np.zeros_like(weights)
        best[inside] = _solve(x[:, inside], y)
        if (best[inside] > -TOLERANCE).all():
            inside &= best > TOLERANCE
            return np.maximum(best, 0.0)
        falling = inside & (best < 0)
        step = float((weights[falling] / (weights[falling] - best[falling])).min())
        weights = weights + step * (best - weights)
        inside &= weights > TOLERANCE
        weights = np.where(inside, weights, 0.0)


def _solve(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Least squares with the weights adding up to 1 and nothing else asked."""
    last = x[:, -1]
    rest = np.linalg.lstsq(x[:, :-1] - last[:, None], y - last, rcond=1e-12)[0]
    return np.append(rest, 1 - rest.sum())

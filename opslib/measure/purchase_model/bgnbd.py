"""The BG/NBD model: how often customers without a contract buy, and whether they are still there.

While alive, a customer buys at a rate of their own (gamma distributed over customers); after each purchase they leave
for good with a chance of their own (beta distributed). Three numbers say all about a customer: x repeat purchases, the
time t_x of the last, the time T watched; all times count from the first purchase.

Sources: Fader, Hardie and Lee (2005), "Counting Your Customers the Easy Way: An Alternative to the Pareto/NBD Model",
Marketing Science 24(2), 275-284. The number of future purchases given that a customer is alive is the smaller of a
negative binomial count and the purchase after which they leave, which gives its distribution exactly (`count_moments`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

# Logarithms of the parameters lie within these bounds; at a bound the data tell nothing about a parameter.
SMALLEST, LARGEST = 1e-5, 1e5
_STARTS = ((0.5, 1.0, 1.0, 2.0), (1.0, 10.0, 0.5, 5.0), (0.2, 0.3, 0.2, 1.0))
_STEP = 1e-4
_TAIL = 1e-12
# Around a = 1 the formula for expected purchases is 0 / 0.
_GAP = 1e-4


@dataclass(frozen=True)
class Histories:
    """Customers with the same history as one row: x, t_x, T (arrays, times in one unit) and how many they are."""

    repeats: np.ndarray
    last: np.ndarray
    age: np.ndarray
    customers: np.ndarray


@dataclass(frozen=True)
class Maximum:
    """Where a likelihood is largest: the logarithms of the parameters, their covariance, and whether it is one.

    Attributes:
        at: logarithms of the parameters.
        covariance: of `at`; a direction in which the likelihood is flat counts for nothing.
        log_likelihood: there.
        converged: False when the search did not end on a summit.
        at_bound: a parameter ran away: the data do not hold it.
    """

    at: np.ndarray
    covariance: np.ndarray
    log_likelihood: float
    converged: bool
    at_bound: bool


def maximize(loss: Callable[[np.ndarray], tuple[float, np.ndarray]], starts: np.ndarray, scale: float) -> Maximum:
    """Minimize minus a log-likelihood with slopes over logarithms of parameters, from a few starts."""
    from scipy.optimize import minimize

    bounds = [(float(np.log(SMALLEST)), float(np.log(LARGEST)))] * starts.shape[1]
    options = {"ftol": 1e-14, "gtol": 1e-9, "maxiter": 1000}

    def scaled(at: np.ndarray) -> tuple[float, np.ndarray]:
        value, slopes = loss(at)
        return value / scale, slopes / scale

    tries = [minimize(scaled, np.log(s), jac=True, method="L-BFGS-B", bounds=bounds, options=options) for s in starts]
    best = min(tries, key=lambda r: float(r.fun) if np.isfinite(r.fun) else np.inf)
    value, slopes = scaled(best.x)
    low, high = np.log(SMALLEST) + 1e-6, np.log(LARGEST) - 1e-6
    held = (best.x <= low) | (best.x >= high)
    converged = bool(np.isfinite(value) and np.abs(slopes[~held]).max(initial=0) < 1e-4)
    covariance = _invert_curvature(loss, best.x, held) if converged else np.zeros((len(best.x),) * 2)
    return Maximum(best.x, covariance, -value * scale, converged, bool(held.any()))


def _invert_curvature(
    loss: Callable[[np.ndarray], tuple[float, np.ndarray]], at: np.ndarray, held: np.ndarray
) -> np.ndarray:
    steps = np.eye(len(at)) * _STEP
    curvature = np.array([(loss(at + d)[1] - loss(at - d)[1]) / (2 * _STEP) for d in steps])
    free = np.flatnonzero(~held)
    inside = (curvature + curvature.T)[np.ix_(free, free)] / 2
    covariance = np.zeros_like(curvature)
    covariance[np.ix_(free, free)] = np.linalg.pinv(inside, rcond=1e-10, hermitian=True)
    return covariance


def fit_bgnbd(histories: Histories) -> Maximum:
    """Fit r, alpha, a, b by maximum likelihood on distinct histories."""
    levels, place = np.unique(histories.repeats, return_inverse=True)
    per_level = np.bincount(place, weights=histories.customers)

    def loss(at: np.ndarray) -> tuple[float, np.ndarray]:
        return _likelihood(at, histories, levels, place, per_level)

    # Time is measured in the customers' own scale, so that the starts suit any unit.
    scale = max(float(np.average(histories.age, weights=histories.customers)), 1e-9) / 30
    starts = np.array([(r, alpha * scale, a, b) for r, alpha, a, b in _STARTS])
    return maximize(loss, starts, float(histories.customers.sum()))


def _likelihood(
    at: np.ndarray, h: Histories, levels: np.ndarray, place: np.ndarray, per_level: np.ndarray
) -> tuple[float, np.ndarray]:
    """Minus the log-likelihood, with its slopes, at the logarithms of r, alpha, a, b."""
    from scipy.special import betaln, gammaln, psi

    r, alpha, a, b = np.exp(at)
    x, repeated = levels[place], h.repeats > 0
    log_age, log_last = np.log(alpha + h.age), np.log(alpha + h.last)
    alive = -(r + x) * log_age
    last_chance = np.where(repeated, b + x - 1, 1.0)
    gone = np.where(repeated, np.log(a) - np.log(last_chance) - (r + x) * log_last, -np.inf)
    both = np.logaddexp(alive, gone)
    dead = np.exp(gone - both)
    by_level = gammaln(r + levels) - gammaln(r) + r * np.log(alpha) + betaln(a, b + levels) - betaln(a, b)
    n = h.customers
    value = (per_level * by_level).sum() + (n * both).sum()
    total = psi(a + b) - psi(a + b + levels)
    slopes = np.array(
        [
            (per_level * (psi(r + levels) - psi(r) + np.log(alpha))).sum()
            - (n * ((1 - dead) * log_age + dead * log_last)).sum(),
            n.sum() * r / alpha - (n * (r + x) * ((1 - dead) / (alpha + h.age) + dead / (alpha + h.last))).sum(),
            (per_level * total).sum() + (n * dead).sum() / a,
            (per_level * (total + psi(b + levels) - psi(b))).sum() - (n * dead / last_chance).sum(),
        ]
    )
    return -float(value), -slopes * np.exp(at)


def chance_alive(at: np.ndarray, h: Histories) -> np.ndarray:
    """P(alive) at the end of the time watched; 1 for who never came again, since only a purchase makes one leave.

    >>> one = Histories(np.array([2]), np.array([30.43]), np.array([38.86]), np.array([1]))
    >>> round(float(chance_alive(np.log([0.243, 4.414, 0.793, 2.426]), one)[0]), 3)
    0.727
    """
    from scipy.special import expit

    r, alpha, a, b = np.exp(at)
    repeated = h.repeats > 0
    left = np.log(a) - np.log(np.where(repeated, b + h.repeats - 1, 1.0))
    odds = left + (r + h.repeats) * (np.log(alpha + h.age) - np.log(alpha + h.last))
    return np.asarray(np.where(repeated, expit(-odds), 1.0))


def expect_if_alive(at: np.ndarray, repeats: np.ndarray, age: np.ndarray, time: float) -> np.ndarray:
    """Expected purchases in the next `time` of customers who are alive.

    Euler's transformation takes the power of (1 - z) out of Gauss's function, so that nothing overflows at any number
    of purchases.
    """
    a = float(np.exp(at[2]))
    if abs(a - 1) < _GAP:
        ends = np.array([1 - 2 * _GAP, 1 + 2 * _GAP])
        low, high = (expect_if_alive(np.array([at[0], at[1], np.log(e), at[3]]), repeats, age, time) for e in ends)
        return np.asarray(low + (high - low) * (a - ends[0]) / (ends[1] - ends[0]))
    from scipy.special import hyp2f1

    r, alpha, a, b = np.exp(at)
    z = time / (alpha + age + time)
    kept = np.exp((a - 1) * np.log1p(-z)) * hyp2f1(a + b - 1 - r, a - 1, a + b + repeats - 1, z)
    value = (a + b + repeats - 1) / (a - 1) * (1 - kept)
    return np.asarray(np.clip(value, 0, (r + repeats) / (alpha + age) * time))


def expect_purchases(at: np.ndarray, h: Histories, time: float) -> np.ndarray:
    """Expected purchases in the next `time`.

    >>> one = Histories(np.array([2]), np.array([30.43]), np.array([38.86]), np.array([1]))
    >>> round(float(expect_purchases(np.log([0.243, 4.414, 0.793, 2.426]), one, 39.0)[0]), 3)
    1.226
    """
    pairs, place = _find_pairs(h)
    return chance_alive(at, h) * expect_if_alive(at, pairs[:, 0], pairs[:, 1], time)[place]


def expect_from_start(at: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Expected repeat purchases of a new customer by each time."""
    nothing = np.zeros(1)
    return np.array([float(expect_if_alive(at, nothing, nothing, float(t))[0]) if t > 0 else 0.0 for t in times])


def count_moments(at: np.ndarray, h: Histories, time: float) -> tuple[np.ndarray, np.ndarray]:
    """Mean of the number of purchases in the next `time`, and of its square.

    >>> one = Histories(np.array([2]), np.array([30.43]), np.array([38.86]), np.array([1]))
    >>> mean, square = count_moments(np.log([0.243, 4.414, 0.793, 2.426]), one, 39.0)
    >>> round(float(mean[0]), 3), round(float(square[0] - mean[0] ** 2), 2)
    (1.226, 2.53)
    """
    pairs, place = _find_pairs(h)
    first, second = np.zeros(len(pairs)), np.zeros(len(pairs))
    for k, members, tail in walk_tails(at, pairs, time):
        first[members] += tail
        second[members] += (2 * k - 1) * tail
    alive = chance_alive(at, h)
    return alive * first[place], alive * second[place]


def chance_of_none(at: np.ndarray, h: Histories, time: float) -> np.ndarray:
    """Chance that a customer buys nothing in the next `time`."""
    pairs, place = _find_pairs(h)
    r, alpha = np.exp(at[:2])
    silent = (r + pairs[:, 0]) * (np.log(alpha + pairs[:, 1]) - np.log(alpha + pairs[:, 1] + time))
    return 1 + chance_alive(at, h) * np.expm1(silent)[place]


def walk_tails(at: np.ndarray, pairs: np.ndarray, time: float) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """For k = 1, 2, ...: k, which pairs (x, T) may still reach it, and their chance of k purchases or more if alive."""
    from scipy.special import betainc

    r, alpha, a, b = np.exp(at)
    members = np.arange(len(pairs))
    stays = np.ones(len(pairs))
    k = 1
    while len(members):
        x, age = pairs[members, 0], pairs[members, 1]
        if k > 1:
            stays = stays * (b + x + k - 2) / (a + b + x + k - 2)
        tail = betainc(k, r + x, time / (alpha + age + time)) * stays
        yield k, members, tail
        going = tail > _TAIL
        members, stays = members[going], stays[going]
        k += 1


def _find_pairs(h: Histories) -> tuple[np.ndarray, np.ndarray]:
    """Distinct (x, T), and where each history finds its own."""
    key = h.repeats + 1j * h.age
    distinct, place = np.unique(key, return_inverse=True)
    return np.column_stack([distinct.real, distinct.imag]), place

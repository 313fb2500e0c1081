"""The Gamma-Gamma model: what a purchase of a customer is worth, given what theirs have brought.

Amounts scatter about each customer's own mean (gamma), and the means scatter over customers (gamma). How much somebody
spends must not depend on how often they buy.

Source: Fader and Hardie (2013), "The Gamma-Gamma Model of Monetary Value", brucehardie.com/notes/025.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from opslib.measure.purchase_model.bgnbd import Maximum, maximize

_STARTS = np.array([(2.0, 3.0, 1.0), (6.0, 4.0, 0.5), (0.8, 1.5, 1.0)])


@dataclass(frozen=True)
class Spending:
    """Customers with the same repeat purchases and mean amount as one row: both, and how many they are."""

    repeats: np.ndarray
    mean_amount: np.ndarray
    customers: np.ndarray


def fit_gamma_gamma(spending: Spending) -> Maximum:
    """Fit p, q, v by maximum likelihood; `mean_amount` is above 0 and `repeats` at least 1."""
    levels, place = np.unique(spending.repeats, return_inverse=True)
    per_level = np.bincount(place, weights=spending.customers)
    # In units of the mean amount, so that the starts suit any currency.
    scale = float(np.average(spending.mean_amount, weights=spending.customers))
    x, z, n = levels[place], spending.mean_amount / scale, spending.customers

    def loss(at: np.ndarray) -> tuple[float, np.ndarray]:
        return _likelihood(at, x, z, n, levels, per_level)

    found = maximize(loss, _STARTS, float(n.sum()))
    shifted = found.at + np.array([0, 0, np.log(scale)])
    likelihood = found.log_likelihood - float(n.sum()) * np.log(scale)
    return Maximum(shifted, found.covariance, likelihood, found.converged, found.at_bound)


def _likelihood(
    at: np.ndarray, x: np.ndarray, z: np.ndarray, n: np.ndarray, levels: np.ndarray, per_level: np.ndarray
) -> tuple[float, np.ndarray]:
    """Minus the log-likelihood, with its slopes, at the logarithms of p, q, v."""
    from scipy.special import betaln, psi

    p, q, v = np.exp(at)
    log_sum, log_total = np.log(x * z + v), np.log(x * z)
    value = (n * (q * np.log(v) - np.log(z) + p * x * log_total - (p * x + q) * log_sum)).sum()
    value -= (per_level * betaln(p * levels, q)).sum()
    all_ = psi(p * levels + q)
    slopes = np.array(
        [
            (n * x * (log_total - log_sum)).sum() + (per_level * levels * (all_ - psi(p * levels))).sum(),
            (n * (np.log(v) - log_sum)).sum() + (per_level * (all_ - psi(q))).sum(),
            (n * (q / v - (p * x + q) / (x * z + v))).sum(),
        ]
    )
    return -float(value), -slopes * np.exp(at)


def weigh_amount(at: np.ndarray, repeats: np.ndarray) -> np.ndarray:
    """What (v + sum of repeat amounts) is multiplied by to give the expected amount of a purchase, or inf.

    >>> at = np.log([6.25, 3.74, 15.44])
    >>> round(float(weigh_amount(at, np.array([2]))[0] * (15.44 + 2 * 22.35)), 2)
    24.66
    """
    p, q, _ = np.exp(at)
    below = p * repeats + q - 1
    return np.asarray(np.where(below > 0, p / np.where(below > 0, below, 1), np.inf))


def weigh_squares(at: np.ndarray, repeats: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What (v + sum of repeat amounts) squared is multiplied by: the variance of an amount, and the square of a mean.

    Infinite where amounts scatter too widely to have a variance.
    """
    p, q, _ = np.exp(at)
    shape = p * repeats + q
    known = shape > 2
    square = np.where(known, 1 / np.where(known, (shape - 1) * (shape - 2), 1), np.inf)
    return p * square, p * p * square

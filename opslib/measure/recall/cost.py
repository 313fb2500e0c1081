"""What one incremental user cost: a ratio whose denominator may be zero."""

from __future__ import annotations

import math
from dataclasses import dataclass

from opslib.language import mark, say
from opslib.measure.estimate import CONFIDENCE, Estimate, quantile

METHOD = "Fieller"
NO_EFFECT = mark("no clear effect, so there is no cost of an incremental user")


@dataclass(frozen=True)
class Difference:
    """Treated minus holdout of two quantities of the same users, with what is uncertain about them.

    Attributes:
        cost, lift: mean cost of a user, and points of the share that came back.
        cost_variance, lift_variance, covariance: of these two differences.
    """

    cost: float
    lift: float
    cost_variance: float
    lift_variance: float
    covariance: float = 0.0


def estimate_unit_cost(
    difference: Difference, *, users: float, clear: bool, confidence: float = CONFIDENCE
) -> Estimate:
    """Estimate the cost of one user who would not have come back without the message.

    Args:
        difference: treated minus holdout.
        users: users treated.
        clear: the lift is a clear gain; without one there is no cost.
        confidence: of the interval.

    Returns:
        An estimate: the cost of the treated beyond that of the holdout / the users beyond those of the holdout. Where
        the lift's own interval reaches zero there is no upper end.

    Source: Fieller (1954), Some problems in interval estimation, Journal of the Royal Statistical Society B 16,
    175-185.

    >>> e = estimate_unit_cost(Difference(2.0, 0.05, 0.0, 0.01**2), users=1000, clear=True)
    >>> round(e.value, 2), round(e.low, 2), round(e.high, 2)
    (40.0, 28.74, 65.79)
    """
    name, d = "cost_per_incremental_amount", difference
    incremental, cost = d.lift * users, d.cost * users
    if not clear or not d.lift > 0:
        return Estimate(name, None, cost, incremental, None, None, "none", "amount", confidence, say(NO_EFFECT))
    low, high = bound_ratio(d, confidence=confidence)
    note = "" if high is not None else say("the lift may be next to nothing: the cost has no upper end")
    return Estimate(name, d.cost / d.lift, cost, incremental, low, high, METHOD, "amount", confidence, note)


def bound_ratio(difference: Difference, *, confidence: float = CONFIDENCE) -> tuple[float | None, float | None]:
    """Fieller's interval of cost / lift; an end is missing where the ratio has none on that side."""
    d, z2 = difference, quantile(confidence) ** 2
    # Ratios r for which cost - r x lift does not differ from zero: a r^2 - 2 b r + c <= 0.
    a = d.lift**2 - z2 * d.lift_variance
    b = d.cost * d.lift - z2 * d.covariance
    c = d.cost**2 - z2 * d.cost_variance
    if a <= 0:
        # Everything above the one root that is left; without one nothing is known.
        root = b * b - a * c
        ends = [(b + s * math.sqrt(root)) / a for s in (-1, 1)] if a < 0 <= root else []
        below = [end for end in ends if end <= d.cost / d.lift]
        return (max(below) if below else None), None
    half = math.sqrt(max(b * b - a * c, 0.0))
    return (b - half) / a, (b + half) / a

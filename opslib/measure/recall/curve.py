"""The Qini curve: what is gained when those expected to gain most get the message first."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
# A complex step this small gives derivatives to the last digit: nothing is subtracted.
_STEP = 1e-30


@dataclass(frozen=True)
class ArmSums:
    """Users of both arms in groups, the group that gets the message first in front.

    Attributes:
        treated, holdout: users.
        treated_sum, holdout_sum: of their outcomes; treated_squares, holdout_squares: of the squares.
    """

    treated: Floats
    treated_sum: Floats
    treated_squares: Floats
    holdout: Floats
    holdout_sum: Floats
    holdout_squares: Floats

    def pick(self, order: NDArray[np.intp]) -> ArmSums:
        """The same groups in another order."""
        return ArmSums(*(getattr(self, name)[order] for name in self.__dataclass_fields__))


@dataclass(frozen=True)
class QiniCurve:
    """A Qini curve; the first point is (0, 0).

    Attributes:
        share: users in the groups so far, of all.
        incremental: outcomes of the treated so far beyond what the holdout so far would have given as many.
        gain: the same for each of all treated users.
        coefficient: area between the gain and the line from its start to its end (messages in random order).
        gain_error, coefficient_error: standard errors.
        slopes: how gain and coefficient (last column) move with each user, see `trace_curve`.
    """

    share: Floats
    incremental: Floats
    gain: Floats
    coefficient: float
    gain_error: Floats
    coefficient_error: float
    slopes: Floats


def trace_curve(sums: ArmSums) -> QiniCurve:
    """Trace the Qini curve over groups in their order.

    Args:
        sums: groups of at least one user each, in an order that was not chosen by these outcomes.

    Returns:
        A `QiniCurve`. Errors are those of the influence function: users are independent draws, the order is given.

    Source: Radcliffe (2007), Using control groups to target on predicted lift, Direct Marketing Analytics Journal,
    14-21; the same curve as scikit-uplift's `qini_curve`.

    >>> one, none = np.array([2.0, 2.0]), np.array([0.0, 0.0])
    >>> curve = trace_curve(ArmSums(one, np.array([2.0, 0.0]), np.array([2.0, 0.0]), one, none, none))
    >>> curve.share.tolist(), curve.incremental.tolist(), curve.coefficient
    ([0.0, 0.5, 1.0], [0.0, 2.0, 2.0], 0.125)
    """
    values = np.stack([sums.treated, sums.treated_sum, sums.holdout, sums.holdout_sum]).astype(float)
    groups = values.shape[1]
    share, incremental, gain, area = _trace(values.astype(complex))
    # One copy of the sums for each of them, moved a little.
    moved = np.repeat(values.astype(complex)[None], 4 * groups, axis=0).reshape(4, groups, 4, groups)
    kind, at = np.meshgrid(np.arange(4), np.arange(groups), indexing="ij")
    moved[kind, at, kind, at] += 1j * _STEP
    _, _, gains, areas = _trace(moved)
    slopes = np.concatenate([gains, areas[..., None]], axis=-1).imag / _STEP
    error = np.sqrt(np.maximum(sum_influence(sums, slopes), 0.0))
    return QiniCurve(share.real, incremental.real, gain.real, float(area.real), error[:-1], float(error[-1]), slopes)


def sum_influence(sums: ArmSums, slopes: Floats) -> Floats:
    """The variance of statistics whose slopes by users and by outcome sums (of each arm and group) are given.

    A user moves the statistic by the slope of its count plus its outcome times the slope of the sum; the variance is
    the sum of the squares over users.
    """
    total = np.zeros(slopes.shape[-1])
    for at, (users, sum_, squares) in enumerate(
        (
            (sums.treated, sums.treated_sum, sums.treated_squares),
            (sums.holdout, sums.holdout_sum, sums.holdout_squares),
        )
    ):
        count, outcome = slopes[2 * at], slopes[2 * at + 1]
        total += (users[:, None] * count**2 + 2 * sum_[:, None] * count * outcome + squares[:, None] * outcome**2).sum(
            axis=0
        )
    return total


def _trace(values: NDArray[np.complex128]) -> tuple[NDArray[np.complex128], ...]:
    treated, treated_sum, holdout, holdout_sum = np.moveaxis(np.cumsum(values, axis=-1), -2, 0)
    some = holdout.real > 0
    per = np.where(some, treated / np.where(some, holdout, 1.0), 0.0)
    incremental = treated_sum - holdout_sum * per
    share = (treated + holdout) / (treated + holdout)[..., -1:]
    share, incremental = (np.concatenate([x[..., :1] * 0, x], axis=-1) for x in (share, incremental))
    gain = incremental / treated[..., -1:]
    area = ((gain[..., 1:] + gain[..., :-1]) * np.diff(share, axis=-1)).sum(axis=-1) / 2
    return share, incremental, gain, area - gain[..., -1] / 2

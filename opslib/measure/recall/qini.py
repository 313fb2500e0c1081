"""The Qini curve of a score, or of segments ordered by what the other half of the users did."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from opslib.measure.estimate import Estimate, Unit, quantile
from opslib.measure.recall.arms import HOLDOUT, TREATED
from opslib.measure.recall.curve import ArmSums, QiniCurve, sum_influence, trace_curve

# Points of a curve that is put together from two halves, besides the first.
STEPS = 20
CURVE_COLUMNS = ("share_rate", "users_count", "incremental_count", "gain", "gain_low", "gain_high", "random_gain")
_ARMS = (HOLDOUT, TREATED)


def draw_qini(counted: pd.DataFrame, by: str, given: int, unit: Unit, level: float) -> tuple[pd.DataFrame, Estimate]:
    z = quantile(1 - level)
    if by == "score":
        curve = trace_curve(_take(counted))
        users = np.append(0, np.cumsum(counted[[f"{arm}_users" for arm in _ARMS]].sum(axis=1)))
        share, gain, error, area, wide = (
            curve.share, curve.gain, curve.gain_error, curve.coefficient, curve.coefficient_error,
        )  # fmt: skip
    else:
        share = np.linspace(0, 1, STEPS + 1)
        both = (_follow_other_half(counted, half, share) for half in (0, 1))
        # A half without an arm says nothing: the other one is left.
        gains, spreads, areas, area_spreads = zip(*(part for part in both if part is not None), strict=True)
        gain, area = np.mean(gains, axis=0), float(np.mean(areas))
        # Each half's order comes from the other, so their errors go together: they are averaged, not their squares.
        error, wide = np.mean(np.sqrt(np.maximum(spreads, 0.0)), axis=0), float(np.mean(np.sqrt(area_spreads)))
        users = np.round(share * counted[[f"{arm}_users" for arm in _ARMS]].to_numpy().sum())
    frame = pd.DataFrame(
        {
            "share_rate": share,
            "users_count": users.astype(int),
            "incremental_count": gain * given,
            "gain": gain,
            "gain_low": gain - z * error,
            "gain_high": gain + z * error,
            "random_gain": gain[-1] * share,
        }
    )
    method = "influence function" if by == "score" else "influence function, cross-fitted halves"
    name, half = f"qini_{unit}", z * wide
    qini = Estimate(name, float(area), float(area) * given, given, area - half, area + half, method, unit, 1 - level)
    return frame, qini


def _follow_other_half(counted: pd.DataFrame, half: int, share: np.ndarray) -> tuple[Any, ...] | None:
    """Gain at these shares, its variance, coefficient and its variance, of one half in the order of the other."""
    own, other = counted[counted["half"] == half], counted[counted["half"] != half].set_index("part")
    if min(own[f"{HOLDOUT}_users"].sum(), own[f"{TREATED}_users"].sum()) == 0:
        return None
    rates = [other[f"{arm}_sum"] / other[f"{arm}_users"].where(other[f"{arm}_users"] > 0) for arm in _ARMS]
    promise = (rates[1] - rates[0]).reindex(own["part"])
    # What the other half cannot say comes last.
    order = np.argsort(-promise.fillna(-np.inf).to_numpy(), kind="stable")
    sums = _take(own).pick(order)
    curve: QiniCurve = trace_curve(sums)
    weights = np.stack([np.interp(share, curve.share, point) for point in np.eye(len(curve.share))], axis=-1)
    variance = sum_influence(sums, curve.slopes[..., :-1] @ weights.T)
    return weights @ curve.gain, variance, curve.coefficient, curve.coefficient_error**2


def _take(counted: pd.DataFrame) -> ArmSums:
    names = [f"{arm}_{c}" for arm in (TREATED, HOLDOUT) for c in ("users", "sum", "squares")]
    return ArmSums(*(counted[name].to_numpy(dtype=float) for name in names))

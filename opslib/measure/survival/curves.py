"""The arithmetic of survival on counts by tenure: curves, competing exits and the log-rank test.

lifelines fits the Kaplan-Meier curve, but for late entry. Its log-rank test knows no late entry and does not say what
was expected, and its competing risks break ties by random jitter, which would make the numbers of whole days depend on
a seed: those are here, and are checked against it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd

from opslib.measure.estimate import CONFIDENCE, adjust_p_values, quantile


@dataclass(frozen=True)
class LifeCounts:
    """Users by tenure 0, 1, 2 ...

    Attributes:
        entered: users seen from this tenure on.
        left: exit -> users who left at this tenure.
        censored: users not known beyond this tenure, who had not left.
    """

    entered: np.ndarray
    left: Mapping[str, np.ndarray]
    censored: np.ndarray

    @property
    def gone(self) -> np.ndarray:
        """Users who left at each tenure, however."""
        return sum(self.left.values(), np.zeros(len(self.entered), dtype=np.int64))

    @property
    def at_risk(self) -> np.ndarray:
        """Users known to be there at each tenure: entered by then, not left or censored before."""
        out = self.gone + self.censored
        return self.entered.cumsum() - (out.cumsum() - out)


def fit_survival(counts: LifeCounts) -> pd.DataFrame:
    """Kaplan-Meier: the share that is still there after each tenure.

    Returns:
        tenure, at_risk_count, left_count, censored_count, survival_rate, survival_low, survival_high; up to the last
        tenure with somebody at risk. Intervals are Greenwood's on the log-log scale; where nobody or everybody has left
        that scale has none, and they are Wilson's with the users then at risk.

    >>> counts = LifeCounts(np.array([4, 0, 0]), {"left": np.array([1, 0, 1])}, np.array([0, 1, 1]))
    >>> fit_survival(counts)["survival_rate"].round(6).tolist()
    [0.75, 0.75, 0.375]
    """
    risk, gone = counts.at_risk, counts.gone
    length = int(np.flatnonzero(risk > 0).max()) + 1 if (risk > 0).any() else 0
    tenure = np.arange(length)
    if not length or counts.entered[1:].any():
        rate, low, high = _fit_late_entry(counts, length)
    else:
        rate, low, high = _fit_with_lifelines(counts, tenure)
    flat = (rate <= 0) | (rate >= 1)
    size, z = np.maximum(risk[:length], 1).astype(float), quantile()
    edge = z * z / size / (1 + z * z / size)
    low = np.where(flat, np.where(rate <= 0, 0.0, 1 - edge), low)
    high = np.where(flat, np.where(rate <= 0, edge, 1.0), high)
    return pd.DataFrame(
        {
            "tenure": tenure,
            "at_risk_count": risk[:length],
            "left_count": gone[:length],
            "censored_count": counts.censored[:length],
            "survival_rate": rate,
            "survival_low": low,
            "survival_high": high,
        }
    )


def _fit_with_lifelines(counts: LifeCounts, tenure: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    from lifelines import KaplanMeierFitter  # type: ignore[import-untyped]

    # One weighted row for each tenure and way to end.
    ends = np.concatenate([tenure, tenure])
    weights = np.concatenate([counts.gone[: len(tenure)], counts.censored[: len(tenure)]])
    happened = np.repeat([1, 0], len(tenure))
    some = weights > 0
    fitter = KaplanMeierFitter(alpha=1 - CONFIDENCE)
    fitter.fit(ends[some], happened[some], timeline=tenure, weights=weights[some])
    rate = fitter.survival_function_.iloc[:, 0].reindex(tenure).to_numpy(dtype=float)
    interval = fitter.confidence_interval_.reindex(tenure).to_numpy(dtype=float)
    return rate, interval[:, 0], interval[:, 1]


def _fit_late_entry(counts: LifeCounts, length: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The same product and variance: lifelines refuses late entry where the first few to enter leave at once."""
    n, d = counts.at_risk[:length].astype(float), counts.gone[:length].astype(float)
    with np.errstate(divide="ignore", invalid="ignore"):
        rate = np.cumprod(np.where(n > 0, 1 - d / n, 1.0))
        variance = np.cumsum(np.where(n > d, d / (n * (n - d)), 0.0))
        half = quantile() * np.sqrt(variance) / np.abs(np.log(rate))
        return rate, rate ** np.exp(half), rate ** np.exp(-half)


def fit_incidence(counts: LifeCounts) -> pd.DataFrame:
    """Aalen-Johansen: the share that has left by each tenure, by exit; with the survivors they add up to 1.

    Returns:
        tenure, exit, left_count, incidence_rate, incidence_low, incidence_high (log-log).

    Source: Aalen and Johansen (1978); Marubini and Valsecchi (1995), p. 341, for the variance; Choudhury (2002) for the
    log-log interval.
    """
    risk = counts.at_risk.astype(float)
    length = int(np.flatnonzero(risk > 0).max()) + 1 if (risk > 0).any() else 0
    n, gone = risk[:length], counts.gone[:length].astype(float)
    with np.errstate(divide="ignore", invalid="ignore"):
        hazard = np.where(n > 0, gone / n, 0.0)
        spread = np.where(n > gone, gone / (n * (n - gone)), 0.0)
    before = np.concatenate([[1.0], np.cumprod(1 - hazard)[:-1]]) if length else np.zeros(0)
    frames = []
    for name, left in counts.left.items():
        with np.errstate(divide="ignore", invalid="ignore"):
            share = np.where(n > 0, left[:length] / n, 0.0)
            own = np.where(n > 0, before**2 * share * (1 - share) / n, 0.0)
            joint = np.where(n > 0, before * share / n, 0.0)
        rate = np.cumsum(before * share)
        # Sums of (I(t) - I(t_j))^2 and I(t) - I(t_j), multiplied out.
        variance = rate**2 * spread.cumsum() - 2 * rate * (rate * spread).cumsum() + (rate**2 * spread).cumsum()
        variance += own.cumsum() - 2 * (rate * joint.cumsum() - (rate * joint).cumsum())
        low, high = _bound_log_log(rate, np.maximum(variance, 0))
        frames.append(
            pd.DataFrame(
                {
                    "tenure": np.arange(length),
                    "exit": name,
                    "left_count": left[:length],
                    "incidence_rate": rate,
                    "incidence_low": low,
                    "incidence_high": high,
                }
            )
        )
    columns = ["tenure", "exit", "left_count", "incidence_rate", "incidence_low", "incidence_high"]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=columns)


def _bound_log_log(rate: np.ndarray, variance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    inside = (rate > 0) & (rate < 1)
    safe = np.where(inside, rate, 0.5)
    half = quantile() * np.sqrt(variance) / np.abs(safe * np.log(safe))
    low, high = safe ** np.exp(half), safe ** np.exp(-half)
    return np.where(inside, low, np.nan), np.where(inside, high, np.nan)


def compare_survival(groups: Mapping[str, LifeCounts]) -> tuple[pd.DataFrame, float | None, int]:
    """Log-rank test that all groups leave alike, tenure by tenure.

    Returns:
        segment, users_count, left_count, expected_count (had everybody left alike); the chi-square statistic (None
        where nothing can be compared); its degrees of freedom.

    Source: Mantel (1966); Peto and Peto (1972).
    """
    names = list(groups)
    length = max((len(c.entered) for c in groups.values()), default=0)
    risk, gone = (np.zeros((len(names), length)) for _ in range(2))
    for i, counts in enumerate(groups.values()):
        risk[i, : len(counts.entered)] = counts.at_risk
        gone[i, : len(counts.entered)] = counts.gone
    all_risk, all_gone = risk.sum(axis=0), gone.sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(all_risk > 0, risk / all_risk, 0.0)
        scale = np.where(all_risk > 1, all_gone * (all_risk - all_gone) / (all_risk - 1), 0.0)
    expected = (share * all_gone).sum(axis=1)
    frame = pd.DataFrame(
        {
            "segment": names,
            "users_count": [int(c.entered.sum()) for c in groups.values()],
            "left_count": gone.sum(axis=1).astype(np.int64),
            "expected_count": expected,
        }
    )
    compared = (share * (1 - share) * scale).sum(axis=1) > 0
    if compared.sum() < 2:
        return frame, None, 0
    difference = (gone.sum(axis=1) - expected)[compared]
    part = share[compared]
    variance = np.diag((part * scale).sum(axis=1)) - (part * scale) @ part.T
    # Whatever group is left out, the statistic is the same.
    variance, difference = variance[:-1, :-1], difference[:-1]
    statistic = difference @ np.linalg.pinv(variance, hermitian=True) @ difference
    return frame, float(statistic), int(np.linalg.matrix_rank(variance, hermitian=True))


def compare_pairs(groups: Mapping[str, LifeCounts]) -> pd.DataFrame:
    """Log-rank test of each two groups, with q-values over all pairs.

    Returns:
        segment, other_segment, statistic, p_value, q_value.
    """
    from scipy.special import chdtrc

    rows = []
    for one, other in combinations(groups, 2):
        _, statistic, freedom = compare_survival({one: groups[one], other: groups[other]})
        p = float("nan") if statistic is None else float(chdtrc(freedom, statistic))
        rows.append((one, other, float("nan") if statistic is None else statistic, p))
    frame = pd.DataFrame(rows, columns=["segment", "other_segment", "statistic", "p_value"])
    return frame.assign(q_value=adjust_p_values(frame["p_value"].to_numpy(dtype=float)))


def find_crossing(tenure: Sequence[int] | np.ndarray, rate: np.ndarray, level: float = 0.5) -> int | None:
    """The first tenure at which the share is no higher than a level; None where it never is."""
    below = np.flatnonzero(np.asarray(rate, dtype=float) <= level)
    return int(tenure[below[0]]) if len(below) else None

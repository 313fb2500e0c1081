"""Counts, means and covariances of an experiment's outcomes, by variant and day of exposure, in one pass.

Groups are put together afterwards, exactly (Chan, Golub and LeVeque 1983), so that the same aggregates give the whole
experiment and each of its days so far. They are tea-tasting's aggregates too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from opslib.measure.experiment.metrics import Metric, Outcomes

Floats = NDArray[np.float64]

# A variance that is a smaller share of its parts than this is what rounding left of zero.
ROUNDING = 1e-12


@dataclass(frozen=True)
class Moments:
    """Counts, means and scatter of a metric's columns; leading axes are groups.

    Attributes:
        columns: names, the value first.
        count: users whose window is over.
        mean: means, one a column.
        scatter: sums of products of deviations, columns x columns.
    """

    columns: tuple[str, ...]
    count: Floats
    mean: Floats
    scatter: Floats

    @property
    def covariance(self) -> Floats:
        """Sample covariances."""
        return self.scatter / np.maximum(self.count - 1, 1)[..., None, None]

    def accumulate(self) -> Moments:
        """Groups up to and with each, along the last group axis."""
        return self._put_together(lambda x, axis: np.cumsum(x, axis=axis), keep=True)

    def sum(self) -> Moments:
        """All groups of the last group axis together."""
        return self._put_together(lambda x, axis: np.sum(x, axis=axis), keep=False)

    def _put_together(self, add: Any, *, keep: bool) -> Moments:
        axis = self.count.ndim - 1
        weight = self.count[..., None]
        total = np.maximum(self.count.sum(axis=-1, keepdims=True), 1)[..., None]
        # Deviations from a common centre keep their digits where the mean is large.
        center = (weight * self.mean).sum(axis=-2, keepdims=True) / total
        apart = self.mean - center
        count = add(self.count, axis)
        first = add(weight * apart, axis)
        inner = self.scatter + weight[..., None] * apart[..., :, None] * apart[..., None, :]
        second = add(inner, axis)
        users = np.maximum(count, 1)
        mean = first / users[..., None] + (center if keep else center[..., 0, :])
        scatter = second - first[..., :, None] * first[..., None, :] / users[..., None, None]
        return Moments(self.columns, count, mean, scatter)

    def join(self, other: Moments) -> Moments:
        """Two samples as one."""
        both = [np.stack(pair) for pair in ((self.count, other.count), (self.mean, other.mean))]
        count, mean = np.moveaxis(both[0], 0, -1), np.moveaxis(both[1], 0, -2)
        scatter = np.moveaxis(np.stack([self.scatter, other.scatter]), 0, -3)
        return Moments(self.columns, count, mean, scatter).sum()

    def to_aggregates(self) -> Any:
        """As tea-tasting's `Aggregates`; of one group."""
        from tea_tasting.aggr import Aggregates

        covariance = self.covariance
        pairs = {(a, b): (i, j) for i, a in enumerate(self.columns) for j, b in enumerate(self.columns) if i < j}
        return Aggregates(
            count_=int(self.count),
            mean_={c: float(self.mean[i]) for i, c in enumerate(self.columns)},
            var_={c: float(covariance[i, i]) for i, c in enumerate(self.columns)},
            cov_={names: float(covariance[at]) for names, at in pairs.items()},
        )


@dataclass(frozen=True)
class MetricGroups:
    """One metric's aggregates: variants x days.

    Attributes:
        moments: of users whose window is over.
        immature: users whose window is not over, one number a variant and day.
        total, total_per: sums of value and of what it is divided by, one number a variant.
        largest: the largest value, one number a variant.
    """

    metric: Metric
    kind: str
    moments: Moments
    immature: NDArray[np.int64]
    total: Floats
    total_per: Floats
    largest: Floats


@dataclass(frozen=True)
class Groups:
    """All aggregates of an experiment.

    Attributes:
        variants: names in order.
        days: days of exposure in order; one missing day where the table has none.
        users: assigned users, variants x days.
        metrics: one entry a metric.
    """

    variants: tuple[str, ...]
    days: pd.DatetimeIndex
    users: NDArray[np.int64]
    metrics: tuple[MetricGroups, ...]


def aggregate_outcomes(outcomes: Outcomes, *keys: str) -> pd.DataFrame:
    """Aggregate in the engine: one row a variant and day (and further keys)."""
    table = outcomes.table
    values: dict[str, Any] = {"users": table.count()}
    for i, columns in enumerate(outcomes.columns):
        over = table[f"m{i}"]
        values |= {f"n{i}": over.sum().fill_null(0), f"largest{i}": table[f"v{i}"].max(where=over)}
        for at, a in enumerate(columns):
            values |= {f"mean_{a}": table[a].mean(where=over), f"total_{a}": table[a].sum(where=over)}
            values[f"cov_{a}_{a}"] = table[a].var(where=over, how="sample")
            for b in columns[at + 1 :]:
                values[f"cov_{a}_{b}"] = table[a].cov(table[b], where=over, how="sample")
    return table.group_by("variant", "day", *keys).aggregate(**values).to_pandas()


def arrange_groups(frame: pd.DataFrame, outcomes: Outcomes, variants: Sequence[str]) -> Groups:
    """Put the engine's rows into arrays of variants x days; groups without users are 0."""
    frame = frame[frame["variant"].isin(list(variants))]
    on = pd.DatetimeIndex(pd.to_datetime(frame["day"]))
    days = pd.DatetimeIndex(on.dropna().unique().sort_values())
    if on.isna().any() or not len(days):
        # Users without a day of exposure come first: they are in every sum and in no trend of their own.
        days = pd.DatetimeIndex([pd.NaT, *days])
    row = pd.Index(variants).get_indexer(pd.Index(frame["variant"]))
    column = np.where(on.isna(), 0, days.get_indexer(on))

    def spread(name: str, dtype: Any = float) -> Any:
        array = np.zeros((len(variants), len(days)), dtype=dtype)
        array[row, column] = frame[name].fillna(0).to_numpy(dtype=dtype)
        return array

    users = spread("users", np.int64)
    metrics = []
    for i, (metric, kind, columns) in enumerate(zip(outcomes.metrics, outcomes.kinds, outcomes.columns, strict=True)):
        count = spread(f"n{i}")
        mean = np.stack([spread(f"mean_{c}") for c in columns], axis=-1)
        scatter = np.zeros((*count.shape, len(columns), len(columns)))
        for a in range(len(columns)):
            for b in range(a, len(columns)):
                product = spread(f"cov_{columns[a]}_{columns[b]}") * np.maximum(count - 1, 0)
                scatter[..., a, b] = scatter[..., b, a] = product
        total = spread(f"total_v{i}").sum(axis=1)
        per = spread(f"total_p{i}").sum(axis=1) if f"p{i}" in columns else count.sum(axis=1)
        immature = users - count.astype(np.int64)
        largest = spread(f"largest{i}").max(axis=1, initial=0.0)
        metrics.append(
            MetricGroups(metric, kind, Moments(columns, count, mean, scatter), immature, total, per, largest)
        )
    return Groups(tuple(variants), days, users, tuple(metrics))


@dataclass(frozen=True)
class Difference:
    """Variant minus control from moments, with its standard error; arrays over groups.

    Attributes:
        difference, error: adjusted by CUPED where there is something to adjust by.
        control: the control's adjusted value.
        kept_rate: share of the variance that the adjustment leaves.
    """

    difference: Floats
    error: Floats
    control: Floats
    kept_rate: Floats


def subtract(control: Moments, variant: Moments) -> Difference:
    """Estimate the difference of two samples for any metric: mean or ratio (delta method), with CUPED.

    The arithmetic of tea-tasting's `RatioOfMeans`, for many groups at once.

    Source: Deng, Knoblich and Lu (2018), Applying the delta method in metric analytics, KDD; for CUPED Deng, Xu, Kohavi
    and Walker (2013), WSDM.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        both = control.join(variant)
        value, before = _gradients(both)
        covariance = both.covariance
        spread = _dot(before, covariance, before)
        slope = np.where(spread > 0, _dot(value, covariance, before) / np.where(spread > 0, spread, 1), 0.0)
        center = _ratio(both, "bc")
        values, variances, plain = [], [], []
        for sample in (control, variant):
            own, past = _gradients(sample)
            adjusted = own - slope[..., None] * past
            shift = np.where(slope != 0, slope * (_ratio(sample, "bc") - center), 0.0)
            values.append(_ratio(sample, "vp") - shift)
            variances.append(_vary(adjusted, sample.covariance) / sample.count)
            plain.append(_vary(own, sample.covariance) / sample.count)
        error = np.sqrt(variances[0] + variances[1])
        kept = (variances[0] + variances[1]) / (plain[0] + plain[1])
        return Difference(values[1] - values[0], error, values[0], kept)


def _dot(left: Floats, matrix: Floats, right: Floats) -> Floats:
    return np.einsum("...i,...ij,...j->...", left, matrix, right)


def _vary(gradient: Floats, covariance: Floats) -> Floats:
    """Variance of a combination of columns."""
    size = _dot(np.abs(gradient), np.abs(covariance), np.abs(gradient))
    variance = _dot(gradient, covariance, gradient)
    # Columns that cancel leave what rounding leaves, other in each engine: no scatter, then.
    return np.where(variance > ROUNDING * size, variance, 0.0)


def _place(moments: Moments, letter: str) -> int | None:
    return next((i for i, name in enumerate(moments.columns) if name[0] == letter), None)


def _ratio(moments: Moments, letters: str) -> Floats:
    top, bottom = (_place(moments, letter) for letter in letters)
    if top is None:
        return np.zeros(moments.count.shape)
    return moments.mean[..., top] if bottom is None else moments.mean[..., top] / moments.mean[..., bottom]


def _gradients(moments: Moments) -> tuple[Floats, Floats]:
    """How the value, and what went before, move with each column's mean."""
    found = []
    for letters in ("vp", "bc"):
        gradient = np.zeros(moments.mean.shape)
        top, bottom = (_place(moments, letter) for letter in letters)
        if top is not None and bottom is None:
            gradient[..., top] = 1.0
        elif top is not None and bottom is not None:
            low = moments.mean[..., bottom]
            low = np.where(low == 0, np.nan if letters == "vp" else np.inf, low)
            gradient[..., top] = 1 / low
            gradient[..., bottom] = np.where(np.isinf(low), 0.0, -moments.mean[..., top] / low**2)
        found.append(gradient)
    return found[0], found[1]

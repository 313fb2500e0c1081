"""Series for tests of rules: made by hand or by chance, with nothing behind them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from opslib.data.operations import RuleSettings
from opslib.decide.rules.evaluate import evaluate_rule
from opslib.decide.rules.result import RuleResult
from opslib.measure.series.series import MetricSeries

STEPS = {"day": "D", "week": "7D", "month": "MS"}


def make_series(
    numerator: Any,
    denominator: Any,
    *,
    kind: Any = "rate",
    grain: Any = "day",
    metric: str = "complaint_rate",
    lag: int = 0,
    error: float = np.nan,
) -> MetricSeries:
    """Every period known, from 1 January 2025, `lag` days after its end."""
    numerator, denominator = np.asarray(numerator, dtype=float), np.asarray(denominator, dtype=float)
    starts = pd.date_range("2025-01-01", periods=len(numerator) + 1, freq=STEPS[grain])
    frame = pd.DataFrame(
        {
            "period_start": starts[:-1],
            "group": "",
            "value": numerator / denominator,
            "numerator": numerator,
            "denominator": denominator,
            "standard_error": error,
            "known_on": starts[1:] + pd.Timedelta(days=lag - 1),
            "status": "known",
        }
    )
    unit = {"rate": "rate", "count": "count", "mean": "amount"}[kind]
    return MetricSeries(metric, unit, kind, grain, "", frame)  # type: ignore[arg-type]


def join_groups(parts: Mapping[str, MetricSeries]) -> MetricSeries:
    """One series of several groups."""
    frames = [part.frame.assign(group=name) for name, part in parts.items()]
    frame = pd.concat(frames).sort_values(["period_start", "group"]).reset_index(drop=True)
    return replace(next(iter(parts.values())), by="channel", frame=frame)


def evaluate_last(rule: RuleSettings, series: MetricSeries, **options: Any) -> RuleResult:
    """Evaluate on the day at whose end the last period was known."""
    return evaluate_rule(rule, series, as_of=series.frame["known_on"].max().date(), **options)

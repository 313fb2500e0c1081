"""Difference in differences: did those reached move otherwise than those who could not be reached."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from opslib.language import say
from opslib.measure.counterfactual.interval import FEWEST_BLOCKS, estimate_effect, widen_by_placebos
from opslib.measure.counterfactual.result import (
    PLACEBO_COLUMNS,
    WEIGHT_COLUMNS,
    CounterfactualResult,
    Method,
    refuse,
    to_units,
)
from opslib.measure.counterfactual.weeks import Scale, Weeks, collect_weeks, to_scale
from opslib.measure.estimate import CONFIDENCE, Unit

METHOD: Method = "difference in differences"
FEWEST_WEEKS_BEFORE = 4
# Longer ago, groups had reasons of their own to differ.
MOST_WEEKS_BEFORE = 26
# Below this chance of moving alike before, the comparison is not relied on.
NOT_ALIKE = 0.05


def difference_in_differences(
    treated: pd.DataFrame,
    controls: pd.DataFrame,
    *,
    start: dt.date,
    last_day: dt.date | None = None,
    metric: str = "value",
    unit: Unit = "ratio",
    scale: Scale = "level",
    weeks_before: int = MOST_WEEKS_BEFORE,
    confidence: float = CONFIDENCE,
) -> CounterfactualResult:
    """Compare how a treated group moved with how groups moved that could not be reached.

    Args:
        treated: a daily series: period_start; value, or numerator and denominator; status if some days are not known.
        controls: the same with group; they are pooled by their numerators and denominators.
        start: the first day on which something was done; whole weeks are counted from it on both sides.
        last_day: later days are left out.
        metric, unit: how the result is called.
        scale: "log" for counts and amounts: proportions would have stayed alike, not differences.
        weeks_before: at most so many are used.

    Returns:
        A `CounterfactualResult`. The interval holds under dependence between weeks (see `estimate_effect`) and is
        widened to what the same comparison shows at earlier dates, where nothing was done. Its `sound` is False where
        the groups did not move alike before (trend of the weekly gap, p < .05).

    Raises:
        InputError: a column is missing, or a day comes twice.

    >>> days = pd.date_range("2026-01-01", periods=84)
    >>> wave = np.sin(np.arange(84) / 9)
    >>> control = pd.DataFrame({"period_start": days, "value": wave})
    >>> treated = pd.DataFrame({"period_start": days, "value": wave + 5 + 2.0 * (np.arange(84) >= 56)})
    >>> result = difference_in_differences(treated, control, start=dt.date(2026, 2, 26))
    >>> round(result.effect, 6), result.sound, result.weeks_before, result.weeks_after
    (2.0, True, 8, 4)
    """
    own = collect_weeks(treated, start=start, last_day=last_day, pooled=True)
    other = collect_weeks(controls, start=start, last_day=last_day, pooled=True)
    if own.values.empty or other.values.empty:
        return refuse(metric, unit, METHOD, scale, start, 0, 0, say("One of the groups has no days that are known."))
    both = to_scale(pd.concat({"own": own.values["pooled"], "other": other.values["pooled"]}, axis=1), scale)
    near = Weeks(both, both, both, start).drop_unknown().values
    near = near[near.index >= -weeks_before]
    before, after = int((near.index < 0).sum()), int((near.index >= 0).sum())
    if before < FEWEST_WEEKS_BEFORE or after < 1:
        note = say(
            "Not enough data: {before} whole weeks before and {after} after are known of both groups; it takes "
            "{minimum} before and one after.",
            before=before,
            after=after,
            minimum=FEWEST_WEEKS_BEFORE,
        )
        return refuse(metric, unit, METHOD, scale, start, before, after, note)
    gaps = (near["own"] - near["other"]).to_numpy()
    found = estimate_effect(lambda fitted: gaps, before, after, confidence=confidence)
    effect = float(gaps[before:].mean() - gaps[:before].mean())
    low, high, p = _centre(effect, *found[1:])
    whole = (both["own"] - both["other"]).loc[lambda s: s.index < 0].to_numpy()
    placebos = _try_earlier(whole, before, after)
    if low is not None and high is not None:
        low, high, p = widen_by_placebos(low, high, p, effect, placebos)
    trend, trend_p = _find_trend(gaps[:before])
    notes = _list_notes(trend_p, low)
    values = own.values["pooled"].reindex(near.index).to_numpy()
    actual = float(values[before:].mean())
    expected, in_units, low, high = to_units(scale, actual, effect, low, high)
    drift = None if trend is None else to_units(scale, actual, trend * (before + after) / 2, None, None)[1]
    level = gaps[:before].mean()
    without = near["other"].to_numpy() + level
    without = without if scale == "level" else np.exp(without)
    path = pd.DataFrame({"start_at": pd.to_datetime(Weeks(near, near, near, start).days()), "actual": values})
    path = path.assign(expected=without, effect=values - without, after=near.index.to_numpy() >= 0)
    dates = [pd.Timestamp(start) - pd.Timedelta(weeks=after * (i + 1)) for i in range(len(placebos))]
    usual = math.sqrt(float(np.mean(np.square(placebos)))) if len(placebos) >= FEWEST_BLOCKS else None
    return CounterfactualResult(
        metric=metric, unit=unit, method=METHOD, scale=scale, start=start, weeks_before=before, weeks_after=after,
        actual=actual, expected=expected, effect=in_units, low=low, high=high, p_value=p,
        relative=in_units / expected if expected else None, sound=low is not None and not _unlike(trend_p),
        before_p_value=trend_p, before_drift=drift, fit_rate=None,
        usual_error=None if usual is None else abs(to_units(scale, actual, usual, None, None)[1]),
        placebo_p_value=None, path=path, weights=_share_out(controls),
        placebos=_list_placebos(placebos, dates, scale, actual), notes=notes, confidence=confidence,
    )  # fmt: skip


def _centre(
    effect: float, low: float | None, high: float | None, p: float | None
) -> tuple[float | None, float | None, float | None]:
    """The interval around the effect of all weeks: blocks leave out the first few of a number that does not divide."""
    if low is None or high is None:
        return None, None, None
    half = (high - low) / 2
    return effect - half, effect + half, p


def _try_earlier(gaps: np.ndarray, before: int, after: int) -> list[float]:
    """The same difference at earlier dates, `after` weeks apart, where there are four weeks at least before them."""
    found = []
    for end in range(len(gaps), 0, -after):
        first = end - after
        if first < FEWEST_WEEKS_BEFORE:
            break
        past, now = gaps[max(0, first - before) : first], gaps[first:end]
        past = past[np.isfinite(past)]
        if len(past) >= FEWEST_WEEKS_BEFORE and np.isfinite(now).all():
            found.append(float(now.mean() - past.mean()))
    return found


def _find_trend(gaps: np.ndarray) -> tuple[float | None, float | None]:
    """Slope of the weekly gap before, and its p-value; neighbouring weeks may be alike (first-order correlation)."""
    number = len(gaps)
    if number < FEWEST_WEEKS_BEFORE:
        return None, None
    from scipy.special import stdtr

    time = np.arange(number) - (number - 1) / 2
    slope = float(time @ gaps / (time @ time))
    left = gaps - gaps.mean() - slope * time
    spread = float(left @ left)
    if spread < 1e-20 * max(1.0, float(gaps @ gaps)):
        return slope, 0.0 if abs(slope) > 1e-9 * max(1.0, float(np.abs(gaps).max())) else 1.0
    alike = float(np.clip(left[1:] @ left[:-1] / spread, 0, 0.9))
    inflation = (1 + alike) / (1 - alike)
    error = math.sqrt(spread / (number - 2) / float(time @ time) * inflation)
    return slope, 2 * float(stdtr(number - 2, -abs(slope) / error))


def _unlike(p: float | None) -> bool:
    return p is not None and p < NOT_ALIKE


def _list_notes(trend_p: float | None, low: float | None) -> tuple[str, ...]:
    notes = []
    if _unlike(trend_p):
        assert trend_p is not None
        chance = say("below 0.1%") if trend_p < 0.001 else f"{trend_p:.1%}"
        notes.append(
            say(
                "The groups did not move alike before the start (chance of that by itself {chance}), so the effect is "
                "not relied on.",
                chance=chance,
            )
        )
    if low is None:
        notes.append(say("There are too few weeks to say how sure the effect is."))
    return tuple(notes)


def _share_out(controls: pd.DataFrame) -> pd.DataFrame:
    """Each control's share of the pooled denominators."""
    groups = controls["group"].astype(str) if "group" in controls.columns else pd.Series("", index=controls.index)
    sizes = controls["denominator"] if "denominator" in controls.columns else pd.Series(1.0, index=controls.index)
    shares = sizes.astype(float).groupby(groups).sum()
    total = float(shares.sum())
    rows = {"group": shares.index.to_numpy(), "weight_rate": (shares / total if total else shares).to_numpy()}
    return pd.DataFrame(rows, columns=list(WEIGHT_COLUMNS))


def _list_placebos(
    effects: Sequence[float], dates: Sequence[pd.Timestamp], scale: Scale, actual: float
) -> pd.DataFrame:
    in_units = [to_units(scale, actual, e, None, None)[1] for e in effects]
    rows = {"kind": "time", "group": "", "start_at": list(dates), "effect": in_units, "error_ratio": np.nan}
    return pd.DataFrame(rows, columns=list(PLACEBO_COLUMNS))

"""Synthetic control: a mix of groups that were not reached, which moved before as the treated one did."""

from __future__ import annotations

import datetime as dt
import math
from functools import partial

import numpy as np
import pandas as pd

from opslib.language import say
from opslib.measure.counterfactual.interval import FEWEST_BLOCKS, estimate_effect
from opslib.measure.counterfactual.result import (
    PLACEBO_COLUMNS,
    WEIGHT_COLUMNS,
    CounterfactualResult,
    Method,
    refuse,
    to_units,
)
from opslib.measure.counterfactual.weeks import Scale, Weeks, collect_weeks, to_scale
from opslib.measure.counterfactual.weights import fit_weights
from opslib.measure.estimate import CONFIDENCE, Unit

METHOD: Method = "synthetic control"
FEWEST_DONORS = 3
FEWEST_WEEKS_BEFORE = 8
MOST_WEEKS_BEFORE = 104
# Chernozhukov, Wuthrich and Zhu's own choice; each holds out so much of the time that weights are fitted on.
FITTED_BLOCKS = 3
MOST_BLOCKS = 5
LONG_BLOCK_WEEKS = 6
# The gap before may have so much of the treated group's own variance: a mix that follows nothing has about as much.
BAD_FIT_RATE = -1.0


def synthetic_control(
    treated: pd.DataFrame,
    donors: pd.DataFrame,
    *,
    start: dt.date,
    last_day: dt.date | None = None,
    metric: str = "value",
    unit: Unit = "ratio",
    scale: Scale = "level",
    intercept: bool = False,
    weeks_before: int = MOST_WEEKS_BEFORE,
    confidence: float = CONFIDENCE,
) -> CounterfactualResult:
    """Compare a treated group with the mix of other groups that was nearest to it before.

    Args:
        treated: a daily series: period_start; value, or numerator and denominator; status if some days are not known.
        donors: the same with group; a donor that is not known in every week used is left out and named.
        start: the first day on which something was done; whole weeks are counted from it on both sides.
        last_day: later days are left out.
        metric, unit: how the result is called.
        scale: "log" for counts and amounts of groups of unlike size.
        intercept: levels may differ by a constant; taken for granted with scale "log".
        weeks_before: at most so many are used.

    Returns:
        A `CounterfactualResult`: weights (0 or more, adding up to 1) fitted on the weeks before; effect with interval
        by holding out blocks of the time before (see `estimate_effect`); placebos in space (each donor as if treated,
        with the others as donors; rank of the ratio of root mean square gaps) and in time (weights fitted on what went
        before an earlier date). No effect where there are fewer than three donors or eight weeks before, or the mix was
        far from the treated group before.

    Raises:
        InputError: a column is missing, or a day of a group comes twice.

    Source: Abadie, Diamond and Hainmueller (2010), JASA 105, 493-505; with an intercept Ferman and Pinto (2021).

    >>> days = pd.date_range("2026-01-01", periods=112)
    >>> t = np.arange(112)
    >>> shapes = {"a": np.sin(t / 5), "b": t / 40, "c": np.cos(t / 11)}
    >>> donors = pd.concat([pd.DataFrame({"period_start": days, "group": g, "value": v}) for g, v in shapes.items()])
    >>> mix = 0.5 * shapes["a"] + 0.5 * shapes["b"] + 1.0 * (t >= 84)
    >>> treated = pd.DataFrame({"period_start": days, "value": mix})
    >>> result = synthetic_control(treated, donors, start=dt.date(2026, 3, 26))
    >>> round(result.effect, 6), result.weights["weight_rate"].round(6).tolist(), result.placebo_p_value
    (1.0, [0.5, 0.5, 0.0], 0.25)
    """
    own = collect_weeks(treated, start=start, last_day=last_day, pooled=True)
    other = collect_weeks(donors, start=start, last_day=last_day)
    whole = to_scale(pd.concat([own.values.rename(columns={"pooled": ""}), other.values], axis=1), scale)
    if own.values.empty or other.values.empty:
        return refuse(metric, unit, METHOD, scale, start, 0, 0, say("One of the groups has no days that are known."))
    kept, gone = _keep_whole(whole, weeks_before, start)
    before, after = int((kept.index < 0).sum()), int((kept.index >= 0).sum())
    names = [str(c) for c in kept.columns[1:]]
    give_up = partial(refuse, metric, unit, METHOD, scale, start, before, after)
    if len(names) < FEWEST_DONORS:
        note = say(
            "{count} groups to compare with are known in every week: it takes {minimum} at least.",
            count=len(names),
            minimum=FEWEST_DONORS,
        )
        return give_up(note)
    if before < FEWEST_WEEKS_BEFORE or after < 1:
        note = say(
            "Not enough data: {before} whole weeks before and {after} after are known; it takes {minimum} before and "
            "one after.",
            before=before,
            after=after,
            minimum=FEWEST_WEEKS_BEFORE,
        )
        return give_up(note)
    intercept = intercept or scale == "log"
    y, x = kept.iloc[:, 0].to_numpy(), kept.iloc[:, 1:].to_numpy()
    gaps, weights = _fit(y, x, np.arange(before), intercept)
    variance, error = float(y[:before].var()), float((gaps[:before] ** 2).mean())
    fit = 1 - error / variance if variance > 0 else float(error < 1e-20)
    table = pd.DataFrame({"group": names, "weight_rate": weights}, columns=list(WEIGHT_COLUMNS))
    if fit < BAD_FIT_RATE:
        note = say("No mix of the other groups comes near this one before the start, so nothing is concluded.")
        return give_up(note, fit_rate=fit, weights=table)
    blocks = min(MOST_BLOCKS, max(FITTED_BLOCKS, before // LONG_BLOCK_WEEKS))
    effect, low, high, p = estimate_effect(
        lambda fitted: _fit(y, x, fitted, intercept)[0], before, after, blocks=blocks, confidence=confidence
    )
    space = _try_donors(x, before, intercept)
    ratio = _compare_errors(gaps, before)
    rank = (1 + sum(r >= ratio for _, r in space)) / (1 + len(space))
    time = _try_earlier(y, x, before, after, intercept)
    usual = math.sqrt(float(np.mean(np.square(time)))) if len(time) >= FEWEST_BLOCKS else None
    values = own.values["pooled"].reindex(kept.index).to_numpy()
    actual = float(values[before:].mean())
    expected, effect, low, high = to_units(scale, actual, effect, low, high)
    without = y - gaps if scale == "level" else np.exp(y - gaps)
    path = pd.DataFrame({"start_at": pd.to_datetime(Weeks(kept, kept, kept, start).days()), "actual": values})
    path = path.assign(expected=without, effect=values - without, after=kept.index.to_numpy() >= 0)
    rows: list[tuple[str, str, dt.date, float, float]] = []
    for donor, (gap, its_ratio) in zip(names, space, strict=True):
        rows.append(("space", donor, start, to_units(scale, actual, gap, None, None)[1], its_ratio))
    for i, gap in enumerate(time, start=1):
        earlier = start - dt.timedelta(weeks=after * i)
        rows.append(("time", "", earlier, to_units(scale, actual, gap, None, None)[1], math.nan))
    placebos = pd.DataFrame(rows, columns=list(PLACEBO_COLUMNS)).astype({"start_at": "datetime64[ns]"})
    return CounterfactualResult(
        metric=metric, unit=unit, method=METHOD, scale=scale, start=start, weeks_before=before, weeks_after=after,
        actual=actual, expected=expected, effect=effect, low=low, high=high, p_value=p,
        relative=effect / expected if expected else None, sound=low is not None, before_p_value=None, before_drift=None,
        fit_rate=fit, usual_error=None if usual is None else abs(to_units(scale, actual, usual, None, None)[1]),
        placebo_p_value=rank, path=path, weights=table, placebos=placebos, notes=_list_notes(gone, len(names)),
        confidence=confidence,
    )  # fmt: skip


def _keep_whole(values: pd.DataFrame, weeks_before: int, start: dt.date) -> tuple[pd.DataFrame, list[str]]:
    """The treated group's unbroken weeks, and the donors that are known in all of them."""
    known = values.loc[values.index >= -weeks_before]
    first = known.iloc[:, [0]]
    near = known.loc[Weeks(first, first, first, start).drop_unknown().values.index]
    # A donor that began late would cost everybody the weeks before: with it go its weeks, or it goes.
    partly = near.columns[near.isna().any()]
    return near.drop(columns=partly), [str(c) for c in partly]


def _fit(y: np.ndarray, x: np.ndarray, fitted: np.ndarray, intercept: bool) -> tuple[np.ndarray, np.ndarray]:
    """Gap of all weeks by the weights fitted on some, and the weights."""
    weights = fit_weights(x[fitted], y[fitted], intercept=intercept)
    gaps = y - x @ weights
    return (gaps - gaps[fitted].mean() if intercept else gaps), weights


def _compare_errors(gaps: np.ndarray, before: int) -> float:
    """Root mean square gap after / before."""
    past, now = (math.sqrt(float((g**2).mean())) for g in (gaps[:before], gaps[before:]))
    return now / past if past > 0 else math.inf if now > 0 else 1.0


def _try_donors(x: np.ndarray, before: int, intercept: bool) -> list[tuple[float, float]]:
    """Each donor as if treated, with the others as donors: mean gap after, and ratio of errors."""
    found = []
    for i in range(x.shape[1]):
        gaps, _ = _fit(x[:, i], np.delete(x, i, axis=1), np.arange(before), intercept)
        found.append((float(gaps[before:].mean()), _compare_errors(gaps, before)))
    return found


def _try_earlier(y: np.ndarray, x: np.ndarray, before: int, after: int, intercept: bool) -> list[float]:
    """The same at earlier dates, `after` weeks apart: how wrong it was where nothing was done."""
    found = []
    for end in range(before, 0, -after):
        first = end - after
        if first < FEWEST_WEEKS_BEFORE:
            break
        gaps, _ = _fit(y[:end], x[:end], np.arange(first), intercept)
        found.append(float(gaps[first:].mean()))
    return found


def _list_notes(gone: list[str], donors: int) -> tuple[str, ...]:
    notes = []
    if gone:
        named = say(", ").join(gone[:5])
        named = say("{names} and others", names=named) if len(gone) > 5 else named
        notes.append(say("Left out, not known in every week: {names}.", names=named))
    if donors < 19:
        notes.append(
            say(
                "With {count} groups to compare with, the placebo test among them cannot show less than {least:.0%}.",
                count=donors,
                least=1 / (donors + 1),
            )
        )
    return tuple(notes)

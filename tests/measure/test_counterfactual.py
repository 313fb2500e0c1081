"""Counterfactuals: weeks by hand, weights against another solver, California's cigarettes, coverage in simulations."""

from __future__ import annotations

import datetime as dt
import json
import math
from functools import partial

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opslib.errors import InputError
from opslib.measure.counterfactual.before_after import compare_series
from opslib.measure.counterfactual.differences import difference_in_differences
from opslib.measure.counterfactual.interval import estimate_effect
from opslib.measure.counterfactual.synthetic import synthetic_control
from opslib.measure.counterfactual.weeks import collect_weeks
from opslib.measure.counterfactual.weights import fit_weights

START = dt.date(2026, 1, 5)


def days(before: int, after: int) -> pd.DatetimeIndex:
    return pd.date_range(pd.Timestamp(START) - pd.Timedelta(weeks=before), periods=7 * (before + after))


def series(values: np.ndarray, index: pd.DatetimeIndex, group: str | None = None) -> pd.DataFrame:
    frame = pd.DataFrame({"period_start": index, "value": values})
    return frame if group is None else frame.assign(group=group)


def wander(rng: np.random.Generator, length: int, alike: float) -> np.ndarray:
    """Noise of variance 1 whose neighbours are alike."""
    found = np.empty(length)
    last = rng.normal()
    for i in range(length):
        last = alike * last + math.sqrt(1 - alike**2) * rng.normal()
        found[i] = last
    return found


def test_weeks_by_hand() -> None:
    index = days(1, 2)[:-1]
    frame = pd.DataFrame({"period_start": index, "numerator": 1.0, "denominator": 2.0, "status": "known"})
    frame.loc[frame.index[7:10], "status"] = "no data"
    weeks = collect_weeks(frame, start=START)
    # Four days of the week after are known, and the last one has six.
    assert weeks.values[""].isna().tolist() == [False, True, False]
    assert weeks.top[""].tolist()[2] == 6.0
    over = collect_weeks(frame, start=START, last_day=index[-1].date())
    assert over.values.index.max() == 0
    with pytest.raises(InputError, match="several"):
        collect_weeks(pd.concat([frame, frame]), start=START)
    with pytest.raises(InputError, match="column 'value'"):
        collect_weeks(frame[["period_start"]], start=START)


@settings(max_examples=25)
@given(seed=st.integers(0, 10**6), donors=st.integers(2, 7), intercept=st.booleans())
def test_weights_are_those_of_another_solver(seed: int, donors: int, intercept: bool) -> None:
    from scipy.optimize import minimize

    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(15, donors)), rng.normal(size=15) + rng.normal()
    mine = fit_weights(x, y, intercept=intercept)
    if intercept:
        x, y = x - x.mean(axis=0), y - y.mean()

    def lose(w: np.ndarray) -> float:
        return float(((y - x @ w) ** 2).sum())

    theirs = minimize(
        lose, np.full(donors, 1 / donors), method="SLSQP", bounds=[(0, 1)] * donors,
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1}, options={"ftol": 1e-12, "maxiter": 500},
    )  # fmt: skip
    assert mine.min() >= 0
    assert mine.sum() == pytest.approx(1)
    assert lose(mine) <= theirs.fun + 1e-7
    assert mine == pytest.approx(theirs.x, abs=2e-3)


@settings(max_examples=20)
@given(seed=st.integers(0, 10**6))
def test_an_exact_mix_is_found(seed: int) -> None:
    rng = np.random.default_rng(seed)
    shares = rng.dirichlet(np.ones(5))
    x = rng.normal(size=(30, 5))
    assert fit_weights(x, x @ shares) == pytest.approx(shares, abs=1e-8)


# Packs of cigarettes sold a head, 1970 to 2000 (Orzechowski and Walker, Tax Burden on Tobacco), of California and of
# the states with a weight in its synthetic control; all others have none, so that leaving them out changes nothing.
SMOKING = {
    "California": (
        "123 121 123.5 124.4 126.7 127.1 128 126.4 126.1 121.9 120.2 118.6 115.4 110.8 104.8 102.8 99.7 97.5"
        " 90.1 82.4 77.8 68.7 67.5 63.4 58.6 56.4 54.5 53.8 52.3 47.2 41.6"
    ),
    "Colorado": (
        "124.8 125.5 134.3 137.9 132.8 131 134.2 132 129.2 131.5 131 133.8 130.5 125.3 119.7 112.4 109.9"
        " 102.4 94.6 88.8 87.4 90.2 88.3 88.6 89.1 85.4 83.1 81.3 81.2 79.6 73"
    ),
    "Connecticut": (
        "120 117.6 110.8 109.3 112.4 110.2 113.4 117.3 117.5 117.4 118 116.4 114.7 114.1 112.5 111 108.5 109"
        " 104.8 100.6 91.5 86.7 83.5 79.1 76.6 79.3 76 75.9 75.5 73.4 71.4"
    ),
    "Montana": (
        "111.2 115.6 122.2 119.9 121.9 123.7 124.9 127 127.2 120.3 122 121.1 122.4 113.7 110.1 103.6 97.8"
        " 91.7 87.1 86.2 84.7 82.9 86.6 86 88.2 90.5 87.3 88.9 89.1 82.6 75.5"
    ),
    "Nevada": (
        "189.5 190.5 198.6 201.5 204.7 205.2 201.4 190.8 187 183.3 177.7 171.9 165.1 159.2 136.6 146.7 142.6"
        " 147.7 141.9 137.9 137.3 115.5 110 108.1 105.2 100.9 99 95.6 102.4 103.9 93.2"
    ),
    "New Hampshire": (
        "265.7 278 296.2 279 269.8 269.1 290.5 278.8 269.6 254.6 247.8 245.4 239.8 232.9 215.1 201.1 195.9"
        " 195.1 180.4 172.9 152.4 144.8 143.7 148.9 153.8 158.5 158 174.4 173.8 171.7 147.3"
    ),
    "Utah": (
        "65.5 67.7 71.3 72.7 75.6 75.8 77.9 78 79.6 79.1 74.8 77.6 73.6 69 66.3 66.5 64.4 67.7 55 57 53.4"
        " 53.5 55 56.2 55.8 52 54 57 42.3 43.9 40.7"
    ),
}


def test_california_as_published() -> None:
    """-19.6 packs by the synthetic control: Arkhangelsky et al. (2021), AER 111, table 1 (outcomes as predictors).

    Weights as their package prints them: Utah .396, Montana .232, Nevada .204, Connecticut .109, New Hampshire .045,
    Colorado .013; its iterations stop a little early, so the exact solution is -19.51.
    """
    packs = {state: np.array([float(x) for x in text.split()]) for state, text in SMOKING.items()}
    donors = np.column_stack([packs[s] for s in list(SMOKING)[1:]])
    before = slice(0, 19)
    weights = fit_weights(donors[before], packs["California"][before])
    assert weights.round(3).tolist() == pytest.approx([0.013, 0.109, 0.232, 0.204, 0.045, 0.396], abs=0.003)
    gap = (packs["California"] - donors @ weights)[19:]
    assert gap.mean() == pytest.approx(-19.6, abs=0.1)


def test_an_exact_mix_gives_the_exact_effect() -> None:
    rng = np.random.default_rng(4)
    index = days(20, 4)
    shapes = [np.cumsum(rng.normal(size=len(index))) for _ in range(4)]
    donors = pd.concat([series(v, index, f"d{i}") for i, v in enumerate(shapes)])
    after = np.arange(len(index)) >= 140
    treated = series(0.3 * shapes[0] + 0.7 * shapes[2] + 2.5 * after, index)
    result = synthetic_control(treated, donors, start=START, metric="d7_rate")
    assert result.effect == pytest.approx(2.5)
    assert result.low == pytest.approx(2.5)
    assert result.weights["weight_rate"].tolist() == pytest.approx([0.3, 0, 0.7, 0], abs=1e-8)
    assert result.placebo_p_value == 0.2
    assert (result.placebos["kind"] == "space").sum() == 4
    json.dumps(result.findings(), allow_nan=False)


def test_what_cannot_be_said_is_refused() -> None:
    index = days(20, 4)
    rng = np.random.default_rng(1)
    donors = pd.concat([series(rng.normal(size=len(index)), index, g) for g in "abc"])
    far = synthetic_control(series(100 + rng.normal(size=len(index)), index), donors, start=START)
    assert (far.effect, far.sound) == (None, False)
    assert "near" in far.notes[0]
    few = synthetic_control(donors[donors["group"] == "a"], donors[donors["group"] != "a"], start=START)
    assert "2 groups" in few.notes[0]
    short = synthetic_control(series(rng.normal(size=len(index)), index), donors, start=START - dt.timedelta(days=119))
    assert "Not enough data" in short.notes[0]
    nothing = difference_in_differences(series(np.array([]), index[:0]), donors, start=START)
    assert nothing.effect is None
    late = difference_in_differences(donors[donors["group"] == "a"], donors, start=dt.date(2027, 1, 1))
    assert late.effect is None
    for result in (far, few, short, nothing, late):
        json.dumps(result.findings(), allow_nan=False)


def test_differences_by_hand() -> None:
    """Treated 10 then 16, control 4 then 7: 6 - 3 = 3; in proportions 1.6 against 1.75, that is 16 - 17.5."""
    index = days(8, 4)
    after = np.arange(len(index)) >= 56
    treated, control = series(np.where(after, 16.0, 10.0), index), series(np.where(after, 7.0, 4.0), index)
    level = difference_in_differences(treated, control, start=START)
    assert (level.effect, level.actual, level.expected) == pytest.approx((3, 16, 13))
    log = difference_in_differences(treated, control, start=START, scale="log")
    assert (log.effect, log.expected) == pytest.approx((-1.5, 17.5))
    assert log.relative == pytest.approx(-1.5 / 17.5)


def test_groups_that_drifted_apart_before_are_not_relied_on() -> None:
    index = days(20, 6)
    rng = np.random.default_rng(3)
    drift = np.arange(len(index)) / 30
    result = difference_in_differences(
        series(drift + rng.normal(size=len(index)) / 5, index), series(np.zeros(len(index)), index), start=START
    )
    assert not result.sound
    assert result.before_p_value is not None
    assert result.before_p_value < 0.01
    assert result.before_drift == pytest.approx(13 * 7 / 30, rel=0.1)
    assert "did not move alike" in result.notes[0]


def _ignore(gaps: np.ndarray, fitted: np.ndarray) -> np.ndarray:
    return gaps


@pytest.mark.parametrize(("before", "after", "alike"), [(26, 13, 0.0), (26, 8, 0.3), (12, 4, 0.3)])
def test_the_interval_covers(before: int, after: int, alike: float) -> None:
    """Of 400 effects of 1 in dependent weeks, 90 to 99% lie inside; half of that interval would fail."""
    inside = narrow = 0
    for seed in range(400):
        rng = np.random.default_rng(seed)
        gaps = wander(rng, before + after, alike) + (np.arange(before + after) >= before)
        _, low, high, _ = estimate_effect(partial(_ignore, gaps), before, after)
        assert low is not None
        assert high is not None
        inside += low <= 1 <= high
        narrow += abs((low + high) / 2 - 1) <= (high - low) / 4
    assert 0.9 <= inside / 400 <= 0.99
    assert narrow / 400 < 0.85


def simulate(seed: int, method: str, donors: int = 9, effect: float = 1.0) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Daily series with shared wanderings and weekdays; the donors' mix is the treated one's."""
    rng = np.random.default_rng(seed)
    index = days(26, 8)
    size = len(index)
    one, two = wander(rng, size, 0.98), wander(rng, size, 0.98)
    week = np.tile([0, 0, 0, 0, 0, 1, 1.2], 34)
    after = np.arange(size) >= 7 * 26
    if method == "differences":
        return series(3 + one + week + wander(rng, size, 0.5) + effect * after, index), series(one + week, index)
    loads = rng.uniform(size=(donors + 1, 2))
    if effect:
        loads[0] = loads[1:4].mean(axis=0)
    rows = [3 + a * one + b * two + week + 0.5 * wander(rng, size, 0.5) for a, b in loads]
    others = pd.concat([series(v, index, f"g{i}") for i, v in enumerate(rows[1:])])
    return series(rows[0] + effect * after, index), others


@pytest.mark.parametrize(("method", "runs"), [("differences", 60), ("synthetic", 40)])
def test_planted_effects_lie_inside(method: str, runs: int) -> None:
    check_coverage(method, runs, 0.85)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["differences", "synthetic"])
def test_planted_effects_lie_inside_in_many_runs(method: str) -> None:
    check_coverage(method, 300, 0.9)


def check_coverage(method: str, runs: int, least: float) -> None:
    function = difference_in_differences if method == "differences" else synthetic_control
    found = [function(*simulate(seed, method), start=START) for seed in range(runs)]
    inside = [r.low <= 1 <= r.high for r in found if r.low is not None and r.high is not None]
    assert len(inside) == runs
    assert least <= np.mean(inside) <= 1
    assert np.mean([r.clear for r in found]) > 0.4


@pytest.mark.slow
def test_placebo_p_values_are_uniform_without_effect() -> None:
    found = [synthetic_control(*simulate(seed, "synthetic", effect=0.0), start=START) for seed in range(300)]
    p = np.array([r.placebo_p_value for r in found if r.placebo_p_value is not None])
    assert len(p) > 250
    assert abs(p.mean() - 0.55) < 0.06
    assert (p <= 0.1).mean() < 0.17


def test_before_and_after_by_hand() -> None:
    """Six weeks of 30 in 100 a day, then of 45: .15 more; one of the earlier changes was as large in `swinging`."""
    index = days(30, 6)
    calm = pd.DataFrame({"period_start": index, "numerator": 30, "denominator": 100})
    calm.loc[calm.index >= 210, "numerator"] = 45
    result = compare_series(calm, start=START, name="paying_rate", unit="rate", kind="rate")
    assert result.change.difference == pytest.approx(0.15)
    assert (result.change.now.denominator, result.change.before.denominator) == (4200, 4200)
    assert (result.verdict, result.evidence, result.within_usual) == ("moved", "descriptive", False)
    swinging = calm.copy()
    swinging.loc[(swinging.index >= 42) & (swinging.index < 84), "numerator"] = 45
    assert compare_series(swinging, start=START, unit="rate", kind="rate").verdict == "usual_swing"


def test_before_and_after_allows_for_weeks_that_differ_more_than_by_chance() -> None:
    """A million users a day make chance tiny; the weeks' own scatter stays."""
    moved = wide = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        index = days(8, 8)
        rate = 0.3 + 0.02 * np.repeat(rng.normal(size=16), 7)
        frame = pd.DataFrame({"period_start": index, "numerator": 1e6 * rate, "denominator": 1e6})
        change = compare_series(frame, start=START, unit="rate", kind="rate").change
        moved += change.clear
        assert change.high is not None
        assert change.low is not None
        wide += change.high - change.low > 0.02
    assert moved <= 12
    assert wide == 100


@pytest.mark.parametrize("kind", ["rate", "count", "mean"])
def test_before_and_after_of_little(kind: str) -> None:
    index = days(1, 1)
    frame = pd.DataFrame({"period_start": index, "numerator": 0.0, "denominator": 1.0, "standard_error": math.nan})
    for some in (frame, frame[:3], frame[:0]):
        result = compare_series(some, start=START, kind=kind)  # type: ignore[arg-type]
        json.dumps(result.findings(), allow_nan=False)
        assert result.evidence == "descriptive"


@pytest.mark.shared
def test_online_retail_has_its_christmas(shared: object) -> None:
    """Orders a day rise before Christmas 2011: told, and more than they usually swing."""
    path = f"{shared}/real/online_retail/online_retail.parquet"
    raw = pd.read_parquet(path, columns=["InvoiceNo", "InvoiceDate"]).drop_duplicates("InvoiceNo")
    at = pd.to_datetime(raw["InvoiceDate"])
    counted = at.dt.normalize().value_counts().sort_index()
    whole = counted.reindex(pd.date_range(counted.index[0], counted.index[-1]), fill_value=0)
    frame = pd.DataFrame({"period_start": whole.index, "numerator": whole.to_numpy(), "denominator": 1.0})
    result = compare_series(
        frame,
        start=dt.date(2011, 10, 3),
        last_day=dt.date(2011, 11, 27),
        name="orders_count",
        unit="count",
        kind="count",
    )
    assert result.change.now.numerator == whole["2011-10-03":"2011-11-27"].sum()
    assert result.change.before.numerator == whole["2011-08-08":"2011-10-02"].sum()
    assert result.change.difference is not None
    assert result.change.difference > 0
    assert result.evidence == "descriptive"

"""Uplift and Qini: by hand, scikit-uplift's numbers, against plain Python, intervals by simulation, edges."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import ibis
import ibis.expr.types as ir
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opslib.data.source import open_data
from opslib.errors import InputError
from opslib.measure.estimate import compare_estimates, estimate_rate
from opslib.measure.recall.curve import ArmSums, QiniCurve, trace_curve
from opslib.measure.recall.qini import draw_qini
from opslib.measure.recall.uplift import judge_heterogeneity, measure_uplift
from tests.conftest import ROOT

NO_NUMBERS = {"minimum": 1, "bins": 1000}


def users(score: list[float], treated: list[int], outcome: list[Any], **more: Any) -> ir.Table:
    ids = list(range(len(score)))
    return ibis.memtable(pd.DataFrame({"user_id": ids, "score": score, "treated": treated, "outcome": outcome, **more}))


def plain_curve(score: list[float], treated: list[int], outcome: list[float]) -> tuple[list[int], list[float]]:
    """Radcliffe's curve, user by user; equal scores together."""
    x, y = [0], [0.0]
    for cut in sorted(set(score), reverse=True):
        inside = [(t, o) for s, t, o in zip(score, treated, outcome, strict=True) if s >= cut]
        given_ = [o for t, o in inside if t]
        held = [o for t, o in inside if not t]
        x.append(len(inside))
        y.append(sum(given_) - (sum(held) * len(given_) / len(held) if held else 0.0))
    return x, y


def area(x: Any, y: Any) -> float:
    """Between the curve and the straight line to its end."""
    return float(np.trapezoid(y, x) - y[-1] * x[-1] / 2)


def trace(score: list[float], treated: list[int], outcome: list[float]) -> QiniCurve:
    frame = pd.DataFrame({"s": score, "t": treated, "y": np.asarray(outcome, dtype=float)})
    columns = []
    for arm in (1, 0):
        own = frame.assign(n=(frame["t"] == arm).astype(float))
        own["sum"], own["squares"] = own["y"] * own["n"], own["y"] ** 2 * own["n"]
        grouped = own.groupby("s")[["n", "sum", "squares"]].sum().sort_index(ascending=False)
        columns += [grouped[c].to_numpy() for c in ("n", "sum", "squares")]
    return trace_curve(ArmSums(*columns))


@pytest.mark.parametrize(
    ("treated", "outcome", "score", "published"),
    [
        ([0, 1], [1, 1], [0.1, 0.3], 1.0),
        ([1, 0], [1, 1], [0.1, 0.3], 0.0),
        ([0, 1], [1, 0], [0.1, 0.3], 1.0),
        ([0, 1, 0], [0, 1, 2], [0.1, 0.3, 0.9], -0.5),
        ([1, 0, 1], [0, 1, 2], [0.1, 0.3, 0.9], 0.75),
    ],
)
def test_scikit_uplift_scores(treated: Any, outcome: Any, score: Any, published: float) -> None:
    """scikit-uplift, sklift/tests/test_metrics.py, test_qini_auc_score: area over the best order's (0 without one)."""
    best = [y if t else -y for t, y in zip(treated, outcome, strict=True)]
    ours, most = trace(score, treated, outcome).coefficient, trace(best, treated, outcome).coefficient
    assert (ours / most if abs(most) > 1e-12 else 0.0) == pytest.approx(published)


def test_scikit_uplift_curve() -> None:
    """test_qini_curve there: scores of two users tie; points (2, 3) and (3, 3), and (3, 1) where all tie."""
    curve = trace([1.0, 0.0, 1.0], [0, 1, 1], [0.0, 1.0, 2.0])
    assert (curve.share[-1], curve.incremental[-1]) == (1.0, 3.0)
    assert trace([0.0, 0.0, 0.0], [0, 1, 1], [0.0, 1.0, 0.0]).incremental.tolist() == [0.0, 1.0]


def test_by_hand() -> None:
    """Of 100 users above, 40 of 50 treated and 10 of 50 held out; of 100 below, 10 of 50 in both arms."""
    outcome = [n < 40 for n in range(50)] + [n < 10 for n in range(50)] * 3
    table = users([1.0] * 100 + [0.0] * 100, ([1] * 50 + [0] * 50) * 2, outcome)
    result = measure_uplift(table, score="score")
    assert result.uplift.value == pytest.approx(0.3)
    assert result.curve["incremental_count"].tolist() == pytest.approx([0, 30, 30])
    assert result.curve["random_gain"].tolist() == pytest.approx([0, 0.15, 0.3])
    # Between (0, 0), (.5, .3), (1, .3) and the line: .075 + .15 - .15.
    assert result.qini.value == pytest.approx(0.075)
    assert result.qini.low > 0
    json.dumps(result.findings(), allow_nan=False)


rows = st.lists(
    st.tuples(st.integers(0, 4), st.booleans(), st.integers(-3, 3) | st.none()), min_size=1, max_size=40
).filter(lambda found: {t for _, t, y in found if y is not None} == {True, False})


@given(rows)
@settings(max_examples=20)
def test_curve_against_plain_python(found: Any) -> None:
    known = [(s, int(t), float(y)) for s, t, y in found if y is not None]
    x, y = plain_curve(*map(list, zip(*known, strict=True)))
    score, treated, outcome = map(list, zip(*found, strict=True))
    table = users(score, treated, [None if v is None else float(v) for v in outcome])
    result = measure_uplift(table, score="score", **NO_NUMBERS)
    assert (result.users_count, result.immature_count) == (len(known), len(found) - len(known))
    if result.balance_p_value is not None and result.balance_p_value < 0.001:
        return
    if len({s for s, *_ in known}) < 2:
        assert result.qini.value is None
        return
    assert result.curve["users_count"].tolist() == x
    assert result.curve["incremental_count"].tolist() == pytest.approx(y)
    per = sum(t for _, t, _ in known) * len(known)
    assert result.qini.value == pytest.approx(area(x, y) / per)


def simulate(rng: np.random.Generator, effects: Any, number: int = 4000) -> tuple[Any, Any, Any]:
    group = rng.integers(0, len(effects), number)
    treated = rng.random(number) < 0.7
    outcome = rng.random(number) < 0.2 + np.where(treated, np.asarray(effects)[group], 0)
    return -group.astype(float), treated.astype(int), outcome.astype(float)


@pytest.mark.parametrize(
    ("effects", "truth"),
    [([0.0] * 4, 0.0), ([0.1] * 4, 0.0), ([0.3, 0.1, 0.0, 0.0], 0.03125), ([0, 0, 0, 0.2], -0.01875)],
)
def test_intervals_hold_the_truth(effects: Any, truth: float) -> None:
    """95% in simulated tests, with and without an effect; the truth is the area of the expected curve."""
    gains = np.concatenate([[0], np.cumsum(effects) / 4])
    assert area(np.linspace(0, 1, 5), gains) == pytest.approx(truth)
    rng, hits = np.random.default_rng(11), 0
    for _ in range(200):
        curve = trace(*simulate(rng, effects))
        hits += abs(curve.coefficient - truth) <= 1.959964 * curve.coefficient_error
    assert 0.9 < hits / 200 < 0.985


def test_errors_are_those_of_the_bootstrap() -> None:
    rng = np.random.default_rng(2)
    score, treated, outcome = simulate(rng, [0.3, 0.1, 0.0, 0.0], 2000)
    curve = trace(score, treated, outcome)
    again = []
    for _ in range(400):
        at = rng.integers(0, 2000, 2000)
        again.append(trace(score[at], treated[at], outcome[at]))
    assert curve.coefficient_error == pytest.approx(np.std([c.coefficient for c in again]), rel=0.12)
    assert curve.gain_error[1:] == pytest.approx(np.std([c.gain for c in again], axis=0)[1:], rel=0.15)


def test_an_order_found_in_the_same_users_does_not_flatter_itself() -> None:
    """Thirty segments without a difference: ordered by the other half, the coefficient stays around nothing."""
    rng, hits, found, flattered = np.random.default_rng(8), 0, [], []
    parts = pd.MultiIndex.from_product([[0, 1], [f"s{n:02}" for n in range(30)]], names=["half", "part"])
    for _ in range(150):
        counted = parts.to_frame(index=False)
        for arm in ("holdout", "treated"):
            number = rng.poisson(50, 60)
            yes = rng.binomial(number, 0.2)
            counted = counted.assign(**{f"{arm}_users": number, f"{arm}_sum": yes, f"{arm}_squares": yes})
        curve, qini = draw_qini(counted.astype({"holdout_users": float}), "segment", 3000, "rate", 0.05)
        found.append(qini.value)
        hits += qini.low <= 0 <= qini.high
        assert curve["share_rate"].tolist() == sorted(curve["share_rate"])
        whole = counted.groupby("part").sum(numeric_only=True).reset_index().assign(half=0)
        promise = whole["treated_sum"] / whole["treated_users"] - whole["holdout_sum"] / whole["holdout_users"]
        flattered.append(draw_qini(whole.iloc[np.argsort(-promise)], "score", 3000, "rate", 0.05)[1].value)
    assert abs(np.mean(found)) < 3 * np.std(found) / np.sqrt(150)
    assert hits / 150 > 0.93
    assert np.mean(flattered) > 10 * np.std(flattered) / np.sqrt(150)


def test_uplift_by_segment() -> None:
    """Newcombe's interval a segment; Cochran's Q by hand; q-values over both."""
    counts = {"x": ((60, 100), (30, 100)), "y": ((31, 100), (30, 100))}
    columns: dict[str, list[Any]] = {"treated": [], "outcome": [], "segment": []}
    for name, arms in counts.items():
        for flag, (hits, number) in zip((True, False), arms, strict=True):
            columns["treated"] += [flag] * number
            columns["outcome"] += [n < hits for n in range(number)]
            columns["segment"] += [name] * number
    table = ibis.memtable({"user_id": range(400), **columns})
    result = measure_uplift(table, segment="segment")
    row = result.segments.set_index("segment").loc["x"]
    change = compare_estimates(estimate_rate("r", 60, 100), estimate_rate("r", 30, 100))
    assert [row["uplift"], row["uplift_low"], row["uplift_high"]] == pytest.approx([0.3, change.low, change.high])
    assert result.segments["verdict"].tolist() == ["gain", "unclear"]
    spreads = [(0.24 + 0.21) / 99, (0.31 * 0.69 + 0.21) / 99]
    statistic = 0.29**2 / sum(spreads)
    assert result.heterogeneity_p_value == pytest.approx(judge_heterogeneity([0.3, 0.01], spreads))
    assert result.heterogeneity_p_value == pytest.approx(float(__import__("scipy.stats").stats.chi2.sf(statistic, 1)))
    shuffled = table.order_by(table.user_id.desc())
    assert measure_uplift(shuffled, segment="segment").qini == result.qini


def test_chosen_users_tell_nothing() -> None:
    table = users([float(n % 7) for n in range(400)], [1] * 400, [n % 5 == 0 for n in range(400)])
    result = measure_uplift(table, score="score")
    assert result.uplift.value is None
    assert result.curve.empty
    assert result.plan is not None
    assert "Nobody was held out" in result.notes[0]
    assert "users show a rise of 15%" in result.notes[1]
    both = users([0.0] * 400, [0, 1] * 200, [n % 5 == 0 for n in range(400)])
    told = measure_uplift(both, score="score", randomised=False)
    assert told.uplift.value is None
    assert "chosen users" in told.notes[0]
    json.dumps(told.findings(), allow_nan=False)


def test_unlike_shares_give_no_curve() -> None:
    """The upper half treated nine in ten, the lower half one in ten: no lot drew that."""
    treated = [n % 10 != 0 for n in range(500)] + [n % 10 == 0 for n in range(500)]
    result = measure_uplift(users([1.0] * 500 + [0.0] * 500, treated, [n % 3 == 0 for n in range(1000)]), score="score")
    assert result.curve.empty
    assert any("not drawn by one lot" in note for note in result.notes)


def test_edges_get_a_sentence() -> None:
    few = measure_uplift(users([1.0, 0.0], [1, 0], [True, False]), score="score")
    assert few.uplift.value is None
    assert any("at least 20 users" in note for note in few.notes)
    alike = measure_uplift(users([1.0] * 100, [0, 1] * 50, [n % 3 == 0 for n in range(100)]), score="score")
    assert "all users have the same score" in alike.notes[0]
    nobody = measure_uplift(users([1.0], [1], [None]).mutate(outcome=ibis.null("boolean")), score="score")
    assert (nobody.users_count, nobody.immature_count) == (0, 1)
    assert any("no users with an outcome" in note for note in nobody.notes)
    never = measure_uplift(users([float(n) for n in range(100)], [0, 1] * 50, [False] * 100), score="score")
    assert never.uplift.value == 0
    missing = users(
        [None if n % 2 else float(n) for n in range(200)], [n % 3 for n in range(200)], [n % 7 == 0 for n in range(200)]
    )
    assert measure_uplift(missing, score="score").qini.known
    for result in (few, alike, nobody, never):
        json.dumps(result.findings(), allow_nan=False)


def test_wrong_columns_are_refused() -> None:
    table = users([1.0], [1], [True])
    for options, words in (
        ({}, "by a score or by segments"),
        ({"score": "scroe"}, "Did you mean 'score'"),
        ({"segment": "segment"}, "no column 'segment'"),
        ({"score": "score", "bins": 1}, "two groups"),
        ({"score": "score", "outcome": "text"}, "no column 'text'"),
    ):
        with pytest.raises(InputError, match=words):
            measure_uplift(table, **options)
    with pytest.raises(InputError, match="not numbers or true and false"):
        measure_uplift(table.mutate(outcome=ibis.literal("yes")), score="score")


def test_the_sale_of_the_sample_company() -> None:
    """Who bought more before gains more from the sale: the planted factor on orders is the same for all."""
    data = open_data(ROOT / "playbook.toml")
    shown = data.table("exposures").filter(lambda t: t.experiment == "june_sale_2026")
    orders = data.table("orders").join(shown.select("user_id", shown_at="ts"), "user_id")
    days = ibis.interval(hours=24 * 12)
    sums = orders.group_by("user_id").aggregate(
        past=orders.amount.sum(where=orders.ts < orders.shown_at),
        bought=((orders.ts >= orders.shown_at) & (orders.ts < orders.shown_at + days)).any(),
    )
    joined = shown.left_join(sums, "user_id").drop("user_id_right")
    table = joined.mutate(treated=joined.variant == "treated", outcome=joined.bought.fill_null(False))
    result = measure_uplift(table, score="past")
    assert result.qini.value > 0
    assert result.qini.low < result.qini.value < result.qini.high
    assert result.balance_p_value > 0.01
    assert result.curve["incremental_count"].iloc[-1] == pytest.approx(result.uplift.numerator)


@pytest.mark.shared
def test_cookie_cats(shared: Path) -> None:
    """A published test: 7-day return 18.2000% against 19.0201%; segments that mean nothing order nothing."""
    frame = pd.read_csv(next((shared / "real" / "cookie_cats").glob("*.csv")))
    table = ibis.memtable(
        pd.DataFrame(
            {
                "user_id": frame["userid"],
                "treated": frame["version"] == "gate_40",
                "outcome": frame["retention_7"].astype(bool),
                "segment": (frame["userid"] % 11).astype(str),
            }
        )
    )
    result = measure_uplift(table, segment="segment")
    assert result.uplift.value == pytest.approx(0.182000 - 0.190201, abs=1e-6)
    assert result.uplift.high < 0
    assert result.qini.low < 0 < result.qini.high
    assert result.heterogeneity_p_value > 0.01
    assert result.curve["gain"].iloc[-1] == pytest.approx(result.uplift.value, abs=1e-4)

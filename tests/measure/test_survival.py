"""Survival: by hand, against brute force and lifelines, published numbers, real data and the sample company."""

from __future__ import annotations

import datetime as dt
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

from opslib.data.periods import DAY
from opslib.data.source import open_data
from opslib.errors import InputError
from opslib.measure.churn.definition import define_churn
from opslib.measure.survival.curves import LifeCounts, compare_survival, fit_incidence, fit_survival
from opslib.measure.survival.hazard import compare_nodes, find_peaks
from opslib.measure.survival.lifetimes import find_lifetimes
from opslib.measure.survival.survival import measure_survival
from tests.conftest import ROOT
from tests.measure.streams import START, to_table, user_days
from tests.measure.test_churn import find_spells_slowly, read_cdnow, read_messages

Life = tuple[int, int, bool, str, str]
SCHEMA = {
    "entry_days": "int64",
    "duration_days": "int64",
    "left": "boolean",
    "exit": "string",
    "segment": "string",
}

lives = st.lists(
    st.tuples(
        st.sampled_from([0, 0, 0, 2, 5]),
        st.integers(0, 12),
        st.booleans(),
        st.sampled_from(["paid", "unpaid"]),
        st.sampled_from(["a", "b", "c"]),
    ),
    min_size=1,
    max_size=60,
)


def to_lifetimes(rows: list[Life]) -> ir.Table:
    return ibis.memtable({n: [r[i] for r in rows] for i, n in enumerate(SCHEMA)}, schema=SCHEMA)


def survive_slowly(rows: list[Life]) -> dict[int, tuple[int, float, dict[str, float]]]:
    """Tenure -> at risk, surviving share, incidence by exit: one tenure and one user at a time."""
    known = [r for r in rows if r[1] >= r[0]]
    found, share, incidence = {}, 1.0, {"paid": 0.0, "unpaid": 0.0}
    for tenure in range(max((r[1] for r in known), default=-1) + 1):
        risk = sum(entry <= tenure <= end for entry, end, *_ in known)
        gone = {e: sum(end == tenure and left and how == e for _, end, left, how, _ in known) for e in incidence}
        for name, number in gone.items():
            incidence[name] += share * number / risk if risk else 0
        share *= 1 - sum(gone.values()) / risk if risk else 1
        found[tenure] = (risk, share, dict(incidence))
    return found


@settings(max_examples=8)
@given(lives)
def test_curves_equal_brute_force(rows: list[Life]) -> None:
    result = measure_survival(to_lifetimes(rows), minimum=0)
    expected = survive_slowly(rows)
    curve = result.survival.set_index("tenure")
    assert list(curve.index) == [t for t in expected if t <= max(expected)]
    for tenure, (risk, share, incidence) in expected.items():
        assert curve.loc[tenure, "at_risk_count"] == risk
        assert curve.loc[tenure, "survival_rate"] == pytest.approx(share, abs=1e-12)
        shown = result.incidence[result.incidence["tenure"] == tenure].set_index("exit")["incidence_rate"]
        for name, value in incidence.items():
            assert shown.get(name, 0.0) == pytest.approx(value, abs=1e-12)
        if len(shown):
            assert shown.sum() + curve.loc[tenure, "survival_rate"] == pytest.approx(1, abs=1e-12)
    rates = result.survival["survival_rate"].to_numpy(dtype=float)
    assert (np.diff(rates) <= 1e-12).all()
    assert (result.survival["survival_low"] <= rates + 1e-9).all()
    assert (result.survival["survival_high"] >= rates - 1e-9).all()
    assert result.immature_count == sum(end < entry and not left for entry, end, left, *_ in rows)
    assert result.excluded_count == sum(end < entry and left for entry, end, left, *_ in rows)


@settings(max_examples=3)
@given(lives, st.randoms(use_true_random=False))
def test_counts_weights_order_and_segments(rows: list[Life], random: Any) -> None:
    """Rows that stand for several users, in any order, give the same; segments add up to everybody."""
    one = measure_survival(to_lifetimes(rows), by="segment", minimum=1)
    mixed = rows[:]
    random.shuffle(mixed)
    table = to_lifetimes(mixed)
    counted = table.group_by(*table.columns).aggregate(users_count=lambda t: t.count())
    other = measure_survival(counted, by="segment", minimum=1)
    for name in ("survival", "summary", "hazard", "incidence", "comparison", "pairs", "nodes"):
        pd.testing.assert_frame_equal(getattr(one, name), getattr(other, name))
    everybody = measure_survival(to_lifetimes(rows), minimum=1)
    assert one.summary["users_count"].sum() == everybody.users_count
    for column in ("at_risk_count", "left_count", "censored_count"):
        summed = one.survival.groupby("tenure")[column].sum()
        assert summed.tolist() == everybody.survival[column].tolist()


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@settings(max_examples=6)
@given(lives)
def test_log_rank_equals_lifelines(rows: list[Life]) -> None:
    """Without late entry, which it does not know."""
    from lifelines.statistics import multivariate_logrank_test  # type: ignore[import-untyped]

    frame = pd.DataFrame([(r[1], r[2], r[4]) for r in rows], columns=["duration", "left", "segment"])
    result = measure_survival(to_lifetimes([(0, *r[1:]) for r in rows]), by="segment", minimum=1)
    if result.statistic is not None and result.degrees_of_freedom == frame["segment"].nunique() - 1:
        expected = multivariate_logrank_test(frame["duration"], frame["segment"], frame["left"])
        assert result.statistic == pytest.approx(expected.test_statistic, rel=1e-6, abs=1e-9)
        assert result.p_value == pytest.approx(expected.p_value, rel=1e-6, abs=1e-9)
    assert result.comparison["expected_count"].sum() == pytest.approx(result.comparison["left_count"].sum())


def test_interval_by_hand() -> None:
    """Greenwood, log-log: 10 users, 2 leave at 1, 1 of the 7 then at risk at 3."""
    counts = LifeCounts(np.array([10, 0, 0, 0]), {"left": np.array([0, 2, 0, 1])}, np.array([0, 0, 1, 6]))
    row = fit_survival(counts).iloc[3]
    share = 0.8 * 6 / 7
    variance = 2 / (10 * 8) + 1 / (7 * 6)
    half = 1.959964 * np.sqrt(variance) / abs(np.log(share))
    assert row["survival_rate"] == pytest.approx(share)
    assert row["survival_low"] == pytest.approx(share ** np.exp(half), abs=1e-6)
    assert row["survival_high"] == pytest.approx(share ** np.exp(-half), abs=1e-6)


def test_incidence_and_its_interval_equal_lifelines_without_ties() -> None:
    from lifelines import AalenJohansenFitter

    generator = np.random.default_rng(5)
    times = generator.permutation(80)
    kinds = generator.integers(0, 3, 80)
    counts = LifeCounts(
        np.array([80, *np.zeros(79, dtype=int)]),
        {name: np.bincount(times[kinds == k], minlength=80) for k, name in ((1, "paid"), (2, "unpaid"))},
        np.bincount(times[kinds == 0], minlength=80),
    )
    found = fit_incidence(counts)
    found = found[found["exit"] == "paid"].set_index("tenure")
    # lifelines takes a time of 0 for no time at all.
    fitter = AalenJohansenFitter().fit(times + 1, kinds, event_of_interest=1)
    expected = fitter.cumulative_density_.iloc[:, 0].reindex(found.index + 1).to_numpy()
    np.testing.assert_allclose(found["incidence_rate"], expected, atol=1e-12)
    bounds = fitter.confidence_interval_.reindex(found.index + 1).to_numpy()
    known = found["incidence_low"].notna().to_numpy()
    np.testing.assert_allclose(found[["incidence_low", "incidence_high"]].to_numpy()[known], bounds[known], atol=2e-3)


def test_incidence_with_one_exit_has_greenwoods_variance() -> None:
    counts = LifeCounts(np.array([50, 0, 0]), {"left": np.array([5, 10, 3])}, np.array([2, 4, 26]))
    incidence, survival = fit_incidence(counts), fit_survival(counts)
    np.testing.assert_allclose(incidence["incidence_rate"], 1 - survival["survival_rate"])
    rate = incidence["incidence_rate"].to_numpy()
    z = np.log(np.log(incidence["incidence_low"]) / np.log(rate)) * np.abs(rate * np.log(rate)) / 1.959964
    n, d = counts.at_risk, counts.gone
    np.testing.assert_allclose(z, (1 - rate) * np.sqrt(np.cumsum(d / (n * (n - d)))), rtol=1e-6)


@settings(max_examples=8)
@given(user_days, st.integers(0, 150), st.integers(1, 60), st.sampled_from(["last", "first"]))
def test_lifetimes_equal_brute_force(
    days: set[tuple[int, dt.date]], known: int, inactive_days: int, leaving: Any
) -> None:
    as_of = START + known * DAY
    until = as_of - inactive_days * DAY
    table = to_table(days)
    churn = define_churn(table, as_of=as_of, inactive_days=inactive_days)
    frame = find_lifetimes(table, churn, leaving=leaving).to_pandas()
    found = {int(u): (int(n), bool(left)) for u, n, left in frame[["user_id", "duration_days", "left"]].to_numpy()}
    expected = {}
    for user in {u for u, d in days if d <= as_of}:
        mine = sorted(d for u, d in days if u == user and d <= as_of)
        expected[user] = ((min(mine[-1], until) - mine[0]).days, mine[-1] <= until)
    if leaving == "first":
        spells = find_spells_slowly(days, as_of, inactive_days)
        expected = {u: ((end - start).days, left) for u, start, end, left, returned in spells if not returned}
    assert found == expected


def test_origins_payments_and_late_entry_by_hand() -> None:
    """Signed up ten days before the first activity seen; paid on the fifth day of it; left on the 20th."""
    days = {(1, START + n * DAY) for n in (0, 5, 12, 20)} | {(2, START + n * DAY) for n in (3, 4)} | {(3, START)}
    table = to_table(days)
    churn = define_churn(table, as_of=START + 60 * DAY, inactive_days=14)
    joined = to_table({(1, START - 10 * DAY), (2, START + 3 * DAY)})
    paid = to_table({(1, START + 5 * DAY), (1, START + 12 * DAY), (2, START + 30 * DAY)})
    frame = find_lifetimes(table, churn, origins=joined, payments=paid).to_pandas().sort_values("user_id")
    columns = ["user_id", "entry_days", "duration_days", "left", "exit"]
    assert frame[columns].to_numpy().tolist() == [[1, 10, 30, True, "paid"], [2, 0, 1, True, "unpaid"]]
    each = find_lifetimes(table, churn, origins=paid, origin="each").to_pandas()
    found = sorted(each[["user_id", "duration_days", "left"]].to_numpy().tolist())
    assert found == [[1, 6, False], [1, 8, True], [2, -26, True]]
    result = measure_survival(find_lifetimes(table, churn, origins=paid, origin="each"), minimum=1)
    assert (result.users_count, result.left_count, result.excluded_count) == (2, 1, 1)


def test_nodes_and_peaks() -> None:
    """A hazard that falls smoothly, but for days 6 to 8 (x 2) and day 45 (x 3); nothing else is found."""
    counts = draw_counts({6: 2.0, 7: 2.0, 8: 2.0, 45: 3.0})
    nodes = compare_nodes(counts, {"day 7": (6, 8), "day 30": (28, 32), "far": (500, 501)}).set_index("node")
    assert nodes.loc["day 7", "clear"] and nodes.loc["day 7", "hazard_ratio"] == pytest.approx(2, abs=0.2)
    assert nodes.loc["day 7", "ratio_low"] < 2 < nodes.loc["day 7", "ratio_high"]
    assert not nodes.loc["day 30", "clear"] and nodes.loc["day 30", "p_value"] > 0.05
    assert pd.isna(nodes.loc["far", "p_value"]) and nodes.loc["far", "note"]
    peaks = find_peaks(counts)
    assert sorted(zip(peaks["tenure_first"], peaks["tenure_last"], strict=True)) == [(6, 8), (45, 45)]


def draw_counts(factors: dict[int, float], *, users: int = 40_000, seed: int = 3, length: int = 120) -> LifeCounts:
    generator = np.random.default_rng(seed)
    left, here = np.zeros(length, dtype=np.int64), users
    for tenure in range(length):
        hazard = min(0.03 * (1 + tenure) ** -0.4 * factors.get(tenure, 1.0), 0.9)
        left[tenure] = generator.binomial(here, hazard)
        here -= left[tenure]
    censored = np.zeros(length, dtype=np.int64)
    censored[-1] = here
    entered = np.zeros(length, dtype=np.int64)
    entered[0] = users
    return LifeCounts(entered, {"left": left}, censored)


def test_no_peak_where_there_is_none() -> None:
    """In 100 smooth worlds a peak is claimed in at most as many as the level allows."""
    claims = sum(len(find_peaks(draw_counts({}, users=5_000, seed=s))) > 0 for s in range(100))
    assert claims <= 10  # 5% of 100, plus 2.5 standard errors
    nodes = [compare_nodes(draw_counts({}, users=5_000, seed=s), {"day 30": (28, 32)}) for s in range(100)]
    assert sum(float(n["p_value"].iloc[0]) < 0.05 for n in nodes) <= 10


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([], "Not enough data"),
        ([(0, 5, False, "paid", "a")], "Nobody left"),
        ([(0, 5, True, "paid", "a")], "Everybody left"),
        ([(0, n % 3, True, "paid", "a") for n in range(60)], "Everybody left"),
        ([(0, n % 30, False, "paid", "ab"[n % 2]) for n in range(60)], "Nobody left"),
        ([(0, 0, True, "paid", "a")] * 50, "Everybody left"),
        ([(0, -3, False, "paid", "a")] * 50, "too young"),
        ([(0, 4, n % 2 == 0, "paid", "a" if n else "b") for n in range(60)], "Too few users for a curve: b"),
    ],
)
def test_edges_give_sentences(rows: list[Life], says: str) -> None:
    table = to_lifetimes(rows) if rows else to_lifetimes([(0, 1, True, "", "")]).filter(ibis.literal(False))
    result = measure_survival(table, by="segment")
    assert any(says in note for note in result.notes)
    assert json.dumps(result.findings())
    plain = measure_survival(table)
    assert plain.users_count == len([r for r in rows if r[1] >= 0]) and json.dumps(plain.findings())


def test_options_are_checked() -> None:
    table = to_lifetimes([(0, 1, True, "", "")])
    for options, text in (
        ({"unit": "month"}, "duration_months"),
        ({"unit": "year"}, "no unit"),
        ({"hazard_every": 0}, "hazard_every"),
        ({"nodes": {"x": (5, 2)}}, "Node 'x'"),
        ({"by": "segmnt"}, "Did you mean 'segment'"),
    ):
        with pytest.raises(InputError, match=text):
            measure_survival(table, **options)  # type: ignore[arg-type]
    churn = define_churn(to_table({(1, START)}), as_of=START, inactive_days=3)
    with pytest.raises(InputError, match="leaving is 'never'"):
        find_lifetimes(to_table({(1, START)}), churn, leaving="never")  # type: ignore[arg-type]


def test_too_few_users_have_no_rate() -> None:
    result = measure_survival(to_lifetimes([(0, n, n < 25, "", "") for n in range(50)]))
    assert result.estimate(30).known and result.estimate(30).value == pytest.approx(0.5)
    assert not result.estimate(31).known and "19 users" in result.estimate(31).note
    assert result.summary["median_tenure"].tolist() == [24.0]


@pytest.mark.shared
def test_telco_equals_the_published_numbers(shared: Path) -> None:
    folder = shared / "real" / "telco_churn"
    facts = json.loads((folder / "facts.json").read_text())
    frame = pd.read_csv(folder / "Telco-Customer-Churn.csv")
    frame = frame.assign(duration_months=frame["tenure"], left=frame["Churn"] == "Yes")
    table = ibis.memtable(frame)
    result = measure_survival(table, unit="month")
    for month, share in facts["KM_all"]["S"].items():
        assert result.estimate(int(month)).value == pytest.approx(share, abs=1e-12)
    rows = result.survival.set_index("tenure").loc[[1, 2, 3, 4], ["at_risk_count", "left_count", "survival_rate"]]
    np.testing.assert_allclose(rows.to_numpy(), [r[1:4] for r in facts["KM_all"]["first_rows"]])
    for column, key in (("Contract", "logrank_contract"), ("gender", "logrank_gender")):
        test = measure_survival(table, unit="month", by=column, minimum=1)
        assert test.statistic == pytest.approx(facts[key]["chi2"], rel=1e-10)
        assert test.degrees_of_freedom == facts[key]["df"]
        assert test.p_value == pytest.approx(facts[key]["p"], rel=1e-9)
        shown = test.comparison.set_index("segment")
        for name, expected in facts[key]["expected"].items():
            assert shown.loc[name, "expected_count"] == pytest.approx(expected)
            assert shown.loc[name, "left_count"] == facts[key]["observed"][name]
        if column == "Contract":
            for name, group in facts["KM_by_contract"].items():
                for month, share in group["S"].items():
                    assert test.estimate(int(month), name).value == pytest.approx(share, abs=1e-12)
                median = test.summary.set_index("segment").loc[name, "median_tenure"]
                assert (None if pd.isna(median) else median) == group["median"]
            assert (test.pairs["q_value"] < 1e-50).all()
    # cases/references.json, telco_km_published.
    published = json.loads((shared / "cases" / "references.json").read_text())["telco_km_published"]
    (expected,) = [v for k, v in published.items() if k.startswith("databricks")]
    chosen = (frame["Contract"] == "Month-to-month") & (frame["InternetService"] != "No")
    subset = measure_survival(ibis.memtable(frame[chosen]), unit="month")
    assert (subset.users_count, subset.left_count) == (expected["n"], expected["churned"])
    assert subset.summary["median_tenure"].tolist() == [expected["median_months"]]


@pytest.mark.shared
def test_real_activity(shared: Path) -> None:
    """Counts by plain pandas; nothing that is not there is claimed of orders and messages."""
    for table, as_of, basis in (
        (read_cdnow(shared), dt.date(1998, 6, 30), "orders"),
        (read_messages(shared), dt.date(2004, 10, 25), "inactivity"),
    ):
        churn = define_churn(table, as_of=as_of, basis=basis)  # type: ignore[arg-type]
        result = measure_survival(find_lifetimes(table, churn))
        frame = table.to_pandas()
        frame = frame[frame["amount"] > 0] if basis == "orders" else frame
        day = pd.to_datetime(frame["day"] if "day" in frame else frame["ts"]).dt.normalize()
        ends = day[day <= pd.Timestamp(as_of)].groupby(frame["user_id"]).agg(["min", "max"])
        until = pd.Timestamp(churn.known_until)
        assert result.users_count == int((ends["min"] <= until).sum())
        assert result.left_count == int((ends["max"] <= until).sum())
        assert result.immature_count == int((ends["min"] > until).sum())


def test_sample_company_shows_both_nodes_and_nothing_else() -> None:
    """Planted: more leave on days 6 to 8 of tenure, and on days 28 to 34 after the last payment."""
    data = open_data(ROOT / "playbook.toml")
    churn = define_churn(data.active_days, as_of=data.as_of, inactive_days=30)
    orders = data.table("orders")
    tenure = measure_survival(
        find_lifetimes(
            data.active_days, churn, calendar=data.calendar, payments=orders, attributes=data.attributes, by="channel"
        ),
        by="segment",
    )
    nodes = tenure.nodes.set_index("node")
    assert nodes.loc["day 7", "clear"] and 1.5 < nodes.loc["day 7", "hazard_ratio"] < 2.1
    assert not nodes.loc["day 30", "clear"]
    assert list(zip(tenure.peaks["tenure_first"], tenure.peaks["tenure_last"], strict=True)) == [(6, 8)]
    assert tenure.p_value is not None and tenure.p_value < 1e-20
    assert set(tenure.incidence["exit"]) == {"paid", "unpaid"}
    paid = measure_survival(
        find_lifetimes(data.active_days, churn, calendar=data.calendar, origins=orders, origin="each")
    )
    nodes = paid.nodes.set_index("node")
    assert nodes.loc["day 30", "clear"] and not nodes.loc["day 7", "clear"]
    assert list(zip(paid.peaks["tenure_first"], paid.peaks["tenure_last"], strict=True)) == [(28, 34)]


def test_groups_never_there_together_are_not_compared() -> None:
    early = LifeCounts(np.array([5, 0, 0, 0]), {"left": np.array([0, 5, 0, 0])}, np.zeros(4, dtype=int))
    late = LifeCounts(np.array([0, 0, 5, 0]), {"left": np.array([0, 0, 0, 5])}, np.zeros(4, dtype=int))
    _, statistic, freedom = compare_survival({"early": early, "late": late})
    assert statistic is None and freedom == 0

"""Why a rate moved: by hand, exact splits, planted causes on simulated counts, the sample company, real incidents."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable

import ibis
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opslib.data.periods import DAY, Period, Quarter
from opslib.data.source import Data, open_data
from opslib.errors import InputError
from opslib.explain.change import ChangeExplanation, count_outcomes, explain_change, mark_returned
from opslib.explain.contrasts import NOT_GIVEN
from tests.conftest import ROOT
from tests.explain.simulations import DIMENSIONS, Planted, simulate
from tests.measure.streams import START, to_table, user_days

Cell = tuple[str, str, int, int]


def to_counts(*cells: Cell) -> pd.DataFrame:
    return pd.DataFrame(cells, columns=["channel", "platform", "returned_count", "users_count"])


def explain(before: pd.DataFrame, after: pd.DataFrame, **options: object) -> ChangeExplanation:
    wanted = {"dimensions": ("channel", "platform"), "numerator": "returned_count", "denominator": "users_count"}
    return explain_change(before, after, **wanted | options)  # type: ignore[arg-type]


def explain_simulated(drawn: Planted) -> ChangeExplanation:
    return explain(drawn.before, drawn.after, dimensions=DIMENSIONS)


def cells_of(rate: float, **changed: float) -> pd.DataFrame:
    """Three channels on three platforms, 1,000 users each; `changed` names cells such as ads_ios."""
    names = [(c, p) for c in ("ads", "search", "social") for p in ("android", "ios", "web")]
    return to_counts(*((c, p, round(1000 * changed.get(f"{c}_{p}", rate)), 1000) for c, p in names))


def test_one_cause_of_two_dimensions_by_hand() -> None:
    """One ninth of the users fall from 40% to 22%, nobody else: 2 points of the whole, all of them explained."""
    result = explain(cells_of(0.4), cells_of(0.4, ads_ios=0.22))
    assert result.overall.difference == pytest.approx(-0.02)
    cause = result.causes.iloc[0]
    assert (len(result.causes), cause["segment"], cause["kind"]) == (1, "channel=ads & platform=ios", "rate")
    assert cause["before_numerator_count":"after_count"].tolist() == [400, 1000, 220, 1000]  # type: ignore[misc]
    assert (cause["change_rate"], cause["others_change_rate"]) == pytest.approx((-0.18, 0))
    assert cause["excess_low"] < -0.18 < cause["excess_high"] < 0
    assert cause["effect_rate"] == pytest.approx(-0.02)
    assert cause["share_of_change_rate"] == pytest.approx(1)
    assert result.unexplained_rate == pytest.approx(0, abs=1e-12)


def test_a_whole_channel_is_not_named_by_its_parts() -> None:
    fallen = {f"ads_{p}": 0.25 for p in ("android", "ios", "web")}
    result = explain(cells_of(0.4), cells_of(0.4, **fallen))
    assert result.causes["segment"].tolist() == ["channel=ads"]


def test_two_causes_are_two_findings() -> None:
    result = explain(cells_of(0.4), cells_of(0.4, ads_ios=0.2, social_web=0.3))
    assert result.causes["segment"].tolist() == ["channel=ads & platform=ios", "channel=social & platform=web"]
    assert result.causes["effect_rate"].tolist() == pytest.approx([-0.2 / 9, -0.1 / 9], rel=0.1)
    assert result.unexplained_rate == pytest.approx(0, abs=0.003)


def test_a_second_cause_counts_only_users_outside_the_first() -> None:
    """iOS gains a little elsewhere, and loses much among ads: two findings, whose counts do not overlap."""
    result = explain(cells_of(0.4), cells_of(0.4, ads_ios=0.1, search_ios=0.5, social_ios=0.5))
    assert result.causes["segment"].tolist() == ["channel=ads & platform=ios", "platform=ios"]
    assert result.causes["beyond"].tolist() == ["", "channel=ads & platform=ios"]
    assert result.causes["after_count"].tolist() == [1000, 2000]
    assert result.causes["after_rate"].tolist() == [0.1, 0.5]
    assert result.causes["effect_rate"].sum() == pytest.approx(result.overall.difference, abs=0.005)


def test_a_mix_that_moves_within_a_segment_is_not_its_rate() -> None:
    """Ads' users move from the web to iOS, where everybody returns less: no rate changes, though that of ads falls."""
    ads = {"before": (800, 200), "after": (200, 800)}
    before, after = (
        to_counts(
            *(("ads", p, round(n * r), n) for p, n, r in zip(("web", "ios"), ads[period], (0.5, 0.2), strict=True)),
            *((c, p, round(2000 * r), 2000) for c in ("search", "social") for p, r in (("web", 0.5), ("ios", 0.2))),
        )
        for period in ("before", "after")
    )
    result = explain(before, after)
    row = result.segments.set_index("segment").loc["channel=ads"]
    assert row["after_rate"] < row["before_rate"] - 0.15
    assert row["excess_rate"] == pytest.approx(0, abs=1e-12)
    assert set(result.causes["kind"]) <= {"mix"}


def test_what_everybody_shares_is_no_cause() -> None:
    result = explain(cells_of(0.4), cells_of(0.3))
    assert not result.localised
    assert result.note.startswith("no localised cause")
    assert result.unexplained_rate == pytest.approx(-0.1)
    assert result.findings()[-1]["kind"] == "no_localised_cause"


@pytest.mark.parametrize("after", [lambda r: r * 0.8, lambda r: r - 0.08, lambda r: r / (r + (1 - r) * 1.4)])
def test_a_common_change_on_any_scale_is_no_cause(after: Callable[[float], float]) -> None:
    """A factor, points, or odds: a common change on one scale is uneven on the others, and still common."""
    rates = {"ads": 0.15, "search": 0.5, "social": 0.3}
    before, now = (
        to_counts(*((c, p, round(4000 * f(r)), 4000) for c, r in rates.items() for p in ("ios", "web")))
        for f in (lambda r: r, after)
    )
    assert not explain(before, now).localised


def test_everybody_moved_but_one() -> None:
    fallen = {f"{c}_{p}": 0.3 for c in ("ads", "social") for p in ("android", "ios", "web")}
    result = explain(cells_of(0.4), cells_of(0.4, **fallen))
    assert result.causes[["segment", "kind"]].values.tolist() == [["channel=search", "unmoved"]]
    assert (result.causes["effect_rate"] > 0).all()


def test_mix_is_told_from_rate() -> None:
    """No rate changes; social, at half the others' rate, doubles: only its share is named."""
    before = to_counts(("ads", "web", 800, 2000), ("search", "web", 800, 2000), ("social", "web", 200, 1000))
    after = to_counts(("ads", "web", 800, 2000), ("search", "web", 800, 2000), ("social", "web", 600, 3000))
    result = explain(before, after)
    assert result.causes[["segment", "kind"]].values.tolist() == [["channel=social", "mix"]]
    assert result.causes["effect_rate"].iloc[0] == pytest.approx(result.overall.difference)
    splits = result.splits.set_index("dimension")
    assert splits.loc["channel", ["rate_effect_rate", "mix_effect_rate"]].tolist() == pytest.approx(
        [0, result.overall.difference], abs=1e-12
    )


def test_new_and_vanished_values_are_mix() -> None:
    before = to_counts(("a", "web", 50, 100), ("gone", "web", 90, 100))
    after = to_counts(("a", "web", 50, 100), ("new", "web", 10, 100))
    result = explain(before, after)
    values = result.values.set_index("value")
    assert values.loc[["a", "gone", "new"], "rate_effect_rate"].tolist() == [0, 0, 0]
    assert values.loc[["a", "gone", "new"], "mix_effect_rate"].tolist() == pytest.approx([0, -0.2, -0.2])
    assert set(result.causes["kind"]) == {"mix"}
    assert result.causes["effect_rate"].sum() == pytest.approx(-0.4)


counts = st.lists(
    st.tuples(st.sampled_from("abcd"), st.sampled_from("xyz"), st.integers(0, 400), st.integers(0, 400)).map(
        lambda t: (t[0], t[1], min(t[2], t[3]), t[3])
    ),
    min_size=1,
    max_size=15,
)


@settings(max_examples=20)
@given(counts, counts)
def test_splits_are_exact_and_nothing_fails(before: list[Cell], after: list[Cell]) -> None:
    """Any tables, with new, vanished and empty values: mix + rate is the total change, to the last digits."""
    result = explain(to_counts(*before), to_counts(*after))
    (x0, n0), (x1, n1) = ((sum(c[2] for c in cells), sum(c[3] for c in cells)) for cells in (before, after))
    json.dumps(result.findings(), allow_nan=False)
    assert result.localised or result.note
    if n0 and n1:
        assert result.splits["total_rate"].to_numpy() == pytest.approx([x1 / n1 - x0 / n0] * 2, abs=1e-12)
        by_value = result.values.groupby("dimension", sort=False)[["rate_effect_rate", "mix_effect_rate"]].sum()
        assert by_value.sum(axis=1).to_numpy() == pytest.approx([x1 / n1 - x0 / n0] * 2, abs=1e-12)
    for row in result.causes.to_dict("records"):
        parts = dict(item.split("=") for item in row["segment"].split(" & "))
        for name, cells in (("before", before), ("after", after)):
            own = [
                c for c in cells if {"channel": c[0], "platform": c[1]} | parts == {"channel": c[0], "platform": c[1]}
            ]
            if not row["beyond"]:
                assert row[f"{name}_count"] == sum(c[3] for c in own)
                assert row[f"{name}_numerator_count"] == sum(c[2] for c in own)


@settings(max_examples=15)
@given(st.integers(0, 10**6))
def test_segments_equal_brute_force(seed: int) -> None:
    """One dimension: no strata, so a segment's excess is its change less the change of all others taken by value."""
    drawn = simulate(seed, users=(2_000, 20_000))
    result = explain(drawn.before, drawn.after, dimensions=["channel"])
    for row in result.segments[result.segments["excess_rate"].notna()].to_dict("records"):
        value = row["segment"].removeprefix("channel=")
        weighted, weights = 0.0, 0.0
        for other in set(drawn.before["channel"]) - {value}:
            (x0, n0), (x1, n1) = (
                f[f["channel"] == other][["returned_count", "users_count"]].sum() for f in (drawn.before, drawn.after)
            )
            if n0 and n1:
                weights += n0 * n1 / (n0 + n1)
                weighted += n0 * n1 / (n0 + n1) * (x1 / n1 - x0 / n0)
        own = row["after_rate"] - row["before_rate"]
        assert row["excess_rate"] == pytest.approx(own - weighted / weights)


def test_planted_causes_are_found_first() -> None:
    """Of causes that stand five standard errors out by their true rates, at least nine in ten are the first answer.

    The drawn tables have a common drift and a changing mix beside the cause.
    """
    drawn = [d for d in (simulate(seed) for seed in range(45)) if d.clarity >= 5]
    first = [c["segment"].iloc[0] if len(c) else "" for c in (explain_simulated(d).causes for d in drawn)]
    hits = [name == d.segment for name, d in zip(first, drawn, strict=True)]
    assert len(hits) >= 18
    assert np.mean(hits) >= 0.9


def test_nothing_planted_nothing_said() -> None:
    """In at least 95% of draws without a cause no segment is named, with and without a common drift."""
    silent = [
        not explain_simulated(simulate(seed, planted=False, mix=False, drift=0.3 * (seed % 2))).localised
        for seed in range(30)
    ]
    assert np.mean(silent) >= 0.95


def test_a_changing_mix_moves_no_rates() -> None:
    """The mix of one dimension changes, which is said, and no segment is said to have a rate that moved apart."""
    drawn = [explain_simulated(simulate(seed, planted=False)) for seed in range(20)]
    named = [not set(r.causes["kind"]) <= {"mix"} for r in drawn]
    assert np.mean(named) <= 0.05


@pytest.mark.parametrize(
    ("before", "after", "named"),
    [
        ([(168, 168), (168, 168)], [(168, 168), (84, 168)], ["rate", "b"]),
        ([(0, 168), (0, 168)], [(67, 168), (0, 168)], ["rate", "a"]),
        ([(0, 1000), (0, 1000)], [(3, 1000), (400, 1000)], ["rate", "b"]),
        ([(168, 168), (167, 168)], [(84, 168), (168, 168)], ["rate", "a"]),
        ([(168, 168), (84, 168)], [(168, 168), (168, 168)], ["rate", "b"]),
        ([(168, 168), (100, 168)], [(168, 168), (30, 168)], ["rate", "b"]),
        ([(300, 300)] * 5, [(300, 300)] * 4 + [(180, 300)], ["rate", "e"]),
        ([(168, 168)] * 2, [(168, 168)] * 2, []),
        ([(0, 168), (0, 168)], [(60, 168), (67, 168)], []),
        # Of 30 users none failed in either period, and 5 points more would hardly have shown.
        ([(0, 30), (50, 1000)], [(0, 30), (100, 1000)], []),
    ],
)
def test_rates_of_nothing_and_of_everything(before: list, after: list, named: list[str]) -> None:
    frames = [pd.DataFrame(t, columns=["x", "n"]).assign(name=list("abcde")[: len(t)]) for t in (before, after)]
    causes = explain_change(*frames, dimensions=["name"], numerator="x", denominator="n").causes
    assert causes[["kind", "segment"]].values.tolist() == ([[named[0], f"name={named[1]}"]] if named else [])


def test_few_counts_are_tested_exactly() -> None:
    """3 of 20 against 0 of 20 is chance, whatever the normal approximation says of a segment without failures."""
    before = to_counts(("ads", "web", 0, 20), ("search", "web", 500, 1000))
    after = to_counts(("ads", "web", 3, 20), ("search", "web", 500, 1000))
    row = explain(before, after).segments.set_index("segment").loc["channel=ads"]
    assert row["p_value"] > 0.1


def test_tiny_segments_and_empty_periods_are_answered() -> None:
    some = to_counts(("ads", "web", 5, 100), ("search", "web", 5, 100))
    nothing = to_counts()
    for before, after in ((nothing, some), (some, nothing), (nothing, nothing)):
        result = explain(before, after)
        assert "not enough data" in result.note
        assert result.unexplained_rate is None
        assert result.overall.difference is None
    tiny = to_counts(("ads", "web", 5, 10), ("search", "web", 5, 10))
    assert "no segment and its rest" in explain(tiny, tiny).note
    one_value = to_counts(("ads", "web", 50, 1000))
    assert "no segment and its rest" in explain(one_value, one_value).note


def test_missing_values_are_a_value() -> None:
    before = pd.DataFrame({"channel": [None, "ads"], "platform": "web", "returned_count": 400, "users_count": 1000})
    after = before.assign(returned_count=[200, 400])
    assert explain(before, after).causes["segment"].tolist() == [f"channel={NOT_GIVEN}"]


@pytest.mark.parametrize(
    ("cells", "options", "message"),
    [
        (("ads", "web", -1, 10), {}, "no counts"),
        (("ads", "web", 11, 10), {}, "exceeds users_count"),
        (("ads", "web", 0.5, 10), {}, "not whole"),
        (("ads", "web", None, 10), {}, "missing"),
        (("ads", "web", 1, 10), {"dimensions": ["chanel"]}, "Did you mean 'channel'"),
        (("ads", "web", 1, 10), {"dimensions": []}, "at least one"),
    ],
)
def test_bad_counts_are_refused(cells: Cell, options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        explain(to_counts(cells), to_counts(cells), **options)


def test_three_thousand_channels() -> None:
    rng = np.random.default_rng(1)
    names = [f"c{i}" for i in range(3_000)]
    frames = []
    for rate in (np.full(3_000, 0.3), np.where(np.arange(3_000) == 7, 0.1, 0.3)):
        users = np.where(np.arange(3_000) == 7, 2_000, rng.poisson(30, 3_000))
        frames.append(
            pd.DataFrame({"channel": names, "users_count": users, "returned_count": rng.binomial(users, rate)})
        )
    result = explain(*frames, dimensions=["channel"])
    assert result.causes["segment"].tolist() == ["channel=c7"]


@settings(max_examples=15)
@given(user_days, st.integers(0, 100), st.integers(1, 60), st.integers(0, 120), st.integers(1, 9))
def test_returned_users_equal_brute_force(
    days: set[tuple[int, dt.date]], offset: int, length: int, known: int, day: int
) -> None:
    period, as_of = Period(START + offset * DAY, START + (offset + length) * DAY, "any"), START + known * DAY
    attributes = ibis.memtable({"user_id": [1, 2, 3, 4], "channel": ["ads", "search", None, "ads"]})
    marked = mark_returned(to_table(days), attributes, period, as_of=as_of, day=day)
    got = count_outcomes(marked, dimensions=["channel"], numerator="returned")
    seen = {(u, d) for u, d in days if d <= as_of}
    first = {u: min(d for v, d in seen if v == u) for u, _ in seen}
    expected: dict[str, list[int]] = {}
    for user, start in first.items():
        if period.start <= start < period.end and start + day * DAY <= as_of:
            name = {1: "ads", 2: "search", 4: "ads"}.get(user, NOT_GIVEN)
            cell = expected.setdefault(name, [0, 0])
            cell[0] += (user, start + day * DAY) in seen
            cell[1] += 1
    assert {r[0]: r[1:] for r in got.values.tolist()} == expected


def test_unknown_column_to_count_by_is_refused() -> None:
    with pytest.raises(InputError, match="Did you mean 'channel'"):
        count_outcomes(ibis.memtable({"channel": ["a"], "x": [1]}), dimensions=["chanel"], numerator="x")


@pytest.fixture(scope="module")
def sample() -> Data:
    return open_data(ROOT / "playbook.toml")


@pytest.mark.parametrize("max_dimensions", [2, 3])
@pytest.mark.parametrize(
    "dimensions",
    [
        ["channel", "network", "platform"],
        ["channel", "network", "platform", "city_tier", "age_band", "domain", "app_version_at_signup"],
    ],
)
def test_the_sample_companys_incidents_are_told_apart(sample: Data, dimensions: list[str], max_dimensions: int) -> None:
    """First the planted fall of Android users from paid ads, then the cheap network that social bought; no more."""
    frames = [
        count_outcomes(
            mark_returned(sample.active_days, sample.attributes, Quarter.parse(q).period, as_of=sample.as_of),
            dimensions=dimensions,
            numerator="returned",
        )
        for q in ("2026Q1", "2026Q2")
    ]
    result = explain_change(
        *frames,
        dimensions=dimensions,
        numerator="returned",
        denominator="users_count",
        name="d1_rate",
        max_dimensions=max_dimensions,
    )
    assert result.causes["segment"].tolist() == ["channel=paid_ads & platform=android", "network=feed_c"]
    incidents = json.loads((ROOT / "data" / "samples" / "truth.json").read_text())["incidents"]
    cells = next(i for i in incidents if i["id"] == "d1_drop")["changes"][0]["realised"]["cells"]
    first = result.causes.iloc[0]
    # The truth dates users by sign-up, the measure by their first active day: a few lie beside midnight.
    assert first["after_rate"] == pytest.approx(cells["segment_during"]["rate"], abs=0.01)
    assert first["before_rate"] == pytest.approx(cells["segment_before"]["rate"], abs=0.01)
    change = {k: cells[f"{k}_during"]["rate"] - cells[f"{k}_before"]["rate"] for k in ("segment", "rest")}
    assert first["excess_low"] < change["segment"] - change["rest"] < first["excess_high"]
    assert 0.2 < first["share_of_change_rate"] < 0.45

"""Experiments from exposures and events, against brute force: one user at a time in plain Python."""

from __future__ import annotations

import datetime as dt
from typing import Any

import ibis
import ibis.expr.types as ir
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from opslib.data.periods import DAY, Calendar
from opslib.measure.experiment.comparisons import Rules, compare_variants, estimate_values
from opslib.measure.experiment.experiment import Behavior, Metric, measure_experiment
from opslib.measure.experiment.metrics import select_outcomes
from opslib.measure.experiment.moments import Moments, aggregate_outcomes, arrange_groups, subtract

# New York's clocks change on 9 March 2025.
CALENDAR = Calendar("America/New_York", 0, dt.datetime(2025, 2, 1), dt.datetime(2025, 4, 1))
HOUR = dt.timedelta(hours=1)

moments = st.datetimes(dt.datetime(2025, 3, 4), dt.datetime(2025, 3, 14))
exposures = st.lists(st.tuples(st.integers(1, 12), st.sampled_from("aaabbbc"), moments), min_size=1, max_size=24)
events = st.lists(
    st.tuples(st.integers(1, 13), moments, st.sampled_from(["pay", "view"]), st.integers(0, 9)), min_size=1, max_size=60
)
behaviors = st.builds(
    lambda how, window, clock, names, least: Behavior(
        "events", names, how, "amount" if how in ("sum", "distinct") else "", window, clock, least
    ),
    st.sampled_from(["any", "rows", "days", "sum", "distinct"]),
    st.sampled_from([(0, 1), (0, 3), (1, 2), (2, 5)]),
    st.sampled_from(["moment", "day"]),
    st.sampled_from([(), ("pay",), ("pay", "view")]),
    st.sampled_from([1, 1, 2]),
)

Rows = list[tuple[int, dt.datetime, str, int]]


def to_events(rows: Rows) -> ir.Table:
    names = ("user_id", "ts", "event", "amount")
    columns = {name: [row[i] for row in rows] for i, name in enumerate(names)}
    return ibis.memtable(
        columns, schema={"user_id": "int64", "ts": "timestamp(6)", "event": "string", "amount": "int64"}
    )


def to_exposures(rows: list[tuple[int, str, dt.datetime]]) -> ir.Table:
    return ibis.memtable(
        {
            "user_id": [u for u, _, _ in rows],
            "experiment": ["e"] * len(rows),
            "variant": [v for _, v, _ in rows],
            "ts": [t for _, _, t in rows],
        },
        schema={"user_id": "int64", "experiment": "string", "variant": "string", "ts": "timestamp(6)"},
    )


def count(rows: Rows, behavior: Behavior, start: dt.datetime, before: int) -> float:
    """One user's number."""
    found = []
    for _, at, event, amount in rows:
        if behavior.events and event not in behavior.events:
            continue
        if before:
            inside = start - before * DAY <= at < start
        elif behavior.clock == "day":
            age = (CALENDAR.day_of(at) - CALENDAR.day_of(start)).days
            inside = at >= start and behavior.days[0] <= age < behavior.days[1]
        else:
            inside = start + behavior.days[0] * DAY <= at < start + behavior.days[1] * DAY
        if inside:
            found.append((at, amount))
    match behavior.how:
        case "any":
            return float(len(found) >= behavior.at_least)
        case "rows":
            return len(found)
        case "days":
            return len({CALENDAR.day_of(at) for at, _ in found})
        case "sum":
            return sum(amount for _, amount in found)
    return len({amount for _, amount in found})


def is_over(behavior: Behavior, start: dt.datetime, as_of: dt.date) -> bool:
    if behavior.clock == "day":
        return CALENDAR.day_of(start) + (behavior.days[1] - 1) * DAY <= as_of
    return start + behavior.days[1] * DAY <= CALENDAR.day_start(as_of + DAY)


@settings(max_examples=30)
@given(exposures, events, behaviors, st.none() | behaviors, st.sampled_from([0, 2]), st.integers(6, 20))
def test_counts_equal_brute_force(
    seen: list[tuple[int, str, dt.datetime]],
    rows: Rows,
    of: Behavior,
    per: Behavior | None,
    before: int,
    known: int,
) -> None:
    as_of = dt.date(2025, 3, known)
    end = CALENDAR.day_start(as_of + DAY)
    metric = Metric("x_ratio", of, per=per, before=before)
    shares = {"a": 0.4, "b": 0.4, "c": 0.2}
    if all(at >= end for _, _, at in seen):
        return
    result = measure_experiment(
        to_exposures(seen), {"events": to_events(rows)}, experiment="e", metrics=[metric], as_of=as_of, control="a",
        calendar=CALENDAR, shares=shares, minimum=1,
    )  # fmt: skip
    first: dict[int, dt.datetime] = {}
    sides: dict[int, set[str]] = {}
    for user, variant, at in seen:
        if at < end:
            first[user] = min(at, first.get(user, at))
            sides.setdefault(user, set()).add(variant)
    kept = {user: next(iter(names)) for user, names in sides.items() if len(names) == 1}
    assert result.split.crossed.numerator == len(sides) - len(kept)
    immature = dict.fromkeys(shares, 0)
    for variant in shares:
        members = [user for user, name in kept.items() if name == variant]
        parts = [b for b in (of, per) if b is not None]
        mature = [user for user in members if all(is_over(b, first[user], as_of) for b in parts)]
        immature[variant] = len(members) - len(mature)
        own = {user: [row for row in rows if row[0] == user] for user in mature}
        total = sum(count(own[user], of, first[user], 0) for user in mature)
        below = sum(count(own[user], per, first[user], 0) for user in mature) if per else len(mature)
        estimate = result.values["x_ratio", variant]
        assert (estimate.numerator, estimate.denominator) == pytest.approx((total, below))
    assert result.split.variants.set_index("variant")["users_count"].to_dict() == {
        v: sum(name == v for name in kept.values()) for v in shares
    }
    for row in result.comparisons.itertuples():
        assert row.immature_count == immature["a"] + immature[row.variant]


number = st.integers(-50, 50).map(float)
people = st.lists(
    st.tuples(st.sampled_from("ab"), number, st.integers(1, 5).map(float), number, st.integers(0, 4), st.booleans()),
    min_size=8,
    max_size=60,
)


@settings(max_examples=60)
@given(people, st.booleans(), st.booleans())
def test_inference_equals_brute_force(rows: list[Any], ratio: bool, adjust: bool) -> None:
    """Difference, error and p-value from users' own numbers (scipy, numpy), days added up or not."""
    table = ibis.memtable(
        {
            "variant": [r[0] for r in rows],
            "x": [r[1] for r in rows],
            "d": [r[2] for r in rows],
            "b": [r[3] for r in rows],
            "day": [dt.date(2025, 3, 1) + r[4] * DAY for r in rows],
            "over": [r[5] or i < 8 for i, r in enumerate(rows)],
        }
    )
    metric = Metric("x_ratio", "x", per="d" if ratio else None, before="b" if adjust else "", mature="over")
    outcomes = select_outcomes(table, [metric], variant="variant", day="day")
    groups = arrange_groups(aggregate_outcomes(outcomes), outcomes, ["a", "b"])
    rules = Rules(0.05, 0.8, 2, None, False)
    comparisons, _ = compare_variants(groups, estimate_values(groups, rules), rules)
    row = comparisons.iloc[0]
    used = [r for i, r in enumerate(rows) if r[5] or i < 8]
    side = np.array([r[0] for r in used])
    x, d, b = (np.array([r[i] for r in used]) for i in (1, 2, 3))
    d = d if ratio else np.ones_like(d)
    if min((side == "a").sum(), (side == "b").sum()) < 2:
        assert row["verdict"] == "not_enough_data"
        return
    both = x - x.mean() / d.mean() * d
    slope = np.cov(both / d.mean(), b)[0, 1] / b.var(ddof=1) if adjust and b.var() > 0 else 0.0
    lines = {}
    for s in "ab":
        at = side == s
        # Deviations around the ratio, over the mean denominator, plus the ratio itself.
        own = (x[at] - x[at].mean() / d[at].mean() * d[at]) / d[at].mean() + x[at].mean() / d[at].mean()
        lines[s] = own - slope * (b[at] - b.mean())
    if lines["a"].var() + lines["b"].var() < 1e-9:
        return
    assert row["difference"] == pytest.approx(lines["b"].mean() - lines["a"].mean(), abs=1e-9)
    expected = stats.ttest_ind(lines["b"], lines["a"], equal_var=False)
    assert row["p_value"] == pytest.approx(expected.pvalue, rel=1e-6)
    interval = expected.confidence_interval()
    assert (row["difference_low"], row["difference_high"]) == pytest.approx((interval.low, interval.high), rel=1e-6)


def test_groups_added_up_are_the_whole() -> None:
    """Any cut into days gives the same, with means of a billion."""
    rng = np.random.default_rng(3)
    values = rng.normal(1e9, 5, (500, 2))
    parts = [values[:1], values[1:200], values[200:]]
    found = [(float(len(v)), v.mean(axis=0), (v - v.mean(axis=0)).T @ (v - v.mean(axis=0))) for v in parts]
    found.insert(1, (0.0, np.zeros(2), np.zeros((2, 2))))
    counts, means, scatters = (np.array(x) for x in zip(*found, strict=True))
    stacked = Moments(("v0", "b0"), counts, means, scatters)
    whole, so_far = stacked.sum(), stacked.accumulate()
    assert whole.covariance == pytest.approx(np.cov(values.T), rel=1e-6)
    assert so_far.covariance[2] == pytest.approx(np.cov(values[:200].T), rel=1e-6)
    assert so_far.count.tolist() == [1, 1, 200, 500]
    assert so_far.mean[3] == pytest.approx(values.mean(axis=0), rel=1e-15)


def test_our_difference_is_that_of_tea_tasting() -> None:
    """Outside reference: the sequence's own arithmetic against tea-tasting's, ratio and CUPED at once."""
    from tea_tasting.metrics import RatioOfMeans

    rng = np.random.default_rng(5)
    columns = ("v0", "p0", "b0", "c0")
    samples = []
    for shift in (0.0, 0.3):
        base = rng.gamma(2, 1, (300, 1))
        data = base + rng.gamma(2, 1, (300, 4)) + np.array([shift, 0, 0, 0])
        apart = data - data.mean(axis=0)
        samples.append(Moments(columns, np.float64(300), data.mean(axis=0), apart.T @ apart))
    ours = subtract(*samples)
    metric = RatioOfMeans("v0", "p0", "b0", "c0", use_t=False, equal_var=False)
    theirs = metric.analyze_aggregates(*(s.to_aggregates() for s in samples))
    assert float(ours.difference) == pytest.approx(theirs.effect_size, rel=1e-12)
    assert float(ours.difference / ours.error) == pytest.approx(theirs.statistic, rel=1e-12)
    assert float(ours.control) == pytest.approx(theirs.control, rel=1e-12)


@pytest.mark.parametrize("noise", [0.0, 1e-15, -1e-15])
def test_columns_that_cancel_have_no_scatter_whatever_an_engine_rounds(noise: float) -> None:
    """A ratio of columns in proportion never varies: what is left of its variance depends on the order of adding up."""
    per = np.random.default_rng(7).integers(0, 4, 300).astype(float)
    data = np.stack([112.6 * per, per], axis=1)
    apart = data - data.mean(axis=0)
    scatter = (apart.T @ apart) * (1 + np.array([[noise, 0], [0, 0]]))
    sample = Moments(("v0", "p0"), np.float64(300), data.mean(axis=0), scatter)
    result = subtract(sample, sample)
    assert (float(result.error), float(result.control)) == (0.0, pytest.approx(112.6))


def test_windows_include_their_start_and_leave_out_their_end() -> None:
    """At the moment of exposure counts, a microsecond before does not; seven days later is too late."""
    start, tick = dt.datetime(2025, 3, 4, 12, 0, 0, 1), dt.timedelta(microseconds=1)
    cases = [(start, 1), (start - tick, 0), (start + 7 * DAY - tick, 1), (start + 7 * DAY, 0)]
    rows = [(user, at, "pay", 1) for user, (at, _) in enumerate(cases)]
    seen = [(user, "a", start) for user in range(len(cases))]
    result = measure_experiment(
        to_exposures(seen), {"events": to_events(rows)}, experiment="e", metrics=[Metric("pay_rate", Behavior())],
        as_of=dt.date(2025, 3, 30), control="a", minimum=1,
    )  # fmt: skip
    assert result.values["pay_rate", "a"].numerator == sum(expected for _, expected in cases)


def test_before_is_what_went_before() -> None:
    """CUPED takes nothing from after the exposure: an effect on the way there would be taken out."""
    start = dt.datetime(2025, 3, 4, 12)
    seen = [(user, "ab"[user % 2], start) for user in range(400)]
    rows = [(user, start - HOUR, "pay", user % 5) for user in range(400)]
    rows += [(user, start + HOUR, "pay", user % 5 + user % 2 + (user % 3 == 0)) for user in range(400)]
    metric = Metric("x_amount", Behavior(how="sum", column="amount"), before=7)
    result = measure_experiment(
        to_exposures(seen), {"events": to_events(rows)}, experiment="e", metrics=[metric], control="a",
        as_of=dt.date(2025, 3, 30),
    )  # fmt: skip
    row = result.comparison("x_amount")
    assert row["difference"] == pytest.approx(1, abs=0.05)
    assert row["variance_kept_rate"] < 0.2

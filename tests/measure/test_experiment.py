"""Experiment read-out: by hand, decisions, edges, published numbers, the sample company."""

from __future__ import annotations

import datetime as dt
import json
import math
from pathlib import Path
from typing import Any

import ibis
import ibis.expr.types as ir
import numpy as np
import pytest

from opslib.data.periods import DAY
from opslib.data.source import open_data
from opslib.errors import InputError
from opslib.measure.estimate import estimate_rate
from opslib.measure.experiment.experiment import Behavior, ExperimentResult, Metric, measure_experiment, read_experiment
from tests.conftest import ROOT

AT = dt.datetime(2026, 1, 5, 12)
AS_OF = dt.date(2026, 2, 28)


def to_users(variants: dict[str, dict[str, Any]]) -> ir.Table:
    """One row a user: variant -> column -> values."""
    columns: dict[str, list[Any]] = {}
    for name, values in variants.items():
        for column, given in {"variant": [name] * len(next(iter(values.values()))), **values}.items():
            columns.setdefault(column, []).extend(given)
    return ibis.memtable(columns)


def hits(number: int, users: int) -> list[bool]:
    return [n < number for n in range(users)]


def spread(mean: float, users: int, deviation: float = 10.0, seed: int = 1) -> list[float]:
    """Values of exactly this mean and deviation."""
    values = np.random.default_rng(seed).normal(size=users)
    return list(mean + deviation * (values - values.mean()) / values.std(ddof=1))


def read(variants: dict[str, dict[str, Any]], *metrics: Metric, **options: Any) -> ExperimentResult:
    return read_experiment(to_users(variants), metrics=metrics, control="a", **options)


PAY = Metric("pay_rate", "pay", role="primary")


def test_conversion_by_hand() -> None:
    """20% of 1,000 against 25% of 1,000: pooled z = .05 / sqrt(.225 x .775 x 2 / 1000) = 2.677."""
    result = read({"a": {"pay": hits(200, 1000)}, "b": {"pay": hits(250, 1000)}}, PAY)
    row = result.comparison("pay_rate")
    assert row["difference"] == pytest.approx(0.05)
    assert row["p_value"] == pytest.approx(0.007424, abs=1e-5)
    assert row["q_value"] == row["p_value"]
    assert (row["difference_low"], row["difference_high"]) == pytest.approx((0.01337, 0.08648), abs=1e-4)
    assert result.values["pay_rate", "a"] == estimate_rate("pay_rate", 200, 1000)
    assert (result.decision.decision, result.decision.reason, result.decision.metric) == (
        "ship",
        "primary_gained",
        "pay_rate",
    )
    assert result.evidence == "experiment"


def test_mean_by_hand() -> None:
    """Means 100 and 102, deviation 10, 400 users each: standard error 10 x sqrt(2 / 400) = .7071, t = 2.828."""
    metric = Metric("revenue_amount", "x", role="primary")
    row = read({"a": {"x": spread(100, 400)}, "b": {"x": spread(102, 400)}}, metric).comparison("revenue_amount")
    assert row["difference"] == pytest.approx(2)
    assert row["difference_high"] - row["difference"] == pytest.approx(1.96294 * 0.70711, abs=1e-4)
    assert row["p_value"] == pytest.approx(0.004797, abs=1e-5)
    assert row["relative"] == pytest.approx(0.02)
    assert row["detectable_difference"] == pytest.approx(2.8016 * 0.70711, abs=1e-3)
    assert row["verdict"] == "gain"


def test_ratio_by_hand() -> None:
    """Users differ in sessions: the ratio is of sums, not the mean of users' ratios."""
    sessions = [1.0, 3.0] * 200
    variants = {
        "a": {"pay": [1.0, 0.0] * 200, "sessions": sessions},
        "b": {"pay": [1.0, 1.0] * 200, "sessions": sessions},
    }
    result = read(variants, Metric("pay_per_session_ratio", "pay", per="sessions"), minimum=1)
    row = result.comparison("pay_per_session_ratio")
    assert (row["control_value"], row["variant_value"]) == (0.25, 0.5)
    # The deviations pay - ratio x sessions, over mean sessions: +-.375 in a, +-.25 in b.
    error = np.sqrt((0.375**2 + 0.25**2) / 2**2 * 4 / 399)
    assert row["difference_high"] - row["difference"] == pytest.approx(1.9634 * error, rel=1e-3)
    estimate = result.values["pay_per_session_ratio", "b"]
    assert (estimate.numerator, estimate.denominator) == (400, 800)


def test_cuped_leaves_one_minus_correlation_squared() -> None:
    """Deng, Xu, Kohavi and Walker (2013): variance x (1 - correlation squared)."""
    rng = np.random.default_rng(7)
    before = rng.normal(50, 10, 4000)
    after = before + rng.normal(0, 10, 4000)
    effect = np.repeat([0.0, 0.5], 2000)
    variants = {
        "a": {"x": list(after[:2000]), "before": list(before[:2000])},
        "b": {"x": list((after + effect)[2000:]), "before": list(before[2000:])},
    }
    plain = read(variants, Metric("x_count", "x")).comparison("x_count")
    adjusted = read(variants, Metric("x_count", "x", before="before")).comparison("x_count")
    assert adjusted["variance_kept_rate"] == pytest.approx(1 - np.corrcoef(after, before)[0, 1] ** 2, abs=0.01)
    narrower = (adjusted["difference_high"] - adjusted["difference_low"]) / (
        plain["difference_high"] - plain["difference_low"]
    )
    assert narrower**2 == pytest.approx(adjusted["variance_kept_rate"], rel=0.01)
    assert adjusted["method"] == "Welch, CUPED"
    assert adjusted["control_value"] == plain["control_value"]


def test_a_constant_past_adjusts_nothing() -> None:
    for constant in (0.0, 7.0):
        variants = {
            "a": {"x": spread(1, 50), "before": [constant] * 50},
            "b": {"x": spread(2, 50), "before": [constant] * 50},
        }
        row = read(variants, Metric("x_count", "x", before="before")).comparison("x_count")
        assert row["method"] == "Welch"
        assert row["variance_kept_rate"] is None
        assert row["difference"] == pytest.approx(1)


def test_large_means_keep_their_digits() -> None:
    """Seconds since 1970 with a deviation of 10 and an effect of 2."""
    far = 1.7e9
    metric = Metric("x_amount", "x")
    row = read({"a": {"x": spread(far, 400)}, "b": {"x": spread(far + 2, 400)}}, metric).comparison("x_amount")
    assert row["difference"] == pytest.approx(2, abs=1e-4)
    assert row["p_value"] == pytest.approx(0.004797, abs=1e-4)


def test_a_cap_and_the_user_who_needs_one() -> None:
    values = spread(10, 300)
    variants = {"a": {"x": [*values, 50_000.0]}, "b": {"x": [*values, 10.0]}}
    row = read(variants, Metric("x_count", "x")).comparison("x_count")
    assert "50,000" in row["note"]
    capped = read(variants, Metric("x_count", "x", cap=50.0)).comparison("x_count")
    assert capped["note"] == ""
    assert capped["difference"] == pytest.approx(-40 / 301)


def test_false_discoveries_are_controlled_over_variants_and_metrics_of_a_role() -> None:
    """p-values .0074 (b) and .57 (c): with two variants the smaller counts double."""
    variants = {
        "a": {"pay": hits(200, 1000), "other": hits(100, 1000)},
        "b": {"pay": hits(250, 1000), "other": hits(99, 1000)},
        "c": {"pay": hits(210, 1000), "other": hits(101, 1000)},
    }
    result = read(variants, PAY, Metric("other_rate", "other"))
    b, c = (result.comparison("pay_rate", v) for v in "bc")
    assert b["q_value"] == pytest.approx(2 * b["p_value"])
    assert c["q_value"] == pytest.approx(c["p_value"])
    assert result.decision.variant == "b"
    assert result.decisions.set_index("variant")["decision"].to_dict() == {"b": "ship", "c": "stop"}


def guarded(control: int, variant: int, users: int, **options: Any) -> ExperimentResult:
    variants = {
        "a": {"pay": hits(users // 5, users), "back": hits(control, users)},
        "b": {"pay": hits(users // 4, users), "back": hits(variant, users)},
    }
    return read(variants, PAY, Metric("back_rate", "back", role="guardrail", margin=0.05, **options))


def test_guardrails_hold_when_a_loss_beyond_the_margin_is_ruled_out() -> None:
    holds, unclear, broken = guarded(5000, 4990, 10_000), guarded(500, 490, 1000), guarded(5000, 4400, 10_000)
    assert [r.comparison("back_rate")["verdict"] for r in (holds, unclear, broken)] == ["holds", "unclear", "broken"]
    assert [(r.decision.decision, r.decision.reason) for r in (holds, unclear, broken)] == [
        ("ship", "primary_gained"),
        ("go_on", "guardrail_unclear"),
        ("stop", "guardrail_broken"),
    ]
    assert holds.comparison("back_rate")["q_value"] is None


def test_guardrails_where_less_is_better() -> None:
    assert guarded(5000, 4400, 10_000, better="lower").comparison("back_rate")["verdict"] == "holds"
    assert guarded(4400, 5000, 10_000, better="lower").comparison("back_rate")["verdict"] == "broken"
    assert guarded(0, 0, 10_000, better="lower").comparison("back_rate")["verdict"] == "holds"
    assert guarded(0, 3, 10_000, better="lower").comparison("back_rate")["verdict"] == "unclear"


@pytest.mark.parametrize(
    ("control", "variant", "options", "expected"),
    [
        (250, 200, {}, ("stop", "primary_lost")),
        (200, 205, {}, ("stop", "no_clear_effect")),
        (200, 205, {"running": True, "looks": "always"}, ("go_on", "not_clear_yet")),
        (200, 205, {"running": True, "looks": "always", "planned_users": 2000}, ("stop", "no_clear_effect")),
        (200, 300, {"running": True, "looks": "always"}, ("ship", "primary_gained")),
        (200, 250, {"running": True, "looks": "always"}, ("go_on", "not_clear_yet")),
    ],
)
def test_decisions(control: int, variant: int, options: Any, expected: tuple[str, str]) -> None:
    result = read({"a": {"pay": hits(control, 1000)}, "b": {"pay": hits(variant, 1000)}}, PAY, **options)
    assert (result.decision.decision, result.decision.reason) == expected


def test_a_gain_too_small_to_be_worth_it_stops_and_one_in_sight_says_how_many_users_more() -> None:
    worth = Metric("pay_rate", "pay", role="primary", worth=0.2)
    small = read({"a": {"pay": hits(2000, 10_000)}, "b": {"pay": hits(2010, 10_000)}}, worth)
    assert small.decision.reason == "gain_too_small"
    early = read({"a": {"pay": hits(200, 1000)}, "b": {"pay": hits(205, 1000)}}, worth, running=True)
    assert early.decision.reason == "not_clear_yet"
    # 4 points at 20%: about 2 x 2.8016^2 x .16 / .04^2 = 1,570 users a variant.
    assert early.decision.more_users_count == pytest.approx(2 * 1570 - 2000, abs=60)


def test_less_is_better_for_a_primary_metric() -> None:
    metric = Metric("pay_rate", "pay", role="primary", better="lower")
    assert read({"a": {"pay": hits(250, 1000)}, "b": {"pay": hits(200, 1000)}}, metric).decision.decision == "ship"


def test_without_a_primary_metric_nothing_is_decided() -> None:
    result = read({"a": {"pay": hits(20, 100)}, "b": {"pay": hits(90, 100)}}, Metric("pay_rate", "pay"))
    assert (result.decision.decision, result.decision.reason) == ("go_on", "no_primary_metric")


def test_a_wrong_split_stops_every_conclusion_and_shows_where() -> None:
    """Of 4,000 users, a third of the variant's on Android are missing."""
    rows = [(v, p) for v in "ab" for p in ("android", "ios") for _ in range(1000)]
    rows = [r for n, r in enumerate(rows) if not (r == ("b", "android") and n % 3 == 0)]
    users = ibis.memtable(
        {
            "variant": [v for v, _ in rows],
            "platform": [p for _, p in rows],
            "pay": [n % 2 == 0 for n in range(len(rows))],
        }
    )
    result = read_experiment(users, metrics=[PAY], control="a", attribute_columns=["platform"])
    assert result.split.verdict == "mismatch"
    assert (result.decision.decision, result.decision.reason) == ("stop", "sample_ratio_mismatch")
    assert result.comparisons[["difference", "p_value", "always_low"]].isna().all(axis=None)
    assert result.comparison("pay_rate")["verdict"] == "not_tested"
    assert result.sequence.empty
    where = result.split.where.iloc[0]
    assert (where["dimension"], where["value"], where["variant"], bool(where["explains"])) == (
        "platform",
        "android",
        "b",
        True,
    )
    assert not result.split.where["explains"].iloc[1:].any()


def test_what_cannot_be_said_is_said() -> None:
    """Nobody ever, everybody always, a few users, one user, one variant."""
    never = read({"a": {"pay": hits(0, 100)}, "b": {"pay": hits(0, 100)}}, PAY)
    assert never.comparison("pay_rate")["verdict"] == "unclear"
    assert never.comparison("pay_rate")["p_value"] is None
    assert never.decision.reason == "no_clear_effect"
    few = read({"a": {"pay": hits(1, 5)}, "b": {"pay": hits(5, 5)}}, PAY)
    assert few.decision.reason == "not_enough_data"
    assert "at least 20" in few.comparison("pay_rate")["note"]
    one = read({"a": {"pay": [True]}}, PAY)
    assert one.comparisons.empty
    assert one.decision.reason == "not_enough_data"
    absent = read({"a": {"pay": hits(9, 100)}}, PAY, shares={"a": 0.5, "b": 0.5})
    assert absent.decision.reason == "sample_ratio_mismatch"
    for result in (never, few, one, absent):
        json.dumps(result.findings(), allow_nan=False)


def test_variants_without_scatter() -> None:
    """Nobody against everybody is as clear as can be; two constants cannot be tested."""
    row = read({"a": {"pay": hits(0, 50)}, "b": {"pay": hits(50, 50)}}, PAY).comparison("pay_rate")
    assert (row["difference"], row["verdict"], row["note"]) == (1, "gain", "")
    assert row["p_value"] < 1e-20
    row = read({"a": {"x": [1.0] * 50}, "b": {"x": [2.0] * 50}}, Metric("x_count", "x")).comparison("x_count")
    assert (row["difference"], row["p_value"], row["verdict"]) == (1, None, "unclear")
    assert "no scatter" in row["note"]
    few = read({"a": {"pay": hits(1, 50)}, "b": {"pay": hits(8, 50)}}, PAY).comparison("pay_rate")
    # Of 9 hits among 100 users, the chances of all splits at most as likely as 1 and 8.
    chances = [math.comb(50, k) * math.comb(50, 9 - k) / math.comb(100, 9) for k in range(10)]
    assert few["p_value"] == pytest.approx(sum(c for c in chances if c <= chances[8] * (1 + 1e-9)))
    assert few["method"] == "Newcombe; Fisher's exact test"


def test_missing_outcomes_are_counted_apart_and_uneven_ones_are_noted() -> None:
    variants = {
        "a": {"pay": [*hits(200, 1000), *[None] * 10], "over": [True] * 900 + [False] * 110},
        "b": {"pay": [*hits(200, 1000), *[None] * 10], "over": [True] * 900 + [False] * 110},
    }
    row = read(variants, PAY).comparison("pay_rate")
    assert (row["control_users_count"], row["users_count"], row["immature_count"]) == (1000, 1000, 20)
    young = Metric("pay_rate", "pay", role="primary", mature="over")
    row = read(variants, young).comparison("pay_rate")
    assert (row["control_users_count"], row["immature_count"], row["note"]) == (900, 220, "")
    uneven = {"a": {"pay": [*hits(200, 1000)]}, "b": {"pay": [*hits(200, 900), *[None] * 100]}}
    assert "unevenly" in read(uneven, PAY).comparison("pay_rate")["note"]


def test_users_of_several_variants_are_set_aside() -> None:
    users = ibis.memtable(
        {"id": [*range(200), 0, 1], "variant": ["a", "b"] * 100 + ["b", "a"], "pay": [n % 4 < 2 for n in range(202)]}
    )
    result = read_experiment(users, metrics=[PAY], control="a", user="id")
    assert result.split.variants["users_count"].tolist() == [99, 99]
    assert result.split.crossed.numerator == 2
    with pytest.raises(InputError, match="one row a user"):
        read_experiment(users.union(users), metrics=[PAY], control="a", user="id")


def test_mistakes_are_refused_in_a_sentence() -> None:
    users = to_users({"a": {"pay": hits(1, 30)}, "b": {"pay": hits(1, 30)}})
    with pytest.raises(InputError, match="no variant 'A'"):
        read_experiment(users, metrics=[PAY], control="A")
    with pytest.raises(InputError, match="Did you mean 'variant'"):
        read_experiment(users, metrics=[PAY], control="a", variant="varient")
    with pytest.raises(InputError, match="no column 'paid'"):
        read_experiment(users, metrics=[Metric("pay_rate", "paid")], control="a")
    with pytest.raises(InputError, match="not numbers"):
        read_experiment(users, metrics=[Metric("x", "variant")], control="a")
    with pytest.raises(InputError, match="at least one metric"):
        read_experiment(users, metrics=[], control="a")
    with pytest.raises(InputError, match="Two metrics"):
        read_experiment(users, metrics=[PAY, PAY], control="a")
    with pytest.raises(InputError, match="columns of the table"):
        read_experiment(users, metrics=[Metric("pay_rate", Behavior())], control="a")
    with pytest.raises(InputError, match="More than 20 variants"):
        read_experiment(ibis.memtable({"variant": range(50), "pay": [1] * 50}), metrics=[PAY], control="1")
    with pytest.raises(InputError, match="no planned share"):
        read_experiment(users, metrics=[PAY], control="a", shares={"a": 1.0})


def to_exposures(users: int, experiment: str = "e") -> ir.Table:
    """Users in turn a and b, a quarter of a day apart."""
    at = [AT + n * DAY / 4 for n in range(users)]
    return ibis.memtable(
        {"user_id": range(users), "experiment": [experiment] * users, "variant": ["a", "b"] * (users // 2), "ts": at}
    )


def test_events_form_refuses_mistakes_too() -> None:
    exposures = to_exposures(40)
    events = ibis.memtable({"user_id": [1], "ts": [AT], "event": ["pay"]})
    options: dict[str, Any] = {"experiment": "e", "as_of": AS_OF, "control": "a"}
    pay = Metric("pay_rate", Behavior(events=("pay",)), role="primary")
    with pytest.raises(InputError, match=r"no experiment 'f'.*Experiments: e"):
        measure_experiment(exposures, {"events": events}, metrics=[pay], **{**options, "experiment": "f"})
    with pytest.raises(InputError, match="Nobody was exposed"):
        measure_experiment(exposures, {"events": events}, metrics=[pay], **{**options, "as_of": dt.date(2026, 1, 1)})
    wrong = Metric("pay_rate", Behavior(events=("pey",)))
    with pytest.raises(InputError, match="Did you mean 'pay'"):
        measure_experiment(exposures, {"events": events}, metrics=[wrong], **options)
    with pytest.raises(InputError, match="Did you mean 'events'"):
        measure_experiment(exposures, {"events": events}, metrics=[Metric("x", Behavior("event"))], **options)
    measured = Metric("x_amount", Behavior(how="sum", column="amount"))
    with pytest.raises(InputError, match="no column 'amount'"):
        measure_experiment(exposures, {"events": events}, metrics=[measured], **options)
    with pytest.raises(InputError, match="is empty"):
        measure_experiment(exposures, {"events": events}, metrics=[Metric("x", Behavior(days=(3, 3)))], **options)
    never = Metric("x_rate", Behavior(events=("something else entirely",)), role="primary")
    result = measure_experiment(exposures, {"events": events}, metrics=[never], **options)
    assert result.decision.reason == "no_clear_effect"


def test_sequence_of_an_early_look_is_that_of_the_data_of_then() -> None:
    """What the sequence shows for a past day is what the read-out of then gave: it is no hindsight."""
    exposures = to_exposures(1600)
    paid = ibis.memtable({"user_id": range(0, 1600, 3), "ts": [AT + n * DAY / 4 + DAY / 3 for n in range(0, 1600, 3)]})
    pay = Metric("pay_rate", Behavior("orders", days=(0, 1)), role="primary")
    options: dict[str, Any] = {"experiment": "e", "metrics": [pay], "control": "a"}
    late = measure_experiment(exposures, {"orders": paid}, as_of=dt.date(2027, 3, 31), **options)
    early = measure_experiment(exposures, {"orders": paid}, as_of=dt.date(2026, 7, 31), **options)
    assert (early.looks, late.looks) == ("always", "once")
    # The last day of exposure of which everybody's window is over.
    day = early.sequence["day_at"].iloc[-2]
    columns = ["users_count", "difference"]
    then = late.sequence[late.sequence["day_at"] == day]
    assert then[columns].to_numpy()[0] == pytest.approx(early.sequence[columns].iloc[-2].to_numpy(dtype=float))
    assert early.sequence["users_count"].is_monotonic_increasing


@pytest.mark.shared
def test_cookie_cats(shared: Path) -> None:
    """Outside reference: published read-outs of the test, and its sample ratio."""
    users = ibis.read_csv(shared / "real" / "cookie_cats" / "cookie_cats.csv")
    facts = json.loads((shared / "real" / "cookie_cats" / "facts.json").read_text())
    metrics = [
        Metric("d7_rate", "retention_7", role="primary"),
        Metric("d1_rate", "retention_1"),
        Metric("rounds_count", "sum_gamerounds"),
    ]
    result = read_experiment(users, metrics=metrics, control="gate_30", variant="version", user="userid")
    assert result.split.p_value == pytest.approx(facts["SRM_50_50"]["p"], rel=1e-9)
    assert result.split.verdict == "doubtful"
    assert any(
        r["name"] == "sample_ratio" and r["p_value"] == pytest.approx(0.0086, abs=1e-4) for r in result.findings()
    )
    for name, fact in (
        ("d7_rate", "retention_7_test(gate_40-gate_30)"),
        ("d1_rate", "retention_1_test(gate_40-gate_30)"),
    ):
        row, expected = result.comparison(name), facts[fact]
        assert row["control_value"] == pytest.approx(expected["control"])
        assert row["variant_value"] == pytest.approx(expected["treat"])
        assert row["p_value"] == pytest.approx(expected["p_two_sided"], rel=1e-9)
        # Newcombe's interval and the unpooled normal one agree to the fifth digit at this size.
        assert (row["difference_low"], row["difference_high"]) == pytest.approx(expected["ci95_unpooled"], abs=1e-5)
    rounds = result.comparison("rounds_count")
    assert rounds["p_value"] == pytest.approx(facts["sum_gamerounds"]["welch_p_all"], rel=1e-6)
    assert "49,854" in rounds["note"]
    assert (result.decision.decision, result.decision.reason) == ("stop", "primary_lost")
    published = json.loads((shared / "cases" / "references.json").read_text())["cookie_cats_published"]
    published_d7 = published["dorukalkan/cookie-cats-ab-test"]
    row = result.comparison("d7_rate")
    assert round(row["difference"] * 100, 2) == published_d7["diff_pp"]
    assert [round(row[f"difference_{end}"] * 100, 2) for end in ("low", "high")] == published_d7["ci95"]
    assert round(row["relative"], 4) == published_d7["rel"]
    assert round(row["p_value"], 4) == published_d7["p"]


@pytest.fixture(scope="module")
def sample() -> Any:
    return open_data(ROOT / "playbook.toml")


def read_sample(sample: Any, experiment: str, *metrics: Metric, **options: Any) -> ExperimentResult:
    tables = {name: sample.table(name) for name in ("events", "orders")}
    return measure_experiment(
        sample.table("exposures"), tables, experiment=experiment, metrics=metrics, as_of=sample.as_of,
        calendar=sample.calendar, attributes=sample.attributes, **options,
    )  # fmt: skip


def load_truth(incident: str) -> Any:
    truth = json.loads((ROOT / "data" / "samples" / "truth.json").read_text())
    return next(i for i in truth["incidents"] if i["id"] == incident)["changes"]


def test_the_finished_experiment_of_the_sample(sample: Any) -> None:
    """The onboarding checklist raised next-day return: the truth's counts, to the user."""
    next_day = Metric("d1_rate", Behavior(days=(1, 2), clock="day"), role="primary")
    result = read_sample(sample, "onboarding_checklist", next_day)
    cells = load_truth("onboarding_checklist")[0]["realised"]["cells"]
    for variant, cell in (("checklist", "segment_during"), ("control", "rest_during")):
        estimate = result.values["d1_rate", variant]
        assert (estimate.numerator, estimate.denominator) == (cells[cell]["numerator"], cells[cell]["denominator"])
    assert (result.looks, result.running, result.split.verdict) == ("once", False, "fine")
    assert (result.decision.decision, result.decision.variant) == ("ship", "checklist")


def test_the_running_experiment_of_the_sample(sample: Any) -> None:
    """The one-page checkout helps a little, its data are not mature: go on."""
    pay = Behavior(events=("pay",), how="distinct", column="session_id")
    checkout = Behavior(events=("begin_checkout",), how="distinct", column="session_id")
    result = read_sample(
        sample,
        "checkout_one_page",
        Metric("pay_per_checkout_ratio", pay, per=checkout, role="primary", worth=0.05),
        Metric("revenue_amount", Behavior("orders", how="sum", column="amount"), before=28),
    )
    row = result.comparison("pay_per_checkout_ratio")
    assert row["immature_count"] == 297
    assert (result.looks, result.running, row["verdict"]) == ("always", True, "unclear")
    assert (result.decision.decision, result.decision.reason) == ("go_on", "not_clear_yet")
    assert result.decision.more_users_count
    assert result.decision.more_days
    assert result.comparison("revenue_amount")["variance_kept_rate"] < 1


def test_the_sale_with_a_holdout(sample: Any) -> None:
    """One in ten held out: split as planned, and orders counted as in the truth."""
    orders = Metric("orders_count", Behavior("orders", how="rows", days=(0, 12)), role="primary", before=28)
    shares = {"holdout": 0.1, "treated": 0.9}
    result = read_sample(sample, "june_sale_2026", orders, control="holdout", shares=shares)
    assert result.split.verdict == "fine"
    cells = load_truth("june_sale")[1]["realised"]["cells"]
    # The truth counts orders of everybody in the split; those of users who joined during the sale are not in it.
    assert result.values["orders_count", "treated"].numerator == cells["segment_during"]["numerator"]
    assert result.values["orders_count", "holdout"].numerator == cells["rest_during"]["numerator"]
    assert result.decision.decision == "ship"
    assert result.comparison("orders_count")["variance_kept_rate"] < 0.95
    wrong = read_sample(sample, "june_sale_2026", orders, control="holdout")
    assert wrong.decision.reason == "sample_ratio_mismatch"

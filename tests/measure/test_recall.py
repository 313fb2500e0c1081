"""What a win-back brought: by hand, references, against a plain Python version, edges, the sample company."""

from __future__ import annotations

import datetime as dt
import json
import math
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
from opslib.measure.recall.cost import Difference, bound_ratio, estimate_unit_cost
from opslib.measure.recall.recall import RecallResult, measure_recall
from tests.conftest import ROOT

AT = dt.datetime(2026, 3, 2, 9)
AS_OF = dt.date(2026, 4, 30)
DRAWN = {"user_id": "int64", "experiment": "string", "variant": "string", "ts": "timestamp"}
ORDERS = {"user_id": "int64", "ts": "timestamp", "amount": "float64"}


def drawn(rows: list[tuple[Any, ...]]) -> ir.Table:
    """user_id, variant and perhaps ts."""
    found = [(r[0], "win back", r[1], r[2] if len(r) > 2 else AT) for r in rows]
    return ibis.memtable(pd.DataFrame(found, columns=list(DRAWN)), schema=DRAWN)


def orders(rows: list[tuple[Any, ...]]) -> ir.Table:
    """user_id, hours after the draw, amount."""
    found = [(u, AT + dt.timedelta(hours=h), a) for u, h, a in rows]
    return ibis.memtable(pd.DataFrame(found, columns=list(ORDERS)), schema=ORDERS)


def recall(exposures: ir.Table, bought: ir.Table, **options: Any) -> RecallResult:
    return measure_recall(exposures, {"orders": bought}, **({"experiment": "win back", "as_of": AS_OF} | options))


def make(treated: tuple[int, int], holdout: tuple[int, int]) -> tuple[ir.Table, ir.Table]:
    """Exposures and orders where so many of so many came back, for 10 each."""
    rows = [(n, "treated") for n in range(treated[1])] + [(10**6 + n, "holdout") for n in range(holdout[1])]
    back = [(n, 5, 10.0) for n in range(treated[0])] + [(10**6 + n, 5, 10.0) for n in range(holdout[0])]
    return drawn(rows), orders(back)


def test_lift_by_hand() -> None:
    """120 of 900 against 8 of 100: 5.33 points, Newcombe; relative by Katz's logarithm; cost 90 / 48 users."""
    exposures, bought = make((120, 900), (8, 100))
    costs = ibis.memtable({"user_id": list(range(900)), "amount": [0.1] * 900})
    result = recall(exposures, bought, holdout_share=0.1, costs=costs)
    lift = result.totals["lift_rate"]
    change = compare_estimates(estimate_rate("r", 120, 900), estimate_rate("r", 8, 100))
    assert (lift.value, lift.low, lift.high) == pytest.approx((4 / 75, change.low, change.high))
    relative = result.totals["relative_lift_rate"]
    assert relative.value == pytest.approx(2 / 3)
    katz = 1.959964 * math.sqrt(780 / 900 / 120 + 0.92 / 8)
    assert math.log(1 + relative.low) == pytest.approx(math.log(5 / 3) - katz, abs=0.02)
    assert result.totals["incremental_users_count"].value == pytest.approx(48)
    assert result.totals["revenue_difference_amount"].value == pytest.approx(10 * 4 / 75)
    assert result.split.p_value == pytest.approx(1.0)
    # The interval reaches zero: there is no cost of an incremental user.
    assert result.verdict == "unclear"
    cost = result.totals["cost_per_incremental_amount"]
    assert (cost.value, cost.note[:15], cost.numerator) == (None, "no clear effect", pytest.approx(90))


def test_cost_of_an_incremental_user_by_hand() -> None:
    """400 of 2,000 against 200 of 2,000, one unit a user: 10 each, interval 1 / (0.1 -+ 1.96 x .0111)."""
    exposures, bought = make((400, 2000), (200, 2000))
    costs = ibis.memtable({"user_id": list(range(2000)), "amount": [1.0] * 2000})
    result = recall(exposures, bought, holdout_share=0.5, costs=costs)
    cost = result.totals["cost_per_incremental_amount"]
    error = 1.959964 * math.sqrt(0.2 * 0.8 / 2000 + 0.1 * 0.9 / 2000)
    assert (cost.value, cost.low, cost.high) == pytest.approx((10, 1 / (0.1 + error), 1 / (0.1 - error)), rel=1e-4)
    assert (cost.numerator, cost.denominator, cost.method) == (pytest.approx(2000), pytest.approx(200), "Fieller")


def test_fieller_against_published_numbers() -> None:
    """A ratio of means with known errors; and the interval holds exactly the ratios that a z-test does not refuse."""
    difference = Difference(cost=2.0, lift=1.0, cost_variance=0.04, lift_variance=0.01, covariance=0.006)
    low, high = bound_ratio(difference)
    assert low is not None
    assert high is not None
    for end in (low, high):
        z = (2.0 - end) / math.sqrt(0.04 - 2 * end * 0.006 + end**2 * 0.01)
        assert abs(z) == pytest.approx(1.959964, abs=1e-5)
    unsure = Difference(cost=2.0, lift=0.01, cost_variance=0.01, lift_variance=0.01)
    low, high = bound_ratio(unsure)
    assert high is None
    estimate = estimate_unit_cost(unsure, users=100, clear=True)
    assert "no upper end" in estimate.note
    assert estimate_unit_cost(unsure, users=100, clear=False).value is None


def test_fieller_covers() -> None:
    """95% intervals of the cost hold the truth in 95% of simulated win-backs with costs that go with coming back."""
    rng = np.random.default_rng(3)
    users, held, rate, extra, truth, hits = 4000, 4000, 0.1, 0.05, (0.05 + 3 * 0.15) / 0.05, 0
    for _ in range(400):
        back, alone = rng.binomial(users, rate + extra), rng.binomial(held, rate)
        p, q = back / users, alone / held
        spread = p * (1 - p) / users
        difference = Difference(0.05 + 3 * p, p - q, 9 * spread, spread + q * (1 - q) / held, 3 * spread)
        low, high = bound_ratio(difference)
        hits += (low or 0) <= truth <= (high or np.inf)
    assert 0.92 < hits / 400 < 0.98


@given(
    st.lists(
        st.tuples(st.integers(0, 15), st.sampled_from(["treated", "holdout"]), st.integers(0, 40)),
        min_size=1,
        max_size=30,
    ),
    st.lists(st.tuples(st.integers(0, 15), st.integers(-50, 1500), st.integers(-5, 50)), max_size=40),
    st.integers(1, 40),
)
@settings(max_examples=12)
def test_counts_against_plain_python(draws: Any, bought: Any, days: int) -> None:
    exposures = drawn([(u, arm, AT + dt.timedelta(days=d)) for u, arm, d in draws])
    amounts = [(u, h, float(a)) for u, h, a in bought]
    labels = {u: "ab"[u % 2] for u in range(10)}
    segments = ibis.memtable({"user_id": list(labels), "segment": list(labels.values())})
    result = recall(exposures, orders(amounts), days=days, segments=segments, minimum=1)
    expected: dict[str, dict[str, list[float]]] = {}
    waiting = 0
    end = dt.datetime.combine(AS_OF, dt.time()) + dt.timedelta(days=1)
    for user in {u for u, *_ in draws}:
        own = [(AT + dt.timedelta(days=d), arm) for u, arm, d in draws if u == user]
        if len({arm for _, arm in own}) > 1:
            continue
        start, arm = min(own)
        if start + dt.timedelta(days=days) > end:
            waiting += 1
            continue
        inside = [
            a
            for u, h, a in amounts
            if u == user and 0 <= (AT + dt.timedelta(hours=h) - start).total_seconds() < days * 86400
        ]
        expected.setdefault(labels.get(user, "(not given)"), {}).setdefault(arm, []).append(bool(inside))
    table = result.segments.set_index("segment")
    for name, arms in expected.items():
        for arm, values in arms.items():
            assert (table.loc[name, f"{arm}_count"], table.loc[name, f"{arm}_back_count"]) == (len(values), sum(values))
    for arm in ("treated", "holdout"):
        assert table[f"{arm}_count"].sum() == sum(len(arms.get(arm, [])) for arms in expected.values())
    assert table["immature_count"].sum() == waiting
    json.dumps(result.findings(), allow_nan=False)


def test_segments_add_up_and_names_change_nothing() -> None:
    exposures, bought = make((300, 2000), (150, 2000))
    ids = [*range(2000), *range(10**6, 10**6 + 2000)]
    first = ibis.memtable({"user_id": ids, "segment": ["x" if n % 3 else "y" for n in ids]})
    second = ibis.memtable({"user_id": ids[::-1], "segment": ["a" if n % 3 else "b" for n in ids[::-1]]})
    one, two = (recall(exposures, bought, segments=s, holdout_share=0.5) for s in (first, second))
    for first_total, second_total in zip(one.totals.values(), two.totals.values(), strict=True):
        pair = [(e.value, e.low, e.high) for e in (first_total, second_total)]
        assert pair[0] == pytest.approx(pair[1]), first_total.name
    assert one.heterogeneity_p_value == pytest.approx(two.heterogeneity_p_value)
    assert one.segments["treated_back_count"].sum() == one.totals["treated_return_rate"].numerator == 300
    q = one.segments.sort_values("p_value")["q_value"].tolist()
    p = sorted(one.segments["p_value"])
    assert q == pytest.approx([min(p[0] * 2, p[1]), p[1]])


def test_false_gains_are_rare_where_nothing_happened() -> None:
    """Twenty segments without an effect: false-discovery control keeps them unclear."""
    rng = np.random.default_rng(5)
    ids = np.arange(40_000)
    exposures = drawn(
        [(int(n), "treated" if a else "holdout") for n, a in zip(ids, rng.random(40_000) < 0.9, strict=True)]
    )
    back = ids[rng.random(40_000) < 0.08]
    segments = ibis.memtable({"user_id": ids, "segment": [f"s{n % 20:02}" for n in ids]})
    result = recall(exposures, orders([(int(n), 3, 5.0) for n in back]), segments=segments, holdout_share=0.1)
    assert set(result.segments["verdict"]) == {"unclear"}
    assert result.heterogeneity_p_value is not None
    assert result.heterogeneity_p_value > 0.01


def test_messages_that_did_not_arrive_still_count() -> None:
    """Half the treated were reached: all of them are in the denominator, and the share is said."""
    exposures, bought = make((50, 100), (10, 100))
    rows = [(n, AT + dt.timedelta(hours=1), "sms", n < 50, "spring") for n in range(100)] + [
        (3, AT, "sms", True, "other")
    ]
    columns = ["user_id", "ts", "channel", "delivered", "campaign"]
    messages = ibis.memtable(pd.DataFrame(rows, columns=columns))
    options = {"messages": messages, "message_costs": {"sms": 0.05}, "holdout_share": 0.5}
    result = recall(exposures, bought, campaign="spring", **options)
    delivered = result.totals["delivered_rate"]
    assert (delivered.numerator, delivered.denominator) == (50, 100)
    assert result.totals["treated_return_rate"].denominator == 100
    assert result.totals["cost_per_incremental_amount"].numerator == pytest.approx(5.0)
    assert recall(exposures, bought, **options).totals["cost_per_incremental_amount"].numerator == pytest.approx(5.05)
    free = recall(exposures, bought, **(options | {"message_costs": {"push": 1.0}}))
    assert "101 messages went by channels without a cost" in " ".join(free.notes)


def test_a_wrong_split_stops_conclusions() -> None:
    exposures, bought = make((120, 900), (8, 300))
    segments = ibis.memtable({"user_id": list(range(900)), "segment": ["x"] * 900})
    result = recall(exposures, bought, holdout_share=0.1, segments=segments)
    assert (result.split.verdict, result.verdict) == ("mismatch", "not_tested")
    assert result.totals["lift_rate"].value is None
    assert result.segments["lift_rate"].isna().all()
    assert any("nothing is concluded" in note for note in result.notes)
    assert set(result.split.where["dimension"]) == {"day", "segment"}
    unchecked = recall(exposures, bought)
    assert unchecked.split.p_value is None
    assert any("not checked" in note for note in unchecked.notes)


def test_edges_get_a_sentence() -> None:
    def say(exposures: ir.Table, bought: ir.Table, **options: Any) -> str:
        result = recall(exposures, bought, **options)
        json.dumps(result.findings(), allow_nan=False)
        return f"{result.verdict}: {' '.join(result.notes)} {result.totals['lift_rate'].note}"

    exposures, bought = make((5, 50), (0, 0))
    assert "Nobody was held out" in say(exposures, bought)
    assert "Nobody was held out" in say(exposures, bought, segments=ibis.memtable({"user_id": [1], "segment": ["x"]}))
    assert "what the messages cost is not known" in say(exposures, bought, message_costs={"sms": 1}, campaign="x")
    exposures, bought = make((0, 0), (5, 50))
    assert "Nobody was treated" in say(exposures, bought, holdout_share=0.5)
    exposures, bought = make((1, 1), (0, 1))
    assert say(exposures, bought).startswith("not_enough_data")
    exposures, bought = make((50, 50), (50, 50))
    assert "everybody has the same value" in say(exposures, bought)
    exposures, bought = make((5, 50), (2, 50))
    assert "100 of 100 users have not had their 14 days yet" in say(exposures, bought, as_of=AT.date())
    before = AT.date() - dt.timedelta(days=9)
    assert "Nobody was drawn by then" in say(exposures, bought, as_of=before)
    assert say(exposures, orders([])).startswith("unclear")


def test_wrong_names_are_refused() -> None:
    exposures, bought = make((5, 50), (2, 50))
    many = ibis.memtable({"user_id": range(200), "segment": [f"s{n}" for n in range(200)]})
    exposures = exposures.union(drawn([(n, "treated") for n in range(50, 200)]))
    for options, words in (
        ({"experiment": "winback"}, "Did you mean 'win back'"),
        ({"treated": "trated"}, "Did you mean 'treated'"),
        ({"treated": "a", "holdout": "b"}, "no arm 'a'"),
        ({"by": "order"}, "Did you mean 'orders'"),
        ({"days": 0}, "takes a day"),
        ({"holdout_share": 1.0}, "no share"),
        ({"message_costs": {"sms": -1}}, "costs -1"),
        ({"segments": bought}, "no column 'segment'"),
        ({"costs": exposures}, "no column 'amount'"),
        ({"messages": bought, "campaign": "x"}, "no column 'campaign'"),
        ({"messages": bought.mutate(campaign=ibis.literal("spring")), "campaign": "sprin"}, "Did you mean 'spring'"),
        ({"segments": many}, "201 segments"),
    ):
        with pytest.raises(InputError, match=words):
            recall(exposures, bought, **options)


def test_the_sale_of_the_sample_company() -> None:
    """The planted lift of the June sale: orders as the truth counts them, users as plain SQL does."""
    data = open_data(ROOT / "playbook.toml")
    tables = {name: data.table(name) for name in ("orders", "events")}
    result = measure_recall(
        data.table("exposures"), tables, experiment="june_sale_2026", as_of=dt.date(2026, 6, 30), days=12,
        holdout_share=0.1, messages=data.table("messages"), campaign="june_sale", calendar=data.calendar,
        message_costs={"sms": 0.05, "wecom": 0.01},
    )  # fmt: skip
    truth = json.loads((ROOT / "data/samples/truth.json").read_text("utf-8"))
    sale = next(i for i in truth["incidents"] if i["id"] == "june_sale")
    planted = next(c["size"] for c in sale["changes"] if c["kind"] == "order_rate")
    relative = result.totals["relative_lift_rate"]
    assert relative.low < planted - 1 < relative.high
    assert result.verdict == "gain"
    assert result.split.verdict == "fine"
    found = data.connection.sql(
        "select variant, count(distinct o.user_id) n from read_parquet('{0}/exposures.parquet') x "
        "join read_parquet('{0}/orders.parquet') o on o.user_id = x.user_id and o.ts >= x.ts "
        "and o.ts < x.ts + interval 12 day where experiment = 'june_sale_2026' group by 1".format(ROOT / "data/samples")
    ).to_pandas()
    counts = dict(zip(found["variant"], found["n"], strict=True))
    assert {arm: result.totals[f"{arm}_return_rate"].numerator for arm in counts} == counts
    assert result.totals["delivered_rate"].value > 0.95
    assert result.totals["cost_per_incremental_amount"].value > 0
    # The two weeks after give part of it back: users who came earlier do not come again.
    later = measure_recall(
        data.table("exposures"), tables, experiment="june_sale_2026", as_of=dt.date(2026, 6, 30), days=26,
        holdout_share=0.1, calendar=data.calendar,
    )  # fmt: skip
    assert later.totals["lift_rate"].value < result.totals["lift_rate"].value

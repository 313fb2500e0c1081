"""The parts of the review beside its numbers: bridge, budget, next quarter, rhythm, decisions."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator
from copy import copy
from pathlib import Path
from types import SimpleNamespace
from typing import TypeVar

import numpy as np
import pandas as pd
import pytest

from opslib.data.guess import write_playbook
from opslib.data.source import open_data
from opslib.decide.review.decisions import list_decisions
from opslib.decide.review.history import measure_history
from opslib.decide.review.operations import FIRING_COLUMNS
from opslib.decide.review.prediction import Prediction, predict_from_history
from opslib.decide.review.review import QuarterlyReview, review_quarter
from opslib.present.answers import describe, list_limits, suggest_actions
from opslib.present.review import actions, charts, next_tables, tables
from tests.decide.conftest import Company

Result = TypeVar("Result")
ROOT = Path(__file__).resolve().parents[2]
SHOWN = (
    next_tables.show_bridge, next_tables.show_budget, next_tables.show_firings, next_tables.show_initiatives,
    next_tables.show_next_quarter, next_tables.show_decisions, actions.list_core_things, tables.show_metrics,
    tables.show_growth, tables.show_channels, charts.plot_bridge, charts.plot_channels, charts.plot_revenue,
    lambda review: charts.plot_bridge(review, "revenue"),
)  # fmt: skip


@pytest.fixture(scope="module")
def sample() -> QuarterlyReview:
    return review_quarter(open_data(ROOT / "playbook.toml"), quarter="2026Q2")


def read_everything(review: QuarterlyReview) -> str:
    """All that the notebook shows, as text; fails where anything cannot be shown."""
    texts = [*describe(review), *list_limits(review), *suggest_actions(review)]
    for show in SHOWN:
        texts.append(show(review)._repr_mimebundle_()["text/plain"])
    json.dumps(review.findings(), allow_nan=False)
    return "\n".join(texts)


def make_firings(*rows: tuple[str, str, str]) -> pd.DataFrame:
    day = dt.date(2026, 5, 1)
    frame = pd.DataFrame(columns=list(FIRING_COLUMNS))
    for rule, severity, owner in rows:
        frame.loc[len(frame)] = (
            rule, "", "d7_rate", day, day, 0.2, 0.25, severity != "notice", severity, owner, ("Treat users by tier",),
            "10_growth_model", "",
        )  # fmt: skip
    return frame


def test_budget_shift_of_the_sample_is_said_with_numbers(sample: QuarterlyReview) -> None:
    """The planted incident: more money in social, more sign-ups, no more users who stay."""
    budget = sample.budget
    assert budget is not None
    assert budget.answer == "no"
    row = budget.by_channel.set_index("channel").loc["social"]
    assert row["verdict"] == "more_users_not_retained"
    assert row["cost_per_d7_low"] > row["before_cost_per_d7_amount"]
    sentence = next(s for s in describe(sample) if s.startswith("Is the budget bringing effective growth?"))
    for part in ("No: in social CNY", "more new users", "none of them still there on day 7", "went from CNY"):
        assert part in sentence
    costs = (row["before_cost_per_d7_amount"], row["cost_per_d7_amount"])
    assert all(f"{cost:,.2f}" in sentence for cost in costs)


def test_bridge_of_the_sample_agrees_with_growth_and_revenue(sample: QuarterlyReview) -> None:
    bridge, rows = sample.bridge, sample.growth.periods
    assert bridge is not None
    assert [bridge.users_before, bridge.users_now] == rows["closing_count"].tail(2).tolist()
    assert sample.now.revenue is not None
    assert bridge.revenue_now == pytest.approx(sample.now.revenue.revenue.value)
    now = bridge.groups[bridge.groups["period"] == "now"].set_index("group")["users_count"]
    assert now["kept_new"] + now["kept_old"] == rows["retained_count"].iloc[-1]
    assert now["resurrected"] == rows["resurrected_count"].iloc[-1]


def test_proposed_targets_are_in_order_and_carry_their_error(sample: QuarterlyReview) -> None:
    frame = sample.outlook.proposals.set_index("metric")
    assert sample.outlook.period.label == "2026Q3"
    assert (frame["method"] != "").all()
    assert (frame["tests_count"] > 0).all()
    assert frame["error_value"].between(0, 0.3).all()
    for metric, row in frame.iterrows():
        assert row["low_value"] < row["forecast_value"] < row["high_value"], metric
        better = row["ambitious_value"] - row["likely_value"]
        assert better < 0 if row["direction"] == "at_most" else better > 0, metric
    chances = frame["probability_rate"].dropna()
    assert set(chances.index) == {"d1_rate", "d7_rate", "stickiness_rate", "cac_amount"}
    assert chances["cac_amount"] > 0.9 > 0.5 > chances["d7_rate"]


def test_predictions_keep_their_promise_on_random_walks() -> None:
    """A walk's next quarter lies in the 80% interval about four times in five."""
    generator = np.random.default_rng(4)
    held = tried = 0
    for _ in range(400):
        walk = np.exp(np.cumsum(0.1 * generator.standard_normal(10)))[::-1] * 1000
        past = pd.Series(walk[1:])
        found = predict_from_history("dau_count", "count", float(past[0]), past, per_quarter=1)
        held += found.quantile(0.1) <= walk[0] <= found.quantile(0.9)
        tried += 1
    assert 0.74 <= held / tried <= 0.88


def test_chances_and_quantiles_are_each_others_inverse() -> None:
    prediction = Prediction("d7_rate", "rate", 0.25, "own level", -1.1, 0.2, 4.0)
    assert prediction.below(prediction.quantile(0.3)) == pytest.approx(0.3)
    row = prediction.describe("at_least", prediction.quantile(0.3))
    assert row["probability_rate"] == pytest.approx(0.7)
    assert row["likely_value"] == pytest.approx(prediction.quantile(0.3), abs=0.001)


def test_history_counts_what_a_window_holds() -> None:
    """The latest window against plain counts of its 91 days."""
    data = open_data(ROOT / "playbook.toml")
    period = data.choose_quarter("2026Q2").period
    history = measure_history(data, data.active_days, period)
    days = data.active_days
    first = days.group_by("user_id").aggregate(day=days.day.min()).to_pandas()["day"]
    inside = pd.to_datetime(first).between("2026-04-01", "2026-06-30")
    assert history["new_users_count"].iloc[0] == inside.sum()
    orders = data.table("orders")
    paid = orders.filter(orders.ts >= data.calendar.day_start(period.start)).to_pandas()
    assert history["paying_users_count"].iloc[0] == paid["user_id"].nunique()
    assert history["revenue_amount"].iloc[0] == pytest.approx(paid["amount"].sum())


def give(result: Result, **parts: object) -> Result:
    """The same result with some of its parts as if they had been computed so."""
    other = copy(result)
    vars(other).update(parts)
    return other


def test_decisions_have_an_owner_and_a_day_after_the_quarter(sample: QuarterlyReview) -> None:
    firings = make_firings(("complaints", "urgent", "Head of service"), ("d7", "act", ""), ("seen", "notice", ""))
    item = SimpleNamespace(
        name="Referral bonus", owner="Ann", metric="d7_rate", target=0.3, decision="", last_day=dt.date(2026, 6, 1)
    )
    verdicts = (SimpleNamespace(initiative=item, verdict="not effective", kill=None),)
    operations = give(sample.operations, firings=firings, verdicts=verdicts)
    playbook, last_day = open_data(ROOT / "playbook.toml").playbook, dt.date(2026, 6, 30)
    options = {"targets": sample.targets, "budget": sample.budget}
    listed = list_decisions(playbook, last_day, operations=operations, **options)  # type: ignore[arg-type]
    frame = listed.set_index("subject")
    assert frame.loc["complaints", ["owner", "due"]].tolist() == ["Head of service", dt.date(2026, 7, 3)]
    assert frame.loc["d7", "due"] == dt.date(2026, 7, 7)
    assert frame.loc["Referral bonus", ["kind", "owner"]].tolist() == ["initiative", "Ann"]
    assert "seen" not in frame.index
    assert (frame["due"] > last_day).all()
    assert {"d1_rate", "d7_rate", "stickiness_rate", "social"} <= set(frame.index)
    fired = give(sample.operations, firings=firings)
    review = give(sample, operations=fired, decisions=listed)
    assert "name one" in next_tables.show_decisions(review)._repr_mimebundle_()["text/html"]
    assert "complaints" in next_tables.show_firings(review)._repr_mimebundle_()["text/html"]
    assert any(r["name"] == "firing" for r in review.findings())


def test_nothing_fired_and_no_initiatives_are_said(sample: QuarterlyReview) -> None:
    nothing = give(sample.operations, firings=make_firings(), verdicts=())
    review = give(sample, operations=nothing)
    assert "Nothing fired in 2026Q2" in next_tables.show_firings(review)._repr_mimebundle_()["text/plain"]
    assert "no initiatives in the playbook" in next_tables.show_initiatives(review)._repr_mimebundle_()["text/plain"]


def daily_rows(users: int, first: str, last: str, step: int) -> Iterator[str]:
    for day in pd.date_range(first, last, freq=f"{step}D"):
        for user in range(users):
            yield f"{user},{day:%Y-%m-%d} 12:00:00,open"


@pytest.mark.parametrize(
    ("users", "first", "last", "step"),
    [(1, "2026-05-01", "2026-05-01", 1), (30, "2026-04-01", "2026-06-30", 7), (3, "2025-09-15", "2026-07-05", 9)],
)
def test_small_companies_get_sentences(company: Company, users: int, first: str, last: str, step: int) -> None:
    data = company(events=("user_id,ts,event", daily_rows(users, first, last, step)))
    text = read_everything(review_quarter(data, quarter="2026Q2"))
    assert "nan" not in text.lower().replace("finance", "")


def test_core_things_are_proposed_where_the_playbook_names_none(company: Company) -> None:
    rows = daily_rows(40, "2025-09-15", "2026-07-05", 3)
    data = company(more="[targets]\nstickiness_rate = { at_least = 0.9 }", events=("user_id,ts,event", rows))
    review = review_quarter(data, quarter="2026Q2")
    assert not review.cadence.named
    assert review.cadence.proposals["kind"].tolist()[0] == "target"
    assert "The data suggest" in actions.list_core_things(review).sentences[0]


def test_segment_review_has_all_sections() -> None:
    data = open_data(ROOT / "playbook.toml")
    android = review_quarter(data, quarter="2026Q2", segment="platform:android")
    assert android.budget is None
    assert android.bridge is not None
    assert "needs spend by this segment" in read_everything(android)
    social = review_quarter(data, quarter="2026Q1", segment="channel:social")
    assert social.budget is not None
    assert "social" in read_everything(social)


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "bridged"),
    [
        ("cdnow/CDNOW_master.txt", True),
        ("online_retail/online_retail.parquet", True),
        ("collegemsg/CollegeMsg.txt", False),
    ],
)
def test_real_data_are_reviewed(name: str, bridged: bool, shared: Path, tmp_path: Path) -> None:
    playbook = tmp_path / "playbook.toml"
    write_playbook([str(shared / "real" / name)], out=playbook)
    review = review_quarter(open_data(playbook))
    read_everything(review)
    assert (review.bridge is not None) == bridged
    if review.bridge is not None:
        assert review.bridge.users_now == review.growth.periods["closing_count"].iloc[-1]
        assert review.now.revenue is not None
        assert review.bridge.revenue_now == pytest.approx(review.now.revenue.revenue.value, abs=0.01)
    else:
        assert "no bridge" in " ".join(list_limits(review))

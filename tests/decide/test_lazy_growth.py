"""The growth model computes what is asked for, remembers it, and says the same in any order; and its cells."""

from __future__ import annotations

import datetime as dt
import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import ibis
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from opslib.data.source import Data
from opslib.decide.growth import acquisition, audience, cell, outlook, staying
from opslib.decide.growth.cell import CellChoice, compare_with_others, list_members
from opslib.decide.growth.model import GrowthModel, model_growth
from opslib.decide.scope import Scope, choose_scope
from opslib.errors import InputError
from opslib.measure import levers as lever_module
from opslib.present.display import ChartView, ListView, TableView
from opslib.present.growth import charts, tables
from tests.decide.conftest import Company

# A Monday.
START = dt.date(2026, 1, 5)
STAGES = {
    audience: ("measure_activity", "account_growth", "measure_days_active", "measure_tiers"),
    staying: ("measure_cohorts", "fit_sbg", "explain_change", "rank_behaviors", "describe_segment"),
    acquisition: ("measure_channels", "measure_referral"),
    outlook: (
        "measure_state_rates", "forecast_activity", "backtest_forecast", "measure_sensitivity", "measure_economics",
        "prepare_levers",
    ),
    lever_module: ("walk_users",),
    cell: ("explain_change", "describe_segment"),
}  # fmt: skip


def make_company(company: Company, *, users: int = 240, days: int = 98) -> Data:
    """A few new users a day for 14 weeks; those from search come back more often than those from ads."""
    dice = random.Random(0)
    events, people = [], []
    for user in range(users):
        first = START + dt.timedelta(user * (days - 1) // users)
        channel, platform = ("search", "ads")[user % 2], ("ios", "web", "android")[user % 3]
        people.append(f"{user},{first} 08:00:00,{channel},{platform},{20 + user % 30}")
        came = [first + dt.timedelta(n) for n in range(1, 60) if dice.random() < (0.3, 0.15)[user % 2]]
        events += [f"{user},{day} 12:00:00,open" for day in [first, *came] if day < START + dt.timedelta(days)]
    events.append(f"0,{START + dt.timedelta(days - 1)} 23:30:00,open")
    header = "user_id,signup_at,channel,platform,age"
    return company(events=("user_id,ts,event", events), users=(header, people))


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each measure was called."""
    counted: Counter[str] = Counter()

    def count(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            counted[name] += 1
            return function(*args, **kwargs)

        return wrapped

    for module, names in STAGES.items():
        for name in names:
            monkeypatch.setattr(module, name, count(name, getattr(module, name)))
    return counted


def test_nothing_is_computed_before_it_is_asked_for(company: Company, calls: Counter[str]) -> None:
    model = model_growth(make_company(company), levers={"d1_rate": 0.5})
    assert not calls
    assert model.audience.now.dau.known
    assert calls == {"measure_activity": 1}
    assert model.missing
    assert model.acquisition.domains is None and model.acquisition.shift is None
    assert calls == {"measure_activity": 1}
    model.outlook.rates  # noqa: B018
    assert calls == {"measure_activity": 1, "measure_state_rates": 1}


@pytest.mark.parametrize(
    ("options", "recomputed"),
    [
        ({}, set()),
        ({"grain": "month"}, {"account_growth", "measure_tiers"}),
        ({"levers": {"d1_rate": 0.6}}, {"walk_users"}),
        ({"cohort_week": "2026-02-02"}, {"explain_change", "describe_segment"}),
        (
            {"compare_to": "2026-02-20", "days": 21},
            {
                "measure_activity", "measure_cohorts", "explain_change", "rank_behaviors", "describe_segment",
                "measure_channels", "measure_economics", "prepare_levers", "walk_users",
            },
        ),
    ],
)  # fmt: skip
def test_a_change_costs_what_depends_on_it(
    company: Company, calls: Counter[str], options: dict[str, Any], recomputed: set[str]
) -> None:
    data = make_company(company)
    model_growth(data).findings()
    calls.clear()
    model_growth(data, **options).findings()
    assert set(calls) == recomputed


def test_one_lever_is_simulated_by_itself_and_together_with_the_others(company: Company, calls: Counter[str]) -> None:
    data = make_company(company)
    tried = model_growth(data).outlook.levers.levers["lever"].tolist()
    assert {"base", "d1_rate", "d7_rate", "reactivation_rate", "all"} <= set(tried)
    calls.clear()
    model_growth(data, levers={"d1_rate": 0.6}).outlook.levers  # noqa: B018
    assert calls["walk_users"] == 2
    model_growth(data, levers={"d1_rate": 0.6}).outlook.levers  # noqa: B018
    assert calls["walk_users"] == 2


OPTIONS: list[dict[str, Any]] = [
    {},
    {"grain": "month", "levers": {"d7_rate": 0.5}},
    {"segment": "channel:search", "cohort_week": "2026-02-02", "cohort_age": 3},
]
PARTS: tuple[Callable[[GrowthModel], Any], ...] = (
    lambda m: m.outlook.levers,
    lambda m: m.staying.portrait,
    lambda m: m.cell and m.cell.portrait,
    lambda m: m.audience.tiers,
    lambda m: m.outlook.forecast,
    lambda m: m.findings(),
)


def test_findings_are_the_same_in_any_order_of_options_and_parts(company: Company) -> None:
    fresh = [model_growth(make_company(company), **options).findings() for options in OPTIONS]
    data, dice = make_company(company), random.Random(1)
    models = [model_growth(data, **options) for options in OPTIONS]
    todo = [(model, part) for model in models for part in PARTS]
    dice.shuffle(todo)
    for model, part in todo:
        part(model)
    assert [model.findings() for model in models] == fresh


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"as_of": "2027-01-01"}, "lies outside the data"),
        ({"segment": "channel:serch"}, "Did you mean 'search'?"),
        ({"levers": {"d2_rate": 0.5}}, "There is no lever 'd2_rate'"),
        ({"levers": {"d1_rate": 35}}, "write 35% as 0.35"),
        ({"levers": {"k_factor": -1.0}}, "cannot be below 0"),
        ({"cohort_week": "2026-02-03"}, "no week of new users begins on that day, but on 2026-02-02"),
        ({"cohort_week": "in May"}, "'in May' for cohort_week is not a date"),
        ({"cohort_week": "2026-04-06"}, "no week after it is over yet"),
        ({"cohort_week": "2026-03-30", "cohort_age": 2}, "there are 1 to 1, because later weeks are not over"),
        ({"cohort_week": "2026-02-02", "cohort_age": -1}, "cohort_age -1"),
    ],
)
def test_mistakes_are_told_at_once(company: Company, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        model_growth(make_company(company), **options)
    assert message in str(caught.value)


def test_a_cell_agrees_with_the_triangle_and_is_drawn(company: Company) -> None:
    data = make_company(company, users=1400)
    model = model_growth(data, cohort_week="2026-02-02", cohort_age=3)
    triangle = model.staying.triangle.triangle
    assert model.cell is not None and model.cell.portrait is not None and model.cell.explanation is not None
    for row in triangle[triangle["mature"] & (triangle["n"] > 0)].to_dict("records"):
        rows = data.execute(list_members(model.scope, row["cohort_start"].date(), row["n"]))
        assert (len(rows), rows["returned"].sum()) == (row["users_count"], row["retained_count"])
    overall = model.cell.explanation.overall
    assert (overall.now.numerator, overall.now.denominator) == (
        model.cell.change.now.numerator, model.cell.change.now.denominator,
    )  # fmt: skip
    assert overall.before.denominator == model.cell.change.before.denominator == model.cell.weeks["users_count"].sum()
    assert model.cell.portrait.segment_count == model.cell.change.now.numerator
    assert model.cell.portrait.numbers["attribute"].tolist() == ["age"]
    assert "channel" in set(model.cell.portrait.traits["attribute"])
    for show in (charts.plot_cell, charts.plot_triangle, tables.show_cell, tables.show_cell_users):
        view = show(model)
        assert isinstance(view, ChartView | ListView | TableView) and view._repr_mimebundle_()
    drawn = charts.plot_triangle(model)
    assert isinstance(drawn, ChartView)
    assert '{"cohort_week": "2026-02-02", "cohort_age": 3}' in set(drawn.frame["drill"])
    assert "drill" not in drawn.labels
    assert "outlined" in drawn.alt
    assert "Of the new users of the week from 2026-02-02" in str(tables.show_cell(model)._repr_mimebundle_())
    nothing = model_growth(data)
    assert nothing.cell is None and "none is chosen" in str(charts.plot_cell(nothing))


def test_a_week_far_off_is_low_and_one_of_many_like_it_is_not() -> None:
    """30% of 400 against 40% of 4,000: far off by chance alone, and nothing where weeks differ as much anyway."""
    alone = compare_with_others(120, 400, 1600, 4000)
    assert alone < 1e-3
    assert compare_with_others(120, 400, 1600, 4000, scatter=9, weeks_count=10) > 0.1
    # Fisher's exact test where counts are few: R's fisher.test(matrix(c(1, 9, 9, 21), 2)).
    assert compare_with_others(1, 10, 9, 30) == pytest.approx(0.4004, abs=1e-3)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Scope:
    from tests.data.company import open_events

    folder = tmp_path_factory.mktemp("small")
    return choose_scope(open_events(folder, [f"u{u},2026-0{m}-01 23:30:00,open" for u in (1, 2) for m in range(1, 7)]))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    days=st.sets(st.tuples(st.integers(1, 12), st.integers(0, 69)), min_size=1, max_size=80),
    week=st.integers(0, 6),
    age=st.integers(1, 3),
)
def test_members_of_a_cell_are_counted_one_by_one(
    small: Scope, days: set[tuple[int, int]], week: int, age: int
) -> None:
    table = ibis.memtable(
        {"user_id": [f"u{u}" for u, _ in days], "day": [START + dt.timedelta(n) for _, n in days]},
        schema={"user_id": "string", "day": "date"},
    )
    scope = small.narrow(now=False)
    scope.__dict__["active_days"] = table
    found = small.data.execute(list_members(scope, START + dt.timedelta(7 * week), age))
    expected = {}
    for user in {u for u, _ in days}:
        own = [n for u, n in days if u == user]
        if min(own) // 7 == week:
            expected[f"u{user}"] = any(n // 7 == week + age for n in own)
    assert dict(zip(found["user_id"], found["returned"], strict=True)) == expected


def test_a_choice_is_named(company: Company) -> None:
    assert CellChoice(START, 1).label == "back 1 week later"
    model = model_growth(make_company(company), cohort_week="2026-02-02")
    assert model.choice == CellChoice(dt.date(2026, 2, 2), 1)
    assert model.findings()[-1]["cohort_week"] == "2026-02-02"

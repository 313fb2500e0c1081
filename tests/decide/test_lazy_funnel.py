"""The funnel diagnosis computes what is asked for, remembers it, and says the same in any order; and its profile."""

from __future__ import annotations

import datetime as dt
import json
import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from opslib.data.source import Data
from opslib.decide.funnel import culprit, profile, stages, trial
from opslib.decide.funnel.diagnosis import FunnelDiagnosis, diagnose_funnel
from opslib.errors import InputError
from opslib.present.display import ChartView, TableView
from opslib.present.funnel import charts, tables
from tests.data.company import open_company
from tests.decide.conftest import Company

FIRST = dt.datetime(2024, 1, 1, 8)
STAGES = {
    stages: ("measure_funnel", "measure_conversion_curve", "list_arrivals", "count_outcomes", "explain_change"),
    culprit: ("make_trend", "look_at_end", "compare_repair"),
    profile: ("describe_segment",),
    trial: ("measure_experiment",),
}
FUNNEL = '[funnels.shop]\nsteps = ["view", "cart", "pay"]\nwindow_days = 3\n'


def make_company(company: Company) -> Data:
    """Four users a day view; most put something into the cart and pay; Android users stop paying in the last weeks."""
    dice, events, exposures, people = random.Random(0), [], [], []
    for n in range(4 * 80):
        at, platform = FIRST + dt.timedelta(days=n // 4), ("ios", "android")[n % 2]
        people.append(f"u{n},{at},{('search', 'ads')[n // 2 % 2]}")
        exposures += [f"u{n},{name},{('control', 'new')[n // 3 % 2]},{at}" for name in ("button", "price")]
        events.append(f"u{n},{at},view,{platform}")
        if dice.random() < 0.8:
            events.append(f"u{n},{at + dt.timedelta(minutes=10)},cart,{platform}")
            if dice.random() < (0.1 if platform == "android" and n > 200 else 0.7):
                events.append(f"u{n},{at + dt.timedelta(minutes=20)},pay,{platform}")
    return company(
        more=FUNNEL,
        events=("user_id,ts,event,platform", events),
        users=("user_id,signup_at,channel", people),
        exposures=("user_id,experiment,variant,ts", exposures),
    )


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
    diagnosis = diagnose_funnel(make_company(company))
    assert not calls
    charts.plot_steps(diagnosis)
    assert calls == {"measure_funnel": 2}
    charts.plot_curve(diagnosis)
    assert calls == {"measure_funnel": 2, "measure_conversion_curve": 1}
    assert diagnosis.trial is not None
    assert set(calls) == {"measure_funnel", "measure_conversion_curve", "measure_experiment"}


def read_all(diagnosis: FunnelDiagnosis) -> None:
    """Compute every part."""
    diagnosis.findings()
    assert diagnosis.culprit is not None
    assert len(diagnosis.culprit.trend) and (diagnosis.culprit.repair is None or diagnosis.culprit.fixed_on)


ONE_STEP = {"list_arrivals", "count_outcomes", "explain_change", "make_trend", "look_at_end", "describe_segment"}


@pytest.mark.parametrize(
    ("options", "recomputed"),
    [
        ({}, set()),
        ({"step": 3}, set()),
        ({"step": 2}, ONE_STEP - {"look_at_end"}),
        ({"breakdown": "channel"}, {"measure_funnel"}),
        ({"experiment": "price"}, {"measure_experiment"}),
        ({"fixed_on": "2024-03-01"}, {"compare_repair"}),
    ],
)
def test_a_change_costs_what_depends_on_it(
    company: Company, calls: Counter[str], options: dict[str, Any], recomputed: set[str]
) -> None:
    data = make_company(company)
    diagnosis = diagnose_funnel(data)
    read_all(diagnosis)
    assert (diagnosis.step, diagnosis.breakdown) == (3, "platform")
    assert diagnosis.trial is not None and diagnosis.trial.others == ("price",)
    calls.clear()
    changed = diagnose_funnel(data, **options)
    read_all(changed)
    # Another step may be broken down by another column.
    assert set(calls) - {"measure_funnel"} == recomputed - {"measure_funnel"}
    assert ("measure_funnel" in calls) == (changed.breakdown != "platform")


OPTIONS: list[dict[str, Any]] = [{}, {"step": 2, "fixed_on": "2024-03-01"}, {"segment": "channel:ads", "days": 28}]
PARTS: tuple[Callable[[FunnelDiagnosis], Any], ...] = (
    lambda d: d.profile,
    lambda d: d.trial,
    lambda d: d.culprit and d.culprit.trend,
    lambda d: d.now,
    lambda d: d.plan,
    lambda d: d.findings(),
)


def test_findings_are_the_same_in_any_order_of_options_and_parts(company: Company) -> None:
    fresh = [diagnose_funnel(make_company(company), **options).findings() for options in OPTIONS]
    data = make_company(company)
    todo = [(found, part) for found in [diagnose_funnel(data, **o) for o in OPTIONS] for part in PARTS]
    random.Random(1).shuffle(todo)
    for found, part in todo:
        part(found)
    assert [diagnose_funnel(data, **options).findings() for options in OPTIONS] == fresh


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"funnel": "shp"}, "There is no funnel 'shp'. Did you mean 'shop'?"),
        ({"step": 4}, "this funnel's steps to explain are 2 to 3"),
        ({"breakdown": "chanel"}, "Did you mean 'channel'?"),
        ({"experiment": "buton"}, "Did you mean 'button'?"),
        ({"fixed_on": "soon"}, "for fixed_on is not a date"),
        ({"segment": "channel:tv"}, "nobody has channel 'tv'"),
    ],
)
def test_mistakes_are_told_at_once(company: Company, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        diagnose_funnel(make_company(company), **options)
    assert message in str(caught.value)


def test_who_stops_is_told_and_drawn(company: Company) -> None:
    diagnosis = diagnose_funnel(make_company(company))
    result = diagnosis.profile
    assert result is not None
    steps = diagnosis.whole.steps.set_index("step")
    assert (result.segment, result.segment_count) == ("stopped before pay", steps.loc[3, "dropped_count"])
    assert result.rest_count == steps.loc[3, "converted_count"]
    assert result.traits.iloc[0]["attribute"] == "platform"
    assert result.findings()[0] in diagnosis.findings()
    assert isinstance(charts.plot_profile(diagnosis), ChartView)
    table = tables.show_profile(diagnosis)
    assert isinstance(table, TableView)
    assert table.frame.iloc[0]["clear"] == "yes" and table.frame.iloc[0]["group"].endswith(
        f"of {result.segment_count})"
    )
    drawn = charts.plot_steps(diagnosis)
    assert isinstance(drawn, ChartView)
    assert [json.loads(text) if text else {} for text in drawn.frame["drill"]] == [{}, {"step": 2}, {"step": 3}] * 2
    assert "drill" not in drawn.labels


def test_without_attributes_a_sentence_stands_in_its_place(company: Company) -> None:
    rows = [f"u{n},{FIRST + dt.timedelta(days=n // 4)},{event}" for n in range(200) for event in ("view", "pay")]
    diagnosis = diagnose_funnel(company(events=("user_id,ts,event", rows)), funnel="view > pay")
    assert diagnosis.profile is None
    for view in (charts.plot_profile(diagnosis), tables.show_profile(diagnosis)):
        assert "it needs" in str(view)


visits = st.lists(st.tuples(st.sampled_from("xyz"), st.booleans()), min_size=45, max_size=60)


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=visits)
def test_who_stops_is_counted_one_by_one(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, bool]]
) -> None:
    events, last = ["user_id,ts,event,kind"], FIRST + dt.timedelta(days=89, hours=15, minutes=30)
    for n, (kind, pays) in enumerate(rows):
        events.append(f"u{n},{FIRST + dt.timedelta(days=60)},view,{kind}")
        events += [f"u{n},{FIRST + dt.timedelta(days=61)},pay,{kind}"] if pays else []
    events += [f"first,{FIRST},view,x", f"first,{FIRST},pay,x", f"last,{last},other,x"]
    data = open_company(
        tmp_path_factory.mktemp("visits"),
        {"events.csv": "\n".join(events) + "\n"},
        '[tables.events]\nsource = "events.csv"\n',
        '[company]\nname = "Visits"\n',
    )
    result = diagnose_funnel(data, funnel="view > pay", days=42).profile
    stopped, went = Counter(k for k, p in rows if not p), Counter(k for k, p in rows if p)
    if result is None:
        assert len({k for k, _ in rows}) < 2
        return
    assert (result.segment_count, result.rest_count) == (stopped.total(), went.total())
    counted = result.shares.set_index("value")
    for value in counted.index:
        assert counted.loc[value, "segment_count"] == stopped[value]
        assert counted.loc[value, "rest_count"] == went[value]
    assert bool(result.note) == (min(stopped.total(), went.total()) < 20)

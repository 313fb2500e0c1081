"""Each parameter of each notebook has a control that shows any of its values and gives it back."""

from __future__ import annotations

from typing import Any

import pytest

from opslib.data.source import Data
from opslib.parameters import NOTEBOOKS, check_parameters
from opslib.present.widgets.choices import Choices, list_choices
from opslib.present.widgets.controls import OWN_STEPS, make_control
from opslib.present.widgets.labels import LABELS

VALUES: dict[str, list[Any]] = {
    "as_of": ["", "2026-05-01"],
    "breakdown": ["", "platform", "no_such_column"],
    "budget_amount": [0.0, 5000.0],
    "cohort_age": [0, 4],
    "cohort_week": ["", "2026-04-06", "1999-01-04"],
    "compare_to": ["", "2026Q1", "2026-03-31"],
    "days": [0, 28],
    "definition": ["", "orders"],
    "experiment": ["", "june_sale_2026", "unheard of"],
    "fixed_on": ["", "2026-05-01"],
    "funnel": ["", "checkout", "view_item > pay", "view_item > <img onerror=1 > pay"],
    "grain": ["week", "month"],
    "inactive_days": [0, 30],
    "incident_on": ["", "2026-05-20"],
    "lang": ["", "en", "zh"],
    "lever_cac_amount": [0.0, 80.0, 5000.0],
    "lever_d1_rate": [0.0, 0.35],
    "lever_d7_rate": [0.0, 0.255],
    "lever_k_factor": [0.0, 0.5, 7.0],
    "lever_reactivation_rate": [0.0, 0.1],
    "payment_node_days": [30, 0],
    "quarter": ["", "2026Q1", "1999Q1"],
    "return_rate": [0.25, 0.1],
    "segment": ["", "channel:social", "channel:<script>", "city_tier:tier_2", "nothing:here"],
    "signup_node_days": [7, 0],
    "step": [0, 3, 99],
    "threshold_rate": [0.05, 0.11],
    "times": [3, 1],
    "window_days": [0.0, 7.0],
}
CASES = [(slug, name) for slug, model in NOTEBOOKS.items() for name in model.model_fields if name != "playbook"]


@pytest.fixture(scope="module")
def choices(data: Data) -> Choices:
    return list_choices(data)


@pytest.mark.parametrize(("slug", "name"), CASES)
def test_control_shows_a_value_and_gives_it_back(slug: str, name: str, data: Data, choices: Choices) -> None:
    parameters = check_parameters(slug, {})
    control = make_control(name, parameters, data, choices, steps=["a", "b", "c"])
    told: list[Any] = []
    control.on_change(lambda who, value: told.append((who, value)))
    assert name in LABELS
    assert control.read() == getattr(parameters, name)
    for value in VALUES[name]:
        control.write(value)
        assert control.read() == value, value
        assert type(control.read()) is type(value)
    # Only somebody's own change is told, never ours.
    assert not told


def test_segment_is_told_once_it_is_whole(data: Data, choices: Choices) -> None:
    control = make_control("segment", check_parameters("50_daily_watch", {}), data, choices)
    told: list[Any] = []
    control.on_change(lambda who, value: told.append(value))
    column, listed, typed = control.widget.children
    column.value = "channel"
    assert not told
    assert listed.layout.display is None
    assert typed.layout.display == "none"
    listed.value = "social"
    assert told == ["channel:social"]
    column.value = "platform"
    assert told == ["channel:social"]
    column.value = ""
    assert told == ["channel:social", ""]


def test_long_lists_are_typed(data: Data, choices: Choices) -> None:
    many = Choices({"city": [(f"city {i}", 100 - i) for i in range(90)]}, [], [], [], [], [])
    control = make_control("segment", check_parameters("50_daily_watch", {}), data, many)
    told: list[Any] = []
    control.on_change(lambda who, value: told.append(value))
    column, listed, typed = control.widget.children
    column.value = "city"
    assert listed.layout.display == "none"
    typed.value = "city 5"
    assert told == ["city:city 5"]


def test_funnel_is_built_step_by_step(data: Data, choices: Choices) -> None:
    control = make_control("funnel", check_parameters("20_funnel_diagnosis", {}), data, choices)
    told: list[Any] = []
    control.on_change(lambda who, value: told.append(value))
    known, rows, more = control.widget.children
    known.value = OWN_STEPS
    assert not told
    first, second = rows.children
    first.children[0].value = "view_item"
    assert not told
    second.children[0].value = "pay"
    assert told == ["view_item > pay"]
    more.click()
    rows.children[2].children[0].value = "app_open"
    assert told[-1] == "view_item > pay > app_open"
    rows.children[1].children[1].click()
    assert told[-1] == "view_item > app_open"
    assert [r.children[0].description for r in rows.children] == ["Step 1", "Step 2"]
    known.value = ""
    assert told[-1] == ""


def test_choices_come_from_the_data(data: Data, choices: Choices) -> None:
    channel = dict(choices.segments["channel"])
    truth = data.execute(data.attributes.filter(data.attributes.channel == "social").count())
    assert channel["social"] == int(truth)
    assert "nan" not in dict(choices.segments["network"])
    assert choices.quarters[0] == "2026Q2"
    assert choices.funnels == list(data.playbook.funnels)
    assert set(choices.experiments) == {"checkout_one_page", "june_sale_2026", "onboarding_checklist"}
    assert len(choices.breakdowns) == len(set(choices.breakdowns))

"""Cases: drawn from a seed, sealed, scored; the truth is not in the learner's folder."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from opslib.errors import InputError
from opslib.run.execute import Job, run_notebooks
from opslib.run.training import training
from opslib.training.cases import folder as folders
from opslib.training.cases.case import open_case, read_case
from opslib.training.cases.costs import ACTIONS, measure_loss, price_actions
from opslib.training.cases.folder import make_case, measure_size
from opslib.training.cases.plan import CAUSES, LEFT, LEVELS, MOVED, CasePlan, Story, plan_case
from opslib.training.cases.sealed import make_salt, seal, seal_all
from opslib.training.progress import FILE, Progress

SEED = 2


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A case of a small company, made once."""
    small = plan_case(SEED, 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(folders, "plan_case", lambda *_: replace(small, settings=replace(small.settings, users=3000)))
        return make_case(SEED, 1, tmp_path_factory.mktemp("cases") / "mine")


@given(st.integers(0, 10_000), st.sampled_from(LEVELS))
@settings(max_examples=60)
def test_a_case_is_drawn_from_its_seed_alone(seed: int, level: int) -> None:
    plan = plan_case(seed, level)
    assert plan == plan_case(seed, level)
    assert plan.story.cause in CAUSES
    assert plan.story.start < plan.story.end == plan.settings.end
    assert plan.decoy is None or MOVED[plan.decoy.cause] != MOVED[plan.story.cause]
    assert 28 <= (plan.story.end - plan.story.start).days <= 35


def test_all_causes_come_up_and_levels_get_harder() -> None:
    assert MOVED.keys() == CAUSES.keys()
    assert {plan_case(seed, 2).story.cause for seed in range(40)} == CAUSES.keys()
    assert all(plan_case(seed, 1).decoy is None for seed in range(10))
    assert LEFT[1] < LEFT[2] < LEFT[3]


def test_impossible_levels_and_seeds_are_refused() -> None:
    with pytest.raises(InputError, match="level 4"):
        plan_case(1, 4)
    with pytest.raises(InputError, match="seed -1"):
        plan_case(-1, 1)


def test_sealed_answers_say_nothing_and_are_found_again() -> None:
    salt = make_salt(SEED, 1)
    sealed = seal_all(salt, "cause", [("release", 0)])
    assert "release" not in json.dumps(sealed)
    assert sealed[seal(salt, "cause", "release")] == 0
    assert seal(salt, "action", "release") not in sealed
    assert seal(make_salt(SEED + 1, 1), "cause", "release") not in sealed
    assert seal(salt, "group", {"a": "1", "b": "2"}) == seal(salt, "group", {"b": "2", "a": "1"})


def test_costs_by_hand() -> None:
    story = replace(plan_case(SEED, 1).story, cause="release")
    prices = price_actions(story, 10_000.0)
    assert prices["wait"] == 10_000
    assert prices["mend"] == ACTIONS["mend"].price_amount + 1_000
    assert min(prices, key=prices.__getitem__) == "mend"


def test_loss_by_hand() -> None:
    # 1,000 checkouts in 28 days, 40% paid where 80% would have: 400 orders lost.
    story = replace(plan_case(SEED, 1).story, cause="release")
    story = replace(story, end=story.start + timedelta(days=28))
    cells = {"segment_during": {"numerator": 400, "denominator": 1000, "rate": 0.4}}
    truth = {
        "incidents": [
            {"id": story.incidents[0].id, "changes": [{"realised": {"relative_change": 0.5, "cells": cells}}]}
        ]
    }
    assert measure_loss(story, truth, order_margin_amount=50.0) == pytest.approx(400 * 50)
    assert measure_size(story, truth) == 0.5


def test_folder_holds_no_truth(case: Path) -> None:
    story = plan_case(SEED, 1).story
    assert not list(case.rglob("truth.json"))
    for path in case.rglob("*"):
        if path.suffix in (".json", ".toml", ".ipynb"):
            text = path.read_text(encoding="utf-8")
            assert str(story.start) not in text
            assert f'"{story.cause}"' not in text
            assert not [value for value in story.group.values() if f'"{value}"' in text]


def answer_all(plan: CasePlan, *, cause: str = "") -> dict[str, object]:
    story = plan.story
    best = {"release": "mend", "price": "price", "traffic": "pause", "budget": "pause", "service": "service"}
    return {
        "cause": (cause or story.cause, 0.9),
        "group": story.group,
        "start": story.start.isoformat(),
        "action": best[story.cause],
    }


def test_right_answers_are_right_and_others_cost(case: Path) -> None:
    lesson = open_case(case / "case.json")
    for name, answer in answer_all(plan_case(SEED, 1)).items():
        assert lesson.ask(name).judge(answer).status == "right", name
    assert lesson.ask("cause").done.brier == pytest.approx(0.01)
    assert lesson.ask("action").done.regret_amount == 0
    lesson.progress = Progress()
    assert "more than the best" in lesson.ask("action").judge("coupons").reason
    regret = lesson.ask("action").done.regret_amount
    assert regret is not None and regret > 0
    assert lesson.ask("cause").judge(("season", 0.5)).status == "wrong"
    assert lesson.ask("cause").judge("season").status == "error"
    part = dict(list(plan_case(SEED, 1).story.group.items())[:1])
    assert "too wide" in lesson.ask("group").judge(part).reason
    assert (case / FILE).exists()


def test_both_languages_ask_the_same(case: Path) -> None:
    english, chinese = (open_case(case / "case.json", lang=language).plan for language in ("en", "zh"))
    assert list(english.questions) == list(chinese.questions)
    assert "来求助" in chinese.situation[0]
    open_case(case / "case.json", lang="en")


def test_seed_reveals_what_was_planted(case: Path) -> None:
    runner, story = CliRunner(), plan_case(SEED, 1).story
    told = runner.invoke(training, ["reveal", str(case), "--seed", str(SEED)])
    assert str(story.start) in told.output
    assert all(value in told.output for value in story.group.values())
    other = runner.invoke(training, ["reveal", str(case), "--seed", str(SEED + 1)])
    assert isinstance(other.exception, InputError)


def test_other_folders_are_left_alone(tmp_path: Path, case: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="holds something that is no case"):
        make_case(SEED, 1, tmp_path, force=True)
    with pytest.raises(InputError, match="holds a case already"):
        make_case(SEED, 1, case)
    assert (tmp_path / "mine.txt").read_text() == "mine"


def test_damaged_cases_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no case"):
        read_case(tmp_path / "case.json")
    (tmp_path / "case.json").write_text("{}")
    with pytest.raises(InputError, match="is no case, or was changed"):
        read_case(tmp_path / "case.json")
    (tmp_path / "case.json").write_text('{"version": 99}')
    with pytest.raises(InputError, match="version 99"):
        read_case(tmp_path / "case.json")


@pytest.mark.slow
@pytest.mark.parametrize("cause", CAUSES)
def test_what_is_planted_can_be_seen(cause: str, tmp_path: Path) -> None:
    """In the first level, what was simulated lies far beyond chance, and the best action is not to wait."""
    from opslib.data.sample_company import generate_sample

    plan = next(plan for seed in range(100) if (plan := plan_case(seed, 1)).story.cause == cause)
    generate_sample(tmp_path, settings=plan.settings, incidents=plan.incidents, processes=1)
    truth = json.loads((tmp_path / "truth.json").read_text())
    story: Story = plan.story
    errors = [
        abs(change["realised"]["standard_errors"])
        for incident in truth["incidents"]
        for change in incident["changes"]
        if "standard_errors" in change["realised"]
    ]
    assert max(errors) > 3
    prices = price_actions(story, measure_loss(story, truth, order_margin_amount=80.0))
    assert min(prices, key=prices.__getitem__) == answer_all(plan)["action"]


@pytest.mark.slow
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("cause", CAUSES)
def test_every_case_can_be_answered(cause: str, level: int, tmp_path: Path) -> None:
    """The form offers the right answers, and they pass."""
    seed = next(seed for seed in range(100, 200) if plan_case(seed, level).story.cause == cause)
    lesson = open_case(make_case(seed, level, tmp_path / "case") / "case.json")
    for name, answer in answer_all(plan_case(seed, level)).items():
        assert lesson.ask(name).judge(answer).status == "right", (seed, name)
    groups = lesson.plan.questions["group"].answer.shape.values
    assert all(len(values) > 1 for values in groups.values())


@pytest.mark.slow
@pytest.mark.parametrize("lang", ["en", "zh"])
def test_its_notebook_runs_unsolved(lang: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_case(11, 2, tmp_path / "case", lang=lang)
    monkeypatch.chdir(folder)
    (outcome,) = run_notebooks([Job("case", folder / "case.ipynb")])
    assert outcome.ok, outcome.cause
    shown = [
        output["data"].get("text/plain", "") for cell in outcome.notebook["cells"] for output in cell.get("outputs", [])
    ]
    assert {"en": "0 of 5 questions right", "zh": "5题答对0题"}[lang] in shown[-1]
    assert not (folder / FILE).exists()

"""The notebooks of the lessons: the steps of the lesson and nothing else; solved they pass, unsolved they run."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from opslib.data.source import open_data
from opslib.language import speak
from opslib.run.execute import Job, run_notebooks
from opslib.training.curriculum import LESSONS, find_lesson, name_lesson
from opslib.training.page import complete_code
from opslib.training.plan import LessonPlan, Look

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "notebooks" / "training"
FILES = {name: FOLDER / f"{number:02d}_{name}.ipynb" for number, name in enumerate(LESSONS, 1)}
PARAMETERS = ["playbook: str = ", "lang: str = ", "solve: bool = "]
START = """from opslib import training

lesson = training.start("{name}", lang=lang, solve=solve, playbook=playbook)
lesson.read()"""


@pytest.fixture(scope="module")
def plans() -> dict[str, LessonPlan]:
    data = open_data(ROOT / "playbook.toml")
    return {name: find_lesson(name)(data) for name in LESSONS}


def read_cells(path: Path) -> list[dict[str, Any]]:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return [cell | {"source": "".join(cell["source"])} for cell in cells]


def read_outputs(cells: list[dict[str, Any]]) -> list[str]:
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    return ["".join(output.get("data", {}).get("text/plain", "")) for output in outputs]


def test_each_lesson_has_its_notebook() -> None:
    assert sorted(FOLDER.glob("*.ipynb")) == sorted([FOLDER / "00_overview.ipynb", *FILES.values()])


@pytest.mark.parametrize("name", LESSONS)
def test_a_notebook_is_the_lessons_steps_in_order(name: str, plans: dict[str, LessonPlan]) -> None:
    title, parameters, start, *steps, finish = read_cells(FILES[name])
    with speak("zh"):
        chinese = name_lesson(name)
    assert title["source"].startswith(f"# {name_lesson(name)} · {chinese}\n")
    assert "Shift + Enter" in title["source"]
    assert parameters["metadata"]["tags"] == ["parameters"]
    lines = parameters["source"].splitlines()
    assert [line[: len(begin)] for line, begin in zip(lines, PARAMETERS, strict=True)] == PARAMETERS
    assert start["source"] == START.format(name=name)
    verbs = {step: "look" if isinstance(plan, Look) else "ask" for step, plan in plans[name].steps.items()}
    assert [cell["source"] for cell in steps] == [f'lesson.{verb}("{step}")' for step, verb in verbs.items()]
    assert finish["source"] == "lesson.finish()"


@pytest.mark.parametrize("name", LESSONS)
def test_stored_unsolved_and_without_an_error(name: str) -> None:
    """`make test` runs them again and compares."""
    cells = read_cells(FILES[name])
    assert not [o for cell in cells for o in cell.get("outputs", []) if o["output_type"] in ("error", "stream")]
    assert not [text for text in read_outputs(cells) if text.startswith(("Solution", "Right."))]
    assert read_outputs(cells)[-1].startswith("What to keep\n0 of ")


@pytest.mark.parametrize("name", LESSONS)
def test_what_a_page_tells_to_write_runs(
    name: str, plans: dict[str, LessonPlan], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    codes = {step: plan.code for step, plan in plans[name].steps.items() if isinstance(plan, Look) and plan.code}
    for code in codes.values():
        exec(complete_code(code), {})


@pytest.mark.slow
@pytest.mark.parametrize("lang", ["en", "zh"])
def test_solved_by_papermill_every_check_passes(lang: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    jobs = [Job(name, path, {"solve": True, "lang": lang}) for name, path in FILES.items()]
    for outcome in run_notebooks(jobs, env=dict(os.environ)):
        assert outcome.ok, (outcome.name, outcome.cause)
        texts = read_outputs(outcome.notebook["cells"])
        asked = sum('lesson.ask("' in cell["source"] for cell in outcome.notebook["cells"])
        right = [text for text in texts if text in ("Right.", "答对了。")]
        assert len(right) == asked, outcome.name
    assert not (ROOT / "training_progress.json").exists()

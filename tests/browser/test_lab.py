"""Exploring in JupyterLab, as somebody does it: what is on screen is what the library computes."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from opslib.data.source import Data, open_data
from opslib.parameters import NOTEBOOKS
from opslib.present.widgets.worker import LONGEST_WAIT_SECONDS
from opslib.run.publish import dump_json
from tests.browser.conftest import ROOT, SCREENSHOTS
from tests.browser.lab import LONG_MS, Lab, NotebookPage

EXPLORED = [slug for slug in NOTEBOOKS if slug != "00_start_here"]
GROWTH, FUNNEL = "10_growth_model", "20_funnel_diagnosis"
# Counts how often the main function is called, and can make it wait or fail.
COUNT = """
import time as _time
_calls, _wait, _compute = [], [0.0], {name}.compute
def _counted(data, **options):
    _calls.append(options)
    _time.sleep(_wait[0])
    return _compute(data, **options)
{name}.compute = _counted
print("null")
"""


@pytest.fixture(scope="module")
def data() -> Data:
    return open_data(ROOT / "playbook.toml")


@pytest.fixture(scope="module")
def funnel_page(browser: Any, lab: Lab) -> Iterator[NotebookPage]:
    """The funnel diagnosis, run once; tests leave it at its defaults."""
    opened = NotebookPage.open(browser, lab, FUNNEL)
    opened.run_all()
    yield opened
    opened.close()


@pytest.fixture
def funnel(funnel_page: NotebookPage) -> Iterator[NotebookPage]:
    funnel_page.show("controls")
    yield funnel_page
    if funnel_page.command != f"opslib report {FUNNEL}":
        funnel_page.show("controls")
        funnel_page.page.get_by_role("button", name="Reset").first.click()
        funnel_page.page.wait_for_function(
            "c => document.querySelector('.opslib-commands code')?.textContent === c", arg=f"opslib report {FUNNEL}",
            timeout=60_000,
        )  # fmt: skip


def shoot(opened: NotebookPage, state: str) -> None:
    opened.page.screenshot(path=SCREENSHOTS / f"lab-{opened.name}-{state}.png")


def run_opslib(lab: Lab, words: list[str], out: Path) -> bytes:
    """Run an `opslib` command in the folder that the lab serves; give its findings.json."""
    done = subprocess.run(
        [sys.executable, "-m", "opslib.run.cli", *words[1:], "--out", str(out)],
        cwd=lab.folder, capture_output=True, text=True, timeout=300, check=False, env=dict(os.environ),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return (out / "findings.json").read_bytes()


@pytest.mark.parametrize("slug", [*NOTEBOOKS])
def test_notebook_runs_with_controls_that_everybody_can_use(browser: Any, lab: Lab, slug: str) -> None:
    opened = NotebookPage.open(browser, lab, slug)
    try:
        opened.run_all()
        assert not opened.find_problems()
        shoot(opened, "top")
        if slug in EXPLORED:
            opened.show("controls")
            shoot(opened, "controls")
            nameless = opened.page.evaluate(
                """() => [...document.querySelectorAll(
                     '.opslib-controls :is(input, select, button, [role=slider])')]
                   .filter(e => e.offsetParent && !(e.getAttribute('aria-label') || e.title || e.textContent.trim()
                     || (e.id && document.querySelector(`label[for="${e.id}"]`)?.textContent.trim())))
                   .map(e => e.outerHTML.slice(0, 200))"""
            )
            assert not nameless
            first = opened.read_texts()
            # Each chart is drawn where it is looked at, sharp and readable for machines.
            outputs = opened.read_outputs()
            charts = [c for c, shown in outputs.items() if any("image/png" in o.get("data", {}) for o in shown)]
            assert len(charts) >= 1
            for cell in charts:
                opened.show(cell)
                drawn = opened.page.locator(".vega-embed svg.marks")
                drawn.first.wait_for(state="attached", timeout=20_000)
            shoot(opened, "chart")
            opened.restart()
            opened.run_all()
            assert not opened.find_problems()
            assert opened.read_texts() == first
        assert not opened.complaints
    finally:
        opened.close()


def test_segment_changes_the_answer_and_the_chart(funnel: NotebookPage, data: Data) -> None:
    from opslib import diagnose_funnel
    from opslib.present.answers import describe
    from opslib.present.funnel.charts import plot_steps

    funnel.choose("Users", "channel")
    funnel.choose("Value", "social (")
    funnel.wait_for_command("--segment channel:social")
    diagnosis = diagnose_funnel(data, segment="channel:social")
    texts = funnel.read_texts()
    for sentence in describe(diagnosis):
        assert sentence in texts["answer"]
    assert texts["steps"].startswith(plot_steps(diagnosis).title)
    shown = funnel.page.locator(".opslib-answer").first.inner_text()
    assert describe(diagnosis)[0] in shown
    assert "up to date" in funnel.status
    funnel.show("steps")
    title = funnel.page.locator(".vega-embed svg.marks").first.text_content()
    assert plot_steps(diagnosis).title[:40] in title
    shoot(funnel, "segment")


def test_click_on_a_step_explains_it(funnel: NotebookPage, data: Data) -> None:
    from opslib import diagnose_funnel
    from opslib.present.answers import describe

    funnel.show("steps")
    assert funnel.click_mark('"step": 2') == {"step": 2}
    funnel.wait_for_command("--step 2")
    funnel.show("controls")
    assert funnel.control("Step to explain").evaluate("e => e.selectedOptions[0].textContent").startswith("2")
    diagnosis = diagnose_funnel(data, step=2)
    texts = funnel.read_texts()
    for sentence in describe(diagnosis):
        assert sentence in texts["answer"]
    funnel.show("profile")
    shoot(funnel, "drill")


def test_click_on_a_cohort_shows_its_users_and_levers_slide(browser: Any, lab: Lab, data: Data) -> None:
    from opslib import model_growth
    from opslib.present.growth import charts, tables

    opened = NotebookPage.open(browser, lab, GROWTH)
    try:
        opened.run_all()
        opened.show("triangle")
        wanted = opened.click_mark('"cohort_age": 4')
        opened.wait_for_command(f"--cohort-week {wanted['cohort_week']}", "--cohort-age 4")
        growth = model_growth(data, **wanted)
        shown = opened.read_outputs()["cell-table"][0]["data"]["text/plain"]
        assert "".join(shown) == tables.show_cell(growth)._repr_mimebundle_()["text/plain"]
        opened.show("triangle")
        shoot(opened, "cohort")

        opened.show("levers-controls")
        slider = opened.page.get_by_role("slider", name="Next-day retention")
        slider.focus()
        for _ in range(12):
            opened.page.keyboard.press("ArrowRight")
        opened.wait_for_command("--lever-d1-rate 0.06")
        growth = model_growth(data, **wanted, levers={"d1_rate": 0.06})
        texts = opened.read_texts()
        assert texts["levers"].startswith(charts.plot_levers(growth).title)
        # The kernel sends no picture of a changed chart: JupyterLab makes the one that is saved.
        opened.show("levers")
        assert opened.read_outputs()["levers"][0]["data"]["image/png"]
        assert texts["levers-table"] == tables.show_levers(growth)._repr_mimebundle_()["text/plain"]
        shoot(opened, "levers")
        assert not opened.complaints
    finally:
        opened.close()


def test_copied_command_and_saved_view_give_the_same_findings(funnel: NotebookPage, lab: Lab, tmp_path: Path) -> None:
    funnel.control("Days").fill("28")
    funnel.control("Days").press("Enter")
    funnel.wait_for_command("--days 28")
    funnel.page.get_by_role("button", name="Copy as opslib report").click()
    copied = funnel.page.evaluate("() => navigator.clipboard.readText()")
    assert copied == funnel.command
    written = run_opslib(lab, shlex.split(copied), tmp_path / "copied")

    # What was on screen, as its own findings say it.
    on_screen = funnel.ask("from opslib.run.publish import dump_json; print(dump_json(diagnosis.result.findings()))")
    notebook = json.loads(written)["notebooks"][FUNNEL]
    assert notebook["parameters"]["days"] == 28
    assert on_screen == notebook["findings"]

    funnel.page.get_by_label("Name of the view").first.fill("four-weeks")
    funnel.page.get_by_role("button", name="Save view").first.click()
    funnel.page.wait_for_function(
        "() => [...document.querySelectorAll('.opslib-status')].some(s => s.textContent.includes('--view four-weeks'))"
    )
    shoot(funnel, "saved")
    assert run_opslib(lab, ["opslib", "report", "--view", "four-weeks"], tmp_path / "view") == written

    funnel.page.get_by_role("button", name="Copy as papermill").click()
    line = shlex.split(funnel.page.evaluate("() => navigator.clipboard.readText()"))
    done = subprocess.run(
        [sys.executable, "-m", "papermill", *line[1:]],
        cwd=lab.folder, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    ran = json.loads((lab.folder / "out.ipynb").read_text("utf-8"))
    answers = [o["metadata"] for c in ran["cells"] for o in c.get("outputs", []) if o.get("metadata")]
    found = [value["findings"] for metadata in answers for key, value in metadata.items() if "findings" in key]
    assert json.loads(dump_json(found[0])) == notebook["findings"]


def test_thirty_changes_in_three_seconds_end_in_the_last(funnel: NotebookPage) -> None:
    funnel.ask(COUNT.format(name="diagnosis"))
    box = funnel.control("Days")
    start = time.monotonic()
    for days in range(21, 51):
        box.fill(str(days))
        box.press("Enter")
        funnel.page.wait_for_timeout(max(0, 100 * (days - 20) - 1000 * (time.monotonic() - start)))
    took_seconds = time.monotonic() - start
    funnel.wait_for_command("--days 50")
    assert funnel.ask("import json; print(json.dumps(diagnosis.parameters.days))") == 50
    assert funnel.ask("import json; print(json.dumps([c['days'] for c in _calls][-1]))") == 50
    assert funnel.ask("import json; print(json.dumps(len(_calls)))") <= 3 + took_seconds / LONGEST_WAIT_SECONDS
    funnel.ask("diagnosis.compute = _compute; print('null')")


def test_failure_is_said_beside_the_controls_which_stay_usable(funnel: NotebookPage) -> None:
    before = funnel.read_texts()
    box = funnel.control("Compare with")
    box.fill("2031-01-01")
    box.press("Enter")
    status = funnel.page.locator(".opslib-status").first
    status.get_by_text("lies outside the data").wait_for(timeout=30_000)
    assert status.get_attribute("role") == "status"
    assert funnel.read_texts() == before
    assert funnel.command == f"opslib report {FUNNEL}"
    shoot(funnel, "failure")
    box.fill("")
    box.press("Enter")
    status.get_by_text("up to date").wait_for(timeout=LONG_MS)
    assert funnel.read_texts() == before


def test_long_work_can_be_stopped(funnel: NotebookPage) -> None:
    before = funnel.read_texts()
    funnel.ask(COUNT.format(name="diagnosis") + "\n_wait[0] = 3.0")
    box = funnel.control("Days")
    box.fill("56")
    box.press("Enter")
    stop = funnel.page.get_by_role("button", name="Stop").first
    funnel.page.wait_for_timeout(1200)
    assert stop.is_enabled()
    # The old results stay, paler, until there are new ones.
    assert funnel.page.locator(".opslib-waiting").count() >= 1
    shoot(funnel, "waiting")
    stop.click()
    funnel.page.locator(".opslib-status").first.get_by_text("Stopped").wait_for(timeout=10_000)
    funnel.page.wait_for_timeout(3000)
    assert funnel.page.locator(".opslib-waiting").count() == 0
    assert funnel.read_texts() == before
    funnel.ask("diagnosis.compute = _compute; print('null')")
    box.fill("0")
    box.press("Enter")
    funnel.page.locator(".opslib-status").first.get_by_text("up to date").wait_for(timeout=LONG_MS)

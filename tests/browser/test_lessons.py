"""A lesson in JupyterLab, as a learner works it: no code, only the forms."""

from __future__ import annotations

import json
from typing import Any

from opslib.data.source import open_data
from opslib.training.curriculum import find_lesson
from opslib.training.progress import FILE
from tests.browser.conftest import ROOT, SCREENSHOTS
from tests.browser.lab import LONG_MS, Lab, NotebookPage

LESSON = "training/01_read_a_funnel"


def wait_for(opened: NotebookPage, text: str) -> None:
    opened.page.get_by_text(text).first.wait_for(timeout=LONG_MS)


def test_a_question_is_answered_in_its_form_and_goes_on_another_day(browser: Any, lab: Lab) -> None:
    question = find_lesson("read_a_funnel")(open_data(ROOT / "playbook.toml")).questions["overall"]
    wrong = question.answer.mistakes[0]
    opened = NotebookPage.open(browser, lab, LESSON)
    opened.run_all()
    assert opened.find_problems() == []
    opened.show("overall")
    form = opened.page.locator(".jp-OutputArea").filter(has_text="Question 1 of").last
    check = form.get_by_role("button", name="Check")

    check.click()
    wait_for(opened, "Give an answer first.")
    form.get_by_label("Your answer").fill("many")
    check.click()
    wait_for(opened, "This could not be read as an answer")
    form.get_by_label("Your answer").fill(f"{wrong.answer:.2f}")
    check.click()
    wait_for(opened, wrong.reason)
    assert form.get_by_role("button", name="Show the solution").is_disabled()
    form.get_by_role("button", name="Hint").click()
    wait_for(opened, question.hints[0])
    form.get_by_label("Your answer").fill(f"{question.answer.right:.1f} %")
    check.click()
    form.get_by_text("Right.").first.wait_for(timeout=LONG_MS)
    opened.page.screenshot(path=SCREENSHOTS / "lab-lesson-form.png")
    kept = json.loads((lab.folder / FILE).read_text(encoding="utf-8"))["lessons"]["read_a_funnel"]["overall"]
    assert {k: kept[k] for k in ("tries", "errors", "hints", "right", "shown")} == {
        "tries": 2, "errors": 1, "hints": 1, "right": True, "shown": False,
    }  # fmt: skip

    opened.restart()
    opened.run_all()
    opened.show("overall")
    wait_for(opened, "Right. Tries: 2.")
    assert opened.complaints == []
    opened.close()

    overview = NotebookPage.open(browser, lab, "training/00_overview")
    overview.run_all()
    wait_for(overview, "begun: 1 of 6 questions right (tries: 2, hints: 1)")
    overview.page.screenshot(path=SCREENSHOTS / "lab-training-overview.png")
    overview.page.get_by_role("link", name="1. Read a funnel").click()
    overview.page.wait_for_function(
        "() => window.jupyterapp.shell.currentWidget?.context?.path.endsWith('01_read_a_funnel.ipynb')", timeout=LONG_MS
    )
    overview.close()

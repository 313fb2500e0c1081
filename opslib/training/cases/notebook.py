"""The notebook of a case: what happened, the playbook's own functions to look with, and the questions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

TITLE = """# A case to solve · 案例练习

Run the cells from top to bottom (Shift + Enter). Each section has controls: choose a group, a period or a step, and all
of it follows.

从上到下逐格运行（Shift + Enter）。每一节都有控件：换用户群、周期或步骤，下面的内容跟着变化。"""
OPEN = """import opslib
from opslib import training

lang = ""  # en or zh; empty: as the playbook says
case = training.open_case("case.json", lang=lang)
case.read()"""
FUNNEL = """from opslib.present.funnel import charts, tables

data = opslib.open_data("playbook.toml")
chosen = {"days": 35, "lang": lang}
buying = opslib.explore(opslib.diagnose_funnel, data, opslib.load_parameters("20_funnel_diagnosis", chosen))
buying.show_controls("segment", "step", "breakdown", "as_of", "days")"""
GROWTH = """from opslib.present.growth import charts, tables

growth = opslib.explore(opslib.model_growth, data, opslib.load_parameters("10_growth_model", chosen))
growth.show_controls("segment", "as_of", "days", "compare_to")"""
VOICE = """from opslib.present.crisis import charts, tables

voice = opslib.explore(opslib.investigate_voice, data, opslib.load_parameters("55_voice_and_crisis", chosen))
voice.show_controls("segment", "as_of", "days", "incident_on")"""
# Heading, the cell that opens it, and what is looked at.
SECTIONS: tuple[tuple[str, str, str, Sequence[str]], ...] = (
    (
        "## Who buys, and who does not · 谁买了，谁没买", "buying", FUNNEL,
        ("opslib.show_answer", "charts.plot_steps", "tables.show_causes", "charts.plot_trend", "charts.plot_breakdown"),
    ),
    (
        "## Who comes, and who stays · 谁来了，谁留下", "growth", GROWTH,
        ("opslib.show_answer", "tables.show_metrics", "tables.show_causes", "charts.plot_budget_shift",
         "tables.show_budget_shift"),
    ),
    (
        "## Who complains · 谁在投诉", "voice", VOICE,
        ("opslib.show_answer", "charts.plot_complaints", "tables.show_categories", "tables.show_segments"),
    ),
)  # fmt: skip
ANSWER = "## Your answer · 您的回答"
QUESTIONS = ("cause", "group", "start", "size", "action")


def write_notebook(path: Path) -> None:
    """Write the notebook, not yet run."""
    import nbformat

    def code(name: str, source: str) -> nbformat.NotebookNode:
        cell = nbformat.v4.new_code_cell(source)
        cell.id = name.replace(".", "-").replace("_", "-")
        return cell

    def text(name: str, source: str) -> nbformat.NotebookNode:
        cell = nbformat.v4.new_markdown_cell(source)
        cell.id = name
        return cell

    cells = [text("title", TITLE), code("open", OPEN)]
    for heading, name, start, looks in SECTIONS:
        cells += [text(f"{name}-heading", heading), code(name, start)]
        cells += [code(f"{name}-{look.partition('.')[2]}", f"{name}.show({look})") for look in looks]
    cells += [text("answer", ANSWER), *(code(f"ask-{name}", f'case.ask("{name}")') for name in QUESTIONS)]
    cells.append(code("finish", "case.finish()"))
    kernel = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel}), path)

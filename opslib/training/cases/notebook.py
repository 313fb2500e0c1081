"""The notebook of a case: what happened, the playbook's own functions to look with, and the questions."""

from __future__ import annotations

from pathlib import Path

TITLE = "# A case to solve · 案例练习"
START = """import opslib
from opslib import training

lang = ""  # en or zh; empty: as the playbook says
case = training.open_case("case.json", lang=lang)
case.read()"""
FUNNEL = """data = opslib.open_data("playbook.toml")
funnel = opslib.explore(opslib.diagnose_funnel, data, opslib.check_parameters("20_funnel_diagnosis", {}))
funnel.show_controls("funnel", "segment", "step", "breakdown", "as_of", "days")"""
GROWTH = """growth = opslib.explore(opslib.model_growth, data, opslib.check_parameters("10_growth_model", {}))
growth.show_controls("segment", "as_of", "days", "compare_to")"""
VOICE = """voice = opslib.explore(opslib.investigate_voice, data, opslib.check_parameters("55_voice_and_crisis", {}))
voice.show_controls("as_of", "days", "incident_on", "segment")"""
LOOKS = (
    ("funnel", FUNNEL),
    ("funnel-answer", "funnel.show(opslib.show_answer)"),
    ("funnel-causes", "from opslib.present.funnel import charts, tables\n\nfunnel.show(tables.show_causes)"),
    ("growth", GROWTH),
    ("growth-answer", "growth.show(opslib.show_answer)"),
    ("voice", VOICE),
    ("voice-answer", "voice.show(opslib.show_answer)"),
)
QUESTIONS = ("cause", "group", "start", "size", "action")


def write_notebook(path: Path) -> None:
    """Write the notebook, not yet run."""
    import nbformat

    def code(name: str, source: str) -> nbformat.NotebookNode:
        cell = nbformat.v4.new_code_cell(source)
        cell.id = name
        return cell

    title = nbformat.v4.new_markdown_cell(TITLE)
    title.id = "title"
    cells = [title, code("open", START), *(code(name, source) for name, source in LOOKS)]
    cells += [code(name, f'case.ask("{name}")') for name in QUESTIONS]
    cells.append(code("finish", "case.finish()"))
    kernel = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel}), path)

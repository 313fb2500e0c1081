"""The committed notebooks keep the house rules: order of sections, no logic, parameters defined once, clean files."""

from __future__ import annotations

import ast
import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from opslib.parameters import NOTEBOOKS

FOLDER = Path(__file__).resolve().parents[1] / "notebooks"
PATHS = sorted(p for p in FOLDER.glob("*.ipynb"))
MOST_LINES = 12
MOST_BYTES = 400_000
SECTIONS = ["Data needed", "Check and derive", "Controls", "Answer", "Limits", "Next action"]


def read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def code_cells(notebook: dict[str, Any]) -> list[dict[str, Any]]:
    return [c for c in notebook["cells"] if c["cell_type"] == "code"]


def source(cell: dict[str, Any]) -> str:
    return "".join(cell["source"])


def test_each_notebook_has_parameters_and_each_parameters_a_notebook() -> None:
    assert {p.stem for p in PATHS} == set(NOTEBOOKS)


@pytest.mark.parametrize("path", PATHS, ids=lambda p: p.stem)
class TestNotebook:
    def test_parameters_cell_is_the_definition(self, path: Path) -> None:
        """Names, types, defaults and comments of the cell are those of the class, in its order."""
        tagged = [c for c in code_cells(read(path)) if "parameters" in c["metadata"].get("tags", [])]
        assert len(tagged) == 1
        lines = source(tagged[0]).splitlines()
        fields = NOTEBOOKS[path.stem].model_fields
        expected = [
            f"{name}: {field.annotation.__name__} = {json.dumps(field.default)}  # {field.description}"  # type: ignore[union-attr]
            for name, field in fields.items()
        ]
        assert lines == expected
        # Papermill loses a parameter whose comment holds an equals sign.
        assert all("=" not in line.partition("#")[2] for line in lines)

    def test_sections_in_the_agreed_order(self, path: Path) -> None:
        text = "\n".join(source(c) for c in read(path)["cells"] if c["cell_type"] == "markdown")
        assert text.startswith("# ")
        assert "**The question.**" in text
        assert "**Who decides.**" in text
        headings = re.findall(r"^## (.+)$", text, flags=re.MULTILINE)
        found = [next(s for s in SECTIONS if h.startswith(s)) for h in headings if h.startswith(tuple(SECTIONS))]
        # The first notebook has nothing to explore.
        assert found == [s for s in SECTIONS if s != "Controls" or path.stem != "00_start_here"]

    def test_every_parameter_has_a_control(self, path: Path) -> None:
        shown = [
            ast.literal_eval(argument)
            for cell in code_cells(read(path))
            for call in ast.walk(ast.parse(source(cell)))
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == "show_controls"
            for argument in call.args
        ]
        # The language is offered beside the first controls of every notebook.
        assert sorted(shown) == sorted(set(NOTEBOOKS[path.stem].model_fields) - {"playbook", "lang"})

    def test_no_logic(self, path: Path) -> None:
        for cell in code_cells(read(path)):
            text = source(cell)
            assert len(text.splitlines()) <= MOST_LINES or "parameters" in cell["metadata"].get("tags", [])
            for node in ast.walk(ast.parse(text)):
                assert not isinstance(
                    node, ast.FunctionDef | ast.ClassDef | ast.For | ast.While | ast.If | ast.Lambda | ast.ListComp
                ), text
            assert not re.search(r"\bselect\b.+\bfrom\b|<style|today\(|now\(", text, flags=re.IGNORECASE | re.DOTALL)

    def test_evidence_says_how_to_read_it(self, path: Path) -> None:
        """A section that shows a chart or a table says how to read it."""
        cells = read(path)["cells"]
        for before, cell in pairwise(cells):
            shows = cell["cell_type"] == "code" and re.match(r"(\w+\.show\()?(charts|tables)\.", source(cell))
            if shows and before["cell_type"] == "markdown":
                assert "How to read it" in source(before), source(cell)

    def test_committed_with_results_and_nothing_else(self, path: Path) -> None:
        notebook = read(path)
        assert path.stat().st_size < MOST_BYTES
        assert not {"papermill", "widgets"} & set(notebook["metadata"])
        shown = [
            c for c in code_cells(notebook) if re.match(r"(\w+\.show\()?(charts|tables|answers|opslib)\.", source(c))
        ]
        assert shown
        assert all(c["outputs"] for c in shown)
        assert not any(o["output_type"] in ("error", "stream") for c in code_cells(notebook) for o in c["outputs"])
        assert "/home/" not in path.read_text(encoding="utf-8")

"""Committed notebooks: results in, traces of the run out."""

from __future__ import annotations

import copy
from pathlib import Path

import nbformat
import pytest
from click.testing import CliRunner

from opslib.errors import OpslibError
from opslib.run import notebooks as module
from opslib.run.notebooks import dump_notebook, find_differences, read_notebook, refresh_notebooks, strip_notebook
from tests.run import fakes


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Notebooks that were refreshed once."""
    folder = fakes.write_good_notebooks(tmp_path_factory.mktemp("repository") / "notebooks", charts=1)
    assert all(one.differences for one in refresh_notebooks(folder))
    return folder


def test_results_are_stored_without_the_run(folder: Path) -> None:
    path = folder / "40_quarterly_review.ipynb"
    text = path.read_text("utf-8")
    notebook = read_notebook(path)
    nbformat.validate(notebook)
    assert notebook.metadata == {"kernelspec": module.KERNEL, "language_info": {"name": "python"}}
    assert "papermill" not in text
    assert "injected-parameters" not in text
    assert "Revenue rose by 12%" in text
    assert [c.id for c in notebook.cells] == [f"cell-{i}" for i in range(len(notebook.cells))]
    assert [c.execution_count for c in notebook.cells if c.cell_type == "code"] == [1, 2, 3, 4]


def test_notebooks_run_in_the_folder_above(folder: Path) -> None:
    assert f"{folder.parent}\\n" in (folder / "00_start_here.ipynb").read_text("utf-8")


def test_refreshing_again_changes_nothing(folder: Path) -> None:
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    assert not any(one.differences for one in refresh_notebooks(folder))
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before


def test_check_finds_a_changed_number_and_leaves_the_file(folder: Path, tmp_path: Path) -> None:
    changed = tmp_path / "notebooks"
    changed.mkdir()
    path = changed / "40_quarterly_review.ipynb"
    notebook = read_notebook(folder / path.name)
    shown = notebook.cells[2].outputs[0].data
    shown["text/plain"] = shown["text/plain"].replace("12%", "13%")
    text = dump_notebook(notebook)
    path.write_text(text, "utf-8")
    result = CliRunner().invoke(module.main, ["--check", "--folder", str(changed)])
    assert result.exit_code == 1
    assert "cell 3: its output would change" in result.output
    assert path.read_text("utf-8") == text


def test_failing_notebook_is_named(failing_notebooks: Path, tmp_path: Path) -> None:
    before = {p.name: p.read_bytes() for p in failing_notebooks.iterdir()}
    with pytest.raises(OpslibError, match=r"40_quarterly_review.ipynb does not run: ValueError: no"):
        refresh_notebooks(failing_notebooks, check=True)
    assert {p.name: p.read_bytes() for p in failing_notebooks.iterdir()} == before


def test_too_large_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LARGEST_BYTES", 100)
    with pytest.raises(OpslibError, match="would take"):
        refresh_notebooks(folder, check=True)


def make_used_notebook() -> nbformat.NotebookNode:
    """A notebook as somebody leaves it after an afternoon in JupyterLab."""
    cell = nbformat.v4.new_code_cell("1 + 1")
    cell.execution_count = 57
    cell.metadata.update({"execution": {"iopub.execute_input": "2026"}, "tags": [], "scrolled": True})
    data = {"text/plain": "2", "application/vnd.jupyter.widget-view+json": {"model_id": "x"}}
    cell.outputs = [nbformat.v4.new_output("execute_result", data=data, execution_count=57)]
    empty = nbformat.v4.new_code_cell("")
    notebook = nbformat.v4.new_notebook(cells=[cell, empty])
    notebook.metadata.update({"widgets": {"state": {}}, "papermill": {}, "lang": "zh", "kernelspec": {"name": "mine"}})
    return notebook


def test_stripping_keeps_outputs() -> None:
    used = make_used_notebook()
    before = copy.deepcopy(used)
    stripped = strip_notebook(used)
    assert used == before
    assert stripped.cells[0].outputs[0].data == {"text/plain": "2"}
    assert stripped.cells[0].execution_count == stripped.cells[0].outputs[0].execution_count == 1
    assert stripped.cells[0].metadata == {}
    assert stripped.cells[1].execution_count is None
    assert stripped.metadata == {"lang": "zh", "kernelspec": module.KERNEL, "language_info": {"name": "python"}}
    assert strip_notebook(stripped) == stripped
    assert find_differences(used, stripped) == []


def test_pictures_and_last_digits_are_no_difference() -> None:
    def make(value: float, picture: str) -> nbformat.NotebookNode:
        cell = nbformat.v4.new_code_cell("plot()")
        cell.outputs = [
            nbformat.v4.new_output(
                "display_data", data={"application/vnd.x+json": {"x": [value]}, "image/png": picture}
            )
        ]
        return nbformat.v4.new_notebook(cells=[cell])

    assert find_differences(make(0.3, "A"), make(0.1 + 0.2, "B")) == []
    assert find_differences(make(0.3, "A"), make(0.31, "A")) == ["cell 1: its output would change"]
    assert find_differences(make(0.3, "A"), nbformat.v4.new_notebook()) == ["1 cells stored, 0 now"]


def test_strip_from_the_command_line(tmp_path: Path) -> None:
    path = tmp_path / "x.ipynb"
    nbformat.write(make_used_notebook(), path)
    assert CliRunner().invoke(module.main, ["--strip", str(path)]).exit_code == 0
    once = path.read_bytes()
    assert path.read_text("utf-8") == dump_notebook(strip_notebook(read_notebook(path)))
    assert CliRunner().invoke(module.main, ["--strip", str(path)]).output == ""
    assert path.read_bytes() == once


def test_what_is_no_notebook_is_said(tmp_path: Path) -> None:
    path = tmp_path / "x.ipynb"
    path.write_text("{}")
    with pytest.raises(OpslibError, match="is not a notebook"):
        read_notebook(path)

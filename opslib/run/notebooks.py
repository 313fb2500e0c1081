"""Keep the committed notebooks true: run them again on the sample company and store their results (`make
notebooks`).

A committed notebook holds its outputs, so that a reader on a code host sees them, and nothing of the run that
made them: no times, no machine, no widget state. Only then does a difference in the file mean a difference in
the results.
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from opslib.errors import OpslibError
from opslib.parameters import NOTEBOOKS
from opslib.run.pictures import shrink_picture

if TYPE_CHECKING:
    from nbformat import NotebookNode

LARGEST_BYTES = 400_000
KERNEL = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
WIDGET_MIME = "application/vnd.jupyter.widget-view+json"

# What a run, not an author, writes into notebooks and cells.
RUN_METADATA = ("papermill", "execution", "ExecuteTime", "widgets", "collapsed", "scrolled", "vscode")


@dataclass(frozen=True)
class Refreshed:
    """What a new run did to one notebook: `differences` are lines, none if the meaning is the same."""

    path: Path
    differences: tuple[str, ...]


def refresh_notebooks(folder: Path, *, check: bool = False) -> list[Refreshed]:
    """Run the notebooks with default parameters, from the folder above theirs, and store the results.

    Args:
        folder: where the notebooks are; those of the registry that it does not hold are left out. Lessons are in its
            folder `training`.
        check: compare only, and write nothing.

    Returns:
        One entry a notebook, in report order.

    Raises:
        OpslibError: a notebook failed, or grew too large to commit; files already stored stay.
    """
    from opslib.run.execute import Job, run_notebooks

    folder = folder.resolve()
    paths = [path for slug in NOTEBOOKS if (path := folder / f"{slug}.ipynb").is_file()]
    paths += sorted((folder / "training").glob("*.ipynb"))
    before = Path.cwd()
    os.chdir(folder.parent)
    try:
        outcomes = run_notebooks([Job(path.stem, path) for path in paths])
    finally:
        os.chdir(before)
    refreshed = []
    for path, outcome in zip(paths, outcomes, strict=True):
        if not outcome.ok:
            raise OpslibError(f"{path.name} does not run: {outcome.cause}.")
        stored = read_notebook(path)
        fresh = strip_notebook(outcome.notebook)
        text = dump_notebook(fresh)
        if (size := len(text.encode())) > LARGEST_BYTES:
            raise OpslibError(
                f"{path.name} would take {size // 1000} kB; at most {LARGEST_BYTES // 1000} kB are committed."
            )
        refreshed.append(Refreshed(path, tuple(find_differences(stored, fresh))))
        # Pictures may differ in bytes from machine to machine: the same meaning leaves the file alone.
        if not check and (refreshed[-1].differences or stored != strip_notebook(stored)):
            write_text(path, text)
    return refreshed


def strip_notebook(notebook: NotebookNode) -> NotebookNode:
    """Copy a notebook without what a run left in it; outputs stay, cell ids are settled.

    Returns:
        A notebook that is the same for the same sources and outputs; stripping it again changes nothing.
    """
    notebook = copy.deepcopy(notebook)
    kept = {k: v for k, v in notebook.metadata.items() if k not in RUN_METADATA}
    notebook.metadata.clear()
    notebook.metadata.update(kept | {"kernelspec": KERNEL, "language_info": {"name": "python"}})
    notebook.nbformat, notebook.nbformat_minor = 4, max(5, notebook.get("nbformat_minor", 5))
    made_by_run = {"injected-parameters", "papermill-error-cell-tag"}
    notebook.cells = [c for c in notebook.cells if not made_by_run & set(c.metadata.get("tags", []))]
    count = 0
    for number, cell in enumerate(notebook.cells):
        for key in RUN_METADATA:
            cell.metadata.pop(key, None)
        if not cell.metadata.get("tags", True):
            del cell.metadata["tags"]
        cell.setdefault("id", hashlib.sha256(f"{number}{cell.source}".encode()).hexdigest()[:8])
        if cell.cell_type == "code":
            ran = bool(cell.get("outputs")) or cell.get("execution_count") is not None
            count += ran
            cell.execution_count = count if ran else None
            cell.outputs = [_strip_output(output, cell.execution_count) for output in cell.get("outputs", [])]
    return notebook


def find_differences(stored: NotebookNode, fresh: NotebookNode) -> list[str]:
    """Compare two notebooks in what they mean: sources and outputs, not pictures and not last digits.

    Returns:
        One line a cell that differs.
    """
    old, new = ([_meaning(c) for c in strip_notebook(notebook).cells] for notebook in (stored, fresh))
    if len(old) != len(new):
        return [f"{len(old)} cells stored, {len(new)} now"]
    lines = []
    for number, (before, after) in enumerate(zip(old, new, strict=True), start=1):
        for part in before:
            if before[part] != after[part]:
                lines.append(f"cell {number}: its {part} would change")
    return lines


def read_notebook(path: Path) -> NotebookNode:
    """Read a notebook file.

    Raises:
        OpslibError: the file is not a notebook.
    """
    import nbformat

    try:
        return nbformat.read(path, as_version=4)
    except (ValueError, OSError, AttributeError, nbformat.ValidationError) as error:
        raise OpslibError(f"{path} is not a notebook: {str(error).splitlines()[0]}.") from None


def dump_notebook(notebook: NotebookNode) -> str:
    """Write a notebook as text, in the way that JupyterLab does, but for JSON inside outputs: one line each, not one a
    number, which takes a third of the room.
    """
    import nbformat

    notebook = copy.deepcopy(notebook)
    compact: dict[str, str] = {}
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            for mime, value in output.get("data", {}).items():
                if isinstance(value, dict):
                    key = f"json {len(compact)} of {cell.id}"
                    compact[json.dumps(key)] = json.dumps(
                        value, ensure_ascii=False, separators=(",", ":"), sort_keys=True
                    )
                    output.data[mime] = key
    text = nbformat.writes(notebook).rstrip("\n") + "\n"
    for key, value in compact.items():
        text = text.replace(f": {key}", f": {value}", 1)
    return text


def write_text(path: Path, text: str) -> None:
    """Replace a file's text in one step."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    aside.write_text(text, "utf-8")
    aside.replace(path)


def _strip_output(output: NotebookNode, count: int | None) -> NotebookNode:
    if "execution_count" in output:
        output.execution_count = count
    if "data" in output:
        # The widget's state is not stored, so its reference would show as an error on a code host.
        output.data.pop(WIDGET_MIME, None)
        output.metadata.clear()
        if isinstance(picture := output.data.get("image/png"), str):
            output.data["image/png"] = shrink_picture(picture)
    return output


def _meaning(cell: NotebookNode) -> dict[str, Any]:
    outputs = []
    for output in cell.get("outputs", []):
        if output.output_type == "stream":
            # stderr carries warnings whose text names files of this machine.
            if output.name == "stdout":
                outputs.append({"text": output.text})
        elif output.output_type == "error":
            outputs.append({"error": output.ename, "text": output.evalue})
        else:
            data = {k: _round(v) for k, v in output.data.items() if not k.startswith("image/")}
            outputs.append({"data": json.loads(json.dumps(data)), "pictures": _pictures(output.data)})
    return {
        "type": cell.cell_type,
        "source": cell.source,
        "tags": cell.metadata.get("tags", []),
        "output": outputs,
    }


def _pictures(data: Mapping[str, Any]) -> list[str]:
    return sorted(mime for mime in data if mime.startswith("image/"))


def _round(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.9g}")
    if isinstance(value, dict):
        return {k: _round(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_round(v) for v in value]
    return value


@click.command()
@click.argument("files", nargs=-1, type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--check", is_flag=True, help="write nothing; end with 1 if results would change")
@click.option("--strip", is_flag=True, help="only take run metadata out of FILES")
@click.option("--folder", type=click.Path(path_type=Path, file_okay=False), default="notebooks", show_default=True)
def main(files: Sequence[Path], check: bool, strip: bool, folder: Path) -> None:
    """Run the committed notebooks again and store their results."""
    if strip:
        for path in files:
            notebook = read_notebook(path)
            if (stripped := strip_notebook(notebook)) != notebook:
                write_text(path, dump_notebook(stripped))
                click.echo(f"stripped {path}", err=True)
        return
    if files:
        raise click.UsageError("FILES go with --strip.")
    try:
        refreshed = refresh_notebooks(folder, check=check)
    except OpslibError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)
    for one in refreshed:
        verdict = "as stored" if not one.differences else "would change" if check else "stored anew"
        click.echo(f"{one.path.name}: {verdict}", err=True)
        for line in one.differences:
            click.echo(f"  {line}", err=True)
    sys.exit(1 if check and any(one.differences for one in refreshed) else 0)


if __name__ == "__main__":
    main()

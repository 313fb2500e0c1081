"""A notebook's own words in the language spoken now: its Markdown, and the comments of its parameters cell.

The committed notebooks are English. Their catalogue is `locale/<language>/notebooks.po`, whose texts are the headings,
paragraphs and list items of Markdown cells, each on one line: what changes loses its own translation and no other.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opslib.errors import InputError
from opslib.language import check_language, get_language, say, speak

if TYPE_CHECKING:
    from nbformat import NotebookNode

HEADING = re.compile(r"#{1,6}\s+")
ITEM = re.compile(r"\s*(?:[-*+]|\d+[.)])\s+")
FENCE = re.compile(r"\s*(```|~~~)")
PARAMETER = re.compile(r"(?P<name>\w+)(?P<kind>: \w+)? = (?P<value>.+?)(?P<gap>  # )(?P<comment>.+)")


def translate_notebook(notebook: NotebookNode, values: Mapping[str, Any] | None = None) -> NotebookNode:
    """Copy a notebook with its words in the language spoken now; in English nothing but the values changes.

    Args:
        notebook: as it is committed, with or without outputs.
        values: parameters to write into its parameters cell.
    """
    notebook = copy.deepcopy(notebook)
    if get_language() != "en":
        notebook.metadata["lang"] = get_language()
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = translate_markdown(cell.source)
        elif "parameters" in cell.metadata.get("tags", []):
            cell.source = "\n".join(_write_parameter(line, values or {}) for line in cell.source.split("\n"))
    return notebook


def translate_markdown(source: str) -> str:
    """Say each text of a Markdown cell in the language spoken now; in English it stays as it is, line by line.

    >>> from opslib.language import speak
    >>> with speak("zh"):
    ...     translate_markdown("## Next action")
    '## 下一步'
    """
    if get_language() == "en":
        return source
    return "\n".join(mark + (say(text) if text else "") for mark, text in split_markdown(source))


def list_texts(notebook: NotebookNode) -> list[str]:
    """List the texts of a notebook's Markdown cells, as the catalogue holds them."""
    sources = (cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    return [text for source in sources for _, text in split_markdown(source) if text]


def split_markdown(source: str) -> Iterator[tuple[str, str]]:
    """Split a Markdown cell into texts, each with the mark before it; what is no text has none, such as code.

    >>> list(split_markdown("# Title\\n\\nTwo\\nlines.\\n\\n1. One\\n   item."))
    [('# ', 'Title'), ('', ''), ('', 'Two lines.'), ('', ''), ('1. ', 'One item.')]
    """
    mark, lines, fenced = "", list[str](), False
    for line in source.split("\n"):
        is_fence = bool(FENCE.match(line))
        starts = HEADING.match(line) or ITEM.match(line)
        # Only a paragraph or an item goes on in the next line.
        if lines and (starts or is_fence or not line.strip() or HEADING.match(mark)):
            yield mark, " ".join(lines)
            mark, lines = "", []
        if fenced or is_fence or not line.strip():
            yield line, ""
            fenced ^= is_fence
        elif starts:
            mark, lines = starts[0], [line[starts.end() :].strip()]
        else:
            lines.append(line.strip())
    if lines:
        yield mark, " ".join(lines)


def _write_parameter(line: str, values: Mapping[str, Any]) -> str:
    match = PARAMETER.fullmatch(line)
    if match is None:
        return line
    value = json.dumps(values[match["name"]], ensure_ascii=False) if match["name"] in values else match["value"]
    return f"{match['name']}{match['kind'] or ''} = {value}{match['gap']}{say(match['comment'])}"


def write_notebooks(
    out: Path, *, language: str = "", playbook: str = "", force: bool = False, folder: Path | None = None
) -> list[Path]:
    """Write the notebooks to work with, without results and with their words in a language.

    Args:
        out: the folder to write to.
        language: of the notebooks and what they show; empty for English notebooks that show the playbook's.
        playbook: the file that they open; default as committed.
        force: replace notebooks that are there.
        folder: where the notebooks are; default those that come with opslib.

    Returns:
        The files, in the order in which to read them.

    Raises:
        InputError: there is no such language, a notebook is there already, or the folder cannot be written.
    """
    from opslib.run.notebooks import dump_notebook, read_notebook, write_text
    from opslib.run.report import choose_notebooks, notebooks_folder

    check_language(language)
    folder = folder or notebooks_folder()
    files = [out / f"{slug}.ipynb" for slug in choose_notebooks([], folder)]
    there = [file.name for file in files if file.exists()]
    if there and (not force or out.resolve() == folder.resolve()):
        advice = "name another folder" if force else "name another folder, or replace them with --force"
        raise InputError(f"{there[0]} is in {out} already: {advice}.")
    values = {name: value for name, value in (("playbook", playbook), ("lang", language)) if value}
    try:
        out.mkdir(parents=True, exist_ok=True)
        with speak(language):
            for file in files:
                written = translate_notebook(read_notebook(folder / file.name), values)
                for cell in written.cells:
                    if cell.cell_type == "code":
                        cell.outputs, cell.execution_count = [], None
                write_text(file, dump_notebook(written))
    except OSError as error:
        raise InputError(f"The notebooks cannot be written to {out}: {error.strerror or error}.") from None
    return files

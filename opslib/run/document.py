"""An executed notebook as plain text: Markdown for people without a browser, JSON for machines.

Only what the notebook says goes in: headings, sentences, tables, and of each chart its title and the table behind it.
Values of the data are text there too: whatever Markdown or HTML would make of them is escaped.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

from opslib.language import say
from opslib.run.charts import CHART_MIME
from opslib.run.execute import ANSI
from opslib.run.render import FINDINGS_MIME
from opslib.run.template import format_value

if TYPE_CHECKING:
    from nbformat import NotebookNode

# What Markdown gives a meaning to wherever it stands, and what only at the start of a line.
SPECIAL = re.compile(r"([\\`*_{}\[\]<>|~$!&])")
LINE_START = re.compile(r"^(#{1,6}(?=\s|$)|[+\-](?=\s|$)|-(?=--)|=(?==)|\d+[.)](?=\s|$))")
# A bare address becomes a link by itself.
ADDRESS = re.compile(r"(?i)\b(https?|ftp|mailto)(:)|\b(www)(\.)")
# Buttons to turn a table's pages are none of its text.
SKIPPED = ("style", "script", "fieldset")
# Longer tables behind charts are for the page, where they are folded.
MOST_TABLE_ROWS = 60


def render_markdown(notebook: NotebookNode, *, parameters: Mapping[str, Any] | None = None, status: str = "") -> str:
    """Write an executed notebook as Markdown.

    Args:
        notebook: the notebook with its outputs; it is not changed.
        parameters: those that it ran with, listed below the title.
        status: one line on top when it failed.

    Returns:
        The text; the same notebook gives the same bytes. It holds no code, no pictures and no HTML but what the
        notebook's own words hold.
    """
    parts: list[str] = []
    for cell in notebook.cells:
        tags = cell.metadata.get("tags", [])
        if "injected-parameters" in tags or "remove-cell" in tags:
            continue
        if cell.cell_type == "markdown":
            parts.append(cell.source.strip())
        elif cell.cell_type == "code":
            parts += [text for output in cell.outputs if (text := _write_output(output))]
    if parts and (status or parameters):
        given = {k: v for k, v in (parameters or {}).items() if k not in ("playbook", "lang") and v != ""}
        facts = [_write_fact(name, value) for name, value in given.items()]
        head = [say("**Did not finish.** {cause}", cause=escape_text(status))] if status else []
        head += [say("Parameters: {parameters}", parameters=say(", ").join(facts))] if facts else []
        parts[1:1] = head
    return "\n\n".join(part for part in parts if part.strip()) + "\n"


def escape_text(text: str) -> str:
    r"""Write a text so that Markdown shows it as it is, on one line.

    >>> escape_text("# a|b <b>*x*</b>")
    '\\# a\\|b \\<b\\>\\*x\\*\\</b\\>'
    """
    return LINE_START.sub(lambda m: _escape_mark(m[1]), escape_cell(text))


def escape_cell(text: str) -> str:
    r"""The same where no line begins, as in a table.

    >>> escape_cell("16.7% [16 to 17]"), escape_cell("https://x.invalid")
    ('16.7% \\[16 to 17\\]', 'https\\://x.invalid')
    """
    flat = SPECIAL.sub(r"\\\1", " ".join(text.split()))
    return ADDRESS.sub(lambda m: f"{m[1] or m[3]}\\{m[2] or m[4]}", flat)


def write_table(columns: Sequence[str], rows: Sequence[Sequence[str]], numeric: Sequence[bool] = ()) -> str:
    r"""Write a table of texts as Markdown.

    >>> print(write_table(["Channel", "Users"], [["a|b", "1"]], [False, True]))
    | Channel | Users |
    | --- | ---: |
    | a\|b | 1 |
    """
    right = list(numeric) or [False] * len(columns)
    lines = [[escape_cell(c) for c in columns], ["---:" if r else "---" for r in right]]
    lines += [[escape_cell(cell) for cell in row] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def describe_findings(
    title: str,
    status: str,
    parameters: Mapping[str, Any],
    findings: Sequence[Any],
    sentences: Sequence[str],
    problems: Sequence[str] = (),
) -> dict[str, Any]:
    """What one notebook found, as JSON knows it; `not_opened` only where a notebook could not be opened."""
    return {
        "status": status,
        "title": title,
        "parameters": {k: v for k, v in parameters.items() if k != "playbook"},
        "findings": findings,
        "sentences": sentences,
        **({"not_opened": problems} if problems else {}),
    }


def _write_fact(name: str, value: Any) -> str:
    return say("{name}: {value}", name=escape_text(name.replace("_", " ")), value=escape_text(str(value)))


def _escape_mark(mark: str) -> str:
    # Digits are no marks that a backslash could hide; the point after them is.
    return f"{mark[:-1]}\\{mark[-1]}" if mark[0].isdigit() else f"\\{mark}"


def _write_output(output: NotebookNode) -> str:
    if output.output_type == "stream":
        text = ANSI.sub("", output.text) if output.name == "stdout" else ""
        return "\n".join(f"    {line}" for line in text.strip().splitlines())
    if output.output_type == "error":
        return f"**{escape_text(output.ename)}**: {escape_text(ANSI.sub('', output.evalue))}"
    data = output.get("data", {})
    if CHART_MIME in data:
        return _write_chart(data[CHART_MIME])
    if "text/html" in data:
        return read_html(data["text/html"])
    if FINDINGS_MIME in output.get("metadata", {}):
        return "\n".join(f"- {escape_text(s)}" for s in output["metadata"][FINDINGS_MIME].get("sentences", []))
    if "text/markdown" in data:
        return data["text/markdown"].strip()
    return escape_text(data.get("text/plain", ""))


def _write_chart(about: Mapping[str, Any]) -> str:
    columns, rows = about.get("columns", []), about.get("rows", [])
    names = {c["name"] for c in columns}
    kinds = ["rate" if c["name"] in ("low", "high") and "rate" in names else c["name"] for c in columns]
    texts = [[format_value(v, kind) for v, kind in zip(row, kinds, strict=True)] for row in rows[:MOST_TABLE_ROWS]]
    numeric = [
        any(isinstance(row[i], (int, float)) for row in rows) and not any(isinstance(row[i], str) for row in rows)
        for i in range(len(columns))
    ]
    parts = [f"**{escape_text(about.get('title', ''))}**"]
    if columns:
        parts.append(write_table([c.get("label") or c["name"] for c in columns], texts, numeric))
    if len(rows) > MOST_TABLE_ROWS:
        parts.append(
            say("The first {shown} of {count} rows; the page has all.", shown=MOST_TABLE_ROWS, count=len(rows))
        )
    return "\n\n".join(parts)


def read_html(page: str) -> str:
    """Turn the HTML of an answer, a list or a table into Markdown; any other tag is left out, its text stays."""
    reader = _Reader()
    reader.feed(page)
    reader.close()
    return reader.finish()


class _Reader(HTMLParser):
    """Collects blocks: paragraphs, list items and tables."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self._blocks: list[str] = []
        self._text: list[str] = []
        self._rows: list[list[str]] = []
        self._notes: list[str] = []
        self._right: list[bool] = []
        self._skipped = 0
        self._in_table = False
        self._in_note = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in SKIPPED:
            self._skipped += 1
        elif tag == "table":
            self._flush()
            self._in_table, self._rows, self._notes, self._right = True, [], [], []
        elif tag == "tfoot":
            self._in_note = True
        elif tag == "tr" and self._in_table:
            self._rows.append([])
        elif tag in ("td", "th", "li", "p", "h1", "h2", "h3", "h4"):
            if not self._in_table:
                self._flush()
            self._text = []
            if tag == "td" and len(self._rows) == 2:
                self._right.append(any("gt_right" in (value or "") for name, value in attrs if name == "class"))

    def handle_endtag(self, tag: str) -> None:
        if tag in SKIPPED:
            self._skipped = max(0, self._skipped - 1)
        elif tag in ("td", "th") and self._in_table:
            text = "".join(self._text).strip()
            if self._in_note:
                self._notes.append(text)
            elif self._rows:
                self._rows[-1].append(text)
            self._text = []
        elif tag == "tfoot":
            self._in_note = False
        elif tag == "table":
            self._in_table = False
            self._blocks.append(self._write_rows())
        elif tag == "li":
            self._flush("- ")
        elif tag in ("p", "h1", "h2", "h3", "h4", "ul", "ol", "div"):
            self._flush()

    def handle_data(self, data: str) -> None:
        if not self._skipped:
            self._text.append(data)

    def finish(self) -> str:
        """The Markdown of all that was read."""
        self._flush()
        lines: list[str] = []
        for block in self._blocks:
            # Items of one list stay together.
            together = bool(lines) and block.startswith("- ") and lines[-1].startswith("- ")
            lines += [block] if together or not lines else ["", block]
        return "\n".join(lines)

    def _flush(self, mark: str = "") -> None:
        if self._in_table:
            return
        text = escape_text("".join(self._text))
        if text:
            self._blocks.append(f"{mark}{text}")
        self._text = []

    def _write_rows(self) -> str:
        rows = [row for row in self._rows if row]
        if not rows:
            return ""
        width = len(rows[0])
        body = [(row + [""] * width)[:width] for row in rows[1:]]
        right = (self._right + [False] * width)[:width]
        table = write_table(rows[0], body, right)
        notes = "\n\n".join(escape_text(note) for note in self._notes if note)
        return f"{table}\n\n{notes}" if notes else table

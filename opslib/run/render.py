"""An executed notebook as one HTML file that opens with no network and shows data only ever as text.

Three walls keep values from becoming markup: the template escapes everything, Markdown is cleaned to a list
of harmless tags, and a content security policy in the page lets the browser run our two scripts (by their
hash) and load nothing at all.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from opslib.run.charts import CHART_MIME, VEGA_MIME, Drawings, size_of, to_data_uri
from opslib.run.execute import ANSI, remove_error_markers
from opslib.run.template import load_exporter, load_scripts, make_policy

if TYPE_CHECKING:
    from nbformat import NotebookNode

FINDINGS_MIME = "application/vnd.opslib.findings+json"

HARMLESS = """
a abbr b blockquote br caption code col colgroup dd del details div dl dt em h1 h2 h3 h4 h5 h6 hr i img ins kbd li
mark ol p pre q s samp small span strong sub summary sup table tbody td tfoot th thead tr u ul var
"""
MARKDOWN_TAGS = frozenset(HARMLESS.split())
MARKDOWN_ATTRIBUTES = {
    "*": ["id", "class", "title", "lang", "dir"],
    "a": ["href"],
    "img": ["src", "alt", "width", "height"],
    "ol": ["start"],
    "td": ["colspan", "rowspan", "align"],
    "th": ["colspan", "rowspan", "align", "scope"],
}
MOST_TABLE_ROWS = 500


@dataclass(frozen=True)
class PageOptions:
    """What a page shows around its notebook.

    Attributes:
        title: the page's title where the notebook has no heading of its own.
        company: whose numbers these are.
        parameters: name, value and meaning of each parameter.
        status: one line on top when the notebook failed.
        index: link to the report's first page; empty for a page alone.
        bundle: what `load_bundle` gave; empty leaves the charts static.
        lang: the page's language.
        reason: why another notebook had this one run.
        links: title, address and reason of the pages that this one had run.
        problems: sentences about those that it could not have run.
    """

    title: str
    company: str = ""
    parameters: Sequence[tuple[str, str, str]] = ()
    status: str = ""
    index: str = ""
    bundle: str = ""
    lang: str = "en"
    reason: str = ""
    links: Sequence[tuple[str, str, str]] = ()
    problems: Sequence[str] = ()


@dataclass(frozen=True)
class Page:
    """A finished page and what the report's first page needs of it."""

    html: str
    title: str
    lead: str
    chart_count: int


def render_notebook(notebook: NotebookNode, options: PageOptions, drawings: Drawings | None = None) -> Page:
    """Make the page of one executed notebook.

    Args:
        notebook: the notebook with its outputs; it is not changed.
        options: what stands around it.
        drawings: charts that were drawn ahead.

    Returns:
        The page; the same notebook and options give the same bytes.
    """
    import nbformat

    builder = _PageBuilder(drawings or Drawings())
    cells = [cell for source in notebook.cells if (cell := builder.add_cell(source))]
    title = builder.title or options.title
    scripts = load_scripts()
    inline = [scripts] if builder.chart_count == 0 or not options.bundle else [scripts, load_scripts("charts.js")]
    # The template prints the prepared cells, so the exporter need not copy and validate the notebook.
    body, _ = load_exporter().from_notebook_node(
        nbformat.v4.new_notebook(),
        {
            "page": options,
            "title": title,
            "cells": cells,
            "contents": builder.contents,
            "scripts": inline,
            "policy": make_policy(inline),
            "chart_count": builder.chart_count,
        },
    )
    return Page(html=body, title=title, lead=builder.lead, chart_count=builder.chart_count)


def to_script_json(value: Any) -> str:
    """Write JSON that can stand inside a script element whatever the values hold.

    >>> to_script_json({"a": "</script>"})
    '{"a":"\\\\u003c/script>"}'
    """
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False, default=str)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def clean_markdown(text: str, attachments: Mapping[str, Any] | None = None) -> str:
    """Turn Markdown into HTML that holds only harmless tags; anything else is shown as the text it is."""
    import bleach  # type: ignore[import-untyped]
    from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath

    renderer = IPythonRenderer(escape=False, exclude_anchor_links=True, attachments=dict(attachments or {}))
    raw = MarkdownWithMath(renderer=renderer).render(text)
    return bleach.clean(
        raw,
        tags=MARKDOWN_TAGS,
        attributes=MARKDOWN_ATTRIBUTES,
        protocols=["http", "https", "mailto", "data"],
        strip_comments=True,
    )


@lru_cache(maxsize=1)
def _highlighter() -> tuple[Any, Any]:
    from pygments.formatters import HtmlFormatter  # type: ignore[import-untyped]
    from pygments.lexers import PythonLexer  # type: ignore[import-untyped]

    return PythonLexer(), HtmlFormatter(nowrap=True)


class _PageBuilder:
    """Turns cells into what the template prints, numbering headings and charts on the way."""

    def __init__(self, drawings: Drawings) -> None:
        self._drawings = drawings
        self.title = ""
        self.lead = ""
        self.contents: list[dict[str, Any]] = []
        self.chart_count = 0
        self._used: set[str] = set()

    def add_cell(self, cell: NotebookNode) -> dict[str, Any] | None:
        tags = cell.metadata.get("tags", [])
        # The injected values are in the page's head already.
        if "injected-parameters" in tags or "remove-cell" in tags:
            return None
        if cell.cell_type == "markdown":
            body = self._markdown(cell)
            return {"kind": "text", "html": body} if body.strip() else None
        if cell.cell_type == "code" and (cell.source.strip() or cell.outputs):
            outputs = [shown for output in cell.outputs if (shown := self._output(output))]
            return {"kind": "code", "code": self._highlight(cell.source), "outputs": outputs}
        return None

    def _markdown(self, cell: NotebookNode) -> str:
        body = clean_markdown(cell.source, cell.get("attachments"))
        body = re.sub(r"<h([1-6])(?:\s[^>]*)?>(.*?)</h\1>", self._heading, body, flags=re.DOTALL)
        if not self.lead and (first := re.search(r"<p>(.*?)</p>", body, re.DOTALL)):
            self.lead = " ".join(html.unescape(re.sub(r"<[^>]+>", "", first[1])).split())
        body = re.sub(
            r"<table[^>]*>.*?</table>", r'<div class="scroll" tabindex="0">\g<0></div>', body, flags=re.DOTALL
        )
        # A picture from elsewhere would not load (the policy forbids it): its description stands instead.
        return re.sub(r'<img(?![^>]*\ssrc="data:)[^>]*?(?:\salt="([^"]*)")?[^>]*>', r"<em>\1</em>", body)

    def _heading(self, match: re.Match[str]) -> str:
        level, text = int(match[1]), match[2].strip()
        plain = html.unescape(re.sub(r"<[^>]+>", "", text)).strip()
        if level == 1 and not self.title:
            self.title = plain
            return ""
        anchor = base = re.sub(r"[^\w-]+", "-", plain).strip("-") or "section"
        number = 2
        while anchor in self._used:
            anchor, number = f"{base}-{number}", number + 1
        self._used.add(anchor)
        level = max(level, 2)
        if level <= 3:
            self.contents.append({"level": level, "anchor": anchor, "text": plain})
        return f'<h{level} id="{html.escape(anchor)}">{text}</h{level}>'

    def _highlight(self, source: str) -> str:
        from pygments import highlight  # type: ignore[import-untyped]

        return highlight(source, *_highlighter())

    def _output(self, output: NotebookNode) -> dict[str, Any] | None:
        if output.output_type == "stream":
            return {"kind": "plain", "text": ANSI.sub("", output.text)} if output.name == "stdout" else None
        if output.output_type == "error":
            lines = [ANSI.sub("", line) for line in output.traceback]
            return {
                "kind": "error",
                "name": output.ename,
                "message": ANSI.sub("", output.evalue),
                "traceback": "\n".join(lines),
            }
        if found := output.get("metadata", {}).get(FINDINGS_MIME):
            shown = {"html": output.data.get("text/html", ""), "sentences": found.get("sentences", [])}
            return {"kind": "answer", **shown} if any(shown.values()) else None
        return self._data(output.data)

    def _data(self, data: Mapping[str, Any]) -> dict[str, Any] | None:
        if VEGA_MIME in data or CHART_MIME in data:
            return self._chart(data)
        if "application/vnd.jupyter.widget-view+json" in data:
            return None
        if "text/html" in data:
            return {"kind": "html", "html": data["text/html"]}
        if "image/svg+xml" in data:
            return {
                "kind": "image",
                "source": to_data_uri(data["image/svg+xml"]),
                "alt": data.get("text/plain", ""),
            }
        for mime in ("image/png", "image/jpeg"):
            if mime in data:
                packed = re.sub(r"\s", "", data[mime])
                return {
                    "kind": "image",
                    "source": f"data:{mime};base64,{packed}",
                    "alt": data.get("text/plain", ""),
                }
        if "text/markdown" in data:
            return {"kind": "html", "html": clean_markdown(data["text/markdown"])}
        if "text/plain" in data:
            return {"kind": "plain", "text": data["text/plain"]}
        return None

    def _chart(self, data: Mapping[str, Any]) -> dict[str, Any]:
        self.chart_count += 1
        about = data.get(CHART_MIME, {})
        alt = about.get("alt") or data.get("text/plain", "")
        try:
            svg = self._drawings.draw(data[VEGA_MIME])
            source, (width, height) = to_data_uri(svg), size_of(svg)
        except (KeyError, ValueError):
            # What does not draw still has its stored picture, if any, its description and its table.
            packed = re.sub(r"\s", "", data.get("image/png", ""))
            source, width, height = f"data:image/png;base64,{packed}" if packed else "", 0, 0
        rows = about.get("rows", [])
        return {
            "kind": "chart",
            "number": self.chart_count,
            "spec": to_script_json(data[VEGA_MIME]) if VEGA_MIME in data else "",
            "source": source,
            "width": width,
            "height": height,
            "alt": alt,
            "title": about.get("title", ""),
            "columns": _describe_columns(about.get("columns", []), rows),
            "rows": rows[:MOST_TABLE_ROWS],
            "row_count": len(rows),
        }


def _describe_columns(columns: Sequence[Mapping[str, Any]], rows: Sequence[Sequence[Any]]) -> list[dict[str, Any]]:
    def is_number(index: int) -> bool:
        values = [row[index] for row in rows if row[index] is not None]
        return bool(values) and all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values)

    names = {c["name"] for c in columns}

    def kind(name: str) -> str:
        # The bounds of a rate's interval are rates too.
        return "rate" if name in ("low", "high") and "rate" in names else name

    return [
        {"name": kind(c["name"]), "label": c.get("label") or c["name"], "number": is_number(i)}
        for i, c in enumerate(columns)
    ]


def find_findings(notebook: NotebookNode) -> tuple[list[Any], list[str]]:
    """Collect what an executed notebook found.

    Returns:
        The findings and the sentences of its answer, in the notebook's order.
    """
    findings: list[Any] = []
    sentences: list[str] = []
    for cell in remove_error_markers(notebook).cells:
        for output in cell.get("outputs", []):
            found = output.get("metadata", {}).get(FINDINGS_MIME)
            if found:
                findings += found.get("findings", [])
                sentences += found.get("sentences", [])
    return findings, sentences

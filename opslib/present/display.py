"""What a notebook cell shows: charts, tables and answers as MIME bundles for JupyterLab, a code host and offline pages.

A chart carries a compiled Vega specification (interactive), a small picture (where nothing can run) and its own data,
so that an export can print the table behind it. An answer carries its sentences and, as metadata, the machine-readable
findings.
"""

from __future__ import annotations

import base64
import html
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pandas as pd

from opslib.language import get_language, say
from opslib.measure.estimate import to_plain
from opslib.present.dates import speak_dates
from opslib.present.paging import split_pages

if TYPE_CHECKING:
    import altair as alt
    import great_tables as gt

VEGALITE_MIME = "application/vnd.opslib.vegalite+json"
VEGA_MIME = "application/vnd.vega.v5+json"
CHART_MIME = "application/vnd.opslib.chart+json"
FINDINGS_MIME = "application/vnd.opslib.findings+json"
# Large enough to read beside the text, small enough for a notebook of sixteen.
PICTURE_SCALE = 0.9
# A table in plain text is what shows where nothing else can.
PLAIN_ROWS = 3
BORDER = re.compile(r"border-(\w+)-style: (\w+); border-\1-width: ([^;]+); border-\1-color: ([^;]+);")
PADDING = re.compile(r"padding-top: ([^;]+); padding-bottom: ([^;]+); padding-left: ([^;]+); padding-right: ([^;]+);")
NO_BORDER = re.compile(r"border-(\w+)-style: none; border-\1-width: [^;]+; border-\1-color: [^;]+;")
HEADING_NAMES = re.compile(
    r' headers="[^"]*"| data-quarto-[a-z-]+="false"| rowspan="1" colspan="1"|(?<=scope="col") id="[^"]*"'
)
BETWEEN_TAGS = re.compile(r">\s+<")
VEGA_SCHEMA = "https://vega.github.io/schema/vega/v5.json"
# As SVG: sharp at any size, each mark known to the page, text that can be read out. Nothing that asks a server.
EMBED_OPTIONS = {"renderer": "svg", "actions": {"export": True, "source": False, "compiled": False, "editor": False}}
# The format of an axis of large numbers: what d3 shortens with M and k, Chinese shortens with 亿 and 万.
SHORTENED = "~s"
SHORTEN_CHINESE = (
    "abs(datum.value) >= 1e8 ? format(datum.value / 1e8, ',.10~g') + '亿' : "
    "abs(datum.value) >= 1e4 ? format(datum.value / 1e4, ',.10~g') + '万' : format(datum.value, ',.10~g')"
)
# Jupyter's server sets it for the kernels of its users' sessions.
SESSION = "JPY_SESSION_NAME"
STYLE_RULE = re.compile(r"\s*#\S+ \.(gt_\w+)[^{}]*\{[^{}]*\}")


@dataclass(frozen=True)
class ChartView:
    """A chart with its title, a description for those who cannot see it, and the data behind it."""

    chart: alt.TopLevelMixin
    title: str
    alt: str
    frame: pd.DataFrame
    labels: dict[str, str]

    @cached_property
    def spec(self) -> dict[str, Any]:
        """The chart as a Vega-Lite specification."""
        # Not validated: that takes longer than all the rest, and the tests validate every chart.
        return speak_axes(speak_dates(self.chart.to_dict(validate=False)))

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> Any:
        return self.make_bundle()

    def make_bundle(self, *, picture: bool = True) -> Any:
        """The chart as Jupyter takes it.

        Without its picture it is made in a tenth of the time; JupyterLab makes one itself as soon as it has drawn the
        chart, and keeps it when the notebook is saved.
        """
        columns = [{"name": c, "label": self.labels.get(c, c)} for c in self.frame.columns if c in self.labels]
        rows = self.frame[[c["name"] for c in columns]]
        bundle: dict[str, Any] = {
            CHART_MIME: {
                "title": self.title,
                "alt": self.alt,
                "columns": columns,
                "rows": to_plain_rows(rows, digits=8),
            },
            "text/plain": say("{title}. {text}", title=self.title, text=self.alt),
        }
        if os.environ.get("OPSLIB_CHARTS") == "later":
            # In a report: one warm compiler serves all notebooks, so that no kernel has to start its own.
            return bundle | {VEGALITE_MIME: self.spec}
        import vl_convert

        vega = vl_convert.vegalite_to_vega(self.spec)
        if picture:
            bundle["image/png"] = base64.b64encode(vl_convert.vega_to_png(vega, scale=PICTURE_SCALE)).decode()
        # Where nobody looks on, as when notebooks are stored or checked, a specification is only weight.
        if SESSION not in os.environ:
            return bundle
        # JupyterLab draws with Vega 5, and warns of a specification that says 6; ours are the same in both.
        vega["$schema"] = VEGA_SCHEMA
        return bundle | {VEGA_MIME: vega}, {VEGA_MIME: {"embed_options": list_embed_options()}}


@dataclass(frozen=True)
class TableView:
    """A table for people, made by great-tables."""

    table: gt.GT
    frame: pd.DataFrame
    labels: dict[str, str]
    name: str

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        shown = self.frame.head(PLAIN_ROWS).rename(columns=self.labels)
        text = shown.to_string(index=False, max_colwidth=100)
        if len(self.frame) > PLAIN_ROWS:
            text += "\n" + say("... and {count} more rows", count=len(self.frame) - PLAIN_ROWS)
        page = split_pages(shrink_page(self.table.as_raw_html()), self.name)
        return {"text/html": page, "text/plain": text}


@dataclass(frozen=True)
class AnswerView:
    """The answer in sentences, with the findings for machines."""

    lead: str
    sentences: Sequence[str]
    findings: Sequence[dict[str, Any]]

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> tuple[dict[str, Any], dict[str, Any]]:
        items = "".join(f"<li>{html.escape(s)}</li>" for s in self.sentences)
        lead = f"<p>{html.escape(self.lead)}</p>" if self.lead else ""
        data = {
            "text/html": f'<div class="opslib-answer">{lead}<ul>{items}</ul></div>',
            "text/plain": "\n".join([*([self.lead] if self.lead else []), *(f"- {s}" for s in self.sentences)]),
        }
        # Beside what is shown, not in it: a report collects them, a committed notebook leaves them out.
        return data, {FINDINGS_MIME: {"findings": list(self.findings), "sentences": list(self.sentences)}}


@dataclass(frozen=True)
class ListView:
    """A plain list of sentences, such as next actions or limits; empty, it shows nothing."""

    sentences: Sequence[str]

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        items = "".join(f"<li>{html.escape(s)}</li>" for s in self.sentences)
        page = f"<ul>{items}</ul>" if items else ""
        return {"text/html": page, "text/plain": "\n".join(f"- {s}" for s in self.sentences)}


def list_embed_options() -> dict[str, Any]:
    """How a page embeds charts; the menu beside each of them speaks the language spoken now."""
    if get_language() == "en":
        return EMBED_OPTIONS
    words = {
        "CLICK_TO_VIEW_ACTIONS": say("Click to view actions"),
        "PNG_ACTION": say("Save as PNG"),
        "SVG_ACTION": say("Save as SVG"),
    }
    return {**EMBED_OPTIONS, "i18n": words}


def speak_axes(spec: Any) -> Any:
    """Give the axes of a Vega-Lite specification numbers as people shorten them: in Chinese 12,000,000 is 1,200万."""
    if get_language() == "en":
        return spec
    if isinstance(spec, list):
        return [speak_axes(part) for part in spec]
    if not isinstance(spec, dict):
        return spec
    spoken = {name: part if name == "datasets" else speak_axes(part) for name, part in spec.items()}
    if isinstance(axis := spoken.get("axis"), dict) and axis.get("format") == SHORTENED:
        spoken["axis"] = {**axis, "format": ",", "labelExpr": SHORTEN_CHINESE}
    return spoken


def shrink_page(page: str) -> str:
    """Leave out what most of a table's HTML is: style rules for nothing, white space, and cells naming their heading.

    A heading that says `scope="col"` names the cells below it already.

    >>> shrink_page("<style> #t .gt_a { x: y; } #t .gt_b { x: y; }</style> <p class='gt_b'>")
    "<style> #t .gt_b { x: y; }</style><p class='gt_b'>"
    """
    style, end, body = page.partition("</style>")
    kept = STYLE_RULE.sub(lambda rule: rule[0] if rule[1] in body else "", style)
    kept = NO_BORDER.sub(r"border-\1: none;", kept)
    kept = PADDING.sub(r"padding: \1 \4 \2 \3;", BORDER.sub(r"border-\1: \3 \2 \4;", kept))
    return BETWEEN_TAGS.sub("><", kept + end + HEADING_NAMES.sub("", body))


def to_plain_rows(frame: pd.DataFrame, *, digits: int = 10) -> list[list[Any]]:
    """Rows as JSON knows them: dates as ISO text, missing values as None, floats to so many digits after the point."""
    plain = ([to_plain(v) for v in row] for row in frame.itertuples(index=False))
    return [[round(v, digits) if isinstance(v, float) else v for v in row] for row in plain]

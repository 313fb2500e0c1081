"""What a notebook cell shows: charts, tables and answers as MIME bundles for JupyterLab, a code host and offline pages.

A chart carries a compiled Vega specification (interactive), a small picture (where nothing can run) and its own data,
so that an export can print the table behind it. An answer carries its sentences and the machine-readable findings.
"""

from __future__ import annotations

import base64
import html
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from opslib.measure.estimate import to_plain

if TYPE_CHECKING:
    import altair as alt
    import great_tables as gt

VEGALITE_MIME = "application/vnd.opslib.vegalite+json"
VEGA_MIME = "application/vnd.vega.v5+json"
CHART_MIME = "application/vnd.opslib.chart+json"
FINDINGS_MIME = "application/vnd.opslib.findings+json"
PICTURE_SCALE = 1.0


@dataclass(frozen=True)
class ChartView:
    """A chart with its title, a description for those who cannot see it, and the data behind it."""

    chart: alt.TopLevelMixin
    title: str
    alt: str
    frame: pd.DataFrame
    labels: dict[str, str]

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        columns = [{"name": c, "label": self.labels.get(c, c)} for c in self.frame.columns if c in self.labels]
        rows = self.frame[[c["name"] for c in columns]]
        bundle: dict[str, Any] = {
            CHART_MIME: {"title": self.title, "alt": self.alt, "columns": columns, "rows": to_plain_rows(rows)},
            "text/plain": f"{self.title}. {self.alt}",
        }
        if os.environ.get("OPSLIB_CHARTS") == "later":
            # In a report: one warm compiler serves all notebooks, so that no kernel has to start its own.
            return bundle | {VEGALITE_MIME: self.chart.to_dict()}
        import vl_convert

        vega = vl_convert.vegalite_to_vega(self.chart.to_dict())
        picture = vl_convert.vega_to_png(vega, scale=PICTURE_SCALE)
        return bundle | {VEGA_MIME: vega, "image/png": base64.b64encode(picture).decode()}


@dataclass(frozen=True)
class TableView:
    """A table for people, made by great-tables."""

    table: gt.GT
    frame: pd.DataFrame
    labels: dict[str, str]

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        text = self.frame.rename(columns=self.labels).to_string(index=False, max_colwidth=100)
        return {"text/html": self.table.as_raw_html(), "text/plain": text}


@dataclass(frozen=True)
class AnswerView:
    """The answer in sentences, with the findings for machines."""

    lead: str
    sentences: Sequence[str]
    findings: Sequence[dict[str, Any]]

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        items = "".join(f"<li>{html.escape(s)}</li>" for s in self.sentences)
        lead = f"<p>{html.escape(self.lead)}</p>" if self.lead else ""
        return {
            "text/html": f'<div class="opslib-answer">{lead}<ul>{items}</ul></div>',
            "text/plain": "\n".join([*([self.lead] if self.lead else []), *(f"- {s}" for s in self.sentences)]),
            FINDINGS_MIME: {"findings": list(self.findings), "sentences": list(self.sentences)},
        }


@dataclass(frozen=True)
class ListView:
    """A plain list of sentences, such as next actions or limits."""

    sentences: Sequence[str]

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        items = "".join(f"<li>{html.escape(s)}</li>" for s in self.sentences)
        return {"text/html": f"<ul>{items}</ul>", "text/plain": "\n".join(f"- {s}" for s in self.sentences)}


def to_plain_rows(frame: pd.DataFrame) -> list[list[Any]]:
    """Rows as JSON knows them: dates as ISO text, missing values as None, floats to ten digits."""
    return [[to_plain(v) for v in row] for row in frame.itertuples(index=False)]

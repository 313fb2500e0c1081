"""Small notebooks and a stand-in for the data, so that the tests of `run` need neither the engine nor the sample
company.

Also a program: `python -m tests.run.fakes ARGUMENTS` is the command line over the stand-in, for tests that
need a process.
"""

from __future__ import annotations

import datetime as dt
import sys
import types
from collections.abc import Sequence
from pathlib import Path

from opslib.data.fitness import DataFitness, Problem, TableProfile
from opslib.errors import InputError

HOSTILE = "<script>alert(1)</script>"

PARAMETERS = {
    "00_start_here": 'playbook: str = "playbook.toml"  # the playbook file',
    "40_quarterly_review": (
        'playbook: str = "playbook.toml"  # the playbook file\n'
        'quarter: str = ""  # such as 2026Q2\n'
        'compare_to: str = ""  # the quarter before\n'
        'segment: str = ""  # column:value'
    ),
}

FINDINGS_CELL = """\
from IPython.display import display
found = [{{"metric": "x", "value": 0.1 + 0.2, "quarter": {quarter}}}]
sentences = ["Revenue rose by 12% to 1,234.", {hostile!r}]
findings = {{"findings": found, "sentences": sentences}}
mime = "application/vnd.opslib.findings+json"
display({{"text/plain": sentences[0]}}, metadata={{mime: findings}}, raw=True)"""

CHART_CELL = """\
import vl_convert
from IPython.display import display
title, kind = {title!r}, {kind!r}
rows = [
    ["2026-0%d-01T00:00:00" % (i + 1), title if i == 0 else "Search", 1000 * (i + 1) + 0.5, 0.1 * i] for i in range(6)
]
names = ["month", "channel", "revenue", "share_rate"]
vega = vl_convert.vegalite_to_vega({{
    "$schema": "https://vega.github.io/schema/vega-lite/v6.json", "title": title, "width": 620, "height": 260,
    "data": {{"values": [dict(zip(names, r)) for r in rows]}}, "mark": {{"type": kind, "tooltip": True}},
    "encoding": {{
        "x": {{"field": "month", "type": "ordinal", "timeUnit": "yearmonth", "title": title}},
        "y": {{"field": "revenue", "type": "quantitative"}}, "color": {{"field": "channel", "type": "nominal"}},
    }},
}})
labels = ["Month", title, "Revenue", "Share"]
columns = [{{"name": n, "label": l}} for n, l in zip(names, labels)]
about = {{"title": title, "alt": "Chart: " + title, "rows": rows, "columns": columns}}
display({{
    "application/vnd.vega.v5+json": vega, "text/plain": "Chart: " + title,
    "application/vnd.opslib.chart+json": about,
}}, raw=True)"""

FAKE_DATA = """
import sys
print("on stdout"); print("on stderr", file=sys.stderr)
print({hostile!r})
"""


def write_notebook(path: Path, cells: Sequence[str], parameters: str = "") -> Path:
    """Write a notebook; a cell that starts with `#md ` is Markdown."""
    import nbformat

    notebook = nbformat.v4.new_notebook()
    for number, source in enumerate([parameters, *cells] if parameters else cells):
        if source.startswith("#md "):
            cell = nbformat.v4.new_markdown_cell(source.removeprefix("#md "))
        else:
            cell = nbformat.v4.new_code_cell(source)
        cell.id = f"cell-{number}"
        if parameters and number == 0:
            cell.metadata["tags"] = ["parameters"]
        notebook.cells.append(cell)
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, path)
    return path


def write_good_notebooks(folder: Path, *, charts: int = 1, fail: bool = False) -> Path:
    """Write the two notebooks of the registry: an answer, charts, a table, streams, hostile values."""
    chart_cells = [
        CHART_CELL.format(title=HOSTILE if i == 0 else f"Chart {i + 1} 季度", kind=("line", "bar", "area")[i % 3])
        for i in range(charts)
    ]
    write_notebook(
        folder / "40_quarterly_review.ipynb",
        [
            f"#md # Quarterly review\n\nHow did the quarter go? {HOSTILE} <img src=x onerror=alert(2)>\n",
            FINDINGS_CELL.format(quarter="quarter", hostile=HOSTILE),
            "#md ## Evidence\n\nA [link](https://example.org) and `code`.\n\n| a | b |\n|---|---|\n| 1 | 2 |\n",
            *chart_cells,
            "#md ## Evidence\n\n### Detail & more\n\nText.",
            FAKE_DATA.format(hostile=HOSTILE),
            *(["raise ValueError('no <b>such</b> day\\nsecond line')"] if fail else []),
            "#md ## Limits\n\nFew.",
        ],
        PARAMETERS["40_quarterly_review"],
    )
    write_notebook(
        folder / "00_start_here.ipynb",
        ["#md # Start here\n\nWhich question?", "import os; print(os.getcwd())", "#md ## Data\n\nFine."],
        PARAMETERS["00_start_here"],
    )
    return folder


class FakeData:
    """Just enough of `opslib.data.source.Data`."""

    def __init__(self, problems: Sequence[Problem] = (), *, table: str = "events", lang: str = "en") -> None:
        self.table_name = table
        self.playbook = types.SimpleNamespace(
            company=types.SimpleNamespace(name=f"Acme {HOSTILE}", lang=lang),
            data=types.SimpleNamespace(url=None, rollups=None),
            rules=(),
        )
        self.fitness = DataFitness((TableProfile("events", 9, 9, None, None, False),), tuple(problems))
        self.fingerprint = "f" * 64
        self.as_of = dt.date(2026, 6, 30)

    def has(self, *tables: str) -> bool:
        return all(name == self.table_name for name in tables)

    def choose_quarter(self, quarter: str) -> str:
        if quarter == "1999Q1":
            raise InputError("Quarter 1999Q1 lies outside the data (2025Q1 to 2026Q2).")
        return quarter or "2026Q2"

    def check_segment(self, segment: str) -> None:
        if segment == "channel:nope":
            raise InputError("There is no channel 'nope'. Channels are: search.")


def open_fake_data(playbook: str | Path) -> FakeData:
    """What stands in for `open_data`: the playbook's name decides."""
    if "missing" in str(playbook):
        raise InputError(f"There is no playbook {playbook}.")
    if "unfit" in str(playbook):
        return FakeData(
            [
                Problem("events", "ts", "future_time", 3, 9, "unfit", "lie in the future"),
                Problem("users", "user_id", "null_key", 2, 9, "unfit", "have no value"),
            ]
        )
    table = "subscriptions" if "subscriptions" in str(playbook) else "events"
    return FakeData(table=table, lang="zh" if "chinese" in str(playbook) else "en")


def fake_source_module() -> types.ModuleType:
    """A module to put in the place of `opslib.data.source`."""
    module = types.ModuleType("opslib.data.source")
    module.open_data = open_fake_data  # type: ignore[attr-defined]
    return module


if __name__ == "__main__":
    sys.modules["opslib.data.source"] = fake_source_module()
    from opslib.run.cli import main

    main()

"""A notebook as Markdown: what it says, no code, no pictures, and nothing of the data becomes markup."""

from __future__ import annotations

import nbformat
import pandas as pd
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from opslib.present.display import AnswerView, ListView
from opslib.present.tables import make_table
from opslib.run.charts import CHART_MIME
from opslib.run.document import escape_text, read_html, render_markdown
from opslib.run.render import clean_markdown

HOSTILE = [
    "<script>alert(1)</script>", "a|b", "# heading", "1. item", "- item", "**bold** `code`", "[x](https://x.invalid)",
    "![x](https://x.invalid/p.png)", "https://x.invalid", "$x$", "&lt;b&gt;", "~~gone~~", "line\n\n# two", "--- | ---",
    "\\# already", "抖音广告",
]  # fmt: skip


def show(view: object) -> nbformat.NotebookNode:
    bundle = view._repr_mimebundle_()  # type: ignore[attr-defined]
    data, metadata = bundle if isinstance(bundle, tuple) else (bundle, {})
    return new_output("display_data", data=data, metadata=metadata)


def make_notebook(*views: object) -> nbformat.NotebookNode:
    cells = [
        new_markdown_cell("# Title\n\nA question."),
        new_code_cell("secret_code = 1", outputs=[show(v) for v in views]),
    ]
    return new_notebook(cells=cells)


def to_page(markdown: str) -> str:
    return clean_markdown(markdown)


@pytest.mark.parametrize("text", HOSTILE)
def test_values_are_text_wherever_they_stand(text: str) -> None:
    flat = " ".join(text.split())
    table = make_table(pd.DataFrame({"a": [text], "b": ["1"]}), {"a": "Channel", "b": text or "b"}, name="t")
    for view in (AnswerView(text, [text], []), ListView([text]), table):
        page = to_page(render_markdown(make_notebook(view)))
        body = page[page.index("A question.") :]
        for tag in ("<script", "<h1", "<h2", "<strong", "<code", "<a ", "<img", "<del", "<ol"):
            assert tag not in body, (view, body)
        import html
        import re

        plain = " ".join(html.unescape(re.sub(r"<[^>]+>", " ", body)).split())
        assert flat in plain, (flat, plain)


def test_charts_are_a_title_and_a_table() -> None:
    chart = {
        "title": "Users | day", "alt": "x",
        "columns": [{"name": "day", "label": "Day"}, {"name": "d7_rate", "label": "Share"}],
        "rows": [[f"2026-04-{1 + n % 30:02d}", 0.25] for n in range(100)],
    }  # fmt: skip
    output = new_output("display_data", data={CHART_MIME: chart, "image/png": "aGVsbG8=", "text/plain": "x"})
    text = render_markdown(new_notebook(cells=[new_code_cell("x", outputs=[output])]))
    assert "**Users \\| day**" in text
    assert "| Day | Share |\n| --- | ---: |\n| 2026-04-01 | 25.0% |" in text
    assert "The first 60 of 100 rows" in text
    assert "aGVsbG8" not in text


def test_no_code_no_parameters_cell_and_failures_are_told() -> None:
    notebook = make_notebook(ListView(["one", "two"]))
    injected = new_code_cell("playbook = 'x'")
    injected.metadata["tags"] = ["injected-parameters"]
    error = new_output("error", ename="ValueError", evalue="no | day", traceback=["long"])
    notebook.cells += [injected, new_code_cell("boom()", outputs=[error])]
    text = render_markdown(
        notebook, parameters={"playbook": "p.toml", "quarter": "2026Q2", "segment": ""}, status="x: y"
    )
    assert text.startswith(
        "# Title\n\nA question.\n\n**Did not finish.** x: y\n\nParameters: quarter: 2026Q2\n\n- one\n- two"
    )
    assert "secret_code" not in text
    assert "p.toml" not in text
    assert "**ValueError**: no \\| day" in text
    assert text == render_markdown(
        notebook, parameters={"playbook": "q.toml", "quarter": "2026Q2", "segment": ""}, status="x: y"
    )


def test_tables_keep_every_cell_and_their_note() -> None:
    frame = pd.DataFrame({"a": ["x", "y"], "b": ["1", "2"]})
    view = make_table(frame, {"a": "Name", "b": "Count"}, name="t", numeric=("b",), note="A note.")
    text = read_html(view._repr_mimebundle_()["text/html"])
    assert text == "| Name | Count |\n| --- | ---: |\n| x | 1 |\n| y | 2 |\n\nA note."


def test_long_tables_keep_every_row_and_lose_their_page_buttons() -> None:
    frame = pd.DataFrame({"a": [f"row {i}" for i in range(40)]})
    view = make_table(frame, {"a": "Name"}, name="t")
    text = read_html(view._repr_mimebundle_()["text/html"])
    assert text.splitlines() == ["| Name |", "| --- |", *(f"| row {i} |" for i in range(40))]


def test_text_stays_as_readable_as_it_can() -> None:
    assert escape_text("16.7% of 1,000, up +2.0 points") == "16.7% of 1,000, up +2.0 points"

"""Pages: nothing is loaded, values are text, everything is described."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import nbformat
import pytest
from hypothesis import given
from hypothesis import strategies as st

from opslib.run.charts import (
    BUNDLE_SNIPPET,
    CHART_MIME,
    VEGALITE_MIME,
    Drawings,
    draw_svg,
    load_bundle,
    size_of,
    to_data_uri,
)
from opslib.run.drawer import Drawer
from opslib.run.render import (
    PageOptions,
    clean_markdown,
    find_findings,
    render_notebook,
    to_script_json,
)
from opslib.run.template import format_value, make_policy
from tests.run.fakes import HOSTILE

LOADING = {"src", "srcset", "href", "xlink:href", "data", "poster", "action", "formaction", "background", "ping"}


class PageReader(HTMLParser):
    """Collects the tags of a page as a browser would see them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {k: v or "" for k, v in attrs}))

    def find(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.tags if name == tag]


def external_references(page: str) -> list[str]:
    """Everything that a browser would fetch on opening the page; plain links are not fetched."""
    found = []
    for tag, attributes in PageReader(page).tags:
        for name, value in attributes.items():
            if name in LOADING and tag != "a" and not value.startswith(("data:", "#")):
                found.append(f"{tag} {name}={value}")
    styles = [a["style"] for _, a in PageReader(page).tags if "style" in a]
    styles += re.findall(r"<style[^>]*>(.*?)</style>", page, re.DOTALL)
    for style in styles:
        found += re.findall(r"@import[^;]*", style)
        found += [u for u in re.findall(r"url\(([^)]*)\)", style) if not u.strip("'\" ").startswith(("data:", "#"))]
    return found


def code(source: str, *outputs: Any) -> Any:
    cell = nbformat.v4.new_code_cell(source)
    cell.outputs = list(outputs)
    return cell


def display(**data: Any) -> Any:
    mimes = {k.replace("__", "/").replace("_", "."): v for k, v in data.items()}
    return nbformat.v4.new_output("display_data", data=mimes)


def page_of(*cells: Any, **options: Any) -> str:
    notebook = nbformat.v4.new_notebook(cells=list(cells))
    return render_notebook(notebook, PageOptions(**{"title": "T", **options})).html


def main_of(page: str) -> str:
    return page[page.index("<main") : page.index("</main>")]


def test_report_refers_to_nothing_outside(report: Path) -> None:
    pages = sorted(report.glob("*.html"))
    assert len(pages) == 4
    for page in pages:
        text = page.read_text("utf-8")
        assert external_references(text) == []
        if page.name == "mail.html":
            # Mail programs know no policy, and run nothing anyway.
            assert "<script" not in text
            continue
        (policy,) = [m["content"] for m in PageReader(text).find("meta") if "http-equiv" in m]
        assert policy.startswith("default-src 'none'; ")
        assert '<html lang="en">' in text


def test_pages_are_small(report: Path) -> None:
    assert (report / "00_start_here.html").stat().st_size < 60_000  # no chart, no chart script
    assert (report / "40_quarterly_review.html").stat().st_size < 800_000


def test_hostile_values_are_text(report: Path) -> None:
    for path in report.glob("*.html"):
        page = path.read_text("utf-8")
        # Our own scripts have no attribute, or a data type; nothing else is a script, and nothing has a handler.
        for attributes in PageReader(page).find("script"):
            assert attributes in ({}, {"type": "application/json", "class": "spec"},
                                  {"type": "application/octet-stream", "id": "chart-bundle"})  # fmt: skip
        for tag, attributes in PageReader(page).tags:
            assert not [name for name in attributes if name.startswith("on")], tag
        assert "<script>alert" not in page
        assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page or path.name == "00_start_here.html"


def test_everything_is_described(report: Path) -> None:
    reader = PageReader((report / "40_quarterly_review.html").read_text("utf-8"))
    assert all(image.get("alt") for image in reader.find("img"))
    assert len(reader.find("h1")) == 1
    assert len(reader.find("main")) == len(reader.find("header")) == len(reader.find("nav")) == 1
    assert len(reader.find("figure")) == 3
    assert [f["aria-label"] for f in reader.find("figure")][1:] == ["Chart 2 季度", "Chart 3 季度"]
    anchors = [a["href"][1:] for a in reader.find("a") if a.get("href", "").startswith("#")]
    ids = [a["id"] for _, a in reader.tags if "id" in a]
    assert set(anchors) <= set(ids)
    assert len(ids) == len(set(ids))
    assert {"Evidence", "Evidence-2", "Detail-more", "Limits"} <= set(anchors)


def test_stderr_is_not_shown_but_stdout_is(report: Path) -> None:
    page = main_of((report / "40_quarterly_review.html").read_text("utf-8"))
    assert '<pre class="plain" tabindex="0">on stdout' in page
    assert ">on stderr" not in page


def test_table_behind_chart(report: Path) -> None:
    page = (report / "40_quarterly_review.html").read_text("utf-8")
    table = page[page.index("Table behind this chart") :]
    assert '<td class="number">2,000</td>' in table
    assert '<td class="number">10.0%</td>' in table
    assert "<td>2026-01-01</td>" in table
    assert '<th scope="col">&lt;script&gt;alert(1)&lt;/script&gt;</th>' in table


def test_code_is_folded(report: Path) -> None:
    reader = PageReader((report / "40_quarterly_review.html").read_text("utf-8"))
    folded = [a for a in reader.find("details") if a.get("class") == "code"]
    assert folded
    assert all("open" not in a for a in folded)
    assert [a["id"] for a in reader.find("button")] == ["all-code"]


def test_error_is_one_line_with_its_traceback_folded() -> None:
    error = nbformat.v4.new_output(
        "error", ename="InputError", evalue=f"no {HOSTILE}", traceback=["\x1b[31mTrace\x1b[0m", HOSTILE]
    )
    page = page_of(code("1/0", error), status="InputError: no")
    assert "<strong>InputError</strong>: no &lt;script&gt;" in page
    assert "<summary>Traceback</summary><pre>Trace\n&lt;script&gt;" in page
    assert "This notebook did not finish." in page


def test_parameters_stand_in_the_head() -> None:
    page = page_of(parameters=[("quarter", HOSTILE, "which quarter")], company=HOSTILE, index="index.html")
    assert '<th scope="row">quarter</th><td>&lt;script&gt;' in page
    assert '<a href="index.html">&lt;script&gt;' in page


def test_injected_cell_is_left_out() -> None:
    cell = code("secret_looking = 1")
    cell.metadata["tags"] = ["injected-parameters"]
    assert "secret_looking" not in page_of(cell)


@pytest.mark.parametrize(
    "text",
    [
        HOSTILE,
        "<img src=x onerror=alert(1)>",
        "[x](javascript:alert(1))",
        "<a href='javascript:alert(1)'>x</a>",
        "<iframe src=https://example.org></iframe>",
        "<svg onload=alert(1)>",
        "<div style='background:url(https://example.org/x)'>x</div>",
        "![x](https://example.org/pixel.png)",
        "<b onclick=alert(1)>x</b>",
        "# <script>alert(1)</script>",
        "| a |\n|---|\n| <script>alert(1)</script> |",
        "```mermaid\ngraph TD\n```",
        "<!-- a --><style>@import 'https://example.org/x'</style>",
    ],
)
def test_markdown_is_cleaned(text: str) -> None:
    page = page_of(nbformat.v4.new_markdown_cell(text))
    body = main_of(page)
    reader = PageReader(body)
    names = {tag for tag, _ in reader.tags}
    assert not names & {"script", "iframe", "svg", "style", "object", "embed", "form", "input"}
    assert not [a for _, attrs in reader.tags for a in attrs if a.startswith("on") or a == "style"]
    assert not [v for _, attrs in reader.tags for v in attrs.values() if v.startswith("javascript:")]
    assert external_references(body) == []


@given(st.text(max_size=60))
def test_any_value_is_text_in_the_page(value: str) -> None:
    page = page_of(code("1", display(**{"text__plain": value})), title="T", parameters=[("p", value, value)])
    plain = page_of(code("1", display(**{"text__plain": "x"})), title="T", parameters=[("p", "x", "x")])
    assert [t for t, _ in PageReader(page).tags] == [t for t, _ in PageReader(plain).tags]


@given(st.recursive(st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=5))
def test_json_in_a_script_element(value: Any) -> None:
    text = to_script_json(value)
    assert "<" not in text
    assert json.loads(text) == value


def test_answer_comes_from_its_maker_or_its_sentences() -> None:
    mime = "application/vnd.opslib.findings+json"
    made = nbformat.v4.new_output(
        "display_data", data={"text/html": "<p>B</p>"}, metadata={mime: {"findings": [1], "sentences": ["A."]}}
    )
    bare = nbformat.v4.new_output("display_data", metadata={mime: {"findings": [2], "sentences": ["A <b>."]}})
    assert re.search(r'class="answer"[^>]*>\s*<p>B</p>', page_of(code("1", made)))
    assert re.search(r'class="answer"[^>]*>\s*<p>A &lt;b&gt;.</p>', page_of(code("1", bare)))
    notebook = nbformat.v4.new_notebook(cells=[code("1", made), code("2", bare)])
    assert find_findings(notebook) == ([1, 2], ["A.", "A <b>."])


def test_widget_output_is_left_to_the_static_result() -> None:
    widget = nbformat.v4.new_output(
        "display_data", data={"application/vnd.jupyter.widget-view+json": {}, "text/plain": "VBox(children=())"}
    )
    assert "VBox" not in page_of(code("show()", widget))


def test_chart_without_bundle_stays_static() -> None:
    spec = {"$schema": "https://vega.github.io/schema/vega/v6.json", "width": 40, "height": 30}
    chart = nbformat.v4.new_output(
        "display_data", data={"application/vnd.vega.v5+json": spec, "text/plain": "A small chart"}
    )
    page = page_of(code("plot()", chart))
    assert 'alt="A small chart"' in page
    assert "chart-bundle" not in page
    assert "unsafe-eval" not in page
    live = page_of(code("plot()", chart), bundle="QUJD")
    assert "unsafe-eval" in live
    assert 'class="spec"' in live


def test_broken_chart_falls_back_to_its_picture() -> None:
    chart = nbformat.v4.new_output(
        "display_data", data={"application/vnd.vega.v5+json": {"marks": 3}, "image/png": "QUJD", "text/plain": "x"}
    )
    assert 'src="data:image/png;base64,QUJD"' in page_of(code("plot()", chart))


def test_drawing_loads_nothing() -> None:
    spec = {
        "$schema": "https://vega.github.io/schema/vega/v6.json", "width": 40, "height": 30,
        "marks": [{"type": "image", "encode": {"enter": {"url": {"value": "https://example.org/a.png"}}}}],
    }  # fmt: skip
    try:
        svg = draw_svg(spec)
    except ValueError:
        return
    assert external_references(f'<img src="{to_data_uri(svg)}">') == []


def test_data_uri_holds_any_svg() -> None:
    svg = '<svg width="12" height="7">\n <text>"#%&\'<>季</text></svg>'
    uri = to_data_uri(svg)
    assert not set(uri) & set('"#<>\n')
    assert size_of(svg) == (12, 7)


def test_bundle_is_kept_and_mended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import vl_convert

    made: list[str] = []
    monkeypatch.setattr(vl_convert, "javascript_bundle", lambda s: made.append(s) or "var x=1;" + BUNDLE_SNIPPET)
    first = load_bundle(tmp_path)
    assert load_bundle(tmp_path) == first
    assert len(made) == 1
    (kept,) = tmp_path.iterdir()
    kept.write_text(first[: len(first) // 2])
    assert load_bundle(tmp_path) == first
    assert len(made) == 2


def test_bundle_without_a_cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import vl_convert

    monkeypatch.setattr(vl_convert, "javascript_bundle", lambda s: s)
    blocked = tmp_path / "file"
    blocked.write_text("")
    assert load_bundle(blocked / "cache")


@pytest.mark.parametrize(
    ("value", "name", "text"),
    [
        (None, "x", ""), (float("nan"), "x", ""), (True, "x", "yes"), (1234567, "x_count", "1,234,567"),
        (2026, "year", "2026"), (0.12345, "d1_rate", "12.3%"), (0.5, "rate", "50.0%"), (1.0, "x", "1"),
        (1234.5678, "amount", "1,235"), (0.00123, "x", "0.0012"), (-1234567.0, "x", "-1,234,567"),
        (float("inf"), "x", "inf"),
        ("2026-06-01T00:00:00", "day", "2026-06-01"), ("2026-06-01T10:00:00", "at", "2026-06-01T10:00:00"),
    ],
)  # fmt: skip
def test_values_of_a_table(value: Any, name: str, text: str) -> None:
    assert format_value(value, name) == text


def test_policy_names_scripts_by_hash() -> None:
    assert "'sha256-ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0='" in make_policy(["abc"])
    assert "unsafe-inline'; img" in make_policy(["abc"])
    assert "script-src" not in make_policy([])


def test_clean_markdown_keeps_tables_and_code() -> None:
    made = clean_markdown("| a |\n|---|\n| 1 |\n\n```python\nx = 1\n```")
    assert "<table>" in made
    assert "<pre>" in made


def test_same_input_same_bytes(report: Path) -> None:
    notebook = nbformat.read(report / "notebooks" / "40_quarterly_review.ipynb", as_version=4)
    options = PageOptions(title="T", bundle="QUJD")
    assert render_notebook(notebook, options).html == render_notebook(notebook, options).html


def test_chart_left_to_the_report_is_completed() -> None:
    vegalite = {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json", "mark": "point",
        "data": {"values": [{"a": 1}]}, "encoding": {"x": {"field": "a", "type": "quantitative"}},
    }  # fmt: skip
    plain = {VEGALITE_MIME: vegalite, "text/plain": "A point"}
    ahead, now = dict(plain), dict(plain)
    drawer = Drawer()
    drawings = Drawings(drawer)
    drawings.begin(ahead)
    drawings.complete(ahead)
    drawer.close()
    Drawings().complete(now)
    assert ahead == now
    assert set(now) == {"application/vnd.vega.v5+json", "image/png", "text/plain"}
    broken = {VEGALITE_MIME: {"mark": 7}, "text/plain": "A chart"}
    Drawings().complete(broken)
    assert broken == {"text/plain": "A chart"}


def test_a_chart_that_does_not_draw_keeps_its_words_and_its_table() -> None:
    table = {
        "title": "Retention",
        "alt": "Points by day.",
        "columns": [{"name": "day", "label": "Day"}],
        "rows": [["Day 7"]],
    }
    output = nbformat.v4.new_output("display_data", {CHART_MIME: table, "text/plain": "Retention."})
    cell = nbformat.v4.new_code_cell("plot()", outputs=[output])
    page = render_notebook(nbformat.v4.new_notebook(cells=[cell]), PageOptions(title="t", company="c")).html
    assert "could not be drawn: Points by day." in page
    assert "Day 7" in page


def test_a_drawer_that_died_says_so_and_nobody_waits() -> None:
    drawer = Drawer()
    waiting = drawer.submit({"vegalite": {"mark": 7}})
    assert isinstance(waiting.exception(30), ValueError)
    drawer.close()
    with pytest.raises(ValueError, match="drawing process ended"):
        drawer.submit({"vega": {}}).result(5)

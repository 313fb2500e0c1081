"""A report opened in Chromium: no request, every chart drawn, values shown as text, printable."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.browser.conftest import SCREENSHOTS
from tests.run.fakes import HOSTILE

REPORTS = ("fake_report", "sample_report")
SIZES = {"wide": (1280, 900), "phone": (390, 844)}
NOTEBOOK_BYTES = 2_500_000


@dataclass
class Watched:
    """A page, and all that it did which it should not."""

    page: Any
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)


@contextmanager
def open_page(browser: Any, path: Path, size: str = "wide", **options: Any) -> Iterator[Watched]:
    """Open a file with the network cut, note requests, messages and dialogs, and wait until the charts are drawn."""
    width, height = SIZES[size]
    context = browser.new_context(viewport={"width": width, "height": height}, offline=True, **options)
    page = context.new_page()
    watched = Watched(page)

    def note_dialog(dialog: Any) -> None:
        watched.complaints.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    page.on("request", lambda r: None if r.url.startswith("data:") else watched.requests.append(r.url))
    page.on("console", lambda m: watched.complaints.append(f"console: {m.text}"))
    page.on("pageerror", lambda e: watched.complaints.append(f"error: {e}"))
    page.on("dialog", note_dialog)
    page.goto(path.as_uri())
    if options.get("java_script_enabled", True) and page.query_selector("figure.chart"):
        page.wait_for_function("document.documentElement.dataset.charts === 'ready'", timeout=20_000)
    yield watched
    context.close()


@pytest.fixture(params=REPORTS)
def report(request: pytest.FixtureRequest) -> Path:
    """Each of the two reports."""
    return request.getfixturevalue(request.param)


@pytest.mark.parametrize("size", SIZES)
def test_pages_load_nothing_and_draw_everything(browser: Any, report: Path, size: str) -> None:
    pages = sorted(report.glob("*.html"))
    assert len(pages) >= 3
    drawn = 0
    for path in pages:
        with open_page(browser, path, size) as watched:
            page = watched.page
            assert watched.requests == [path.as_uri()]
            assert watched.complaints == []
            for chart in page.query_selector_all("figure.chart"):
                drawn += 1
                assert "is-live" in (chart.get_attribute("class") or "")
                marks = chart.query_selector_all(".live svg path, .live svg line, .live svg text")
                assert len(marks) > 10
                box = chart.query_selector(".live svg").bounding_box()
                assert box["width"] > 200
                assert box["height"] > 100
                assert not chart.query_selector(".vega-actions, details summary svg")
                assert not chart.query_selector(".static").is_visible()
            # Nothing sticks out sideways: wide things scroll in their own box.
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
            SCREENSHOTS.mkdir(exist_ok=True)
            name = f"{'hostile' if 'hostile' in str(path) else 'sample'}-{path.stem}-{size}.png"
            page.screenshot(path=SCREENSHOTS / name, full_page=True)
    assert drawn >= 4


def test_hostile_values_are_seen_as_text(browser: Any, fake_report: Path) -> None:
    with open_page(browser, fake_report / "40_quarterly_review.html") as watched:
        body = watched.page.inner_text("body")
        # Sentence, stdout, parameter, company and Markdown; the charts' own texts are in the SVG.
        assert body.count(HOSTILE) >= 5
        assert watched.page.evaluate("[...document.querySelectorAll('.live svg text')].map(t => t.textContent)").count(
            HOSTILE
        )
        watched.page.hover(
            "figure.chart .live svg .mark-line path, figure.chart .live svg .mark-symbol path", force=True
        )
        assert watched.complaints == []
    with open_page(browser, fake_report / "index.html") as watched:
        assert HOSTILE in watched.page.inner_text("h1")
        assert "ValueError: no <b>such</b> day" in watched.page.inner_text("main")
        assert watched.complaints == []


def test_tooltip_shows_hostile_value_as_text(browser: Any, fake_report: Path) -> None:
    with open_page(browser, fake_report / "40_quarterly_review.html") as watched:
        bars = watched.page.query_selector_all("figure.chart .live svg .mark-rect path")
        assert bars
        bars[0].hover(force=True)
        tooltip = watched.page.wait_for_selector("#vg-tooltip-element.visible")
        assert tooltip.inner_text().strip()
        assert not tooltip.query_selector("script, b")
        assert watched.complaints == []


def test_policy_stops_what_markup_would_do(browser: Any, fake_report: Path, tmp_path: Path) -> None:
    """Even markup that got through every other wall neither runs nor loads."""
    text = (fake_report / "00_start_here.html").read_text("utf-8")
    attack = "<script>document.title='run'</script><img src='https://example.org/x' onerror=\"document.title='run'\">"
    path = tmp_path / "attacked.html"
    path.write_text(text.replace("<main", attack + "<main", 1), "utf-8")
    with open_page(browser, path) as watched:
        reasons: list[str] = []
        watched.page.on("requestfailed", lambda r: reasons.append(r.failure))
        watched.page.reload()
        watched.page.wait_for_timeout(300)
        assert watched.page.title() != "run"
        # Stopped by the policy, not only by the missing network.
        assert reasons == ["csp"]
        assert any("Content Security Policy" in complaint for complaint in watched.complaints)


def test_code_toggle_and_contents(browser: Any, fake_report: Path) -> None:
    with open_page(browser, fake_report / "40_quarterly_review.html") as watched:
        page = watched.page
        cells = page.query_selector_all("details.code")
        assert not any(cell.get_attribute("open") is not None for cell in cells)
        page.click("#all-code")
        assert all(cell.get_attribute("open") is not None for cell in cells)
        assert page.get_attribute("#all-code", "aria-pressed") == "true"
        page.click("#all-code")
        assert not any(cell.get_attribute("open") is not None for cell in cells)
        page.click("nav.contents a:has-text('Limits')")
        assert page.evaluate("location.hash") == "#Limits"
        assert page.evaluate("getComputedStyle(document.querySelector('nav.contents')).position") == "sticky"
        page.click("figure.chart details.behind summary")
        assert page.is_visible("figure.chart details.behind table")
    with open_page(browser, fake_report / "40_quarterly_review.html", "phone") as watched:
        main, nav = watched.page.query_selector("main"), watched.page.query_selector("nav.contents")
        assert nav.bounding_box()["y"] < main.bounding_box()["y"]


def test_without_scripts_the_page_is_whole(browser: Any, fake_report: Path) -> None:
    path = fake_report / "40_quarterly_review.html"
    with open_page(browser, path, java_script_enabled=False) as watched:
        page = watched.page
        for chart in page.query_selector_all("figure.chart .static"):
            assert chart.is_visible()
            assert chart.bounding_box()["height"] > 100
        page.click("details.code summary >> nth=0")
        assert page.is_visible("details.code pre >> nth=0")
        assert not page.is_visible("#all-code")


def test_prints_on_paper(browser: Any, report: Path) -> None:
    path = report / "40_quarterly_review.html"
    with open_page(browser, path) as watched:
        page = watched.page
        pdf = page.pdf(prefer_css_page_size=True)
        assert pdf.startswith(b"%PDF")
        assert len(pdf) > 20_000
        page.emulate_media(media="print")
        page.set_viewport_size({"width": 680, "height": 1000})
        assert not page.is_visible("nav.contents")
        assert not any(cell.is_visible() for cell in page.query_selector_all("details.code"))
        for chart in page.query_selector_all("figure.chart"):
            assert chart.query_selector(".static").is_visible()
            assert not chart.query_selector(".live").is_visible()
            assert page.evaluate("c => getComputedStyle(c).breakInside", chart) == "avoid"
            assert chart.query_selector(".static").bounding_box()["width"] <= 680
        SCREENSHOTS.mkdir(exist_ok=True)
        name = "hostile" if "hostile" in str(path) else "sample"
        page.screenshot(path=SCREENSHOTS / f"{name}-print.png", full_page=True)


def test_whole_report_is_small(sample_report: Path) -> None:
    notebooks = list((sample_report / "notebooks").glob("*.ipynb"))
    size = sum(p.stat().st_size for p in sample_report.rglob("*") if p.is_file())
    assert notebooks and size < NOTEBOOK_BYTES * len(notebooks)


def contrast(first: str, second: str) -> float:
    """Contrast of two CSS colours after WCAG."""

    def luminance(color: str) -> float:
        numbers = [int(x) / 255 for x in color[color.index("(") + 1 : -1].split(",")[:3]]
        linear = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in numbers]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((luminance(first), luminance(second)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_text_has_contrast(browser: Any, fake_report: Path) -> None:
    find = """() => [...document.querySelectorAll('body *')].filter(e => e.checkVisibility()
      && !e.closest('svg, .sr, .skip')
      && [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim())).map(e => {
        let b = e; while (b && getComputedStyle(b).backgroundColor === 'rgba(0, 0, 0, 0)') b = b.parentElement;
        return [e.tagName + '.' + e.className, getComputedStyle(e).color,
                b ? getComputedStyle(b).backgroundColor : 'rgb(255, 255, 255)'];
      })"""
    for path in sorted(fake_report.glob("*.html")):
        with open_page(browser, path) as watched:
            if watched.page.is_visible("#all-code"):
                watched.page.click("#all-code")
            weak = [x for x in watched.page.evaluate(find) if contrast(x[1], x[2]) < 4.5]
            assert weak == []

"""Every chart of the sample company's notebooks: what it says, shows on hover, and whether it can be read."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import vl_convert
from PIL import ImageFont

from opslib.data.source import open_data
from opslib.decide.crisis.investigation import investigate_voice
from opslib.decide.review.review import review_quarter
from opslib.decide.watch.watch import watch_company
from opslib.present.display import ChartView

ROOT = Path(__file__).resolve().parents[2]
WIDEST, SMALLEST = 860, 11
# The sample has no subscriptions, and nobody has chosen a cell of the triangle.
NOT_FOR_SAMPLE = {"churn.plot_renewals", "growth.plot_cell"}
MODULES = ("growth", "funnel", "churn", "review", "watch", "crisis")
# Fields that are a share, by their format, and have no counts of their own. Why:
SERIES = "the expected range is of the share; the day's numbers and their counts are in the table of numbers"
WITHOUT_COUNTS = {
    "churn.plot_exits": "a sum over days of shares of those still there (Aalen-Johansen)",
    "review.plot_effects": "a difference as a share of the value without it; the looks' table has the counts",
    "watch.plot_numbers": SERIES,
    "crisis.plot_timeline": SERIES,
}
# Money by money is a rate of amounts.
COUNTS = re.compile(r"_(count|amount)$")


def list_charts() -> list[str]:
    names = [
        f"{module}.{name}"
        for module in MODULES
        for name in dir(importlib.import_module(f"opslib.present.{module}.charts"))
        if name.startswith("plot_")
    ]
    return [*names, "review.plot_effects"]


@pytest.fixture(scope="module")
def views(sample_growth, sample_funnel, sample_churn) -> dict[str, ChartView]:  # type: ignore[no-untyped-def]
    data = open_data(ROOT / "playbook.toml")
    results = {
        "growth": sample_growth,
        "funnel": sample_funnel,
        "churn": sample_churn,
        "review": review_quarter(data),
        "watch": watch_company(data),
        "crisis": investigate_voice(data),
    }
    made = {}
    for name in list_charts():
        module, function = name.split(".")
        where = "initiatives" if function == "plot_effects" else "charts"
        plot = getattr(importlib.import_module(f"opslib.present.{module}.{where}"), function)
        view = plot(results[module])
        if isinstance(view, ChartView):
            made[name] = view
    return made


@pytest.fixture(scope="module")
def specs(views: dict[str, ChartView]) -> dict[str, dict[str, Any]]:
    return {name: view.chart.to_dict() for name, view in views.items()}


@pytest.fixture(scope="module")
def drawings(specs: dict[str, dict[str, Any]]) -> dict[str, str]:
    return {name: vl_convert.vegalite_to_svg(spec) for name, spec in specs.items()}


def find_tooltips(spec: Any) -> Iterator[list[dict[str, Any]]]:
    if isinstance(spec, list):
        for part in spec:
            yield from find_tooltips(part)
    elif isinstance(spec, dict):
        found = spec.get("encoding", {}).get("tooltip")
        if isinstance(found, list):
            yield found
        for name, part in spec.items():
            if name not in ("data", "datasets"):
                yield from find_tooltips(part)


def test_every_chart_is_drawn_for_the_sample(views: dict[str, ChartView]) -> None:
    assert set(list_charts()) - set(views) == NOT_FOR_SAMPLE


@pytest.mark.parametrize("name", sorted(set(list_charts()) - NOT_FOR_SAMPLE))
class TestChart:
    def test_says_what_it_is(self, name: str, views, specs) -> None:  # type: ignore[no-untyped-def]
        view = views[name]
        assert view.title
        assert view.alt.endswith(".")
        assert specs[name]["description"] == f"{view.title}. {view.alt}"

    def test_is_a_valid_specification(self, name: str, views, specs) -> None:  # type: ignore[no-untyped-def]
        assert views[name].chart.to_dict(validate=True) == specs[name]

    def test_hover_tells_what_the_table_tells(self, name: str, views, specs) -> None:  # type: ignore[no-untyped-def]
        tooltips = list(find_tooltips(specs[name]))
        assert tooltips
        shown = {tip["field"] for tips in tooltips for tip in tips}
        # A target is in the table of metrics; these two charts show a wide table of the same numbers.
        elsewhere = {"target", "window", "users_count"} if name in WIDE else set()
        assert shown - elsewhere <= set(views[name].labels)

    def test_rates_come_with_counts(self, name: str, views, specs) -> None:  # type: ignore[no-untyped-def]
        for tips in find_tooltips(specs[name]):
            rates = [tip["field"] for tip in tips if str(tip.get("format", "")).endswith("%")]
            counts = [tip["field"] for tip in tips if COUNTS.search(tip["field"])]
            if rates and "target" not in rates:
                assert len(counts) >= 2 or name in WITHOUT_COUNTS, (rates, counts)
                assert set(counts) <= set(views[name].labels)

    def test_can_be_read_at_1280_pixels(self, name: str, drawings) -> None:  # type: ignore[no-untyped-def]
        svg = drawings[name]
        width = float(re.search(r'<svg[^>]*?\swidth="([\d.]+)"', svg)[1])  # type: ignore[index]
        assert width <= WIDEST
        assert min(float(size) for size in re.findall(r'font-size="([\d.]+)px"', svg)) >= SMALLEST
        assert "…" not in "".join(re.findall(r">([^<>]*)</text>", svg))
        assert not list(find_cut_texts(svg, width))


WIDE = {"growth.plot_active_users", "review.plot_retention"}
TRANSLATE = re.compile(r"translate\((-?[\d.]+),\s*(-?[\d.]+)\)")


def find_cut_texts(svg: str, width: float) -> Iterator[str]:
    """Texts that reach over the left or right edge of a drawing; upright ones only."""
    import xml.etree.ElementTree as ElementTree

    font = ImageFont.load_default(size=12)

    def walk(node: Any, left: float) -> Iterator[str]:
        moved = TRANSLATE.match(node.get("transform", ""))
        here = left + (float(moved[1]) if moved else 0)
        if (
            node.tag.endswith("}text")
            and "rotate" not in node.get("transform", "")
            and node.text
            and node.get("opacity") != "0"
        ):
            size = float(node.get("font-size", "12px").removesuffix("px"))
            long = font.getlength(node.text) * size / 12
            start = here - {"start": 0, "middle": long / 2, "end": long}[node.get("text-anchor", "start")]
            # Fonts differ a little from the one measured with.
            if start < -0.06 * long - 2 or start + long > width + 0.06 * long + 2:
                yield node.text
        for child in node:
            yield from walk(child, here)

    yield from walk(ElementTree.fromstring(svg), 0.0)


def test_a_cut_text_is_found() -> None:
    svg = '<svg xmlns="http://www.w3.org/2000/svg"><g transform="translate(80,0)"><text>{}</text></g></svg>'
    assert list(find_cut_texts(svg.format("too long for a drawing so narrow"), 120))
    assert not list(find_cut_texts(svg.format("short"), 120))


def test_no_reason_is_given_for_nothing(views: dict[str, ChartView]) -> None:
    assert set(WITHOUT_COUNTS) <= set(views)


def test_descriptions_tell_the_charts_of_a_notebook_apart(views: dict[str, ChartView]) -> None:
    said = [(name.split(".")[0], view.title, view.alt) for name, view in views.items()]
    assert len(set(said)) == len(said)

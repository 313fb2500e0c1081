"""Charts, tables and words: numbers with units, values as text, chart data that say what the chart shows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from opslib.data.source import open_data
from opslib.decide.review.review import QuarterlyReview, review_quarter
from opslib.measure.estimate import compare_estimates, estimate_count, estimate_rate
from opslib.present import answers
from opslib.present.answers import describe
from opslib.present.display import CHART_MIME, FINDINGS_MIME, VEGA_MIME, ListView
from opslib.present.review import charts, tables
from opslib.present.words import format_change, format_estimate, format_number

ROOT = Path(__file__).resolve().parents[2]
HOSTILE = "<script>alert(1)</script>"
FORMULA = '=HYPERLINK("https://x.invalid")'
CHINESE = "抖音广告"

CHARTS = [
    charts.plot_activity,
    charts.plot_growth,
    charts.plot_retention,
    charts.plot_revenue,
    charts.plot_channels,
    charts.plot_bridge,
]


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> QuarterlyReview:
    """A company whose channels and name are code, formulas and Chinese."""
    folder = tmp_path_factory.mktemp("hostile")
    names = [HOSTILE, FORMULA, CHINESE]
    quoted = [f'"{n.replace(chr(34), chr(34) * 2)}"' for n in names]
    days = [f"2026-0{1 + u % 6}-{1 + d:02d} 10:00:00" for u in range(180) for d in range(0, 9, 1 + u % 4)]
    users = [u for u in range(180) for _ in range(0, 9, 1 + u % 4)]
    events = "\n".join(f"{u},{day},open" for u, day in zip(users, days, strict=True))
    (folder / "events.csv").write_text(f"user_id,ts,event\n{events}\n999,2026-06-30 23:59:00,open\n")
    rows = "\n".join(f"{u},2026-0{1 + u % 6}-01 09:00:00,{quoted[u % 3]}" for u in [*range(180), 999])
    (folder / "users.csv").write_text(f"user_id,signup_at,channel\n{rows}\n")
    spend = "\n".join(f"2026-0{m}-01,{q},1000" for m in range(1, 7) for q in quoted)
    (folder / "spend.csv").write_text(f"date,channel,amount\n{spend}\n")
    sources = "\n".join(f'[tables.{t}]\nsource = "{t}.csv"' for t in ("events", "users", "spend"))
    (folder / "playbook.toml").write_text(f"[company]\nname = '{HOSTILE}'\n{sources}\n", encoding="utf-8")
    return review_quarter(open_data(folder / "playbook.toml"), quarter="2026Q2")


@pytest.fixture(scope="module")
def sample() -> QuarterlyReview:
    return review_quarter(open_data(ROOT / "playbook.toml"), quarter="2026Q2")


def test_hostile_values_are_text_in_every_html(hostile: QuarterlyReview) -> None:
    views = [tables.show_channels(hostile), answers.show_answer(hostile), answers.show_next_actions(hostile)]
    for view in views:
        bundle = view._repr_mimebundle_()
        page = (bundle[0] if isinstance(bundle, tuple) else bundle)["text/html"]
        assert "<script" not in page.lower()
    channels = views[0]._repr_mimebundle_()["text/html"]
    for shown in ("&lt;script&gt;alert(1)&lt;/script&gt;", "=HYPERLINK(", CHINESE):
        assert shown in channels


def test_hostile_values_stay_data_in_charts(hostile: QuarterlyReview) -> None:
    bundle = charts.plot_channels(hostile)._repr_mimebundle_()
    cells = {cell for row in bundle[CHART_MIME]["rows"] for cell in row}
    assert {HOSTILE, FORMULA, CHINESE} <= cells


@pytest.mark.parametrize("plot", CHARTS, ids=lambda f: f.__name__)
def test_charts_carry_picture_specification_and_table(  # type: ignore[no-untyped-def]
    plot, sample: QuarterlyReview, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert {CHART_MIME, "image/png", "text/plain"} == set(plot(sample)._repr_mimebundle_())
    monkeypatch.setenv("JPY_SESSION_NAME", "somebody looks")
    bundle, _ = plot(sample)._repr_mimebundle_()
    assert {VEGA_MIME, CHART_MIME, "image/png", "text/plain"} == set(bundle)
    table = bundle[CHART_MIME]
    assert table["rows"]
    assert all(len(row) == len(table["columns"]) for row in table["rows"])
    assert table["title"]
    assert table["alt"]
    json.dumps(bundle, allow_nan=False)
    assert "http" not in json.dumps({k: v for k, v in bundle[VEGA_MIME].items() if k != "$schema"})


def test_chart_table_holds_the_reviews_numbers(sample: QuarterlyReview) -> None:
    table = charts.plot_retention(sample)._repr_mimebundle_()[CHART_MIME]
    names = [c["name"] for c in table["columns"]]
    rows = [dict(zip(names, row, strict=True)) for row in table["rows"]]
    seven = next(r for r in rows if r["day"] == "Day 7" and r["period"] == "2026Q2")
    estimate = sample.now.estimates()["d7_rate"]
    assert seven["rate"] == pytest.approx(estimate.value)
    assert (seven["retained_count"], seven["users_count"]) == (estimate.numerator, estimate.denominator)


def test_sections_without_their_table_say_which(hostile: QuarterlyReview) -> None:
    view = charts.plot_revenue(hostile)
    assert isinstance(view, ListView)
    assert "table orders (user_id, ts, amount)" in view.sentences[0]


def test_answer_carries_the_findings(sample: QuarterlyReview) -> None:
    _, metadata = answers.show_answer(sample)._repr_mimebundle_()
    assert metadata[FINDINGS_MIME]["sentences"] == describe(sample)
    assert {"d7_rate", "target", "channel", "growth_accounting"} <= {
        f["name"] for f in metadata[FINDINGS_MIME]["findings"]
    }
    assert 3 <= len(describe(sample)) <= 6


def test_every_metric_in_the_table_has_counts_and_interval(sample: QuarterlyReview) -> None:
    frame = tables.show_metrics(sample).frame
    assert frame["value"].str.contains(r"\[.+\sto\s.+\]").all()
    assert (frame["counts"].str.contains(r"\d")).all()


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.12345, "rate", "12.3%"),
        (1234567, "count", "1,234,567"),
        (12.5, "amount", "CNY 12.50"),
        (4321.4, "amount", "CNY 4,321"),
        (2_500_000, "amount", "CNY 2.50 million"),
        (None, "rate", "–"),
        (float("nan"), "count", "–"),
    ],
)
def test_numbers_have_units(value: float | None, unit: str, text: str) -> None:
    assert format_number(value, unit, currency="CNY") == text


def test_chance_is_called_chance() -> None:
    small = compare_estimates(estimate_rate("r", 30, 100), estimate_rate("r", 28, 100))
    assert format_change(small) == "+2.0 points, within chance"
    assert format_change(compare_estimates(estimate_count("c", 2000), estimate_count("c", 1000))) == "+100.0%"
    assert "at least 20 needed" in format_estimate(estimate_rate("r", 1, 5))

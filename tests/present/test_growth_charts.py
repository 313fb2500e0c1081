"""Charts of the growth model: each says what it shows, on the sample, on hostile names and on companies with little."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from opslib.decide.growth.cell import CellChoice
from opslib.decide.growth.model import GrowthModel, model_growth
from opslib.present.display import CHART_MIME, SESSION, VEGA_MIME, ChartView, ListView
from opslib.present.growth import charts, names
from tests.data.company import EVENTS, HEAD, ORDERS, USERS, open_company

ROOT = Path(__file__).resolve().parents[2]
HOSTILE = "<script>alert(1)</script>"
FORMULA = '=HYPERLINK("https://x.invalid")'
CHINESE = "抖音广告" * 12
CODE = "' + datum['x'] + \"\\n\u2028${1}"
NAMES = (HOSTILE, FORMULA, CHINESE, CODE)
SPEND = '[tables.spend]\nsource = "spend.csv"\n'

CHARTS = [getattr(charts, name) for name in charts.__all__ if name.startswith("plot_")]


def _make_events(users: int, days: int, *, step: int = 5) -> pd.DataFrame:
    """Users that begin on different days, and come the next ones with gaps of their own."""
    last = pd.Timestamp("2026-06-30 12:00:00")
    rows = [
        (f"u{u}", last - pd.Timedelta(days=back), ("open", "share", "buy")[(u + back) % 3])
        for u in range(users)
        for back in range(days - 1 - (u * 7) % days, -1, -(1 + (u * u) % step))
    ]
    return pd.DataFrame(rows, columns=["user_id", "ts", "event"])


def _make_users(events: pd.DataFrame, names: list[str]) -> pd.DataFrame:
    first = events.groupby("user_id", sort=False)["ts"].min().reset_index()
    users = first.rename(columns={"ts": "signup_at"})
    return users.assign(channel=[names[i % len(names)] for i in range(len(users))])


def _make_orders(events: pd.DataFrame) -> pd.DataFrame:
    return events.loc[::2, ["user_id", "ts"]].assign(amount=[10.0 + i % 7 for i in range(len(events.loc[::2]))])


def _make_spend(names: list[str], months: int) -> pd.DataFrame:
    """Every day some, and in the last quarter half as much again for the first name."""
    days = pd.date_range(end="2026-06-30", periods=30 * months).strftime("%Y-%m-%d")
    rows = [
        (d, n, 900.0 if n == names[0] and i > 30 * months - 85 else 300.0) for i, d in enumerate(days) for n in names
    ]
    return pd.DataFrame(rows, columns=["date", "channel", "amount"])


def make_hostile(folder: Path) -> GrowthModel:
    events = _make_events(800, 240)
    files: dict[str, Any] = {
        "events.csv": events.assign(event=events["event"].replace({"share": HOSTILE, "buy": CHINESE})),
        "users.csv": _make_users(events, list(NAMES)),
        "orders.csv": _make_orders(events),
        "spend.csv": _make_spend(list(NAMES), 8),
    }
    return model_growth(open_company(folder, files, EVENTS + USERS + ORDERS + SPEND))


def make_one_user(folder: Path) -> GrowthModel:
    events = HEAD + "".join(f"1,2026-0{m}-1{d} 10:00:00,open\n" for m in range(1, 7) for d in range(3))
    return model_growth(open_company(folder, {"events.csv": events}))


def make_orders_only(folder: Path) -> GrowthModel:
    orders = _make_orders(_make_events(300, 200))
    return model_growth(open_company(folder, {"orders.csv": orders}, ORDERS))


def make_events_only(folder: Path) -> GrowthModel:
    return model_growth(open_company(folder, {"events.csv": _make_events(300, 200)}))


def make_one_day(folder: Path) -> GrowthModel:
    events = HEAD + "".join(f"{u},2026-06-30 10:00:00,open\n" for u in range(30))
    return model_growth(open_company(folder, {"events.csv": events}))


def make_few_days(folder: Path) -> GrowthModel:
    return model_growth(open_company(folder, {"events.csv": _make_events(60, 5)}))


def make_many_channels(folder: Path) -> GrowthModel:
    events = _make_events(10_000, 60, step=60)
    names = [f"channel {i}" for i in range(10_000)]
    files = {
        "events.csv": events,
        "users.csv": _make_users(events, names),
        "orders.csv": _make_orders(events),
        "spend.csv": pd.DataFrame({"date": "2026-06-01", "channel": names, "amount": 5.0}),
    }
    return model_growth(open_company(folder, files, EVENTS + USERS + ORDERS + SPEND))


COMPANIES = {
    "hostile": make_hostile,
    "one user": make_one_user,
    "orders only": make_orders_only,
    "events only": make_events_only,
    "one day": make_one_day,
    "few days": make_few_days,
    "many channels": make_many_channels,
}


@pytest.fixture(autouse=True)
def _somebody_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only then a bundle holds the compiled specification."""
    monkeypatch.setenv(SESSION, "somebody looks")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory, sample_growth: GrowthModel) -> dict[str, GrowthModel]:
    made = {name: make(tmp_path_factory.mktemp("company")) for name, make in COMPANIES.items()}
    cell = CellChoice(dt.date(2026, 5, 4), 3)
    return {"sample": replace(sample_growth, choice=cell)} | made


@pytest.fixture(scope="module")
def views(models: dict[str, GrowthModel]) -> dict[tuple[str, str], ChartView | ListView]:
    return {(name, plot.__name__): plot(model) for name, model in models.items() for plot in CHARTS}


@pytest.mark.parametrize("company", ["sample", *COMPANIES])
@pytest.mark.parametrize("plot", CHARTS, ids=lambda f: f.__name__)
def test_every_company_gets_a_chart_or_a_sentence(plot, company: str, views) -> None:  # type: ignore[no-untyped-def]
    view = views[company, plot.__name__]
    if isinstance(view, ListView):
        (sentence,) = view.sentences
        assert sentence.endswith(".")
        assert "nothing to show, because" in sentence
        assert company != "sample"
        return
    bundle, _ = view._repr_mimebundle_()
    assert {VEGA_MIME, CHART_MIME, "image/png", "text/plain"} == set(bundle)
    table = bundle[CHART_MIME]
    assert table["rows"]
    assert len(table["rows"]) <= 1000
    assert [c["name"] for c in table["columns"]] == [c for c in view.frame.columns if c in view.labels]
    assert set(view.labels) <= set(view.frame.columns)
    assert all(len(row) == len(table["columns"]) for row in table["rows"])
    assert table["title"]
    assert len(table["title"]) <= 100
    assert not {"nan", "None", "inf"} & set(table["title"].replace(",", " ").split())
    assert table["alt"].endswith(".")
    json.dumps(bundle, allow_nan=False)
    assert not _find_values(bundle[VEGA_MIME], {"url", "href", "loader"})


@pytest.mark.parametrize(("company", "drawn"), [("hostile", 14), ("sample", len(CHARTS)), ("events only", 8)])
def test_charts_are_drawn_where_there_is_something(company: str, drawn: int, views) -> None:  # type: ignore[no-untyped-def]
    missing = {plot: v.sentences for (name, plot), v in views.items() if name == company and isinstance(v, ListView)}
    assert len(CHARTS) - len(missing) >= drawn, missing


@pytest.mark.parametrize("plot", ["plot_costs", "plot_budget_shift", "plot_value"])
def test_hostile_names_stay_data(plot: str, views) -> None:  # type: ignore[no-untyped-def]
    view = views["hostile", plot]
    assert isinstance(view, ChartView)
    bundle, _ = view._repr_mimebundle_()
    assert set(NAMES) <= {cell for row in bundle[CHART_MIME]["rows"] for cell in row}
    # What Vega runs: `sort` with names, for one, would be compiled into such an expression.
    expressions = _find_values(bundle[VEGA_MIME], {"expr", "signal", "update", "test", "init"})
    assert expressions
    assert not [e for e in expressions for name in (*NAMES, json.dumps(CODE)[1:-1]) if name in e]


def _find_values(specification: Any, keys: set[str]) -> list[str]:
    """The texts under these keys, wherever they are in a Vega specification but in its data."""
    if isinstance(specification, list):
        return [text for part in specification for text in _find_values(part, keys)]
    if not isinstance(specification, dict):
        return []
    own = [v for k, v in specification.items() if k in keys and isinstance(v, str)]
    return own + [text for k, part in specification.items() if k != "values" for text in _find_values(part, keys)]


def _read_rows(view: ChartView) -> list[dict[str, Any]]:
    table = view._repr_mimebundle_()[0][CHART_MIME]
    names = [c["name"] for c in table["columns"]]
    return [dict(zip(names, row, strict=True)) for row in table["rows"]]


def test_growth_adds_up(views) -> None:  # type: ignore[no-untyped-def]
    rows = _read_rows(views["sample", "plot_accounting"])
    by_state = {r["state"]: r["users_count"] for r in rows if r["period_start"] == rows[-1]["period_start"]}
    assert by_state["New"] + by_state["Came back"] + by_state["Left"] == by_state["Gained less lost"]
    assert len(rows) == 4 * 26


def test_retention_curve_is_the_models(models, views) -> None:  # type: ignore[no-untyped-def]
    model = models["sample"]
    seven = [r for r in _read_rows(views["sample", "plot_retention_curves"]) if r["n"] == 7]
    expected = [result.estimate(7).value for result in (model.staying.before, model.staying.now)]
    assert [r["retention_rate"] for r in seven] == pytest.approx(expected)


def test_triangle_leaves_out_weeks_that_are_not_over(models, views) -> None:  # type: ignore[no-untyped-def]
    shown = views["sample", "plot_triangle"].frame
    assert shown["mature"].all()
    triangle = models["sample"].staying.triangle.triangle
    assert len(shown) == int((triangle["mature"] & (triangle["n"] > 0)).sum())


def test_tiers_of_too_few_users_have_no_rates(views) -> None:  # type: ignore[no-untyped-def]
    assert isinstance(views["one user", "plot_tier_moves"], ListView)
    assert views["sample", "plot_tier_moves"].frame["transition_rate"].notna().all()


def test_moved_channels_come_first_and_are_named(views) -> None:  # type: ignore[no-untyped-def]
    view = views["sample", "plot_budget_shift"]
    assert "social" in view.title
    assert view.title.startswith("CNY 15,419 more")
    assert {r["verdict"] for r in _read_rows(view) if r["channel"] == "social"} == {"more users, not more who stay"}


def test_levers_and_rates_have_plain_names(models, views) -> None:  # type: ignore[no-untyped-def]
    model = models["sample"]
    assert set(model.outlook.sensitivity["rate"]) <= set(names.RATE_LABELS)
    assert set(model.outlook.rates.rates) <= set(names.RATE_LABELS)
    assert set(model.outlook.levers.levers["lever"]) <= set(names.LEVER_NAMES)
    labels = {r["label"] for r in _read_rows(views["sample", "plot_levers"])}
    assert "Next-day retention: 30.8% to 35.0%" in labels


def test_many_channels_are_cut(views) -> None:  # type: ignore[no-untyped-def]
    for (company, _), view in views.items():
        if company == "many channels" and isinstance(view, ChartView):
            for name in ("group", "channel"):
                if name in view.frame.columns:
                    assert view.frame[name].nunique() <= 20


def test_missing_tables_are_named(views) -> None:  # type: ignore[no-untyped-def]
    for plot, need in (("plot_costs", "spend (date"), ("plot_budget_shift", "spend (date"), ("plot_value", "orders (")):
        assert need in views["events only", plot].sentences[0]
    assert "events (" in views["orders only", "plot_behaviors"].sentences[0]
    assert "not enough data" in views["one day", "plot_projection"].sentences[0]

"""The growth model: the planted incidents by name, edge companies in sentences, days and levers chosen as promised."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterable
from pathlib import Path

import pandas as pd
import pytest

from opslib.data.source import open_data
from opslib.decide.growth.model import LEVERS, GrowthModel, model_growth
from opslib.decide.scope import choose_scope
from opslib.errors import InputError
from opslib.measure.retention import measure_retention
from opslib.present.answers import describe, list_limits, suggest_actions
from opslib.present.display import ChartView, ListView, TableView
from opslib.present.growth import charts, tables
from tests.conftest import ROOT
from tests.decide.conftest import Company

HOSTILE = '<img src=x onerror="alert(1)">'


@pytest.fixture(scope="module")
def sample(sample_growth: GrowthModel) -> GrowthModel:
    return sample_growth


def tell(model: GrowthModel) -> str:
    """Everything that a notebook shows of a model, in text; nothing may fail."""
    json.dumps(model.findings(), allow_nan=False)
    shown = [*describe(model), *list_limits(model), *suggest_actions(model)]
    for module in (tables, charts):
        for name in module.__all__:
            if name.startswith(("show_", "plot_")):
                view = getattr(module, name)(model)
                assert isinstance(view, ChartView | ListView | TableView)
                if isinstance(view, TableView | ListView):
                    shown.append(view._repr_mimebundle_()["text/html"])
    return "\n".join(shown)


def test_summary_names_the_planted_incidents(sample: GrowthModel) -> None:
    """The budget that brought no retained users, and the fall of next-day retention on Android from paid ads."""
    truth = json.loads((ROOT / "data" / "samples" / "truth.json").read_text())
    assert {"budget_shift", "d1_drop"} <= {i["id"] for i in truth["incidents"]}
    text = " ".join(describe(sample))
    assert "went to social" in text
    assert "visitors, not users who stay" in text
    assert "first in channel paid_ads and platform android" in text
    assert 3 <= len(describe(sample)) <= 5
    actions = " ".join(suggest_actions(sample))
    assert "channel paid_ads and platform android" in actions
    assert "for social" in actions


def test_numbers_agree_between_sections(sample: GrowthModel) -> None:
    """One number, made by different measures."""
    scope, days = sample.scope, sample.scope.active_days
    retention = measure_retention(days, scope.now, as_of=scope.as_of)
    for n in (1, 7, 30):
        assert sample.staying.now.estimate(n).value == retention.days[n].value
    explained = sample.staying.explanation
    assert explained is not None
    assert explained.overall.now.value == pytest.approx(retention.days[1].value)
    new = sample.acquisition.channels.totals["new_users_count"]
    assert new.value == sample.acquisition.channels.by_group["new_users_count"].sum()
    assert new.value == sample.staying.now.curve.set_index("n").loc[0, "users_count"]
    rows = sample.audience.accounting.periods
    gained = rows["new_count"] + rows["resurrected_count"] - rows["churned_count"]
    assert (rows["opening_count"] + gained == rows["closing_count"]).all()
    parts = sample.audience.segment_accounting
    assert parts is not None
    assert parts.periods.groupby("period_start")["closing_count"].sum().tolist() == rows["closing_count"].tolist()
    daily = sample.outlook.rates.daily.set_index("day")["dau_count"]
    mean = daily[pd.Timestamp(scope.now.start) : pd.Timestamp(scope.as_of)].mean()
    assert sample.audience.now.dau.value == pytest.approx(mean)


def test_levers_take_the_target_or_a_tenth(sample: GrowthModel) -> None:
    targets = sample.scope.data.playbook.targets
    then = sample.outlook.levers.levers.set_index("lever")["then_value"]
    assert sample.outlook.chosen["d1_rate"] == "target"
    assert then["d1_rate"] == targets["d1_rate"].bound
    # The target of the cost is met already, so it takes a tenth less.
    assert sample.outlook.chosen["cac_amount"] == "a tenth better"
    cost = sample.acquisition.channels.totals["cac_amount"].value
    assert cost is not None
    assert then["cac_amount"] == pytest.approx(0.9 * cost, abs=0.01)
    assert set(sample.outlook.chosen) | set(sample.outlook.unknown) == set(LEVERS)


def test_a_segment_and_a_lever_of_ones_own() -> None:
    data = open_data(ROOT / "playbook.toml")
    model = model_growth(data, segment="channel:social", grain="month", levers={"d7_rate": 0.3})
    assert model.outlook.chosen["d7_rate"] == "parameter"
    assert model.staying.portrait is not None
    assert model.staying.portrait.segment == "channel:social"
    social = data.restrict(data.active_days, "channel:social")
    assert (
        model.audience.now.mau.value
        == data.execute(
            social.filter((social.day >= dt.date(2026, 6, 1)) & (social.day <= dt.date(2026, 6, 30)))
            .user_id.nunique()
            .name("n")
            .as_table()
        )["n"].iloc[0]
    )
    assert "users with channel social" not in tell(model)  # said once, above the answer


def test_days(sample: GrowthModel) -> None:
    scope = sample.scope
    assert scope.before is not None
    assert (scope.now.days, scope.before.days, scope.before.end) == (91, 91, scope.now.start)
    data = scope.data
    year_before = choose_scope(data, as_of="2026-05-31", compare_to="2025Q2")
    assert year_before.before is not None
    assert (year_before.as_of, year_before.before.last_day) == (dt.date(2026, 5, 31), dt.date(2025, 6, 30))
    late = year_before.active_days
    assert data.execute(late.aggregate(last=late.day.max()))["last"].iloc[0] <= pd.Timestamp(2026, 5, 31)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"as_of": "2027-01-01"}, "as_of 2027-01-01 lies outside the data"),
        ({"as_of": "2026-13-01"}, "'2026-13-01' for as_of is not a date"),
        ({"compare_to": "2026-06-01"}, "lies in the days looked at"),
        ({"compare_to": "2025-02-01"}, "begin before the data do"),
        ({"compare_to": "2026Q9"}, "compare_to '2026Q9'"),
        ({"segment": "channel:serch"}, "Did you mean 'search'?"),
    ],
)
def test_refusals_say_what_and_where(options: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=r".") as caught:
        choose_scope(open_data(ROOT / "playbook.toml"), **options)  # type: ignore[arg-type]
    assert message in str(caught.value)


@pytest.mark.shared
def test_a_community_that_empties(shared: Path, tmp_path: Path) -> None:
    """Real data without any attribute: the fall is told, and a forecast that is no use is called so."""
    source = json.dumps(str(shared / "real" / "collegemsg" / "CollegeMsg.txt"))
    columns = (
        'columns = { user_id = "column0", ts = { column = "column2", unit = "s" }, event = { value = "message" } }'
    )
    (tmp_path / "playbook.toml").write_text(f'[company]\nname = "C"\n[tables.events]\nsource = {source}\n{columns}\n')
    model = model_growth(open_data(tmp_path / "playbook.toml"))
    text = tell(model)
    facts = json.loads((shared / "real" / "collegemsg" / "facts.json").read_text())
    assert int(model.audience.accounting.periods["new_count"].sum()) == facts["D1"]["eligible"]
    assert "did worse than repeating the last value" in text
    assert "Active users a day fell from 128 to 29" in text
    assert "Next-day retention fell from 46.0% to 31.2%" in text
    coverage = model.outlook.backtest.summary.set_index("horizon").loc["1-28", "coverage80_rate"]
    assert 0.7 <= coverage <= 0.9


def opened(pairs: Iterable[tuple[int, dt.date]]) -> tuple[str, list[str]]:
    return "user_id,ts,event", [f"{user},{day} 23:30:00,open" for user, day in pairs]


START = dt.date(2026, 1, 1)


def test_one_user(company: Company) -> None:
    model = model_growth(company(events=opened((1, START + dt.timedelta(n)) for n in range(30))))
    text = tell(model)
    assert "Too few new users have had time to come back" in text
    assert "it needs spend (date, channel, amount)" in text
    assert "nan" not in text.lower().replace("finance", "")


def test_one_day_and_one_event(company: Company) -> None:
    model = model_growth(company(events=opened([(1, START)])))
    assert model.scope.before is None
    assert "One day of data cannot be compared with another." in tell(model)


def test_all_users_new(company: Company) -> None:
    text = tell(model_growth(company(events=opened((u, START + dt.timedelta(u % 28)) for u in range(280)))))
    assert "0.0% of 130 came back the next day" in text


def test_gaps_of_months(company: Company) -> None:
    days = [(u, dt.date(2026, m, 1 + u % 28)) for u in range(200) for m in (1, 2, 9, 10)]
    text = tell(model_growth(company(events=opened(days)), grain="month"))
    assert "cannot be told" in text


def test_only_orders(company: Company) -> None:
    rows = [f"{u},2026-{m:02d}-{1 + u % 28:02d} 23:30:00,10" for u in range(60) for m in range(1, 8)]
    text = tell(model_growth(company(orders=("user_id,ts,amount", rows))))
    assert "so that users who never bought are known" in text


def test_clock_change(company: Company) -> None:
    """Twelve local days round the change to summer time in Berlin: each user and day counts once."""
    rows = [f"{u},2026-03-{d:02d} {h:02d}:30:00,open" for u in range(60) for d in range(20, 32) for h in (1, 21)]
    model = model_growth(company("Europe/Berlin", events=("user_id,ts,event", rows)), grain="day")
    assert model.audience.accounting.periods["closing_count"].unique().tolist() == [60]


def test_ten_thousand_channels_with_hostile_names(company: Company) -> None:
    quoted = HOSTILE.replace('"', '""')
    users = [f'{u},2026-01-{1 + u % 28:02d} 00:10:00,"{quoted} {u % 10_000}"' for u in range(12_000)]
    events = opened((u, dt.date(2026, 1 + k, 1 + u % 28)) for u in range(12_000) for k in range(1 + u % 4))
    spend = [f'2026-0{1 + u % 3}-10,"{quoted} {u}",5' for u in range(10_000)]
    data = company(events=events, users=("user_id,signup_at,channel", users), spend=("date,channel,amount", spend))
    model = model_growth(data)
    tell(model)
    pages = [getattr(tables, n)(model)._repr_mimebundle_()["text/html"] for n in tables.__all__]
    assert not any("<img" in page for page in pages)
    assert max(len(page) for page in pages) < 60_000
    assert model_growth(data, segment=f"channel:{HOSTILE} 77").audience.now.period.days == model.scope.now.days

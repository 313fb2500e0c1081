"""The churn investigation: the planted causes by name, and little companies in plain sentences."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from click.testing import CliRunner

from opslib.data.guess import write_playbook
from opslib.data.source import Data, open_data
from opslib.decide.churn.investigation import ChurnInvestigation, investigate_churn
from opslib.decide.churn.leaving import list_moments
from opslib.errors import InputError
from opslib.present.answers import describe, describe_scope, list_limits, suggest_actions
from opslib.present.churn import charts, tables
from opslib.present.display import ChartView, ListView, TableView
from opslib.run.cli import cli
from tests.conftest import ROOT
from tests.decide.conftest import Company

FIRST = dt.datetime(2024, 1, 1, 8)
HOSTILE = "<img src=x onerror='alert(1)'>"


def tell(churn: ChurnInvestigation) -> str:
    """Everything that a notebook shows of an investigation, in text; nothing may fail."""
    json.dumps(churn.findings(), allow_nan=False)
    shown = [describe_scope(churn), *describe(churn), *list_limits(churn), *suggest_actions(churn)]
    for module in (tables, charts):
        for name in dir(module):
            if name.startswith(("show_", "plot_")):
                view = getattr(module, name)(churn)
                assert isinstance(view, ChartView | ListView | TableView)
                if isinstance(view, TableView | ListView):
                    shown.append(view._repr_mimebundle_()["text/html"])
    return "\n".join(shown)


@pytest.fixture(scope="module")
def sample(sample_churn: ChurnInvestigation) -> ChurnInvestigation:
    return sample_churn


def test_the_rise_is_told_with_what_chance_would_do(sample: ChurnInvestigation) -> None:
    first = describe(sample)[0]
    assert "In May 2026" in first and "the third rise in a row" in first and "more than chance" in first
    assert "by chance alone such a run shows in" in first
    rise = sample.leaving.churn.rise  # type: ignore[union-attr]
    assert rise.rising and rise.clear
    assert rise.chance_year_rate is not None and 0.15 < rise.chance_year_rate < 0.45


def test_the_planted_moments_are_found(sample: ChurnInvestigation) -> None:
    leaving = sample.leaving
    assert leaving.survival is not None and leaving.since_payment is not None
    first, after = list_moments(leaving.survival), list_moments(leaving.since_payment)
    assert (first.iloc[0]["tenure_first"], first.iloc[0]["tenure_last"]) == (6, 8)
    assert (after.iloc[0]["tenure_first"], after.iloc[0]["tenure_last"]) == (27, 33)
    assert len(first) == len(after) == 1


def test_the_planted_coupon_cause_is_named_with_about_its_share(sample: ChurnInvestigation) -> None:
    truth = json.loads((ROOT / "data" / "samples" / "truth.json").read_text())
    cells = next(i for i in truth["incidents"] if i["id"] == "coupon_churn")["changes"][0]["realised"]["cells"]
    leavers, stayers = (
        cells[f"expired_unused/{side}, established, all incident months"]["rate"] for side in ("leavers", "stayers")
    )
    planted = (leavers - stayers) / (1 - stayers)
    assert sample.reasons is not None
    named = sample.reasons.causes.named
    assert named["reason"].tolist() == ["coupon_expired_unused"]
    row = named.iloc[0]
    assert row["attributable_rate"] == pytest.approx(planted, abs=0.06)
    assert row["evidence"] == "natural_experiment"
    assert "coupon expired unused" in describe(sample)[2]


def test_before_the_incident_the_coupon_is_not_named() -> None:
    found = investigate_churn(open_data(ROOT / "playbook.toml"), as_of="2026-02-28", breakdown="platform")
    assert found.reasons is not None
    assert "coupon_expired_unused" not in found.reasons.causes.named["reason"].tolist()
    assert found.leaving.churn is not None and not found.leaving.churn.rise.clear


def test_tiers_partition_the_customers_and_the_plan_everybody_silent(sample: ChurnInvestigation) -> None:
    worth, recall = sample.worth, sample.recall
    assert worth is not None and recall is not None and recall.plan is not None
    assert worth.rfm.tiers["customers_count"].sum() == worth.rfm.customers_count
    assert worth.rfm.cells["customers_count"].sum() == worth.rfm.customers_count
    plan = recall.plan.segments
    states = [c for c in plan.columns if c.endswith("_count") and c != "users_count"]
    assert (plan[states].sum(axis=1) == plan["users_count"]).all()
    held, treated = plan["holdout_count"].sum(), plan["treated_count"].sum()
    assert held / (held + treated) == pytest.approx(0.1, abs=0.03)


def test_the_last_campaign_is_held_against_its_holdout(sample: ChurnInvestigation) -> None:
    assert sample.recall is not None and sample.recall.measured is not None
    measured = sample.recall.measured
    assert (measured.experiment, measured.split.verdict) == ("june_sale_2026", "fine")
    assert measured.totals["cost_per_incremental_amount"].known
    assert "Campaign june sale 2026" in describe(sample)[4]


def test_everything_is_shown(sample: ChurnInvestigation) -> None:
    text = tell(sample)
    assert "None" not in text and ">nan" not in text and " nan" not in text
    drawn = {name for name in charts.__all__ if isinstance(getattr(charts, name)(sample), ChartView)}
    assert set(charts.__all__) - drawn == {"plot_renewals"}
    users = sample.scope.data.execute(sample.recall.plan.users.limit(3))["user_id"]  # type: ignore[union-attr]
    assert not any(str(user) in json.dumps(sample.findings()) for user in users)


def list_days(users: int, days: int, *, leave_after: int | None = None, name: str = "") -> list[str]:
    """Users who come every second day, a new one a day; or leave after so many."""
    rows = []
    for n in range(users):
        for day in range(n % 150, days, 2):
            if leave_after is None or day - n % 150 <= leave_after:
                rows.append(f"{n},{FIRST + dt.timedelta(days=day)},open,{name or ('ios' if n % 2 else 'web')}")
    return rows


HEAD = "user_id,ts,event,platform"


def test_nobody_left(company: Company) -> None:
    found = investigate_churn(company(events=(HEAD, list_days(60, 200))), inactive_days=14)
    assert found.leaving.churn is not None
    assert found.leaving.churn.periods["left_count"].dropna().sum() == 0
    assert "0.0%" in describe(found)[0]
    tell(found)


def test_everybody_left(company: Company) -> None:
    rows = [*list_days(60, 200, leave_after=6), f"900,{FIRST + dt.timedelta(days=300)},open,web"]
    found = investigate_churn(company(events=(HEAD, rows)), inactive_days=14)
    survival = found.leaving.survival
    assert survival is not None and survival.left_count == 60
    tell(found)


def order(number: int, user: int, amount: int) -> str:
    return f"{number},{user},{FIRST + dt.timedelta(days=number)},{amount}"


@pytest.mark.parametrize(
    "tables_given",
    [
        {"events": (HEAD, [f"1,{FIRST},open,web"])},
        {"events": (HEAD, [f"{n},{FIRST},open,web" for n in range(50)])},
        {"orders": ("order_id,user_id,ts,amount", [order(n, n, 5) for n in range(120)])},
        {"orders": ("order_id,user_id,ts,amount", [order(n, n % 9, (-1) ** n) for n in range(200)])},
        {"orders": ("order_id,user_id,ts,amount", [order(n, n % 9, 0) for n in range(200)])},
    ],
    ids=["one user", "one day", "one order each", "refunds", "free"],
)  # fmt: skip
def test_little_companies_get_sentences(company: Company, tables_given: dict[str, Any]) -> None:
    found = investigate_churn(company(**tables_given))
    assert describe(found)
    tell(found)


def test_hostile_names_are_text(company: Company) -> None:
    rows = list_days(200, 200, leave_after=30, name=HOSTILE)
    users = [f"{n},{FIRST},{HOSTILE if n % 2 else 'b'}" for n in range(200)]
    data = company(events=(HEAD, rows), users=("user_id,signup_at,channel", users))
    found = investigate_churn(data, inactive_days=14)
    html = "".join(t for t in tell(found).split("\n") if t.startswith("<"))
    assert "<img" not in html


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"definition": "silence"}, "Choose from"),
        ({"definition": "orders"}, "needs the table orders"),
        ({"breakdown": "chanel"}, "Did you mean 'channel'"),
        ({"experiment": "june"}, "No campaign"),
        ({"as_of": "2030-01-01"}, "outside the data"),
    ],
)
def test_mistakes_are_named(company: Company, options: dict[str, Any], said: str) -> None:
    data = company(
        events=(HEAD, list_days(60, 200)),
        users=("user_id,signup_at,channel", [f"{n},{FIRST},{'a' if n % 2 else 'b'}" for n in range(60)]),
        exposures=("user_id,experiment,variant,ts", [f"{n},e,control,{FIRST}" for n in range(60)]),
    )
    with pytest.raises(InputError, match=said):
        investigate_churn(data, **({"inactive_days": 14} | options))


def test_the_playbook_names_reasons_and_a_misspelt_column_is_told(company: Company) -> None:
    rows = [*list_days(400, 240, leave_after=60)]
    more = '[[reasons]]\nname = "saw_web"\ntable = "events"\nwhere = ["platform = web"]\n'
    found = investigate_churn(company(more=more, events=(HEAD, rows)), inactive_days=14)
    assert found.reasons is not None
    assert "saw_web" in found.reasons.causes.reasons["reason"].tolist()
    wrong = more.replace("platform =", "platfrom =")
    with pytest.raises(InputError, match="platform"):
        investigate_churn(company(more=wrong, events=(HEAD, rows)), inactive_days=14)


def test_the_list_is_written_only_where_asked_and_never_twice(tmp_path: Path) -> None:
    out = tmp_path / "list.csv"
    arguments = ["recall-list", str(out), "--playbook", str(ROOT / "playbook.toml"), "--inactive-days", "30"]
    first = CliRunner().invoke(cli, arguments)
    assert first.exit_code == 0, first.output
    frame = pd.read_csv(out)
    assert set(frame["arm"]) == {"treated", "holdout"} and frame["user_id"].is_unique
    before = out.read_bytes()
    again = CliRunner().invoke(cli, arguments)
    assert again.exit_code != 0 and out.read_bytes() == before
    small = CliRunner().invoke(cli, [*arguments[:1], str(tmp_path / "small.csv"), *arguments[2:], "--budget", "100"])
    assert small.exit_code == 0
    part = pd.read_csv(tmp_path / "small.csv")
    assert part.loc[part["arm"] == "treated", "cost_amount"].sum() <= 100
    # Who is held out does not depend on how long the list is.
    both = part.merge(frame, on="user_id")
    assert (both["arm_x"] == both["arm_y"]).all()


def open_shared(shared: Path, folder: Path, name: str) -> Data:
    out = folder / "playbook.toml"
    write_playbook([shared / "real" / name], out=out)
    return open_data(out)


@pytest.mark.shared
def test_online_retail_by_orders(shared: Path, tmp_path: Path) -> None:
    data = open_shared(shared, tmp_path, "online_retail/online_retail.parquet")
    found = investigate_churn(data)
    assert found.leaving.definition is not None and found.leaving.definition.basis == "orders"
    assert found.worth is not None
    orders = data.execute(data.table("orders").select("user_id", "ts", "amount"))
    known = orders[orders["ts"] < pd.Timestamp(found.scope.as_of) + pd.Timedelta(days=1)]
    assert found.worth.rfm.customers_count == known["user_id"].nunique()
    brought = known.groupby("user_id")["amount"].sum().sort_values(ascending=False)
    top = brought.iloc[: -(-len(brought) // 5)].sum() / brought.sum()
    assert found.worth.concentration.top_share.value == pytest.approx(top, abs=1e-9)
    tell(found)


@pytest.mark.shared
def test_cdnow_by_orders(shared: Path, tmp_path: Path) -> None:
    found = investigate_churn(open_shared(shared, tmp_path, "cdnow/CDNOW_sample.txt"))
    assert found.worth is not None
    values = found.worth.value.model.parameters.set_index("parameter")["value"]
    assert values["r"] == pytest.approx(0.243, abs=0.02)
    tell(found)


@pytest.mark.shared
def test_telco_by_tenure(shared: Path, tmp_path: Path) -> None:
    data = open_shared(shared, tmp_path, "telco_churn/Telco-Customer-Churn.csv")
    found = investigate_churn(data, breakdown="Contract")
    survival = found.leaving.survival
    assert survival is not None and survival.unit == "month"
    reference = json.loads((shared / "cases" / "references.json").read_text("utf-8"))
    assert reference
    assert (survival.users_count, survival.left_count) == (7043, 1869)
    by = found.leaving.survival_by_segment
    assert by is not None and by.statistic == pytest.approx(2352.8725, abs=0.001)
    assert found.recall is None and found.reasons is None
    # Tenures of one day's customers are no cohort: the model is tried, does not fit, and says so.
    assert found.leaving.renewals is not None and "departs from the model" in found.leaving.renewals.note
    text = tell(found)
    assert "it needs events or orders" in text


def test_renewals_are_projected_where_the_model_fits(company: Company) -> None:
    # The high-end customers of Fader and Hardie (2007), ten times over, whose sBG is published: alpha .668, beta 3.806.
    left = [131, 126, 90, 60, 42, 34, 26]
    months = [n + 1 for n, k in enumerate(left) for _ in range(k)] + [7] * 491
    rows = [f"{n},{m},{'yes' if n < sum(left) else 'no'}" for n, m in enumerate(months)]
    data = company(subscriptions=("user_id,tenure_months,ended", rows), until="2024-01-01")
    found = investigate_churn(data)
    fit = found.leaving.renewals
    assert fit is not None and fit.alpha == pytest.approx(0.668, abs=0.001)
    assert fit.beta == pytest.approx(3.806, abs=0.01)
    assert found.leaving.projection["survival_rate"].iloc[11] == pytest.approx(0.378, abs=0.001)
    assert isinstance(charts.plot_renewals(found), ChartView)


def test_subscriptions_with_dates(company: Company) -> None:
    rows = [
        f"{n},{FIRST + dt.timedelta(days=n % 200)},{FIRST + dt.timedelta(days=n % 200 + 30 + n % 90) if n % 3 else ''},"
        f"{'year' if n % 2 else 'month'}"
        for n in range(600)
    ]
    found = investigate_churn(company(subscriptions=("user_id,started_at,ended_at,plan", rows)))
    assert found.leaving.definition is not None and found.leaving.definition.basis == "subscription"
    assert found.leaving.churn is not None and found.leaving.survival is not None
    ends = [FIRST.date() + dt.timedelta(days=n % 200 + 30 + n % 90) for n in range(600) if n % 3]
    assert found.leaving.survival.left_count == sum(end <= found.scope.as_of for end in ends)
    tell(found)

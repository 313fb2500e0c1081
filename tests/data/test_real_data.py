"""Real data, straight from the raw files: `opslib init`, then the numbers of facts.json."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from opslib.data.guess import write_playbook
from opslib.data.periods import DAY, Period
from opslib.data.source import Data, open_data
from opslib.measure.growth import account_growth, measure_activity, truncate_day
from opslib.measure.retention import find_first_days, measure_retention
from opslib.measure.revenue import RevenueResult, measure_revenue
from opslib.run import cli

pytestmark = pytest.mark.shared


def init(shared: Path, folder: Path, source: str) -> Data:
    write_playbook([shared / "real" / source], out=folder / "playbook.toml")
    data = open_data(folder / "playbook.toml")
    assert data.fitness.verdict == "fit", data.fitness.to_text()
    data.require_fit()
    return data


def read_facts(shared: Path, name: str) -> dict[str, Any]:
    return json.loads((shared / "real" / name / "facts.json").read_text("utf-8"))


def count_cohorts(data: Data, grain: str) -> pd.DataFrame:
    """Distinct active users by first and current week or month."""
    days = data.active_days
    joined = days.inner_join(find_first_days(days), "user_id")
    marked = joined.select(
        "user_id", cohort=truncate_day(joined.first_day, grain), now=truncate_day(joined.day, grain)  # type: ignore[arg-type]
    )  # fmt: skip
    counted = marked.group_by("cohort", "now").aggregate(users=marked.user_id.nunique())
    return data.execute(counted).pivot(index="cohort", columns="now", values="users").sort_index()


def by_month(result: RevenueResult, column: str) -> dict[str, float]:
    months = result.monthly["month_start"].dt.strftime("%Y-%m")
    return dict(zip(months, result.monthly[column].round(2).tolist(), strict=True))


def measure_all(data: Data) -> RevenueResult:
    whole = Period(data.span.start, data.span.end + 31 * DAY, "all")
    return measure_revenue(data.table("orders"), data.active_days, whole, calendar=data.calendar)


@pytest.fixture(scope="module")
def college(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Data:
    return init(shared, tmp_path_factory.mktemp("college"), "collegemsg/CollegeMsg.txt")


@pytest.fixture(scope="module")
def retail(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Data:
    return init(shared, tmp_path_factory.mktemp("retail"), "online_retail/online_retail.parquet")


@pytest.fixture(scope="module")
def cdnow(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Data:
    return init(shared, tmp_path_factory.mktemp("cdnow"), "cdnow/CDNOW_master.txt")


def test_collegemsg_rows(college: Data, shared: Path) -> None:
    facts = read_facts(shared, "collegemsg")
    profile = college.fitness.profiles[0]
    assert (profile.rows, profile.kept) == (59_835, 59_835)
    assert college.execute(college.active_days.user_id.nunique()) == facts["senders"] == 1350
    assert (str(profile.first_at), str(profile.last_at)) == (facts["first"], facts["last"])
    # The last day ends in the morning, so the last full one is the day before.
    assert college.as_of == dt.date(2004, 10, 25)


@pytest.mark.parametrize(("n", "retained", "eligible"), [(1, 590, 1349), (7, 354, 1346), (30, 144, 1330)])
def test_collegemsg_retention(college: Data, n: int, retained: int, eligible: int) -> None:
    everybody = Period(dt.date(2004, 4, 15), dt.date(2004, 10, 27), "all")
    result = measure_retention(college.active_days, everybody, as_of=dt.date(2004, 10, 26))
    assert (result.days[n].numerator, result.days[n].denominator) == (retained, eligible)
    assert result.immature[n] == 1350 - eligible


def test_collegemsg_active_users(college: Data, shared: Path) -> None:
    facts = read_facts(shared, "collegemsg")
    span = Period(dt.date(2004, 4, 15), dt.date(2004, 10, 27), "all")
    daily = measure_activity(college.active_days, span).daily.set_index("day")
    assert daily.loc["2004-05-31", ["dau_count", "wau_count", "mau_count"]].tolist() == [148, 651, 1032]
    assert daily["dau_count"][:14].tolist() == facts["DAU_first_14"]
    assert daily["dau_count"].mean() == pytest.approx(facts["DAU_mean"])
    assert [str(daily["mau_count"].idxmax())[:10], daily["mau_count"].max()] == facts["MAU30_max"]
    assert (daily["dau_count"] == 0).sum() == facts["days_with_zero_senders"]


def test_collegemsg_weeks(college: Data, shared: Path) -> None:
    expected = read_facts(shared, "collegemsg")["weekly_lifecycle(week_start_Mon,new,returning,resurrecting,dormant)"]
    span = Period(college.span.start, dt.date(2004, 10, 27), "all")
    weeks = account_growth(college.active_days, span, grain="week").periods
    found = [
        [str(w.period_start)[:10], w.new_count, w.retained_count, w.resurrected_count, -w.churned_count]
        for w in weeks.itertuples()
    ]
    assert found == expected


def test_collegemsg_weekly_cohorts(college: Data, shared: Path) -> None:
    counts = count_cohorts(college, "week")
    for start, expected in read_facts(shared, "collegemsg")["weekly_cohort_counts_first8weeks"].items():
        row = counts.loc[start].fillna(0)
        later = [row.get(pd.Timestamp(start) + pd.Timedelta(weeks=k), 0) for k in range(9)]
        assert later == expected


def test_online_retail(retail: Data, shared: Path) -> None:
    facts = read_facts(shared, "online_retail")
    profile = retail.fitness.profiles[0]
    assert (profile.rows, profile.kept) == (facts["rows"], facts["clean_rows"]) == (541_909, 397_884)
    result = measure_all(retail)
    assert round(result.revenue.value or 0, 2) == facts["clean_revenue"] == 8_911_407.90
    assert result.orders_count == facts["clean_invoices"] == 18_532
    assert result.paying_users.value == facts["clean_customers"] == 4_338
    assert by_month(result, "revenue_amount") == facts["clean_monthly_revenue"]
    assert by_month(result, "paying_users_count") == facts["clean_monthly_active_customers"]


def test_online_retail_cohorts(retail: Data, shared: Path) -> None:
    counts = count_cohorts(retail, "month")
    for month, expected in read_facts(shared, "online_retail")["cohort_matrix_clean"].items():
        row = counts.loc[f"{month}-01"]
        assert row.dropna().tolist() == expected


def test_cdnow_master(cdnow: Data, shared: Path) -> None:
    facts = read_facts(shared, "cdnow")["master"]
    assert cdnow.fitness.profiles[0].rows == facts["rows"] == 69_659
    result = measure_all(cdnow)
    assert round(result.revenue.value or 0, 2) == facts["revenue"]
    assert result.paying_users.value == facts["customers"]
    assert by_month(result, "revenue_amount") == facts["monthly_revenue"]
    assert by_month(result, "paying_users_count") == facts["monthly_active"]
    counts = count_cohorts(cdnow, "month")
    for month, size in facts["cohort_sizes"].items():
        assert counts.loc[f"{month}-01"].dropna().iloc[0] == size
    assert len(counts) == len(facts["cohort_sizes"])
    assert counts.loc["1997-01-01"].tolist() == facts["cohort_1997_01_active_by_month"]


def test_cdnow_sample(shared: Path, tmp_path: Path) -> None:
    facts = read_facts(shared, "cdnow")["sample"]
    data = init(shared, tmp_path, "cdnow/CDNOW_sample.txt")
    result = measure_all(data)
    assert round(result.revenue.value or 0, 2) == facts["revenue"] == 244_091.94
    assert result.paying_users.value == facts["customers"] == 2_357
    assert (str(data.span.start), str(data.as_of)) == (facts["first"], facts["last"])


def test_telco(shared: Path, tmp_path: Path) -> None:
    facts = read_facts(shared, "telco_churn")
    data = init(shared, tmp_path, "telco_churn/Telco-Customer-Churn.csv")
    table = data.table("subscriptions")
    counts = table.aggregate(
        rows=table.count(), gone=table.ended.sum(), zero=(table.tenure_months == 0).sum(),
        tenure=table.tenure_months.mean(), blank=table.TotalCharges.isnull().sum(), charges=table.MonthlyCharges.mean(),
    )  # fmt: skip
    row = data.execute(counts).iloc[0]
    assert (row["rows"], row["gone"]) == (facts["rows"], facts["churned"]) == (7_043, 1_869)
    assert (row["zero"], row["blank"]) == (facts["tenure_zero_rows"], facts["blank_TotalCharges"]) == (11, 11)
    assert row["tenure"] == pytest.approx(facts["mean_tenure"])
    assert row["charges"] == pytest.approx(facts["mean_MonthlyCharges"])
    assert not data.has_activity
    # The file has no times: the day is the one that the playbook names for the user to confirm.
    assert data.as_of == data.span.start == data.playbook.company.data_until


def test_telco_by_segment(shared: Path, tmp_path: Path) -> None:
    facts = read_facts(shared, "telco_churn")
    data = init(shared, tmp_path, "telco_churn/Telco-Customer-Churn.csv")
    assert data.execute(data.attributes.count()) == facts["rows"]
    assert {"Contract", "InternetService", "PaymentMethod", "SeniorCitizen"} <= set(data.segment_columns)
    assert not {"TotalCharges", "MonthlyCharges", "ended", "user_id"} & set(data.segment_columns)
    for column, name in (("Contract", "contract"), ("InternetService", "internet"), ("PaymentMethod", "payment")):
        for value, rate in facts[f"churn_rate_by_{name}"].items():
            data.check_segment(f"{column}:{value}")
            members = data.restrict(data.table("subscriptions"), f"{column}:{value}")
            assert data.execute(members.ended.mean()) == pytest.approx(rate)


def test_data_without_times(shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, missing = "cookie_cats/cookie_cats.csv", "no column reads like ts (when)"
    with pytest.raises(SystemExit) as end:
        cli.main(["init", str(shared / "real" / source), "--out", str(tmp_path / "playbook.toml")])
    err = capsys.readouterr().err
    assert end.value.code == 2
    assert missing in err
    assert Path(source).name in err
    assert err.count("error:") == 1
    assert "Traceback" not in err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "source",
    [
        "collegemsg/CollegeMsg.txt", "online_retail/online_retail.parquet", "cdnow/CDNOW_master.txt",
        "telco_churn/Telco-Customer-Churn.csv",
    ],
)  # fmt: skip
def test_init_and_check_at_the_command_line(
    source: str, shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "playbook.toml"
    for arguments in (["init", str(shared / "real" / source), "--out", str(out)], ["check", "--playbook", str(out)]):
        with pytest.raises(SystemExit) as end:
            cli.main(arguments)
        assert end.value.code == 0
    assert "Verdict: fit" in capsys.readouterr().out

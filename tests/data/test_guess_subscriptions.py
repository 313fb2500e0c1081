"""`opslib init` on files of subscriptions: recognised, asked about, and told from logs, sessions and users."""

# ruff: noqa: E501

from __future__ import annotations

import datetime as dt
import os
import tomllib
from pathlib import Path

import pandas as pd
import pytest

from opslib.data.guess import write_playbook
from opslib.data.source import open_data
from opslib.errors import InputError
from tests.data.test_guess import init, write_rows

WRITTEN = dt.datetime(2026, 5, 4, 12, tzinfo=dt.UTC)
TELCO = (
    "customerID,gender,SeniorCitizen,tenure,Contract,MonthlyCharges,TotalCharges,Churn\n"
    "A-1,Female,0,1,Month-to-month,29.85,29.85,No\nB-2,Male,1,34,One year,56.95,1889.5,No\n"
    "C-3,Male,0,2,Month-to-month,53.85,108.15,Yes\nD-4,Female,0,0,Two year,20.25, ,No\n"
)


def write_old(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    os.utime(path, (WRITTEN.timestamp(), WRITTEN.timestamp()))
    return path


def test_tenure_and_churn(tmp_path: Path) -> None:
    data, (guess,) = init(write_old(tmp_path / "Telco.csv", TELCO))
    assert guess.table == "subscriptions"
    assert {g.key: g.value for g in guess.columns} == {
        "user_id": '"customerID"', "tenure_months": '"tenure"', "ended": '"Churn"',
        "TotalCharges": '{ column = "TotalCharges", type = "number" }',
        "SeniorCitizen": '{ column = "SeniorCitizen", type = "flag" }',
    }  # fmt: skip
    assert data.fitness.verdict == "fit", data.fitness.to_text()
    assert data.segment_columns == ["SeniorCitizen", "gender", "Contract"]
    rows = data.execute(data.table("subscriptions").order_by("user_id"))
    assert rows["tenure_months"].tolist() == [1, 34, 2, 0]
    assert rows["ended"].tolist() == [False, False, True, False]
    assert rows["TotalCharges"].fillna(-1).tolist() == [29.85, 1889.5, 108.15, -1]
    assert (tmp_path / "made.toml").read_text().count("1 of 4 are blank") == 1


def test_the_day_is_written_to_be_confirmed(tmp_path: Path) -> None:
    data, (guess,) = init(write_old(tmp_path / "Telco.csv", TELCO))
    raw = tomllib.loads((tmp_path / "made.toml").read_text())
    assert raw["company"]["data_until"] == dt.date(2026, 5, 4) == data.as_of
    (line,) = [x for x in (tmp_path / "made.toml").read_text().splitlines() if x.startswith("data_until")]
    assert "please confirm" in line
    questions = "\n".join(guess.questions)
    for part in (
        'tenure_months = "tenure": taken as months',
        "1 of 4 rows have ended",
        "company.data_until = 2026-05-04",
    ):
        assert part in questions


@pytest.mark.parametrize(
    "head",
    [
        "user_id,tenure_months,ended", "Customer ID,Tenure Months,Churn Label", "CLIENTID,months_on_book,Churned", "客户ID,在网月数,是否流失",
        "member_id,tenure,Exited", "accountId,Tenure in Months,Churn?",
    ],
)  # fmt: skip
@pytest.mark.parametrize("flags", [("Yes", "No"), ("1", "0"), ("true", "false"), ("Y", "N"), ("TRUE", "FALSE")])
def test_names_and_flags(head: str, flags: tuple[str, str], tmp_path: Path) -> None:
    rows = "".join(f"u{i},{i},{flags[i % 3 > 0]}\n" for i in range(30))
    data, (guess,) = init(write_old(tmp_path / "x.csv", f"{head}\n{rows}"))
    assert guess.table == "subscriptions"
    assert data.fitness.verdict == "fit"
    assert data.execute(data.table("subscriptions").ended.sum()) == 10
    assert any("taken as months" in q for q in guess.questions) == (not any(w in head.lower() for w in ("month", "月")))


def test_two_columns_that_say_the_same(tmp_path: Path) -> None:
    text = "CustomerID,City,Tenure Months,Churn Label,Churn Value\na,Rome,3,Yes,1\nb,Oslo,4,No,0\n"
    data, (guess,) = init(write_old(tmp_path / "x.csv", text))
    assert [g.value for g in guess.columns if g.key == "ended"] == ['"Churn Label"']
    # The end itself must not become a group to compare ends by.
    assert data.segment_columns == ["City"]


def test_parquet_with_texts(tmp_path: Path) -> None:
    frame = pd.DataFrame({"user": ["a", "b"], "tenure": ["3", "4"], "churn": ["yes", "no"], "Fee in €": ["1.5", ""]})
    frame.to_parquet(tmp_path / "x.parquet")
    data, _ = init(tmp_path / "x.parquet")
    assert data.fitness.verdict == "fit"
    assert data.execute(data.table("subscriptions").order_by("user_id"))["Fee in €"].fillna(0).tolist() == [1.5, 0]


@pytest.mark.parametrize(
    ("name", "head"),
    [
        ("x", "customer_id,started_at,cancelled_at"), ("x", "user_id,start_date,end_date"), ("x", "user_id,signup_date,canceled_at,plan"),
        ("subscriptions", "user_id,started_at,ended_at"), ("contracts", "客户ID,开始时间,结束时间"),
    ],
)  # fmt: skip
def test_starts_and_ends(name: str, head: str, tmp_path: Path) -> None:
    rows = "".join(
        f"{i},2025-0{i}-01,{'' if i > 3 else f'2025-1{i - 1}-20'}{',gold' * head.count('plan')}\n" for i in range(1, 10)
    )
    data, (guess,) = init(write_old(tmp_path / f"{name}.csv", f"{head}\n{rows}"))
    assert guess.table == "subscriptions", guess
    assert data.fitness.verdict == "fit"
    assert (str(data.span.start), str(data.as_of)) == ("2025-01-01", "2025-12-20")
    assert "data_until" not in (tmp_path / "made.toml").read_text()
    assert data.execute(data.table("subscriptions").ended_at.count()) == 3


def guess_alone(folder: Path, *files: Path) -> list[str]:
    """Guess again over what was guessed before: the tables."""
    return [g.table for g in write_playbook(files, out=folder / "made.toml", force=True)]


def test_what_is_no_table_of_subscriptions(tmp_path: Path) -> None:
    ended = [f"{i},2026-01-0{i} 10:00,2026-01-0{i} 11:00\n" for i in range(1, 9)]
    files = {
        "events": write_old(tmp_path / "sessions.csv", "user_id,started_at,ended_at\n" + "".join(ended)),
        "orders": write_rows(tmp_path / "buy.csv", "user_id,ts,amount,start_date,end_date", "{u},{t},2.5,{t},{t}"),
    }
    for table, file in files.items():
        assert guess_alone(tmp_path, file) == [table]
    log = write_rows(tmp_path / "log.csv", "user_id,ts,event,tenure,churn", "{u},{t},open,3,No")
    assert guess_alone(tmp_path, log) == ["events"]


def test_users_who_end_are_subscriptions_where_nothing_else_is(tmp_path: Path) -> None:
    users = write_old(
        tmp_path / "people.csv", "user_id,signup_at,tenure,churn\n1,2026-01-01,3,No\n2,2026-01-01,2,Yes\n"
    )
    log = write_rows(tmp_path / "log.csv", "user_id,ts,event", "{u},{t},open")
    spend = write_old(tmp_path / "spend.csv", "day,channel,amount\n2026-01-01,search,10\n")
    assert guess_alone(tmp_path, users, log) == ["users", "events"]
    assert guess_alone(tmp_path, users, spend) == ["subscriptions", "spend"]
    data = open_data(tmp_path / "made.toml")
    assert data.fitness.verdict == "fit"
    # What is known when there are starts needs no day from the user.
    assert data.as_of == dt.date(2026, 1, 1)
    plain = write_old(tmp_path / "plain.csv", "user_id,signup_at\n1,2026-01-01\n")
    assert guess_alone(tmp_path, plain) == ["users"]


def test_beside_a_log_no_day_is_needed(tmp_path: Path) -> None:
    log = write_rows(tmp_path / "log.csv", "user_id,ts,event", "u{u},{t},open")
    assert guess_alone(tmp_path, log, write_old(tmp_path / "telco.csv", TELCO)) == ["events", "subscriptions"]
    assert "data_until" not in (tmp_path / "made.toml").read_text()
    assert open_data(tmp_path / "made.toml").fitness.verdict == "fit"


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("user_id,plan\n1,x\n", ["looks like table subscriptions", "started_at, or tenure_months with ended", "user_id, plan"]),
        ("user_id,tenure,churn\n1,3,perhaps\n2,4,maybe\n", ["no columns read like started_at, or tenure_months with ended"]),
        ("user_id,tenure,churn\n1,long,Yes\n2,short,No\n", ["no columns read like started_at, or tenure_months with ended"]),
        ("user_id,started_at,ended_at\n1,soon,\n2,later,\n", ["no columns read like started_at"]),
        ("plan,tenure,churn\nx,3,No\n", ["no column reads like user_id (whose it is)"]),
    ],
)  # fmt: skip
def test_files_named_subscriptions_that_hold_none(text: str, parts: list[str], tmp_path: Path) -> None:
    with pytest.raises(InputError) as error:
        init(write_old(tmp_path / "subscriptions.csv", text))
    for part in parts:
        assert part in str(error.value)
    assert not (tmp_path / "made.toml").exists()

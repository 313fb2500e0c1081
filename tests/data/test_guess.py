"""`opslib init`: what is guessed of a user's own files, what is asked, and that the playbook opens."""

# ruff: noqa: E501

from __future__ import annotations

import datetime as dt
import gzip
import json
import tomllib
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opslib.data.guess import TableGuess, write_playbook
from opslib.data.source import Data, open_data
from opslib.errors import InputError
from opslib.run import cli

DAYS = [dt.datetime(2026, 1, 1) + dt.timedelta(days=3 * i, hours=10) for i in range(50)]
USERS = [i % 7 + 1 for i in range(50)]


def write_rows(path: Path, head: str, form: str, delimiter: str = ",") -> Path:
    """Write 50 rows; the form may use u (user), t (a time), n (row number), s (seconds since 1970)."""
    rows = [
        form.format(u=u, t=t, n=n, s=int(t.replace(tzinfo=dt.UTC).timestamp()))
        for n, (u, t) in enumerate(zip(USERS, DAYS, strict=True))
    ]
    path.write_text("\n".join([*([head] if head else []), *rows, ""]).replace(",", delimiter), encoding="utf-8")
    return path


def init(*files: Path) -> tuple[Data, list[TableGuess]]:
    out = files[0].parent / "made.toml"
    guesses = write_playbook(files, out=out)
    return open_data(out), guesses


def check_activity(data: Data) -> None:
    """The 50 rows came through: fit, and every user on the right days."""
    assert data.fitness.verdict == "fit", data.fitness.to_text()
    rows = data.execute(data.active_days.order_by(["day", "user_id"]))
    assert [str(d)[:10] for d in rows["day"]] == [str(t.date()) for t in DAYS]
    assert [int(u) for u in rows["user_id"]] == USERS


@pytest.mark.parametrize(
    "head",
    [
        "user_id,ts,event", "User ID,Timestamp,Event Name", "uid,time,action", "customerId,created_at,activity",
        "CUSTOMER-ID,Event Time,Event_Type", "用户ID,时间,事件", "distinct_id,date,event", '"visitor id","day","event"',
    ],
)  # fmt: skip
def test_names_of_event_columns(head: str, tmp_path: Path) -> None:
    data, _ = init(write_rows(tmp_path / "log.csv", head, "{u},{t},open"))
    check_activity(data)
    assert data.execute(data.table("events").event.nunique()) == 1
    assert data.execute(data.table("events").event.max()) == "open"


@pytest.mark.parametrize("delimiter", [";", "\t", "|"])
@pytest.mark.parametrize("head", ["user_id,ts,event", ""])
def test_delimiters_and_files_without_names(delimiter: str, head: str, tmp_path: Path) -> None:
    check_activity(init(write_rows(tmp_path / "log.csv", head, "{u},{t},open", delimiter))[0])


@pytest.mark.parametrize(
    ("form", "option"),
    [
        ("{s}", 'unit = "s"'), ("{s}000", 'unit = "ms"'), ("{s}000000", 'unit = "us"'), ("{s}000000000", 'unit = "ns"'),
        ("{t:%Y%m%d}", "%Y%m%d"), ("{t:%d/%m/%Y}", "%d/%m/%Y"), ("{t:%m/%d/%Y}", "%m/%d/%Y"), ("{t:%d.%m.%Y}", "%d.%m.%Y"),
        ("{t:%d-%m-%y}", "%d-%m-%y"), ("{t:%m/%d/%Y %H:%M}", "%m/%d/%Y %H:%M"), ("{t:%d.%m.%Y %H:%M:%S}", "%d.%m.%Y %H:%M:%S"),
        ("{t:%m/%d/%Y %I:%M:%S %p}", "%m/%d/%Y %I:%M:%S %p"), ("{t:%d-%b-%Y}", "%d-%b-%Y"), ("{t:%Y年%m月%d日}", "%Y年%m月%d日"),
        ("{t:%Y-%m-%d}", None), ("{t:%Y-%m-%dT%H:%M:%S}Z", None), ("{t} +0000", None), ("{t}+00:00", None),
        ("{t:%Y-%m-%d %H:%M:%S} UTC", None),
    ],
)  # fmt: skip
def test_ways_to_write_times(form: str, option: str | None, tmp_path: Path) -> None:
    data, guesses = init(write_rows(tmp_path / "log.csv", "user_id,ts,event", "{u}," + form + ",open"))
    check_activity(data)
    (value,) = [c.value for c in guesses[0].columns if c.key == "ts"]
    assert (option in value) if option else value == '"ts"'
    assert not guesses[0].questions


def test_an_ambiguous_date_is_asked_about(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("user_id,ts,event\n" + "".join(f"{u},0{u}/0{m}/2026,x\n" for u in range(1, 8) for m in (1, 2, 3)))
    _, (guess,) = init(path)
    (question,) = guess.questions
    assert "%d/%m/%Y" in question
    assert "%m/%d/%Y fits as well" in question
    assert "%m/%d/%Y fits as well" in (tmp_path / "made.toml").read_text()


def test_a_few_broken_times_are_left_to_the_check(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "log.csv", "user_id,ts,event", "{u},{t:%d/%m/%Y},x")
    path.write_text(path.read_text() + "1,unknown,x\n")
    data, _ = init(path)
    assert [(p.rule, p.count) for p in data.fitness.problems] == [("unparsable", 1)]


def test_quantity_times_price(tmp_path: Path) -> None:
    head = "InvoiceNo,StockCode,Quantity,InvoiceDate,UnitPrice,CustomerID,Country"
    path = write_rows(tmp_path / "sales.csv", head, "{n},x,2,{t},1.5,{u},France")
    path.write_text(
        path.read_text()
        + "C9,x,-2,2026-05-01,1.5,1,France\n3,y,1,2026-01-10 10:00:00,4,4,France\n3,y,1,2026-01-10,4,,\n"
    )
    data, (guess,) = init(path)
    assert data.fitness.verdict == "fit"
    values = {g.key: g.value for g in (*guess.settings, *guess.columns)}
    assert values["amount"] == '{ multiply = ["Quantity", "UnitPrice"] }'
    assert values["rows"] == '"lines"'
    assert "1 of 53 rows have no CustomerID" in guess.questions[0]
    assert "1 rows have Quantity of 0 or less" in guess.questions[0]
    orders = data.execute(data.table("orders"))
    assert (len(orders), orders["amount"].sum()) == (50, 154)


@pytest.mark.parametrize(
    "head", ["order_id,user_id,ts,amount", "Order No,Buyer ID,Paid At,Total Price", "订单号,客户ID,下单时间,实付金额"]
)
def test_names_of_order_columns(head: str, tmp_path: Path) -> None:
    data, (guess,) = init(write_rows(tmp_path / "x.csv", head, "{n},{u},{t},2.5"))
    assert guess.table == "orders"
    check_activity(data)
    assert data.execute(data.table("orders").amount.sum()) == 125


def test_amounts_that_are_no_numbers_are_asked_about(tmp_path: Path) -> None:
    _, (guess,) = init(write_rows(tmp_path / "orders.csv", "user_id,ts,amount", "{u},{t},$2.5"))
    assert any("no numbers, like '$2.5'" in q for q in guess.questions)


def test_several_files_at_once(tmp_path: Path) -> None:
    events = write_rows(tmp_path / "log.csv", "uid,time,action", "{u},{t},open")
    users = tmp_path / "members.csv"
    users.write_text("member_id,registered_at,source\n" + "".join(f"{u},2026-01-01,search\n" for u in range(1, 8)))
    spend = tmp_path / "spend.csv"
    spend.write_text("day,channel,amount\n2026-01-01,search,10\n2026-01-02,search,10\n")
    data, guesses = init(events, users, spend)
    assert [g.table for g in guesses] == ["events", "users", "spend"]
    check_activity(data)
    assert data.segment_columns == ["channel"]


def test_a_log_with_created_at_is_no_table_of_users(tmp_path: Path) -> None:
    _, (guess,) = init(write_rows(tmp_path / "x.csv", "user_id,created_at,action", "{u},{t},open"))
    assert guess.table == "events"


def test_parts_in_a_folder_are_one_table(tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    for name in ("a", "b"):
        write_rows(tmp_path / "parts" / f"{name}.csv", "user_id,ts,event", "{u},{t},open")
    guesses = write_playbook([tmp_path / "parts"], out=tmp_path / "made.toml")
    assert [(g.table, g.source, g.rows) for g in guesses] == [("events", "parts", 100)]
    assert open_data(tmp_path / "made.toml").fitness.profiles[0].rows == 100


def test_two_files_of_one_table_are_refused(tmp_path: Path) -> None:
    paths = [write_rows(tmp_path / f"{n}.csv", "user_id,ts,event", "{u},{t},open") for n in "ab"]
    with pytest.raises(InputError, match=r"both look like table events"):
        init(*paths)
    assert not (tmp_path / "made.toml").exists()


def test_the_source_is_relative_to_the_playbook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in ("data", "books", "elsewhere"):
        (tmp_path / folder).mkdir()
    write_rows(tmp_path / "data" / "log.csv", "user_id,ts,event", "{u},{t},open")
    monkeypatch.chdir(tmp_path / "data")
    (guess,) = write_playbook(["log.csv"], out="../books/playbook.toml")
    assert guess.source == "../data/log.csv"
    monkeypatch.chdir(tmp_path / "elsewhere")
    check_activity(open_data("../books/playbook.toml"))


@pytest.mark.parametrize("kind", ["timestamp", "ns", "zoned", "date"])
def test_parquet(kind: str, tmp_path: Path) -> None:
    times = pd.Series(DAYS)
    times = {
        "timestamp": times, "ns": times.astype("datetime64[ns]"), "zoned": times.dt.tz_localize("UTC").dt.tz_convert("Asia/Tokyo"),
        "date": times.dt.date,
    }[kind]  # fmt: skip
    pd.DataFrame({"uid": [float(u) for u in USERS], "when": times, "time": times}).to_parquet(tmp_path / "log.parquet")
    check_activity(init(tmp_path / "log.parquet")[0])


def test_gzip(tmp_path: Path) -> None:
    plain = write_rows(tmp_path / "log.csv", "user_id,ts,event", "{u},{t},open", ";")
    (tmp_path / "log.csv.gz").write_bytes(gzip.compress(plain.read_bytes()))
    check_activity(init(tmp_path / "log.csv.gz")[0])


def test_an_existing_playbook_is_kept(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "log.csv", "user_id,ts,event", "{u},{t},open")
    out = tmp_path / "playbook.toml"
    out.write_text("mine")
    with pytest.raises(InputError, match="--force"):
        write_playbook([path], out=out)
    assert out.read_text() == "mine"
    write_playbook([path], out=out, force=True)
    check_activity(open_data(out))
    assert not list(tmp_path.glob("*.partial"))


def test_an_unwritable_place(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "log.csv", "user_id,ts,event", "{u},{t},open")
    with pytest.raises(InputError, match="no folder"):
        write_playbook([path], out=tmp_path / "nowhere" / "playbook.toml")
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match="cannot be written"):
        write_playbook([path], out=tmp_path / "folder", force=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["folder", "log.csv"]


BAD: dict[str, tuple[str | bytes, list[str]]] = {
    "no user": ("a,ts,event\n1,2026-01-01,x\n", ["no column reads like user_id (who did it)", "a, ts, event"]),
    "no time": ("user_id,a,event\n1,x,x\n", ["no column reads like ts (when)", "user_id, a, event"]),
    "time that is none": ("user_id,ts,event\n1,soon,x\n", ["Column 'ts' should say when", "'soon'"]),
    "no rows": ("user_id,ts,event\n", ["no rows"]),
    "empty": ("", ["'log.csv' is empty"]),
    "picture": (b"\x89PNG\r\n\x1a\n\0\0", ["neither CSV nor Parquet"]),
    "broken line": ("user_id,ts,event\n1,2026-01-01\n", ["line 2 has 2 values"]),
}


@pytest.mark.parametrize("name", BAD)
def test_files_that_cannot_be_guessed(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content, parts = BAD[name]
    (tmp_path / "log.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(SystemExit) as end:
        cli.main(["init", str(tmp_path / "log.csv"), "--out", str(tmp_path / "made.toml")])
    assert end.value.code == 2
    err = capsys.readouterr().err
    for part in parts:
        assert part in err, err
    assert err.count("error:") == 1
    assert "Traceback" not in err
    assert [p.name for p in tmp_path.iterdir()] == ["log.csv"]


def test_a_missing_file_at_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main(["init", str(tmp_path / "none.csv"), "--out", str(tmp_path / "made.toml")])
    assert end.value.code == 2
    assert "no file at" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_every_line_says_why(tmp_path: Path) -> None:
    init(write_rows(tmp_path / "sales.csv", "uid,date,total", "{u},{t:%d/%m/%Y},2.5"))
    lines = (tmp_path / "made.toml").read_text().splitlines()
    assert all("  # " in line for line in lines if " = " in line and not line.startswith("#"))
    assert any("please confirm" in line and "timezone" in line for line in lines)


# Anything that an engine and a file system take; what could end a string or a comment most of all.
NASTY = st.text(
    st.sampled_from("\"'\\\n\r\t#[]=,;{}\x7f\u2028\u0085\x0b --'用\"\"\"") | st.characters(codec="utf-8", exclude_categories=["Cs"]),
    max_size=12,
).filter(lambda t: "\0" not in t)  # fmt: skip


@settings(max_examples=15)
@given(name=NASTY, user=NASTY, event=NASTY, extra=NASTY)
def test_no_name_breaks_out_of_the_playbook(
    tmp_path_factory: pytest.TempPathFactory, name: str, user: str, event: str, extra: str
) -> None:
    folder = tmp_path_factory.mktemp("nasty")
    name = name.replace("/", "_").strip(".")
    path = folder / f"{name}x.parquet"
    frame = pd.DataFrame({"user_id": [f"{user}a", f"{user}b"], "ts": pd.Timestamp("2026-01-01"), "event": event})
    frame[f"{extra}x"] = event
    frame.to_parquet(path)
    out = folder / "playbook.toml"
    write_playbook([path], out=out)
    raw = tomllib.loads(out.read_text(encoding="utf-8"))
    assert set(raw) == {"company", "tables", "targets"}
    assert raw["company"] == {"name": f"{name}x", "timezone": "UTC", "currency": "USD", "week_start": "monday"}
    assert raw["tables"]["events"]["source"] == path.name
    data = open_data(out)
    assert data.fitness.verdict == "fit"
    assert sorted(data.execute(data.table("events"))["user_id"]) == sorted(frame["user_id"])


@pytest.mark.parametrize("name", ['uid"', "u\nid", "user\x7fid", "user--id", 'user_id" # x', "USER ID "])
def test_names_of_mapped_columns_are_quoted(name: str, tmp_path: Path) -> None:
    # With such a name a column is guessed by luck only; the file must stay whole in any case.
    frame = pd.DataFrame({name: [1, 2], "ts": pd.Timestamp("2026-01-01"), "event": "x"})
    frame.to_parquet(tmp_path / "log.parquet")
    try:
        write_playbook([tmp_path / "log.parquet"], out=tmp_path / "made.toml")
    except InputError as error:
        assert "user_id" in str(error)  # noqa: PT017
        assert not (tmp_path / "made.toml").exists()
        return
    raw = tomllib.loads((tmp_path / "made.toml").read_text())
    assert raw["tables"]["events"]["columns"]["user_id"] == name
    assert json.loads(json.dumps(raw["tables"]["events"]["source"])) == "log.parquet"
    assert open_data(tmp_path / "made.toml").fitness.verdict == "fit"


def test_a_file_of_complaints_without_users_is_read_as_tickets(tmp_path: Path) -> None:
    rows = [f"{n},slow,2026-01-{1 + n % 28:02d}" for n in range(90)]
    (tmp_path / "cases.csv").write_text("\n".join(["Ticket #,Customer Complaint,Date", *rows]) + "\n", "utf-8")
    (guess,) = write_playbook([tmp_path / "cases.csv"], out=tmp_path / "playbook.toml")
    assert guess.table == "tickets"
    assert {line.key: line.value for line in guess.columns} == {
        "ticket_id": '"Ticket #"', "user_id": '"Ticket #"', "opened_at": '"Date"', "category": '"Customer Complaint"',
        "is_complaint": "{ value = true }",
    }  # fmt: skip
    assert any("each ticket counts as a user" in question for question in guess.questions)
    assert open_data(tmp_path / "playbook.toml").fitness.verdict == "fit"


@pytest.mark.shared
def test_swapped_days_of_real_complaints_are_asked_about(tmp_path: Path, shared: Path) -> None:
    file = shared / "real" / "comcast_complaints" / "Comcast_telecom_complaints_data.csv"
    (guess,) = write_playbook([file], out=tmp_path / "playbook.toml")
    (question,) = [q for q in guess.questions if "day and month swapped" in q]
    assert "572 of 2,224" in question and "swapped_days = true" in question

"""Every bad input that we can think of: one clear message, exit code 2, nothing written, no kernel started."""

from __future__ import annotations

import gzip
import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from opslib.data.source import open_data
from opslib.errors import InputError
from opslib.run import cli, execute
from tests.data.company import COMPANY, EVENTS, GOOD, HEAD, ORDERS, USERS, Content, open_company, write_company

EVENTS_PARQUET = EVENTS.replace(".csv", ".parquet")
EVENTS_PARTS = EVENTS.replace("events.csv", "parts")
PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256))
RANDOM = random.Random(7).randbytes(5000)
SIGNUPS = "user_id,signup_at\n" + "".join(f"{u},2026-01-01\n" for u in range(1, 6))
ORDER_ROWS = "order_id,user_id,ts,amount\n" + "".join(f"{i},{i % 5 + 1},2026-0{i % 6 + 1}-10,9.5\n" for i in range(40))
WORD = "user_id,ts,amount\n" + "1,2026-01-01,5\n" * 29_999 + "2,2026-01-02,five\n" + "1,2026-06-30,5\n" * 10


def cut_parquet(path: Path) -> None:
    pd.DataFrame({"user_id": range(1000), "ts": pd.Timestamp("2026-01-01"), "event": "x"}).to_parquet(path)
    path.write_bytes(path.read_bytes()[:-200])


def spoil_parquet(path: Path) -> None:
    rows = range(30_000)
    pd.DataFrame({"user_id": rows, "ts": pd.Timestamp("2026-01-01"), "event": [str(r) for r in rows]}).to_parquet(path)
    content = bytearray(path.read_bytes())
    content[3000:9000] = b"\xff" * 6000
    path.write_bytes(content)


# ruff: noqa: E501
# name -> files, tables of the playbook, what the message must hold
DATA: dict[str, tuple[dict[str, Content], str, list[str]]] = {
    "missing file": ({}, EVENTS, ["[tables.events] source", "no file at 'events.csv'", "Check the path"]),
    "missing folder": ({}, EVENTS_PARTS, ["no file at 'parts'"]),
    "folder without data": ({"parts/notes.doc": "x"}, EVENTS_PARTS, ["no data file in folder 'parts'", ".parquet"]),
    "empty file": ({"events.csv": ""}, EVENTS, ["'events.csv' is empty"]),
    "blank file": ({"events.csv": "\n \n\n"}, EVENTS, ["'events.csv' is empty"]),
    "header only": ({"events.csv": HEAD}, EVENTS, ["events: the table has no rows"]),
    "picture": ({"events.csv": PNG}, EVENTS, ["'events.csv' is neither CSV nor Parquet", "Export the table"]),
    "zip": ({"events.csv": b"PK\x03\x04" + RANDOM}, EVENTS, ["neither CSV nor Parquet"]),
    "pdf": ({"events.csv": b"%PDF-1.4\n1 0 obj\n"}, EVENTS, ["neither CSV nor Parquet"]),
    "random bytes": ({"events.csv": RANDOM}, EVENTS, ["neither CSV nor Parquet"]),
    "high bytes": ({"events.csv": bytes(b | 0x80 for b in RANDOM)}, EVENTS, ["'events.csv' is not text in UTF-8"]),
    "web page": ({"events.csv": "<!DOCTYPE html><html>Log in</html>"}, EVENTS, ["a web page, not a table"]),
    "json": ({"events.csv": '[{"user_id": 1},\n{"user_id": 2}]'}, EVENTS, ["JSON", "not a table"]),
    "utf-16": ({"events.csv": GOOD.encode("utf-16")}, EVENTS, ["UTF-16", "Save it as UTF-8"]),
    "gbk": ({"events.csv": (GOOD + "1,2026-01-01,打开\n").encode("gbk")}, EVENTS, ["UTF-8", "GBK"]),
    "gbk far down": ({"events.csv": (GOOD * 40 + "1,2026-01-01,打开\n").encode("gbk")}, EVENTS, ["UTF-8", "GBK"]),
    "cut Parquet": ({"events.parquet": cut_parquet}, EVENTS_PARQUET, ["cut-off Parquet file", "copy it again"]),
    "four bytes": ({"events.parquet": b"PAR1"}, EVENTS_PARQUET, ["cut-off Parquet file"]),
    "spoilt Parquet": ({"events.parquet": spoil_parquet}, EVENTS_PARQUET, ["Table events", "damaged", "Parquet"]),
    "cut gzip": ({"events.csv": gzip.compress(GOOD.encode())[:-60]}, EVENTS, ["cut-off gzip file"]),
    "cut long gzip": (
        {"events.csv": gzip.compress((GOOD * 1).encode() + random.Random(1).randbytes(90_000).hex().encode())[:-500]},
        EVENTS, ["'events.csv'"],
    ),
    "short line": ({"events.csv": GOOD + "1,2026-01-01\n"}, EVENTS, ["line 92 has 2 values", "first line has 3"]),
    "long line": ({"events.csv": GOOD + "1,2026-01-01,x,y,z\n" + "1,2026-01-01,x\n" * 3}, EVENTS, ["line 92 has 5 values"]),
    "preamble": ({"events.csv": "Report of June\n" + GOOD}, EVENTS, ["line 2 has 3 values", "first line has 1"]),
    "wrong delimiter": ({"events.csv": GOOD}, EVENTS + "delimiter = ';'\n", ["column is missing", "user_id,ts,event"]),
    "missing column": ({"events.csv": GOOD.replace("ts", "wann", 1)}, EVENTS, [
        "events.ts", "column is missing", "[tables.events.columns]", "user_id, wann, event"]),
    "misspelt column": ({"events.csv": GOOD}, EVENTS + 'columns = { event = "evnt" }\n', [
        "Table events has no column 'evnt'", "[tables.events.columns] event", "Did you mean 'event'?"]),
    "filter on no column": ({"events.csv": GOOD}, EVENTS + 'keep = [{ column = "evnt", equals = "x" }]\n', [
        "no column 'evnt'", "[tables.events] keep", "Did you mean 'event'?"]),
    "text in a time": ({"events.csv": GOOD + "7,yesterday,open\n8,soon,open\n"}, EVENTS, [
        "events.ts: 2 of 92 rows", "cannot be read as a time", "'soon', 'yesterday'", 'drop = ["unparsable"]']),
    "zones: +08:00": ({"events.csv": GOOD + "7,2026-02-01 10:00:00+08:00,open\n"}, EVENTS, [
        "events.ts: 1 of 91 rows carry a time zone while the others do not", "'2026-02-01 10:00:00+08:00'"]),
    "zones: +08": ({"events.csv": GOOD + "7,2026-02-01 10:00:00+08,open\n"}, EVENTS, ["1 of 91 rows carry a time zone"]),
    "zones: Z": ({"events.csv": GOOD + "7,2026-02-01T10:00:00.5Z,open\n"}, EVENTS, ["1 of 91 rows carry a time zone"]),
    "zones: UTC": ({"events.csv": GOOD + "7,2026-02-01 10:00:00 UTC,open\n"}, EVENTS, ["1 of 91 rows carry a time zone"]),
    "null keys": ({"events.csv": GOOD + ",2026-01-01,open\n9,,open\n"}, EVENTS, [
        "events.user_id: 1 of 92 rows have no value", "the row with ts 2026-01-01", "events.ts: 1 of 92", "user_id 9"]),
    "repeated user": ({"events.csv": GOOD, "users.csv": SIGNUPS + "1,2026-01-02\n"}, EVENTS + USERS, [
        "users.user_id: 1 of 6 rows repeat a key", "1 (2 times)", 'drop = ["duplicate_key"]']),
    "repeated order": ({"orders.csv": ORDER_ROWS + "3,1,2026-06-01,4\n"}, ORDERS, [
        "orders.order_id: 1 of 41 rows repeat a key", "3 (2 times)", 'rows = "lines"']),
    "future": ({"events.csv": GOOD + "7,2126-01-01,open\n"}, EVENTS, [
        "events.ts: 1 of 91 rows lie in the future (after 2026-06-30)", "'2126-01-01'"]),
    "far future": ({"events.csv": GOOD + "7,20260-01-01,open\n"}, EVENTS, ["1 of 91 rows hold something that cannot be read"]),
    "1970": ({"events.csv": GOOD + "7,1970-01-01 00:00:00,open\n"}, EVENTS, ["1 of 91 rows lie before 1990"]),
    "ids of two kinds": ({"events.csv": GOOD, "users.csv": SIGNUPS.replace("\n1,", "\nu1,")}, EVENTS + USERS, [
        "user ids are numbers here and texts in users.user_id", 'type = "text"']),
    "a word among numbers": ({"orders.csv": WORD}, ORDERS, ["orders.amount: 1 of 30,010 rows", "a number", "'five'"]),
    "number without unit": ({"events.csv": "user_id,ts,event\n1,1767225600,x\n"}, EVENTS, ["cannot be read as a time", "unit = 's'"]),
    "wrong unit": (
        {"events.csv": "user_id,ts,event\n1,1767225600000000000,x\n"},
        EVENTS + "columns = { ts = { column = 'ts', unit = 's' } }\n", ["1 of 1 rows", "cannot be read as a time"]),
    "number compared with a text": ({"orders.csv": ORDER_ROWS}, ORDERS + "keep = [{ column='amount', equals='x' }]\n", [
        "[tables.orders] keep 'amount equals x'", "cannot be compared"]),
    "text compared with a number": ({"events.csv": GOOD}, EVENTS + "keep = [{ column='event', above=0 }]\n", ["cannot be compared"]),
    "lines without order": ({"orders.csv": ORDER_ROWS.replace("order_id", "x")}, ORDERS + "rows = 'lines'\n", ["orders.order_id"]),
    "nobody counts as active": ({"events.csv": GOOD}, EVENTS + "[activity]\nevents = ['opne']\n", [
        "events that do not occur: opne", "nobody active", "Did you mean 'open'?"]),
    "only users": ({"users.csv": SIGNUPS}, USERS, ["neither events nor orders"]),
    "parts of two kinds": ({"parts/a.csv": GOOD, "parts/b.parquet": pd.DataFrame({"a": [1]})}, EVENTS_PARTS, ["mixes Parquet and text"]),
    "parts with two delimiters": ({"parts/a.csv": GOOD, "parts/b.csv": GOOD.replace(",", ";")}, EVENTS_PARTS, [
        "'a.csv' and 'b.csv' are written differently", "semicolon"]),
    "one part empty": ({"parts/a.csv": GOOD, "parts/b.csv": ""}, EVENTS_PARTS, ["'b.csv' is empty"]),
    "no DuckDB file": ({}, "[data]\nurl = 'shop.duckdb'\n" + EVENTS, ["[data] url", "no DuckDB file"]),
    "DuckDB file that is none": ({"shop.duckdb": GOOD}, "[data]\nurl = 'shop.duckdb'\n" + EVENTS, ["not a readable DuckDB file"]),
}  # fmt: skip

# name -> the whole playbook, what the message must hold
PLAYBOOKS: dict[str, tuple[str | bytes, list[str]]] = {
    "not TOML": ("hello world", ["playbook.toml is not valid TOML", "line 1"]),
    "not UTF-8": ((COMPANY + "# 公司\n").encode("gbk"), ["not a text file in UTF-8"]),
    "binary": (PNG, ["not a text file in UTF-8"]),
    "empty": ("", ["'company' is missing", "'tables' is missing"]),
    "typo in a section": (COMPANY + EVENTS + "[target]\n", ["'target'", "Did you mean 'targets'?"]),
    "typo in a key": (COMPANY.replace("name", "nme") + EVENTS, ["'company.nme'", "Did you mean 'name'?"]),
    "typo in a table": (COMPANY + EVENTS.replace("events]", "evnts]"), ["'evnts'", "Did you mean 'events'?"]),
    "typo in a table's key": (COMPANY + EVENTS.replace("source", "sorce"), ["'tables.events.sorce'", "'source'"]),
    "typo in a column's key": (
        COMPANY + EVENTS + "columns = { ts = { colum = 'x' } }",
        ["columns.ts.colum", "'column'"],
    ),
    "typo in a filter": (COMPANY + EVENTS + "keep = [{ column = 'x', abve = 0 }]", ["keep.0.abve", "'above'"]),
    "typo in a rule": (COMPANY + EVENTS + "drop = ['null_keys']", ["'null_keys'", "Did you mean 'null_key'?"]),
    "typo in a target": (COMPANY + EVENTS + "[targets]\nd1_rat = { at_least = 1 }", ["'d1_rat'", "'d1_rate'"]),
    "typo in a zone": (
        COMPANY + 'timezone = "Asia/Shangai"\n' + EVENTS,
        ["Asia/Shangai", "Did you mean 'Asia/Shanghai'?"],
    ),
    "typo in a weekday": (COMPANY + 'week_start = "Monday"\n' + EVENTS, ["'Monday'", "Did you mean 'monday'?"]),
    "zone that is a path": (COMPANY + 'timezone = "../../etc/passwd"\n' + EVENTS, ["is not a time zone"]),
    "zone of a column": (COMPANY + EVENTS + "columns = { ts = { column = 'ts', timezone = 'Mars' } }", ["'Mars'"]),
    "format of a column": (
        COMPANY + EVENTS + "columns = { ts = { column = 'ts', format = '%Q' } }",
        ["'%Q'", "%d-%m-%y"],
    ),
    "target of the wrong side": (COMPANY + EVENTS + "[targets]\nd1_rate = { at_most = 1 }", ["write at_least"]),
    "target without bound": (COMPANY + EVENTS + "[targets]\nd1_rate = 0.3", ["at_least"]),
    "target nan": (COMPANY + EVENTS + "[targets]\nd1_rate = { at_least = nan }", ["targets.d1_rate"]),
    "wrong type": (COMPANY + "[tables.events]\nsource = 3", ["'tables.events.source'", "valid string"]),
    "no source": (COMPANY + "[tables.events]\n", ["'tables.events.source' is missing"]),
    "no tables": (COMPANY + "[tables]\n", ["at least one table", "events, users, orders"]),
    "two origins": (
        COMPANY + EVENTS + "columns = { ts = { column = 'a', value = 'b' } }",
        ["exactly one of column, multiply"],
    ),
    "two conditions": (COMPANY + EVENTS + "keep = [{ column = 'a', above = 1, below = 2 }]", ["exactly one condition"]),
    "long delimiter": (COMPANY + EVENTS + "delimiter = ', '", ["one character"]),
    "lines of events": (COMPANY + EVENTS + "rows = 'lines'", ["for orders"]),
    "activity of no table": (COMPANY + EVENTS + "[activity]\ntable = 'orders'", ["no [tables.orders]"]),
    "impossible date": (COMPANY.replace("2026-06-30", '"2026-02-30"') + EVENTS, ["data_until"]),
    "path": ("path = 'x'\n" + COMPANY + EVENTS, ["no key 'path'"]),
}

# what follows `report --playbook P --out DIR` -> what the message must hold
ARGUMENTS: dict[str, tuple[list[str], list[str]]] = {
    "quarter before the data": (["--quarter", "1999Q1"], ["1999Q1 lies outside the data", "2026-01-10", "2026Q1 to 2026Q2"]),
    "quarter after the data": (["--quarter", "2026Q3"], ["2026Q3 lies outside the data"]),
    "quarter to compare with": (["--compare-to", "1999Q1"], ["1999Q1 lies outside the data"]),
    "no quarter": (["--quarter", "2026Q9"], ["'2026Q9'", "for example 2026Q2"]),
    "unknown parameter": (["-p", "quater", "2026Q2"], ["'quater'", "Did you mean 'quarter'?"]),
    "unknown flag": (["--quartr", "2026Q2"], ["--quartr"]),
    "code as a name": (["-p", "x = 1; import os", "1"], ["'x = 1; import os'"]),
    "secret": (["-p", "api_key", "hunter2"], ["looks like a secret", "environment variable"]),
    "unknown column of a segment": (["--segment", "chanel:search"], ["no column 'chanel'", "Did you mean 'channel'?"]),
    "unknown value of a segment": (["--segment", "channel:serch"], ["channel 'serch'", "Did you mean 'search'?", "direct"]),
    "segment without a value": (["--segment", "channel"], ["channel:search"]),
    "unknown notebook": (["40_quarterly_revue"], ["40_quarterly_revue", "Did you mean '40_quarterly_review'?"]),
    "no workers": (["--workers", "0"], ["--workers"]),
}  # fmt: skip


@pytest.fixture
def no_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a kernel would have started")

    monkeypatch.setattr(execute, "run_notebooks", refuse)


def check_refusal(capsys: pytest.CaptureFixture[str], playbook: Path, out: Path, parts: list[str], *more: str) -> str:
    """Run `opslib report` and check that it refuses with one message that holds the parts, and writes nothing."""
    before = sorted(p for p in playbook.parent.rglob("*"))
    with pytest.raises(SystemExit) as end:
        cli.main(["report", "--playbook", str(playbook), "--out", str(out), *more])
    captured = capsys.readouterr()
    assert end.value.code == 2, captured.err
    assert "Traceback" not in captured.err
    assert "unexpected" not in captured.err
    assert captured.err.lower().count("error:") == 1, captured.err
    for part in parts:
        assert part in captured.err
    line = json.loads(captured.out)
    assert (line["status"], line["exit_code"]) == ("refused", 2)
    assert sorted(p for p in playbook.parent.rglob("*")) == before
    return captured.err


@pytest.mark.parametrize("name", DATA)
def test_bad_data_are_refused(name: str, tmp_path: Path) -> None:
    files, tables, parts = DATA[name]
    with pytest.raises(InputError) as error:
        open_company(tmp_path, files, tables).require_fit()
    message = str(error.value)
    for part in parts:
        assert part in message, message
    assert "\n" not in message
    assert str(tmp_path) not in message or "looked in" in message or "DuckDB" in message


@pytest.mark.parametrize("name", DATA)
def test_bad_data_at_the_command_line(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], no_kernel: None
) -> None:
    files, tables, parts = DATA[name]
    check_refusal(capsys, write_company(tmp_path, files, tables), tmp_path / "out", parts)


@pytest.mark.parametrize("name", PLAYBOOKS)
def test_bad_playbooks(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], no_kernel: None) -> None:
    content, parts = PLAYBOOKS[name]
    playbook = tmp_path / "playbook.toml"
    playbook.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError) as error:
        open_data(playbook)
    assert "input_value" not in str(error.value)  # pydantic's own words
    check_refusal(capsys, playbook, tmp_path / "out", parts)


def test_missing_playbook(tmp_path: Path, capsys: pytest.CaptureFixture[str], no_kernel: None) -> None:
    check_refusal(capsys, tmp_path / "nowhere.toml", tmp_path / "out", ["no playbook at", "opslib init"])


@pytest.mark.parametrize("name", ARGUMENTS)
def test_bad_arguments(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], no_kernel: None) -> None:
    more, parts = ARGUMENTS[name]
    users = "user_id,signup_at,channel\n" + "".join(
        f"{u},2026-01-01,{c}\n" for u, c in zip(range(1, 6), ("search", "direct") * 3, strict=False)
    )
    playbook = write_company(tmp_path, {"events.csv": GOOD, "users.csv": users}, EVENTS + USERS)
    message = check_refusal(capsys, playbook, tmp_path / "out", parts, *more)
    assert "hunter2" not in message


def test_output_that_cannot_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str], no_kernel: None) -> None:
    playbook = write_company(tmp_path, {"events.csv": GOOD, "notes/mine.txt": "keep me"})
    for out, part in (
        (tmp_path / "events.csv", "is a file, not a folder"),
        (tmp_path / "events.csv" / "report", "is a file, not a folder"),
        (tmp_path / "notes", "something else than an earlier report"),
        (Path("/proc/opslib/report"), "cannot be written to"),
        (Path("/dev/null/report"), "is a file, not a folder"),
    ):
        check_refusal(capsys, playbook, out, [part])
    assert (tmp_path / "notes" / "mine.txt").read_text() == "keep me"


@pytest.mark.parametrize("command", ["report", "check"])
def test_in_a_process_of_its_own(command: str, tmp_path: Path) -> None:
    playbook = write_company(tmp_path, {"events.csv": GOOD + "7,soon,open\n"})
    arguments = ["--playbook", str(playbook)] + (["--out", str(tmp_path / "out")] if command == "report" else [])
    done = subprocess.run(
        [sys.executable, "-m", "opslib.run.cli", command, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "'soon'" in done.stdout + done.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == ["events.csv", "playbook.toml"]


NASTY = ['user "id"', "a b", "x--y", "a;b", "select", "order", "用户", "drop table t; --", "'", "a.b", "100%", "[x]", "{y}", "日期 '時'", "\\", "a,b"]  # fmt: skip


@pytest.mark.parametrize("name", NASTY)
@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_any_column_name_works_when_mapped(name: str, kind: str, tmp_path: Path) -> None:
    frame = pd.DataFrame({
        name: [1, 2, 3], f"{name} ts": ["2026-01-01 10:00:00", "2026-01-02 10:00:00", "2026-02-01 23:30:00"],
        f"{name} event": ["a", "b", "c"], f"{name} more": ["x", "y", None],
    })  # fmt: skip
    columns = {"user_id": name, "ts": f"{name} ts", "event": f"{name} event"}
    mapping = "columns = { " + ", ".join(f"{k} = {json.dumps(v)}" for k, v in columns.items()) + " }\n"
    keep = f"keep = [{{ column = {json.dumps(name)}, below = 3 }}]\n"
    tables = EVENTS.replace("csv", kind) + mapping
    data = open_company(tmp_path, {f"events.{kind}": frame}, tables)
    assert data.fitness.verdict == "fit"
    assert data.execute(data.table("events").order_by("user_id"))["user_id"].tolist() == [1, 2, 3]
    assert f"{name} more" in data.segment_columns
    data.check_segment(f"{name} more:x")
    assert data.execute(data.restrict(data.active_days, f"{name} more:x").count()) == 1
    kept = open_company(tmp_path, {f"events.{kind}": frame}, tables.replace("columns", keep + "columns"))
    assert kept.execute(kept.table("events").count()) == 2
    with pytest.raises(InputError) as error:
        open_company(tmp_path, {f"events.{kind}": frame}, tables.replace(json.dumps(name), json.dumps(name + "x"), 1))
    assert f"no column '{name}x'" in str(error.value)
    assert f"Did you mean '{name}" in str(error.value) or len(name) < 3


@pytest.mark.parametrize("file", ["a b.csv", "x'; drop--.csv", 'say "hi".csv', "数据[1].csv", "50%.csv", "star*.csv"])
def test_any_file_name_works(file: str, tmp_path: Path) -> None:
    files = {file: GOOD, "star1.csv": GOOD, "数据1.csv": GOOD}
    data = open_company(tmp_path, files, f"[tables.events]\nsource = {json.dumps(file)}\n")
    assert data.fitness.profiles[0].rows == 90

"""Exports on request: safe cells, whole files, nothing overwritten."""

from __future__ import annotations

import csv
import datetime as dt
import os
import stat
from pathlib import Path
from typing import Any

import ibis
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from opslib.errors import InputError
from opslib.run.export import export_table, guard_text

# Ibis calls a method of duckdb that is on its way out.
pytestmark = pytest.mark.filterwarnings("ignore:fetch_record_batch:DeprecationWarning")

ROWS = {"user_id": [7, 8], "offer": ["20% off", "=HYPERLINK(1)"], "value_amount": [-2.5, None]}


def read(path: Path, encoding: str = "utf-8") -> list[list[str]]:
    with path.open(encoding=encoding, newline="") as file:
        return list(csv.reader(file))


def test_numbers_stay_numbers_and_formulas_become_text(tmp_path: Path) -> None:
    done = export_table(ibis.memtable(ROWS), tmp_path / "list.csv")
    assert (done.rows_count, done.guarded_count, done.format) == (2, 1, "csv")
    assert done.bytes_count == (tmp_path / "list.csv").stat().st_size
    assert read(done.path) == [
        ["user_id", "offer", "value_amount"],
        ["7", "20% off", "-2.5"],
        ["8", "'=HYPERLINK(1)", ""],
    ]


@pytest.mark.parametrize("sign", ["=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠", "−"])
@pytest.mark.parametrize("before", ["", " ", "\u3000", "\u200b"])
def test_every_way_to_begin_a_formula(sign: str, before: str) -> None:
    assert guard_text(f"{before}{sign}1") == f"'{before}{sign}1"


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12))
@example('a,b\r\n"c"')
@example("")
@settings(max_examples=60)
def test_no_cell_begins_like_a_formula_and_none_is_lost(tmp_path_factory: Any, text: str) -> None:
    path = tmp_path_factory.mktemp("export") / "x.csv"
    export_table(ibis.memtable(pd.DataFrame({"text": [text], "n": [1]})), path)
    cell = read(path)[1][0]
    assert cell in (text, f"'{text}")
    assert not cell.strip().startswith(("=", "+", "-", "@", "＝", "＋", "－", "＠"))


def test_kinds_of_values(tmp_path: Path) -> None:
    at = dt.datetime(2026, 6, 5, 8, 30)
    frame = {"yes": [True, None], "day": [at.date(), None], "at": [at, None], "=name": ["优惠", "-"]}
    kinds = {"yes": "bool", "day": "date", "at": "timestamp", "=name": "string"}
    done = export_table(ibis.memtable(frame, schema=kinds), tmp_path / "x.csv", bom=True)
    assert done.path.read_bytes()[:3] == b"\xef\xbb\xbf"
    rows = read(done.path, "utf-8-sig")
    assert rows == [
        ["yes", "day", "at", "'=name"],
        ["true", "2026-06-05", "2026-06-05T08:30:00", "优惠"],
        ["", "", "", "'-"],
    ]
    assert done.guarded_count == 2


def test_parquet_holds_the_table_as_it_is(tmp_path: Path) -> None:
    done = export_table(ibis.memtable(ROWS), tmp_path / "list.PARQUET")
    frame = pd.read_parquet(done.path)
    assert frame["offer"].tolist() == ROWS["offer"]
    assert (done.rows_count, done.guarded_count) == (2, 0)


def test_an_empty_list_has_its_header(tmp_path: Path) -> None:
    table = ibis.memtable(ROWS)
    done = export_table(table.filter(table.user_id > 99), tmp_path / "x.csv")
    assert read(done.path) == [["user_id", "offer", "value_amount"]]
    assert export_table(table.filter(table.user_id > 99), tmp_path / "x.parquet").rows_count == 0


def test_nothing_is_overwritten_unless_told(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("mine")
    with pytest.raises(InputError, match="stays as it is"):
        export_table(ibis.memtable(ROWS), path)
    assert path.read_text() == "mine"
    export_table(ibis.memtable(ROWS), path, force=True)
    assert path.read_text().startswith("user_id")
    assert [p.name for p in tmp_path.iterdir()] == ["x.csv"]


def test_a_file_that_came_meanwhile_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.csv"
    monkeypatch.setattr("opslib.run.export._write_csv", lambda *_: (path.write_text("mine"), 0))
    with pytest.raises(InputError, match="stays as it is"):
        export_table(ibis.memtable(ROWS), path)
    assert path.read_text() == "mine"
    assert [p.name for p in tmp_path.iterdir()] == ["x.csv"]


@pytest.mark.parametrize("force", [True, False])
def test_a_failure_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, force: bool) -> None:
    path = tmp_path / "x.csv"

    def fail(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("opslib.run.export._write_csv", fail)
    with pytest.raises(InputError, match="No space left"):
        export_table(ibis.memtable(ROWS), path, force=force)
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(os.name == "nt", reason="Windows has other rights")
def test_only_the_owner_may_read_it(tmp_path: Path) -> None:
    done = export_table(ibis.memtable(ROWS), tmp_path / "x.csv")
    assert stat.S_IMODE(done.path.stat().st_mode) == 0o600


def test_kind_words(tmp_path: Path) -> None:
    table = ibis.memtable(ROWS)
    with pytest.raises(InputError, match=r"neither \.csv nor \.parquet"):
        export_table(table, tmp_path / "list.xlsx")
    with pytest.raises(InputError, match="no folder"):
        export_table(table, tmp_path / "not" / "list.csv")
    (tmp_path / "x.csv").mkdir()
    with pytest.raises(InputError, match="is a folder"):
        export_table(table, tmp_path / "x.csv")
    assert export_table(table, tmp_path / "list.txt", form="csv").format == "csv"

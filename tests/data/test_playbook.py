"""The playbook: what a whole one says, and where it is found. Faulty ones: test_bad_input."""

from __future__ import annotations

import datetime as dt
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opslib.data.contract import CONTRACTS
from opslib.data.playbook import load_playbook
from opslib.data.settings import ColumnSource
from opslib.errors import InputError, suggest_name
from tests.data.company import COMPANY, EVENTS

WHOLE = """
[company]
name = "茶店"
timezone = "Asia/Shanghai"
currency = "CNY"
week_start = "sunday"
data_until = 2026-06-30

[tables.events]
source = "logs/*.parquet"
columns = { user_id = "uid", ts = { column = "t", unit = "ms" }, event = { value = "open" } }
keep = [{ column = "t", above = 0 }, { column = "kind", not_in = ["bot", "test"] }]
drop = ["null_key"]

[activity]
except_events = ["sign_out"]

[targets]
d1_rate = { at_least = 0.35 }
cac_amount = { at_most = 80 }
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "playbook.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_whole_playbook(tmp_path: Path) -> None:
    playbook = load_playbook(write(tmp_path, WHOLE))
    assert playbook.company.name == "茶店"
    assert playbook.week_start == 6
    assert playbook.company.data_until == dt.date(2026, 6, 30)
    events = playbook.tables["events"]
    assert events.columns["user_id"] == ColumnSource(column="uid")
    assert events.columns["ts"].unit == "ms"
    assert [str(f) for f in events.keep] == ["t above 0", "kind not in ('bot', 'test')"]
    assert playbook.targets["d1_rate"].bound == 0.35
    assert playbook.targets["cac_amount"].bound == 80
    assert playbook.folder == tmp_path


def test_defaults(tmp_path: Path) -> None:
    playbook = load_playbook(write(tmp_path, COMPANY.replace("data_until = 2026-06-30\n", "") + EVENTS))
    assert (playbook.company.timezone, playbook.week_start, playbook.company.data_until) == ("UTC", 0, None)
    assert playbook.targets == {}


def test_a_mark_at_the_start_is_no_fault(tmp_path: Path) -> None:
    path = tmp_path / "playbook.toml"
    path.write_bytes(b"\xef\xbb\xbf" + (COMPANY + EVENTS).encode())
    assert load_playbook(path).company.name == "Tea shop"


def test_it_is_frozen(tmp_path: Path) -> None:
    playbook = load_playbook(write(tmp_path, WHOLE))
    with pytest.raises(ValueError, match="frozen"):
        playbook.company.name = "other"


def test_it_is_found_in_a_folder_above(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, WHOLE)
    (tmp_path / "notebooks" / "deep").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "notebooks" / "deep")
    assert load_playbook("playbook.toml").folder == tmp_path
    with pytest.raises(InputError, match=r"no playbook at 'other\.toml'"):
        load_playbook("other.toml")


@pytest.mark.skipif(os.geteuid() == 0, reason="the administrator may read everything")
def test_one_that_may_not_be_read(tmp_path: Path) -> None:
    path = write(tmp_path, WHOLE)
    path.chmod(0)
    with pytest.raises(InputError, match="cannot be read"):
        load_playbook(path)


@pytest.mark.parametrize("table", CONTRACTS)
def test_every_table_of_the_contract_is_known(table: str, tmp_path: Path) -> None:
    playbook = load_playbook(write(tmp_path, COMPANY + f'[tables.{table}]\nsource = "x"\n'))
    assert list(playbook.tables) == [table]


def test_all_faults_are_named_at_once(tmp_path: Path) -> None:
    text = COMPANY.replace("name", "nme") + EVENTS.replace("source", "sorce") + "[targets]\nd1_rate = 3\n"
    with pytest.raises(InputError) as error:
        load_playbook(write(tmp_path, text))
    for part in ("company.nme", "tables.events.sorce", "targets.d1_rate"):
        assert part in str(error.value)


@given(st.text(max_size=60))
def test_any_text_is_a_playbook_or_refused(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.getbasetemp() / "any.toml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(InputError, match=r"any\.toml"):
        load_playbook(path)


@pytest.mark.parametrize(
    ("name", "nearest"), [("timezon", "timezone"), ("time_zone", "timezone"), ("currancy", "currency"), ("xyz", None)]
)
def test_nearest_name(name: str, nearest: str | None) -> None:
    assert suggest_name(name, ["timezone", "currency", "name"]) == (f" Did you mean '{nearest}'?" if nearest else "")

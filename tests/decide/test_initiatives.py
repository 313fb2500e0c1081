"""The register of initiatives: TOML and CSV alike, and every mistake named by file, line and column."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from opslib.data.operations import InitiativeSettings
from opslib.data.playbook import Playbook, load_playbook
from opslib.decide.initiatives import COLUMNS, find_status, list_initiatives, read_register
from opslib.errors import InputError

HEAD = "name,owner,metric,start"
FULL = (
    "name,owner,metric,start,watch_until,expected_change,expected_low,expected_high,difficulty,budget,payback_months,"
    "segment,unaffected,behaviour,kill_rule"
)
ROW = (
    '"Social, more",Marketing,d7_rate,2026-04-01,2026-06-30,0.02,-0.01,0.04,2,17000,1;3,channel:social,'
    "channel:search; channel:wecom,d1_rate;new_users_count,d7_rate<0.18 after 60 days"
)


def write(folder: Path, text: str | bytes, more: str = "") -> Playbook:
    (folder / "plans.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    lines = '[company]\nname = "A"\n[tables]\nevents = { source = "e.csv" }\n'
    (folder / "playbook.toml").write_text(f'{lines}[initiatives_file]\nsource = "plans.csv"\n{more}')
    return load_playbook(folder / "playbook.toml")


def test_a_csv_is_read_as_toml_is(tmp_path: Path) -> None:
    register = list_initiatives(write(tmp_path, f"{FULL}\n{ROW}\n\n"))
    one = register.find("Social, more")
    assert one.expected_low == -0.01
    assert one.payback_months == (1, 3)
    assert one.unaffected == ("channel:search", "channel:wecom")
    assert one.behaviour == ("d1_rate", "new_users_count")
    assert one.kill_rule is not None
    assert (one.kill_rule.metric, one.kill_rule.below, one.kill_rule.after_days) == ("d7_rate", 0.18, 60)
    assert register.sources == {"Social, more": "plans.csv line 2"}
    with pytest.raises(InputError, match="Did you mean 'Social, more'"):
        register.find("Social more")


@pytest.mark.parametrize("separator", [";", "\t"])
def test_other_separators_and_byte_order_marks(tmp_path: Path, separator: str) -> None:
    cells = '"A";B;d1_rate;2026-01-01;"d7_rate;d30_rate"'.replace(";", separator).replace(
        f"d7_rate{separator}d30", "d7_rate;d30"
    )
    text = f"\ufeff{HEAD},behaviour\r\n".replace(",", separator) + cells + "\r\n"
    assert list_initiatives(write(tmp_path, text)).find("A").behaviour == ("d7_rate", "d30_rate")


def test_both_places_are_one_register_by_start(tmp_path: Path) -> None:
    more = '[[initiatives]]\nname = "First"\nowner = "A"\nmetric = "d1_rate"\nstart = 2025-01-01\n'
    register = list_initiatives(write(tmp_path, f"{HEAD}\nSecond,B,d1_rate,2026-01-01\n", more))
    assert [i.name for i in register.initiatives] == ["First", "Second"]
    again = more.replace("First", "Second")
    with pytest.raises(InputError, match=r"plans.csv line 2: the initiative 'Second' is in playbook.toml already"):
        list_initiatives(write(tmp_path, f"{HEAD}\nSecond,B,d1_rate,2026-01-01\n", again))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1 has no columns"),
        ("name,owner,metrik,start\n", "line 1: column 'metrik' is not known. Did you mean 'metric'?"),
        ("name,owner,metric\n", "line 1: column 'start' is missing"),
        (f"{HEAD},name\n", "line 1: column 'name' is there twice"),
        (f"{HEAD}\nA,B,d1_rate,01.04.2026\n", "line 2, column 'start': '01.04.2026' should be a date such as"),
        (
            f"{HEAD}\nA,B,d1_rat,2026-01-01\n",
            "line 2, column 'metric': there is no metric 'd1_rat'. Did you mean 'd1_rate'?",
        ),
        (f"{HEAD}\n,B,d1_rate,2026-01-01\n", "line 2, column 'name' is empty: it takes a name"),
        (f"{HEAD}\n\nA,B,d1_rate,\n", "line 3, column 'start' is empty"),
        (
            f"{HEAD},difficulty\nA,B,d1_rate,2026-01-01,7\n",
            "column 'difficulty': '7' should be a whole number of stars",
        ),
        (f"{HEAD},budget\nA,B,d1_rate,2026-01-01,lots\n", "column 'budget': 'lots' should be a number from 0"),
        (f"{HEAD},kill_rule\nA,B,d1_rate,2026-01-01,below 3\n", "column 'kill_rule': 'below 3' should be metric<value"),
        (f"{HEAD},kill_rule\nA,B,d1_rate,2026-01-01,d2<3\n", "column 'kill_rule': there is no metric 'd2'"),
        (f"{HEAD},payback_months\nA,B,d1_rate,2026-01-01,soon\n", "should be two whole numbers such as 1;3"),
        (f"{HEAD},guardrails\nA,B,d1_rate,2026-01-01,d1_rate;dx\n", "column 'guardrails': there is no metric 'dx'"),
        (f"{HEAD}\nA,B,d1_rate,2026-01-01,more\n", "line 2: 5 cells, but 4 columns"),
        (b"\xff\xfe\x00", "is not a text file in UTF-8"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, text: str | bytes, message: str) -> None:
    with pytest.raises(InputError) as caught:
        list_initiatives(write(tmp_path, text))
    assert message in str(caught.value)
    assert "plans.csv" in str(caught.value)


def test_no_file_and_no_initiative(tmp_path: Path) -> None:
    playbook = write(tmp_path, f"{HEAD}\n")
    assert list_initiatives(playbook).to_frame().empty
    (tmp_path / "plans.csv").unlink()
    with pytest.raises(InputError, match=r"no file 'plans.csv'"):
        list_initiatives(playbook)


def test_texts_guarded_for_spreadsheets_are_freed(tmp_path: Path) -> None:
    playbook = write(tmp_path, f"{HEAD},expected_change\n'=1+1,B,d1_rate,2026-01-01,'-0.5\n")
    (one,) = list_initiatives(playbook).initiatives
    assert (one.name, one.expected_change) == ("=1+1", -0.5)


texts = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Zl", "Zp", "Zs"]), min_size=1).filter(
    lambda t: not t.startswith("'")
)


@given(name=texts, owner=texts, days=st.integers(0, 400), change=st.floats(-5, 5).map(lambda x: float(f"{x:g}")))
def test_what_is_written_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, name: str, owner: str, days: int, change: float
) -> None:
    start = dt.date(2026, 1, 1)
    one = InitiativeSettings(
        name=name, owner=owner, metric="d1_rate", start=start, watch_until=start + dt.timedelta(days),
        expected_change=change, unaffected=("channel:a", "channel:b"), payback_months=(3, 6),
        kill_rule={"metric": "d7_rate", "above": 0.2, "after_days": 9},
    )  # fmt: skip
    book = Playbook.model_validate(
        {"company": {"name": "A"}, "tables": {"events": {"source": "e"}}, "initiatives": [one.model_dump()]}
    )
    frame = list_initiatives(book).to_frame()
    assert list(frame.columns) == list(COLUMNS)
    path = tmp_path_factory.getbasetemp() / "back.csv"
    frame.to_csv(path, index=False)
    assert read_register(path)[0][0] == one


def test_status_by_day() -> None:
    one = InitiativeSettings(name="A", owner="B", metric="d1_rate", start=dt.date(2026, 1, 1))
    assert [find_status(one, dt.date(2026, m, d)) for m, d in ((1, 28), (1, 29), (6, 30), (7, 1))] == [
        "running", "watching", "watching", "due",
    ]  # fmt: skip
    assert find_status(one, dt.date(2025, 12, 31), killed=True) == "planned"
    assert find_status(one, dt.date(2026, 5, 1), killed=True) == "killed"
    assert find_status(one.model_copy(update={"decision": "kept"}), dt.date(2026, 5, 1), killed=True) == "decided"


def test_a_frame_without_rows_has_its_columns() -> None:
    book = Playbook.model_validate({"company": {"name": "A"}, "tables": {"events": {"source": "e"}}})
    frame = list_initiatives(book).to_frame()
    assert isinstance(frame, pd.DataFrame)
    assert list(frame.columns) == list(COLUMNS)

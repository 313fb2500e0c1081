"""Rollups: after any deliveries they say what a full computation says; a killed update leaves the old ones."""

from __future__ import annotations

import datetime as dt
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opslib.data.lock import lock_folder
from opslib.data.playbook import Playbook, load_playbook
from opslib.data.rollups.store import FILE, RETURN_AGES
from opslib.data.rollups.update import PARTIAL, update_rollups
from opslib.data.source import Data, open_data
from opslib.errors import BusyError, InputError
from tests.conftest import ROOT

PLAYBOOK = """
[company]
name = "Tea shop"
timezone = "Asia/Shanghai"
data_until = 2026-12-31

[data]
rollups = "rollups"

[tables]
events = { source = "events/*.parquet" }
users = { source = "users.parquet" }
"""
START = dt.datetime(2026, 1, 1)
Row = tuple[int, float, str]


def write_events(folder: Path, name: str, rows: Sequence[Row]) -> None:
    """Write a file of events: user, days since the start (in UTC), event."""
    (folder / "events").mkdir(exist_ok=True)
    users, days, events = zip(*rows, strict=True) if rows else ((), (), ())
    frame = pd.DataFrame(
        {
            "user_id": pd.array(users, dtype="int64"),
            "ts": pd.to_datetime([START + dt.timedelta(days=d) for d in days]).astype("datetime64[us]"),
            "event": pd.array(events, dtype="str"),
        }
    )
    frame.to_parquet(folder / "events" / f"{name}.parquet")


def write_shop(folder: Path, files: dict[str, Sequence[Row]], more: str = "") -> Playbook:
    """A shop of 6 users."""
    for name, rows in files.items():
        write_events(folder, name, rows)
    users = {"user_id": range(1, 7), "channel": ["search", "ads"] * 3}
    pd.DataFrame(users).assign(signup_at=START).to_parquet(folder / "users.parquet")
    (folder / "playbook.toml").write_text(PLAYBOOK + more, encoding="utf-8")
    return load_playbook(folder / "playbook.toml")


def open_without(playbook: Playbook) -> Data:
    """The same data as if no rollups were kept."""
    return open_data(playbook.model_copy(update={"data": playbook.data.model_copy(update={"rollups": None})}))


def list_rows(table: Any) -> list[tuple[Any, ...]]:
    """The rows of an Ibis table in order."""
    frame = table.select(*sorted(table.columns)).to_pandas()
    return sorted(map(tuple, frame.astype(str).to_numpy()))


def check_rollups(playbook: Playbook) -> Data:
    """Bring them up to date and compare them with a full computation; give the data that use them."""
    update_rollups(playbook)
    ours, full = open_data(playbook), open_without(playbook)
    assert ours.rollups is not None
    assert ours.fitness == full.fitness
    if full.fitness.verdict == "unfit":
        return ours
    assert list_rows(ours.active_days) == list_rows(full.active_days)
    assert list_rows(ours.event_counts) == list_rows(full.event_counts)
    events = full.table("events").to_pandas()
    days = full.active_days.to_pandas()
    first = days.groupby("user_id")["day"].min()
    kept = ours.rollups.users.to_pandas().set_index("user_id").sort_index()
    assert kept["rows_count"].to_dict() == events.groupby("user_id").size().to_dict()
    assert kept["first_day"].dropna().astype(str).to_dict() == first.astype(str).to_dict()
    ages = (pd.to_datetime(days["day"]) - pd.to_datetime(days["user_id"].map(first))).dt.days
    returned = days[ages.isin(RETURN_AGES)]
    assert list_rows(ours.rollups.returns) == sorted(map(tuple, returned[["day", "user_id"]].astype(str).to_numpy()))
    return ours


def test_one_new_day_changes_only_that_day(tmp_path: Path) -> None:
    playbook = write_shop(tmp_path, {"a": [(1, 0.1, "open"), (1, 0.2, "open"), (2, 1.1, "buy")]})
    data = check_rollups(playbook)
    assert data.rollups is not None
    assert data.rollups.version == 1
    assert list_rows(data.rollups.users) == [("2026-01-01", "2", "1"), ("2026-01-02", "1", "2")]
    write_events(tmp_path, "b", [(1, 2.1, "open"), (3, 2.1, "open")])
    data = check_rollups(playbook)
    assert data.rollups is not None
    assert data.rollups.version == 2
    change = data.rollups.find_first_change(("events",), since=1, end=dt.date(2026, 1, 3), day_start=None)
    assert change == dt.date(2026, 1, 3)
    assert not update_rollups(playbook)


def test_a_file_delivered_again_unchanged_changes_nothing(tmp_path: Path) -> None:
    rows = [(1, 0.1, "open"), (2, 1.1, "buy")]
    playbook = write_shop(tmp_path, {"a": rows})
    check_rollups(playbook)
    time.sleep(0.01)
    write_events(tmp_path, "a", rows[::-1])
    assert open_data(playbook).rollups is None
    data = check_rollups(playbook)
    assert data.rollups is not None
    assert data.rollups.find_first_change(("events",), since=1, end=dt.date(2026, 1, 3), day_start=None) == dt.date.max


def test_without_its_first_day_a_user_begins_later(tmp_path: Path) -> None:
    playbook = write_shop(
        tmp_path, {"a": [(1, 0.1, "open"), (2, 0.1, "open")], "b": [(1, 3.1, "open"), (1, 10.1, "x")]}
    )
    check_rollups(playbook)
    write_events(tmp_path, "a", [(2, 0.1, "open")])
    data = check_rollups(playbook)
    assert data.rollups is not None
    # Day 4 and, seven days later, day 11.
    assert [row for row in list_rows(data.rollups.returns) if row[1] == "1"] == [
        ("2026-01-04", "1"),
        ("2026-01-11", "1"),
    ]


EVENT = st.tuples(st.integers(1, 7), st.integers(0, 320).map(lambda n: n / 8), st.sampled_from(["open", "buy", "打开"]))
DELIVERY = st.tuples(st.sampled_from("abcd"), st.lists(EVENT, max_size=12))


@settings(max_examples=12)
@given(
    first=st.lists(EVENT, min_size=1, max_size=20),
    deliveries=st.lists(DELIVERY, min_size=1, max_size=4),
    rules=st.sampled_from(["", '[activity]\nevents = ["open"]\n', '[activity]\nexcept_events = ["buy"]\n']),
)
def test_any_deliveries_equal_a_full_computation(
    first: list[Row], deliveries: list[tuple[str, list[Row]]], rules: str
) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        playbook = write_shop(folder, {"z": first}, rules)
        check_rollups(playbook)
        for file, rows in deliveries:
            if rows:
                write_events(folder, file, rows)
            else:
                (folder / "events" / f"{file}.parquet").unlink(missing_ok=True)
            check_rollups(playbook)


def test_an_empty_delivery_and_one_that_cannot_be_read(tmp_path: Path) -> None:
    playbook = write_shop(tmp_path, {"a": [(1, 0.1, "open")]})
    check_rollups(playbook)
    write_events(tmp_path, "empty", [])
    check_rollups(playbook)
    before = (tmp_path / "rollups" / FILE).read_bytes()
    (tmp_path / "events" / "c.parquet").write_bytes(b"PAR1 cut off")
    with pytest.raises(InputError, match=r"c\.parquet|damaged"):
        update_rollups(playbook)
    assert (tmp_path / "rollups" / FILE).read_bytes() == before
    assert not (tmp_path / "rollups" / PARTIAL).exists()


def test_other_settings_and_a_damaged_store_make_it_anew(tmp_path: Path) -> None:
    playbook = write_shop(tmp_path, {"a": [(1, 0.9, "open"), (2, 1.1, "buy")]})
    check_rollups(playbook)
    text = (tmp_path / "playbook.toml").read_text("utf-8")
    (tmp_path / "playbook.toml").write_text(text.replace("Asia/Shanghai", "America/New_York"), encoding="utf-8")
    moved = load_playbook(tmp_path / "playbook.toml")
    assert open_data(moved).rollups is None
    data = check_rollups(moved)
    assert data.rollups is not None
    assert data.rollups.version == 1
    (tmp_path / "rollups" / FILE).write_bytes(b"no database")
    assert open_data(moved).rollups is None
    check_rollups(moved)


def test_rollups_are_refused_where_they_would_be_wrong(tmp_path: Path) -> None:
    playbook = write_shop(tmp_path, {"a": [(1, 0.1, "open")]})
    with_url = playbook.model_copy(update={"data": playbook.data.model_copy(update={"url": "postgres://db/shop"})})
    with pytest.raises(InputError, match="kept of files only"):
        update_rollups(with_url)
    text = (tmp_path / "playbook.toml").read_text("utf-8").replace("data_until = 2026-12-31\n", "")
    text = text.replace('parquet" }\nusers', 'parquet", drop = ["future_time"] }\nusers')
    (tmp_path / "playbook.toml").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match="data_until"):
        update_rollups(load_playbook(tmp_path / "playbook.toml"))


def _hold(folder: str, ready: Any) -> None:
    with lock_folder(Path(folder), busy=""):
        ready.set()
        time.sleep(60)


def test_of_two_updates_one_waits_or_says_so(tmp_path: Path) -> None:
    playbook = write_shop(tmp_path, {"a": [(1, 0.1, "open")]})
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    holder = context.Process(target=_hold, args=(str(tmp_path / "rollups"), ready))
    holder.start()
    try:
        assert ready.wait(60)
        with pytest.raises(BusyError, match="up to date"):
            update_rollups(playbook, wait_seconds=0.1)
    finally:
        holder.kill()
        holder.join()
    # The lock went with its holder.
    assert update_rollups(playbook, wait_seconds=5)


def test_a_killed_update_leaves_the_rollups_as_they_were(tmp_path: Path) -> None:
    playbook = write_shop(tmp_path, {"a": [(1, 0.1, "open"), (2, 1.1, "buy")]})
    check_rollups(playbook)
    before = (tmp_path / "rollups" / FILE).read_bytes()
    write_events(tmp_path, "b", [(1, 2.1, "open")])
    # Stops inside its transaction, with rows of the new day written.
    code = (
        "import sys, time\nfrom opslib.data.playbook import load_playbook\n"
        "import opslib.data.rollups.update as update\n"
        "def stop(*args, **kwargs):\n    print('inside', flush=True)\n    time.sleep(60)\n"
        "update.check_table = stop if sys.argv[2] == 'check' else update.check_table\n"
        "update.json.dumps = stop if sys.argv[2] == 'store' else update.json.dumps\n"
        "update.update_rollups(load_playbook(sys.argv[1]))\n"
    )
    for where in ("check", "store"):
        command = [sys.executable, "-c", code, str(tmp_path / "playbook.toml"), where]
        child = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None
        assert child.stdout.readline() == "inside\n"
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        child.stdout.close()
        assert (tmp_path / "rollups" / FILE).read_bytes() == before
    check_rollups(playbook)
    assert not (tmp_path / "rollups" / PARTIAL).exists()


def test_readers_keep_the_rollups_that_they_opened(tmp_path: Path) -> None:
    playbook = write_shop(tmp_path, {"a": [(1, 0.1, "open")]})
    reader = check_rollups(playbook)
    write_events(tmp_path, "b", [(2, 1.1, "open")])
    check_rollups(playbook)
    assert [row[1] for row in list_rows(reader.active_days)] == ["1"]
    shutil.rmtree(tmp_path / "rollups")
    assert open_data(playbook).rollups is None

"""The same data on a second connection: same answers, its own queries, and nothing done to it behind its back."""

from __future__ import annotations

import gc
import threading
import time
from pathlib import Path

import pytest

from opslib.data.parallel import drop_unused, interrupt_queries, reopen_data
from opslib.data.source import Data, open_data

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def data() -> Data:
    return open_data(ROOT / "playbook.toml")


def test_second_connection_gives_the_same_and_checks_nothing_again(data: Data) -> None:
    again = reopen_data(data)
    assert again.connection is not data.connection
    assert again.fitness is data.fitness
    assert again.as_of == data.as_of
    assert again.memory is not data.memory
    counts = [int(d.execute(d.active_days.count())) for d in (data, again)]
    assert counts[0] == counts[1] > 0


def test_kept_tables_are_dropped_only_when_asked(data: Data) -> None:
    again = reopen_data(data)
    kept = again.table("users").select("user_id").cache()
    name = kept.op().name
    assert name in again.connection.list_tables()
    del kept
    gc.collect()
    assert name in again.connection.list_tables()
    drop_unused(again)
    assert name not in again.connection.list_tables()
    assert again.execute(again.table("users").count()) > 0


def test_running_query_can_be_cut_short_and_the_connection_stays_good(data: Data) -> None:
    again = reopen_data(data)
    failed: list[BaseException] = []

    def count_long() -> None:
        days = again.active_days
        pairs = days.cross_join(days.view()).count()
        try:
            again.execute(pairs)
        except Exception as error:
            failed.append(error)

    int(again.execute(again.active_days.count()))
    thread = threading.Thread(target=count_long)
    thread.start()
    for _ in range(400):
        time.sleep(0.05)
        interrupt_queries(again)
        if not thread.is_alive():
            break
    thread.join(1)
    assert not thread.is_alive()
    assert "interrupt" in str(failed[0]).lower()
    assert again.execute(again.table("users").count()) > 0

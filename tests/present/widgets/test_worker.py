"""Requests pile up and only the newest counts; what runs can be cut short; nothing stops the next request."""

from __future__ import annotations

import threading
import time

from opslib.present.widgets.worker import Ticket, Worker


def test_thirty_requests_in_a_row_do_the_last_and_few_others() -> None:
    done: list[int] = []
    worker = Worker(quiet_seconds=0.05)
    for number in range(30):
        worker.request(lambda ticket, number=number: done.append(number))
        time.sleep(0.01)
    assert worker.wait(10)
    assert done[-1] == 29
    assert len(done) <= 3


def test_somebody_who_never_pauses_still_sees_results(monkeypatch) -> None:
    monkeypatch.setattr("opslib.present.widgets.worker.LONGEST_WAIT_SECONDS", 0.2)
    done: list[int] = []
    worker = Worker(quiet_seconds=0.1)
    for number in range(30):
        worker.request(lambda ticket, number=number: done.append(number))
        time.sleep(0.03)
    assert worker.wait(10)
    assert done[-1] == 29
    assert 2 <= len(done) <= 8


def test_newer_request_interrupts_the_one_that_runs() -> None:
    interrupted, began, results = threading.Event(), threading.Event(), []
    worker = Worker(interrupt=interrupted.set, quiet_seconds=0.01)

    def work_long(ticket: Ticket) -> None:
        began.set()
        # Stands for a query of minutes, which only an interrupt ends.
        assert interrupted.wait(10)
        ticket.check()
        results.append("old")

    worker.request(work_long)
    assert began.wait(10)
    worker.request(lambda ticket: results.append("new"))
    assert worker.wait(10)
    assert results == ["new"]


def test_interrupts_go_on_until_the_task_ends() -> None:
    calls: list[float] = []
    began = threading.Event()

    def work(ticket: Ticket) -> None:
        began.set()
        # The first interrupts come between two queries and end nothing.
        while len(calls) < 3:
            time.sleep(0.01)
        ticket.check()

    worker = Worker(interrupt=lambda: calls.append(time.monotonic()), quiet_seconds=0.01)
    worker.request(work)
    assert began.wait(10)
    worker.stop()
    assert worker.wait(10)
    assert len(calls) >= 3


def test_stop_gives_up_what_runs_and_what_waits() -> None:
    done: list[str] = []
    worker = Worker(quiet_seconds=5)
    worker.request(lambda ticket: done.append("never"))
    worker.stop()
    assert worker.wait(1)
    assert not done


def test_task_that_fails_leaves_the_worker_usable(monkeypatch) -> None:
    monkeypatch.setattr(threading, "excepthook", lambda args: None)
    done: list[str] = []
    worker = Worker(quiet_seconds=0.01)

    def fail(ticket: Ticket) -> None:
        raise RuntimeError("a bug")

    worker.request(fail)
    assert worker.wait(10)
    time.sleep(0.05)
    worker.request(lambda ticket: done.append("next"))
    assert worker.wait(10)
    assert done == ["next"]


def test_closed_worker_takes_nothing() -> None:
    done: list[str] = []
    worker = Worker(quiet_seconds=0.01)
    worker.close()
    worker.request(lambda ticket: done.append("never"))
    assert worker.wait(1)
    assert not done

"""One computation at a time, away from the kernel's main thread; the newest request wins."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

# Long enough for a hand that moves a slider, short enough not to be noticed after it stops.
QUIET_SECONDS = 0.15
# Somebody who never pauses still sees results.
LONGEST_WAIT_SECONDS = 1.5
INTERRUPT_SECONDS = 0.05


class SupersededError(Exception):
    """This computation is no longer wanted: something newer came, or somebody stopped it."""


class Ticket:
    """A request that is being computed; ask it now and then whether it is still wanted."""

    def __init__(self) -> None:
        self._over = threading.Event()

    def cancel(self) -> None:
        """Say that nobody wants it any more."""
        self._over.set()

    @property
    def cancelled(self) -> bool:
        """Whether nobody wants it any more."""
        return self._over.is_set()

    def check(self) -> None:
        """Raise `SupersededError` when nobody wants it any more."""
        if self.cancelled:
            raise SupersededError


Task = Callable[[Ticket], None]


class Worker:
    """A thread that waits until requests pause, then does the last one; an older one that still runs is cut short.

    >>> done, worker = [], Worker(quiet_seconds=0.01)
    >>> for number in range(30):
    ...     worker.request(lambda ticket, number=number: done.append(number))
    >>> worker.wait(), done[-1], len(done) < 30
    (True, 29, True)
    >>> worker.close()
    """

    def __init__(self, *, interrupt: Callable[[], None] | None = None, quiet_seconds: float = QUIET_SECONDS) -> None:
        self._interrupt = interrupt
        self._quiet_seconds = quiet_seconds
        self._changed = threading.Condition()
        self._next: Task | None = None
        self._asked_at = self._first_asked_at = 0.0
        self._running: Ticket | None = None
        self._closed = False
        self._thread: threading.Thread | None = None

    def request(self, task: Task) -> None:
        """Ask for a task instead of all that were asked for before."""
        with self._changed:
            if self._closed:
                return
            now = time.monotonic()
            if self._next is None:
                self._first_asked_at = now
            self._next, self._asked_at = task, now
            self._cut_short()
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._work, name="opslib-exploration", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def stop(self) -> None:
        """Give up what runs and what waits."""
        with self._changed:
            self._next = None
            self._cut_short()
            self._changed.notify_all()

    def close(self) -> None:
        """Give up everything, and end the thread."""
        with self._changed:
            self._closed = True
        self.stop()

    def wait(self, seconds: float = 60.0) -> bool:
        """Wait until nothing runs or waits; tell whether that came to be."""
        with self._changed:
            return self._changed.wait_for(lambda: self._next is None and self._running is None, seconds)

    def _cut_short(self) -> None:
        ticket = self._running
        if ticket is None or ticket.cancelled:
            return
        ticket.cancel()
        if self._interrupt is not None:
            threading.Thread(target=self._interrupt_until_over, args=(ticket,), daemon=True).start()

    def _interrupt_until_over(self, ticket: Ticket) -> None:
        """Interrupt again and again: what comes between two queries does not notice the first time."""
        assert self._interrupt is not None
        while self._running is ticket:
            self._interrupt()
            time.sleep(INTERRUPT_SECONDS)

    def _work(self) -> None:
        while (taken := self._take()) is not None:
            task, ticket = taken
            try:
                task(ticket)
            except SupersededError:
                pass
            finally:
                with self._changed:
                    self._running = None
                    self._changed.notify_all()

    def _take(self) -> tuple[Task, Ticket] | None:
        """Wait for a request, and then until requests pause; None at the end."""
        with self._changed:
            while not self._closed:
                if self._next is None:
                    self._changed.wait()
                    continue
                now = time.monotonic()
                due = min(self._asked_at + self._quiet_seconds, self._first_asked_at + LONGEST_WAIT_SECONDS)
                if now < due:
                    self._changed.wait(due - now)
                    continue
                task, self._next, self._running = self._next, None, Ticket()
                return task, self._running
            return None

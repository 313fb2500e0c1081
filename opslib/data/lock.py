"""One process at a time: a lock on a folder that dies with whoever holds it."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from opslib.errors import BusyError

LOCK = ".lock"
POLL_SECONDS = 0.2


@contextlib.contextmanager
def lock_folder(root: Path, *, busy: str, wait_seconds: float = 0) -> Iterator[None]:
    """Keep other processes out of a folder. The lock dies with the process, however that ends.

    Args:
        root: the folder; made if it is not there.
        busy: what to say when another process has it.
        wait_seconds: how long to wait for it.

    Raises:
        BusyError: another process has it, and kept it as long as we were to wait.
    """
    root.mkdir(parents=True, exist_ok=True)
    handle = os.open(root / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        deadline = time.monotonic() + wait_seconds
        while not _try_lock(handle):
            if time.monotonic() >= deadline:
                raise BusyError(busy)
            time.sleep(min(POLL_SECONDS, max(0.01, deadline - time.monotonic())))
        yield
    finally:
        os.close(handle)


def _try_lock(handle: int) -> bool:
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True

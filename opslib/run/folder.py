"""Put a finished folder into place in one step, so that a reader never meets half a report.

A report is written in a folder beside its destination, `.<name>.<process id>.partial`, then the two change
names in one system call. A run killed before that leaves the last good report; one killed after it leaves the
new one. What it left lying about is removed by the next run, once its owner is dead (told by a lock that dies
with the process, and by the process id).
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from opslib.errors import InputError

REPORT_KIND = "opslib report"
AT_FDCWD = -100
RENAME_EXCHANGE = 2


def check_destination(out: Path) -> Path:
    """Refuse a destination that a report must not or cannot replace, before anything runs.

    Returns:
        The destination as an absolute path.

    Raises:
        InputError: it is a file, a folder of something else, or not writable.
    """
    out = out.expanduser().resolve()
    try:
        if out.exists() and not out.is_dir():
            raise InputError(f"The report cannot be written to {out}: that is a file, not a folder.")
        if out.is_dir() and any(out.iterdir()) and not is_report(out):
            raise InputError(
                f"The report cannot be written to {out}: that folder holds something else than an earlier "
                "report. Name a new or an empty folder."
            )
        parent = next(p for p in out.parents if p.exists())
        if not parent.is_dir():
            raise InputError(f"The report cannot be written to {out}: {parent} is a file, not a folder.")
    except OSError as error:
        raise InputError(f"The report cannot be written to {out}: {error.strerror or error}.") from None
    # The folder changes its name when it is exchanged, so its parent must be writable, not only itself.
    for folder in (parent, out) if out.is_dir() else (parent,):
        if not os.access(folder, os.W_OK | os.X_OK):
            raise InputError(f"The report cannot be written to {out}: {folder} is not writable.")
    return out


def is_report(folder: Path) -> bool:
    """Tell whether a folder is a report that we wrote: its manifest says so."""
    try:
        manifest = json.loads((folder / "manifest.json").read_text("utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(manifest, dict) and manifest.get("kind") == REPORT_KIND


@contextlib.contextmanager
def write_aside(out: Path) -> Iterator[Path]:
    """Give a folder to write the report in; leaving without an error puts it into place, with one removes it.

    Raises:
        InputError: the folder beside the destination cannot be made.
    """
    partial = out.parent / f".{out.name}.{os.getpid()}.partial"
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(out)
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
    except OSError as error:
        raise InputError(f"The report cannot be written to {out}: {error.strerror or error}.") from None
    lock = _lock(partial)
    try:
        yield partial
        exchange(partial, out)
    finally:
        if lock is not None:
            os.close(lock)
        shutil.rmtree(partial, ignore_errors=True)


def exchange(partial: Path, out: Path) -> None:
    """Put `partial` where `out` is; what was there, if anything, is afterwards at `partial`."""
    # Another run may put its report there, or take it away, between looking and renaming: look again then.
    for last_try in (False, False, False, True):
        try:
            if not out.exists():
                partial.rename(out)
            elif not _exchange_at_once(partial, out):
                # Elsewhere than on Linux: two renames; `remove_leftovers` mends a death between them.
                previous = partial.with_suffix(".previous")
                out.rename(previous)
                partial.rename(out)
                previous.rename(partial)
            return
        except OSError:
            if last_try or not partial.exists():
                raise


def remove_leftovers(out: Path) -> None:
    """Remove what dead runs left beside a destination; bring back a report that one had just moved away."""
    for left in sorted(out.parent.glob(f".{_escape_glob(out.name)}.*.*")):
        owner, kind = left.name.removeprefix(f".{out.name}.").partition(".")[::2]
        if not owner.isdigit() or kind not in ("partial", "previous") or is_alive(int(owner)):
            continue
        lock = _lock(left)
        if lock is None and sys.platform != "win32":
            continue
        try:
            if kind == "previous" and not out.exists():
                left.rename(out)
            else:
                shutil.rmtree(left, ignore_errors=True)
        finally:
            if lock is not None:
                os.close(lock)


def is_alive(pid: int) -> bool:
    """Tell whether a process with this id exists.

    >>> is_alive(os.getpid())
    True
    """
    if sys.platform == "win32":  # there os.kill(pid, 0) would end the process
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _exchange_at_once(first: Path, second: Path) -> bool:
    if sys.platform != "linux":
        return False
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return False
    done = rename(
        ctypes.c_int(AT_FDCWD), ctypes.c_char_p(os.fsencode(first)),
        ctypes.c_int(AT_FDCWD), ctypes.c_char_p(os.fsencode(second)), ctypes.c_uint(RENAME_EXCHANGE),
    )  # fmt: skip
    if done == 0:
        return True
    number = ctypes.get_errno()
    # Old kernels and some network file systems do not know the flag.
    if number in (errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP):
        return False
    raise OSError(number, os.strerror(number), str(second))


def _lock(folder: Path) -> int | None:
    if sys.platform == "win32":
        return None
    import fcntl

    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        return None
    return handle


def _escape_glob(name: str) -> str:
    return "".join(f"[{c}]" if c in "*?[" else c for c in name)

"""Reports in processes of their own, to see what is said and kept when something goes wrong."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def start(out: Path, playbook: Path, *notebooks: str, **env: str) -> subprocess.Popen[bytes]:
    """Start `opslib report`."""
    command = [sys.executable, "-m", "opslib.run.cli", "report", *notebooks, "--out", str(out)]
    return subprocess.Popen(
        [*command, "--playbook", str(playbook)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, **env}, start_new_session=True,
    )  # fmt: skip


def run(process: subprocess.Popen[bytes]) -> tuple[int, str, str]:
    """Wait for the end: exit code, stdout, stderr."""
    out, err = process.communicate(timeout=240)
    return process.returncode, out.decode(), err.decode()


def wait_for(what: Callable[[], Any], process: subprocess.Popen[bytes] | None = None, seconds: float = 120) -> Any:
    """Wait until something holds."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := what():
            return found
        assert process is None or process.poll() is None, run(process)
        time.sleep(0.02)
    raise AssertionError("that never happened")


def read_all(folder: Path) -> dict[str, bytes]:
    """What every file of a folder holds."""
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}

"""Killed at any moment, a run leaves the last good report whole, and the next run works."""

from __future__ import annotations

import random
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from tests.run import fakes
from tests.run.test_execute import kernels_of

MOMENTS = 20


def read_report(out: Path) -> dict[str, bytes]:
    """All files of a report, by name."""
    return {str(p.relative_to(out)): p.read_bytes() for p in sorted(out.rglob("*")) if p.is_file()}


def assert_whole(out: Path, quarters: set[str]) -> None:
    """A report is whole when every part of it tells of the same quarter, and nothing is cut short."""
    files = read_report(out)
    # The first page, two mails, findings, manifest, and four files for each of two notebooks.
    assert len(files) == 13
    found = set(re.findall(rb'"quarter": "(\w+)"', files["findings.json"]))
    assert len(found) == 1
    assert found.pop().decode() in quarters
    ends = {".html": b"</html>", ".md": b"", ".eml": b"--"}
    for name, content in files.items():
        assert content.rstrip().endswith(ends.get(Path(name).suffix, b"}")), name


@pytest.mark.slow
def test_killed_at_twenty_moments(tmp_path: Path, process_env: dict[str, str]) -> None:
    fakes.write_good_notebooks(tmp_path / "nb", charts=1)
    out = tmp_path / "reports" / "acme"
    chance = random.Random(20260630)

    def start(quarter: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "tests.run.fakes", "report", "--notebooks", "nb", "--out", str(out)]
        return subprocess.Popen(
            [*command, "--quarter", quarter], cwd=tmp_path, env=process_env,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    began = time.perf_counter()
    assert start("2026Q1").wait() == 0
    whole_run = time.perf_counter() - began
    assert_whole(out, {"2026Q1"})
    pids = []
    # Half of the moments over the whole run, half around its end, where the folder changes hands.
    moments = [chance.uniform(0, whole_run) for _ in range(MOMENTS // 2)]
    moments += [chance.uniform(0.75, 1.05) * whole_run for _ in range(MOMENTS - len(moments))]
    for moment in moments:
        process = start("2026Q2")
        pids.append(process.pid)
        time.sleep(moment)
        process.kill()
        process.wait()
        assert_whole(out, {"2026Q1", "2026Q2"})
    assert start("2026Q3").wait() == 0
    assert_whole(out, {"2026Q3"})
    assert [p.name for p in out.parent.iterdir()] == ["acme"]
    time.sleep(2)
    assert not [kernel for pid in [*pids, 1] for kernel in kernels_of(pid)]
    assert not list(Path(tempfile.gettempdir()).glob(f"opslib-{pids[-1]}-*"))


@pytest.mark.slow
def test_two_runs_at_once(tmp_path: Path, process_env: dict[str, str]) -> None:
    fakes.write_good_notebooks(tmp_path / "nb", charts=1)
    command = [sys.executable, "-m", "tests.run.fakes", "report", "--notebooks", "nb", "--out", "report"]
    runs = [
        subprocess.Popen([*command, "--quarter", quarter], cwd=tmp_path, env=process_env, stdout=subprocess.DEVNULL)
        for quarter in ("2026Q1", "2026Q2")
    ]
    assert [run.wait() for run in runs] == [0, 0]
    assert_whole(tmp_path / "report", {"2026Q1", "2026Q2"})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["nb", "report"]

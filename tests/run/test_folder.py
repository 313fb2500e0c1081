"""Reports are put into place whole, or not at all."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from opslib.errors import InputError
from opslib.run import folder as module
from opslib.run.folder import REPORT_KIND, check_destination, exchange, is_report, remove_leftovers, write_aside


def make_report_folder(path: Path, text: str) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    (path / "manifest.json").write_text(json.dumps({"kind": REPORT_KIND}))
    (path / "index.html").write_text(text)
    return path


@pytest.fixture
def dead() -> int:
    """The id of a process that is no more."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


@pytest.fixture(params=["at once", "two renames"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways of exchanging folders."""
    if request.param == "two renames":
        monkeypatch.setattr(module, "_exchange_at_once", lambda first, second: False)
    return request.param


def test_new_report(tmp_path: Path, way: str) -> None:
    out = tmp_path / "deep" / "report"
    with write_aside(out) as partial:
        assert partial.parent == out.parent
        make_report_folder(partial, "new")
        assert not out.exists()
    assert (out / "index.html").read_text() == "new"
    assert [p.name for p in out.parent.iterdir()] == ["report"]


def test_replaces_an_earlier_report(tmp_path: Path, way: str) -> None:
    out = make_report_folder(tmp_path / "report", "old")
    (out / "stale.html").write_text("")
    with write_aside(out) as partial:
        make_report_folder(partial, "new")
        assert (out / "index.html").read_text() == "old"
    assert (out / "index.html").read_text() == "new"
    assert not (out / "stale.html").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["report"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_failure_leaves_the_earlier_report(tmp_path: Path, error: type[BaseException]) -> None:
    out = make_report_folder(tmp_path / "report", "old")

    def write_half() -> None:
        with write_aside(out) as partial:
            (partial / "index.html").write_text("half")
            raise error

    with pytest.raises(error):
        write_half()
    assert (out / "index.html").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["report"]


def test_leftovers_of_the_dead_go_and_those_of_the_living_stay(tmp_path: Path, dead: int) -> None:
    names = [f".report.{dead}.partial", f".report.{os.getpid()}.partial", f".other.{dead}.partial", ".report.x.partial"]
    for name in names:
        make_report_folder(tmp_path / name, "half")
    remove_leftovers(tmp_path / "report")
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(names[1:])


def test_report_moved_away_by_a_dead_run_comes_back(tmp_path: Path, dead: int) -> None:
    make_report_folder(tmp_path / f".report.{dead}.previous", "old")
    make_report_folder(tmp_path / f".report.{dead}.partial", "new")
    remove_leftovers(tmp_path / "report")
    assert (tmp_path / "report" / "index.html").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["report"]


def test_locked_folder_of_another_machine_stays(tmp_path: Path, dead: int) -> None:
    # Two containers share a folder: the other's process id means nothing here, its lock does.
    partial = make_report_folder(tmp_path / f".report.{dead}.partial", "half")
    lock = module._lock(partial)
    assert lock is not None
    remove_leftovers(tmp_path / "report")
    assert partial.exists()
    os.close(lock)
    remove_leftovers(tmp_path / "report")
    assert not partial.exists()


def test_many_runs_at_once(tmp_path: Path, way: str) -> None:
    out = make_report_folder(tmp_path / "report", "old")
    partials = [make_report_folder(tmp_path / f".report.{n}.partial", str(n)) for n in range(8)]
    errors: list[Exception] = []

    def publish(partial: Path) -> None:
        try:
            exchange(partial, out)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=publish, args=(p,)) for p in partials]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if way == "at once":
        assert errors == []
    assert is_report(out)
    assert (out / "index.html").read_text() in set("01234567")


@pytest.mark.parametrize("kind", ["file", "below a file", "something else", "another manifest"])
def test_destinations_that_are_refused(tmp_path: Path, kind: str) -> None:
    out = tmp_path / "report"
    if kind in ("file", "below a file"):
        out.write_text("precious")
    else:
        out.mkdir()
        (out / "thesis.doc").write_text("precious")
    if kind == "another manifest":
        (out / "manifest.json").write_text('{"name": "a web app"}')
    with pytest.raises(InputError, match="cannot be written"):
        check_destination(out / "deeper" if kind == "below a file" else out)


def test_destinations_that_are_good(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    make_report_folder(tmp_path / "earlier", "old")
    for name in ("empty", "earlier", "new", "deep/er/new", "with space 北京 [x]"):
        assert check_destination(Path(name)) == tmp_path.resolve() / name
    assert sorted(p.name for p in tmp_path.iterdir()) == ["earlier", "empty"]


def test_unwritable_destination(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Tests may run as root, whom no permission stops: the answer of the system is stood in for.
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(InputError, match="not writable"):
        check_destination(tmp_path / "report")


def test_destination_that_cannot_be_made() -> None:
    out = Path("/proc/report") if sys.platform == "linux" else Path("/dev/null/report")
    with pytest.raises(InputError, match="cannot be written"), write_aside(out):
        pass


def test_link_to_a_report_is_followed(tmp_path: Path) -> None:
    real = make_report_folder(tmp_path / "real", "old")
    (tmp_path / "link").symlink_to(real)
    with write_aside(check_destination(tmp_path / "link")) as partial:
        make_report_folder(partial, "new")
    assert (tmp_path / "link").is_symlink()
    assert (real / "index.html").read_text() == "new"

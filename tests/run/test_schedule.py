"""Reports by day: where they lie, which are made again, what is removed, and one command at a time."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from opslib.errors import InputError
from opslib.parameters import views
from opslib.run import forkserver
from opslib.run.archive import list_runs, lock_archive
from opslib.run.forkserver import ForkServer
from opslib.run.report import choose_quarter_on
from tests.run.test_report import run_cli, wait_for
from tests.run.test_watch import ASKED, COMPLAINTS, LAST, write_company, write_investigation, write_told_watch

CHURN = "30_churn_investigation"


@pytest.fixture(autouse=True)
def fake_source() -> None:
    """Here the data are small but real, so nothing stands in for them."""


@pytest.fixture(scope="module")
def server() -> Iterator[ForkServer | None]:
    with forkserver.open_fork_server() as server:
        yield server


@pytest.fixture(autouse=True)
def shared_server(server: ForkServer | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """One process that imports, for all tests here."""
    monkeypatch.setattr(forkserver, "open_fork_server", lambda: contextlib.nullcontext(server))


@pytest.fixture
def company(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a small company, and notebooks that only print their day; the working folder."""
    monkeypatch.chdir(tmp_path)
    write_company(tmp_path, COMPLAINTS)
    write_investigation(tmp_path / "nb", CHURN, "as_of", "segment")
    return tmp_path


def run_dated(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any], str]:
    """Run `opslib report` of the small company: exit code, the JSON line, what people were told."""
    code, out, err = run_cli(capsys, "report", CHURN, "--notebooks", "nb", *arguments)
    assert out.count("\n") == 1
    return code, json.loads(out), err


def list_days_of(folder: Path) -> list[str]:
    return [str(run.day) for run in list_runs(folder)]


def test_a_dated_run_and_when_it_is_done(company: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, line, err = run_dated(capsys, "--as-of", str(LAST))
    out = Path(line["out"])
    assert (code, line["status"], line["done_before"]) == (0, "ok", False)
    assert out.parent == company / "reports" / "edge-archive" / CHURN / str(LAST)
    assert len(out.name) == 8
    assert f"Report: {out}/index.html" in err
    assert f'as_of = "{LAST}"' in (out / "notebooks" / f"{CHURN}.ipynb").read_text("utf-8").replace('\\"', '"')
    before = {p: p.read_bytes() for p in out.rglob("*") if p.is_file() and p.name != "manifest.json"}
    made_at = (out / "manifest.json").stat().st_mtime_ns

    code, line, err = run_dated(capsys, "--as-of", str(LAST))
    assert (code, line["done_before"], line["out"]) == (0, True, str(out))
    assert "Done already" in err
    assert (out / "manifest.json").stat().st_mtime_ns == made_at
    # Again when asked: the same bytes in the same place, but for the times in the manifest.
    assert run_dated(capsys, "--as-of", str(LAST), "--force")[1]["done_before"] is False
    assert {p: p.read_bytes() for p in out.rglob("*") if p.is_file() and p.name != "manifest.json"} == before
    assert (out / "manifest.json").stat().st_mtime_ns != made_at
    # Again when a notebook, or the data, are others.
    write_investigation(company / "nb", CHURN, "as_of", "segment", then="1 + 1")
    assert run_dated(capsys, "--as-of", str(LAST))[1]["done_before"] is False
    with (company / "users.csv").open("a") as file:
        file.write("900,2026-01-05 00:00:00,search\n")
    assert run_dated(capsys, "--as-of", str(LAST))[1]["done_before"] is False
    assert run_dated(capsys, "--as-of", str(LAST))[1]["done_before"] is True
    # Other parameters have a folder of their own.
    line = run_dated(capsys, "--as-of", str(LAST), "--segment", "channel:search")[1]
    assert Path(line["out"]).parent == out.parent
    assert len(list_runs(company / "reports" / "edge-archive")) == 2


def test_a_failed_run_is_not_done_and_days_are_independent(company: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = LAST - dt.timedelta(1)
    fails = f"if as_of == '{bad}': raise ValueError('no luck')"
    write_investigation(company / "nb", CHURN, "as_of", then=fails)
    code, line, _ = run_dated(capsys, "--catch-up", "3", "--archive", "arch")
    assert (code, line["status"]) == (1, "failed")
    assert [(run["as_of"], run["exit_code"]) for run in line["runs"]] == [
        (str(LAST - dt.timedelta(2)), 0), (str(bad), 1), (str(LAST), 0),
    ]  # fmt: skip
    assert line["as_of"] == str(LAST)
    page = (company / "arch" / "index.html").read_text("utf-8")
    assert f"did not finish: {CHURN}" in page
    assert page.index(str(LAST)) < page.index(str(bad))
    # Only what is missing is made; days gone by stay as they were, whatever was changed since.
    write_investigation(company / "nb", CHURN, "as_of", then="2 + 2")
    code, line, _ = run_dated(capsys, "--catch-up", "3", "--archive", "arch")
    assert code == 0
    assert [run["done_before"] for run in line["runs"]] == [True, False, False]
    assert "did not finish" not in (company / "arch" / "index.html").read_text("utf-8")


def test_days_that_are_refused_do_not_stop_the_rest(
    company: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from opslib.run import schedule

    make_report = schedule.make_report

    def refuse(*arguments: Any, **options: Any) -> Any:
        if options["dated"].day == LAST - dt.timedelta(1):
            raise InputError("That day is closed.")
        return make_report(*arguments, **options)

    monkeypatch.setattr(schedule, "make_report", refuse)
    code, line, err = run_dated(capsys, "--catch-up", "2", "--archive", "arch")
    assert (code, line["status"]) == (2, "refused")
    assert [run.get("error") for run in line["runs"]] == ["That day is closed.", None]
    assert f"{LAST - dt.timedelta(1)}: error: That day is closed." in err
    assert list_days_of(company / "arch") == [str(LAST)]
    assert sorted(p.name for p in (company / "arch" / CHURN).iterdir()) == [str(LAST), "latest"]


def test_old_runs_are_removed_but_nothing_else(company: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arch = company / "arch"
    run_dated(capsys, "--catch-up", "4", "--archive", "arch")
    old = arch / CHURN / str(LAST - dt.timedelta(3))
    (old / "mine").mkdir()
    (old / "mine" / "notes.txt").write_text("keep me")
    other = arch / "watch" / "2020-01-01" / "abcd1234"
    shutil.copytree(next(p for p in old.iterdir() if p.name != "mine"), other)
    code, _, _ = run_dated(capsys, "--catch-up", "1", "--archive", "arch", "--keep", "2d")
    assert code == 0
    kept = [str(LAST - dt.timedelta(n)) for n in range(3)]
    assert list_days_of(arch) == [*kept, "2020-01-01"]
    assert [p.name for p in old.iterdir()] == ["mine"]
    assert str(LAST - dt.timedelta(3)) not in (arch / "index.html").read_text("utf-8")
    assert (arch / CHURN / "latest").resolve().parent.name == str(LAST)
    # An older day made later on does not become the latest.
    run_dated(capsys, "--as-of", kept[2], "--archive", "arch", "--force")
    assert (arch / CHURN / "latest").resolve().parent.name == str(LAST)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--as-of", "2031-01-01"], "as_of 2031-01-01 lies outside the data"),
        (["--as-of", "yesterday"], "cannot be 'yesterday'"),
        (["--catch-up", "0"], "--catch-up"),
        (["--keep", "soon"], "--keep cannot be 'soon'"),
        (["--catch-up", "30", "--keep", "7d"], "Keep more days, or catch up fewer"),
        (["--force", "--out", "x"], "--force is for dated reports"),
        (["--archive", "events.csv"], "that is a file, not a folder"),
        (["--archive", "arch", "--segment", "channel:nope"], "nope"),
        (["--view", "nosuch"], "no view 'nosuch'"),
    ],
)
def test_bad_input_leaves_nothing(
    arguments: list[str], words: str, company: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    there = sorted(p.name for p in company.iterdir())
    code, line, err = run_dated(capsys, *arguments)
    assert (code, line["status"]) == (2, "refused")
    assert words in err
    assert sorted(p.name for p in company.iterdir()) == there


def test_an_archive_is_never_put_into_a_report(company: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_dated(capsys, "--out", "single")[0] == 0
    code, _, err = run_dated(capsys, "--archive", "single")
    assert (code, "that folder is a report" in err) == (2, True)
    assert run_dated(capsys, "--archive", "arch")[0] == 0
    code, _, err = run_dated(capsys, "--out", "arch")
    assert (code, "holds something else" in err) == (2, True)


def test_one_command_at_a_time(company: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arch = company / "arch"
    with lock_archive(arch):
        code, line, err = run_dated(capsys, "--archive", "arch")
        assert (code, line["status"]) == (4, "busy")
        assert "Another opslib command is writing to" in err
    # It waits for a process that holds the lock, and goes on once that is dead.
    program = (
        "import time\nfrom pathlib import Path\nfrom opslib.run.archive import lock_archive\n"
        f"with lock_archive(Path({str(arch)!r})): print('locked', flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "locked\n"
    killer = subprocess.Popen([sys.executable, "-c", f"import os, time; time.sleep(1); os.kill({holder.pid}, 9)"])
    assert run_dated(capsys, "--archive", "arch", "--wait", "20")[0] == 0
    assert (killer.wait(), holder.wait()) == (0, -9)


def test_killed_in_the_middle(company: Path, process_env: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    then = "import pathlib, time; pathlib.Path('started').touch(); time.sleep(60)"
    write_investigation(company / "nb", CHURN, "as_of", then=then)
    command = [sys.executable, "-m", "opslib.run.cli", "report", CHURN, "--notebooks", "nb", "--archive", "arch"]
    process = subprocess.Popen(
        command, cwd=company, env=process_env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    wait_for(lambda: (company / "started").exists(), seconds=40)
    process.kill()
    process.wait()
    arch = company / "arch"
    assert list_runs(arch) == []
    write_investigation(company / "nb", CHURN, "as_of")
    code, line, _ = run_dated(capsys, "--archive", "arch")
    assert code == 0
    assert [p.name for p in Path(line["out"]).parent.iterdir()] == [Path(line["out"]).name]
    assert not [p for p in arch.rglob(".*") if p.name != ".lock"]


def test_the_watch_by_day(company: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_told_watch(company / "nb", ASKED)
    write_investigation(company / "nb", "55_voice_and_crisis", "as_of")
    arguments = ["watch", "--notebooks", "nb", "--catch-up", "2", "--exit-code"]
    code, out, err = run_cli(capsys, *arguments)
    line = json.loads(out)
    assert (code, line["status"], line["rules_fired"]) == (3, "rule fired", 1)
    assert [run["exit_code"] for run in line["runs"]] == [3, 3]
    assert sorted(line["notebooks"]) == ["50_daily_watch", "55_voice_and_crisis"]
    assert "edge-archive/watch/" in line["out"]
    assert f"{LAST}: 1 rule fires. Report: " in err
    assert "1 rule fires" in (company / "reports" / "edge-archive" / "index.html").read_text("utf-8")
    # What was done before says the same as when it was made.
    code, out, _ = run_cli(capsys, *arguments)
    again = json.loads(out)
    assert (code, again["rules_fired"], again["notebooks"]) == (3, 1, line["notebooks"])
    assert all(run["done_before"] for run in again["runs"])


def test_a_view_names_notebook_and_parameters(
    company: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_view(playbook: str, name: str) -> views.View:
        assert (playbook, name) == ("playbook.toml", "silent")
        return views.View(CHURN, {"inactive_days": 9, "as_of": str(LAST - dt.timedelta(5))})

    monkeypatch.setattr(views, "read_view", read_view)
    common = ["report", "--view", "silent", "--notebooks", "nb", "--out", "out"]
    write_investigation(company / "nb", CHURN, "as_of", "inactive_days")
    code, out, _ = run_cli(capsys, *common)
    assert (code, list(json.loads(out)["notebooks"])) == (0, [CHURN])
    manifest = json.loads((company / "out" / "manifest.json").read_text("utf-8"))
    given = manifest["notebooks"][CHURN]["parameters"]
    assert (given["inactive_days"], given["as_of"]) == (9, str(LAST - dt.timedelta(5)))
    # A flag beside it wins; another notebook is a contradiction.
    assert run_cli(capsys, *common, "--inactive-days", "12")[0] == 0
    manifest = json.loads((company / "out" / "manifest.json").read_text("utf-8"))
    assert manifest["notebooks"][CHURN]["parameters"]["inactive_days"] == 12
    code, _, err = run_cli(capsys, *common, "10_growth_model")
    assert (code, f"View silent is of {CHURN}" in err) == (2, True)


@pytest.mark.parametrize(
    ("day", "quarter"),
    [("2026-06-30", "2026Q2"), ("2026-06-29", "2026Q1"), ("2026-04-01", "2026Q1"), ("2026-02-01", "2026Q1")],
)
def test_a_past_day_has_the_quarter_that_was_complete_then(day: str, quarter: str) -> None:
    from types import SimpleNamespace

    from opslib.data.periods import Period

    data: Any = SimpleNamespace(span=Period(dt.date(2026, 1, 1), dt.date(2026, 7, 1), ""))
    assert str(choose_quarter_on(data, dt.date.fromisoformat(day))) == quarter

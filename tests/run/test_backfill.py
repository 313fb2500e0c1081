"""Quarters and days asked for by name: which runs they are, made once, taken up again, with all that failed told."""

from __future__ import annotations

import contextlib
import datetime as dt
import io
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opslib.data.periods import DAY, Period, Quarter
from opslib.errors import InputError
from opslib.parameters import views
from opslib.run import alert, forkserver, schedule
from opslib.run.archive import list_runs
from opslib.run.backfill import list_days, list_quarters, read_days, read_quarters
from opslib.run.commands import sum_up
from opslib.run.execute import Progress
from opslib.run.forkserver import ForkServer
from opslib.run.progress import BarProgress, describe_left
from opslib.run.report import choose_quarter_on
from opslib.run.schedule import DatedRun, Schedule
from tests.run.test_report import run_cli, wait_for
from tests.run.test_watch import ASKED, COMPLAINTS, write_company, write_investigation, write_told_watch
from tests.run.test_watch import FIRST as WATCH_FIRST
from tests.run.test_watch import LAST as WATCH_LAST

CHURN, REVIEW, VOICE = "30_churn_investigation", "40_quarterly_review", "55_voice_and_crisis"
FIRST, LAST = dt.date(2025, 8, 10), dt.date(2026, 5, 10)
QUARTERS = ["2025Q3", "2025Q4", "2026Q1", "2026Q2"]
ENDS = ["2025-09-30", "2025-12-31", "2026-03-31", str(LAST)]


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
    """Three users a day over two whole quarters, the end of one before, and the beginning of one after."""
    monkeypatch.chdir(tmp_path)
    days = [FIRST + n * DAY for n in range((LAST - FIRST).days + 1)]
    rows = [f"{user},{day} 23:30:00,open" for day in days for user in range(3)]
    (tmp_path / "events.csv").write_text("\n".join(["user_id,ts,event", *rows]) + "\n", "utf-8")
    (tmp_path / "playbook.toml").write_text(
        '[company]\nname = "Edge"\ntimezone = "UTC"\n[tables]\nevents = { source = "events.csv" }\n', "utf-8"
    )
    write_investigation(tmp_path / "nb", CHURN, "as_of")
    write_investigation(tmp_path / "nb", REVIEW, "quarter")
    return tmp_path


def run_report(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any], str]:
    """Run `opslib report` of the small company: exit code, the JSON line, what people were told."""
    code, out, err = run_cli(capsys, "report", "--notebooks", "nb", "--archive", "arch", *arguments)
    assert out.count("\n") == 1
    return code, json.loads(out), err


def list_made(line: dict[str, Any]) -> list[str]:
    """The periods that were run, not those done before."""
    return [run["period"] for run in line["runs"] if not run["done_before"]]


def read_given(run: dict[str, Any], notebook: str, name: str) -> Any:
    manifest = json.loads((Path(run["out"]) / "manifest.json").read_text("utf-8"))
    return manifest["notebooks"][notebook]["parameters"][name]


def add_event(company: Path) -> None:
    """The data change, their days do not."""
    with (company / "events.csv").open("a") as file:
        file.write(f"77,{FIRST} 12:00:00,open\n")


@given(
    first=st.dates(dt.date(2023, 12, 1), dt.date(2025, 6, 1)),
    length=st.integers(1, 700),
    asked=st.tuples(st.integers(0, 7), st.integers(0, 7)),
)
def test_quarters_are_those_of_the_days(first: dt.date, length: int, asked: tuple[int, int]) -> None:
    """Held against all days of the data, each put into its quarter by hand."""
    days = [first + n * DAY for n in range(length)]
    data: Any = SimpleNamespace(span=Period(days[0], days[-1] + DAY, ""), as_of=days[-1])
    last_days: dict[str, dt.date] = {}
    for day in days:
        last_days[f"{day.year}Q{(day.month + 2) // 3}"] = day
    names = list(last_days)
    low, high = sorted(min(n, len(names) - 1) for n in asked)
    dues = list_quarters(Quarter.parse(names[low]), Quarter.parse(names[high]), data)
    assert [(due.label, due.day) for due in dues] == list(last_days.items())[low : high + 1]
    for due in dues:
        # What notebooks get: the quarter that is named, or else the one that the day stands for.
        assert (due.quarter or str(choose_quarter_on(data, due.day))) == due.label
        # A quarter that is over is the same run as that of its last day.
        assert not due.quarter or due.day < Quarter.parse(due.label).period.last_day
    beyond = Quarter.of(days[-1]).next
    with pytest.raises(InputError, match=f"{beyond} lies outside .* Choose from {names[0]}:{names[-1]}"):
        list_quarters(Quarter.parse(names[low]), beyond, data)
    with pytest.raises(InputError, match="lies outside"):
        list_quarters(Quarter.of(days[0]).previous, Quarter.parse(names[high]), data)


def test_days_are_listed() -> None:
    data: Any = SimpleNamespace(span=Period(FIRST, LAST + DAY, ""), as_of=LAST)
    assert [due.label for due in list_days(*read_days("2026-02-27:2026-03-02"), data)] == [
        "2026-02-27", "2026-02-28", "2026-03-01", "2026-03-02",
    ]  # fmt: skip
    assert [due.day for due in list_days(*read_days(f"{LAST}"), data)] == [LAST]
    assert read_quarters(" 2025-q1 : 2026Q2 ") == (Quarter(2025, 1), Quarter(2026, 2))


def test_each_quarter_is_made_once(company: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, line, err = run_report(capsys, "--quarters", "2025Q3:2026Q2")
    assert (code, line["status"]) == (0, "ok")
    assert list_made(line) == QUARTERS
    assert [run["as_of"] for run in line["runs"]] == ENDS
    assert [read_given(run, CHURN, "as_of") for run in line["runs"]] == ENDS
    assert [read_given(run, REVIEW, "quarter") for run in line["runs"]] == QUARTERS
    assert [Path(run["out"]).parent for run in line["runs"]] == [company / "arch" / "all" / end for end in ENDS]
    assert (line["period"], line["out"]) == ("2026Q2", line["runs"][-1]["out"])
    assert (company / "arch" / "all" / "latest").resolve() == Path(line["out"])
    # How long the rest takes is known once the first is done.
    stages = re.findall(r"Report of (.*) \.\.\.", err)
    assert [stage.split(" (")[0] for stage in stages] == QUARTERS
    assert stages[0] == "2025Q3 (1 of 4)"
    assert all(re.fullmatch(rf"\w+ \({n} of 4, about \d+ s left\)", stages[n - 1]) for n in (2, 3, 4))
    assert "failed" not in err

    # All over again: nothing is made, and nothing is said of time.
    made_at = {p: p.stat().st_mtime_ns for p in company.glob("arch/*/*/*/manifest.json")}
    code, line, err = run_report(capsys, "--quarters", "2025Q3:2026Q2")
    assert (code, list_made(line)) == (0, [])
    assert "Report of" not in err
    assert "--force" not in err
    assert {p: p.stat().st_mtime_ns for p in company.glob("arch/*/*/*/manifest.json")} == made_at
    # A quarter that is over is the run of its last day, whatever command makes it; one that is not is another than
    # that of the last day, which tells of the quarter before.
    assert run_report(capsys, "--as-of", "2025-12-31")[1]["done_before"] is True
    nightly = run_report(capsys, "--as-of", str(LAST))[1]
    assert nightly["done_before"] is False
    assert read_given(nightly, REVIEW, "quarter") == "2026Q1"
    assert list_made(run_report(capsys, "--quarters", "2026Q2")[1]) == []
    # What is missing is made, and nothing else.
    shutil.rmtree(company / "arch" / "all" / "2025-12-31")
    code, line, err = run_report(capsys, "--quarters", "2025Q3:2026Q2")
    assert (code, list_made(line)) == (0, ["2025Q4"])
    assert "Report of 2025Q4 (2 of 4) ..." in err


def test_other_flags_apply(company: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A notebook without a quarter has the last day; other parameters make other runs."""
    code, line, _ = run_report(capsys, CHURN, "--quarters", "2026Q1:2026Q2")
    assert (code, list_made(line)) == (0, ["2026Q1", "2026Q2"])
    assert [read_given(run, CHURN, "as_of") for run in line["runs"]] == ENDS[2:]
    assert run_report(capsys, CHURN, "--as-of", str(LAST))[1]["done_before"] is True
    code, line, _ = run_report(capsys, CHURN, "--quarters", "2026Q1", "--inactive-days", "9")
    assert (code, list_made(line)) == (0, ["2026Q1"])
    assert read_given(line["runs"][0], CHURN, "inactive_days") == 9


def test_when_the_data_change(company: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [CHURN, "--quarters", "2026Q1:2026Q2"]
    run_report(capsys, *arguments)
    add_event(company)
    # What ends with the data's last day is made again; what lies before stays as it was told then, which is said.
    code, line, err = run_report(capsys, *arguments)
    assert (code, list_made(line)) == (0, ["2026Q2"])
    assert "1 of 2 stay as they were made before data, playbook, notebooks or opslib changed: 2026Q1. --force" in err
    code, line, err = run_report(capsys, *arguments, "--force")
    assert (code, list_made(line)) == (0, ["2026Q1", "2026Q2"])
    assert "--force" not in err
    add_event(company)
    # Nor is one that is over made again because it was the only one, or the last, that was asked for.
    code, line, err = run_report(capsys, CHURN, "--quarters", "2026Q1")
    assert (code, list_made(line), "--force makes them again" in err) == (0, [], True)


def test_failures_are_collected(
    company: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[alert.Alert] = []

    def send(alerts: list[alert.Alert]) -> list[str]:
        sent.extend(alerts)
        return []

    monkeypatch.setattr(alert, "send_alerts", send)
    fails = "if as_of == '2026-03-31': raise ValueError('no\\nluck')"
    write_investigation(company / "nb", CHURN, "as_of", then=fails)
    make_report = schedule.make_report

    def refuse(*arguments: Any, **options: Any) -> Any:
        if str(options["dated"].day) == "2025-12-31":
            raise InputError("That quarter is closed:\n  - quite.")
        return make_report(*arguments, **options)

    monkeypatch.setattr(schedule, "make_report", refuse)
    code, line, err = run_report(capsys, CHURN, "--quarters", "2025Q4:2026Q2")
    assert (code, line["status"]) == (2, "refused")
    assert [run["exit_code"] for run in line["runs"]] == [2, 1, 0]
    summary = err[err.index("2 of 3 failed:") :].splitlines()
    assert summary[1] == "  2025Q4: That quarter is closed: - quite."
    assert summary[2].startswith(f"  2026Q1: {CHURN} did not finish: ValueError: no")
    assert summary[3] == "To try again, run the same command; what is done is left alone."
    assert len(summary) == 4
    assert [(told.status, told.as_of) for told in sent] == [("refused", "2025-12-31"), ("failed", "2026-03-31")]
    # Which is so: only these two are made.
    monkeypatch.setattr(schedule, "make_report", make_report)
    write_investigation(company / "nb", CHURN, "as_of")
    code, line, err = run_report(capsys, CHURN, "--quarters", "2025Q4:2026Q1")
    assert (code, list_made(line)) == (0, ["2025Q4", "2026Q1"])
    assert "failed" not in err


def test_what_is_said_at_the_end() -> None:
    good = DatedRun(FIRST, "2025Q3", Path(), done_before=True, outdated=True)
    bad = DatedRun(LAST, "2026Q2", Path(), error="No.\nNever.", exit_code=2)
    named = Schedule(quarters=(Quarter(2025, 3), Quarter(2026, 2)))
    old = "1 of 2 stay as they were made before data, playbook, notebooks or opslib changed: 2025Q3. --force makes them"
    assert sum_up([good, bad], named) == [
        "1 of 2 failed:", "  2026Q2: No. Never.", "To try again, run the same command; what is done is left alone.",
        f"{old} again.",
    ]  # fmt: skip
    # The same command with --force would make all of them once more.
    assert sum_up([bad, bad], replace(named, force=True))[-1] == "To try again, run the same command for these alone."
    # Nobody who catches up every night is told every night what is older; of one alone its own line says enough.
    assert sum_up([good, good], Schedule(catch_up_days=2)) == []
    assert sum_up([bad], named) == []


def test_quarters_that_a_notebook_refuses(company: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_investigation(company / "nb", VOICE, "as_of", "incident_on")
    arguments = [VOICE, "--quarters", "2025Q3:2025Q4", "--incident-on"]
    code, line, err = run_report(capsys, *arguments, "2025-12-05")
    assert code == 2
    assert [run["exit_code"] for run in line["runs"]] == [2, 0]
    assert "1 of 2 failed:\n  2025Q3: incident_on 2025-12-05" in err
    assert [str(run.day) for run in list_runs(company / "arch")] == ["2025-12-31"]
    # None is left: that is bad input, and nothing is begun.
    shutil.rmtree(company / "arch")
    code, line, err = run_report(capsys, *arguments, "2026-01-05")
    assert (code, "runs" in line, err.count("incident_on 2026-01-05")) == (2, False, 1)
    assert not (company / "arch").exists()


def test_any_period_may_be_the_one_refused(
    company: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also the newest, which alone is looked at for `--catch-up`."""

    def refuse(parameters: Any, data: Any, day: dt.date, **_: Any) -> None:
        if day == LAST:
            raise InputError("Not yet.")

    monkeypatch.setattr(schedule, "check_day", refuse)
    code, line, _ = run_report(capsys, CHURN, "--quarters", "2026Q1:2026Q2")
    assert (code, list_made(line)) == (0, ["2026Q1", "2026Q2"])
    code, line, err = run_report(capsys, CHURN, "--quarters", "2026Q2", "--force")
    assert (code, "error: Not yet." in err) == (2, True)


def test_quarters_take_the_place_of_those_of_a_view(
    company: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    view = views.View(REVIEW, {"quarter": "2025Q4", "compare_to": "2025Q3"})
    monkeypatch.setattr(views, "read_view", lambda playbook, name: view)
    write_investigation(company / "nb", REVIEW, "quarter", "compare_to")
    code, line, _ = run_report(capsys, "--view", "mine", "--quarters", "2026Q1:2026Q2")
    assert code == 0
    assert [read_given(run, REVIEW, "quarter") for run in line["runs"]] == ["2026Q1", "2026Q2"]
    assert [read_given(run, REVIEW, "compare_to") for run in line["runs"]] == ["2025Q3", "2025Q3"]


REFUSED = [
    (["report", "--quarters", "2026Q5"], "--quarters cannot be '2026Q5': write 2026Q2, or 2025Q1:2026Q2 for several"),
    (["report", "--quarters", ""], "--quarters cannot be ''"),
    (["report", "--quarters", "2025Q4:"], "--quarters cannot be '2025Q4:'"),
    (["report", "--quarters", "2025Q4:2026Q1:2026Q2"], "cannot be '2025Q4:2026Q1:2026Q2'"),
    (["report", "--quarters", "2026Q2:2025Q4"], "runs backwards: write the earlier one first, 2025Q4:2026Q2"),
    (["report", "--quarters", "2025Q2:2026Q1"], "2025Q2 lies outside the data, which run from 2025-08-10 to"),
    (["report", "--quarters", "2026Q1:9999Q4"], "9999Q4 lies outside the data"),
    (["report", "--quarters", "0000Q1"], "Choose from 2025Q3:2026Q2"),
    (["report", "--quarters", "2026Q1", "--as-of", "2026-03-01"], "which --as-of does not go with"),
    (["report", "--quarters", "2026Q1", "-p", "as_of", "2026-03-01"], "which --as-of does not go with"),
    (["report", "--quarters", "2026Q1", "--quarter", "2025Q4"], "which --quarter does not go with"),
    (["report", "--quarters", "2026Q1", "--catch-up", "3"], "which --catch-up does not go with"),
    (["report", "--quarters", "2026Q1", "--keep", "9d"], "which --keep does not go with"),
    (["report", "--quarters", "2026Q1", "--out", "x"], "of each of its quarters, which --out does not go"),
    (["report", "--quarters", "2026Q1", "--segment", "channel:nope"], "channel"),
    (["watch", "--days", "2026-02-30"], "--days cannot be '2026-02-30': write ISO dates"),
    (["watch", "--days", "2026-02-03:2026-02-01"], "runs backwards: write the earlier one first, 2026-02-01:"),
    (["watch", "--days", "2026-05-01:2026-05-11"], "2026-05-11 lies outside the data, whose full days are 2025-08-10:"),
    (["watch", "--days", "2025-08-09"], "Choose from these"),
    (["watch", "--days", "2026-03-01", "--as-of", "2026-03-01"], "which --as-of does not go with"),
    (["watch", "--days", "2026-03-01", "--out", "x"], "--days makes a dated report of each of its days, which --out"),
]


@pytest.mark.parametrize(("arguments", "words"), REFUSED)
def test_bad_input_leaves_nothing(
    arguments: list[str], words: str, company: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_told_watch(company / "nb", ASKED)
    there = sorted(p.name for p in company.iterdir())
    code, out, err = run_cli(capsys, *arguments, "--notebooks", "nb")
    assert (code, json.loads(out)["status"]) == (2, "refused")
    assert words in err
    assert err.count("error: ") == 1
    assert "Traceback" not in err
    assert sorted(p.name for p in company.iterdir()) == there


@pytest.fixture
def watched(company: Path) -> Path:
    """The company whose users complain on each of its last three days."""
    write_company(company, COMPLAINTS)
    write_told_watch(company / "nb", ASKED)
    write_investigation(company / "nb", VOICE, "as_of")
    return company


def test_the_watch_of_some_days(watched: Path, capsys: pytest.CaptureFixture[str]) -> None:
    days = [str(WATCH_FIRST + n * DAY) for n in (20, 21, 22)]
    arguments = ["watch", "--notebooks", "nb", "--archive", "arch", "--exit-code", "--days"]
    code, out, err = run_cli(capsys, *arguments, f"{days[0]}:{days[1]}")
    line = json.loads(out)
    assert (code, list_made(line)) == (3, days[:2])
    assert [run["rules_fired"] for run in line["runs"]] == [1, 1]
    assert [read_given(run, "50_daily_watch", "as_of") for run in line["runs"]] == days[:2]
    assert f"Report of {days[1]} (2 of 2, about " in err
    # A rule that fires is no failure; the days that are there are not made again, and of one alone nothing is counted.
    assert "failed" not in err
    code, out, err = run_cli(capsys, *arguments, f"{days[0]}:{days[2]}")
    assert (code, list_made(json.loads(out))) == (3, days[2:])
    code, out, err = run_cli(capsys, *arguments, str(WATCH_LAST))
    assert list_made(json.loads(out)) == [str(WATCH_LAST)]
    assert "Report of" not in err


def test_killed_it_goes_on_where_it_stopped(
    company: Path, process_env: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    then = "import pathlib, time\nif as_of == '2025-12-31': pathlib.Path('started').touch(); time.sleep(60)"
    write_investigation(company / "nb", CHURN, "as_of", then=then)
    command = [sys.executable, "-m", "opslib.run.cli", "report", CHURN, "--notebooks", "nb", "--archive", "arch"]
    process = subprocess.Popen(
        [*command, "--quarters", "2025Q3:2026Q1"], cwd=company, env=process_env,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        wait_for(lambda: (company / "started").exists(), seconds=60)
    finally:
        process.kill()
        process.wait()
    arch = company / "arch"
    assert [str(run.day) for run in list_runs(arch)] == ["2025-09-30"]
    # Killed as well between putting a report into place and listing it.
    (arch / "index.html").unlink()
    write_investigation(company / "nb", CHURN, "as_of")
    code, line, _ = run_report(capsys, CHURN, "--quarters", "2025Q3:2026Q1")
    assert (code, list_made(line)) == (0, ["2025Q4", "2026Q1"])
    assert [str(run.day) for run in list_runs(arch)] == ["2026-03-31", "2025-12-31", "2025-09-30"]
    assert not [p for p in arch.rglob(".*") if p.name != ".lock"]
    (arch / "index.html").unlink()
    assert list_made(run_report(capsys, CHURN, "--quarters", "2025Q3:2026Q1")[1]) == []
    assert (arch / "index.html").read_text("utf-8").count(CHURN.replace("_", " ")) >= 3


@pytest.mark.slow
def test_killed_again_and_again_it_comes_to_an_end(company: Path, process_env: dict[str, str]) -> None:
    """Each attempt has a little longer; what one finished is whole, and no later one touches it."""
    command = [sys.executable, "-m", "opslib.run.cli", "report", "--notebooks", "nb", "--archive", "arch"]
    arch = company / "arch"
    done: dict[Path, int] = {}
    ended = []
    for attempt in range(60):
        process = subprocess.Popen(
            [*command, "--quarters", "2025Q3:2026Q2"], cwd=company, env=process_env,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(2 + 1.2 * attempt)
        process.kill()
        ended.append(process.wait())
        there = {run.out: (run.out / "manifest.json").stat().st_mtime_ns for run in list_runs(arch)}
        assert there.items() >= done.items()
        for run in list_runs(arch):
            assert run.ok
            assert sorted(p.name for p in (run.out / "notebooks").iterdir()) == [f"{CHURN}.ipynb", f"{REVIEW}.ipynb"]
            assert (run.out / "index.html").read_text("utf-8").rstrip().endswith("</html>")
        done = there
        if ended[-1] == 0:
            break
    assert ended[-1] == 0
    assert ended.count(-9) == len(ended) - 1 > 0
    assert [str(run.day) for run in list_runs(arch)] == ENDS[::-1]
    assert not [p for p in arch.rglob(".*") if p.name != ".lock"]
    page = (arch / "index.html").read_text("utf-8")
    assert all(end in page for end in ENDS)


def test_time_left_is_that_of_the_runs_there_were() -> None:
    assert describe_left([], runs=3) == []
    assert describe_left([1.0], runs=1) == ["about 10 s left"]
    assert describe_left([10.0, 20.0], runs=3) == ["about 40 s left"]
    assert describe_left([120.0, 240.0], runs=2) == ["about 6 min left"]
    assert describe_left([3600.0], runs=24) == ["about 24 h 0 min left"]
    assert describe_left([54.9], runs=1) == ["about 50 s left"]
    assert describe_left([55.0], runs=1) == ["about 1 min left"]


def test_one_that_was_refused_is_no_measure_of_time(
    company: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock stands still but for runs, which take ten minutes each."""
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(schedule, "time", SimpleNamespace(perf_counter=lambda: clock.now))
    make_report = schedule.make_report

    def take_long(*arguments: Any, **options: Any) -> Any:
        if str(options["dated"].day) == ENDS[1]:
            raise InputError("No.")
        clock.now += 600
        return make_report(*arguments, **options)

    monkeypatch.setattr(schedule, "make_report", take_long)
    run_report(capsys, CHURN, "--quarters", "2026Q1")
    clock.now = 0.0
    # The third is there already, and takes no time.
    _, line, err = run_report(capsys, CHURN, "--quarters", "2025Q3:2026Q2")
    assert list_made(line) == ["2025Q3", "2025Q4", "2026Q2"]
    assert re.findall(r"Report of (.*) \.\.\.", err) == [
        "2025Q3 (1 of 4)", "2025Q4 (2 of 4, about 20 min left)", "2026Q2 (4 of 4, about 10 min left)",
    ]  # fmt: skip


def test_bars_of_the_period_before_are_taken_away() -> None:
    bars = BarProgress()
    bars._console.file = io.StringIO()
    with bars:
        for name, state in [("a", "starting"), ("b", "starting"), ("a", "done"), ("b", "failed")]:
            bars.show_notebook(Progress(name, state, 2, 2, 1.0))
        assert [(task.description, task.finished) for task in bars._bars.tasks] == [("a", True), ("b", True)]
        bars.show_notebook(Progress("a", "starting", 0, 2, 0.0))
        assert [(task.description, task.completed) for task in bars._bars.tasks] == [("a", 0)]


@pytest.mark.slow
def test_two_quarters_of_the_sample(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["report", "30", "40", "--quarters", "2026Q1:2026Q2", "--archive", str(tmp_path / "arch")]
    code, out, _ = run_cli(capsys, *arguments)
    line = json.loads(out)
    assert (code, list_made(line)) == (0, ["2026Q1", "2026Q2"])
    # The last quarter is what one report alone says of it.
    code, out, _ = run_cli(capsys, "report", "40", "--quarter", "2026Q2", "--out", str(tmp_path / "one"))
    assert code == 0
    found = [
        json.loads((folder / f"{REVIEW}.json").read_text("utf-8"))["findings"]
        for folder in (Path(line["runs"][1]["out"]), tmp_path / "one")
    ]
    assert found[0] == found[1]
    assert list_made(json.loads(run_cli(capsys, *arguments)[1])) == []

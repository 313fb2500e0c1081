"""The daily watch as a command: what it runs because of its rules, what its pages say of that, and how it ends."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest

from opslib.data.source import open_data
from opslib.parameters import DailyWatch
from opslib.run import execute, forkserver
from opslib.run.chapters import Run
from opslib.run.forkserver import ForkServer
from opslib.run.watch import open_runs
from tests.run import fakes
from tests.run.test_report import run_cli

ROOT = Path(__file__).resolve().parents[2]
FIRST = dt.date(2026, 1, 5)  # a Monday
DAYS = 42
LAST = FIRST + dt.timedelta(DAYS - 1)
USERS = 40
HOSTILE = "<b>x</b>"

# The rules that a playbook has without naming them are not what is looked at here.
HANDBOOK = (
    "d7_below_25", "d1_below_20", "complaints_over_5", "churn_up_three_months", "satisfaction_below_85",
    "stickiness_below_target", "one_channel_over_half", "paying_rate_short", "dau_unusual", "new_users_unusual",
    "revenue_unusual", "complaints_unusual", "errors_unusual", "requests_unusual",
)  # fmt: skip
OFF = "".join(f'[[rules]]\nname = "{name}"\nenabled = false\n' for name in HANDBOOK)
QUIET = '[[rules]]\nname = "few_users"\nmetric = "dau_count"\nbelow = 5\nnotebook = "30"\n'
COMPLAINTS = """
[[rules]]
name = "complaints"
metric = "complaint_rate"
above = 0.05
times = 3
notebook = "55_voice_and_crisis"
parameters = { as_of = "{as_of}", incident_on = "{first_day}" }
"""


def write_rule(name: str, above: int, notebook: str, parameters: str, more: str = "") -> str:
    """A rule that fires on any day on which so many users come."""
    return (
        f'[[rules]]\nname = "{name}"\nmetric = "dau_count"\nabove = {above}\nnotebook = "{notebook}"\n'
        f"parameters = {{ {parameters} }}\n{more}\n"
    )


BUSY = COMPLAINTS + "".join(
    [
        write_rule("many_users", 5, "30_churn_investigation", 'as_of = "{as_of}"'),
        write_rule("still_many", 6, "30_churn_investigation", 'as_of = "{as_of}", inactive_days = 9'),
        # The same as the first asks for: one page for both.
        write_rule("many_as_well", 7, "30_churn_investigation", 'as_of = "{as_of}"'),
        write_rule("of_a_channel", 8, "55_voice_and_crisis", 'segment = "{segment}"', 'by = "channel"'),
        write_rule("nowhere", 9, "20_funnel_diagnosis", 'funnel = "nosuch"'),
        write_rule("no_file", 9, "40_quarterly_review", ""),
    ]
)


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


@pytest.fixture(scope="module")
def notebooks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real watch, and investigations that only print their parameters."""
    folder = tmp_path_factory.mktemp("notebooks")
    shutil.copy(ROOT / "notebooks" / "50_daily_watch.ipynb", folder)
    write_investigation(folder, "20_funnel_diagnosis", "funnel")
    write_investigation(folder, "30_churn_investigation", "as_of", "inactive_days")
    write_investigation(folder, "55_voice_and_crisis", "as_of", "incident_on", "segment")
    return folder


def write_investigation(folder: Path, name: str, *parameters: str, then: str = "") -> None:
    cells = ["#md # Why?", f"print({', '.join(parameters)})", then]
    text = "\n".join(f'{n} = ""  # none' for n in ("playbook", *parameters))
    fakes.write_notebook(folder / f"{name}.ipynb", [cell for cell in cells if cell], text)


def write_company(folder: Path, rules: str) -> Path:
    """Forty users of one channel come every day; four of them complain on each of the last three."""
    days = [FIRST + dt.timedelta(n) for n in range(DAYS)]
    events = [f"{user},{day} 23:30:00,open" for day in days for user in range(USERS)]
    users = [f"{user},{FIRST} 00:00:00,{HOSTILE}" for user in range(USERS)]
    # One on some days before: a company whose first complaints ever these are could not be judged by chance.
    counts = dict.fromkeys((3, 11, 20, 28, 33), 1) | dict.fromkeys(range(DAYS - 3, DAYS), 4)
    tickets = [
        f"{n}-{user},{user},{days[n]} 13:00:00,slow,true," for n, users in counts.items() for user in range(users)
    ]
    tables = {
        "events": ("user_id,ts,event", events),
        "users": ("user_id,signup_at,channel", users),
        "tickets": ("ticket_id,user_id,opened_at,category,is_complaint,closed_at", tickets),
    }
    lines = ["[company]", 'name = "Edge"', 'timezone = "UTC"', "[tables]"]
    for name, (header, rows) in tables.items():
        (folder / f"{name}.csv").write_text("\n".join([header, *rows]) + "\n", "utf-8")
        lines.append(f'{name} = {{ source = "{name}.csv" }}')
    playbook = folder / "playbook.toml"
    playbook.write_text("\n".join([*lines, OFF, rules]), "utf-8")
    return playbook


def watch(
    capsys: pytest.CaptureFixture[str], playbook: Path, notebooks: Path, *more: str
) -> tuple[int, dict[str, Any], str]:
    """Run `opslib watch` in this process: exit code, the JSON line, what people were told."""
    code, out, err = run_cli(capsys, "watch", "--playbook", str(playbook), "--notebooks", str(notebooks), *more)
    assert out.count("\n") == 1
    return code, json.loads(out), err


def read_parameters(folder: Path, name: str) -> str:
    """The cell that was put into an executed notebook."""
    notebook = nbformat.read(folder / "notebooks" / f"{name}.ipynb", as_version=4)
    return next(c.source for c in notebook.cells if "injected-parameters" in c.metadata.get("tags", []))


def test_nothing_fires_and_nothing_else_runs(
    tmp_path: Path, notebooks: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    playbook = write_company(tmp_path, QUIET)
    code, line, err = watch(capsys, playbook, notebooks, "--exit-code")
    assert (code, line["status"], line["rules_fired"]) == (0, "ok", 0)
    assert line["notebooks"] == {"50_daily_watch": {"status": "ok"}}
    assert line["not_opened"] == []
    assert "0 rules fire. Report: " in err
    # Beside the whole report, not in its place.
    out = tmp_path / "reports" / "edge-watch"
    assert [p.name for p in (out / "notebooks").iterdir()] == ["50_daily_watch.ipynb"]
    assert "Already investigated" not in (out / "50_daily_watch.html").read_text("utf-8")


def test_rules_that_fire_open_their_notebooks(
    tmp_path: Path, notebooks: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    playbook, out = write_company(tmp_path, BUSY), tmp_path / "out"
    code, line, err = watch(capsys, playbook, notebooks, "--out", str(out))
    assert (code, line["status"], line["rules_fired"]) == (0, "ok", 7)
    names = [
        "50_daily_watch", "55_voice_and_crisis", "30_churn_investigation", "30_churn_investigation-2",
        "55_voice_and_crisis-2",
    ]  # fmt: skip
    assert sorted(line["notebooks"]) == sorted(names)
    assert sorted(p.stem for p in (out / "notebooks").iterdir()) == sorted(names)
    assert "7 rules fire. Report: " in err

    given = {name: read_parameters(out, name) for name in names}
    crisis = find_name(given, "55", f'incident_on = "{LAST}"')
    of_channel = find_name(given, "55", f'segment = "channel:{HOSTILE}"')
    plain, silent = find_name(given, "30", "inactive_days = 0"), find_name(given, "30", "inactive_days = 9")
    assert len({crisis, of_channel, plain, silent}) == 4
    assert f'as_of = "{LAST}"' in given[crisis]
    assert all(f'as_of = "{LAST}"' in given[name] for name in (plain, silent))
    check_pages(out, crisis, plain, of_channel, names)

    # What cannot be opened is said on the page, on the first page, on stderr, and to programs.
    problems = line["not_opened"]
    assert len(problems) == 2
    assert any(p.startswith("Funnel diagnosis, for nowhere: ") and "nosuch" in p for p in problems)
    assert "Quarterly review, for no file: there is no 40_quarterly_review.ipynb among the notebooks." in problems
    found = json.loads((out / "findings.json").read_text("utf-8"))["notebooks"]
    assert found["50_daily_watch"]["not_opened"] == problems
    assert "not_opened" not in found[plain]
    for page in ("50_daily_watch.html", "index.html"):
        text = (out / page).read_text("utf-8")
        assert text.count("Not opened.") == 2
        assert "Quarterly review, for no file: there is no" in text
    assert err.count("Not opened: ") == 2

    # A second run finds the very same, in as many processes as you like, and says that a rule fired when asked.
    before = (out / "findings.json").read_bytes()
    code, line, _ = watch(capsys, playbook, notebooks, "--out", str(out), "--exit-code", "--workers", "1")
    assert (code, line["status"], line["exit_code"], line["rules_fired"]) == (3, "rule fired", 3, 7)
    assert (out / "findings.json").read_bytes() == before
    assert json.loads((out / "manifest.json").read_text("utf-8"))["exit_code"] == 0


def find_name(given: dict[str, str], start: str, parameter: str) -> str:
    """The one run of a notebook that has a parameter."""
    (name,) = (name for name, text in given.items() if name.startswith(start) and parameter in text)
    return name


def check_pages(out: Path, crisis: str, plain: str, of_channel: str, names: list[str]) -> None:
    """The watch's page links the investigations, their pages say why they are there, the first page lists all."""
    page = (out / "50_daily_watch.html").read_text("utf-8")
    index = (out / "index.html").read_text("utf-8")
    for name in names[1:]:
        assert f'<a href="{name}.html">' in page
        assert f'<a href="{name}.html">' in index
        assert "Opened because of this: " in (out / f"{name}.html").read_text("utf-8")
    assert "Opened because of this" not in page
    assert "Opened because of this: Complaints: " in (out / f"{crisis}.html").read_text("utf-8")
    shared = (out / f"{plain}.html").read_text("utf-8")
    assert "Many users: " in shared and "Many as well: " in shared and "Still many: " not in shared
    # Values of the data stay text, also as a reason.
    text = (out / f"{of_channel}.html").read_text("utf-8")
    assert HOSTILE not in text + page + index
    assert "of a channel (&lt;b&gt;x&lt;/b&gt;)" in text.lower()


def write_told_watch(folder: Path, findings: list[dict[str, Any]], then: str = "1") -> None:
    """A watch that has found what it is told, without looking."""
    cell = (
        "from IPython.display import display\n"
        f"found = {{'findings': {findings!r}, 'sentences': ['Something.']}}\n"
        "display({'text/plain': 'x'}, metadata={'application/vnd.opslib.findings+json': found}, raw=True)"
    )
    text = 'playbook = ""  # none\nas_of = ""  # none\nsegment = ""  # none'
    fakes.write_notebook(folder / "50_daily_watch.ipynb", ["#md # Watch", cell, then], text)


ASKED = [
    {"name": "rule", "rule": "complaints", "state": "firing"},
    {"name": "investigation", "notebook": "55_voice_and_crisis", "parameters": {}, "rules": [["complaints", ""]]},
]


@pytest.mark.parametrize("where", ["watch", "investigation"])
def test_a_notebook_that_fails(where: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, out = tmp_path / "notebooks", tmp_path / "out"
    fails = "raise ValueError('no luck')"
    in_watch = where == "watch"
    write_told_watch(folder, [] if in_watch else ASKED, fails if in_watch else "1")
    write_investigation(folder, "55_voice_and_crisis", "as_of", then=fails)
    playbook = write_company(tmp_path, COMPLAINTS)
    code, line, err = watch(capsys, playbook, folder, "--out", str(out), "--exit-code")
    # A failure outranks a rule that fired.
    assert (code, line["status"]) == (1, "failed")
    failed = "50_daily_watch" if in_watch else "55_voice_and_crisis"
    states = {name: found["status"] for name, found in line["notebooks"].items()}
    expected = {"50_daily_watch": "ok", "55_voice_and_crisis": "failed"}
    assert states == ({"50_daily_watch": "failed"} if in_watch else expected)
    assert "ValueError: no luck" in line["notebooks"][failed]["cause"]
    assert ("The watch did not finish. Report: " if in_watch else "1 rule fires. Report: ") in err
    assert "no luck" in (out / "index.html").read_text("utf-8")


@pytest.mark.parametrize(
    ("rules", "arguments", "words"),
    [
        (QUIET, ["--as-of", "2031-01-01"], "as_of 2031-01-01 lies outside the data"),
        (QUIET, ["--as-of", "yesterday"], "cannot be 'yesterday'"),
        (QUIET, ["--segment", "channel:nope"], "nope"),
        (QUIET, ["--playbook", "missing.toml"], "missing.toml"),
        (QUIET.replace("below", "benaeth"), [], "benaeth"),
        (QUIET.replace("dau_count", "dau_cuont"), [], "dau_count"),
        (QUIET.replace('"30"', '"35_nothing"'), [], "Rule few_users: There is no notebook '35_nothing'"),
        (QUIET + "parameters = { asof = '1' }\n", [], "'asof'. Did you mean 'as_of'"),
        (QUIET, ["--out", "events.csv"], "that is a file"),
        (QUIET, ["--workers", "0"], "--workers"),
    ],
)  # fmt: skip
def test_bad_input_is_refused_before_a_kernel(
    rules: str, arguments: list[str], words: str, tmp_path: Path, notebooks: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(execute, "run_notebooks", lambda *_, **__: pytest.fail("a kernel would have started"))
    monkeypatch.chdir(tmp_path)
    playbook = write_company(tmp_path, rules)
    there = sorted(p.name for p in tmp_path.iterdir())
    code, line, err = watch(capsys, playbook, notebooks, *arguments)
    assert (code, line["status"], line["exit_code"]) == (2, "refused", 2)
    assert words in err
    assert "Traceback" not in err
    assert sorted(p.name for p in tmp_path.iterdir()) == there


def test_a_rule_may_open_the_watch_itself(tmp_path: Path, notebooks: Path) -> None:
    data = open_data(write_company(tmp_path, QUIET))
    finding = {"name": "investigation", "parameters": {"segment": f"channel:{HOSTILE}"}, "rules": [["few_users", ""]]}
    run = Run("50_daily_watch", DailyWatch())
    opening = open_runs(run, [finding | {"notebook": "50_daily_watch"}], data, folder=notebooks)
    # In a file of its own, not over the page that asked for it.
    assert [run.name for run in opening.runs] == ["50_daily_watch-2"]
    assert not opening.problems

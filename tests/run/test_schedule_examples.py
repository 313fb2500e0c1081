"""The examples of docs/examples/schedule do what they say, run as their schedulers would run them."""

from __future__ import annotations

import configparser
import datetime as dt
import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import yaml

from opslib.parameters import check_parameters
from opslib.run.archive import list_runs
from tests.run.test_watch import COMPLAINTS, LAST, ROOT, write_company, write_told_watch

EXAMPLES = ROOT / "docs" / "examples" / "schedule"


@pytest.fixture(autouse=True)
def fake_source() -> None:
    """Here the data are small but real, so nothing stands in for them."""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home with a company in it, whose command line is ours with a quick notebook."""
    company = tmp_path / "company"
    (company / ".venv" / "bin").mkdir(parents=True)
    write_company(company, COMPLAINTS)
    write_told_watch(company / "nb", [])
    command = company / ".venv" / "bin" / "opslib"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m opslib.run.cli "$@" --notebooks "{company}/nb"\n')
    command.chmod(0o755)
    return tmp_path


def run_shell(command: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a line as cron does: by sh, with no more environment than this."""
    return subprocess.run(["/bin/sh", "-c", command], env=env, cwd="/", capture_output=True, text=True, check=False)


def test_cron(home: Path) -> None:
    (line,) = [x for x in (EXAMPLES / "crontab").read_text("utf-8").splitlines() if x and not x.startswith("#")]
    *when, command = line.split(maxsplit=5)
    assert when == ["30", "6", "*", "*", "*"]
    assert "%" not in command  # cron would make a line end of it
    ended = run_shell(command, HOME=str(home))
    log = (home / "company" / "watch.log").read_text("utf-8")
    assert ended.returncode == 0, log
    assert ended.stdout + ended.stderr == ""
    runs = list_runs(home / "company" / "reports" / "edge-archive")
    assert [run.day for run in runs] == [LAST - dt.timedelta(n) for n in range(7)]


def read_unit(name: str) -> configparser.ConfigParser:
    unit = configparser.ConfigParser(interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read_string((EXAMPLES / name).read_text("utf-8"))
    return unit


def test_systemd_units() -> None:
    service, timer = read_unit("opslib-watch.service"), read_unit("opslib-watch.timer")
    assert service["Service"]["Type"] == "oneshot"
    assert service["Service"]["ExecStart"].startswith("%h/company/.venv/bin/opslib watch --catch-up 7 ")
    assert timer["Timer"]["Persistent"] == "true"
    assert timer["Install"]["WantedBy"] == "timers.target"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze here")
def test_systemd_finds_nothing_to_say(home: Path) -> None:
    for name in ("opslib-watch.service", "opslib-watch.timer"):
        (home / name).write_text((EXAMPLES / name).read_text("utf-8").replace("%h", str(home)), "utf-8")
    command = ["systemd-analyze", "verify", "--user", "--man=no", str(home / "opslib-watch.timer")]
    env = {**os.environ, "HOME": str(home), "XDG_RUNTIME_DIR": str(home)}
    ended = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert (ended.returncode, [x for x in ended.stderr.splitlines() if "opslib-watch" in x]) == (0, [])


def test_github_actions(home: Path) -> None:
    flow = yaml.safe_load((EXAMPLES / "github-actions.yml").read_text("utf-8"))
    # YAML reads `on` as true.
    assert flow[True]["schedule"] == [{"cron": "30 5 * * 1-5"}]
    steps = flow["jobs"]["watch"]["steps"]
    (step,) = [step for step in steps if step.get("name") == "Watch"]
    company = home / "company"
    path = f"{company}/.venv/bin:/usr/bin:/bin"
    ended = run_shell(f"cd {company} && {step['run']}", PATH=path, HOME=str(home))
    assert ended.returncode == 0, ended.stderr
    (upload,) = [step for step in steps if "upload-artifact" in step.get("uses", "")]
    assert (company / upload["with"]["path"] / "index.html").is_file()


def test_airflow(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: dict[str, Any] = {}

    class Operator:
        def __init__(self, **options: Any) -> None:
            made[options["task_id"]] = options

        def __rshift__(self, other: Any) -> Any:
            return other

    class Dag(SimpleNamespace):
        def __init__(self, name: str, **options: Any) -> None:
            super().__init__(name=name, **options)

        def __enter__(self) -> Dag:
            return self

        def __exit__(self, *_: object) -> None:
            """Nothing to close."""

    stand_ins = {
        "airflow.sdk": {"DAG": Dag},
        "airflow.providers.standard.operators.bash": {"BashOperator": Operator},
        "airflow.providers.papermill.operators.papermill": {"PapermillOperator": Operator},
    }
    for name, content in stand_ins.items():
        module = ModuleType(name)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)
    company = home / "company"
    monkeypatch.setenv("OPSLIB_COMPANY", str(company))
    space = runpy.run_path(str(EXAMPLES / "airflow_daily.py"))
    assert space["dag"].catchup is False
    churn = made["churn"]
    values = {k: v.replace(space["YESTERDAY"], str(LAST)) if isinstance(v, str) else v
              for k, v in churn["parameters"].items()}  # fmt: skip
    assert check_parameters(Path(churn["input_nb"]).stem, values).to_literals()["as_of"] == str(LAST)
    command = made["watch"]["bash_command"].replace(space["YESTERDAY"], str(LAST))
    assert "{{" not in command
    ended = run_shell(f"cd {made['watch']['cwd']} && {command}", HOME=str(home))
    assert ended.returncode == 0, ended.stderr
    assert [run.day for run in list_runs(company / "reports" / "edge-archive")] == [LAST]

"""What must not happen on Spark: a good report lost, a message of no use, a process that waits for ever or stays."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from opslib.data.source import open_data
from opslib.errors import InputError
from tests.engines.companies import draw_tables, write_company, write_playbook
from tests.engines.reports import read_all, run, start, wait_for

pytestmark = pytest.mark.engines

TABLES = draw_tables(7)
# By this the processes of one test are known from others'.
MARK = "OPSLIB_TEST_OF"


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of Parquet files, with a playbook for the embedded engine."""
    return write_company(tmp_path_factory.mktemp("company"), TABLES).parent


@pytest.fixture(scope="module")
def good_report(company: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a good report, to be kept through everything that goes wrong."""
    out = tmp_path_factory.mktemp("good") / "report"
    code, _, err = run(start(out, company / "playbook.toml", "00_start_here"))
    assert code == 0, err
    return out


def write_there(company: Path, file: Path, url: str) -> Path:
    """A playbook over the company's files on Spark."""
    return write_playbook(file, {name: str(company / f"{name}.parquet") for name in TABLES}, url=url)


def check_message(err: str, *parts: str) -> None:
    """One message for people: none of Java's, nothing twice."""
    assert "Traceback" not in err
    assert "at org.apache" not in err
    assert "WARN" not in err
    for part in parts:
        assert part in err
    assert err.count("[data] url") <= 1


def refuse(url: str, company: Path, good_report: Path, tmp_path: Path, **env: str) -> str:
    """Run a report that must be refused with 2, and leave the good one as it is; gives what was said."""
    before = read_all(good_report)
    file = write_there(company, tmp_path / "refused.toml", url)
    code, out, err = run(start(good_report, file, "00_start_here", **env))
    assert (code, json.loads(out)["exit_code"]) == (2, 2), err
    assert read_all(good_report) == before
    check_message(err)
    return err


def list_processes(mark: str, word: str) -> list[int]:
    """The processes of a test whose command has a word, oldest first."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        # A process that has just ended cannot be read.
        with contextlib.suppress(OSError):
            ours = f"{MARK}={mark}\0".encode() in (folder / "environ").read_bytes()
            if ours and word.encode() in (folder / "cmdline").read_bytes():
                born = int((folder / "stat").read_text().rpartition(")")[2].split()[19])
                found.append((born, int(folder.name)))
    return [pid for _, pid in sorted(found)]


# What goes wrong before anything ran: exit code 2.


def test_nobody_answers(company: Path, good_report: Path, tmp_path: Path) -> None:
    begun = time.monotonic()
    err = refuse("spark://127.0.0.1:9", company, good_report, tmp_path)
    assert "no Spark answers at spark://127.0.0.1:9" in err
    assert "See whether its master runs" in err
    assert time.monotonic() - begun < 30


# Spark tries for a minute.
@pytest.mark.slow
def test_what_answers_is_no_spark(
    company: Path, good_report: Path, tmp_path: Path, spark_environment: dict[str, str]
) -> None:
    import socket

    begun = time.monotonic()
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"spark://127.0.0.1:{server.getsockname()[1]}"
        err = refuse(url, company, good_report, tmp_path, **spark_environment)
    assert f"Spark on '{url}' did not start" in err
    assert time.monotonic() - begun < 120


@pytest.mark.parametrize("how", ["JAVA_HOME", "PATH"])
def test_there_is_no_java(how: str, company: Path, good_report: Path, tmp_path: Path) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    for folder in ("/usr/bin", "/bin"):
        for program in Path(folder).iterdir():
            with contextlib.suppress(OSError):
                if not program.name.startswith("java"):
                    (programs / program.name).symlink_to(program)
    env = {"JAVA_HOME": str(tmp_path)} if how == "JAVA_HOME" else {"JAVA_HOME": "", "PATH": str(programs)}
    err = refuse("local[2]", company, good_report, tmp_path, **env)
    assert "Spark cannot be started" in err
    assert "needs Java 17 or newer: install it, and set JAVA_HOME" in err


def test_pyspark_is_not_installed(company: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "opslib.data.engines.spark", raising=False)
    for name in [name for name in sys.modules if name.partition(".")[0] == "pyspark"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pyspark", None)
    monkeypatch.delitem(sys.modules, "ibis.backends.pyspark", raising=False)
    with pytest.raises(InputError, match=r"driver for spark is not installed.*pip install 'opslib\[spark\]'"):
        open_data(write_there(company, tmp_path / "playbook.toml", "local[2]"))


# What goes wrong in the middle: exit code 1, and the last good report stays.

BY_AND_BY = """
import os, signal, sys
import ibis
from opslib.data.engines.spark import connect_spark
from opslib.errors import OpslibError

def ask(expression):
    try:
        print(spark.execute(expression), flush=True)
    except OpslibError as error:
        print(type(error).__name__, error, flush=True)

spark = connect_spark(sys.argv[1])
table = ibis.memtable({"a": range(100)})
kept = spark._cached_table(table.mutate(b=table.a + 1))
ask(kept.b.sum())
print("ready", flush=True)
sys.stdin.readline()
ask(kept.b.sum())
ask(table.count())
print("ready", flush=True)
sys.stdin.readline()
ask(table.count())
spark.disconnect()
try:
    connect_spark(sys.argv[1])
except OpslibError as error:
    print(type(error).__name__, error, flush=True)
"""


def read_until_ready(process: subprocess.Popen[str]) -> list[str]:
    assert process.stdout is not None
    lines = []
    while (line := process.stdout.readline().rstrip("\n")) != "ready":
        assert line or process.poll() is None
        lines.append(line)
    return lines


def test_workers_end_and_then_spark_itself(spark_environment: dict[str, str], tmp_path: Path) -> None:
    mark = str(tmp_path)
    process = subprocess.Popen(
        [sys.executable, "-c", BY_AND_BY, "local-cluster[2,1,1024]"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, **spark_environment, MARK: mark},
    )  # fmt: skip
    assert process.stdin is not None
    try:
        assert read_until_ready(process) == ["5050"]
        workers = list_processes(mark, "CoarseGrainedExecutorBackend")
        assert len(workers) == 2
        for pid in workers:
            os.kill(pid, signal.SIGKILL)
        process.stdin.write("\n")
        process.stdin.flush()
        lost, others = read_until_ready(process)
        assert lost.startswith("EngineLostError A worker process of Spark ended, and tables that this run had kept")
        # What was not kept there can be asked on: Spark has started new ones.
        assert others == "100"
        [driver] = list_processes(mark, "pyspark-shell")
        os.kill(driver, signal.SIGKILL)
        out, err = process.communicate("\n", timeout=60)
    finally:
        process.kill()
        process.communicate()
    first, second = out.splitlines()
    assert first.startswith("EngineLostError Spark was stopped, or its process ended. Start again")
    assert second.startswith("EngineUnreachableError [data] url: the Spark of this process has ended")
    assert err == ""
    assert process.returncode == 0
    wait_for(lambda: not list_processes(mark, "java"), seconds=30)


@contextlib.contextmanager
def busy_report(company: Path, out: Path, folder: Path, environment: dict[str, str]) -> Iterator[Any]:
    """A report whose notebook is in the middle of a query; gives its process, and the notebook's Java."""
    logs = folder / "logs"
    logs.mkdir()
    conf = folder / "conf"
    conf.mkdir()
    defaults = (Path(environment["SPARK_CONF_DIR"]) / "spark-defaults.conf").read_text()
    logging = {"enabled": "true", "dir": logs.as_uri(), "compress": "false", "rolling.enabled": "false"}
    lines = [f"spark.eventLog.{name} {value}" for name, value in logging.items()]
    (conf / "spark-defaults.conf").write_text("\n".join([defaults, *lines]) + "\n")
    file = write_there(company, folder / "playbook.toml", "local[1]")
    mark = str(folder)
    env = {**environment, "SPARK_CONF_DIR": str(conf), MARK: mark}
    process = start(out, file, "10_growth_model", **env)

    def find_busy() -> list[int]:
        files = sorted(logs.iterdir(), key=lambda log: log.stat().st_ctime_ns)
        began = sum(b"SparkListenerJobStart" in log.read_bytes() for log in files)
        pids = list_processes(mark, "pyspark-shell")
        return pids[1:] if began == 2 and len(pids) == 2 else []

    try:
        [pid] = wait_for(find_busy, process)
        yield process, pid
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        for left in list_processes(mark, "java"):
            os.kill(left, signal.SIGKILL)


def test_spark_ends_in_the_middle(
    company: Path, good_report: Path, spark_environment: dict[str, str], tmp_path: Path
) -> None:
    before = read_all(good_report)
    with busy_report(company, good_report, tmp_path, spark_environment) as (process, pid):
        os.kill(pid, signal.SIGKILL)
        code, out, err = run(process)
    assert (code, json.loads(out)["exit_code"]) == (1, 1), err
    check_message(err, "Spark was stopped, or its process ended. Start again", "an earlier one stands as it was")
    # Once where the notebook fails, and once at the end.
    assert err.count("Spark was stopped") == 2
    assert read_all(good_report) == before


def test_nothing_runs_on_after_a_report(company: Path, spark_environment: dict[str, str], tmp_path: Path) -> None:
    file = write_there(company, tmp_path / "playbook.toml", "local[2]")
    mark = str(tmp_path)
    process = start(tmp_path / "report", file, "00_start_here", **spark_environment, **{MARK: mark})
    wait_for(lambda: list_processes(mark, "pyspark-shell"), process)
    code, out, err = run(process)
    assert code == 0, err
    check_message(out + err)
    wait_for(lambda: not list_processes(mark, "java"), seconds=30)

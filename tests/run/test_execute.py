"""Notebooks run in parallel, fail alone, and leave no process behind."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from opslib.run.execute import Job, Outcome, Progress, describe_failure, run_notebooks
from opslib.run.forkserver import ForkServer, open_fork_server
from opslib.run.kernels import LONGEST_SOCKET_FOLDER, KernelPool, remove_dead_folders
from tests.run.fakes import write_notebook


def kernels_of(pid: int) -> list[str]:
    """The living processes that a process started: kernels, and the fork server with its kernels."""
    listed = subprocess.run(["ps", "-eo", "pid=,ppid=,stat=,args="], capture_output=True, text=True, check=True).stdout
    lines = [line.split(None, 3) for line in listed.splitlines()]
    ours = [x for x in lines if ("ipykernel_launcher" in x[3] or "opslib.run.forkserver" in x[3]) and "Z" not in x[2]]
    found = [x[0] for x in ours if x[1] == str(pid)]
    return found + [x[0] for x in ours if x[1] in found]


@pytest.fixture(scope="module", params=["ordinary", "forked"])
def run(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, Outcome], list[Progress], list[str]]:
    """Four notebooks at once, one of each kind, from one working folder; in both kinds of kernels."""
    folder = tmp_path_factory.mktemp("jobs {odd} 北京")
    where = "import os; print(os.getcwd(), os.environ['OPSLIB_EXTRA'])"
    write_notebook(folder / "good.ipynb", ["print(word, number, flag)", where],
                   "word: str = ''\nnumber: int = 1\nflag: bool = False")  # fmt: skip
    write_notebook(folder / "bad.ipynb", ["1 + 1", "raise KeyError('a\\nb')", "print('never')"], "x: int = 0")
    write_notebook(folder / "dying.ipynb", ["import os; os._exit(3)"])
    write_notebook(folder / "empty.ipynb", ["#md only words"])
    hostile = "a\"'; raise SystemExit(9) #\n{x} 北京 <b>"
    given = {"good": {"word": hostile, "number": 3, "flag": True}}
    jobs = [Job(n, folder / f"{n}.ipynb", given.get(n, {})) for n in ("good", "bad", "dying", "empty")]
    seen: list[Progress] = []
    done: list[str] = []
    with open_fork_server() if request.param == "forked" else contextlib.nullcontext() as server:
        outcomes = run_notebooks(
            jobs, workers=2, server=server, env={"OPSLIB_EXTRA": "given"},
            on_progress=seen.append, on_done=lambda o: done.append(o.name),
        )  # fmt: skip
    return {o.name: o for o in outcomes}, seen, done


def printed(outcome: Outcome) -> str:
    return "".join(o.text for c in outcome.notebook.cells for o in c.get("outputs", []) if o.output_type == "stream")


def test_parameters_arrive_as_they_are(run) -> None:
    outcomes, _, _ = run
    assert outcomes["good"].ok
    assert "a\"'; raise SystemExit(9) #\n{x} 北京 <b> 3 True\n" in printed(outcomes["good"])


def test_kernels_work_in_the_callers_folder(run) -> None:
    assert f"{Path.cwd()} given\n" in printed(run[0]["good"])


def test_failure_is_an_outcome_with_one_line(run) -> None:
    outcomes, _, done = run
    assert outcomes["bad"].cause == r"KeyError: 'a\nb' (code cell 3)"
    assert "never" not in printed(outcomes["bad"])
    assert not any("papermill-error-cell-tag" in c.metadata.get("tags", []) for c in outcomes["bad"].notebook.cells)
    assert outcomes["empty"].ok
    assert sorted(done) == ["bad", "dying", "empty", "good"]


def test_dead_kernel_is_an_outcome(run) -> None:
    assert not run[0]["dying"].ok
    assert "(code cell 1)" in run[0]["dying"].cause
    assert "\n" not in run[0]["dying"].cause


def test_progress_counts_cells(run) -> None:
    outcomes, seen, _ = run
    last = {p.name: p for p in seen}
    assert (last["good"].state, last["bad"].state) == ("done", "failed")
    assert all(p.done <= p.total for p in seen)
    assert len(outcomes["good"].cell_seconds) == 4  # parameters, the injected ones, two cells


def test_no_kernel_and_no_folder_stay(run, tmp_path: Path) -> None:
    import tempfile

    assert kernels_of(os.getpid()) == []
    assert list(Path(tempfile.gettempdir()).glob(f"opslib-{os.getpid()}-*")) == []


def test_parallel_runs_are_bounded(tmp_path: Path) -> None:
    path = write_notebook(tmp_path / "wait.ipynb", ["import time; time.sleep(0.3)"])
    running: list[int] = []
    peak = 0

    def watch(progress: Progress) -> None:
        nonlocal peak
        if progress.state == "starting":
            running.append(1)
            peak = max(peak, len(running))
        elif progress.state in ("done", "failed"):
            running.pop()

    run_notebooks([Job(str(i), path) for i in range(3)], workers=1, on_progress=watch)
    assert peak == 1


def test_error_of_the_caller_ends_the_kernels(tmp_path: Path) -> None:
    quick = write_notebook(tmp_path / "quick.ipynb", ["1"])
    slow = write_notebook(tmp_path / "slow.ipynb", ["import time; time.sleep(60)"])

    def refuse(outcome: Outcome) -> None:
        raise OSError("disk full")

    started = time.perf_counter()
    with pytest.raises(OSError, match="disk full"):
        run_notebooks([Job("quick", quick), Job("slow", slow)], workers=2, on_done=refuse)
    assert time.perf_counter() - started < 20
    assert kernels_of(os.getpid()) == []


def test_long_temporary_folder_falls_back_to_tcp(tmp_path: Path) -> None:
    folder = tmp_path / ("x" * LONGEST_SOCKET_FOLDER)
    assert KernelPool(folder).make_manager().transport == "tcp"
    assert KernelPool(Path("/t")).make_manager().transport == "ipc"


def test_folders_of_dead_runs_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    gone = subprocess.Popen(["true"])
    gone.wait()
    for owner in (gone.pid, os.getpid()):
        (tmp_path / f"opslib-{owner}-abc").mkdir()
    remove_dead_folders()
    assert [p.name for p in tmp_path.iterdir()] == [f"opslib-{os.getpid()}-abc"]


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("", "E (code cell 2)"),
        ("\x1b[31mred\x1b[0m", "E: red (code cell 2)"),
        ("\n\n  first\nsecond", "E: first (code cell 2)"),
    ],
)
def test_failure_in_one_line(message: str, expected: str) -> None:
    assert describe_failure("E", message, 2) == expected


def test_long_message_is_cut() -> None:
    assert len(describe_failure("E", "x" * 10_000, None)) < 450


@pytest.mark.skipif(sys.platform != "linux", reason="kernels are forked on Linux only")
def test_fork_server_that_cannot_is_replaced_by_ordinary_kernels(tmp_path: Path) -> None:
    path = write_notebook(tmp_path / "n.ipynb", ["import sys; print('duckdb' in sys.modules, 'ibis' in sys.modules)"])
    with open_fork_server() as server:
        assert server is not None
        (forked,) = run_notebooks([Job("n", path)], server=server)
        server._process.kill()
        server._process.wait()
        (ordinary,) = run_notebooks([Job("n", path)], server=server)
    assert forked.ok
    assert ordinary.ok
    # DuckDB's import starts a thread, and a process with threads must not be copied.
    assert "False True" in printed(forked) or "False False" in printed(forked)
    assert "False False" in printed(ordinary)


def test_fork_server_ends_its_kernels_with_itself(tmp_path: Path) -> None:
    server = ForkServer.start()
    if server is None:
        pytest.skip("kernels are not forked on this system")
    forked = server.fork(["-f", str(tmp_path / "c.json")], str(tmp_path), dict(os.environ))
    assert forked is not None
    assert forked.poll() is None
    started = time.perf_counter()
    server.close()
    forked.wait(5)
    assert forked.poll() == 1
    assert time.perf_counter() - started < 5


def test_forking_can_be_forbidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPSLIB_FORK", "0")
    assert ForkServer.start() is None


def test_unused_fork_server_is_closed_at_once() -> None:
    server = ForkServer.start()
    started = time.perf_counter()
    if server is not None:
        server.close()
    assert time.perf_counter() - started < 0.5

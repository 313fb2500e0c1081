"""What must not happen on Postgres: something left behind, a secret told, a good report lost, a message of no use."""

from __future__ import annotations

import contextlib
import gc
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
import pytest

from opslib.data.engines.address import read_address
from opslib.data.engines.postgres import connect_postgres
from opslib.data.source import open_data
from opslib.errors import EngineError, EngineLostError, InputError
from tests.engines.answers import ANSWERS
from tests.engines.companies import draw_tables
from tests.engines.compare import unfold
from tests.engines.postgres import GUARDED, KEEPER, OWNER, PASSWORD, READER, SCRATCH, Server, find_programs
from tests.engines.reports import read_all, run, start, wait_for

pytestmark = pytest.mark.engines

DATABASE = "safe"
TABLES = draw_tables(7)
QUICK = ["activity_of_a_quarter", "funnel", "cohorts_of_days", "churn_by_silence", "rehearsal", "survival"]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """One of this file's own: it is stopped now and then."""
    programs = find_programs()
    if programs is None:
        pytest.skip("needs Postgres: `.ci/install-engines` installs Debian's package")
    found = Server(programs)
    try:
        found.load(DATABASE, TABLES)
        yield found
    finally:
        found.remove()


@pytest.fixture
def playbook(server: Server, tmp_path: Path) -> Callable[..., Path]:
    """Write a playbook over the database; `user` and `scratch` as asked."""
    return lambda **options: server.write_playbook(tmp_path / "playbook.toml", DATABASE, TABLES, **options)


@pytest.fixture(scope="module")
def good_report(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a good report, to be kept through everything that goes wrong."""
    folder = tmp_path_factory.mktemp("good")
    file = server.write_playbook(folder / "playbook.toml", DATABASE, TABLES)
    done = run(start(folder / "report", file, "00_start_here"))
    assert done[0] == 0, done[2]
    return folder / "report"


@contextlib.contextmanager
def stuck_report(server: Server, out: Path, playbook: Path, user: str, **env: str) -> Iterator[Any]:
    """A report whose notebook waits for a lock in the middle of a query; gives the process and the session's id."""
    process = start(out, playbook, "10_growth_model", **env)
    waiting = f"SELECT pid FROM pg_stat_activity WHERE usename = '{user}' AND backend_type = 'client backend'"
    try:
        wait_for(lambda: len(server.run(waiting)) == 2, process)
        with contextlib.suppress(psycopg.Error), server.connect(DATABASE, user=OWNER) as lock, lock.transaction():
            lock.execute("LOCK TABLE events IN ACCESS EXCLUSIVE MODE")
            [(pid,)] = wait_for(lambda: server.run(f"{waiting} AND wait_event_type = 'Lock'"), process)
            yield process, pid
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def check_message(err: str, *parts: str) -> None:
    """One message for people: no traceback, nothing twice."""
    assert "Traceback" not in err
    for part in parts:
        assert part in err
    assert err.count("[data] url") <= 1
    assert PASSWORD not in err


# Nothing is created, nothing is left.


@pytest.mark.parametrize("user", [READER, OWNER])
def test_without_scratch_nothing_is_created(server: Server, playbook: Callable[..., Path], user: str) -> None:
    before = server.list_objects(DATABASE)
    data = open_data(playbook(user=user))
    seen = []
    for name in QUICK:
        unfold(ANSWERS[name](data), fetch=True)
        seen.append(server.list_objects(DATABASE) - before)
    assert seen == [set()] * len(QUICK)


def test_sessions_only_read(server: Server, playbook: Callable[..., Path]) -> None:
    for options in ({"user": OWNER}, {"user": OWNER, "scratch": SCRATCH}):
        data = open_data(playbook(**options))
        for sql in ("CREATE TABLE mine (a int)", "CREATE FUNCTION f() RETURNS int LANGUAGE sql RETURN 1",
                    "DELETE FROM events"):  # fmt: skip
            with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
                data.connection.con.execute(sql)


def test_kept_tables_lie_in_scratch_and_are_dropped(server: Server, playbook: Callable[..., Path]) -> None:
    data = open_data(playbook(user=KEEPER, scratch=SCRATCH))
    before = {o for o in server.list_objects(DATABASE) if o[1] != SCRATCH}
    unfold(ANSWERS["funnel"](data))
    kept = server.list_kept(DATABASE)
    assert kept
    assert all(name.startswith(f"opslib_{data.connection.con.info.backend_pid}_") for name in kept)
    # pg_toast gives large tables a companion of its own.
    left = {o for o in server.list_objects(DATABASE) if o[1] not in (SCRATCH, "pg_toast")} - before
    assert left == set()
    unfold(ANSWERS["retention_of_a_quarter"](data))
    # What nobody refers to goes with the next query; what the data themselves keep stays.
    gc.collect()
    data.execute(data.table("users").count())
    assert len(server.list_kept(DATABASE)) <= 1
    data.connection.con.close()


def test_a_report_leaves_nothing_in_scratch(server: Server, playbook: Callable[..., Path], tmp_path: Path) -> None:
    file = playbook(user=KEEPER, scratch=SCRATCH)
    process = start(tmp_path / "report", file, "10_growth_model")
    wait_for(lambda: server.list_kept(DATABASE), process)
    code, _, err = run(process)
    assert code == 0, err
    assert server.list_kept(DATABASE) == []


def test_a_killed_run_is_tidied_up_by_the_next_and_one_that_runs_is_left_alone(
    server: Server, playbook: Callable[..., Path]
) -> None:
    file = playbook(user=KEEPER, scratch=SCRATCH)
    code = (
        "import sys, time; from opslib.data.source import open_data; data = open_data(sys.argv[1]); "
        "data.active_days; print('kept', flush=True); time.sleep(300)"
    )

    def keep() -> subprocess.Popen[bytes]:
        process = subprocess.Popen([sys.executable, "-c", code, str(file)], stdout=subprocess.PIPE)
        assert process.stdout is not None
        assert process.stdout.readline() == b"kept\n"
        return process

    killed, running = keep(), keep()
    try:
        first, second = server.list_kept(DATABASE)
        killed.kill()
        killed.wait()
        # The server ends the session once it notices.
        alive = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'keeper'"
        wait_for(lambda: server.run(alive) == [(1,)])
        assert server.list_kept(DATABASE) == [first, second]
        data = open_data(file)
        [left] = server.list_kept(DATABASE)
        assert server.run(f"SELECT count(*) FROM pg_stat_activity WHERE pid = {left.split('_')[1]}") == [(1,)]
        data.connection.con.close()
    finally:
        for process in (killed, running):
            process.kill()
            process.communicate()
    wait_for(lambda: server.run(alive) == [(0,)])
    open_data(file).connection.con.close()
    assert server.list_kept(DATABASE) == []


def test_two_runs_at_once(server: Server, playbook: Callable[..., Path], tmp_path: Path) -> None:
    file = playbook(user=KEEPER, scratch=SCRATCH)
    processes = [start(tmp_path / name, file, "10_growth_model") for name in ("one", "two")]
    ended = [run(process) for process in processes]
    assert [code for code, _, _ in ended] == [0, 0], ended
    assert (tmp_path / "one" / "findings.json").read_bytes() == (tmp_path / "two" / "findings.json").read_bytes()
    assert server.list_kept(DATABASE) == []


# What goes wrong before anything ran: exit code 2.


def refuse(url: str, good_report: Path, tmp_path: Path, **env: str) -> str:
    """Run a report that must be refused with 2, and leave the good one as it is; gives what was said."""
    file = tmp_path / "refused.toml"
    file.write_text(
        f'[company]\nname = "A"\ntimezone = "UTC"\n[data]\nurl = "{url}"\n[tables]\nevents = {{ source = "events" }}\n'
    )
    before = read_all(good_report)
    code, out, err = run(start(good_report, file, "00_start_here", **env))
    assert (code, json.loads(out)["exit_code"]) == (2, 2), err
    assert read_all(good_report) == before
    check_message(err)
    return err


def test_nobody_answers(good_report: Path, tmp_path: Path) -> None:
    err = refuse("postgresql://ops@127.0.0.1:9/shop", good_report, tmp_path)
    assert "no connection to the database postgresql://ops@127.0.0.1:9/shop" in err
    assert "See whether the database runs there" in err


@pytest.mark.parametrize("env", [{"PGPASSWORD": PASSWORD[::-1]}, {}])
def test_the_password_is_wrong_or_missing(
    env: dict[str, str], server: Server, good_report: Path, tmp_path: Path
) -> None:
    err = refuse(server.url(DATABASE, user=GUARDED), good_report, tmp_path, **env)
    assert "Set the password in the environment: PGPASSWORD" in err
    assert PASSWORD[::-1] not in err


def test_there_is_no_such_database(server: Server, good_report: Path, tmp_path: Path) -> None:
    err = refuse(server.url("nowhere"), good_report, tmp_path)
    assert '"nowhere" does not exist' in err
    assert "names in the URL" in err


def test_a_password_in_the_playbook_is_refused(server: Server, good_report: Path, tmp_path: Path) -> None:
    url = server.url(DATABASE, user=f"{GUARDED}:s3cret")
    err = refuse(url, good_report, tmp_path)
    assert "holds a password" in err
    assert "PGPASSWORD" in err
    assert "s3cret" not in err


def test_a_table_is_missing(server: Server, tmp_path: Path) -> None:
    file = server.write_playbook(tmp_path / "playbook.toml", DATABASE, TABLES)
    file.write_text(file.read_text().replace('source = "orders"', 'source = "order"'))
    with pytest.raises(InputError, match=r"\[tables.orders\] source: there is no table 'order'.*'orders'"):
        open_data(file)


def test_the_right_to_read_is_missing(server: Server, playbook: Callable[..., Path]) -> None:
    server.run("REVOKE SELECT ON orders FROM PUBLIC", DATABASE)
    try:
        with pytest.raises(InputError, match=r"Table orders cannot be read.*permission denied.*GRANT SELECT"):
            open_data(playbook()).require_fit()
    finally:
        server.run("GRANT SELECT ON orders TO PUBLIC", DATABASE)


@pytest.mark.parametrize(("scratch", "what"), [("elsewhere", "no such schema"), (SCRATCH, "may not create")])
def test_a_scratch_schema_that_cannot_serve(playbook: Callable[..., Path], scratch: str, what: str) -> None:
    with pytest.raises(InputError, match=rf"\[data\] scratch: '{scratch}': .*{what}"):
        open_data(playbook(user=READER, scratch=scratch))


def test_a_query_that_takes_too_long_is_refused_at_the_start(
    server: Server, playbook: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGOPTIONS", "-c statement_timeout=1")
    with pytest.raises((InputError, EngineError), match=r"statement timeout.*Allow queries more time"):
        open_data(playbook()).require_fit()


# What goes wrong in the middle: exit code 1, and the last good report stays.


@pytest.mark.parametrize("scratch", ["", SCRATCH])
def test_the_session_is_ended_in_the_middle(
    scratch: str, server: Server, playbook: Callable[..., Path], good_report: Path
) -> None:
    before = read_all(good_report)
    user = KEEPER if scratch else READER
    with stuck_report(server, good_report, playbook(user=user, scratch=scratch), user) as (process, pid):
        server.run(f"SELECT pg_terminate_backend({pid})")
        code, _, err = run(process)
    assert code == 1
    check_message(err, "was lost", server.url(DATABASE, user=user), "start again", "an earlier one stands")
    assert read_all(good_report) == before
    if scratch:
        open_data(playbook(user=user, scratch=scratch)).connection.con.close()
        assert server.list_kept(DATABASE) == []


def test_a_query_is_cut_short_in_the_middle(server: Server, playbook: Callable[..., Path], good_report: Path) -> None:
    before = read_all(good_report)
    timeout = {"PGOPTIONS": "-c statement_timeout=4000"}
    with stuck_report(server, good_report, playbook(), READER, **timeout) as (process, _):
        code, _, err = run(process)
    assert code == 1
    check_message(err, "statement timeout", "Allow queries more time")
    assert read_all(good_report) == before


def test_the_server_stops_in_the_middle(server: Server, playbook: Callable[..., Path], good_report: Path) -> None:
    before = read_all(good_report)
    try:
        with stuck_report(server, good_report, playbook(), READER) as (process, _):
            server.stop("immediate")
            code, _, err = run(process)
    finally:
        server.start()
    assert code == 1
    check_message(err, "was lost", "start again")
    assert read_all(good_report) == before


def test_a_lost_connection_is_told_as_such(server: Server) -> None:
    backend = connect_postgres(read_address(server.url(DATABASE)))
    table = backend.table("events")
    server.run(f"SELECT pg_terminate_backend({backend.con.info.backend_pid})")
    for _ in range(2):
        with pytest.raises(EngineLostError, match="was lost"):
            backend.execute(table.count())
    with pytest.raises(EngineLostError, match="was lost"):
        backend.list_tables()
    again = connect_postgres(read_address(server.url(DATABASE)))
    batches = again.to_pyarrow_batches(again.table("events"), chunk_size=100)
    batches.read_next_batch()
    server.run(f"SELECT pg_terminate_backend({again.con.info.backend_pid})")
    with pytest.raises(EngineLostError, match="was lost"):
        list(batches)


def test_a_query_is_interrupted_from_outside(server: Server) -> None:
    import threading

    backend = connect_postgres(read_address(server.url(DATABASE)))
    table = backend.table("events")
    with server.connect(DATABASE) as lock, lock.transaction():
        lock.execute("LOCK TABLE events IN ACCESS EXCLUSIVE MODE")
        threading.Timer(0.3, backend.interrupt).start()
        with pytest.raises(EngineError, match="user request"):
            backend.execute(table.count())
    assert backend.execute(table.count()) == len(TABLES["events"])


# Secrets.


@pytest.mark.parametrize("way", ["PGPASSWORD", "variable"])
def test_a_password_is_written_nowhere(way: str, server: Server, playbook: Callable[..., Path], tmp_path: Path) -> None:
    user = GUARDED if way == "PGPASSWORD" else f"{GUARDED}:${{SHOP_SECRET}}"
    env = {"PGPASSWORD" if way == "PGPASSWORD" else "SHOP_SECRET": PASSWORD}
    code, out, err = run(start(tmp_path / "report", playbook(user=user), "00_start_here", "10_growth_model", **env))
    assert code == 0, err
    written = {**read_all(tmp_path), "stdout": out.encode(), "stderr": err.encode(), "log": b""}
    assert len(written) > 8
    for secret in (PASSWORD, quote(PASSWORD, safe=""), PASSWORD.replace('"', '\\"')):
        assert [name for name, content in written.items() if secret.encode() in content] == []


def test_a_password_stays_out_of_messages_in_the_middle(
    server: Server, playbook: Callable[..., Path], good_report: Path
) -> None:
    file = playbook(user=f"{GUARDED}:${{SHOP_SECRET}}")
    with stuck_report(server, good_report, file, GUARDED, SHOP_SECRET=PASSWORD) as (process, pid):
        server.run(f"SELECT pg_terminate_backend({pid})")
        code, out, err = run(process)
    assert code == 1
    check_message(err, "was lost", "${SHOP_SECRET}")
    assert quote(PASSWORD, safe="") not in out + err

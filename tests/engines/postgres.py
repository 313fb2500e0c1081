"""A Postgres of the tests' own: Debian's package, started on a free port in a temporary folder, gone at the end.

Texts sort by a language, not by bytes (ICU, English), so that whoever relies on the order of texts is found out.
"""

from __future__ import annotations

import getpass
import io
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa
import pyarrow.csv as csv

from tests.engines.companies import write_playbook

OWNER = "ops"
# Reads, and may create nothing at all, not even a temporary table.
READER = "reader"
# Reads, and may create tables in the schema `scratch`.
KEEPER = "keeper"
# Reads, once it has said its password.
GUARDED = "guarded"
PASSWORD = "p@ss/w?rd:%1#"  # not a secret
SCRATCH = "scratch"

KINDS = {
    pa.int8(): "smallint",
    pa.int16(): "smallint",
    pa.int32(): "integer",
    pa.int64(): "bigint",
    pa.float32(): "real",
    pa.float64(): "double precision",
    pa.string(): "text",
    pa.bool_(): "boolean",
    pa.date32(): "date",
    pa.timestamp("us"): "timestamp",
}


def find_programs() -> Path | None:
    """The folder of initdb and pg_ctl: in PATH, or where Debian puts them; None where there is no Postgres."""
    found = shutil.which("initdb")
    folders = [Path(found).parent] if found and shutil.which("pg_ctl") else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda p: float(p.parent.name), reverse=True)
    return next((folder for folder in folders if (folder / "initdb").exists()), None)


class Server:
    """A Postgres that runs."""

    def __init__(self, programs: Path) -> None:
        self.programs = programs
        self.folder = Path(tempfile.mkdtemp(prefix="opslib-postgres-"))
        self.port = _find_port()
        # Postgres refuses to run as root.
        self._user = "postgres" if os.geteuid() == 0 else getpass.getuser()
        if os.geteuid() == 0:
            shutil.chown(self.folder, self._user)
        self._run(
            "initdb", "--auth=trust", f"--username={OWNER}", "--encoding=UTF8", "--locale=C.UTF-8",
            "--locale-provider=icu", "--icu-locale=en", "--no-sync",
        )  # fmt: skip
        hosts = self.folder / "data" / "pg_hba.conf"
        hosts.write_text(f"host all {GUARDED} 127.0.0.1/32 scram-sha-256\nhost all all 127.0.0.1/32 trust\n")
        self.start()
        for role, options in ((READER, ""), (KEEPER, ""), (GUARDED, f" PASSWORD '{PASSWORD}'")):
            self.run(f"CREATE ROLE {role} LOGIN{options}")

    def start(self) -> None:
        """Start, and wait until it answers."""
        options = (
            f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c fsync=off "
            "-c shared_buffers=128MB -c max_wal_size=2GB -c max_connections=50"
        )
        self._run("pg_ctl", "start", "-w", "-l", str(self.folder / "log"), "-o", options)

    def stop(self, mode: str = "fast") -> None:
        """Stop; `immediate` as if the power had gone."""
        self._run("pg_ctl", "stop", "-w", "-m", mode)

    def remove(self) -> None:
        """Stop, and leave nothing."""
        if (self.folder / "data" / "postmaster.pid").exists():
            self.stop("immediate")
        shutil.rmtree(self.folder)

    def url(self, database: str, *, user: str = READER) -> str:
        """Where a database is, as a playbook has it."""
        return f"postgresql://{user}@127.0.0.1:{self.port}/{database}"

    def connect(self, database: str = "postgres", *, user: str = OWNER) -> psycopg.Connection[Any]:
        """A connection beside the library's."""
        return psycopg.connect(self.url(database, user=user), autocommit=True)

    def run(self, sql: str, database: str = "postgres", *, user: str = OWNER) -> list[tuple[Any, ...]]:
        """Run a statement, and give its rows if it has any."""
        with self.connect(database, user=user) as connection:
            cursor = connection.execute(sql)  # type: ignore[arg-type]
            return cursor.fetchall() if cursor.description else []

    def load(self, database: str, tables: Mapping[str, pa.Table]) -> None:
        """Make a database that holds these tables; everybody may read them, the keeper may use its scratch schema."""
        self.run(f'CREATE DATABASE "{database}"')
        self.run(f'REVOKE ALL ON DATABASE "{database}" FROM PUBLIC')
        self.run(f'GRANT CONNECT ON DATABASE "{database}" TO PUBLIC')
        with self.connect(database) as connection:
            for name, table in tables.items():
                columns = ", ".join(f'"{field.name}" {KINDS[field.type]}' for field in table.schema)
                connection.execute(f'CREATE TABLE "{name}" ({columns})')  # type: ignore[arg-type]
                text = io.BytesIO()
                # With all values in quotes an empty text differs from none.
                options = csv.WriteOptions(include_header=False, quoting_style="all_valid")
                csv.write_csv(table, text, options)
                with connection.cursor().copy(f'COPY "{name}" FROM STDIN (FORMAT csv)') as copy:  # type: ignore[arg-type]
                    copy.write(text.getvalue())
            connection.execute("GRANT SELECT ON ALL TABLES IN SCHEMA public TO PUBLIC")
            connection.execute(f"CREATE SCHEMA {SCRATCH} AUTHORIZATION {KEEPER}")
            connection.execute("ANALYZE")

    def write_playbook(
        self, file: Path, database: str, tables: Mapping[str, Any], *, user: str = READER, scratch: str = ""
    ) -> Path:
        """Write a playbook over a database."""
        write_playbook(file, {name: name for name in tables}, url=self.url(database, user=user))
        if scratch:
            text = file.read_text("utf-8").replace("[data]\n", f'[data]\nscratch = "{scratch}"\n')
            file.write_text(text, "utf-8")
        return file

    def list_objects(self, database: str) -> set[tuple[Any, ...]]:
        """Every table, function, type and schema that a database holds, temporary ones too."""
        return set(
            self.run(
                "SELECT 'class', relnamespace::regnamespace::text, relname::text FROM pg_class "
                "UNION ALL SELECT 'proc', pronamespace::regnamespace::text, proname::text FROM pg_proc "
                "UNION ALL SELECT 'type', typnamespace::regnamespace::text, typname::text FROM pg_type "
                "UNION ALL SELECT 'schema', '', nspname::text FROM pg_namespace",
                database,
            )
        )

    def list_kept(self, database: str) -> list[str]:
        """The tables that lie in the scratch schema."""
        sql = f"SELECT relname::text FROM pg_class WHERE relnamespace = '{SCRATCH}'::regnamespace AND relkind = 'r'"
        return sorted(name for (name,) in self.run(sql, database))

    def _run(self, program: str, *options: str) -> None:
        command = [str(self.programs / program), "-D", str(self.folder / "data"), *options]
        if os.geteuid() == 0:
            command = ["runuser", "-u", self._user, "--", *command]
        # Postgres keeps what it is given as output: a pipe would never end.
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/"
        )
        if done.returncode:
            log = self.folder / "log"
            raise RuntimeError(f"{program} failed: {log.read_text()[-2000:] if log.exists() else 'no log'}")


def _find_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])

"""Bringing rollups up to date: which files are new or others than before, which days differ, and only those anew.

The store is copied, changed and put into its place at once: whoever reads has the old one open, and an update that is
killed leaves it as it was.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
from pydantic import TypeAdapter

from opslib.data.checks import has_checked_key, join_checks, list_checks
from opslib.data.company_check import check_company
from opslib.data.connect import open_table
from opslib.data.fitness import DataFitness, check_table
from opslib.data.lock import lock_folder
from opslib.data.mapping import MappedTable, map_table
from opslib.data.playbook import Playbook
from opslib.data.rollups.days import compare_labels, digest_days, find_changed_days, replace_days
from opslib.data.rollups.store import (
    ALWAYS,
    CATALOG,
    DATED,
    FILE,
    SCHEMA,
    FileState,
    Rollups,
    hash_settings,
    list_states,
    quote,
    read_key,
    read_states,
)
from opslib.data.source import Data, open_data
from opslib.errors import InputError

PARTIAL = ".days.partial.duckdb"
FILE_COLUMN = "_opslib_file"


def update_rollups(
    playbook: Playbook, *, wait_seconds: float = 600, on_stage: Callable[[str], None] = lambda stage: None
) -> bool:
    """Bring a company's rollups up to date, or make them.

    Args:
        playbook: names their folder in `[data] rollups`; without it nothing is done.
        wait_seconds: how long to wait while another command does the same.
        on_stage: told what is done, for a progress line.

    Returns:
        Whether something was written.

    Raises:
        InputError: the tables are no files, or a file cannot be read; the rollups stay as they were.
        BusyError: another command was at it all the time.
    """
    folder = playbook.rollups_folder
    if folder is None:
        return False
    _check_settings(playbook)
    busy = f"Another opslib command is bringing the rollups in {folder} up to date. Run this one again later."
    with lock_folder(folder, busy=busy, wait_seconds=wait_seconds):
        data = open_data(playbook)
        if data.rollups is not None:
            return False
        on_stage("Bringing the rollups up to date")
        partial = folder / PARTIAL
        try:
            _write_rollups(data, folder / FILE, partial)
            partial.replace(folder / FILE)
        finally:
            _remove(partial)
    return True


def _check_settings(playbook: Playbook) -> None:
    if playbook.data.url is not None:
        raise InputError(
            "[data] rollups: they are kept of files only, and url names a database. Take out one of the two."
        )
    for name, source in playbook.tables.items():
        if "future_time" in source.drop and playbook.company.data_until is None:
            raise InputError(
                f"[data] rollups: [tables.{name}] drops times of the future, and what that is changes every day. "
                "Write data_until under [company], or take out one of the two."
            )


def _remove(path: Path) -> None:
    for one in (path, path.with_name(path.name + ".wal")):
        one.unlink(missing_ok=True)


def _write_rollups(data: Data, before: Path, partial: Path) -> None:
    """Write what `before` is to become into `partial`."""
    connection, playbook = data.connection, data.playbook
    version = _attach_copy(data, before, partial)
    states = list_states(playbook)
    known = read_states(connection)
    fresh = [s for s in states if s not in known]
    gone = [s for s in known if s not in states]
    touched = sorted({s.name for s in (*fresh, *gone)})
    connection.raw_sql("BEGIN")
    checks = _check_files(data, states, fresh, gone)
    data.rollups = Rollups(connection, partial.parent, store="", version=version)
    data.__dict__["fitness"] = DataFitness(tuple(profile for profile, _ in checks.values()), ())
    for name in touched:
        change = _find_change(data, name, fresh, gone)
        if change is not None:
            connection.con.execute(f"INSERT INTO {CATALOG}.changes VALUES (?, ?, ?)", [version, name, change])
    fitness = check_company(data, checks)
    stored = json.dumps(TypeAdapter(DataFitness).dump_python(fitness, mode="json"))
    connection.con.execute(f"UPDATE {CATALOG}.meta SET version = ?, fitness = ?", [version, stored])
    connection.raw_sql("COMMIT")
    connection.raw_sql(f"DETACH {CATALOG}")


def _attach_copy(data: Data, before: Path, partial: Path) -> int:
    """Attach a copy of the store for writing, or a new one; give the number of the version to write."""
    connection, playbook = data.connection, data.playbook
    _remove(partial)
    if before.is_file():
        shutil.copyfile(before, partial)
        with contextlib.suppress(duckdb.Error):
            connection.raw_sql(f"ATTACH {quote(partial)} AS {CATALOG}")
            if read_key(connection) == hash_settings(playbook):
                return int(connection.raw_sql(f"SELECT version FROM {CATALOG}.meta").fetchone()[0]) + 1
            connection.raw_sql(f"DETACH {CATALOG}")
        _remove(partial)
    connection.raw_sql(f"ATTACH {quote(partial)} AS {CATALOG}")
    connection.raw_sql(f"USE {CATALOG}")
    user = data.table(data.activity_name).user_id.type() if data.has_activity else None
    connection.raw_sql(SCHEMA.format(user="BIGINT" if user is None or user.is_integer() else "VARCHAR"))
    connection.raw_sql("USE memory")
    values = [hash_settings(playbook), uuid.uuid4().hex, 0, ""]
    connection.con.execute(f"INSERT INTO {CATALOG}.meta VALUES (?, ?, ?, ?)", values)
    return 1


def _open_by_file(data: Data, name: str) -> MappedTable | None:
    """A table whose rows say which file they are of; None where the engine cannot tell."""
    source = data.playbook.tables[name]
    raw = open_table(data.connection, name, source, data.playbook, file_column=FILE_COLUMN)
    return map_table(name, raw, source) if FILE_COLUMN in raw.columns else None


def _check_files(
    data: Data, states: Sequence[FileState], fresh: Sequence[FileState], gone: Sequence[FileState]
) -> dict[str, Any]:
    """Check all tables, reading only new files where that suffices; the ledger of files is brought up to date.

    Returns:
        Table -> its profile and problems.
    """
    con, playbook = data.connection.con, data.playbook
    for state in gone:
        con.execute(f"DELETE FROM {CATALOG}.files WHERE name = ? AND path = ?", [state.name, state.path])
    checked = {}
    for name, mapped in data.mapped.items():
        source = playbook.tables[name]
        new = [s for s in fresh if s.name == name]
        rows = con.execute(f"SELECT checked FROM {CATALOG}.files WHERE name = ?", [name]).fetchall()
        parts = [text for (text,) in rows]
        by_file = _open_by_file(data, name) if mapped.contract.repeats and None not in parts else None
        found = {} if by_file is None else _check_new(by_file, data, name, [s.path for s in new], bool(parts))
        for state in new:
            text = json.dumps(_to_plain(found[state.path])) if found else None
            row = [state.name, state.path, state.size, state.changed_ns, text]
            con.execute(f"INSERT INTO {CATALOG}.files VALUES (?, ?, ?, ?, ?)", row)
            parts.append(text)
        if None in parts or by_file is None:
            # What was known of single files no longer says anything of the whole.
            con.execute(f"UPDATE {CATALOG}.files SET checked = NULL WHERE name = ?", [name])
            checked[name] = check_table(mapped, source, playbook)
        else:
            joined = join_checks([_to_values(json.loads(text)) for text in parts])
            checked[name] = check_table(mapped, source, playbook, found=joined)
    return checked


def _check_new(
    by_file: MappedTable, data: Data, name: str, paths: Sequence[str], has_others: bool
) -> dict[str, dict[str, Any]]:
    """The checks of each new file; empty where keys of one are in another, so that files do not simply add up."""
    if not paths:
        return {}
    source, playbook = data.playbook.tables[name], data.playbook
    is_new = by_file.raw[FILE_COLUMN].isin(list(paths))
    mapped = map_table(name, by_file.raw.filter(is_new), source)
    checks = list_checks(mapped, source, playbook)
    # A file without rows gives no group.
    empty = {key: None if key.startswith(("first_", "last_")) else 0 for key in checks}
    counted = mapped.raw.group_by(FILE_COLUMN).aggregate(**checks).to_pandas()
    found = {path: dict(empty) for path in paths} | {row.pop(FILE_COLUMN): row for row in counted.to_dict("records")}
    if has_checked_key(by_file, source):
        key = by_file.columns[by_file.contract.unique or ""]
        keys = by_file.raw.select(key=key, is_new=is_new).filter(lambda t: t.key.notnull())
        inside = keys.filter(keys.is_new)
        shared = int(inside.key.nunique().to_pandas()) < sum(int(f["keys"]) for f in found.values())
        if has_others and not shared:
            shared = int(inside.semi_join(keys.filter(~keys.is_new), "key").count().to_pandas()) > 0
        if shared:
            return {}
    return found


def _to_plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """Checks as JSON can hold them."""
    plain: dict[str, Any] = {}
    for name, value in values.items():
        if value is None or pd.isna(value):
            plain[name] = None
        else:
            plain[name] = pd.Timestamp(value).isoformat() if name.startswith(("first_", "last_")) else int(value)
    return plain


def _to_values(plain: Mapping[str, Any]) -> dict[str, Any]:
    """Checks out of JSON."""
    return {
        name: pd.Timestamp(value) if value is not None and name.startswith(("first_", "last_")) else value
        for name, value in plain.items()
    }


def _find_change(data: Data, name: str, fresh: Sequence[FileState], gone: Sequence[FileState]) -> Any:
    """The first day on which a table differs, after what is kept of its days is brought up to date; None: nowhere."""
    if name == "users":
        return compare_labels(data.connection, data.table("users"))
    if name not in DATED:
        return ALWAYS
    source = data.playbook.tables[name]
    by_file = None if source.rows == "lines" or "duplicate_key" in source.drop else _open_by_file(data, name)
    if by_file is None:
        return _replace_all(data, name)
    one = Data(data.playbook, data.connection, {name: by_file})
    table = one.table(name)
    new = [s.path for s in fresh if s.name == name]
    rows = table.filter(table[FILE_COLUMN].isin(new))
    time = by_file.contract.time_column
    day = rows.date if name == "spend" else data.calendar.local_day(rows[time])
    digests = digest_days(rows, file=FILE_COLUMN, day=day) if new else None
    days = find_changed_days(data.connection, name, digests, [s.path for s in gone if s.name == name])
    if days and name == data.activity_name:
        _replace(data, name, days)
    return days[0] if days else None


def _replace_all(data: Data, name: str) -> Any:
    """Count all days anew of a table whose rows do not count each by itself."""
    if name == data.activity_name:
        table = data.table(name)
        day = data.calendar.local_day(table.ts)
        kept = f"SELECT DISTINCT day FROM {CATALOG}.user_days"
        days = {pd.Timestamp(d).date() for d in table.select(day=day).distinct().to_pandas()["day"].dropna()}
        days |= {d for (d,) in data.connection.con.execute(kept).fetchall()}
        if days:
            _replace(data, name, sorted(days))
    return ALWAYS


def _replace(data: Data, name: str, days: Sequence[Any]) -> None:
    replace_days(
        data.connection,
        data.table(name),
        days,
        calendar=data.calendar,
        active=data.is_active,
        has_events=name == "events",
    )

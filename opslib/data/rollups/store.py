"""The rollup store as it is read: which rollups there are, whether they are of these files, and what changed when.

One DuckDB file in the folder that `[data] rollups` names. Readers attach it read-only; an update writes a new one
beside it and puts that in its place at once, so that readers never wait, and a killed update leaves the old one.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import duckdb
import ibis.expr.types as ir
import pandas as pd
from pydantic import TypeAdapter

from opslib.data.files import find_files
from opslib.data.fitness import DataFitness
from opslib.data.playbook import Playbook

FILE = "days.duckdb"
CATALOG = "rollups"
# Grows when rollups mean something else than before: the old ones are made anew then.
FORMAT = 1
# Tables whose days are compared, so that it is known from which day on something changed.
DATED = ("events", "orders", "referrals", "spend", "surveys")
# Ages in days at which a user's return is looked for, and the first day itself.
RETURN_AGES = (0, 1, 7, 30)
# The day given for a change that may touch every day.
ALWAYS = dt.date(1, 1, 1)

SCHEMA = """
CREATE TABLE meta (key VARCHAR, store VARCHAR, version INTEGER, fitness VARCHAR);
CREATE TABLE files (name VARCHAR, path VARCHAR, size BIGINT, changed_ns BIGINT, checked VARCHAR);
CREATE TABLE file_days (name VARCHAR, path VARCHAR, day DATE, rows_count BIGINT, digest HUGEINT);
CREATE TABLE changes (version INTEGER, name VARCHAR, first_day DATE);
CREATE TABLE event_days (day DATE, event VARCHAR, rows_count BIGINT);
CREATE TABLE labels (user_id {user}, digest BIGINT, signup_at TIMESTAMP);
CREATE TABLE user_days (user_id {user}, day DATE, rows_count BIGINT, active BOOLEAN);
CREATE TABLE users (user_id {user}, first_day DATE, rows_count BIGINT);
CREATE TABLE returns (user_id {user}, day DATE);
"""


@dataclass(frozen=True)
class FileState:
    """One of a table's files, and what tells whether it is another one than before."""

    name: str
    path: str
    size: int
    changed_ns: int


def list_states(playbook: Playbook) -> list[FileState]:
    """The files of all tables as they are now, in order."""
    states = []
    for name, source in sorted(playbook.tables.items()):
        for file in find_files(source.source, playbook.folder):
            stat = file.stat()
            states.append(FileState(name, str(file), stat.st_size, stat.st_mtime_ns))
    return sorted(states, key=lambda s: (s.name, s.path))


def hash_settings(playbook: Playbook) -> str:
    """A hash of all in a playbook that rollups depend on."""
    company = playbook.company
    parts: dict[str, Any] = {
        "format": FORMAT,
        # Hashes may be others in another version.
        "engine": duckdb.__version__,
        "timezone": company.timezone,
        "data_until": str(company.data_until),
        "activity": playbook.activity.model_dump(mode="json"),
        "tables": {name: source.model_dump(mode="json") for name, source in sorted(playbook.tables.items())},
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


class Rollups:
    """Rollups that are of the data as they are, attached to a connection.

    Attributes:
        folder: where they are kept.
        store: which store it is; another one once made anew.
        version: how many updates changed something.
    """

    def __init__(self, connection: Any, folder: Path, *, store: str, version: int) -> None:
        self.connection, self.folder, self.store, self.version = connection, folder, store, version

    def table(self, name: str) -> ir.Table:
        """One of the store's tables."""
        return self.connection.table(name, database=(CATALOG, "main"))

    @property
    def active_days(self) -> ir.Table:
        """user_id, day: one row a user and day on which the user was active."""
        days = self.table("user_days")
        return days.filter(days.active).select("user_id", "day")

    @property
    def users(self) -> ir.Table:
        """user_id, first_day (active; or none), rows_count (events of all kinds)."""
        return self.table("users")

    @property
    def returns(self) -> ir.Table:
        """user_id, day: each user's first active day, and those of `RETURN_AGES` later."""
        return self.table("returns")

    @property
    def events(self) -> ir.Table:
        """event, rows: how many rows each name of an event has."""
        days = self.table("event_days")
        return days.group_by("event").aggregate(rows=days.rows_count.sum())

    def read_fitness(self) -> DataFitness:
        """The contract check, made when the rollups were brought up to date."""
        text = self.table("meta").to_pandas()["fitness"].iloc[0]
        return TypeAdapter(DataFitness).validate_python(json.loads(text), strict=False)

    def find_first_change(self, names: tuple[str, ...], *, since: int, end: dt.date, day_start: Any) -> dt.date:
        """The first day on which any of these tables differs from what it was at a version; `date.max` where none does.

        Args:
            names: events, orders, users (as labels of others' rows).
            since: the version.
            end: the day after the last that was looked at then.
            day_start: gives the moment at which a day starts.
        """
        found = [day for version, name, day in self._changes if version > since and name in names]
        if "users" in names and "signup_at" in self.table("labels").columns:
            found.append(self._find_late_signup(end, day_start))
        return min(found, default=dt.date.max)

    @cached_property
    def _changes(self) -> list[tuple[int, str, dt.date]]:
        rows = self.table("changes").to_pandas()
        return [
            (int(r.version), str(r.name_), to_day(r.first_day))
            for r in rows.rename(columns={"name": "name_"}).itertuples()
        ]

    def _find_late_signup(self, end: dt.date, day_start: Any) -> dt.date:
        """The first active day of users who were not known yet at `end`: until then they had no label."""
        labels, users = self.table("labels"), self.users
        late = users.semi_join(labels.filter(labels.signup_at >= day_start(end)), "user_id")
        found = late.filter(late.first_day < end).first_day.min().to_pandas()
        return dt.date.max if found is None or pd.isna(found) else to_day(found)


def to_day(value: Any) -> dt.date:
    """A day out of a frame."""
    return value if type(value) is dt.date else pd.Timestamp(value).date()


def attach_rollups(connection: Any, playbook: Playbook) -> Rollups | None:
    """Attach a company's rollups for reading, if there are any, of these files as they are and of these settings."""
    folder = playbook.rollups_folder
    if folder is None or not (folder / FILE).is_file():
        return None
    try:
        connection.raw_sql(f"ATTACH {quote(folder / FILE)} AS {CATALOG} (READ_ONLY)")
    except duckdb.Error:
        # Of another version of DuckDB, or damaged: the next update makes it anew.
        return None
    if not is_current(connection, playbook):
        connection.raw_sql(f"DETACH {CATALOG}")
        return None
    store, version = connection.raw_sql(f"SELECT store, version FROM {CATALOG}.meta").fetchone()
    return Rollups(connection, folder, store=store, version=version)


def is_current(connection: Any, playbook: Playbook) -> bool:
    """Tell whether the attached rollups are of the playbook's files as they are, and of its settings."""
    return read_key(connection) == hash_settings(playbook) and read_states(connection) == list_states(playbook)


def read_key(connection: Any) -> str:
    """The hash of the settings of which the attached rollups are; empty where they are of none."""
    try:
        found = connection.raw_sql(f"SELECT key FROM {CATALOG}.meta").fetchone()
    except duckdb.Error:
        return ""
    return str(found[0]) if found else ""


def read_states(connection: Any) -> list[FileState]:
    """The files of which the attached rollups are, in order."""
    rows = connection.raw_sql(f"SELECT name, path, size, changed_ns FROM {CATALOG}.files").fetchall()
    return sorted((FileState(*row) for row in rows), key=lambda s: (s.name, s.path))


def quote(path: Path) -> str:
    """A path as SQL."""
    return "'" + str(path).replace("'", "''") + "'"

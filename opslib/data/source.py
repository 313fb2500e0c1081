"""Opening a company's data: the playbook's tables, mapped to the contract, on the engine where they live."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections import OrderedDict
from collections.abc import Hashable
from functools import cached_property
from pathlib import Path
from typing import Any

import ibis
import ibis.expr.types as ir

from opslib.data.checked import recall_fitness
from opslib.data.company_check import check_company
from opslib.data.connect import connect, open_table
from opslib.data.contract import CONTRACTS
from opslib.data.files import find_files
from opslib.data.fitness import DataFitness, describe_contract
from opslib.data.mapping import MappedTable, map_table
from opslib.data.periods import DAY, Calendar, Period, Quarter
from opslib.data.playbook import Playbook, load_playbook
from opslib.data.rollups.store import Rollups, attach_rollups
from opslib.data.rules import bad_rows, future_limit
from opslib.data.subscribers import NAME_A_DAY, NO_TIME, WITHOUT_USERS, describe_subscribers, list_users
from opslib.errors import InputError, suggest_name

# A last day counts as full when something happened in its last hour.
FULL_DAY_HOUR = 23
SHOWN_VALUES = 12
HASHED_BYTES = 8_000_000


def open_data(playbook: str | Path | Playbook = "playbook.toml") -> Data:
    """Open the data that a playbook names. Nothing is read yet but the files' headers.

    Raises:
        InputError: the playbook or a file is wrong.
    """
    if not isinstance(playbook, Playbook):
        playbook = load_playbook(playbook)
    connection = connect(playbook)
    mapped = {}
    for name, source in playbook.tables.items():
        mapped[name] = map_table(name, open_table(connection, name, source, playbook), source)
    data = Data(playbook, connection, mapped)
    data.rollups = attach_rollups(connection, playbook)
    return data


class Data:
    """A company's data, ready to be measured.

    Attributes:
        playbook: the checked playbook.
        connection: the Ibis connection.
        mapped: table name -> its mapping from the user's own columns.
        memory: what `data.memory.remember` keeps.
        rollups: what is known of past days already; None where nothing is, or of other files than these.
    """

    def __init__(self, playbook: Playbook, connection: Any, mapped: dict[str, MappedTable]) -> None:
        self.playbook = playbook
        self.connection = connection
        self.mapped = mapped
        self.memory: OrderedDict[Hashable, tuple[Any, ...]] = OrderedDict()
        self.rollups: Rollups | None = None
        self._tables: dict[str, ir.Table] = {}

    def has(self, *tables: str) -> bool:
        """Tell whether all these tables are there."""
        return all(t in self.mapped for t in tables)

    @property
    def has_activity(self) -> bool:
        """Tell whether it is known who was active when: by events, or by orders."""
        return self.has("events") or self.has("orders")

    def table(self, name: str) -> ir.Table:
        """A table of the contract: contract columns plus the user's further ones, filtered as the playbook says.

        Raises:
            InputError: the playbook has no such table.
        """
        if name not in self.mapped:
            raise InputError(f"The playbook has no table {describe_contract(CONTRACTS[name])}.")
        if name not in self._tables:
            self._tables[name] = self._build(name)
        return self._tables[name]

    def _build(self, name: str) -> ir.Table:
        mapped, source = self.mapped[name], self.playbook.tables[name]
        keep = [] if mapped.kept is None else [mapped.kept]
        keep += [~condition.fill_null(False) for condition in bad_rows(mapped, source, self.playbook)]
        raw = mapped.raw.filter(*keep) if keep else mapped.raw
        table = raw.select(**mapped.columns)
        if source.rows == "lines" and "order_id" in table.columns:
            sums = {c: table[c].sum() for c in ("amount", "discount", "cost") if c in table.columns}
            # Further columns only if the playbook names them: lines of one order may differ in the others.
            named = [c for c in source.columns if mapped.contract.column(c) is None]
            lines = table.group_by("order_id", "user_id")
            table = self._keep(lines.aggregate(ts=table.ts.min(), **sums, **{c: table[c].min() for c in named}))
        elif "duplicate_key" in source.drop and mapped.contract.unique in table.columns:
            first = ibis.row_number().over(group_by=mapped.contract.unique, order_by=list(table.columns))
            # Rows without a key repeat nothing.
            table = table.mutate(_nth=first)
            table = table.filter((table._nth == 0) | table[mapped.contract.unique].isnull()).drop("_nth")
        elif "duplicate_key" in source.drop and not mapped.contract.repeats:
            table = table.distinct()
        if name == "subscriptions" and "ended_at" in table.columns:
            # An end to come, often the year 9999, is none yet.
            table = table.mutate(ended_at=(table.ended_at >= future_limit(self.playbook)).ifelse(None, table.ended_at))
        return table

    @cached_property
    def fitness(self) -> DataFitness:
        """The contract check of all tables, run once; a report hands its own to its kernels."""
        if self.rollups is not None:
            return self.rollups.read_fitness()
        known = recall_fitness(
            lambda stored: self.fingerprint if self.playbook.data.url is None else self._sign(stored)
        )
        if known is not None:
            return known
        return check_company(self)

    def require_fit(self) -> None:
        """Refuse unfit data.

        Raises:
            InputError: what is wrong, each in a sentence.
        """
        if self.fitness.verdict == "unfit":
            worst = [str(p) for p in self.fitness.problems if p.severity == "unfit"]
            raise InputError("The data are unfit to conclude from. " + " | ".join(worst))

    def execute(self, expression: Any) -> Any:
        """Run an expression on the engine and fetch its (small) result as pandas."""
        return self.connection.execute(expression)

    @property
    def activity_name(self) -> str:
        """The table that says who was active when: events, or orders where there are no events; empty without both."""
        known = next((name for name in ("events", "orders") if self.has(name)), "")
        return self.playbook.activity.table or known

    @property
    def base_name(self) -> str:
        """The table that says which days the data cover; empty where none does."""
        others = ("subscriptions", *WITHOUT_USERS)
        return self.activity_name or next((name for name in others if self.has(name)), "")

    @cached_property
    def calendar(self) -> Calendar:
        """The company's clock over the span of the data."""
        company = self.playbook.company
        times = [t for p in self.fitness.profiles for t in (p.first_at, p.last_at) if t is not None]
        if self._looked_up_on is not None:
            times.append(Calendar(company.timezone).day_start(self._looked_up_on))
        if not times:
            raise InputError("No table has a row with a time that can be read.")
        return Calendar(company.timezone, self.playbook.week_start, min(times), max(times))

    @property
    def _looked_up_on(self) -> dt.date | None:
        """The day of subscriptions that have no times of their own, which stand for all that is known."""
        if self.has_activity or not self.has("subscriptions"):
            return None
        if any(p.table == "subscriptions" and p.last_at is not None for p in self.fitness.profiles):
            return None
        if self.playbook.company.data_until is None:
            raise InputError(f"Table subscriptions: {NO_TIME}. {NAME_A_DAY}")
        return self.playbook.company.data_until

    @cached_property
    def span(self) -> Period:
        """From the first active day to the last full day; of subscriptions alone, from the first start.

        Where subscriptions have no times, the one day of the playbook's `data_until`.

        Raises:
            InputError: there are no times, or that day is not given.
        """
        if (day := self._looked_up_on) is not None:
            return Period(day, day + DAY, "all data")
        name = self.base_name
        profile = next((p for p in self.fitness.profiles if p.table == name), None)
        if profile is None:
            raise InputError("The playbook has no table with times of its own: nothing says which days the data cover.")
        if profile.first_at is None or profile.last_at is None:
            raise InputError(f"Table {name} has no rows with a time.")
        last = self.calendar.wall_clock(profile.last_at)
        full = profile.whole_days or last.hour >= FULL_DAY_HOUR
        first_day = self.calendar.day_of(profile.first_at)
        return Period(first_day, max(last.date() + (DAY if full else 0 * DAY), first_day + DAY), "all data")

    @property
    def as_of(self) -> dt.date:
        """The last full day of the data."""
        return self.span.last_day

    def choose_quarter(self, text: str = "") -> Quarter:
        """Read a quarter, or take the last complete one (the last one with data if none is complete).

        Raises:
            InputError: no quarter, or one that the data do not reach.
        """
        first, last = Quarter.of(self.span.start), Quarter.of(self.as_of)
        if not text:
            complete = last if last.period.end <= self.span.end else last.previous
            return complete if complete.period.overlaps(self.span) else last
        try:
            quarter = Quarter.parse(text)
        except ValueError as error:
            raise InputError(f"'{text}' is not a quarter: {error}.") from None
        if not quarter.period.overlaps(self.span):
            raise InputError(
                f"Quarter {quarter} lies outside the data, which run from {self.span.start} to {self.as_of}. "
                f"Choose one from {first} to {last}."
            )
        return quarter

    @cached_property
    def active_days(self) -> ir.Table:
        """Who was active on which local day: user_id, day; one row a user and day, kept in the engine once computed.

        Raises:
            InputError: there are neither events nor orders.
        """
        if not self.has_activity:
            raise InputError(
                "Nobody's activity is known: that takes a table events (user, time, event) or orders (user, time, "
                "amount). Name one under [tables] in the playbook."
            )
        if self.rollups is not None:
            return self.rollups.active_days
        table = self.table(self.activity_name)
        if self.playbook.activity.events or self.playbook.activity.except_events:
            table = table.filter(self.is_active(table))
        day = self.calendar.local_day(table.ts)
        return self._keep(table.select(user_id=table.user_id, day=day).distinct())

    def is_active(self, table: ir.Table) -> Any:
        """Whether a row of the activity table makes its user active that day, as the playbook says."""
        activity = self.playbook.activity
        inside = table.event.isin(activity.events) if activity.events else ibis.literal(True)
        return inside & table.event.notin(activity.except_events) if activity.except_events else inside

    @property
    def event_counts(self) -> ir.Table:
        """event, rows: how often each event occurs."""
        if self.rollups is not None and self.activity_name == "events":
            return self.rollups.events
        return self.table("events").group_by("event").aggregate(rows=lambda t: t.count())

    @cached_property
    def attributes(self) -> ir.Table:
        """One row a user with the columns that segments may name; empty of columns where the data have none."""
        if self.has("users"):
            return self.table("users")
        if not self.has_activity:
            if self.has("subscriptions"):
                return self._keep(describe_subscribers(self.table("subscriptions")))
            return self._keep(list_users(self.table(self.base_name)))
        table = self.table(self.activity_name)
        contract = CONTRACTS[self.activity_name]
        texts = [c for c in table.columns if c not in contract.names and table[c].type().is_string()]
        first = {c: table[c].argmin(table.ts) for c in texts}
        return self._keep(table.group_by("user_id").aggregate(**first) if first else table.select("user_id").distinct())

    @property
    def segment_columns(self) -> list[str]:
        """User columns that can serve as a segment: texts and flags, not keys or times."""
        skip = {"user_id", *(c.name for c in CONTRACTS["users"].columns if c.kind not in ("text", "flag"))}
        kinds = {c: self.attributes[c].type() for c in self.attributes.columns if c not in skip}
        return [c for c, kind in kinds.items() if kind.is_string() or kind.is_boolean()]

    def check_segment(self, segment: str) -> None:
        """Refuse a segment whose column or value the data do not have. An empty text means everybody.

        Raises:
            InputError: with the columns or values that exist.
        """
        if not segment:
            return
        column, _, value = segment.partition(":")
        known = self.segment_columns
        if column not in known:
            choice = f"Segments can name: {', '.join(known)}." if known else "These data have no user attributes."
            raise InputError(
                f"Segment '{segment}': there is no column '{column}'.{suggest_name(column, known)} {choice}"
            )
        # As `restrict` compares: a flag reads true, not True.
        texts = self.attributes.select(**{column: self.attributes[column].cast("string")})
        if int(self.execute(texts.aggregate(users=(texts[column] == value).sum())).fillna(0)["users"].iloc[0]):
            return
        values = texts.group_by(column).aggregate(users=lambda t: t.count())
        rows = self.execute(values.order_by([values.users.desc(), values[column]]).limit(1000))
        names = [str(v) for v in rows[column].dropna()]
        more = f" and {len(names) - SHOWN_VALUES} more" if len(names) > SHOWN_VALUES else ""
        raise InputError(
            f"Segment '{segment}': nobody has {column} '{value}'.{suggest_name(value, names)} "
            f"Values: {', '.join(names[:SHOWN_VALUES])}{more}."
        )

    def restrict(self, table: ir.Table, segment: str) -> ir.Table:
        """Keep the rows of users in a segment such as `channel:search`; an empty text keeps all."""
        if not segment:
            return table
        column, _, value = segment.partition(":")
        members = self.attributes.filter(self.attributes[column].cast("string") == value).select("user_id")
        return table.semi_join(members, "user_id")

    def _keep(self, table: ir.Table) -> ir.Table:
        return table.cache()

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the playbook and of each file (large files: size, head and tail); of what a database holds."""
        if self.playbook.data.url is not None:
            return self._sign(self.fitness)
        digest = hashlib.sha256(self.playbook.path.read_bytes())
        for name, source in sorted(self.playbook.tables.items()):
            for file in find_files(source.source, self.playbook.folder):
                digest.update(f"{name}/{file.name}/{file.stat().st_size}".encode())
                digest.update(_sample_bytes(file))
        return digest.hexdigest()

    def _sign(self, fitness: DataFitness) -> str:
        """A hash of the playbook and of what a check found in a database."""
        digest = hashlib.sha256(self.playbook.path.read_bytes())
        for profile in fitness.profiles:
            digest.update(repr(profile).encode())
        return digest.hexdigest()


def _sample_bytes(file: Path) -> bytes:
    with file.open("rb") as stream:
        head = stream.read(HASHED_BYTES)
        if file.stat().st_size <= HASHED_BYTES:
            return head
        stream.seek(-HASHED_BYTES, 2)
        return head + stream.read()

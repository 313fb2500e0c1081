"""Are these data fit to conclude from? One pass over each table counts every violation of its contract."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd

from opslib.data.contract import CONTRACTS, Contract
from opslib.data.mapping import MappedTable
from opslib.data.playbook import Playbook, TableSource
from opslib.errors import suggest_name

Severity = Literal["unfit", "warning", "note"]
Verdict = Literal["fit", "usable with warnings", "unfit"]

EARLIEST = dt.datetime(1990, 1, 1)
EXAMPLES = 3
# Rules whose rows can be left out by naming them under `drop`.
ROW_RULES = ("null_key", "duplicate_key", "unparsable", "future_time", "absurd_time")

MEANINGS = {
    "missing_column": "the column is missing",
    "wrong_type": "the type cannot serve",
    "empty_table": "the table has no rows",
    "null_key": "have no value",
    "duplicate_key": "repeat a key that must be unique",
    "unparsable": "hold something that cannot be read as {kind}",
    "mixed_zones": "carry a time zone while the others do not",
    "future_time": "lie in the future (after {limit})",
    "absurd_time": "lie before 1990",
    "unknown_category": "hold a value other than {allowed}",
    "negative_amount": "are negative",
    "exact_duplicate": "repeat another row exactly",
    "unknown_user": "name a user who is not in table users",
    "key_types": "is a number here and a text elsewhere",
    "filtered": "are left out by [tables.{table}] keep",
}


@dataclass(frozen=True)
class Problem:
    """One rule that a table breaks: where, how often, what it looks like, how bad it is and what to do."""

    table: str
    column: str
    rule: str
    count: int
    rows: int
    severity: Severity
    text: str
    examples: tuple[str, ...] = ()
    remedy: str = ""

    def __str__(self) -> str:
        place = f"{self.table}.{self.column}" if self.column else self.table
        shown = f", for example {', '.join(self.examples)}" if self.examples else ""
        counted = f"{self.count:,} of {self.rows:,} rows {self.text}" if self.count else self.text
        return f"{place}: {counted} ({self.rule}){shown}." + (f" {self.remedy}" if self.remedy else "")


@dataclass(frozen=True)
class TableProfile:
    """What one pass over a table found: rows, rows kept, first and last time (UTC)."""

    table: str
    rows: int
    kept: int
    first_at: dt.datetime | None
    last_at: dt.datetime | None
    whole_days: bool


@dataclass(frozen=True)
class DataFitness:
    """The verdict on all tables.

    Attributes:
        profiles: one a table.
        problems: what is wrong, the worst first.
    """

    profiles: tuple[TableProfile, ...]
    problems: tuple[Problem, ...]

    @property
    def verdict(self) -> Verdict:
        """`unfit` stops conclusions; warnings are shown beside them."""
        severities = {p.severity for p in self.problems}
        return "unfit" if "unfit" in severities else "usable with warnings" if "warning" in severities else "fit"

    def to_frame(self) -> pd.DataFrame:
        """One row a table: table, rows, left_out, first_day, last_day, verdict, problems."""
        records = []
        for profile in self.profiles:
            own = [p for p in self.problems if p.table == profile.table]
            fitness = DataFitness((profile,), tuple(own))
            records.append(
                {
                    "table": profile.table,
                    "grain": CONTRACTS[profile.table].grain,
                    "rows_count": profile.rows,
                    "left_out_count": profile.rows - profile.kept,
                    "first_at": profile.first_at,
                    "last_at": profile.last_at,
                    "verdict": fitness.verdict,
                    "problems": [str(p) for p in own],
                }
            )
        return pd.DataFrame.from_records(records)

    def to_text(self) -> str:
        """The table of `opslib check`, for a terminal."""
        lines = [f"{'table':<11}{'rows':>13}{'left out':>11}  {'first (UTC)':<17}{'last (UTC)':<17}verdict"]
        for row in self.to_frame().to_dict("records"):
            first, last = (f"{t:%Y-%m-%d %H:%M}" if pd.notna(t) else "-" for t in (row["first_at"], row["last_at"]))
            lines.append(
                f"{row['table']:<11}{row['rows_count']:>13,}{row['left_out_count']:>11,}  "
                f"{first:<17}{last:<17}{row['verdict']}"
            )
        lines += ["", f"Verdict: {self.verdict}"]
        lines += [f"  {p.severity:<8}{p}" for p in self.problems]
        return "\n".join(lines)


def check_table(mapped: MappedTable, source: TableSource, playbook: Playbook) -> tuple[TableProfile, list[Problem]]:
    """Check one table against its contract in one pass (a second look only fetches examples of what is wrong).

    Args:
        mapped: the table as expressions over the user's own.
        source: its entry in the playbook.
        playbook: for the date after which times are an error.

    Returns:
        The table's profile and its problems.
    """
    name = mapped.contract.table
    problems = _check_shape(mapped)
    bad = _row_rules(mapped, source, playbook)
    kept = mapped.kept
    aggregates: dict[str, Any] = {"rows": mapped.raw.count()}
    aggregates["kept"] = kept.sum().fill_null(0) if kept is not None else mapped.raw.count()
    for key, (_, _, condition) in bad.items():
        aggregates[key] = _within(condition, kept).sum().fill_null(0)
    unique = mapped.columns.get(mapped.contract.unique or "")
    check_key = unique is not None and source.rows != "lines"
    if check_key:
        distinct = _where(unique, kept)
        aggregates["keys"] = distinct.nunique()
        aggregates["filled"] = distinct.count()
    time = mapped.columns.get(mapped.contract.time_column or "")
    if time is not None:
        moment = _where(time.cast("timestamp(6)"), kept)
        aggregates |= {"first_at": moment.min(), "last_at": moment.max()}
        aggregates["within_day"] = (moment.cast("date").cast("timestamp(6)") != moment).sum().fill_null(0)
    found = mapped.raw.aggregate(**aggregates).to_pandas().iloc[0]

    rows, count = int(found["rows"]), int(found["kept"])
    if rows == 0 or count == 0:
        text = MEANINGS["empty_table"] + ("" if rows == 0 else f" after [tables.{name}] keep")
        problems.append(
            Problem(name, "", "empty_table", 0, rows, "unfit", text, remedy="Check the file and the filters.")
        )
    if rows > count:
        examples = tuple(str(f) for f in source.keep)
        text = MEANINGS["filtered"].format(table=name)
        problems.append(Problem(name, "", "filtered", rows - count, rows, "note", text, examples))
    if check_key and int(found["filled"]) > int(found["keys"]):
        number = int(found["filled"]) - int(found["keys"])
        problems.append(_duplicate_problem(mapped, source, number, count))
    dropped = sum(int(found[k]) for k, (rule, _, _) in bad.items() if rule in source.drop)
    for key_name, (rule, column, condition) in bad.items():
        if number := int(found[key_name]):
            problems.append(_row_problem(mapped, source, playbook, rule, column, condition, number, count))
    first, last = (_to_datetime(found.get(k)) for k in ("first_at", "last_at"))
    profile = TableProfile(name, rows, count - dropped, first, last, int(found.get("within_day", 1)) == 0)
    return profile, problems


def bad_rows(mapped: MappedTable, source: TableSource, playbook: Playbook) -> list[Any]:
    """Conditions, over the user's table, of the rows that the playbook says to drop."""
    rules = _row_rules(mapped, source, playbook).values()
    return [condition for rule, _, condition in rules if rule in source.drop]


def future_limit(playbook: Playbook) -> dt.datetime:
    """The moment (UTC) after which a time is an error: the end of `data_until`, or two days from now."""
    until = playbook.company.data_until
    if until is not None:
        return dt.datetime.combine(until, dt.time()) + dt.timedelta(days=2)
    # The one use of the wall clock: to suspect wrong years. No result depends on it.
    return dt.datetime.now(dt.UTC).replace(tzinfo=None) + dt.timedelta(days=2)


def check_key_types(tables: dict[str, MappedTable]) -> list[Problem]:
    """Find user ids that are numbers in one table and texts in another: they would never match."""
    kinds: dict[str, list[tuple[str, str]]] = {"number": [], "text": []}
    for name, mapped in tables.items():
        for column in ("user_id", "inviter_id", "invitee_id"):
            if column in mapped.columns:
                kind = "number" if mapped.columns[column].type().is_integer() else "text"
                kinds[kind].append((name, column))
    if not (kinds["number"] and kinds["text"]):
        return []
    minority, other = sorted(kinds, key=lambda k: len(kinds[k]))
    table, column = kinds[minority][0]
    opposite, opposite_column = kinds[other][0]
    text = f"user ids are {minority}s here and {other}s in {opposite}.{opposite_column}, so they never match"
    number_table, number_column = kinds["number"][0]
    remedy = (
        f'Under [tables.{number_table}.columns] write {number_column} = {{ column = "...", type = "text" }}, '
        "or store both as the same type."
    )
    return [Problem(table, column, "key_types", 0, 0, "unfit", text, remedy=remedy)]


def _check_shape(mapped: MappedTable) -> list[Problem]:
    contract = mapped.contract
    problems = []
    for column in mapped.missing:
        meaning = contract.column(column)
        hint = suggest_name(column, mapped.raw.columns)
        text = f"the column is missing ({meaning.meaning if meaning else column})"
        remedy = (
            f'Under [tables.{contract.table}.columns] write {column} = "your column".{hint} '
            f"The table has: {', '.join(mapped.raw.columns)}."
        )
        problems.append(Problem(contract.table, column, "missing_column", 0, 0, "unfit", text, remedy=remedy))
    for column, reason in mapped.wrong_kind.items():
        problems.append(Problem(contract.table, column, "wrong_type", 0, 0, "unfit", f"the column {reason}"))
    return problems


def _row_rules(mapped: MappedTable, source: TableSource, playbook: Playbook) -> dict[str, tuple[str, str, Any]]:
    """Every rule on single rows: unique name -> (rule, column, condition over the user's table)."""
    rules: list[tuple[str, str, Any]] = []
    limit = future_limit(playbook)
    for column in mapped.contract.columns:
        value = mapped.columns.get(column.name)
        if value is None:
            continue
        unparsable = mapped.unparsable.get(column.name)
        if unparsable is not None:
            rules.append(("unparsable", column.name, unparsable))
        if column.kind in ("key", "timestamp", "date") and column.required:
            empty = value.isnull()
            rules.append(("null_key", column.name, empty if unparsable is None else empty & ~unparsable))
        if column.kind in ("timestamp", "date"):
            moment = value.cast("timestamp(6)")
            if column.name != "expires_at":
                rules.append(("future_time", column.name, moment > limit))
            rules.append(("absurd_time", column.name, moment < EARLIEST))
        if column.allowed:
            rules.append(("unknown_category", column.name, value.notnull() & value.notin(column.allowed)))
        if column.name == "amount":
            rules.append(("negative_amount", column.name, value < 0))
        zoned = mapped.zoned_text.get(column.name)
        if zoned is not None:
            rules.append(("mixed_zones", column.name, zoned))
    return {f"{rule}|{column}": (rule, column, condition) for rule, column, condition in rules}


def _row_problem(
    mapped: MappedTable,
    source: TableSource,
    playbook: Playbook,
    rule: str,
    column: str,
    condition: Any,
    number: int,
    rows: int,
) -> Problem:
    contract = mapped.contract
    meaning = contract.column(column)
    assert meaning is not None
    text = MEANINGS[rule].format(
        kind={"timestamp": "a time", "date": "a date", "number": "a number"}.get(meaning.kind, f"a {meaning.kind}"),
        limit=f"{future_limit(playbook):%Y-%m-%d}",
        allowed=" or ".join(meaning.allowed),
        table=contract.table,
    )
    severity: Severity = "unfit"
    remedy = ""
    if rule in ("unknown_category", "negative_amount"):
        severity = "warning"
    elif rule == "mixed_zones":
        if number == rows:
            return Problem(
                contract.table, column, rule, number, rows, "note", "carry their own time zone: read as such"
            )
        remedy = "Write all of them with a zone, or none."
    elif rule in source.drop:
        severity, text = "warning", f"{text} and are left out, as [tables.{contract.table}] drop says"
    elif rule in ROW_RULES:
        remedy = f'Mend the file, or leave these rows out: drop = ["{rule}"] under [tables.{contract.table}].'
    return Problem(
        contract.table, column, rule, number, rows, severity, text,
        _find_examples(mapped, column, condition), remedy,
    )  # fmt: skip


def _duplicate_problem(mapped: MappedTable, source: TableSource, number: int, rows: int) -> Problem:
    contract = mapped.contract
    column = contract.unique or ""
    table = mapped.raw if mapped.kept is None else mapped.raw.filter(mapped.kept)
    keys = table.select(key=mapped.columns[column]).filter(lambda t: t.key.notnull())
    counts = keys.group_by("key").aggregate(times=lambda t: t.count()).filter(lambda t: t.times > 1)
    worst = counts.order_by([counts.times.desc(), counts.key]).limit(EXAMPLES).to_pandas()
    examples = tuple(f"{row.key} ({row.times} times)" for row in worst.itertuples())
    text = MEANINGS["duplicate_key"]
    if "duplicate_key" in source.drop:
        text += f" and all but one are left out, as [tables.{contract.table}] drop says"
        return Problem(contract.table, column, "duplicate_key", number, rows, "warning", text, examples)
    remedy = f'Mend the file, or keep one row a key: drop = ["duplicate_key"] under [tables.{contract.table}].'
    if contract.table == "orders":
        remedy += ' If each row is a line of an order, write rows = "lines".'
    return Problem(contract.table, column, "duplicate_key", number, rows, "unfit", text, examples, remedy)


def _find_examples(mapped: MappedTable, column: str, condition: Any) -> tuple[str, ...]:
    shown: dict[str, Any] = {column: mapped.raw_columns.get(column, mapped.columns[column])}
    for beside in (c.name for c in mapped.contract.columns if c.kind in ("key", "timestamp", "date")):
        if beside in mapped.raw_columns and len(shown) < 2:
            shown[beside] = mapped.raw_columns[beside]
    rows = mapped.raw.filter(_within(condition, mapped.kept)).select(**shown)
    found = rows.order_by(rows.columns).limit(EXAMPLES).to_pandas()
    texts = []
    for record in found.to_dict("records"):
        value = record.pop(column)
        if pd.isna(value):
            texts.append("the row with " + ", ".join(f"{k} {v}" for k, v in record.items()) if record else "empty")
        else:
            texts.append(f"'{str(value)[:60]}'")
    return tuple(texts)


def _within(condition: Any, kept: Any) -> Any:
    return condition if kept is None else condition & kept


def _where(value: Any, kept: Any) -> Any:
    return value if kept is None else kept.ifelse(value, None)


def _to_datetime(value: Any) -> dt.datetime | None:
    return None if value is None or pd.isna(value) else pd.Timestamp(value).to_pydatetime()


def describe_contract(contract: Contract) -> str:
    """One line on what a table is for, used where it is missing.

    >>> describe_contract(CONTRACTS["spend"])
    "spend (one day's spend on one channel): date, channel, amount"
    """
    required = ", ".join(c.name for c in contract.columns if c.required)
    return f"{contract.table} ({contract.grain}): {required}"

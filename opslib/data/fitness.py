"""Are these data fit to conclude from? One pass over each table counts every violation of its contract."""

from __future__ import annotations

import datetime as dt
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import ibis
import pandas as pd

from opslib.data.checks import has_checked_key, list_checks, where, within, without
from opslib.data.contract import CONTRACTS, Contract
from opslib.data.mapping import MappedTable, list_written_days
from opslib.data.playbook import Playbook
from opslib.data.problems import KINDS, MEANINGS, SEVERITIES, Problem, Severity, suggest_column
from opslib.data.rules import EARLIEST, bad_rows, future_limit, list_row_rules
from opslib.data.settings import ColumnSource, RowRule, TableSource
from opslib.data.swapped_dates import is_worth_a_look, look_for_swapped_days, word_swapped
from opslib.errors import find_near
from opslib.language import join_words, mark, say

Verdict = Literal["fit", "usable with warnings", "unfit"]

EXAMPLES = 3
# Rules whose rows can be left out by naming them under `drop`.
ROW_RULES = get_args(RowRule)


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
        counts = _pad(say("table"), 11) + _pad(say("rows"), -13) + _pad(say("left out"), -11)
        times = _pad(say("first (UTC)"), 17) + _pad(say("last (UTC)"), 17)
        lines = [f"{counts}  {times}" + say("verdict")]
        for row in self.to_frame().to_dict("records"):
            first, last = (f"{t:%Y-%m-%d %H:%M}" if pd.notna(t) else "-" for t in (row["first_at"], row["last_at"]))
            lines.append(
                f"{row['table']:<11}{row['rows_count']:>13,}{row['left_out_count']:>11,}  "
                f"{first:<17}{last:<17}{say(row['verdict'])}"
            )
        lines += ["", say("Verdict: {verdict}", verdict=say(self.verdict))]
        lines += [f"  {_pad(say(SEVERITIES[p.severity]), 8)}{p}" for p in self.problems]
        return "\n".join(lines)


def _pad(text: str, width: int) -> str:
    """A text as wide as so many letters, Chinese ones counting twice; to the right where the width is negative."""
    gap = " " * (abs(width) - sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text))
    return text + gap if width > 0 else gap + text


def check_table(
    mapped: MappedTable, source: TableSource, playbook: Playbook, *, found: Mapping[str, Any] | None = None
) -> tuple[TableProfile, list[Problem]]:
    """Check one table against its contract in one pass (a second look only fetches examples of what is wrong).

    Args:
        mapped: the table as expressions over the user's own.
        source: its entry in the playbook.
        playbook: for the date after which times are an error.
        found: the values of `list_checks`, where they are known already.

    Returns:
        The table's profile and its problems.
    """
    name = mapped.contract.table
    problems = _check_shape(mapped, source)
    bad = list_row_rules(mapped, source, playbook)
    left = without(bad_rows(mapped, source, playbook), mapped.kept)
    check_key = has_checked_key(mapped, source)
    times = [c for c in mapped.contract.time_columns if c in mapped.columns]
    written = {c: where(day, mapped.kept) for c, day in list_written_days(mapped, source).items()}
    if found is None:
        found = mapped.raw.aggregate(**list_checks(mapped, source, playbook)).to_pandas().iloc[0].to_dict()

    rows, count, remaining = (int(found[k]) for k in ("rows", "kept", "left"))
    if remaining == 0:
        problems.append(_empty_problem(name, rows, count))
    if rows > count:
        examples = tuple(str(f) for f in source.keep)
        text, values = MEANINGS["filtered"], {"table": name}
        problems.append(Problem(name, "", "filtered", rows - count, rows, "note", text, examples, values=values))
    number = int(found["filled"]) - int(found["keys"]) if check_key else 0
    if not mapped.contract.repeats:
        kept_rows = mapped.raw if left is None else mapped.raw.filter(left)
        number = remaining - int(kept_rows.select(**mapped.columns).distinct().count().to_pandas())
    if number:
        problems.append(_duplicate_problem(mapped, source, left, number, count))
        remaining -= number if "duplicate_key" in source.drop else 0
    for key_name, (rule, column, condition) in bad.items():
        if number := int(found[key_name]):
            mixed = rule == "mixed_zones" and int(found[f"plain|{column}"]) > 0
            problems.append(_row_problem(mapped, source, playbook, rule, column, condition, number, count, mixed))
    for column, day in written.items():
        if is_worth_a_look(column, found):
            # Swapped dates of this year may lie in its future; others no table can hold.
            possible = day.between(EARLIEST.date(), future_limit(playbook).date() + dt.timedelta(366))
            problems += _check_swapped_days(mapped, source, column, possible.ifelse(day, None), count)
    first, last = ([t for c in times if (t := _to_datetime(found[f"{k}|{c}"]))] for k in ("first_at", "last_at"))
    whole = bool(times) and not any(int(found[f"within_day|{c}"]) for c in times)
    profile = TableProfile(name, rows, remaining, min(first, default=None), max(last, default=None), whole)
    return profile, problems


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
    if minority == "number":
        text = mark("user ids are numbers here and texts in {opposite}, so they never match")
    else:
        text = mark("user ids are texts here and numbers in {opposite}, so they never match")
    number_table, number_column = kinds["number"][0]
    remedy = mark(
        'Under [tables.{table}.columns] write {column} = {{ column = "...", type = "text" }}, '
        "or store both as the same type."
    )
    values = {"opposite": f"{opposite}.{opposite_column}", "table": number_table, "column": number_column}
    return [Problem(table, column, "key_types", 0, 0, "unfit", text, remedy=remedy, values=values)]


def _check_shape(mapped: MappedTable, source: TableSource) -> list[Problem]:
    contract = mapped.contract
    problems = []
    lines = ("order_id",) if source.rows == "lines" and "order_id" not in mapped.columns else ()
    for column in (*mapped.missing, *lines):
        meaning = contract.column(column)
        misspelt = [c for c in source.columns if contract.column(c) is None]
        near = find_near(column, [*mapped.raw.columns, *misspelt])
        values = {"table": contract.table, "column": column, "near": near, "columns": ", ".join(mapped.raw.columns)}
        values["meaning"] = meaning.meaning if meaning else column
        text, remedy = MEANINGS["missing_column"], suggest_column(near)
        problems.append(
            Problem(contract.table, column, "missing_column", 0, 0, "unfit", text, remedy=remedy, values=values)
        )
    if contract.either and not contract.find_groups({*mapped.columns, *mapped.wrong_kind}):
        place = say(", or ").join(say(" with ").join(group) for group in contract.either)
        remedy = mark(
            'Under [tables.{table}.columns] write {column} = "your column", and so on. The table has: {columns}.'
        )
        values = {"table": contract.table, "column": contract.either[0][0], "columns": ", ".join(mapped.raw.columns)}
        values["place"] = place
        text = MEANINGS["missing_group"]
        problems.append(
            Problem(contract.table, "", "missing_column", 0, 0, "unfit", text, remedy=remedy, values=values)
        )
    for column, (text, kind) in mapped.wrong_kind.items():
        problems.append(Problem(contract.table, column, "wrong_type", 0, 0, "unfit", text, values={"type": kind}))
    return problems


def _row_problem(
    mapped: MappedTable,
    source: TableSource,
    playbook: Playbook,
    rule: str,
    column: str,
    condition: Any,
    number: int,
    rows: int,
    mixed: bool,
) -> Problem:
    contract = mapped.contract
    meaning = contract.column(column)
    assert meaning is not None
    text = MEANINGS[rule]
    values = {
        "kind": KINDS[meaning.kind],
        "limit": str(playbook.company.data_until or f"{future_limit(playbook):%Y-%m-%d}"),
        "allowed": join_words(meaning.allowed, last="or"),
        "table": contract.table,
        "column": column,
    }
    severity: Severity = "unfit"
    remedy = ""
    origin = source.columns.get(column)
    if rule in ("unknown_category", "negative_amount", "null_value", "unknown_end", "contradiction"):
        severity = "warning"
    elif (rule, column) == ("future_time", "ended_at") and rule not in source.drop:
        severity, text = "warning", mark("lie in the future (after {limit}): these subscriptions count as running")
        if playbook.company.data_until is None:
            remedy = mark("Write data_until under [company]: the day on which the table was made.")
    elif rule == "mixed_zones":
        if not mixed:
            own = mark("carry their own time zone: read as such")
            return Problem(contract.table, column, rule, number, rows, "note", own)
        if origin is not None and origin.timezone:
            severity, text = "warning", mark("carry their own time zone; the others are read as {zone}")
            values["zone"] = origin.timezone
        else:
            remedy = mark(
                "Write all of them with a zone, or none; or say in which zone the others are: "
                '{column} = {{ column = "...", timezone = "Asia/Shanghai" }} under [tables.{table}.columns].'
            )
    elif rule in source.drop:
        values["problem"] = text
        severity, text = "warning", mark("{problem} and are left out, as [tables.{table}] drop says")
    elif rule in ROW_RULES:
        values["rule"] = rule
        remedy = mark('Mend the file, or leave these rows out: drop = ["{rule}"] under [tables.{table}].')
        if rule == "unparsable" and meaning.kind in ("timestamp", "date"):
            remedy = mark(
                'Mend the file, or leave these rows out: drop = ["{rule}"] under [tables.{table}]. If all are times of '
                "another form, say which: {column} = {{ column = \"...\", format = '%d/%m/%Y' }}, or unit = 's' for "
                "seconds since 1970."
            )
    return Problem(
        contract.table, column, rule, number, rows, severity, text,
        _find_examples(mapped, rule, column, condition), remedy, values,
    )  # fmt: skip


def _empty_problem(table: str, rows: int, kept: int) -> Problem:
    text = MEANINGS["empty_table"]
    if rows and not kept:
        text = mark("the table has no rows after [tables.{table}] keep")
    elif rows:
        text = mark("the table has no rows after [tables.{table}] drop")
    remedy = mark("Check the file and the filters.")
    return Problem(table, "", "empty_table", 0, rows, "unfit", text, remedy=remedy, values={"table": table})


def _duplicate_problem(mapped: MappedTable, source: TableSource, left: Any, number: int, rows: int) -> Problem:
    contract = mapped.contract
    column = contract.unique or ""
    table = mapped.raw if left is None else mapped.raw.filter(left)
    if column:
        keys = table.select(key=mapped.columns[column]).filter(lambda t: t.key.notnull())
        counts = keys.group_by("key").aggregate(times=lambda t: t.count())
    else:
        rows_alike = table.select(**mapped.columns).group_by(list(mapped.columns))
        counts = rows_alike.aggregate(times=lambda t: t.count())
        named = counts.user_id if "user_id" in counts.columns else ibis.literal(say("a row"))
        counts = counts.select("times", key=named)
    counts = counts.filter(counts.times > 1)
    worst = counts.order_by([counts.times.desc(), counts.key]).limit(EXAMPLES).to_pandas()
    examples = tuple(say("{key} ({count} times)", key=row.key, count=row.times) for row in worst.itertuples())
    text = MEANINGS["duplicate_key" if column else "duplicate_row"]
    values = {"table": contract.table, "problem": text}
    severity: Severity = "unfit"
    remedy = ""
    if "duplicate_key" in source.drop:
        severity = "warning"
        text = mark("{problem} and all but one are left out, as [tables.{table}] drop says")
    elif contract.table == "orders":
        remedy = mark(
            'Mend the file, or keep one row a key: drop = ["duplicate_key"] under [tables.{table}]. '
            'If each row is a line of an order, write rows = "lines".'
        )
    elif column:
        remedy = mark('Mend the file, or keep one row a key: drop = ["duplicate_key"] under [tables.{table}].')
    else:
        remedy = mark('Mend the file, or keep one of them: drop = ["duplicate_key"] under [tables.{table}].')
    return Problem(
        contract.table, column, "duplicate_key", number, rows, severity, text, examples, remedy, values
    )  # fmt: skip


def _check_swapped_days(mapped: MappedTable, source: TableSource, column: str, day: Any, rows: int) -> list[Problem]:
    """One aggregate by day of a column that has days outside the stretch of the others."""
    found = look_for_swapped_days(mapped.raw.select(day=day, shown=mapped.raw_columns[column].cast("string")))
    if found is None:
        return []
    swapped, examples = found
    name = mapped.contract.table
    text, remedy, values = word_swapped(swapped, name, column, source.columns.get(column, ColumnSource(column=column)))
    return [Problem(name, column, "swapped_days", swapped.count, rows, "warning", text, examples, remedy, values)]


def _find_examples(mapped: MappedTable, rule: str, column: str, condition: Any) -> tuple[str, ...]:
    shown: dict[str, Any] = {column: mapped.raw_columns.get(column, mapped.columns[column])}
    if rule.startswith("null"):  # there is nothing to show but what stands beside it
        keys = (c.name for c in mapped.contract.columns if c.kind in ("key", "timestamp", "date") and c.name != column)
        beside = next((c for c in keys if c in mapped.raw_columns), None)
        shown |= {beside: mapped.raw_columns[beside]} if beside else {}
    rows = mapped.raw.filter(within(condition, mapped.kept)).select(**shown).distinct()
    rows = rows.order_by(rows.columns).limit(EXAMPLES)
    texts = []
    for record in rows.select(**{c: rows[c].cast("string") for c in rows.columns}).to_pandas().to_dict("records"):
        filled = {k: str(v)[:60] for k, v in record.items() if not pd.isna(v)}
        others = say(", ").join(f"{k} {v}" for k, v in filled.items())
        if column in filled:
            texts.append(f"'{filled[column]}'")
        else:
            texts.append(say("the row with {values}", values=others) if others else say("an empty row"))
    return tuple(texts)


def _to_datetime(value: Any) -> dt.datetime | None:
    return None if value is None or pd.isna(value) else pd.Timestamp(value).to_pydatetime()


def describe_contract(contract: Contract) -> str:
    """One line on what a table is for, used where it is missing.

    >>> describe_contract(CONTRACTS["spend"])
    "spend (one day's spend on one channel): date, channel, amount"
    """
    required = ", ".join(c.name for c in contract.columns if c.required)
    either = ", or ".join(" with ".join(group) for group in contract.either)
    return f"{contract.table} ({contract.grain}): {required}" + (f", and {either}" if either else "")

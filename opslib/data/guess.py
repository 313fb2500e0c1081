"""Looking at a user's own files and guessing the playbook: which table each is, which column means what, and why."""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ibis
import ibis.expr.types as ir

from opslib.data.contract import CONTRACTS, Column
from opslib.data.draft import Guess, TableGuess, quote, write_toml
from opslib.data.files import FileFormat, detect_format, find_files, read_files
from opslib.data.guess_subscriptions import (
    ask_about_subscriptions,
    guess_attributes,
    guess_last_day,
    looks_like_subscriptions,
    reads_as_meant,
)
from opslib.data.mapping import parse_format, parse_iso, read_written_day
from opslib.data.settings import ColumnSource
from opslib.data.swapped_dates import look_for_swapped_days, say_swapped
from opslib.data.vocabulary import DATE_FORMATS, QUANTITY, UNIT_PRICE, find_named, plain_name
from opslib.errors import InputError

ISO = "ISO"
# A format is believed when this share of the values fits: a few broken values are for `opslib check` to name.
ENOUGH_RATE = 0.95
# All formats are tried on the first values only, and those on all values that fit this share of them.
SAMPLE_ROWS = 200
SAMPLE_RATE = 0.8
ANY = "any"
UNIX_RANGES = {"s": 1e9, "ms": 1e12, "us": 1e15, "ns": 1e18}


def write_playbook(
    sources: Sequence[str | Path], *, out: str | Path = "playbook.toml", force: bool = False
) -> list[TableGuess]:
    """Look at data files and write a commented playbook for them.

    Args:
        sources: files, folders or globs; each file becomes one table.
        out: the playbook to write.
        force: replace an existing file.

    Returns:
        What was guessed, one entry a table; `questions` holds what the user should confirm.

    Raises:
        InputError: nothing readable, no times or no users to be found, or `out` exists.
    """
    out = Path(out)
    if out.exists() and not force:
        raise InputError(f"'{out}' exists. Name another file with --out, or replace it with --force.")
    if not out.parent.is_dir():
        raise InputError(f"There is no folder '{out.parent}' to write the playbook to.")
    found = {Path(source): find_files(str(source), Path.cwd()) for source in sources}
    files = [file for parts in found.values() for file in parts]
    guesses = _guess_all(found, out.parent)
    if not guesses.keys() & {"events", "orders", "subscriptions"}:
        # Users with an end can be subscriptions, which make a company where nothing else tells who was there.
        guesses = _guess_all(found, out.parent, subscriptions_first=True)
    name = files[0].stem if len(files) == 1 else files[0].parent.resolve().name
    company = guess_last_day(guesses, files)
    partial = out.with_name(out.name + ".partial")
    try:
        partial.write_text(write_toml(name or "My company", company, list(guesses.values())), encoding="utf-8")
        partial.replace(out)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise InputError(f"'{out}' cannot be written: {error.strerror}.") from None
    return list(guesses.values())


def _guess_all(found: dict[Path, list[Path]], folder: Path, subscriptions_first: bool = False) -> dict[str, TableGuess]:
    guesses: dict[str, TableGuess] = {}
    for source, files in found.items():
        for guess in _guess_source(source, files, folder, subscriptions_first):
            if guess.table in guesses:
                raise InputError(
                    f"'{guess.source}' and '{guesses[guess.table].source}' both look like table {guess.table}. "
                    "Name one of them, or put the parts of one table into a folder of their own and name the folder."
                )
            guesses[guess.table] = guess
    return guesses


def _guess_source(source: Path, files: list[Path], folder: Path, subscriptions_first: bool = False) -> list[TableGuess]:
    """One table a file; but the files of a folder or glob that all look like one table are its parts."""
    guesses = [guess_table(file, folder=folder, subscriptions_first=subscriptions_first) for file in files]
    if len(files) == 1 or len({guess.table for guess in guesses}) > 1:
        return guesses
    return [guess_table(*files, folder=folder, source=source, subscriptions_first=subscriptions_first)]


def guess_table(
    *files: Path, folder: Path = Path(), source: Path | None = None, subscriptions_first: bool = False
) -> TableGuess:
    """Guess what a file is, or the parts of one table, which `source` (a folder or glob) names.

    Args:
        files: the file, or its parts.
        folder: where the playbook will be.
        source: what to name instead of the file.
        subscriptions_first: whether what can be subscriptions is, though it could be another table as well.

    Raises:
        InputError: there is no column that reads like a time or like a user.
    """
    file = files[0]
    form = detect_format(file)
    connection = ibis.duckdb.connect()
    raw = read_files(connection, list(files))
    if form.kind == "text":
        # As the playbook's reader will: the engine's own guess at dates takes 03/04/2026 for either.
        times = [c for c in raw.columns if raw[c].type().is_temporal()]
        raw = read_files(connection, list(files), as_text=tuple(times))
    rows = int(raw.count().to_pandas())
    if rows == 0:
        raise InputError(f"'{file.name}' has column names, but no rows: there is nothing to look at.")
    can_be = subscriptions_first and looks_like_subscriptions(file, raw)
    table = "subscriptions" if can_be else _choose_table(file, raw, form)
    guess = TableGuess(table, _relative(source or file, folder), rows)
    if form.kind == "text" and (form.delimiter != "," or not form.header):
        guess.settings.append(Guess("delimiter", json.dumps(form.delimiter), "what stands between the values"))
        reason = "the first line holds names" if form.header else "the first line holds values, so columns are numbered"
        guess.settings.append(Guess("header", "true" if form.header else "false", reason))
    taken: set[str] = set()
    for column in CONTRACTS[table].columns:
        found = _guess_column(column, table, raw, form, taken)
        if found is None and table == "tickets":
            found = _stand_in(column, guess)
        if found is not None:
            guess.columns.append(found)
        elif column.required:
            raise InputError(
                f"'{file.name}' looks like table {table}, but no column reads like {column.name} ({column.meaning}). "
                f"Its columns: {', '.join(raw.columns)}. Rename one to {column.name}, or write the playbook by hand."
            )
    contract = CONTRACTS[table]
    if contract.either and not contract.find_groups([g.key for g in guess.columns]):
        groups = ", or ".join(" with ".join(group) for group in contract.either)
        raise InputError(
            f"'{file.name}' looks like table {table}, but no columns read like {groups}. "
            f"Its columns: {', '.join(raw.columns)}. Rename them so, or write the playbook by hand."
        )
    _ask(guess, raw)
    _ask_about_days(guess, raw)
    if table == "subscriptions":
        guess.columns += guess_attributes(raw, taken)
        guess.questions += ask_about_subscriptions(guess, raw)
    return guess


def _stand_in(column: Column, guess: TableGuess) -> Guess | None:
    """What a file of complaints often lacks: who wrote, and that each row is a complaint."""
    if column.name == "is_complaint":
        guess.questions.append("tickets: is every row a complaint? If not, name the column that says so.")
        return Guess("is_complaint", "{ value = true }", "please confirm: every row is taken for a complaint")
    key = next((line.value for line in guess.columns if line.key == "ticket_id"), None)
    if column.name != "user_id" or key is None:
        return None
    guess.questions.append("tickets: no column reads like a user, so each ticket counts as a user of its own.")
    return Guess("user_id", key, "no column reads like a user: each ticket counts as one")


def _ask_about_days(guess: TableGuess, raw: ir.Table) -> None:
    """Dates that look as if day and month were swapped where the day can be a month."""
    for line in guess.columns:
        column = CONTRACTS[guess.table].column(line.key)
        if column is None or column.kind not in ("timestamp", "date"):
            continue
        given = tomllib.loads(f"it = {line.value}")["it"]
        origin = ColumnSource(column=given) if isinstance(given, str) else ColumnSource(**given)
        day = read_written_day(raw[origin.column], origin, column.kind) if origin.column else None
        found = (
            None if day is None else look_for_swapped_days(raw.select(day=day, shown=raw[origin.column].cast("string")))
        )
        if found is not None:
            text, remedy = say_swapped(found[0], guess.table, line.key, origin)
            counted = f"{guess.table}.{line.key}: {found[0].count:,} of {guess.rows:,} rows {text}"
            guess.questions.append(f"{counted}, for example {', '.join(found[1])}. {remedy}")


def _relative(file: Path, folder: Path) -> str:
    try:
        return Path(os.path.relpath(file.resolve(), folder.resolve())).as_posix()
    except ValueError:  # another drive
        return file.resolve().as_posix()


def _choose_table(file: Path, raw: ir.Table, form: FileFormat) -> str:
    for word in (plain_name(file.stem), plain_name(file.parent.name)):
        for table in CONTRACTS:
            if word in (table, table.rstrip("s")):
                return table
    scores = {}
    for name, contract in CONTRACTS.items():
        required = [c.name for c in contract.columns if c.required]
        own = [c for c in required if c not in ("user_id", "ts", "amount", "event")]
        if own and all(find_named(raw.columns, c) for c in required) and _is_unique(raw, contract.unique):
            scores[name] = len(required)
    if scores:
        return max(scores, key=lambda n: (scores[n], n))
    if find_named(raw.columns, "ticket_id") and not find_named(raw.columns, "event"):
        return "tickets"
    if looks_like_subscriptions(file, raw):
        return "subscriptions"
    plain = {plain_name(c) for c in raw.columns}
    priced = bool(plain & set(QUANTITY)) and bool(plain & set(UNIT_PRICE))
    has_amount = find_named(raw.columns, "amount") or priced
    decimals = [c for c in raw.columns if raw[c].type().is_floating()]
    if find_named(raw.columns, "event"):
        return "events"
    return "orders" if has_amount or (not form.header and decimals) else "events"


def _is_unique(raw: ir.Table, key: str | None) -> bool:
    """Tell whether the column that reads like a table's key has no repeats: a log of sign-ins is no table of users."""
    name = find_named(raw.columns, key) if key else None
    if name is None:
        return True
    counts = raw.aggregate(filled=raw[name].count(), keys=raw[name].nunique()).to_pandas().iloc[0]
    return bool(counts["filled"] == counts["keys"])


def _guess_column(column: Column, table: str, raw: ir.Table, form: FileFormat, taken: set[str]) -> Guess | None:
    name = find_named(raw.columns, column.name, taken)
    why = "the name says so"
    if name is None and not form.header and column.required:
        name, why = _by_value(column, raw, taken)
    if column.name == "amount" and table == "orders":
        plain = {plain_name(c): c for c in raw.columns}
        quantity = next((plain[q] for q in QUANTITY if q in plain), None)
        price = next((plain[p] for p in UNIT_PRICE if p in plain), None)
        if quantity and price and (name is None or name == price):
            taken |= {quantity, price}
            value = f"{{ multiply = [{quote(quantity)}, {quote(price)}] }}"
            return Guess("amount", value, "quantity times unit price")
    if name is None and column.name == "event":
        return Guess("event", '{ value = "active" }', "the file names no event: every row counts as activity")
    if name is None and column.kind in ("timestamp", "date") and column.required:
        name, why = _by_value(column, raw, taken)
    if name is None or (table == "subscriptions" and not reads_as_meant(raw, column, name)):
        return None
    taken.add(name)
    quoted = quote(name)
    if column.kind in ("timestamp", "date"):
        options, reason = _guess_time(raw, name)
        if options is None:
            if not column.required:
                return None
            raise InputError(
                f"Column '{name}' should say when things happened ({column.name}), but its values do not read like "
                f"times, for example {_examples(raw, name)}. "
                "Store them as 2026-06-30 12:34:56, or name their format in the playbook."
            )
        return Guess(column.name, f"{{ column = {quoted}{options} }}" if options else quoted, f"{why}; {reason}")
    if column.kind == "key" and raw[name].type().is_string() and raw[name].type() != "uuid":
        why += f"; for example {_examples(raw, name)}"
    return Guess(column.name, quoted, why)


def _by_value(column: Column, raw: ir.Table, taken: set[str]) -> tuple[str | None, str]:
    free = [c for c in raw.columns if c not in taken]
    if column.kind in ("timestamp", "date"):
        for name in free:
            if _guess_time(raw, name)[0] is not None:
                return name, "the first column that reads like a time"
    elif column.kind == "key":
        for name in free:
            if (raw[name].type().is_integer() and _guess_time(raw, name)[0] is None) or raw[name].type().is_string():
                return name, "the first column that reads like an id"
    elif column.kind == "number":
        for name in reversed(free):
            if raw[name].type().is_floating():
                return name, "the last column of decimal numbers"
    return None, ""


def _guess_time(raw: ir.Table, name: str) -> tuple[str | None, str]:
    """The options that make a column a time (empty text: none needed), or None when it is not one; and the reason."""
    column = raw[name]
    kind = column.type()
    if kind.is_timestamp() or kind.is_date():
        return "", "times in the file"
    if kind.is_integer() or kind.is_floating():
        bounds = raw.aggregate(low=column.min(), high=column.max()).to_pandas().iloc[0]
        low, high = float(bounds["low"] or 0), float(bounds["high"] or 0)
        for unit, size in UNIX_RANGES.items():
            if 0.3 * size <= low and high <= 3 * size:
                return f', unit = "{unit}"', "numbers that fit a count since 1970"
        digits = column.cast("int64").cast("string")
        if low >= 19000101 and high <= 21001231 and _find_formats(raw, digits, ["%Y%m%d"]):
            return ', format = "%Y%m%d"', "numbers that read like 20260630"
        return None, ""
    if kind.is_string():
        fitting = _find_formats(raw, column.strip(), [ISO, *DATE_FORMATS])
        if ISO in fitting:
            return "", "texts that read like 2026-06-30"
        if fitting:
            doubt = f"; {fitting[1]} fits as well, so look at a few days" if len(fitting) > 1 else ""
            return f', format = "{fitting[0]}"', f"the texts fit {fitting[0]}{doubt}"
    return None, ""


def _find_formats(raw: ir.Table, text: Any, formats: Sequence[str]) -> list[str]:
    """The formats that fit best, if they fit nearly all filled texts of a column."""
    start = raw.select(text=text).filter(lambda t: t.text.notnull() & (t.text != "")).limit(SAMPLE_ROWS).cache()
    likely = _count_fits(start, start.text, formats)
    likely = {f: n for f, n in likely.items() if n >= SAMPLE_RATE * likely[ANY]}
    if likely.keys() <= {ANY} or not likely[ANY]:
        return []
    fits = _count_fits(raw, text, [f for f in formats if f in likely])
    filled = fits.pop(ANY)
    best = max(fits.values())
    return [f for f, n in fits.items() if n == best >= ENOUGH_RATE * filled]


def _count_fits(table: ir.Table, text: Any, formats: Sequence[str]) -> dict[str, int]:
    """How many filled texts fit each format, and how many there are (`ANY`)."""
    filled = text.notnull() & (text != "")
    parsed = {f: parse_iso(text) if f == ISO else parse_format(text, f) for f in formats}
    # The engine's %Y takes 26 for the year 26.
    fits = {str(i): (filled & (parsed[f] >= ibis.timestamp("1900-01-01"))).sum() for i, f in enumerate(formats)}
    counts = table.aggregate(**{ANY: filled.sum()}, **fits).fill_null(0).to_pandas().iloc[0]
    return {ANY: int(counts[ANY])} | {f: int(counts[str(i)]) for i, f in enumerate(formats)}


def _examples(raw: ir.Table, name: str) -> str:
    values = raw.filter(raw[name].notnull()).select(name).distinct().order_by(name).limit(2).to_pandas()[name]
    return " and ".join(f"'{str(v)[:40]}'" for v in values)


def _ask(guess: TableGuess, raw: ir.Table) -> None:
    """Settings that follow from the values: rows to leave out, several rows an order; and what to confirm."""
    columns = {g.key: g.value for g in guess.columns}
    keep: list[str] = []
    reasons: list[str] = []
    user = columns.get("user_id")
    if user:
        name = json.loads(user)
        empty = int(raw[name].isnull().sum().to_pandas() or 0)
        if empty:
            keep.append(f"{{ column = {user}, is_present = true }}")
            reasons.append(f"{empty:,} of {guess.rows:,} rows have no {name}, so they belong to nobody")
    amount = columns.get("amount")
    if guess.table == "orders" and amount:
        sources = re.findall(r'"(?:[^"\\]|\\.)*"', amount)
        for quoted in sources:
            name = json.loads(quoted)
            number = raw[name].try_cast("float64")
            bad = raw.filter(raw[name].notnull() & number.isnull()).select(name).limit(1).to_pandas()[name]
            if len(bad):
                guess.questions.append(f"orders.amount: {name} holds texts that are no numbers, like '{bad[0]}'.")
            not_paid = int((number <= 0).sum().to_pandas() or 0)
            if not_paid and amount.startswith("{ multiply") and not raw[name].type().is_string():
                keep.append(f"{{ column = {quoted}, above = 0 }}")
                reasons.append(f"{not_paid:,} rows have {name} of 0 or less (cancellations, gifts, corrections)")
        order = columns.get("order_id")
        if order:
            key = raw[json.loads(order)]
            counts = raw.aggregate(filled=key.count(), keys=key.nunique()).to_pandas().iloc[0]
            if counts["filled"] > counts["keys"]:
                shared = f"{int(counts['filled']):,} rows share {int(counts['keys']):,} order ids"
                reason = f"{shared}: each row is a line of an order"
                guess.settings.append(Guess("rows", '"lines"', reason))
    if keep:
        guess.settings.append(Guess("keep", f"[{', '.join(keep)}]", "; ".join(reasons)))
        guess.questions.append(f"{guess.table}: rows are left out: {'; '.join(reasons)}.")
    guess.questions += [
        f"{guess.table}.{g.key} = {g.value}: {g.reason}." for g in guess.columns if "fits as well" in g.reason
    ]

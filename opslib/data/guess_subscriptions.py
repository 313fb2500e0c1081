"""Recognising a table of subscriptions, and what in it cannot be known from its values alone."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from typing import Any

import ibis.expr.types as ir

from opslib.data.contract import Column
from opslib.data.draft import Guess, TableGuess, quote
from opslib.data.mapping import read_flag, read_number
from opslib.data.vocabulary import SUBSCRIPTION_WORDS, SYNONYMS, find_named, plain_name

# A column is believed to hold what its name says when this share of its values reads so.
ENOUGH_RATE = 0.95
# Where so many rows have no end, they are no sessions: most of those are over.
RUNNING_RATE = 0.05


def looks_like_subscriptions(file: Path, raw: ir.Table) -> bool:
    """Tell whether rows are subscriptions: how long one has run and whether it ended, or from when to when it ran."""
    names = {t: find_named(raw.columns, t) for t in ("user_id", "event", "tenure_months", "ended", "started_at")}
    if names["user_id"] is None or names["event"] is not None:
        return False
    tenure, ended = names["tenure_months"], names["ended"]
    if tenure and ended and _reads_as(raw, tenure, "number") and _reads_as(raw, ended, "flag"):
        return True
    ended_at = find_named(raw.columns, "ended_at")
    if names["started_at"] is None or ended_at is None:
        return False
    words = " ".join((file.stem, *raw.columns)).lower()
    if any(word in words for word in SUBSCRIPTION_WORDS):
        return True
    counts = raw.aggregate(rows=raw.count(), filled=_filled(raw[ended_at]).sum().fill_null(0)).to_pandas().iloc[0]
    return bool(counts["rows"] - counts["filled"] >= RUNNING_RATE * counts["rows"])


def reads_as_meant(raw: ir.Table, column: Column, name: str) -> bool:
    """Tell whether a column's values are numbers or flags where the contract wants such; anything else will do."""
    return column.kind not in ("number", "flag") or _reads_as(raw, name, column.kind)


def guess_attributes(raw: ir.Table, taken: Container[str]) -> list[Guess]:
    """Further columns that are not what the file makes of them: numbers kept as text, flags kept as 0 and 1."""
    free = [c for c in raw.columns if c not in taken and plain_name(c) not in SYNONYMS["ended"]]
    texts = [c for c in free if raw[c].type().is_string()]
    whole = [c for c in free if raw[c].type().is_integer()]
    sums: dict[str, Any] = {"rows": raw.count()}
    for i, name in enumerate(texts):
        sums[f"filled{i}"] = _filled(raw[name]).sum().fill_null(0)
        sums[f"number{i}"] = read_number(raw[name]).notnull().sum().fill_null(0)
    for i, name in enumerate(whole):
        sums |= {f"low{i}": raw[name].min(), f"high{i}": raw[name].max()}
    found = raw.aggregate(**sums).to_pandas().iloc[0]
    guesses = []
    for i, name in enumerate(texts):
        if found[f"filled{i}"] and found[f"filled{i}"] == found[f"number{i}"]:
            blank = int(found["rows"] - found[f"filled{i}"])
            guesses.append(_type_further(name, "number", f"numbers; {blank:,} of {int(found['rows']):,} are blank"))
    for i, name in enumerate(whole):
        if (found[f"low{i}"], found[f"high{i}"]) == (0, 1):
            guesses.append(_type_further(name, "flag", "only 0 and 1: no and yes"))
    return guesses


def ask_about_subscriptions(guess: TableGuess, raw: ir.Table) -> list[str]:
    """What the user should confirm: what a tenure counts, and who counts as gone."""
    columns = {g.key: g.value for g in guess.columns}
    questions = []
    tenure, ended = columns.get("tenure_months"), columns.get("ended")
    if tenure and "month" not in tenure.lower() and "月" not in tenure:
        questions.append(f"subscriptions.tenure_months = {tenure}: taken as months, which its name does not say.")
    if ended:
        gone = int(raw.aggregate(n=read_flag(raw[json.loads(ended)]).sum().fill_null(0)).to_pandas()["n"][0])
        questions.append(f"subscriptions.ended = {ended}: {gone:,} of {guess.rows:,} rows have ended.")
    return questions


def guess_last_day(guesses: Mapping[str, TableGuess], files: Sequence[Path]) -> list[Guess]:
    """The day on which subscriptions without any time were looked up, where nothing else tells it: the file's own."""
    table = guesses.get("subscriptions")
    if table is None or "events" in guesses or "orders" in guesses:
        return []
    if any(g.key in ("started_at", "ended_at") for g in table.columns):
        return []
    day = dt.datetime.fromtimestamp(max(file.stat().st_mtime for file in files), dt.UTC).date()
    why = "the day on which tenure and end were looked up; the file was last written then"
    table.questions.append(f"company.data_until = {day}: {why}.")
    return [Guess("data_until", str(day), f"please confirm: {why}")]


def _type_further(name: str, kind: str, reason: str) -> Guess:
    return Guess(name, f'{{ column = {quote(name)}, type = "{kind}" }}', reason)


def _reads_as(raw: ir.Table, name: str, kind: str) -> bool:
    column = raw[name]
    given = column.type()
    if given.is_boolean():
        return kind == "flag"
    if not given.is_string() and (kind == "number" or not given.is_numeric()):
        return given.is_numeric()
    fits = column.isin((0, 1)) if given.is_numeric() else _READS[kind](column).notnull()
    found = raw.aggregate(filled=_filled(column).sum().fill_null(0), fits=fits.sum().fill_null(0)).to_pandas().iloc[0]
    return bool(found["filled"] and found["fits"] >= ENOUGH_RATE * found["filled"])


def _filled(column: Any) -> Any:
    return column.notnull() & (column.strip() != "") if column.type().is_string() else column.notnull()


_READS = {"number": read_number, "flag": read_flag}

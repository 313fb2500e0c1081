"""What can be wrong with a table, in words.

Data are checked once, and read by whoever opens a report: texts are kept with what they name, and said when shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from opslib.errors import find_near
from opslib.language import join_sentences, mark, say

Severity = Literal["unfit", "warning", "note"]

SEVERITIES = {"unfit": mark("unfit"), "warning": mark("warning"), "note": mark("note")}
KINDS = {
    "timestamp": mark("a time"),
    "date": mark("a date"),
    "key": mark("an id"),
    "number": mark("a number"),
    "text": mark("a text"),
    "flag": mark("true or false"),
}
MEANINGS = {
    "missing_column": mark("the column is missing ({meaning})"),
    "missing_group": mark("columns are missing: {place}"),
    "empty_table": mark("the table has no rows"),
    "null_key": mark("have no value"),
    "null_value": mark("have no value and count as nothing"),
    "duplicate_key": mark("repeat a key that must be unique"),
    "duplicate_row": mark("repeat another row in every column"),
    "unparsable": mark("hold something that cannot be read as {kind}"),
    "mixed_zones": mark("carry a time zone while the others do not"),
    "future_time": mark("lie in the future (after {limit})"),
    "absurd_time": mark("lie before 1990"),
    "unknown_category": mark("hold a value other than {allowed}"),
    "negative_amount": mark("are negative"),
    "negative_time": mark("lie before started_at"),
    "negative_tenure": mark("are negative"),
    "unknown_end": mark("have ended, but nothing says when"),
    "contradiction": mark("say that it runs, while ended_at says that it ended"),
    "unknown_user": mark("name a user who is not in table users"),
    "filtered": mark("are left out by [tables.{table}] keep"),
}
# What is lacking where neither events nor orders are given, by what is.
INACTIVE = {
    "nothing": mark("neither events nor orders are given, so nobody is ever active"),
    "events without users": mark(
        "neither events nor orders are given, so these data tell of complaints, satisfaction or traffic, but not of "
        "how many users that is"
    ),
    "subscriptions": mark(
        "neither events nor orders are given, so these data tell who left after how long, but not who was active when, "
        "nor growth, retention or funnels"
    ),
}
SHOWN_VALUES = 12
# Values of a problem that are texts of their own, each of which may hold those before it.
OWN_WORDS = ("kind", "meaning", "problem")


@dataclass(frozen=True)
class Problem:
    """One rule that a table breaks: where, how often, what it looks like, how bad it is and what to do.

    Attributes:
        table, column, rule, count, rows, severity: ids and numbers; `count` of `rows` break the rule, 0 where it is not
            about rows.
        text, remedy: what is wrong, in words that follow a number of rows, and what to do; texts for `say`.
        examples: of what breaks the rule.
        values: what text and remedy name.

    >>> print(Problem("events", "ts", "absurd_time", 2, 90, "unfit", MEANINGS["absurd_time"], ("'1970-01-01'",)))
    events.ts: 2 of 90 rows lie before 1990 (absurd_time), for example '1970-01-01'.
    """

    table: str
    column: str
    rule: str
    count: int
    rows: int
    severity: Severity
    text: str
    examples: tuple[str, ...] = ()
    remedy: str = ""
    values: Mapping[str, str | int] = field(default_factory=dict)

    def __str__(self) -> str:
        values = dict(self.values)
        for name in OWN_WORDS:
            if name in values:
                values[name] = say(str(values[name]), **values)
        place = f"{self.table}.{self.column}" if self.column else self.table
        text = say(self.text, **values)
        if self.count:
            text = say("{count:,} of {rows:,} rows {problem}", count=self.count, rows=self.rows, problem=text)
        if self.examples:
            examples = say(", ").join(self.examples)
            template = mark("{place}: {problem} ({rule}), for example {examples}.")
            sentence = say(template, place=place, problem=text, rule=self.rule, examples=examples)
        else:
            sentence = say("{place}: {problem} ({rule}).", place=place, problem=text, rule=self.rule)
        return join_sentences([sentence, say(self.remedy, **values)])


def report_activity(absent: list[str], known: list[str], rows: int, *, nobody: bool) -> Problem:
    """[activity] names events that do not occur (`absent`), or leaves nobody active; `known` are those to show."""
    if not absent:
        text = mark("[activity] leaves nobody active")
    elif nobody:
        text = mark("[activity] names events that do not occur: {absent}, which leaves nobody active")
    else:
        text = mark("[activity] names events that do not occur: {absent}")
    hints = [say("Did you mean '{name}'?", name=near) for name in absent if (near := find_near(name, known))]
    values = {"absent": ", ".join(absent), "hints": join_sentences(hints), "known": ", ".join(known[:SHOWN_VALUES])}
    remedy = mark("{hints} Events: {known}.") if hints else mark("Events: {known}.")
    severity: Severity = "unfit" if nobody else "warning"
    return Problem("events", "event", "unknown_category", 0, rows, severity, text, (), remedy, values)


def suggest_column(near: str) -> str:
    """What to write where a column is missing; `near` is a column of the table with a name like it, or empty."""
    if near:
        return mark(
            "Under [tables.{table}.columns] write {column} = \"your column\". Did you mean '{near}'? "
            "The table has: {columns}."
        )
    return mark('Under [tables.{table}.columns] write {column} = "your column". The table has: {columns}.')

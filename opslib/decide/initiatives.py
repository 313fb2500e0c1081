"""The register of initiatives (H18): what was decided, who does it, what it is to bring, and where each stands."""

from __future__ import annotations

import csv
import datetime as dt
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from pydantic import ValidationError

from opslib.data.operations import METRICS, InitiativeSettings
from opslib.data.periods import DAY
from opslib.data.playbook import Playbook
from opslib.errors import InputError, suggest_name

Status = Literal["planned", "running", "watching", "due", "killed", "decided"]

COLUMNS = tuple(InitiativeSettings.model_fields)
REQUIRED = ("name", "owner", "metric", "start")
LISTS = ("unaffected", "behaviour", "feedback", "guardrails")
# What a column holds, for messages.
ALLOWED = {
    "start": "a date such as 2026-04-01",
    "watch_until": "a date such as 2026-09-30, or nothing",
    "target": "a number such as 0.25, or nothing",
    "expected_change": "a number such as 0.05 (5 points of a rate), or nothing",
    "expected_low": "a number such as 0.02, or nothing",
    "expected_high": "a number such as 0.08, or nothing",
    "difficulty": "a whole number of stars from 1 to 5, or nothing",
    "budget": "a number from 0, or nothing",
    "payback_months": "two whole numbers such as 1;3, or nothing",
    "kill_rule": "metric<value or metric>value after N days, such as d7_rate<0.2 after 60 days, or nothing",
    "owner": "a name",
    "name": "a name",
}
METRIC_LIST = f"metrics separated by ;, out of {', '.join(METRICS)}"
KILL_RULE = re.compile(r"\s*(\w+)\s*([<>])\s*([-+\d.eE]+)\s*(?:after\s+(\d+)\s+days?)?\s*")
# A spreadsheet's file: so large a register is something else.
MOST_ROWS = 2_000
# What our own exports put before a text that a spreadsheet would take for a formula.
GUARDED = re.compile(r"'\s*[=+\-@＝＋－＠\t]")
# From so many days on, something newly begun is watched rather than built.
RUNNING_DAYS = 28


@dataclass(frozen=True)
class Register:
    """All initiatives, in order of their start.

    Attributes:
        initiatives: each as its settings.
        sources: name -> where it was written, such as `initiatives.csv line 3`.
    """

    initiatives: tuple[InitiativeSettings, ...]
    sources: dict[str, str]

    def find(self, name: str) -> InitiativeSettings:
        """The initiative of a name.

        Raises:
            InputError: there is none.
        """
        found = next((i for i in self.initiatives if i.name == name), None)
        if found is None:
            known = f"There are: {', '.join(self.sources)}." if self.sources else "The register is empty."
            raise InputError(f"There is no initiative '{name}'.{suggest_name(name, self.sources)} {known}")
        return found

    def to_frame(self) -> pd.DataFrame:
        """One row an initiative with the columns of the CSV, as texts that `list_initiatives` reads back."""
        rows = [{c: _write_cell(getattr(i, c)) for c in COLUMNS} for i in self.initiatives]
        return pd.DataFrame(rows, columns=list(COLUMNS))

    def findings(self) -> list[dict[str, Any]]:
        """One flat record an initiative."""
        rows = self.to_frame().to_dict("records")
        return [{"record": "initiative", **{str(k): v for k, v in row.items()}} for row in rows]


def list_initiatives(playbook: Playbook) -> Register:
    """List the initiatives of the playbook and of its CSV.

    Args:
        playbook: [[initiatives]], and [initiatives_file] source: a CSV with the same columns (also with ; or tabs
            between them); lists are separated by ;, a kill rule is written `d7_rate<0.2 after 60 days`.

    Returns:
        A `Register`, by start and name.

    Raises:
        InputError: a file that cannot be read, a column or cell that is not understood, a name that comes twice; the
            message names file, line, column and what is allowed.

    >>> from opslib.data.playbook import Playbook
    >>> item = {"name": "Checklist", "owner": "Growth", "metric": "d1_rate", "start": "2026-01-05"}
    >>> book = {"company": {"name": "A"}, "tables": {"events": {"source": "e.csv"}}, "initiatives": [item]}
    >>> [i.last_day.isoformat() for i in list_initiatives(Playbook.model_validate(book)).initiatives]
    ['2026-07-05']
    """
    found = [(item, playbook.path.name) for item in playbook.initiatives]
    if playbook.initiatives_file is not None:
        found += read_register(playbook.folder / Path(playbook.initiatives_file.source).expanduser())
    sources: dict[str, str] = {}
    for item, source in found:
        if item.name in sources:
            raise InputError(f"{source}: the initiative '{item.name}' is in {sources[item.name]} already: rename one.")
        sources[item.name] = source
    ordered = sorted((item for item, _ in found), key=lambda i: (i.start, i.name))
    return Register(tuple(ordered), sources)


def read_register(path: Path) -> list[tuple[InitiativeSettings, str]]:
    """Read initiatives from a CSV, each with where it stands. Raises InputError as `list_initiatives`."""
    name = path.name
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise InputError(f"[initiatives_file] source: there is no file '{name}' beside the playbook.") from None
    except UnicodeDecodeError:
        raise InputError(f"{name} is not a text file in UTF-8: save it as CSV UTF-8.") from None
    except OSError as error:
        raise InputError(f"{name} cannot be read: {error.strerror}.") from None
    head = text.partition("\n")[0]
    reader = csv.reader(text.splitlines(keepends=True), delimiter=max(",;\t", key=head.count))
    try:
        header = [cell.strip().casefold() for cell in next(reader, [])]
        _check_header(header, name)
        found: list[tuple[InitiativeSettings, str]] = []
        for cells in reader:
            where = f"{name} line {reader.line_num}"
            if not any(cell.strip() for cell in cells):
                continue
            if len(found) >= MOST_ROWS:
                raise InputError(f"{name} has more than {MOST_ROWS:,} rows: that is no register of initiatives.")
            if len(cells) > len(header):
                raise InputError(
                    f"{where}: {len(cells)} cells, but {len(header)} columns. Put a text that holds the separator in "
                    "double quotes."
                )
            row = dict(zip(header, cells, strict=False))
            found.append((_read_row(row, where), where))
    except csv.Error as error:
        raise InputError(f"{name} line {reader.line_num} cannot be read as CSV: {error}.") from None
    return found


def find_status(initiative: InitiativeSettings, as_of: dt.date, *, killed: bool = False) -> Status:
    """Where an initiative stands at the end of a day.

    Returns:
        "planned" (not begun), "running" (in its first 28 days), "watching" (until its last day), "due" (watched to the
        end, and nothing decided), "killed" (its kill rule is met: to be given up), "decided".

    >>> item = InitiativeSettings(name="A", owner="B", metric="d1_rate", start=dt.date(2026, 1, 1))
    >>> [find_status(item, dt.date(2026, m, 15)) for m in (1, 4, 9)]
    ['running', 'watching', 'due']
    """
    if initiative.decision.strip():
        return "decided"
    if as_of < initiative.start:
        return "planned"
    if killed:
        return "killed"
    if as_of >= initiative.last_day:
        return "due"
    return "running" if as_of < initiative.start + RUNNING_DAYS * DAY else "watching"


def _check_header(header: list[str], name: str) -> None:
    listed = ", ".join(COLUMNS)
    if not any(header):
        raise InputError(f"{name} line 1 has no columns. It takes {', '.join(REQUIRED)}; it may have {listed}.")
    for column in header:
        if column not in COLUMNS:
            shown = f"column '{column}'" if column else "a column without a name"
            raise InputError(f"{name} line 1: {shown} is not known.{suggest_name(column, COLUMNS)} Columns: {listed}.")
    twice = next((c for c in header if header.count(c) > 1), None)
    if twice:
        raise InputError(f"{name} line 1: column '{twice}' is there twice.")
    missing = [c for c in REQUIRED if c not in header]
    if missing:
        raise InputError(f"{name} line 1: column '{missing[0]}' is missing. It takes {', '.join(REQUIRED)}.")


def _read_row(row: dict[str, str], where: str) -> InitiativeSettings:
    given: dict[str, Any] = {}
    for column, cell in row.items():
        text = cell.strip()
        text = text[1:].strip() if GUARDED.match(text) else text
        if text:
            given[column] = _read_cell(column, text, where)
    lacking = next((c for c in REQUIRED if c not in given), None)
    if lacking:
        raise InputError(f"{where}, column '{lacking}' is empty: it takes {_say_allowed(lacking)}.")
    try:
        return InitiativeSettings.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        column = str(first["loc"][0]) if first["loc"] else "name"
        reason = first["msg"].removeprefix("Value error, ")
        if first["type"] == "value_error":
            raise InputError(f"{where}, column '{column}': {reason}") from None
        shown = row.get(column, "").strip()
        raise InputError(f"{where}, column '{column}': '{shown}' should be {_say_allowed(column)}.") from None


def _read_cell(column: str, text: str, where: str) -> Any:
    if column in LISTS:
        return tuple(part.strip() for part in text.split(";") if part.strip())
    if column == "payback_months":
        return tuple(part.strip() for part in re.split(r"\s*(?:;|-|–|to)\s*", text))
    if column != "kill_rule":
        return text
    match = KILL_RULE.fullmatch(text)
    if match is None:
        raise InputError(f"{where}, column 'kill_rule': '{text}' should be {ALLOWED['kill_rule']}.")
    metric, sign, value, days = match.groups()
    rule = {"metric": metric, "below" if sign == "<" else "above": value}
    return rule | ({"after_days": days} if days else {})


def _say_allowed(column: str) -> str:
    if column == "metric":
        return f"one of {', '.join(METRICS)}"
    return ALLOWED.get(column, METRIC_LIST if column in LISTS and column != "unaffected" else "a text")


def _write_cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, tuple):
        return ";".join(str(v) for v in value)
    if hasattr(value, "after_days"):
        sign, bound = ("<", value.below) if value.below is not None else (">", value.above)
        return f"{value.metric}{sign}{bound:g} after {value.after_days} days"
    return f"{value:g}" if isinstance(value, float) else str(value)

"""A playbook that is guessed: what is known of each table and why, and its text with every reason in it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field

from opslib.data.contract import CONTRACTS

HANDBOOK_TARGETS = {"d1_rate": 0.35, "d7_rate": 0.25, "stickiness_rate": 0.25}


@dataclass(frozen=True)
class Guess:
    """One line of the playbook with the reason for it."""

    key: str
    value: str
    reason: str


@dataclass
class TableGuess:
    """What one file seems to be."""

    table: str
    source: str
    rows: int
    settings: list[Guess] = field(default_factory=list)
    columns: list[Guess] = field(default_factory=list)
    questions: list[str] = field(default_factory=list)


def write_toml(name: str, company: list[Guess], guesses: list[TableGuess]) -> str:
    """Write a playbook: the company, its tables, and targets to fill in."""
    lines = [
        "# Written by `opslib init`. Every line says why it was guessed.",
        "# Correct what is wrong, then run `opslib check`.",
        "",
        "[company]",
        _line("name", quote(name), "the name of the data"),
        _line(
            "timezone",
            '"UTC"',
            "please confirm: the zone that decides on which day something happened, like Asia/Shanghai",
        ),
        _line("currency", '"USD"', "please confirm: the currency of amounts"),
        _line("week_start", '"monday"', "or sunday"),
        *(_line(g.key, g.value, g.reason) for g in company),
    ]
    for guess in guesses:
        lines += ["", f"[tables.{guess.table}]"]
        lines.append(
            _line(
                "source",
                quote(guess.source),
                f"{guess.rows:,} rows; each is {CONTRACTS[guess.table].grain}",
            )
        )
        lines += [_line(g.key, g.value, g.reason) for g in guess.settings]
        lines += ["", f"[tables.{guess.table}.columns]"]
        lines += [_line(_write_key(g.key), g.value, g.reason) for g in guess.columns]
    lines += [
        "",
        "# What you want to reach; uncomment and set. These are the numbers of the operations handbook.",
        "[targets]",
    ]
    lines += [f"# {metric} = {{ at_least = {value} }}" for metric, value in HANDBOOK_TARGETS.items()]
    return "\n".join(lines) + "\n"


def quote(text: str) -> str:
    """A text as TOML writes it."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _line(key: str, value: str, reason: str) -> str:
    # A file's names reach this comment: without line breaks they cannot leave it.
    comment = re.sub(r"[\x00-\x1f\x7f]+", " ", reason)
    return f"{key} = {value}  # {comment}"


def _write_key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else quote(name)

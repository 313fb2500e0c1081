"""Where in a TOML file a key stands: the reader of the standard library does not say."""

from __future__ import annotations

import re
from collections.abc import Sequence

HEADER = re.compile(r"\s*(\[\[?)([^\]]+)\]\]?\s*(#.*)?$")
KEY = re.compile(r"""\s*((?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*'))*)\s*=""")
PART = re.compile(r"""[A-Za-z0-9_-]+|"[^"]*"|'[^']*'""")


def find_line(text: str, place: Sequence[str | int]) -> int | None:
    """The number of the line on which a key stands, or of the nearest table around it; None where there is none.

    >>> find_line('[a]\\n[[rules]]\\nname = "x"\\n[[rules]]\\nmetric = 1', ("rules", 1, "metric"))
    5
    """
    lines = _map_lines(text)
    parts = tuple(place)
    while parts:
        if parts in lines:
            return lines[parts]
        parts = parts[:-1]
    return None


def _map_lines(text: str) -> dict[tuple[str | int, ...], int]:
    found: dict[tuple[str | int, ...], int] = {}
    counts: dict[tuple[str | int, ...], int] = {}
    table: tuple[str | int, ...] = ()
    quoted = ""
    for number, line in enumerate(text.splitlines(), start=1):
        if quoted:
            quoted = "" if quoted in line else quoted
            continue
        header = HEADER.match(line)
        if header:
            # A table inside an entry of a list belongs to the last entry.
            table = ()
            names = _split(header[2])
            for i, name in enumerate(names):
                table += (name,)
                found.setdefault(table, number)
                if header[1] == "[[" and i == len(names) - 1:
                    counts[table] = counts.get(table, -1) + 1
                if table in counts:
                    table += (counts[table],)
            found.setdefault(table, number)
        elif key := KEY.match(line):
            place = table
            for part in _split(key[1]):
                place += (part,)
                found.setdefault(place, number)
            value = line[key.end() :]
            quoted = next((q for q in ('"""', "'''") if value.count(q) == 1), "")
    return found


def _split(dotted: str) -> list[str]:
    return [part.strip("\"'") for part in PART.findall(dotted)]

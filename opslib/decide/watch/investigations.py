"""Which notebook a fired rule opens, and with which parameters."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from opslib.data.operations import RuleSettings
from opslib.data.periods import DAY
from opslib.decide.rules.result import RuleResult

# As short as an investigation may be: two whole weeks.
FEWEST_DAYS = 14
# A notice that goes on is looked into when it begins, not every day again.
NOTICED_DAYS = 7
# Of a rule's groups so many are looked into, the surest.
MOST_GROUPS = 3
Literal = str | int | float | bool


@dataclass(frozen=True)
class Investigation:
    """A notebook to open, with its parameters filled in.

    Attributes:
        notebook: its name.
        parameters: name -> value.
        rules: the rules that ask for it, with the group that fired where a rule watches groups.
    """

    notebook: str
    parameters: dict[str, Literal]
    rules: tuple[tuple[str, str], ...]

    def to_finding(self) -> dict[str, Any]:
        """A flat record."""
        rules = [list(rule) for rule in self.rules]
        return {"name": "investigation", "notebook": self.notebook, "parameters": self.parameters, "rules": rules}


def open_investigations(results: Sequence[RuleResult], *, as_of: dt.date) -> tuple[Investigation, ...]:
    """List what the rules that fire ask to be opened; rules that ask for the same share it.

    Args:
        results: evaluated rules, the most urgent first.
        as_of: the last day that was looked at.
    """
    opened: dict[tuple[str, tuple[tuple[str, Literal], ...]], list[tuple[str, str]]] = {}
    for result in results:
        if not result.rule.notebook:
            continue
        for row in result.firing.head(MOST_GROUPS).to_dict("records"):
            if result.rule.severity == "notice" and (as_of - row["since"].date()) // DAY >= NOTICED_DAYS:
                continue
            first_day = row["period_start"].date()
            filled = fill_parameters(result.rule, row["group"], as_of=as_of, first_day=first_day)
            opened.setdefault((result.rule.notebook, tuple(filled.items())), []).append(
                (result.rule.name, row["group"])
            )
    return tuple(Investigation(notebook, dict(filled), tuple(rules)) for (notebook, filled), rules in opened.items())


def fill_parameters(rule: RuleSettings, group: str, *, as_of: dt.date, first_day: dt.date) -> dict[str, Literal]:
    """Fill in the parameters of a rule's notebook.

    Args:
        rule: the rule; its parameters may hold {as_of}, {first_day}, {days} and {segment}.
        group: the group that fired; empty: everybody.
        as_of: the last day that was looked at.
        first_day: first day of the period that made the rule fire.

    >>> rule = RuleSettings(name="r", metric="d1_rate", by="channel", below=0.2, parameters={"segment": "{segment}"})
    >>> fill_parameters(rule, "ads", as_of=dt.date(2026, 6, 30), first_day=dt.date(2026, 6, 1))
    {'segment': 'channel:ads'}
    """
    days = max(FEWEST_DAYS, (as_of - first_day) // DAY + 1)
    segment = f"{rule.by}:{group}" if rule.by and group else rule.segment
    values = {"as_of": as_of.isoformat(), "first_day": first_day.isoformat(), "days": days, "segment": segment}
    return {name: _fill(value, values) for name, value in rule.parameters.items()}


def _fill(value: Literal, values: dict[str, Any]) -> Literal:
    if not isinstance(value, str):
        return value
    if value == "{days}":
        return values["days"]
    for name, filled in values.items():
        value = value.replace(f"{{{name}}}", str(filled))
    return value

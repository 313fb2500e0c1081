"""What every part of a playbook's settings shares, and how a table is read."""

from __future__ import annotations

import re
from typing import Any, Literal
from zoneinfo import ZoneInfo, available_timezones

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from opslib.errors import suggest_name

RowRule = Literal[
    "null_key", "duplicate_key", "unparsable", "future_time", "absurd_time", "negative_time", "negative_tenure"
]


def check_zone(name: str) -> str:
    """Give a time zone's name back. Raises ValueError on one that does not exist."""
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        hint = suggest_name(name, sorted(available_timezones()))
        raise ValueError(f"'{name}' is not a time zone; write it like Asia/Shanghai or UTC.{hint}") from None
    return name


class Settings(BaseModel):
    """A part of the playbook: unknown keys are refused, and nothing changes it once read."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ColumnSource(Settings):
    """Where a column's values come from: a column, a product of columns, or one fixed value."""

    column: str | None = None
    multiply: tuple[str, ...] | None = None
    value: str | float | int | bool | None = None
    format: str | None = Field(None, description="strptime format of a text date, for example %d-%m-%y")
    unit: Literal["s", "ms", "us", "ns"] | None = Field(None, description="unit of a numeric time since 1970")
    timezone: str | None = Field(None, description="time zone of times written without one")
    swapped_days: bool = Field(
        False, description="day and month are swapped wherever the day is 12 or less, and are to be swapped back"
    )
    type: Literal["text", "number", "flag"] | None = Field(
        None, description="what an id is to be, or a further column, whatever the file says"
    )

    @field_validator("format")
    @classmethod
    def _known_format(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"([^%]|%-?[aAbBcdfgGHIjmMnpSuUVwWxXyYzZ%])*", value):
            raise ValueError(f"'{value}' is not a format of dates; write it like %d-%m-%y or %Y-%m-%d %H:%M:%S")
        return value

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, value: str | None) -> str | None:
        return value if value is None else check_zone(value)

    @model_validator(mode="after")
    def _one_origin(self) -> ColumnSource:
        if sum(x is not None for x in (self.column, self.multiply, self.value)) != 1:
            raise ValueError("give exactly one of column, multiply and value")
        if self.swapped_days and self.unit is not None:
            raise ValueError("swapped_days mends written dates; a number of seconds (unit) has no day and month")
        return self

    @property
    def sources(self) -> tuple[str, ...]:
        """The user's columns that are read."""
        return (self.column,) if self.column is not None else (self.multiply or ())


class RowFilter(Settings):
    """Rows to keep: `{ column = "Quantity", above = 0 }`."""

    column: str
    above: float | None = None
    below: float | None = None
    equals: str | float | int | bool | None = None
    is_in: tuple[str | float | int, ...] | None = None
    not_in: tuple[str | float | int, ...] | None = None
    starts_with: str | None = None
    not_starts_with: str | None = None
    is_present: Literal[True] | None = None

    @model_validator(mode="after")
    def _one_condition(self) -> RowFilter:
        if len(self.conditions) != 1:
            raise ValueError(f"give exactly one condition out of {', '.join(self._names())}")
        return self

    @property
    def conditions(self) -> dict[str, Any]:
        """The condition that is set, by name."""
        return {n: getattr(self, n) for n in self._names() if getattr(self, n) is not None}

    @classmethod
    def _names(cls) -> list[str]:
        return [n for n in cls.model_fields if n != "column"]

    def __str__(self) -> str:
        ((name, value),) = self.conditions.items()
        shown = "" if value is True else f" {value:g}" if isinstance(value, float) else f" {value}"
        return f"{self.column} {name.replace('_', ' ')}{shown}"


class TableSource(Settings):
    """One table: its file or database table, how to read it, and what its columns are called."""

    source: str = Field(min_length=1)
    columns: dict[str, ColumnSource] = Field({})
    keep: tuple[RowFilter, ...] = ()
    drop: tuple[RowRule, ...] = ()
    rows: Literal["orders", "lines"] = "orders"
    delimiter: str | None = None
    header: bool | None = None

    @field_validator("delimiter")
    @classmethod
    def _one_character(cls, value: str | None) -> str | None:
        if value is not None and value != "whitespace" and len(value) != 1:
            raise ValueError("a delimiter is one character, or whitespace")
        return value

    @field_validator("columns", mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {k: {"column": v} if isinstance(v, str) else v for k, v in value.items()}

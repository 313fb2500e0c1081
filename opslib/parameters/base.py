"""What all notebooks' parameters share: strict types, checks of single values, and how somebody picks each one."""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from opslib.data.periods import Quarter
from opslib.errors import InputError
from opslib.language import check_language, mark
from opslib.measure.grains import Grain

if TYPE_CHECKING:
    from opslib.data.source import Data

Value = str | int | float | bool


@dataclass(frozen=True)
class Pick:
    """How somebody who sees a parameter picks its value: what it names, and between which bounds.

    Attributes:
        kind: what it names; controls, filled from the data, are made from it.
        choices: the values there are, where they are always the same.
        high, step: of a slider that begins at 0.
    """

    kind: Literal[
        "breakdown", "choice", "cohort", "count", "day", "experiment", "funnel", "language", "lever", "period_end",
        "quarter", "segment", "size", "step",
    ]  # fmt: skip
    choices: tuple[str, ...] = ()
    high: float = 1.0
    step: float = 0.01


def check_lang(value: str) -> str:
    """Refuse a language that opslib does not speak; empty is allowed."""
    try:
        return check_language(value)
    except InputError as error:
        raise ValueError(str(error).rstrip(".")) from None


class NotebookParameters(BaseModel):
    """What every notebook takes. Subclasses add their own; each field's description is its help text everywhere."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, validate_default=True)

    notebook: ClassVar[str]
    title: ClassVar[str]
    # One of these tables must be there; a report of data without leaves the notebook out.
    needs: ClassVar[tuple[str, ...]] = ("events", "orders")

    playbook: str = Field("playbook.toml", description=mark("the playbook file: your data, targets and time zone"))
    lang: Annotated[str, AfterValidator(check_lang), Pick("language")] = Field(
        "", description=mark("language of the results: en or zh; empty: the playbook's")
    )

    def to_literals(self) -> dict[str, Value]:
        """Give the parameters as papermill takes them: name to text or number."""
        return self.model_dump()

    def to_options(self) -> dict[str, Any]:
        """Give the parameters as the options of the notebook's main function, whose data the playbook names."""
        return {name: value for name, value in self.model_dump().items() if name not in ("playbook", "lang")}

    def check_data(self, data: Data) -> None:
        """Refuse a period or a segment that the data do not have. The base class has nothing to check."""


def check_segment_text(value: str) -> str:
    """Refuse a segment that is not written as column:value; which there are, only the data can tell."""
    if value and not re.fullmatch(r"[^:]+:.+", value):
        raise ValueError("write a segment as column:value, for example channel:search")
    return value


def check_day_text(value: str) -> str:
    """Refuse a day that is not an ISO date; empty is allowed."""
    if value:
        try:
            dt.date.fromisoformat(value)
        except ValueError:
            raise ValueError("write a day as an ISO date, for example 2026-06-30") from None
    return value


def check_end_text(value: str) -> str:
    """Refuse the end of a period that is neither an ISO date nor a quarter."""
    return check_day_text(value) if "Q" not in value.upper() else str(Quarter.parse(value))


def check_size(value: float) -> float:
    """Refuse a number below zero or without end."""
    if not 0 <= value < float("inf"):
        raise ValueError("write a number that is not negative")
    return value


def check_rate(value: float) -> float:
    """Refuse what is no share of something."""
    if not 0 < value < 1:
        raise ValueError("a rate lies between 0 and 1: write 25% as 0.25")
    return value


def check_quarter_text(value: str) -> str:
    """Refuse what is no calendar quarter; empty is allowed."""
    if value:
        Quarter.parse(value)
    return value


def check_lever_rate(value: float) -> float:
    """Refuse a rate to plan for that nobody can reach; 0 stands for the target."""
    if not 0 <= value < 1:
        raise ValueError("a rate lies from 0 to below 1: write 35% as 0.35")
    return value


def check_grain(value: str) -> str:
    """Refuse what is no length of a period."""
    if value not in get_args(Grain):
        raise ValueError(f"choose one of {', '.join(get_args(Grain))}")
    return value


Segment = Annotated[str, AfterValidator(check_segment_text), Pick("segment")]
Count = Annotated[int, AfterValidator(check_size), Pick("count")]
Size = Annotated[float, AfterValidator(check_size), Pick("size")]
Rate = Annotated[float, AfterValidator(check_rate), Pick("lever", high=0.99)]
Day = Annotated[str, AfterValidator(check_day_text), Pick("day")]
PeriodEnd = Annotated[str, AfterValidator(check_end_text), Pick("period_end")]
QuarterName = Annotated[str, AfterValidator(check_quarter_text), Pick("quarter")]
GrainName = Annotated[str, AfterValidator(check_grain), Pick("choice", choices=get_args(Grain))]
LeverRate = Annotated[float, AfterValidator(check_lever_rate), Pick("lever", high=0.9, step=0.005)]

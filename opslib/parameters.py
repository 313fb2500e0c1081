"""One typed definition of each notebook's parameters.

The same class checks the papermill cell, makes the command line's flags and, later, the widgets. A test compares each
class with the `parameters` cell of its notebook, so the two cannot drift apart.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator

from opslib.data.periods import Quarter
from opslib.errors import InputError, suggest_name
from opslib.measure.grains import Grain

if TYPE_CHECKING:
    from opslib.data.playbook import Playbook
    from opslib.data.source import Data

Literal = str | int | float | bool

# Stands for the day of an alarm that has not come yet.
A_DAY = dt.date(2000, 1, 1)
SECRET_NAME = re.compile(r"pass(word|wd)?|secret|token|api_?key|credential", re.IGNORECASE)


class NotebookParameters(BaseModel):
    """What every notebook takes. Subclasses add their own; each field's description is its help text everywhere."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, validate_default=True)

    notebook: ClassVar[str]
    title: ClassVar[str]
    # One of these tables must be there; a report of data without leaves the notebook out.
    needs: ClassVar[tuple[str, ...]] = ("events", "orders")

    playbook: str = Field("playbook.toml", description="the playbook file: your data, targets and time zone")

    def to_literals(self) -> dict[str, Literal]:
        """Give the parameters as papermill takes them: name to text or number."""
        return self.model_dump()

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


Segment = Annotated[str, AfterValidator(check_segment_text)]
Count = Annotated[int, AfterValidator(check_size)]
Size = Annotated[float, AfterValidator(check_size)]
Rate = Annotated[float, AfterValidator(check_rate)]
Day = Annotated[str, AfterValidator(check_day_text)]
PeriodEnd = Annotated[str, AfterValidator(check_end_text)]


class StartHere(NotebookParameters):
    """Parameters of `00_start_here`."""

    notebook: ClassVar[str] = "00_start_here"
    title: ClassVar[str] = "Start here"
    needs: ClassVar[tuple[str, ...]] = ()


class GrowthModel(NotebookParameters):
    """Parameters of `10_growth_model`."""

    notebook: ClassVar[str] = "10_growth_model"
    title: ClassVar[str] = "Growth model"

    as_of: Day = Field("", description="last day as an ISO date; empty: the last full day of the data")
    grain: str = Field("week", description="length of a period in growth accounting: day, week, month or quarter")
    days: Count = Field(0, description="days of a period; 0: 91, thirteen whole weeks")
    segment: Segment = Field("", description="one group of users such as channel:search; empty: everybody")
    compare_to: PeriodEnd = Field("", description="last day, or quarter, to compare with; empty: the days right before")
    lever_d1_rate: float = Field(0.0, description="next-day retention to plan for, such as 0.35; 0: target or +10%")
    lever_d7_rate: float = Field(0.0, description="day-7 retention to plan for, such as 0.25; 0: target or +10%")
    lever_reactivation_rate: float = Field(
        0.0, description="share of users away for 7 to 29 days who return on a day; 0: +10%"
    )
    lever_k_factor: Size = Field(0.0, description="users brought by each new user; 0: +10%")
    lever_cac_amount: Size = Field(0.0, description="cost of a new user to plan for, such as 80; 0: target or -10%")

    @field_validator("grain")
    @classmethod
    def _check_grain(cls, value: str) -> str:
        if value not in get_args(Grain):
            raise ValueError(f"choose one of {', '.join(get_args(Grain))}")
        return value

    @field_validator("lever_d1_rate", "lever_d7_rate", "lever_reactivation_rate")
    @classmethod
    def _check_rate(cls, value: float) -> float:
        if not 0 <= value < 1:
            raise ValueError("a rate lies from 0 to below 1: write 35% as 0.35")
        return value

    @property
    def levers(self) -> dict[str, float]:
        """Lever -> value, without the prefix of the parameter."""
        values = self.model_dump()
        return {name.removeprefix("lever_"): v for name, v in values.items() if name.startswith("lever_")}

    def check_data(self, data: Data) -> None:
        """Refuse a day outside the data, or a segment whose column or value does not exist."""
        # Loads what reads data, which help texts and refusals need not wait for.
        from opslib.decide.scope import choose_scope

        choose_scope(data, as_of=self.as_of, segment=self.segment, compare_to=self.compare_to, days=self.days)


class FunnelDiagnosis(NotebookParameters):
    """Parameters of `20_funnel_diagnosis`."""

    notebook: ClassVar[str] = "20_funnel_diagnosis"
    title: ClassVar[str] = "Funnel diagnosis"

    funnel: str = Field("", description="a funnel of the playbook, or steps such as view_item > pay; empty: the first")
    window_days: Size = Field(0.0, description="days from entry to last step; 0: as the playbook says, or 7")
    step: Count = Field(0, description="number of the step to explain, from 2; 0: the one that moved the whole most")
    breakdown: str = Field("", description="column to break the funnel down by; empty: where the change sits")
    as_of: Day = Field("", description="last day as an ISO date; empty: the last full day of the data")
    days: Count = Field(0, description="days of a period; 0: 91, thirteen whole weeks")
    compare_to: PeriodEnd = Field("", description="last day, or quarter, to compare with; empty: the days right before")
    segment: Segment = Field("", description="one group of users such as channel:search; empty: everybody")
    experiment: str = Field("", description="experiment to read out; empty: the one that users entered last")
    fixed_on: Day = Field("", description="day from which a repair was out, to compare before and after; empty: none")

    def check_data(self, data: Data) -> None:
        """Refuse a funnel, event, day or segment that the data do not have."""
        # Loads what reads data, which help texts and refusals need not wait for.
        from opslib.decide.funnel.path import choose_path
        from opslib.decide.scope import choose_scope

        choose_scope(data, as_of=self.as_of, segment=self.segment, compare_to=self.compare_to, days=self.days)
        choose_path(data, self.funnel, window_days=self.window_days)


class ChurnInvestigation(NotebookParameters):
    """Parameters of `30_churn_investigation`."""

    notebook: ClassVar[str] = "30_churn_investigation"
    title: ClassVar[str] = "Churn investigation"
    needs: ClassVar[tuple[str, ...]] = ("events", "orders", "subscriptions")

    definition: str = Field("", description="inactivity, orders or subscription; empty: what the data allow")
    inactive_days: Count = Field(
        0, description="silent days after which a user counts as gone; 0: chosen from the data"
    )
    return_rate: Rate = Field(0.25, description="then as many as make coming back less likely than this")
    as_of: Day = Field("", description="last day as an ISO date; empty: the last full day of the data")
    segment: Segment = Field("", description="one group of users such as channel:search; empty: everybody")
    breakdown: str = Field("", description="column of users to compare; empty: the first there is")
    signup_node_days: Count = Field(7, description="day after the first to look at; 0: none")
    payment_node_days: Count = Field(30, description="day after a payment to look at; 0: none")
    budget_amount: Size = Field(0.0, description="what winning back may cost; 0: no limit")
    experiment: str = Field("", description="campaign with a holdout to read out; empty: the last one")

    @field_validator("definition")
    @classmethod
    def _check_definition(cls, value: str) -> str:
        if value not in ("", "inactivity", "orders", "subscription"):
            raise ValueError("choose one of inactivity, orders, subscription")
        return value

    def check_data(self, data: Data) -> None:
        """Refuse a day, segment or definition that the data do not have."""
        # Loads what reads data, which help texts and refusals need not wait for.
        from opslib.decide.churn.leaving import choose_definition
        from opslib.decide.scope import choose_scope

        choose_definition(choose_scope(data, as_of=self.as_of, segment=self.segment), self.definition)


class QuarterlyReview(NotebookParameters):
    """Parameters of `40_quarterly_review`."""

    notebook: ClassVar[str] = "40_quarterly_review"
    title: ClassVar[str] = "Quarterly review"

    quarter: str = Field("", description="calendar quarter such as 2026Q2; empty: the last complete one")
    compare_to: str = Field("", description="quarter to compare with; empty: the one before")
    segment: Segment = Field("", description="one group of users such as channel:search; empty: everybody")

    @field_validator("quarter", "compare_to")
    @classmethod
    def _check_quarter(cls, value: str) -> str:
        if value:
            Quarter.parse(value)
        return value

    def check_data(self, data: Data) -> None:
        """Refuse a quarter outside the data, or a segment whose column or value does not exist."""
        data.choose_quarter(self.quarter)
        if self.compare_to:
            data.choose_quarter(self.compare_to)
        data.check_segment(self.segment)


class DailyWatch(NotebookParameters):
    """Parameters of `50_daily_watch`."""

    notebook: ClassVar[str] = "50_daily_watch"
    title: ClassVar[str] = "Daily watch"
    needs: ClassVar[tuple[str, ...]] = ()

    as_of: Day = Field("", description="last day as an ISO date; empty: the last full day of the data")
    segment: Segment = Field("", description="one group of users such as channel:search; empty: everybody")

    def check_data(self, data: Data) -> None:
        """Refuse a day or segment that the data do not have, and a rule that opens a notebook there is not."""
        # Loads what reads data, which help texts and refusals need not wait for.
        from opslib.decide.scope import choose_scope

        choose_scope(data, as_of=self.as_of, segment=self.segment)
        check_rules(data.playbook)


class VoiceAndCrisis(NotebookParameters):
    """Parameters of `55_voice_and_crisis`."""

    notebook: ClassVar[str] = "55_voice_and_crisis"
    title: ClassVar[str] = "Voice and crisis"
    needs: ClassVar[tuple[str, ...]] = ()

    as_of: Day = Field("", description="last day as an ISO date; empty: the last full day of the data")
    days: Count = Field(0, description="days of a period; 0: 91, thirteen whole weeks")
    incident_on: Day = Field("", description="a day of the incident to look into; empty: the worst of these days")
    segment: Segment = Field("", description="one group of users such as channel:search; empty: everybody")
    threshold_rate: Rate = Field(0.05, description="share of active users who complain above which a day is too bad")
    times: int = Field(3, description="so many such days in a row start the crisis plan")

    @field_validator("times")
    @classmethod
    def _check_times(cls, value: int) -> int:
        if value < 1:
            raise ValueError("write a number of days, at least 1")
        return value

    def check_data(self, data: Data) -> None:
        """Refuse a day or segment that the data do not have."""
        # Loads what reads data, which help texts and refusals need not wait for.
        from opslib.decide.crisis.incident import check_day
        from opslib.decide.scope import choose_scope

        check_day(choose_scope(data, as_of=self.as_of, segment=self.segment, days=self.days), self.incident_on)


NOTEBOOKS: dict[str, type[NotebookParameters]] = {
    model.notebook: model
    for model in (
        StartHere,
        GrowthModel,
        FunnelDiagnosis,
        ChurnInvestigation,
        QuarterlyReview,
        DailyWatch,
        VoiceAndCrisis,
    )
}


def check_parameters(notebook: str, values: Mapping[str, Any]) -> NotebookParameters:
    """Check the parameters of one notebook, as typed literals.

    Args:
        notebook: the notebook's name, for example `40_quarterly_review`.
        values: parameter name to value; what is missing takes its default.

    Returns:
        The notebook's own subclass of `NotebookParameters`, frozen.

    Raises:
        InputError: an unknown notebook or name, a wrong type or an impossible value; the message names them all.

    >>> check_parameters("40_quarterly_review", {"quarter": "2026Q2"}).quarter
    '2026Q2'
    """
    model = find_notebook(notebook)
    for name in values:
        if SECRET_NAME.search(name):
            raise InputError(
                f"Parameter '{name}' looks like a secret, and parameters are written into reports. "
                "Put it in an environment variable instead."
            )
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        lines = [_explain(model, e) for e in error.errors()]
        raise InputError("; ".join(lines)) from None


def parse_parameters(notebook: str, texts: Mapping[str, str]) -> NotebookParameters:
    """Check parameters given as text (command line), reading each text as its parameter's type."""
    fields = find_notebook(notebook).model_fields
    values: dict[str, Any] = {}
    for name, text in texts.items():
        kind = fields[name].annotation if name in fields else str
        values[name] = _read_text(notebook, name, text, kind)
    return check_parameters(notebook, values)


def find_notebook(notebook: str) -> type[NotebookParameters]:
    """Find a notebook's parameters by its name; a path or a leading number alone will do too (`40`)."""
    name = Path(notebook).name.removesuffix(".ipynb")
    matches = [slug for slug in NOTEBOOKS if name in (slug, slug.split("_", 1)[0], slug.split("_", 1)[1])]
    if not matches:
        raise InputError(
            f"There is no notebook '{notebook}'.{suggest_name(name, NOTEBOOKS)} "
            f"The notebooks are: {', '.join(NOTEBOOKS)}."
        )
    return NOTEBOOKS[matches[0]]


def check_rules(playbook: Playbook) -> None:
    """Check that every rule opens a notebook there is, with parameters that it has.

    Raises:
        InputError: naming the rule, and what there is.
    """
    # Loads what evaluates rules, which help texts need not wait for.
    from opslib.decide.watch.investigations import fill_parameters

    for rule in playbook.rules:
        if not rule.notebook:
            continue
        try:
            model = find_notebook(rule.notebook)
        except InputError as error:
            raise InputError(f"Rule {rule.name}: {error}") from None
        values = fill_parameters(rule, "value" if rule.by else "", as_of=A_DAY, first_day=A_DAY)
        try:
            check_parameters(model.notebook, values)
        except InputError as error:
            raise InputError(f"Rule {rule.name}: {error}") from None


def _read_text(notebook: str, name: str, text: str, kind: Any) -> Literal:
    if kind is bool:
        if text.lower() in ("true", "false"):
            return text.lower() == "true"
        raise InputError(f"Parameter '{name}' of {notebook} takes true or false, not '{text}'.")
    if kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            noun = "a whole number" if kind is int else "a number"
            raise InputError(f"Parameter '{name}' of {notebook} takes {noun}, not '{text}'.") from None
    return text


def _explain(model: type[NotebookParameters], error: Mapping[str, Any]) -> str:
    name = str(error["loc"][0]) if error["loc"] else ""
    fields = model.model_fields
    if error["type"] == "extra_forbidden":
        return f"{model.notebook} has no parameter '{name}'.{suggest_name(name, fields)} It takes: {', '.join(fields)}."
    reason = error["msg"].removeprefix("Value error, ")
    return (
        f"Parameter '{name}' of {model.notebook} cannot be {error['input']!r}: {reason} ({fields[name].description})."
    )

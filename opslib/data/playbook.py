"""The playbook: one TOML file that says where the data are, what the columns are called and what the targets are."""

from __future__ import annotations

import datetime as dt
import re
import tomllib
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import Field, ValidationError, field_validator, model_validator

from opslib.data.contract import CONTRACTS
from opslib.data.handbook import add_handbook
from opslib.data.operations import (
    CadenceSettings,
    CrisisSettings,
    Holiday,
    InitiativeSettings,
    InitiativesFile,
    MarketEvent,
    ResponseSettings,
    RuleSettings,
)
from opslib.data.settings import Settings, TableSource, check_zone
from opslib.data.toml_lines import find_line
from opslib.data.views import ViewSettings
from opslib.errors import InputError, suggest_name
from opslib.language import check_language

WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")

# What [targets] may name; the value says which direction is good.
TARGET_METRICS: dict[str, Literal["at_least", "at_most"]] = {
    "dau_count": "at_least",
    "mau_count": "at_least",
    "stickiness_rate": "at_least",
    "new_users_count": "at_least",
    "d1_rate": "at_least",
    "d7_rate": "at_least",
    "d30_rate": "at_least",
    "paying_users_count": "at_least",
    "paying_rate": "at_least",
    "revenue_amount": "at_least",
    "cac_amount": "at_most",
}


class Company(Settings):
    """Who the playbook is for."""

    name: str = Field(min_length=1)
    timezone: str = "UTC"
    currency: str = "USD"
    lang: str = Field("en", description="language of the results where a notebook names none")
    week_start: Literal[WEEKDAYS] = "monday"  # type: ignore[valid-type]
    data_until: dt.date | None = Field(
        None, description="the last day of the data; later times are an error. Empty: later than today"
    )

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, value: str) -> str:
        return check_zone(value)

    @field_validator("lang")
    @classmethod
    def _known_language(cls, value: str) -> str:
        try:
            return check_language(value)
        except InputError as error:
            raise ValueError(str(error).rstrip(".")) from None


class DataSettings(Settings):
    """Where all tables live when they are not files, and what the engine may take and keep."""

    url: str | None = Field(None, description="a DuckDB file or a database URL; empty: files beside the playbook")
    scratch: str | None = Field(
        None, description="a schema of the Postgres database in which tables may be kept while a command runs"
    )
    rollups: str | None = Field(
        None, description="a folder in which what was counted of past days is kept, so that a night costs the new day"
    )
    memory_gb: float | None = Field(
        None, gt=0, le=100_000, description="memory that the embedded engine may take; empty: 8 or half of all"
    )


class Activity(Settings):
    """What counts as being active."""

    table: Literal["events", "orders"] | None = None
    events: tuple[str, ...] = ()
    except_events: tuple[str, ...] = ()


class Target(Settings):
    """What a metric should reach."""

    at_least: float | None = Field(None, allow_inf_nan=False)
    at_most: float | None = Field(None, allow_inf_nan=False)

    @model_validator(mode="after")
    def _one_bound(self) -> Target:
        if (self.at_least is None) == (self.at_most is None):
            raise ValueError("give exactly one of at_least and at_most")
        return self

    @property
    def bound(self) -> float:
        """The number to reach."""
        return self.at_least if self.at_least is not None else self.at_most  # type: ignore[return-value]


class FunnelStep(Settings):
    """One step of a funnel: an event, and what its columns must hold."""

    event: str = Field(min_length=1)
    where: dict[str, str | float | int | bool] = Field({})
    name: str = ""
    within_hours: float | None = Field(None, gt=0, description="longest time since the step before")


class FunnelSettings(Settings):
    """A funnel: its steps in order, and how long somebody may take."""

    steps: tuple[FunnelStep, ...] = Field(min_length=2)
    window_days: float = Field(7, gt=0)
    order: Literal["ordered", "strict", "any"] = "ordered"
    excluded_events: tuple[str, ...] = ()
    hold: str = Field("", description="a column whose value must stay the same, such as an item")

    @field_validator("steps", mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        steps = value if isinstance(value, list | tuple) else [value]
        return [{"event": step} if isinstance(step, str) else step for step in steps]


class ExperimentSettings(Settings):
    """What an experiment was planned as; one that is not named here is read out with the defaults."""

    control: str = "control"
    shares: dict[str, float] | None = Field(None, description="variant to its planned share; empty: all alike")
    planned_users: int | None = Field(None, gt=0)
    campaign: str = Field("", description="of a recall: which campaign's messages are its own")


class OfferSettings(Settings):
    """What a segment is offered, and what that costs for each user who gets it."""

    name: str = Field(min_length=1)
    cost: float = Field(0, ge=0, allow_inf_nan=False)


class WinBackSettings(Settings):
    """How lost customers are won back."""

    offers: dict[str, OfferSettings] = Field({}, description="segment of customers to its offer")
    message_costs: dict[str, float] = Field({}, description="channel to the cost of a message")
    holdout_rate: float = Field(0.1, gt=0, lt=1, description="share left alone by lot, to measure what it brings")
    seed: int = Field(1, description="of the lots; a new one for each campaign")
    most_messages: int = Field(4, ge=1, description="who was sent so many in the last 14 days is left alone")


class OwnReason(Settings):
    """A reason for leaving to look for: rows of a table in the days before somebody leaves."""

    name: str = Field(pattern=r"^\w+$")
    table: str
    days: tuple[int, int] = Field((0, 14), description="from so many days before the last active one to before so many")
    where: tuple[str, ...] = ()
    at_least: int = Field(1, ge=0)
    at_most: int | None = Field(None, ge=0)

    @field_validator("table")
    @classmethod
    def _known_table(cls, value: str) -> str:
        if value not in CONTRACTS:
            raise ValueError(f"there is no table '{value}'.{suggest_name(value, CONTRACTS)}")
        return value


class Playbook(Settings):
    """A whole `playbook.toml`, checked."""

    company: Company
    data: DataSettings = DataSettings()
    tables: dict[str, TableSource]
    activity: Activity = Activity()
    targets: dict[str, Target] = Field({})
    funnels: dict[str, FunnelSettings] = Field({})
    experiments: dict[str, ExperimentSettings] = Field({})
    win_back: WinBackSettings = WinBackSettings()
    reasons: tuple[OwnReason, ...] = ()
    rules: tuple[RuleSettings, ...] = ()
    holidays: tuple[Holiday, ...] = ()
    initiatives: tuple[InitiativeSettings, ...] = ()
    initiatives_file: InitiativesFile | None = None
    responses: tuple[ResponseSettings, ...] = ()
    market_events: tuple[MarketEvent, ...] = ()
    crisis: CrisisSettings = CrisisSettings()
    remedies: dict[str, tuple[str, ...]] = Field({})
    cadence: CadenceSettings = CadenceSettings()
    views: dict[str, ViewSettings] = Field({})
    path: Path = Field(Path("playbook.toml"), exclude=True)

    @field_validator("tables")
    @classmethod
    def _known_tables(cls, tables: dict[str, TableSource]) -> dict[str, TableSource]:
        if not tables:
            raise ValueError(f"name at least one table out of {', '.join(CONTRACTS)}")
        for name in tables:
            if name not in CONTRACTS:
                raise ValueError(
                    f"there is no table '{name}'.{suggest_name(name, CONTRACTS)} Tables: {', '.join(CONTRACTS)}"
                )
            if tables[name].rows == "lines" and name != "orders":
                raise ValueError(f"rows = 'lines' is for orders, not for {name}")
        return tables

    @field_validator("targets")
    @classmethod
    def _known_targets(cls, targets: dict[str, Target]) -> dict[str, Target]:
        for name, target in targets.items():
            if name not in TARGET_METRICS:
                raise ValueError(
                    f"there is no metric '{name}'.{suggest_name(name, TARGET_METRICS)} "
                    f"Metrics: {', '.join(TARGET_METRICS)}"
                )
            wanted = TARGET_METRICS[name]
            if getattr(target, wanted) is None:
                raise ValueError(f"'{name}' is good when {wanted.replace('_', ' ')} a number: write {wanted} = ...")
        return targets

    @field_validator("rules")
    @classmethod
    def _names_differ(cls, rules: tuple[RuleSettings, ...]) -> tuple[RuleSettings, ...]:
        names = [rule.name for rule in rules]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"there are two rules named {', '.join(twice)}: a rule's name is its own")
        return rules

    @model_validator(mode="after")
    def _responses_name_rules(self) -> Playbook:
        names = [rule.name for rule in self.rules]
        for response in self.responses:
            if response.rule not in names:
                raise ValueError(
                    f"[[responses]] there is no rule '{response.rule}'.{suggest_name(response.rule, names)} "
                    f"Rules: {', '.join(names)}"
                )
        return self

    @model_validator(mode="after")
    def _activity_is_there(self) -> Playbook:
        table = self.activity.table
        if table is not None and table not in self.tables:
            raise ValueError(f"[activity] table: there is no [tables.{table}] in this playbook")
        if (self.activity.events or self.activity.except_events) and "events" not in self.tables:
            raise ValueError("[activity] names events, but there is no [tables.events] in this playbook")
        return self

    @property
    def folder(self) -> Path:
        """The folder that relative paths start from."""
        return self.path.parent

    @property
    def rollups_folder(self) -> Path | None:
        """The folder of the rollups; None where none are kept."""
        return None if self.data.rollups is None else self.folder / Path(self.data.rollups).expanduser()

    @property
    def week_start(self) -> int:
        """0 for Monday to 6 for Sunday."""
        return WEEKDAYS.index(self.company.week_start)


def find_playbook(path: str | Path) -> Path:
    """Find the playbook: as given, or the same relative path in a folder above (notebooks run in their own folder)."""
    path = Path(path).expanduser()
    candidates = [path] if path.is_absolute() else [p / path for p in (Path.cwd(), *Path.cwd().parents)]
    found = next((p for p in candidates if p.is_file()), None)
    if found is None:
        raise InputError(
            f"There is no playbook at '{path}'. Name one with --playbook, "
            "or let `opslib init DATA...` write one for your files."
        )
    return found


def load_playbook(path: str | Path = "playbook.toml") -> Playbook:
    """Read and check a playbook.

    Raises:
        InputError: no such file, not TOML, or a key or value that is not understood; the message names the key.
    """
    found = find_playbook(path)
    try:
        text = found.read_text(encoding="utf-8-sig")
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{found.name} is not valid TOML: {error}.") from None
    except UnicodeDecodeError:
        raise InputError(f"{found.name} is not a text file in UTF-8: a playbook is a TOML file.") from None
    except OSError as error:
        raise InputError(f"{found.name} cannot be read: {error.strerror}.") from None
    if "path" in raw:
        raise InputError(f"{found.name}: there is no key 'path' here. Paths are set in [tables.*] source.")
    try:
        return Playbook.model_validate({**add_handbook(raw), "path": found})
    except ValidationError as error:
        problems = "; ".join(_locate(e, text) + _explain(e) for e in error.errors())  # type: ignore[arg-type]
        raise InputError(f"{found.name}: {problems}") from None


def _locate(error: dict[str, Any], text: str) -> str:
    line = find_line(text, error["loc"])
    return f"line {line}: " if line else ""


def _explain(error: dict[str, Any]) -> str:
    where = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        known = _known_keys(error["loc"][:-1])
        hint = suggest_name(str(error["loc"][-1]), known) or f" Known here: {', '.join(known)}"
        return f"unknown key '{where}'.{hint}"
    if error["type"] == "missing":
        return f"key '{where}' is missing"
    reason = error["msg"].removeprefix("Value error, ")
    if error["type"] == "literal_error":
        given, expected = error["input"], error["ctx"]["expected"]
        known = re.findall(r"'([^']*)'", expected)
        reason = f"{given!r} is not one of {', '.join(known)}.{suggest_name(str(given), known)}"
    elif error["type"] in ("model_type", "dict_type"):
        known = _known_keys(error["loc"])
        names = f" with {', '.join(known)}" if known else ""
        reason = f"{error['input']!r} should be a table{names}, for example {{ {known[0] if known else 'name'} = ... }}"
    elif error["type"] in ("tuple_type", "list_type"):
        reason = f'{error["input"]!r} should be a list, for example ["..."]'
    reason = reason[0].lower() + reason[1:]
    return f"'{where}': {reason}" if where else reason


def _known_keys(loc: tuple[str | int, ...]) -> list[str]:
    """Names allowed at a place in the file, found by walking the models."""
    kind: Any = Playbook
    for part in loc:
        if hasattr(kind, "model_fields") and part in kind.model_fields:
            kind = kind.model_fields[part].annotation
        else:  # a key of a mapping or an index of a list
            kind = next((k for k in get_args(kind) if hasattr(k, "model_fields")), None)
    return [n for n in getattr(kind, "model_fields", ()) if n != "path"]

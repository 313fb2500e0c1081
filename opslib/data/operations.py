"""How a company is run, as its playbook says it: rules, holidays, initiatives, crisis plan, remedies and rhythm."""

from __future__ import annotations

import datetime as dt
import math
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from opslib.data.settings import Settings
from opslib.errors import suggest_name

RuleGrain = Literal["day", "week", "month"]
Severity = Literal["notice", "act", "urgent"]
# A rule watches one side: what is worse for most metrics is less, for these it is more.
BAD_WHEN_HIGH = frozenset(
    {
        "churn_rate",
        "complaint_rate",
        "complaints_count",
        "tickets_count",
        "error_rate",
        "p95_ms_mean",
        "cac_amount",
        "cost_per_d7_amount",
        "spend_share_rate",
    }
)

# What a rule or an initiative may name, and the tables that it takes ("or": any of them).
METRICS: dict[str, tuple[str, ...]] = {
    "dau_count": ("events or orders",),
    "mau_count": ("events or orders",),
    "stickiness_rate": ("events or orders",),
    "new_users_count": ("events or orders",),
    "d1_rate": ("events or orders",),
    "d7_rate": ("events or orders",),
    "d30_rate": ("events or orders",),
    "churn_rate": ("events or orders",),
    "event_rate": ("events",),
    "dwell_minutes_mean": ("events",),
    "funnel_rate": ("events",),
    "orders_count": ("orders",),
    "paying_users_count": ("orders",),
    "paying_rate": ("orders",),
    "revenue_amount": ("orders",),
    "cac_amount": ("spend", "events or orders"),
    "cost_per_d7_amount": ("spend", "events or orders"),
    "spend_amount": ("spend",),
    "spend_share_rate": ("spend",),
    "complaint_rate": ("tickets", "events or orders"),
    "complaints_count": ("tickets",),
    "tickets_count": ("tickets",),
    "satisfaction_rate": ("surveys",),
    "nps_ratio": ("surveys",),
    "requests_count": ("traffic",),
    "error_rate": ("traffic",),
    "p95_ms_mean": ("traffic",),
}
CONDITIONS = ("below", "above", "rising", "falling", "drops_by", "grows_by", "unusual")


def check_bound(value: object) -> object:
    """Give a rule's bound back: a number, or the word target. Raises ValueError on anything else."""
    if value == "target" or (isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)):
        return value
    raise ValueError(f'{value!r} is neither a number nor "target" (as in [targets])')


Bound = Annotated[float | Literal["target"] | None, BeforeValidator(check_bound)]


def check_metric(name: str) -> str:
    """Give a metric's name back. Raises ValueError on one that does not exist."""
    if name not in METRICS:
        raise ValueError(f"there is no metric '{name}'.{suggest_name(name, METRICS)} Metrics: {', '.join(METRICS)}")
    return name


class RuleSettings(Settings):
    """One rule: what to watch, when it fires, and what happens then."""

    name: str = Field(pattern=r"^\w+$")
    enabled: bool = Field(True, description="false: the rule is not looked at")
    metric: str
    grain: RuleGrain = "day"
    by: str = Field("", description="a column of users such as channel: the rule watches each of its groups")
    segment: str = Field("", description="one group of users to watch, such as channel:search; empty: everybody")
    event: str = Field("", description="of event_rate: which event")
    funnel: str = Field("", description="of funnel_rate: a funnel of the playbook; empty: the first")
    step: int = Field(0, ge=0, description="of funnel_rate: from the step before to this one; 0: from first to last")

    below: Bound = Field(None, description="fires below this; target: as in [targets]")
    above: Bound = Field(None, description="fires above this; target: as in [targets]")
    rising: int | None = Field(None, ge=2, description="fires after so many rises in a row")
    falling: int | None = Field(None, ge=2, description="fires after so many falls in a row")
    drops_by: float | None = Field(None, gt=0, lt=1, description="fires at this share less than in the comparison")
    grows_by: float | None = Field(None, gt=0, description="fires at this share more than in the comparison")
    unusual: Literal["low", "high", "both"] | None = Field(None, description="fires outside what season and trend say")

    times: int = Field(1, ge=1, description="in so many periods")
    of: int = Field(0, ge=0, description="of the last so many; 0: all of them, that is in a row")
    against: Literal["before", "last_year"] = Field("before", description="what drops_by and grows_by compare with")
    compare_periods: int = Field(4, ge=1, description="how many periods before are compared with")
    minimum_users: float = Field(20, ge=0, description="with a smaller denominator the rule says so and is not green")
    clears_at: float | None = Field(None, description="having fired, it lasts until the value is back at this")
    cooldown_days: int = Field(0, ge=0, description="for so many days after firing it does not fire again")
    false_alarms_per_year: float = Field(1.0, gt=0, description="what the calibrated version allows")

    severity: Severity = "act"
    owner: str = ""
    says: str = Field("", description="the rule in words, as its source has it")
    steps: tuple[str, ...] = Field((), description="what to do")
    notebook: str = Field("", description="which notebook to open")
    parameters: dict[str, str | int | float | bool] = Field(
        {}, description="its parameters; {as_of}, {first_day}, {days}, {segment} are filled in"
    )

    _metric = field_validator("metric")(check_metric)

    @model_validator(mode="after")
    def _one_condition(self) -> RuleSettings:
        given = [name for name in CONDITIONS if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"give exactly one of {', '.join(CONDITIONS)}, not {', '.join(given) or 'none'}")
        if self.of and self.of < self.times:
            raise ValueError(f"times = {self.times} of = {self.of}: `of` counts all periods looked at, so it is larger")
        if self.condition in ("rising", "falling") and self.times > 1:
            raise ValueError("a rule on rises or falls says how many with rising or falling, not with times")
        if self.by and self.segment:
            raise ValueError("give by (each group) or segment (one group), not both")
        if self.metric == "event_rate" and not self.event:
            raise ValueError('metric event_rate takes event = "..."')
        return self

    @property
    def condition(self) -> str:
        """The condition that is set."""
        return next(name for name in CONDITIONS if getattr(self, name) is not None)


class Holiday(Settings):
    """Days on which a business is not as usual."""

    name: str = Field(min_length=1)
    start: dt.date
    end: dt.date | None = Field(None, description="last day; empty: one day")

    @model_validator(mode="after")
    def _in_order(self) -> Holiday:
        if self.last_day < self.start:
            raise ValueError(f"end = {self.end} lies before start = {self.start}")
        return self

    @property
    def last_day(self) -> dt.date:
        """The last day."""
        return self.end or self.start


class KillRule(Settings):
    """When an initiative is given up."""

    metric: str
    below: float | None = None
    above: float | None = None
    after_days: int = Field(30, ge=1, description="not before so many days")

    _metric = field_validator("metric")(check_metric)

    @model_validator(mode="after")
    def _one_bound(self) -> KillRule:
        if (self.below is None) == (self.above is None):
            raise ValueError("give exactly one of below and above")
        return self


class InitiativeSettings(Settings):
    """Something that was decided: who does it, what it is to change, what it may cost, and when it is judged."""

    name: str = Field(min_length=1)
    owner: str = Field(min_length=1)
    metric: str = Field(description="the core metric")
    start: dt.date
    watch_until: dt.date | None = Field(None, description="last day on which it is judged; empty: six months on")
    target: float | None = Field(None, allow_inf_nan=False, description="what the metric is to reach")
    expected_change: float | None = Field(None, description="forecast: by how much the metric will change")
    expected_low: float | None = Field(None, description="with 80% confidence at least")
    expected_high: float | None = Field(None, description="with 80% confidence at most")
    difficulty: int = Field(3, ge=1, le=5, description="in stars")
    budget: float = Field(0, ge=0, allow_inf_nan=False)
    payback_months: tuple[int, int] | None = Field(None, description="pay-back window, such as [1, 3]")
    segment: str = Field("", description="whom it reaches, such as channel:search; empty: everybody")
    unaffected: tuple[str, ...] = Field((), description="segments that it cannot reach, to compare with")
    experiment: str = Field("", description="the experiment or holdout that measures it")
    behaviour: tuple[str, ...] = Field((), description="metrics of the second look: what users do")
    feedback: tuple[str, ...] = Field((), description="metrics of the third look: what users say")
    guardrails: tuple[str, ...] = Field((), description="metrics that must not get worse")
    kill_rule: KillRule | None = None
    decision: str = Field("", description="what was decided of it, once it was")

    _metric = field_validator("metric")(check_metric)

    @field_validator("behaviour", "feedback", "guardrails")
    @classmethod
    def _known_metrics(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(check_metric(name) for name in value)

    @property
    def last_day(self) -> dt.date:
        """The last day of watching: six months after the start unless told."""
        if self.watch_until is not None:
            return self.watch_until
        year, month = divmod(12 * self.start.year + self.start.month - 1 + 6, 12)
        following = dt.date(year + (month == 11), (month + 1) % 12 + 1, 1)
        return min(dt.date(year, month + 1, 1) + dt.timedelta(self.start.day - 1), following - dt.timedelta(1))


class InitiativesFile(Settings):
    """Initiatives that are kept in a file of their own."""

    source: str = Field(min_length=1, description="a CSV with the columns of [[initiatives]]")


class MarketEvent(Settings):
    """Something that happened outside, entered by hand, such as a rival's launch."""

    name: str = Field(min_length=1)
    date: dt.date
    exposed: tuple[str, ...] = Field((), description="segments that it concerns, such as channel:search; empty: all")
    note: str = ""


class ResponseClock(Settings):
    """Within how long a kind of ticket is to be solved."""

    solve_hours: float = Field(gt=0)


class CrisisStep(Settings):
    """One step of the crisis plan."""

    name: str = Field(min_length=1)
    owner: str = ""
    within_hours: float = Field(24, gt=0)
    text: str = Field("", description="ready to use; {company}, {category}, {first_day}, {users} are filled in")
    cost_per_user: float = Field(0, ge=0, allow_inf_nan=False, description="for each user concerned")


class CrisisSettings(Settings):
    """What happens when too many complain: what goes first, how fast, and the plan."""

    order: tuple[str, ...] = Field(
        ("system_failure", "content_violation", "service_delay"), description="categories, the most severe first"
    )
    clocks: dict[str, ResponseClock] = Field({})
    other_solve_hours: float = Field(72, gt=0, description="of categories without a clock")
    steps: tuple[CrisisStep, ...] = ()


class ResponseSettings(Settings):
    """What was done about a rule that fired, for the next review to tell."""

    rule: str
    on: dt.date
    what: str = Field(min_length=1)
    by: str = ""


class CadenceSettings(Settings):
    """The team's rhythm."""

    weekly_core: tuple[str, ...] = Field((), max_length=3, description="the three core things of the week")
    daily: str = ""
    weekly: str = ""
    monthly: str = ""

"""The parameters of each notebook, in report order.

A test compares each class with the `parameters` cell of its notebook, so the two cannot drift apart.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import AfterValidator, Field

from opslib.language import mark
from opslib.parameters.base import (
    Count,
    Day,
    GrainName,
    LeverRate,
    NotebookParameters,
    PeriodEnd,
    Pick,
    QuarterName,
    Rate,
    Segment,
    Size,
)

if TYPE_CHECKING:
    from opslib.data.source import Data


DEFINITIONS = ("inactivity", "orders", "subscription")
DEFINITION = Pick("choice", choices=("", *DEFINITIONS))


def check_definition(value: str) -> str:
    """Refuse what is no way to tell who left; empty is allowed."""
    if value and value not in DEFINITIONS:
        raise ValueError(f"choose one of {', '.join(DEFINITIONS)}")
    return value


def check_times(value: int) -> int:
    """Refuse a number of days that is none."""
    if value < 1:
        raise ValueError("write a number of days, at least 1")
    return value


class StartHere(NotebookParameters):
    """Parameters of `00_start_here`."""

    notebook: ClassVar[str] = "00_start_here"
    title: ClassVar[str] = mark("Start here")
    needs: ClassVar[tuple[str, ...]] = ()


class GrowthModel(NotebookParameters):
    """Parameters of `10_growth_model`."""

    notebook: ClassVar[str] = "10_growth_model"
    title: ClassVar[str] = mark("Growth model")

    as_of: Day = Field("", description=mark("last day as an ISO date; empty: the last full day of the data"))
    grain: GrainName = Field(
        "week", description=mark("length of a period in growth accounting: day, week, month or quarter")
    )
    days: Count = Field(0, description=mark("days of a period; 0: 91, thirteen whole weeks"))
    segment: Segment = Field("", description=mark("one group of users such as channel:search; empty: everybody"))
    compare_to: PeriodEnd = Field(
        "", description=mark("last day, or quarter, to compare with; empty: the days right before")
    )
    cohort_week: Annotated[Day, Pick("cohort")] = Field(
        "", description=mark("first day of a week of new users to look into, as an ISO date; empty: none")
    )
    cohort_age: Count = Field(0, description=mark("so many weeks later; 0: 1"))
    lever_d1_rate: LeverRate = Field(
        0.0, description=mark("next-day retention to plan for, such as 0.35; 0: target or +10%")
    )
    lever_d7_rate: LeverRate = Field(
        0.0, description=mark("day-7 retention to plan for, such as 0.25; 0: target or +10%")
    )
    lever_reactivation_rate: LeverRate = Field(
        0.0, description=mark("share of users away for 7 to 29 days who return on a day; 0: +10%")
    )
    lever_k_factor: Annotated[Size, Pick("lever", high=2)] = Field(
        0.0, description=mark("users brought by each new user; 0: +10%")
    )
    lever_cac_amount: Annotated[Size, Pick("lever", high=1000, step=1)] = Field(
        0.0, description=mark("cost of a new user to plan for, such as 80; 0: target or -10%")
    )

    @property
    def levers(self) -> dict[str, float]:
        """Lever -> value, without the prefix of the parameter."""
        values = self.model_dump()
        return {name.removeprefix("lever_"): v for name, v in values.items() if name.startswith("lever_")}

    def to_options(self) -> dict[str, Any]:
        """Give the options of `model_growth`, which takes the levers together."""
        options = super().to_options()
        return {name: v for name, v in options.items() if not name.startswith("lever_")} | {"levers": self.levers}

    def check_data(self, data: Data) -> None:
        """Refuse a day outside the data, a segment whose column or value does not exist, or a cohort there is not."""
        # Loads what reads data, which help texts and refusals need not wait for.
        from opslib.decide.growth.cell import choose_cell
        from opslib.decide.scope import choose_scope

        scope = choose_scope(data, as_of=self.as_of, segment=self.segment, compare_to=self.compare_to, days=self.days)
        choose_cell(scope, self.cohort_week, self.cohort_age)


class FunnelDiagnosis(NotebookParameters):
    """Parameters of `20_funnel_diagnosis`."""

    notebook: ClassVar[str] = "20_funnel_diagnosis"
    title: ClassVar[str] = mark("Funnel diagnosis")

    funnel: Annotated[str, Pick("funnel")] = Field(
        "", description=mark("a funnel of the playbook, or steps such as view_item > pay; empty: the first")
    )
    window_days: Size = Field(0.0, description=mark("days from entry to last step; 0: as the playbook says, or 7"))
    step: Annotated[Count, Pick("step")] = Field(
        0, description=mark("number of the step to explain, from 2; 0: the one that moved the whole most")
    )
    breakdown: Annotated[str, Pick("breakdown")] = Field(
        "", description=mark("column to break the funnel down by; empty: where the change sits")
    )
    as_of: Day = Field("", description=mark("last day as an ISO date; empty: the last full day of the data"))
    days: Count = Field(0, description=mark("days of a period; 0: 91, thirteen whole weeks"))
    compare_to: PeriodEnd = Field(
        "", description=mark("last day, or quarter, to compare with; empty: the days right before")
    )
    segment: Segment = Field("", description=mark("one group of users such as channel:search; empty: everybody"))
    experiment: Annotated[str, Pick("experiment")] = Field(
        "", description=mark("experiment to read out; empty: the one that users entered last")
    )
    fixed_on: Day = Field(
        "", description=mark("day from which a repair was out, to compare before and after; empty: none")
    )

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
    title: ClassVar[str] = mark("Churn investigation")
    needs: ClassVar[tuple[str, ...]] = ("events", "orders", "subscriptions")

    definition: Annotated[str, AfterValidator(check_definition), DEFINITION] = Field(
        "", description=mark("inactivity, orders or subscription; empty: what the data allow")
    )
    inactive_days: Count = Field(
        0, description=mark("silent days after which a user counts as gone; 0: chosen from the data")
    )
    return_rate: Rate = Field(0.25, description=mark("then as many as make coming back less likely than this"))
    as_of: Day = Field("", description=mark("last day as an ISO date; empty: the last full day of the data"))
    segment: Segment = Field("", description=mark("one group of users such as channel:search; empty: everybody"))
    breakdown: Annotated[str, Pick("breakdown")] = Field(
        "", description=mark("column of users to compare; empty: the first there is")
    )
    signup_node_days: Count = Field(7, description=mark("day after the first to look at; 0: none"))
    payment_node_days: Count = Field(30, description=mark("day after a payment to look at; 0: none"))
    budget_amount: Size = Field(0.0, description=mark("what winning back may cost; 0: no limit"))
    experiment: Annotated[str, Pick("experiment")] = Field(
        "", description=mark("campaign with a holdout to read out; empty: the last one")
    )

    def check_data(self, data: Data) -> None:
        """Refuse a day, segment or definition that the data do not have."""
        # Loads what reads data, which help texts and refusals need not wait for.
        from opslib.decide.churn.leaving import choose_definition
        from opslib.decide.scope import choose_scope

        choose_definition(choose_scope(data, as_of=self.as_of, segment=self.segment), self.definition)


class QuarterlyReview(NotebookParameters):
    """Parameters of `40_quarterly_review`."""

    notebook: ClassVar[str] = "40_quarterly_review"
    title: ClassVar[str] = mark("Quarterly review")

    quarter: QuarterName = Field("", description=mark("calendar quarter such as 2026Q2; empty: the last complete one"))
    compare_to: QuarterName = Field("", description=mark("quarter to compare with; empty: the one before"))
    segment: Segment = Field("", description=mark("one group of users such as channel:search; empty: everybody"))

    def check_data(self, data: Data) -> None:
        """Refuse a quarter outside the data, or a segment whose column or value does not exist."""
        data.choose_quarter(self.quarter)
        if self.compare_to:
            data.choose_quarter(self.compare_to)
        data.check_segment(self.segment)


class DailyWatch(NotebookParameters):
    """Parameters of `50_daily_watch`."""

    notebook: ClassVar[str] = "50_daily_watch"
    title: ClassVar[str] = mark("Daily watch")
    needs: ClassVar[tuple[str, ...]] = ()

    as_of: Day = Field("", description=mark("last day as an ISO date; empty: the last full day of the data"))
    segment: Segment = Field("", description=mark("one group of users such as channel:search; empty: everybody"))

    def check_data(self, data: Data) -> None:
        """Refuse a day or segment that the data do not have, and a rule that opens a notebook there is not."""
        # Loads what reads data, which help texts and refusals need not wait for.
        from opslib.decide.scope import choose_scope
        from opslib.parameters.check import check_rules

        choose_scope(data, as_of=self.as_of, segment=self.segment)
        check_rules(data.playbook)


class VoiceAndCrisis(NotebookParameters):
    """Parameters of `55_voice_and_crisis`."""

    notebook: ClassVar[str] = "55_voice_and_crisis"
    title: ClassVar[str] = mark("Voice and crisis")
    needs: ClassVar[tuple[str, ...]] = ()

    as_of: Day = Field("", description=mark("last day as an ISO date; empty: the last full day of the data"))
    days: Count = Field(0, description=mark("days of a period; 0: 91, thirteen whole weeks"))
    incident_on: Day = Field("", description=mark("a day of the incident to look into; empty: the worst of these days"))
    segment: Segment = Field("", description=mark("one group of users such as channel:search; empty: everybody"))
    threshold_rate: Annotated[Rate, Pick("lever", high=0.3, step=0.005)] = Field(
        0.05, description=mark("share of active users who complain above which a day is too bad")
    )
    times: Annotated[int, AfterValidator(check_times), Pick("count")] = Field(
        3, description=mark("so many such days in a row start the crisis plan")
    )

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

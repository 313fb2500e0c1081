"""What a review measures in one period, and which days two periods share."""

from __future__ import annotations

from dataclasses import dataclass

import ibis.expr.types as ir

from opslib.data.memory import remember
from opslib.data.periods import DAY, Period
from opslib.data.source import Data
from opslib.decide.costs import find_channels, find_rewards, find_spend
from opslib.decide.scope import Scope
from opslib.language import say
from opslib.measure.acquisition import AcquisitionResult, measure_acquisition
from opslib.measure.estimate import Estimate
from opslib.measure.growth import ActivityResult, measure_activity
from opslib.measure.retention import RetentionResult, measure_retention
from opslib.measure.revenue import RevenueResult, measure_revenue


@dataclass(frozen=True)
class PeriodMeasures:
    """Everything that the review measures in one period; None where the table for it is missing."""

    period: Period
    activity: ActivityResult
    retention: RetentionResult
    acquisition: AcquisitionResult
    revenue: RevenueResult | None

    def estimates(self) -> dict[str, Estimate]:
        """The headline metrics by name, in the order of a review."""
        found = [self.activity.dau, self.activity.mau, self.activity.stickiness, self.acquisition.new_users]
        found += self.retention.days.values()
        if self.revenue:
            found += [self.revenue.paying_users, self.revenue.paying_rate, self.revenue.revenue]
        if self.acquisition.cac:
            found.append(self.acquisition.cac)
        return {e.name: e for e in found}


def gather_active_days(data: Data, segment: str) -> ir.Table:
    """user_id, day of a segment's users over all of the data.

    Raises:
        InputError: nobody's activity is known.
    """
    return Scope(data, segment, "week", data.span, None, data.span, ()).active_days


@remember
def measure_period(data: Data, period: Period, *, segment: str = "") -> PeriodMeasures:
    """Measure everything that the review shows for one period."""
    active_days = gather_active_days(data, segment)
    revenue = None
    if data.has("orders"):
        orders = data.restrict(data.table("orders"), segment)
        revenue = measure_revenue(orders, active_days, period, calendar=data.calendar)
        if data.activity_name == "orders":
            # Whoever is active has bought: the share would be 100% by definition.
            blank = unknown(revenue.paying_rate, say("only buyers are in the data"))
            revenue = RevenueResult(**{**vars(revenue), "paying_rate": blank})
    return PeriodMeasures(
        period,
        measure_activity(active_days, period),
        measure_retention(active_days, period, as_of=data.as_of),
        measure_acquisition(
            active_days,
            period,
            as_of=data.as_of,
            channels=find_channels(data),
            spend=find_spend(data, segment),
            rewards=find_rewards(data, period, segment),
        ),
        revenue,
    )


def cover(wanted: Period, span: Period) -> tuple[Period, list[str]]:
    """The part of a period that the data cover, and a note when that is not all."""
    covered = wanted.clip(span)
    if covered.days == wanted.days:
        return covered, []
    note = say(
        "The data cover {days} of the {all_days} days of {period} ({first} to {last}).",
        days=covered.days,
        all_days=wanted.days,
        period=wanted.label,
        first=covered.start,
        last=covered.last_day,
    )
    return covered, [note]


def match_length(wanted: Period, now: Period, whole: Period, span: Period) -> tuple[Period, list[str]]:
    """The period to compare with: as many first days as the current one has, if that one is cut short at its end."""
    if now.start == whole.start and now.end < whole.end:
        end = min(wanted.end, wanted.start + now.days * DAY)
        label = say("{quarter}, first {days} days", quarter=wanted.label, days=now.days)
        covered, notes = cover(Period(wanted.start, end, label), span)
        note = say("It is compared with the same number of first days of {quarter}.", quarter=wanted.label[:6])
        return covered, [note, *notes]
    return cover(wanted, span)


def without_partial_totals(before: PeriodMeasures, now: Period) -> PeriodMeasures:
    """Blank out sums of a period that is much shorter or longer than the current one: quarters differ by two days."""
    if abs(before.period.days - now.days) <= 3:
        return before
    reason = say_lengths(before.period, now)
    acquisition, revenue = before.acquisition, before.revenue
    acquisition = AcquisitionResult(**{**vars(acquisition), "new_users": unknown(acquisition.new_users, reason)})
    if revenue:
        blank = {n: unknown(getattr(revenue, n), reason) for n in ("paying_users", "paying_rate", "revenue")}
        revenue = RevenueResult(**{**vars(revenue), **blank})
    return PeriodMeasures(before.period, before.activity, before.retention, acquisition, revenue)


def say_lengths(before: Period, now: Period) -> str:
    """Why the totals of two periods cannot be compared: one is much shorter."""
    return say(
        "{before} has {before_days} days of data, {now} {now_days}",
        before=before.label,
        before_days=before.days,
        now=now.label,
        now_days=now.days,
    )


def unknown(estimate: Estimate, note: str = "") -> Estimate:
    why = note or say("no data for the period before")
    return Estimate(estimate.name, None, 0, 0, None, None, "none", estimate.unit, note=why)

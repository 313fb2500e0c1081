"""The quarterly review: this quarter against the last and against the targets, in one result."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from opslib.data.periods import DAY, Period
from opslib.data.source import Data
from opslib.decide.costs import find_channels, find_rewards, find_spend
from opslib.decide.targets import TargetVerdict, judge_target
from opslib.measure.acquisition import AcquisitionResult, measure_acquisition
from opslib.measure.estimate import Change, Estimate, compare_estimates
from opslib.measure.growth import (
    ActivityResult,
    GrowthAccountingResult,
    account_growth,
    measure_activity,
)
from opslib.measure.retention import RetentionResult, measure_retention
from opslib.measure.revenue import RevenueResult, measure_revenue

# Sums over a period: not comparable between periods of which one is cut short by the data.
TOTALS = ("new_users_count", "paying_users_count", "paying_rate", "revenue_amount")


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


@dataclass(frozen=True)
class QuarterlyReview:
    """A quarter, the one it is compared with, and what the targets say.

    Attributes:
        company, currency: from the playbook.
        segment: the group of users reviewed; empty: everybody.
        now, before: what was measured; `before` is None when the data do not reach back.
        growth: growth accounting by quarter over all data up to this quarter.
        targets: metric -> verdict, for the playbook's targets that could be measured.
        missing: section -> the table that would light it up.
        notes: what a reader must know about the periods.
    """

    company: str
    currency: str
    segment: str
    now: PeriodMeasures
    before: PeriodMeasures | None
    growth: GrowthAccountingResult
    targets: dict[str, TargetVerdict]
    missing: dict[str, str]
    notes: tuple[str, ...]

    def changes(self) -> dict[str, Change]:
        """Headline metric -> change against the quarter before; the difference is None where none can be told."""
        before = self.before.estimates() if self.before else {}
        return {
            name: compare_estimates(now, before.get(name, _unknown(now))) for name, now in self.now.estimates().items()
        }

    def findings(self) -> list[dict[str, Any]]:
        """Everything a machine may want to read, as flat records."""
        label = self.now.period.label
        records = [c.to_finding(period=label) for c in self.changes().values()]
        records += [v.to_finding(period=label) for v in self.targets.values()]
        records += self.now.acquisition.findings()[2 if self.now.acquisition.cac else 1 :]
        return records + self.growth.findings()


def review_quarter(data: Data, *, quarter: str = "", compare_to: str = "", segment: str = "") -> QuarterlyReview:
    """Review one quarter.

    Args:
        data: the company's data; unfit data are refused.
        quarter: for example `2026Q2`; empty: the last complete one.
        compare_to: the quarter to compare with; empty: the one before.
        segment: one group of users such as `channel:search`; empty: everybody.

    Returns:
        A `QuarterlyReview`.

    Raises:
        InputError: unfit data, a quarter outside them, an unknown segment.
    """
    data.require_fit()
    data.check_segment(segment)
    chosen = data.choose_quarter(quarter)
    other = data.choose_quarter(compare_to) if compare_to else chosen.previous
    period, notes = _cover(chosen.period, data.span)
    now = measure_period(data, period, segment=segment)
    before = None
    if other.period.overlaps(data.span):
        earlier, earlier_notes = _match_length(other.period, period, chosen.period, data.span)
        notes += earlier_notes
        before = measure_period(data, earlier, segment=segment)
    else:
        notes.append(f"The data begin on {data.span.start}, so there is no {other} to compare with.")
    span = Period(data.span.start, min(data.span.end, period.end), "up to the review")
    targets = data.playbook.targets
    company = data.playbook.company
    return QuarterlyReview(
        company.name,
        company.currency,
        segment,
        now,
        _without_partial_totals(before, period) if before else None,
        account_growth(data.restrict(data.active_days, segment), span, grain="quarter"),
        {n: judge_target(e, targets[n]) for n, e in now.estimates().items() if n in targets},
        _find_missing(data, segment),
        tuple(notes),
    )


def measure_period(data: Data, period: Period, *, segment: str = "") -> PeriodMeasures:
    """Measure everything that the review shows for one period."""
    active_days = data.restrict(data.active_days, segment)
    revenue = None
    if data.has("orders"):
        orders = data.restrict(data.table("orders"), segment)
        revenue = measure_revenue(orders, active_days, period, calendar=data.calendar)
        if data.activity_name == "orders":
            # Whoever is active has bought: the share would be 100% by definition.
            unknown = _unknown(revenue.paying_rate, "only buyers are in the data")
            revenue = RevenueResult(**{**vars(revenue), "paying_rate": unknown})
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


def _cover(wanted: Period, span: Period) -> tuple[Period, list[str]]:
    """The part of a period that the data cover, and a note when that is not all."""
    covered = wanted.clip(span)
    if covered.days == wanted.days:
        return covered, []
    note = (
        f"The data cover {covered.days} of the {wanted.days} days of {wanted.label} "
        f"({covered.start} to {covered.last_day})."
    )
    return covered, [note]


def _match_length(wanted: Period, now: Period, whole: Period, span: Period) -> tuple[Period, list[str]]:
    """The period to compare with: as many first days as the current one has, if that one is cut short at its end."""
    if now.start == whole.start and now.end < whole.end:
        end = min(wanted.end, wanted.start + now.days * DAY)
        wanted = Period(wanted.start, end, f"{wanted.label}, first {now.days} days")
        covered, notes = _cover(wanted, span)
        return covered, [f"It is compared with the same number of first days of {wanted.label[:6]}.", *notes]
    return _cover(wanted, span)


def _without_partial_totals(before: PeriodMeasures, now: Period) -> PeriodMeasures:
    """Blank out sums of a period that is much shorter or longer than the current one: quarters differ by two days."""
    if abs(before.period.days - now.days) <= 3:
        return before
    reason = f"{before.period.label} has {before.period.days} days of data, {now.label} {now.days}"
    acquisition, revenue = before.acquisition, before.revenue
    acquisition = AcquisitionResult(**{**vars(acquisition), "new_users": _unknown(acquisition.new_users, reason)})
    if revenue:
        blank = {n: _unknown(getattr(revenue, n), reason) for n in ("paying_users", "paying_rate", "revenue")}
        revenue = RevenueResult(**{**vars(revenue), **blank})
    return PeriodMeasures(before.period, before.activity, before.retention, acquisition, revenue)


def _unknown(estimate: Estimate, note: str = "no data for the period before") -> Estimate:
    return Estimate(estimate.name, None, 0, 0, None, None, "none", estimate.unit, note=note)


def _find_missing(data: Data, segment: str) -> dict[str, str]:
    missing = {}
    if not data.has("orders"):
        missing["Paying users and revenue"] = "orders (user_id, ts, amount)"
    if not data.has("spend"):
        missing["Cost of new users"] = "spend (date, channel, amount)"
    elif segment and not segment.startswith("channel:"):
        missing["Cost of new users"] = "spend by this segment (it is only known by channel)"
    if "channel" not in data.attributes.columns:
        missing["New users by channel"] = "users (user_id, signup_at, channel)"
    return missing

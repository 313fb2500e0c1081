"""The quarterly review: this quarter against the last, the targets and the next, in one result."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any

import ibis.expr.types as ir
import pandas as pd

from opslib.data.periods import Period, Quarter
from opslib.data.source import Data
from opslib.decide.review.budget import BudgetReview, review_budget
from opslib.decide.review.cadence import Cadence, propose_cadence
from opslib.decide.review.decisions import list_decisions
from opslib.decide.review.measures import (
    PeriodMeasures,
    cover,
    match_length,
    measure_period,
    unknown,
    without_partial_totals,
)
from opslib.decide.review.operations import Operations, review_operations
from opslib.decide.review.outlook import NextQuarter, predict_next_quarter
from opslib.decide.targets import TargetVerdict, judge_target
from opslib.measure.bridge.bridge import BridgeResult, measure_bridge
from opslib.measure.estimate import Change, compare_estimates, to_plain_record
from opslib.measure.growth import GrowthAccountingResult, account_growth

# Quarters differ by two days.
SAME_LENGTH_DAYS = 3


@dataclass(frozen=True)
class QuarterlyReview:
    """A quarter, the one it is compared with, what the targets say, and what comes next.

    Attributes:
        company, currency: from the playbook.
        segment: the group of users reviewed; empty: everybody.
        now, before: what was measured; `before` is None when the data do not reach back.
        growth: growth accounting by quarter over all data up to this quarter.
        targets: metric -> verdict, for the playbook's targets that could be measured.
        bridge: how active users and revenue came from the quarter before to this one; None where the data do not say.
        budget: spend against the users who stayed; None where spend is not known.
        operations: rules that fired in the quarter, and what became of each initiative of the playbook.
        cadence: the team's rhythm, and three core things for the week.
        outlook: the next quarter.
        decisions: kind, subject, metric, value, bound, detail, owner, due (see `list_decisions`).
        missing: section -> the table that would light it up, or why there is nothing.
        notes: what a reader must know about the periods.
    """

    company: str
    currency: str
    segment: str
    now: PeriodMeasures
    before: PeriodMeasures | None
    growth: GrowthAccountingResult
    targets: dict[str, TargetVerdict]
    bridge: BridgeResult | None
    budget: BudgetReview | None
    operations: Operations
    cadence: Cadence
    outlook: NextQuarter
    decisions: pd.DataFrame
    missing: dict[str, str]
    notes: tuple[str, ...]

    def changes(self) -> dict[str, Change]:
        """Headline metric -> change against the quarter before; the difference is None where none can be told."""
        before = self.before.estimates() if self.before else {}
        return {
            name: compare_estimates(now, before.get(name, unknown(now))) for name, now in self.now.estimates().items()
        }

    def findings(self) -> list[dict[str, Any]]:
        """Everything a machine may want to read, as flat records."""
        label = self.now.period.label
        records = [c.to_finding(period=label) for c in self.changes().values()]
        records += [v.to_finding(period=label) for v in self.targets.values()]
        records += self.now.acquisition.findings()[2 if self.now.acquisition.cac else 1 :]
        records += self.growth.findings()
        operations = self.operations
        for part in (self.bridge, self.budget, self.cadence, self.outlook, *operations.verdicts, operations.forecasts):
            records += part.findings() if part is not None else []
        fired = operations.firings.drop(columns="steps")
        records += [{"name": "firing", "period": label, **to_plain_record(r)} for r in fired.to_dict("records")]
        decided = self.decisions.to_dict("records")
        return records + [{"name": "decision", "period": label, **to_plain_record(r)} for r in decided]


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
    period, notes = cover(chosen.period, data.span)
    now = measure_period(data, period, segment=segment)
    before = None
    if other.period.overlaps(data.span):
        earlier, earlier_notes = match_length(other.period, period, chosen.period, data.span)
        notes += earlier_notes
        before = measure_period(data, earlier, segment=segment)
    else:
        notes.append(f"The data begin on {data.span.start}, so there is no {other} to compare with.")
    span = Period(data.span.start, min(data.span.end, period.end), "up to the review")
    company, targets = data.playbook.company, data.playbook.targets
    judged = {n: judge_target(e, targets[n]) for n, e in now.estimates().items() if n in targets}
    active_days = data.restrict(data.active_days, segment)
    missing = _find_missing(data, segment)
    bridge, why = _bridge_quarters(data, active_days, now.period, before.period if before else None, segment)
    if why:
        missing["Bridge"] = why
    budget = review_budget(data, active_days, period, before.period if before else None, segment=segment)
    outlook = predict_next_quarter(data, active_days, now, _find_following(chosen, period), segment=segment)
    operations = review_operations(data, period, segment=segment)
    # Days to decide are counted from the quarter's end, or from the last day known where it is not over.
    last_day: dt.date = period.last_day
    return QuarterlyReview(
        company.name,
        company.currency,
        segment,
        now,
        without_partial_totals(before, period) if before else None,
        account_growth(active_days, span, grain="quarter"),
        judged,
        bridge,
        budget,
        operations,
        propose_cadence(data.playbook.cadence, now.estimates(), outlook.sensitivity, judged, bridge, budget),
        outlook,
        list_decisions(data.playbook, last_day, targets=judged, budget=budget, operations=operations),
        missing,
        tuple(notes),
    )


def _find_following(chosen: Quarter, period: Period) -> Period:
    """The next quarter; where this one is not over, what is left of it does not count as one."""
    following = chosen.next.period
    return Period(max(following.start, period.end), following.end, following.label)


def _bridge_quarters(
    data: Data, active_days: ir.Table, now: Period, before: Period | None, segment: str
) -> tuple[BridgeResult | None, str]:
    """The bridge, or why there is none."""
    if before is None:
        return None, "there is no quarter before to come from"
    if before.overlaps(now):
        return None, "a quarter cannot be compared with itself"
    if abs(before.days - now.days) > SAME_LENGTH_DAYS:
        return None, f"{before.label} has {before.days} days of data, {now.label} {now.days}"
    first, last = sorted((before, now), key=lambda p: p.start)
    if first.start <= data.span.start:
        return None, f"the data begin in {first.label}, so that every user of it looks new"
    if last is not now:
        return None, "the quarter compared with is the later one"
    orders = data.restrict(data.table("orders"), segment) if data.has("orders") else None
    openings = {p: Quarter.of(p.start).previous.period for p in (now, before)}
    bridge = measure_bridge(
        active_days,
        now,
        before,
        opening_now=openings[now],
        opening_before=openings[before],
        orders=orders,
        calendar=data.calendar,
    )
    return bridge, ""


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

"""The quarterly review: this quarter against the last, the targets and the next, in one result."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd

from opslib.data.memory import remember
from opslib.data.periods import Period, Quarter
from opslib.data.source import Data
from opslib.decide.review.budget import BudgetReview, review_budget
from opslib.decide.review.cadence import Cadence, propose_cadence
from opslib.decide.review.decisions import list_decisions
from opslib.decide.review.measures import (
    PeriodMeasures,
    cover,
    gather_active_days,
    match_length,
    measure_period,
    say_lengths,
    unknown,
    without_partial_totals,
)
from opslib.decide.review.operations import Operations, review_operations
from opslib.decide.review.outlook import NextQuarter, predict_next_quarter
from opslib.decide.targets import TargetVerdict, judge_target
from opslib.language import mark, say
from opslib.measure.bridge.bridge import BridgeResult, measure_bridge
from opslib.measure.estimate import Change, compare_estimates, to_plain_record
from opslib.measure.growth import GrowthAccountingResult, account_growth

# Quarters differ by two days.
SAME_LENGTH_DAYS = 3


@dataclass(frozen=True)
class QuarterlyReview:
    """A quarter, the one it is compared with, what the targets say, and what comes next.

    Each part is computed when it is first asked for.

    Attributes:
        data: the company's data.
        company, currency: from the playbook.
        segment: the group of users reviewed; empty: everybody.
        period, earlier, following: the days of the quarter, of the one compared with (None where the data do not reach
            back) and of the next.
        now, before: what was measured; `before` is None when the data do not reach back.
        growth: growth accounting by quarter over all data up to this quarter.
        targets: metric -> verdict, for the playbook's targets that could be measured.
        bridge: how active users and revenue came from the quarter before to this one; None where the data do not say.
        budget: spend against the users who stayed; None where spend is not known.
        operations: rules that fired in the quarter, and what became of each initiative of the playbook.
        cadence: the team's rhythm, and three core things for the week.
        outlook: the next quarter.
        decisions: kind, subject, metric, value, bound, detail, owner, due (see `list_decisions`).
        missing: section -> the table that would light it up (both to be translated where they are shown), or why there
            is nothing.
        missing_tables: the same, of tables alone.
        notes: what a reader must know about the periods.
    """

    data: Data
    segment: str
    period: Period
    earlier: Period | None
    following: Period
    operations: Operations
    missing_tables: dict[str, str]
    notes: tuple[str, ...]

    @property
    def company(self) -> str:
        return self.data.playbook.company.name

    @property
    def currency(self) -> str:
        return self.data.playbook.company.currency

    @cached_property
    def now(self) -> PeriodMeasures:
        return measure_period(self.data, self.period, segment=self.segment)

    @cached_property
    def before(self) -> PeriodMeasures | None:
        if self.earlier is None:
            return None
        return without_partial_totals(measure_period(self.data, self.earlier, segment=self.segment), self.period)

    @cached_property
    def growth(self) -> GrowthAccountingResult:
        return _account_growth(self.data, self.period, self.segment)

    @cached_property
    def targets(self) -> dict[str, TargetVerdict]:
        targets = self.data.playbook.targets
        return {n: judge_target(e, targets[n]) for n, e in self.now.estimates().items() if n in targets}

    @property
    def bridge(self) -> BridgeResult | None:
        return self._bridge[0]

    @cached_property
    def budget(self) -> BudgetReview | None:
        return review_budget(self.data, self.period, self.earlier, segment=self.segment)

    @cached_property
    def cadence(self) -> Cadence:
        settings, estimates = self.data.playbook.cadence, self.now.estimates()
        return propose_cadence(settings, estimates, self.outlook.sensitivity, self.targets, self.bridge, self.budget)

    @cached_property
    def outlook(self) -> NextQuarter:
        return predict_next_quarter(self.data, self.now, self.following, segment=self.segment)

    @cached_property
    def decisions(self) -> pd.DataFrame:
        # Days to decide are counted from the quarter's end, or from the last day known where it is not over.
        return list_decisions(
            self.data.playbook,
            self.period.last_day,
            targets=self.targets,
            budget=self.budget,
            operations=self.operations,
        )

    @property
    def missing(self) -> dict[str, str]:
        why = self._bridge[1]
        return self.missing_tables | ({mark("Bridge"): why} if why else {})

    @cached_property
    def _bridge(self) -> tuple[BridgeResult | None, str]:
        return _bridge_quarters(self.data, self.period, self.earlier, self.segment)

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
        A `QuarterlyReview`. What is wrong with the options is said at once; parts are computed when first asked for.

    Raises:
        InputError: unfit data, a quarter outside them, an unknown segment, initiatives that cannot be read.
    """
    data.require_fit()
    data.check_segment(segment)
    chosen = data.choose_quarter(quarter)
    other = data.choose_quarter(compare_to) if compare_to else chosen.previous
    period, notes = cover(chosen.period, data.span)
    gather_active_days(data, segment)
    earlier = None
    if other.period.overlaps(data.span):
        earlier, earlier_notes = match_length(other.period, period, chosen.period, data.span)
        notes += earlier_notes
    else:
        notes.append(
            say(
                "The data begin on {day}, so there is no {quarter} to compare with.", day=data.span.start, quarter=other
            )
        )
    return QuarterlyReview(
        data,
        segment,
        period,
        earlier,
        _find_following(chosen, period),
        review_operations(data, period, segment=segment),
        _find_missing(data, segment),
        tuple(notes),
    )


@remember
def _account_growth(data: Data, period: Period, segment: str) -> GrowthAccountingResult:
    span = Period(data.span.start, min(data.span.end, period.end), "up to the review")
    return account_growth(gather_active_days(data, segment), span, grain="quarter")


def _find_following(chosen: Quarter, period: Period) -> Period:
    """The next quarter; where this one is not over, what is left of it does not count as one."""
    following = chosen.next.period
    return Period(max(following.start, period.end), following.end, following.label)


@remember
def _bridge_quarters(data: Data, now: Period, before: Period | None, segment: str) -> tuple[BridgeResult | None, str]:
    """The bridge, or why there is none."""
    if before is None:
        return None, say("there is no quarter before to come from")
    if before.overlaps(now):
        return None, say("a quarter cannot be compared with itself")
    if abs(before.days - now.days) > SAME_LENGTH_DAYS:
        return None, say_lengths(before, now)
    first, last = sorted((before, now), key=lambda p: p.start)
    if first.start <= data.span.start:
        return None, say("the data begin in {quarter}, so that every user of it looks new", quarter=first.label)
    if last is not now:
        return None, say("the quarter compared with is the later one")
    orders = data.restrict(data.table("orders"), segment) if data.has("orders") else None
    openings = {p: Quarter.of(p.start).previous.period for p in (now, before)}
    bridge = measure_bridge(
        gather_active_days(data, segment),
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
        missing[mark("Paying users and revenue")] = "orders (user_id, ts, amount)"
    if not data.has("spend"):
        missing[mark("Cost of new users")] = "spend (date, channel, amount)"
    elif segment and not segment.startswith("channel:"):
        missing["Cost of new users"] = mark("spend by this segment (it is only known by channel)")
    if "channel" not in data.attributes.columns:
        missing[mark("New users by channel")] = "users (user_id, signup_at, channel)"
    return missing

"""Did the win-back win anybody back: those treated against those held out (H16)."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import ibis.expr.types as ir
import pandas as pd

from opslib.data.periods import Calendar
from opslib.errors import InputError, suggest_name
from opslib.language import mark, say
from opslib.measure.estimate import MINIMUM_DENOMINATOR, Estimate, to_plain_record
from opslib.measure.experiment.comparisons import Rules
from opslib.measure.experiment.metrics import Behavior, Metric
from opslib.measure.experiment.moments import aggregate_outcomes, arrange_groups
from opslib.measure.experiment.readout import ExperimentResult, conclude
from opslib.measure.experiment.split import SplitCheck, check_split, count_by_attribute, locate_mismatch
from opslib.measure.recall.table import BACK, COLUMNS, REVENUE, estimate_totals, tabulate_row, tabulate_segments
from opslib.measure.recall.uplift import judge_heterogeneity
from opslib.measure.recall.users import Assigned, check_campaign, collect_recalls, read_assigned, sum_costs

NO_HOLDOUT = mark("Nobody was held out, so there is nothing to compare: what the win-back brought is not known.")
NO_TREATED = mark("Nobody was treated, so there is nothing to compare: what the win-back brought is not known.")
NO_ARMS = mark("Nobody was drawn by then, so there is nothing to compare: what the win-back brought is not known.")

__all__ = ["RecallResult", "measure_recall"]


@dataclass(frozen=True)
class RecallResult:
    """What a win-back brought, treated against held out.

    Attributes:
        experiment, as_of, days: what was asked; a user came back who did so within `days` of being drawn.
        readout: the experiment's read-out: split, values, comparisons, decision.
        totals: treated_return_rate, holdout_return_rate, lift_rate (points), relative_lift_rate (to the holdout),
            incremental_users_count, revenue_difference_amount (a user), cost_per_incremental_amount, delivered_rate (of
            the treated) -> estimate; without a value where nothing can be said, and the note says why. All by
            intention: treated are all who were drawn to be, whether or not a message arrived.
        segments: segment; treated_count and holdout_count (users whose window is over) with back_count and rate;
            immature_count; delivered_rate (of all treated; missing without messages); lift_rate and relative_rate with
            low and high; p_value, q_value (Benjamini-Hochberg over segments), verdict ("gain", "loss", "unclear",
            "not_enough_data", "not_tested"); incremental_count with low and high; revenue_difference_amount with low
            and high and revenue_q_value; cost_amount; cost_per_incremental_amount with low and high (only with a gain);
            detectable_difference; note. One row a segment.
        heterogeneity_p_value: of the lifts being alike in all segments (Cochran's Q); None with fewer than two.
        notes: what a reader must know, in sentences.
    """

    experiment: str
    as_of: dt.date
    days: int
    readout: ExperimentResult
    totals: dict[str, Estimate]
    segments: pd.DataFrame
    heterogeneity_p_value: float | None
    notes: tuple[str, ...]

    @property
    def split(self) -> SplitCheck:
        """The sample-ratio check."""
        return self.readout.split

    @property
    def verdict(self) -> str:
        """What the whole says: gain, loss, unclear, not_enough_data or not_tested."""
        return str(self.readout.comparison(BACK)["verdict"])

    def findings(self) -> list[dict[str, Any]]:
        """Totals, segments and the read-out as flat records."""
        context = {"experiment": self.experiment, "as_of": self.as_of.isoformat(), "days": self.days}
        head = {"verdict": self.verdict, "heterogeneity_p_value": self.heterogeneity_p_value}
        records = [{"name": "recall", **context, **to_plain_record(head)}]
        records += [e.to_finding(**context) for e in self.totals.values()]
        rows = self.segments.to_dict("records")
        records += [{"name": "recall_segment", **context, **to_plain_record(row)} for row in rows]
        records += self.readout.findings()
        return records + [{"name": "recall_note", **context, "note": note} for note in self.notes]


def measure_recall(
    exposures: ir.Table,
    tables: Mapping[str, ir.Table],
    *,
    experiment: str,
    as_of: dt.date,
    days: int = 14,
    by: str = "orders",
    events: Sequence[str] = (),
    treated: str = "treated",
    holdout: str = "holdout",
    holdout_share: float | None = None,
    segments: ir.Table | None = None,
    messages: ir.Table | None = None,
    campaign: str = "",
    message_costs: Mapping[str, float] | None = None,
    costs: ir.Table | None = None,
    calendar: Calendar | None = None,
    level: float = 0.05,
    power: float = 0.8,
    minimum: int = MINIMUM_DENOMINATOR,
) -> RecallResult:
    """Measure what a win-back brought: who came back among those treated and among those held out.

    Args:
        exposures: user_id, experiment, variant, ts (UTC): who was drawn into which arm when; a user's first row counts.
        tables: name -> user_id, ts (UTC); "orders" with amount gives revenue too.
        experiment: which one.
        as_of: the last day that is fully known; users whose window is not over by its end are counted apart.
        days: the window after the draw, in days of 24 hours.
        by: the table whose rows are a return: "orders", or "events" for any activity.
        events: only these events.
        treated, holdout: the names of the arms.
        holdout_share: the planned share held out; None: the split is not checked.
        segments: user_id, segment, as they were at the draw.
        messages: user_id, ts (UTC), channel, delivered, for the share delivered and what messages cost.
        campaign: only messages of this campaign.
        message_costs: channel -> cost of a message sent.
        costs: user_id, amount: what else each user cost, for example by coupons; also of those held out.
        calendar: the company's clock.
        level: false-discovery rate, and 1 - confidence.
        power: of the detectable differences.
        minimum: with fewer users in an arm there is no value.

    Returns:
        A `RecallResult`. Lift in points by Newcombe's interval, relative lift by one on logarithms, cost by Fieller's.

    Raises:
        InputError: an experiment, arm, table or column that is not there; options that make no sense.

    >>> import ibis
    >>> names = {"experiment": ["may"] * 400, "variant": ["treated", "holdout"] * 200}
    >>> drawn = ibis.memtable({"user_id": range(400), **names, "ts": [dt.datetime(2026, 5, 1)] * 400})
    >>> buyers = [n for n in range(400) if n % 5 == 0 or n % 4 == 0]
    >>> bought = ibis.memtable({"user_id": buyers, "ts": [dt.datetime(2026, 5, 3)] * 160, "amount": [10.0] * 160})
    >>> result = measure_recall(
    ...     drawn, {"orders": bought}, experiment="may", as_of=dt.date(2026, 5, 31), holdout_share=0.5
    ... )
    >>> result.verdict, round(result.totals["lift_rate"].value, 3), result.totals["incremental_users_count"].value
    ('gain', 0.4, 80.0)
    """
    calendar = calendar or Calendar()
    _check_options(tables, by, days, holdout_share, message_costs or {}, level, power)
    assigned = read_assigned(exposures, experiment=experiment, arms=(holdout, treated), as_of=as_of, calendar=calendar)
    metrics = [Metric(BACK, Behavior(by, tuple(events), days=(0, days)), role="primary")]
    if "orders" in tables and "amount" in tables["orders"].columns:
        metrics.append(Metric(REVENUE, Behavior("orders", how="sum", column="amount", days=(0, days))))
    outcomes = collect_recalls(
        assigned, tables, metrics, days=days, as_of=as_of, calendar=calendar, segments=segments, messages=messages,
        campaign=campaign, message_costs=message_costs or {}, costs=costs,
    )  # fmt: skip
    arms, rules = (holdout, treated), Rules(level, power, minimum, None, False)
    split = _check_split(assigned, arms, holdout_share, segments)
    groups = arrange_groups(aggregate_outcomes(outcomes), outcomes, arms)
    readout = conclude(groups, split, rules, experiment=experiment, as_of=as_of, running=False, planned=None)
    sums = sum_costs(outcomes)
    if messages is not None and campaign and not sums["delivered"].sum():
        check_campaign(messages, campaign)
    everybody = sums.drop(columns="segment").groupby("variant").sum()
    comparisons = readout.comparisons.set_index("metric")
    spent = (bool(message_costs) and messages is not None) or costs is not None
    row = tabulate_row("", comparisons, everybody, arms, messages is not None, spent, level)
    totals = estimate_totals(row, readout, everybody, arms, level)
    table = pd.DataFrame(columns=list(COLUMNS))
    if segments is not None:
        table = tabulate_segments(outcomes, sums, arms, rules, split, messages is not None, spent)
    tested = table[table["verdict"].isin(["gain", "loss", "unclear"])]
    spread = tested["treated_rate"] * (1 - tested["treated_rate"]) / tested["treated_count"]
    spread += tested["holdout_rate"] * (1 - tested["holdout_rate"]) / tested["holdout_count"]
    unlike = judge_heterogeneity(tested["lift_rate"].astype(float), spread.astype(float))
    notes = list(_list_notes(row, assigned, arms, holdout_share, split, days, int(sums["free"].sum())))
    if message_costs and messages is None:
        notes.append(say("There is no messages table, so what the messages cost is not known."))
    return RecallResult(experiment, as_of, days, readout, totals, table, unlike, tuple(notes))


def _check_split(
    assigned: Assigned, arms: tuple[str, str], holdout_share: float | None, segments: ir.Table | None
) -> SplitCheck:
    counts, total = assigned.counts, sum(assigned.counts.values())
    planned = holdout_share
    if planned is None:
        planned = counts[arms[0]] / total if min(counts.values()) else 0.5
    shares = {arms[0]: planned, arms[1]: 1 - planned}
    split = check_split(counts, shares, crossed_by_first=assigned.crossed, unassigned=assigned.lost_count)
    if holdout_share is None:
        return replace(split, p_value=None, verdict="fine")
    if split.verdict == "mismatch":
        split = replace(split, where=locate_mismatch(count_by_attribute(assigned.table, segments, None), shares))
    return split


def _list_notes(
    row: Mapping[str, Any],
    assigned: Assigned,
    arms: tuple[str, str],
    holdout_share: float | None,
    split: SplitCheck,
    days: int,
    free: int,
) -> Iterable[str]:
    held, given = (assigned.counts[arm] for arm in arms)
    if not held or not given:
        yield say(NO_HOLDOUT if given else NO_TREATED if held else NO_ARMS)
    elif holdout_share is None:
        yield say("The planned share of the holdout is not given, so the split is not checked.")
    if split.verdict == "mismatch":
        yield say(
            "The split is not what was planned, so nothing is concluded: find out why before you read any number."
        )
    if row["immature_count"]:
        yield say(
            "{users:,} of {drawn:,} users have not had their {days} days yet and are left out: read it again when they "
            "have.",
            users=row["immature_count"],
            drawn=held + given,
            days=days,
        )
    if row["delivered_rate"] is not None:
        yield say(
            "A message reached {share:.1%} of the treated; all of them count, as those whom it would not have reached "
            "are in the holdout too.",
            share=row["delivered_rate"],
        )
    if free:
        yield say("{messages:,} messages went by channels without a cost and count as free.", messages=free)


def _check_options(
    tables: Mapping[str, ir.Table],
    by: str,
    days: int,
    share: float | None,
    message_costs: Mapping[str, float],
    level: float,
    power: float,
) -> None:
    if by not in tables:
        raise InputError(f"There is no table '{by}' to see who came back.{suggest_name(by, tables)}")
    wrong = ""
    if days < 1:
        wrong = f"days = {days}: a return takes a day at least"
    elif share is not None and not 0 < share < 1:
        wrong = f"holdout_share = {share} is no share between 0 and 1"
    elif not 0 < level < 1 or not 0 < power < 1:
        wrong = f"level {level} and power {power} are chances between 0 and 1"
    else:
        bad = next((c for c, p in message_costs.items() if not 0 <= p < math.inf), None)
        wrong = "" if bad is None else f"a message by '{bad}' costs {message_costs[bad]}: give 0 or more"
    if wrong:
        raise InputError(f"The recall cannot be measured: {wrong}.")

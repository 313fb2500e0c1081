"""A rehearsal on your own users: how often would an experiment without any effect have raised an alarm?

Users are split at random many times, nothing is done to anybody, and each split gets the whole read-out. What it claims
then is false, so the share of claims is the rate of false alarms that these metrics have on these users.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import ibis
import ibis.expr.types as ir
import pandas as pd

from opslib.data.periods import Calendar
from opslib.errors import InputError
from opslib.measure.estimate import MINIMUM_DENOMINATOR, Estimate, estimate_rate, to_plain_record
from opslib.measure.experiment.comparisons import Rules
from opslib.measure.experiment.metrics import Metric, Outcomes, collect_outcomes
from opslib.measure.experiment.moments import aggregate_outcomes, arrange_groups
from opslib.measure.experiment.readout import ExperimentResult, conclude
from opslib.measure.experiment.split import MISMATCH, check_split
from opslib.measure.recall.arms import draw_digits, write_user

SIDES = {"a": 0.5, "b": 0.5}
ALARM_COLUMNS = (
    "metric",
    "alarm_count",
    "split_count",
    "alarm_rate",
    "alarm_low",
    "alarm_high",
    "promised_rate",
    "holds",
)


@dataclass(frozen=True)
class RehearsalResult:
    """False alarms of read-outs without an effect.

    Attributes:
        splits_count: random splits read out.
        alarms: one row a metric, alarm_count of split_count splits (those where it could be tested) with p <= level:
            with looks "always" at any day's look; alarm_rate with low and high; promised_rate (the level); holds (the
            count is what such a rate gives, 99% binomial; with looks "always" or by exact tests not above it). The
            metric "(any primary)" is a verdict "gain" or "loss" after false-discovery control, "(sample ratio)" a
            mismatch.
        decisions: decision -> splits.
        looks, level: as in `ExperimentResult`.
    """

    splits_count: int
    alarms: pd.DataFrame
    decisions: dict[str, int]
    looks: str
    level: float

    def estimate(self, metric: str) -> Estimate:
        """The rate of false alarms of a metric.

        Raises:
            KeyError: no such metric.
        """
        rows = self.alarms[self.alarms["metric"] == metric]
        if rows.empty:
            raise KeyError(metric)
        return estimate_rate("alarm_rate", int(rows["alarm_count"].iloc[0]), int(rows["split_count"].iloc[0]))

    def findings(self) -> list[dict[str, Any]]:
        """One flat record a metric."""
        context = {"name": "rehearsal", "looks": self.looks, "level": self.level}
        return [{**context, **to_plain_record(row)} for row in self.alarms.to_dict("records")]


def rehearse_experiment(
    starts: ir.Table,
    tables: Mapping[str, ir.Table],
    *,
    metrics: Sequence[Metric],
    as_of: dt.date,
    calendar: Calendar | None = None,
    splits: int = 400,
    looks: Literal["once", "always"] = "once",
    level: float = 0.05,
    minimum: int = MINIMUM_DENOMINATOR,
) -> RehearsalResult:
    """Read out many random splits of users to whom nothing was done.

    Args:
        starts: user_id, ts (UTC): when each user would have been exposed, for example the sign-up; one row a user.
        tables, metrics, as_of, calendar: as in `measure_experiment`.
        splits: how many; the same users fall to the same sides in every run.
        looks: "once": one look at the end. "always": a look every day; an alarm at any of them counts.
        level: chance of a false alarm that is promised.

    Returns:
        A `RehearsalResult`.

    Raises:
        InputError: as `measure_experiment`; fewer than 20 splits.

    >>> at = dt.datetime(2026, 1, 1)
    >>> starts = ibis.memtable({"user_id": range(400), "ts": [at] * 400})
    >>> paid = ibis.memtable({"user_id": range(0, 400, 5), "ts": [at] * 80})
    >>> from opslib.measure.experiment.experiment import Behavior
    >>> metrics = [Metric("pay_rate", Behavior("orders"), role="primary")]
    >>> result = rehearse_experiment(
    ...     starts, {"orders": paid}, metrics=metrics, as_of=dt.date(2026, 1, 31), splits=50
    ... )
    >>> result.splits_count, bool(result.alarms["holds"].all())
    (50, True)
    """
    if splits < MINIMUM_DENOMINATOR:
        raise InputError(f"{splits} splits say nothing about a rate: at least {MINIMUM_DENOMINATOR} are needed.")
    calendar = calendar or Calendar()
    begun = starts.filter(starts.user_id.notnull() & starts.ts.notnull())
    assigned = begun.group_by("user_id").aggregate(exposed_at=begun.ts.min())
    assigned = assigned.mutate(variant=ibis.literal(""), day=calendar.local_day(assigned.exposed_at)).cache()
    ends = assigned.aggregate(first=assigned.exposed_at.min(), last=assigned.exposed_at.max()).to_pandas()
    if ends.isna().any(axis=None):
        raise InputError("There are no users to rehearse an experiment with.")
    first, last = (pd.Timestamp(x).to_pydatetime() for x in ends.iloc[0])
    outcomes = collect_outcomes(assigned, tables, metrics, span=(first, last), as_of=as_of, calendar=calendar)
    users = outcomes.table.cache()
    drawn = users.cross_join(ibis.memtable({"split": list(range(splits))}))
    # A lot by user and split is as good as a coin, and the same in every run and on every engine.
    text = write_user(drawn.user_id) + ibis.literal("/") + drawn.split.cast("string")
    side = ibis.ifelse(draw_digits(text) < "8", "a", "b")
    day = drawn.day if looks == "always" else ibis.null("date")
    table = drawn.mutate(variant=side, day=day)
    drawn_outcomes = Outcomes(table, outcomes.metrics, outcomes.kinds, outcomes.columns)
    frame = aggregate_outcomes(drawn_outcomes, "split")
    rules = Rules(level, 0.8, minimum, None, looks == "always")
    results = []
    for _, part in frame.groupby("split", sort=True):
        groups = arrange_groups(part, drawn_outcomes, list(SIDES))
        sizes = dict(zip(groups.variants, groups.users.sum(axis=1).tolist(), strict=True))
        split = check_split(sizes, SIDES)
        results.append(conclude(groups, split, rules, experiment="", as_of=as_of, running=False, planned=None))
    return _count_alarms(results, [m.name for m in outcomes.metrics], looks, level)


def _count_alarms(
    results: Sequence[ExperimentResult], metrics: Sequence[str], looks: str, level: float
) -> RehearsalResult:
    sound = [r for r in results if r.split.verdict != "mismatch"]
    rows = [_row("(sample ratio)", len(results) - len(sound), len(results), MISMATCH, False)]
    claims = 0
    tested = pd.concat([r.comparisons.assign(split=i) for i, r in enumerate(sound)], ignore_index=True)
    looked = pd.concat([r.sequence.assign(split=i) for i, r in enumerate(sound)], ignore_index=True)
    primary = tested[tested["role"] == "primary"]
    claims = primary[primary["verdict"].isin(["gain", "loss"])]["split"].nunique()
    if len(primary):
        rows.append(_row("(any primary)", claims, len(sound), level, True))
    for name in metrics:
        own = tested[tested["metric"] == name]
        if looks == "always":
            seen = looked[looked["metric"] == name].groupby("split")["always_p_value"].min()
            rows.append(_row(name, int((seen <= level).sum()), len(seen), level, True))
        else:
            p = own["p_value"].dropna()
            exact = own["method"].str.contains("exact").any()
            rows.append(_row(name, int((p <= level).sum()), len(p), level, bool(exact)))
    decisions = pd.Series([r.decision.decision for r in results]).value_counts().sort_index().to_dict()
    frame = pd.DataFrame(rows, columns=list(ALARM_COLUMNS))
    return RehearsalResult(len(results), frame, {str(k): int(v) for k, v in decisions.items()}, looks, level)


def _row(name: str, alarms: int, splits: int, promised: float, at_most: bool) -> tuple[Any, ...]:
    from scipy.special import bdtr, bdtrc

    rate = estimate_rate("alarm_rate", alarms, splits)
    # Chances of as many or more, and of as few or fewer, if the promise is kept.
    more = float(bdtrc(alarms - 1, splits, promised)) if alarms else 1.0
    fewer = float(bdtr(alarms, splits, promised)) if splits else 1.0
    holds = more > 0.005 and (at_most or fewer > 0.005)
    return name, alarms, splits, rate.value, rate.low, rate.high, promised, holds

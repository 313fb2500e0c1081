"""Did it work: the read-out of an experiment, from the split to one decision.

First the split: an uneven one stops every conclusion. Then each metric's values and differences among users whose
window is over. Then the decision: ship, stop or go on, with the reason.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Literal

import ibis
import ibis.expr.types as ir
import pandas as pd

from opslib.data.periods import DAY, Calendar
from opslib.errors import InputError, suggest_name
from opslib.measure.estimate import MINIMUM_DENOMINATOR
from opslib.measure.experiment.comparisons import Rules
from opslib.measure.experiment.decision import Decision
from opslib.measure.experiment.metrics import Behavior, Metric, collect_outcomes, select_outcomes
from opslib.measure.experiment.moments import Groups, aggregate_outcomes, arrange_groups
from opslib.measure.experiment.readout import ExperimentResult, conclude
from opslib.measure.experiment.split import (
    SplitCheck,
    check_split,
    count_by_attribute,
    locate_mismatch,
    resolve_shares,
)

__all__ = ["Behavior", "Decision", "ExperimentResult", "Metric", "SplitCheck", "measure_experiment", "read_experiment"]

Looks = Literal["auto", "once", "always"]
# More variants than this are no variants but a wrong column.
MOST_VARIANTS = 20
# Nobody new for so many days: users no longer come in.
QUIET_DAYS = 3


def measure_experiment(
    exposures: ir.Table,
    tables: Mapping[str, ir.Table],
    *,
    experiment: str,
    metrics: Sequence[Metric],
    as_of: dt.date,
    control: str = "control",
    calendar: Calendar | None = None,
    shares: Mapping[str, float] | None = None,
    attributes: ir.Table | None = None,
    attribute_columns: Sequence[str] | None = None,
    looks: Looks = "auto",
    planned_users: int | None = None,
    level: float = 0.05,
    power: float = 0.8,
    minimum: int = MINIMUM_DENOMINATOR,
) -> ExperimentResult:
    """Read out an experiment from exposures and what users did.

    Args:
        exposures: user_id, experiment, variant, ts (UTC); a user's first row counts, users of several variants are set
            aside.
        tables: name -> user_id, ts (UTC) and the columns that the metrics' behaviours name, for example events, orders.
        experiment: which one.
        metrics: what it is measured by, in behaviours.
        as_of: the last day that is fully known; users whose window is not over by its end are counted apart.
        control: the variant that the others are compared with.
        calendar: the company's clock.
        shares: variant -> planned share; by default all alike.
        attributes: one row a user: what was known before exposure, to find where a split went wrong.
        attribute_columns: which of its columns; by default all texts and flags.
        looks: "once": one look at the planned end. "always": by a confidence sequence, valid however often somebody
            looks. "auto": always while users come in, once when the experiment is over or has its planned users.
        planned_users: users of all variants the experiment was planned for; they tune the sequence too.
        level: false-discovery rate of the verdicts.
        power: of the detectable difference.
        minimum: with fewer users in a variant there is no value.

    Returns:
        An `ExperimentResult`.

    Raises:
        InputError: an experiment, variant, table or column that is not there; metrics that cannot be measured.

    >>> at = [dt.datetime(2026, 1, 1, n % 24) for n in range(400)]
    >>> names = {"experiment": ["new page"] * 400, "variant": ["control", "page"] * 200}
    >>> seen = ibis.memtable({"user_id": range(400), **names, "ts": at})
    >>> paid = ibis.memtable({"user_id": range(0, 400, 5), "ts": [t + DAY for t in at[::5]]})
    >>> pay = Metric("pay_rate", Behavior("orders"), role="primary")
    >>> result = measure_experiment(
    ...     seen, {"orders": paid}, experiment="new page", metrics=[pay], as_of=dt.date(2026, 1, 31)
    ... )
    >>> row = result.comparison("pay_rate")
    >>> row["control_value"], row["variant_value"], result.decision.decision, result.decision.reason
    (0.2, 0.2, 'stop', 'no_clear_effect')
    """
    calendar = calendar or Calendar()
    rows = exposures.filter(exposures.experiment == experiment)
    _check_experiment(exposures, rows, experiment)
    end = calendar.day_start(as_of + DAY)
    whole = rows.user_id.notnull() & rows.variant.notnull() & rows.ts.notnull()
    lost = int(rows.aggregate(n=(~whole).sum().fill_null(0)).to_pandas().iloc[0, 0])
    kept = rows.filter(whole & (rows.ts < ibis.timestamp(end)))
    variant = kept.variant.cast("string")
    users = kept.group_by("user_id").aggregate(
        variant=variant.argmin(kept.ts), several=variant.nunique() > 1, exposed_at=kept.ts.min()
    )
    users = users.mutate(day=calendar.local_day(users.exposed_at)).cache()
    counted = (
        users.group_by("variant", "several")
        .aggregate(users=users.count(), first=users.exposed_at.min(), last=users.exposed_at.max())
        .to_pandas()
    )
    crossed = counted[counted["several"]].set_index("variant")["users"].astype(int).to_dict()
    counted = counted[~counted["several"]]
    _check_number(counted["variant"].nunique())
    if counted.empty and not crossed:
        raise InputError(f"Nobody was exposed to experiment '{experiment}' by {as_of}.")
    planned = resolve_shares(sorted({*counted["variant"], *crossed}), shares, control)
    assigned = users.filter(~users.several).drop("several")
    if len(counted):
        first, last = (pd.Timestamp(x).to_pydatetime() for x in (counted["first"].min(), counted["last"].max()))
    else:
        first = last = end
    outcomes = collect_outcomes(assigned, tables, metrics, span=(first, last), as_of=as_of, calendar=calendar)
    groups = arrange_groups(aggregate_outcomes(outcomes), outcomes, list(planned))
    _check_events(groups, tables)
    sizes = dict(zip(groups.variants, groups.users.sum(axis=1).tolist(), strict=True))
    split = check_split(sizes, planned, crossed_by_first=crossed, unassigned=lost)
    if split.verdict == "mismatch":
        found = locate_mismatch(count_by_attribute(assigned, attributes, attribute_columns), planned)
        split = check_split(sizes, planned, crossed_by_first=crossed, unassigned=lost, where=found)
    last_day = calendar.day_of(last)
    running = bool(len(counted)) and (as_of - last_day).days < QUIET_DAYS
    rules = _choose_rules(groups, looks, running, planned_users, level, power, minimum)
    return conclude(groups, split, rules, experiment=experiment, as_of=as_of, running=running, planned=planned_users)


def read_experiment(
    users: ir.Table,
    *,
    metrics: Sequence[Metric],
    control: str,
    variant: str = "variant",
    user: str = "",
    day: str = "",
    experiment: str = "",
    shares: Mapping[str, float] | None = None,
    attribute_columns: Sequence[str] = (),
    looks: Literal["once", "always"] = "once",
    running: bool = False,
    planned_users: int | None = None,
    level: float = 0.05,
    power: float = 0.8,
    minimum: int = MINIMUM_DENOMINATOR,
) -> ExperimentResult:
    """Read out an experiment from a table of one row a user.

    Args:
        users: a column with the variant, and those that the metrics name; a missing value means that the user's window
            is not over.
        metrics: what it is measured by, in columns. Columns of true and false are conversions.
        control: the variant that the others are compared with.
        variant: the column that holds it.
        user: the column with the user, if rows may repeat: users of several variants are set aside.
        day: the column with the day of exposure, if there is one; it gives the sequence.
        experiment: its name.
        attribute_columns: what was known before exposure, to find where a split went wrong. What users did afterwards
            must not be among them.
        running: more users are to come.

    The rest is as in `measure_experiment`.

    Returns:
        An `ExperimentResult`.

    Raises:
        InputError: a column or variant that is not there; several rows of one user.

    >>> table = ibis.memtable({"variant": ["a", "b"] * 300, "stayed": [n % 5 == 0 or n % 4 == 1 for n in range(600)]})
    >>> result = read_experiment(table, metrics=[Metric("stay_rate", "stayed", role="primary")], control="a")
    >>> result.comparison("stay_rate")["verdict"], result.decision.decision, result.decision.reason
    ('gain', 'ship', 'primary_gained')
    """
    for column in [variant, *(c for c in (user, day) if c), *attribute_columns]:
        if column not in users.columns:
            raise InputError(f"The table has no column '{column}'.{suggest_name(column, users.columns)}")
    known = users.filter(users[variant].notnull())
    known = known.mutate(**{variant: known[variant].cast("string")})
    crossed: dict[str, int] = {}
    if user:
        known, crossed = _set_aside(known, user, variant)
    counted = known.group_by(variant).aggregate(users=known.count()).limit(MOST_VARIANTS + 1).to_pandas()
    _check_number(len(counted))
    lost = int(users.aggregate(n=users[variant].isnull().sum().fill_null(0)).to_pandas().iloc[0, 0])
    planned = resolve_shares(sorted(counted[variant]), shares, control)
    outcomes = select_outcomes(known, metrics, variant=variant, day=day)
    groups = arrange_groups(aggregate_outcomes(outcomes), outcomes, list(planned))
    sizes = dict(zip(groups.variants, groups.users.sum(axis=1).tolist(), strict=True))
    split = check_split(sizes, planned, crossed_by_first=crossed, unassigned=lost)
    if split.verdict == "mismatch":
        numbered = known.mutate(user_id=ibis.row_number())
        date = numbered[day].cast("date") if day else ibis.null("date")
        assigned = numbered.select("user_id", variant=numbered[variant], day=date)
        attributes = numbered.select("user_id", *attribute_columns)
        found = locate_mismatch(count_by_attribute(assigned, attributes, attribute_columns), planned)
        split = check_split(sizes, planned, crossed_by_first=crossed, unassigned=lost, where=found)
    rules = _choose_rules(groups, looks, running, planned_users, level, power, minimum)
    return conclude(groups, split, rules, experiment=experiment, as_of=None, running=running, planned=planned_users)


def _choose_rules(
    groups: Groups, looks: str, running: bool, planned: int | None, level: float, power: float, minimum: int
) -> Rules:
    if looks not in ("auto", "once", "always"):
        raise InputError(
            f"looks is 'auto', 'once' or 'always', not '{looks}'.{suggest_name(looks, ['once', 'always'])}"
        )
    if not 0 < level < 1 or not 0 < power < 1:
        raise InputError(f"level {level} and power {power} are chances between 0 and 1.")
    reached = planned is not None and int(groups.users.sum()) >= planned
    waiting = any(part.immature.any() for part in groups.metrics)
    always = looks == "always" or (looks == "auto" and (running or waiting) and not reached)
    share = None if planned is None else max(2, round(2 * planned / max(2, len(groups.variants))))
    return Rules(level, power, minimum, share, always)


def _check_experiment(exposures: ir.Table, rows: ir.Table, experiment: str) -> None:
    if int(rows.limit(1).count().to_pandas()):
        return
    names = exposures.group_by("experiment").aggregate(users=exposures.count()).limit(1000).to_pandas()
    known = sorted(str(n) for n in names["experiment"].dropna())
    listed = f"Experiments: {', '.join(known[:MOST_VARIANTS])}." if known else "Nobody was exposed to any."
    raise InputError(f"There is no experiment '{experiment}'.{suggest_name(experiment, known)} {listed}")


def _check_events(groups: Groups, tables: Mapping[str, ir.Table]) -> None:
    """Refuse a misspelt event: it would read as an experiment without effect."""
    for part in groups.metrics:
        behaviors = [(part.metric.of, part.total), (part.metric.per, part.total_per)]
        for behavior, totals in behaviors:
            if not isinstance(behavior, Behavior) or not behavior.events or totals.any():
                continue
            names = tables[behavior.table].select("event").distinct().limit(10_000).to_pandas()["event"].dropna()
            for event in set(behavior.events) - set(names):
                if hint := suggest_name(event, names):
                    raise InputError(f"Metric '{part.metric.name}': there is no event '{event}'.{hint}")


def _check_number(variants: int) -> None:
    if variants > MOST_VARIANTS:
        raise InputError(f"More than {MOST_VARIANTS} variants: the column is not the one that holds the variant.")


def _set_aside(table: ir.Table, user: str, variant: str) -> tuple[ir.Table, dict[str, int]]:
    """Leave out users of several variants; refuse several rows of one."""
    sides = table.group_by(user).aggregate(rows=table.count(), sides=table[variant].nunique(), one=table[variant].min())
    found = sides.filter(sides.rows > 1)
    counted = found.group_by("one").aggregate(many=(found.sides > 1).sum(), twice=(found.sides == 1).sum()).to_pandas()
    if counted["twice"].sum():
        number = int(counted["twice"].sum())
        raise InputError(f"{number:,} users have several rows: sum them up to one row a user first.")
    crossed = {str(r.one): int(r.many) for r in counted.itertuples() if r.many}
    if not crossed:
        return table, {}
    return table.anti_join(found.select(user), user), crossed

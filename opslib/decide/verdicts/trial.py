"""The looks that an experiment or a holdout gives: users who got it against users who were drawn not to."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import ibis
import ibis.expr.types as ir
import pandas as pd

from opslib.data.operations import BAD_WHEN_HIGH, InitiativeSettings
from opslib.data.periods import DAY
from opslib.data.playbook import ExperimentSettings
from opslib.data.source import Data
from opslib.decide.verdicts.looks import Look, Role, Strength, judge_direction
from opslib.decide.verdicts.readings import MONEY, Reading, choose_reading
from opslib.errors import InputError
from opslib.language import mark, say
from opslib.measure.estimate import MINIMUM_DENOMINATOR, Estimate
from opslib.measure.experiment.experiment import Behavior, ExperimentResult, Metric, measure_experiment
from opslib.measure.recall.arms import HOLDOUT
from opslib.measure.sequential import inflate_for_looks

# Windows after exposure, the longest that users have had; drawn all at once, users are followed to the end.
WINDOWS = (28, 14, 7)
LONGEST_WINDOW = 91
# From the first exposure to the last no longer than this: everybody was drawn at once.
AT_ONCE = dt.timedelta(days=1)
HALVES = ("first_half_", "second_half_")
ADJUSTED = mark("The effect allows for what the users did before.")
SPLIT_MISMATCH = mark(
    "Users of experiment '{name}' were not split as planned (chance of that by itself below 0.1%), so it says nothing."
)


@dataclass(frozen=True)
class TrialLooks:
    """What an experiment says of an initiative.

    Attributes:
        looks: (role, metric) -> look, for what could be read per user.
        why_not: (role, metric) -> why it could not, in a sentence.
        result: the read-out; None where there is none to rely on.
        early, late: of orders, revenue and paying, where all users were drawn at once: the core look in the first and
            in the second half of the window; None elsewhere.
    """

    looks: dict[tuple[Role, str], Look]
    why_not: dict[tuple[Role, str], str]
    result: ExperimentResult | None = None
    early: Look | None = None
    late: Look | None = None

    @property
    def brought_forward(self) -> bool:
        """True where more came in the first half and clearly less in the second: part was only brought forward."""
        return self.early is not None and self.late is not None and self.late.direction == "worse"


def read_trial_looks(
    data: Data,
    initiative: InitiativeSettings,
    wanted: Sequence[tuple[Role, str]],
    *,
    as_of: dt.date,
    worth: float | None,
) -> TrialLooks:
    """Read an initiative's metrics among the users of its experiment.

    Args:
        wanted: role and metric of each look.
        as_of: the last day that is known.
        worth: the smallest change of the core metric worth having, without a sign; None: nothing says.

    Returns:
        A `TrialLooks`; empty, with the reason, where no experiment can be relied on.
    """

    def refuse(reason: str, result: ExperimentResult | None = None) -> TrialLooks:
        return TrialLooks({}, dict.fromkeys(wanted, reason), result)

    name = initiative.experiment
    if not name:
        return refuse(say("No experiment or holdout is named."))
    if not data.has("exposures"):
        return refuse(say("There is no table exposures, so nobody knows who got it and who did not."))
    exposures = data.table("exposures")
    seen = _look_at_exposures(data, exposures, name, as_of)
    if seen is None:
        return refuse(say("Nobody was exposed to experiment '{name}' by {day}.", name=name, day=as_of))
    settings = data.playbook.experiments.get(name, ExperimentSettings())
    control = settings.control
    if control not in seen.variants and HOLDOUT in seen.variants:
        control = HOLDOUT
    if control not in seen.variants or len(seen.variants) < 2:
        text = say(
            "Experiment '{name}' has the variants {variants}, and none to compare with: name its control in the "
            'playbook, [experiments.{name}] control = "...".',
            name=name,
            variants=say(", ").join(seen.variants),
        )
        return refuse(text)
    last_day = min(as_of, initiative.last_day) if seen.at_once else as_of
    window = _choose_window(seen, data, as_of, last_day)
    metrics, readings, tables, why_not = _choose_metrics(data, wanted, window, seen.at_once)
    if not metrics:
        return TrialLooks({}, why_not)
    try:
        result = measure_experiment(
            exposures, tables, experiment=name, metrics=metrics, as_of=as_of, control=control, calendar=data.calendar,
            shares=settings.shares, planned_users=settings.planned_users,
        )  # fmt: skip
    except InputError as error:
        return refuse(say("Experiment '{name}' cannot be read out: {error}", name=name, error=error))
    if result.split.verdict == "mismatch":
        return refuse(say(SPLIT_MISMATCH, name=name), result)
    variant = result.decision.variant or next(v for v in seen.variants if v != control)
    strength: Strength = "holdout" if control == HOLDOUT or settings.campaign else "experiment"
    rate = seen.users_per_day if result.running else None
    looks = {}
    for role, metric in wanted:
        if metric in readings:
            look = _make_look(
                result, role, metric, variant, readings[metric], window, worth if role == "core" else None, rate
            )
            looks[role, metric] = replace(look, strength=strength)
    halves = [
        replace(
            _make_look(result, "core", f"{half}{wanted[0][1]}", variant, readings[wanted[0][1]], window, None, None),
            metric=wanted[0][1],
            strength=strength,
        )
        if f"{half}{wanted[0][1]}" in {m.name for m in metrics}
        else None
        for half in HALVES
    ]
    return TrialLooks(looks, why_not, result, halves[0], halves[1])


@dataclass(frozen=True)
class _Exposed:
    variants: list[str]
    first: dt.datetime
    last: dt.datetime
    users_per_day: float

    @property
    def at_once(self) -> bool:
        return self.last - self.first < AT_ONCE


def _look_at_exposures(data: Data, exposures: ir.Table, name: str, as_of: dt.date) -> _Exposed | None:
    end = ibis.timestamp(data.calendar.day_start(as_of + DAY))
    rows = exposures.filter(
        exposures.experiment.cast("string") == name, exposures.ts < end, exposures.variant.notnull()
    )
    grouped = rows.group_by(variant=rows.variant.cast("string"))
    found = data.execute(grouped.aggregate(first=rows.ts.min(), last=rows.ts.max(), users=rows.user_id.nunique()))
    if found.empty:
        return None
    first, last = (pd.Timestamp(x).to_pydatetime() for x in (found["first"].min(), found["last"].max()))
    days = max(1.0, (last - first) / dt.timedelta(days=1))
    return _Exposed(sorted(found["variant"]), first, last, float(found["users"].sum()) / days)


def _choose_window(seen: _Exposed, data: Data, as_of: dt.date, last_day: dt.date) -> int:
    if seen.at_once:
        end = data.calendar.day_start(last_day + DAY)
        return min(max((end - seen.last).days, 1), LONGEST_WINDOW)
    end = data.calendar.day_start(as_of + DAY)
    longest, shorter, shortest = WINDOWS
    if seen.last + longest * DAY <= end:
        return longest
    return shorter if seen.first + longest * DAY <= end else shortest


def _choose_metrics(
    data: Data, wanted: Sequence[tuple[Role, str]], window: int, at_once: bool
) -> tuple[list[Metric], dict[str, Reading], dict[str, ir.Table], dict[tuple[Role, str], str]]:
    metrics: list[Metric] = []
    readings: dict[str, Reading] = {}
    tables: dict[str, ir.Table] = {}
    why_not = {}
    for role, metric in wanted:
        found = choose_reading(data, metric, window)
        if isinstance(found, str):
            why_not[role, metric] = found
            continue
        if metric in readings:
            continue
        reading, table, make = found
        readings[metric] = reading
        if table not in tables:
            tables[table] = make()
        better: Any = "lower" if (metric in BAD_WHEN_HIGH) != (reading.scale < 0) else "higher"
        part: Any = "primary" if role == "core" else "secondary"
        metrics.append(Metric(metric, reading.of, per=reading.per, before=reading.before, role=part, better=better))
        if role == "core" and at_once and metric in MONEY and window >= 2:
            for name, days in zip(HALVES, ((0, window // 2), (window // 2, window)), strict=True):
                half = replace(reading.of, days=days)
                metrics.append(Metric(f"{name}{metric}", half, before=reading.before, better=better))
    return metrics, readings, tables, why_not


def _make_look(
    result: ExperimentResult,
    role: Role,
    metric: str,
    variant: str,
    reading: Reading,
    window: int,
    worth: float | None,
    users_per_day: float | None,
) -> Look:
    row = result.comparison(metric, variant)
    always = result.looks == "always"
    ends = ("always_low", "always_high") if always else ("difference_low", "difference_high")
    effect, low, high = (_scale(row[c], reading) for c in ("difference", *ends))
    if low is not None and high is not None and low > high:
        low, high = high, low
    p = row["always_p_value" if always else "p_value"]
    with_it = _turn(result.values[metric, variant], reading, metric)
    without = _turn(result.values[metric, result.control], reading, metric)
    users = int(result.split.variants.set_index("variant")["users_count"].get(variant, 0))
    notes = [say("Each user's value: {what}.", what=reading.says)]
    if "CUPED" in row["method"]:
        notes.append(say(ADJUSTED))
    if always:
        notes.append(
            say("Users still come in or have their days to go, so the interval is the one that holds at every look.")
        )
    if row["note"]:
        notes.append(say("{text}.", text=f"{row['note'][0].upper()}{row['note'][1:].rstrip('.。')}"))
    look = Look(
        role, metric, reading.unit, "experiment", with_it, without, effect, low, high, p,
        effect / without.value if effect is not None and without.value else None,
        per_user=True, window_days=_end_of(reading.of), immature_count=int(row["immature_count"]), users_count=users,
        worth=worth, notes=tuple(notes), result=result,
    )  # fmt: skip
    if reading.per is not None and min(with_it.denominator, without.denominator) < MINIMUM_DENOMINATOR:
        few = say(
            "Only {count:,.0f} and {other:,.0f} answers are known.",
            count=with_it.denominator,
            other=without.denominator,
        )
        look = replace(look, effect=None, low=None, high=None, p_value=None, relative=None, notes=(*look.notes, few))
    look = judge_direction(look)
    shown, used = row["detectable_difference"], row["users_count"] + row["control_users_count"]
    if look.direction in ("unclear", "unknown") and worth and shown and not math.isnan(shown):
        factor = inflate_for_looks() if always else 1.0
        needed = used * factor * (shown * abs(reading.scale) / worth) ** 2
        # Those whose days are still to come are on their way.
        more = max(0, math.ceil(needed - used - row["immature_count"]))
        days = math.ceil(more / users_per_day) + window if users_per_day else None
        look = replace(look, more_users_count=more, more_days=days)
    return look


def _end_of(behavior: Behavior) -> int:
    return behavior.days[1]


def _scale(value: float | None, reading: Reading) -> float | None:
    return None if value is None or math.isnan(value) else value * reading.scale


def _turn(estimate: Estimate, reading: Reading, metric: str) -> Estimate:
    """An estimate of a behaviour as one of the metric: scaled, or of those who did not."""
    if reading.scale == 1 and not reading.shift:
        return replace(estimate, name=metric, unit=reading.unit)

    def turn(x: float | None) -> float | None:
        return None if x is None else reading.shift + reading.scale * x

    low, high = turn(estimate.low), turn(estimate.high)
    if reading.scale < 0:
        low, high = high, low
    top = reading.shift * estimate.denominator + reading.scale * estimate.numerator
    return replace(
        estimate, name=metric, value=turn(estimate.value), numerator=top, low=low, high=high, unit=reading.unit
    )

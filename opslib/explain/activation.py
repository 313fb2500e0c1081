"""Activation: which behaviours of the first week go with staying, raw and at equal activity, and how to prove one.

What is found is association. Users who are active more do more of everything, and stay more: that is why each
difference stands beside the one among users alike in activity and in what else is known of them. Even that is no proof;
so each behaviour comes with the size of the experiment that would give it.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import ibis
import ibis.expr.types as ir
import numpy as np
import pandas as pd

from opslib.data.periods import DAY, Calendar, Period
from opslib.errors import InputError, suggest_name
from opslib.explain.statistics import (
    Floats,
    compute_terms,
    estimate_difference,
    estimate_log_ratio,
    log_p_value,
    score_association,
)
from opslib.language import mark, say
from opslib.measure.estimate import (
    Estimate,
    adjust_p_values,
    compare_estimates,
    estimate_rate,
    quantile,
    to_plain_record,
)
from opslib.measure.sample_size import size_rates

NOT_GIVEN = "(not given)"
OTHER = "(other)"
# Active days of the first window up to which a user belongs to a tier; more make the last tier.
ACTIVITY_TIERS = (1, 2, 4)
# Rarer values of a confounder count as one: strata of few users compare nobody.
CONFOUNDER_VALUES = 20
RECENT_DAYS = 28
USUAL_CONFOUNDERS = ("channel", "platform")

BEHAVIOR_COLUMNS = (
    "behavior",
    "did_count",
    "did_stayed_count",
    "did_not_count",
    "did_not_stayed_count",
    "did_rate",
    "did_not_rate",
    "raw_difference_rate",
    "raw_difference_low",
    "raw_difference_high",
    "raw_ratio",
    "raw_ratio_low",
    "raw_ratio_high",
    "adjusted_difference_rate",
    "adjusted_difference_low",
    "adjusted_difference_high",
    "adjusted_ratio",
    "adjusted_ratio_low",
    "adjusted_ratio_high",
    "compared_rate",
    "p_value",
    "q_value",
    "experiment_difference_rate",
    "arm_users_count",
    "experiment_days",
)


@dataclass(frozen=True)
class ActivationResult:
    """Behaviours of the first days, held against staying.

    Attributes:
        period: the users' first days.
        window_days: behaviour counts on the first so many days.
        outcome_days: staying is activity on any day with first day + n, n from the first number to before the second.
        stayed: share of mature users who stayed.
        immature_count: users of the period whose outcome is not over yet; they are in no count.
        behaviors: one row a behaviour, the most certain difference first: behavior; did_count, did_stayed_count,
            did_not_count, did_not_stayed_count; did_rate, did_not_rate (share that stayed); raw_difference_rate and
            raw_ratio, adjusted_difference_rate and adjusted_ratio (among users alike in `confounders`), each with low
            and high; compared_rate (share of those who did it for whom there is somebody alike who did not), p_value,
            q_value (Benjamini-Hochberg) of the adjusted difference; arm_users_count and experiment_days of the
            experiment that would prove experiment_difference_rate: the adjusted difference or, where the q-value
            exceeds `level`, the largest difference that the interval leaves possible (missing: impossible shares).
        left_out: behavior, did_count, reason (rare, universal, absent) of behaviours that could not be compared.
        confounders: what users are alike in.
        new_users_per_day: mean over the last 28 days, for the experiments.
        level: the q-value up to which a behaviour is said to go with staying.
        evidence: always "association".
        note: why nothing was compared, or an empty text.
    """

    period: Period
    window_days: int
    outcome_days: tuple[int, int]
    stayed: Estimate
    immature_count: int
    behaviors: pd.DataFrame
    left_out: pd.DataFrame
    confounders: tuple[str, ...]
    new_users_per_day: float
    level: float
    note: str
    evidence: str = "association"

    @property
    def proposal(self) -> dict[str, Any] | None:
        """The behaviour to test first, with its experiment; None where none goes with staying more."""
        frame = self.behaviors
        worth = frame[(frame["q_value"] <= self.level) & (frame["adjusted_difference_rate"] > 0)]
        worth = worth[worth["arm_users_count"].notna()]
        return to_plain_record(worth.iloc[0].to_dict()) if len(worth) else None

    def findings(self) -> list[dict[str, Any]]:
        """The share that stayed, one record a behaviour, and how many were left out for which reason."""
        label, kind = self.period.label, {"evidence": self.evidence}
        records: list[dict[str, Any]] = [self.stayed.to_finding(period=label, immature=self.immature_count)]
        for row in self.behaviors.to_dict("records"):
            records.append({"name": "behavior", "period": label, **kind, **to_plain_record(row)})
        for reason, count in self.left_out["reason"].value_counts().sort_index().items():
            records.append({"name": "behaviors_left_out", "period": label, "reason": str(reason), "count": int(count)})
        return records


def rank_behaviors(
    events: ir.Table,
    active_days: ir.Table,
    period: Period,
    *,
    as_of: dt.date,
    calendar: Calendar,
    window_days: int = 7,
    outcome_days: tuple[int, int] = (7, 14),
    attributes: ir.Table | None = None,
    confounders: Sequence[str] | None = None,
    candidates: Sequence[str] | None = None,
    times: int = 1,
    minimum: int = 50,
    level: float = 0.05,
    power: float = 0.8,
    uptake: float = 1.0,
) -> ActivationResult:
    """Rank behaviours of new users' first days by how they go with staying.

    Args:
        events: user_id, ts (UTC), event.
        active_days: user_id, day; all days since the beginning (the first makes a user new, later ones say who stayed).
        period: first active days that count.
        as_of: the last day that is fully known; users whose outcome is not over by then are counted apart.
        calendar: the company's clock.
        window_days: behaviour counts on the first so many local days.
        outcome_days: staying is activity on first day + n, with n from the first number to before the second; (7, 14)
            are days 8 to 14 of a user. They must lie after the window.
        attributes: user_id and columns that `confounders` name; without it activity is the only confounder.
        confounders: columns; empty: channel and platform, where there are such. Days active in the window always count.
        candidates: names of events; empty: all that occur.
        times: a behaviour is done when the event occurs at least so often in the window.
        minimum: with fewer users who did it a behaviour is rare, with fewer who did not universal.
        level: the q-value up to which a behaviour is said to go with staying.
        power: chance of the experiment to see the adjusted difference, at two-sided 5%.
        uptake: share of the treated arm that does the behaviour because of the treatment; half of it needs four times
            the users.

    Returns:
        An `ActivationResult`.

    Raises:
        InputError: an outcome that overlaps the window, a confounder that is no column.

    Method: Mantel-Haenszel over strata of activity tier x confounders; Cochran-Mantel-Haenszel p-values. Holding
    activity equal also hides what a behaviour does by way of more active days in the window: the truth may lie between
    the raw and the adjusted difference.

    >>> first = dt.date(2026, 1, 5)
    >>> rows = [(u, first + n * DAY) for u in range(400) for n in (0, 8) if n == 0 or u % (2 if u < 200 else 4) == 0]
    >>> days = ibis.memtable({"user_id": [u for u, _ in rows], "day": [d for _, d in rows]})
    >>> at = dt.datetime(2026, 1, 5, 12)
    >>> events = ibis.memtable({"user_id": range(200), "ts": [at] * 200, "event": ["search"] * 200})
    >>> january = Period(dt.date(2026, 1, 1), dt.date(2026, 2, 1), "January")
    >>> result = rank_behaviors(events, days, january, as_of=dt.date(2026, 1, 31), calendar=Calendar())
    >>> row = result.behaviors.iloc[0]
    >>> row["behavior"], [round(float(row[c]), 3) for c in ("did_rate", "did_not_rate", "adjusted_difference_rate")]
    ('search', [0.5, 0.25, 0.25])
    """
    first, last = outcome_days
    if window_days < 1 or first < window_days or last <= first:
        raise InputError(
            f"The outcome, days {first} to before {last}, must lie after the {window_days} days of behaviour: "
            "otherwise the behaviour would itself be part of what it is to explain."
        )
    minimum = max(1, minimum)
    named = _choose_confounders(attributes, confounders)
    people = _follow_users(active_days, as_of, window_days, outcome_days)
    inside = (people.first_day >= period.start) & (people.first_day < period.end)
    mature = people.first_day <= as_of - (last - 1) * DAY
    recent = people.first_day > as_of - RECENT_DAYS * DAY
    waiting, arrived, earliest = _fetch_row(
        people.aggregate(
            waiting=(inside & ~mature).sum().fill_null(0),
            arrived=recent.sum().fill_null(0),
            earliest=people.first_day.min(),
        )
    )
    history = (as_of - pd.Timestamp(earliest).date()).days + 1 if pd.notna(earliest) else RECENT_DAYS
    per_day = float(arrived) / max(1, min(RECENT_DAYS, history))

    cohort, strata = _stratify(people.filter(inside & mature), attributes, named)
    totals = _count(cohort, [*strata, "stayed"])
    done = _count_done(events, cohort, strata, period, calendar, window_days, times, minimum, candidates)
    users = int(totals["users"].sum())
    stayed = estimate_rate("stayed_rate", int(totals.loc[totals["stayed"], "users"].sum()), users)
    frame, left_out = _compare(totals, done, strata, minimum, candidates)
    frame["q_value"] = adjust_p_values(frame["p_value"].to_numpy(dtype=float))
    low, high = (frame[f"adjusted_difference_{end}"].astype(float) for end in ("low", "high"))
    farther = low.where(low.abs() > high.abs(), high)
    frame["experiment_difference_rate"] = frame["adjusted_difference_rate"].where(frame["q_value"] <= level, farther)
    sizes = [_size(row, power, uptake, per_day, last) for row in frame.to_dict("records")]
    frame[["arm_users_count", "experiment_days"]] = pd.DataFrame(sizes, columns=[0, 1], index=frame.index, dtype=float)
    nearer = low.abs().where(low.abs() < high.abs(), high.abs()).where(low * high > 0, 0.0)
    keys = pd.DataFrame({"certain": -nearer, "p": frame["p_value"], "name": frame["behavior"]})
    frame = frame.loc[keys.sort_values(["certain", "p", "name"]).index, list(BEHAVIOR_COLUMNS)]
    note = ""
    if frame.empty:
        note = stayed.note or say(
            "no behaviour was done by at least {minimum} users and left undone by as many", minimum=minimum
        )
    return ActivationResult(
        period,
        window_days,
        (first, last),
        stayed,
        int(waiting),
        frame.reset_index(drop=True),
        left_out,
        (mark("active days"), *named),
        per_day,
        level,
        note,
    )


def _choose_confounders(attributes: ir.Table | None, confounders: Sequence[str] | None) -> list[str]:
    known = [] if attributes is None else [c for c in attributes.columns if c != "user_id"]
    if confounders is None:
        return [c for c in USUAL_CONFOUNDERS if c in known]
    for name in confounders:
        if name not in known:
            choice = f" There are: {', '.join(known)}." if known else " There are no user attributes."
            raise InputError(f"There is no user attribute '{name}' to compare by.{suggest_name(name, known)}{choice}")
    return list(dict.fromkeys(confounders))


def _follow_users(active_days: ir.Table, as_of: dt.date, window_days: int, outcome_days: tuple[int, int]) -> ir.Table:
    """One row a user: first_day, days active in the window, and whether active in the outcome's days."""
    known = active_days.filter(active_days.day <= as_of)
    first = known.day.min().over(group_by=known.user_id)
    aged = known.select(user_id="user_id", first_day=first, age=known.day.delta(first, unit="day"))
    return aged.group_by("user_id").aggregate(
        first_day=aged.first_day.min(),
        active=(aged.age < window_days).cast("int64").sum(),
        stayed=((aged.age >= outcome_days[0]) & (aged.age < outcome_days[1])).cast("int64").max() == 1,
    )


def _fetch_row(table: ir.Table) -> tuple[Any, ...]:
    return tuple(table.to_pandas().iloc[0])


def _stratify(people: ir.Table, attributes: ir.Table | None, named: list[str]) -> tuple[ir.Table, list[str]]:
    """Users with their tier and confounders; rare values of a confounder are joined."""
    one, two, many = ACTIVITY_TIERS
    tier = ibis.cases((people.active <= one, 1), (people.active <= two, 2), (people.active <= many, 3), else_=4)
    cohort = people.mutate(tier=tier)
    strata = ["tier"]
    if attributes is None or not named:
        return cohort, strata
    texts = {f"by_{i}": attributes[c].cast("string").fill_null(NOT_GIVEN) for i, c in enumerate(named)}
    known = attributes.select(user_id="user_id", **texts)
    joined = cohort.left_join(known, "user_id")
    lumped = {}
    for name in texts:
        value = joined[name].fill_null(NOT_GIVEN)
        counted = joined.group_by(value=value).aggregate(users=lambda t: t.count())
        common = counted.order_by([ibis.desc("users"), "value"]).limit(CONFOUNDER_VALUES).to_pandas()["value"]
        lumped[name] = value.isin(common.tolist()).ifelse(value, OTHER) if len(common) else value
    kept = joined.select(*[joined[c] for c in cohort.columns], **lumped)
    return kept, [*strata, *lumped]


def _count(table: ir.Table, by: list[str]) -> pd.DataFrame:
    counted: pd.DataFrame = table.group_by(by).aggregate(users=lambda t: t.count()).to_pandas()
    return counted


def _count_done(
    events: ir.Table,
    cohort: ir.Table,
    strata: list[str],
    period: Period,
    calendar: Calendar,
    window_days: int,
    times: int,
    minimum: int,
    candidates: Sequence[str] | None,
) -> pd.DataFrame:
    """Users who did each event in their window, by stratum and outcome; rare events without their strata."""
    start, end = calendar.day_start(period.start), calendar.day_start(period.end + (window_days - 1) * DAY)
    near = events.filter((events.ts >= start) & (events.ts < end) & events.event.notnull())
    if candidates is not None:
        near = near.filter(near.event.isin(list(candidates)))
    dated = near.select("user_id", "event", day=calendar.local_day(near.ts)).inner_join(cohort, "user_id")
    age = dated.day.delta(dated.first_day, unit="day")
    kept = dated.filter((age >= 0) & (age < window_days))
    per_user = kept.group_by("user_id", "event", "stayed", *strata).aggregate(n=lambda t: t.count())
    done = per_user.filter(per_user.n >= times)
    counted = done.group_by("event", "stayed", *strata).aggregate(users=lambda t: t.count())
    # Thousands of rare events times all strata would be no small table.
    whole = counted.mutate(whole=counted.users.sum().over(group_by=counted.event))
    blank = {s: ibis.ifelse(whole.whole < minimum, ibis.null(whole[s].type()), whole[s]) for s in strata}
    joined = whole.mutate(**blank).group_by("event", "stayed", *strata).aggregate(users=lambda t: t.users.sum())
    fetched: pd.DataFrame = joined.to_pandas()
    return fetched


def _compare(
    totals: pd.DataFrame, done: pd.DataFrame, strata: list[str], minimum: int, candidates: Sequence[str] | None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Compare who did and who did not, event by event, from the counts by stratum."""
    grid = totals.pivot_table(index=strata, columns="stayed", values="users", aggfunc="sum", fill_value=0)
    grid = grid.reindex(columns=[False, True], fill_value=0)
    stayed, users = grid[True].to_numpy(dtype=float), grid.sum(axis=1).to_numpy(dtype=float)
    rows, left_out = [], []
    for event, part in done.groupby("event", sort=True):
        did_count = int(part["users"].sum())
        not_count = int(users.sum()) - did_count
        if did_count < minimum or not_count < minimum:
            left_out.append((event, did_count, "rare" if did_count < minimum else "universal"))
            continue
        wide = part.pivot_table(index=strata, columns="stayed", values="users", aggfunc="sum", fill_value=0)
        wide = wide.reindex(index=grid.index, columns=[False, True], fill_value=0)
        did_stayed, did = wide[True].to_numpy(dtype=float), wide.sum(axis=1).to_numpy(dtype=float)
        rows.append({"behavior": event, **_contrast(did_stayed, did, stayed - did_stayed, users - did, minimum)})
    absent = [c for c in dict.fromkeys(candidates or ()) if c not in set(done["event"])]
    left_out += [(c, 0, "absent") for c in absent]
    table = pd.DataFrame(left_out, columns=["behavior", "did_count", "reason"])
    table = table.sort_values(["did_count", "behavior"], ascending=[False, True], ignore_index=True)
    return pd.DataFrame(rows, columns=list(BEHAVIOR_COLUMNS)), table


def _contrast(did_stayed: Floats, did: Floats, not_stayed: Floats, did_not: Floats, minimum: int) -> dict[str, Any]:
    """Raw and adjusted difference and ratio of one behaviour."""
    now, other = (
        estimate_rate("stayed_rate", float(x.sum()), float(n.sum()), minimum=minimum)
        for x, n in ((did_stayed, did), (not_stayed, did_not))
    )
    raw = compare_estimates(now, other)
    alone = compute_terms([did_stayed.sum()], [did.sum()], [not_stayed.sum()], [did_not.sum()]).sum(axis=1)
    sums = compute_terms(did_stayed, did, not_stayed, did_not).sum(axis=1)
    difference, error = estimate_difference(sums)
    half = quantile() * error
    p_value = np.exp(log_p_value(score_association(sums)))
    return {
        "did_count": int(did.sum()),
        "did_stayed_count": int(did_stayed.sum()),
        "did_not_count": int(did_not.sum()),
        "did_not_stayed_count": int(not_stayed.sum()),
        "did_rate": now.value,
        "did_not_rate": other.value,
        "raw_difference_rate": raw.difference,
        "raw_difference_low": raw.low,
        "raw_difference_high": raw.high,
        **_give_ratio("raw", alone),
        "adjusted_difference_rate": float(difference),
        "adjusted_difference_low": float(difference - half),
        "adjusted_difference_high": float(difference + half),
        **_give_ratio("adjusted", sums),
        "compared_rate": float(did[did_not > 0].sum() / did.sum()),
        "p_value": float(p_value),
    }


def _give_ratio(name: str, sums: Floats) -> dict[str, float]:
    value, error = estimate_log_ratio(sums)
    ends = {"": 0.0, "_low": -quantile(), "_high": quantile()}
    return {f"{name}_ratio{end}": float(np.exp(value + z * error)) for end, z in ends.items()}


def _size(row: dict[Any, Any], power: float, uptake: float, per_day: float, last: int) -> tuple[int | None, int | None]:
    """Users an arm, and days until all have arrived and their outcome is over."""
    users = size_rates(row["did_not_rate"], row["experiment_difference_rate"] * uptake, power=power)
    if users is None or not per_day:
        return users, None
    return users, math.ceil(2 * users / per_day) + last

"""Portraits: how a segment differs from everybody else, in what is known of users and in what they do.

Differences are described, not explained. They are ranked by effect size, because with many users every difference is
beyond chance, and few are large: 0.2 is small, 0.5 medium, 0.8 large (Cohen).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import ibis
import ibis.expr.types as ir
import numpy as np
import pandas as pd

from opslib.data.periods import Calendar, Period
from opslib.errors import InputError, suggest_name
from opslib.explain.portrait_behavior import SIDES, Number, add_behavior, measure_events
from opslib.explain.statistics import compare_shares_exactly, log_p_value
from opslib.language import say
from opslib.measure.estimate import (
    MINIMUM_DENOMINATOR,
    adjust_p_values,
    compare_estimates,
    estimate_rate,
    quantile,
    to_plain_record,
)

NOT_GIVEN = "(not given)"
OTHER = "(other)"
# Below this many expected users in a cell the normal approximation gives way to an exact test.
_FEW = 10

SHARE_COLUMNS = (
    "attribute",
    "value",
    "segment_count",
    "segment_users_count",
    "rest_count",
    "rest_users_count",
    "segment_rate",
    "rest_rate",
    "difference_rate",
    "difference_low",
    "difference_high",
    "effect_h",
    "p_value",
    "q_value",
)
NUMBER_COLUMNS = (
    "attribute",
    "segment_users_count",
    "rest_users_count",
    "segment_mean",
    "rest_mean",
    "difference_mean",
    "difference_low",
    "difference_high",
    "effect_d",
    "p_value",
    "q_value",
)
TRAIT_COLUMNS = ("attribute", "value", "kind", "segment_value", "rest_value", "difference", "effect_size", "q_value")


@dataclass(frozen=True)
class PortraitResult:
    """A segment against the rest of the users.

    Attributes:
        segment: its name.
        period: the days of what users did; None where only attributes are compared.
        segment_count, rest_count: users.
        shares: one row a value of an attribute: attribute, value, segment_count of segment_users_count, rest_count of
            rest_users_count, segment_rate, rest_rate, difference_rate with difference_low and difference_high,
            effect_h (Cohen's h), p_value, q_value.
        numbers: one row a number: attribute, segment_users_count and rest_users_count (users with a value),
            segment_mean, rest_mean, difference_mean with difference_low and difference_high, effect_d (Cohen's d),
            p_value, q_value.
            `active_rate` is the share of a user's days in the period with activity, `events_per_active_day: name` a
            mean over users active in the period, `orders_count` and `order_amount` are sums of the period a user.
        traits: what is beyond chance in either table, largest effect first: attribute, value, kind (share, mean),
            segment_value, rest_value, difference, effect_size, q_value.
        left_out: attribute, reason (defines the segment, time, no type to compare, too few values, no spread).
        level: the q-value (Benjamini-Hochberg over both tables) up to which a difference is a trait.
        note: why there is no portrait, or an empty text.
    """

    segment: str
    period: Period | None
    segment_count: int
    rest_count: int
    shares: pd.DataFrame
    numbers: pd.DataFrame
    traits: pd.DataFrame
    left_out: pd.DataFrame
    level: float
    note: str

    def findings(self) -> list[dict[str, Any]]:
        """The sizes, and one record a trait."""
        head = {"segment": self.segment, "period": self.period.label if self.period else None}
        sizes = {"segment_count": self.segment_count, "rest_count": self.rest_count, "note": self.note}
        records: list[dict[str, Any]] = [{"name": "portrait", **head, **sizes}]
        for rank, row in enumerate(self.traits.to_dict("records"), 1):
            records.append({"name": "trait", **head, "rank": rank, **to_plain_record(row)})
        return records


def describe_segment(
    attributes: ir.Table,
    segment: ir.Table | ir.BooleanValue | Callable[[ir.Table], ir.BooleanValue] | str,
    *,
    name: str = "",
    columns: Sequence[str] | None = None,
    period: Period | None = None,
    active_days: ir.Table | None = None,
    events: ir.Table | None = None,
    orders: ir.Table | None = None,
    calendar: Calendar | None = None,
    max_values: int = 20,
    minimum: int = MINIMUM_DENOMINATOR,
    level: float = 0.05,
) -> PortraitResult:
    """Describe a segment against the rest.

    Args:
        attributes: user_id and what is known of users; one row a user. The rest is who is here and not in the segment.
        segment: a table with the segment's user_id, a condition on `attributes`, or a text such as `channel:search`.
        name: what to call the segment; empty: the text.
        columns: attributes to compare; empty: all.
        period: local days of what users did; needed with the tables that follow.
        active_days: user_id, day; all days since the beginning. Users first active after the period have no behaviour.
        events: user_id, ts (UTC), event; compared as events per active day, so `active_days` is needed too.
        orders: user_id, ts (UTC), amount.
        calendar: the company's clock, for events and orders.
        max_values: rarer values of an attribute (and rarer events) beyond so many count as "(other)" (are left out).
        minimum: with fewer users in the segment or the rest there is no portrait.
        level: the q-value up to which a difference is a trait.

    Returns:
        A `PortraitResult`.

    Raises:
        InputError: a column that is not there, or a table without the period, days or calendar it needs.

    An attribute of which no value occurs on both sides defines the segment and is left out. Intervals: shares Newcombe,
    means normal over users. Tests: two shares by the pooled normal score, exactly (Fisher)
    where counts are few; means by Welch's score.

    Source: Cohen (1988), Statistical Power Analysis for the Behavioral Sciences, 2nd edition, chapters 2 and 6.

    >>> users = ibis.memtable(
    ...     {"user_id": range(80), "platform": ["web"] * 30 + ["ios"] * 25 + ["android"] * 25}
    ... )
    >>> result = describe_segment(users, lambda t: t.user_id < 40)
    >>> first = result.traits.iloc[0]
    >>> first["attribute"], first["value"], float(first["segment_value"]), float(first["rest_value"])
    ('platform', 'web', 0.75, 0.0)
    """
    if (events is not None or orders is not None or active_days is not None) and period is None:
        raise InputError("What users did is compared within a period: none is given.")
    if (events is not None or orders is not None) and calendar is None:
        raise InputError("Events and orders are placed on days by the company's clock: no calendar is given.")
    if events is not None and active_days is None:
        raise InputError("Events are compared per active day: no active days are given.")
    people, label, defining = _mark_members(attributes, segment)
    label = name or label
    chosen, left_out = _choose_columns(attributes, columns, defining)
    sizes = people.aggregate(all=people.count(), members=people.member.cast("int64").sum().fill_null(0)).to_pandas()
    members = int(sizes["members"].iloc[0])
    rest = int(sizes["all"].iloc[0]) - members
    shares, numbers = pd.DataFrame(columns=list(SHARE_COLUMNS)), pd.DataFrame(columns=list(NUMBER_COLUMNS))
    note = ""
    if min(members, rest) < minimum:
        note = _say_few(members, rest, minimum)
    else:
        counted, defining_too = _leave_out_defining(_count_values(people, chosen["share"], max_values))
        left_out += defining_too
        shares = _compare_shares(counted, members, rest)
        done = add_behavior(people, period, active_days, orders, calendar)
        sums = _measure_numbers(done, [*chosen["mean"], *[c for c in done.columns if c not in people.columns]])
        if events is not None and period is not None and calendar is not None:
            sums += measure_events(events, done, period, calendar, max_values)
        numbers, skipped = _compare_numbers(sums, minimum)
        left_out += skipped
    q = adjust_p_values([*shares["p_value"].astype(float), *numbers["p_value"].astype(float)])
    shares["q_value"], numbers["q_value"] = q[: len(shares)], q[len(shares) :]
    left = pd.DataFrame(left_out, columns=["attribute", "reason"])
    traits = _rank_traits(shares, numbers, level)
    return PortraitResult(label, period, members, rest, shares, numbers, traits, left, level, note)


def _say_few(members: int, rest: int, minimum: int) -> str:
    if members < minimum:
        return say(
            "not enough data: {count:,} users in the segment, at least {minimum} needed", count=members, minimum=minimum
        )
    return say("not enough data: {count:,} users in the rest, at least {minimum} needed", count=rest, minimum=minimum)


def _mark_members(attributes: ir.Table, segment: Any) -> tuple[ir.Table, str, str]:
    """Users with a flag `member`; the segment's name; the column that defines it."""
    if isinstance(segment, ir.Table):
        ids = segment.filter(segment.user_id.notnull()).user_id
        return attributes.mutate(member=attributes.user_id.isin(ids)), "chosen users", ""
    if isinstance(segment, str):
        column, _, value = segment.partition(":")
        if column not in attributes.columns:
            raise InputError(f"There is no user attribute '{column}'.{suggest_name(column, attributes.columns)}")
        inside = attributes[column].cast("string").fill_null(NOT_GIVEN) == value
        return attributes.mutate(member=inside), segment, column
    marked = attributes.mutate(member=segment)
    return marked.mutate(member=marked.member.fill_null(False)), "condition", ""


def _choose_columns(
    attributes: ir.Table, columns: Sequence[str] | None, defining: str
) -> tuple[dict[str, list[str]], list[tuple[str, str]]]:
    known = [c for c in attributes.columns if c != "user_id"]
    for column in columns or ():
        if column not in known:
            raise InputError(f"There is no user attribute '{column}'.{suggest_name(column, known)}")
    chosen: dict[str, list[str]] = {"share": [], "mean": []}
    left_out = []
    for column in known if columns is None else dict.fromkeys(columns):
        kind = attributes[column].type()
        if column == defining:
            left_out.append((column, "defines the segment"))
        elif kind.is_string() or kind.is_boolean():
            chosen["share"].append(column)
        elif kind.is_numeric():
            chosen["mean"].append(column)
        else:
            left_out.append((column, "time" if kind.is_temporal() else "no type to compare"))
    return chosen, left_out


def _count_values(people: ir.Table, columns: list[str], max_values: int) -> pd.DataFrame:
    """Users of the segment and the rest with each value of each attribute, in one query."""
    parts = []
    for column in columns:
        value = people[column].cast("string").fill_null(NOT_GIVEN)
        inside = people.member.cast("int64")
        counted = people.group_by(value=value).aggregate(segment_count=inside.sum(), rest_count=(1 - inside).sum())
        order = [ibis.desc(counted.segment_count + counted.rest_count), counted.value]
        ranked = counted.mutate(place=ibis.row_number().over(order_by=order))
        # As many values as allowed, or one fewer and all others.
        last = ranked.place.max().over()
        kept = (ranked.place < max_values - 1) | (last < max_values)
        named = ranked.mutate(value=kept.ifelse(ranked.value, OTHER), attribute=ibis.literal(column))
        sums = {c: named[c].sum() for c in ("segment_count", "rest_count")}
        parts.append(named.group_by("attribute", "value").aggregate(**sums))
    if not parts:
        return pd.DataFrame({"attribute": [], "value": [], "segment_count": [], "rest_count": []})
    table = parts[0] if len(parts) == 1 else ibis.union(*parts)
    counted_values: pd.DataFrame = table.to_pandas()
    return counted_values.sort_values(["attribute", "value"], ignore_index=True)


def _leave_out_defining(counted: pd.DataFrame) -> tuple[pd.DataFrame, list[tuple[str, str]]]:
    """Leave out attributes of which no value occurs both in the segment and in the rest."""
    shared = counted[["segment_count", "rest_count"]].min(axis=1).groupby(counted["attribute"]).max()
    names = shared.index[shared == 0].tolist()
    return counted[~counted["attribute"].isin(names)], [(n, "defines the segment") for n in names]


def _compare_shares(counted: pd.DataFrame, members: int, rest: int) -> pd.DataFrame:
    rows = []
    for row in counted.to_dict("records"):
        a, b = int(row["segment_count"]), int(row["rest_count"])
        inside, outside = estimate_rate("share", a, members, minimum=1), estimate_rate("share", b, rest, minimum=1)
        change = compare_estimates(inside, outside)
        p, q = a / members, b / rest
        pooled = (a + b) / (members + rest)
        fewest = min(members, rest) * min(pooled, 1 - pooled)
        if fewest < _FEW:
            p_value = compare_shares_exactly(a, members, b, rest)
        else:
            score = (p - q) / math.sqrt(pooled * (1 - pooled) * (1 / members + 1 / rest))
            p_value = float(np.exp(log_p_value(score)))
        effect = 2 * math.asin(math.sqrt(p)) - 2 * math.asin(math.sqrt(q))
        difference = (change.difference, change.low, change.high)
        rows.append((row["attribute"], row["value"], a, members, b, rest, p, q, *difference, effect, p_value, math.nan))
    return pd.DataFrame(rows, columns=list(SHARE_COLUMNS))


def _measure_numbers(table: ir.Table, columns: list[str]) -> list[Number]:
    """Count, mean and variance of each number in the segment and the rest, in one query."""
    columns = [c for c in columns if c != "active_count"]
    measured: dict[str, Any] = {}
    for i, column in enumerate(columns):
        value = table[column].cast("float64")
        value = value.isnan().ifelse(ibis.null("float64"), value)
        measured |= {f"n{i}": value.count(), f"m{i}": value.mean(), f"v{i}": value.var(how="sample")}
    if not measured:
        return []
    found = table.group_by("member").aggregate(**measured).to_pandas().set_index("member").astype(float)
    rows: Any = [
        [tuple(found.loc[member, [f"{k}{i}" for k in "nmv"]]) for member in SIDES] for i in range(len(columns))
    ]
    return [(column, segment, rest) for column, (segment, rest) in zip(columns, rows, strict=True)]


def _compare_numbers(numbers: list[Number], minimum: int) -> tuple[pd.DataFrame, list[tuple[str, str]]]:
    rows, left_out = [], []
    for name, (n, mean, variance), (m, other, other_variance) in numbers:
        if min(n, m) < max(minimum, 2):
            left_out.append((name, "too few values"))
            continue
        error = math.sqrt(variance / n + other_variance / m)
        if not error > 0:
            left_out.append((name, "no spread"))
            continue
        difference, half = mean - other, quantile() * error
        pooled = math.sqrt(((n - 1) * variance + (m - 1) * other_variance) / (n + m - 2))
        p_value = float(np.exp(log_p_value(difference / error)))
        ends = (difference, difference - half, difference + half, difference / pooled, p_value, math.nan)
        rows.append((name, int(n), int(m), mean, other, *ends))
    return pd.DataFrame(rows, columns=list(NUMBER_COLUMNS)), left_out


def _rank_traits(shares: pd.DataFrame, numbers: pd.DataFrame, level: float) -> pd.DataFrame:
    names = {"effect_h": "effect_size", "segment_rate": "segment_value", "rest_rate": "rest_value"}
    first = shares.rename(columns=names | {"difference_rate": "difference"}).assign(kind="share")
    names = {"effect_d": "effect_size", "segment_mean": "segment_value", "rest_mean": "rest_value"}
    second = numbers.rename(columns=names | {"difference_mean": "difference"}).assign(kind="mean", value="")
    parts = [part[list(TRAIT_COLUMNS)] for part in (first, second) if len(part)]
    if not parts:
        return pd.DataFrame(columns=list(TRAIT_COLUMNS))
    table = pd.concat(parts, ignore_index=True)
    table = table[table["q_value"] <= level]
    keys = pd.DataFrame({"size": -table["effect_size"].abs(), "a": table["attribute"], "v": table["value"]})
    return table.loc[keys.sort_values(["size", "a", "v"]).index].reset_index(drop=True)

"""Where the change of one step comes from: which users, how many were lost, since when, and is it over."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import ibis
import ibis.expr.types as ir
import pandas as pd

from opslib.data.memory import remember
from opslib.data.periods import DAY
from opslib.decide.funnel.path import FunnelPath, list_columns
from opslib.decide.funnel.stages import collect_arrivals, count_step, explain_counts, explain_step
from opslib.decide.funnel.visits import (
    THE_REST,
    THE_SEGMENT,
    WEEK_DAYS,
    Ending,
    compare_repair,
    look_at_end,
    make_trend,
)
from opslib.decide.scope import Scope
from opslib.explain.change import ChangeExplanation
from opslib.measure.estimate import MINIMUM_DENOMINATOR, Estimate, estimate_rate, quantile, to_plain_record
from opslib.measure.experiment.before_after import BeforeAfterResult

# Up to so many days a point a day; beyond, a point a week.
DAILY_DAYS = 35
# How often a value that is new is taken for the reason by chance.
NEW_LEVEL = 0.01
# A value whose users were at most this part of what they are now counts as new: a release of the last days before.
NEW_SHARE = 0.1


@dataclass(frozen=True)
class Found:
    """Which users the change of a step sits in.

    Attributes:
        refined, kind, segment, new, expected, lost: see `Culprit`.
        inside, outside: users who went on and users, in the segment and elsewhere, now; None without a segment.
        before_count: users of the period before who had what is new.
    """

    refined: ChangeExplanation | None = None
    kind: str = ""
    segment: dict[str, str] = field(default_factory=dict)
    new: dict[str, str] = field(default_factory=dict)
    inside: tuple[int, int] | None = None
    outside: tuple[int, int] | None = None
    expected: float | None = None
    lost: tuple[float, float, float] | None = None
    before_count: int = 0

    def agrees(self, *, fell: bool) -> bool:
        """Whether what is new did to the step what the step did; what is not new was tested already."""
        if not self.new or self.lost is None:
            return True
        _, low, high = self.lost
        return low > 0 if fell else high < 0

    @property
    def peers(self) -> dict[str, str] | None:
        """Users alike in all but the value that is new; None where none is."""
        return {c: v for c, v in self.segment.items() if c not in self.new} if self.new else None


@dataclass(frozen=True)
class Culprit:
    """Where the change of a step comes from; each part is computed when it is first asked for.

    Attributes:
        scope, path, step: the days, the funnel and the step.
        fixed_on: the day from which a repair was out; None where none was named.
        explanation: the step's rate explained, over all users who got to the step before; None without columns.
        refined: where the first cause is a value that is new, its users against all others of the same days, which
            says whom among them it concerns; None otherwise.
        columns: the columns that the segment is made of, or all of them, those that moved most first.
        kind: what moved: "new" (a value that nobody or hardly anybody had before), otherwise a cause's kind (see
            `explain_change`); empty without a segment.
        segment: column -> value: the users whom it concerns; empty where nobody stands out.
        new: the part of it that is new; empty otherwise.
        new_before_count: users of the period before who had it already.
        inside, outside: their rate now, and everybody else's; None without a segment.
        expected: the rate that the segment would have had by `yardstick`; None without.
        yardstick: "itself": as it was before, moved as everybody else did; "peers": that of users alike in all but the
            value that is new; empty without a segment.
        lost: users whom that cost at this step over the period (below 0: won), with low and high; None without a
            segment, and where only the number of its users moved.
        trend: from_day, side (segment or rest), users_count, converted_count, converted_rate, converted_low,
            converted_high, by day of arrival at the step before; the period before is in it.
        trend_days: how many days a row of `trend` covers.
        ending: how the segment does in the last days that are known; None without a segment.
        repair: the rate of `repaired` from the day of a repair on against as many days before; descriptive. None where
            no repair was named, or under seven days lie on either side.
    """

    scope: Scope
    path: FunnelPath
    step: int
    fixed_on: dt.date | None = None

    @cached_property
    def explanation(self) -> ChangeExplanation | None:
        known = list_columns(self.scope, self.path)
        return explain_step(self.scope, self.path, self.step) if known else None

    @cached_property
    def _found(self) -> Found:
        return _find_segment(self.scope.narrow(before=True), self.path, self.step)

    @property
    def refined(self) -> ChangeExplanation | None:
        return self._found.refined

    @cached_property
    def columns(self) -> tuple[str, ...]:
        if self.explanation is None or self.segment:
            return tuple(self.segment)
        splits = self.explanation.splits.assign(size=self.explanation.splits["rate_effect_rate"].abs())
        return tuple(splits.sort_values("size", ascending=False)["dimension"])

    @property
    def kind(self) -> str:
        return self._found.kind

    @property
    def segment(self) -> dict[str, str]:
        return self._found.segment

    @property
    def new(self) -> dict[str, str]:
        return self._found.new

    @property
    def new_before_count(self) -> int:
        return self._found.before_count

    @property
    def inside(self) -> Estimate | None:
        return None if self._found.inside is None else estimate_rate(f"step{self.step}_rate", *self._found.inside)

    @property
    def outside(self) -> Estimate | None:
        return None if self._found.outside is None else estimate_rate(f"step{self.step}_rate", *self._found.outside)

    @property
    def expected(self) -> float | None:
        return self._found.expected

    @property
    def yardstick(self) -> str:
        return "" if not self.segment else "peers" if self.new else "itself"

    @property
    def lost(self) -> tuple[float, float, float] | None:
        return self._found.lost

    @cached_property
    def trend(self) -> pd.DataFrame:
        return _make_trend(self.scope.narrow(before=True), self.path, self.step, self.trend_days)

    @property
    def trend_days(self) -> int:
        assert self.scope.before is not None
        return 1 if (self._last - self.scope.before.start).days <= DAILY_DAYS else WEEK_DAYS

    @cached_property
    def ending(self) -> Ending | None:
        return _look_at_end(self.scope.narrow(before=True), self.path, self.step) if self.segment else None

    @cached_property
    def repair(self) -> BeforeAfterResult | None:
        if self.fixed_on is None:
            return None
        visits = _list_visits(self.scope.narrow(before=True), self.path, self.step)
        return compare_repair(visits, self.lasting, self.scope, last=self._last, fixed_on=self.fixed_on)

    @property
    def _last(self) -> dt.date:
        """The last day of which it is known who went on."""
        return find_last_day(self.scope, self.path)

    @property
    def lasting(self) -> dict[str, str]:
        """The segment without what is new, which a repair replaces."""
        return {column: value for column, value in self.segment.items() if column not in self.new}

    @property
    def state(self) -> str:
        """Is it over? See `Ending`; empty where nobody was lost."""
        return self.ending.state if self.ending is not None and self.lost is not None and self.lost[1] > 0 else ""

    @property
    def name(self) -> str:
        """The segment as explanations write it."""
        return " & ".join(f"{column}={value}" for column, value in self.segment.items())

    def findings(self) -> list[dict[str, Any]]:
        """The explanation, the segment with its rates, users lost, and the last days."""
        records = [] if self.explanation is None else self.explanation.findings()
        if not self.segment:
            return records
        context = {"segment": self.name, "expected_rate": self.expected, "yardstick": self.yardstick}
        for estimate, side in ((self.inside, THE_SEGMENT), (self.outside, THE_REST)):
            if estimate is not None:
                records.append(estimate.to_finding(side=side, **context))
        if self.ending is not None:
            ending = {"segment": self.name, "days": self.ending.days, "state": self.state}
            records.append(self.ending.recent.to_finding(**ending))
        if self.lost is not None:
            values = dict(zip(("value", "low", "high"), self.lost, strict=True))
            records.append({"name": "lost_users_count", **context, **to_plain_record(values)})
        return records


def find_culprit(scope: Scope, path: FunnelPath, step: int, fixed_on: dt.date | None = None) -> Culprit:
    """Find where the change of a step comes from; `fixed_on` is the day from which a repair was out."""
    return Culprit(scope, path, step, fixed_on)


def find_last_day(scope: Scope, path: FunnelPath) -> dt.date:
    """The last day on which users came who have had their whole window."""
    return scope.as_of - path.window_days * DAY


@remember
def _find_segment(scope: Scope, path: FunnelPath, step: int) -> Found:
    assert scope.before is not None
    columns = list_columns(scope, path)
    if not columns:
        return Found()
    before, now = (count_step(scope, path, step, period) for period in (scope.before, scope.now))
    explanation = explain_step(scope, path, step)
    fell = (explanation.overall.difference or 0.0) < 0
    mixed = None
    for cause in rank_causes(explanation):
        found = _describe_cause(cause, before, now, columns, f"step{step}_rate")
        # Versions come and go, which is no reason: one that came must do worse (or better) than its peers.
        if found.kind == "mix":
            mixed = mixed or found
        elif found.agrees(fell=fell):
            return found
    return mixed or Found()


def _describe_cause(first: pd.Series, before: pd.DataFrame, now: pd.DataFrame, columns: list[str], name: str) -> Found:
    segment, new, refined = read_segment(str(first["segment"])), {}, None
    if is_new(first, before, now):
        new, rest = dict(segment), [c for c in columns if c not in segment]
        inside = mark_segment(now, segment)
        refined = explain_counts(now[~inside], now[inside], rest, name) if rest else None
    if refined is not None:
        concerned = refined.causes[refined.causes["kind"].isin(["rate", "both"])]
        segment |= read_segment(str(concerned["segment"].iloc[0])) if len(concerned) else {}
    if not new:
        new = find_new_value(before, now, segment, columns)
        segment |= new
    inside = mark_segment(now, segment)
    found = Found(
        refined,
        "new" if new else str(first["kind"]),
        segment,
        new,
        _add_up(now, inside),
        _add_up(now, ~inside),
        before_count=_add_up(before, mark_segment(before, new))[1] if new else 0,
    )
    # Where only their number moved, their own earlier rate is no yardstick for what that cost.
    if found.kind == "mix":
        return found
    expected, lost = _count_lost(before, now, segment, found.peers)
    return replace(found, expected=expected, lost=lost)


@remember
def _list_visits(scope: Scope, path: FunnelPath, step: int) -> ir.Table:
    """All attempts that got to the step before, of the days before and now."""
    assert scope.before is not None
    parts = [collect_arrivals(scope, path, step, period, unit="attempts") for period in (scope.before, scope.now)]
    return ibis.union(*parts).cache()


@remember
def _make_trend(scope: Scope, path: FunnelPath, step: int, width: int) -> pd.DataFrame:
    visits, segment = _list_visits(scope, path, step), _find_segment(scope, path, step).segment
    return make_trend(visits, segment, scope, last=find_last_day(scope, path), width=width)


@remember
def _look_at_end(scope: Scope, path: FunnelPath, step: int) -> Ending:
    visits, found = _list_visits(scope, path, step), _find_segment(scope, path, step)
    return look_at_end(visits, found.segment, found.peers, scope, find_last_day(scope, path))


def rank_causes(explanation: ChangeExplanation) -> list[pd.Series]:
    """The causes that worked in the direction in which the whole moved, the largest first."""
    causes, overall = explanation.causes, explanation.overall
    sized = causes["effect_rate"].astype(float)
    up = not overall.clear or (overall.difference or 0.0) > 0
    sized = sized.abs() if not overall.clear else sized if up else -sized
    ranked = sized[sized > 0].sort_values(ascending=False, kind="stable").index
    return [causes.loc[row] for row in ranked]


def read_segment(text: str) -> dict[str, str]:
    """Read a segment of an explanation: column -> value.

    >>> read_segment("channel=ads & platform=ios")
    {'channel': 'ads', 'platform': 'ios'}
    """
    pairs = (part.partition("=") for part in text.split(" & "))
    return {column: value for column, _, value in pairs}


def is_new(cause: pd.Series, before: pd.DataFrame, now: pd.DataFrame) -> bool:
    """Whether a cause's users were hardly there before."""
    if cause["before_count"] < MINIMUM_DENOMINATOR:
        return True
    shares = [cause[f"{when}_count"] / rows["users_count"].sum() for when, rows in (("before", before), ("after", now))]
    return bool(cause["kind"] == "mix" and shares[0] <= NEW_SHARE * shares[1])


def mark_segment(counts: pd.DataFrame, segment: Mapping[str, str]) -> pd.Series:
    """Mark the rows of counts that are in a segment."""
    mask = pd.Series(True, index=counts.index)
    for column, value in segment.items():
        mask &= counts[column].astype(str) == value
    return mask


def find_new_value(
    before: pd.DataFrame, now: pd.DataFrame, segment: Mapping[str, str], columns: list[str]
) -> dict[str, str]:
    """A value that nobody in a segment had before and that explains most of what the segment lost or won.

    Its users are held against the segment's others of the same days. Empty where there is none beyond chance
    (1%, Bonferroni over the new values).
    """
    was, users = (counts[mark_segment(counts, segment)] for counts in (before, now))
    (x0, n0), (x1, n1) = ((int(c["converted"].sum()), int(c["users_count"].sum())) for c in (was, users))
    if not n0 or not n1:
        return {}
    change = x1 - n1 * x0 / n0
    found, tested = [], 0
    for column in (c for c in columns if c not in segment):
        known = was.groupby(column)["users_count"].sum()
        values = users.groupby(column)[["converted", "users_count"]].sum()
        for value, row in values.iterrows():
            x, n = int(row["converted"]), int(row["users_count"])
            if known.get(value, 0) >= MINIMUM_DENOMINATOR or min(n, n1 - n) < MINIMUM_DENOMINATOR:
                continue
            tested += 1
            rest = (x1 - x) / (n1 - n)
            error = math.sqrt(max(x1 / n1 * (1 - x1 / n1), 1e-9) * (1 / n + 1 / (n1 - n)))
            found.append((x - n * rest, (x / n - rest) / error, column, str(value)))
    limit = quantile(1 - NEW_LEVEL / max(tested, 1))
    good = [f for f in found if abs(f[1]) > limit and f[0] * change > 0 and abs(f[0]) >= abs(change) / 2]
    if not good:
        return {}
    _, _, column, value = max(good, key=lambda f: (abs(f[0]), f[2], f[3]))
    return {column: value}


def _add_up(counts: pd.DataFrame, mask: pd.Series) -> tuple[int, int]:
    return int(counts.loc[mask, "converted"].sum()), int(counts.loc[mask, "users_count"].sum())


def _count_lost(
    before: pd.DataFrame, now: pd.DataFrame, segment: Mapping[str, str], peers: Mapping[str, str] | None
) -> tuple[float | None, tuple[float, float, float] | None]:
    """The rate that the segment would have had, and the users that the difference cost, with 95% interval."""
    inside = mark_segment(now, segment)
    parts = [_add_up(now, inside)]
    if peers is None:
        parts += [_add_up(before, mark_segment(before, segment)), _add_up(now, ~inside)]
        parts += [_add_up(before, ~mark_segment(before, segment))]
    else:
        parts += [_add_up(now, mark_segment(now, peers) & ~inside)]
    if any(n < MINIMUM_DENOMINATOR for _, n in parts):
        return None, None
    rates = [x / n for x, n in parts]
    error = math.sqrt(sum(r * (1 - r) / n for r, (_, n) in zip(rates, parts, strict=True)))
    expected = rates[1] + (rates[2] - rates[3] if peers is None else 0.0)
    gap, size, reach = expected - rates[0], parts[0][1], quantile() * error
    return expected, (gap * size, (gap - reach) * size, (gap + reach) * size)

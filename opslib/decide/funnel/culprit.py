"""Where the change of one step comes from: which users, how many were lost, since when, and is it over."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import ibis
import ibis.expr.types as ir
import pandas as pd

from opslib.data.periods import DAY, Period
from opslib.decide.funnel.path import FunnelPath
from opslib.decide.scope import Scope
from opslib.explain.change import ChangeExplanation, count_outcomes, explain_change
from opslib.explain.contrasts import NOT_GIVEN
from opslib.measure.estimate import MINIMUM_DENOMINATOR, Estimate, estimate_rate, quantile, to_plain_record
from opslib.measure.experiment_before_after import BeforeAfterResult, compare_before_after
from opslib.measure.funnel_arrivals import list_arrivals

THE_SEGMENT, THE_REST = "segment", "rest"
WEEK_DAYS = 7
# Up to so many days a point a day; beyond, a point a week.
DAILY_DAYS = 35
# The last days that say whether it is still so: the first of these with enough users.
RECENT_DAYS = (7, 14, 28)
# With fewer users in the last week than this share of the segment's largest, the segment is gone.
GONE_RATE = 0.2
# Days before and after a repair that are compared: at least, at most.
REPAIR_DAYS = (7, 28)


@dataclass(frozen=True)
class Culprit:
    """Where the change of a step comes from.

    Attributes:
        explanation: the step's rate explained, over all users who got to the step before; None without columns.
        refined: where the first cause is a value that is new, its users against all others of the same days, which
            says whom among them it concerns; None otherwise.
        columns: the columns that the segment is made of, or all of them, those that moved most first.
        kind: what moved: "new" (a value that nobody had before), otherwise a cause's kind (see `explain_change`); empty
            without a segment.
        segment: column -> value: the users whom it concerns; empty where nobody stands out.
        inside, outside: their rate now, and everybody else's; None without a segment.
        expected: the rate that the segment would have had by `yardstick`; None without.
        yardstick: "itself": as it was before, moved as everybody else did; "peers": that of users alike in all but the
            value that is new; empty without a segment.
        lost: users whom that cost at this step over the period (below 0: won), with low and high; None without.
        trend: from_day, side (segment or rest), users_count, converted_count, converted_rate, converted_low,
            converted_high, by day of arrival at the step before; the period before is in it.
        trend_days: how many days a row of `trend` covers.
        recent: the segment's rate in the last `recent_days` that are known; None without a segment.
        repair: the rate of users like the segment's, of whatever version, from the day of a repair on against as many
            days before; descriptive. None where no repair was named, or under seven days lie on either side.
    """

    explanation: ChangeExplanation | None
    refined: ChangeExplanation | None
    columns: tuple[str, ...]
    kind: str
    segment: dict[str, str]
    inside: Estimate | None
    outside: Estimate | None
    expected: float | None
    yardstick: str
    lost: tuple[float, float, float] | None
    trend: pd.DataFrame
    trend_days: int
    recent: Estimate | None
    recent_days: int
    repair: BeforeAfterResult | None

    @property
    def state(self) -> str:
        """Is it over?

        "open": the segment still does worse than expected. "over": not any more. "gone": hardly anybody is in it any
        more. "unknown": too few users to say. Empty where nobody was lost.
        """
        if self.lost is None or self.lost[1] <= 0 or self.recent is None or self.expected is None:
            return ""
        if self.recent_days == WEEK_DAYS and not self.recent.known:
            return "gone"
        if self.recent.low is None or self.recent.high is None:
            return "unknown"
        return "open" if self.recent.high < self.expected else "over" if self.recent.low > self._halfway else "unknown"

    @property
    def _halfway(self) -> float:
        """Between the rate that the segment had and the one expected: the last days must be clearly above it."""
        assert self.inside is not None and self.inside.value is not None and self.expected is not None
        return (self.inside.value + self.expected) / 2

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
        for estimate, side in ((self.inside, THE_SEGMENT), (self.outside, THE_REST), (self.recent, "recent")):
            if estimate is not None:
                records.append(estimate.to_finding(side=side, **context))
        if self.lost is not None:
            values = dict(zip(("value", "low", "high"), self.lost, strict=True))
            records.append({"name": "lost_users_count", **context, **to_plain_record(values)})
        return records


def find_culprit(
    scope: Scope,
    path: FunnelPath,
    events: ir.Table,
    step: int,
    columns: list[str],
    options: dict[str, Any],
    fixed_on: dt.date | None = None,
) -> Culprit:
    """Find where the change of a step comes from; `fixed_on` is the day from which a repair was out."""
    assert scope.before is not None
    name = f"step{step}_rate"
    arrivals = [
        collect_arrivals(scope, path, events, step, columns, period, options) for period in (scope.before, scope.now)
    ]
    explanation, refined, first = None, None, None
    segment: dict[str, str] = {}
    new: dict[str, str] = {}
    before, now = (pd.DataFrame(),) * 2
    if columns:
        before, now = (count_outcomes(rows, dimensions=columns, numerator="converted") for rows in arrivals)
        explanation = _explain(before, now, columns, name)
        first = pick_cause(explanation)
    if first is not None:
        segment = read_segment(str(first["segment"]))
        if first["before_count"] < MINIMUM_DENOMINATOR:
            new, rest = dict(segment), [c for c in columns if c not in segment]
            inside = mark_segment(now, segment)
            refined = _explain(now[~inside], now[inside], rest, name) if rest else None
        if refined is not None:
            concerned = refined.causes[refined.causes["kind"].isin(["rate", "both"])]
            segment |= read_segment(str(concerned["segment"].iloc[0])) if len(concerned) else {}
    ordered: tuple[str, ...] = ()
    if explanation is not None:
        splits = explanation.splits.assign(size=explanation.splits["rate_effect_rate"].abs())
        ordered = tuple(splits.sort_values("size", ascending=False)["dimension"])
    attempts = [
        collect_arrivals(scope, path, events, step, columns, period, options | {"unit": "attempts"})
        for period in (scope.before, scope.now)
    ]
    visits = ibis.union(*attempts).cache()
    last = scope.as_of - math.ceil(path.window / DAY) * DAY
    width = 1 if (last - scope.before.start).days <= DAILY_DAYS else WEEK_DAYS
    trend = make_trend(visits, segment, scope, last=last, width=width)
    peers = {c: v for c, v in segment.items() if c not in new}
    repair = None if fixed_on is None else compare_repair(visits, peers, scope, last=last, fixed_on=fixed_on)
    if first is None:
        return Culprit(explanation, refined, ordered, "", {}, None, None, None, "", None, trend, width, None, 0, repair)
    sides = [_add_up(now, mark_segment(now, segment)), _add_up(now, ~mark_segment(now, segment))]
    expected, lost = _count_lost(before, now, segment, peers if new else None)
    recent, recent_days = _look_at_end(visits, segment, scope, last, name)
    return Culprit(
        explanation,
        refined,
        tuple(segment),
        "new" if new else str(first["kind"]),
        segment,
        estimate_rate(name, *sides[0]),
        estimate_rate(name, *sides[1]),
        expected,
        "peers" if new else "itself",
        lost,
        trend,
        width,
        recent,
        recent_days,
        repair,
    )


def collect_arrivals(
    scope: Scope,
    path: FunnelPath,
    events: ir.Table,
    step: int,
    columns: list[str],
    period: Period,
    options: dict[str, Any],
) -> ir.Table:
    """Users who got to the step before, with what is known of them: see `list_arrivals`."""
    own = [c for c in columns if c in events.columns]
    other = [c for c in columns if c not in own]
    found = list_arrivals(events, path.steps, step=step, columns=own, period=period, **options)
    if other:
        users = scope.attributes.group_by("user_id").aggregate(**{c: scope.attributes[c].min() for c in other})
        joined = found.left_join(users, "user_id")
        found = joined.select(*found.columns, *other)
    return found.cache()


def pick_cause(explanation: ChangeExplanation) -> pd.Series | None:
    """The cause that did most in the direction in which the whole moved; None where there is none."""
    causes, overall = explanation.causes, explanation.overall
    sized = causes["effect_rate"].astype(float).to_numpy()
    up = not overall.clear or (overall.difference or 0.0) > 0
    sized = abs(sized) if not overall.clear else sized if up else -sized
    return causes.iloc[int(sized.argmax())] if len(sized) and sized.max() > 0 else None


def read_segment(text: str) -> dict[str, str]:
    """Read a segment of an explanation: column -> value.

    >>> read_segment("channel=ads & platform=ios")
    {'channel': 'ads', 'platform': 'ios'}
    """
    pairs = (part.partition("=") for part in text.split(" & "))
    return {column: value for column, _, value in pairs}


def mark_segment(counts: pd.DataFrame, segment: Mapping[str, str]) -> pd.Series:
    """Mark the rows of counts that are in a segment."""
    mask = pd.Series(True, index=counts.index)
    for column, value in segment.items():
        mask &= counts[column].astype(str) == value
    return mask


def _explain(before: pd.DataFrame, after: pd.DataFrame, columns: list[str], name: str) -> ChangeExplanation:
    return explain_change(
        before, after, dimensions=columns, numerator="converted", denominator="users_count", name=name, repeats="parts"
    )


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


def count_blocks(
    visits: ir.Table, segment: Mapping[str, str], scope: Scope, *, anchor: dt.date, width: int
) -> pd.DataFrame:
    """Users who got to the step before, by blocks of days that begin at `anchor`: each user once a block and side.

    Returns:
        from_day, side, users_count, converted_count (in any attempt of the block).
    """
    inside: Any = ibis.literal(bool(segment))
    for column, value in segment.items():
        inside &= visits[column].cast("string").fill_null(NOT_GIVEN) == value
    days = scope.data.calendar.local_day(visits.arrived_at).delta(ibis.date(anchor), unit="day")
    # Far enough back that no block has a number below 0, which division would round towards it.
    back = 10_000
    block = ((days + back * width) // width).cast("int64")
    users = visits.group_by("user_id", block=block, side=inside.ifelse(THE_SEGMENT, THE_REST)).aggregate(
        converted=visits.converted.cast("int64").max()
    )
    counted = users.group_by("block", "side").aggregate(
        users_count=users.count(), converted_count=users.converted.sum()
    )
    found = scope.data.execute(counted.order_by("block", "side"))
    found.insert(0, "from_day", [anchor + (int(b) - back) * width * DAY for b in found.pop("block")])
    return found


def make_trend(
    visits: ir.Table, segment: Mapping[str, str], scope: Scope, *, last: dt.date, width: int
) -> pd.DataFrame:
    """The rate of the segment and of the rest, in whole blocks of days up to the last that is known."""
    first = (scope.before or scope.now).start
    frame = count_blocks(visits, segment, scope, anchor=last + DAY, width=width)
    frame = frame[(frame["from_day"] >= first) & (frame["from_day"] <= last)].reset_index(drop=True)
    counts = zip(frame["converted_count"], frame["users_count"], strict=True)
    rates = [estimate_rate("converted_rate", int(x), int(n)) for x, n in counts]
    for name, part in (("rate", "value"), ("low", "low"), ("high", "high")):
        frame[f"converted_{name}"] = [math.nan if (v := getattr(e, part)) is None else v for e in rates]
    return frame


def _look_at_end(
    visits: ir.Table, segment: Mapping[str, str], scope: Scope, last: dt.date, name: str
) -> tuple[Estimate, int]:
    """The segment's rate in the last days, and how many: as few as hold enough users, or a week where it is gone."""
    ends = []
    for days in RECENT_DAYS:
        blocks = count_blocks(visits, segment, scope, anchor=last - (days - 1) * DAY, width=days)
        recent = _estimate_block(blocks, last - (days - 1) * DAY, THE_SEGMENT, name)
        ends.append((recent, days))
        inside = blocks[blocks["side"] == THE_SEGMENT]["users_count"]
        if recent.known or (days == WEEK_DAYS and recent.denominator < GONE_RATE * float(inside.max())):
            return recent, days
    return ends[-1]


def _estimate_block(blocks: pd.DataFrame, start: dt.date, side: str, name: str) -> Estimate:
    rows = blocks[(blocks["from_day"] == start) & (blocks["side"] == side)]
    return estimate_rate(name, int(rows["converted_count"].sum()), int(rows["users_count"].sum()))


def compare_repair(
    visits: ir.Table, segment: Mapping[str, str], scope: Scope, *, last: dt.date, fixed_on: dt.date
) -> BeforeAfterResult | None:
    """The segment's rate from a repair on, up to the last day that is known, against as many days right before.

    Returns None where fewer than seven days lie on either side.
    """
    first = (scope.before or scope.now).start
    least, most = REPAIR_DAYS
    width = min(most, (last - fixed_on).days + 1, (fixed_on - first).days)
    if width < least:
        return None
    blocks = count_blocks(visits, segment, scope, anchor=fixed_on, width=width)
    side = THE_SEGMENT if segment else THE_REST
    numbers = range(-((fixed_on - first).days // width), 1)
    rates = [_estimate_block(blocks, fixed_on + n * width * DAY, side, "repaired_rate") for n in numbers]
    return compare_before_after(rates[-2], rates[-1], earlier=rates[:-2])

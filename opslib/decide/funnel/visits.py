"""When users came to a step, and how many of them went on: over time, in the last days, before and after a repair."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import ibis
import ibis.expr.types as ir
import pandas as pd

from opslib.data.periods import DAY
from opslib.decide.scope import Scope
from opslib.explain.contrasts import NOT_GIVEN
from opslib.measure.estimate import MINIMUM_DENOMINATOR, Estimate, estimate_rate
from opslib.measure.experiment.before_after import BeforeAfterResult, compare_before_after

THE_SEGMENT, THE_REST = "segment", "rest"
WEEK_DAYS = 7
# The last days that say whether it is still so: the first of these with enough users.
RECENT_DAYS = (7, 14, 28)
# With fewer users in the last week than this share of the segment's largest, the segment is gone.
GONE_RATE = 0.2
# Days before and after a repair that are compared: at least, at most.
REPAIR_DAYS = (7, 28)


@dataclass(frozen=True)
class Ending:
    """How a segment does in the last days.

    Attributes:
        recent: its rate; each user once in these days.
        days: how many.
        gone: hardly anybody is in it any more.
        expected_rate: what would be usual in these days: its own rate in the period before, moved like everybody else,
            or that of users alike but for the value that is new.
        worst_rate: its rate in the days before these, in the period looked at.
    """

    recent: Estimate
    days: int
    gone: bool
    expected_rate: float
    worst_rate: float

    @property
    def state(self) -> str:
        """Is it over?

        "gone": hardly anybody is in it any more. "open": it still does worse than usual. "over": clearly above half the
        way back. "unknown": cannot be told.
        """
        if self.gone:
            return "gone"
        low, high = self.recent.low, self.recent.high
        if low is None or high is None or math.isnan(self.expected_rate):
            return "unknown"
        if high < self.expected_rate:
            return "open"
        return "over" if low > (self.expected_rate + self.worst_rate) / 2 else "unknown"


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


def look_at_end(
    visits: ir.Table, segment: Mapping[str, str], peers: Mapping[str, str] | None, scope: Scope, last: dt.date
) -> Ending:
    """How the segment does in the last days: as few as hold enough users, or a week where hardly anybody is left."""
    assert scope.before is not None
    ending = None
    for days in RECENT_DAYS:
        start = last - (days - 1) * DAY
        inside = count_blocks(visits, segment, scope, anchor=start, width=days)
        own = inside[inside["side"] == THE_SEGMENT]
        recent = _estimate_block(inside, start, THE_SEGMENT, "recent_rate")
        gone = days == WEEK_DAYS and recent.denominator < GONE_RATE * float(own["users_count"].max())
        earlier = inside[inside["from_day"] <= scope.now.start - days * DAY]
        now = inside[(inside["from_day"] >= scope.now.start) & (inside["from_day"] < start)]
        if peers is None:
            parts = [(earlier, THE_SEGMENT), (inside[inside["from_day"] == start], THE_REST), (earlier, THE_REST)]
            then, rest_now, rest_then = (_divide(*_sum_side(blocks, side)) for blocks, side in parts)
            expected = then + rest_now - rest_then
        else:
            alike = count_blocks(visits, peers, scope, anchor=start, width=days)
            alike = alike[alike["from_day"] == start]
            x, n = _sum_side(alike, THE_SEGMENT if peers else THE_REST)
            x, n = x - recent.numerator, n - recent.denominator
            if n < MINIMUM_DENOMINATOR:
                # All are in it by now: everybody else will have to do.
                x, n = _sum_side(inside[inside["from_day"] == start], THE_REST)
            expected = _divide(x, n)
        worst = _divide(*_sum_side(now, THE_SEGMENT))
        ending = Ending(recent, days, gone, expected, worst)
        if gone or recent.known:
            return ending
    assert ending is not None
    return ending


def _sum_side(blocks: pd.DataFrame, side: str) -> tuple[float, float]:
    rows = blocks[blocks["side"] == side]
    return float(rows["converted_count"].sum()), float(rows["users_count"].sum())


def _divide(x: float, n: float) -> float:
    return x / n if n > 0 else math.nan


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
    # How much the rate moves by itself is not told by the days before a repair, in which it was broken.
    before, after = (
        _estimate_block(blocks, start, side, "repaired_rate") for start in (fixed_on - width * DAY, fixed_on)
    )
    return compare_before_after(before, after)

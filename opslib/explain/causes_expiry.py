"""The natural experiment of coupons: they expire on a date that was fixed when they were given, whatever is done then.

Whoever holds it unused is the same person the day before and the day after. If more leave just after than just before,
and those who had used theirs show no such jump, the expiry is at work, and not the kind of person who lets coupons lie.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import ibis
import ibis.expr.types as ir
import numpy as np
import pandas as pd

from opslib.data.periods import DAY, Calendar, Period
from opslib.errors import InputError
from opslib.language import say
from opslib.measure.churn.spells import EPOCH, need_columns
from opslib.measure.estimate import CONFIDENCE, MINIMUM_DENOMINATOR, Estimate, estimate_rate, quantile, to_plain_record
from opslib.measure.grains import index_days

SIDE_DAYS = 7
# After so many silent days somebody who was active on a day has left after it.
SILENT_DAYS = 28
# A coupon that expired unused may weigh on its holder for so long; another one in this time blurs the date.
ALONE_DAYS = 14
MINIMUM_LEAVERS = 5
# The sides of a placebo date are less than half as long, so a trend shows on them as so much less (as a power).
PLACEBO_REACH = 7 / 3
JUMP_COLUMNS = ("cut_day", "kind", "group", "before_count", "before_left_count", "after_count", "after_left_count",
                "before_rate", "after_rate", "ratio", "ratio_low", "ratio_high")  # fmt: skip


@dataclass(frozen=True)
class ExpiryResult:
    """Leaving around the date on which coupons expire.

    Attributes:
        period: expiry dates that count.
        side_days, silent_days: days looked at on each side; silence after which an active user has left.
        days: day (0 is the first on which the coupon is no longer valid), group (unused: the coupon lies unused on that
            day; used: it was used before), active_count (holders active on the day), left_count (who were not seen for
            `silent_days` after it), left_rate, left_low, left_high.
        jumps: at the date itself (kind expiry) and in the middle of each side, where nothing happened (kind placebo):
            cut_day, kind, group (unused, used, or difference: the one against the other), counts and rates before and
            after, ratio (after / before) with ratio_low, ratio_high; missing where too few left.
        jump: how many times the chance to leave on a day jumps at expiry for holders of unused coupons, against those
            who had used theirs.
        coupons_count: coupons whose date stands alone; crowded_count: left out, as another of the user's expired near.
        evidence: "natural_experiment" where both the unused and the difference jump beyond doubt and no placebo does
            (or by clearly less, as with a steady rise), else "association".
        notes: what a reader must know, in plain words.
    """

    period: Period
    side_days: int
    silent_days: int
    days: pd.DataFrame
    jumps: pd.DataFrame
    jump: Estimate
    coupons_count: int
    crowded_count: int
    evidence: str
    notes: tuple[str, ...]

    def findings(self) -> list[dict[str, Any]]:
        """The jump, then the jumps at the date and at the placebo dates."""
        head = {"period": self.period.label, "evidence": self.evidence}
        records = [self.jump.to_finding(**head)]
        return records + [{"name": "expiry_jump", **head, **to_plain_record(r)} for r in self.jumps.to_dict("records")]


def check_expiry(
    active_days: ir.Table,
    coupons: ir.Table,
    period: Period,
    *,
    as_of: dt.date,
    calendar: Calendar,
    side_days: int = SIDE_DAYS,
    silent_days: int = SILENT_DAYS,
    alone_days: int = ALONE_DAYS,
    minimum: int = MINIMUM_LEAVERS,
) -> ExpiryResult:
    """Check whether leaving jumps on the date on which coupons expire.

    Args:
        active_days: user_id, day.
        coupons: user_id, issued_at, expires_at, redeemed_at (UTC).
        period: expiry dates that count.
        as_of: the last day that is fully known; who was active less than `silent_days` before it is left out.
        calendar: the company's clock.
        side_days: days looked at before and after the date.
        silent_days: after so many days without activity a user has left.
        alone_days: a coupon counts when no other of the user's expires within so many days before the first day looked
            at, nor up to the last one.
        minimum: with fewer leavers on a side there is no ratio for the unused.

    Returns:
        An `ExpiryResult`.

    Raises:
        InputError: options that make no sense, or missing columns.

    A difference in discontinuities: on each active day of a holder, does the user leave after it? Whether a coupon is
    used is taken as it stands on that day, never as it turns out, or leavers, who can use nothing any more, would all
    fall among the unused. The day of use itself, and a day on which a coupon is valid for some hours, do not count.

    Source: Grembi, Nannicini and Troiano (2016), American Economic Journal: Applied Economics 8, 1-30.

    >>> at = dt.datetime(2026, 1, 20)
    >>> coupons = ibis.memtable({"user_id": range(200), "issued_at": [dt.datetime(2026, 1, 1)] * 200,
    ...     "expires_at": [at] * 200, "redeemed_at": [None] * 100 + [dt.datetime(2026, 1, 2)] * 100})
    >>> rows = [(u, dt.date(2026, 1, d)) for u in range(200) for d in (14, 21) if d == 14 and u % 10 or d == 21]
    >>> rows += [(u, dt.date(2026, 1, 30)) for u in range(200) if u % 10 or u >= 100]
    >>> days = ibis.memtable({"user_id": [u for u, _ in rows], "day": [d for _, d in rows]})
    >>> january = Period(dt.date(2026, 1, 1), dt.date(2026, 2, 1), "January")
    >>> result = check_expiry(days, coupons, january, as_of=dt.date(2026, 3, 31), calendar=Calendar())
    >>> result.days[["day", "group", "active_count", "left_count"]].to_numpy().tolist()[:2]
    [[-6, 'unused', 90, 0], [-6, 'used', 90, 0]]
    """
    if side_days < 2 or silent_days < 1 or alone_days < 0:
        raise InputError(
            f"side_days {side_days}, silent_days {silent_days}, alone_days {alone_days}: at least two days on each "
            "side and one silent day are needed."
        )
    need_columns(active_days, ["user_id", "day"], what="The table of active days")
    need_columns(coupons, ["user_id", "issued_at", "expires_at", "redeemed_at"], what="The table of coupons")
    dated = _date_coupons(coupons, calendar)
    near = dated.filter(dated["expiry"] >= _number(period.start), dated["expiry"] < _number(period.end))
    crowded = (near.previous > near.expiry - side_days - alone_days) | (near.following < near.expiry + side_days)
    marked = near.mutate(crowded=crowded.fill_null(False)).cache()
    totals = marked.aggregate(
        alone=(~marked.crowded).sum().fill_null(0), crowded=marked.crowded.sum().fill_null(0)
    ).to_pandas()
    moments = _find_moments(active_days, period, as_of, side_days, silent_days)
    both = moments.inner_join(marked.filter(~marked.crowded), "user_id")
    day = both["at"] - both.expiry
    kept = both.filter(
        day >= -side_days, day < side_days, both["at"] >= both.issue, both["at"] != both.partial,
        (both["at"] != both.use).fill_null(True),
    )  # fmt: skip
    used = (kept.use < kept["at"]).fill_null(False)
    grouped = kept.select(day=kept["at"] - kept.expiry, group=used.ifelse("used", "unused"), left="left")
    counts = grouped.group_by("day", "group").aggregate(
        active_count=grouped.count(), left_count=grouped.left.cast("int64").sum()
    )
    frame = counts.order_by(["day", "group"]).to_pandas()
    jumps = _measure_jumps(frame, side_days, minimum)
    evidence, notes = _judge(jumps, minimum)
    rates = [estimate_rate("left_rate", r["left_count"], r["active_count"]) for r in frame.to_dict("records")]
    frame = frame.assign(**{f"left_{n}": [getattr(e, a) for e in rates] for n, a in
                            (("rate", "value"), ("low", "low"), ("high", "high"))})  # fmt: skip
    return ExpiryResult(
        period, side_days, silent_days, frame, jumps, _to_estimate(jumps), int(totals["alone"][0]),
        int(totals["crowded"][0]), evidence, tuple(notes),
    )  # fmt: skip


def _number(day: dt.date) -> int:
    return (day - EPOCH).days


def _date_coupons(coupons: ir.Table, calendar: Calendar) -> ir.Table:
    """Coupons by day: issue, expiry (the first day without it), partial (a day of which it was valid for a part), use;
    and the user's expiries before and after."""
    known = coupons.filter(coupons.user_id.notnull(), coupons.expires_at.notnull())
    ends = calendar.count_days(known.expires_at, EPOCH)
    before = calendar.count_days(known.expires_at - ibis.interval(seconds=1), EPOCH)
    expiry = before + 1
    rows = known.select(
        "user_id",
        issue=calendar.count_days(known.issued_at, EPOCH),
        expiry=expiry,
        partial=(ends == before).ifelse(ends, ibis.literal(-1, "int64")),
        # A use after the date, or without one, is none.
        use=(known.redeemed_at < known.expires_at).ifelse(
            calendar.count_days(known.redeemed_at, EPOCH), ibis.null("int64")
        ),
    )
    along: dict[str, Any] = {"group_by": rows.user_id, "order_by": [rows.expiry, rows.issue]}
    return rows.mutate(previous=rows.expiry.lag().over(**along), following=rows.expiry.lead().over(**along))


def _find_moments(active_days: ir.Table, period: Period, as_of: dt.date, side_days: int, silent_days: int) -> ir.Table:
    """Active days on which it is known whether the user left after them: user_id, at, left."""
    start, end = period.start - side_days * DAY, period.end + side_days * DAY
    known = active_days.filter(
        active_days.day >= start, active_days.day < end + silent_days * DAY, active_days.day <= as_of
    )
    rows = known.select("user_id", at=index_days(known.day, EPOCH, "day")).distinct()
    following = rows["at"].lead().over(group_by=rows.user_id, order_by=rows["at"])
    marked = rows.mutate(left=(following - rows["at"] > silent_days).fill_null(True))
    last = min(_number(end) - 1, _number(as_of) - silent_days)
    return marked.filter(marked["at"] <= last)


def _measure_jumps(frame: pd.DataFrame, side_days: int, minimum: int) -> pd.DataFrame:
    width = side_days // 2
    cuts = [(0, "expiry", side_days), (-width, "placebo", width), (side_days - width, "placebo", width)]
    rows: list[tuple[Any, ...]] = []
    for cut, kind, reach in cuts:
        logs = {}
        for group in ("unused", "used"):
            part = frame[frame["group"] == group]
            before = part[(part["day"] >= cut - reach) & (part["day"] < cut)]
            after = part[(part["day"] >= cut) & (part["day"] < cut + reach)]
            n, x = int(before["active_count"].sum()), int(before["left_count"].sum())
            m, y = int(after["active_count"].sum()), int(after["left_count"].sum())
            enough = min(x, y) >= minimum if group == "unused" else min(n, m) >= MINIMUM_DENOMINATOR
            logs[group] = _log_ratio(x, n, y, m) if enough else (math.nan, math.nan)
            rates = (x / n if n else math.nan, y / m if m else math.nan)
            rows.append((cut, kind, group, n, x, m, y, *rates, *_spread(*logs[group])))
        value = logs["unused"][0] - logs["used"][0]
        error = math.hypot(logs["unused"][1], logs["used"][1])
        rows.append((cut, kind, "difference", *[math.nan] * 6, *_spread(value, error)))
    counts = {c: "Int64" for c in JUMP_COLUMNS if c.endswith("_count")}
    return pd.DataFrame(rows, columns=list(JUMP_COLUMNS)).astype(counts)


def _log_ratio(x: int, n: int, y: int, m: int) -> tuple[float, float]:
    """The logarithm of a ratio of shares, with its standard error; half a case more on each side bears with nobody.

    Source: Pettigrew, Gart and Thomas (1986), Biometrika 73, 425-435.
    """
    value = math.log((y + 0.5) / (m + 0.5)) - math.log((x + 0.5) / (n + 0.5))
    return value, math.sqrt(1 / (x + 0.5) - 1 / (n + 0.5) + 1 / (y + 0.5) - 1 / (m + 0.5))


def _spread(value: float, error: float) -> tuple[float, float, float]:
    z = quantile()
    low, high = value - z * error, value + z * error
    return float(np.exp(value)), float(np.exp(low)), float(np.exp(high))


def _find_jump(jumps: pd.DataFrame, kind: str, group: str) -> pd.DataFrame:
    return jumps[(jumps["kind"] == kind) & (jumps["group"] == group)]


def _judge(jumps: pd.DataFrame, minimum: int) -> tuple[str, list[str]]:
    """The evidence, and why it is no better."""
    unused, difference = (_find_jump(jumps, "expiry", group).iloc[0].to_dict() for group in ("unused", "difference"))
    placebo = _find_jump(jumps, "placebo", "unused")
    # A fall is to be expected: the weary leave first, and those who are left leave less each day.
    # A steady rise moves the placebos too, over shorter stretches: the jump must be clearly more than that.
    value, error = _to_log(unused)
    moved = False
    for row in placebo.to_dict("records"):
        drift, spread = _to_log(row)
        rises = drift > quantile(1 - (1 - CONFIDENCE) / len(placebo)) * spread
        more = value - PLACEBO_REACH * drift > quantile() * math.hypot(error, PLACEBO_REACH * spread)
        moved = moved or (rises and not more)
    if not np.isfinite(unused["ratio"]):
        text = say("Fewer than {minimum} holders of unused coupons left before or after the date.", minimum=minimum)
        return "association", [text]
    if not unused["ratio_low"] > 1:
        return "association", [say("Leaving does not jump on the date on which unused coupons expire.")]
    if not np.isfinite(difference["ratio"]):
        text = say("Leaving jumps at expiry, but too few had used their coupon before to say whether theirs does not.")
        return "association", [text]
    if not difference["ratio_low"] > 1:
        return "association", [
            say("Leaving jumps at expiry, but not clearly more than for those who had used their coupon.")
        ]
    if moved:
        return "association", [
            say("Leaving also jumps on a day on which nothing expired, so the date may not be the reason.")
        ]
    return "natural_experiment", []


def _to_log(row: Mapping[Any, Any]) -> tuple[float, float]:
    """The logarithm of a ratio and its standard error, from its interval."""
    return math.log(row["ratio"]), math.log(row["ratio_high"] / row["ratio_low"]) / (2 * quantile())


def _to_estimate(jumps: pd.DataFrame) -> Estimate:
    row = _find_jump(jumps, "expiry", "difference").iloc[0]
    unused = _find_jump(jumps, "expiry", "unused").iloc[0]
    x, n = float(unused["after_left_count"]), float(unused["after_count"])
    name = "expiry_jump_ratio"
    if not np.isfinite(row["ratio"]):
        note = say("not enough data: too few left")
        return Estimate(name, None, x, n, None, None, "none", "ratio", note=note)
    ends = (float(row["ratio_low"]), float(row["ratio_high"]))
    return Estimate(name, float(row["ratio"]), x, n, *ends, "difference in discontinuities, log scale", "ratio")

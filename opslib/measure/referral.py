"""Referral: how many users a user brings, how fast, in what chains, and what one who stays costs in rewards."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import ibis
import ibis.expr.types as ir
import pandas as pd

from opslib.data.periods import DAY, Calendar, Period
from opslib.language import say
from opslib.measure.acquisition import estimate_cost, estimate_cost_kept, to_rows
from opslib.measure.estimate import (
    CONFIDENCE,
    MINIMUM_DENOMINATOR,
    Estimate,
    estimate_count,
    estimate_mean,
    estimate_rate,
    to_plain_record,
)
from opslib.measure.retention import find_first_days

RETAINED_DAY = 7
NO_KIND = "(not given)"
# Longer chains, and circles, which have no beginning, are counted together.
LONGEST_CHAIN = 10
# With fewer inviters than this, what one of them brings decides the mean's interval.
FEWEST_INVITERS = 10
CYCLE_QUANTILES = (0.25, 0.5, 0.9)
KIND_COLUMNS = (
    "kind",
    "joined_count",
    "mature_count",
    "retained_count",
    "d7_rate",
    "d7_low",
    "d7_high",
    "reward_amount",
    "cost_per_user_amount",
    "cost_per_user_low",
    "cost_per_user_high",
    "cost_per_retained_amount",
    "cost_per_retained_low",
    "cost_per_retained_high",
)


@dataclass(frozen=True)
class ReferralResult:
    """Users brought by users.

    Attributes:
        period: the days on which they joined, up to `as_of`.
        k_active: users who joined in the period by referral / users active in it: K a period.
        k_cohort: K by cohort: whom the users new in the period brought within `window_days` of their first day / those
            of them who have had these days. It is K of one cycle when the window covers the cycle.
        window_days: that window.
        waiting_count: new users of the period whose window is not over; in no K.
        cycle: quantile (0.25, 0.5, 0.9) -> days from the inviter's first day to the joining, of the joined in the
            period; None without any. Cycles still running are not in it: young inviters can only show short ones.
        cycles: cycle_days, users_count; the distribution behind it.
        invites_per_user, conversion_rate: K in parts, where invitations are known: invitations sent / active users,
            and joined / invitations.
        cost_per_retained: rewards / users retained on day 7, over all kinds; None without rewards.
        by_kind: kind, joined_count, mature_count, retained_count (active on day 7), d7_rate with d7_low, d7_high,
            reward_amount, cost_per_user and cost_per_retained with _amount, _low, _high.
        by_generation: generation_count (1: brought by a user whom nobody had brought), users_count, of the joined in
            the period; 10 stands for longer chains and for circles.
        inviters_count: users who brought somebody in the period.
        repeated_count, self_count, known_count: rows of the period that bring nobody new: the invited had been invited
            before; invited themselves; or had been active on an earlier day. Their rewards are in the costs.
    """

    period: Period
    k_active: Estimate
    k_cohort: Estimate
    window_days: int
    waiting_count: int
    cycle: dict[float, Estimate]
    cycles: pd.DataFrame
    invites_per_user: Estimate | None
    conversion_rate: Estimate | None
    cost_per_retained: Estimate | None
    by_kind: pd.DataFrame
    by_generation: pd.DataFrame
    inviters_count: int
    repeated_count: int
    self_count: int
    known_count: int

    @property
    def amplification(self) -> float | None:
        """Users that one user from elsewhere comes to with all who follow from them, 1 / (1 - K); None at K >= 1."""
        k = self.k_cohort.value
        return 1 / (1 - k) if k is not None and k < 1 else None

    def findings(self) -> list[dict[str, Any]]:
        """The estimates, and one record a kind and generation."""
        label = self.period.label
        optional = (self.invites_per_user, self.conversion_rate, self.cost_per_retained)
        estimates = [self.k_active, self.k_cohort, *self.cycle.values(), *(e for e in optional if e)]
        records = [e.to_finding(period=label) for e in estimates]
        for name, frame in (("referral_kind", self.by_kind), ("generation", self.by_generation)):
            records += [{"name": name, "period": label, **to_plain_record(row)} for row in to_rows(frame)]
        return records


def measure_referral(
    referrals: ir.Table,
    active_days: ir.Table,
    period: Period,
    *,
    as_of: dt.date,
    calendar: Calendar,
    window_days: int = 30,
    invites: ir.Table | None = None,
) -> ReferralResult:
    """Measure how users bring users.

    Args:
        referrals: inviter_id, invitee_id, ts (UTC, when the invited joined) and, if known, kind and reward.
        active_days: user_id, day; all days since the beginning.
        period: days on which the invited joined.
        as_of: the last day that is fully known; nothing later is looked at.
        calendar: the company's clock.
        window_days: days from an inviter's first day, that day included, in which the cohort's invitations count.
        invites: user_id, day; one row an invitation sent.

    Returns:
        A `ReferralResult`.

    Who was invited more than once was brought by the first. Brought are only users who were never active before the day
    they joined. Intervals of K are over inviters, because those whom one brings go together. None of this says who
    would have come anyway: the cost of a user that referral *added* is higher, by how much only a holdout tells.

    Source of K = invitations x conversion, and of cycle time: Skok, *Lessons learned: viral marketing* (2009).

    >>> day = dt.date(2026, 1, 5)
    >>> days = ibis.memtable({"user_id": range(40), "day": [day] * 20 + [day + DAY] * 20})
    >>> times = [dt.datetime(2026, 1, 6, 12)] * 10
    >>> referrals = ibis.memtable({"inviter_id": range(10), "invitee_id": range(20, 30), "ts": times})
    >>> january = Period(dt.date(2026, 1, 1), dt.date(2026, 2, 1), "January")
    >>> result = measure_referral(referrals, days, january, as_of=dt.date(2026, 3, 1), calendar=Calendar())
    >>> result.k_active.value, result.cycle[0.5].numerator, result.by_generation["users_count"].tolist()
    (0.25, 10, [10])
    """
    period = Period(period.start, max(period.start, min(period.end, as_of + DAY)), period.label)
    known_days = active_days.filter(active_days.day <= as_of)
    rows = _mark_rows(referrals, find_first_days(known_days), as_of, calendar).cache()
    joined = rows.filter(rows.counts & _within(rows.day, period))
    counts = _count_rows(rows.filter(_within(rows.day, period)))
    active = int(known_days.filter(_within(known_days.day, period)).user_id.nunique().to_pandas())
    cycles = joined.filter(joined.cycle_days >= 0).group_by("cycle_days").aggregate(users_count=lambda t: t.count())
    cycle_frame = cycles.order_by("cycle_days").to_pandas()
    k_cohort, waiting = _measure_cohort(rows, find_first_days(known_days), period, as_of, window_days)
    by_kind, cost = _measure_kinds(rows.filter(_within(rows.day, period)), known_days, as_of)
    sent = None if invites is None else _count_invites(invites.filter(_within(invites.day, period)), active)
    return ReferralResult(
        period,
        _estimate_k("k_active_ratio", counts["joined"], counts["squares"], counts["inviters"], active),
        k_cohort,
        window_days,
        waiting,
        _estimate_cycle(cycle_frame),
        cycle_frame,
        sent,
        None if sent is None else _estimate_conversion(counts["joined"], int(sent.numerator)),
        cost,
        by_kind,
        _count_generations(rows, period),
        counts["inviters"],
        counts["repeated"],
        counts["selves"],
        counts["known"],
    )


def _within(day: Any, period: Period) -> Any:
    return (day >= period.start) & (day < period.end)


def _mark_rows(referrals: ir.Table, first_days: ir.Table, as_of: dt.date, calendar: Calendar) -> ir.Table:
    """Every referral with its local day, whether it brings somebody new, and the cycle: days since the inviter came."""
    columns = referrals.columns
    rows = referrals.select(
        "inviter_id",
        "invitee_id",
        "ts",
        day=calendar.local_day(referrals.ts),
        kind=referrals.kind.fill_null(NO_KIND) if "kind" in columns else ibis.literal(NO_KIND),
        reward=(referrals.reward.fill_null(0) if "reward" in columns else ibis.literal(0)).cast("float64"),
        has_reward=ibis.literal("reward" in columns),
    )
    rows = rows.filter(rows.day <= as_of)
    own = rows.inviter_id == rows.invitee_id
    order = [own, rows.ts, rows.inviter_id, rows.kind]
    rows = rows.mutate(is_self=own, nth=ibis.row_number().over(group_by=rows.invitee_id, order_by=order))
    invitees = first_days.select(_invitee="user_id", invitee_first="first_day")
    inviters = first_days.select(_inviter="user_id", inviter_first="first_day")
    rows = rows.left_join(invitees, [("invitee_id", "_invitee")]).left_join(inviters, [("inviter_id", "_inviter")])
    was_known = (rows.invitee_first < rows.day).fill_null(False)
    fresh = ~rows.is_self & (rows.nth == 0)
    return rows.mutate(
        counts=fresh & ~was_known,
        repeated=~rows.is_self & (rows.nth > 0),
        was_known=fresh & was_known,
        cycle_days=rows.day.delta(rows.inviter_first, unit="day"),
    ).drop("_invitee", "_inviter")


def _count_rows(rows: ir.Table) -> dict[str, int]:
    per_inviter = rows.filter(rows.counts).group_by("inviter_id").aggregate(joined=lambda t: t.count())
    brought = per_inviter.aggregate(
        inviters=per_inviter.count(),
        joined=per_inviter.joined.sum().fill_null(0),
        squares=(per_inviter.joined * per_inviter.joined).sum().fill_null(0),
    )
    others = rows.aggregate(
        repeated=rows.repeated.sum().fill_null(0),
        selves=rows.is_self.sum().fill_null(0),
        known=rows.was_known.sum().fill_null(0),
    )
    return {k: int(v) for k, v in brought.cross_join(others).to_pandas().iloc[0].items()}


def _estimate_k(name: str, joined: int, squares: float, inviters: int, users: int) -> Estimate:
    if users >= MINIMUM_DENOMINATOR and inviters < FEWEST_INVITERS:
        note = say("only {count} inviters", count=inviters)
        return replace(estimate_count(name, joined, per=users), unit="ratio", note=note)
    e = estimate_mean(name, joined, squares, users, unit="ratio")
    return e if e.low is None else replace(e, low=max(0.0, e.low))


def _measure_cohort(
    rows: ir.Table, first_days: ir.Table, period: Period, as_of: dt.date, window_days: int
) -> tuple[Estimate, int]:
    new = first_days.filter(_within(first_days.first_day, period))
    mature = new.filter(new.first_day <= as_of - (window_days - 1) * DAY)
    early = rows.filter(rows.counts & (rows.cycle_days >= 0) & (rows.cycle_days < window_days))
    per_inviter = early.semi_join(mature, [("inviter_id", "user_id")]).group_by("inviter_id")
    brought = per_inviter.aggregate(joined=lambda t: t.count())
    sums = brought.aggregate(
        joined=brought.joined.sum().fill_null(0),
        squares=(brought.joined * brought.joined).sum().fill_null(0),
        inviters=brought.count(),
    )
    found = sums.cross_join(mature.aggregate(mature=mature.count())).cross_join(new.aggregate(new=new.count()))
    row = {k: int(v) for k, v in found.to_pandas().iloc[0].items()}
    k = _estimate_k(f"k_{window_days}_days_ratio", row["joined"], row["squares"], row["inviters"], row["mature"])
    return k, row["new"] - row["mature"]


def _estimate_cycle(cycles: pd.DataFrame) -> dict[float, Estimate]:
    """Quantiles of the distribution, with the order statistics that hold the true ones (binomial, no shape assumed)."""
    total = int(cycles["users_count"].sum())
    if not total:
        return {}
    from scipy.stats import binom  # a second to import

    upto, days = cycles["users_count"].cumsum().to_numpy(), cycles["cycle_days"].to_numpy()

    def at(rank: int) -> float:
        return float(days[upto.searchsorted(min(max(rank, 1), total))])

    found, tail = {}, (1 - CONFIDENCE) / 2
    for q in CYCLE_QUANTILES:
        name = "cycle_median_days" if q == 0.5 else f"cycle_p{q * 100:.0f}_days"
        if total < MINIMUM_DENOMINATOR:
            note = say(
                "not enough data: {count} joined, at least {minimum} needed", count=total, minimum=MINIMUM_DENOMINATOR
            )
            found[q] = Estimate(name, None, total, 1, None, None, "none", "days", note=note)
            continue
        value = (at(-int(-total * q // 1)) + at(int(total * q) + 1)) / 2
        low, high = at(int(binom.ppf(tail, total, q))), at(int(binom.ppf(1 - tail, total, q)) + 1)
        found[q] = Estimate(name, value, total, 1, low, high, "order statistics", "days")
    return found


def _count_invites(invites: ir.Table, users: int) -> Estimate:
    per_user = invites.group_by("user_id").aggregate(sent=lambda t: t.count())
    squares = (per_user.sent * per_user.sent).sum().fill_null(0)
    sums = per_user.aggregate(sent=per_user.sent.sum().fill_null(0), squares=squares).to_pandas()
    return estimate_mean("invites_per_user_count", int(sums["sent"][0]), int(sums["squares"][0]), users, unit="count")


def _estimate_conversion(joined: int, sent: int) -> Estimate:
    if joined > sent:
        note = say("more joined than were invited: not all invitations are known")
        return Estimate("invite_conversion_rate", None, joined, sent, None, None, "none", "rate", note=note)
    return estimate_rate("invite_conversion_rate", joined, sent)


def _measure_kinds(rows: ir.Table, active_days: ir.Table, as_of: dt.date) -> tuple[pd.DataFrame, Estimate | None]:
    days = active_days.select(_user="user_id", _day="day")
    on_day = rows.inner_join(days, [rows.invitee_id == days._user, rows.counts])
    on_day = on_day.filter(on_day._day.delta(on_day.invitee_first, unit="day") == RETAINED_DAY)
    # Who joined and was never active has no first day; the day of joining stands in.
    mature = rows.counts & (ibis.coalesce(rows.invitee_first, rows.day) <= as_of - RETAINED_DAY * DAY)
    kinds = rows.group_by("kind").aggregate(
        joined_count=rows.counts.sum(),
        mature_count=mature.sum(),
        retained_count=(mature & rows.invitee_id.isin(on_day.invitee_id)).sum(),
        reward_amount=rows.reward.sum(),
        rewarded=rows.has_reward.any(),
    )
    frame = kinds.to_pandas().sort_values(["joined_count", "kind"], ascending=[False, True])
    described = pd.DataFrame([_describe_kind(row) for row in to_rows(frame)], columns=list(KIND_COLUMNS))
    described = described.astype(dict.fromkeys(KIND_COLUMNS[4:], float))
    if frame.empty or not frame["rewarded"].any():
        return described.assign(reward_amount=float("nan")), None
    users, mature_users, kept = (int(frame[c].sum()) for c in ("joined_count", "mature_count", "retained_count"))
    spent = float(frame["reward_amount"].sum())
    return described, estimate_cost_kept("cost_per_referred_retained_amount", spent, users, kept, mature_users)


def _describe_kind(row: Mapping[Any, Any]) -> dict[str, Any]:
    users, kept, mature = int(row["joined_count"]), int(row["retained_count"]), int(row["mature_count"])
    rate = estimate_rate("d7_rate", kept, mature)
    values = {"kind": row["kind"], "joined_count": users, "mature_count": mature, "retained_count": kept}
    values |= {"d7_rate": rate.value, "d7_low": rate.low, "d7_high": rate.high, "reward_amount": row["reward_amount"]}
    if not row["rewarded"]:
        return values
    for name, cost in (
        ("cost_per_user", estimate_cost("", row["reward_amount"], users)),
        ("cost_per_retained", estimate_cost_kept("", row["reward_amount"], users, kept, mature)),
    ):
        values |= {f"{name}_amount": cost.value, f"{name}_low": cost.low, f"{name}_high": cost.high}
    return values


def _count_generations(rows: ir.Table, period: Period) -> pd.DataFrame:
    """How many inviters stand before each who joined: one join a generation, all in one query."""
    edges = rows.filter(rows.counts)
    chain = edges.filter(_within(edges.day, period)).select(ancestor="inviter_id", generation_count=ibis.literal(1))
    for _ in range(LONGEST_CHAIN - 1):
        parents = edges.select(_child="invitee_id", _parent="inviter_id")
        joined = chain.left_join(parents, [("ancestor", "_child")])
        further = joined._parent.notnull().cast("int8")
        chain = joined.select(ancestor="_parent", generation_count=joined.generation_count + further)
    counted = chain.group_by("generation_count").aggregate(users_count=lambda t: t.count())
    return counted.order_by("generation_count").to_pandas()

"""Churn, defined: after how many silent days a user counts as gone, chosen from the data; or by subscription end.

What comes of it, a table of spells, feeds `opslib.measure.churn.rates` (how many leave each month) and
`opslib.measure.survival.survival` (when they leave).
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, replace
from typing import Any, Literal

import ibis
import ibis.expr.types as ir
import numpy as np
import pandas as pd

from opslib.data.periods import DAY, Calendar
from opslib.errors import InputError
from opslib.language import join_sentences, say
from opslib.measure.churn.spells import (
    Silences,
    count_silences,
    find_active_spells,
    keep_known,
    need_columns,
)
from opslib.measure.estimate import MINIMUM_DENOMINATOR, Estimate, quantile, to_plain, to_plain_record

Basis = Literal["inactivity", "orders", "subscription"]

PROBABILITY = 0.1
# How far ahead a return is looked for: buyers take their time.
HORIZON_DAYS: dict[Basis, int] = {"inactivity": 90, "orders": 180}
# A horizon longer than this part of the data leaves too few silences that could be watched to its end.
LONGEST_PART = 3
CURVE_COLUMNS = (
    "silent_days",
    "silences_count",
    "users_count",
    "returned_count",
    "open_count",
    "return_rate",
    "return_low",
    "return_high",
)
METHOD = "Kaplan-Meier; Wilson on its effective size (Rothman), a user's silences taken as one"


@dataclass(frozen=True)
class ChurnDefinition:
    """When a user counts as gone.

    Attributes:
        basis: "inactivity" or "orders" (silent for `inactive_days`), or "subscription" (the end stated in the data).
        inactive_days: a user who has been silent for so many whole days has left; None where no number could be chosen,
            0 for subscriptions.
        chosen: "from the data", "given", or "none".
        probability: return must be less likely than this.
        horizon_days: within how many further days a return counts.
        return_rate: chance to return within the horizon after `inactive_days` silent days.
        low_days, high_days: between which numbers the choice would lie, by the curve's interval; None where unknown.
        curve: silent_days, silences_count (that lasted so long), users_count (with one of them), returned_count (seen
            to end within the horizon), open_count (still open at `as_of`, watched for less than the horizon),
            return_rate, return_low, return_high; missing where too few silences were watched that long.
        as_of: the last day that is fully known.
        columns: of a subscription, the columns that say when it starts and ends.
        notes: what a reader must know, in plain words.
    """

    basis: Basis
    inactive_days: int | None
    chosen: str
    probability: float
    horizon_days: int
    return_rate: Estimate | None
    low_days: int | None
    high_days: int | None
    curve: pd.DataFrame
    as_of: dt.date
    columns: tuple[str, str] | None = None
    notes: tuple[str, ...] = ()

    @property
    def known_until(self) -> dt.date:
        """The last day of which it is known who left on it: later silences are not long enough yet."""
        return self.as_of - self.need_days() * DAY

    def need_days(self) -> int:
        """The number of silent days.

        Raises:
            InputError: none could be chosen.
        """
        if self.inactive_days is None:
            raise InputError(f"Churn is not defined: {' '.join(self.notes)} Give inactive_days, for example 30.")
        return self.inactive_days

    def findings(self) -> list[dict[str, Any]]:
        """The definition, its chance of return, and the curve as flat records."""
        context = {"basis": self.basis, "as_of": self.as_of.isoformat(), "horizon_days": self.horizon_days}
        head: dict[str, Any] = {"inactive_days": self.inactive_days, "chosen": self.chosen, "low_days": self.low_days}
        head |= {"high_days": self.high_days, "probability": self.probability, "notes": join_sentences(self.notes)}
        records = [{"name": "churn_definition", **context, **{k: to_plain(v) for k, v in head.items()}}]
        if self.return_rate is not None:
            records.append(self.return_rate.to_finding(**context, silent_days=self.inactive_days))
        known = self.curve[self.curve["return_rate"].notna()]
        return records + [{"name": "return_curve", **to_plain_record(row)} for row in known.to_dict("records")]


def define_churn(
    activity: ir.Table,
    *,
    as_of: dt.date,
    basis: Basis = "inactivity",
    calendar: Calendar | None = None,
    probability: float = PROBABILITY,
    horizon_days: int | None = None,
    inactive_days: int | None = None,
    minimum: int = MINIMUM_DENOMINATOR,
) -> ChurnDefinition:
    """Choose after how many silent days a user counts as gone: the fewest after which return is unlikely.

    Args:
        activity: user_id and ts (UTC), for example events, or day, for example active days; rows may repeat. By
            orders: user_id, ts and amount; rows whose amount is not above 0 (refunds, gifts) are no orders.
        as_of: the last day that is fully known; later rows are left out.
        basis: "inactivity" or "orders"; for subscriptions see `define_churn_by_subscription`.
        calendar: the company's clock, which decides days.
        probability: a user is gone when return within the horizon is less likely than this.
        horizon_days: how far ahead a return is looked for; by default 90, 180 for orders, and never more than a third
            of the data unless given.
        inactive_days: a number of days chosen by somebody; the curve is measured all the same.
        minimum: with fewer silences watched to the end there is no rate.

    Returns:
        A `ChurnDefinition`.

    Raises:
        InputError: an option that makes no sense, or a missing column.

    Every silence of d days or more, also a user's second and third, was once a user silent for d days: the curve says
    how many of them ended within the horizon. Silences open at `as_of` are censored there, not returns and not losses.
    One user's silences go together; the interval assumes that they end all or none, and so errs on the wide side.

    Source: Kaplan and Meier (1958); Rothman (1978), Journal of Chronic Diseases 31, 557-560, for the interval.

    >>> days = [(u, d) for u in range(40) for d in ((1, 3) if u < 30 else (1,))]
    >>> table = ibis.memtable({"user_id": [u for u, _ in days], "day": [dt.date(2026, 1, d) for _, d in days]})
    >>> churn = define_churn(table, as_of=dt.date(2026, 1, 30), horizon_days=7)
    >>> churn.inactive_days, churn.curve["return_rate"].head(3).round(3).tolist()
    (2, [0.429, 0.0, 0.0])
    """
    _check_options(basis, probability, horizon_days, inactive_days)
    calendar = calendar or Calendar()
    notes: list[str] = []
    if basis == "orders" and "amount" in activity.columns:
        activity = activity.filter(activity.amount > 0)
        notes.append(say("Orders without a positive amount (refunds, gifts) do not count as orders."))
    silences = count_silences(activity, calendar, as_of)
    reach = len(silences.returned) - 1
    horizon, longest = horizon_days or HORIZON_DAYS[basis], max(1, reach // LONGEST_PART)
    if horizon_days is None and horizon > longest:
        horizon = longest
        notes.append(
            say(
                "The longest silence that the data could show has {reach:,} days: returns are looked for within "
                "{horizon:,} days.",
                reach=reach,
                horizon=horizon,
            )
        )
    curve = _measure_returns(silences, horizon, minimum)
    draft = ChurnDefinition(
        basis, inactive_days, "given", probability, horizon, None, None, None, curve, as_of, None, tuple(notes)
    )
    return _choose(draft)


def define_churn_by_subscription(
    subscriptions: ir.Table, *, as_of: dt.date, start: str = "start_at", end: str = "end_at"
) -> ChurnDefinition:
    """Define churn by the end of a subscription that the data state.

    Args:
        subscriptions: user_id and the two columns; one row a subscription. Without an end it still runs.
        as_of: the last day that is fully known; a later end has not come.
        start, end: names of columns with times (UTC) or dates.

    Returns:
        A `ChurnDefinition` without a curve: there is nothing to choose. Tables that hold a tenure and a flag instead of
        dates need no definition: they are lifetimes already, see `measure_survival`.

    Raises:
        InputError: a missing column.

    >>> table = ibis.memtable({"user_id": [1], "start_at": [dt.date(2026, 1, 1)], "end_at": [dt.date(2026, 2, 1)]})
    >>> define_churn_by_subscription(table, as_of=dt.date(2026, 3, 1)).known_until
    datetime.date(2026, 3, 1)
    """
    need_columns(subscriptions, ["user_id", start, end], what="The table of subscriptions")
    empty = pd.DataFrame({c: pd.Series(dtype="float64") for c in CURVE_COLUMNS})
    return ChurnDefinition(
        "subscription", 0, "given", PROBABILITY, 0, None, None, None, empty, as_of, (start, end),
        (say("A user leaves when the subscription ends."),),
    )  # fmt: skip


def find_spells(activity: ir.Table, definition: ChurnDefinition, *, calendar: Calendar | None = None) -> ir.Table:
    """Find from when to when each user was there: one row a user and spell.

    Args:
        activity: what the churn was defined on.
        definition: when a user counts as gone.
        calendar: the company's clock.

    Returns:
        An Ibis table: user_id, start_day, end_day, left, returned (had left before). A spell that ended has left true,
        and ends on its last active day, or on the day on which the subscription ended. One that did not ends on
        `definition.known_until`, up to which it is known to have gone on; it ends before it starts when it is too young
        for anything to be known.

    Raises:
        InputError: the churn is not defined.
    """
    calendar = calendar or Calendar()
    days = definition.need_days()
    if definition.basis == "subscription":
        return _find_subscriptions(activity, definition, calendar)
    if definition.basis == "orders" and "amount" in activity.columns:
        activity = activity.filter(activity.amount > 0)
    return find_active_spells(activity, calendar, definition.as_of, days)


def _check_options(basis: Basis, probability: float, horizon_days: int | None, inactive_days: int | None) -> None:
    if basis == "subscription":
        raise InputError("Subscriptions state their end: use define_churn_by_subscription.")
    if basis not in HORIZON_DAYS:
        raise InputError(f"'{basis}' is no basis for churn: use inactivity, orders or subscription.")
    if not 0 < probability < 1:
        raise InputError(f"probability is {probability:g}: it must lie between 0 and 1, for example 0.1.")
    for name, value in (("horizon_days", horizon_days), ("inactive_days", inactive_days)):
        if value is not None and value < 1:
            raise InputError(f"{name} is {value}: at least one day is needed.")


def _measure_returns(silences: Silences, horizon: int, minimum: int) -> pd.DataFrame:
    """The chance to return within the horizon, for each number of silent days that was watched to its end."""
    returned, still = silences.returned.astype(float), silences.open.astype(float)
    # A silence open after j days is known not to have ended after 0 .. j-1.
    risk = returned[::-1].cumsum()[::-1] + still[::-1].cumsum()[::-1] - still
    length = max(len(returned) - horizon, 0)
    places = np.arange(length)
    with np.errstate(divide="ignore", invalid="ignore"):
        stay = np.where(risk > 0, 1 - returned / risk, 1.0)
        parts = np.where(risk > returned, returned / (risk * (risk - returned)), 0.0)
    windows = np.lib.stride_tricks.sliding_window_view
    rate = 1 - windows(stay, horizon).prod(axis=1)[:length] if length else np.zeros(0)
    rate = np.maximum(rate, 0.0)
    variance = (1 - rate) ** 2 * windows(parts, horizon).sum(axis=1)[:length] if length else np.zeros(0)
    watched = risk[horizon - 1 :][:length]
    reached = silences.reached[:length].astype(float)
    with np.errstate(divide="ignore", invalid="ignore"):
        inside = (rate > 0) & (rate < 1) & (variance > 0)
        effective = np.where(inside, rate * (1 - rate) / variance, np.maximum(watched, 1))
        effective = effective / np.maximum(silences.squares[:length] / reached, 1)
    known = (watched >= minimum) & (watched > 0)
    z = quantile()
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = 1 + z * z / effective
        center = (rate + z * z / (2 * effective)) / spread
        half = z / spread * np.sqrt(rate * (1 - rate) / effective + z * z / (4 * effective**2))
    sums = {name: np.concatenate([[0], c.cumsum()]).astype(np.int64) for name, c in
            (("returned", silences.returned), ("open", silences.open))}  # fmt: skip
    frame = pd.DataFrame(
        {
            "silent_days": places,
            "silences_count": silences.reached[:length],
            "users_count": silences.users[:length],
            "returned_count": sums["returned"][places + horizon] - sums["returned"][places],
            "open_count": sums["open"][places + horizon] - sums["open"][places],
            "return_rate": np.where(known, rate, np.nan),
            "return_low": np.where(known, np.clip(center - half, 0, 1), np.nan),
            "return_high": np.where(known, np.clip(center + half, 0, 1), np.nan),
        },
        columns=list(CURVE_COLUMNS),
    )
    return frame[frame["silent_days"] >= 1].reset_index(drop=True)


def _choose(draft: ChurnDefinition) -> ChurnDefinition:
    curve, notes = draft.curve, list(draft.notes)
    known = curve[curve["return_rate"].notna()]
    days = draft.inactive_days
    limits = {"share": draft.probability, "horizon": draft.horizon_days}
    ends = {name: _find_below(known, f"return_{name}", draft.probability) for name in ("rate", "low", "high")}
    if days is None:
        days = ends["rate"]
        if known.empty:
            notes.append(say("Too few silences could be watched to the end of the horizon: no number of days follows."))
        elif days is None:
            notes.append(
                say(
                    "Even after {days:,} silent days, the most that the data can tell, return within {horizon:,} days "
                    "is not under {share:.0%}.",
                    days=int(known["silent_days"].iloc[-1]),
                    **limits,
                )
            )
    if known["returned_count"].sum() == 0 and not known.empty:
        notes.append(say("Nobody who was silent for a day came back within {horizon:,} days.", **limits))
    row = known[known["silent_days"] == days] if days is not None else known.iloc[:0]
    rate = None
    if len(row):
        rate = _to_estimate(row.to_dict("records")[0])
        later = known[(known["silent_days"] > days) & (known["return_low"] > draft.probability)]
        if len(later) and draft.inactive_days is None:
            first = int(later["silent_days"].iloc[0])
            notes.append(
                say(
                    "After {days:,} silent days return is above {share:.0%} again: a rhythm longer than the choice.",
                    days=first,
                    **limits,
                )
            )
    elif days is not None:
        notes.append(
            say("How many return after {days:,} silent days cannot be told: too few were watched that long.", days=days)
        )
    chosen = "given" if draft.inactive_days is not None else "from the data" if days is not None else "none"
    return replace(
        draft,
        inactive_days=days,
        chosen=chosen,
        return_rate=rate,
        low_days=ends["low"],
        high_days=ends["high"],
        notes=tuple(notes),
    )


def _find_below(known: pd.DataFrame, column: str, probability: float) -> int | None:
    below = known.loc[known[column] < probability, "silent_days"]
    return int(below.iloc[0]) if len(below) else None


def _to_estimate(row: dict[Any, Any]) -> Estimate:
    value, low, high = (float(row[f"return_{k}"]) for k in ("rate", "low", "high"))
    counts = int(row["returned_count"]), int(row["silences_count"])
    return Estimate("return_rate", value, *counts, low, high, METHOD, "rate")


def _find_subscriptions(table: ir.Table, definition: ChurnDefinition, calendar: Calendar) -> ir.Table:
    assert definition.columns is not None
    start_name, end_name = definition.columns
    need_columns(table, ["user_id", start_name, end_name], what="The table of subscriptions")
    start, end = (_read_day(table[name], calendar) for name in definition.columns)
    rows = table.select("user_id", start_day=start, ended_day=end)
    today = ibis.literal(definition.as_of, "date")
    # Nobody can leave before the start: such a row is a mistake, and counts for nothing.
    rows = rows.filter(rows.user_id.notnull(), rows.start_day <= today)
    rows = rows.filter(rows.ended_day.isnull() | (rows.ended_day >= rows.start_day))
    running = ibis.literal(definition.as_of + DAY, "date")
    rows = rows.mutate(until=ibis.ifelse((rows.ended_day <= today).fill_null(False), rows.ended_day, running))
    # A subscription that starts by the day after the last one's end is its renewal.
    order = [rows.start_day, rows.until]
    earlier = rows.until.max().over(group_by=rows.user_id, order_by=order, rows=(None, -1))
    rows = rows.mutate(fresh=((rows.start_day - ibis.interval(days=1)).cast("date") > earlier).fill_null(True))
    number = (
        rows.fresh.cast("int64")
        .sum()
        .over(group_by=rows.user_id, order_by=[rows.start_day, rows.until], rows=(None, 0))
    )
    spells = rows.mutate(number=number).group_by("user_id", "number")
    spells = spells.aggregate(start_day=lambda t: t.start_day.min(), until=lambda t: t.until.max())
    return spells.select(
        "user_id",
        "start_day",
        end_day=ibis.least(spells.until, today),
        left=spells.until <= today,
        returned=spells.number > 1,
    )


def _read_day(column: Any, calendar: Calendar) -> Any:
    return column if column.type().is_date() else calendar.local_day(column)


__all__ = [
    "ChurnDefinition",
    "define_churn",
    "define_churn_by_subscription",
    "find_spells",
    "keep_known",
]

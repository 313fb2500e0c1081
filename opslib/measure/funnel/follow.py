"""What follows from a funnel: two periods compared, the curve for open windows, and lists of who dropped where."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import ibis.expr.types as ir
import pandas as pd

from opslib.data.periods import Calendar, Period
from opslib.errors import InputError
from opslib.measure.estimate import Change, compare_estimates, to_plain_record
from opslib.measure.funnel.arrivals import list_arrivals
from opslib.measure.funnel.funnel import WINDOW, FunnelResult
from opslib.measure.funnel.plans import read_attempts
from opslib.measure.funnel.steps import Exclusion, Order, Step, check_names, make_funnel
from opslib.measure.funnel.times import choose_resolution, count_durations, estimate_curve


@dataclass(frozen=True)
class ConversionCurve:
    """Share converted by time since the first entry, open windows included (Kaplan-Meier).

    Attributes:
        period, as_of, window: what was asked.
        curve: days (end of the interval), at_risk_count, converted_count, censored_count, converted_rate,
            converted_low, converted_high.
        users_count, converted_count, open_count: users who entered, converted, and whose window is not over.
    """

    period: Period
    as_of: dt.date
    window: dt.timedelta
    curve: pd.DataFrame
    users_count: int
    converted_count: int
    open_count: int

    def findings(self) -> list[dict[str, Any]]:
        """The curve's last point as one flat record; none where nobody entered."""
        if self.curve.empty:
            return []
        last = to_plain_record(self.curve.iloc[-1].to_dict())
        counts = {"users_count": self.users_count, "open_count": self.open_count}
        return [{"name": "conversion_curve", "period": self.period.label, "method": "Kaplan-Meier", **last, **counts}]


@dataclass(frozen=True)
class FunnelComparison:
    """The same funnel over two periods.

    Attributes:
        now, before: the two results.
        changes: step, event, kind ("step" or "overall"), now_rate, before_rate, difference_rate, difference_low,
            difference_high, clear (the interval leaves out zero); missing where too few entered.
    """

    now: FunnelResult
    before: FunnelResult
    changes: pd.DataFrame

    def change(self, step: int, *, overall: bool = False) -> Change:
        """The change of one rate.

        Raises:
            KeyError: there is no such step.
        """
        return compare_estimates(self.now.estimate(step, overall=overall), self.before.estimate(step, overall=overall))

    def findings(self) -> list[dict[str, Any]]:
        """Each change as a flat record."""
        head = {"period": self.now.period.label, "compared_with": self.before.period.label}
        rows = self.changes[["step", "event", "kind"]].to_dict("records")
        return [
            self.change(row["step"], overall=row["kind"] == "overall").to_finding(
                **head, step=row["step"], event=row["event"]
            )
            for row in rows
        ]


def compare_funnels(now: FunnelResult, before: FunnelResult) -> FunnelComparison:
    """Compare a funnel with the same one over another period.

    Raises:
        InputError: the two have different steps, windows, orders or units.

    The two periods are taken as independent; a user who is in both makes the interval a little too wide.
    """

    def shape(result: FunnelResult) -> tuple[Any, ...]:
        return result.steps["event"].tolist(), result.window, result.order, result.unit

    if shape(now) != shape(before):
        raise InputError("The two funnels differ in steps, window, order or unit, and cannot be compared.")
    rows = []
    for step, event in zip(now.steps["step"].tolist()[1:], now.steps["event"].tolist()[1:], strict=True):
        for kind in ("step", "overall"):
            overall = kind == "overall"
            one, two = now.estimate(step, overall=overall), before.estimate(step, overall=overall)
            change = compare_estimates(one, two)
            numbers = (one.value, two.value, change.difference, change.low, change.high)
            rows.append([step, event, kind, *numbers, change.clear])
    differences = ["difference_rate", "difference_low", "difference_high"]
    columns = ["step", "event", "kind", "now_rate", "before_rate", *differences, "clear"]
    frame = pd.DataFrame(rows, columns=columns)
    return FunnelComparison(now, before, frame.astype(dict.fromkeys(columns[3:8], "float64")))


def measure_conversion_curve(
    events: ir.Table,
    steps: Sequence[str | Step],
    *,
    period: Period,
    as_of: dt.date,
    window: dt.timedelta = WINDOW,
    calendar: Calendar | None = None,
    order: Order = "ordered",
    exclusions: Sequence[str | Exclusion] = (),
    hold: str = "",
) -> ConversionCurve:
    """Estimate the share converted by time since the entry, using also users whose window is not over.

    Args:
        events, steps, period, as_of, window, calendar, order, exclusions, hold: as in `measure_funnel`.

    Returns:
        A `ConversionCurve`. A user counts from the first entry of the period, and is watched until the window ends or
        what is known ends.

    Raises:
        InputError: as `measure_funnel`.

    Times are cut to at most about a thousand intervals (seconds, minutes, hours or days, by the window). Censoring is
    by the calendar and so does not depend on the user, unless users of different weeks differ.
    """
    funnel = make_funnel(
        events,
        steps,
        period=period,
        as_of=as_of,
        window=window,
        calendar=calendar,
        order=order,
        exclusions=exclusions,
        hold=hold,
        reentry="first",
    )
    attempts = read_attempts(events, funnel, "users")
    check_names(events, attempts.count_masks(), funnel)
    outcomes = attempts.settle(None).outcomes
    resolution = choose_resolution(window)
    counts = count_durations(outcomes, funnel, resolution)
    risk, rate, low, high = estimate_curve(counts["converted"], counts["censored"])
    days = resolution / dt.timedelta(days=1)
    frame = pd.DataFrame(
        {
            "days": ((counts["bar"] + 1) * days).clip(upper=window / dt.timedelta(days=1)).astype(float),
            "at_risk_count": risk.astype("int64"),
            "converted_count": counts["converted"],
            "censored_count": counts["censored"],
            "converted_rate": rate,
            "converted_low": low,
            "converted_high": high,
        }
    )
    waiting = outcomes.filter((outcomes.s1 >= funnel.mature_key) & (outcomes.level < len(funnel.steps)))
    open_count = int(waiting.count().to_pandas())
    total = int(counts[["converted", "censored"]].to_numpy().sum())
    return ConversionCurve(period, as_of, window, frame, total, int(counts["converted"].sum()), open_count)


def list_dropped_users(
    events: ir.Table,
    steps: Sequence[str | Step],
    *,
    step: int,
    period: Period,
    as_of: dt.date,
    window: dt.timedelta = WINDOW,
    calendar: Calendar | None = None,
    order: Order = "ordered",
    exclusions: Sequence[str | Exclusion] = (),
    hold: str = "",
) -> ir.Table:
    """List the users who got to the step before but not to this one, for example to write to them.

    Args:
        step: number of the step, from 2.
        events, steps, period, as_of, window, calendar, order, exclusions, hold: as in `measure_funnel`.

    Returns:
        An Ibis table, nothing of it fetched: user_id, entered_at, reached_at (the step before; UTC, to the second).
        Only users whose window is over.

    Raises:
        InputError: there is no such step; otherwise as `measure_funnel`.
    """
    found = list_arrivals(
        events,
        steps,
        step=step,
        period=period,
        as_of=as_of,
        window=window,
        calendar=calendar,
        order=order,
        exclusions=exclusions,
        hold=hold,
    )
    return found.filter(~found.converted).select("user_id", "entered_at", reached_at="arrived_at")

"""An incident's timeline: by day against what was expected, by hour against the usual, and what it cost."""

from __future__ import annotations

import datetime as dt
import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import ibis
import ibis.expr.types as ir
import numpy as np
import pandas as pd

from opslib.data.memory import remember
from opslib.data.operations import Holiday
from opslib.data.periods import DAY, Period
from opslib.decide.crisis.hearing import gather_tickets
from opslib.decide.scope import Scope
from opslib.decide.series import SeriesReader
from opslib.measure.estimate import compare_estimates, estimate_count, to_plain_record
from opslib.measure.expected import ExpectedResult, expect_values
from opslib.measure.voice import read_tickets

# What is followed day by day; of the site's traffic nobody knows whose it is.
DAY_METRICS = (
    "complaints_count", "tickets_count", "satisfaction_rate", "dau_count", "orders_count", "revenue_amount",
    "requests_count", "error_rate", "p95_ms_mean",
)  # fmt: skip
TRAFFIC_METRICS = frozenset({"requests_count", "error_rate", "p95_ms_mean"})
LOSS_METRICS = ("dau_count", "orders_count", "revenue_amount")
DAYS_BEFORE, DAYS_AFTER = 14, 7
# A range of 95% is 2.5% of days on either side, as a number of alarms a year.
RANGE_ALARMS = 0.05 * 365.25
HISTORY_DAYS = 210
# Hours are held against the same hour of so many days before.
USUAL_DAYS = 28
# Longer incidents are shown by the hour around their peak.
MOST_HOURLY_DAYS = 5
# An hour stands out with so many times the usual requests, or with this share of requests failing.
BURST_TIMES, BURST_ERROR_RATE = 2.0, 0.02

DAY_COLUMNS = ["metric", "day", "value", "expected", "low", "high", "outside", "in_incident"]
LOSS_COLUMNS = [
    "metric", "days_count", "actual", "expected", "difference", "low", "high", "relative_rate", "clear", "before_rate",
]  # fmt: skip
# So many days right before an incident say whether something else was wrong already.
RIGHT_BEFORE_DAYS = 7
HOUR_COUNTS = (
    "tickets_count", "complaints_count", "requests_count", "errors_count", "orders_count", "revenue_amount",
)  # fmt: skip


@dataclass(frozen=True)
class Timeline:
    """What happened when; each part is computed when it is first asked for.

    Attributes:
        scope, reader: data, segment and days, and their series.
        incident, peak: its days, and the day with the most complaints.
        days: metric, day, value, expected, low, high (95 of 100 days lie inside), outside ("low", "high" or ""),
            in_incident; two weeks before the incident to a week after. Expected from the days before each day.
        losses: metric, days_count, actual, expected, difference (actual - expected, summed over the incident's days),
            low, high, relative_rate, clear (the interval leaves out zero), before_rate (by how much the seven days
            right before lay off what was expected of them, where that is beyond chance; `expected` then starts from
            there, for that part is not the incident's); days without an expectation are left out.
        hours: at (company's time), tickets_count, complaints_count, requests_count, errors_count, p95_ms,
            orders_count, revenue_amount, each with usual_ (mean of the same hour on the 28 days before); empty where no
            table has them.
        burst: first_at, last_at (the last hour), requests_count, usual_requests_count, requests_ratio, error_rate,
            usual_error_rate, p95_ms, usual_p95_ms, orders_count, usual_orders_count, orders_low, orders_high (of orders
            beyond the usual); hours in a row with far more requests or errors than usual. Empty without
            such hours.
        missing: metrics that could not be followed, with the reason.
        holidays: those of the playbook that the incident lies in; its days are held against ordinary ones.
    """

    scope: Scope
    reader: SeriesReader
    incident: Period
    peak: dt.date

    @property
    def days(self) -> pd.DataFrame:
        return self._followed[0]

    @property
    def missing(self) -> dict[str, str]:
        return self._followed[1]

    @cached_property
    def losses(self) -> pd.DataFrame:
        return sum_losses(self.days)

    @property
    def hours(self) -> pd.DataFrame:
        return self._hours[0]

    @property
    def burst(self) -> dict[str, Any]:
        return self._hours[1]

    @property
    def holidays(self) -> tuple[str, ...]:
        return tuple(h.name for h in self.scope.data.playbook.holidays if _touches(h, self.incident))

    @cached_property
    def _followed(self) -> tuple[pd.DataFrame, dict[str, str]]:
        return _follow_days(self.reader, self.scope.segment, self.incident)

    @cached_property
    def _hours(self) -> tuple[pd.DataFrame, dict[str, Any]]:
        return _follow_hours(self.scope.narrow(now=False), self.incident, self.peak)

    def loss(self, metric: str) -> dict[str, Any] | None:
        """One metric's loss; None where it could not be followed."""
        rows = self.losses[self.losses["metric"] == metric].to_dict("records")
        return {str(k): v for k, v in rows[0].items()} if rows else None

    def findings(self) -> list[dict[str, Any]]:
        """Losses, the incident's days, and the burst."""
        records = [{"name": "incident_loss", **to_plain_record(row)} for row in self.losses.to_dict("records")]
        inside = self.days[self.days["in_incident"]].drop(columns="in_incident")
        records += [{"name": "incident_day", **to_plain_record(row)} for row in inside.to_dict("records")]
        return records + ([{"name": "incident_burst", **to_plain_record(self.burst)}] if self.burst else [])


@remember
def expect_complaints(reader: SeriesReader, segment: str) -> ExpectedResult | None:
    """What was expected of every day's complaints; None where there are no tickets."""
    series = reader.read("complaints_count", segment=segment)
    if series.frame.empty:
        return None
    # Holidays are judged as well: a wave of complaints in a sale is one all the same.
    return expect_values(series.of(), kind=series.kind, side="high", false_alarms_per_year=1.0)


def list_unusual_days(expected: ExpectedResult | None) -> list[dt.date]:
    """Days with more complaints than expected."""
    if expected is None:
        return []
    return [day.date() for day in expected.daily.loc[expected.daily["unusual"] == "high", "period_start"]]


def draw_timeline(scope: Scope, reader: SeriesReader, incident: Period, peak: dt.date) -> Timeline:
    """Follow an incident by day and by hour, and add up what it cost."""
    return Timeline(scope, reader, incident, peak)


def _touches(holiday: Holiday, incident: Period) -> bool:
    return holiday.last_day >= incident.start and holiday.start <= incident.last_day


@remember
def _follow_days(reader: SeriesReader, of_segment: str, incident: Period) -> tuple[pd.DataFrame, dict[str, str]]:
    """`Timeline.days` and `Timeline.missing`."""
    first = max(reader.span.start, incident.start - DAYS_BEFORE * DAY)
    last = min(reader.as_of, incident.last_day + DAYS_AFTER * DAY)
    parts, missing = [], {}
    # A holiday with the incident in it is held against ordinary days, for nothing else says what was expected.
    holidays = [h for h in reader.data.playbook.holidays if not _touches(h, incident)]
    for metric in DAY_METRICS:
        segment = "" if metric in TRAFFIC_METRICS else of_segment
        series = reader.read(metric, segment=segment)
        if series.frame.empty:
            missing[metric] = series.note
            continue
        frame = series.of()
        # What came later says nothing of these days, and what came long before hardly more than it costs in time.
        frame = frame[frame["period_start"].between(pd.Timestamp(first - HISTORY_DAYS * DAY), pd.Timestamp(last))]
        frame = frame.reset_index(drop=True)
        found = expect_values(frame, kind=series.kind, holidays=holidays, false_alarms_per_year=RANGE_ALARMS).daily
        shown = found[found["period_start"] >= pd.Timestamp(first)]
        parts.append(shown.rename(columns={"period_start": "day", "unusual": "outside"}).assign(metric=metric))
    days = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=DAY_COLUMNS)
    days["in_incident"] = days["day"].between(pd.Timestamp(incident.start), pd.Timestamp(incident.last_day))
    return days[DAY_COLUMNS], missing


def sum_losses(days: pd.DataFrame) -> pd.DataFrame:
    """Add up actual less expected over the days of an incident.

    Args:
        days: metric, day, value, expected, low, high, in_incident.

    Returns:
        As `Timeline.losses`. Days are taken as independent: halves of the ranges add up as squares.
    """
    rows = []
    first = days.loc[days["in_incident"], "day"].min()
    right_before = days["day"].between(first - RIGHT_BEFORE_DAYS * DAY, first - DAY)
    for metric in LOSS_METRICS:
        known = days[days["metric"] == metric].dropna(subset=["value", "expected"])
        part, past = known[known["in_incident"]], known[right_before.reindex(known.index)]
        if part.empty:
            continue
        actual, expected, below, above = _sum_days(part)
        before_rate, unsure = math.nan, 0.0
        if len(past) == RIGHT_BEFORE_DAYS:
            was, should, low, high = _sum_days(past)
            if should > 0 and (was < should - low or was > should + high):
                before_rate, unsure = was / should - 1, max(low, high) / should * expected
                expected *= 1 + before_rate
        difference = actual - expected
        low, high = difference - math.hypot(above, unsure), difference + math.hypot(below, unsure)
        share = difference / expected if expected else math.nan
        clear = low > 0 or high < 0
        rows.append((metric, len(part), actual, expected, difference, low, high, share, clear, before_rate))
    return pd.DataFrame(rows, columns=LOSS_COLUMNS)


def _sum_days(part: pd.DataFrame) -> tuple[float, float, float, float]:
    """Actual, expected, and the halves of the range of the sum below and above."""
    below, above = (part["expected"] - part["low"]), (part["high"] - part["expected"])
    return (
        float(part["value"].sum()),
        float(part["expected"].sum()),
        math.sqrt(float((below**2).sum())),
        math.sqrt(float((above**2).sum())),
    )


@remember
def _follow_hours(scope: Scope, incident: Period, peak: dt.date) -> tuple[pd.DataFrame, dict[str, Any]]:
    start, end = incident.start, incident.end
    if incident.days > MOST_HOURLY_DAYS:
        start = max(start, peak - MOST_HOURLY_DAYS // 2 * DAY)
        end = min(end, start + MOST_HOURLY_DAYS * DAY)
    first = max(scope.span.start, incident.start - USUAL_DAYS * DAY)
    grid = pd.date_range(first, end, freq="h", inclusive="left", name="at")
    table = pd.DataFrame(index=grid)
    for frame in _count_hours(scope, first, end):
        table = table.join(frame)
    if table.empty or not len(table.columns):
        return pd.DataFrame(), {}
    counted = [c for c in HOUR_COUNTS if c in table]
    table[counted] = table[counted].astype(float).fillna(0.0)
    before = table[table.index < pd.Timestamp(incident.start)]
    hour = pd.DatetimeIndex(before.index).hour
    usual = before.groupby(hour).mean().add_prefix("usual_")
    shown = table[table.index >= pd.Timestamp(start)]
    shown = shown.join(usual.reindex(pd.DatetimeIndex(shown.index).hour).set_axis(shown.index))
    return shown.reset_index(), _find_burst(shown, len(before) // 24)


def _count_hours(scope: Scope, first: dt.date, end: dt.date) -> list[pd.DataFrame]:
    calendar = scope.data.calendar
    start_at, end_at = (ibis.timestamp(calendar.day_start(day)) for day in (first, end))

    def fetch(table: ir.Table, time: str, **sums: Any) -> pd.DataFrame:
        inside = table.filter(table[time] >= start_at, table[time] < end_at)
        inside = inside.mutate(at=calendar.local_time(inside[time]).truncate("h"))
        counted = inside.group_by("at").aggregate(**{name: make(inside) for name, make in sums.items()})
        frame = scope.data.execute(counted)
        return frame.assign(at=pd.to_datetime(frame["at"])).set_index("at").sort_index().astype(float)

    frames = []
    tickets = gather_tickets(scope)
    if tickets is not None:
        once = read_tickets(tickets, calendar)
        frames.append(
            fetch(once, "opened_at", tickets_count=lambda t: t.count(), complaints_count=lambda t: t.is_complaint.sum())
        )
    traffic = scope.data.table("traffic") if scope.data.has("traffic") else None
    if traffic is not None:
        sums = {"requests_count": lambda t: t.requests.sum()}
        if "errors" in traffic.columns:
            sums["errors_count"] = lambda t: t.errors.sum()
        if "p95_ms" in traffic.columns:
            sums["p95_ms"] = lambda t: (t.p95_ms * t.requests).sum() / t.requests.sum().nullif(0)
        frames.append(fetch(traffic, "ts", **sums))
    orders = scope.table("orders")
    if orders is not None:
        frames.append(fetch(orders, "ts", orders_count=lambda t: t.count(), revenue_amount=lambda t: t.amount.sum()))
    return frames


def _find_burst(hours: pd.DataFrame, usual_days: int) -> dict[str, Any]:
    """The hours in a row with far more requests or errors than usual, the most requests in them."""
    if "requests_count" not in hours or not usual_days:
        return {}
    requests, usual = hours["requests_count"], hours["usual_requests_count"]
    over = (requests > BURST_TIMES * usual) & (usual > 0)
    if "errors_count" in hours:
        usual_rate = hours["usual_errors_count"] / usual.where(usual > 0)
        over |= hours["errors_count"] / requests.where(requests > 0) > np.maximum(BURST_ERROR_RATE, 2 * usual_rate)
    if not over.any():
        return {}
    number = (over != over.shift()).cumsum()[over]
    # The stretch in which most requests came beyond the usual, or most failed.
    weight = (requests - usual).clip(lower=0) + hours.get("errors_count", 0.0)
    best = weight[over].groupby(number).sum().idxmax()
    part = hours[over][number == best]
    sums = part.sum()
    found: dict[str, Any] = {
        "first_at": part.index[0],
        "last_at": part.index[-1],
        "hours_count": len(part),
        "requests_count": float(sums["requests_count"]),
        "usual_requests_count": float(sums["usual_requests_count"]),
        "requests_ratio": float(sums["requests_count"] / sums["usual_requests_count"])
        if sums["usual_requests_count"]
        else math.nan,
    }
    if "errors_count" in part:
        for side in ("", "usual_"):
            of = float(sums[f"{side}requests_count"])
            found[f"{side}error_rate"] = float(sums[f"{side}errors_count"]) / of if of else math.nan
    if "p95_ms" in part:
        found |= {"p95_ms": float(part["p95_ms"].max()), "usual_p95_ms": float(part["usual_p95_ms"].mean())}
    if "orders_count" in part:
        found |= _compare_orders(float(sums["orders_count"]), float(sums["usual_orders_count"]), usual_days)
    return found


def _compare_orders(orders: float, usual: float, days: int) -> dict[str, float]:
    change = compare_estimates(estimate_count("orders_count", orders), estimate_count("usual", usual * days, per=days))
    return {
        "orders_count": orders, "usual_orders_count": usual,
        "orders_low": change.low or 0.0, "orders_high": change.high or 0.0,
    }  # fmt: skip

"""The incident: the days on which users complain beyond what is expected, of what, and who."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import pandas as pd

from opslib.data.memory import remember
from opslib.data.periods import DAY, Period, parse_date
from opslib.decide.crisis.hearing import choose_columns, count_complaints, gather_tickets, measure_answers
from opslib.decide.scope import Scope
from opslib.errors import InputError
from opslib.explain.change import ChangeExplanation, explain_change
from opslib.measure.estimate import Change, Estimate, compare_estimates, to_plain, to_plain_record
from opslib.measure.expected import ExpectedResult
from opslib.measure.satisfaction import estimate_nps, estimate_satisfaction
from opslib.measure.voice import ComplaintsResult, estimate_times, read_tickets

BASELINE_DAYS = 28
# With fewer days to compare with there is no "usual".
FEWEST_BASELINE_DAYS = 7

Chosen = Literal["given", "worst"]

CATEGORY_COLUMNS = [
    "category", "complaints_count", "complaining_users_count", "complaint_rate", "before_rate", "times_ratio",
    "times_low", "times_high", "excess_count",
]  # fmt: skip


@dataclass(frozen=True)
class Incident:
    """A stretch of days on which too many complained, or that was asked for; its parts are computed when asked for.

    Attributes:
        scope: data, segment and days.
        period: its days.
        chosen: whether the day was given, or it is the worst stretch of the days looked at.
        unusual: its complaints lie outside what is expected, or above the threshold.
        fired_on: the day on which the rule fired (more than the threshold, so many days in a row); None where not.
        goes_on: its last day is the last day looked at.
        peak: the day with the most complaints.
        excess_count: complaints beyond what is expected.
        baseline: the days compared with, of which days outside the expected range are left out.
        usual: those that were not: what `ComplaintsResult.daily` says of them.
        usual_categories: complaints by day and category of the days known.
        complaints: of its days.
        category: what most of the complaints beyond the usual are about.
        categories: category, complaints_count, complaining_users_count (user-days), complaint_rate, before_rate,
            times_ratio (as often as before, per active user), times_low, times_high, excess_count (beyond the usual);
            the most beyond first.
        times: of all complaints, how many times as often as before, per active user and day.
        users_count: users who complained of that category, each once.
        satisfaction, nps: in its days against the baseline; None without surveys.
        who: which users' complaint rate rose apart from everybody's; None where that cannot be told.
    """

    scope: Scope
    period: Period
    chosen: Chosen
    unusual: bool
    fired_on: dt.date | None
    goes_on: bool
    peak: dt.date
    excess_count: float
    baseline: Period | None
    usual: pd.DataFrame
    usual_categories: pd.DataFrame

    @cached_property
    def complaints(self) -> ComplaintsResult:
        return count_complaints(self.scope, self.period, choose_columns(self.scope))

    @cached_property
    def categories(self) -> pd.DataFrame:
        return _compare_categories(self.complaints, self.usual_categories, self.usual)

    @property
    def category(self) -> str:
        return str(self.categories["category"].iloc[0]) if len(self.categories) else ""

    @cached_property
    def times(self) -> Estimate:
        own, usual = self.complaints, self.usual
        now, before = (float(frame["complaining_users_count"].sum()) for frame in (own.daily, usual))
        if self.scope.data.has_activity:
            of, before_of = float(own.active_count), float(usual["active_users_count"].sum())
        else:
            of, before_of = float(self.period.days), float(len(usual))
        return estimate_times("complaints_ratio", now, of, before, before_of)

    @cached_property
    def users_count(self) -> int:
        return _count_users(self.scope.narrow(now=False), self.period, self.category)

    @property
    def satisfaction(self) -> Change | None:
        return self._answers[0]

    @property
    def nps(self) -> Change | None:
        return self._answers[1]

    @cached_property
    def _answers(self) -> tuple[Change | None, Change | None]:
        return _compare_answers(self.scope, self.period, self.baseline, self.usual)

    @cached_property
    def who(self) -> ChangeExplanation | None:
        return _explain(self.scope.narrow(now=False), self.period, self.baseline)

    @property
    def complaints_count(self) -> int:
        """Complaints of its days."""
        return int(self.complaints.complaints_count.numerator)

    def findings(self) -> list[dict[str, Any]]:
        """The incident, its categories, satisfaction, and who was hit."""
        head = {
            "name": "incident",
            "first_day": self.period.start.isoformat(),
            "last_day": self.period.last_day.isoformat(),
            "peak_day": self.peak.isoformat(),
            "chosen": self.chosen,
            "unusual": self.unusual,
            "fired_on": to_plain(self.fired_on),
            "goes_on": self.goes_on,
            "category": self.category,
            "complaints_count": self.complaints_count,
            "users_count": self.users_count,
            "excess_count": to_plain(float(self.excess_count)),
        }
        records = [head, self.complaints.complaint_rate.to_finding(of="incident"), self.times.to_finding(of="incident")]
        rows = self.categories.to_dict("records")
        records += [{"name": "incident_category", **to_plain_record(row)} for row in rows]
        changes = [c for c in (self.satisfaction, self.nps) if c is not None]
        records += [change.to_finding(of="incident") for change in changes]
        return records + ([] if self.who is None else self.who.findings())


def find_incident(
    scope: Scope, expected: ExpectedResult | None, *, incident_on: str = "", threshold_rate: float, times: int
) -> Incident | None:
    """Find the incident asked for, or the worst of the days looked at; None where no day stands out, or no tickets are.

    Args:
        scope: data, segment and days.
        expected: complaints of every day with what is expected; None where too few days are known.
        incident_on: a day of it, as ISO text; empty: the worst.
        threshold_rate: share of active users who complain, above which a day counts for the rule.
        times: days in a row for the rule to fire.

    Raises:
        InputError: incident_on is no date, or lies outside the data.
    """
    day = check_day(scope, incident_on)
    if not scope.data.has("tickets"):
        return None
    first = max(scope.span.start, min(scope.now.start, day or scope.now.start) - BASELINE_DAYS * DAY)
    whole = count_complaints(scope, Period(first, scope.as_of + DAY, "all days needed"))
    days = mark_days(whole.daily, expected, threshold_rate)
    found = _choose_stretch(days, scope.now, day)
    if found is None:
        return None
    start, last = found
    stretch = Period(start, last + DAY, f"{start} to {last}" if last > start else str(start))
    before = Period(max(scope.span.start, start - BASELINE_DAYS * DAY), start, "the days before")
    baseline = None if before.days < FEWEST_BASELINE_DAYS else before
    own = days.loc[str(start) : str(last)]
    return Incident(
        scope=scope,
        period=stretch,
        chosen="given" if day else "worst",
        unusual=bool(own["flagged"].any()),
        fired_on=_find_firing(own["over"], times),
        goes_on=last == scope.as_of and bool(own["flagged"].iloc[-1]),
        peak=pd.Timestamp(str(own["complaints_count"].idxmax())).date(),
        excess_count=float((own["complaints_count"] - own["expected_count"]).sum()),
        baseline=baseline,
        usual=whole.daily.iloc[0:0] if baseline is None else _pick_usual(whole.daily, days, baseline),
        usual_categories=whole.category_days,
    )


def check_day(scope: Scope, text: str) -> dt.date | None:
    """Read the day of an incident; None where none is given.

    Raises:
        InputError: it is no date, or lies outside the days known.
    """
    if not text:
        return None
    day = parse_date(text, name="incident_on")
    if not scope.span.start <= day <= scope.as_of:
        raise InputError(f"incident_on {day} lies outside the days known, {scope.span.start} to {scope.as_of}.")
    return day


def mark_days(daily: pd.DataFrame, expected: ExpectedResult | None, threshold_rate: float) -> pd.DataFrame:
    """Days of complaints: day, complaints_count, complaint_rate, expected_count, over (the threshold), unusual,
    flagged (either of them).
    """
    days = daily.set_index("day")[["complaints_count", "complaint_rate"]].copy()
    days["over"] = days["complaint_rate"] > threshold_rate
    if expected is None:
        usual = days.loc[~days["over"], "complaints_count"]
        days["expected_count"] = float(usual.median()) if len(usual) else 0.0
        days["unusual"] = False
    else:
        frame = expected.daily.set_index("period_start").reindex(days.index)
        days["expected_count"] = frame["expected"].astype(float).fillna(days["complaints_count"])
        days["unusual"] = frame["unusual"].eq("high").to_numpy()
    days["flagged"] = days["over"] | days["unusual"]
    return days


def _choose_stretch(days: pd.DataFrame, now: Period, day: dt.date | None) -> tuple[dt.date, dt.date] | None:
    run = (days["flagged"] != days["flagged"].shift()).cumsum()
    flagged = days[days["flagged"]]
    stretches = []
    for _, part in flagged.groupby(run[days["flagged"]]):
        excess = float((part["complaints_count"] - part["expected_count"]).sum())
        stretches.append((excess, part.index[0].date(), part.index[-1].date()))
    if day is not None:
        return next(((a, b) for _, a, b in stretches if a <= day <= b), (day, day))
    inside = [s for s in stretches if s[2] >= now.start]
    return max(inside, key=lambda s: (s[0], s[2]))[1:] if inside else None


def _pick_usual(daily: pd.DataFrame, days: pd.DataFrame, baseline: Period) -> pd.DataFrame:
    """Days of the baseline that were not unusual themselves."""
    inside = (daily["day"] >= pd.Timestamp(baseline.start)) & (daily["day"] < pd.Timestamp(baseline.end))
    return daily[inside & ~days["flagged"].reindex(daily["day"]).fillna(False).to_numpy()]


def _compare_categories(complaints: ComplaintsResult, category_days: pd.DataFrame, usual: pd.DataFrame) -> pd.DataFrame:
    known = category_days[category_days["day"].isin(usual["day"])]
    counts = known.groupby("category")[["complaints_count", "complaining_users_count"]].sum()
    active, before_active = complaints.active_count, float(usual["active_users_count"].sum())
    # Where activity is not known, days take the place of user-days.
    of, before_of = (
        (active, before_active) if active and before_active else (float(len(complaints.daily)), float(len(usual)))
    )
    rows = []
    for row in complaints.categories.to_dict("records"):
        own = float(row["complaining_users_count"])
        past = float(counts["complaining_users_count"].get(row["category"], 0))
        times = estimate_times("complaints_ratio", own, of, past, before_of)
        rows.append(
            {
                **{k: row[k] for k in CATEGORY_COLUMNS[:4]},
                "before_rate": past / before_active if before_active else float("nan"),
                "times_ratio": times.value,
                "times_low": times.low,
                "times_high": times.high,
                "excess_count": own - (past * of / before_of if before_of else 0.0),
            }
        )
    frame = pd.DataFrame(rows, columns=CATEGORY_COLUMNS)
    frame = frame[frame["complaints_count"] > 0]
    return frame.sort_values(["excess_count", "category"], ascending=[False, True], ignore_index=True)


def _find_firing(over: pd.Series, times: int) -> dt.date | None:
    """The day on which so many days in a row lay over the threshold for the first time."""
    length = 0
    for day, above in over.items():
        length = length + 1 if above else 0
        if length == times:
            return pd.Timestamp(str(day)).date()
    return None


@remember
def _count_users(scope: Scope, stretch: Period, category: str) -> int:
    tickets = gather_tickets(scope)
    assert tickets is not None
    table = read_tickets(tickets, scope.data.calendar)
    inside = table.filter(
        table.is_complaint, table.category == category, table.day >= stretch.start, table.day < stretch.end
    )
    return int(scope.data.execute(inside.user_id.nunique()))


def _compare_answers(
    scope: Scope, stretch: Period, baseline: Period | None, usual: pd.DataFrame
) -> tuple[Change | None, Change | None]:
    if not scope.data.has("surveys") or baseline is None:
        return None, None
    answers = measure_answers(scope, Period(baseline.start, stretch.end, "")).answers
    own = answers[answers["day"] >= pd.Timestamp(stretch.start)]
    past = answers[answers["day"].isin(usual["day"])]
    pairs = [compare_estimates(estimate(own), estimate(past)) for estimate in (estimate_satisfaction, estimate_nps)]
    return pairs[0], pairs[1]


@remember
def _explain(scope: Scope, period: Period, baseline: Period | None) -> ChangeExplanation | None:
    columns = choose_columns(scope)
    now = count_complaints(scope, period, columns)
    if baseline is None or not columns or now.cells.empty:
        return None
    cells = [now.cells, count_complaints(scope, baseline, columns).cells]
    # Somebody may complain on a day without activity: a share cannot be above one.
    own, past = (c.assign(complaining_count=c[["complaining_count", "active_count"]].min(axis=1)) for c in cells)
    if past.empty:
        return None
    return explain_change(
        past,
        own,
        dimensions=list(columns),
        numerator="complaining_count",
        denominator="active_count",
        name="complaint_rate",
        repeats="parts",
        max_dimensions=2,
    )

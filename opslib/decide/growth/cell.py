"""One cell of the triangle: a week's new users so many weeks later, against those of the other weeks at that age."""

from __future__ import annotations

import datetime as dt
import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import ibis.expr.types as ir
import numpy as np
import pandas as pd

from opslib.data.memory import remember
from opslib.data.periods import DAY, parse_date
from opslib.decide.growth.staying import TRIANGLE_WEEKS, measure_triangle
from opslib.decide.scope import Scope
from opslib.errors import InputError
from opslib.explain.change import ChangeExplanation, count_outcomes, explain_change
from opslib.explain.portrait import PortraitResult, describe_segment
from opslib.explain.statistics import compare_shares_exactly, log_p_value
from opslib.language import say
from opslib.measure.estimate import Change, compare_estimates, estimate_rate, to_plain
from opslib.measure.grains import index_days
from opslib.measure.retention import find_first_days

# Users expected in a cell, below which shares are compared by counting.
FEW = 10
# A cell is apart when the weeks differ so much by chance less often than this, all cells of the triangle allowed for.
LEVEL = 0.05
# How much weeks differ anyway is told by at least so many of them.
WEEKS_TO_TELL = 4
SHOWN_WEEKS = 12


@dataclass(frozen=True)
class CellChoice:
    """Which cell.

    Attributes:
        week: first day of the week of new users.
        age_weeks: so many weeks later.
    """

    week: dt.date
    age_weeks: int

    @property
    def label(self) -> str:
        """What to call those of the week who came back."""
        if self.age_weeks == 1:
            return say("back 1 week later")
        return say("back {count} weeks later", count=self.age_weeks)


@dataclass(frozen=True)
class CohortCell:
    """A week's new users so many weeks later; `explanation` and `portrait` are computed when first asked for.

    Attributes:
        scope: data, segment and days.
        choice: which week and age.
        weeks: the other weeks at the same age: cohort_start, users_count, retained_count, retention_rate,
            retention_low, retention_high; those too young for it are not there.
        change: the share who came back, against all other weeks' new users together.
        scatter: how much the other weeks' shares differ, as a multiple of the variance that chance alone brings; 1 is
            the least, and stands where there are too few weeks to tell.
        p_value: how often a week would be so far off if it were like the others, which differ by `scatter`; None
            without other weeks or with too few users.
        cells_count: cells of the triangle, of which this one was picked.
        explanation: where the difference to the other weeks comes from, their mix or their rate; None without
            attributes.
        portrait: those who came back against those who did not; None without attributes.
    """

    scope: Scope
    choice: CellChoice
    weeks: pd.DataFrame
    change: Change
    scatter: float
    p_value: float | None
    cells_count: int

    @property
    def adjusted_p_value(self) -> float | None:
        """The p-value, allowing for as many cells as there were to pick from (Bonferroni)."""
        return None if self.p_value is None else min(self.p_value * self.cells_count, 1.0)

    @property
    def verdict(self) -> str:
        """Is it apart from the others: "low", "high", "usual", or "unknown" where it cannot be told."""
        if self.adjusted_p_value is None or self.change.difference is None:
            return "unknown"
        if self.adjusted_p_value > LEVEL:
            return "usual"
        return "low" if self.change.difference < 0 else "high"

    @cached_property
    def explanation(self) -> ChangeExplanation | None:
        return _explain_cell(self.scope, self.choice, tuple(self.weeks["cohort_start"]))

    @cached_property
    def portrait(self) -> PortraitResult | None:
        return _describe_cell(self.scope, self.choice)

    def findings(self) -> list[dict[str, Any]]:
        """The cell against the other weeks, then its explanation and portrait, as flat records."""
        head = {"cohort_week": self.choice.week.isoformat(), "cohort_age": self.choice.age_weeks}
        more = {"p_value": self.p_value, "adjusted_p_value": self.adjusted_p_value, "scatter": self.scatter}
        numbers = {name: to_plain(value) for name, value in more.items()} | {"cells_count": self.cells_count}
        records = [self.change.to_finding(**head, verdict=self.verdict, **numbers)]
        parts = [part for part in (self.explanation, self.portrait) if part is not None]
        return records + [head | record for part in parts for record in part.findings()]


def choose_cell(scope: Scope, week: str = "", age_weeks: int = 0) -> CellChoice | None:
    """Choose a cell of the triangle.

    Args:
        scope: data and days.
        week: first day of a week of new users, as ISO text; empty: none.
        age_weeks: so many weeks later; 0: 1.

    Returns:
        A `CellChoice`; None without a week.

    Raises:
        InputError: no date, a week that is not in the triangle, or an age that its users have not reached.
    """
    if not week:
        return None
    start, age = parse_date(week, name="cohort_week"), age_weeks or 1
    triangle = measure_triangle(scope).triangle
    later = triangle[(triangle["n"] > 0) & triangle["mature"]]
    oldest: dict[dt.date, int] = {}
    for first, n in zip(later["cohort_start"].dt.date, later["n"], strict=True):
        oldest[first] = max(int(n), oldest.get(first, 0))
    if start not in oldest:
        names = [str(day) for day in oldest]
        if start in set(triangle["cohort_start"].dt.date):
            problem = "no week after it is over yet, so nobody can be said to have come back or not"
        else:
            around = next((day for day in oldest if day <= start < day + 7 * DAY), None)
            problem = "no week of new users begins on that day" + (f", but on {around}" if around else "")
        known = f"There are: {', '.join(names[-SHOWN_WEEKS:])}." if names else "No week is old enough yet."
        raise InputError(f"cohort_week {start}: {problem}. {known}")
    if not 1 <= age <= oldest[start]:
        reason = "" if oldest[start] == TRIANGLE_WEEKS else ", because later weeks are not over"
        raise InputError(f"cohort_age {age}: for the week from {start} there are 1 to {oldest[start]}{reason}.")
    return CellChoice(start, age)


def measure_cell(scope: Scope, choice: CellChoice) -> CohortCell:
    """Compare a week's new users so many weeks later with those of the other weeks at the same age."""
    triangle = measure_triangle(scope).triangle
    cells_count = int(((triangle["n"] > 0) & triangle["retention_rate"].notna()).sum())
    column = triangle[(triangle["n"] == choice.age_weeks) & triangle["mature"]]
    columns = ["users_count", "retained_count", "retention_rate", "retention_low", "retention_high"]
    column = column[columns].assign(retained_count=column["retained_count"].astype(int))
    column.insert(0, "cohort_start", triangle.loc[column.index, "cohort_start"].dt.date)
    chosen = column["cohort_start"] == choice.week
    others = column[~chosen].reset_index(drop=True)
    came, users = (int(column.loc[chosen, c].iloc[0]) for c in ("retained_count", "users_count"))
    rest_came, rest = (int(others[c].sum()) for c in ("retained_count", "users_count"))
    name = f"w{choice.age_weeks}_rate"
    change = compare_estimates(estimate_rate(name, came, users), estimate_rate(name, rest_came, rest))
    scatter = _measure_scatter(others)
    p_value = None
    if change.difference is not None:
        p_value = compare_with_others(came, users, rest_came, rest, scatter=scatter, weeks_count=len(others))
    return CohortCell(scope.narrow(now=False), choice, others, change, scatter, p_value, cells_count)


def _measure_scatter(weeks: pd.DataFrame) -> float:
    """Pearson's chi-square over its degrees of freedom, at least 1."""
    came, users = weeks["retained_count"].to_numpy(dtype=float), weeks["users_count"].to_numpy(dtype=float)
    if len(weeks) < WEEKS_TO_TELL or not 0 < came.sum() < users.sum():
        return 1.0
    rate = came.sum() / users.sum()
    squares = (came - users * rate) ** 2 / (users * rate * (1 - rate))
    return max(float(squares.sum()) / (len(weeks) - 1), 1.0)


def compare_with_others(
    came: int, users: int, rest_came: int, rest: int, *, scatter: float = 1.0, weeks_count: int = 0
) -> float:
    """How often one share would be so far from another by chance.

    Args:
        came, users: of one week.
        rest_came, rest: of the other weeks together.
        scatter: variance of the weeks as a multiple of that of chance alone; beyond 1 the normal score is divided by
            its root and held against Student's t with one degree of freedom fewer than there are other weeks.
        weeks_count: how many other weeks.

    Returns:
        A two-sided p-value; exact (Fisher) where counts are few and weeks do not differ otherwise.

    >>> round(compare_with_others(30, 100, 400, 1000), 3)
    0.051
    >>> round(compare_with_others(30, 100, 400, 1000, scatter=4.0, weeks_count=12), 3)
    0.349
    """
    pooled = (came + rest_came) / (users + rest)
    if scatter <= 1 and min(users, rest) * min(pooled, 1 - pooled) < FEW:
        return float(compare_shares_exactly(came, users, rest_came, rest))
    error = math.sqrt(scatter * pooled * (1 - pooled) * (1 / users + 1 / rest))
    if not error:
        return 1.0
    score = (came / users - rest_came / rest) / error
    if scatter <= 1:
        return float(np.exp(log_p_value(score)))
    # Loaded when needed, like all of scipy.
    from scipy.special import stdtr

    return float(2 * stdtr(weeks_count - 1, -abs(score)))


def list_members(scope: Scope, week: dt.date, age_weeks: int) -> ir.Table:
    """The new users of the week that begins on a day, and whether they came back so many weeks later.

    Returns:
        An Ibis table, nothing of it fetched: user_id, returned (a flag), and what is known of users.
    """
    return _mark_weeks(scope, week, week, age_weeks).drop("week_number")


def _mark_weeks(scope: Scope, first: dt.date, last: dt.date, age_weeks: int) -> ir.Table:
    """The new users of the weeks from one to another: user_id, week_number (from 0), returned, their attributes."""
    days = scope.active_days
    starts = find_first_days(days)
    new = starts.filter((starts.first_day >= first) & (starts.first_day < last + 7 * DAY))
    new = new.select("user_id", week_number=index_days(new.first_day, first, "week"))
    later = days.filter(days.day >= first + 7 * age_weeks * DAY)
    joined = later.inner_join(new, "user_id")
    back = joined.filter(index_days(joined.day, first, "week") == joined.week_number + age_weeks)
    marked = new.mutate(returned=new.user_id.isin(back.user_id))
    attributes = scope.attributes
    kept = attributes.select("user_id", *[c for c in attributes.columns if c not in marked.columns])
    joined = marked.left_join(kept, "user_id")
    return joined.drop(c for c in joined.columns if c == "user_id_right")


@remember
def _explain_cell(scope: Scope, choice: CellChoice, others: tuple[dt.date, ...]) -> ChangeExplanation | None:
    columns = scope.dimensions
    if not columns or not others:
        return None
    first, last = min(*others, choice.week), max(*others, choice.week)
    rows = _mark_weeks(scope, first, last, choice.age_weeks).cache()
    chosen = rows.week_number == (choice.week - first).days // 7
    counts = (count_outcomes(rows.filter(c), dimensions=columns, numerator="returned") for c in (~chosen, chosen))
    return explain_change(
        *counts,
        dimensions=columns,
        numerator="returned",
        denominator="users_count",
        name=f"w{choice.age_weeks}_rate",
        repeats="parts",
    )


@remember
def _describe_cell(scope: Scope, choice: CellChoice) -> PortraitResult | None:
    columns = scope.dimensions + scope.numbers
    if not columns:
        return None
    rows = list_members(scope, choice.week, choice.age_weeks).cache()
    return describe_segment(rows, lambda t: t.returned, name=choice.label, columns=columns)

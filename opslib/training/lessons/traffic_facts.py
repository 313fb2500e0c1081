"""What the lesson `how_many_users` reckons with: who would enter a test week by week, and how many of them pay."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from statistics import NormalDist
from typing import TYPE_CHECKING

import pandas as pd

from opslib.data.periods import DAY
from opslib.decide.funnel.diagnosis import diagnose_funnel
from opslib.errors import InputError
from opslib.language import say
from opslib.measure.estimate import Estimate, estimate_rate
from opslib.measure.sample_size import WEEK, ExperimentPlan, plan_experiment
from opslib.present.tables import make_table
from opslib.present.words import format_estimate

if TYPE_CHECKING:
    from opslib.data.source import Data
    from opslib.present.display import TableView

# What the designer hopes for, what the first table has, and half of its last.
HOPED, SHOWN, HALF = 0.02, (0.2, 0.1), 0.05
LEVEL, POWER, YEAR_DAYS = 0.05, 0.8, 365
# Beyond the weeks that were counted, as many more a week as in the last of them.
RECENT_WEEKS = 4


@dataclass(frozen=True)
class Traffic:
    """What the company has for a test on everybody who enters its funnel; a test counts each user once.

    Attributes:
        base: the share of users who got through within the window after their first entry.
        entered: users who entered for the first time in the period, by the end of each of its weeks.
        entry, goal: the funnel's first and last step.
        window_days: how long a user has.
    """

    base: Estimate
    entered: tuple[int, ...]
    entry: str
    goal: str
    window_days: int

    @property
    def rate(self) -> float:
        """The share of users who pay."""
        return float(self.base.value or 0)

    @property
    def recent(self) -> float:
        """Users a week who were new to the period in its last weeks."""
        return (self.entered[-1] - self.entered[-1 - RECENT_WEEKS]) / RECENT_WEEKS

    @cached_property
    def plan(self) -> ExperimentPlan:
        """Sizes for all gains that the lesson speaks of."""
        return plan_experiment(base=self.rate, relative=[*SHOWN, HALF, HOPED], level=LEVEL, power=POWER)

    def size(self, gain: float, column: str) -> float:
        """A column of the plan for one gain."""
        sizes = self.plan.sizes
        return float(sizes[column].to_numpy()[(sizes["relative_difference"] - gain).abs().to_numpy().argmin()])

    def count_users(self, weeks: int) -> float:
        """Users of both groups of a test after some weeks."""
        counted = len(self.entered)
        return self.entered[weeks - 1] if weeks <= counted else self.entered[-1] + (weeks - counted) * self.recent

    def find_weeks(self, users: float) -> int:
        """The first week by whose end so many users are in a test."""
        for week, count in enumerate(self.entered, start=1):
            if count >= users:
                return week
        return len(self.entered) + math.ceil((users - self.entered[-1]) / self.recent)

    def find_days(self, gain: float) -> int:
        """How long a test takes that is made for a gain, the last user's window included."""
        return WEEK * self.find_weeks(self.size(gain, "total_users_count")) + self.window_days

    def find_power(self, gain: float, weeks: int) -> float:
        """The chance that a test of some weeks shows a gain that is real; the inverse of `size_rates` below a half."""
        p, q = self.rate, self.rate * (1 + gain)
        root = math.sqrt(self.count_users(weeks) / 2)
        alarm = NormalDist().inv_cdf(1 - LEVEL / 2) * math.sqrt(2 * p * (1 - p))
        return NormalDist().cdf((root * (q - p) - alarm) / math.sqrt(p * (1 - p) + q * (1 - q)))

    def find_sign(self, gain: float, weeks: int) -> float:
        """The chance that such a test's difference lies above zero, clear or not."""
        p, q = self.rate, self.rate * (1 + gain)
        error = math.sqrt((p * (1 - p) + q * (1 - q)) / (self.count_users(weeks) / 2))
        return NormalDist().cdf((q - p) / error)


def measure_traffic(data: Data, name: str) -> Traffic:
    """Measure who entered the funnel in the period, and who got through.

    Raises:
        InputError: a rate not below 40%, or so much traffic that even the smallest gain is soon seen.
    """
    diagnosis = diagnose_funnel(data)
    period, steps = diagnosis.scope.now, diagnosis.path.steps
    window, zone = math.ceil(diagnosis.path.window_days), data.playbook.company.timezone
    events = data.table("events")
    entries, goals = (events.filter(events.event == step.event) for step in (steps[0], steps[-1]))
    times = data.execute(entries.select("user_id", "ts")).merge(
        data.execute(goals.select("user_id", paid_at=goals.ts)), on="user_id", how="left"
    )
    times["day"] = _find_days(times["ts"], zone)
    inside = (times["day"] >= pd.Timestamp(period.start)) & (times["day"] < pd.Timestamp(period.end))
    times = times[inside]
    first = times.groupby("user_id")["ts"].transform("min")
    paid = (times["paid_at"] >= first) & (times["paid_at"] < first + pd.Timedelta(days=window))
    users = times.assign(paid=paid).groupby("user_id").agg(day=("day", "min"), paid=("paid", "max"))
    weeks = (users["day"] - pd.Timestamp(period.start)).dt.days // WEEK
    entered = tuple(int((weeks <= week).sum()) for week in range(period.days // WEEK))
    ready = users[users["day"] <= pd.Timestamp(diagnosis.scope.as_of - window * DAY)]
    base = estimate_rate("paid_rate", int(ready["paid"].sum()), len(ready))
    traffic = Traffic(base, entered, diagnosis.path.labels[0], diagnosis.path.labels[-1], window)
    if not 0 < traffic.rate < 0.4 or len(entered) <= RECENT_WEEKS or traffic.find_days(HOPED) < YEAR_DAYS:
        raise InputError(f"{name}: this lesson needs a rate below 40% and little traffic; use the sample company.")
    return traffic


def _find_days(times: pd.Series, zone: str) -> pd.Series:
    return times.dt.tz_localize("UTC").dt.tz_convert(zone).dt.tz_localize(None).dt.normalize()


def tabulate_base(traffic: Traffic) -> TableView:
    """The rate as it is, with its counts."""
    base = traffic.base
    shown = pd.DataFrame(
        [{"users": f"{base.denominator:,.0f}", "paid": f"{base.numerator:,.0f}", "rate": format_estimate(base)}]
    )
    labels = {
        "users": say("Users whose {days} days are over", days=traffic.window_days),
        "paid": say("Paid within {days} days", days=traffic.window_days), "rate": say("Share who paid [95%]"),
    }  # fmt: skip
    return make_table(shown, labels, name="lesson-base", numeric=tuple(labels))


def tabulate_entered(traffic: Traffic) -> TableView:
    """Different users by the end of each week."""
    shown = pd.DataFrame({"weeks": [f"{week}" for week in range(1, len(traffic.entered) + 1)]})
    shown["users"] = [f"{count:,}" for count in traffic.entered]
    shown["more"] = [f"{b - a:+,}" for a, b in zip((0, *traffic.entered), traffic.entered, strict=False)]
    labels = {
        "weeks": say("Weeks"), "users": say("Different users by then"), "more": say("of them, new in that week")
    }  # fmt: skip
    return make_table(shown, labels, name="lesson-entered", numeric=tuple(labels))

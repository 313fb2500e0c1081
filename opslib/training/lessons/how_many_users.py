"""Lesson: how many users a test needs, how long that takes, and whether it is worth it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from statistics import NormalDist
from typing import TYPE_CHECKING

import altair as alt
import pandas as pd

from opslib.decide.funnel.diagnosis import FunnelDiagnosis, diagnose_funnel
from opslib.errors import InputError
from opslib.language import say
from opslib.measure.sample_size import WEEK, ExperimentPlan, plan_experiment
from opslib.present import theme
from opslib.present.charts import base_chart, view_chart
from opslib.present.display import ChartView, TableView
from opslib.present.funnel import charts, tables
from opslib.present.parts import make_legend, make_tooltips
from opslib.present.tables import make_table
from opslib.training.answers import Choice, Decision, Number, Option
from opslib.training.curriculum import name_lesson
from opslib.training.judgement import Mistake
from opslib.training.plan import LessonPlan, Look, Question

if TYPE_CHECKING:
    from opslib.data.source import Data

NAME = "how_many_users"
# What the designer hopes for, what the first table has, and half of its last.
HOPED, SHOWN, HALF = 0.02, (0.2, 0.1), 0.05
WEEKS = (2, 4, 8, 12, 16, 24)
LEVEL, POWER, PROPOSED_WEEKS, YEAR_DAYS = 0.05, 0.8, 2, 365
CODE = "opslib.measure.sample_size.plan_experiment(base=..., relative=[...], users_per_day=...)"


@dataclass(frozen=True)
class Traffic:
    """What the company has for a test on everybody who enters its funnel.

    Attributes:
        diagnosis: of the funnel.
        base: the share of users who get through.
        entered_count, days: who entered in the period, windows open or not, and how long it was.
    """

    diagnosis: FunnelDiagnosis
    base: float
    entered_count: int
    days: int

    @property
    def users_per_day(self) -> float:
        """Users who enter a day."""
        return self.entered_count / self.days

    @property
    def goal(self) -> str:
        """The funnel's last step."""
        return self.diagnosis.path.labels[-1]

    @cached_property
    def plan(self) -> ExperimentPlan:
        """Sizes for all gains that the lesson speaks of."""
        return plan_experiment(
            base=self.base, relative=[*SHOWN, HALF, HOPED], users_per_day=self.users_per_day,
            window_days=math.ceil(self.diagnosis.path.window_days), level=LEVEL, power=POWER,
        )  # fmt: skip

    def size(self, gain: float, column: str) -> float:
        """A column of the plan for one gain."""
        sizes = self.plan.sizes
        return float(sizes[column].to_numpy()[(sizes["relative_difference"] - gain).abs().to_numpy().argmin()])

    def find_power(self, gain: float, weeks: float) -> float:
        """The chance that a test of some weeks shows a gain that is real; the inverse of `size_rates` below a half."""
        p, q = self.base, self.base * (1 + gain)
        root = math.sqrt(weeks * WEEK * self.users_per_day / 2)
        alarm = NormalDist().inv_cdf(1 - LEVEL / 2) * math.sqrt(2 * p * (1 - p))
        return NormalDist().cdf((root * (q - p) - alarm) / math.sqrt(p * (1 - p) + q * (1 - q)))


def write_lesson(data: Data) -> LessonPlan:
    """Write the lesson with the company's own rate and traffic.

    Raises:
        InputError: its funnel has no rate below a half, or so much traffic that even the smallest gain is soon seen.
    """
    traffic = _measure_traffic(data)
    situation = (
        say(
            "The weekly meeting. The designer shows a new caption for the buy button: “Of those who look at an item, "
            "{base:.1%} pay. With my caption it will be {gain:.0%} more. We test it half and half for {weeks} weeks, "
            "then we know.” Everybody nods.",
            base=traffic.base, gain=HOPED, weeks=PROPOSED_WEEKS,
        ),
        say(
            "You ask for a day to reckon. On average {count:.0f} users a day begin to look at items. Are "
            "{weeks} weeks enough, and is this test worth it?",
            count=traffic.users_per_day, weeks=PROPOSED_WEEKS,
        ),
    )  # fmt: skip
    return LessonPlan(
        name=NAME,
        title=name_lesson(NAME),
        minutes=30,
        situation=situation,
        steps={
            "base": _show_base(traffic),
            "points": _ask_points(traffic),
            "sizes": _show_sizes(traffic),
            "half": _ask_half(traffic),
            "weeks": _ask_weeks(traffic),
            "power": _show_power(traffic),
            "unclear": _ask_unclear(traffic),
            "all": _show_all(traffic),
            "decision": _ask_decision(traffic),
        },
        closing=(
            say("Say the gain in points and in per cent, both: a caption that brings {gain:.0%} more and one that "
                "brings {points:.0f} points more are two different worlds.", gain=HOPED, points=100 * HOPED),
            say("Half the gain takes four times the users. Small gains are for those who have many users."),
            say("Reckon before the test: if it cannot show the gain that you hope for, its “not clear” is known "
                "already."),
        ),
    )  # fmt: skip


def _measure_traffic(data: Data) -> Traffic:
    diagnosis = diagnose_funnel(data)
    whole = diagnosis.whole
    base = whole.estimate(len(diagnosis.path.labels), overall=True).value
    first = whole.steps.iloc[0]
    entered = int(first["entered_count"] + first["immature_count"])
    traffic = Traffic(diagnosis, base or 0.0, entered, diagnosis.scope.now.days)
    if not 0 < traffic.base < 0.4 or not entered or traffic.size(HOPED, "total_days") < YEAR_DAYS:
        raise InputError(f"{NAME}: this lesson needs a rate below 40% and little traffic; use the sample company.")
    return traffic


def _show_base(traffic: Traffic) -> Look:
    text = say(
        "Two numbers come first: the rate as it is, and the users who come. How to read it: of those who entered, the "
        "share who got to each step. In {days} days {count:,} users began to look at items, {per_day:.1f} a day.",
        days=traffic.days, count=traffic.entered_count, per_day=traffic.users_per_day,
    )  # fmt: skip
    diagnosis = traffic.diagnosis
    return Look((text,), (lambda: charts.plot_steps(diagnosis), lambda: tables.show_steps(diagnosis)))


def _show_sizes(traffic: Traffic) -> Look:
    text = (
        say(
            "How to read it: for a gain that you want to be able to see, the users of each group. With so many, a gain "
            "that is real comes out clear in {power:.0%} of all tests (this is called power), and where there is none, "
            "{level:.0%} come out clear all the same.",
            power=POWER, level=LEVEL,
        ),
        say("A smaller gain is harder to tell from chance. How much harder?"),
    )  # fmt: skip
    return Look(text, (lambda: _tabulate_sizes(traffic, SHOWN),), CODE)


def _show_all(traffic: Traffic) -> Look:
    text = say(
        "Here is the whole plan, with the gain that the designer hopes for. Days are whole weeks in which users enter, "
        "and {window} days more until the last of them has had the time to buy.",
        window=math.ceil(traffic.diagnosis.path.window_days),
    )
    return Look((text,), (lambda: _tabulate_sizes(traffic, (*SHOWN, HALF, HOPED), days=True),), CODE)


def _tabulate_sizes(traffic: Traffic, gains: tuple[float, ...], *, days: bool = False) -> TableView:
    shown = pd.DataFrame({"gain": [f"{gain:+.0%}" for gain in gains]})
    shown["points"] = [f"{100 * traffic.size(gain, 'difference'):+.1f}" for gain in gains]
    shown["arm"] = [f"{traffic.size(gain, 'arm_users_count'):,.0f}" for gain in gains]
    shown["days"] = [f"{traffic.size(gain, 'total_days'):,.0f}" for gain in gains]
    labels = {"gain": say("Gain"), "points": say("Points"), "arm": say("Users of each group")}
    if days:
        labels["days"] = say("Days, the last window included")
    note = say("From {base:.1%}, two groups of one size, one look at the end.", base=traffic.base)
    return make_table(shown, labels, name="lesson-sizes", numeric=tuple(labels), note=note)


def _show_power(traffic: Traffic) -> Look:
    text = say(
        "How to read it: suppose that a change truly brings {gains}. Then this many of 100 tests come out clear, by "
        "how many weeks they run with all the users whom you have. The others end with “not clear”, though the gain is "
        "there.",
        gains=say("{first:.0%}, {second:.0%} or {third:.0%} more", first=SHOWN[0], second=SHOWN[1], third=HALF),
    )
    return Look((text,), (lambda: _plot_power(traffic), lambda: _tabulate_power(traffic)))


def _plot_power(traffic: Traffic) -> ChartView:
    gains = [f"{gain:+.0%}" for gain in (*SHOWN, HALF)]
    rows = [
        {"gain": name, "weeks": week, "power_rate": traffic.find_power(gain, week)}
        for name, gain in zip(gains, (*SHOWN, HALF), strict=True)
        for week in range(1, WEEKS[-1] + 1)
    ]
    labels = {"gain": say("True gain"), "weeks": say("Weeks"), "power_rate": say("Share of tests that see it")}
    fields = {
        "gain:N": (labels["gain"], ""), "weeks:Q": (labels["weeks"], ""), "power_rate:Q": (labels["power_rate"], ".0%")
    }  # fmt: skip
    frame = pd.DataFrame(rows)
    scale = alt.Scale(domain=gains, range=list(theme.color_groups(gains).values()))
    base = base_chart(frame).encode(
        x=alt.X("weeks:Q", title=labels["weeks"], axis=alt.Axis(grid=False)),
        y=alt.Y(
            "power_rate:Q", title=labels["power_rate"], axis=alt.Axis(format=".0%"), scale=alt.Scale(domain=[0, 1])
        ),
        color=alt.Color("gain:N", scale=scale, legend=make_legend("stroke")),
        tooltip=make_tooltips(fields),
    )
    aim = alt.Chart(frame.head(1)).mark_rule(color=theme.MUTED, strokeDash=[3, 3]).encode(y=alt.datum(POWER))
    title = say("How many tests see a gain that is there")
    text = say(
        "Rising lines of the share of tests that come out clear, by weeks and true gain; the usual aim is dashed."
    )
    return view_chart(aim + base.mark_line(), title, text, frame, labels)


def _tabulate_power(traffic: Traffic) -> TableView:
    shown = pd.DataFrame({"weeks": [f"{week}" for week in WEEKS]})
    labels = {"weeks": say("Weeks")}
    for gain in (*SHOWN, HALF):
        name = f"{gain:+.0%}"
        shown[name] = [f"{100 * traffic.find_power(gain, week):.0f}" for week in WEEKS]
        labels[name] = say("Of 100 with {gain} see it", gain=name)
    return make_table(shown, labels, name="lesson-power", numeric=tuple(labels))


def _ask_points(traffic: Traffic) -> Question:
    points = 100 * traffic.base * HOPED
    mistakes = (
        Mistake(100 * HOPED, say("That is per cent of the rate. Points are what is added to the rate itself.")),
        Mistake(100 * traffic.base + points, say("That is the new rate. Asked is how far it is from the old one.")),
        Mistake(100 * (traffic.base + HOPED), say("You added the per cent to the rate as if they were points.")),
        Mistake(100 * traffic.base, say("That is the rate as it is. By how much would it move?")),
    )
    return Question(
        (say("{gain:.0%} more than {base:.1%}: how many percentage points is that? One decimal, please.",
             gain=HOPED, base=traffic.base),),
        Number(points, 0.06, say("points"), mistakes),
        (
            say("Of the users who pay today, so many per cent more."),
            say("Multiply the rate by the gain."),
        ),
        (say("From {base:.1%} to {now:.1%}. This small step has to be told from chance.",
             base=traffic.base, now=traffic.base * (1 + HOPED)),),
    )  # fmt: skip


def _ask_half(traffic: Traffic) -> Question:
    last, right = (traffic.size(gain, "arm_users_count") for gain in (SHOWN[-1], HALF))
    mistakes = (
        Mistake(
            2 * last, say("Half the gain takes more than twice the users. Compare the two rows: what does half do?")
        ),
        Mistake(last, say("That is for the larger gain.")),
        Mistake(last / 2, say("A smaller gain is harder to see, so it takes more users, not fewer.")),
        Mistake(2 * right, say("That is both groups together. Asked is one.")),
    )
    return Question(
        (say("From {first:.0%} to {second:.0%} the gain is halved; look at what the users do. About how many users "
             "does each group need for {half:.0%}?", first=SHOWN[0], second=SHOWN[1], half=HALF),),
        Number(right, 0.06 * right, say("users in a group"), mistakes),
        (
            say("How many times the users of the first row has the second?"),
            say("Halve the gain once more: the same factor again, about."),
        ),
        (
            say(
                "{right:,.0f}: {factor:.1f} times as many. What chance adds shrinks with the root of the users, so to "
                "halve it takes four times as many.", right=right, factor=right / last,
            ),
        ),
    )  # fmt: skip


def _ask_weeks(traffic: Traffic) -> Question:
    arm, days = (traffic.size(SHOWN[-1], column) for column in ("arm_users_count", "entry_days"))
    weeks, window = days / WEEK, math.ceil(traffic.diagnosis.path.window_days) / WEEK
    mistakes = (
        Mistake(math.ceil(arm / traffic.users_per_day / WEEK), say("That is enough for one group. Two are needed.")),
        Mistake(math.floor(2 * arm / traffic.users_per_day / WEEK), say("Round up: the last users would be missing.")),
        Mistake(weeks + window, say("With the window of the last users. Asked is how long users enter.")),
        Mistake(2 * arm / traffic.users_per_day, say("These are days.")),
        Mistake(days, say("These are days.")),
    )
    return Question(
        (say("To see {gain:.0%}: for how many whole weeks do users have to enter, if {per_day:.1f} a day come and each "
             "is in one of the two groups?", gain=SHOWN[-1], per_day=traffic.users_per_day),),
        Number(weeks, 0.4, say("weeks"), mistakes),
        (
            say("How many users do the two groups need together?"),
            say("Over the users of a week, and rounded up: whole weeks hold every weekday equally often."),
        ),
        (
            say("2 x {arm:,.0f} users, {per_week:,.0f} a week: {weeks:.1f}, so {whole:.0f} whole weeks.",
                arm=arm, per_week=WEEK * traffic.users_per_day,
                weeks=2 * arm / traffic.users_per_day / WEEK, whole=weeks),
        ),
    )  # fmt: skip


def _ask_unclear(traffic: Traffic) -> Question:
    seen = traffic.find_power(SHOWN[-1], PROPOSED_WEEKS)
    options = (
        Option(
            "none", say("The change has no effect; we drop it"),
            say("Read the table: how many tests of that length see the gain, though it is there?"),
        ),
        Option(
            "trend", say("The difference is above zero, so the trend is right; we keep it"),
            say("With so few users the difference falls on either side of zero by chance alone."),
        ),
        Option("small", say("The test was too small: it would mostly have missed such a gain even if it is there")),
        Option(
            "sure", say("With {sure:.0%} certainty there is no gain", sure=1 - LEVEL),
            say("That number is about tests without an effect. Asked is how often a real gain is seen."),
        ),
    )  # fmt: skip
    return Question(
        (say("A colleague’s test ran for {weeks} weeks. He hoped for {gain:.0%} more; it ended with “not clear”. What "
             "do you write under it?", weeks=PROPOSED_WEEKS, gain=SHOWN[-1]),),
        Choice(options),
        (
            say("Find the row of his weeks and the column of his gain."),
            say("If the gain is real, what is the likelier end of such a test?"),
        ),
        (
            say("Of 100 such tests {seen:.0f} see the gain, and {missed:.0f} miss it. “Not clear” was to be expected, "
                "with the gain or without.", seen=100 * seen, missed=100 - round(100 * seen)),
        ),
    )  # fmt: skip


def _ask_decision(traffic: Traffic) -> Question:
    hoped, large = (traffic.size(gain, "total_days") for gain in (HOPED, SHOWN[0]))
    options = (
        Option(
            "short",
            say("Test the caption for {weeks} weeks and keep it if the difference is above zero", weeks=PROPOSED_WEEKS),
            say("That is hardly better than a coin: so small a gain is far below what chance does in that time."),
        ),
        Option(
            "long",
            say("Test the caption for as long as it takes to see {gain:.0%}", gain=HOPED),
            say("Read the last row: for so long no other test could run there, and the shop will be another one."),
        ),
        Option(
            "careful",
            say("Show the caption to a tenth of the users only, to be careful"),
            say("Then the smaller group fills even more slowly, and the test takes longer still."),
        ),
        Option(
            "large",
            say(
                "Do not test the caption alone; put bolder changes together that may bring {gain:.0%}, and test those",
                gain=SHOWN[0],
            ),
        ),
        Option(
            "power",
            say("Test the caption, but with less power, so that fewer users do"),
            say("Then the test misses the gain more often. It gets shorter by telling less."),
        ),
    )
    return Question(
        (say("Is the test of the caption worth running? What do you propose to the meeting?"),),
        Decision(Choice(options)),
        (
            say("Look at the days in the last row, then at those in the first."),
            say("A test is worth it if its answer comes in time and can change what you do."),
        ),
        (
            say("For {gain:.0%} it would take {years:.1f} years; a gain of {large:.0%} is seen in {days:.0f} days.",
                gain=HOPED, years=hoped / YEAR_DAYS, large=SHOWN[0], days=large),
            say("A caption that costs nothing and can do no harm may go live without a test; only do not claim a gain "
                "for it."),
        ),
    )  # fmt: skip

"""Lesson: how many users a test needs, how long that takes, and whether it is worth it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import altair as alt
import pandas as pd

from opslib.language import say
from opslib.measure.sample_size import WEEK
from opslib.present import theme
from opslib.present.charts import base_chart, view_chart
from opslib.present.display import ChartView, TableView
from opslib.present.parts import make_legend, make_tooltips
from opslib.present.tables import make_table
from opslib.training.answers import Choice, Decision, Number, Option
from opslib.training.curriculum import name_lesson
from opslib.training.judgement import Mistake
from opslib.training.lessons.traffic_facts import (
    HALF,
    HOPED,
    LEVEL,
    POWER,
    RECENT_WEEKS,
    SHOWN,
    YEAR_DAYS,
    Traffic,
    measure_traffic,
    tabulate_base,
    tabulate_entered,
)
from opslib.training.plan import LessonPlan, Look, Question

if TYPE_CHECKING:
    from opslib.data.source import Data

NAME = "how_many_users"
WEEKS, PROPOSED_WEEKS = (2, 4, 8, 12, 16, 24), 2
PLAN_CODE = """from opslib.measure.sample_size import plan_experiment

plan = plan_experiment(base={base:.4f}, relative=[{gains}])
plan.sizes"""


def write_lesson(data: Data) -> LessonPlan:
    """Write the lesson with the company's own rate and traffic.

    Raises:
        InputError: its funnel has no rate below 40%, or so much traffic that even the smallest gain is soon seen.
    """
    traffic = measure_traffic(data, NAME)
    situation = (
        say(
            "The weekly meeting. The designer shows a new caption for the buy button: “Of those who look at an item, "
            "{base:.1%} pay within {days} days. With my caption it will be {gain:.0%} more. We test it half and half "
            "for {weeks} weeks, then we know.” Everybody nods.",
            base=traffic.rate, days=traffic.window_days, gain=HOPED, weeks=PROPOSED_WEEKS,
        ),
        say(
            "You ask for a day to reckon. In {weeks} weeks about {count:,.0f} users look at items. Is that enough, and "
            "is this test worth it?",
            count=traffic.count_users(PROPOSED_WEEKS), weeks=PROPOSED_WEEKS,
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
            say("A test counts each user once. Its first weeks bring most of them, so twice the time is not twice the "
                "users."),
            say("Reckon before the test: if it can hardly show the gain that you hope for, “not clear” is what to "
                "expect of it."),
        ),
    )  # fmt: skip


def _show_base(traffic: Traffic) -> Look:
    text = (
        say(
            "Two things come first: the rate as it is, and the users who come. How to read it: the first table has the "
            "users who got to {entry} in the last {weeks} weeks, and how many of them got to {goal} within {days} "
            "days of the first time. The funnel notebook shows a higher share: it looks at every visit of these weeks, "
            "not at the first alone.",
            entry=traffic.entry, weeks=len(traffic.entered), goal=traffic.goal, days=traffic.window_days,
        ),
        say(
            "The second table adds them up week by week. Each user counts once, as in a test: whoever comes again in "
            "the third week is in it already."
        ),
    )  # fmt: skip
    return Look(text, (lambda: tabulate_base(traffic), lambda: tabulate_entered(traffic)))


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
    return Look(text, (lambda: _tabulate_sizes(traffic, SHOWN),), _write_code(traffic, SHOWN))


def _write_code(traffic: Traffic, gains: tuple[float, ...]) -> str:
    return PLAN_CODE.format(base=traffic.rate, gains=", ".join(f"{gain:g}" for gain in gains))


def _show_all(traffic: Traffic) -> Look:
    text = (
        say(
            "Here is the whole plan, with the gain that the designer hopes for. Days are whole weeks in which users "
            "enter, and {window} days more until the last of them has had the time to buy.",
            window=traffic.window_days,
        ),
        _say_later(traffic),
    )
    gains = (*SHOWN, HALF, HOPED)
    return Look(text, (lambda: _tabulate_sizes(traffic, gains, days=True),), _write_code(traffic, gains))


def _say_later(traffic: Traffic) -> str:
    return say(
        "After the {weeks} weeks that were counted we reckon with {count:,.0f} new ones a week, as in the last "
        "{recent} of them.",
        weeks=len(traffic.entered), count=traffic.recent, recent=RECENT_WEEKS,
    )  # fmt: skip


def _tabulate_sizes(traffic: Traffic, gains: tuple[float, ...], *, days: bool = False) -> TableView:
    shown = pd.DataFrame({"gain": [f"{gain:+.0%}" for gain in gains]})
    shown["points"] = [f"{100 * traffic.size(gain, 'difference'):+.1f}" for gain in gains]
    shown["arm"] = [f"{traffic.size(gain, 'arm_users_count'):,.0f}" for gain in gains]
    shown["days"] = [f"{traffic.find_days(gain):,}" for gain in gains]
    labels = {"gain": say("Gain"), "points": say("Points"), "arm": say("Users of each group")}
    if days:
        labels["days"] = say("Days, the last window included")
    note = say("From {base:.1%}, two groups of one size, one look at the end.", base=traffic.rate)
    return make_table(shown, labels, name="lesson-sizes", numeric=tuple(labels), note=note)


def _show_power(traffic: Traffic) -> Look:
    text = (
        say(
            "How to read it: suppose that a change truly brings {gains}. Then this many of 100 tests come out clear, "
            "by how many weeks they run with all the users whom you have. The others end with “not clear”, though the "
            "gain is there.",
            gains=say("{first:.0%}, {second:.0%} or {third:.0%} more", first=SHOWN[0], second=SHOWN[1], third=HALF),
        ),
        _say_later(traffic),
    )
    return Look(text, (lambda: _plot_power(traffic), lambda: _tabulate_power(traffic)))


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
    points = 100 * traffic.rate * HOPED
    mistakes = (
        Mistake(100 * HOPED, say("That is per cent of the rate. Points are what is added to the rate itself.")),
        Mistake(100 * traffic.rate + points, say("That is the new rate. Asked is how far it is from the old one.")),
        Mistake(100 * (traffic.rate + HOPED), say("You added the per cent to the rate as if they were points.")),
        Mistake(100 * traffic.rate, say("That is the rate as it is. By how much would it move?")),
    )
    return Question(
        (say("{gain:.0%} more than {base:.1%}: how many percentage points is that? One decimal, please.",
             gain=HOPED, base=traffic.rate),),
        Number(points, 0.08, say("points"), mistakes),
        (
            say("Of the users who pay today, so many per cent more."),
            say("Multiply the rate by the gain."),
        ),
        (say("From {base:.2%} to {now:.2%}. This small step has to be told from chance.",
             base=traffic.rate, now=traffic.rate * (1 + HOPED)),),
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
    gain = SHOWN[0]
    arm, both = (traffic.size(gain, column) for column in ("arm_users_count", "total_users_count"))
    weeks = traffic.find_weeks(both)
    every = math.ceil(both / (traffic.entered[-1] / len(traffic.entered)))
    mistakes = (
        Mistake(traffic.find_weeks(arm), say("That is enough for one group. Two are needed.")),
        Mistake(weeks - 1, say("By then some users are still missing.")),
        Mistake(weeks + 1, say("By then there are more than enough. Asked is how long users enter, no window added.")),
        Mistake(every, say("You took as many users for every week. The first weeks bring more: read the table.")),
        Mistake(WEEK * weeks, say("These are days.")),
    )
    return Question(
        (say("To see {gain:.0%}: for how many whole weeks do users have to enter, if they come as in the table of "
             "weeks and each is in one of the two groups?", gain=gain),),
        Number(weeks, 0.4, say("weeks"), mistakes),
        (
            say("How many users do the two groups need together?"),
            say("Go down the table of weeks until there are as many."),
        ),
        (
            say("2 x {arm:,.0f} users are {both:,.0f}. After {before} weeks there were {fewer:,.0f}, after {weeks} "
                "{count:,.0f}. Whole weeks hold every weekday equally often.",
                arm=arm, both=both, before=weeks - 1, fewer=traffic.count_users(weeks - 1), weeks=weeks,
                count=traffic.count_users(weeks)),
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
                "with the gain or without: it says next to nothing about either.",
                seen=100 * seen, missed=100 - round(100 * seen)),
        ),
    )  # fmt: skip


def _ask_decision(traffic: Traffic) -> Question:
    hoped, large = (traffic.find_days(gain) for gain in (HOPED, SHOWN[0]))
    above = traffic.find_sign(HOPED, PROPOSED_WEEKS)
    options = (
        Option(
            "short",
            say("Test the caption for {weeks} weeks and keep it if the difference is above zero", weeks=PROPOSED_WEEKS),
            say(
                "If the gain is there, the difference is above zero in {above:.0%} of such tests; if there is none, in "
                "{none:.0%}. That is hardly better than a coin.",
                above=above,
                none=0.5,
            ),
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
            say("A caption that costs nothing and can hardly do harm may go live without a test; only do not claim a "
                "gain for it. And of changes that were put together nobody knows which one did it."),
        ),
    )  # fmt: skip

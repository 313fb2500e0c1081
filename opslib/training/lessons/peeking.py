"""Lesson: who looks every day and stops at the first clear result wins by chance; waiting for the planned day."""

from __future__ import annotations

import datetime as dt
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from opslib.decide.funnel.diagnosis import FunnelDiagnosis, diagnose_funnel
from opslib.decide.funnel.trial import Trial
from opslib.errors import InputError
from opslib.language import say
from opslib.measure.sample_size import ExperimentPlan, plan_experiment
from opslib.measure.sequential import inflate_for_looks
from opslib.present.display import TableView
from opslib.present.funnel import charts, tables
from opslib.present.parts import format_range
from opslib.present.tables import make_table
from opslib.training.answers import Choice, Decision, Number, Option, Sentence
from opslib.training.curriculum import name_lesson
from opslib.training.judgement import Mistake
from opslib.training.lessons.no_effect import DAYS, LEVEL, TESTS, Nothing, plot_days, simulate_nothing, tabulate_looks
from opslib.training.plan import LessonPlan, Look, Question

if TYPE_CHECKING:
    from opslib.data.source import Data

NAME = "peeking"
RUNNING_CODE = """from opslib.present.funnel import charts

diagnosis = opslib.diagnose_funnel(data)
charts.plot_sequence(diagnosis)"""
# A difference and its standard error; how much is known at the planned end is one over that error's square by then.
ALWAYS_CODE = """from opslib.measure.sequential import sequence_interval, tune_mixture

sequence_interval(difference={difference:.4f}, error={error:.4f}, rho=tune_mixture(1 / {planned:.4f}**2))"""
PLAN_CODE = """from opslib.measure.sample_size import plan_experiment

plan = plan_experiment(base={base:.4f}, relative=[{gain:.4f}], users_per_day={users_per_day:.1f}, looks="always")
plan.sizes"""


def write_lesson(data: Data) -> LessonPlan:
    """Write the lesson with simulated tests and the company's running experiment.

    Raises:
        InputError: no experiment is running that is not clear yet and has an initiative with an expected change.
    """
    nothing, diagnosis = simulate_nothing(), diagnose_funnel(data)
    running = _find_running(data, diagnosis)
    told = nothing.example, nothing.first_day - 1
    points = format_range(
        nothing.difference[told], nothing.low[told], nothing.high[told], form="+.1f", scale=100
    )  # fmt: skip
    situation = (
        say(
            "Day {day} of a test of a green button against the grey one. The head of growth looks every morning, and "
            "today he writes: “Green wins! {points} points, clear at {level:.0%}. I am stopping the test.”",
            day=nothing.first_day, points=points, level=LEVEL,
        ),
        say(
            "An hour later an engineer answers: “The switch was never on. Both groups have seen the grey button all "
            "the time.” So there was nothing to see, and yet it was clear at {level:.0%}. How can that be? You have an "
            "experiment running yourself, {name}, and everybody looks at it.",
            level=LEVEL, name=running.trial.result.experiment,
        ),
    )  # fmt: skip
    return LessonPlan(
        name=NAME,
        title=name_lesson(NAME),
        minutes=30,
        situation=situation,
        steps={
            "days": _show_days(nothing),
            "outside": _ask_outside(nothing),
            "looks": _show_looks(nothing),
            "times": _ask_times(nothing),
            "always": _show_always(nothing),
            "holds": _ask_holds(nothing),
            "running": _show_running(diagnosis, running),
            "state": _ask_state(running),
            "plan": _show_plan(running),
            "decision": _ask_decision(running),
        },
        closing=(
            say("Every look is a chance to be wrong. A test at {level:.0%} keeps its promise for one look, on the day "
                "that was planned.", level=LEVEL),
            say("Whoever has to look uses an interval that holds at every look, and pays for it with more users."),
            say("“Not clear yet” is no “no effect”. Set the day of the decision before the first user enters."),
        ),
    )  # fmt: skip


@dataclass(frozen=True)
class Running:
    """The company's running experiment, and what it was planned for.

    Attributes:
        row: the read-out of its primary metric.
        worth: the gain that the register of initiatives expects, as a share.
        once, always: its sizes for one look at the end and for looking all the time.
        users_per_day: how many entered on average so far.
        start: its first day.
    """

    trial: Trial
    row: dict[str, Any]
    worth: float
    once: ExperimentPlan
    always: ExperimentPlan
    users_per_day: float
    start: dt.date

    @property
    def day(self) -> dt.date:
        """The planned day of the decision."""
        return self.start + dt.timedelta(days=int(self.once.sizes["total_days"].iloc[0]))

    def format_points(self) -> str:
        """The difference with the interval that holds at every look."""
        ends = (self.row[name] for name in ("difference", "always_low", "always_high"))
        return format_range(*ends, form="+.1f", scale=100)


def _find_running(data: Data, diagnosis: FunnelDiagnosis) -> Running:
    trial = diagnosis.trial
    named = [i for i in data.playbook.initiatives if trial and i.experiment == trial.result.experiment]
    unfit = InputError(f"{NAME}: this lesson needs an experiment that is behind, and not clear yet; use the sample.")
    if trial is None or trial.result.decision.reason != "not_clear_yet" or not named or not named[0].expected_change:
        raise unfit
    initiative, row = named[0], trial.result.comparison("goal_rate")
    worth, base = float(named[0].expected_change), float(row["control_value"])
    # What the questions say of it.
    if not row["always_low"] < row["difference"] < 0 < worth < row["always_high"]:
        raise unfit
    days = (diagnosis.scope.as_of - initiative.start).days + 1
    users_per_day = float(trial.result.split.variants["users_count"].sum()) / days
    once, always = (
        plan_experiment(
            base=base, relative=[worth / base], looks=looks, level=LEVEL,
            users_per_day=users_per_day, window_days=math.ceil(diagnosis.path.window_days),
        )
        for looks in ("once", "always")
    )  # fmt: skip
    return Running(trial, row, worth, once, always, users_per_day, initiative.start)


def _show_days(nothing: Nothing) -> Look:
    text = say(
        "How to read it: the difference of the two groups so far, in points, as the head of growth saw it each "
        "morning. The band is the usual 95% interval, made for one look. Marked days are those on which it left out "
        "zero, and the test looked clear. You know more than he did: the truth is zero on all days."
    )
    return Look((text,), (lambda: plot_days(nothing, always=False),))


def _show_looks(nothing: Nothing) -> Look:
    text = say(
        "How to read it: we ran {tests:,} such tests, all without any effect, each for {days} days. A false claim is a "
        "test that looked clear at one look at least, as a win or as a loss. The test above is one of them, chosen "
        "because it did.",
        tests=TESTS, days=DAYS,
    )  # fmt: skip
    return Look((text,), (lambda: tabulate_looks(nothing),))


def _show_always(nothing: Nothing) -> Look:
    text = (
        say(
            "The playbook has another interval, one that holds at every look. While users still come in, it takes that "
            "one by itself. How to read it: the same test as before, with both bands, and below it the same {tests:,} "
            "tests.",
            tests=TESTS,
        ),
        say(
            "It has a price: to show the same effect by the planned end takes {factor:.1f} times the users.",
            factor=inflate_for_looks(level=LEVEL),
        ),
    )
    shows = (lambda: plot_days(nothing, always=True), lambda: tabulate_looks(nothing, always=True))
    told = nothing.example, nothing.first_day - 1
    code = ALWAYS_CODE.format(
        difference=nothing.difference[told], error=nothing.error[told], planned=nothing.error[nothing.example, -1]
    )
    return Look(text, shows, code)


def _show_running(diagnosis: FunnelDiagnosis, running: Running) -> Look:
    text = say(
        "Now your own experiment. How to read it: in the table the difference of each metric, with the interval that "
        "holds at every look; in the chart what each day’s look showed. A metric is clear once its interval leaves "
        "out zero. The register of initiatives hopes for {points:.0f} points more of the first one.",
        points=100 * running.worth,
    )
    return Look(
        (text,),
        (lambda: tables.show_trial(diagnosis), lambda: charts.plot_sequence(diagnosis)),
        RUNNING_CODE,
    )


def _show_plan(running: Running) -> Look:
    text = say(
        "It began on {start}. Nobody wrote down how many users a gain of {points:.0f} points takes. So we plan it now, "
        "from the control’s rate and the users who come, without a look at the difference: users and days to see such "
        "a gain, if it is there, in {power:.0%} of tests. Days hold if as many enter each day as so far "
        "({per_day:.0f}), and count until the last user’s window is over. By now {count:,} users have had theirs.",
        start=running.start.isoformat(), points=100 * running.worth, power=running.once.power,
        per_day=running.users_per_day, count=running.row["users_count"] + running.row["control_users_count"],
    )  # fmt: skip
    base = float(running.row["control_value"])
    code = PLAN_CODE.format(base=base, gain=running.worth / base, users_per_day=running.users_per_day)
    return Look((text,), (lambda: _tabulate_plan(running),), code)


def _tabulate_plan(running: Running) -> TableView:
    rows = []
    for name, plan in ((say("one look at the end"), running.once), (say("looking all the time"), running.always)):
        size = plan.sizes.iloc[0]
        end = running.start + dt.timedelta(days=int(size["total_days"]))
        users, days = f"{size['total_users_count']:,.0f}", f"{size['total_days']:.0f}"
        rows.append({"looks": name, "users": users, "days": days, "end": end.isoformat()})
    labels = {"looks": say("Decided by"), "users": say("Users of both"), "days": say("Days"), "end": say("Until")}
    return make_table(pd.DataFrame(rows), labels, name="lesson-plan", numeric=("users", "days"))


def _ask_outside(nothing: Nothing) -> Question:
    days = int(nothing.outside[nothing.example].sum())
    mistakes = (
        Mistake(1, say("That is the day on which he stopped. Go on to the last day.")),
        Mistake(0, say("That is how it ended. Asked is how often it looked clear on the way.")),
        Mistake(nothing.first_day, say("That is which day he wrote on, not how many days looked like it.")),
        Mistake(DAYS, say("The line is off zero nearly always; clear is a day whose whole band is off zero.")),
    )
    return Question(
        (say("On how many of the {count} days did it look clear, though there was nothing to see?", count=DAYS),),
        Number(days, 0.4, say("days"), mistakes),
        (say("A day looks clear when zero lies outside of the band."), say("Count the marked points.")),
        (
            say(
                "{days} days, from day {first} on. Later users brought the difference back to {last:+.1f} points. Who "
                "stops on the first clear day never gets to see that.",
                days=days, first=nothing.first_day, last=100 * nothing.difference[nothing.example, -1],
            ),
        ),
    )  # fmt: skip


def _ask_times(nothing: Nothing) -> Question:
    claims = nothing.count_claims(DAYS)
    mistakes = (
        Mistake(
            DAYS,
            say(
                "That would be adding the looks up. But most users of one look were in the look before: the looks are "
                "alike, and each adds less."
            ),
        ),
        Mistake(1, say("So it is for somebody who looks once. He looks every day.")),
        Mistake(100 * claims, say("That is how many of 100 tests. Asked is how many times the promise.")),
        Mistake(100 * (claims - LEVEL), say("That is the difference in points. Divide instead.")),
        Mistake(nothing.count_claims(4) / LEVEL, say("That is for somebody who looks once a week.")),
    )
    return Question(
        (say("A test at {level:.0%} promises that no more than {level:.0%} of tests without any effect look clear. How "
             "many times as many look clear to somebody who looks every day?", level=LEVEL),),
        Number(claims / LEVEL, 0.6, say("times"), mistakes),
        (say("Which row of the table is his?"), say("Its share of false claims, over the share that was promised.")),
        (
            say(
                "{claims:.1%} of all tests without an effect, in place of {level:.0%}. Nobody "
                "cheated: somebody looked, and stopped when it looked good.", claims=claims, level=LEVEL,
            ),
        ),
    )  # fmt: skip


def _ask_holds(nothing: Nothing) -> Question:
    bands = say("Compare the two bands in the chart, day by day.")
    column = say("Read the last column of the table from top to bottom.")
    price = say("Read again what it says of the price.")
    width = (
        Option("narrow", say("narrower"), bands), Option("same", say("as wide"), bands), Option("wide", say("wider"))
    )  # fmt: skip
    claims = (
        Option("never", say("it never leaves out zero"), column),
        Option("grows", say("it leaves out zero in more of them than promised, the more often somebody looks"), column),
        Option("holds", say("it leaves out zero in no more of them than promised, however often somebody looks")),
    )
    effect = (
        Option("same", say("as many users as before"), price),
        Option("more", say("more users than before")),
        Option("fewer", say("fewer users than before, for one may stop early"), price),
    )
    return Question(
        (say("What does the interval for every look do? Complete the sentence."),),
        Sentence(
            say("It is {width} than the interval for one look; in tests without an effect {claims}; to show a real "
                "effect by the planned end takes {effect}."),
            {"width": Choice(width), "claims": Choice(claims), "effect": Choice(effect)},
        ),
        (
            say("One gap is answered by the chart, one by the table, one by the text above them."),
            say("In the table: does the number in the last column rise above {level:.0%}?", level=LEVEL),
        ),
        (
            say(
                "With daily looks it made {always:.1%} false claims, against {once:.1%}. It does not forbid looking; "
                "it makes looking honest.",
                always=nothing.count_claims(DAYS, always=True), once=nothing.count_claims(DAYS),
            ),
        ),
    )  # fmt: skip


def _ask_state(running: Running) -> Question:
    options = (
        Option(
            "loses",
            say("It loses: the difference is below zero"),
            say("The line is below zero, the band is on both sides of it. As much could come by chance."),
        ),
        Option(
            "none",
            say("It changes nothing: the interval holds zero"),
            say(
                "It holds zero, but also the gain that was hoped for. To see no effect yet is not to see that there is "
                "none."
            ),
        ),
        Option("open", say("Nothing yet: a loss, no effect and the hoped-for gain are all still possible")),
        Option(
            "guard",
            say("It does harm: complaints rose"),
            say("Look at the interval of the complaints: it holds zero as well."),
        ),
    )
    return Question(
        (say("What does your running experiment say so far?"),),
        Choice(options),
        (
            say("Do not look at the middle of the interval, but at its ends."),
            say("Which of these three lie within it: a loss, zero, a gain of {points:.0f} points?",
                points=100 * running.worth),
        ),
        (say("{points} points: from a large loss to a large gain all is possible, so as good as nothing is known.",
             points=running.format_points()),),
    )  # fmt: skip


def _ask_decision(running: Running) -> Question:
    day = running.day.isoformat()
    options = (
        Option(
            "stop",
            say("Stop it: it is behind, and every day costs orders"),
            say("It is behind by no more than chance can do. You would throw away what may be a gain."),
        ),
        Option(
            "ship",
            say("Switch it on: on some days it was ahead"),
            say("Choosing the day that one likes is looking until it fits. Those days’ bands held zero too."),
        ),
        Option(
            "peek",
            say("Look every morning with the usual interval, and stop on the first clear day"),
            say("That is what the head of growth did with the green button."),
        ),
        Option(
            "wait",
            say(
                "Let it run and decide on {day}, the day of the plan; until then only watch that nothing breaks",
                day=day,
            ),
        ),
        Option(
            "extend",
            say("Let it run until it is clear, however long that takes"),
            say("Without a last day a test ends when somebody likes the result, or never."),
        ),
    )
    return Question(
        (say("Monday’s meeting wants a decision on {name}. What do you say?", name=running.trial.result.experiment),),
        Decision(Choice(options)),
        (
            say("Which gain was hoped for, and how many users does it take to see it?"),
            say("Compare the users who have had their window with those that were planned."),
        ),
        (
            say("On {day} there is one look, and the usual interval is right. Before that only an interval for every "
                "look may end it: if it leaves out zero, or a guardrail breaks, one may stop.", day=day),
            say("If on that day it is still not clear, that is a result as well: a gain as large as was hoped for "
                "would have shown in {power:.0%} of such tests.", power=running.once.power),
            say("If fewer users came by then than planned, move the day by their number, never by the result."),
        ),
    )  # fmt: skip

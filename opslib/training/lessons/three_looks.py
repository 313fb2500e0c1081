"""Lesson: did it work; three looks, and what they are worth without a control or without enough users."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from opslib.data.operations import InitiativeSettings
from opslib.data.periods import DAY
from opslib.decide.crisis.investigation import investigate_voice
from opslib.decide.initiatives import list_initiatives
from opslib.decide.series import SeriesReader
from opslib.decide.verdicts.verdict import Verdict, judge_initiative
from opslib.errors import InputError
from opslib.language import join_clauses, say
from opslib.present.crisis import charts
from opslib.present.verdicts import tables
from opslib.present.verdicts.words import name_look
from opslib.training.answers import Choice, Decision, Number, Option, Sentence
from opslib.training.curriculum import name_lesson
from opslib.training.judgement import Mistake
from opslib.training.plan import LessonPlan, Look, Question

if TYPE_CHECKING:
    from opslib.data.source import Data

NAME = "three_looks"
CODE = """from opslib.present.verdicts import tables

review = opslib.review_quarter(data)
tables.show_looks(review.operations.verdicts)"""
VOICE_CODE = """from opslib.present.crisis import charts

voice = opslib.investigate_voice(data)
charts.plot_complaints(voice)"""
# The sample company's initiatives, and why each is judged as it is.
WANTED = {
    "Onboarding checklist": "core_improved",
    "More budget for social": "gain_too_small",
    "Faster answers to complaints": "unclear",
    "One-page checkout": "immature",
}


def write_lesson(data: Data) -> LessonPlan:
    """Write the lesson with the numbers of a company.

    Raises:
        InputError: the company has not these initiatives, or they came out otherwise.
    """
    worked, budget, service, checkout = judge_wanted(data)
    return LessonPlan(
        name=NAME,
        title=name_lesson(NAME),
        minutes=35,
        situation=_tell(data, budget, service, checkout),
        steps={
            "first": _show_first(worked),
            "points": _ask_points(worked),
            "looks": _ask_looks(worked),
            "others": _show_others(budget, service, checkout),
            "budget": _ask_budget(budget),
            "split": _ask_split(checkout),
            "days": _show_days(data, service),
            "before": _ask_before(data, service),
            "decision": _ask_decision(checkout),
        },
        closing=(
            say("Three looks, in this order: did the core metric rise, did users behave otherwise, what do they say."),
            say("“Not enough data” is not “no effect”: the one waits for users, the other is ruled out."),
            say("Before and after alone prove nothing. Who was not reached, and what did they do meanwhile?"),
        ),
    )


def judge_wanted(data: Data) -> list[Verdict]:
    """Judge the initiatives of the lesson."""
    register: dict[str, InitiativeSettings] = {i.name: i for i in list_initiatives(data.playbook).initiatives}
    reader = SeriesReader(data)
    verdicts = [judge_initiative(reader, register[name]) for name in WANTED if name in register]
    if [verdict.reason for verdict in verdicts] != list(WANTED.values()):
        raise InputError(f"{NAME}: this lesson needs the initiatives of the sample company.")
    return verdicts


def _tell(data: Data, budget: Verdict, service: Verdict, checkout: Verdict) -> tuple[str, ...]:
    new = next(look for look in budget.looks if look.metric == "new_users_count")
    assert service.core.with_it is not None and service.core.without_it is not None
    assert checkout.core.with_it is not None and checkout.core.without_it is not None
    return (
        say(
            "{company}, the morning after the quarter. The head of marketing: “{budget} works, we have {more:.1f} more "
            "new users a day.” The head of service: “{service} works too: satisfaction was {before:.1%}, it is "
            "{after:.1%}.” The head of product: “{checkout} does nothing: {with_it:.1%} against {without:.1%}. Let us "
            "stop it.”",
            company=data.playbook.company.name, budget=budget.initiative.name, more=new.effect,
            service=service.initiative.name, before=service.core.without_it.value, after=service.core.with_it.value,
            checkout=checkout.initiative.name, with_it=checkout.core.with_it.value,
            without=checkout.core.without_it.value,
        ),
        say(
            "You are to say of each whether it works. The handbook has three looks: is the core metric up, do users "
            "behave better, do they say better things. The playbook adds how strong the evidence is, and guardrails "
            "that must not get worse."
        ),
    )  # fmt: skip


def _show_first(worked: Verdict) -> Look:
    text = say(
        "How to read it: first one initiative that is over, {name}: half of the new users, drawn by lot, got it. A "
        "line of the table is one metric: with it, without it, the effect with its 95% interval. “By chance alone” is "
        "how often chance makes so large an effect; of behaviour and feedback it is reckoned over all their lines "
        "together, since one of many moves easily. Below 5% the playbook takes an effect for real.",
        name=worked.initiative.name,
    )  # fmt: skip
    return Look((text,), (lambda: tables.show_looks(worked),), CODE)


def _show_others(*verdicts: Verdict) -> Look:
    text = say(
        "How to read it: the other three in the same table. A difference in differences holds the users reached "
        "against users who were not; before/after only has nobody to hold against. An interval tells which effects "
        "still fit the data: all between its two ends. While a test runs its interval is wider, so that it holds "
        "whenever somebody looks."
    )
    promised = join_clauses(
        say("{name}: {points:.1f} points", name=v.initiative.name, points=100 * (v.core.worth or 0)) for v in verdicts
    )
    worth = say("The least rise of the core metric that would have been worth having: {promised}.", promised=promised)
    return Look((text, worth), (lambda: tables.show_looks(verdicts),))


def _show_days(data: Data, service: Verdict) -> Look:
    text = say(
        "How to read it: above, the share of active users who complained, by day, with the line of the crisis rule; "
        "below, the share of answers with a 4 or 5, by week. {name} began on {day}.",
        name=service.initiative.name, day=service.initiative.start,
    )  # fmt: skip
    voice = cache(lambda: investigate_voice(data))
    shows = (lambda: charts.plot_complaints(voice()), lambda: charts.plot_satisfaction(voice()))
    return Look((text,), shows, VOICE_CODE)


def _ask_points(worked: Verdict) -> Question:
    core = worked.core
    assert core.effect is not None and core.with_it is not None and core.without_it is not None
    other = next(look for look in worked.looks if look.role == "behaviour")
    mistakes = (
        Mistake(
            round(100 * core.effect / float(core.without_it.value or 1), 6),
            say("That is per cent of the rate without it. Points are the difference of the two rates."),
        ),
        Mistake(
            round(100 * float(core.with_it.value or 0), 6),
            say("That is the rate of those who had it. Some come back without it, too."),
        ),
        Mistake(
            round(100 * float(other.effect or 0), 6), say("That is another metric. Take the line of the core metric.")
        ),
        Mistake(
            round(100 * float(worked.initiative.expected_change or 0), 6),
            say("That is what was promised. Asked is what came."),
        ),
    )  # fmt: skip
    return Question(
        (
            say(
                "By how many percentage points did {name} raise its core metric, {metric}?",
                name=worked.initiative.name, metric=name_look(core.metric),
            ),
        ),
        Number(round(100 * core.effect, 6), 0.1, say("points"), mistakes),
        (
            say("The core metric is the first line of the table."),
            say("With it less without it."),
        ),
        (
            say(
                "{with_it:.1%} of {with_count:,.0f} users against {without:.1%} of {without_count:,.0f}: {low:+.1f} "
                "to {high:+.1f} points. The lot made both sides alike but for chance, so that the difference is the "
                "effect.",
                with_it=core.with_it.value, with_count=core.with_it.denominator, without=core.without_it.value,
                without_count=core.without_it.denominator, low=100 * float(core.low or 0),
                high=100 * float(core.high or 0),
            ),
        ),
    )  # fmt: skip


def _ask_looks(worked: Verdict) -> Question:
    core = Choice(
        (
            Option("up", say("rose beyond chance")),
            Option("same", say("may not have moved"), say("Its interval lies far from zero.")),
            Option("down", say("got clearly lower"), say("Look at the sign of the first line.")),
        )
    )
    behaviour = Choice(
        (
            Option("all", say("got better in every line"),
                   say("Of several lines one moves easily by chance. Which of them stay below 5% over all together?")),
            Option("days", say("got better in days active, the rest is open")),
            Option("none", say("did not move in any line"), say("One line stays below 5% even over all together.")),
        )
    )  # fmt: skip
    feedback = Choice(
        (
            Option("worse", say("got clearly worse"), say("The value is a little lower, and its interval is wide.")),
            Option("open", say("does not tell, with so few answers")),
            Option("good", say("got clearly better"), say("See the interval of satisfaction: how far below zero does "
                                                          "it reach?")),
        )
    )  # fmt: skip
    verdict = Choice(
        (
            Option("open", say("one needs more data"),
                   say("The core decides; the test is over, and no guardrail is clearly hurt.")),
            Option("no", say("it did not work"), say("What is open in a second look does not undo a core that moved.")),
            Option("works", say("it works")),
        )
    )  # fmt: skip
    return Question(
        (say("Write the verdict of {name} by the three looks.", name=worked.initiative.name),),
        Sentence(
            say("The core metric {core}; behaviour {behaviour}; feedback {feedback}; so {verdict}."),
            {"core": core, "behaviour": behaviour, "feedback": feedback, "verdict": verdict},
        ),
        (
            say("Go line by line: does the interval hold zero, and is “by chance alone” below 5%?"),
            say("The core metric decides, as long as nothing else clearly speaks against it."),
        ),
        (
            say("A core that rose in a test, and nothing that clearly got worse: that is enough. Behaviour and "
                "feedback need not all be clear; clearly worse they may not be."),
        ),
    )  # fmt: skip


def _ask_budget(budget: Verdict) -> Question:
    core = budget.core
    options = (
        Option(
            "users", say("It works: there are more new users a day"),
            say("More came, that is true. The core metric is who stays, and one who stays costs more than before."),
        ),
        Option(
            "open", say("Not enough data: the interval of the core metric holds zero"),
            say("Zero fits, just. What does not fit any more? Hold the upper end against the rise worth having."),
        ),
        Option("no", say("It does not work: every rise worth having lies outside the interval")),
        Option(
            "before", say("One cannot tell: it is before and after only"),
            say("The core metric is held against channels that got no more money. Look at its evidence."),
        ),
    )  # fmt: skip
    return Question(
        (say("What is the verdict on {name}?", name=budget.initiative.name),),
        Choice(options),
        (
            say("What was the money to raise: how many come, or how many stay?"),
            say("Compare the upper end of the interval with the least rise that would have been worth having."),
        ),
        (
            say(
                "{effect:+.1f} points [{low:+.1f} to {high:+.1f}], where {worth:.1f} were wanted; and a user who "
                "stays costs more. That is more than “not clear”: as far as the other channels tell what would have "
                "come anyway, the wanted rise is ruled out.",
                effect=100 * float(core.effect or 0), low=100 * float(core.low or 0), high=100 * float(core.high or 0),
                worth=100 * float(core.worth or 0),
            ),
        ),
    )  # fmt: skip


def _ask_split(checkout: Verdict) -> Question:
    core = checkout.core
    options = (
        Option(
            "none", say("It has no effect: the interval holds zero"),
            say("So it does, and much else. Which gains and losses does it hold beside zero?"),
        ),
        Option(
            "worse", say("It does harm: fewer of those with it finished"),
            say("By a little. With so few users chance alone makes larger differences."),
        ),
        Option("open", say("Nobody knows yet: a gain worth having and a large loss both fit")),
        Option(
            "errors", say("It does harm: the error rate rose"),
            say("Errors of the whole site, before against after, on both sides of the test alike. One bad day can "
                "do that. Count errors by side before you blame one."),
        ),
    )  # fmt: skip
    return Question(
        (say("The head of product says that {name} does nothing. What do the numbers say?",
             name=checkout.initiative.name),),
        Choice(options),
        (
            say("Take the line of the core metric: from where to where does the interval reach?"),
            say("Is the least rise worth having inside it? Is a loss as large inside it?"),
        ),
        (
            say(
                "From {low:+.1f} to {high:+.1f} points with {users:,.0f} and {others:,.0f} users; {waiting:,} more "
                "have not had their days. “Nothing seen” and “nothing there” are two things.",
                low=100 * float(core.low or 0), high=100 * float(core.high or 0),
                users=core.with_it.denominator if core.with_it else 0,
                others=core.without_it.denominator if core.without_it else 0, waiting=core.immature_count,
            ),
        ),
    )  # fmt: skip


def _ask_before(data: Data, service: Verdict) -> Question:
    options = (
        Option(
            "small", say("The rise is too small to matter"),
            say("As a number it would be well worth having. The doubt is where it comes from."),
        ),
        Option("wave", say("The days before hold a wave of complaints that was over when it began")),
        Option(
            "lower", say("Satisfaction is not what counts, only revenue is"),
            say("It was set as the core metric beforehand. One does not change it afterwards."),
        ),
        Option(
            "season", say("In summer users always complain less"),
            say("That may be, and the chart cannot show it. Look at what it does show, right before the start."),
        ),
    )  # fmt: skip
    return Question(
        (
            say(
                "Since {name} satisfaction is higher than in as many days before. Why does that prove nothing, first "
                "of all?",
                name=service.initiative.name,
            ),
        ),
        Choice(options),
        (
            say("Before and after: what was special about “before”?"),
            say("Find the start in the chart of complaints, and look at the days just before it."),
        ),
        (
            say(
                "After a peak things get better by themselves: whatever begins then looks like the cure. Nothing of "
                "this says that it does not work. To know, send every second complaint, drawn by lot, to the fast "
                "desk from {day} on.",
                day=data.as_of + DAY,
            ),
        ),
    )  # fmt: skip


def _ask_decision(checkout: Verdict) -> Question:
    core = checkout.core
    options = (
        Option(
            "stop",
            say("Stop it: it shows no effect"),
            say("It shows nothing yet, either way. You would throw away what may be a good page."),
        ),
        Option(
            "all",
            say("Give it to everybody: no harm is proved"),
            say("A large loss still fits the data, and without a control you would never see it."),
        ),
        Option(
            "soon",
            say("Judge it next week, when those in it now have had their days"),
            say("Then {waiting:,} users more are counted. How many more does it take?", waiting=core.immature_count),
        ),
        Option(
            "run",
            say(
                "Count the errors by side now; unless the new page makes them, let the test run until it has its users"
            ),
        ),
    )
    need = say(
        "To see a change of {worth:.1f} points four times in five it takes about {users:,} more users, {days} more "
        "days at today's pace. It is to be watched until {until}.",
        worth=100 * float(core.worth or 0), users=core.more_users_count or 0, days=core.more_days or 0,
        until=checkout.initiative.last_day,
    )  # fmt: skip
    return Question(
        (need, say("What do you do with {name}?", name=checkout.initiative.name)),
        Decision(Choice(options)),
        (
            say("Which mistake costs most: a good page thrown away, a bad one for everybody, or some months of test?"),
            say("Which option leaves you with an answer?"),
        ),
        (
            say("The test costs little while it runs: half of the users have the old page as before. The error rate "
                "of the whole site is up; only a count by side tells whether the page has to do with it, and a clear "
                "harm ends the test."),
            say("If that is too long, test something larger, or a step that more users reach."),
        ),
    )  # fmt: skip

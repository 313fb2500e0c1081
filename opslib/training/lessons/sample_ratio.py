"""Lesson: an experiment whose split is not as planned looks like a win."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from opslib.language import say
from opslib.measure.estimate import Change, compare_estimates
from opslib.measure.experiment.split import DOUBT, MISMATCH
from opslib.present.display import TableView
from opslib.present.parts import format_probability, format_range
from opslib.present.tables import make_table
from opslib.training.answers import Choice, Decision, Group, Number, Option, Sentence
from opslib.training.curriculum import name_lesson
from opslib.training.judgement import Mistake
from opslib.training.lessons.broken_split import (
    BROKEN,
    CHANNELS,
    COLUMNS,
    NEW,
    OLD,
    PLATFORMS,
    RUNS,
    Broken,
    find_clear_share,
    simulate_experiment,
)
from opslib.training.plan import LessonPlan, Look, Question

if TYPE_CHECKING:
    from opslib.data.source import Data

NAME = "sample_ratio"
CODE = """from opslib.measure.experiment.split import check_split

check = check_split({users}, {plan})
check.verdict, check.p_value"""
PLACES_CODE = "diagnosis = opslib.diagnose_funnel(data)\ndiagnosis.trial.result.split.variants"


def write_lesson(data: Data) -> LessonPlan:
    """Write the lesson; its experiment is simulated, for the sample company has none that is broken."""
    broken = simulate_experiment()
    situation = (
        say(
            "Thursday, half past four. The product manager writes to everybody: “The new product page wins! Of those "
            "who saw it {now:.1%} bought within 7 days, of those with the old page {before:.1%}: {points} points, "
            "clear at 5%. We switch it on for everybody tonight.”",
            now=broken.measure(NEW).value, before=broken.measure(OLD).value, points=_format_points(broken.change),
        ),
        say("The experiment was planned half and half. You have an hour to say whether the page may go live."),
    )  # fmt: skip
    return LessonPlan(
        name=NAME,
        title=name_lesson(NAME),
        minutes=25,
        situation=situation,
        steps={
            "read_out": _show_read_out(broken),
            "share": _ask_share(broken),
            "check": _show_check(broken),
            "chance": _ask_chance(),
            "places": _show_places(broken),
            "where": _ask_where(broken),
            "log": _show_log(broken),
            "why": _ask_why(),
            "decision": _ask_decision(broken),
        },
        closing=(
            say(
                "Before any effect is read: are the arms as large as planned? A chance below {mismatch:.1%} ends the "
                "reading.", mismatch=MISMATCH,
            ),
            say("A split that is a point off can make a win of nothing: those missing are seldom a fair sample."),
            say("A broken split is a trace. Follow it to where users get lost, mend that, and start again."),
        ),
    )  # fmt: skip


def _format_points(change: Change) -> str:
    return format_range(change.difference, change.low, change.high, form="+.1f", scale=100)


def _show_read_out(broken: Broken) -> Look:
    text = say(
        "How to read it: what the product manager saw. Users count once their exposure is logged, that is once the "
        "page tells us that it was shown. The experiment was simulated for this lesson, so that we know the truth. We "
        "did not take just any run: of {runs:,} such runs, {share:.0%} looked as clear a win as this one, the others "
        "did not.",
        runs=RUNS, share=find_clear_share(),
    )  # fmt: skip
    return Look((text,), (lambda: _tabulate_read_out(broken),))


def _tabulate_read_out(broken: Broken) -> TableView:
    rows = []
    for variant in (OLD, NEW):
        rate = broken.measure(variant)
        values = {"variant": variant, "users": f"{rate.denominator:,}", "bought": f"{rate.numerator:,}"}
        rows.append(values | {"rate": format_range(rate.value, rate.low, rate.high, form=".1%")})
    labels = {
        "variant": say("Variant"), "users": say("Users"), "bought": say("Bought"), "rate": say("Share who bought [95%]")
    }  # fmt: skip
    note = say("Difference: {points} points. Planned: half and half.", points=_format_points(broken.change))
    numeric = ("users", "bought", "rate")
    return make_table(pd.DataFrame(rows), labels, name="lesson-read-out", numeric=numeric, note=note)


def _show_check(broken: Broken) -> Look:
    text = say(
        "How to read it: the playbook checks every split before it reads anything. Expected is what the plan gives of "
        "all users seen. The chance says how often a split that runs as planned comes out at least so uneven. Below "
        "{doubt:.0%} the check says so; below {mismatch:.1%} it concludes nothing of the experiment.",
        doubt=DOUBT, mismatch=MISMATCH,
    )  # fmt: skip
    users = {variant: int(broken.measure(variant).denominator) for variant in (OLD, NEW)}
    code = CODE.format(users=users, plan=dict.fromkeys(users, 0.5))
    return Look((text,), (lambda: _tabulate_check(broken),), code)


def _tabulate_check(broken: Broken) -> TableView:
    frame = broken.split.variants
    shown = pd.DataFrame({"variant": frame["variant"]})
    shown["users"] = [f"{n:,}" for n in frame["users_count"]]
    shown["expected"] = [f"{n:,.0f}" for n in frame["expected_count"]]
    ends = frame[["share_rate", "share_low", "share_high"]].itertuples(index=False)
    shown["share"] = [format_range(*row, form=".1%") for row in ends]
    labels = {
        "variant": say("Variant"), "users": say("Users"), "expected": say("Expected"), "share": say("Share [95%]")
    }  # fmt: skip
    note = say("Chance of a split so uneven: {chance}.", chance=format_probability(broken.split.p_value or 0.0))
    numeric = ("users", "expected", "share")
    return make_table(shown, labels, name="lesson-split", numeric=numeric, note=note)


def _show_places(broken: Broken) -> Look:
    text = say(
        "How to read it: the same check for each group of users. A group explains the mismatch if its own chance is "
        "tiny, and the split of everybody else without it fits the plan."
    )
    return Look((text,), (lambda: _tabulate_places(broken),), PLACES_CODE)


def _tabulate_places(broken: Broken) -> TableView:
    frame = broken.split.where.sort_values(["dimension", "value"])
    # The search names the arm furthest from its plan; a reader wants the same arm in every row.
    share = [s if v == NEW else 1 - s for s, v in zip(frame["share_rate"], frame["variant"], strict=True)]
    shown = pd.DataFrame({"group": [f"{d}:{v}" for d, v in zip(frame["dimension"], frame["value"], strict=True)]})
    shown["users"] = [f"{n:,}" for n in frame["users_count"]]
    shown["share"] = [f"{s:.1%}" for s in share]
    for column in ("p_value", "rest_p_value"):
        shown[column] = [format_probability(p) for p in frame[column]]
    labels = {
        "group": say("Group"), "users": say("Users"), "share": say("Share with {variant}", variant=NEW),
        "p_value": say("Chance of its own split"), "rest_p_value": say("Chance of everybody else’s split"),
    }  # fmt: skip
    return make_table(shown, labels, name="lesson-places", numeric=tuple(labels)[1:])


def _show_log(broken: Broken) -> Look:
    phones, others = broken.measure(OLD, old_phone=True), broken.measure(OLD, old_phone=False)
    text = (
        say(
            "An engineer looks into the crash log of {platform}: on old phones the new page crashes before it can tell "
            "that it was shown. The log has {count:,} such users. Nobody with the old page is in it.",
            platform=BROKEN, count=broken.lost_count,
        ),
        say(
            "What do users with such a phone buy? With the old page, {phones:.1%} of the {phones_count:,} users with "
            "old phones bought, and {others:.1%} of the other {others_count:,}.",
            phones=phones.value, phones_count=int(phones.denominator),
            others=others.value, others_count=int(others.denominator),
        ),
        say("How to read the table: the share who bought, by platform. Where no users are missing, compare the pages."),
    )  # fmt: skip
    return Look(text, (lambda: _tabulate_platforms(broken),))


def _tabulate_platforms(broken: Broken) -> TableView:
    rows = []
    for platform in PLATFORMS:
        before, now = broken.measure(OLD, platform=platform), broken.measure(NEW, platform=platform)
        row = {"platform": platform, "points": _format_points(compare_estimates(now, before))}
        for variant, rate in ((OLD, before), (NEW, now)):
            row[variant] = say("{rate} of {count:,.0f}", rate=f"{rate.value:.1%}", count=rate.denominator)
        rows.append(row)
    labels = {"platform": say("Platform"), OLD: OLD, NEW: NEW, "points": say("Difference in points [95%]")}
    return make_table(pd.DataFrame(rows), labels, name="lesson-platforms", numeric=(OLD, NEW, "points"))


def _ask_share(broken: Broken) -> Question:
    old, new = (broken.measure(v).denominator for v in (OLD, NEW))
    mistakes = (
        Mistake(100 * new / old, say("That is one arm over the other. A share is of all users in the experiment.")),
        Mistake(50, say("That was the plan. Asked is what came.")),
        Mistake(100 * old / (old + new), say("That is the other arm’s share.")),
    )
    return Question(
        (
            say("First the split, then the effect. Of 100 users in the experiment, how many are in {variant}? One "
                "decimal, please.", variant=NEW),
        ),
        Number(100 * broken.share_rate, 0.1, "%", mistakes),
        (
            say("Only the column of users matters here; what they bought comes later."),
            say("This arm’s users, over the users of both arms together."),
        ),
        (
            say("{new:,} of {total:,} users. It looks nearly like a half. Whether it is near enough depends on how "
                "many users there are.", new=int(new), total=int(old + new)),
        ),
    )  # fmt: skip


def _ask_chance() -> Question:
    options = (
        Option(
            "near", say("Nothing: with users drawn by lot, a point more or less is usual"),
            say("With a few hundred users that would be so. The more users, the nearer to the plan a lot comes: the "
                "interval of the share does not reach the plan."),
        ),
        Option("broken", say("Hardly a coincidence: something decides who is counted, besides the lot")),
        Option(
            "effect", say("The new page works: so small a chance proves the win"),
            say("This chance is about how many users each arm has. It does not look at what they bought."),
        ),
        Option(
            "disliked", say("Users like the new page less, and more of them leave it"),
            say("Somebody who leaves was still shown the page, and counts. Missing are those who were never counted."),
        ),
    )  # fmt: skip
    return Question(
        (say("What does the check of the split tell?"),),
        Choice(options),
        (
            say("The chance answers: if the lot alone had divided them, how often would we see this?"),
            say("Compare it with the limit below which the playbook concludes nothing."),
        ),
        (
            say(
                "Of {count:,.0f} experiments that are split as planned, fewer than one on average looks like this. It "
                "is far likelier that users get lost on the way. This is called a sample-ratio mismatch, SRM.",
                count=1 / MISMATCH,
            ),
        ),
    )


def _ask_where(broken: Broken) -> Question:
    place = broken.split.where.iloc[0]
    right = {str(place["dimension"]): str(place["value"])}
    values = {"platform": list(PLATFORMS), "channel": list(CHANNELS)}
    reason = say("Without these users the rest would still not be split as planned: read the last column.")
    others = [{column: value} for column in COLUMNS for value in values[column] if {column: value} != right]
    narrow = say("The table has no such group, and every channel lacks some: one column is enough.")
    mistakes = [Mistake(other, reason) for other in others]
    mistakes += [Mistake(right | {"channel": value}, narrow) for value in values["channel"]]
    return Question(
        (say("Among which users are the missing? Name the group that explains the mismatch."),),
        Group(right, values, tuple(mistakes)),
        (
            say("In one column every group lacks some users. In the other only one does: which column is it?"),
            say("Look for the group without which everybody else is split well: a large chance in the last column."),
        ),
        (
            say(
                "Of its {count:,} users {share:.1%} are in {variant}. The split of everybody else fits the plan: "
                "chance alone makes it at least so uneven in {rest:.0%} of cases.",
                count=int(place["users_count"]), variant=NEW, rest=place["rest_p_value"],
                share=place["share_rate"] if place["variant"] == NEW else 1 - place["share_rate"],
            ),
        ),
    )  # fmt: skip


def _ask_why() -> Question:
    count = say("Count: which arm has fewer users than planned, and whom does the crash log hold?")
    buying = say("Read the two shares in the engineer’s note again: that of the old phones, and that of all others.")
    average = say("Take the ones with the lowest marks out of a class: what happens to its average?")
    arms = (
        Option("old", say("the old page’s users"), count),
        Option("new", say("the new page’s users")),
        Option("both", say("users of both pages alike"), count),
    )
    often = (
        Option("more", say("more often than others"), buying),
        Option("same", say("as often as others"), buying),
        Option("less", say("less often than others")),
    )
    rate = (
        Option("right", say("is right in spite of it"), average),
        Option("low", say("is lower than it should be"), average),
        Option("high", say("is higher than it should be")),
    )
    return Question(
        (say("So where does the win come from? Complete the sentence."),),
        Sentence(
            say("Missing are some of {arm}, who buy {often}; so among those who are left there the share who bought "
                "{rate}."),
            {"arm": Choice(arms), "often": Choice(often), "rate": Choice(rate)},
        ),
        (
            say("Who is in the crash log, and with which page?"),
            say("What do these users do when nothing crashes? The engineer’s note says it."),
            say("Then think of what is left: is it still a fair picture of all who were sent there?"),
        ),
        (
            say("Users who seldom buy dropped out of one arm only, so its average rises without anybody buying more."),
            say("Where nobody is missing, the pages do not differ beyond chance. We simulated two pages that are "
                "alike: there is no effect, for anybody."),
        ),
    )  # fmt: skip


def _ask_decision(broken: Broken) -> Question:
    options = (
        Option(
            "ship", say("Switch it on for everybody: the interval of the difference does not hold zero"),
            say("The interval takes the arms to be alike. These are not, and old phones would go on crashing."),
        ),
        Option(
            "trim", say("Leave out users of the larger arm by lot until both are even, then read the result"),
            say("Then the counts are even, the people are not: those missing are of one kind, those left out of all."),
        ),
        Option(
            "longer", say("Let it run another two weeks, so that the split evens out"),
            say("The page goes on crashing: twice the users, twice the missing. More data do not mend a bias."),
        ),
        Option("repair", say("Read nothing out; mend the crash and the logging, then start the experiment anew")),
        Option(
            "rest", say("Read out the platforms that are complete, and decide for all by them"),
            say("That tells something of those users only, by a rule made after looking. The others still crash."),
        ),
    )  # fmt: skip
    return Question(
        (say("The hour is over. What do you do?"),),
        Decision(Choice(options)),
        (
            say("Ask of each option: does it bring back the users who are missing?"),
            say("And: would the phones still crash tomorrow?"),
        ),
        (
            say("The {points} points are no result, however narrow their interval.", points=_format_points(
                broken.change)),
            say("Log the exposure when a user is assigned, before the page loads: then whoever crashes counts as one "
                "who did not buy. In the new run, look at the split on the first day."),
        ),
    )  # fmt: skip

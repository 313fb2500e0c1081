"""Lesson: did a campaign pay; what only those who were held out from it can tell."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from opslib.language import say
from opslib.present.verdicts import tables
from opslib.training.answers import Choice, Decision, Number, Option, Sentence
from opslib.training.curriculum import name_lesson
from opslib.training.judgement import Mistake
from opslib.training.lessons.holdout_facts import (
    PARTS,
    PER,
    HoldoutFacts,
    gather_facts,
    show_arms,
    show_halves,
    show_money,
)
from opslib.training.plan import LessonPlan, Look, Question

if TYPE_CHECKING:
    from opslib.data.source import Data

NAME = "holdout"
# The handbook's claim: “recall up 15%”.
CLAIM = 0.15
CODE = """from opslib.present.verdicts import tables

review = opslib.review_quarter(data)
tables.show_looks(review.operations.verdicts)"""


def write_lesson(data: Data) -> LessonPlan:
    """Write the lesson with the numbers of a company.

    Raises:
        InputError: no campaign with a holdout, or not one that clearly brought orders, and not clearly money.
    """
    facts = gather_facts(data)
    with_it, held = facts.users
    before, now = facts.orders["with_it", "before"], facts.orders["with_it", "first"]
    situation = (
        say(
            "{initiative} is over. The head of campaigns reports: “In the {days} days before it our users ordered "
            "{before:,} times, in its first {days} days {now:,} times: {growth:+.0%}. {coupons:,} of these orders used "
            "a coupon. And the recall worked: the share who paid is up by {paid:.0%}. Let us do it again.”",
            initiative=facts.verdict.initiative.name, days=facts.half, before=before, now=now, growth=now / before - 1,
            coupons=facts.coupon_orders,
            paid=facts.read("paying_rate", with_it=True) / facts.read("paying_rate", with_it=False) - 1,
        ),
        say(
            "The playbook has it down for {currency} {budget:,.0f}. Before it began, {held:,} of {all:,} users were "
            "drawn by lot and held out: none of its coupons, none of its messages. Nobody has looked at them yet. "
            "Your recommendation is due today.",
            currency=facts.currency, budget=facts.verdict.initiative.budget, held=held, all=with_it + held,
        ),
    )  # fmt: skip
    return LessonPlan(
        name=NAME,
        title=name_lesson(NAME),
        minutes=35,
        situation=situation,
        steps={
            "arms": _show_arms(facts),
            "before_after": _ask_before_after(facts),
            "looks": _show_looks(facts),
            "effect": _ask_effect(facts),
            "halves": _show_halves(facts),
            "brought_forward": _ask_brought_forward(facts),
            "coupons": _ask_coupons(facts),
            "points": _ask_points(facts),
            "money": _show_money(facts),
            "decision": _ask_decision(facts),
        },
        closing=(
            say("What would have come anyway is told by those who were held out, not by the days before."),
            say("Who uses a coupon chose to. Compare all who were offered it with all who were not, by lot."),
            say("Up by so much: per cent or points, of whom, and until when? Orders are not margin."),
        ),
    )


def _show_arms(facts: HoldoutFacts) -> Look:
    text = say(
        "How to read it: orders of the users who had the campaign, and of those who were held out, in the {days} days "
        "before it began, in the first {days} days and in the {days} days after these. The growth is that from the "
        "first column of orders to the second.",
        days=facts.half,
    )

    return Look((text,), (lambda: show_arms(facts),))


def _show_looks(facts: HoldoutFacts) -> Look:
    text = say(
        "How to read it: each user's value over the {days} days from the beginning, with it and without, and the "
        "effect with its 95% interval. An interval that holds zero is not clear; and of the looks beside the core, "
        "none is called clear unless it stands out among so many (column “By chance alone”, below 5%). The effect on "
        "orders and revenue is not quite the difference of the two columns: it allows for what users did before, so "
        "that less of it is chance.",
        days=facts.verdict.core.window_days,
    )
    return Look((text,), (lambda: tables.show_looks(facts.verdict),), CODE)


def _show_halves(facts: HoldoutFacts) -> Look:
    text = say(
        "How to read it: the same effect on orders, for {count:,} users, in the first {days} days and in the {days} "
        "days after. Who only buys earlier what they wanted anyway shows as more at first and fewer later.",
        count=PER, days=facts.half,
    )  # fmt: skip

    return Look((text,), (lambda: show_halves(facts),))


def _show_money(facts: HoldoutFacts) -> Look:
    users, _ = facts.users
    text = say(
        "How to read it: what the campaign did to a user's revenue and margin within {days} days, and the same for "
        "all {users:,} users who had it. Margin is after discounts and the cost of goods. The data do not tell what "
        "else was spent: take the playbook's budget for it, {currency} {budget:,.0f}, or {each:.2f} a user, "
        "discounts not in it.",
        users=users, currency=facts.currency, budget=facts.verdict.initiative.budget,
        each=facts.verdict.initiative.budget / users, days=facts.verdict.core.window_days,
    )  # fmt: skip

    return Look((text,), (lambda: show_money(facts),))


def _ask_before_after(facts: HoldoutFacts) -> Question:
    held = [facts.orders["held", part] for part in PARTS]
    options = (
        Option(
            "few", say("There are too few orders to tell anything"),
            say("So many orders more are not chance. But what made them?"),
        ),
        Option(
            "yes", say("It does show it: so large a growth has no other reason"),
            say("Then users without the campaign would not have ordered more. Look at their row."),
        ),
        Option(
            "held", say("Those held out are too few to compare with"),
            say("They are fewer; an interval says how much that matters. But only they tell what the days brought."),
        ),
        Option("season", say("Users who had no campaign ordered more in these days as well")),
    )  # fmt: skip
    return Question(
        (say("Why does the growth that the head of campaigns reports not show what the campaign did?"),),
        Choice(options),
        (
            say("What else was different in these days than in those before?"),
            say("The table has a row of users to whom nothing was sent: read it from left to right."),
        ),
        (
            say(
                "Those held out went from {before:,} to {now:,} orders ({growth:+.0%}; of so few orders only "
                "roughly), and to {later:,} in the days after: season, festival, everything that came without the "
                "campaign. Before and after counts all of it as its work.",
                before=held[0], now=held[1], later=held[2], growth=held[1] / held[0] - 1,
            ),
        ),
    )  # fmt: skip


def _ask_effect(facts: HoldoutFacts) -> Question:
    core, early = facts.verdict.core, facts.verdict.early
    assert core.effect is not None and core.high is not None and early is not None and early.effect is not None
    with_it, without = (PER * facts.read("orders_count", with_it=side) for side in (True, False))
    bare, bare_low, bare_high = (PER * x for x in facts.bare)
    mistakes = (
        Mistake(with_it, say("That is all that they ordered. Some of it would have come anyway.")),
        Mistake(without, say("That is what came without the campaign. How much more was it with it?")),
        Mistake(
            bare,
            say("That is the bare difference of the columns. The effect beside them allows for what users did before."),
        ),
        Mistake(PER * core.high, say("That is the upper end of the interval: the most that is likely, not what came.")),
        Mistake(core.effect, say("That is for a single user.")),
    )
    return Question(
        (
            say(
                "How many more orders did {count:,} users make in the {days} days because of the campaign? Take the "
                "effect in the table.",
                count=PER, days=core.window_days,
            ),
        ),
        Number(PER * core.effect, 0.6, say("additional orders"), mistakes),
        (
            say("The first row of the table: with it, without, and the effect."),
            say("The effect is told for one user: how much is it for a thousand?"),
        ),
        (
            say(
                "{effect:.1f} orders [{low:.1f} to {high:.1f}]: more than none, but it may be hardly any. Of all "
                "that {count:,} users ordered, the campaign brought {share:.0%} [{share_low:.0%} to "
                "{share_high:.0%}].",
                effect=PER * core.effect, low=PER * (core.low or 0), high=PER * core.high, count=PER,
                share=PER * core.effect / with_it, share_low=PER * (core.low or 0) / with_it,
                share_high=PER * core.high / with_it,
            ),
            say(
                "The bare difference of the columns is {bare:.1f} [{low:.1f} to {high:.1f}], and the interval holds "
                "zero. Orders are clear only once it is allowed for what users did before, which takes out part of "
                "the chance. That is fair where it is settled before anybody looks: the playbook does it for the "
                "orders of every test.",
                bare=bare, low=bare_low, high=bare_high,
            ),
        ),
    )  # fmt: skip


def _ask_brought_forward(facts: HoldoutFacts) -> Question:
    late = facts.verdict.late
    assert late is not None and late.effect is not None
    options = (
        Option(
            "all", say("All of it was only brought forward: in the end no order was won"),
            say("Read the last row: its interval lies on one side of zero."),
        ),
        Option("some", say("Some of it may have been brought forward; the effect over all days counts that already")),
        Option(
            "none", say("Nothing was brought forward, for the later days are within chance"),
            say("Within chance is not none: look how far below zero that interval reaches."),
        ),
        Option(
            "first", say("Only the first days count, for the campaign was over then"),
            say("An order that comes earlier and is missing later is no order won. Count until it could be missing."),
        ),
    )  # fmt: skip
    return Question(
        (say("Were orders only brought forward from the days after?"),),
        Choice(options),
        (
            say("Compare the sign of the first two rows, then read their intervals."),
            say("The third row holds what came first and what was missing later."),
        ),
        (
            say(
                "{effect:+.1f} orders of {count:,} users in the later days [{low:+.1f} to {high:+.1f}], an interval "
                "that holds zero: that may be so, but is not proved. What counts are all days; the first alone could "
                "promise too much.",
                effect=PER * late.effect, low=PER * (late.low or 0), high=PER * (late.high or 0), count=PER,
            ),
        ),
    )  # fmt: skip


def _ask_coupons(facts: HoldoutFacts) -> Question:
    early = facts.verdict.early
    assert early is not None and early.effect is not None
    users, _ = facts.users
    meaning = Choice(
        (
            Option(
                "effect", say("are what the campaign brought"),
                say("Some would have ordered without a coupon, at the full price. Who told you how many?"),
            ),
            Option("chosen", say("hold orders of users, too, who wanted to buy anyway")),
            Option(
                "nothing", say("show no sign of any effect"),
                say("Those held out ordered less. There is an effect; these orders only do not measure it."),
            ),
        )
    )  # fmt: skip
    compared = Choice(
        (
            Option(
                "users", say("buyers with a coupon and buyers without"),
                say("Those who use a coupon chose to. They differ in more than the coupon."),
            ),
            Option("drawn", say("everybody drawn for the campaign and everybody held out")),
            Option(
                "days", say("days with coupons and days without"),
                say("Days differ in more than coupons: that is before and after once more."),
            ),
        )
    )  # fmt: skip
    pattern = say(
        "The {count:,} orders with a coupon {meaning}; to see the effect, compare {compared}.",
        count=facts.coupon_orders, meaning="{meaning}", compared="{compared}",
    )  # fmt: skip
    return Question(
        (say("What do the orders with a coupon show? Complete the sentence."),),
        Sentence(pattern, {"meaning": meaning, "compared": compared}),
        (
            say("Who used a coupon: those whom the lot chose, or those who chose to?"),
            say("Which two groups differ in nothing but the campaign?"),
        ),
        (
            say(
                "Against those held out, the campaign brought about {effect:,.0f} orders [{low:,.0f} to {high:,.0f}] "
                "in the first {days} days, not {count:,}: about as many as the difference would have come anyway.",
                effect=early.effect * users, low=(early.low or 0) * users, high=(early.high or 0) * users,
                days=facts.half, count=facts.coupon_orders,
            ),
        ),
    )  # fmt: skip


def _ask_points(facts: HoldoutFacts) -> Question:
    look, orders = facts.find("paying_rate"), facts.find("orders_count")
    assert look.effect is not None and orders.effect is not None
    with_it, without = (facts.read("paying_rate", with_it=side) for side in (True, False))
    users, held = facts.users
    mistakes = (
        Mistake(
            round(100 * (with_it / without - 1)), say("That is per cent of the share without it. Asked are points.")
        ),
        Mistake(100 * with_it, say("That is the share with it. How much more is that than without?")),
        Mistake(100 * orders.effect, say("That is the effect on orders. Asked is the share of users who paid.")),
    )
    return Question(
        (
            say(
                "“The share who paid is up by {growth:.0%}.” By how many points is it up, with the campaign against "
                "without?",
                growth=with_it / without - 1,
            ),
        ),
        Number(100 * look.effect, 0.1, say("points"), mistakes),
        (
            say("The row of the share who paid, in the table of looks."),
            say("Points are the difference of the two shares, not their ratio."),
        ),
        (
            say(
                "From {without:.1%} of {held:,} held out to {with_it:.1%} of {users:,} [{low:+.1f} to {high:+.1f} "
                "points], and among so many looks not clear. “Recall up {claim:.0%}” in a report may mean "
                "{percent:.1f} more of a hundred users here (per cent), or {points:.0f} more (points). Always ask "
                "which, of whom, and in how many days.",
                without=without, with_it=with_it, held=held, users=users, low=100 * (look.low or 0),
                high=100 * (look.high or 0), claim=CLAIM, percent=100 * CLAIM * without, points=100 * CLAIM,
            ),
        ),
    )  # fmt: skip


def _ask_decision(facts: HoldoutFacts) -> Question:
    users, held = facts.users
    effect, low, high = (users * x for x in facts.margin)
    budget, currency = facts.verdict.initiative.budget, facts.currency
    narrower = math.sqrt((1 / users + 1 / held) / (4 / (users + held)))
    options = (
        Option(
            "again", say("Repeat it as it was: orders are clearly up"),
            say("Orders are not money. Hold the margin of all users against the budget."),
        ),
        Option(
            "all", say("Repeat it for everybody, with nobody held out: they cost orders"),
            say("They cost few orders, and without them nobody can say next time what came anyway."),
        ),
        Option("smaller", say("Repeat it only far cheaper for each user, with more users held out, and judge it by "
                              "margin")),
        Option(
            "stop", say("Stop such campaigns for good: it brought nothing"),
            say("It did bring orders. What is too dear in this form may pay in a cheaper one."),
        ),
    )  # fmt: skip
    return Question(
        (say("What do you recommend for the next campaign?"),),
        Decision(Choice(options)),
        (
            say("What is clear, and what is not: orders, revenue, margin? And which of them pays the bill?"),
            say("Which option costs less than this campaign may have brought, and tells more the next time?"),
        ),
        (
            say(
                "In margin it brought about {currency} {effect:,.0f} [{low:,.0f} to {high:,.0f}] within {days} days, "
                "against a budget of {currency} {budget:,.0f}: even the upper end falls short. That rests on the "
                "budget; if less was spent, or discounts are in it, reckon again. As far as these days tell, such a "
                "campaign may cost about {worth:.2f} a user; this one was to cost {each:.2f}.",
                currency=currency, effect=effect, low=low, high=high, budget=budget,
                worth=facts.margin[0], each=budget / users, days=facts.verdict.core.window_days,
            ),
            say(
                "Margin itself is not clear yet. With half of the same users held out, the interval of a user's "
                "effect becomes {ratio:.1f} times as narrow, and fewer users are paid for until it is.",
                ratio=narrower,
            ),
        ),
    )  # fmt: skip

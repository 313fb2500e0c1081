"""Lesson: a rate fell; because other users came (mix), or because users changed (rate)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opslib.language import say
from opslib.present.growth import tables
from opslib.training.answers import Choice, Decision, Group, Number, Option, Sentence
from opslib.training.curriculum import name_lesson
from opslib.training.judgement import Mistake
from opslib.training.lessons.mix_facts import (
    COLUMNS,
    MixFacts,
    gather_facts,
    show_finer,
    show_ours,
    show_sister,
    write_change,
)
from opslib.training.plan import LessonPlan, Look, Question
from opslib.training.values import list_values

if TYPE_CHECKING:
    from opslib.data.source import Data

NAME = "mix_or_rate"
CODE = "explanation = opslib.model_growth(data).staying.explanation"


def write_lesson(data: Data) -> LessonPlan:
    """Write the lesson with the numbers of a company.

    Raises:
        InputError: next-day retention did not change by a channel's platform and by a network.
    """
    facts = gather_facts(data)
    ours, sister = facts.explanation.overall, facts.sister.values
    added = facts.ours[facts.ours["value"] == facts.added["channel"]].iloc[0]
    situation = (
        say(
            "Quarterly review, next-day retention of new users. At {company} it went from {before:.1%} to {now:.1%}. "
            "The head of marketing says: “That is the mix. The channel {channel} now brings {share:.1%} of our new "
            "users, {share_before:.1%} before, and its users never stayed. The product is as it was.”",
            company=data.playbook.company.name, before=ours.before.value, now=ours.now.value,
            channel=facts.added["channel"], share=added["after_share_rate"], share_before=added["before_share_rate"],
        ),
        say(
            "The sister company reports the opposite: “Ours rose. Averaged over our {count} channels it went from "
            "{before:.1%} to {now:.1%}.”",
            count=len(sister), before=sister["before_rate"].mean(), now=sister["after_rate"].mean(),
        ),
        say("You have both companies' channels before you. Is either of the two right?"),
    )  # fmt: skip
    return LessonPlan(
        name=NAME,
        title=name_lesson(NAME),
        minutes=35,
        situation=situation,
        steps={
            "sister": _show_sister(facts),
            "overall": _ask_overall(facts),
            "each_channel": _ask_each_channel(facts),
            "mix": _ask_mix(facts),
            "ours": _show_ours(facts),
            "finer": _show_finer(facts),
            "split": _ask_split(facts),
            "who": _ask_who(facts),
            "causes": _show_causes(facts),
            "decision": _ask_decision(facts),
        },
        closing=(
            say("A rate of the whole is the mean of its parts, weighted by their users. Never average rates without."),
            say("Every part may rise while the whole falls (Simpson's paradox). Split first: shares or rates?"),
            say(
                "What looks like a rate in a channel may be mix one level deeper. Counts make one reading likelier; "
                "they do not prove it."
            ),
        ),
    )


def _show_sister(facts: MixFacts) -> Look:
    text = say(
        "How to read it: one row a channel of the sister company; new users of the quarter before and of this one, and "
        "how many of them came back the next day."
    )

    return Look((text,), (lambda: show_sister(facts),))


def _show_ours(facts: MixFacts) -> Look:
    text = say(
        "How to read it: the channels of {company}. “By rates” is what the change of a channel's own rate did to the "
        "whole, “by mix” what the change of its share did, both in points; together they are the change of the "
        "whole. So that nothing is left over, each is weighted with the mean of both periods; your sum above took "
        "the rates of before.",
        company=facts.data.playbook.company.name,
    )

    return Look((text,), (lambda: show_ours(facts),), f"{CODE}\nexplanation.values")


def _show_finer(facts: MixFacts) -> Look:
    text = say(
        "How to read it: the two channels that fell most, {first} by platform and {second} by network, each row with "
        "its change in points and the 95% interval. An interval that holds zero is no news.",
        first=facts.changed["channel"], second=facts.added["channel"],
    )  # fmt: skip

    return Look((text,), (lambda: show_finer(facts),))


def _show_causes(facts: MixFacts) -> Look:
    text = say(
        "How to read it: the playbook looks through all groups and names those that moved apart from everybody else "
        "by more than chance, each with its share in the change. It tells where the fall sits, not what made it."
    )
    code = "from opslib.present.growth import tables\n\ngrowth = opslib.model_growth(data)\ntables.show_causes(growth)"
    return Look((text,), (lambda: tables.show_causes(facts.model),), code)


def _ask_overall(facts: MixFacts) -> Question:
    values, overall = facts.sister.values, facts.sister.overall
    back, users = (int(values[c].sum()) for c in ("after_numerator_count", "after_count"))
    mistakes = (
        Mistake(
            100 * values["after_rate"].mean(),
            say("That is the mean of the rates: a small channel counts in it as much as a large one."),
        ),
        Mistake(
            100 * float((values["before_share_rate"] * values["after_rate"]).sum()),
            say("You weighted with the users of before. Asked are those who came now."),
        ),
        Mistake(100 * float(overall.before.value or 0), say("That is the quarter before.")),
    )
    return Question(
        (
            say(
                "Of 100 new users of the sister company now, how many came back the next day? Before, it was "
                "{before:.1%}.",
                before=overall.before.value,
            ),
        ),
        Number(100 * float(overall.now.value or 0), 0.2, "%", mistakes),
        (
            say("Each user counts once, whatever channel brought them."),
            say("Add up the users of now over all channels, and those of them who came back; divide."),
        ),
        (
            say("{back:,} of {users:,} came back. The whole fell, whatever the mean of the channels says.",
                back=back, users=users),
        ),
    )  # fmt: skip


def _ask_each_channel(facts: MixFacts) -> Question:
    values = facts.sister.values
    grew = values.iloc[int((values["after_share_rate"] - values["before_share_rate"]).argmax())]
    options = (
        Option(
            "worse", say("The channels keep their users worse than before"),
            say("Compare the two rates in each row."),
        ),
        Option(
            "one", say("One channel keeps its users worse, the others as before"),
            say("Look for a row whose second rate is lower than its first."),
        ),
        Option("shares", say("Each keeps its users a little better, but more of them come from the one that keeps "
                             "them worst")),
        Option(
            "error", say("An error in the table: a whole cannot fall while its parts rise"),
            say("It can: parts count by their users, and these moved from part to part."),
        ),
    )  # fmt: skip
    return Question(
        (say("How can the whole fall here?"),),
        Choice(options),
        (
            say("Two things make the whole: each channel's rate, and its share of the users."),
            say("Go through the rows twice: which rates fell, and which shares grew?"),
        ),
        (
            say(
                "None of the {count} rates fell; each rose a little, perhaps by chance. But {channel}, which keeps "
                "{rate:.1%}, went from {before:.1%} to {now:.1%} of all new users. This is Simpson's paradox.",
                count=len(values), channel=grew["value"], rate=grew["after_rate"], before=grew["before_share_rate"],
                now=grew["after_share_rate"],
            ),
        ),
    )  # fmt: skip


def _ask_mix(facts: MixFacts) -> Question:
    values, overall = facts.sister.values, facts.sister.overall
    before, now = float(overall.before.value or 0), float(overall.now.value or 0)
    same = float((values["after_share_rate"] * values["before_rate"]).sum())
    mistakes = (
        Mistake(100 * (now - before), say("That is the whole change: in it the rates moved as well.")),
        Mistake(100 * (now - same), say("That is the other part: what the channels' own rates did.")),
        Mistake(100 * (same - before) / before, say("That is per cent of the rate before. Asked are points.")),
        Mistake(100 * same, say("That is the rate itself. By how much does it differ from the one before?")),
    )
    return Question(
        (
            say(
                "Had each channel kept its rate of before, and only the shares were those of now: by how many points "
                "would the whole have changed? A fall is negative."
            ),
        ),
        Number(100 * (same - before), 0.15, say("points"), mistakes),
        (
            say("Take from each row one number of before and one of now."),
            say("Share of now times rate of before, added up over the channels, gives the rate that would have been."),
            say("From that rate take away the whole's rate before."),
        ),
        (
            say(
                "It would have been {same:.1%} instead of {before:.1%}: that is the mix. It is {now:.1%}, so the "
                "channels' own rates gave back {rest:.1f} points. No channel keeps its users worse: the whole fell "
                "because of where they come from.",
                same=same, before=before, now=now, rest=100 * (now - same),
            ),
        ),
    )  # fmt: skip


def _ask_split(facts: MixFacts) -> Question:
    split = facts.explanation.splits.set_index("dimension").loc["channel"]
    channel, network = facts.added["channel"], facts.added["network"]
    part = facts.find_part(channel, network)
    own = facts.ours[facts.ours["value"] == channel].iloc[0]
    amount = Choice(
        (
            Option("none", say("next to nothing"), say("Read the row “All channels”: which column has it?")),
            Option("half", say("about half"), say("Compare the two sums in the row “All channels”.")),
            Option("all", say("almost everything")),
        )
    )
    inside = Choice(
        (
            Option(
                "alike", say("the users of all networks changed alike"),
                say("Compare the networks with each other, before and now."),
            ),
            Option(
                "new", say("{network} brings many more users than before, and few of them come back", network=network),
            ),
            Option(
                "share", say("only its share of all users grew"),
                say("Its own rate fell too, by far more than chance."),
            ),
        )
    )  # fmt: skip
    pattern = say(
        "Of the fall at {company}, {amount} comes from rates within channels; in {channel}, {inside}.",
        company=facts.data.playbook.company.name, channel=channel, amount="{amount}", inside="{inside}",
    )  # fmt: skip
    return Question(
        (say("Complete the sentence with which you answer the head of marketing."),),
        Sentence(pattern, {"amount": amount, "inside": inside}),
        (
            say("First the whole, by channel: which of the two columns of points makes up the fall?"),
            say("Then {channel}, row by row: whose rate fell, and who became more?", channel=channel),
        ),
        (
            say(
                "By channel, rates made {rate:+.1f} points and the mix {mix:+.1f}; and “never stayed” was wrong: "
                "{channel} kept {own:.1%} before, all channels {whole:.1%}. Within {channel}, {network} went from "
                "{before_count:,.0f} to {count:,.0f} new users and from {before:.1%} to {now:.1%}.",
                rate=100 * split["rate_effect_rate"], mix=100 * split["mix_effect_rate"], channel=channel,
                network=network, before_count=part["before_count"], count=part["after_count"],
                before=part["before_rate"], now=part["after_rate"], own=own["before_rate"],
                whole=facts.explanation.overall.before.value,
            ),
            say(
                "So many more, and so few who stay: most likely other users come through it than before, and what "
                "looks like a rate of the channel would be mix one level deeper. The counts do not prove that. "
                "Something may have changed for all users of {network}, such as the page they land on.",
                network=network,
            ),
        ),
    )  # fmt: skip


def _ask_who(facts: MixFacts) -> Question:
    changed, added = facts.changed, facts.added
    part = facts.find_part(changed["channel"], changed["platform"])
    values = list_values(facts.data, "users", COLUMNS)
    wide = say("Part of these users stay as before. In which of them does it sit?")
    mistakes = [Mistake({column: value}, wide) for column, value in changed.items()]
    chance = say("Their interval holds zero: chance alone may have moved them.")
    mistakes += [
        Mistake(changed | {"platform": platform}, chance)
        for platform in values["platform"]
        if platform != changed["platform"]
    ]
    told = say("Those you have in your sentence already, and many more of them came than before.")
    mistakes += [Mistake({"channel": added["channel"]}, told), Mistake({"network": added["network"]}, told)]
    return Question(
        (
            say(
                "Beside {channel}: among which users did next-day retention fall although about as many came as "
                "before? Name the smallest group that holds all of it.",
                channel=added["channel"],
            ),
        ),
        Group(dict(changed), values, tuple(mistakes)),
        (
            say("Which other channel has a large number in the column “By rates”?"),
            say("In the last table, compare the rows of that channel: one of them is far off its rate before."),
        ),
        (
            say(
                "{before:.1%} of {before_count:,.0f} came back before, {now:.1%} of {count:,.0f} now. As many users "
                "as before, from the same channel and platform, who stay less: that speaks for something they met, "
                "such as a new version. It is a suspicion to follow up, no proof: a channel can send other users "
                "without sending more.",
                before=part["before_rate"], before_count=part["before_count"], now=part["after_rate"],
                count=part["after_count"],
            ),
        ),
    )  # fmt: skip


def _ask_decision(facts: MixFacts) -> Question:
    rest = facts.rest
    words = {"network": facts.added["network"], **facts.changed}
    options = (
        Option(
            "nothing", say("Nothing: other users came, and the product is as it was"),
            say("By channel the mix made hardly any of it, and in one group as many users came as before, and fewer "
                "stay."),
        ),
        Option(
            "onboarding", say("Rebuild the first day for everybody"),
            say("Outside of the two groups the rate went from {before:.1%} to {now:.1%}, by {change} points, which "
                "may be chance. Most of the fall does not sit with everybody.",
                before=rest.before.value, now=rest.now.value, change=write_change(rest)),
        ),
        Option(
            "both",
            say("Put no more money into {network} until it is known whom it brings, and find out what changed for "
                "{platform} users of {channel}", **words),
        ),
        Option(
            "stop", say("End all paid channels"),
            say("What the other parts of them moved is within chance. You would lose their users too."),
        ),
    )  # fmt: skip
    return Question(
        (say("What do you do first at {company}?", company=facts.data.playbook.company.name),),
        Decision(Choice(options)),
        (
            say("There are two findings of a different kind. Which option answers each of them?"),
            say(
                "Many more users who stay less: look at whom you bring. As many users who stay less: find out what "
                "they met."
            ),
        ),
        (
            say(
                "The two groups hold about {share:.0%} of the fall. Many more users who do not stay: that is first a "
                "matter of the budget. As many users who stay less: that is first for product and engineering. Both "
                "are the likeliest reading, to be checked before more is done. The mean over all channels tells "
                "neither.",
                share=facts.explanation.causes["share_of_change_rate"].sum(),
            ),
        ),
    )

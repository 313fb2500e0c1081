"""Lesson: more money, more new users, none more who stay; and what the last of the money bought."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opslib.language import say
from opslib.present.growth import cost_charts, cost_tables
from opslib.training.answers import Choice, Decision, Group, Number, Option
from opslib.training.curriculum import name_lesson
from opslib.training.judgement import Mistake
from opslib.training.lessons.budget_facts import COLUMNS, Story, find_story, show_groups, show_quarters
from opslib.training.plan import LessonPlan, Look, Question

if TYPE_CHECKING:
    from opslib.data.source import Data

NAME = "budget_without_users"
CODE = "growth = opslib.model_growth(data)"
CHARTS = f"from opslib.present.growth import cost_charts\n\n{CODE}\ncost_charts."


def write_lesson(data: Data) -> LessonPlan:
    """Write the lesson with the numbers of a company.

    Raises:
        InputError: no channel got more money without more users who stay, or its networks are not known.
    """
    story = find_story(data)
    return LessonPlan(
        name=NAME,
        title=name_lesson(NAME),
        minutes=30,
        situation=_tell(story),
        steps={
            "quarters": _show_quarters(story),
            "cost_of_staying": _ask_cost(story),
            "channels": _show_channels(story),
            "shift": _show_shift(story),
            "one_more": _ask_one_more(story),
            "networks": _show_groups(story),
            "who": _ask_who(story),
            "how_many": _ask_how_many(story),
            "decision": _ask_decision(story),
        },
        closing=(
            say("A new user is cheap or dear only against what stays: divide by the users who come back."),
            say("An average tells what all the money bought. Before you add some, ask what the last of it bought."),
            say("When a budget grows, look where the additional users come from: often from elsewhere than before."),
        ),
    )


def _tell(story: Story) -> tuple[str, ...]:
    return (
        say(
            "The review of the quarter. The head of marketing: “We gave {channel} {share:.0%} more money. It "
            "brought {more:,} more new users, and each of them is no dearer than before: {cac} after {cac_before}. "
            "Give us as much again next quarter.”",
            channel=story.channel, share=story.row["spend_change_rate"], more=story.more_users,
            cac=story.write(story.now["cac_amount"], 2), cac_before=story.write(story.before["cac_amount"], 2),
        ),
        say(
            "The head of operations shakes her head: “We pour water into a pool that leaks. A budget was spent, and "
            "nobody more uses the app.” You have an hour to find out who is right, and what to do with the budget."
        ),
    )  # fmt: skip


def _show_quarters(story: Story) -> Look:
    text = say(
        "How to read it: {channel} alone, {now} and the {days} days before. Cost per new user is spend over new users. "
        "Back on day 7 counts only users whose day 7 has come: of the last week's users nobody knows yet.",
        channel=story.channel, now=story.growth.scope.now.label, days=story.growth.scope.now.days,
    )  # fmt: skip
    return Look((text,), (lambda: show_quarters(story),), f"{CODE}\ngrowth.acquisition.channels.by_group")


def _ask_cost(story: Story) -> Question:
    now, before, currency = story.now, story.before, story.growth.currency
    mistakes = (
        Mistake(float(now["cac_amount"]), say("That is a new user, whether coming back or not.")),
        Mistake(float(now["spend_amount"] / now["d7_count"]),
                say("You divided all the money by those known to be back. The users of the last days cost money too, "
                    "but their day 7 has not come: use the share.")),
        Mistake(float(before["cost_per_d7_amount"]),
                say("That is the period before. Use the row below for the cost and for the share.")),
        Mistake(float(now["cac_amount"] / before["d7_rate"]),
                say("Cost of now, share of before. Both must be of the same users.")),
    )  # fmt: skip
    return Question(
        (say("What did a user of {channel} cost now who was back on day 7?", channel=story.channel),),
        Number(float(now["cost_per_d7_amount"]), 2, currency, mistakes),
        (
            say("If one of four comes back, you pay for four new users to have one who does."),
            say("Cost per new user over the share back on day 7, both of the same row."),
        ),
        (
            say(
                "{cac} over {rate:.1%} makes {cost}; before it was {before}. The new user is no dearer, the user who "
                "stays is {rise:.0%} dearer.",
                cac=story.write(now["cac_amount"], 2), rate=now["d7_rate"],
                cost=story.write(now["cost_per_d7_amount"]), before=story.write(before["cost_per_d7_amount"]),
                rise=now["cost_per_d7_amount"] / before["cost_per_d7_amount"] - 1,
            ),
        ),
    )  # fmt: skip


def _show_channels(story: Story) -> Look:
    text = say(
        "How to read it: the same for every channel, each panel with a scale of its own: what a new user costs, one "
        "active on three of the first seven days, one back on day 7, one back on day 30. These are averages over all "
        "the money of the period."
    )
    shows = (lambda: cost_charts.plot_costs(story.growth), lambda: cost_tables.show_channels(story.growth))
    return Look((text,), shows, f"{CHARTS}plot_costs(growth)")


def _show_shift(story: Story) -> Look:
    text = say(
        "How to read it: how many more users came than before, and how many more came back on day 7, with 95% "
        "intervals; in colour the channel whose spend moved. The periods hold only users whose day 7 has come and "
        "are scaled to as many days, so that the counts differ a little from those above. It is before against after: "
        "hold the channel against those whose spend hardly moved."
    )
    shows = (lambda: cost_charts.plot_budget_shift(story.growth), lambda: cost_tables.show_budget_shift(story.growth))
    return Look((text,), shows, f"{CHARTS}plot_budget_shift(growth)")


def _ask_one_more(story: Story) -> Question:
    row, now = story.row, story.now
    options = (
        Option("average", say("{amount}, as for every user who stays", amount=story.write(now["cost_per_d7_amount"])),
               say("That is the average over all money. Asked is what the additional money bought.")),
        Option("new_user", say("{amount}", amount=story.write(row["cost_per_extra_user_amount"])),
               say("That is one more new user. Whether one stays is another column.")),
        Option("all", say("{amount}", amount=story.write(row["extra_spend_amount"] / row["retained_count"])),
               say("You divided the additional money by all who came back. As many came back before it was spent.")),
        Option("none", say("It cannot be given: no clear gain in users who stay; at least {amount}",
                           amount=story.write(row["cost_per_extra_retained_low"]))),
    )  # fmt: skip
    return Question(
        (
            say("{money} more were spent on {channel}. What did one more user who stays cost, of this money alone?",
                money=story.write(row["extra_spend_amount"]), channel=story.channel),
        ),
        Choice(options),
        (
            say("The additional money is divided by the additional users, not by all."),
            say("Look at the interval of “More back on day 7”: does it hold zero?"),
        ),
        (
            say(
                "{retained:+,.0f} users back on day 7 [{low:+,.0f} to {high:+,.0f}]: no gain to be seen. On average "
                "one who stays costs {average}; of the additional money one cost {least} at the upper end of the "
                "interval, and below it more, or there is none. That takes the period before for what would have "
                "come without the money; the channels whose spend hardly moved do not speak against it.",
                retained=row["extra_retained_count"], low=row["extra_retained_low"], high=row["extra_retained_high"],
                average=story.write(now["cost_per_d7_amount"]), least=story.write(row["cost_per_extra_retained_low"]),
            ),
        ),
    )  # fmt: skip


def _show_groups(story: Story) -> Look:
    text = say(
        "How to read it: the new users of {channel} by ad network and by platform, before and now, and how many of "
        "those whose day 7 has come were back, with the change and its 95% interval; one that holds zero is within "
        "chance. Of the money only the channel's sum is known, not each network's.",
        channel=story.channel,
    )
    code = (
        "from opslib.present.growth import tables\n\n"
        f'growth = opslib.model_growth(data, segment="channel:{story.channel}")\ntables.show_metrics(growth)'
    )
    return Look((text,), (lambda: show_groups(story),), code)


def _ask_who(story: Story) -> Question:
    values = {column: [str(group) for group in frame["group"]] for column, frame in story.groups.items()}
    as_before = say(
        "These have hardly grown, and what their share moved is within chance. Where do many more come, and few stay?"
    )
    spread = say(
        "The platforms fell more or less all. Is there a split in which one group grew and fell, and the "
        "others did neither?"
    )
    mistakes = [
        Mistake({column: value}, as_before if column == COLUMNS[0] else spread)
        for column, names in values.items()
        for value in names
        if value != story.network
    ]
    return Question(
        (say("Through which users did the share of {channel} that is back on day 7 fall?", channel=story.channel),),
        Group({COLUMNS[0]: story.network}, values, tuple(mistakes)),
        (
            say("Two things together: the group has grown far more than the others, and few of it come back."),
            say("Go down the two columns “now”: where is the share far below all others?"),
        ),
        (
            say(
                "{network} grew from {before:,.0f} new users to {now:,.0f}, and of those now {rate:.1%} are back on "
                "day 7. What the other networks' shares moved is within chance. Whether other people come through "
                "{network} now, or something changed for all of them, these counts do not tell.",
                network=story.network, **_read_network(story),
            ),
        ),
    )  # fmt: skip


def _read_network(story: Story) -> dict[str, float]:
    row = story.groups[COLUMNS[0]].set_index("group").loc[story.network].to_dict()
    return {
        "before": row["before_new_users_count"],
        "now": row["now_new_users_count"],
        "rate": row["now_d7_count"] / row["now_d7_mature_count"],
    }


def _ask_how_many(story: Story) -> Question:
    network = _read_network(story)
    more = network["now"] - network["before"]
    share, share_before = (
        network[when] / row["new_users_count"] for when, row in (("now", story.now), ("before", story.before))
    )
    mistakes = (
        Mistake(100 * share, say("That is its share of all new users now. Asked is its share of the additional ones.")),
        Mistake(100 * more / network["now"],
                say("Below the line you took this network's users. Take the channel's additional users.")),
        Mistake(100 * network["now"] / story.more_users,
                say("Above the line you took all of its users, also those it brought before.")),
        Mistake(100 * (share - share_before),
                say("That is by how many points its share of all new users rose. Asked is a share of the additional "
                    "ones.")),
    )  # fmt: skip
    return Question(
        (
            say("Of the {more:,} additional new users of {channel}, how many in a hundred came through {network}?",
                more=story.more_users, channel=story.channel, network=story.network),
        ),
        Number(100 * more / story.more_users, 0.7, "%", mistakes),
        (
            say("Additional means now less before, for the network and for the channel."),
            say("Above the line the network's growth in users, below it the channel's."),
        ),
        (
            say("{part:,.0f} of {whole:,}. The users that the channel has more of come from where few stay. How much "
                "of the money went there, only the networks' invoices tell.",
                part=more, whole=story.more_users),
        ),
    )  # fmt: skip


def _ask_decision(story: Story) -> Question:
    groups = story.growth.acquisition.channels.by_group
    paid = groups[groups["spend_amount"] > 0].sort_values("cost_per_d7_amount")
    cheapest, dearest, channel = paid.iloc[0], paid.iloc[-1], story.channel
    options = (
        Option("more", say("The same again for {channel}: new users there are no dearer than before", channel=channel),
               say("A new user is no dearer, one who stays is. The additional money brought no clear gain in those.")),
        Option("stop", say("Stop {channel} altogether", channel=channel),
               say("What its other networks' shares moved is within chance; and one who stays is dearer elsewhere: "
                   "{dear} with {dearest}.",
                   dear=story.write(dearest["cost_per_d7_amount"]), dearest=dearest["group"])),
        Option("all_in", say("Move the whole budget of {channel} to {cheapest}, where a user who stays costs {amount}",
                             channel=channel, cheapest=cheapest["group"],
                             amount=story.write(cheapest["cost_per_d7_amount"])),
               say("That is an average over little money. Nobody knows yet what many times as much would buy there: "
                   "test it with a small sum first.")),
        Option("back", say("Take the increase back, at {network} first, and pay {channel} by users who stay",
                           network=story.network, channel=channel)),
    )  # fmt: skip
    return Question(
        (say("What do you propose for next quarter's budget?"),),
        Decision(Choice(options)),
        (
            say("Ask of each option what the last money buys, not what the average is."),
            say("Which option touches only what went wrong, and mends what is paid for?"),
        ),
        (
            say(
                "The increase brought no clear gain in users who stay, so little is lost by taking it back; what "
                "worked before goes on. Ask the networks for their invoices, and watch the cost of a user back on "
                "day 7 by network."
            ),
            say(
                "What is saved goes in small sums to channels whose users stay, one after the other, so that it can be "
                "seen what more money brings there; and not all of it to one."
            ),
        ),
    )  # fmt: skip

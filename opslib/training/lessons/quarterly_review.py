"""Lesson: a whole quarter of a company nobody has seen before."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opslib.decide.review.review import QuarterlyReview, review_quarter
from opslib.errors import InputError
from opslib.language import say
from opslib.present.review import charts, next_tables, tables
from opslib.present.review.words import drop_still, name_lever
from opslib.training.answers import Choice, Decision, Group, Number, Option, Sentence
from opslib.training.curriculum import name_lesson
from opslib.training.judgement import Mistake
from opslib.training.plan import LessonPlan, Look, Question
from opslib.training.unseen import open_company
from opslib.training.values import list_values

if TYPE_CHECKING:
    from opslib.data.source import Data

NAME = "quarterly_review"
CODE = "from opslib.present.review import {part}\n\nreview = opslib.review_quarter(data)\n{part}.{function}(review)"


def write_lesson(data: Data) -> LessonPlan:
    """Write the lesson with the numbers of its own company, whatever `data` are.

    Raises:
        InputError: the company came out otherwise than the texts say.
    """
    review = review_quarter(open_company())
    _check(review)
    return LessonPlan(
        name=NAME,
        title=name_lesson(NAME),
        minutes=45,
        situation=_tell(review),
        steps={
            "metrics": _show_metrics(review),
            "line": _ask_line(review),
            "bridge": _show_bridge(review),
            "share": _ask_share(review),
            "lost": _ask_lost(review),
            "budget": _show_budget(review),
            "channel": _ask_channel(review),
            "cost": _ask_cost(review),
            "decision": _ask_decision(review),
        },
        closing=(
            say("Read a quarter in this order: what moved beyond chance, what of it counts, where it came from."),
            say("More users are growth only if they stay. Hold the budget against those who came back, by channel."),
            say("A target met on average can hide a channel that missed it. End with a decision that can be read "
                "later."),
        ),
    )  # fmt: skip


def _check(review: QuarterlyReview) -> None:
    """The texts tell of these findings; another version of the simulator may not make them."""
    changes, targets, budget = review.changes(), review.targets, review.budget
    wanted = {"d1_rate": "missed", "d7_rate": "missed", "cac_amount": "met"}
    right = (
        budget is not None
        and review.bridge is not None
        and review.bridge.revenue is not None
        and all(targets[name].status == status for name, status in wanted.items())
        and (changes["new_users_count"].low or 0) > 0
        and not changes["d1_rate"].clear
        and (changes["d7_rate"].high or 0) < 0
        and (changes["cac_amount"].low or 0) > 0
        and len(_find_channels(review, "more_users_not_retained")) == 1
        and len(_find_channels(review, "more_retained")) == 1
        and _list_levers(review)[0]["change_high"] < 0
    )
    if not right:
        raise InputError(f"{NAME}: its company came out otherwise than the lesson tells.")


def _find_channels(review: QuarterlyReview, verdict: str) -> list[dict[str, Any]]:
    assert review.budget is not None
    rows = [{str(k): v for k, v in row.items()} for row in review.budget.by_channel.to_dict("records")]
    return [row for row in rows if row["verdict"] == verdict]


def _list_levers(review: QuarterlyReview) -> list[dict[str, Any]]:
    """The levers of revenue, the largest loss first."""
    assert review.bridge is not None and review.bridge.revenue is not None
    frame = drop_still(review.bridge.revenue, "change_amount").sort_values("change_amount")
    return [{str(k): v for k, v in row.items()} for row in frame.to_dict("records")]


def _tell(review: QuarterlyReview) -> tuple[str, ...]:
    changes, bridge = review.changes(), review.bridge
    assert bridge is not None
    return (
        say(
            "Your first week at {company}. {quarter} is over, and the managing director is delighted: “{active:+.0%} "
            "active users, {new:+.0%} new users, {revenue:+.0%} revenue. And a new user costs CNY {cac:.0f}, less than "
            "our target of CNY {target:.0f}. Marketing gets half as much again.”",
            company=review.company, quarter=review.period.label, active=bridge.users_now / bridge.users_before - 1,
            new=changes["new_users_count"].relative,
            revenue=(bridge.revenue_now or 0) / (bridge.revenue_before or 1) - 1,
            cac=changes["cac_amount"].now.value, target=review.targets["cac_amount"].target.bound,
        ),
        say(
            "You have never seen this company. In an hour you are to present the quarter: what really moved, where it "
            "came from, what the money bought, and what to do next."
        ),
    )  # fmt: skip


def _show_metrics(review: QuarterlyReview) -> Look:
    text = say(
        "How to read it: a line is a metric, in the quarter with its 95% interval, then in the quarter before. A "
        "change is marked “within chance” where its interval holds zero; unmarked it is beyond chance. A target is met "
        "or missed only where the whole interval lies on one side of it."
    )
    return Look((text,), (lambda: tables.show_metrics(review),), CODE.format(part="tables", function="show_metrics"))


def _show_bridge(review: QuarterlyReview) -> Look:
    text = say(
        "How to read it: how this quarter came from the one before, lever by lever. The two columns on the right tell "
        "what each lever did to the number of active users and to revenue, with 95% intervals; all levers add up to "
        "the last line. An interval that holds zero is no news."
    )
    shows = (
        lambda: charts.plot_bridge(review),
        lambda: charts.plot_bridge(review, "revenue"),
        lambda: next_tables.show_bridge(review),
    )
    return Look((text,), shows, CODE.format(part="charts", function="plot_bridge"))


def _show_budget(review: QuarterlyReview) -> Look:
    text = say(
        "How to read it: what was spent on each channel, how many of its new users came back on day 7 and on day 30, "
        "and what each of these cost; the quarter before in round brackets. The last column tells what a spend that "
        "moved by more than a fifth bought. The first table has new users and their cost by channel."
    )
    shows = (
        lambda: tables.show_channels(review),
        lambda: next_tables.show_budget(review),
        lambda: charts.plot_channels(review),
    )
    return Look((text,), shows, CODE.format(part="next_tables", function="show_budget"))


def _ask_line(review: QuarterlyReview) -> Question:
    new = Choice(
        (
            Option("chance", say("rose, but within chance"), say("That change is not marked in the table.")),
            Option("rose", say("clearly rose")),
            Option("same", say("stayed as they were"), say("Look at the change, and whether it is marked.")),
        )
    )
    d1 = Choice(
        (
            Option("open", say("missed its target, and nobody knows whether it fell")),
            Option("fell", say("missed its target and surely fell"), say("Its change is marked. What does that mean?")),
            Option("close", say("is too close to its target to call"),
                   say("Does its interval hold the target, or lie on one side of it?")),
        )
    )  # fmt: skip
    d7 = Choice(
        (
            Option("only", say("missed its target, otherwise as before"),
                   say("Look at the change against the quarter before: is it marked?")),
            Option("met", say("met its target"),
                   say("The target says at least so much. On which side is the interval?")),
            Option("both", say("missed its target and fell beyond chance")),
        )
    )  # fmt: skip
    cac = Choice(
        (
            Option("met", say("met its target, though it rose")),
            Option("missed", say("missed its target, since it rose"),
                   say("A target is about the value, not about the change. On which side is the interval?")),
            Option("fell", say("met its target, since it fell"), say("Look at the sign of its change.")),
        )
    )  # fmt: skip
    return Question(
        (say("Write the first line of your review."),),
        Sentence(
            say("The number of new users {new}; next-day retention {d1}; day-7 retention {d7}; the cost of a new user "
                "{cac}."),
            {"new": new, "d1": d1, "d7": d7, "cac": cac},
        ),
        (
            say("Two questions for each: on which side of the target is the interval, and is the change marked?"),
            say("“Within chance” means: it may have moved, or not."),
        ),
        (
            say("A rate can miss its target for years without moving, and move without crossing it. Say both."),
        ),
    )  # fmt: skip


def _ask_share(review: QuarterlyReview) -> Question:
    bridge = review.bridge
    assert bridge is not None
    levers = {row["lever"]: row for row in bridge.users.to_dict("records")}
    new, base = float(levers["acquisition"]["change_count"]), float(levers["base"]["change_count"])
    low, high = (float(levers["acquisition"][f"change_{end}"]) for end in ("low", "high"))
    total, came = bridge.users_now - bridge.users_before, float(levers["acquisition"]["driver_now"])
    mistakes = (
        Mistake(round(100 * base / total, 6), say("That is how many there were to keep: another lever.")),
        Mistake(
            round(100 * came / bridge.users_now, 6),
            say("That is how many of all active users are new. Asked is their part in the change."),
        ),
        Mistake(
            round(100 * new / bridge.users_before, 6),
            say("You divided by the users of the quarter before. Divide by the change."),
        ),
        Mistake(new, say("That is a number of users. Asked is a share, in per cent.")),
    )
    return Question(
        (
            say("How much of the rise in active users comes from more new users than in the quarter before, in per "
                "cent of the rise?"),
        ),
        Number(round(100 * new / total, 6), 0.4, "%", mistakes),
        (
            say("Take the lever “New users”, in the column of active users."),
            say("The last line of that column is the whole rise."),
        ),
        (
            say(
                "{new:,.0f} [{low:,.0f} to {high:,.0f}] of {total:,}. About as much comes from {base}: a company "
                "that grew before has more users to keep. That is no merit of the quarter.",
                new=new, low=low, high=high, total=total, base=name_lever("base").lower(),
            ),
        ),
    )  # fmt: skip


def _ask_lost(review: QuarterlyReview) -> Question:
    rows = _list_levers(review)
    worst = rows[0]
    options = []
    for row in rows[:4]:
        reason = say("It cost revenue, and less than another lever did.")
        if row["change_low"] <= 0 <= row["change_high"]:
            reason = say("Its interval holds zero: it may have cost nothing.")
        elif row["change_amount"] > 0:
            reason = say("It brought revenue.")
        name = str(row["lever"])
        options.append(Option(name, name_lever(name), "" if row is worst else reason))
    most = max(rows, key=lambda row: row["change_amount"])
    options.append(Option("most", name_lever(str(most["lever"])), say("It brought more revenue than any other lever.")))
    return Question(
        (say("Revenue rose. Which lever held it back most, beyond chance?"),),
        Choice(tuple(options)),
        (
            say("Look at the column of revenue, for what has a minus."),
            say("Leave out intervals that reach above zero. Which of the rest is the largest?"),
        ),
        (
            say(
                "It took CNY {cost:,.0f} off revenue [{least:,.0f} to {most:,.0f}]. The sum hid it: there were more "
                "users to buy. Which of them order less often is the next thing to find out.",
                cost=-worst["change_amount"], least=-worst["change_high"], most=-worst["change_low"],
            ),
        ),
    )  # fmt: skip


def _ask_channel(review: QuarterlyReview) -> Question:
    bad, good = (_find_channels(review, v)[0] for v in ("more_users_not_retained", "more_retained"))
    values = list_values(review.data, "users", ("channel", "domain", "platform"))
    moved = say("More was spent there, too, but it brought more users who stay. Look at the last column.")
    still = say("The spend there hardly moved. Look for one that did.")
    wide = say("That is more than one channel, and not all of them had more money. Go by the table of channels.")
    other = say("Money is spent by channel. Which line of the table had more of it?")
    mistakes = [Mistake({"channel": good["channel"]}, moved)]
    mistakes += [
        Mistake({"channel": c}, still) for c in values["channel"] if c not in (bad["channel"], good["channel"])
    ]
    mistakes += [Mistake({"domain": value}, wide) for value in values["domain"]]
    mistakes += [Mistake({"platform": value}, other) for value in values["platform"]]
    return Question(
        (say("For which users was much more spent, with more who came and no clear gain in those who stayed?"),),
        Group({"channel": str(bad["channel"])}, values, tuple(mistakes)),
        (
            say("Which spends moved at all? Compare the number with the one in round brackets."),
            say("Two did. In which of them did the cost of a user who came back jump?"),
        ),
        (
            say(
                "CNY {now:,.0f} instead of CNY {before:,.0f}, {new:,} new users instead of {new_before:,}; back on day "
                "7 came {kept:,.0f} of {of:,.0f}, a smaller share than before.",
                now=bad["spend_amount"], before=bad["before_spend_amount"], new=int(bad["new_users_count"]),
                new_before=int(bad["before_new_users_count"]), kept=bad["d7_count"], of=bad["d7_mature_count"],
            ),
        ),
    )  # fmt: skip


def _ask_cost(review: QuarterlyReview) -> Question:
    bad = _find_channels(review, "more_users_not_retained")[0]
    now, before = float(bad["cost_per_d7_amount"]), float(bad["before_cost_per_d7_amount"])
    each = [float(bad[f"{side}spend_amount"]) / float(bad[f"{side}new_users_count"]) for side in ("", "before_")]
    spend = float(bad["spend_amount"]) / float(bad["before_spend_amount"])
    mistakes = (
        Mistake(
            round(100 * (each[0] / each[1] - 1), 6), say("That is the cost of a new user, whether they stay or not.")
        ),
        Mistake(round(100 * (spend - 1), 6), say("That is how much more was spent, not what one who stays costs.")),
        Mistake(round(now - before, 6), say("That is the difference in CNY. Take it in per cent of the cost before.")),
        Mistake(
            round(100 * (1 - before / now), 6), say("You divided by the cost now. The base is the quarter before.")
        ),
    )
    return Question(
        (
            say("In that channel: by how many per cent did the cost of a user who is back on day 7 rise against the "
                "quarter before?"),
        ),
        Number(round(100 * (now / before - 1), 6), 0.5, "%", mistakes),
        (
            say("The column next to “Back on day 7”; the quarter before stands in round brackets."),
            say("The difference of the two costs, over the cost before."),
        ),
        (
            say(
                "From CNY {before:,.0f} to CNY {now:,.0f} [{low:,.0f} to {high:,.0f}], where the cost of a new user "
                "rose by {each:.0%}. A target on new users alone does not see it.",
                before=before, now=now, low=bad["cost_per_d7_low"], high=bad["cost_per_d7_high"],
                each=each[0] / each[1] - 1,
            ),
        ),
    )  # fmt: skip


def _ask_decision(review: QuarterlyReview) -> Question:
    bad, good = (_find_channels(review, v)[0] for v in ("more_users_not_retained", "more_retained"))
    options = (
        Option(
            "more", say("Give marketing half as much again: the target for new users is met"),
            say("Shared out as now, most of it would go where the last money went. The target counts who comes, not "
                "who stays."),
        ),
        Option(
            "cut", say("Stop all spending until retention meets its target"),
            say("In most channels one who stays costs about what it did, and one of them brought more of these. They "
                "are not the problem."),
        ),
        Option(
            "back",
            say("Take back what {bad} got more, raise {good} in steps read by who stays, and find who orders less",
                bad=bad["channel"], good=good["channel"]),
        ),
        Option(
            "all", say("Move the whole marketing budget to {good}", good=good["channel"]),
            say("It grew from a small sum. Nobody knows what so many times as much would buy: go in steps."),
        ),
    )  # fmt: skip
    return Question(
        (say("Which decision do you propose for the next quarter?"),),
        Decision(Choice(options)),
        (
            say("Go through your findings: does the decision answer each that was beyond chance?"),
            say("Could you tell a quarter later whether it worked?"),
        ),
        (
            say(
                "It undoes CNY {extra:,.0f} that brought no clear gain in users who stay, tries more of what worked, "
                "and asks about the lever that cost revenue. Set the number that you will read, and "
                "when, before you begin.",
                extra=float(bad["spend_amount"]) - float(bad["before_spend_amount"]),
            ),
            say("All this is a quarter against the one before, no experiment: channels whose spend did not move are "
                "the comparison, and the season is in all of them."),
        ),
    )  # fmt: skip

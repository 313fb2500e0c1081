"""Lesson: users in private groups are worth more; what of it did the groups bring."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from opslib.data.periods import DAY
from opslib.decide.growth.model import GrowthModel, model_growth
from opslib.errors import InputError
from opslib.language import say
from opslib.measure.retention import find_first_days
from opslib.present.growth import tables
from opslib.present.tables import make_table
from opslib.training.answers import Choice, Decision, Number, Option, Sentence
from opslib.training.curriculum import name_lesson
from opslib.training.judgement import Mistake
from opslib.training.plan import LessonPlan, Look, Question

if TYPE_CHECKING:
    from opslib.data.source import Data
    from opslib.measure.moved_users import MovedUsersResult
    from opslib.present.display import TableView

NAME = "moved_to_private"
CODE = "from opslib.present.growth import tables\n\nmodel = opslib.model_growth(data)\n"
DAYS = 30
# The handbook: "lifetime value +30%" by public and private traffic together.
PROMISED_RATE = 0.30


def write_lesson(data: Data) -> LessonPlan:
    """Write the lesson with the numbers of a company.

    Raises:
        InputError: it is not known who moved when, or what they are worth.
    """
    model = model_growth(data)
    moved = model.acquisition.moved
    if model.acquisition.domains is None or moved is None or "margin_amount" not in set(moved.means["metric"]):
        raise InputError(f"{NAME}: this lesson needs users who moved to a private domain; use the sample company.")
    naive = compare_naively(model)
    low, value, high = _find_gains(moved)
    if not low < PROMISED_RATE < high or not value < _find_gap(naive) / 2:
        raise InputError(f"{NAME}: this lesson needs a comparison that leaves +30% open; use the sample company.")
    return LessonPlan(
        name=NAME,
        title=name_lesson(NAME),
        minutes=30,
        situation=_tell(model, naive),
        steps={
            "members": _show_members(model, naive),
            "gap": _ask_gap(naive),
            "why": _ask_why(naive),
            "alike": _show_alike(model, moved),
            "gain": _ask_gain(moved, naive),
            "promise": _ask_promise(moved),
            "lot": _ask_lot(),
            "decision": _ask_decision(),
        },
        closing=(
            say("Who is in a group chose to be there. Members and others differ before the group does anything."),
            say("To join, a user must have stayed until then: compare from the day of joining, with users alike."),
            say("Only a lot makes two sides alike in what nobody measured. Count everybody who was invited."),
        ),
    )


def compare_naively(model: GrowthModel) -> pd.DataFrame:
    """Members of groups against all others, as the claim has it: users, active before, margin of the last days.

    Users of public channels who were with the company before those days; columns member, users_count, active_count
    (active in as many days before), margin_amount.
    """
    scope = model.scope
    start = scope.as_of - (DAYS - 1) * DAY
    calendar = scope.data.calendar
    users = find_first_days(scope.active_days).filter(lambda t: t.first_day < start)
    attributes = scope.attributes.filter(scope.attributes.domain.fill_null("") != "private")
    joined = calendar.local_day(attributes.private_since) < start
    users = users.inner_join(attributes.select("user_id", member=joined.fill_null(False)), "user_id")
    days = scope.active_days
    before = days.filter(days.day < start, days.day >= start - DAYS * DAY).select("user_id").distinct()
    orders = scope.table("orders")
    assert orders is not None
    paid = orders.filter(calendar.local_day(orders.ts) >= start, calendar.local_day(orders.ts) <= scope.as_of)
    cost = paid.cost.fill_null(0) if "cost" in paid.columns else 0.0
    margins = paid.group_by("user_id").agg(margin=(paid.amount.fill_null(0) - cost).sum())
    seen = before.mutate(seen=1)
    rows = users.left_join(seen, "user_id").drop("user_id_right").left_join(margins, "user_id")
    sums = rows.group_by("member").agg(
        users_count=rows.count(),
        active_count=rows.seen.sum().fill_null(0),
        margin_amount=rows.margin.sum().fill_null(0),
    )
    found = scope.data.execute(sums).sort_values("member", ascending=False, ignore_index=True)
    # A sum over users comes out differently in its last digits each time.
    return found.assign(margin_amount=found["margin_amount"].astype(float).round(2))


def _find_margins(naive: pd.DataFrame) -> tuple[float, float]:
    """Margin of a member, and of another."""
    member, other = (naive["margin_amount"] / naive["users_count"]).astype(float)
    return member, other


def _find_gap(naive: pd.DataFrame) -> float:
    member, other = _find_margins(naive)
    return member / other - 1


def _find_means(moved: MovedUsersResult, metric: str = "margin_amount") -> tuple[float, float]:
    """What movers did, and users like them."""
    row = next(r for r in moved.means.to_dict("records") if r["metric"] == metric)
    return round(float(row["moved_mean"]), 6), round(float(row["matched_mean"]), 6)


def _find_gains(moved: MovedUsersResult) -> tuple[float, float, float]:
    """The difference in margin as a share of what users alike brought: low, value, high."""
    estimate, base = moved.differences["margin_amount"], _find_means(moved)[1]
    assert estimate.value is not None and estimate.low is not None and estimate.high is not None
    return estimate.low / base, estimate.value / base, estimate.high / base


def _tell(model: GrowthModel, naive: pd.DataFrame) -> tuple[str, ...]:
    member, other = _find_margins(naive)
    return (
        say(
            "Ms Lin leads private traffic at {company}. “A member of our groups brought CNY {member:.2f} of margin in "
            "the last {days} days, everybody else CNY {other:.2f}. The handbook promises {promised:.0%} more lifetime "
            "value, we are far above it. Give us the money to get everybody in, and margin rises as much.”",
            company=model.scope.data.playbook.company.name, member=member, other=other, days=DAYS,
            promised=PROMISED_RATE,
        ),
        say(
            "Finance asks you for a yes or a no. Before that you are to say what the groups brought, and what their "
            "members would have brought anyway."
        ),
    )  # fmt: skip


def _show_members(model: GrowthModel, naive: pd.DataFrame) -> Look:
    text = say(
        "How to read it: users who came by a public channel and were with the company before the last {days} days "
        "began. Members had joined a group by then, the others had not. Margin is what they brought in those {days} "
        "days, over all users of the row, buyers or not. The column “Active before” tells how many of them came at "
        "least once in the {days} days before those.",
        days=DAYS,
    )
    domains = say(
        "The second table is of new users by the domain they came from: how many came back, and what they cost. Ms Lin "
        "shows it to say the same of private channels."
    )
    shows = (lambda: show_members(naive, model.currency), lambda: tables.show_domains(model))
    return Look((text, domains), shows, f"{CODE}tables.show_domains(model)")


def show_members(naive: pd.DataFrame, currency: str) -> TableView:
    """Members against all others."""
    names = {True: say("Members of groups"), False: say("Not in a group")}
    shown = pd.DataFrame({"who": [names[bool(member)] for member in naive["member"]]})
    shown["users"] = naive["users_count"].map("{:,}".format)
    shown["active"] = (naive["active_count"] / naive["users_count"]).astype(float).map("{:.1%}".format)
    shown["margin"] = (naive["margin_amount"] / naive["users_count"]).astype(float).map("{:,.2f}".format)
    labels = {
        "who": say("Group of users"), "users": say("Users"), "active": say("Active before"),
        "margin": say("Margin a user, {currency}", currency=currency),
    }  # fmt: skip
    return make_table(shown, labels, name="members", numeric=tuple(labels)[1:])


def _show_alike(model: GrowthModel, moved: MovedUsersResult) -> Look:
    text = say(
        "How to read it: {count:,} users who joined a group (“Moved”), each held against users who were active in "
        "the same week, as long with the company and as often active in the four weeks before, and who had not "
        "joined. Both are followed from that day on, for {days} days. In square brackets the 95% interval of the "
        "difference.",
        count=moved.compared_count,
        days=moved.window_days,
    )
    return Look((text,), (lambda: tables.show_moved_users(model),), f"{CODE}tables.show_moved_users(model)")


def _ask_gap(naive: pd.DataFrame) -> Question:
    member, other = _find_margins(naive)
    mistakes = (
        Mistake(member - other, say("That is the difference in CNY. Per cent are of what the others bring.")),
        Mistake(100 * member / other, say("That is one as a share of the other. How much more is it than the whole?")),
        Mistake(100 * (member - other) / member, say("You divided by what members bring. Compare with the others.")),
    )
    return Question(
        (say("By how many per cent is the margin of a member higher than that of the others, in Ms Lin's numbers?"),),
        Number(100 * (member / other - 1), 1.5, "%", mistakes),
        (
            say("“More than” needs something to stand on: what is the base?"),
            say("The difference of the two margins, over the margin of the others."),
        ),
        (
            say(
                "{member:.2f} over {other:.2f}. The sum is right; the question is whether the two rows are users who "
                "can be compared.",
                member=member, other=other,
            ),
        ),
    )  # fmt: skip


def _ask_why(naive: pd.DataFrame) -> Question:
    active = (naive["active_count"] / naive["users_count"]).astype(float).to_list()
    options = (
        Option(
            "few", say("There are too few members"),
            say("{count:,} members are many. More of them would make the same comparison, only more exactly.",
                count=int(naive["users_count"].iloc[0])),
        ),
        Option("gone", say("Many of the others had left long before; whoever joins had to be there to join")),
        Option(
            "margin", say("It should be revenue, not margin"),
            say("Margin is what the company keeps, for both rows alike. It is the better measure."),
        ),
        Option(
            "short", say("The days differ between the two rows"),
            say("Both rows are of the same days. Look at who is in the rows."),
        ),
    )  # fmt: skip
    return Question(
        (say("What is wrong with this comparison, first of all?"),),
        Choice(options),
        (
            say("Look at the column “Active before”: what were the two sides like before these days?"),
            say("Which of the two rows holds somebody who came once, a year ago, and never again?"),
        ),
        (
            say(
                "{member:.1%} of the members came in the days before, {other:.1%} of the others. A user cannot join a "
                "group without having stayed until then: members get credit for not having left.",
                member=active[0], other=active[1],
            ),
            say("The domains are no better proof: who comes through a friend or a chat is another user than who comes "
                "by an advertisement, from the first day."),
        ),
    )  # fmt: skip


def _ask_gain(moved: MovedUsersResult, naive: pd.DataFrame) -> Question:
    mover, alike = _find_means(moved)
    mistakes = (
        Mistake(mover - alike, say("That is the difference in CNY between movers and users alike. Asked is per cent.")),
        Mistake(100 * (mover - alike) / mover, say("You divided by what movers bring. The base is the others.")),
        Mistake(100 * _find_gap(naive), say("That is Ms Lin's comparison. Use the table of users alike.")),
        Mistake(
            100 * (_find_means(moved, "active_days_count")[0] / _find_means(moved, "active_days_count")[1] - 1),
            say("That is how much oftener they came. Asked is margin."),
        ),
    )
    return Question(
        (say("Against users like them: by how many per cent is the margin of those who joined a group higher, in the "
             "days after?"),),
        Number(100 * (mover / alike - 1), 0.3, "%", mistakes),
        (
            say("Take the row of margin in the table of users alike."),
            say("The difference of the two margins, over the margin of the others like them."),
        ),
        (
            say(
                "{mover:.2f} over {alike:.2f}, in the {days} days after joining. Of Ms Lin's {gap:.0%} most is gone "
                "once the two sides start alike.",
                mover=mover, alike=alike, gap=_find_gap(naive), days=moved.window_days,
            ),
        ),
    )  # fmt: skip


def _ask_promise(moved: MovedUsersResult) -> Question:
    low, _, high = _find_gains(moved)
    days = moved.window_days
    options = (
        Option(
            "kept", say("It is proven: the interval leaves out zero"),
            say("That says the difference is more than chance. It does not say that it is {promised:.0%}, nor what it "
                "comes from.", promised=PROMISED_RATE),
        ),
        Option(
            "broken", say("It is refuted: the value lies below it"),
            say("The value has an interval. Turn its two ends into per cent as well."),
        ),
        Option(
            "open",
            say("Open: the interval holds it, and {days} days of users who chose to join are no lifetime", days=days),
        ),
        Option(
            "never", say("It says nothing at all, since nobody was drawn by lot"),
            say("It does say something: from about the same start they bring more. How much of it the group made, if "
                "any, is open."),
        ),
    )  # fmt: skip
    return Question(
        (
            say(
                "The handbook says that lifetime value rises by {promised:.0%}. What does the table of users alike "
                "say?",
                promised=PROMISED_RATE,
            ),
        ),
        Choice(options),
        (
            say("Divide both ends of the interval of margin by what the others like them bring."),
            say("And ask: how many days does the table follow them, and who decided who joins?"),
        ),
        (
            say(
                "Between {low:.0%} and {high:.0%}: {promised:.0%} fits, and so does much less. It is the margin of "
                "{days} days, of users who wanted to join.",
                low=low, high=high, promised=PROMISED_RATE, days=days,
            ),
        ),
    )  # fmt: skip


def _ask_lot() -> Question:
    kind = Choice(
        (
            Option("association", say("an association")),
            Option("effect", say("the effect of the group"), say("Nobody was drawn by lot. What else may differ?")),
            Option("chance", say("mere chance"), say("Zero is not in the interval: chance alone hardly does that.")),
        )
    )
    why = Choice(
        (
            Option("few", say("there are few who moved"), say("How many stands above the table: they are many.")),
            Option("wish", say("those who join may have wanted more already")),
            Option(
                "tenure", say("they had been with the company longer"),
                say("That was made alike: they are compared with users who were as long with the company."),
            ),
        )
    )  # fmt: skip
    need = Choice(
        (
            Option("wait", say("more months of the same data"), say("The same question in more data stays open.")),
            Option("match", say("one more column in which they are alike"),
                   say("Each helps a little. No column holds what somebody is about to want.")),
            Option("lot", say("invitations by lot")),
        )
    )  # fmt: skip
    return Question(
        (say("Finish the sentence for finance."),),
        Sentence(
            say("What is left between movers and users like them is {kind}, because {why}; to know, it takes {need}."),
            {"kind": kind, "why": why, "need": need},
        ),
        (
            say("The two sides are alike in week, in time with the company and in activity. In what can they still "
                "differ?"),
            say("What would make them alike in everything, also in what nobody measures?"),
        ),
        (
            say("Matching takes away what it knows. A wish to buy soon makes a user join and buy, group or no group."),
        ),
    )  # fmt: skip


def _ask_decision() -> Question:
    options = (
        Option(
            "everybody", say("Invite everybody, and compare the margin with last quarter's"),
            say("Then nobody is left to compare with, and a season or a campaign looks like the group."),
        ),
        Option(
            "accepted", say("Invite everybody, and compare those who accept with those who decline"),
            say("Who accepts is keen already: the comparison of today once more."),
        ),
        Option(
            "lot", say("Invite half of those not in a group, drawn by lot, and compare all invited with all not "
                       "invited, joined or not"),
        ),
        Option(
            "no", say("Close the groups, since it is not proven"),
            say("Not proven is not refuted: large gains fit the table as well. Find out at little cost."),
        ),
    )  # fmt: skip
    return Question(
        (say("What do you tell finance to do?"),),
        Decision(Choice(options)),
        (
            say("After three months you will want to know what the groups brought. With which plan can you?"),
            say("Who decides which side a user is on: the user, or you?"),
        ),
        (
            say("Among the invited are keen and less keen users, among the others as many of each. What differs "
                "later beyond chance comes from the invitation; divided by the share who joined because of it, from "
                "the group, as far as an invitation does nothing else."),
            say("Settle the number of users and the day of reading before you begin."),
        ),
    )  # fmt: skip

"""Lesson: how often users come; the average user, DAU/MAU, and whom to write to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from opslib.decide.growth.model import GrowthModel, model_growth
from opslib.errors import InputError
from opslib.language import say
from opslib.measure.activity import STICKINESS_DAYS, DaysActiveResult
from opslib.present.display import TableView
from opslib.present.growth import charts
from opslib.present.tables import make_table
from opslib.training.answers import Choice, Decision, Number, Option
from opslib.training.curriculum import name_lesson
from opslib.training.judgement import Mistake
from opslib.training.lessons.plain_charts import plot_tier_moves
from opslib.training.plan import LessonPlan, Look, Question

if TYPE_CHECKING:
    from opslib.data.source import Data

NAME = "how_often_they_come"
CODE = """from opslib.present.growth import charts

model = opslib.model_growth(data)
charts."""
# Days active, in the rows of the table: the first day of each, the last to the end.
ROWS = (1, 2, 3, 5, 8, 15)
MONTH_DAYS = 30
ACTIVE = ("new", "current", "resurrected")
AWAY = ("at_risk", "dormant", "churned")


def write_lesson(data: Data) -> LessonPlan:
    """Write the lesson with the numbers of a company.

    Raises:
        InputError: too few users, or none away.
    """
    model = model_growth(data)
    days, tiers = model.audience.days_active, _find_tiers(model)
    if not _count_users(days) or not all(tiers[name] for name in (*ACTIVE, *AWAY)):
        raise InputError(f"{NAME}: this lesson needs users in every tier; use the sample company.")
    mean = float(days.mean_days.value or 0)
    situation = (
        say(
            "Wednesday, product meeting. The head of product: “Our users come on {mean:.1f} of {days} days, so once in "
            "{every:.0f}. Let us send everybody a push every {every:.0f} days, that is their rhythm. And DAU/MAU must "
            "rise: the target is {target:.0%}.”",
            mean=mean, days=STICKINESS_DAYS, every=STICKINESS_DAYS / mean, target=_find_target(data),
        ),
        say(
            "The intern has an idea for that: “Whoever came on a single day only is no real user. Let us stop bringing "
            "them.” You are asked whose rhythm that is, what the idea would do, and whom the next message should go to."
        ),
    )  # fmt: skip
    return LessonPlan(
        name=NAME,
        title=name_lesson(NAME),
        minutes=25,
        situation=situation,
        steps={
            "days": _show_days(model),
            "stickiness": _ask_stickiness(model),
            "average": _ask_average(days),
            "single": _ask_single(days),
            "tiers": _show_tiers(model),
            "back": _ask_back(model),
            "decision": _ask_decision(model),
        },
        closing=(
            say("An average of days is nobody's rhythm: look at how users spread."),
            say("A ratio rises with its top or with a smaller bottom. Never read DAU/MAU without DAU and MAU."),
            say(
                "Write to those whom you may still lose or win, and hold some back by lot: only they tell who comes "
                "back without it."
            ),
        ),
    )


def _find_target(data: Data) -> float:
    target = data.playbook.targets.get("stickiness_rate")
    return 0.25 if target is None or target.at_least is None else target.at_least


def _count_users(days: DaysActiveResult) -> int:
    return int(days.distribution["users_count"].sum())


def _count_days(days: DaysActiveResult) -> int:
    """Active days of all users together."""
    frame = days.distribution
    return int((frame["active_days_count"] * frame["users_count"]).sum())


def _find_tiers(model: GrowthModel) -> dict[str, int]:
    """Users by tier at the end of the last complete period."""
    balance = model.audience.tiers.balance
    complete = balance[balance["complete"].astype(bool)]
    last = complete[complete["period_start"] == complete["period_start"].max()]
    return {str(tier): int(n) for tier, n in zip(last["state"], last["closing_count"], strict=True)}


def _find_rate(model: GrowthModel, before: str, after: str) -> float:
    """The share of a tier's users who are in another a period later."""
    estimate = model.audience.tiers.rates.get((before, after))
    return float(estimate.value or 0) if estimate is not None else 0.0


def _count_back(model: GrowthModel, tier: str) -> float:
    return _find_tiers(model)[tier] * _find_rate(model, tier, "resurrected")


def _show_days(model: GrowthModel) -> Look:
    days = model.audience.days_active
    text = say(
        "How to read it: each user of the last {days} days stands in one bar, by the number of days on which they "
        "came. In the table, “days together” adds up these days over the users of a row: who came on three days brings "
        "three.",
        days=STICKINESS_DAYS,
    )

    def show() -> TableView:
        frame, users = days.distribution, _count_users(days)
        row = pd.cut(frame["active_days_count"], [*(first - 1 for first in ROWS), STICKINESS_DAYS], labels=False)
        together = frame["active_days_count"] * frame["users_count"]
        rows = []
        for number, first in enumerate(ROWS):
            last = ROWS[number + 1] - 1 if number + 1 < len(ROWS) else STICKINESS_DAYS
            count = int(frame.loc[row == number, "users_count"].sum())
            sum_days = int(together[row == number].sum())
            name = f"{first}" if first == last else f"{first}–{last}"
            rows.append({"days": name, "users": f"{count:,}", "share": f"{count / users:.1%}", "all": f"{sum_days:,}"})
        total = {"days": say("Together"), "users": f"{users:,}", "share": f"{1:.1%}", "all": f"{_count_days(days):,}"}
        labels = {
            "days": say("Days active"), "users": say("Users"), "share": say("Share of users"),
            "all": say("Days together"),
        }  # fmt: skip
        return make_table(pd.DataFrame([*rows, total]), labels, name="lesson-days", numeric=tuple(labels)[1:])

    return Look((text,), (lambda: charts.plot_days_active(model), show), f"{CODE}plot_days_active(model)")


def _show_tiers(model: GrowthModel) -> Look:
    text = say(
        "How to read it: at the end of each week every user stands in one tier. New: first came in that week. Current: "
        "came in it and in the week before. Came back: came in it after at least one week away. Those away are at "
        "risk, dormant or gone, by how long. The coloured table reads from left to right: of the users of a tier, how "
        "many are in which tier a week later, over all weeks so far."
    )

    def show() -> TableView:
        names, counts = charts.label_tiers(model.audience.tiers), _find_tiers(model)
        rows = [{"tier": names[tier], "users": f"{counts[tier]:,}"} for tier in (*ACTIVE, *AWAY)]
        labels = {"tier": say("Tier at the end of the last full week"), "users": say("Users")}
        return make_table(pd.DataFrame(rows), labels, name="lesson-tiers", numeric=("users",))

    shows = (lambda: charts.plot_tiers(model), show, lambda: plot_tier_moves(model))
    return Look((text,), shows, f"{CODE}plot_tier_moves(model)")


def _ask_stickiness(model: GrowthModel) -> Question:
    days = model.audience.days_active
    users, together = _count_users(days), _count_days(days)
    last = int(model.audience.now.daily["dau_count"].iloc[-1])
    mistakes = (
        Mistake(
            100 * together / users / MONTH_DAYS,
            say("You divided by the days of a month. How many days does the table look at?"),
        ),
        Mistake(
            100 * last / users,
            say("You took the users of the last day for the average day. One day is not the period."),
        ),
        Mistake(
            100 * float(days.distribution["users_rate"].iloc[0]),
            say("That is the share of users who came on a single day."),
        ),
        Mistake(
            100 * users / together, say("You divided the other way round: days are above the line, users below.")
        ),
    )  # fmt: skip
    return Question(
        (
            say(
                "How high is DAU/MAU over these {days} days? DAU is the mean of the users of a day, MAU all users who "
                "came at all.",
                days=STICKINESS_DAYS,
            ),
        ),
        Number(100 * together / users / STICKINESS_DAYS, 0.3, "%", mistakes),
        (
            say("How many users come on an average day? All days together, over the number of days."),
            say("Divide that by all users. Or the mean number of days by the days that there are: it is the same."),
        ),
        (
            say(
                "{together:,} days over {days} days are {dau:,.0f} users a day, of {users:,} in all. DAU/MAU is "
                "nothing but the mean share of days on which a user came.",
                together=together, days=STICKINESS_DAYS, dau=together / STICKINESS_DAYS, users=users,
            ),
        ),
    )  # fmt: skip


def _ask_average(days: DaysActiveResult) -> Question:
    frame, mean = days.distribution, float(days.mean_days.value or 0)
    fewer = float(frame.loc[frame["active_days_count"] < mean, "users_rate"].sum())
    often = frame[frame["active_days_count"] >= ROWS[-2]]
    share = float((often["active_days_count"] * often["users_count"]).sum()) / _count_days(days)
    options = (
        Option(
            "typical", say("Most users come about that often, a few more or less often"),
            say("Then the bars would be highest around that number of days. Where are they?"),
        ),
        Option(
            "halves", say("Half of the users come more often, half less often"),
            say("That is the median. Add up the shares of the first rows: how far do you get before that number?"),
        ),
        Option("skewed", say("Most users come less often, and a few who come often lift the average")),
        Option(
            "regular", say("A user comes at regular intervals, about once in so many days"),
            say("The table counts days, not the gaps between them. And most users came on fewer."),
        ),
    )  # fmt: skip
    return Question(
        (say("What does the average of {mean:.1f} days say about the users?", mean=mean),),
        Choice(options),
        (
            say("Look for the average on the axis of the chart: is the highest bar there?"),
            say("Add up the users left of it, then those right of it."),
        ),
        (
            say(
                "{fewer:.0%} of the users came on fewer days than that, {once:.0%} on one only. Those who came on "
                "{often} days or more are {users:.0%} of the users and bring {share:.0%} of all days. A push in the "
                "rhythm of the average is more often than most of them come, and less often than the others do.",
                fewer=fewer, once=float(frame["users_rate"].iloc[0]), often=ROWS[-2],
                users=float(often["users_rate"].sum()), share=share,
            ),
        ),
    )  # fmt: skip


def _ask_single(days: DaysActiveResult) -> Question:
    users, together = _count_users(days), _count_days(days)
    once = int(days.distribution["users_count"].iloc[0])
    right = 100 * (together - once) / (users - once) / STICKINESS_DAYS
    mistakes = (
        Mistake(
            100 * together / users / STICKINESS_DAYS,
            say("That is DAU/MAU as it is. Without these users both counts change."),
        ),
        Mistake(
            100 * together / (users - once) / STICKINESS_DAYS,
            say("You took them out of MAU only. Their days are missing from DAU as well."),
        ),
        Mistake(
            100 * (together - once) / users / STICKINESS_DAYS,
            say("You took them out of DAU only. They are missing from MAU as well."),
        ),
        Mistake(100 * (users - once) / users, say("That is the share of users who would be left.")),
    )
    return Question(
        (
            say(
                "The intern's idea: what would DAU/MAU be if the {once:,} users of a single day had not come at all?",
                once=once,
            ),
        ),
        Number(right, 0.3, "%", mistakes),
        (
            say("Reckon as before, without the first row of the table."),
            say("Take the row's users from all users, and its days from all days."),
        ),
        (
            say(
                "({together:,} − {once:,}) / {days} / ({users:,} − {once:,}). DAU/MAU rises, although {fewer:,.0f} "
                "users fewer come on an average day and nobody comes more often. A ratio that rises because its bottom "
                "shrinks is no gain. And among these users are new ones, who have hardly had time to come again.",
                together=together, once=once, days=STICKINESS_DAYS, users=users, fewer=once / STICKINESS_DAYS,
            ),
        ),
    )  # fmt: skip


def _ask_back(model: GrowthModel) -> Question:
    tiers = _find_tiers(model)
    dormant, rate = tiers["dormant"], _find_rate(model, "dormant", "resurrected")
    moves = model.audience.tiers.rates["dormant", "resurrected"]
    mistakes = (
        Mistake(_count_back(model, "at_risk"), say("Those are users of another tier: read the row again.")),
        Mistake(_count_back(model, "churned"), say("Those are users who are gone already: read the row again.")),
        Mistake(
            dormant * _find_rate(model, "dormant", "dormant"),
            say("Those are the ones who stay as they are. Look for the column of those who come back."),
        ),
        Mistake(
            dormant * _find_rate(model, "dormant", "churned"),
            say("Those go the other way. Look for the column of those who come back."),
        ),
    )
    return Question(
        (
            say(
                "If it goes on as in all weeks so far, with as much sent to them as in those: how many of the dormant "
                "users come back within the next week?"
            ),
        ),
        Number(dormant * rate, 6, say("users who return"), mistakes),
        (
            say("One number from the table of tiers, one from the coloured table."),
            say("Row: where they are now. Column: where they are a week later."),
            say("Multiply the tier's users with the share."),
        ),
        (
            say(
                "{rate:.1%} of {dormant:,}; over all weeks so far it was {back:,.0f} of {could:,.0f}. If you write to "
                "all of them and as many come, the message need not have done anything. That is why some are held back "
                "by lot.",
                rate=rate, dormant=dormant, back=moves.numerator, could=moves.denominator,
            ),
        ),
    )  # fmt: skip


def _ask_decision(model: GrowthModel) -> Question:
    moves = {tier: _find_rate(model, tier, "resurrected") for tier in AWAY}
    options = (
        Option(
            "current", say("To the current users: most of them answer"),
            say("Most of them come as it is. What would they do because of the message that they do not do without "
                "it?"),
        ),
        Option(
            "risk", say("To those at risk: their answers are the fastest"),
            say("Many of them have been back within a week all along. The message would be praised for that."),
        ),
        Option("dormant", say("To the dormant, before they are gone, with some of them held back by lot")),
        Option(
            "gone", say("To those who are gone: they are by far the most"),
            say("They are the most, and hardly any have come back so far. Many messages, and little to expect of "
                "each."),
        ),
    )  # fmt: skip
    return Question(
        (say("To which tier do you send the next recall message?"),),
        Decision(Choice(options)),
        (
            say("Where do many come back as it is, and where has hardly anybody come back so far?"),
            say("Which tier is about to go to one from which nearly nobody returns?"),
        ),
        (
            say(
                "With all that was done so far, {risk:.0%} of those at risk came back within a week, {dormant:.0%} of "
                "the dormant, {gone:.1%} of the gone; and {lost:.0%} of the dormant were gone a week later. What a "
                "message adds is told by those held back.",
                risk=moves["at_risk"], dormant=moves["dormant"], gone=moves["churned"],
                lost=_find_rate(model, "dormant", "churned"),
            ),
            say(
                "It is a choice by what came so far, and the handbook’s: it sends recall messages to the dormant. How "
                "much a message changes in any tier is not known yet. So send little, hold some back, and compare."
            ),
        ),
    )  # fmt: skip

"""Lesson: churn that rises, a reason that most leavers share, and whether it is one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from opslib.decide.churn.investigation import ChurnInvestigation, investigate_churn
from opslib.decide.churn.reasons import EXPIRED, Reasons
from opslib.errors import InputError
from opslib.explain.causes_cases import ESTABLISHED_DAYS
from opslib.explain.causes_catalogue import ReasonSettings
from opslib.explain.causes_expiry import ExpiryResult
from opslib.language import mark, say
from opslib.measure.churn.rates import ChurnResult
from opslib.present.churn import charts, tables
from opslib.present.churn.words import name_month
from opslib.present.display import TableView
from opslib.present.tables import make_table
from opslib.training.answers import Choice, Decision, Number, Option, Sentence
from opslib.training.curriculum import name_lesson
from opslib.training.judgement import Mistake
from opslib.training.plan import LessonPlan, Look, Question

if TYPE_CHECKING:
    from opslib.data.source import Data

NAME = "expired_coupons"
CODE = "churn = opslib.investigate_churn(data)"
CHARTS, TABLES = (f"from opslib.present.churn import {part}\n\n{CODE}\n{part}." for part in ("charts", "tables"))
# What the handbook says of those who left; it does not say it of those who stayed.
HANDBOOK_RATE = 0.6


@dataclass(frozen=True)
class Counts:
    """Leavers and stayers with and without an expired coupon, and what it may account for."""

    left_with: int
    left: int
    stayed_with: int
    stayed: int
    attributable_rate: float
    attributable_low: float
    attributable_high: float

    @property
    def leavers_rate(self) -> float:
        return self.left_with / self.left

    @property
    def stayers_rate(self) -> float:
        return self.stayed_with / self.stayed

    @property
    def left_of_with(self) -> float:
        return self.left_with / (self.left_with + self.stayed_with)

    @property
    def left_of_without(self) -> float:
        without = self.left - self.left_with
        return without / (without + self.stayed - self.stayed_with)


def write_lesson(data: Data) -> LessonPlan:
    """Write the lesson with the numbers of a company.

    Raises:
        InputError: churn did not rise, or no coupons expired.
    """
    churn = investigate_churn(data)
    months, reasons = churn.leaving.churn, churn.reasons
    expiry = None if reasons is None else reasons.expiry
    if months is None or reasons is None or expiry is None or not months.rise.clear:
        raise InputError(f"{NAME}: this lesson needs churn that rises and coupons that expire; use the sample company.")
    counts = _count(reasons)
    return LessonPlan(
        name=NAME,
        title=name_lesson(NAME),
        minutes=30,
        situation=_tell(months, counts),
        steps={
            "months": _show_months(churn),
            "rising": _ask_rising(months),
            "four_counts": _show_counts(churn, counts),
            "how_common": _ask_how_common(counts),
            "who_leaves": _ask_who_leaves(counts),
            "reasons": _show_reasons(churn),
            "expiry": _show_expiry(churn),
            "evidence": _ask_evidence(counts, expiry),
            "decision": _ask_decision(counts, data.playbook.win_back.holdout_rate),
        },
        closing=(
            say("“So many of those who left had it” says nothing until you know how many of those who stayed had it."),
            say("What goes together is not yet cause and effect. Look for a date that nobody chose, or draw lots."),
            say("Whatever you roll out, leave some users alone by lot: only they tell later what it brought."),
        ),
    )


def _count(reasons: Reasons) -> Counts:
    frame = reasons.causes.reasons.set_index("reason")
    if EXPIRED not in frame.index:
        raise InputError(f"{NAME}: this lesson needs coupons that expire unused; use the sample company.")
    row = frame.loc[EXPIRED].to_dict()
    return Counts(
        row["leavers_with_count"], row["leavers_count"], row["stayers_with_count"], row["stayers_count"],
        row["attributable_rate"], row["attributable_low"], row["attributable_high"],
    )  # fmt: skip


def _tell(months: ChurnResult, counts: Counts) -> tuple[str, ...]:
    rise = months.rise.periods
    return (
        say(
            "The head of operations opens the meeting: “Churn has risen three months running, from {before:.1%} in "
            "{first} to {after:.1%} in {last}. The handbook says: find the need that is not met.”",
            before=rise["churn_rate"].iloc[0], first=name_month(rise["period_start"].iloc[0]),
            after=rise["churn_rate"].iloc[-1], last=name_month(rise["period_start"].iloc[-1]),
        ),
        say(
            "The head of lifecycle has the answer ready: “{rate:.0%} of those who left had a coupon that expired "
            "unused. The handbook's case had {handbook:.0%}. So more than half leave because of it: let us give "
            "everybody a new coupon.”",
            rate=counts.leavers_rate, handbook=HANDBOOK_RATE,
        ),
        say(
            "Before coupons go out you are to say whether churn rose, whether the coupon is the reason, and what to do."
        ),
    )  # fmt: skip


def _show_months(churn: ChurnInvestigation) -> Look:
    text = say(
        "How to read it: each point is the share of the users there at the month's start who left in it, with its "
        "95% interval. In the table, “Left” also counts those who came and left within the month; so does the last "
        "column, which you do not need here. The last month is missing: who fell silent in it may still come back."
    )
    shows = (lambda: charts.plot_churn(churn), lambda: tables.show_churn(churn))
    return Look((text,), shows, f"{CHARTS}plot_churn(churn)")


def _ask_rising(months: ChurnResult) -> Question:
    rise = months.rise
    options = (
        Option(
            "rule", say("Yes: it rose three months running, and that is what the rule asks for"),
            say("In pure ups and downs by chance, three rises in a row turn up in {share:.0%} of years. The pattern "
                "alone is no proof; look at how far it went.", share=rise.chance_year_rate),
        ),
        Option(
            "chance", say("No: three rises in a row are nothing but chance"),
            say("They can be: in {share:.0%} of years they are. Then the intervals of the months would overlap. Do "
                "they?", share=rise.chance_year_rate),
        ),
        Option(
            "intervals", say("Yes: the interval of the last month lies far above that of the month before the rise")
        ),
        Option(
            "users", say("One cannot tell: there were fewer users at the start of the last month"),
            say("A rate is made for that: it divides by the users who were there. Fewer users only make the interval "
                "wider, and it is in the chart."),
        ),
    )  # fmt: skip
    first, last = (months.estimate(rise.periods["period_start"].iloc[i].date()) for i in (0, -1))
    return Question(
        (say("Did churn really rise?"),),
        Choice(options),
        (
            say("A rule about months in a row looks at the direction only. What tells how large a move is?"),
            say("Compare the lowest month of the last four with the highest, each with the bar around its point."),
        ),
        (
            say(
                "From {before:.1%} [{before_low:.1%} to {before_high:.1%}] to {after:.1%} [{after_low:.1%} to "
                "{after_high:.1%}]: that is far beyond chance. The rule by itself would fire in {share:.0%} of years "
                "without any change.",
                before=first.value, before_low=first.low, before_high=first.high,
                after=last.value, after_low=last.low, after_high=last.high, share=rise.chance_year_rate,
            ),
        ),
    )  # fmt: skip


def _show_counts(churn: ChurnInvestigation, counts: Counts) -> Look:
    assert churn.reasons is not None
    text = say(
        "How to read it: users of {months} who were with the company for {tenure} days at least, seen from their "
        "last active day of the month: how many had a coupon that had expired unused in the {days} days up to it, "
        "and how many had none. Who was there in several months counts once in each, and leaves in one at most. The "
        "head of lifecycle read the first row only.",
        months=churn.reasons.period.label, days=ReasonSettings().window_days, tenure=ESTABLISHED_DAYS,
    )  # fmt: skip
    return Look((text,), (lambda: _tabulate(counts),), f"{CODE}\nchurn.reasons.causes.reasons")


def _tabulate(counts: Counts) -> TableView:
    rows = {
        say("Leavers"): (counts.left_with, counts.left),
        say("Stayers"): (counts.stayed_with, counts.stayed),
        say("Both together"): (counts.left_with + counts.stayed_with, counts.left + counts.stayed),
    }
    frame = pd.DataFrame(
        [(who, f"{some:,}", f"{every - some:,}", f"{every:,}") for who, (some, every) in rows.items()],
        columns=["users", "with", "without", "all"],
    )
    labels = {
        "users": say("Users"), "with": say("Coupon expired unused"), "without": say("No such coupon"),
        "all": say("All of them"),
    }  # fmt: skip
    return make_table(frame, labels, name="lesson-expired-coupons", numeric=tuple(labels)[1:])


def _ask_how_common(counts: Counts) -> Question:
    leavers, stayers = counts.leavers_rate, counts.stayers_rate
    mistakes = (
        Mistake(
            counts.left_with / counts.stayed_with,
            say("You divided the counts. There are far more stayers than leavers: take each group's share first."),
        ),
        Mistake(
            leavers / (1 - leavers),
            say("You compared leavers who had it with leavers who had it not. The stayers are missing."),
        ),
        Mistake(
            100 * (leavers - stayers),
            say("That is the difference of the two shares, in points. Asked is how many times the one is the other."),
        ),
        Mistake(
            counts.left_of_with / counts.left_of_without,
            say("That is how many times as likely holders of such a coupon leave. Asked is how common it is in the two "
                "groups."),
        ),
    )  # fmt: skip
    return Question(
        (say("How many times as common was an expired coupon among leavers as among stayers?"),),
        Number(leavers / stayers, 0.03, say("times"), mistakes),
        (
            say("Two shares are needed, each of its own group: those who left, and those who stayed."),
            say("Divide each row's first count by its last; then the upper share by the lower."),
        ),
        (
            say(
                "{leavers:.1%} of {left:,} leavers and {stayers:.1%} of {stayed:,} stayers. It is more common among "
                "leavers, but many of those who stayed had it too.",
                leavers=leavers, left=counts.left, stayers=stayers, stayed=counts.stayed,
            ),
        ),
    )  # fmt: skip


def _ask_who_leaves(counts: Counts) -> Question:
    mistakes = (
        Mistake(
            100 * counts.leavers_rate,
            say("Turned round: that is who of the leavers had it. Asked is who of those that had it left."),
        ),
        Mistake(
            100 * counts.left_with / (counts.left + counts.stayed),
            say("You divided by all users. Only those with an expired coupon belong below the line."),
        ),
        Mistake(
            100 * counts.left_with / counts.stayed_with,
            say("You divided those who left by those who stayed. Below the line belong both of them together."),
        ),
        Mistake(
            100 * counts.left_of_without,
            say("That is how many leave of those without such a coupon. Read the other column."),
        ),
    )
    return Question(
        (say("Of 100 users with an expired coupon, how many left?"),),
        Number(100 * counts.left_of_with, 0.3, "%", mistakes),
        (
            say("Now the group is another: everybody with an expired coupon, whether gone or not."),
            say("Stay in the column of the coupon: its first count over its last."),
        ),
        (
            say(
                "{with_count:,} of {all_with:,}, or {rate:.1%}; of those without it {other:.1%}. More of them leave, "
                "but many stay with it, and many leave without.",
                with_count=counts.left_with, all_with=counts.left_with + counts.stayed_with,
                rate=counts.left_of_with, other=counts.left_of_without,
            ),
        ),
    )  # fmt: skip


def _show_reasons(churn: ChurnInvestigation) -> Look:
    text = say(
        "How to read it: the same comparison for every reason that the data can show. The two columns on leaving "
        "compare users who are alike in how long and how often they come: how many times as likely one with the reason "
        "leaves, and how much of all leaving would be missing if nobody had it and if it were a cause."
    )
    shows = (lambda: charts.plot_reasons(churn), lambda: tables.show_reasons(churn))
    return Look((text,), shows, f"{TABLES}show_reasons(churn)")


def _show_expiry(churn: ChurnInvestigation) -> Look:
    text = say(
        "How to read it: of the holders who were active on a day, the share who were not seen again for weeks. Day 0 "
        "is the first day on which the coupon is no longer valid; that date was fixed when the coupon was given, "
        "whoever got it. One line has those whose coupon lies unused, the other those who had used it before: few, so "
        "that their line jumps about."
    )
    return Look((text,), (lambda: charts.plot_expiry(churn),), f"{CHARTS}plot_expiry(churn)")


def _ask_evidence(counts: Counts, expiry: ExpiryResult) -> Question:
    kind = Choice((
        Option("association", say("goes together with expired coupons, whatever the cause")),
        Option("proof", say("is caused by expired coupons"),
               say("Users who let a coupon lie may be those who care less anyway. Shares cannot tell that apart.")),
        Option("nothing", say("has nothing to do with expired coupons"),
               say("The two shares differ by far more than chance: the intervals in the chart do not touch.")),
    ))  # fmt: skip
    better = Choice((
        Option("shares", say("that more leavers than stayers had it"),
               say("That is the comparison itself. Look for something that the kind of user cannot explain.")),
        Option("jump", say("the jump on the day of expiry, only where the coupon lay unused")),
        Option("months", say("that coupons expired in the months in which churn rose"),
               say("Many things happened in those months. That two things rise together is weak evidence.")),
    ))  # fmt: skip
    of_leaving = mark("{share:.0%} of all leaving")
    share = Choice((
        Option("all", say(of_leaving, share=counts.leavers_rate),
               say("That is how many leavers had it. Many would have left without it, as users without it do.")),
        Option("attributable", say(of_leaving, share=counts.attributable_rate)),
        Option("difference", say(of_leaving, share=counts.leavers_rate - counts.stayers_rate),
               say("That is the gap between the two shares. The table has a column for what it may account for.")),
    ))  # fmt: skip
    jump, own = expiry.jump, expiry.jumps.query("kind == 'expiry' and group == 'unused'")["ratio"].iloc[0]
    return Question(
        (say("Write the sentence for the report: fill the three gaps."),),
        Sentence(
            say("The shares say that leaving {kind}. What speaks for a cause is {better}. If it is one, it "
                "accounts for about {share}."),
            {"kind": kind, "better": better, "share": share},
        ),
        (
            say("Who lets a coupon expire may be another kind of user. Which chart compares holders just before a "
                "date that was fixed beforehand with holders just after it?"),
            say("For the third gap: the table's column on the share of leaving, not the share of leavers."),
        ),
        (
            say(
                "At a date that nobody chose, the chance to leave on a day becomes {own:.1f} times as large for "
                "holders of unused coupons; set against holders who had used theirs, {ratio:.1f} times [{low:.1f} to "
                "{high:.1f}]. That speaks for the expiry being at work. How much of all leaving it makes, the date "
                "does not tell; the {share:.0%} [{share_low:.0%} to {share_high:.0%}] come from comparing users "
                "alike, and hold as far as these are alike. It is less than {leavers:.0%} in any case.",
                own=own, ratio=jump.value, low=jump.low, high=jump.high, share=counts.attributable_rate,
                share_low=counts.attributable_low, share_high=counts.attributable_high, leavers=counts.leavers_rate,
            ),
        ),
    )  # fmt: skip


def _ask_decision(counts: Counts, alone: float) -> Question:
    options = (
        Option(
            "coupons", say("A new coupon for everybody"),
            say("Who stays anyway, or leaves for other reasons, would get the discount too; and the new coupon expires "
                "as well."),
        ),
        Option(
            "compare", say("A reminder to all holders, and a look at whether churn falls next month"),
            say("Churn moves by itself, as you saw. Without users left alone nobody will know what the reminder did."),
        ),
        Option(
            "holdout",
            say("A reminder before coupons expire, with {share:.0%} of the holders left alone by lot", share=alone),
        ),
        Option(
            "wait", say("Nothing, as shares prove no cause"),
            say("The day of expiry is more than shares, and a reminder costs little. Try it so that it can be "
                "measured."),
        ),
    )  # fmt: skip
    return Question(
        (say("What do you propose to the meeting?"),),
        Decision(Choice(options)),
        (
            say("Ask of each option: whom does it reach, what does it cost with those who would have stayed?"),
            say("And: how will you know in a month whether it worked?"),
        ),
        (
            say(
                "The reminder reaches those whose coupon is about to lapse, at the price of a message and of the "
                "coupons that are then used; the holders left alone tell what it brought. Even if nobody left over a "
                "coupon any more, about {rest:.0%} of the leaving would remain: go on looking.",
                rest=1 - counts.attributable_rate,
            ),
            say("State the result with both rates and their counts. “Recall up 15%” leaves open whether points or per "
                "cent are meant."),
        ),
    )  # fmt: skip

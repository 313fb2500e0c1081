"""Lesson: growth accounting, or who was new, who came back and who left when active users fall."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from opslib.data.periods import DAY, Period
from opslib.decide.growth.model import GrowthModel, model_growth
from opslib.errors import InputError
from opslib.language import join_words, say
from opslib.present.growth import charts, tables
from opslib.present.tables import make_table
from opslib.training.answers import Choice, Decision, Number, Option, Sentence
from opslib.training.curriculum import name_lesson
from opslib.training.judgement import Mistake
from opslib.training.plan import LessonPlan, Look, Question

if TYPE_CHECKING:
    from opslib.data.source import Data
    from opslib.present.display import TableView

NAME = "where_growth_comes_from"
# Eight weeks before the June sale, against eight before Spring Festival: no holiday in either.
AS_OF, DAYS, COMPARE_TO = "2026-05-31", 56, "2026-02-08"
CODE = f"""from opslib.present.growth import charts

model = opslib.model_growth(data, as_of="{AS_OF}", days={DAYS}, compare_to="{COMPARE_TO}")
charts."""


@dataclass(frozen=True)
class Flows:
    """What moved active users over whole weeks: the first opening, and the sums."""

    opening: int
    new: int
    back: int
    left: int
    # Active users of the week before each week, added up: those who could be missing.
    could_leave: int

    @property
    def net(self) -> int:
        return self.new + self.back - self.left

    @property
    def left_rate(self) -> float:
        return self.left / self.could_leave

    @property
    def ratio(self) -> float:
        """Gained for each one lost."""
        return (self.new + self.back) / self.left


@dataclass(frozen=True)
class Accounting:
    """The weeks looked at, those compared with, and the last week alone."""

    model: GrowthModel
    before_period: Period
    now: Flows
    before: Flows
    last: Flows

    @property
    def weeks(self) -> int:
        return DAYS // 7


def write_lesson(data: Data) -> LessonPlan:
    """Write the lesson with the numbers of a company.

    Raises:
        InputError: the company's data do not hold the weeks of the lesson, or users did not get fewer in them.
    """
    seen = _account(data)
    dau = seen.model.changes()["dau_count"]
    situation = (
        say(
            "Monday, {day}. The head of marketing: “Daily active users went from {before:,.0f} to {now:,.0f} on "
            "average, {change:.1%}. No wonder: last week {new:,} users were new and {left:,} left, {times:.1f} times "
            "as many. New users dry up. Give me half as much budget again, and the number comes back.”",
            day=seen.model.scope.as_of + DAY, before=dau.before.value, now=dau.now.value, change=dau.relative,
            new=seen.last.new, left=seen.last.left, times=seen.last.left / seen.last.new,
        ),
        say(
            "You have the weeks of {company} up to {last} before you, and are to say where the fall comes from before "
            "anybody spends money on it. It is compared with the {weeks} weeks to {compared}: in between lies "
            "{holiday}, when users do other things.",
            company=data.playbook.company.name, last=seen.model.scope.as_of, weeks=seen.weeks,
            compared=seen.before_period.last_day, holiday=_name_holidays(data, seen),
        ),
    )  # fmt: skip
    return LessonPlan(
        name=NAME,
        title=name_lesson(NAME),
        minutes=30,
        situation=situation,
        steps={
            "active": _show_active(seen),
            "accounting": _show_accounting(seen),
            "net": _ask_net(seen),
            "which": _ask_which(seen),
            "share_lost": _ask_share_lost(seen),
            "ratio": _ask_ratio(seen),
            "meaning": _ask_meaning(seen),
            "decision": _ask_decision(seen),
        },
        closing=(
            say("Active before, and new, and came back, less left, is active now: to the user. Start with that sum."),
            say("New users alone say nothing: hold what was gained against what was lost. Below one, users get fewer."),
            say("Who left a week is not gone for good, and may be counted again. Compare shares, not heads."),
        ),
    )


def _account(data: Data) -> Accounting:
    model = model_growth(data, as_of=AS_OF, days=DAYS, compare_to=COMPARE_TO)
    before = model.scope.before
    if before is None:
        raise InputError(f"{NAME}: this lesson needs data back to {COMPARE_TO}; use the sample company.")
    now = _add_up(model, model.scope.now)
    last = Period(model.scope.now.end - 7 * DAY, model.scope.now.end, "")
    then = _add_up(model, before)
    if now.net >= 0 or now.new <= then.new or now.back <= then.back:
        raise InputError(
            f"{NAME}: this lesson needs weeks in which more came and even more left; use the sample company."
        )
    return Accounting(model, before, now, then, _add_up(model, last))


def _add_up(model: GrowthModel, period: Period) -> Flows:
    rows = model.audience.accounting.periods
    starts = rows["period_start"]
    rows = rows[rows["complete"] & (starts >= pd.Timestamp(period.start)) & (starts < pd.Timestamp(period.end))]
    names = ("new_count", "resurrected_count", "churned_count", "opening_count")
    return Flows(int(rows["opening_count"].iloc[0]), *(int(rows[name].sum()) for name in names))


def _name_holidays(data: Data, seen: Accounting) -> str:
    first, end = seen.before_period.end, seen.model.scope.now.start
    return join_words(h.name for h in data.playbook.holidays if first <= h.last_day + DAY and h.start < end)


def _show_active(seen: Accounting) -> Look:
    text = say(
        "How to read it: users active on the day, in 7 days and in 30 days. Left of the gap are the weeks compared "
        "with, right of it the weeks looked at. The lines say how many, not why."
    )
    return Look((text,), (lambda: charts.plot_active_users(seen.model),), f"{CODE}plot_active_users(model)")


def _show_accounting(seen: Accounting) -> Look:
    text = (
        say(
            "How to read it: each week's bar holds above zero who was gained, below zero who was lost. New: active for "
            "the first time. Came back: active this week and some time earlier, but not the week before. Left: active "
            "the week before, but not this week. The line is what was gained less what was lost."
        ),
        say(
            "The first table has the last weeks, the second adds up {weeks} whole weeks then and now.", weeks=seen.weeks
        ),
    )
    shows = (
        lambda: charts.plot_accounting(seen.model),
        lambda: tables.show_accounting(seen.model),
        lambda: _tabulate_flows(seen),
    )
    return Look(text, shows, f"{CODE}plot_accounting(model)")


def _tabulate_flows(seen: Accounting) -> TableView:
    names = {
        "opening": say("Active in the week before the first"), "new": say("New"), "back": say("Came back"),
        "left": say("Left"), "could_leave": say("Active users of the week before each week, added up"),
    }  # fmt: skip
    shown = pd.DataFrame({"what": list(names.values())})
    for side, flows in (("before", seen.before), ("now", seen.now)):
        shown[side] = [f"{getattr(flows, name):,}" for name in names]
    labels = {
        "what": say("Users who"),
        "before": say("{weeks} weeks to {day}", weeks=seen.weeks, day=seen.before_period.last_day),
        "now": say("{weeks} weeks to {day}", weeks=seen.weeks, day=seen.model.scope.as_of),
    }
    return make_table(shown, labels, name="flows", numeric=("before", "now"))


def _ask_net(seen: Accounting) -> Question:
    now = seen.now
    mistakes = (
        Mistake(now.new - now.left,
                say("You left out those who came back: they are active too.")),
        Mistake(now.new + now.back,
                say("That is what was gained. Take away what was lost.")),
        Mistake(seen.last.net,
                say("That is one week. Take all {weeks}.", weeks=seen.weeks)),
    )  # fmt: skip
    return Question(
        (
            say("How many users were active in the last of the {weeks} weeks up to {day}, less those in the week "
                "before the first? Fewer is negative.", weeks=seen.weeks, day=seen.model.scope.as_of),
        ),
        Number(now.net, 1, say("people"), mistakes),
        (
            say("Two ways in and one way out."),
            say("Add the two that are gained over all weeks, and take away the one that is lost."),
        ),
        (
            say(
                "{new:,} new and {back:,} who came back, less {left:,} who left. Added to the {opening:,} at the "
                "beginning that makes the {closing:,} of the last week, to the user.",
                new=now.new, back=now.back, left=now.left, opening=now.opening, closing=now.opening + now.net,
            ),
        ),
    )  # fmt: skip


def _ask_which(seen: Accounting) -> Question:
    now, before = seen.now, seen.before
    flows = {"new": (before.new, now.new), "back": (before.back, now.back), "left": (before.left, now.left)}
    texts = {
        "new": (say("fewer new users"), say("more new users")),
        "back": (say("fewer who came back"), say("more who came back")),
        "left": (say("fewer who left"), say("more who left")),
    }
    gaps = {}
    for flow, (then, later) in flows.items():
        fewer, more = texts[flow]
        reason = say("Read it off: it was {before:,} then, and {now:,} now.", before=then, now=later)
        gaps[flow] = Choice((Option("fewer", fewer, reason), Option("more", more)))
    gained = say("Of these the company gained a larger number than then. They made the fall smaller.")
    gaps["cause"] = Choice(
        (
            Option("new", say("the new users"), gained),
            Option("back", say("the users coming back"), gained),
            Option("left", say("the users leaving")),
        )
    )
    pattern = say("Compared with then there were {new}, {back}, and {left}. Active users fell because of {cause}.")
    return Question(
        (say("Put the sentence together."),),
        Sentence(pattern, gaps),
        (
            say("Go through the second table line by line: then against now."),
            say("A fall can come from a way in that narrows, or from a way out that widens. Which of them is it here?"),
        ),
        (
            say(
                "New users went from {new_before:,} to {new:,}, those who came back from {back_before:,} to {back:,}: "
                "both grew. Those who left went from {left_before:,} to {left:,}, and that outweighs both.",
                new_before=before.new, new=now.new, back_before=before.back, back=now.back,
                left_before=before.left, left=now.left,
            ),
        ),
    )  # fmt: skip


def _ask_share_lost(seen: Accounting) -> Question:
    now, before = seen.now, seen.before
    mistakes = (
        Mistake(100 * (now.left_rate / before.left_rate - 1),
                say("That is per cent of the share before. Points are the difference of the two shares.")),
        Mistake(100 * (now.left / before.left - 1),
                say("That is the growth of a count. Make shares first: of how many who could have left?")),
        Mistake(100 * now.left_rate,
                say("That is the share now. Asked is by how much it differs from the share then.")),
    )  # fmt: skip
    return Question(
        (
            say("Not equally many users could leave then and now. Of 100 users active in a week, how many were missing "
                "the week after? By how many percentage points has that share changed? A rise is positive."),
        ),
        Number(100 * (now.left_rate - before.left_rate), 0.4, say("points"), mistakes),
        (
            say("Who can be missing this week? Only who was active the week before."),
            say("Divide those who left by the last line of the second table, for each of the two times."),
        ),
        (
            say(
                "From {before:.1%} ({before_left:,} of {before_base:,}) to {now:.1%} ({left:,} of {base:,}).",
                before=before.left_rate, before_left=before.left, before_base=before.could_leave,
                now=now.left_rate, left=now.left, base=now.could_leave,
            ),
        ),
    )  # fmt: skip


def _ask_ratio(seen: Accounting) -> Question:
    now = seen.now
    mistakes = (
        Mistake(now.new / now.left,
                say("That is new users alone, as the head of marketing counts. Whoever comes back is gained as well.")),
        Mistake(1 / now.ratio,
                say("Upside down: you divided what was lost by what was gained.")),
        Mistake(seen.last.ratio,
                say("That is the last week alone. Take all {weeks}.", weeks=seen.weeks)),
    )  # fmt: skip
    return Question(
        (
            say("How many users were gained for each user lost, over the {weeks} weeks up to {day}? (The quick ratio.) "
                "Two decimals, please.", weeks=seen.weeks, day=seen.model.scope.as_of),
        ),
        Number(now.ratio, 0.01, say("gained per user lost"), mistakes),
        (
            say("Gained is what the bars show above zero, of both colours."),
            say("New and came back together, over left."),
        ),
        (
            say(
                "({new:,} + {back:,}) / {left:,} = {ratio:.2f}; in the weeks compared with it was {before:.2f}. Where "
                "fewer are gained than lost, active users get fewer, however many are new.",
                new=now.new, back=now.back, left=now.left, ratio=now.ratio, before=seen.before.ratio,
            ),
        ),
    )  # fmt: skip


def _ask_meaning(seen: Accounting) -> Question:
    now = seen.now
    options = (
        Option("gone", say("So many people have gone for good"),
               say("Look at who came back in the same weeks: they had been counted as left before.")),
        Option("wrong", say("The count must be wrong: there were never so many active users"),
               say("In one week, no. But the sum goes over several weeks.")),
        Option("visits", say("A user who misses a week, returns and misses another is in it twice")),
        Option("deleted", say("So many have deleted the app"),
               say("The table knows who was active, not who deleted anything.")),
    )  # fmt: skip
    return Question(
        (say("{left:,} left in these weeks, though only {opening:,} were active at the beginning. What does the number "
             "say?", left=now.left, opening=now.opening),),
        Choice(options),
        (
            say("Read again what “left” means: against which week?"),
            say("Follow one person who comes every second week through the table."),
        ),
        (
            say("Left counts how often somebody stayed away after an active week, not people. Many return: {back:,} "
                "times somebody did. That is why shares are compared over the same span, and why nobody should be "
                "written off after one week.", back=now.back),
        ),
    )  # fmt: skip


def _ask_decision(seen: Accounting) -> Question:
    now, before = seen.now, seen.before
    options = (
        Option(
            "budget", say("Half as much budget again for new users"),
            say("New users grew already, and users fell all the same. As many as come run out again."),
        ),
        Option("causes", say("Find out who leaves since when and why; spend on that first")),
        Option(
            "coupon", say("Send a coupon to everybody who left"),
            say("Many of them returned in these weeks without it, so nobody would know whom the coupon brought."),
        ),
        Option(
            "wait", say("Wait: in the last week gains and losses were nearly even"),
            say("That is one week. In it {share:.1%} were missing of those active before; then it was {then:.1%}.",
                share=seen.last.left_rate, then=before.left_rate),
        ),
    )  # fmt: skip
    return Question(
        (say("What do you do first?"),),
        Decision(Choice(options)),
        (
            say("Which of the three flows made the fall? Which option works on that flow?"),
            say("Imagine the option in the table: which number of the second table would it change?"),
        ),
        (
            say(
                "Had {then:.1%} been missing each week as then, {fewer:,.0f} fewer would have left; some of them came "
                "back later, so not all of that is gained. To make up the {net:,} by new users alone takes at least "
                "{share:.0%} more of them, for new ones leave too, and that again and again, as long as so many leave.",
                then=before.left_rate, fewer=now.left - before.left_rate * now.could_leave, net=-now.net,
                share=-now.net / now.new,
            ),
            say("The table says who is missing, not why. The churn notebook looks for the cause, with both groups' "
                "counts."),
        ),
    )  # fmt: skip

"""Lesson: day-7 retention below 25%, or how sure one can be that a rule which fires is right."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opslib.decide.rules.result import RuleResult
from opslib.language import say
from opslib.present.display import ListView
from opslib.present.rules import explain_rule, say_result
from opslib.present.words import MISSING, format_estimate
from opslib.training.answers import Choice, Decision, Group, Number, Option, Sentence
from opslib.training.curriculum import name_lesson
from opslib.training.judgement import Mistake
from opslib.training.lessons.trigger_views import (
    ABOVE_RATE,
    COLUMNS,
    RETAINED_DAY,
    RULE,
    SHOWN_WEEKS,
    USERS,
    YEAR_WEEKS,
    Trigger,
    count_below,
    draw_year,
    follow_rule,
    plot_year,
    tabulate_chance,
    tabulate_groups,
    tabulate_quarters,
    tabulate_weeks,
)
from opslib.training.plan import LessonPlan, Look, Question

if TYPE_CHECKING:
    from opslib.data.source import Data

NAME = "below_the_trigger"
CODE = "watch = opslib.watch_company(data)"
WEEKS_CODE = f"""from opslib.decide.watch.watch import check_rule

{CODE}
rule = next(rule for rule in data.playbook.rules if rule.name == "{RULE}")
check_rule(rule, watch.reader, watch.scope).series.frame.tail({SHOWN_WEEKS})"""
RULES_CODE = f"from opslib.present.watch import tables\n\n{CODE}\ntables.show_rules(watch)"
QUARTER_CODE = """model = opslib.model_growth(data)
model.staying.now.curve.query("n == 7")"""


def write_lesson(data: Data) -> LessonPlan:
    """Write the lesson with the numbers of a company.

    Raises:
        InputError: the rule fires on the last day, or did not fire in the weeks before.
    """
    seen = follow_rule(data)
    rule, last, unready = seen.result.rule, seen.last, seen.open_week
    situation = (
        say(
            "{day}, the weekly meeting. The handbook says: “{says}” The head of operations: “Of the {users:,.0f} "
            "new users of the week from {week} only {share:.1%} were there on day 7! Start everything today: calls, "
            "coupons and recall messages, for everybody.”",
            day=seen.model.scope.as_of, says=explain_rule(rule), users=unready["denominator"],
            week=f"{unready['period_start']:%Y-%m-%d}",
            share=unready["numerator"] / unready["denominator"],
        ),
        say(
            "An analyst objects: “The week before it stands at {value:.1%}, and the weeks before that are up and down: "
            "nothing but noise. Let us switch the rule off.” Both look at you.",
            value=last["value"],
        ),
    )  # fmt: skip
    return LessonPlan(
        name=NAME,
        title=name_lesson(NAME),
        minutes=35,
        situation=situation,
        steps={
            "weeks": _show_weeks(seen),
            "fires": _ask_fires(seen),
            "chance": _show_chance(seen),
            "by_chance": _ask_by_chance(seen),
            "certainty": _show_certainty(seen),
            "one_week": _ask_one_week(seen),
            "quarter": _show_quarter(seen),
            "surely": _ask_surely(seen),
            "where": _ask_where(seen),
            "decision": _ask_decision(seen),
        },
        closing=(
            say("Below means strictly below, of users who have all had their day: read the rule before you act on it."),
            say("A week below the limit is a hint. How sure it is depends on how far below it lies and of how many."),
            say("Where single weeks swing around a limit, add weeks up: more users, a narrower interval."),
        ),
    )


def _show_weeks(seen: Trigger) -> Look:
    text = say(
        "How to read it: new users by week, and how many of them were active on the seventh day after their first. A "
        "week is known when its last users have had that day; of weeks that are not, the counts so far are shown "
        "without a share. The interval tells where the true rate may lie, going by that week's users alone."
    )
    return Look((text,), (lambda: tabulate_weeks(seen),), WEEKS_CODE)


def _show_chance(seen: Trigger) -> Look:
    text = (
        say(
            "How to read it: a made-up company where nothing ever happens. Its true day-7 retention is {rate:.0%}, "
            "each week has {users:,} new users, and only chance decides who comes. The chart is one year of it.",
            rate=seen.limit + ABOVE_RATE, users=USERS,
        ),
        say("The table has what to expect on average: of 100 weeks, how many show less than {limit:.0%}, by how many "
            "new users a week has and by what the true rate is.", limit=seen.limit),
    )  # fmt: skip
    return Look(text, (lambda: plot_year(seen), lambda: tabulate_chance(seen)))


def _show_certainty(seen: Trigger) -> Look:
    text = say(
        "How to read it: what the playbook's own rule said on two days of the last weeks. The probability is that the "
        "true rate lies below the limit, going by these users alone. The version that keeps false alarms rare has a "
        "limit further down."
    )
    return Look((text,), (lambda: ListView([s for r in (seen.near, seen.far) for s in _say_day(r)]),),
                RULES_CODE)  # fmt: skip


def _say_day(result: RuleResult) -> list[str]:
    return [say("On {day}: {text}", day=result.as_of, text=text) for text in say_result(result)]


def _show_quarter(seen: Trigger) -> Look:
    text = (
        say("How to read it: the weeks of a quarter added up, everybody first, with the quarter before."),
        say("Then groups of users: the last known week, and the quarter. Users whose day 7 has not come are in no "
            "share."),
    )  # fmt: skip
    return Look(text, (lambda: tabulate_quarters(seen), lambda: tabulate_groups(seen)), QUARTER_CODE)


def _ask_fires(seen: Trigger) -> Question:
    last, unready = seen.last, seen.open_week
    far = seen.far.groups.iloc[0]
    day, week = f"{last['period_start']:%Y-%m-%d}", f"{unready['period_start']:%Y-%m-%d}"
    options = (
        Option("newest", say("Yes: of the week from {week} only {share:.1%} were there", week=week,
                             share=unready["numerator"] / unready["denominator"]),
               say("Most of these users have not had their seventh day yet. Nobody can say what their share will be.")),
        Option("reached", say("Yes: the week from {week} is at {value:.1%}, and the limit is {limit:.0%}",
                              week=day, value=last["value"], limit=seen.limit),
               say("Read the handbook's word again: to reach the limit is one thing, to be under it another.")),
        Option("quiet", say("No: the last known week, from {week}, is not under the limit", week=day)),
        Option("before", say("Yes: the week from {week} is at {value:.1%}",
                             week=f"{far['period_start']:%Y-%m-%d}", value=far["value"]),
               say("When that week was the last known, it did. Another week is known since.")),
    )  # fmt: skip
    return Question(
        (say("Does the rule fire on {day}?", day=seen.model.scope.as_of),),
        Choice(options),
        (
            say("Which is the last week whose users have all had their seventh day?"),
            say("Divide that week's two counts, and hold the share against the wording of the handbook."),
        ),
        (
            say(
                "{active:,.0f} of {users:,.0f} is {value:.2%}. Below means strictly below. The week after stands at "
                "{open_active:,.0f} of {open_users:,.0f} so far, because most of its users' days are still to come.",
                active=last["numerator"], users=last["denominator"], value=last["value"],
                open_active=unready["numerator"], open_users=unready["denominator"],
            ),
        ),
    )  # fmt: skip


def _ask_by_chance(seen: Trigger) -> Question:
    rate = seen.limit + ABOVE_RATE
    chance, drawn = count_below(USERS, rate, seen.limit), int(draw_year(seen)["below"].sum())
    mistakes = (
        Mistake(0, say("The true rate lies above the limit. But what a week shows is the truth and chance.")),
        Mistake(100 * chance, say("That is of 100 weeks. How many weeks has a year?")),
        Mistake(YEAR_WEEKS * (1 - chance), say("Those are the weeks that are not under the limit.")),
        Mistake(drawn, say("That is one year as chance drew it; the next one looks otherwise. Asked is the average.")),
    )
    return Question(
        (
            say(
                "A company is truly at {rate:.0%} and has {users:,} new users a week. In how many of the {weeks} weeks "
                "of a year does the rule fire on average, though nothing is wrong?",
                rate=rate, users=USERS, weeks=YEAR_WEEKS,
            ),
        ),
        Number(YEAR_WEEKS * chance, 0.5, say("weeks"), mistakes),
        (
            say("Find the row by the size and the column by the truth: so many of a hundred weeks."),
            say("Then go from a hundred weeks to a year's."),
        ),
        (
            say(
                "{chance:.1%} of {weeks} weeks. A false alarm nearly every month: for a company so near the limit the "
                "rule alone is not worth much, and with fewer users it is worth less.",
                chance=chance, weeks=YEAR_WEEKS,
            ),
        ),
    )  # fmt: skip


def _ask_one_week(seen: Trigger) -> Question:
    near, far = seen.near.groups.iloc[0], seen.far.groups.iloc[0]
    options = (
        Option("alike", say("Both: under is under"),
               say("The rule sees it so. But a week being under is not yet the true rate being under.")),
        Option("first", say("Only the first: a larger share was active, so it can be trusted more"),
               say("Its share is nearer to the limit. The nearer, the less can it tell on which side the truth is.")),
        Option("second", say("Only the second: the first says little more than a coin")),
        Option("neither", say("Neither: such a rule always fires by chance"),
               say("Often is not always. Look at what the rule says of each of them.")),
    )  # fmt: skip
    return Question(
        (
            say(
                "On {near_day} the rule fired at {near:.1%} of {near_users:,.0f} users, on {far_day} at {far:.1%} of "
                "{far_users:,.0f}. Which alarm says that the true rate is under the limit?",
                near_day=seen.near.as_of, near=near["value"], near_users=near["denominator"],
                far_day=seen.far.as_of, far=far["value"], far_users=far["denominator"],
            ),
        ),
        Choice(options),
        (
            say("Look for the probability in each of the two sentences."),
            say("A coin has 50%. How far from it is each?"),
        ),
        (
            say(
                "The true rate was under the limit with a probability of {near:.0%} on the first day and of {far:.0%} "
                "on the second. Both sentences also say that the usual level, {usual:.1%}, lies under the limit: then "
                "firing is the rule and silence the exception, and an alarm is no news.",
                near=near["passed_probability"], far=far["passed_probability"], usual=far["usual_value"],
            ),
            say("Some caution is left with the second: it is the lowest of several weeks, and the lowest of many is "
                "always low. The stricter version, made for many weeks, keeps quiet; so weeks are added up next."),
        ),
    )  # fmt: skip


def _ask_surely(seen: Trigger) -> Question:
    now = seen.model.staying.now
    point = now.estimate(RETAINED_DAY)
    base = (
        Option("all", say("all new users"), say("Those whose day 7 has not come cannot be counted as lost.")),
        Option("next_day", say("those who were there on the next day"),
               say("Then those who went at once would be left out, and the share would look better.")),
        Option("ready", say("those whose day 7 is over")),
    )  # fmt: skip
    interval = (
        Option("holds", say("holds the limit"), say("Look at the upper end of the interval of this quarter.")),
        Option("under", say("lies under the limit as a whole")),
        Option("over", say("lies over the limit as a whole"), say("Look at both ends of the interval again.")),
    )
    meaning = (
        Option("nothing", say("nobody can tell, since the weeks swing"),
               say("Single weeks swing. Their sum has many more users, and swings far less.")),
        Option("fell", say("it has just fallen below the limit"),
               say("To say that it fell, compare with the quarter before: where did that lie?")),
        Option("sure", say("the true rate is as good as surely too low")),
    )  # fmt: skip
    pattern = say("Over the quarter, day-7 retention is a share of {base}. Its 95% interval {interval}. So {meaning}.")
    return Question(
        (say("Put the sentence together, for everybody and the last quarter."),),
        Sentence(pattern, {"base": Choice(base), "interval": Choice(interval), "meaning": Choice(meaning)}),
        (
            say("Use the first of the two tables: which of its counts was the share divided by?"),
            say("Hold both ends of the interval against the limit; then compare the two rows."),
        ),
        (
            say(
                "{active:,.0f} of {users:,.0f}: {share}. The limit of {limit:.0%} is not in the interval. What single "
                "weeks leave open, a quarter can tell.",
                active=point.numerator, users=point.denominator, share=format_estimate(point), limit=seen.limit,
            ),
            say("Whether it fell below only now is another question: hold the row of the quarter before against the "
                "limit too."),
        ),
    )  # fmt: skip


def _ask_where(seen: Trigger) -> Question:
    right = seen.surely_below.iloc[0]
    mistakes = []
    for row in seen.groups.sort_values("retention_rate_week").to_dict("records"):
        if row["value"] == right["value"]:
            continue
        reason = say("Its interval of the quarter is not wholly under the limit.")
        if row["retention_high"] < seen.limit:
            reason = say("Surely under the limit, but another group lies lower.")
        elif row["retention_rate_week"] < right["retention_rate_week"]:
            reason = say(
                "In one week of {users} users it is the lowest. But so few can show anything: over the quarter its "
                "interval reaches the limit.",
                users=row["users_count_week"],
            )
        mistakes.append(Mistake({row["column"]: row["value"]}, reason))
    values = {column: sorted(seen.groups.query("column == @column")["value"]) for column in COLUMNS}
    return Question(
        (say("Which group's day-7 retention lies lowest, of those of which one can be sure that it is under the "
             "limit?"),),
        Group({right["column"]: right["value"]}, values, tuple(mistakes)),
        (
            say("Leave out every group whose interval of the quarter reaches the limit."),
            say("Of the groups that remain, take the lowest share of the quarter. One column is enough."),
        ),
        (
            say(
                "{rate:.1%} of {users:,} users, at most {high:.1%} (95%). A week of a group has too few users: "
                "rules on small groups fire without end, or are silent when they should not be.",
                rate=right["retention_rate"], users=right["users_count"], high=right["retention_high"],
            ),
        ),
    )  # fmt: skip


def _ask_decision(seen: Trigger) -> Question:
    options = (
        Option("everything", say("Start everything today, for everybody: {share:.1%} is a catastrophe",
                                 share=seen.open_week["numerator"] / seen.open_week["denominator"]),
               say("That share counts users as lost whose day has not come. As their days come it can only rise.")),
        Option("nothing", say("Nothing: wait for what the next week shows"),
               say("One week more is as much chance as the last. The quarter speaks more clearly.")),
        Option("tiers", say("Start the tiers as the handbook has it, keep a group without them, and judge by several "
                            "weeks together")),
        Option("lower", say("Set the limit to {low:.0%}, so that the rule keeps quiet", low=seen.limit - 0.05),
               say("Then it is the rule that changes and not the retention.")),
    )  # fmt: skip
    results = (seen.model.staying.now, seen.model.staying.before)
    now, before = (MISSING if result is None else format_estimate(result.estimate(RETAINED_DAY)) for result in results)
    return Question(
        (say("What do you do first?"),),
        Decision(Choice(options)),
        (
            say("What do you know for sure, and from which span of time?"),
            say("Ask of each option: how will you know afterwards whether it helped?"),
        ),
        (
            say(
                "Over the quarter {share} is as good as surely under the limit, so the handbook's step is due, though "
                "not because of one week. The quarter before stood at {before}: no fire that broke out this week, so "
                "there is time to do it well.",
                share=now, before=before,
            ),
            say(
                "A group kept without it, chosen by lot, tells whether tiers help. To judge four weeks together "
                "instead of one makes the interval about half as wide."
            ),
        ),
    )  # fmt: skip

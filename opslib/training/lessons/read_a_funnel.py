"""Lesson: where a funnel loses users, and which step moved it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opslib.decide.funnel.culprit import read_segment
from opslib.decide.funnel.diagnosis import FunnelDiagnosis, diagnose_funnel
from opslib.errors import InputError
from opslib.language import say
from opslib.present.funnel import tables
from opslib.training.answers import Choice, Decision, Group, Number, Option
from opslib.training.curriculum import name_lesson
from opslib.training.judgement import Mistake
from opslib.training.lessons.plain_charts import plot_split, plot_steps
from opslib.training.plan import LessonPlan, Look, Question
from opslib.training.values import list_values

if TYPE_CHECKING:
    from opslib.data.source import Data

NAME = "read_a_funnel"
EVENT_COLUMNS, USER_COLUMNS = ("app_version", "platform"), ("channel", "city_tier")
CODE = """from opslib.present.funnel import {module}

diagnosis = opslib.diagnose_funnel(data)
{module}.{function}(diagnosis)"""


def write_lesson(data: Data) -> LessonPlan:
    """Write the lesson with the numbers of a company.

    Raises:
        InputError: the company's funnel did not change, or not in a group of users.
    """
    diagnosis = diagnose_funnel(data)
    if diagnosis.comparison is None or not diagnosis.culprit or not diagnosis.culprit.segment:
        raise InputError(f"{NAME}: this lesson needs a funnel that moved in a group of users; use the sample company.")
    before = diagnosis.comparison.before.estimate(len(diagnosis.path.labels), overall=True)
    first, last = diagnosis.path.labels[0], diagnosis.path.labels[-1]
    situation = (
        say(
            "Monday, ten o'clock. The head of sales says: “Of the users who look at an item, only {counted:.1%} pay "
            "within {days} days; the quarter before it was {before:.1%}. And look at the funnel: most of them are lost "
            "before one and the same step. Let us rebuild that page.”",
            counted=_count_too_early(diagnosis), before=before.value, days=diagnosis.whole.window.days,
        ),
        say(
            "You have the funnel of {company} from {first} to {last} before you. Before anybody rebuilds anything you "
            "are to say which step made the difference, for whom, and what to do first.",
            company=data.playbook.company.name, first=first, last=last,
        ),
    )  # fmt: skip
    return LessonPlan(
        name=NAME,
        title=name_lesson(NAME),
        minutes=25,
        situation=situation,
        steps={
            "steps": _show_steps(diagnosis),
            "overall": _ask_overall(diagnosis),
            "lost_most": _ask_lost_most(diagnosis),
            "split": _show_split(diagnosis),
            "moved": _ask_moved(diagnosis),
            "points": _ask_points(diagnosis),
            "causes": _show_causes(diagnosis),
            "who": _ask_who(data, diagnosis),
            "decision": _ask_decision(diagnosis),
        },
        closing=(
            say("The step that loses most users is seldom the step that moved. Compare each step with itself, before."),
            say("A share needs its denominator: who could have got there, and had the time to."),
            say("A point is not a per cent: from 20% to 15% is 5 points, and a quarter of the rate."),
        ),
    )


def _find_worst(diagnosis: FunnelDiagnosis) -> str:
    """The step before which most users stop."""
    dropped = diagnosis.whole.steps["dropped_count"].to_numpy()[1:]
    return diagnosis.path.labels[1 + int(dropped.argmax())]


def _count_too_early(diagnosis: FunnelDiagnosis) -> float:
    """The share who got through, with those whose days are not over in the denominator: a common mistake."""
    steps = diagnosis.whole.steps
    return float(steps["converted_count"].iloc[-1] / (steps["entered_count"].iloc[0] + steps["immature_count"].iloc[0]))


def _show_steps(diagnosis: FunnelDiagnosis) -> Look:
    text = say(
        "How to read it: each bar is the share of those who entered who got that far, grey the period before, blue "
        "now. The table has the counts. Users whose {days} days are not over yet are in no rate.",
        days=diagnosis.whole.window.days,
    )
    return Look(
        (text,),
        (lambda: plot_steps(diagnosis), lambda: tables.show_steps(diagnosis)),
        CODE.format(module="charts", function="plot_steps"),
    )


def _show_split(diagnosis: FunnelDiagnosis) -> Look:
    text = say(
        "How to read it: each step's share in the change of the whole, in percentage points of those who entered, with "
        "its 95% interval. The points add up to the change. An interval that holds zero shows no clear change."
    )
    return Look((text,), (lambda: plot_split(diagnosis),), CODE.format(module="charts", function="plot_split"))


def _show_causes(diagnosis: FunnelDiagnosis) -> Look:
    text = say(
        "How to read it: the groups in which the change of that step sits. A step can get worse because a group did, "
        "or because a new group came with a low rate. Before and now are the groups' own rates; a group that nobody "
        "belonged to before is compared with users of the same days who are alike in all else."
    )
    return Look(
        (text,),
        # No chart of the weeks: its legend names whom the question after it asks for.
        (lambda: tables.show_causes(diagnosis),),
        CODE.format(module="tables", function="show_causes"),
    )


def _ask_overall(diagnosis: FunnelDiagnosis) -> Question:
    steps, whole = diagnosis.whole.steps, diagnosis.whole.estimate(len(diagnosis.path.labels), overall=True)
    entered, paid = float(steps["entered_count"].iloc[0]), float(steps["converted_count"].iloc[-1])
    waiting = float(steps["immature_count"].iloc[0])
    first, last = diagnosis.path.labels[0], diagnosis.path.labels[-1]
    assert diagnosis.comparison is not None
    before = diagnosis.comparison.before.estimate(len(diagnosis.path.labels), overall=True)
    mistakes = (
        Mistake(
            100 * float(steps["step_rate"].iloc[-1]),
            say("You divided by those who reached the step before {last}, not by those who entered.", last=last),
        ),
        Mistake(
            100 * _count_too_early(diagnosis),
            say(
                "That is what the head of sales counted: with users whose days are not over, who can still get through."
            ),
        ),
        Mistake(
            100 * float(steps["overall_rate"].iloc[1]),
            say("That is who got to the second step. Read the last bar."),
        ),
        Mistake(100 * float(before.value or 0), say("That is the period before. Asked is now.")),
    )
    return Question(
        (say("Of 100 users who entered at {first} now, how many got to {last}?", first=first, last=last),),
        Number(100 * float(whole.value or 0), 0.5, "%", mistakes),
        (
            say("Two counts make it: who entered, and who got to the end."),
            say("In the table: the last row's users, over the first row's."),
        ),
        (
            say(
                "{paid:,.0f} of {entered:,.0f} users. The {waiting:,.0f} who entered too late to have had their days "
                "are left out above the line and below.",
                paid=paid, entered=entered, waiting=waiting,
            ),
        ),
    )  # fmt: skip


def _ask_lost_most(diagnosis: FunnelDiagnosis) -> Question:
    assert diagnosis.comparison is not None
    worst, labels = _find_worst(diagnosis), diagnosis.path.labels[1:]
    parts = (diagnosis.whole.steps, diagnosis.comparison.before.steps)
    share, before = (
        float(steps["dropped_count"].iloc[labels.index(worst) + 1] / steps["entered_count"].iloc[0]) for steps in parts
    )
    dropped = dict(zip(labels, diagnosis.whole.steps["dropped_count"].iloc[1:], strict=True))
    reasons = {
        label: say("{count:,} users stop before {step}; somewhere more do.", count=int(dropped[label]), step=label)
        for label in labels
    }
    options = [Option(label, label, "" if label == worst else reasons[label]) for label in labels]
    options.append(Option("alike", say("All steps lose about as many"), say("Compare the bars: they do not.")))
    return Question(
        (say("Before which step are most users lost?"),),
        Choice(tuple(options)),
        (
            say("Lost before a step: those of the step before who did not get there."),
            say("In the chart: between which two bars is the largest gap?"),
        ),
        (
            say("{count:,} users stop before {step}: {share:.1%} of those who entered, and {before:.1%} in the period "
                "before. It says where users are lost, not what changed.",
                count=int(dropped[worst]), step=worst, share=share, before=before),
        ),
    )  # fmt: skip


def _ask_moved(diagnosis: FunnelDiagnosis) -> Question:
    assert diagnosis.split is not None
    moved = diagnosis.path.labels[diagnosis.step - 1]
    options = []
    for row in diagnosis.split.steps.itertuples():
        reason = say(
            "Its own rate went from {before:.1%} to {after:.1%}: its interval holds zero, so chance alone may do that.",
            before=row.before_rate, after=row.after_rate,
        )  # fmt: skip
        options.append(Option(str(row.step), str(row.step), "" if row.step == moved else reason))
    everywhere = say("Then the points of all steps would lie about as far below zero. Look at each.")
    options.append(Option("all", say("All steps fell a little"), everywhere))
    own = diagnosis.split.steps.set_index("step").loc[moved]
    return Question(
        (say("Which step made the whole funnel worse than in the period before?"),),
        Choice(tuple(options)),
        (
            say("Where users are lost is one thing, where it changed another."),
            say("Look for the step whose interval does not hold zero."),
        ),
        (
            say(
                "{step} went from {before:.1%} to {after:.1%}. That makes up {share:.0%} of the change of the whole.",
                step=moved, before=own["before_rate"], after=own["after_rate"], share=own["share_of_change_rate"],
            ),
        ),
    )  # fmt: skip


def _ask_points(diagnosis: FunnelDiagnosis) -> Question:
    assert diagnosis.split is not None and diagnosis.split.overall.difference is not None
    moved = diagnosis.path.labels[diagnosis.step - 1]
    own = diagnosis.split.steps.set_index("step").loc[moved].to_dict()
    change = 100 * float(own["change_rate"])
    mistakes = (
        Mistake(
            change / float(own["before_rate"]),
            say("That is per cent of the rate before. Points are the difference of the two rates."),
        ),
        Mistake(
            100 * float(own["effect_rate"]),
            say("That is what the step did to the whole funnel, over everybody who entered. Asked is its own rate."),
        ),
        Mistake(
            100 * diagnosis.split.overall.difference,
            say("That is the change of the whole funnel, not of this step."),
        ),
    )
    return Question(
        (
            say("By how many percentage points did the rate of this step change, among those who reached the step "
                "before? A fall is negative."),
        ),
        Number(change, 0.1, say("points"), mistakes),
        (
            say("Two rates of the same step: before and now."),
            say("In the table of steps, look at “Went on to it”, and at “Before”."),
        ),
        (
            say(
                "From {before:.1%} of {before_count:,.0f} to {after:.1%} of {after_count:,.0f}.",
                before=own["before_rate"], before_count=own["before_count"],
                after=own["after_rate"], after_count=own["after_count"],
            ),
        ),
    )  # fmt: skip


def _ask_who(data: Data, diagnosis: FunnelDiagnosis) -> Question:
    culprit = diagnosis.culprit
    assert culprit is not None and culprit.inside is not None and culprit.outside is not None
    values = list_values(data, "events", EVENT_COLUMNS, period=diagnosis.whole.period)
    values |= list_values(data, "users", USER_COLUMNS)
    wide = say("Part of these users pay as before. In which of them does it sit?")
    mistakes = [Mistake({column: value}, wide) for column, value in culprit.segment.items()]
    same = say("The table lists the groups that stand out, and has no row for these.")
    others = [{column: value} for column in USER_COLUMNS for value in values[column] if column not in culprit.segment]
    mistakes += [Mistake(other, same) for other in others]
    better = say("Read the sign of the points: those of them who stand out went on more often than before, not less.")
    mistakes += [Mistake(group, better) for group in _list_risen(diagnosis, values) if group != culprit.segment]
    return Question(
        (say("Among which users did this step get worse? Name the smallest group that has it all."),),
        Group(dict(culprit.segment), values, tuple(mistakes)),
        (
            say("Which group's rate is far from everybody else's, now but not before?"),
            say("Look at what was new in these weeks, and on which devices it runs."),
            say("Two columns together: one says what was released, the other where."),
        ),
        (
            say(
                "{inside:.1%} of their {inside_count:,} went on, and {outside:.1%} of the other {outside_count:,}.",
                inside=culprit.inside.value, inside_count=int(culprit.inside.denominator or 0),
                outside=culprit.outside.value, outside_count=int(culprit.outside.denominator or 0),
            ),
        ),
    )  # fmt: skip


def _list_risen(diagnosis: FunnelDiagnosis, values: dict[str, list[str]]) -> list[dict[str, str]]:
    """The groups in the table whose rate rose, as far as they can be chosen."""
    assert diagnosis.culprit is not None and diagnosis.culprit.explanation is not None
    causes = diagnosis.culprit.explanation.causes
    groups = [read_segment(str(name)) for name in causes.loc[causes["effect_rate"] > 0, "segment"]]
    chosen = [{column: value for column, value in group.items() if value in values.get(column, ())} for group in groups]
    return [group for group in chosen if group]


def _ask_decision(diagnosis: FunnelDiagnosis) -> Question:
    worst = _find_worst(diagnosis)
    ending = diagnosis.culprit.ending if diagnosis.culprit is not None else None
    late = int(ending.recent.denominator or 0) if ending is not None else 0
    options = (
        Option(
            "rebuild", say("Rebuild the page before {step}, where most users are lost", step=worst),
            say("It loses many, but it lost about as large a share before. Rebuilding it does not bring back what was "
                "lost now."),
        ),
        Option("mend", say("Check whether the step works again for the users it failed; if not, mend it and have them "
                           "update")),
        Option(
            "coupons", say("Send a coupon to everybody who did not pay"),
            say("They had begun to check out. A coupon costs margin with everybody and mends no step that fails."),
        ),
        Option(
            "wait", say("Wait another quarter to be sure"),
            say("The interval is far from zero already: a quarter more tells nothing new, and if it goes on, costs "
                "orders."),
        ),
    )  # fmt: skip
    return Question(
        (say("What do you do first?"),),
        Decision(Choice(options)),
        (
            say("Ask of each option: does it reach the users whom you named, and the step that moved?"),
            say("What would bring back the lost orders at the least cost?"),
        ),
        (
            say(
                "The loss sits in one group at one step, the users of a new release. That points to a defect there; "
                "trying it out proves it."
            ),
            say(
                "In the last {days} days that are known {count:,} such users got to the step before. Where nobody does "
                "any more, a later release may have mended it: check that first. Then look at the same step next week.",
                days=ending.days if ending is not None else 0,
                count=late,
            ),
            say("The page that always lost most may be worth a test of its own; it is another question."),
        ),
    )

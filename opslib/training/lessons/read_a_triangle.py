"""Lesson: what the rows, the columns and the diagonals of a cohort triangle say, and what its empty cells do not."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pandas as pd

from opslib.data.periods import DAY
from opslib.decide.growth.model import GrowthModel, model_growth
from opslib.errors import InputError
from opslib.language import say
from opslib.measure.estimate import compare_estimates, estimate_rate
from opslib.present.growth import charts
from opslib.present.parts import format_range, format_shares
from opslib.present.tables import make_table
from opslib.training.answers import Choice, Decision, Number, Option, Sentence
from opslib.training.curriculum import name_lesson
from opslib.training.judgement import Mistake
from opslib.training.plan import LessonPlan, Look, Question

if TYPE_CHECKING:
    from opslib.data.source import Data
    from opslib.present.display import TableView

NAME = "read_a_triangle"
CODE = "model = opslib.model_growth(data)"
CHART_CODE = f"from opslib.present.growth import charts\n\n{CODE}\ncharts.plot_triangle(model)"
# The column that the claim is about, and one that the newest users have more cells in.
CLAIMED, REACHED = 4, 3
# The claim is about the last weeks that are over.
LAST_WEEKS, SHOWN_AGES = 4, 6


@dataclass(frozen=True)
class Triangle:
    """The triangle of a quarter beside that of the quarter before, each as it stood on its own last day."""

    model: GrowthModel
    earlier: GrowthModel

    @property
    def curve(self) -> pd.DataFrame:
        """By weeks later: the cells of a column added up."""
        return self.model.staying.triangle.curve.set_index("n")

    @property
    def curve_before(self) -> pd.DataFrame:
        return self.earlier.staying.triangle.curve.set_index("n")

    @cached_property
    def cells(self) -> pd.DataFrame:
        """Every cell whose week is over, with the calendar week that it is of, and whether that is one of the last."""
        cells = self.model.staying.triangle.triangle
        cells = cells[cells["mature"] & (cells["n"] > 0)]
        weeks = cells["cohort_start"] + pd.to_timedelta(7 * cells["n"], unit="D")
        return cells.assign(week=weeks, late=weeks > weeks.max() - pd.Timedelta(weeks=LAST_WEEKS))

    @property
    def first_late_week(self) -> str:
        """The first day of the last weeks."""
        return f"{self.cells.loc[self.cells['late'], 'week'].min():%Y-%m-%d}"

    def add_up(self, *, late: bool) -> pd.DataFrame:
        """By weeks later: users, who came, and the rate, over the cells of the last calendar weeks or those before."""
        part = self.cells[self.cells["late"] == late]
        sums = part.groupby("n")[["users_count", "retained_count"]].sum().astype(float)
        return sums.assign(rate=sums["retained_count"] / sums["users_count"])

    @property
    def too_early_rate(self) -> float:
        """With those in the denominator whose week is not over: a common mistake."""
        row = _read(self.curve, CLAIMED)
        return float(row["retained_count"] / (row["users_count"] + row["immature_count"]))


def _read(curve: pd.DataFrame, n: int) -> dict[Any, Any]:
    return curve.loc[[n]].to_dict("records")[0]


def write_lesson(data: Data) -> LessonPlan:
    """Write the lesson with the numbers of a company.

    Raises:
        InputError: the company has no quarter before this one.
    """
    model = model_growth(data)
    if model.scope.before is None:
        raise InputError(f"{NAME}: this lesson needs two quarters of data; use the sample company.")
    seen = Triangle(model, model_growth(data, as_of=str(model.scope.before.end - DAY)))
    new = seen.curve.loc[CLAIMED, ["users_count", "immature_count"]].sum()
    situation = (
        say(
            "The head of product has printed the triangle and says: “Of the {count:,.0f} new users of these weeks only "
            "{early:.1%} came back {weeks} weeks later; a quarter ago it was {before:.1%}. And look at the rows: the "
            "lower, the emptier. Of the last weeks' users there is hardly anything left. What we released on {first} "
            "drives them away. Let us take it back today.”",
            count=new, early=seen.too_early_rate, weeks=CLAIMED, first=seen.first_late_week,
            before=seen.curve_before.loc[CLAIMED, "retention_rate"],
        ),
        say(
            "The developers would lose two weeks' work. You have the triangle of {company} up to {day} before you, and "
            "are to say what it shows, what it cannot show yet, and what to do first.",
            company=data.playbook.company.name, day=model.scope.as_of,
        ),
    )  # fmt: skip
    return LessonPlan(
        name=NAME,
        title=name_lesson(NAME),
        minutes=30,
        situation=situation,
        steps={
            "triangle": _show_triangle(seen),
            "empty": _ask_empty(seen),
            "fourth_week": _ask_fourth_week(seen),
            "direction": _ask_direction(),
            "columns": _show_columns(seen),
            "same_age": _ask_same_age(seen),
            "days": _show_days(seen),
            "next_day": _ask_next_day(seen),
            "decision": _ask_decision(seen),
        },
        closing=(
            say("Compare users at the same age: down a column. Along a row the same users only grow older."),
            say("An empty cell is no zero. Its week is not over, so its users belong in no rate yet."),
            say("What happens in one week to users of every age lies on a diagonal: look there before blaming a row."),
        ),
    )


def _show_triangle(seen: Triangle) -> Look:
    text = say(
        "How to read it: a row holds the users whose first active week began on the day at its left. The column tells "
        "how many weeks later, the cell how many per cent of the row were active in that week. Weeks go from Monday to "
        "Sunday; a week that is not over on {day} has no cell, and a row without any is not drawn. The table adds up "
        "the filled cells of each column.",
        day=seen.model.scope.as_of,
    )
    shows = (lambda: charts.plot_triangle(seen.model), lambda: _tabulate_counts(seen))
    return Look((text,), shows, CHART_CODE)


def _tabulate_counts(seen: Triangle) -> TableView:
    rows = seen.curve.loc[1:]
    rows = rows[rows["cohorts_count"] > 0].reset_index()
    columns = ["n", "cohorts_count", "users_count", "retained_count", "immature_count"]
    shown = rows[columns].map("{:,.0f}".format)
    labels = {
        "n": say("Weeks later"), "cohorts_count": say("Rows with a cell"), "users_count": say("Users of these rows"),
        "retained_count": say("of them active in that week"), "immature_count": say("Users of rows without a cell yet"),
    }  # fmt: skip
    return make_table(shown, labels, name="triangle-counts", numeric=tuple(labels))


def _show_columns(seen: Triangle) -> Look:
    text = say(
        "How to read it: the columns of the triangle again, weeks later from top to bottom. “The quarter before” is "
        "the triangle as it stood on {before}. This quarter's filled cells are split by the calendar: those of weeks "
        "before {first}, and those of the {weeks} weeks since then.",
        before=seen.earlier.scope.as_of, first=seen.first_late_week, weeks=LAST_WEEKS,
    )  # fmt: skip
    return Look((text,), (lambda: _tabulate_columns(seen),), f"{CODE}\nmodel.staying.triangle.curve")


def _tabulate_columns(seen: Triangle) -> TableView:
    ages = range(1, SHOWN_AGES + 1)
    early, late = (seen.add_up(late=flag).reindex(ages) for flag in (False, True))
    before, now = (curve.reindex(ages) for curve in (seen.curve_before, seen.curve))
    shown = pd.DataFrame({"n": [str(n) for n in ages]})
    for name, part in (("before", before), ("now", now)):
        shown[name] = list(format_shares(part["retention_rate"], part["users_count"]))
    for name, part in (("early", early), ("late", late)):
        shown[name] = list(format_shares(part["rate"], part["users_count"]))
    labels = {
        "n": say("Weeks later"), "before": say("The quarter before"), "now": say("This quarter"),
        "early": say("Its weeks before {first}", first=seen.first_late_week),
        "late": say("Its weeks since {first}", first=seen.first_late_week),
    }  # fmt: skip
    return make_table(shown, labels, name="triangle-columns", numeric=tuple(labels))


def _show_days(seen: Triangle) -> Look:
    text = say(
        "How to read it: by days instead of weeks, and so with all new users of the quarter to {day}, those outside of "
        "its whole weeks too. Some counts, from which you are to make a rate yourself.",
        day=seen.model.scope.as_of,
    )
    return Look((text,), (lambda: _tabulate_days(seen),), f"{CODE}\nmodel.staying.now.curve")


def _tabulate_days(seen: Triangle) -> TableView:
    first, week = (_read(curve, 1) for curve in (seen.model.staying.now.curve.set_index("n"), seen.curve))
    counts = {
        say("New users of the quarter"): first["users_count"] + first["immature_count"],
        say("of them, those whose next day is over"): first["users_count"],
        say("Active on the day after their first"): first["retained_count"],
        say("Active in the week after their first week"): week["retained_count"],
        say("of users whose week after is over"): week["users_count"],
        say("Daily active users of the quarter, added up"): float(seen.model.audience.now.dau.numerator or 0),
    }
    shown = pd.DataFrame({"what": list(counts), "count": [f"{count:,.0f}" for count in counts.values()]})
    return make_table(shown, {"what": say("Who"), "count": say("Users")}, name="day-counts", numeric=("count",))


def _ask_empty(seen: Triangle) -> Question:
    lowest = pd.Timestamp(seen.cells["cohort_start"].max())
    begins, over = (lowest + pd.Timedelta(weeks=n) for n in (CLAIMED, CLAIMED + 1))
    quarter = (seen.model.scope.as_of.replace(day=1) + pd.DateOffset(months=4)).normalize()
    options = (
        Option("now", say("Now: it is empty since none of them came"),
               say("A cell without anybody would show 0%. This one is empty, because its week lies ahead.")),
        Option("begins", say("From {day} on", day=f"{begins:%Y-%m-%d}"),
               say("On that day the week only begins. Whoever comes later in it would be missing.")),
        Option("over", say("From {day} on", day=f"{over:%Y-%m-%d}")),
        Option("quarter", say("From {day} on, after the next quarter", day=f"{quarter:%Y-%m-%d}"),
               say("A cell needs its own week to be over, not a quarter.")),
    )  # fmt: skip
    return Question(
        (
            say("The lowest row, of the week from {row}, has one cell. When can its cell {weeks} weeks later be read "
                "first?", row=f"{lowest:%Y-%m-%d}", weeks=CLAIMED),
        ),
        Choice(options),
        (say("Count on: the row's own week, then one for each column."), say("A week can be read after its Sunday.")),
        (
            say("The week {weeks} weeks later goes from {begins} to the Sunday after. Until then the row says nothing "
                "of it, neither good nor bad.", weeks=CLAIMED, begins=f"{begins:%Y-%m-%d}"),
        ),
    )  # fmt: skip


def _ask_fourth_week(seen: Triangle) -> Question:
    row, before = (_read(seen.curve, n) for n in (CLAIMED, CLAIMED - 1))
    last = seen.cells[seen.cells["n"] == CLAIMED].iloc[-1]
    mistakes = (
        Mistake(100 * seen.too_early_rate,
                say("That is what the head of product counted: with users whose week has not come yet.")),
        Mistake(100 * float(row["retained_count"] / before["retained_count"]),
                say("You divided by those who were active the week before. Asked is the share of all users.")),
        Mistake(100 * float(last["retention_rate"]),
                say("That is one row. Take all rows that have a cell in this column.")),
    )  # fmt: skip
    return Question(
        (say("Of 100 new users for whom the week {weeks} weeks later is over, how many were active in it?",
             weeks=CLAIMED),),
        Number(100 * float(row["retention_rate"]), 0.5, "%", mistakes),
        (
            say("Look at one line of the table, and choose the two counts that are of the same users."),
            say("Above the line: who was active in that week. Below it: the users of the rows that have this cell."),
        ),
        (
            say(
                "{active:,.0f} of {users:,.0f} users. The {waiting:,.0f} users of the lower rows could not have come "
                "yet: counting them makes any product look as if it collapsed.",
                active=row["retained_count"], users=row["users_count"], waiting=row["immature_count"],
            ),
        ),
    )  # fmt: skip


def _ask_direction() -> Question:
    down, along, across = say("down a column"), say("along a row"), say("from the lower left to the upper right")
    later = (
        Option("row", along, say("There the users stay the same and only grow older.")),
        Option("column", down),
        Option("diagonal", across, say("There both change at once: other users, and another age.")),
    )
    falling = (
        Option("worse", say("that the product got worse"), say("It falls in nearly all products, good ones too.")),
        Option("leave", say("that some of them stop coming as time goes by")),
        Option("open", say("that its weeks are not over"), say("Cells of weeks that are not over are not drawn.")),
    )
    week = (
        Option("row", along, say("There every cell is of another week of the calendar.")),
        Option("column", down, say("There every cell is of another week of the calendar; only the age is one.")),
        Option("diagonal", across),
    )
    pattern = say(
        "Whether users who came later stay as well as those before is seen {later}. That a row falls to the right says "
        "{falling}. What hit everybody in one week of the calendar is seen {week}."
    )
    return Question(
        (say("Put the sentence together."),),
        Sentence(pattern, {"later": Choice(later), "falling": Choice(falling), "week": Choice(week)}),
        (
            say("For each way through the triangle ask: what stays the same, the users, their age, or the week?"),
            say("One row lower, the same week of the calendar is one column further to the left."),
        ),
        (
            say("A column holds the age, a row the users, a diagonal the week of the calendar. A comparison is fair "
                "when the age is held."),
        ),
    )  # fmt: skip


def _ask_same_age(seen: Triangle) -> Question:
    sums = [seen.add_up(late=flag) for flag in (False, True)]
    early, late = (part["rate"].to_dict() for part in sums)
    counts = (part.loc[REACHED, ["retained_count", "users_count"]] for part in reversed(sums))
    change = compare_estimates(*(estimate_rate("retention_rate", *count) for count in counts))
    before = _read(seen.curve_before, REACHED)["retention_rate"]
    mistakes = (
        Mistake(100 * float(late[REACHED] / early[REACHED] - 1),
                say("That is per cent of the earlier share. Points are the difference of the two shares.")),
        Mistake(100 * float(late[REACHED] - before),
                say("You compared with the quarter before. Asked are two parts of this quarter.")),
        Mistake(100 * float(late[REACHED] - early[REACHED - 1]),
                say("You went from one week later to the next: those users are of another age.")),
    )  # fmt: skip
    return Question(
        (
            say("{weeks} weeks after their first: by how many percentage points does the share active differ in the "
                "weeks since {first} from this quarter's weeks before? Lower is negative.",
                weeks=REACHED, first=seen.first_late_week),
        ),
        Number(100 * float(late[REACHED] - early[REACHED]), 0.15, say("points"), mistakes),
        (say("Stay in one line of the table: one age."), say("The last column less the one before it.")),
        (
            say(
                "From {early:.1%} to {late:.1%}, a difference of {points} points: more, not fewer. In the last weeks "
                "users of the same age came no less often than before; in the week right after their first, "
                "{first_early:.1%} and {first_late:.1%} did.",
                early=early[REACHED], late=late[REACHED], first_early=early[1], first_late=late[1],
                points=format_range(change.difference, change.low, change.high, form="+.1f", scale=100),
            ),
            say("Yet the quarter before had {before:.1%}. Something did fall, but earlier than claimed: the weeks "
                "before {first} are the lower ones.", before=before, first=seen.first_late_week),
        ),
    )  # fmt: skip


def _ask_next_day(seen: Triangle) -> Question:
    first, week = (_read(curve, 1) for curve in (seen.model.staying.now.curve.set_index("n"), seen.curve))
    came, users = float(first["retained_count"]), float(first["users_count"])
    mistakes = (
        Mistake(100 * came / (users + float(first["immature_count"])),
                say("Near, but new users of the last day are in your denominator; their next day has not come.")),
        Mistake(100 * float(week["retention_rate"]),
                say("That is who came in the week after, on any of seven days: another question than the next day.")),
        Mistake(100 * came / float(seen.model.audience.now.dau.numerator or 1),
                say("You divided by everybody active, most of whom are no new users at all.")),
    )  # fmt: skip
    return Question(
        (say("How high is next-day retention (D1) of this quarter? One decimal, please."),),
        Number(100 * came / users, 0.1, "%", mistakes),
        (
            say("Of new users, who came again on the very next day?"),
            say("Below the line belong only those who have had a next day."),
        ),
        (
            say(
                "{came:,.0f} of {users:,.0f}. The first column of the triangle, {week:.1%}, is no D1: it counts "
                "anybody who came on one of seven days.",
                came=came, users=users, week=week["retention_rate"],
            ),
        ),
    )  # fmt: skip


def _ask_decision(seen: Triangle) -> Question:
    options = (
        Option(
            "take_back", say("Take back what was released on {first}", first=seen.first_late_week),
            say("Since that day users of the same age came no less often than before: nothing here says that it drives "
                "anybody away."),
        ),
        Option(
            "stop", say("Buy no new users until the triangle is full"),
            say("A triangle is never full: each week brings a new row. Empty cells are no reason to stop."),
        ),
        Option(
            "look", say("Find what changed between the two quarters, and report a cell only when its week is over"),
        ),
        Option(
            "fine", say("Nothing: in the last weeks more users came back"),
            say("More than in the weeks before, but still fewer than the quarter before at the same age."),
        ),
    )  # fmt: skip
    return Question(
        (say("What do you do first?"),),
        Decision(Choice(options)),
        (
            say("Which columns differ at the same age, and between which times?"),
            say("Ask of each option: would it help with a fall that is older than that release?"),
        ),
        (
            say(
                "Fairly counted, {now:.1%} came {weeks} weeks later, not {early:.1%}; a quarter ago it was "
                "{before:.1%}. The fall is far beyond chance, but smaller than claimed, and older than the release.",
                now=seen.curve.loc[CLAIMED, "retention_rate"], weeks=CLAIMED, early=seen.too_early_rate,
                before=seen.curve_before.loc[CLAIMED, "retention_rate"],
            ),
            say("Why it fell, and why more came in the last weeks, a triangle alone does not tell: that is for the "
                "growth model's notebook."),
        ),
    )  # fmt: skip

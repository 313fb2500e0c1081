"""One cell of the triangle: a week's new users so many weeks later, how they compare, and who they are."""

from __future__ import annotations

from typing import Any

import altair as alt
import pandas as pd

from opslib.decide.growth.cell import CohortCell
from opslib.decide.growth.model import GrowthModel
from opslib.language import mark, say
from opslib.measure.estimate import Estimate
from opslib.present import theme
from opslib.present.charts import base_chart, view_chart
from opslib.present.display import ChartView, ListView, TableView
from opslib.present.growth.names import count_grains
from opslib.present.growth.words import add_clause
from opslib.present.parts import make_legend, make_tooltips
from opslib.present.portraits import list_traits
from opslib.present.words import format_number, name_segment

NONE_CHOSEN = mark(
    "A week of new users: nothing to show, because none is chosen. Name its first day in cohort_week, and the weeks "
    "since in cohort_age, as in the rows and columns of the triangle."
)
VERDICTS = {
    "low": mark("lower than weeks differ by chance"),
    "high": mark("higher than weeks differ by chance"),
    "usual": mark("no more than weeks differ by chance"),
    "unknown": mark("too few users or weeks to say whether that is usual"),
}
MOST_CAUSES = 3
KINDS = {
    "rate": mark("they came back at another rate"),
    "mix": mark("there were more or fewer of them"),
    "both": mark("their rate and their number differ"),
    "unmoved": mark("all others differ, and they do not"),
}


def plot_cell(model: GrowthModel) -> ChartView | ListView:
    """The share that came back so many weeks later, of the chosen week's new users and of each other week's."""
    cell = model.cell
    if cell is None:
        return ListView([say(NONE_CHOSEN)])
    own = cell.change.now
    row: dict[str, Any] = {"retention_rate": own.value, "retention_low": own.low, "retention_high": own.high}
    row |= {"cohort_start": cell.choice.week, "users_count": own.denominator, "retained_count": own.numerator}
    frame = pd.concat([cell.weeks, pd.DataFrame([row])], ignore_index=True).dropna(subset=["retention_rate"])
    if own.value is None:
        return ListView([say_cell(cell)])
    frame = frame.sort_values("cohort_start", ignore_index=True)
    chosen, others = say("Week from {week}", week=cell.choice.week), say("Other weeks")
    frame["which"] = [chosen if day == cell.choice.week else others for day in frame["cohort_start"]]
    frame["week"] = frame.pop("cohort_start").astype(str)
    base = base_chart(frame).encode(
        x=alt.X("week:O", title=say("Week of the first active day"), axis=alt.Axis(labelAngle=-35, grid=False)),
        color=alt.Color(
            "which:N",
            scale=alt.Scale(domain=[chosen, others], range=[theme.RED, theme.GREY]),
            legend=make_legend("circle"),
        ),
        tooltip=make_tooltips(
            {
                "week:O": (say("New users of the week from"), ""),
                "retention_rate:Q": (say("Share active"), ".1%"),
                "retention_low:Q": (say("Low (95%)"), ".1%"),
                "retention_high:Q": (say("High (95%)"), ".1%"),
                "retained_count:Q": (say("Active"), ","),
                "users_count:Q": (say("New users"), ","),
            }
        ),
    )
    age = _say_age(cell.choice.age_weeks)
    y = alt.Y("retention_low:Q", title=say("Share active {age} later", age=age), axis=alt.Axis(format=".0%"))
    chart = base.mark_rule(strokeWidth=3, opacity=0.45).encode(y=y, y2="retention_high:Q")
    chart += base.mark_point(filled=True, size=70, opacity=1).encode(y="retention_rate:Q")
    rest = cell.change.before
    title = say("New users of {week}: {rate:.1%} came back {age} later", week=cell.choice.week, rate=own.value, age=age)
    if rest.value is not None:
        title = add_clause(title, say("{rate:.1%} of the other weeks’", rate=rest.value))
    labels = {
        "which": say("Which"), "week": say("New users of the week from"), "retention_rate": say("Share active"),
        "retention_low": say("Low (95%)"), "retention_high": say("High (95%)"), "retained_count": say("Active"),
        "users_count": say("New users"),
    }  # fmt: skip
    text = say("Points with 95% intervals by week; the chosen week stands out.")
    return view_chart(chart, title, text, frame, labels)


def show_cell(model: GrowthModel) -> ListView:
    """What the chosen cell says: its share against the other weeks', and where a difference sits; the chart says why
    there is none."""
    cell = model.cell
    return ListView([] if cell is None else [say_cell(cell), *_say_causes(model, cell)])


def show_cell_users(model: GrowthModel) -> TableView | ListView:
    """Who of the chosen week's new users came back, and who did not; the chart says why there are none."""
    cell = model.cell
    if cell is None:
        return ListView([])
    result = cell.portrait
    if result is None:
        text = say("Who came back: nothing to show, because it needs users with attributes, such as channel.")
        return ListView([text])
    # Together, so that a translation can tell these two groups from users who came back after a long absence.
    group, rest = say("Came back / Did not").split(" / ")
    reason = result.note or say("nothing can be compared")
    return list_traits(result, group=group, rest=rest, name="growth-cell") or ListView(
        [say("Who came back: nothing to show, because {reason}.", reason=reason)]
    )


def say_cell(cell: CohortCell) -> str:
    """The chosen cell against the other weeks, in a sentence."""
    own, rest = cell.change.now, cell.change.before
    values = {"week": cell.choice.week, "share": _say_share(own), "age": _say_age(cell.choice.age_weeks)}
    if cell.change.difference is None:
        return say(
            "Of the new users of the week from {week}, {share} came back {age} later: {verdict}.",
            verdict=say(VERDICTS["unknown"]), **values,
        )  # fmt: skip
    points = say("{points:+.1f} points", points=100 * cell.change.difference)
    return say(
        "Of the new users of the week from {week}, {share} came back {age} later; of the {count} other weeks’ at that "
        "age {rest} ({change}). With {cells} cells to pick from, that is {verdict}.",
        count=len(cell.weeks), rest=_say_share(rest), change=points, cells=cell.cells_count,
        verdict=say(VERDICTS[cell.verdict]), **values,
    )  # fmt: skip


def _say_causes(model: GrowthModel, cell: CohortCell) -> list[str]:
    explanation = cell.explanation
    if explanation is None:
        need = model.missing.get("Who moved retention")
        text = mark("Where the difference sits: not shown, it needs {need}.")
        return [say(text, need=say(need))] if need else []
    if explanation.causes.empty:
        reason = explanation.note.rstrip(".")
        return [say("The difference sits in no group of users: {reason}.", reason=reason)]
    return [
        say(
            "Against the other weeks, {segment} stands out: {rate} of {count:,.0f} came back, {before_rate} of "
            "{before_count:,.0f} in the other weeks; {kind}.",
            segment=name_segment(str(row["segment"])),
            rate=format_number(row["after_rate"], "rate"),
            count=row["after_count"],
            before_rate=format_number(row["before_rate"], "rate"),
            before_count=row["before_count"],
            kind=say(KINDS[str(row["kind"])]),
        )
        for row in explanation.causes.head(MOST_CAUSES).to_dict("records")
    ]


def _say_share(estimate: Estimate) -> str:
    if not estimate.known:
        return say("{part:,.0f} of {count:,.0f}", part=estimate.numerator, count=estimate.denominator)
    return say("{rate} of {count:,.0f}", rate=format_number(estimate.value, "rate"), count=estimate.denominator)


def _say_age(weeks: int) -> str:
    return count_grains(weeks, "week")

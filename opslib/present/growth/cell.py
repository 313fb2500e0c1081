"""One cell of the triangle: a week's new users so many weeks later, how they compare, and who they are."""

from __future__ import annotations

from typing import Any

import altair as alt
import pandas as pd

from opslib.decide.growth.cell import CohortCell
from opslib.decide.growth.model import GrowthModel
from opslib.measure.estimate import Estimate
from opslib.present import theme
from opslib.present.charts import base_chart, view_chart
from opslib.present.display import ChartView, ListView, TableView
from opslib.present.parts import make_legend, make_tooltips
from opslib.present.portraits import list_traits
from opslib.present.words import format_change, format_number, name_segment

NONE_CHOSEN = (
    "A week of new users: nothing to show, because none is chosen. Name its first day in cohort_week, and the weeks "
    "since in cohort_age, as in the rows and columns of the triangle."
)
VERDICTS = {
    "low": "lower than weeks differ by chance",
    "high": "higher than weeks differ by chance",
    "usual": "no more than weeks differ by chance",
    "unknown": "too few users or weeks to say whether that is usual",
}
MOST_CAUSES = 3
KINDS = {
    "rate": "they came back at another rate",
    "mix": "there were more or fewer of them",
    "both": "their rate and their number differ",
    "unmoved": "all others differ, and they do not",
}


def plot_cell(model: GrowthModel) -> ChartView | ListView:
    """The share that came back so many weeks later, of the chosen week's new users and of each other week's."""
    cell = model.cell
    if cell is None:
        return ListView([NONE_CHOSEN])
    own = cell.change.now
    row: dict[str, Any] = {"retention_rate": own.value, "retention_low": own.low, "retention_high": own.high}
    row |= {"cohort_start": cell.choice.week, "users_count": own.denominator, "retained_count": own.numerator}
    frame = pd.concat([cell.weeks, pd.DataFrame([row])], ignore_index=True).dropna(subset=["retention_rate"])
    if own.value is None:
        return ListView([say_cell(cell)])
    frame = frame.sort_values("cohort_start", ignore_index=True)
    chosen, others = f"Week from {cell.choice.week}", "Other weeks"
    frame["which"] = [chosen if day == cell.choice.week else others for day in frame["cohort_start"]]
    frame["week"] = frame.pop("cohort_start").astype(str)
    base = base_chart(frame).encode(
        x=alt.X("week:O", title="Week of the first active day", axis=alt.Axis(labelAngle=-35, grid=False)),
        color=alt.Color(
            "which:N",
            scale=alt.Scale(domain=[chosen, others], range=[theme.RED, theme.GREY]),
            legend=make_legend("circle"),
        ),
        tooltip=make_tooltips(
            {
                "week:O": ("New users of the week from", ""),
                "retention_rate:Q": ("Share active", ".1%"),
                "retention_low:Q": ("Low (95%)", ".1%"),
                "retention_high:Q": ("High (95%)", ".1%"),
                "retained_count:Q": ("Active", ","),
                "users_count:Q": ("New users", ","),
            }
        ),
    )
    age = _say_age(cell.choice.age_weeks)
    y = alt.Y("retention_low:Q", title=f"Share active {age} later", axis=alt.Axis(format=".0%"))
    chart = base.mark_rule(strokeWidth=3, opacity=0.45).encode(y=y, y2="retention_high:Q")
    chart += base.mark_point(filled=True, size=70, opacity=1).encode(y="retention_rate:Q")
    rest = cell.change.before
    title = f"New users of {cell.choice.week}: {own.value:.1%} came back {age} later"
    title += f", {rest.value:.1%} of the other weeks’" if rest.value is not None else ""
    labels = {
        "which": "Which", "week": "New users of the week from", "retention_rate": "Share active",
        "retention_low": "Low (95%)", "retention_high": "High (95%)", "retained_count": "Active",
        "users_count": "New users",
    }  # fmt: skip
    return view_chart(chart, title, "Points with 95% intervals by week; the chosen week stands out.", frame, labels)


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
        return ListView(["Who came back: nothing to show, because it needs users with attributes, such as channel."])
    table = list_traits(result, group="Came back", rest="Did not", name="growth-cell")
    return table or ListView([f"Who came back: nothing to show, because {result.note or 'nothing can be compared'}."])


def say_cell(cell: CohortCell) -> str:
    """The chosen cell against the other weeks, in a sentence."""
    own, rest = cell.change.now, cell.change.before
    text = f"Of the new users of the week from {cell.choice.week}, {_say_share(own)} came back "
    text += f"{_say_age(cell.choice.age_weeks)} later"
    if cell.change.difference is None:
        return f"{text}: {VERDICTS['unknown']}."
    text += f"; of the {len(cell.weeks)} other weeks’ at that age {_say_share(rest)}"
    text += f" ({format_change(cell.change).removesuffix(', within chance')}). With {cell.cells_count} cells to pick "
    return f"{text}from, that is {VERDICTS[cell.verdict]}."


def _say_causes(model: GrowthModel, cell: CohortCell) -> list[str]:
    explanation = cell.explanation
    if explanation is None:
        missing = model.missing.get("Who moved retention")
        return [f"Where the difference sits: not shown, it needs {missing}."] if missing else []
    if explanation.causes.empty:
        return [f"The difference sits in no group of users: {explanation.note.rstrip('.')}."]
    return [
        f"Against the other weeks, {name_segment(str(row['segment']))} stands out: "
        f"{format_number(row['after_rate'], 'rate')} of {row['after_count']:,.0f} came back, "
        f"{format_number(row['before_rate'], 'rate')} of {row['before_count']:,.0f} in the other weeks; "
        f"{KINDS[str(row['kind'])]}."
        for row in explanation.causes.head(MOST_CAUSES).to_dict("records")
    ]


def _say_share(estimate: Estimate) -> str:
    share = f"{format_number(estimate.value, 'rate')} of " if estimate.known else ""
    count = f"{estimate.denominator:,.0f}"
    return f"{share}{count}" if share else f"{estimate.numerator:,.0f} of {count}"


def _say_age(weeks: int) -> str:
    return f"{weeks} {'week' if weeks == 1 else 'weeks'}"

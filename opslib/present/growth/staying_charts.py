"""Charts of who stays: retention curves, weekly groups of new users, behaviours that go with staying, portrait."""

from __future__ import annotations

import json

import altair as alt
import pandas as pd

from opslib.decide.growth.model import GrowthModel
from opslib.language import join_clauses, join_sentences, mark, say
from opslib.present import theme
from opslib.present.charts import base_chart, view_chart
from opslib.present.display import ChartView, ListView
from opslib.present.growth.names import name_common
from opslib.present.growth.words import add_change
from opslib.present.parts import (
    color_periods,
    draw_points,
    draw_zero,
    list_names,
    list_periods,
    make_legend,
    make_tooltips,
    say_missing,
)
from opslib.present.portraits import view_portrait
from opslib.present.projection import view_projection
from opslib.present.words import format_number

LONGEST_TITLE = 85
CURVE_TICKS = 15
MOST_BEHAVIORS = 12


def plot_retention_curves(model: GrowthModel) -> ChartView | ListView:
    """Share of new users active on day 1 to 30, now against before, with intervals."""
    parts = [
        result.curve.assign(period=result.period.label)
        for result in (model.staying.before, model.staying.now)
        if result is not None
    ]
    frame = pd.concat(parts, ignore_index=True)
    frame = frame[(frame["n"] > 0) & frame["retention_rate"].notna()]
    if frame.empty:
        return say_missing(model, mark("Retention"), say("too few new users have had time to come back"))
    first = model.staying.now.estimate(1)
    title = say("Share of new users active on a later day")
    if first.known:
        title = say("{rate} of new users come back on day 1", rate=format_number(first.value, "rate"))
        title = add_change(title, model, "d1_rate")
        seventh = model.staying.now.estimate(7)
        more = say("{rate} on day 7", rate=format_number(seventh.value, "rate"))
        both = join_clauses([title, add_change(more, model, "d7_rate")])
        title = both if seventh.known and len(both) <= LONGEST_TITLE else title
    days = sorted({int(n) for n in frame["n"]})
    ticks = days if len(days) <= CURVE_TICKS else [n for n in days if n % 2 == 0]
    dashes = alt.Scale(domain=list_periods(model), range=[[5, 3], [1, 0]][-len(list_periods(model)) :])
    base = base_chart(frame).encode(
        x=alt.X("n:Q", title=say("Days since the first active day"), axis=alt.Axis(grid=False, values=ticks)),
        color=color_periods(model),
    )
    band = base.mark_area(opacity=0.2).encode(
        y=alt.Y("retention_low:Q", title=say("Share active that day"), axis=alt.Axis(format=".0%")),
        y2="retention_high:Q",
    )
    line = base.mark_line(point=alt.OverlayMarkDef(size=22)).encode(
        y="retention_rate:Q",
        strokeDash=alt.StrokeDash("period:N", scale=dashes),
        tooltip=make_tooltips(
            {
                "period:N": (say("New users of"), ""),
                "n:Q": (say("Day"), ""),
                "retention_rate:Q": (say("Share active"), ".1%"),
                "retention_low:Q": (say("Low (95%)"), ".1%"),
                "retention_high:Q": (say("High (95%)"), ".1%"),
                "retained_count:Q": (say("Active"), ","),
                "users_count:Q": (say("New users who have reached the day"), ","),
            }
        ),
    )
    labels = {
        "period": say("New users of"), "n": say("Day"), "retention_rate": say("Share active"),
        "retention_low": say("Low (95%)"), "retention_high": say("High (95%)"), "retained_count": say("Active"),
        "users_count": say("New users who have reached the day"),
    }  # fmt: skip
    text = say("Lines of retention by day since the first active day, now and before, with 95% bands.")
    return view_chart(band + line, title, text, frame, labels)


def plot_triangle(model: GrowthModel) -> ChartView | ListView:
    """Share of each week's new users active in later weeks; cells whose week is not over stay empty."""
    result = model.staying.triangle
    frame = result.triangle[(result.triangle["n"] > 0) & result.triangle["retention_rate"].notna()].copy()
    if frame.empty:
        reason = say("too few new users have had a whole week to come back")
        return say_missing(model, mark("Retention by week"), reason)
    starts = frame["cohort_start"].dt.strftime("%Y-%m-%d")
    frame["cohort"] = [
        say("{week} ({count:,} users)", week=start, count=n)
        for start, n in zip(starts, frame["users_count"], strict=True)
    ]
    frame["retained_count"] = frame["retained_count"].astype(int)
    frame["drill"] = [
        json.dumps({"cohort_week": start, "cohort_age": int(age)})
        for start, age in zip(starts, frame["n"], strict=True)
    ]
    curve = result.curve[(result.curve["n"] == 1) & result.curve["retention_rate"].notna()]
    title = say("New users who come back, by week")
    if len(curve):
        row = curve.iloc[0]
        title = say(
            "{rate:.1%} of {count:,.0f} new users come back the week after their first",
            rate=row["retention_rate"], count=row["users_count"],
        )  # fmt: skip
    top = float(frame["retention_rate"].max())
    order = list(dict.fromkeys(frame.sort_values("cohort_start")["cohort"]))
    base = base_chart(frame, height=max(60, 22 * len(order))).encode(
        x=alt.X(
            "n:O", title=say("Weeks since the first active week"), axis=alt.Axis(orient="top", labelAngle=0, grid=False)
        ),
        y=alt.Y("cohort:N", title=say("Week of the first active day"), sort=order, axis=alt.Axis(grid=False)),
        tooltip=make_tooltips(
            {
                "cohort:N": (say("New users of the week from"), ""),
                "n:O": (say("Weeks later"), ""),
                "retention_rate:Q": (say("Share active"), ".1%"),
                "retention_low:Q": (say("Low (95%)"), ".1%"),
                "retention_high:Q": (say("High (95%)"), ".1%"),
                "retained_count:Q": (say("Active"), ","),
                "users_count:Q": (say("New users"), ","),
            }
        ),
    )
    color = alt.Color("retention_rate:Q", scale=alt.Scale(scheme="blues", domain=[0, max(top, 0.01)]), legend=None)
    cells = base.mark_rect(stroke="white", strokeWidth=1).encode(color=color)
    numbers = base.mark_text(fontSize=11).encode(
        text=alt.Text("retention_rate:Q", format=".0%"),
        color=alt.condition(alt.datum.retention_rate > 0.65 * top, alt.value("white"), alt.value(theme.INK)),
    )
    labels = {
        "cohort": say("New users of the week from"), "n": say("Weeks later"), "retention_rate": say("Share active"),
        "retention_low": say("Low (95%)"), "retention_high": say("High (95%)"), "retained_count": say("Active"),
        "users_count": say("New users"),
    }  # fmt: skip
    text = say("A table in colours: rows are weeks of new users, columns weeks since, cells the share active.")
    chart = cells + numbers
    if model.choice is not None:
        drill = json.dumps({"cohort_week": str(model.choice.week), "cohort_age": model.choice.age_weeks})
        outline = base.mark_rect(filled=False, stroke=theme.RED, strokeWidth=3)
        chart += outline.transform_filter(alt.FieldEqualPredicate(field="drill", equal=drill))
        text = join_sentences([text, say("The cell chosen is outlined.")])
    return view_chart(chart, title, text, frame, labels)


def plot_projection(model: GrowthModel) -> ChartView | ListView:
    """Share of new users still there by week: as observed, and as a model of who leaves goes on."""
    fit, projected = model.staying.fit, model.staying.projection
    if projected.empty:
        return say_missing(model, mark("Retention further on"), fit.note or say("the weeks observed do not tell"))
    since = say(" since the first active week")
    return view_projection(fit, projected, who=say("new users"), unit="week", since=since)


def plot_behaviors(model: GrowthModel) -> ChartView | ListView:
    """How much more often users stayed who did something in their first days: of all, and of users alike."""
    result, section = model.staying.activation, mark("What goes with staying")
    if result is None or result.behaviors.empty:
        return say_missing(model, section, (result.note if result else "") or say("no behaviour could be compared"))
    rows = result.behaviors.head(MOST_BEHAVIORS)
    kinds = {say("All users"): "raw", _say_alike(result.confounders): "adjusted"}
    parts = []
    for kind, name in kinds.items():
        part = rows[["behavior", "did_count"]].assign(kind=kind)
        columns = [f"{name}_difference_{end}" for end in ("rate", "low", "high")]
        part[["points", "low", "high"]] = (100 * rows[columns].astype(float)).round(3).to_numpy()
        parts.append(part)
    frame = pd.concat(parts, ignore_index=True).dropna(subset=["points"])
    if frame.empty:
        return say_missing(model, section, say("no behaviour could be compared"))
    sure = int((result.behaviors["q_value"] <= result.level).sum())
    first, end = result.outcome_days
    title = say(
        "Among users alike, {sure} of {count} behaviours compared go with staying beyond chance",
        sure=sure, count=len(result.behaviors),
    )  # fmt: skip
    did = say("Did in the first {days} days", days=result.window_days)
    order = rows["behavior"].tolist()
    base = base_chart(frame, height=max(80, 32 * len(order))).encode(
        y=alt.Y("behavior:N", title=None, scale=list_names(order), axis=alt.Axis(grid=True)),
        yOffset=alt.YOffset("kind:N", sort=list(kinds)),
        color=alt.Color(
            "kind:N",
            scale=alt.Scale(domain=list(kinds), range=[theme.BEFORE_COLOR, theme.NOW_COLOR]),
            legend=make_legend(labelLimit=420),
        ),
        tooltip=make_tooltips(
            {
                "behavior:N": (did, ""),
                "kind:N": (say("Difference"), ""),
                "points:Q": (say("Points"), "+.1f"),
                "low:Q": (say("Low (95%)"), "+.1f"),
                "high:Q": (say("High (95%)"), "+.1f"),
                "did_count:Q": (say("Users who did it"), ","),
            }
        ),
    )
    across = say(
        "Points more of them active on days {first} to {last} than of those who did not do it",
        first=first, last=end - 1,
    )  # fmt: skip
    chart = draw_zero(frame.head(1)) + draw_points(base, "points", across, form="+.0f", low="low", high="high")
    labels = {
        "behavior": did, "kind": say("Difference"), "points": say("Points"),
        "low": say("Low (95%)"), "high": say("High (95%)"), "did_count": say("Users who did it"),
    }  # fmt: skip
    text = say("Points with 95% intervals by behaviour, raw and adjusted.")
    return view_chart(chart, title, text, frame, labels)


def _say_alike(confounders: tuple[str, ...]) -> str:
    if not confounders:
        return say("Users alike")
    named = say(", ").join(name_common(name) for name in confounders[:3])
    if len(confounders) > 3:
        return say("Users alike in {columns} and more", columns=named)
    return say("Users alike in {columns}", columns=named)


def plot_portrait(model: GrowthModel) -> ChartView | ListView:
    """Traits of the group described: its share against that of the rest."""
    result, section = model.staying.portrait, mark("Who they are")
    if result is None:
        reason = say("it needs users with attributes, such as channel or platform, of at most 100 values")
        return say_missing(model, section, reason)
    reason = result.note or say("no trait differs from the rest beyond chance")
    return view_portrait(result) or say_missing(model, section, reason)

"""Charts of who stays: retention curves, weekly groups of new users, behaviours that go with staying, portrait."""

from __future__ import annotations

import json

import altair as alt
import pandas as pd

from opslib.decide.growth.model import GrowthModel
from opslib.present import theme
from opslib.present.charts import base_chart, view_chart
from opslib.present.display import ChartView, ListView
from opslib.present.growth.words import say_change
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
        return say_missing(model, "Retention", "too few new users have had time to come back")
    first = model.staying.now.estimate(1)
    title = "Share of new users active on a later day"
    if first.known:
        title = f"{format_number(first.value, 'rate')} of new users come back on day 1{say_change(model, 'd1_rate')}"
        seventh = model.staying.now.estimate(7)
        more = f"; {format_number(seventh.value, 'rate')} on day 7{say_change(model, 'd7_rate')}"
        title += more if seventh.known and len(title + more) <= LONGEST_TITLE else ""
    days = sorted({int(n) for n in frame["n"]})
    ticks = days if len(days) <= CURVE_TICKS else [n for n in days if n % 2 == 0]
    dashes = alt.Scale(domain=list_periods(model), range=[[5, 3], [1, 0]][-len(list_periods(model)) :])
    base = base_chart(frame).encode(
        x=alt.X("n:Q", title="Days since the first active day", axis=alt.Axis(grid=False, values=ticks)),
        color=color_periods(model),
    )
    band = base.mark_area(opacity=0.2).encode(
        y=alt.Y("retention_low:Q", title="Share active that day", axis=alt.Axis(format=".0%")), y2="retention_high:Q"
    )
    line = base.mark_line(point=alt.OverlayMarkDef(size=22)).encode(
        y="retention_rate:Q",
        strokeDash=alt.StrokeDash("period:N", scale=dashes),
        tooltip=make_tooltips(
            {
                "period:N": ("New users of", ""),
                "n:Q": ("Day", ""),
                "retention_rate:Q": ("Share active", ".1%"),
                "retention_low:Q": ("Low (95%)", ".1%"),
                "retention_high:Q": ("High (95%)", ".1%"),
                "retained_count:Q": ("Active", ","),
                "users_count:Q": ("New users who have reached the day", ","),
            }
        ),
    )
    labels = {
        "period": "New users of", "n": "Day", "retention_rate": "Share active", "retention_low": "Low (95%)",
        "retention_high": "High (95%)", "retained_count": "Active", "users_count": "New users who have reached the day",
    }  # fmt: skip
    text = "Lines of retention by day since the first active day, now and before, with 95% bands."
    return view_chart(band + line, title, text, frame, labels)


def plot_triangle(model: GrowthModel) -> ChartView | ListView:
    """Share of each week's new users active in later weeks; cells whose week is not over stay empty."""
    result = model.staying.triangle
    frame = result.triangle[(result.triangle["n"] > 0) & result.triangle["retention_rate"].notna()].copy()
    if frame.empty:
        return say_missing(model, "Retention by week", "too few new users have had a whole week to come back")
    starts = frame["cohort_start"].dt.strftime("%Y-%m-%d")
    frame["cohort"] = [f"{s} ({n:,} users)" for s, n in zip(starts, frame["users_count"], strict=True)]
    frame["retained_count"] = frame["retained_count"].astype(int)
    frame["drill"] = [
        json.dumps({"cohort_week": start, "cohort_age": int(age)})
        for start, age in zip(starts, frame["n"], strict=True)
    ]
    curve = result.curve[(result.curve["n"] == 1) & result.curve["retention_rate"].notna()]
    title = "New users who come back, by week"
    if len(curve):
        row = curve.iloc[0]
        title = (
            f"{row['retention_rate']:.1%} of {row['users_count']:,.0f} new users come back the week after their first"
        )
    top = float(frame["retention_rate"].max())
    order = list(dict.fromkeys(frame.sort_values("cohort_start")["cohort"]))
    base = base_chart(frame, height=max(60, 22 * len(order))).encode(
        x=alt.X(
            "n:O", title="Weeks since the first active week", axis=alt.Axis(orient="top", labelAngle=0, grid=False)
        ),
        y=alt.Y("cohort:N", title="Week of the first active day", sort=order, axis=alt.Axis(grid=False)),
        tooltip=make_tooltips(
            {
                "cohort:N": ("New users of the week from", ""),
                "n:O": ("Weeks later", ""),
                "retention_rate:Q": ("Share active", ".1%"),
                "retention_low:Q": ("Low (95%)", ".1%"),
                "retention_high:Q": ("High (95%)", ".1%"),
                "retained_count:Q": ("Active", ","),
                "users_count:Q": ("New users", ","),
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
        "cohort": "New users of the week from", "n": "Weeks later", "retention_rate": "Share active",
        "retention_low": "Low (95%)", "retention_high": "High (95%)", "retained_count": "Active",
        "users_count": "New users",
    }  # fmt: skip
    text = "A table in colours: rows are weeks of new users, columns weeks since, cells the share active."
    chart = cells + numbers
    if model.choice is not None:
        drill = json.dumps({"cohort_week": str(model.choice.week), "cohort_age": model.choice.age_weeks})
        outline = base.mark_rect(filled=False, stroke=theme.RED, strokeWidth=3)
        chart += outline.transform_filter(alt.FieldEqualPredicate(field="drill", equal=drill))
        text += " The cell chosen is outlined."
    return view_chart(chart, title, text, frame, labels)


def plot_projection(model: GrowthModel) -> ChartView | ListView:
    """Share of new users still there by week: as observed, and as a model of who leaves goes on."""
    fit, projected = model.staying.fit, model.staying.projection
    if projected.empty:
        return say_missing(model, "Retention further on", fit.note or "the weeks observed do not tell")
    return view_projection(fit, projected, who="new users", unit="week", since=" since the first active week")


def plot_behaviors(model: GrowthModel) -> ChartView | ListView:
    """How much more often users stayed who did something in their first days: of all, and of users alike."""
    result, section = model.staying.activation, "What goes with staying"
    if result is None or result.behaviors.empty:
        return say_missing(model, section, (result.note if result else "") or "no behaviour could be compared")
    rows = result.behaviors.head(MOST_BEHAVIORS)
    kinds = {"All users": "raw", _say_alike(result.confounders): "adjusted"}
    parts = []
    for kind, name in kinds.items():
        part = rows[["behavior", "did_count"]].assign(kind=kind)
        columns = [f"{name}_difference_{end}" for end in ("rate", "low", "high")]
        part[["points", "low", "high"]] = (100 * rows[columns].astype(float)).round(3).to_numpy()
        parts.append(part)
    frame = pd.concat(parts, ignore_index=True).dropna(subset=["points"])
    if frame.empty:
        return say_missing(model, section, "no behaviour could be compared")
    sure = int((result.behaviors["q_value"] <= result.level).sum())
    first, end = result.outcome_days
    title = f"Among users alike, {sure} of {len(result.behaviors)} behaviours compared go with staying beyond chance"
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
                "behavior:N": (f"Did in the first {result.window_days} days", ""),
                "kind:N": ("Difference", ""),
                "points:Q": ("Points", "+.1f"),
                "low:Q": ("Low (95%)", "+.1f"),
                "high:Q": ("High (95%)", "+.1f"),
                "did_count:Q": ("Users who did it", ","),
            }
        ),
    )
    across = f"Points more of them active on days {first} to {end - 1} than of those who did not do it"
    chart = draw_zero(frame.head(1)) + draw_points(base, "points", across, form="+.0f", low="low", high="high")
    labels = {
        "behavior": f"Did in the first {result.window_days} days", "kind": "Difference", "points": "Points",
        "low": "Low (95%)", "high": "High (95%)", "did_count": "Users who did it",
    }  # fmt: skip
    return view_chart(chart, title, "Points with 95% intervals by behaviour, raw and adjusted.", frame, labels)


def _say_alike(confounders: tuple[str, ...]) -> str:
    named = [name.replace("_", " ") for name in confounders]
    return f"Users alike in {', '.join(named[:3])}{' and more' if len(named) > 3 else ''}" if named else "Users alike"


def plot_portrait(model: GrowthModel) -> ChartView | ListView:
    """Traits of the group described: its share against that of the rest."""
    result, section = model.staying.portrait, "Who they are"
    if result is None:
        return say_missing(
            model, section, "it needs users with attributes, such as channel or platform, of at most 100 values"
        )
    reason = result.note or "no trait differs from the rest beyond chance"
    return view_portrait(result) or say_missing(model, section, reason)

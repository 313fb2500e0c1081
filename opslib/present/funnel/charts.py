"""The charts of the funnel diagnosis: steps, what each did to the whole, who, when, how long, the experiment."""

from __future__ import annotations

import json
from itertools import pairwise

import altair as alt
import pandas as pd

from opslib.decide.funnel.diagnosis import FunnelDiagnosis
from opslib.decide.funnel.visits import THE_SEGMENT
from opslib.measure.estimate import estimate_rate
from opslib.present import theme
from opslib.present.charts import base_chart, view_chart
from opslib.present.display import ChartView, ListView
from opslib.present.funnel.profile import plot_profile as plot_profile
from opslib.present.funnel.words import say_window
from opslib.present.parts import (
    color_periods,
    cut_name,
    draw_points,
    draw_zero,
    list_names,
    list_periods,
    make_day_axis,
    make_legend,
    make_tooltips,
    say_missing,
)
from opslib.present.words import name_segment

MOST_VALUES = 10
SEGMENT_TITLE = 40
ENDS = {"rate": "value", "low": "low", "high": "high"}
RATE_LABELS = {
    "users_count": "Users at the step before", "converted_count": "Went on", "converted_rate": "Share who went on",
    "converted_low": "Low (95%)", "converted_high": "High (95%)",
}  # fmt: skip


def plot_steps(diagnosis: FunnelDiagnosis) -> ChartView | ListView:
    """Share of those who entered that got to each step, now and before."""
    results = [diagnosis.whole] if diagnosis.comparison is None else [diagnosis.comparison.before, diagnosis.whole]
    parts = [r.steps.assign(period=r.period.label, label=diagnosis.path.labels) for r in results]
    frame = pd.concat(parts, ignore_index=True).dropna(subset=["overall_rate"])
    if frame.empty:
        return say_missing(diagnosis, "Steps", "too few users with a whole window entered")
    frame["counts"] = [f"{r:.1%} ({n:,})" for r, n in zip(frame["overall_rate"], frame["converted_count"], strict=True)]
    frame["entered_count"] = frame.groupby("period")["converted_count"].transform("first")
    # What a click on a bar sets; nobody can stop before the first step.
    frame["drill"] = [json.dumps({"step": int(step)}) if step > 1 else "" for step in frame["step"]]
    last = diagnosis.whole.estimate(len(diagnosis.path.steps), overall=True)
    title = "Share of those who entered, by step"
    if last.known:
        goal = cut_name(diagnosis.path.labels[-1])
        title = (
            f"{last.value:.1%} of {last.denominator:,.0f} users get to {goal} in {say_window(diagnosis.whole.window)}"
        )
    periods = list_periods(diagnosis)
    base = base_chart(frame, height=max(90, 26 * len(periods) * len(diagnosis.path.labels))).encode(
        y=alt.Y("label:N", title=None, scale=list_names(diagnosis.path.labels), axis=alt.Axis(labelLimit=220)),
        yOffset=alt.YOffset("period:N", scale=alt.Scale(domain=periods)),
        tooltip=make_tooltips(
            {
                "label:N": ("Step", ""),
                "period:N": ("Entered in", ""),
                "converted_count:Q": ("Users", ","),
                "overall_rate:Q": ("Of those who entered", ".1%"),
                "entered_count:Q": ("Users who entered", ","),
                "overall_low:Q": ("Low (95%)", ".1%"),
                "overall_high:Q": ("High (95%)", ".1%"),
                "step_rate:Q": ("Of the step before", ".1%"),
            }
        ),
    )
    x = alt.X(
        "overall_rate:Q",
        title="Share of users who entered",
        axis=alt.Axis(format=".0%", values=[0, 0.2, 0.4, 0.6, 0.8, 1]),
        scale=alt.Scale(domain=[0, 1.15], nice=False),
    )
    bars = base.mark_bar().encode(x=x, color=color_periods(diagnosis, symbol="square"))
    explained = alt.FieldEqualPredicate(field="drill", equal=json.dumps({"step": diagnosis.step}))
    outline = base.mark_bar(filled=False, stroke=theme.INK, strokeWidth=2).encode(x=x).transform_filter(explained)
    texts = base.mark_text(align="left", dx=4, fontSize=11, color=theme.INK).encode(x=x, text="counts:N")
    labels = {
        "label": "Step", "period": "Entered in", "converted_count": "Users", "overall_rate": "Of those who entered",
        "entered_count": "Users who entered", "overall_low": "Low (95%)", "overall_high": "High (95%)",
        "step_rate": "Of the step before",
    }  # fmt: skip
    text = "Bars by step, now and before; the step explained below is outlined."
    return view_chart(bars + outline + texts, title, text, frame, labels)


def plot_split(diagnosis: FunnelDiagnosis) -> ChartView | ListView:
    """What each step did to the change of the whole, in points; the steps add up to it."""
    split = diagnosis.split
    if split is None or split.steps.empty:
        return say_missing(diagnosis, "Which step", "there is no period before with enough users")
    labels = diagnosis.path.labels
    frame = split.steps.assign(label=[f"{a} > {b}" for a, b in pairwise(labels)])
    for end in ("rate", "low", "high"):
        frame[end] = 100 * frame[f"effect_{end}"].astype(float)
        frame[f"own_{end}"] = 100 * frame[f"change_{end}"].astype(float)
    row = frame.iloc[diagnosis.step - 2]
    whole = 100 * (split.overall.difference or 0.0)
    title = f"{cut_name(str(row['label']), SEGMENT_TITLE)}: {row['rate']:+.1f} of {whole:+.1f} points"
    base = base_chart(frame, height=max(70, 36 * len(frame))).encode(
        y=alt.Y("label:N", title=None, scale=list_names(frame["label"]), axis=alt.Axis(labelLimit=260, grid=True)),
        color=alt.value(theme.NOW_COLOR),
        tooltip=make_tooltips(
            {
                "label:N": ("Step", ""),
                "rate:Q": ("Points of the whole", "+.2f"),
                "low:Q": ("Low (95%)", "+.2f"),
                "high:Q": ("High (95%)", "+.2f"),
                "own_rate:Q": ("Points of its own rate", "+.2f"),
                "after_numerator_count:Q": ("Went on now", ","),
                "after_count:Q": ("Of users now", ","),
                "before_numerator_count:Q": ("Went on before", ","),
                "before_count:Q": ("Of users before", ","),
            }
        ),
    )
    across = "Points that the step did to the share of entrants who get through"
    chart = draw_zero(frame.head(1)) + draw_points(base, "rate", across, form="+.1f", low="low", high="high")
    names = {
        "label": "Step", "rate": "Points of the whole", "low": "Low (95%)", "high": "High (95%)",
        "own_rate": "Points of its own rate", "own_low": "Low (95%) ", "own_high": "High (95%) ",
        "after_numerator_count": "Went on now", "after_count": "Of users now",
        "before_numerator_count": "Went on before", "before_count": "Of users before",
    }  # fmt: skip
    return view_chart(chart, title, "Points with 95% intervals by step; they add up to the change.", frame, names)


def plot_values(diagnosis: FunnelDiagnosis) -> ChartView | ListView:
    """The explained step's rate by value of the column that the change sits in, now and before."""
    culprit = diagnosis.culprit
    if culprit is None or culprit.explanation is None:
        return say_missing(diagnosis, "Who moved it", "there is no period before to compare with")
    column = diagnosis.breakdown if diagnosis.breakdown in culprit.columns else culprit.columns[0]
    values = culprit.explanation.values
    values = values[values["dimension"] == column]
    values = values.assign(size=values["before_count"] + values["after_count"])
    values = values.sort_values(["size", "value"], ascending=[False, True]).head(MOST_VALUES)
    periods = list_periods(diagnosis)
    sides = dict(zip(periods, ("before", "after")[-len(periods) :], strict=True))
    parts = []
    for period, side in sides.items():
        part = values[["value"]].assign(period=period, users_count=values[f"{side}_count"].astype(int))
        part["converted_count"] = values[f"{side}_numerator_count"].astype(int)
        parts.append(_add_interval(part))
    frame = pd.concat(parts, ignore_index=True).dropna(subset=["converted_rate"])
    if frame.empty:
        return say_missing(diagnosis, "Who moved it", "no group has enough users at this step")
    before, step = diagnosis.step_names
    title = f"{cut_name(before)} to {cut_name(step)}, by {column.replace('_', ' ')}"
    base = base_chart(frame, height=max(80, 34 * frame["value"].nunique())).encode(
        y=alt.Y("value:N", title=None, scale=list_names(values["value"].astype(str)), axis=alt.Axis(grid=True)),
        yOffset=alt.YOffset("period:N", scale=alt.Scale(domain=periods)),
        color=color_periods(diagnosis, symbol="circle"),
        tooltip=make_tooltips(_list_fields({"value:N": (column.replace("_", " ").capitalize(), "")})),
    )
    chart = draw_points(
        base,
        "converted_rate",
        f"Share of users at {cut_name(before)} who go on to {cut_name(step)} (95% interval)",
        form=".0%",
        low="converted_low",
        high="converted_high",
        zero=False,
    )
    names = {"value": column.replace("_", " ").capitalize(), "period": "Entered in"} | RATE_LABELS
    return view_chart(chart, title, "Points with 95% intervals by value, now and before.", frame, names)


def _list_fields(first: dict[str, tuple[str, str]]) -> dict[str, tuple[str, str]]:
    return first | {
        "users_count:Q": ("Users at the step before", ","),
        "converted_count:Q": ("Went on", ","),
        "converted_rate:Q": ("Share who went on", ".1%"),
        "converted_low:Q": ("Low (95%)", ".1%"),
        "converted_high:Q": ("High (95%)", ".1%"),
    }


def _add_interval(frame: pd.DataFrame) -> pd.DataFrame:
    rates = [estimate_rate("rate", x, n) for x, n in zip(frame["converted_count"], frame["users_count"], strict=True)]
    columns = {f"converted_{end}": [getattr(e, part) for e in rates] for end, part in ENDS.items()}
    return frame.assign(**columns)


def plot_trend(diagnosis: FunnelDiagnosis) -> ChartView | ListView:
    """The explained step's rate over time: of those whom the change sits in, and of everybody else."""
    culprit = diagnosis.culprit
    if culprit is None or culprit.trend["converted_rate"].notna().sum() < 2:
        return say_missing(diagnosis, "When", "too few users came to this step in a row of days")
    frame = culprit.trend.dropna(subset=["converted_rate"]).copy()
    who = cut_name(name_segment(culprit.name), SEGMENT_TITLE) if culprit.segment else ""
    rest = "Everybody else" if who else "All users"
    frame["who"] = [who if side == THE_SEGMENT else rest for side in frame["side"]]
    frame["day"] = pd.to_datetime(frame.pop("from_day"))
    before, step = diagnosis.step_names
    unit = "day" if culprit.trend_days == 1 else "week"
    title = f"{cut_name(before)} to {cut_name(step)}, {unit} by {unit}"
    domain = [who, rest] if who else [rest]
    base = base_chart(frame).encode(
        x=alt.X("day:T", title=f"{unit.capitalize()} in which they got to {before}", axis=make_day_axis(frame["day"])),
        color=alt.Color(
            "who:N",
            scale=alt.Scale(domain=domain, range=[theme.MARKED_COLOR, theme.REST_COLOR][-len(domain) :]),
            legend=make_legend("stroke", labelLimit=420),
        ),
        tooltip=make_tooltips(_list_fields({"who:N": ("Users", ""), "day:T": ("From", "%Y-%m-%d")})),
    )
    y = alt.Y("converted_low:Q", title="Share who went on", axis=alt.Axis(format=".0%"), scale=alt.Scale(zero=False))
    band = base.mark_area(opacity=0.2).encode(y=y, y2="converted_high:Q")
    line = base.mark_line(point=alt.OverlayMarkDef(size=30)).encode(y="converted_rate:Q")
    chart = band + line
    if diagnosis.scope.before is not None:
        start = pd.DataFrame({"day": [pd.Timestamp(diagnosis.scope.now.start)]})
        chart = alt.Chart(start).mark_rule(color=theme.MUTED, strokeDash=[3, 3]).encode(x="day:T") + chart
    labels = {"who": "Users", "day": "From"} | RATE_LABELS
    text = "Lines of the step's rate over time with 95% bands; the dashed line is where the period looked at begins."
    return view_chart(chart, title, text, frame, labels)


def plot_curve(diagnosis: FunnelDiagnosis) -> ChartView | ListView:
    """Share of users who have got through by time since they entered, open windows included."""
    curve = diagnosis.curve.curve
    curve = curve[curve["at_risk_count"] > 0]
    if len(curve) < 2 or not diagnosis.curve.converted_count:
        return say_missing(diagnosis, "How long it takes", "nobody got through")
    rows = curve.iloc[:: max(1, len(curve) // 120)]
    hours = diagnosis.whole.window.total_seconds() <= 2 * 86_400
    frame = rows.assign(at=rows["days"] * (24 if hours else 1))
    last, unit = curve.iloc[-1], "hours" if hours else "days"
    half = curve[curve["converted_rate"] >= last["converted_rate"] / 2].iloc[0]["days"]
    title = f"Half of those who get through do so within {_say_time(float(half))}"
    base = base_chart(frame).encode(
        x=alt.X("at:Q", title=f"{unit.capitalize()} since they entered", axis=alt.Axis(grid=False)),
        tooltip=make_tooltips(
            {
                "at:Q": (unit.capitalize(), ".2f"),
                "converted_rate:Q": ("Got through", ".1%"),
                "converted_low:Q": ("Low (95%)", ".1%"),
                "converted_high:Q": ("High (95%)", ".1%"),
                "at_risk_count:Q": ("Still open", ","),
                "converted_count:Q": ("Of these got through now", ","),
            }
        ),
        color=alt.value(theme.NOW_COLOR),
    )
    y = alt.Y(
        "converted_low:Q", title="Share who got through", axis=alt.Axis(format=".1~%"), scale=alt.Scale(zero=True)
    )
    chart = base.mark_area(opacity=0.2).encode(y=y, y2="converted_high:Q")
    chart += base.mark_line(interpolate="step-after").encode(y="converted_rate:Q")
    labels = {
        "at": unit.capitalize(), "converted_rate": "Got through", "converted_low": "Low (95%)",
        "converted_high": "High (95%)", "at_risk_count": "Still open",
        "converted_count": "Of these got through now",
    }  # fmt: skip
    text = "A rising line of the share who got through by time since the entry, with its 95% band."
    return view_chart(chart, title, text, frame, labels)


def _say_time(days: float) -> str:
    for size, unit in ((1.0, "day"), (1 / 24, "hour"), (1 / 1440, "minute")):
        if days >= size:
            number = days / size
            return f"{number:.0f} {unit}{'' if round(number) == 1 else 's'}"
    return "a minute"


def plot_breakdown(diagnosis: FunnelDiagnosis) -> ChartView | ListView:
    """Share of each segment that goes on at each step."""
    frame = diagnosis.now.by_segment
    if frame is None:
        return say_missing(diagnosis, "Who moved it", "there is no column to break the funnel down by")
    names = frame.loc[frame["step"] == 1].sort_values(["entered_count", "segment"], ascending=[False, True])
    order = [str(n) for n in names["segment"]][:MOST_VALUES]
    cells = frame[(frame["step"] > 1) & frame["segment"].isin(order) & frame["step_rate"].notna()].copy()
    if cells.empty:
        return say_missing(diagnosis, "Who moved it", "no group has enough users")
    labels = diagnosis.path.labels
    ways = [f"{a} > {b}" for a, b in pairwise(labels)]
    cells["way"] = [ways[int(step) - 2] for step in cells["step"]]
    cells["strength"] = cells["step_rate"] / cells.groupby("way")["step_rate"].transform("max")
    cells["words"] = [f"{r:.0%} of {n:,}" for r, n in zip(cells["step_rate"], cells["entered_count"], strict=True)]
    title = f"Share who go on, by {diagnosis.breakdown.replace('_', ' ')}"
    base = base_chart(cells, height=max(60, 26 * len(order))).encode(
        x=alt.X("way:N", title=None, scale=list_names(ways), axis=alt.Axis(orient="top", labelAngle=0, labelLimit=190)),
        y=alt.Y("segment:N", title=None, scale=list_names(order), axis=alt.Axis(grid=False)),
        tooltip=make_tooltips(
            {
                "segment:N": ("Group", ""),
                "way:N": ("Step", ""),
                "step_rate:Q": ("Went on", ".1%"),
                "step_low:Q": ("Low (95%)", ".1%"),
                "step_high:Q": ("High (95%)", ".1%"),
                "converted_count:Q": ("Went on, users", ","),
                "entered_count:Q": ("Users at the step before", ","),
            }
        ),
    )
    color = alt.Color("strength:Q", scale=alt.Scale(range=theme.SHADES, domain=[0.3, 1]), legend=None)
    chart = base.mark_rect(stroke="white", strokeWidth=1).encode(color=color)
    chart += base.mark_text(fontSize=11, color=theme.INK).encode(text="words:N")
    names_of = {
        "segment": "Group", "way": "Step", "step_rate": "Went on", "step_low": "Low (95%)", "step_high": "High (95%)",
        "converted_count": "Went on, users", "entered_count": "Users at the step before",
    }  # fmt: skip
    text = "A table in colours: rows are groups, columns steps, cells the share who went on; darker is better."
    return view_chart(chart, title, text, cells, names_of)


def plot_sequence(diagnosis: FunnelDiagnosis) -> ChartView | ListView:
    """What each day's look at the experiment would have shown, with an interval that holds at every look."""
    trial = diagnosis.trial
    if trial is None:
        return say_missing(diagnosis, "Did the fix work", "the data have no experiment with a control")
    rows = trial.result.sequence
    rows = rows[rows["metric"] == "goal_rate"].dropna(subset=["always_low", "day_at"])
    if len(rows) < 2:
        return say_missing(diagnosis, "Did the fix work", "too few users have had their whole window")
    frame = rows.assign(day=pd.to_datetime(rows["day_at"]), variant=rows["variant"].astype(str)).drop(columns="day_at")
    for end, column in (("points", "difference"), ("low", "always_low"), ("high", "always_high")):
        frame[end] = 100 * frame[column].astype(float)
    names = sorted(frame["variant"].unique())
    title = f"{trial.result.experiment.replace('_', ' ')}: what each day's look showed"
    base = base_chart(frame).encode(
        x=alt.X("day:T", title="Users exposed up to", axis=make_day_axis(frame["day"])),
        color=alt.Color(
            "variant:N",
            scale=alt.Scale(domain=names, range=list(theme.color_groups(names).values())),
            legend=make_legend("stroke"),
        ),
        tooltip=make_tooltips(
            {
                "variant:N": ("Variant", ""),
                "day:T": ("Up to", "%Y-%m-%d"),
                "points:Q": ("Points", "+.1f"),
                "low:Q": ("Low", "+.1f"),
                "high:Q": ("High", "+.1f"),
                "users_count:Q": ("Users of both", ","),
            }
        ),
    )
    y = alt.Y("low:Q", title=f"Points more to {cut_name(trial.goal)} than {cut_name(trial.result.control)}")
    zero = alt.Chart(frame.head(1)).mark_rule(color=theme.MUTED, strokeDash=[3, 3]).encode(y=alt.datum(0))
    chart = zero + base.mark_area(opacity=0.2).encode(y=y, y2="high:Q") + base.mark_line().encode(y="points:Q")
    labels = {
        "variant": "Variant", "day": "Up to", "points": "Points", "low": "Low", "high": "High",
        "users_count": "Users of both",
    }  # fmt: skip
    text = "A line of the difference day by day with a band that holds at every look; outside zero is a clear result."
    return view_chart(chart, title, text, frame, labels)

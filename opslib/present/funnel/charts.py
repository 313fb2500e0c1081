"""The charts of the funnel diagnosis: steps, what each did to the whole, who, when, how long, the experiment."""

from __future__ import annotations

import json
from itertools import pairwise

import altair as alt
import pandas as pd

from opslib.decide.funnel.diagnosis import FunnelDiagnosis
from opslib.decide.funnel.visits import THE_SEGMENT
from opslib.language import mark, say
from opslib.measure.estimate import estimate_rate
from opslib.present import theme
from opslib.present.charts import base_chart, view_chart
from opslib.present.display import ChartView, ListView
from opslib.present.funnel.profile import plot_profile as plot_profile
from opslib.present.funnel.trial_words import say_window
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
from opslib.present.words import name_column, name_segment, name_value

MOST_VALUES = 10
SEGMENT_TITLE = 40
TIMES = (
    (1.0, mark("{count:.0f} day"), mark("{count:.0f} days")),
    (1 / 24, mark("{count:.0f} hour"), mark("{count:.0f} hours")),
    (1 / 1440, mark("{count:.0f} minute"), mark("{count:.0f} minutes")),
)
ENDS = {"rate": "value", "low": "low", "high": "high"}
RATE_LABELS = {
    "users_count": mark("Users at the step before"), "converted_count": mark("Went on"),
    "converted_rate": mark("Share who went on"), "converted_low": mark("Low (95%)"),
    "converted_high": mark("High (95%)"),
}  # fmt: skip
RATE_FORMS = {"users_count": ",", "converted_count": ",", **dict.fromkeys(list(RATE_LABELS)[2:], ".1%")}


def plot_steps(diagnosis: FunnelDiagnosis) -> ChartView | ListView:
    """Share of those who entered that got to each step, now and before."""
    results = [diagnosis.whole] if diagnosis.comparison is None else [diagnosis.comparison.before, diagnosis.whole]
    parts = [r.steps.assign(period=r.period.label, label=diagnosis.path.labels) for r in results]
    frame = pd.concat(parts, ignore_index=True).dropna(subset=["overall_rate"])
    if frame.empty:
        return say_missing(diagnosis, mark("Steps"), say("too few users with a whole window entered"))
    reached = zip(frame["overall_rate"], frame["converted_count"], strict=True)
    frame["counts"] = [say("{rate:.1%} ({count:,})", rate=rate, count=count) for rate, count in reached]
    frame["entered_count"] = frame.groupby("period")["converted_count"].transform("first")
    # What a click on a bar sets; nobody can stop before the first step.
    frame["drill"] = [json.dumps({"step": int(step)}) if step > 1 else "" for step in frame["step"]]
    last = diagnosis.whole.estimate(len(diagnosis.path.steps), overall=True)
    title = say("Share of those who entered, by step")
    if last.known:
        title = say(
            "{rate:.1%} of {count:,.0f} users get to {goal} in {window}",
            rate=last.value,
            count=last.denominator,
            goal=cut_name(diagnosis.path.labels[-1]),
            window=say_window(diagnosis.whole.window),
        )
    periods = list_periods(diagnosis)
    labels = {
        "label": say("Step"), "period": say("Entered in"), "converted_count": say("Users"),
        "overall_rate": say("Of those who entered"), "entered_count": say("Users who entered"),
        "overall_low": say("Low (95%)"), "overall_high": say("High (95%)"), "step_rate": say("Of the step before"),
    }  # fmt: skip
    base = base_chart(frame, height=max(90, 26 * len(periods) * len(diagnosis.path.labels))).encode(
        y=alt.Y("label:N", title=None, scale=list_names(diagnosis.path.labels), axis=alt.Axis(labelLimit=220)),
        yOffset=alt.YOffset("period:N", scale=alt.Scale(domain=periods)),
        tooltip=make_tooltips(
            {
                "label:N": (labels["label"], ""),
                "period:N": (labels["period"], ""),
                "converted_count:Q": (labels["converted_count"], ","),
                "overall_rate:Q": (labels["overall_rate"], ".1%"),
                "entered_count:Q": (labels["entered_count"], ","),
                "overall_low:Q": (labels["overall_low"], ".1%"),
                "overall_high:Q": (labels["overall_high"], ".1%"),
                "step_rate:Q": (labels["step_rate"], ".1%"),
            }
        ),
    )
    x = alt.X(
        "overall_rate:Q",
        title=say("Share of users who entered"),
        axis=alt.Axis(format=".0%", values=[0, 0.2, 0.4, 0.6, 0.8, 1]),
        scale=alt.Scale(domain=[0, 1.15], nice=False),
    )
    bars = base.mark_bar().encode(x=x, color=color_periods(diagnosis, symbol="square"))
    explained = alt.FieldEqualPredicate(field="drill", equal=json.dumps({"step": diagnosis.step}))
    outline = base.mark_bar(filled=False, stroke=theme.INK, strokeWidth=2).encode(x=x).transform_filter(explained)
    texts = base.mark_text(align="left", dx=4, fontSize=11, color=theme.INK).encode(x=x, text="counts:N")
    text = say("Bars by step, now and before; the step explained below is outlined.")
    return view_chart(bars + outline + texts, title, text, frame, labels)


def plot_split(diagnosis: FunnelDiagnosis) -> ChartView | ListView:
    """What each step did to the change of the whole, in points; the steps add up to it."""
    split = diagnosis.split
    if split is None or split.steps.empty:
        return say_missing(diagnosis, mark("Which step"), say("there is no period before with enough users"))
    labels = diagnosis.path.labels
    frame = split.steps.assign(label=[f"{a} > {b}" for a, b in pairwise(labels)])
    for end, source in {"points": "rate", "low": "low", "high": "high"}.items():
        frame[end] = 100 * frame[f"effect_{source}"].astype(float)
        frame[f"own_{end}"] = 100 * frame[f"change_{source}"].astype(float)
    row = frame.iloc[diagnosis.step - 2]
    whole = 100 * (split.overall.difference or 0.0)
    title = say(
        "{step}: {points:+.1f} of {whole:+.1f} points",
        step=cut_name(str(row["label"]), SEGMENT_TITLE),
        points=row["points"],
        whole=whole,
    )
    names = {
        "label": say("Step"), "points": say("Points of the whole"), "low": say("Low (95%)"), "high": say("High (95%)"),
        "own_points": say("Points of its own rate"), "own_low": say("Its own, low (95%)"),
        "own_high": say("Its own, high (95%)"),
        "after_numerator_count": say("Went on now"), "after_count": say("Of users now"),
        "before_numerator_count": say("Went on before"), "before_count": say("Of users before"),
    }  # fmt: skip
    base = base_chart(frame, height=max(70, 36 * len(frame))).encode(
        y=alt.Y("label:N", title=None, scale=list_names(frame["label"]), axis=alt.Axis(labelLimit=260, grid=True)),
        color=alt.value(theme.NOW_COLOR),
        tooltip=make_tooltips(
            {
                "label:N": (names["label"], ""),
                "points:Q": (names["points"], "+.2f"),
                "low:Q": (names["low"], "+.2f"),
                "high:Q": (names["high"], "+.2f"),
                "own_points:Q": (names["own_points"], "+.2f"),
                "after_numerator_count:Q": (names["after_numerator_count"], ","),
                "after_count:Q": (names["after_count"], ","),
                "before_numerator_count:Q": (names["before_numerator_count"], ","),
                "before_count:Q": (names["before_count"], ","),
            }
        ),
    )
    across = say("Points that the step did to the share of entrants who get through")
    chart = draw_zero(frame.head(1)) + draw_points(base, "points", across, form="+.1f", low="low", high="high")
    text = say("Points with 95% intervals by step; they add up to the change.")
    return view_chart(chart, title, text, frame, names)


def plot_values(diagnosis: FunnelDiagnosis) -> ChartView | ListView:
    """The explained step's rate by value of the column that the change sits in, now and before."""
    culprit = diagnosis.culprit
    if culprit is None or culprit.explanation is None:
        return say_missing(diagnosis, "Who moved it", say("there is no period before to compare with"))
    column = diagnosis.breakdown if diagnosis.breakdown in culprit.columns else culprit.columns[0]
    values = culprit.explanation.values
    values = values[values["dimension"] == column]
    values = values.assign(size=values["before_count"] + values["after_count"])
    values = values.sort_values(["size", "value"], ascending=[False, True]).head(MOST_VALUES)
    values["value"] = values["value"].astype(str).map(name_value)
    periods = list_periods(diagnosis)
    sides = dict(zip(periods, ("before", "after")[-len(periods) :], strict=True))
    parts = []
    for period, side in sides.items():
        part = values[["value"]].assign(period=period, users_count=values[f"{side}_count"].astype(int))
        part["converted_count"] = values[f"{side}_numerator_count"].astype(int)
        parts.append(_add_interval(part))
    frame = pd.concat(parts, ignore_index=True).dropna(subset=["converted_rate"])
    if frame.empty:
        return say_missing(diagnosis, "Who moved it", say("no group has enough users at this step"))
    before, step = map(cut_name, diagnosis.step_names)
    title = say("{before} to {step}, by {column}", before=before, step=step, column=name_column(column))
    named = name_column(column).capitalize()
    base = base_chart(frame, height=max(80, 34 * frame["value"].nunique())).encode(
        y=alt.Y("value:N", title=None, scale=list_names(values["value"]), axis=alt.Axis(grid=True)),
        yOffset=alt.YOffset("period:N", scale=alt.Scale(domain=periods)),
        color=color_periods(diagnosis, symbol="circle"),
        tooltip=make_tooltips(_list_fields({"value:N": (named, "")})),
    )
    chart = draw_points(
        base,
        "converted_rate",
        say("Share of users at {before} who go on to {step} (95% interval)", before=before, step=step),
        form=".0%",
        low="converted_low",
        high="converted_high",
        zero=False,
    )
    names = {"value": named, "period": say("Entered in")} | _name_rates()
    text = say("Points with 95% intervals by value, now and before.")
    return view_chart(chart, title, text, frame, names)


def _name_rates() -> dict[str, str]:
    return {column: say(label) for column, label in RATE_LABELS.items()}


def _list_fields(first: dict[str, tuple[str, str]]) -> dict[str, tuple[str, str]]:
    return first | {f"{column}:Q": (label, RATE_FORMS[column]) for column, label in _name_rates().items()}


def _add_interval(frame: pd.DataFrame) -> pd.DataFrame:
    rates = [estimate_rate("rate", x, n) for x, n in zip(frame["converted_count"], frame["users_count"], strict=True)]
    columns = {f"converted_{end}": [getattr(e, part) for e in rates] for end, part in ENDS.items()}
    return frame.assign(**columns)


def plot_trend(diagnosis: FunnelDiagnosis) -> ChartView | ListView:
    """The explained step's rate over time: of those whom the change sits in, and of everybody else."""
    culprit = diagnosis.culprit
    if culprit is None or culprit.trend["converted_rate"].notna().sum() < 2:
        return say_missing(diagnosis, mark("When"), say("too few users came to this step in a row of days"))
    frame = culprit.trend.dropna(subset=["converted_rate"]).copy()
    who = cut_name(name_segment(culprit.name), SEGMENT_TITLE) if culprit.segment else ""
    rest = say("Everybody else") if who else say("All users")
    frame["who"] = [who if side == THE_SEGMENT else rest for side in frame["side"]]
    frame["day"] = pd.to_datetime(frame.pop("from_day"))
    before, step = diagnosis.step_names
    way = {"before": cut_name(before), "step": cut_name(step)}
    if culprit.trend_days == 1:
        title = say("{before} to {step}, day by day", **way)
        along = say("Day in which they got to {step}", step=before)
    else:
        title = say("{before} to {step}, week by week", **way)
        along = say("Week in which they got to {step}", step=before)
    domain = [who, rest] if who else [rest]
    base = base_chart(frame).encode(
        x=alt.X("day:T", title=along, axis=make_day_axis(frame["day"])),
        color=alt.Color(
            "who:N",
            scale=alt.Scale(domain=domain, range=[theme.MARKED_COLOR, theme.REST_COLOR][-len(domain) :]),
            legend=make_legend("stroke", labelLimit=420),
        ),
        tooltip=make_tooltips(_list_fields({"who:N": (say("Users"), ""), "day:T": (say("From"), "%Y-%m-%d")})),
    )
    labels = {"who": say("Users"), "day": say("From")} | _name_rates()
    across = labels["converted_rate"]
    y = alt.Y("converted_low:Q", title=across, axis=alt.Axis(format=".0%"), scale=alt.Scale(zero=False))
    band = base.mark_area(opacity=0.2).encode(y=y, y2="converted_high:Q")
    line = base.mark_line(point=alt.OverlayMarkDef(size=30)).encode(y="converted_rate:Q")
    chart = band + line
    if diagnosis.scope.before is not None:
        start = pd.DataFrame({"day": [pd.Timestamp(diagnosis.scope.now.start)]})
        chart = alt.Chart(start).mark_rule(color=theme.MUTED, strokeDash=[3, 3]).encode(x="day:T") + chart
    text = say(
        "Lines of the step's rate over time with 95% bands; the dashed line is where the period looked at begins."
    )
    return view_chart(chart, title, text, frame, labels)


def plot_curve(diagnosis: FunnelDiagnosis) -> ChartView | ListView:
    """Share of users who have got through by time since they entered, open windows included."""
    curve = diagnosis.curve.curve
    curve = curve[curve["at_risk_count"] > 0]
    if len(curve) < 2 or not diagnosis.curve.converted_count:
        return say_missing(diagnosis, mark("How long it takes"), say("nobody got through"))
    rows = curve.iloc[:: max(1, len(curve) // 120)]
    hours = diagnosis.whole.window.total_seconds() <= 2 * 86_400
    frame = rows.assign(at=rows["days"] * (24 if hours else 1))
    unit, along = say("Hours"), say("Hours since they entered")
    if not hours:
        unit, along = say("Days"), say("Days since they entered")
    half = curve[curve["converted_rate"] >= curve.iloc[-1]["converted_rate"] / 2].iloc[0]["days"]
    title = say("Half of those who get through do so within {time}", time=_say_time(float(half)))
    labels = {
        "at": unit, "converted_rate": say("Got through"), "converted_low": say("Low (95%)"),
        "converted_high": say("High (95%)"), "at_risk_count": say("Still open"),
        "converted_count": say("Of these got through now"),
    }  # fmt: skip
    base = base_chart(frame).encode(
        x=alt.X("at:Q", title=along, axis=alt.Axis(grid=False)),
        tooltip=make_tooltips(
            {
                "at:Q": (labels["at"], ".2f"),
                "converted_rate:Q": (labels["converted_rate"], ".1%"),
                "converted_low:Q": (labels["converted_low"], ".1%"),
                "converted_high:Q": (labels["converted_high"], ".1%"),
                "at_risk_count:Q": (labels["at_risk_count"], ","),
                "converted_count:Q": (labels["converted_count"], ","),
            }
        ),
        color=alt.value(theme.NOW_COLOR),
    )
    across = say("Share who got through")
    y = alt.Y("converted_low:Q", title=across, axis=alt.Axis(format=".1~%"), scale=alt.Scale(zero=True))
    chart = base.mark_area(opacity=0.2).encode(y=y, y2="converted_high:Q")
    chart += base.mark_line(interpolate="step-after").encode(y="converted_rate:Q")
    text = say("A rising line of the share who got through by time since the entry, with its 95% band.")
    return view_chart(chart, title, text, frame, labels)


def _say_time(days: float) -> str:
    for size, one, several in TIMES:
        if days >= size:
            number = days / size
            return say(one if round(number) == 1 else several, count=number)
    return say("a minute")


def plot_breakdown(diagnosis: FunnelDiagnosis) -> ChartView | ListView:
    """Share of each segment that goes on at each step."""
    frame = diagnosis.now.by_segment
    if frame is None:
        return say_missing(diagnosis, "Who moved it", say("there is no column to break the funnel down by"))
    names = frame.loc[frame["step"] == 1].sort_values(["entered_count", "segment"], ascending=[False, True])
    order = [name_value(str(n)) for n in names["segment"]][:MOST_VALUES]
    frame = frame.assign(segment=frame["segment"].map(str).map(name_value))
    cells = frame[(frame["step"] > 1) & frame["segment"].isin(order) & frame["step_rate"].notna()].copy()
    if cells.empty:
        return say_missing(diagnosis, "Who moved it", say("no group has enough users"))
    labels = diagnosis.path.labels
    ways = [f"{a} > {b}" for a, b in pairwise(labels)]
    cells["way"] = [ways[int(step) - 2] for step in cells["step"]]
    cells["strength"] = cells["step_rate"] / cells.groupby("way")["step_rate"].transform("max")
    shares = zip(cells["step_rate"], cells["entered_count"], strict=True)
    cells["words"] = [say("{rate:.0%} of {count:,}", rate=rate, count=count) for rate, count in shares]
    title = say("Share who go on, by {column}", column=name_column(diagnosis.breakdown))
    names_of = {
        "segment": say("Group"), "way": say("Step"), "step_rate": say("Went on"), "step_low": say("Low (95%)"),
        "step_high": say("High (95%)"), "converted_count": say("Went on, users"),
        "entered_count": say("Users at the step before"),
    }  # fmt: skip
    base = base_chart(cells, height=max(60, 26 * len(order))).encode(
        x=alt.X("way:N", title=None, scale=list_names(ways), axis=alt.Axis(orient="top", labelAngle=0, labelLimit=190)),
        y=alt.Y("segment:N", title=None, scale=list_names(order), axis=alt.Axis(grid=False)),
        tooltip=make_tooltips(
            {
                "segment:N": (names_of["segment"], ""),
                "way:N": (names_of["way"], ""),
                "step_rate:Q": (names_of["step_rate"], ".1%"),
                "step_low:Q": (names_of["step_low"], ".1%"),
                "step_high:Q": (names_of["step_high"], ".1%"),
                "converted_count:Q": (names_of["converted_count"], ","),
                "entered_count:Q": (names_of["entered_count"], ","),
            }
        ),
    )
    color = alt.Color("strength:Q", scale=alt.Scale(range=theme.SHADES, domain=[0.3, 1]), legend=None)
    chart = base.mark_rect(stroke="white", strokeWidth=1).encode(color=color)
    chart += base.mark_text(fontSize=11, color=theme.INK).encode(text="words:N")
    text = say("A table in colours: rows are groups, columns steps, cells the share who went on; darker is better.")
    return view_chart(chart, title, text, cells, names_of)


def plot_sequence(diagnosis: FunnelDiagnosis) -> ChartView | ListView:
    """What each day's look at the experiment would have shown, with an interval that holds at every look."""
    trial = diagnosis.trial
    if trial is None:
        return say_missing(diagnosis, "Did the fix work", say("the data have no experiment with a control"))
    rows = trial.result.sequence
    rows = rows[rows["metric"] == "goal_rate"].dropna(subset=["always_low", "day_at"])
    if len(rows) < 2:
        return say_missing(diagnosis, "Did the fix work", say("too few users have had their whole window"))
    frame = rows.assign(day=pd.to_datetime(rows["day_at"]), variant=rows["variant"].astype(str)).drop(columns="day_at")
    for end, column in (("points", "difference"), ("low", "always_low"), ("high", "always_high")):
        frame[end] = 100 * frame[column].astype(float)
    names = sorted(frame["variant"].unique())
    title = say("{name}: what each day's look showed", name=trial.result.experiment.replace("_", " "))
    labels = {
        "variant": say("Variant"), "day": say("Up to"), "points": say("Points"), "low": say("Low"),
        "high": say("High"), "users_count": say("Users of both"),
    }  # fmt: skip
    base = base_chart(frame).encode(
        x=alt.X("day:T", title=say("Users exposed up to"), axis=make_day_axis(frame["day"])),
        color=alt.Color(
            "variant:N",
            scale=alt.Scale(domain=names, range=list(theme.color_groups(names).values())),
            legend=make_legend("stroke"),
        ),
        tooltip=make_tooltips(
            {
                "variant:N": (labels["variant"], ""),
                "day:T": (labels["day"], "%Y-%m-%d"),
                "points:Q": (labels["points"], "+.1f"),
                "low:Q": (labels["low"], "+.1f"),
                "high:Q": (labels["high"], "+.1f"),
                "users_count:Q": (labels["users_count"], ","),
            }
        ),
    )
    across = say(
        "Points more to {goal} than {control}", goal=cut_name(trial.goal), control=cut_name(trial.result.control)
    )
    y = alt.Y("low:Q", title=across)
    zero = alt.Chart(frame.head(1)).mark_rule(color=theme.MUTED, strokeDash=[3, 3]).encode(y=alt.datum(0))
    chart = zero + base.mark_area(opacity=0.2).encode(y=y, y2="high:Q") + base.mark_line().encode(y="points:Q")
    text = say(
        "A line of the difference day by day with a band that holds at every look; outside zero is a clear result."
    )
    return view_chart(chart, title, text, frame, labels)

"""The charts of voice and crisis: complaints by day, satisfaction by week, the incident by day and by hour."""

from __future__ import annotations

import altair as alt
import pandas as pd

from opslib.decide.crisis.incident import Incident
from opslib.decide.crisis.investigation import VoiceInvestigation
from opslib.decide.crisis.plan import name_category
from opslib.decide.crisis.timeline import Timeline
from opslib.language import join_clauses, mark, say
from opslib.measure.satisfaction import estimate_satisfaction
from opslib.present import theme
from opslib.present.charts import base_chart, view_chart
from opslib.present.crisis.words import format_share, name_days
from opslib.present.display import ChartView, ListView
from opslib.present.parts import draw_points, list_names, make_day_axis, make_legend, make_tooltips, say_missing
from opslib.present.senses import say_sense
from opslib.present.words import label_metric

__all__ = ["plot_categories", "plot_complaints", "plot_hours", "plot_satisfaction", "plot_timeline"]

PANEL_HEIGHT = 84
# A metric of which fewer days than this share are known is not drawn by day.
LEAST_KNOWN = 0.6
MOST_CATEGORIES = 8
HOURS_A_DAY = 24
BARE_AXIS = alt.Axis(labels=False, ticks=False, grid=False)
RATES = {"satisfaction_rate", "error_rate"}
# Counts of little start at zero; what hardly moves is drawn close.
FROM_ZERO = {"complaints_count", "orders_count", "revenue_amount"}
NAMES = {"dau_count": mark("Active users")}
HOURS = {
    "complaints_count": mark("Complaints"),
    "requests_count": mark("Requests"),
    "error_rate": mark("Requests that failed"),
    "p95_ms": mark("Slowest of 20 (ms)"),
    "orders_count": mark("Orders"),
}


def plot_complaints(voice: VoiceInvestigation) -> ChartView | ListView:
    """Share of active users who complain on each day, with the threshold and the incident's days."""
    complaints = voice.voice.complaints
    if complaints is None:
        return say_missing(voice, mark("Who complains"), say("there are no tickets"))
    frame = complaints.daily.dropna(subset=["complaint_rate"])
    if len(frame) < 2:
        return say_missing(voice, mark("Complaint rate"), say("too few days have active users"))
    over = int((frame["complaint_rate"] > voice.threshold_rate).sum())
    text = mark("On {over} of {days} days more than {share} of active users complained")
    if not over:
        text = mark("On no of {days} days more than {share} of active users complained")
    title = say(text, over=over, days=len(frame), share=f"{100 * voice.threshold_rate:g}%")
    base = base_chart(frame).encode(
        x=alt.X("day:T", title=None, axis=make_day_axis(frame["day"])),
        color=alt.value(theme.NOW_COLOR),
        tooltip=make_tooltips(
            {
                "day:T": (say("Day"), "%Y-%m-%d"),
                "complaint_rate:Q": (say("Complained"), ".2%"),
                "complaining_users_count:Q": (say("Users who complained"), ","),
                "active_users_count:Q": (say("Active users"), ","),
            }
        ),
    )
    y = alt.Y("complaint_rate:Q", title=say("Of active users"), axis=alt.Axis(format=".1%"), scale=alt.Scale(zero=True))
    chart = base.mark_line(point=alt.OverlayMarkDef(size=18)).encode(y=y)
    line = alt.Chart(frame).mark_rule(color=theme.TARGET_COLOR, strokeDash=[4, 3])
    chart += line.encode(y=alt.datum(voice.threshold_rate))
    labels = {
        "day": say("Day"), "complaint_rate": say("Complained"),
        "complaining_users_count": say("Users who complained"), "active_users_count": say("Active users"),
    }  # fmt: skip
    text = say("A line of the daily complaint rate; a dashed line where a day counts for the crisis rule.")
    return view_chart(_shade(voice, chart, frame["day"]), title, text, frame, labels)


def _shade(voice: VoiceInvestigation, chart: alt.LayerChart, days: pd.Series) -> alt.LayerChart:
    """The incident's days in a pale band, where they lie in the chart."""
    incident = voice.incident
    if (
        incident is None
        or pd.Timestamp(incident.period.end) <= days.min()
        or pd.Timestamp(incident.period.start) > days.max()
    ):
        return chart
    half = pd.Timedelta(hours=12)
    first, last = pd.Timestamp(incident.period.start), pd.Timestamp(incident.period.last_day)
    band = pd.DataFrame({"start": [first - half], "end": [last + half]}).astype("datetime64[ns]")
    return alt.Chart(band).mark_rect(color=theme.MARKED_COLOR, opacity=0.12).encode(x="start:T", x2="end:T") + chart


def plot_categories(voice: VoiceInvestigation) -> ChartView | ListView:
    """Complaints by category, now and before, of 1,000 active users a day."""
    now, before = voice.voice.complaints, voice.voice.complaints_before
    if now is None:
        return say_missing(voice, mark("Who complains"), say("there are no tickets"))
    parts = [(voice.scope.now.label, now)]
    if before is not None and voice.scope.before is not None:
        parts.insert(0, (voice.scope.before.label, before))
    names = [str(c) for c in now.categories["category"][now.categories["complaints_count"] > 0]][:MOST_CATEGORIES]
    frames = [p.categories.assign(period=label, active_count=p.active_count) for label, p in parts]
    frame = pd.concat(frames, ignore_index=True).dropna(subset=["complaint_rate"])
    frame = frame[frame["category"].isin(names)].copy()
    if frame.empty:
        return say_missing(
            voice, mark("Complaints by category"), say("nobody complained, or who was active is not known")
        )
    frame["about"] = [name_category(str(c)) for c in frame["category"]]
    for column in ("rate", "low", "high"):
        frame[column] = 1000 * frame[f"complaint_{column}"]
    top = frame[frame["period"] == voice.scope.now.label].iloc[0]
    text = mark("Most complaints are about {category}: {rate:.1f} of 1,000 active users a day")
    title = say(text, category=top["about"], rate=top["rate"])
    periods = [label for label, _ in parts]
    colors = [theme.BEFORE_COLOR, theme.NOW_COLOR][-len(periods) :]
    base = base_chart(frame, height=40 * max(len(names), 2)).encode(
        y=alt.Y("about:N", title=None, scale=list_names(name_category(n) for n in names), axis=alt.Axis(grid=True)),
        yOffset=alt.YOffset("period:N", scale=alt.Scale(domain=periods, paddingOuter=0.4)),
        color=alt.Color("period:N", scale=alt.Scale(domain=periods, range=colors), legend=make_legend("circle")),
        tooltip=make_tooltips(
            {
                "about:N": (say("About"), ""), "period:N": (say_sense("Days", mark("Period looked at")), ""),
                "rate:Q": (say("Of 1,000 a day"), ".2f"),
                "low:Q": (say("Low (95%)"), ".2f"), "high:Q": (say("High (95%)"), ".2f"),
                "complaints_count:Q": (say("Complaints"), ","),
                "complaining_users_count:Q": (say("Users who complained, each day"), ","),
                "active_count:Q": (say("Active users, each day"), ","),
            }
        ),
    )  # fmt: skip
    across = say("Complain, of 1,000 active users a day")
    chart = draw_points(base, "rate", across, form="~g", low="low", high="high", zero=True)
    labels = {
        "about": say("About"), "period": say_sense("Days", mark("Period looked at")),
        "rate": say("Of 1,000 a day"), "low": say("Low (95%)"),
        "high": say("High (95%)"), "complaints_count": say("Complaints"),
        "complaining_users_count": say("Users who complained, each day"),
        "active_count": say("Active users, each day"),
    }  # fmt: skip
    return view_chart(chart, title, say("Points with intervals by category, now and before."), frame, labels)


def plot_satisfaction(voice: VoiceInvestigation) -> ChartView | ListView:
    """Share of answers that were satisfied, by week, with intervals."""
    satisfaction = voice.voice.satisfaction
    if satisfaction is None:
        return say_missing(voice, mark("How satisfied are they"), say("there are no surveys"))
    answers = satisfaction.answers[satisfaction.answers["kind"] == "csat"]
    if answers.empty:
        return say_missing(voice, mark("Satisfaction"), say("nobody was asked, or answered, in these days"))
    # Weeks of seven days that end with the last day looked at.
    age = (pd.Timestamp(voice.scope.as_of) - answers["day"]).dt.days // 7
    rows = []
    for weeks, part in answers.groupby(age):
        estimate = estimate_satisfaction(part)
        start = pd.Timestamp(voice.scope.as_of) - pd.Timedelta(days=7 * int(str(weeks)) + 6)
        rows.append({"week": start, "value": estimate.value, "low": estimate.low, "high": estimate.high,
                     "satisfied_count": estimate.numerator, "answers_count": estimate.denominator})  # fmt: skip
    frame = pd.DataFrame(rows).astype({"value": float, "low": float, "high": float}).dropna(subset=["value"])
    frame = frame.sort_values("week", ignore_index=True)
    if frame.empty:
        return say_missing(voice, mark("Satisfaction by week"), say("no week has 20 answers"))
    share = format_share(satisfaction.satisfaction_rate)
    title = say("{share} of answers were satisfied (4 or 5 of 5)", share=share)
    base = base_chart(frame).encode(
        x=alt.X("week:T", title=say("Week from"), axis=make_day_axis(frame["week"])),
        color=alt.value(theme.NOW_COLOR),
        tooltip=make_tooltips(
            {
                "week:T": (say("Week from"), "%Y-%m-%d"), "value:Q": (say("Satisfied"), ".1%"),
                "low:Q": (say("Low (95%)"), ".1%"), "high:Q": (say("High (95%)"), ".1%"),
                "satisfied_count:Q": (say("Satisfied answers"), ","), "answers_count:Q": (say("Answers"), ","),
            }
        ),
    )  # fmt: skip
    y = alt.Y("low:Q", title=say("Satisfied"), axis=alt.Axis(format=".0%"), scale=alt.Scale(zero=False))
    chart = base.mark_rule(strokeWidth=2, opacity=0.5).encode(y=y, y2="high:Q")
    chart += base.mark_line(point=alt.OverlayMarkDef(size=45)).encode(y="value:Q")
    wanted = find_wanted(voice)
    if wanted is not None:
        chart += alt.Chart(frame).mark_rule(color=theme.TARGET_COLOR, strokeDash=[4, 3]).encode(y=alt.datum(wanted))
    labels = {
        "week": say("Week from"),
        "value": say("Satisfied"),
        "low": say("Low (95%)"),
        "high": say("High (95%)"),
        "satisfied_count": say("Satisfied answers"),
        "answers_count": say("Answers"),
    }
    text = say("A line of weekly satisfaction with 95% intervals; a dashed line at what the playbook asks for.")
    return view_chart(chart, title, text, frame, labels)


def find_wanted(voice: VoiceInvestigation) -> float | None:
    """The satisfaction that a rule of the playbook asks for."""
    rules = voice.scope.data.playbook.rules
    return next((r.below for r in rules if r.metric == "satisfaction_rate" and isinstance(r.below, float)), None)


def plot_timeline(voice: VoiceInvestigation) -> ChartView | ListView:
    """The incident's days against what was expected, one panel a metric."""
    timeline, incident = voice.timeline, voice.incident
    if timeline is None or incident is None:
        return say_missing(voice, mark("The incident"), say("no day has more complaints than expected"))
    frame = timeline.days.dropna(subset=["value"]).copy()
    # Other tickets say little that complaints do not, and a line needs most of its days.
    most = frame["day"].nunique()
    known = frame.groupby("metric")["day"].transform("size")
    frame = frame[(frame["metric"] != "tickets_count") & (known > LEAST_KNOWN * most)]
    if frame.empty:
        reasons = join_clauses(timeline.missing.values()) or say("no day is known")
        return say_missing(voice, mark("The incident"), reasons)
    frame["name"] = [say(NAMES[m]) if m in NAMES else label_metric(m) for m in frame["metric"].astype(str)]
    metrics = list(dict.fromkeys(frame["metric"]))
    first, last = frame["day"].min(), frame["day"].max()
    panels = []
    for metric in metrics:
        part = frame[frame["metric"] == metric]
        form = ".1%" if metric in RATES else ",~r"
        x = alt.X("day:T", title=None, scale=alt.Scale(domain=[_stamp(first), _stamp(last)]),
                  axis=make_day_axis(frame["day"]) if metric == metrics[-1] else BARE_AXIS)  # fmt: skip
        y = alt.Y(
            "value:Q",
            title=None,
            axis=alt.Axis(format=form, tickCount=3, minExtent=44),
            scale=alt.Scale(zero=metric in FROM_ZERO),
        )
        base = alt.Chart(part, width=theme.WIDTH - 40, height=PANEL_HEIGHT)
        tips = make_tooltips(
            {
                "day:T": (say("Day"), "%Y-%m-%d"), "value:Q": (_say_was(), form),
                "expected:Q": (say_sense("Expected", mark("Value expected")), form), "low:Q": (say("Low (95%)"), form),
                "high:Q": (say("High (95%)"), form),
            }
        )  # fmt: skip
        panel = base.mark_area(color=theme.REST_COLOR, opacity=0.25).encode(
            x=x, y=alt.Y("low:Q", title=None), y2="high:Q"
        )
        panel += base.mark_line(color=theme.NOW_COLOR, point=alt.OverlayMarkDef(size=18)).encode(x=x, y=y, tooltip=tips)
        out = part[part["outside"] != ""]
        if len(out):
            # A layer without rows has no extent, of which browsers would complain.
            dots = alt.Chart(out).mark_point(color=theme.MARKED_COLOR, filled=True, size=60, opacity=1)
            panel += dots.encode(x=x, y=y, tooltip=tips)
        panels.append(_shade(voice, panel, frame["day"]).properties(title=alt.Title(part["name"].iloc[0], fontSize=12)))
    chart = alt.vconcat(*panels, spacing=8).resolve_scale(x="shared")
    labels = {
        "name": say("Metric"), "day": say("Day"), "value": _say_was(),
        "expected": say_sense("Expected", mark("Value expected")), "low": say("Low (95%)"), "high": say("High (95%)"),
    }  # fmt: skip
    text = say("One panel a metric: a line by day on a grey band of what was expected; red points lie outside.")
    return view_chart(chart, _entitle_timeline(incident, frame), text, frame, labels)


def _entitle_timeline(incident: Incident, frame: pd.DataFrame) -> str:
    """How many metrics lay outside what was expected."""
    inside = frame[frame["in_incident"]]
    moved = inside.loc[inside["outside"] != "", "metric"].nunique()
    judged = inside.loc[inside["expected"].notna(), "metric"].nunique()
    days = name_days(incident.period)
    text = mark("{days}: too few days before say what was expected")
    if judged:
        text = mark("{days}: {moved} of {judged} metrics outside what was expected")
        if not moved:
            text = mark("{days}: all as expected")
    return say(text, days=f"{days[0].upper()}{days[1:]}", moved=moved, judged=judged)


def _say_was() -> str:
    return say_sense("Was", mark("Actual value"))


def _stamp(day: pd.Timestamp) -> alt.DateTime:
    return alt.DateTime(year=day.year, month=day.month, date=day.day)


def plot_hours(voice: VoiceInvestigation) -> ChartView | ListView:
    """The incident by the hour, against the same hour of the days before."""
    timeline = voice.timeline
    if timeline is None or voice.incident is None:
        return say_missing(voice, mark("The incident by the hour"), say("no day has more complaints than expected"))
    hours = timeline.hours
    if hours.empty:
        return say_missing(
            voice, mark("The incident by the hour"), say("neither tickets, traffic nor orders are known")
        )
    hours = hours.copy()
    if "errors_count" in hours and "requests_count" in hours:
        for side in ("", "usual_"):
            of = hours[f"{side}requests_count"]
            hours[f"{side}error_rate"] = hours[f"{side}errors_count"] / of.where(of > 0)
    rows = []
    for metric, name in HOURS.items():
        if metric in hours and f"usual_{metric}" in hours:
            part = hours[["at", metric, f"usual_{metric}"]].set_axis(["at", "value", "usual"], axis=1)
            if metric == "error_rate":
                part[["failed_count", "of_count"]] = hours[["errors_count", "requests_count"]]
            rows.append(part.assign(metric=metric, name=say(name)))
    if not rows:
        return say_missing(voice, mark("The incident by the hour"), say("no days before it say what is usual"))
    frame = pd.concat(rows, ignore_index=True)
    names = list(dict.fromkeys(frame["name"]))
    clock = "%H:%M" if len(hours) <= HOURS_A_DAY else "%-d %b %H:%M"
    panels = []
    for name in names:
        part = frame[frame["name"] == name]
        form = ".1%" if part["metric"].iloc[0] == "error_rate" else ",~r"
        last = name == names[-1]
        axis = alt.Axis(format=clock, labelOverlap=True, labelSeparation=12, grid=False) if last else BARE_AXIS
        x = alt.X("at:T", title=None, axis=axis)
        base = alt.Chart(part, width=theme.WIDTH - 40, height=PANEL_HEIGHT)
        fields = {
            "at:T": (say("Hour from"), "%Y-%m-%d %H:%M"), "value:Q": (_say_was(), form), "usual:Q": (say("Usual"), form)
        }  # fmt: skip
        if part["metric"].iloc[0] == "error_rate":
            fields |= {"failed_count:Q": (say("Failed"), ","), "of_count:Q": (say("Of requests"), ",")}
        tips = make_tooltips(fields)
        y = alt.Axis(format=form, tickCount=3)
        panel = base.mark_line(color=theme.REST_COLOR, strokeDash=[4, 3]).encode(
            x=x, y=alt.Y("usual:Q", title=None, axis=y)
        )
        panel += base.mark_line(color=theme.NOW_COLOR, interpolate="step-after").encode(
            x=x, y=alt.Y("value:Q", title=None, axis=y), tooltip=tips
        )
        panels.append(panel.properties(title=alt.Title(name, fontSize=12)))
    labels = {
        "name": say("What"),
        "at": say("Hour from"),
        "value": _say_was(),
        "usual": say("Usual"),
    }
    if "of_count" in frame:
        labels |= {"failed_count": say("Failed"), "of_count": say("Of requests")}
    chart = alt.vconcat(*panels, spacing=8).resolve_scale(x="shared")
    text = say("One panel a metric by the hour; dashed is the same hour of the days before.")
    return view_chart(chart, _entitle_hours(timeline), text, frame, labels)


def _entitle_hours(timeline: Timeline) -> str:
    """The hours with far more requests than usual, or that there are none."""
    burst = timeline.burst
    if not burst:
        if "requests_count" not in timeline.hours:
            return say("The incident by the hour")
        return say("By the hour, the traffic is like that of the days before")
    until = burst["last_at"] + pd.Timedelta(hours=1)
    values = {"first": burst["first_at"], "last": until, "times": burst["requests_ratio"]}
    if "error_rate" not in burst:
        return say("{first:%H:%M} to {last:%H:%M}: {times:.1f} times the usual requests", **values)
    text = mark("{first:%H:%M} to {last:%H:%M}: {times:.1f} times the usual requests, {failed:.0%} of them failed")
    return say(text, **values, failed=burst["error_rate"])

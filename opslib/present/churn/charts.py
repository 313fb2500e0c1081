"""The charts of the churn investigation: who counts as gone, how many leave, and when."""

from __future__ import annotations

import altair as alt
import pandas as pd

from opslib.decide.churn.investigation import ChurnInvestigation
from opslib.decide.churn.leaving import list_moments
from opslib.language import get_language, mark, say
from opslib.measure.survival.survival import SurvivalResult
from opslib.present import theme
from opslib.present.charts import base_chart, view_chart
from opslib.present.churn.reason_charts import plot_expiry, plot_reasons
from opslib.present.churn.recall_charts import plot_qini, plot_recall, plot_uplift
from opslib.present.churn.words import HALF_LEFT, name_month
from opslib.present.churn.worth_charts import plot_migration, plot_risk, plot_value
from opslib.present.display import ChartView, ListView
from opslib.present.parts import color_names, cut_name, make_legend, make_tooltips, say_missing
from opslib.present.projection import view_projection

__all__ = [
    "plot_churn",
    "plot_exits",
    "plot_expiry",
    "plot_hazard",
    "plot_migration",
    "plot_payment_hazard",
    "plot_qini",
    "plot_reasons",
    "plot_recall",
    "plot_renewals",
    "plot_return_curve",
    "plot_risk",
    "plot_survival",
    "plot_uplift",
    "plot_value",
]

SHOWN_MONTHS = 18
SHOWN_DAYS = 60
# Curves are drawn with at most so many points each.
MOST_POINTS = 120
MOST_SEGMENTS = len(theme.GROUP_COLORS)
# Tenure is counted in days, or in months where subscriptions state it so.
TENURES = {"day": mark("Days"), "month": mark("Months")}
SINCE_FIRST = {"day": mark("Days since the first"), "month": mark("Months since the first")}
SINCE_ACTIVE = {"day": mark("Days since the first active day"), "month": mark("Months since the first active day")}
SINCE_PAYMENT = {"day": mark("Days since the last payment"), "month": mark("Months since the last payment")}
HALF_OF_LEFT = {
    "day": mark("Half of {one} have left after {days:.0f} days, of {other} after {more:.0f}"),
    "month": mark("Half of {one} have left after {days:.0f} months, of {other} after {more:.0f}"),
}
PEAKS = {
    "day": mark("Day {first:.0f} to {last:.0f}: {ratio:.1f} times as many leave as around it"),
    "month": mark("Month {first:.0f} to {last:.0f}: {ratio:.1f} times as many leave as around it"),
}


def _name_tenure(unit: str) -> str:
    # A day alone means a day of tenure in English only.
    return unit.capitalize() if get_language() == "en" else say(TENURES[unit])


def plot_return_curve(churn: ChurnInvestigation) -> ChartView | ListView:
    """Chance to come back by how long a user has been silent, and the number of days that counts as gone."""
    definition = churn.leaving.definition
    frame = pd.DataFrame() if definition is None else definition.curve.dropna(subset=["return_rate"])
    if definition is None or frame.empty:
        return say_missing(churn, mark("What counts as gone"), churn.leaving.note or say("the data state who has left"))
    days = definition.inactive_days
    frame = frame[frame["silent_days"] <= max(3 * (days or 30), SHOWN_DAYS)]
    estimate = definition.return_rate
    title = say("Chance to come back by days of silence")
    if days and estimate is not None and estimate.known:
        title = say(
            "Of users silent for {days} days, {share:.0%} come back in the {horizon} after",
            days=days,
            share=estimate.value,
            horizon=definition.horizon_days,
        )
    base = base_chart(frame).encode(
        x=alt.X("silent_days:Q", title=say("Days of silence"), axis=alt.Axis(grid=False)),
        color=alt.value(theme.NOW_COLOR),
        tooltip=make_tooltips(
            {
                "silent_days:Q": (say("Days of silence"), ""),
                "return_rate:Q": (say("Come back"), ".1%"),
                "return_low:Q": (say("Low (95%)"), ".1%"),
                "return_high:Q": (say("High (95%)"), ".1%"),
                "returned_count:Q": (say("Came back"), ","),
                "silences_count:Q": (say("Silences that lasted so long"), ","),
                "open_count:Q": (say("Of these still open"), ","),
            }
        ),
    )
    y = alt.Y("return_low:Q", title=say("Come back later"), axis=alt.Axis(format=".0%"), scale=alt.Scale(domain=[0, 1]))
    chart = base.mark_area(opacity=0.2).encode(y=y, y2="return_high:Q")
    chart += base.mark_line().encode(y="return_rate:Q")
    if days:
        limit = pd.DataFrame({"silent_days": [days]})
        chart += alt.Chart(limit).mark_rule(color=theme.MARKED_COLOR, strokeDash=[4, 3]).encode(x="silent_days:Q")
    labels = {
        "silent_days": say("Days of silence"), "return_rate": say("Come back"), "return_low": say("Low (95%)"),
        "return_high": say("High (95%)"), "returned_count": say("Came back"),
        "silences_count": say("Silences that lasted so long"), "open_count": say("Of these still open"),
    }  # fmt: skip
    text = say(
        "A falling line of the chance to come back by days of silence; a dashed line where a user counts as gone."
    )
    return view_chart(chart, title, text, frame, labels)


def plot_churn(churn: ChurnInvestigation) -> ChartView | ListView:
    """Share of each month's users who left in it, with intervals; months that cannot be told yet stay empty."""
    result = churn.leaving.churn
    if result is None:
        return say_missing(
            churn, mark("Is churn rising"), churn.leaving.note or say("the data hold no days on which users left")
        )
    frame = result.periods.dropna(subset=["churn_rate"]).tail(SHOWN_MONTHS)
    if frame.empty:
        return say_missing(churn, mark("Is churn rising"), say("no month is over for long enough to tell who left"))
    last = frame.iloc[-1]
    title = say(
        "{share:.1%} of {users:,.0f} users left in {month}",
        share=last["churn_rate"],
        users=last["opening_count"],
        month=name_month(last["period_start"]),
    )
    if result.rise.rising:
        clear, unclear = (
            mark("{title}, the third rise in a row"),
            mark("{title}, the third rise in a row, within chance"),
        )
        title = say(clear if result.rise.clear else unclear, title=title)
    base = base_chart(frame).encode(
        x=alt.X(
            "period_start:T", title=say("Month"), axis=alt.Axis(format=say("%b %Y"), grid=False, labelOverlap=True)
        ),
        color=alt.value(theme.STATE_COLORS["Left"]),
        tooltip=make_tooltips(
            {
                "period_start:T": (say("Month"), say("%b %Y")),
                "churn_rate:Q": (say("Left"), ".1%"),
                "churn_low:Q": (say("Low (95%)"), ".1%"),
                "churn_high:Q": (say("High (95%)"), ".1%"),
                "left_opening_count:Q": (say("Left, users"), ","),
                "opening_count:Q": (say("There when it began"), ","),
            }
        ),
    )
    y = alt.Y("churn_low:Q", title=say("Left, of those there at its start"), axis=alt.Axis(format=".0%"))
    rules = base.mark_rule(strokeWidth=2, opacity=0.5).encode(y=y, y2="churn_high:Q")
    chart = rules + base.mark_line(point=alt.OverlayMarkDef(size=45)).encode(
        y=alt.Y("churn_rate:Q", scale=alt.Scale(zero=True))
    )
    labels = {
        "period_start": say("Month"), "churn_rate": say("Left"), "churn_low": say("Low (95%)"),
        "churn_high": say("High (95%)"), "left_opening_count": say("Left, users"),
        "opening_count": say("There when it began"),
    }  # fmt: skip
    return view_chart(chart, title, say("A line of monthly churn with 95% intervals."), frame, labels)


def plot_survival(churn: ChurnInvestigation) -> ChartView | ListView:
    """Share of users still there by tenure, by segment where there is one."""
    leaving = churn.leaving
    result = leaving.survival_by_segment or leaving.survival
    if result is None or result.survival["survival_rate"].notna().sum() < 2:
        return say_missing(churn, mark("When do they leave"), leaving.note or say("too few users have left"))
    frame = result.survival.dropna(subset=["survival_rate"])
    if "segment" in frame:
        sizes = result.summary.sort_values(["users_count", "segment"], ascending=[False, True])
        names = [str(n) for n in sizes["segment"]][:MOST_SEGMENTS]
        frame = frame[frame["segment"].isin(names)]
        colors = color_names(churn.scope.data, leaving.column, names)
    else:
        names, colors = [say("All users")], [theme.NOW_COLOR]
        frame = frame.assign(segment=names[0])
    parts = [part.iloc[:: max(1, len(part) // MOST_POINTS)] for _, part in frame.groupby("segment", sort=False)]
    frame = pd.concat(parts, ignore_index=True)
    base = base_chart(frame).encode(
        x=alt.X("tenure:Q", title=say(SINCE_FIRST[result.unit]), axis=alt.Axis(grid=False)),
        color=alt.Color("segment:N", scale=alt.Scale(domain=names, range=colors), legend=make_legend("stroke")),
        tooltip=make_tooltips(
            {
                "segment:N": (say("Users"), ""),
                "tenure:Q": (say(TENURES[result.unit]), ""),
                "survival_rate:Q": (say("Still there"), ".1%"),
                "survival_low:Q": (say("Low (95%)"), ".1%"),
                "survival_high:Q": (say("High (95%)"), ".1%"),
                "at_risk_count:Q": (say("Watched"), ","),
                "left_count:Q": (say("Of these left now"), ","),
            }
        ),
    )
    y = alt.Y(
        "survival_low:Q", title=say("Share still there"), axis=alt.Axis(format=".0%"), scale=alt.Scale(domain=[0, 1])
    )
    chart = base.mark_area(opacity=0.15).encode(y=y, y2="survival_high:Q")
    chart += base.mark_line(interpolate="step-after").encode(y="survival_rate:Q")
    labels = {
        "segment": say("Users"), "tenure": say(TENURES[result.unit]), "survival_rate": say("Still there"),
        "survival_low": say("Low (95%)"), "survival_high": say("High (95%)"), "at_risk_count": say("Watched"),
        "left_count": say("Of these left now"),
    }  # fmt: skip
    return view_chart(
        chart, _title_survival(churn, result), say("Falling lines by tenure with 95% bands."), frame, labels
    )


def _title_survival(churn: ChurnInvestigation, result: SurvivalResult) -> str:
    summary = result.summary.dropna(subset=["median_tenure"])
    if churn.leaving.column and len(summary) > 1:
        ordered = summary.sort_values(["median_tenure", "segment"])
        low, high = ordered.iloc[0], ordered.iloc[-1]
        names = (cut_name(str(low["segment"])), cut_name(str(high["segment"])))
        days, more = low["median_tenure"], high["median_tenure"]
        return say(HALF_OF_LEFT[result.unit], one=names[0], days=days, other=names[1], more=more)
    if len(summary):
        return say(HALF_LEFT[result.unit], median=summary["median_tenure"].iloc[0])
    return say("Fewer than half have left so far")


def plot_hazard(churn: ChurnInvestigation) -> ChartView | ListView:
    """Share who leave on each day of tenure, with the days looked at and other peaks marked."""
    return _plot_hazard(churn, churn.leaving.survival, mark("When do they leave"), SINCE_ACTIVE)


def plot_payment_hazard(churn: ChurnInvestigation) -> ChartView | ListView:
    """Share who leave on each day after a payment."""
    return _plot_hazard(churn, churn.leaving.since_payment, mark("After a payment"), SINCE_PAYMENT)


def _plot_hazard(
    churn: ChurnInvestigation, result: SurvivalResult | None, section: str, across: dict[str, str]
) -> ChartView | ListView:
    if result is None or result.hazard["hazard_rate"].notna().sum() < 2:
        return say_missing(churn, section, churn.leaving.note or say("too few users have left"))
    frame = result.hazard.dropna(subset=["hazard_rate"])
    # Nobody but those who came once leaves on day 0; they would press all else to the ground.
    frame = frame[(frame["tenure"] > 0) & (frame["tenure"] <= SHOWN_DAYS)]
    if frame.empty:
        return say_missing(churn, section, say("too few users have left"))
    marks = list_moments(result)
    title = say("{section}: no day at which more leave than around it", section=say(section))
    if len(marks):
        top = marks.iloc[0]
        title = say(PEAKS[result.unit], first=top["tenure_first"], last=top["tenure_last"], ratio=top["hazard_ratio"])
    base = base_chart(frame).encode(
        x=alt.X("tenure:Q", title=say(across[result.unit]), axis=alt.Axis(grid=False)),
        tooltip=make_tooltips(
            {
                "tenure:Q": (_name_tenure(result.unit), ""),
                "hazard_rate:Q": (say("Leave"), ".2%"),
                "hazard_low:Q": (say("Low (95%)"), ".2%"),
                "hazard_high:Q": (say("High (95%)"), ".2%"),
                "left_count:Q": (say("Left, users"), ","),
                "at_risk_count:Q": (say("Still there"), ","),
            }
        ),
        color=alt.value(theme.INK),
    )
    y = alt.Y("hazard_low:Q", title=say("Leave, of those still there"), axis=alt.Axis(format=".1%"))
    chart = base.mark_rule(opacity=0.35, strokeWidth=2).encode(y=y, y2="hazard_high:Q")
    chart += base.mark_point(filled=True, size=28, opacity=1).encode(y="hazard_rate:Q")
    marks = marks[marks["tenure_first"] <= SHOWN_DAYS]
    if len(marks):
        spans = pd.DataFrame({"tenure_first": marks["tenure_first"] - 0.5, "tenure_last": marks["tenure_last"] + 0.5})
        band = (
            alt.Chart(spans)
            .mark_rect(color=theme.MARKED_COLOR, opacity=0.15)
            .encode(x="tenure_first:Q", x2="tenure_last:Q")
        )
        chart = band + chart
    labels = {
        "tenure": _name_tenure(result.unit), "hazard_rate": say("Leave"), "hazard_low": say("Low (95%)"),
        "hazard_high": say("High (95%)"), "left_count": say("Left, users"), "at_risk_count": say("Still there"),
    }  # fmt: skip
    text = say("Points by tenure with 95% intervals; shaded where more leave than around.")
    return view_chart(chart, title, text, frame, labels)


def plot_renewals(churn: ChurnInvestigation) -> ChartView | ListView:
    """Share of subscribers still there by month: as observed, and as a model of who renews goes on."""
    fit, projected = churn.leaving.renewals, churn.leaving.projection
    if fit is None or projected.empty:
        return say_missing(churn, mark("Who renews"), say("it is for subscriptions") if fit is None else fit.note)
    return view_projection(fit, projected, who=say("subscribers"), unit="month")


def plot_exits(churn: ChurnInvestigation) -> ChartView | ListView:
    """Share of users who had left by a tenure, apart by whether they had ever paid."""
    result = churn.leaving.survival
    if result is None or result.incidence.empty:
        return say_missing(
            churn, mark("Did they ever pay"), churn.leaving.note or say("it needs orders, to know who paid")
        )
    names = {"unpaid": say("Left without ever paying"), "paid": say("Left after paying")}
    frame = result.incidence.dropna(subset=["incidence_rate"])
    frame = frame[frame["exit"].isin(list(names))]
    if frame.empty:
        return say_missing(churn, mark("Did they ever pay"), say("too few users have left"))
    parts = [part.iloc[:: max(1, len(part) // MOST_POINTS)] for _, part in frame.groupby("exit", sort=False)]
    frame = pd.concat(parts, ignore_index=True)
    frame["exit"] = frame["exit"].map(names)
    ends = frame.groupby("exit")["incidence_rate"].last()
    unpaid = ends.get(names["unpaid"], 0.0)
    title = say(
        "{unpaid:.0%} of new users leave without ever paying, {paid:.0%} after paying",
        unpaid=unpaid,
        paid=ends.get(names["paid"], 0.0),
    )
    base = base_chart(frame).encode(
        x=alt.X("tenure:Q", title=say(SINCE_FIRST[result.unit]), axis=alt.Axis(grid=False)),
        color=alt.Color(
            "exit:N",
            scale=alt.Scale(domain=list(names.values()), range=[theme.REST_COLOR, theme.WARNING_COLOR]),
            legend=make_legend("stroke"),
        ),
        tooltip=make_tooltips(
            {
                "exit:N": (say("Users"), ""),
                "tenure:Q": (_name_tenure(result.unit), ""),
                "incidence_rate:Q": (say("Had left"), ".1%"),
                "incidence_low:Q": (say("Low (95%)"), ".1%"),
                "incidence_high:Q": (say("High (95%)"), ".1%"),
                "left_count:Q": (say("Left now, users"), ","),
            }
        ),
    )
    y = alt.Y("incidence_low:Q", title=say("Share of all new users"), axis=alt.Axis(format=".0%"))
    chart = base.mark_area(opacity=0.15).encode(y=y, y2="incidence_high:Q")
    chart += base.mark_line(interpolate="step-after").encode(y="incidence_rate:Q")
    labels = {
        "exit": say("Users"), "tenure": _name_tenure(result.unit), "incidence_rate": say("Had left"),
        "incidence_low": say("Low (95%)"), "incidence_high": say("High (95%)"), "left_count": say("Left now, users"),
    }  # fmt: skip
    return view_chart(chart, title, say("Two rising lines: had left by then, unpaid and paid."), frame, labels)

"""The charts of the churn investigation: who counts as gone, how many leave, and when."""

from __future__ import annotations

import altair as alt
import pandas as pd

from opslib.decide.churn.investigation import ChurnInvestigation
from opslib.decide.churn.leaving import list_moments
from opslib.measure.survival.survival import SurvivalResult
from opslib.present import theme
from opslib.present.charts import base_chart, view_chart
from opslib.present.churn.reason_charts import plot_expiry, plot_reasons
from opslib.present.churn.recall_charts import plot_qini, plot_recall, plot_uplift
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


def plot_return_curve(churn: ChurnInvestigation) -> ChartView | ListView:
    """Chance to come back by how long a user has been silent, and the number of days that counts as gone."""
    definition = churn.leaving.definition
    frame = pd.DataFrame() if definition is None else definition.curve.dropna(subset=["return_rate"])
    if definition is None or frame.empty:
        return say_missing(churn, "What counts as gone", churn.leaving.note or "the data state who has left")
    days = definition.inactive_days
    frame = frame[frame["silent_days"] <= max(3 * (days or 30), SHOWN_DAYS)]
    estimate = definition.return_rate
    title = "Chance to come back by days of silence"
    if days and estimate is not None and estimate.known:
        title = (
            f"Of users silent for {days} days, {estimate.value:.0%} come back in the {definition.horizon_days} after"
        )
    base = base_chart(frame).encode(
        x=alt.X("silent_days:Q", title="Days of silence", axis=alt.Axis(grid=False)),
        color=alt.value(theme.NOW_COLOR),
        tooltip=make_tooltips(
            {
                "silent_days:Q": ("Days of silence", ""),
                "return_rate:Q": ("Come back", ".1%"),
                "return_low:Q": ("Low (95%)", ".1%"),
                "return_high:Q": ("High (95%)", ".1%"),
                "returned_count:Q": ("Came back", ","),
                "silences_count:Q": ("Silences that lasted so long", ","),
                "open_count:Q": ("Of these still open", ","),
            }
        ),
    )
    y = alt.Y("return_low:Q", title="Come back later", axis=alt.Axis(format=".0%"), scale=alt.Scale(domain=[0, 1]))
    chart = base.mark_area(opacity=0.2).encode(y=y, y2="return_high:Q")
    chart += base.mark_line().encode(y="return_rate:Q")
    if days:
        mark = pd.DataFrame({"silent_days": [days]})
        chart += alt.Chart(mark).mark_rule(color=theme.MARKED_COLOR, strokeDash=[4, 3]).encode(x="silent_days:Q")
    labels = {
        "silent_days": "Days of silence", "return_rate": "Come back", "return_low": "Low (95%)",
        "return_high": "High (95%)", "returned_count": "Came back", "silences_count": "Silences that lasted so long",
        "open_count": "Of these still open",
    }  # fmt: skip
    text = "A falling line of the chance to come back by days of silence; a dashed line where a user counts as gone."
    return view_chart(chart, title, text, frame, labels)


def plot_churn(churn: ChurnInvestigation) -> ChartView | ListView:
    """Share of each month's users who left in it, with intervals; months that cannot be told yet stay empty."""
    result = churn.leaving.churn
    if result is None:
        return say_missing(churn, "Is churn rising", churn.leaving.note or "the data hold no days on which users left")
    frame = result.periods.dropna(subset=["churn_rate"]).tail(SHOWN_MONTHS)
    if frame.empty:
        return say_missing(churn, "Is churn rising", "no month is over for long enough to tell who left")
    last = frame.iloc[-1]
    title = f"{last['churn_rate']:.1%} of {last['opening_count']:,.0f} users left in {last['period_start']:%B %Y}"
    if result.rise.rising:
        title += f", the third rise in a row{'' if result.rise.clear else ', within chance'}"
    base = base_chart(frame).encode(
        x=alt.X("period_start:T", title="Month", axis=alt.Axis(format="%b %Y", grid=False, labelOverlap=True)),
        color=alt.value(theme.STATE_COLORS["Left"]),
        tooltip=make_tooltips(
            {
                "period_start:T": ("Month", "%b %Y"),
                "churn_rate:Q": ("Left", ".1%"),
                "churn_low:Q": ("Low (95%)", ".1%"),
                "churn_high:Q": ("High (95%)", ".1%"),
                "left_opening_count:Q": ("Left, users", ","),
                "opening_count:Q": ("There when it began", ","),
            }
        ),
    )
    y = alt.Y("churn_low:Q", title="Left, of those there at its start", axis=alt.Axis(format=".0%"))
    rules = base.mark_rule(strokeWidth=2, opacity=0.5).encode(y=y, y2="churn_high:Q")
    chart = rules + base.mark_line(point=alt.OverlayMarkDef(size=45)).encode(
        y=alt.Y("churn_rate:Q", scale=alt.Scale(zero=True))
    )
    labels = {
        "period_start": "Month", "churn_rate": "Left", "churn_low": "Low (95%)", "churn_high": "High (95%)",
        "left_opening_count": "Left, users", "opening_count": "There when it began",
    }  # fmt: skip
    return view_chart(chart, title, "A line of monthly churn with 95% intervals.", frame, labels)


def plot_survival(churn: ChurnInvestigation) -> ChartView | ListView:
    """Share of users still there by tenure, by segment where there is one."""
    leaving = churn.leaving
    result = leaving.survival_by_segment or leaving.survival
    if result is None or result.survival["survival_rate"].notna().sum() < 2:
        return say_missing(churn, "When do they leave", leaving.note or "too few users have left")
    frame = result.survival.dropna(subset=["survival_rate"])
    if "segment" in frame:
        sizes = result.summary.sort_values(["users_count", "segment"], ascending=[False, True])
        names = [str(n) for n in sizes["segment"]][:MOST_SEGMENTS]
        frame = frame[frame["segment"].isin(names)]
        colors = color_names(churn.scope.data, leaving.column, names)
    else:
        names, colors = ["All users"], [theme.NOW_COLOR]
        frame = frame.assign(segment=names[0])
    parts = [part.iloc[:: max(1, len(part) // MOST_POINTS)] for _, part in frame.groupby("segment", sort=False)]
    frame = pd.concat(parts, ignore_index=True)
    base = base_chart(frame).encode(
        x=alt.X("tenure:Q", title=f"{result.unit.capitalize()}s since the first", axis=alt.Axis(grid=False)),
        color=alt.Color("segment:N", scale=alt.Scale(domain=names, range=colors), legend=make_legend("stroke")),
        tooltip=make_tooltips(
            {
                "segment:N": ("Users", ""),
                "tenure:Q": (f"{result.unit.capitalize()}s", ""),
                "survival_rate:Q": ("Still there", ".1%"),
                "survival_low:Q": ("Low (95%)", ".1%"),
                "survival_high:Q": ("High (95%)", ".1%"),
                "at_risk_count:Q": ("Watched", ","),
                "left_count:Q": ("Of these left now", ","),
            }
        ),
    )
    y = alt.Y("survival_low:Q", title="Share still there", axis=alt.Axis(format=".0%"), scale=alt.Scale(domain=[0, 1]))
    chart = base.mark_area(opacity=0.15).encode(y=y, y2="survival_high:Q")
    chart += base.mark_line(interpolate="step-after").encode(y="survival_rate:Q")
    labels = {
        "segment": "Users", "tenure": f"{result.unit.capitalize()}s", "survival_rate": "Still there",
        "survival_low": "Low (95%)", "survival_high": "High (95%)", "at_risk_count": "Watched",
        "left_count": "Of these left now",
    }  # fmt: skip
    return view_chart(chart, _title_survival(churn, result), "Falling lines by tenure with 95% bands.", frame, labels)


def _title_survival(churn: ChurnInvestigation, result: SurvivalResult) -> str:
    summary = result.summary.dropna(subset=["median_tenure"])
    if churn.leaving.column and len(summary) > 1:
        ordered = summary.sort_values(["median_tenure", "segment"])
        low, high = ordered.iloc[0], ordered.iloc[-1]
        names = (cut_name(str(low["segment"])), cut_name(str(high["segment"])))
        days = f"{low['median_tenure']:.0f} {result.unit}s"
        return f"Half of {names[0]} have left after {days}, of {names[1]} after {high['median_tenure']:.0f}"
    if len(summary):
        return f"Half have left after {summary['median_tenure'].iloc[0]:.0f} {result.unit}s"
    return "Fewer than half have left so far"


def plot_hazard(churn: ChurnInvestigation) -> ChartView | ListView:
    """Share who leave on each day of tenure, with the days looked at and other peaks marked."""
    return _plot_hazard(churn, churn.leaving.survival, "When do they leave", "Days since the first active day")


def plot_payment_hazard(churn: ChurnInvestigation) -> ChartView | ListView:
    """Share who leave on each day after a payment."""
    return _plot_hazard(churn, churn.leaving.since_payment, "After a payment", "Days since the last payment")


def _plot_hazard(
    churn: ChurnInvestigation, result: SurvivalResult | None, section: str, across: str
) -> ChartView | ListView:
    if result is None or result.hazard["hazard_rate"].notna().sum() < 2:
        return say_missing(churn, section, churn.leaving.note or "too few users have left")
    frame = result.hazard.dropna(subset=["hazard_rate"])
    # Nobody but those who came once leaves on day 0; they would press all else to the ground.
    frame = frame[(frame["tenure"] > 0) & (frame["tenure"] <= SHOWN_DAYS)]
    if frame.empty:
        return say_missing(churn, section, "too few users have left")
    marks = list_moments(result)
    title = f"{section}: no day at which more leave than around it"
    if len(marks):
        top = marks.iloc[0]
        places = f"{result.unit} {top['tenure_first']:.0f} to {top['tenure_last']:.0f}"
        title = f"{places}: {top['hazard_ratio']:.1f} times as many leave as around it"
        title = title[0].upper() + title[1:]
    base = base_chart(frame).encode(
        x=alt.X("tenure:Q", title=across.replace("Days", f"{result.unit.capitalize()}s"), axis=alt.Axis(grid=False)),
        tooltip=make_tooltips(
            {
                "tenure:Q": (result.unit.capitalize(), ""),
                "hazard_rate:Q": ("Leave", ".2%"),
                "hazard_low:Q": ("Low (95%)", ".2%"),
                "hazard_high:Q": ("High (95%)", ".2%"),
                "left_count:Q": ("Left, users", ","),
                "at_risk_count:Q": ("Still there", ","),
            }
        ),
        color=alt.value(theme.INK),
    )
    y = alt.Y("hazard_low:Q", title="Leave, of those still there", axis=alt.Axis(format=".1%"))
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
        "tenure": result.unit.capitalize(), "hazard_rate": "Leave", "hazard_low": "Low (95%)",
        "hazard_high": "High (95%)", "left_count": "Left, users", "at_risk_count": "Still there",
    }  # fmt: skip
    text = "Points by tenure with 95% intervals; shaded where more leave than around."
    return view_chart(chart, title, text, frame, labels)


def plot_renewals(churn: ChurnInvestigation) -> ChartView | ListView:
    """Share of subscribers still there by month: as observed, and as a model of who renews goes on."""
    fit, projected = churn.leaving.renewals, churn.leaving.projection
    if fit is None or projected.empty:
        return say_missing(churn, "Who renews", "it is for subscriptions" if fit is None else fit.note)
    return view_projection(fit, projected, who="subscribers", unit="month")


def plot_exits(churn: ChurnInvestigation) -> ChartView | ListView:
    """Share of users who had left by a tenure, apart by whether they had ever paid."""
    result = churn.leaving.survival
    if result is None or result.incidence.empty:
        return say_missing(churn, "Did they ever pay", churn.leaving.note or "it needs orders, to know who paid")
    names = {"unpaid": "Left without ever paying", "paid": "Left after paying"}
    frame = result.incidence.dropna(subset=["incidence_rate"])
    frame = frame[frame["exit"].isin(list(names))]
    if frame.empty:
        return say_missing(churn, "Did they ever pay", "too few users have left")
    parts = [part.iloc[:: max(1, len(part) // MOST_POINTS)] for _, part in frame.groupby("exit", sort=False)]
    frame = pd.concat(parts, ignore_index=True)
    frame["exit"] = frame["exit"].map(names)
    ends = frame.groupby("exit")["incidence_rate"].last()
    unpaid = ends.get(names["unpaid"], 0.0)
    title = f"{unpaid:.0%} of new users leave without ever paying, {ends.get(names['paid'], 0.0):.0%} after paying"
    base = base_chart(frame).encode(
        x=alt.X("tenure:Q", title=f"{result.unit.capitalize()}s since the first", axis=alt.Axis(grid=False)),
        color=alt.Color(
            "exit:N",
            scale=alt.Scale(domain=list(names.values()), range=[theme.REST_COLOR, theme.WARNING_COLOR]),
            legend=make_legend("stroke"),
        ),
        tooltip=make_tooltips(
            {
                "exit:N": ("Users", ""),
                "tenure:Q": (result.unit.capitalize(), ""),
                "incidence_rate:Q": ("Had left", ".1%"),
                "incidence_low:Q": ("Low (95%)", ".1%"),
                "incidence_high:Q": ("High (95%)", ".1%"),
                "left_count:Q": ("Left now, users", ","),
            }
        ),
    )
    y = alt.Y("incidence_low:Q", title="Share of all new users", axis=alt.Axis(format=".0%"))
    chart = base.mark_area(opacity=0.15).encode(y=y, y2="incidence_high:Q")
    chart += base.mark_line(interpolate="step-after").encode(y="incidence_rate:Q")
    labels = {
        "exit": "Users", "tenure": result.unit.capitalize(), "incidence_rate": "Had left",
        "incidence_low": "Low (95%)", "incidence_high": "High (95%)", "left_count": "Left now, users",
    }  # fmt: skip
    return view_chart(chart, title, "Two rising lines: had left by then, unpaid and paid.", frame, labels)

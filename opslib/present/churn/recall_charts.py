"""Charts of what a recall brought: to all, by tier, and if users had been chosen."""

from __future__ import annotations

import altair as alt
import pandas as pd

from opslib.decide.churn.investigation import ChurnInvestigation
from opslib.present import theme
from opslib.present.charts import base_chart, view_chart
from opslib.present.churn.worth_charts import name_tier
from opslib.present.display import ChartView, ListView
from opslib.present.parts import draw_points, draw_zero, list_names, make_tooltips, say_missing
from opslib.present.words import format_points


def plot_recall(churn: ChurnInvestigation) -> ChartView | ListView:
    """Share who came back, treated and held out."""
    section = "Did it bring them back"
    measured = None if churn.recall is None else churn.recall.measured
    if measured is None:
        return say_missing(churn, section, "no campaign had a holdout")
    names = {"treated_return_rate": "Written to", "holdout_return_rate": "Left alone by lot"}
    rows = [(label, measured.totals[name]) for name, label in names.items() if measured.totals[name].known]
    if len(rows) < len(names):
        return say_missing(churn, section, "too few users have had their whole window")
    frame = pd.DataFrame(
        [(label, e.value, e.low, e.high, int(e.numerator), int(e.denominator)) for label, e in rows],
        columns=["arm", "rate", "low", "high", "back_count", "users_count"],
    )
    lift = measured.totals["lift_rate"]
    name = measured.experiment.replace("_", " ").capitalize()
    title = f"{name}: who came back within {measured.days} days"
    if lift.known and lift.value is not None and lift.low is not None and lift.high is not None:
        points = format_points(lift.value, lift.low, lift.high)
        title = f"{name}: {points} came back within {measured.days} days"
    base = base_chart(frame, height=90).encode(
        y=alt.Y("arm:N", title=None, scale=list_names(frame["arm"]), axis=alt.Axis(grid=True)),
        color=alt.Color(
            "arm:N",
            scale=alt.Scale(domain=list(names.values()), range=[theme.NOW_COLOR, theme.REST_COLOR]),
            legend=None,
        ),
        tooltip=make_tooltips(
            {
                "arm:N": ("Users", ""),
                "rate:Q": ("Came back", ".2%"),
                "low:Q": ("Low (95%)", ".2%"),
                "high:Q": ("High (95%)", ".2%"),
                "back_count:Q": ("Came back, users", ","),
                "users_count:Q": ("Of", ","),
            }
        ),
    )
    across = f"Came back within {measured.days} days (95% interval)"
    chart = draw_points(base, "rate", across, form=".1%", low="low", high="high", zero=True)
    labels = {
        "arm": "Users", "rate": "Came back", "low": "Low (95%)", "high": "High (95%)",
        "back_count": "Came back, users", "users_count": "Of",
    }  # fmt: skip
    return view_chart(chart, title, "Two points with intervals: written to, and left alone.", frame, labels)


def plot_uplift(churn: ChurnInvestigation) -> ChartView | ListView:
    """How many more came back for being written to, by the tier that they were in before."""
    section = "Did it bring them back"
    uplift = None if churn.recall is None else churn.recall.uplift
    if uplift is None:
        return say_missing(churn, section, "no campaign had a holdout")
    frame = uplift.segments.dropna(subset=["uplift", "uplift_low", "uplift_high"])
    if frame.empty:
        return say_missing(churn, section, "; ".join(uplift.notes) or "too few users in each tier")
    frame = frame.assign(tier=[name_tier(str(n)) for n in frame["segment"]])
    for name, column in (("points", "uplift"), ("low", "uplift_low"), ("high", "uplift_high")):
        frame[name] = 100 * frame[column].astype(float)
    gains = frame[frame["verdict"] == "gain"]["tier"].tolist()
    title = f"Writing paid clearly for: {', '.join(gains).lower()}" if gains else "For no tier did writing pay clearly"
    base = base_chart(frame, height=34 * max(len(frame), 2)).encode(
        y=alt.Y("tier:N", title=None, scale=list_names(frame["tier"]), axis=alt.Axis(grid=True)),
        color=alt.value(theme.NOW_COLOR),
        tooltip=make_tooltips(
            {
                "tier:N": ("Were", ""),
                "points:Q": ("Points more came back", "+.1f"),
                "low:Q": ("Low (95%)", "+.1f"),
                "high:Q": ("High (95%)", "+.1f"),
                "treated_count:Q": ("Written to", ","),
                "holdout_count:Q": ("Left alone", ","),
            }
        ),
    )
    across = "Points more came back of those written to than of those left alone (95% interval)"
    chart = draw_zero(frame.head(1)) + draw_points(base, "points", across, form="+.0f", low="low", high="high")
    labels = {
        "tier": "Were", "points": "Points more came back", "low": "Low (95%)", "high": "High (95%)",
        "treated_count": "Written to", "holdout_count": "Left alone",
    }  # fmt: skip
    return view_chart(chart, title, "Points with intervals by tier.", frame, labels)


def plot_qini(churn: ChurnInvestigation) -> ChartView | ListView:
    """What writing to ever more users brought, those first for whom it pays most."""
    section = "For whom does it pay"
    uplift = None if churn.recall is None else churn.recall.uplift
    if uplift is None or uplift.curve.empty:
        notes = "" if uplift is None else "; ".join(uplift.notes)
        return say_missing(churn, section, notes or "no campaign had a holdout")
    frame = uplift.curve.assign(
        all_users_count=uplift.curve["users_count"].max(),
        points=lambda f: 100 * f["gain"].astype(float),
        low=lambda f: 100 * f["gain_low"].astype(float),
        high=lambda f: 100 * f["gain_high"].astype(float),
        lot=lambda f: 100 * f["random_gain"].astype(float),
    )
    qini = uplift.qini
    title = "What writing to ever more users brings"
    if qini.known and qini.low is not None and qini.value is not None and qini.high is not None:
        clear = "better than by lot" if qini.low > 0 else "no clearer than by lot"
        title = f"Choosing by tier is {clear}"
    base = base_chart(frame, height=200).encode(
        x=alt.X(
            "share_rate:Q", title="Share of users written to, most promising tier first", axis=alt.Axis(format=".0%")
        ),
        tooltip=make_tooltips(
            {
                "share_rate:Q": ("Written to", ".0%"),
                "users_count:Q": ("Users written to", ","),
                "all_users_count:Q": ("Of users", ","),
                "points:Q": ("Points gained", "+.2f"),
                "low:Q": ("Low (95%)", "+.2f"),
                "high:Q": ("High (95%)", "+.2f"),
                "lot:Q": ("By lot", "+.2f"),
            }
        ),
    )
    y = alt.Y("low:Q", title="Came back more, points of all")
    chart = base.mark_area(opacity=0.2, color=theme.NOW_COLOR).encode(y=y, y2="high:Q")
    chart += base.mark_line(color=theme.NOW_COLOR, point=True).encode(y="points:Q")
    chart += base.mark_line(color=theme.REST_COLOR, strokeDash=[4, 3]).encode(y="lot:Q")
    labels = {
        "share_rate": "Written to", "users_count": "Users written to", "all_users_count": "Of users",
        "points": "Points gained", "low": "Low (95%)", "high": "High (95%)", "lot": "By lot",
    }  # fmt: skip
    text = "A line of what was gained with its 95% band; dashed, what as many chosen by lot would have brought."
    return view_chart(chart, title, text, frame, labels)

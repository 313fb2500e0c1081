"""Charts of what a recall brought: to all, by tier, and if users had been chosen."""

from __future__ import annotations

import altair as alt
import pandas as pd

from opslib.decide.churn.investigation import ChurnInvestigation
from opslib.language import mark, say
from opslib.present import theme
from opslib.present.charts import base_chart, view_chart
from opslib.present.churn.worth_charts import name_tier
from opslib.present.display import ChartView, ListView
from opslib.present.parts import draw_points, draw_zero, list_names, make_tooltips, say_missing
from opslib.present.words import format_points


def plot_recall(churn: ChurnInvestigation) -> ChartView | ListView:
    """Share who came back, treated and held out."""
    section = mark("Did it bring them back")
    measured = None if churn.recall is None else churn.recall.measured
    if measured is None:
        return say_missing(churn, section, say("no campaign had a holdout"))
    names = {"treated_return_rate": say("Written to"), "holdout_return_rate": say("Left alone by lot")}
    rows = [(label, measured.totals[name]) for name, label in names.items() if measured.totals[name].known]
    if len(rows) < len(names):
        return say_missing(churn, section, say("too few users have had their whole window"))
    frame = pd.DataFrame(
        [(label, e.value, e.low, e.high, int(e.numerator), int(e.denominator)) for label, e in rows],
        columns=["arm", "rate", "low", "high", "back_count", "users_count"],
    )
    lift = measured.totals["lift_rate"]
    name = measured.experiment.replace("_", " ").capitalize()
    title = say("{name}: who came back within {days} days", name=name, days=measured.days)
    if lift.known and lift.value is not None and lift.low is not None and lift.high is not None:
        points = format_points(lift.value, lift.low, lift.high)
        title = say("{name}: {points} came back within {days} days", name=name, points=points, days=measured.days)
    base = base_chart(frame, height=90).encode(
        y=alt.Y("arm:N", title=None, scale=list_names(frame["arm"]), axis=alt.Axis(grid=True)),
        color=alt.Color(
            "arm:N",
            scale=alt.Scale(domain=list(names.values()), range=[theme.NOW_COLOR, theme.REST_COLOR]),
            legend=None,
        ),
        tooltip=make_tooltips(
            {
                "arm:N": (say("Users"), ""),
                "rate:Q": (say("Came back"), ".2%"),
                "low:Q": (say("Low (95%)"), ".2%"),
                "high:Q": (say("High (95%)"), ".2%"),
                "back_count:Q": (say("Came back, users"), ","),
                "users_count:Q": (say("Of"), ","),
            }
        ),
    )
    across = say("Came back within {days} days (95% interval)", days=measured.days)
    chart = draw_points(base, "rate", across, form=".1%", low="low", high="high", zero=True)
    labels = {
        "arm": say("Users"), "rate": say("Came back"), "low": say("Low (95%)"), "high": say("High (95%)"),
        "back_count": say("Came back, users"), "users_count": say("Of"),
    }  # fmt: skip
    return view_chart(chart, title, say("Two points with intervals: written to, and left alone."), frame, labels)


def plot_uplift(churn: ChurnInvestigation) -> ChartView | ListView:
    """How many more came back for being written to, by the tier that they were in before."""
    section = mark("Did it bring them back")
    uplift = None if churn.recall is None else churn.recall.uplift
    if uplift is None:
        return say_missing(churn, section, say("no campaign had a holdout"))
    frame = uplift.segments.dropna(subset=["uplift", "uplift_low", "uplift_high"])
    if frame.empty:
        return say_missing(churn, section, say("; ").join(uplift.notes) or say("too few users in each tier"))
    frame = frame.assign(tier=[name_tier(str(n)) for n in frame["segment"]])
    for name, column in (("points", "uplift"), ("low", "uplift_low"), ("high", "uplift_high")):
        frame[name] = 100 * frame[column].astype(float)
    gains = frame[frame["verdict"] == "gain"]["tier"].tolist()
    title = say("For no tier did writing pay clearly")
    if gains:
        title = say("Writing paid clearly for: {tiers}", tiers=say(", ").join(gains).lower())
    base = base_chart(frame, height=34 * max(len(frame), 2)).encode(
        y=alt.Y("tier:N", title=None, scale=list_names(frame["tier"]), axis=alt.Axis(grid=True)),
        color=alt.value(theme.NOW_COLOR),
        tooltip=make_tooltips(
            {
                "tier:N": (say("Were"), ""),
                "points:Q": (say("Points more came back"), "+.1f"),
                "low:Q": (say("Low (95%)"), "+.1f"),
                "high:Q": (say("High (95%)"), "+.1f"),
                "treated_count:Q": (say("Written to"), ","),
                "holdout_count:Q": (say("Left alone"), ","),
            }
        ),
    )
    across = say("Points more came back of those written to than of those left alone (95% interval)")
    chart = draw_zero(frame.head(1)) + draw_points(base, "points", across, form="+.0f", low="low", high="high")
    labels = {
        "tier": say("Were"), "points": say("Points more came back"), "low": say("Low (95%)"), "high": say("High (95%)"),
        "treated_count": say("Written to"), "holdout_count": say("Left alone"),
    }  # fmt: skip
    return view_chart(chart, title, say("Points with intervals by tier."), frame, labels)


def plot_qini(churn: ChurnInvestigation) -> ChartView | ListView:
    """What writing to ever more users brought, those first for whom it pays most."""
    section = mark("For whom does it pay")
    uplift = None if churn.recall is None else churn.recall.uplift
    if uplift is None or uplift.curve.empty:
        notes = "" if uplift is None else say("; ").join(uplift.notes)
        return say_missing(churn, section, notes or say("no campaign had a holdout"))
    frame = uplift.curve.assign(
        all_users_count=uplift.curve["users_count"].max(),
        points=lambda f: 100 * f["gain"].astype(float),
        low=lambda f: 100 * f["gain_low"].astype(float),
        high=lambda f: 100 * f["gain_high"].astype(float),
        lot=lambda f: 100 * f["random_gain"].astype(float),
    )
    qini = uplift.qini
    title = say("What writing to ever more users brings")
    if qini.known and qini.low is not None and qini.value is not None and qini.high is not None:
        better, same = (
            mark("Choosing by tier is better than by lot"),
            mark("Choosing by tier is no clearer than by lot"),
        )
        title = say(better if qini.low > 0 else same)
    base = base_chart(frame, height=200).encode(
        x=alt.X(
            "share_rate:Q",
            title=say("Share of users written to, most promising tier first"),
            axis=alt.Axis(format=".0%"),
        ),
        tooltip=make_tooltips(
            {
                "share_rate:Q": (say("Written to"), ".0%"),
                "users_count:Q": (say("Users written to"), ","),
                "all_users_count:Q": (say("Of users"), ","),
                "points:Q": (say("Points gained"), "+.2f"),
                "low:Q": (say("Low (95%)"), "+.2f"),
                "high:Q": (say("High (95%)"), "+.2f"),
                "lot:Q": (say("By lot"), "+.2f"),
            }
        ),
    )
    y = alt.Y("low:Q", title=say("Came back more, points of all"))
    chart = base.mark_area(opacity=0.2, color=theme.NOW_COLOR).encode(y=y, y2="high:Q")
    chart += base.mark_line(color=theme.NOW_COLOR, point=True).encode(y="points:Q")
    chart += base.mark_line(color=theme.REST_COLOR, strokeDash=[4, 3]).encode(y="lot:Q")
    labels = {
        "share_rate": say("Written to"), "users_count": say("Users written to"), "all_users_count": say("Of users"),
        "points": say("Points gained"), "low": say("Low (95%)"), "high": say("High (95%)"), "lot": say("By lot"),
    }  # fmt: skip
    text = say("A line of what was gained with its 95% band; dashed, what as many chosen by lot would have brought.")
    return view_chart(chart, title, text, frame, labels)

"""The chart of a shifted-beta-geometric model: who is still there as observed, and as the model goes on."""

from __future__ import annotations

import altair as alt
import pandas as pd

from opslib.language import join_sentences, mark, say
from opslib.measure.sbg import SbgFit
from opslib.present import theme
from opslib.present.charts import base_chart, view_chart
from opslib.present.display import ChartView
from opslib.present.parts import make_legend, make_tooltips

# By the unit of the periods.
TITLES = {
    "week": mark(
        "Of 100 {who} about {rate:.0f} ({low:.0f} to {high:.0f}) are still there after {count:.0f} weeks, "
        "if nothing changes"
    ),
    "month": mark(
        "Of 100 {who} about {rate:.0f} ({low:.0f} to {high:.0f}) are still there after {count:.0f} months, "
        "if nothing changes"
    ),
}
AXES = {"week": mark("Weeks{since}"), "month": mark("Months{since}")}
UNITS = {"week": mark("Week"), "month": mark("Month")}
STAYED = {"week": mark("Stayed in this week"), "month": mark("Stayed in this month")}
DESCRIPTIONS = {
    "week": mark("Points of the observed share still there by week, and the projected line with its 95% band."),
    "month": mark("Points of the observed share still there by month, and the projected line with its 95% band."),
}


def view_projection(fit: SbgFit, projected: pd.DataFrame, *, who: str, unit: str, since: str = "") -> ChartView:
    """Show a fit and its projection.

    Args:
        fit: the fitted model.
        projected: its curve, as `project_sbg` gives it; not empty.
        who: what the users are called, in the language spoken.
        unit: of the periods: `week` or `month`.
        since: what the periods are counted from, as the axis says it, in the language spoken.
    """
    observed, expected = say("Observed"), say("Projected")
    counts = ["stayed_count", "at_risk_count"]
    seen = fit.curve[["n", "observed_rate", *counts]].rename(columns={"observed_rate": "rate"}).assign(kind=observed)
    ahead = projected[["n", "survival_rate", "survival_low", "survival_high"]].copy()
    ahead.columns = pd.Index(["n", "rate", "low", "high"])
    frame = pd.concat([seen, ahead.assign(kind=expected)], ignore_index=True)
    frame = frame[["kind", "n", "rate", "low", "high", *counts]]
    last = ahead.iloc[-1]
    ends = {name: 100 * last[name] for name in ("rate", "low", "high")}
    title = say(TITLES[unit], who=who, count=last["n"], **ends)
    labels = {
        "kind": say("Share"), "n": say(UNITS[unit]), "rate": say("Still there"), "low": say("Low (95%)"),
        "high": say("High (95%)"), "stayed_count": say(STAYED[unit]), "at_risk_count": say("Of users until then"),
    }  # fmt: skip
    colors = alt.Scale(domain=[observed, expected], range=[theme.OBSERVED_COLOR, theme.EXPECTED_COLOR])
    base = base_chart(frame).encode(
        x=alt.X("n:Q", title=say(AXES[unit], since=since), axis=alt.Axis(grid=False, tickMinStep=1)),
        color=alt.Color("kind:N", scale=colors, legend=make_legend("circle")),
        tooltip=make_tooltips(
            {
                "kind:N": (labels["kind"], ""), "n:Q": (labels["n"], ""), "rate:Q": (labels["rate"], ".1%"),
                "low:Q": (labels["low"], ".1%"), "high:Q": (labels["high"], ".1%"),
                "stayed_count:Q": (labels["stayed_count"], ","), "at_risk_count:Q": (labels["at_risk_count"], ","),
            }
        ),
    )  # fmt: skip
    y = alt.Y("rate:Q", title=say("Share still there"), axis=alt.Axis(format=".0%"), scale=alt.Scale(domainMin=0))
    model_line = base.transform_filter(alt.datum.kind == expected)
    band = model_line.mark_area(opacity=0.2).encode(y=alt.Y("low:Q", title=say("Share still there")), y2="high:Q")
    points = base.transform_filter(alt.datum.kind == observed).mark_point(filled=True, size=55, opacity=1).encode(y=y)
    text = join_sentences([say(DESCRIPTIONS[unit]), say("Mind: {note}.", note=fit.note) if fit.note else ""])
    return view_chart(band + model_line.mark_line().encode(y=y) + points, title, text, frame, labels)

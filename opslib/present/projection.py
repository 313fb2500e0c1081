"""The chart of a shifted-beta-geometric model: who is still there as observed, and as the model goes on."""

from __future__ import annotations

import altair as alt
import pandas as pd

from opslib.measure.sbg import SbgFit
from opslib.present import theme
from opslib.present.charts import base_chart, view_chart
from opslib.present.display import ChartView
from opslib.present.parts import make_legend, make_tooltips

OBSERVED, PROJECTED = "Observed", "Projected"


def view_projection(fit: SbgFit, projected: pd.DataFrame, *, who: str, unit: str, since: str = "") -> ChartView:
    """Show a fit and its projection.

    Args:
        fit: the fitted model.
        projected: its curve, as `project_sbg` gives it; not empty.
        who: what the users are called.
        unit: of the periods, in the singular.
        since: what the periods are counted from, as the axis says it.
    """
    counts = ["stayed_count", "at_risk_count"]
    seen = fit.curve[["n", "observed_rate", *counts]].rename(columns={"observed_rate": "rate"}).assign(kind=OBSERVED)
    ahead = projected[["n", "survival_rate", "survival_low", "survival_high"]].copy()
    ahead.columns = pd.Index(["n", "rate", "low", "high"])
    frame = pd.concat([seen, ahead.assign(kind=PROJECTED)], ignore_index=True)
    frame = frame[["kind", "n", "rate", "low", "high", *counts]]
    last = ahead.iloc[-1]
    title = (
        f"Of 100 {who} about {100 * last['rate']:.0f} ({100 * last['low']:.0f} to {100 * last['high']:.0f}) "
        f"are still there after {last['n']:.0f} {unit}s, if nothing changes"
    )
    colors = alt.Scale(domain=[OBSERVED, PROJECTED], range=[theme.OBSERVED_COLOR, theme.EXPECTED_COLOR])
    base = base_chart(frame).encode(
        x=alt.X("n:Q", title=f"{unit.capitalize()}s{since}", axis=alt.Axis(grid=False, tickMinStep=1)),
        color=alt.Color("kind:N", scale=colors, legend=make_legend("circle")),
        tooltip=make_tooltips(
            {
                "kind:N": ("Share", ""),
                "n:Q": (unit.capitalize(), ""),
                "rate:Q": ("Still there", ".1%"),
                "low:Q": ("Low (95%)", ".1%"),
                "high:Q": ("High (95%)", ".1%"),
                "stayed_count:Q": (f"Stayed in this {unit}", ","),
                "at_risk_count:Q": ("Of users until then", ","),
            }
        ),
    )
    y = alt.Y("rate:Q", title="Share still there", axis=alt.Axis(format=".0%"), scale=alt.Scale(domainMin=0))
    model_line = base.transform_filter(alt.datum.kind == PROJECTED)
    band = model_line.mark_area(opacity=0.2).encode(y=alt.Y("low:Q", title="Share still there"), y2="high:Q")
    points = base.transform_filter(alt.datum.kind == OBSERVED).mark_point(filled=True, size=55, opacity=1).encode(y=y)
    labels = {
        "kind": "Share", "n": unit.capitalize(), "rate": "Still there", "low": "Low (95%)", "high": "High (95%)",
        "stayed_count": f"Stayed in this {unit}", "at_risk_count": "Of users until then",
    }  # fmt: skip
    text = f"Points of the observed share still there by {unit}, and the projected line with its 95% band."
    text += f" Mind: {fit.note}." if fit.note else ""
    return view_chart(band + model_line.mark_line().encode(y=y) + points, title, text, frame, labels)

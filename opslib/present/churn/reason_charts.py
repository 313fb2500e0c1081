"""Charts of why users leave: reasons, and leaving around the day on which coupons expire."""

from __future__ import annotations

import altair as alt
import pandas as pd

from opslib.decide.churn.investigation import ChurnInvestigation
from opslib.present import theme
from opslib.present.charts import base_chart, view_chart
from opslib.present.churn.words import name_reason
from opslib.present.display import ChartView, ListView
from opslib.present.parts import draw_points, list_names, make_legend, make_tooltips, say_missing

SECTION = "Why do they leave"
MOST_REASONS = 10


def plot_reasons(churn: ChurnInvestigation) -> ChartView | ListView:
    """Share of leavers and of stayers with each reason behind them."""
    if churn.reasons is None:
        return say_missing(churn, SECTION, "no month of leaving is known yet")
    result = churn.reasons.causes
    rows = result.reasons.dropna(subset=["leavers_rate", "stayers_rate"]).head(MOST_REASONS)
    if rows.empty:
        return say_missing(churn, SECTION, "no reason could be compared")
    sides = {"Leavers": "leavers", "Stayers": "stayers"}
    parts = []
    for side, name in sides.items():
        part = pd.DataFrame({"reason": [name_reason(r) for r in rows["reason"]], "side": side})
        for end in ("rate", "low", "high"):
            part[end] = rows[f"{name}_{end}"].astype(float).to_numpy()
        part["with_count"] = rows[f"{name}_with_count"].to_numpy()
        part["users_count"] = rows[f"{name}_count"].to_numpy()
        parts.append(part)
    frame = pd.concat(parts, ignore_index=True)
    named = result.named
    title = "No reason stands out among users alike"
    if len(named):
        top = named.iloc[0]
        shares = f"{top['leavers_rate']:.0%} of leavers, {top['stayers_rate']:.0%} of stayers"
        title = f"{name_reason(str(top['reason']))}: {shares}"
        title = title[0].upper() + title[1:]
    order = list(dict.fromkeys(frame["reason"]))
    base = base_chart(frame, height=max(80, 32 * len(order))).encode(
        y=alt.Y("reason:N", title=None, scale=list_names(order), axis=alt.Axis(grid=True, labelLimit=260)),
        yOffset=alt.YOffset("side:N", scale=alt.Scale(domain=list(sides))),
        color=alt.Color(
            "side:N",
            scale=alt.Scale(domain=list(sides), range=[theme.MARKED_COLOR, theme.REST_COLOR]),
            legend=make_legend("circle"),
        ),
        tooltip=make_tooltips(
            {
                "reason:N": ("Behind them", ""),
                "side:N": ("Users", ""),
                "rate:Q": ("Share", ".1%"),
                "low:Q": ("Low (95%)", ".1%"),
                "high:Q": ("High (95%)", ".1%"),
                "with_count:Q": ("Users with it", ","),
                "users_count:Q": ("Of users", ","),
            }
        ),
    )
    chart = draw_points(base, "rate", "Share with it behind them (95% interval)", form=".0%", low="low", high="high")
    labels = {
        "reason": "Behind them", "side": "Users", "rate": "Share", "low": "Low (95%)", "high": "High (95%)",
        "with_count": "Users with it", "users_count": "Of users",
    }  # fmt: skip
    return view_chart(chart, title, "Pairs of points by reason: leavers and stayers.", frame, labels)


def plot_expiry(churn: ChurnInvestigation) -> ChartView | ListView:
    """Share of active holders who left, day by day around the day on which their coupon expired."""
    expiry = None if churn.reasons is None else churn.reasons.expiry
    if expiry is None or expiry.days["left_rate"].notna().sum() < 2:
        return say_missing(churn, "When coupons expire", "too few coupons expired with their holders active")
    names = {"unused": "Coupon unused", "used": "Coupon used before"}
    frame = expiry.days.dropna(subset=["left_rate"]).assign(holder=lambda f: f["group"].map(names))
    jump = expiry.jump
    title = "Leaving around the day on which coupons expire"
    if jump.known and jump.value is not None:
        title = (
            f"When a coupon expires unused, leaving jumps {jump.value:.1f} times [{jump.low:.1f} to {jump.high:.1f}]"
        )
    domain = [n for n in names.values() if n in set(frame["holder"])]
    base = base_chart(frame).encode(
        x=alt.X("day:Q", title="Days from the coupon's end", axis=alt.Axis(grid=False, tickMinStep=1)),
        color=alt.Color(
            "holder:N",
            scale=alt.Scale(domain=domain, range=[theme.MARKED_COLOR, theme.REST_COLOR][: len(domain)]),
            legend=make_legend("stroke"),
        ),
        tooltip=make_tooltips(
            {
                "holder:N": ("Holders", ""),
                "day:Q": ("Days from the end", "+d"),
                "left_rate:Q": ("Left", ".1%"),
                "left_low:Q": ("Low (95%)", ".1%"),
                "left_high:Q": ("High (95%)", ".1%"),
                "left_count:Q": ("Left, users", ","),
                "active_count:Q": ("Active that day", ","),
            }
        ),
    )
    y = alt.Y("left_low:Q", title="Left after that day", axis=alt.Axis(format=".0%"))
    zero = alt.Chart(pd.DataFrame({"day": [-0.5]})).mark_rule(color=theme.MUTED, strokeDash=[3, 3]).encode(x="day:Q")
    chart = zero + base.mark_rule(opacity=0.4, strokeWidth=2).encode(y=y, y2="left_high:Q")
    chart += base.mark_line(point=alt.OverlayMarkDef(size=35)).encode(y="left_rate:Q")
    labels = {
        "holder": "Holders", "day": "Days from the end", "left_rate": "Left", "left_low": "Low (95%)",
        "left_high": "High (95%)", "left_count": "Left, users", "active_count": "Active that day",
    }  # fmt: skip
    text = "Lines by days from the coupon's end, for holders who had not used it and who had; dashed at its end."
    return view_chart(chart, title, text, frame, labels)

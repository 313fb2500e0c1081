"""Charts of why users leave: reasons, and leaving around the day on which coupons expire."""

from __future__ import annotations

import altair as alt
import pandas as pd

from opslib.decide.churn.investigation import ChurnInvestigation
from opslib.language import mark, say
from opslib.present import theme
from opslib.present.charts import base_chart, view_chart
from opslib.present.churn.words import name_reason
from opslib.present.display import ChartView, ListView
from opslib.present.parts import draw_points, list_names, make_legend, make_tooltips, say_missing

SECTION = mark("Why do they leave")
MOST_REASONS = 10


def plot_reasons(churn: ChurnInvestigation) -> ChartView | ListView:
    """Share of leavers and of stayers with each reason behind them."""
    if churn.reasons is None:
        return say_missing(churn, SECTION, say("no month of leaving is known yet"))
    result = churn.reasons.causes
    rows = result.reasons.dropna(subset=["leavers_rate", "stayers_rate"]).head(MOST_REASONS)
    if rows.empty:
        return say_missing(churn, SECTION, say("no reason could be compared"))
    sides = {say("Leavers"): "leavers", say("Stayers"): "stayers"}
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
    title = say("No reason stands out among users alike")
    if len(named):
        top = named.iloc[0]
        title = say(
            "{reason}: {leavers:.0%} of leavers, {stayers:.0%} of stayers",
            reason=name_reason(str(top["reason"])),
            leavers=top["leavers_rate"],
            stayers=top["stayers_rate"],
        )
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
                "reason:N": (say("Behind them"), ""),
                "side:N": (say("Users"), ""),
                "rate:Q": (say("Share"), ".1%"),
                "low:Q": (say("Low (95%)"), ".1%"),
                "high:Q": (say("High (95%)"), ".1%"),
                "with_count:Q": (say("Users with it"), ","),
                "users_count:Q": (say("Of users"), ","),
            }
        ),
    )
    across = say("Share with it behind them (95% interval)")
    chart = draw_points(base, "rate", across, form=".0%", low="low", high="high")
    labels = {
        "reason": say("Behind them"), "side": say("Users"), "rate": say("Share"), "low": say("Low (95%)"),
        "high": say("High (95%)"), "with_count": say("Users with it"), "users_count": say("Of users"),
    }  # fmt: skip
    return view_chart(chart, title, say("Pairs of points by reason: leavers and stayers."), frame, labels)


def plot_expiry(churn: ChurnInvestigation) -> ChartView | ListView:
    """Share of active holders who left, day by day around the day on which their coupon expired."""
    expiry = None if churn.reasons is None else churn.reasons.expiry
    if expiry is None or expiry.days["left_rate"].notna().sum() < 2:
        return say_missing(churn, mark("When coupons expire"), say("too few coupons expired with their holders active"))
    names = {"unused": say("Coupon unused"), "used": say("Coupon used before")}
    frame = expiry.days.dropna(subset=["left_rate"]).assign(holder=lambda f: f["group"].map(names))
    jump = expiry.jump
    title = say("Leaving around the day on which coupons expire")
    if jump.known and jump.value is not None:
        title = say(
            "When a coupon expires unused, leaving jumps {ratio:.1f} times [{low:.1f} to {high:.1f}]",
            ratio=jump.value,
            low=jump.low,
            high=jump.high,
        )
    domain = [n for n in names.values() if n in set(frame["holder"])]
    base = base_chart(frame).encode(
        x=alt.X("day:Q", title=say("Days from the coupon's end"), axis=alt.Axis(grid=False, tickMinStep=1)),
        color=alt.Color(
            "holder:N",
            scale=alt.Scale(domain=domain, range=[theme.MARKED_COLOR, theme.REST_COLOR][: len(domain)]),
            legend=make_legend("stroke"),
        ),
        tooltip=make_tooltips(
            {
                "holder:N": (say("Holders"), ""),
                "day:Q": (say("Days from the end"), "+d"),
                "left_rate:Q": (say("Left"), ".1%"),
                "left_low:Q": (say("Low (95%)"), ".1%"),
                "left_high:Q": (say("High (95%)"), ".1%"),
                "left_count:Q": (say("Left, users"), ","),
                "active_count:Q": (say("Active that day"), ","),
            }
        ),
    )
    y = alt.Y("left_low:Q", title=say("Left after that day"), axis=alt.Axis(format=".0%"))
    zero = alt.Chart(pd.DataFrame({"day": [-0.5]})).mark_rule(color=theme.MUTED, strokeDash=[3, 3]).encode(x="day:Q")
    chart = zero + base.mark_rule(opacity=0.4, strokeWidth=2).encode(y=y, y2="left_high:Q")
    chart += base.mark_line(point=alt.OverlayMarkDef(size=35)).encode(y="left_rate:Q")
    labels = {
        "holder": say("Holders"), "day": say("Days from the end"), "left_rate": say("Left"),
        "left_low": say("Low (95%)"), "left_high": say("High (95%)"), "left_count": say("Left, users"),
        "active_count": say("Active that day"),
    }  # fmt: skip
    text = say("Lines by days from the coupon's end, for holders who had not used it and who had; dashed at its end.")
    return view_chart(chart, title, text, frame, labels)

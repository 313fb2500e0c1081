"""Charts of who is worth it: value to come, value at risk, moves between tiers, what a recall brought."""

from __future__ import annotations

import altair as alt
import pandas as pd

from opslib.decide.churn.investigation import ChurnInvestigation
from opslib.language import mark, say
from opslib.present import theme
from opslib.present.charts import base_chart, view_chart
from opslib.present.churn.words import say_gone
from opslib.present.display import ChartView, ListView
from opslib.present.parts import draw_points, list_names, make_legend, make_tooltips, say_missing
from opslib.present.words import format_number

SECTION = mark("Who is worth it")
TIER_NAMES = {
    "high_value": mark("High value"),
    "potential": mark("Potential"),
    "dormant": mark("Dormant"),
    "new": mark("Not known before"),
    "not_yet": mark("Not bought yet"),
    "no_order": mark("Not bought before"),
    "important_value": mark("Important value"),
    "important_develop": mark("Important develop"),
    "important_keep": mark("Important keep"),
    "important_win_back": mark("Important win back"),
    "general_value": mark("General value"),
    "general_develop": mark("General develop"),
    "general_keep": mark("General keep"),
    "general_win_back": mark("General win back"),
}
# Bands of the chance to be still there.
LIKELY_GONE, SURE = 0.5, 0.75
ALIVE = mark("Likely still there"), mark("Uncertain"), mark("Likely gone"), mark("One order, not told")


def name_tier(name: str) -> str:
    """A tier or cell, for people."""
    return say(TIER_NAMES[name]) if name in TIER_NAMES else name.replace("_", " ").capitalize()


def plot_value(churn: ChurnInvestigation) -> ChartView | ListView:
    """What each tier is expected to bring in the next days."""
    worth = churn.worth
    if worth is None:
        return say_missing(churn, SECTION, say("it needs orders"))
    frame = worth.value.segments.dropna(subset=["expected_value_amount"])
    if frame.empty:
        return say_missing(churn, SECTION, say("; ").join(worth.value.notes) or say("too few customers came back"))
    frame = frame.assign(tier=[name_tier(str(n)) for n in frame["segment"]])
    columns = ["expected_value_amount", "expected_value_low", "expected_value_high"]
    frame["value"], frame["low"], frame["high"] = (frame[c].astype(float) for c in columns)
    total = worth.value.totals["expected_value_amount"]
    title = say(
        "Today's customers are expected to bring {amount} in {days} days",
        amount=format_number(total.value, "amount", currency=churn.currency),
        days=worth.value.horizon_days,
    )
    base = base_chart(frame, height=36 * max(len(frame), 2)).encode(
        y=alt.Y("tier:N", title=None, scale=list_names(frame["tier"]), axis=alt.Axis(grid=True)),
        color=alt.value(theme.NOW_COLOR),
        tooltip=make_tooltips(
            {
                "tier:N": (say("Tier"), ""),
                "value:Q": (say("Expected"), ",.0f"),
                "low:Q": (say("Low (95%)"), ",.0f"),
                "high:Q": (say("High (95%)"), ",.0f"),
                "customers_count:Q": (say("Customers"), ","),
            }
        ),
    )
    across = say(
        "Expected in the next {days} days, {currency} (95% interval)",
        days=worth.value.horizon_days,
        currency=churn.currency,
    )
    chart = draw_points(base, "value", across, form="~s", low="low", high="high", zero=True)
    labels = {
        "tier": say("Tier"), "value": say("Expected"), "low": say("Low (95%)"), "high": say("High (95%)"),
        "customers_count": say("Customers"),
    }  # fmt: skip
    return view_chart(chart, title, say("Points with intervals by tier."), frame, labels)


def plot_risk(churn: ChurnInvestigation) -> ChartView | ListView:
    """What customers brought so far, by tier and by how likely they are still there."""
    worth = churn.worth
    if worth is None or worth.value.at_risk.empty:
        return say_missing(churn, SECTION, say("it needs orders of customers who came back"))
    frame = worth.value.at_risk.copy()
    starts, ends = frame["alive_from_rate"].astype(float), frame["alive_to_rate"].astype(float)
    alive = [say(name) for name in ALIVE]
    bands = [
        alive[3] if pd.isna(start) else alive[0] if start >= SURE else alive[2] if end <= LIKELY_GONE else alive[1]
        for start, end in zip(starts, ends, strict=True)
    ]
    frame = frame.assign(band=bands, tier=[name_tier(str(n)) for n in frame["segment"]])
    frame = frame.groupby(["tier", "band"], as_index=False)[["customers_count", "past_amount"]].sum()
    title = say_gone(churn) or say("What customers brought so far, by whether they are still there")
    order = [name_tier(t) for t in ("high_value", "potential", "dormant") if name_tier(t) in set(frame["tier"])]
    place = {name: i for i, name in enumerate(alive)}
    frame["place"] = frame["band"].map(place)
    chart = base_chart(frame, height=40 * max(len(order), 2)).mark_bar().encode(
        y=alt.Y("tier:N", title=None, scale=list_names(order)),
        x=alt.X(
            "past_amount:Q",
            title=say("Brought so far, {currency}", currency=churn.currency),
            axis=alt.Axis(format="~s"),
        ),
        color=alt.Color(
            "band:N",
            scale=alt.Scale(domain=alive, range=list(theme.ALIVE_COLORS.values())),
            legend=make_legend(),
        ),
        order=alt.Order("place:Q"),
        tooltip=make_tooltips(
            {
                "tier:N": (say("Tier"), ""), "band:N": (say("Are"), ""), "customers_count:Q": (say("Customers"), ","),
                "past_amount:Q": (say("Brought so far"), ",.0f"),
            }
        ),
    )  # fmt: skip
    labels = {
        "tier": say("Tier"),
        "band": say("Are"),
        "customers_count": say("Customers"),
        "past_amount": say("Brought so far"),
    }
    return view_chart(chart, title, say("Stacked bars by tier: still there, uncertain, likely gone."), frame, labels)


def plot_migration(churn: ChurnInvestigation) -> ChartView | ListView:
    """Share of each tier's customers that is in each tier at the end of the days looked at."""
    migration = None if churn.worth is None else churn.worth.migration
    if migration is None:
        return say_missing(churn, SECTION, say("it needs orders over twice the days looked at"))
    frame = migration.matrix
    frame = frame[(frame["from_count"] > 0) & ~frame["from_segment"].isin(["new", "not_yet"])]
    frame = frame[frame["to_segment"] != "not_yet"].dropna(subset=["migration_rate"])
    if frame.empty:
        return say_missing(churn, SECTION, say("nobody had bought before these days"))
    counts = frame.groupby("from_segment", sort=False)["from_count"].first()
    rows = {name: say("{tier} ({count:,})", tier=name_tier(str(name)), count=n) for name, n in counts.items()}
    targets_of = [name_tier(str(n)) for n in frame["to_segment"]]
    frame = frame.assign(source=frame["from_segment"].map(rows), target=targets_of)
    lost = frame[(frame["from_segment"] == "high_value") & (frame["to_segment"] == "dormant")]
    title = say("Where customers of each tier are now")
    if len(lost):
        row = lost.iloc[0]
        title = say(
            "{share:.0%} of {count:,} high-value customers went dormant",
            share=row["migration_rate"],
            count=row["from_count"],
        )
    targets = list(dict.fromkeys(frame["target"]))
    base = base_chart(frame, height=34 * max(len(rows), 2)).encode(
        x=alt.X(
            "target:N", title=say("On {day}", day=migration.now), scale=list_names(targets),
            axis=alt.Axis(orient="top", labelAngle=0),
        ),
        y=alt.Y(
            "source:N", title=say("On {day}", day=migration.before), scale=list_names(rows.values()),
            axis=alt.Axis(grid=False),
        ),
        tooltip=make_tooltips(
            {
                "source:N": (say("Were"), ""), "target:N": (say("Are"), ""),
                "customers_count:Q": (say("Customers"), ","),
                "from_count:Q": (say("Of customers"), ","), "migration_rate:Q": (say("Share"), ".1%"),
                "low_rate:Q": (say("Low (95%)"), ".1%"), "high_rate:Q": (say("High (95%)"), ".1%"),
            }
        ),
    )  # fmt: skip
    color = alt.Color("migration_rate:Q", scale=alt.Scale(range=theme.SHADES, domain=[0, 1]), legend=None)
    chart = base.mark_rect(stroke="white", strokeWidth=1).encode(color=color)
    chart += base.mark_text(fontSize=11, color=theme.INK).encode(text=alt.Text("migration_rate:Q", format=".0%"))
    labels = {
        "source": say("Were"), "target": say("Are"), "customers_count": say("Customers"),
        "from_count": say("Of customers"), "migration_rate": say("Share"), "low_rate": say("Low (95%)"),
        "high_rate": say("High (95%)"),
    }  # fmt: skip
    return view_chart(
        chart, title, say("A table in colours: rows the tier before, columns the tier now."), frame, labels
    )

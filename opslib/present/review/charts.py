"""The charts of the quarterly review: one function a chart; only aggregates are drawn."""

from __future__ import annotations

from typing import Any

import altair as alt
import pandas as pd

from opslib.decide.review.review import QuarterlyReview
from opslib.language import mark, say
from opslib.present import theme
from opslib.present.charts import base_chart, view_chart
from opslib.present.display import ChartView, ListView
from opslib.present.review.words import drop_still, name_lever
from opslib.present.words import format_change, format_number

# Weekday patterns hide a trend: daily series are drawn as means of seven days.
SMOOTH_DAYS = 7
# The dearest ones; the table has them all.
MOST_CHANNELS = 20


def plot_activity(review: QuarterlyReview) -> ChartView:
    """Daily active users, this quarter over the one before, as seven-day means."""
    parts = []
    for measures in _both(review):
        daily = measures.activity.daily
        part = pd.DataFrame({"period": measures.period.label, "day": daily["day"], "dau_count": daily["dau_count"]})
        part["day_number"] = range(1, len(part) + 1)
        part["mean_count"] = part["dau_count"].rolling(SMOOTH_DAYS).mean().round(1)
        parts.append(part.dropna())
    frame = pd.concat(parts, ignore_index=True)
    change = review.changes()["dau_count"]
    title = say("Daily active users: {count} on average", count=format_number(change.now.value, "count"))
    title = _add_change(title, change, review)
    chart = base_chart(frame).mark_line().encode(
        x=alt.X(
            "day_number:Q", title=say("Day of the quarter"), scale=alt.Scale(nice=False),
            axis=alt.Axis(grid=False, tickMinStep=1),
        ),
        y=alt.Y("mean_count:Q", title=say("Users a day, mean of 7 days"), scale=alt.Scale(zero=True)),
        color=_period_color(review, symbol="stroke"),
        strokeDash=alt.StrokeDash("period:N", scale=_period_scale(review, [[1, 0], [5, 4]])),
        tooltip=[
            alt.Tooltip("period:N", title=say("Period")),
            alt.Tooltip("day:T", title=say("Day"), format="%Y-%m-%d"),
            alt.Tooltip("dau_count:Q", title=say("Users that day"), format=","),
            alt.Tooltip("mean_count:Q", title=say("Mean of 7 days"), format=",.0f"),
        ],
    )  # fmt: skip
    labels = {
        "period": say("Period"), "day": say("Day"), "dau_count": say("Users that day"),
        "mean_count": say("Mean of 7 days"),
    }  # fmt: skip
    return view_chart(chart, title, say("Lines of daily active users by day of the quarter."), frame, labels)


STATES = {
    mark("Stayed"): "retained_count",
    mark("New"): "new_count",
    mark("Came back"): "resurrected_count",
    mark("Left"): "churned_count",
}


def plot_growth(review: QuarterlyReview) -> ChartView:
    """Where each quarter's active users came from, and how many left."""
    rows = review.growth.periods.tail(6)
    quarters = rows["period_start"].dt.to_period("Q").astype(str)
    frame = pd.concat(
        [
            pd.DataFrame(
                {
                    "quarter": quarters,
                    "state": say(s),
                    "users_count": rows[c] * (-1 if s == "Left" else 1),
                    "order": i,
                }
            )
            for i, (s, c) in enumerate(STATES.items())
        ],
        ignore_index=True,
    )
    last = rows.iloc[-1]
    gained, lost = int(last["new_count"] + last["resurrected_count"]), int(last["churned_count"])
    title = say(
        "{quarter}: {gained:,} users gained, {lost:,} lost", quarter=quarters.iloc[-1], gained=gained, lost=lost
    )
    chart = base_chart(frame).mark_bar().encode(
        x=alt.X("quarter:N", title=None, axis=alt.Axis(labelAngle=0)),
        y=alt.Y("users_count:Q", title=say("Users"), axis=alt.Axis(format=",.0f")),
        color=alt.Color(
            "state:N",
            scale=alt.Scale(domain=[say(s) for s in theme.STATE_COLORS], range=list(theme.STATE_COLORS.values())),
        ),
        order="order:Q",
        tooltip=[
            alt.Tooltip("quarter:N", title=say("Quarter")),
            alt.Tooltip("state:N", title=say("Users who")),
            alt.Tooltip("users_count:Q", title=say("Users"), format=","),
        ],
    )  # fmt: skip
    alt_text = say("Stacked bars by quarter: users who stayed, were new, came back; below zero those who left.")
    labels = {"quarter": say("Quarter"), "state": say("Users who"), "users_count": say("Users")}
    return view_chart(chart, title, alt_text, frame.drop(columns="order"), labels)


def plot_retention(review: QuarterlyReview) -> ChartView:
    """D1, D7 and D30 with intervals, both quarters, and the targets."""
    rows: list[dict[str, Any]] = []
    for measures in _both(review):
        for n, estimate in measures.retention.days.items():
            if estimate.known:
                rows.append(
                    {
                        "period": measures.period.label, "day": say("Day {number}", number=n),
                        "rate": estimate.value, "low": estimate.low, "high": estimate.high,
                        "retained_count": estimate.numerator, "users_count": estimate.denominator,
                    }
                )  # fmt: skip
    columns = ["period", "day", "rate", "low", "high", "retained_count", "users_count"]
    frame = pd.DataFrame(rows, columns=columns)
    targets = pd.DataFrame(
        [
            {"day": say("Day {number}", number=n), "target": review.targets[f"d{n}_rate"].target.bound}
            for n in review.now.retention.days
            if f"d{n}_rate" in review.targets
        ],
        columns=["day", "target"],
    )
    change = review.changes()["d7_rate"]
    title = say("Too few users for day-7 retention")
    if change.now.known:
        title = say("Day-7 retention is {rate}", rate=format_number(change.now.value, "rate"))
        title = _add_change(title, change, review)
    # Its own text: in other languages it is another word than that for users who came back after a month.
    came = say("Came back ").rstrip()
    labels = {
        "period": say("Period"), "day": say("Retention"), "rate": say("Share who came back"), "low": say("Low (95%)"),
        "high": say("High (95%)"), "retained_count": came, "users_count": say("New users"),
    }  # fmt: skip
    x = alt.X("day:N", title=None, sort=None, axis=alt.Axis(labelAngle=0))
    offset = alt.XOffset("period:N", scale=_period_scale(review))
    base = base_chart(frame).encode(x=x, xOffset=offset, color=_period_color(review))
    bars = base.mark_rule(strokeWidth=3, opacity=0.45).encode(
        y=alt.Y("low:Q", title=say("Share of new users"), axis=alt.Axis(format="%"), scale=alt.Scale(domainMin=0)),
        y2="high:Q",
    )
    points = base.mark_point(filled=True, size=90, opacity=1).encode(
        y="rate:Q",
        tooltip=[
            alt.Tooltip("period:N", title=say("Period")),
            alt.Tooltip("day:N", title=say("Retention")),
            alt.Tooltip("rate:Q", title=say("Share"), format=".1%"),
            alt.Tooltip("low:Q", title=say("Low (95%)"), format=".1%"),
            alt.Tooltip("high:Q", title=say("High (95%)"), format=".1%"),
            alt.Tooltip("retained_count:Q", title=came, format=","),
            alt.Tooltip("users_count:Q", title=say("New users"), format=","),
        ],
    )
    chart = bars + points
    if len(targets):
        tip = alt.Tooltip("target:Q", title=say("Target"), format=".0%")
        ticks = alt.Chart(targets).mark_tick(color=theme.TARGET_COLOR, thickness=2, width=70)
        chart += ticks.encode(x=alt.X("day:N", sort=None), y="target:Q", tooltip=[tip])
    text = say("Points with 95% intervals for day 1, 7 and 30, by quarter; red ticks mark targets.")
    return view_chart(chart, title, text, frame, labels)


def plot_revenue(review: QuarterlyReview) -> ChartView | ListView:
    """Revenue by month, this quarter and the one before; a sentence where there are no orders."""
    if review.now.revenue is None:
        return _say_missing(review, "Paying users and revenue")
    parts = []
    for measures in _both(review):
        if measures.revenue is None:
            continue
        part = measures.revenue.monthly.copy()
        part["period"] = measures.period.label
        part["month"] = part["month_start"].dt.strftime("%Y-%m")
        parts.append(part)
    frame = pd.concat(parts, ignore_index=True)
    frame["revenue_amount"] = frame["revenue_amount"].round(2)
    change = review.changes()["revenue_amount"]
    money = format_number(change.now.value, "amount", currency=review.currency)
    title = _add_change(say("Revenue {money}", money=money), change, review)
    revenue = say("Revenue ({currency})", currency=review.currency)
    chart = base_chart(frame).mark_bar(size=42).encode(
        x=alt.X("month:N", title=None, axis=alt.Axis(labelAngle=0)),
        y=alt.Y("revenue_amount:Q", title=review.currency, axis=alt.Axis(format="~s")),
        color=_period_color(review),
        tooltip=[
            alt.Tooltip("month:N", title=say("Month")),
            alt.Tooltip("revenue_amount:Q", title=revenue, format=",.0f"),
            alt.Tooltip("orders_count:Q", title=say("Orders"), format=","),
            alt.Tooltip("paying_users_count:Q", title=say("Paying users"), format=","),
        ],
    )  # fmt: skip
    labels = {
        "month": say("Month"), "revenue_amount": revenue, "orders_count": say("Orders"),
        "paying_users_count": say("Paying users"),
    }  # fmt: skip
    return view_chart(chart, title, say("Bars of revenue by month."), frame, labels)


def plot_bridge(review: QuarterlyReview, total: str = "active_users") -> ChartView | ListView:
    """How a total came from the quarter before to this one, lever by lever; `total` is active_users or revenue."""
    money = total == "revenue"
    bridge = review.bridge
    frame = None if bridge is None else bridge.revenue if money else bridge.users
    if bridge is None or frame is None:
        if money and review.now.revenue is None:
            return _say_missing(review, "Paying users and revenue")
        reason = review.missing.get("Bridge") or say("there is nothing to compare")
        return ListView([say("{section}: nothing to show, because {reason}.", section=say("Bridge"), reason=reason)])
    column = "change_amount" if money else "change_count"
    start, end = (bridge.revenue_before, bridge.revenue_now) if money else (bridge.users_before, bridge.users_now)
    assert start is not None and end is not None
    rows = drop_still(frame, column).rename(columns={column: "change"}).sort_values("change", key=abs, ascending=False)
    rows = rows.assign(to=start + rows["change"].cumsum())
    rows["start"] = rows["to"] - rows["change"]
    rows["low"], rows["high"] = rows["start"] + rows["change_low"], rows["start"] + rows["change_high"]
    more, less = say("More"), say("Less")
    rows["way"] = [more if change >= 0 else less for change in rows["change"]]
    rows["step"] = [name_lever(lever) for lever in rows["lever"]]
    labels = [bridge.before.label, *rows["step"], bridge.now.label]
    ends = pd.DataFrame({"step": [labels[0], labels[-1]], "level": [start, end]})
    unit = "amount" if money else "count"
    first, last = (format_number(x, unit, currency=review.currency) for x in (start, end))
    if money:
        title = say("Revenue: from {before} to {now}", before=first, now=last)
    else:
        title = say("Active users: from {before} to {now}", before=first, now=last)
    base = base_chart(rows.round(4), height=30 * len(labels))
    # Far from nought a bar would tell a lie, so the two ends are points.
    y = alt.Y("step:N", title=None, scale=alt.Scale(domain=labels), axis=alt.Axis(labelLimit=260))
    axis = alt.Axis(format=",.0f" if not money else "~s", tickCount=6)
    x = alt.X("start:Q", title=review.currency if money else say("Users"), scale=alt.Scale(zero=False), axis=axis)
    colors = alt.Scale(domain=[more, less], range=[theme.GOOD_COLOR, theme.BAD_COLOR])
    bars = base.mark_bar(size=14).encode(
        y=y, x=x, x2="to:Q", color=alt.Color("way:N", scale=colors),
        tooltip=[
            alt.Tooltip("step:N", title=say("Lever")),
            alt.Tooltip("change:Q", title=say("Change"), format="+,.0f"),
            alt.Tooltip("change_low:Q", title=say("Low (95%)"), format="+,.0f"),
            alt.Tooltip("change_high:Q", title=say("High (95%)"), format="+,.0f"),
        ],
    )  # fmt: skip
    rules = base.mark_rule(strokeWidth=1.5, color=theme.INK).encode(y=y, x="low:Q", x2="high:Q")
    points = alt.Chart(ends).mark_point(filled=True, size=110, shape="diamond", color=theme.INK, opacity=1)
    marks = points.encode(y=alt.Y("step:N", scale=alt.Scale(domain=labels)), x="level:Q")
    shown = rows[["step", "change", "change_low", "change_high", "driver_before", "driver_now"]]
    names = {
        "step": say("Lever"), "change": say("Change"), "change_low": say("Low (95%)"), "change_high": say("High (95%)"),
        "driver_before": say("Its value, {period}", period=bridge.before.label),
        "driver_now": say("Its value, {period}", period=bridge.now.label),
    }  # fmt: skip
    text = say("Steps from the earlier total to this one, one a lever, each with its 95% interval.")
    return view_chart(bars + rules + marks, title, text, shown, names)


def plot_channels(review: QuarterlyReview) -> ChartView | ListView:
    """What a user who stays costs by channel, now and before; a sentence where there is no spend."""
    if review.now.acquisition.cac is None:
        return _say_missing(review, "Cost of new users")
    parts = []
    for measures in _both(review):
        found = measures.acquisition.by_channel
        names = ["cost_per_retained_amount", "cost_per_retained_low", "cost_per_retained_high"]
        part = found[["channel", *names, "spend_amount", "new_users_count"]].rename(
            columns=dict(zip(names, ("amount", "low", "high"), strict=True))
        )
        parts.append(part.assign(period=measures.period.label))
    long = pd.concat(parts, ignore_index=True).dropna(subset=["amount"]).round(4)
    if long.empty:
        return ListView([say("Cost of new users: nothing to show, because too few of them have had their day 7.")])
    order = long.groupby("channel")["amount"].max().sort_values().tail(MOST_CHANNELS)
    long = long[long["channel"].isin(order.index)]
    title = say("What a user who stays to day 7 costs, by channel ({currency})", currency=review.currency)
    base = base_chart(long, height=max(120, 34 * len(order))).encode(
        # A sorted list of names would be compiled into code that runs.
        y=alt.Y("channel:N", title=None, scale=alt.Scale(domain=list(order.index))),
        yOffset=alt.YOffset("period:N", scale=_period_scale(review)),
        color=_period_color(review),
    )
    rules = base.mark_rule(strokeWidth=3, opacity=0.45).encode(
        x=alt.X("low:Q", title=review.currency, scale=alt.Scale(domainMin=0)), x2="high:Q"
    )
    points = base.mark_point(filled=True, size=80, opacity=1).encode(
        x="amount:Q",
        tooltip=[
            alt.Tooltip("channel:N", title=say("Channel")),
            alt.Tooltip("period:N", title=say("Period")),
            alt.Tooltip("amount:Q", title=review.currency, format=",.2f"),
            alt.Tooltip("low:Q", title=say("Low (95%)"), format=",.2f"),
            alt.Tooltip("high:Q", title=say("High (95%)"), format=",.2f"),
            alt.Tooltip("spend_amount:Q", title=say("Spend"), format=",.0f"),
            alt.Tooltip("new_users_count:Q", title=say("New users"), format=","),
        ],
    )
    labels = {
        "channel": say("Channel"), "period": say("Period"), "amount": review.currency, "low": say("Low (95%)"),
        "high": say("High (95%)"), "new_users_count": say("New users"), "spend_amount": say("Spend"),
    }  # fmt: skip
    text = say("Points with 95% intervals by channel, both quarters.")
    return view_chart(rules + points, title, text, long, labels)


def _say_missing(review: QuarterlyReview, section: str) -> ListView:
    need = review.missing.get(section)
    if need:
        reason = say("it needs table {table}", table=say(need))
    else:
        reason = say("the data hold none in {period}", period=review.now.period.label)
    return ListView([say("{section}: nothing to show, because {reason}.", section=say(section), reason=reason)])


def _both(review: QuarterlyReview) -> list[Any]:
    return [review.now, *([review.before] if review.before else [])]


def _period_scale(review: QuarterlyReview, values: list[Any] | None = None) -> alt.Scale:
    """The two quarters in the order of time; `values` are for now and before."""
    labels = [m.period.label for m in _both(review)]
    domain = labels[::-1]
    return alt.Scale(domain=domain, range=values[: len(labels)][::-1]) if values else alt.Scale(domain=domain)


def _period_color(review: QuarterlyReview, *, symbol: str = "square") -> alt.Color:
    scale = _period_scale(review, [theme.NOW_COLOR, theme.BEFORE_COLOR])
    return alt.Color("period:N", scale=scale, legend=alt.Legend(symbolType=symbol))


def _add_change(title: str, change: Any, review: QuarterlyReview) -> str:
    if change.difference is None or review.before is None:
        return title
    return say("{title}, {change}", title=title, change=format_change(change, against=review.before.period.label))

"""The charts of the growth model: one function a chart; only aggregates are drawn.

Here is who is active; what the other modules of this folder draw is found here too.
"""

from __future__ import annotations

import altair as alt
import pandas as pd

from opslib.decide.growth.model import GrowthModel
from opslib.language import mark, say
from opslib.measure.tiers import TiersResult
from opslib.present import theme
from opslib.present.charts import base_chart, view_chart
from opslib.present.display import ChartView, ListView
from opslib.present.growth.cell import plot_cell
from opslib.present.growth.cost_charts import plot_budget_shift, plot_costs, plot_value
from opslib.present.growth.names import MANY_GRAINS, STATE_NAMES, count_grains, name_a_grain, name_grain
from opslib.present.growth.outlook_charts import plot_forecast, plot_levers, plot_sensitivity
from opslib.present.growth.staying_charts import (
    plot_behaviors,
    plot_portrait,
    plot_projection,
    plot_retention_curves,
    plot_triangle,
)
from opslib.present.growth.words import add_change
from opslib.present.parts import make_day_axis, make_tooltips, say_missing

__all__ = [
    "label_tiers",
    "plot_accounting",
    "plot_active_users",
    "plot_behaviors",
    "plot_budget_shift",
    "plot_cell",
    "plot_costs",
    "plot_days_active",
    "plot_forecast",
    "plot_levers",
    "plot_portrait",
    "plot_projection",
    "plot_retention_curves",
    "plot_sensitivity",
    "plot_tier_moves",
    "plot_tiers",
    "plot_triangle",
    "plot_value",
]

# Below, a mean is told with a decimal.
SMALL_COUNT = 10
SHOWN_PERIODS = 26
WINDOWS = {"mau_count": mark("In 30 days"), "wau_count": mark("In 7 days"), "dau_count": mark("On the day")}
WINDOW_HEADINGS = {
    "mau_count": mark("Active in 30 days"),
    "wau_count": mark("Active in 7 days"),
    "dau_count": mark("Active on the day"),
}
WINDOW_COLORS = [theme.WINDOW_COLORS[name] for name in ("month", "week", "day")]
# What users did who are counted in growth accounting: its colour -> column.
MOVES = {"New": "new_count", "Came back": "resurrected_count", "Left": "churned_count"}
ACTIVE_TIERS = ("new", "current", "resurrected")


def plot_active_users(model: GrowthModel) -> ChartView:
    """Users active on the day, in the 7 and in the 30 days to it, before and now."""
    audience = model.audience
    parts = [
        activity.daily.assign(period=activity.period.label)
        for activity in (audience.before, audience.now)
        if activity is not None
    ]
    wide = pd.concat(parts, ignore_index=True)
    frame = wide.melt(["day", "period"], list(WINDOWS), "window", "users_count")
    windows = {column: say(name) for column, name in WINDOWS.items()}
    frame["window"] = frame["window"].map(windows)
    before = audience.before.period.label if audience.before else ""
    level = audience.now.dau.value or 0
    mean = f"{level:,.1f}" if level < SMALL_COUNT else f"{level:,.0f}"
    title = say("{mean} daily active users on average", mean=mean)
    title = add_change(title, model, "dau_count", against=before)
    chart = base_chart(frame).mark_line(point=len(wide) < 3).encode(
        x=alt.X("day:T", title=None, axis=make_day_axis(frame["day"]), scale=alt.Scale(nice=False)),
        y=alt.Y("users_count:Q", title=say("Users"), axis=alt.Axis(format=",~f", tickMinStep=1)),
        color=alt.Color(
            "window:N",
            scale=alt.Scale(domain=list(windows.values()), range=WINDOW_COLORS),
            legend=alt.Legend(symbolType="stroke"),
        ),
        detail="period:N",
        tooltip=make_tooltips(
            {
                "day:T": (say("Day"), "%Y-%m-%d"),
                "window:N": (say("Users active"), ""),
                "users_count:Q": (say("Users"), ","),
            }
        ),
    )  # fmt: skip
    if audience.before is not None:
        start = pd.DataFrame({"day": [pd.Timestamp(model.scope.now.start)], "text": [say("now")]})
        mark = alt.Chart(start).encode(x="day:T")
        chart += mark.mark_rule(color=theme.MUTED, strokeDash=[3, 3])
        chart += mark.mark_text(align="left", baseline="bottom", dx=5, color=theme.MUTED, fontSize=12).encode(
            text="text:N", y=alt.value(theme.HEIGHT - 3)
        )
    text = say(
        "Lines of active users on the day, in 7 and in 30 days; a dashed line marks where the days looked at begin."
    )
    labels = {"day": say("Day")} | {name: say(words) for name, words in WINDOW_HEADINGS.items()}
    return view_chart(chart, title, text, wide, labels)


def plot_accounting(model: GrowthModel) -> ChartView | ListView:
    """By period: users gained (new, came back) above zero, lost below, and the difference."""
    grain, rows = name_grain(model.scope.grain), _take_complete(model.audience.accounting.periods)
    if rows.empty:
        reason = say("the data hold no complete {grain}", grain=grain)
        return say_missing(model, mark("Users gained and lost"), reason)
    wide = pd.DataFrame({move: rows[column].astype(int) for move, column in MOVES.items()})
    wide["net"] = wide["New"] + wide["Came back"] - wide["Left"]
    wide["Left"] = -wide["Left"]
    wide["period_start"] = rows["period_start"].to_numpy()
    last = wide.iloc[-1]
    gained, lost = last["New"] + last["Came back"], -last["Left"]
    title = say(
        "Last full {grain}: {gained:,} users gained, {lost:,} lost, {net:+,} in all",
        grain=grain, gained=gained, lost=lost, net=gained - lost,
    )  # fmt: skip
    net_label = say("Gained less lost")
    names = {"New": say("New"), "Came back": say("Came back"), "Left": say("Left"), "net": net_label}
    wide = wide.rename(columns=names)
    frame = wide.melt("period_start", list(names.values()), "state", "users_count")
    colors = {names[move]: theme.STATE_COLORS[move] for move in MOVES} | {net_label: theme.INK}
    when, who = say("{grain} from", grain=grain.capitalize()), say("Users who")
    width = _bar_width(len(rows))
    base = base_chart(frame).encode(
        x=alt.X(
            "period_start:T",
            title=None,
            axis=make_day_axis(frame["period_start"]),
            scale=alt.Scale(padding=width / 2 + 4, nice=False),
        ),
        y=alt.Y("users_count:Q", title=say("Users a {grain}", grain=grain), axis=alt.Axis(format=",~f", tickMinStep=1)),
        color=alt.Color("state:N", scale=alt.Scale(domain=list(colors), range=list(colors.values()))),
        tooltip=make_tooltips(
            {
                "period_start:T": (when, "%Y-%m-%d"),
                "state:N": (who, ""),
                "users_count:Q": (say("Users"), ","),
            }
        ),
    )
    bars = base.transform_filter(alt.datum.state != net_label).mark_bar(size=width)
    net = base.transform_filter(alt.datum.state == net_label)
    chart = bars + net.mark_line(point=alt.OverlayMarkDef(size=25))
    text = say(
        "Bars by {grain}: new users and users who came back above zero, users who left below; a line of the sum.",
        grain=grain,
    )
    labels = {"period_start": when, "state": who, "users_count": say("Users")}
    return view_chart(chart, title, text, frame, labels)


def plot_days_active(model: GrowthModel) -> ChartView | ListView:
    """On how many of the last 28 days users came."""
    result = model.audience.days_active
    frame = result.distribution
    if not frame["users_count"].sum():
        return say_missing(model, mark("Days active"), say("nobody was active in the last days"))
    days, users = result.period.days, int(frame["users_count"].sum())
    mean = float((frame["active_days_count"] * frame["users_count"]).sum()) / users
    once = int(frame["users_count"].iloc[0]) / users
    frame = frame.assign(all_users_count=users)
    title = say(
        "Users of the last {days} days came on {mean:.1f} of them on average, {once:.0%} on one only",
        days=days, mean=mean, once=once,
    )  # fmt: skip
    chart = base_chart(frame).mark_bar(color=theme.NOW_COLOR).encode(
        x=alt.X(
            "active_days_count:O",
            title=say("Days active, of the last {days}", days=days),
            axis=alt.Axis(labelAngle=0),
        ),
        y=alt.Y(
            "users_rate:Q",
            title=say("Share of {count:,} users", count=users),
            axis=alt.Axis(format=".0%", tickCount=5),
        ),
        tooltip=make_tooltips(
            {
                "active_days_count:O": (say("Days active"), ""),
                "users_count:Q": (say("Users"), ","),
                "users_rate:Q": (say("Share"), ".1%"),
                "at_least_count:Q": (say("Users with as many or more"), ","),
                "at_least_rate:Q": (say("Share with as many or more"), ".1%"),
                "all_users_count:Q": (say("Of users"), ","),
            }
        ),
    )  # fmt: skip
    labels = {
        "active_days_count": say("Days active"), "users_count": say("Users"), "users_rate": say("Share of users"),
        "at_least_count": say("Users with as many or more"), "at_least_rate": say("Share with as many or more"),
        "all_users_count": say("Of users"),
    }  # fmt: skip
    return view_chart(chart, title, say("Bars of users by number of active days."), frame, labels)


def label_tiers(tiers: TiersResult) -> dict[str, str]:
    """Tier -> its name with, for those away, for how long.

    The names are those of `opslib.present.growth.names.STATE_NAMES`.
    """
    limits, grain = tiers.thresholds, tiers.grain
    ranges = {
        "at_risk": (1, limits.dormant_after - 1),
        "dormant": (limits.dormant_after, limits.churned_after - 1),
        "churned": (limits.churned_after, None),
    }
    labels = {tier: say(STATE_NAMES[tier]) for tier in theme.TIER_COLORS}
    for tier, (first, last) in ranges.items():
        span = count_grains(first, grain)
        if last is None:
            span = say("{first} {units} or more", first=first, units=say(MANY_GRAINS[grain]))
        elif last != first:
            span = say("{first} to {last} {units}", first=first, last=last, units=say(MANY_GRAINS[grain]))
        labels[tier] = say("{tier} (away {span})", tier=labels[tier], span=span)
    return labels


def plot_tiers(model: GrowthModel) -> ChartView | ListView:
    """Users by tier at the end of each period: those active above, those away below, on scales of their own."""
    tiers, grain = model.audience.tiers, name_grain(model.scope.grain)
    rows = _take_complete(tiers.balance)
    if rows.empty or not rows["closing_count"].sum():
        return say_missing(model, mark("Users by tier"), say("the data hold no complete {grain}", grain=grain))
    names = label_tiers(tiers)
    held = rows.groupby("state")["closing_count"].sum()
    shown = [tier for tier in names if held.get(tier, 0)]
    frame = rows[rows["state"].isin(shown)][["period_start", "state", "closing_count"]].copy()
    frame["order"] = frame["state"].map({tier: i for i, tier in enumerate(theme.TIER_COLORS)})
    frame["active"] = frame["state"].isin(ACTIVE_TIERS)
    frame["tier"] = frame["state"].map(names)
    last = frame[frame["period_start"] == frame["period_start"].max()]
    active = int(last.loc[last["active"], "closing_count"].sum())
    away = int(last.loc[~last["active"], "closing_count"].sum())
    title = say(
        "End of the last full {grain}: {active:,} users active in it, {away:,} not",
        grain=grain, active=active, away=away,
    )  # fmt: skip
    width = _bar_width(rows["period_start"].nunique())
    panels = [
        _draw_tiers(
            frame[frame["active"] == flag], [t for t in shown if (t in ACTIVE_TIERS) == flag], names, width, name
        )
        for flag, name in ((True, say("Active users")), (False, say("Users away")))
        if (frame["active"] == flag).any()
    ]
    chart = alt.vconcat(*panels, spacing=14).resolve_scale(color="independent", x="shared")
    text = say("Stacked bars of users by tier and {grain}, above those active in it, below those away.", grain=grain)
    when = say("{grain} from", grain=grain.capitalize())
    labels = {"period_start": when, "tier": say("Tier"), "closing_count": say("Users")}
    return view_chart(chart, title, text, frame, labels)


def _draw_tiers(frame: pd.DataFrame, tiers: list[str], names: dict[str, str], width: int, title: str) -> alt.Chart:
    padded = alt.Scale(padding=width / 2 + 4, nice=False)
    x = alt.X("period_start:T", title=None, axis=make_day_axis(frame["period_start"]), scale=padded)
    scale = alt.Scale(domain=[names[t] for t in tiers], range=[theme.TIER_COLORS[t] for t in tiers])
    return base_chart(frame, height=150).mark_bar(size=width, stroke="white", strokeWidth=0.5).encode(
        x=x,
        y=alt.Y("closing_count:Q", title=title, axis=alt.Axis(format=",~f", tickMinStep=1, tickCount=5)),
        color=alt.Color("tier:N", scale=scale, legend=alt.Legend(columns=4)),
        order="order:Q",
        tooltip=make_tooltips(
            {
                "period_start:T": (say("From"), "%Y-%m-%d"),
                "tier:N": (say("Tier"), ""),
                "closing_count:Q": (say("Users"), ","),
            }
        ),
    )  # fmt: skip


def plot_tier_moves(model: GrowthModel) -> ChartView | ListView:
    """From one period to the next: the share of each tier that moves to each other."""
    tiers, grain = model.audience.tiers, name_grain(model.scope.grain)
    frame = tiers.matrix[tiers.matrix["transition_rate"].notna()].copy()
    if frame.empty:
        reason = say("it needs two complete {grain}s and enough users in a tier", grain=grain)
        return say_missing(model, mark("Moves between tiers"), reason)
    names = label_tiers(tiers)
    frame["from_tier"], frame["to_tier"] = frame["from_state"].map(names), frame["to_state"].map(names)
    known = [t for t in names if t in set(frame["from_state"]) | set(frame["to_state"])]
    order = [names[t] for t in known]
    once = name_a_grain(model.scope.grain)
    title = say("Where users of each tier are {once} later", once=once)
    back = frame[(frame["from_state"] == "dormant") & (frame["to_state"] == "resurrected")]
    if len(back):
        title = say(
            "Where users of each tier are {once} later: of dormant users {rate:.1%} come back",
            once=once, rate=back["transition_rate"].iloc[0],
        )  # fmt: skip
    later = say("{once} later", once=once.capitalize())
    tooltip = make_tooltips(
        {
            "from_tier:N": (say("From"), ""),
            "to_tier:N": (say("To"), ""),
            "users_count:Q": (say("Users who moved"), ","),
            "opening_count:Q": (say("Users who could have"), ","),
            "transition_rate:Q": (say("Share"), ".1%"),
            "low_rate:Q": (say("Low (95%)"), ".1%"),
            "high_rate:Q": (say("High (95%)"), ".1%"),
        }
    )
    # Columns have room for a tier's name alone.
    bracket = say(" (")
    base = base_chart(frame, height=max(70, 34 * frame["from_state"].nunique())).properties(width=520).encode(
        x=alt.X(
            "to_tier:N", title=later, sort=order,
            axis=alt.Axis(orient="top", labelAngle=0, labelExpr=f"split(datum.label, '{bracket}')[0]", grid=False),
        ),
        y=alt.Y("from_tier:N", title=say("From"), sort=order, axis=alt.Axis(grid=False, labelLimit=240)),
        tooltip=tooltip,
    )  # fmt: skip
    color = alt.Color("transition_rate:Q", scale=alt.Scale(range=theme.SHADES, domain=[0, 1]), legend=None)
    cells = base.mark_rect(stroke="white", strokeWidth=2).encode(color=color)
    numbers = base.mark_text(fontSize=12, color=theme.INK).encode(text=alt.Text("transition_rate:Q", format=".1%"))
    labels = {
        "from_tier": say("From"), "to_tier": later, "users_count": say("Users who moved"),
        "opening_count": say("Users who could have"), "transition_rate": say("Share"), "low_rate": say("Low (95%)"),
        "high_rate": say("High (95%)"),
    }  # fmt: skip
    text = say(
        "A table in colours: rows are tiers, columns the tier a period later, cells the share of users who moved."
    )
    return view_chart(cells + numbers, title, text, frame, labels)


def _take_complete(rows: pd.DataFrame) -> pd.DataFrame:
    """The last complete periods."""
    complete = rows[rows["complete"].astype(bool)]
    starts = sorted(complete["period_start"].unique())[-SHOWN_PERIODS:]
    return complete[complete["period_start"].isin(starts)]


def _bar_width(count: int) -> int:
    return max(4, min(40, round(0.72 * theme.WIDTH / max(count, 1))))

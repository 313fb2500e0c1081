"""Charts of what growth costs: cost by channel, what moved spend brought, and value against cost."""

from __future__ import annotations

import altair as alt
import pandas as pd

from opslib.decide.growth.model import GrowthModel
from opslib.language import join_clauses, mark, say
from opslib.measure.lifetime_value import LifetimeValueResult
from opslib.present import theme
from opslib.present.charts import view_chart
from opslib.present.display import ChartView, ListView
from opslib.present.growth.names import BASES, VERDICT_NAMES, name_value
from opslib.present.parts import (
    MOST_ROWS,
    cut_name,
    draw_points,
    draw_zero,
    list_names,
    make_legend,
    make_tooltips,
    say_missing,
)
from opslib.present.words import format_number

COSTS = {
    "cac": mark("A new user"),
    "cost_per_activated": mark("One active 3 days of 7"),
    "cost_per_d7": mark("One back on day 7"),
    "cost_per_d30": mark("One back on day 30"),
}
SPEND = ["spend_amount", "before_spend_amount", "extra_spend_amount", "spend_change_rate"]
VALUE_GROUPS = 6
# A panel's heading holds the month of pay-back too.
PANEL_NAME = 14
STATUS_LABELS = {
    "paid_back": mark("paid back"),
    "may_have_paid_back": mark("may have paid back"),
    "not_paid_back": mark("not paid back"),
    "not_enough_data": mark("too few buyers"),
}


def plot_costs(model: GrowthModel) -> ChartView | ListView:
    """By channel with spend: cost of a new, an activated and a retained user, each on its own scale."""
    groups = model.acquisition.channels.by_group
    rows = groups[groups["cac_amount"].notna()] if "cac_amount" in groups.columns else groups.head(0)
    if rows.empty:
        reason = say("no channel has both spend and enough new users")
        return say_missing(model, mark("Cost of new users"), reason)
    rows = rows.head(MOST_ROWS).sort_values("cac_amount")
    parts = []
    names = {name: say(kind) for name, kind in COSTS.items()}
    for name, kind in names.items():
        if f"{name}_amount" not in rows.columns:
            continue
        part = rows[["group", "spend_amount", "new_users_count"]].assign(kind=kind)
        part[["amount", "low", "high"]] = rows[[f"{name}_{k}" for k in ("amount", "low", "high")]].round(4).to_numpy()
        parts.append(part)
    frame = pd.concat(parts, ignore_index=True).dropna(subset=["amount"])
    order = rows["group"].tolist()
    total = model.acquisition.channels.totals.get("cac_amount")
    title = say("What a user costs, by channel ({currency})", currency=model.currency)
    if total is not None and total.known:
        cheap, dear = (
            f"{cut_name(row['group'])} {format_number(row['cac_amount'], 'amount')}"
            for row in (rows.iloc[0], rows.iloc[-1])
        )
        cost = format_number(total.value, "amount", currency=model.currency)
        title = say("A new user costs {cost}", cost=cost)
        if len(rows) > 1:
            title = say("A new user costs {cost}: from {cheap} to {dear}", cost=cost, cheap=cheap, dear=dear)
    kinds = [k for k in names.values() if (frame["kind"] == k).any()]
    panels = [_draw_cost(frame[frame["kind"] == kind], kind, order, model, i) for i, kind in enumerate(kinds)]
    labels = {
        "group": say("Channel"), "kind": say("Cost of"), "amount": model.currency, "low": say("Low (95%)"),
        "high": say("High (95%)"), "spend_amount": say("Spend ({currency})", currency=model.currency),
        "new_users_count": say("New users"),
    }  # fmt: skip
    text = say("Points with 95% intervals by channel, in one panel for each kind of user; each has a scale of its own.")
    return view_chart(alt.hconcat(*panels, spacing=14), title, text, frame, labels)


def _draw_cost(frame: pd.DataFrame, kind: str, order: list[str], model: GrowthModel, place: int) -> alt.LayerChart:
    axis = alt.Axis(labels=False, ticks=False, grid=True) if place else alt.Axis(grid=True, ticks=False)
    base = alt.Chart(
        frame, width=145, height=max(60, 30 * len(order)), title=alt.Title(kind, fontSize=12, frame="group")
    ).encode(
        y=alt.Y("group:N", title=None, scale=list_names(order), axis=axis),
        color=alt.value(theme.NOW_COLOR),
        tooltip=make_tooltips(
            {
                "group:N": (say("Channel"), ""),
                "kind:N": (say("Cost of"), ""),
                "amount:Q": (model.currency, ",.2f"),
                "low:Q": (say("Low (95%)"), ",.2f"),
                "high:Q": (say("High (95%)"), ",.2f"),
                "spend_amount:Q": (say("Spend ({currency})", currency=model.currency), ",.0f"),
                "new_users_count:Q": (say("New users"), ","),
            }
        ),
    )  # fmt: skip
    return draw_points(base, "amount", model.currency, form=",~f", low="low", high="high", ticks=4, domainMin=0)


def plot_budget_shift(model: GrowthModel) -> ChartView | ListView:
    """What moved spend brought: more new users, and more who stay, by channel."""
    shift, section = model.acquisition.shift, mark("What moved spend brought")
    if shift is None:
        need = model.missing.get("Cost of new users") or model.missing.get("New users by channel")
        reason = say("there are no days before to compare with")
        if need:
            reason = say("it needs table {table}", table=say(need))
        return say_missing(model, section, reason)
    rows = shift.by_channel
    rows = rows[rows["extra_users_low"].notna()].head(MOST_ROWS) if len(rows) else rows
    if rows.empty:
        return say_missing(model, section, shift.note or say("no channel has enough new users in both periods"))
    day = shift.retained_day
    kinds = {"users": say("New users"), "retained": say("New users back on day {day}", day=day)}
    parts = []
    for name, kind in kinds.items():
        part = rows[["channel", *SPEND, "verdict"]].assign(kind=kind)
        columns = [f"extra_{name}_{k}" for k in ("count", "low", "high")]
        part[["count", "low", "high"]] = rows[columns].astype(float).round(2).to_numpy()
        parts.append(part)
    frame = pd.concat(parts, ignore_index=True)
    frame["verdict"] = [say(VERDICT_NAMES[v]) if v in VERDICT_NAMES else "" for v in frame["verdict"]]
    moved, unmoved = say("Spend moved by more than a fifth"), say("Spend hardly moved")
    frame["spend"] = [moved if c in shift.moved else unmoved for c in frame["channel"]]
    title = say("No channel's spend moved by more than a fifth")
    if shift.moved:
        title = say("What moved spend brought, by channel")
    top = rows[rows["channel"].isin(shift.moved) & (rows["verdict"] != "not_enough_data")].head(1)
    if len(top):
        row = top.iloc[0]
        text = mark("{money} less for {channel}: {users:+,.0f} new users, {retained:+,.0f} back on day {day}")
        if row["extra_spend_amount"] > 0:
            text = mark("{money} more for {channel}: {users:+,.0f} new users, {retained:+,.0f} back on day {day}")
        title = say(
            text,
            money=format_number(abs(row["extra_spend_amount"]), "amount", currency=model.currency),
            channel=cut_name(row["channel"]),
            users=row["extra_users_count"],
            retained=row["extra_retained_count"],
            day=day,
        )
    order = [*(c for c in rows["channel"] if c in shift.moved), *(c for c in rows["channel"] if c not in shift.moved)]
    panels = [
        _draw_shift(frame[frame["kind"] == kind], kind, order, (moved, unmoved), model, i)
        for i, kind in enumerate(kinds.values())
    ]
    labels = {
        "channel": say("Channel"), "kind": say("Difference in"), "count": say("Users"), "low": say("Low (95%)"),
        "high": say("High (95%)"), "spend_amount": say("Spend ({currency})", currency=model.currency),
        "before_spend_amount": say("Spend before"),
        "extra_spend_amount": say("Spend, {currency} more", currency=model.currency),
        "spend_change_rate": say("Spend, change"), "verdict": say("Finding"),
    }  # fmt: skip
    text = say(
        "Points with 95% intervals by channel: new users and retained users more than before; moved channels in colour."
    )
    return view_chart(alt.hconcat(*panels, spacing=16), title, text, frame, labels)


def _draw_shift(
    frame: pd.DataFrame, kind: str, order: list[str], moved: tuple[str, str], model: GrowthModel, place: int
) -> alt.LayerChart | alt.FacetChart:
    axis = alt.Axis(labels=False, ticks=False, grid=True) if place else alt.Axis(grid=True, ticks=False)
    colors = alt.Scale(domain=list(moved), range=[theme.MARKED_COLOR, theme.REST_COLOR])
    base = alt.Chart(
        frame, width=300, height=max(60, 30 * len(order)), title=alt.Title(kind, fontSize=12, frame="group")
    ).encode(
        y=alt.Y("channel:N", title=None, scale=list_names(order), axis=axis),
        color=alt.Color("spend:N", scale=colors, legend=make_legend()),
        tooltip=make_tooltips(
            {
                "channel:N": (say("Channel"), ""),
                "count:Q": (say("{kind}, more", kind=kind), "+,.0f"),
                "low:Q": (say("Low (95%)"), "+,.0f"),
                "high:Q": (say("High (95%)"), "+,.0f"),
                "spend_amount:Q": (say("Spend ({currency})", currency=model.currency), ",.0f"),
                "before_spend_amount:Q": (say("Spend before"), ",.0f"),
                "spend_change_rate:Q": (say("Spend, change"), "+.0%"),
                "verdict:N": (say("Finding"), ""),
            }
        ),
    )
    points = draw_points(base, "count", say("More users than before"), form="+,~f", low="low", high="high")
    return alt.layer(draw_zero(frame.head(1)), points)


def plot_value(model: GrowthModel) -> ChartView | ListView:
    """What an acquired user has brought by month of life, against what the user cost, by channel."""
    value, section = model.acquisition.value, mark("Value of new users")
    if value is None:
        return say_missing(model, section, say("nobody has lived long enough"))
    frame = _take_months(model, value)
    if frame.empty:
        return say_missing(model, section, say("too few users have bought"))
    order = list(dict.fromkeys(frame["panel"]))
    title, basis = _title_value(model, value), name_value(value.basis)
    month, each = say("Month of life"), say("{basis} a user", basis=basis)
    columns = min(3, len(order))
    width = {1: theme.WIDTH, 2: 310}.get(columns, 200)
    base = alt.Chart(frame).encode(
        x=alt.X(
            "month_count:Q",
            title=month,
            axis=alt.Axis(grid=False, tickMinStep=1, tickCount=6, labelFlush=False),
        ),
        tooltip=make_tooltips(
            {
                "group:N": (say("Channel"), ""),
                "month_count:Q": (month, ""),
                "value_amount:Q": (each, ",.2f"),
                "value_low:Q": (say("Low (95%)"), ",.2f"),
                "value_high:Q": (say("High (95%)"), ",.2f"),
                "cac_amount:Q": (say("Cost of a new user"), ",.2f"),
                "users_count:Q": (say("Users who lived so long"), ","),
            }
        ),
    )
    names = [say("{basis} a new user brings", basis=basis), say("Cost of a new user")]
    color = alt.Color(
        "line:N",
        scale=alt.Scale(domain=names, range=[theme.NOW_COLOR, theme.TARGET_COLOR]),
        legend=make_legend("stroke"),
    )
    y = alt.Y("value_low:Q", title=model.currency, axis=alt.Axis(format="~s", tickCount=5), scale=alt.Scale(nice=5))
    band = base.mark_area(opacity=0.2, color=theme.NOW_COLOR).encode(y=y, y2="value_high:Q")
    line = base.transform_calculate(line=f"'{names[0]}'").mark_line(point=alt.OverlayMarkDef(size=18))
    layers = [band, line.encode(y="value_amount:Q", color=color)]
    if frame["cac_amount"].notna().any():
        layers.append(base.mark_area(opacity=0.2, color=theme.TARGET_COLOR).encode(y="cac_low:Q", y2="cac_high:Q"))
        cost = base.transform_calculate(line=f"'{names[1]}'").mark_line(strokeDash=[5, 3])
        layers.append(cost.encode(y="cac_amount:Q", color=color))
    header = alt.Header(title=None, labelFontSize=12, labelColor=theme.INK, labelAnchor="start", labelLimit=width + 40)
    chart = (
        alt.layer(*layers)
        .properties(width=width, height=150 if columns > 1 else theme.HEIGHT)
        .facet(
            facet=alt.Facet("panel:N", sort=alt.SortField("place"), header=header),
            columns=columns,
            spacing={"row": 46, "column": 52},
            bounds="flush",
        )
        .resolve_scale(y="independent")
    )
    labels = {
        "group": say("Channel"), "month_count": month, "value_amount": each,
        "value_low": say("Low (95%)"), "value_high": say("High (95%)"), "cac_amount": say("Cost of a new user"),
        "users_count": say("Users who lived so long"),
    }  # fmt: skip
    text = say(
        "Curves of {basis} by month of life with 95% bands, by channel; dashed: the cost of a new user.",
        basis=say(BASES[value.basis]),
    )
    return view_chart(chart, title, text, frame, labels)


def _title_value(model: GrowthModel, value: LifetimeValueResult) -> str:
    """What a new user brought at the oldest age known, and how many channels paid back."""
    known = [(age, e.value) for age, e in value.ages.items() if e.known]
    title = say(
        "{basis} of a new user by month of life ({currency})", basis=name_value(value.basis), currency=model.currency
    )
    if known:
        age, earned = known[-1]
        title = say(
            "After {days} days a new user brought {amount} of {basis}",
            days=age, amount=f"{model.currency} {format_number(earned, 'amount')}", basis=say(BASES[value.basis]),
        )  # fmt: skip
    if model.acquisition.payback is None:
        return title
    status = model.acquisition.payback.by_group["status"]
    paid = say("{part} of {count} channels paid back", part=int((status == "paid_back").sum()), count=len(status))
    return join_clauses([title, paid])


def _take_months(model: GrowthModel, value: LifetimeValueResult) -> pd.DataFrame:
    """Months of the largest groups, as far as enough users lived them, with the cost of a user beside."""
    by_month = value.by_month[value.by_month["value_amount"].notna()]
    groups = list(dict.fromkeys(g for g in by_month["group"] if g != "(other)"))[:VALUE_GROUPS]
    frame = by_month[by_month["group"].isin(groups)].copy()
    columns = ["cac_amount", "cac_low", "cac_high", "observed_month_count"]
    payback = model.acquisition.payback
    rows = payback.by_group.set_index("group") if payback is not None else pd.DataFrame(columns=columns)
    for column in columns:
        frame[column] = pd.to_numeric(frame["group"].map(rows[column]), errors="coerce")
    # The last months are lived by few: their value jumps, and says nothing of paying back.
    frame = frame[~(frame["month_count"] > frame["observed_month_count"])]
    panels = {group: _label_panel(group, rows) for group in groups}
    clear = len(set(panels.values())) == len(panels)
    # Names that are cut may become the same, and their curves one panel.
    frame["panel"] = frame["group"].map(panels) if clear else frame["group"]
    amounts = ["value_amount", "value_low", "value_high", "cac_amount", "cac_low", "cac_high"]
    frame[amounts] = frame[amounts].astype(float).round(4)
    order = {group: i for i, group in enumerate(groups)}
    frame["place"] = frame["group"].map(order)
    return frame.sort_values("place", kind="stable")


def _label_panel(group: str, rows: pd.DataFrame) -> str:
    """A channel and when it pays back."""
    if group not in rows.index:
        return group
    row = rows.loc[group]
    channel = cut_name(group, PANEL_NAME)
    if row["status"] != "paid_back" or pd.isna(row["payback_month_count"]):
        return say("{channel}: {status}", channel=channel, status=say(STATUS_LABELS[str(row["status"])]))
    earliest, latest = row["payback_earliest_count"], row["payback_latest_count"]
    if pd.isna(earliest) or not earliest < latest:
        return say("{channel}: paid back in month {month:.0f}", channel=channel, month=row["payback_month_count"])
    return say(
        "{channel}: paid back in month {month:.0f} ({earliest:.0f}–{latest:.0f})",
        channel=channel, month=row["payback_month_count"], earliest=earliest, latest=latest,
    )  # fmt: skip

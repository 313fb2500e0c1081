"""Charts of what comes: the forecast, which rate moves activity most, and what each lever would do."""

from __future__ import annotations

import altair as alt
import pandas as pd

from opslib.decide.growth.model import GrowthModel
from opslib.present import theme
from opslib.present.charts import base_chart, view_chart
from opslib.present.display import ChartView, ListView
from opslib.present.growth.words import LEVER_NAMES, format_lever
from opslib.present.parts import draw_points, draw_zero, make_day_axis, make_legend, make_tooltips, say_missing

PAST_DAYS = 56
# Of the users in a state on one day, the share in another on the next (see `opslib.measure.states`).
RATE_LABELS = {
    "nurr_rate": "Yesterday's new users come again",
    "curr_rate": "Yesterday's regulars come again",
    "rurr_rate": "Yesterday's returners after 7 to 29 days come again",
    "surr_rate": "Yesterday's returners after 30 days come again",
    "iwaurr_rate": "Users away 1 to 6 days come back",
    "reactivation_rate": "Users away 7 to 29 days come back",
    "resurrection_rate": "Users away 30 days or more come back",
    "wau_loss_rate": "Users away 1 to 6 days make it a week",
    "mau_loss_rate": "Users away 7 to 29 days make it 30",
    "new_users": "New users a day",
}
LEVER_LABELS = {lever: f"{name[0].upper()}{name[1:]}" for lever, name in LEVER_NAMES.items()}
# Below, gains are told with decimals.
SMALL_COUNT = 10
# Beside long labels.
LABELLED_WIDTH = 480


def plot_forecast(model: GrowthModel) -> ChartView | ListView:
    """Daily active users of the last weeks, and the weeks ahead with bands."""
    forecast = model.outlook.forecast
    if forecast.daily.empty:
        return say_missing(model, "Forecast", forecast.note or "the days observed are too few")
    past = model.outlook.rates.daily[["day", "dau_count"]].tail(PAST_DAYS).assign(kind="Observed")
    bands = ["low80_count", "high80_count", "low95_count", "high95_count"]
    ahead = forecast.daily[["day", "dau_count", *bands]].assign(kind="Forecast")
    frame = pd.concat([past, ahead], ignore_index=True)
    last = ahead.iloc[-1]
    title = (
        f"In {len(ahead)} days about {last['dau_count']:,.0f} daily active users, "
        f"95% interval {last['low95_count']:,.0f} to {last['high95_count']:,.0f}"
    )
    kinds = alt.Scale(domain=["Observed", "Forecast"], range=[theme.OBSERVED_COLOR, theme.EXPECTED_COLOR])
    x = alt.X("day:T", title=None, axis=make_day_axis(frame["day"]), scale=alt.Scale(nice=False))
    base = base_chart(frame).encode(x=x)
    areas = [
        base.transform_filter(alt.datum.kind == "Forecast")
        .mark_area(color=theme.EXPECTED_COLOR, opacity=opacity)
        .encode(
            y=alt.Y(
                f"low{n}_count:Q",
                title="Users a day",
                scale=alt.Scale(zero=False),
                axis=alt.Axis(format=",~f", tickMinStep=1),
            ),
            y2=f"high{n}_count:Q",
        )
        for n, opacity in ((95, 0.15), (80, 0.25))
    ]
    line = base.mark_line().encode(
        y="dau_count:Q",
        color=alt.Color("kind:N", scale=kinds, legend=make_legend("stroke")),
        tooltip=make_tooltips(
            {
                "day:T": ("Day", "%Y-%m-%d"),
                "kind:N": ("Users", ""),
                "dau_count:Q": ("Users that day", ",.0f"),
                "low80_count:Q": ("Low (80%)", ",.0f"),
                "high80_count:Q": ("High (80%)", ",.0f"),
                "low95_count:Q": ("Low (95%)", ",.0f"),
                "high95_count:Q": ("High (95%)", ",.0f"),
            }
        ),
    )
    labels = {
        "day": "Day", "kind": "Users", "dau_count": "Users that day", "low80_count": "Low (80%)",
        "high80_count": "High (80%)", "low95_count": "Low (95%)", "high95_count": "High (95%)",
    }  # fmt: skip
    text = "Line of daily active users, then the forecast with a dark 80% and a light 95% band; it need not start at 0."
    return view_chart(areas[0] + areas[1] + line, title, text, frame, labels)


def plot_sensitivity(model: GrowthModel) -> ChartView | ListView:
    """Daily active users gained if a rate were a percentage point, or a tenth of itself, higher."""
    frame = model.outlook.sensitivity.copy()
    frame = frame[frame["rate"].isin(list(RATE_LABELS))]
    if frame.empty:
        return say_missing(model, "Which rate matters most", model.outlook.forecast.note or "too few days are known")
    values = frame["value_rate"].astype(float)
    frame["label"] = [
        RATE_LABELS[rate] + ("" if pd.isna(value) else f" ({value:.1%})")
        for rate, value in zip(frame["rate"], values, strict=True)
    ]
    horizons = sorted(frame["horizon_days"].unique())
    frame["later"] = [f"After {n} days" for n in frame["horizon_days"]]
    for column in ("per_point_count", "per_tenth_count"):
        frame[column] = frame[column].astype(float).round(2)
    far = frame[frame["horizon_days"] == horizons[-1]].sort_values("per_tenth_count", ascending=False)
    best = far.iloc[0]
    gain = f"{best['per_tenth_count']:+,.0f} users a day in {horizons[-1]} days"
    title = f"{RATE_LABELS[best['rate']]}: a tenth more, {gain}"
    order = far["label"].tolist()
    panels = [
        _draw_gains(frame.dropna(subset=[column]), column, name, order, horizons, first=i == 0)
        for i, (column, name) in enumerate(
            (("per_tenth_count", "A tenth higher (20% to 22%)"), ("per_point_count", "A point higher (20% to 21%)"))
        )
        if frame[column].notna().any()
    ]
    chart = alt.hconcat(*panels, spacing=16)
    labels = {
        "label": "Rate", "later": "When", "per_tenth_count": "Users a day, a tenth higher",
        "per_point_count": "Users a day, a point higher",
    }  # fmt: skip
    text = "Bars of daily active users gained by rate, if it were a tenth of itself or one percentage point higher."
    return view_chart(chart, title, text, frame, labels)


def _draw_gains(
    frame: pd.DataFrame, column: str, title: str, order: list[str], horizons: list[int], *, first: bool
) -> alt.LayerChart:
    later = [f"After {n} days" for n in horizons]
    low, high = min(0, float(frame[column].min())), 1.3 * max(float(frame[column].max()), 0.01)
    heading = alt.Title(title, fontSize=12, frame="group")
    base = alt.Chart(frame, width=210, height=max(60, 38 * len(order)), title=heading).encode(
        y=alt.Y(
            "label:N", title=None, sort=order, scale=alt.Scale(domain=order),
            axis=alt.Axis(labelLimit=360, ticks=False) if first else alt.Axis(labels=False, ticks=False),
        ),
        yOffset=alt.YOffset("later:N", sort=later),
        x=alt.X(
            f"{column}:Q", title="Users a day", scale=alt.Scale(domain=[low, high]),
            axis=alt.Axis(format=",~f", tickCount=3),
        ),
        tooltip=make_tooltips(
            {"label:N": ("Rate", ""), "later:N": ("When", ""), f"{column}:Q": ("Users a day", "+,.1f")}
        ),
    )  # fmt: skip
    color = alt.Color("later:N", scale=alt.Scale(domain=later, range=theme.HORIZON_COLORS[:2][-len(later) :]))
    numbers = base.mark_text(align="left", dx=4, fontSize=11, color=theme.INK)
    return base.mark_bar().encode(color=color) + numbers.encode(
        text=alt.Text(f"{column}:Q", format="+,.0f" if high > SMALL_COUNT else "+,.2f")
    )


def plot_levers(model: GrowthModel) -> ChartView | ListView:
    """What each lever adds to daily active users after some months, beside the base case."""
    result = model.outlook.levers
    rows = result.table
    if not rows.empty:
        rows = rows[(rows["metric"] == "dau_count") & (rows["lever"] != "base") & rows["difference"].notna()]
    if rows.empty:
        return say_missing(model, "Levers", model.outlook.forecast.note or "no lever's value today is known")
    values = result.levers.set_index("lever")
    frame = rows[["lever", "months_count", "difference", "difference_low", "difference_high"]].copy()
    frame["label"] = [_label_lever(model, lever, values) for lever in frame["lever"]]
    months = sorted(frame["months_count"].unique())
    frame["later"] = [_label_months(n) for n in frame["months_count"]]
    last = frame[frame["months_count"] == months[-1]].sort_values("difference", ascending=False)
    single = last[last["lever"] != "all"]
    clear, when = single[single["difference_low"] > 0], _label_months(months[-1]).lower()
    title = f"No lever clearly adds daily active users {when}"
    if len(clear):
        best = clear.iloc[0]
        title = (
            f"{LEVER_LABELS.get(best['lever'], best['lever'])}: {best['difference']:+,.0f} "
            f"({best['difference_low']:,.0f} to {best['difference_high']:,.0f}) users a day {when}"
        )
    order = [*single["label"], *last.loc[last["lever"] == "all", "label"]]
    later = [_label_months(n) for n in months]
    base = (
        base_chart(frame, height=max(80, 46 * len(order)))
        .properties(width=LABELLED_WIDTH)
        .encode(
            y=alt.Y("label:N", title=None, sort=order, axis=alt.Axis(labelLimit=380, grid=True)),
            yOffset=alt.YOffset("later:N", sort=later),
            color=alt.Color(
                "later:N",
                scale=alt.Scale(domain=later, range=theme.HORIZON_COLORS[-len(later) :]),
                legend=make_legend(),
            ),
            tooltip=make_tooltips(
                {
                    "label:N": ("Lever", ""),
                    "later:N": ("When", ""),
                    "difference:Q": ("Users a day", "+,.1f"),
                    "difference_low:Q": ("Low (95%)", "+,.1f"),
                    "difference_high:Q": ("High (95%)", "+,.1f"),
                }
            ),
        )
    )
    across = "Daily active users more than if nothing changes (mean of 7 days)"
    points = draw_points(base, "difference", across, form="+,.0f", low="difference_low", high="difference_high")
    labels = {
        "label": "Lever", "later": "When", "difference": "Users a day", "difference_low": "Low (95%)",
        "difference_high": "High (95%)",
    }  # fmt: skip
    text = "Points with 95% intervals by lever and months ahead: the difference to the case in which nothing changes."
    return view_chart(draw_zero(frame.head(1)) + points, title, text, frame, labels)


def _label_lever(model: GrowthModel, lever: str, values: pd.DataFrame) -> str:
    """A lever with its value now and then."""
    name = LEVER_LABELS.get(lever, lever.replace("_", " "))
    if lever not in values.index or pd.isna(values["now_value"][lever]):
        return name
    now, then = (format_lever(model, lever, float(values[column][lever])) for column in ("now_value", "then_value"))
    return f"{name}: {now} to {then}"


def _label_months(months: int) -> str:
    return f"After {months} month{'s' if months > 1 else ''}"

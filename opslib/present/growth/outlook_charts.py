"""Charts of what comes: the forecast, which rate moves activity most, and what each lever would do."""

from __future__ import annotations

import altair as alt
import pandas as pd

from opslib.decide.growth.model import GrowthModel
from opslib.language import mark, say
from opslib.present import theme
from opslib.present.charts import base_chart, view_chart
from opslib.present.display import ChartView, ListView
from opslib.present.growth.names import RATE_LABELS, format_lever, label_lever
from opslib.present.parts import draw_points, draw_zero, make_day_axis, make_legend, make_tooltips, say_missing

PAST_DAYS = 56
# Below, gains are told with decimals.
SMALL_COUNT = 10
# Beside long labels.
LABELLED_WIDTH = 480


def plot_forecast(model: GrowthModel) -> ChartView | ListView:
    """Daily active users of the last weeks, and the weeks ahead with bands."""
    forecast = model.outlook.forecast
    if forecast.daily.empty:
        return say_missing(model, mark("Forecast"), forecast.note or say("the days observed are too few"))
    observed, expected = say("Observed"), say("Forecast")
    past = model.outlook.rates.daily[["day", "dau_count"]].tail(PAST_DAYS).assign(kind=observed)
    bands = ["low80_count", "high80_count", "low95_count", "high95_count"]
    ahead = forecast.daily[["day", "dau_count", *bands]].assign(kind=expected)
    frame = pd.concat([past, ahead], ignore_index=True)
    last = ahead.iloc[-1]
    title = say(
        "In {days} days about {count:,.0f} daily active users, 95% interval {low:,.0f} to {high:,.0f}",
        days=len(ahead), count=last["dau_count"], low=last["low95_count"], high=last["high95_count"],
    )  # fmt: skip
    kinds = alt.Scale(domain=[observed, expected], range=[theme.OBSERVED_COLOR, theme.EXPECTED_COLOR])
    x = alt.X("day:T", title=None, axis=make_day_axis(frame["day"]), scale=alt.Scale(nice=False))
    base = base_chart(frame).encode(x=x)
    areas = [
        base.transform_filter(alt.datum.kind == expected)
        .mark_area(color=theme.EXPECTED_COLOR, opacity=opacity)
        .encode(
            y=alt.Y(
                f"low{n}_count:Q",
                title=say("Users a day"),
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
                "day:T": (say("Day"), "%Y-%m-%d"),
                "kind:N": (say("Users"), ""),
                "dau_count:Q": (say("Users that day"), ",.0f"),
                "low80_count:Q": (say("Low (80%)"), ",.0f"),
                "high80_count:Q": (say("High (80%)"), ",.0f"),
                "low95_count:Q": (say("Low (95%)"), ",.0f"),
                "high95_count:Q": (say("High (95%)"), ",.0f"),
            }
        ),
    )
    labels = {
        "day": say("Day"), "kind": say("Users"), "dau_count": say("Users that day"), "low80_count": say("Low (80%)"),
        "high80_count": say("High (80%)"), "low95_count": say("Low (95%)"), "high95_count": say("High (95%)"),
    }  # fmt: skip
    text = say(
        "Line of daily active users, then the forecast with a dark 80% and a light 95% band; it need not start at 0."
    )
    return view_chart(areas[0] + areas[1] + line, title, text, frame, labels)


def plot_sensitivity(model: GrowthModel) -> ChartView | ListView:
    """Daily active users gained if a rate were a percentage point, or a tenth of itself, higher."""
    frame = model.outlook.sensitivity.copy()
    frame = frame[frame["rate"].isin(list(RATE_LABELS))]
    if frame.empty:
        reason = model.outlook.forecast.note or say("too few days are known")
        return say_missing(model, mark("Which rate matters most"), reason)
    values = frame["value_rate"].astype(float)
    frame["label"] = [_label_rate(rate, value) for rate, value in zip(frame["rate"], values, strict=True)]
    horizons = sorted(frame["horizon_days"].unique())
    frame["later"] = [say("After {days} days", days=n) for n in frame["horizon_days"]]
    for column in ("per_point_count", "per_tenth_count"):
        frame[column] = frame[column].astype(float).round(2)
    far = frame[frame["horizon_days"] == horizons[-1]].sort_values("per_tenth_count", ascending=False)
    best = far.iloc[0]
    title = say(
        "{rate}: a tenth more, {gain:+,.0f} users a day in {days} days",
        rate=say(RATE_LABELS[best["rate"]]), gain=best["per_tenth_count"], days=horizons[-1],
    )  # fmt: skip
    order = far["label"].tolist()
    panels = [
        _draw_gains(frame.dropna(subset=[column]), column, name, order, horizons, first=i == 0)
        for i, (column, name) in enumerate(
            (
                ("per_tenth_count", say("A tenth higher (20% to 22%)")),
                ("per_point_count", say("A point higher (20% to 21%)")),
            )
        )
        if frame[column].notna().any()
    ]
    chart = alt.hconcat(*panels, spacing=16)
    labels = {
        "label": say("Rate"), "later": say("When"), "per_tenth_count": say("Users a day, a tenth higher"),
        "per_point_count": say("Users a day, a point higher"),
    }  # fmt: skip
    text = say(
        "Bars of daily active users gained by rate, if it were a tenth of itself or one percentage point higher."
    )
    return view_chart(chart, title, text, frame, labels)


def _label_rate(rate: str, value: float) -> str:
    """A rate with its value today."""
    name = say(RATE_LABELS[rate])
    return name if pd.isna(value) else say("{text} ({more})", text=name, more=f"{value:.1%}")


def _draw_gains(
    frame: pd.DataFrame, column: str, title: str, order: list[str], horizons: list[int], *, first: bool
) -> alt.LayerChart:
    later = [say("After {days} days", days=n) for n in horizons]
    low, high = min(0, float(frame[column].min())), 1.3 * max(float(frame[column].max()), 0.01)
    heading = alt.Title(title, fontSize=12, frame="group")
    base = alt.Chart(frame, width=210, height=max(60, 38 * len(order)), title=heading).encode(
        y=alt.Y(
            "label:N", title=None, sort=order, scale=alt.Scale(domain=order),
            axis=alt.Axis(labelLimit=360, ticks=False) if first else alt.Axis(labels=False, ticks=False),
        ),
        yOffset=alt.YOffset("later:N", sort=later),
        x=alt.X(
            f"{column}:Q", title=say("Users a day"), scale=alt.Scale(domain=[low, high]),
            axis=alt.Axis(format=",~f", tickCount=3),
        ),
        tooltip=make_tooltips(
            {"label:N": (say("Rate"), ""), "later:N": (say("When"), ""), f"{column}:Q": (say("Users a day"), "+,.1f")}
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
        reason = model.outlook.forecast.note or say("no lever's value today is known")
        return say_missing(model, mark("Levers"), reason)
    values = result.levers.set_index("lever")
    frame = rows[["lever", "months_count", "difference", "difference_low", "difference_high"]].copy()
    frame["label"] = [_label_lever(model, lever, values) for lever in frame["lever"]]
    months = sorted(frame["months_count"].unique())
    frame["later"] = [_label_months(n) for n in frame["months_count"]]
    last = frame[frame["months_count"] == months[-1]].sort_values("difference", ascending=False)
    single = last[last["lever"] != "all"]
    clear, when = single[single["difference_low"] > 0], _label_months(months[-1]).lower()
    title = say("No lever clearly adds daily active users {when}", when=when)
    if len(clear):
        best = clear.iloc[0]
        title = say(
            "{lever}: {gain:+,.0f} ({low:,.0f} to {high:,.0f}) users a day {when}",
            lever=label_lever(best["lever"]), gain=best["difference"], low=best["difference_low"],
            high=best["difference_high"], when=when,
        )  # fmt: skip
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
                    "label:N": (say("Lever"), ""),
                    "later:N": (say("When"), ""),
                    "difference:Q": (say("Users a day"), "+,.1f"),
                    "difference_low:Q": (say("Low (95%)"), "+,.1f"),
                    "difference_high:Q": (say("High (95%)"), "+,.1f"),
                }
            ),
        )
    )
    across = say("Daily active users more than if nothing changes (mean of 7 days)")
    points = draw_points(base, "difference", across, form="+,.0f", low="difference_low", high="difference_high")
    labels = {
        "label": say("Lever"), "later": say("When"), "difference": say("Users a day"),
        "difference_low": say("Low (95%)"), "difference_high": say("High (95%)"),
    }  # fmt: skip
    text = say(
        "Points with 95% intervals by lever and months ahead: the difference to the case in which nothing changes."
    )
    return view_chart(draw_zero(frame.head(1)) + points, title, text, frame, labels)


def _label_lever(model: GrowthModel, lever: str, values: pd.DataFrame) -> str:
    """A lever with its value now and then."""
    name = label_lever(lever)
    if lever not in values.index or pd.isna(values["now_value"][lever]):
        return name
    now, then = (format_lever(model, lever, float(values[column][lever])) for column in ("now_value", "then_value"))
    return say("{lever}: {now} to {then}", lever=name, now=now, then=then)


def _label_months(months: int) -> str:
    return say("After {months} months", months=months) if months > 1 else say("After 1 month")

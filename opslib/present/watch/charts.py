"""The chart of the daily watch: the last weeks of each number inside its expected range."""

from __future__ import annotations

import altair as alt
import pandas as pd

from opslib.decide.watch.watch import Watch
from opslib.language import mark, say
from opslib.present import theme
from opslib.present.charts import view_chart
from opslib.present.display import ChartView, ListView
from opslib.present.parts import make_tooltips
from opslib.present.watch.words import label_number

# How many digits a rate needs on its axis.
SMALL_RATE, LARGE_RATE = 0.02, 0.2
PANEL_WIDTH, PANEL_HEIGHT, PANELS_A_ROW = 290, 90, 2


def plot_numbers(watch: Watch) -> ChartView | ListView:
    """The day's numbers over the last eight weeks: line, expected range, and the days outside it."""
    if not watch.numbers:
        return ListView([say("There is no number of the last days to draw.")])
    parts = [number.daily.assign(metric=label_number(number.metric)) for number in watch.numbers]
    frame = pd.concat(parts, ignore_index=True)
    numbers = ["value", "expected", "low", "high"]
    # Twice: the last digits of sums depend on how threads shared the rows, and 2.7203125 would go either way.
    frame[numbers] = frame[numbers].astype(float).round(10).round(6)
    odd = sum(number.state in ("low", "high") for number in watch.numbers)
    text = mark("{odd} of {count} numbers outside their range on {day}")
    title = say(text, odd=odd, count=len(watch.numbers), day=watch.as_of)
    panels = [_draw_panel(part, number.metric) for part, number in zip(_split(frame), watch.numbers, strict=True)]
    chart = alt.concat(*panels, columns=PANELS_A_ROW, spacing=18)
    labels = {
        "metric": say("Number"), "period_start": say("Day"), "value": say("Value"), "low": say("Expected at least"),
        "high": say("Expected at most"), "unusual": say("Outside"),
    }  # fmt: skip
    text = say(
        "Small charts of the last eight weeks: a line in a grey band of what was to be expected; dots lie outside it."
    )
    return view_chart(chart, title, text, frame, labels)


def _split(frame: pd.DataFrame) -> list[pd.DataFrame]:
    return [part for _, part in frame.groupby("metric", sort=False)]


def _draw_panel(frame: pd.DataFrame, metric: str) -> alt.LayerChart:
    form = "~s"
    if metric.endswith("_rate"):
        most = frame["value"].max()
        form = ".0%" if most >= LARGE_RATE else ".1%" if most >= SMALL_RATE else ".2%"
    # Panels stand in line only if their labels take the same room.
    axis = alt.Axis(format=form, tickCount=3, title=None, minExtent=44)
    x = alt.X("period_start:T", axis=alt.Axis(format="%-d %b", tickCount=4, grid=False, title=None))
    base = alt.Chart(
        frame, width=PANEL_WIDTH, height=PANEL_HEIGHT, title=alt.Title(str(frame["metric"].iloc[0]), fontSize=12)
    ).encode(x=x)
    band = base.mark_area(color=theme.GRID, opacity=0.9).encode(
        y=alt.Y("low:Q", axis=axis, scale=alt.Scale(zero=False, nice=True)), y2="high:Q"
    )
    line = base.mark_line(color=theme.NOW_COLOR, strokeWidth=1.6).encode(y="value:Q")
    tooltip = make_tooltips(
        {
            "period_start:T": (say("Day"), "%Y-%m-%d"),
            "value:Q": (say("Value"), form),
            "low:Q": (say("Expected at least"), form),
            "high:Q": (say("Expected at most"), form),
        }
    )
    odd = frame[frame["unusual"] != ""]
    if odd.empty:
        # A layer without rows has no extent, of which browsers would complain.
        return band + line
    dots = alt.Chart(odd).mark_point(filled=True, size=55, opacity=1, color=theme.MARKED_COLOR)
    return band + line + dots.encode(x=x, y="value:Q", tooltip=tooltip)

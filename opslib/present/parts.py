"""What charts and tables of investigations share: what is missing, numbers with intervals, axes, titles."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

import altair as alt
import pandas as pd

from opslib.data.memory import remember
from opslib.data.source import Data
from opslib.decide.scope import Scope
from opslib.language import say
from opslib.present import theme
from opslib.present.display import ListView
from opslib.present.words import MISSING, format_number, name_need

# Longer names, such as a channel's, are cut in a title; the axis and the table hold more of them.
TITLE_NAME = 24
MOST_ROWS = 20
# From so many days on, ticks may lie where they like; with fewer, they would name a day twice.
FEW_DAYS = 8


class Investigation(Protocol):
    """The result of an investigation: over which days, and which sections lack a table."""

    @property
    def scope(self) -> Scope: ...

    @property
    def missing(self) -> dict[str, str]: ...


def make_day_axis(days: pd.Series) -> alt.Axis:
    """An axis of days."""
    many = pd.to_datetime(days).max() - pd.to_datetime(days).min() >= pd.Timedelta(days=FEW_DAYS)
    ticks: Any = FEW_DAYS if many else {"interval": "day", "step": 1}
    return alt.Axis(format="%-d %b %Y", labelOverlap=True, grid=False, tickCount=ticks)


def make_legend(symbol: str = "square", **options: Any) -> alt.Legend:
    """A legend as strong as its marks: bands and intervals would make it pale."""
    return alt.Legend(symbolType=symbol, symbolOpacity=1, **options)


def say_missing(result: Investigation, section: str, reason: str) -> ListView:
    """One sentence in the place of a chart: the table that it needs or, where that is there, the reason.

    Args:
        result: what an investigation found.
        section: the section as `result.missing` names it, marked as a text to translate: it is translated here.
        reason: in the language spoken.
    """
    need = result.missing.get(section)
    return _say_nothing(section, say("it needs table {table}", table=name_need(need)) if need else reason)


def say_needed(result: Investigation, section: str, title: str = "") -> ListView:
    """One sentence in the place of a table: what it needs; `title` names it where the section has several.

    Both are English texts marked as ones to translate: they are translated here.
    """
    need = result.missing.get(section)
    reason = say("it needs {need}", need=name_need(need)) if need else say("there is nothing to compare")
    return _say_nothing(title or section, reason)


def _say_nothing(title: str, reason: str) -> ListView:
    text = say("{section}: nothing to show, because {reason}.", section=say(title), reason=reason.rstrip(".。"))
    return ListView([text])


def format_range(value: float | None, low: float | None, high: float | None, *, form: str, scale: float = 1) -> str:
    """A value with its interval, for example `+2.3 [-0.2 to 4.7]`; the sign of `form` is for the value alone.

    >>> format_range(0.023, -0.002, 0.047, form="+.1f", scale=100)
    '+2.3 [-0.2 to 4.7]'
    """
    if value is None or low is None or high is None or pd.isna(value):
        return MISSING
    ends = form.removeprefix("+")
    texts = {"value": f"{scale * value:{form}}", "low": f"{scale * low:{ends}}", "high": f"{scale * high:{ends}}"}
    return say("{value} [{low} to {high}]", **texts)


def format_shares(rates: Iterable[float], counts: Iterable[float]) -> list[str]:
    """Shares, each with how many it is of."""
    pairs = zip(rates, counts, strict=True)
    return [say("{rate} of {count:,.0f}", rate=format_number(rate, "rate"), count=count) for rate, count in pairs]


def format_probability(value: float) -> str:
    """A probability, as far as it means anything."""
    return MISSING if pd.isna(value) else say("below 0.1%") if value < 0.001 else f"{value:.1%}"


def list_periods(result: Investigation) -> list[str]:
    """The days before, where there are any, and the days now: as they are called in legends."""
    before, now = result.scope.before, result.scope.now
    return [*([before.label] if before else []), now.label]


def color_periods(result: Investigation, *, symbol: str = "stroke") -> alt.Color:
    """Now in colour, before in grey."""
    domain = list_periods(result)
    colors = [theme.BEFORE_COLOR, theme.NOW_COLOR][-len(domain) :]
    scale = alt.Scale(domain=domain, range=colors)
    return alt.Color("period:N", scale=scale, legend=make_legend(symbol))


def cut_name(name: str, most: int = TITLE_NAME) -> str:
    """A name as it fits into a title."""
    return name if len(name) <= most else f"{name[: most - 1]}…"


def list_names(names: Iterable[str]) -> alt.Scale:
    """A scale of names in the order given.

    Names of the data belong in a scale's domain and never in `sort`, which Vega-Lite writes into code that it runs.
    """
    return alt.Scale(domain=list(dict.fromkeys(names)))


def make_tooltips(fields: dict[str, tuple[str, str]]) -> list[alt.Tooltip]:
    """Tooltips from field with type -> (title, format); an empty format leaves the value as it is."""
    return [
        alt.Tooltip(field, title=title, format=form) if form else alt.Tooltip(field, title=title)
        for field, (title, form) in fields.items()
    ]


def draw_points(
    base: alt.Chart, x: str, title: str, *, form: str, low: str, high: str, ticks: int = 5, **scale: Any
) -> alt.LayerChart:
    """Points with intervals along x; `scale` are options of its scale."""
    axis = alt.Axis(format=form, tickCount=ticks, labelFlush=False, labelExpr="datum.value === 0 ? '0' : datum.label")
    across = alt.X(f"{low}:Q", title=title, axis=axis, scale=alt.Scale(**scale))
    rules = base.mark_rule(strokeWidth=3, opacity=0.45).encode(x=across, x2=f"{high}:Q")
    return rules + base.mark_point(filled=True, size=70, opacity=1).encode(x=f"{x}:Q")


@remember
def list_groups(data: Data, column: str) -> tuple[str, ...]:
    """Values of a users' column such as `channel`: those of most users ever first, then by name."""
    users = data.attributes
    counted = users.group_by(users[column].cast("string").name("value")).aggregate(users_count=users.count())
    found = data.execute(counted).dropna(subset=["value"])
    ordered = found.sort_values(["users_count", "value"], ascending=[False, True])
    return tuple(str(value) for value in ordered["value"])


def color_names(data: Data, column: str, names: Iterable[str]) -> list[str]:
    """The colours of some of a column's values: each has the same one in every chart; grey for what is no value."""
    colors = theme.color_groups(list_groups(data, column))
    return [colors.get(name, theme.GREY) for name in names]


def draw_zero(frame: pd.DataFrame) -> alt.Chart:
    """A line at zero, behind differences."""
    return alt.Chart(frame).mark_rule(color=theme.MUTED, strokeDash=[3, 3]).encode(x=alt.datum(0))

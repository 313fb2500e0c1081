"""Simulated tests of two things that are alike, looked at every day: what the lesson on peeking shows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

import altair as alt
import numpy as np
import pandas as pd

from opslib.language import say
from opslib.measure.estimate import quantile
from opslib.measure.sequential import sequence_interval, tune_mixture
from opslib.present import theme
from opslib.present.charts import base_chart, view_chart
from opslib.present.display import ChartView, TableView
from opslib.present.parts import make_legend, make_tooltips
from opslib.present.tables import make_table

LEVEL, BASE = 0.05, 0.2
DAYS, USERS_A_DAY, TESTS, SEED = 28, 100, 4_000, 2026
# How often somebody looks in four weeks; each divides the days.
LOOKS = (1, 2, 4, 14, 28)


@dataclass(frozen=True)
class Nothing:
    """Many simulated tests of two things that are alike, looked at every day: rows are tests, columns days.

    Attributes:
        difference, error: of the two shares so far.
        low, high: the interval for one look.
        always_low, always_high: the interval that holds at every look.
        example: the test that the lesson tells of.
    """

    difference: np.ndarray
    error: np.ndarray
    low: np.ndarray
    high: np.ndarray
    always_low: np.ndarray
    always_high: np.ndarray
    example: int

    @property
    def outside(self) -> np.ndarray:
        """Where the interval for one look leaves out zero."""
        return (self.low > 0) | (self.high < 0)

    @property
    def always_outside(self) -> np.ndarray:
        """Where the other one does."""
        return (self.always_low > 0) | (self.always_high < 0)

    @property
    def first_day(self) -> int:
        """The first day on which the example looks clear."""
        return int(self.outside[self.example].argmax()) + 1

    def count_claims(self, looks: int, *, always: bool = False) -> float:
        """The share of tests that claim an effect at one of so many looks, evenly spread."""
        step = DAYS // looks
        outside = self.always_outside if always else self.outside
        return float(outside[:, step - 1 :: step].any(axis=1).mean())


@cache
def simulate_nothing() -> Nothing:
    """Simulate tests without any effect."""
    draw = np.random.default_rng(SEED)
    users = USERS_A_DAY * np.arange(1, DAYS + 1)
    a, b = (draw.binomial(USERS_A_DAY, BASE, (TESTS, DAYS)).cumsum(axis=1) / users for _ in "ab")
    difference, error = b - a, np.sqrt((a * (1 - a) + b * (1 - b)) / users)
    half = quantile(1 - LEVEL) * error
    planned = users[-1] / (2 * BASE * (1 - BASE))
    always_low, always_high, _ = sequence_interval(difference, error, tune_mixture(planned, level=LEVEL), level=LEVEL)
    found = Nothing(difference, error, difference - half, difference + half, always_low, always_high, 0)
    # To tell of: a win for some days of the second week that is gone at the end.
    wins, days = found.low > 0, found.outside.sum(axis=1)
    told = (wins.argmax(axis=1) >= 7) & (wins.argmax(axis=1) <= 10) & (days >= 4) & (days <= 7)
    # And by enough to be seen in a number with one decimal.
    told &= found.low[np.arange(TESTS), wins.argmax(axis=1)] > 0.001
    told &= (days == wins.sum(axis=1)) & (np.abs(difference[:, -1]) < error[:, -1])
    return replace(found, example=int(told.argmax()))


def plot_days(nothing: Nothing, *, always: bool) -> ChartView:
    """The example day by day, with the band for one look and, if asked for, that for every look."""
    at = nothing.example
    frame = pd.DataFrame({"day": range(1, DAYS + 1), "users_count": 2 * USERS_A_DAY * np.arange(1, DAYS + 1)})
    for column in ("difference", "low", "high", "always_low", "always_high"):
        frame[column] = 100 * getattr(nothing, column)[at]
    once, every = say("for one look"), say("for every look")
    frame["clear"] = [say("yes") if outside else "" for outside in nothing.outside[at]]
    labels = {
        "day": say("Test day"), "users_count": say("Users of both"), "difference": say("Points"), "low": say("Low"),
        "high": say("High"), "clear": say("Zero outside"),
    }  # fmt: skip
    if always:
        labels |= {"always_low": say("Low, every look"), "always_high": say("High, every look")}
    fields = {"day:Q": (labels["day"], ""), "difference:Q": (labels["difference"], "+.2f")}
    fields |= {f"{end}:Q": (labels[end], "+.2f") for end in ("low", "high")}
    axis = alt.Axis(grid=False, tickCount=DAYS // 2)
    base = base_chart(frame).encode(x=alt.X("day:Q", title=labels["day"], axis=axis), tooltip=make_tooltips(fields))
    y = alt.Y("low:Q", title=say("Difference in points"))
    names, colors = ([once, every] if always else [once]), [theme.NOW_COLOR, theme.REST_COLOR]
    color = alt.Scale(domain=names, range=colors[: len(names)])
    parts = [base.mark_area(opacity=0.25).encode(
        y=y, y2="high:Q", color=alt.Color(datum=once, scale=color, legend=make_legend())
    )]  # fmt: skip
    if always:
        parts.insert(0, base.mark_area(opacity=0.25).encode(
            y=alt.Y("always_low:Q", title=say("Difference in points")), y2="always_high:Q",
            color=alt.Color(datum=every, scale=color),
        ))  # fmt: skip
    zero = alt.Chart(frame.head(1)).mark_rule(color=theme.MUTED, strokeDash=[3, 3]).encode(y=alt.datum(0))
    line = base.mark_line(color=theme.INK).encode(y="difference:Q")
    marked = alt.FieldEqualPredicate(field="clear", equal=say("yes"))
    points = base.mark_point(filled=True, size=90, opacity=1, color=theme.MARKED_COLOR).encode(y="difference:Q")
    title = say("A test without any effect, day by day")
    text = say("A line of the difference by day, with its band; days on which the band for one look is off zero.")
    return view_chart(alt.layer(*parts, zero, line, points.transform_filter(marked)), title, text, frame, labels)


def tabulate_looks(nothing: Nothing, *, always: bool = False) -> TableView:
    """False claims by how often somebody looks."""
    shown = pd.DataFrame({"looks": [f"{n}" for n in LOOKS]})
    shown["every"] = [say("on day {day} only", day=DAYS) if n == 1 else say("every {days} days", days=DAYS // n)
                      if n < DAYS else say("every day") for n in LOOKS]  # fmt: skip
    shown["once"] = [f"{nothing.count_claims(n):.1%}" for n in LOOKS]
    shown["always"] = [f"{nothing.count_claims(n, always=True):.1%}" for n in LOOKS]
    labels = {"looks": say("Looks"), "every": say("When"), "once": say("False claims, interval for one look")}
    if always:
        labels["always"] = say("False claims, interval for every look")
    return make_table(shown, labels, name="lesson-looks", numeric=tuple(labels)[2:])

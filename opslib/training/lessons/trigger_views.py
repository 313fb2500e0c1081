"""What the lesson of the rule on day-7 retention looks at: the rule's own readings, tables and a year of chance."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import altair as alt
import numpy as np
import pandas as pd

from opslib.data.periods import DAY, Period
from opslib.decide.growth.model import GrowthModel, model_growth
from opslib.decide.rules.result import RuleResult
from opslib.decide.watch.watch import check_rule, watch_company
from opslib.errors import InputError
from opslib.language import say
from opslib.measure.cohorts import measure_cohorts
from opslib.measure.estimate import estimate_rate
from opslib.present import theme
from opslib.present.charts import base_chart, view_chart
from opslib.present.parts import format_range
from opslib.present.tables import make_table
from opslib.present.words import MISSING, format_estimate

if TYPE_CHECKING:
    from opslib.data.source import Data
    from opslib.present.display import ChartView, TableView

RULE, RETAINED_DAY = "d7_below_25", 7
SHOWN_WEEKS, JUDGED_WEEKS = 10, 8
COLUMNS = ("channel", "platform")
# A company where nothing happens: a point above the limit, as many new users a week as the handbook's page takes.
ABOVE_RATE, USERS, YEAR_WEEKS, SEED = 0.01, 1_000, 52, 7
SIZES, DISTANCES = (50, 200, 500, 1_000, 5_000), (0.01, 0.02, 0.03, 0.05)


@dataclass(frozen=True)
class Trigger:
    """A rule on the data's last day and on two days when it fired: nearest to its limit, and farthest from it."""

    data: Data
    model: GrowthModel
    result: RuleResult
    near: RuleResult
    far: RuleResult

    @property
    def limit(self) -> float:
        return float(self.result.rule.below or 0)

    @property
    def weeks(self) -> pd.DataFrame:
        return self.result.series.frame.tail(SHOWN_WEEKS)

    @property
    def last(self) -> Any:
        """The last week whose users have all had their day 7."""
        return self.weeks[self.weeks["status"] == "known"].iloc[-1]

    @property
    def open_week(self) -> Any:
        """The week after it, whose users have not."""
        return self.weeks[self.weeks["status"] == "immature"].iloc[0]

    @cached_property
    def groups(self) -> pd.DataFrame:
        """Column and value of users -> counts, rates and intervals of the quarter and (`_week`) of the last week."""
        scope = self.model.scope
        start = self.last["period_start"].date()
        periods = (scope.now, Period(start, start + 7 * DAY, ""))
        parts = []
        for column in COLUMNS:
            quarter, week = (
                measure_cohorts(
                    scope.active_days, period=period, as_of=scope.as_of, intervals=RETAINED_DAY,
                    attributes=self.data.attributes, by=column,
                ).curve.query("n == @RETAINED_DAY").set_index("segment")
                for period in periods
            )  # fmt: skip
            parts.append(quarter.join(week.add_suffix("_week")).reset_index(names="value").assign(column=column))
        return pd.concat(parts, ignore_index=True)

    @property
    def surely_below(self) -> pd.DataFrame:
        """Those whose whole interval of the quarter lies below the limit, the lowest first."""
        return self.groups[self.groups["retention_high"] < self.limit].sort_values("retention_rate")


def follow_rule(data: Data) -> Trigger:
    """Evaluate the rule on the last day, and on two days of the last weeks when it fired.

    Raises:
        InputError: there is no such rule, it fires on the last day, or it did not fire in the weeks before.
    """
    rules = [rule for rule in data.playbook.rules if rule.name == RULE and rule.below]
    if not rules:
        raise InputError(f"below_the_trigger: this lesson needs the rule {RULE}; use the sample company's playbook.")
    rule = rules[0]

    def ask(as_of: str = "") -> RuleResult:
        watch = watch_company(data, as_of=as_of)
        return check_rule(rule, watch.reader, watch.scope)

    result = ask()
    known = result.series.frame.query("status == 'known'").tail(JUDGED_WEEKS)
    fired = known[known["value"] < rule.below].sort_values("value")
    if len(fired) < 2 or result.groups.iloc[0]["state"] != "quiet":
        raise InputError(
            "below_the_trigger: this lesson needs a rule that fired and is quiet now; use the sample company."
        )
    far, near = (ask(f"{fired.iloc[i]['known_on']:%Y-%m-%d}") for i in (0, -1))
    return Trigger(data, model_growth(data), result, near, far)


def count_below(users: int, rate: float, limit: float) -> float:
    """The share of weeks in which chance shows less than the limit though the true rate is another.

    >>> round(count_below(1000, 0.26, 0.25), 3)
    0.225
    """
    from scipy.stats import binom

    # Strictly below: the count at the limit itself is not.
    return float(binom.cdf(np.ceil(round(limit * users, 9)) - 1, users, rate))


def tabulate_weeks(seen: Trigger) -> TableView:
    """The last weeks; those that are not known yet have no share."""
    rows = []
    for row in seen.weeks.to_dict("records"):
        known = row["status"] == "known"
        estimate = estimate_rate("d7_rate", row["numerator"], row["denominator"])
        rows.append(
            {
                "week": f"{row['period_start']:%Y-%m-%d}", "users": f"{row['denominator']:,.0f}",
                "active": f"{row['numerator']:,.0f}", "share": format_estimate(estimate) if known else MISSING,
                "known": f"{row['known_on']:%Y-%m-%d}",
            }
        )  # fmt: skip
    labels = {
        "week": say("Week from"), "users": say("New users"), "active": say("Active on day 7"),
        "share": say("Share active on day 7 [95%]"), "known": say("Known on the evening of"),
    }  # fmt: skip
    return make_table(pd.DataFrame(rows), labels, name="d7-weeks", numeric=tuple(labels)[1:4])


def draw_year(seen: Trigger) -> pd.DataFrame:
    """A year of weeks in which nothing happens but chance."""
    counts = np.random.default_rng(SEED).binomial(USERS, seen.limit + ABOVE_RATE, YEAR_WEEKS)
    frame = pd.DataFrame({"week": range(1, YEAR_WEEKS + 1), "rate": counts / USERS})
    return frame.assign(below=frame["rate"] < seen.limit)


def plot_year(seen: Trigger) -> ChartView:
    """The made-up year, weeks below the limit marked."""
    frame = draw_year(seen)
    names = {True: say("below the limit"), False: say("not below")}
    frame["side"] = frame["below"].map(names)
    title = say("A year in which nothing happens: {count} weeks lie below {limit:.0%}",
                count=int(frame["below"].sum()), limit=seen.limit)  # fmt: skip
    base = base_chart(frame).encode(
        x=alt.X("week:Q", title=say("Week of the year"), axis=alt.Axis(grid=False), scale=alt.Scale(nice=False)),
        y=alt.Y("rate:Q", title=say("Share active on day 7"), axis=alt.Axis(format=".0%"), scale=alt.Scale(zero=False)),
    )
    colors = alt.Scale(domain=[names[True], names[False]], range=[theme.MARKED_COLOR, theme.NOW_COLOR])
    dots = base.mark_circle(size=60, opacity=1).encode(color=alt.Color("side:N", scale=colors))
    line = alt.Chart(pd.DataFrame({"limit": [seen.limit]})).mark_rule(color=theme.MUTED).encode(y="limit:Q")
    text = say("Weeks from left to right, the limit as a line, weeks below it in red.")
    labels = {"week": say("Week of the year"), "rate": say("Share active on day 7"), "side": say("Side of the limit")}
    return view_chart(base.mark_line(opacity=0.4) + line + dots, title, text, frame, labels)


def tabulate_chance(seen: Trigger) -> TableView:
    """Of 100 weeks, how many chance shows below the limit."""
    shown = pd.DataFrame({"size": [f"{n:,}" for n in SIZES]})
    labels = {"size": say("New users a week")}
    for i, distance in enumerate(DISTANCES):
        rate = seen.limit + distance
        shown[f"rate{i}"] = [f"{100 * count_below(n, rate, seen.limit):.1f}" for n in SIZES]
        labels[f"rate{i}"] = say("Truly {rate:.0%}", rate=rate)
    return make_table(shown, labels, name="d7-chance", numeric=tuple(labels))


def tabulate_quarters(seen: Trigger) -> TableView:
    """Everybody new in the quarter, and in the one before."""
    rows = []
    for result in (seen.model.staying.now, seen.model.staying.before):
        if result is None:
            continue
        point = result.curve.set_index("n").loc[RETAINED_DAY]
        rows.append(
            {
                "who": result.period.label, "all": f"{point['users_count'] + point['immature_count']:,.0f}",
                "ready": f"{point['users_count']:,.0f}", "active": f"{point['retained_count']:,.0f}",
                "share": format_estimate(result.estimate(RETAINED_DAY)),
            }
        )  # fmt: skip
    labels = {
        "who": say("New users of"), "all": say("New users"), "ready": say("of them, those whose day 7 is over"),
        "active": say("Active on day 7"), "share": say("Share active on day 7 [95%]"),
    }  # fmt: skip
    return make_table(pd.DataFrame(rows), labels, name="d7-quarters", numeric=tuple(labels)[1:])


def tabulate_groups(seen: Trigger) -> TableView:
    """Groups of users in the last known week and in the quarter."""
    shown = seen.groups[["column", "value"]].copy()
    for name, end in (("week", "_week"), ("quarter", "")):
        columns = [f"{part}{end}" for part in ("retention_rate", "retention_low", "retention_high")]
        ranges = seen.groups[columns].itertuples(index=False)
        counts = seen.groups[f"users_count{end}"]
        pairs = zip((format_range(*row, form=".1%") for row in ranges), counts, strict=True)
        shown[name] = [say("{share} of {count:,.0f} users", share=share, count=count) for share, count in pairs]
    labels = {
        "column": say("Group by"), "value": say("Group"),
        "week": say("Week from {day} [95%]", day=f"{seen.last['period_start']:%Y-%m-%d}"),
        "quarter": say("The quarter [95%]"),
    }  # fmt: skip
    return make_table(shown, labels, name="d7-groups", numeric=("week", "quarter"))

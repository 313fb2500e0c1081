"""A metric as a series: one value a period and group, with what it was made from and how sure it is."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd

from opslib.language import mark, say
from opslib.measure.estimate import Estimate, Unit, estimate_count, estimate_rate, quantile, to_plain_record
from opslib.measure.grains import Grain

SeriesKind = Literal["rate", "count", "mean"]
# Why a period has no value, by its status.
NO_VALUE = {
    "too few": mark("not enough data: too few"),
    "immature": mark("not enough data: immature"),
    "no data": mark("not enough data: no data"),
    "partial": mark("not enough data: partial"),
}
COLUMNS = ("period_start", "group", "value", "numerator", "denominator", "standard_error", "known_on", "status")


@dataclass(frozen=True)
class MetricSeries:
    """One metric over periods.

    Attributes:
        metric: its name, with its unit as the suffix.
        unit: rate, count, amount, ratio and so on, as of an `Estimate`.
        kind: how chance makes it vary: "rate" (numerator of denominator users), "count" (Poisson), or "mean" (with the
            standard error given: money, costs, scores, shares of money).
        grain: day, week or month.
        by: the column of users that tells the groups apart; empty: one series of everybody.
        frame: period_start (local), group (empty for everybody), value, numerator, denominator, standard_error (of the
            value, by chance among users; missing where not known), known_on (the day at whose end the period's value
            was there: its last day, and as long as its users need for it), status; a row for every period and group, in
            order of both.
        note: why there is nothing, such as a table that is missing; empty where there is.

    A status is "known", or why the value is missing: "too few" (users), "immature" (users have not had their time),
    "no data" (the table has no row in the period, though it has in most: not a zero), "partial" (the period is not
    over, or began before the data).
    """

    metric: str
    unit: Unit
    kind: SeriesKind
    grain: Grain
    by: str
    frame: pd.DataFrame
    note: str = ""

    def of(self, group: str = "") -> pd.DataFrame:
        """The rows of one group, in order of time."""
        return self.frame[self.frame["group"] == group].reset_index(drop=True)

    @property
    def groups(self) -> list[str]:
        """The groups, in order of name."""
        return sorted(self.frame["group"].unique())

    def estimate(self, start: dt.date, group: str = "") -> Estimate:
        """One period's value as an estimate; without a value where it is not known."""
        rows = self.frame[(self.frame["period_start"] == pd.Timestamp(start)) & (self.frame["group"] == group)]
        if rows.empty or rows["status"].iloc[0] != "known":
            status = "" if rows.empty else str(rows["status"].iloc[0])
            note = say(NO_VALUE[status]) if status else say("no data on {day}", day=start)
            return Estimate(self.metric, None, 0, 0, None, None, "none", self.unit, note=note)
        row = rows.iloc[0]
        if self.kind == "rate":
            return estimate_rate(self.metric, float(row["numerator"]), float(row["denominator"]), minimum=1)
        if self.kind == "count":
            return estimate_count(self.metric, float(row["numerator"]), per=float(row["denominator"]))
        half = quantile() * float(row["standard_error"])
        value, top, bottom = (float(row[c]) for c in ("value", "numerator", "denominator"))
        return Estimate(self.metric, value, top, bottom, value - half, value + half, "normal over users", self.unit)

    def findings(self) -> list[dict[str, Any]]:
        """The last known row of each group."""
        known = self.frame[self.frame["status"] == "known"]
        last = known.groupby("group", sort=True).tail(1)
        return [{"name": "series", "metric": self.metric, **to_plain_record(r)} for r in last.to_dict("records")]

"""What a rule says on a day: of each group whether it fires, how sure that is, and how often it would by chance."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd

from opslib.data.operations import RuleSettings
from opslib.measure.estimate import to_plain_record
from opslib.measure.series.series import MetricSeries

Level = Literal["red", "amber", "green", "unknown"]
SEVERITY = {"urgent": 0, "act": 1, "notice": 2}
# As sure as this, a single reading past the threshold is taken at its word.
SURE = 0.95
GROUP_COLUMNS = (
    "group", "state", "reason", "since", "period_start", "value", "adjusted_value", "compared_value", "change_ratio",
    "threshold", "numerator", "denominator", "low", "high", "passed_probability", "p_value", "q_value", "clear",
    "usual_value", "dispersion_ratio", "noise_fires_per_year", "noise_year_probability", "noise_period_probability",
    "calibrated_threshold", "calibrated_state", "calibrated_since", "calibrated_noise_fires_per_year",
)  # fmt: skip
FIRING_COLUMNS = ("version", "group", "fired_on", "period_start", "last_day", "days", "value", "threshold")


@dataclass(frozen=True)
class RuleResult:
    """A rule on a day.

    Attributes:
        rule: what was asked.
        series: what it was asked of.
        as_of: the day at whose end it was asked.
        note: why nothing can be said; empty where something can.
        groups: a row a group, in order of name:
            group; state ("firing", "quiet", "cooling": the condition holds, but within the cooldown after firing,
            "unknown"); reason (why unknown); since (the day the present episode began: when the period that made it
            fire was known; missing without an episode);
            period_start, value, numerator, denominator (the last period that could be judged, as measured; of months
            that are compared, counts and totals a day); adjusted_value (without its weekday), low, high (95% interval
            of the adjusted value);
            compared_value (of changes the pooled mean before, of trends the value before the first step, of unusual
            the expected one) and change_ratio (relative to it); threshold (what the value was held against);
            passed_probability (that the true value is past the threshold in as many periods as asked), p_value,
            q_value (Benjamini-Hochberg over the groups) and clear (q_value at most 5%);
            usual_value (median of up to a year before the episode) and dispersion_ratio (variance over chance alone);
            noise_fires_per_year (how often this rule fires with this volume while the true value stays as usual),
            noise_year_probability (in what share of years, each by itself, it does), noise_period_probability (in what
            share of evaluations it holds);
            calibrated_threshold (of levels a value, else a size of change: with it the rule fires at most
            `false_alarms_per_year` times though the truth is exactly at the threshold, or unchanged), calibrated_state,
            calibrated_since, calibrated_noise_fires_per_year (while the true value stays as usual).
        firings: a row an episode: version ("verbatim" or "calibrated"), group, fired_on, period_start, last_day (the
            last day it lasted; missing while it lasts), days (so far), value, threshold.
    """

    rule: RuleSettings
    series: MetricSeries
    as_of: dt.date
    note: str
    groups: pd.DataFrame
    firings: pd.DataFrame

    @property
    def firing(self) -> pd.DataFrame:
        """The groups that fire, the surest first."""
        fires = self.groups[self.groups["state"] == "firing"]
        return fires.sort_values("passed_probability", ascending=False, kind="stable", na_position="last")

    @property
    def level(self) -> Level:
        """Red: fires, calls for action and is sure. Amber: fires. Green: all known and quiet. Unknown: the rest.

        Sure is what the calibrated version says too, or 95% likely, and clear: of groups, clear among all of them.
        Cooling is amber: the condition holds, though nobody is called a second time.
        """
        states = self.groups["state"]
        fires = self.groups[states == "firing"]
        if len(fires) and self.rule.severity != "notice":
            sure = (fires["calibrated_state"] == "firing") | (fires["passed_probability"] >= SURE)
            if (sure & fires["clear"].astype(bool)).any():
                return "red"
        if len(fires) or (states == "cooling").any():
            return "amber"
        return "green" if not self.note and len(states) and (states == "quiet").all() else "unknown"

    def findings(self) -> list[dict[str, Any]]:
        """Each group, then each episode, as flat records."""
        context = {"rule": self.rule.name, "metric": self.rule.metric, "severity": self.rule.severity}
        head = {"name": "rule", **context, "as_of": self.as_of.isoformat(), "level": self.level, "note": self.note}
        rows = [{**head, **to_plain_record(row)} for row in self.groups.to_dict("records")]
        episodes = self.firings.to_dict("records")
        return (rows or [head]) + [{"name": "firing", **context, **to_plain_record(row)} for row in episodes]


def rank_results(results: Iterable[RuleResult]) -> list[RuleResult]:
    """Put what needs attention first: red, amber, unknown, green; then by severity, how sure it is, and name.

    Urgent rules that fire come before all others that fire.
    """
    colours = {"red": 0, "amber": 1, "unknown": 2, "green": 3}

    def order(result: RuleResult) -> tuple[Any, ...]:
        fires, severity = result.firing, SEVERITY[result.rule.severity]
        surest = fires["passed_probability"].max() if len(fires) else 0.0
        urgent = len(fires) > 0 and severity == 0
        return (not urgent, colours[result.level], severity, -(surest if surest == surest else 0.0), result.rule.name)

    return sorted(results, key=order)

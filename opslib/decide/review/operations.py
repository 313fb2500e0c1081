"""What the rest of the playbook brings to a review: rules that fired, initiatives and what became of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from opslib.data.memory import remember
from opslib.data.operations import ResponseSettings
from opslib.data.periods import DAY, Period
from opslib.data.source import Data
from opslib.decide.rules.result import RuleResult
from opslib.decide.scope import choose_scope
from opslib.decide.series import SeriesReader, open_reader
from opslib.decide.verdicts.forecasts import ForecastReview, review_forecasts
from opslib.decide.verdicts.verdict import Verdict, check_initiatives, judge_initiatives
from opslib.decide.watch.watch import check_rule
from opslib.language import join_clauses, say

FIRING_COLUMNS = (
    "rule",
    "group",
    "metric",
    "fired_on",
    "last_day",
    "value",
    "threshold",
    "calibrated",
    "severity",
    "owner",
    "steps",
    "notebook",
    "done",
)

# What is done about an alarm may come so many days after it ended.
LATE_DAYS = 28


@dataclass(frozen=True)
class Operations:
    """What was watched and tried in a quarter; each part is computed when it is first asked for.

    Attributes:
        reader: the series up to the quarter's last day.
        period: the quarter, as far as the data cover it.
        segment: the group of users reviewed; empty: everybody.
        firings: rule, group, metric, fired_on, last_day (missing while it lasts), value, threshold, calibrated (whether
            the version that keeps false alarms rare fired too), severity, owner, steps, notebook, done (what the
            playbook's [[responses]] say was done); a row an episode that fired in the quarter, in order of time.
        unknown: rules that could not be judged, and why.
        verdicts: of each initiative of the playbook.
        forecasts: how good its forecasts were.
    """

    reader: SeriesReader
    period: Period
    segment: str

    @cached_property
    def firings(self) -> pd.DataFrame:
        return list_firings(self._results, self.period, responses=self.reader.data.playbook.responses)

    @cached_property
    def unknown(self) -> dict[str, str]:
        return {result.rule.name: result.note for result in self._results if result.note}

    @cached_property
    def verdicts(self) -> tuple[Verdict, ...]:
        return _judge_initiatives(self.reader)

    @cached_property
    def forecasts(self) -> ForecastReview:
        return review_forecasts(self.verdicts)

    @cached_property
    def _results(self) -> list[RuleResult]:
        scope = choose_scope(self.reader.data, as_of=self.period.last_day.isoformat(), segment=self.segment)
        return [check_rule(rule, self.reader, scope) for rule in self.reader.data.playbook.rules if rule.enabled]


def review_operations(data: Data, period: Period, *, segment: str = "") -> Operations:
    """Gather what rules did in a period, and judge the playbook's initiatives at its end.

    Args:
        data: the company's data.
        period: the quarter, as far as the data cover it.
        segment: one group of users; empty: everybody. Initiatives keep the segment that they name.

    Raises:
        InputError: a register of initiatives that cannot be read, or an initiative with a segment that is not there.
    """
    reader = open_reader(data, period.last_day)
    check_initiatives(reader)
    return Operations(reader, period, segment)


@remember
def _judge_initiatives(reader: SeriesReader) -> tuple[Verdict, ...]:
    return judge_initiatives(reader)


def list_firings(
    results: Sequence[RuleResult], period: Period, *, responses: Sequence[ResponseSettings] = ()
) -> pd.DataFrame:
    """List the episodes that began in a period: see `Operations.firings`."""
    rows = []
    for result in results:
        rule = result.rule
        tight = result.firings[result.firings["version"] == "calibrated"]
        for row in result.firings[result.firings["version"] == "verbatim"].to_dict("records"):
            fired_on = pd.Timestamp(row["fired_on"])
            if not period.start <= fired_on.date() < period.end:
                continue
            last = row["last_day"] if not pd.isna(row["last_day"]) else pd.Timestamp(period.last_day + DAY)
            during = pd.to_datetime(tight["fired_on"]).between(fired_on, pd.Timestamp(last))
            sure = bool((during & (tight["group"] == row["group"])).any())
            told = (fired_on, row["last_day"], row["value"], row["threshold"], sure)
            latest = pd.Timestamp(last) + LATE_DAYS * DAY
            done = [r for r in responses if r.rule == rule.name and fired_on <= pd.Timestamp(r.on) <= latest]
            text = join_clauses(map(_say_response, done))
            rest = (rule.severity, rule.owner, rule.steps, rule.notebook, text)
            rows.append((rule.name, row["group"], rule.metric, *told, *rest))
    frame = pd.DataFrame(rows, columns=list(FIRING_COLUMNS))
    return frame.sort_values(["fired_on", "rule", "group"], kind="stable").reset_index(drop=True)


def _say_response(response: ResponseSettings) -> str:
    text = say("{day}: {what}", day=response.on, what=say(response.what))
    return say("{text} ({note})", text=text, note=response.by) if response.by else text

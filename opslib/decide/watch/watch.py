"""The daily watch: every rule evaluated, the day's numbers against what was to be expected, and what is due."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd

from opslib.data.memory import remember
from opslib.data.operations import RuleSettings
from opslib.data.periods import DAY
from opslib.data.source import Data
from opslib.decide.initiatives import list_initiatives
from opslib.decide.rules.evaluate import evaluate_rule
from opslib.decide.rules.result import RuleResult, rank_results
from opslib.decide.scope import Scope, choose_scope
from opslib.decide.series import SeriesReader, open_reader
from opslib.decide.watch.due import list_due
from opslib.decide.watch.investigations import Investigation, open_investigations
from opslib.decide.watch.numbers import DayNumber, read_numbers
from opslib.errors import InputError
from opslib.measure.estimate import to_plain, to_plain_record
from opslib.measure.series.series import COLUMNS, MetricSeries


@dataclass(frozen=True)
class Watch:
    """What a day asks for; each part is computed when it is first asked for.

    Attributes:
        scope, reader: data, segment and days, and their series.
        company, currency: from the playbook.
        segment: the group of users watched; empty: everybody.
        as_of: the day.
        results: every rule of the playbook, the most urgent first (see `RuleResult`).
        changed: rule, group, what ("fired" or "ended"), day: what rules did on the day.
        numbers: the day's numbers, each with the day before, the week before and its expected range.
        due: what, name, owner, day, text: experiments to read out, initiatives to judge.
        investigations: the notebooks that fired rules open.
    """

    scope: Scope
    reader: SeriesReader

    @property
    def company(self) -> str:
        return self.scope.data.playbook.company.name

    @property
    def currency(self) -> str:
        return self.scope.data.playbook.company.currency

    @property
    def segment(self) -> str:
        return self.scope.segment

    @property
    def as_of(self) -> dt.date:
        return self.scope.as_of

    @cached_property
    def results(self) -> tuple[RuleResult, ...]:
        rules = [rule for rule in self.scope.data.playbook.rules if rule.enabled]
        return tuple(rank_results([check_rule(rule, self.reader, self.scope) for rule in rules]))

    @cached_property
    def changed(self) -> pd.DataFrame:
        return list_changes(self.results, self.as_of)

    @cached_property
    def numbers(self) -> tuple[DayNumber, ...]:
        return read_numbers(self.reader, self.scope)

    @cached_property
    def due(self) -> pd.DataFrame:
        return list_due(self.scope)

    @cached_property
    def investigations(self) -> tuple[Investigation, ...]:
        return open_investigations(self.results, as_of=self.as_of)

    def count_levels(self) -> dict[str, int]:
        """Level -> how many rules are at it: red, amber, green, unknown."""
        levels = [result.level for result in self.results]
        return {level: levels.count(level) for level in ("red", "amber", "green", "unknown")}

    def findings(self) -> list[dict[str, Any]]:
        """Flat records: rules, what changed, numbers, what is due, and what to open with which parameters."""
        records = [finding for result in self.results for finding in result.findings()]
        records += [{"name": "changed", **to_plain_record(row)} for row in self.changed.to_dict("records")]
        records += [number.to_finding() for number in self.numbers]
        records += [{"name": "due", **to_plain_record(row)} for row in self.due.to_dict("records")]
        return records + [investigation.to_finding() for investigation in self.investigations]


def watch_company(data: Data, *, as_of: str = "", segment: str = "") -> Watch:
    """Evaluate every rule of the playbook for a day.

    Args:
        data: the company's data; unfit data are refused.
        as_of: the day, as ISO text; empty: the data's last full day. Nothing of later days is looked at.
        segment: one group of users such as `channel:search`; empty: everybody. Rules with a segment of their own keep
            it; numbers that no users make, such as traffic, stay those of everybody.

    Returns:
        A `Watch`. What is wrong with the options is said at once; parts are computed when first asked for.

    Raises:
        InputError: unfit data, a day outside them, an unknown segment, a register of initiatives that cannot be read.
    """
    data.require_fit()
    scope = choose_scope(data, as_of=as_of, segment=segment)
    # A register that cannot be read is said at once.
    list_initiatives(data.playbook)
    return Watch(scope, open_reader(data, scope.as_of))


def check_rule(rule: RuleSettings, reader: SeriesReader, scope: Scope) -> RuleResult:
    """Evaluate one rule; one that cannot be, such as for want of a column, says so in its note."""
    return _check_rule(reader, rule, _choose_segment(rule, scope.segment), scope.as_of)


@remember
def _check_rule(reader: SeriesReader, rule: RuleSettings, segment: str, as_of: dt.date) -> RuleResult:
    playbook = reader.data.playbook
    try:
        series = read_series(rule, reader, segment)
    except InputError as error:
        empty = pd.DataFrame(columns=list(COLUMNS))
        series = MetricSeries(rule.metric, "ratio", "mean", rule.grain, rule.by, empty, note=str(error))
    target = playbook.targets.get(rule.metric)
    bound = None if target is None else target.bound
    return evaluate_rule(rule, series, as_of=as_of, target=bound, holidays=playbook.holidays)


def _choose_segment(rule: RuleSettings, segment: str) -> str:
    """A rule with a segment of its own keeps it; one that watches groups watches those of everybody."""
    return rule.segment or ("" if rule.by else segment)


def read_series(rule: RuleSettings, reader: SeriesReader, segment: str = "") -> MetricSeries:
    """Read what a rule watches."""
    return reader.read(
        rule.metric,
        grain=rule.grain,
        by=rule.by,
        segment=_choose_segment(rule, segment),
        event=rule.event,
        funnel=rule.funnel,
        step=rule.step,
    )


def list_changes(results: Sequence[RuleResult], as_of: dt.date) -> pd.DataFrame:
    """What rules did on the day: those that fired on it, and those whose episode ended the day before."""
    rows = []
    for result in results:
        firings = result.firings
        for row in firings[firings["version"] == "verbatim"].to_dict("records"):
            if to_plain(row["fired_on"]) == as_of.isoformat():
                rows.append((result.rule.name, row["group"], "fired", as_of))
            if to_plain(row["last_day"]) == (as_of - DAY).isoformat():
                rows.append((result.rule.name, row["group"], "ended", as_of))
    return pd.DataFrame(rows, columns=["rule", "group", "what", "day"])

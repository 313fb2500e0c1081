"""Marked events of the market, such as a rival's launch: did those exposed move otherwise than those who were not?"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd

from opslib.data.memory import remember
from opslib.data.operations import MarketEvent
from opslib.data.periods import DAY
from opslib.decide.scope import Scope
from opslib.decide.series import SeriesReader
from opslib.decide.series.asked import check_segment
from opslib.language import join_sentences, say
from opslib.measure.counterfactual.before_after import compare_series
from opslib.measure.counterfactual.differences import difference_in_differences
from opslib.measure.estimate import Unit, adjust_p_values, to_plain, to_plain_record

# metric -> its unit, and whether proportions or differences are compared.
METRICS: dict[str, tuple[Unit, str]] = {
    "dau_count": ("count", "log"),
    "new_users_count": ("count", "log"),
    "d7_rate": ("rate", "level"),
}
AFTER_DAYS = 28
LEVEL = 0.05
WEEKS_BEFORE = 12
CONTROLLED, DESCRIPTIVE = "difference in differences", "before and after"
COLUMNS = [
    "event", "date", "segment", "metric", "method", "actual", "expected", "effect", "low", "high", "relative_rate",
    "p_value", "q_value", "clear", "sound", "note",
]  # fmt: skip


@dataclass(frozen=True)
class MarketEffects:
    """What happened after the marked events; it is computed when it is first asked for.

    Attributes:
        scope, reader: data, segment and days, and their series.
        events: those of the playbook up to the last day looked at, the last first.
        effects: event, date, segment (exposed; empty: everybody), metric, method, actual (mean of the weeks after),
            expected (had the exposed moved as the others did; of before and after: as it was before), effect, low,
            high, relative_rate, p_value, q_value (false alarms among all comparisons of the event), clear (q_value at
            most 5%; of before and after: the interval leaves out zero), sound (the groups moved alike before; never of
            before and after), note (why there is no number).
    """

    scope: Scope
    reader: SeriesReader
    events: tuple[MarketEvent, ...]

    @cached_property
    def effects(self) -> pd.DataFrame:
        return _compare_events(self.scope.narrow(now=False), self.reader, self.events)

    def findings(self) -> list[dict[str, Any]]:
        """One record an event, segment and metric."""
        rows = self.effects.to_dict("records")
        return [{"name": "market_event", **{k: to_plain(v) for k, v in to_plain_record(r).items()}} for r in rows]


def measure_market_events(scope: Scope, reader: SeriesReader) -> MarketEffects:
    """Compare the four weeks after each marked event with what the unexposed say would have come.

    Raises:
        InputError: an event names a segment that is not there.
    """
    known = [e for e in scope.data.playbook.market_events if scope.span.start < e.date <= scope.as_of]
    events = tuple(sorted(known, key=lambda e: e.date, reverse=True))
    if scope.data.has_activity:
        for segment in dict.fromkeys(segment for event in events for segment in event.exposed):
            check_segment(scope.data, segment)
    return MarketEffects(scope, reader, events)


@remember
def _compare_events(scope: Scope, reader: SeriesReader, events: tuple[MarketEvent, ...]) -> pd.DataFrame:
    rows = []
    if scope.data.has_activity:
        for event in events:
            for segment in event.exposed or ("",):
                rows += [_measure(scope, reader, event, segment, metric) for metric in METRICS]
    frame = pd.DataFrame(rows, columns=COLUMNS)
    for _, part in frame.groupby("event"):
        # Of many comparisons, some look clear by chance.
        frame.loc[part.index, "q_value"] = adjust_p_values(part["p_value"].astype(float))
    controlled = frame["method"] == CONTROLLED
    frame.loc[controlled, "clear"] = frame.loc[controlled, "q_value"].astype(float) <= LEVEL
    return frame


def _measure(scope: Scope, reader: SeriesReader, event: MarketEvent, segment: str, metric: str) -> dict[str, Any]:
    unit, scale = METRICS[metric]
    last = min(scope.as_of, event.date + (AFTER_DAYS - 1) * DAY)
    head = {"event": event.name, "date": event.date, "segment": segment, "metric": metric}
    if not segment:
        series = reader.read(metric, segment=scope.segment)
        if series.frame.empty:
            return head | _say_nothing(DESCRIPTIVE, series.note)
        found = compare_series(series.of(), start=event.date, last_day=last, name=metric, unit=unit,
                               kind=series.kind, most_weeks=AFTER_DAYS // 7)  # fmt: skip
        change = found.change
        values = {"actual": change.now.value, "expected": change.before.value, "effect": change.difference,
                  "low": change.low, "high": change.high, "relative_rate": change.relative}  # fmt: skip
        note = change.now.note or change.before.note
        return head | values | {"method": DESCRIPTIVE, "clear": change.clear, "sound": False, "note": note}
    column, _, value = segment.partition(":")
    series = reader.read(metric, by=column)
    exposed = [s.partition(":")[2] for s in event.exposed if s.partition(":")[0] == column]
    others = series.frame[~series.frame["group"].isin(exposed)]
    if series.frame.empty or others.empty:
        note = series.note or say("everybody is exposed: no {column} is left to compare", column=column)
        return head | _say_nothing(CONTROLLED, note)
    result = difference_in_differences(
        series.of(value), others, start=event.date, last_day=last, metric=metric, unit=unit,
        scale=scale, weeks_before=WEEKS_BEFORE,  # type: ignore[arg-type]
    )  # fmt: skip
    return head | {
        "method": CONTROLLED, "actual": result.actual, "expected": result.expected, "effect": result.effect,
        "low": result.low, "high": result.high, "relative_rate": result.relative, "clear": result.clear,
        "p_value": result.p_value,
        "sound": result.sound, "note": "" if result.known else join_sentences(result.notes),
    }  # fmt: skip


def _say_nothing(method: str, note: str) -> dict[str, Any]:
    empty = dict.fromkeys(("actual", "expected", "effect", "low", "high", "relative_rate"))
    return {**empty, "method": method, "clear": False, "sound": False, "note": note}

"""What controls offer: values that the data and the playbook have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from opslib.data.periods import Quarter
from opslib.data.source import Data
from opslib.decide.scope import MOST_VALUES

MOST_EVENTS = 200
MOST_QUARTERS = 24


@dataclass(frozen=True)
class Choices:
    """What there is to choose from.

    Attributes:
        segments: column of users -> its values, most users first, each with how many users it has.
        breakdowns: columns that tell groups apart.
        events: names of events, most frequent first.
        funnels: names of the playbook's funnels.
        experiments: names of experiments, the last begun first.
        quarters: quarters that the data reach, newest first.
    """

    segments: dict[str, list[tuple[str, int]]]
    breakdowns: list[str]
    events: list[str]
    funnels: list[str]
    experiments: list[str]
    quarters: list[str]


def list_choices(data: Data) -> Choices:
    """List what controls offer.

    Args:
        data: a company's data that are fit.
    """
    segments = {column: _list_values(data, column) for column in data.segment_columns}
    groups = [column for column, values in segments.items() if 1 < len(values) <= MOST_VALUES]
    return Choices(
        {column: values for column, values in segments.items() if values},
        list(dict.fromkeys([*_list_event_columns(data), *groups])),
        _list_names(data, "events", "event", MOST_EVENTS),
        list(data.playbook.funnels),
        _list_experiments(data),
        _list_quarters(data),
    )


def _list_values(data: Data, column: str) -> list[tuple[str, int]]:
    texts = data.attributes.select(value=data.attributes[column].cast("string"))
    counts = texts.group_by("value").aggregate(users=lambda t: t.count())
    rows = data.execute(counts.order_by([counts.users.desc(), counts.value]).limit(MOST_VALUES + 1)).dropna()
    return [(str(value), int(users)) for value, users in zip(rows["value"], rows["users"], strict=True)]


def _list_event_columns(data: Data) -> list[str]:
    if not data.has("events"):
        return []
    events = data.table("events")
    own = {"user_id", "ts", "event", "session_id"}
    kinds = {c: events[c].type() for c in events.columns if c not in own}
    texts = [c for c, kind in kinds.items() if kind.is_string() or kind.is_boolean()]
    if not texts:
        return []
    counts = data.execute(events.aggregate(**{c: events[c].approx_nunique() for c in texts}))
    return [c for c in texts if 1 < int(counts[c].iloc[0]) <= MOST_VALUES]


def _list_names(data: Data, table: str, column: str, most: int) -> list[str]:
    if not data.has(table):
        return []
    counts = data.table(table).group_by(column).aggregate(rows=lambda t: t.count())
    rows = data.execute(counts.order_by([counts.rows.desc(), counts[column]]).limit(most))
    return [str(name) for name in rows[column].dropna()]


def _list_experiments(data: Data) -> list[str]:
    if not data.has("exposures"):
        return []
    starts = data.table("exposures").group_by("experiment").aggregate(first=lambda t: t.ts.min())
    rows: Any = data.execute(starts.order_by([starts["first"].desc(), starts.experiment]).limit(MOST_EVENTS))
    return [str(name) for name in rows["experiment"].dropna()]


def _list_quarters(data: Data) -> list[str]:
    quarter, first = Quarter.of(data.as_of), Quarter.of(data.span.start)
    names = [str(quarter)]
    while quarter != first and len(names) < MOST_QUARTERS:
        quarter = quarter.previous
        names.append(str(quarter))
    return names

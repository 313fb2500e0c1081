"""What can be asked of a company's series: over which days, of which groups, and what is missing for it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

from opslib.data.contract import CONTRACTS, Contract
from opslib.data.memory import remember
from opslib.data.operations import METRICS
from opslib.data.periods import DAY, Period
from opslib.data.source import FULL_DAY_HOUR, Data
from opslib.decide.costs import find_channels
from opslib.errors import InputError, suggest_name
from opslib.language import mark, say

SPEND_METRICS = ("cac_amount", "cost_per_d7_amount", "spend_amount", "spend_share_rate")
SHOWN_NAMES = 12


def find_span(data: Data, as_of: dt.date | None) -> Period:
    """From the first active day (without activity, the first day of any table) to `as_of`."""
    whole = data.span if data.activity_name else _span_tables(data)
    last = whole.last_day if as_of is None else as_of
    if not whole.start <= last <= whole.last_day:
        raise InputError(f"as_of {last} lies outside the data, which run from {whole.start} to {whole.last_day}.")
    return Period(whole.start, last + DAY, "all data")


def _span_tables(data: Data) -> Period:
    profiles = [p for p in data.fitness.profiles if p.first_at is not None and p.last_at is not None]
    if not profiles:
        return data.span
    first = min(data.calendar.day_of(p.first_at) for p in profiles if p.first_at)
    ends = []
    for p in profiles:
        assert p.last_at is not None
        last = data.calendar.wall_clock(p.last_at)
        ends.append(last.date() + (DAY if p.whole_days or last.hour >= FULL_DAY_HOUR else 0 * DAY))
    return Period(first, max(*ends, first + DAY), "all data")


@remember
def check_segment(data: Data, segment: str) -> None:
    """Refuse a segment that the data do not have; what has been looked up once is known.

    Raises:
        InputError: with the columns or values that exist.
    """
    data.check_segment(segment)


def check_groups(data: Data, metric: str, by: str, segment: str) -> None:
    """Refuse groups that a metric or the data do not know."""
    tables = METRICS[metric]
    named = by or segment.partition(":")[0]
    if not named:
        return
    if "traffic" in tables:
        # What a rule or a review cannot read is a note of theirs.
        text = mark("{metric} is measured of the whole site: it knows no users, so it has no groups ('{column}').")
        raise InputError(say(text, metric=metric, column=named))
    if metric in SPEND_METRICS:
        if named != "channel":
            text = mark("{metric} cannot be told for '{column}': what was spent is only known by channel. Use channel.")
            raise InputError(say(text, metric=metric, column=named))
        if not data.has("spend"):
            return
        if segment:
            _check_channel(data, segment)
        return
    known = data.segment_columns if data.has("users") or data.has_activity or data.has("subscriptions") else []
    if named not in known:
        choice = f"There are: {', '.join(known)}." if known else "These data have no user attributes."
        raise InputError(f"There is no column '{named}' of users.{suggest_name(named, known)} {choice}")
    check_segment(data, segment)


def _check_channel(data: Data, segment: str) -> None:
    """Refuse a channel that is neither among those that money was spent on nor among those of users."""
    value = segment.partition(":")[2]
    spend = data.table("spend")
    found = data.execute(spend.group_by("channel").aggregate(amount=spend.amount.sum()))["channel"].dropna()
    names = sorted(str(name) for name in found)
    if value in names:
        return
    if find_channels(data) is not None:
        check_segment(data, segment)
        return
    raise InputError(
        f"Segment '{segment}': nothing was spent on channel '{value}'.{suggest_name(value, names)} "
        f"Channels: {', '.join(names[:SHOWN_NAMES])}."
    )


def check_event(names: Sequence[str], event: str) -> None:
    """Refuse an event that never occurs."""
    if event not in names:
        asked = f"there is no event '{event}'.{suggest_name(event, names)}" if event else "name an event."
        raise InputError(f"event_rate: {asked} Events: {', '.join(names[:SHOWN_NAMES])}.")


def find_missing(data: Data, metric: str) -> str:
    """Why a metric cannot be read: a table or column that is missing; empty where nothing is."""
    for table in METRICS[metric]:
        if table == "events or orders":
            if not data.has_activity:
                return say(
                    "There is no table events (user, time, event) or orders (user, time, amount) to tell who is active."
                )
        elif not data.has(table):
            return _say_no_table(CONTRACTS[table])
    column = {"error_rate": "errors", "p95_ms_mean": "p95_ms"}.get(metric)
    if column and column not in data.table("traffic").columns:
        return say("The table traffic has no column {column}.", column=column)
    if metric == "paying_rate" and data.activity_name == "orders":
        return say("Only buyers are in the data: the share of active users who pay would be 100% by definition.")
    return ""


def _say_no_table(contract: Contract) -> str:
    columns = say(", ").join(column.name for column in contract.columns if column.required)
    text = mark("The playbook has no table {table} ({row}): {columns}.")
    return say(text, table=contract.table, row=say(contract.grain), columns=columns)

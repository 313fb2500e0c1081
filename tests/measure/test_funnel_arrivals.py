"""Who got to a step of a funnel: as many as the funnel counts, with what was known of them there."""

from __future__ import annotations

import datetime as dt
from typing import Any

import ibis
import ibis.expr.types as ir
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opslib.data.periods import DAY, Period
from opslib.errors import InputError
from opslib.measure.funnel.arrivals import list_arrivals
from opslib.measure.funnel.funnel import measure_funnel

START = dt.datetime(2026, 1, 1)
JANUARY = Period(dt.date(2026, 1, 1), dt.date(2026, 2, 1), "January")
STEPS = ["a", "b", "c"]
Row = tuple[int, int, str, str]


def to_events(rows: list[Row]) -> ir.Table:
    """user, hours after the start of January, event, platform."""
    frame = pd.DataFrame(rows, columns=["user_id", "hours", "event", "platform"])
    frame["ts"] = [START + dt.timedelta(hours=int(h)) for h in frame.pop("hours")]
    return ibis.memtable(frame, schema={"user_id": "int64", "event": "string", "platform": "string", "ts": "timestamp"})


def list_rows(rows: list[Row], step: int, **options: Any) -> pd.DataFrame:
    asked = {"period": JANUARY, "as_of": dt.date(2026, 3, 1), "columns": ["platform"], **options}
    found = list_arrivals(to_events(rows), STEPS, step=step, **asked)
    return found.order_by("user_id").to_pandas()


def test_the_column_is_that_of_the_event_that_filled_the_step_before() -> None:
    rows: list[Row] = [(1, 0, "a", "web"), (1, 5, "b", "ios"), (1, 6, "c", "android"), (2, 0, "a", "web")]
    rows += [(2, 1, "b", "web"), (3, 0, "a", "ios")]
    found = list_rows(rows, 3)
    assert found[["user_id", "platform", "converted"]].values.tolist() == [[1, "ios", True], [2, "web", False]]
    assert found["arrived_at"].tolist() == [START + dt.timedelta(hours=5), START + dt.timedelta(hours=1)]
    assert list_rows(rows, 2)[["platform", "converted"]].values.tolist() == [
        ["web", True],
        ["web", True],
        ["ios", False],
    ]


def test_users_whose_window_is_not_over_are_left_out() -> None:
    rows: list[Row] = [(1, 0, "a", "web"), (2, 24 * 30, "a", "web"), (3, 0, "b", "web"), (3, 1, "c", "web")]
    assert list_rows(rows, 2, as_of=dt.date(2026, 1, 31))["user_id"].tolist() == [1]


def test_a_missing_value_stays_missing() -> None:
    rows: list[Row] = [(1, 0, "a", "web"), (1, 1, "b", "web"), (1, 2, "c", "web")]
    events = to_events(rows).mutate(platform=ibis.null("string"))
    found = list_arrivals(
        events, STEPS, step=2, columns=["platform"], period=JANUARY, as_of=dt.date(2026, 3, 1)
    ).to_pandas()
    assert found["platform"].isna().tolist() == [True]


def test_an_unknown_column_or_step_is_refused() -> None:
    rows: list[Row] = [(1, 0, "a", "web"), (1, 1, "b", "web"), (1, 2, "c", "web")]
    with pytest.raises(InputError, match="Did you mean 'platform'"):
        list_rows(rows, 2, columns=["platfrom"])
    with pytest.raises(InputError, match="from 2 to 3"):
        list_rows(rows, 4)


streams = st.lists(
    st.tuples(st.integers(1, 6), st.integers(0, 400), st.sampled_from("abc"), st.sampled_from(["ios", "web"])),
    min_size=3,
    max_size=40,
)


@settings(max_examples=25)
@given(rows=streams, step=st.integers(2, 3), order=st.sampled_from(["ordered", "any"]))
def test_arrivals_are_the_entrants_that_the_funnel_counts(rows: list[Row], step: int, order: Any) -> None:
    rows = [*rows, *((9, 500, event, "web") for event in "abc")]
    options: dict[str, Any] = {"window": 3 * DAY, "order": order}
    found = list_rows(rows, step, **options)
    funnel = measure_funnel(to_events(rows), STEPS, period=JANUARY, as_of=dt.date(2026, 3, 1), minimum=1, **options)
    row = funnel.steps.iloc[step - 1]
    assert (len(found), int(found["converted"].sum())) == (row["entered_count"], row["converted_count"])
    assert found["user_id"].is_unique
    if order == "ordered":
        # The value is one that the user really had at that moment, at such an event.
        known = {(u, START + dt.timedelta(hours=h), e, p) for u, h, e, p in rows}
        for one in found.itertuples():
            assert (one.user_id, one.arrived_at, STEPS[step - 2], one.platform) in known

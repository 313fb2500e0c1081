"""First-week behaviours and staying: by hand, against brute force, no leak of the outcome, the sample company."""

from __future__ import annotations

import datetime as dt
import json
import math

import ibis
import ibis.expr.types as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opslib.data.periods import DAY, Calendar, Period
from opslib.data.source import Data, open_data
from opslib.errors import InputError
from opslib.explain.activation import ActivationResult, rank_behaviors
from opslib.measure.sample_size import size_rates
from tests.conftest import ROOT
from tests.measure.streams import START, to_table, user_days

JANUARY = Period(dt.date(2026, 1, 1), dt.date(2026, 2, 1), "January")
FIRST = dt.date(2026, 1, 10)
AS_OF = dt.date(2026, 3, 31)


def event_table(rows: list[tuple[int, dt.date, str]]) -> ir.Table:
    return ibis.memtable(
        {
            "user_id": [u for u, _, _ in rows],
            "ts": [dt.datetime.combine(d, dt.time(12)) for _, d, _ in rows],
            "event": [e for _, _, e in rows],
        },
        schema={"user_id": "int64", "ts": "timestamp", "event": "string"},
    )


def rank(events: list[tuple[int, dt.date, str]], days: set[tuple[int, dt.date]], **options: object) -> ActivationResult:
    usual = {"as_of": AS_OF, "calendar": Calendar(), "minimum": 20}
    return rank_behaviors(event_table(events), to_table(days), JANUARY, **usual | options)  # type: ignore[arg-type]


def plain_company() -> tuple[list[tuple[int, dt.date, str]], set[tuple[int, dt.date]]]:
    """200 users who came for a day, 100 of whom searched; of those 60 stayed, of the others 30."""
    stayers = {*range(60), *range(100, 130)}
    days = {(u, FIRST) for u in range(200)} | {(u, FIRST + 9 * DAY) for u in stayers}
    return [(u, FIRST, "search") for u in range(100)], days


def test_by_hand() -> None:
    result = rank(*plain_company())
    row = result.behaviors.iloc[0]
    assert row["behavior":"did_not_stayed_count"].tolist() == ["search", 100, 60, 100, 30]  # type: ignore[misc]
    assert row["did_rate":"raw_difference_rate"].tolist() == pytest.approx([0.6, 0.3, 0.3])  # type: ignore[misc]
    assert (row["raw_ratio"], row["adjusted_ratio"]) == pytest.approx((2, 2))
    assert row["adjusted_difference_rate"] == pytest.approx(0.3)
    assert row["raw_difference_low"] < row["adjusted_difference_low"] + 0.02 < 0.3
    assert (result.stayed.numerator, result.stayed.denominator) == (90, 200)
    assert result.evidence == "association"
    assert {f.get("evidence") for f in result.findings() if f["name"] == "behavior"} == {"association"}


def test_the_experiment_is_sized_for_the_adjusted_difference() -> None:
    days = plain_company()[1] | {(1000 + u, AS_OF - 3 * DAY) for u in range(56)}
    result = rank(plain_company()[0], days)
    row = result.behaviors.iloc[0]
    assert result.new_users_per_day == 2
    assert row["arm_users_count"] == size_rates(0.3, 0.3)
    # Two users a day, two arms; the last to arrive need 14 days until their outcome is over.
    assert row["experiment_days"] == row["arm_users_count"] + 14
    assert result.proposal is not None
    assert result.proposal["behavior"] == "search"
    half = rank(plain_company()[0], days, uptake=0.5).behaviors.iloc[0]
    assert half["arm_users_count"] == size_rates(0.3, 0.15)


def test_activity_explains_what_only_active_users_do() -> None:
    """Active users search and stay, others do neither more often: raw a large difference, none among users alike."""
    days, events = set(), []
    for user in range(400):
        active = user < 200
        days |= {(user, FIRST + n * DAY) for n in range(6 if active else 1)}
        searches = user % 20 < (16 if active else 2)
        stays = user // 20 % 10 < (8 if active else 2)
        events += [(user, FIRST, "search")] if searches else []
        days |= {(user, FIRST + 8 * DAY)} if stays else set()
    result = rank(events, days)
    row = result.behaviors.iloc[0]
    assert row["raw_difference_low"] > 0.3
    assert row["adjusted_difference_rate"] == pytest.approx(0, abs=1e-9)
    assert row["adjusted_difference_low"] < 0 < row["adjusted_difference_high"]
    assert result.proposal is None
    # Nothing to prove: the experiment is for the largest difference that the data leave possible.
    ends = row[["adjusted_difference_low", "adjusted_difference_high"]].abs()
    assert abs(row["experiment_difference_rate"]) == pytest.approx(ends.max())


def test_a_channel_explains_what_only_its_users_do() -> None:
    days = {(u, FIRST) for u in range(400)}
    days |= {(u, FIRST + 8 * DAY) for u in range(400) if u // 20 % 10 < (8 if u < 200 else 2)}
    events = [(u, FIRST, "search") for u in range(400) if u % 20 < (16 if u < 200 else 2)]
    attributes = ibis.memtable({"user_id": range(400), "channel": ["friend"] * 200 + ["ads"] * 200})
    plain, alike = rank(events, days), rank(events, days, attributes=attributes)
    assert plain.behaviors["adjusted_difference_rate"].iloc[0] > 0.3
    assert alike.behaviors["adjusted_difference_rate"].iloc[0] == pytest.approx(0, abs=1e-9)
    assert alike.confounders == ("active days", "channel")


def test_what_happens_after_the_window_does_not_count() -> None:
    """A behaviour on day 8 is no first-week behaviour; a day in the window is no staying."""
    events, days = plain_company()
    late = [(u, FIRST + 7 * DAY, "checkout") for u in range(100)] + [(u, FIRST - DAY, "before") for u in range(100)]
    week = {(u, FIRST + 6 * DAY) for u in range(100, 200)}
    result = rank(events + late, days | week)
    assert result.behaviors["behavior"].tolist() == ["search"]
    assert result.left_out.empty
    assert result.stayed.numerator == 90


@pytest.mark.parametrize("outcome", [(6, 14), (7, 7), (0, 7)])
def test_an_outcome_inside_the_window_is_refused(outcome: tuple[int, int]) -> None:
    with pytest.raises(InputError, match="must lie after"):
        rank(*plain_company(), outcome_days=outcome)


def test_users_whose_outcome_is_not_over_are_apart() -> None:
    events, days = plain_company()
    young = {(1000 + u, FIRST + 3 * DAY) for u in range(50)}
    result = rank(events, days | young, as_of=FIRST + 13 * DAY)
    assert (result.stayed.denominator, result.immature_count) == (200, 50)
    assert rank(events, days, as_of=FIRST + 12 * DAY).immature_count == 200


def test_rare_universal_and_absent_behaviours_are_left_out_with_the_reason() -> None:
    events, days = plain_company()
    events = events + [(u, FIRST, "open") for u in range(195)] + [(u, FIRST, "badge") for u in range(5)]
    result = rank(events, days, candidates=["search", "open", "badge", "fly"])
    assert result.behaviors["behavior"].tolist() == ["search"]
    assert result.left_out.values.tolist() == [["open", 195, "universal"], ["badge", 5, "rare"], ["fly", 0, "absent"]]
    counted = {f["reason"]: f["count"] for f in result.findings() if f["name"] == "behaviors_left_out"}
    assert counted == {"absent": 1, "rare": 1, "universal": 1}


def test_times() -> None:
    events, days = plain_company()
    result = rank(events + [(u, FIRST + DAY, "search") for u in range(30)], days, times=2)
    assert result.behaviors["did_count"].tolist() == [30]


def test_local_days_decide() -> None:
    """16:30 UTC on day 7 is day 8 in Shanghai, and outside the window."""
    days = {(u, FIRST) for u in range(200)}
    late = dt.datetime.combine(FIRST + 6 * DAY, dt.time(16, 30))
    events = ibis.memtable({"user_id": range(100), "ts": [late] * 100, "event": ["search"] * 100})
    for zone, expected in (("UTC", [100]), ("Asia/Shanghai", [])):
        result = rank_behaviors(events, to_table(days), JANUARY, as_of=AS_OF, calendar=Calendar(zone))
        assert result.behaviors["did_count"].tolist() == expected


@pytest.mark.parametrize("days", [{(1, FIRST)}, {(1, dt.date(2020, 1, 1))}])
def test_one_user_or_nobody(days: set[tuple[int, dt.date]]) -> None:
    result = rank([(1, FIRST, "search")], days)
    assert result.behaviors.empty
    assert "not enough data" in result.note
    assert result.proposal is None
    json.dumps(result.findings(), allow_nan=False)


def test_unknown_confounder_is_refused() -> None:
    attributes = ibis.memtable({"user_id": [1], "channel": ["ads"]})
    with pytest.raises(InputError, match="Did you mean 'channel'"):
        rank(*plain_company(), attributes=attributes, confounders=["chanel"])


def test_thousands_of_channels_and_events() -> None:
    events, days = plain_company()
    attributes = ibis.memtable({"user_id": range(10_000), "channel": [f"c{i}" for i in range(10_000)]})
    result = rank(events + [(u, FIRST, f"e{u % 3000}") for u in range(200)], days, attributes=attributes)
    # Every user has a channel of his own: the rare ones count as one, or nobody could be compared.
    assert result.behaviors["compared_rate"].iloc[0] > 0.8
    assert (result.left_out["reason"] == "rare").sum() == 200


@settings(max_examples=25)
@given(
    user_days,
    st.lists(st.tuples(st.integers(1, 8), st.integers(-5, 130), st.sampled_from("ab")), min_size=1, max_size=40),
    st.lists(st.sampled_from(["ads", "search", None]), min_size=8, max_size=8),
    st.integers(60, 120),
)
def test_equals_brute_force(
    days: set[tuple[int, dt.date]], done: list[tuple[int, int, str]], names: list[str | None], known: int
) -> None:
    as_of, period = START + known * DAY, Period(START, START + 80 * DAY, "any")
    events = [(u, START + n * DAY, e) for u, n, e in done]
    attributes = ibis.memtable(
        {"user_id": range(1, 9), "channel": names}, schema={"user_id": "int64", "channel": "string"}
    )
    result = rank_behaviors(
        event_table(events),
        to_table(days),
        period,
        as_of=as_of,
        calendar=Calendar(),
        window_days=5,
        outcome_days=(10, 20),
        attributes=attributes,
        minimum=1,
    )
    seen = {(u, d) for u, d in days if d <= as_of}
    first = {u: min(d for v, d in seen if v == u) for u, _ in seen}
    cohort = {u: f for u, f in first.items() if period.start <= f < period.end}
    mature = {u: f for u, f in cohort.items() if f + 19 * DAY <= as_of}
    stayed = {u for u, f in mature.items() if any((u, f + n * DAY) in seen for n in range(10, 20))}
    active = {u: sum((u, f + n * DAY) in seen for n in range(5)) for u, f in mature.items()}
    stratum = {u: (min(n, 3) if n < 5 else 4, names[u - 1]) for u, n in active.items()}
    assert (result.stayed.numerator, result.stayed.denominator) == (len(stayed), len(mature))
    assert result.immature_count == len(cohort) - len(mature)
    rows = {r["behavior"]: r for r in result.behaviors.to_dict("records")}
    for event in "ab":
        did = {u for u, d, e in events if e == event and u in mature and 0 <= (d - mature[u]).days < 5}
        if not did or did == set(mature):
            assert event not in rows
            continue
        row, weighted, weights = rows[event], 0.0, 0.0
        assert (row["did_count"], row["did_stayed_count"]) == (len(did), len(did & stayed))
        assert (row["did_not_count"], row["did_not_stayed_count"]) == (len(mature) - len(did), len(stayed - did))
        for s in set(stratum.values()):
            inside, outside = ({u for u in mature if stratum[u] == s and (u in did) == x} for x in (True, False))
            if inside and outside:
                weight = len(inside) * len(outside) / len(inside | outside)
                gap = len(inside & stayed) / len(inside) - len(outside & stayed) / len(outside)
                weighted, weights = weighted + weight * gap, weights + weight
        if weights:
            assert row["adjusted_difference_rate"] == pytest.approx(weighted / weights)
        else:
            assert math.isnan(row["adjusted_difference_rate"])


@pytest.fixture(scope="module")
def sample() -> Data:
    return open_data(ROOT / "playbook.toml")


def test_the_sample_company_shows_how_much_is_activity(sample: Data) -> None:
    """By its making, no behaviour in it causes staying: raw differences are large, adjusted ones within chance."""
    half_year = Period(dt.date(2026, 1, 1), dt.date(2026, 7, 1), "2026H1")
    result = rank_behaviors(
        sample.table("events"),
        sample.active_days,
        half_year,
        as_of=sample.as_of,
        calendar=sample.calendar,
        attributes=sample.attributes,
    )
    assert set(result.left_out["behavior"]) == {"app_open", "sign_up"}
    assert set(result.left_out["reason"]) == {"universal"}
    assert result.confounders == ("active days", "channel", "platform")
    assert result.immature_count > 0
    assert (result.behaviors["raw_difference_low"] > 0.1).all()
    assert (result.behaviors["q_value"] > 0.05).all()
    assert result.proposal is None
    assert result.behaviors["experiment_days"].notna().all()

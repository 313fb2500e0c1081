"""Referral: by hand, against brute force, published examples and the sample company's invitations."""

from __future__ import annotations

import datetime as dt

import ibis
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opslib.data.periods import DAY, Calendar, Period
from opslib.data.source import open_data
from opslib.measure.referral import _estimate_cycle, measure_referral
from tests.conftest import ROOT
from tests.measure.streams import START, to_table

UTC = Calendar()
YEAR = Period(dt.date(2026, 1, 1), dt.date(2027, 1, 1), "2026")
FIRST = dt.date(2026, 1, 5)
AS_OF = dt.date(2026, 6, 30)
Row = tuple[int, int, dt.datetime, str | None, float | None]
FULL = ("inviter_id", "invitee_id", "ts", "kind", "reward")


def referral_table(rows: list[Row], columns: tuple[str, ...] = FULL) -> ibis.Table:
    kinds = (pa.int64(), pa.int64(), pa.timestamp("us"), pa.string(), pa.float64())
    arrays = {name: pa.array([r[i] for r in rows], kinds[i]) for i, name in enumerate(FULL) if name in columns}
    return ibis.memtable(pa.table(arrays))


def at(day: dt.date, hour: int = 12) -> dt.datetime:
    return dt.datetime.combine(day, dt.time(hour))


def test_by_hand() -> None:
    """20 users bring 30 more two days later (10 bring two each), for 10 each; 15 of the 30 are there on day 7."""
    days = {(u, FIRST) for u in range(20)} | {(u, FIRST + 2 * DAY) for u in range(100, 130)}
    days |= {(u, FIRST + 9 * DAY) for u in range(100, 115)}
    rows: list[Row] = [(u % 20, 100 + u, at(FIRST + 2 * DAY), "rebate", 10.0) for u in range(30)]
    result = measure_referral(referral_table(rows), to_table(days), YEAR, as_of=AS_OF, calendar=UTC)
    assert (result.k_active.numerator, result.k_active.value) == (30, 30 / 50)
    assert (result.k_cohort.value, result.waiting_count, result.inviters_count) == (30 / 50, 0, 20)
    assert result.amplification == pytest.approx(2.5)
    # Ten users with two, ten with one, thirty with none: variance (10 x 4 + 10 x 1 - 50 x 0.36) / 49.
    assert result.k_active.high == pytest.approx(0.6 + 1.96 * (32 / 49 / 50) ** 0.5, abs=1e-4)
    assert {q: e.value for q, e in result.cycle.items()} == {0.25: 2, 0.5: 2, 0.9: 2}
    assert result.cost_per_retained is not None
    assert result.cost_per_retained.value == 20
    kind = result.by_kind.iloc[0]
    assert kind[["kind", "joined_count", "mature_count", "retained_count", "d7_rate"]].tolist() == [
        "rebate",
        30,
        30,
        15,
        0.5,
    ]
    assert kind[["reward_amount", "cost_per_user_amount", "cost_per_retained_amount"]].tolist() == [300, 10, 20]
    assert result.by_generation.values.tolist() == [[1, 30]]
    assert {"k_active_ratio", "cycle_median_days", "referral_kind", "generation"} <= {
        r["name"] for r in result.findings()
    }


def test_published_viral_coefficient() -> None:
    """Skok's example: ten invitations a user, of which one in five is accepted, make K = 2."""
    days = {(u, FIRST) for u in range(30)} | {(u, AS_OF) for u in range(100, 160)}
    rows: list[Row] = [(u % 30, 100 + u, at(AS_OF), None, None) for u in range(60)]
    invites = ibis.memtable({"user_id": [u for u in range(30) for _ in range(10)], "day": [FIRST] * 300})
    january = Period(FIRST, FIRST + DAY, "the first day")
    options = {"as_of": AS_OF, "calendar": UTC, "window_days": 200}
    result = measure_referral(
        referral_table(rows), to_table(days), Period(FIRST, AS_OF, "x"), invites=invites, **options
    )
    assert result.invites_per_user is not None
    assert result.invites_per_user.value == 10
    cohort = measure_referral(referral_table(rows), to_table(days), january, **{**options, "window_days": 177})
    assert cohort.k_cohort.value == 2
    assert cohort.amplification is None
    late = measure_referral(
        referral_table(rows), to_table(days), Period(FIRST, AS_OF + DAY, "y"), invites=invites, **options
    )
    assert late.conversion_rate is not None
    assert late.conversion_rate.value == 0.2


def test_rows_that_bring_nobody_new() -> None:
    """Own codes, second inviters and users who were there before count apart; their rewards are paid all the same."""
    days = {(u, FIRST) for u in range(40)} | {(u, FIRST + DAY) for u in range(100, 120)}
    rows: list[Row] = [(u, 100 + u, at(FIRST + DAY), None, 1.0) for u in range(20)]
    rows += [(30, 100, at(FIRST + DAY, 13), None, 1.0)]  # an hour after the first inviter
    rows += [(5, 5, at(FIRST), None, 1.0)]
    rows += [(6, 39, at(FIRST + 3 * DAY), None, 1.0)]
    result = measure_referral(referral_table(rows), to_table(days), YEAR, as_of=AS_OF, calendar=UTC)
    assert (result.repeated_count, result.self_count, result.known_count) == (1, 1, 1)
    assert result.k_active.numerator == 20
    assert result.by_kind["reward_amount"].tolist() == [23]


def test_chains_and_circles() -> None:
    """0 brought 1, who brought 2, and so on: one user a generation; who brought each other stand at the end."""
    days = {(u, FIRST + u * DAY) for u in range(15)} | {(u, FIRST) for u in (50, 51)}
    rows: list[Row] = [(u, u + 1, at(FIRST + (u + 1) * DAY), None, None) for u in range(14)]
    chain = measure_referral(referral_table(rows), to_table(days), YEAR, as_of=AS_OF, calendar=UTC).by_generation
    assert chain["generation_count"].tolist() == list(range(1, 11))
    assert chain["users_count"].tolist() == [1] * 9 + [5]
    rows += [(50, 51, at(FIRST), None, None), (51, 50, at(FIRST), None, None)]
    circle = measure_referral(referral_table(rows), to_table(days), YEAR, as_of=AS_OF, calendar=UTC).by_generation
    assert circle["users_count"].tolist() == [1] * 9 + [7]


def test_waiting_users_are_in_no_k() -> None:
    days = {(u, FIRST) for u in range(30)} | {(u, FIRST + 10 * DAY) for u in range(30, 90)}
    rows: list[Row] = [(u, 1000 + u, at(FIRST + 11 * DAY), None, None) for u in range(60)]
    period = Period(FIRST, FIRST + 40 * DAY, "both")
    options = {"as_of": FIRST + 30 * DAY, "calendar": UTC}
    result = measure_referral(referral_table(rows), to_table(days), period, **options)
    assert (result.k_cohort.value, result.k_cohort.denominator, result.waiting_count) == (1, 30, 60)
    # They came on day 11 after the first, which is the twelfth day of a window.
    twelve, eleven = (
        measure_referral(referral_table(rows), to_table(days), period, window_days=w, **options) for w in (12, 11)
    )
    assert (twelve.k_cohort.numerator, twelve.k_cohort.denominator) == (60, 90)
    assert (eleven.k_cohort.numerator, eleven.k_cohort.denominator) == (30, 90)


def test_nothing_to_see() -> None:
    """No referrals, one user, no rewards, an empty period: answers, no traceback."""
    nobody = measure_referral(referral_table([]), to_table({(1, FIRST)}), YEAR, as_of=AS_OF, calendar=UTC)
    assert (nobody.k_active.value, nobody.cycle, nobody.cost_per_retained) == (None, {}, None)
    assert nobody.by_kind.empty
    assert nobody.by_generation.empty
    assert nobody.findings()
    users = to_table({(u, FIRST) for u in range(50)})
    none = measure_referral(referral_table([]), users, YEAR, as_of=AS_OF, calendar=UTC)
    assert (none.k_active.value, none.k_active.low) == (0, 0)
    assert none.k_active.high > 0.05
    bare = referral_table([(1, 90, at(FIRST + DAY), None, None)], ("inviter_id", "invitee_id", "ts"))
    few = measure_referral(bare, users, YEAR, as_of=AS_OF, calendar=UTC)
    assert few.by_kind["reward_amount"].isna().all()
    assert few.cycle[0.5].note.startswith("not enough data: 1 joined")
    assert few.k_active.note == "only 1 inviters"
    later = measure_referral(bare, users, Period(AS_OF, AS_OF, "none"), as_of=AS_OF, calendar=UTC)
    assert later.k_active.value is None


@pytest.mark.parametrize("size", [21, 40, 333])
def test_quantiles(size: int) -> None:
    days = np.sort(np.random.default_rng(size).integers(0, 90, size))
    values, counts = np.unique(days, return_counts=True)
    cycle = _estimate_cycle(pd.DataFrame({"cycle_days": values, "users_count": counts}))
    for q, estimate in cycle.items():
        assert estimate.value == np.quantile(days, q, method="averaged_inverted_cdf")
        assert estimate.low <= estimate.value <= estimate.high


def test_interval_of_the_median_covers_it() -> None:
    """Exponential cycles: the interval holds the true median at least 95 times in 100 (it is whole days)."""
    rng, covered = np.random.default_rng(5), 0
    for _ in range(300):
        values, counts = np.unique(np.ceil(rng.exponential(30, 80)), return_counts=True)
        median = _estimate_cycle(pd.DataFrame({"cycle_days": values, "users_count": counts}))[0.5]
        covered += median.low <= np.ceil(30 * np.log(2)) <= median.high
    assert covered / 300 >= 0.93


user = st.integers(1, 9)
moment = st.integers(0, 60 * 24).map(lambda h: at(START, 0) + dt.timedelta(hours=h))
kinds = st.sampled_from(["rebate", "group", None])
referral_rows = st.lists(st.tuples(user, user, moment, kinds, st.sampled_from([5.0, 12.0, None])), max_size=14)
activity = st.sets(st.tuples(user, st.integers(0, 60).map(lambda n: START + n * DAY)), min_size=1, max_size=40)


@settings(max_examples=15)
@given(referral_rows, activity, st.integers(5, 60), st.integers(0, 30))
def test_equals_brute_force(rows: list[Row], days: set[tuple[int, dt.date]], known: int, begin: int) -> None:
    zone = Calendar("Asia/Shanghai")
    as_of, period = START + known * DAY, Period(START + begin * DAY, START + 50 * DAY, "p")
    result = measure_referral(referral_table(rows), to_table(days), period, as_of=as_of, calendar=zone, window_days=14)
    seen = {(u, d) for u, d in days if d <= as_of}
    first = {u: min(d for v, d in seen if v == u) for u, _ in seen}
    past = [r for r in rows if zone.day_of(r[2]) <= as_of]
    brought: dict[int, Row] = {}
    for row in sorted((r for r in past if r[0] != r[1]), key=lambda r: (r[2], r[0], r[3] or "(not given)")):
        brought.setdefault(row[1], row)
    fresh = {i: r for i, r in brought.items() if first.get(i, dt.date.max) >= zone.day_of(r[2])}
    inside = {i: r for i, r in fresh.items() if period.start <= zone.day_of(r[2]) < period.end}
    assert result.k_active.numerator == len(inside)
    assert result.k_active.denominator == len({u for u, d in seen if period.start <= d < period.end})
    assert result.inviters_count == len({r[0] for r in inside.values()})
    new = {u for u, f in first.items() if period.start <= f < period.end}
    mature = {u for u in new if first[u] + 13 * DAY <= as_of}
    quick = [r for r in fresh.values() if r[0] in mature and 0 <= (zone.day_of(r[2]) - first[r[0]]).days < 14]
    assert (result.k_cohort.numerator, result.k_cohort.denominator) == (len(quick), len(mature))
    assert result.waiting_count == len(new) - len(mature)
    gaps = [(zone.day_of(r[2]) - first[r[0]]).days for r in inside.values() if r[0] in first]
    assert sorted(result.cycles["cycle_days"].repeat(result.cycles["users_count"])) == sorted(g for g in gaps if g >= 0)
    by_kind = result.by_kind.set_index("kind")
    in_period = [r for r in past if period.start <= zone.day_of(r[2]) < period.end]
    for kind in {r[3] or "(not given)" for r in in_period}:
        mine = [r for r in inside.values() if (r[3] or "(not given)") == kind]
        old = [r for r in mine if first.get(r[1], zone.day_of(r[2])) + 7 * DAY <= as_of]
        assert by_kind.loc[kind, ["joined_count", "mature_count", "retained_count"]].tolist() == [
            len(mine),
            len(old),
            sum((r[1], first[r[1]] + 7 * DAY) in seen for r in old if r[1] in first),
        ]
        assert by_kind.loc[kind, "reward_amount"] == sum(
            r[4] or 0 for r in in_period if (r[3] or "(not given)") == kind
        )
    generations: dict[int, int] = {}
    for row in inside.values():
        depth, ancestor = 1, row[0]
        while ancestor in fresh and depth < 10:
            depth, ancestor = depth + 1, fresh[ancestor][0]
        generations[depth] = generations.get(depth, 0) + 1
    assert dict(result.by_generation.itertuples(index=False)) == generations
    assert result.self_count == sum(r[0] == r[1] for r in in_period)


def test_sample_company() -> None:
    """Every user of the referral channel was brought by one of the others; group buying is the cheaper kind."""
    data = open_data(ROOT / "playbook.toml")
    events = data.table("events")
    invites = events.filter(events.event == "invite_sent")
    invites = invites.select("user_id", day=data.calendar.local_day(invites.ts))
    options = {"as_of": data.as_of, "calendar": data.calendar, "invites": invites}
    result = measure_referral(data.table("referrals"), data.active_days, data.span, **options)
    users = data.table("users")
    assert result.k_active.numerator == int(data.execute(users.filter(users.channel == "referral").count()))
    assert (result.repeated_count, result.self_count, result.known_count) == (0, 0, 0)
    assert result.by_generation["users_count"].sum() == result.k_active.numerator
    assert result.k_active.value == pytest.approx(result.invites_per_user.value * result.conversion_rate.value)
    assert 0 < result.k_cohort.low < result.k_cohort.high < result.k_active.low < 1
    rows = result.by_kind.set_index("kind")
    assert rows.loc["group_buy", "cost_per_retained_high"] < rows.loc["invite_rebate", "cost_per_retained_low"]
    assert rows.loc["invite_rebate", "reward_amount"] == 20 * rows.loc["invite_rebate", "joined_count"]

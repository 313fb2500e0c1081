"""States and tiers: by hand, against brute force over users and days, on real data and the sample company."""

from __future__ import annotations

import bisect
import datetime as dt
from collections import Counter
from pathlib import Path

import ibis
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opslib.data.periods import DAY, Period
from opslib.data.source import open_data
from opslib.measure.activity import measure_activity
from opslib.measure.grains import Grain, floor_day, list_starts
from opslib.measure.growth import account_growth
from opslib.measure.states import AGE_BANDS, DAILY_STATES, HISTORY_DAYS, measure_state_rates
from opslib.measure.tiers import DEFAULT_THRESHOLDS, TierThresholds, label_tiers, measure_tiers
from tests.conftest import ROOT
from tests.measure.streams import START, to_table, user_days

Days = set[tuple[int, dt.date]]


def to_span(days: Days) -> Period:
    return Period(min(d for _, d in days), max(d for _, d in days) + DAY, "all")


def find_daily_state(active: set[dt.date], day: dt.date) -> str:
    """The state of one user on one day, straight from the words of the definition."""
    past = [d for d in active if d < day]
    if day in active:
        if not past:
            return "new"
        gap = (day - max(past)).days
        return "current" if gap <= 7 else "reactivated" if gap <= 30 else "resurrected"
    if not past:
        return "none"
    away = (day - max(past)).days
    return "at_risk_wau" if away <= 6 else "at_risk_mau" if away <= 29 else "dormant"


def count_daily_moves(days: Days, span: Period) -> dict[dt.date, Counter[tuple[str, str]]]:
    users = {u: {d for v, d in days if v == u} for u, _ in days}
    moves: dict[dt.date, Counter[tuple[str, str]]] = {}
    for n in range(span.days):
        day = span.start + n * DAY
        pairs = Counter((find_daily_state(a, day - DAY), find_daily_state(a, day)) for a in users.values())
        moves[day] = Counter({k: v for k, v in pairs.items() if k[1] != "none"})
    return moves


def find_tier(active: set[int], now: int, limits: TierThresholds) -> str:
    past = [p for p in active if p < now]
    if now in active:
        if not past:
            return "new"
        return "current" if now - max(past) <= limits.resurrected_after else "resurrected"
    if not past:
        return "none"
    absent = now - max(past)
    return "at_risk" if absent < limits.dormant_after else "dormant" if absent < limits.churned_after else "churned"


thresholds_strategy = st.tuples(st.integers(1, 5), st.integers(2, 5), st.integers(1, 6)).map(
    lambda t: TierThresholds(min(t[0], t[1] + t[2]), t[1], t[1] + t[2])
)


def test_daily_states_by_hand() -> None:
    """Days 1, 2, 8, 31 and then never: every state but resurrected, each as long as the definition says."""
    first = dt.date(2026, 1, 1)
    days = {(1, first + n * DAY) for n in (0, 1, 7, 30)}
    daily = measure_state_rates(to_table(days), Period(first, first + 61 * DAY, "")).daily
    states = daily.drop(columns=["day", "dau_count"]).idxmax(axis=1).str.removesuffix("_count").tolist()
    expected = ["new", "current", *["at_risk_wau"] * 5, "current", *["at_risk_wau"] * 6, *["at_risk_mau"] * 16]
    expected += ["reactivated", *["at_risk_wau"] * 6, *["at_risk_mau"] * 23, "dormant"]
    assert states == expected


@settings(max_examples=40)
@given(user_days)
def test_daily_states_equal_brute_force(days: Days) -> None:
    span = to_span(days)
    result = measure_state_rates(to_table(days), span, minimum=1, window_days=span.days)
    moves = count_daily_moves(days, span)
    names = (*DAILY_STATES.names, "none")
    for n, (_, expected) in enumerate(moves.items()):
        moved = result.flows.moved[n].sum(axis=0)
        got = {(names[i], names[j]): int(moved[i, j]) for i in range(8) for j in range(7) if moved[i, j]}
        assert got == dict(expected)
    total = sum(moves.values(), Counter())
    for row in result.table.to_dict("records"):
        assert row["users_count"] == total[row["from_state"], row["to_state"]]
        assert row["opening_count"] == sum(v for (before, _), v in total.items() if before == row["from_state"])


@settings(max_examples=20)
@given(user_days)
def test_bands_hold_days_since_the_first_active_day(days: Days) -> None:
    span = to_span(days)
    flows = measure_state_rates(to_table(days), span).flows
    first = {u: min(d for v, d in days if v == u) for u, _ in days}
    for n in range(span.days):
        day = span.start + n * DAY
        ages = Counter(bisect.bisect(AGE_BANDS, (day - f).days) - 1 for f in first.values() if f <= day)
        assert {i: int(v) for i, v in enumerate(flows.moved[n].sum(axis=(1, 2))) if v} == ages


@settings(max_examples=15)
@given(user_days, st.integers(1, 60))
def test_a_short_history_counts_the_same(days: Days, kept: int) -> None:
    """Leaving out old days must not change who is dormant, nor any move, on the days kept."""
    span = to_span(days)
    whole = measure_state_rates(to_table(days), span).flows.moved
    short = measure_state_rates(to_table(days), span, history_days=kept).flows.moved
    assert len(short) == min(kept, len(whole))
    assert (short == whole[-len(short) :]).all()


@settings(max_examples=40)
@given(user_days, st.sampled_from(["day", "week", "month", "quarter"]), st.integers(0, 6), thresholds_strategy)
def test_tiers_equal_brute_force(days: Days, grain: Grain, week_start: int, limits: TierThresholds) -> None:
    span = to_span(days)
    result = measure_tiers(to_table(days), span, grain=grain, week_start=week_start, thresholds=limits)
    starts = list_starts(span, grain, week_start)[:-1]
    users = {u: {starts.index(floor_day(d, grain, week_start)) for v, d in days if v == u} for u, _ in days}
    got = result.flows.set_index(["period_start", "from_state", "to_state"])["users_count"].to_dict()
    expected: Counter[tuple[pd.Timestamp, str, str]] = Counter()
    for n, start in enumerate(starts):
        for active in users.values():
            before, now = find_tier(active, n - 1, limits), find_tier(active, n, limits)
            if now != "none":
                expected[pd.Timestamp(start), before, now] += 1
    assert got == dict(expected)
    labelled = label_tiers(to_table(days), span, grain=grain, week_start=week_start, thresholds=limits).to_pandas()
    assert Counter(labelled["state"]) == Counter({s: n for s, n in result.closing.items() if n})
    check_balance(result.balance, len(users))


def check_balance(balance: pd.DataFrame, everybody: int) -> None:
    """Opening + in - out = closing in each state; closing is the next opening; everybody is in one state at the end."""
    assert (balance["opening_count"] + balance["in_count"] - balance["out_count"] == balance["closing_count"]).all()
    assert (balance[["opening_count", "in_count", "out_count", "closing_count"]] >= 0).all(axis=None)
    for _, rows in balance.groupby("state"):
        assert rows["opening_count"].tolist()[1:] == rows["closing_count"].tolist()[:-1]
    assert balance.loc[balance["period_start"] == balance["period_start"].max(), "closing_count"].sum() == everybody


@settings(max_examples=25)
@given(user_days, user_days, user_days, st.sampled_from(["day", "week", "month"]), st.booleans(), st.booleans())
def test_potential_equals_brute_force(
    days: Days, signed: Days, activated: Days, grain: Grain, by_signup: bool, by_activation: bool
) -> None:
    """Reached, not activated: by sign-ups, by a named activation, by both; a sign-up may come after activity."""
    span = Period(START, START + 121 * DAY, "all")
    limits = DEFAULT_THRESHOLDS[grain]
    signups, activations = to_table(signed) if by_signup else None, to_table(activated) if by_activation else None
    result = measure_tiers(to_table(days), span, grain=grain, signups=signups, activations=activations)
    starts = list_starts(span, grain)[:-1]
    reached = {u for u, _ in days}
    reached |= {u for u, _ in signed} if by_signup else set()
    reached |= {u for u, _ in activated} if by_activation else set()
    expected: Counter[tuple[pd.Timestamp, str]] = Counter()
    for user in reached:
        active, met = {d for u, d in days if u == user}, {d for u, d in activated if u == user}
        arrived = min(
            active | ({d for u, d in signed if u == user} if by_signup else set()) | (met if by_activation else set())
        )
        if by_activation:
            active = {d for d in active if met and d >= min(met)} | ({min(met)} if met else set())
        periods = {starts.index(floor_day(d, grain)) for d in active}
        for n, start in enumerate(starts):
            state = find_tier(periods, n, limits)
            if state == "none" and floor_day(arrived, grain) <= start:
                state = "potential"
            if state != "none":
                expected[pd.Timestamp(start), state] += 1
    got = result.balance.set_index(["period_start", "state"])["closing_count"]
    assert got[got > 0].to_dict() == dict(expected)
    check_balance(result.balance, len(reached))
    assert ("potential" in result.closing) == (by_signup or by_activation)


def test_tiers_agree_with_growth_accounting() -> None:
    """With the default thresholds new, current and resurrected are the growth accounting's, in every grain."""
    days = {(u, START + (u * 7 + k * (1 + u % 11)) % 118 * DAY) for u in range(40) for k in range(1 + u % 9)}
    span = to_span(days)
    for grain in ("day", "week", "month", "quarter"):
        growth = account_growth(to_table(days), span, grain=grain).periods
        tiers = measure_tiers(to_table(days), span, grain=grain).balance
        wide = tiers.pivot_table(index="period_start", columns="state", values="closing_count")
        for state, column in (("new", "new"), ("current", "retained"), ("resurrected", "resurrected")):
            assert wide[state].tolist() == growth[f"{column}_count"].tolist()


def test_thresholds_must_rise() -> None:
    with pytest.raises(ValueError, match="must rise"):
        TierThresholds(1, 3, 2)


def test_rates_have_few_users() -> None:
    result = measure_state_rates(to_table({(1, START)}), Period(START, START + DAY, ""))
    assert not any(e.known for e in result.rates.values())
    assert "not enough data" in result.rates["nurr_rate"].note
    assert result.daily["dau_count"].tolist() == [1]


def test_as_of_hides_what_comes_later() -> None:
    days = {(u, START + n * DAY) for u in range(30) for n in (0, 1, 5, 40)}
    span = to_span(days)
    cut = measure_state_rates(to_table(days), span, as_of=START + 5 * DAY)
    alone = measure_state_rates(
        to_table({(u, d) for u, d in days if d <= START + 5 * DAY}), span, as_of=START + 5 * DAY
    )
    assert cut.table.equals(alone.table)
    assert cut.daily["day"].max() == pd.Timestamp(START + 5 * DAY)
    tiers = measure_tiers(to_table(days), span, as_of=START + 5 * DAY)
    assert tiers.balance["period_start"].max() == pd.Timestamp(floor_day(START + 5 * DAY, "week"))


def test_dispersion_widens_the_interval() -> None:
    """Rates that jump between 0.2 and 0.8 from day to day are known less well than their counts say."""
    days = set()
    for n in range(0, 60, 2):
        for u in range(50):
            days.add((1000 * n + u, START + n * DAY))
            if u < (40 if n % 4 else 10):
                days.add((1000 * n + u, START + (n + 1) * DAY))
    result = measure_state_rates(to_table(days), to_span(days), window_days=60)
    estimate = result.rates["nurr_rate"]
    row = result.table.set_index("rate").loc["nurr_rate"]
    assert row["dispersion_ratio"] > 10
    assert estimate.high - estimate.low > 2 * 1.96 * (0.25 / estimate.denominator) ** 0.5
    assert "dispersion" in estimate.method


@pytest.mark.shared
def test_states_of_a_real_community(shared: Path) -> None:
    """CollegeMsg: the states add up to the published DAU, WAU and MAU, and NURR is its D1."""
    days = read_collegemsg(shared)
    span = Period(dt.date(2004, 4, 15), dt.date(2004, 10, 27), "all")
    result = measure_state_rates(days, span, window_days=195)
    row = result.daily.set_index("day").loc["2004-05-31"]
    assert row["dau_count"] == 148
    assert row["dau_count"] + row["at_risk_wau_count"] == 651
    assert row["dau_count"] + row["at_risk_wau_count"] + row["at_risk_mau_count"] == 1032
    assert (result.rates["nurr_rate"].numerator, result.rates["nurr_rate"].denominator) == (590, 1349)


def read_collegemsg(shared: Path) -> ibis.Table:
    rows = pd.read_csv(shared / "real/collegemsg/CollegeMsg.txt", sep=r"\s+", names=["user_id", "to", "at"])
    rows["day"] = pd.to_datetime(rows["at"], unit="s").dt.date
    return ibis.memtable(rows[["user_id", "day"]].drop_duplicates())


def test_states_of_the_sample_company() -> None:
    data = open_data(ROOT / "playbook.toml")
    result = measure_state_rates(data.active_days, data.span)
    assert len(result.daily) == HISTORY_DAYS
    quarter = Period(dt.date(2026, 4, 1), dt.date(2026, 7, 1), "2026Q2")
    activity = measure_activity(data.active_days, quarter).daily
    daily = result.daily.tail(91)
    assert daily["dau_count"].tolist() == activity["dau_count"].tolist()
    assert (daily["dau_count"] + daily["at_risk_wau_count"]).tolist() == activity["wau_count"].tolist()
    mau = daily["dau_count"] + daily["at_risk_wau_count"] + daily["at_risk_mau_count"]
    assert mau.tolist() == activity["mau_count"].tolist()
    curr, resurrection = result.rates["curr_rate"], result.rates["resurrection_rate"]
    assert resurrection.value < result.rates["reactivation_rate"].value < result.rates["iwaurr_rate"].value < curr.value
    events, users = data.table("events"), data.table("users")
    signups = users.select("user_id", day=data.calendar.local_day(users.signup_at))
    learned = events.filter(events.event == "lesson_complete")
    learned = learned.group_by("user_id").aggregate(ts=learned.ts.min())
    activations = learned.select("user_id", day=data.calendar.local_day(learned.ts))
    tiers = measure_tiers(data.active_days, data.span, grain="month", signups=signups, activations=activations)
    check_balance(tiers.balance, 30_000)
    assert tiers.closing["potential"] == 30_000 - data.execute(learned.count())
    assert all(r["name"] in ("tier", "transition_rate") for r in tiers.findings())

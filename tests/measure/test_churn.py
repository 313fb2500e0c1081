"""Churn, defined: by hand, against brute force, on real data and on the sample company."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import ibis
import ibis.expr.types as ir
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opslib.data.periods import DAY, Calendar
from opslib.data.source import open_data
from opslib.errors import InputError
from opslib.measure.churn.definition import ChurnDefinition, define_churn, define_churn_by_subscription, find_spells
from opslib.measure.churn.spells import count_silences
from tests.conftest import ROOT
from tests.measure.streams import START, to_table, user_days

Spell = tuple[int, dt.date, dt.date, bool, bool]


def list_silences(days: set[tuple[int, dt.date]], as_of: dt.date) -> list[tuple[int, int, bool]]:
    """User, silent days, whether the user came back: one user and one day at a time."""
    found = []
    for user in {u for u, d in days if d <= as_of}:
        mine = sorted(d for u, d in days if u == user and d <= as_of)
        for one, following in zip(mine, [*mine[1:], None], strict=True):
            silent = ((following or as_of + DAY) - one).days - 1
            if silent:
                found.append((user, silent, following is not None))
    return found


def find_spells_slowly(days: set[tuple[int, dt.date]], as_of: dt.date, inactive_days: int) -> set[Spell]:
    found: set[Spell] = set()
    for user in {u for u, d in days if d <= as_of}:
        mine = sorted(d for u, d in days if u == user and d <= as_of)
        start, returned = mine[0], False
        for one, following in zip(mine, [*mine[1:], None], strict=True):
            if ((following or as_of + DAY) - one).days - 1 >= inactive_days:
                found.add((user, start, one, True, returned))
                if following is not None:
                    start, returned = following, True
            elif following is None:
                found.add((user, start, as_of - inactive_days * DAY, False, returned))
    return found


def to_set(spells: ir.Table) -> set[Spell]:
    frame = spells.to_pandas()
    days = [pd.to_datetime(frame[c]).dt.date for c in ("start_day", "end_day")]
    columns = zip(frame["user_id"], *days, frame["left"], frame["returned"], strict=True)
    return {(int(u), s, e, bool(left), bool(back)) for u, s, e, left, back in columns}


def test_return_by_hand() -> None:
    """100 users; after one silent day 60 return at once, 10 after three, the rest are silent for 20 days and more."""
    days = {(u, START) for u in range(100)} | {(u, START + 2 * DAY) for u in range(60)}
    days |= {(u, START + 4 * DAY) for u in range(60, 70)}
    churn = define_churn(to_table(days), as_of=START + 24 * DAY, horizon_days=10, minimum=20)
    curve = churn.curve.set_index("silent_days")
    # Silences of a day or more: 100 first ones and 70 second ones, which nobody ended.
    assert curve.loc[1, ["silences_count", "users_count", "returned_count", "open_count"]].tolist() == [170, 100, 70, 0]
    assert curve.loc[1, "return_rate"] == pytest.approx(70 / 170)
    assert curve.loc[2, "return_rate"] == pytest.approx(10 / 110)
    assert curve.loc[4, "return_rate"] == 0
    assert (churn.inactive_days, churn.chosen) == (2, "from the data")
    assert churn.return_rate is not None
    assert (churn.return_rate.numerator, churn.return_rate.denominator) == (10, 110)
    stricter = define_churn(to_table(days), as_of=START + 24 * DAY, horizon_days=10, probability=0.05)
    assert stricter.inactive_days == 4


def test_open_silences_are_censored_not_losses() -> None:
    """Half of the users came too late to be watched: as many of the others return, the chance stays the same."""
    watched = {(u, START) for u in range(60)} | {(u, START + 5 * DAY) for u in range(30)}
    late = {(100 + u, START + 27 * DAY) for u in range(200)}
    as_of = START + 30 * DAY
    for days in (watched, watched | late):
        curve = define_churn(to_table(days), as_of=as_of, horizon_days=10).curve.set_index("silent_days")
        assert curve.loc[4, "return_rate"] == pytest.approx(30 / 90)
    assert curve.loc[1, "open_count"] == 200


@settings(max_examples=30)
@given(user_days, st.integers(0, 150), st.integers(1, 30))
def test_silences_equal_brute_force(days: set[tuple[int, dt.date]], known: int, horizon: int) -> None:
    as_of = START + known * DAY
    rows = list_silences(days, as_of)
    found = count_silences(to_table(days), Calendar(), as_of)
    for silent in range(1, len(found.returned)):
        reach = [(u, s, back) for u, s, back in rows if s >= silent]
        users = [u for u, _, _ in reach]
        assert found.reached[silent] == len(reach)
        assert found.users[silent] == len(set(users))
        assert found.squares[silent] == sum(users.count(u) ** 2 for u in set(users))
    curve = define_churn(to_table(days), as_of=as_of, horizon_days=horizon, minimum=1).curve
    for row in curve.itertuples():
        stay = 1.0
        for silent in range(row.silent_days, row.silent_days + horizon):
            risk = sum(s >= silent if back else s > silent for _, s, back in rows)
            ended = sum(back and s == silent for _, s, back in rows)
            stay *= 1 - ended / risk if risk else 1
        if not pd.isna(row.return_rate):
            assert row.return_rate == pytest.approx(1 - stay)
            assert 0 <= row.return_low <= row.return_rate + 1e-12 and row.return_rate <= row.return_high + 1e-12 <= 1.1


@settings(max_examples=30)
@given(user_days, st.integers(0, 150), st.integers(1, 60))
def test_spells_equal_brute_force(days: set[tuple[int, dt.date]], known: int, inactive_days: int) -> None:
    as_of = START + known * DAY
    table = to_table(days)
    churn = define_churn(table, as_of=as_of, inactive_days=inactive_days)
    assert to_set(find_spells(table, churn)) == find_spells_slowly(days, as_of, inactive_days)


def test_moments_and_days_give_the_same() -> None:
    calendar = Calendar("Asia/Shanghai")
    moments = [dt.datetime(2026, 1, 1, 15, 59), dt.datetime(2026, 1, 1, 16), dt.datetime(2026, 1, 20, 3)]
    events = ibis.memtable({"user_id": [1, 1, 1], "ts": moments}, schema={"user_id": "int64", "ts": "timestamp"})
    days = to_table({(1, calendar.day_of(m)) for m in moments})
    as_of = dt.date(2026, 2, 1)
    churn = define_churn(events, as_of=as_of, calendar=calendar, inactive_days=10)
    pd.testing.assert_frame_equal(churn.curve, define_churn(days, as_of=as_of, inactive_days=10).curve)
    assert to_set(find_spells(events, churn, calendar=calendar)) == to_set(find_spells(days, churn))


def test_names_and_order_of_rows_change_nothing() -> None:
    days = {(u, START + (u * k * k % 37) * DAY) for u in range(60) for k in range(4)}
    table = to_table(days)
    shuffled = ibis.memtable(
        {"user_id": [f"x{(u * 7919) % 101}" for u, _ in sorted(days, reverse=True)],
         "day": [d for _, d in sorted(days, reverse=True)]},
        schema={"user_id": "string", "day": "date"},
    )  # fmt: skip
    options: dict[str, Any] = {"as_of": START + 80 * DAY, "horizon_days": 10}
    one, other = define_churn(table, **options), define_churn(shuffled.union(shuffled), **options)
    pd.testing.assert_frame_equal(one.curve, other.curve)
    assert one.findings() == other.findings()


def test_refunds_are_no_orders() -> None:
    rows = {"user_id": [1, 1, 1], "day": [START, START + 5 * DAY, START + 9 * DAY], "amount": [10.0, -10.0, 0.0]}
    orders = ibis.memtable(rows, schema={"user_id": "int64", "day": "date", "amount": "float64"})
    churn = define_churn(orders, as_of=START + 30 * DAY, basis="orders", inactive_days=5)
    assert to_set(find_spells(orders, churn)) == {(1, START, START, True, False)}
    assert "refunds" in churn.notes[0]


def test_subscriptions() -> None:
    """Renewals, also overlapping and the day after, go on; later ones return; a future end has not come."""
    as_of = START + 100 * DAY
    rows = [
        (1, 0, 30), (1, 31, 60), (1, 40, 50), (1, 80, None), (2, 10, 200), (3, 120, None), (4, 20, 10), (5, 0, 100),
    ]  # fmt: skip
    table = ibis.memtable(
        {
            "user_id": [u for u, _, _ in rows],
            "start_at": [START + s * DAY for _, s, _ in rows],
            "end_at": [None if e is None else START + e * DAY for _, _, e in rows],
        },
        schema={"user_id": "int64", "start_at": "date", "end_at": "date"},
    )
    churn = define_churn_by_subscription(table, as_of=as_of)
    assert to_set(find_spells(table, churn)) == {
        (1, START, START + 60 * DAY, True, False),
        (1, START + 80 * DAY, as_of, False, True),
        (2, START + 10 * DAY, as_of, False, False),
        (5, START, as_of, True, False),
    }
    with pytest.raises(InputError, match="'ended'"):
        define_churn_by_subscription(table, as_of=as_of, end="ended")


@pytest.mark.parametrize(
    "days",
    [
        set(),
        {(1, START)},
        {(u, START) for u in range(50)},
        {(u, START + n * DAY) for u in range(30) for n in range(30)},
    ],
)
def test_nothing_to_choose_from(days: set[tuple[int, dt.date]]) -> None:
    """Nobody, one user, one day each, nobody ever silent: a number or a sentence."""
    table = to_table(days) if days else to_table({(1, START)}).filter(ibis.literal(False))
    churn = define_churn(table, as_of=START + 29 * DAY)
    assert churn.inactive_days is not None or churn.notes
    assert churn.findings()
    if churn.inactive_days is None:
        with pytest.raises(InputError, match="not defined"):
            find_spells(table, churn)


def test_options_are_checked() -> None:
    table = to_table({(1, START)})
    for options, text in (
        ({"probability": 1.2}, "between 0 and 1"),
        ({"horizon_days": 0}, "at least one day"),
        ({"basis": "orderz"}, "no basis"),
        ({"basis": "subscription"}, "define_churn_by_subscription"),
    ):
        with pytest.raises(InputError, match=text):
            define_churn(table, as_of=START, **options)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="user_id"):
        define_churn(table.rename(user="user_id"), as_of=START)


def test_sample_company() -> None:
    data = open_data(ROOT / "playbook.toml")
    churn = define_churn(data.active_days, as_of=data.as_of)
    assert churn.inactive_days == 62 and churn.low_days == 60 and churn.high_days == 64
    known = churn.curve["return_rate"].dropna()
    assert known.iloc[0] > 0.9 and known.iloc[29] == pytest.approx(0.249, abs=0.005)
    at_30 = define_churn(data.active_days, as_of=data.as_of, inactive_days=30)
    assert at_30.chosen == "given" and at_30.return_rate is not None
    assert at_30.known_until == dt.date(2026, 5, 31)


def read_cdnow(shared: Path) -> ir.Table:
    path = shared / "real" / "cdnow" / "CDNOW_master.txt"
    frame = pd.read_csv(path, sep=r"\s+", skiprows=1, header=None, names=["user_id", "date", "units", "amount"])
    frame["day"] = pd.to_datetime(frame["date"].astype(str)).dt.date
    return ibis.memtable(
        frame[["user_id", "day", "amount"]], schema={"user_id": "int64", "day": "date", "amount": "float64"}
    )


def read_messages(shared: Path) -> ir.Table:
    path = shared / "real" / "collegemsg" / "CollegeMsg.txt"
    frame = pd.read_csv(path, sep=" ", header=None, names=["user_id", "to", "at"])
    frame["ts"] = pd.to_datetime(frame["at"], unit="s")
    return ibis.memtable(frame[["user_id", "ts"]])


def count_slowly(churn: ChurnDefinition, days: pd.DataFrame, silent: int) -> tuple[int, int, int]:
    """Silences that lasted, those that ended within the horizon, and those open before its end, from pandas."""
    ordered = days.drop_duplicates().sort_values(["user_id", "day"])
    following = ordered.groupby("user_id")["day"].shift(-1)
    length = (following.fillna(pd.Timestamp(churn.as_of + DAY)) - ordered["day"]).dt.days - 1
    reached = length[length >= silent]
    early = reached < silent + churn.horizon_days
    back = following.notna().loc[reached.index]
    return len(reached), int((early & back).sum()), int((early & ~back).sum())


@pytest.mark.shared
def test_cdnow(shared: Path) -> None:
    """Customers buy once and again after months: the gap is long, and its chance of return what pandas counts."""
    orders = read_cdnow(shared)
    churn = define_churn(orders, as_of=dt.date(1998, 6, 30), basis="orders")
    assert churn.inactive_days is not None and 100 <= churn.inactive_days <= 365
    frame = orders.to_pandas()
    bought = frame[frame["amount"] > 0].assign(day=pd.to_datetime(frame["day"]))[["user_id", "day"]]
    row = churn.curve.set_index("silent_days").loc[churn.inactive_days]
    counts = row[["silences_count", "returned_count", "open_count"]].astype(int).tolist()
    assert counts == list(count_slowly(churn, bought, churn.inactive_days))


@pytest.mark.shared
def test_collegemsg(shared: Path) -> None:
    churn = define_churn(read_messages(shared), as_of=dt.date(2004, 10, 25))
    assert churn.inactive_days is not None and churn.curve["return_rate"].iloc[0] > 0.8
    assert churn.horizon_days < 90 and "longest silence" in churn.notes[0]


@pytest.mark.shared
def test_online_retail(shared: Path) -> None:
    table = ibis.read_parquet(shared / "real" / "online_retail" / "online_retail.parquet")
    orders = table.select(
        user_id=table.CustomerID, ts=table.InvoiceDate.cast("timestamp"), amount=table.Quantity * table.UnitPrice
    )
    churn = define_churn(orders, as_of=dt.date(2011, 12, 8), basis="orders", probability=0.2)
    assert churn.inactive_days is not None or churn.notes
    assert churn.curve["users_count"].max() <= 4338

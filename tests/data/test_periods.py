"""The company's clock against zoneinfo, and quarters."""

from __future__ import annotations

import datetime as dt
from zoneinfo import ZoneInfo

import ibis
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opslib.data.periods import DAY, Calendar, Period, Quarter, find_offsets, parse_date
from opslib.errors import InputError

ZONES = [
    "UTC", "Asia/Shanghai", "Europe/London", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu",
    "America/Sao_Paulo", "America/Havana", "Pacific/Apia", "Africa/Casablanca",
]  # fmt: skip
FIRST, LAST = dt.datetime(2009, 1, 1), dt.datetime(2027, 1, 1)
MOMENTS = st.datetimes(FIRST, LAST)
# The moments that matter: around every change of every zone.
CHANGES = [until for zone in ZONES for until, _ in find_offsets(zone, FIRST, LAST)[:-1]]
NEAR = st.builds(
    lambda change, seconds: change + dt.timedelta(seconds=seconds),
    st.sampled_from(CHANGES), st.integers(-90_000, 90_000),
)  # fmt: skip


@pytest.fixture(scope="module")
def engine() -> ibis.BaseBackend:
    return ibis.duckdb.connect()


def compute(engine: ibis.BaseBackend, moments: list[dt.datetime], expression: object) -> list[dt.datetime]:
    table = ibis.memtable({"i": list(range(len(moments))), "ts": moments}, schema={"i": "int64", "ts": "timestamp(6)"})
    result = engine.execute(table.select("i", value=expression(table.ts)).order_by("i"))  # type: ignore[operator]
    return [v.to_pydatetime() for v in result["value"]]


def local(moment: dt.datetime, zone: str) -> dt.datetime:
    return moment.replace(tzinfo=dt.UTC).astimezone(ZoneInfo(zone)).replace(tzinfo=None)


@pytest.mark.parametrize("zone", ZONES)
@settings(max_examples=6)
@given(moments=st.lists(MOMENTS | NEAR, min_size=50, max_size=150))
def test_local_time_is_zoneinfos(engine: ibis.BaseBackend, zone: str, moments: list[dt.datetime]) -> None:
    calendar = Calendar(zone, 0, FIRST, LAST)
    assert compute(engine, moments, calendar.local_time) == [local(m, zone) for m in moments]


@pytest.mark.parametrize("zone", ZONES)
@settings(max_examples=6)
@given(moments=st.lists(MOMENTS | NEAR, min_size=50, max_size=150))
def test_to_utc_inverts_local_time(engine: ibis.BaseBackend, zone: str, moments: list[dt.datetime]) -> None:
    walls = [local(m, zone) for m in moments]
    expected = [w.replace(tzinfo=ZoneInfo(zone), fold=0).astimezone(dt.UTC).replace(tzinfo=None) for w in walls]
    assert compute(engine, walls, Calendar(zone, 0, FIRST, LAST).to_utc) == expected


@pytest.mark.parametrize("zone", ZONES)
@given(moment=MOMENTS | NEAR)
@settings(max_examples=200)
def test_a_day_starts_where_the_day_changes(zone: str, moment: dt.datetime) -> None:
    calendar = Calendar(zone, 0, FIRST, LAST)
    day = calendar.day_of(moment)
    assert day == local(moment, zone).date()
    assert calendar.day_start(day) <= moment < calendar.day_start(day + DAY)


@pytest.mark.parametrize(
    ("wall", "utc"),
    [
        ("2026-03-29 00:59:59", "2026-03-29 00:59:59"),  # London, an hour before summer
        ("2026-03-29 02:00:00", "2026-03-29 01:00:00"),
        ("2026-10-25 00:59:00", "2026-10-24 23:59:00"),
        ("2026-10-25 01:30:00", "2026-10-25 00:30:00"),  # twice; the first, still summer
        ("2026-10-25 02:00:00", "2026-10-25 02:00:00"),
    ],
)
def test_london(engine: ibis.BaseBackend, wall: str, utc: str) -> None:
    result = compute(engine, [dt.datetime.fromisoformat(wall)], Calendar("Europe/London").to_utc)
    assert result == [dt.datetime.fromisoformat(utc)]


def test_days_of_23_and_25_hours() -> None:
    calendar = Calendar("Europe/London")
    hours = [
        (calendar.day_start(day + DAY) - calendar.day_start(day)).total_seconds() / 3600
        for day in (dt.date(2026, 3, 29), dt.date(2026, 10, 25), dt.date(2026, 6, 1))
    ]
    assert hours == [23, 25, 24]
    assert calendar.day_start(dt.date(2026, 7, 1)) == dt.datetime(2026, 6, 30, 23)


def test_half_hour_change_of_lord_howe() -> None:
    offsets = find_offsets("Australia/Lord_Howe", dt.datetime(2026, 1, 1), dt.datetime(2026, 12, 31))
    assert [o.total_seconds() / 3600 for _, o in offsets] == [11, 10.5, 11]
    assert offsets[0][0] == dt.datetime(2026, 4, 4, 15)


def test_only_changes_within_the_data_are_written() -> None:
    assert len(find_offsets("Europe/London", dt.datetime(2026, 5, 1), dt.datetime(2026, 6, 1))) == 1
    assert len(find_offsets("Asia/Shanghai", dt.datetime(2010, 1, 1), dt.datetime(2026, 1, 1))) == 1


@given(year=st.integers(1990, 2100), number=st.integers(1, 4))
def test_quarters(year: int, number: int) -> None:
    quarter = Quarter(year, number)
    assert Quarter.parse(str(quarter)) == quarter
    assert quarter.next.previous == quarter
    assert quarter.period.end == quarter.next.period.start
    assert quarter.period.days in (90, 91, 92)
    for day in (quarter.period.start, quarter.period.last_day):
        assert Quarter.of(day) == quarter
    assert Quarter.of(quarter.period.end) == quarter.next


@pytest.mark.parametrize("text", ["", "2026", "2026Q0", "2026Q5", "26Q1", "Q12026", "2026 Q1", "2026Q1x", "2026-01-01"])
def test_no_quarter(text: str) -> None:
    with pytest.raises(ValueError, match="for example 2026Q2"):
        Quarter.parse(text)


@pytest.mark.parametrize("text", ["2026Q2", "2026q2", "2026-Q2", " 2026Q2 "])
def test_ways_to_write_a_quarter(text: str) -> None:
    assert str(Quarter.parse(text)) == "2026Q2"


def test_periods_share_days_or_not() -> None:
    june = Period(dt.date(2026, 6, 1), dt.date(2026, 7, 1), "June")
    july = Period(dt.date(2026, 7, 1), dt.date(2026, 8, 1), "July")
    middle = Period(dt.date(2026, 6, 15), dt.date(2026, 7, 15), "middle")
    assert not june.overlaps(july)
    assert june.overlaps(middle)
    assert june.clip(middle) == Period(dt.date(2026, 6, 15), dt.date(2026, 7, 1), "June")
    assert june.clip(july).days == 0
    assert june.days == 30
    assert june.last_day == dt.date(2026, 6, 30)


@pytest.mark.parametrize("text", ["2026-02-30", "30/06/2026", "yesterday", ""])
def test_no_date(text: str) -> None:
    with pytest.raises(InputError, match=r"as_of is not a date: write it as 2026-06-30"):
        parse_date(text, name="as_of")

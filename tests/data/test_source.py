"""An opened company: last full day, quarters, who was active when, segments, fingerprint."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import ibis
import pytest

from opslib.data.source import Data, open_data
from opslib.errors import InputError
from tests.data.company import COMPANY, EVENTS, GOOD, HEAD, ORDERS, USERS, open_company, open_events, write_company

DAYS = [f"1,2026-01-0{d} 12:00:00,open" for d in range(1, 6)]
SHANGHAI = COMPANY + 'timezone = "Asia/Shanghai"\n'
USER_ROWS = (
    "user_id,signup_at,channel,is_vip,city\n1,2026-01-01,search,true,Berlin\n2,2026-01-01,direct,false,\n"
    "3,2026-01-01,search,false,北京\n4,2026-01-01,,true,Berlin\n5,2026-01-01,<script>,true,a:b\n"
)


def days(data: Data) -> list[tuple[int, str]]:
    rows = data.execute(data.active_days.order_by(["user_id", "day"]))
    return [(int(r.user_id), str(r.day)[:10]) for r in rows.itertuples()]


@pytest.mark.parametrize(
    ("last", "company", "as_of"),
    [
        ("2026-01-05 22:59:59", COMPANY, "2026-01-04"), ("2026-01-05 23:00:00", COMPANY, "2026-01-05"),
        ("2026-01-06 00:00:00", COMPANY, "2026-01-05"), ("2026-01-05 14:59:59", SHANGHAI, "2026-01-04"),
        ("2026-01-05 15:00:00", SHANGHAI, "2026-01-05"), ("2026-01-05 16:00:00", SHANGHAI, "2026-01-05"),
    ],
)  # fmt: skip
def test_last_full_day(last: str, company: str, as_of: str, tmp_path: Path) -> None:
    data = open_events(tmp_path, [*DAYS[:4], f"1,{last},open"], company=company)
    assert str(data.as_of) == as_of
    assert data.span.start == dt.date(2026, 1, 1)


def test_whole_days_end_on_the_last_of_them(tmp_path: Path) -> None:
    data = open_events(tmp_path, [f"1,2026-01-0{d},open" for d in range(1, 6)])
    assert data.as_of == dt.date(2026, 1, 5)


def test_one_short_day_is_still_a_span(tmp_path: Path) -> None:
    assert open_events(tmp_path, ["1,2026-01-01 10:00:00,open"]).span.days == 1


@pytest.mark.parametrize(
    ("first", "last", "chosen"),
    [
        ("2025-10-01", "2026-06-30", "2026Q2"), ("2025-10-01", "2026-06-29", "2026Q1"),
        ("2025-11-20", "2025-12-30", "2025Q4"), ("2025-12-30", "2026-01-03", "2025Q4"),
        ("2026-01-02", "2026-01-03", "2026Q1"),
    ],
)  # fmt: skip
def test_the_last_complete_quarter(first: str, last: str, chosen: str, tmp_path: Path) -> None:
    data = open_events(tmp_path, [f"1,{first},open", f"1,{last},open"])
    assert str(data.choose_quarter()) == chosen


def test_quarters_that_the_data_reach(tmp_path: Path) -> None:
    data = open_events(tmp_path, ["1,2025-12-31 23:30:00,open", "1,2026-04-01 23:30:00,open"])
    assert [str(data.choose_quarter(q)) for q in ("2025Q4", "2026q1", "2026-Q2")] == ["2025Q4", "2026Q1", "2026Q2"]
    for outside in ("2025Q3", "2026Q3"):
        with pytest.raises(InputError, match=r"from 2025-12-31 to 2026-04-01. Choose one from 2025Q4 to 2026Q2"):
            data.choose_quarter(outside)
    with pytest.raises(InputError, match="'Q2' is not a quarter"):
        data.choose_quarter("Q2")


def test_the_companys_zone_decides_the_day(tmp_path: Path) -> None:
    rows = ["1,2026-01-01 15:59:59,open", "1,2026-01-01 16:00:00,open", "1,2026-01-02 01:00:00,open"]
    assert days(open_events(tmp_path, rows)) == [(1, "2026-01-01"), (1, "2026-01-02")]
    assert days(open_events(tmp_path, rows, company=SHANGHAI)) == [(1, "2026-01-01"), (1, "2026-01-02")]
    assert days(open_events(tmp_path, rows[1:], company=SHANGHAI)) == [(1, "2026-01-02")]


def test_days_around_a_change_of_the_clock(tmp_path: Path) -> None:
    # 23:30 UTC is the next day in London's summer only.
    rows = [f"{i},2026-{day} 23:30:00,open" for i, day in enumerate(("03-28", "03-29", "06-01"), 1)]
    data = open_events(tmp_path, rows, company=COMPANY + 'timezone = "Europe/London"\n')
    assert days(data) == [(1, "2026-03-28"), (2, "2026-03-30"), (3, "2026-06-02")]


KINDS = ["1,2026-01-01,open", "1,2026-01-02,close", "2,2026-01-01,push", "2,2026-01-01,open", "3,2026-01-03,push"]


@pytest.mark.parametrize(
    ("activity", "expected"),
    [
        ("", [(1, "2026-01-01"), (1, "2026-01-02"), (2, "2026-01-01"), (3, "2026-01-03")]),
        ("events = ['open']", [(1, "2026-01-01"), (2, "2026-01-01")]),
        ("except_events = ['push']", [(1, "2026-01-01"), (1, "2026-01-02"), (2, "2026-01-01")]),
        ("events = ['open', 'close']\nexcept_events = ['close']", [(1, "2026-01-01"), (2, "2026-01-01")]),
    ],
)
def test_what_counts_as_active(activity: str, expected: list[tuple[int, str]], tmp_path: Path) -> None:
    assert days(open_events(tmp_path, KINDS, f"[activity]\n{activity}\n")) == expected


def test_activity_by_orders(tmp_path: Path) -> None:
    orders = "user_id,ts,amount\n9,2026-02-01,1\n9,2026-02-01,2\n"
    files = {"events.csv": GOOD, "orders.csv": orders}
    assert open_company(tmp_path, files, EVENTS + ORDERS).activity_name == "events"  # type: ignore[arg-type]
    data = open_company(tmp_path, files, EVENTS + ORDERS + '[activity]\ntable = "orders"\n')  # type: ignore[arg-type]
    assert days(data) == [(9, "2026-02-01")]
    assert data.as_of == dt.date(2026, 2, 1)
    assert open_company(tmp_path, {"orders.csv": orders}, ORDERS).activity_name == "orders"


@pytest.fixture
def segmented(tmp_path: Path) -> Data:
    return open_company(tmp_path, {"events.csv": GOOD, "users.csv": USER_ROWS}, EVENTS + USERS)


def test_segments_of_users(segmented: Data) -> None:
    assert segmented.segment_columns == ["channel", "is_vip", "city"]
    sizes = {
        s: segmented.execute(segmented.restrict(segmented.active_days, s).user_id.nunique())
        for s in ("", "channel:search", "channel:<script>", "is_vip:true", "city:北京", "city:a:b")
    }
    assert sizes == {"": 5, "channel:search": 2, "channel:<script>": 1, "is_vip:true": 3, "city:北京": 1, "city:a:b": 1}
    for segment in sizes:
        segmented.check_segment(segment)


@pytest.mark.parametrize(
    ("segment", "parts"),
    [
        ("chanel:search", ["no column 'chanel'", "Did you mean 'channel'?", "channel, is_vip, city"]),
        ("user_id:1", ["no column 'user_id'"]),
        ("channel:serch", ["nobody has channel 'serch'", "Did you mean 'search'?", "search, <script>, direct"]),
        ("is_vip:yes", ["nobody has is_vip 'yes'"]),
        ("city:' OR 1=1 --", ["nobody has city"]),
    ],
)
def test_unknown_segments(segmented: Data, segment: str, parts: list[str]) -> None:
    with pytest.raises(InputError) as error:
        segmented.check_segment(segment)
    for part in parts:
        assert part in str(error.value)


def test_every_offered_flag_value_is_taken(segmented: Data) -> None:
    with pytest.raises(InputError) as error:
        segmented.check_segment("is_vip:maybe")
    offered = str(error.value).split("Values: ")[1].rstrip(".").split(", ")
    assert len(offered) == 2
    sizes = []
    for value in offered:
        segmented.check_segment(f"is_vip:{value}")
        sizes.append(segmented.execute(segmented.restrict(segmented.active_days, f"is_vip:{value}").user_id.nunique()))
    assert sorted(sizes) == [2, 3]


def test_segments_of_orders_where_there_are_no_users(tmp_path: Path) -> None:
    orders = "user_id,ts,amount,Country\n1,2026-02-01,1,FR\n1,2026-01-01,2,DE\n2,2026-01-01,3,FR\n"
    data = open_company(tmp_path, {"orders.csv": orders}, ORDERS)
    assert data.segment_columns == ["Country"]
    # A user belongs where the first order was.
    assert data.execute(data.restrict(data.active_days, "Country:DE"))["user_id"].tolist() == [1, 1]
    assert data.execute(data.restrict(data.active_days, "Country:FR"))["user_id"].tolist() == [2]
    with pytest.raises(InputError, match="no user attributes"):
        open_company(tmp_path, {"orders.csv": "user_id,ts,amount\n1,2026-01-01,1\n"}, ORDERS).check_segment("a:b")


def test_two_openings_have_one_fingerprint(tmp_path: Path) -> None:
    playbook = write_company(tmp_path, {"events.csv": GOOD})
    first = open_data(playbook).fingerprint
    assert first == open_data(playbook).fingerprint
    assert len(first) == 64
    (tmp_path / "other.csv").write_text("not named in the playbook")
    assert first == open_data(playbook).fingerprint


@pytest.mark.parametrize("change", ["one digit", "a row", "the playbook"])
def test_a_change_changes_the_fingerprint(change: str, tmp_path: Path) -> None:
    playbook = write_company(tmp_path, {"events.csv": GOOD})
    first = open_data(playbook).fingerprint
    if change == "the playbook":
        playbook.write_text(playbook.read_text() + "# a note\n")
    else:
        text = GOOD.replace("2026-03-10", "2026-03-11", 1) if change == "one digit" else GOOD + "1,2026-01-01,x\n"
        (tmp_path / "events.csv").write_text(text)
    assert open_data(playbook).fingerprint != first


def test_a_folder_of_parts(tmp_path: Path) -> None:
    parts = {f"parts/{i}.csv": HEAD + f"{i},2026-01-0{i},open\n" for i in range(1, 4)}
    tables = EVENTS.replace("events.csv", "parts")
    data = open_company(tmp_path, parts, tables)  # type: ignore[arg-type]
    assert days(data) == [(1, "2026-01-01"), (2, "2026-01-02"), (3, "2026-01-03")]
    before = data.fingerprint
    (tmp_path / "parts" / "4.csv").write_text(HEAD + "4,2026-01-04,open\n")
    assert open_data(tmp_path / "playbook.toml").fingerprint != before


def test_tables_of_a_duckdb_file(tmp_path: Path) -> None:
    connection = ibis.duckdb.connect(tmp_path / "shop.duckdb")
    connection.raw_sql("CREATE TABLE log AS SELECT 1 AS uid, TIMESTAMP '2026-01-01 10:00:00' AS ts, 'open' AS event")
    connection.raw_sql(
        "CREATE SCHEMA \"s\"; CREATE TABLE s.log AS SELECT 2 AS uid, DATE '2026-01-02' AS ts, 'x' AS event"
    )
    connection.disconnect()
    tables = '[data]\nurl = "shop.duckdb"\n[tables.events]\nsource = "{}"\ncolumns = {{ user_id = "uid" }}\n'
    assert days(open_company(tmp_path, {}, tables.format("log"))) == [(1, "2026-01-01")]
    assert days(open_company(tmp_path, {}, tables.format("s.log"))) == [(2, "2026-01-02")]
    with pytest.raises(InputError, match=r"no table 'lgo' in the database. Did you mean 'log'?"):
        open_company(tmp_path, {}, tables.format("lgo"))
    data = open_company(tmp_path, {}, tables.format("log"))
    assert data.fingerprint == open_data(tmp_path / "playbook.toml").fingerprint


def test_a_table_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"has no table spend \(one day's spend on one channel\): date, channel, amount"
    ):
        open_events(tmp_path, DAYS).table("spend")


def test_times_that_cannot_be_read_give_no_calendar(tmp_path: Path) -> None:
    data = open_events(tmp_path, ["1,soon,open"])
    with pytest.raises(InputError, match="No table has a row with a time"):
        _ = data.calendar
    with pytest.raises(InputError, match="events has no rows with a time"):
        _ = data.span


def test_weeks_start_as_the_playbook_says(tmp_path: Path) -> None:
    from opslib.measure.growth import account_growth

    rows = ["1,2026-01-03,x", "1,2026-01-04,x", "1,2026-01-05,x"]  # Saturday, Sunday, Monday
    for start, first in (("monday", "2025-12-29"), ("sunday", "2025-12-28"), ("saturday", "2026-01-03")):
        data = open_events(tmp_path, rows, company=COMPANY + f'week_start = "{start}"\n')
        growth = account_growth(data.active_days, data.span, grain="week", week_start=data.calendar.week_start)
        assert str(growth.periods["period_start"][0])[:10] == first
        assert growth.periods["closing_count"].tolist() == ([1] if start == "saturday" else [1, 1])

"""A user's columns become the contract's: times in UTC, ids, numbers, flags."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opslib.data.source import Data
from tests.data.company import EVENTS, GOOD, ORDERS, find_problems, open_company, open_events

MOMENT = dt.datetime(2026, 3, 1, 23, 30, 15)
EPOCH = dt.datetime(1970, 1, 1)
SECONDS = int((MOMENT - EPOCH).total_seconds())
PARQUET = EVENTS.replace("csv", "parquet")


def times(data: Data, table: str = "events") -> list[dt.datetime]:
    return [t.to_pydatetime() for t in data.execute(data.table(table).order_by("user_id"))["ts"]]


@pytest.mark.parametrize(("unit", "size"), [("s", 1), ("ms", 10**3), ("us", 10**6), ("ns", 10**9)])
@pytest.mark.parametrize("kind", ["csv", "int", "float", "text"])
def test_counts_since_1970(unit: str, size: int, kind: str, tmp_path: Path) -> None:
    values: list[object] = [SECONDS * size, (SECONDS + 1) * size]
    if kind in ("float", "text"):
        values = [float(v) if kind == "float" else str(v) for v in values]  # type: ignore[arg-type]
    name = "events.csv" if kind == "csv" else "events.parquet"
    frame = pd.DataFrame({"user_id": [1, 2], "ts": values, "event": "x"})
    options = f'columns = {{ ts = {{ column = "ts", unit = "{unit}" }} }}\n'
    data = open_company(tmp_path, {name: frame}, EVENTS.replace("events.csv", name) + options)
    assert data.fitness.verdict == "fit"
    found = times(data)
    precision = dt.timedelta(milliseconds=1 if unit == "ns" and kind in ("float", "text") else 0)
    assert abs(found[0] - MOMENT) <= precision
    assert abs(found[1] - MOMENT - dt.timedelta(seconds=1)) <= precision


def test_fractions_of_seconds_are_not_rounded_to_the_next_day(tmp_path: Path) -> None:
    options = 'columns = { ts = { column = "ts", unit = "s" } }\n'
    data = open_events(tmp_path, ["1,1767225599.75,x"], options)
    assert times(data) == [dt.datetime(2025, 12, 31, 23, 59, 59, 750_000)]


def test_counts_that_are_no_time(tmp_path: Path) -> None:
    frame = pd.DataFrame({"user_id": [1, 2, 3], "ts": [float(SECONDS), 9e99, None], "event": "x"})
    options = 'columns = { ts = { column = "ts", unit = "s" } }\ndrop = ["unparsable", "null_key"]\n'
    data = open_company(tmp_path, {"events.parquet": frame}, PARQUET + options)
    assert find_problems(data) == {
        ("unparsable", "events.ts"): (1, "warning"),
        ("null_key", "events.ts"): (1, "warning"),
    }
    assert times(data) == [MOMENT]


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("01-03-26 23:30:15", "%d-%m-%y %H:%M:%S"), ("03/01/2026 11:30:15 PM", "%m/%d/%Y %I:%M:%S %p"),
        ("01.03.2026 23:30:15", "%d.%m.%Y %H:%M:%S"), ("20260301233015", "%Y%m%d%H%M%S"),
        ("2026年03月01日 23:30:15", "%Y年%m月%d日 %H:%M:%S"), ("02/Mar/2026:07:30:15 +0800", "%d/%b/%Y:%H:%M:%S %z"),
        ("1-Mar-2026 23.30.15", "%d-%b-%Y %H.%M.%S"), (" 01-03-26 23:30:15 ", "%d-%m-%y %H:%M:%S"),
    ],
)  # fmt: skip
def test_formats(text: str, form: str, tmp_path: Path) -> None:
    data = open_events(tmp_path, [f"1,{text},x"], f'columns = {{ ts = {{ column = "ts", format = "{form}" }} }}\n')
    assert data.fitness.verdict == "fit"
    assert times(data) == [MOMENT]


def test_a_format_with_a_zone_beats_the_columns_zone(tmp_path: Path) -> None:
    options = 'columns = { ts = { column = "ts", format = "%d/%m/%Y %H:%M %z", timezone = "Asia/Tokyo" } }\n'
    assert times(open_events(tmp_path, ["1,01/03/2026 10:00 +0100,x"], options)) == [dt.datetime(2026, 3, 1, 9)]


def test_numbers_that_read_like_dates(tmp_path: Path) -> None:
    options = 'columns = { ts = { column = "ts", format = "%Y%m%d" } }\n'
    frame = pd.DataFrame({"user_id": [1, 2], "ts": [20260301, 20260399], "event": "x"})
    data = open_company(tmp_path, {"events.parquet": frame}, PARQUET + options)
    assert find_problems(data) == {("unparsable", "events.ts"): (1, "unfit")}
    assert data.fitness.problems[0].examples == ("'20260399'",)


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC", "Asia/Shanghai"])
def test_timestamps_of_parquet(unit: str, zone: str | None, tmp_path: Path) -> None:
    def write(path: Path) -> None:
        value = MOMENT.replace(tzinfo=dt.UTC) if zone else MOMENT
        table = {"user_id": [1], "ts": pa.array([value], pa.timestamp(unit, zone)), "event": ["x"]}
        pq.write_table(pa.table(table), path, version="2.6")

    data = open_company(tmp_path, {"events.parquet": write}, PARQUET)
    assert data.fitness.verdict == "fit"
    assert times(data) == [MOMENT]


def test_dates_of_parquet(tmp_path: Path) -> None:
    frame = pd.DataFrame({"user_id": [1], "ts": [dt.date(2026, 3, 1)], "event": "x"})
    data = open_company(tmp_path, {"events.parquet": frame}, PARQUET)
    assert times(data) == [dt.datetime(2026, 3, 1)]
    assert data.fitness.profiles[0].whole_days
    local = 'columns = { ts = { column = "ts", timezone = "Asia/Shanghai" } }\n'
    assert times(open_company(tmp_path, {"events.parquet": frame}, PARQUET + local)) == [dt.datetime(2026, 2, 28, 16)]


@pytest.mark.parametrize(
    ("wall", "utc"),
    [
        ("2026-03-29 00:59:59", "2026-03-29 00:59:59"), ("2026-03-29 02:00:00", "2026-03-29 01:00:00"),
        ("2026-10-25 00:59:59", "2026-10-24 23:59:59"), ("2026-10-25 01:30:00", "2026-10-25 00:30:00"),
        ("2026-10-25 02:00:00", "2026-10-25 02:00:00"), ("1997-07-01 12:00:00", "1997-07-01 11:00:00"),
        ("2038-07-01 12:00:00", "2038-07-01 11:00:00"),
    ],
)  # fmt: skip
def test_walls_of_london(wall: str, utc: str, tmp_path: Path) -> None:
    options = 'columns = { ts = { column = "ts", timezone = "Europe/London" } }\n'
    company = '[company]\nname = "x"\ndata_until = 2040-01-01\n'
    assert times(open_events(tmp_path, [f"1,{wall},x"], options, company)) == [dt.datetime.fromisoformat(utc)]


@settings(max_examples=5)
@given(moments=st.lists(st.datetimes(dt.datetime(1991, 1, 1), dt.datetime(2026, 6, 1)), min_size=20, max_size=60))
def test_texts_are_read_back(moments: list[dt.datetime], tmp_path_factory: pytest.TempPathFactory) -> None:
    rows = [f"{i},{m.isoformat(sep=' ')},x" for i, m in enumerate(moments)]
    data = open_events(tmp_path_factory.mktemp("iso"), rows)
    assert times(data) == moments


def test_ids(tmp_path: Path) -> None:
    frame = pd.DataFrame({"user_id": [17850.0, 12.0, None, 1.5], "ts": pd.Timestamp("2026-01-01"), "event": "x"})
    frame["ts"] = pd.Timestamp("2026-01-01")
    data = open_company(tmp_path, {"events.parquet": frame}, PARQUET + 'drop = ["null_key", "unparsable"]\n')
    assert find_problems(data) == {
        ("unparsable", "events.user_id"): (1, "warning"), ("null_key", "events.user_id"): (1, "warning"),
    }  # fmt: skip
    assert sorted(data.execute(data.table("events"))["user_id"]) == [12, 17850]
    text = 'columns = { user_id = { column = "user_id", type = "text" } }\ndrop = ["null_key"]\n'
    data = open_company(tmp_path, {"events.parquet": frame}, PARQUET + text)
    assert sorted(data.execute(data.table("events"))["user_id"]) == ["1.5", "12", "17850"]


def test_nan_is_no_id(tmp_path: Path) -> None:
    def write(path: Path) -> None:
        table = {"user_id": pa.array([1.0, float("nan")]), "ts": [MOMENT] * 2, "event": ["x"] * 2}
        pq.write_table(pa.table(table), path)

    data = open_company(tmp_path, {"events.parquet": write}, PARQUET)
    assert find_problems(data) == {("null_key", "events.user_id"): (1, "unfit")}


def test_type_text_keeps_leading_zeros(tmp_path: Path) -> None:
    data = open_events(
        tmp_path,
        ["007,2026-01-01,x", "7,2026-01-01,x"],
        'columns = { user_id = { column = "user_id", type = "text" } }\n',
    )
    assert sorted(data.execute(data.table("events"))["user_id"]) == ["007", "7"]


def test_a_number_here_and_a_text_there_can_be_joined(tmp_path: Path) -> None:
    users = "user_id,signup_at,channel\n1,2026-01-01,a\n2,2026-01-01,b\nx,2026-01-01,b\n"
    tables = (
        EVENTS + 'columns = { user_id = { column = "user_id", type = "text" } }\n[tables.users]\nsource = "users.csv"\n'
    )
    data = open_company(tmp_path, {"events.csv": GOOD, "users.csv": users}, tables)
    assert find_problems(data) == {("unknown_user", "events.user_id"): (54, "warning")}
    assert data.execute(data.restrict(data.active_days, "channel:a").user_id.nunique()) == 1


def test_products_of_columns(tmp_path: Path) -> None:
    text = "user_id,ts,q,p\n1,2026-01-01,2,3.5\n2,2026-01-01,-1,4\n"
    data = open_company(tmp_path, {"orders.csv": text}, ORDERS + 'columns = { amount = { multiply = ["q", "p"] } }\n')
    assert data.execute(data.table("orders").order_by("user_id"))["amount"].tolist() == [7, -4]
    assert {"q", "p"}.isdisjoint(data.table("orders").columns)


def test_words_in_a_product_are_found(tmp_path: Path) -> None:
    text = "user_id,ts,q,p\n1,2026-01-01,2,3.5\n2,2026-01-01,many,4\n"
    options = 'columns = { amount = { multiply = ["q", "p"] } }\ndrop = ["unparsable"]\n'
    data = open_company(tmp_path, {"orders.csv": text}, ORDERS + options)
    assert find_problems(data) == {("unparsable", "orders.amount"): (1, "warning")}
    assert data.fitness.problems[0].examples == ("'many'",)
    assert data.execute(data.table("orders"))["amount"].tolist() == [7]


def test_one_value_for_all_rows(tmp_path: Path) -> None:
    text = "user_id,ts\n1,2026-01-01\n"
    data = open_company(tmp_path, {"events.csv": text}, EVENTS + 'columns = { event = { value = "open" } }\n')
    assert data.execute(data.table("events"))["event"].tolist() == ["open"]


def test_names_in_capitals(tmp_path: Path) -> None:
    text = "USER_ID,Ts,Event,EXTRA\n1,2026-01-01,open,a\n"
    data = open_company(tmp_path, {"events.csv": text})
    assert data.table("events").columns == ("user_id", "ts", "event", "EXTRA")


def test_a_mapped_column_hides_the_same_name_in_capitals(tmp_path: Path) -> None:
    text = "user_id,ts,Amount,net\n1,2026-01-01,5,4\n"
    data = open_company(tmp_path, {"orders.csv": text}, ORDERS + 'columns = { amount = "net" }\n')
    assert data.execute(data.table("orders").select("amount"))["amount"].tolist() == [4]


@pytest.mark.parametrize(
    "values", [["true", "no", "1", "F", ""], [True, False, True, False, None], [1.0, 0.0, 1.0, 0.0, None]]
)
def test_flags(values: list[object], tmp_path: Path) -> None:
    frame = pd.DataFrame({
        "ticket_id": range(5), "user_id": 1, "opened_at": pd.Timestamp("2026-01-01"), "is_complaint": values,
    })  # fmt: skip
    tables = EVENTS + '[tables.tickets]\nsource = "tickets.parquet"\n'
    data = open_company(tmp_path, {"events.csv": GOOD, "tickets.parquet": frame}, tables)
    found = data.execute(data.table("tickets").order_by("ticket_id"))["is_complaint"].tolist()
    assert [bool(v) for v in found[:4]] == [True, False, True, False]
    assert pd.isna(found[4])
    assert data.fitness.verdict == "fit"


def test_types_that_cannot_serve(tmp_path: Path) -> None:
    frame = pd.DataFrame({"user_id": [True], "ts": [1767225600], "event": "x"})
    data = open_company(tmp_path, {"events.parquet": frame}, PARQUET)
    assert set(find_problems(data)) == {("wrong_type", "events.user_id"), ("wrong_type", "events.ts")}
    assert "unit = 's'" in data.fitness.to_text()

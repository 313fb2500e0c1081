"""The calls to Ibis and DuckDB that opslib relies on, each by itself.

Ibis sets no upper bound on DuckDB and sqlglot, and newer ones have broken these calls (docs/adr/0001). When a
bound in pyproject.toml is to move, this file says whether it may.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import ibis
import pandas as pd
import pyarrow as pa
import pytest
from ibis.backends.duckdb import Backend


def _make_events() -> pa.Table:
    return pa.table(
        {
            "user_id": pa.array([1, 1, 2], pa.int64()),
            "ts": pa.array([datetime(2026, 1, day) for day in (1, 3, 2)], pa.timestamp("us")),
            "event": pa.array(["open", "buy", "打开"]),
        }
    )


@pytest.fixture(params=["memory", "file"])
def con(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Backend]:
    """A connection to an empty database, in memory and in a file whose name needs quoting."""
    where = ":memory:" if request.param == "memory" else tmp_path / "a company's data.duckdb"
    connection = ibis.duckdb.connect(where)
    yield connection
    connection.disconnect()


def test_create_list_and_drop_a_table(con: Backend) -> None:
    assert con.list_tables() == []
    table = con.create_table("events", _make_events())
    assert con.list_tables() == ["events"]
    assert table.count().execute() == 3
    con.create_table("events", _make_events().slice(0, 1), overwrite=True)
    assert con.table("events").count().execute() == 1
    con.drop_table("events")
    assert con.list_tables() == []
    con.drop_table("events", force=True)


def test_create_a_table_from_an_expression_and_from_a_schema(con: Backend) -> None:
    events = con.create_table("events", _make_events())
    buyers = con.create_table("buyers", events.filter(events.event == "buy").select("user_id"))
    assert buyers.execute()["user_id"].tolist() == [1]
    empty = con.create_table("empty", schema=ibis.schema({"user_id": "int64", "ts": "timestamp"}))
    assert empty.count().execute() == 0


def test_create_a_temporary_table(con: Backend) -> None:
    con.create_table("narrow", _make_events(), temp=True)
    assert con.table("narrow").count().execute() == 3


def test_create_replace_and_drop_a_view(con: Backend) -> None:
    events = con.create_table("events", _make_events())
    con.create_view("opens", events.filter(events.event == "open"))
    assert set(con.list_tables()) == {"events", "opens"}
    con.create_view("opens", events.filter(events.event != "buy"), overwrite=True)
    assert con.table("opens").count().execute() == 2
    con.drop_view("opens")
    assert con.list_tables() == ["events"]


def test_names_that_need_quoting(con: Backend) -> None:
    name, column = 'odd "table" -- name', 'größe; "quoted" 列'
    con.create_table(name, pa.table({column: [1, 2]}))
    assert con.list_tables() == [name]
    assert con.table(name)[column].sum().execute() == 3
    con.create_view(name + " view", con.table(name))
    con.drop_view(name + " view")
    con.drop_table(name)
    assert con.list_tables() == []


@pytest.mark.parametrize("rows", ["pandas", "arrow", "expression"])
def test_insert_rows(con: Backend, rows: str) -> None:
    events = con.create_table("events", _make_events())
    added = {"pandas": _make_events().to_pandas(), "arrow": _make_events(), "expression": events.limit(3)}[rows]
    con.insert("events", added)
    assert con.table("events").count().execute() == 6


def test_read_parquet_by_path_by_glob_and_with_another_column_order(con: Backend, tmp_path: Path) -> None:
    _make_events().to_pandas().to_parquet(tmp_path / "part 1.parquet")
    _make_events().select(["event", "ts", "user_id"]).to_pandas().to_parquet(tmp_path / "part 2.parquet")
    one = con.read_parquet(tmp_path / "part 1.parquet", table_name="one")
    both = con.read_parquet(str(tmp_path / "*.parquet"), table_name="both", union_by_name=True)
    assert one.count().execute() == 3
    assert both.group_by("event").agg(n=both.count()).order_by("event").execute()["n"].tolist() == [2, 2, 2]


def test_read_csv_with_text_columns(con: Backend, tmp_path: Path) -> None:
    path = tmp_path / "events.csv"
    path.write_text("user_id,ts,name\n007,2026-01-01 00:00:00,打开\n008,oops,=1\n", encoding="utf-8")
    table = con.read_csv(path, table_name="raw", all_varchar=True)
    assert table.schema() == ibis.schema({"user_id": "string", "ts": "string", "name": "string"})
    assert table.execute()["user_id"].tolist() == ["007", "008"]
    parsed = table.ts.try_cast("timestamp")
    assert parsed.isnull().sum().execute() == 1


def test_results_as_pandas_and_as_arrow(con: Backend) -> None:
    events = con.create_table("events", _make_events())
    frame = events.order_by("ts").to_pandas()
    assert isinstance(frame, pd.DataFrame)
    assert frame["ts"].tolist() == [pd.Timestamp(2026, 1, day) for day in (1, 2, 3)]
    assert frame["event"].tolist() == ["open", "打开", "buy"]
    arrow = events.order_by("ts").to_pyarrow()
    assert isinstance(arrow, pa.Table)
    assert arrow.column("user_id").to_pylist() == [1, 2, 1]
    assert sum(batch.num_rows for batch in events.to_pyarrow_batches()) == 3


def test_raw_sql_and_compiled_sql(con: Backend) -> None:
    events = con.create_table("events", _make_events())
    assert con.raw_sql("SELECT count(*) FROM events").fetchall() == [(3,)]
    compiled = ibis.to_sql(events.count(), dialect="duckdb")
    assert con.raw_sql(str(compiled)).fetchall() == [(3,)]
    assert con.sql("SELECT DISTINCT user_id FROM events").count().execute() == 2


# No measure uses ASOF joins since the funnel left them (docs/adr/0005); that they work is still worth knowing.
def test_asof_join_takes_the_latest_row_at_or_before(con: Backend) -> None:
    steps = pa.table(
        {
            "user_id": pa.array([1, 1, 2, 2], pa.int64()),
            "step_ts": pa.array([datetime(2026, 1, day) for day in (1, 2, 5, 2)], pa.timestamp("us")),
        }
    )
    later = con.create_table("later", _make_events().select(["user_id", "ts"]))
    earlier = con.create_table("earlier", steps)
    joined = later.asof_join(earlier, on=later.ts >= earlier.step_ts, predicates=["user_id"])
    rows = joined.select("user_id", "ts", "step_ts").order_by("user_id", "ts").execute()
    assert rows["user_id"].tolist() == [1, 1, 2]
    assert [stamp.day for stamp in rows["ts"]] == [1, 3, 2]
    # The same moment counts (user 1 on day 1, user 2 on day 2); of several the latest (day 3 finds day 2).
    assert [stamp.day for stamp in rows["step_ts"]] == [1, 2, 2]


def test_asof_join_keeps_rows_without_a_match(con: Backend) -> None:
    later = con.create_table("later", _make_events().select(["user_id", "ts"]))
    earlier = con.create_table("earlier", schema=ibis.schema({"user_id": "int64", "step_ts": "timestamp"}))
    joined = later.asof_join(earlier, on=later.ts >= earlier.step_ts, predicates=["user_id"])
    assert joined.step_ts.isnull().sum().execute() == 3


def test_batches_are_read_ahead_with_a_larger_buffer(con: Backend) -> None:
    """What the packed funnel sets on DuckDB while it reads, and puts back."""
    ask = "SELECT current_setting('streaming_buffer_size')"
    before = con.raw_sql(ask).fetchone()[0]
    con.raw_sql("SET streaming_buffer_size = '64MB'")
    assert con.raw_sql(ask).fetchone()[0] != before
    con.raw_sql(f"SET streaming_buffer_size = '{before}'")
    assert con.raw_sql(ask).fetchone()[0] == before


def test_window_functions_case_and_intervals(con: Backend) -> None:
    events = con.create_table("events", _make_events())
    previous = events.ts.lag().over(group_by="user_id", order_by="ts")
    gaps = events.mutate(gap_days=(events.ts.epoch_seconds() - previous.epoch_seconds()) / 86_400)
    assert gaps.gap_days.max().execute() == 2
    shifted = events.ts + ibis.cases((events.user_id == 1, 3_600), else_=7_200).as_interval("s")
    hours = events.select(hour=shifted.hour()).execute()["hour"]
    assert sorted(hours) == [1, 1, 2]


def test_a_database_file_can_be_opened_again_read_only(tmp_path: Path) -> None:
    path = tmp_path / "shop.duckdb"
    writer = ibis.duckdb.connect(path)
    writer.create_table("events", _make_events())
    writer.disconnect()
    reader = ibis.duckdb.connect(path, read_only=True)
    assert reader.list_tables() == ["events"]
    assert reader.table("events").nunique().execute() == 3
    reader.disconnect()

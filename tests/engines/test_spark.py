"""Spark answers as the embedded engine does, no query fetches more than its result, a user's session stays as it is."""

from __future__ import annotations

import datetime as dt
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import ibis
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from opslib.data.source import Data, open_data
from opslib.errors import InputError
from tests.engines.answers import ANSWERS, LISTS_USERS
from tests.engines.companies import double_users, draw_tables, write_company, write_playbook
from tests.engines.compare import compare_answers, unfold
from tests.engines.decisions import DECISIONS
from tests.engines.expressions import EXPRESSIONS, TEXTS

pytestmark = pytest.mark.engines

SEED = 5
# What has a place for each of a hundred parts may not have used them all.
PARTS = 101
# Asked in every run; the others take minutes more.
FIRST = {
    "activity_of_a_quarter", "cohorts_of_days", "retention_of_a_quarter", "funnel", "funnel_of_attempts",
    "change_of_retention", "churn_by_silence", "survival", "rfm_of_customers", "experiment", "recall",
    "what_the_data_hold", "crisis", "daily_watch", "win_back",
}  # fmt: skip


def in_two_parts(names: Iterable[str]) -> list[Any]:
    """What is asked in every run, and the rest for slow ones."""
    return [name if name in FIRST else pytest.param(name, marks=pytest.mark.slow) for name in names]


@pytest.fixture(scope="session")
def embedded(part_playbook: Path) -> Data:
    """The part of the sample company on the embedded engine."""
    return open_data(part_playbook)


@pytest.fixture(scope="session")
def spread(spark: str, part_playbook: Path, sample_part: Mapping[str, pa.Table]) -> Data:
    """The same files, read by Spark."""
    return open_there(part_playbook.parent, sample_part, spark)


@pytest.fixture(scope="session")
def random_company(spark: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Data, Data, Data]:
    """A company of random streams: embedded, on Spark, and on Spark with everybody in it twice."""
    tables = draw_tables(SEED)
    folder = tmp_path_factory.mktemp("random")
    here = open_data(write_company(folder, tables))
    doubled = double_users(tables)
    write_company(folder / "twice", doubled)
    return here, open_there(folder, tables, spark), open_there(folder / "twice", doubled, spark)


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The rows that each query brought to this process."""
    from opslib.data.engines.spark import Backend

    rows: list[int] = []
    fetch = Backend._fetch

    def count(self: Backend, *args: Any, **options: Any) -> pa.Table:
        found = fetch(self, *args, **options)
        rows.append(found.num_rows)
        return found

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("rows left the engine in bulk")

    monkeypatch.setattr(Backend, "_fetch", count)
    monkeypatch.setattr(Backend, "to_pyarrow_batches", refuse)
    return rows


def open_there(folder: Path, tables: Mapping[str, Any], url: str) -> Data:
    """Open Parquet files by Spark."""
    return open_data(write_playbook(folder / "spark.toml", {name: f"{name}.parquet" for name in tables}, url=url))


def check_same(ask: Callable[[Data], Any], ours: Data, theirs: Data) -> None:
    assert compare_answers(unfold(ask(ours), fetch=True), unfold(ask(theirs), fetch=True)) == []


def test_two_processes_beside_this_one_work(spread: Data) -> None:
    spread.execute(spread.table("events").group_by("event").aggregate(n=lambda t: t.count()))
    workers = spread.connection._session.sparkContext._jsc.sc().statusStore().executorList(True)
    done = {workers.apply(i).id(): workers.apply(i).totalTasks() for i in range(workers.size())}
    assert set(done) == {"driver", "0", "1"}
    assert done["0"] > 0
    assert done["1"] > 0


@pytest.mark.parametrize("name", ANSWERS)
def test_answers_are_the_same(name: str, spread: Data, embedded: Data) -> None:
    check_same(ANSWERS[name], spread, embedded)


@pytest.mark.parametrize("name", in_two_parts(DECISIONS))
def test_decisions_are_the_same(name: str, spread: Data, embedded: Data) -> None:
    check_same(DECISIONS[name], spread, embedded)


@pytest.mark.parametrize("name", in_two_parts(ANSWERS))
def test_answers_on_a_random_stream_are_the_same_and_twice_the_users_fetch_no_more(
    name: str, random_company: tuple[Data, Data, Data], fetched: list[int]
) -> None:
    embedded, single, double = random_company
    ask = ANSWERS[name]
    found = ask(single)
    unfold(found)
    most = max(fetched, default=0)
    assert compare_answers(unfold(found, fetch=True), unfold(ask(embedded), fetch=True)) == []
    if name not in LISTS_USERS:
        fetched.clear()
        unfold(ask(double))
        # Rounding may put a few into other cells.
        assert max(fetched, default=0) <= max(most * 1.05 + 2, PARTS)


# Single expressions.


@pytest.fixture(scope="module")
def engines(spark: str) -> tuple[Any, Any]:
    """The embedded engine, and Spark."""
    from opslib.data.engines.spark import connect_spark

    here = ibis.duckdb.connect()
    here.raw_sql("SET TimeZone = 'UTC'")
    return here, connect_spark(spark)


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_an_expression_means_the_same(name: str, engines: tuple[Any, Any]) -> None:
    values, kind, make = EXPRESSIONS[name]
    table = ibis.memtable({"i": range(len(values)), "c": values}, schema={"i": "int64", "c": kind})
    asked = table.select(table.i, found=make(table.c)).order_by("i")
    here, there = (engine.execute(asked) for engine in engines)
    assert compare_answers(there["found"].tolist(), here["found"].tolist()) == []


def test_texts_sort_by_their_bytes(engines: tuple[Any, Any]) -> None:
    table = ibis.memtable({"c": TEXTS}, schema={"c": "string"})
    for engine in engines:
        found = engine.execute(table.filter(table.c.notnull()).order_by("c"))["c"].tolist()
        assert found == sorted(t for t in TEXTS if t is not None)
        ends = engine.execute(table.aggregate(low=table.c.nullif("").min(), high=table.c.max())).iloc[0].tolist()
        assert ends == ["%s %(x)s", "中文"]


FORMS = {
    "%d.%m.%Y": ["31.01.2026", "1.2.2026", "30.02.2026", "2026-01-31", "", None],
    "%Y/%m/%d %H:%M": ["2026/01/31 07:05", "2026/01/31", "2026/1/3 7:5", "2026/01/31 25:00"],
    "%d %b %Y %I:%M:%S %p": ["31 Jan 2026 11:05:06 PM", "31 Jan 2026 12:00:00 AM", "31 January 2026"],
    "%Y%m%d": ["20260131", "20261331"],
    "%Y%m%dT%H%M%S": ["20260131T070809", "20260131T246060"],
    "%y'%j": ["26'031"],
}


@pytest.mark.parametrize("form", FORMS)
def test_texts_are_read_by_a_form(form: str, spark: str, tmp_path: Path) -> None:
    texts = FORMS[form]
    events = pa.table({"user_id": range(len(texts)), "event": ["open"] * len(texts), "ts": texts})
    pq.write_table(events, tmp_path / "events.parquet")
    found = []
    for url in ("", spark):
        file = write_events_playbook(tmp_path, "events.parquet", url, form=form)
        found.append(read_times(open_data(file)))
    assert found[0] == found[1]
    assert any(found[0])


def test_a_form_that_spark_cannot_read_is_refused() -> None:
    from opslib.data.engines.spark_sql import translate_form

    with pytest.raises(InputError, match=r"'%Q': Spark cannot read %Q\. Known: %Y"):
        translate_form("%Q")


# Times of Parquet files.

MOMENTS = [dt.datetime(2026, 1, 1, 0, 30), dt.datetime(1969, 12, 31, 23, 59, 59, 250_000), None]


def write_events_playbook(folder: Path, source: str, url: str, *, form: str = "") -> Path:
    """A playbook over events alone."""
    file = folder / "playbook.toml"
    where = f'[data]\nurl = "{url}"\n' if url else ""
    columns = f'[tables.events.columns]\nts = {{ column = "ts", format = "{form}" }}\n' if form else ""
    file.write_text(
        f'[company]\nname = "A"\ntimezone = "Asia/Shanghai"\n{where}[tables.events]\nsource = "{source}"\n{columns}'
    )
    return file


def read_times(data: Data) -> list[dt.datetime | None]:
    table = data.mapped["events"].raw.select(**data.mapped["events"].columns).order_by("user_id")
    found = data.execute(table)["ts"]
    assert found.dt.tz is None
    return [None if moment is None or moment != moment else moment.to_pydatetime() for moment in found]


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (pa.timestamp("us"), {}),
        (pa.timestamp("ms"), {}),
        (pa.timestamp("us", "UTC"), {}),
        (pa.timestamp("us", "Asia/Shanghai"), {}),
        (pa.timestamp("us"), {"use_deprecated_int96_timestamps": True}),
        (pa.date32(), {}),
    ],
    ids=str,
)
def test_times_of_any_kind_are_those_of_the_embedded_engine(
    kind: Any, options: dict[str, Any], spark: str, tmp_path: Path
) -> None:
    moments = pa.array(MOMENTS, pa.timestamp("us"))
    if getattr(kind, "tz", None):
        moments = moments.cast(pa.timestamp("us", "UTC"))
    events = pa.table({"user_id": [1, 2, 3], "event": ["open"] * 3, "ts": moments.cast(kind, safe=False)})
    pq.write_table(events, tmp_path / "events.parquet", **options)
    here = read_times(open_data(write_events_playbook(tmp_path, "events.parquet", "")))
    there = read_times(open_data(write_events_playbook(tmp_path, "events.parquet", spark)))
    assert there == here
    assert here[2] is None


def test_files_may_be_a_folder_or_a_glob_and_lack_columns(spark: str, tmp_path: Path) -> None:
    one = pa.table({"user_id": [1], "event": ["open"], "ts": pa.array(MOMENTS[:1], pa.timestamp("us"))})
    other = one.set_column(0, "user_id", pa.array([2])).append_column("city", pa.array(["x"]))
    (tmp_path / "days").mkdir()
    pq.write_table(one, tmp_path / "days" / "1.parquet")
    pq.write_table(other.select(["city", "ts", "event", "user_id"]), tmp_path / "days" / "2.parquet")
    for source in ("days/", "days/*.parquet", str(tmp_path / "days"), (tmp_path / "days").as_uri()):
        data = open_data(write_events_playbook(tmp_path, source, spark))
        rows = data.execute(data.table("events").order_by("user_id"))
        assert rows["user_id"].tolist() == [1, 2]
        assert [city for city in rows["city"] if isinstance(city, str)] == ["x"]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("order", r"there is no table 'order' in Spark"),
        ("shop.order", r"there is no table 'shop.order' in Spark"),
        ("nowhere/orders.parquet", r"there is nothing at '.*nowhere/orders.parquet'"),
        ("nowhere/*.parquet", r"there is nothing at '.*nowhere/\*.parquet'"),
        ("playbook.toml/", r"cannot be read as Parquet"),
        ("nanoseconds.parquet", r"write them in microseconds"),
        ("hdfs://127.0.0.1:9/orders", r"'hdfs://127.0.0.1:9/orders' cannot be read"),
    ],
)
def test_a_table_is_missing_or_cannot_be_read(source: str, message: str, spark: str, tmp_path: Path) -> None:
    nanoseconds = pa.table({"user_id": [1], "ts": pa.array([0], pa.timestamp("ns"))})
    pq.write_table(nanoseconds, tmp_path / "nanoseconds.parquet")
    file = write_playbook(tmp_path / "playbook.toml", {"events": source}, url=spark)
    with pytest.raises(InputError, match=message) as caught:
        open_data(file)
    assert len(str(caught.value)) < 500
    assert "\n" not in str(caught.value)


# The user's own session.

USERS_OWN = {"spark.sql.session.timeZone": "Asia/Tokyo", "spark.sql.ansi.enabled": "false"}


@pytest.fixture
def own(spark: str) -> Iterator[Any]:
    """The session of a user, with settings of their own."""
    from pyspark.sql import SparkSession

    session = SparkSession.getActiveSession()
    assert session is not None
    before = {name: session.conf.get(name) for name in USERS_OWN}
    for name, value in USERS_OWN.items():
        session.conf.set(name, value)
    yield session
    for name, value in before.items():
        session.conf.set(name, value)


def test_a_session_that_is_there_is_taken_and_stays_as_it_is(own: Any, tmp_path: Path) -> None:
    from pyspark.sql import SparkSession

    sql = "SELECT id AS user_id, 'open' AS event, TIMESTAMP '2026-01-01 09:30:00' + MAKE_INTERVAL(0, 0, 0, id) AS ts"
    own.sql(f"{sql} FROM range(60)").createOrReplaceTempView("clicks")
    before = dict(own.sparkContext.getConf().getAll()), own.conf.getAll, tables_of(own)
    data = open_data(write_events_playbook(tmp_path, "clicks", "spark://"))
    assert data.execute(data.table("events").ts.min()) == dt.datetime(2026, 1, 1, 0, 30)
    assert data.execute(data.active_days.count()) == 60
    assert data.connection._session.conf.get("spark.sql.session.timeZone") == "UTC"
    assert (dict(own.sparkContext.getConf().getAll()), own.conf.getAll, tables_of(own)) == before
    active = SparkSession.getActiveSession()
    assert active is not None
    assert active._jsparkSession.equals(own._jsparkSession)
    assert own.sql("SELECT date_format(min(ts), 'HH:mm') FROM clicks").collect()[0][0] == "09:30"
    own.catalog.dropTempView("clicks")


def tables_of(session: Any) -> list[tuple[str, bool]]:
    return [(row.tableName, row.isTemporary) for row in session.sql("SHOW TABLES").collect()]


def test_a_process_has_but_one_spark(spark: str) -> None:
    from opslib.data.engines.spark import connect_spark

    with pytest.raises(InputError, match=r"has a Spark on local-cluster.* already.*spark://"):
        connect_spark("local[2]")


def test_what_nobody_refers_to_any_more_goes_with_the_next_query(engines: tuple[Any, Any]) -> None:
    _, there = engines
    held = there._session.sparkContext._jsc.getPersistentRDDs
    before = len(held()), len(there._cached_dataframes)
    kept = ibis.memtable({"a": [1, 2]}).mutate(b=1)
    kept = there._cached_table(kept)
    assert there.execute(kept.a.sum()) == 3
    assert (len(held()), len(there._cached_dataframes)) == (before[0] + 1, before[1] + 1)
    kept.release()
    there.execute(ibis.memtable({"a": [1]}).count())
    assert (len(held()), len(there._cached_dataframes)) == before


LEAVES_NOTHING = """
import sys
from opslib.data.source import open_data
data = open_data(sys.argv[1])
data.require_fit()
session = data.connection._session
assert data.execute(data.active_days.count()) > 0
print([t.tableName for t in session.sql("SHOW TABLES").collect() if not t.isTemporary], flush=True)
"""


def test_nothing_is_left_behind(
    spark_environment: dict[str, str], part_playbook: Path, sample_part: Mapping[str, Any], tmp_path: Path
) -> None:
    sources = {name: str(part_playbook.parent / f"{name}.parquet") for name in sample_part}
    file = write_playbook(tmp_path / "playbook.toml", sources, url="local[1]")
    for name in ("work", "scratch"):
        (tmp_path / name).mkdir()
    scratch = str(tmp_path / "scratch")
    env = {**os.environ, **spark_environment, "TMPDIR": scratch, "SPARK_LOCAL_DIRS": scratch}
    env["JDK_JAVA_OPTIONS"] = f"-Djava.io.tmpdir={scratch} -XX:-UsePerfData"
    done = subprocess.run(
        [sys.executable, "-c", LEAVES_NOTHING, str(file)],
        cwd=tmp_path / "work", env=env, capture_output=True, text=True, timeout=180, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "[]\n", "")
    assert list((tmp_path / "work").iterdir()) == []
    wait_until_gone(Path(scratch))


def wait_until_gone(folder: Path) -> None:
    """Java tidies up after this process has ended."""
    import time

    end = time.monotonic() + 20
    while (left := list(folder.iterdir())) and time.monotonic() < end:
        time.sleep(0.1)
    assert left == []

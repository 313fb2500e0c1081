"""Postgres answers as the embedded engine does, and no query fetches more than its result."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ibis
import pandas as pd
import pytest

from opslib.data.engines.address import read_address
from opslib.data.engines.postgres import Backend, connect_postgres
from opslib.data.source import Data, open_data
from opslib.decide.funnel.diagnosis import diagnose_funnel
from tests.engines.answers import ANSWERS, LISTS_USERS
from tests.engines.companies import double_users, draw_tables, write_company
from tests.engines.compare import compare_answers, unfold
from tests.engines.decisions import DECISIONS
from tests.engines.expressions import EXPRESSIONS, TEXTS
from tests.engines.postgres import KEEPER, READER, SCRATCH, Server

pytestmark = pytest.mark.engines

SEEDS = (1, 2)
PARTS = 101


@pytest.fixture(scope="session")
def embedded(part_playbook: Path) -> Data:
    """The part of the sample company on the embedded engine."""
    return open_data(part_playbook)


@pytest.fixture(scope="session")
def kept(postgres: Server, sample_database: str, sample_part: Mapping[str, Any], tmp_path_factory: Any) -> Data:
    """The same on Postgres, with a scratch schema."""
    file = tmp_path_factory.mktemp("kept") / "playbook.toml"
    return open_data(postgres.write_playbook(file, sample_database, sample_part, user=KEEPER, scratch=SCRATCH))


@pytest.fixture(scope="session")
def plain(postgres: Server, sample_database: str, sample_part: Mapping[str, Any], tmp_path_factory: Any) -> Data:
    """The same on Postgres, for somebody who may create nothing."""
    file = tmp_path_factory.mktemp("plain") / "playbook.toml"
    return open_data(postgres.write_playbook(file, sample_database, sample_part))


@pytest.fixture(scope="session")
def random_companies(postgres: Server, tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], tuple[Data, Data]]:
    """Companies of random streams by seed: embedded, and on Postgres."""

    @functools.cache
    def make(seed: int) -> tuple[Data, Data]:
        folder = tmp_path_factory.mktemp(f"random{seed}")
        tables = draw_tables(seed)
        postgres.load(f"random{seed}", tables)
        file = postgres.write_playbook(folder / "there.toml", f"random{seed}", tables, user=KEEPER, scratch=SCRATCH)
        return open_data(write_company(folder, tables)), open_data(file)

    return make


def check_same(ask: Callable[[Data], Any], ours: Data, theirs: Data) -> None:
    assert compare_answers(unfold(ask(ours), fetch=True), unfold(ask(theirs), fetch=True)) == []


@pytest.mark.parametrize("name", ANSWERS)
def test_answers_are_the_same_with_kept_tables(name: str, kept: Data, embedded: Data) -> None:
    check_same(ANSWERS[name], kept, embedded)


@pytest.mark.parametrize("name", ANSWERS)
def test_answers_are_the_same_where_nothing_may_be_created(name: str, plain: Data, embedded: Data) -> None:
    check_same(ANSWERS[name], plain, embedded)


@pytest.mark.parametrize("name", DECISIONS)
def test_decisions_are_the_same(name: str, kept: Data, embedded: Data) -> None:
    check_same(DECISIONS[name], kept, embedded)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", ANSWERS)
def test_answers_on_random_streams_are_the_same(
    name: str, seed: int, random_companies: Callable[[int], tuple[Data, Data]]
) -> None:
    embedded, there = random_companies(seed)
    check_same(ANSWERS[name], there, embedded)


def test_a_difference_would_be_found(kept: Data, embedded: Data) -> None:
    ours = unfold(diagnose_funnel(kept, days=28))
    theirs = unfold(diagnose_funnel(embedded, days=56))
    assert compare_answers(ours, theirs)


@pytest.fixture(scope="session")
def twins(postgres: Server, tmp_path_factory: pytest.TempPathFactory) -> tuple[Data, Data]:
    """A company on Postgres, and the same with twice the users."""
    folder = tmp_path_factory.mktemp("twins")
    tables = draw_tables(5)
    found = []
    for name, part in (("single", tables), ("double", double_users(tables))):
        postgres.load(name, part)
        file = postgres.write_playbook(folder / f"{name}.toml", name, part, user=KEEPER, scratch=SCRATCH)
        found.append(open_data(file))
    return found[0], found[1]


@pytest.mark.parametrize("name", [name for name in ANSWERS if name not in LISTS_USERS])
def test_no_query_fetches_more_where_there_are_more_users(
    name: str, twins: tuple[Data, Data], monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched: list[int] = []
    execute = Backend.execute

    def count(self: Backend, expression: Any, /, **options: Any) -> Any:
        found = execute(self, expression, **options)
        fetched.append(len(found) if isinstance(found, pd.DataFrame | pd.Series) else 1)
        return found

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("rows left the engine in bulk")

    monkeypatch.setattr(Backend, "execute", count)
    monkeypatch.setattr(Backend, "to_pyarrow_batches", refuse)
    most = []
    for data in twins:
        fetched.clear()
        unfold(ANSWERS[name](data))
        most.append(max(fetched, default=0))
    # Rounding may put a few into other cells; what has a place for each of a hundred parts may not have used them all.
    assert most[1] <= max(most[0] * 1.05 + 2, PARTS)


def test_columns_of_any_type_can_be_read(postgres: Server, tmp_path: Path) -> None:
    """Ids as uuid, padded or enumerated texts, amounts as decimals, times with a zone, short whole numbers."""
    postgres.run("CREATE DATABASE kinds")
    postgres.run(
        """
        CREATE TYPE step AS ENUM ('view_item', 'pay');
        CREATE DOMAIN money2 AS numeric(12, 2);
        CREATE SCHEMA "Shop 1";
        CREATE TABLE "Shop 1"."Event" (
            who uuid, at timestamptz, what step, kind char(8), price money2, n smallint, extra jsonb, tags text[]);
        INSERT INTO "Shop 1"."Event"
        SELECT ('00000000-0000-0000-0000-00000000000' || u)::uuid, '2026-01-01 07:30:00+08'::timestamptz
            + d * interval '1 day', (CASE WHEN d % 2 = 0 THEN 'view_item' ELSE 'pay' END)::step, 'ab', 1.10, 7,
            '{"a": 1}', ARRAY['x']
        FROM generate_series(1, 9) u, generate_series(0, 9) d;
        GRANT USAGE ON SCHEMA "Shop 1" TO PUBLIC; GRANT SELECT ON "Shop 1"."Event" TO PUBLIC;
        """,
        "kinds",
    )
    file = tmp_path / "playbook.toml"
    file.write_text(
        f'[company]\nname = "Kinds"\ntimezone = "Asia/Shanghai"\n[data]\nurl = "{postgres.url("kinds")}"\n'
        '[tables.events]\nsource = "Shop 1.Event"\n'
        '[tables.events.columns]\nuser_id = "who"\nts = "at"\nevent = "what"\n'
    )
    data = open_data(file)
    assert data.fitness.verdict == "fit"
    events = data.table("events")
    rows = data.execute(events.order_by(["user_id", "ts"]).limit(2))
    assert rows["ts"].tolist() == [pd.Timestamp("2025-12-31 23:30"), pd.Timestamp("2026-01-01 23:30")]
    assert rows["event"].tolist() == ["view_item", "pay"]
    assert rows["kind"].tolist() == ["ab", "ab"]
    assert float(data.execute(events.price.sum())) == pytest.approx(99.0)
    assert data.execute(events.filter(events.kind == "ab").count()) == 90
    assert data.execute(events.event.max()) == "view_item"


@pytest.fixture(scope="module")
def engines(postgres: Server) -> tuple[Any, Any]:
    """The embedded engine, and Postgres, for single expressions."""
    here = ibis.duckdb.connect()
    here.raw_sql("SET TimeZone = 'UTC'")
    return here, connect_postgres(read_address(postgres.url("postgres", user=READER)))


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

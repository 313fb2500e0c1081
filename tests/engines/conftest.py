"""What tests of other engines may use: a Postgres with the sample company in it, and a Spark."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from tests.engines.companies import take_part, write_company
from tests.engines.postgres import Server, find_programs
from tests.engines.spark import CLUSTER, find_missing, prepare_environment


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """A Postgres of our own."""
    programs = find_programs()
    if programs is None:
        pytest.skip("needs Postgres: `.ci/install-engines` installs Debian's package")
    server = Server(programs)
    try:
        yield server
    finally:
        server.remove()


@pytest.fixture(scope="session")
def sample_part(samples: Path) -> dict[str, pa.Table]:
    """Every twentieth user of the sample company."""
    return take_part(samples)


@pytest.fixture(scope="session")
def part_playbook(sample_part: dict[str, pa.Table], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The part as Parquet files, for the embedded engine."""
    return write_company(tmp_path_factory.mktemp("part"), sample_part)


@pytest.fixture(scope="session")
def sample_database(postgres: Server, sample_part: dict[str, pa.Table]) -> str:
    """The part in a database of that name."""
    postgres.load("sample", sample_part)
    return "sample"


@pytest.fixture(scope="session")
def spark_environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The variables for processes that start a Spark."""
    if missing := find_missing():
        pytest.skip(f"needs {missing}: `.ci/install-engines` installs it")
    return prepare_environment(tmp_path_factory.mktemp("spark"))


@pytest.fixture(scope="session")
def spark(spark_environment: dict[str, str]) -> Iterator[str]:
    """The URL of a Spark that runs in this process, and in two beside it."""
    from opslib.data.engines.spark import connect_spark

    with pytest.MonkeyPatch.context() as environment:
        for name, value in spark_environment.items():
            environment.setenv(name, value)
        connection = connect_spark(CLUSTER)
        yield CLUSTER
        connection._session.sparkContext.stop()

"""What tests of other engines may use: a Postgres with the sample company in it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from tests.engines.companies import take_part, write_company
from tests.engines.postgres import Server, find_programs


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

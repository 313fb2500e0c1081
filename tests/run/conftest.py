"""One report of fake notebooks, made once, that many tests look at."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests.run import fakes

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def fake_source(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test here opens real data unless it says so."""
    monkeypatch.setitem(sys.modules, "opslib.data.source", fakes.fake_source_module())


@pytest.fixture(scope="session")
def notebooks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the two notebooks of the registry, both good, with hostile values in them."""
    return fakes.write_good_notebooks(tmp_path_factory.mktemp("notebooks"), charts=3)


@pytest.fixture(scope="session")
def failing_notebooks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, but the quarterly review raises an error."""
    return fakes.write_good_notebooks(tmp_path_factory.mktemp("failing"), charts=1, fail=True)


@pytest.fixture(scope="session")
def report(notebooks: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a good report."""
    from opslib.run.report import make_report

    out = tmp_path_factory.mktemp("good") / "report"
    # Put back at once: the fixture outlives this folder's tests, and others open real data.
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "opslib.data.source", fakes.fake_source_module())
        assert make_report([], {"quarter": "2026Q2"}, out=out, notebooks=notebooks).exit_code == 0
    return out


@pytest.fixture
def process_env() -> dict[str, str]:
    """The environment of a process that runs `python -m tests.run.fakes` from any folder."""
    return {**os.environ, "PYTHONPATH": str(ROOT)}

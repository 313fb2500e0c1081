"""What every test may use (sample company, shared data, hypothesis profile); which tests run by default."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import settings

# Here and not in the fixture: some tests put others in their place.
from opslib.data.source import open_data
from opslib.decide.churn.investigation import ChurnInvestigation, investigate_churn
from opslib.decide.funnel.diagnosis import FunnelDiagnosis, diagnose_funnel
from opslib.decide.growth.model import GrowthModel, model_growth

ROOT = Path(__file__).resolve().parent.parent
NOT_BY_DEFAULT = ("slow", "browser", "engines")

# The same examples in every run, and no limit on the time of one: machines differ.
settings.register_profile("opslib", derandomize=True, deadline=None)
# The same, with new examples in each run, for somebody who looks for trouble: HYPOTHESIS_PROFILE=explore.
settings.register_profile("explore", deadline=None, max_examples=1000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "opslib"))

# Notebooks that tests make or keep as material are not tests themselves.
collect_ignore_glob = ["*.ipynb"]
# The drivers are extras, which `make test-engines` installs.
collect_ignore = [] if find_spec("psycopg") and find_spec("pyspark") else ["engines"]


def find_shared() -> Path:
    """Find the folder of shared data sets: $OPSLIB_SHARED, else `shared` beside the repository."""
    return Path(os.environ.get("OPSLIB_SHARED") or ROOT.parent / "shared").resolve()


@pytest.fixture(scope="session")
def sample_growth() -> GrowthModel:
    """The sample company's growth model, made once: it takes ten seconds."""
    return model_growth(open_data(ROOT / "playbook.toml"))


@pytest.fixture(scope="session")
def sample_funnel() -> FunnelDiagnosis:
    """The sample company's funnel diagnosis, made once."""
    return diagnose_funnel(open_data(ROOT / "playbook.toml"))


@pytest.fixture(scope="session")
def sample_churn() -> ChurnInvestigation:
    """The sample company's churn investigation, made once."""
    return investigate_churn(open_data(ROOT / "playbook.toml"))


@pytest.fixture(scope="session")
def samples() -> Path:
    """The committed tables of the sample company."""
    return ROOT / "data" / "samples"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The shared data sets, which are not shipped. Tests that use them are marked `shared`."""
    return find_shared()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test that uses the shared data sets where they are absent."""
    uses_shared = item.get_closest_marker("shared") or "shared" in getattr(item, "fixturenames", ())
    if uses_shared and not find_shared().is_dir():
        pytest.skip("needs the shared data sets, which are not shipped (OPSLIB_SHARED names their folder)")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out slow and browser tests unless `-m` chooses tests or they are named one by one."""
    if config.option.markexpr or any("::" in argument for argument in config.args):
        return
    left_out = [item for item in items if any(item.get_closest_marker(name) for name in NOT_BY_DEFAULT)]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]

"""A real Chromium with the network cut, and the reports that it opens."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.browser.lab import Lab, start_lab
from tests.run import fakes

ROOT = Path(__file__).resolve().parents[2]
SCREENSHOTS = ROOT / "tests" / "screenshots"
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--no-first-run",
]  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in this folder needs a browser."""
    for item in items:
        if "tests/browser" in item.nodeid:
            item.add_marker("browser")


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Debian's Chromium, driven by Playwright."""
    from playwright.sync_api import sync_playwright

    found = next((p for n in ("chromium", "chromium-browser", "google-chrome") if (p := shutil.which(n))), None)
    if found is None:
        pytest.skip("no Chromium on this machine (Debian: apt-get install chromium)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A JupyterLab with a copy of the notebooks."""
    SCREENSHOTS.mkdir(exist_ok=True)
    with start_lab(ROOT, tmp_path_factory.mktemp("lab")) as lab:
        yield lab


@pytest.fixture(scope="session")
def fake_report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report with hostile values everywhere, and a notebook that failed."""
    from opslib.run.report import make_report

    folder = tmp_path_factory.mktemp("hostile")
    fakes.write_good_notebooks(folder / "notebooks", charts=4, fail=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "opslib.data.source", fakes.fake_source_module())
        made = make_report(
            [], {"segment": f"channel:{fakes.HOSTILE}"}, out=folder / "report", notebooks=folder / "notebooks"
        )
    assert made.exit_code == 1
    return made.out


@pytest.fixture(scope="session")
def sample_report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of the sample company, as `make report` writes it."""
    from opslib.run.report import make_report

    if not (ROOT / "playbook.toml").is_file() or not list((ROOT / "notebooks").glob("*.ipynb")):
        pytest.skip("the sample company and its notebooks are not here")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        made = make_report(out=tmp_path_factory.mktemp("sample") / "report")
    assert made.exit_code == 0, made.causes
    return made.out

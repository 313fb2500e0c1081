"""An exploration without a browser: what it would put on the page is recorded instead."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from opslib.data.source import Data, open_data

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="session")
def data() -> Data:
    """The sample company's data."""
    return open_data(ROOT / "playbook.toml")


class Page:
    """The outputs of a notebook, by display id, as they are now; and how often each was put there."""

    def __init__(self) -> None:
        self.outputs: dict[str, dict[str, Any]] = {}
        self.updates: dict[str, int] = {}

    def display(self, data: Any, *, display_id: str = "", update: bool = False, **options: Any) -> None:
        """Stand in for IPython's `display`."""
        if not display_id:
            return
        assert update == (display_id in self.outputs)
        self.outputs[display_id] = data
        self.updates[display_id] = self.updates.get(display_id, 0) + 1

    @property
    def texts(self) -> list[str]:
        """What each output says, in order."""
        return [output.get("text/plain", "") for output in self.outputs.values()]


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> Iterator[Page]:
    """The page of a notebook that somebody looks at."""
    page = Page()
    monkeypatch.setenv("JPY_SESSION_NAME", "somebody is there")
    monkeypatch.setattr("opslib.present.widgets.section.display", page.display)
    monkeypatch.setattr("opslib.present.widgets.panel.display", page.display)
    yield page
    from opslib.present.widgets import live

    for exploration in list(live._open.values()):
        exploration.close()
    live._open.clear()

"""Companies made up for one test."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from opslib.data.source import Data, open_data

Company = Callable[..., Data]


@pytest.fixture
def company(tmp_path: Path) -> Company:
    """Make a company from rows: name of a table -> header and rows; `more` is added to its playbook.

    `until` is the day to which tables without times are counted.
    """

    def make(zone: str = "UTC", more: str = "", until: str = "", **rows: tuple[str, Iterable[str]]) -> Data:
        lines = ["[company]", 'name = "Edge"', f'timezone = "{zone}"']
        lines += [f"data_until = {until}"] if until else []
        lines.append("[tables]")
        for name, (header, body) in rows.items():
            (tmp_path / f"{name}.csv").write_text("\n".join([header, *body]) + "\n", "utf-8")
            lines.append(f'{name} = {{ source = "{name}.csv" }}')
        (tmp_path / "playbook.toml").write_text("\n".join([*lines, more]))
        return open_data(tmp_path / "playbook.toml")

    return make

"""A check handed over is the check, and only for the very same files."""

from __future__ import annotations

from pathlib import Path

import pytest

from opslib.data.checked import VARIABLE, recall_fitness, store_fitness
from opslib.data.source import open_data

PLAYBOOK = '[company]\nname = "T"\n[tables.events]\nsource = "events.csv"\ndrop = ["null_key"]\n'


@pytest.fixture
def playbook(tmp_path: Path) -> Path:
    (tmp_path / "events.csv").write_text("user_id,ts,event\n1,2026-01-01 10:00:00,a\n,2026-01-02 11:30:00,a\n")
    (tmp_path / "playbook.toml").write_text(PLAYBOOK)
    return tmp_path / "playbook.toml"


def test_the_same_check_comes_back(playbook: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = open_data(playbook)
    assert data.fitness.problems
    store_fitness(data.fitness, data.fingerprint, tmp_path / "checked.json")
    monkeypatch.setenv(VARIABLE, str(tmp_path / "checked.json"))
    assert recall_fitness(data.fingerprint) == data.fitness
    again = open_data(playbook)
    assert (again.fitness, again.span, again.as_of) == (data.fitness, data.span, data.as_of)


@pytest.mark.parametrize("damage", ["other data", "cut off", "gone"])
def test_another_check_is_not_believed(
    playbook: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    data = open_data(playbook)
    path = tmp_path / "checked.json"
    store_fitness(data.fitness, data.fingerprint, path)
    monkeypatch.setenv(VARIABLE, str(path))
    if damage == "other data":
        (tmp_path / "events.csv").write_text("user_id,ts,event\n1,2031-01-01 10:00:00,a\n")
    elif damage == "cut off":
        path.write_text(path.read_text()[:40])
    else:
        path.unlink()
    fresh = open_data(playbook)
    assert recall_fitness(fresh.fingerprint) is None
    assert (fresh.fitness == data.fitness) == (damage != "other data")

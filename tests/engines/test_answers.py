"""The questions put to engines leave no public measure out, and comparing finds what differs."""

from __future__ import annotations

import ast
import datetime as dt
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pandas as pd
import pytest

from opslib.data import periods
from opslib.data.engines.capabilities import Capabilities
from opslib.data.source import open_data
from opslib.measure import cohort_counts, growth
from opslib.measure.funnel import packed, plans
from tests.engines.answers import ANSWERS
from tests.engines.companies import ROOT, draw_tables, write_company
from tests.engines.compare import compare_answers, unfold
from tests.engines.decisions import DECISIONS

# Functions on tables of no engine, and plans that one engine alone has.
NOT_ASKED = {
    "measure/experiment/metrics.py:select_outcomes": "read_experiment's own first step",
    "measure/funnel/attempts.py:count_rows": "the embedded engine's plan, where memory is short",
    "measure/recall/users.py:check_campaign": "a refusal's words",
}


def list_public() -> dict[str, str]:
    """Public functions of measures and explanations that take an engine's table: file and name -> name."""
    found = {}
    for folder in ("measure", "explain"):
        for file in sorted((ROOT / "opslib" / folder).rglob("*.py")):
            for node in ast.parse(file.read_text("utf-8")).body:
                if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
                    kinds = [
                        ast.unparse(a.annotation) for a in (*node.args.args, *node.args.kwonlyargs) if a.annotation
                    ]
                    if any("ir." in kind or kind in ("Outcomes", "Assigned", "Entries", "Cases") for kind in kinds):
                        found[f"{file.relative_to(ROOT / 'opslib').as_posix()}:{node.name}"] = node.name
    return found


@pytest.mark.engines
def test_every_public_measure_and_explanation_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = open_data(write_company(tmp_path, draw_tables(3)))
    called: set[str] = set()
    root = str(ROOT / "opslib") + "/"

    def note(frame: FrameType, event: str, _: Any) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(root):
            called.add(f"{frame.f_code.co_filename.removeprefix(root)}:{frame.f_code.co_name}")

    sys.setprofile(note)
    try:
        for ask in ANSWERS.values():
            unfold(ask(data))
        # As engines without the embedded one's plans are asked.
        for module in (periods, cohort_counts, packed, plans, growth):
            monkeypatch.setattr(module, "find_capabilities", lambda _: Capabilities(False, False, False))
        for name, ask in ANSWERS.items():
            if "funnel" in name:
                unfold(ask(data))
    finally:
        sys.setprofile(None)
    public = list_public()
    assert len(public) > 120
    assert sorted(name for name in public if name not in called and name not in NOT_ASKED) == []


@pytest.mark.engines
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_random_company_can_be_asked_everything(seed: int, tmp_path: Path) -> None:
    data = open_data(write_company(tmp_path, draw_tables(seed)))
    assert data.fitness.verdict == "fit"
    for name, ask in (ANSWERS | DECISIONS).items():
        assert unfold(ask(data), fetch=True) is not None, name


def test_comparing_finds_what_differs() -> None:
    frame = pd.DataFrame({"day": [dt.date(2026, 1, 1)], "users": [1], "rate": [np.nan]})
    same: list[tuple[Any, Any]] = [
        (1, 1), (1.0, 1.0 + 1e-12), (None, float("nan")), (frame, frame.astype({"users": "int32"})),
        ({"a": [frame]}, {"a": [frame.copy()]}), (np.arange(3), np.arange(3)),
    ]  # fmt: skip
    other: list[tuple[Any, Any]] = [
        (1, 2), (1.0, 1.0 + 1e-8), (None, 0.0), (frame, frame.assign(rate=0.5)), (frame, frame.iloc[:0]),
        (frame, frame.rename(columns={"users": "people"})), ({"a": 1}, {"b": 1}), ([1], [1, 1]),
        (frame, frame.astype({"users": "float64"})), (np.arange(3), np.arange(4)), ("a", "b"), (True, None),
        (pd.concat([frame, frame.assign(users=2)]), pd.concat([frame.assign(users=2), frame])),
    ]  # fmt: skip
    assert [compare_answers(a, b) for a, b in same] == [[]] * len(same)
    assert all(compare_answers(a, b) for a, b in other)

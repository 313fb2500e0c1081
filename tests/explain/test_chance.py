"""Dealt-out tables as yardstick: scatter between combinations, between rows, strays, and the same answer twice."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from opslib.explain.change import ChangeExplanation, explain_change


def draw(rng: np.random.Generator, rates: np.ndarray, users: int = 4000) -> pd.DataFrame:
    """Six channels on eight devices, one row a combination."""
    frame = pd.DataFrame([(f"c{i}", f"d{j}") for i in range(6) for j in range(8)], columns=["channel", "device"])
    return frame.assign(n=users, x=rng.binomial(users, rates))


def explain(before: pd.DataFrame, after: pd.DataFrame) -> ChangeExplanation:
    return explain_change(before, after, dimensions=["channel", "device"], numerator="x", denominator="n")


@pytest.mark.parametrize(("cells", "named"), [(range(8), True), (range(0, 48, 7), False)])
def test_cells_that_fell_are_a_cause_only_where_they_share_a_name(cells: range, named: bool) -> None:
    """Some cells fall by 20 to 40 points: those of channel c0, or as many that share nothing."""
    rng = np.random.default_rng(1)
    rates = np.full(48, 0.9)
    rates[list(cells)] -= rng.uniform(0.2, 0.4, len(cells))
    result = explain(draw(rng, np.full(48, 0.9)), draw(rng, rates))
    assert result.causes["segment"].tolist() == (["channel=c0"] if named else [])


def test_one_cell_is_named_where_nothing_else_strays() -> None:
    rng = np.random.default_rng(2)
    rates = np.full(48, 0.9)
    rates[10] = 0.7
    result = explain(draw(rng, np.full(48, 0.9)), draw(rng, rates))
    assert result.causes["segment"].tolist() == ["channel=c1 & device=d2"]
    assert result.answers["beyond_chance"].tolist() == [True] + [False] * (len(result.answers) - 1)


def test_names_that_mean_nothing_are_not_named() -> None:
    """Every cell moves by an amount of its own, users without number: no segment in 95% of draws."""
    rng = np.random.default_rng(3)
    named = []
    for _ in range(20):
        rates = np.clip(0.7 + rng.standard_t(3, 48) * 0.05, 0.1, 0.95)
        named.append(explain(draw(rng, np.full(48, 0.7), 100_000), draw(rng, rates, 100_000)).localised)
    assert np.mean(named) <= 0.1


def test_the_same_tables_give_the_same_answer() -> None:
    tables = [draw(np.random.default_rng(k), np.full(48, 0.5)) for k in (4, 5)]
    assert explain(*tables).findings() == explain(*[t.sample(frac=1, random_state=1) for t in tables]).findings()

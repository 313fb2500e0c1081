"""The ranking of segments, repeated rows, data problems, and totals that do not add up."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from opslib.errors import InputError
from opslib.explain.change import ChangeExplanation, explain_change
from tests.explain.simulations import DIMENSIONS, simulate


def explain(before: pd.DataFrame, after: pd.DataFrame, **options: object) -> ChangeExplanation:
    wanted = {"dimensions": DIMENSIONS, "numerator": "returned_count", "denominator": "users_count"}
    return explain_change(before, after, **wanted | options)  # type: ignore[arg-type]


def make_counts(rng: np.random.Generator, rates: np.ndarray, users: int = 3000) -> pd.DataFrame:
    """Four channels on three platforms in two cities, one row a combination."""
    grid = np.stack(np.meshgrid(range(4), range(3), range(2), indexing="ij"), axis=-1).reshape(-1, 3)
    frame = pd.DataFrame({n: ["abcd"[v] for v in grid[:, d]] for d, n in enumerate(DIMENSIONS)})
    return frame.assign(users_count=users, returned_count=rng.binomial(users, rates))


def test_a_part_that_moved_most_does_not_pass_for_the_whole() -> None:
    """All of channel a falls, city b much more: in users the part is clearer, in cells the whole moved."""
    rng = np.random.default_rng(3)
    base = np.full(24, 0.95)
    fallen = base.copy()
    fallen[:6] = [0.70, 0.55, 0.62, 0.50, 0.75, 0.52]
    result = explain(make_counts(rng, base), make_counts(rng, fallen))
    assert result.candidates["segment"].iloc[0] == result.causes["segment"].iloc[0] == "channel=a"
    assert list(result.candidates["evidence"]) == sorted(result.candidates["evidence"], reverse=True)


def test_candidates_stand_also_where_nothing_is_beyond_chance() -> None:
    drawn = simulate(3, planted=False, mix=False)
    result = explain(drawn.before, drawn.after)
    assert not result.localised
    assert len(result.candidates) == 10


@pytest.mark.parametrize(("repeats", "named"), [("noise", False), ("parts", True)])
def test_rows_that_scatter_widen_every_claim(repeats: str, named: bool) -> None:
    """Ten days whose rates swing between .2 and .6, then one at .55: as days it is one of them, as parts a rise."""
    rng = np.random.default_rng(4)
    days = [make_counts(rng, np.where(np.arange(24) < 6, 0.2 + 0.4 * (d % 2), 0.4), 300) for d in range(10)]
    after = make_counts(rng, np.where(np.arange(24) < 6, 0.55, 0.4), 300)
    result = explain(pd.concat(days), after, repeats=repeats)
    assert ("channel=a" in result.causes["segment"].tolist()) == named


def test_rows_that_agree_cost_nothing() -> None:
    rng = np.random.default_rng(5)
    days = [make_counts(rng, np.full(24, 0.4), 300) for _ in range(10)]
    result = explain(pd.concat(days), make_counts(rng, np.where(np.arange(24) < 6, 0.3, 0.4), 300))
    assert result.causes["segment"].tolist() == ["channel=a"]
    assert "periods of unlike size" in result.warnings[-1]


def test_what_looks_like_tracking_is_said() -> None:
    rng = np.random.default_rng(6)
    before = make_counts(rng, np.full(24, 0.4))
    after = make_counts(rng, np.full(24, 0.4))
    after.loc[after["platform"] == "b", "platform"] = None
    after.loc[after["channel"] == "d", "channel"] = "e"
    after.loc[after["city"] == "b", "returned_count"] = 0
    problems = explain(before, after).data_problems
    assert set(problems[["problem", "dimension", "value"]].itertuples(index=False, name=None)) == {
        ("null burst", "platform", "(not given)"),
        ("vanished value", "platform", "b"),
        ("new value", "channel", "e"),
        ("vanished value", "channel", "d"),
        ("no outcome", "city", "b"),
    }
    assert explain(before, before).data_problems.empty


def test_distinct_users_that_do_not_add_up_are_refused() -> None:
    counts = make_counts(np.random.default_rng(7), np.full(24, 0.4))
    with pytest.raises(InputError, match="do not add up"):
        explain(counts, counts, totals=(60_000, 72_000))
    explain(counts, counts, totals=(72_000, 72_000))

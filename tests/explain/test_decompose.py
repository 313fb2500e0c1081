"""Steps of a funnel: exact split, brute force over all orders, edge cases."""

from __future__ import annotations

import itertools
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opslib.errors import InputError
from opslib.explain.decompose import split_steps


def test_two_steps_by_hand() -> None:
    """.5 x .2 to .4 x .3: the first step did -.1 x .25, the second .1 x .45, together .02."""
    steps = split_steps([10_000, 5_000, 1_000], [10_000, 4_000, 1_200]).steps
    assert steps["effect_rate"].tolist() == pytest.approx([-0.025, 0.045])
    assert steps["share_of_change_rate"].tolist() == pytest.approx([-1.25, 2.25])


funnels = st.integers(2, 5).flatmap(
    lambda n: st.tuples(*[st.lists(st.integers(0, 200), min_size=n, max_size=n) for _ in range(2)])
)


@settings(max_examples=40)
@given(funnels)
def test_effects_equal_the_mean_over_all_orders(funnel: tuple[list[int], list[int]]) -> None:
    """Shapley's definition: change the steps one after the other, in every order, and take the mean."""
    before, after = (sorted((c + 20 * (i == 0) for i, c in enumerate(f)), reverse=True) for f in funnel)
    before[0], after[0] = before[0] + 20, after[0] + 20
    split = split_steps(before, after)
    json.dumps(split.findings(), allow_nan=False)
    old = [b / a if a else None for a, b in itertools.pairwise(before)]
    new = [b / a if a else None for a, b in itertools.pairwise(after)]
    first = [o if o is not None else n or 0.0 for o, n in zip(old, new, strict=True)]
    last = [n if n is not None else o or 0.0 for o, n in zip(old, new, strict=True)]
    effects = np.zeros(len(old))
    orders = list(itertools.permutations(range(len(old))))
    for order in orders:
        rates = list(first)
        for k in order:
            was, rates[k] = math.prod(rates), last[k]
            effects[k] += math.prod(rates) - was
    assert split.steps["effect_rate"].to_numpy() == pytest.approx(effects / len(orders), abs=1e-12)
    assert split.steps["effect_rate"].sum() == pytest.approx(split.overall.difference, abs=1e-12)


def test_what_cannot_be_split_is_said() -> None:
    assert "not enough data" in split_steps([5, 2], [100, 50]).note
    for bad in (([10, 20], [10, 5]), ([10], [10]), ([10, 5], [10, 5, 1])):
        with pytest.raises(InputError):
            split_steps(*bad)

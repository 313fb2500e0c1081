"""Sizes of experiments: published numbers, tea-tasting's power, simulated power."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from opslib.errors import InputError
from opslib.measure.sample_size import find_detectable, plan_experiment, size_means, size_rates


@pytest.mark.shared
def test_evan_millers_calculator(shared: Path) -> None:
    """Outside reference: published sizes, to the user."""
    cases = json.loads((shared / "cases" / "references.json").read_text())["evan_miller_sample_size"]["rows"]
    for case in cases:
        assert size_rates(case["p"], case["mde_abs"]) == case["published_n_per_arm"]
        assert size_rates(1 - case["p"], -case["mde_abs"]) == case["published_n_per_arm"]


def test_means_as_tea_tasting_sizes_them() -> None:
    from tea_tasting.aggr import Aggregates
    from tea_tasting.metrics import Mean

    metric = Mean("x", effect_size=3, alpha=0.05, power=0.8, ratio=1, use_t=False)
    data = Aggregates(count_=100, mean_={"x": 100.0}, var_={"x": 900.0}, cov_={})
    theirs = metric.solve_power_from_aggregates(data, "n_obs")[0].n_obs
    ours = size_means(30, 3)
    assert ours is not None
    assert abs(2 * ours - theirs) <= 2


@pytest.mark.parametrize("ratio", [1.0, 0.25, 4.0])
def test_simulated_power(ratio: float) -> None:
    size = size_rates(0.1, 0.02, ratio=ratio)
    assert size is not None
    rng = np.random.default_rng(1)
    control = round(size * ratio)
    a, b = rng.binomial(control, 0.1, 20_000), rng.binomial(size, 0.12, 20_000)
    pooled = (a + b) / (control + size)
    z = (b / size - a / control) / np.sqrt(pooled * (1 - pooled) * (1 / size + 1 / control))
    # The calculator takes the control's spread for both where there is no effect: a little short of 80% below one half.
    assert 0.76 < (np.abs(z) > 1.96).mean() < 0.83


def test_plan_by_hand() -> None:
    plan = plan_experiment(base=0.2, relative=[0.25, 0.05], users_per_day=500, window_days=7)
    first = plan.sizes.iloc[0]
    assert first[["control_users_count", "arm_users_count", "total_users_count"]].tolist() == [1030, 1030, 2060]
    assert (first["difference"], first["entry_days"], first["total_days"]) == (pytest.approx(0.05), 7, 14)
    # A fifth of the difference needs about 25 times the users, in whole weeks.
    second = plan.sizes.iloc[1]
    assert second["arm_users_count"] == size_rates(0.2, 0.01)
    assert second["entry_days"] == math.ceil(second["total_users_count"] / 500 / 7) * 7


def test_arms_shares_cuped_and_looks_change_the_size() -> None:
    base = plan_experiment(base=100, deviation=30, relative=[0.03]).sizes.iloc[0]
    assert base["arm_users_count"] == 1570
    halved = plan_experiment(base=100, deviation=30, relative=[0.03], variance_kept=0.5).sizes.iloc[0]
    assert halved["arm_users_count"] == 785
    three = plan_experiment(base=100, deviation=30, relative=[0.03], arms=3).sizes.iloc[0]
    assert three["arm_users_count"] > 1.3 * base["arm_users_count"]
    assert three["total_users_count"] == 4 * three["arm_users_count"]
    holdout = plan_experiment(base=100, deviation=30, relative=[0.03], control_share=0.1).sizes.iloc[0]
    assert holdout["control_users_count"] == pytest.approx(holdout["total_users_count"] / 10, rel=0.01)
    assert holdout["total_users_count"] == pytest.approx(base["total_users_count"] / (4 * 0.1 * 0.9), rel=0.01)
    always = plan_experiment(base=100, deviation=30, relative=[0.03], looks="always").sizes.iloc[0]
    assert always["arm_users_count"] == pytest.approx(1.91 * 1570, rel=0.01)


def test_plans_that_cannot_be() -> None:
    plan = plan_experiment(base=0.8, relative=[0.5, 0.0, -0.5])
    assert plan.sizes["arm_users_count"].isna().tolist() == [True, True, False]
    assert plan.sizes["total_days"].isna().all()
    json.dumps(plan.findings(), allow_nan=False)
    for options in (
        {"base": 5.0},
        {"base": 5.0, "deviation": -1.0},
        {"base": 0.2, "arms": 0},
        {"base": 0.2, "power": 2},
    ):
        with pytest.raises(InputError, match="cannot be planned"):
            plan_experiment(**options)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="nobody would enter"):
        plan_experiment(base=0.2, users_per_day=0)


def test_detectable_difference_is_the_inverse_of_the_size() -> None:
    size = size_means(30, 3)
    assert size is not None
    assert find_detectable(30 * math.sqrt(2 / size)) == pytest.approx(3, rel=1e-3)

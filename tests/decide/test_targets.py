"""A target is met or missed only when the whole interval lies on one side."""

from __future__ import annotations

import pytest

from opslib.data.playbook import Target
from opslib.decide.targets import judge_target
from opslib.measure.acquisition import estimate_cost
from opslib.measure.estimate import estimate_rate


@pytest.mark.parametrize(
    ("returned", "users", "status"),
    [
        (3000, 10000, "met"),
        (2000, 10000, "missed"),
        (255, 1000, "too close to call"),
        (245, 1000, "too close to call"),
        (2, 10, "not enough data"),
    ],
)
def test_at_least(returned: int, users: int, status: str) -> None:
    assert judge_target(estimate_rate("d7_rate", returned, users), Target(at_least=0.25)).status == status


@pytest.mark.parametrize(("spend", "status"), [(6000, "met"), (20000, "missed"), (8100, "too close to call")])
def test_at_most(spend: float, status: str) -> None:
    verdict = judge_target(estimate_cost("cac_amount", spend, 100), Target(at_most=80))
    assert verdict.status == status
    assert verdict.gap == pytest.approx(spend / 100 - 80)


def test_the_handbooks_success_does_not_trip_its_own_alarm() -> None:
    """H16 ends at D7 of exactly 25%, the trigger of H10: exactly on target is not missed."""
    assert judge_target(estimate_rate("d7_rate", 250, 1000), Target(at_least=0.25)).status == "too close to call"

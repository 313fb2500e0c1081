"""Targets: is a metric past its target, short of it, or too close to call?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from opslib.data.playbook import Target
from opslib.measure.estimate import Estimate

TargetStatus = Literal["met", "missed", "too close to call", "not enough data"]


@dataclass(frozen=True)
class TargetVerdict:
    """One metric against its target.

    Attributes:
        estimate: the metric.
        target: what it should reach.
        status: met or missed only when the whole interval lies on that side of the target.
        gap: value - target, in the metric's unit; None without a value.
    """

    estimate: Estimate
    target: Target
    status: TargetStatus
    gap: float | None

    def to_finding(self, **context: Any) -> dict[str, Any]:
        """A flat record for `findings.json`."""
        direction = "at_least" if self.target.at_least is not None else "at_most"
        return {
            **context,
            "name": "target",
            "metric": self.estimate.name,
            "direction": direction,
            "target": self.target.bound,
            "status": self.status,
            "gap": None if self.gap is None else float(f"{self.gap:.10g}"),
        }


def judge_target(estimate: Estimate, target: Target) -> TargetVerdict:
    """Judge a metric against its target; a value whose interval holds the target is too close to call.

    >>> from opslib.measure.estimate import estimate_rate
    >>> judge_target(estimate_rate("d7_rate", 260, 1000), Target(at_least=0.25)).status
    'too close to call'
    >>> judge_target(estimate_rate("d7_rate", 200, 1000), Target(at_least=0.25)).status
    'missed'
    """
    if estimate.value is None or estimate.low is None or estimate.high is None:
        return TargetVerdict(estimate, target, "not enough data", None)
    bound = target.bound
    above, below = estimate.low >= bound, estimate.high < bound
    if target.at_most is not None:
        above, below = estimate.low > bound, estimate.high <= bound
    good, bad = (above, below) if target.at_least is not None else (below, above)
    status: TargetStatus = "met" if good else "missed" if bad else "too close to call"
    return TargetVerdict(estimate, target, status, estimate.value - bound)

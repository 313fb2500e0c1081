"""A number before and after something was done, with nothing to compare it with: told, never proven."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from opslib.measure.estimate import CONFIDENCE, Change, Estimate, compare_estimates, to_plain_record

# Fewer earlier changes say too little about what is usual.
FEWEST_CHANGES = 3


@dataclass(frozen=True)
class BeforeAfterResult:
    """A change without a control.

    Attributes:
        change: after against before; its interval holds the chance in sampling users, not what else happened.
        usual_change: root mean square of the changes between earlier periods in a row; None where fewer than three
            are known.
        within_usual: the change is no larger than such changes are by themselves (prediction interval of 95%); None
            where the usual change is not known.
        verdict: "moved" (more than chance, and more than usual where that is known), "usual_swing", "within_chance",
            "not_enough_data".
        evidence: always "descriptive": what was done may or may not be the reason.
        missing: what would make it evidence, as codes: "control", "usual_changes".
    """

    change: Change
    usual_change: float | None
    within_usual: bool | None
    verdict: str
    missing: tuple[str, ...]
    evidence: str = "descriptive"

    def findings(self) -> list[dict[str, Any]]:
        """One flat record."""
        own = {"verdict": self.verdict, "usual_change": self.usual_change, "within_usual": self.within_usual}
        context = {"evidence": self.evidence, "missing": ",".join(self.missing)}
        return [self.change.to_finding(**context) | to_plain_record(own)]


def compare_before_after(before: Estimate, after: Estimate, *, earlier: Sequence[Estimate] = ()) -> BeforeAfterResult:
    """Compare a metric before and after something was done, without a control.

    Args:
        before, after: the metric in two periods of the same length.
        earlier: the same metric in the periods before these, oldest first, none left out: their changes show how much
            the metric moves by itself.

    Returns:
        A `BeforeAfterResult`.

    The usual change has mean 0 (no trend is taken out), so its scale has as many degrees of freedom as changes are
    known; the last of them is from the latest earlier period to `before`.

    >>> from opslib.measure.estimate import estimate_rate
    >>> weeks = [estimate_rate("d1_rate", n, 1000) for n in (300, 340, 290, 330, 300)]
    >>> result = compare_before_after(weeks[-1], estimate_rate("d1_rate", 345, 1000), earlier=weeks[:-1])
    >>> result.change.clear, result.verdict, result.evidence
    (True, 'usual_swing', 'descriptive')
    """
    change = compare_estimates(after, before)
    values = [e.value for e in (*earlier, before) if e.value is not None]
    steps = [b - a for a, b in pairwise(values)]
    usual: float | None = None
    within: bool | None = None
    if len(steps) >= FEWEST_CHANGES and change.difference is not None:
        from scipy.special import stdtrit

        usual = math.sqrt(sum(step * step for step in steps) / len(steps))
        within = abs(change.difference) <= usual * float(stdtrit(len(steps), 0.5 + CONFIDENCE / 2))
    if change.difference is None:
        verdict = "not_enough_data"
    elif not change.clear:
        verdict = "within_chance"
    else:
        verdict = "usual_swing" if within else "moved"
    missing = ("control",) if within is not None else ("control", "usual_changes")
    return BeforeAfterResult(change, usual, within, verdict, missing)

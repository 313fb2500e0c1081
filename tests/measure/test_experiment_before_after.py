"""Before and after without a control: told as descriptive, whatever the numbers."""

from __future__ import annotations

import json

import pytest

from opslib.measure.estimate import Estimate, estimate_rate
from opslib.measure.experiment.before_after import compare_before_after


def rate(hits: int, users: int = 1000) -> Estimate:
    return estimate_rate("d1_rate", hits, users)


@pytest.mark.parametrize(
    ("after", "earlier", "verdict"),
    [
        (345, (300, 340, 290, 330), "usual_swing"),
        (345, (300, 302, 299, 301), "moved"),
        (345, (), "moved"),
        (305, (300, 302, 299, 301), "within_chance"),
    ],
)
def test_verdicts(after: int, earlier: tuple[int, ...], verdict: str) -> None:
    result = compare_before_after(rate(300), rate(after), earlier=[rate(n) for n in earlier])
    assert result.verdict == verdict
    assert result.evidence == "descriptive"
    assert "control" in result.missing
    assert ("usual_changes" in result.missing) == (not earlier)
    record = result.findings()[0]
    assert record["evidence"] == "descriptive"
    json.dumps(record, allow_nan=False)


def test_usual_change_by_hand() -> None:
    """Changes .02, -.02, .02, root mean square .02; t of three degrees 3.182: usual up to .0637."""
    earlier = [rate(28_000, 100_000), rate(30_000, 100_000), rate(28_000, 100_000)]
    inside = compare_before_after(rate(30_000, 100_000), rate(36_300, 100_000), earlier=earlier)
    outside = compare_before_after(rate(30_000, 100_000), rate(36_400, 100_000), earlier=earlier)
    assert inside.usual_change == pytest.approx(0.02)
    assert (inside.within_usual, outside.within_usual) == (True, False)
    assert inside.change.clear


def test_too_few_users() -> None:
    result = compare_before_after(rate(1, 5), rate(300))
    assert (result.verdict, result.within_usual, result.change.difference) == ("not_enough_data", None, None)
    json.dumps(result.findings(), allow_nan=False)

"""The team's rhythm: the core things of the week, how often users come, and what would move that most."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from opslib.data.operations import CadenceSettings
from opslib.decide.review.budget import BudgetReview
from opslib.decide.targets import TargetVerdict
from opslib.measure.bridge.bridge import BridgeResult
from opslib.measure.estimate import Estimate, to_plain_record

CORE_THINGS = 3


@dataclass(frozen=True)
class Cadence:
    """The rhythm of a team.

    Attributes:
        settings: the playbook's.
        stickiness, dau, mau: how often users come now.
        rate, rate_value, rate_effect: the rate whose rise by a tenth of itself would bring most daily active users four
            weeks on, its value, and how many users; empty and None where it cannot be told.
        proposals: kind ("target", "budget", "lever", "rate"), subject (metric, channel, lever, rate), value, bound:
            what the data suggest for the week, the most pressing first; at most three.
    """

    settings: CadenceSettings
    stickiness: Estimate
    dau: Estimate
    mau: Estimate
    rate: str
    rate_value: float | None
    rate_effect: float | None
    proposals: pd.DataFrame

    @property
    def named(self) -> bool:
        """True where the playbook names the core things of the week itself."""
        return bool(self.settings.weekly_core)

    def findings(self) -> list[dict[str, Any]]:
        """What is proposed, as flat records."""
        rows = self.proposals.to_dict("records")
        records = [{"name": "core_thing", "rank": i + 1, **to_plain_record(r)} for i, r in enumerate(rows)]
        head = {"name": "cadence", "rate": self.rate, "rate_value": self.rate_value, "effect_count": self.rate_effect}
        return [to_plain_record(head), *records]


def propose_cadence(
    settings: CadenceSettings,
    activity: Mapping[str, Estimate],
    sensitivity: pd.DataFrame,
    targets: Mapping[str, TargetVerdict],
    bridge: BridgeResult | None,
    budget: BudgetReview | None,
) -> Cadence:
    """Propose the core things of the week.

    Args:
        settings: the playbook's rhythm.
        activity: dau_count, mau_count and stickiness_rate of the quarter.
        sensitivity: which rate moves daily active users most.
        targets, bridge, budget: of the quarter.

    Returns:
        A `Cadence`. In this order: the target missed by most, the channel that took more money without more users who
        stay, the lever that cost most, the rate that moves daily active users most, further missed targets.
    """
    rows: list[tuple[str, str, float | None, float | None]] = []
    missed = [v for v in targets.values() if v.status == "missed"]
    missed.sort(key=lambda v: abs(v.gap or 0) / (abs(v.target.bound) or 1), reverse=True)
    wanted = [("target", v.estimate.name, v.estimate.value, v.target.bound) for v in missed]
    rows += wanted[:1]
    if budget is not None and budget.shift is not None and len(budget.shift.by_channel):
        found = budget.shift.by_channel
        worse = found[found["verdict"] == "more_users_not_retained"]
        worse = worse.sort_values(["extra_spend_amount", "channel"], ascending=[False, True])
        rows += [
            ("budget", str(channel), float(extra), None)
            for channel, extra in zip(worse["channel"].head(1), worse["extra_spend_amount"], strict=False)
        ]
    rows += _find_worst_lever(bridge)
    best = _find_best_rate(sensitivity)
    if best is not None:
        rows.append(("rate", best[0], best[1], best[2]))
    rows += wanted[1:]
    frame = pd.DataFrame(rows[:CORE_THINGS], columns=["kind", "subject", "value", "bound"])
    rate, value, effect = best or ("", None, None)
    stickiness, dau, mau = (activity[n] for n in ("stickiness_rate", "dau_count", "mau_count"))
    return Cadence(settings, stickiness, dau, mau, rate, value, effect, frame)


def _find_worst_lever(bridge: BridgeResult | None) -> list[tuple[str, str, float, None]]:
    if bridge is None:
        return []
    frame, column = bridge.users, "change_count"
    if bridge.revenue is not None:
        frame, column = bridge.revenue, "change_amount"
    # How many users there were to keep is no lever of this quarter.
    clear = frame[(frame["change_high"] < 0) & (frame["lever"] != "base")]
    worst = clear.sort_values([column, "lever"]).head(1)
    return [
        ("lever", str(lever), float(value), None) for lever, value in zip(worst["lever"], worst[column], strict=True)
    ]


def _find_best_rate(sensitivity: pd.DataFrame) -> tuple[str, float, float] | None:
    """Per tenth of itself: a point of a small rate is more work than a point of a large one."""
    rates = sensitivity[sensitivity["rate"] != "new_users"].dropna(subset=["value_rate", "per_tenth_count"])
    if rates.empty:
        return None
    row = rates.sort_values(["per_tenth_count", "rate"], ascending=[False, True]).iloc[0]
    return str(row["rate"]), float(row["value_rate"]), float(row["per_tenth_count"])

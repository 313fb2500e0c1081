"""How many users an experiment needs, and how long it takes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Literal

import pandas as pd

from opslib.errors import InputError
from opslib.measure.estimate import to_plain_record
from opslib.measure.sequential import inflate_for_looks

WEEK = 7
PLAN_COLUMNS = (
    "relative_difference",
    "difference",
    "control_users_count",
    "arm_users_count",
    "total_users_count",
    "entry_days",
    "total_days",
)


@dataclass(frozen=True)
class ExperimentPlan:
    """Sizes and durations of an experiment.

    Attributes:
        sizes: one row a difference to show: relative_difference (to the base), difference, control_users_count,
            arm_users_count (each other arm), total_users_count, entry_days (days on which users enter, whole weeks),
            total_days (until the last one's window is over). Missing where no such experiment exists, for example a
            share above 1; days are missing without a rate of entry.
        base: the control's value.
        level, power, looks: what the sizes were made for; `level` is divided among the arms.
        arms: arms besides the control.
    """

    sizes: pd.DataFrame
    base: float
    level: float
    power: float
    looks: str
    arms: int

    def findings(self) -> list[dict[str, Any]]:
        """One flat record a difference."""
        context = {"level": self.level, "power": self.power, "looks": self.looks, "arms": self.arms}
        return [{"name": "experiment_plan", **context, **to_plain_record(row)} for row in self.sizes.to_dict("records")]


def plan_experiment(
    *,
    base: float,
    relative: Sequence[float] = (0.01, 0.02, 0.05, 0.1, 0.2),
    deviation: float | None = None,
    users_per_day: float | None = None,
    window_days: int = 7,
    arms: int = 1,
    control_share: float | None = None,
    variance_kept: float = 1.0,
    looks: Literal["once", "always"] = "once",
    level: float = 0.05,
    power: float = 0.8,
) -> ExperimentPlan:
    """Plan an experiment: users and days for each difference worth showing.

    Args:
        base: the control's value: a share, or a mean where `deviation` is given.
        relative: differences to show, as shares of the base; the sign matters for shares near 0 or 1.
        deviation: standard deviation over users, for means (for ratios that of the delta method).
        users_per_day: users who enter a day; the same rate is assumed throughout.
        window_days: days until a user's outcome is known.
        arms: arms besides the control.
        control_share: the control's part of the users; by default all arms are alike.
        variance_kept: share of the variance that CUPED leaves: 1 - correlation squared.
        looks: "always" sizes for a confidence sequence, read at any time; tuned to the planned end.
        level: two-sided chance of a false alarm over all arms (Bonferroni).
        power: chance to see the difference in one arm.

    Returns:
        An `ExperimentPlan`.

    Raises:
        InputError: numbers that make no sense, named.

    Source: Evan Miller, "Sample Size Calculator", for shares and arms alike (`size_rates`); for means and unequal arms
    Kohavi, Tang and Xu (2020), Trustworthy Online Controlled Experiments, ch. 17.

    >>> plan = plan_experiment(base=0.2, relative=[0.25], users_per_day=500)
    >>> plan.sizes[["arm_users_count", "entry_days", "total_days"]].to_numpy().tolist()
    [[1030.0, 7.0, 14.0]]
    """
    share = 1 / (arms + 1) if control_share is None else control_share
    _check_plan(base, deviation, users_per_day, arms, share, variance_kept, level, power)
    each = level / arms
    factor = variance_kept * (inflate_for_looks(level=each, power=power) if looks == "always" else 1.0)
    # Control users for every user of one arm.
    ratio = share / ((1 - share) / arms)
    rows = []
    for step in relative:
        difference = step * base
        if deviation is None:
            size = size_rates(base, difference, ratio=ratio, level=each, power=power)
        else:
            size = size_means(deviation, difference, ratio=ratio, level=each, power=power)
        if size is None:
            rows.append((step, difference, *[None] * 5))
            continue
        arm = math.ceil(size * factor) if factor != 1 else size
        control = math.ceil(arm * ratio - 1e-9)
        total = control + arms * arm
        days = None if users_per_day is None else math.ceil(total / users_per_day / WEEK) * WEEK
        rows.append((step, difference, control, arm, total, days, None if days is None else days + window_days))
    sizes = pd.DataFrame(rows, columns=PLAN_COLUMNS).astype(float)
    return ExperimentPlan(sizes, base, level, power, looks, arms)


def size_rates(
    base: float, difference: float, *, ratio: float = 1.0, level: float = 0.05, power: float = 0.8
) -> int | None:
    """Users an arm to show a difference from a share.

    Args:
        base: the share without the change.
        difference: points of the share, with its sign.
        ratio: control users for every user of the arm.

    Returns:
        Users of the arm; None where there is no such experiment.

    Source: Evan Miller, evanmiller.org/ab-testing/sample-size.html, which sizes a share above one half as its
    complement and takes the difference towards the middle, where more users are needed.

    >>> [size_rates(p, d) for p, d in ((0.2, 0.05), (0.20625, 0.01), (0.53, 0.01), (0.1093125, 0.0075))]
    [1030, 25835, 39115, 27413]
    """
    if not 0 < base < 1 or not 0 <= base + difference <= 1 or difference == 0:
        return None
    p, d = min(base, 1 - base), abs(difference)
    normal = NormalDist()
    alarm, miss = normal.inv_cdf(1 - level / 2), normal.inv_cdf(power)
    changed = (p + d) * (1 - p - d) if p + d <= 1 else 0.0
    spread = alarm * math.sqrt(p * (1 - p) * (1 + 1 / ratio)) + miss * math.sqrt(p * (1 - p) / ratio + changed)
    return max(1, round((spread / d) ** 2))


def size_means(
    deviation: float, difference: float, *, ratio: float = 1.0, level: float = 0.05, power: float = 0.8
) -> int | None:
    """Users an arm to show a difference between means.

    >>> size_means(30, 3)
    1570
    """
    if difference == 0 or deviation <= 0:
        return None
    normal = NormalDist()
    reach = normal.inv_cdf(1 - level / 2) + normal.inv_cdf(power)
    return max(2, math.ceil((1 + 1 / ratio) * (reach * deviation / difference) ** 2))


def find_detectable(error: float, *, level: float = 0.05, power: float = 0.8) -> float:
    """The difference that an experiment with this standard error would show with the given power.

    >>> round(find_detectable(1.0), 2)
    2.8
    """
    normal = NormalDist()
    return error * (normal.inv_cdf(1 - level / 2) + normal.inv_cdf(power))


def _check_plan(
    base: float,
    deviation: float | None,
    users_per_day: float | None,
    arms: int,
    share: float,
    kept: float,
    level: float,
    power: float,
) -> None:
    wrong = ""
    if deviation is None and not 0 < base < 1:
        wrong = f"base {base} is no share between 0 and 1: for a mean give its deviation too"
    elif deviation is not None and deviation <= 0:
        wrong = f"deviation {deviation} is not above 0"
    elif users_per_day is not None and users_per_day <= 0:
        wrong = f"users_per_day {users_per_day} is not above 0: nobody would enter"
    elif arms < 1 or not 0 < share < 1:
        wrong = f"{arms} arms beside a control with share {share}: there must be an arm, and both have users"
    elif not 0 < kept <= 1:
        wrong = f"variance_kept {kept} is no share above 0"
    elif not 0 < level < 1 or not 0 < power < 1 or power <= level:
        wrong = f"level {level} and power {power} are chances, the power above the level"
    if wrong:
        raise InputError(f"The experiment cannot be planned: {wrong}.")

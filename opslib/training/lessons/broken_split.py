"""A simulated experiment without any effect that lost users of one arm: what the lesson `sample_ratio` shows."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import ibis
import numpy as np
import pandas as pd

from opslib.measure.estimate import Change, Estimate, compare_estimates, estimate_rate, quantile
from opslib.measure.experiment.experiment import Metric, SplitCheck, read_experiment

OLD, NEW = "old_page", "new_page"
COLUMNS = ("platform", "channel")
# Of those seeds with which the difference looks clear; the page says how often it does, by so many runs.
USERS, SEED, RUNS, CONFIDENCE = 56_000, 2052, 2_000, 0.95
PLATFORMS = {"android": 0.45, "ios": 0.35, "web": 0.2}
CHANNELS = {"ads": 0.3, "referral": 0.15, "search": 0.3, "social": 0.25}
BUYING = {"android": 0.2, "ios": 0.2, "web": 0.18}
# What breaks: old phones of one platform, whose users buy little anyway; of those who got the new page so many crash.
BROKEN, OLD_PHONES, BUYING_OLD_PHONES, CRASHING = "android", 0.2, 0.05, 0.5


@dataclass(frozen=True)
class Broken:
    """A simulated experiment without any effect that lost users of one arm.

    Attributes:
        seen: the users whose exposure was logged: variant, platform, channel, old_phone, bought.
        split: what the playbook's check says of the split.
        lost_count: users who were sent to the new page and are not in `seen`.
    """

    seen: pd.DataFrame
    split: SplitCheck
    lost_count: int

    def measure(self, variant: str, **where: str | bool) -> Estimate:
        """The share who bought, of one arm's users or a part of them."""
        kept = self.seen[self.seen["variant"] == variant]
        for column, value in where.items():
            kept = kept[kept[column] == value]
        return estimate_rate("bought_rate", int(kept["bought"].sum()), len(kept))

    @property
    def change(self) -> Change:
        """The difference that people see."""
        return compare_estimates(self.measure(NEW), self.measure(OLD))

    @property
    def share_rate(self) -> float:
        """The new page's share of the users."""
        return self.measure(NEW).denominator / len(self.seen)


@cache
def simulate_experiment() -> Broken:
    """Split users half and half between two pages that are alike, and lose some of one arm."""
    draw = np.random.default_rng(SEED)
    platform = draw.choice(list(PLATFORMS), USERS, p=list(PLATFORMS.values()))
    channel = draw.choice(list(CHANNELS), USERS, p=list(CHANNELS.values()))
    variant = draw.choice([OLD, NEW], USERS)
    old_phone = (platform == BROKEN) & (draw.random(USERS) < OLD_PHONES)
    rate = np.where(old_phone, BUYING_OLD_PHONES, pd.Series(platform).map(BUYING).to_numpy())
    lost = old_phone & (variant == NEW) & (draw.random(USERS) < CRASHING)
    bought = draw.random(USERS) < rate
    columns = {"variant": variant, "platform": platform, "channel": channel, "old_phone": old_phone, "bought": bought}
    seen = pd.DataFrame(columns)[~lost].reset_index(drop=True)
    metric = Metric("bought_rate", "bought", role="primary")
    result = read_experiment(ibis.memtable(seen), metrics=[metric], control=OLD, attribute_columns=COLUMNS)
    return Broken(seen, result.split, int(lost.sum()))


@cache
def find_clear_share() -> float:
    """The share of such experiments in which the new page looks like a clear win."""
    phones = PLATFORMS[BROKEN] * OLD_PHONES
    others = sum((share - phones * (name == BROKEN)) * BUYING[name] for name, share in PLATFORMS.items())
    lost = phones * CRASHING
    buying = (others + phones * BUYING_OLD_PHONES, others + (phones - lost) * BUYING_OLD_PHONES)
    # Bought and not with the old page, then with the new one; the rest are those who are lost.
    cells = (buying[0], 1 - buying[0], buying[1], 1 - lost - buying[1], lost)
    counts = np.random.default_rng(SEED).multinomial(USERS, [cell / 2 for cell in cells], RUNS)
    users = counts[:, [0, 2]] + counts[:, [1, 3]]
    rates = counts[:, [0, 2]] / users
    error = np.sqrt((rates * (1 - rates) / users).sum(axis=1))
    return float((rates[:, 1] - rates[:, 0] > quantile(CONFIDENCE) * error).mean())

"""Causes planted at random in tables of counts drawn from the sample company's own users."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from opslib.data.source import Data
from opslib.explain.outcomes import count_outcomes, mark_returned

DIMENSIONS = ("platform", "channel", "city_tier", "age_band")


@dataclass(frozen=True)
class Planting:
    """Two periods, the planted segment, and the p-value of its own two shares: visible below 1e-4."""

    before: pd.DataFrame
    after: pd.DataFrame
    segment: str
    p_value: float

    def hits(self, segment: str) -> bool:
        """Tell whether a named segment holds exactly the users of the planted one."""
        return bool((self._holds(segment) == self._holds(self.segment)).all())

    def _holds(self, segment: str) -> pd.Series:
        held = pd.Series(True, index=self.before.index)
        for name, value in (item.split("=", 1) for item in segment.split(" & ") if item):
            held &= self.before[name] == value
        return held if segment else ~held


def count_sample(data: Data) -> pd.DataFrame:
    """Next-day returns of all users of the sample company, one row a combination."""
    marked = mark_returned(data.active_days, data.attributes, data.span, as_of=data.as_of)
    return count_outcomes(marked, dimensions=DIMENSIONS, numerator="returned")


def plant(counts: pd.DataFrame, seed: int, *, effect: bool = True) -> Planting:
    """Draw two periods of 10,000 to 200,000 users; one segment of 2% to 40% changes its rate by 10% to 60%.

    Rates of combinations are the sample's, drawn to the overall rate as by 20 users. Both periods share a drift.
    """
    rng = np.random.default_rng(seed)
    users = counts["users_count"].to_numpy(dtype=float)
    overall = counts["returned"].sum() / users.sum()
    rates = (counts["returned"].to_numpy(dtype=float) + 20 * overall) / (users + 20)
    shares = users / users.sum()
    total = int(np.exp(rng.uniform(*np.log([10_000, 200_000]))))
    names = counts[list(DIMENSIONS)].astype(str)
    later = np.clip(rates * (1 + rng.uniform(-0.1, 0.1)), 0, 0.98)
    segment, held = "", np.zeros(len(counts), dtype=bool)
    while effect and not 0.02 <= shares[held].sum() <= 0.4:
        chosen = sorted(rng.choice(len(DIMENSIONS), int(rng.integers(1, 4)), replace=False))
        row = names.iloc[int(rng.integers(len(names)))]
        held = np.all([(names.iloc[:, d] == row.iloc[d]).to_numpy() for d in chosen], axis=0)
        segment = " & ".join(f"{DIMENSIONS[d]}={row.iloc[d]}" for d in chosen)
    factor = 1 + rng.choice([-1, 1]) * rng.uniform(0.1, 0.6)
    later = np.where(held, np.clip(later * factor, 0, 0.98), later)
    tables = []
    for chances in (rates, later):
        drawn = rng.multinomial(total, shares)
        tables.append(names.assign(users_count=drawn, returned=rng.binomial(drawn, chances)))
    return Planting(tables[0], tables[1], segment, _compare_shares(tables, held) if effect else 1.0)


def _compare_shares(tables: list[pd.DataFrame], held: np.ndarray) -> float:
    """The pooled two-sample test of the planted users alone, before against after."""
    from scipy.stats import norm

    (x0, n0), (x1, n1) = (t.loc[held, ["returned", "users_count"]].sum().astype(float) for t in tables)
    pooled = (x0 + x1) / (n0 + n1)
    error = np.sqrt(pooled * (1 - pooled) * (1 / n0 + 1 / n1))
    return float(2 * norm.sf(abs(x1 / n1 - x0 / n0) / error)) if error > 0 else 1.0

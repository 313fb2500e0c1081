"""Made-up count tables of two periods, with or without a planted cause, for `explain_change`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

DIMENSIONS = ("channel", "platform", "city")


@dataclass(frozen=True)
class Planted:
    """Two periods of counts, and what was done to the second one."""

    before: pd.DataFrame
    after: pd.DataFrame
    segment: str
    clarity: float


def simulate(
    seed: int,
    *,
    planted: bool = True,
    users: tuple[int, int] = (5_000, 80_000),
    drift: float = 0.15,
    mix: bool = True,
) -> Planted:
    """Draw two periods. Rates differ by each dimension's values; both periods share one drift of all odds.

    With `mix`, the shares of one dimension's values change too. A planted segment of 5% to 40% of the users loses or
    gains 10% to 60% of its rate. `clarity` is the expected difference in standard errors, by the true rates.
    """
    rng = np.random.default_rng(seed)
    sizes = rng.integers(2, 7, len(DIMENSIONS))
    shares = [rng.dirichlet(np.full(size, 3.0)) for size in sizes]
    grid = np.stack(np.meshgrid(*[np.arange(size) for size in sizes], indexing="ij"), axis=-1).reshape(-1, len(sizes))
    odds = sum(rng.normal(0, 0.35, size)[grid[:, d]] for d, size in enumerate(sizes)) + rng.normal(-1, 0.7)

    def weigh(parts: list[np.ndarray]) -> np.ndarray:
        return np.prod([part[grid[:, d]] for d, part in enumerate(parts)], axis=0)

    first = weigh(shares)
    if mix:
        moved = int(rng.integers(len(sizes)))
        shares[moved] = shares[moved] * np.exp(rng.normal(0, 0.3, sizes[moved]))
        shares[moved] = shares[moved] / shares[moved].sum()
    second = weigh(shares)
    rate_before = 1 / (1 + np.exp(-odds))
    rate_after = 1 / (1 + np.exp(-odds - rng.uniform(-drift, drift)))
    total = int(np.exp(rng.uniform(*np.log(users))))
    segment, clarity = "", 0.0
    if planted:
        for _ in range(1000):
            chosen = sorted(rng.choice(len(sizes), int(rng.integers(1, 3)), replace=False))
            values = [int(rng.integers(sizes[d])) for d in chosen]
            mask = np.all([grid[:, d] == v for d, v in zip(chosen, values, strict=True)], axis=0)
            if 0.05 <= first[mask].sum() <= 0.4:
                break
        factor = 1 + rng.choice([-1, 1]) * rng.uniform(0.1, 0.6)
        changed = np.where(mask, np.minimum(rate_after * factor, 0.95), rate_after)
        effect = (second * (changed - rate_after))[mask].sum() / second[mask].sum()
        parts = [(w[m], r[m]) for w, r in ((first, rate_before), (second, changed)) for m in (mask, ~mask)]
        variance = sum((w * r * (1 - r)).sum() / w.sum() ** 2 / total for w, r in parts)
        clarity, rate_after = abs(effect) / np.sqrt(variance), changed
        segment = " & ".join(f"{DIMENSIONS[d]}={'abcdefg'[v]}" for d, v in zip(chosen, values, strict=True))
    frames = []
    for weights, rates in ((first, rate_before), (second, rate_after)):
        counts = rng.multinomial(total, weights)
        frame = pd.DataFrame({n: ["abcdefg"[v] for v in grid[:, d]] for d, n in enumerate(DIMENSIONS)})
        frames.append(frame.assign(users_count=counts, returned_count=rng.binomial(counts, rates)))
    return Planted(*frames, segment, float(clarity))

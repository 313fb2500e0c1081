"""The tables that belong to the company rather than to users: marketing spend and site traffic."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from opslib.data.sample_company.company import (
    BINS_PER_DAY,
    CHANNELS,
    DAY_SECONDS,
    Floats,
    Ints,
    SampleSettings,
    day_profile,
    is_weekend,
)
from opslib.data.sample_company.incidents import VOCABULARY, Effects
from opslib.data.sample_company.tables import TABLES, time_column, words_column
from opslib.data.sample_company.users import plan_signups

_COMPANY_STREAM = 2**31  # spawn key of the company's own draws, out of reach of chunk numbers
_AD_PRICE_RISE = 0.25  # paid ads cost this much more at the end of the window than at its start
_SLOWEST_MS = 9_000


def company_rng(settings: SampleSettings, purpose: int) -> np.random.Generator:
    """A stream for one company-level table, apart from all chunks."""
    seed = np.random.SeedSequence(settings.seed, spawn_key=(_COMPANY_STREAM, purpose))
    return np.random.Generator(np.random.SFC64(seed))


def daily_spend(settings: SampleSettings, effects: Effects) -> Floats:
    """Money spent per day and channel: the ordinary plan at its price, incidents on top."""
    rng = company_rng(settings, 0)
    planned = plan_signups(settings, None)
    planned *= settings.users / plan_signups(settings, effects).sum()
    price = np.array([channel.cost_per_signup for channel in CHANNELS])
    rise = 1.0 + _AD_PRICE_RISE * np.arange(settings.days) / settings.days
    paid = np.array([channel.name == "paid_ads" for channel in CHANNELS])
    spend = planned * price * np.where(paid, rise[:, None], 1.0)
    spend *= np.exp(0.07 * rng.standard_normal(spend.shape))
    codes = np.arange(len(CHANNELS))
    for day in range(settings.days):
        spend[day] = spend[day] * effects.multiplier("spend", day, lambda _column: codes)
    return np.round(spend, 2)


def spend_table(settings: SampleSettings, effects: Effects) -> pa.Table:
    """The `spend` table; channels that cost nothing have no rows."""
    spend = daily_spend(settings, effects)
    bought = np.array([channel.cost_per_signup > 0 for channel in CHANNELS])
    day, channel = np.nonzero(np.broadcast_to(bought, spend.shape))
    dates = np.datetime64(settings.start, "D") + day
    columns = [pa.array(dates), words_column(channel, VOCABULARY["channel"]), pa.array(spend[day, channel])]
    return pa.Table.from_arrays(columns, names=[c.name for c in TABLES["spend"].columns])


def traffic_bins(settings: SampleSettings, effects: Effects, events_by_day: Ints) -> dict[str, Ints]:
    """Requests, errors and latency per five minutes, from the events of each day and the site's capacity."""
    rng, rates = company_rng(settings, 1), settings.rates
    profiles = np.array([day_profile(is_weekend(settings, day)) for day in range(settings.days)])
    expected = events_by_day[:, None] * profiles * rates.requests_per_event
    # The site grows with its busiest day so far; nobody takes machines away.
    capacity = rates.capacity_over_peak * np.maximum.accumulate(expected.max(axis=1))[:, None]
    hour = np.arange(BINS_PER_DAY) // (BINS_PER_DAY // 24)
    for day in range(settings.days):
        expected[day] = expected[day] * effects.multiplier("requests", day, lambda _column: hour)
    requests = rng.poisson(expected * np.exp(0.05 * rng.standard_normal(expected.shape)))
    load = requests / np.maximum(capacity, 1.0)
    refused = np.maximum(0.0, 1.0 - 1.0 / np.maximum(load, 1e-9))
    errors = rng.binomial(requests, rates.error_share + (1 - rates.error_share) * refused)
    wait = 1.0 + 0.3 * load + 9.0 * np.maximum(0.0, load - 0.75) ** 1.5
    p95 = rates.p95_ms * wait * np.exp(0.06 * rng.standard_normal(load.shape))
    return {
        "requests": requests.ravel(),
        "errors": errors.ravel(),
        "p95_ms": np.minimum(p95, _SLOWEST_MS).astype(np.int64).ravel(),
    }


def traffic_table(settings: SampleSettings, bins: dict[str, Ints]) -> pa.Table:
    """The `traffic` table."""
    count = settings.days * BINS_PER_DAY
    starts = np.arange(count) * (DAY_SECONDS // BINS_PER_DAY)
    columns = [
        time_column(starts, settings),
        *(pa.array(values.astype(np.int32)) for values in bins.values()),
    ]
    return pa.Table.from_arrays(columns, names=[c.name for c in TABLES["traffic"].columns])

"""In companies in which nothing happens, rules fire no more often than they say."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest
from scipy import stats

from opslib.data.sample_company import generate_sample
from opslib.data.source import open_data
from opslib.decide.scope import choose_scope
from opslib.decide.series import SeriesReader
from opslib.decide.watch.watch import check_rule

ROOT = Path(__file__).resolve().parents[2]
SEEDS = range(1, 21)
USERS = 8_000
DAYS = 365
# Over all rules together: chance alone fails this test once in a hundred seeds' choices.
SIGNIFICANCE = 0.01


def count_firings(folder: Path) -> pd.DataFrame:
    """Firings of the last year by rule and version, and how many were stated."""
    data = open_data(folder / "playbook.toml")
    scope = choose_scope(data)
    reader = SeriesReader(data, as_of=scope.as_of)
    since = pd.Timestamp(scope.as_of) - pd.Timedelta(days=DAYS)
    rows = []
    for rule in data.playbook.rules:
        result = check_rule(rule, reader, scope)
        recent = result.firings[pd.to_datetime(result.firings["fired_on"]) > since]
        for version, stated in (
            ("verbatim", "noise_fires_per_year"),
            ("calibrated", "calibrated_noise_fires_per_year"),
        ):
            fired = int((recent["version"] == version).sum())
            rows.append((rule.name, version, fired, float(result.groups[stated].fillna(0).sum())))
    return pd.DataFrame(rows, columns=["rule", "version", "fired_count", "stated_count"])


@pytest.mark.slow
def test_rules_fire_no_more_often_than_they_say(tmp_path: Path) -> None:
    parts = []
    for seed in SEEDS:
        folder = tmp_path / str(seed)
        generate_sample(folder / "data" / "samples", users=USERS, seed=seed, incidents=())
        shutil.copy(ROOT / "playbook.toml", folder)
        parts.append(count_firings(folder))
        shutil.rmtree(folder)
    total = pd.concat(parts).groupby(["rule", "version"])[["fired_count", "stated_count"]].sum()
    assert total["fired_count"].sum() > 100, "nothing fires at all: the test would prove nothing"
    p_values = stats.poisson.sf(total["fired_count"] - 1, total["stated_count"])
    worst = total.assign(p_value=p_values)[p_values < SIGNIFICANCE / len(total)]
    assert worst.empty, worst.to_string()
    # And the statement is no empty one: rules that fire often say about how often.
    often = total[total["stated_count"] > 40]
    assert len(often) >= 3
    assert (often["fired_count"] > 0.5 * often["stated_count"]).all(), often.to_string()

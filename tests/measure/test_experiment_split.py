"""The sample-ratio check: published values, where a wrong split comes from, how often it cries wolf."""

from __future__ import annotations

import json
from pathlib import Path

import ibis
import numpy as np
import pandas as pd
import pytest

from opslib.errors import InputError
from opslib.measure.estimate import adjust_p_values
from opslib.measure.experiment.split import (
    check_split,
    count_by_attribute,
    judge_split,
    locate_mismatch,
    resolve_shares,
)

HALVES = {"a": 0.5, "b": 0.5}


@pytest.mark.shared
def test_published_sample_ratios(shared: Path) -> None:
    """Outside reference: Kohavi, Tang and Xu (2020), ch. 3; the cookie cats."""
    cases = json.loads((shared / "cases" / "references.json").read_text())["SRM"]
    book = cases["kohavi_tang_xu_2020_ch3_scenario1"]
    check = check_split({"a": book["control"], "b": book["treatment"]}, HALVES)
    assert check.p_value == pytest.approx(book["recomputed_p"], rel=1e-9)
    assert check.p_value == pytest.approx(book["published_p"], rel=0.02)
    assert check.verdict == "mismatch"
    cats = check_split(dict(zip("ab", cases["cookie_cats"]["n"], strict=True)), HALVES)
    assert cats.p_value == pytest.approx(cases["cookie_cats"]["p"], rel=1e-9)
    assert cats.verdict == "doubtful"


def test_small_splits_are_counted_out() -> None:
    """0 of 8 on one side: 2 x .5^8; three small variants cannot be tested; nobody, nothing."""
    assert judge_split([0, 8], [0.5, 0.5]) == pytest.approx(2 * 0.5**8)
    assert judge_split([0, 2, 1], [0.4, 0.3, 0.3]) is None
    assert judge_split([0, 0], [0.5, 0.5]) is None
    assert check_split({}, HALVES).variants["share_rate"].isna().all()


def test_planned_shares() -> None:
    assert resolve_shares(["b", "a"], None, "b") == {"b": 0.5, "a": 0.5}
    assert resolve_shares(["a"], {"a": 9, "b": 1}, "b") == {"b": 0.1, "a": 0.9}
    with pytest.raises(InputError, match="Did you mean 'control'"):
        resolve_shares(["control", "page"], None, "contrl")
    with pytest.raises(InputError, match="no planned share"):
        resolve_shares(["a", "b", "c"], {"a": 1, "b": 1}, "a")
    with pytest.raises(InputError, match="above 0"):
        resolve_shares(["a", "b"], {"a": 1, "b": 0}, "a")
    with pytest.raises(InputError, match="not among"):
        resolve_shares(["a"], {"a": 1, "b": 1}, "c")


def test_sound_splits_are_called_wrong_no_more_than_once_in_a_thousand() -> None:
    counts = np.random.default_rng(2).multinomial(5000, [0.2, 0.3, 0.5], 4000)
    p = np.array([judge_split(list(c), [0.2, 0.3, 0.5]) for c in counts], dtype=float)
    assert (p < 0.001).sum() <= 11
    assert (p < 0.05).mean() == pytest.approx(0.05, abs=0.01)


@pytest.mark.parametrize("cause", ["platform", "day"])
def test_where_a_split_went_wrong(cause: str) -> None:
    """A tenth of the users of variant b are lost in one place: it is named first, and everybody else is fine."""
    rng = np.random.default_rng(9)
    users = 40_000
    frame = pd.DataFrame(
        {
            "user_id": np.arange(users),
            "variant": rng.choice(["a", "b"], users),
            "day": pd.Timestamp("2026-01-01") + pd.to_timedelta(rng.integers(0, 10, users), unit="D"),
        }
    )
    attributes = pd.DataFrame(
        {
            "user_id": np.arange(users),
            "platform": rng.choice(["android", "ios", "web"], users),
            "channel": rng.choice([f"c{n}" for n in range(40)], users),
            "age": rng.integers(18, 60, users),
        }
    )
    place = attributes["platform"] == "ios" if cause == "platform" else frame["day"] == "2026-01-05"
    frame = frame[~(place & (frame["variant"] == "b") & (rng.random(users) < (0.15 if cause == "platform" else 0.4)))]
    assigned = ibis.memtable(frame)
    assigned = assigned.mutate(day=assigned.day.cast("date"))
    counted = count_by_attribute(assigned, ibis.memtable(attributes), None)
    assert set(counted["dimension"]) == {"day", "platform", "channel"}
    assert counted[counted["dimension"] == "channel"]["value"].nunique() == 21
    assert (counted.groupby("dimension")["users"].sum() == len(frame)).all()
    found = locate_mismatch(counted, HALVES)
    first = found.iloc[0]
    expected = "ios" if cause == "platform" else "2026-01-05"
    assert (first["dimension"], first["value"], first["variant"]) == (cause, expected, "b")
    assert first["explains"]
    assert found["explains"].sum() == 1
    assert check_split({"a": 1, "b": 1}, HALVES, where=found).findings()[-1]["value"] == expected


def test_users_without_attributes_have_a_place_too() -> None:
    assigned = ibis.memtable(
        {"user_id": [1, 2, 3], "variant": ["a", "b", "a"], "day": [None] * 3},
        schema={"user_id": "int64", "variant": "string", "day": "date"},
    )
    attributes = ibis.memtable({"user_id": [1], "vip": [True]})
    counted = count_by_attribute(assigned, attributes, ["vip"])
    assert counted[["dimension", "value", "users"]].sort_values("users").to_numpy().tolist()[-1][0] == "vip"
    assert counted["users"].sum() == 3
    assert "(not given)" in set(counted["value"])
    with pytest.raises(InputError, match="Did you mean 'vip'"):
        count_by_attribute(assigned, attributes, ["vipp"])
    assert locate_mismatch(counted, HALVES)["p_value"].isna().all()


def test_q_values_leave_out_what_was_not_tested() -> None:
    assert adjust_p_values([0.01, 0.04, 0.03, float("nan")])[:3].tolist() == pytest.approx([0.03, 0.04, 0.04])
    assert np.isnan(adjust_p_values([float("nan")])).all()

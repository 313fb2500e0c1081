"""Causes on made-up users: published numbers, planted causes found, planted non-causes not, chance silent."""

from __future__ import annotations

import datetime as dt
import math

import ibis
import numpy as np
import pandas as pd
import pytest

from opslib.data.periods import Calendar, Period
from opslib.errors import InputError
from opslib.explain.causes import Cases, check_expiry, compare_reasons, find_causes
from opslib.explain.causes_compare import ReasonCounts, compare_counts, estimate_attributable, fit_jointly

UTC = Calendar()


def expand(cells: list[tuple[int, int, str, int]]) -> ibis.Table:
    """Users from counts: left, reason, stratum, how many."""
    rows = [(left, reason, stratum) for left, reason, stratum, n in cells for _ in range(n)]
    return ibis.memtable(pd.DataFrame(rows, columns=["left", "reason", "stratum"]))


def test_published_risk_ratio() -> None:
    """Deaths on tolbutamide and placebo by age: Rothman and Greenland, Modern Epidemiology, 2nd ed., table 15-1 (from
    the University Group Diabetes Program 1970): pooled risk ratio 1.33, crude 1.44."""
    young = [(1, 1, "under 55", 8), (0, 1, "under 55", 98), (1, 0, "under 55", 5), (0, 0, "under 55", 115)]
    old = [(1, 1, "55 and more", 22), (0, 1, "55 and more", 76), (1, 0, "55 and more", 16), (0, 0, "55 and more", 69)]
    table = expand(young + old)
    row = compare_reasons(table, left="left", reasons=["reason"], strata=["stratum"]).reasons.iloc[0]
    assert row["risk_ratio"] == pytest.approx(1.33, abs=0.005)
    assert row["raw_risk_ratio"] == pytest.approx(1.44, abs=0.005)
    assert row["status"] == "not clear"


def test_published_attributable_share() -> None:
    """Antibiotics in pregnancy and sudden infant death: Rothman and Greenland, Modern Epidemiology, 2nd ed., chapters
    14 and 16: odds ratio 1.42."""
    counts = ReasonCounts(*(np.array([float(n)]) for n in (173, 775, 134, 797)))
    row = compare_counts(counts, ratio="odds", minimum=20)
    assert row["odds_ratio"] == pytest.approx(1.42, abs=0.005)
    # Miettinen's formula by hand, and the equal form (p1 - p0) / (1 - p0).
    p1, p0 = 173 / 775, 134 / 797
    assert row["attributable_rate"] == pytest.approx((p1 - p0) / (1 - p0))
    assert row["attributable_rate"] == pytest.approx(p1 * (1 - 1 / row["odds_ratio"]))


@pytest.mark.parametrize("ratio", ["odds", "risk"])
def test_interval_of_the_share_covers(ratio: str) -> None:
    """The interval holds the true share in about 95 of 100 samples."""
    rng = np.random.default_rng(1)
    true = 0.3 * 0.4 / (0.3 * 0.4 + 0.7 * 0.2) * (1 - (0.2 / 0.4 if ratio == "risk" else (0.25 / (2 / 3))))
    inside = 0
    for _ in range(2000):
        a1, b1, a0, b0 = rng.multinomial(800, [0.3 * 0.4, 0.3 * 0.6, 0.7 * 0.2, 0.7 * 0.8]).astype(float)
        counts = ReasonCounts(*(np.array([n]) for n in (a1, a1 + a0, b1, b1 + b0)))
        row = compare_counts(counts, ratio=ratio, minimum=20)  # type: ignore[arg-type]
        inside += row["attributable_low"] <= true <= row["attributable_high"]
    assert inside / 2000 == pytest.approx(0.95, abs=0.015)


def test_share_without_leavers_with_the_reason_is_unknown() -> None:
    counts = ReasonCounts(*(np.array([float(n)]) for n in (0, 50, 10, 50)))
    assert all(math.isnan(x) for x in estimate_attributable(counts, math.nan, math.nan, ratio="odds"))


def test_joint_model_gives_the_odds_ratio_of_a_table() -> None:
    """With one reason and nothing else, the model's coefficient is the table's log odds ratio with Woolf's error."""
    patterns = pd.DataFrame({"x": [1, 0], "left_count": [40, 30], "users_count": [100, 150]})
    model = fit_jointly(patterns, ["x"], [])
    assert model.log_odds[0] == pytest.approx(math.log(40 * 120 / (60 * 30)), abs=1e-6)
    assert model.errors[0] == pytest.approx(math.sqrt(1 / 40 + 1 / 60 + 1 / 30 + 1 / 120), abs=1e-5)


def simulate(
    seed: int, users: int = 6000, *, hazard: float = 0.0, planted: dict[str, tuple[float, float]] | None = None
) -> pd.DataFrame:
    """Users whose tenure (0 to 1) moves leaving by `hazard` and three behaviours; planted: prevalence, risk ratio."""
    rng = np.random.default_rng(seed)
    tenure = rng.random(users)
    frame = pd.DataFrame({"tenure": np.floor(tenure * 20).astype(int)})
    risk = 0.12 * np.exp(-hazard * (tenure - 0.5))
    for name, slope in (("no_badge", 1.5), ("no_invite", 2.5), ("welcome_coupon", 3.5)):
        frame[name] = rng.random(users) < 1 / (1 + np.exp(slope * (tenure - 0.5) * 2))
    for name, (prevalence, ratio) in (planted or {}).items():
        has = rng.random(users) < prevalence
        frame[name] = has
        risk = risk * np.where(has, ratio, 1.0)
    frame["left"] = rng.random(users) < np.minimum(risk, 0.95)
    return frame


NON_CAUSES = ["no_badge", "no_invite", "welcome_coupon"]


def test_what_only_goes_with_tenure_is_not_named() -> None:
    """Over 50 companies: raw ratios are large, and some non-cause is named in no more than about one in twenty."""
    named, raw = 0, []
    for seed in range(50):
        frame = simulate(seed, 4000, hazard=2.0)
        found = compare_reasons(ibis.memtable(frame), left="left", reasons=NON_CAUSES, strata=["tenure"])
        raw.append(found.reasons.set_index("reason").loc[NON_CAUSES, "raw_risk_ratio"].to_numpy())
        named += len(found.named) > 0
    means = np.mean(raw, axis=0)
    assert (means > [1.3, 1.5, 1.7]).all(), means
    # At a true rate of 5%, more than 6 of 50 come 4 times in 100.
    assert named <= 6


def test_without_strata_they_would_be_named() -> None:
    """The test above can fail: the same companies without tenure among the strata."""
    found = compare_reasons(ibis.memtable(simulate(0, hazard=2.0)), left="left", reasons=NON_CAUSES)
    assert len(found.named)


def test_beside_a_planted_cause_non_causes_stay_unnamed() -> None:
    """False ones among the named stay below the stated share; the cause is first, with about its true share."""
    false = true = 0
    shares = []
    for seed in range(100, 115):
        frame = simulate(seed, hazard=2.0, planted={"coupon": (0.35, 2.0)})
        found = compare_reasons(ibis.memtable(frame), left="left", reasons=[*NON_CAUSES, "coupon"], strata=["tenure"])
        names = found.named["reason"].tolist()
        true += names[:1] == ["coupon"]
        false += len(set(names) - {"coupon"})
        shares.append(found.estimate_share("coupon").value)
    assert true == 15
    assert false <= 2
    # 35% with twice the risk: .7 / 1.35 of the leavers have it, half of them because of it.
    assert np.mean(shares) == pytest.approx(0.35 * 2 / 1.35 / 2, abs=0.02)


def test_chance_is_silent() -> None:
    """Leaving dealt out anew within strata: something is named in at most about 5% of the samples."""
    reasons = [f"b{i}" for i in range(6)]
    rng = np.random.default_rng(5)
    frame = simulate(7, users=2500, hazard=2.0)
    for i, name in enumerate(reasons):
        frame[name] = rng.random(len(frame)) < 0.05 + 0.1 * i
    named = 0
    for _ in range(30):
        frame["left"] = frame.groupby("tenure")["left"].transform(lambda x: rng.permutation(x.to_numpy()))
        found = compare_reasons(ibis.memtable(frame), left="left", reasons=reasons, strata=["tenure"], least_ratio=1.0)
        named += len(found.named) > 0
    assert named <= 4


@pytest.mark.slow
@pytest.mark.parametrize(
    ("prevalence", "ratio", "power"),
    [(0.05, 3.0, 1.0), (0.1, 2.0, 0.95), (0.3, 1.5, 0.9), (0.6, 1.3, 0.3), (0.3, 1.3, 0.3)],
)
def test_power(prevalence: float, ratio: float, power: float) -> None:
    """How often a planted cause is named among 10,000 users of whom about 12% leave anyway."""
    hits = 0
    for seed in range(10):
        frame = simulate(seed + 300, users=10_000, hazard=2.0, planted={"cause": (prevalence, ratio)})
        found = compare_reasons(ibis.memtable(frame), left="left", reasons=[*NON_CAUSES, "cause"], strata=["tenure"])
        hits += "cause" in found.named["reason"].tolist()
    assert hits / 10 >= power


def test_a_companion_of_the_cause_is_explained_by_it() -> None:
    """What only comes along with the cause: alone clear, beside it not; nearly a copy: grouped with it."""
    rng = np.random.default_rng(3)
    frame = simulate(3, users=20_000, planted={"cause": (0.3, 3.0)})
    frame["companion"] = np.where(frame["cause"], rng.random(len(frame)) < 0.6, rng.random(len(frame)) < 0.3)
    frame["copy"] = frame["cause"] ^ (rng.random(len(frame)) < 0.05)
    found = compare_reasons(ibis.memtable(frame), left="left", reasons=["cause", "companion", "copy"])
    status = found.reasons.set_index("reason")["status"].to_dict()
    assert status == {"cause": "named", "companion": "explained by others", "copy": "goes with another"}
    assert found.reasons.set_index("reason").loc["copy", "group"] == "cause"
    assert found.reasons.set_index("reason").loc["companion", "p_value"] < 0.001
    assert found.pairs.set_index(["reason", "other"])["correlation"].max() > 0.6
    assert found.together.value == pytest.approx(found.estimate_share("cause").value, abs=0.08)


@pytest.mark.parametrize(
    ("left", "words"),
    [([False] * 60, "Nobody left"), ([True] * 60, "Everybody left"), ([], "nobody to compare"), ([True], "left")],
)
def test_edges(left: list[bool], words: str) -> None:
    frame = pd.DataFrame({"left": pd.Series(left, dtype=bool), "a": pd.Series([True] * len(left), dtype=bool)})
    found = compare_reasons(
        ibis.memtable(frame, schema={"left": "boolean", "a": "boolean"}), left="left", reasons=["a"]
    )
    assert words in " ".join(found.notes)
    assert found.reasons["status"].tolist() == ["too few"]
    assert found.together.value is None
    assert all(value == value for record in found.findings() for value in record.values())


def test_no_reasons_at_all() -> None:
    table = ibis.memtable({"user_id": range(60), "index_day": [dt.date(2026, 1, 1)] * 60, "left": [True, False] * 30})
    found = find_causes(Cases.of_table(table), {}, calendar=UTC)
    assert found.reasons.empty
    assert "no reason to look for" in found.notes[0]


def test_mistakes_are_named() -> None:
    table = ibis.memtable({"left": [True], "late_ticket": [True], "text": ["a"]})
    with pytest.raises(InputError, match="late_ticket"):
        compare_reasons(table, left="left", reasons=["late_tickets"])
    with pytest.raises(InputError, match="is string"):
        compare_reasons(table, left="left", reasons=["text"])
    with pytest.raises(InputError, match="Two reasons are called"):
        compare_reasons(table, left="left", reasons=["late_ticket", "late_ticket"])


def simulate_expiry(seed: int, jump: float, used_jump: float = 1.0) -> tuple[ibis.Table, ibis.Table]:
    """Holders of one coupon each, active every second day or so, who leave more from the day of expiry on."""
    rng = np.random.default_rng(seed)
    users, days = 4000, 60
    start = dt.date(2026, 1, 1)
    expiry = rng.integers(20, 40, users)
    used = rng.random(users) < 0.3
    alive, active = np.ones(users, dtype=bool), []
    for day in range(days):
        here = alive & (rng.random(users) < 0.5)
        active += [(int(u), start + dt.timedelta(days=day)) for u in np.flatnonzero(here)]
        chance = 0.02 * np.where(day >= expiry, np.where(used, used_jump, jump), 1.0)
        alive &= ~(here & (rng.random(users) < chance))
    midnight = [dt.datetime(2026, 1, 1) + dt.timedelta(days=int(e)) for e in expiry]
    coupons = pd.DataFrame({"user_id": range(users), "expires_at": midnight})
    coupons["issued_at"] = coupons["expires_at"] - pd.Timedelta(days=15)
    coupons["redeemed_at"] = (coupons["expires_at"] - pd.Timedelta(days=10)).where(used)
    table = ibis.memtable(pd.DataFrame(active, columns=["user_id", "day"]))
    return table, ibis.memtable(coupons)


JANUARY = Period(dt.date(2026, 1, 1), dt.date(2026, 2, 10), "January")


def test_expiry_jump_is_found() -> None:
    days, coupons = simulate_expiry(1, 3.0)
    found = check_expiry(days, coupons, JANUARY, as_of=dt.date(2026, 3, 1), calendar=UTC, silent_days=14)
    assert found.evidence == "natural_experiment", found.notes
    assert found.jump.low is not None and found.jump.high is not None
    assert found.jump.low < 3 < found.jump.high
    assert found.coupons_count == 4000


def test_a_jump_that_everybody_shows_is_no_proof() -> None:
    days, coupons = simulate_expiry(2, 3.0, used_jump=3.0)
    found = check_expiry(days, coupons, JANUARY, as_of=dt.date(2026, 3, 1), calendar=UTC, silent_days=14)
    assert found.evidence == "association"
    assert "not clearly more" in found.notes[0]


def test_no_jump_is_no_proof() -> None:
    claims = 0
    for seed in range(4):
        days, coupons = simulate_expiry(seed + 10, 1.0)
        found = check_expiry(days, coupons, JANUARY, as_of=dt.date(2026, 3, 1), calendar=UTC, silent_days=14)
        claims += found.evidence == "natural_experiment"
    assert claims <= 1


def test_expiry_without_coupons() -> None:
    names = {"user_id": "int64", "issued_at": "timestamp", "expires_at": "timestamp", "redeemed_at": "timestamp"}
    coupons = ibis.memtable(pd.DataFrame(columns=list(names)), schema=names)
    days = ibis.memtable({"user_id": [1], "day": [dt.date(2026, 1, 1)]})
    found = check_expiry(days, coupons, JANUARY, as_of=dt.date(2026, 3, 1), calendar=UTC)
    assert (found.evidence, found.coupons_count, found.jump.value) == ("association", 0, None)
    assert found.notes
    with pytest.raises(InputError, match="redeemed_at"):
        check_expiry(days, coupons.drop("redeemed_at"), JANUARY, as_of=dt.date(2026, 3, 1), calendar=UTC)

"""Why a total moved: by hand, exact splits, planted moves, offsetting moves, new values, unlike spans, refusals."""

from __future__ import annotations

import itertools
import json

import ibis
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opslib.errors import InputError
from opslib.explain.totals import TotalExplanation, explain_total

DIMENSIONS = ("channel", "platform")
Cells = dict[tuple[str, str], float]


def table(cells: Cells) -> pd.DataFrame:
    return pd.DataFrame([(*k, v) for k, v in cells.items()], columns=[*DIMENSIONS, "orders_count"])


def level_cells(count: float = 1000.0, **changed: float) -> pd.DataFrame:
    names = itertools.product(("ads", "mail", "search", "social"), ("ios", "tv", "web"))
    return table({(c, p): changed.get(f"{c}_{p}", changed.get(c, count)) for c, p in names})


def explain(before: pd.DataFrame, after: pd.DataFrame, **options: object) -> TotalExplanation:
    wanted = {"dimensions": DIMENSIONS, "amount": "orders_count"}
    return explain_total(before, after, **wanted | options)  # type: ignore[arg-type]


def test_one_combination_by_hand() -> None:
    """One cell of twelve loses 400 of 1,000: that is all of the change."""
    result = explain(level_cells(), level_cells(ads_ios=600))
    assert result.causes["segment"].tolist() == ["channel=ads & platform=ios"]
    row = result.causes.iloc[0]
    assert (row["change_amount"], row["expected_amount"], row["excess_amount"]) == pytest.approx((-400, 1000, -400))
    assert row["share_of_change_rate"] == pytest.approx(1)
    assert row["excess_low_amount"] < -400 < row["excess_high_amount"]
    assert result.splits.set_index("value").loc["ads", "change_amount"] == -400


def test_a_common_growth_is_no_cause() -> None:
    result = explain(level_cells(), level_cells(1300))
    assert not result.localised
    assert result.findings()[-1]["kind"] == "no_localised_cause"


def test_a_longer_side_is_compared_by_day() -> None:
    result = explain(level_cells(), level_cells(2000, ads=1500), days=(10, 20))
    assert (result.before_amount, result.after_amount) == pytest.approx((1200, 1125))
    assert result.causes["segment"].tolist() == ["channel=ads"]
    assert result.warnings == ()
    assert "days" in explain(level_cells(), level_cells(3000)).warnings[0]


def test_offsetting_moves_are_both_named_and_said() -> None:
    result = explain(level_cells(), level_cells(ads=700, search=1300))
    assert set(result.causes["segment"]) == {"channel=ads", "channel=search"}
    assert result.change_amount == 0
    assert (result.rising_amount, result.falling_amount) == (900, -900)
    assert "offsetting" in result.warnings[0]
    assert result.splits["share_of_change_rate"].isna().all()


def test_new_and_vanished_values() -> None:
    before = level_cells().replace({"channel": {"mail": "gone"}})
    after = level_cells().replace({"channel": {"mail": "new"}})
    result = explain(before, after)
    assert dict(result.causes[["segment", "status"]].itertuples(index=False, name=None)) == {
        "channel=gone": "vanished",
        "channel=new": "new",
    }
    assert result.splits.set_index("value").loc[["gone", "new"], "change_amount"].tolist() == [-3000, 3000]


def test_amounts_need_their_squares_where_a_few_are_large() -> None:
    """One order of 5,000 among orders of 10 is no news of its channel."""
    before, after = level_cells(10_000), level_cells(10_000, ads_ios=15_000)
    squares = [f["orders_count"] * 10 for f in (before, after)]
    squares[1] = squares[1] + np.where(after["orders_count"] > 10_000, 5_000**2, 0)
    money = [f.assign(squares=s) for f, s in zip((before, after), squares, strict=True)]
    assert not explain(*money, squares="squares").localised
    assert explain(before, after).localised


def test_two_segments_from_the_engine() -> None:
    """Segment A against B instead of two periods, as Ibis tables of single rows."""
    sides = [ibis.memtable(level_cells(**k).assign(extra=1)) for k in ({}, {"social_web": 300})]
    assert explain(*sides).causes["segment"].tolist() == ["channel=social & platform=web"]  # type: ignore[arg-type]


def test_refusals_say_what_to_do() -> None:
    some = level_cells()
    with pytest.raises(InputError, match="do not add up"):
        explain(some, some, totals=(12_000, 11_000))
    with pytest.raises(InputError, match="Did you mean 'channel'"):
        explain(some, some, dimensions=["chanel"])
    with pytest.raises(InputError, match="squares"):
        explain(some, some.assign(orders_count=-1))
    with pytest.raises(InputError, match="days"):
        explain(some, some, days=(0, 1))
    with pytest.raises(InputError, match="missing"):
        explain(some, some.assign(orders_count=np.nan))


def test_nothing_planted_nothing_said() -> None:
    """Poisson counts, with a common growth and without: silent in at least 95%."""
    rng = np.random.default_rng(1)
    named = []
    for draw in range(30):
        sides = [
            level_cells().assign(orders_count=lambda t, m=m: rng.poisson(200 * m, len(t))) for m in (1, 1 + draw % 2)
        ]
        named.append(explain(*sides).localised)
    assert np.mean(named) <= 0.05


def test_scatter_of_all_widens_the_claim() -> None:
    """Where every combination swings by a half, a cell that swings by a half is none of note."""
    rng = np.random.default_rng(2)
    named = []
    for _ in range(15):
        after = level_cells().assign(orders_count=lambda t: (1000 * rng.lognormal(0, 0.4, len(t))).round())
        named.append(explain(level_cells(), after).localised)
    assert np.mean(named) <= 0.1


amounts = st.dictionaries(
    st.tuples(st.sampled_from("abc"), st.sampled_from("xyz")), st.integers(0, 500).map(float), max_size=9
)


@settings(max_examples=15)
@given(amounts, amounts)
def test_splits_are_exact_and_nothing_fails(before: Cells, after: Cells) -> None:
    result = explain(table(before), table(after))
    json.dumps(result.findings(), allow_nan=False)
    whole = sum(after.values()) - sum(before.values())
    assert result.change_amount == pytest.approx(whole)
    for _, part in result.splits.groupby("dimension"):
        assert part["change_amount"].sum() == pytest.approx(whole)
    assert result.rising_amount + result.falling_amount == pytest.approx(whole)
    assert result.localised or result.note

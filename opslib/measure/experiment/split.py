"""Was the split what was planned? The sample-ratio check, and where a wrong split comes from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import ibis
import ibis.expr.types as ir
import numpy as np
import pandas as pd

from opslib.errors import InputError, suggest_name
from opslib.measure.estimate import Estimate, adjust_p_values, estimate_rate, to_plain_record

# Below this nothing is concluded; up to the second it is said. Kohavi, Tang and Xu (2020), ch. 21.
MISMATCH = 0.001
DOUBT = 0.01
# Values of an attribute that keep their names in the search for where.
VALUES = 20
OTHER = "(other)"
NOT_GIVEN = "(not given)"
# Fewer users in a cell and chi-square is not the right yardstick.
SMALL_CELL = 5
WHERE_COLUMNS = (
    "dimension",
    "value",
    "users_count",
    "variant",
    "share_rate",
    "planned_rate",
    "p_value",
    "rest_p_value",
    "q_value",
    "explains",
)


@dataclass(frozen=True)
class SplitCheck:
    """Users by variant against the plan.

    Attributes:
        variants: variant, users_count, planned_rate, expected_count, share_rate, share_low, share_high.
        p_value: chance of a split at least as uneven if users were split as planned; None where it cannot be said.
        verdict: "fine", "doubtful" (p < .01: said, but conclusions stand), "mismatch" (p < .001: no conclusions).
        crossed: users seen in more than one variant, of all; they are set aside. `crossed_by_first`: by first variant.
        unassigned_count: rows without a user, variant or time; they are left out.
        where: after a mismatch, one row a day and a value of an attribute, the clearest first: dimension, value,
            users_count, variant (furthest from its plan), share_rate, planned_rate, p_value (against the plan),
            rest_p_value (everybody else against the plan), q_value (Benjamini-Hochberg, of being split like everybody
            else), explains (split unlike everybody else, who are as planned).
    """

    variants: pd.DataFrame
    p_value: float | None
    verdict: Literal["fine", "doubtful", "mismatch"]
    crossed: Estimate
    crossed_by_first: dict[str, int]
    unassigned_count: int
    where: pd.DataFrame

    def findings(self) -> list[dict[str, Any]]:
        """The check, one record a variant, and the places that explain a mismatch."""
        check = {"name": "sample_ratio", "p_value": self.p_value, "verdict": self.verdict}
        records = [to_plain_record({**check, "unassigned_count": self.unassigned_count})]
        records += [{"name": "split", **to_plain_record(row)} for row in self.variants.to_dict("records")]
        records.append(self.crossed.to_finding())
        explaining = self.where[self.where["explains"].astype(bool)]
        records += [{"name": "split_where", **to_plain_record(row)} for row in explaining.to_dict("records")]
        return records


def resolve_shares(found: Sequence[str], shares: Mapping[str, float] | None, control: str) -> dict[str, float]:
    """The planned share of each variant, the control first; without a plan all are alike.

    Raises:
        InputError: an unknown control or variant, shares that are not above 0.
    """
    if shares is None:
        names = list(found)
        if control not in names:
            listed = f"Variants: {', '.join(names)}." if names else "There are none."
            raise InputError(
                f"There is no variant '{control}' to be the control.{suggest_name(control, names)} {listed}"
            )
        shares = dict.fromkeys(names, 1.0)
    for name in found:
        if name not in shares:
            raise InputError(f"Variant '{name}' has no planned share.{suggest_name(name, shares)} Name all of them.")
    if control not in shares:
        raise InputError(f"The control '{control}' is not among the planned shares.{suggest_name(control, shares)}")
    if any(not share > 0 for share in shares.values()):
        raise InputError("Planned shares are above 0: leave a variant out that nobody was to be in.")
    total = sum(shares.values())
    ordered = [control, *sorted(name for name in shares if name != control)]
    return {name: shares[name] / total for name in ordered}


def check_split(
    users: Mapping[str, int],
    shares: Mapping[str, float],
    *,
    crossed_by_first: Mapping[str, int] | None = None,
    unassigned: int = 0,
    where: pd.DataFrame | None = None,
) -> SplitCheck:
    """Check users by variant against the plan.

    Args:
        users: variant -> users.
        shares: variant -> planned share.
        crossed_by_first: first variant -> users seen in another one too.
        where: what `locate_mismatch` found.

    Returns:
        A `SplitCheck`.

    Source: chi-square test of fit, exact binomial where a cell is small; Fabijan et al. (2019), Diagnosing sample ratio
    mismatch in online controlled experiments, KDD.

    >>> check = check_split({"gate_30": 44700, "gate_40": 45489}, {"gate_30": 0.5, "gate_40": 0.5})
    >>> round(check.p_value, 6), check.verdict
    (0.008608, 'doubtful')
    """
    crossed_by_first = dict(crossed_by_first or {})
    counts = [int(users.get(v, 0)) for v in shares]
    total = sum(counts)
    p = judge_split(counts, list(shares.values()))
    verdict: Literal["fine", "doubtful", "mismatch"] = "fine"
    if p is not None and p < DOUBT:
        verdict = "mismatch" if p < MISMATCH else "doubtful"
    rows = []
    for (name, planned), count in zip(shares.items(), counts, strict=True):
        share = estimate_rate("share_rate", count, total, minimum=1)
        rows.append((name, count, planned, planned * total, share.value, share.low, share.high))
    names = ["variant", "users_count", "planned_rate", "expected_count", "share_rate", "share_low", "share_high"]
    many = sum(crossed_by_first.values())
    crossed = estimate_rate("crossed_users_rate", many, total + many)
    empty = pd.DataFrame(columns=WHERE_COLUMNS)
    frame = pd.DataFrame(rows, columns=names)
    return SplitCheck(frame, p, verdict, crossed, crossed_by_first, unassigned, empty if where is None else where)


def judge_split(counts: Sequence[int], shares: Sequence[float]) -> float | None:
    """The p-value of a split; None without users or where too few make it untestable."""
    from scipy.special import chdtrc

    total = sum(counts)
    if total == 0 or len(counts) < 2:
        return None
    expected = [share * total for share in shares]
    if min(expected) < SMALL_CELL:
        if len(counts) > 2:
            return None
        from scipy.stats import binomtest

        return float(binomtest(counts[0], total, shares[0]).pvalue)
    chi_square = sum((n - e) ** 2 / e for n, e in zip(counts, expected, strict=True))
    return float(chdtrc(len(counts) - 1, chi_square))


def count_by_attribute(assigned: ir.Table, attributes: ir.Table | None, columns: Sequence[str] | None) -> pd.DataFrame:
    """Users by day of exposure and by each attribute: dimension, value, variant, users.

    Args:
        assigned: user_id, variant, day.
        attributes: user_id and columns known before exposure.
        columns: which of them; by default all texts and flags.

    Raises:
        InputError: a column that is not there.
    """
    frames = []
    days = assigned.filter(assigned.day.notnull())
    parts = [("day", days.select("variant", value=days.day.cast("string")))]
    if attributes is not None:
        kinds = {c: attributes[c].type() for c in attributes.columns if c != "user_id"}
        usable = [c for c, kind in kinds.items() if kind.is_string() or kind.is_boolean()]
        for column in usable if columns is None else columns:
            if column not in kinds:
                raise InputError(f"There is no attribute '{column}'.{suggest_name(column, kinds)}")
            known = attributes.select("user_id", value=attributes[column].cast("string"))
            joined = assigned.left_join(known, "user_id")
            parts.append((column, joined.select("variant", value=joined.value.fill_null(NOT_GIVEN))))
    for name, part in parts:
        counted = part.group_by("value", "variant").aggregate(users=part.count())
        size = counted.users.sum().over(group_by=counted.value)
        sized = counted.mutate(size=size)
        if name != "day":
            rank = ibis.dense_rank().over(order_by=[sized.size.desc(), sized.value])
            ranked = sized.mutate(rank=rank)
            kept = ibis.ifelse(ranked["rank"] < VALUES, ranked.value, OTHER)
            sized = ranked.mutate(value=kept)
        summed = sized.group_by("value", "variant").aggregate(users=sized.users.sum())
        frames.append(summed.to_pandas().assign(dimension=name))
    return pd.concat(frames, ignore_index=True)


def locate_mismatch(counted: pd.DataFrame, shares: Mapping[str, float]) -> pd.DataFrame:
    """Test the split of each day and attribute value, and of everybody else.

    Args:
        counted: dimension, value, variant, users, as `count_by_attribute` gives it.
        shares: variant -> planned share.

    Returns:
        `SplitCheck.where`.
    """
    from scipy.special import chdtrc

    if counted.empty:
        return pd.DataFrame(columns=WHERE_COLUMNS)
    wide = counted.pivot_table(index=["dimension", "value"], columns="variant", values="users", aggfunc="sum")
    wide = wide.reindex(columns=list(shares)).fillna(0.0)
    planned = np.array(list(shares.values()))

    def judge(counts: np.ndarray) -> np.ndarray:
        expected = counts.sum(axis=1, keepdims=True) * planned
        with np.errstate(divide="ignore", invalid="ignore"):
            chi_square = np.where(expected > 0, (counts - expected) ** 2 / expected, 0.0).sum(axis=1)
        p = chdtrc(len(planned) - 1, chi_square)
        return np.where(expected.min(axis=1) >= SMALL_CELL, p, np.nan)

    counts = wide.to_numpy(dtype=float)
    rest = wide.groupby(level="dimension").transform("sum").to_numpy(dtype=float) - counts
    users = counts.sum(axis=1)
    shown = counts / users[:, None]
    # Of two variants equally far from the plan, the one that lacks users.
    furthest = (np.abs(shown / planned - 1).round(9) + np.where(shown < planned, 1e-9, 0)).argmax(axis=1)
    p, rest_p = judge(counts), judge(rest)
    # A loss spread over all values shows in each of them: only one that is unlike the others is a place.
    q = adjust_p_values(_compare_rows(counts, rest))
    at = np.arange(len(counts))
    frame = pd.DataFrame(
        {
            "dimension": wide.index.get_level_values("dimension"),
            "value": wide.index.get_level_values("value"),
            "users_count": users.astype(int),
            "variant": [list(shares)[i] for i in furthest],
            "share_rate": shown[at, furthest],
            "planned_rate": planned[furthest],
            "p_value": p,
            "rest_p_value": rest_p,
            "q_value": q,
            "explains": (np.nan_to_num(q, nan=1.0) < DOUBT) & (np.nan_to_num(rest_p, nan=0.0) >= MISMATCH),
        }
    )
    # The best explanation leaves everybody else as planned.
    ranked = frame.sort_values(["explains", "rest_p_value", "p_value"], ascending=[False, False, True])
    return ranked.reset_index(drop=True)[list(WHERE_COLUMNS)]


def _compare_rows(counts: np.ndarray, rest: np.ndarray) -> np.ndarray:
    """P-values of a split being like another one, row by row (chi-square); nan where a cell is small."""
    from scipy.special import chdtrc

    both = np.stack([counts, rest])
    total = both.sum(axis=(0, 2))
    with np.errstate(divide="ignore", invalid="ignore"):
        expected = both.sum(axis=2, keepdims=True) * both.sum(axis=0, keepdims=True) / total[None, :, None]
        chi_square = ((both - expected) ** 2 / expected).sum(axis=(0, 2))
    tested = np.nan_to_num(expected).min(axis=(0, 2)) >= SMALL_CELL
    return np.where(tested, chdtrc(counts.shape[1] - 1, np.where(tested, chi_square, 0.0)), np.nan)

"""What comes of a search for causes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd

from opslib.explain.causes_compare import Ratio
from opslib.language import say
from opslib.measure.estimate import Estimate, to_plain_record

STATUSES = ("named", "goes with another", "explained by others", "not clear", "goes with staying", "too few")
COLUMNS = (
    "reason",
    "kind",
    "about",
    "status",
    "leavers_with_count",
    "leavers_count",
    "leavers_rate",
    "leavers_low",
    "leavers_high",
    "stayers_with_count",
    "stayers_count",
    "stayers_rate",
    "stayers_low",
    "stayers_high",
    "difference_rate",
    "difference_low",
    "difference_high",
    "raw_risk_ratio",
    "raw_odds_ratio",
    "raw_attributable_rate",
    "raw_attributable_low",
    "raw_attributable_high",
    "risk_ratio",
    "risk_ratio_low",
    "risk_ratio_high",
    "odds_ratio",
    "odds_ratio_low",
    "odds_ratio_high",
    "attributable_rate",
    "attributable_low",
    "attributable_high",
    "joint_odds_ratio",
    "joint_odds_ratio_low",
    "joint_odds_ratio_high",
    "joint_attributable_rate",
    "joint_attributable_low",
    "joint_attributable_high",
    "compared_rate",
    "p_value",
    "joint_p_value",
    "q_value",
    "group",
    "evidence",
)


@dataclass(frozen=True)
class CausesResult:
    """Candidate reasons for leaving, held against stayers at equal strata.

    Attributes:
        reasons: one row a reason, the named first, by their share: reason, kind and about (its name in two parts),
            status (see `STATUSES`); leavers_with_count of leavers_count, stayers_with_count of stayers_count and the
            shares leavers_rate, stayers_rate and difference_rate, each with low and high; raw_risk_ratio,
            raw_odds_ratio and raw_attributable_rate (all in one stratum); risk_ratio, odds_ratio (at equal strata) and
            attributable_rate (share of the leavers who would have stayed without it, if it is a cause), with low and
            high; joint_odds_ratio and joint_attributable_rate with low and high (the other clear reasons as they are;
            missing where a reason was not clear alone or goes with another); compared_rate (leavers with a stayer in
            their stratum), p_value, joint_p_value, q_value (Benjamini-Hochberg over all reasons, on the larger of the
            two), group (the clearest of the reasons that come with it), evidence.
        together: share of the leavers who would have stayed without all named reasons, if they are causes.
        leavers_rate: share of the cases that left.
        pairs: reason, other, with_count (cases with both), correlation; of the reasons clear alone.
        counts: month, leavers_count, stayers_count, young_count.
        strata: what leavers and stayers are alike in.
        ratio: what attributable_rate is made from: "odds" (cases looked at on one day each: the chance to leave on a
            day) or "risk" (reasons that hold for the whole time).
        level: the share of false ones among the named that is put up with.
        evidence: "association".
        notes: what a reader must know, in plain words.
    """

    reasons: pd.DataFrame
    together: Estimate
    leavers_rate: Estimate
    pairs: pd.DataFrame
    counts: pd.DataFrame
    strata: tuple[str, ...]
    ratio: Ratio
    level: float
    notes: tuple[str, ...]
    evidence: str = "association"

    @property
    def named(self) -> pd.DataFrame:
        """The reasons that are named, the largest share first."""
        return self.reasons[self.reasons["status"] == "named"].reset_index(drop=True)

    def estimate_share(self, reason: str) -> Estimate:
        """The attributable share of one reason.

        Raises:
            KeyError: there is no such reason.
        """
        rows = self.reasons[self.reasons["reason"] == reason]
        if rows.empty:
            raise KeyError(reason)
        row = to_plain_record(rows.iloc[0].to_dict())
        value, low, high = (row[f"attributable_{end}"] for end in ("rate", "low", "high"))
        a, m = row["leavers_with_count"], row["leavers_count"]
        note = "" if value is not None else say("not enough data")
        method = "Miettinen; Greenland" if value is not None else "none"
        return Estimate("attributable_rate", value, a, m, low, high, method, "rate", note=note)

    def findings(self) -> list[dict[str, Any]]:
        """The share that left, the share of the named together, one record a reason."""
        records = [self.leavers_rate.to_finding(), self.together.to_finding(evidence=self.evidence)]
        rows = self.reasons.to_dict("records")
        return records + [{"name": "reason", **to_plain_record(row)} for row in rows]

"""For whom messages pay: uplift by segment, and the Qini curve of sending to the most promising first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import ibis
import ibis.expr.types as ir
import numpy as np
import pandas as pd

from opslib.errors import InputError, suggest_name
from opslib.language import mark, say
from opslib.measure.estimate import (
    MINIMUM_DENOMINATOR,
    Estimate,
    Unit,
    adjust_p_values,
    to_plain_record,
)
from opslib.measure.experiment.comparisons import Rules, compare_variants, estimate_values
from opslib.measure.experiment.metrics import Kind, Metric, Outcomes
from opslib.measure.experiment.moments import aggregate_outcomes, arrange_groups
from opslib.measure.experiment.split import MISMATCH
from opslib.measure.recall.arms import HOLDOUT, TREATED, draw_lot
from opslib.measure.recall.qini import CURVE_COLUMNS, draw_qini
from opslib.measure.recall.users import NOT_GIVEN, check_segments
from opslib.measure.sample_size import ExperimentPlan, plan_experiment

__all__ = ["UpliftResult", "judge_heterogeneity", "measure_uplift"]

BINS = 20
# What to randomise: relative rises to show, and the share held out.
LIFTS = (0.05, 0.1, 0.15, 0.3)
HOLDOUT_SHARE = 0.1
UNLIKE = {
    "score": mark(
        "The share treated differs between scores by more than chance: the arms were not drawn by one lot, so there is "
        "no Qini curve."
    ),
    "segment": mark(
        "The share treated differs between segments by more than chance: the arms were not drawn by one lot, so there "
        "is no Qini curve."
    ),
}
ALL_THE_SAME = {
    "score": mark("There is no Qini curve: all users have the same score."),
    "segment": mark("There is no Qini curve: all users have the same segment."),
}
SEGMENT_COLUMNS = (
    "segment",
    "treated_count",
    "holdout_count",
    "treated_value",
    "holdout_value",
    "uplift",
    "uplift_low",
    "uplift_high",
    "p_value",
    "q_value",
    "verdict",
    "note",
)
# The columns of a comparison that stand in a segment's row, in order.
_TAKEN = (
    "users_count",
    "control_users_count",
    "variant_value",
    "control_value",
    "difference",
    "difference_low",
    "difference_high",
    "p_value",
)
_ARMS = (HOLDOUT, TREATED)


@dataclass(frozen=True)
class UpliftResult:
    """For whom messages pay.

    Attributes:
        ordered_by: "score" (the highest first) or "segment" (by the uplift of the other half of the users); "" without.
        users_count, immature_count: users compared; users without an outcome yet, left out.
        uplift: treated minus holdout over all.
        qini: the Qini coefficient for each treated user: area between the curve and messages in random order; above 0
            the order finds those who gain.
        curve: share_rate (of users, most promising first), users_count, incremental_count (outcomes gained among the
            treated so far), gain (for each of all treated) with low and high, random_gain. Empty where nothing can be
            said.
        segments: segment, treated_count, holdout_count, treated_value, holdout_value, uplift with low and high,
            p_value, q_value (Benjamini-Hochberg), verdict ("gain", "loss", "unclear", "not_enough_data"), note; one row
            a segment. Empty without segments.
        heterogeneity_p_value: of the uplift being alike in all segments (Cochran's Q); None with fewer than two.
        balance_p_value: of the same share being treated in all groups.
        plan: where nobody was drawn by lot, the users that a test needs; else None.
        notes: what a reader must know, in sentences.
    """

    ordered_by: str
    users_count: int
    immature_count: int
    uplift: Estimate
    qini: Estimate
    curve: pd.DataFrame
    segments: pd.DataFrame
    heterogeneity_p_value: float | None
    balance_p_value: float | None
    plan: ExperimentPlan | None
    notes: tuple[str, ...]

    def findings(self) -> list[dict[str, Any]]:
        """Uplift, Qini, curve and segments as flat records."""
        head = {c: getattr(self, c) for c in ("ordered_by", "users_count", "immature_count")}
        head |= {c: getattr(self, c) for c in ("heterogeneity_p_value", "balance_p_value")}
        records = [{"name": "uplift", **to_plain_record(head)}, self.uplift.to_finding(), self.qini.to_finding()]
        for name, frame in (("uplift_segment", self.segments), ("qini_curve", self.curve)):
            records += [{"name": name, **to_plain_record(row)} for row in frame.to_dict("records")]
        records += self.plan.findings() if self.plan else []
        return records + [{"name": "uplift_note", "note": note} for note in self.notes]


def measure_uplift(
    users: ir.Table,
    *,
    treated: str = "treated",
    outcome: str = "outcome",
    score: str = "",
    segment: str = "",
    user: str = "user_id",
    randomised: bool = True,
    bins: int = BINS,
    seed: str | int = 1,
    level: float = 0.05,
    minimum: int = MINIMUM_DENOMINATOR,
) -> UpliftResult:
    """Measure for whom past messages paid, where some users were held out by lot.

    Args:
        users: one row a user with the columns named below.
        treated: true for users drawn to get the message, whether it arrived or not; false for those held out.
        outcome: true or false, or a number; missing: the user's window is not over.
        score: what users were ranked by before (a model's score, a value), the highest first.
        segment: the user's segment at the draw. Without a score, segments are ordered by their uplift, each half of the
            users by that of the other half: an order found in the same users would flatter itself.
        user: the user, by whom the halves are drawn.
        randomised: False: messages went to chosen users; then nothing is concluded, but told what to randomise.
        bins: groups of about equally many users that scores are put into; equal scores stay together.
        seed: of the halves.
        level: false-discovery rate, and 1 - confidence.
        minimum: with fewer users in an arm there is no value.

    Returns:
        An `UpliftResult`.

    Raises:
        InputError: a column is missing or of the wrong kind; neither score nor segment.

    Sources: Radcliffe (2007), see `trace_curve`; Cochran (1954), The combination of estimates from different
    experiments, Biometrics 10, 101-129.

    >>> rows = {"user_id": range(400), "treated": [True, False] * 200, "score": [n // 200 for n in range(400)]}
    >>> table = ibis.memtable(rows | {"outcome": [n >= 200 and n % 2 == 0 for n in range(400)]})
    >>> result = measure_uplift(table, score="score")
    >>> result.uplift.value, result.qini.value, result.curve["gain"].tolist()
    (0.5, 0.125, [0.0, 0.5, 0.5])
    """
    _check_columns(users, treated, outcome, score, segment, user, bins)
    outcomes, immature, lost = _read_users(users, treated, outcome, score, segment, user, bins, seed)
    kind = outcomes.kinds[0]
    rules = Rules(level, 0.8, minimum, None, False)
    notes = []
    if lost:
        notes.append(say("{rows:,} rows do not say whether the user was treated and are left out.", rows=lost))
    if immature:
        notes.append(say("{users:,} users have no outcome yet and are left out.", users=immature))
    everybody = arrange_groups(aggregate_outcomes(outcomes), outcomes, _ARMS)
    values = estimate_values(everybody, rules)
    compared, _ = compare_variants(everybody, values, rules)
    row = compared.iloc[0]
    held, given = int(row["control_users_count"]), int(row["users_count"])
    unit: Unit = "rate" if kind == "conversion" else "amount"
    drawn = randomised and held > 0 and given > 0
    uplift = _estimate(f"uplift_{unit}", row, given, unit, level, drawn)
    by = "score" if score else "segment"
    table = pd.DataFrame(columns=list(SEGMENT_COLUMNS))
    curve = pd.DataFrame(columns=list(CURVE_COLUMNS))
    qini = Estimate(f"qini_{unit}", None, 0.0, given, None, None, "none", unit, 1 - level, say("not enough data"))
    if not drawn:
        plan, said = _plan(outcomes, kind, held, given, randomised)
        return UpliftResult("", held + given, immature, uplift, qini, curve, table, None, None, plan, (*notes, *said))
    unlike = None
    if segment:
        table, unlike = _compare_segments(outcomes, rules)
    counted = _sum_groups(outcomes, by)
    balance = _judge_balance(counted)
    if balance is not None and balance < MISMATCH:
        notes.append(say(UNLIKE[by]))
    elif min(held, given) < minimum:
        notes.append(say("There is no Qini curve: at least {least} users are needed in both arms.", least=minimum))
    elif counted["part"].nunique() < 2:
        notes.append(say(ALL_THE_SAME[by]))
    else:
        curve, qini = draw_qini(counted, by, given, unit, level)
    return UpliftResult(by, held + given, immature, uplift, qini, curve, table, unlike, balance, None, tuple(notes))


def judge_heterogeneity(lifts: Sequence[float] | pd.Series, variances: Sequence[float] | pd.Series) -> float | None:
    """The chance that effects alike in truth differ as much as these (Cochran's Q); None with fewer than two.

    Effects without a variance are left out.

    >>> round(judge_heterogeneity([0.1, 0.2], [0.001, 0.001]), 4)
    0.0253
    """
    from scipy.special import chdtrc

    effect, spread = np.asarray(lifts, dtype=float), np.asarray(variances, dtype=float)
    known = np.isfinite(effect) & (spread > 0)
    effect, weight = effect[known], 1 / spread[known]
    if len(effect) < 2:
        return None
    mean = (weight * effect).sum() / weight.sum()
    return float(chdtrc(len(effect) - 1, (weight * (effect - mean) ** 2).sum()))


def _read_users(
    users: ir.Table, treated: str, outcome: str, score: str, segment: str, user: str, bins: int, seed: str | int
) -> tuple[Outcomes, int, int]:
    """One row a user: variant, segment, part (of the score), half, v0, m0; users without outcome; rows without arm."""
    value = users[outcome].cast("float64")
    if users[outcome].type().is_floating():
        value = value.nullif(float("nan"))
    columns: dict[str, Any] = {
        "arm": users[treated].cast("boolean"),
        "value": value,
        "segment": users[segment].cast("string").fill_null(NOT_GIVEN) if segment else ibis.literal(""),
        "half": (draw_lot(users[user], f"{seed}:half") < "80000000").cast("int64") if not score else ibis.literal(0),
    }
    if score:
        # Who has no score is the least promising.
        columns["score"] = users[score].cast("float64")
    people = users.select(**columns)
    missing = people.aggregate(
        lost=people.arm.isnull().sum().fill_null(0),
        immature=(people.arm.notnull() & people.value.isnull()).sum().fill_null(0),
    ).to_pandas()
    known = people.filter(people.arm.notnull(), people.value.notnull())
    part: Any = ibis.literal(0)
    if score:
        rank = ibis.rank().over(order_by=[known.score.isnull(), known.score.desc()])
        number = known.count().over(ibis.window())
        part = ((rank * bins) / number).floor().cast("int64")
    flag = users[outcome].type().is_boolean()
    table = known.select(
        "segment",
        "half",
        variant=ibis.ifelse(known.arm, TREATED, HOLDOUT),
        day=ibis.null("date"),
        part=part,
        v0=known.value,
        m0=ibis.literal(True),
    ).cache()
    kind: Kind = "conversion" if flag else "mean"
    metric = Metric("outcome_rate" if flag else "outcome_amount", outcome, role="primary")
    return Outcomes(table, (metric,), (kind,), (("v0",),)), int(missing["immature"][0]), int(missing["lost"][0])


def _sum_groups(outcomes: Outcomes, by: str) -> pd.DataFrame:
    """half, part, and users, sum and squares of both arms; one row a half and group of users."""
    table = outcomes.table
    own = table.mutate(part=table.segment) if by == "segment" else table
    counted = (
        own.group_by("half", "part", "variant")
        .aggregate(users=own.count(), sum=own.v0.sum(), squares=(own.v0 * own.v0).sum())
        .to_pandas()
    )
    wide = counted.pivot(index=["half", "part"], columns="variant", values=["users", "sum", "squares"])
    wide = wide.reindex(columns=pd.MultiIndex.from_product([["users", "sum", "squares"], _ARMS])).fillna(0.0)
    wide.columns = [f"{a}_{c}" for c, a in wide.columns]
    return wide.reset_index().sort_values(["half", "part"], ignore_index=True)


def _judge_balance(counted: pd.DataFrame) -> float | None:
    """Chi-square of the share treated being the same in all groups that are large enough to tell."""
    from scipy.special import chdtrc

    cells = counted.groupby("part")[[f"{arm}_users" for arm in _ARMS]].sum().to_numpy(dtype=float)
    share = cells.sum(axis=0) / cells.sum()
    cells = cells[(cells.sum(axis=1, keepdims=True) * share).min(axis=1) >= 5]
    if len(cells) < 2:
        return None
    expected = cells.sum(axis=1, keepdims=True) * cells.sum(axis=0) / cells.sum()
    return float(chdtrc(len(cells) - 1, ((cells - expected) ** 2 / expected).sum()))


def _compare_segments(outcomes: Outcomes, rules: Rules) -> tuple[pd.DataFrame, float | None]:
    counted = aggregate_outcomes(outcomes, "segment")
    rows, spreads = [], []
    names = sorted(counted["segment"].unique())
    check_segments(names)
    for name in names:
        groups = arrange_groups(counted[counted["segment"] == name], outcomes, _ARMS)
        compared, _ = compare_variants(groups, estimate_values(groups, rules), rules)
        row = compared.iloc[0]
        moments = groups.metrics[0].moments.sum()
        spread = (moments.covariance[:, 0, 0] / np.maximum(moments.count, 1)).sum()
        spreads.append(spread if moments.count.min() >= rules.minimum else np.nan)
        rows.append((name, *(row[c] for c in _TAKEN), None, row["verdict"], row["note"]))
    frame = pd.DataFrame(rows, columns=list(SEGMENT_COLUMNS)).astype(dict.fromkeys(SEGMENT_COLUMNS[3:10], float))
    frame["q_value"] = adjust_p_values(frame["p_value"])
    shy = frame["verdict"].isin(["gain", "loss"]) & ~(frame["q_value"] <= rules.level)
    frame.loc[shy, "verdict"] = "unclear"
    return frame, judge_heterogeneity(frame["uplift"], spreads)


def _estimate(name: str, row: pd.Series, given: int, unit: Unit, level: float, drawn: bool) -> Estimate:
    value = row["difference"]
    if not drawn or value != value:
        note = row["note"] if drawn else say("nobody was drawn by lot")
        return Estimate(name, None, 0.0, given, None, None, "none", unit, 1 - level, note)
    low, high = (None if row[c] != row[c] else float(row[c]) for c in ("difference_low", "difference_high"))
    return Estimate(name, float(value), float(value) * given, given, low, high, row["method"], unit, 1 - level)


def _plan(
    outcomes: Outcomes, kind: Kind, held: int, given: int, randomised: bool
) -> tuple[ExperimentPlan | None, list[str]]:
    """What to randomise where nobody was held out by lot."""
    if not held + given:
        return None, [say("There are no users with an outcome.")]
    table = outcomes.table
    seen = table.aggregate(mean=table.v0.mean(), spread=table.v0.std(how="sample")).to_pandas().iloc[0]
    base, spread = float(seen["mean"]), float(seen["spread"])
    if randomised:
        nobody = mark("Nobody was held out, so what messages bring is not known.")
        said = say(nobody if given else mark("Nobody was treated, so what messages bring is not known."))
    else:
        said = say(
            "These messages went to chosen users, so whoever got one differs in other ways too: no uplift is told."
        )
    options = {"relative": LIFTS, "control_share": HOLDOUT_SHARE}
    if kind == "conversion" and 0 < base < 1:
        plan = plan_experiment(base=base, **options)  # type: ignore[arg-type]
    elif kind == "mean" and base > 0 and spread > 0:
        plan = plan_experiment(base=base, deviation=spread, **options)  # type: ignore[arg-type]
    else:
        return None, [said, say("Hold out one user in ten by lot next time.")]
    size = plan.sizes.dropna(subset="total_users_count").set_index("relative_difference")["total_users_count"]
    shown = next((f for f in (0.15, 0.1, 0.3) if f in size.index), None)
    if shown is None:
        return plan, [said, say("Hold out one user in ten by lot next time.")]
    advice = say(
        "Hold out one user in ten by lot next time: {users:,.0f} users show a rise of {rise:.0%}.",
        users=size[shown],
        rise=shown,
    )
    return plan, [said, advice]


def _check_columns(users: ir.Table, treated: str, outcome: str, score: str, segment: str, user: str, bins: int) -> None:
    if not score and not segment:
        raise InputError("Uplift is measured by a score or by segments: name a column with `score` or `segment`.")
    if bins < 2:
        raise InputError(f"bins = {bins}: a curve needs two groups of users at least.")
    for column in (treated, outcome, *(c for c in (score, segment) if c), *(() if score else (user,))):
        if column not in users.columns:
            raise InputError(f"The table has no column '{column}'.{suggest_name(column, users.columns)}")
    for column in (treated, outcome, *([score] if score else [])):
        kind = users[column].type()
        if not (kind.is_boolean() or kind.is_numeric()):
            raise InputError(f"Column '{column}' holds {kind}, not numbers or true and false.")

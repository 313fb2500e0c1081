"""Variants against the control: values, differences, tests. Fixed-horizon inference is tea-tasting's."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from opslib.language import say
from opslib.measure.estimate import Estimate, adjust_p_values, compare_estimates, estimate_rate, quantile
from opslib.measure.experiment.moments import Groups, MetricGroups, Moments, subtract
from opslib.measure.experiment.split import MISMATCH
from opslib.measure.sample_size import find_detectable
from opslib.measure.sequential import sequence_interval, tune_mixture

# Fewer expected in a cell and a conversion is tested by counting.
SMALL_CELL = 10
# Before this many users in both variants a sequence has not begun: its normal approximation would not hold.
FIRST_LOOK_USERS = 100
FIRST_LOOK_EVENTS = 10
# A sequence is tightest at this many users of the two variants, unless the planned number is given.
USUAL_USERS = 10_000
# One user with more of a variant's scatter than this makes the mean that user's story.
DOMINANT_SHARE = 0.2

COMPARISON_COLUMNS = (
    "metric",
    "role",
    "variant",
    "control_users_count",
    "users_count",
    "immature_count",
    "control_value",
    "variant_value",
    "difference",
    "difference_low",
    "difference_high",
    "relative",
    "relative_low",
    "relative_high",
    "p_value",
    "q_value",
    "always_low",
    "always_high",
    "always_p_value",
    "detectable_difference",
    "variance_kept_rate",
    "verdict",
    "method",
    "note",
)
SEQUENCE_COLUMNS = (
    "metric",
    "variant",
    "day_at",
    "users_count",
    "difference",
    "always_low",
    "always_high",
    "always_p_value",
)


@dataclass(frozen=True)
class Rules:
    """How comparisons are judged.

    Attributes:
        level: false-discovery rate and 1 - confidence.
        power: of the detectable difference.
        minimum: with fewer users in a variant there is no value.
        planned_users: users of both variants that a sequence is tuned to; None: `USUAL_USERS`.
        always: judged by the sequence (somebody looks while users still come) or by one look.
    """

    level: float
    power: float
    minimum: int
    planned_users: int | None
    always: bool


def estimate_values(groups: Groups, rules: Rules) -> dict[tuple[str, str], Estimate]:
    """Each metric's value in each variant, not adjusted: (metric, variant) -> estimate."""
    found = {}
    for part in groups.metrics:
        whole = part.moments.sum()
        for i, variant in enumerate(groups.variants):
            found[part.metric.name, variant] = _estimate(part, i, _pick(whole, i), rules)
    return found


def _pick(moments: Moments, i: int) -> Moments:
    return Moments(moments.columns, moments.count[i], moments.mean[i], moments.scatter[i])


def _estimate(part: MetricGroups, i: int, moments: Moments, rules: Rules) -> Estimate:
    name, users, confidence = part.metric.name, int(moments.count), 1 - rules.level
    total, per = float(part.total[i]), float(part.total_per[i])
    if part.kind == "conversion":
        return estimate_rate(name, round(total), users, confidence=confidence, minimum=max(rules.minimum, 1))
    if users < max(rules.minimum, 2) or per <= 0:
        note = say("not enough data: {count:,.0f} users, at least {minimum} needed", count=users, minimum=rules.minimum)
        if users >= rules.minimum:
            note = say("not enough data: the ratio's denominator is 0 for everybody")
        return Estimate(name, None, total, per, None, None, "none", part.metric.unit, confidence, note)
    own = Moments(moments.columns, *(x[None] for x in (moments.count, moments.mean, moments.scatter)))
    wanted = [at for at, c in enumerate(own.columns) if c[0] in "vp"]
    plain = Moments(
        tuple(own.columns[at] for at in wanted), own.count, own.mean[:, wanted], own.scatter[:, wanted][:, :, wanted]
    )
    # Against a sample without scatter, what is left is the sample's own error.
    still = Moments(plain.columns, plain.count, plain.mean, plain.scatter * 0)
    half = quantile(confidence) * float(subtract(still, plain).error[0])
    value = total / per
    method = "normal over users" if part.kind == "mean" else "delta method over users"
    return Estimate(name, value, total, per, value - half, value + half, method, part.metric.unit, confidence)


def compare_variants(
    groups: Groups, values: dict[tuple[str, str], Estimate], rules: Rules
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Compare every other variant with the first, metric by metric.

    Returns:
        `ExperimentResult.comparisons` and `.sequence`.
    """
    rows, steps = [], []
    for part in groups.metrics:
        so_far = part.moments.accumulate()
        whole = part.moments.sum()
        for i, variant in enumerate(groups.variants[1:], start=1):
            sequence = _follow(part, groups, so_far, i, rules)
            steps.append(sequence.assign(metric=part.metric.name, variant=variant))
            pair = values[part.metric.name, groups.variants[0]], values[part.metric.name, variant]
            row = _compare(part, _pick(whole, 0), _pick(whole, i), pair, rules)
            last = sequence.iloc[-1] if len(sequence) else None
            row |= {c: None if last is None else last[c] for c in SEQUENCE_COLUMNS if c.startswith("always")}
            waiting = int(part.immature[0].sum() + part.immature[i].sum())
            row |= {"metric": part.metric.name, "role": part.metric.role, "variant": variant, "immature_count": waiting}
            row["note"] = row["note"] or _find_dominant(part, whole, (0, i)) or _find_uneven(part, whole, i)
            rows.append(row)
    frame = pd.DataFrame(rows, columns=list(COMPARISON_COLUMNS))
    numbers = [c for c in COMPARISON_COLUMNS[6:-3] if c != "q_value"]
    frame[numbers] = frame[numbers].astype(float)
    tested = frame["always_p_value" if rules.always else "p_value"].to_numpy(dtype=float)
    frame["q_value"] = np.nan
    for role in ("primary", "secondary"):
        at = (frame["role"] == role).to_numpy()
        frame.loc[at, "q_value"] = adjust_p_values(tested[at])
    frame["verdict"] = [
        _judge(row, part, rules) for row, part in zip(frame.to_dict("records"), _each(groups), strict=True)
    ]
    sequence = pd.concat(steps, ignore_index=True) if steps else pd.DataFrame(columns=SEQUENCE_COLUMNS)
    return frame, sequence[list(SEQUENCE_COLUMNS)]


def _each(groups: Groups) -> list[MetricGroups]:
    return [part for part in groups.metrics for _ in groups.variants[1:]]


def _compare(
    part: MetricGroups, control: Moments, variant: Moments, pair: tuple[Estimate, Estimate], rules: Rules
) -> dict[str, Any]:
    """One comparison at the end, by tea-tasting."""
    before, now = pair
    row: dict[str, Any] = {"control_users_count": int(control.count), "users_count": int(variant.count)}
    row |= {
        "control_value": before.value,
        "variant_value": now.value,
        "method": "none",
        "note": before.note or now.note,
    }
    if before.value is None or now.value is None:
        return row
    adjusted = subtract(control, variant)
    error, kept = float(adjusted.error), float(adjusted.kept_rate)
    row |= {"difference": float(adjusted.difference)}
    row["detectable_difference"] = find_detectable(error, level=rules.level, power=rules.power)
    samples = control.to_aggregates(), variant.to_aggregates()
    corrected = any(name[0] == "b" for name in control.columns) and not math.isclose(kept, 1.0, rel_tol=1e-12)
    if error > 0:
        row |= _test_means(part, control.columns, samples, corrected, rules)
    if corrected and error > 0:
        row |= {"variance_kept_rate": kept, "method": f"{row['method']}, CUPED"}
    elif part.kind == "conversion" and 0 < now.numerator + before.numerator < now.denominator + before.denominator:
        row |= _test_shares(control.columns[0], samples, pair)
    elif not error > 0:
        if row["difference"] == 0:
            row["note"] = say("everybody has the same value")
        else:
            row["note"] = say("no scatter within the variants: nothing to test by")
    return row


def _test_means(
    part: MetricGroups, columns: Sequence[str], samples: tuple[Any, Any], corrected: bool, rules: Rules
) -> dict[str, Any]:
    from tea_tasting.metrics import RatioOfMeans

    has = {name[0]: name for name in columns if corrected or name[0] in "vp"}
    options: dict[str, Any] = {"confidence_level": 1 - rules.level, "equal_var": False, "use_t": True}
    metric = RatioOfMeans(has["v"], has.get("p"), has.get("b"), has.get("c"), **options)
    result = metric.analyze_aggregates(*samples)
    found: dict[str, Any] = {
        "difference": float(result.effect_size),
        "difference_low": float(result.effect_size_ci_lower),
        "difference_high": float(result.effect_size_ci_upper),
        "p_value": float(result.pvalue),
        "method": "Welch" if part.kind != "ratio" else "Welch, delta method",
    }
    # The relative interval is made on logarithms.
    if float(result.control) > 0 and float(result.treatment) > 0:
        relative = result.rel_effect_size, result.rel_effect_size_ci_lower, result.rel_effect_size_ci_upper
        found |= dict(zip(("relative", "relative_low", "relative_high"), map(float, relative), strict=True))
    return found


def _test_shares(column: str, samples: tuple[Any, Any], pair: tuple[Estimate, Estimate]) -> dict[str, Any]:
    from tea_tasting.metrics import Proportion

    before, now = pair
    change = compare_estimates(now, before)
    overall = (now.numerator + before.numerator) / (now.denominator + before.denominator)
    rare = min(overall, 1 - overall) * min(now.denominator, before.denominator) < SMALL_CELL
    test = Proportion(column, method="fisher" if rare else "norm", correction=False)
    return {
        "difference_low": change.low,
        "difference_high": change.high,
        "p_value": float(test.analyze_aggregates(*samples).pvalue),
        "method": "Newcombe; Fisher's exact test" if rare else "Newcombe; pooled score test",
    }


def _follow(part: MetricGroups, groups: Groups, so_far: Moments, i: int, rules: Rules) -> pd.DataFrame:
    """The confidence sequence over days of exposure, from when both variants have enough users."""
    control, variant = _pick(so_far, 0), _pick(so_far, i)
    found = subtract(control, variant)
    users = control.count + variant.count
    begun = np.minimum(control.count, variant.count) >= max(FIRST_LOOK_USERS, rules.minimum)
    if part.kind == "conversion":
        hits = control.mean[:, 0] * control.count + variant.mean[:, 0] * variant.count
        begun &= np.minimum(hits, users - hits) >= 2 * FIRST_LOOK_EVENTS
    begun &= np.isfinite(found.difference) & (found.error > 0)
    # The tuning uses a user's information, which does not depend on the difference.
    with np.errstate(divide="ignore", invalid="ignore"):
        planned = (rules.planned_users or USUAL_USERS) / users / found.error**2
    rho = planned * tune_mixture(1.0, level=rules.level)
    low, high, p = sequence_interval(found.difference, found.error, rho, level=rules.level)
    frame = pd.DataFrame(
        {
            "day_at": groups.days,
            "users_count": users.astype(int),
            "difference": found.difference,
            "always_low": low,
            "always_high": high,
            "always_p_value": p,
        }
    )
    # Days whose users' windows are all still open add nothing.
    begun &= np.diff(users, prepend=0) > 0
    return frame[begun].reset_index(drop=True)


def _find_dominant(part: MetricGroups, whole: Moments, pair: Sequence[int]) -> str:
    """A note where one user makes most of a variant's scatter."""
    if part.kind == "conversion":
        return ""
    for i in pair:
        scatter = float(whole.scatter[i, 0, 0])
        excess = float(part.largest[i] - whole.mean[i, 0])
        if scatter > 0 and whole.count[i] > 2 / DOMINANT_SHARE and excess**2 > DOMINANT_SHARE * scatter:
            return say(
                "one user of value {value:,.10g} makes most of the scatter: set a cap", value=float(part.largest[i])
            )
    return ""


def _find_uneven(part: MetricGroups, whole: Moments, i: int) -> str:
    """A note where one variant's users lack an outcome more often than the other's: then those left are not alike."""
    from scipy.special import ndtr

    known = whole.count[[0, i]]
    users = known + part.immature[[0, i]].sum(axis=1)
    share = known.sum() / users.sum()
    error = math.sqrt(share * (1 - share) * (1 / users).sum())
    if error == 0:
        return ""
    p = 2 * ndtr(-abs(float(known[0] / users[0] - known[1] / users[1])) / error)
    return say("outcomes are missing unevenly between the variants") if p < MISMATCH else ""


def _judge(row: dict[Any, Any], part: MetricGroups, rules: Rules) -> str:
    """What one comparison says: see `ExperimentResult.comparisons`."""
    metric = part.metric
    if _missing(row["control_value"]) or _missing(row["variant_value"]):
        return "not_enough_data"
    if metric.role == "guardrail":
        return _judge_guardrail(row, metric.sign, metric.margin, rules)
    if _missing(row["q_value"]) or row["q_value"] > rules.level:
        return "unclear"
    return "gain" if metric.sign * row["difference"] > 0 else "loss"


def _judge_guardrail(row: dict[Any, Any], sign: int, margin: float, rules: Rules) -> str:
    """Non-inferiority: the interval must leave out losses beyond the margin."""
    if rules.always or _missing(row["relative_low"]):
        ends = ("always_low", "always_high") if rules.always else ("difference_low", "difference_high")
        low, high = (row[name] for name in ends)
        allowed = margin * abs(row["control_value"])
    else:
        low, high, allowed = row["relative_low"], row["relative_high"], margin
    if _missing(low):
        # Everybody alike in both variants: nothing got worse.
        same = _missing(row["difference_low"]) and row["difference"] == 0
        return "holds" if same else "unclear"
    worst, best = (low, high) if sign > 0 else (-high, -low)
    if worst > -allowed:
        return "holds"
    return "broken" if best < -allowed else "unclear"


def _missing(value: Any) -> bool:
    return value is None or value != value

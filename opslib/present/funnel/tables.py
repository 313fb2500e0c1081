"""The tables of the funnel diagnosis: steps, rate or mix, which users, how long, the experiment and the next one."""

from __future__ import annotations

import pandas as pd

from opslib.decide.funnel.diagnosis import FunnelDiagnosis
from opslib.present.display import ListView, TableView
from opslib.present.funnel.profile import show_profile as show_profile
from opslib.present.funnel.words import VERDICTS, name_metric, say_repair
from opslib.present.parts import format_probability, format_range, format_shares, say_needed
from opslib.present.tables import make_table
from opslib.present.words import MISSING, format_number, name_segment

SHOWN_ROWS = 8
MINUTES = 1440
KINDS = {
    "rate": "their rate",
    "mix": "their number",
    "both": "rate and number",
    "unmoved": "all others did",
    "peers": "against others of the same days",
}


def show_steps(diagnosis: FunnelDiagnosis) -> TableView:
    """Each step now and before: users, the share who went on, and the change."""
    steps = diagnosis.whole.steps
    shown = pd.DataFrame({"step": diagnosis.path.labels})
    shown["users"] = [f"{n:,}" for n in steps["converted_count"]]
    rates = steps[["step_rate", "step_low", "step_high"]].itertuples(index=False)
    shown["rate"] = [MISSING, *(format_range(*row, form=".1%") for row in list(rates)[1:])]
    shown["dropped"] = [MISSING, *(f"{n:,}" for n in steps["dropped_count"].iloc[1:])]
    labels = {"step": "Step", "users": "Users", "rate": "Went on to it [95%]", "dropped": "Lost before it"}
    if diagnosis.comparison is not None:
        before = diagnosis.comparison.before.steps
        pairs = zip(before["step_rate"].iloc[1:], before["entered_count"].iloc[1:], strict=True)
        shown["before"] = [MISSING, *(f"{format_number(r, 'rate')} of {n:,}" for r, n in pairs)]
        rows = diagnosis.comparison.changes.query("kind == 'step'")
        ends = rows[["difference_rate", "difference_low", "difference_high"]].itertuples(index=False)
        shown["change"] = [MISSING, *(format_range(*row, form="+.1f", scale=100) for row in ends)]
        labels |= {"before": "Before", "change": "Change, points [95%]"}
    waiting = int(steps["immature_count"].iloc[0])
    note = f"{waiting:,} users whose window is not over are in no row." if waiting else ""
    return make_table(shown, labels, name="funnel-steps", numeric=tuple(labels)[1:], note=note)


def show_splits(diagnosis: FunnelDiagnosis) -> TableView | ListView:
    """Rate or mix: for each column, how much of the step's change lies within its groups, and how much between."""
    culprit = diagnosis.culprit
    if culprit is None or culprit.explanation is None or culprit.explanation.splits.empty:
        return say_needed(diagnosis, "Who moved it", "Rate or mix")
    frame = culprit.explanation.splits
    frame = frame.assign(size=frame["mix_effect_rate"].abs()).sort_values("size", ascending=False).head(SHOWN_ROWS)
    shown = pd.DataFrame({"dimension": frame["dimension"].str.replace("_", " ")})
    for column in ("rate_effect_rate", "mix_effect_rate", "total_rate"):
        shown[column] = [MISSING if pd.isna(x) else f"{round(100 * x, 2) + 0.0:+.2f}" for x in frame[column]]
    labels = {
        "dimension": "By", "rate_effect_rate": "Rates within groups moved, points",
        "mix_effect_rate": "Sizes of groups moved, points", "total_rate": "Together",
    }  # fmt: skip
    note = "A value that is new or gone has no rate to compare and is a change of sizes."
    return make_table(shown, labels, name="funnel-mix", numeric=tuple(labels)[1:], note=note)


def show_causes(diagnosis: FunnelDiagnosis) -> TableView | ListView:
    """The groups of users that the change of the step sits in."""
    culprit = diagnosis.culprit
    if culprit is None or culprit.explanation is None:
        return say_needed(diagnosis, "Who moved it", "The groups it sits in")
    causes = culprit.explanation.causes
    if causes.empty:
        return ListView([f"No group of users stands out: {culprit.explanation.note or 'all moved alike'}."])
    sizes = causes["effect_rate"].astype(float).abs()
    causes = causes.loc[sizes.sort_values(ascending=False, kind="stable").index].head(SHOWN_ROWS)
    parts = [causes]
    if culprit.refined is not None:
        # Who among the users of a new value: its users against all others of the same days.
        among = culprit.refined.causes.head(3)
        new = next(iter(culprit.new.items()))
        among = among.assign(segment=[f"{new[0]}={new[1]} & {s}" for s in among["segment"]])
        parts.append(among.assign(kind="peers"))
    frame = pd.concat(parts, ignore_index=True)
    shown = pd.DataFrame({"segment": frame["segment"].map(name_segment)})
    for side in ("before", "after"):
        shown[side] = format_shares(frame[f"{side}_rate"], frame[f"{side}_count"])
    peers = frame["kind"] == "peers"
    shown["before"] = shown["before"].mask(peers, shown["before"] + " (others)")
    shown["kind"] = frame["kind"].map(KINDS)
    shown["effect"] = [
        MISSING if p or pd.isna(x) else f"{100 * x:+.1f}" for x, p in zip(frame["effect_rate"], peers, strict=True)
    ]
    shown["noise"] = [format_probability(x) for x in frame["q_value"]]
    labels = {
        "segment": "Users", "before": "Before", "after": "Now", "kind": "What moved",
        "effect": "Points of the step's rate", "noise": "False alarm rate",
    }  # fmt: skip
    note = "Before and now: the share who went on, of how many. Each is looked for among users outside those above it."
    return make_table(shown, labels, name="funnel-causes", numeric=("before", "after", "effect", "noise"), note=note)


def show_times(diagnosis: FunnelDiagnosis) -> TableView | ListView:
    """How long each step took those who took it."""
    frame = diagnosis.whole.times
    frame = frame[(frame["since"] == "previous") & (frame["converted_count"] > 0)]
    if frame.empty:
        return ListView(["Nobody went on, so there are no times."])
    shown = pd.DataFrame({"step": [diagnosis.path.labels[int(s) - 1] for s in frame["step"]]})
    shown["users"] = [f"{n:,}" for n in frame["converted_count"]]
    for column in ("p25_days", "p50_days", "p90_days"):
        shown[column] = [_format_time(x) for x in frame[column]]
    labels = {
        "step": "To", "users": "Users", "p25_days": "A quarter within", "p50_days": "Half within",
        "p90_days": "Nine in ten within",
    }  # fmt: skip
    return make_table(shown, labels, name="funnel-times", numeric=tuple(labels)[1:], note="Since the step before.")


def _format_time(days: float) -> str:
    if pd.isna(days):
        return MISSING
    minutes = days * MINUTES
    if minutes < 1:
        return f"{60 * minutes:.0f} s"
    return f"{minutes:.0f} min" if minutes < 90 else f"{minutes / 60:.1f} h" if days < 2 else f"{days:.1f} days"


def show_trial(diagnosis: FunnelDiagnosis) -> TableView | ListView:
    """The experiment: each metric with the variant, without, and the difference."""
    trial = diagnosis.trial
    if trial is None:
        return say_needed(diagnosis, "Did the fix work", "The experiment")
    result = trial.result
    frame = result.comparisons
    always = result.looks == "always"
    rows = []
    for row in frame.to_dict("records"):
        ends = [row["difference"], *((row["always_low"], row["always_high"]) if always else ())]
        if not always or pd.isna(ends[1]):
            ends = [row["difference"], row["difference_low"], row["difference_high"]]
        rate = str(row["metric"]).endswith("_rate")
        unit = "rate" if rate else "amount"
        rows.append(
            {
                "metric": name_metric(str(row["metric"]), trial.goal).capitalize(),
                "variant": str(row["variant"]).replace("_", " "),
                "control_value": f"{format_number(row['control_value'], unit)} of {row['control_users_count']:,.0f}",
                "variant_value": f"{format_number(row['variant_value'], unit)} of {row['users_count']:,.0f}",
                "difference": (
                    format_range(*ends, form="+.1f", scale=100) if rate else format_range(*ends, form="+,.1f")
                ),
                "verdict": VERDICTS.get(str(row["verdict"]), str(row["verdict"])),
            }
        )
    labels = {
        "metric": "Metric", "variant": "Variant", "control_value": result.control.capitalize(),
        "variant_value": "Variant’s", "difference": "Difference [95%]", "verdict": "Verdict",
    }  # fmt: skip
    split = result.split
    chance = "cannot be said" if split.p_value is None else f"{split.p_value:.1%}"
    note = (
        f"Shares differ in points. Split as planned: {split.verdict} (chance of one as uneven: {chance}). "
        f"Users whose window is not over, {int(frame['immature_count'].max()):,}, are left out."
    )
    if always:
        note += " Users still come in, so intervals hold however often one looks."
    return make_table(
        pd.DataFrame(rows), labels, name="funnel-trial", numeric=("control_value", "variant_value", "difference"),
        note=note,
    )  # fmt: skip


def show_repair(diagnosis: FunnelDiagnosis) -> ListView:
    """Before and after a repair, as a description."""
    return ListView([say_repair(diagnosis)])


def show_plan(diagnosis: FunnelDiagnosis) -> TableView | ListView:
    """How many users, and how many days, the next experiment takes."""
    plan = diagnosis.plan
    if plan is None:
        return ListView(["No experiment can be sized: the step has no rate between 0 and 1, or nobody comes to it."])
    frame = plan.sizes
    shown = pd.DataFrame({"gain": [f"{x:+.0%}" for x in frame["relative_difference"]]})
    shown["points"] = [f"{100 * x:+.1f}" for x in frame["difference"]]
    shown["users"] = [MISSING if pd.isna(n) else f"2 x {n:,.0f}" for n in frame["arm_users_count"]]
    shown["days"] = [MISSING if pd.isna(n) else f"{n:,.0f}" for n in frame["total_days"]]
    labels = {"gain": "Gain", "points": "Points", "users": "Users", "days": "Days, the last window included"}
    before, step = diagnosis.step_names
    note = (
        f"To show a gain from {plan.base:.1%} of users who go from {before} to {step}, with 5% false alarms and 80% "
        "power, looking once at the end."
    )
    return make_table(shown, labels, name="funnel-plan", numeric=tuple(labels), note=note)

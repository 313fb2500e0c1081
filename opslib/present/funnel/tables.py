"""The tables of the funnel diagnosis: steps, rate or mix, which users, how long, the experiment and the next one."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import pandas as pd

from opslib.decide.funnel.diagnosis import FunnelDiagnosis
from opslib.language import join_sentences, mark, say
from opslib.present.display import ListView, TableView
from opslib.present.funnel.profile import show_profile as show_profile
from opslib.present.funnel.trial_words import VERDICTS, name_metric
from opslib.present.funnel.words import say_repair
from opslib.present.parts import format_probability, format_range, format_shares, say_needed
from opslib.present.tables import make_table
from opslib.present.words import MISSING, format_number, name_column, name_segment

SHOWN_ROWS = 8
MINUTES = 1440
KINDS = {
    "rate": mark("their rate"),
    "mix": mark("their number"),
    "both": mark("rate and number"),
    "unmoved": mark("all others did"),
    "peers": mark("against others of the same days"),
}
SPLITS = {"fine": mark("fine"), "doubtful": mark("doubtful"), "mismatch": mark("mismatch")}


def show_steps(diagnosis: FunnelDiagnosis) -> TableView:
    """Each step now and before: users, the share who went on, and the change."""
    steps = diagnosis.whole.steps
    shown = pd.DataFrame({"step": diagnosis.path.labels})
    shown["users"] = [f"{n:,}" for n in steps["converted_count"]]
    rates = steps[["step_rate", "step_low", "step_high"]].itertuples(index=False)
    shown["rate"] = [MISSING, *(format_range(*row, form=".1%") for row in list(rates)[1:])]
    shown["dropped"] = [MISSING, *(f"{n:,}" for n in steps["dropped_count"].iloc[1:])]
    labels = {
        "step": say("Step"),
        "users": say("Users"),
        "rate": say("Went on to it [95%]"),
        "dropped": say("Lost before it"),
    }
    if diagnosis.comparison is not None:
        before = diagnosis.comparison.before.steps
        shown["before"] = [MISSING, *format_shares(before["step_rate"].iloc[1:], before["entered_count"].iloc[1:])]
        rows = diagnosis.comparison.changes.query("kind == 'step'")
        ends = rows[["difference_rate", "difference_low", "difference_high"]].itertuples(index=False)
        shown["change"] = [MISSING, *(format_range(*row, form="+.1f", scale=100) for row in ends)]
        labels |= {"before": say("Before"), "change": say("Change, points [95%]")}
    waiting = int(steps["immature_count"].iloc[0])
    note = say("{count:,} users whose window is not over are in no row.", count=waiting) if waiting else ""
    return make_table(shown, labels, name="funnel-steps", numeric=tuple(labels)[1:], note=note)


def show_splits(diagnosis: FunnelDiagnosis) -> TableView | ListView:
    """Rate or mix: for each column, how much of the step's change lies within its groups, and how much between."""
    culprit = diagnosis.culprit
    if culprit is None or culprit.explanation is None or culprit.explanation.splits.empty:
        return say_needed(diagnosis, "Who moved it", mark("Rate or mix"))
    frame = culprit.explanation.splits
    frame = frame.assign(size=frame["mix_effect_rate"].abs()).sort_values("size", ascending=False).head(SHOWN_ROWS)
    shown = pd.DataFrame({"dimension": frame["dimension"].map(name_column)})
    for column in ("rate_effect_rate", "mix_effect_rate", "total_rate"):
        shown[column] = [MISSING if pd.isna(x) else f"{round(100 * x, 2) + 0.0:+.2f}" for x in frame[column]]
    labels = {
        "dimension": say("By"), "rate_effect_rate": say("Rates within groups moved, points"),
        "mix_effect_rate": say("Sizes of groups moved, points"), "total_rate": say("Together"),
    }  # fmt: skip
    note = say("A value that is new or gone has no rate to compare and is a change of sizes.")
    return make_table(shown, labels, name="funnel-mix", numeric=tuple(labels)[1:], note=note)


def show_causes(diagnosis: FunnelDiagnosis) -> TableView | ListView:
    """The groups of users that the change of the step sits in."""
    culprit = diagnosis.culprit
    if culprit is None or culprit.explanation is None:
        return say_needed(diagnosis, "Who moved it", mark("The groups it sits in"))
    causes = culprit.explanation.causes
    if causes.empty:
        note = culprit.explanation.note or say("all moved alike")
        return ListView([say("No group of users stands out: {note}.", note=note)])
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
    others = [say("{share} (others)", share=share) for share in shown["before"]]
    shown["before"] = shown["before"].mask(peers, pd.Series(others, index=shown.index, dtype=object))
    shown["kind"] = frame["kind"].map(KINDS).map(say)
    shown["effect"] = [
        MISSING if p or pd.isna(x) else f"{100 * x:+.1f}" for x, p in zip(frame["effect_rate"], peers, strict=True)
    ]
    shown["noise"] = [format_probability(x) for x in frame["q_value"]]
    labels = {
        "segment": say("Users"), "before": say("Before"), "after": say("Now"), "kind": say("What moved"),
        "effect": say("Points of the step's rate"), "noise": say("False alarm rate"),
    }  # fmt: skip
    note = say(
        "Before and now: the share who went on, of how many. Each is looked for among users outside those above it."
    )
    return make_table(shown, labels, name="funnel-causes", numeric=("before", "after", "effect", "noise"), note=note)


def show_times(diagnosis: FunnelDiagnosis) -> TableView | ListView:
    """How long each step took those who took it."""
    frame = diagnosis.whole.times
    frame = frame[(frame["since"] == "previous") & (frame["converted_count"] > 0)]
    if frame.empty:
        return ListView([say("Nobody went on, so there are no times.")])
    shown = pd.DataFrame({"step": [diagnosis.path.labels[int(s) - 1] for s in frame["step"]]})
    shown["users"] = [f"{n:,}" for n in frame["converted_count"]]
    for column in ("p25_days", "p50_days", "p90_days"):
        shown[column] = [_format_time(x) for x in frame[column]]
    labels = {
        "step": say("To"), "users": say("Users"), "p25_days": say("A quarter within"),
        "p50_days": say("Half within"), "p90_days": say("Nine in ten within"),
    }  # fmt: skip
    note = say("Since the step before.")
    return make_table(shown, labels, name="funnel-times", numeric=tuple(labels)[1:], note=note)


def _format_time(days: float) -> str:
    if pd.isna(days):
        return MISSING
    minutes = days * MINUTES
    if minutes < 1:
        return say("{seconds:.0f} s", seconds=60 * minutes)
    if minutes < 90:
        return say("{minutes:.0f} min", minutes=minutes)
    return say("{hours:.1f} h", hours=minutes / 60) if days < 2 else say("{days:.1f} days", days=days)


def show_trial(diagnosis: FunnelDiagnosis) -> TableView | ListView:
    """The experiment: each metric with the variant, without, and the difference."""
    trial = diagnosis.trial
    if trial is None:
        return say_needed(diagnosis, "Did the fix work", mark("The experiment"))
    result = trial.result
    always = result.looks == "always"
    rows = [_show_metric(row, trial.goal, always=always) for row in result.comparisons.to_dict("records")]
    labels = {
        "metric": say("Metric"), "variant": say("Variant"),
        "control_value": say("{control} group", control=result.control.capitalize()),
        "variant_value": say("Variant’s"), "difference": say("Difference [95%]"), "verdict": say("Verdict"),
    }  # fmt: skip
    split = result.split
    note = say(
        "Shares differ in points. Split as planned: {verdict} (chance of one as uneven: {chance}). Users whose window "
        "is not over, {count:,}, are left out.",
        verdict=say(SPLITS.get(split.verdict, split.verdict)),
        chance=say("cannot be said") if split.p_value is None else f"{split.p_value:.1%}",
        count=int(result.comparisons["immature_count"].max()),
    )
    if always:
        held = say("Users still come in, so intervals hold however often one looks.")
        note = join_sentences([note, held])
    return make_table(
        pd.DataFrame(rows), labels, name="funnel-trial", numeric=("control_value", "variant_value", "difference"),
        note=note,
    )  # fmt: skip


def _show_metric(row: Mapping[Hashable, Any], goal: str, *, always: bool) -> dict[str, str]:
    ends = [row["difference"], *((row["always_low"], row["always_high"]) if always else ())]
    if not always or pd.isna(ends[1]):
        ends = [row["difference"], row["difference_low"], row["difference_high"]]
    rate = str(row["metric"]).endswith("_rate")
    verdict = str(row["verdict"])
    return {
        "metric": name_metric(str(row["metric"]), goal).capitalize(),
        "variant": str(row["variant"]).replace("_", " "),
        "control_value": _format_value(row["control_value"], row["control_users_count"], rate=rate),
        "variant_value": _format_value(row["variant_value"], row["users_count"], rate=rate),
        "difference": format_range(*ends, form="+.1f", scale=100) if rate else format_range(*ends, form="+,.1f"),
        "verdict": say(VERDICTS.get(verdict, verdict)),
    }


def _format_value(value: float, count: float, *, rate: bool) -> str:
    return say("{value} of {count:,.0f}", value=format_number(value, "rate" if rate else "amount"), count=count)


def show_repair(diagnosis: FunnelDiagnosis) -> ListView:
    """Before and after a repair, as a description."""
    return ListView([say_repair(diagnosis)])


def show_plan(diagnosis: FunnelDiagnosis) -> TableView | ListView:
    """How many users, and how many days, the next experiment takes."""
    plan = diagnosis.plan
    if plan is None:
        return ListView(
            [say("No experiment can be sized: the step has no rate between 0 and 1, or nobody comes to it.")]
        )
    frame = plan.sizes
    shown = pd.DataFrame({"gain": [f"{x:+.0%}" for x in frame["relative_difference"]]})
    shown["points"] = [f"{100 * x:+.1f}" for x in frame["difference"]]
    shown["users"] = [MISSING if pd.isna(n) else say("2 x {count:,.0f}", count=n) for n in frame["arm_users_count"]]
    shown["days"] = [MISSING if pd.isna(n) else f"{n:,.0f}" for n in frame["total_days"]]
    labels = {
        "gain": say("Gain"),
        "points": say("Points"),
        "users": say("Users"),
        "days": say("Days, the last window included"),
    }
    before, step = diagnosis.step_names
    note = say(
        "To show a gain from {base:.1%} of users who go from {before} to {step}, with 5% false alarms and 80% power, "
        "looking once at the end.",
        base=plan.base,
        before=before,
        step=step,
    )
    return make_table(shown, labels, name="funnel-plan", numeric=tuple(labels), note=note)

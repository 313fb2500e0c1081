"""The sentences of the funnel diagnosis."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import pandas as pd

from opslib.decide.funnel.diagnosis import FunnelDiagnosis
from opslib.explain.change import ChangeExplanation
from opslib.language import join_clauses, join_sentences, mark, say
from opslib.measure.estimate import Change
from opslib.measure.experiment.before_after import BeforeAfterResult
from opslib.measure.funnel.funnel import FunnelResult
from opslib.present.funnel.culprit_words import say_culprit, say_now, say_share
from opslib.present.funnel.trial_words import say_trial, say_window
from opslib.present.words import (
    describe,
    describe_scope,
    format_estimate,
    format_points,
    list_limits,
    name_segment,
    name_users,
    write_sentence,
)

REPAIRS = {
    "moved": mark("more than chance"),
    "within_chance": mark("within chance"),
    "not_enough_data": mark("too few users to say"),
}
PROBLEMS = {
    "new value": mark("new value"),
    "vanished value": mark("vanished value"),
    "volume gap": mark("volume gap"),
    "null burst": mark("null burst"),
    "no outcome": mark("no outcome"),
    "only outcomes": mark("only outcomes"),
}
EXAMPLE = '[funnels.NAME] steps = ["...", "..."]'


@describe.register
def _describe_funnel(diagnosis: FunnelDiagnosis) -> list[str]:
    parts = [_say_overall(diagnosis), _say_step(diagnosis), say_culprit(diagnosis), say_now(diagnosis)]
    trial = "" if diagnosis.trial is None else say_trial(diagnosis.trial, diagnosis.path.window)
    return [s for s in [*parts, trial] if s]


@describe_scope.register
def _describe_scope(diagnosis: FunnelDiagnosis) -> str:
    scope, path = diagnosis.scope, diagnosis.path
    steps = " > ".join(path.labels)
    covered = {
        "company": scope.data.playbook.company.name,
        "path": say("{name}: {steps}", name=path.name.replace("_", " "), steps=steps) if path.name else steps,
        "window": say_window(path.window),
        "users": name_users(scope.segment),
        "first": scope.now.start,
        "last": scope.as_of,
    }
    if scope.before is None:
        return say("{company}, {path}, within {window}, {users}, those who entered from {first} to {last}.", **covered)
    return say(
        "{company}, {path}, within {window}, {users}, those who entered from {first} to {last}, compared with "
        "{before_first} to {before_last}.",
        before_first=scope.before.start,
        before_last=scope.before.last_day,
        **covered,
    )


def _say_change(change: Change | None) -> str:
    if change is None or change.difference is None or change.low is None or change.high is None:
        return ""
    text = format_points(change.difference, change.low, change.high)
    return text if change.clear else say("{change}, within chance", change=text)


def _say_overall(diagnosis: FunnelDiagnosis) -> str:
    labels, now = diagnosis.path.labels, diagnosis.whole
    overall = now.estimate(len(labels), overall=True)
    if not overall.known:
        return _say_too_few(now)
    reached = {
        "entered": overall.denominator,
        "first": labels[0],
        "reached": overall.numerator,
        "last": labels[-1],
        "share": format_estimate(overall),
    }
    change = _say_change(diagnosis.change(overall=True))
    if change:
        text = say(
            "Of {entered:,.0f} users who entered at {first}, {reached:,.0f} got to {last}: {share}, {change} against "
            "the period before.",
            change=change,
            **reached,
        )
    else:
        text = say(
            "Of {entered:,.0f} users who entered at {first}, {reached:,.0f} got to {last}: {share}.",
            **reached,
        )
    return join_sentences([text, _say_absent(diagnosis)])


def _say_too_few(now: FunnelResult) -> str:
    first = now.steps.iloc[0]
    waiting = int(first["immature_count"])
    entered = {"count": int(first["converted_count"]), "window": say_window(now.window)}
    if waiting:
        return say(
            "{count:,} users with a whole window of {window} entered ({waiting:,} more have not had theirs yet): too "
            "few to say anything of the funnel.",
            waiting=waiting,
            **entered,
        )
    return say(
        "{count:,} users with a whole window of {window} entered: too few to say anything of the funnel.", **entered
    )


def _say_absent(diagnosis: FunnelDiagnosis) -> str:
    counts = diagnosis.whole.steps["converted_count"].tolist()
    empty = next((i for i, n in enumerate(counts) if not n), None)
    if empty is None or not empty:
        return ""
    return say(
        "Nobody got to {step}: either the step is broken, or its event is not recorded.",
        step=diagnosis.path.labels[empty],
    )


def _say_step(diagnosis: FunnelDiagnosis) -> str:
    before, step = diagnosis.step_names
    change, split = diagnosis.change(diagnosis.step), diagnosis.split
    if change is None or change.difference is None or split is None or split.steps.empty:
        return _say_largest_drop(diagnosis.whole, diagnosis.path.labels)
    row = split.steps.iloc[diagnosis.step - 2]
    rates = say(
        "from {before} to {step} went {was:.1%} of {was_count:,.0f} before and {now:.1%} of {now_count:,.0f} now "
        "({change})",
        before=before,
        step=step,
        was=change.before.value,
        was_count=change.before.denominator,
        now=change.now.value,
        now_count=change.now.denominator,
        change=_say_change(change),
    )
    if not split.overall.clear and not change.clear:
        return say("No step moved beyond chance; the largest move is that {rates}.", rates=rates)
    effect = format_points(row["effect_rate"], row["effect_low"], row["effect_high"])
    share = row["share_of_change_rate"]
    if pd.notna(share) and 0 < share <= 1.5:
        return say(
            "The step that moved it most: {rates}. That is {effect} of the whole, {share:.0%} of its change.",
            rates=rates,
            effect=effect,
            share=share,
        )
    return say("The step that moved it most: {rates}. That is {effect} of the whole.", rates=rates, effect=effect)


def _say_largest_drop(now: FunnelResult, labels: list[str]) -> str:
    rows = now.steps.iloc[1:]
    if rows.empty or not int(now.steps["converted_count"].iloc[0]):
        return ""
    i = int(rows["dropped_count"].to_numpy().argmax()) + 1
    return say(
        "Most users are lost from {before} to {step}: {count:,} of them.",
        before=labels[i - 1],
        step=labels[i],
        count=int(rows["dropped_count"].iloc[i - 1]),
    )


@list_limits.register
def _list_limits(diagnosis: FunnelDiagnosis) -> list[str]:
    limits = [*diagnosis.scope.notes, *_limit_path(diagnosis)]
    culprit = diagnosis.culprit
    if culprit is not None and culprit.explanation is not None:
        text = say(
            "{count:,} groups of users were compared at this step, and those named stand out beyond what looking at "
            "so many brings by chance. Why they do, the data do not say.",
            count=culprit.explanation.tested_count,
        )
        limits += [text, *_limit_values(culprit.explanation)]
    if culprit is not None and culprit.repair is not None:
        limits.append(
            say("Before and after a repair is a description: what else changed in these days is in the difference too.")
        )
    needs = diagnosis.missing.items()
    return limits + [say("{section}: not shown, it needs {need}.", section=say(s), need=say(need)) for s, need in needs]


def _limit_path(diagnosis: FunnelDiagnosis) -> list[str]:
    """Steps that are a guess, and who is in no rate."""
    limits, whole = [], diagnosis.whole
    if diagnosis.path.guessed:
        text = say(
            "Nobody named a funnel, so {steps} is a guess: the events that most users have. Name yours in the "
            "playbook: {example}.",
            steps=" > ".join(diagnosis.path.labels),
            example=EXAMPLE,
        )
        limits.append(text)
    waiting = int(whole.steps["immature_count"].iloc[0])
    if waiting:
        limits.append(say("{count:,} users entered whose window is not over; they are in no rate.", count=waiting))
    if whole.excluded_count:
        limits.append(say("{count:,} users are left out because of an excluded event.", count=whole.excluded_count))
    # The last note says how many wait, as was said above.
    return limits + [write_sentence(n) for n in (whole.notes[:-1] if waiting else whole.notes)]


def _limit_values(explanation: ChangeExplanation) -> list[str]:
    """Values that came or went, and what else an explanation warns of."""
    problems = explanation.data_problems
    limits = [write_sentence(w) for w in explanation.warnings if "=" not in w]
    moved = problems[problems["problem"].isin(["new value", "vanished value"])]
    if len(moved):
        limits.append(_limit_moved([_name_value(r) for r in moved.to_dict("records")]))
    for row in problems[~problems.index.isin(moved.index)].head(4).to_dict("records"):
        text = say("{users}: {problem}, as when tracking breaks", users=_name_value(row), problem=name_problem(row))
        limits.append(write_sentence(text))
    return limits


def _limit_moved(values: list[str], most: int = 4) -> str:
    named = say(", ").join(values[:most])
    if len(values) <= most:
        return say("Only one of the two periods has {values}: such groups have no rate to compare.", values=named)
    return say(
        "Only one of the two periods has {values} and {count} more: such groups have no rate to compare.",
        values=named,
        count=len(values) - most,
    )


def _name_value(problem: Mapping[Hashable, Any]) -> str:
    return name_segment(f"{problem['dimension']}={problem['value']}")


def name_problem(problem: Mapping[Hashable, Any]) -> str:
    """What looks as if tracking broke, for people."""
    name = str(problem["problem"])
    return say(PROBLEMS.get(name, name))


def say_repair(diagnosis: FunnelDiagnosis) -> str:
    """Before and after a repair, in a sentence; what is needed where it cannot be said."""
    culprit = diagnosis.culprit
    if culprit is None or culprit.repair is None:
        return say(
            "Before and after: name the day of a repair in fixed_on, with at least seven days known on either side of "
            "it, and the step's rate is compared."
        )
    compared = _say_repaired(culprit.repair)
    parts = " & ".join(f"{column}={value}" for column, value in culprit.lasting.items())
    if not parts:
        return say("Before and after the repair: {compared}. A description, not a proof.", compared=compared)
    return say(
        "Before and after the repair ({users}): {compared}. A description, not a proof.",
        users=name_segment(parts),
        compared=compared,
    )


def _say_repaired(repair: BeforeAfterResult) -> str:
    change = repair.change
    rates = {"before": say_share(change.before), "after": say_share(change.now)}
    if change.difference is None:
        text = say("{before} went on before and {after} after", **rates)
    else:
        points = say("{points:+.1f} points", points=100 * change.difference)
        text = say("{before} went on before and {after} after, {points}", points=points, **rates)
    return join_clauses([text, say(REPAIRS[repair.verdict])])

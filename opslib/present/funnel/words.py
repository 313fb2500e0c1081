"""The sentences of the funnel diagnosis."""

from __future__ import annotations

import datetime as dt

import pandas as pd

from opslib.decide.funnel.diagnosis import FunnelDiagnosis
from opslib.explain.change import ChangeExplanation
from opslib.measure.estimate import Change, Estimate
from opslib.measure.funnel.funnel import FunnelResult
from opslib.present.words import (
    describe,
    describe_scope,
    format_change,
    format_estimate,
    format_number,
    format_points,
    list_limits,
    name_segment,
    name_users,
    write_sentence,
)

DECISIONS = {
    "primary_gained": "ship it: it gains, and nothing that must hold got worse",
    "sample_ratio_mismatch": "stop: users were not split as planned, so nothing can be concluded; repair the split",
    "guardrail_broken": "stop: {metric} got worse by more than is accepted",
    "primary_lost": "stop: it loses",
    "gain_too_small": "stop: a gain worth having is ruled out",
    "no_clear_effect": "stop: no effect is clear, and no more users come",
    "not_enough_data": "go on: too few users have had their whole window",
    "guardrail_unclear": "go on: it gains, but whether {metric} holds is not clear",
    "not_clear_yet": "go on: not clear yet",
    "no_primary_metric": "go on: no metric decides",
}
METRIC_NAMES = {"goal_rate": "went on to {goal}", "revenue_amount": "revenue a user", "complaint_rate": "complained"}
VERDICTS = {
    "gain": "gain",
    "loss": "loss",
    "unclear": "not clear",
    "holds": "holds",
    "broken": "broken",
    "not_enough_data": "not enough data",
    "not_tested": "not tested",
}


@describe.register
def _describe_funnel(diagnosis: FunnelDiagnosis) -> list[str]:
    parts = [_say_overall(diagnosis), _say_step(diagnosis), say_culprit(diagnosis), _say_now(diagnosis)]
    return [s for s in [*parts, say_trial(diagnosis)] if s]


@describe_scope.register
def _describe_scope(diagnosis: FunnelDiagnosis) -> str:
    scope, path = diagnosis.scope, diagnosis.path
    name = f"{path.name.replace('_', ' ')}: " if path.name else ""
    days = f"those who entered from {scope.now.start} to {scope.as_of}"
    text = f"{scope.data.playbook.company.name}, {name}{' > '.join(path.labels)}, within {say_window(path.window)}, "
    text += f"{name_users(scope.segment)}, {days}"
    return text + (f", compared with {scope.before.start} to {scope.before.last_day}." if scope.before else ".")


def say_window(window: dt.timedelta) -> str:
    """A window in days or, if shorter, in hours.

    >>> say_window(dt.timedelta(days=7)), say_window(dt.timedelta(hours=12)), say_window(dt.timedelta(days=1.5))
    ('7 days', '12 hours', '1.5 days')
    """
    days = window / dt.timedelta(days=1)
    number, unit = (days, "day") if days >= 1 else (24 * days, "hour")
    return f"{number:g} {unit}{'' if number == 1 else 's'}"


def _say_change(change: Change | None) -> str:
    if change is None or change.difference is None or change.low is None or change.high is None:
        return ""
    text = format_points(change.difference, change.low, change.high)
    return text if change.clear else f"{text}, within chance"


def _say_overall(diagnosis: FunnelDiagnosis) -> str:
    labels, now = diagnosis.path.labels, diagnosis.whole
    last = len(labels)
    overall = now.estimate(last, overall=True)
    first = now.steps.iloc[0]
    if not overall.known:
        waiting = int(first["immature_count"])
        text = f"{int(first['converted_count']):,} users with a whole window of {say_window(now.window)} entered"
        text += f" ({waiting:,} more have not had theirs yet)" if waiting else ""
        return f"{text}: too few to say anything of the funnel."
    text = f"Of {overall.denominator:,.0f} users who entered at {labels[0]}, {overall.numerator:,.0f} got to "
    text += f"{labels[-1]}: {format_estimate(overall)}"
    change = _say_change(diagnosis.change(overall=True))
    if change:
        text += f", {change} against the period before"
    return f"{text}.{_say_absent(diagnosis)}"


def _say_absent(diagnosis: FunnelDiagnosis) -> str:
    counts = diagnosis.whole.steps["converted_count"].tolist()
    empty = next((i for i, n in enumerate(counts) if not n), None)
    if empty is None or not empty:
        return ""
    return f" Nobody got to {diagnosis.path.labels[empty]}: either the step is broken, or its event is not recorded."


def _say_step(diagnosis: FunnelDiagnosis) -> str:
    before, step = diagnosis.step_names
    change, split = diagnosis.change(diagnosis.step), diagnosis.split
    if change is None or change.difference is None or split is None or split.steps.empty:
        return _say_largest_drop(diagnosis.whole, diagnosis.path.labels)
    row = split.steps.iloc[diagnosis.step - 2]
    effect = format_points(row["effect_rate"], row["effect_low"], row["effect_high"])
    rates = f"from {before} to {step} went {change.before.value:.1%} of {change.before.denominator:,.0f} before and "
    rates += f"{change.now.value:.1%} of {change.now.denominator:,.0f} now ({_say_change(change)})"
    if not split.overall.clear and not change.clear:
        return f"No step moved beyond chance; the largest move is that {rates}."
    share = row["share_of_change_rate"]
    whole = f"{effect} of the whole"
    if pd.notna(share) and 0 < share <= 1.5:
        whole += f", {share:.0%} of its change"
    return f"The step that moved it most: {rates}. That is {whole}."


def _say_largest_drop(now: FunnelResult, labels: list[str]) -> str:
    rows = now.steps.iloc[1:]
    if rows.empty or not int(now.steps["converted_count"].iloc[0]):
        return ""
    i = int(rows["dropped_count"].to_numpy().argmax()) + 1
    return (
        f"Most users are lost from {labels[i - 1]} to {labels[i]}: {int(rows['dropped_count'].iloc[i - 1]):,} of them."
    )


def say_culprit(diagnosis: FunnelDiagnosis) -> str:
    """Which users the change of the step sits in."""
    culprit = diagnosis.culprit
    if culprit is None or culprit.explanation is None:
        return ""
    change = diagnosis.change(diagnosis.step)
    if not culprit.segment:
        if change is None or change.difference is None:
            return ""
        note = culprit.explanation.note.rstrip(".")
        if not change.clear and not culprit.explanation.localised:
            return f"No group of users stands out: {note}." if note else ""
        return (
            f"It sits in no group of users: {note}. Look for what changed for everybody: a release, a price, a season."
        )
    inside, outside = culprit.inside, culprit.outside
    assert inside is not None and outside is not None
    who = name_segment(culprit.name)
    text = f"It sits in {who}: {_say_share(inside)} went on, against {_say_share(outside)} of everybody else"
    if culprit.expected is not None and culprit.lost is not None:
        lost, low, high = culprit.lost
        by = (
            "as users alike but for the new value"
            if culprit.yardstick == "peers"
            else "as before, moved like everybody else"
        )
        verb = "lost" if lost > 0 else "won"
        low, high = sorted((abs(low), abs(high))) if low * high > 0 else (low, high)
        text += f"; {culprit.expected:.1%} would have been usual ({by}), so about {abs(lost):,.0f} users "
        text += f"[{low:,.0f} to {high:,.0f}] were {verb} at this step"
    return f"{text}.{_say_kind(diagnosis)}"


def _say_share(estimate: Estimate) -> str:
    return (
        f"{format_number(estimate.value, 'rate')} of {estimate.denominator:,.0f}"
        if estimate.known
        else f"{estimate.numerator:,.0f} of {estimate.denominator:,.0f}"
    )


def _say_kind(diagnosis: FunnelDiagnosis) -> str:
    """Mix or rate, in words."""
    culprit = diagnosis.culprit
    if culprit is None or not culprit.segment:
        return ""
    new = name_segment(" & ".join(f"{column}={value}" for column, value in culprit.new.items())) if culprit.new else ""
    return {
        "new": f" Nobody had {new} before.",
        "rate": " Their rate moved; it is not that there are more or fewer of them.",
        "mix": " Their rate did not move: there are more or fewer of them.",
        "both": " Both their rate and their number moved.",
        "unmoved": " Everybody else moved, and they did not.",
    }.get(culprit.kind, "")


def _say_now(diagnosis: FunnelDiagnosis) -> str:
    culprit = diagnosis.culprit
    if culprit is None or not culprit.state or culprit.ending is None:
        return ""
    recent, before = culprit.ending.recent, diagnosis.step_names[0]
    days = f"In the last {culprit.ending.days} days that are known"
    if culprit.state == "gone":
        users = f"{recent.denominator:,.0f} of them" if recent.denominator else "none of them"
        return f"{days} only {users} got to {before}: it is all but over.".replace("only none", "none")
    if not recent.known:
        return f"{days} {recent.denominator:,.0f} of them got to {before}: too few to say whether it is over."
    states = {"open": "it is not over", "over": "it is over", "unknown": "whether it is over is not clear"}
    usual = culprit.ending.expected_rate
    against = "" if usual != usual else f", against {usual:.1%} that would be usual"
    text = f"{days} {format_estimate(recent)} of {recent.denominator:,.0f} of them went on{against}"
    return f"{text}: {states[culprit.state]}."


def say_trial(diagnosis: FunnelDiagnosis) -> str:
    """What the experiment says, in a sentence."""
    trial = diagnosis.trial
    if trial is None:
        return ""
    result = trial.result
    text = f"Experiment {result.experiment.replace('_', ' ')}: "
    decision = result.decision
    reason = DECISIONS.get(decision.reason, decision.reason)
    text += reason.format(metric=name_metric(decision.metric, trial.goal))
    rows = result.comparisons[result.comparisons["metric"] == "goal_rate"]
    rows = rows[rows["variant"] == decision.variant] if decision.variant else rows
    if len(rows) and pd.notna(rows["difference"].iloc[0]):
        row = rows.iloc[0]
        always = result.looks == "always"
        low, high = (row[f"always_{e}"] if always else row[f"difference_{e}"] for e in ("low", "high"))
        text += f". Of {row['users_count']:,.0f} users with {str(row['variant']).replace('_', ' ')} "
        text += f"{row['variant_value']:.1%} got to {trial.goal} within {say_window(diagnosis.path.window)}, of "
        text += f"{row['control_users_count']:,.0f} with {result.control} {row['control_value']:.1%}: "
        text += format_points(row["difference"], low, high)
        text += ", an interval that holds however often one looks" if always else ""
    if result.split.verdict == "doubtful":
        text += f". The split is doubtful (chance of one so uneven {result.split.p_value:.1%})"
    return f"{text}."


def name_metric(name: str, goal: str) -> str:
    """A metric of the experiment, for people."""
    return METRIC_NAMES.get(name, name.replace("_", " ")).format(goal=goal)


@list_limits.register
def _list_limits(diagnosis: FunnelDiagnosis) -> list[str]:
    limits = list(diagnosis.scope.notes)
    if diagnosis.path.guessed:
        limits.append(
            f"Nobody named a funnel, so {' > '.join(diagnosis.path.labels)} is a guess: the events that most users "
            'have. Name yours in the playbook: [funnels.NAME] steps = ["...", "..."].'
        )
    waiting = int(diagnosis.whole.steps["immature_count"].iloc[0])
    if waiting:
        limits.append(f"{waiting:,} users entered whose window is not over; they are in no rate.")
    if diagnosis.whole.excluded_count:
        limits.append(f"{diagnosis.whole.excluded_count:,} users are left out because of an excluded event.")
    counted = [n for n in diagnosis.whole.notes if "did not happen" in n or "entered in the period" in n]
    limits += [write_sentence(n) for n in counted]
    culprit = diagnosis.culprit
    if culprit is not None and culprit.explanation is not None:
        tested = culprit.explanation.tested_count
        limits.append(
            f"{tested:,} groups of users were compared at this step, and those named stand out beyond what looking at "
            "so many brings by chance. Why they do, the data do not say."
        )
        limits += _limit_values(culprit.explanation)
    if culprit is not None and culprit.repair is not None:
        limits.append(
            "Before and after a repair is a description: what else changed in these days is in the difference too."
        )
    limits += [f"{section}: not shown, it needs {table}." for section, table in diagnosis.missing.items()]
    return limits


def _limit_values(explanation: ChangeExplanation) -> list[str]:
    """Values that came or went, and what else an explanation warns of."""
    problems = explanation.data_problems
    limits = [write_sentence(w) for w in explanation.warnings if "=" not in w]
    moved = problems[problems["problem"].isin(["new value", "vanished value"])]
    if len(moved):
        named = ", ".join(name_segment(f"{r['dimension']}={r['value']}") for r in moved.head(4).to_dict("records"))
        more = f" and {len(moved) - 4} more" if len(moved) > 4 else ""
        limits.append(f"Only one of the two periods has {named}{more}: such groups have no rate to compare.")
    for row in problems[~problems.index.isin(moved.index)].head(4).to_dict("records"):
        where = name_segment(f"{row['dimension']}={row['value']}")
        limits.append(write_sentence(f"{where}: {row['problem']}, as when tracking breaks"))
    return limits


def say_repair(diagnosis: FunnelDiagnosis) -> str:
    """Before and after a repair, in a sentence; what is needed where it cannot be said."""
    repair = None if diagnosis.culprit is None else diagnosis.culprit.repair
    if repair is None:
        return (
            "Before and after: name the day of a repair in fixed_on, with at least seven days known on either side of "
            "it, and the step's rate is compared."
        )
    verdicts = {
        "moved": "more than chance",
        "within_chance": "within chance",
        "not_enough_data": "too few users to say",
    }
    change = repair.change
    text = f"{_say_share(change.before)} went on before and {_say_share(change.now)} after"
    if change.difference is not None:
        text += f", {format_change(change).removesuffix(', within chance')}"
    assert diagnosis.culprit is not None
    parts = " & ".join(f"{column}={value}" for column, value in diagnosis.culprit.lasting.items())
    who = f" ({name_segment(parts)})" if parts else ""
    return f"Before and after the repair{who}: {text}; {verdicts[repair.verdict]}. A description, not a proof."

"""The sentences of the funnel diagnosis on the experiment: what it shows, and what is to be done with it."""

from __future__ import annotations

import datetime as dt

import pandas as pd

from opslib.decide.funnel.trial import Trial
from opslib.language import join_sentences, mark, say
from opslib.present.words import format_points

DECISIONS = {
    "primary_gained": mark("ship it: it gains, and nothing that must hold got worse"),
    "sample_ratio_mismatch": mark(
        "stop: users were not split as planned, so nothing can be concluded; repair the split"
    ),
    "guardrail_broken": mark("stop: what must hold got worse by more than is accepted ({metric})"),
    "primary_lost": mark("stop: it loses"),
    "gain_too_small": mark("stop: a gain worth having is ruled out"),
    "no_clear_effect": mark("stop: no effect is clear, and no more users come"),
    "not_enough_data": mark("go on: too few users have had their whole window"),
    "guardrail_unclear": mark("go on: it gains, but whether {metric} holds is not clear"),
    "not_clear_yet": mark("go on: not clear yet"),
    "no_primary_metric": mark("go on: no metric decides"),
}
METRIC_NAMES = {
    "goal_rate": mark("Went on to {goal}"),
    "revenue_amount": mark("Revenue a user"),
    "complaint_rate": mark("Complained"),
}
VERDICTS = {
    "gain": mark("gain"),
    "loss": mark("loss"),
    "unclear": mark("not clear"),
    "holds": mark("holds"),
    "broken": mark("broken"),
    "not_enough_data": mark("not enough data"),
    "not_tested": mark("not tested"),
}


def say_window(window: dt.timedelta) -> str:
    """A window in days or, if shorter, in hours.

    >>> say_window(dt.timedelta(days=7)), say_window(dt.timedelta(hours=12)), say_window(dt.timedelta(days=1.5))
    ('7 days', '12 hours', '1.5 days')
    """
    days = window / dt.timedelta(days=1)
    if days >= 1:
        return say("{count:g} day", count=days) if days == 1 else say("{count:g} days", count=days)
    hours = 24 * days
    return say("{count:g} hour", count=hours) if hours == 1 else say("{count:g} hours", count=hours)


def say_trial(trial: Trial, window: dt.timedelta) -> str:
    """What the experiment says; `window` is the funnel's."""
    doubt = ""
    if trial.result.split.verdict == "doubtful":
        doubt = say("The split is doubtful (chance of one so uneven {chance:.1%}).", chance=trial.result.split.p_value)
    return join_sentences([say_decision(trial), _say_effect(trial, window), doubt])


def say_decision(trial: Trial) -> str:
    """What is to be done with the experiment, and why."""
    decision = trial.result.decision
    metric = name_metric(decision.metric, trial.goal)
    reason = DECISIONS.get(decision.reason, decision.reason)
    return say(
        "Experiment {name}: {reason}.",
        name=trial.result.experiment.replace("_", " "),
        reason=say(reason, metric=f"{metric[:1].lower()}{metric[1:]}"),
    )


def _say_effect(trial: Trial, window: dt.timedelta) -> str:
    result = trial.result
    rows = result.comparisons[result.comparisons["metric"] == "goal_rate"]
    rows = rows[rows["variant"] == result.decision.variant] if result.decision.variant else rows
    if rows.empty or pd.isna(rows["difference"].iloc[0]):
        return ""
    row = rows.iloc[0]
    always = result.looks == "always"
    low, high = (row[f"always_{e}"] if always else row[f"difference_{e}"] for e in ("low", "high"))
    found = {
        "count": row["users_count"],
        "variant": str(row["variant"]).replace("_", " "),
        "rate": row["variant_value"],
        "goal": trial.goal,
        "window": say_window(window),
        "control_count": row["control_users_count"],
        "control": result.control,
        "control_rate": row["control_value"],
        "difference": format_points(row["difference"], low, high),
    }
    if always:
        return say(
            "Of {count:,.0f} users with {variant} {rate:.1%} got to {goal} within {window}, of {control_count:,.0f} "
            "with {control} {control_rate:.1%}: {difference}, an interval that holds however often one looks.",
            **found,
        )
    return say(
        "Of {count:,.0f} users with {variant} {rate:.1%} got to {goal} within {window}, of {control_count:,.0f} with "
        "{control} {control_rate:.1%}: {difference}.",
        **found,
    )


def name_metric(name: str, goal: str) -> str:
    """A metric of the experiment, for people."""
    return say(METRIC_NAMES.get(name, name.replace("_", " ")), goal=goal)

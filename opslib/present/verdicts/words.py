"""The sentences of verdicts on initiatives, and of what was promised and what came."""

from __future__ import annotations

from collections.abc import Iterable

from opslib.decide.verdicts.forecasts import FORECAST_LEVEL, ForecastReview
from opslib.decide.verdicts.looks import Look
from opslib.decide.verdicts.trial import ADJUSTED
from opslib.decide.verdicts.verdict import KillState, Verdict
from opslib.measure.estimate import Estimate
from opslib.present.words import (
    MISSING,
    describe,
    format_estimate,
    format_number,
    format_points,
    label_metric,
    list_limits,
    suggest_actions,
    write_sentence,
)

NAMES = {
    "d1_rate": "next-day retention",
    "d7_rate": "day-7 retention",
    "d30_rate": "day-30 retention",
    "stickiness_rate": "days active",
    "churn_rate": "churn",
    "paying_rate": "share who paid",
    "paying_users_count": "share who paid",
    "orders_count": "orders",
    "revenue_amount": "revenue",
    "complaint_rate": "share who complained",
    "satisfaction_rate": "satisfaction",
    "nps_ratio": "net promoter score",
    "funnel_rate": "share who finished the funnel",
    "new_users_count": "new users",
    "dau_count": "daily active users",
    "error_rate": "error rate",
    "cac_amount": "cost of a new user",
    "cost_per_d7_amount": "cost of a user back on day 7",
    "event_rate": "share who used it",
}
ROLES = {"core": "Core", "behaviour": "Behaviour", "feedback": "Feedback", "guardrail": "Guardrails"}
DIRECTIONS = {"better": "better", "worse": "worse", "unclear": "not clear", "unknown": "not known"}
STRENGTHS = {
    "experiment": "experiment",
    "holdout": "against a holdout",
    "difference in differences": "against segments that it did not reach",
    "synthetic control": "against a mix of segments that it did not reach",
    "before/after only": "before and after only, so it may have other reasons",
    "none": "no evidence",
}
SHOWN_NOTES = 4
# Further ahead nobody plans by it.
MOST_DAYS = 730


def name_look(metric: str) -> str:
    """A metric's name inside a sentence."""
    return NAMES.get(metric) or label_metric(metric).lower()


def format_effect(look: Look, *, currency: str = "") -> str:
    """What a look found, with its interval: points of a rate, else in the metric's own unit."""
    if look.effect is None or look.low is None or look.high is None:
        return MISSING
    if look.unit == "rate":
        return format_points(look.effect, look.low, look.high)
    form = "+,.3f" if max(abs(look.effect), abs(look.low), abs(look.high)) < 1 else "+,.2f"
    money = f"{currency} " if look.unit == "amount" and currency else ""
    ends = form.removeprefix("+")
    per = " a user" if look.per_user else " a day" if look.unit == "count" else ""
    return f"{money}{look.effect:{form}}{per} [{look.low:{ends}} to {look.high:{ends}}]"


def format_side(estimate: Estimate | None, look: Look, *, currency: str = "") -> str:
    """One side of a look with what it is of."""
    if estimate is None or estimate.value is None:
        return MISSING
    if look.unit == "rate":
        text = format_number(estimate.value, "rate")
    elif look.unit == "amount":
        text = format_number(estimate.value, "amount", currency=currency)
    else:
        text = f"{estimate.value:,.3f}" if abs(estimate.value) < 1 else f"{estimate.value:,.1f}"
    if estimate.denominator <= 1:
        return text
    answers = look.metric in ("satisfaction_rate", "nps_ratio")
    if look.per_user:
        return f"{text} of {estimate.denominator:,.0f} {'answers' if answers else 'users'}"
    return f"{text} of {estimate.denominator:,.0f}" if look.unit == "rate" else text


def say_core(verdict: Verdict) -> str:
    """The look that decides, in one sentence."""
    core = verdict.core
    if core.effect is None:
        return ""
    sides = [format_side(e, core, currency=verdict.currency) for e in (core.with_it, core.without_it)]
    if core.per_user:
        both = f"{sides[0]} with it, {sides[1]} without"
    elif core.descriptive:
        both = f"{sides[0]} since, {sides[1]} in as many days before"
    else:
        both = f"{sides[0]}, where {sides[1]} was to be expected"
    effect = format_effect(core, currency=verdict.currency)
    chance = "" if core.direction in ("better", "worse") else ", within chance"
    adjusted = ", allowing for what they did before" if ADJUSTED in core.notes else ""
    return f"{name_look(core.metric)} {both}: {effect}{chance} ({STRENGTHS[core.strength]}{adjusted})"


def say_reason(verdict: Verdict) -> str:
    """Why the verdict is what it is."""
    core, reason = verdict.core, verdict.reason
    if reason == "core_improved":
        guards = [k for k in verdict.looks if k.role == "guardrail"]
        held = bool(guards) and all(k.direction in ("better", "unclear") for k in guards)
        return "No guardrail is clearly worse." if held else ""
    if reason in ("vetoed", "contradicted"):
        metrics = verdict.vetoed_by if reason == "vetoed" else verdict.contradicted_by
        looks = [next(k for k in verdict.looks if k.metric == m and k.role != "core") for m in metrics]
        told = "; ".join(_tell(k, verdict.currency) for k in looks)
        means = "which vetoes it" if reason == "vetoed" else "which speaks against it"
        return f"The core improved, but something else got worse, {means}: {told}."
    worth = _say_worth(verdict)
    texts = {
        "core_worse": "The core metric got worse.",
        "gain_too_small": f"A change worth having ({worth} or more) is ruled out.",
        "no_clear_effect": "Nothing more will come of it to look at, and no effect is clear.",
        "descriptive_only": "It moved the right way, but before and after alone prove nothing: more may have changed.",
        "not_started": f"It starts on {verdict.initiative.start}.",
    }
    return texts.get(reason) or _say_need(verdict, core, worth)


def _say_worth(verdict: Verdict) -> str:
    worth = verdict.core.worth
    if worth is None:
        return "none was named"
    if verdict.core.unit == "rate":
        return f"{100 * worth:.1f} points"
    return (
        f"{format_number(worth, 'amount', currency=verdict.currency)}"
        if verdict.core.unit == "amount"
        else f"{worth:g}"
    )


def _say_need(verdict: Verdict, core: Look, worth: str) -> str:
    parts = []
    if verdict.reason == "unknown":
        parts.append(write_sentence(core.notes[-1]) if core.notes else "The core metric cannot be read.")
    elif core.immature_count:
        parts.append(f"{core.immature_count:,} users have not had their {core.window_days} days yet.")
    elif verdict.reason == "unclear":
        parts.append("No effect and the effect that was hoped for are both still possible.")
    enough = []
    if core.more_users_count:
        enough.append(f"about {core.more_users_count:,} more users")
    if core.more_days:
        enough.append("more than two years" if core.more_days > MOST_DAYS else f"about {core.more_days:,} more days")
    if enough:
        target = f" to see a change of {worth}" if core.worth is not None else ""
        parts.append(f"It takes {' or '.join(enough)}{target}.")
    return " ".join(parts)


def _tell(look: Look, currency: str) -> str:
    text = f"{name_look(look.metric)} {format_effect(look, currency=currency)}"
    return f"{text}, before and after only" if look.descriptive else text


def _say_others(verdict: Verdict) -> str:
    parts = []
    for role in ("behaviour", "feedback"):
        looks = [k for k in verdict.looks if k.role == role]
        told = []
        for direction in ("better", "worse", "unclear", "unknown"):
            found = [k for k in looks if k.direction == direction]
            if direction in ("better", "worse"):
                told += [f"{_tell(k, verdict.currency)} ({direction})" for k in found]
            elif found:
                told.append(f"{_join(name_look(k.metric) for k in found)} {DIRECTIONS[direction]}")
        if told:
            parts.append(f"{ROLES[role]}: {'; '.join(told)}.")
    hurt = [k for k in verdict.looks if k.role == "guardrail" and k.direction == "worse"]
    if hurt and verdict.reason != "vetoed":
        parts.append(f"Guardrails: {'; '.join(f'{_tell(k, verdict.currency)} (worse)' for k in hurt)}.")
    return " ".join(parts)


def _join(names: Iterable[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last


def say_kill(kill: KillState) -> str:
    """A kill rule that is met, or empty."""
    if not kill.met:
        return ""
    bound = kill.rule.below if kill.rule.below is not None else kill.rule.above
    side = "below" if kill.rule.below is not None else "above"
    limit = format_number(bound, kill.value.unit)
    sure = "" if kill.sure else " (not beyond chance)"
    return f"Give up now: {name_look(kill.rule.metric)} is {format_estimate(kill.value)}, {side} {limit}{sure}."


def say_halves(verdict: Verdict) -> str:
    """What a campaign brought first and what after, where that can be told."""
    early, late = verdict.early, verdict.late
    if early is None or late is None or early.effect is None or late.effect is None:
        return ""
    half = verdict.core.window_days // 2
    first, then = (format_effect(k, currency=verdict.currency) for k in (early, late))
    text = f"In the first {half} days {first}, in the {verdict.core.window_days - half} after {then}"
    if verdict.brought_forward:
        return f"{text}: part of it was only brought forward."
    return f"{text}, within chance." if late.direction == "unclear" else f"{text}."


@describe.register
def _describe_verdict(verdict: Verdict) -> list[str]:
    core = say_core(verdict)
    head = f"{verdict.initiative.name}: {verdict.verdict}."
    first = f"{head} {write_sentence(core)}" if core else f"{head} {say_reason(verdict)}".strip()
    reason = say_reason(verdict) if core else ""
    sentences = [first, _say_others(verdict), " ".join(s for s in (reason, say_halves(verdict)) if s)]
    return [s for s in sentences if s]


@list_limits.register
def _limit_verdict(verdict: Verdict) -> list[str]:
    found = [f"{write_sentence(name_look(k.metric))[:-1]}: {' '.join(k.why_not)}" for k in verdict.looks if k.why_not]
    found += [note for k in verdict.looks[:1] for note in k.notes]
    return list(dict.fromkeys(found))[:SHOWN_NOTES]


@suggest_actions.register
def _act_on_verdict(verdict: Verdict) -> list[str]:
    owner, name = verdict.initiative.owner, verdict.initiative.name
    if verdict.kill is not None and (text := say_kill(verdict.kill)):
        return [f"{owner}: {name}. {text}", *_say_remedies(verdict)]
    if verdict.verdict == "effective":
        return [f"{owner}: keep {name} up, or do it again."]
    if verdict.reason == "vetoed":
        return [f"{owner}: hold {name} until it is known why {_join(map(name_look, verdict.vetoed_by))} got worse."]
    if verdict.verdict == "not effective":
        return [f"{owner}: end {name} or change it.", *_say_remedies(verdict)]
    if verdict.reason == "descriptive_only":
        return [f"{owner}: hold {name} back from a few users by lot; then its effect can be told."]
    if verdict.reason == "not_started":
        return []
    need = _say_need(verdict, verdict.core, _say_worth(verdict))
    return [f"{owner}: leave {name} as it is and judge it again later. {need}".strip()]


def _say_remedies(verdict: Verdict) -> list[str]:
    return [f"{write_sentence(remedy)}" for remedy in verdict.remedies]


@describe.register
def _describe_forecasts(review: ForecastReview) -> list[str]:
    table = review.table
    if table.empty:
        return ["The register holds no initiative."]
    counts = [f"{int((table['verdict'] == v).sum()):,} {v}" for v in ("effective", "not effective", "not enough data")]
    number = len(table)
    sentences = [f"{number:,} initiative{'s' * (number > 1)}: {', '.join(counts)}."]
    if review.note or review.bias_ratio is None:
        return [*sentences, write_sentence(review.note)]
    inside = review.inside
    held = f"{inside.numerator:,.0f} of {inside.denominator:,.0f} forecasts held what came: {format_estimate(inside)}, "
    sentences.append(f"{held}where {FORECAST_LEVEL:.0%} should.")
    if review.bias_ratio < 0:
        words = f"As a rule {-review.bias_ratio:.0%} less came than was promised"
    else:
        words = f"As a rule {review.bias_ratio:.0%} more came than was promised"
    return [*sentences, f"{words}{'' if review.clear_bias else ', within chance'}."]


@suggest_actions.register
def _act_on_forecasts(review: ForecastReview) -> list[str]:
    due = review.table[review.table["status"] == "due"]
    return [
        f"{row.owner}: decide on {row.initiative}, watched until {row.watch_until_at:%Y-%m-%d}."
        for row in due.itertuples()
    ]


@list_limits.register
def _limit_forecasts(review: ForecastReview) -> list[str]:
    shown = review.table[review.table["finished"].astype(bool) & ~review.table["scored"].astype(bool)]
    names = shown["initiative"].tolist()
    return [f"Not scored, for want of a forecast or of a control: {', '.join(names)}."] if names else []

"""The sentences of verdicts on initiatives, and of what was promised and what came."""

from __future__ import annotations

from opslib.decide.verdicts.forecasts import FORECAST_LEVEL, ForecastReview
from opslib.decide.verdicts.looks import Look
from opslib.decide.verdicts.trial import ADJUSTED
from opslib.decide.verdicts.verdict import VERDICT_NAMES, KillState, Verdict
from opslib.language import join_clauses, join_sentences, join_words, mark, say
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
    "d1_rate": mark("next-day retention"),
    "d7_rate": mark("day-7 retention"),
    "d30_rate": mark("day-30 retention"),
    "stickiness_rate": mark("days active"),
    "churn_rate": mark("churn"),
    "paying_rate": mark("share who paid"),
    "paying_users_count": mark("share who paid"),
    "orders_count": mark("orders"),
    "revenue_amount": mark("revenue"),
    "complaint_rate": mark("share who complained"),
    "satisfaction_rate": mark("satisfaction"),
    "nps_ratio": mark("net promoter score"),
    "funnel_rate": mark("share who finished the funnel"),
    "new_users_count": mark("new users"),
    "dau_count": mark("daily active users"),
    "error_rate": mark("error rate"),
    "cac_amount": mark("cost of a new user"),
    "cost_per_d7_amount": mark("cost of a user back on day 7"),
    "event_rate": mark("share who used it"),
}
ROLES = {
    "core": mark("Core"),
    "behaviour": mark("Behaviour"),
    "feedback": mark("Feedback"),
    "guardrail": mark("Guardrail"),
}
DIRECTIONS = {
    "better": mark("better"),
    "worse": mark("worse"),
    "unclear": mark("not clear"),
    "unknown": mark("not known"),
}
STRENGTHS = {
    "experiment": mark("experiment"),
    "holdout": mark("against a holdout"),
    "difference in differences": mark("against segments that it did not reach"),
    "synthetic control": mark("against a mix of segments that it did not reach"),
    "before/after only": mark("before and after only, so it may have other reasons"),
    "none": mark("no evidence"),
}
REASONS = {
    "core_worse": mark("The core metric got worse."),
    "no_clear_effect": mark("Nothing more will come of it to look at, and no effect is clear."),
    "descriptive_only": mark(
        "It moved the right way, but before and after alone prove nothing: more may have changed."
    ),
}
SHOWN_NOTES = 4
# Further ahead nobody plans by it.
MOST_DAYS = 730


def name_look(metric: str) -> str:
    """A metric's name inside a sentence."""
    return say(NAMES[metric]) if metric in NAMES else label_metric(metric).lower()


def name_look_first(metric: str) -> str:
    """A metric's name at the beginning of a line."""
    return write_sentence(name_look(metric))[:-1]


def format_effect(look: Look, *, currency: str = "") -> str:
    """What a look found, with its interval: points of a rate, else in the metric's own unit."""
    if look.effect is None or look.low is None or look.high is None:
        return MISSING
    if look.unit == "rate":
        return format_points(look.effect, look.low, look.high)
    form = "+,.3f" if max(abs(look.effect), abs(look.low), abs(look.high)) < 1 else "+,.2f"
    money = f"{currency} " if look.unit == "amount" and currency else ""
    ends = form.removeprefix("+")
    value = f"{money}{look.effect:{form}}"
    if look.per_user:
        value = say("{value} a user", value=value)
    elif look.unit == "count":
        value = say("{value} a day", value=value)
    return say("{value} [{low} to {high}]", value=value, low=f"{look.low:{ends}}", high=f"{look.high:{ends}}")


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
    count = estimate.denominator
    if count <= 1:
        return text
    if look.per_user and look.metric in ("satisfaction_rate", "nps_ratio"):
        return say("{value} of {count:,.0f} answers", value=text, count=count)
    if look.per_user:
        return say("{value} of {count:,.0f} users", value=text, count=count)
    return say("{rate} of {count:,.0f}", rate=text, count=count) if look.unit == "rate" else text


def say_core(verdict: Verdict) -> str:
    """The look that decides, in one sentence."""
    core = verdict.core
    if core.effect is None:
        return ""
    one, other = (format_side(e, core, currency=verdict.currency) for e in (core.with_it, core.without_it))
    if core.per_user:
        both = say("{with_it} with it, {without_it} without", with_it=one, without_it=other)
    elif core.descriptive:
        both = say("{since} since, {before} in as many days before", since=one, before=other)
    else:
        both = say("{actual}, where {expected} was to be expected", actual=one, expected=other)
    effect = format_effect(core, currency=verdict.currency)
    if core.direction not in ("better", "worse"):
        effect = say("{change}, within chance", change=effect)
    evidence = say(STRENGTHS[core.strength])
    if say(ADJUSTED) in core.notes:
        evidence = say("{evidence}, allowing for what they did before", evidence=evidence)
    return say(
        "{metric} {both}: {effect} ({evidence})",
        metric=name_look(core.metric),
        both=both,
        effect=effect,
        evidence=evidence,
    )


def say_reason(verdict: Verdict) -> str:
    """Why the verdict is what it is."""
    core, reason = verdict.core, verdict.reason
    if reason == "core_improved":
        guards = [k for k in verdict.looks if k.role == "guardrail"]
        held = bool(guards) and all(k.direction in ("better", "unclear") for k in guards)
        return say("No guardrail is clearly worse.") if held else ""
    if reason in ("vetoed", "contradicted"):
        metrics = verdict.vetoed_by if reason == "vetoed" else verdict.contradicted_by
        looks = [next(k for k in verdict.looks if k.metric == m and k.role != "core") for m in metrics]
        told = join_clauses(_tell(k, verdict.currency) for k in looks)
        if reason == "vetoed":
            return say("The core improved, but something else got worse, which vetoes it: {told}.", told=told)
        return say("The core improved, but something else got worse, which speaks against it: {told}.", told=told)
    worth = _say_worth(verdict)
    if reason == "gain_too_small":
        return say("A change worth having ({worth} or more) is ruled out.", worth=worth)
    if reason == "not_started":
        return say("It starts on {day}.", day=verdict.initiative.start)
    return say(REASONS[reason]) if reason in REASONS else _say_need(verdict, core, worth)


def _say_worth(verdict: Verdict) -> str:
    worth = verdict.core.worth
    if worth is None:
        return say("none was named")
    if verdict.core.unit == "rate":
        return say("{points:.1f} points", points=100 * worth)
    if verdict.core.unit == "amount":
        return format_number(worth, "amount", currency=verdict.currency)
    return f"{worth:g}"


def _say_need(verdict: Verdict, core: Look, worth: str) -> str:
    parts = []
    if verdict.reason == "unknown":
        parts.append(write_sentence(core.notes[-1]) if core.notes else say("The core metric cannot be read."))
    elif core.immature_count:
        parts.append(
            say(
                "{count:,} users have not had their {days} days yet.",
                count=core.immature_count,
                days=core.window_days,
            )
        )
    elif verdict.reason == "unclear":
        parts.append(say("No effect and the effect that was hoped for are both still possible."))
    enough = []
    if core.more_users_count:
        enough.append(say("about {count:,} more users", count=core.more_users_count))
    if core.more_days and core.more_days > MOST_DAYS:
        enough.append(say("more than two years"))
    elif core.more_days:
        enough.append(say("about {days:,} more days", days=core.more_days))
    if enough:
        need = join_words(enough, last="or")
        if core.worth is not None:
            parts.append(say("It takes {need} to see a change of {worth}.", need=need, worth=worth))
        else:
            parts.append(say("It takes {need}.", need=need))
    return join_sentences(parts)


def _tell(look: Look, currency: str) -> str:
    metric, effect = name_look(look.metric), format_effect(look, currency=currency)
    if look.descriptive:
        return say("{metric} {effect}, before and after only", metric=metric, effect=effect)
    return say("{metric} {effect}", metric=metric, effect=effect)


def _tell_reading(look: Look, currency: str) -> str:
    return say("{text} ({note})", text=_tell(look, currency), note=say(DIRECTIONS[look.direction]))


def _say_others(verdict: Verdict) -> str:
    parts = []
    for role in ("behaviour", "feedback"):
        looks = [k for k in verdict.looks if k.role == role]
        told = []
        for direction in ("better", "worse", "unclear", "unknown"):
            found = [k for k in looks if k.direction == direction]
            if direction in ("better", "worse"):
                told += [_tell_reading(k, verdict.currency) for k in found]
            elif found:
                names = join_words(name_look(k.metric) for k in found)
                told.append(say("{metrics} {reading}", metrics=names, reading=say(DIRECTIONS[direction])))
        if told:
            parts.append(say("{look}: {told}.", look=say(ROLES[role]), told=join_clauses(told)))
    hurt = [k for k in verdict.looks if k.role == "guardrail" and k.direction == "worse"]
    if hurt and verdict.reason != "vetoed":
        parts.append(say("Guardrails: {told}.", told=join_clauses(_tell_reading(k, verdict.currency) for k in hurt)))
    return join_sentences(parts)


def say_kill(kill: KillState) -> str:
    """A kill rule that is met, or empty."""
    if not kill.met:
        return ""
    metric, value = name_look(kill.rule.metric), format_estimate(kill.value)
    if kill.rule.below is not None:
        limit = format_number(kill.rule.below, kill.value.unit)
        text = say("{metric} is {value}, below {limit}", metric=metric, value=value, limit=limit)
    else:
        limit = format_number(kill.rule.above, kill.value.unit)
        text = say("{metric} is {value}, above {limit}", metric=metric, value=value, limit=limit)
    if not kill.sure:
        text = say("{text} ({note})", text=text, note=say("not beyond chance"))
    return say("Give up now: {told}.", told=text)


def say_halves(verdict: Verdict) -> str:
    """What a campaign brought first and what after, where that can be told."""
    early, late = verdict.early, verdict.late
    if early is None or late is None or early.effect is None or late.effect is None:
        return ""
    half = verdict.core.window_days // 2
    first, then = (format_effect(k, currency=verdict.currency) for k in (early, late))
    text = say(
        "In the first {half} days {first}, in the {rest} after {then}",
        half=half,
        first=first,
        rest=verdict.core.window_days - half,
        then=then,
    )
    if verdict.brought_forward:
        return say("{text}: part of it was only brought forward.", text=text)
    if late.direction == "unclear":
        text = say("{change}, within chance", change=text)
    return say("{text}.", text=text)


@describe.register
def _describe_verdict(verdict: Verdict) -> list[str]:
    core = say_core(verdict)
    name = say(VERDICT_NAMES[verdict.verdict])
    head = say("{initiative}: {verdict}.", initiative=verdict.initiative.name, verdict=name)
    first = join_sentences([head, write_sentence(core) if core else say_reason(verdict)])
    reason = say_reason(verdict) if core else ""
    sentences = [first, _say_others(verdict), join_sentences([reason, say_halves(verdict)])]
    return [s for s in sentences if s]


@list_limits.register
def _limit_verdict(verdict: Verdict) -> list[str]:
    found = [
        say("{metric}: {told}", metric=name_look_first(k.metric), told=join_sentences(k.why_not))
        for k in verdict.looks
        if k.why_not
    ]
    found += [note for k in verdict.looks[:1] for note in k.notes]
    return list(dict.fromkeys(found))[:SHOWN_NOTES]


@suggest_actions.register
def _act_on_verdict(verdict: Verdict) -> list[str]:
    who = {"owner": verdict.initiative.owner, "initiative": verdict.initiative.name}
    if verdict.kill is not None and (text := say_kill(verdict.kill)):
        return [say("{owner}: {initiative}. {told}", told=text, **who), *_say_remedies(verdict)]
    if verdict.verdict == "effective":
        return [say("{owner}: keep {initiative} up, or do it again.", **who)]
    if verdict.reason == "vetoed":
        metrics = join_words(map(name_look, verdict.vetoed_by))
        return [say("{owner}: hold {initiative} until it is known why {metrics} got worse.", metrics=metrics, **who)]
    if verdict.verdict == "not effective":
        return [say("{owner}: end {initiative} or change it.", **who), *_say_remedies(verdict)]
    if verdict.reason == "descriptive_only":
        return [say("{owner}: hold {initiative} back from a few users by lot; then its effect can be told.", **who)]
    if verdict.reason == "not_started":
        return []
    later = say("{owner}: leave {initiative} as it is and judge it again later.", **who)
    return [join_sentences([later, _say_need(verdict, verdict.core, _say_worth(verdict))])]


def _say_remedies(verdict: Verdict) -> list[str]:
    return [write_sentence(say(remedy)) for remedy in verdict.remedies]


@describe.register
def _describe_forecasts(review: ForecastReview) -> list[str]:
    table = review.table
    if table.empty:
        return [say("The register holds no initiative.")]
    number = len(table)
    told = say(", ").join(
        say("{count:,} {verdict}", count=int((table["verdict"] == verdict).sum()), verdict=say(name))
        for verdict, name in VERDICT_NAMES.items()
    )
    if number > 1:
        first = say("{count:,} initiatives: {told}.", count=number, told=told)
    else:
        first = say("{count:,} initiative: {told}.", count=number, told=told)
    if review.note or review.bias_ratio is None:
        return [first, write_sentence(review.note)]
    held = say(
        "{held:,.0f} of {count:,.0f} forecasts held what came: {share}, where {level:.0%} should.",
        held=review.inside.numerator,
        count=review.inside.denominator,
        share=format_estimate(review.inside),
        level=FORECAST_LEVEL,
    )
    if review.bias_ratio < 0:
        usual = say("As a rule {share:.0%} less came than was promised", share=-review.bias_ratio)
    else:
        usual = say("As a rule {share:.0%} more came than was promised", share=review.bias_ratio)
    if not review.clear_bias:
        usual = say("{change}, within chance", change=usual)
    return [first, held, say("{text}.", text=usual)]


@suggest_actions.register
def _act_on_forecasts(review: ForecastReview) -> list[str]:
    due = review.table[review.table["status"] == "due"]
    return [
        say(
            "{owner}: decide on {initiative}, watched until {day:%Y-%m-%d}.",
            owner=row.owner,
            initiative=row.initiative,
            day=row.watch_until_at,
        )
        for row in due.itertuples()
    ]


@list_limits.register
def _limit_forecasts(review: ForecastReview) -> list[str]:
    shown = review.table[review.table["finished"].astype(bool) & ~review.table["scored"].astype(bool)]
    names = say(", ").join(shown["initiative"])
    return [say("Not scored, for want of a forecast or of a control: {names}.", names=names)] if names else []

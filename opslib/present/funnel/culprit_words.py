"""The sentences of the funnel diagnosis on whom the change of a step sits in, and whether it is over."""

from __future__ import annotations

import math
from typing import Any

from opslib.decide.funnel.culprit import Culprit
from opslib.decide.funnel.diagnosis import FunnelDiagnosis
from opslib.explain.change import ChangeExplanation
from opslib.language import join_clauses, join_sentences, mark, say
from opslib.measure.estimate import Estimate
from opslib.present.words import format_estimate, format_number, name_segment

STATES = {
    "open": mark("it is not over"),
    "over": mark("it is over"),
    "unknown": mark("whether it is over is not clear"),
}
YARDSTICKS = {
    "peers": mark("as users alike but for the new value"),
    "itself": mark("as before, moved like everybody else"),
}


def say_culprit(diagnosis: FunnelDiagnosis) -> str:
    """Which users the change of the step sits in."""
    culprit = diagnosis.culprit
    if culprit is None or culprit.explanation is None:
        return ""
    if not culprit.segment:
        return _say_nobody(diagnosis, culprit.explanation)
    inside, outside = culprit.inside, culprit.outside
    assert inside is not None and outside is not None
    sits = say(
        "It sits in {users}: {inside} went on, against {outside} of everybody else",
        users=name_segment(culprit.name),
        inside=say_share(inside),
        outside=say_share(outside),
    )
    return join_sentences([say("{text}.", text=join_clauses([sits, _say_lost(culprit)])), _say_kind(culprit)])


def _say_nobody(diagnosis: FunnelDiagnosis, explanation: ChangeExplanation) -> str:
    change = diagnosis.change(diagnosis.step)
    if change is None or change.difference is None:
        return ""
    note = explanation.note.rstrip(".")
    if not change.clear and not explanation.localised:
        return say("No group of users stands out: {note}.", note=note) if note else ""
    sits = say("It sits in no group of users: {note}.", note=note) if note else say("It sits in no group of users.")
    return join_sentences([sits, say("Look for what changed for everybody: a release, a price, a season.")])


def _say_lost(culprit: Culprit) -> str:
    """How many users the change cost, or won, in a clause."""
    if culprit.expected is None or culprit.lost is None:
        return ""
    lost, low, high = culprit.lost
    low, high = sorted((abs(low), abs(high))) if low * high > 0 else (low, high)
    found = {
        "usual": culprit.expected,
        "by": say(YARDSTICKS[culprit.yardstick]),
        "count": abs(lost),
        "low": low,
        "high": high,
    }
    if lost > 0:
        return say(
            "{usual:.1%} would have been usual ({by}), so about {count:,.0f} users [{low:,.0f} to {high:,.0f}] were "
            "lost at this step",
            **found,
        )
    return say(
        "{usual:.1%} would have been usual ({by}), so about {count:,.0f} users [{low:,.0f} to {high:,.0f}] were won "
        "at this step",
        **found,
    )


def say_share(estimate: Estimate) -> str:
    """A rate with how many it is of; counts alone where these are too few."""
    if estimate.known:
        share = format_number(estimate.value, "rate")
        return say("{share} of {users:,.0f}", share=share, users=estimate.denominator)
    return say("{count:,.0f} of {users:,.0f}", count=estimate.numerator, users=estimate.denominator)


def _say_kind(culprit: Culprit) -> str:
    """Mix or rate, in words."""
    if culprit.kind == "new":
        new = name_segment(" & ".join(f"{column}={value}" for column, value in culprit.new.items()))
        if count := culprit.new_before_count:
            return say("Before, only {count:,} users had {value}.", count=count, value=new)
        return say("Nobody had {value} before.", value=new)
    kinds = {
        "rate": mark("Their rate moved; it is not that there are more or fewer of them."),
        "mix": mark("Their rate did not move: there are more or fewer of them."),
        "both": mark("Both their rate and their number moved."),
        "unmoved": mark("Everybody else moved, and they did not."),
    }
    return say(kinds[culprit.kind]) if culprit.kind in kinds else ""


def say_now(diagnosis: FunnelDiagnosis) -> str:
    """Is it over?"""
    culprit = diagnosis.culprit
    if culprit is None or not culprit.state or culprit.ending is None:
        return ""
    recent = culprit.ending.recent
    seen: dict[str, Any] = {"days": culprit.ending.days, "count": recent.denominator}
    if culprit.state == "gone" or not recent.known:
        return _say_few(culprit, diagnosis.step_names[0])
    seen |= {"share": format_estimate(recent), "state": say(STATES[culprit.state])}
    usual = culprit.ending.expected_rate
    if math.isnan(usual):
        return say(
            "In the last {days} days that are known {share} of {count:,.0f} of them went on: {state}.",
            **seen,
        )
    return say(
        "In the last {days} days that are known {share} of {count:,.0f} of them went on, against {usual:.1%} that "
        "would be usual: {state}.",
        usual=usual,
        **seen,
    )


def _say_few(culprit: Culprit, step: str) -> str:
    """The last days where hardly anybody came."""
    assert culprit.ending is not None
    seen = {"days": culprit.ending.days, "count": culprit.ending.recent.denominator, "step": step}
    if culprit.state != "gone":
        return say(
            "In the last {days} days that are known {count:,.0f} of them got to {step}: too few to say whether it is "
            "over.",
            **seen,
        )
    if seen["count"]:
        return say(
            "In the last {days} days that are known only {count:,.0f} of them got to {step}: it is all but over.",
            **seen,
        )
    return say("In the last {days} days that are known none of them got to {step}: it is all but over.", **seen)

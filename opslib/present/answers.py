"""The two ends of every notebook: the answer first, the next actions last."""

from __future__ import annotations

from typing import Any

from opslib.data.fitness import DataFitness
from opslib.decide.review import QuarterlyReview
from opslib.present.display import AnswerView, ListView
from opslib.present.words import describe, describe_scope, suggest_actions


def show_answer(result: Any) -> AnswerView:
    """Show a result's answer in sentences; its findings travel along for machines.

    Args:
        result: anything that `describe` has words for.

    Returns:
        An `AnswerView`, shown as a list of sentences.
    """
    lead = describe_scope(result) if isinstance(result, QuarterlyReview) else ""
    findings = result.findings() if hasattr(result, "findings") else []
    return AnswerView(lead, describe(result), findings)


def show_verdict(fitness: DataFitness) -> ListView:
    """Show in a sentence or two whether the data are fit; `tables.show_fitness` shows each table."""
    return ListView(describe(fitness))


def show_limits(review: QuarterlyReview) -> ListView:
    """Show what the reader must know before relying on a review: periods cut short, immature users, missing tables."""
    immature = review.now.retention.immature
    waiting = ", ".join(f"{count:,} for day {n}" for n, count in immature.items() if count)
    limits = list(review.notes)
    if waiting:
        limits.append(f"New users whose day has not come yet are in no retention rate: {waiting}.")
    limits += [f"{section} is missing: it needs table {table}." for section, table in review.missing.items()]
    return ListView(limits or ["The data cover both quarters in full, and every new user's days have come."])


def show_next_actions(review: QuarterlyReview) -> ListView:
    """Show what to do next, the largest shortfall first."""
    return ListView(suggest_actions(review))

"""The two ends of every notebook: the answer first, limits and the next actions last."""

from __future__ import annotations

from typing import Any

from opslib.data.fitness import DataFitness
from opslib.present.display import AnswerView, ListView
from opslib.present.words import describe, describe_scope, list_limits, suggest_actions

__all__ = [
    "describe",
    "describe_scope",
    "list_limits",
    "show_answer",
    "show_limits",
    "show_next_actions",
    "show_verdict",
    "suggest_actions",
]


def show_answer(result: Any) -> AnswerView:
    """Show a result's answer in sentences; its findings travel along for machines.

    Args:
        result: anything that `describe` has words for.

    Returns:
        An `AnswerView`, shown as a list of sentences.
    """
    findings = result.findings() if hasattr(result, "findings") else []
    return AnswerView(describe_scope(result), describe(result), findings)


def show_verdict(fitness: DataFitness) -> ListView:
    """Show in a sentence or two whether the data are fit; `tables.show_fitness` shows each table."""
    return ListView(describe(fitness))


def show_limits(result: Any) -> ListView:
    """Show what the reader must know before relying on a result: periods cut short, immature users, missing tables."""
    return ListView(list_limits(result))


def show_next_actions(result: Any) -> ListView:
    """Show what to do next, the most urgent first."""
    return ListView(suggest_actions(result))

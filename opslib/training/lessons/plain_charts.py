"""The playbook's charts as a lesson shows them before it asks: without the finding in their titles and marks."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from opslib.decide.funnel.diagnosis import FunnelDiagnosis
from opslib.decide.growth.model import GrowthModel
from opslib.language import say
from opslib.present.display import ChartView, ListView
from opslib.present.funnel import charts as funnel_charts
from opslib.present.growth import charts as growth_charts


def plot_steps(diagnosis: FunnelDiagnosis) -> ChartView | ListView:
    """The share of those who entered that got to each step; the step that moved is not outlined."""
    view = funnel_charts.plot_steps(diagnosis)
    if isinstance(view, ListView):
        return view
    drawn: Any = view.chart
    chart = drawn.copy()
    chart.layer = [layer for layer in chart.layer if getattr(layer.mark, "filled", None) is not False]
    return _retitle(replace(view, chart=chart), say("Share of those who entered, by step"), say("Bars by step."))


def plot_split(diagnosis: FunnelDiagnosis) -> ChartView | ListView:
    """What each step did to the change of the whole."""
    view = funnel_charts.plot_split(diagnosis)
    return _retitle(view, say("The change of the whole, by step"), say("Points with 95% intervals by step."))


def plot_tier_moves(model: GrowthModel) -> ChartView | ListView:
    """The share of each tier that moves to each other."""
    view = growth_charts.plot_tier_moves(model)
    return _retitle(view, say("Where users of each tier are a week later"))


def _retitle(view: ChartView | ListView, title: str, text: str = "") -> ChartView | ListView:
    if isinstance(view, ListView):
        return view
    text = text or view.alt
    chart: Any = view.chart
    described = chart.properties(title=title, description=say("{title}. {text}", title=title, text=text))
    return replace(view, chart=described, title=title, alt=text)

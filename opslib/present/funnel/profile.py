"""Who stops before the explained step, against those who go on."""

from __future__ import annotations

from opslib.decide.funnel.diagnosis import FunnelDiagnosis
from opslib.language import mark, say
from opslib.present.display import ChartView, ListView, TableView
from opslib.present.parts import cut_name, say_missing
from opslib.present.portraits import list_traits, view_portrait

SECTION = mark("Who stops there")
NEEDED = mark("it needs users or events with attributes, such as platform or channel, of at most 100 values")


def plot_profile(diagnosis: FunnelDiagnosis) -> ChartView | ListView:
    """Traits of those who stop before the explained step: their share against that of those who go on."""
    result = diagnosis.profile
    if result is None:
        return say_missing(diagnosis, SECTION, say(NEEDED))
    reason = result.note or say(
        "those who stop before {step} differ in nothing beyond chance", step=cut_name(diagnosis.step_names[1])
    )
    return view_portrait(result, rest=say("Those who went on")) or say_missing(diagnosis, SECTION, reason)


def show_profile(diagnosis: FunnelDiagnosis) -> TableView | ListView:
    """How those who stop before the explained step differ from those who go on, with counts and intervals."""
    result = diagnosis.profile
    if result is None:
        return say_missing(diagnosis, SECTION, say(NEEDED))
    table = list_traits(result, group=say("Stopped"), rest=say("Went on"), name="funnel-profile")
    return table or say_missing(diagnosis, SECTION, result.note or say("nothing could be compared"))

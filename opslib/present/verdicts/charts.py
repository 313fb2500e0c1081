"""The charts of verdicts: effects with intervals side by side, and one initiative against what was to be expected."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt
import pandas as pd

from opslib.decide.verdicts.verdict import VERDICT_NAMES, Verdict
from opslib.language import say
from opslib.measure.counterfactual.result import CounterfactualResult
from opslib.present import theme
from opslib.present.charts import base_chart, view_chart
from opslib.present.display import ChartView, ListView
from opslib.present.parts import cut_name, draw_points, draw_zero, list_names, make_day_axis, make_legend, make_tooltips
from opslib.present.verdicts.words import DIRECTIONS, ROLES, STRENGTHS, name_look, name_look_first

ROW_HEIGHT = 26
COLORS = {"better": theme.GOOD_COLOR, "worse": theme.BAD_COLOR, "unclear": theme.UNCLEAR_COLOR}


def plot_effects(verdicts: Verdict | Sequence[Verdict]) -> ChartView | ListView:
    """Effects on the core metric of several initiatives, or on all metrics of one, as shares of the value without."""
    one = isinstance(verdicts, Verdict)
    several = [verdicts] if isinstance(verdicts, Verdict) else list(verdicts)
    rows = []
    for verdict in several:
        for look in verdict.looks if one else verdict.looks[:1]:
            base = None if look.without_it is None else look.without_it.value
            if not base or base <= 0 or look.effect is None or look.low is None or look.high is None:
                continue
            label = verdict.initiative.name
            if one:
                label = say("{look}: {metric}", look=say(ROLES[look.role]), metric=name_look(look.metric))
            rows.append(
                {
                    "label": label,
                    "effect_rate": look.effect / base,
                    "low_rate": look.low / base,
                    "high_rate": look.high / base,
                    "metric": name_look(look.metric),
                    "reading": say(DIRECTIONS[look.direction]),
                    "evidence": say(STRENGTHS[look.strength]),
                }
            )
    if not rows:
        return ListView([say("Effects: nothing to show, because none is known yet.")])
    frame = pd.DataFrame(rows)
    title = _name_verdict(several[0]) if one else _title(several)
    base_of = base_chart(frame, height=max(70, ROW_HEIGHT * len(frame))).encode(
        y=alt.Y("label:N", title=None, scale=list_names(frame["label"]), axis=alt.Axis(labelLimit=260, grid=True)),
        color=alt.Color(
            "reading:N",
            scale=alt.Scale(domain=[say(DIRECTIONS[d]) for d in COLORS], range=list(COLORS.values())),
            legend=make_legend("circle"),
        ),
        tooltip=make_tooltips(
            {
                "label:N": ("", ""),
                "metric:N": (say("Metric"), ""),
                "effect_rate:Q": (say("Effect"), "+.1%"),
                "low_rate:Q": (say("Low (95%)"), "+.1%"),
                "high_rate:Q": (say("High (95%)"), "+.1%"),
                "reading:N": (say("Reading"), ""),
                "evidence:N": (say("Evidence"), ""),
            }
        ),
    )
    across = say("Effect, as a share of the value without it")
    chart = draw_zero(frame.head(1)) + draw_points(
        base_of, "effect_rate", across, form="+.0%", low="low_rate", high="high_rate"
    )
    labels = {
        "label": say("Look") if one else say("Initiative"), "metric": say("Metric"), "effect_rate": say("Effect"),
        "low_rate": say("Low (95%)"), "high_rate": say("High (95%)"), "reading": say("Reading"),
        "evidence": say("Evidence"),
    }  # fmt: skip
    text = say("Effects with 95% intervals; the dashed line is no effect.")
    return view_chart(chart, title, text, frame, labels)


def plot_path(verdict: Verdict) -> ChartView | ListView:
    """An initiative's core metric by week, and as it would have been by the segments that it did not reach."""
    result = verdict.core.result
    if not isinstance(result, CounterfactualResult) or result.path.empty:
        return ListView(
            [say("By week: nothing to show, because it was not compared with segments that it did not reach.")]
        )
    sides = {"actual": say("As it was"), "expected": say("As was to be expected")}
    frame = result.path.melt(["start_at", "after"], list(sides), var_name="side", value_name="value")
    frame["side"] = frame["side"].map(sides)
    form = ".1%" if result.unit == "rate" else ",.1f"
    colors = [theme.NOW_COLOR, theme.BEFORE_COLOR]
    lines = (
        base_chart(frame)
        .mark_line(point=True)
        .encode(
            x=alt.X("start_at:T", title=None, axis=make_day_axis(frame["start_at"])),
            y=alt.Y("value:Q", title=name_look_first(result.metric), axis=alt.Axis(format=form)),
            color=alt.Color(
                "side:N", scale=alt.Scale(domain=list(sides.values()), range=colors), legend=make_legend("stroke")
            ),
            tooltip=make_tooltips(
                {"start_at:T": (say("Week from"), "%Y-%m-%d"), "side:N": ("", ""), "value:Q": (say("Value"), form)}
            ),
        )
    )
    begin = pd.DataFrame({"start_at": [pd.Timestamp(result.start)]})
    rule = alt.Chart(begin).mark_rule(color=theme.MUTED, strokeDash=[3, 3]).encode(x="start_at:T")
    labels = {"start_at": say("Week from"), "side": say("Side"), "value": say("Value")}
    text = say("Weeks before and after the start, which the dashed line marks.")
    return view_chart(rule + lines, _name_verdict(verdict), text, frame, labels)


def _name_verdict(verdict: Verdict) -> str:
    name = say(VERDICT_NAMES[verdict.verdict])
    return say("{initiative}: {verdict}", initiative=cut_name(verdict.initiative.name), verdict=name)


def _title(verdicts: Sequence[Verdict]) -> str:
    worked = sum(v.verdict == "effective" for v in verdicts)
    return say("{worked} of {count} initiatives effective", worked=worked, count=len(verdicts))

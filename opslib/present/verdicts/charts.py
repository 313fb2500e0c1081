"""The charts of verdicts: effects with intervals side by side, and one initiative against what was to be expected."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt
import pandas as pd

from opslib.decide.verdicts.verdict import Verdict
from opslib.measure.counterfactual.result import CounterfactualResult
from opslib.present import theme
from opslib.present.charts import base_chart, view_chart
from opslib.present.display import ChartView, ListView
from opslib.present.parts import cut_name, draw_points, draw_zero, list_names, make_day_axis, make_legend, make_tooltips
from opslib.present.verdicts.words import DIRECTIONS, ROLES, STRENGTHS, name_look

ROW_HEIGHT = 26
COLORS = {"better": theme.GOOD_COLOR, "worse": theme.BAD_COLOR, "not clear": theme.UNCLEAR_COLOR}


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
            label = (
                f"{ROLES[look.role].removesuffix('s')}: {name_look(look.metric)}" if one else verdict.initiative.name
            )
            rows.append(
                {
                    "label": label,
                    "effect_rate": look.effect / base,
                    "low_rate": look.low / base,
                    "high_rate": look.high / base,
                    "metric": name_look(look.metric),
                    "reading": DIRECTIONS[look.direction],
                    "evidence": STRENGTHS[look.strength],
                }
            )
    if not rows:
        return ListView(["Effects: nothing to show, because none is known yet."])
    frame = pd.DataFrame(rows)
    title = f"{cut_name(several[0].initiative.name)}: {several[0].verdict}" if one else _title(several)
    base_of = base_chart(frame, height=max(70, ROW_HEIGHT * len(frame))).encode(
        y=alt.Y("label:N", title=None, scale=list_names(frame["label"]), axis=alt.Axis(labelLimit=260, grid=True)),
        color=alt.Color(
            "reading:N",
            scale=alt.Scale(domain=list(COLORS), range=list(COLORS.values())),
            legend=make_legend("circle"),
        ),
        tooltip=make_tooltips(
            {
                "label:N": ("", ""),
                "metric:N": ("Metric", ""),
                "effect_rate:Q": ("Effect", "+.1%"),
                "low_rate:Q": ("Low (95%)", "+.1%"),
                "high_rate:Q": ("High (95%)", "+.1%"),
                "reading:N": ("Reading", ""),
                "evidence:N": ("Evidence", ""),
            }
        ),
    )
    across = "Effect, as a share of the value without it"
    chart = draw_zero(frame.head(1)) + draw_points(
        base_of, "effect_rate", across, form="+.0%", low="low_rate", high="high_rate"
    )
    labels = {
        "label": "Initiative" if not one else "Look", "metric": "Metric", "effect_rate": "Effect",
        "low_rate": "Low (95%)", "high_rate": "High (95%)", "reading": "Reading", "evidence": "Evidence",
    }  # fmt: skip
    return view_chart(chart, title, "Effects with 95% intervals; the dashed line is no effect.", frame, labels)


def plot_path(verdict: Verdict) -> ChartView | ListView:
    """An initiative's core metric by week, and as it would have been by the segments that it did not reach."""
    result = verdict.core.result
    if not isinstance(result, CounterfactualResult) or result.path.empty:
        return ListView(["By week: nothing to show, because it was not compared with segments that it did not reach."])
    sides = {"actual": "As it was", "expected": "As was to be expected"}
    frame = result.path.melt(["start_at", "after"], list(sides), var_name="side", value_name="value")
    frame["side"] = frame["side"].map(sides)
    form = ".1%" if result.unit == "rate" else ",.1f"
    colors = [theme.NOW_COLOR, theme.BEFORE_COLOR]
    lines = (
        base_chart(frame)
        .mark_line(point=True)
        .encode(
            x=alt.X("start_at:T", title=None, axis=make_day_axis(frame["start_at"])),
            y=alt.Y("value:Q", title=name_look(result.metric).capitalize(), axis=alt.Axis(format=form)),
            color=alt.Color(
                "side:N", scale=alt.Scale(domain=list(sides.values()), range=colors), legend=make_legend("stroke")
            ),
            tooltip=make_tooltips(
                {"start_at:T": ("Week from", "%Y-%m-%d"), "side:N": ("", ""), "value:Q": ("Value", form)}
            ),
        )
    )
    begin = pd.DataFrame({"start_at": [pd.Timestamp(result.start)]})
    rule = alt.Chart(begin).mark_rule(color=theme.MUTED, strokeDash=[3, 3]).encode(x="start_at:T")
    title = f"{cut_name(verdict.initiative.name)}: {verdict.verdict}"
    labels = {"start_at": "Week from", "side": "Side", "value": "Value"}
    return view_chart(
        rule + lines, title, "Weeks before and after the start, which the dashed line marks.", frame, labels
    )


def _title(verdicts: Sequence[Verdict]) -> str:
    worked = sum(v.verdict == "effective" for v in verdicts)
    return f"{worked} of {len(verdicts)} initiatives effective"

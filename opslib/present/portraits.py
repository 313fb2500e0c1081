"""A portrait: how one group of users differs from the rest, as a chart and as a table."""

from __future__ import annotations

import altair as alt
import pandas as pd

from opslib.explain.portrait import PortraitResult
from opslib.language import say
from opslib.present import theme
from opslib.present.charts import base_chart, view_chart
from opslib.present.display import ChartView, TableView
from opslib.present.parts import cut_name, format_probability, format_range, list_names, make_legend, make_tooltips
from opslib.present.tables import make_table
from opslib.present.words import format_number, name_column, name_value

MOST_TRAITS = 12
LONGEST_NAME = 40
# Both names and two shares fit into a title.
LONGEST_TRAIT = 32


def view_portrait(result: PortraitResult, *, rest: str = "") -> ChartView | None:
    """Traits of the group described that are beyond chance: its share against that of the rest; None without any.

    Args:
        result: the group and the rest; its `segment` follows "users" in the title.
        rest: what the rest is called, in the language spoken.
    """
    traits = result.traits[result.traits["kind"] == "share"].head(MOST_TRAITS)
    if traits.empty:
        return None
    traits = traits.reset_index(drop=True)
    traits["trait"] = [name_trait(a, v) for a, v in zip(traits["attribute"], traits["value"], strict=True)]
    counts = ["segment_count", "segment_users_count", "rest_count", "rest_users_count"]
    traits = traits.merge(result.shares[["attribute", "value", *counts]], on=["attribute", "value"], how="left")
    sides = {result.segment[:LONGEST_NAME]: "segment", rest or say("The rest"): "rest"}
    columns = {"value": "share", "count": "with_count", "users_count": "users_count"}
    parts = [
        traits[["trait", *(f"{name}_{c}" for c in columns)]].set_axis(["trait", *columns.values()], axis=1)
        for name in sides.values()
    ]
    frame = pd.concat([p.assign(side=side) for side, p in zip(sides, parts, strict=True)], ignore_index=True)
    frame["share"] = frame["share"].astype(float)
    top = traits.iloc[0]
    title = say(
        "{trait}: {share:.0%} of users {segment}, {rest:.0%} of the others",
        trait=cut_name(top["trait"], LONGEST_TRAIT), share=top["segment_value"],
        segment=cut_name(result.segment, LONGEST_TRAIT), rest=top["rest_value"],
    )  # fmt: skip
    order = list(dict.fromkeys(traits["trait"]))
    y = alt.Y("trait:N", title=None, scale=list_names(order), axis=alt.Axis(labelLimit=260, grid=True))
    links = base_chart(traits, height=max(60, 26 * len(order))).mark_rule(color=theme.BEFORE_COLOR, strokeWidth=3)
    links = links.encode(y=y, x="segment_value:Q", x2="rest_value:Q")
    labels = {
        "side": say("Users"), "trait": say("Trait"), "share": say("Share"), "with_count": say("Users with it"),
        "users_count": say("Of users"),
    }  # fmt: skip
    points = alt.Chart(frame).mark_point(filled=True, size=90, opacity=1).encode(
        y=y,
        x=alt.X("share:Q", title=say("Share of users"), axis=alt.Axis(format=".0%", labelFlush=False, tickCount=7)),
        color=alt.Color(
            "side:N",
            scale=alt.Scale(domain=list(sides), range=[theme.NOW_COLOR, theme.REST_COLOR]),
            legend=make_legend("circle"),
        ),
        shape=alt.Shape("side:N", scale=alt.Scale(domain=list(sides), range=["circle", "diamond"])),
        tooltip=make_tooltips(
            {
                "trait:N": (labels["trait"], ""), "side:N": (labels["side"], ""), "share:Q": (labels["share"], ".1%"),
                "with_count:Q": (labels["with_count"], ","), "users_count:Q": (labels["users_count"], ","),
            }
        ),
    )  # fmt: skip
    text = say("Pairs of points by trait: the group and the rest.")
    return view_chart(links + points, title, text, frame, labels)


def name_trait(attribute: str, value: str) -> str:
    """A trait as people say it.

    >>> name_trait("city_tier", "2")
    'city tier: 2'
    """
    return say("{column}: {value}", column=name_column(attribute), value=name_value(value))


def list_traits(result: PortraitResult, *, group: str, rest: str, name: str) -> TableView | None:
    """The largest differences, each with counts and interval, and whether it is beyond chance; None without any."""
    rows = []
    for row in result.shares.to_dict("records"):
        counts = (
            (row[f"{side}_rate"], row[f"{side}_count"], row[f"{side}_users_count"]) for side in ("segment", "rest")
        )
        inside, outside = (
            say("{rate} ({count:,} of {total:,})", rate=format_number(r, "rate"), count=n, total=m)
            for r, n, m in counts
        )
        ends = (row["difference_rate"], row["difference_low"], row["difference_high"])
        rows.append(
            {
                "trait": name_trait(row["attribute"], row["value"]),
                "group": inside,
                "rest": outside,
                "difference": say("{range} points", range=format_range(*ends, form="+.1f", scale=100)),
                "size": abs(row["effect_h"]),
                "q_value": row["q_value"],
            }
        )
    for row in result.numbers.to_dict("records"):
        ends = (row["difference_mean"], row["difference_low"], row["difference_high"])
        rows.append(
            {
                "trait": say("{column}, mean", column=name_column(row["attribute"])),
                "group": _format_mean(row["segment_mean"], row["segment_users_count"]),
                "rest": _format_mean(row["rest_mean"], row["rest_users_count"]),
                "difference": format_range(*ends, form="+,.2f"),
                "size": abs(row["effect_d"]),
                "q_value": row["q_value"],
            }
        )
    if not rows:
        return None
    frame = pd.DataFrame(rows).sort_values(["size", "trait"], ascending=[False, True]).head(MOST_TRAITS)
    frame["clear"] = [say("yes") if q <= result.level else say("no") for q in frame["q_value"]]
    frame["noise"] = [format_probability(q) for q in frame["q_value"]]
    labels = {
        "trait": say("Trait"), "group": say("{name} ({count:,})", name=group, count=result.segment_count),
        "rest": say("{name} ({count:,})", name=rest, count=result.rest_count), "difference": say("Difference [95%]"),
        "clear": say("Beyond chance"), "noise": say("False alarm rate"),
    }  # fmt: skip
    note = say(
        "Largest differences first, of {count} compared. Beyond chance: with all of these looked at, at most "
        "{level:.0%} of those marked yes are false alarms. A difference is no reason.",
        count=len(rows), level=result.level,
    )  # fmt: skip
    numeric = ("group", "rest", "difference", "noise")
    return make_table(frame, labels, name=name, numeric=numeric, unbroken=("group", "rest", "difference"), note=note)


def _format_mean(mean: float, count: int) -> str:
    return say("{mean:,.2f} (of {count:,})", mean=mean, count=count)

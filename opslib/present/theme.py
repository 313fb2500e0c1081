"""One look for every chart: fonts that hold Chinese, colours that everybody can tell apart, lines that print.

Colours are named here and nowhere else. The eight colours of marks stand out from white by 3 to 1 or more (WCAG 2.2,
1.4.11), and any two of them differ by at least 15 in CIE Lab, also as people see them who lack one kind of cone
(Machado, Oliveira and Fernandes 2009); `tests/present/test_theme.py` holds them to it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

FONT = "Inter, 'Segoe UI', Helvetica, Arial, 'Noto Sans CJK SC', 'Microsoft YaHei', 'PingFang SC', sans-serif"
INK = "#1f2933"
MUTED = "#616e7c"
GRID = "#e4e7eb"

BLUE, ORANGE, GREEN, RED, PURPLE, SKY, PLUM, GREY = (
    "#0072b2",
    "#bb8c0d",
    "#00994d",
    "#a5360c",
    "#8a3667",
    "#0c99eb",
    "#521267",
    "#8a959c",
)
# In the order in which a company's channels, or other groups, get theirs.
GROUP_COLORS = (BLUE, ORANGE, GREEN, RED, PURPLE, SKY, PLUM)
# From little to much, behind numbers in INK.
SHADES = ("#f2f7fb", "#6baed6")

NOW_COLOR, BEFORE_COLOR, TARGET_COLOR = BLUE, GREY, RED
# What stands out, and what it is held against.
MARKED_COLOR, REST_COLOR = RED, GREY
OBSERVED_COLOR, EXPECTED_COLOR = INK, BLUE
GOOD_COLOR, WARNING_COLOR, BAD_COLOR, UNCLEAR_COLOR = GREEN, ORANGE, RED, MUTED

STATE_COLORS = {"Stayed": GREY, "New": BLUE, "Came back": GREEN, "Left": RED}
TIER_COLORS = {
    "new": BLUE,
    "current": GREY,
    "resurrected": GREEN,
    "potential": SKY,
    "at_risk": ORANGE,
    "dormant": RED,
    "churned": PLUM,
}
# How likely a customer is still there.
ALIVE_COLORS = {"likely": BLUE, "uncertain": ORANGE, "gone": RED, "unknown": GREY}
# Users active on the day, in 7 and in 30 days.
WINDOW_COLORS = {"day": BLUE, "week": ORANGE, "month": GREEN}
# Soon to late.
HORIZON_COLORS = (SKY, BLUE, INK)

WIDTH, HEIGHT = 640, 240


def color_groups(names: Iterable[str]) -> dict[str, str]:
    """Give each of a company's groups, such as its channels, the colour that it has in every chart.

    Args:
        names: all of them in their fixed order (`opslib.present.parts.list_groups`), never only those of one chart.

    Returns:
        Name -> colour; grey from the eighth on, which a label must then tell apart.

    >>> color_groups(["search", "social"])
    {'search': '#0072b2', 'social': '#bb8c0d'}
    """
    order = list(dict.fromkeys(names))
    return {name: GROUP_COLORS[i] if i < len(GROUP_COLORS) else GREY for i, name in enumerate(order)}


def theme_config() -> dict[str, Any]:
    """The Vega-Lite configuration shared by all charts."""
    text = {
        "labelColor": MUTED,
        "titleColor": MUTED,
        "labelFontSize": 12,
        "titleFontSize": 12,
        "titleFontWeight": "normal",
    }
    return {
        "font": FONT,
        "background": "white",
        "view": {"stroke": None},
        "title": {
            "anchor": "start",
            "color": INK,
            "fontSize": 14,
            "fontWeight": 600,
            "offset": 12,
            "limit": 620,
        },
        "axis": {**text, "gridColor": GRID, "domainColor": GRID, "tickColor": GRID, "labelLimit": 200},
        "legend": {**text, "orient": "top", "title": None, "symbolType": "square", "labelLimit": 260},
        "line": {"strokeWidth": 2},
    }

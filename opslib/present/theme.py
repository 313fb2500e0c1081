"""One look for every chart: fonts that hold Chinese, colours that everybody can tell apart, lines that print."""

from __future__ import annotations

from typing import Any

FONT = "Inter, 'Segoe UI', Helvetica, Arial, 'Noto Sans CJK SC', 'Microsoft YaHei', 'PingFang SC', sans-serif"
INK = "#1f2933"
MUTED = "#616e7c"
GRID = "#e4e7eb"

# Okabe and Ito (2008), safe for colour-blind readers. A state or period has the same colour in every notebook.
BLUE, ORANGE, GREEN, RED, PURPLE, SKY, GREY = (
    "#0072b2",
    "#e69f00",
    "#009e73",
    "#d55e00",
    "#cc79a7",
    "#56b4e9",
    "#8d99a6",
)

STATE_COLORS = {"Stayed": GREY, "New": BLUE, "Came back": GREEN, "Left": RED}
NOW_COLOR, BEFORE_COLOR, TARGET_COLOR = BLUE, "#9aa5b1", RED

WIDTH, HEIGHT = 640, 240


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

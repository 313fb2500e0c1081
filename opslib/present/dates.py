"""Dates on the axes and in the tooltips of charts, in the language spoken now."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from opslib.language import get_language, mark, say

# As d3 reads them; every format with words or an order of its own that some chart has.
FORMATS = frozenset((mark("%-d %b %Y"), mark("%-d %b %H:%M"), mark("%-d %b"), mark("%b %Y")))

# What formats without a translation take names from, such as the axes of an analyst's own charts.
CALENDARS = {
    "zh": {
        "dateTime": "%Y年%-m月%-d日 %H:%M:%S",
        "date": "%Y-%m-%d",
        "time": "%H:%M:%S",
        "periods": ["上午", "下午"],
        "days": ["星期日", "星期一", "星期二", "星期三", "星期四", "星期五", "星期六"],
        "shortDays": ["周日", "周一", "周二", "周三", "周四", "周五", "周六"],
        "months": ["1月", "2月", "3月", "4月", "5月", "6月", "7月", "8月", "9月", "10月", "11月", "12月"],
        "shortMonths": ["1月", "2月", "3月", "4月", "5月", "6月", "7月", "8月", "9月", "10月", "11月", "12月"],
    }
}


def speak_dates(spec: Mapping[str, Any]) -> Mapping[str, Any]:
    """Give a Vega-Lite specification its dates in the language spoken now; in English it is the same object.

    >>> from opslib.language import speak
    >>> with speak("zh"):
    ...     speak_dates({"encoding": {"x": {"axis": {"format": "%b %Y"}}}})["encoding"]
    {'x': {'axis': {'format': '%Y年%-m月'}}}
    """
    if get_language() not in CALENDARS:
        return spec
    spoken = _speak(spec)
    # A locale in the specification itself holds wherever it is drawn: in pictures, pages and JupyterLab.
    spoken["config"] = {**spoken.get("config", {}), "locale": {"time": CALENDARS[get_language()]}}
    return spoken


def _speak(part: Any) -> Any:
    if isinstance(part, Mapping):
        return {
            key: say(value) if key == "format" and value in FORMATS else value if key == "datasets" else _speak(value)
            for key, value in part.items()
        }
    return [_speak(value) for value in part] if isinstance(part, list) else part

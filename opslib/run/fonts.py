"""Whether this machine can draw Chinese in pictures: they hold the glyphs of the fonts that it has.

Pages and JupyterLab use the reader's own fonts; only PNG pictures, as in committed notebooks and mails, use those of
the machine that makes them.
"""

from __future__ import annotations

import unicodedata
from functools import lru_cache
from typing import Any

from opslib.language import mark, say

ADVICE = mark(
    "Some labels are Chinese, Japanese or Korean, and this machine has no font for them: pictures would show empty "
    "boxes. Install one, such as Debian's fonts-noto-cjk, and run again. Pages in a browser are not affected."
)
# No font has a glyph for it: it is reserved never to be a character.
UNASSIGNED = "\U0003fffd"


def say_missing_font(text: str) -> str:
    """Say what to install where a text needs a font that this machine lacks; empty where all is well.

    >>> say_missing_font("Retention, 12.3%")
    ''
    """
    needs = any(unicodedata.east_asian_width(c) in "WF" for c in text)
    return say(ADVICE) if needs and not can_draw_chinese() else ""


@lru_cache(maxsize=1)
def can_draw_chinese() -> bool:
    """Tell whether two Chinese characters come out as different pictures, and neither as a missing glyph."""
    return len({draw_character(c) for c in ("留", "存", UNASSIGNED)}) == 3


def draw_character(character: str, family: str = "sans-serif") -> bytes:
    """Draw one character as PNG, in the fonts that charts find on this machine."""
    import vl_convert

    text: dict[str, Any] = {"text": {"value": character}, "font": {"value": family}, "fontSize": {"value": 40}}
    place = {"x": {"value": 10}, "y": {"value": 45}, "fill": {"value": "black"}}
    spec = {
        "$schema": "https://vega.github.io/schema/vega/v6.json", "width": 60, "height": 60,
        "marks": [{"type": "text", "encode": {"enter": text | place}}],
    }  # fmt: skip
    return bytes(vl_convert.vega_to_png(spec, scale=1.0))

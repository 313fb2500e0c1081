"""Chinese in pictures: real glyphs where there is a font, one clear sentence where there is none."""

from __future__ import annotations

import io

import altair as alt
import numpy as np
import pandas as pd
import pytest
import vl_convert
from PIL import Image

from opslib.present.charts import base_chart, view_chart
from opslib.run import fonts

needs_font = pytest.mark.skipif(not fonts.can_draw_chinese(), reason="no font for Chinese (Debian: fonts-noto-cjk)")


def draw_chart(label: str) -> np.ndarray:
    """A chart whose title, axes and values are the label, as its PNG's pixels."""
    frame = pd.DataFrame({"name": [label], "value_count": [1]})
    base = base_chart(frame).mark_bar().encode(x=alt.X("value_count:Q", title=label), y=alt.Y("name:N", title=label))
    view = view_chart(base, label, f"{label}.", frame, {"name": label, "value_count": label})
    png = vl_convert.vegalite_to_png(view.chart.to_dict(), scale=1.0)
    return np.asarray(Image.open(io.BytesIO(png)).convert("L")).astype(int)


@needs_font
def test_a_chart_draws_chinese_glyphs_and_no_boxes() -> None:
    one, other, missing = (draw_chart(c * 4) for c in ("留", "存", fonts.UNASSIGNED))
    assert one.shape == other.shape
    assert np.abs(one - other).sum() > 1000
    assert one.shape != missing.shape or np.abs(one - missing).sum() > 1000


@needs_font
def test_nothing_is_said_where_there_is_a_font() -> None:
    assert fonts.say_missing_font("渠道：抖音") == ""


def test_a_machine_without_a_font_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fonts, "draw_character", lambda character: b"the same box")
    fonts.can_draw_chinese.cache_clear()
    try:
        assert "fonts-noto-cjk" in fonts.say_missing_font("渠道")
        assert fonts.say_missing_font("Channel") == ""
    finally:
        fonts.can_draw_chinese.cache_clear()
